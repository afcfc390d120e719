//! SASL from clients (L-36): PLAIN as the simple bind that it is, EXTERNAL by certificate; and certificates besides (FL-22, L-22).

use crate::support::{Call, Lab, Wanted, Wire, capture, client, comparable, service_account, showing, trusting, until};
use anyhow::{Context, Result};
use domain::settings::{Client, ClientCertificate, ClientTls, SecretSource, ServiceAccount};
use lab::{COMPANY_BASE, Pki, Slapd, password_of};
use ldap_wire::{
    Authentication, BindRequest, Filter, LdapResult, Op, Password, ResultCode, Scope, SearchRequest, SearchResultEntry,
};
use std::process::{Command, Output};
use std::sync::Arc;

const ANN: &str = "ann.archer";

fn with_code(code: &str) -> String {
    format!("{},{code}", password_of(ANN))
}

async fn output(mut command: Command) -> Result<Output> {
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}

/// `ldapwhoami` by this mechanism, over this URL.
fn who_am_i(lab: &Lab, url: &str, mechanism: &str) -> Command {
    let mut command = Command::new(lab::program("ldapwhoami").expect("ldap-utils is installed"));
    command.env("LDAPTLS_CACERT", lab.pki.ca_file()).args(["-Q", "-N", "-O", "none", "-H", url, "-Y", mechanism]);
    command
}

async fn sasl(wire: &mut Wire, name: &str, mechanism: &str, credentials: Option<&str>) -> Result<u32> {
    let id = wire.next_id();
    let credentials = credentials.map(|text| Password::new(text.as_bytes()));
    let authentication = Authentication::Sasl { mechanism: mechanism.into(), credentials };
    let request = BindRequest { version: BindRequest::VERSION, name: name.to_owned().into(), authentication };
    wire.send(&request.encode(id, &[])).await?;
    let answer = wire.receive().await?;
    anyhow::ensure!(answer.id() == id && answer.op() == Op::BindResponse, "{answer:?}");
    Ok(LdapResult::decode(&answer)?.code.0)
}

