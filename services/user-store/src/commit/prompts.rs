//! Open questions to a person's phone: one a user, limited, answered once (V-21, V-23).
//!
//! ```text
//! open --approved | denied | cancelled | fraud | wrong_number | wrong_pin | locked_out | withdrawn | a technical reason--> resolved --Allow--> spent
//!      --time--> expired
//! ```
//!
//! Opening and resolving are steps of the group: under the chain's lock, durable with many others at once. An open prompt past
//! its time counts as expired from that moment; it is written down by whoever meets it next.

use super::caps;
use super::group::{Answer, Scene, Step};
use super::limits::{self, Limits, Past};
use crate::Store;
use crate::audit::{NewEvent, printable};
use crate::outbox::{self, NewMail};
use crate::rpc::{StoreError, bounded, id};
use crate::sql::{Row, args};
use crate::users;
use domain::{Assurance, Method, Reason};
use proto::user_store::{
    GetPromptsReply, GetPromptsRequest, OpenPromptReply, OpenPromptRequest, Prompt, PromptResult, ResolvePromptReply,
    ResolvePromptRequest, UpdatePromptReply, UpdatePromptRequest, UserPromptsRequest,
};
use tonic::Status;

/// A prompt lives as long as a client waits, and never longer than this.
const LIFE_MS_MAX: i64 = 10 * 60_000;
/// Prompts of the past that the limits look at: more than the highest daily cap.
const PAST_MAX: i64 = 600;
/// Prompts read by one call.
const READ_MAX: usize = 1000;
const STATE_OCTETS_MAX: usize = 64 * 1024;

const COLUMNS: &str = "prompt_id, transaction_id, user_id, method, client, application, username, place, number, device_id, \
    pin_asked, language, begun_ms, expires_ms, outcome, answered_by, answered_ms, assurance, answer_digest, pin_handle, state, \
    revision";

/// An answer, with the outcome checked.
#[derive(Clone)]
pub struct Resolve {
    request: ResolvePromptRequest,
}

pub async fn open_prompt(store: &Store, mut request: OpenPromptRequest) -> Result<OpenPromptReply, StoreError> {
    request.now_unix_ms = store.at(request.now_unix_ms);
    let prompt = request.prompt.take().ok_or_else(|| Status::invalid_argument("prompt is missing"))?;
    request.prompt = Some(clean(prompt, request.now_unix_ms)?);
    request.phone_prefix = bounded(&request.phone_prefix, 32);
    match store.group().step(Step::OpenPrompt(request)).await? {
        Answer::PromptOpened(reply) => Ok(*reply),
        _ => Err(StoreError::Broken("an answer of another kind")),
    }
}

pub async fn resolve_prompt(
    store: &Store,
    mut request: ResolvePromptRequest,
) -> Result<ResolvePromptReply, StoreError> {
    request.now_unix_ms = store.at(request.now_unix_ms);
    id("prompt_id", &request.prompt_id)?;
    let known = matches!(
        request.outcome.as_str(),
        "approved"
            | "denied"
            | "cancelled"
            | "fraud"
            | "wrong_number"
            | "wrong_pin"
            | "locked_out"
            | "expired"
            | "withdrawn"
    );
    let reason = Reason::from_code(&request.outcome);
    // A technical failure is told by its reason; whatever else a reason says is no outcome of a prompt.
    let technical = reason.code() == request.outcome && (reason.is_technical() || reason == Reason::HungUp);
    if !known && !technical && request.outcome != Reason::InternalError.code() {
        return Err(Status::invalid_argument("outcome: no outcome of a prompt").into());
    }
    if !request.assurance.is_empty() && Assurance::from_code(&request.assurance).is_none() {
        return Err(Status::invalid_argument("assurance: no code of domain::Assurance").into());
    }
    if request.answer_digest.len() > 64 {
        return Err(Status::invalid_argument("answer_digest: at most 64 octets").into());
    }
    let until = request.block_until_unix_ms;
    if until != 0 && (request.outcome != "fraud" || (until > 0 && until <= request.now_unix_ms)) {
        return Err(Status::invalid_argument("block_until_unix_ms: -1, 0 or a time to come, for fraud").into());
    }
    if let Some(count) = &request.passkey_count {
        id("device_id", &request.device_id)?;
        if count.before_json.is_empty() || !(1..=STATE_OCTETS_MAX).contains(&count.after_json.len()) {
            return Err(Status::invalid_argument("passkey_count: both are credentials").into());
        }
    }
    request.answered_by = printable(&request.answered_by, 128);
    request.pin_handle = bounded(&request.pin_handle, 64);
    match store.group().step(Step::ResolvePrompt(Resolve { request })).await? {
        Answer::PromptResolved(reply) => Ok(*reply),
        _ => Err(StoreError::Broken("an answer of another kind")),
    }
}

