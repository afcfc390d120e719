//! Mail that has to go out: written in the transaction of its cause, leased by whoever sends it.
//!
//! ```text
//! waiting --take (lease)--> waiting, due later --done--> sent | failed
//!                                              --done, retry--> waiting
//! ```
//!
//! The whole message stands sealed: links in it are secrets. It is wiped when it was sent or given up; the row stays for a
//! while, so that the same mail is not written twice.

use crate::Store;
use crate::places;
use crate::rpc::{StoreError, bounded, id};
use crate::seal::Seal;
use crate::sql::{Session, args};
use crate::users;
use prost::Message;
use proto::user_store::{
    DoneMailReply, DoneMailRequest, Mail, PutMailReply, PutMailRequest, TakeMailReply, TakeMailRequest,
    outbox_server::Outbox,
};
use std::collections::HashMap;
use tonic::{Request, Response, Status};

const DAY_MS: i64 = 24 * 3_600_000;
/// Mails of one lease.
const TAKEN_MAX: u32 = 100;
const LEASE_SECONDS: std::ops::RangeInclusive<u32> = 5..=600;
const LEASE_SECONDS_DEFAULT: u32 = 60;
const ADDRESSES_MAX: usize = 50;
const CONTENT_OCTETS_MAX: usize = 64 * 1024;

pub struct OutboxService(pub Store);

#[tonic::async_trait]
impl Outbox for OutboxService {
    async fn put(&self, request: Request<PutMailRequest>) -> Result<Response<PutMailReply>, Status> {
        let PutMailRequest { mail, once_key, now_unix_ms } = request.into_inner();
        let mail = mail.ok_or_else(|| Status::invalid_argument("mail is missing"))?;
        let now_ms = self.0.at(now_unix_ms);
        let mut session = self.0.database().write().await.map_err(StoreError::from)?;
        put_in(&mut session, self.0.seal(), NewMail { mail, once_key }, now_ms).await?;
        session.commit().await.map_err(StoreError::from)?;
        Ok(Response::new(PutMailReply {}))
    }

    async fn take(&self, request: Request<TakeMailRequest>) -> Result<Response<TakeMailReply>, Status> {
        Ok(Response::new(take(&self.0, request.into_inner()).await?))
    }

    async fn done(&self, request: Request<DoneMailRequest>) -> Result<Response<DoneMailReply>, Status> {
        done(&self.0, request.into_inner()).await?;
        Ok(Response::new(DoneMailReply {}))
    }
}

/// A mail on its way into the outbox.
pub struct NewMail {
    pub mail: Mail,
    /// The same key again is the same mail; empty = every one is another.
    pub once_key: String,
}

impl NewMail {
    /// To the administrators who are told of such events (FV-27); the sender knows who they are.
    pub fn to_administrators(kind: &str) -> Self {
        Self { mail: Mail { kind: kind.into(), ..Mail::default() }, once_key: String::new() }
    }

    /// To a user at the address the store has now; `None` where it has none.
    pub async fn to_user(session: &mut Session, kind: &str, user_id: &str) -> Result<Option<Self>, StoreError> {
        let sql = "SELECT username, first_name, last_name, mail, language_text FROM users WHERE user_id = $1";
        let Some(row) = session.row(sql, args![user_id]).await? else { return Ok(None) };
        let address: String = row.get("mail")?;
        if address.is_empty() {
            return Ok(None);
        }
        let mut variables = HashMap::new();
        for name in ["username", "first_name", "last_name"] {
            variables.insert(name.to_owned(), row.get(name)?);
        }
        let mail = Mail {
            kind: kind.into(),
            user_id: user_id.into(),
            to: vec![address],
            language: row.get("language_text")?,
            variables,
            ..Mail::default()
        };
        Ok(Some(Self { mail, once_key: String::new() }))
    }

    /// A value of the text's variables (FN-06).
    pub fn with(mut self, variable: &str, value: impl Into<String>) -> Self {
        self.mail.variables.insert(variable.into(), value.into());
        self
    }

    /// Until then it may go out; a day, where nothing is said.
    pub fn until(mut self, at_ms: i64) -> Self {
        self.mail.expires_unix_ms = at_ms;
        self
    }

    pub fn once(mut self, key: impl Into<String>) -> Self {
        self.once_key = key.into();
        self
    }
}

