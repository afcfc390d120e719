//! `twinlock test radius|ldap`: plays the device or the application once, for real, and prints what happened when.

use super::{ask_secret, secret_from};
use crate::{
    failure::{Exit, Failure},
    output::Output,
};
use clap::Args;
use radius_wire::{Attribute, AttributeType, Code, Packet, Port, Request, RequestCode, Rule};
use serde_json::{Value, json};
use service_kit::{
    config::InputFile,
    tls::{ClientTls, TlsOptions, Trust},
};
use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::{net::UdpSocket, time::timeout};

#[derive(Debug, Clone, Args)]
pub struct RadiusTest {
    #[arg(long, default_value = "127.0.0.1:1812")]
    server: SocketAddr,
    #[arg(long)]
    user: String,
    /// The client's shared secret: a file, `-` = the first line of stdin.
    #[arg(long)]
    secret_file: PathBuf,
    /// The password, with the code appended where the client wants that: a file, `-` = a line of stdin.
    #[arg(long)]
    password_file: Option<PathBuf>,
    /// Sends no Message-Authenticator, as old devices do. A test that sends one teaches a client with message_authenticator =
    /// "auto" that its device does.
    #[arg(long)]
    no_message_authenticator: bool,
    /// How long to wait for an answer, in seconds.
    #[arg(long, default_value_t = 60)]
    wait: u64,
}

#[derive(Debug, Clone, Args)]
pub struct LdapTest {
    /// ldaps://HOST[:PORT], or ldap:// (StartTLS is used).
    #[arg(long)]
    server: String,
    /// The bind name, in any form the client accepts.
    #[arg(long)]
    user: String,
    #[arg(long)]
    password_file: Option<PathBuf>,
    /// The CA that signed the gateway's certificate; default: the system's.
    #[arg(long)]
    ca_file: Option<String>,
    #[arg(long, default_value_t = 60)]
    wait: u64,
}

/// What happened, with the milliseconds since the beginning.
struct Timeline {
    begin: Instant,
    steps: Vec<(u128, String)>,
}

impl Timeline {
    fn new() -> Self {
        Self { begin: Instant::now(), steps: Vec::new() }
    }

    fn step(&mut self, what: impl Into<String>) {
        self.steps.push((self.begin.elapsed().as_millis(), what.into()));
    }

    /// Prints it; a login that was refused ends with exit code 1.
    fn end(self, output: Output, accepted: bool) -> Result<(), Failure> {
        let steps: Vec<Value> = self.steps.iter().map(|(ms, what)| json!({ "ms": ms, "what": what })).collect();
        let text: Vec<String> = self.steps.iter().map(|(ms, what)| format!("{what} {ms} ms")).collect();
        output.text(&text.join(" · "), &json!({ "accepted": accepted, "steps": steps }));
        if accepted { Ok(()) } else { Err(Failure::no("the login was refused; `twinlock audit tail` says why")) }
    }
}

