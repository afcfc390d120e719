//! A change of one user by an administrator: the chain is locked first, the row is read, and what was done is audited, told and
//! shown in the transaction that did it.

use super::actor;
use crate::Store;
use crate::audit::{self, Head, NewEvent, printable};
use crate::outbox::{self, NewMail};
use crate::rpc::StoreError;
use crate::sql::{Row, Session, args};
use crate::users;
use proto::user_store::UserDetail;
use tonic::Status;

/// The columns a change reads.
const USER: &str = "SELECT username, state, blocked_until_ms, exempt_clients, exempt_until_ms, revision FROM users \
    WHERE user_id = $1";

/// A user that nobody else changes until this ends.
pub struct Change<'a> {
    pub store: &'a Store,
    pub session: Session,
    pub user_id: String,
    pub username: String,
    pub actor: String,
    pub now_ms: i64,
    pub row: Row,
    head: Head,
    pub(super) events: Vec<NewEvent>,
    raise_epoch: bool,
}

impl<'a> Change<'a> {
    pub async fn begin(store: &'a Store, user_id: &str, by: &str) -> Result<Self, StoreError> {
        let actor = actor(by)?;
        let mut session = store.database().write().await?;
        let head = audit::lock(&mut session).await?;
        Self::on(store, session, head, user_id, actor).await
    }

    /// The same where more is done in this transaction.
    pub async fn on(
        store: &'a Store,
        mut session: Session,
        head: Head,
        user_id: &str,
        actor: String,
    ) -> Result<Self, StoreError> {
        let row = session.row(USER, args![user_id]).await?.ok_or_else(|| Status::not_found("no such user"))?;
        if row.get::<String>("state")? == "removed" {
            let text = "the user is removed and comes back with the directory only";
            return Err(Status::failed_precondition(text).into());
        }
        let username = row.get("username")?;
        let (user_id, now_ms) = (user_id.to_owned(), store.clock().now_ms());
        Ok(Self { store, session, user_id, username, actor, now_ms, row, head, events: Vec::new(), raise_epoch: false })
    }

    /// Who may not log in gets nothing to log in with.
    pub fn must_be_enabled(&self) -> Result<(), StoreError> {
        match self.row.get::<String>("state")?.as_str() {
            "enabled" => Ok(()),
            state => Err(Status::failed_precondition(format!("the user is {state}")).into()),
        }
    }

    pub fn must_be_at(&self, expected_revision: u64) -> Result<(), StoreError> {
        match expected_revision != 0 && self.row.unsigned("revision")? != expected_revision {
            true => Err(Status::aborted("the user changed meanwhile").into()),
            false => Ok(()),
        }
    }

    /// What was done, in words: old -> new, never a secret.
    pub fn note(&mut self, kind: &str, detail: impl Into<String>) {
        let event = NewEvent::administrative(self.now_ms, kind, &self.actor, detail);
        self.events.push(event.about(&self.user_id, &self.username));
    }

    /// Ends remembered logins (V-52).
    pub fn end_remembered(&mut self) {
        self.raise_epoch = true;
    }

    /// A mail to the user, if they have an address; whether users get mail is decided where it is sent (FN-02).
    pub async fn mail(&mut self, kind: &str, variables: &[(&str, &str)]) -> Result<(), StoreError> {
        let Some(mut mail) = NewMail::to_user(&mut self.session, kind, &self.user_id).await? else { return Ok(()) };
        for (name, value) in variables {
            mail = mail.with(name, *value);
        }
        outbox::put_in(&mut self.session, self.store.seal(), mail.with("admin", &*self.actor), self.now_ms).await
    }

    /// A mail to the administrators who are told of such events (FV-27).
    pub async fn mail_administrators(&mut self, kind: &str, variables: &[(&str, &str)]) -> Result<(), StoreError> {
        let mut mail = NewMail::to_administrators(kind).with("username", &*self.username);
        for (name, value) in variables {
            mail = mail.with(name, *value);
        }
        outbox::put_in(&mut self.session, self.store.seal(), mail.with("admin", &*self.actor), self.now_ms).await
    }

    /// Writes the events, makes all of it durable, and shows the user as they are then.
    pub async fn finish(mut self) -> Result<UserDetail, StoreError> {
        let sql = "UPDATE users SET epoch = epoch + $1, changed_ms = $2, revision = revision + 1 WHERE user_id = $3";
        let arguments = args![i64::from(self.raise_epoch), self.now_ms, &self.user_id];
        self.session.execute(sql, arguments).await?;
        audit::append(&mut self.session, self.head, self.events).await?;
        let detail = users::detail(&mut self.session, &self.user_id, self.now_ms).await?;
        let detail = detail.ok_or_else(|| Status::not_found("no such user"))?;
        self.session.commit().await?;
        self.store.teller().user_changed(&self.user_id);
        Ok(detail)
    }
}

/// Of a reason that is kept.
pub const REASON_CHARACTERS_MAX: usize = 256;

/// Some things are done only with a reason.
pub fn reason(text: &str) -> Result<String, Status> {
    match printable(text.trim(), REASON_CHARACTERS_MAX) {
        reason if reason.is_empty() => Err(Status::invalid_argument("reason: is missing; say why")),
        reason => Ok(reason),
    }
}
