//! A real OpenLDAP server with the sample company.

use crate::{Pki, Proc, free_port, process::run, program, repository, wait_until};
use anyhow::{Context, Result};
use std::{
    fmt::Write as _,
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

pub const COMPANY_BASE: &str = "dc=acme,dc=example";

/// The password of a person of the sample company.
pub fn password_of(uid: &str) -> String {
    format!("Sesame-{uid}")
}

#[derive(Debug, Clone, Default)]
pub struct SlapdOptions {
    /// More people beside the company: `bulk00001`... in `ou=bulk`.
    pub bulk_people: usize,
    /// Server-side size limit for the query account; 0 = none.
    pub size_limit: usize,
    /// The query account gets no pages.
    pub no_pages: bool,
    /// More slapd.conf lines of the database; the first may be such of its `syncprov`.
    pub database_lines: String,
    /// With what was written in `cn=accesslog`, which the query account may read.
    pub access_log: bool,
    /// More slapd.conf lines before the databases, such as attribute types.
    pub schema_lines: String,
    /// Without the statistics log, which costs as much as the small operations it tells of. Nothing can be counted then.
    pub quiet: bool,
    /// `access` lines before the usual ones, which end with one for everything.
    pub access_lines: String,
    /// What another server has ([`Slapd::dump`]), with ids and times, instead of the sample company.
    pub content: Option<String>,
    /// One of several that take changes and hand them on to each other.
    pub provider: Option<Provider>,
}

/// Of a multi-provider set (slapd.conf(5), `multiprovider`).
#[derive(Debug, Clone)]
pub struct Provider {
    /// The `sid` of its change sequence numbers.
    pub server_id: u32,
    pub ldap_port: u16,
    /// By LDAP, where the other one is.
    pub other_port: u16,
}

/// slapd on free loopback ports, by LDAP (with StartTLS) and LDAPS. Its statistics log says what reached it.
pub struct Slapd {
    dir: PathBuf,
    process: Option<Proc>,
    ldap_port: u16,
    ldaps_port: u16,
    ca_file: PathBuf,
    debug: &'static str,
}

impl Slapd {
    pub const ADMIN_DN: &str = "cn=admin,dc=acme,dc=example";
    pub const ADMIN_PASSWORD: &str = "Admin-slapd-91c2";
    /// Reads everything; what Twinlock's query bind uses.
    pub const QUERY_DN: &str = "cn=twinlock,ou=service,dc=acme,dc=example";
    pub const QUERY_PASSWORD: &str = "Service-twinlock-7d1f";
    pub const GITLAB_DN: &str = "cn=gitlab,ou=service,dc=acme,dc=example";
    pub const GITLAB_PASSWORD: &str = "Service-gitlab-3c9a";

    /// Starts a server with the sample company in `dir`, with a certificate of `pki` for 127.0.0.1 and localhost.
    pub fn start(dir: &Path, pki: &Pki, options: &SlapdOptions) -> Result<Self> {
        let dir = dir.join("slapd");
        fs::create_dir_all(dir.join("db"))?;
        fs::create_dir_all(dir.join("accesslog"))?;
        let tls = pki.issue(&format!("slapd-{}", free_port()), &["127.0.0.1", "localhost"])?;
        let conf = configuration(&dir, &pki.ca_file(), &tls.certificate, &tls.key, options);
        fs::write(dir.join("slapd.conf"), conf)?;
        let ldif = match &options.content {
            Some(content) => content.clone(),
            None => {
                let mut company = fs::read_to_string(repository().join("tests/lab/data/company.ldif"))?;
                bulk(&mut company, options.bulk_people);
                company
            }
        };
        fs::write(dir.join("seed.ldif"), ldif)?;
        run(Command::new(program("slapadd")?)
            .args(["-q", "-b", COMPANY_BASE, "-f"])
            .arg(dir.join("slapd.conf"))
            .arg("-l")
            .arg(dir.join("seed.ldif")))?;
        let mut slapd = Self {
            dir,
            process: None,
            ldap_port: options.provider.as_ref().map_or_else(free_port, |provider| provider.ldap_port),
            ldaps_port: free_port(),
            ca_file: pki.ca_file(),
            debug: if options.quiet { "none" } else { "stats" },
        };
        slapd.restart()?;
        Ok(slapd)
    }

    /// Two servers in `first` and `second` below `dir`, each with what is written at the other.
    pub fn start_pair(dir: &Path, pki: &Pki, options: &SlapdOptions) -> Result<[Self; 2]> {
        let (one, two) = (free_port(), free_port());
        let provider = |server_id, ldap_port, other_port| Some(Provider { server_id, ldap_port, other_port });
        let options = SlapdOptions { provider: provider(1, one, two), ..options.clone() };
        let first = Self::start(&dir.join("first"), pki, &options)?;
        let content = Some(first.dump()?);
        let options = SlapdOptions { content, provider: provider(2, two, one), ..options };
        Ok([first, Self::start(&dir.join("second"), pki, &options)?])
    }

    /// All it has, as `slapadd` takes it.
    pub fn dump(&self) -> Result<String> {
        let mut slapcat = Command::new(program("slapcat")?);
        let found = run(slapcat.args(["-b", COMPANY_BASE, "-f"]).arg(self.dir.join("slapd.conf")))?;
        Ok(String::from_utf8(found.stdout)?)
    }

    /// Starts it again on the same ports with the same data.
    pub fn restart(&mut self) -> Result<()> {
        self.process = None;
        let mut command = Command::new(program("slapd")?);
        command
            .arg("-f")
            .arg(self.dir.join("slapd.conf"))
            .arg("-h")
            .arg(format!("{} {}", self.ldap_url(), self.ldaps_url()))
            .args(["-d", self.debug]);
        self.process = Some(Proc::spawn("slapd", command, &self.log_file())?);
        for port in [self.ldap_port, self.ldaps_port] {
            wait_until("slapd to listen", Duration::from_secs(60), || TcpStream::connect(("127.0.0.1", port)).is_ok())
                .with_context(|| self.log())?;
        }
        Ok(())
    }

    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Keeps a copy of the data, stopped meanwhile.
    pub fn back_up(&mut self) -> Result<()> {
        self.copy("db", "backup")
    }

    /// Back to the data of the copy.
    pub fn restore(&mut self) -> Result<()> {
        self.copy("backup", "db")
    }

    /// Loads what it has anew: the same entries with the same ids, and nothing in it was written before now.
    pub fn load_anew(&mut self) -> Result<()> {
        self.stop();
        let dump = self.dump()?;
        let kept = dump.lines().filter(|line| !line.starts_with("entryCSN:") && !line.starts_with("contextCSN:"));
        let file = self.dir.join("dump.ldif");
        fs::write(&file, kept.map(|line| line.to_owned() + "\n").collect::<String>())?;
        for name in ["data.mdb", "lock.mdb"] {
            fs::remove_file(self.dir.join("db").join(name))?;
        }
        let conf = self.dir.join("slapd.conf");
        run(Command::new(program("slapadd")?).args(["-q", "-b", COMPANY_BASE, "-f"]).arg(conf).arg("-l").arg(file))?;
        self.restart()
    }

    fn copy(&mut self, from: &str, to: &str) -> Result<()> {
        self.stop();
        let (from, to) = (self.dir.join(from), self.dir.join(to));
        fs::create_dir_all(&to)?;
        // A file of 16 GiB that is nearly all holes.
        run(Command::new("cp").arg("--sparse=always").arg(from.join("data.mdb")).arg(to.join("data.mdb")))?;
        self.restart()
    }

    pub fn process(&self) -> Option<&Proc> {
        self.process.as_ref()
    }

    pub fn ldap_url(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.ldap_port)
    }

    pub fn ldaps_url(&self) -> String {
        format!("ldaps://127.0.0.1:{}", self.ldaps_port)
    }

    pub fn ldap_port(&self) -> u16 {
        self.ldap_port
    }

    pub fn ldaps_port(&self) -> u16 {
        self.ldaps_port
    }

    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("slapd.log")
    }

    /// The statistics log: one line a connection, operation and result.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    /// How many bind requests for a DN that contains `dn` have reached the server so far.
    pub fn binds(&self, dn: &str) -> usize {
        let dn = dn.to_ascii_lowercase();
        let is_request = |line: &&str| line.contains(" BIND dn=\"") && line.contains(" method=");
        self.log().lines().filter(is_request).filter(|line| line.to_ascii_lowercase().contains(&dn)).count()
    }

    /// How many entries `ldapsearch` finds, which has no limit as the administrator.
    pub fn count(&self, filter: &str) -> Result<usize> {
        let (name, password) = (Self::ADMIN_DN, Self::ADMIN_PASSWORD);
        let found = run(Command::new(program("ldapsearch")?)
            .args(["-x", "-LLL", "-H", &self.ldap_url(), "-D", name, "-w", password, "-b", COMPANY_BASE])
            .args([filter, "1.1"]))?;
        Ok(String::from_utf8_lossy(&found.stdout).lines().filter(|line| line.starts_with("dn:")).count())
    }

    /// Where its content stands, by the servers that wrote it (`contextCSN`).
    pub fn context_csns(&self) -> Result<Vec<String>> {
        let (name, password) = (Self::ADMIN_DN, Self::ADMIN_PASSWORD);
        let found = run(Command::new(program("ldapsearch")?)
            .args(["-x", "-LLL", "-H", &self.ldap_url(), "-D", name, "-w", password, "-b", COMPANY_BASE])
            .args(["-s", "base", "contextCSN"]))?;
        let found = String::from_utf8_lossy(&found.stdout).into_owned();
        Ok(found.lines().filter_map(|line| line.strip_prefix("contextCSN: ")).map(str::to_owned).collect())
    }

    /// `ldapmodify` as the administrator.
    pub fn modify(&self, ldif: &str) -> Result<()> {
        modify(&self.dir, &self.ldap_url(), [Self::ADMIN_DN, Self::ADMIN_PASSWORD], ldif)
    }
}

