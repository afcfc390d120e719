//! Each proof: right once, and refused twice, for another user, in another attempt, a millisecond too late.

use crate::commit::decide::{Person, Working};
use crate::commit::proofs::{Bypass, NewRemembered, PROOF_LIFE_MS, Passkey, Prompt, Remembered, Secret, SentCode};
use proto::user_store::{AllowResult, AuditEvent, CommitAllowRequest, PasskeyCount, RememberLogin};
use std::collections::HashMap;

const NOW_MS: i64 = 10_000_000;
const KEY: [u8; 32] = [9; 32];

fn secret(kind: &str, hashed_id: &str, uses_left: i64) -> Secret {
    Secret {
        user_id: "ann".into(),
        transaction_id: "t1".into(),
        kind: kind.into(),
        hashed_id: hashed_id.into(),
        expires_ms: NOW_MS + 1,
        uses_left,
        hashed_expires_ms: NOW_MS + 1,
        spent: false,
    }
}

/// Everything ann needs to be let in, by every kind of proof.
fn working() -> Working {
    let person = Person { enabled: true, blocked_until_ms: 0, epoch: 7 };
    let mut working = Working {
        people: HashMap::from([("ann".into(), person.clone()), ("bob".into(), person)]),
        ..Working::default()
    };
    let prompt = Prompt {
        user_id: "ann".into(),
        transaction_id: "t1".into(),
        method: "push".into(),
        outcome: "approved".into(),
        expires_ms: NOW_MS,
        answered_ms: NOW_MS,
        pin_asked: false,
        pin_handle: String::new(),
        spent: false,
        changed: false,
    };
    let proofs = &mut working.proofs;
    proofs.prompts.insert("p".into(), prompt);
    let code = SentCode {
        user_id: "ann".into(),
        kind: "sms".into(),
        state: "right".into(),
        expires_ms: NOW_MS - PROOF_LIFE_MS,
        changed: false,
    };
    proofs.sent_codes.insert("t1".into(), code);
    proofs.secrets.insert("recovery".into(), secret("recovery", "h1", 1));
    proofs.secrets.insert("temporary".into(), secret("temporary", "h2", 2));
    proofs.secrets.insert("answers".into(), secret("answer", "", -1));
    proofs.secrets.insert("pin".into(), secret("pin", "", -1));
    let bypass = Bypass { user_id: "ann".into(), client: "vpn".into(), expires_ms: NOW_MS + 1, spent: false };
    proofs.bypasses.insert("b".into(), bypass);
    let remembered = Remembered {
        user_id: "ann".into(),
        client: "vpn".into(),
        epoch: 7,
        idle_ms: 300_000,
        idle_until_ms: NOW_MS + 1,
        life_until_ms: NOW_MS + 200_000,
        changed: false,
    };
    proofs.remembered.insert(KEY.to_vec(), remembered);
    let passkey = Passkey { user_id: "ann".into(), credential: "count 1".into(), counted: None, used: false };
    proofs.passkeys.insert("k".into(), passkey);
    working
}

fn asked(source: &str, method: &str, reason: &str) -> CommitAllowRequest {
    let event = AuditEvent {
        at_unix_ms: NOW_MS,
        kind: "authentication".into(),
        transaction_id: "t1".into(),
        client: "vpn".into(),
        user_id: "ann".into(),
        source: source.into(),
        method: method.into(),
        reason: reason.into(),
        ..AuditEvent::default()
    };
    CommitAllowRequest { event: Some(event), ..CommitAllowRequest::default() }
}

/// Every kind of proof but the factor's code, whose rules stand beside its steps.
fn kinds() -> Vec<(&'static str, CommitAllowRequest)> {
    vec![
        ("prompt", CommitAllowRequest { prompt_id: "p".into(), ..asked("live", "push", "user_approved") }),
        ("sent code", CommitAllowRequest { sent_code: true, ..asked("live", "sms", "valid_code") }),
        (
            "recovery",
            CommitAllowRequest { secret_handle: "recovery".into(), ..asked("live", "recovery", "valid_recovery_code") },
        ),
        (
            "temporary",
            CommitAllowRequest { secret_handle: "temporary".into(), ..asked("bypass", "code", "temporary_code") },
        ),
        (
            "answers",
            CommitAllowRequest { secret_handle: "answers".into(), ..asked("live", "questions", "valid_answers") },
        ),
        ("bypass", CommitAllowRequest { bypass_id: "b".into(), ..asked("bypass", "", "one_time_bypass") }),
        ("remembered", CommitAllowRequest { remembered_key: KEY.to_vec(), ..asked("remembered", "", "remembered") }),
        ("passkey", CommitAllowRequest { passkey_id: "k".into(), ..asked("live", "passkey", "valid_passkey") }),
    ]
}

