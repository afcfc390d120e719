//! Data keys that change while everything runs (V-30).

use crate::fixture::{Fixture, SEED};
use proto::permissions::part;
use proto::user_store::{
    AllowResult, InviteRequest, KeyRingRequest, KeyStatusReply, KeyStatusRequest, LoginFactsRequest,
    RedeemInvitationRequest, RotateKeysRequest, admin_server::Admin, facts_server::Facts, login_facts_request::Who,
    portal_data_server::PortalData,
};
use service_kit::{Shutdown, bus::InProcess};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tonic::{Code, Request};
use user_store::Store;

async fn status(lab: &Fixture) -> KeyStatusReply {
    lab.services.admin.key_status(Request::new(KeyStatusRequest {})).await.expect("shown").into_inner()
}

async fn rotate(lab: &Fixture) -> Result<KeyStatusReply, tonic::Status> {
    let request = RotateKeysRequest { actor: "admin:uid=0".into() };
    Ok(lab.services.admin.rotate_keys(Request::new(request)).await?.into_inner())
}

fn shown(status: &KeyStatusReply) -> Vec<(u32, bool, bool)> {
    status.keys.iter().map(|key| (key.key_id, key.current, key.fields > 0)).collect()
}

async fn seed(store: &Store, user_id: &str) -> Vec<u8> {
    let request = LoginFactsRequest { who: Some(Who::UserId(user_id.into())), ..Default::default() };
    let facts = store.services().facts.login(Request::new(request)).await.expect("the seed opens").into_inner();
    facts.code_factors[0].seed.as_ref().expect("with a seed").value.clone()
}

pub async fn keys_rotate_while_logins_run_on_two_nodes_and_none_fails(lab: Fixture) {
    // V-30: rotate under load -> no failed login
    let ann = lab.enrolled("ann").await;
    let bus = Arc::new(InProcess::new());
    let other = Store::open(&lab.section, bus, lab.clock.clone(), &Shutdown::new()).await.expect("a second node");
    assert_eq!(shown(&status(&lab).await), [(1, true, true)]);
    let (stop, logins, step) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(1000)));
    let load = [lab.store.clone(), other.clone()].map(|store| {
        let (stop, logins, step, ann) = (stop.clone(), logins.clone(), step.clone(), ann.clone());
        tokio::spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                assert_eq!(seed(&store, &ann.user_id).await, SEED);
                let request = ann.allow(&uuid::Uuid::now_v7().to_string(), step.fetch_add(1, Ordering::SeqCst));
                let result = crate::commit::allowed(&store.services().commit, request).await;
                // Two nodes draw steps in one order and commit in another: the earlier one is spent then.
                assert!(matches!(result, AllowResult::Committed | AllowResult::Reused), "{result:?}");
                logins.fetch_add(u64::from(result == AllowResult::Committed), Ordering::SeqCst);
            }
        })
    });
    let some_more = async || {
        let goal = logins.load(Ordering::SeqCst) + 5;
        while logins.load(Ordering::SeqCst) < goal && load.iter().all(|task| !task.is_finished()) {
            tokio::task::yield_now().await;
        }
    };
    some_more().await;
    lab.clock.advance(3_600_000);
    assert_eq!(
        shown(&rotate(&lab).await.expect("rotated")),
        [(1, true, true), (2, false, false)],
        "told before it seals"
    );
    assert_eq!(rotate(&lab).await.expect_err("one at a time").code(), Code::FailedPrecondition);
    for node in [&lab.store, &other] {
        node.tend_keys().await.expect("read");
    }
    some_more().await;
    lab.clock.advance(30_000);
    lab.store.tend_keys().await.expect("sealed anew");
    some_more().await;
    assert_eq!(shown(&status(&lab).await), [(1, false, false), (2, true, true)], "everything is sealed anew");
    // A node that is behind opens what the new key sealed, because it knew the key before it sealed.
    assert_eq!(seed(&other, &ann.user_id).await, SEED);
    lab.clock.advance(60_000);
    other.tend_keys().await.expect("the old key goes");
    lab.store.tend_keys().await.expect("and is forgotten here");
    some_more().await;
    assert_eq!(shown(&status(&lab).await), [(2, true, true)]);
    stop.store(true, Ordering::SeqCst);
    for task in load {
        task.await.expect("no login failed");
    }
    let kinds: Vec<String> = lab.events("").await.into_iter().map(|event| event.kind).collect();
    for kind in ["keys.rotated", "keys.removed"] {
        assert_eq!(kinds.iter().filter(|it| *it == kind).count(), 1, "{kind}");
    }
    lab.assert_chain_is_whole().await;
}

