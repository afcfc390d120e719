//! Every message of a client, and of a directory, wrong in one place at a time (B-41 to B-48, B-59, L-02, L-03): nothing panics, nothing
//! takes long or grows, what is not the BER of LDAP goes nowhere, and what is has the effect it says.

mod support;

use bytes::BytesMut;
use ldap_wire::connection::{BoundAs, FromUpstream, PendingBind, Primary};
use ldap_wire::{
    Action, BindResponse, ClientConnection, ExtendedRequest, Framer, Limits, Message, Op, Peer, Policy, ResultCode,
    validate_request,
};
use std::sync::Arc;
use std::time::Duration;
use support::anomalies::{self, Anomaly, Case};
use support::*;

/// What a client sees of what became of its message, or the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// With a notice of disconnection or, where the stream is not even LDAP, without.
    Closed {
        notice: bool,
    },
    Answered(u32),
    /// A password is to be checked.
    Bind,
    Forwarded,
    Ignored,
    StartTls,
}

struct Seen {
    outcome: Outcome,
    /// Of a bind: version, name and choice as they were understood, written again.
    understood: Option<Vec<u8>>,
}

fn connection(bound: bool) -> ClientConnection {
    let policy = Policy { start_tls: true, upstream_tls: true, ..Policy::default() };
    let mut connection = ClientConnection::new(Arc::new(policy), true);
    if bound {
        let Action::Bind(pending) = connection.receive(bind(1, USER, "secret")) else { panic!("a sound bind") };
        let Primary::Accepted(gated) = connection.primary_finished(pending, success(), Vec::new()) else {
            panic!("a success")
        };
        assert!(connection.bind_allowed(gated, BoundAs::User).is_some());
    }
    connection
}

/// What becomes of these octets, and of the sound requests behind them where they are not enough.
fn send(octets: &[u8], bound: bool) -> Seen {
    let mut connection = connection(bound);
    let framer = Framer::new(Peer::Client, connection.limits());
    let mut input = BytesMut::from(octets);
    input.extend_from_slice(delete(99).octets());
    let seen = |outcome| Seen { outcome, understood: None };
    let message = match framer.next_message(&mut input) {
        Ok(Some(message)) => message,
        Ok(None) => panic!("a message that ends nowhere is refused by its size"),
        Err(error) => return seen(Outcome::Closed { notice: error.notice().is_some() }),
    };
    let forwarded = message.octets().clone();
    match connection.receive(message) {
        Action::Answer(answer) | Action::AnswerBind(answer) => seen(Outcome::Answered(result(&answer).code.0)),
        Action::Bind(pending) => {
            Seen { outcome: Outcome::Bind, understood: Some(pending.request.encode(id(7), &[]).to_vec()) }
        }
        Action::Forward(cleared) | Action::RootDse { cleared, .. } => {
            assert_eq!(cleared.into_octets(), forwarded, "L-06");
            seen(Outcome::Forwarded)
        }
        Action::StartTls(_) => seen(Outcome::StartTls),
        Action::Ignore => seen(Outcome::Ignored),
        Action::Close { notice } => seen(Outcome::Closed { notice: notice.is_some() }),
    }
}

fn judge(case: &Case, bound: bool) {
    let what = || format!("{} {:?} at element {} ({:#04x})", case.name, case.anomaly, case.place, case.tag);
    let Seen { outcome, understood } = send(&case.octets, bound);
    // L-03: 128 levels, the message itself is one.
    let first = anomalies::elements(&case.octets).first().map(|(_, content)| *content);
    let sound_ber = anomalies::is_well_formed(&case.octets, 127);
    if !sound_ber {
        // RFC 4511 section 4.1.1. What is beyond a bound is refused before its end is looked at.
        let refused = outcome == Outcome::Answered(ResultCode::PROTOCOL_ERROR.0);
        assert!(refused || matches!(outcome, Outcome::Closed { .. }), "{}: {outcome:?}", what());
    }
    if case.anomaly.is_harmless(case.tag) {
        assert_eq!(outcome, send(&case.sound, bound).outcome, "{}", what());
    }
    if let Some(understood) = understood {
        // What is checked is what was sent: the operation as it was understood is the one that stands there.
        let operation = |octets: &[u8]| anomalies::elements(anomalies::elements(octets)[0].1)[1].1.to_vec();
        assert!(first.is_some() && sound_ber, "{}", what());
        let sent = anomalies::shortest_lengths(&operation(&case.octets));
        assert!(operation(&understood) == sent, "{}", what());
    }
    if matches!(outcome, Outcome::Forwarded | Outcome::StartTls) {
        assert!(sound_ber, "{}", what());
    }
}