fn event(asked: &mut CommitAllowRequest) -> &mut AuditEvent {
    asked.event.as_mut().expect("set")
}

/// The same proof in another attempt.
fn again(asked: &CommitAllowRequest) -> CommitAllowRequest {
    let mut again = asked.clone();
    event(&mut again).transaction_id = "t2".into();
    again
}

#[test]
fn a_proof_lets_in_once_and_its_second_use_is_refused() {
    // V-11, V-21, V-53
    for (name, asked) in kinds() {
        let mut working = working();
        assert_eq!(working.allow(&asked, vec![1]), AllowResult::Committed, "{name}");
        assert_eq!(working.events.len(), 1, "{name}");
        // As if the attempt had no last word yet: the proof itself is used up.
        working.finals.clear();
        let expected = match name {
            // These are shown, not used up; the transaction's last word is what keeps them from a second Allow.
            "passkey" | "remembered" => AllowResult::Committed,
            _ => AllowResult::Refused,
        };
        assert_eq!(working.allow(&asked, vec![2]), expected, "{name}");
    }
}

#[test]
fn a_proof_is_one_users_and_one_attempts() {
    // V-02, B-83, B-84
    for (name, asked) in kinds() {
        let mut other_user = asked.clone();
        event(&mut other_user).user_id = "bob".into();
        assert_eq!(working().allow(&other_user, vec![1]), AllowResult::Refused, "{name}: another user");
        let bound = !matches!(name, "bypass" | "remembered" | "passkey");
        let expected = if bound { AllowResult::Refused } else { AllowResult::Committed };
        assert_eq!(working().allow(&again(&asked), vec![1]), expected, "{name}: another attempt");
        let mut elsewhere = asked.clone();
        event(&mut elsewhere).client = "web".into();
        let bound = matches!(name, "bypass" | "remembered");
        let expected = if bound { AllowResult::Refused } else { AllowResult::Committed };
        assert_eq!(working().allow(&elsewhere, vec![1]), expected, "{name}: another client");
    }
}

#[test]
fn a_proof_is_over_a_millisecond_after_its_time() {
    // B-83, B-88
    for (name, mut asked) in kinds() {
        event(&mut asked).at_unix_ms = match name {
            "prompt" => NOW_MS + PROOF_LIFE_MS + 1,
            "passkey" => continue,
            _ => NOW_MS + 1,
        };
        let mut late = working();
        assert_eq!(late.allow(&asked, vec![1]), AllowResult::Refused, "{name}");
        assert!(late.events.is_empty() && late.finals.is_empty(), "{name}");
    }
    let mut asked = kinds().remove(0).1;
    event(&mut asked).at_unix_ms = NOW_MS + PROOF_LIFE_MS;
    assert_eq!(working().allow(&asked, vec![1]), AllowResult::Committed, "an approval, as late as can be");
}

#[test]
fn what_was_not_proven_proves_nothing() {
    type Change = fn(&mut Working);
    let changes: [(&str, &str, Change); 14] = [
        ("prompt", "denied", |it| prompt(it).outcome = "denied".into()),
        ("prompt", "open", |it| prompt(it).outcome = String::new()),
        ("prompt", "answered late", |it| prompt(it).answered_ms = NOW_MS + 1),
        ("prompt", "another method", |it| prompt(it).method = "call".into()),
        ("prompt", "spent", |it| prompt(it).spent = true),
        ("prompt", "a PIN was asked and none came", |it| prompt(it).pin_asked = true),
        ("sent code", "open", |it| code(it).state = "open".into()),
        ("sent code", "spent", |it| code(it).state = "spent".into()),
        ("sent code", "proves a number", |it| code(it).kind = "proof".into()),
        ("sent code", "came by mail", |it| code(it).kind = "mail".into()),
        ("recovery", "used up", |it| it.proofs.secrets.get_mut("recovery").expect("there").uses_left = 0),
        ("recovery", "replaced by a new set", |it| {
            it.proofs.secrets.get_mut("recovery").expect("there").uses_left = -1
        }),
        ("temporary", "a recovery code", |it| {
            it.proofs.secrets.get_mut("temporary").expect("there").kind = "recovery".into();
        }),
        ("remembered", "of an earlier epoch", |it| {
            it.proofs.remembered.get_mut(KEY.as_slice()).expect("there").epoch = 6
        }),
    ];
    for (kind, what, change) in changes {
        let asked = kinds().into_iter().find(|(name, _)| *name == kind).expect("there").1;
        let mut working = working();
        change(&mut working);
        assert_eq!(working.allow(&asked, vec![1]), AllowResult::Refused, "{kind}: {what}");
    }
}

