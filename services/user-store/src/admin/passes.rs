//! One-time bypass and temporary code of the help desk (V-53). Each needs a reason, ends, and is told to the user; neither lifts
//! a block, a lock or a disabled state.

use super::change::{Change, reason};
use crate::Store;
use crate::hashing::{self, Purpose};
use crate::rpc::StoreError;
use crate::seal;
use crate::sql::args;
use crate::users::{is_blocked, until_text};

use proto::user_store::{
    EndBypassRequest, IssueTemporaryCodeReply, IssueTemporaryCodeRequest, StartBypassReply, StartBypassRequest,
    UserDetail,
};
use tonic::Status;

const BYPASS_SECONDS: u32 = 300;
const CODE_SECONDS: u32 = 3600;
const CODE_DIGITS: usize = 9;

/// The user's next login, at one client or any, on the password alone (FV-28).
pub async fn start_bypass(store: &Store, request: StartBypassRequest) -> Result<StartBypassReply, StoreError> {
    let reason = reason(&request.reason)?;
    let mut change = Change::begin(store, &request.user_id, &request.actor).await?;
    may_get_one(&change)?;
    let rules = store.rules().current(&mut change.session).await?;
    let seconds = if request.seconds == 0 { BYPASS_SECONDS } else { request.seconds };
    let seconds_max = rules.verification.bypass_max_seconds;
    if !(1..=seconds_max).contains(&seconds) {
        let text =
            format!("seconds: found {seconds}; allowed are 1 to {seconds_max} (verification.bypass_max_seconds)");
        return Err(Status::invalid_argument(text).into());
    }
    if !request.client.is_empty() && rules.client(&request.client).is_none() {
        return Err(Status::invalid_argument("client: no client of the settings has this name").into());
    }
    let now_ms = change.now_ms;
    let sql = "DELETE FROM bypasses WHERE user_id = $1 AND expires_ms <= $2";
    change.session.execute(sql, args![&change.user_id, now_ms]).await?;
    let sql = "SELECT expires_ms FROM bypasses WHERE user_id = $1 LIMIT 1";
    if let Some(row) = change.session.row(sql, args![&change.user_id]).await? {
        let text = format!("a bypass is open until {}; end it first", until_text(row.get("expires_ms")?));
        return Err(Status::failed_precondition(text).into());
    }
    let (bypass_id, expires_ms) = (uuid::Uuid::new_v4().to_string(), now_ms + i64::from(seconds) * 1000);
    let sql = "INSERT INTO bypasses (bypass_id, user_id, client, expires_ms, created_ms, made_by, text) \
               VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let arguments = args![&bypass_id, &change.user_id, &request.client, expires_ms, now_ms, &change.actor, &reason];
    change.session.execute(sql, arguments).await?;
    let place = if request.client.is_empty() { "any client" } else { request.client.as_str() };
    change.note("bypass.started", format!("{bypass_id}: {place}, {seconds} s ({reason})"));
    change.mail("bypass_issued", &[("reason", &reason), ("until", &until_text(expires_ms))]).await?;
    change.finish().await?;
    Ok(StartBypassReply { bypass_id, expires_unix_ms: expires_ms })
}

fn may_get_one(change: &Change<'_>) -> Result<(), StoreError> {
    change.must_be_enabled()?;
    match is_blocked(change.row.get("blocked_until_ms")?, change.now_ms) {
        true => Err(Status::failed_precondition("the user is blocked; unblock them first").into()),
        false => Ok(()),
    }
}

/// Ends a bypass or a temporary code before its time.
pub async fn end_bypass(store: &Store, request: EndBypassRequest) -> Result<UserDetail, StoreError> {
    let mut change = Change::begin(store, &request.user_id, &request.actor).await?;
    let of_user = || args![&request.bypass_id, &request.user_id];
    let sql = "DELETE FROM bypasses WHERE bypass_id = $1 AND user_id = $2";
    let mut ended = ("bypass.ended", change.session.execute(sql, of_user()).await?);
    if ended.1 == 0 {
        let sql = "DELETE FROM hashed WHERE hashed_id = $1 AND user_id = $2 AND kind = 'temporary'";
        ended = ("temporary_code.ended", change.session.execute(sql, of_user()).await?);
    }
    if ended.1 == 0 {
        return Err(Status::not_found("the user has no such bypass and no such temporary code").into());
    }
    change.note(ended.0, &*request.bypass_id);
    change.finish().await
}

/// Nine digits in place of the factor, a few times and for a while (FV-29). A new one ends the one before.
pub async fn issue_temporary_code(
    store: &Store,
    request: IssueTemporaryCodeRequest,
) -> Result<IssueTemporaryCodeReply, StoreError> {
    let reason = reason(&request.reason)?;
    let uses = if request.uses == 0 { 1 } else { request.uses };
    if !(1..=10).contains(&uses) {
        return Err(Status::invalid_argument(format!("uses: found {uses}; allowed are 1 to 10")).into());
    }
    let seconds = if request.seconds == 0 { CODE_SECONDS } else { request.seconds };
    if !(300..=86_400).contains(&seconds) {
        return Err(Status::invalid_argument(format!("seconds: found {seconds}; allowed are 300 to 86400")).into());
    }
    let code = seal::digits::<CODE_DIGITS>();
    let purpose = Purpose { user_id: &request.user_id, kind: "temporary", label: "" };
    let salt = hashing::salt();
    let hash = store.hasher().hash(purpose, &salt, &code).await?;

    let mut change = Change::begin(store, &request.user_id, &request.actor).await?;
    may_get_one(&change)?;
    let now_ms = change.now_ms;
    let expires_ms = now_ms + i64::from(seconds) * 1000;
    for sql in [
        "DELETE FROM hashed WHERE user_id = $1 AND kind = 'temporary'",
        // Wrong tries at the code before say nothing about this one.
        "DELETE FROM secret_states WHERE user_id = $1 AND kind = 'temporary'",
    ] {
        change.session.execute(sql, args![&change.user_id]).await?;
    }
    let hashed_id = uuid::Uuid::now_v7().to_string();
    let sql = "INSERT INTO hashed (hashed_id, user_id, kind, label, salt, hash, uses_left, expires_ms, created_ms, made_by, text) \
               VALUES ($1, $2, 'temporary', '', $3, $4, $5, $6, $7, $8, $9)";
    let arguments =
        args![&hashed_id, &change.user_id, salt.as_slice(), hash, uses, expires_ms, now_ms, &change.actor, &reason];
    change.session.execute(sql, arguments).await?;
    change.note("temporary_code.issued", format!("{hashed_id}: {uses} uses, {seconds} s ({reason})"));
    change.mail("bypass_issued", &[("reason", &reason), ("until", &until_text(expires_ms))]).await?;
    change.finish().await?;
    Ok(IssueTemporaryCodeReply { code: Some(code.into()), expires_unix_ms: expires_ms })
}
