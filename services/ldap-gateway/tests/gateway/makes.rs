//! Real directories of every make that there is here, with the same people in them.

use crate::support::{directory_at, directory_of};
use anyhow::Result;
use domain::settings::{self, BindKind, Preset};
use lab::{COMPANY_BASE, Ds389, Pki, Samba, Slapd, SlapdOptions};
use std::path::Path;

/// Stopped in the order of its fields.
pub struct Make {
    pub directory: settings::Directory,
    pub pki: Pki,
    dn_of: fn(&str) -> String,
    server: Server,
    _dir: tempfile::TempDir,
}

/// Kept alive.
enum Server {
    Slapd { slapd: Slapd },
    Samba { samba: Samba },
    Ds389 { ds389: Ds389 },
}

impl Make {
    pub fn slapd(database_lines: &str) -> Result<Self> {
        let (dir, pki) = folder()?;
        let options = SlapdOptions { database_lines: database_lines.to_owned(), ..Default::default() };
        let slapd = Slapd::start(dir.path(), &pki, &options)?;
        Ok(Self::of(directory_of(&slapd), pki, engineer, Server::Slapd { slapd }, dir))
    }

    pub fn ds389() -> Result<Self> {
        let (dir, pki) = folder()?;
        let ds389 = Ds389::start(dir.path(), &pki)?;
        let directory = settings::Directory {
            preset: Preset::Ds389,
            ca: Some(read(ds389.ca_file())?),
            ..directory_at(&ds389.ldap_url(), COMPANY_BASE, BindKind::Tls)
        };
        Ok(Self::of(directory, pki, engineer, Server::Ds389 { ds389 }, dir))
    }

    /// Without a lockout.
    pub fn samba() -> Result<Self> {
        let (dir, pki) = folder()?;
        let samba = Samba::start(dir.path(), &pki)?;
        samba.modify(&format!(
            "dn: {}\nchangetype: modify\nreplace: lockoutThreshold\nlockoutThreshold: 0\n",
            Samba::BASE
        ))?;
        let mut directory = directory_at(&samba.ldap_url(), Samba::BASE, BindKind::Tls);
        (directory.preset, directory.netbios_domain) = (Preset::ActiveDirectory, Samba::DOMAIN.into());
        directory.query_bind.name = Samba::QUERY_DN.into();
        directory.ca = Some(read(samba.ca_file())?);
        Ok(Self::of(directory, pki, Samba::dn_of, Server::Samba { samba }, dir))
    }

    /// What is asked here is not how often a password may be wrong.
    fn of(
        directory: settings::Directory,
        pki: Pki,
        dn_of: fn(&str) -> String,
        server: Server,
        dir: tempfile::TempDir,
    ) -> Self {
        let directory = settings::Directory { lockout_guard: None, ..directory };
        Self { directory, pki, dn_of, server, _dir: dir }
    }

    /// Ann Archer is everywhere; who is an engineer of the company, and who is not, depends.
    pub fn dn_of(&self, uid: &str) -> String {
        (self.dn_of)(uid)
    }

    /// At the directory itself.
    pub fn change_password(&self, uid: &str, new: &str) -> Result<()> {
        let change = || {
            let dn = self.dn_of(uid);
            format!("dn: {dn}\nchangetype: modify\nreplace: userPassword\nuserPassword: {new}\n")
        };
        match &self.server {
            Server::Slapd { slapd } => slapd.modify(&change()),
            Server::Ds389 { ds389 } => ds389.modify(&change()),
            Server::Samba { samba } => samba.set_password(uid, new),
        }
    }

    /// Somebody else, in the same place of the tree.
    pub fn neighbour(&self) -> &'static str {
        match self.server {
            Server::Slapd { .. } | Server::Ds389 { .. } => "emma.irwin",
            Server::Samba { .. } => "ben.baker",
        }
    }
}

fn engineer(uid: &str) -> String {
    format!("uid={uid},ou=engineering,ou=people,{COMPANY_BASE}")
}

fn folder() -> Result<(tempfile::TempDir, Pki)> {
    service_kit::tls::install_provider();
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    Ok((dir, pki))
}

fn read(file: &Path) -> Result<String> {
    Ok(std::fs::read_to_string(file)?)
}
