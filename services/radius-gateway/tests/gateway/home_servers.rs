//! Home servers as targets: A6, A8. What a device sends goes on as it came, what the server grants comes back, and the second factor
//! stands between the two.

use crate::support::*;
use domain::settings::{LockoutGuard, RefuseOrPass, StatusCheck};
use proto::user_store::PasswordOutcome;
use radius_gateway::{Nodes, RadiusSection};
use radius_wire::eap::Eap;
use radius_wire::{
    AccessRequest, Attribute, AttributeType, Charset, Code, Credentials, Hiding, HidingKey, Packet, Port, Reply, Salts,
    Secret, Sent, Verified,
};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const EAP_SUCCESS: [u8; 4] = [3, 7, 0, 4];
const SEND_KEY: &[u8] = b"0123456789abcdef";

/// The clear User-Password of a request, as the home server reads it.
fn password(request: &Verified<'_>) -> String {
    match AccessRequest::read(request).expect("readable").credentials {
        Credentials::Pap(hidden) => {
            hidden.reveal(Charset::Utf8).expect("hidden with the server's secret").expose().to_owned()
        }
        _ => panic!("no password"),
    }
}

fn accept(request: &Verified<'_>, attributes: &[(AttributeType, &[u8])]) -> Vec<Vec<u8>> {
    let mut attributes: Vec<Attribute<'_>> = attributes.iter().map(|(kind, value)| attribute(*kind, value)).collect();
    // Proxy-States are the writer's business.
    attributes.retain(|attribute| attribute.kind != AttributeType::PROXY_STATE);
    vec![Reply::Accept { attributes: &attributes, message: "" }.write(request).expect("it fits")]
}

fn challenge(request: &Verified<'_>, state: &[u8]) -> Vec<Vec<u8>> {
    let reply = Reply::Challenge { message: "Next token code", state, prompt: None, session_timeout_seconds: None };
    vec![reply.write(request).expect("it fits")]
}

/// An EAP packet as the answer of a server, with what else it says: an Access-Challenge has a State, an Accept keys.
fn eap(request: &Verified<'_>, code: u8, attributes: &[(AttributeType, &[u8])], eap: &[u8]) -> Vec<u8> {
    let secret = Secret::new("shared-with-the-home-server").expect("not empty");
    let packet = request.packet();
    let proxy_states: Vec<_> = packet.all(AttributeType::PROXY_STATE).collect();
    let mut all: Vec<Attribute<'_>> = attributes.iter().map(|(kind, value)| attribute(*kind, value)).collect();
    all.push(attribute(AttributeType::EAP_MESSAGE, eap));
    all.extend(proxy_states.iter().map(|value| attribute(AttributeType::PROXY_STATE, value)));
    signed(code, packet, &all, &secret)
}

/// A reply of any form, signed as a server signs.
fn signed(code: u8, request: &Packet<'_>, attributes: &[Attribute<'_>], secret: &Secret) -> Vec<u8> {
    radius_wire::write_reply(code, sent(request), attributes, secret, true).expect("it fits")
}

/// An Accept without Message-Authenticator.
fn unsigned(request: &Verified<'_>, secret: &str) -> Vec<Vec<u8>> {
    let packet = request.packet();
    let proxy_states: Vec<_> =
        packet.all(AttributeType::PROXY_STATE).map(|value| attribute(AttributeType::PROXY_STATE, value)).collect();
    let secret = Secret::new(secret).expect("not empty");
    vec![radius_wire::write_reply(2, sent(packet), &proxy_states, &secret, false).expect("it fits")]
}

fn sent(request: &Packet<'_>) -> Sent {
    Sent { identifier: request.identifier(), authenticator: *request.authenticator() }
}

/// MS-MPPE-Send-Key, hidden for this request.
fn send_key(request: &Verified<'_>) -> Vec<u8> {
    let hidden = Hiding::TunnelPassword.hide(SEND_KEY, request.hiding_key(), &mut Salts::new(77)).expect("it fits");
    radius_wire::ms_chap::attribute(16, &hidden).expect("it fits")
}

fn response(identifier: u8) -> [u8; 5] {
    [2, identifier, 0, 5, 1]
}

#[tokio::test]
async fn a_password_goes_on_hidden_for_the_server_and_what_it_grants_comes_back_after_the_code() {
    // R-11, R-63, R-65, R-67, R-68, FR-09, FR-17
    let world = World::new().await;
    let gateway = world.gateway().await;
    world.homes[0].says(|request| {
        assert_eq!(password(request), ANN);
        let administrator = 6_u32.to_be_bytes();
        let vlan = [&[1][..], b"17"].concat();
        accept(
            request,
            &[
                (AttributeType::CLASS, b"b"),
                (AttributeType::SERVICE_TYPE, &administrator),
                (AttributeType::CLASS, b"a"),
                (AttributeType(81), &vlan),
                (AttributeType::VENDOR_SPECIFIC, &send_key(request)),
            ],
        )
    });
    let mut nas = Nas::new(RELAYED, gateway.address, SECRET).await;
    let marks = [attribute(AttributeType::PROXY_STATE, b"one"), attribute(AttributeType::PROXY_STATE, b"one")];
    let first = nas.with(&[&[user_name("ann")], marks.as_slice()].concat(), Some(ANN));
    let asked = nas.ask(&first).await;
    assert_eq!((asked.code(), asked.message().as_str()), (Code::AccessChallenge, "Enter your code"));
    assert!(asked.all(AttributeType::CLASS).is_empty(), "nothing of it before the second factor");
    let requests = world.homes[0].requests();
    let sent = parsed(&requests[0]);
    let states: Vec<_> = sent.all(AttributeType::PROXY_STATE).collect();
    assert_eq!((states.len(), states[0], states[1]), (3, b"one".as_slice(), b"one".as_slice()), "ours is the last");

    let second = nas.answer_to("ann", &asked.state(), CODE);
    let accepted = nas.ask(&second).await;
    assert_eq!(accepted.code(), Code::AccessAccept);
    // Message-Authenticator, both Classes in order, the VLAN, the key; no Service-Type that makes an administrator.
    assert_eq!(accepted.kinds(), [80, 25, 25, 81, 26]);
    assert_eq!(accepted.all(AttributeType::CLASS), [b"b", b"a"]);
    let secret = Secret::new(SECRET).expect("not empty");
    let key = HidingKey { secret: &secret, authenticator: &second.sent.authenticator };
    let vendor = accepted.all(AttributeType::VENDOR_SPECIFIC);
    let clear = Hiding::TunnelPassword.reveal(&vendor[0][6..], key).expect("hidden for the device's last request");
    assert_eq!(clear.as_slice(), SEND_KEY);
    assert_eq!(world.homes[0].requests().len(), 1, "R-42: the answer goes to no server");
    assert!(world.directory.passwords().is_empty(), "nor to a directory");
}

#[tokio::test]
async fn what_a_server_granted_is_known_to_the_node_that_gets_the_answer() {
    // R-45, R-65
    let world = World::new().await;
    let (one, other) = (world.one_of_many().await, world.one_of_many().await);
    world.homes[0].says(|request| accept(request, &[(AttributeType::CLASS, b"granted")]));
    let mut nas = Nas::new(RELAYED, one.address, SECRET).await;
    let first = nas.question("ann", ANN);
    let state = nas.ask(&first).await.state();
    nas.gateway = other.address;
    let wrong = nas.answer_to("ann", &state, "000000");
    let again = nas.ask(&wrong).await;
    assert_eq!(again.code(), Code::AccessChallenge);
    nas.gateway = one.address;
    let right = nas.answer_to("ann", &again.state(), CODE);
    let accepted = nas.ask(&right).await;
    assert_eq!((accepted.code(), accepted.all(AttributeType::CLASS)), (Code::AccessAccept, vec![b"granted".to_vec()]));
}

#[tokio::test]
async fn an_appended_code_is_taken_off_before_the_server_sees_the_password() {
    // L-50, L-52
    let world = World::new().await;
    let gateway = world.gateway().await;
    world
        .store
        .change(&world.bus, |document| {
            let client = document.clients.iter_mut().find(|client| client.name.as_str() == "relayed").expect("there");
            client.appended = domain::settings::Appended::Required;
        })
        .await;
    world.homes[0].says(|request| match password(request).as_str() {
        ANN => accept(request, &[]),
        // Before the settings are in force: the whole of it.
        _ => vec![Reply::Reject { message: "" }.write(request).expect("it fits")],
    });
    let mut nas = Nas::new(RELAYED, gateway.address, SECRET).await;
    until("the settings are in force", async || {
        let question = nas.question("ann", &format!("{ANN},{CODE}"));
        let answered = nas.ask(&question).await.code();
        answered == Code::AccessAccept
    })
    .await;
}

/// A server that asks one EAP question, accepts the answer and names `inner`.
fn eap_server(inner: Option<&'static str>) -> impl Fn(&Verified<'_>) -> Vec<Vec<u8>> + Send + Sync {
    eap_server_that_says(inner.map(|inner| (AttributeType::USER_NAME, inner)))
}

