//! Remembered logins and the one-time bypass (V-50 to V-53, FB-03).

use crate::commit::allowed;
use crate::fixture::{Enrolled, Fixture, NOON_MS};
use proto::user_store::{AllowResult, AuditEvent, CommitAllowRequest, RememberLogin};

const KEY: u8 = 7;

fn remember(key: u8, epoch: u64) -> Option<RememberLogin> {
    let (idle_seconds, life_seconds) = (300, 3_600);
    Some(RememberLogin { key: vec![key; 32], place: "10.0.4.3".into(), idle_seconds, life_seconds, epoch })
}

fn by_memory(who: &Enrolled, transaction: &str, key: u8, at_unix_ms: i64) -> CommitAllowRequest {
    let event = AuditEvent {
        at_unix_ms,
        method: String::new(),
        reason: "remembered".into(),
        result: "bypass".into(),
        source: "remembered".into(),
        ..who.event(transaction)
    };
    CommitAllowRequest { event: Some(event), remembered_key: vec![key; 32], ..CommitAllowRequest::default() }
}

pub fn by_bypass(who: &Enrolled, transaction: &str, bypass_id: &str) -> CommitAllowRequest {
    let event = AuditEvent {
        method: String::new(),
        reason: "one_time_bypass".into(),
        result: "bypass".into(),
        source: "bypass".into(),
        ..who.event(transaction)
    };
    CommitAllowRequest { event: Some(event), bypass_id: bypass_id.into(), ..CommitAllowRequest::default() }
}

pub async fn a_login_is_remembered_for_its_place_its_epoch_and_its_time(lab: Fixture) {
    // V-50, V-52
    let (ann, bob) = (lab.enrolled("ann").await, lab.enrolled("bob").await);
    let commit = &lab.services.commit;
    let epoch = lab.login_user(&ann.user_id).await.epoch;
    assert_eq!(allowed(commit, by_memory(&ann, "t0", KEY, NOON_MS)).await, AllowResult::Refused, "nothing is there");
    let live = CommitAllowRequest { remember: remember(KEY, epoch), ..ann.allow("t1", 200) };
    assert_eq!(allowed(commit, live).await, AllowResult::Committed);
    let minute_ms = 60_000;
    for (name, request, result) in [
        ("another key", by_memory(&ann, "a", KEY + 1, NOON_MS), AllowResult::Refused),
        ("another user", by_memory(&bob, "b", KEY, NOON_MS), AllowResult::Refused),
        ("in its idle time", by_memory(&ann, "c", KEY, NOON_MS + 5 * minute_ms - 1), AllowResult::Committed),
        ("the idle time begins anew", by_memory(&ann, "d", KEY, NOON_MS + 9 * minute_ms), AllowResult::Committed),
        ("past its idle time", by_memory(&ann, "e", KEY, NOON_MS + 14 * minute_ms), AllowResult::Refused),
    ] {
        assert_eq!(allowed(commit, request).await, result, "{name}");
    }
    for step in 5..60 {
        let at_ms = NOON_MS + step * minute_ms;
        let result = allowed(commit, by_memory(&ann, &format!("m{step}"), KEY, at_ms)).await;
        assert_eq!(result, AllowResult::Committed, "minute {step}");
    }
    let over = by_memory(&ann, "over", KEY, NOON_MS + 60 * minute_ms);
    assert_eq!(allowed(commit, over).await, AllowResult::Refused, "its life is over, used or not");
    // A method more ends what was remembered before it.
    let live = CommitAllowRequest { remember: remember(KEY, epoch), ..ann.allow("t2", 201) };
    assert_eq!(allowed(commit, live).await, AllowResult::Committed);
    lab.add_token_of(&ann.user_id).await;
    assert_eq!(allowed(commit, by_memory(&ann, "f", KEY, NOON_MS)).await, AllowResult::Refused);
    // Told with the epoch that was, a success is none to remember.
    let stale = CommitAllowRequest { remember: remember(KEY, epoch), ..ann.allow("t3", 202) };
    assert_eq!(allowed(commit, stale).await, AllowResult::Committed);
    assert_eq!(allowed(commit, by_memory(&ann, "g", KEY, NOON_MS)).await, AllowResult::Refused);
}

