//! The alphabet of text messages and how long texts are cut (3GPP TS 23.038 section 6.2.1, TS 23.040 section 9.2.3.24.1).
//!
//! Pure. One text is either in the default alphabet of 7-bit signs, or in UCS-2 where it has a sign that is not in it.

/// In the order of their codes, 0x00 to 0x7F; 0x1B leads to the extension.
const BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\u{1b}ÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";
const EXTENSION: [(char, u8); 10] = [
    ('\u{c}', 0x0a),
    ('^', 0x14),
    ('{', 0x28),
    ('}', 0x29),
    ('\\', 0x2f),
    ('[', 0x3c),
    ('~', 0x3d),
    (']', 0x3e),
    ('|', 0x40),
    ('€', 0x65),
];
const ESCAPE: u8 = 0x1b;

/// 7-bit signs or UCS-2 units in a message that stands alone, ...
const ALONE: (usize, usize) = (160, 70);
/// ... and in one part of several, less the header that puts them together again.
const PART: (usize, usize) = (153, 67);
/// Parts of one text. What is longer is cut: no text of ours comes near it.
pub const PARTS_MAX: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alphabet {
    Gsm7,
    Ucs2,
}

/// How much room a text takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Length {
    pub alphabet: Alphabet,
    /// 7-bit signs or UCS-2 units.
    pub units: usize,
    /// Messages a network sends, and charges, for it.
    pub parts: usize,
}

/// A text in the octets that SMPP carries: one 7-bit sign an octet, or UCS-2 in big-endian order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    pub alphabet: Alphabet,
    /// One, or several that belong together.
    pub parts: Vec<Vec<u8>>,
}

/// How long a text is, as networks count.
pub fn length(text: &str) -> Length {
    let signs = signs(text);
    let units = signs.iter().map(|sign| signs.alphabet.units(sign)).sum();
    Length { alphabet: signs.alphabet, units, parts: split(&signs).len() }
}

pub fn encode(text: &str) -> Encoded {
    let signs = signs(text);
    let parts = split(&signs).into_iter().take(PARTS_MAX).map(|part| part.concat()).collect();
    Encoded { alphabet: signs.alphabet, parts }
}

/// Reads what SMPP brought, in the default alphabet; what has no sign reads as `?`.
pub fn decode_gsm7(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len());
    let mut octets = octets.iter().copied();
    while let Some(octet) = octets.next() {
        let sign = match octet {
            ESCAPE => octets.next().and_then(|code| EXTENSION.iter().find(|(_, known)| *known == code)).map(|it| it.0),
            octet => BASIC.chars().nth(octet.into()),
        };
        text.push(sign.unwrap_or('?'));
    }
    text
}

pub fn decode_ucs2(octets: &[u8]) -> String {
    let units = octets.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    char::decode_utf16(units).map(|sign| sign.unwrap_or('?')).collect()
}

/// Every sign of a text in its octets, so that none is cut in two.
struct Signs {
    alphabet: Alphabet,
    encoded: Vec<Vec<u8>>,
}

impl Signs {
    fn iter(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.encoded.iter()
    }
}

impl Alphabet {
    fn units(self, sign: &[u8]) -> usize {
        match self {
            Self::Gsm7 => sign.len(),
            Self::Ucs2 => sign.len() / 2,
        }
    }

    fn room(self, (gsm7, ucs2): (usize, usize)) -> usize {
        match self {
            Self::Gsm7 => gsm7,
            Self::Ucs2 => ucs2,
        }
    }
}

fn signs(text: &str) -> Signs {
    let gsm7: Option<Vec<_>> = text.chars().map(gsm7).collect();
    match gsm7 {
        Some(encoded) => Signs { alphabet: Alphabet::Gsm7, encoded },
        None => Signs { alphabet: Alphabet::Ucs2, encoded: text.chars().map(ucs2).collect() },
    }
}

fn gsm7(sign: char) -> Option<Vec<u8>> {
    if let Some((_, code)) = EXTENSION.iter().find(|(known, _)| *known == sign) {
        return Some(vec![ESCAPE, *code]);
    }
    let code = BASIC.chars().position(|known| known == sign)?;
    u8::try_from(code).ok().filter(|code| *code != ESCAPE).map(|code| vec![code])
}

