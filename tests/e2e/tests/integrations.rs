//! What the pages of docs/integrations/ say, with the real programs before `twinlock serve`: pam_radius_auth behind `pamtester`, and
//! OpenVPN, which asks the same module, or LDAP by openvpn-auth-ldap. Their PAM files lie in a mount namespace of their own, and OpenVPN makes
//! a tunnel: both take root.

use anyhow::{Context, Result, ensure};
use data_encoding::BASE64;
use e2e::{OneMachine, Outside, attempt_ended, story};
use lab::{
    COMPANY_BASE, Certificate, Person, Pki, Proc, RADIUS_SECRET, Slapd, company_settings, free_port, password_of,
    private_file, program, wait_until,
};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

const SETTINGS: &str = r#"
[[client]]
name = "linux"
protocol = "radius"
sources = ["127.0.0.21/32"]
target = "acme"
secret = "file:radius.secret"
message_authenticator = "auto"
appended = "optional"
person_address = "calling_station_id"

[[client]]
name = "strict"
protocol = "radius"
sources = ["127.0.0.22/32"]
target = "acme"
secret = "file:radius.secret"

[[client]]
name = "openvpn"
protocol = "radius"
sources = ["127.0.0.23/32"]
target = "acme"
secret = "file:radius.secret"
message_authenticator = "auto"
appended = "optional"
number_matching = "no"
"#;
/// What the company's LDAP client has besides where it is the VPN.
const OF_LDAP: &str = r#"
methods = ["code", "recovery"]
service_accounts = [{ name = "cn=gitlab,ou=service,dc=acme,dc=example" }]
"#;

/// The clients of the settings, by the address the module sends from, and how long it waits.
const HOSTS: [(&str, &str, u32); 3] =
    [("linux", "127.0.0.21", 60), ("strict", "127.0.0.22", 3), ("openvpn", "127.0.0.23", 60)];
const SOON: Duration = Duration::from_secs(60);
const CONNECTED: &str = "Initialization Sequence Completed";
const REFUSED: &str = "AUTH_FAILED";

struct Hosts {
    machine: OneMachine,
    outside: Outside,
    dir: PathBuf,
}

