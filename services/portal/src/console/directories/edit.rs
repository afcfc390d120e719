//! The form of a directory.

use super::fields::{blank, called, code_of, form_of, preset_of};
use super::form::{Texts, to_be_typed};
use super::keys::GROUPS;
use super::{
    LIST, Passwords, QUERY_PASSWORD, SYNC_PASSWORD, address, another_source, found, given, is_another_source, prefix,
    revision, saved, tried,
};
use crate::api::{Problem, exported};
use crate::app::App;
use crate::console::door::{Administrator, Sent};
use crate::console::draft::{Change, Finding, Given, Step, step};
use crate::console::form::{Entry, Form, Shape};
use crate::console::pages::{self, DirectoryPage, Frame, Probed, show};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use domain::ObjectName;
use domain::settings::{Directory, Preset, Settings};
use serde::Deserialize;
use std::sync::Arc;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::console) struct Wanted {
    #[serde(default)]
    preset: String,
}

/// A directory as it is typed.
struct Typed {
    /// Of a new one, as it was typed.
    name: String,
    before: Option<Directory>,
    texts: Texts,
    /// Whom it is tried with.
    try_user: String,
}

pub(in crate::console) async fn new(
    State(app): State<Arc<App>>,
    by: Administrator,
    Query(wanted): Query<Wanted>,
) -> Response {
    let mut texts = Texts::of(&blank(preset_of(&wanted.preset)), &GROUPS);
    texts.begin(preset_of(&wanted.preset));
    let typed = Typed { name: String::new(), before: None, texts, try_user: String::new() };
    match exported(&app).await {
        Ok(settings) => typed.page(&app, &by, revision(&settings), Vec::new()),
        Err(problem) => pages::refused(&app, Some(&by), &problem),
    }
}

pub(in crate::console) async fn page(
    State(app): State<Arc<App>>,
    by: Administrator,
    Path(name): Path<String>,
) -> Response {
    let shown = async {
        let settings = exported(&app).await?;
        let directory = found(&settings, &name)?;
        let texts = Texts::of(&directory, &GROUPS);
        let typed = Typed { name: name.clone(), before: Some(directory), texts, try_user: String::new() };
        Ok(typed.page(&app, &by, revision(&settings), Vec::new()))
    };
    shown.await.unwrap_or_else(|problem: Problem| pages::refused(&app, Some(&by), &problem))
}

pub(in crate::console) async fn create(State(app): State<Arc<App>>, sent: Sent) -> Response {
    let answered = answer(&app, &sent, sent.text("name").to_owned(), None).await;
    answered.unwrap_or_else(|problem| pages::refused(&app, Some(&sent.by), &problem))
}

pub(in crate::console) async fn change(State(app): State<Arc<App>>, Path(name): Path<String>, sent: Sent) -> Response {
    let answered = async {
        let before = found(&exported(&app).await?, &name)?;
        answer(&app, &sent, name, Some(before)).await
    };
    answered.await.unwrap_or_else(|problem| pages::refused(&app, Some(&sent.by), &problem))
}

async fn answer(app: &Arc<App>, sent: &Sent, name: String, before: Option<Directory>) -> Result<Response, Problem> {
    let mut typed =
        Typed { name, before, texts: Texts::sent(sent, &GROUPS), try_user: sent.text("try_user").to_owned() };
    let at = sent.text("revision").to_owned();
    let another_preset = typed.texts.get("preset") != sent.text("shown_preset");
    if another_preset || sent.text("step") == "preset" {
        if another_preset && typed.before.is_none() {
            typed.texts.begin(typed.preset());
        }
        let shown = Shown { notice: another_preset.then_some(ANOTHER_PRESET), ..Shown::default() };
        return Ok(typed.show(app, &sent.by, at, shown));
    }
    if sent.text("step") == "try" {
        return Ok(typed.tried(app, sent, at).await);
    }
    let edit = |settings: &mut Settings| typed.put(settings, sent);
    match step(app, sent, typed.change(), edit).await? {
        Step::Again(findings) => Ok(typed.page(app, &sent.by, at, findings)),
        Step::Look(look) => Ok(show(http::StatusCode::OK, &*look)),
        Step::Applied => {
            let directory = found(&exported(app).await?, &typed.name)?;
            let another = typed.before.as_ref().is_some_and(|before| is_another_source(before, &directory));
            Ok(saved(&typed.name, another))
        }
    }
}

