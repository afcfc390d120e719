//! What vendors that speak as Twilio does share, texts and calls alike: `X-Twilio-Signature`, HMAC-SHA1 under the account's token over
//! the address as it was called, and the fields of the form, sorted and joined. SHA-1 is the protocol's choice; as an HMAC it is not
//! broken.

use data_encoding::BASE64;
use domain::Secret;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use std::collections::HashMap;

/// Was it signed by who knows the secret? Compared in constant time.
pub fn is_signed(secret: &Secret, url: &str, form: &HashMap<String, String>, signature: &str) -> bool {
    let Ok(signature) = BASE64.decode(signature.as_bytes()) else { return false };
    mac(secret, url, form).verify_slice(&signature).is_ok()
}

fn mac(secret: &Secret, url: &str, form: &HashMap<String, String>) -> Hmac<Sha1> {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.expose()).expect("HMAC takes a key of any length");
    mac.update(url.as_bytes());
    let mut fields: Vec<_> = form.iter().collect();
    fields.sort();
    for (name, value) in fields {
        mac.update(name.as_bytes());
        mac.update(value.as_bytes());
    }
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form() -> HashMap<String, String> {
        [
            ("CallSid", "CA1234567890ABCDE"),
            ("Caller", "+14158675309"),
            ("Digits", "1234"),
            ("From", "+14158675309"),
            ("To", "+18005551212"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    const URL: &str = "https://mycompany.com/myapp.php?foo=1&bar=2";

    #[test]
    fn the_vendors_own_example_is_signed_and_nothing_near_it_is() {
        // V-18. The example stands in the vendor's documentation ("Validating Signatures from Twilio").
        let (secret, signature) = (Secret::from("12345"), "RSOYDt4T1cUTdK1PDd93/VVr8B8=");
        assert!(is_signed(&secret, URL, &form(), signature));
        assert!(!is_signed(&"12346".into(), URL, &form(), signature));
        assert!(!is_signed(&secret, "https://mycompany.com/myapp.php?foo=1&bar=3", &form(), signature));
        let mut other = form();
        other.insert("Digits".into(), "1235".into());
        assert!(!is_signed(&secret, URL, &other, signature));
        other = form();
        other.insert("More".into(), String::new());
        assert!(!is_signed(&secret, URL, &other, signature));
        for bad in ["", "RSOYDt4T1cUTdK1PDd93/VVr8B8", "RSOYDt4T", "not base64!", "AAAA"] {
            assert!(!is_signed(&secret, URL, &form(), bad), "{bad}");
        }
    }
}
