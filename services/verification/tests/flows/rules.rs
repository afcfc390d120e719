//! What lets in without a fresh factor: remembered logins, a one-time bypass, trusted networks, exemptions.

use crate::fakes::{NOW, World, answer, asked, attempt, passed, request, said};
use proto::user_store::Bypass;
use proto::verification::verification_server::Verification;
use proto::verification::{Attempt, BeginRequest, Primary};

/// What differs, how, and whether the login counts with `user`, `user_source`, `user_source_password`.
type Difference<'a> = (&'a str, fn(&mut Attempt), [bool; 3]);

#[tokio::test]
async fn a_remembered_login_counts_where_everything_that_its_rule_names_is_the_same() {
    // V-50 ★, V-32: each field alone is changed
    let digest = |octet: u8| vec![octet; 32];
    let changes: &[Difference] = &[
        ("nothing", |_| {}, [true, true, true]),
        ("place", |it| it.calling_station = "203.0.113.10".into(), [true, false, false]),
        ("password", |it| it.password_digest = vec![8; 32], [true, true, false]),
        ("no password", |it| it.password_digest = vec![], [true, true, false]),
        // V-52: whatever the rule names
        ("stamp of the password", |it| it.password_stamp = "133444736000010001".into(), [false, false, false]),
        ("no stamp", |it| it.password_stamp = String::new(), [false, false, false]),
    ];
    for (kind, client) in ["keeps", "keepsplace", "keepsall"].into_iter().enumerate() {
        for (what, change, counts) in changes {
            let world = World::new();
            world.store.give_phone("ann");
            let node = world.node().await;
            world.carriers.answers("approved", "approve_only");
            let proven = || Attempt {
                password_digest: digest(7),
                password_stamp: "133444736000010000".into(),
                ..attempt(client, "ann")
            };
            assert_eq!(said(node.begin(passed(&proven(), None)).await), "allow user_approved");
            let mut second = proven();
            change(&mut second);
            let expected = if counts[kind] { "allow remembered" } else { "allow user_approved" };
            assert_eq!(said(node.begin(passed(&second, None)).await), expected, "{client} {what}");
        }
    }
}

#[tokio::test]
async fn a_remembered_login_is_of_its_user_client_epoch_and_rules() {
    // V-50, V-51, V-52
    let world = World::new();
    world.store.give_phone("ann");
    world.store.give_phone("bob");
    let node = world.node().await;
    world.carriers.answers("approved", "approve_only");
    let begin = async |client: &str, name: &str| said(node.begin(passed(&attempt(client, name), None)).await);
    assert_eq!(begin("keeps", "ann").await, "allow user_approved");
    assert_eq!(begin("keeps", "ann").await, "allow remembered");
    assert_eq!(begin("keepsplace", "ann").await, "allow user_approved", "another application");
    assert_eq!(begin("keeps", "bob").await, "allow user_approved", "another person");
    assert_eq!(begin("waits", "ann").await, "allow user_approved", "a client that remembers nothing");
    world.store.change("ann", |user| user.epoch += 1);
    assert_eq!(begin("keeps", "ann").await, "allow user_approved", "a factor was added, or a password changed");
    world.store.change("ann", |user| user.state = "disabled".into());
    assert_eq!(begin("keeps", "ann").await, "deny blocked", "a state goes first");
}

#[tokio::test]
async fn a_remembered_login_ends_when_nobody_used_it_and_at_the_latest_after_its_life() {
    // V-50: idle 300 s, life 3600 s
    let world = World::new();
    world.store.give_phone("ann");
    let node = world.node().await;
    world.carriers.answers("approved", "approve_only");
    let mut outcomes = Vec::new();
    for pause in [0, 299_000, 299_000, 300_000, 0] {
        world.clock.advance(pause);
        outcomes.push(said(node.begin(passed(&attempt("keeps", "ann"), None)).await));
    }
    let (fresh, kept) = ("allow user_approved", "allow remembered");
    assert_eq!(outcomes, [fresh, kept, kept, fresh, kept]);
    for _ in 0..13 {
        world.clock.advance(290_000);
        outcomes.push(said(node.begin(passed(&attempt("keeps", "ann"), None)).await));
    }
    assert_eq!(outcomes.last().map(String::as_str), Some(fresh), "an hour is over, however busy it was");
}

#[tokio::test]
async fn only_a_persons_own_factor_is_remembered() {
    // V-50: not what a rule, a bypass or the help desk let in; the store asserts the source
    let world = World::new();
    let node = world.node().await;
    world.store.change("ann", |user| {
        let (bypass_id, client) = ("bypass".into(), String::new());
        user.bypass = Some(Bypass { bypass_id, client, expires_unix_ms: NOW + 60_000 });
        user.temporary_code = true;
    });
    world.store.give_secret("ann", proto::user_store::SecretKind::Temporary, "123456789", 1);
    assert_eq!(said(node.begin(passed(&attempt("keeps", "ann"), None)).await), "allow one_time_bypass");
    assert!(world.store.remembered().is_empty());
    let help = attempt("keeps", "ann");
    asked(node.begin(passed(&help, None)).await);
    assert_eq!(said(node.answer(answer(&help, 1, "123456789")).await), "allow temporary_code");
    assert!(world.store.remembered().is_empty());
    let own = attempt("keeps", "ann");
    asked(node.begin(passed(&own, None)).await);
    assert_eq!(said(node.answer(answer(&own, 1, &world.code(0))).await), "allow valid_code");
    let [kept] = &world.store.remembered()[..] else { panic!("one login") };
    assert_eq!((kept.idle_seconds, kept.life_seconds, kept.place.as_str()), (300, 3600, "203.0.113.9"));
}