pub(crate) fn modify(dir: &Path, url: &str, [name, password]: [&str; 2], ldif: &str) -> Result<()> {
    let file = dir.join(format!("change-{}.ldif", free_port()));
    fs::write(&file, ldif)?;
    run(Command::new(program("ldapmodify")?).args(["-x", "-H", url, "-D", name, "-w", password, "-f"]).arg(&file))?;
    Ok(())
}

fn configuration(dir: &Path, ca: &Path, certificate: &Path, key: &Path, options: &SlapdOptions) -> String {
    let dir = dir.display();
    let size = match options.size_limit {
        0 => "unlimited".to_owned(),
        limit => limit.to_string(),
    };
    let (log, logging) = match options.access_log {
        true => (
            format!(
                "database mdb
suffix cn=accesslog
directory {dir}/accesslog
rootdn {}
maxsize 1073741824
index objectClass,reqStart eq
dbnosync
limits * size=unlimited
access to * by dn.exact={} read by * none
",
                Slapd::ADMIN_DN,
                Slapd::QUERY_DN
            ),
            "overlay accesslog\nlogdb cn=accesslog\nlogops writes\nlogsuccess TRUE\n",
        ),
        false => (String::new(), ""),
    };
    let (server_id, replication) = match &options.provider {
        Some(provider) => (format!("serverID {}", provider.server_id), replication(provider)),
        None => (String::new(), String::new()),
    };
    format!(
        "include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
attributetype ( 1.3.6.1.4.1.4203.666.1.901 NAME 'labToken' EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 SINGLE-VALUE )
objectclass ( 1.3.6.1.4.1.4203.666.3.901 NAME 'labTokenHolder' SUP top AUXILIARY MAY labToken )
{schema}
modulepath /usr/lib/ldap
moduleload back_mdb.la
moduleload memberof.la
moduleload syncprov.la
moduleload sssvlv.la
moduleload accesslog.la
pidfile {dir}/slapd.pid
TLSCACertificateFile {ca}
TLSCertificateFile {certificate}
TLSCertificateKeyFile {key}
TLSProtocolMin 3.3
sizelimit unlimited
{server_id}
threads 8
sockbuf_max_incoming_auth 16777215
access to dn.base=\"\" by * read
access to dn.base=\"cn=subschema\" by * read
database monitor
access to * by dn.exact={admin} read by * none
{log}database mdb
suffix {COMPANY_BASE}
directory {dir}/db
rootdn {admin}
rootpw {password}
maxsize 17179869184
index objectClass,uid,mail,cn,sn,member,entryUUID,entryCSN eq
dbnosync
limits dn.exact=\"{query}\" size={size} time=unlimited {pages}
{access}
access to attrs=userPassword by self write by anonymous auth by * none
access to * by users read by * auth
{replication}overlay memberof
overlay sssvlv
{logging}overlay syncprov
{lines}
",
        ca = ca.display(),
        certificate = certificate.display(),
        key = key.display(),
        admin = Slapd::ADMIN_DN,
        password = Slapd::ADMIN_PASSWORD,
        query = Slapd::QUERY_DN,
        pages = if options.no_pages { "size.prtotal=disabled" } else { "size.pr=unlimited" },
        schema = options.schema_lines,
        access = options.access_lines,
        lines = options.database_lines,
    )
}

fn replication(provider: &Provider) -> String {
    format!(
        "syncrepl rid=001 provider=ldap://127.0.0.1:{} searchbase={COMPANY_BASE} bindmethod=simple binddn={} credentials={} \
         type=refreshAndPersist retry=\"1 +\"
multiprovider on
",
        provider.other_port,
        Slapd::ADMIN_DN,
        Slapd::ADMIN_PASSWORD
    )
}

pub(crate) fn bulk(ldif: &mut String, people: usize) {
    if people == 0 {
        return;
    }
    write!(ldif, "\ndn: ou=bulk,ou=people,{COMPANY_BASE}\nobjectClass: organizationalUnit\nou: bulk\n")
        .expect("writing to a string");
    for number in 1..=people {
        let uid = format!("bulk{number:05}");
        write!(
            ldif,
            "\ndn: uid={uid},ou=bulk,ou=people,{COMPANY_BASE}\nobjectClass: inetOrgPerson\nuid: {uid}\ncn: Bulk Person {number}\nsn: Person\nmail: {uid}@acme.example\nuserPassword: {}\n",
            password_of(&uid)
        )
        .expect("writing to a string");
    }
}
