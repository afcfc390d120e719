//! Code factors: added and proven, put right by codes in a row, found by a code.

use crate::Store;
use crate::audit::{self, NewEvent};
use crate::commit::decide::DRIFT_MAX;
use crate::facts::code_factor;
use crate::places;
use crate::rpc::StoreError;
use crate::sql::args;
use crate::users;
use domain::{CodeForm, Method};
use proto::user_store::{
    AddPendingFactorReply, AddPendingFactorRequest, CodeFactor, ConfirmFactorReply, ConfirmFactorRequest,
    ListSeedsReply, ListSeedsRequest, ResyncFactorReply, ResyncFactorRequest,
};
use tonic::Status;

/// Factors a user may have.
const FACTORS_MAX: i64 = 10;

/// Tokens of a page.
const PAGE_MAX: u32 = 1000;
const PAGE_DEFAULT: u32 = 200;

/// What a factor may look like; its kind.
fn checked(factor: &CodeFactor) -> Result<&'static str, Status> {
    let algorithm = domain::CodeAlgorithm::from_code(&factor.algorithm)
        .ok_or_else(|| Status::invalid_argument("factor.algorithm: allowed are SHA1, SHA256, SHA512"))?;
    // A counter has no period; its digits are held to the same rule.
    let (kind, period_seconds) = match (factor.kind.as_str(), factor.period_seconds) {
        ("" | "totp", seconds) => ("totp", seconds),
        ("hotp", 0) => ("hotp", 30),
        ("hotp", _) => return Err(Status::invalid_argument("factor.period_seconds: a counter has none")),
        _ => return Err(Status::invalid_argument("factor.kind: allowed are totp, hotp")),
    };
    let form = CodeForm::new(algorithm, factor.digits, period_seconds);
    form.map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok(kind)
}

pub async fn add_pending(store: &Store, request: AddPendingFactorRequest) -> Result<AddPendingFactorReply, StoreError> {
    let AddPendingFactorRequest { user_id, factor, actor } = request;
    let factor = factor.ok_or_else(|| Status::invalid_argument("factor is missing"))?;
    let kind = checked(&factor)?;
    let seed = factor.seed.filter(|seed| (16..=64).contains(&seed.value.len()));
    let seed = seed.ok_or_else(|| Status::invalid_argument("factor.seed: allowed are 16 to 64 octets"))?;
    let last_step = match kind {
        "hotp" => i64::try_from(factor.next_counter).unwrap_or(i64::MAX).saturating_sub(1),
        _ => -1,
    };
    let now_ms = store.clock().now_ms();
    let mut session = store.database().write().await?;
    let head = audit::lock(&mut session).await?;
    let username = users::enabled_username(&mut session, &user_id).await?;
    let held = "SELECT COUNT(*) AS held FROM factors WHERE user_id = $1 AND NOT pending";
    let held = session.row(held, args![&user_id]).await?;
    if held.map_or(Ok(0), |row| row.get::<i64>("held"))? >= FACTORS_MAX {
        return Err(Status::failed_precondition(format!("the user has {FACTORS_MAX} factors already")).into());
    }
    // A token that was assigned and not proven yet is no older attempt of this.
    let sql = "DELETE FROM factors WHERE user_id = $1 AND serial_key = '' AND pending";
    session.execute(sql, args![&user_id]).await?;
    let factor_id = uuid::Uuid::new_v4().to_string();
    let owner = places::owned(&user_id, &factor_id);
    let sealed = store.seal().seal_field(places::seed(&owner), &seed.value)?;
    let sql = "INSERT INTO factors (factor_id, user_id, kind, serial, serial_key, manufacturer, model, algorithm, digits, \
               period_seconds, seed, pending, last_step, drift, failures, open_ms, created_ms, last_used_ms, revision) \
               VALUES ($1, $2, $3, '', '', '', '', $4, $5, $6, $7, $8, $9, 0, 0, 0, $10, 0, 1)";
    let arguments = args![
        &factor_id,
        &user_id,
        kind,
        &factor.algorithm,
        factor.digits,
        factor.period_seconds,
        sealed,
        true,
        last_step,
        now_ms,
    ];
    session.execute(sql, arguments).await?;
    let event = NewEvent::administrative(now_ms, "factor.added", &actor, format!("code {factor_id}, not yet proven"));
    audit::append(&mut session, head, vec![event.about(&user_id, &username)]).await?;
    session.commit().await?;
    store.teller().user_changed(&user_id);
    Ok(AddPendingFactorReply { factor_id })
}

