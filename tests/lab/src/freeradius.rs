//! Debian's FreeRADIUS, as a home server, as a proxy on the way, and as what people build without us.
//!
//! ```text
//! NAS -> [proxy -> [proxy ->]] Twinlock -> [proxy ->] home server
//! ```
//!
//! 3.2.1 predates the changes against BlastRADIUS: it demands no Message-Authenticator from home servers, and sends one
//! only where it is told to (`sign`).

use crate::{Certificate, Pki, Proc, free_port, password_of, program, repository, wait_until};
use anyhow::{Context, Result, ensure};
use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// The shared secret of RADIUS over TLS (RFC 6614 section 2.3).
pub const RADSEC_SECRET: &str = "radsec";

const DICTIONARY: &str = "/usr/share/freeradius";

/// One FreeRADIUS with a folder of its own: its raddb, its log, and what it saw.
pub struct FreeRadius {
    dir: PathBuf,
    process: Option<Proc>,
    ports: Ports,
    secret: String,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    auth: u16,
    nameless: u16,
    outer_name: u16,
    acct: u16,
    radsec: u16,
}

/// Somebody a home server knows, and what becomes of them.
#[derive(Debug, Clone)]
pub struct HomeUser {
    pub name: String,
    pub password: String,
    /// Reply items as in a file of users: `Class := "staff"`.
    pub reply: Vec<String>,
    pub treatment: Treatment,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Treatment {
    Plain,
    /// Never answered.
    Silent,
    /// Answered so many seconds late.
    Slow(u32),
    /// After the password an Access-Challenge with a State, then this answer.
    Challenged(String),
    /// MS-CHAP only: E=648. It takes no new password: Debian's 3.2.1 crashes when it has to unwrap one.
    Expired,
}

#[derive(Debug, Clone)]
pub struct HomeOptions {
    /// The folder below the test's, and the name in errors: two servers in one test need two.
    pub name: String,
    pub secret: String,
    /// Looked at before the people of the sample company, who are all known, with their passwords.
    pub users: Vec<HomeUser>,
    /// Puts a Message-Authenticator into every reply. Without it only EAP has one.
    pub sign: bool,
    /// Clients beside 127.0.0.0/8: address or prefix, and whether they must send a Message-Authenticator.
    pub clients: Vec<(String, bool)>,
    /// More lines of the file of users, before all others.
    pub lines: String,
}

/// Where a proxy sends everything.
#[derive(Debug, Clone)]
pub struct Next {
    pub address: SocketAddr,
    pub secret: String,
    /// By RADIUS over TLS, with the certificate the proxy has.
    pub radsec: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxySigns {
    /// Only what came signed goes on signed, which is what 3.2.1 does by itself.
    AsReceived,
    Always,
    /// Proxy-State and no Message-Authenticator: what BlastRADIUS lives on.
    Never,
}

#[derive(Debug, Clone)]
pub struct ProxyOptions {
    pub name: String,
    /// What the device before it uses.
    pub secret: String,
    /// The first that answers is used.
    pub next: Vec<Next>,
    pub signs: ProxySigns,
    /// How long it waits for the next server; FreeRADIUS takes up to 60.
    pub response_window_seconds: u32,
    /// Asks by Status-Server whether a server that went silent is back.
    pub status_server: bool,
}

/// Password by bind, code by rlm_totp.
#[derive(Debug, Clone)]
pub struct PeerOptions {
    pub secret: String,
    pub ldap_url: String,
    pub base: String,
    pub bind_dn: String,
    pub bind_password: String,
    /// StartTLS, with this CA.
    pub ca_file: Option<PathBuf>,
    pub seeds: Seeds,
    /// Of the LDAP pool.
    pub connections: u32,
}

/// Where the peer finds TOTP seeds, in Base32.
#[derive(Debug, Clone)]
pub enum Seeds {
    /// In its file of users: name and seed.
    File(Vec<(String, String)>),
    /// In this attribute of the entry.
    Attribute(String),
}

/// A packet as FreeRADIUS understood it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenPacket {
    pub identifier: u8,
    pub source: SocketAddr,
    /// The port it was received at.
    pub port: u16,
    /// `Access-Request`
    pub code: String,
    /// By the names of FreeRADIUS's dictionary, in order; text without its quotes, octets as 0x...
    pub attributes: Vec<(String, String)>,
}

impl HomeUser {
    pub fn new(name: &str, password: &str) -> Self {
        Self { name: name.into(), password: password.into(), reply: Vec::new(), treatment: Treatment::Plain }
    }