pub async fn get_prompts(store: &Store, request: GetPromptsRequest) -> Result<GetPromptsReply, StoreError> {
    let (column, ids) = match request.prompt_ids.is_empty() {
        false => ("prompt_id", &request.prompt_ids),
        true => ("transaction_id", &request.transaction_ids),
    };
    if ids.len() > READ_MAX {
        return Err(Status::invalid_argument(format!("at most {READ_MAX} prompts at once")).into());
    }
    let mut session = store.database().read().await?;
    let head = format!("SELECT {COLUMNS} FROM prompts WHERE {column} IN");
    let rows = session.rows_in(&head, ids.iter().map(String::as_str), "", &[]).await?;
    let mut prompts = rows.iter().map(prompt).collect::<Result<Vec<_>, _>>()?;
    prompts.sort_by(|one, other| (one.begun_unix_ms, &one.prompt_id).cmp(&(other.begun_unix_ms, &other.prompt_id)));
    Ok(GetPromptsReply { prompts })
}

pub async fn user_prompts(store: &Store, request: UserPromptsRequest) -> Result<GetPromptsReply, StoreError> {
    let now_ms = store.at(request.now_unix_ms);
    let mut session = store.database().read().await?;
    let sql = format!("SELECT {COLUMNS} FROM prompts WHERE user_id = $1 AND outcome = '' AND expires_ms > $2");
    let rows = session.rows_of(sql, args![&request.user_id, now_ms]).await?;
    let prompts = rows.iter().map(prompt).collect::<Result<Vec<_>, _>>()?;
    let wanted = |prompt: &Prompt| request.method.is_empty() || prompt.method == request.method;
    Ok(GetPromptsReply { prompts: prompts.into_iter().filter(wanted).collect() })
}

pub async fn update_prompt(store: &Store, request: UpdatePromptRequest) -> Result<UpdatePromptReply, StoreError> {
    id("prompt_id", &request.prompt_id)?;
    if request.state_json.len() > STATE_OCTETS_MAX {
        return Err(Status::invalid_argument("state_json: more than 64 KiB").into());
    }
    let mut session = store.database().write().await?;
    let sql = "UPDATE prompts SET state = $1, revision = revision + 1 WHERE prompt_id = $2 AND revision = $3";
    let arguments = args![&request.state_json, &request.prompt_id, request.expected_revision];
    let updated = session.execute(sql, arguments).await? == 1;
    let sql = format!("SELECT {COLUMNS} FROM prompts WHERE prompt_id = $1");
    let rows = session.rows_of(sql, args![&request.prompt_id]).await?;
    let row = rows.first().ok_or_else(|| Status::not_found("no such prompt"))?;
    let prompt = Some(prompt(row)?);
    session.commit().await?;
    Ok(UpdatePromptReply { updated, prompt })
}

