//! What a genuine request brings: a name with a password, or the answer to a challenge (A3, A5). Decided from the
//! packet alone; nobody has been asked anything yet, so nobody's account can be locked by it.

use crate::settings::Client;
use domain::settings::{Charset, PasswordProtocol, RefuseOrPass};
use domain::{Reason, Secret};
use radius_wire::eap::Eap;
use radius_wire::ms_chap::MsChap;
use radius_wire::{
    AccessRequest, AttributeType, Credentials, DropReason, HiddenPassword, KeyRing, PasswordError, State, Verified,
};

/// A request that can be worked on.
pub(crate) enum Presented {
    /// The first packet of a conversation.
    Password { name: String, password: Secret },
    /// A later one. The password is an answer and never goes to a directory.
    Answer { state: State, answer: Secret },
    /// What no directory can check, no credentials at all, or the answer to a question that is not ours: for a home server, as it came.
    Foreign { name: String, state: Option<Vec<u8>>, change: bool },
}

/// One that cannot.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not even answered: nothing proves who sent it.
    Silence(DropReason),
    Reject {
        reason: Reason,
        /// The conversation the packet belongs to. It dies with the Reject.
        conversation: Option<State>,
    },
}

/// Whose request it is, and what may become of it.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    pub(crate) client: &'a str,
    pub(crate) charset: Charset,
    pub(crate) takes: Takes,
    /// By which its passwords may come; empty = by all that the target can check.
    pub(crate) protocols: &'a [PasswordProtocol],
    /// Whether its device may ask without credentials, because it has checked the person itself (FR-21).
    pub(crate) without_credentials: bool,
}

/// What a target can be asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// A directory: it only checks passwords.
    Passwords,
    /// The Windows domain.
    MsChap2,
    /// A home server: what we cannot read, too.
    Everything,
}

impl<'a> Terms<'a> {
    pub(crate) fn of(client: &'a Client, takes: Takes) -> Self {
        let settings = &client.settings;
        let without_credentials = settings.without_credentials == RefuseOrPass::Pass;
        let protocols = &settings.password_protocols;
        Self { client: client.name(), charset: settings.charset, takes, protocols, without_credentials }
    }
}

impl Terms<'_> {
    /// No credentials at all are another matter (FR-21), and what cannot be read is refused later.
    fn takes_protocol(&self, request: &Verified<'_>, credentials: &Credentials<'_>) -> bool {
        let by = match credentials {
            Credentials::Pap(_) => PasswordProtocol::Pap,
            Credentials::Chap => PasswordProtocol::Chap,
            Credentials::MsChap if matches!(MsChap::read(request.packet()), Ok(MsChap::V1)) => PasswordProtocol::MsChap,
            Credentials::MsChap => PasswordProtocol::MsChap2,
            Credentials::Eap => PasswordProtocol::Eap,
            Credentials::Arap => PasswordProtocol::Arap,
            Credentials::Absent => return true,
        };
        self.protocols.is_empty() || self.protocols.contains(&by)
    }
}

