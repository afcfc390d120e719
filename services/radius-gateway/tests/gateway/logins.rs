//! One packet, two locks: A3, B7, R-60 to R-67. Binds are counted in every case.

use crate::support::*;
use proto::verification::outcome::Result as Said;
use radius_wire::{AttributeType, Code, write_unsigned};
use std::time::{Duration, Instant};

fn begin(code: Option<&str>) -> Call {
    Call::Begin { username: "ann".into(), code: code.map(str::to_owned) }
}

#[tokio::test]
async fn required_one_bind_with_the_password_then_the_code() {
    // L-52 (a), R-63, R-64
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(REQUIRED, gateway.address, SECRET).await;
    let right = nas.question("ann", &format!("{ANN},{CODE}"));
    let answer = nas.ask(&right).await;
    assert_eq!((answer.code(), answer.kinds()), (Code::AccessAccept, vec![80]));
    assert_eq!(
        (world.directory.passwords(), world.verification.calls()),
        (vec![ANN.to_owned()], vec![begin(Some(CODE))])
    );

    let reused = nas.question("ann", &format!("{ANN},{CODE}"));
    assert_eq!(nas.ask(&reused).await.code(), Code::AccessReject);
    let wrong = nas.question("ann", &format!("{ANN},000000"));
    assert_eq!(nas.ask(&wrong).await.code(), Code::AccessReject);
    assert_eq!(world.directory.binds(), 3, "one each");
}

#[tokio::test]
async fn required_without_a_code_is_refused_without_a_bind() {
    // L-52 (a), L-55, B-62
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(REQUIRED, gateway.address, SECRET).await;
    for typed in [ANN, "912345", "sesame,1234567", "sesame,12345", "sesame,push", ",912345", ANN] {
        let question = nas.question("ann", typed);
        assert_eq!(nas.ask(&question).await.code(), Code::AccessReject, "{typed}");
    }
    assert_eq!((world.directory.binds(), world.verification.decisions()), (0, 0));
    until("all are reported", async || world.verification.reports().len() == 7).await;
    let reasons: Vec<_> = world.verification.reports().into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(reasons.iter().filter(|reason| *reason == "empty_password").count(), 1, "{reasons:?}");
    assert_eq!(reasons.iter().filter(|reason| *reason == "wrong_code").count(), 6, "{reasons:?}");
}

#[tokio::test]
async fn a_password_in_latin_1_reaches_the_directory_in_utf_8_where_the_client_writes_it_so() {
    // R-22, RFC 4513 section 5.1.3: NUL is a wrong secret in any charset, other octets only where they are no UTF-8
    let world = World::new().await;
    let gateway = world.gateway().await;
    for (device, octets, bound) in [
        (LATIN, b"Gr\xf6\xdfe 1".as_slice(), Some("Größe 1")),
        (LATIN, b"Gr\0\xdfe 1", None),
        (LEGACY, b"Gr\xf6\xdfe 1", None),
        (LEGACY, "Größe1".as_bytes(), Some("Größe1")),
    ] {
        let before = world.directory.passwords().len();
        let mut nas = Nas::new(device, gateway.address, SECRET).await;
        let question = nas.question("ann", "12345678").unsigned().with_password("12345678", octets);
        assert_eq!(nas.ask(&question).await.code(), Code::AccessReject, "it is nobody's");
        let passwords = world.directory.passwords();
        assert_eq!(
            passwords[before..].iter().map(String::as_str).collect::<Vec<_>>(),
            Vec::from_iter(bound),
            "{octets:?}"
        );
    }
    until("all are reported", async || world.verification.reports().len() == 4).await;
    let mut reasons: Vec<_> = world.verification.reports().into_iter().map(|(_, reason)| reason).collect();
    reasons.sort();
    assert_eq!(reasons, ["bad_password", "bad_password", "secret_mismatch", "secret_mismatch"]);
}

#[tokio::test]
async fn a_wrong_password_that_comes_again_is_refused_without_another_bind() {
    // FB-02: a device that tries again by itself must not use up a person's tries
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
    for password in ["wrong", "wrong", "wrong", "other", "wrong"] {
        let question = nas.question("ann", password);
        assert_eq!(nas.ask(&question).await.code(), Code::AccessReject);
    }
    assert_eq!(world.directory.passwords(), ["wrong", "other"]);
    until("each is told", async || world.verification.reports() == vec![("ann".into(), "bad_password".into()); 5])
        .await;
    // The right one, another person and another place are asked about.
    let question = nas.question("ann", ANN);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessChallenge);
    let station = attribute(AttributeType::CALLING_STATION_ID, b"00-11-22-33-44-55");
    for (name, more) in [("bob", None), ("ann", Some(station))] {
        let attributes: Vec<_> = [user_name(name)].into_iter().chain(more).collect();
        let question = nas.with(&attributes, Some("wrong"));
        assert_eq!(nas.ask(&question).await.code(), Code::AccessReject);
    }
    assert_eq!(world.directory.passwords(), ["wrong", "other", ANN, "wrong", "wrong"]);
}

