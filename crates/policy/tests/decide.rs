//! The decision as tables: every rule of the order, each kind of client with each method (V-01, V-02).

mod support;

use domain::settings::{RefuseOrPass, ServiceAccount, Then, TimeOfWeek, When};
use domain::{Assurance, Method, Reason, Source};
use policy::{Bypass, ClientRules, Decision, Facts, Request, Shows, User, UserState, decide};
use support::{NOW, World, subject};

/// A step that changes one thing of an attempt.
type Change = fn(&mut World);

#[test]
fn the_first_rule_that_speaks_decides_in_the_order_of_the_table() {
    // V-01, FU-02: each line adds what the line above outranks; read upwards, each rule beats all that stand below it
    let order: &[(Change, &str)] = &[
        (|_| {}, "plan push!"),
        (|w| w.user().methods.clear(), "deny not_enrolled"),
        (|w| w.client.not_enrolled = RefuseOrPass::Pass, "allow not_enrolled_passed"),
        (|w| w.user().bypass = Some(Bypass { client: "", expires_unix_ms: NOW + 1 }), "bypass"),
        (|w| w.client.trusted_networks = vec!["198.51.100.0/24".parse().expect("a network")], "allow trusted_network"),
        (|w| w.user().exempt_clients = support::all_clients(), "allow exempt"),
        (|w| w.client.groups = vec!["cn=vpn".into()], "deny not_in_group"),
        (
            |w| {
                w.as_service_account = true;
                w.client.service_accounts = vec![support::account(&[])];
            },
            "allow service_account",
        ),
        (
            |w| w.policies = vec![support::rule(When::default(), Then { refuse: true, ..Then::default() })],
            "deny client_not_allowed",
        ),
        (|w| w.user().blocked_until_unix_ms = NOW + 1, "deny blocked"),
    ];
    let mut world = World::new();
    for (change, expected) in order {
        change(&mut world);
        assert_eq!(world.decided(), *expected);
    }
    for state in [UserState::Disabled, UserState::Removed] {
        let mut world = World::new();
        world.client.unknown_user = RefuseOrPass::Pass;
        world.user().state = state;
        assert_eq!(world.decided(), "deny blocked");
    }
}

#[test]
fn who_has_a_method_that_nobody_can_carry_now_is_not_let_in_as_somebody_without_any() {
    // V-25
    let mut world = World::new();
    world.client.not_enrolled = RefuseOrPass::Pass;
    world.user().methods.clear();
    world.user().enrolled = true;
    assert_eq!(world.decided(), "deny no_usable_method");
}

#[test]
fn a_proven_absence_is_one_rule_and_no_group_no_exemption_saves_it() {
    // FV-40
    let mut world = World::new();
    world.user = None;
    assert_eq!(world.decided(), "deny unknown_user");
    world.client.trusted_networks = vec!["0.0.0.0/0".parse().expect("a network")];
    world.policies = vec![support::rule(When::default(), Then { exempt: true, ..Then::default() })];
    assert_eq!(world.decided(), "deny unknown_user");
    world.client.unknown_user = RefuseOrPass::Pass;
    assert_eq!(world.decided(), "allow unknown_user_passed");
}

#[test]
fn a_block_an_exemption_and_a_bypass_end_when_they_say_so() {
    // FV-25, FV-28, FV-42, V-53: to the millisecond; -1 = until somebody ends it
    for (until, expected) in [(0, "plan push!"), (NOW, "plan push!"), (NOW + 1, "deny blocked"), (-1, "deny blocked")] {
        let mut world = World::new();
        world.user().blocked_until_unix_ms = until;
        assert_eq!(world.decided(), expected, "blocked until {until}");
    }
    for (until, expected) in [(0, "allow exempt"), (NOW, "plan push!"), (NOW + 1, "allow exempt")] {
        let mut world = World::new();
        world.user().exempt_clients = support::all_clients();
        world.user().exempt_until_unix_ms = until;
        assert_eq!(world.decided(), expected, "exempt until {until}");
    }
    for (client, expires, expected) in
        [("", NOW + 1, "bypass"), ("vpn", NOW + 1, "bypass"), ("wifi", NOW + 1, "plan push!"), ("", NOW, "plan push!")]
    {
        let mut world = World::new();
        world.user().bypass = Some(Bypass { client, expires_unix_ms: expires });
        assert_eq!(world.decided(), expected, "{client} {expires}");
    }
}