fn eap_server_that_says(
    inner: Option<(AttributeType, &'static str)>,
) -> impl Fn(&Verified<'_>) -> Vec<Vec<u8>> + Send + Sync {
    move |request| {
        let packet = request.packet();
        if packet.has(AttributeType::USER_PASSWORD) {
            return Vec::new();
        }
        let identifier = Eap::of(packet).and_then(Eap::identifier).expect("EAP");
        if !packet.has(AttributeType::STATE) {
            let question = [1, identifier + 1, 0, 5, 25];
            return vec![eap(request, 11, &[(AttributeType::STATE, b"tls-17")], &question)];
        }
        assert_eq!(packet.first(AttributeType::STATE), Some(b"tls-17".as_slice()), "R-51");
        let key = send_key(request);
        let mut attributes = vec![(AttributeType::VENDOR_SPECIFIC, key.as_slice())];
        attributes.extend(inner.map(|(attribute, inner)| (attribute, inner.as_bytes())));
        vec![eap(request, 2, &attributes, &EAP_SUCCESS)]
    }
}

/// Plays a whole EAP login, each round at the next of these gateways, and returns every answer.
async fn eap_login(nas: &mut Nas, outer: &str, gateways: &[std::net::SocketAddr]) -> Vec<(Code, Vec<u8>, Vec<u8>)> {
    let mut answers = Vec::new();
    let mut state: Option<Vec<u8>> = None;
    for round in 0..2 {
        nas.gateway = gateways[round % gateways.len()];
        let message = response(round as u8 + 1);
        let mut attributes = vec![user_name(outer), attribute(AttributeType::EAP_MESSAGE, &message)];
        if let Some(state) = &state {
            attributes.push(attribute(AttributeType::STATE, state));
        }
        let question = nas.with(&attributes, None);
        let answer = nas.ask(&question).await;
        let eap = answer.all(AttributeType::EAP_MESSAGE).concat();
        let (code, states) = (answer.code(), answer.all(AttributeType::STATE));
        answers.push((code, eap, answer.octets));
        if code != Code::AccessChallenge {
            break;
        }
        state = states.into_iter().next();
    }
    answers
}

#[tokio::test]
async fn eap_passes_through_and_the_person_inside_is_asked_before_it_succeeds() {
    // R-50, R-51, R-52, R-53, R-45: another node gets the second round
    let world = World::new().await;
    let (one, other) = (world.one_of_many().await, world.one_of_many().await);
    world.homes[0].says(eap_server(Some("ann")));
    world.verification.on_the_phone("ann", "user_approved");
    let mut nas = Nas::new(RELAYED, one.address, SECRET).await;
    let answers = eap_login(&mut nas, "anonymous", &[one.address, other.address]).await;
    let codes: Vec<_> = answers.iter().map(|(code, ..)| *code).collect();
    assert_eq!(codes, [Code::AccessChallenge, Code::AccessAccept]);
    assert_eq!(answers[0].1, [1, 2, 0, 5, 25], "as it came");
    assert_eq!(answers[1].1, EAP_SUCCESS);
    let [(attempt, _)] = world.verification.attempts().try_into().expect("one attempt");
    assert_eq!((attempt.username.as_str(), attempt.can_challenge), ("ann", false), "R-49, R-50");
    assert!(world.homes[1].requests().is_empty(), "R-52: every round at the same server");
}

#[tokio::test]
async fn a_node_that_dies_while_the_person_is_asked_is_replaced_and_no_server_is_asked_again() {
    // R-30, R-53: a server takes an answer of EAP once, as it does a code of its own
    for by_eap in [true, false] {
        let world = World::new().await;
        let (mut one, other) = (world.one_of_many().await, world.one_of_many().await);
        let taken = AtomicBool::new(false);
        world.homes[0].says(move |request| {
            let begins =
                request.packet().has(AttributeType::EAP_MESSAGE) && !request.packet().has(AttributeType::STATE);
            if begins {
                return eap_server(Some("ann"))(request);
            }
            if taken.swap(true, Ordering::SeqCst) {
                return vec![Reply::Reject { message: "" }.write(request).expect("it fits")];
            }
            match request.packet().has(AttributeType::USER_PASSWORD) {
                true => accept(request, &[(AttributeType::VENDOR_SPECIFIC, &send_key(request))]),
                false => eap_server(Some("ann"))(request),
            }
        });
        world.verification.on_the_phone("ann", "user_approved");
        world.verification.one_prompt_each();
        world.verification.hold(true);
        let mut nas = Nas::new(RELAYED, one.address, SECRET).await;
        let question = match by_eap {
            true => {
                let message = response(1);
                let first = nas.with(&[user_name("ann"), attribute(AttributeType::EAP_MESSAGE, &message)], None);
                let state = nas.ask(&first).await.state();
                eap_round(&mut nas, "ann", &state)
            }
            false => nas.question("ann", ANN),
        };
        nas.send(&question.octets).await;
        until("the person is asked", async || world.verification.decisions() == 1).await;
        let asked = world.homes[0].requests().len();
        one.kill();
        world.clock.advance(7_000);
        nas.gateway = other.address;
        nas.send(&question.octets).await;
        until("the other node goes on", async || world.verification.decisions() == 2).await;
        world.verification.hold(false);
        let accepted = nas.hear(&question).await;
        assert_eq!(accepted.code(), Code::AccessAccept, "EAP: {by_eap}");
        assert_eq!(world.homes[0].requests().len(), asked, "EAP: {by_eap}; the server is asked again");
        assert!(world.verification.cancels().is_empty() && world.directory.passwords().is_empty());
        let secret = Secret::new(SECRET).expect("not empty");
        let key = HidingKey { secret: &secret, authenticator: &question.sent.authenticator };
        let vendor = accepted.all(AttributeType::VENDOR_SPECIFIC);
        let clear = Hiding::TunnelPassword.reveal(&vendor[0][6..], key).expect("hidden for the device");
        assert_eq!(clear.as_slice(), SEND_KEY);
        if by_eap {
            assert_eq!(accepted.all(AttributeType::EAP_MESSAGE).concat(), EAP_SUCCESS);
        }
        for value in world.bus.written() {
            for secret in [SEND_KEY, SECRET.as_bytes(), &EAP_SUCCESS, b"ann"] {
                assert!(!value.windows(secret.len()).any(|window| window == secret), "V-73: sealed");
            }
        }
    }
}

#[tokio::test]
async fn what_was_in_work_longer_than_any_client_waits_is_begun_anew() {
    // R-30, V-73: an old value of the map that was put back in its place is no first lock that is open
    for age_ms in [7_000, 141_000] {
        let world = World::new().await;
        let (mut one, other) = (world.one_of_many().await, world.one_of_many().await);
        world.homes[0].says(|request| accept(request, &[]));
        world.verification.on_the_phone("ann", "user_approved");
        world.verification.hold(true);
        let mut nas = Nas::new(RELAYED, one.address, SECRET).await;
        let question = nas.question("ann", ANN);
        nas.send(&question.octets).await;
        until("the person is asked", async || world.verification.decisions() == 1).await;
        one.kill();
        world.clock.advance(age_ms);
        nas.gateway = other.address;
        nas.send(&question.octets).await;
        until("the other node asks", async || world.verification.decisions() == 2).await;
        let anew = usize::from(age_ms > 140_000);
        assert_eq!(world.homes[0].requests().len(), 1 + anew, "{age_ms}");
        world.verification.hold(false);
        assert_eq!(nas.hear(&question).await.code(), Code::AccessAccept, "{age_ms}");
    }
}

#[tokio::test]
async fn what_a_server_granted_is_kept_once_and_no_longer_than_the_attempt() {
    // R-30, R-45
    let world = World::new().await;
    let gateway = world.one_of_many().await;
    world.homes[0].says(|request| accept(request, &[]));
    let mut nas = Nas::new(RELAYED, gateway.address, SECRET).await;
    let question = nas.question("ann", ANN);
    let first = nas.ask(&question).await;
    assert_eq!((first.code(), world.bus.put("accept.")), (Code::AccessChallenge, 1));
    let wrong = nas.answer_to("ann", &first.state(), "000000");
    let again = nas.ask(&wrong).await;
    assert_eq!((again.code(), world.bus.put("accept.")), (Code::AccessChallenge, 1));
    let right = nas.answer_to("ann", &again.state(), CODE);
    assert_eq!(nas.ask(&right).await.code(), Code::AccessAccept);
    until("it is gone", async || world.bus.put("accept.") == 0).await;
}

#[tokio::test]
async fn whoever_goes_on_for_a_node_that_died_denies_in_eap_and_without_the_success() {
    // R-30, R-53
    let world = World::new().await;
    let (mut one, other) = (world.one_of_many().await, world.one_of_many().await);
    world.homes[0].says(eap_server(Some("ann")));
    world.verification.on_the_phone("ann", "user_denied");
    world.verification.hold(true);
    let mut nas = Nas::new(RELAYED, one.address, SECRET).await;
    let first = nas.with(&[user_name("ann"), attribute(AttributeType::EAP_MESSAGE, &response(1))], None);
    let state = nas.ask(&first).await.state();
    let second = eap_round(&mut nas, "ann", &state);
    nas.send(&second.octets).await;
    until("the person is asked", async || world.verification.decisions() == 1).await;
    one.kill();
    world.clock.advance(7_000);
    nas.gateway = other.address;
    nas.send(&second.octets).await;
    until("the other node goes on", async || world.verification.decisions() == 2).await;
    world.verification.hold(false);
    let refused = nas.hear(&second).await;
    assert_eq!((refused.code(), refused.kinds()), (Code::AccessReject, vec![80, 79]));
    assert_eq!(refused.all(AttributeType::EAP_MESSAGE).concat(), [4, EAP_SUCCESS[1], 0, 4]);
}

/// A round of EAP that goes on with this State.
fn eap_round(nas: &mut Nas, name: &str, state: &[u8]) -> Question {
    let message = response(2);
    let eap = attribute(AttributeType::EAP_MESSAGE, &message);
    nas.with(&[user_name(name), eap, attribute(AttributeType::STATE, state)], None)
}

/// While decisions are held: `node`, which takes nothing new, goes on with what `one` has begun at a home server, and with nothing else.
async fn goes_on_at(world: &World, one: &Node, node: &Node) {
    let mut nas = Nas::new(RELAYED, one.address, SECRET).await;
    let first = nas.with(&[user_name("ann"), attribute(AttributeType::EAP_MESSAGE, &response(1))], None);
    let state = nas.ask(&first).await.state();
    nas.gateway = node.address;
    let (asked, decisions) = (world.homes[0].requests().len(), world.verification.decisions());
    for (name, state) in [("ann", b"invented".as_slice()), ("bob", &state)] {
        let stranger = eap_round(&mut nas, name, state);
        nas.send(&stranger.octets).await;
        // It is dropped by then, and makes room; a node that drains has a second.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let second = eap_round(&mut nas, "ann", &state);
    nas.send(&second.octets).await;
    until("ann is asked", async || world.verification.decisions() == decisions + 1).await;
    world.verification.hold(false);
    assert_eq!(nas.hear(&second).await.code(), Code::AccessAccept);
    nas.hears_nothing().await;
    assert_eq!(world.homes[0].requests().len(), asked + 1, "nobody was given the other States");
}

#[tokio::test]
async fn a_draining_node_goes_on_with_what_another_has_begun_at_a_server() {
    // R-39, R-45
    let world = World::new().await;
    let (one, draining) = (world.one_of_many().await, world.one_of_many().await);
    world.homes[0].says(eap_server(Some("ann")));
    world.verification.on_the_phone("ann", "user_approved");
    world.verification.hold(true);
    // What it waits for.
    let mut other = Nas::new(PATIENT, draining.address, SECRET).await;
    let waits = other.question("bob", "sesame-bob-77e2");
    other.send(&waits.octets).await;
    until("bob is asked", async || world.verification.decisions() == 1).await;
    draining.shutdown.begin();
    draining.shutdown.draining().await;
    goes_on_at(&world, &one, &draining).await;
}

#[tokio::test]
async fn a_node_with_little_room_goes_on_with_what_another_has_begun_at_a_server() {
    // R-38, R-45
    let world = World::new().await;
    let section = RadiusSection { in_work_max: 10_u64.try_into().expect("the least"), ..section() };
    let (one, full) = (world.one_of_many().await, world.node(Nodes::Many, section).await);
    world.homes[0].says(eap_server(Some("ann")));
    world.verification.on_the_phone("ann", "user_approved");
    world.verification.hold(true);
    let mut crowd = Nas::new(PATIENT, full.address, SECRET).await;
    for _ in 0..9 {
        let question = crowd.question("bob", "sesame-bob-77e2");
        crowd.send(&question.octets).await;
    }
    until("there is room for one", async || world.verification.decisions() == 9).await;
    goes_on_at(&world, &one, &full).await;
}

#[tokio::test]
async fn a_conversation_stays_at_its_server_when_another_one_comes_first() {
    // R-52: the settings put the other server first between the rounds
    let world = World::new().await;
    let gateway = world.gateway().await;
    world.homes[0].says(eap_server(Some("ann")));
    world.homes[1].says(|_| panic!("it has asked nothing"));
    world.verification.on_the_phone("ann", "user_approved");
    let mut nas = Nas::new(RELAYED, gateway.address, SECRET).await;
    let first = nas.with(&[user_name("ann"), attribute(AttributeType::EAP_MESSAGE, &response(1))], None);
    let asked = nas.ask(&first).await;
    assert_eq!(asked.code(), Code::AccessChallenge);
    world.store.change(&world.bus, |settings| settings.targets[0].servers.swap(0, 1)).await;
    // The gateway has it when whoever comes anew is sent to the other one.
    world.homes[1].says(|request| accept(request, &[]));
    until("the other one comes first", async || {
        let question = nas.question("ann", ANN);
        nas.ask(&question).await;
        !world.homes[1].requests().is_empty()
    })
    .await;
    world.homes[1].says(|_| panic!("it has asked nothing"));
    let message = response(2);
    let attributes =
        [user_name("ann"), attribute(AttributeType::EAP_MESSAGE, &message), attribute(AttributeType::STATE, b"tls-17")];
    let second = nas.with(&attributes, None);
    assert_eq!(nas.ask(&second).await.code(), Code::AccessAccept);
}

#[tokio::test]
async fn a_conversation_whose_server_has_died_ends_in_eap_failure_and_not_at_another_server() {
    // R-52, RFC 5080 section 2.1.2: the other one would take it
    let world = World::new().await;
    let gateway = world.gateway().await;
    world.homes[0].says(eap_server(Some("ann")));
    world.homes[1].says(eap_server(Some("ann")));
    world.verification.on_the_phone("ann", "user_approved");
    let mut nas = Nas::new(RELAYED, gateway.address, SECRET).await;
    let first = nas.with(&[user_name("ann"), attribute(AttributeType::EAP_MESSAGE, &response(1))], None);
    assert_eq!(nas.ask(&first).await.code(), Code::AccessChallenge);
    world.homes[0].stop();
    let message = response(2);
    let attributes =
        [user_name("ann"), attribute(AttributeType::EAP_MESSAGE, &message), attribute(AttributeType::STATE, b"tls-17")];
    let second = nas.with(&attributes, None);
    nas.send(&second.octets).await;
    let refused = nas.hear_within(&second, Duration::from_secs(12)).await;
    assert_eq!(refused.code(), Code::AccessReject);
    assert_eq!(refused.all(AttributeType::EAP_MESSAGE), [[4, 2, 0, 4]], "EAP-Failure");
    assert!(world.homes[1].requests().is_empty(), "the other one was asked");
    assert_eq!(world.verification.decisions(), 0, "somebody was asked");
    // Whoever begins anew begins at the other.
    let answers = eap_login(&mut nas, "ann", &[gateway.address]).await;
    assert_eq!(answers.last().expect("an answer").0, Code::AccessAccept);
    assert_eq!(world.homes[1].requests().len(), 2);
}

#[tokio::test]
async fn a_server_that_left_a_request_without_an_answer_is_asked_how_it_is_and_the_question_is_signed_first() {
    // R-11, R-81, RFC 5997
    let world = World::new().await;
    let gateway = world.gateway().await;
    world.homes[1].says(|request| accept(request, &[]));
    world.verification.on_the_phone("ann", "user_approved");
    let mut nas = Nas::new(RELAYED, gateway.address, SECRET).await;
    let question = nas.question("ann", ANN);
    nas.send(&question.octets).await;
    assert_eq!(nas.hear_within(&question, Duration::from_secs(9)).await.code(), Code::AccessAccept);
    until("it is asked how it is", async || !world.homes[0].probes().is_empty()).await;
    let probes = world.homes[0].probes();
    let probe = parsed(&probes[0]);
    assert_eq!((probe.code(), &probe.octets()[20..22]), (Code::StatusServer, [80, 18].as_slice()));
    assert!(!probe.has(AttributeType::USER_PASSWORD), "it proves nobody");
}

#[tokio::test]
async fn a_server_that_turns_out_to_sign_has_to_from_then_on() {
    // R-12: `auto` and `no`; the store hears both, when it can be reached again
    let world = World::new().await;
    let gateway = world.gateway().await;
    world.homes[1].says(|request| accept(request, &[(AttributeType::CLASS, b"second")]));
    world.verification.on_the_phone("ann", "user_approved");
    let classes = async |nas: &mut Nas| {
        let question = nas.question("ann", ANN);
        nas.send(&question.octets).await;
        let accepted = nas.hear_within(&question, Duration::from_secs(9)).await;
        assert_eq!(accepted.code(), Code::AccessAccept);
        accepted.all(AttributeType::CLASS)
    };
    let (mut learning, mut lax) =
        (Nas::new(LEARNING, gateway.address, SECRET).await, Nas::new(LAX, gateway.address, SECRET).await);
    world.homes[0].says(move |request| unsigned(request, "shared-with-the-home-server"));
    assert!(
        classes(&mut learning).await.is_empty() && classes(&mut lax).await.is_empty(),
        "believed by its authenticator"
    );
    let heard = async |expected: &[bool]| {
        until("the store hears it", async || {
            let lessons = world.store.lessons();
            assert!(lessons.iter().all(|(server, _)| server.starts_with("target.learning-homes.")), "{lessons:?}");
            lessons.iter().map(|(_, signs)| *signs).eq(expected.iter().copied())
        })
        .await;
    };
    heard(&[false]).await;
    world.store.away(true);
    world.homes[0].says(|request| accept(request, &[]));
    assert!(classes(&mut learning).await.is_empty() && classes(&mut lax).await.is_empty());
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(world.store.lessons().len(), 1);
    world.store.away(false);
    heard(&[false, true]).await;
    world.homes[0].says(move |request| unsigned(request, "shared-with-the-home-server"));
    assert!(classes(&mut lax).await.is_empty(), "it may still leave it");
    assert_eq!(classes(&mut learning).await, [b"second"], "it signs, so this was somebody else");
    world.homes[0].says(move |request| unsigned(request, "guessed"));
    assert_eq!(classes(&mut lax).await, [b"second"], "nobody signs, and still nobody may forge");
}

#[tokio::test]
async fn what_a_server_signs_because_it_must_teaches_nothing() {
    // R-12, R-10: EAP is signed always, and a password may still be answered unsigned
    let world = World::new().await;
    let gateway = world.gateway().await;
    world.homes[0].says(eap_server(Some("ann")));
    world.homes[1].says(|request| accept(request, &[(AttributeType::CLASS, b"second")]));
    world.verification.on_the_phone("ann", "user_approved");
    let mut nas = Nas::new(LEARNING, gateway.address, SECRET).await;
    let answers = eap_login(&mut nas, "ann", &[gateway.address]).await;
    assert_eq!(answers.last().expect("an answer").0, Code::AccessAccept);
    world.homes[0].says(|request| unsigned(request, "shared-with-the-home-server"));
    let question = nas.question("ann", ANN);
    nas.send(&question.octets).await;
    let accepted = nas.hear_within(&question, Duration::from_secs(9)).await;
    assert_eq!((accepted.code(), accepted.all(AttributeType::CLASS)), (Code::AccessAccept, vec![]), "of the first");
    assert!(world.store.lessons().iter().all(|(_, signs)| !signs), "{:?}", world.store.lessons());
}

#[tokio::test]
async fn a_key_that_cannot_be_read_fails_the_login() {
    // FR-17: without it the device would have a login and no connection
    let world = World::new().await;
    let gateway = world.gateway().await;
    world.verification.on_the_phone("ann", "user_approved");
    let mut nas = Nas::new(RELAYED, gateway.address, SECRET).await;
    // MS-MPPE-Send-Key: a salt, and less than a block.
    let short = radius_wire::ms_chap::attribute(16, &[0x80, 1, 7, 7, 7]).expect("it fits");
    for (value, code) in [(short.clone(), Code::AccessReject), (Vec::new(), Code::AccessAccept)] {
        world.homes[0].says(move |request| match value.as_slice() {
            [] => accept(request, &[(AttributeType::VENDOR_SPECIFIC, &send_key(request))]),
            value => accept(request, &[(AttributeType::VENDOR_SPECIFIC, value)]),
        });
        let question = nas.question("ann", ANN);
        assert_eq!(nas.ask(&question).await.code(), code);
    }
}

#[tokio::test]
async fn eap_that_is_none_goes_to_no_server() {
    // B-24: shorter or longer than it says, of no known code, an answer without a type; and several attributes that are one packet
    let world = World::new().await;
    let gateway = world.gateway().await;
    world.homes[0].says(eap_server(Some("ann")));
    let mut nas = Nas::new(RELAYED, gateway.address, SECRET).await;
    for message in [&[2, 1, 0, 6, 1][..], &[2, 1, 0, 4, 1], &[2, 1], &[2, 1, 0, 3], &[9, 1, 0, 5, 1]] {
        let question = nas.with(&[user_name("ann"), attribute(AttributeType::EAP_MESSAGE, message)], None);
        assert_eq!(nas.ask(&question).await.code(), Code::AccessReject, "{message:?}");
    }
    assert!(world.homes[0].requests().is_empty());
    let pieces = [attribute(AttributeType::EAP_MESSAGE, &[2, 1, 0]), attribute(AttributeType::EAP_MESSAGE, &[5, 1])];
    let question = nas.with(&[&[user_name("ann")], pieces.as_slice()].concat(), None);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessChallenge);
    assert_eq!(world.homes[0].requests().len(), 1);
}

#[tokio::test]
async fn a_denied_eap_login_ends_in_eap_failure_and_nothing_of_the_success_leaves() {
    // R-53, R-54, R-66, T: capture every packet
    let world = World::new().await;
    let gateway = world.gateway().await;
    world.homes[0].says(eap_server(Some("ann")));
    for reason in ["user_denied", "no_answer"] {
        world.verification.on_the_phone("ann", reason);
        let mut nas = Nas::new(RELAYED, gateway.address, SECRET).await;
        let answers = eap_login(&mut nas, "ann", &[gateway.address]).await;
        let (code, eap, octets) = answers.last().expect("an answer");
        assert_eq!((*code, eap.as_slice()), (Code::AccessReject, [4, EAP_SUCCESS[1], 0, 4].as_slice()), "{reason}");
        for (_, eap, octets) in &answers {
            assert_ne!(eap.first(), Some(&3), "no EAP-Success");
            assert!(
                !Packet::parse(octets, Port::AuthenticationReplies)
                    .expect("parsed")
                    .has(AttributeType::VENDOR_SPECIFIC)
            );
        }
        let packet = Packet::parse(octets, Port::AuthenticationReplies).expect("parsed");
        let kinds: Vec<_> = packet.attributes().map(|attribute| attribute.kind.0).collect();
        assert_eq!(kinds, [80, 79], "no Reply-Message beside EAP");
    }
    // Who has only a code cannot be asked for it there.
    world.homes[0].says(eap_server(Some("bob")));
    let mut nas = Nas::new(RELAYED, gateway.address, SECRET).await;
    let answers = eap_login(&mut nas, "bob", &[gateway.address]).await;
    assert_eq!(answers.last().expect("an answer").0, Code::AccessReject, "R-49");
}

#[tokio::test]
async fn the_outer_name_of_eap_is_nobody_unless_the_settings_trust_it() {
    // R-50, B-25: outside somebody who needs no factor, inside the victim; and a server that does not say who is inside
    let world = World::new().await;
    let gateway = world.gateway().await;
    world.verification.on_the_phone("bob", "user_approved");
    world.verification.on_the_phone("ann", "user_denied");
    world.homes[0].says(eap_server(Some("ann")));
    let mut nas = Nas::new(RELAYED, gateway.address, SECRET).await;
    let answers = eap_login(&mut nas, "bob", &[gateway.address]).await;
    assert_eq!(answers.last().expect("an answer").0, Code::AccessReject);
    assert_eq!(world.verification.attempts().pop().expect("begun").0.username, "ann");

    world.homes[0].says(eap_server(None));
    let asked = world.verification.decisions();
    let answers = eap_login(&mut nas, "bob", &[gateway.address]).await;
    assert_eq!(answers.last().expect("an answer").0, Code::AccessReject);
    assert_eq!(world.verification.decisions(), asked, "nobody was asked");

    let mut trusting = Nas::new(TRUSTING, gateway.address, SECRET).await;
    for (outer, code) in [
        ("bob", Code::AccessAccept),
        ("anonymous", Code::AccessReject),
        ("@corp.example", Code::AccessReject),
        ("Anonymous@corp.example", Code::AccessReject),
    ] {
        let answers = eap_login(&mut trusting, outer, &[gateway.address]).await;
        assert_eq!(answers.last().expect("an answer").0, code, "{outer}");
    }
}

#[tokio::test]
async fn a_state_is_answered_to_the_server_that_asked_and_to_no_other() {
    // R-42, R-52: another client's State, one that nobody sent, one whose server is gone
    let world = World::new().await;
    let gateway = world.gateway().await;
    world.homes[0].says(|request| match request.packet().first(AttributeType::STATE) {
        None => challenge(request, b"next-code"),
        Some(_) => accept(request, &[]),
    });
    world.homes[1].says(|_| panic!("it has asked nothing"));
    world.verification.on_the_phone("ann", "user_approved");
    let mut nas = Nas::new(RELAYED, gateway.address, SECRET).await;
    let first = nas.question("ann", ANN);
    let asked = nas.ask(&first).await;
    assert_eq!(
        (asked.code(), asked.state(), asked.message().as_str()),
        (Code::AccessChallenge, b"next-code".to_vec(), "Next token code")
    );
    assert_eq!(world.verification.decisions(), 0, "R-53: not before its Accept");

    let unknown = nas.answer_to("ann", b"invented", "123456");
    assert_eq!(nas.ask(&unknown).await.code(), Code::AccessReject);
    let mut other = Nas::new(TRUSTING, gateway.address, SECRET).await;
    let foreign = other.answer_to("ann", b"next-code", "123456");
    assert_eq!(other.ask(&foreign).await.code(), Code::AccessReject);
    // The server might go by its State alone: then ann's yes would be bob's.
    world.verification.on_the_phone("bob", "user_approved");
    let another = nas.answer_to("bob", b"next-code", "123456");
    assert_eq!(nas.ask(&another).await.code(), Code::AccessReject);
    assert_eq!(world.homes[0].requests().len(), 1);

    let answer = nas.answer_to("ann", b"next-code", "123456");
    assert_eq!(nas.ask(&answer).await.code(), Code::AccessAccept);
    assert_eq!(parsed(&world.homes[0].requests()[1]).first(AttributeType::STATE), Some(b"next-code".as_slice()));
}

#[tokio::test]
async fn where_there_is_little_room_only_a_state_counts_that_was_passed_on_here() {
    // R-38: ten may wait, the last of them only with a State that a home server has sent by us
    let world = World::new().await;
    let section = RadiusSection { in_work_max: 10_u64.try_into().expect("the least"), ..section() };
    let gateway = world.node(Nodes::One, section).await;
    world.homes[0].says(|request| challenge(request, b"next-code"));
    world.verification.on_the_phone("ann", "user_approved");
    let mut nas = Nas::new(RELAYED, gateway.address, SECRET).await;
    let first = nas.question("ann", ANN);
    assert_eq!(nas.ask(&first).await.state(), b"next-code");
    world.homes[0].says(|request| match request.packet().first(AttributeType::STATE) {
        None => Vec::new(),
        Some(_) => accept(request, &[]),
    });
    let questions: Vec<_> = (0..9).map(|_| nas.question("ann", ANN)).collect();
    for question in &questions {
        nas.send(&question.octets).await;
    }
    until("nine wait for the server", async || world.homes[0].requests().len() > 9).await;
    let invented = nas.answer_to("ann", b"invented", "123456");
    nas.send(&invented.octets).await;
    let another = nas.answer_to("bob", b"next-code", "123456");
    nas.send(&another.octets).await;
    nas.hears_nothing().await;
    let answer = nas.answer_to("ann", b"next-code", "123456");
    assert_eq!(nas.ask(&answer).await.code(), Code::AccessAccept);
}

#[tokio::test]
async fn who_was_let_in_with_a_state_proves_themselves_again_to_the_same_server() {
    // R-52, RFC 2865 section 5.24: State with Termination-Action in an Access-Accept
    let world = World::new().await;
    let gateway = world.gateway().await;
    // Termination-Action: RADIUS-Request. An hour.
    const SESSION: [(AttributeType, &[u8]); 3] = [
        (AttributeType(29), &[0, 0, 0, 1]),
        (AttributeType::SESSION_TIMEOUT, &[0, 0, 0x0e, 0x10]),
        (AttributeType::STATE, b"session-17"),
    ];
    world.homes[0].says(|request| match request.packet().first(AttributeType::STATE) {
        None => accept(request, &SESSION),
        Some(state) => accept(request, &[(AttributeType::CLASS, state)]),
    });
    world.homes[1].says(|_| panic!("it has let in nobody"));
    world.verification.on_the_phone("ann", "user_approved");
    world.verification.on_the_phone("bob", "user_approved");
    let mut nas = Nas::new(RELAYED, gateway.address, SECRET).await;
    let chap = attribute(AttributeType::CHAP_PASSWORD, &[1; 17]);
    let again = attribute(AttributeType::STATE, b"session-17");
    let first = nas.with(&[user_name("ann"), chap], None);
    let accepted = nas.ask(&first).await;
    assert_eq!((accepted.code(), accepted.state()), (Code::AccessAccept, b"session-17".to_vec()));
    let another = nas.with(&[user_name("bob"), chap, again], None);
    assert_eq!(nas.ask(&another).await.code(), Code::AccessReject, "it is ann's");
    let second = nas.with(&[user_name("ann"), chap, again], None);
    let accepted = nas.ask(&second).await;
    assert_eq!(
        (accepted.code(), accepted.all(AttributeType::CLASS)),
        (Code::AccessAccept, vec![b"session-17".to_vec()])
    );
    assert_eq!(world.verification.decisions(), 2, "with the second factor");
    // L-56, L-52: a password would get by the lock-out guard and keep its code.
    let asked = world.homes[0].requests().len();
    let question = nas.question("bob", ANN);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessAccept);
    let question = nas.answer_to("bob", b"session-17", ANN);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessReject);
    assert_eq!(world.homes[0].requests().len(), asked + 1, "nobody is asked");
}