#[tokio::test]
async fn no_code_is_looked_at_after_a_wrong_password() {
    //
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(REQUIRED, gateway.address, SECRET).await;
    let question = nas.question("ann", &format!("wrong,{CODE}"));
    assert_eq!(nas.ask(&question).await.code(), Code::AccessReject);
    assert_eq!((world.directory.binds(), world.verification.decisions()), (1, 0));
    until("it is reported", async || world.verification.reports() == [("ann".into(), "bad_password".into())]).await;
    let right = nas.question("ann", &format!("{ANN},{CODE}"));
    assert_eq!(nas.ask(&right).await.code(), Code::AccessAccept, "the code was not spent");
}

#[tokio::test]
async fn optional_the_code_is_spent_before_the_one_bind() {
    // L-52 (b), L-53
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(OPTIONAL, gateway.address, SECRET).await;
    let right = nas.question("ann", &format!("{ANN},{CODE}"));
    assert_eq!(nas.ask(&right).await.code(), Code::AccessAccept);
    let before = Call::BeginBeforeBind { username: "ann".into(), code: CODE.into() };
    assert_eq!(
        (world.directory.passwords(), world.verification.calls()),
        (vec![ANN.to_owned()], vec![before, Call::Complete])
    );

    let wrong_password = nas.question("ann", &format!("wrong,{SECOND_CODE}"));
    assert_eq!(nas.ask(&wrong_password).await.code(), Code::AccessReject);
    assert_eq!(world.directory.passwords()[1..], ["wrong".to_owned()]);
    let again = nas.question("ann", &format!("{ANN},{SECOND_CODE}"));
    assert_eq!(nas.ask(&again).await.code(), Code::AccessReject, "the code stays used");
    assert_eq!(world.directory.passwords()[2..], [format!("{ANN},{SECOND_CODE}")], "and is now part of the password");
}

#[tokio::test]
async fn optional_what_is_no_right_code_is_part_of_the_password() {
    // L-51, L-52 (b), L-55: dan's password ends like one with a code
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(OPTIONAL, gateway.address, SECRET).await;
    let question = nas.question("dan", "sesame,123456");
    assert_eq!(nas.ask(&question).await.code(), Code::AccessChallenge);
    assert_eq!(world.directory.passwords(), ["sesame,123456"]);
    // bob has no token, so nothing could be appended.
    let question = nas.question("bob", &format!("sesame-bob-77e2,{CODE}"));
    assert_eq!(nas.ask(&question).await.code(), Code::AccessReject);
    assert_eq!(world.directory.passwords()[1..], [format!("sesame-bob-77e2,{CODE}")]);
}

#[tokio::test]
async fn the_last_digits_may_be_the_code() {
    // L-50
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(LAST_DIGITS, gateway.address, SECRET).await;
    let question = nas.question("ann", &format!("{ANN}{CODE}"));
    assert_eq!(nas.ask(&question).await.code(), Code::AccessAccept);
    assert_eq!(world.directory.passwords(), [ANN]);
}

