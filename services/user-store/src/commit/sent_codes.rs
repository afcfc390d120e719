//! Codes that were sent to a phone: bound to one attempt, few tries, the newest alone (V-17, V-18).
//!
//! ```text
//! open --right digest--> right --Allow--> spent
//!      --third wrong try, or a newer code--> void
//! ```
//!
//! Over all codes of a user's logins a try counts as one of any factor does (V-14), until an Allow by such a code.
//!
//! Opening and checking are steps of the group. What is compared are digests under a key that the store does not have.

use super::caps;
use super::group::{Answer, Scene, Step};
use super::secrets::{self, Try};
use crate::Store;
use crate::audit::{self, NewEvent};
use crate::outbox::{self, NewMail};
use crate::places;
use crate::rpc::{StoreError, bounded, id};
use crate::sql::{Session, args};
use crate::users;
use domain::PhoneNumber;
use proto::user_store::{
    CheckSentCodeReply, CheckSentCodeRequest, OpenSentCodeReply, OpenSentCodeRequest, SentCodeResult, SetPhoneReply,
    SetPhoneRequest,
};
use subtle::ConstantTimeEq;
use tonic::Status;

const KINDS: [&str; 3] = ["sms", "mail", "proof"];
const TRIES: i64 = 3;
const HOUR_MS: i64 = 3_600_000;
const LIFE_MS_MAX: i64 = 10 * 60_000;
/// Between two codes of a kind.
const RESEND_MS: i64 = 30_000;
/// Codes a user gets in an hour, of every kind together.
const PER_HOUR: i64 = 5;

/// What became of a try; the number still sealed.
pub struct Checked {
    result: SentCodeResult,
    number: Vec<u8>,
    extension: String,
    backup: bool,
    retry_ms: i64,
}

impl Checked {
    fn gone() -> Self {
        let result = SentCodeResult::Gone;
        Self { result, number: Vec::new(), extension: String::new(), backup: false, retry_ms: 0 }
    }
}

pub async fn open_sent_code(store: &Store, mut request: OpenSentCodeRequest) -> Result<OpenSentCodeReply, StoreError> {
    request.now_unix_ms = store.at(request.now_unix_ms);
    id("transaction_id", &request.transaction_id)?;
    if request.digest.len() != 32 {
        return Err(Status::invalid_argument("digest: an HMAC-SHA-256 has 32 octets").into());
    }
    if !KINDS.contains(&request.kind.as_str()) {
        return Err(Status::invalid_argument("kind: allowed are sms, mail, proof").into());
    }
    if request.expires_unix_ms <= request.now_unix_ms {
        return Err(Status::invalid_argument("expires_unix_ms: is over").into());
    }
    request.expires_unix_ms = request.expires_unix_ms.min(request.now_unix_ms.saturating_add(LIFE_MS_MAX));
    request.phone_prefix = bounded(&request.phone_prefix, 32);
    request.extension = bounded(&request.extension, 32);
    match (request.kind.as_str(), PhoneNumber::new(&request.number)) {
        ("proof", Ok(number)) => request.number = number.expose().to_owned(),
        ("proof", Err(_)) => return Err(Status::invalid_argument("number: is not in international form").into()),
        _ => request.number.clear(),
    }
    match store.group().step(Step::OpenSentCode(request)).await? {
        Answer::SentCodeOpened(reply) => Ok(reply),
        _ => Err(StoreError::Broken("an answer of another kind")),
    }
}

pub async fn check_sent_code(
    store: &Store,
    mut request: CheckSentCodeRequest,
) -> Result<CheckSentCodeReply, StoreError> {
    request.now_unix_ms = store.at(request.now_unix_ms);
    request.source = bounded(&request.source, 128);
    let owner = places::owned(&request.user_id, &request.transaction_id);
    let checked = match store.group().step(Step::CheckSentCode(request)).await? {
        Answer::SentCodeChecked(checked) => checked,
        _ => return Err(StoreError::Broken("an answer of another kind")),
    };
    let number = match checked.number.is_empty() {
        true => String::new(),
        false => {
            let number = store.seal().open_field(places::number(&owner), &checked.number)?;
            number.expose_str().ok_or(StoreError::Broken("a number"))?.to_owned()
        }
    };
    let Checked { result, extension, backup, retry_ms, .. } = checked;
    Ok(CheckSentCodeReply { result: result.into(), number, extension, backup, retry_unix_ms: retry_ms })
}