pub async fn hashes_outlive_every_data_key(lab: Fixture) {
    // V-30, V-31: the pepper is of no data key
    let ann = lab.enrolled("ann").await;
    let invite = InviteRequest { user_id: ann.user_id.clone(), life_hours: 72, actor: "admin:uid=0".into() };
    let code = lab.services.admin.invite(Request::new(invite)).await.expect("made").into_inner().code;
    lab.clock.advance(3_600_000);
    rotate(&lab).await.expect("rotated");
    for step_ms in [30_000, 60_000] {
        lab.clock.advance(step_ms);
        lab.store.tend_keys().await.expect("tended");
    }
    assert_eq!(shown(&status(&lab).await), [(2, true, true)]);
    lab.store.close().await;
    let bus = Arc::new(InProcess::new());
    let again = Store::open(&lab.section, bus, lab.clock.clone(), &Shutdown::new()).await.expect("opens");
    assert_eq!(seed(&again, &ann.user_id).await, SEED);
    let redeem = RedeemInvitationRequest { user_id: ann.user_id, code, now_unix_ms: lab.clock.now_ms() };
    let redeemed =
        again.services().portal_data.redeem_invitation(Request::new(redeem)).await.expect("read").into_inner();
    assert!(redeemed.accepted, "the code's hash is still good");
}

pub async fn a_field_that_does_not_open_keeps_its_key(lab: Fixture) {
    let (ann, bob) = (lab.enrolled("ann").await, lab.enrolled("bob").await);
    lab.tamper(&format!(
        "UPDATE factors SET seed = (SELECT o.seed FROM factors o WHERE o.factor_id = '{}') WHERE factor_id = '{}'",
        ann.factor_id, bob.factor_id
    ))
    .await;
    lab.clock.advance(3_600_000);
    rotate(&lab).await.expect("rotated");
    for step_ms in [30_000, 60_000] {
        lab.clock.advance(step_ms);
        lab.store.tend_keys().await.expect("tended");
    }
    let keys = status(&lab).await.keys;
    assert_eq!((keys.len(), keys[0].fields), (2, 1), "for an operator to look at");
    assert_eq!(seed(&lab.store, &ann.user_id).await, SEED);
    // It is looked at again and again, and no login waits for that.
    if let user_store::StoreUrl::Postgres(_) = lab.section.url {
        let _held = lab.hold_the_chain().await;
        let tended = tokio::time::timeout(std::time::Duration::from_secs(4), lab.store.tend_keys()).await;
        tended.expect("without the chain's lock").expect("tended");
    }
}

pub async fn a_key_that_does_not_open_here_keeps_no_other_from_being_read(lab: Fixture) {
    // V-30: the file of this node lacks the line of another master key
    let ann = lab.enrolled("ann").await;
    for (key_id, created_ms) in [(0, 0), (99, crate::fixture::NOON_MS)] {
        let wrapped = lab.octets(&[7; 60]);
        lab.tamper(&format!(
            "INSERT INTO data_keys (key_id, master, wrapped, created_ms) VALUES ({key_id}, 'another', {wrapped}, {created_ms})"
        ))
        .await;
        lab.store.tend_keys().await.expect("the others are read");
    }
    assert_eq!(seed(&lab.store, &ann.user_id).await, SEED);
    lab.enrolled("bob").await;
}

pub async fn a_rotation_gives_every_ring_a_new_key_with_overlap(lab: Fixture) {
    // V-76
    const RINGS: [(&str, &str); 6] = [
        (part::RADIUS_GATEWAY, "radius-state"),
        (part::RADIUS_GATEWAY, "passwords"),
        (part::LDAP_GATEWAY, "passwords"),
        (part::VERIFICATION, "challenges"),
        (part::VERIFICATION, "codes"),
        (part::VERIFICATION, "remembered"),
    ];
    let ring = async |part: &'static str, purpose: &str| {
        let request = Request::new(KeyRingRequest { purpose: purpose.into() });
        lab.services.settings_for(part).key_ring(request).await.expect("a ring").into_inner()
    };
    for (part, purpose) in RINGS {
        assert_eq!(ring(part, purpose).await.keys.len(), 1, "{purpose}");
    }
    lab.clock.advance(3_600_000);
    rotate(&lab).await.expect("rotated");
    for (part, purpose) in RINGS {
        let reply = ring(part, purpose).await;
        assert_eq!((reply.keys.len(), reply.current), (2, 1), "{purpose}: told before it is used");
    }
    lab.clock.advance(3_600_000);
    for (part, purpose) in RINGS {
        assert_eq!(ring(part, purpose).await.current, 2, "{purpose}");
    }
    for days in [2, 4] {
        lab.clock.advance(days * 24 * 3_600_000);
        lab.store.tend_keys().await.expect("tended");
        rotate(&lab).await.expect("rotated");
    }
    let (part, purpose) = RINGS[0];
    let ids: Vec<u32> = ring(part, purpose).await.keys.iter().map(|key| key.id).collect();
    assert_eq!(ids, [3, 4], "what the first ones sealed is not alive any more");
    let pepper = Request::new(KeyRingRequest { purpose: "pepper".into() });
    let refused = lab.services.settings_for(part::VERIFICATION).key_ring(pepper).await.expect_err("nobody's");
    assert_eq!(refused.code(), Code::PermissionDenied);
}
