//! What the operations of a group stand on, in one statement a table, and only the tables they ask about.

use super::Operation;
use crate::commit::decide::{Factor, Final, Guard, Person, Source, Spend, Working};
use crate::commit::proofs::{Bypass, Passkey, Prompt, Proofs, Remembered, Secret, SentCode};
use crate::rpc::StoreError;
use crate::sql::{Arg, Session};
use crate::throttle::{Counter, Window};
use proto::user_store::CommitAllowRequest;
use std::collections::BTreeSet;

/// What the operations stand on, in one statement a table.
pub async fn read_facts(session: &mut Session, operations: &[Operation]) -> Result<Working, StoreError> {
    let mut users = BTreeSet::new();
    let mut factors = BTreeSet::new();
    let mut transactions = BTreeSet::new();
    let mut counted = BTreeSet::new();
    let mut sources = false;
    for operation in operations {
        match operation {
            Operation::Reserve(request) => {
                factors.insert(request.factor_id.as_str());
                counted.insert(request.user_id.as_str());
                sources = true;
            }
            Operation::Spend(request) => {
                users.insert(request.user_id.as_str());
                factors.insert(request.factor_id.as_str());
                transactions.insert(request.transaction_id.as_str());
            }
            Operation::TryCode(_) | Operation::Allow(_) => {
                let Some(request) = allow_of(operation) else { continue };
                factors.insert(request.factor_id.as_str());
                factors.insert(request.counted_factor_id.as_str());
                if let Some(event) = &request.event {
                    users.insert(event.user_id.as_str());
                    counted.insert(event.user_id.as_str());
                    transactions.insert(event.transaction_id.as_str());
                }
                sources |= !request.source.is_empty();
            }
            Operation::Record(request) => {
                transactions.extend(request.event.as_ref().map(|event| event.transaction_id.as_str()));
            }
            Operation::Step(_) => {}
        }
    }
    for keys in [&mut users, &mut factors, &mut transactions, &mut counted] {
        keys.remove("");
    }
    let mut working = Working::default();
    let head = "SELECT user_id, state, blocked_until_ms, epoch FROM users WHERE user_id IN";
    for row in session.rows_in(head, users, "", &[]).await? {
        let person = Person {
            enabled: row.get::<String>("state")? == "enabled",
            blocked_until_ms: row.get("blocked_until_ms")?,
            epoch: row.get("epoch")?,
        };
        working.people.insert(row.get("user_id")?, person);
    }
    let head = "SELECT factor_id, user_id, pending, kind, last_step, drift, failures, open_ms, last_used_ms, revision FROM factors \
                WHERE factor_id IN";
    for row in session.rows_in(head, factors, "", &[]).await? {
        let failures = u32::try_from(row.get::<i64>("failures")?).unwrap_or(u32::MAX);
        let factor = Factor {
            user_id: row.get("user_id")?,
            pending: row.get("pending")?,
            kind: row.get("kind")?,
            last_step: row.get("last_step")?,
            drift: row.get("drift")?,
            counter: Counter { failures, open_ms: row.get("open_ms")? },
            last_used_ms: row.get("last_used_ms")?,
            revision: row.get("revision")?,
            changed: false,
        };
        working.factors.insert(row.get("factor_id")?, factor);
    }
    let head = "SELECT user_id, unverified, last_success_ms FROM guards WHERE user_id IN";
    for row in session.rows_in(head, counted.iter().copied(), "", &[]).await? {
        let unverified = Window::from_octets(&row.get::<Vec<u8>>("unverified")?);
        let guard = Guard { unverified, last_success_ms: row.get("last_success_ms")?, changed: false };
        working.guards.insert(row.get("user_id")?, guard);
    }
    if sources {
        let head = "SELECT user_id, source, last_success_ms, reserve FROM sources WHERE user_id IN";
        for row in session.rows_in(head, counted, "", &[]).await? {
            let reserve = Window::from_octets(&row.get::<Vec<u8>>("reserve")?);
            let source = Source { last_success_ms: row.get("last_success_ms")?, reserve, changed: false };
            working.sources.insert((row.get("user_id")?, row.get("source")?), source);
        }
    }
    let head = "SELECT transaction_id, request FROM audit WHERE final AND transaction_id IN";
    for row in session.rows_in(head, transactions.iter().copied(), "", &[]).await? {
        working.finals.insert(row.get("transaction_id")?, Final { request: row.get("request")? });
    }
    let told = operations.iter().filter_map(|operation| match operation {
        Operation::Record(request) if request.let_in_before => request.event.as_ref(),
        _ => None,
    });
    let told: BTreeSet<&str> = told.map(|event| event.transaction_id.as_str()).collect();
    let head =
        "SELECT transaction_id, request FROM audit WHERE NOT final AND transaction_id <> '' AND transaction_id IN";
    for row in session.rows_in(head, told, "", &[]).await? {
        working.beside.insert((row.get("transaction_id")?, row.get("request")?));
    }
    let spending = operations.iter().any(|operation| match operation {
        Operation::Spend(_) => true,
        Operation::Allow(request) => request.spent_before,
        Operation::Reserve(_) | Operation::TryCode(_) | Operation::Record(_) | Operation::Step(_) => false,
    });
    if spending {
        let head = "SELECT transaction_id, user_id, factor_id, step, spent_ms FROM code_spends WHERE transaction_id IN";
        for row in session.rows_in(head, transactions, "", &[]).await? {
            let spend = Spend {
                user_id: row.get("user_id")?,
                factor_id: row.get("factor_id")?,
                step: row.get("step")?,
                spent_ms: row.get("spent_ms")?,
                new: false,
            };
            working.spends.insert(row.get("transaction_id")?, spend);
        }
    }
    let allows: Vec<&CommitAllowRequest> = operations.iter().filter_map(allow_of).collect();
    working.proofs = read_proofs(session, &allows).await?;
    Ok(working)
}

