//! Twinlock as the demo runs it: initialised, started, given its settings by the commands of the README.

use crate::{checks::Checks, clock};
use anyhow::{Context, Result, bail};
use lab::{COMPANY_BASE, Pki, Proc, Slapd, free_port, password_of};
use serde_json::Value;
use std::{
    fs,
    io::Write,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// Somebody with an authenticator app.
pub struct Person {
    pub uid: String,
    pub dn: String,
    pub password: String,
    seed: String,
}

impl Person {
    /// The code of now (0), of the next step (1) or of the one before (-1).
    pub fn code(&self, offset: i64) -> String {
        clock::code(&self.seed, offset).unwrap_or_default()
    }

    /// Six digits that are none of the codes that count.
    pub fn wrong_code(&self) -> String {
        let good: Vec<String> = (-2..=2).map(|offset| self.code(offset)).collect();
        ["000000", "111111", "222222", "333333", "444444", "555555"]
            .into_iter()
            .find(|code| !good.iter().any(|known| known == code))
            .unwrap_or("666666")
            .to_owned()
    }
}

pub struct Product {
    program: PathBuf,
    config: PathBuf,
    ca_file: PathBuf,
    ldap_url: String,
    portal_url: String,
    radius_port: u16,
    radius_secret: String,
    process: Proc,
}

impl Product {
    pub fn start(dir: &Path, slapd: &Slapd, pki: &Pki) -> Result<Self> {
        // The program lies beside this one.
        let program = std::env::current_exe()?.with_file_name("twinlock");
        let home = dir.join("twinlock");
        let config = home.join("twinlock.toml");
        run(&program, &["init", "--dir", &home.to_string_lossy(), "--listen", "127.0.0.1"])?;

        // Ports nobody has: the usual ones need root, and may be taken.
        let (radius, ldap, ldaps, management) = (free_port(), free_port(), free_port(), free_port());
        let portal = if TcpListener::bind(("127.0.0.1", 8443)).is_ok() { 8443 } else { free_port() };
        let text = fs::read_to_string(&config)?
            .replace("127.0.0.1:1812", &format!("127.0.0.1:{radius}"))
            .replace("127.0.0.1:389", &format!("127.0.0.1:{ldap}"))
            .replace("127.0.0.1:636", &format!("127.0.0.1:{ldaps}"))
            .replace("127.0.0.1:9090", &format!("127.0.0.1:{management}"))
            .replace(":8443", &format!(":{portal}"));
        fs::write(&config, text)?;

        let mut command = Command::new(&program);
        command.args(["serve", "--config"]).arg(&config);
        let process = Proc::spawn("twinlock", command, &dir.join("twinlock.log"))?;
        let radius_secret = "demo-shared-secret-of-the-vpn-41".to_owned();
        let product = Self {
            ca_file: home.join("tls/twinlock.pem"),
            ldap_url: format!("ldap://127.0.0.1:{ldap}"),
            portal_url: format!("https://localhost:{portal}"),
            radius_port: radius,
            radius_secret,
            program,
            config,
            process,
        };
        lab::wait_until("twinlock serve to be ready", Duration::from_secs(30), || {
            product.twinlock(&["health"]).is_ok()
        })
        .with_context(|| product.process.log())?;
        say(&format!("twinlock serve is ready: LDAP on port {ldap}, RADIUS on {radius}, portal on {portal}"));

        let settings = home.join("settings.toml");
        for (name, secret) in
            [("radius.secret", product.radius_secret.as_str()), ("query.password", Slapd::QUERY_PASSWORD)]
        {
            private(&home.join(name), secret)?;
        }
        fs::write(&settings, document(slapd, &fs::read_to_string(pki.ca_file())?))?;
        product.show(&["settings", "apply", &settings.to_string_lossy(), "-o", "table"])?;
        product.show(&["check", "--connect", "-o", "table"])?;
        product.show(&["sync", "now", "-o", "table"])?;
        Ok(product)
    }

    /// How many users the store has.
    pub fn synchronised(&self) -> Result<usize> {
        let page: Value = serde_json::from_str(&self.twinlock(&["user", "list", "--limit", "1000", "-o", "json"])?)?;
        Ok(page["items"].as_array().map_or(0, Vec::len))
    }

    /// Enrols somebody: the seed goes into "their app", one code proves it.
    pub fn enrol(&self, checks: &mut Checks, uid: &str, department: &str) -> Result<Person> {
        let enrolled: Value = serde_json::from_str(&self.twinlock(&["factor", "enrol", uid, "-o", "json"])?)?;
        let (Some(seed), Some(factor)) = (enrolled["seed"].as_str(), enrolled["factor_id"].as_str()) else {
            bail!("twinlock factor enrol printed {enrolled}");
        };
        let person = Person {
            uid: uid.into(),
            dn: format!("uid={uid},ou={department},ou=people,{COMPANY_BASE}"),
            password: password_of(uid),
            seed: seed.into(),
        };
        // The code of the step before, so that the present one is left for a login.
        let proven = self.twinlock_with_input(&["factor", "confirm", uid, factor], &person.code(-1));
        checks.truth(&format!("{uid} proves a code of the app"), proven.is_ok());
        Ok(person)
    }

    pub fn ldapwhoami(&self, name: &str, password: &str) -> Command {
        let mut command = self.ldap_command("ldapwhoami", &self.ldap_url);
        command.args(["-D", name, "-w", password]);
        command
    }

    /// 1,000 entries with all their attributes.
    pub fn ldapsearch(&self, url: &str, name: &str, password: &str) -> Command {
        let mut command = self.ldap_command("ldapsearch", url);
        command.args(["-LLL", "-D", name, "-w", password, "-b"]).arg(format!("ou=bulk,ou=people,{COMPANY_BASE}"));
        command.args(["(objectClass=inetOrgPerson)", "*", "+"]);
        command
    }

    fn ldap_command(&self, tool: &str, url: &str) -> Command {
        let mut command = Command::new(lab::program(tool).unwrap_or_else(|_| tool.into()));
        command.env("LDAPTLS_CACERT", &self.ca_file).args(["-x", "-H", url]);
        if url == self.ldap_url {
            command.arg("-ZZ");
        }
        command
    }

    /// One request, one second for an answer; what radclient printed.
    pub fn radclient(&self, attributes: &str, secret: &str) -> Result<String> {
        let mut child = Command::new(lab::program("radclient")?)
            .args(["-x", "-r", "1", "-t", "3"])
            .arg(format!("127.0.0.1:{}", self.radius_port))
            .args(["auth", secret])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("radclient's input")?.write_all(attributes.as_bytes())?;
        let output = child.wait_with_output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub fn radius_secret(&self) -> &str {
        &self.radius_secret
    }

    pub fn ldap_url(&self) -> &str {
        &self.ldap_url
    }

    pub fn portal_url(&self) -> &str {
        &self.portal_url
    }

    pub fn command_line(&self) -> String {
        format!("{} --config {}", self.program.display(), self.config.display())
    }

    /// A command of the product; what it printed.
    pub fn twinlock(&self, arguments: &[&str]) -> Result<String> {
        self.twinlock_with_input(arguments, "")
    }

    fn twinlock_with_input(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut child = Command::new(&self.program)
            .arg("--config")
            .arg(&self.config)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("its input")?.write_all(format!("{input}\n").as_bytes())?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("twinlock {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The same, shown with its answer.
    pub fn show(&self, arguments: &[&str]) -> Result<()> {
        let shown: Vec<&str> = arguments.iter().map(|word| word.rsplit('/').next().unwrap_or(word)).collect();
        say(&format!("     $ twinlock {}", shown.join(" ").trim_end_matches(" -o table")));
        let answer = self.twinlock(arguments).with_context(|| self.process.log())?;
        for line in answer.lines() {
            say(&format!("       {line}"));
        }
        Ok(())
    }

    /// Until the person ends it; Ctrl-C reaches the children too.
    pub fn wait(&mut self) {
        while self.process.is_running() {
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

/// The State of an Access-Challenge, as radclient prints and reads it.
pub fn state_of(output: &str) -> Option<String> {
    let line = output.lines().find(|line| line.trim_start().starts_with("State = "))?;
    Some(line.trim_start().trim_start_matches("State = ").to_owned())
}

fn document(slapd: &Slapd, ca: &str) -> String {
    format!(
        "[sync]
enabled = true

[portal]
first_enrolment = \"open\"
company = \"Acme\"

[[directory]]
name = \"acme\"
preset = \"openldap\"
urls = [\"{url}\"]
base = \"{COMPANY_BASE}\"
query_bind = {{ kind = \"tls\", name = \"{query}\", password = \"file:query.password\" }}
ca = '''
{ca}'''

[[client]]
name = \"intranet\"
protocol = \"ldap\"
sources = [\"127.0.0.1/32\"]
target = \"acme\"
appended = \"required\"

[[client]]
name = \"vpn\"
protocol = \"radius\"
sources = [\"127.0.0.1/32\"]
target = \"acme\"
secret = \"file:radius.secret\"
appended = \"optional\"

[[sync_item]]
name = \"everybody\"
directory = \"acme\"
source = {{ kind = \"domain\" }}
",
        url = slapd.ldap_url(),
        query = Slapd::QUERY_DN,
    )
}

/// A secret of its own file, as the product wants it: nobody else may read it.
fn private(path: &Path, secret: &str) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    Ok(file.write_all(secret.as_bytes())?)
}

fn run(program: &Path, arguments: &[&str]) -> Result<()> {
    lab::run(Command::new(program).args(arguments)).map(|_| ())
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