/// With the preset, fields and what an empty one stands for are others.
const ANOTHER_PRESET: &str = "The preset is another one: check the fields, and type passwords again.";

/// What a page shows beside the form.
#[derive(Default)]
struct Shown {
    findings: Vec<Finding>,
    probed: Option<Probed>,
    notice: Option<&'static str>,
}

impl Texts {
    /// What such a directory begins with.
    fn begin(&mut self, preset: Preset) {
        self.set("trusted_domains", "");
        self.set("attribute_scope_queries", if preset == Preset::ActiveDirectory { "yes" } else { "" });
    }
}

impl Typed {
    fn preset(&self) -> Preset {
        preset_of(self.texts.get("preset"))
    }

    fn address(&self) -> String {
        match self.before {
            Some(_) => address(&self.name, "edit"),
            None => format!("{LIST}/new"),
        }
    }

    /// As it would stand in the settings; what is wrong, by its key there.
    fn directory(&self, name: &str, sent: &Sent) -> Result<Directory, Vec<Finding>> {
        let key = |finding: Finding| Finding::new(format!("{}{}", prefix(&self.name), finding.key), finding.text);
        let name = ObjectName::new(name).map_err(|error| Finding::new("name", error.to_string()));
        let before = self.before.clone().unwrap_or_else(|| blank(self.preset()));
        let read = self.texts.read(&before, &GROUPS);
        let (name, read) = match (name, read) {
            (Ok(name), Ok(read)) => (name, read),
            (name, read) => {
                let wrong = name.err().into_iter().chain(read.err().into_iter().flatten());
                return Err(wrong.map(key).collect());
            }
        };
        let next = Directory { name, ..read };
        let untyped = to_be_typed(&next, self.before.as_ref());
        let untyped = untyped.into_iter().filter(|it| sent.secret(&it.key).is_none());
        let wrong: Vec<Finding> = untyped.chain(self.account_of_nothing(sent)).map(key).collect();
        if wrong.is_empty() { Ok(next) } else { Err(wrong) }
    }

    /// An account of synchronisation that is typed, and not chosen.
    fn account_of_nothing(&self, sent: &Sent) -> Option<Finding> {
        let kept = self.before.iter().flat_map(|before| &before.sync_bind).map(|bind| bind.name.as_str());
        let name = self.texts.get("sync_bind.name");
        let typed = !name.is_empty() && !kept.into_iter().any(|kept| kept == name);
        let typed = typed || sent.secret(SYNC_PASSWORD).is_some();
        (typed && self.texts.get("sync_bind.kind").is_empty()).then(|| {
            Finding::new(
                "sync_bind.kind",
                "An account or a password is typed below: choose how it binds, or clear both.",
            )
        })
    }

    fn put(&self, settings: &mut Settings, sent: &Sent) -> Result<(), Vec<Finding>> {
        let next = self.directory(&self.name, sent)?;
        let known = settings.directories.iter().position(|it| it.name == next.name);
        match (known, &self.before) {
            // Who presses twice has made it already.
            (Some(place), None) if sent.text("step") == "apply" && settings.directories[place] == next => {}
            (Some(_), None) => {
                let key = format!("{}name", prefix(&self.name));
                return Err(vec![Finding::new(key, "another directory has this name")]);
            }
            (Some(place), Some(_)) => settings.directories[place] = next,
            (None, _) => settings.directories.push(next),
        }
        Ok(())
    }

    fn change(&self) -> Change {
        let what = format!("{} {}", called(self.preset()), self.name);
        let next = self.texts.read(self.before.as_ref().unwrap_or(&blank(self.preset())), &GROUPS);
        Change {
            title: format!("What would change: {what}"),
            address: self.address(),
            back: LIST,
            form: true,
            users: false,
            notes: next.map(|next| self.notes(&next)).unwrap_or_default(),
            secrets: self.secrets(),
        }
    }

