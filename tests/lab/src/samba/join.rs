//! A second domain controller of the same domain, on a loopback address of its own. Nothing is replicated by itself: a test says when
//! one of them learns what the other knows.

use super::{Address, Samba, certificate, configuration_file, configure};
use crate::{Pki, process::run, program};
use anyhow::{Context, Result, ensure};
use std::{fmt::Write as _, fs, path::Path, process::Command};

impl Samba {
    /// What the certificate of the second one is for, beside its address.
    pub const SECOND_HOST: &str = "dc2.lab.test";

    /// Makes and starts a second domain controller in `dir`; it knows what the first one knew.
    pub fn join(dir: &Path, pki: &Pki, first: &Samba) -> Result<Self> {
        let dir = dir.join("samba2");
        ensure!(dir.as_os_str().len() < 68, "{} is too long a path for Samba's sockets", dir.display());
        fs::create_dir_all(dir.join("log"))?;
        let (empty, address) = (dir.join("log/empty.conf"), Address::take()?);
        fs::write(&empty, "")?;
        let hosts = [(first.address(), "dc1", "lab.test"), (address.ip, "dc2", "")];
        let mut lines = "127.0.0.1 localhost\n".to_owned();
        for (ip, name, domain) in hosts {
            writeln!(lines, "{ip} {name}.lab.test {name} {domain}")?;
        }
        for folder in [&dir, &first.dir] {
            fs::write(folder.join("hosts"), &lines)?;
        }
        run(samba_tool(&dir)?
            .args(["domain", "join", "lab.test", "DC", "--use-kerberos=off", "--dns-backend=NONE"])
            .args([format!("--server={}", Self::HOST), format!("--realm={}", Self::REALM)])
            .args([format!("--user={}", administrator()), format!("--targetdir={}", dir.display())])
            .args([format!("--configfile={}", empty.display()), "--option=netbios name=DC2".to_owned()])
            .args([format!("--option=interfaces={}/8", address.ip), "--option=bind interfaces only=yes".to_owned()])
            .arg(format!("--option=private dir={}", dir.join("private").display())))
        .context("joining the domain")?;
        configure(&dir, address.ip, "DC2", &certificate(pki, address.ip, Self::SECOND_HOST)?, &pki.ca_file())?;
        let mut samba = Self { dir, address, process: None, ca_file: pki.ca_file() };
        samba.restart()?;
        Ok(samba)
    }

    /// Learns now what the other domain controller, which runs, knows and this one does not.
    pub fn replicate_from(&self, other: &Samba) -> Result<()> {
        let (own, others) = (self.host()?, other.host()?);
        run(samba_tool(&self.dir)?
            .args(["drs", "replicate", "--local", own, others, Self::BASE, "--use-kerberos=off"])
            .args([format!("--user={}", administrator())])
            .arg(format!("--configfile={}", configuration_file(&self.dir).display())))
        .with_context(|| format!("{own} learns from {others}"))?;
        Ok(())
    }

    fn host(&self) -> Result<&'static str> {
        let configuration = fs::read_to_string(configuration_file(&self.dir))?;
        Ok(if configuration.contains("netbios name = DC2") { Self::SECOND_HOST } else { Self::HOST })
    }
}

fn administrator() -> String {
    format!("{}\\Administrator%{}", Samba::DOMAIN, Samba::ADMIN_PASSWORD)
}

/// `samba-tool` where the file `hosts` of the folder is the system's.
fn samba_tool(dir: &Path) -> Result<Command> {
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\""]);
    command.arg(dir.join("hosts")).arg(program("samba-tool")?);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::password_of;

    #[test]
    fn a_second_domain_controller_learns_when_it_is_told_to() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let pki = Pki::new(&dir.path().join("tls"))?;
        let mut first = Samba::start(dir.path(), &pki)?;
        let second = Samba::join(dir.path(), &pki, &first)?;
        let ann = Samba::dn_of("ann.archer");
        let ann_binds = |samba: &Samba, password: &str| samba.binds(&ann, password);
        assert!(ann_binds(&second, &password_of("ann.archer"))?);
        first.set_password("ann.archer", "another")?;
        assert!(!ann_binds(&second, "another")?, "not yet");
        second.replicate_from(&first)?;
        assert!(ann_binds(&second, "another")?);
        first.stop();
        second.add("nina.new", "secret")?;
        first.restart()?;
        assert!(!first.binds(&Samba::dn_of("nina.new"), "secret")?, "not yet");
        first.replicate_from(&second)?;
        assert!(first.binds(&Samba::dn_of("nina.new"), "secret")?);
        Ok(())
    }
}