/// A code of a new digest, in place of every older one of the user and kind.
pub async fn open(scene: &mut Scene<'_>, request: &OpenSentCodeRequest) -> Result<OpenSentCodeReply, StoreError> {
    let now_ms = request.now_unix_ms;
    users::may_enter(scene.session, &request.user_id, now_ms).await?;
    let sql = "SELECT user_id FROM sent_codes WHERE transaction_id = $1";
    if let Some(row) = scene.session.row(sql, args![&request.transaction_id]).await?
        && row.get::<String>("user_id")? != request.user_id
    {
        return Err(Status::invalid_argument("the attempt is another user's").into());
    }
    if let Some(retry_unix_ms) = must_wait(scene.session, request).await? {
        return Ok(OpenSentCodeReply { opened: false, retry_unix_ms });
    }
    if let Some(retry_unix_ms) = caps::count(scene.session, &caps::Asked::of_code(request), now_ms).await? {
        return Ok(OpenSentCodeReply { opened: false, retry_unix_ms });
    }
    let sql = "INSERT INTO message_counts (scope, window_ms, count) VALUES ($1, $2, 1) \
               ON CONFLICT (scope, window_ms) DO UPDATE SET count = message_counts.count + 1";
    scene.session.execute(sql, args![sent_scope(&request.user_id, &request.kind), now_ms]).await?;
    let sql = "UPDATE sent_codes SET state = 'void' WHERE user_id = $1 AND kind = $2 AND state = 'open'";
    scene.session.execute(sql, args![&request.user_id, &request.kind]).await?;
    let owner = places::owned(&request.user_id, &request.transaction_id);
    let number = match request.number.is_empty() {
        true => Vec::new(),
        false => scene.seal.seal_field(places::number(&owner), request.number.as_bytes())?,
    };
    let sql = "INSERT INTO sent_codes (transaction_id, user_id, kind, digest, expires_ms, tries_left, state, number, extension, \
               backup, sent_ms) VALUES ($1, $2, $3, $4, $5, $6, 'open', $7, $8, $9, $10) \
               ON CONFLICT (transaction_id) DO UPDATE SET kind = excluded.kind, digest = excluded.digest, \
               expires_ms = excluded.expires_ms, tries_left = excluded.tries_left, state = 'open', number = excluded.number, \
               extension = excluded.extension, backup = excluded.backup, sent_ms = excluded.sent_ms \
               WHERE sent_codes.state <> 'spent'";
    let arguments = args![
        &request.transaction_id,
        &request.user_id,
        &request.kind,
        request.digest.as_slice(),
        request.expires_unix_ms,
        TRIES,
        number,
        &request.extension,
        request.backup,
        now_ms,
    ];
    // An attempt whose code let somebody in gets no other: the counts above stay, and nothing is sent.
    let opened = scene.session.execute(sql, arguments).await? == 1;
    Ok(OpenSentCodeReply { opened, retry_unix_ms: 0 })
}

fn sent_scope(user_id: &str, kind: &str) -> String {
    format!("sent:{user_id}:{kind}")
}

/// When the user's next code of this kind may go out, if not now.
async fn must_wait(session: &mut Session, request: &OpenSentCodeRequest) -> Result<Option<i64>, StoreError> {
    let now_ms = request.now_unix_ms;
    let scopes = KINDS.map(|kind| sent_scope(&request.user_id, kind));
    let mine = sent_scope(&request.user_id, &request.kind);
    let sql = "SELECT scope, window_ms, count FROM message_counts WHERE scope IN ($1, $2, $3) AND window_ms > $4 \
               ORDER BY window_ms DESC";
    let arguments = args![&scopes[0], &scopes[1], &scopes[2], now_ms - HOUR_MS];
    let (mut until_ms, mut sent) = (0, 0);
    for row in session.rows(sql, arguments).await? {
        let sent_ms: i64 = row.get("window_ms")?;
        if row.get::<String>("scope")? == mine {
            until_ms = until_ms.max(sent_ms + RESEND_MS);
        }
        let before = sent;
        sent += row.get::<i64>("count")?;
        if before < PER_HOUR && sent >= PER_HOUR {
            // The fifth newest: when it is an hour old there is room.
            until_ms = until_ms.max(sent_ms + HOUR_MS);
        }
    }
    Ok((until_ms > now_ms).then_some(until_ms))
}

