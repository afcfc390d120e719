//! People of a directory are looked through by container, by group and by search, chosen, and imported (FS-16).

use super::door::{Administrator, Sent};
use super::pages::{self, Candidate, Frame, Import, Imported, Linked, Looked, escaped, show};
use super::runs::{ask_for, preview_of};
use crate::api::{Body, NewSelection, Problem, known_users, select};
use crate::app::{App, within};
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use domain::settings::{Settings, SourceKind};
use http::StatusCode;
use proto::directory::find_places_request::Kind;
use proto::directory::{FindPlacesReply, FindPlacesRequest, FindUsersReply, FindUsersRequest, Place};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// People on one page.
const PAGE: u32 = 200;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Wanted {
    directory: String,
    /// containers or groups
    show: String,
    /// The container that is open.
    below: String,
    /// The group that is open.
    group: String,
    /// Part of a person's name.
    search: String,
    /// Part of what a container or a group is called.
    find: String,
    after: String,
}

pub(super) async fn page(State(app): State<Arc<App>>, by: Administrator, Query(wanted): Query<Wanted>) -> Response {
    match found(&app, &by, wanted, None).await {
        Ok(page) => show(StatusCode::OK, &page),
        Err(problem) => pages::refused(&app, Some(&by), &problem),
    }
}

/// The search forms, whose fields become the address of a page.
pub(super) async fn look(sent: Sent) -> Response {
    let looked = looked(&sent);
    Redirect::to(&address(&looked, "")).into_response()
}

fn looked(sent: &Sent) -> Looked {
    let text = |name: &str| sent.text(name).to_owned();
    one_place(Looked {
        directory: text("directory"),
        groups: sent.text("show") == "groups",
        below: text("below"),
        group: text("group"),
        search: text("search"),
        find: text("find"),
    })
}

/// Members of a group are listed, or people are searched, in a container or everywhere: whoever searches leaves the group.
fn one_place(looked: Looked) -> Looked {
    match (looked.search.is_empty(), looked.group.is_empty()) {
        (false, _) => Looked { group: String::new(), ..looked },
        (true, false) => Looked { below: String::new(), ..looked },
        (true, true) => looked,
    }
}

pub(super) fn address(looked: &Looked, after: &str) -> String {
    let show = if looked.groups { "groups" } else { "containers" };
    let mut address = format!("/console/import?directory={}&show={show}", escaped(&looked.directory));
    let more = [
        ("below", looked.below.as_str()),
        ("group", &looked.group),
        ("search", &looked.search),
        ("find", &looked.find),
        ("after", after),
    ];
    for (name, value) in more.into_iter().filter(|(_, value)| !value.is_empty()) {
        address.push_str(&format!("&{name}={}", escaped(value)));
    }
    address
}

async fn found(app: &App, by: &Administrator, wanted: Wanted, failure: Option<String>) -> Result<Import, Problem> {
    let snapshot = app.settings.fresh().await?;
    let settings = &snapshot.settings;
    let directories: Vec<String> = settings.directories.iter().map(|directory| directory.name.to_string()).collect();
    let directory = match wanted.directory.as_str() {
        "" => directories.first().cloned().ok_or_else(|| Problem::not_found("the settings have no directory"))?,
        named => named.to_owned(),
    };
    let base = match settings.directory(&directory) {
        Some(known) => known.base.clone(),
        None => return Err(Problem::not_found("there is no such directory")),
    };
    let looked = one_place(Looked {
        groups: wanted.show == "groups",
        below: wanted.below,
        group: wanted.group,
        search: wanted.search,
        find: wanted.find,
        directory,
    });
    let places = places(app, &looked).await?;
    let users = users(app, &looked, &wanted.after).await?;
    let object_ids = users.users.iter().map(|user| user.object_id.clone()).collect();
    let mut known = known_users(app, &looked.directory, object_ids).await?;
    let candidates = users.users.into_iter().map(|user| Candidate {
        known: known.remove(&user.object_id).map(|known| match known.sync_item.as_str() {
            "" => known.state,
            item => format!("{}, of {item}", known.state),
        }),
        id: user.object_id,
        username: user.username,
        name: format!("{} {}", user.first_name, user.last_name).trim().to_owned(),
        mail: user.mail,
        distinguished_name: user.distinguished_name,
    });
    Ok(Import {
        frame: Frame::of(app, by, "Import from a directory"),
        failure,
        directories,
        up: up(&looked, &base),
        name_attribute: places.name_attribute,
        places: places.places.into_iter().map(|place| linked(&looked, place)).collect(),
        places_more: places.more,
        users: candidates.collect(),
        users_next: Some(users.next).filter(|next| !next.is_empty()).map(|next| address(&looked, &next)),
        users_total: users.total,
        users_more: users.more,
        unread: each_once(places.unread, users.unread),
        items: items(settings, &looked.directory),
        looked,
    })
}

fn each_once(places: Vec<String>, users: Vec<String>) -> Vec<String> {
    BTreeSet::from_iter(places.into_iter().chain(users)).into_iter().collect()
}

/// Those that can name users.
fn items(settings: &Settings, directory: &str) -> Vec<String> {
    let items = settings.sync_items.iter();
    let items = items.filter(|item| item.source.kind == SourceKind::Users && item.directory.as_str() == directory);
    items.map(|item| item.name.to_string()).collect()
}

