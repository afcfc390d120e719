//! Every second factor as a device sees it: long waits, questions of all kinds, words after the password, and what verification is
//! told of the person.

use crate::support::*;
use proto::verification::outcome::Result as Said;
use proto::verification::{Ask, AskKind};
use radius_wire::{AttributeType, Code};
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_thousand_people_may_be_waited_for_at_once_and_copies_meanwhile_are_silent() {
    // FR-15, R-30: a wait costs a task
    const DEVICES: usize = 5;
    const EACH: usize = 200;
    let world = World::new().await;
    let gateway = world.gateway().await;
    world.verification.hold(true);
    let mut devices = Vec::new();
    for _ in 0..DEVICES {
        let mut nas = Nas::new(PATIENT, gateway.address, SECRET).await;
        let questions: Vec<_> = (0..EACH).map(|_| nas.question("ann", ANN)).collect();
        devices.push((nas, questions));
    }
    let begun = Instant::now();
    while world.verification.decisions() < DEVICES * EACH {
        assert!(begun.elapsed() < Duration::from_secs(90), "only {} are waited for", world.verification.decisions());
        // A socket's buffer holds a few hundred; what was lost is sent again, as devices do, and what was not is a copy.
        for (nas, questions) in &devices {
            for question in questions {
                nas.send(&question.octets).await;
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    for (nas, questions) in &devices {
        for question in questions {
            nas.send(&question.octets).await;
        }
        nas.hears_nothing().await;
    }
    let fine = Nas::new(VPN, gateway.address, SECRET).await.status();
    let other = Nas::new(VPN, gateway.address, SECRET).await;
    assert_eq!(other.ask(&fine).await.code(), Code::AccessAccept, "and the node serves everybody else");
    world.verification.hold(false);
    for (nas, questions) in &devices {
        for question in questions {
            assert_eq!(nas.hear_or_repeat(question).await.code(), Code::AccessChallenge);
        }
    }
    assert_eq!((world.verification.decisions(), world.directory.binds()), (DEVICES * EACH, DEVICES * EACH));
}

#[tokio::test]
async fn a_device_that_asks_anew_under_the_same_identifier_withdraws_the_prompt() {
    // nobody waits for the first one, and the person is asked anew when it is withdrawn, however long that takes
    let world = World::new().await;
    let gateway = world.gateway().await;
    world.verification.one_prompt_each();
    world.verification.misbehave(Some(Fault::SlowToWithdraw(Duration::from_millis(700))));
    world.verification.hold(true);
    let mut nas = Nas::new(PATIENT, gateway.address, SECRET).await;
    let first = nas.question("ann", ANN);
    nas.send(&first.octets).await;
    until("the person is asked", async || world.verification.decisions() == 1).await;
    nas.repeat_identifier();
    let second = nas.question("ann", ANN);
    nas.send(&second.octets).await;
    until("the prompt is withdrawn", async || world.verification.cancels() == ["challenge_gone"]).await;
    until("the person is asked anew", async || world.verification.decisions() == 2).await;
    world.verification.hold(false);
    assert_eq!(nas.hear(&second).await.code(), Code::AccessChallenge);
    nas.hears_nothing().await;
}

fn asks(ask: Ask) -> Option<Fault> {
    Some(Fault::twists(move |outcome| {
        if let Some(Said::Ask(asked)) = &mut outcome.result {
            let (step, expires_unix_ms, user_id) = (asked.step, asked.expires_unix_ms, asked.user_id.clone());
            *asked = Ask { step, expires_unix_ms, user_id, ..ask.clone() };
        }
    }))
}

#[tokio::test]
async fn every_question_reaches_the_device_in_the_persons_language_and_with_its_echo() {
    // FR-13, V-22, R-40; FN-09
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
    let approval = Ask {
        method: "push".into(),
        kind: AskKind::Approval.into(),
        number: "42".into(),
        language: "de-AT".into(),
        ..Ask::default()
    };
    let pin = Ask { kind: AskKind::NewPin.into(), language: "en".into(), ..Ask::default() };
    let choice = Ask {
        kind: AskKind::Choice.into(),
        choices: vec!["push".into(), "call".into()],
        language: "xx".into(),
        ..Ask::default()
    };
    let sent = Ask {
        method: "sms".into(),
        kind: AskKind::CodeAndPin.into(),
        destination: "+49 ... 17".into(),
        previous: "wrong_pin".into(),
        ..Ask::default()
    };
    for (ask, shown, echo) in [
        (approval, "Wählen Sie 42 in Ihrer App und drücken Sie dann Enter", 1_u32),
        (pin, "Choose a new PIN", 0),
        (choice, "How do you want to sign in? Enter a number\n1. Approve in the app\n2. Phone call", 1),
        (sent, "The PIN was wrong. Enter the code sent to +49 ... 17 and directly behind it your PIN", 0),
    ] {
        world.verification.misbehave(asks(ask));
        let question = nas.question("ann", ANN);
        let challenge = nas.ask(&question).await;
        assert_eq!((challenge.code(), challenge.message().as_str()), (Code::AccessChallenge, shown));
        assert_eq!(challenge.all(AttributeType::PROMPT), [echo.to_be_bytes()], "{shown}");
        // pressing Enter is an answer, and no empty password.
        let enter = nas.answer_to("ann", &challenge.state(), "");
        assert_eq!(nas.ask(&enter).await.code(), Code::AccessChallenge);
    }
    assert_eq!(world.directory.passwords(), [ANN; 4], "no answer ever is a password");

    for kind in [AskKind::Passkey, AskKind::Questions] {
        let method = if kind == AskKind::Passkey { "passkey" } else { "questions" };
        world.verification.misbehave(asks(Ask { method: method.into(), kind: kind.into(), ..Ask::default() }));
        let question = nas.question("ann", ANN);
        assert_eq!(nas.ask(&question).await.code(), Code::AccessReject, "{kind:?} is the portal's");
    }
    until("they are withdrawn", async || world.verification.cancels() == ["method_impossible"; 2]).await;
}

#[tokio::test]
async fn a_text_of_the_administrators_own_is_shown() {
    // FN-09
    let world = World::new().await;
    let gateway = world.gateway().await;
    let own = serde_json::json!({ "key": "challenge-code", "language": "en", "text": "Code of the lab" });
    let own: domain::settings::TextOverride = serde_json::from_value(own).expect("a text");
    world.store.change(&world.bus, |document| document.texts.push(own)).await;
    let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
    until("it is in force", async || {
        let question = nas.question("ann", ANN);
        nas.ask(&question).await.message() == "Code of the lab"
    })
    .await;
}

#[tokio::test]
async fn a_word_after_the_password_chooses_the_method_and_costs_one_bind() {
    // L-50, L-51, L-52 (a), B-62, FL-13
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(WORDS, gateway.address, SECRET).await;
    for (typed, wanted) in [("push", "push"), ("PHONE ", "call"), ("auto", "")] {
        let question = nas.question("ann", &format!("{ANN},{typed}"));
        assert_eq!(nas.ask(&question).await.code(), Code::AccessChallenge, "{typed}");
        assert_eq!(world.verification.attempts().last().expect("it was asked").1, wanted, "{typed}");
    }
    assert_eq!(world.directory.passwords(), [ANN; 3]);
    // Not ann's, not a word here, no password.
    for typed in [format!("{ANN},sms"), format!("{ANN},fax"), ",push".into(), ANN.to_owned()] {
        let question = nas.question("ann", &typed);
        assert_eq!(nas.ask(&question).await.code(), Code::AccessReject, "{typed}");
    }
    assert_eq!((world.directory.binds(), world.verification.attempts().len()), (3, 3));
    // Where the client takes no words it is a part of the password.
    let mut silent = Nas::new(OPTIONAL, gateway.address, SECRET).await;
    let question = silent.question("ann", &format!("{ANN},push"));
    assert_eq!(silent.ask(&question).await.code(), Code::AccessReject);
    assert_eq!(world.directory.passwords()[3..], [format!("{ANN},push")]);
}

#[tokio::test]
async fn verification_is_told_where_the_person_comes_from_and_what_stands_for_the_password() {
    // V-32, V-54, B-87, B-94
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(WORDS, gateway.address, SECRET).await;
    let station = |value: &'static str| attribute(AttributeType::CALLING_STATION_ID, value.as_bytes());
    let typed = format!("{ANN},push");
    for (place, value) in ["::ffff:203.0.113.9", "203.0.113.9", "0xcb007109", "203.0.29449"].iter().enumerate() {
        let question = nas.with(&[user_name("ann"), station(value)], Some(&typed));
        assert_eq!(nas.ask(&question).await.code(), Code::AccessChallenge);
        let told = world.verification.attempts()[place].0.clone();
        assert_eq!(told.person_ip, if place < 2 { "203.0.113.9" } else { "" }, "{value}");
        assert_eq!(told.password_digest.len(), 32);
    }
    let question = nas.question("dan", "sesame,123456,push");
    assert_eq!(nas.ask(&question).await.code(), Code::AccessChallenge);
    let digests: Vec<_> = world.verification.attempts().into_iter().map(|(told, _)| told.password_digest).collect();
    assert!(digests[..4].iter().all(|digest| *digest == digests[0]), "the same password of the same person");
    assert_ne!(digests[4], digests[0]);
    assert!(!digests.iter().any(|digest| digest.windows(4).any(|part| ANN.as_bytes().starts_with(part))));
    // Elsewhere nobody wants it, and whoever sends the packet is the person's address.
    let mut vpn = Nas::new(VPN, gateway.address, SECRET).await;
    let question = vpn.with(&[user_name("ann"), station("203.0.113.9")], Some(ANN));
    vpn.ask(&question).await;
    let told = world.verification.attempts().pop().expect("it was asked").0;
    assert_eq!((told.person_ip.as_str(), told.password_digest.len()), (VPN, 0));
}

#[tokio::test]
async fn verification_is_told_when_the_directory_says_that_the_password_was_changed() {
    // V-52: with what is asked for of the person anyway, whatever the client remembers by
    for (client, typed) in [(WORDS, format!("{ANN},push")), (VPN, ANN.to_owned())] {
        let world = World::new().await;
        let gateway = world.gateway().await;
        let mut nas = Nas::new(client, gateway.address, SECRET).await;
        let mut stamp = async || {
            let question = nas.question("ann", &typed);
            nas.ask(&question).await;
            world.verification.attempts().pop().expect("it was asked").0.password_stamp
        };
        assert_eq!(stamp().await, "", "the directory does not say");
        let searches = world.directory.searches();
        let mut told = std::collections::BTreeSet::new();
        for changed in ["20261120120000Z", "20261120120001Z", "20261120120000Z"] {
            world.directory.passwords_changed(changed);
            told.insert(stamp().await);
        }
        assert!(told.len() == 2 && !told.contains(""), "one for each change: {told:?}");
        assert_eq!(world.directory.searches(), 4 * searches, "no question more");
    }
}