#[tokio::test]
async fn the_next_server_is_asked_where_the_first_is_silent_and_a_forged_answer_is_none() {
    // R-12, R-80 to R-83, B-14, B-15
    let world = World::new().await;
    let gateway = world.gateway().await;
    world.homes[0].says(|request| {
        // Signed with another secret; with the right one and no Message-Authenticator; about another request.
        let packet = request.packet();
        let proxy_states: Vec<_> =
            packet.all(AttributeType::PROXY_STATE).map(|value| attribute(AttributeType::PROXY_STATE, value)).collect();
        let forger = Secret::new("guessed").expect("not empty");
        let secret = Secret::new("shared-with-the-home-server").expect("not empty");
        let signed_for = |sent| radius_wire::write_reply(2, sent, &proxy_states, &secret, true).expect("it fits");
        vec![
            signed(2, packet, &proxy_states, &forger),
            radius_wire::write_reply(2, sent(packet), &proxy_states, &secret, false).expect("it fits"),
            signed_for(Sent { identifier: packet.identifier().wrapping_add(1), ..sent(packet) }),
        ]
    });
    world.homes[1].says(|request| accept(request, &[(AttributeType::CLASS, b"second")]));
    world.verification.on_the_phone("ann", "user_approved");
    let mut nas = Nas::new(RELAYED, gateway.address, SECRET).await;
    let question = nas.question("ann", ANN);
    nas.send(&question.octets).await;
    let accepted = nas.hear_within(&question, Duration::from_secs(9)).await;
    assert_eq!((accepted.code(), accepted.all(AttributeType::CLASS)), (Code::AccessAccept, vec![b"second".to_vec()]));
    let (first, second) = (world.homes[0].requests(), world.homes[1].requests());
    assert!(first.len() >= 2 && first.iter().all(|octets| *octets == first[0]), "R-82: the same octets again");
    assert_ne!(parsed(&first[0]).authenticator(), parsed(&second[0]).authenticator(), "R-82: new for another server");
    // It is a zombie now: the next one goes to the second at once.
    let question = nas.question("ann", ANN);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessAccept);
    assert_eq!(world.homes[1].requests().len(), 2);
}

