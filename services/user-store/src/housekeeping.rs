//! What time takes away: who was removed long enough ago, sessions and invitations that are over, marks nobody asks for any
//! more. Done by every node, an hour apart; doing it twice changes nothing.

use crate::Store;
use crate::audit;
use crate::erase;
use crate::metrics::Users;
use crate::radius::accounting;
use crate::rpc::{StoreError, chain};
use crate::sql::args;
use crate::sync::approvals;
use crate::throttle::SOURCE_LIFE_MS;
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(3600);
const DAY_MS: i64 = 24 * 3_600_000;
/// Rows of one transaction.
const BATCH: u64 = 1000;
/// A code is valid for minutes; its mark is kept well beyond any clock's error.
const SPEND_LIFE_MS: i64 = DAY_MS;
const RUN_LIFE_MS: i64 = 90 * DAY_MS;
const IDLE_RUN_LIFE_MS: i64 = 7 * DAY_MS;
const IDLE_RUN: &str = "started_ms < $1 AND mode = 'incremental' AND state = 'done' AND added = 0 AND changed = 0 \
                        AND disabled = 0 AND removed = 0 AND changes = 0";
/// Prompts, messages and mails that went out: for reports, and longer than any limit looks back.
const HISTORY_MS: i64 = 90 * DAY_MS;
/// The longest window messages are counted in is a day.
const COUNT_LIFE_MS: i64 = 2 * DAY_MS;
/// Sent codes and activations are over within minutes; a retry may still ask about one.
const MINUTES_MS: i64 = 3_600_000;

