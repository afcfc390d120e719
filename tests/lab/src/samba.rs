//! A real Active Directory domain controller: Samba.
//!
//! Its ports are fixed, so each runs on a loopback address of its own. Making a domain takes ten seconds: it is made once, kept
//! below `target/`, and every start works on a copy. That takes root, and so do the ports.

mod join;
mod trust;

pub use trust::OtherForest;

use crate::{
    Certificate, Pki, Proc, WallClock, password_of, process::run, program, repository, template::template, wait_until,
};
use anyhow::{Context, Result, bail, ensure};
use data_encoding::BASE64;
use std::{
    ffi::OsString,
    fmt::Write as _,
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// A domain controller with a small domain, stopped when dropped. Everybody's password is [`password_of`] the name.
///
/// | name | |
/// | --- | --- |
/// | `ann.archer`, `ben.baker`, `carla.cook` | ordinary; Ann and Ben are in `vpn-users`, which is in `staff` |
/// | `dora.disabled`, `eric.expired`, `hugo.hours` | account disabled, expired, allowed at no hour |
/// | `max.mustchange`, `paula.passwordexpired` | must change the password, had it for too long |
/// | `jörg.groß`, `dol$lar`, `with space` | names that something might stumble over |
///
/// Nobody is locked; [`Samba::lock`] changes that.
pub struct Samba {
    dir: PathBuf,
    address: Address,
    process: Option<Proc>,
    ca_file: PathBuf,
}

impl Samba {
    pub const BASE: &str = "DC=lab,DC=test";
    pub const PEOPLE_DN: &str = "OU=people,DC=lab,DC=test";
    /// As it stands before a backslash.
    pub const DOMAIN: &str = "LAB";
    pub const REALM: &str = "LAB.TEST";
    /// What its certificate is for, beside its address.
    pub const HOST: &str = "dc1.lab.test";
    pub const ADMIN_DN: &str = "CN=Administrator,CN=Users,DC=lab,DC=test";
    pub const ADMIN_PASSWORD: &str = "Admin-samba-5f3e";
    /// Reads everything that a user may read; what Twinlock's query bind uses.
    pub const QUERY_DN: &str = "CN=twinlock,OU=service,DC=lab,DC=test";
    pub const QUERY_PASSWORD: &str = "Service-twinlock-7d1f";
    /// So many wrong passwords lock an account, until [`Samba::unlock`].
    pub const TRIES: usize = 5;

    /// Starts a domain controller in `dir`, with a certificate of `pki` for its address, its name and the domain's.
    pub fn start(dir: &Path, pki: &Pki) -> Result<Self> {
        Self::start_from(&new_domain()?, dir, pki)
    }

    /// The same with so many contacts more, `bulk00001` and following in `OU=bulk`.
    pub fn start_with_contacts(dir: &Path, pki: &Pki, count: usize) -> Result<Self> {
        Self::start_from(&new_domain_with_contacts(count)?, dir, pki)
    }

    fn start_from(template: &Path, dir: &Path, pki: &Pki) -> Result<Self> {
        let dir = dir.join("samba");
        // A socket's path may have 107 octets, and those below are up to 40 longer.
        ensure!(dir.as_os_str().len() < 68, "{} is too long a path for Samba's sockets", dir.display());
        run(Command::new("cp").args(["-a", "--sparse=always"]).arg(template).arg(&dir))?;
        let address = Address::take()?;
        let tls = certificate(pki, address.ip, Self::HOST)?;
        configure(&dir, address.ip, "DC1", &tls, &pki.ca_file())?;
        fs::write(dir.join("hosts"), format!("{} {} dc1 lab.test\n", address.ip, Self::HOST))?;
        let mut samba = Self { dir, address, process: None, ca_file: pki.ca_file() };
        samba.restart()?;
        Ok(samba)
    }

    /// Starts it again on the same address with the same data.
    pub fn restart(&mut self) -> Result<()> {
        self.stop();
        self.process = Some(spawn(&self.dir, &[])?);
        self.wait()
    }

    /// The same with more on its command line, such as `--option=ldap server require strong auth=allow_sasl_over_tls`.
    pub fn restart_with(&mut self, options: &[&str]) -> Result<()> {
        self.stop();
        self.process = Some(spawn(&self.dir, options)?);
        self.wait()
    }

    /// The same by a clock of its own.
    pub fn restart_by(&mut self, clock: &WallClock) -> Result<()> {
        self.stop();
        self.process = Some(spawn_in(&self.dir, &[], &clock.environment())?);
        self.wait_for_ldap()
    }

    /// The same, but on this host nobody can ask the domain through winbindd.
    pub fn restart_without_winbind(&mut self) -> Result<()> {
        self.stop();
        self.process = Some(spawn(&self.dir, &["--option=server services=ldap, cldap, kdc, rpc"])?);
        self.wait_for_ldap()
    }

    pub fn stop(&mut self) {
        self.process = None;
    }

    /// SIGKILL, as a crash would end it. Its winbindd goes with it.
    pub fn kill(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill();
        }
        self.process = None;
    }

    pub fn process(&self) -> Option<&Proc> {
        self.process.as_ref()
    }

    pub fn address(&self) -> Ipv4Addr {
        self.address.ip
    }

    /// With StartTLS; a bind without TLS is refused with 8.
    pub fn ldap_url(&self) -> String {
        format!("ldap://{}", self.address())
    }

    pub fn ldaps_url(&self) -> String {
        format!("ldaps://{}", self.address())
    }

    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    pub fn dn_of(name: &str) -> String {
        format!("CN={name},{}", Self::PEOPLE_DN)
    }

    /// What a program needs in its environment to talk to this domain's winbindd and to know [`Samba::HOST`].
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("LD_PRELOAD", "libnss_wrapper.so".into()),
            ("NSS_WRAPPER_HOSTS", self.dir.join("hosts").into()),
            ("NSS_WRAPPER_PASSWD", self.dir.join("passwd").into()),
            ("NSS_WRAPPER_GROUP", self.dir.join("group").into()),
            ("SELFTEST_WINBINDD_SOCKET_DIR", self.dir.join("winbindd").into()),
        ]
    }

    /// `ntlm_auth`, `wbinfo` or another of Samba's programs as a file that runs it in that environment, as on a host that joined.
    pub fn wrapped(&self, name: &str) -> Result<PathBuf> {
        let mut script = "#!/bin/sh\nexec env".to_owned();
        for (variable, value) in self.environment() {
            write!(script, " {variable}='{}'", value.display())?;
        }
        writeln!(script, " '{}' \"$@\"", program(name)?.display())?;
        let file = self.dir.join(name);
        fs::write(&file, script)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
        Ok(file)
    }

    /// `ldapmodify` as the administrator.
    pub fn modify(&self, ldif: &str) -> Result<()> {
        modify(&self.ldaps_url(), &self.ca_file, Self::ADMIN_DN, &self.dir, ldif)
    }

    /// Adds somebody below [`Samba::PEOPLE_DN`], ready to sign in.
    pub fn add(&self, name: &str, password: &str) -> Result<()> {
        self.modify(&person(name, password, ""))
    }

    pub fn set_password(&self, name: &str, password: &str) -> Result<()> {
        self.replace(name, &format!("unicodePwd:: {}", unicode_password(password)))
    }

    pub fn disable(&self, name: &str) -> Result<()> {
        self.replace(name, "userAccountControl: 514")
    }

    pub fn enable(&self, name: &str) -> Result<()> {
        self.replace(name, "userAccountControl: 512")
    }

    /// Brings back what was deleted, under a DN of its own choice; `id` as `objectGUID:...` or the GUID alone.
    pub fn undelete(&self, id: &str, dn: &str) -> Result<()> {
        let guid = id.rsplit(':').next().unwrap_or_default();
        // By its name: where `<GUID=...>` stands for it, Samba does not find it a second time.
        let found = run(Command::new(program("ldapsearch")?)
            .env("LDAPTLS_CACERT", &self.ca_file)
            .args(["-x", "-LLL", "-o", "ldif-wrap=no", "-E", "!1.2.840.113556.1.4.417", "-H", &self.ldaps_url()])
            .args(["-D", Self::ADMIN_DN, "-w", Self::ADMIN_PASSWORD, "-b", Self::BASE])
            .args([&format!("(&(isDeleted=TRUE)(name=*DEL:{guid}))"), "1.1"]))?;
        let found = String::from_utf8_lossy(&found.stdout);
        let deleted = found.lines().find(|line| line.starts_with("dn:")).context("nobody of this id was deleted")?;
        let ldif = format!(
            "{deleted}\nchangetype: modify\ndelete: isDeleted\n-\nreplace: distinguishedName\ndistinguishedName: {dn}\n"
        );
        let file = self.dir.join("undelete.ldif");
        fs::write(&file, ldif)?;
        // LDAP_SERVER_SHOW_DELETED_OID
        run(Command::new(program("ldapmodify")?)
            .env("LDAPTLS_CACERT", &self.ca_file)
            .args(["-x", "-e", "!1.2.840.113556.1.4.417", "-H", &self.ldaps_url()])
            .args(["-D", Self::ADMIN_DN, "-w", Self::ADMIN_PASSWORD, "-f"])
            .arg(&file))?;
        Ok(())
    }

    /// The account ended long ago.
    pub fn expire(&self, name: &str) -> Result<()> {
        self.replace(name, "accountExpires: 1")
    }

    pub fn require_new_password(&self, name: &str) -> Result<()> {
        self.replace(name, "pwdLastSet: 0")
    }

    /// The right that DirSync needs, "Replicating Directory Changes" on the domain, and not more (S-13).
    pub fn allow_replication(&self, dn: &str) -> Result<()> {
        self.replication(dn, "allow")
    }

    /// Takes it away again.
    pub fn deny_replication(&self, dn: &str) -> Result<()> {
        self.replication(dn, "deny")
    }

    fn replication(&self, dn: &str, action: &str) -> Result<()> {
        run(Command::new(program("samba-tool")?)
            .args(["dsacl", "set", "--car=get-changes", &format!("--action={action}")])
            .args([format!("--objectdn={}", Self::BASE), format!("--trusteedn={dn}")])
            .arg("-H")
            .arg(self.dir.join("private/sam.ldb"))
            .arg(format!("--configfile={}", configuration_file(&self.dir).display())))?;
        Ok(())
    }

    /// Takes the right to list what lies in a container away from an account.
    pub fn hide_children(&self, container: &str, account: &str) -> Result<()> {
        // ADS_RIGHT_ACTRL_DS_LIST, MS-ADTS section 5.1.3.2
        let sid = self.sid_of(account)?;
        run(Command::new(program("samba-tool")?)
            .args(["dsacl", "set", "--action=deny", &format!("--sddl=(D;;LC;;;{sid})")])
            .arg(format!("--objectdn={container}"))
            .arg("-H")
            .arg(self.dir.join("private/sam.ldb"))
            .arg(format!("--configfile={}", configuration_file(&self.dir).display())))?;
        Ok(())
    }

    /// The last number of an object's SID.
    pub fn rid_of(&self, dn: &str) -> Result<u32> {
        let sid = self.sid_of(dn)?;
        Ok(sid.rsplit('-').next().context("a SID is longer")?.parse()?)
    }

    /// An object's SID: `S-1-5-21-...` (MS-DTYP section 2.4.2.1).
    pub fn sid_of(&self, dn: &str) -> Result<String> {
        sid_of(&self.ldaps_url(), &self.ca_file, Self::ADMIN_DN, dn)
    }

    /// Somebody came from other domains, where these were their SIDs. The server lets nobody write that; its file does.
    pub fn migrate(&self, name: &str, sids: &[&str]) -> Result<()> {
        let values: String = sids.iter().map(|sid| format!("sIDHistory: {sid}\n")).collect();
        let dn = Self::dn_of(name);
        let file = self.dir.join("migrate.ldif");
        fs::write(&file, format!("dn: {dn}\nchangetype: modify\nreplace: sIDHistory\n{values}\n"))?;
        run(Command::new(program("ldbmodify")?)
            .arg("-H")
            .arg(self.dir.join("private/sam.ldb"))
            .arg(format!("--configfile={}", configuration_file(&self.dir).display()))
            .arg(&file))?;
        Ok(())
    }

    /// The keys of an account, as `samba-tool` writes them for a host.
    pub fn export_keytab(&self, account: &str, file: &Path) -> Result<()> {
        run(Command::new(program("samba-tool")?)
            .args(["domain", "exportkeytab"])
            .arg(file)
            .arg(format!("--principal={account}@{}", Self::REALM))
            .arg(format!("--configfile={}", configuration_file(&self.dir).display())))?;
        Ok(())
    }

    /// Kerberos has tickets for its address, too, as where an administrator has registered that (`setspn`).
    pub fn register_address(&self) -> Result<()> {
        self.modify(&format!(
            "dn: CN=DC1,OU=Domain Controllers,{base}\nchangetype: modify\nadd: servicePrincipalName\nservicePrincipalName: ldap/{ip}\n",
            base = Self::BASE,
            ip = self.address(),
        ))
    }

    /// How many wrong passwords of an account it has counted since the last right one.
    pub fn wrong_passwords_of(&self, dn: &str) -> Result<u32> {
        let output = run(Command::new(program("ldapsearch")?)
            .env("LDAPTLS_CACERT", &self.ca_file)
            .args(["-x", "-LLL", "-H", &self.ldaps_url(), "-D", Self::ADMIN_DN, "-w"])
            .args([Self::ADMIN_PASSWORD, "-s", "base", "-b", dn, "badPwdCount"]))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let count = text.lines().find_map(|line| line.strip_prefix("badPwdCount: "));
        count.map_or(Ok(0), |count| Ok(count.trim().parse()?))
    }

    /// By as many wrong passwords as it takes.
    pub fn lock(&self, name: &str) -> Result<()> {
        for _ in 0..Self::TRIES {
            ensure!(!self.binds(&Self::dn_of(name), "wrong")?, "{name} signed in with a wrong password");
        }
        Ok(())
    }

    pub fn unlock(&self, name: &str) -> Result<()> {
        self.replace(name, "lockoutTime: 0")
    }

    /// Whether a simple bind over LDAPS succeeds; an error where the password was not the reason.
    pub fn binds(&self, dn: &str, password: &str) -> Result<bool> {
        const INVALID_CREDENTIALS: i32 = 49;
        let output = search(&self.ldaps_url(), &self.ca_file, dn, password)?.output()?;
        match output.status.code() {
            Some(0) => Ok(true),
            Some(INVALID_CREDENTIALS) => Ok(false),
            _ => bail!("binding as {dn}: {}", String::from_utf8_lossy(&output.stderr)),
        }
    }

    /// The names of all simple binds that have reached it, as they were sent.
    pub fn bound_names(&self) -> Vec<String> {
        let log = self.log();
        let sent = log.lines().filter_map(|line| line.split_once("Auth: [LDAP,simple bind")?.1.split_once("user ["));
        let names = sent.filter_map(|(_, rest)| rest.split_once("]\\[")?.1.split_once("] at ["));
        names.map(|(name, _)| name.to_owned()).collect()
    }

    /// How often it has looked at a proof of this account's password or key by Kerberos.
    pub fn proofs_of(&self, account: &str) -> usize {
        let account = format!("\\[{account}@{}] at [", Self::REALM);
        let is_logon = |line: &&str| line.contains("Auth: [Kerberos KDC,ENC-TS") && line.contains(&account);
        self.log().lines().filter(is_logon).count()
    }

    /// How often it has looked at a password of this account by NTLM, inside LDAP.
    pub fn logons_of(&self, account: &str) -> usize {
        let account = format!("\\[{account}] at [");
        let is_logon = |line: &&str| line.contains("Auth: [LDAP,NTLM") && line.contains(&account);
        self.log().lines().filter(is_logon).count()
    }

    fn replace(&self, name: &str, value: &str) -> Result<()> {
        let attribute = value.split(':').next().unwrap_or_default();
        let dn = BASE64.encode(Self::dn_of(name).as_bytes());
        self.modify(&format!("dn:: {dn}\nchangetype: modify\nreplace: {attribute}\n{value}\n"))
    }

    /// Until it answers by LDAP and through winbindd.
    fn wait(&self) -> Result<()> {
        self.wait_for_ldap()?;
        wait_until("winbindd to answer", Duration::from_secs(60), || {
            let wbinfo = self.wrapped("wbinfo").map(|file| Command::new(file).arg("-p").output());
            wbinfo.is_ok_and(|output| output.is_ok_and(|output| output.status.success()))
        })
        .with_context(|| self.log())
    }

    fn wait_for_ldap(&self) -> Result<()> {
        wait_until("Samba to answer", Duration::from_secs(60), || {
            self.binds(Self::ADMIN_DN, Self::ADMIN_PASSWORD).is_ok()
        })
        .with_context(|| self.log())
    }

    fn log(&self) -> String {
        self.process.as_ref().map(Proc::log).unwrap_or_default()
    }
}