pub async fn confirm(store: &Store, request: ConfirmFactorRequest) -> Result<ConfirmFactorReply, StoreError> {
    let ConfirmFactorRequest { user_id, factor_id, step, actor, now_unix_ms } = request;
    let now_ms = store.at(now_unix_ms);
    let mut session = store.database().write().await?;
    let head = audit::lock(&mut session).await?;
    let username = users::enabled_username(&mut session, &user_id).await?;
    let sql = "UPDATE factors SET pending = $1, last_step = $2, failures = 0, open_ms = 0, last_used_ms = $3, \
               revision = revision + 1 WHERE factor_id = $4 AND user_id = $5 AND pending AND last_step < $6";
    if session.execute(sql, args![false, step, now_ms, &factor_id, &user_id, step]).await? != 1 {
        return Ok(ConfirmFactorReply { confirmed: false });
    }
    super::devices::method_added(&mut session, store, &user_id, Method::Code, now_ms).await?;
    let event = NewEvent::administrative(now_ms, "factor.confirmed", &actor, format!("code {factor_id}"));
    audit::append(&mut session, head, vec![event.about(&user_id, &username)]).await?;
    session.commit().await?;
    store.teller().user_changed(&user_id);
    Ok(ConfirmFactorReply { confirmed: true })
}

/// Never back: the codes given are spent with it (V-11, V-13).
pub async fn resync_factor(store: &Store, request: ResyncFactorRequest) -> Result<ResyncFactorReply, StoreError> {
    let now_ms = store.at(request.now_unix_ms);
    let step = i64::try_from(request.step).map_err(|_| Status::invalid_argument("step: beyond all time"))?;
    if !(-DRIFT_MAX..=DRIFT_MAX).contains(&request.drift) {
        return Err(Status::invalid_argument(format!("drift: at most {DRIFT_MAX} steps")).into());
    }
    let mut session = store.database().write().await?;
    let head = audit::lock(&mut session).await?;
    let username = users::enabled_username(&mut session, &request.user_id).await?;
    let sql = "UPDATE factors SET last_step = $1, drift = CASE WHEN kind = 'totp' THEN $2 ELSE 0 END, failures = 0, open_ms = 0, \
               revision = revision + 1 WHERE factor_id = $3 AND user_id = $4 AND last_step < $1";
    let arguments = args![step, i64::from(request.drift), &request.factor_id, &request.user_id];
    if session.execute(sql, arguments).await? != 1 {
        return Ok(ResyncFactorReply { done: false });
    }
    let detail = format!("code {}, drift {}", request.factor_id, request.drift);
    let event = NewEvent::administrative(now_ms, "factor.resynced", &request.actor, detail);
    audit::append(&mut session, head, vec![event.about(&request.user_id, &username)]).await?;
    session.commit().await?;
    store.teller().user_changed(&request.user_id);
    Ok(ResyncFactorReply { done: true })
}

/// Hardware tokens, whoever has them, in the order of their serials.
pub async fn list_seeds(store: &Store, request: ListSeedsRequest) -> Result<ListSeedsReply, StoreError> {
    let limit = if request.limit == 0 { PAGE_DEFAULT } else { request.limit.min(PAGE_MAX) };
    let sql = "SELECT factor_id, user_id, kind, serial, serial_key, algorithm, digits, period_seconds, seed, last_step, drift, \
               pending FROM factors WHERE serial_key <> '' AND serial_key > $1 ORDER BY serial_key LIMIT $2";
    let mut rows = store.database().read().await?.rows(sql, args![&request.after, limit + 1]).await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = match rows.last().filter(|_| more) {
        Some(row) => row.get("serial_key")?,
        None => String::new(),
    };
    let tokens = rows.iter().map(|row| code_factor(store.seal(), row, &row.get::<String>("user_id")?));
    Ok(ListSeedsReply { tokens: tokens.collect::<Result<_, _>>()?, next })
}
