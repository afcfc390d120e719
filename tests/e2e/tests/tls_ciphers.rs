//! The configuration narrows TLS for the whole process (FU-17): what OpenSSL is let do at every port that speaks it, and what a directory
//! is that speaks something else.

use anyhow::{Context, Result, ensure};
use e2e::{OneMachine, story};
use lab::{Certificate, Pki, Proc, company_settings, free_port, wait_until};
use std::{
    net::TcpStream,
    process::{Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

/// One of each version; the certificates here are all of ECDSA keys.
const LEFT: &str = "TLS_AES_256_GCM_SHA384,TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384";

/// What OpenSSL is told, and whether there is a connection then.
const OFFERS: [(&[&str], bool); 6] = [
    (&["-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"], true),
    (&["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"], false),
    (&["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"], false),
    (&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"], true),
    (&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"], false),
    (&["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"], false),
];

/// Whose address gets a handshake at the port of RadSec.
const SITE: &str = r#"
[[client]]
name = "site"
protocol = "radius"
transport = "tls"
certificates = ["dns:site.acme.example"]
sources = ["127.0.0.0/8"]
target = "acme"
"#;

/// Stopped in the order of its fields.
struct World {
    machine: OneMachine,
    radsec_port: u16,
    own: Certificate,
    dir: TempDir,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_configuration_leaves_of_tls_is_all_that_is_spoken() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("pki"))?;
    let own = pki.issue("twinlock", &["127.0.0.1"])?;
    let radsec_port = free_port();
    let set = [
        format!("tls.ciphers={LEFT}"),
        format!("radius.radsec_listen=127.0.0.1:{radsec_port}"),
        format!("radius.radsec_client_ca_file={}", pki.ca_file().display()),
        format!("radius.tls_certificate_file={}", own.certificate.display()),
        format!("radius.tls_key_file={}", own.key.display()),
    ];
    let machine = OneMachine::start(0, SITE, "", &set.each_ref().map(String::as_str))?;
    let mut world = World { machine, radsec_port, own, dir };
    story!(&mut world;
        a_suite_that_was_left_out_is_refused_at_every_port_and_the_others_work,
        a_directory_is_asked_by_what_is_left_and_by_nothing_else,
        with_tls_13_alone_there_is_no_12,
    )
}

async fn a_suite_that_was_left_out_is_refused_at_every_port_and_the_others_work(world: &mut World) -> Result<()> {
    for (place, port, arguments) in ports(world)? {
        for (offer, works) in OFFERS {
            let said = connect(world, port, &[arguments, offer].concat())?;
            ensure!(said.is_some() == works, "{place}, {offer:?}: {said:?}");
        }
    }
    Ok(())
}

async fn a_directory_is_asked_by_what_is_left_and_by_nothing_else(world: &mut World) -> Result<()> {
    let slapd = world.machine.slapd.ldap_url();
    let check = |world: &World| world.machine.command_line().output(&["check", "--connect", "-o", "table"], "");
    let said = String::from_utf8_lossy(&check(world)?.stdout).into_owned();
    ensure!(said.contains(&format!("directory acme: {slapd}: ok")), "{said}");
    for (suite, works) in [("TLS_AES_256_GCM_SHA384", true), ("TLS_CHACHA20_POLY1305_SHA256", false)] {
        let port = free_port();
        let mut command = Command::new("openssl");
        command.args(["s_server", "-quiet", "-tls1_3", "-ciphersuites", suite, "-accept", &port.to_string(), "-cert"]);
        command.arg(&world.own.certificate).arg("-key").arg(&world.own.key);
        let log = world.dir.path().join(format!("{suite}.log"));
        let _server = Proc::spawn("openssl", command, &log)?;
        wait_until("openssl to listen", Duration::from_secs(20), || TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        let ca = std::fs::read_to_string(world.dir.path().join("pki/ca.pem"))?;
        let theirs = std::fs::read_to_string(world.machine.slapd.ca_file())?;
        let settings = company_settings(&world.machine.slapd, SITE)?
            .replace(&slapd, &format!("ldaps://127.0.0.1:{port}"))
            .replace(&theirs, &ca);
        world.machine.command_line().apply(world.dir.path(), &settings)?;
        let said = String::from_utf8_lossy(&check(world)?.stdout).into_owned();
        // It is no directory in either case, but only one of them gets so far as to be asked.
        ensure!(said.contains("FAILED: ") && said.contains(&port.to_string()), "{said}");
        let heard = std::fs::read_to_string(&log)?;
        ensure!(heard.contains("no shared cipher") != works, "{suite}: {heard}, {said}");
    }
    Ok(())
}

async fn with_tls_13_alone_there_is_no_12(world: &mut World) -> Result<()> {
    let settings = company_settings(&world.machine.slapd, SITE)?;
    world.machine.command_line().apply(world.dir.path(), &settings)?;
    world.machine.twinlock.set("tls.minimum_version=1.3");
    world.machine.twinlock.restart()?;
    for (place, port, arguments) in ports(world)? {
        for (offer, works) in OFFERS {
            let said = connect(world, port, &[arguments, offer].concat())?;
            ensure!(said.is_some() == (works && offer[0] == "-tls1_3"), "{place}, {offer:?}: {said:?}");
        }
    }
    let log = world.machine.twinlock.log();
    ensure!(log.contains("tls.ciphers names suites of TLS 1.2, which tls.minimum_version leaves out"), "{log}");
    Ok(())
}

/// Where TLS is spoken, and what OpenSSL has to be told for that.
fn ports(world: &World) -> Result<[(&'static str, u16, &'static [&'static str]); 4]> {
    let twinlock = &world.machine.twinlock;
    let portal = twinlock.portal_url();
    let portal = portal.rsplit(':').next().and_then(|port| port.parse().ok()).context(portal.clone())?;
    Ok([
        ("LDAPS", twinlock.ldaps_port(), &[]),
        ("StartTLS", twinlock.ldap_port(), &["-starttls", "ldap"]),
        ("RadSec", world.radsec_port, &[]),
        ("portal", portal, &[]),
    ])
}

/// The suite that is spoken then, or nothing.
fn connect(world: &World, port: u16, arguments: &[&str]) -> Result<Option<String>> {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &format!("127.0.0.1:{port}")]).args(arguments);
    command.arg("-cert").arg(&world.own.certificate).arg("-key").arg(&world.own.key);
    let output = command.stdin(Stdio::null()).output().context("openssl")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let cipher = said.split_once("Cipher is ").with_context(|| said.clone())?.1;
    let cipher = cipher.lines().next().unwrap_or_default();
    Ok((cipher != "(NONE)").then(|| cipher.to_owned()))
}