/// The loopback address of one domain controller: nobody else's as long as this lives.
struct Address {
    ip: Ipv4Addr,
    /// Locked. Tests of other processes look for an address, too, and one that is about to be bound looks free.
    _lock: File,
}

impl Address {
    fn take() -> Result<Self> {
        for last in 20..=250 {
            let ip = Ipv4Addr::new(127, 0, 0, last);
            let lock = File::create(std::env::temp_dir().join(format!("twinlock-lab-{ip}.lock")))?;
            if lock.try_lock().is_ok()
                && [88, 135, 389, 464, 636].iter().all(|port| TcpListener::bind((ip, *port)).is_ok())
            {
                return Ok(Self { ip, _lock: lock });
            }
        }
        bail!("no loopback address between 127.0.0.20 and 127.0.0.250 is free")
    }
}

/// The folder with the domain that every start copies, made if it is not there.
fn new_domain() -> Result<PathBuf> {
    template("lab-samba", &domain_parts()?.each_ref().map(Vec::as_slice), |making| {
        let tree = making.join("samba");
        provision(&tree).context("making the domain")?;
        Ok(tree)
    })
}

/// And with contacts, which take as long again: the script writes them to the files of a domain that does not run, by LDAP it would
/// take ten times as long.
fn new_domain_with_contacts(count: usize) -> Result<PathBuf> {
    let domain = new_domain()?;
    let [version, people, source] = domain_parts()?;
    let (script, number) = (include_bytes!("../data/samba_contacts.py"), count.to_string());
    template("lab-samba-contacts", &[&version, &people, &source, script, number.as_bytes()], |making| {
        let tree = making.join("samba");
        run(Command::new("cp").args(["-a", "--sparse=always"]).arg(domain).arg(&tree))?;
        // Its configuration names where it lies.
        let pki = Pki::new(&making.join("tls"))?;
        configure(&tree, Ipv4Addr::LOCALHOST, "DC1", &pki.issue("first", &["127.0.0.1"])?, &pki.ca_file())?;
        let script = repository().join("tests/lab/data/samba_contacts.py");
        run(Command::new("/usr/bin/python3").arg(script).arg(&tree).arg(count.to_string()))?;
        Ok(tree)
    })
}

