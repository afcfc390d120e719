//! The whole truth table of the decision (V-01, V-02): every combination of what it depends on, against the rules in words.

use domain::settings::{RefuseOrPass, ServiceAccount};
use domain::{Assurance, DirectoryRef, Method, Reason, Source};
use policy::{ClientRules, Decision, Facts, Request, User, UserState, decide};

const NOW: i64 = 1_790_000_000_000;

#[derive(Debug, Clone, Copy)]
struct Case {
    /// `None`: not in the store.
    state: Option<UserState>,
    enrolled: bool,
    unknown_user: RefuseOrPass,
    not_enrolled: RefuseOrPass,
    code_allowed: bool,
    service_account: bool,
    listed: bool,
    code_given: bool,
    can_challenge: bool,
}

fn all() -> Vec<Case> {
    const BOTH: [bool; 2] = [false, true];
    const RULES: [RefuseOrPass; 2] = [RefuseOrPass::Refuse, RefuseOrPass::Pass];
    let mut cases = Vec::new();
    for state in [None, Some(UserState::Enabled), Some(UserState::Disabled), Some(UserState::Removed)] {
        for unknown_user in RULES {
            for not_enrolled in RULES {
                for bits in 0..64_u32 {
                    let [enrolled, code_allowed, service_account, listed, code_given, can_challenge] =
                        std::array::from_fn(|place| BOTH[(bits >> place & 1) as usize]);
                    cases.push(Case {
                        state,
                        enrolled,
                        unknown_user,
                        not_enrolled,
                        code_allowed,
                        service_account,
                        listed,
                        code_given,
                        can_challenge,
                    });
                }
            }
        }
    }
    cases
}

fn subject() -> DirectoryRef {
    DirectoryRef {
        directory: "corp".parse().expect("valid"),
        id: "entryUUID:00000000-0000-0000-0000-000000000001".parse().expect("valid"),
    }
}

fn account(sources: &[&str]) -> ServiceAccount {
    ServiceAccount {
        name: "cn=app".into(),
        id: Some(subject().id),
        sources: sources.iter().map(|network| network.parse().expect("a network")).collect(),
    }
}

fn rules(case: &Case) -> ClientRules {
    ClientRules {
        unknown_user: case.unknown_user,
        not_enrolled: case.not_enrolled,
        methods: if case.code_allowed { vec![Method::Code] } else { vec![] },
        target: Some(subject().directory),
        service_accounts: if case.listed { vec![account(&[])] } else { vec![] },
    }
}

fn decided(case: &Case) -> Decision {
    let client = rules(case);
    let request = Request {
        client: &client,
        subject: &subject(),
        client_ip: None,
        as_service_account: case.service_account,
        code_given: case.code_given,
        can_challenge: case.can_challenge,
    };
    let methods = if case.enrolled { vec![Method::Code] } else { vec![] };
    decide(&request, &Facts { user: case.state.map(|state| User { state, methods }) }, NOW)
}

/// The rules once more, as sentences, in another shape than the table under test.
fn expected(case: &Case) -> &'static str {
    let off = matches!(case.state, Some(UserState::Disabled | UserState::Removed));
    if off {
        return "deny blocked";
    }
    if case.service_account && case.listed {
        return "allow service_account";
    }
    let Some(_) = case.state else {
        return if case.unknown_user == RefuseOrPass::Pass { "allow unknown_user_passed" } else { "deny unknown_user" };
    };
    match (case.enrolled, case.not_enrolled, case.code_allowed, case.code_given, case.can_challenge) {
        (false, RefuseOrPass::Pass, ..) => "allow not_enrolled_passed",
        (false, RefuseOrPass::Refuse, ..) => "deny not_enrolled",
        (true, _, false, ..) => "deny no_usable_method",
        (true, _, true, true, _) => "check",
        (true, _, true, false, true) => "ask code",
        (true, _, true, false, false) => "deny method_impossible",
    }
}

