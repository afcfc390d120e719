//! Requests that are no copies and yet the same: devices that repeat themselves with another Identifier, authenticator or
//! port, or at the next server (R-34). Whoever may wait for the answer to another request is decided here and nowhere else.
//!
//! ```text
//! equal: client, password or State or challenge and response, every other attribute     -> resembles
//!        and Calling-Station-Id, which says where the person is, or our own State       -> joins
//! ```
//! A second requester with the right password must not ride on the first one's approval (D9): without something that tells
//! the two apart nothing joins. The State of an open challenge of ours does for it: it was given to this very conversation.

use crate::access_request::{AccessRequest, Credentials};
use crate::attribute::{Attribute, AttributeType};
use crate::authenticator::Verified;
use crate::forward::Rewrite;
use crate::packet::{Datagram, Port};
use crate::password::Charset;
use crate::write::{AttributeOctets, WriteError};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What look-alikes have in common, digested under a key that the nodes share: it tells nobody else anything, not even
/// whether a password was guessed right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LookAlike {
    digest: [u8; 32],
    joins: bool,
}

impl LookAlike {
    /// None for what is never taken for another request: without a proof of its own, or with one that is bound to the packet.
    /// `continues`: the State is that of an open challenge of ours.
    pub fn of(request: &Verified<'_>, client: &str, key: &[u8; 32], continues: bool) -> Option<Self> {
        let packet = request.packet();
        let access = AccessRequest::read(request).ok()?;
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
        let mut add = |octets: &[u8]| {
            mac.update(&(octets.len() as u64).to_be_bytes());
            mac.update(octets);
        };
        add(client.as_bytes());
        match access.credentials {
            // Hidden anew in every packet. As octets: what the client's charset makes of them is the same for both.
            Credentials::Pap(hidden) => add(hidden.reveal(Charset::Latin1).ok()?.expose().as_bytes()),
            // Without its own attribute the challenge is the authenticator, and belongs to that packet alone.
            Credentials::Chap if packet.has(AttributeType::CHAP_CHALLENGE) => {}
            Credentials::MsChap => {}
            Credentials::Eap if access.state.is_some() => {}
            Credentials::Chap | Credentials::Eap | Credentials::Arap | Credentials::Absent => return None,
        }
        let mut others: Vec<_> = packet
            .attributes()
            .filter(|attribute| !differs(attribute.kind))
            .map(|attribute| (attribute.kind, attribute.value))
            .collect();
        others.sort_unstable();
        for (kind, value) in others {
            add(&[kind.0]);
            add(value);
        }
        // An empty value tells nobody apart.
        let station = packet.calling_station_id().is_some_and(|station| !station.is_empty());
        Some(Self { digest: mac.finalize().into_bytes().into(), joins: station || continues })
    }

    /// Whether it may wait for the answer to the other one. Otherwise the resemblance is only worth telling.
    pub fn joins(&self) -> bool {
        self.joins
    }

    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The key for the map that all nodes share.
    pub fn shared(&self) -> String {
        let hex: String = self.digest.iter().map(|octet| format!("{octet:02x}")).collect();
        format!("alike-{hex}")
    }
}

/// What a device may change when it repeats itself.
fn differs(kind: AttributeType) -> bool {
    const ACCT_DELAY_TIME: AttributeType = AttributeType(41); // RFC 2866 section 5.2
    const EVENT_TIMESTAMP: AttributeType = AttributeType(55); // RFC 2869 section 5.3
    matches!(
        kind,
        AttributeType::MESSAGE_AUTHENTICATOR
            | AttributeType::USER_PASSWORD
            | AttributeType::PROXY_STATE
            | ACCT_DELAY_TIME
            | EVENT_TIMESTAMP
    )
}

