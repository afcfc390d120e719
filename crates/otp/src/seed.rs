//! Seeds, and the text by which an authenticator app learns one.

use data_encoding::BASE32_NOPAD;
use domain::{CodeAlgorithm, CodeForm, Secret};
use zeroize::Zeroizing;

/// A new seed, as long as the hash (RFC 4226 section 4, R6; RFC 6238 section 5.1). `fill` gives randomness fit for keys.
pub fn generate_seed<E>(algorithm: CodeAlgorithm, fill: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Secret, E> {
    let length = match algorithm {
        CodeAlgorithm::Sha1 => 20,
        CodeAlgorithm::Sha256 => 32,
        CodeAlgorithm::Sha512 => 64,
    };
    let mut seed = vec![0; length];
    fill(&mut seed)?;
    Ok(Secret::new(seed))
}

/// Base32 without padding: what a person types where no camera is at hand (RFC 4648 section 6).
pub fn base32(seed: &Secret) -> Secret {
    Secret::from(BASE32_NOPAD.encode(seed.expose()))
}

/// `otpauth://totp/ISSUER:ACCOUNT?secret=...`: what the QR code says.
///
/// It holds the seed: shown once, stored and logged nowhere. The issuer stands in the label and as a parameter, because
/// apps read either.
pub fn otpauth_uri(seed: &Secret, form: CodeForm, issuer: &str, account: &str) -> Secret {
    let issuer = Zeroizing::new(percent_encoded(issuer));
    let account = Zeroizing::new(percent_encoded(account));
    let secret = base32(seed);
    // The parts that vary, the fixed text, and room for the numbers: no reallocation leaves a copy behind (V-33).
    let mut uri = String::with_capacity(issuer.len() * 2 + account.len() + secret.len() + 96);
    uri.push_str("otpauth://totp/");
    uri.push_str(&issuer);
    uri.push(':');
    uri.push_str(&account);
    uri.push_str("?secret=");
    uri.push_str(secret.expose_str().expect("Base32 is ASCII"));
    uri.push_str("&issuer=");
    uri.push_str(&issuer);
    uri.push_str("&algorithm=");
    uri.push_str(form.algorithm().code());
    uri.push_str(&format!("&digits={}&period={}", form.digits(), form.period_seconds()));
    Secret::from(uri)
}

/// Every octet but the unreserved ones of RFC 3986 section 2.3. A space is `%20`: apps show a `+` as it is.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() * 3);
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            encoded.push(octet as char);
        } else {
            encoded.push_str(&format!("%{octet:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(octets: &mut [u8]) -> Result<(), ()> {
        for (place, octet) in octets.iter_mut().enumerate() {
            *octet = place as u8;
        }
        Ok(())
    }

    #[test]
    fn a_seed_is_as_long_as_its_hash() {
        for (algorithm, length) in [(CodeAlgorithm::Sha1, 20), (CodeAlgorithm::Sha256, 32), (CodeAlgorithm::Sha512, 64)]
        {
            assert_eq!(generate_seed(algorithm, fixed).expect("filled").len(), length);
        }
        assert!(generate_seed(CodeAlgorithm::Sha1, |_| Err("no entropy")).is_err());
    }

    #[test]
    fn the_uri_carries_what_an_app_needs_and_escapes_what_people_are_called() {
        let seed = Secret::new(b"12345678901234567890".as_slice());
        let uri = otpauth_uri(&seed, CodeForm::COMMON, "Ex & Söhne", "ann:x@corp.example?a=b");
        assert_eq!(
            uri.expose_str().expect("ASCII"),
            "otpauth://totp/Ex%20%26%20S%C3%B6hne:ann%3Ax%40corp.example%3Fa%3Db\
             ?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Ex%20%26%20S%C3%B6hne&algorithm=SHA1&digits=6&period=30"
        );
    }

    #[test]
    fn the_uri_fits_its_first_buffer() {
        // V-33: a grown buffer would leave a copy of the seed behind
        let seed = generate_seed(CodeAlgorithm::Sha512, fixed).expect("filled");
        let form = CodeForm::new(CodeAlgorithm::Sha512, 8, 60).expect("valid");
        let (issuer, account) = ("C".repeat(64), "a".repeat(64));
        let uri = otpauth_uri(&seed, form, &issuer, &account);
        assert!(uri.len() <= issuer.len() * 2 + account.len() + base32(&seed).len() + 96);
    }
}