#[tokio::test]
async fn the_store_is_told_how_it_stands_with_each_server() {
    // R-81: one that is silent is a zombie, the other one as good as ever
    let world = World::new().await;
    let gateway = world.gateway().await;
    world.homes[0].says(|_| Vec::new());
    world.homes[1].says(|request| accept(request, &[]));
    world.verification.on_the_phone("ann", "user_approved");
    let mut nas = Nas::new(RELAYED, gateway.address, SECRET).await;
    let question = nas.question("ann", ANN);
    nas.send(&question.octets).await;
    assert_eq!(nas.hear_within(&question, Duration::from_secs(9)).await.code(), Code::AccessAccept);
    let states = || {
        let of_homes = world.store.home_servers().into_iter().filter(|it| it.target == "homes");
        of_homes.map(|it| (it.place, it.state, it.accounting_state)).collect::<Vec<_>>()
    };
    // It is told every half minute.
    let told = tokio::time::timeout(Duration::from_secs(45), async {
        while !states().iter().any(|(_, state, _)| state != "alive") {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    told.await.expect("it is told");
    let told = states();
    assert_eq!(told.iter().filter(|(_, state, _)| state == "alive").count(), 1, "{told:?}");
    let places: BTreeSet<_> = told.iter().map(|(place, ..)| place).collect();
    assert!(places.len() == 2 && told.iter().all(|(_, _, accounting)| accounting == "alive"), "{told:?}");
}

#[tokio::test]
async fn a_server_is_back_when_it_refuses_somebody_whom_nobody_knows_and_not_when_it_lets_them_in() {
    // R-85, R-81: no Status-Server goes there; each question has another password
    const NOBODY: &str = "nobody-of-this-name";
    let world = World::new().await;
    world
        .store
        .change(&world.bus, |settings| {
            let target = settings.targets.iter_mut().find(|target| target.name.as_str() == "homes").expect("there");
            target.servers.truncate(1);
            (target.status_check, target.status_user) = (StatusCheck::Username, NOBODY.into());
            target.check_interval_seconds = 6;
        })
        .await;
    let gateway = world.gateway().await;
    let asked: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
    let (seen, refuses) = (asked.clone(), Arc::new(AtomicBool::new(false)));
    let refuses_now = refuses.clone();
    world.homes[0].says(move |request| {
        let name =
            request.packet().first(AttributeType::USER_NAME).map(|name| String::from_utf8_lossy(name).into_owned());
        let name = name.expect("a name");
        if name != NOBODY {
            return Vec::new();
        }
        seen.lock().expect("no panic while held").push((name, password(request)));
        match refuses_now.load(Ordering::SeqCst) {
            true => vec![Reply::Reject { message: "" }.write(request).expect("it fits")],
            false => accept(request, &[]),
        }
    });
    let mut nas = Nas::new(RELAYED, gateway.address, SECRET).await;
    let question = nas.question("ann", ANN);
    nas.send(&question.octets).await;
    let state = || {
        let upstreams = gateway.process.health().upstreams();
        upstreams.into_iter().find(|(kind, ..)| *kind == "target").map(|(.., state)| state).expect("it was asked")
    };
    let questions = || asked.lock().expect("no panic while held").len();
    for number in 1..=2 {
        until("it is asked", async || questions() >= number).await;
    }
    assert_eq!(state().last_error.as_deref(), Some("it does not refuse whom nobody knows"));
    refuses.store(true, Ordering::SeqCst);
    for number in 3..=5 {
        assert!(!state().up, "before it has refused three times");
        until("it is asked", async || questions() >= number).await;
    }
    until("it is back", async || state().up).await;
    let asked = asked.lock().expect("no panic while held").clone();
    let passwords: BTreeSet<_> = asked.iter().map(|(_, password)| password).collect();
    assert!(passwords.len() == asked.len() && passwords.iter().all(|password| password.len() == 32), "{asked:?}");
}

#[tokio::test]
async fn an_answer_that_contradicts_itself_is_a_no() {
    // B-26, RFC 3579 section 2.6.3
    let world = World::new().await;
    let gateway = world.gateway().await;
    world.verification.on_the_phone("ann", "user_approved");
    let mut nas = Nas::new(RELAYED, gateway.address, SECRET).await;
    let name: (AttributeType, &[u8]) = (AttributeType::USER_NAME, b"ann");
    for (code, message) in [(2, [4, 7, 0, 4]), (3, [3, 7, 0, 4]), (11, [3, 7, 0, 4])] {
        world.homes[0].says(move |request| vec![eap(request, code, &[name], &message)]);
        let answers = eap_login(&mut nas, "ann", &[gateway.address]).await;
        let (code, eap, _) = answers.last().expect("an answer");
        assert_eq!((*code, eap.first()), (Code::AccessReject, Some(&4)));
    }
    assert_eq!(world.verification.decisions(), 0);
}

/// 26/311 with MS-CHAP-Challenge, and with MS-CHAP2-Response.
fn ms_chap2() -> [Vec<u8>; 2] {
    let mut response = vec![9, 0];
    response.extend([5; 48]);
    [
        radius_wire::ms_chap::attribute(11, &[8; 16]).expect("it fits"),
        radius_wire::ms_chap::attribute(25, &response).expect("it fits"),
    ]
}

fn ms_chap_error(answer: &[Vec<u8>]) -> String {
    String::from_utf8_lossy(&answer[0][6..]).into_owned()
}

#[tokio::test]
async fn ms_chap_gets_its_success_after_the_second_factor_and_its_own_words_for_a_no() {
    // R-56, R-58, FR-11, B-27
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(RELAYED, gateway.address, SECRET).await;
    let [challenge, response] = ms_chap2();
    let proof = [
        user_name("ann"),
        attribute(AttributeType::VENDOR_SPECIFIC, &challenge),
        attribute(AttributeType::VENDOR_SPECIFIC, &response),
    ];
    world.homes[0].says(|request| {
        let success = radius_wire::ms_chap::attribute(26, b"\x09S=0123").expect("it fits");
        accept(request, &[(AttributeType::VENDOR_SPECIFIC, &success)])
    });
    world.verification.on_the_phone("ann", "user_approved");
    let question = nas.with(&proof, None);
    let accepted = nas.ask(&question).await;
    assert_eq!(accepted.code(), Code::AccessAccept);
    assert_eq!(accepted.all(AttributeType::VENDOR_SPECIFIC)[0][6..], *b"\x09S=0123");

    world.verification.on_the_phone("ann", "user_denied");
    let question = nas.with(&proof, None);
    let refused = nas.ask(&question).await;
    assert_eq!(refused.code(), Code::AccessReject);
    let error = ms_chap_error(&refused.all(AttributeType::VENDOR_SPECIFIC));
    assert!(error.starts_with("\tE=691 R=0 C=") && error.contains(" V=3 M=Sign-in failed. Ref "), "{error}");

    // Its own words for an expired password come through, and only after them may it be changed.
    let change = {
        let mut cpw = vec![7, 9];
        cpw.extend([1; 64]);
        cpw.extend([0; 2]);
        radius_wire::ms_chap::attribute(27, &cpw).expect("it fits")
    };
    let pieces: Vec<Vec<u8>> = (1..=3_u8)
        .map(|piece| {
            let value = [&[6, 9, 0, piece][..], &[2; 172]].concat();
            radius_wire::ms_chap::attribute(6, &value).expect("it fits")
        })
        .collect();
    let mut with_change = vec![user_name("ann"), attribute(AttributeType::VENDOR_SPECIFIC, &challenge)];
    with_change.push(attribute(AttributeType::VENDOR_SPECIFIC, &change));
    with_change.extend(pieces.iter().map(|piece| attribute(AttributeType::VENDOR_SPECIFIC, piece)));
    let question = nas.with(&with_change, None);
    let early = nas.ask(&question).await;
    let error = ms_chap_error(&early.all(AttributeType::VENDOR_SPECIFIC));
    assert!(early.code() == Code::AccessReject && error.starts_with("\tE=709 R=0"), "{error}");
    assert_eq!(world.homes[0].requests().len(), 2, "not sent on");

    world.homes[0].says(|request| {
        let error =
            radius_wire::ms_chap::attribute(2, b"\x09E=648 R=0 C=00000000000000000000000000000000 V=3 M=expired");
        let error = error.expect("it fits");
        let mut attributes = vec![attribute(AttributeType::VENDOR_SPECIFIC, &error)];
        attributes.extend(
            request.packet().all(AttributeType::PROXY_STATE).map(|value| attribute(AttributeType::PROXY_STATE, value)),
        );
        vec![signed(3, request.packet(), &attributes, &Secret::new("shared-with-the-home-server").expect("not empty"))]
    });
    let question = nas.with(&proof, None);
    let expired = nas.ask(&question).await;
    assert!(ms_chap_error(&expired.all(AttributeType::VENDOR_SPECIFIC)).starts_with("\tE=648"));
    until("the audit hears why", async || {
        world.verification.reports().iter().any(|(_, reason)| reason == "password_expired")
    })
    .await;
    world.homes[0].says(|request| accept(request, &[]));
    let question = nas.with(&with_change, None);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessReject, "ann refuses on the phone");
    assert_eq!(world.homes[0].requests().len(), 4, "the change went on");
    until("nothing is remembered of the old password", async || {
        world.verification.calls().iter().any(|call| matches!(call, Call::PasswordChanged(_)))
    })
    .await;

    // What has the wrong size goes nowhere.
    let short = radius_wire::ms_chap::attribute(25, &[9; 49]).expect("it fits");
    let bad = [user_name("ann"), proof[1], attribute(AttributeType::VENDOR_SPECIFIC, &short)];
    let question = nas.with(&bad, None);
    let refused = nas.ask(&question).await;
    assert!(ms_chap_error(&refused.all(AttributeType::VENDOR_SPECIFIC)).starts_with("\tE=691 R=0"));
    assert_eq!(world.homes[0].requests().len(), 4);
}

/// Of ann, whose password has expired: the second one changes it.
fn change_of_password(nas: &mut Nas) -> [Question; 2] {
    let [challenge, response] = ms_chap2();
    let vendor = |value| attribute(AttributeType::VENDOR_SPECIFIC, value);
    let change = {
        let cpw = [&[7, 9][..], &[1; 64], &[0; 2]].concat();
        radius_wire::ms_chap::attribute(27, &cpw).expect("it fits")
    };
    let pieces: Vec<Vec<u8>> = (1..=3_u8)
        .map(|piece| radius_wire::ms_chap::attribute(6, &[&[6, 9, 0, piece][..], &[2; 172]].concat()).expect("it fits"))
        .collect();
    let mut attributes = vec![user_name("ann"), vendor(&challenge), vendor(&change)];
    attributes.extend(pieces.iter().map(|piece| vendor(piece)));
    [nas.with(&[user_name("ann"), vendor(&challenge), vendor(&response)], None), nas.with(&attributes, None)]
}

/// Whose password has expired, as a server says it over MS-CHAPv2.
fn expired(request: &Verified<'_>) -> Vec<Vec<u8>> {
    let error = radius_wire::ms_chap::attribute(2, b"\x09E=648 R=0 C=00000000000000000000000000000000 V=3 M=expired");
    let error = error.expect("it fits");
    let mut attributes = vec![attribute(AttributeType::VENDOR_SPECIFIC, &error)];
    attributes.extend(
        request.packet().all(AttributeType::PROXY_STATE).map(|value| attribute(AttributeType::PROXY_STATE, value)),
    );
    vec![signed(3, request.packet(), &attributes, &Secret::new("shared-with-the-home-server").expect("not empty"))]
}

#[tokio::test]
async fn a_password_that_was_changed_while_the_directory_is_away_is_told_of_when_it_is_back() {
    // V-52, R-58: the login fails, and recent logins with the old password count no more
    let world = World::new().await;
    let gateway = world.gateway().await;
    world.verification.on_the_phone("ann", "user_approved");
    let mut nas = Nas::new(RELAYED, gateway.address, SECRET).await;
    let [first, change] = change_of_password(&mut nas);
    world.homes[0].says(expired);
    assert_eq!(nas.ask(&first).await.code(), Code::AccessReject);
    world.homes[0].says(|request| accept(request, &[]));
    const BUSY: u32 = 51;
    world.directory.mood(Mood::SearchFails(BUSY));
    assert_eq!(nas.ask(&change).await.code(), Code::AccessReject);
    let told = || world.verification.calls().into_iter().any(|call| matches!(call, Call::PasswordChanged(_)));
    assert!(!told() && world.verification.decisions() == 0);
    world.directory.mood(Mood::Well);
    until("nothing is remembered of the old password", async || told()).await;
}

#[tokio::test]
async fn a_password_that_was_changed_is_told_of_where_the_login_is_dropped_before_the_directory_answers() {
    // V-52, R-32: the device sends another request in its place while the directory is silent
    for with_state in [false, true] {
        let world = World::new().await;
        let gateway = world.gateway().await;
        let mut nas = Nas::new(RELAYED, gateway.address, SECRET).await;
        let [first, change] = change_of_password(&mut nas);
        world.homes[0].says(expired);
        assert_eq!(nas.ask(&first).await.code(), Code::AccessReject);
        world.homes[0].says(move |request| match with_state {
            true => accept(request, &[(AttributeType::STATE, b"again")]),
            false => accept(request, &[]),
        });
        world.directory.mood(Mood::SilentToSearches);
        let searches = world.directory.searches();
        nas.send(&change.octets).await;
        until("the directory is asked who it is", async || world.directory.searches() > searches).await;
        world.homes[0].says(|_| Vec::new());
        nas.repeat_identifier();
        let other = nas.question("bob", "sesame-bob-77e2");
        nas.send(&other.octets).await;
        until("the login was dropped", async || {
            world.verification.reports().iter().any(|(_, reason)| reason == "challenge_gone")
        })
        .await;
        let told = || world.verification.calls().into_iter().any(|call| matches!(call, Call::PasswordChanged(_)));
        assert!(!told());
        world.directory.mood(Mood::Well);
        until("nothing is remembered of the old password", async || told()).await;
    }
}

#[tokio::test]
async fn what_only_looks_like_a_key_is_kept_back_where_the_client_lets_nothing_through() {
    // FR-17: Microsoft's attribute with nothing inside, with what is none, with a key and more
    let world = World::new().await;
    world
        .store
        .change(&world.bus, |document| {
            let client = document.clients.iter_mut().find(|client| client.name.as_str() == "relayed").expect("there");
            client.target_attributes = vec!["Class".into()];
        })
        .await;
    let gateway = world.gateway().await;
    world.verification.on_the_phone("ann", "user_approved");
    let mut nas = Nas::new(RELAYED, gateway.address, SECRET).await;
    let inside = |octets: &[u8]| [&311_u32.to_be_bytes()[..], octets].concat();
    for (octets, passes) in [
        (&[][..], false),
        (&[1, 1], false),
        (&[7, 200, 0], false),
        (&[7, 6, 0, 0, 0, 1, 9], false),
        (&[7, 6, 0, 0, 0, 1, 13, 6, 0, 0, 0, 1], false),
        (&[7, 6, 0, 0, 0, 1], true),
    ] {
        let value = inside(octets);
        world.homes[0].says(move |request| {
            accept(request, &[(AttributeType::CLASS, b"a"), (AttributeType::VENDOR_SPECIFIC, &value)])
        });
        let question = nas.question("ann", ANN);
        let accepted = nas.ask(&question).await;
        let kinds = if passes { vec![80, 25, 26] } else { vec![80, 25] };
        assert_eq!((accepted.code(), accepted.kinds()), (Code::AccessAccept, kinds), "{octets:?}");
    }
}

#[tokio::test]
async fn chap_takes_its_challenge_along() {
    // R-26
    let world = World::new().await;
    let gateway = world.gateway().await;
    world.homes[0].says(|request| accept(request, &[(AttributeType::USER_NAME, b"ann@corp.example")]));
    world.verification.on_the_phone("ann", "user_approved");
    let mut nas = Nas::new(RELAYED, gateway.address, SECRET).await;
    let question = nas.with(&[user_name("ann"), attribute(AttributeType::CHAP_PASSWORD, &[1; 17])], None);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessAccept);
    let requests = world.homes[0].requests();
    let sent = parsed(&requests[0]);
    assert_eq!(sent.first(AttributeType::CHAP_CHALLENGE), Some(question.sent.authenticator.as_slice()));
    assert_ne!(sent.authenticator(), &question.sent.authenticator);
}

#[tokio::test]
async fn a_password_that_only_the_server_sees_is_counted_like_any_other() {
    // L-56: CHAP and EAP; the server asks a directory that may lock accounts
    let world = World::new().await;
    let guard = LockoutGuard { wrong_passwords: 3, window_minutes: 30 };
    world.store.change(&world.bus, |document| document.directories[0].lockout_guard = Some(guard)).await;
    let gateway = world.gateway().await;
    world.verification.on_the_phone("ann", "user_approved");
    let tries = world.password_tries.clone();
    let is_told = async |outcomes: &[PasswordOutcome]| {
        until("the store is told", async || tries.settled().len() >= outcomes.len()).await;
        assert_eq!(tries.settled(), outcomes);
    };
    let (wrong, right, open) = (PasswordOutcome::Wrong, PasswordOutcome::Right, PasswordOutcome::NotCounted);
    let mut nas = Nas::new(RELAYED, gateway.address, SECRET).await;
    let chap = attribute(AttributeType::CHAP_PASSWORD, &[1; 17]);
    world.homes[0].says(|request| vec![Reply::Reject { message: "no" }.write(request).expect("it fits")]);
    let question = nas.with(&[user_name("ann"), chap], None);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessReject);
    is_told(&[wrong]).await;
    // Nobody's account.
    let question = nas.with(&[user_name("nobody"), chap], None);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessReject);
    world.homes[0].says(|request| accept(request, &[]));
    let question = nas.with(&[user_name("ann"), chap], None);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessAccept);
    is_told(&[wrong, right]).await;
    // The round in between decides nothing.
    world.homes[0].says(eap_server(Some("ann")));
    let answers = eap_login(&mut nas, "ann", &[gateway.address]).await;
    assert_eq!(answers.last().expect("an answer").0, Code::AccessAccept);
    is_told(&[wrong, right, open, right]).await;
    // Another person's password behind this name says nothing about this one's: it must not take the count of wrong ones back.
    world.verification.on_the_phone("bob", "user_approved");
    world.homes[0].says(eap_server(Some("bob")));
    let answers = eap_login(&mut nas, "ann", &[gateway.address]).await;
    assert_eq!(answers.last().expect("an answer").0, Code::AccessAccept);
    is_told(&[wrong, right, open, right, open, open]).await;
    // No password, nothing to count.
    world.homes[0].says(|request| accept(request, &[]));
    let mut itself = Nas::new(CHECKS_ITSELF, gateway.address, SECRET).await;
    let question = itself.with(&[user_name("ann")], None);
    assert_eq!(itself.ask(&question).await.code(), Code::AccessAccept);
    is_told(&[wrong, right, open, right, open, open]).await;

    tries.exhausted(true);
    let before = world.homes[0].requests().len();
    let question = nas.with(&[user_name("ann"), chap], None);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessReject);
    let answers = eap_login(&mut nas, "ann", &[gateway.address]).await;
    assert_eq!(answers.last().expect("an answer").0, Code::AccessReject);
    assert_eq!(world.homes[0].requests().len(), before, "no server was asked");
}