    /// Somebody of the sample company.
    pub fn person(uid: &str) -> Self {
        Self::new(uid, &password_of(uid))
    }

    pub fn replies(mut self, items: &[&str]) -> Self {
        self.reply.extend(items.iter().map(|item| (*item).to_owned()));
        self
    }

    /// Attributes whose Access-Accept has about 3,900 octets.
    pub fn replies_large(mut self) -> Self {
        self.reply.extend((b'a'..b'a' + 16).map(|letter| {
            let text = String::from(char::from(letter)).repeat(240);
            format!("Reply-Message += \"{text}\"")
        }));
        self
    }

    /// What home servers of networks send: Class, Filter-Id, a VLAN, a hidden Tunnel-Password, a vendor's group.
    pub fn replies_usual(self) -> Self {
        self.replies(&[
            "Class := \"staff\"",
            "Filter-Id := \"vpn-users\"",
            "Session-Timeout := 3600",
            "Tunnel-Type:1 := VLAN",
            "Tunnel-Medium-Type:1 := IEEE-802",
            "Tunnel-Private-Group-Id:1 := \"42\"",
            &format!("Tunnel-Password:1 := \"{}\"", Self::TUNNEL_PASSWORD),
            "Fortinet-Group-Name := \"vpn-users\"",
        ])
    }

    /// Of `replies_usual`.
    pub const TUNNEL_PASSWORD: &str = "Tunnel-lab-20f7";

    pub fn treated(mut self, treatment: Treatment) -> Self {
        self.treatment = treatment;
        self
    }
}

impl Default for HomeOptions {
    fn default() -> Self {
        Self {
            name: "home".into(),
            secret: FreeRadius::SECRET.into(),
            users: Vec::new(),
            sign: true,
            clients: Vec::new(),
            lines: String::new(),
        }
    }
}

impl ProxyOptions {
    pub fn new(address: SocketAddr, secret: &str) -> Self {
        Self {
            name: "proxy".into(),
            secret: FreeRadius::SECRET.into(),
            next: vec![Next { address, secret: secret.into(), radsec: false }],
            signs: ProxySigns::AsReceived,
            response_window_seconds: 60,
            status_server: false,
        }
    }
}

impl FreeRadius {
    pub const SECRET: &str = "lab-shared-secret-of-the-home-server-8835";

    /// What an administrator adds to the dictionary, here and at Twinlock.
    pub const OWN_DICTIONARY: &str =
        "VENDOR Example 32473\nBEGIN-VENDOR Example\nATTRIBUTE Example-Identity 1 string\nEND-VENDOR Example\n";

    /// A home server: PAP, CHAP, MS-CHAP, EAP, accounting, Status-Server, by UDP and by TLS.
    pub fn home(dir: &Path, pki: &Pki, options: &HomeOptions) -> Result<Self> {
        let home = Self::prepare(dir, &options.name, &options.secret)?;
        home.take_certificates(pki)?;
        fs::write(home.dir.join("users"), users(options)?)?;
        let sign = if options.sign { "yes" } else { "no" };
        home.configured("home.conf", &clients(&options.secret, &options.clients), sign, "")
    }

    /// A proxy that sends everything on.
    pub fn proxy(dir: &Path, pki: &Pki, options: &ProxyOptions) -> Result<Self> {
        let proxy = Self::prepare(dir, &options.name, &options.secret)?;
        proxy.take_certificates(pki)?;
        let sign = match options.signs {
            ProxySigns::AsReceived => "as_received",
            ProxySigns::Always => "always",
            ProxySigns::Never => "never",
        };
        proxy.configured("proxy.conf", &clients(&options.secret, &[]), sign, &home_servers(options))
    }

    /// The peer of the benchmark.
    pub fn peer(dir: &Path, options: &PeerOptions) -> Result<Self> {
        let peer = Self::prepare(dir, "peer", &options.secret)?;
        let mut users = String::new();
        if let Seeds::File(seeds) = &options.seeds {
            for (name, seed) in seeds {
                writeln!(users, "\"{}\" TOTP-Secret := \"{seed}\"", quoted(name))?;
            }
        }
        fs::write(peer.dir.join("users"), users)?;
        fs::write(peer.dir.join("ldap.conf"), ldap_module(options))?;
        peer.configured("peer.conf", &clients(&options.secret, &[]), "", "")
    }

