//! Templates, and the pages that more than one handler shows. Askama escapes every value: names come from directories (V-85).

mod clients;

pub(super) use clients::{
    CheckerShown, ClientPage, ClientRow, ClientsPage, DirectoryChecks, Fact, NodeShown, OpenClient, ServerSeen,
    ServerShown, TargetsPage,
};

use super::door::Administrator;
use super::form::{Form, Shape};
use crate::api::{DirectoryTested, Owner, Problem};
use crate::app::App;
use askama::Template;
use axum::response::{Html, IntoResponse, Response};
use http::StatusCode;
use proto::user_store::{ApprovalUser, SyncChange, SyncRun};
use std::borrow::Cow;
use time::OffsetDateTime;

/// What every page shows.
pub(super) struct Frame {
    pub title: Cow<'static, str>,
    pub company: String,
    /// Who is signed in.
    pub who: Option<Who>,
    /// Carried by every form of the page.
    pub token: String,
}

pub(super) struct Who {
    pub key: String,
    pub role: &'static str,
    /// Which parts of the console they see.
    pub sync: bool,
    pub approvals: bool,
    pub import: bool,
    pub directories: bool,
    pub clients: bool,
}

impl Frame {
    pub fn new(app: &App, title: impl Into<Cow<'static, str>>) -> Self {
        let company = app.settings.current().map_or_else(String::new, |it| it.settings.portal.company.clone());
        Self { title: title.into(), company, who: None, token: String::new() }
    }

    pub fn of(app: &App, by: &Administrator, title: impl Into<Cow<'static, str>>) -> Self {
        let sees = |path| by.may(&http::Method::GET, path);
        let who = Who {
            key: by.caller.key.clone(),
            role: by.caller.role.code(),
            sync: sees("/console/sync"),
            approvals: sees("/console/approvals"),
            import: sees("/console/import"),
            directories: sees("/console/directories"),
            clients: sees("/console/clients"),
        };
        Self { who: Some(who), token: by.live.form_token().to_owned(), ..Self::new(app, title) }
    }
}

#[derive(Template)]
#[template(path = "console/sign_in.html")]
pub(super) struct SignIn {
    pub frame: Frame,
    pub failure: Option<&'static str>,
    pub next: String,
}

#[derive(Template)]
#[template(path = "console/message.html")]
pub(super) struct Message {
    pub frame: Frame,
    pub sentences: Vec<String>,
    pub bad: bool,
    pub way_on: String,
    pub label: &'static str,
}

#[derive(Template)]
#[template(path = "console/overview.html")]
pub(super) struct Overview {
    pub frame: Frame,
    pub waiting: Vec<List>,
    /// Directories whose runs do not begin by themselves, and why.
    pub paused: Vec<(String, String)>,
    /// Of each directory, the last run, if it was not well.
    pub failed: Vec<RunShown>,
    /// Clients that let people or packets through.
    pub open: Vec<OpenClient>,
    /// `danger_` keys of the settings that are in use, and what each means.
    pub dangers: Vec<(String, String)>,
    /// Somebody who may not see synchronisation sees none of its parts.
    pub sees: bool,
}

/// Users of a directory that wait for a decision.
pub(super) struct List {
    pub id: String,
    pub directory: String,
    pub users: u64,
    /// Why they wait; empty = it is not known.
    pub why: String,
    pub created: String,
    pub expires: String,
}

#[derive(Template)]
#[template(path = "console/sync.html")]
pub(super) struct Sync {
    pub frame: Frame,
    pub leader: String,
    pub sources: Vec<SourceShown>,
    pub items: Vec<ItemShown>,
    pub runs: Vec<RunShown>,
    pub may_change: bool,
    /// May they see whose a user of a directory would be?
    pub may_ask: bool,
    /// A directory that was tried just now, and what was found.
    pub probed: Option<Probed>,
}

pub(super) struct SourceShown {
    pub directory: String,
    pub base: String,
    pub feed: String,
    pub why: String,
    pub offers: Vec<String>,
    pub users: u64,
    pub last_full: String,
    pub last_complete: String,
    pub next: String,
    pub waits_for: String,
}

pub(super) struct ItemShown {
    pub name: String,
    pub directory: String,
    pub state: &'static str,
    pub source: &'static str,
    /// At the last run that counted them.
    pub users: Option<u64>,
    /// Where it is edited, moved and removed.
    pub editing: String,
    pub moving: String,
    pub removal: String,
    /// The next ones of its directory.
    pub above: Option<String>,
    pub below: Option<String>,
}