/// What a domain is made of.
fn domain_parts() -> Result<[Vec<u8>; 3]> {
    let user = run(Command::new("id").arg("-u"))?;
    ensure!(
        user.stdout == b"0\n",
        "Samba's domain controller needs root: it owns what it serves, and listens on ports below 1024"
    );
    let version = run(Command::new(program("samba")?).arg("--version"))?.stdout;
    Ok([version, domain().into_bytes(), include_bytes!("samba.rs").to_vec()])
}

fn provision(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir.join("log"))?;
    let empty = dir.join("log/empty.conf");
    fs::write(&empty, "")?;
    let address = Address::take()?;
    let ip = address.ip;
    let samba_tool = program("samba-tool")?;
    run(Command::new(&samba_tool)
        .args(["domain", "provision", "--server-role=dc", "--dns-backend=NONE", "--host-name=dc1"])
        .arg(format!("--targetdir={}", dir.display()))
        .arg(format!("--configfile={}", empty.display()))
        .args([format!("--realm={}", Samba::REALM), format!("--domain={}", Samba::DOMAIN)])
        .args([format!("--adminpass={}", Samba::ADMIN_PASSWORD), format!("--host-ip={ip}")])
        .args([format!("--option=interfaces={ip}/8"), "--option=bind interfaces only=yes".to_owned()]))?;
    let pki = Pki::new(&dir.join("tls"))?;
    let tls = pki.issue("first", &[&ip.to_string()])?;
    configure(dir, ip, "DC1", &tls, &pki.ca_file())?;
    fs::write(dir.join("hosts"), format!("{ip} {} dc1 lab.test\n", Samba::HOST))?;
    // The password of a test is right for as long as the domain is kept, and what is locked stays so.
    run(Command::new(&samba_tool)
        .args(["domain", "passwordsettings", "set", "--complexity=off", "--min-pwd-age=0", "--max-pwd-age=0"])
        .args(["--history-length=0", "--min-pwd-length=0", "--account-lockout-duration=0"])
        .arg(format!("--account-lockout-threshold={}", Samba::TRIES))
        .arg(format!("--configfile={}", configuration_file(dir).display())))?;
    let mut samba = Samba { dir: dir.into(), address, process: Some(spawn(dir, &[])?), ca_file: pki.ca_file() };
    samba.wait()?;
    samba.modify(&domain())?;
    samba.stop();
    // The server lets nobody choose when a password was set. Its file does.
    let long_ago = dir.join("long-ago.ldif");
    let paula = Samba::dn_of("paula.passwordexpired");
    fs::write(
        &long_ago,
        format!("dn: {paula}\nchangetype: modify\nreplace: pwdLastSet\npwdLastSet: 132000000000000000\n"),
    )?;
    run(Command::new(program("ldbmodify")?)
        .arg("-H")
        .arg(dir.join("private/sam.ldb.d/DC=LAB,DC=TEST.ldb"))
        .arg(&long_ago))?;
    Ok(())
}

