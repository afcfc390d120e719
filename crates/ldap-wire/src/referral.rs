//! References to other servers (L-17). They name the real directory servers, where a client would find no second factor.

use crate::ber::Writer;
use crate::control::Control;
use crate::message::{self, DecodeError, Message, Op};
use crate::result::{LdapResult, ResultCode};
use bytes::Bytes;

/// What becomes of references and referrals on their way to the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Referrals {
    #[default]
    Drop,
    /// Scheme, host and port are replaced by this, such as `ldaps://login.example.org`; the rest of each URL stays.
    Rewrite(String),
    Pass,
}

/// The reference to relay instead of this one; `None` if there is nothing to relay.
pub(crate) fn reference(referrals: &Referrals, message: &Message) -> Result<Option<Bytes>, DecodeError> {
    match referrals {
        Referrals::Pass => Ok(Some(message.octets().clone())),
        Referrals::Drop => Ok(None),
        Referrals::Rewrite(ours) => {
            let urls = rewritten(ours, &crate::search::search_result_reference(message)?);
            let controls = message.controls()?;
            let write =
                |w: &mut Writer| w.nested(message.op().tag(), |w| urls.iter().for_each(|url| w.octet_string(url)));
            Ok((!urls.is_empty()).then(|| message::build(message.id(), &controls, write)))
        }
    }
}

/// The final response to relay, which is another one if it carries a referral and may not pass as it is, and its code.
pub(crate) fn result(referrals: &Referrals, message: &Message) -> Result<(Bytes, ResultCode), DecodeError> {
    let original = LdapResult::decode(message)?;
    let as_it_came = (message.octets().clone(), original.code);
    let Some(urls) = &original.referral else { return Ok(as_it_came) };
    let controls: Vec<Control> = message.controls()?;
    let ours = match referrals {
        Referrals::Pass => return Ok(as_it_came),
        Referrals::Rewrite(ours) => rewritten(ours, urls),
        Referrals::Drop => Vec::new(),
    };
    let result = match ours.is_empty() {
        false => LdapResult { referral: Some(ours), ..original },
        // RFC 4511 section 4.1.10 has code 10 only with URLs. Without them the truth is that this server has no such entry, or
        // that it does not write it.
        true if original.code == ResultCode::REFERRAL => LdapResult::of(match message.op() {
            Op::SearchResultDone | Op::CompareResponse => ResultCode::NO_SUCH_OBJECT,
            _ => ResultCode::UNWILLING_TO_PERFORM,
        }),
        true => LdapResult { referral: None, ..original },
    };
    Ok((result.encode(message.id(), message.op(), &controls), result.code))
}

fn rewritten(ours: &str, urls: &[Bytes]) -> Vec<Bytes> {
    urls.iter().filter_map(|url| rewrite(ours, url)).collect()
}

/// `None` for what is no LDAP URL: it is not relayed, since nobody knows where it leads.
fn rewrite(ours: &str, url: &[u8]) -> Option<Bytes> {
    let (scheme, rest) = std::str::from_utf8(url).ok()?.split_once("://")?;
    if !matches!(scheme.to_ascii_lowercase().as_str(), "ldap" | "ldaps") {
        return None;
    }
    let path = rest.find(['/', '?']).map_or("", |start| rest.get(start..).unwrap_or_default());
    Some(format!("{ours}{path}").into())
}
