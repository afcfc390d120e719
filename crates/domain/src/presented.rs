//! Codes as a person typed them, made comparable: once, at the edge.

use crate::Secret;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// What a person can type where a code is asked for. The forms differ in length, so that none is mistaken for another.
#[derive(Clone, PartialEq, Eq)]
pub enum Presented {
    /// 6 to 8 digits: a token's.
    Code(PresentedCode),
    /// 9 digits: the help desk's (FV-29).
    Temporary(PresentedTemporary),
    /// 10 letters and digits: printed at enrolment (FV-09).
    Recovery(PresentedRecovery),
}

impl Presented {
    /// `None`: this is no code of any kind.
    pub fn parse(typed: &[u8]) -> Option<Self> {
        match PresentedCode::parse(typed) {
            Some(code) => (code.digits() >= PresentedCode::SHORTEST).then_some(Self::Code(code)),
            None => PresentedTemporary::parse(typed)
                .map(Self::Temporary)
                .or_else(|| PresentedRecovery::parse(typed).map(Self::Recovery)),
        }
    }
}

/// A temporary code: 9 decimal digits in ASCII.
#[derive(Clone, PartialEq, Eq)]
pub struct PresentedTemporary(Secret);

impl PresentedTemporary {
    pub const LENGTH: usize = 9;

    pub fn parse(typed: &[u8]) -> Option<Self> {
        folded(typed, Self::LENGTH, |sign| decimal_digit(sign).map(|digit| b'0' + digit)).map(Self)
    }

    pub fn expose(&self) -> &Secret {
        &self.0
    }
}

/// A recovery code: 10 signs in upper case. What people mistake for each other is the same sign: O and 0, I, L and 1.
#[derive(Clone, PartialEq, Eq)]
pub struct PresentedRecovery(Secret);

impl PresentedRecovery {
    pub const LENGTH: usize = 10;
    /// The signs a code is made of: no I, L, O, and no U, which makes words.
    pub const ALPHABET: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

    pub fn parse(typed: &[u8]) -> Option<Self> {
        folded(typed, Self::LENGTH, recovery_sign).map(Self)
    }

    pub fn expose(&self) -> &Secret {
        &self.0
    }
}

fn recovery_sign(sign: char) -> Option<u8> {
    if let Some(digit) = decimal_digit(sign) {
        return Some(b'0' + digit);
    }
    // Full-width letters are typed where full-width digits are.
    let narrow = match u32::from(sign) {
        wide @ (0xff21..=0xff3a | 0xff41..=0xff5a) => char::from_u32(wide - 0xfee0)?,
        _ => sign,
    };
    let sign = match narrow.to_ascii_uppercase() {
        'O' => b'0',
        'I' | 'L' => b'1',
        other => u8::try_from(other).ok()?,
    };
    PresentedRecovery::ALPHABET.contains(&sign).then_some(sign)
}

/// Exactly `length` signs that `sign` knows, fillers dropped.
fn folded(typed: &[u8], length: usize, sign: impl Fn(char) -> Option<u8>) -> Option<Secret> {
    let mut signs = Zeroizing::new(Vec::with_capacity(length));
    for typed in std::str::from_utf8(typed).ok()?.chars() {
        match sign(typed) {
            Some(_) if signs.len() == length => return None,
            Some(sign) => signs.push(sign),
            None if is_filler(typed) => {}
            None => return None,
        }
    }
    (signs.len() == length).then(|| Secret::new(signs.to_vec()))
}

/// Digits of any script in ASCII, fillers dropped: a PIN, or a code and a PIN in one field. `None`: something else is in it, there is
/// nothing, or too much.
pub fn folded_digits(typed: &[u8], longest: usize) -> Option<Secret> {
    let mut digits = Zeroizing::new(Vec::with_capacity(longest));
    for sign in std::str::from_utf8(typed).ok()?.chars() {
        match decimal_digit(sign) {
            Some(_) if digits.len() == longest => return None,
            Some(digit) => digits.push(b'0' + digit),
            None if is_filler(sign) => {}
            None => return None,
        }
    }
    (!digits.is_empty()).then(|| Secret::new(digits.to_vec()))
}

/// 1 to 8 decimal digits in ASCII. What decides a replay is the time step such a code stands for, never the string that
/// was typed (V-11), so every way of writing the same digits becomes the same value here (R-47, B-81).
///
/// No `Debug`, no `Display`; zeroed when dropped (V-33).
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct PresentedCode {
    signs: [u8; Self::LONGEST],
    length: usize,
}

impl PresentedCode {
    /// The longest code that a token shows.
    pub const LONGEST: usize = 8;
    /// And the shortest.
    pub const SHORTEST: usize = 6;

