//! The code by which a phone becomes a device: 128 bits, in letters and digits that can be typed.

use data_encoding::BASE32_NOPAD;
use domain::Secret;
use sha2::{Digest, Sha256};

const CODE_BYTES: usize = 16;
/// With spaces and dashes between groups.
const TYPED_BYTES_MAX: usize = 64;

/// RFC 4648 section 6, without padding: 26 signs.
pub fn written(octets: &[u8; CODE_BYTES]) -> Secret {
    Secret::from(BASE32_NOPAD.encode(octets))
}

/// What the store knows of it. `None`: it is no such code.
pub fn hash(typed: &Secret) -> Option<Vec<u8>> {
    let typed = typed.expose_str().filter(|typed| typed.len() <= TYPED_BYTES_MAX)?;
    let signs =
        typed.chars().filter(|sign| !sign.is_whitespace() && *sign != '-').map(|sign| sign.to_ascii_uppercase());
    let octets = BASE32_NOPAD.decode(signs.collect::<String>().as_bytes()).ok()?;
    (octets.len() == CODE_BYTES).then(|| Sha256::digest(&octets).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_found_however_it_was_typed() {
        let code = written(&[0xa7; CODE_BYTES]);
        let text = code.expose_str().expect("text").to_owned();
        assert_eq!(text.len(), 26);
        let known = hash(&code).expect("a code");
        let grouped: Vec<&str> = (0..text.len()).step_by(5).map(|at| &text[at..text.len().min(at + 5)]).collect();
        for typed in [text.to_lowercase(), grouped.join("-"), format!(" {} ", grouped.join(" "))] {
            assert_eq!(hash(&Secret::from(typed)).as_ref(), Some(&known));
        }
        for bad in ["", "A", &text[..25], &format!("{text}AA"), "ÄÖÜ", &"A".repeat(65)] {
            assert_eq!(hash(&Secret::from(bad)), None, "{bad}");
        }
        assert_ne!(hash(&written(&[0xa8; CODE_BYTES])), Some(known));
    }
}
