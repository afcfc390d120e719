//! Accounts that end in their directory, of which no directory tells when it happens (FD-42, FS-26).

use crate::fixture::{Fixture, NOON_MS, SETTINGS, person};
use proto::user_store::{SetUserStateRequest, SyncedUser, admin_server::Admin};
use tonic::Request;

const HOUR_MS: i64 = 3_600_000;

fn until(username: &str, expires_unix_ms: i64) -> SyncedUser {
    SyncedUser { expires_unix_ms, ..person(username) }
}

async fn read(lab: &Fixture, users: Vec<SyncedUser>) {
    let run_id = lab.begin_as("incremental").await.expect("begun");
    lab.batch(&run_id, users).await;
    lab.finish(&run_id, true).await;
}

/// State in the list, its words, and what a login hears.
async fn stands(lab: &Fixture, username: &str) -> (String, String, String) {
    let detail = lab.user(username).await.expect("there");
    let user = detail.user.expect("with a summary");
    (user.state, detail.state_text, lab.login_user(&user.user_id).await.state)
}

pub async fn an_account_that_ends_is_refused_from_that_moment_and_let_in_when_the_date_moves(lab: Fixture) {
    lab.with_settings().await;
    let end_ms = NOON_MS + HOUR_MS;
    lab.run(vec![until("ann", end_ms), until("bob", 0), until("cat", end_ms + 1)]).await;
    let detail = lab.user("ann").await.expect("there");
    assert_eq!(detail.account_expires_unix_ms, end_ms);
    lab.clock.advance(HOUR_MS - 1);
    lab.store.disable_expired().await.expect("looked");
    assert_eq!(stands(&lab, "ann").await, ("enabled".into(), String::new(), "enabled".into()));

    lab.clock.advance(1);
    let (listed, _, login) = stands(&lab, "ann").await;
    assert_eq!(
        (listed.as_str(), login.as_str()),
        ("enabled", "disabled"),
        "the state follows, the refusal does not wait"
    );
    lab.store.disable_expired().await.expect("looked");
    lab.store.disable_expired().await.expect("looked");
    let (listed, text, login) = stands(&lab, "ann").await;
    assert_eq!((listed.as_str(), login.as_str()), ("disabled", "disabled"));
    assert_eq!(text, "by directory since 2026-11-20T13:00:00Z: the account has expired in the directory");
    let told: Vec<String> = lab.events("user.state").await.into_iter().map(|it| it.detail).collect();
    assert_eq!(told, ["state: enabled -> disabled (the account has expired in the directory)"], "once");
    for name in ["bob", "cat"] {
        assert_eq!(stands(&lab, name).await.2, "enabled", "{name}");
    }

    // A read that was made before the end, or by a clock that is behind, enables nobody.
    read(&lab, vec![until("ann", end_ms)]).await;
    assert_eq!(stands(&lab, "ann").await.0, "disabled");
    read(&lab, vec![until("ann", end_ms + 24 * HOUR_MS)]).await;
    assert_eq!(stands(&lab, "ann").await, ("enabled".into(), String::new(), "enabled".into()));
    // Of a date alone nothing else changes.
    read(&lab, vec![until("ann", 0)]).await;
    lab.clock.advance(48 * HOUR_MS);
    lab.store.disable_expired().await.expect("looked");
    assert_eq!(stands(&lab, "ann").await.0, "enabled");
    assert_eq!(stands(&lab, "cat").await.0, "disabled");

    // Who was disabled by hand stays so when the date moves.
    let by_hand = SetUserStateRequest {
        user_id: lab.user("cat").await.expect("there").user.expect("with a summary").user_id,
        state: "disabled".into(),
        actor: "admin:uid=0".into(),
        ..SetUserStateRequest::default()
    };
    lab.services.admin.set_user_state(Request::new(by_hand)).await.expect("disabled");
    read(&lab, vec![until("cat", 0)]).await;
    assert_eq!(stands(&lab, "cat").await.0, "disabled");
    lab.assert_chain_is_whole().await;
}

pub async fn an_item_that_keeps_disabled_users_keeps_expired_ones(lab: Fixture) {
    // FS-26: keep
    let keep = SETTINGS.replace("[[sync_item]]", "[[sync_item]]\ndisabled_in_directory = \"keep\"");
    lab.apply(&keep).await;
    lab.lead().await;
    lab.run(vec![until("ann", NOON_MS + HOUR_MS)]).await;
    lab.clock.advance(2 * HOUR_MS);
    lab.store.disable_expired().await.expect("looked");
    assert_eq!(stands(&lab, "ann").await, ("enabled".into(), String::new(), "enabled".into()));
    lab.apply(SETTINGS).await;
    lab.run(vec![until("ann", NOON_MS + HOUR_MS)]).await;
    assert_eq!(stands(&lab, "ann").await.0, "disabled");
}