#[tokio::test]
async fn a_method_that_the_rule_does_not_name_is_not_remembered() {
    // FV-30
    let world = World::new();
    world.store.change_settings(|settings| {
        let client = settings.clients.iter_mut().find(|client| client.name.as_str() == "keeps").expect("a client");
        client.remember.as_mut().expect("a rule").methods = vec![domain::Method::Push];
    });
    let node = world.node().await;
    let attempt = attempt("keeps", "ann");
    assert_eq!(said(node.begin(passed(&attempt, Some(&world.code(0)))).await), "allow valid_code");
    assert!(world.store.remembered().is_empty());
}

#[tokio::test]
async fn a_bypass_lets_in_once() {
    // FV-28, V-53
    let world = World::new();
    let node = world.node().await;
    world.store.change("ann", |user| {
        let bypass_id = "bypass".into();
        user.bypass = Some(Bypass { bypass_id, client: "vpn".into(), expires_unix_ms: NOW + 60_000 });
    });
    assert_eq!(said(node.begin(passed(&attempt("waits", "ann"), None)).await), "ask 1", "another client's");
    assert_eq!(said(node.begin(passed(&attempt("vpn", "ann"), None)).await), "allow one_time_bypass");
    assert_eq!(said(node.begin(passed(&attempt("vpn", "ann"), None)).await), "ask 1");
    let event = &world.store.events()[0];
    assert_eq!((event.source.as_str(), event.result.as_str(), event.assurance.as_str()), ("bypass", "bypass", "none"));
}

#[tokio::test]
async fn a_trusted_place_is_one_that_the_gateway_names() {
    // FV-32, V-54
    let world = World::new();
    let node = world.node().await;
    for (person_ip, expected) in [
        ("198.51.100.7", "allow trusted_network"),
        ("::ffff:198.51.100.7", "allow trusted_network"),
        ("198.51.101.7", "ask 1"),
        ("0198.51.100.7", "ask 1"),
        ("", "ask 1"),
    ] {
        let attempt = Attempt { person_ip: person_ip.into(), ..attempt("home", "ann") };
        assert_eq!(said(node.begin(passed(&attempt, None)).await), expected, "{person_ip}");
    }
    assert_eq!(world.store.events()[0].source, "trusted_network");
}

#[tokio::test]
async fn who_is_blocked_hears_until_when_and_gets_no_prompt() {
    // FV-25
    let world = World::new();
    world.store.give_phone("ann");
    world.store.change("ann", |user| user.blocked_until_unix_ms = NOW + 5_000);
    let node = world.node().await;
    let outcome = node.begin(passed(&attempt("waits", "ann"), None)).await.expect("answered").into_inner();
    let Some(proto::verification::outcome::Result::Deny(deny)) = outcome.result else { panic!("let in") };
    assert_eq!((deny.reason.as_str(), deny.until_unix_ms), ("blocked", NOW + 5_000));
    assert!(world.store.prompts().is_empty());
    world.clock.advance(5_000);
    world.carriers.answers("approved", "approve_only");
    assert_eq!(said(node.begin(passed(&attempt("waits", "ann"), None)).await), "allow user_approved");
}

#[tokio::test]
async fn an_application_is_a_client_like_others_and_its_word_for_the_password_is_recorded() {
    // FC-05
    let world = World::new();
    let node = world.node().await;
    let by = |protocol: &str| Attempt { protocol: protocol.into(), dialogue: true, ..attempt("sheets", "ann") };
    assert_eq!(said(node.begin(passed(&by("radius"), None)).await), "deny client_not_allowed");
    assert_eq!(said(node.begin(passed(&by("portal"), None)).await), "deny client_not_allowed");
    let vouched = by("api");
    let begin = BeginRequest {
        attempt: Some(vouched.clone().into()),
        primary: Primary::Passed.into(),
        vouched: true,
        ..BeginRequest::default()
    };
    assert_eq!(said(node.begin(request(begin)).await), "ask 1");
    assert_eq!(said(node.answer(answer(&vouched, 1, &world.code(0))).await), "allow valid_code");
    let checked = by("api");
    assert_eq!(said(node.begin(passed(&checked, None)).await), "ask 1");
    assert_eq!(said(node.answer(answer(&checked, 1, &world.code(1))).await), "allow valid_code");
    let told: Vec<_> = world.store.events().into_iter().map(|event| (event.protocol, event.detail)).collect();
    let word = "first factor: by the word of the client";
    assert_eq!(told[2..], [("api".into(), word.into()), ("api".to_owned(), String::new())]);
}
