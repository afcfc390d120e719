//! The same with a real directory and a real client: slapd over LDAPS, radclient.

use crate::support::*;
use lab::{Pki, Slapd, SlapdOptions};
use proto::user_store::PasswordOutcome;
use radius_gateway::{Deps, Nodes};
use std::collections::HashMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

#[tokio::test]
async fn radclient_logs_in_with_a_code_behind_the_password_and_the_directory_sees_one_bind() {
    // R-64, R-11: an independent client verifies what we sign
    let dir = tempfile::tempdir().expect("a temporary directory");
    let pki = Pki::new(dir.path()).expect("certificates");
    let slapd =
        Slapd::start(dir.path(), &pki, &SlapdOptions::default()).expect("slapd is installed: tests/lab/install.sh");
    let document = serde_json::json!({
        "directory": [{
            "name": "acme", "preset": "openldap", "urls": [slapd.ldaps_url()], "base": lab::COMPANY_BASE,
            "query_bind": { "kind": "tls", "name": Slapd::QUERY_DN, "password": "keep" },
            "ca": std::fs::read_to_string(slapd.ca_file()).expect("the CA"),
            "lockout_guard": { "wrong_passwords": 3, "window_minutes": 30 },
        }],
        "client": [{
            "name": "vpn", "protocol": "radius", "sources": ["127.0.0.1/32"], "target": "acme", "secret": "keep",
            "appended": "required",
        }],
    });
    let secrets = HashMap::from([
        ("directory.acme.query_bind.password".to_owned(), Slapd::QUERY_PASSWORD.as_bytes().to_vec()),
        ("client.vpn.secret".to_owned(), SECRET.as_bytes().to_vec()),
    ]);
    let clock = service_kit::Clock::system();
    let verification = FakeVerification::new(clock.clone());
    let store = FakeStore::new(serde_json::from_value(document).expect("valid settings"), secrets);
    let password_tries = Arc::new(FakePasswordTries::default());
    let deps = Deps {
        verification,
        settings: store.clone(),
        fail_open: Arc::new(FakeFailOpen::default()),
        password_tries: password_tries.clone(),
        store,
        bus: Arc::new(FakeBus::default()),
        nodes: Nodes::One,
        clock,
    };
    let node = Node::start(deps, section()).await;
    until("it is ready", async || node.process.health().is_ready()).await;

    let password = lab::password_of("ann.archer");
    let login = |name: &'static str, password: String| {
        let gateway = node.address;
        tokio::task::spawn_blocking(move || radclient(gateway, name, &password))
    };
    let said = login("ann.archer", format!("{password},{CODE}")).await.expect("radclient ran");
    assert!(said.contains("Received Access-Accept"), "{said}");
    assert_eq!(slapd.binds("ann.archer"), 1);
    let said = login("ann.archer", format!("{password},{CODE}")).await.expect("radclient ran");
    assert!(said.contains("Received Access-Reject") && said.contains("Sign-in failed. Ref "), "{said}");
    assert_eq!(slapd.binds("ann.archer"), 2);
    let said = login("ann.archer@acme.example", format!("wrong,{SECOND_CODE}")).await.expect("radclient ran");
    assert!(said.contains("Received Access-Reject"), "{said}");
    assert_eq!(slapd.binds("ann.archer"), 3);
    for (name, password) in [("ann.archer", password.clone()), ("nobody", format!("{password},{CODE}"))] {
        let said = login(name, password).await.expect("radclient ran");
        assert!(said.contains("Received Access-Reject"), "{said}");
    }
    assert_eq!(slapd.binds("ou=people"), 3, "none without a code or without an account");
    let said =
        login("uid=ann.archer,ou=engineering,ou=people,dc=acme,dc=example", format!("{password},{SECOND_CODE}")).await;
    assert!(said.expect("radclient ran").contains("Received Access-Accept"));

    // L-56: what each was told of, and that none goes to the directory which might lock the account
    until("all are told", async || password_tries.settled().len() == 4).await;
    assert_eq!(password_tries.settled().iter().filter(|outcome| **outcome == PasswordOutcome::Wrong).count(), 1);
    let binds = slapd.binds("ann.archer");
    password_tries.exhausted(true);
    let said = login("ann.archer", format!("{password},{SECOND_CODE}")).await.expect("radclient ran");
    assert!(said.contains("Received Access-Reject"), "{said}");
    assert_eq!(slapd.binds("ann.archer"), binds);
}

fn radclient(gateway: std::net::SocketAddr, name: &str, password: &str) -> String {
    let mut radclient = Command::new(lab::program("radclient").expect("radclient is installed: tests/lab/install.sh"))
        .args(["-x", "-r", "1", "-t", "5", &gateway.to_string(), "auth", SECRET])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let request = format!("User-Name = \"{name}\"\nUser-Password = \"{password}\"\nMessage-Authenticator = 0x00\n");
    radclient.stdin.take().expect("piped").write_all(request.as_bytes()).expect("it reads");
    let output = radclient.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