#[test]
fn an_exemption_is_for_the_clients_it_names() {
    // FV-42
    let named: Vec<String> = vec!["wifi".into()];
    let mut world = World::new();
    world.user().exempt_clients = Box::leak(named.into_boxed_slice());
    assert_eq!(world.decided(), "plan push!");
    world.client.name = "wifi".into();
    assert_eq!(world.decided(), "allow exempt");
}

#[test]
fn only_an_address_that_is_known_and_inside_is_trusted() {
    // V-54, B-94
    for (networks, person, trusted) in [
        (&["198.51.100.0/24"][..], Some("198.51.100.7"), true),
        (&["198.51.100.0/24"], Some("::ffff:198.51.100.7"), true),
        (&["198.51.100.0/24"], Some("198.51.101.7"), false),
        (&["198.51.100.0/24"], None, false),
        (&["2001:db8::/32"], Some("2001:db8::1"), true),
        (&["2001:db8::/32"], Some("198.51.100.7"), false),
        (&[], Some("198.51.100.7"), false),
    ] {
        let mut world = World::new();
        world.client.trusted_networks = networks.iter().map(|text| text.parse().expect("a network")).collect();
        world.person_ip = person.map(|text| text.parse().expect("an address"));
        let expected = if trusted { "allow trusted_network" } else { "plan push!" };
        assert_eq!(world.decided(), expected, "{networks:?} {person:?}");
        // Where the packets come from says nothing about the person.
        world.person_ip = None;
        world.client_ip = person.map(|text| text.parse().expect("an address"));
        assert_eq!(world.decided(), "plan push!");
    }
}

#[test]
fn the_first_policy_that_fits_goes_before_the_clients_own_values() {
    // FV-43: when, then, decision
    let group = When { groups: vec!["CN=VPN, DC=corp".into()], ..When::default() };
    let here = When { clients: vec!["vpn".parse().expect("a name")], ..When::default() };
    let elsewhere = When { clients: vec!["wifi".parse().expect("a name")], ..When::default() };
    let network = When { networks: vec!["198.51.100.0/24".parse().expect("a network")], ..When::default() };
    let far = When { networks: vec!["203.0.113.0/24".parse().expect("a network")], ..When::default() };
    let always = TimeOfWeek { days: vec![], from: "00:00".into(), to: "24:00".into(), utc_offset_minutes: 0 };
    let timed = When { time: Some(always), ..When::default() };
    let refuse = || Then { refuse: true, ..Then::default() };
    let exempt = || Then { exempt: true, ..Then::default() };
    let only_code = || Then { methods: vec![Method::Code], ..Then::default() };
    let strong = || Then { least_assurance: Some(Assurance::Code), ..Then::default() };
    for (rules, expected) in [
        (vec![(group.clone(), exempt())], "allow exempt"),
        (vec![(here.clone(), exempt())], "allow exempt"),
        (vec![(elsewhere.clone(), exempt())], "plan push!"),
        (vec![(network.clone(), exempt())], "allow exempt"),
        (vec![(far.clone(), exempt())], "plan push!"),
        (vec![(timed.clone(), refuse())], "deny out_of_hours"),
        (vec![(here.clone(), refuse())], "deny client_not_allowed"),
        (vec![(elsewhere, refuse()), (here.clone(), exempt())], "allow exempt"),
        (vec![(here.clone(), Then::default()), (here.clone(), refuse())], "plan push!"),
        (vec![(When { networks: far.networks, ..group.clone() }, exempt())], "plan push!"),
        (vec![(group, only_code())], "deny method_impossible"),
        (vec![(network, strong())], "deny method_impossible"),
    ] {
        let mut world = World::new();
        let groups: Vec<String> = vec!["cn=vpn,dc=corp".into()];
        world.user().methods = vec![Method::Push, Method::Code];
        world.user().groups = Box::leak(groups.into_boxed_slice());
        world.policies = rules.into_iter().map(|(when, then)| support::rule(when, then)).collect();
        assert_eq!(world.decided(), expected, "{:?}", world.policies);
    }
}

