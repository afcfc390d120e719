//! A code by text message, with and without the PIN, and a PIN that has to be changed.

use crate::fakes::{Mood, NOW, World, answer, asked, attempt, passed, said, wanted};
use proto::user_store::{Pin, SecretKind};
use proto::verification::verification_server::Verification;
use proto::verification::{AskKind, Attempt};

/// bob has a number, and nothing else.
fn world() -> World {
    let world = World::new();
    world.store.change("bob", |user| {
        user.phone = "030 901820".into();
        user.default_method = "sms".into();
    });
    world
}

/// The same with a PIN that he has to use.
fn with_pin(must_change: bool) -> World {
    let world = world();
    let pin = Pin { required: true, set: true, must_change, ..Pin::default() };
    world.store.change("bob", |user| user.pin = Some(pin));
    world.store.give_secret("bob", SecretKind::Pin, "7391", 1_000);
    world
}

/// The code of the last text.
fn code(world: &World) -> String {
    let (_, text) = world.carriers.texts().pop().expect("a text");
    text.split(|sign: char| !sign.is_ascii_digit()).find(|word| word.len() == 6).expect("a code").to_owned()
}

fn other_than(code: &str) -> String {
    let first = if code.starts_with('0') { '1' } else { '0' };
    format!("{first}{}", &code[1..])
}

#[tokio::test]
async fn a_text_brings_a_code_that_lets_in_once() {
    // FV-03, V-17
    let world = world();
    let (one, other) = (world.node().await, world.node().await);
    let attempt = attempt("vpn", "bob");
    let ask = asked(one.begin(passed(&attempt, None)).await);
    assert_eq!((ask.method.as_str(), ask.kind()), ("sms", AskKind::Code));
    assert_eq!((ask.destination.as_str(), ask.expires_unix_ms), ("•••• 1820", NOW + 300_000));
    let [(to, text)] = &world.carriers.texts()[..] else { panic!("one text") };
    assert!(to == "+4930901820" && text.contains("vpn"), "{text}");
    let code = code(&world);
    assert_eq!(said(other.answer(answer(&attempt, 1, &code)).await), "allow valid_code");
    let event = &world.store.events()[0];
    assert_eq!((event.method.as_str(), event.assurance.as_str()), ("sms", "phone"));
    assert_eq!(said(one.answer(answer(&attempt, 2, &code)).await), "deny challenge_gone");
}

#[tokio::test]
async fn the_same_attempt_sends_one_text() {
    // V-02, V-18: a copy on another node costs nothing
    let world = world();
    let (one, other) = (world.node().await, world.node().await);
    let attempt = attempt("vpn", "bob");
    let first = asked(one.begin(passed(&attempt, None)).await);
    assert_eq!(asked(other.begin(passed(&attempt, None)).await), first);
    assert_eq!(world.carriers.texts().len(), 1);
}

#[tokio::test]
async fn three_wrong_codes_end_it_and_the_right_one_is_worth_nothing_afterwards() {
    // V-17, FR-14
    let world = world();
    let node = world.node().await;
    let attempt = attempt("vpn", "bob");
    asked(node.begin(passed(&attempt, None)).await);
    let right = code(&world);
    let wrong = other_than(&right);
    assert_eq!(said(node.answer(answer(&attempt, 1, &wrong)).await), "ask 2 after wrong_code");
    assert_eq!(said(node.answer(answer(&attempt, 2, "not a code")).await), "ask 3 after wrong_code");
    assert_eq!(said(node.answer(answer(&attempt, 3, &wrong)).await), "deny wrong_code");
    assert_eq!(said(node.answer(answer(&attempt, 4, &right)).await), "deny challenge_gone");
    assert_eq!(world.store.reasons(), ["wrong_code"]);
    assert_eq!(world.store.events()[0].method, "sms");
}

#[tokio::test]
async fn wrong_codes_of_many_texts_lock_and_a_right_one_begins_anew() {
    // V-14, FV-23: the fifth wrong one in a row is the last that is looked at
    let world = world();
    let node = world.node().await;
    for (text, expected) in [(1, "deny wrong_code"), (2, "deny locked_out")] {
        let attempt = attempt("vpn", "bob");
        asked(node.begin(passed(&attempt, None)).await);
        let wrong = other_than(&code(&world));
        let mut last = String::new();
        for step in 1..=3 {
            last = said(node.answer(answer(&attempt, step, &wrong)).await);
        }
        assert_eq!(last, expected, "text {text}");
        world.clock.advance(31_000);
    }
    assert_eq!(world.store.reasons(), ["wrong_code", "locked_out"]);
}

