//! A real 389 Directory Server with the sample company.
//!
//! Making an instance takes a quarter of a minute: it is made once, kept below `target/`, and every start works on a copy. Nothing of it
//! lies outside of its folder, and no service manager is asked.

use crate::{
    COMPANY_BASE, Pki, Proc, free_port, process::run, program, repository, slapd, template::template, wait_until,
};
use anyhow::{Context, Result};
use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// A server on free loopback ports, by LDAP (with StartTLS) and LDAPS, stopped when dropped. It has the accounts of
/// [`crate::Slapd`] with the same passwords, and mostly [`Ds389::BULK_PEOPLE`] people more in `ou=bulk`.
pub struct Ds389 {
    dir: PathBuf,
    process: Option<Proc>,
    ldap_port: u16,
    ldaps_port: u16,
    ca_file: PathBuf,
}

impl Ds389 {
    /// No entry of the directory.
    pub const ADMIN_DN: &str = "cn=Directory Manager";
    pub const ADMIN_PASSWORD: &str = "Admin-ds389-2b6e";
    pub const BULK_PEOPLE: usize = 10_000;

    /// Starts a server in `dir`, with a certificate of `pki` for 127.0.0.1 and localhost.
    pub fn start(dir: &Path, pki: &Pki) -> Result<Self> {
        let mut server = Self::settled(dir, pki)?;
        server.restart()?;
        Ok(server)
    }

    /// The same with nobody in `ou=bulk`, and without that unit.
    pub fn start_without_bulk(dir: &Path, pki: &Pki) -> Result<Self> {
        let mut server = Self::settled(dir, pki)?;
        import(&server.dir, &company(0)?)?;
        server.restart()?;
        Ok(server)
    }

    /// A copy of the template with a place of its own, not started.
    fn settled(dir: &Path, pki: &Pki) -> Result<Self> {
        let template = instance()?;
        let dir = dir.join("ds389");
        run(Command::new("cp").args(["-a", "--sparse=always"]).arg(&template).arg(&dir))?;
        let server =
            Self { dir, process: None, ldap_port: free_port(), ldaps_port: free_port(), ca_file: pki.ca_file() };
        server.settle(pki)?;
        Ok(server)
    }

    /// Puts the place, the ports and the certificate in.
    fn settle(&self, pki: &Pki) -> Result<()> {
        let folder = self.dir.display().to_string();
        for file in NAMING_PATHS {
            replace_in(&self.dir.join(file), &[(HERE, &folder)])?;
        }
        replace_in(
            &self.dir.join(SETTINGS),
            &[(LDAP_PORT, &self.ldap_port.to_string()), (LDAPS_PORT, &self.ldaps_port.to_string())],
        )?;
        let tls = pki.issue(&format!("ds389-{}", self.ldap_port), &["127.0.0.1", "localhost"])?;
        let (store, bag) = (self.dir.join(INSTANCE), self.dir.join("server.p12"));
        run(Command::new(program("openssl")?)
            .args(["pkcs12", "-export", "-name", "Server-Cert", "-passout", "pass:", "-in"])
            .arg(&tls.certificate)
            .arg("-inkey")
            .arg(&tls.key)
            .arg("-out")
            .arg(&bag))?;
        let nss = |name: &str| -> Result<Command> {
            let mut command = Command::new(program(name)?);
            command.arg("-d").arg(&store);
            Ok(command)
        };
        let password = store.join("pwdfile.txt");
        run(nss("certutil")?.args(["-D", "-n", "Server-Cert", "-f"]).arg(&password))?;
        run(nss("certutil")?
            .args(["-A", "-n", "Lab-CA", "-t", "CT,,", "-a", "-f"])
            .arg(&password)
            .arg("-i")
            .arg(self.ca_file()))?;
        run(nss("pk12util")?.arg("-i").arg(&bag).arg("-k").arg(&password).args(["-W", ""]))?;
        Ok(())
    }

