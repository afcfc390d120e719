//! The state machine as tables.

use super::*;
use crate::providers::BackupPhone;

#[derive(Clone, Copy, Default)]
struct How {
    pin: bool,
    new_pin: bool,
    backup: bool,
    extension: &'static str,
    activation: bool,
}

fn call(how: How) -> Call {
    let (first, second) = (number("+4930901820"), number("+4930901821"));
    let backup = how.backup.then_some(BackupPhone { to: &second, extension: "" });
    let callee = Callee {
        to: &first,
        extension: how.extension,
        backup,
        language: &Language::english(),
        pin: how.pin,
        new_pin: how.new_pin,
        activation: how.activation,
    };
    Call::new(&callee, true).dialled_by("voice")
}

fn number(text: &str) -> PhoneNumber {
    PhoneNumber::new(text).expect("valid")
}

/// Events in short: `a`nswered, `s`ilence, `h`ung up, `k:KEYS`, `ok`, `bad`, `locked`, `set`, `unfit`, `busy` ...
fn event(short: &str) -> Event {
    match short {
        "a" => Event::Answered,
        "s" => Event::Silence,
        "h" => Event::HungUp,
        "ok" => Event::PinRight { handle: "handle".into() },
        "bad" => Event::PinWrong,
        "locked" => Event::PinLocked,
        "set" => Event::PinSet(true),
        "unfit" => Event::PinSet(false),
        "busy" => Event::Missed(Missed::Busy),
        "noanswer" => Event::Missed(Missed::NoAnswer),
        "unreachable" => Event::Missed(Missed::Unreachable),
        "machine" => Event::Missed(Missed::Voicemail),
        keys => Event::Keys(keys.strip_prefix("k:").expect("a known event").into()),
    }
}

/// Plays a call; each event must mean something.
fn played(how: How, events: &str) -> Call {
    events.split_whitespace().fold(call(how), |call, short| {
        call.on(event(short), "0").unwrap_or_else(|| panic!("{short} means nothing in {events}")).0
    })
}

#[test]
fn every_call_ends_as_what_happened_on_it() {
    // V-19, FV-02, FV-14, FV-21, FV-26
    let plain = How::default();
    let pin = How { pin: true, ..plain };
    let new_pin = How { new_pin: true, ..pin };
    let backup = How { backup: true, ..plain };
    for (how, events, outcome) in [
        (plain, "a k:#", "approved"),
        (plain, "a s k:#", "approved"),
        (plain, "a s s", "no_keys_pressed"),
        (plain, "a k:5 k:#", "approved"),
        (plain, "a k:5 k:7 k:9", "no_keys_pressed"),
        (plain, "a k:0 k:1", "fraud"),
        (plain, "a k:0 k:# k:1", "fraud"),
        (plain, "a k:0 k:# s", "no_keys_pressed"),
        (plain, "a k:0 k:2 k:#", "approved"),
        (plain, "a k:0 h", "hung_up"),
        (plain, "a h", "hung_up"),
        (plain, "h", "hung_up"),
        (plain, "busy", "busy"),
        (plain, "noanswer", "no_answer"),
        (plain, "unreachable", "unreachable"),
        (plain, "machine", "voicemail"),
        (backup, "busy a k:#", "approved"),
        (backup, "machine noanswer", "no_answer"),
        (backup, "a h", "hung_up"),
        (pin, "a k:4711 ok", "approved"),
        (pin, "a k:1111 bad k:4711 ok", "approved"),
        (pin, "a k:1111 bad k:2222 bad k:3333 bad", "wrong_pin"),
        (pin, "a k:4711 locked", "locked_out"),
        (pin, "a k:47*1 k:4711 ok", "approved"),
        (pin, "a s s", "no_keys_pressed"),
        (pin, "a k: k:", "no_keys_pressed"),
        (pin, "a k:0 k:1", "fraud"),
        (pin, "a k:4711 h ok", "approved"),
        (pin, "a k:4711 h bad", "hung_up"),
        (new_pin, "a k:4711 ok k:8265*8265 set", "approved"),
        (new_pin, "a k:4711 ok k:8265*8266 k:8265*8265 set", "approved"),
        (new_pin, "a k:4711 ok k:1234*1234 unfit k:8265*8265 set", "approved"),
        (new_pin, "a k:4711 ok k:1*1 unfit k:2*2 unfit k:3*3 unfit", "wrong_pin"),
        (new_pin, "a k:4711 ok h", "hung_up"),
        (new_pin, "a k:4711 h ok", "hung_up"),
        (new_pin, "a k:4711 ok s s", "no_keys_pressed"),
    ] {
        let ending = played(how, events).ending().unwrap_or_else(|| panic!("{events} does not end the call"));
        assert_eq!(ending.outcome(), outcome, "{events}");
        assert_eq!(ending.assurance() == Assurance::Phone, outcome == "approved", "{events}");
    }
}