/// A prompt as it may be stored, open.
fn clean(prompt: Prompt, now_ms: i64) -> Result<Prompt, Status> {
    id("prompt.transaction_id", &prompt.transaction_id)?;
    id("prompt.user_id", &prompt.user_id)?;
    let prompt_id = match prompt.prompt_id.is_empty() {
        true => uuid::Uuid::now_v7().to_string(),
        false => prompt.prompt_id,
    };
    id("prompt.prompt_id", &prompt_id)?;
    if !Method::from_code(&prompt.method).is_some_and(Method::is_out_of_band) {
        return Err(Status::invalid_argument("prompt.method: push, call and sms_reply ask"));
    }
    if prompt.state_json.len() > STATE_OCTETS_MAX {
        return Err(Status::invalid_argument("prompt.state_json: more than 64 KiB"));
    }
    if prompt.expires_unix_ms <= now_ms {
        return Err(Status::invalid_argument("prompt.expires_unix_ms: is over"));
    }
    Ok(Prompt {
        prompt_id,
        client: printable(&prompt.client, 64),
        application: printable(&prompt.application, 128),
        username: printable(&prompt.username, 256),
        place: printable(&prompt.place, 256),
        number: bounded(&prompt.number, 8),
        device_id: bounded(&prompt.device_id, 64),
        language: bounded(&prompt.language, 35),
        begun_unix_ms: now_ms,
        expires_unix_ms: prompt.expires_unix_ms.min(now_ms.saturating_add(LIFE_MS_MAX)),
        outcome: String::new(),
        answered_by: String::new(),
        assurance: String::new(),
        answered_unix_ms: 0,
        pin_handle: String::new(),
        revision: 1,
        ..prompt
    })
}

/// V-23. Decided and counted at once; asked again by the same attempt it is the same prompt (V-02).
pub async fn open(scene: &mut Scene<'_>, request: &OpenPromptRequest) -> Result<OpenPromptReply, StoreError> {
    let Some(new) = &request.prompt else { return Err(Status::invalid_argument("prompt is missing").into()) };
    let now_ms = request.now_unix_ms;
    let sql = format!(
        "SELECT {COLUMNS} FROM prompts WHERE transaction_id = $1 AND method = $2 ORDER BY begun_ms DESC, prompt_id LIMIT 1"
    );
    if let Some(row) = scene.session.rows_of(sql, args![&new.transaction_id, &new.method]).await?.first() {
        let known = prompt(row)?;
        if known.user_id != new.user_id {
            return Err(Status::invalid_argument("the attempt is another user's").into());
        }
        return Ok(OpenPromptReply { result: PromptResult::Joined.into(), until_unix_ms: 0, prompt: Some(known) });
    }
    users::may_enter(scene.session, &new.user_id, now_ms).await?;
    let refused = |result: PromptResult, until_ms| {
        Ok(OpenPromptReply { result: result.into(), until_unix_ms: until_ms, prompt: None })
    };
    let sql = "SELECT method, outcome, begun_ms, answered_ms, expires_ms FROM prompts WHERE user_id = $1 AND begun_ms > $2 \
               ORDER BY begun_ms DESC LIMIT $3";
    let arguments = args![&new.user_id, now_ms - limits::DAY_MS, PAST_MAX];
    let mut past = Vec::new();
    for row in scene.session.rows(sql, arguments).await? {
        past.push(Past {
            is_call: row.get::<String>("method")? == Method::Call.code(),
            outcome: row.get("outcome")?,
            begun_ms: row.get("begun_ms")?,
            answered_ms: row.get("answered_ms")?,
            expires_ms: row.get("expires_ms")?,
        });
    }
    let limits = Limits::of(request, new.method == Method::Call.code());
    if let Some((result, until_ms)) = limits.refuse(&mut past, now_ms) {
        return refused(result, until_ms);
    }
    if let Some(until_ms) = caps::count(scene.session, &caps::Asked::of_prompt(request), now_ms).await? {
        return refused(PromptResult::RateLimited, until_ms);
    }
    let sql = "UPDATE prompts SET outcome = 'expired', answered_ms = expires_ms, revision = revision + 1 \
               WHERE user_id = $1 AND outcome = ''";
    scene.session.execute(sql, args![&new.user_id]).await?;
    let sql = "INSERT INTO prompts (prompt_id, transaction_id, user_id, method, client, application, username, place, number, \
               device_id, pin_asked, language, begun_ms, expires_ms, outcome, answered_by, answered_ms, assurance, \
               answer_digest, pin_handle, spent, state, revision) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, '', '', 0, '', $15, '', FALSE, $16, 1)";
    let arguments = args![
        &new.prompt_id,
        &new.transaction_id,
        &new.user_id,
        &new.method,
        &new.client,
        &new.application,
        &new.username,
        &new.place,
        &new.number,
        &new.device_id,
        new.pin_asked,
        &new.language,
        new.begun_unix_ms,
        new.expires_unix_ms,
        Vec::new(),
        &new.state_json,
    ];
    scene.session.execute(sql, arguments).await?;
    Ok(OpenPromptReply { result: PromptResult::Opened.into(), until_unix_ms: 0, prompt: Some(new.clone()) })
}

