//! What passes through to a home server and back (A6): the request as it came, with what is hidden hidden anew, and the answer read
//! for its verdict alone.

use crate::Gateway;
use crate::affinity::Parked;
use crate::attempt::{Attempt, First};
use crate::attributes;
use crate::home::{Envelope, HomeServer, HomeTarget};
use crate::reply::No;
use domain::{ObjectName, Reason};
use radius_wire::ms_chap::{self, FailureCode};
use radius_wire::{
    Attribute, AttributeType, Dictionary, HidingKey, Packet, Rehide, Relayed, Rewrite, Vendor, Verdict, Verified,
};
use std::time::Duration;

/// What a home server said that is no No.
pub(crate) enum Said {
    /// The first lock is open. Its Accept waits in the attempt.
    Accepted,
    /// It asks on: for the device, not for us.
    Asked(Relayed),
}

/// What a server's answer comes to. What a No is written with, and the Accept that waits, stand in the attempt then.
pub(crate) async fn read(
    gateway: &Gateway,
    answer: Parked,
    server: &HomeServer,
    request: &Verified<'_>,
    attempt: &mut Attempt,
) -> Result<Said, Reason> {
    let client = attempt.client.clone();
    let relayed = |reply| attributes::relayed(&gateway.settings.dictionary(), reply, server, &client, request);
    match answer.reply.verdict() {
        Verdict::Accept => {
            // Before anything is waited for: whoever drops the login finds it there (V-52).
            park(attempt, answer.clone());
            let packet = answer.reply.packet();
            // A password that comes back with it is a login of its own: it is counted, and split from its code, like any other.
            let is_password = request.packet().has(AttributeType::USER_PASSWORD);
            if let Some(state) = packet.first(AttributeType::STATE).filter(|_| !is_password) {
                // It comes back when the device lets the person prove themselves once more (Termination-Action).
                let name = request.packet().first(AttributeType::USER_NAME).unwrap_or_default();
                let session = session(&packet);
                gateway.affinity.let_in(&client.settings.name, name, state, &answer.place, session).await;
            }
            Ok(Said::Accepted)
        }
        Verdict::Challenge => {
            let packet = answer.reply.packet();
            if let Some(state) = packet.first(AttributeType::STATE) {
                let name = request.packet().first(AttributeType::USER_NAME).unwrap_or_default();
                gateway.affinity.asked(&client.settings.name, name, state, &answer.place).await;
            }
            relayed(&answer.reply).map(Said::Asked).map_err(|error| {
                tracing::error!(service = crate::NAME, client = client.name(), server = answer.place, error = %error, "a home server's challenge cannot be passed on");
                Reason::TargetError
            })
        }
        Verdict::Reject => {
            let reason = refusal(&answer.reply.packet());
            if reason == Reason::PasswordExpired {
                gateway.affinity.password_expired(&client.settings.name, &attempt.typed).await;
            }
            // Whoever speaks EAP is told in EAP, also where the server forgot it (RFC 3579 section 2.6.3).
            let says_eap = answer.reply.packet().has(AttributeType::EAP_MESSAGE);
            if (says_eap || !request.packet().has(AttributeType::EAP_MESSAGE))
                && let Ok(relayed) = relayed(&answer.reply)
            {
                attempt.no = No::Relayed(relayed.into());
            }
            Err(reason)
        }
        Verdict::Contradiction | Verdict::Recorded | Verdict::NotRecorded => {
            tracing::warn!(
                service = crate::NAME,
                client = client.name(),
                server = answer.place,
                "a home server's answer contradicts itself"
            );
            Err(Reason::TargetError)
        }
    }
}

/// An Accept waits for the second factor. What a No is written with goes by it.
fn park(attempt: &mut Attempt, accept: Parked) {
    if let Some(identifier) = accept.reply.eap_identifier() {
        attempt.no = No::Eap { identifier };
    }
    attempt.parked = Some(accept.into());
}

/// Goes on with what the node was granted that is gone: a server takes an answer of EAP, or a code of its own, once only.
pub(crate) async fn go_on(gateway: &Gateway, attempt: &mut Attempt) {
    let Some(home) = gateway.settings.home_target(&attempt.client.settings.target) else { return };
    let Some(accept) = gateway.affinity.parked(attempt.transaction, &attempt.whose(), &home).await else { return };
    attempt.first = Some(First { via: Some(accept.place.as_str().into()), refused: None, took: Duration::ZERO });
    park(attempt, accept);
}

/// For how long somebody is let in, as far as the server says (RFC 2865 section 5.27).
fn session(packet: &Packet<'_>) -> Duration {
    let limit = packet.attributes().find(|attribute| attribute.kind == AttributeType::SESSION_TIMEOUT);
    Duration::from_secs(limit.and_then(|limit| limit.integer()).unwrap_or_default().into())
}

