//! Numbers that go back to what they were (S-19).

use crate::fixture::{Fixture, SETTINGS, person};
use proto::user_store::{SyncChangesRequest, SyncedPhone, SyncedUser, admin_server::Admin};
use tonic::Request;

const MINUTE_MS: i64 = 60_000;

/// A run that finds ann with these numbers, and what it says of them.
async fn numbered(lab: &Fixture, numbers: &[(&str, &str)]) -> Vec<String> {
    let phone = |(kind, number): &(&str, &str)| SyncedPhone {
        kind: (*kind).into(),
        number: (*number).into(),
        ..SyncedPhone::default()
    };
    let ann = SyncedUser { phones: numbers.iter().map(phone).collect(), ..person("ann") };
    let run_id = lab.begin_as("incremental").await.expect("begun");
    lab.batch(&run_id, vec![ann]).await;
    lab.finish(&run_id, true).await;
    let request = SyncChangesRequest { run_id, after: 0, limit: 10 };
    let changes = lab.services.admin.sync_changes(Request::new(request)).await.expect("listed").into_inner().changes;
    changes.into_iter().filter(|change| change.what == "problem").map(|change| change.detail).collect()
}

const A: &str = "+49 30 1234561";
const B: &str = "+49 30 1234562";
const C: &str = "+49 30 1234563";

pub async fn a_number_that_goes_back_over_others_within_the_hour_is_told_to_administrators(lab: Fixture) {
    // S-19
    lab.with_settings().await;
    let mobile = async |number: &str| {
        lab.clock.advance(10 * MINUTE_MS);
        numbered(&lab, &[("mobile", number)]).await
    };
    for number in [A, B, C] {
        assert_eq!(mobile(number).await, [""; 0]);
    }
    let back = mobile(A).await;
    assert_eq!(back, ["the phone number is …61 again, as it was 20 minutes ago; it was …63 since"]);
    assert_eq!(lab.events("user.phone_back").await.len(), 1);
    // A directory that writes others all the time is not remembered for ever.
    for number in 0..60 {
        lab.clock.advance(1);
        numbered(&lab, &[("mobile", &format!("+49 30 20000{number:02}"))]).await;
    }
    assert_eq!(lab.number("SELECT COUNT(*) FROM numbers_before").await, 20);
    assert_eq!(mobile("+49 30 2000058").await.len(), 1, "the last ones are");
    lab.clock.advance(25 * 60 * MINUTE_MS);
    lab.store.sweep().await.expect("swept");
    assert_eq!(lab.number("SELECT COUNT(*) FROM numbers_before").await, 0);
    lab.assert_chain_is_whole().await;
}

pub async fn a_backup_number_that_goes_back_is_told_to_administrators(lab: Fixture) {
    // S-19
    lab.apply(&SETTINGS.replace("[[sync_item]]\n", "[[sync_item]]\nbackup_phone = [\"home\"]\n")).await;
    lab.lead().await;
    let both = async |mobile: &str, home: &str| numbered(&lab, &[("mobile", mobile), ("home", home)]).await;
    assert_eq!(both(A, B).await, [""; 0]);
    assert_eq!(both(A, C).await, [""; 0]);
    let back = both(A, B).await;
    assert_eq!(back, ["the backup phone number is …62 again, as it was 0 minutes ago; it was …63 since"]);
    assert_eq!(both(C, A).await, [""; 0], "what the other one was is no number of this one");
    assert_eq!(both(A, B).await.len(), 2, "each of both");
    lab.assert_chain_is_whole().await;
}