#[test]
fn a_message_that_is_wrong_in_one_place_is_refused_or_taken_by_rule_at_once_and_in_bounded_memory() {
    const GROWTH_MAX_KIB: usize = 4 << 10;
    let (mut count, mut closed) = (0, 0);
    for case in anomalies::cases() {
        for bound in [false, true] {
            judge(&case, bound);
            // Other tests run beside this one: what counts is the processor's time. Where nothing is optimised it takes long to
            // overwrite a password, so that what is larger than anybody may send before a bind gets more.
            let most = Duration::from_millis(10) * (1 + case.octets.len() as u32 / 64_000);
            let start = on_the_processor();
            let _ = send(&case.octets, bound);
            let took = on_the_processor() - start;
            assert!(took < most, "{} {:?} at {}: {took:?}", case.name, case.anomaly, case.place);
            closed += usize::from(matches!(send(&case.octets, bound).outcome, Outcome::Closed { .. }));
            count += 1;
        }
        if case.anomaly == Anomaly::Nested {
            // What is refused is as large as a message may be: looking at it costs no more than it does.
            let before = peak_kib_from_now();
            let _ = send(&case.octets, true);
            // By itself, too: a search of this size would end at its header.
            let checked = Message::parse(case.octets.clone().into()).is_ok_and(|it| validate_request(&it).is_ok());
            assert!(!checked || case.is_opaque(), "{} at {}", case.name, case.place);
            let grown = peak_kib() - before;
            let input = case.octets.len() / 1024;
            assert!(grown < 2 * input + GROWTH_MAX_KIB, "{}: {grown} KiB for {input}", case.name);
        }
    }
    assert!(count > 6_000 && closed > count / 3, "{count} messages, {closed} closed");
}

/// What becomes of an answer.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// This went to the client.
    Relayed(Vec<u8>),
    /// The client hears nothing of it.
    Dropped,
    /// The connection to the directory is not followed any further.
    Lost,
    /// The password counts as right.
    Accepted,
    /// It does not.
    Refused,
}

/// What becomes of these octets of a directory, and of the sound answer behind them where they are not enough.
fn hear(case: &Case, octets: &[u8]) -> Heard {
    let mut input = BytesMut::from(octets);
    input.extend_from_slice(response(99, Op::DelResponse, ResultCode::SUCCESS).octets());
    let message = match Framer::new(Peer::Server, Limits::UPSTREAM).next_message(&mut input) {
        Ok(Some(message)) => message,
        Ok(None) => panic!("a message that ends nowhere is refused by its size"),
        Err(_) => return Heard::Lost,
    };
    if case.name.starts_with("bind") {
        return match BindResponse::decode(&message) {
            Ok(answer) => primary(answer),
            Err(_) => Heard::Lost,
        };
    }
    let mut connection = connection(true);
    let sent = connection.receive(request_before(case.name));
    assert!(matches!(sent, Action::Forward(_) | Action::RootDse { .. }), "{}", case.name);
    match connection.receive_upstream(&message) {
        FromUpstream::Relay(octets) | FromUpstream::End { octets, .. } => Heard::Relayed(octets.to_vec()),
        FromUpstream::Drop => Heard::Dropped,
        FromUpstream::Violation => Heard::Lost,
        // Only whoever is told so by id 0, which no anomaly makes of another.
        FromUpstream::Limited(_) => panic!("{} reached a limit that nobody set", case.name),
        FromUpstream::Disconnect(_) => panic!("{} became a notice of disconnection", case.name),
    }
}