pub(super) struct Probed {
    pub directory: String,
    pub lines: Vec<(&'static str, String, String)>,
}

impl Probed {
    pub fn of(directory: &str, found: &DirectoryTested) -> Self {
        let lines = found.lines().map(|(about, verdict, text)| {
            let mark = match verdict {
                "good" => "ok",
                "bad" => "failed",
                _ => "note",
            };
            (mark, about.to_owned(), text.to_owned())
        });
        Self { directory: directory.to_owned(), lines: lines.collect() }
    }

    /// What is bad about this.
    pub fn bad(&self, about: &str) -> Vec<String> {
        let lines = self.lines.iter().filter(|(mark, of, _)| *mark == "failed" && of == about);
        lines.map(|(_, _, text)| text.clone()).collect()
    }

    /// Nothing keeps it from serving.
    pub fn is_good(&self) -> bool {
        self.lines.iter().all(|(mark, _, _)| *mark != "failed")
    }
}

pub(super) struct RunShown {
    pub run: SyncRun,
    pub started: String,
}

#[derive(Template)]
#[template(path = "console/wait.html")]
pub(super) struct Wait {
    pub frame: Frame,
    pub directory: String,
    pub here: String,
    pub preview: bool,
    pub state: Waiting,
}

/// How it stands with a run that was asked for.
#[derive(Clone, Copy)]
pub(super) enum Waiting {
    /// The page asks again by itself.
    On,
    /// It has begun, and the page asks no longer.
    Long,
    /// It should have begun, and the page asks no longer.
    NotBegun,
}

#[derive(Template)]
#[template(path = "console/run.html")]
pub(super) struct RunPage {
    pub frame: Frame,
    pub id: String,
    /// `None`: no longer among the last ones.
    pub run: Option<RunShown>,
    pub changes: Vec<SyncChange>,
    pub next: Option<u64>,
    /// What was asked for, where somebody waited for this run.
    pub asked: String,
    /// The first page of the changes.
    pub first: bool,
    pub offer: Offer,
}

/// What can be done about a run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    Nothing,
    /// It was asked to show, and showed.
    Write,
    /// It should have written, and another source kept it from it (S-44).
    Accept,
    /// Users wait.
    Approvals,
}

/// A form that changes the settings.
#[derive(Template)]
#[template(path = "console/form.html")]
pub(super) struct FormPage {
    pub frame: Frame,
    pub address: String,
    pub back: &'static str,
    pub revision: String,
    pub form: Form,
}

/// A container or group to be picked.
#[derive(Template)]
#[template(path = "console/browse.html")]
pub(super) struct Browse {
    pub frame: Frame,
    pub address: String,
    /// What was typed into the form, by field.
    pub typed: Vec<(String, String)>,
    pub looked: Looked,
    pub up: Option<String>,
    pub name_attribute: String,
    /// Name and DN.
    pub places: Vec<(String, String)>,
    pub more: bool,
    /// Other domains that could not be read, a sentence each (FD-02).
    pub unread: Vec<String>,
}

/// Sync items are others now.
#[derive(Template)]
#[template(path = "console/item_applied.html")]
pub(super) struct ItemApplied {
    pub frame: Frame,
    pub sentences: Vec<String>,
    pub directory: String,
}

#[derive(Template)]
#[template(path = "console/owner.html")]
pub(super) struct OwnerPage {
    pub frame: Frame,
    pub user: String,
    pub found: Option<Owner>,
    pub failure: Option<String>,
}

/// What would change in the settings.
#[derive(Template)]
#[template(path = "console/look.html")]
pub(super) struct Look {
    pub frame: Frame,
    pub address: String,
    pub back: &'static str,
    pub form: bool,
    /// What it would do to users can be looked at first.
    pub users: bool,
    pub revision: u64,
    pub changes: Vec<Changed>,
    /// Keys that become weaker: a reason has to be given.
    pub weaker: Vec<String>,
    pub reason: String,
    pub warnings: Vec<String>,
    pub notes: Vec<String>,
    pub failure: Option<&'static str>,
    /// What was typed, by field.
    pub typed: Vec<(String, String)>,
    pub secrets: Vec<SecretAsked>,
}

impl Look {
    fn weaker_said(&self) -> String {
        format!("Weaker than now: {}.", self.weaker.join(", "))
    }
}

/// A key of the settings, as it was and as it would be.
pub(super) struct Changed {
    pub what: String,
    pub key: String,
    pub was: String,
    pub is: String,
}