    fn prepare(dir: &Path, name: &str, secret: &str) -> Result<Self> {
        let dir = dir.join(format!("freeradius-{name}"));
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("dictionary"), format!("$INCLUDE {DICTIONARY}/dictionary\n{}", Self::OWN_DICTIONARY))?;
        let ports = Ports {
            auth: free_port(),
            nameless: free_port(),
            outer_name: free_port(),
            acct: free_port(),
            radsec: free_port(),
        };
        Ok(Self { dir, process: None, ports, secret: secret.into() })
    }

    fn take_certificates(&self, pki: &Pki) -> Result<()> {
        let Certificate { certificate, key } =
            pki.issue(&format!("freeradius-{}", self.ports.auth), &["127.0.0.1", "localhost", "radius.acme.example"])?;
        fs::copy(certificate, self.dir.join("server.pem"))?;
        fs::copy(key, self.dir.join("server.key"))?;
        fs::copy(pki.ca_file(), self.dir.join("ca.pem"))?;
        Ok(())
    }

    /// `sign` is what the file says it means.
    fn configured(mut self, file: &str, clients: &str, sign: &str, more: &str) -> Result<Self> {
        let Ports { auth, nameless, outer_name, acct, radsec } = self.ports;
        let here = self.dir.display().to_string();
        // FreeRADIUS's own variables do not reach into conditions.
        let values = [
            ("@here@", here),
            ("@auth_port@", auth.to_string()),
            ("@nameless_port@", nameless.to_string()),
            ("@outer_name_port@", outer_name.to_string()),
            ("@acct_port@", acct.to_string()),
            ("@radsec_port@", radsec.to_string()),
            ("@sign@", sign.to_owned()),
        ];
        let mut conf = String::new();
        for part in ["server.conf", file] {
            conf += &fs::read_to_string(repository().join("tests/lab/data/freeradius").join(part))?;
        }
        let conf = values.iter().fold(conf + more, |conf, (name, value)| conf.replace(name, value));
        fs::write(self.dir.join("radiusd.conf"), conf)?;
        fs::write(self.dir.join("clients.conf"), clients)?;
        self.restart()?;
        Ok(self)
    }

    /// Starts it again on the same ports with the same users.
    pub fn restart(&mut self) -> Result<()> {
        self.process = None;
        let mut command = Command::new(program("freeradius")?);
        command.args(["-f", "-l", "stdout", "-D", DICTIONARY, "-d"]).arg(&self.dir);
        let mut process = Proc::spawn("freeradius", command, &self.log_file())?;
        let begun = self.log().matches("Ready to process requests").count();
        wait_until("FreeRADIUS to be ready", Duration::from_secs(60), || {
            !process.is_running() || self.log().matches("Ready to process requests").count() > begun
        })
        .with_context(|| self.log())?;
        ensure!(process.is_running(), "FreeRADIUS does not start:\n{}", self.log());
        self.process = Some(process);
        Ok(())
    }

    pub fn stop(&mut self) {
        self.process = None;
    }

    pub fn process(&self) -> Option<&Proc> {
        self.process.as_ref()
    }

    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// Of a home server: here the Access-Accept of an EAP login names the inner user (R-50).
    pub fn auth_address(&self) -> SocketAddr {
        loopback(self.ports.auth)
    }

    /// Here the Access-Accept of an EAP login has no User-Name.
    pub fn nameless_address(&self) -> SocketAddr {
        loopback(self.ports.nameless)
    }

    /// Here it names the outer user, which FreeRADIUS does unless it is told otherwise; the inner one stands in Example-Identity.
    pub fn outer_name_address(&self) -> SocketAddr {
        loopback(self.ports.outer_name)
    }

    pub fn acct_address(&self) -> SocketAddr {
        loopback(self.ports.acct)
    }

