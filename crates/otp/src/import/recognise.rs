//! Which preset a file is of, by what stands at its beginning. A guess: the dry run shows what would come of it.

use super::csv::{Record, Records, plain};
use super::{Preset, text, values};
use domain::Secret;

/// What such a file begins with, and the program that opens it.
const ENCRYPTED: [(&[u8], &str); 3] = [
    (b"age-encryption.org/", "age"),
    (b"-----BEGIN AGE ENCRYPTED FILE-----", "age"),
    (b"-----BEGIN PGP MESSAGE-----", "gpg"),
];
/// RFC 9580 section 4.2: the first octet of a message that begins with an encrypted session key. None of them begins UTF-8 text that is
/// whole.
const PGP_PACKETS: [u8; 7] = [0x84, 0x85, 0x86, 0x8C, 0x8D, 0xC1, 0xC3];

/// The preset of a file of tokens. `None`: none of ours, or it could be more than one.
pub fn recognise(file: &Secret) -> Option<Preset> {
    let text = text(file).ok()?;
    let start = text.trim_start();
    if start.starts_with("otpauth-migration:") {
        return Some(Preset::GoogleExport);
    }
    if start.starts_with('<') {
        return Some(Preset::Pskc);
    }
    let first = Records::new(text).next()?.ok()?;
    by_names(&first).or_else(|| by_shape(&first))
}

pub(super) fn encrypted_with(file: &Secret) -> Option<&'static str> {
    let octets = file.expose();
    let armoured = ENCRYPTED.into_iter().find(|(start, _)| octets.trim_ascii_start().starts_with(start));
    let packets = || octets.first().is_some_and(|first| PGP_PACKETS.contains(first)) && file.expose_str().is_none();
    armoured.map(|(_, with)| with).or_else(|| packets().then_some("gpg"))
}

fn by_names(first: &Record<'_>) -> Option<Preset> {
    let names: Vec<String> = first.fields.iter().map(|name| plain(name)).collect();
    let has = |wanted: &[&str]| wanted.iter().all(|wanted| names.iter().any(|name| name == wanted));
    match () {
        () if has(&["upn", "serialnumber", "secretkey"]) => Some(Preset::EntraOath),
        () if has(&["serial", "otpkey"]) => Some(Preset::PiExport),
        () if has(&["serial", "key", "hash"]) => Some(Preset::LinOtp),
        // `# version: 2`
        () if first.field(0).starts_with('#') && names[0].starts_with("version") => Some(Preset::PiOath),
        () => None,
    }
}

/// A row without names above it: where its kind of token stands, and whether a hash follows.
fn by_shape(first: &Record<'_>) -> Option<Preset> {
    let kind = |column: usize| !first.field(column).is_empty() && values::kind(first.field(column)).is_ok();
    let seed = |column: usize| values::hex(first.field(column)).is_ok();
    let hash = !first.field(5).is_empty() && values::algorithm(first.field(5)).is_ok();
    match first.fields.len() {
        6 if seed(1) && kind(2) && hash => Some(Preset::LinOtp),
        3..=5 if seed(1) && kind(2) => Some(Preset::PiOath),
        4..=6 if seed(2) && kind(3) => Some(Preset::PiExport),
        _ => None,
    }
}