#[tokio::test]
async fn a_device_that_has_checked_the_person_itself_is_asked_about_at_the_server_and_on_the_phone() {
    // FR-21, R-20: RD Gateway, whose request holds no proof
    let world = World::new().await;
    let gateway = world.gateway().await;
    world.homes[0].says(|request| accept(request, &[(AttributeType::CLASS, b"rd")]));
    world.verification.on_the_phone("ann", "user_approved");
    world.verification.on_the_phone("bob", "user_denied");
    let mut nas = Nas::new(CHECKS_ITSELF, gateway.address, SECRET).await;
    let question = nas.with(&[user_name("ann")], None);
    let accepted = nas.ask(&question).await;
    assert_eq!((accepted.code(), accepted.all(AttributeType::CLASS)), (Code::AccessAccept, vec![b"rd".to_vec()]));
    assert!(!parsed(&world.homes[0].requests()[0]).has(AttributeType::USER_PASSWORD));
    assert!(world.directory.passwords().is_empty());
    // The phone refuses; the server refuses; Authorize-Only is no login (RFC 5080 section 2.1.1).
    let question = nas.with(&[user_name("bob")], None);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessReject);
    assert_eq!((world.homes[0].requests().len(), world.verification.decisions()), (2, 2));
    world.homes[0].says(|request| vec![Reply::Reject { message: "no" }.write(request).expect("it fits")]);
    let question = nas.with(&[user_name("ann")], None);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessReject);
    assert_eq!((world.homes[0].requests().len(), world.verification.decisions()), (3, 2));
    let authorize_only = 17_u32.to_be_bytes();
    let question = nas.with(&[user_name("ann"), attribute(AttributeType::SERVICE_TYPE, &authorize_only)], None);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessReject);
    // Nor does any other client get that far.
    let mut nas = Nas::new(RELAYED, gateway.address, SECRET).await;
    let question = nas.with(&[user_name("ann")], None);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessReject);
    assert_eq!((world.homes[0].requests().len(), world.verification.decisions()), (3, 2));
}