#[test]
fn every_combination_decides_as_the_rules_say() {
    let cases = all();
    assert_eq!(cases.len(), 1024);
    for case in cases {
        let found = match decided(&case) {
            Decision::Allow(grant) => format!("allow {}", grant.reason().code()),
            Decision::Deny(reason) => format!("deny {}", reason.code()),
            Decision::Ask(method) => format!("ask {}", method.code()),
            Decision::CheckCode(_) => "check".into(),
        };
        assert_eq!(found, expected(&case), "{case:?}");
    }
}

#[test]
fn a_grant_says_what_it_rests_on_and_ends_after_ten_seconds() {
    // V-02, V-03, V-61
    for case in all() {
        let grant = match decided(&case) {
            Decision::Allow(grant) => {
                assert_eq!((grant.method(), grant.assurance()), (None, Assurance::None), "{case:?}");
                assert_eq!(grant.reason().class(), domain::ResultClass::Bypass);
                let source = match grant.reason() {
                    Reason::ServiceAccount => Source::Exempt,
                    Reason::UnknownUserPassed => Source::UnknownUser,
                    Reason::NotEnrolledPassed => Source::NotEnrolled,
                    other => panic!("{case:?} lets in by {other:?}"),
                };
                assert_eq!(grant.source(), source);
                grant
            }
            Decision::CheckCode(check) => {
                let grant = check.right(NOW);
                assert_eq!(
                    (grant.reason(), grant.method(), grant.assurance(), grant.source()),
                    (Reason::ValidCode, Some(Method::Code), Assurance::Code, Source::Live)
                );
                grant
            }
            _ => continue,
        };
        assert_eq!(grant.expires_unix_ms(), NOW + 10_000);
    }
}

#[test]
fn the_portal_lets_nobody_pass_on_the_password_alone() {
    let client = ClientRules::portal();
    for state in [None, Some(UserState::Enabled), Some(UserState::Disabled), Some(UserState::Removed)] {
        for methods in [vec![], vec![Method::Code]] {
            for bits in 0..8_u32 {
                let request = Request {
                    client: &client,
                    subject: &subject(),
                    client_ip: "127.0.0.1".parse().ok(),
                    as_service_account: bits & 1 != 0,
                    code_given: bits & 2 != 0,
                    can_challenge: bits & 4 != 0,
                };
                let facts = Facts { user: state.map(|state| User { state, methods: methods.clone() }) };
                assert!(!matches!(decide(&request, &facts, NOW), Decision::Allow(_)), "{request:?} {facts:?}");
            }
        }
    }
}

#[test]
fn a_service_account_is_one_by_id_directory_and_source_and_by_nothing_else() {
    // L-22: (listed account, its directory, where it comes from, exempt)
    let other_id = ServiceAccount {
        id: Some("entryUUID:00000000-0000-0000-0000-000000000002".parse().expect("valid")),
        ..account(&[])
    };
    let unpinned = ServiceAccount { id: None, ..account(&[]) };
    let cases = [
        (account(&[]), "corp", None, true),
        (account(&[]), "corp", Some("10.0.0.1"), true),
        (account(&["10.0.0.0/24"]), "corp", Some("10.0.0.1"), true),
        (account(&["10.0.0.0/24"]), "corp", Some("::ffff:10.0.0.1"), true),
        (account(&["10.0.0.0/24"]), "corp", Some("10.0.1.1"), false),
        (account(&["10.0.0.0/24"]), "corp", Some("::1"), false),
        (account(&["10.0.0.0/24"]), "corp", None, false),
        (account(&[]), "elsewhere", None, false),
        (other_id, "corp", None, false),
        (unpinned, "corp", None, false),
    ];
    for (account, directory, from, exempt) in cases {
        let client = ClientRules {
            target: Some(directory.parse().expect("valid")),
            service_accounts: vec![account.clone()],
            ..ClientRules::portal()
        };
        let request = Request {
            client: &client,
            subject: &subject(),
            client_ip: from.map(|ip| ip.parse().expect("an address")),
            as_service_account: true,
            code_given: false,
            can_challenge: false,
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
    }
}