#[tokio::test]
async fn what_cannot_be_a_right_password_never_reaches_the_directory() {
    // B-18 to B-22
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(LEGACY, gateway.address, SECRET).await;
    let mut questions = vec![nas.question("ann", "")];
    let mut wrong_secret = Nas::new(LEGACY, gateway.address, "not the secret").await;
    for _ in 0..20 {
        questions.push(wrong_secret.question("ann", "a password of more than thirty-two octets").unsigned());
    }
    for name in ["", "a\0nn", "ann\r\nService-Type=6", "\u{1b}[2J", "$(id)\u{7}"] {
        questions.push(nas.question(name, ANN));
    }
    // Names that are only names: nobody has them, and nothing else happens.
    for name in
        ["*)(uid=*", "*", "';--", "%s%n", "\u{202e}nna", &"a".repeat(253), "other\\ann", "al\u{131}ce", "\u{430}nn"]
    {
        questions.push(nas.question(name, ANN));
    }
    // Two people have this mail address.
    questions.push(nas.question("shared@corp.example", "sesame-bob-77e2"));
    let chap = attribute(AttributeType::CHAP_PASSWORD, &[7; 17]);
    let ms_chap = [&[0, 0, 1, 55, 25, 52][..], &[0; 50]].concat();
    for kind in [chap, attribute(AttributeType::VENDOR_SPECIFIC, &ms_chap)] {
        questions.push(nas.with(&[user_name("ann"), kind], None));
        questions.push(nas.with(&[user_name("ann"), kind], Some(ANN)));
    }
    questions.push(nas.with(&[user_name("ann")], None));
    for length in [1, 15, 17, 129, 253] {
        let mut question = nas.question("ann", ANN);
        let hidden = vec![9; length];
        let attributes = [user_name("ann"), attribute(AttributeType::USER_PASSWORD, &hidden)];
        let sent = question.sent;
        question.octets = write_unsigned(1, sent.identifier, &sent.authenticator, attributes).expect("it fits");
        questions.push(question);
    }
    // The answers to the spoofer are signed with our secret, so they are checked as the real device would.
    let asked =
        questions.iter().map(async |question| Nas::new(LEGACY, gateway.address, SECRET).await.ask(question).await);
    for (place, answer) in futures::future::join_all(asked).await.into_iter().enumerate() {
        assert_eq!(answer.code(), Code::AccessReject, "question {place}");
        assert!(answer.message().starts_with("Sign-in failed. Ref "), "question {place}");
    }
    assert_eq!((world.directory.binds(), world.verification.decisions()), (0, 0));
    until("all are reported", async || world.verification.reports().len() == questions.len()).await;
    let reported = world.verification.reports();
    let count = |reason: &str| reported.iter().filter(|(_, reported)| reported == reason).count();
    assert_eq!((count("secret_mismatch"), count("empty_password"), count("ambiguous_user")), (20, 1, 1));
    for (username, _) in reported {
        assert!(!username.chars().any(char::is_control), "{username:?}");
    }
}

#[tokio::test]
async fn eap_is_refused_without_a_word() {
    // EAP-Failure and no Reply-Message
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
    let eap = nas.with(&[user_name("ann"), attribute(AttributeType::EAP_MESSAGE, &[2, 1, 0, 5, 1])], None);
    let answer = nas.ask(&eap).await;
    assert_eq!((answer.code(), answer.kinds()), (Code::AccessReject, vec![80, 79]));
    assert_eq!(answer.all(AttributeType::EAP_MESSAGE), [[4, 1, 0, 4]]);
    assert_eq!(world.directory.binds(), 0);
}

#[tokio::test]
async fn nothing_but_silence_where_neither_credentials_nor_a_signature_prove_anything() {
    // R-20, last sentence
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(LEGACY, gateway.address, SECRET).await;
    let question = nas.with(&[user_name("ann")], None).unsigned();
    nas.send(&question.octets).await;
    nas.hears_nothing().await;
    assert_eq!(world.verification.calls(), []);
}

#[tokio::test]
async fn every_form_of_a_name_is_one_person() {
    //
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
    let forms =
        ["ann", "ANN", " ann", "ann ", "ann@corp.example", "Ann@Corp.Example", "uid=ann,ou=people,dc=corp,dc=example"];
    for form in forms {
        let question = nas.question(form, ANN);
        assert_eq!(nas.ask(&question).await.code(), Code::AccessChallenge, "{form}");
    }
    assert_eq!(world.verification.calls(), vec![begin(None); forms.len()]);
    assert_eq!(world.directory.binds(), forms.len());
}