    /// Starts it again on the same ports with the same data.
    pub fn restart(&mut self) -> Result<()> {
        self.process = None;
        let mut command = Command::new(program("ns-slapd")?);
        command
            .arg("-D")
            .arg(self.dir.join(INSTANCE))
            .arg("-i")
            .arg(self.dir.join("run/dirsrv/lab.pid"))
            .args(["-d", "0"]);
        self.process = Some(Proc::spawn("ns-slapd", command, &self.dir.join("ns-slapd.log"))?);
        for port in [self.ldap_port, self.ldaps_port] {
            wait_until("389 Directory Server to listen", Duration::from_secs(60), || {
                TcpStream::connect(("127.0.0.1", port)).is_ok()
            })
            .with_context(|| self.process.as_ref().map(Proc::log).unwrap_or_default())?;
        }
        Ok(())
    }

    pub fn ldap_url(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.ldap_port)
    }

    pub fn ldaps_url(&self) -> String {
        format!("ldaps://127.0.0.1:{}", self.ldaps_port)
    }

    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// `ldapmodify` as the administrator.
    pub fn modify(&self, ldif: &str) -> Result<()> {
        slapd::modify(&self.dir, &self.ldap_url(), [Self::ADMIN_DN, Self::ADMIN_PASSWORD], ldif)
    }
}

/// Below the folder of a server.
const INSTANCE: &str = "etc/dirsrv/slapd-lab";
const SETTINGS: &str = "etc/dirsrv/slapd-lab/dse.ldif";
const NAMING_PATHS: [&str; 2] = [SETTINGS, "etc/dirsrv/slapd-lab/pkcs11.txt"];

/// What stands in a template for what each copy has of its own.
const HERE: &str = "@HERE@";
const LDAP_PORT: &str = "@LDAP_PORT@";
const LDAPS_PORT: &str = "@LDAPS_PORT@";

/// The folder that every start copies, made if it is not there.
fn instance() -> Result<PathBuf> {
    // It says so and ends as if that were an error.
    let version = Command::new(program("ns-slapd")?).arg("-v").output()?.stdout;
    let company = company(Ds389::BULK_PEOPLE)?;
    template("lab-ds389", &[&version, company.as_bytes(), include_bytes!("ds389.rs")], |making| {
        make(making, &company).context("making an instance of 389 Directory Server")?;
        Ok(making.to_owned())
    })
}

