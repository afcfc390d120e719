//! Secrets at rest (V-30) and the key that opens them.

use crate::fixture::{Fixture, SEED, open};
use proto::user_store::{
    LoginFactsRequest, PutSessionRequest, Session, commit_server::Commit, facts_server::Facts,
    login_facts_request::Who, portal_data_server::PortalData,
};
use std::os::unix::fs::PermissionsExt;
use tonic::Request;
use user_store::{OpenError, StoreSection};

fn one_sentence(error: &OpenError, file: &str) {
    let text = error.to_string();
    assert!(text.contains(file) && !text.contains('\n'), "{text}");
}

async fn seed(lab: &Fixture, user_id: &str) -> Result<Vec<u8>, tonic::Status> {
    let request = LoginFactsRequest { who: Some(Who::UserId(user_id.into())), ..Default::default() };
    let facts = lab.services.facts.login(Request::new(request)).await?.into_inner();
    Ok(facts.code_factors[0].seed.as_ref().expect("with a seed").value.clone())
}

pub async fn a_store_opens_again_with_its_key_and_with_no_other(lab: Fixture) {
    let ann = lab.enrolled("ann").await;
    let key = lab.section.master_key_file.path().to_owned();
    let mode = std::fs::metadata(&key).expect("made at the first start").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    lab.store.close().await;
    let again = Fixture::over(open(&lab.section).await.expect("its own key opens it"), lab.section.clone());
    assert_eq!(seed(&again, &ann.user_id).await.expect("the seed opens"), SEED);
    again.store.close().await;

    std::fs::remove_file(&key).expect("removed");
    let other = user_store_key(&key);
    let refused = open(&lab.section).await.err().expect("another key is refused");
    assert!(matches!(refused, OpenError::WrongMasterKey { .. }), "{refused}");
    one_sentence(&refused, &key.display().to_string());
    assert_eq!(std::fs::read(&key).expect("there"), other, "the file is left as it is");
}

/// A valid key file with another key.
fn user_store_key(path: &std::path::Path) -> Vec<u8> {
    let file = service_kit::secret::KeyFile::new(&path.display().to_string()).expect("a path");
    file.read_or_create().expect("made");
    std::fs::read(path).expect("readable")
}

pub async fn a_store_without_its_key_file_gets_no_new_one(lab: Fixture) {
    let key = lab.section.master_key_file.path().to_owned();
    lab.store.close().await;
    std::fs::rename(&key, key.with_extension("away")).expect("moved");
    let refused = open(&lab.section).await.err().expect("no key, no store");
    assert!(matches!(refused, OpenError::MasterKeyMissing { .. }), "{refused}");
    one_sentence(&refused, &key.display().to_string());
    assert!(!key.exists());
    std::fs::rename(key.with_extension("away"), &key).expect("moved back");
    open(&lab.section).await.expect("and it opens again");
}

pub async fn a_key_file_that_others_can_read_stops_the_start(lab: Fixture) {
    let key = lab.section.master_key_file.path().to_owned();
    lab.store.close().await;
    for mode in [0o640, 0o604, 0o660] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).expect("changed");
        let refused = open(&lab.section).await.err().expect("refused");
        assert!(matches!(refused, OpenError::MasterKey(_)), "{mode:o}: {refused}");
        let at_load = StoreSection::new("sqlite:/nowhere", &key.display().to_string()).expect_err("refused");
        assert!(at_load.contains("chmod 0600"), "{at_load}");
    }
}

pub async fn the_master_key_is_changed_by_a_new_line_on_top(lab: Fixture) {
    let ann = lab.enrolled("ann").await;
    let key = lab.section.master_key_file.path().to_owned();
    lab.store.close().await;
    let old = std::fs::read_to_string(&key).expect("readable");
    std::fs::remove_file(&key).expect("removed");
    let new = String::from_utf8(user_store_key(&key)).expect("base64");
    std::fs::write(&key, format!("{new}{old}")).expect("written");
    open(&lab.section).await.expect("both lines").close().await;
    std::fs::write(&key, &new).expect("written");
    let again = Fixture::over(open(&lab.section).await.expect("the new one alone"), lab.section.clone());
    assert_eq!(seed(&again, &ann.user_id).await.expect("the seed opens"), SEED);
    again.store.close().await;
    std::fs::write(&key, &old).expect("written");
    assert!(matches!(open(&lab.section).await.err(), Some(OpenError::WrongMasterKey { .. })));
}

pub async fn a_seed_moved_to_another_user_opens_for_nobody(lab: Fixture) {
    // V-30: swap two users' ciphertexts at storage level
    let (ann, bob) = (lab.enrolled("ann").await, lab.enrolled("bob").await);
    assert_eq!(seed(&lab, &bob.user_id).await.expect("the seed opens"), SEED);
    lab.tamper(&format!(
        "UPDATE factors SET seed = (SELECT o.seed FROM factors o WHERE o.factor_id = '{}') WHERE factor_id = '{}'",
        ann.factor_id, bob.factor_id
    ))
    .await;
    let refused = seed(&lab, &bob.user_id).await.expect_err("does not open");
    assert_eq!((refused.code(), refused.message()), (tonic::Code::Internal, "a fault in the store"));
    assert_eq!(seed(&lab, &ann.user_id).await.expect("hers still opens"), SEED);
}