    pub fn radsec_address(&self) -> SocketAddr {
        loopback(self.ports.radsec)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("freeradius.log")
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    /// Every request so far, accounting and Status-Server included, in the order in which they were begun.
    pub fn seen(&self) -> Result<Vec<SeenPacket>> {
        self.packets("seen")
    }

    /// Every answer so far, by the identifier and source of its request.
    pub fn answered(&self) -> Result<Vec<SeenPacket>> {
        self.packets("answered")
    }

    fn packets(&self, file: &str) -> Result<Vec<SeenPacket>> {
        let file = self.dir.join(file);
        let text = fs::read(&file).unwrap_or_default();
        read_packets(&String::from_utf8_lossy(&text)).with_context(|| file.display().to_string())
    }
}

impl SeenPacket {
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.attributes.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn first(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    pub fn has(&self, name: &str) -> bool {
        self.first(name).is_some()
    }

    /// Whether a Message-Authenticator came with it.
    pub fn signed(&self) -> bool {
        self.has("Message-Authenticator")
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new([127, 0, 0, 1].into(), port)
}

fn clients(secret: &str, more: &[(String, bool)]) -> String {
    let client = |name: &str, address: &str, signed: bool, secret: &str, proto: &str| {
        let signed = if signed { "yes" } else { "no" };
        let family = if address.contains("::") { "ipv6addr" } else { "ipaddr" };
        format!(
            "client {name} {{\n\t{family} = {address}\n\tproto = {proto}\n\tsecret = \"{}\"\n\t\
             require_message_authenticator = {signed}\n\tlimit {{\n\t\tmax_connections = 0\n\t\tlifetime = 0\n\t\t\
             idle_timeout = 0\n\t}}\n}}\n",
            quoted(secret)
        )
    };
    let mut text = client("loopback", "127.0.0.0/8", false, secret, "udp");
    text += &client("loopback6", "::1", false, secret, "udp");
    for (number, (address, signed)) in more.iter().enumerate() {
        text += &client(&format!("more{number}"), address, *signed, secret, "udp");
    }
    format!("{text}clients radsec {{\n{}}}\n", client("radsec", "127.0.0.0/8", false, RADSEC_SECRET, "tls"))
}

fn home_servers(options: &ProxyOptions) -> String {
    let (mut text, mut pool) = (String::new(), String::from("home_server_pool next {\n\ttype = fail-over\n"));
    for (number, next) in options.next.iter().enumerate() {
        let family = if matches!(next.address.ip(), IpAddr::V4(_)) { "ipaddr" } else { "ipv6addr" };
        let status = if options.status_server { "status-server" } else { "none" };
        text += &format!(
            "home_server next{number} {{\n\ttype = auth+acct\n\t{family} = {}\n\tport = {}\n\tsecret = \"{}\"\n\t\
             response_window = {}\n\tzombie_period = 60\n\trevive_interval = 60\n\tstatus_check = {status}\n\t\
             check_interval = 6\n\tcheck_timeout = 2\n\tnum_answers_to_alive = 3\n",
            next.address.ip(),
            next.address.port(),
            quoted(&next.secret),
            options.response_window_seconds,
        );
        if next.radsec {
            text += "\tproto = tcp\n\ttls {\n\t\tprivate_key_file = @here@/server.key\n\t\tcertificate_file = \
                     @here@/server.pem\n\t\tca_file = @here@/ca.pem\n\t\tfragment_size = 8192\n\t\tcipher_list = \
                     DEFAULT\n\t\ttls_min_version = \"1.2\"\n\t\ttls_max_version = \"1.3\"\n\t}\n";
        }
        text += "}\n";
        pool += &format!("\thome_server = next{number}\n");
    }
    format!("{text}{pool}}}\n")
}

fn users(options: &HomeOptions) -> Result<String> {
    let mut text = format!("{}\n", options.lines);
    for user in &options.users {
        let control = match &user.treatment {
            Treatment::Plain => String::new(),
            Treatment::Silent => ", Tmp-String-0 := \"silent\"".into(),
            Treatment::Slow(seconds) => format!(", Tmp-String-0 := \"slow\", Tmp-Integer-0 := {seconds}"),
            Treatment::Challenged(answer) => {
                format!(", Tmp-String-0 := \"challenged\", Tmp-String-1 := \"{}\"", quoted(answer))
            }
            // ACB_FR_EXPIRED of rlm_mschap.
            Treatment::Expired => ", SMB-Account-CTRL := 131072".into(),
        };
        write!(
            text,
            "\"{}\" Cleartext-Password := \"{}\"{control}\n\t{}\n\n",
            quoted(&user.name),
            quoted(&user.password),
            user.reply.join(",\n\t")
        )?;
    }
    let company = fs::read_to_string(repository().join("tests/lab/data/company.ldif"))?;
    for uid in company.lines().filter_map(|line| line.strip_prefix("uid: ")) {
        writeln!(text, "\"{}\" Cleartext-Password := \"{}\"", quoted(uid), quoted(&password_of(uid)))?;
    }
    Ok(text)
}

fn ldap_module(options: &PeerOptions) -> String {
    let update = match &options.seeds {
        Seeds::File(_) => String::new(),
        Seeds::Attribute(name) => format!("\tupdate {{\n\t\tcontrol:TOTP-Secret := '{name}'\n\t}}\n"),
    };
    let tls = options.ca_file.as_ref().map_or(String::new(), |ca_file| {
        format!(
            "\ttls {{\n\t\tstart_tls = yes\n\t\tca_file = {}\n\t\trequire_cert = \"demand\"\n\t}}\n",
            ca_file.display()
        )
    });
    format!(
        "ldap {{\n\tserver = \"{}\"\n\tidentity = \"{}\"\n\tpassword = \"{}\"\n\tbase_dn = \"{base}\"\n{update}\tuser {{\n\t\t\
         base_dn = \"{base}\"\n\t\tfilter = \"(uid=%{{User-Name}})\"\n\t}}\n{tls}\tpool {{\n\t\tstart = 1\n\t\tmin = 1\n\t\t\
         max = {connections}\n\t\tspare = 1\n\t\tuses = 0\n\t\tlifetime = 0\n\t\tidle_timeout = 0\n\t}}\n}}\n",
        options.ldap_url,
        options.bind_dn,
        quoted(&options.bind_password),
        base = options.base,
        connections = options.connections,
    )
}

/// For a text between double quotes.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

fn read_packets(text: &str) -> Result<Vec<SeenPacket>> {
    let mut packets: Vec<SeenPacket> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(header) = line.strip_prefix("packet ") {
            let words: Vec<&str> = header.split(' ').collect();
            let [identifier, code, "from", address, port, "at", at] = words.as_slice() else {
                anyhow::bail!("a packet begins with {line:?}")
            };
            packets.push(SeenPacket {
                identifier: identifier.parse()?,
                source: SocketAddr::new(address.parse()?, port.parse()?),
                port: at.parse()?,
                code: (*code).to_owned(),
                attributes: Vec::new(),
            });
            continue;
        }
        let (packet, item) = (packets.last_mut().context("an attribute before any packet")?, line.trim_start());
        let (name, value) = item.split_once(" = ").with_context(|| format!("an attribute is {line:?}"))?;
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        match name {
            // An answer's own; for accounting there is none.
            "Packet-Type" => packet.code = value.to_owned(),
            // Its own, not the packet's.
            "Timestamp" => {}
            _ => packet.attributes.push((name.to_owned(), value.to_owned())),
        }
    }
    Ok(packets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        COMPANY_BASE, Person, Slapd, SlapdOptions,
        nas::{Nas, Outcome, Profile, Reply, Verdict},
    };
    use radius_wire::AttributeType;

    async fn login(server: SocketAddr, name: &str, password: &str, answers: &[&str]) -> Result<Outcome> {
        let nas = Nas::new(Profile::fortigate().times_faster(10), &[server], FreeRadius::SECRET)?;
        nas.login(name, password, answers).await
    }

    fn people() -> Vec<HomeUser> {
        let user = |name: &str| HomeUser::new(name, "good");
        vec![
            user("usual").replies_usual(),
            user("large").replies_large(),
            user("silent").treated(Treatment::Silent),
            user("slow").treated(Treatment::Slow(1)),
            user("challenged").treated(Treatment::Challenged("4242".into())),
        ]
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_home_server_treats_everybody_as_told() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let pki = Pki::new(&dir.path().join("tls"))?;
        let home = FreeRadius::home(dir.path(), &pki, &HomeOptions { users: people(), ..Default::default() })?;
        let at = home.auth_address();
        let ann = password_of("ann.archer");
        assert_eq!(login(at, "ann.archer", &ann, &[]).await?.verdict, Verdict::Accept);
        assert_eq!(login(at, "ann.archer", "wrong", &[]).await?.verdict, Verdict::Reject);
        assert_eq!(login(at, "challenged", "good", &[]).await?.verdict, Verdict::Challenge);
        assert_eq!(login(at, "challenged", "good", &["4242"]).await?.verdict, Verdict::Accept);
        assert_eq!(login(at, "challenged", "good", &["4243"]).await?.verdict, Verdict::Reject);
        assert_eq!(login(at, "challenged", "wrong", &["4242"]).await?.verdict, Verdict::Reject);
        assert_eq!(login(at, "silent", "good", &[]).await?.verdict, Verdict::Timeout);
        assert_eq!(login(at, "slow", "good", &[]).await?.verdict, Verdict::Accept);
        let usual = login(at, "usual", "good", &[]).await?;
        let reply = usual.last().context("an answer")?;
        assert_eq!(reply.all(AttributeType::CLASS), [b"staff"]);
        assert_eq!(reply.all(AttributeType(69)).len(), 1, "Tunnel-Password");
        let large = login(at, "large", "good", &[]).await?;
        let octets = large.last().context("an answer")?.octets.len();
        assert!((3850..4000).contains(&octets), "{octets} octets");
        for outcome in [&usual, &large] {
            let signed = |reply: &Reply| reply.all(AttributeType::MESSAGE_AUTHENTICATOR).len() == 1;
            assert!(outcome.believed().all(signed));
        }
        let seen = home.seen()?;
        let first = seen.first().context("it saw something")?;
        assert_eq!((first.code.as_str(), first.first("User-Name")), ("Access-Request", Some("ann.archer")));
        assert_eq!(first.first("User-Password"), Some(ann.as_str()));
        assert!(first.signed() && first.port == at.port());
        // Exact copies are work of one request, and no new one.
        assert_eq!(seen.iter().filter(|packet| packet.first("User-Name") == Some("silent")).count(), 1);
        let answered = home.answered()?;
        let of_first = answered.iter().find(|packet| packet.source == first.source).context("it was answered")?;
        assert_eq!((of_first.code.as_str(), of_first.identifier), ("Access-Accept", first.identifier));
        assert_eq!(answered.iter().filter(|packet| packet.code == "Access-Challenge").count(), 3);
        Ok(())
    }

    /// What `radclient` gets for a request.
    fn radclient(home: &FreeRadius, server: SocketAddr, command: &str, request: &str) -> Result<String> {
        let file = home.dir().join(format!("request-{}", free_port()));
        fs::write(&file, request)?;
        let output = Command::new(program("radclient")?)
            .args(["-x", "-r", "1", "-t", "3", "-f"])
            .arg(&file)
            .args([&server.to_string(), command, home.secret()])
            .output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    #[test]
    fn a_home_server_knows_chap_ms_chap_accounting_and_status_server() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let pki = Pki::new(&dir.path().join("tls"))?;
        let users = vec![HomeUser::new("somebody", "good")];
        let home = FreeRadius::home(dir.path(), &pki, &HomeOptions { users, ..Default::default() })?;
        let session = "User-Name=somebody\nAcct-Status-Type=Start\nAcct-Session-Id=s-1\n";
        for (server, command, request, answer) in [
            (home.auth_address(), "auth", "User-Name=somebody\nCHAP-Password=good\n", "Access-Accept"),
            (home.auth_address(), "auth", "User-Name=somebody\nCHAP-Password=bad\n", "Access-Reject"),
            (home.auth_address(), "auth", "User-Name=somebody\nMS-CHAP-Password=good\n", "Access-Accept"),
            (home.auth_address(), "auth", "User-Name=somebody\nMS-CHAP-Password=bad\n", "Access-Reject"),
            (home.auth_address(), "status", "Message-Authenticator=0x00\n", "Access-Accept"),
            (home.acct_address(), "acct", session, "Accounting-Response"),
        ] {
            let got = radclient(&home, server, command, request)?;
            assert!(got.contains(&format!("Received {answer}")), "{request}: {got}{}", home.log());
        }
        let seen = home.seen()?;
        let codes: Vec<&str> = seen.iter().map(|packet| packet.code.as_str()).collect();
        assert_eq!(codes[4..], ["Status-Server", "Accounting-Request"]);
        assert_eq!(seen[5].first("Acct-Session-Id"), Some("s-1"));
        Ok(())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn two_proxies_add_their_proxy_state_and_sign_as_told() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let pki = Pki::new(&dir.path().join("tls"))?;
        let home = FreeRadius::home(dir.path(), &pki, &HomeOptions { users: people(), ..Default::default() })?;
        let mut options = ProxyOptions::new(home.auth_address(), home.secret());
        options.signs = ProxySigns::Never;
        let near = FreeRadius::proxy(dir.path(), &pki, &options)?;
        let mut options = ProxyOptions { name: "far".into(), ..ProxyOptions::new(near.auth_address(), near.secret()) };
        options.signs = ProxySigns::Always;
        let far = FreeRadius::proxy(dir.path(), &pki, &options)?;
        let outcome = login(far.auth_address(), "usual", "good", &[]).await?;
        assert_eq!(outcome.verdict, Verdict::Accept);
        assert_eq!(outcome.last().context("an answer")?.all(AttributeType::CLASS), [b"staff"]);
        let only = |packets: Vec<SeenPacket>| packets.into_iter().next().context("it saw the request");
        let (at_near, at_home) = (only(near.seen()?)?, only(home.seen()?)?);
        assert_eq!((at_near.all("Proxy-State").count(), at_near.signed()), (1, true));
        assert_eq!((at_home.all("Proxy-State").count(), at_home.signed()), (2, false));
        let mut options = ProxyOptions { name: "tls".into(), ..ProxyOptions::new(home.radsec_address(), "") };
        options.next = vec![Next { address: home.radsec_address(), secret: RADSEC_SECRET.into(), radsec: true }];
        let by_tls = FreeRadius::proxy(dir.path(), &pki, &options)?;
        assert_eq!(login(by_tls.auth_address(), "usual", "good", &[]).await?.verdict, Verdict::Accept);
        assert_eq!(home.seen()?.last().map(|packet| packet.port), Some(home.radsec_address().port()));
        Ok(())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_peer_wants_password_and_code() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let pki = Pki::new(&dir.path().join("tls"))?;
        let slapd = Slapd::start(dir.path(), &pki, &SlapdOptions::default())?;
        let ann = Person::new("ann.archer", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        let mut options = PeerOptions {
            secret: FreeRadius::SECRET.into(),
            ldap_url: slapd.ldap_url(),
            base: COMPANY_BASE.into(),
            bind_dn: Slapd::QUERY_DN.into(),
            bind_password: Slapd::QUERY_PASSWORD.into(),
            ca_file: Some(pki.ca_file()),
            seeds: Seeds::File(vec![(ann.uid.clone(), ann.seed.clone())]),
            connections: 4,
        };
        let peer = FreeRadius::peer(dir.path(), &options)?;
        let at = peer.auth_address();
        let verdict = |outcome: Outcome| outcome.verdict;
        assert_eq!(login(at, "ann.archer", &ann.appended(0)?, &[]).await.map(verdict)?, Verdict::Accept);
        let wrong_code = format!("{},{}", ann.password, ann.wrong_code()?);
        let wrong_password = format!("wrong,{}", ann.code(0)?);
        for bad in [&wrong_code, &wrong_password, &ann.password] {
            assert_eq!(login(at, "ann.archer", bad, &[]).await.map(verdict)?, Verdict::Reject);
        }
        let ben = format!("{},{}", password_of("ben.hale"), ann.code(0)?);
        assert_eq!(login(at, "ben.hale", &ben, &[]).await.map(verdict)?, Verdict::Reject);
        assert!(slapd.binds("ann.archer") > 0);

        let dn = ann.dn("engineering");
        slapd.modify(&format!("dn: {dn}\nchangetype: modify\nadd: description\ndescription: {}\n", ann.seed))?;
        options.seeds = Seeds::Attribute("description".into());
        let peer = FreeRadius::peer(&dir.path().join("second"), &options)?;
        let at = peer.auth_address();
        assert_eq!(login(at, "ann.archer", &ann.appended(0)?, &[]).await.map(verdict)?, Verdict::Accept);
        assert_eq!(login(at, "ann.archer", &wrong_code, &[]).await.map(verdict)?, Verdict::Reject);
        Ok(())
    }
}