fn spawn(dir: &Path, options: &[&str]) -> Result<Proc> {
    spawn_in(dir, options, &[])
}

fn spawn_in(dir: &Path, options: &[&str], environment: &[(String, String)]) -> Result<Proc> {
    let mut command = Command::new(program("samba")?);
    command
        .args(["-i", "-M", "single", "--debug-stdout", "-d", "1 auth_audit:3"])
        .arg(format!("--configfile={}", configuration_file(dir).display()))
        .args(options)
        .envs(environment.iter().map(|(variable, value)| (variable, value)));
    Proc::spawn("samba", command, &dir.join("samba.log"))
}

fn configuration_file(dir: &Path) -> PathBuf {
    dir.join("etc/smb.conf")
}

/// Everything that names a path or the address.
fn configure(dir: &Path, ip: Ipv4Addr, host: &str, tls: &Certificate, ca_file: &Path) -> Result<()> {
    for folder in ["etc", "run", "log", "ncalrpc", "winbindd", "cache"] {
        fs::create_dir_all(dir.join(folder))?;
    }
    let (certificate, key, authority) = (tls.certificate.display(), tls.key.display(), ca_file.display());
    let (folder, domain, realm) = (dir.display(), Samba::DOMAIN, Samba::REALM);
    fs::write(
        configuration_file(dir),
        format!(
            "[global]
	netbios name = {host}
	realm = {realm}
	workgroup = {domain}
	server role = active directory domain controller
	server services = ldap, cldap, kdc, rpc, winbindd
	interfaces = {ip}/8
	bind interfaces only = yes
	disable netbios = yes
	private dir = {folder}/private
	state directory = {folder}/state
	lock directory = {folder}
	cache directory = {folder}/cache
	pid directory = {folder}/run
	binddns dir = {folder}/bind-dns
	ncalrpc dir = {folder}/ncalrpc
	winbindd socket directory = {folder}/winbindd
	ntp signd socket directory = {folder}/run/ntp
	log file = {folder}/log/log.%m
	ntlm auth = mschapv2-and-ntlmv2-only
	ldap server require strong auth = yes
	tls enabled = yes
	tls certfile = {certificate}
	tls keyfile = {key}
	tls cafile = {authority}
"
        ),
    )?;
    fs::write(
        dir.join("passwd"),
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    )?;
    fs::write(dir.join("group"), "root:x:0:\nnogroup:x:65534:\n")?;
    Ok(())
}