    fn notes(&self, next: &Directory) -> Vec<String> {
        self.before.iter().filter_map(|before| another_source(before, next)).collect()
    }

    /// The passwords that the settings speak of.
    fn secrets(&self) -> Vec<Given> {
        let speaks = |kind: &str, name: &str| match self.texts.get(kind) {
            "" | "anonymous" => false,
            "windows" => !self.texts.get(name).is_empty(),
            _ => true,
        };
        let query = speaks("query_bind.kind", "query_bind.name");
        let sync = speaks("sync_bind.kind", "sync_bind.name");
        let query = query.then(|| given(&self.name, QUERY_PASSWORD, "Password of the account of queries"));
        let sync = sync.then(|| given(&self.name, SYNC_PASSWORD, "Password of the account of synchronisation"));
        query.into_iter().chain(sync).collect()
    }

    /// FD-11: as it stands in the form. Nothing is saved.
    async fn tried(&self, app: &Arc<App>, sent: &Sent, at: String) -> Response {
        // One that has no name yet can be tried, too.
        let name = if self.name.is_empty() { "new" } else { &self.name };
        let directory = match self.directory(name, sent) {
            Ok(directory) => directory,
            Err(findings) => return self.page(app, &sent.by, at, findings),
        };
        let person = (self.try_user.clone(), sent.secret("try").cloned().unwrap_or_default());
        match tried(app, &sent.by, &directory, Passwords::typed(sent), person).await {
            Ok(found) => self.show(app, &sent.by, at, Shown { probed: Some(found), ..Shown::default() }),
            Err(problem) => {
                let findings = problem.sentences().iter().map(|text| Finding::new("", text)).collect();
                self.page(app, &sent.by, at, findings)
            }
        }
    }

    fn form(&self, findings: Vec<Finding>) -> Form {
        let mut form = form_of(&GROUPS, |key| self.texts.get(key).to_owned(), self.preset());
        let name = match self.before {
            Some(_) => Shape::Shown { value: self.name.clone() },
            None => Shape::line(&self.name),
        };
        let help = "How clients and sync items name it: 1 to 64 of a-z 0-9 . _ -. It stays.";
        if let Some(kind) = form.parts.first_mut() {
            kind.entries.insert(0, Entry::new("name", "Name", name, help));
        }
        for entry in form.parts.iter_mut().flat_map(|part| &mut part.entries) {
            let kept = self.before.as_ref().is_some_and(|before| keeps(before, entry.name));
            if let (Shape::Secret { placeholder }, true) = (&mut entry.shape, kept) {
                *placeholder = "Leave empty to keep it".to_owned();
            }
        }
        form.finds(&prefix(&self.name), findings);
        form
    }

    fn page(&self, app: &App, by: &Administrator, at: String, findings: Vec<Finding>) -> Response {
        self.show(app, by, at, Shown { findings, ..Shown::default() })
    }

    fn show(&self, app: &App, by: &Administrator, revision: String, shown: Shown) -> Response {
        let kind = called(self.preset());
        let title = match (&self.before, kind) {
            (Some(_), kind) => format!("{kind} {}", self.name),
            (None, "LDAP") => "New LDAP directory".to_owned(),
            (None, kind) => format!("New {kind}"),
        };
        let form = self.form(shown.findings);
        let page = DirectoryPage {
            frame: Frame::of(app, by, title),
            address: self.address(),
            back: LIST,
            mapping: self.before.is_some().then(|| address(&self.name, "mapping")),
            revision,
            shown_preset: code_of(self.preset()),
            try_user: self.try_user.clone(),
            probed: shown.probed,
            notice: shown.notice,
            form,
        };
        show(page.form.status(), &page)
    }
}

/// Is there a password of this field that is kept?
fn keeps(before: &Directory, field: &str) -> bool {
    let bind = if field == QUERY_PASSWORD { Some(&before.query_bind) } else { before.sync_bind.as_ref() };
    bind.is_some_and(|bind| bind.password.is_some())
}
