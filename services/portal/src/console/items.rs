//! Sync items are made and edited; what would change is looked at before (FS-20 to FS-35).

use super::browse::{self, Chosen};
use super::door::{Administrator, Sent};
use super::draft::{Change, Draft, Finding, Step, step};
use super::form::{Choice, Entry, Form, Part, Shape};
use super::item_form;
use super::pages::{self, Frame, ItemApplied, ItemPage, escaped, show};
use crate::api::Problem;
use crate::app::App;
use axum::extract::{Path, State};
use axum::response::Response;
use domain::ObjectName;
use domain::settings::{Settings, SyncItem};
use http::StatusCode;
use serde_json::json;
use std::sync::Arc;

const NEW: &str = "/console/sync/items/new";
pub(super) const BACK: &str = "/console/sync";
/// Where a new item is put that goes before no other.
const LAST: &str = "";

pub(super) fn edit_address(name: &str) -> String {
    format!("/console/sync/items/{}/edit", escaped(name))
}

pub(super) async fn new_page(State(app): State<Arc<App>>, by: Administrator) -> Response {
    match opened(&app, &by, None).await {
        Ok(page) => show(StatusCode::OK, &page),
        Err(problem) => pages::refused(&app, Some(&by), &problem),
    }
}

pub(super) async fn edit_page(State(app): State<Arc<App>>, by: Administrator, Path(name): Path<String>) -> Response {
    match opened(&app, &by, Some(&name)).await {
        Ok(page) => show(StatusCode::OK, &page),
        Err(problem) => pages::refused(&app, Some(&by), &problem),
    }
}

async fn opened(app: &App, by: &Administrator, name: Option<&str>) -> Result<ItemPage, Problem> {
    let draft = Draft::open(app).await?;
    let revision = draft.revision().to_string();
    let item = match name {
        Some(name) => known(&draft.settings, name)?.clone(),
        None => empty(&draft.settings)?,
    };
    Ok(filled(app, by, name, form(&draft.settings, &item, name), revision))
}

pub(super) async fn create(State(app): State<Arc<App>>, sent: Sent) -> Response {
    answered(&app, save(&app, &sent, None).await, &sent)
}

pub(super) async fn edit(State(app): State<Arc<App>>, Path(name): Path<String>, sent: Sent) -> Response {
    answered(&app, save(&app, &sent, Some(&name)).await, &sent)
}

pub(super) fn answered(app: &App, answer: Result<Response, Problem>, sent: &Sent) -> Response {
    answer.unwrap_or_else(|problem| pages::refused(app, Some(&sent.by), &problem))
}

/// Of a new item (`None`), or of the one of this name.
async fn save(app: &App, sent: &Sent, name: Option<&str>) -> Result<Response, Problem> {
    let settings = Draft::open(app).await?.settings;
    match browse::asked(sent) {
        Some(browse::Asked::Open(open)) => {
            let page = browse::page(app, sent, address(name), open).await?;
            return Ok(show(StatusCode::OK, &page));
        }
        Some(browse::Asked::Chosen(chosen)) => return again(app, sent, name, &settings, Some(chosen), Vec::new()),
        None => {}
    }
    let change = Change {
        title: title_of_look(sent, name),
        address: address(name),
        back: BACK,
        form: true,
        notes: vec![PAUSE.to_owned()],
        secrets: Vec::new(),
    };
    let taken = step(app, sent, change, |settings| put(settings, sent, name)).await?;
    match taken {
        Step::Again(findings) => again(app, sent, name, &settings, None, findings),
        Step::Look(page) => Ok(show(StatusCode::OK, &*page)),
        Step::Applied(reply) => {
            let title = if name.is_some() { "The sync item is changed" } else { "The sync item is made" };
            Ok(applied(app, sent, title, reply.changes, sent.text("directory")))
        }
    }
}

/// FS-09
pub(super) const PAUSE: &str = "No run of its directory begins by itself then, until somebody has asked for one: \
                                \"Synchronise now\" shows what it would do.";

fn title_of_look(sent: &Sent, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("Change the sync item {name}?"),
        None => format!("Make the sync item {}?", sent.text("name")),
    }
}

fn address(name: Option<&str>) -> String {
    name.map_or_else(|| NEW.to_owned(), edit_address)
}