#[tokio::test]
async fn a_name_counts_in_the_forms_that_the_client_lists_and_in_no_other() {
    // what is not listed is refused before anybody is looked for, also where unknown people are let in
    use domain::NameForm::{Bare, UserPrincipalName};
    let world = World::new().await;
    let listed = |settings: &mut domain::settings::Settings| {
        let client = settings.clients.iter_mut().find(|client| client.name.as_str() == "required").expect("there");
        client.name_forms = vec![UserPrincipalName];
        client.unknown_user = domain::settings::RefuseOrPass::Pass;
    };
    world.store.change(&world.bus, listed).await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(REQUIRED, gateway.address, SECRET).await;
    let typed = format!("{ANN},{CODE}");
    for name in ["ann", "ANN ", "uid=ann,ou=people,dc=corp,dc=example", "nobody", "CORP\\ann"] {
        let question = nas.question(name, &typed);
        assert_eq!(nas.ask(&question).await.code(), Code::AccessReject, "{name}");
    }
    assert_eq!(world.directory.binds(), 0);
    let reasons = || world.verification.reports().into_iter().map(|(_, reason)| reason).collect::<Vec<_>>();
    until("all are reported", async || reasons().len() == 5).await;
    assert_eq!(reasons().iter().filter(|it| *it == "protocol_unsupported").count(), 4, "{:?}", reasons());
    let question = nas.question("Ann@Corp.Example", &typed);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessAccept);

    let both = |settings: &mut domain::settings::Settings| {
        let client = settings.clients.iter_mut().find(|client| client.name.as_str() == "required").expect("there");
        client.name_forms = vec![UserPrincipalName, Bare];
    };
    world.store.change(&world.bus, both).await;
    until("it is in force", async || {
        let question = nas.question("ann", &format!("{ANN},{SECOND_CODE}"));
        nas.ask(&question).await.code() == Code::AccessAccept
    })
    .await;
}

#[tokio::test]
async fn a_directory_that_cannot_answer_is_never_a_yes_and_nobody_is_unknown_because_of_it() {
    // B-60
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(REQUIRED, gateway.address, SECRET).await;
    for (mood, reason, binds) in [
        (Mood::SearchFails(1), "directory_error", 0),
        (Mood::SearchFails(51), "directory_error", 0),
        (Mood::SearchIsCut, "directory_error", 0),
        (Mood::Refers, "directory_error", 1),
        (Mood::Answers(10), "directory_error", 1),
        (Mood::Answers(4096), "directory_error", 1),
        (Mood::SilentToBinds, "directory_timeout", 1),
    ] {
        world.directory.mood(mood);
        let (before, reported) = (world.directory.binds(), world.verification.reports().len());
        let question = nas.question("ann", &format!("{ANN},{CODE}"));
        assert_eq!(nas.ask(&question).await.code(), Code::AccessReject, "{reason}");
        assert_eq!(world.directory.binds() - before, binds, "{reason}: at most one bind an attempt");
        until("it is reported", async || world.verification.reports().len() > reported).await;
        assert_eq!(world.verification.reports().last().expect("one").1, reason);
    }
    world.directory.mood(Mood::Well);
    let question = nas.question("ann", &format!("{ANN},{CODE}"));
    assert_eq!(nas.ask(&question).await.code(), Code::AccessAccept, "it recovers by itself");
    world.directory.stop();
    let question = nas.question("ann", &format!("{ANN},{SECOND_CODE}"));
    assert_eq!(nas.ask(&question).await.code(), Code::AccessReject);
    assert_eq!(world.verification.decisions(), 1);
}

#[tokio::test]
async fn only_an_allow_for_this_very_attempt_lets_anybody_in() {
    // V-02, V-40, V-75, B-89
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(REQUIRED, gateway.address, SECRET).await;
    let allow = |change: fn(&mut proto::verification::Allow)| {
        Fault::twists(move |outcome| {
            if let Some(Said::Allow(allow)) = &mut outcome.result {
                change(allow);
            }
        })
    };
    let faults = [
        Fault::Unavailable,
        Fault::twists(|outcome| outcome.result = None),
        Fault::twists(|outcome| outcome.transaction_id = "01934c7e-0000-7000-8000-000000000000".into()),
        Fault::twists(|outcome| outcome.transaction_id.clear()),
        Fault::twists(|outcome| outcome.result = Some(Said::CodeAccepted(Default::default()))),
        Fault::twists(|outcome| outcome.result = Some(Said::Deny(Default::default()))),
        Fault::twists(|outcome| outcome.result = Some(Said::Ask(Default::default()))),
        allow(|allow| allow.client = "vpn".into()),
        allow(|allow| allow.client.clear()),
        allow(|allow| allow.expires_unix_ms = NOW_MS),
        allow(|allow| allow.reason = "no_such_reason".into()),
        allow(|allow| allow.reason = "bad_password".into()),
    ];
    for (place, fault) in faults.into_iter().enumerate() {
        world.verification.forget_spent_codes();
        world.verification.misbehave(Some(fault));
        let question = nas.question("ann", &format!("{ANN},{CODE}"));
        assert_eq!(nas.ask(&question).await.code(), Code::AccessReject, "fault {place}");
    }
    world.verification.forget_spent_codes();
    world.verification.misbehave(None);
    let question = nas.question("ann", &format!("{ANN},{CODE}"));
    assert_eq!(nas.ask(&question).await.code(), Code::AccessAccept);
}