/// For its address, its names, and a balancer on this machine that stands before it.
fn certificate(pki: &Pki, ip: Ipv4Addr, host: &str) -> Result<Certificate> {
    pki.issue(&format!("samba-{ip}"), &[&ip.to_string(), host, "lab.test", "127.0.0.1"])
}

fn search(url: &str, ca_file: &Path, dn: &str, password: &str) -> Result<Command> {
    let mut command = Command::new(program("ldapsearch")?);
    command.env("LDAPTLS_CACERT", ca_file).args([
        "-x",
        "-LLL",
        "-o",
        "nettimeout=10",
        "-H",
        url,
        "-D",
        dn,
        "-w",
        password,
    ]);
    command.args(["-s", "base", "-b", "", "dnsHostName"]);
    Ok(command)
}

fn sid_of(url: &str, ca_file: &Path, admin: &str, dn: &str) -> Result<String> {
    let output = run(Command::new(program("ldapsearch")?)
        .env("LDAPTLS_CACERT", ca_file)
        .args(["-x", "-LLL", "-o", "ldif-wrap=no", "-H", url, "-D", admin, "-w"])
        .args([Samba::ADMIN_PASSWORD, "-s", "base", "-b", dn, "objectSid"]))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let sid = text.lines().find_map(|line| line.strip_prefix("objectSid:: ")).context("it has no SID")?;
    let octets = BASE64.decode(sid.as_bytes())?;
    let (head, subs) = octets.split_first_chunk::<8>().context("a SID is longer")?;
    let subs = subs.as_chunks::<4>().0.iter().map(|octets| format!("-{}", u32::from_le_bytes(*octets)));
    Ok(format!("S-1-{}{}", head[7], subs.collect::<String>()))
}

