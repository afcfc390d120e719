//! The stock of hardware tokens: assignment and end (FV-07). A token is a factor with a serial; while nobody has it, its user is
//! empty. Its seed is sealed to the user who has it, so that each change of hands seals it anew.

use super::change::Change;
use super::{actor, page};
use crate::Store;
use crate::audit::{self, NewEvent};
use crate::places;
use crate::rpc::StoreError;
use crate::sql::{Arg, Row, Session, args, like_literal};
use crate::users::{self, small};
use proto::user_store::{
    AssignTokenRequest, ListTokensReply, ListTokensRequest, RevokeTokenReply, RevokeTokenRequest, TokenSummary,
    UnassignTokenRequest,
};
use tonic::Status;

/// Factors a user may have.
pub const FACTORS_MAX: i64 = 10;

const SUMMARY: &str = "SELECT f.factor_id AS factor_id, f.serial AS serial, f.serial_key AS serial_key, f.kind AS kind, \
    f.algorithm AS algorithm, f.digits AS digits, f.period_seconds AS period_seconds, f.manufacturer AS manufacturer, \
    f.model AS model, f.user_id AS user_id, COALESCE(u.username, '') AS username, f.pending AS pending, \
    f.created_ms AS created_ms, f.last_used_ms AS last_used_ms, f.seed AS seed FROM factors f \
    LEFT JOIN users u ON u.user_id = f.user_id";

/// A serial as it is compared.
pub fn serial_key(serial: &str) -> String {
    serial.trim().to_ascii_uppercase()
}

pub async fn list_tokens(store: &Store, request: ListTokensRequest) -> Result<ListTokensReply, StoreError> {
    let limit = page(request.limit);
    let mut sql = format!("{SUMMARY} WHERE f.serial_key > $1");
    let mut arguments = args![&request.after];
    if !request.search.is_empty() {
        let part = like_literal(&serial_key(&request.search));
        arguments.push(Arg::from(format!("%{part}%")));
        sql += " AND f.serial_key LIKE $2 ESCAPE '\\'";
    }
    match request.state.as_str() {
        "" => {}
        "assigned" => sql += " AND f.user_id <> ''",
        "unassigned" => sql += " AND f.user_id = ''",
        _ => return Err(Status::invalid_argument("state: allowed are assigned, unassigned").into()),
    }
    arguments.push(Arg::from(limit + 1));
    sql += &format!(" ORDER BY f.serial_key LIMIT ${}", arguments.len());
    let mut rows = store.database().read().await?.rows_of(sql, arguments).await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = match rows.last().filter(|_| more) {
        Some(row) => row.get("serial_key")?,
        None => String::new(),
    };
    Ok(ListTokensReply { tokens: rows.iter().map(summary).collect::<Result<_, _>>()?, next })
}

fn summary(row: &Row) -> Result<TokenSummary, sqlx::Error> {
    let user_id: String = row.get("user_id")?;
    Ok(TokenSummary {
        factor_id: row.get("factor_id")?,
        serial: row.get("serial")?,
        kind: row.get("kind")?,
        algorithm: row.get("algorithm")?,
        digits: small(row, "digits")?,
        period_seconds: small(row, "period_seconds")?,
        manufacturer: row.get("manufacturer")?,
        model: row.get("model")?,
        pending: row.get::<bool>("pending")? && !user_id.is_empty(),
        user_id,
        username: row.get("username")?,
        created_unix_ms: row.get("created_ms")?,
        last_used_unix_ms: row.get("last_used_ms")?,
    })
}

async fn token(session: &mut Session, serial: &str) -> Result<Row, StoreError> {
    let rows = session.rows_of(format!("{SUMMARY} WHERE f.serial_key = $1"), args![serial_key(serial)]).await?;
    let unknown = || Status::not_found("no token has this serial");
    Ok(rows.into_iter().next().filter(|_| !serial.trim().is_empty()).ok_or_else(unknown)?)
}

