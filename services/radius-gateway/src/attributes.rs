//! The attributes of an answer: the target's, as far as the client's list lets them through, and those of the user's groups (FR-17,
//! FB-06, R-65 to R-69).

use crate::home::HomeServer;
use crate::settings::Client;
use radius_wire::{
    Attribute, AttributeType, Code, Dictionary, HidingKey, HomeReply, Rehide, RehideError, Relayed, Rewrite, Salts,
    Vendor, Verified, WriteError, ms_chap,
};

/// Random, and new for each packet.
pub(crate) fn salts() -> Salts {
    Salts::new(u16::from_ne_bytes(crate::random()))
}

/// What a home server says cannot be said to the client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Of an Access-Accept nothing is left out in silence (FR-17): it could be the key without which there is no connection.
    #[error(transparent)]
    Hidden(#[from] RehideError),
}

/// A home server's answer in the client's terms.
pub(crate) fn relayed(
    dictionary: &Dictionary,
    reply: &HomeReply,
    server: &HomeServer,
    client: &Client,
    request: &Verified<'_>,
) -> Result<Relayed, RelayError> {
    let from = HidingKey { secret: &server.secret, authenticator: &reply.sent().authenticator };
    let mut rehide = Rehide::new(dictionary, from, request.hiding_key(), salts());
    let accepts = reply.packet().code() == Code::AccessAccept;
    let mut lost = None;
    let relayed = reply.relayed(&mut |attribute| {
        // A Rehide has to see every attribute, so that it knows what goes on.
        let hidden = hidden(&mut rehide, attribute);
        if accepts && !passes(dictionary, &attribute, &client.settings.target_attributes) {
            return Rewrite::Drop;
        }
        hidden.unwrap_or_else(|error| {
            lost = Some(error);
            Rewrite::Drop
        })
    })?;
    match lost {
        Some(error) if accepts => Err(error.into()),
        _ => Ok(relayed),
    }
}

/// An attribute as the next hop can read it. What cannot be hidden anew would be noise there.
pub(crate) fn hidden(rehide: &mut Rehide<'_>, attribute: Attribute<'_>) -> Result<Rewrite, RehideError> {
    rehide.value(attribute).map(|value| match value {
        std::borrow::Cow::Borrowed(_) => Rewrite::Keep,
        std::borrow::Cow::Owned(value) => Rewrite::Value(value),
    })
}

/// Whether the client's list lets an attribute of the target through.
fn passes(dictionary: &Dictionary, attribute: &Attribute<'_>, list: &[String]) -> bool {
    if gives_administration(attribute) {
        return false;
    }
    if list.iter().any(|name| name == "*") || belongs_to_the_login(attribute) {
        return true;
    }
    let items = dictionary.items([*attribute]);
    !items.is_empty() && items.iter().all(|item| list.iter().any(|name| name.eq_ignore_ascii_case(&item.name())))
}

/// Service-Type 6 and 7 make whoever logs in an administrator of the device; only a rule of ours may say that (RFC 2865 section 2.3).
fn gives_administration(attribute: &Attribute<'_>) -> bool {
    const ADMINISTRATIVE: u32 = 6;
    const NAS_PROMPT: u32 = 7;
    attribute.kind == AttributeType::SERVICE_TYPE && matches!(attribute.integer(), Some(ADMINISTRATIVE | NAS_PROMPT))
}

/// Without these a login that was proven does not work.
fn belongs_to_the_login(attribute: &Attribute<'_>) -> bool {
    use ms_chap::kind::{
        MS_CHAP2_SUCCESS, MS_MPPE_ENCRYPTION_POLICY, MS_MPPE_ENCRYPTION_TYPES, MS_MPPE_RECV_KEY, MS_MPPE_SEND_KEY,
    };
    const MS_CHAP_MPPE_KEYS: u8 = 12; // RFC 2548 section 2.4.1
    let part = |kind| {
        matches!(
            kind,
            MS_CHAP2_SUCCESS
                | MS_CHAP_MPPE_KEYS
                | MS_MPPE_ENCRYPTION_POLICY
                | MS_MPPE_ENCRYPTION_TYPES
                | MS_MPPE_RECV_KEY
                | MS_MPPE_SEND_KEY
        )
    };
    attribute
        .vendor()
        .is_some_and(|vendor| vendor.id == Vendor::MICROSOFT && vendor.attributes().all(|(kind, _)| part(kind)))
}

/// The value of a text attribute by its name, where there is exactly one and it is a name: who was let in.
pub(crate) fn named(dictionary: &Dictionary, reply: &HomeReply, attribute: &str) -> Option<String> {
    if attribute.eq_ignore_ascii_case("User-Name") {
        return reply.user_name();
    }
    let mut values = values(dictionary, reply, attribute).into_iter();
    let name = String::from_utf8(values.next()?).ok()?;
    let one = values.next().is_none() && !name.is_empty() && !name.chars().any(char::is_control);
    one.then_some(name)
}

/// All that a home server says in this attribute, be it a name or not.
pub(crate) fn values(dictionary: &Dictionary, reply: &HomeReply, attribute: &str) -> Vec<Vec<u8>> {
    let packet = reply.packet();
    let items = dictionary.items(packet.attributes()).into_iter();
    items.filter(|item| item.name().eq_ignore_ascii_case(attribute)).map(|item| item.octets.to_vec()).collect()
}
