//! Controls of Active Directory that tell of changes (MS-ADTS section 3.1.1.3.4.1): DirSync, and what goes with it.

use crate::ber::{self, Reader, Writer};
use crate::control::Control;
use crate::message::DecodeError;
use crate::oid;
use bytes::Bytes;

/// No right is needed, and only what may be read is told.
pub const OBJECT_SECURITY: u32 = 0x1;
/// Of values that are many, those that came or went and not all.
pub const INCREMENTAL_VALUES: u32 = 0x8000_0000;

/// In a request: flags, how many octets the answer may have, and where the last one ended. In an answer the flags say whether
/// there is more; an empty cookie begins anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirSync {
    pub flags: u32,
    pub octets_max: u32,
    pub cookie: Bytes,
}

impl DirSync {
    pub fn to_control(&self) -> Control {
        let mut writer = Writer::new();
        writer.nested(ber::SEQUENCE, |w| {
            // The highest flag is the sign of a 32-bit integer: Windows and Samba read no fifth octet.
            w.integer(ber::INTEGER, self.flags.cast_signed().into());
            w.integer(ber::INTEGER, self.octets_max.cast_signed().into());
            w.octet_string(&self.cookie);
        });
        Control::new(oid::DIRSYNC, true, Some(writer.into_vec().into()))
    }

    /// Out of the controls of a request or a SearchResultDone.
    pub fn find(controls: &[Control]) -> Result<Option<Self>, DecodeError> {
        let Some(control) = controls.iter().find(|control| control.oid == oid::DIRSYNC) else { return Ok(None) };
        let value = control.value.as_ref().ok_or(DecodeError::Value("DirSync"))?;
        let mut outer = Reader::new(value);
        let mut reader = outer.expect(ber::SEQUENCE)?.reader();
        outer.finish()?;
        let flags = reader.integer(ber::INTEGER)?.cast_unsigned();
        let octets_max = reader.integer(ber::INTEGER)?.cast_unsigned();
        let cookie = value.slice_ref(reader.octet_string()?);
        reader.finish()?;
        Ok(Some(Self { flags, octets_max, cookie }))
    }
}

/// Tombstones are found, too.
pub fn show_deleted() -> Control {
    Control::new(oid::SHOW_DELETED, true, None)
}

/// DNs come as `<GUID=33221100-...>;<SID=S-1-5-...>;CN=...`.
pub fn extended_dn() -> Control {
    let mut writer = Writer::new();
    writer.nested(ber::SEQUENCE, |w| w.integer(ber::INTEGER, 1)); // as text, not hexadecimal
    Control::new(oid::EXTENDED_DN, true, Some(writer.into_vec().into()))
}

/// The DN alone, out of one that came so.
pub fn plain_dn(extended: &str) -> &str {
    let mut rest = extended;
    while let Some((_, after)) = rest.strip_prefix('<').and_then(|part| part.split_once('>')) {
        rest = after.strip_prefix(';').unwrap_or(after);
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_dn_is_what_stands_behind_guid_and_sid() {
        for (extended, plain) in [
            ("<GUID=00>;<SID=S-1-5-21-1>;CN=a,DC=x", "CN=a,DC=x"),
            ("<GUID=00>;CN=<a>;b,DC=x", "CN=<a>;b,DC=x"),
            ("CN=a,DC=x", "CN=a,DC=x"),
            ("<GUID=00>", ""),
            ("", ""),
            ("<GUID", "<GUID"),
        ] {
            assert_eq!(plain_dn(extended), plain);
        }
    }
}