#[tokio::test]
async fn a_password_is_refused_when_the_server_says_so_and_nobody_is_asked() {
    // R-63, R-66: nothing of its reply but what a Reject may carry, and our own text
    let world = World::new().await;
    let gateway = world.gateway().await;
    world.homes[0]
        .says(|request| vec![Reply::Reject { message: "The user is locked" }.write(request).expect("it fits")]);
    let mut nas = Nas::new(RELAYED, gateway.address, SECRET).await;
    let question = nas.question("ann", "wrong");
    let refused = nas.ask(&question).await;
    assert_eq!(refused.code(), Code::AccessReject);
    assert!(refused.message().starts_with("Sign-in failed. Ref "), "{}", refused.message());
    assert_eq!(world.verification.decisions(), 0);
    until("the audit hears of it", async || {
        world.verification.reports() == [("ann".to_owned(), "bad_password".to_owned())]
    })
    .await;
    // R-27: an empty password goes nowhere.
    let question = nas.question("ann", "");
    assert_eq!(nas.ask(&question).await.code(), Code::AccessReject);
    assert_eq!(world.homes[0].requests().len(), 1);
}

#[tokio::test]
async fn a_yes_about_somebody_else_than_was_typed_is_none() {
    // R-60
    let world = World::new().await;
    let gateway = world.gateway().await;
    world.homes[0].says(|request| accept(request, &[(AttributeType::USER_NAME, b"bob")]));
    world.verification.on_the_phone("ann", "user_approved");
    world.verification.on_the_phone("bob", "user_approved");
    let mut nas = Nas::new(RELAYED, gateway.address, SECRET).await;
    let question = nas.question("ann", ANN);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessReject);
    assert_eq!(world.verification.decisions(), 0);
}

