//! `twinlock init`: a first configuration with its keys and certificates, ready for `twinlock serve`; with `--distributed`
//! those of all parts as programs of their own.

mod authority;
mod bus;
mod configuration;
mod distributed;
mod files;

use crate::{
    failure::{Exit, Failure},
    output::{Output, say},
};
use clap::Args;
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::json;
use std::{
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown},
    path::{Path, PathBuf},
};
use time::{Duration, OffsetDateTime};

#[derive(Debug, Clone, Args)]
pub struct Init {
    /// Everything goes into this folder: configuration, certificates, and the store once it runs.
    #[arg(long, default_value = "/etc/twinlock")]
    dir: PathBuf,
    /// The name or address people and clients use for this host.
    #[arg(long, default_value = "localhost")]
    host: String,
    /// The address to listen on.
    #[arg(long, default_value = "0.0.0.0")]
    listen: std::net::IpAddr,
    /// For the six parts as programs of their own: a folder for each part with what it must keep secret, and one with
    /// their configurations. Nothing that is there is changed; what is missing is made.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["dir", "listen"])]
    distributed: Option<PathBuf>,
    /// The parts, NATS and PostgreSQL find each other as NAME.DOMAIN; default: NAME, as in compose and Kubernetes.
    #[arg(long, requires = "distributed")]
    domain: Option<String>,
    /// The user id that gets the files; default: yours.
    #[arg(long, value_name = "UID")]
    owner: Option<u32>,
    /// A certificate for one more server, such as a directory to try things with, in a folder of this name.
    #[arg(long = "certificate", value_name = "NAME", requires = "distributed")]
    certificates: Vec<String>,
}

pub fn run(init: Init, output: Output) -> Result<(), Failure> {
    match &init.distributed {
        Some(dir) => distributed::run(dir, &init, output),
        // clap lets `requires` go where --dir, which excludes --distributed, is given.
        None if init.domain.is_some() => Err(Failure::wrong_use("--domain goes with --distributed")),
        None if !init.certificates.is_empty() => Err(Failure::wrong_use("--certificate goes with --distributed")),
        None => standalone(&init, output),
    }
}

fn standalone(init: &Init, output: Output) -> Result<(), Failure> {
    let file = init.dir.join("twinlock.toml");
    if file.exists() {
        let text = format!("{} exists already; init changes nothing that is there", file.display());
        return Err(Failure::new(Exit::Conflict, text));
    }
    let folders = ["", "tls", "data", "data/spool-radius", "data/spool-ldap", "run"];
    for folder in folders.map(|name| init.dir.join(name)) {
        let made = fs::DirBuilder::new().recursive(true).mode(0o750).create(&folder);
        made.and_then(|()| hand_over(&folder, init.owner)).map_err(|error| cannot(&folder, error))?;
    }
    let (certificate, key) = self_signed(&init.host)?;
    for (name, mode, content) in [
        ("tls/twinlock.pem", 0o644, certificate),
        ("tls/twinlock.key", 0o600, key),
        ("twinlock.toml", 0o640, document(init)),
    ] {
        let path = init.dir.join(name);
        write(&path, mode, &content)?;
        hand_over(&path, init.owner).map_err(|error| cannot(&path, error))?;
    }
    say(&format!(
        "{}: written, with a self-signed certificate for {} (for evaluation only)",
        file.display(),
        init.host
    ));
    output.text(
        &format!(
            "next:\n  twinlock serve --config {config}\n  twinlock --config {config} settings apply FILE\nexamples and explanations: docs/getting-started.md",
            config = file.display()
        ),
        &json!({ "config": file, "host": init.host }),
    );
    Ok(())
}

fn self_signed(host: &str) -> Result<(String, String), Failure> {
    let failed = |error: rcgen::Error| Failure::wrong_use(format!("no certificate can be made for {host:?}: {error}"));
    let mut params =
        CertificateParams::new(vec![host.to_owned(), "localhost".into(), "127.0.0.1".into()]).map_err(failed)?;
    params.distinguished_name.push(DnType::CommonName, host);
    params.distinguished_name.push(DnType::OrganizationalUnitName, "self-signed by twinlock init");
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::days(1);
    params.not_after = now + Duration::days(365);
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Creates the file; never replaces one.
fn write(path: &Path, mode: u32, content: &str) -> Result<(), Failure> {
    let opened = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    opened.and_then(|mut file| file.write_all(content.as_bytes())).map_err(|error| cannot(path, error))
}

/// To the user that runs Twinlock, and the group of the same number.
fn hand_over(path: &Path, owner: Option<u32>) -> std::io::Result<()> {
    owner.map_or(Ok(()), |owner| chown(path, Some(owner), Some(owner)))
}

fn cannot(path: &Path, error: std::io::Error) -> Failure {
    Failure::new(Exit::NotPermitted, format!("{} cannot be written: {error}", path.display()))
}

fn document(init: &Init) -> String {
    let dir = init.dir.display();
    let address = |port: u16| std::net::SocketAddr::new(init.listen, port);
    format!(
        "# Twinlock's process configuration: ports, certificates, store. Who may log in where stands in the settings
# (`twinlock settings export`). Every key is explained in docs/reference/configuration.md.
version = 1

[store]
url = \"sqlite:{dir}/data/twinlock.db\"
master_key_file = \"{dir}/data/master.key\"

[admin]
socket = \"{dir}/run/admin.sock\"

[radius]
listen = [\"{radius}\"]
accounting_listen = [\"{accounting}\"]
spool_dir = \"{dir}/data/spool-radius\"

[ldap]
listen = [\"{ldap}\"]
tls_listen = [\"{ldaps}\"]
spool_dir = \"{dir}/data/spool-ldap\"
certificate_file = \"{dir}/tls/twinlock.pem\"
key_file = \"{dir}/tls/twinlock.key\"

[portal]
listen = [\"{portal}\"]
public_url = \"https://{host}:8443\"
certificate_file = \"{dir}/tls/twinlock.pem\"
key_file = \"{dir}/tls/twinlock.key\"

[management]
listen = \"127.0.0.1:9090\"
",
        radius = address(1812),
        accounting = address(1813),
        ldap = address(389),
        ldaps = address(636),
        portal = address(8443),
        host = init.host,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::os::unix::fs::MetadataExt;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        init: Init,
    }

    pub fn init(arguments: &[&str]) -> Init {
        Line::try_parse_from([&["init"], arguments].concat()).expect("a command line").init
    }

    #[test]
    fn one_machine_s_files_go_to_the_owner_and_what_is_for_several_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let home = dir.path().join("home");
        // Another user where the tests run as root; only root may give files away.
        let owner = match dir.path().metadata().expect("metadata").uid() {
            0 => 4711,
            own => own,
        };
        let at = home.to_str().expect("UTF-8");
        for several in [["--domain", "example.com"], ["--certificate", "openldap"]] {
            let refused = run(init(&[&["--dir", at], &several[..]].concat()), Output::new(None));
            assert_eq!(refused.expect_err("it does nothing here").exit, Exit::WrongUse);
        }
        run(init(&["--dir", at, "--owner", &owner.to_string()]), Output::new(None)).expect("written");
        for name in ["", "data", "run", "data/spool-ldap", "tls/twinlock.key", "tls/twinlock.pem", "twinlock.toml"] {
            assert_eq!(home.join(name).metadata().expect(name).uid(), owner, "{name}");
        }
    }
}