fn ucs2(sign: char) -> Vec<u8> {
    let mut units = [0; 2];
    sign.encode_utf16(&mut units).iter().flat_map(|unit| unit.to_be_bytes()).collect()
}

fn split(signs: &Signs) -> Vec<Vec<Vec<u8>>> {
    let alphabet = signs.alphabet;
    let total: usize = signs.iter().map(|sign| alphabet.units(sign)).sum();
    if total <= alphabet.room(ALONE) {
        return vec![signs.encoded.clone()];
    }
    let (mut parts, mut used) = (vec![Vec::new()], 0);
    for sign in signs.iter() {
        let units = alphabet.units(sign);
        if used + units > alphabet.room(PART) {
            parts.push(Vec::new());
            used = 0;
        }
        used += units;
        parts.last_mut().expect("never empty").push(sign.clone());
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_basic_alphabet_has_128_places_each_where_the_standard_puts_it() {
        // TS 23.038 section 6.2.1
        assert_eq!(BASIC.chars().count(), 128);
        for (sign, code) in [('@', 0), ('\n', 10), ('\r', 13), (' ', 0x20), ('A', 0x41), ('a', 0x61), ('à', 0x7f)] {
            assert_eq!(gsm7(sign), Some(vec![code]), "{sign}");
        }
        for (sign, code) in [('Ä', 0x5b), ('ß', 0x1e), ('é', 0x05), ('_', 0x11), ('¿', 0x60), ('§', 0x5f)] {
            assert_eq!(gsm7(sign), Some(vec![code]), "{sign}");
        }
        assert_eq!(gsm7('€'), Some(vec![0x1b, 0x65]));
        assert_eq!([gsm7('\u{1b}'), gsm7('`'), gsm7('•'), gsm7('ç')], [None, None, None, None]);
    }

    #[test]
    fn length_is_counted_as_networks_do() {
        let found = |text: &str| {
            let length = length(text);
            (length.alphabet, length.units, length.parts)
        };
        assert_eq!(found(""), (Alphabet::Gsm7, 0, 1));
        assert_eq!(found(&"a".repeat(160)), (Alphabet::Gsm7, 160, 1));
        assert_eq!(found(&"a".repeat(161)), (Alphabet::Gsm7, 161, 2));
        assert_eq!(found(&"a".repeat(306)), (Alphabet::Gsm7, 306, 2));
        assert_eq!(found(&"a".repeat(307)), (Alphabet::Gsm7, 307, 3));
        assert_eq!(found(&"€".repeat(80)), (Alphabet::Gsm7, 160, 1));
        assert_eq!(found(&"я".repeat(70)), (Alphabet::Ucs2, 70, 1));
        assert_eq!(found(&"я".repeat(71)), (Alphabet::Ucs2, 71, 2));
        assert_eq!(found("😀"), (Alphabet::Ucs2, 2, 1));
    }

    #[test]
    fn no_sign_is_cut_in_two_and_the_parts_say_the_whole() {
        // An escaped sign at the border of 153, a surrogate pair at the border of 67.
        let text = format!("{}€{}", "a".repeat(152), "b".repeat(20));
        let encoded = encode(&text);
        assert_eq!(encoded.parts.iter().map(Vec::len).collect::<Vec<_>>(), [152, 22]);
        assert_eq!(encoded.parts.iter().map(|part| decode_gsm7(part)).collect::<String>(), text);
        let text = format!("{}😀{}", "я".repeat(66), "я".repeat(20));
        let encoded = encode(&text);
        assert_eq!(encoded.parts.iter().map(|part| part.len() / 2).collect::<Vec<_>>(), [66, 22]);
        assert_eq!(encoded.parts.iter().map(|part| decode_ucs2(part)).collect::<String>(), text);
        assert_eq!(encode(&"a".repeat(10_000)).parts.len(), PARTS_MAX);
    }

    #[test]
    fn what_cannot_be_read_is_a_question_mark_and_never_a_panic() {
        assert_eq!(decode_gsm7(&[0x41, 0xff, 0x1b, 0x00, 0x1b]), "A???");
        assert_eq!(decode_ucs2(&[0xd8, 0x00, 0x00, 0x41, 0x00]), "?A");
    }
}