#[test]
fn what_comes_after_the_end_or_at_the_wrong_time_means_nothing() {
    // V-18: callbacks come twice, late and forged
    let answers = ["a", "s", "h", "k:#", "ok", "bad", "locked", "set", "unfit", "busy", "machine"];
    let over = played(How::default(), "a k:#");
    assert!(answers.iter().all(|short| over.on(event(short), "0").is_none()));
    // No key and no word of the store counts before somebody answered, and no busy line once somebody has.
    let dialling = call(How::default());
    assert!(["k:#", "s", "ok", "set"].iter().all(|short| dialling.on(event(short), "0").is_none()));
    let asking = played(How { pin: true, ..How::default() }, "a");
    assert!(["a", "ok", "bad", "locked", "set", "busy", "machine"].iter().all(|s| asking.on(event(s), "0").is_none()));
    // While one of us asks the store, no other key is looked at.
    let checking = played(How { pin: true, ..How::default() }, "a k:4711");
    assert!(["a", "s", "k:0", "k:4711", "set"].iter().all(|short| checking.on(event(short), "0").is_none()));
}

#[test]
fn no_row_of_silences_and_hang_ups_approves() {
    // V-19, by every sequence of up to six events without a key
    fn walk(call: &Call, depth: u8) {
        assert!(call.ending() != Some(Ending::Approved));
        if depth > 0 {
            for short in ["a", "s", "h", "busy", "noanswer", "unreachable", "machine"] {
                if let Some((next, _)) = call.on(event(short), "0") {
                    walk(&next, depth - 1);
                }
            }
        }
    }
    for pin in [false, true] {
        walk(&call(How { pin, backup: true, ..How::default() }), 6);
    }
}

#[test]
fn a_fraud_code_of_several_digits_is_typed_key_by_key() {
    // FV-26: 1-4 digits
    let steps = |keys: &[&str]| {
        let answered = call(How::default()).on(Event::Answered, "99").expect("asked").0;
        keys.iter().fold(answered, |call, key| call.on(Event::Keys((*key).into()), "99").expect("taken").0)
    };
    assert_eq!(steps(&["9", "9", "1"]).ending(), Some(Ending::Fraud));
    assert_eq!(steps(&["9"]).speech(), Speech { utter: vec![], then: Then::Collect(Collect::Key) });
    // Half of it and # is neither.
    let half = steps(&["9", "#"]);
    assert_eq!(half.ending(), None);
    assert_eq!(half.speech().utter, [Utter::Say(Slot::Retry)]);
    assert_eq!(steps(&["9", "#", "#"]).ending(), Some(Ending::Approved));
}