/// Sends the request, and the answer to every challenge, until Accept, Reject or silence.
pub async fn radius(test: RadiusTest, output: Output) -> Result<(), Failure> {
    let secret = secret_from(&test.secret_file, "shared secret")?;
    let secret =
        radius_wire::Secret::new(secret.expose()).ok_or_else(|| Failure::wrong_use("the shared secret is empty"))?;
    let mut typed = match &test.password_file {
        Some(file) => secret_from(file, "password")?,
        None => ask_secret("Password")?,
    };
    let local: SocketAddr = if test.server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(local).await.map_err(unreachable)?;
    socket.connect(test.server).await.map_err(unreachable)?;

    let mut timeline = Timeline::new();
    let mut state: Option<Vec<u8>> = None;
    loop {
        let text = typed.expose_str().ok_or_else(|| Failure::wrong_use("the password is not UTF-8"))?;
        let mut attributes = vec![
            Attribute { kind: AttributeType::USER_NAME, value: test.user.as_bytes() },
            Attribute { kind: AttributeType::NAS_IDENTIFIER, value: b"twinlock-test" },
        ];
        if let Some(state) = &state {
            attributes.push(Attribute { kind: AttributeType::STATE, value: state });
        }
        let mut authenticator = [0; 16];
        let mut identifier = [0; 1];
        let randomness = getrandom::fill(&mut authenticator).and_then(|()| getrandom::fill(&mut identifier));
        randomness.map_err(|error| Failure::no(format!("the system gives no randomness: {error}")))?;
        let request = Request {
            code: RequestCode::AccessRequest,
            identifier: identifier[0],
            authenticator,
            attributes: &attributes,
            password: Some(text),
        };
        let octets = match test.no_message_authenticator {
            true => request.write_unsigned(&secret),
            false => request.write(&secret),
        };
        let octets = octets.map_err(|error| Failure::wrong_use(error.to_string()))?;
        timeline.step("Access-Request sent");
        let reply = exchange(&socket, &octets, test.wait).await?;
        let packet = Packet::parse(&reply, Port::AuthenticationReplies)
            .and_then(|packet| radius_wire::verify_reply(&packet, &request.sent(), &secret, Rule::Yes).map(|()| packet))
            .map_err(|reason| {
                Failure::no(format!("the answer is not genuine ({reason}): is the shared secret right?"))
            })?;
        let messages: Vec<String> =
            packet.all(AttributeType::REPLY_MESSAGE).map(|text| String::from_utf8_lossy(text).into_owned()).collect();
        timeline.step(format!("{:?} {}", packet.code(), messages.join(" ")).trim().to_owned());
        match packet.code() {
            Code::AccessChallenge => {
                state = packet.first(AttributeType::STATE).map(<[u8]>::to_vec);
                typed = ask_secret(messages.first().map_or("Code", String::as_str))?;
            }
            code => return timeline.end(output, code == Code::AccessAccept),
        }
    }
}

/// The same octets every three seconds, as a NAS does, until something comes back.
async fn exchange(socket: &UdpSocket, octets: &[u8], wait_seconds: u64) -> Result<Vec<u8>, Failure> {
    let mut buffer = vec![0; 4096];
    for _ in 0..wait_seconds.div_ceil(3).max(1) {
        socket.send(octets).await.map_err(unreachable)?;
        match timeout(Duration::from_secs(3), socket.recv(&mut buffer)).await {
            Ok(Ok(length)) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Ok(Err(error)) => return Err(unreachable(error)),
            Err(_) => {}
        }
    }
    let text = "no answer: is this host one of the client's sources, the shared secret right and the server up? \
                The log of the radius-gateway names packets it dropped";
    Err(Failure::new(Exit::Unreachable, text))
}

fn unreachable(error: std::io::Error) -> Failure {
    Failure::new(Exit::Unreachable, format!("the RADIUS server cannot be reached: {error}"))
}

/// What most probably helps.
fn ldap_hint(text: &str) -> &'static str {
    if text.contains("UnknownIssuer") {
        return ". Which CA signed the gateway's certificate? --ca-file names it; one that `twinlock init` made for one machine is \
                signed by itself: tls/twinlock.pem";
    }
    let closed = ["eof", "reset by peer", "Broken pipe", "closed"];
    match closed.iter().any(|sign| text.contains(sign)) {
        true => {
            ". It hung up: is this host one of the client's sources? The log of the ldap-gateway names connections it refused"
        }
        false => "",
    }
}

