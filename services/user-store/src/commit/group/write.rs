//! What a group changed, in few statements. Each change names what was read: a row that is not counted refuses the group.

use crate::audit::NewEvent;
use crate::commit::decide::Working;
use crate::commit::proofs::Proofs;
use crate::commit::sent_codes;
use crate::outbox::{self, NewMail};
use crate::rpc::StoreError;
use crate::seal::Seal;
use crate::sql::{Arg, Session, args};
use crate::users;
use domain::Source;
use std::collections::{BTreeMap, BTreeSet};

pub async fn write_changes(
    session: &mut Session,
    seal: &Seal,
    working: &Working,
    now_ms: i64,
) -> Result<(), StoreError> {
    let changed = working.factors.iter().filter(|(_, factor)| factor.changed);
    let rows: Vec<Vec<Arg>> = changed
        .map(|(id, it)| {
            args![id, it.revision, it.last_step, it.drift, it.counter.failures, it.counter.open_ms, it.last_used_ms]
        })
        .collect();
    let expected = rows.len() as u64;
    // V-11, V-74: the step only rises, and the row is the one that was read; a row that is not counted refuses the group.
    let each = "UPDATE factors SET last_step = $3, drift = $4, failures = $5, open_ms = $6, last_used_ms = $7, \
                revision = revision + 1 WHERE factor_id = $1 AND revision = $2 AND last_step <= $3";
    let tail = ") UPDATE factors SET last_step = v.last_step, drift = v.drift, failures = v.failures, open_ms = v.open_ms, \
                last_used_ms = v.last_used_ms, revision = factors.revision + 1 FROM v \
                WHERE factors.factor_id = v.factor_id AND factors.revision = v.revision AND factors.last_step <= v.last_step";
    let head = "WITH v (factor_id, revision, last_step, drift, failures, open_ms, last_used_ms) AS (";
    if session.change_each(each, head, rows, tail).await? != expected {
        return Err(StoreError::Overtaken);
    }
    let changed = working.guards.iter().filter(|(_, guard)| guard.changed);
    let rows = changed.map(|(id, it)| args![id, it.unverified.to_octets(), it.last_success_ms]).collect();
    let tail = "ON CONFLICT (user_id) DO UPDATE SET unverified = excluded.unverified, \
                last_success_ms = excluded.last_success_ms";
    session.bulk("INSERT INTO guards (user_id, unverified, last_success_ms)", rows, tail).await?;
    let changed = working.sources.iter().filter(|(_, source)| source.changed);
    let rows = changed
        .map(|((user_id, source), it)| args![user_id, source, it.last_success_ms, it.reserve.to_octets()])
        .collect();
    let tail = "ON CONFLICT (user_id, source) DO UPDATE SET last_success_ms = excluded.last_success_ms, \
                reserve = excluded.reserve";
    session.bulk("INSERT INTO sources (user_id, source, last_success_ms, reserve)", rows, tail).await?;
    let new = working.spends.iter().filter(|(_, spend)| spend.new);
    let rows = new.map(|(id, it)| args![id, &it.user_id, &it.factor_id, it.step, it.spent_ms]).collect();
    session.bulk("INSERT INTO code_spends (transaction_id, user_id, factor_id, step, spent_ms)", rows, "").await?;
    tell_of_passes(session, seal, &working.events, now_ms).await?;
    write_proofs(session, seal, &working.proofs).await
}

/// Administrators hear that a gateway lets people in on the password alone, once in ten minutes a client (V-40, FV-27); who it was,
/// the audit tells.
async fn tell_of_passes(
    session: &mut Session,
    seal: &Seal,
    events: &[NewEvent],
    now_ms: i64,
) -> Result<(), StoreError> {
    let mut told = BTreeSet::new();
    for event in events.iter().map(|new| &new.event).filter(|event| event.source == Source::FailOpen.code()) {
        let once = proto::once::fail_open(&event.client, event.at_unix_ms);
        if !told.insert(once.clone()) {
            continue;
        }
        let mail = NewMail::to_administrators("fail_open").with("username", &event.username);
        let mail = mail.with("application", &event.client).with("place", &event.client_ip);
        // A gateway's spool may tell of it hours later.
        let mail = mail.with("time", users::time_text(event.at_unix_ms));
        match outbox::put_in(session, seal, mail.once(once), now_ms).await {
            // The pass is recorded all the same: the next one tells.
            Err(StoreError::KeysStale(stale)) => {
                tracing::error!(error = %stale, client = event.client, "administrators are not told of a pass");
            }
            outcome => outcome?,
        }
    }
    Ok(())
}

/// Remembered logins a user may have; the oldest go (FB-03).
const REMEMBERED_MAX: i64 = 64;
/// So many recovery codes left, and the user is told.
const RECOVERY_LOW: i64 = 3;

