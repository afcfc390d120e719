//! Sync items are put in another order: the first that has a user gives the settings (FS-08).

use super::door::Sent;
use super::draft::{Change, Draft, Finding, Step, step};
use super::items::{BACK, Saved, answered, known, pauses, saved};
use super::pages::{escaped, show};
use crate::api::Problem;
use crate::app::App;
use axum::extract::{Path, State};
use axum::response::Response;
use domain::settings::{Settings, SyncItem};
use http::StatusCode;
use std::sync::Arc;

pub(super) fn address(name: &str) -> String {
    format!("/console/sync/items/{}/move", escaped(name))
}

/// Before or behind another one: the place itself, so that whoever presses twice moves it once.
pub(super) async fn shift(State(app): State<Arc<App>>, Path(name): Path<String>, sent: Sent) -> Response {
    answered(&app, shifted(&app, &sent, &name).await, &sent)
}

async fn shifted(app: &App, sent: &Sent, name: &str) -> Result<Response, Problem> {
    let settings = Draft::open(app).await?.settings;
    known(&settings, name)?;
    let up = sent.text("direction") == "up";
    let edit = |settings: &mut Settings| put(settings, name, sent.text("past"), up);
    let change = Change {
        title: format!("Move the sync item {name} {}?", if up { "up" } else { "down" }),
        address: address(name),
        back: BACK,
        form: false,
        users: false,
        notes: pauses(&settings, edit),
        secrets: Vec::new(),
    };
    match step(app, sent, change, edit).await? {
        Step::Again(findings) => {
            let sentences = findings.iter().map(Finding::sentence).collect();
            Err(Problem::rules("the order is refused; nothing was changed", sentences))
        }
        Step::Look(page) => Ok(show(StatusCode::OK, &*page)),
        Step::Applied => Ok(saved(name, Saved::Moved)),
    }
}

/// The next item of the same directory, up or down: the others do not matter to it.
pub(super) fn next<'a>(items: &'a [SyncItem], item: &SyncItem, up: bool) -> Option<&'a SyncItem> {
    let place = items.iter().position(|it| it.name == item.name)?;
    let same = |it: &&SyncItem| it.directory == item.directory;
    match up {
        true => items[..place].iter().rfind(same),
        false => items[place + 1..].iter().find(same),
    }
}

/// The item before (`up`) or behind the item `past`; it stays where it stands there already.
fn put(settings: &mut Settings, name: &str, past: &str, up: bool) -> Result<(), Vec<Finding>> {
    let items = &mut settings.sync_items;
    let place = |name: &str| items.iter().position(|item| item.name.as_str() == name);
    let (Some(from), Some(to)) = (place(name), place(past)) else {
        return Err(vec![Finding::new(
            "",
            format!("there is no sync item {name:?}, or none {past:?} to move it past"),
        )]);
    };
    if (from > to) == up {
        let item = items.remove(from);
        items.insert(to, item);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_moves_past_another_one_once() {
        // FS-08
        let item = |name: &str| {
            format!("[[sync_item]]\nname = \"{name}\"\ndirectory = \"corp\"\nsource = {{ kind = \"domain\" }}\n")
        };
        let document: String = ["a", "b", "c"].map(item).concat();
        let after = |name: &str, up: bool, past: &str| {
            let mut settings: Settings = toml::from_str(&document).expect("settings");
            put(&mut settings, name, past, up).expect("both are there");
            settings.sync_items.iter().map(|item| item.name.as_str().to_owned()).collect::<String>()
        };
        assert_eq!(after("b", true, "a"), "bac");
        assert_eq!(after("b", false, "c"), "acb");
        assert_eq!(after("c", true, "a"), "cab");
        assert_eq!(after("a", true, "b"), "abc", "there already");
        assert_eq!(after("c", false, "b"), "abc");
        let mut settings: Settings = toml::from_str(&document).expect("settings");
        assert!(put(&mut settings, "b", "gone", true).is_err());
    }

    #[test]
    fn the_next_item_is_one_of_the_same_directory() {
        // FS-08
        let item = |name: &str, directory: &str| {
            format!("[[sync_item]]\nname = \"{name}\"\ndirectory = \"{directory}\"\nsource = {{ kind = \"domain\" }}\n")
        };
        let document = [item("a", "corp"), item("b", "other"), item("c", "corp")].concat();
        let items = toml::from_str::<Settings>(&document).expect("settings").sync_items;
        let beside = |place: usize, up| next(&items, &items[place], up).map(|it| it.name.as_str());
        assert_eq!((beside(2, true), beside(0, false)), (Some("a"), Some("c")));
        assert_eq!((beside(0, true), beside(1, true), beside(1, false)), (None, None, None));
    }
}
