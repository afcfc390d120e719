//! Sessions, API keys, invitations.

use crate::fixture::{Enrolled, Fixture, NOON_MS, person};
use crate::prompts;
use proto::common::Secret;
use proto::user_store::{
    BlockUserRequest, CheckApiKeyRequest, CreateApiKeyRequest, EndSessionRequest, GetSessionRequest, InviteRequest,
    ListApiKeysRequest, PutSessionRequest, RedeemInvitationRequest, RevokeApiKeyRequest, RevokeFactorRequest, Session,
    SyncedUser, UnblockUserRequest, admin_server::Admin, portal_data_server::PortalData,
};
use tonic::{Code, Request};

const HOUR_MS: i64 = 3_600_000;

pub async fn a_session_changes_only_from_the_revision_that_was_read(lab: Fixture) {
    // V-80: two tabs, one session
    let portal = &lab.services.portal_data;
    let put = |expected_revision, stage: &str| {
        let session = Session { stage: stage.into(), expires_unix_ms: NOON_MS + 1000, ..Session::default() };
        portal.put_session(Request::new(PutSessionRequest {
            id_hash: vec![7; 32],
            expected_revision,
            session: Some(session),
            now_unix_ms: NOON_MS,
        }))
    };
    let get = async |now_unix_ms| {
        let request = GetSessionRequest { id_hash: vec![7; 32], now_unix_ms };
        portal.get_session(Request::new(request)).await.expect("the store answers").into_inner()
    };
    assert!(get(NOON_MS).await.session.is_none());
    assert_eq!(put(0, "password").await.expect("made").into_inner().revision, 1);
    assert_eq!(put(0, "full").await.expect_err("made before").code(), Code::Aborted);
    assert_eq!(put(1, "full").await.expect("changed").into_inner().revision, 2);
    assert_eq!(put(1, "password").await.expect_err("stale").code(), Code::Aborted);
    let read = get(NOON_MS).await;
    assert_eq!((read.session.expect("there").stage.as_str(), read.revision), ("full", 2));
    assert!(get(NOON_MS + 1000).await.session.is_none(), "over");
    let end = EndSessionRequest { id_hash: vec![7; 32] };
    portal.end_session(Request::new(end)).await.expect("ended");
    assert!(get(NOON_MS).await.session.is_none());
    let short = GetSessionRequest { id_hash: vec![7; 31], now_unix_ms: NOON_MS };
    assert_eq!(portal.get_session(Request::new(short)).await.expect_err("no hash").code(), Code::InvalidArgument);
}

pub async fn what_takes_trust_away_ends_the_sessions_of_its_user_alone(lab: Fixture) {
    // V-23, V-80, FV-26, S-22
    let portal = &lab.services.portal_data;
    let put = async |who: &Enrolled, id: u8| {
        let user_id = who.user_id.clone();
        let session =
            Session { stage: "full".into(), user_id, expires_unix_ms: NOON_MS + HOUR_MS, ..Session::default() };
        let request = PutSessionRequest {
            id_hash: vec![id; 32],
            expected_revision: 0,
            session: Some(session),
            now_unix_ms: NOON_MS,
        };
        portal.put_session(Request::new(request)).await.expect("made");
    };
    let there = async |id: u8| {
        let request = GetSessionRequest { id_hash: vec![id; 32], now_unix_ms: NOON_MS + 2_000 };
        portal.get_session(Request::new(request)).await.expect("the store answers").into_inner().session.is_some()
    };
    let (ann, bob) = (lab.enrolled("ann").await, lab.enrolled("bob").await);
    put(&bob, 9).await;

    put(&ann, 1).await;
    put(&ann, 2).await;
    assert!(there(1).await && there(2).await);
    let prompt = prompts::prompt_id(&lab, &ann, "t1", NOON_MS).await;
    prompts::resolved(&lab, prompts::answer(&prompt, "fraud", NOON_MS + 1_000)).await;
    assert!(!there(1).await && !there(2).await, "\"not me\" ends them, and here it does not block");

    put(&ann, 3).await;
    let block = BlockUserRequest {
        user_id: ann.user_id.clone(),
        reason: "test".into(),
        until_unix_ms: -1,
        actor: "admin:uid=0".into(),
        remove_devices: false,
    };
    lab.services.admin.block_user(Request::new(block)).await.expect("blocked");
    put(&ann, 4).await;
    assert!(!there(4).await, "opened while it happened");
    let (user_id, reason, actor) = (ann.user_id.clone(), "test".into(), "admin:uid=0".into());
    let unblock = UnblockUserRequest { user_id, reason, actor };
    lab.services.admin.unblock_user(Request::new(unblock)).await.expect("unblocked");
    assert!(!there(3).await, "ended, not hidden");

    put(&ann, 5).await;
    assert!(there(5).await);
    lab.run(vec![SyncedUser { disabled_in_directory: true, ..person("ann") }, person("bob")]).await;
    assert!(!there(5).await, "disabled in the directory");
    lab.run(people_named(&["ann", "bob"])).await;
    assert!(!there(5).await, "enabled again");
    put(&ann, 7).await;
    assert!(there(7).await);
    let (user_id, factor_id) = (ann.user_id.clone(), ann.factor_id.clone());
    let revoke = RevokeFactorRequest { user_id, factor_id, actor: "admin:uid=0".into() };
    lab.services.admin.revoke_factor(Request::new(revoke)).await.expect("revoked");
    assert!(!there(7).await, "whoever signed in with what was lost would add another");
    put(&ann, 6).await;
    lab.disable(&ann.user_id).await;
    assert!(!there(6).await, "disabled by hand");
    assert!(there(9).await, "another's");
}