pub(super) async fn places(app: &App, looked: &Looked) -> Result<FindPlacesReply, Problem> {
    let kind = if looked.groups { Kind::Groups } else { Kind::Containers };
    let request = FindPlacesRequest {
        directory: looked.directory.clone(),
        kind: kind.into(),
        // Groups are looked for everywhere.
        below: if looked.groups { String::new() } else { looked.below.clone() },
        search: looked.find.clone(),
    };
    Ok(within(crate::api::DIRECTORY_LIMIT, request, |request| app.deps.directories.find_places(request)).await?)
}

/// Nobody, until a place is open or somebody is looked for: a directory may hold all the world.
async fn users(app: &App, looked: &Looked, after: &str) -> Result<FindUsersReply, Problem> {
    if [&looked.below, &looked.group, &looked.search].into_iter().all(|text| text.is_empty()) {
        return Ok(FindUsersReply::default());
    }
    let request = FindUsersRequest {
        directory: looked.directory.clone(),
        search: looked.search.clone(),
        below: looked.below.clone(),
        group: looked.group.clone(),
        after: after.to_owned(),
        limit: PAGE,
        ..FindUsersRequest::default()
    };
    Ok(within(crate::api::DIRECTORY_LIMIT, request, |request| app.deps.directories.find_users(request)).await?)
}

fn linked(looked: &Looked, place: Place) -> Linked {
    let open = match looked.groups {
        true => Looked { group: place.distinguished_name.clone(), below: String::new(), ..looked.clone() },
        false => Looked { below: place.distinguished_name.clone(), group: String::new(), ..looked.clone() },
    };
    let open = Looked { search: String::new(), find: String::new(), ..open };
    Linked { href: address(&open, ""), name: place.name, distinguished_name: place.distinguished_name }
}

/// The container above the open one, as far as the base.
fn up(looked: &Looked, base: &str) -> Option<Linked> {
    let above = parent(&looked.below).filter(|_| !looked.groups)?;
    let above = if above.len() <= base.len() { "" } else { above };
    let open = Looked { below: above.to_owned(), search: String::new(), find: String::new(), ..looked.clone() };
    Some(Linked { href: address(&open, ""), name: "Up".to_owned(), distinguished_name: above.to_owned() })
}

/// What follows the first comma that is not part of a value (RFC 4514 section 2.4).
pub(super) fn parent(distinguished_name: &str) -> Option<&str> {
    let mut escaped = false;
    for (place, sign) in distinguished_name.char_indices() {
        match sign {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => return distinguished_name.get(place + 1..),
            _ => {}
        }
    }
    None
}

pub(super) async fn import(State(app): State<Arc<App>>, sent: Sent) -> Response {
    let looked = looked(&sent);
    let names = sent.all("user");
    let everybody = sent.text("whom") == "everybody";
    let new = NewSelection {
        directory: looked.directory.clone(),
        sync_item: sent.text("into").to_owned(),
        names: if everybody { Vec::new() } else { names.clone() },
        search: if everybody { looked.search.clone() } else { String::new() },
        below: if everybody { looked.below.clone() } else { String::new() },
        group: if everybody { looked.group.clone() } else { String::new() },
        update: sent.text("update") == "yes",
        reason: sent.text("reason").to_owned(),
        // Asked for below, with a place to wait for it.
        run: false,
        ..NewSelection::default()
    };
    let chosen = match (everybody, names.is_empty()) {
        (false, true) => Err(Problem::rule("Nobody is chosen: choose people of the list.")),
        _ => select(State(app.clone()), sent.by.caller.clone(), Body(new)).await,
    };
    let selected = match chosen {
        Ok(selected) => selected.0,
        Err(problem) => {
            let failure = Some(problem.sentences().join(" "));
            let wanted = Wanted {
                directory: looked.directory,
                show: if looked.groups { "groups".into() } else { "containers".into() },
                below: looked.below,
                group: looked.group,
                search: looked.search,
                find: looked.find,
                after: String::new(),
            };
            return match found(&app, &sent.by, wanted, failure).await {
                Ok(page) => show(problem.status_code(), &page),
                Err(problem) => pages::refused(&app, Some(&sent.by), &problem),
            };
        }
    };
    let wait = match selected.imported {
        0 => Ok(String::new()),
        // The item is another one now, so that what would change is looked at first (FS-09).
        _ => ask_for(&app, preview_of(&sent.by.caller, &looked.directory)).await,
    };
    let wait = match wait {
        Ok(wait) => wait,
        Err(problem) => return pages::refused(&app, Some(&sent.by), &problem),
    };
    let page = Imported {
        frame: Frame::of(&app, &sent.by, "Imported"),
        directory: looked.directory,
        item: sent.text("into").to_owned(),
        imported: selected.imported,
        known: selected.known,
        listed: selected.listed,
        users: selected.users.into_iter().map(|user| (user.username, user.verdict)).collect(),
        warnings: selected.warnings,
        wait,
    };
    show(StatusCode::OK, &page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_goes_up_as_far_as_the_base() {
        // FS-16
        let at = |below: &str| {
            let looked = Looked { below: below.into(), directory: "corp".into(), ..Looked::default() };
            up(&looked, "dc=corp,dc=example").map(|up| up.distinguished_name)
        };
        assert_eq!(at("ou=north,ou=people,dc=corp,dc=example").as_deref(), Some("ou=people,dc=corp,dc=example"));
        assert_eq!(at("ou=people,dc=corp,dc=example").as_deref(), Some(""));
        assert_eq!(at(r"ou=a\,b,ou=people,dc=corp,dc=example").as_deref(), Some("ou=people,dc=corp,dc=example"));
        assert_eq!(at(""), None);
    }
}
