//! A QR code as inline SVG: attributes only, since the policy of our pages allows no inline style.

use qrcode::{Color, EcLevel, QrCode};
use std::fmt::Write;

/// The border that scanners need (ISO/IEC 18004).
const QUIET: usize = 4;

pub(super) struct Qr {
    /// Modules along one side, with the border.
    pub side: usize,
    /// What is dark, as the `d` of a path in units of one module.
    pub path: String,
}

impl Qr {
    /// `None`: the text is too long for any QR code.
    pub fn of(text: &[u8]) -> Option<Self> {
        let code = QrCode::with_error_correction_level(text, EcLevel::M).ok()?;
        let width = code.width();
        let mut path = String::new();
        for (y, row) in code.to_colors().chunks(width).enumerate() {
            let mut x = 0;
            while x < width {
                let length = row[x..].iter().take_while(|colour| **colour == Color::Dark).count();
                if length > 0 {
                    write!(path, "M{} {}h{length}v1h-{length}z", x + QUIET, y + QUIET).expect("a String takes all");
                }
                x += length.max(1);
            }
        }
        Some(Self { side: width + 2 * QUIET, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_covers_exactly_the_dark_modules() {
        let text = b"otpauth://totp/Example:ann?secret=JBSWY3DPEHPK3PXP&issuer=Example";
        let code = QrCode::with_error_correction_level(text, EcLevel::M).expect("short");
        let qr = Qr::of(text).expect("short");
        assert_eq!(qr.side, code.width() + 8);
        let mut drawn = vec![Color::Light; code.width() * code.width()];
        for run in qr.path.split('z').filter(|run| !run.is_empty()) {
            let numbers: Vec<usize> =
                run.split(|sign: char| !sign.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect();
            let [x, y, length, ..] = numbers[..] else { panic!("{run}") };
            for x in x..x + length {
                drawn[(y - QUIET) * code.width() + x - QUIET] = Color::Dark;
            }
        }
        assert!(drawn == code.to_colors());
        assert!(Qr::of(&[b'x'; 4000]).is_none());
    }
}