/// The answer that one request got, for another: the same Code and attributes, with that one's Identifier, authenticator,
/// signature and Proxy-States (R-34, R-67). `reply` is an answer of ours; `rewrite` is asked about each attribute, because
/// some are hidden with the authenticator of the request. None for what is no answer to an Access-Request.
pub fn readdressed(
    reply: &[u8],
    request: &Verified<'_>,
    rewrite: &mut dyn FnMut(Attribute<'_>) -> Rewrite,
) -> Option<Result<Vec<u8>, WriteError>> {
    let reply = Datagram::new(reply).ok()?.packet(Port::AuthenticationReplies, usize::MAX).ok()?;
    let packet = request.packet();
    let write = |rewrite: &mut dyn FnMut(Attribute<'_>) -> Rewrite| {
        let mut octets = AttributeOctets::default();
        for attribute in reply.attributes() {
            match attribute.kind {
                AttributeType::MESSAGE_AUTHENTICATOR | AttributeType::PROXY_STATE => {}
                _ => octets.push_rewritten(attribute, rewrite(attribute))?,
            }
        }
        packet.all(AttributeType::PROXY_STATE).try_for_each(|value| octets.push(AttributeType::PROXY_STATE, value))?;
        octets.into_reply(reply.code() as u8, packet.identifier(), packet.authenticator(), request.secret())
    };
    Some(write(rewrite))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Packet, Prompt, Reply, Request, RequestCode, Rules, Secret, verify_reply, verify_request};

    const KEY: [u8; 32] = [7; 32];
    const NAME: Attribute<'_> = Attribute { kind: AttributeType::USER_NAME, value: b"ann" };
    const STATION: Attribute<'_> = Attribute { kind: AttributeType::CALLING_STATION_ID, value: b"02-00-5e-10" };

    fn secret() -> Secret {
        Secret::new("xyzzy5461").expect("not empty")
    }

    fn octets(number: u8, attributes: &[Attribute<'_>], password: Option<&str>) -> Vec<u8> {
        let code = RequestCode::AccessRequest;
        Request { code, identifier: number, authenticator: [number; 16], attributes, password }
            .write(&secret())
            .expect("it fits")
    }

    fn with<T>(octets: &[u8], look: impl FnOnce(&Verified<'_>) -> T) -> T {
        let secret = secret();
        let packet = Packet::parse(octets, Port::Authentication).expect("well formed");
        look(&verify_request(packet, (&secret).into(), Rules::default()).unwrap_or_else(|reason| panic!("{reason}")))
    }

    fn alike(number: u8, attributes: &[Attribute<'_>], password: Option<&str>) -> Option<LookAlike> {
        with(&octets(number, attributes, password), |request| LookAlike::of(request, "vpn", &KEY, false))
    }

    fn attribute(kind: u8, value: &[u8]) -> Attribute<'_> {
        Attribute { kind: AttributeType(kind), value }
    }

    #[test]
    fn another_identifier_authenticator_order_or_time_is_alike() {
        // R-34: everything but the five that a device may change, in whatever order
        let port = attribute(5, &[0, 0, 0, 7]);
        let first = alike(1, &[NAME, STATION, port], Some("sesame"));
        assert!(first.is_some_and(|first| first.joins()));
        let changing = [attribute(55, &[1; 4]), attribute(41, &[2; 4]), attribute(33, b"proxy")];
        let later = [&[port, NAME, STATION], changing.as_slice()].concat();
        assert_eq!(alike(2, &later, Some("sesame")), first);
    }

    #[test]
    fn whatever_else_differs_is_another_request() {
        // R-34, D9: among them who guesses, and who sits elsewhere
        let first = alike(1, &[NAME, STATION], Some("sesame")).expect("comparable");
        let elsewhere = attribute(31, b"02-00-5e-11");
        for (attributes, password) in [
            (&[NAME, STATION][..], "sesamf"),
            (&[NAME, STATION], "sesame "),
            (&[NAME, elsewhere], "sesame"),
            (&[NAME], "sesame"),
            (&[NAME, attribute(31, b"")], "sesame"),
            (&[NAME, STATION, STATION], "sesame"),
            (&[attribute(1, b"Ann"), STATION], "sesame"),
            (&[NAME, STATION, attribute(5, &[0, 0, 0, 7])], "sesame"),
            (&[NAME, STATION, attribute(24, b"state")], "sesame"),
        ] {
            assert_ne!(alike(2, attributes, Some(password)).map(|other| other.digest), Some(first.digest));
        }
        let packet = octets(2, &[NAME, STATION], Some("sesame"));
        let of = |client, key| with(&packet, |request| LookAlike::of(request, client, key, false)).map(|it| it.digest);
        assert_eq!(of("vpn", &KEY), Some(first.digest));
        assert_ne!(of("wifi", &KEY), Some(first.digest));
        assert_ne!(of("vpn", &[8; 32]), Some(first.digest), "worth nothing without the key");
    }

    #[test]
    fn nothing_joins_without_what_tells_two_people_apart() {
        // D9, for every client; an empty Calling-Station-Id is none
        for attributes in [&[NAME][..], &[NAME, attribute(31, b"")]] {
            let other = alike(1, attributes, Some("sesame")).expect("comparable");
            assert!(!other.joins());
            assert_eq!(alike(2, attributes, Some("sesame")), Some(other), "but it is seen");
        }
        // The State of an open challenge of ours is such a thing; any other State is not.
        let answer = octets(1, &[NAME, attribute(24, b"state")], Some("912345"));
        for continues in [false, true] {
            let of = with(&answer, |request| LookAlike::of(request, "vpn", &KEY, continues));
            assert_eq!(of.map(|of| of.joins()), Some(continues));
        }
    }

    #[test]
    fn a_proof_that_belongs_to_its_packet_is_never_taken_for_another() {
        // R-34: CHAP without CHAP-Challenge; EAP before its State; no proof at all
        let chap = attribute(3, &[9; 17]);
        assert_eq!(alike(1, &[NAME, STATION, chap], None), None);
        assert!(alike(1, &[NAME, STATION, chap, attribute(60, &[5; 16])], None).is_some());
        let eap = attribute(79, &[2, 1, 0, 5, 1]);
        assert_eq!(alike(1, &[NAME, STATION, eap], None), None);
        assert!(alike(1, &[NAME, STATION, eap, attribute(24, b"state")], None).is_some());
        assert_eq!(alike(1, &[NAME, STATION], None), None);
        let response = |last| [&[0, 0, 1, 55, 25, 52][..], &[last; 50]].concat();
        let ms_chap = |number, last| alike(number, &[NAME, STATION, attribute(26, &response(last))], None);
        assert_eq!(ms_chap(1, 1), ms_chap(2, 1));
        assert_ne!(ms_chap(1, 1), ms_chap(2, 2));
    }

    #[test]
    fn an_answer_readdressed_is_the_same_answer_properly_signed() {
        // R-11, R-34, R-67
        let (to_first, to_second) = ([attribute(33, b"first")], [attribute(33, b"second"), attribute(33, b"third")]);
        let first = octets(1, &[[NAME, STATION].as_slice(), &to_first].concat(), Some("sesame"));
        let second = octets(2, &[[NAME, STATION].as_slice(), &to_second].concat(), Some("sesame"));
        let class = [attribute(25, b"vpn-users")];
        let challenge = Reply::Challenge {
            message: "code?",
            state: b"s",
            prompt: Some(Prompt::Echo),
            session_timeout_seconds: None,
        };
        for reply in [Reply::Accept { attributes: &class, message: "" }, Reply::Reject { message: "no" }, challenge] {
            let write = |octets: &[u8]| with(octets, |request| reply.write(request)).expect("it fits");
            let readdress = |reply: &[u8], octets: &[u8]| {
                with(octets, |request| readdressed(reply, request, &mut |_| Rewrite::Keep)).expect("a reply")
            };
            let answer = readdress(&write(&first), &second).expect("it fits");
            assert_eq!(answer, write(&second), "as if it had been answered by itself");
            assert_eq!(readdress(&answer, &first).as_ref(), Ok(&write(&first)));
            let packet = Packet::parse(&answer, Port::AuthenticationReplies).expect("well formed");
            let sent = crate::Sent::of(&second).expect("a packet");
            assert_eq!(verify_reply(&packet, &sent, &secret(), crate::Rule::Yes), Ok(()));
        }
        assert!(with(&second, |request| readdressed(&first, request, &mut |_| Rewrite::Keep)).is_none());
    }
}
