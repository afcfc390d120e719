//! HTTPS to providers: one client a configuration, no redirects, answers with a bound, private authorities as PEM text.

use super::ask::{Kind, Refusal};
use reqwest::{Client, Response, redirect::Policy};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_MAX: usize = 8;
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// No trust can be made of it. The administrator's to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    #[error("its ca is no PEM text with certificates")]
    BadAuthority,
    #[error("this system has no trusted certificates; name a ca")]
    NoRoots,
}

/// What the process speaks. An empty `ca` means the roots of this system; otherwise the private authority alone.
pub fn trust(ca: &str) -> Result<Arc<ClientConfig>, TrustError> {
    let mut roots = RootCertStore::empty();
    if ca.is_empty() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    } else {
        for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
            let certificate = certificate.map_err(|_| TrustError::BadAuthority)?;
            roots.add(certificate).map_err(|_| TrustError::BadAuthority)?;
        }
    }
    if roots.is_empty() {
        return Err(if ca.is_empty() { TrustError::NoRoots } else { TrustError::BadAuthority });
    }
    let config = ClientConfig::builder_with_provider(service_kit::tls::provider())
        .with_safe_default_protocol_versions()
        .expect("what the process speaks has a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// A client for one provider. Times are the caller's: a request that is dropped is over.
pub fn client(ca: &str) -> Result<Client, TrustError> {
    let tls = ClientConfig::clone(&*trust(ca)?);
    let client = Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(Policy::none())
        // A code takes no way that the settings do not name.
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_max_idle_per_host(IDLE_MAX)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .user_agent(concat!("Twinlock/", env!("CARGO_PKG_VERSION")))
        .build();
    Ok(client.expect("nothing of it depends on input but the authority, which is checked"))
}

/// The answer's body; none if it is longer than `bytes_max`.
pub async fn body(mut response: Response, bytes_max: usize) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > bytes_max {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// `application/x-www-form-urlencoded`.
pub fn form<'f>(fields: impl IntoIterator<Item = (&'f str, &'f str)>) -> String {
    let mut body = String::new();
    for (name, value) in fields {
        if !body.is_empty() {
            body.push('&');
        }
        percent_encode(name, &mut body);
        body.push('=');
        percent_encode(value, &mut body);
    }
    body
}

/// The same, read. Twice the same field: the last.
pub fn read_form(body: &[u8]) -> Option<HashMap<String, String>> {
    let body = std::str::from_utf8(body).ok()?;
    let mut url = reqwest::Url::parse("http://form/").expect("a constant");
    url.set_query(Some(body));
    Some(url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
}

/// All but the unreserved signs (RFC 3986 section 2.3).
pub fn percent_encode(value: &str, into: &mut String) {
    for octet in value.bytes() {
        match octet {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => into.push(octet.into()),
            octet => write!(into, "%{octet:02X}").expect("a string takes everything"),
        }
    }
}

/// Why no answer came, without the address: that may hold a number or a secret.
pub fn refusal(error: reqwest::Error) -> Refusal {
    let (kind, detail) = if error.is_timeout() {
        (Kind::Late, "no answer in time")
    } else if error.is_connect() {
        (Kind::Unreachable, "no connection, or no trust in its certificate")
    } else if error.is_builder() || error.is_request() && error.status().is_none() && error.url().is_none() {
        (Kind::Misconfigured, "the request cannot be made")
    } else {
        (Kind::Unreachable, "the connection broke")
    };
    Refusal::new(kind, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_as_it_was_written() {
        let fields = [("To", "+4930901820"), ("Digits", "#"), ("B&d", "https://a/b?c=d&e=f g"), ("Empty", "")];
        let written = form(fields);
        assert_eq!(written, "To=%2B4930901820&Digits=%23&B%26d=https%3A%2F%2Fa%2Fb%3Fc%3Dd%26e%3Df%20g&Empty=");
        let read = read_form(written.as_bytes()).expect("read");
        assert!(fields.iter().all(|(name, value)| read[*name] == *value) && read.len() == fields.len());
        assert_eq!(read_form(b"a=b+c").expect("read")["a"], "b c");
        assert!(read_form(&[0xff]).is_none());
    }

    #[test]
    fn an_authority_that_is_none_is_refused() {
        for bad in ["hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", " "] {
            assert_eq!(trust(bad).err(), Some(TrustError::BadAuthority), "{bad:?}");
        }
    }
}
