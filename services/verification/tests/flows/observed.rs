//! A client that is only observed (FB-04): the password decides, and what would have been is written down.

use crate::fakes::{NOW, World, answer, attempt, complete, passed, pending, request, said, subject, wanted};
use proto::user_store::{Bypass, SecretKind};
use proto::verification::verification_server::Verification;
use proto::verification::{AppendedFormsRequest, Attempt};
use std::sync::Arc;
use verification::Service;

/// 2026-09-21T14:23:20Z: ten minutes from now.
const UNTIL: &str = "2026-09-21T14:23:20Z";

/// Every client is observed.
fn observed_world() -> World {
    let world = World::new();
    world.store.change_settings(|settings| {
        for client in &mut settings.clients {
            client.observe_until = Some(UNTIL.into());
        }
    });
    world
}

/// What the last event says.
fn last(world: &World) -> (String, String) {
    let event = world.store.events().pop().expect("an event");
    (event.reason, event.detail)
}

/// Nothing was asked, sent, counted or spent.
fn assert_untouched(world: &World) {
    let but = ["fetch", "key_ring", "login", "allow", "record"];
    assert_eq!(world.store.calls_but(&but), 0, "a call that counts or spends");
    assert!(
        world.carriers.texts().is_empty() && world.store.prompts().is_empty() && world.store.remembered().is_empty()
    );
    assert_eq!(world.store.granted(), 0);
}

#[tokio::test]
async fn the_password_decides_and_the_audit_says_what_would_have_been() {
    // FB-04
    type Case = (&'static str, &'static str, fn(&World), &'static str, &'static str);
    let cases: &[Case] = &[
        ("vpn", "ann", |_| {}, "allow observed", "observed: would ask code"),
        ("vpn", "ann", |world| world.store.give_phone("ann"), "allow observed", "observed: would ask push, code"),
        (
            "vpn",
            "ann",
            |world| {
                world.store.give_phone("ann");
                world.store.change_settings(|it| it.verification.choice = domain::settings::Choice::ListFirst);
            },
            "allow observed",
            "observed: would ask a choice of push, code",
        ),
        (
            "keeps",
            "ann",
            |world| world.store.give_phone("ann"),
            "allow observed",
            "observed: would ask push, code, unless remembered",
        ),
        ("vpn", "bob", |_| {}, "allow observed", "observed: would refuse, not_enrolled"),
        ("vpn", "nobody", |_| {}, "allow observed", "observed: would refuse, unknown_user"),
        ("nothing", "ann", |_| {}, "allow observed", "observed: would refuse, no_usable_method"),
        ("lax", "bob", |_| {}, "allow not_enrolled_passed", ""),
        ("lax", "nobody", |_| {}, "allow unknown_user_passed", ""),
        ("vpn", "off", |_| {}, "deny blocked", ""),
        ("vpn", "gone", |_| {}, "deny blocked", ""),
        ("lax", "off", |_| {}, "deny blocked", ""),
        ("vpn", "ann", |world| world.store.change("ann", |user| user.blocked_until_unix_ms = -1), "deny blocked", ""),
    ];
    for (place, (client, user, change, decided, detail)) in cases.iter().enumerate() {
        let world = observed_world();
        change(&world);
        let node = world.node().await;
        let attempt = attempt(client, user);
        assert_eq!(said(node.begin(passed(&attempt, None)).await), *decided, "case {place}");
        assert_eq!(last(&world).1, *detail, "case {place}");
        assert_eq!(said(node.begin(passed(&attempt, None)).await), *decided, "case {place}: asked again");
        assert_eq!(world.store.events().len(), 1, "case {place}");
        assert_untouched(&world);
    }
}

