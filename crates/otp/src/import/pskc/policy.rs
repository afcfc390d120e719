//! What the file says a key may be used for (RFC 6030 section 5). What cannot be kept here forbids the key: so the RFC wants it.

use super::{child, children, text};
use crate::import::RowError;
use roxmltree::Node;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub fn allows(key: Node<'_, '_>, now_unix_ms: i64) -> Result<(), RowError> {
    let Some(policy) = child(key, "Policy") else { return Ok(()) };
    for rule in policy.children().filter(Node::is_element) {
        match rule.tag_name().name() {
            "KeyUsage" => {}
            "StartDate" if unix_ms(text(rule))? > now_unix_ms => return Err(RowError::NotYet),
            "ExpiryDate" if unix_ms(text(rule))? <= now_unix_ms => return Err(RowError::Expired),
            "StartDate" | "ExpiryDate" => {}
            // A PIN that the token asks for itself is the token's affair; one in the code is not known here.
            "PINPolicy" if matches!(rule.attribute("PINUsageMode"), None | Some("Local")) => {}
            "PINPolicy" => return Err(RowError::Policy("a PIN that is part of the code")),
            "NumberOfTransactions" => return Err(RowError::Policy("a number of uses")),
            _ => return Err(RowError::Policy("a rule that is not in RFC 6030")),
        }
    }
    let mut usages = children(policy, "KeyUsage").peekable();
    match usages.peek().is_none() || usages.any(|usage| text(usage).trim() == "OTP") {
        true => Ok(()),
        false => Err(RowError::Policy("a use other than one-time codes")),
    }
}

/// `xs:dateTime`; without a zone it is read as UTC.
fn unix_ms(text: &str) -> Result<i64, RowError> {
    let text = text.trim();
    let moment =
        OffsetDateTime::parse(text, &Rfc3339).or_else(|_| OffsetDateTime::parse(&format!("{text}Z"), &Rfc3339));
    let moment = moment.map_err(|_| RowError::Policy("a date that cannot be read"))?;
    Ok(moment.unix_timestamp().saturating_mul(1000))
}