fn prompt(working: &mut Working) -> &mut Prompt {
    working.proofs.prompts.get_mut("p").expect("there")
}

fn code(working: &mut Working) -> &mut SentCode {
    working.proofs.sent_codes.get_mut("t1").expect("there")
}

#[test]
fn two_proofs_or_the_wrong_one_are_no_proof() {
    // Each kind's request with the proof of every other added, and with every other's event.
    for (name, asked) in kinds() {
        for (other_name, other) in kinds().into_iter().filter(|(other, _)| *other != name) {
            let swapped = CommitAllowRequest { event: asked.event.clone(), ..other.clone() };
            let fits = swapped.secret_handle.is_empty() || asked.secret_handle.is_empty();
            let both = CommitAllowRequest {
                prompt_id: asked.prompt_id.clone() + &other.prompt_id,
                sent_code: asked.sent_code || other.sent_code,
                secret_handle: asked.secret_handle.clone() + &other.secret_handle,
                bypass_id: asked.bypass_id.clone() + &other.bypass_id,
                remembered_key: [asked.remembered_key.clone(), other.remembered_key.clone()].concat(),
                passkey_id: asked.passkey_id.clone() + &other.passkey_id,
                ..asked.clone()
            };
            assert_eq!(working().allow(&swapped, vec![1]), AllowResult::Refused, "{name} by {other_name}");
            if fits {
                assert_eq!(working().allow(&both, vec![1]), AllowResult::Refused, "{name} and {other_name}");
            }
        }
        let nothing = CommitAllowRequest { event: asked.event.clone(), ..CommitAllowRequest::default() };
        assert_eq!(working().allow(&nothing, vec![1]), AllowResult::Refused, "{name} without a proof");
        let spent = CommitAllowRequest { spent_before: true, ..asked };
        assert_eq!(working().allow(&spent, vec![1]), AllowResult::Refused, "{name} as a spent code");
    }
}

#[test]
fn a_pin_that_is_named_or_was_asked_has_to_be_right_and_is_used_up() {
    // FV-20
    for (name, mut asked) in kinds() {
        asked.pin_handle = "none".into();
        assert_eq!(working().allow(&asked, vec![1]), AllowResult::Refused, "{name}");
        // A secret of another kind is no PIN.
        asked.pin_handle = "recovery".into();
        assert_eq!(working().allow(&asked, vec![1]), AllowResult::Refused, "{name}");
        asked.pin_handle = "pin".into();
        let mut working = working();
        assert_eq!(working.allow(&asked, vec![1]), AllowResult::Committed, "{name}");
        assert!(working.proofs.secrets["pin"].spent, "{name}");
    }
    let asked = kinds().remove(0).1;
    let mut with_answer = working();
    *prompt(&mut with_answer) =
        Prompt { pin_asked: true, pin_handle: "pin".into(), ..prompt(&mut with_answer).clone() };
    assert_eq!(with_answer.allow(&asked, vec![1]), AllowResult::Committed, "it came with the approval");
    assert!(with_answer.proofs.secrets["pin"].spent);
}