/// The Allow that an operation asks for, or may come to.
fn allow_of(operation: &Operation) -> Option<&CommitAllowRequest> {
    match operation {
        Operation::Allow(request) => Some(request),
        Operation::TryCode(request) => request.allow.as_ref(),
        Operation::Reserve(_) | Operation::Spend(_) | Operation::Record(_) | Operation::Step(_) => None,
    }
}

/// What stands behind the Allows of the group, other than codes of a factor. A kind nobody names costs nothing.
async fn read_proofs(session: &mut Session, allows: &[&CommitAllowRequest]) -> Result<Proofs, StoreError> {
    let named = |name: fn(&CommitAllowRequest) -> &str| -> BTreeSet<&str> {
        allows.iter().map(|asked| name(asked)).filter(|id| !id.is_empty()).collect()
    };
    let mut proofs = Proofs::default();
    let head = "SELECT prompt_id, user_id, transaction_id, method, outcome, expires_ms, answered_ms, pin_asked, pin_handle, \
                spent FROM prompts WHERE prompt_id IN";
    let prompts = named(|asked| &asked.prompt_id);
    for row in session.rows_in(head, prompts, "", &[]).await? {
        let prompt = Prompt {
            user_id: row.get("user_id")?,
            transaction_id: row.get("transaction_id")?,
            method: row.get("method")?,
            outcome: row.get("outcome")?,
            expires_ms: row.get("expires_ms")?,
            answered_ms: row.get("answered_ms")?,
            pin_asked: row.get("pin_asked")?,
            pin_handle: row.get("pin_handle")?,
            spent: row.get("spent")?,
            changed: false,
        };
        proofs.prompts.insert(row.get("prompt_id")?, prompt);
    }
    let sent = allows.iter().filter(|asked| asked.sent_code).filter_map(|asked| asked.event.as_ref());
    let sent: BTreeSet<&str> = sent.map(|event| event.transaction_id.as_str()).collect();
    let head = "SELECT transaction_id, user_id, kind, state, expires_ms FROM sent_codes WHERE transaction_id IN";
    for row in session.rows_in(head, sent, "", &[]).await? {
        let code = SentCode {
            user_id: row.get("user_id")?,
            kind: row.get("kind")?,
            state: row.get("state")?,
            expires_ms: row.get("expires_ms")?,
            changed: false,
        };
        proofs.sent_codes.insert(row.get("transaction_id")?, code);
    }
    let mut handles = named(|asked| &asked.secret_handle);
    handles.extend(named(|asked| &asked.pin_handle));
    let of_prompts: Vec<String> = proofs.prompts.values().map(|it| it.pin_handle.clone()).collect();
    handles.extend(of_prompts.iter().map(String::as_str).filter(|handle| !handle.is_empty()));
    let head = "SELECT p.handle AS handle, p.user_id AS user_id, p.transaction_id AS transaction_id, p.kind AS kind, \
                p.hashed_id AS hashed_id, p.expires_ms AS expires_ms, COALESCE(h.uses_left, -1) AS uses_left, \
                COALESCE(h.expires_ms, 0) AS hashed_expires_ms FROM secret_proofs p \
                LEFT JOIN hashed h ON h.hashed_id = p.hashed_id WHERE p.handle IN";
    for row in session.rows_in(head, handles, "", &[]).await? {
        let secret = Secret {
            user_id: row.get("user_id")?,
            transaction_id: row.get("transaction_id")?,
            kind: row.get("kind")?,
            hashed_id: row.get("hashed_id")?,
            expires_ms: row.get("expires_ms")?,
            uses_left: row.get("uses_left")?,
            hashed_expires_ms: row.get("hashed_expires_ms")?,
            spent: false,
        };
        proofs.secrets.insert(row.get("handle")?, secret);
    }
    let head = "SELECT bypass_id, user_id, client, expires_ms FROM bypasses WHERE bypass_id IN";
    for row in session.rows_in(head, named(|asked| &asked.bypass_id), "", &[]).await? {
        let bypass = Bypass {
            user_id: row.get("user_id")?,
            client: row.get("client")?,
            expires_ms: row.get("expires_ms")?,
            spent: false,
        };
        proofs.bypasses.insert(row.get("bypass_id")?, bypass);
    }
    let keys: BTreeSet<&[u8]> =
        allows.iter().map(|asked| asked.remembered_key.as_slice()).filter(|key| !key.is_empty()).collect();
    let head = "SELECT key, user_id, client, epoch, idle_ms, idle_until_ms, life_until_ms FROM remembered WHERE key IN";
    for row in session.rows_among(head, keys.into_iter().map(Arg::from).collect()).await? {
        let remembered = Remembered {
            user_id: row.get("user_id")?,
            client: row.get("client")?,
            epoch: row.get("epoch")?,
            idle_ms: row.get("idle_ms")?,
            idle_until_ms: row.get("idle_until_ms")?,
            life_until_ms: row.get("life_until_ms")?,
            changed: false,
        };
        proofs.remembered.insert(row.get("key")?, remembered);
    }
    let head = "SELECT device_id, user_id, passkey FROM devices WHERE device_id IN";
    let tail = "AND kind = 'passkey' AND state = 'active'";
    for row in session.rows_in(head, named(|asked| &asked.passkey_id), tail, &[]).await? {
        let (user_id, credential) = (row.get("user_id")?, row.get("passkey")?);
        let passkey = Passkey { user_id, credential, counted: None, used: false };
        proofs.passkeys.insert(row.get("device_id")?, passkey);
    }
    Ok(proofs)
}
