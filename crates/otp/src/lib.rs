//! One-time codes of an authenticator app or token: HOTP (RFC 4226), TOTP (RFC 6238), seeds and how an app learns them.
//!
//! Pure: time and randomness are arguments. What a match is worth (throttle, replay mark, decision) is not decided here.

mod counted;
pub mod import;
mod matching;
mod random;
mod resync;
mod seed;
mod timed;

pub use counted::{BEHIND, LOOK_AHEAD, verify_counted};
pub use domain::PresentedCode;
pub use matching::Verdict;
pub use random::{NoRandomness, digits, recovery_code};
pub use resync::{RESYNC_WINDOW, first_of_row, resync_counted, resync_timed, second_of_row};
pub use seed::{base32, generate_seed, otpauth_uri};
pub use timed::{DRIFT_MAX, WINDOW, learned_drift, step_at, verify};

use domain::{CodeAlgorithm, Secret};
use hmac::{Hmac, KeyInit, Mac};

/// A code in ASCII, padded with NUL to the longest code, as [`PresentedCode::expose_padded`] is.
///
/// `digits` is 6 to 8, which [`domain::CodeForm`] has made sure of; a larger number is cut to what fits.
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