pub async fn run(store: Store) {
    loop {
        // What failed is logged there.
        let _ = sweep(&store).await;
        match count(&store).await {
            Ok(users) => store.metrics().users(&users),
            Err(error) => tracing::warn!(error = %chain(&error), "the users could not be counted"),
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Every step, each alone: one that fails is logged, and the others are taken all the same. Returns the first failure.
pub async fn sweep(store: &Store) -> Result<(), StoreError> {
    let now_ms = store.clock().now_ms();
    let mut outcome = Ok(());
    let mut done = |what: &'static str, step: Result<(), StoreError>| {
        if let Err(error) = step {
            tracing::warn!(error = %chain(&error), what, "a step of housekeeping failed, it is tried again");
            if outcome.is_ok() {
                outcome = Err(error);
            }
        }
    };
    done("approvals", approvals::resume(store, now_ms).await);
    done("removed users", erase_removed(store, now_ms).await);
    for ended in ENDED {
        done(ended.table, ended.sweep(store, now_ms).await);
    }
    done("accounting", accounting::sweep(store, now_ms).await);
    done("mails given up", wipe_given_up(store).await);
    outcome
}

/// Who was removed is kept for the days of grace, and then erased (S-45).
async fn erase_removed(store: &Store, now_ms: i64) -> Result<(), StoreError> {
    let mut after = String::new();
    let settings = store.rules().current(&mut store.database().read().await?).await?;
    let grace_ms = i64::from(settings.sync.grace_days) * DAY_MS;
    loop {
        let mut session = store.database().write().await?;
        let swept = erase::removed(&mut session, store.seal(), now_ms - grace_ms, &after, now_ms).await?;
        session.commit().await?;
        swept.erased.iter().for_each(|user_id| store.teller().user_changed(user_id));
        let Some(last) = swept.last else { return Ok(()) };
        after = last;
    }
}

/// A mail that was given up holds links that are secrets.
async fn wipe_given_up(store: &Store) -> Result<(), StoreError> {
    let mut session = store.database().write().await?;
    audit::lock(&mut session).await?;
    session.execute("UPDATE outbox SET sealed = $1 WHERE state = 'failed' AND sealed <> $1", args![Vec::new()]).await?;
    Ok(session.commit().await?)
}

/// Rows whose time is over, and what becomes of them.
struct Ended {
    table: &'static str,
    /// What names a row.
    key: &'static str,
    /// `$1` is the moment before which it is over.
    over: &'static str,
    /// How long ago that moment is.
    ago_ms: i64,
    /// What is changed; `None` = they are deleted.
    set: Option<&'static str>,
    /// Proofs and prompts are used up under the chain's lock: no Allow is in the middle of one that goes.
    locked: bool,
}

impl Ended {
    const fn gone(table: &'static str, key: &'static str, over: &'static str, ago_ms: i64) -> Self {
        Self { table, key, over, ago_ms, set: None, locked: false }
    }

    const fn locked(self) -> Self {
        Self { locked: true, ..self }
    }

    /// Some rows at a time, so that nobody waits long for their transaction; what was swept before is not found again.
    async fn sweep(&self, store: &Store, now_ms: i64) -> Result<(), StoreError> {
        let Self { table, key, over, ago_ms, set, locked } = self;
        let change = match set {
            Some(set) => format!("UPDATE {table} SET {set}"),
            None => format!("DELETE FROM {table}"),
        };
        let sql = format!("{change} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE {over} LIMIT $2) AND {over}");
        loop {
            let mut session = store.database().write().await?;
            if *locked {
                audit::lock(&mut session).await?;
            }
            let changed = session.execute_of(sql.clone(), args![now_ms - ago_ms, BATCH]).await?;
            session.commit().await?;
            if changed < BATCH {
                return Ok(());
            }
        }
    }
}

const ENDED: &[Ended] = &[
    Ended::gone("sessions", "id_hash", "expires_ms < $1", 0),
    Ended::gone("invitations", "user_id", "expires_ms < $1", 0),
    Ended::gone("sources", "user_id, source", "last_success_ms < $1", SOURCE_LIFE_MS),
    Ended::gone("code_spends", "transaction_id", "spent_ms < $1", SPEND_LIFE_MS),
    // Users before runs and lists, which would take all of theirs along at once.
    Ended::gone(
        "sync_changes",
        "run_id, number",
        "run_id IN (SELECT run_id FROM sync_runs WHERE started_ms < $1)",
        RUN_LIFE_MS,
    ),
    Ended::gone("sync_runs", "run_id", "started_ms < $1", RUN_LIFE_MS),
    // Every few minutes one that read what changed, and nothing had. Full ones say when somebody was missed (S-43).
    Ended::gone("sync_runs", "run_id", IDLE_RUN, IDLE_RUN_LIFE_MS),
    Ended::gone(
        "approval_users",
        "approval_id, username_key, user_id",
        "approval_id IN (SELECT approval_id FROM approvals WHERE state NOT IN ('open', 'deciding') OR state = 'open' AND expires_ms < $1)",
        DAY_MS,
    ),
    Ended::gone("phones_before", "user_id", "changed_ms < $1", DAY_MS),
    Ended::gone("numbers_before", "user_id, kind, number", "changed_ms < $1", DAY_MS),
    Ended::gone("approvals", "approval_id", "expires_ms < $1", RUN_LIFE_MS),
    Ended {
        set: Some("outcome = 'expired', answered_ms = expires_ms, revision = revision + 1"),
        ..Ended::gone("prompts", "prompt_id", "outcome = '' AND expires_ms <= $1", 0).locked()
    },
    Ended::gone("prompts", "prompt_id", "begun_ms < $1", HISTORY_MS).locked(),
    Ended::gone("sent_codes", "transaction_id", "expires_ms < $1", MINUTES_MS).locked(),
    Ended::gone("secret_proofs", "handle", "expires_ms < $1", 0).locked(),
    Ended::gone("hashed", "hashed_id", "kind = 'temporary' AND expires_ms < $1", 0).locked(),
    Ended::gone("bypasses", "bypass_id", "expires_ms < $1", 0).locked(),
    Ended::gone("remembered", "key", "idle_until_ms < $1", 0).locked(),
    Ended::gone("devices", "device_id", "state = 'activation' AND code_expires_ms < $1", MINUTES_MS).locked(),
    Ended::gone("message_counts", "scope, window_ms", "window_ms < $1", COUNT_LIFE_MS).locked(),
    Ended::gone("messages", "message_id", "at_ms < $1", HISTORY_MS).locked(),
    Ended::gone("seen", "scope, id", "expires_ms < $1", 0).locked(),
    Ended {
        set: Some("state = 'failed', error = 'past its time'"),
        ..Ended::gone("outbox", "mail_id", "state = 'waiting' AND expires_ms < $1", 0).locked()
    },
    Ended::gone("outbox", "mail_id", "expires_ms < $1", HISTORY_MS).locked(),
    // A gateway reports every minute; one that said nothing for a day is gone.
    Ended::gone("client_reports", "client, node", "at_ms < $1", DAY_MS),
    // The longest window is a day.
    Ended::gone("password_tries", "directory, object_id", "touched_ms < $1", COUNT_LIFE_MS),
    Ended::gone("previous_secrets", "client", "until_ms <= $1", 0).locked(),
];

pub async fn count(store: &Store) -> Result<Users, StoreError> {
    let mut session = store.database().read().await?;
    let sql = "SELECT COUNT(CASE WHEN u.state = 'enabled' AND f.factors > 0 THEN 1 END) AS enrolled, \
               COUNT(CASE WHEN u.state = 'enabled' AND f.factors IS NULL THEN 1 END) AS not_enrolled, \
               COUNT(CASE WHEN u.state = 'disabled' OR u.blocked_until_ms < 0 OR u.blocked_until_ms > $1 THEN 1 END) AS blocked, \
               COUNT(CASE WHEN u.state = 'enabled' AND EXISTS (SELECT 1 FROM bypasses b WHERE b.user_id = u.user_id \
               AND b.expires_ms > $1) THEN 1 END) AS bypass, \
               COUNT(CASE WHEN u.state = 'enabled' AND f.open_ms > $1 THEN 1 END) AS locked FROM users u \
               LEFT JOIN (SELECT user_id, COUNT(*) AS factors, MAX(open_ms) AS open_ms FROM factors \
               WHERE NOT pending GROUP BY user_id) f ON f.user_id = u.user_id";
    let row = session.row(sql, args![store.clock().now_ms()]).await?;
    let row = row.ok_or(StoreError::Broken("a count has no row"))?;
    Ok(Users {
        enrolled: row.unsigned("enrolled")?,
        not_enrolled: row.unsigned("not_enrolled")?,
        locked: row.unsigned("locked")?,
        blocked: row.unsigned("blocked")?,
        bypass: row.unsigned("bypass")?,
    })
}