/// Stopped in the order of its fields.
struct Vpn {
    server: Proc,
    hosts: Hosts,
    port: u16,
    ca: PathBuf,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn linux_asks_by_pam() -> Result<()> {
    let mut hosts = Hosts::start().await?;
    story!(&mut hosts;
        pam_shows_the_question_and_opens_with_the_code,
        pam_opens_with_the_code_behind_the_password_and_no_question,
        pam_asks_nothing_after_a_wrong_password,
        pam_waits_while_the_phone_rings_and_opens_by_itself,
        a_module_that_signs_nothing_is_not_heard_where_that_is_demanded,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openvpn_asks_by_pam() -> Result<()> {
    let mut vpn = Vpn::start(Hosts::start().await?)?;
    story!(&mut vpn;
        openvpn_sends_password_and_code_in_one_go,
        openvpn_refuses_a_code_that_was_used,
        openvpn_goes_on_with_others_while_a_phone_rings,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openvpn_asks_by_ldap() -> Result<()> {
    let hosts = Hosts::start().await?;
    let settings = company_settings(&hosts.machine.slapd, &hosts.settings())?;
    let settings = settings.replacen("appended = \"required\"", &format!("appended = \"required\"{OF_LDAP}"), 1);
    hosts.machine.command_line().apply(hosts.machine.dir.path(), &settings)?;
    let config = hosts.auth_ldap()?;
    let plugin = format!("plugin /usr/lib/openvpn/openvpn-auth-ldap.so {}", config.display());
    let mut vpn = Vpn::start_with(hosts, &plugin)?;
    story!(&mut vpn;
        openvpn_sends_the_code_behind_the_password_to_ldap,
        openvpn_refuses_by_ldap_what_is_wrong_used_or_missing,
    )
}

async fn openvpn_sends_the_code_behind_the_password_to_ldap(vpn: &mut Vpn) -> Result<()> {
    // L-20, L-22, L-50: it looks the person up with an account of its own, and binds as them
    let ann = vpn.hosts.enrol("ann.archer")?;
    let before = vpn.hosts.machine.slapd.binds(&ann.uid);
    let answered = vpn.connect(&ann.uid, &ann.appended(0)?)?;
    until(&answered, CONNECTED)?;
    ensure!(vpn.hosts.machine.slapd.binds(&ann.uid) == before + 1);
    vpn.hosts.ended(&ann.uid, "valid_code", "code")
}

async fn openvpn_refuses_by_ldap_what_is_wrong_used_or_missing(vpn: &mut Vpn) -> Result<()> {
    // L-40, L-52, V-11
    let hugo = vpn.hosts.enrol("hugo.jones")?;
    let used = hugo.appended(0)?;
    until(&vpn.connect(&hugo.uid, &used)?, CONNECTED)?;
    for typed in
        [used, hugo.password.clone(), format!("Nonsense,{}", hugo.code(1)?), static_challenge(&hugo, &hugo.code(1)?)]
    {
        let refused = vpn.connect(&hugo.uid, &typed)?;
        until(&refused, REFUSED)?;
        ensure!(!refused.log().contains(CONNECTED), "{}", refused.log());
    }
    let nobody = vpn.connect("nobody.here", &hugo.appended(1)?)?;
    until(&nobody, REFUSED)
}

async fn pam_shows_the_question_and_opens_with_the_code(hosts: &mut Hosts) -> Result<()> {
    // R-40, FR-13
    let ann = hosts.enrol("ann.archer")?;
    let before = hosts.machine.slapd.binds(&ann.uid);
    let mut login = hosts.pam("linux", &ann.uid)?;
    login.type_at("Password:", &ann.password)?;
    login.type_at("Enter your code", &ann.code(0)?)?;
    let said = login.end()?;
    ensure!(said.contains("successfully authenticated"), "{said}");
    ensure!(hosts.machine.slapd.binds(&ann.uid) == before + 1, "the code was tried as a password");
    hosts.ended(&ann.uid, "valid_code", "code")
}

async fn pam_opens_with_the_code_behind_the_password_and_no_question(hosts: &mut Hosts) -> Result<()> {
    // L-50
    let ben = hosts.enrol("ben.hale")?;
    let mut login = hosts.pam("linux", &ben.uid)?;
    login.type_at("Password:", &ben.appended(0)?)?;
    let said = login.end()?;
    ensure!(said.contains("successfully authenticated") && !said.contains("Enter your code"), "{said}");
    hosts.ended(&ben.uid, "valid_code", "code")
}

async fn pam_asks_nothing_after_a_wrong_password(hosts: &mut Hosts) -> Result<()> {
    // R-63
    let clara = hosts.enrol("clara.osborn")?;
    let mut login = hosts.pam("linux", &clara.uid)?;
    login.type_at("Password:", "Nonsense")?;
    let said = login.end()?;
    ensure!(said.contains("Authentication failure") && !said.contains("Enter your code"), "{said}");
    hosts.ended(&clara.uid, "bad_password", "")
}

async fn pam_waits_while_the_phone_rings_and_opens_by_itself(hosts: &mut Hosts) -> Result<()> {
    // R-37: the module waits longer than the login may take
    let uid = "felix.price";
    hosts.call(uid)?;
    let mut login = hosts.pam("linux", uid)?;
    login.type_at("Password:", &password_of(uid))?;
    let mut phone = hosts.outside.vendor.next_call(hosts.outside.deliver()).await;
    phone.answer("human").await;
    // Longer than the module would wait by itself.
    tokio::time::sleep(Duration::from_secs(4)).await;
    ensure!(!login.shown().contains("authenticated"), "{}", login.shown());
    phone.press("#").await;
    let said = login.end()?;
    ensure!(said.contains("successfully authenticated"), "{said}");
    hosts.ended(uid, "call_confirmed", "call")
}

async fn a_module_that_signs_nothing_is_not_heard_where_that_is_demanded(hosts: &mut Hosts) -> Result<()> {
    // R-08
    let david = hosts.enrol("david.baker")?;
    let before = hosts.machine.slapd.binds(&david.uid);
    let mut login = hosts.pam("strict", &david.uid)?;
    login.type_at("Password:", &david.appended(0)?)?;
    let said = login.end()?;
    ensure!(said.contains("cannot retrieve authentication info"), "{said}");
    ensure!(hosts.machine.slapd.binds(&david.uid) == before);
    let log = hosts.machine.twinlock.log();
    ensure!(log.lines().any(|line| line.contains("ma_missing") && line.contains("strict")), "the log does not say why");
    Ok(())
}

async fn openvpn_sends_password_and_code_in_one_go(vpn: &mut Vpn) -> Result<()> {
    let greta = vpn.hosts.enrol("greta.cole")?;
    let before = vpn.hosts.machine.slapd.binds(&greta.uid);
    let answered = vpn.connect(&greta.uid, &static_challenge(&greta, &greta.code(0)?))?;
    until(&answered, CONNECTED)?;
    ensure!(vpn.hosts.machine.slapd.binds(&greta.uid) == before + 1);
    vpn.hosts.ended(&greta.uid, "valid_code", "code")?;
    let appended = vpn.connect(&greta.uid, &greta.appended(1)?)?;
    until(&appended, CONNECTED)?;
    vpn.hosts.ended(&greta.uid, "valid_code", "code")
}

async fn openvpn_refuses_a_code_that_was_used(vpn: &mut Vpn) -> Result<()> {
    // V-11. Asked again, the module has nobody to ask.
    let hugo = vpn.hosts.enrol("hugo.jones")?;
    let used = hugo.code(0)?;
    let first = vpn.connect(&hugo.uid, &static_challenge(&hugo, &used))?;
    until(&first, CONNECTED)?;
    let second = vpn.connect(&hugo.uid, &static_challenge(&hugo, &used))?;
    until(&second, REFUSED)?;
    ensure!(!second.log().contains(CONNECTED), "{}", second.log());
    Ok(())
}

async fn openvpn_goes_on_with_others_while_a_phone_rings(vpn: &mut Vpn) -> Result<()> {
    let uid = "ida.reed";
    vpn.hosts.call(uid)?;
    let jonas = vpn.hosts.enrol("jonas.dyer")?;
    let code = jonas.code(0)?;
    let waiting = vpn.connect(uid, &password_of(uid))?;
    let mut phone = vpn.hosts.outside.vendor.next_call(vpn.hosts.outside.deliver()).await;
    let other = vpn.connect(&jonas.uid, &static_challenge(&jonas, &code))?;
    until(&other, CONNECTED)?;
    ensure!(!waiting.log().contains(CONNECTED), "connected before anybody answered: {}", waiting.log());
    phone.answer("human").await;
    phone.press("#").await;
    until(&waiting, CONNECTED)?;
    vpn.hosts.ended(uid, "call_confirmed", "call")
}

impl Hosts {
    async fn start() -> Result<Self> {
        let machine = OneMachine::start(0, SETTINGS, "", &["radius.reject_delay_ms=500"])?;
        let outside = Outside::start(&machine).await?;
        let dir = machine.dir.path().join("integrations");
        pam_files(&dir, machine.twinlock.radius_port())?;
        let hosts = Self { machine, outside, dir };
        hosts.machine.settings(&hosts.settings()).await?;
        Ok(hosts)
    }

    fn settings(&self) -> String {
        format!("{SETTINGS}\n[verification]\ncountry = \"DE\"\n{}", self.outside.providers())
    }

    fn enrol(&self, uid: &str) -> Result<Person> {
        let person = self.machine.command_line().enrol(uid)?;
        // The directory knows a number of everybody, and calls go before codes.
        self.machine.command_line().run(&["user", "edit", uid, "--default-method", "code"])?;
        Ok(person)
    }

    /// Their phone is called.
    fn call(&self, uid: &str) -> Result<()> {
        let arguments = ["user", "edit", uid, "--phone", "+493023125018", "--default-method", "call"];
        self.machine.command_line().run(&arguments)?;
        Ok(())
    }

    /// What openvpn-auth-ldap reads.
    fn auth_ldap(&self) -> Result<PathBuf> {
        let twinlock = &self.machine.twinlock;
        let file = self.dir.join("auth-ldap.conf");
        let conf = format!(
            r#"<LDAP>
URL "{url}"
BindDN "cn=gitlab,ou=service,{COMPANY_BASE}"
Password "{password}"
Timeout 60
TLSEnable yes
FollowReferrals no
TLSCACertFile "{ca}"
</LDAP>
<Authorization>
BaseDN "ou=people,{COMPANY_BASE}"
SearchFilter "(uid=%u)"
RequireGroup false
</Authorization>
"#,
            url = twinlock.ldap_url(),
            password = Slapd::GITLAB_PASSWORD,
            ca = twinlock.certificate_file().display(),
        );
        private_file(&file, &conf)?;
        Ok(file)
    }

    fn pam(&self, service: &str, uid: &str) -> Result<Conversation> {
        Conversation::start(&self.dir, service, uid)
    }

    fn ended(&self, uid: &str, reason: &str, method: &str) -> Result<()> {
        attempt_ended(self.machine.command_line(), uid, reason, method)
    }
}

impl Vpn {
    fn start(hosts: Hosts) -> Result<Self> {
        Self::start_with(hosts, PAM_PLUGIN)
    }

    fn start_with(hosts: Hosts, plugin: &str) -> Result<Self> {
        let pki = Pki::new(&hosts.dir.join("pki"))?;
        let port = free_port();
        let tls = pki.issue("vpn", &["vpn.acme.example"])?;
        let server = openvpn_server(&hosts.dir, port, &pki.ca_file(), &tls, plugin)?;
        Ok(Self { server, hosts, port, ca: pki.ca_file() })
    }

    /// A client of the VPN that gives what a person would have typed.
    fn connect(&self, uid: &str, password: &str) -> Result<Proc> {
        ensure!(!self.server.log().contains("Exiting due to fatal error"), "{}", self.server.log());
        let attempt = format!("{uid}-{}", free_port());
        let file = self.hosts.dir.join(&attempt);
        private_file(&file, &format!("{uid}\n{password}\n"))?;
        let mut command = Command::new(program("openvpn")?);
        command.args([
            "--client",
            "--dev",
            "null",
            "--proto",
            "udp4",
            "--nobind",
            "--ifconfig-noexec",
            "--route-noexec",
        ]);
        command.args(["--remote", "127.0.0.1", &self.port.to_string(), "--ca"]).arg(&self.ca);
        command.args(["--verify-x509-name", "vpn.acme.example", "name", "--auth-user-pass"]).arg(&file);
        Proc::spawn("openvpn", command, &self.hosts.dir.join(format!("{attempt}.log")))
    }
}

/// Password and code, as a client with `static-challenge` sends them.
fn static_challenge(person: &Person, code: &str) -> String {
    format!("SCRV1:{}:{}", BASE64.encode(person.password.as_bytes()), BASE64.encode(code.as_bytes()))
}

fn until(client: &Proc, said: &str) -> Result<()> {
    wait_until(said, SOON, || client.log().contains(said)).with_context(|| client.log())
}

/// One login by PAM, typed at what it shows.
struct Conversation {
    child: Child,
    input: ChildStdin,
    log: PathBuf,
}

impl Conversation {
    fn start(dir: &Path, service: &str, uid: &str) -> Result<Self> {
        let log = dir.join(format!("{uid}-{service}.log"));
        let file = fs::File::create(&log)?;
        let mut command = beside(dir);
        command.arg(program("pamtester")?).args([service, uid, "authenticate"]);
        command.stdin(Stdio::piped()).stdout(file.try_clone()?).stderr(file);
        let mut child = command.spawn().context("starting pamtester")?;
        let input = child.stdin.take().context("its input")?;
        Ok(Self { child, input, log })
    }

    /// Each line at its question: what comes early is read as part of the answer before.
    fn type_at(&mut self, question: &str, text: &str) -> Result<()> {
        wait_until(question, SOON, || self.shown().contains(question)).with_context(|| self.shown())?;
        writeln!(self.input, "{text}").with_context(|| self.shown())
    }

    fn shown(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// All it showed.
    fn end(mut self) -> Result<String> {
        wait_until("the end", SOON, || !matches!(self.child.try_wait(), Ok(None))).with_context(|| self.shown())?;
        Ok(self.shown())
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command for which `dir/pam.d` is /etc/pam.d.
fn beside(dir: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", r#"mount --bind "$0" /etc/pam.d && exec "$@""#]).arg(dir.join("pam.d"));
    command
}

fn pam_files(dir: &Path, radius_port: u16) -> Result<()> {
    fs::create_dir_all(dir.join("pam.d"))?;
    for (service, source, seconds) in HOSTS {
        let server = dir.join(format!("{service}.conf"));
        private_file(&server, &format!("127.0.0.1:{radius_port} {RADIUS_SECRET} {seconds} {source}\n"))?;
        let conf = server.display();
        let lines =
            format!("auth required pam_radius_auth.so conf={conf} prompt_attribute\naccount required pam_permit.so\n");
        fs::write(dir.join("pam.d").join(service), lines)?;
    }
    Ok(())
}

const PAM_PLUGIN: &str = r#"setenv deferred_auth_pam 1
plugin /usr/lib/openvpn/openvpn-plugin-auth-pam.so "openvpn login USERNAME password PASSWORD Enter OTP""#;

fn openvpn_server(dir: &Path, port: u16, ca: &Path, tls: &Certificate, plugin: &str) -> Result<Proc> {
    let conf = format!(
        r#"local 127.0.0.1
port {port}
proto udp4
dev tun
topology subnet
server 10.213.47.0 255.255.255.0
ifconfig-noexec
route-noexec
ca {ca}
cert {certificate}
key {key}
dh none
verify-client-cert none
username-as-common-name
hand-window 90
auth-gen-token 43200
tmp-dir {dir}
verb 3
{plugin}
"#,
        ca = ca.display(),
        certificate = tls.certificate.display(),
        key = tls.key.display(),
        dir = dir.display(),
    );
    let file = dir.join("server.conf");
    fs::write(&file, conf)?;
    let mut command = beside(dir);
    command.arg(program("openvpn")?).arg("--config").arg(&file);
    let server = Proc::spawn("openvpn", command, &dir.join("server.log"))?;
    until(&server, CONNECTED)?;
    Ok(server)
}