/// How many were asked: servers, and verification.
fn asked(world: &World) -> (usize, usize) {
    (world.homes[0].requests().len(), world.verification.decisions())
}

#[tokio::test]
async fn whom_the_directory_proves_to_be_nobody_the_server_lets_in_alone_where_the_client_says_so() {
    // R-62, FV-40: {absent, found, several, kept out, an error} x {refuse, pass}
    let world = World::new().await;
    let gateway = world.gateway().await;
    world.homes[0].says(|request| {
        assert_eq!(password(request), "theirs");
        accept(request, &[(AttributeType::CLASS, b"a")])
    });
    let mut nas = Nas::new(OPEN, gateway.address, SECRET).await;
    let question = nas.question("stranger", "theirs");
    let accepted = nas.ask(&question).await;
    assert_eq!((accepted.code(), accepted.all(AttributeType::CLASS)), (Code::AccessAccept, vec![b"a".to_vec()]));
    let (attempt, _) = world.verification.attempts().pop().expect("begun");
    assert_eq!((attempt.username.as_str(), attempt.proven_absent, attempt.subject), ("stranger", true, None));
    assert_eq!((asked(&world), world.directory.binds()), ((1, 1), 0));

    // By default nobody is, and the server is not even asked.
    let mut strict = Nas::new(RELAYED, gateway.address, SECRET).await;
    let question = strict.question("stranger", "theirs");
    assert_eq!(strict.ask(&question).await.code(), Code::AccessReject);
    // Nor where there is nobody but the directory to check a password.
    let mut here = Nas::new(OPEN_HERE, gateway.address, SECRET).await;
    let question = here.question("stranger", "theirs");
    assert_eq!(here.ask(&question).await.code(), Code::AccessReject);
    assert_eq!((asked(&world), world.directory.binds()), ((1, 1), 0));

    // No proof: several have the name; somebody has it who is no user here; another server could read it otherwise, or it is no name.
    let no_proof =
        ["shared@corp.example", "printer", "str\u{e4}nger", " stranger", "stranger ", "stranger%x", "stranger."];
    let no_name = ["uid=stranger,dc=corp,dc=example", r"OTHER\stranger", "@", "<GUID=1>"];
    for name in no_proof.into_iter().chain(no_name) {
        let question = nas.question(name, "theirs");
        assert_eq!(nas.ask(&question).await.code(), Code::AccessReject, "{name}");
        assert_eq!(asked(&world), (1, 1), "{name}");
    }
    // An error is no absence.
    for mood in
        [Mood::SearchFails(1), Mood::SearchFails(32), Mood::SearchFails(51), Mood::SearchIsCut, Mood::SilentToSearches]
    {
        world.directory.mood(mood);
        let question = nas.question("stranger", "theirs");
        nas.send(&question.octets).await;
        assert_eq!(nas.hear_within(&question, Duration::from_secs(9)).await.code(), Code::AccessReject);
        assert_eq!(asked(&world), (1, 1));
    }
    world.directory.mood(Mood::Well);
    // Whom the store knows under that name is nobody unknown: verification says so, and that holds.
    world.verification.without_factor("removed");
    let question = nas.question("removed", "theirs");
    assert_eq!(nas.ask(&question).await.code(), Code::AccessReject);
    assert_eq!(asked(&world), (2, 2));
    // While verification is away nobody is.
    world.verification.misbehave(Some(Fault::Unavailable));
    let question = nas.question("stranger", "theirs");
    assert_eq!(nas.ask(&question).await.code(), Code::AccessReject);
    world.verification.misbehave(None);
    // Who is known is asked for the second factor as ever.
    world.homes[0].says(|request| accept(request, &[]));
    let question = nas.question("ann", ANN);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessChallenge);
}

#[tokio::test]
async fn a_name_counts_by_what_it_leads_to_before_a_server_is_asked() {
    // R-60, R-62: a name alone might be what somebody is called elsewhere, which is listed; whoever it leads to by itself is not, and
    // nor is nobody
    let world = World::new().await;
    let listed = |forms: &'static [domain::NameForm]| {
        move |settings: &mut domain::settings::Settings| {
            let client = settings.clients.iter_mut().find(|client| client.name.as_str() == "open").expect("there");
            client.name_forms = forms.to_vec();
        }
    };
    world.store.change(&world.bus, listed(&[domain::NameForm::UserPrincipalName, domain::NameForm::Alternate])).await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(OPEN, gateway.address, SECRET).await;
    world.homes[0].says(|request| accept(request, &[]));
    world.verification.on_the_phone("ann", "user_approved");
    let [challenge, response] = ms_chap2();
    let proof = [
        user_name("ann"),
        attribute(AttributeType::VENDOR_SPECIFIC, &challenge),
        attribute(AttributeType::VENDOR_SPECIFIC, &response),
    ];
    let question = nas.with(&proof, None);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessReject);
    for name in ["ann", "stranger"] {
        let question = nas.question(name, ANN);
        assert_eq!(nas.ask(&question).await.code(), Code::AccessReject, "{name}");
    }
    assert_eq!(asked(&world), (0, 0));
    world.store.change(&world.bus, listed(&[domain::NameForm::Bare])).await;
    until("it is in force", async || {
        let question = nas.with(&proof, None);
        nas.ask(&question).await.code() == Code::AccessAccept
    })
    .await;
}

#[tokio::test]
async fn a_yes_about_another_name_than_the_one_that_is_nobodys_is_none() {
    // R-60, R-61, R-62
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(OPEN, gateway.address, SECRET).await;
    let names: [(&[&str], Code); 6] = [
        (&["ann"], Code::AccessReject),
        (&["another"], Code::AccessReject),
        (&["stranger", "ann"], Code::AccessReject),
        (&[""], Code::AccessReject),
        (&["STRANGER"], Code::AccessAccept),
        (&[], Code::AccessAccept),
    ];
    for (names, code) in names {
        world.homes[0].says(move |request| {
            let named = |name: &&'static str| (AttributeType::USER_NAME, name.as_bytes());
            accept(request, &names.iter().map(named).collect::<Vec<_>>())
        });
        let question = nas.question("stranger", "theirs");
        assert_eq!(nas.ask(&question).await.code(), code, "{names:?}");
        let chap = attribute(AttributeType::CHAP_PASSWORD, &[1; 17]);
        let question = nas.with(&[user_name("stranger"), chap], None);
        assert_eq!(nas.ask(&question).await.code(), code, "{names:?} by CHAP");
    }
    world.homes[0].says(|request| vec![Reply::Reject { message: "no" }.write(request).expect("it fits")]);
    let begun = world.verification.decisions();
    let question = nas.question("stranger", "wrong");
    assert_eq!(nas.ask(&question).await.code(), Code::AccessReject);
    assert_eq!(world.verification.decisions(), begun, "R-63");
}