pub(super) struct SecretAsked {
    pub field: String,
    pub label: String,
}

#[derive(Template)]
#[template(path = "console/removal.html")]
pub(super) struct Removal {
    pub frame: Frame,
    pub name: String,
    pub address: String,
    pub directory: String,
    pub users: u64,
    pub heirs: Vec<(String, u64)>,
    pub leave: u64,
    pub failure: Option<String>,
}

#[derive(Template)]
#[template(path = "console/approvals.html")]
pub(super) struct Approvals {
    pub frame: Frame,
    pub lists: Vec<List>,
}

#[derive(Template)]
#[template(path = "console/approval.html")]
pub(super) struct ApprovalPage {
    pub frame: Frame,
    pub list: List,
    pub users: Vec<ApprovalUser>,
    /// Escaped, for the address of the next page.
    pub next: Option<String>,
    pub reason: String,
    pub failure: Option<String>,
}

#[derive(Template)]
#[template(path = "console/import.html")]
pub(super) struct Import {
    pub frame: Frame,
    pub failure: Option<String>,
    pub directories: Vec<String>,
    pub looked: Looked,
    /// Of containers or of groups: by which attributes they are called (FD-33).
    pub name_attribute: String,
    pub places: Vec<Linked>,
    pub places_more: bool,
    pub up: Option<Linked>,
    pub users: Vec<Candidate>,
    pub users_next: Option<String>,
    pub users_total: u32,
    pub users_more: bool,
    /// Other domains that could not be read, a sentence each (FD-02).
    pub unread: Vec<String>,
    /// Items of the kind users, of this directory.
    pub items: Vec<String>,
}

/// What is looked at.
#[derive(Clone, Default)]
pub(super) struct Looked {
    pub directory: String,
    pub groups: bool,
    pub below: String,
    pub group: String,
    pub search: String,
    pub find: String,
}

pub(super) struct Linked {
    pub name: String,
    pub distinguished_name: String,
    pub href: String,
}

/// Somebody of the directory.
pub(super) struct Candidate {
    pub id: String,
    pub username: String,
    pub name: String,
    pub mail: String,
    pub distinguished_name: String,
    /// Who is known here: of which item, in which state.
    pub known: Option<String>,
}