/// Writes a mail in the transaction of its cause: both are there, or neither is.
pub async fn put_in(session: &mut Session, seal: &Seal, new: NewMail, now_ms: i64) -> Result<(), StoreError> {
    let NewMail { mut mail, once_key } = new;
    let named = (1..=64).contains(&mail.kind.len()) && mail.kind.bytes().all(|sign| sign.is_ascii_graphic());
    if !named {
        return Err(Status::invalid_argument("mail.kind: a name has 1 to 64 printable signs").into());
    }
    if mail.to.len() > ADDRESSES_MAX {
        return Err(Status::invalid_argument(format!("mail.to: at most {ADDRESSES_MAX} addresses")).into());
    }
    // Sent late it helps nobody; without an end of its own a mail has a day (FN-01).
    let expires_ms = if mail.expires_unix_ms > 0 { mail.expires_unix_ms } else { now_ms + DAY_MS };
    mail.mail_id = uuid::Uuid::now_v7().to_string();
    mail.expires_unix_ms = expires_ms;
    mail.tries = 0;
    // What a mail tells happened when it was written, unless it says otherwise; it may go out hours later.
    mail.variables.entry("time".into()).or_insert_with(|| users::time_text(now_ms));
    let content = mail.encode_to_vec();
    if content.len() > CONTENT_OCTETS_MAX {
        return Err(Status::invalid_argument("mail: more than 64 KiB").into());
    }
    let sealed = seal.seal_field(places::mail(&mail.mail_id), &content)?;
    let sql = "INSERT INTO outbox (mail_id, once_key, kind, user_id, sealed, tries, due_ms, expires_ms, state, error) \
               VALUES ($1, $2, $3, $4, $5, 0, $6, $7, 'waiting', '') ON CONFLICT DO NOTHING";
    let arguments =
        args![&mail.mail_id, bounded(&once_key, 128), &mail.kind, &mail.user_id, sealed, now_ms, expires_ms];
    session.execute(sql, arguments).await?;
    Ok(())
}

/// Two nodes that take at once get different mails: each lease is a compare-and-swap on when the mail is due (V-74).
async fn take(store: &Store, request: TakeMailRequest) -> Result<TakeMailReply, StoreError> {
    let now_ms = store.at(request.now_unix_ms);
    let limit = if request.limit == 0 { TAKEN_MAX } else { request.limit.min(TAKEN_MAX) };
    let lease_seconds = if request.lease_seconds == 0 { LEASE_SECONDS_DEFAULT } else { request.lease_seconds };
    let lease_ms = i64::from(lease_seconds.clamp(*LEASE_SECONDS.start(), *LEASE_SECONDS.end())) * 1000;
    const DUE: &str = "SELECT mail_id, sealed, tries, due_ms FROM outbox WHERE state = 'waiting' AND due_ms <= $1 \
                       AND expires_ms > $1 ORDER BY due_ms LIMIT $2";
    // Most of the time nothing is due, and nobody has to wait for a writer to learn that.
    if store.database().read().await?.rows(DUE, args![now_ms, 1_i64]).await?.is_empty() {
        return Ok(TakeMailReply::default());
    }
    let mut session = store.database().write().await?;
    let mut mails = Vec::new();
    for row in session.rows(DUE, args![now_ms, limit]).await? {
        let mail_id: String = row.get("mail_id")?;
        let sql =
            "UPDATE outbox SET due_ms = $1, tries = tries + 1 WHERE mail_id = $2 AND state = 'waiting' AND due_ms = $3";
        let leased = args![now_ms + lease_ms, &mail_id, row.get::<i64>("due_ms")?];
        if session.execute(sql, leased).await? != 1 {
            continue;
        }
        let sealed: Vec<u8> = row.get("sealed")?;
        let opened = store.seal().open_field(places::mail(&mail_id), &sealed).ok();
        let Some(mail) = opened.and_then(|content| Mail::decode(content.expose()).ok()) else {
            // One mail must not hold up the others. Of a key this node has yet to read it is tried again when its lease is over.
            if !store.seal().may_open_later(&sealed) {
                tracing::error!(mail_id, "a mail in the outbox does not open and is given up");
                let sql = "UPDATE outbox SET state = 'failed', error = 'it does not open' WHERE mail_id = $1";
                session.execute(sql, args![&mail_id]).await?;
            }
            continue;
        };
        let tries = u32::try_from(row.get::<i64>("tries")?).unwrap_or(u32::MAX).saturating_add(1);
        mails.push(Mail { tries, ..mail });
    }
    session.commit().await?;
    Ok(TakeMailReply { mails })
}

async fn done(store: &Store, request: DoneMailRequest) -> Result<(), StoreError> {
    id("mail_id", &request.mail_id)?;
    let now_ms = store.at(request.now_unix_ms);
    let error = bounded(&request.error, 256);
    let mut session = store.database().write().await?;
    if !request.sent && request.retry_unix_ms > now_ms {
        let sql =
            "UPDATE outbox SET due_ms = $1, error = $2 WHERE mail_id = $3 AND state = 'waiting' AND expires_ms > $1";
        if session.execute(sql, args![request.retry_unix_ms, &error, &request.mail_id]).await? == 1 {
            return Ok(session.commit().await?);
        }
    }
    let state = if request.sent { "sent" } else { "failed" };
    let sql = "UPDATE outbox SET state = $1, error = $2, sealed = $3 WHERE mail_id = $4 AND state = 'waiting'";
    session.execute(sql, args![state, error, Vec::new(), &request.mail_id]).await?;
    Ok(session.commit().await?)
}