#[tokio::test]
async fn whoever_an_alternate_name_leads_to_is_somebody_if_the_filter_keeps_them_out() {
    // R-62, FD-19
    let world = World::new().await;
    world.homes[0].says(|request| accept(request, &[]));
    world
        .store
        .change(&world.bus, |document| document.directories[0].attributes.alternate = Some("employeeNumber".into()))
        .await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(OPEN, gateway.address, SECRET).await;
    for (name, code) in [("4711", Code::AccessReject), ("4712", Code::AccessAccept)] {
        let question = nas.question(name, "theirs");
        assert_eq!(nas.ask(&question).await.code(), code, "{name}");
    }
    assert_eq!(asked(&world), (1, 1));
}

#[tokio::test]
async fn a_yes_about_nobody_names_them_in_the_attribute_of_the_target() {
    // R-60, R-62: what else it names may be somebody
    let world = World::new().await;
    world.store.change(&world.bus, |document| document.targets[0].identity_attribute = "Filter-Id".into()).await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(OPEN, gateway.address, SECRET).await;
    const NAME: AttributeType = AttributeType::USER_NAME;
    const OWN: AttributeType = AttributeType(11);
    let cases: [(&[(AttributeType, &str)], Code); 7] = [
        (&[(OWN, "ann")], Code::AccessReject),
        (&[(OWN, "another")], Code::AccessReject),
        (&[(OWN, "stranger"), (OWN, "ann")], Code::AccessReject),
        (&[(OWN, "ann"), (NAME, "stranger")], Code::AccessReject),
        (&[(OWN, "stranger"), (NAME, "ann")], Code::AccessReject),
        (&[(OWN, "Stranger"), (NAME, "stranger")], Code::AccessAccept),
        (&[], Code::AccessAccept),
    ];
    for (said, code) in cases {
        world.homes[0].says(move |request| {
            accept(request, &said.iter().map(|(kind, name)| (*kind, name.as_bytes())).collect::<Vec<_>>())
        });
        let question = nas.question("stranger", "theirs");
        assert_eq!(nas.ask(&question).await.code(), code, "{said:?}");
        let chap = attribute(AttributeType::CHAP_PASSWORD, &[1; 17]);
        let question = nas.with(&[user_name("stranger"), chap], None);
        assert_eq!(nas.ask(&question).await.code(), code, "{said:?} by CHAP");
    }
}

#[tokio::test]
async fn nobody_is_proven_to_be_absent_by_the_outer_name_of_eap() {
    // R-50, R-62: whoever sends it chooses it, and FreeRADIUS returns it by itself
    let world = World::new().await;
    world
        .store
        .change(&world.bus, |document| {
            for client in &mut document.clients {
                if ["trusting", "relayed"].contains(&client.name.as_str()) {
                    client.unknown_user = RefuseOrPass::Pass;
                }
            }
        })
        .await;
    let gateway = world.gateway().await;
    world.homes[0].says(eap_server(None));
    let mut nas = Nas::new(TRUSTING, gateway.address, SECRET).await;
    let answers = eap_login(&mut nas, "stranger", &[gateway.address]).await;
    assert_eq!(answers.last().expect("an answer").0, Code::AccessReject, "no name inside");
    let mut nas = Nas::new(OPEN, gateway.address, SECRET).await;
    for outer in ["stranger", "Stranger", "stranger@corp.example", r"CORP\stranger"] {
        world.homes[0].says(eap_server(Some("stranger")));
        let answers = eap_login(&mut nas, outer, &[gateway.address]).await;
        assert_eq!(answers.last().expect("an answer").0, Code::AccessReject, "{outer}");
    }
    assert_eq!(world.verification.decisions(), 0);
    // An attribute of its own is not the outer name, whatever that is.
    world.store.change(&world.bus, |document| document.targets[0].identity_attribute = "Filter-Id".into()).await;
    let gateway = world.gateway().await;
    world.homes[0].says(eap_server_that_says(Some((AttributeType(11), "stranger"))));
    let mut nas = Nas::new(OPEN, gateway.address, SECRET).await;
    let answers = eap_login(&mut nas, "stranger", &[gateway.address]).await;
    assert_eq!(answers.last().expect("an answer").0, Code::AccessAccept);
}

#[tokio::test]
async fn inside_eap_the_server_says_who_is_nobody() {
    // R-50, R-62: whoever is named inside counts, and nobody is unknown by what stands outside
    let world = World::new().await;
    let gateway = world.gateway().await;
    world.verification.on_the_phone("ann", "user_denied");
    let mut nas = Nas::new(OPEN, gateway.address, SECRET).await;
    for (outer, inner, code) in [
        ("anonymous", Some("stranger"), Code::AccessAccept),
        ("stranger", Some("ann"), Code::AccessReject),
        ("ann", Some("stranger"), Code::AccessAccept),
        ("stranger", None, Code::AccessReject),
    ] {
        world.homes[0].says(eap_server(inner));
        let answers = eap_login(&mut nas, outer, &[gateway.address]).await;
        assert_eq!(answers.last().expect("an answer").0, code, "{outer} {inner:?}");
    }
    let absent: Vec<_> =
        world.verification.attempts().iter().map(|(it, _)| (it.username.clone(), it.proven_absent)).collect();
    let who = |name: &str, absent| (name.to_owned(), absent);
    assert_eq!(absent, [who("stranger", true), who("ann", false), who("stranger", true)]);
}

#[tokio::test]
async fn a_request_that_comes_round_in_a_circle_is_refused() {
    // B-33
    let world = World::new().await;
    let gateway = world.gateway().await;
    world.homes[0].says(|_| Vec::new());
    let mut nas = Nas::new(RELAYED, gateway.address, SECRET).await;
    let question = nas.question("ann", ANN);
    nas.send(&question.octets).await;
    until("it was sent on", async || !world.homes[0].requests().is_empty()).await;
    let requests = world.homes[0].requests();
    let mark = parsed(&requests[0]).all(AttributeType::PROXY_STATE).last().expect("ours").to_vec();
    let mut other = Nas::new(VPN, gateway.address, SECRET).await;
    let back = other.with(&[user_name("ann"), attribute(AttributeType::PROXY_STATE, &mark)], Some(ANN));
    assert_eq!(other.ask(&back).await.code(), Code::AccessReject);
    assert!(world.directory.passwords().is_empty());
    // Somebody else's mark of the same length is none of ours.
    let similar =
        other.with(&[user_name("ann"), attribute(AttributeType::PROXY_STATE, &vec![7; mark.len()])], Some(ANN));
    assert_eq!(other.ask(&similar).await.code(), Code::AccessChallenge);
}

#[tokio::test]
async fn a_server_that_is_gone_is_a_target_that_does_not_answer() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    world.homes[0].stop();
    world.homes[1].stop();
    let mut nas = Nas::new(RELAYED, gateway.address, SECRET).await;
    let question = nas.question("ann", ANN);
    nas.send(&question.octets).await;
    let refused = nas.hear_within(&question, Duration::from_secs(12)).await;
    assert_eq!(refused.code(), Code::AccessReject);
    until("the audit hears of it", async || {
        world.verification.reports() == [("ann".to_owned(), "target_timeout".to_owned())]
    })
    .await;
}

#[tokio::test]
async fn what_groups_bring_stands_beside_what_the_server_grants_and_a_rule_that_fails_fails_the_login() {
    // FB-06, FR-17, R-69
    let world = World::new().await;
    let gateway = world.gateway().await;
    world
        .store
        .change(&world.bus, |document| {
            let client = document.clients.iter_mut().find(|client| client.name.as_str() == "relayed").expect("there");
            let rules = serde_json::json!([
                { "when_group": "VPN Admins", "set": { "Filter-Id": "admins" } },
                { "when_group": "Broken", "set": { "Filter-Id": "{roomNumber}" } },
                { "set": { "Session-Timeout": 600 } },
            ]);
            client.reply = serde_json::from_value(rules).expect("rules");
            client.target_attributes = vec!["Class".into()];
        })
        .await;
    world.homes[0]
        .says(|request| accept(request, &[(AttributeType::CLASS, b"a"), (AttributeType::REPLY_MESSAGE, b"hi")]));
    world.verification.on_the_phone("ann", "user_approved");
    let member_of = |groups: &[&str]| {
        let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        let subject = proto::common::DirectoryRef {
            directory: "corp".into(),
            object_id: "entryUUID:00000000-0000-4000-8000-00000000000a".into(),
        };
        world.verification.misbehave(Some(Fault::twists(move |outcome| {
            if let Some(proto::verification::outcome::Result::Allow(allow)) = &mut outcome.result {
                (allow.groups, allow.subject) = (groups.clone(), Some(subject.clone()));
            }
        })));
    };
    let mut nas = Nas::new(RELAYED, gateway.address, SECRET).await;
    member_of(&[]);
    let seconds = 600_u32.to_be_bytes().to_vec();
    until("the rules are in force", async || {
        let question = nas.question("ann", ANN);
        nas.ask(&question).await.all(AttributeType::SESSION_TIMEOUT) == [seconds.clone()]
    })
    .await;
    member_of(&["VPN Admins"]);
    let question = nas.question("ann", ANN);
    let accepted = nas.ask(&question).await;
    // Message-Authenticator, the server's Class and not its text, then what the rules bring, in their order.
    assert_eq!((accepted.code(), accepted.kinds()), (Code::AccessAccept, vec![80, 25, 11, 27]));
    assert_eq!(accepted.all(AttributeType(11)), [b"admins"]);
    member_of(&["Broken"]);
    let question = nas.question("ann", ANN);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessReject, "ann has no roomNumber");
}