pub async fn what_was_remembered_by_one_rule_of_a_client_opens_nothing_by_another(lab: Fixture) {
    // V-50, FB-03
    let client = |more: &str| {
        format!(
            "{}\n[[client]]\nname = \"vpn\"\nprotocol = \"radius\"\nsources = [\"10.0.4.3/32\"]\ntarget = \"corp\"\n\
             secret = \"generate\"\n{more}",
            crate::fixture::SETTINGS
        )
    };
    let rule = |idle: u32| format!("remember = {{ kind = \"user\", idle_seconds = {idle} }}\n");
    let apply = async |document: String| assert_eq!(lab.apply(&document).await.errors, [""; 0]);
    let ann = lab.enrolled("ann").await;
    apply(client(&rule(300))).await;
    let commit = &lab.services.commit;
    let mut step = 200;
    for (name, documents, result) in [
        ("the same rule", vec![client(&(rule(300) + "status_reflects_health = true\n"))], AllowResult::Committed),
        ("another time", vec![client(&rule(301))], AllowResult::Refused),
        ("off, and on again", vec![client(""), client(&rule(301))], AllowResult::Refused),
        ("another of its name", vec![crate::fixture::SETTINGS.to_owned(), client(&rule(301))], AllowResult::Refused),
    ] {
        step += 1;
        let epoch = lab.login_user(&ann.user_id).await.epoch;
        let live = CommitAllowRequest { remember: remember(KEY, epoch), ..ann.allow(&format!("live{step}"), step) };
        assert_eq!(allowed(commit, live).await, AllowResult::Committed, "{name}");
        for document in documents {
            apply(document).await;
        }
        assert_eq!(allowed(commit, by_memory(&ann, &format!("again{step}"), KEY, NOON_MS)).await, result, "{name}");
    }
}

pub async fn a_user_has_sixty_four_remembered_logins_and_the_oldest_go(lab: Fixture) {
    // FB-03
    let ann = lab.enrolled("ann").await;
    let commit = &lab.services.commit;
    let epoch = lab.login_user(&ann.user_id).await.epoch;
    for key in 0..66_u8 {
        let at = NOON_MS + i64::from(key);
        let mut live = CommitAllowRequest {
            remember: remember(key, epoch),
            ..ann.allow(&format!("t{key}"), 200 + u64::from(key))
        };
        live.event.as_mut().expect("set").at_unix_ms = at;
        assert_eq!(allowed(commit, live).await, AllowResult::Committed);
    }
    for (key, result) in [
        (0, AllowResult::Refused),
        (1, AllowResult::Refused),
        (2, AllowResult::Committed),
        (65, AllowResult::Committed),
    ] {
        let request = by_memory(&ann, &format!("m{key}"), key, NOON_MS + 1_000);
        assert_eq!(allowed(commit, request).await, result, "{key}");
    }
}

pub async fn a_bypass_lets_in_once_for_its_client_in_its_time(lab: Fixture) {
    // V-53, B-88
    let (ann, bob) = (lab.enrolled("ann").await, lab.enrolled("bob").await);
    lab.bypass(&ann.user_id, "b1", "vpn", NOON_MS).await;
    lab.bypass(&bob.user_id, "b2", "", NOON_MS).await;
    let commit = &lab.services.commit;
    let mut late = by_bypass(&ann, "late", "b1");
    late.event.as_mut().expect("set").at_unix_ms = NOON_MS + 300_000;
    let mut elsewhere = by_bypass(&ann, "elsewhere", "b1");
    elsewhere.event.as_mut().expect("set").client = "web".into();
    for (name, request) in [("late", late), ("elsewhere", elsewhere), ("another's", by_bypass(&ann, "his", "b2"))] {
        assert_eq!(allowed(commit, request).await, AllowResult::Refused, "{name}");
    }
    let copies = (0..200).map(|number| allowed(commit, by_bypass(&ann, &format!("t{number}"), "b1")));
    let results = futures::future::join_all(copies).await;
    assert_eq!(results.iter().filter(|result| **result == AllowResult::Committed).count(), 1);
    lab.disable(&bob.user_id).await;
    assert_eq!(allowed(commit, by_bypass(&bob, "bob", "b2")).await, AllowResult::Refused);
}
