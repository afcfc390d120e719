//! `twinlock init --distributed`: everything the parts, NATS and PostgreSQL must have before they start.
//!
//! ```text
//! DIR/ca/           the private CA; its key leaves this folder for nobody
//! DIR/config/       PART.toml and admin.toml: no secret in them
//! DIR/PART/         tls.crt tls.key ca.crt bus.nk, and what only this part has
//! DIR/admin/        the administrator's certificate
//! DIR/nats/         the server's certificate and nats.conf with the parts' users
//! DIR/postgres/     the server's certificate and the password
//! ```

use super::{
    Init,
    authority::Authority,
    bus,
    configuration::{self, Hosts, SECRETS},
    files::{Files, PUBLIC, PUBLIC_FOLDER, SECRET},
};
use crate::{
    failure::Failure,
    output::{Output, say},
};
use data_encoding::{BASE32_NOPAD, BASE64};
use proto::{bus_permissions::PARTS, permissions::part};
use serde_json::json;
use service_kit::grpc::PART_SUFFIX;
use std::path::Path;

pub fn run(dir: &Path, init: &Init, output: Output) -> Result<(), Failure> {
    let hosts = Hosts { domain: init.domain.as_deref(), public: &init.host };
    let mut files = Files::of(init.owner);
    files.folder(dir, PUBLIC_FOLDER)?;
    let authority = Authority::open(&dir.join("ca"), &mut files)?;

    let mut users = Vec::new();
    for name in PARTS {
        let folder = dir.join(name);
        authority.issue(&folder, "tls", &[format!("{name}{PART_SUFFIX}")], &mut files)?;
        authority.introduce(&folder, "ca.crt", &mut files)?;
        users.push((name, bus::user(&folder.join("bus.nk"), &mut files)?));
    }
    front_ends(dir, &hosts, &authority, &mut files)?;
    let admin = dir.join(part::ADMIN);
    authority.issue(&admin, "tls", &[format!("{}{PART_SUFFIX}", part::ADMIN)], &mut files)?;
    authority.introduce(&admin, "ca.crt", &mut files)?;

    server(dir, "nats", &nats_hosts(&hosts), &authority, &mut files)?;
    files.derived(&dir.join("nats/nats.conf"), PUBLIC, &bus::server(&users, SECRETS))?;
    server(dir, "postgres", &here(&hosts, "postgres"), &authority, &mut files)?;
    store(dir, &authority, &mut files)?;
    for name in &init.certificates {
        if name.is_empty() || !name.bytes().all(|sign| sign.is_ascii_alphanumeric() || sign == b'-') {
            return Err(Failure::wrong_use(format!("--certificate {name:?}: allowed are letters, digits and -")));
        }
        server(dir, name, &here(&hosts, name), &authority, &mut files)?;
    }

    let config = dir.join("config");
    files.folder(&config, PUBLIC_FOLDER)?;
    for name in PARTS {
        files.derived(&config.join(format!("{name}.toml")), PUBLIC, &configuration::of(name, &hosts))?;
    }
    files.derived(&config.join("admin.toml"), PUBLIC, &configuration::admin(&hosts))?;

    let written = files.written.len();
    say(&format!("keep {0}/ca/ca.key and {0}/user-store/master.key in a safe place too", dir.display()));
    output.text(
        &format!("{}: {written} files written, what was there is unchanged", dir.display()),
        &json!({ "dir": dir, "written": files.written }),
    );
    Ok(())
}

/// What people and clients see. Signed by the private CA until there are certificates of a public one in their place.
fn front_ends(dir: &Path, hosts: &Hosts, authority: &Authority, files: &mut Files) -> Result<(), Failure> {
    for (name, certificate) in [(part::LDAP_GATEWAY, "ldap"), (part::PORTAL, "portal")] {
        let mut names = here(hosts, name);
        names.retain(|name| name != hosts.public);
        names.insert(0, hosts.public.to_owned());
        authority.issue(&dir.join(name), certificate, &names, files)?;
    }
    Ok(())
}

fn server(dir: &Path, name: &str, hosts: &[String], authority: &Authority, files: &mut Files) -> Result<(), Failure> {
    let folder = dir.join(name);
    authority.issue(&folder, "tls", hosts, files)?;
    authority.introduce(&folder, "ca.crt", files)
}

/// The database's password, for both ends of the connection; the key that seals the store, made here so that every node of
/// the user-store starts with the same one.
fn store(dir: &Path, authority: &Authority, files: &mut Files) -> Result<(), Failure> {
    let folder = dir.join(part::USER_STORE);
    let password =
        files.once(&folder.join("database.password"), SECRET, || Ok(BASE32_NOPAD.encode(&random()?[..20])))?;
    files.once(&dir.join("postgres/password"), SECRET, || Ok(password))?;
    files.once(&folder.join("master.key"), SECRET, || Ok(BASE64.encode(&random()?) + "\n"))?;
    files.derived(&folder.join("database-ca.crt"), PUBLIC, authority.certificate())
}

fn random() -> Result<[u8; 32], Failure> {
    let mut octets = [0; 32];
    getrandom::fill(&mut octets).map_err(|error| Failure::no(format!("the system gives no randomness: {error}")))?;
    Ok(octets)
}

/// As others call it, and from its own host.
fn here(hosts: &Hosts, name: &str) -> Vec<String> {
    vec![hosts.of(name), "localhost".into(), "127.0.0.1".into()]
}

/// One server, or three that are a cluster, as a Kubernetes StatefulSet names them.
fn nats_hosts(hosts: &Hosts) -> Vec<String> {
    let mut names = here(hosts, "nats");
    names.extend((0..3).map(|number| format!("nats-{number}.{}", hosts.of("nats"))));
    names
}
