//! Controls (RFC 4511 section 4.1.11). Their values stay opaque, except those of paged results (RFC 2696).

use crate::ber::{self, Reader, Writer};
use crate::message::{self, DecodeError, Limit};
use crate::oid;
use bytes::Bytes;

/// L-03.
pub const CONTROLS_MAX: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    pub oid: String,
    pub critical: bool,
    pub value: Option<Bytes>,
}

impl Control {
    pub fn new(oid: impl Into<String>, critical: bool, value: Option<Bytes>) -> Self {
        Self { oid: oid.into(), critical, value }
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.nested(ber::SEQUENCE, |w| {
            w.octet_string(self.oid.as_bytes());
            if self.critical {
                w.boolean(ber::BOOLEAN, true); // DEFAULT FALSE is not written, RFC 4511 section 5.1
            }
            if let Some(value) = &self.value {
                w.octet_string(value);
            }
        });
    }
}

/// All controls of a message, from the content of its controls element.
pub(crate) fn decode_all(octets: &Bytes) -> Result<Vec<Control>, DecodeError> {
    let mut controls = Vec::new();
    let mut reader = Reader::new(octets);
    while !reader.is_empty() {
        if controls.len() == CONTROLS_MAX {
            return Err(DecodeError::Limit(Limit::Controls));
        }
        let mut fields = reader.expect(ber::SEQUENCE)?.reader();
        controls.push(Control {
            oid: message::text(fields.octet_string()?, "control type")?,
            critical: fields.optional(ber::BOOLEAN)?.map_or(Ok(false), |element| ber::boolean(element.content))?,
            value: fields.optional(ber::OCTET_STRING)?.map(|element| octets.slice_ref(element.content)),
        });
        fields.finish()?;
    }
    Ok(controls)
}

/// Paged results: in a request the page size wanted, in a response an estimate of the whole; an empty cookie ends the search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PagedResults {
    pub size: u32,
    pub cookie: Bytes,
}

impl PagedResults {
    pub fn to_control(&self, critical: bool) -> Control {
        let mut writer = Writer::new();
        writer.nested(ber::SEQUENCE, |w| {
            w.integer(ber::INTEGER, self.size.into());
            w.octet_string(&self.cookie);
        });
        Control::new(oid::PAGED_RESULTS, critical, Some(writer.into_vec().into()))
    }

    /// Out of the controls of a response; `None` if the server sent none, which means that it does not page.
    pub fn find(controls: &[Control]) -> Result<Option<Self>, DecodeError> {
        let Some(control) = controls.iter().find(|control| control.oid == oid::PAGED_RESULTS) else { return Ok(None) };
        let value = control.value.as_ref().ok_or(DecodeError::Value("paged results"))?;
        let mut outer = Reader::new(value);
        let mut reader = outer.expect(ber::SEQUENCE)?.reader();
        outer.finish()?;
        // A server that cannot estimate sends 0; a negative estimate of a careless one means no more than that.
        let size = u32::try_from(reader.integer(ber::INTEGER)?).unwrap_or(0);
        let cookie = value.slice_ref(reader.octet_string()?);
        reader.finish()?;
        Ok(Some(Self { size, cookie }))
    }
}
