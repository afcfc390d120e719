//! The gRPC service of this part, called directly as in one process.

use crate::support::{Lab, Wanted};
use anyhow::Result;
use lab::password_of;
use proto::directory::password_check_server::PasswordCheck;
use proto::directory::{CheckRequest, ProbeRequest, ResolveRequest};
use tonic::{Code, Request};

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_checked_by_at_most_one_bind_of_the_resolved_entry() -> Result<()> {
    // L-10, L-34, R-60
    let lab = Lab::start(Wanted::default()).await?;
    let checks = lab.gateway.gateway.password_check();
    let check = async |name: &str, password: &str| {
        let password = Some(proto::common::Secret { value: password.as_bytes().to_vec() });
        let request = CheckRequest { directory: String::new(), name: name.to_owned(), password };
        checks.check(Request::new(request)).await.map(tonic::Response::into_inner)
    };
    let right = check("ann.archer@acme.example", &password_of("ann.archer")).await?;
    assert_eq!(right.reason, "");
    let person = right.person.expect("whose password it is");
    assert_eq!((person.username.as_str(), person.name_form.as_str()), ("ann.archer", "upn"));
    assert_eq!(person.distinguished_name, lab.person("ann.archer"));
    let subject = person.subject.expect("an id");
    assert!(subject.directory == "corp" && subject.object_id.starts_with("entryUUID:"), "{subject:?}");
    assert_eq!(lab.slapd.binds("ann.archer"), 1);
    for (name, password, reason, binds) in [
        ("ann.archer", "wrong", "bad_password", 2),
        ("ann.archer", "", "empty_password", 2),
        ("nobody.here", "x", "unknown_user", 2),
        ("", "x", "unknown_user", 2),
    ] {
        assert_eq!(check(name, password).await?.reason, reason, "{name:?}");
        assert_eq!(lab.slapd.binds("ann.archer"), binds, "{name:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn resolving_and_probing_say_what_was_found() -> Result<()> {
    let mut lab = Lab::start(Wanted::default()).await?;
    let checks = lab.gateway.gateway.password_check();
    let resolve = async |directory: &str, name: &str| {
        let request = ResolveRequest { directory: directory.to_owned(), name: name.to_owned() };
        checks.resolve(Request::new(request)).await.map(tonic::Response::into_inner)
    };
    let found = resolve("corp", "ACME\\ann.archer").await?;
    assert_eq!(found.person.map(|person| person.distinguished_name), Some(lab.person("ann.archer")));
    assert_eq!(resolve("corp", "nobody.here").await?.reason, "unknown_user");
    assert_eq!(resolve("other", "ann.archer").await.map_err(|status| status.code()), Err(Code::NotFound));
    let probe = async || -> Result<proto::directory::ProbedServer> {
        let reply = checks.probe(Request::new(ProbeRequest { directory: "corp".into() })).await?.into_inner();
        Ok(reply.servers.into_iter().next().expect("one server"))
    };
    let server = probe().await?;
    assert!(server.ok && server.text.contains("OpenLDAP"), "{server:?}");
    lab.slapd.stop();
    let server = probe().await?;
    assert!(!server.ok && server.text.starts_with("Unreachable"), "{server:?}");
    assert_eq!(server.url, lab.slapd.ldap_url());
    Ok(())
}