/// Through the ldap3 library, an independent client: what it sees is what applications see.
pub async fn ldap(test: LdapTest, output: Output) -> Result<(), Failure> {
    let password = match &test.password_file {
        Some(file) => secret_from(file, "password")?,
        None => ask_secret("Password")?,
    };
    let password = password.expose_str().ok_or_else(|| Failure::wrong_use("the password is not UTF-8"))?;
    let trust = match &test.ca_file {
        Some(file) => Trust::Authority(InputFile::try_from(file.clone()).map_err(Failure::wrong_use)?),
        None => Trust::System,
    };
    let tls = ClientTls::load(trust, None, TlsOptions::default())
        .map_err(|error| Failure::wrong_use(crate::sentence(&error)))?;
    let settings = ldap3::LdapConnSettings::new()
        .set_conn_timeout(Duration::from_secs(10))
        .set_starttls(test.server.starts_with("ldap://"))
        .set_config(tls.current());
    let mut timeline = Timeline::new();
    let unreachable = |error: ldap3::LdapError| {
        let text = format!("{} cannot be reached: {}", test.server, crate::sentence(&error));
        let hint = ldap_hint(&text);
        Failure::new(Exit::Unreachable, text + hint)
    };
    let (connection, mut ldap) =
        ldap3::LdapConnAsync::with_settings(settings, &test.server).await.map_err(unreachable)?;
    let driver = tokio::spawn(connection.drive());
    timeline.step("connected, TLS ok");
    let bind = timeout(Duration::from_secs(test.wait), ldap.simple_bind(&test.user, password)).await;
    let result =
        bind.map_err(|_| Failure::new(Exit::Unreachable, "the bind was not answered in time"))?.map_err(unreachable)?;
    timeline.step(format!("BindResponse {} {}", result.rc, result.text).trim().to_owned());
    if result.rc == 0 {
        let who = ldap.extended(ldap3::exop::WhoAmI).await.map_err(unreachable)?.0;
        let name = who.val.map(|value| String::from_utf8_lossy(&value).into_owned()).unwrap_or_default();
        timeline.step(format!("Who am I: {name}"));
    }
    let _ = ldap.unbind().await;
    let _ = driver.await;
    timeline.end(output, result.rc == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use radius_wire::{Lesson, Rules};

    /// What a gateway would learn from the test's request.
    async fn taught(no_message_authenticator: bool) -> Lesson {
        let gateway = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("secret");
        std::fs::write(&file, "xyzzy5461").expect("written");
        let test = RadiusTest {
            server: gateway.local_addr().expect("bound"),
            user: "ann".into(),
            secret_file: file.clone(),
            password_file: Some(file),
            no_message_authenticator,
            wait: 5,
        };
        let mut octets = vec![0; 4096];
        let received = tokio::select! {
            ended = radius(test, Output::new(None)) => panic!("it has no answer yet: {ended:?}"),
            received = gateway.recv(&mut octets) => received.expect("a datagram"),
        };
        let secret = radius_wire::Secret::new("xyzzy5461").expect("not empty");
        let packet = Packet::parse(&octets[..received], Port::Authentication).expect("well formed");
        let rules = Rules { message_authenticator: Rule::Auto, limit_proxy_state: Rule::Auto };
        radius_wire::verify_request(packet, (&secret).into(), rules).expect("genuine").lesson()
    }

    #[tokio::test]
    async fn a_test_for_a_device_that_signs_nothing_does_not_teach_that_it_signs() {
        assert_eq!(taught(true).await, Lesson::NoOnceThePasswordIsAccepted);
        assert_eq!(taught(false).await, Lesson::Yes);
    }

    #[tokio::test]
    async fn a_gateway_that_hangs_up_and_an_unknown_ca_are_explained() {
        service_kit::tls::install_provider();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let server = format!("ldaps://localhost:{}", listener.local_addr().expect("bound").port());
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                drop(connection);
            }
        });
        let dir = tempfile::tempdir().expect("a folder");
        let (password, ca) = (dir.path().join("password"), dir.path().join("ca.pem"));
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        std::fs::write(&ca, made.cert.pem()).expect("written");
        std::fs::write(&password, "secret").expect("written");
        let test = LdapTest {
            server,
            user: "ann".into(),
            password_file: Some(password),
            ca_file: Some(ca.display().to_string()),
            wait: 5,
        };
        let failure = ldap(test, Output::new(None)).await.expect_err("it hangs up");
        assert!(failure.to_string().contains("one of the client's sources?"), "{failure}");
        let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer).to_string();
        assert!(ldap_hint(&unknown).contains("--ca-file"), "{unknown}");
        assert_eq!(ldap_hint("connection refused"), "");
    }
}