/// `now_unix_seconds` decides whether a State has expired.
pub(crate) fn read(
    request: &Verified<'_>,
    terms: Terms<'_>,
    keys: &KeyRing,
    now_unix_seconds: u64,
) -> Result<Presented, Refusal> {
    let access = AccessRequest::read(request).map_err(|error| match error.drop_reason() {
        Some(reason) => Refusal::Silence(reason),
        None => reject(Reason::ProtocolUnsupported),
    })?;
    if !terms.takes_protocol(request, &access.credentials) {
        return Err(reject(Reason::ProtocolUnsupported));
    }
    let conversation = access.state.map(|sealed| {
        // Altered, another client's or user's, expired: all the same to whoever sent it, and none of ours to anybody else.
        keys.open(sealed, &state_context(terms.client, access.user_name), now_unix_seconds).map_err(|_| sealed)
    });
    match (access.credentials, conversation) {
        (Credentials::Pap(hidden), None) => {
            let password = password(hidden, terms.charset).map_err(reject)?;
            //
            if password.is_empty() {
                return Err(reject(Reason::EmptyPassword));
            }
            Ok(Presented::Password { name: access.user_name.to_owned(), password })
        }
        (Credentials::Pap(hidden), Some(Ok(state))) => {
            // What an empty answer means is the challenge's business: it is no password.
            let answer = password(hidden, terms.charset)
                .map_err(|reason| Refusal::Reject { reason, conversation: Some(state) })?;
            Ok(Presented::Answer { state, answer })
        }
        //
        (Credentials::Absent, _) if !terms.without_credentials => Err(reject(Reason::ProtocolUnsupported)),
        // A home server's question is answered to that server, if it has asked one. Noise is no answer there either.
        (credentials, Some(Err(state))) if terms.takes == Takes::Everything => {
            if let Credentials::Pap(hidden) = credentials {
                password(hidden, terms.charset).map_err(reject)?;
            }
            foreign(request, &access, Some(state))
        }
        (_, Some(Err(_))) => Err(reject(Reason::ChallengeGone)),
        (_, None) if terms.takes == Takes::Everything => foreign(request, &access, None),
        (Credentials::MsChap, None)
            if terms.takes == Takes::MsChap2 && matches!(MsChap::read(request.packet()), Ok(MsChap::V2(_))) =>
        {
            foreign(request, &access, None)
        }
        // The rest needs a target that knows the password. And a question of ours is answered by User-Password alone.
        _ => Err(reject(Reason::ProtocolUnsupported)),
    }
}

fn password(hidden: HiddenPassword<'_>, charset: Charset) -> Result<Secret, Reason> {
    let charset = match charset {
        Charset::Utf8 => radius_wire::Charset::Utf8,
        Charset::Latin1 => radius_wire::Charset::Latin1,
    };
    match hidden.reveal(charset) {
        Ok(password) => Ok(Secret::from(password.expose())),
        Err(PasswordError::Length) => Err(Reason::ProtocolUnsupported),
        Err(PasswordError::SecretMismatch) => Err(Reason::SecretMismatch),
    }
}

/// Of the right form, as far as we know forms (B-24, B-27); what it means is the home server's business.
fn foreign(request: &Verified<'_>, access: &AccessRequest<'_>, state: Option<&[u8]>) -> Result<Presented, Refusal> {
    let packet = request.packet();
    let mut change = false;
    match access.credentials {
        Credentials::Eap if Eap::of(packet) == Some(Eap::Malformed) => return Err(reject(Reason::ProtocolUnsupported)),
        Credentials::MsChap => match MsChap::read(packet) {
            Ok(MsChap::PasswordChange { .. }) => change = true,
            Ok(MsChap::V1 | MsChap::V2(_)) => {}
            Err(_) => return Err(reject(Reason::ProtocolUnsupported)),
        },
        Credentials::Pap(_) | Credentials::Chap | Credentials::Eap | Credentials::Arap | Credentials::Absent => {}
    }
    Ok(Presented::Foreign { name: access.user_name.to_owned(), state: state.map(<[u8]>::to_vec), change })
}

/// What a packet goes on with, as far as it shows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Continues {
    /// It begins.
    Nothing,
    /// A conversation of ours.
    Ours,
    /// One of a home server, as it says; whether that has asked, the State alone does not tell.
    Foreign { user_name: Vec<u8>, state: Vec<u8> },
}

/// Such packets are preferred when there is little room and taken by a node that takes nothing new.
pub(crate) fn continues(request: &Verified<'_>, terms: Terms<'_>, keys: &KeyRing, now_unix_seconds: u64) -> Continues {
    let Ok(AccessRequest { user_name, state: Some(sealed), .. }) = AccessRequest::read(request) else {
        return Continues::Nothing;
    };
    if keys.open(sealed, &state_context(terms.client, user_name), now_unix_seconds).is_ok() {
        return Continues::Ours;
    }
    match terms.takes {
        Takes::Everything => Continues::Foreign { user_name: user_name.as_bytes().to_vec(), state: sealed.to_vec() },
        Takes::Passwords | Takes::MsChap2 => Continues::Nothing,
    }
}

