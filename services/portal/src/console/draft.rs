//! The settings changed by a form: what would change is looked at first, then applied.
//!
//! ```text
//! form -> settings as exported, changed -> dry run of the store -> what would change -> applied
//!   ^                                        | refused                  |
//!   +--- what was typed stays ---------------+--- somebody was first: looked at anew
//! ```
//!
//! Nothing is kept between the pages: what was typed goes along in hidden fields, a secret is asked for again.

use super::door::{Administrator, Sent};
use super::pages::{Changed, Frame, Look, SecretAsked};
use crate::api::{Problem, document, exported};
use crate::app::{App, STORE_LIMIT, within};
use domain::Secret;
use domain::settings::Settings;
use proto::user_store::{ApplySettingsReply, ApplySettingsRequest};
use std::collections::{BTreeMap, BTreeSet};

/// Fields of the page that shows the changes; they are not part of the form.
const OWN: [&str; 3] = ["step", "revision", "asked"];

/// The settings of one revision, as somebody wants them.
pub(super) struct Draft {
    pub settings: Settings,
    /// New ones, by the names of the settings: `directory.corp.query_bind.password`. The others stay.
    pub secrets: BTreeMap<String, Secret>,
    /// Sync items that the settings do not have any longer, confirmed.
    pub removed_items: Vec<String>,
    /// What the settings warned of before.
    known: BTreeSet<String>,
}

/// What the store says of a draft.
pub(super) enum Verdict {
    Good(Box<ApplySettingsReply>),
    Refused(Vec<Finding>),
    /// Somebody changed the settings since they were exported.
    Behind,
}

/// What is wrong, and with which key; empty: with the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub key: String,
    pub text: String,
}

impl Finding {
    pub fn new(key: impl Into<String>, text: impl Into<String>) -> Self {
        Self { key: key.into(), text: text.into() }
    }

    /// As the store writes it: `sync_item.staff.filter: is longer than 4096 characters`.
    fn read(line: &str) -> Self {
        match line.split_once(": ") {
            Some((key, text)) if !key.contains(' ') => Self::new(key, text),
            _ => Self::new("", line),
        }
    }

    pub fn sentence(&self) -> String {
        match self.key.as_str() {
            "" => self.text.clone(),
            key => format!("{key}: {}", self.text),
        }
    }
}

impl Draft {
    /// The settings in force.
    pub async fn open(app: &App) -> Result<Self, Problem> {
        let settings = exported(app).await?;
        let known = settings.problems().iter().map(ToString::to_string).collect();
        Ok(Self { settings, secrets: BTreeMap::new(), removed_items: Vec::new(), known })
    }

    pub fn revision(&self) -> u64 {
        self.settings.revision.unwrap_or_default()
    }

    pub async fn dry_run(&self, app: &App, by: &Administrator) -> Result<Verdict, Problem> {
        self.send(app, by, true).await
    }

    pub async fn apply(&self, app: &App, by: &Administrator) -> Result<Verdict, Problem> {
        self.send(app, by, false).await
    }

    async fn send(&self, app: &App, by: &Administrator, dry_run: bool) -> Result<Verdict, Problem> {
        let request = ApplySettingsRequest {
            document: document(&self.settings)?,
            secrets: self.secrets.iter().map(|(name, secret)| (name.clone(), secret.clone().into())).collect(),
            dry_run,
            actor: by.caller.actor.clone(),
            removed_items: self.removed_items.clone(),
        };
        let reply = within(STORE_LIMIT, request, |request| app.deps.admin.apply_settings(request)).await?;
        let refused: Vec<Finding> = reply.errors.iter().map(|line| Finding::read(line)).collect();
        Ok(match refused.iter().any(|finding| finding.key == "revision") {
            true => Verdict::Behind,
            false if refused.is_empty() => Verdict::Good(Box::new(reply)),
            false => Verdict::Refused(refused),
        })
    }

    /// What was not warned of before.
    fn new_warnings(&self, reply: &ApplySettingsReply) -> Vec<String> {
        reply.warnings.iter().filter(|warning| !self.known.contains(*warning)).cloned().collect()
    }
}

/// A form that changes the settings.
pub(super) struct Change {
    /// Heads the page that shows what would change.
    pub title: String,
    /// Where the form goes, and the page that shows what would change.
    pub address: String,
    /// For whom leaves it as it is.
    pub back: &'static str,
    /// There is a form to go back to.
    pub form: bool,
    /// What follows of it, beside what the store warns of.
    pub notes: Vec<String>,
    pub secrets: Vec<Given>,
}

/// A secret of a form: typed in the field `secret.FIELD`, `name` in the settings.
pub(super) struct Given {
    pub field: String,
    pub name: String,
    pub label: String,
}