/// It counts only after one of its codes was proven.
pub async fn assign_token(store: &Store, request: AssignTokenRequest) -> Result<TokenSummary, StoreError> {
    let mut change = Change::begin(store, &request.user_id, &request.actor).await?;
    change.must_be_enabled()?;
    let row = token(&mut change.session, &request.serial).await?;
    let (factor_id, owner, serial): (String, String, String) =
        (row.get("factor_id")?, row.get("user_id")?, row.get("serial")?);
    if owner == change.user_id {
        return Ok(summary(&row)?);
    }
    if !owner.is_empty() {
        return Err(Status::failed_precondition("somebody else has the token; take it back first").into());
    }
    if held(&mut change.session, &change.user_id).await? >= FACTORS_MAX {
        return Err(Status::failed_precondition(format!("the user has {FACTORS_MAX} factors already")).into());
    }
    let sealed = sealed_anew(store, &row, &change.user_id)?;
    let sql = "UPDATE factors SET user_id = $1, seed = $2, pending = $3, failures = 0, open_ms = 0, revision = revision + 1 \
               WHERE factor_id = $4";
    let user_id = change.user_id.clone();
    change.session.execute(sql, args![&user_id, sealed, true, factor_id]).await?;
    change.note("token.assigned", format!("{serial}: nobody -> {}, not yet proven", change.username));
    let shown = summary(&token(&mut change.session, &request.serial).await?)?;
    change.finish().await?;
    Ok(shown)
}

pub async fn held(session: &mut Session, user_id: &str) -> Result<i64, StoreError> {
    let row = session.row("SELECT COUNT(*) AS held FROM factors WHERE user_id = $1", args![user_id]).await?;
    Ok(row.map_or(Ok(0), |row| row.get("held"))?)
}

/// The seed of a token as it is sealed for another owner; empty = the stock.
fn sealed_anew(store: &Store, row: &Row, to: &str) -> Result<Vec<u8>, StoreError> {
    let (factor_id, from): (String, String) = (row.get("factor_id")?, row.get("user_id")?);
    let owner = places::owned(&from, &factor_id);
    let seed = store.seal().open_field(places::seed(&owner), &row.get::<Vec<u8>>("seed")?)?;
    Ok(store.seal().seal_field(places::seed(&places::owned(to, &factor_id)), seed.expose())?)
}

/// Back to the stock. Its marks stay: a code that was used stays used, whoever has the token next.
pub async fn unassign_token(store: &Store, request: UnassignTokenRequest) -> Result<TokenSummary, StoreError> {
    let row = token(&mut store.database().read().await?, &request.serial).await?;
    let owner: String = row.get("user_id")?;
    if owner.is_empty() {
        return Err(Status::failed_precondition("nobody has the token").into());
    }
    let mut change = Change::begin(store, &owner, &request.actor).await?;
    let row = token(&mut change.session, &request.serial).await?;
    if row.get::<String>("user_id")? != owner {
        return Err(Status::aborted("the token changed hands meanwhile").into());
    }
    let sql = "UPDATE factors SET user_id = '', seed = $1, pending = $2, failures = 0, open_ms = 0, revision = revision + 1 \
               WHERE factor_id = $3";
    let arguments = args![sealed_anew(store, &row, "")?, false, row.get::<String>("factor_id")?];
    change.session.execute(sql, arguments).await?;
    change.note("token.unassigned", format!("{}: {} -> nobody", row.get::<String>("serial")?, change.username));
    change.end_remembered();
    users::end_sessions(&mut change.session, &owner).await?;
    change.mail("method_removed", &[("method", domain::Method::Code.code())]).await?;
    let shown = summary(&token(&mut change.session, &request.serial).await?)?;
    change.finish().await?;
    Ok(shown)
}

/// Its seed is gone for good.
pub async fn revoke_token(store: &Store, request: RevokeTokenRequest) -> Result<RevokeTokenReply, StoreError> {
    let row = token(&mut store.database().read().await?, &request.serial).await?;
    let (owner, serial): (String, String) = (row.get("user_id")?, row.get("serial")?);
    const DELETE: &str = "DELETE FROM factors WHERE factor_id = $1 AND user_id = $2";
    let meanwhile = || Status::aborted("the token changed hands meanwhile");
    let of_owner = args![row.get::<String>("factor_id")?, &owner];
    if owner.is_empty() {
        let by = actor(&request.actor)?;
        let mut session = store.database().write().await?;
        let head = audit::lock(&mut session).await?;
        if session.execute(DELETE, of_owner).await? != 1 {
            return Err(meanwhile().into());
        }
        let event =
            NewEvent::administrative(store.clock().now_ms(), "token.revoked", &by, format!("{serial} of the stock"));
        audit::append(&mut session, head, vec![event]).await?;
        session.commit().await?;
        return Ok(RevokeTokenReply {});
    }
    let mut change = Change::begin(store, &owner, &request.actor).await?;
    if change.session.execute(DELETE, of_owner).await? != 1 {
        return Err(meanwhile().into());
    }
    change.note("token.revoked", format!("{serial} of {}", change.username));
    change.end_remembered();
    users::end_sessions(&mut change.session, &owner).await?;
    change.mail("method_removed", &[("method", domain::Method::Code.code())]).await?;
    change.finish().await?;
    Ok(RevokeTokenReply {})
}