/// What a State is bound to beside itself: the client, and the name as it was typed, which a device repeats in every packet of
/// a conversation (RFC 2865 section 4.4). Neither can hold a NUL, so no two pairs read the same.
pub(crate) fn state_context(client: &str, user_name: &str) -> Vec<u8> {
    [client.as_bytes(), &[0], user_name.as_bytes()].concat()
}

/// Which kind of proof it was, and what to do about it, for the hint to the administrator; `None` for a password.
pub(crate) fn unsupported_kind(request: &Verified<'_>, terms: Terms<'_>) -> Option<(&'static str, &'static str)> {
    const UNLISTED: &str = "the device sends a kind of credentials that password_protocols does not list";
    const OTHER: &str = "the device sends a kind of credentials that a directory cannot check; set it to PAP";
    const NONE: &str = "the device sends no credentials; if it checks people itself, give its client a RADIUS target and \
                        without_credentials = \"pass\"";
    let credentials = AccessRequest::read(request).ok()?.credentials;
    let listed = terms.takes_protocol(request, &credentials);
    let advice = if listed { OTHER } else { UNLISTED };
    match credentials {
        Credentials::Pap(_) if listed => None,
        Credentials::Pap(_) => Some(("PAP", advice)),
        Credentials::Chap => Some(("CHAP", advice)),
        Credentials::MsChap => Some(("MS-CHAP", advice)),
        Credentials::Eap => Some(("EAP", advice)),
        Credentials::Arap => Some(("ARAP", advice)),
        Credentials::Absent => Some(("none", NONE)),
    }
}

/// The name as it stands in the packet, whatever it is.
pub(crate) fn typed_name<'a>(request: &Verified<'a>) -> &'a [u8] {
    request.packet().first(AttributeType::USER_NAME).unwrap_or_default()
}