fn make(dir: &Path, company: &str) -> Result<()> {
    let here = dir.display().to_string();
    for folder in
        ["share/dirsrv/inf", "etc/default", "run/dirsrv", "run/lock/dirsrv", "var/lib/dirsrv", "var/log/dirsrv"]
    {
        fs::create_dir_all(dir.join(folder))?;
    }
    run(Command::new("cp").arg("-a").arg("/etc/dirsrv").arg(dir.join("etc")))?;
    run(Command::new("cp").arg("-a").arg("/usr/share/dirsrv/data").arg(dir.join("share/dirsrv")))?;
    let user = run(Command::new("id").arg("-un"))?.stdout;
    let user = String::from_utf8_lossy(&user).trim().to_owned();
    let paths: String = fs::read_to_string("/usr/share/dirsrv/inf/defaults.inf")?
        .lines()
        .map(|line| {
            let key = line.split(" = ").next().unwrap_or_default();
            let value = match (key, line.split(" = ").nth(1)) {
                ("with_systemd", _) => "0".to_owned(),
                ("user" | "group", _) => user.clone(),
                ("inst_dir", _) => format!("{here}/var/lib/dirsrv/slapd-{{instance_name}}"),
                ("db_home_dir", _) => format!("{here}/var/lib/dirsrv/slapd-{{instance_name}}/db"),
                (_, Some(path)) if ["/etc", "/var", "/run"].iter().any(|root| path.starts_with(root)) => {
                    format!("{here}{path}")
                }
                _ => return format!("{line}\n"),
            };
            format!("{key} = {value}\n")
        })
        .collect();
    fs::write(dir.join("share/dirsrv/inf/defaults.inf"), paths)?;
    let (ldap_port, ldaps_port) = (free_port(), free_port());
    fs::write(
        dir.join("lab.inf"),
        format!(
            "[general]
full_machine_name = localhost
strict_host_checking = False
selinux = False
systemd = False
start = False
[slapd]
instance_name = lab
port = {ldap_port}
secure_port = {ldaps_port}
root_password = {password}
self_sign_cert = True
[backend-userroot]
suffix = {COMPANY_BASE}
sample_entries = no
create_suffix_entry = False
",
            password = Ds389::ADMIN_PASSWORD
        ),
    )?;
    run(Command::new(program("dscreate")?).env("PREFIX", dir).arg("from-file").arg(dir.join("lab.inf")))?;
    configure(&dir.join(SETTINGS))?;
    import(dir, company)?;
    // Its own copies of the settings, and what it shares with itself in memory.
    let database = dir.join("var/lib/dirsrv/slapd-lab/db");
    for (folder, prefix) in [(dir.join(INSTANCE), "dse.ldif."), (database, "__db.")] {
        for file in fs::read_dir(folder)?.flatten() {
            if file.file_name().to_string_lossy().starts_with(prefix) {
                fs::remove_file(file.path())?;
            }
        }
    }
    for file in NAMING_PATHS {
        replace_in(&dir.join(file), &[(&here, HERE)])?;
    }
    replace_in(
        &dir.join(SETTINGS),
        &[
            (&format!("ort: {ldap_port}\n"), &format!("ort: {LDAP_PORT}\n")),
            (&format!("ort: {ldaps_port}\n"), &format!("ort: {LDAPS_PORT}\n")),
        ],
    )
}

/// Puts this in place of everything that a server has, which does not run meanwhile.
fn import(dir: &Path, ldif: &str) -> Result<()> {
    fs::write(dir.join("company.ldif"), ldif)?;
    run(Command::new(program("ns-slapd")?)
        .args(["ldif2db", "-n", "userroot", "-D"])
        .arg(dir.join(INSTANCE))
        .arg("-i")
        .arg(dir.join("company.ldif")))?;
    Ok(())
}

