//! The test suites that python-ldap and ldap3 bring, run against OpenLDAP and against the gateway before it with accounts that are exempt:
//! what becomes of each test has to be the same (FL-12). `tests/lab/install.sh` fetches them.

use anyhow::{Context, Result, ensure};
use e2e::Secrets;
use lab::{Pki, Slapd, SlapdOptions, Standalone, company_settings, repository};
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const SUFFIX: &str = "dc=suite,dc=acme,dc=example";
/// Whom the suites bind as.
const ACCOUNTS: &str = "dn: dc=suite,dc=acme,dc=example
changetype: add
objectClass: dcObject
objectClass: organization
dc: suite
o: Suite

dn: cn=Manager,dc=suite,dc=acme,dc=example
changetype: add
objectClass: applicationProcess
objectClass: simpleSecurityObject
cn: Manager
userPassword: password

dn: cn=user1,dc=suite,dc=acme,dc=example
changetype: add
objectClass: applicationProcess
objectClass: simpleSecurityObject
cn: user1
userPassword: user1_pw
";
/// They may do without TLS and without a name what the directory lets them.
const OF_CLIENT: &str = r#"
anonymous = "forward"
tls = "danger_optional"
service_accounts = [
    { name = "cn=Manager,dc=suite,dc=acme,dc=example" },
    { name = "cn=user1,dc=suite,dc=acme,dc=example" },
]
"#;
/// Tests whose end differs, and the rule that demands it.
const DIFFERENCES: [(&str, &str); 0] = [];
/// Library, where its tests are, what runs them here, and how many are good at least; with fewer something has been left out.
const SUITES: [(&str, &str, &str, usize); 2] =
    [("python-ldap", "Tests", "of_python_ldap.py", 60), ("ldap3", "test", "of_ldap3.py", 230)];

/// Stopped in the order of its fields.
struct World {
    twinlock: Standalone,
    slapd: Slapd,
    dir: tempfile::TempDir,
}

impl World {
    fn start() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("twinlock-story-").tempdir()?;
        let pki = Pki::new(&dir.path().join("pki"))?;
        let manager = format!("by dn.exact=\"cn=Manager,{SUFFIX}\" manage");
        let access_lines = format!("access to dn.subtree=\"{SUFFIX}\" {manager} by anonymous auth by * read");
        let slapd = Slapd::start(dir.path(), &pki, &SlapdOptions { access_lines, ..Default::default() })?;
        slapd.modify(ACCOUNTS)?;
        let twinlock = Standalone::start(dir.path(), "")?;
        let settings = company_settings(&slapd, "")?;
        let settings = settings.replacen("appended = \"required\"", &format!("appended = \"off\"{OF_CLIENT}"), 1);
        ensure!(settings.contains(OF_CLIENT));
        twinlock.command_line.apply(dir.path(), &settings)?;
        Ok(Self { twinlock, slapd, dir })
    }

    fn directly(&self) -> [String; 3] {
        [self.slapd.ldaps_url(), self.slapd.ldap_url(), self.slapd.ca_file().display().to_string()]
    }

    fn through(&self) -> [String; 3] {
        let twinlock = &self.twinlock;
        [twinlock.ldaps_url(), twinlock.ldap_url(), twinlock.certificate_file().display().to_string()]
    }

    /// What became of each test.
    fn run(&self, script: &str, tests: &Path, place: [String; 3]) -> Result<BTreeMap<String, String>> {
        let script = repository().join("tests/e2e/tests/ldap_suites").join(script);
        let mut command = Command::new("/usr/bin/python3");
        command.arg("-B").arg(script).arg(tests).args(place).arg(self.slapd.ldap_url()).arg(SUFFIX);
        command.current_dir(self.dir.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("starting python3")?;
        write!(child.stdin.take().context("its input")?, "{}\n{}\n", Slapd::ADMIN_DN, Slapd::ADMIN_PASSWORD)?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let told = String::from_utf8(output.stdout)?;
        let lines = told.lines().filter_map(|line| line.split_once(' '));
        Ok(lines.map(|(test, end)| (test.to_owned(), end.to_owned())).collect())
    }
}

#[test]
fn the_suites_of_client_libraries_end_as_they_do_directly() -> Result<()> {
    // FL-12
    let world = World::start()?;
    for (library, folder, script, good_min) in SUITES {
        let tests = fetched(library)?.join(folder);
        let directly = world.run(script, &tests, world.directly())?;
        let good = directly.values().filter(|end| *end == "ok").count();
        ensure!(good >= good_min, "{library}: {good} good tests directly: {directly:#?}");
        let through = world.run(script, &tests, world.through())?;
        ensure!(directly.keys().eq(through.keys()), "{library}: {directly:#?} {through:#?}");
        let known = |test: &str| DIFFERENCES.iter().any(|(known, _)| *known == test);
        let differs = through.iter().filter(|(test, end)| !known(test) && directly.get(*test) != Some(end));
        let differs: Vec<_> = differs.map(|(test, end)| format!("{test}: {:?}, {end:?}", directly.get(test))).collect();
        ensure!(differs.is_empty(), "{library}, directly and through the gateway: {differs:#?}");
    }
    // T-09
    let mut secrets = Secrets::default();
    secrets.add("the query account", Slapd::QUERY_PASSWORD.as_bytes());
    secrets.add("a user of the suites", b"user1_pw");
    secrets.were_not_written_by(&world.twinlock)
}

/// Where the sources of a library are, of the version that is installed.
fn fetched(library: &str) -> Result<PathBuf> {
    let suites = repository().join("target/lab-suites");
    let found =
        fs::read_dir(&suites).with_context(|| format!("{}: run tests/lab/install.sh test", suites.display()))?;
    let found = found.filter_map(|entry| Some(entry.ok()?.path()));
    let mut found =
        found.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(library)));
    found.find(|path| path.is_dir()).with_context(|| format!("no {library} in {}", suites.display()))
}