#[tokio::test]
async fn a_code_of_another_login_is_none_and_a_late_one_neither() {
    // V-17: bound to one transaction
    let world = world();
    let node = world.node().await;
    let first = attempt("vpn", "bob");
    asked(node.begin(passed(&first, None)).await);
    let old = code(&world);
    world.clock.advance(31_000);
    let second = attempt("vpn", "bob");
    asked(node.begin(passed(&second, None)).await);
    if old != code(&world) {
        assert_eq!(said(node.answer(answer(&second, 1, &old)).await), "ask 2 after wrong_code");
    }
    // The newest one voids the older.
    assert_eq!(said(node.answer(answer(&first, 1, &old)).await), "deny challenge_gone");
    world.clock.advance(301_000);
    assert_eq!(said(node.answer(answer(&second, 2, &code(&world))).await), "deny challenge_gone");
}

#[tokio::test]
async fn an_empty_answer_sends_another_code_after_half_a_minute() {
    // R-47, V-17
    let world = world();
    let node = world.node().await;
    let attempt = attempt("vpn", "bob");
    asked(node.begin(passed(&attempt, None)).await);
    let first = code(&world);
    assert_eq!(said(node.answer(answer(&attempt, 1, "")).await), "ask 2 after rate_limited");
    assert_eq!(world.carriers.texts().len(), 1);
    world.clock.advance(30_000);
    assert_eq!(said(node.answer(answer(&attempt, 2, "")).await), "ask 3");
    assert_eq!(world.carriers.texts().len(), 2);
    let second = code(&world);
    if first != second {
        assert_eq!(said(node.answer(answer(&attempt, 3, &first)).await), "ask 4 after wrong_code");
        assert_eq!(said(node.answer(answer(&attempt, 4, &second)).await), "allow valid_code");
    }
}

#[tokio::test]
async fn who_may_get_no_text_now_hears_until_when() {
    // V-17
    let world = world();
    let node = world.node().await;
    asked(node.begin(passed(&attempt("vpn", "bob"), None)).await);
    assert_eq!(said(node.begin(passed(&attempt("vpn", "bob"), None)).await), "deny rate_limited");
    assert_eq!(world.carriers.texts().len(), 1);
    assert_eq!(world.store.events()[0].method, "sms");
}

#[tokio::test]
async fn a_text_that_cannot_be_sent_is_a_reason_or_the_next_method() {
    // V-25, FR-06
    for (mood, number, expected) in [
        (Mood::Refuse(domain::Reason::ProviderError), "030 901820", "deny provider_error"),
        (Mood::NoProvider, "030 901820", "deny unreachable"),
        (Mood::Accept, "extension 7", "deny unreachable"),
    ] {
        let world = world();
        world.store.change("bob", |user| user.phone = number.into());
        let node = world.node().await;
        world.carriers.text_mood(mood);
        let attempt = attempt("vpn", "bob");
        assert_eq!(said(node.begin(wanted(&attempt, "sms")).await), expected, "{mood:?} {number}");
        assert_eq!(said(node.answer(answer(&attempt, 1, "123456")).await), "deny challenge_gone");
    }
    let world = World::new();
    world.store.change("ann", |user| user.phone = "030 901820".into());
    let node = world.node().await;
    world.carriers.text_mood(Mood::NoProvider);
    let attempt = attempt("back", "ann");
    assert_eq!(said(node.begin(wanted(&attempt, "sms")).await), "ask 1 after unreachable");
    assert_eq!(said(node.answer(answer(&attempt, 1, &world.code(0))).await), "allow valid_code");
}

/// What is typed, made of the code, and what is said.
type Typed<'a> = (&'a str, fn(&str) -> String, &'a str);

#[tokio::test]
async fn the_pin_follows_the_code_in_one_field() {
    // FV-03, FV-20: typed, what is said
    let typed: [Typed; 6] = [
        ("both", |code| format!("{code}7391"), "allow valid_code"),
        ("with a space", |code| format!("{code} 7391"), "allow valid_code"),
        ("no PIN", str::to_owned, "ask 2 after wrong_pin"),
        ("wrong PIN", |code| format!("{code}7392"), "ask 2 after wrong_pin"),
        ("wrong code", |code| format!("{}7391", other_than(code)), "ask 2 after wrong_code"),
        ("no digits", |code| format!("{code}x"), "ask 2 after wrong_code"),
    ];
    for (what, type_it, expected) in typed {
        let world = with_pin(false);
        let node = world.node().await;
        let attempt = attempt("vpn", "bob");
        assert_eq!(asked(node.begin(passed(&attempt, None)).await).kind(), AskKind::CodeAndPin);
        assert_eq!(said(node.answer(answer(&attempt, 1, &type_it(&code(&world)))).await), expected, "{what}");
    }
}