#[test]
fn a_record_with_uses_is_used_once_by_each_attempt_and_no_more_often_than_it_says() {
    // V-53
    let mut working = working();
    let temporary = kinds().into_iter().find(|(name, _)| *name == "temporary").expect("there").1;
    let mut committed = 0;
    for attempt in 0..5 {
        let handle = format!("handle-{attempt}");
        let transaction = format!("attempt-{attempt}");
        let uses_left = working.proofs.secrets["temporary"].uses_left;
        let mine = Secret { transaction_id: transaction.clone(), ..secret("temporary", "h2", uses_left) };
        working.proofs.secrets.insert(handle.clone(), mine);
        let mut asked = CommitAllowRequest { secret_handle: handle, ..temporary.clone() };
        event(&mut asked).transaction_id = transaction;
        committed += u32::from(working.allow(&asked, vec![1]) == AllowResult::Committed);
    }
    assert_eq!(committed, 2);
}

#[test]
fn a_remembered_login_rests_anew_and_never_beyond_its_life() {
    // V-50
    let asked = kinds().into_iter().find(|(name, _)| *name == "remembered").expect("there").1;
    let mut working = working();
    assert_eq!(working.allow(&asked, vec![1]), AllowResult::Committed);
    let it = &working.proofs.remembered[KEY.as_slice()];
    assert_eq!((it.idle_until_ms, it.changed), (NOW_MS + 200_000, true));
    assert!(working.sources.is_empty(), "it makes no place a usual one");
}

#[test]
fn only_a_live_success_of_this_epoch_is_remembered() {
    // V-50, V-52
    let remember =
        RememberLogin { key: vec![3; 32], place: "10.0.4.3".into(), idle_seconds: 1, life_seconds: 999_999, epoch: 7 };
    for (name, asked) in kinds() {
        let asked = CommitAllowRequest { remember: Some(remember.clone()), ..asked };
        let mut working = working();
        assert_eq!(working.allow(&asked, vec![1]), AllowResult::Committed, "{name}");
        let live = !matches!(name, "temporary" | "bypass" | "remembered");
        let kept: Vec<&NewRemembered> = working.proofs.new.values().collect();
        assert_eq!(kept.len(), usize::from(live), "{name}");
        if let [kept] = kept.as_slice() {
            assert_eq!((kept.user_id.as_str(), kept.client.as_str(), kept.epoch), ("ann", "vpn", 7), "{name}");
            assert_eq!((kept.idle_ms, kept.life_ms), (30_000, 86_400_000), "{name}: within the bounds");
        }
    }
    let asked = kinds().remove(0).1;
    for (name, other) in [
        ("an epoch that was", RememberLogin { epoch: 6, ..remember.clone() }),
        ("a key that is none", RememberLogin { key: vec![3], ..remember }),
    ] {
        let asked = CommitAllowRequest { remember: Some(other), ..asked.clone() };
        let mut working = working();
        assert_eq!(working.allow(&asked, vec![1]), AllowResult::Committed, "{name}");
        assert!(working.proofs.new.is_empty(), "{name}");
    }
}

#[test]
fn a_passkey_that_counts_is_taken_once_with_each_count() {
    // WebAuthn section 7.2: of two uses with one count, one is of a copy.
    let used = |transaction: &str, before: &str, after: &str| {
        let count = PasskeyCount { before_json: before.into(), after_json: after.into() };
        let mut asked = CommitAllowRequest {
            passkey_id: "k".into(),
            passkey_count: Some(count),
            ..asked("live", "passkey", "valid_passkey")
        };
        event(&mut asked).transaction_id = transaction.into();
        asked
    };
    let mut working = working();
    assert_eq!(working.allow(&used("a", "count 0", "count 1"), vec![1]), AllowResult::Refused);
    assert_eq!(working.allow(&used("b", "count 1", ""), vec![2]), AllowResult::Refused);
    assert_eq!(working.allow(&used("c", "count 1", "count 2"), vec![3]), AllowResult::Committed);
    assert_eq!(working.allow(&used("d", "count 1", "count 2"), vec![4]), AllowResult::Refused, "the copy");
    assert_eq!(working.allow(&used("e", "count 2", "count 3"), vec![5]), AllowResult::Committed);
    assert_eq!(working.proofs.passkeys["k"].counted.as_deref(), Some("count 3"));
    let misplaced = CommitAllowRequest {
        passkey_count: used("f", "count 3", "count 4").passkey_count,
        bypass_id: "b".into(),
        ..asked("bypass", "", "one_time_bypass")
    };
    assert_eq!(working.allow(&misplaced, vec![6]), AllowResult::Refused, "no passkey decided");
}
