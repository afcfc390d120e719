//! LDAP_SERVER_ASQ_OID (MS-ADTS section 3.1.1.3.4.1.18): a search of the objects that an attribute of one entry names, such as the
//! members of a group, with their attributes, in one question.

use crate::ber::{self, Reader, Writer};
use crate::control::Control;
use crate::message::DecodeError;
use crate::oid;
use crate::result::ResultCode;

/// For a search of scope base. Critical: without it the search would be one of the entry itself.
pub fn scope_query(attribute: &str) -> Control {
    let mut writer = Writer::new();
    writer.nested(ber::SEQUENCE, |w| w.octet_string(attribute.as_bytes()));
    Control::new(oid::SCOPE_QUERY, true, Some(writer.into_vec().into()))
}

/// What became of it, out of the controls of a SearchResultDone: success, or 71 where some of the objects are of another domain and
/// were left out, and others. `None`: the server says nothing, as where it was not asked.
pub fn scope_query_result(controls: &[Control]) -> Result<Option<ResultCode>, DecodeError> {
    let Some(control) = controls.iter().find(|control| control.oid == oid::SCOPE_QUERY) else { return Ok(None) };
    let value = control.value.as_ref().ok_or(DecodeError::Value("attribute scoped query"))?;
    let mut outer = Reader::new(value);
    let code = outer.expect(ber::SEQUENCE)?.reader().integer(ber::ENUMERATED)?;
    Ok(Some(ResultCode(u32::try_from(code).map_err(|_| DecodeError::Value("attribute scoped query"))?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_names_the_attribute_and_an_answer_says_what_became_of_it() {
        let asked = scope_query("member");
        assert!(asked.critical);
        assert_eq!(asked.value.as_deref(), Some(&b"\x30\x08\x04\x06member"[..]));
        let answer = |octets: &'static [u8]| {
            scope_query_result(&[Control::new(oid::SCOPE_QUERY, false, Some(bytes::Bytes::from_static(octets)))])
        };
        assert_eq!(answer(b"\x30\x03\x0a\x01\x00"), Ok(Some(ResultCode::SUCCESS)));
        assert_eq!(answer(b"\x30\x84\x00\x00\x00\x03\x0a\x01\x47"), Ok(Some(ResultCode::AFFECTS_MULTIPLE_DSAS)));
        assert!(answer(b"\x30\x03\x0a\x01\xff").is_err() && answer(b"\x30\x00").is_err() && answer(b"").is_err());
        assert_eq!(scope_query_result(&[]), Ok(None));
    }
}