/// The item of the form, where it belongs.
fn put(settings: &mut Settings, sent: &Sent, name: Option<&str>) -> Result<(), Vec<Finding>> {
    let now = match name {
        Some(name) => known(settings, name).cloned().map_err(whole)?,
        None => SyncItem { name: new_name(settings, sent)?, ..empty(settings).map_err(whole)? },
    };
    let (item, findings) = item_form::read(sent, now);
    if !findings.is_empty() {
        return Err(findings);
    }
    let items = &mut settings.sync_items;
    match items.iter_mut().find(|known| known.name == item.name) {
        Some(known) => *known = item,
        None => {
            let before = items.iter().position(|it| it.name.as_str() == sent.text("before"));
            items.insert(before.unwrap_or(items.len()), item);
        }
    }
    Ok(())
}

fn new_name(settings: &Settings, sent: &Sent) -> Result<ObjectName, Vec<Finding>> {
    let at_name = |text: String| vec![Finding::new(format!("sync_item.{}.name", sent.text("name")), text)];
    let name = ObjectName::new(sent.text("name")).map_err(|error| at_name(error.to_string()))?;
    match settings.sync_items.iter().any(|item| item.name == name) {
        true => Err(at_name(format!("there is a sync item {name} already"))),
        false => Ok(name),
    }
}

fn whole(problem: Problem) -> Vec<Finding> {
    problem.sentences().into_iter().map(|text| Finding::new("", text)).collect()
}

/// The form once more, as it was typed.
fn again(
    app: &App,
    sent: &Sent,
    name: Option<&str>,
    settings: &Settings,
    chosen: Option<Chosen>,
    findings: Vec<Finding>,
) -> Result<Response, Problem> {
    let item = match name {
        Some(name) => known(settings, name)?.clone(),
        None => empty(settings)?,
    };
    let mut form = form(settings, &item, name);
    form.retype(sent);
    if let Some(chosen) = chosen {
        form.set("source.kind", chosen.kind);
        form.set("source.dn", &chosen.distinguished_name);
        form.set("source.id", "");
    }
    let prefix = format!("sync_item.{}.", name.unwrap_or(sent.text("name")));
    form.finds(&prefix, findings);
    let status = form.status();
    Ok(show(status, &filled(app, &sent.by, name, form, sent.text("revision").to_owned())))
}

fn filled(app: &App, by: &Administrator, name: Option<&str>, form: Form, revision: String) -> ItemPage {
    let title = name.map_or_else(|| "New sync item".to_owned(), |name| format!("Sync item {name}"));
    ItemPage { frame: Frame::of(app, by, title), address: address(name), back: BACK, revision, form }
}

/// Users hang on its name, so that it has the one it was made with.
fn form(settings: &Settings, item: &SyncItem, name: Option<&str>) -> Form {
    let mut form = item_form::form(settings, item);
    if name.is_none() {
        form.parts.insert(0, Part { title: "Name and place", entries: named(settings) });
    }
    form
}

fn named(settings: &Settings) -> Vec<Entry> {
    let mut places = vec![Choice::new(LAST, "After all others")];
    places.extend(settings.sync_items.iter().map(|it| Choice::new(it.name.as_str(), format!("Before {}", it.name))));
    vec![
        Entry::new("name", "Name", Shape::line(""), "1 to 64 of a-z 0-9 . _ -; it cannot be changed later."),
        Entry::new(
            "before",
            "Place",
            Shape::Choice { value: LAST.to_owned(), options: places },
            "The first item that has a user gives the settings: whatever stands after an item with everybody has nobody.",
        ),
    ]
}

/// As an item is that says nothing of itself.
fn empty(settings: &Settings) -> Result<SyncItem, Problem> {
    let directory = settings.directories.first();
    let directory = directory.ok_or_else(|| Problem::not_found("the settings have no directory; make one first"))?;
    let item = json!({ "name": directory.name, "directory": directory.name, "source": { "kind": "domain" } });
    Ok(serde_json::from_value(item).expect("every other key has a default"))
}

pub(super) fn known<'a>(settings: &'a Settings, name: &str) -> Result<&'a SyncItem, Problem> {
    let item = settings.sync_items.iter().find(|item| item.name.as_str() == name);
    item.ok_or_else(|| Problem::not_found(format!("there is no sync item {name:?}")))
}

/// What was done, and what has to be done now (FS-09).
pub(super) fn applied(app: &App, sent: &Sent, title: &'static str, changes: Vec<String>, directory: &str) -> Response {
    let frame = Frame::of(app, &sent.by, title);
    show(StatusCode::OK, &ItemApplied { frame, sentences: changes, directory: directory.to_owned() })
}