/// The try is counted before it is looked at, and what is looked at is compared in constant time (V-16).
pub async fn check(scene: &mut Scene<'_>, request: &CheckSentCodeRequest) -> Result<Checked, StoreError> {
    let sql = "SELECT kind FROM sent_codes WHERE transaction_id = $1 AND user_id = $2 AND state IN ('open', 'right') \
               AND tries_left > 0 AND expires_ms > $3";
    let arguments = args![&request.transaction_id, &request.user_id, request.now_unix_ms];
    let Some(row) = scene.session.row(sql, arguments).await? else { return Ok(Checked::gone()) };
    // A number that is being proven has no Allow that would end its failures.
    let of_a_login = row.get::<String>("kind")? == "sms";
    let of = Try { user_id: request.user_id.clone(), kind: "sms", verified: true, now_ms: request.now_unix_ms };
    let mut locked_now = false;
    if of_a_login {
        let counted = secrets::count_from(scene, &of, &request.source).await?;
        if !counted.granted {
            let result = SentCodeResult::Locked;
            return Ok(Checked { result, retry_ms: counted.retry_ms, ..Checked::gone() });
        }
        locked_now = counted.locked_now;
    }
    // A right code may be asked about again, if its answer was lost; that is a try as well.
    let sql = "UPDATE sent_codes SET tries_left = tries_left - 1 WHERE transaction_id = $1 AND user_id = $2 \
               AND state IN ('open', 'right') AND tries_left > 0 AND expires_ms > $3 \
               RETURNING kind, digest, tries_left, state, number, extension, backup";
    let arguments = args![&request.transaction_id, &request.user_id, request.now_unix_ms];
    let Some(row) = scene.session.row(sql, arguments).await? else { return Ok(Checked::gone()) };
    let right = bool::from(row.get::<Vec<u8>>("digest")?.ct_eq(&request.digest));
    let state: String = row.get("state")?;
    let next = match (right, state.as_str()) {
        (true, _) => "right",
        (false, "open") if row.get::<i64>("tries_left")? == 0 => "void",
        _ => state.as_str(),
    };
    if next != state {
        let sql = "UPDATE sent_codes SET state = $1 WHERE transaction_id = $2";
        scene.session.execute(sql, args![next, &request.transaction_id]).await?;
    }
    // Right or wrong: only an Allow by it ends the lock, and there may be none.
    if locked_now {
        secrets::tell_of_the_lock(scene, &of).await?;
    }
    if !right {
        return Ok(Checked { result: SentCodeResult::Wrong, ..Checked::gone() });
    }
    Ok(Checked {
        result: SentCodeResult::Right,
        number: row.get("number")?,
        extension: row.get("extension")?,
        backup: row.get("backup")?,
        retry_ms: 0,
    })
}

/// An Allow by a code that was sent ends these users' failures in a row (V-14).
pub async fn begin_anew<'a>(session: &mut Session, users: impl Iterator<Item = &'a str>) -> Result<(), StoreError> {
    let head = "DELETE FROM secret_states WHERE user_id IN";
    session.execute_in(head, users, "AND kind = 'sms'", &[]).await?;
    Ok(())
}

/// The number is the user's own from now on: the directory does not overwrite it (FS-23).
pub async fn set_phone(store: &Store, request: SetPhoneRequest) -> Result<SetPhoneReply, StoreError> {
    let number = PhoneNumber::new(&request.number)
        .map_err(|_| Status::invalid_argument("number: is not in international form"))?;
    let extension = bounded(&request.extension, 32);
    let now_ms = store.clock().now_ms();
    let mut session = store.database().write().await?;
    let head = audit::lock(&mut session).await?;
    let username = users::enabled_username(&mut session, &request.user_id).await?;
    let sql = "SELECT phone, own_phone, backup_phone FROM users WHERE user_id = $1";
    let row = session.row(sql, args![&request.user_id]).await?;
    let row = row.ok_or_else(|| Status::not_found("no such user"))?;
    let (field, before): (_, String) = match request.backup {
        true => ("backup phone", row.get("backup_phone")?),
        false => match row.get::<String>("own_phone")? {
            own if own.is_empty() => ("phone", row.get("phone")?),
            own => ("phone", own),
        },
    };
    // To the address as it was: whoever changed the number may not read the mail about it elsewhere.
    let mail = NewMail::to_user(&mut session, "phone_changed", &request.user_id).await?;
    let sql = match request.backup {
        true => {
            "UPDATE users SET backup_phone = $1, backup_extension = $2, epoch = epoch + 1, revision = revision + 1, \
             changed_ms = $3, by_hand = CASE WHEN ',' || by_hand || ',' LIKE '%,backup_phone,%' THEN by_hand \
             WHEN by_hand = '' THEN 'backup_phone' ELSE by_hand || ',backup_phone' END WHERE user_id = $4"
        }
        false => {
            "UPDATE users SET own_phone = $1, own_extension = $2, epoch = epoch + 1, revision = revision + 1, \
             changed_ms = $3 WHERE user_id = $4"
        }
    };
    session.execute(sql, args![number.expose(), extension, now_ms, &request.user_id]).await?;
    let detail = format!("{field}: {} -> {}", users::number_shown(&before), users::number_shown(number.expose()));
    let event = NewEvent::administrative(now_ms, "user.phone", &request.actor, detail);
    if let Some(mail) = mail {
        let mail = mail.with("phone_masked", number.masked());
        outbox::put_in(&mut session, store.seal(), mail, now_ms).await?;
    }
    audit::append(&mut session, head, vec![event.about(&request.user_id, &username)]).await?;
    session.commit().await?;
    store.teller().user_changed(&request.user_id);
    Ok(SetPhoneReply {})
}
