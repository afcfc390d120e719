//! One machine before a directory of any make: OpenLDAP, Active Directory (Samba) or 389 Directory Server.

use anyhow::{Context, Result};
use lab::{COMPANY_BASE, CommandLine, Ds389, Pki, Samba, Slapd, SlapdOptions, Standalone, private_file};
use std::{fs, path::Path};
use tempfile::TempDir;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    Slapd,
    Samba,
    Ds389,
}

/// So many entries more than the company are below [`Upstream::bulk`].
pub const BULK: usize = 10_000;

enum Server {
    Slapd(Slapd),
    Samba(Samba),
    Ds389(Ds389),
}

/// A directory server and what a client has to know of it.
pub struct Upstream {
    pub make: Make,
    server: Server,
    pub base: &'static str,
    /// The DN and the password of an account that may write everywhere, for a client that lists it as a service account.
    pub manager: (&'static str, &'static str),
}

impl Upstream {
    fn start(make: Make, dir: &Path, pki: &Pki) -> Result<Self> {
        let gitlab = (Slapd::GITLAB_DN, Slapd::GITLAB_PASSWORD);
        Ok(match make {
            Make::Slapd => {
                let options = SlapdOptions {
                    bulk_people: BULK,
                    access_lines: format!("access to * by dn.exact=\"{}\" manage by * break", gitlab.0),
                    ..Default::default()
                };
                let server = Server::Slapd(Slapd::start(dir, pki, &options)?);
                Self { make, server, base: COMPANY_BASE, manager: gitlab }
            }
            Make::Ds389 => {
                let server = Ds389::start(dir, pki)?;
                server.modify(&format!(
                    "dn: {COMPANY_BASE}\nchangetype: modify\nadd: aci\naci: (targetattr = \"*\")(version 3.0; acl \"one writes\"; \
                     allow (all) userdn = \"ldap:///{}\";)\n",
                    gitlab.0
                ))?;
                Self { make, server: Server::Ds389(server), base: COMPANY_BASE, manager: gitlab }
            }
            Make::Samba => {
                let server = Samba::start_with_contacts(dir, pki, BULK)?;
                let manager = (Samba::ADMIN_DN, Samba::ADMIN_PASSWORD);
                Self { make, server: Server::Samba(server), base: Samba::BASE, manager }
            }
        })
    }

    pub fn slapd(&self) -> Result<&Slapd> {
        match &self.server {
            Server::Slapd(slapd) => Ok(slapd),
            _ => anyhow::bail!("this is no slapd"),
        }
    }

    /// Where the many entries are.
    pub fn bulk(&self) -> String {
        match self.make {
            Make::Slapd | Make::Ds389 => format!("ou=bulk,ou=people,{}", self.base),
            Make::Samba => format!("OU=bulk,{}", self.base),
        }
    }

    /// The entry of a person of the company.
    pub fn dn_of(&self, uid: &str, department: &str) -> String {
        match self.make {
            Make::Slapd | Make::Ds389 => format!("uid={uid},ou={department},ou=people,{}", self.base),
            Make::Samba => Samba::dn_of(uid),
        }
    }

    /// Three who are synchronised; they are engineers where there are departments.
    pub fn people(&self) -> [&'static str; 3] {
        match self.make {
            Make::Slapd | Make::Ds389 => ["ann.archer", "emma.irwin", "ida.reed"],
            Make::Samba => ["ann.archer", "ben.baker", "carla.cook"],
        }
    }

    /// The attribute with the name that a person signs in with.
    pub fn naming(&self) -> &'static str {
        match self.make {
            Make::Slapd | Make::Ds389 => "uid",
            Make::Samba => "sAMAccountName",
        }
    }

    /// For StartTLS.
    pub fn ldap_url(&self) -> String {
        match &self.server {
            Server::Slapd(slapd) => slapd.ldap_url(),
            Server::Samba(samba) => format!("{}:389", samba.ldap_url()),
            Server::Ds389(server) => server.ldap_url(),
        }
    }

    pub fn ldaps_url(&self) -> String {
        match &self.server {
            Server::Slapd(slapd) => slapd.ldaps_url(),
            Server::Samba(samba) => format!("{}:636", samba.ldaps_url()),
            Server::Ds389(server) => server.ldaps_url(),
        }
    }

    pub fn ca_file(&self) -> &Path {
        match &self.server {
            Server::Slapd(slapd) => slapd.ca_file(),
            Server::Samba(samba) => samba.ca_file(),
            Server::Ds389(server) => server.ca_file(),
        }
    }

    fn query(&self) -> (&'static str, &'static str) {
        match self.make {
            Make::Slapd | Make::Ds389 => (Slapd::QUERY_DN, Slapd::QUERY_PASSWORD),
            Make::Samba => (Samba::QUERY_DN, Samba::QUERY_PASSWORD),
        }
    }

    /// By StartTLS; the domain controller by LDAPS.
    fn settings(&self) -> Result<String> {
        let (preset, url, people) = match self.make {
            Make::Slapd => ("openldap", self.ldap_url(), "ou=engineering,ou=people"),
            Make::Ds389 => ("389ds", self.ldap_url(), "ou=engineering,ou=people"),
            Make::Samba => ("active_directory", self.ldaps_url(), "OU=people"),
        };
        Ok(format!(
            r#"
[portal]
first_enrolment = "open"

[[directory]]
name = "upstream"
preset = "{preset}"
urls = ["{url}"]
base = "{base}"
query_bind = {{ kind = "tls", name = "{query}", password = "file:query.password" }}
ca = '''
{ca}'''

[[client]]
name = "applications"
protocol = "ldap"
sources = ["127.0.0.1/32"]
target = "upstream"
appended = "optional"
wait_seconds = 20
service_accounts = [{{ name = "{manager}" }}]

[[sync_item]]
name = "people"
directory = "upstream"
source = {{ kind = "container", dn = "{people},{base}" }}
"#,
            base = self.base,
            query = self.query().0,
            ca = fs::read_to_string(self.ca_file())?,
            manager = self.manager.0,
        ))
    }
}

/// Stopped in the order of its fields.
pub struct Before {
    pub twinlock: Standalone,
    pub upstream: Upstream,
    pub dir: TempDir,
}

impl Before {
    pub fn start(make: Make) -> Result<Self> {
        let keep = std::env::var_os("KEEP_LOGS").is_some();
        let dir = tempfile::Builder::new().prefix("twinlock-story-").disable_cleanup(keep).tempdir()?;
        let pki = Pki::new(&dir.path().join("pki"))?;
        let upstream = Upstream::start(make, dir.path(), &pki)?;
        let twinlock = Standalone::start(dir.path(), "")?;
        private_file(&dir.path().join("query.password"), upstream.query().1)?;
        twinlock.command_line.apply(dir.path(), &upstream.settings()?)?;
        twinlock.command_line.run(&["sync", "now"]).with_context(|| twinlock.log())?;
        Ok(Self { twinlock, upstream, dir })
    }

    pub fn command_line(&self) -> &CommandLine {
        &self.twinlock.command_line
    }
}
