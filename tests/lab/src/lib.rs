//! Starts the real things the tests talk to: slapd, Samba, 389 Directory Server, FreeRADIUS, NATS, PostgreSQL, our own programs.
//!
//! Everything lives in a temporary directory on free loopback ports and is stopped, by process id, when its handle is
//! dropped. `tests/lab/install.sh` installs what is started here; a missing program is an error that says so, never a
//! test that quietly passes. Blocking: callers in async tests hold the handle and await their own things.

mod clock;
mod disk;
mod ds389;
pub mod eapol;
pub mod freeradius;
mod host;
pub mod nas;
mod nats;
mod person;
pub mod phones;
mod pki;
mod port;
mod postgres;
mod process;
pub mod radsecproxy;
mod samba;
mod slapd;
pub mod strongswan;
mod template;
mod twinlock;

pub use clock::WallClock;
pub use disk::SmallDisk;
pub use ds389::Ds389;
pub use host::Host;
pub use nats::Nats;
pub use person::Person;
pub use pki::{Certificate, Pki};
pub use port::free_port;
pub use postgres::Postgres;
pub use process::{Proc, resident_kib, run, wait_until};
pub use samba::{OtherForest, Samba};
pub use slapd::{COMPANY_BASE, Provider, Slapd, SlapdOptions, password_of};
pub use twinlock::{
    Cluster, CommandLine, Node, Part, RADIUS_SECRET, Standalone, company_settings, our_program, private_file,
};

use std::path::{Path, PathBuf};

/// The repository's root.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("tests/lab lies two levels below the root")
}

/// A program in PATH, in the usual system folders, or in the Python environment of `install.sh`.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let venv = repository().join("target/lab-venv/bin");
    let folders =
        std::env::split_paths(&path).chain(["/usr/sbin", "/sbin", "/usr/lib/postgresql/15/bin"].map(PathBuf::from));
    // The Python package carries the current NATS server; a distribution's may be too old.
    let mut folders = std::iter::once(venv).chain(folders);
    folders
        .find_map(|folder| Some(folder.join(name)).filter(|file| file.is_file()))
        .ok_or_else(|| anyhow::anyhow!("{name} is not installed; run tests/lab/install.sh test"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn slapd_knows_the_company_and_counts_binds() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let pki = Pki::new(&dir.path().join("tls"))?;
        let slapd = Slapd::start(dir.path(), &pki, &SlapdOptions { bulk_people: 10, ..Default::default() })?;
        let ann = format!("uid=ann.archer,ou=engineering,ou=people,{COMPANY_BASE}");
        run(Command::new(program("ldapwhoami")?).env("LDAPTLS_CACERT", pki.ca_file()).args([
            "-x",
            "-ZZ",
            "-H",
            &slapd.ldap_url(),
            "-D",
            &ann,
            "-w",
            &password_of("ann.archer"),
        ]))?;
        let found = run(Command::new(program("ldapsearch")?)
            .env("LDAPTLS_CACERT", pki.ca_file())
            .args(["-x", "-LLL", "-H", &slapd.ldaps_url(), "-D", Slapd::QUERY_DN, "-w", Slapd::QUERY_PASSWORD])
            .args(["-b", COMPANY_BASE, "(objectClass=inetOrgPerson)", "dn"]))?;
        assert_eq!(String::from_utf8_lossy(&found.stdout).matches("dn: ").count(), 130);
        wait_until("the log", std::time::Duration::from_secs(60), || slapd.binds("ann.archer") == 1)?;
        assert_eq!(slapd.binds("ben"), 0);
        Ok(())
    }

    #[test]
    fn postgres_starts_and_comes_back() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let mut postgres = Postgres::start(dir.path())?;
        postgres.sql("twinlock", "create table t (i int); insert into t values (7)")?;
        postgres.stop();
        postgres.restart()?;
        assert_eq!(postgres.sql("twinlock", "select i from t")?, "7");
        Ok(())
    }

    #[test]
    fn nats_starts_and_comes_back() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let mut nats = Nats::start(dir.path(), "")?;
        nats.stop();
        nats.restart()
    }
}
