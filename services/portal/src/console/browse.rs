//! A container or group is picked for a sync item, with what was typed kept in the form (FS-21).

use super::door::Sent;
use super::import::{parent, places};
use super::pages::{Browse, Frame, Looked};
use crate::api::Problem;
use crate::app::App;

/// Fields of the page itself.
const OWN: [&str; 7] = ["step", "open", "choose", "find", "show", "groups", "at"];

/// What somebody wants of it.
pub(super) enum Asked {
    Open(Open),
    Chosen(Chosen),
}

/// A place that is looked into.
pub(super) struct Open {
    directory: String,
    groups: bool,
    below: String,
    find: String,
}

/// What was picked.
pub(super) struct Chosen {
    /// As the settings write it.
    pub kind: &'static str,
    pub distinguished_name: String,
}

/// `None`: the form was not sent from here, nor to come here.
pub(super) fn asked(sent: &Sent) -> Option<Asked> {
    let groups = match (sent.text("show"), sent.text("groups")) {
        ("", "") => sent.text("source.kind") == "group",
        ("", groups) => groups == "yes",
        (show, _) => show == "groups",
    };
    let open = |below: &str, find: &str| {
        let directory = sent.text("directory").to_owned();
        Some(Asked::Open(Open { directory, groups, below: below.to_owned(), find: find.to_owned() }))
    };
    match (sent.text("choose"), sent.text("open"), sent.text("step")) {
        ("", "", "browse") => open(sent.text("at"), sent.text("find")),
        ("", "", _) if !sent.text("show").is_empty() => open("", ""),
        ("", "", _) => None,
        ("", below, _) => open(below, ""),
        (chosen, _, _) => {
            let kind = if groups { "group" } else { "container" };
            Some(Asked::Chosen(Chosen { kind, distinguished_name: chosen.to_owned() }))
        }
    }
}

pub(super) async fn page(app: &App, sent: &Sent, address: String, open: Open) -> Result<Browse, Problem> {
    let looked = Looked {
        directory: open.directory,
        groups: open.groups,
        below: open.below,
        find: open.find,
        ..Looked::default()
    };
    let found = places(app, &looked).await?;
    let up = parent(&looked.below).filter(|above| above.len() >= found.base.len()).map(str::to_owned);
    let kind = if looked.groups { "group" } else { "container" };
    Ok(Browse {
        frame: Frame::of(app, &sent.by, format!("Pick a {kind} of {}", looked.directory)),
        address,
        typed: sent.typed(&OWN),
        up,
        looked,
        name_attribute: found.name_attribute,
        more: found.more,
        unread: found.unread,
        places: found.places.into_iter().map(|it| (it.name, it.distinguished_name)).collect(),
    })
}