#[tokio::test]
async fn an_observed_login_rests_on_nothing_and_says_so() {
    // V-61: exempt, because the settings exempt the client; LDAP is the same
    let world = observed_world();
    let node = world.node().await;
    for (client, protocol) in [("vpn", "radius"), ("gitlab", "ldap"), ("sheets", "api")] {
        let attempt = Attempt { protocol: protocol.into(), can_challenge: false, ..attempt(client, "ann") };
        let outcome = node.begin(passed(&attempt, None)).await.expect("answered").into_inner();
        let Some(proto::verification::outcome::Result::Allow(allow)) = outcome.result else { panic!("not let in") };
        assert_eq!((allow.reason.as_str(), allow.method.as_str()), ("observed", ""));
        assert_eq!((allow.assurance.as_str(), allow.source.as_str()), ("none", "exempt"));
        let event = world.store.events().pop().expect("an event");
        assert_eq!((event.result.as_str(), event.reason.as_str()), ("bypass", "observed"));
        assert_eq!((event.assurance.as_str(), event.source.as_str()), ("none", "exempt"));
        assert_eq!(event.detail, "observed: would refuse, method_impossible");
    }
    // The portal's own clients are none.
    let portal = Attempt { protocol: "portal".into(), ..attempt("portal", "ann") };
    assert_eq!(said(node.begin(passed(&portal, None)).await), "ask 1");
}

#[tokio::test]
async fn a_code_behind_the_password_is_noted_and_neither_counted_nor_spent() {
    // L-52 a, V-11, V-14
    let world = observed_world();
    world.store.give_secret("ann", SecretKind::Recovery, "abcdefghij", 1);
    world.store.change("ann", |user| user.recovery_left = 1);
    let node = world.node().await;
    let right = world.code(0);
    let unread = "abcde-fghij";
    for (code, noted) in [
        (right.as_str(), "valid_code"),
        (right.as_str(), "valid_code"),
        ("000000", "wrong_code"),
        (unread, "not compared"),
    ] {
        assert_eq!(said(node.begin(passed(&attempt("vpn", "ann"), Some(code))).await), "allow observed", "{code}");
        assert_eq!(last(&world).1, format!("observed: would check a code, {noted}"));
    }
    for _ in 0..20 {
        assert_eq!(said(node.begin(passed(&attempt("vpn", "ann"), Some("000000"))).await), "allow observed");
    }
    assert_untouched(&world);
    world.store.change_settings(|settings| settings.clients[0].observe_until = None);
    let strict = world.node().await;
    assert_eq!(
        said(strict.begin(passed(&attempt("vpn", "ann"), Some(&right))).await),
        "allow valid_code",
        "it is still good"
    );
}

#[tokio::test]
async fn a_code_before_the_password_says_where_the_password_ends_and_stays_good() {
    // L-52 b, L-53
    let world = observed_world();
    world.store.change("ann", |user| {
        user.recovery_left = 1;
        user.temporary_code = true;
    });
    let node = world.node().await;
    for _ in 0..2 {
        let first = attempt("vpn", "ann");
        assert_eq!(said(node.begin(pending(&first, &world.code(0))).await), "accepted");
        assert_eq!(said(node.begin(pending(&first, &world.code(0))).await), "accepted", "asked again");
        assert_eq!(said(node.complete(complete(&first)).await), "allow observed");
        assert_eq!(said(node.complete(complete(&first)).await), "allow observed", "asked again");
        assert_eq!(last(&world).1, "observed: would check a code, valid_code");
    }
    // A wrong code is part of the password, and so is what cannot be looked at without being used up.
    for code in ["000000", "abcde-fghij", "123456789"] {
        let first = attempt("vpn", "ann");
        assert_eq!(said(node.begin(pending(&first, code)).await), "deny wrong_code", "{code}");
        assert_eq!(said(node.begin(passed(&first, None)).await), "allow observed", "{code}");
    }
    for user in ["nobody", "bob"] {
        assert_eq!(said(node.begin(pending(&attempt("vpn", user), "000000")).await), "deny wrong_code", "{user}");
    }
    assert_eq!(said(node.begin(pending(&attempt("vpn", "off"), &world.code(0))).await), "deny blocked");
    assert_eq!((world.store.calls("spend_code"), world.store.calls("check_secret")), (0, 0));
    assert_eq!(world.store.failures("token-of-ann"), 0, "V-14 counts nothing");
}

#[tokio::test]
async fn codes_for_other_clients_cannot_be_sought_at_one_that_is_observed() {
    // L-54, V-15: whoever knows the password sees whether the code was taken off
    let world = observed_world();
    let node = world.node().await;
    for number in 0..100 {
        assert_eq!(said(node.begin(pending(&attempt("vpn", "ann"), &format!("{number:06}"))).await), "deny wrong_code");
    }
    assert_eq!(world.store.granted(), 20, "more were not compared");
    assert_eq!(said(node.begin(pending(&attempt("vpn", "ann"), &world.code(0))).await), "deny wrong_code");
}

