//! Sync items are made and edited; what would change is looked at before (FS-20 to FS-35).

use super::browse::{self, Chosen};
use super::door::{Administrator, Sent};
use super::draft::{Change, Draft, Finding, Step, step};
use super::form::{Choice, Entry, Form, Part, Shape};
use super::item_form;
use super::pages::{self, FormPage, Frame, ItemApplied, escaped, show};
use super::runs::{ask_for, preview_of};
use crate::api::{Problem, exported};
use crate::app::App;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use domain::ObjectName;
use domain::settings::{Settings, SyncItem};
use http::StatusCode;
use proto::user_store::RequestSyncRequest;
use serde::Deserialize;
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

async fn opened(app: &App, by: &Administrator, name: Option<&str>) -> Result<FormPage, Problem> {
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
            return match browse::page(app, sent, address(name), open).await {
                Ok(page) => Ok(show(StatusCode::OK, &page)),
                Err(problem) => again(app, sent, name, &settings, None, not_browsed(name, sent, &problem)),
            };
        }
        Some(browse::Asked::Chosen(chosen)) => return again(app, sent, name, &settings, Some(chosen), Vec::new()),
        None => {}
    }
    if sent.text("step") == "users" {
        return tried(app, sent, name, &settings).await;
    }
    let edit = |settings: &mut Settings| put(settings, sent, name);
    let change = Change {
        title: title_of_look(sent, name),
        address: address(name),
        back: BACK,
        form: true,
        users: true,
        notes: pauses(&settings, edit),
        secrets: Vec::new(),
    };
    match step(app, sent, change, edit).await? {
        Step::Again(findings) => again(app, sent, name, &settings, None, findings),
        Step::Look(page) => Ok(show(StatusCode::OK, &*page)),
        Step::Applied => Ok(match name {
            Some(name) => saved(name, Saved::Changed),
            None => saved(sent.text("name"), Saved::Made),
        }),
    }
}

/// FS-12: what the items with the one of the form would do to users. Nothing is applied.
async fn tried(app: &App, sent: &Sent, name: Option<&str>, settings: &Settings) -> Result<Response, Problem> {
    let mut drafted = settings.clone();
    if let Err(findings) = put(&mut drafted, sent, name) {
        return again(app, sent, name, settings, None, findings);
    }
    let directory = known(&drafted, name.unwrap_or(sent.text("name")))?.directory.clone();
    let items = drafted.sync_items.iter().filter(|item| item.directory == directory);
    let request = RequestSyncRequest {
        draft_items: items.filter_map(|item| serde_json::to_string(item).ok()).collect(),
        ..preview_of(&sent.by.caller, directory.as_str())
    };
    Ok(Redirect::to(&ask_for(app, request).await?).into_response())
}

/// FS-09: of which directories no run begins by itself then.
pub(super) fn pauses(before: &Settings, edit: impl Fn(&mut Settings) -> Result<(), Vec<Finding>>) -> Vec<String> {
    let mut after = before.clone();
    if edit(&mut after).is_err() {
        return Vec::new();
    }
    let names = before.directories.iter().map(|directory| directory.name.as_str());
    let others = names.filter(|name| before.items_digest(name) != after.items_digest(name));
    others
        .map(|name| {
            format!(
                "No run of {name} begins by itself then, until somebody has asked for one: \"Synchronise now\" shows what it would do."
            )
        })
        .collect()
}

fn title_of_look(sent: &Sent, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("Change the sync item {name}?"),
        None => format!("Make the sync item {}?", sent.text("name")),
    }
}

fn address(name: Option<&str>) -> String {
    name.map_or_else(|| NEW.to_owned(), edit_address)
}

fn not_browsed(name: Option<&str>, sent: &Sent, problem: &Problem) -> Vec<Finding> {
    let key = format!("sync_item.{}.source.dn", name.unwrap_or(sent.text("name")));
    problem.sentences().into_iter().map(|text| Finding::new(&key, text)).collect()
}

/// The item of the form, where it belongs.
fn put(settings: &mut Settings, sent: &Sent, name: Option<&str>) -> Result<(), Vec<Finding>> {
    let now = match name {
        Some(name) => known(settings, name).cloned().map_err(whole)?,
        None => SyncItem { name: new_name(sent)?, ..empty(settings).map_err(whole)? },
    };
    let (item, findings) = item_form::read(sent, now);
    if !findings.is_empty() {
        return Err(findings);
    }
    let items = &mut settings.sync_items;
    if let Some(there) = items.iter().find(|known| name.is_none() && known.name == item.name) {
        // Who presses twice has made it already.
        let made = sent.text("step") == "apply" && *there == item;
        let taken = || at_name(sent, format!("there is a sync item {} already", item.name));
        return if made { Ok(()) } else { Err(taken()) };
    }
    match items.iter_mut().find(|known| known.name == item.name) {
        Some(known) => *known = item,
        None => {
            let before = items.iter().position(|it| it.name.as_str() == sent.text("before"));
            items.insert(before.unwrap_or(items.len()), item);
        }
    }
    Ok(())
}

fn at_name(sent: &Sent, text: String) -> Vec<Finding> {
    vec![Finding::new(format!("sync_item.{}.name", sent.text("name")), text)]
}

fn new_name(sent: &Sent) -> Result<ObjectName, Vec<Finding>> {
    ObjectName::new(sent.text("name")).map_err(|error| at_name(sent, error.to_string()))
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

fn filled(app: &App, by: &Administrator, name: Option<&str>, form: Form, revision: String) -> FormPage {
    let title = name.map_or_else(|| "New sync item".to_owned(), |name| format!("Sync item {name}"));
    FormPage { frame: Frame::of(app, by, title), address: address(name), back: BACK, revision, form }
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

/// What was done with an item.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Saved {
    Made,
    Changed,
    Moved,
}

impl Saved {
    fn code(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Changed => "changed",
            Self::Moved => "moved",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Made => "The sync item is made",
            Self::Changed => "The sync item is changed",
            Self::Moved => "The order is changed",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Done {
    what: Saved,
}

/// To the page that says so.
pub(super) fn saved(name: &str, what: Saved) -> Response {
    Redirect::to(&format!("/console/sync/items/{}/saved?what={}", escaped(name), what.code())).into_response()
}

/// What was done, and what has to be done now (FS-09).
pub(super) async fn saved_page(
    State(app): State<Arc<App>>,
    by: Administrator,
    Path(name): Path<String>,
    Query(done): Query<Done>,
) -> Response {
    let shown = async {
        let settings = exported(&app).await?;
        let directory = known(&settings, &name)?.directory.to_string();
        let frame = Frame::of(&app, &by, done.what.title());
        let sentences = vec!["It is in force.".to_owned()];
        Ok(show(StatusCode::OK, &ItemApplied { frame, sentences, directory }))
    };
    shown.await.unwrap_or_else(|problem: Problem| pages::refused(&app, Some(&by), &problem))
}