#[test]
fn a_policy_may_demand_the_pin_and_take_the_demand_back() {
    // FV-43, FV-20
    for (client, policy, user, demanded) in [
        (false, None, false, false),
        (true, None, false, true),
        (false, Some(true), false, true),
        (true, Some(false), false, false),
        // Whoever has to use it has to use it everywhere.
        (false, Some(false), true, true),
    ] {
        let mut world = World::new();
        world.client.pin = client;
        world.user().pin = policy::Pin { required: user, set: true, ..policy::Pin::default() };
        world.policies = vec![support::rule(When::default(), Then { pin: policy, ..Then::default() })];
        let Decision::Plan(plan) = world.decide() else { panic!("no plan") };
        assert_eq!(plan.ways[0].pin, demanded, "{client} {policy:?} {user}");
    }
}

#[test]
fn each_kind_of_client_carries_what_it_can_show() {
    // V-22, R-49. `!` waits for the phone, `#` shows a number, `?` asks.
    let cases: &[(Method, &str, &str, &str)] = &[
        (Method::Push, "plan push!", "plan push#", "plan push#"),
        (Method::Call, "plan call!", "plan call!", "plan call!"),
        (Method::SmsReply, "plan sms_reply!", "plan sms_reply!", "plan sms_reply!"),
        (Method::Sms, "deny method_impossible", "plan sms?", "plan sms?"),
        (Method::Code, "deny method_impossible", "plan code?", "plan code?"),
        (Method::Recovery, "deny method_impossible", "plan recovery?", "plan recovery?"),
        (Method::Passkey, "deny method_impossible", "deny method_impossible", "plan passkey?"),
        (Method::Questions, "deny method_impossible", "deny method_impossible", "plan questions?"),
    ];
    assert_eq!(cases.len(), Method::ALL.len());
    for (method, nothing, text, dialogue) in cases {
        for (shows, expected) in [(Shows::Nothing, nothing), (Shows::Text, text), (Shows::Dialogue, dialogue)] {
            let mut world = World::new();
            world.client.methods = Method::ALL.to_vec();
            world.user().methods = vec![*method];
            world.shows = shows;
            assert_eq!(world.decided(), **expected, "{method:?} {shows:?}");
            // What the client's list lacks is not asked, whatever it could show.
            world.client.methods.retain(|allowed| allowed != method);
            assert_eq!(world.decided(), "deny no_usable_method", "{method:?} {shows:?}");
            // Nor what the user may not use.
            world.client.methods.push(*method);
            world.user().allowed_methods = Some(vec![]);
            assert_eq!(world.decided(), "deny no_usable_method", "{method:?} {shows:?}");
        }
    }
}

#[test]
fn a_number_is_shown_where_the_client_may_and_can() {
    // V-22
    let mut world = World::new();
    world.client.number_matching = domain::settings::NumberMatching::No;
    for (shows, expected) in [(Shows::Text, "plan push!"), (Shows::Dialogue, "plan push#")] {
        world.shows = shows;
        assert_eq!(world.decided(), expected);
    }
}