    /// Drops white space and dashes, turns the digits of other scripts into ASCII. `None`: this is no code.
    pub fn parse(typed: &[u8]) -> Option<Self> {
        let mut code = Self { signs: [0; Self::LONGEST], length: 0 };
        for sign in std::str::from_utf8(typed).ok()?.chars() {
            match decimal_digit(sign) {
                Some(digit) => {
                    *code.signs.get_mut(code.length)? = b'0' + digit;
                    code.length += 1;
                }
                None if is_filler(sign) => {}
                None => return None,
            }
        }
        (code.length > 0).then_some(code)
    }

    /// How many digits; leading zeros count.
    pub fn digits(&self) -> usize {
        self.length
    }

    /// The digits, padded with NUL to a fixed length, so that they can be compared in constant time.
    pub fn expose_padded(&self) -> &[u8; Self::LONGEST] {
        &self.signs
    }
}

/// The value of a decimal digit of any living script (Unicode category Nd of the basic plane, full-width included).
pub fn decimal_digit(sign: char) -> Option<u8> {
    // The zero of each script; its other nine digits follow it.
    const ZEROS: [u32; 37] = [
        0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0,
        0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620,
        0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10,
    ];
    let sign = u32::from(sign);
    ZEROS.iter().find(|zero| (**zero..**zero + 10).contains(&sign)).map(|zero| (sign - zero) as u8)
}

/// White space of any kind, dashes, and the invisible marks that are copied along from a phone's screen.
fn is_filler(sign: char) -> bool {
    sign.is_whitespace()
        || matches!(sign, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe63}' | '\u{ff0d}')
        || matches!(sign, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(typed: &str) -> Option<String> {
        let code = PresentedCode::parse(typed.as_bytes())?;
        Some(String::from_utf8(code.expose_padded()[..code.digits()].to_vec()).expect("ASCII"))
    }

    #[test]
    fn every_way_of_writing_the_same_digits_is_the_same_code() {
        // R-47, B-81
        for typed in [
            "012345",
            " 012345\r\n",
            "012 345",
            "012\u{a0}345",
            "012\u{202f}345",
            "012-345",
            "012\u{2011}345",
            "\u{200e}012345",
            "０１２３４５",
            "٠١٢٣٤٥",
            "०१२३४५",
        ] {
            assert_eq!(read(typed).as_deref(), Some("012345"), "{typed:?}");
        }
    }

    #[test]
    fn what_holds_anything_but_digits_or_too_many_of_them_is_no_code() {
        // B-81
        let long = "1".repeat(10_000);
        for typed in ["", "   ", "12345a", "1234.5", "+123456", "١٢٣٤٥ⅵ", "123456789", &long, "²³⁴⁵⁶⁷"]
        {
            assert_eq!(read(typed), None, "{typed:.20?}");
        }
        assert!(PresentedCode::parse(b"\xff123456").is_none());
    }

    #[test]
    fn dropped_leading_zeros_make_another_code() {
        // B-81
        assert_ne!(read("012345"), read("12345"));
        assert_eq!(read("0").as_deref(), Some("0"));
    }

    fn form(typed: &str) -> String {
        let text = |secret: &Secret| secret.expose_str().expect("ASCII").to_owned();
        match Presented::parse(typed.as_bytes()) {
            None => "none".into(),
            Some(Presented::Code(code)) => format!("code of {}", code.digits()),
            Some(Presented::Temporary(code)) => format!("temporary {}", text(code.expose())),
            Some(Presented::Recovery(code)) => format!("recovery {}", text(code.expose())),
        }
    }

    #[test]
    fn what_was_typed_is_one_kind_of_code_or_none() {
        // L-51, FV-09, FV-29
        for (typed, expected) in [
            ("123456", "code of 6"),
            ("1234567", "code of 7"),
            ("12345678", "code of 8"),
            ("12345", "none"),
            ("123 456 789", "temporary 123456789"),
            ("１２３４５６７８９", "temporary 123456789"),
            ("1234567890", "recovery 1234567890"),
            ("abcde-fgh0k", "recovery ABCDEFGH0K"),
            ("oIlOabcdef", "recovery 0110ABCDEF"),
            ("ＡＢＣＤＥ-ＦＧＨ０Ｋ", "recovery ABCDEFGH0K"),
            ("abcde-fghuk", "none"),
            ("abcdefghjkm", "none"),
            ("abcdefghj", "none"),
            ("", "none"),
            ("{\"a\":12345}", "none"),
        ] {
            assert_eq!(form(typed), expected, "{typed:?}");
        }
    }

    #[test]
    fn digits_in_one_field_are_folded_and_bounded() {
        // FV-03: code, then PIN
        let read =
            |typed: &str| folded_digits(typed.as_bytes(), 18).map(|all| all.expose_str().expect("ASCII").to_owned());
        assert_eq!(read("123456 7890").as_deref(), Some("1234567890"));
        assert_eq!(read("１２３４５６-７８９０").as_deref(), Some("1234567890"));
        assert_eq!(read(&"1".repeat(18)).map(|all| all.len()), Some(18));
        for bad in ["", " ", "123456 7x", &"1".repeat(19)] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
