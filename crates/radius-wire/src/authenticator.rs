//! Is the packet genuine: steps 9 to 11 of A1, and the check of replies.
//!
//! What comes out is a [`Verified`] request; the modules behind it take nothing else, so an unverified packet cannot
//! reach the duplicate cache, a password or a reply.

use crate::attribute::{AttributeType, Walk};
use crate::drop_reason::DropReason;
use crate::hidden::HidingKey;
use crate::packet::{Code, HEADER_OCTETS, Packet};
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Steps 9, 10 and 11 for a request. Costs at most two HMACs, whatever the packet says.
pub fn verify_request<'a>(packet: Packet<'a>, secrets: Secrets<'a>, rules: Rules) -> Result<Verified<'a>, DropReason> {
    let signed = packet.has(AttributeType::MESSAGE_AUTHENTICATOR);
    if !signed && request_must_be_signed(&packet, rules) {
        return Err(DropReason::MaMissing);
    }
    if !signed
        && packet.code() == Code::AccessRequest
        && rules.limits_proxy_state()
        && packet.has(AttributeType::PROXY_STATE)
    {
        return Err(DropReason::Blast);
    }
    let by_current = check_request(&packet, secrets.current);
    let Err(reason) = by_current else {
        return Ok(Verified { packet, secret: secrets.current, signed });
    };
    // The old secret of a rotation counts only where the packet proves that it was used. Without a proof the
    // check above has passed already.
    match secrets.previous {
        Some(previous) if check_request(&packet, previous).is_ok() => Ok(Verified { packet, secret: previous, signed }),
        _ => Err(reason),
    }
}

/// A reply to what we sent: is it from the holder of the secret, and for that very request? The Message-Authenticator is
/// checked before the Response Authenticator is trusted, and both must match.
pub fn verify_reply(reply: &Packet<'_>, sent: &Sent, secret: &Secret, rule: Rule) -> Result<(), DropReason> {
    let signed = reply.has(AttributeType::MESSAGE_AUTHENTICATOR);
    // Accounting-Response need not carry one.
    let by_rule = rule == Rule::Yes && reply.code() != Code::AccountingResponse;
    if !signed && (by_rule || reply.has(AttributeType::EAP_MESSAGE)) {
        return Err(DropReason::MaMissing);
    }
    let signed_for = |authenticator| message_authenticator_matches(reply, authenticator, secret);
    // FreeRADIUS signs an Accounting-Response as if the request had no authenticator. No RFC says how, and the Response
    // Authenticator below proves whose it is either way.
    let signed_for_none = || reply.code() == Code::AccountingResponse && signed_for(&[0; 16]);
    if signed && !signed_for(&sent.authenticator) && !signed_for_none() {
        return Err(DropReason::MaBad);
    }
    let expected = digest(reply.start(), &sent.authenticator, &[reply.attribute_octets()], secret);
    if reply.identifier() != sent.identifier || !same(&expected, reply.authenticator()) {
        return Err(DropReason::RaBad);
    }
    Ok(())
}

/// A request whose sender knows the secret, as far as the packet can prove it.
#[derive(Clone, Copy)]
pub struct Verified<'a> {
    packet: Packet<'a>,
    secret: &'a Secret,
    signed: bool,
}

impl<'a> Verified<'a> {
    pub fn packet(&self) -> &Packet<'a> {
        &self.packet
    }

    /// Whether a Message-Authenticator proved it. Without one an Access-Request proves nothing until its password is
    /// accepted by the target.
    pub fn signed(&self) -> bool {
        self.signed
    }

    /// Whether it was this secret that proved the packet: tells which one of a rotation is in use.
    pub fn proved_by(&self, secret: &Secret) -> bool {
        std::ptr::eq(self.secret, secret)
    }

    /// The secret the sender used. It also signs the reply and hides the password.
    pub(crate) fn secret(&self) -> &'a Secret {
        self.secret
    }

    /// What hides values in this request and in its replies.
    pub fn hiding_key(&self) -> HidingKey<'a> {
        HidingKey { secret: self.secret, authenticator: self.packet.authenticator() }
    }

    /// What a client whose rule is still `auto` teaches by this packet.
    pub fn lesson(&self) -> Lesson {
        let optional = self.packet.code() == Code::AccessRequest && !self.packet.has(AttributeType::EAP_MESSAGE);
        match (optional, self.signed) {
            (true, true) => Lesson::Yes,
            (true, false) => Lesson::NoOnceThePasswordIsAccepted,
            (false, _) => Lesson::Nothing,
        }
    }
}

