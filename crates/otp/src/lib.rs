//! One-time codes of an authenticator app or token: HOTP (RFC 4226), TOTP (RFC 6238), seeds and how an app learns them.
//!
//! Pure: time and randomness are arguments. What a match is worth (throttle, replay mark, decision) is not decided here.

pub mod import;
mod seed;

pub use domain::PresentedCode;
pub use seed::{base32, generate_seed, otpauth_uri};

use domain::{CodeAlgorithm, CodeForm, Secret};
use hmac::{Hmac, KeyInit, Mac};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// Steps accepted before and after the present one: the transmission delay that RFC 6238 section 5.2 recommends (V-10).
pub const WINDOW: u64 = 1;

/// What a presented code is worth against one seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The code of this step, which is later than the last accepted one.
    Match(u64),
    /// The code of this step, which is already spent (V-11).
    Reused(u64),
    NoMatch,
}

/// Compares a code with those of the steps around `now_unix_ms`. `last_step` is the last accepted step.
///
/// Every candidate step is computed and compared in constant time, whichever one matches (V-16). Where two steps show the
/// same digits the later one counts, so that accepting the code spends both.
pub fn verify(
    seed: &Secret,
    form: CodeForm,
    presented: &PresentedCode,
    now_unix_ms: i64,
    last_step: u64,
    window: u64,
) -> Verdict {
    let present = step_at(form, now_unix_ms);
    let mut found = Choice::from(0);
    let mut step = 0;
    for candidate in present.saturating_sub(window)..=present.saturating_add(window) {
        let expected = hotp(seed, form.algorithm(), candidate, form.digits());
        let equal = expected.ct_eq(presented.expose_padded());
        step.conditional_assign(&candidate, equal);
        found |= equal;
    }
    match bool::from(found) {
        false => Verdict::NoMatch,
        true if step > last_step => Verdict::Match(step),
        true => Verdict::Reused(step),
    }
}

/// The time step (RFC 6238 section 4.2, T0 = 0). A clock before 1970 stands at the first one.
pub fn step_at(form: CodeForm, now_unix_ms: i64) -> u64 {
    u64::try_from(now_unix_ms).unwrap_or(0) / 1000 / form.period_seconds()
}

/// A code in ASCII, padded with NUL to the longest code, as [`PresentedCode::expose_padded`] is.
///
/// `digits` is 6 to 8, which [`CodeForm`] has made sure of; a larger number is cut to what fits.
pub fn hotp(seed: &Secret, algorithm: CodeAlgorithm, counter: u64, digits: u8) -> [u8; PresentedCode::LONGEST] {
    let mut rest = truncated(seed, algorithm, counter);
    let mut code = [0; PresentedCode::LONGEST];
    for place in code.iter_mut().take(usize::from(digits)).rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    code
}

/// Dynamic truncation, RFC 4226 section 5.3; the longer hashes of RFC 6238 by the same rule, from their last octet.
fn truncated(seed: &Secret, algorithm: CodeAlgorithm, counter: u64) -> u32 {
    match algorithm {
        CodeAlgorithm::Sha1 => truncate(mac::<Hmac<sha1::Sha1>>(seed, counter).as_ref()),
        CodeAlgorithm::Sha256 => truncate(mac::<Hmac<sha2::Sha256>>(seed, counter).as_ref()),
        CodeAlgorithm::Sha512 => truncate(mac::<Hmac<sha2::Sha512>>(seed, counter).as_ref()),
    }
}

fn mac<M: Mac + KeyInit>(seed: &Secret, counter: u64) -> impl AsRef<[u8]> {
    let mut mac = <M as KeyInit>::new_from_slice(seed.expose()).expect("HMAC takes a key of any length");
    mac.update(&counter.to_be_bytes());
    mac.finalize().into_bytes()
}

fn truncate(hash: &[u8]) -> u32 {
    let offset = usize::from(hash.last().expect("a hash is not empty") & 0x0f);
    let four: [u8; 4] =
        hash[offset..offset + 4].try_into().expect("the shortest hash has 20 octets, offset 15 + 4 fits");
    u32::from_be_bytes(four) & 0x7fff_ffff
}