fn people_named(names: &[&str]) -> Vec<SyncedUser> {
    names.iter().map(|name| person(name)).collect()
}

pub async fn an_api_key_is_known_by_its_hash_until_it_ends(lab: Fixture) {
    // FC-02
    let admin = &lab.services.admin;
    let create = |name: &str, role: &str| {
        admin.create_api_key(Request::new(CreateApiKeyRequest {
            name: name.into(),
            role: role.into(),
            life_days: 1,
            actor: "admin:uid=0".into(),
        }))
    };
    let made = create("ci", "auditor").await.expect("made").into_inner();
    let key = String::from_utf8(made.key.expect("shown once").value.clone()).expect("text");
    assert!(key.starts_with("twk_") && key.len() == 4 + 43, "{key}");
    let check = async |key: &str, now_unix_ms| {
        let request = CheckApiKeyRequest { key: Some(Secret { value: key.into() }), now_unix_ms };
        lab.services.portal_data.check_api_key(Request::new(request)).await.expect("the store answers").into_inner()
    };
    let known = check(&key, NOON_MS).await;
    assert_eq!((known.valid, known.name.as_str(), known.role.as_str()), (true, "ci", "auditor"));
    for wrong in ["", "twk_", &key[..46], &key.to_lowercase()] {
        assert!(!check(wrong, NOON_MS).await.valid, "{wrong}");
    }
    assert!(!check(&key, made.expires_unix_ms).await.valid, "over");
    assert_eq!(create("ci", "auditor").await.expect_err("twice").code(), Code::AlreadyExists);
    assert_eq!(create("other", "king").await.expect_err("no such role").code(), Code::InvalidArgument);
    assert_eq!(create("No Name", "auditor").await.expect_err("no name").code(), Code::InvalidArgument);
    let list = admin.list_api_keys(Request::new(ListApiKeysRequest {})).await.expect("listed").into_inner();
    assert_eq!((list.keys.len(), list.keys[0].last_used_unix_ms), (1, NOON_MS));
    let dump = lab.dump().await;
    assert!(!dump.windows(key.len()).any(|window| window == key.as_bytes()), "only its hash is stored");
    let revoke = RevokeApiKeyRequest { name: "ci".into(), actor: "admin:uid=0".into() };
    admin.revoke_api_key(Request::new(revoke)).await.expect("revoked");
    assert!(!check(&key, NOON_MS).await.valid);
    assert_eq!(lab.events("api_key.revoked").await[0].detail, "ci");
}

pub async fn an_invitation_has_five_tries_one_use_and_an_end(lab: Fixture) {
    // V-86, B-95
    let (ann, bob) = (lab.enrolled("ann").await, lab.enrolled("bob").await);
    let invite = async |life_hours| {
        let request = InviteRequest { user_id: ann.user_id.clone(), life_hours, actor: "admin:uid=0".into() };
        let reply = lab.services.admin.invite(Request::new(request)).await?.into_inner();
        let code = String::from_utf8(reply.code.expect("shown once").value.clone()).expect("text");
        Ok::<_, tonic::Status>((code, reply.expires_unix_ms))
    };
    let redeem = async |user_id: &str, code: &str, now_unix_ms| {
        let code = Some(Secret { value: code.into() });
        let request = RedeemInvitationRequest { user_id: user_id.into(), code, now_unix_ms };
        let reply = lab.services.portal_data.redeem_invitation(Request::new(request)).await;
        reply.expect("the store answers").into_inner().accepted
    };
    let (code, expires_ms) = invite(0).await.expect("made");
    assert_eq!((code.len(), expires_ms), (11, NOON_MS + 48 * 3_600_000));
    assert!(!redeem(&bob.user_id, &code, NOON_MS).await, "hers alone");
    assert!(!redeem(&ann.user_id, &code, expires_ms).await, "over");
    assert!(!redeem(&ann.user_id, "AAAAA-AAAAA", NOON_MS).await);
    assert!(redeem(&ann.user_id, &code.to_lowercase().replace('-', " "), NOON_MS).await, "as people type it");
    assert!(!redeem(&ann.user_id, &code, NOON_MS).await, "once");

    let (code, _) = invite(24).await.expect("made");
    let guesses = (0..20).map(|_| redeem(&ann.user_id, "AAAAA-AAAAA", NOON_MS));
    assert!(futures::future::join_all(guesses).await.into_iter().all(|accepted| !accepted));
    assert!(!redeem(&ann.user_id, &code, NOON_MS).await, "five wrong tries void it");
    assert_eq!(lab.events("invitation.tried").await.len(), 2 + 5, "what is not tried leaves no event");
    assert_eq!(invite(73).await.expect_err("too long").code(), Code::InvalidArgument);
}