#[tokio::test]
async fn a_bypass_stays_open_while_the_client_is_observed() {
    // V-53
    let world = observed_world();
    world.store.change("ann", |user| {
        user.bypass = Some(Bypass { bypass_id: "b".into(), client: String::new(), expires_unix_ms: NOW + 3_600_000 });
    });
    let node = world.node().await;
    assert_eq!(said(node.begin(passed(&attempt("vpn", "ann"), None)).await), "allow observed");
    assert_eq!(last(&world).1, "observed: would let in, one_time_bypass");
    assert_untouched(&world);
    world.clock.advance(600_000);
    assert_eq!(said(node.begin(passed(&attempt("vpn", "ann"), None)).await), "allow one_time_bypass");
}

#[tokio::test]
async fn observing_ends_by_itself_and_what_was_begun_goes_by_the_rules_of_its_time() {
    let world = observed_world();
    world.store.give_phone("ann");
    let node = world.node().await;
    let before = attempt("vpn", "ann");
    assert_eq!(said(node.begin(pending(&before, &world.code(0))).await), "accepted");
    world.clock.advance(599_999);
    assert_eq!(said(node.begin(wanted(&attempt("vpn", "ann"), "push")).await), "allow observed");
    world.clock.advance(1);
    assert_eq!(said(node.begin(passed(&attempt("vpn", "bob"), None)).await), "deny not_enrolled");
    assert_eq!(said(node.complete(complete(&before)).await), "deny challenge_gone", "no code was spent for it");
    let asked = attempt("vpn", "ann");
    assert_eq!(said(node.begin(wanted(&asked, "code")).await), "ask 1");
    world.store.change_settings(|settings| settings.clients[0].observe_until = Some("2030-01-01T00:00:00Z".into()));
    let node = world.node().await;
    assert_eq!(said(node.answer(answer(&asked, 1, "000000")).await), "allow observed");
    assert_eq!(said(node.answer(answer(&asked, 1, &world.code(0))).await), "deny challenge_gone");
}

#[tokio::test]
async fn who_needs_no_code_now_is_said_with_the_forms() {
    // FV-28, FV-42, FV-32, FB-04; V-54: a place counts only where it is known
    let optional = async |node: &Arc<Service>, client: &str, user: &str, person_ip: &str| {
        let asked = AppendedFormsRequest {
            client: client.into(),
            subject: Some((&subject(user)).into()),
            person_ip: person_ip.into(),
            ..AppendedFormsRequest::default()
        };
        node.appended_forms(request(asked)).await.expect("answered").into_inner().code_optional
    };
    let world = World::new();
    let node = world.node().await;
    assert!(!optional(&node, "vpn", "ann", "").await);
    assert!(optional(&node, "home", "ann", "198.51.100.7").await);
    for elsewhere in ["203.0.113.9", "", "198.51.100"] {
        assert!(!optional(&node, "home", "ann", elsewhere).await, "{elsewhere}");
    }
    world.store.change("ann", |user| user.exempt_clients = vec!["wifi".into()]);
    assert!(optional(&node, "wifi", "ann", "").await && !optional(&node, "vpn", "ann", "").await);
    world.store.change("ann", |user| {
        user.bypass = Some(Bypass { bypass_id: "b".into(), client: "vpn".into(), expires_unix_ms: NOW + 1_000 });
    });
    assert!(optional(&node, "vpn", "ann", "").await && !optional(&node, "lax", "ann", "").await);
    let alone = attempt("vpn", "ann");
    assert_eq!(said(node.begin(passed(&alone, None)).await), "allow one_time_bypass");
    assert!(!optional(&node, "vpn", "ann", "").await, "it is used up");
    world.store.change("ann", |user| user.blocked_until_unix_ms = -1);
    assert!(!optional(&node, "wifi", "ann", "").await, "a state goes first");
    let observed = observed_world();
    let node = observed.node().await;
    assert!(optional(&node, "vpn", "ann", "").await && optional(&node, "vpn", "bob", "").await);
    for user in ["off", "nobody"] {
        assert!(!optional(&node, "vpn", user, "").await, "{user}");
    }
}
