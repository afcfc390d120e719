//! An activation of an app that speaks the protocol of the privacyIDEA Authenticator: a QR code that holds all it needs.

use super::{Activation, open_activation, refused};
use crate::Service;
use crate::budget::Budget;
use crate::phone::pi::challenge::{endpoint, without_bars};
use crate::phone::pi::credential_hash;
use data_encoding::{HEXLOWER, HEXUPPER};
use domain::{Reason, Secret};
use proto::verification::{StartDeviceReply, StartDeviceRequest};
use tonic::Status;

pub async fn start(service: &Service, request: StartDeviceRequest, budget: Budget) -> Result<StartDeviceReply, Status> {
    let known = service.settings.known()?;
    let (true, Some(url)) = (known.settings.push.pi, endpoint(&known.portal_url)) else {
        return Ok(refused(Reason::NoUsableMethod));
    };
    let user = service.enabled_user(&request.user_id, budget).await?;
    // Tokens are found by their serial alone, so nobody must guess one.
    let serial = format!("TWLK{}", HEXUPPER.encode(&service.random::<8>()?));
    let credential = Secret::from(HEXLOWER.encode(&service.random::<20>()?));
    let server_key = service.phones.pi.keys.take().await.map_err(|error| {
        tracing::error!(error = %error, "a token cannot be enrolled");
        Status::internal(Reason::InternalError.code())
    })?;
    let code_hash = credential_hash(credential.expose_str().unwrap_or_default());
    let activation = Activation { kind: "pi", code_hash, serial: &serial, server_key: Some(server_key) };
    let opened = match open_activation(service, &request, activation, budget).await? {
        Ok(opened) => opened,
        Err(refused) => return Ok(refused),
    };
    let rules = &known.settings;
    let label = without_bars(&user.username);
    let uri = qr(&label, &url, rules.push.activation_minutes, &rules.portal.company, &credential, &serial);
    Ok(StartDeviceReply {
        device_id: opened.device_id,
        code: None,
        uri: Some(uri.into()),
        expires_unix_ms: opened.expires_unix_ms,
        ..StartDeviceReply::default()
    })
}

/// What the QR code says. `sslverify` is always on, and no push service is named: the app polls.
fn qr(label: &str, url: &str, minutes: u32, issuer: &str, credential: &Secret, serial: &str) -> Secret {
    let minutes = minutes.to_string();
    let mut text = format!("otpauth://pipush/{}?", escaped(label)).into_bytes();
    let pairs: [(&str, &[u8]); 8] = [
        ("url", &escaped(url).into_bytes()),
        ("ttl", minutes.as_bytes()),
        ("issuer", &escaped(&without_bars(issuer)).into_bytes()),
        ("enrollment_credential", credential.expose()),
        ("v", b"1"),
        ("serial", serial.as_bytes()),
        ("sslverify", b"1"),
        ("poll_only", b"True"),
    ];
    for (place, (name, value)) in pairs.iter().enumerate() {
        text.extend_from_slice(if place == 0 { b"" } else { b"&" });
        text.extend_from_slice(name.as_bytes());
        text.push(b'=');
        text.extend_from_slice(value);
    }
    Secret::new(text)
}

/// RFC 3986: everything but unreserved signs.
fn escaped(text: &str) -> String {
    let escape = |octet: u8| match octet {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(octet).to_string(),
        octet => format!("%{octet:02X}"),
    };
    text.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_qr_code_is_that_of_the_golden_vectors() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../../../../tests/vectors/pipush.json")).expect("JSON");
        let golden = vectors["qr"].as_str().expect("a text");
        let credential = vectors["enroll_request_form"]["enrollment_credential"].as_str().expect("one");
        let ours = qr("alice", "https://mfa.example.com/ttype/push", 10, "Example MFA", &credential.into(), "PIPU0001");
        // The other side leaves slashes as they are; both say the same.
        assert_eq!(ours.expose_str().expect("text").replace("%2F", "/"), golden);
    }

    #[test]
    fn names_are_escaped_and_have_no_bars() {
        let text = qr("a&b=ö", "https://x/push/pi", 10, "A|B & C", &"00".into(), "S");
        let text = text.expose_str().expect("text");
        assert!(text.starts_with(
            "otpauth://pipush/a%26b%3D%C3%B6?url=https%3A%2F%2Fx%2Fpush%2Fpi&ttl=10&issuer=AB%20%26%20C&"
        ));
    }
}
