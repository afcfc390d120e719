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
    bus, cannot,
    configuration::{self, Hosts, SECRETS},
    files::{Files, PUBLIC, PUBLIC_FOLDER, SECRET, SECRET_FOLDER},
};
use crate::{
    failure::{Exit, Failure},
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
    // First of all: a run that broke off must not be taken for a deployment whose key is gone.
    master_key(dir, &mut files)?;
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

/// The key that seals the store, made here so that every node of the user-store starts with the same one. Never a second
/// one: a store that was sealed with another does not open.
fn master_key(dir: &Path, files: &mut Files) -> Result<(), Failure> {
    let folder = dir.join(part::USER_STORE);
    let key = folder.join("master.key");
    if !key.exists() && ["ca/ca.crt", "nats/nats.conf", "postgres/password"].iter().any(|it| dir.join(it).exists()) {
        let text = format!(
            "{} is missing, but {} was set up before: the store is sealed with that key, so put your copy back and run init \
             again. Where there is no store yet, delete {1} and begin anew",
            key.display(),
            dir.display()
        );
        return Err(Failure::new(Exit::Conflict, text));
    }
    files.folder(&folder, SECRET_FOLDER)?;
    files.once(&key, SECRET, || Ok(BASE64.encode(&random()?) + "\n"))?;
    Ok(())
}

/// The database's password, for both ends of the connection; where one end has it, the other gets the same.
fn store(dir: &Path, authority: &Authority, files: &mut Files) -> Result<(), Failure> {
    let folder = dir.join(part::USER_STORE);
    let at_server = dir.join("postgres/password");
    let password = files.once(&folder.join("database.password"), SECRET, || match at_server.exists() {
        true => std::fs::read_to_string(&at_server).map_err(|error| cannot(&at_server, error)),
        false => Ok(BASE32_NOPAD.encode(&random()?[..20])),
    })?;
    files.once(&at_server, SECRET, || Ok(password))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::init::tests::init;
    use std::fs;

    /// A folder that `init` has filled.
    fn set_up() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        again(&dir).expect("the first run makes everything");
        dir
    }

    fn again(dir: &tempfile::TempDir) -> Result<(), Failure> {
        super::run(dir.path(), &init(&[]), Output::new(None))
    }

    fn read(dir: &tempfile::TempDir, name: &str) -> String {
        fs::read_to_string(dir.path().join(name)).expect(name)
    }

    fn delete(dir: &tempfile::TempDir, names: &[&str]) {
        for name in names {
            fs::remove_file(dir.path().join(name)).expect(name);
        }
    }

    #[test]
    fn a_missing_master_key_is_asked_for_and_never_replaced() {
        let dir = set_up();
        let key = read(&dir, "user-store/master.key");
        delete(&dir, &["user-store/master.key"]);
        let refused = again(&dir).expect_err("the store is sealed with the old one");
        assert_eq!(refused.exit, Exit::Conflict);
        assert!(refused.to_string().contains("put your copy back"), "{refused}");
        assert!(!dir.path().join("user-store/master.key").exists());
        fs::write(dir.path().join("user-store/master.key"), &key).expect("written");
        again(&dir).expect("with the copy it goes on");
        assert_eq!(read(&dir, "user-store/master.key"), key);
    }

    #[test]
    fn both_ends_of_the_database_have_one_password_whichever_was_lost() {
        let dir = set_up();
        let password = read(&dir, "postgres/password");
        for lost in ["user-store/database.password", "postgres/password"] {
            delete(&dir, &[lost]);
            again(&dir).expect("init runs again");
            assert_eq!(read(&dir, lost), password, "{lost}");
        }
    }

    #[test]
    fn without_the_key_of_the_ca_nothing_is_signed_and_what_is_whole_is_left() {
        let dir = set_up();
        let (key, authority) = (read(&dir, "ca/ca.key"), read(&dir, "ca/ca.crt"));
        delete(&dir, &["ca/ca.key"]);
        again(&dir).expect("nothing has to be signed");
        delete(&dir, &["portal/tls.crt", "portal/tls.key"]);
        let refused = again(&dir).expect_err("the certificate has to be signed");
        assert_eq!(refused.exit, Exit::Conflict);
        assert!(refused.to_string().contains("portal/tls.crt has to be signed"), "{refused}");
        for made in ["ca/ca.key", "portal/tls.key", "portal/tls.crt"] {
            assert!(!dir.path().join(made).exists(), "{made}");
        }
        fs::write(dir.path().join("ca/ca.key"), key).expect("written");
        again(&dir).expect("with the key it goes on");
        assert!(dir.path().join("portal/tls.crt").exists());
        assert_eq!(read(&dir, "ca/ca.crt"), authority);
    }
}
