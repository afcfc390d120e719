//! Another forest that trusts the first one and is trusted by it: a domain controller of its own, and a name server that both ask.

use super::{Address, Samba, certificate, configuration_file, configure, unicode_password};
use crate::{Pki, Proc, password_of, process::run, program, template::template, wait_until};
use anyhow::{Context, Result, ensure};
use std::{
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// Its people are `olga.other`, and `ann.archer`, who is not the Ann of the first domain. Everybody's password is [`password_of`]
/// the name and its domain: `olga.other@other.test`.
pub struct OtherForest {
    dir: PathBuf,
    address: Address,
    process: Option<Proc>,
    ca_file: PathBuf,
    _name_server: Proc,
    _name_server_address: Address,
}

impl OtherForest {
    pub const BASE: &str = "DC=other,DC=test";
    pub const DOMAIN: &str = "OTHER";
    pub const REALM: &str = "OTHER.TEST";
    pub const DNS_NAME: &str = "other.test";
    pub const PEOPLE: [&str; 2] = ["olga.other", "ann.archer"];

    /// Makes it, and the trust both ways. The first one is started anew: trust needs its file server, and a name server.
    pub fn trusted_by(first: &mut Samba, dir: &Path, pki: &Pki) -> Result<Self> {
        let dir = dir.join("other");
        ensure!(dir.as_os_str().len() < 68, "{} is too long a path for Samba's sockets", dir.display());
        run(Command::new("cp").args(["-a", "--sparse=always"]).arg(new_forest()?).arg(&dir))?;
        let (address, name_server) = (Address::take()?, Address::take()?);
        let tls = certificate(pki, address.ip, "dc1.other.test")?;
        configure_other(&dir, address.ip, &tls, &pki.ca_file())?;
        let domains = [("lab.test", first.address()), (Self::DNS_NAME, address.ip)];
        for folder in [&first.dir, &dir] {
            fs::write(folder.join("resolv.conf"), format!("nameserver {}\n", name_server.ip))?;
            let mut hosts = "127.0.0.1 localhost\n".to_owned();
            domains.iter().try_for_each(|(domain, ip)| writeln!(hosts, "{ip} dc1.{domain} {domain}"))?;
            fs::write(folder.join("hosts"), hosts)?;
        }
        let mut other = Self {
            _name_server: serve_names(&domains, name_server.ip, &dir)?,
            _name_server_address: name_server,
            ca_file: pki.ca_file(),
            dir,
            address,
            process: None,
        };
        serve_files(&first.dir)?;
        first.process = None;
        first.process = Some(spawn(&first.dir)?);
        first.wait()?;
        other.restart()?;
        run(wrapped(&first.dir, "samba-tool")?
            .args(["domain", "trust", "create", Self::DNS_NAME, "--type=forest", "--direction=both"])
            .arg("--create-location=both")
            .arg(format!(r"--user={}\Administrator%{}", Self::DOMAIN, Samba::ADMIN_PASSWORD))
            .arg(format!("--configfile={}", configuration_file(&first.dir).display())))
        .context("making the trust")?;
        Ok(other)
    }

    pub fn restart(&mut self) -> Result<()> {
        self.stop();
        self.process = Some(spawn(&self.dir)?);
        wait_until("the other forest to answer", Duration::from_secs(60), || {
            let found = super::search(&self.ldaps_url(), &self.ca_file, ADMIN_DN, Samba::ADMIN_PASSWORD);
            let winbind = wrapped(&self.dir, "wbinfo").map(|mut command| command.arg("-p").output());
            found.is_ok_and(|mut search| search.output().is_ok_and(|output| output.status.success()))
                && winbind.is_ok_and(|output| output.is_ok_and(|output| output.status.success()))
                && TcpStream::connect((self.address.ip, 445)).is_ok()
        })
        .with_context(|| self.log())
    }

    pub fn stop(&mut self) {
        self.process = None;
    }

    /// `ldapmodify` as its administrator.
    pub fn modify(&self, ldif: &str) -> Result<()> {
        super::modify(&self.ldaps_url(), &self.ca_file, ADMIN_DN, &self.dir, ldif)
    }

    /// The SID of somebody of its people.
    pub fn sid_of(&self, name: &str) -> Result<String> {
        super::sid_of(&self.ldaps_url(), &self.ca_file, ADMIN_DN, &Self::dn_of(name))
    }

    pub fn dn_of(name: &str) -> String {
        format!("CN={name},CN=Users,{}", Self::BASE)
    }

    /// With StartTLS, or a logon that seals.
    pub fn ldap_url(&self) -> String {
        format!("ldap://{}", self.address.ip)
    }

    pub fn ldaps_url(&self) -> String {
        format!("ldaps://{}", self.address.ip)
    }

    pub fn password_of(name: &str) -> String {
        password_of(&format!("{name}@{}", Self::DNS_NAME))
    }

    /// How often it has looked at a password of this account of the first domain by NTLM, inside LDAP.
    pub fn foreign_logons_of(&self, account: &str) -> usize {
        let account = format!("user [{}]\\[{account}] at [", Samba::DOMAIN);
        self.log().lines().filter(|line| line.contains("Auth: [LDAP,NTLM") && line.contains(&account)).count()
    }

    fn log(&self) -> String {
        self.process.as_ref().map(Proc::log).unwrap_or_default()
    }
}

const ADMIN_DN: &str = "CN=Administrator,CN=Users,DC=other,DC=test";

/// The folder with the forest that every start copies, made if it is not there.
fn new_forest() -> Result<PathBuf> {
    let version = run(Command::new(program("samba")?).arg("--version"))?.stdout;
    let parts: [&[u8]; 3] = [&version, include_bytes!("trust.rs"), include_bytes!("../samba.rs")];
    template("lab-samba-other", &parts, |making| {
        let tree = making.join("samba");
        provision(&tree).context("making the other forest")?;
        Ok(tree)
    })
}

fn provision(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir.join("log"))?;
    let empty = dir.join("log/empty.conf");
    fs::write(&empty, "")?;
    let ip = Address::take()?.ip;
    let samba_tool = program("samba-tool")?;
    run(Command::new(&samba_tool)
        .args(["domain", "provision", "--server-role=dc", "--dns-backend=NONE", "--host-name=dc1"])
        .arg(format!("--targetdir={}", dir.display()))
        .arg(format!("--configfile={}", empty.display()))
        .args([format!("--realm={}", OtherForest::REALM), format!("--domain={}", OtherForest::DOMAIN)])
        .args([format!("--adminpass={}", Samba::ADMIN_PASSWORD), format!("--host-ip={ip}")])
        .args([format!("--option=interfaces={ip}/8"), "--option=bind interfaces only=yes".to_owned()]))?;
    let pki = Pki::new(&dir.join("tls"))?;
    configure_other(dir, ip, &pki.issue("first", &[&ip.to_string()])?, &pki.ca_file())?;
    let mut ldif = String::new();
    for name in OtherForest::PEOPLE {
        write!(
            ldif,
            "dn: CN={name},CN=Users,{base}\nchangetype: add\nobjectClass: user\nsAMAccountName: {name}\n\
             userPrincipalName: {name}@{dns}\nunicodePwd:: {password}\nuserAccountControl: 66048\n\n",
            base = OtherForest::BASE,
            dns = OtherForest::DNS_NAME,
            password = unicode_password(&OtherForest::password_of(name)),
        )?;
    }
    let file = dir.join("log/people.ldif");
    fs::write(&file, ldif)?;
    run(Command::new(&samba_tool)
        .args(["domain", "passwordsettings", "set", "--complexity=off", "--min-pwd-age=0", "--max-pwd-age=0"])
        .arg(format!("--configfile={}", configuration_file(dir).display())))?;
    // To the files of a domain that does not run.
    run(Command::new(program("ldbmodify")?)
        .arg("-H")
        .arg(dir.join("private/sam.ldb"))
        .arg(format!("--configfile={}", configuration_file(dir).display()))
        .arg(&file))?;
    Ok(())
}