#[test]
fn the_extension_is_dialled_once_before_the_first_word() {
    // FV-14
    let how = How { extension: "12-34", ..How::default() };
    let answered = played(how, "a");
    let heard = [
        Utter::Say(Slot::ExtensionBefore),
        Utter::Dial("1234".into()),
        Utter::Say(Slot::ExtensionAfter),
        Utter::Say(Slot::Greeting),
        Utter::Say(Slot::FraudHint),
    ];
    assert_eq!(answered.speech().utter, heard);
    assert_eq!(played(how, "a s").speech().utter, [Utter::Say(Slot::Greeting), Utter::Say(Slot::FraudHint)]);
}

#[test]
fn a_question_collects_what_it_asks_for() {
    let pin = How { pin: true, new_pin: true, ..How::default() };
    for (how, events, slots, collect) in [
        (How::default(), "a", vec![Slot::Greeting, Slot::FraudHint], Collect::Key),
        (How { activation: true, ..How::default() }, "a", vec![Slot::Activation, Slot::FraudHint], Collect::Key),
        (pin, "a", vec![Slot::GreetingPin, Slot::FraudHintPin], Collect::Digits),
        (pin, "a k:1 bad", vec![Slot::RetryPin], Collect::Digits),
        (pin, "a k:0", vec![Slot::FraudConfirm], Collect::Key),
        (pin, "a k:4711 ok", vec![Slot::NewPin], Collect::Digits),
        (pin, "a k:4711 ok k:1*1 unfit", vec![Slot::NewPinRefused, Slot::NewPin], Collect::Digits),
    ] {
        let utter = slots.into_iter().map(Utter::Say).collect();
        assert_eq!(played(how, events).speech(), Speech { utter, then: Then::Collect(collect) }, "{events}");
    }
}

#[test]
fn the_backup_phone_is_another_call() {
    // FV-14: what the first line says later is about a call that is over
    let how = How { backup: true, extension: "7", ..How::default() };
    let first = call(how);
    let (second, effect) = first.on(event("busy"), "0").expect("moved");
    assert!(effect == Effect::CallBackup(Ending::Busy));
    assert_eq!((second.line().number.expose(), second.line().extension.as_str()), ("+4930901821", ""));
    assert!(second.attempt > first.attempt && second.call_id.is_empty());
    assert!(matches!(second.on(event("busy"), "0"), Some((_, Effect::End(Ending::Busy)))));
}

#[test]
fn a_backup_phone_that_is_the_phone_or_not_allowed_is_none() {
    let (first, language) = (number("+4930901820"), Language::english());
    let callee = |backup| Callee {
        to: &first,
        extension: "",
        backup: Some(BackupPhone { to: backup, extension: "" }),
        language: &language,
        pin: false,
        new_pin: false,
        activation: false,
    };
    let other = number("+4930901821");
    let lines = |backup, allowed| Call::new(&callee(backup), allowed).lines.len();
    assert_eq!((lines(&first, true), lines(&other, false), lines(&other, true)), (1, 1, 2));
}

#[test]
fn the_record_keeps_the_call_and_no_pin() {
    // V-31, V-33
    let call = played(How { pin: true, new_pin: true, ..How::default() }, "a k:4711 ok k:8265*8265");
    let kept = call.write();
    assert!(!kept.contains("4711") && !kept.contains("8265"), "{kept}");
    assert!(Call::read(&kept).expect("read") == call);
    for bad in
        ["", "{}", "null", &kept.replace("+4930901820", "4930"), &kept.replace("\"lines\":[", "\"lines\":[],\"x\":[")]
    {
        assert!(Call::read(bad).is_none(), "{bad}");
    }
}

#[test]
fn keys_without_end_are_wrong_and_nothing_else() {
    // V-74
    let pin = played(How { pin: true, ..How::default() }, "a");
    let (next, effect) = pin.on(Event::Keys("1".repeat(10_000).into()), "0").expect("moved");
    assert!(effect == Effect::Nothing && next.ending().is_none());
    let (next, effect) = pin.on(Event::Keys(Secret::new(vec![0xff, 0xfe])), "0").expect("moved");
    assert!(effect == Effect::Nothing && next.ending().is_none());
}
