//! What comes back from the network: receipts, and what people answered (SMPP 3.4 section 5.2.12 and appendix B).
//!
//! Pure.

use super::gsm;
use super::pdu::{Message, option, tag};
use domain::Secret;

/// Bits of esm_class.
const TYPE_MASK: u8 = 0b0011_1100;
const RECEIPT: u8 = 0b0000_0100;
const UDH: u8 = 0b0100_0000;
/// A reply is a code and a PIN.
const REPLY_BYTES_MAX: usize = 160;

/// Something the network said.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// What became of a message, by the provider's name for it.
    Receipt { provider_id: String, state: State },
    /// Somebody sent us a text. It may hold a code and a PIN.
    Text { from: String, text: Secret },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Delivered,
    Undelivered,
    Expired,
}

impl State {
    pub fn code(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Undelivered => "undelivered",
            Self::Expired => "expired",
        }
    }

    /// As receipts and webhooks spell it; `None`: still on its way, or nothing that is known.
    pub fn named(word: &str) -> Option<Self> {
        Some(match word.to_ascii_uppercase().as_str() {
            "DELIVRD" | "DELIVERED" => Self::Delivered,
            "EXPIRED" => Self::Expired,
            "UNDELIV" | "UNDELIVERED" | "REJECTD" | "REJECTED" | "DELETED" | "FAILED" => Self::Undelivered,
            _ => return None,
        })
    }

    /// message_state, section 5.2.28.
    fn numbered(octet: u8) -> Option<Self> {
        Some(match octet {
            2 => Self::Delivered,
            3 => Self::Expired,
            4 | 5 | 8 => Self::Undelivered,
            _ => return None,
        })
    }
}

/// `None`: nothing that anybody waits for.
pub fn heard(message: &Message) -> Option<Heard> {
    match message.esm_class & TYPE_MASK {
        RECEIPT => receipt(message),
        0 => reply(message),
        _ => None,
    }
}

/// Optional parameters say it best; otherwise the text, whose form is custom and not standard (appendix B).
fn receipt(message: &Message) -> Option<Heard> {
    let text = String::from_utf8_lossy(message.content()).into_owned();
    let named = option(&message.options, tag::RECEIPTED_MESSAGE_ID)
        .map(|value| String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned());
    let provider_id = named.filter(|id| !id.is_empty()).or_else(|| field(&text, "id:").map(str::to_owned))?;
    let numbered = option(&message.options, tag::MESSAGE_STATE).and_then(|value| value.first().copied());
    let state = match numbered {
        Some(octet) => State::numbered(octet),
        None => field(&text, "stat:").and_then(State::named),
    };
    let fit = (1..=128).contains(&provider_id.len()) && !provider_id.chars().any(char::is_control);
    fit.then_some(())?;
    Some(Heard::Receipt { provider_id, state: state? })
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let lower = text.to_ascii_lowercase();
    // At the start, or after a space: "submit date:" holds "date:" too.
    let mut places = lower.match_indices(name).map(|(place, _)| place);
    let place = places.find(|place| *place == 0 || lower.as_bytes()[place - 1] == b' ')?;
    text[place + name.len()..].split_ascii_whitespace().next()
}

fn reply(message: &Message) -> Option<Heard> {
    let mut content = message.content();
    if message.esm_class & UDH != 0 {
        let header = usize::from(*content.first()?) + 1;
        content = content.get(header..)?;
    }
    let content = &content[..content.len().min(REPLY_BYTES_MAX)];
    let text = match message.data_coding {
        0 => gsm::decode_gsm7(content),
        8 => gsm::decode_ucs2(content),
        1 | 3 => content.iter().map(|octet| char::from(*octet)).collect(),
        _ => return None,
    };
    let from = std::str::from_utf8(&message.source.text).ok()?.to_owned();
    Some(Heard::Text { from, text: text.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::sms::pdu::Address;

    fn deliver(esm_class: u8, data_coding: u8, short_message: &[u8], options: &[(u16, &[u8])]) -> Message {
        Message {
            esm_class,
            data_coding,
            short_message: short_message.to_vec(),
            source: Address { ton: 1, npi: 1, text: b"4915123456789".to_vec() },
            options: options.iter().map(|(tag, value)| (*tag, value.to_vec())).collect(),
            ..Message::default()
        }
    }

    fn receipt(text: &str, options: &[(u16, &[u8])]) -> Option<(String, State)> {
        match heard(&deliver(4, 0, text.as_bytes(), options)) {
            Some(Heard::Receipt { provider_id, state }) => Some((provider_id, state)),
            _ => None,
        }
    }

    #[test]
    fn receipts_are_read_from_parameters_or_from_their_text() {
        let text =
            "id:0a1B sub:001 dlvrd:001 submit date:2611281300 done date:2611281301 stat:DELIVRD err:000 text:stat:X";
        assert_eq!(receipt(text, &[]), Some(("0a1B".into(), State::Delivered)));
        assert_eq!(receipt("id:7 stat:UNDELIV", &[]), Some(("7".into(), State::Undelivered)));
        assert_eq!(receipt("Id:7 Stat:EXPIRED err:1", &[]), Some(("7".into(), State::Expired)));
        let options: [(u16, &[u8]); 2] = [(tag::RECEIPTED_MESSAGE_ID, b"abc\0"), (tag::MESSAGE_STATE, &[5])];
        assert_eq!(receipt("id:other stat:DELIVRD", &options), Some(("abc".into(), State::Undelivered)));
        // On its way, without a name, or nonsense: nobody waits for that.
        for text in
            ["id:7 stat:ENROUTE", "id:7 stat:ACCEPTD", "stat:DELIVRD", "id: stat:DELIVRD", "id:7", "", "grid:7 x"]
        {
            assert_eq!(receipt(text, &[]).filter(|(id, _)| id != "stat:DELIVRD"), None, "{text}");
        }
    }

    #[test]
    fn a_text_of_a_person_is_read_in_its_alphabet() {
        let text = |message: &Message| match heard(message) {
            Some(Heard::Text { from, text }) => Some((from, text.expose_str().unwrap_or_default().to_owned())),
            _ => None,
        };
        let said = |words: &str| Some(("4915123456789".to_owned(), words.to_owned()));
        assert_eq!(text(&deliver(0, 0, b"123456 7788", &[])), said("123456 7788"));
        assert_eq!(text(&deliver(0, 8, &[0, 0x31, 0, 0x32], &[])), said("12"));
        assert_eq!(text(&deliver(0, 3, b"12", &[])), said("12"));
        assert_eq!(text(&deliver(0x40, 0, &[2, 0x70, 0, 0x31], &[])), said("1"));
        assert_eq!(text(&deliver(0, 0, b"", &[(tag::MESSAGE_PAYLOAD, b"12")])), said("12"));
        assert_eq!(text(&deliver(0x40, 0, &[200, 1], &[])), None, "a header longer than its text");
        assert_eq!(text(&deliver(0, 4, b"binary", &[])), None);
        assert_eq!(text(&deliver(0x20, 0, b"intermediate", &[])), None);
    }
}