/// The company, what each may do in it, and so many people more.
fn company(bulk_people: usize) -> Result<String> {
    let rights = "objectClass: dcObject
aci: (targetattr != \"userPassword || aci\")(version 3.0; acl \"who is known reads\"; allow (read, search, compare) userdn = \"ldap:///all\";)
aci: (targetattr = \"userPassword\")(version 3.0; acl \"each their own\"; allow (write) userdn = \"ldap:///self\";)";
    let mut ldif = fs::read_to_string(repository().join("tests/lab/data/company.ldif"))?;
    ldif = ldif.replacen("objectClass: dcObject", rights, 1);
    slapd::bulk(&mut ldif, bulk_people);
    Ok(ldif)
}

/// What an installation would set, in the file that the server reads at its start.
fn configure(file: &Path) -> Result<()> {
    const DATABASE: &str = "cn=config,cn=ldbm database,cn=plugins,cn=config";
    const ENGINE: &str = "cn=bdb,cn=config,cn=ldbm database,cn=plugins,cn=config";
    let plugin = |name: &str| (format!("cn={name},cn=plugins,cn=config"), "nsslapd-pluginEnabled", "on");
    let settings = [
        ("cn=config".to_owned(), "nsslapd-listenhost", "127.0.0.1"),
        ("cn=config".to_owned(), "nsslapd-securelistenhost", "127.0.0.1"),
        ("cn=config".to_owned(), "nsslapd-sizelimit", "-1"),
        // As large as the largest message that passes here.
        ("cn=config".to_owned(), "nsslapd-maxbersize", "16777216"),
        // The usual one is made to be slow, ten thousand times here.
        ("cn=config".to_owned(), "passwordStorageScheme", "SSHA512"),
        (DATABASE.to_owned(), "nsslapd-lookthroughlimit", "-1"),
        (DATABASE.to_owned(), "nsslapd-rangelookthroughlimit", "-1"),
        (DATABASE.to_owned(), "nsslapd-idlistscanlimit", "100000"),
        // Not a quarter of the machine's memory.
        (ENGINE.to_owned(), "nsslapd-cache-autosize", "0"),
        (ENGINE.to_owned(), "nsslapd-dbcachesize", "33554432"),
        ("cn=userroot,cn=ldbm database,cn=plugins,cn=config".to_owned(), "nsslapd-cachememsize", "67108864"),
        plugin("MemberOf Plugin"),
        plugin("Retro Changelog Plugin"),
        // Without it the changelog names nobody by their id, and content synchronisation is silent.
        ("cn=Retro Changelog Plugin,cn=plugins,cn=config".to_owned(), "nsslapd-attribute", "nsuniqueid:targetUniqueId"),
        plugin("Content Synchronization"),
    ];
    // Long lines are folded there.
    let text = fs::read_to_string(file)?.replace("\n ", "");
    let mut entries: Vec<String> = text.split("\n\n").map(str::to_owned).collect();
    for (dn, attribute, value) in &settings {
        let wanted = format!("dn: {dn}").to_ascii_lowercase();
        let entry = entries
            .iter_mut()
            .find(|entry| entry.lines().next().is_some_and(|line| line.to_ascii_lowercase() == wanted))
            .with_context(|| format!("no {dn} among the settings"))?;
        let named = format!("{attribute}:").to_ascii_lowercase();
        let others = entry.trim_end().lines().filter(|line| !line.to_ascii_lowercase().starts_with(&named));
        *entry = others.map(|line| format!("{line}\n")).chain([format!("{attribute}: {value}")]).collect();
    }
    Ok(fs::write(file, entries.join("\n\n") + "\n")?)
}

fn replace_in(file: &Path, replacements: &[(&str, &str)]) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let text = replacements.iter().fold(text, |text, (from, to)| text.replace(from, to));
    Ok(fs::write(file, text)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Slapd, password_of};

    #[test]
    fn a_389_directory_server_starts_and_comes_back() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let pki = Pki::new(&dir.path().join("tls"))?;
        let mut server = Ds389::start(dir.path(), &pki)?;
        let ann = format!("uid=ann.archer,ou=engineering,ou=people,{COMPANY_BASE}");
        let whoami = |url: &str, dn: &str, password: &str, more: &[&str]| -> Result<()> {
            let mut command = Command::new(program("ldapwhoami")?);
            command.env("LDAPTLS_CACERT", pki.ca_file()).args(["-x", "-H", url, "-D", dn, "-w", password]).args(more);
            run(&mut command).map(drop)
        };
        whoami(&server.ldap_url(), &ann, &password_of("ann.archer"), &["-ZZ"])?;
        assert!(whoami(&server.ldaps_url(), &ann, "wrong", &[]).is_err());
        server.modify(&format!("dn: {ann}\nchangetype: modify\nreplace: mobile\nmobile: +1\n"))?;
        server.restart()?;
        let found = run(Command::new(program("ldapsearch")?)
            .env("LDAPTLS_CACERT", pki.ca_file())
            .args(["-x", "-LLL", "-H", &server.ldaps_url(), "-D", Slapd::QUERY_DN, "-w", Slapd::QUERY_PASSWORD])
            .args(["-b", COMPANY_BASE, "(objectClass=inetOrgPerson)", "mobile"]))?;
        let found = String::from_utf8_lossy(&found.stdout);
        assert_eq!(found.matches("dn: ").count(), 120 + Ds389::BULK_PEOPLE);
        assert!(found.contains("mobile: +1\n"));
        Ok(())
    }
}