#[tokio::test]
async fn a_verification_that_says_nothing_is_a_no_within_the_wait_of_the_client() {
    // V-44: the budget of 10 s, less what is kept back to answer
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
    world.verification.misbehave(Some(Fault::Hangs));
    let question = nas.question("ann", ANN);
    let begun = Instant::now();
    nas.send(&question.octets).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(nas.hear(&question).await.code(), Code::AccessReject);
    assert!((9_000..10_000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_directory_that_may_take_longer_than_the_client_waits_is_not_waited_for() {
    // V-44: the wait of the client bounds every step, whatever the directory's own time-out
    let world = World::new().await;
    world.store.change(&world.bus, |settings| settings.directories[0].timeout_seconds = 60).await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
    world.directory.mood(Mood::SilentToBinds);
    let question = nas.question("ann", ANN);
    let begun = Instant::now();
    nas.send(&question.octets).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(nas.hear(&question).await.code(), Code::AccessReject);
    assert!((9_000..10_000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    until("it is reported", async || world.verification.reports() == [("ann".into(), "directory_timeout".into())])
        .await;
    assert_eq!(world.directory.binds(), 1);
}

#[tokio::test]
async fn every_no_looks_the_same_and_none_comes_early() {
    // wrong password, wrong code, unknown user, blocked, verification away
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(REQUIRED, gateway.address, SECRET).await;
    world.verification.without_factor("bob");
    let mut kinds = Vec::new();
    let cases = [
        ("ann", format!("wrong,{CODE}")),
        ("ann", format!("{ANN},000000")),
        ("nobody", ANN.to_owned()),
        ("bob", "sesame-bob-77e2".to_owned()),
        ("ann", String::new()),
    ];
    for (name, password) in &cases {
        let begun = Instant::now();
        let question = nas.question(name, password);
        let answer = nas.ask(&question).await;
        assert!(begun.elapsed() >= Duration::from_millis(500), "{name} {:?}", begun.elapsed());
        let message = answer.message();
        let reference = message.strip_prefix("Sign-in failed. Ref ").expect("the one text");
        assert_eq!(reference.len(), 9, "{reference}");
        kinds.push((answer.code(), answer.kinds(), answer.octets.len()));
    }
    kinds.dedup();
    assert_eq!(kinds.len(), 1, "{kinds:?}");
    let begun = Instant::now();
    let question = nas.question("ann", &format!("{ANN},{CODE}"));
    assert_eq!(nas.ask(&question).await.code(), Code::AccessAccept);
    assert!(begun.elapsed() < Duration::from_millis(500), "a yes is not delayed");
}

#[tokio::test]
async fn proxy_states_come_back_all_of_them_and_in_order_whatever_the_answer() {
    // R-67, B-29
    let world = World::new().await;
    let gateway = world.gateway().await;
    for (address, password, code) in [
        (REQUIRED, format!("{ANN},{CODE}"), Code::AccessAccept),
        (VPN, ANN.to_owned(), Code::AccessChallenge),
        (VPN, "wrong".to_owned(), Code::AccessReject),
    ] {
        let mut nas = Nas::new(address, gateway.address, SECRET).await;
        let states: Vec<Vec<u8>> = vec![vec![1], vec![2; 253], vec![2; 253], vec![3; 7]];
        let mut attributes = vec![user_name("ann")];
        attributes.extend(states.iter().map(|state| attribute(AttributeType::PROXY_STATE, state)));
        let question = nas.with(&attributes, Some(&password));
        let answer = nas.ask(&question).await;
        assert_eq!((answer.code(), answer.all(AttributeType::PROXY_STATE)), (code, states));
    }
    // So many that the challenge does not fit any more: a Reject that still has them all.
    let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
    let state = [9; 253];
    let mut attributes = vec![user_name("ann")];
    attributes.extend([attribute(AttributeType::PROXY_STATE, &state); 15]);
    attributes.push(attribute(AttributeType::PROXY_STATE, &state[..150]));
    let question = nas.with(&attributes, Some(ANN));
    let answer = nas.ask(&question).await;
    assert_eq!((answer.code(), answer.all(AttributeType::PROXY_STATE).len()), (Code::AccessReject, 16));
    until("the challenge is withdrawn", async || world.verification.cancels() == ["internal_error"]).await;
}
