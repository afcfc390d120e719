//! Who says that a callback is Twilio's: X-Twilio-Signature, HMAC-SHA1 over the address as called and the form.

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use domain::Secret;
use hmac::{Hmac, KeyInit, Mac};
use proto::verification::CallbackRequest;
use sha1::Sha1;

const FIELDS_MAX: usize = 64;

/// The fields of the form, in the order of their names, if the provider signed them and the address.
pub fn proven_fields(
    request: &CallbackRequest,
    signature: Option<&str>,
    secret: &Secret,
) -> Option<Vec<(String, String)>> {
    let claimed = BASE64.decode(signature?.as_bytes()).ok()?;
    let mut fields = form(&request.body)?;
    fields.sort();
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.expose()).ok()?;
    mac.update(request.url.as_bytes());
    for (name, value) in &fields {
        mac.update(name.as_bytes());
        mac.update(value.as_bytes());
    }
    mac.verify_slice(&claimed).ok()?;
    Some(fields)
}

/// `application/x-www-form-urlencoded`
fn form(body: &[u8]) -> Option<Vec<(String, String)>> {
    let body = std::str::from_utf8(body).ok()?;
    let pairs = body.split('&').filter(|pair| !pair.is_empty());
    let fields: Option<Vec<_>> = pairs
        .take(FIELDS_MAX + 1)
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decoded(name)?, decoded(value)?))
        })
        .collect();
    fields.filter(|fields| fields.len() <= FIELDS_MAX)
}

fn decoded(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                HEXLOWER_PERMISSIVE.decode(&digits).ok()?[0]
            }
            octet => octet,
        });
    }
    String::from_utf8(octets).ok()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A form and its signature, as Twilio would send them.
    pub fn signed(url: &str, token: &str, fields: &[(&str, &str)]) -> (String, String) {
        let mut sorted = fields.to_vec();
        sorted.sort_unstable();
        let mut mac = Hmac::<Sha1>::new_from_slice(token.as_bytes()).expect("any length");
        mac.update(url.as_bytes());
        sorted.iter().for_each(|(name, value)| mac.update(format!("{name}{value}").as_bytes()));
        let body: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", value.replace('+', "%2B").replace(' ', "+")))
            .collect();
        (body.join("&"), BASE64.encode(&mac.finalize().into_bytes()))
    }

    fn request(url: &str, body: &str) -> CallbackRequest {
        CallbackRequest { url: url.into(), body: body.into(), ..CallbackRequest::default() }
    }

    #[test]
    fn the_published_example_verifies_and_nothing_beside_it() {
        // V-18: the example of Twilio's own libraries
        const URL: &str = "https://mycompany.com/myapp.php?foo=1&bar=2";
        const BODY: &str =
            "To=%2B18005551212&CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&From=%2B14158675309";
        const SIGNATURE: &str = "RSOYDt4T1cUTdK1PDd93/VVr8B8=";
        let proven = |url: &str, body: &str, signature: Option<&str>, token: &str| {
            proven_fields(&request(url, body), signature, &token.into()).is_some()
        };
        assert!(proven(URL, BODY, Some(SIGNATURE), "12345"));
        assert!(!proven(&URL.replace("https", "http"), BODY, Some(SIGNATURE), "12345"));
        assert!(!proven("https://mycompany.com/myapp.php", BODY, Some(SIGNATURE), "12345"));
        assert!(!proven(URL, &BODY.replace("1234&", "1235&"), Some(SIGNATURE), "12345"));
        assert!(!proven(URL, &format!("{BODY}&x=y"), Some(SIGNATURE), "12345"));
        assert!(!proven(URL, BODY, Some(SIGNATURE), "12346"));
        assert!(!proven(URL, BODY, Some("RSOYDt4T1cUTdK1PDd93"), "12345"));
        assert!(!proven(URL, BODY, Some(""), "12345"));
        assert!(!proven(URL, BODY, None, "12345"));
    }

    #[test]
    fn forms_are_read_whole_or_not_at_all() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(form(b"a=%2B1+2&b"), Some(vec![pair("a", "+1 2"), pair("b", "")]));
        assert_eq!(form(b""), Some(vec![]));
        for bad in [&b"a=%"[..], b"a=%4", b"a=%zz", b"a=%ff", &[0xff]] {
            assert_eq!(form(bad), None);
        }
        assert_eq!(form("a=b&".repeat(FIELDS_MAX + 1).as_bytes()), None);
    }
}