/// What comes of a form that was sent.
pub(super) enum Step {
    /// The form again, as it was typed.
    Again(Vec<Finding>),
    Look(Box<Look>),
    Applied(Box<ApplySettingsReply>),
}

/// One step: the field `step` is `look`, `edit` or `apply`; `revision` is what the form or the look was at.
pub(super) async fn step(
    app: &App,
    sent: &Sent,
    change: Change,
    edit: impl FnOnce(&mut Settings) -> Result<(), Vec<Finding>>,
) -> Result<Step, Problem> {
    if sent.text("step") == "edit" {
        return Ok(Step::Again(Vec::new()));
    }
    let mut draft = Draft::open(app).await?;
    let moved_on = !sent.text("revision").is_empty() && sent.text("revision") != draft.revision().to_string();
    if let Err(findings) = edit(&mut draft.settings) {
        return Ok(Step::Again(findings));
    }
    for given in &change.secrets {
        if let Some(secret) = sent.secret(&given.field) {
            draft.secrets.insert(given.name.clone(), secret.clone());
        }
    }
    let forgotten = sent.all("asked").iter().any(|field| sent.secret(field).is_none());
    if sent.text("step") != "apply" {
        let failure = moved_on.then_some("Somebody changed the settings since this page was opened. What you typed goes before what they changed: look at all of it.");
        return look(app, sent, change, &draft, failure).await;
    }
    if moved_on {
        return look(app, sent, change, &draft, Some(FIRST)).await;
    }
    if forgotten {
        return look(app, sent, change, &draft, Some("Type the secret again: no page keeps it.")).await;
    }
    match draft.apply(app, &sent.by).await? {
        Verdict::Good(reply) => Ok(Step::Applied(reply)),
        Verdict::Refused(findings) => Ok(Step::Again(findings)),
        Verdict::Behind => look(app, sent, change, &draft, Some(FIRST)).await,
    }
}

const FIRST: &str =
    "Somebody changed the settings while you looked, and nothing of yours was applied. This is what would change now.";

async fn look(
    app: &App,
    sent: &Sent,
    change: Change,
    draft: &Draft,
    failure: Option<&'static str>,
) -> Result<Step, Problem> {
    let reply = match draft.dry_run(app, &sent.by).await? {
        Verdict::Good(reply) => reply,
        Verdict::Refused(findings) => return Ok(Step::Again(findings)),
        Verdict::Behind => return Err(Problem::behind()),
    };
    let asked: BTreeSet<String> = sent.all("asked").into_iter().collect();
    let asks = |given: &Given| draft.secrets.contains_key(&given.name) || asked.contains(&given.field);
    let secrets = change.secrets.into_iter().filter(asks);
    let warnings = draft.new_warnings(&reply);
    Ok(Step::Look(Box::new(Look {
        frame: Frame::of(app, &sent.by, change.title),
        address: change.address,
        back: change.back,
        form: change.form,
        revision: draft.revision(),
        changes: reply.changes.iter().map(|line| changed(line)).collect(),
        warnings,
        notes: change.notes,
        failure,
        typed: sent.typed(&OWN),
        secrets: secrets.map(|it| SecretAsked { field: it.field, label: it.label }).collect(),
    })))
}

/// A line of the store: `changed sync_item.staff.leavers: "disable" -> "remove"`, `added sync_item.staff`.
fn changed(line: &str) -> Changed {
    let (what, rest) = line.split_once(' ').unwrap_or(("changed", line));
    let (key, values) = rest.split_once(": ").unwrap_or((rest, ""));
    let (was, is) = values.split_once(" -> ").unwrap_or(("", values));
    Changed { what: what.to_owned(), key: key.to_owned(), was: was.to_owned(), is: is.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_store_are_read_by_their_parts() {
        let finding = Finding::read("sync_item.staff.source.dn: is empty; a container or group is named by its DN");
        assert_eq!(finding.key, "sync_item.staff.source.dn");
        assert_eq!(finding.sentence(), "sync_item.staff.source.dn: is empty; a container or group is named by its DN");
        let line = "line 3: the document is no TOML";
        assert_eq!((Finding::read(line).key.as_str(), Finding::read(line).sentence().as_str()), ("", line));
        let parts = |line: &str| {
            let Changed { what, key, was, is } = changed(line);
            [what, key, was, is]
        };
        let order = "changed the order of sync_item: staff, rest -> rest, staff";
        assert_eq!(parts(order), ["changed", "the order of sync_item", "staff, rest", "rest, staff"]);
        assert_eq!(parts("added sync_item.staff"), ["added", "sync_item.staff", "", ""]);
        assert_eq!(
            parts("changed sync_item.staff.leavers: \"disable\" -> \"remove\""),
            ["changed", "sync_item.staff.leavers", "\"disable\"", "\"remove\""]
        );
    }
}