fn reject(reason: Reason) -> Refusal {
    Refusal::Reject { reason, conversation: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use radius_wire::{
        Attribute, Packet, Port, Request, RequestCode, Rule, Rules, Secret as Shared, verify_request, write_unsigned,
    };

    const NOW: u64 = 1_790_000_000;
    const STATE: State = State { transaction: [1; 16], user: [2; 16], step: 1, expires_unix_seconds: NOW + 120 };

    fn shared() -> Shared {
        Shared::new("a secret of the device").expect("not empty")
    }

    fn keys() -> KeyRing {
        KeyRing::new(1, &[7; 32])
    }

    fn attribute(kind: AttributeType, value: &[u8]) -> Attribute<'_> {
        Attribute { kind, value }
    }

    fn octets(attributes: &[Attribute<'_>], password: Option<&str>, secret: &Shared) -> Vec<u8> {
        let code = RequestCode::AccessRequest;
        Request { code, identifier: 1, authenticator: [5; 16], attributes, password }.write(secret).expect("it fits")
    }

    fn presented(octets: &[u8]) -> Result<Presented, Refusal> {
        presented_to(Takes::Passwords, octets)
    }

    fn presented_to(takes: Takes, octets: &[u8]) -> Result<Presented, Refusal> {
        presented_by(takes, &[], octets)
    }

    fn presented_by(takes: Takes, protocols: &[PasswordProtocol], octets: &[u8]) -> Result<Presented, Refusal> {
        let rules = Rules { message_authenticator: Rule::No, limit_proxy_state: Rule::Auto };
        let shared = shared();
        let packet = Packet::parse(octets, Port::Authentication).expect("well formed");
        let request = verify_request(packet, (&shared).into(), rules).expect("genuine");
        let terms = Terms { client: "vpn", charset: Charset::Utf8, takes, protocols, without_credentials: false };
        read(&request, terms, &keys(), NOW)
    }

    fn refused(octets: &[u8]) -> Refusal {
        presented(octets).err().expect("refused")
    }

    #[test]
    fn a_password_and_an_answer_are_told_apart_by_the_state() {
        let name = attribute(AttributeType::USER_NAME, b"ann");
        let Ok(Presented::Password { name: typed, password }) = presented(&octets(&[name], Some("sesame"), &shared()))
        else {
            panic!("a password")
        };
        assert_eq!((typed.as_str(), password.expose()), ("ann", b"sesame".as_slice()));
        let sealed = keys().seal(&STATE, &state_context("vpn", "ann"), [3; 12]);
        let state = attribute(AttributeType::STATE, &sealed);
        let Ok(Presented::Answer { state, answer }) = presented(&octets(&[name, state], Some("912345"), &shared()))
        else {
            panic!("an answer")
        };
        assert_eq!((state, answer.expose()), (STATE, b"912345".as_slice()));
    }

    #[test]
    fn a_state_of_another_client_user_or_time_or_with_any_bit_changed_is_refused() {
        // R-42, B-23
        let name = attribute(AttributeType::USER_NAME, b"ann");
        let gone = Refusal::Reject { reason: Reason::ChallengeGone, conversation: None };
        let mut states =
            vec![vec![1], vec![9; 253], keys().seal(&STATE, &state_context("wifi", "ann"), [3; 12]).to_vec()];
        states.push(keys().seal(&STATE, &state_context("vpn", "bob"), [3; 12]).to_vec());
        states.push(
            keys().seal(&State { expires_unix_seconds: NOW, ..STATE }, &state_context("vpn", "ann"), [3; 12]).to_vec(),
        );
        states.push(KeyRing::new(1, &[8; 32]).seal(&STATE, &state_context("vpn", "ann"), [3; 12]).to_vec());
        let sealed = keys().seal(&STATE, &state_context("vpn", "ann"), [3; 12]).to_vec();
        states.push(sealed[..sealed.len() - 1].to_vec());
        for bit in 0..sealed.len() * 8 {
            let mut altered = sealed.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            states.push(altered);
        }
        for state in states {
            let state = attribute(AttributeType::STATE, &state);
            assert_eq!(refused(&octets(&[name, state], Some("912345"), &shared())), gone);
        }
        let state = attribute(AttributeType::STATE, &sealed);
        let two = octets(&[name, state, state], Some("912345"), &shared());
        assert_eq!(refused(&two), reject(Reason::ProtocolUnsupported));
    }

    #[test]
    fn what_carries_no_readable_password_is_refused_from_the_packet_alone() {
        // B-18 to B-23
        let name = attribute(AttributeType::USER_NAME, b"ann");
        let unsupported = reject(Reason::ProtocolUnsupported);
        assert_eq!(refused(&octets(&[name], Some(""), &shared())), reject(Reason::EmptyPassword));
        let chap = attribute(AttributeType::CHAP_PASSWORD, &[1; 17]);
        let eap = attribute(AttributeType::EAP_MESSAGE, &[2, 1, 0, 5, 1]);
        let ms_chap = [0, 0, 1, 55, 25, 52].into_iter().chain([0; 50]).collect::<Vec<u8>>();
        let ms_chap = attribute(AttributeType::VENDOR_SPECIFIC, &ms_chap);
        for kind in [chap, eap, ms_chap] {
            assert_eq!(refused(&octets(&[name, kind], None, &shared())), unsupported);
            assert_eq!(refused(&octets(&[name, kind], Some("sesame"), &shared())), unsupported);
        }
        assert_eq!(refused(&octets(&[name], None, &shared())), unsupported);
        assert_eq!(refused(&octets(&[], Some("sesame"), &shared())), unsupported);
        for bad in [b"".as_slice(), b"a\0nn", b"ann\r\n", b"\x1b[2Jann", b"\xff"] {
            assert_eq!(
                refused(&octets(&[attribute(AttributeType::USER_NAME, bad)], Some("sesame"), &shared())),
                unsupported
            );
        }
        // Neither credentials nor a signature: silence.
        let unsigned = write_unsigned(1, 1, &[5; 16], [name]).expect("it fits");
        assert_eq!(refused(&unsigned), Refusal::Silence(DropReason::MaMissing));
        for length in [1, 15, 17, 129, 253] {
            let hidden = vec![9; length];
            let password = attribute(AttributeType::USER_PASSWORD, &hidden);
            let unsigned = write_unsigned(1, 1, &[5; 16], [name, password]).expect("it fits");
            assert_eq!(refused(&unsigned), unsupported, "{length} octets");
        }
    }

    #[test]
    fn only_by_the_protocols_that_are_listed_may_a_password_come() {
        //
        use PasswordProtocol::{Chap, Eap, MsChap, MsChap2, Pap};
        let name = attribute(AttributeType::USER_NAME, b"ann");
        let microsoft = |kind: u8, value: &[u8]| {
            let length = u8::try_from(value.len() + 2).expect("short");
            [&[0, 0, 1, 55, kind, length][..], value].concat()
        };
        let with = |kind: AttributeType, value: &[u8]| octets(&[name, attribute(kind, value)], None, &shared());
        let ms_chap = |kind: u8, response: &[u8], challenge: &[u8]| {
            let (response, challenge) = (microsoft(kind, response), microsoft(11, challenge));
            let of = |value| attribute(AttributeType::VENDOR_SPECIFIC, value);
            octets(&[name, of(&response), of(&challenge)], None, &shared())
        };
        let requests = [
            (Pap, octets(&[name], Some("sesame"), &shared())),
            (Chap, with(AttributeType::CHAP_PASSWORD, &[1; 17])),
            (Eap, with(AttributeType::EAP_MESSAGE, &[2, 1, 0, 5, 1])),
            (MsChap, ms_chap(1, &[0; 50], &[0; 8])),
            (MsChap2, ms_chap(25, &[0; 50], &[0; 16])),
        ];
        for (by, octets) in &requests {
            for (listed, _) in &requests {
                let came = presented_by(Takes::Everything, &[*listed], octets).err();
                let expected = (by != listed).then(|| reject(Reason::ProtocolUnsupported));
                assert_eq!(came, expected, "{by:?} where {listed:?} is listed");
            }
            assert!(presented_to(Takes::Everything, octets).is_ok(), "{by:?} where nothing is listed");
        }
    }

    #[test]
    fn noise_from_a_wrong_shared_secret_is_recognised_and_kills_the_conversation_it_names() {
        // B-20: 200 authenticators, because one in many might decrypt to text by chance. 48 octets hardly ever do.
        let name = attribute(AttributeType::USER_NAME, b"ann");
        let wrong = Shared::new("another secret").expect("not empty");
        // A home server's State in it changes nothing: its server would count the noise against the account.
        let state = attribute(AttributeType::STATE, b"of a home server");
        let answer = octets(&[name, state], Some("912345"), &shared());
        assert!(matches!(presented_to(Takes::Everything, &answer), Ok(Presented::Foreign { .. })));
        let kinds = [&[name][..], &[name, state]];
        for (authenticator, attributes) in (0..200).flat_map(|it| kinds.map(|attributes| (it, attributes))) {
            let request = Request {
                code: RequestCode::AccessRequest,
                identifier: 1,
                authenticator: [authenticator; 16],
                attributes,
                password: Some("a password of more than thirty-two octets"),
            };
            let signed = request.write(&wrong).expect("it fits");
            // Without its Message-Authenticator, which would have given it away: 18 octets behind the header.
            let mut unsigned = [&signed[..20], &signed[38..]].concat();
            let length = unsigned.len() as u16;
            unsigned[2..4].copy_from_slice(&length.to_be_bytes());
            let refused = presented_to(Takes::Everything, &unsigned).err();
            assert_eq!(refused, Some(reject(Reason::SecretMismatch)), "{} attributes", attributes.len());
        }
    }
}
