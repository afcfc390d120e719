//! Places in a provider's request that are filled in, escaped for where they stand: `{phone}`, `{text}` and their like.
//!
//! Pure. What is filled in cannot leave its place: no parameter, header or JSON member is added by what a text says.

use crate::providers::http::percent_encode;
use data_encoding::BASE64;

/// What places are filled with.
pub struct Values<'a> {
    /// `{phone}`: +4915123456789; `{digits}` is the same without the plus.
    pub phone: &'a str,
    pub text: &'a str,
    /// Ours, unique.
    pub id: &'a str,
    pub account: &'a str,
    pub sender: &'a str,
    /// `{basic}` is account and secret as RFC 7617 wants them.
    pub secret: &'a str,
    /// Where the provider reports what became of it; empty = nowhere.
    pub callback: &'a str,
}

/// Where a template stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Anywhere in an address: percent-encoded (RFC 3986 section 2.1).
    Url,
    /// A header's value: no control character may be in it.
    Header,
    /// A field of a form: encoded as a whole afterwards.
    Form,
    /// Inside of a JSON string (RFC 8259 section 7).
    Json,
}

/// A value that cannot stand where it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfit;

/// Names that are filled in; other braces stay as they are.
pub fn fill(template: &str, place: Place, values: &Values<'_>) -> Result<String, Unfit> {
    let mut filled = String::with_capacity(template.len() + values.text.len());
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        let (before, from) = rest.split_at(open);
        filled.push_str(before);
        let name = from[1..].split_once('}').map(|(name, _)| name);
        match name.and_then(|name| values.named(name).map(|value| (name.len(), value))) {
            Some((length, value)) => {
                place.escape(&value, &mut filled)?;
                rest = &from[length + 2..];
            }
            None => {
                filled.push('{');
                rest = &from[1..];
            }
        }
    }
    filled.push_str(rest);
    Ok(filled)
}

impl Values<'_> {
    fn named(&self, name: &str) -> Option<String> {
        Some(match name {
            "phone" => self.phone.to_owned(),
            "digits" => self.phone.trim_start_matches('+').to_owned(),
            "text" => self.text.to_owned(),
            "id" => self.id.to_owned(),
            "account" => self.account.to_owned(),
            "sender" => self.sender.to_owned(),
            "secret" => self.secret.to_owned(),
            "callback" => self.callback.to_owned(),
            "basic" => BASE64.encode(format!("{}:{}", self.account, self.secret).as_bytes()),
            _ => return None,
        })
    }
}

impl Place {
    fn escape(self, value: &str, filled: &mut String) -> Result<(), Unfit> {
        match self {
            Self::Url => percent_encode(value, filled),
            Self::Header if value.chars().any(char::is_control) => return Err(Unfit),
            Self::Header | Self::Form => filled.push_str(value),
            Self::Json => {
                let quoted = serde_json::Value::from(value).to_string();
                filled.push_str(&quoted[1..quoted.len() - 1]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: Values<'static> = Values {
        phone: "+4915123456789",
        text: "a&b=\"c\"\n{phone} ü%",
        id: "7",
        account: "AC/1",
        sender: "Twin Lock",
        secret: "s:e?c",
        callback: "",
    };

    #[test]
    fn what_is_filled_in_stays_in_its_place() {
        // FN-07: whatever a text says, nothing is added to the request
        let filled = |template: &str, place| fill(template, place, &VALUES);
        assert_eq!(
            filled("https://x/{account}?to={phone}&t={text}&n={digits}", Place::Url).as_deref(),
            Ok("https://x/AC%2F1?to=%2B4915123456789&t=a%26b%3D%22c%22%0A%7Bphone%7D%20%C3%BC%25&n=4915123456789")
        );
        assert_eq!(
            filled(r#"{"to":["{phone}"],"text":"{text}"}"#, Place::Json).as_deref(),
            Ok(r#"{"to":["+4915123456789"],"text":"a&b=\"c\"\n{phone} ü%"}"#)
        );
        assert_eq!(filled("Basic {basic}", Place::Header).as_deref(), Ok("Basic QUMvMTpzOmU/Yw=="));
        assert_eq!(filled("{text}", Place::Header), Err(Unfit));
        assert_eq!(filled("{text}", Place::Form).as_deref(), Ok(VALUES.text));
    }

    #[test]
    fn unknown_names_and_lone_braces_stay() {
        let filled = fill("{ {nope} {phone {id}} {", Place::Form, &VALUES);
        assert_eq!(filled.as_deref(), Ok("{ {nope} {phone 7} {"));
    }
}