/// V-21: once. The same answer again hears the same; any other, or a late one, changes nothing.
pub async fn resolve(scene: &mut Scene<'_>, asked: &Resolve) -> Result<ResolvePromptReply, StoreError> {
    let request = &asked.request;
    let now_ms = request.now_unix_ms;
    let sql = format!("SELECT {COLUMNS} FROM prompts WHERE prompt_id = $1");
    let rows = scene.session.rows_of(sql, args![&request.prompt_id]).await?;
    let row = rows.first().ok_or_else(|| Status::not_found("no such prompt"))?;
    let mut prompt = prompt(row)?;
    if !prompt.outcome.is_empty() {
        let same = prompt.outcome == request.outcome && row.get::<Vec<u8>>("answer_digest")? == request.answer_digest;
        return Ok(ResolvePromptReply { taken: same, prompt: Some(prompt) });
    }
    let late = now_ms >= prompt.expires_unix_ms;
    if !late && !counted(scene, &prompt, request).await? {
        return Ok(ResolvePromptReply { taken: false, prompt: Some(prompt) });
    }
    let taken = !late || request.outcome == "expired";
    prompt.outcome = if late { "expired".into() } else { request.outcome.clone() };
    prompt.answered_unix_ms = if late { prompt.expires_unix_ms } else { now_ms };
    prompt.revision += 1;
    if !late {
        prompt.answered_by.clone_from(&request.answered_by);
        prompt.assurance.clone_from(&request.assurance);
        prompt.pin_handle.clone_from(&request.pin_handle);
    }
    let digest = if late { Vec::new() } else { request.answer_digest.clone() };
    let sql = "UPDATE prompts SET outcome = $1, answered_by = $2, answered_ms = $3, assurance = $4, answer_digest = $5, \
               pin_handle = $6, revision = revision + 1 WHERE prompt_id = $7 AND outcome = ''";
    let arguments = args![
        &prompt.outcome,
        &prompt.answered_by,
        prompt.answered_unix_ms,
        &prompt.assurance,
        digest,
        &prompt.pin_handle,
        &prompt.prompt_id,
    ];
    if scene.session.execute(sql, arguments).await? != 1 {
        return Err(StoreError::Overtaken);
    }
    match prompt.outcome.as_str() {
        "fraud" => report(scene, &prompt, request).await?,
        "denied" => {
            // V-52: whoever says no does not want an earlier yes to count any longer.
            let sql = "UPDATE users SET epoch = epoch + 1 WHERE user_id = $1";
            scene.session.execute(sql, args![&prompt.user_id]).await?;
            scene.changed_users.push(prompt.user_id.clone());
        }
        _ => {}
    }
    Ok(ResolvePromptReply { taken, prompt: Some(prompt) })
}

/// The new count of the passkey that signed. `false`: it is not any more as it was when the signature was checked.
async fn counted(scene: &mut Scene<'_>, prompt: &Prompt, request: &ResolvePromptRequest) -> Result<bool, StoreError> {
    let Some(count) = &request.passkey_count else { return Ok(true) };
    let sql = "UPDATE devices SET passkey = $1 WHERE device_id = $2 AND user_id = $3 AND passkey = $4";
    let arguments = args![&count.after_json, &request.device_id, &prompt.user_id, &count.before_json];
    Ok(scene.session.execute(sql, arguments).await? == 1)
}