/// What the RootDSE offers on this connection.
async fn mechanisms(wire: &mut Wire) -> Result<Vec<String>> {
    let root = SearchRequest::new("", Scope::Base, &Filter::present("objectClass"), &["supportedSASLMechanisms"]);
    let answer = wire.search(&root, &[]).await?;
    let entry = SearchResultEntry::decode(answer.first().context("the root has an entry")?)?;
    let text = |value: &bytes::Bytes| String::from_utf8_lossy(value).into_owned();
    Ok(entry.values("supportedSASLMechanisms").iter().map(text).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_goes_the_way_of_a_simple_bind() -> Result<()> {
    // L-36, FL-17, L-34: the same names, codes, gate and answers; the name beside it counts for nothing (RFC 4513 section 5.2)
    let plain = Client { sasl_plain: true, tls: ClientTls::DangerOptional, ..client("plain") };
    let lab = Lab::start(Wanted { client: plain, ..Wanted::default() }).await?;
    lab.gateway.verification.enrol(ANN, &["111111", "222222", "333333", "444444", "555555"]);
    let me = format!("dn:{}", lab.person(ANN));
    let url = lab.gateway.ldaps_url();
    for (name, code, authorization) in [(ANN, "111111", None), (&*lab.person(ANN), "222222", Some(me.as_str()))] {
        let mut command = who_am_i(&lab, &url, "PLAIN");
        command.args(["-U", name, "-w", &with_code(code)]);
        if let Some(authorization) = authorization {
            command.args(["-X", authorization]);
        }
        let seen = output(command).await?;
        assert_eq!(String::from_utf8_lossy(&seen.stdout).trim_end(), me, "{seen:?}");
    }
    let mut wire = lab.connect().await?;
    assert_eq!(mechanisms(&mut wire).await?, ["PLAIN"]);
    let good = format!("\0{ANN}\0{}", with_code("333333"));
    assert_eq!(sasl(&mut wire, "uid=somebody,dc=else", "PLAIN", Some(&good)).await?, 0);
    assert_eq!(wire.who_am_i().await?, Ok(me));
    let binds = lab.client_binds();
    assert_eq!(binds, 3);

    // A spent code and a wrong password are the same octets by either way, and the client is nobody then.
    let spent = wire.bind_answer(ANN, &with_code("333333")).await?;
    for credentials in [good.clone(), format!("\0{ANN}\0wrong,444444"), "\0nobody\0wrong,444444".into()] {
        let id = wire.next_id();
        let authentication = Authentication::Sasl {
            mechanism: "PLAIN".into(),
            credentials: Some(Password::new(credentials.as_bytes())),
        };
        let request = BindRequest { version: BindRequest::VERSION, name: bytes::Bytes::new(), authentication };
        wire.send(&request.encode(id, &[])).await?;
        let answer = wire.receive().await?;
        assert_eq!(comparable(&answer), comparable(&spent), "{credentials:?}");
        assert_eq!(wire.who_am_i().await?, Err(50));
    }

    // Nothing of this reaches the directory, nor verification.
    let (binds, calls) = (lab.client_binds(), lab.gateway.verification.calls().len());
    for (credentials, code) in [
        (None, 2),
        (Some(format!("{ANN}\0{}", with_code("444444"))), 2),
        (Some(format!("\0{ANN}\0")), 53),
        (Some("\0\0".to_owned()), 53),
        (Some("\0\0secret".to_owned()), 49),
        (Some(format!("ben.baker\0{ANN}\0{}", with_code("444444"))), 49),
    ] {
        assert_eq!(sasl(&mut wire, "", "PLAIN", credentials.as_deref()).await?, code, "{credentials:?}");
    }
    assert_eq!(sasl(&mut wire, "", "EXTERNAL", None).await?, 7);
    let mut clear = lab.gateway.connect_plain().await?;
    assert_eq!(mechanisms(&mut clear).await?, Vec::<String>::new());
    let good = format!("\0{ANN}\0{}", with_code("444444"));
    assert_eq!(sasl(&mut clear, "", "PLAIN", Some(&good)).await?, ResultCode::CONFIDENTIALITY_REQUIRED.0);
    assert_eq!(lab.client_binds(), binds);
    let asked = |call: &&Call| !matches!(call, Call::Report { .. });
    assert_eq!(lab.gateway.verification.calls().iter().skip(calls).find(asked), None);
    // Each was an attempt, of whom PLAIN names.
    let lines = capture::authentications("plain");
    assert!(lines.iter().any(|line| line["reply"] == 53), "{lines:?}");

    // Without the danger key's help nothing changes: the code is still good, once there is TLS.
    assert_eq!(sasl(&mut lab.connect().await?, "", "PLAIN", Some(&good)).await?, 0);
    Ok(())
}

const GITLAB: &str = "dns:gitlab.acme.example";

/// GitLab's account, which its certificate logs in.
fn external() -> ServiceAccount {
    ServiceAccount {
        certificates: vec![GITLAB.into()],
        password: Some(SecretSource::Keep),
        ..service_account(Slapd::GITLAB_DN)
    }
}

/// A client of the gateway with a certificate for this host.
fn with_certificate(lab: &Lab, host: &str) -> Result<Arc<rustls::ClientConfig>> {
    showing(&lab.pki.ca_file(), &lab.pki.issue(host, &[host])?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_logs_in_the_service_account_that_lists_it() -> Result<()> {
    // L-36, D11, L-22, L-34: one bind, as the account itself; by its id, whatever it is called; never anybody else
    let client = Client { service_accounts: vec![external()], ..client("external") };
    let lab = Lab::start(Wanted { client, ..Wanted::default() }).await?;
    until("the id of the account to be found", || !lab.gateway.settings.pinned().is_empty()).await?;
    let own = lab.pki.issue("gitlab", &["gitlab.acme.example"])?;
    let mut command = who_am_i(&lab, &lab.gateway.ldaps_url(), "EXTERNAL");
    command.env("LDAPTLS_CERT", &own.certificate).env("LDAPTLS_KEY", &own.key);
    let gitlab = showing(&lab.pki.ca_file(), &own)?;
    let mut wire = lab.gateway.connect_tls(&gitlab).await?;
    assert_eq!(mechanisms(&mut wire).await?, ["EXTERNAL"]);
    // The id that was found is in force.
    lab.gateway.change_settings(|_| {}).await?;
    lab.gateway.verification.forget_calls();
    let seen = output(command).await?;
    assert_eq!(String::from_utf8_lossy(&seen.stdout), format!("dn:{}\n", Slapd::GITLAB_DN), "{seen:?}");
    assert_eq!((lab.slapd.binds(Slapd::GITLAB_DN), lab.client_binds()), (1, 1));
    let calls = lab.gateway.verification.calls();
    assert!(matches!(&calls[..], [Call::Begin { service_account: true, passed: true, code: false, .. }]), "{calls:?}");

    // What the account may, and no more than it may: the directory knows it as itself.
    assert_eq!(sasl(&mut wire, "uid=somebody,dc=else", "EXTERNAL", None).await?, 0);
    assert_eq!(wire.search_code(COMPANY_BASE, Scope::Base).await?, (0, 1));

    // Nobody else's certificate, no certificate, and nobody else's name; the same octets as for a wrong password.
    let binds = lab.client_binds();
    let refused = {
        let mut wire = lab.connect().await?;
        wire.next_id();
        comparable(&wire.bind_answer("nobody", "wrong,123456").await?)
    };
    let other = with_certificate(&lab, "other.acme.example")?;
    for tls in [&other, &lab.tls] {
        let mut wire = lab.gateway.connect_tls(tls).await?;
        let id = wire.next_id();
        let authentication = Authentication::Sasl { mechanism: "EXTERNAL".into(), credentials: None };
        let request = BindRequest { version: BindRequest::VERSION, name: bytes::Bytes::new(), authentication };
        wire.send(&request.encode(id, &[])).await?;
        assert_eq!(comparable(&wire.receive().await?), refused);
        assert_eq!(wire.who_am_i().await?, Err(50));
    }
    for authorization in ["dn:cn=admin,dc=acme,dc=example", "u:gitlab", Slapd::GITLAB_DN] {
        assert_eq!(sasl(&mut wire, "", "EXTERNAL", Some(authorization)).await?, 49, "{authorization}");
    }
    let stranger = tempfile::tempdir()?;
    let stranger = Pki::new(stranger.path())?.issue("gitlab", &["gitlab.acme.example"])?;
    let stranger = lab.gateway.connect_tls(&showing(&lab.pki.ca_file(), &stranger)?).await;
    if let Ok(mut wire) = stranger {
        assert!(wire.next().await?.is_none(), "a certificate of somebody else's authority");
    }
    assert_eq!(sasl(&mut lab.gateway.connect_plain().await?, "", "EXTERNAL", None).await?, 7);
    assert_eq!(lab.client_binds(), binds);

    // L-22: the listed account needs its certificate for its password, too.
    assert_eq!(lab.connect().await?.bind(Slapd::GITLAB_DN, Slapd::GITLAB_PASSWORD).await?, 49);
    let mut bound = lab.gateway.connect_tls(&gitlab).await?;
    assert_eq!(bound.bind(Slapd::GITLAB_DN, Slapd::GITLAB_PASSWORD).await?, 0);

    // It is the id that counts: another name is the same account, and another account of the old name is not.
    lab.slapd.modify(&format!("dn: {}\nchangetype: modrdn\nnewrdn: cn=git\ndeleteoldrdn: 1\n", Slapd::GITLAB_DN))?;
    lab.slapd.modify(&format!(
        "dn: {}\nchangetype: add\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: gitlab\nuserPassword: {}\n",
        Slapd::GITLAB_DN,
        Slapd::GITLAB_PASSWORD
    ))?;
    assert_eq!(sasl(&mut wire, "", "EXTERNAL", None).await?, 0);
    assert_eq!(wire.who_am_i().await?, Ok(format!("dn:cn=git,ou=service,{COMPANY_BASE}")));

    // From elsewhere it is no account; and whoever is bound by a certificate that is not listed any more has to go.
    let source = "127.0.0.7/32".parse()?;
    lab.gateway.change_settings(move |it| it.clients[0].service_accounts[0].sources = vec![source]).await?;
    wire.expect_notice(52).await?;
    assert_eq!(sasl(&mut lab.gateway.connect_tls(&gitlab).await?, "", "EXTERNAL", None).await?, 49);
    lab.gateway
        .change_settings(|it| {
            it.clients[0].service_accounts[0].sources.clear();
            it.clients[0].service_accounts[0].certificates = vec!["dns:new.acme.example".into()];
        })
        .await?;
    assert_eq!(sasl(&mut lab.gateway.connect_tls(&gitlab).await?, "", "EXTERNAL", None).await?, 49);
    assert!(!capture::text().contains(&format!("password={}", Slapd::GITLAB_PASSWORD)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_to_show_a_certificate_is_nobody_without() -> Result<()> {
    // FL-22: by LDAPS and by StartTLS; before it nothing but StartTLS is answered
    let client = Client { client_certificate: ClientCertificate::Required, ..client("shown") };
    let lab = Lab::start(Wanted { client, ..Wanted::default() }).await?;
    lab.gateway.verification.enrol(ANN, &["111111", "222222", "333333"]);
    let own = with_certificate(&lab, "app.acme.example")?;
    assert_eq!(lab.gateway.connect_tls(&own).await?.bind(ANN, &with_code("111111")).await?, 0);
    let closed = async |tls: &Arc<rustls::ClientConfig>| -> Result<bool> {
        match lab.gateway.connect_tls(tls).await {
            Ok(mut wire) => Ok(wire.next().await?.is_none()),
            Err(_) => Ok(true),
        }
    };
    assert!(closed(&lab.tls).await?);

    let start_tls = async || -> Result<Wire> {
        let mut wire = lab.gateway.connect_plain().await?;
        assert_eq!(wire.bind(ANN, &with_code("222222")).await?, 13);
        assert_eq!(wire.search_code("", Scope::Base).await?.0, 13);
        assert_eq!(wire.who_am_i().await?, Err(13));
        assert_eq!(wire.extended(&ldap_wire::ExtendedRequest::start_tls()).await?.result.code.0, 0);
        Ok(wire)
    };
    assert_eq!(start_tls().await?.into_tls(&own).await?.bind(ANN, &with_code("222222")).await?, 0);
    if let Ok(mut wire) = start_tls().await?.into_tls(&lab.tls).await {
        assert!(wire.next().await?.is_none(), "StartTLS without a certificate");
    }
    assert!(capture::text().contains(r#""drop":"certificate""#));

    // Where some are listed, only those count; whoever is connected without one has to go.
    let mut wire = lab.gateway.connect_tls(&own).await?;
    assert_eq!(wire.search_code("", Scope::Base).await?, (0, 1));
    lab.gateway.change_settings(|it| it.clients[0].certificates = vec!["dns:App2.acme.example".into()]).await?;
    wire.expect_notice(52).await?;
    assert!(closed(&own).await?);
    let listed = with_certificate(&lab, "app2.acme.example")?;
    assert_eq!(lab.gateway.connect_tls(&listed).await?.bind(ANN, &with_code("333333")).await?, 0);
    assert!(closed(&trusting(&lab.pki.ca_file())?).await?);
    Ok(())
}