/// What `message_authenticator = auto` becomes after a valid packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lesson {
    /// The client sends it of its own accord: required from now on.
    Yes,
    /// It was mandatory in this packet, so its presence says nothing about others.
    Nothing,
    /// `no`, with a warning, and only when the target accepted the password: anybody can forge a packet without one.
    NoOnceThePasswordIsAccepted,
}

/// The two settings of a client against BlastRADIUS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    pub message_authenticator: Rule,
    pub limit_proxy_state: Rule,
}

impl Default for Rules {
    fn default() -> Self {
        Self { message_authenticator: Rule::Yes, limit_proxy_state: Rule::Auto }
    }
}

impl Rules {
    /// `auto` limits too: an unsigned packet is exactly what cannot be believed when it says that it needs no limit.
    fn limits_proxy_state(self) -> bool {
        self.message_authenticator != Rule::Yes && self.limit_proxy_state != Rule::No
    }
}

/// A setting of. `Auto` means still undecided; what was learned is `Yes` or `No`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    Yes,
    Auto,
    No,
}

/// A shared secret: 1 octet or more, zeroed on drop, never printed.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// None for an empty secret, with which everybody could sign (RFC 2865 section 3).
    pub fn new(octets: impl Into<Vec<u8>>) -> Option<Self> {
        let octets = Zeroizing::new(octets.into());
        (!octets.is_empty()).then_some(Self(octets))
    }

    /// The one of every RADIUS/TLS connection: there the certificates prove who speaks (RFC 6614 section 2.3).
    pub fn radsec() -> Self {
        Self(Zeroizing::new(b"radsec".to_vec()))
    }

    pub(crate) fn octets(&self) -> &[u8] {
        &self.0
    }
}

/// A client's secret, and its former one while it is being rotated.
#[derive(Clone, Copy)]
pub struct Secrets<'a> {
    pub current: &'a Secret,
    pub previous: Option<&'a Secret>,
}

impl<'a> From<&'a Secret> for Secrets<'a> {
    fn from(current: &'a Secret) -> Self {
        Self { current, previous: None }
    }
}

/// What a reply is checked against: the request it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    pub identifier: u8,
    pub authenticator: [u8; 16],
}

impl Sent {
    /// Of the octets that were sent. None for what is no packet.
    pub fn of(request: &[u8]) -> Option<Self> {
        let [_, identifier, _, _, authenticator @ ..] = request.first_chunk::<HEADER_OCTETS>()?;
        Some(Self { identifier: *identifier, authenticator: *authenticator })
    }
}

/// Step 9: the client's rule is about Access-Request; EAP and Status-Server leave no choice.
fn request_must_be_signed(packet: &Packet<'_>, rules: Rules) -> bool {
    match packet.code() {
        Code::StatusServer => true, // RFC 5997 section 3
        Code::AccessRequest if rules.message_authenticator == Rule::Yes => true,
        _ => packet.has(AttributeType::EAP_MESSAGE), // RFC 3579 section 3.1
    }
}

/// Step 11.
fn check_request(packet: &Packet<'_>, secret: &Secret) -> Result<(), DropReason> {
    const ZERO: [u8; 16] = [0; 16];
    // The authenticator of an Accounting-Request is a digest itself, made last: both are computed over zeros there.
    let accounting = packet.code() == Code::AccountingRequest;
    let authenticator = if accounting { &ZERO } else { packet.authenticator() };
    if packet.has(AttributeType::MESSAGE_AUTHENTICATOR) && !message_authenticator_matches(packet, authenticator, secret)
    {
        return Err(DropReason::MaBad);
    }
    // RFC 2866 section 3
    if accounting && !same(&digest(packet.start(), &ZERO, &[packet.attribute_octets()], secret), packet.authenticator())
    {
        return Err(DropReason::RaBad);
    }
    Ok(())
}

