//! Sync items are put in another order: the first that has a user gives the settings (FS-08).

use super::door::Sent;
use super::draft::{Change, Draft, Finding, Step, step};
use super::items::{BACK, PAUSE, answered, applied, known};
use super::pages::{escaped, show};
use crate::api::Problem;
use crate::app::App;
use axum::extract::{Path, State};
use axum::response::Response;
use domain::settings::Settings;
use http::StatusCode;
use std::sync::Arc;

pub(super) fn address(name: &str) -> String {
    format!("/console/sync/items/{}/move", escaped(name))
}

/// One place up or down.
pub(super) async fn shift(State(app): State<Arc<App>>, Path(name): Path<String>, sent: Sent) -> Response {
    answered(&app, shifted(&app, &sent, &name).await, &sent)
}

async fn shifted(app: &App, sent: &Sent, name: &str) -> Result<Response, Problem> {
    let settings = Draft::open(app).await?.settings;
    let directory = known(&settings, name)?.directory.to_string();
    let up = sent.text("direction") == "up";
    let change = Change {
        title: format!("Move the sync item {name} {}?", if up { "up" } else { "down" }),
        address: address(name),
        back: BACK,
        form: false,
        notes: vec![PAUSE.to_owned()],
        secrets: Vec::new(),
    };
    match step(app, sent, change, |settings| swap(settings, name, up)).await? {
        Step::Again(findings) => {
            let sentences = findings.iter().map(Finding::sentence).collect();
            Err(Problem::rules("the order is refused; nothing was changed", sentences))
        }
        Step::Look(page) => Ok(show(StatusCode::OK, &*page)),
        Step::Applied(reply) => Ok(applied(app, sent, "The order is changed", reply.changes, &directory)),
    }
}

/// The first one up, and the last one down, stay.
fn swap(settings: &mut Settings, name: &str, up: bool) -> Result<(), Vec<Finding>> {
    let items = &mut settings.sync_items;
    let Some(place) = items.iter().position(|item| item.name.as_str() == name) else {
        return Err(vec![Finding::new("", format!("there is no sync item {name:?}"))]);
    };
    let other = if up { place.saturating_sub(1) } else { (place + 1).min(items.len() - 1) };
    items.swap(place, other);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_moves_by_one_place_and_not_beyond_the_ends() {
        // FS-08
        let item = |name: &str| {
            format!("[[sync_item]]\nname = \"{name}\"\ndirectory = \"corp\"\nsource = {{ kind = \"domain\" }}\n")
        };
        let document: String = ["a", "b", "c"].map(item).concat();
        let after = |name: &str, up: bool| {
            let mut settings: Settings = toml::from_str(&document).expect("settings");
            swap(&mut settings, name, up).expect("it is there");
            settings.sync_items.iter().map(|item| item.name.as_str().to_owned()).collect::<String>()
        };
        assert_eq!(after("b", true), "bac");
        assert_eq!(after("b", false), "acb");
        assert_eq!(after("a", true), "abc");
        assert_eq!(after("c", false), "abc");
    }
}