/// "This was not me" (FV-26): blocked until then, told to those who watch, all with the answer in one transaction.
async fn report(scene: &mut Scene<'_>, prompt: &Prompt, request: &ResolvePromptRequest) -> Result<(), StoreError> {
    let now_ms = request.now_unix_ms;
    let until_ms = request.block_until_unix_ms;
    // Somebody erased has no row: then there is nobody to block.
    let sql = "SELECT username, blocked_until_ms FROM users WHERE user_id = $1";
    let Some(row) = scene.session.row(sql, args![&prompt.user_id]).await? else { return Ok(()) };
    let username: String = row.get("username")?;
    let before_ms: i64 = row.get("blocked_until_ms")?;
    let told = format!("reported by {}, asked by {}", prompt.answered_by, prompt.client);
    // A longer block stays as it is.
    let longer = users::is_blocked(before_ms, now_ms) && (before_ms < 0 || (until_ms > 0 && before_ms >= until_ms));
    let blocks = until_ms != 0 && !longer;
    if blocks {
        let sql = "UPDATE users SET blocked_until_ms = $1, blocked_since_ms = $2, blocked_by = $3, blocked_text = $4, \
                   changed_ms = $2, revision = revision + 1 WHERE user_id = $5";
        let arguments = args![until_ms, now_ms, "self", &told, &prompt.user_id];
        scene.session.execute(sql, arguments).await?;
    }
    let sql = "UPDATE users SET epoch = epoch + 1 WHERE user_id = $1";
    scene.session.execute(sql, args![&prompt.user_id]).await?;
    // Blocked or not: whoever has the password may sit in the portal already.
    users::end_sessions(scene.session, &prompt.user_id).await?;
    let until = users::until_text(until_ms);
    let event = match until_ms {
        0 => NewEvent::administrative(now_ms, "user.fraud_reported", "self", told),
        _ => NewEvent::administrative(now_ms, "user.blocked", "self", format!("fraud, until {until}: {told}")),
    };
    scene.events.push(event.about(&prompt.user_id, &username));
    let mail = NewMail::to_administrators("fraud").with("username", &username).with("application", &prompt.application);
    let mail = mail.with("place", &prompt.place).with("until", &until).once(format!("fraud:{}", prompt.prompt_id));
    outbox::put_in(scene.session, scene.seal, mail, now_ms).await?;
    if blocks && let Some(mail) = NewMail::to_user(scene.session, "blocked", &prompt.user_id).await? {
        let mail = mail.with("until", &until).with("application", &prompt.application);
        let mail = mail.once(format!("blocked:{}", prompt.prompt_id));
        outbox::put_in(scene.session, scene.seal, mail, now_ms).await?;
    }
    scene.changed_users.push(prompt.user_id.clone());
    Ok(())
}

fn prompt(row: &Row) -> Result<Prompt, StoreError> {
    Ok(Prompt {
        prompt_id: row.get("prompt_id")?,
        transaction_id: row.get("transaction_id")?,
        user_id: row.get("user_id")?,
        method: row.get("method")?,
        client: row.get("client")?,
        application: row.get("application")?,
        username: row.get("username")?,
        place: row.get("place")?,
        number: row.get("number")?,
        begun_unix_ms: row.get("begun_ms")?,
        expires_unix_ms: row.get("expires_ms")?,
        outcome: row.get("outcome")?,
        answered_by: row.get("answered_by")?,
        assurance: row.get("assurance")?,
        pin_asked: row.get("pin_asked")?,
        language: row.get("language")?,
        state_json: row.get("state")?,
        revision: row.unsigned("revision")?,
        device_id: row.get("device_id")?,
        answered_unix_ms: row.get("answered_ms")?,
        pin_handle: row.get("pin_handle")?,
    })
}