/// Uses proofs up. Somebody who was faster, outside the chain's lock, refuses the group (V-74).
async fn write_proofs(session: &mut Session, seal: &Seal, proofs: &Proofs) -> Result<(), StoreError> {
    let counted = |changed: u64, expected: usize| match changed == expected as u64 {
        true => Ok(()),
        false => Err(StoreError::Overtaken),
    };
    let prompts: Vec<&str> = proofs.prompts.iter().filter(|(_, it)| it.changed).map(|(id, _)| id.as_str()).collect();
    let head = "UPDATE prompts SET spent = TRUE, revision = revision + 1 WHERE prompt_id IN";
    let tail = "AND outcome = 'approved' AND NOT spent";
    counted(session.execute_in(head, prompts.iter().copied(), tail, &[]).await?, prompts.len())?;
    let sent: Vec<&str> = proofs.sent_codes.iter().filter(|(_, it)| it.changed).map(|(id, _)| id.as_str()).collect();
    let head = "UPDATE sent_codes SET state = 'spent' WHERE transaction_id IN";
    counted(session.execute_in(head, sent.iter().copied(), "AND state = 'right'", &[]).await?, sent.len())?;
    let of_sent = proofs.sent_codes.values().filter(|it| it.changed).map(|it| it.user_id.as_str());
    sent_codes::begin_anew(session, of_sent).await?;
    let bypasses: Vec<&str> = proofs.bypasses.iter().filter(|(_, it)| it.spent).map(|(id, _)| id.as_str()).collect();
    let head = "DELETE FROM bypasses WHERE bypass_id IN";
    counted(session.execute_in(head, bypasses.iter().copied(), "", &[]).await?, bypasses.len())?;
    let used: Vec<_> = proofs.secrets.iter().filter(|(_, it)| it.spent).collect();
    let handles = used.iter().map(|(handle, _)| handle.as_str());
    let head = "DELETE FROM secret_proofs WHERE handle IN";
    counted(session.execute_in(head, handles, "", &[]).await?, used.len())?;
    let mut uses: BTreeMap<&str, i64> = BTreeMap::new();
    for (_, secret) in used.iter().filter(|(_, secret)| !secret.hashed_id.is_empty()) {
        *uses.entry(&secret.hashed_id).or_default() += 1;
    }
    for (hashed_id, times) in uses {
        if !use_up(session, seal, hashed_id, times, proofs.spent_ms).await? {
            return Err(StoreError::Overtaken);
        }
    }
    for (id, it) in proofs.passkeys.iter().filter(|(_, it)| it.used) {
        let sql = "UPDATE devices SET last_seen_ms = $1 WHERE device_id = $2";
        session.execute(sql, args![proofs.spent_ms, id]).await?;
        let Some(after) = &it.counted else { continue };
        let sql = "UPDATE devices SET passkey = $1 WHERE device_id = $2 AND passkey = $3";
        counted(session.execute(sql, args![after, id, &it.credential]).await?, 1)?;
    }
    write_remembered(session, proofs).await
}

/// Takes uses off a recovery or temporary code. `false`: it has not so many left.
pub async fn use_up(
    session: &mut Session,
    seal: &Seal,
    hashed_id: &str,
    times: i64,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let sql = "UPDATE hashed SET uses_left = uses_left - $1 WHERE hashed_id = $2 AND uses_left >= $1 \
               RETURNING user_id, kind, uses_left";
    let Some(row) = session.row(sql, args![times, hashed_id]).await? else { return Ok(false) };
    if row.get::<i64>("uses_left")? == 0 {
        session.execute("DELETE FROM hashed WHERE hashed_id = $1", args![hashed_id]).await?;
    }
    if row.get::<String>("kind")? == "recovery" {
        let user_id: String = row.get("user_id")?;
        tell_how_few_are_left(session, seal, &user_id, hashed_id, now_ms).await?;
    }
    Ok(true)
}

async fn tell_how_few_are_left(
    session: &mut Session,
    seal: &Seal,
    user_id: &str,
    used: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    let sql = "SELECT COUNT(*) AS codes FROM hashed WHERE user_id = $1 AND kind = 'recovery'";
    let row = session.row(sql, args![user_id]).await?.ok_or(StoreError::Broken("a count has no row"))?;
    let codes: i64 = row.get("codes")?;
    if codes != RECOVERY_LOW && codes != 0 {
        return Ok(());
    }
    let Some(mail) = NewMail::to_user(session, "recovery_low", user_id).await? else { return Ok(()) };
    let mail = mail.with("left", codes.to_string()).once(format!("recovery_low:{used}"));
    outbox::put_in(session, seal, mail, now_ms).await
}

async fn write_remembered(session: &mut Session, proofs: &Proofs) -> Result<(), StoreError> {
    for (key, it) in proofs.remembered.iter().filter(|(_, it)| it.changed) {
        let sql = "UPDATE remembered SET idle_until_ms = $1 WHERE key = $2 AND epoch = $3";
        if session.execute(sql, args![it.idle_until_ms, key.as_slice(), it.epoch]).await? != 1 {
            return Err(StoreError::Overtaken);
        }
    }
    let rows: Vec<Vec<Arg>> = proofs
        .new
        .iter()
        .map(|(key, it)| {
            args![
                key.as_slice(),
                &it.user_id,
                &it.client,
                &it.place,
                it.epoch,
                it.created_ms,
                it.idle_ms,
                it.created_ms.saturating_add(it.idle_ms.min(it.life_ms)),
                it.created_ms.saturating_add(it.life_ms)
            ]
        })
        .collect();
    let head = "INSERT INTO remembered (key, user_id, client, place, epoch, created_ms, idle_ms, idle_until_ms, life_until_ms)";
    let tail = "ON CONFLICT (key) DO UPDATE SET client = excluded.client, place = excluded.place, epoch = excluded.epoch, \
                created_ms = excluded.created_ms, idle_ms = excluded.idle_ms, idle_until_ms = excluded.idle_until_ms, \
                life_until_ms = excluded.life_until_ms";
    session.bulk(head, rows, tail).await?;
    let users: std::collections::BTreeSet<&str> = proofs.new.values().map(|it| it.user_id.as_str()).collect();
    for user_id in users {
        let sql = "DELETE FROM remembered WHERE user_id = $1 AND key NOT IN (SELECT key FROM remembered \
                   WHERE user_id = $1 ORDER BY created_ms DESC, key LIMIT $2)";
        session.execute(sql, args![user_id, REMEMBERED_MAX]).await?;
    }
    Ok(())
}
