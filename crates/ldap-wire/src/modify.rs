//! Add and Modify (RFC 4511 sections 4.6, 4.7), as far as a gateway must look: how many attributes, and is one a password.

use crate::ber::{self, Reader};
use crate::message::{DecodeError, Limit, Message, Op};
use crate::search::ATTRIBUTES_MAX;
use bytes::Bytes;

/// Does this Modify change a password (L-14)? Refuses more than 4096 changes (L-03).
pub fn changes_password(modify: &Message) -> Result<bool, DecodeError> {
    let mut reader = Reader::new(modify.content_of(Op::ModifyRequest)?);
    reader.octet_string()?;
    let mut changes = reader.expect(ber::SEQUENCE)?.reader();
    reader.finish()?;
    let (mut count, mut password) = (0, false);
    while !changes.is_empty() {
        count += 1;
        if count > ATTRIBUTES_MAX {
            return Err(DecodeError::Limit(Limit::Attributes));
        }
        let mut change = changes.expect(ber::SEQUENCE)?.reader();
        change.integer(ber::ENUMERATED)?;
        password |= is_password(named(change.expect(ber::SEQUENCE)?.reader())?);
        change.finish()?;
    }
    Ok(password)
}

/// Which entry is to be modified.
pub(crate) fn object(modify: &Message) -> Result<Bytes, DecodeError> {
    let content = modify.content_of(Op::ModifyRequest)?;
    Ok(content.slice_ref(Reader::new(content).octet_string()?))
}

/// Does this Add bring a password? Refuses more than 4096 attributes (L-03).
pub(crate) fn adds_password(add: &Message) -> Result<bool, DecodeError> {
    let mut reader = Reader::new(add.content_of(Op::AddRequest)?);
    reader.octet_string()?;
    let mut attributes = reader.expect(ber::SEQUENCE)?.reader();
    reader.finish()?;
    let (mut count, mut password) = (0, false);
    while !attributes.is_empty() {
        count += 1;
        if count > ATTRIBUTES_MAX {
            return Err(DecodeError::Limit(Limit::Attributes));
        }
        password |= is_password(named(attributes.expect(ber::SEQUENCE)?.reader())?);
    }
    Ok(password)
}

/// The name of a PartialAttribute, which has values behind it and nothing else: a server that reads on where it should not would find
/// what we have not looked at.
fn named(mut attribute: Reader<'_>) -> Result<&[u8], DecodeError> {
    let name = attribute.octet_string()?;
    attribute.expect(ber::SET)?;
    attribute.finish()?;
    Ok(name)
}

/// By name or OID, with or without options.
fn is_password(description: &[u8]) -> bool {
    let name = description.split(|octet| *octet == b';').next().unwrap_or_default();
    let names: [&[u8]; 4] = [b"userPassword", b"2.5.4.35", b"unicodePwd", b"1.2.840.113556.1.4.90"];
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
}