fn modify(url: &str, ca_file: &Path, admin: &str, dir: &Path, ldif: &str) -> Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    std::io::Write::write_all(&mut file, ldif.as_bytes())?;
    run(Command::new(program("ldapmodify")?)
        .env("LDAPTLS_CACERT", ca_file)
        .args(["-x", "-H", url, "-D", admin, "-w", Samba::ADMIN_PASSWORD, "-f"])
        .arg(file.path()))?;
    Ok(())
}

/// What is in the domain beside what Samba puts there, as changes.
fn domain() -> String {
    let mut ldif = String::new();
    for unit in ["people", "groups", "service"] {
        write!(ldif, "dn: OU={unit},{base}\nchangetype: add\nobjectClass: organizationalUnit\n\n", base = Samba::BASE)
            .expect("writing to a string");
    }
    let service = person("twinlock", Samba::QUERY_PASSWORD, "")
        .replace(&BASE64.encode(Samba::dn_of("twinlock").as_bytes()), &BASE64.encode(Samba::QUERY_DN.as_bytes()));
    ldif.push_str(&service);
    let nobody_hours = format!("logonHours:: {}\n", BASE64.encode(&[0; 21]));
    let people = [
        ("ann.archer", "givenName: Ann\nsn: Archer\nmail: ann.archer@lab.test\nmobile: +49 151 55500000\n"),
        ("ben.baker", "givenName: Ben\nsn: Baker\nmail: ben.baker@lab.test\nmobile: +49 151 55500001\n"),
        ("carla.cook", "givenName: Carla\nsn: Cook\nmail: carla.cook@lab.test\n"),
        ("dora.disabled", "userAccountControl: 514\n"),
        ("eric.expired", "accountExpires: 1\n"),
        ("hugo.hours", &nobody_hours),
        ("max.mustchange", "pwdLastSet: 0\n"),
        ("paula.passwordexpired", ""),
        ("jörg.groß", ""),
        ("dol$lar", ""),
        ("with space", ""),
    ];
    for (name, more) in people {
        ldif.push_str(&person(name, &password_of(name), more));
    }
    for (group, members) in [
        ("vpn-users", ["CN=ann.archer,OU=people", "CN=ben.baker,OU=people"].as_slice()),
        ("staff", &["CN=vpn-users,OU=groups", "CN=carla.cook,OU=people"]),
    ] {
        write!(ldif, "dn: CN={group},OU=groups,{}\nchangetype: add\nobjectClass: group\n", Samba::BASE)
            .expect("writing to a string");
        writeln!(ldif, "sAMAccountName: {group}").expect("writing to a string");
        for member in members {
            writeln!(ldif, "member: {member},{}", Samba::BASE).expect("writing to a string");
        }
        ldif.push('\n');
    }
    // Passwords that last two days; under one day it would be for ever.
    write!(
        ldif,
        "dn: CN=two days,CN=Password Settings Container,CN=System,{base}
changetype: add
objectClass: msDS-PasswordSettings
msDS-PasswordSettingsPrecedence: 1
msDS-PasswordReversibleEncryptionEnabled: FALSE
msDS-PasswordHistoryLength: 0
msDS-PasswordComplexityEnabled: FALSE
msDS-MinimumPasswordLength: 0
msDS-MinimumPasswordAge: 0
msDS-MaximumPasswordAge: -1728000000000
msDS-LockoutThreshold: {tries}
msDS-LockoutObservationWindow: -18000000000
msDS-LockoutDuration: -9223372036854775808
msDS-PSOAppliesTo: {paula}
",
        base = Samba::BASE,
        tries = Samba::TRIES,
        paula = Samba::dn_of("paula.passwordexpired"),
    )
    .expect("writing to a string");
    ldif
}