#[test]
fn the_least_assurance_leaves_out_what_proves_less() {
    // FV-15, V-03: least, methods in order; a push with a number proves more than one without
    let all = [Method::Push, Method::Call, Method::Sms, Method::Code, Method::Recovery, Method::Passkey];
    for (shows, least, expected) in [
        (Shows::Text, Assurance::None, "plan push# call! sms? code?"),
        (Shows::Text, Assurance::Phone, "plan push# call! sms? code?"),
        (Shows::Text, Assurance::Code, "plan push# code?"),
        (Shows::Text, Assurance::NumberMatched, "plan push#"),
        (Shows::Text, Assurance::Passkey, "deny method_impossible"),
        (Shows::Dialogue, Assurance::Passkey, "plan passkey?"),
        (Shows::Nothing, Assurance::ApproveOnly, "plan push! call!"),
        (Shows::Nothing, Assurance::Phone, "plan call!"),
        (Shows::Nothing, Assurance::Code, "deny method_impossible"),
    ] {
        let mut world = World::new();
        world.shows = shows;
        world.client.methods = all.to_vec();
        world.client.least_assurance = least;
        world.user().methods = all.to_vec();
        assert_eq!(world.decided(), expected, "{shows:?} {least:?}");
    }
    let mut world = World::new();
    world.user().methods = vec![Method::Call];
    world.client.least_assurance = Assurance::NumberMatched;
    assert_eq!(world.decided(), "deny no_usable_method");
}

#[test]
fn an_approval_that_proves_less_than_is_demanded_lets_nobody_in() {
    // V-03: a number was shown, and a phone without passkey approved
    let mut world = World::new();
    world.shows = Shows::Text;
    world.client.least_assurance = Assurance::NumberMatched;
    for (assurance, expected) in [
        (Assurance::ApproveOnly, Err(Reason::NoUsableMethod)),
        (Assurance::Code, Err(Reason::NoUsableMethod)),
        (Assurance::NumberMatched, Ok(Assurance::NumberMatched)),
        (Assurance::Passkey, Ok(Assurance::Passkey)),
    ] {
        let Decision::Plan(plan) = world.decide() else { panic!("no plan") };
        let policy::Proof::Prompt(check) = plan.ways[0].proof.clone() else { panic!("no prompt") };
        assert_eq!(check.approved(assurance, NOW).map(|grant| grant.assurance()), expected);
    }
}

#[test]
fn the_users_own_method_comes_first_and_the_others_in_the_clients_order() {
    // FV-12: own default, company's default, order
    let some = [Method::Push, Method::Call, Method::Sms, Method::Code, Method::Recovery];
    for (own, company, expected) in [
        (None, Method::Push, "plan push# call! sms? code?"),
        (None, Method::Code, "plan code? push# call! sms?"),
        (Some(Method::Sms), Method::Push, "plan sms? push# call! code?"),
        // A default that the user does not have falls to what they have.
        (Some(Method::Passkey), Method::Push, "plan push# call! sms? code?"),
        (None, Method::SmsReply, "plan push# call! sms? code?"),
    ] {
        let mut world = World::new();
        world.shows = Shows::Text;
        world.client.methods = some.to_vec();
        world.user().methods = some.to_vec();
        world.user().default_method = own;
        world.company.default_method = company;
        assert_eq!(world.decided(), expected, "{own:?} {company:?}");
    }
}

#[test]
fn a_list_is_shown_where_there_is_something_to_choose_and_somebody_to_show_it_to() {
    // FV-12
    for (shows, methods, listed) in [
        (Shows::Nothing, &[Method::Push, Method::Call][..], false),
        (Shows::Text, &[Method::Push, Method::Call], true),
        (Shows::Text, &[Method::Push], false),
        (Shows::Dialogue, &[Method::Push, Method::Code], true),
    ] {
        let mut world = World::new();
        world.shows = shows;
        world.company.choice = domain::settings::Choice::ListFirst;
        world.user().methods = methods.to_vec();
        let Decision::Plan(plan) = world.decide() else { panic!("no plan") };
        assert_eq!(plan.list_first, listed, "{shows:?} {methods:?}");
        assert!(!plan.fallback_code, "FR-06: the client's rule alone says so");
        world.wanted = Some(Method::Push);
        let Decision::Plan(plan) = world.decide() else { panic!("no plan") };
        assert!(!plan.list_first && plan.ways.len() == 1, "who has chosen is not asked again");
    }
}