fn configure_other(dir: &Path, ip: Ipv4Addr, tls: &crate::Certificate, ca_file: &Path) -> Result<()> {
    configure(dir, ip, "DC1", tls, ca_file)?;
    let file = configuration_file(dir);
    let written = fs::read_to_string(&file)?
        .replace(&format!("realm = {}\n", Samba::REALM), &format!("realm = {}\n", OtherForest::REALM))
        .replace(&format!("workgroup = {}\n", Samba::DOMAIN), &format!("workgroup = {}\n", OtherForest::DOMAIN));
    fs::write(&file, written)?;
    serve_files(dir)
}

/// Domain controllers speak to each other by SMB.
fn serve_files(dir: &Path) -> Result<()> {
    let file = configuration_file(dir);
    let written = fs::read_to_string(&file)?.replace("rpc, winbindd\n", "rpc, winbindd, s3fs\n");
    Ok(fs::write(&file, written)?)
}

fn spawn(dir: &Path) -> Result<Proc> {
    let mut command = wrapped(dir, "samba")?;
    command
        .args(["-i", "-M", "single", "--debug-stdout", "-d", "1 auth_audit:3"])
        .arg(format!("--configfile={}", configuration_file(dir).display()));
    Proc::spawn("samba", command, &dir.join("samba.log"))
}

/// A program for which the name server is the system's, and winbindd that of this folder.
fn wrapped(dir: &Path, name: &str) -> Result<Command> {
    let mounts =
        "mount --bind \"$0\"/hosts /etc/hosts && mount --bind \"$0\"/resolv.conf /etc/resolv.conf && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-c", mounts]).arg(dir);
    command.args(["env", "LD_PRELOAD=libnss_wrapper.so"]);
    for (variable, file) in
        [("NSS_WRAPPER_PASSWD", "passwd"), ("NSS_WRAPPER_GROUP", "group"), ("SELFTEST_WINBINDD_SOCKET_DIR", "winbindd")]
    {
        command.arg(format!("{variable}={}", dir.join(file).display()));
    }
    command.arg(program(name)?);
    Ok(command)
}

/// What a domain controller has in the DNS, of each.
fn serve_names(domains: &[(&str, Ipv4Addr)], ip: Ipv4Addr, dir: &Path) -> Result<Proc> {
    let mut command = Command::new(program("dnsmasq")?);
    command.args(["--keep-in-foreground", "--no-resolv", "--no-hosts", "--bind-interfaces", "--conf-file=/dev/null"]);
    command.args(["--user=root", "--log-facility=-", "--local=/test/", &format!("--listen-address={ip}")]);
    for (domain, address) in domains {
        command.args([format!("--host-record=dc1.{domain},{address}"), format!("--host-record={domain},{address}")]);
        for (service, port) in [
            ("_ldap._tcp.dc._msdcs", 389),
            ("_ldap._tcp.pdc._msdcs", 389),
            ("_ldap._tcp", 389),
            ("_kerberos._tcp.dc._msdcs", 88),
            ("_kerberos._tcp", 88),
            ("_kerberos._udp", 88),
        ] {
            command.arg(format!("--srv-host={service}.{domain},dc1.{domain},{port},0,100"));
        }
    }
    let server = Proc::spawn("dnsmasq", command, &dir.join("dnsmasq.log"))?;
    wait_until("dnsmasq", Duration::from_secs(10), || TcpStream::connect((ip, 53)).is_ok())?;
    Ok(server)
}
