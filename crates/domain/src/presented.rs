//! A one-time code as a person typed it, made comparable: once, at the edge.

use zeroize::{Zeroize, ZeroizeOnDrop};

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
}