#[tokio::test]
async fn after_a_wrong_pin_the_code_may_be_typed_again_or_left_out() {
    for again in [true, false] {
        let world = with_pin(false);
        let node = world.node().await;
        let attempt = attempt("vpn", "bob");
        asked(node.begin(passed(&attempt, None)).await);
        let code = code(&world);
        assert_eq!(said(node.answer(answer(&attempt, 1, &format!("{code}0000"))).await), "ask 2 after wrong_pin");
        let typed = if again { format!("{code}7391") } else { "7391".into() };
        assert_eq!(said(node.answer(answer(&attempt, 2, &typed)).await), "allow valid_code", "{again}");
    }
}

#[tokio::test]
async fn a_pin_that_is_guessed_is_locked() {
    // FV-22: only after a right code, so that nobody learns a PIN without the phone
    let world = with_pin(false);
    let node = world.node().await;
    let mut outcomes = Vec::new();
    for _ in 0..2 {
        let attempt = attempt("vpn", "bob");
        let ask = asked(node.begin(passed(&attempt, None)).await);
        let code = code(&world);
        for step in ask.step..ask.step + 3 {
            outcomes.push(said(node.answer(answer(&attempt, step, &format!("{code}000{step}"))).await));
        }
        world.clock.advance(31_000);
    }
    assert_eq!(outcomes.last().map(String::as_str), Some("deny locked_out"), "{outcomes:?}");
    assert_eq!(world.store.reasons(), ["wrong_pin", "locked_out"]);
    assert!(world.store.mails().iter().any(|mail| mail.kind == "locked" && mail.user_id == "id-of-bob"));
    // The store told of the lock in the moment it locked: under the same key, so that it goes out once.
    let keys = world.store.mail_keys();
    let locks: Vec<&String> = keys.iter().filter(|key| key.starts_with("locked/user/id-of-bob/")).collect();
    let then = world.clock.now_ms() - 31_000;
    let ends = then + 3_600_000;
    assert_eq!(locks, [&proto::once::locked("user", "id-of-bob", ends, then)]);
}

#[tokio::test]
async fn an_initial_pin_is_changed_before_it_lets_in() {
    // FV-21: new, too short, new again, another one, the same
    let world = with_pin(true);
    let node = world.node().await;
    let attempt = attempt("vpn", "bob");
    asked(node.begin(passed(&attempt, None)).await);
    let first = asked(node.answer(answer(&attempt, 1, &format!("{}7391", code(&world)))).await);
    assert_eq!((first.kind(), first.previous.as_str()), (AskKind::NewPin, ""));
    assert!(world.store.events().is_empty(), "nobody is in yet");
    assert_eq!(asked(node.answer(answer(&attempt, 2, "805")).await).kind(), AskKind::NewPinAgain);
    let broken = asked(node.answer(answer(&attempt, 3, "805")).await);
    assert_eq!((broken.kind(), broken.rule.as_str()), (AskKind::NewPin, "length"));
    assert_eq!(asked(node.answer(answer(&attempt, 4, "80529")).await).kind(), AskKind::NewPinAgain);
    assert_eq!(said(node.answer(answer(&attempt, 5, "80529")).await), "allow valid_code");
    assert_eq!(world.store.pins(), ["80529"]);
}

#[tokio::test]
async fn a_new_pin_that_is_not_typed_twice_alike_is_asked_for_again_and_not_for_ever() {
    // FR-14: six rounds
    let world = with_pin(true);
    let node = world.node().await;
    let attempt = attempt("vpn", "bob");
    asked(node.begin(passed(&attempt, None)).await);
    asked(node.answer(answer(&attempt, 1, &format!("{}7391", code(&world)))).await);
    let mut last = String::new();
    for step in 2..=8 {
        last = said(node.answer(answer(&attempt, step, &format!("80{step}29"))).await);
        if last.starts_with("deny") {
            break;
        }
    }
    assert_eq!(last, "deny wrong_pin");
    assert!(world.store.pins().is_empty());
    assert_eq!(world.store.reasons(), ["wrong_pin"]);
}

#[tokio::test]
async fn codes_of_paper_and_help_desk_are_typed_in_the_same_field() {
    // FV-09, FV-29
    let world = world();
    world.store.change("bob", |user| {
        user.temporary_code = true;
        user.recovery_left = 2;
    });
    world.store.give_secret("bob", SecretKind::Temporary, "123456789", 1);
    world.store.give_secret("bob", SecretKind::Recovery, "ABCDEFGH23", 1);
    let node = world.node().await;
    for (typed, expected) in [("abcde-fgh23", "allow valid_recovery_code"), ("123 456 789", "allow temporary_code")] {
        let attempt = attempt("vpn", "bob");
        asked(node.begin(wanted(&attempt, "sms")).await);
        assert_eq!(said(node.answer(answer(&attempt, 1, typed)).await), expected);
        world.clock.advance(31_000);
    }
    let blind = Attempt { can_challenge: false, ..attempt("vpn", "bob") };
    assert_eq!(said(node.begin(wanted(&blind, "sms")).await), "deny method_impossible");
}