/// Why it said no, as far as it tells (RFC 2759 section 6).
fn refusal(packet: &Packet<'_>) -> Reason {
    let microsoft = |attribute: Attribute<'_>| {
        let vendor = attribute.vendor().filter(|vendor| vendor.id == Vendor::MICROSOFT)?;
        vendor.attributes().find(|(kind, _)| *kind == Vendor::MS_CHAP_ERROR).map(|(_, value)| value.to_vec())
    };
    let error = packet.attributes().find_map(microsoft);
    match error.as_deref().and_then(ms_chap::Failure::read).map(|failure| failure.code) {
        Some(FailureCode::PasswordExpired) => Reason::PasswordExpired,
        Some(FailureCode::AccountDisabled) => Reason::AccountDisabled,
        Some(FailureCode::RestrictedLogonHours | FailureCode::NoDialinPermission) => Reason::LogonRestricted,
        _ => Reason::BadPassword,
    }
}

/// Whom a home server let in.
pub(crate) struct Identity {
    pub(crate) name: String,
    /// It is, or may be, no more than the outer name of EAP.
    pub(crate) outer: bool,
}

/// Who was let in. The outer name of EAP is whatever its sender likes, so there only the server's word counts.
pub(crate) fn identity(
    gateway: &Gateway,
    target: &HomeTarget,
    parked: &Parked,
    request: &Packet<'_>,
    typed: &str,
) -> Result<Identity, Reason> {
    let attribute = target.settings.identity_attribute.as_str();
    let named = attributes::named(&gateway.settings.dictionary(), &parked.reply, attribute);
    let in_eap = request.has(AttributeType::EAP_MESSAGE);
    match named {
        // FreeRADIUS says the outer name unless it is told to say the inner one. Seen here it is harmless; with a real name outside
        // it would be whoever the sender likes.
        Some(named) if in_eap && is_anonymous(&named) => {
            tracing::error!(
                service = crate::NAME,
                target = target.settings.name.as_str(),
                server = parked.place,
                "the home server returns the outer name of EAP, which anybody chooses: let it return the name that logged in inside"
            );
            return Err(Reason::TargetError);
        }
        Some(name) => {
            let by_itself = attribute.eq_ignore_ascii_case("User-Name") && account(&name) == account(typed);
            return Ok(Identity { name, outer: in_eap && by_itself });
        }
        None if !in_eap => return Ok(Identity { name: typed.to_owned(), outer: false }),
        None => {}
    }
    if target.settings.danger_trust_outer_identity && !is_anonymous(typed) {
        return Ok(Identity { name: typed.to_owned(), outer: true });
    }
    tracing::warn!(
        service = crate::NAME,
        target = target.settings.name.as_str(),
        server = parked.place,
        attribute,
        "the home server does not say who logged in inside EAP: let it return that name in its Access-Accept"
    );
    Err(Reason::TargetError)
}

/// A name without its domain, which a server may cut off before it returns the name.
fn account(name: &str) -> String {
    let user = name.rsplit_once(['\\', '/']).map_or(name, |(_, user)| user);
    user.split_once('@').map_or(user, |(user, _)| user).to_ascii_lowercase()
}

/// RFC 7542 section 2.4, and what supplicants send by habit.
fn is_anonymous(name: &str) -> bool {
    let user = name.split_once('@').map_or(name, |(user, _)| user);
    user.is_empty() || user.to_ascii_lowercase().starts_with("anonymous")
}

/// The hook of a request on its way out. What cannot be hidden anew is left out: a request hides nothing that its server needs, apart
/// from the password, which has its own way.
pub(crate) fn hidden_anew<'a>(
    dictionary: &'a Dictionary,
    request: &'a Verified<'_>,
    envelope: &'a Envelope<'_>,
) -> impl FnMut(Attribute<'_>) -> Rewrite + 'a {
    let to = HidingKey { secret: envelope.secret, authenticator: &envelope.authenticator };
    let mut rehide = Rehide::new(dictionary, request.hiding_key(), to, attributes::salts());
    move |attribute| {
        attributes::hidden(&mut rehide, attribute).unwrap_or_else(|error| {
            tracing::warn!(service = crate::NAME, error = %error, "a hidden attribute is left out of a request");
            Rewrite::Drop
        })
    }
}

/// Which of a target's servers a request goes on with: that of its State, if it was given to this name at this client.
/// A server may go by the State alone, and we by the name: whoever changed it between would be somebody else to us.
pub(crate) async fn bound_to(
    gateway: &Gateway,
    client: &ObjectName,
    state: &[u8],
    user_name: &str,
) -> Result<String, Reason> {
    gateway.affinity.asker(client, user_name.as_bytes(), state).await.ok_or(Reason::ChallengeGone)
}
