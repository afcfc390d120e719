//! A client that is only observed (FB-04): what the second factor would have done is told, and the password decides.

mod support;

use domain::settings::{Client, RefuseOrPass, Then, When};
use domain::{Assurance, Method, Reason, Source};
use policy::{Bypass, ClientRules, Decision, Shows, UserState};
use support::{NOW, World};

/// A step that changes one thing of an attempt.
type Change = fn(&mut World);

fn observed() -> World {
    let mut world = World::new();
    world.client.observed_until_unix_ms = NOW + 1;
    world
}

#[test]
fn only_the_second_factor_is_left_out() {
    // FB-04, FV-25: what changes, and what is decided while the client is observed
    let refusing = || vec![support::rule(When::default(), Then { refuse: true, ..Then::default() })];
    let cases: &[(Change, &str)] = &[
        (|_| {}, "allow observed, plan push!"),
        (|w| w.shows = Shows::Text, "allow observed, plan push#"),
        (|w| w.user().methods = vec![Method::Call, Method::Push], "allow observed, plan push! call!"),
        (|w| w.wanted = Some(Method::Call), "allow observed, deny no_usable_method"),
        (|w| w.user().methods = vec![Method::Code], "allow observed, deny method_impossible"),
        (|w| w.user().methods = vec![Method::Questions], "allow observed, deny no_usable_method"),
        (|w| w.user().methods.clear(), "allow observed, deny not_enrolled"),
        (|w| w.user = None, "allow observed, deny unknown_user"),
        (|w| w.user().bypass = Some(Bypass { client: "", expires_unix_ms: NOW + 1 }), "allow observed, bypass"),
        (
            |w| {
                w.client.pin = true;
                w.user().pin.set = true;
                w.user().pin.locked_until_unix_ms = -1;
            },
            "allow observed, deny locked_out",
        ),
        // A rule that lets in on the password alone says so itself.
        (|w| w.user().exempt_clients = support::all_clients(), "allow exempt"),
        (|w| w.client.trusted_networks = vec!["198.51.100.0/24".parse().expect("a network")], "allow trusted_network"),
        (
            |w| {
                w.user = None;
                w.client.unknown_user = RefuseOrPass::Pass;
            },
            "allow unknown_user_passed",
        ),
        // These are no second factor.
        (|w| w.user().blocked_until_unix_ms = -1, "deny blocked"),
        (|w| w.user().state = UserState::Disabled, "deny blocked"),
        (|w| w.user().state = UserState::Removed, "deny blocked"),
        (|w| w.client.groups = vec!["cn=vpn".into()], "deny not_in_group"),
    ];
    for (place, (change, expected)) in cases.iter().enumerate() {
        let mut world = observed();
        change(&mut world);
        assert_eq!(world.decided(), *expected, "case {place}");
    }
    let mut world = observed();
    world.policies = refusing();
    assert_eq!(world.decided(), "deny client_not_allowed");
}

#[test]
fn who_is_observed_proves_nothing() {
    let Decision::Observed(observed) = observed().decide() else { panic!("not observed") };
    let grant = observed.grant;
    assert_eq!(
        (grant.reason(), grant.source(), grant.assurance()),
        (Reason::Observed, Source::Exempt, Assurance::None)
    );
    assert_eq!((grant.method(), grant.is_live()), (None, false), "nothing that could be remembered (V-50)");
}

#[test]
fn observing_ends_by_itself_and_never_begins_at_the_portal() {
    // V-84
    for (until, expected) in [
        (NOW + 1, "allow observed, plan push!"),
        (i64::MAX, "allow observed, plan push!"),
        (NOW, "plan push!"),
        (0, "plan push!"),
        (-1, "plan push!"),
    ] {
        let mut world = World::new();
        world.client.observed_until_unix_ms = until;
        assert_eq!(world.decided(), expected, "{until}");
    }
    let mut portal = World::new();
    portal.client = ClientRules { observed_until_unix_ms: NOW + 1, ..ClientRules::portal() };
    portal.user().methods.clear();
    assert_eq!(portal.decided(), "deny not_enrolled");
}

#[test]
fn a_moment_that_cannot_be_read_has_passed() {
    // 2026-09-21T14:13:20Z is NOW
    for (written, observed) in [
        (Some("2026-09-21T14:13:21Z"), true),
        (Some("2026-09-21T16:13:21+02:00"), true),
        (Some("2026-09-21T14:13:20Z"), false),
        (Some("2026-09-21T16:13:20+02:00"), false),
        (Some("2030-01-01"), false),
        (Some("tomorrow"), false),
        (Some(""), false),
        (None, false),
    ] {
        let document =
            serde_json::json!({ "name": "vpn", "protocol": "radius", "target": "corp", "observe_until": written });
        let client: Client = serde_json::from_value(document).expect("a client");
        assert_eq!(ClientRules::from(&client).is_observed(NOW), observed, "{written:?}");
    }
}