#[derive(Template)]
#[template(path = "console/imported.html")]
pub(super) struct Imported {
    pub frame: Frame,
    pub directory: String,
    pub item: String,
    pub imported: usize,
    pub known: usize,
    pub listed: usize,
    pub users: Vec<(String, &'static str)>,
    pub warnings: Vec<String>,
    pub wait: String,
}

#[derive(Template)]
#[template(path = "console/users.html")]
pub(super) struct Users {
    pub frame: Frame,
    pub search: String,
    pub state: String,
    pub user_group: String,
    pub users: Vec<UserShown>,
    pub next: Option<String>,
    pub may_create: bool,
    pub created: Option<String>,
}

pub(super) struct UserShown {
    pub username: String,
    pub name: String,
    pub mail: String,
    pub state: String,
    /// Of synchronisation; empty = none.
    pub problem: String,
    pub user_group: String,
    /// Everybody with this label.
    pub label_href: String,
    pub directory: String,
    pub methods: u32,
    pub last_success: String,
}

#[derive(Template)]
#[template(path = "console/user_new.html")]
pub(super) struct NewUserPage {
    pub frame: Frame,
    pub failure: Option<String>,
    pub fields: [Field; 6],
}

pub(super) struct Field {
    pub name: &'static str,
    pub label: &'static str,
    pub help: &'static str,
    pub value: String,
}

#[derive(Template)]
#[template(path = "console/directories.html")]
pub(super) struct DirectoriesPage {
    pub frame: Frame,
    pub directories: Vec<DirectoryShown>,
}

pub(super) struct DirectoryShown {
    pub name: String,
    pub kind: &'static str,
    pub servers: Vec<String>,
    pub base: String,
    /// Of so many sync items and clients.
    pub items: usize,
    pub clients: usize,
    /// Of its pages.
    pub address: String,
    /// The first one: everybody signs in to the portal by it (FD-01).
    pub is_the_portals: bool,
}

#[derive(Template)]
#[template(path = "console/directory.html")]
pub(super) struct DirectoryPage {
    pub frame: Frame,
    pub address: String,
    pub back: &'static str,
    /// Of one that is saved: where its attributes are named.
    pub mapping: Option<String>,
    pub revision: String,
    /// Whose fields and defaults are shown.
    pub shown_preset: String,
    pub notice: Option<&'static str>,
    pub form: Form,
    /// Whom it is tried with.
    pub try_user: String,
    pub probed: Option<Probed>,
}

#[derive(Template)]
#[template(path = "console/mapping.html")]
pub(super) struct MappingPage {
    pub frame: Frame,
    pub address: String,
    pub back: &'static str,
    pub revision: String,
    pub form: Form,
    /// Attributes to pick.
    pub names: Vec<String>,
    /// The directory could be asked.
    pub known: bool,
    /// Attributes that its schema lacks.
    pub warned: Vec<String>,
    /// Whom it is tried with.
    pub try_user: String,
    pub probed: Option<Probed>,
}

#[derive(Template)]
#[template(path = "console/directory_saved.html")]
pub(super) struct SavedPage {
    pub frame: Frame,
    pub note: Option<&'static str>,
    pub probed: Option<Probed>,
    pub failure: Option<String>,
    /// Of its pages.
    pub address: String,
}

#[derive(Template)]
#[template(path = "console/directory_removal.html")]
pub(super) struct DirectoryRemoval {
    pub frame: Frame,
    pub name: String,
    pub address: String,
    pub back: &'static str,
    /// What it cannot be removed for: what names it, and what else is wrong.
    pub used_by: Vec<String>,
    pub refusals: Vec<String>,
    /// What becomes of the portal, whose directory it is.
    pub portal: Option<String>,
    pub failure: Option<&'static str>,
}

pub(super) fn show(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => (status, Html(html)).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// What keeps a page from being shown.
pub(super) fn refused(app: &App, by: Option<&Administrator>, problem: &Problem) -> Response {
    let frame = match by {
        Some(by) => Frame::of(app, by, "This cannot be shown"),
        None => Frame::new(app, "This cannot be shown"),
    };
    let sentences = problem.sentences();
    let page = Message { frame, sentences, bad: true, way_on: "/console".into(), label: "To the overview" };
    show(problem.status_code(), &page)
}

/// What there is instead of a console that is not open.
pub(super) fn closed(app: &App) -> Response {
    let sentences = vec![
        "The console is closed. Commands do the same, such as twinlock sync approvals.".to_owned(),
        "Whoever runs Twinlock opens it with portal.console = true in its configuration.".to_owned(),
    ];
    let frame = Frame::new(app, "The console is closed");
    let page = Message { frame, sentences, bad: true, way_on: "/".into(), label: "To the portal" };
    show(StatusCode::NOT_FOUND, &page)
}

/// A form that is not taken.
pub(super) fn expired(app: &App, by: Option<&Administrator>) -> Response {
    let title = "This page is no longer valid";
    let frame = by.map_or_else(|| Frame::new(app, title), |by| Frame::of(app, by, title));
    let sentences = vec!["It was open for too long, or came from somewhere else. Nothing was changed.".to_owned()];
    let page = Message { frame, sentences, bad: true, way_on: "/console".into(), label: "To the overview" };
    show(StatusCode::FORBIDDEN, &page)
}

/// A form of more octets than any has.
pub(super) fn too_long(app: &App, by: &Administrator) -> Response {
    let frame = Frame::of(app, by, "This form is too long");
    let sentences = vec![
        "More than 1 MiB was typed, and nothing was changed. Go back, and shorten it: certificates, as a rule."
            .to_owned(),
    ];
    let page = Message { frame, sentences, bad: true, way_on: "/console".into(), label: "To the overview" };
    show(StatusCode::PAYLOAD_TOO_LARGE, &page)
}

/// `20 November 2026, 16:45 UTC`; `never` for 0.
pub(super) fn time(unix_ms: i64) -> String {
    match OffsetDateTime::from_unix_timestamp(unix_ms / 1000).ok().filter(|_| unix_ms > 0) {
        Some(at) => crate::texts::LANGUAGES[0].time(at),
        None => "never".to_owned(),
    }
}

/// For a query of an address (RFC 3986 section 2.3).
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(char::from(octet)),
            octet => escaped.push_str(&format!("%{octet:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_an_address_cannot_end_it() {
        assert_eq!(escaped("ou=a&b,dc=x #ü"), "ou%3Da%26b%2Cdc%3Dx%20%23%C3%BC");
        assert_eq!(time(0), "never");
        assert_eq!(time(1_795_193_102_000), "20 November 2026, 16:45 UTC");
    }
}