/// An entry to add. `more` are lines, each with its end.
fn person(name: &str, password: &str, more: &str) -> String {
    let control = if more.contains("userAccountControl") { "" } else { "userAccountControl: 512\n" };
    format!(
        "dn:: {dn}\nchangetype: add\nobjectClass: user\nsAMAccountName:: {account}\nuserPrincipalName:: {principal}\ndisplayName:: {account}\nunicodePwd:: {password}\n{control}{more}\n",
        dn = BASE64.encode(Samba::dn_of(name).as_bytes()),
        account = BASE64.encode(name.as_bytes()),
        principal = BASE64.encode(format!("{name}@lab.test").as_bytes()),
        password = unicode_password(password),
    )
}

/// In quotes and UTF-16, as the domain takes it.
fn unicode_password(password: &str) -> String {
    let octets: Vec<u8> = format!("\"{password}\"").encode_utf16().flat_map(u16::to_le_bytes).collect();
    BASE64.encode(&octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_controller_starts_and_answers_for_everybody() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let pki = Pki::new(&dir.path().join("tls"))?;
        let mut samba = Samba::start(dir.path(), &pki)?;
        for name in ["ann.archer", "jörg.groß", "dol$lar", "with space"] {
            assert!(samba.binds(&Samba::dn_of(name), &password_of(name))?, "{name}");
            assert!(!samba.binds(&Samba::dn_of(name), "wrong")?, "{name}");
        }
        assert!(samba.binds(Samba::QUERY_DN, Samba::QUERY_PASSWORD)?);
        for name in ["dora.disabled", "eric.expired", "hugo.hours", "max.mustchange", "paula.passwordexpired"] {
            assert!(!samba.binds(&Samba::dn_of(name), &password_of(name))?, "{name}");
        }
        let ben = || samba.binds(&Samba::dn_of("ben.baker"), &password_of("ben.baker"));
        samba.lock("ben.baker")?;
        assert!(!ben()?);
        samba.unlock("ben.baker")?;
        assert!(ben()?);
        samba.disable("ben.baker")?;
        assert!(!ben()?);
        samba.enable("ben.baker")?;
        assert!(ben()?);
        samba.set_password("ben.baker", "another")?;
        assert!(!ben()?);
        samba.expire("carla.cook")?;
        assert!(!samba.binds(&Samba::dn_of("carla.cook"), &password_of("carla.cook"))?);
        samba.add("dave", "secret")?;
        assert!(samba.binds(&Samba::dn_of("dave"), "secret")?);
        samba.require_new_password("dave")?;
        assert!(!samba.binds(&Samba::dn_of("dave"), "secret")?);
        samba.kill();
        assert!(samba.binds(Samba::QUERY_DN, Samba::QUERY_PASSWORD).is_err());
        samba.restart()?;
        assert!(samba.binds(Samba::QUERY_DN, Samba::QUERY_PASSWORD)?);
        assert!(!samba.binds(&Samba::dn_of("dave"), "secret")?, "what was changed is still there");
        Ok(())
    }

    #[test]
    fn two_domain_controllers_run_side_by_side() -> Result<()> {
        let dirs = (tempfile::tempdir()?, tempfile::tempdir()?);
        let pki = Pki::new(&dirs.0.path().join("tls"))?;
        let (one, other) = (Samba::start(dirs.0.path(), &pki)?, Samba::start(dirs.1.path(), &pki)?);
        assert_ne!(one.address(), other.address());
        one.set_password("ann.archer", "another")?;
        let ann = Samba::dn_of("ann.archer");
        assert!(one.binds(&ann, "another")? && !other.binds(&ann, "another")?);
        Ok(())
    }
}
