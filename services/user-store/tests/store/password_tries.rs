//! The lockout guard (L-56), over the database.

use crate::fixture::{Fixture, id_of};
use futures::future::join_all;
use proto::common::DirectoryRef;
use proto::user_store::{
    PasswordOutcome, PasswordTry, ReservePasswordReply, ReservePasswordRequest, SettlePasswordRequest,
    UnlockUserRequest, admin_server::Admin, password_tries_server::PasswordTries,
};
use tonic::{Code, Request};

fn subject(name: &str) -> DirectoryRef {
    DirectoryRef { directory: "corp".into(), object_id: id_of(name) }
}

async fn reserve(lab: &Fixture, name: &str) -> ReservePasswordReply {
    let request = ReservePasswordRequest { subject: Some(subject(name)), wrong_max: 3, window_minutes: 30 };
    lab.services.password_tries.reserve(Request::new(request)).await.expect("the store answers").into_inner()
}

async fn settle(lab: &Fixture, name: &str, handle: i64, outcome: PasswordOutcome) {
    let request = SettlePasswordRequest { subject: Some(subject(name)), handle, outcome: outcome.into() };
    lab.services.password_tries.settle(Request::new(request)).await.expect("the store answers");
}

pub async fn no_number_of_gateways_at_once_gets_past_the_limit(lab: Fixture) {
    // L-56
    let turns = join_all((0..100).map(|_| reserve(&lab, "ann"))).await;
    let granted: Vec<_> = turns.iter().filter(|turn| turn.result() == PasswordTry::Granted).collect();
    assert_eq!(granted.len(), 3);
    assert!(turns.iter().all(|turn| turn.result() != PasswordTry::Exhausted), "they may still be right");
    assert_eq!(reserve(&lab, "bob").await.result(), PasswordTry::Granted, "nobody else is concerned");
    settle(&lab, "ann", granted[0].handle, PasswordOutcome::Right).await;
    for turn in &granted[1..] {
        settle(&lab, "ann", turn.handle, PasswordOutcome::Wrong).await;
    }
    let last = reserve(&lab, "ann").await;
    assert_eq!(last.result(), PasswordTry::Granted);
    settle(&lab, "ann", last.handle, PasswordOutcome::Wrong).await;
    let refused = reserve(&lab, "ann").await;
    assert_eq!(refused.result(), PasswordTry::Exhausted);
    assert_eq!(refused.retry_unix_ms, lab.clock.now_ms() + 30 * 60_000);
    // Whoever is refused writes nothing: a crowd does not stand in line for the row.
    let touched = "SELECT MAX(touched_ms) FROM password_tries";
    let before = lab.number(touched).await;
    lab.clock.advance(1_000);
    assert_eq!(reserve(&lab, "ann").await.result(), PasswordTry::Exhausted);
    assert_eq!(lab.number(touched).await, before);
}

pub async fn an_administrator_opens_what_guesses_have_closed(lab: Fixture) {
    // L-56
    let ann = lab.enrolled("ann").await;
    for _ in 0..3 {
        let turn = reserve(&lab, "ann").await;
        settle(&lab, "ann", turn.handle, PasswordOutcome::Wrong).await;
    }
    assert_eq!(reserve(&lab, "ann").await.result(), PasswordTry::Exhausted);
    let unlock = UnlockUserRequest { user_id: ann.user_id, actor: "admin:uid=0".into() };
    lab.services.admin.unlock_user(Request::new(unlock)).await.expect("unlocked");
    assert_eq!(reserve(&lab, "ann").await.result(), PasswordTry::Granted);
}

pub async fn what_names_nobody_or_ends_in_nothing_is_refused(lab: Fixture) {
    let request = ReservePasswordRequest { subject: None, wrong_max: 3, window_minutes: 30 };
    let refused = lab.services.password_tries.reserve(Request::new(request)).await.expect_err("nobody");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let request = SettlePasswordRequest { subject: Some(subject("ann")), handle: 1, outcome: 0 };
    let refused = lab.services.password_tries.settle(Request::new(request)).await.expect_err("no outcome");
    assert_eq!(refused.code(), Code::InvalidArgument);
}