pub async fn no_secret_stands_in_the_database_in_the_clear(lab: Fixture) {
    // V-34: the seed, a shared secret, a session
    lab.enrolled("ann").await;
    let document = format!(
        "{}\n[[client]]\nname = \"vpn\"\nprotocol = \"radius\"\nsources = [\"10.0.0.1/32\"]\ntarget = \"corp\"\nsecret = \"file:x\"\n",
        crate::fixture::SETTINGS
    );
    const SHARED: &str = "CANARY-shared-secret-1";
    let request = proto::user_store::ApplySettingsRequest {
        document,
        secrets: [("client.vpn.secret".to_owned(), proto::common::Secret { value: SHARED.into() })].into(),
        actor: "admin:test".into(),
        ..Default::default()
    };
    use proto::user_store::admin_server::Admin;
    let applied = lab.services.admin.apply_settings(Request::new(request)).await.expect("applied").into_inner();
    assert_eq!(applied.errors, [""; 0]);
    let session = Session { csrf_token: "CANARY-csrf".into(), expires_unix_ms: i64::MAX, ..Session::default() };
    let put = PutSessionRequest { id_hash: vec![7; 32], session: Some(session), ..PutSessionRequest::default() };
    lab.services.portal_data.put_session(Request::new(put)).await.expect("kept");
    let dump = lab.dump().await;
    let holds = |needle: &[u8]| dump.windows(needle.len()).any(|window| window == needle);
    assert!(holds(b"client.vpn.secret"), "the dump shows what is stored");
    for canary in [SEED.as_slice(), SHARED.as_bytes(), b"CANARY-csrf", b"CANARY"] {
        assert!(!holds(canary), "{}", String::from_utf8_lossy(canary));
        for encoded in [data_encoding::HEXLOWER.encode(canary), data_encoding::BASE64.encode(canary)] {
            assert!(!holds(encoded.as_bytes()), "{encoded}");
        }
    }
}

pub async fn what_was_sealed_for_one_user_opens_for_no_other(lab: Fixture) {
    // V-30: a phone's keys and a number that is being proven, swapped at storage level
    let (ann, bob) = (lab.enrolled("ann").await, lab.enrolled("bob").await);
    let hers = crate::devices::active(&lab, &ann, 1).await;
    let his = crate::devices::active(&lab, &bob, 2).await;
    for (who, transaction) in [(&ann, "a1"), (&bob, "b1")] {
        let proof = proto::user_store::OpenSentCodeRequest {
            kind: "proof".into(),
            number: "+4930901820".into(),
            ..crate::sent_codes::open(who, transaction, 1, crate::fixture::NOON_MS)
        };
        assert!(crate::sent_codes::opened(&lab, proof).await.opened);
    }
    let dump = lab.dump().await;
    for canary in [crate::devices::SUBSCRIPTION, b"+4930901820".as_slice()] {
        assert!(!dump.windows(canary.len()).any(|window| window == canary));
    }
    let swap = |table: &str, field: &str, key: &str, from: &str, to: &str| {
        format!(
            "UPDATE {table} SET {field} = (SELECT o.{field} FROM {table} o WHERE o.{key} = '{from}') WHERE {key} = '{to}'"
        )
    };
    lab.tamper(&swap("devices", "subscription", "device_id", &hers, &his)).await;
    assert!(seed(&lab, &bob.user_id).await.is_err(), "the facts do not open");
    seed(&lab, &ann.user_id).await.expect("hers do");
    lab.tamper(&swap("sent_codes", "number", "transaction_id", "a1", "b1")).await;
    let check = |user_id: &str, transaction: &str| proto::user_store::CheckSentCodeRequest {
        user_id: user_id.into(),
        transaction_id: transaction.into(),
        digest: vec![1; 32],
        now_unix_ms: crate::fixture::NOON_MS,
        source: String::new(),
    };
    use proto::user_store::commit_server::Commit;
    let commit = &lab.services.commit;
    commit.check_sent_code(Request::new(check(&bob.user_id, "b1"))).await.expect_err("does not open");
    commit.check_sent_code(Request::new(check(&ann.user_id, "a1"))).await.expect("hers does");
}

pub async fn a_database_file_is_its_owners_from_the_beginning_and_keeps_nothing_that_is_gone(lab: Fixture) {
    // FU-05, V-30
    let user_store::StoreUrl::Sqlite(path) = lab.section.url.clone() else { return };
    for end in ["", "-wal", "-shm"] {
        let file = format!("{}{end}", path.display());
        let mode = std::fs::metadata(&file).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let scope = "CANARY-of-what-was-deleted";
    let seen = proto::user_store::SeeOnceRequest {
        scope: scope.into(),
        id: "1".into(),
        expires_unix_ms: lab.clock.now_ms() + 1,
        forget: false,
    };
    lab.services.commit.see_once(Request::new(seen)).await.expect("seen");
    lab.clock.advance(10);
    lab.store.sweep().await.expect("swept");
    lab.store.close().await;
    let dump = lab.dump().await;
    assert!(!dump.windows(scope.len()).any(|window| window == scope.as_bytes()));
}
