//! Codes that are made here: sent to a phone, or printed once (V-17, FV-09). `fill` gives randomness fit for keys.

use domain::Secret;
use domain::presented::PresentedRecovery;
use zeroize::Zeroizing;

/// The source of randomness failed, or gave what no code can be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no randomness for a code")]
pub struct NoRandomness;

/// So many random octets are drawn at once; each gives a sign with a chance of 250 in 256 or better.
const DRAWN: usize = 64;
/// Draws after which a source that gives nothing usable is given up.
const DRAWS_MAX: usize = 8;

/// A code of `length` decimal digits, each as likely as any other.
pub fn digits<E>(length: usize, fill: impl FnMut(&mut [u8]) -> Result<(), E>) -> Result<Secret, NoRandomness> {
    signs(b"0123456789", length, fill)
}

/// A recovery code: ten signs without those that look alike.
pub fn recovery_code<E>(fill: impl FnMut(&mut [u8]) -> Result<(), E>) -> Result<Secret, NoRandomness> {
    signs(PresentedRecovery::ALPHABET, PresentedRecovery::LENGTH, fill)
}

fn signs<E>(
    alphabet: &[u8],
    length: usize,
    mut fill: impl FnMut(&mut [u8]) -> Result<(), E>,
) -> Result<Secret, NoRandomness> {
    // What is left of 256 after whole rounds of the alphabet is thrown away: it would favour the first signs.
    let fair = 256 / alphabet.len() * alphabet.len();
    let mut code = Zeroizing::new(Vec::with_capacity(length));
    let mut drawn = Zeroizing::new([0; DRAWN]);
    for _ in 0..DRAWS_MAX {
        fill(&mut *drawn).map_err(|_| NoRandomness)?;
        let usable = drawn.iter().map(|octet| usize::from(*octet)).filter(|octet| *octet < fair);
        let missing = length - code.len();
        code.extend(usable.take(missing).map(|octet| alphabet[octet % alphabet.len()]));
        if code.len() == length {
            return Ok(Secret::new(code.to_vec()));
        }
    }
    Err(NoRandomness)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sign_is_as_likely_as_any_other() {
        // V-17: over all octets, each of ten digits comes 25 times; 250 to 255 are thrown away
        let mut next = 0_u8;
        let mut seen = [0; 10];
        for _ in 0..250 / 10 {
            let code = digits(10, |octets| {
                for octet in octets.iter_mut() {
                    *octet = next;
                    next = next.wrapping_add(1);
                }
                next = next.wrapping_sub(54);
                Ok::<(), ()>(())
            });
            for digit in code.expect("made").expose() {
                seen[usize::from(digit - b'0')] += 1;
            }
        }
        assert_eq!(seen, [25; 10]);
        let only_unfair = digits(6, |octets| {
            octets.fill(255);
            Ok::<(), ()>(())
        });
        assert!(only_unfair.is_err(), "a source that gives nothing usable ends");
        assert!(digits(6, |_| Err("no entropy")).is_err());
    }

    #[test]
    fn a_recovery_code_reads_back_as_itself() {
        // FV-09
        let code = recovery_code(|octets| {
            for (place, octet) in octets.iter_mut().enumerate() {
                *octet = (place as u8).wrapping_mul(31);
            }
            Ok::<(), ()>(())
        })
        .expect("made");
        assert_eq!(code.len(), 10);
        let read = PresentedRecovery::parse(code.expose()).expect("a recovery code");
        assert!(read.expose() == &code);
    }
}