fn primary(answer: BindResponse) -> Heard {
    let mut connection = connection(false);
    let Action::Bind(pending) = connection.receive(bind(ID.into(), USER, "secret")) else { panic!("a sound bind") };
    let refuse = |connection: &mut ClientConnection, bind: PendingBind, answer: &BindResponse| {
        let told = connection.bind_refused(bind, &answer.result, &[]).expect("the client is there");
        assert_ne!(result(&told).code, ResultCode::SUCCESS);
        assert_eq!(result(&told).referral, None, "L-17");
    };
    match connection.primary_finished(pending, answer, Vec::new()) {
        Primary::Accepted(_) => Heard::Accepted,
        Primary::Refused { bind, response, .. } => {
            refuse(&mut connection, bind, &response);
            Heard::Refused
        }
    }
}

const ID: u8 = 7;

/// What the directory was asked.
fn request_before(answer: &str) -> Message {
    const ID: u32 = self::ID as u32;
    match answer {
        "root entry" => root_dse_search(ID, &["*", "+"]),
        "modified" => modify(ID, "mail"),
        "added" => message(ID, &[0x68], &[&[0x04, 0x04][..], b"cn=x", &[0x30, 0x00]].concat()),
        "deleted" => delete(ID),
        "renamed" => {
            message(ID, &[0x6c], &[&[0x04, 0x04][..], b"cn=x", &[0x04, 0x04], b"cn=y", &[0x01, 0x01, 0xff]].concat())
        }
        "compared" => message(
            ID,
            &[0x6e],
            &[&[0x04, 0x04][..], b"cn=x", &[0x30, 0x07, 0x04, 0x02], b"cn", &[0x04, 0x01], b"x"].concat(),
        ),
        "identity" => extended(ID, ExtendedRequest::who_am_i()),
        _ => search(ID),
    }
}

#[test]
fn an_answer_that_is_wrong_in_one_place_lets_nobody_in_and_leads_nobody_elsewhere() {
    // B-59, B-60, L-06, L-17, L-33
    /// A reference, or a result with a referral wherever in it.
    fn leads_elsewhere(octets: &[u8]) -> bool {
        let parts = anomalies::elements(anomalies::elements(octets)[0].1);
        match parts[1] {
            (0x64 | 0x79, _) => false,
            (0x73, _) => true,
            (_, result) => anomalies::elements(result).iter().any(|(tag, _)| *tag == 0xa3),
        }
    }
    let (mut count, mut lost, mut relayed) = (0, 0, 0);
    for case in anomalies::answer_cases(ID) {
        let what = || format!("{} {:?} at element {} ({:#04x})", case.name, case.anomaly, case.place, case.tag);
        let start = on_the_processor();
        let heard = hear(&case, &case.octets);
        let took = on_the_processor() - start;
        let most = Duration::from_millis(10) * (1 + case.octets.len() as u32 / 64_000);
        assert!(took < most, "{}: {took:?}", what());
        assert_ne!(heard, Heard::Accepted, "{}", what());
        match &heard {
            Heard::Relayed(octets) => {
                let message = Message::parse(octets.clone().into()).map(|it| it.id());
                assert_eq!(message, Ok(id(ID.into())), "{}", what());
                assert!(!leads_elsewhere(octets), "{}", what());
                // Behind it is the next one.
                let as_it_came = case.octets.starts_with(octets);
                assert!(as_it_came || case.name == "root entry" || case.name.ends_with("referred"), "{}", what());
                relayed += 1;
            }
            Heard::Lost => lost += 1,
            Heard::Dropped | Heard::Accepted | Heard::Refused => {}
        }
        if case.anomaly.is_harmless(case.tag) {
            let kind = std::mem::discriminant::<Heard>;
            assert_eq!(kind(&heard), kind(&hear(&case, &case.sound)), "{}: {heard:?}", what());
        }
        count += 1;
    }
    assert!(
        count > 3_000 && lost > count / 3 && relayed > count / 20,
        "{count} answers, {lost} lost, {relayed} relayed"
    );
}

/// How long this thread has run.
fn on_the_processor() -> Duration {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    Duration::from_nanos(times.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("nanoseconds"))
}

/// Makes the kernel forget the peak, and says what is resident now.
fn peak_kib_from_now() -> usize {
    std::fs::write("/proc/self/clear_refs", "5").expect("one's own process");
    peak_kib()
}

fn peak_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
