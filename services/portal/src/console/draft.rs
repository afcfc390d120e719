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
const OWN: [&str; 4] = ["step", "revision", "asked", "reason"];

/// The settings of one revision, as somebody wants them.
pub(super) struct Draft {
    pub settings: Settings,
    /// New ones, by the names of the settings: `directory.corp.query_bind.password`. The others stay.
    pub secrets: BTreeMap<String, Secret>,
    /// Sync items that the settings do not have any longer, confirmed.
    pub removed_items: Vec<String>,
    /// Why, where security is weakened.
    pub reason: String,
    /// As they were exported.
    unchanged: Settings,
}

/// What the store says of a draft.
pub(super) enum Verdict {
    Good(Box<ApplySettingsReply>),
    Refused(Vec<Finding>),
    /// Somebody changed the settings since they were exported.
    Behind,
    /// It weakens security, and nobody said why.
    NoReason(Vec<Finding>),
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
        let unchanged = settings.clone();
        let (secrets, removed_items, reason) = (BTreeMap::new(), Vec::new(), String::new());
        Ok(Self { settings, secrets, removed_items, reason, unchanged })
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
            reason: self.reason.clone(),
            needs_reason: true,
        };
        Verdict::of(app, request).await
    }

    /// What was not warned of before: the store warns of more than the document has.
    async fn new_warnings(
        &self,
        app: &App,
        by: &Administrator,
        reply: &ApplySettingsReply,
    ) -> Result<Vec<String>, Problem> {
        if reply.warnings.is_empty() {
            return Ok(Vec::new());
        }
        let request = ApplySettingsRequest {
            document: document(&self.unchanged)?,
            dry_run: true,
            actor: by.caller.actor.clone(),
            ..ApplySettingsRequest::default()
        };
        let known: BTreeSet<String> = match Verdict::of(app, request).await? {
            Verdict::Good(reply) => reply.warnings.into_iter().collect(),
            Verdict::Refused(_) | Verdict::NoReason(_) | Verdict::Behind => BTreeSet::new(),
        };
        Ok(reply.warnings.iter().filter(|warning| !known.contains(*warning)).cloned().collect())
    }
}

impl Verdict {
    async fn of(app: &App, request: ApplySettingsRequest) -> Result<Self, Problem> {
        let reply = within(STORE_LIMIT, request, |request| app.deps.admin.apply_settings(request)).await?;
        let refused: Vec<Finding> = reply.errors.iter().map(|line| Finding::read(line)).collect();
        Ok(match refused.iter().any(|finding| finding.key == "revision") {
            true => Self::Behind,
            false if refused.is_empty() => Self::Good(Box::new(reply)),
            false if refused.iter().any(|finding| finding.key == "reason") => Self::NoReason(refused),
            false => Self::Refused(refused),
        })
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
    /// What it would do to users can be looked at first.
    pub users: bool,
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
    /// It holds. A page of its own says so, which can be fetched again without applying anything again.
    Applied,
}

/// One step: the field `step` is `look`, `edit` or `apply`; `revision` is what the form or the look was at.
pub(super) async fn step(
    app: &App,
    sent: &Sent,
    change: Change,
    edit: impl Fn(&mut Settings) -> Result<(), Vec<Finding>>,
) -> Result<Step, Problem> {
    if sent.text("step") == "edit" {
        return Ok(Step::Again(Vec::new()));
    }
    let draft = match edited(app, sent, &change, &edit).await? {
        Ok(draft) => draft,
        Err(findings) => return Ok(Step::Again(findings)),
    };
    let moved_on = !sent.text("revision").is_empty() && sent.text("revision") != draft.revision().to_string();
    if sent.text("step") != "apply" {
        return look(app, sent, change, &draft, moved_on.then_some(MOVED_ON)).await;
    }
    if moved_on {
        return overtaken(app, sent, change, &draft).await;
    }
    if sent.all("asked").iter().any(|field| sent.secret(field).is_none()) {
        return look(app, sent, change, &draft, Some("Type the secret again: no page keeps it.")).await;
    }
    match draft.apply(app, &sent.by).await? {
        Verdict::Good(_) => Ok(Step::Applied),
        Verdict::Refused(findings) => Ok(Step::Again(findings)),
        Verdict::NoReason(_) => look(app, sent, change, &draft, Some(NO_REASON)).await,
        Verdict::Behind => match edited(app, sent, &change, &edit).await? {
            Ok(draft) => overtaken(app, sent, change, &draft).await,
            Err(findings) => Ok(Step::Again(findings)),
        },
    }
}

/// The settings in force with what was typed.
async fn edited(
    app: &App,
    sent: &Sent,
    change: &Change,
    edit: impl Fn(&mut Settings) -> Result<(), Vec<Finding>>,
) -> Result<Result<Draft, Vec<Finding>>, Problem> {
    let mut draft = Draft::open(app).await?;
    if let Err(findings) = edit(&mut draft.settings) {
        return Ok(Err(findings));
    }
    sent.text("reason").clone_into(&mut draft.reason);
    for given in &change.secrets {
        if let Some(secret) = sent.secret(&given.field) {
            draft.secrets.insert(given.name.clone(), secret.clone());
        }
    }
    Ok(Ok(draft))
}

/// Something was applied since the look: this very change, by a button that was pressed twice, or another one.
async fn overtaken(app: &App, sent: &Sent, change: Change, draft: &Draft) -> Result<Step, Problem> {
    Ok(match look(app, sent, change, draft, Some(FIRST)).await? {
        Step::Look(look) if look.changes.is_empty() => Step::Applied,
        step => step,
    })
}

const NO_REASON: &str = "Say why. What weakens security is not changed without a reason, which the audit keeps.";
const MOVED_ON: &str = "Somebody changed the settings since this page was opened. Applying undoes their changes to this object where the form \
    shows older values: look at all of it.";
const FIRST: &str = "Somebody changed the settings while you looked, and this was not applied. This is what would change now. Applying undoes \
    their changes to this object where the form shows older values.";

async fn look(
    app: &App,
    sent: &Sent,
    change: Change,
    draft: &Draft,
    failure: Option<&'static str>,
) -> Result<Step, Problem> {
    let reply = match draft.dry_run(app, &sent.by).await? {
        Verdict::Good(reply) => reply,
        Verdict::Refused(findings) | Verdict::NoReason(findings) => return Ok(Step::Again(findings)),
        Verdict::Behind => return Err(Problem::behind()),
    };
    let asked: BTreeSet<String> = sent.all("asked").into_iter().collect();
    let asks = |given: &Given| draft.secrets.contains_key(&given.name) || asked.contains(&given.field);
    let secrets = change.secrets.into_iter().filter(asks);
    let warnings = draft.new_warnings(app, &sent.by, &reply).await?;
    Ok(Step::Look(Box::new(Look {
        frame: Frame::of(app, &sent.by, change.title),
        address: change.address,
        back: change.back,
        form: change.form,
        users: change.users,
        revision: draft.revision(),
        changes: reply.changes.iter().map(|line| changed(line)).collect(),
        weaker: reply.weaker,
        reason: draft.reason.clone(),
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
