//! What the attributes of a directory are called (FD-17): typed, or picked from those of its schema.

use super::fields::form_of;
use super::form::{Texts, attributes};
use super::keys::MAPPED;
use super::{LIST, Passwords, address, another_source, found, is_another_source, prefix, revision, saved, tried};
use crate::api::{Problem, exported};
use crate::app::{App, within};
use crate::console::door::{Administrator, Sent};
use crate::console::draft::{Change, Finding, Step, step};
use crate::console::form::{Form, Shape};
use crate::console::pages::{self, Frame, MappingPage, show};
use axum::extract::{Path, State};
use axum::response::Response;
use domain::Secret;
use domain::settings::{AttributeMap, Directory, Settings};
use http::StatusCode;
use proto::directory::{FindAttributesReply, FindAttributesRequest};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// The form is shown without its schema rather than late.
const SCHEMA_LIMIT: Duration = Duration::from_secs(5);

pub(in crate::console) async fn page(
    State(app): State<Arc<App>>,
    by: Administrator,
    Path(name): Path<String>,
) -> Response {
    let shown = async {
        let settings = exported(&app).await?;
        let mapped = Mapped::new(found(&settings, &name)?, None);
        let schema = mapped.schema(&app).await;
        Ok(mapped.page(&app, &by, revision(&settings), schema, Vec::new()))
    };
    shown.await.unwrap_or_else(|problem: Problem| pages::refused(&app, Some(&by), &problem))
}

pub(in crate::console) async fn change(State(app): State<Arc<App>>, Path(name): Path<String>, sent: Sent) -> Response {
    let answered = answer(&app, &sent, &name).await;
    answered.unwrap_or_else(|problem| pages::refused(&app, Some(&sent.by), &problem))
}

async fn answer(app: &Arc<App>, sent: &Sent, name: &str) -> Result<Response, Problem> {
    let mapped = Mapped::new(found(&exported(app).await?, name)?, Some(sent));
    let schema = mapped.schema(app).await;
    let at = sent.text("revision").to_owned();
    let warned: BTreeSet<String> = sent.all("warned").into_iter().collect();
    let unknown = schema.iter().flat_map(|schema| &schema.unknown);
    let unseen = unknown.clone().any(|attribute| !warned.contains(attribute));
    if unseen && sent.text("step") == "look" {
        return Ok(mapped.page(app, &sent.by, at, schema, Vec::new()));
    }
    if sent.text("step") == "try" {
        return Ok(mapped.tried(app, sent, (at, schema)).await);
    }
    if sent.text("step") == "look" {
        let unfit = mapped.unfit_id(app, sent).await?;
        if !unfit.is_empty() {
            return Ok(mapped.page(app, &sent.by, at, schema, unfit));
        }
    }
    let doubts = unknown.map(|attribute| doubt(attribute)).collect();
    let edit = |settings: &mut Settings| mapped.put(settings);
    match step(app, sent, mapped.change(doubts), edit).await? {
        Step::Again(findings) => Ok(mapped.page(app, &sent.by, at, schema, findings)),
        Step::Look(look) => Ok(show(StatusCode::OK, &*look)),
        Step::Applied => {
            let directory = found(&exported(app).await?, name)?;
            Ok(saved(name, is_another_source(&mapped.before, &directory)))
        }
    }
}

fn doubt(attribute: &str) -> String {
    format!("The directory's schema has no attribute {attribute:?}; is it misspelt?")
}

/// The mapping of a directory as it is typed.
struct Mapped {
    before: Directory,
    texts: Texts,
    /// All of it is to be the preset's.
    restored: bool,
}

impl Mapped {
    fn new(before: Directory, sent: Option<&Sent>) -> Self {
        let restored = sent.is_some_and(|sent| sent.text("restore") == "yes");
        let texts = match sent {
            Some(_) if restored => Texts::default(),
            Some(sent) => Texts::sent(sent, &MAPPED),
            None => Texts::of(&before, &MAPPED),
        };
        Self { before, texts, restored }
    }

    /// Those that are named, each once.
    fn attributes(&self) -> BTreeSet<String> {
        let fields = MAPPED.iter().flat_map(|group| group.fields).filter(|field| field.kind.is_attribute());
        let named = fields.flat_map(|field| attributes(self.texts.get(field.key))).filter(|name| *name != "-");
        named.map(str::to_owned).collect()
    }

    /// `None`: the directory cannot be asked now.
    async fn schema(&self, app: &App) -> Option<FindAttributesReply> {
        let request = FindAttributesRequest {
            directory: self.before.name.to_string(),
            attributes: self.attributes().into_iter().take(64).collect(),
        };
        within(SCHEMA_LIMIT, request, |request| app.deps.directories.find_attributes(request)).await.ok()
    }