#[test]
fn a_wanted_method_is_tried_alone_if_it_may_be_and_can() {
    // L-51
    for (shows, wanted, expected) in [
        (Shows::Nothing, Method::Call, "plan call!"),
        (Shows::Nothing, Method::Sms, "deny method_impossible"),
        (Shows::Text, Method::Sms, "plan sms?"),
        (Shows::Text, Method::Code, "plan code? recovery?"),
        (Shows::Text, Method::SmsReply, "deny no_usable_method"),
    ] {
        let mut world = World::new();
        world.shows = shows;
        world.user().methods = vec![Method::Push, Method::Call, Method::Sms, Method::Code, Method::Recovery];
        world.wanted = Some(wanted);
        assert_eq!(world.decided(), expected, "{wanted:?}");
    }
}

#[test]
fn a_code_that_was_given_is_checked_against_what_the_user_may_type() {
    // FL-13, FV-09, FV-29: methods, temporary code, what may be typed
    for (methods, temporary, expected) in [
        (&[Method::Code][..], false, "code"),
        (&[Method::Recovery], false, "recovery"),
        (&[Method::Code, Method::Recovery], true, "code recovery temporary"),
        (&[Method::Push], true, "temporary"),
        (&[Method::Push], false, "no_usable_method"),
        (&[], true, "temporary"),
    ] {
        let mut world = World::new();
        world.user().methods = methods.to_vec();
        world.user().temporary_code = temporary;
        world.code_given = true;
        let found = match world.decide() {
            Decision::Plan(plan) => {
                let typed = [
                    plan.typed.code.as_ref().map(|_| "code"),
                    plan.typed.recovery.as_ref().map(|_| "recovery"),
                    plan.typed.temporary.as_ref().map(|_| "temporary"),
                ];
                typed.into_iter().flatten().collect::<Vec<_>>().join(" ")
            }
            Decision::Deny(reason) => reason.code().to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(found, expected, "{methods:?} {temporary}");
    }
}

#[test]
fn a_temporary_code_is_asked_for_where_nothing_else_is_left() {
    // FV-29: the phone is lost, the help desk gave a code
    let mut world = World::new();
    world.user().methods.clear();
    world.user().temporary_code = true;
    assert_eq!(world.decided(), "deny method_impossible");
    world.shows = Shows::Text;
    assert_eq!(world.decided(), "plan code?");
}

#[test]
fn a_pin_that_cannot_be_given_closes_the_methods_that_need_it() {
    // FV-20 to FV-22: PIN, methods, decision
    let pin = |set, expired, locked_until_unix_ms| policy::Pin {
        required: true,
        set,
        must_change: false,
        expired,
        locked_until_unix_ms,
    };
    for (pin, methods, expected) in [
        (pin(true, false, 0), &[Method::Push, Method::Code][..], "plan push# code?"),
        (pin(true, false, NOW), &[Method::Push], "plan push#"),
        (pin(true, false, NOW + 1), &[Method::Push, Method::Code], "plan code?"),
        (pin(true, false, NOW + 1), &[Method::Push], "deny locked_out"),
        (pin(true, false, -1), &[Method::Sms], "deny locked_out"),
        (pin(false, false, 0), &[Method::Push, Method::Code], "plan code?"),
        (pin(false, false, 0), &[Method::Push], "deny no_usable_method"),
        (pin(true, true, 0), &[Method::Push], "deny no_usable_method"),
    ] {
        let mut world = World::new();
        world.shows = Shows::Text;
        world.user().methods = methods.to_vec();
        world.user().pin = pin;
        assert_eq!(world.decided(), expected, "{pin:?} {methods:?}");
    }
}

#[test]
fn a_grant_says_what_it_rests_on_and_ends_after_ten_seconds() {
    // V-02, V-03, V-61
    let mut world = World::new();
    world.shows = Shows::Dialogue;
    world.client.methods = Method::ALL.to_vec();
    world.client.remember = Some(serde_remember());
    world.user().methods = Method::ALL.to_vec();
    world.user().temporary_code = true;
    let Decision::Plan(plan) = world.decide() else { panic!("no plan") };
    let mut grants = vec![
        plan.typed.code.expect("a token").right(NOW),
        plan.typed.recovery.expect("codes left").right(NOW),
        plan.typed.temporary.expect("open").right(NOW),
        plan.remembered.expect("remembers").right(NOW),
    ];
    for way in plan.ways {
        grants.extend(match way.proof {
            policy::Proof::Prompt(check) => Some(check.approved(way.method.assurance(), NOW).expect("enough")),
            policy::Proof::SentCode(check) => Some(check.right(NOW)),
            policy::Proof::Passkey(check) => Some(check.right(NOW)),
            policy::Proof::Answers(check) => Some(check.right(NOW)),
            policy::Proof::Typed => None,
        });
    }
    let told: Vec<_> = grants
        .iter()
        .map(|grant| {
            assert_eq!(grant.expires_unix_ms(), NOW + 10_000);
            assert_eq!(grant.is_live(), grant.source() == Source::Live);
            let method = grant.method().map_or("-", Method::code);
            (grant.reason().code(), method, grant.assurance().code(), grant.source().code())
        })
        .collect();
    assert_eq!(
        told,
        [
            ("valid_code", "code", "code", "live"),
            ("valid_recovery_code", "recovery", "code", "live"),
            ("temporary_code", "-", "none", "bypass"),
            ("remembered", "-", "none", "remembered"),
            ("user_approved", "push", "approve_only", "live"),
            ("call_confirmed", "call", "phone", "live"),
            ("valid_code", "sms", "phone", "live"),
            ("user_approved", "sms_reply", "approve_only", "live"),
            ("valid_passkey", "passkey", "passkey", "live"),
            ("valid_answers", "questions", "none", "live"),
        ]
    );
}

fn serde_remember() -> domain::settings::Remember {
    domain::settings::Remember {
        kind: domain::settings::RememberKind::User,
        idle_seconds: 300,
        life_seconds: 3600,
        methods: vec![],
    }
}

#[test]
fn a_rule_that_lets_in_says_which_and_proves_nothing() {
    // V-03, V-61
    let cases: &[(Change, Reason, Source)] = &[
        (|w| w.user().exempt_clients = support::all_clients(), Reason::Exempt, Source::Exempt),
        (
            |w| w.client.trusted_networks = vec!["198.51.100.0/24".parse().expect("a network")],
            Reason::TrustedNetwork,
            Source::TrustedNetwork,
        ),
        (
            |w| {
                w.user = None;
                w.client.unknown_user = RefuseOrPass::Pass;
            },
            Reason::UnknownUserPassed,
            Source::UnknownUser,
        ),
        (
            |w| {
                w.user().methods.clear();
                w.client.not_enrolled = RefuseOrPass::Pass;
            },
            Reason::NotEnrolledPassed,
            Source::NotEnrolled,
        ),
    ];
    for (change, reason, source) in cases {
        let mut world = World::new();
        change(&mut world);
        let Decision::Allow(grant) = world.decide() else { panic!("{reason:?}") };
        assert_eq!(
            (grant.reason(), grant.method(), grant.assurance(), grant.source()),
            (*reason, None, Assurance::None, *source)
        );
        assert!(!grant.is_live());
        assert_eq!(grant.expires_unix_ms(), NOW + 10_000);
    }
}

#[test]
fn who_must_enrol_passes_nowhere_without_a_method_whatever_the_client_says() {
    // FS-24
    for (must_enrol, passes) in [(false, true), (true, false)] {
        let mut world = World::new();
        world.user().methods.clear();
        world.user().must_enrol = must_enrol;
        world.client.not_enrolled = RefuseOrPass::Pass;
        assert_eq!(matches!(world.decide(), Decision::Allow(_)), passes, "must enrol: {must_enrol}");
    }
}

#[test]
fn the_portal_lets_nobody_pass_on_the_password_alone() {
    // V-84: not even who is exempt everywhere, or has an open bypass
    for state in [None, Some(UserState::Enabled), Some(UserState::Disabled), Some(UserState::Removed)] {
        for bits in 0..128_u32 {
            let on = |place: u32| bits >> place & 1 == 1;
            let mut world = World::new();
            world.client = ClientRules::portal();
            world.shows = if on(0) { Shows::Dialogue } else { Shows::Text };
            world.as_service_account = on(1);
            world.code_given = on(2);
            world.policies = match on(3) {
                true => vec![support::rule(When::default(), Then { exempt: true, ..Then::default() })],
                false => vec![],
            };
            world.user().methods = if on(4) { vec![Method::Push, Method::Code] } else { vec![] };
            if on(5) {
                world.user().exempt_clients = support::all_clients();
            }
            if on(6) {
                world.user().bypass = Some(Bypass { client: "", expires_unix_ms: NOW + 1 });
            }
            match state {
                Some(state) => world.user().state = state,
                None => world.user = None,
            }
            let decision = world.decide();
            assert!(!matches!(decision, Decision::Allow(_) | Decision::Bypass(_)), "{bits:b} {state:?} {decision:?}");
        }
    }
}

#[test]
fn a_service_account_is_one_by_id_directory_and_source_and_by_nothing_else() {
    // L-22: (listed account, its directory, where it comes from, exempt)
    let other_id = ServiceAccount {
        id: Some("entryUUID:00000000-0000-0000-0000-000000000002".parse().expect("valid")),
        ..support::account(&[])
    };
    let unpinned = ServiceAccount { id: None, ..support::account(&[]) };
    let cases = [
        (support::account(&[]), "corp", None, true),
        (support::account(&[]), "corp", Some("10.0.0.1"), true),
        (support::account(&["10.0.0.0/24"]), "corp", Some("10.0.0.1"), true),
        (support::account(&["10.0.0.0/24"]), "corp", Some("::ffff:10.0.0.1"), true),
        (support::account(&["10.0.0.0/24"]), "corp", Some("10.0.1.1"), false),
        (support::account(&["10.0.0.0/24"]), "corp", Some("::1"), false),
        (support::account(&["10.0.0.0/24"]), "corp", None, false),
        (support::account(&[]), "elsewhere", None, false),
        (other_id, "corp", None, false),
        (unpinned, "corp", None, false),
    ];
    for (account, directory, from, exempt) in cases {
        let client = ClientRules {
            target: Some(directory.parse().expect("valid")),
            service_accounts: vec![account.clone()],
            ..ClientRules::portal()
        };
        let subject = subject();
        let request = Request {
            client: &client,
            company: &domain::settings::VerificationRules::default(),
            policies: &[],
            subject: Some(&subject),
            client_ip: from.map(|ip| ip.parse().expect("an address")),
            person_ip: None,
            as_service_account: true,
            code_given: false,
            wanted: None,
            shows: Shows::Nothing,
        };
        let allowed = matches!(decide(&request, &Facts::default(), NOW), Decision::Allow(_));
        assert_eq!(allowed, exempt, "{account:?} {directory} {from:?}");
    }
}

#[test]
fn a_state_that_nobody_knows_refuses() {
    // V-75
    for (code, state) in [
        ("enabled", UserState::Enabled),
        ("disabled", UserState::Disabled),
        ("removed", UserState::Removed),
        ("", UserState::Disabled),
        ("ENABLED", UserState::Disabled),
        ("superuser", UserState::Disabled),
    ] {
        assert_eq!(UserState::from_code(code), state, "{code}");
        assert_eq!(User::new(state).state, state);
    }
}

#[test]
fn a_recent_login_may_count_where_the_client_can_ask_for_nothing() {
    // V-50: a code came behind the password at first; what an application repeats is the password alone
    let mut world = World::new();
    world.shows = Shows::Nothing;
    world.user().methods = vec![Method::Code];
    assert_eq!(world.decided(), "deny method_impossible");
    world.client.remember = Some(serde_remember());
    let Decision::Plan(plan) = world.decide() else { panic!("no plan") };
    assert!(plan.ways.is_empty() && plan.remembered.is_some());
    assert_eq!(plan.dead_end, Some(Reason::MethodImpossible));
    world.user().methods = Vec::new();
    assert_eq!(world.decided(), "deny not_enrolled", "who has nothing has nothing to be remembered by");
}
