//! What a home server answered: proven to be its answer, and what of it may go on to the client (R-12, R-51, R-66, B-26).
//!
//! It owns its octets, because an Accept waits here for a person: nothing of it leaves before the second factor.

use crate::attribute::{Attribute, AttributeType};
use crate::authenticator::{Rule, Secret, Sent, verify_reply};
use crate::drop_reason::DropReason;
use crate::eap::{Eap, EapCode};
use crate::forward::Rewrite;
use crate::packet::{Code, Datagram, Packet, Port};
use crate::write::{AttributeOctets, WriteError};

/// A reply that only the home server can have made, and only to the request that was sent.
#[derive(Clone)]
pub struct HomeReply {
    octets: Box<[u8]>,
    port: Port,
    sent: Sent,
}

impl HomeReply {
    pub fn verify(reply: &Packet<'_>, sent: Sent, secret: &Secret, rule: Rule) -> Result<Self, DropReason> {
        verify_reply(reply, &sent, secret, rule)?;
        Ok(Self { octets: reply.octets().into(), port: reply.port(), sent })
    }

    pub fn packet(&self) -> Packet<'_> {
        Datagram::new(&self.octets)
            .and_then(|datagram| datagram.packet(self.port, usize::MAX))
            .expect("these octets were a packet when they came")
    }

    /// The request it answers: its authenticator also hid the attributes that are hidden.
    pub fn sent(&self) -> &Sent {
        &self.sent
    }

    /// Whether a server whose rule is still `auto` signs of its own accord, and has to from now on, where this reply tells. Beside
    /// EAP-Message the Message-Authenticator is mandatory (RFC 3579 section 3.2), so its presence there says nothing about other
    /// replies, and one to accounting nothing about those to logins.
    pub fn teaches(&self) -> Option<bool> {
        let packet = self.packet();
        let tells = packet.code() != Code::AccountingResponse && !packet.has(AttributeType::EAP_MESSAGE);
        tells.then(|| packet.has(AttributeType::MESSAGE_AUTHENTICATOR))
    }

    /// What it means. Where the Code and the EAP inside disagree, the answer is no (B-26, RFC 3579 section 2.6.3).
    pub fn verdict(&self) -> Verdict {
        let packet = self.packet();
        let eap = Eap::of(&packet);
        let says = |code| eap.is_none_or(|eap| eap.is(code));
        match packet.code() {
            Code::AccessAccept if says(EapCode::Success) => Verdict::Accept,
            Code::AccessChallenge if says(EapCode::Request) && packet.all(AttributeType::STATE).count() == 1 => {
                Verdict::Challenge
            }
            Code::AccessReject if says(EapCode::Failure) => Verdict::Reject,
            // By TLS, from a server that does no accounting: 406 (RFC 6614 section 2.5).
            Code::AccountingResponse if packet.has(AttributeType::ERROR_CAUSE) => Verdict::NotRecorded,
            Code::AccountingResponse => Verdict::Recorded,
            _ => Verdict::Contradiction,
        }
    }

    /// The Identifier of its EAP packet, for the EAP-Failure that takes its place.
    pub fn eap_identifier(&self) -> Option<u8> {
        Eap::of(&self.packet())?.identifier()
    }

    /// Who was let in, by the home server's word: the identity inside EAP. None where it says nothing, or something
    /// that is no name.
    pub fn user_name(&self) -> Option<String> {
        let packet = self.packet();
        let mut names = packet.all(AttributeType::USER_NAME);
        let name = std::str::from_utf8(names.next()?).ok()?;
        let one = names.next().is_none() && !name.is_empty() && !name.chars().any(char::is_control);
        one.then(|| name.to_owned())
    }

    /// The attributes for the client: in order, what is hidden rewritten, what the allow-list lacks dropped, without what
    /// belongs to this hop alone. State, Class and EAP-Message are not asked about: they are not ours to change.
    pub fn relayed(&self, rewrite: &mut dyn FnMut(Attribute<'_>) -> Rewrite) -> Result<Relayed, WriteError> {
        let packet = self.packet();
        let has_eap = packet.has(AttributeType::EAP_MESSAGE);
        let code = match self.verdict() {
            Verdict::Accept => Code::AccessAccept,
            Verdict::Challenge => Code::AccessChallenge,
            Verdict::Reject => Code::AccessReject,
            Verdict::Recorded => Code::AccountingResponse,
            Verdict::NotRecorded | Verdict::Contradiction => return Err(WriteError::Contradiction),
        };
        let mut octets = AttributeOctets::default();
        for attribute in packet.attributes() {
            match attribute.kind {
                // Ours came back; those of the client are put back from its request.
                AttributeType::MESSAGE_AUTHENTICATOR | AttributeType::PROXY_STATE => {}
                _ if !may_carry(code, &attribute) => {}
                AttributeType::REPLY_MESSAGE if has_eap => {}
                AttributeType::STATE | AttributeType::CLASS | AttributeType::EAP_MESSAGE => {
                    octets.push(attribute.kind, attribute.value)?
                }
                _ => octets.push_rewritten(attribute, rewrite(attribute))?,
            }
        }
        Ok(Relayed { code, has_eap, octets })
    }
}

/// What a home server's answer comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The first factor is right. Nothing more: the second one comes now.
    Accept,
    Challenge,
    Reject,
    /// An Accounting-Response.
    Recorded,
    /// An Accounting-Response that says by Error-Cause that nothing was recorded: not to be acknowledged.
    NotRecorded,
    /// Accept with EAP-Failure, Reject with EAP-Success, Challenge without a State and the like: to be answered with
    /// Access-Reject, and with EAP-Failure where the client speaks EAP.
    Contradiction,
}

/// What a reply of this Code may carry besides Proxy-State and Message-Authenticator: an Access-Reject by R-66, an
/// Accounting-Response by RFC 2866 section 5.13.
fn may_carry(code: Code, attribute: &Attribute<'_>) -> bool {
    match (code, attribute.kind) {
        (Code::AccessReject, AttributeType::VENDOR_SPECIFIC) => {
            attribute.vendor().is_some_and(|vendor| vendor.is_ms_chap_error())
        }
        (Code::AccessReject, kind) => {
            [AttributeType::REPLY_MESSAGE, AttributeType::EAP_MESSAGE, AttributeType::ERROR_CAUSE].contains(&kind)
        }
        (Code::AccountingResponse, kind) => kind == AttributeType::VENDOR_SPECIFIC,
        _ => true,
    }
}

/// A home server's answer in the client's terms. Sent by [`crate::Reply::Relay`].
#[derive(Clone)]
pub struct Relayed {
    code: Code,
    has_eap: bool,
    octets: AttributeOctets,
}

impl Relayed {
    pub fn code(&self) -> Code {
        self.code
    }

    pub(crate) fn has_eap(&self) -> bool {
        self.has_eap
    }

    pub(crate) fn attributes(&self) -> impl Iterator<Item = Attribute<'_>> {
        self.octets.walk()
    }
}

impl std::fmt::Debug for Relayed {
    /// Its attributes may be keys.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Relayed").field("code", &self.code).finish_non_exhaustive()
    }
}