fn message_authenticator_matches(packet: &Packet<'_>, authenticator: &[u8; 16], secret: &Secret) -> bool {
    let Some(received) = packet.first(AttributeType::MESSAGE_AUTHENTICATOR) else { return false };
    let mut mac = message_mac(packet.start(), authenticator, secret);
    for attribute in Walk::over(packet.attribute_octets()) {
        let Ok(attribute) = attribute else { return false }; // this walk trusts no earlier one
        let length = attribute.value.len() as u8 + 2; // the length came from one octet
        mac.update(&[attribute.kind.0, length]);
        match attribute.kind {
            AttributeType::MESSAGE_AUTHENTICATOR => mac.update(&[0; 16]),
            _ => mac.update(attribute.value),
        }
    }
    same(&mac.finalize().into_bytes().into(), received)
}

/// HMAC-MD5 over the packet, begun with its header (RFC 3579 section 3.2).
pub(crate) fn message_mac(start: [u8; 4], authenticator: &[u8; 16], secret: &Secret) -> Hmac<Md5> {
    let mut mac = Hmac::<Md5>::new_from_slice(secret.octets()).expect("HMAC takes a key of any length");
    mac.update(&start);
    mac.update(authenticator);
    mac
}

/// MD5 over header, authenticator, attributes and secret (RFC 2865 section 3, RFC 2866 section 3).
pub(crate) fn digest(start: [u8; 4], authenticator: &[u8; 16], attributes: &[&[u8]], secret: &Secret) -> [u8; 16] {
    let mut md5 = Md5::new();
    md5.update(start);
    md5.update(authenticator);
    attributes.iter().for_each(|octets| md5.update(octets));
    md5.update(secret.octets());
    md5.finalize().into()
}

fn same(expected: &[u8; 16], received: &[u8]) -> bool {
    expected.as_slice().ct_eq(received).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Port;
    use crate::{Attribute, write_unsigned};

    fn access_request(attributes: &[Attribute<'_>], secret: &Secret, signed: bool) -> Vec<u8> {
        if signed {
            let code = crate::RequestCode::AccessRequest;
            return crate::Request { code, identifier: 1, authenticator: [5; 16], attributes, password: None }
                .write(secret)
                .expect("it fits");
        }
        write_unsigned(1, 1, &[5; 16], attributes.iter().copied()).expect("it fits")
    }

    #[test]
    fn auto_learns_only_from_what_the_client_was_free_to_leave_out() {
        // signed without EAP: yes. EAP: stays auto. Unsigned: no, and only after the password was accepted.
        let secret = Secret::new("xyzzy5461").expect("not empty");
        let rules = Rules { message_authenticator: Rule::Auto, limit_proxy_state: Rule::Auto };
        let name = Attribute { kind: AttributeType::USER_NAME, value: b"nemo" };
        let eap = Attribute { kind: AttributeType::EAP_MESSAGE, value: &[2, 1, 0, 5, 1] };
        let lesson = |attributes: &[Attribute<'_>], signed| {
            let octets = access_request(attributes, &secret, signed);
            let packet = Packet::parse(&octets, Port::Authentication).expect("well formed");
            verify_request(packet, (&secret).into(), rules).map(|verified| verified.lesson())
        };
        assert_eq!(lesson(&[name], true), Ok(Lesson::Yes));
        assert_eq!(lesson(&[name, eap], true), Ok(Lesson::Nothing));
        assert_eq!(lesson(&[name], false), Ok(Lesson::NoOnceThePasswordIsAccepted));
        assert_eq!(lesson(&[name, eap], false), Err(DropReason::MaMissing));
    }

    #[test]
    fn every_bit_of_a_signed_request_is_covered_by_its_signature() {
        // RFC 3579 section 3.2. Whatever bit changes, the packet is dropped, for whichever reason.
        let secret = Secret::new("xyzzy5461").expect("not empty");
        let octets = access_request(&[Attribute { kind: AttributeType::USER_NAME, value: b"nemo" }], &secret, true);
        for bit in 0..octets.len() * 8 {
            let mut changed = octets.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let verdict = Packet::parse(&changed, Port::Authentication)
                .and_then(|packet| verify_request(packet, (&secret).into(), Rules::default()));
            assert!(verdict.is_err(), "bit {bit}");
        }
    }

    #[test]
    fn an_empty_secret_is_none() {
        assert!(Secret::new("").is_none()); // RFC 2865 section 3
    }
}