    /// The names as they are typed; what is wrong, by its key in the settings.
    fn next(&self) -> Result<AttributeMap, Vec<Finding>> {
        if self.restored {
            return Ok(AttributeMap::default());
        }
        let key = |finding: Finding| Finding::new(self.key(&finding.key), finding.text);
        let read = self.texts.read(&self.before, &MAPPED);
        read.map(|it| it.attributes).map_err(|wrong| wrong.into_iter().map(key).collect())
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", prefix(self.before.name.as_str()))
    }

    /// FD-11, FD-17: one user as mapped, before it is saved.
    async fn tried(
        &self,
        app: &Arc<App>,
        sent: &Sent,
        (at, schema): (String, Option<FindAttributesReply>),
    ) -> Response {
        let attributes = match self.next() {
            Ok(attributes) => attributes,
            Err(findings) => return self.page(app, &sent.by, at, schema, findings),
        };
        let directory = Directory { attributes, ..self.before.clone() };
        let person = (sent.text("try_user").to_owned(), Secret::default());
        match tried(app, &sent.by, &directory, Passwords::default(), person).await {
            Ok(found) => {
                let page = self.filled(app, &sent.by, at, schema, Vec::new());
                let page = MappingPage { probed: Some(found), try_user: sent.text("try_user").to_owned(), ..page };
                show(StatusCode::OK, &page)
            }
            Err(problem) => {
                let findings = problem.sentences().iter().map(|text| Finding::new("", text)).collect();
                self.page(app, &sent.by, at, schema, findings)
            }
        }
    }

    /// FD-31: another identifier by which no user is found again is refused, where the directory can be asked.
    async fn unfit_id(&self, app: &Arc<App>, sent: &Sent) -> Result<Vec<Finding>, Problem> {
        let Ok(attributes) = self.next() else { return Ok(Vec::new()) };
        let before = &self.before.attributes;
        if (&attributes.id, attributes.id_type) == (&before.id, before.id_type) {
            return Ok(Vec::new());
        }
        let directory = Directory { attributes, ..self.before.clone() };
        let found = tried(app, &sent.by, &directory, Passwords::default(), Default::default()).await;
        let lines = found.map(|probed| probed.bad("user")).unwrap_or_default();
        Ok(lines.into_iter().map(|text| Finding::new(self.key("attributes.id"), text)).collect())
    }

    fn put(&self, settings: &mut Settings) -> Result<(), Vec<Finding>> {
        let next = self.next()?;
        let directory = settings.directories.iter_mut().find(|it| it.name == self.before.name);
        let gone = || vec![Finding::new("", "somebody removed the directory meanwhile")];
        directory.ok_or_else(gone)?.attributes = next;
        Ok(())
    }

    fn change(&self, doubts: Vec<String>) -> Change {
        let attributes = self.next().unwrap_or_else(|_| self.before.attributes.clone());
        let next = Directory { attributes, ..self.before.clone() };
        Change {
            title: format!("What would change: the mapping of {}", self.before.name),
            address: address(self.before.name.as_str(), "mapping"),
            back: LIST,
            form: true,
            users: false,
            notes: doubts.into_iter().chain(another_source(&self.before, &next)).collect(),
            secrets: Vec::new(),
        }
    }

    fn form(&self, unknown: &[String], findings: Vec<Finding>) -> Form {
        let mut form = form_of(&MAPPED, |key| self.texts.get(key).to_owned(), self.before.preset);
        for entry in form.parts.iter_mut().flat_map(|part| &mut part.entries) {
            if let Shape::Attribute { value, doubt: doubted, .. } = &mut entry.shape {
                let found = attributes(value).find(|name| unknown.iter().any(|it| it == name)).map(doubt);
                *doubted = found;
            }
        }
        form.finds(&prefix(self.before.name.as_str()), findings);
        form
    }

    fn page(
        &self,
        app: &App,
        by: &Administrator,
        revision: String,
        schema: Option<FindAttributesReply>,
        findings: Vec<Finding>,
    ) -> Response {
        let page = self.filled(app, by, revision, schema, findings);
        show(page.form.status(), &page)
    }

    fn filled(
        &self,
        app: &App,
        by: &Administrator,
        revision: String,
        schema: Option<FindAttributesReply>,
        findings: Vec<Finding>,
    ) -> MappingPage {
        let known = schema.is_some();
        let schema = schema.unwrap_or_default();
        let name = self.before.name.as_str();
        MappingPage {
            frame: Frame::of(app, by, format!("The mapping of {name}")),
            address: address(name, "mapping"),
            back: LIST,
            revision,
            form: self.form(&schema.unknown, findings),
            names: schema.names,
            known,
            warned: schema.unknown,
            try_user: String::new(),
            probed: None,
        }
    }
}
