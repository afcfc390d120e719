//! Everything secret that a day's work uses is searched for in everything the product writes and sends: log at TRACE,
//! traces, metrics, log records, bus, audit, settings, database (V-34). Passwords, codes, seeds, shared secrets, keys.

#[path = "secrets/capture.rs"]
mod capture;

use anyhow::{Context, Result, ensure};
use capture::{Collector, Listener};
use data_encoding::{BASE32_NOPAD, BASE64};
use e2e::{Answer, Application, Device, Distributed, OneMachine, Secrets, Visitor, code_of, forms, read_all, say};
use lab::{CommandLine, Part, Postgres, RADIUS_SECRET, Slapd, program, run};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const VPN: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const APPLICATION: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

const SETTINGS: &str = r#"
[[client]]
name = "raw"
protocol = "ldap"
sources = ["127.0.0.2/32"]
target = "acme"
appended = "required"
tls = "danger_optional"
service_accounts = [{ name = "cn=gitlab,ou=service,dc=acme,dc=example" }]
"#;

/// Where the day is spent.
struct Product<'a> {
    line: &'a CommandLine,
    slapd: &'a Slapd,
    radius_ports: [u16; 2],
    ldap_urls: [String; 2],
    portal_url: String,
    portal_ca: PathBuf,
}

#[test]
fn the_search_finds_what_is_planted_in_every_form() -> Result<()> {
    let mut secrets = Secrets::default();
    let planted = "Kolibri 7f3a/+%27öä".as_bytes();
    secrets.add("a password", planted);
    secrets.add("a code", b"12345678");
    let noise: Vec<u8> = (0..5_000_u32).flat_map(u32::to_be_bytes).collect();
    ensure!(secrets.found_in("noise", &noise)?.is_empty());
    for secret in [planted, b"12345678"] {
        for (form, octets) in forms(secret) {
            let content = [noise.as_slice(), b" ", &octets, b" ", &noise].concat();
            ensure!(!secrets.found_in("noise", &content)?.is_empty(), "{form} is not found");
        }
    }
    // Base64 of something longer, at any place in it.
    for before in 0..6 {
        let longer = BASE64.encode(&[&b"{name}"[..before], planted, b"..."].concat());
        ensure!(!secrets.found_in("base64", longer.as_bytes())?.is_empty(), "behind {before} octets");
    }
    // A code stands alone: as part of a number or an identifier it is none.
    for (text, is_found) in
        [("code=12345678,", true), ("\"12345678\"", true), ("0123456789", false), ("a12345678f", false)]
    {
        ensure!(secrets.found_in("text", text.as_bytes())?.is_empty() != is_found, "{text}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_on_one_machine_leaves_no_secret_anywhere() -> Result<()> {
    let (collector, endpoint) = Collector::start().await?;
    let mut machine = OneMachine::start(0, SETTINGS, &telemetry(&endpoint), &["radius.reject_delay_ms=500"])?;
    let mut secrets = Secrets::default();
    let product = Product {
        line: machine.command_line(),
        slapd: &machine.slapd,
        radius_ports: [machine.twinlock.radius_port(); 2],
        ldap_urls: [machine.twinlock.ldap_url(), machine.twinlock.ldap_url()],
        portal_url: machine.twinlock.portal_url(),
        portal_ca: machine.twinlock.certificate_file(),
    };
    spend_a_day(&product, &mut secrets).await?;
    let home = machine.twinlock.home().to_owned();
    master_key(&mut secrets, &home.join("data/master.key"))?;
    secrets.add("the key of the certificate", &key_octets(&home.join("tls/twinlock.key"))?);

    let mut places = said_by(product.line)?;
    places.push(metrics_page(&machine.twinlock.management_url()).await?);
    machine.twinlock.process().context("it runs")?.terminate(Duration::from_secs(20));
    places.push(Place::new("the log", machine.twinlock.log().into_bytes(), "\"level\":\"trace\""));
    places.push(Place::new("the database", read_all(&home.join("data"), &["master.key"])?, "ann.archer"));
    places.extend(sent_to(&collector));
    nothing_found(&secrets, &places)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_on_many_machines_leaves_no_secret_anywhere() -> Result<()> {
    let (collector, endpoint) = Collector::start().await?;
    let mut distributed = Distributed::start(0, SETTINGS, &telemetry(&endpoint))?;
    let mut secrets = Secrets::default();
    let listener = Listener::start(&distributed.cluster.nats.url()).await?;
    let cluster = &distributed.cluster;
    let product = Product {
        line: distributed.command_line(),
        slapd: &distributed.slapd,
        radius_ports: [1, 2].map(|number| cluster.radius_port(number)),
        ldap_urls: [1, 2].map(|number| cluster.ldap_url(number)),
        portal_url: cluster.portal_url(1),
        portal_ca: distributed.pki.ca_file(),
    };
    spend_a_day(&product, &mut secrets).await?;
    let home = cluster.dir().to_owned();
    master_key(&mut secrets, &home.join("master.key"))?;
    secrets.add("the password of the database", Postgres::PASSWORD.as_bytes());
    for part in Part::ALL {
        let file = distributed.pki.ca_file().with_file_name(format!("{}.key", part.name()));
        secrets.add(&format!("the key of {}", part.name()), &key_octets(&file)?);
    }

    let mut places = said_by(product.line)?;
    for part in Part::ALL {
        for number in [1, 2] {
            places.push(metrics_page(&cluster.management_url((part, number))).await?);
        }
    }
    let mut dump = Command::new(program("pg_dump")?);
    let dump = run(dump.args(["-d", &cluster.postgres.url()]))?;
    places.push(Place::new("the dump of the database", dump.stdout, "ann.archer"));
    for word in [
        "twinlock.v1.user.changed.",
        "twinlock.v1.auth.event.vpn",
        "$KV.twinlock_challenges.",
        "$KV.twinlock_requests.",
    ] {
        listener.wait_for(word).await?;
    }
    for node in Part::ALL.into_iter().flat_map(|part| [(part, 1), (part, 2)]) {
        distributed.cluster.process(node).context("it runs")?.terminate(Duration::from_secs(20));
        let log = distributed.cluster.log(node).into_bytes();
        places.push(Place::new(&format!("the log of {} {}", node.0.name(), node.1), log, "\"level\":\"trace\""));
    }
    places.push(Place::new("the bus", listener.heard.octets(), "$KV.twinlock_challenges."));
    places.push(Place::new("the files of the bus", read_all(&home.join("nats"), &[])?, "twinlock.v1.auth.event"));
    places.push(Place::new(
        "the files of the database",
        read_all(&home.join("postgres"), &["password"])?,
        "ann.archer",
    ));
    places.extend(sent_to(&collector));
    nothing_found(&secrets, &places)?;

    // The same ears hear a secret when there is one.
    let planted = BASE64.encode(format!("{{\"secret\":\"{RADIUS_SECRET}\"}}").as_bytes());
    listener.publish("twinlock.v1.planted", &planted).await?;
    listener.wait_for("twinlock.v1.planted").await?;
    listener.wait_for(&planted).await?;
    ensure!(!secrets.found_in("the bus", &listener.heard.octets())?.is_empty(), "a planted secret is not found");
    Ok(())
}

/// Uses every kind of secret in every way there is, right and wrong, and notes each.
async fn spend_a_day(product: &Product<'_>, secrets: &mut Secrets) -> Result<()> {
    secrets.add("the shared secret", RADIUS_SECRET.as_bytes());
    secrets.add("the password of the query bind", Slapd::QUERY_PASSWORD.as_bytes());
    secrets.add("the password of a service account", Slapd::GITLAB_PASSWORD.as_bytes());
    let ann = Person::new(product, secrets, "ann.archer", "engineering", "Kolibri 4f1c/+%27öä")?;
    let ben = Person::new(product, secrets, "ben.hale", "sales", "Marabu-\"9e77\\$x")?;

    // RADIUS: appended, asked for, wrong, replayed, under a wrong secret
    let vpn = Device::new(VPN, product.radius_ports[0], RADIUS_SECRET)?;
    let other = vpn.at(product.radius_ports[1]);
    let right = format!("{},{}", ann.password, ann.code(secrets, 0)?);
    ensure!(vpn.login("ann.archer", &right).await? == Answer::Accept, "appended");
    ensure!(other.login("ann.archer", &right).await? == Answer::Reject, "appended, again");
    let Answer::Challenge(state) = vpn.login("ben.hale", &ben.password).await? else { anyhow::bail!("no challenge") };
    secrets.add("a State", &state);
    let Answer::Challenge(next) = other.respond("ben.hale", &wrong_code(secrets), &state).await? else {
        anyhow::bail!("no second challenge")
    };
    secrets.add("another State", &next);
    ensure!(vpn.respond("ben.hale", &ben.code(secrets, 0)?, &next).await? == Answer::Accept, "asked for");
    let typed = "Tippfehler-2b8e71";
    secrets.add("a wrong password", typed.as_bytes());
    ensure!(vpn.login("ann.archer", typed).await? == Answer::Reject, "a wrong password");
    let impostor = Device::new(VPN, product.radius_ports[0], "not-the-shared-secret-88ab")?;
    impostor.exchange("ann.archer", &right, None).await?.send().await?;

    // LDAP: right, wrong, replayed, a service account, with a password where a name belongs
    let mut bind = Vec::new();
    for (number, (name, password)) in [
        ("ann.archer".to_owned(), format!("{},{}", ann.password, ann.code(secrets, 1)?)),
        (ann.dn.clone(), right.clone()),
        (ann.dn.clone(), format!("{},{}", ann.password, wrong_code(secrets))),
        (ann.dn.clone(), format!("{typed},{}", wrong_code(secrets))),
        (Slapd::GITLAB_DN.to_owned(), Slapd::GITLAB_PASSWORD.to_owned()),
        (Slapd::GITLAB_DN.to_owned(), typed.to_owned()),
    ]
    .into_iter()
    .enumerate()
    {
        let mut application = Application::connect(&product.ldap_urls[number % 2], APPLICATION).await?;
        bind.push(code_of(&application.bind(1, &name, &password).await?)?);
    }
    ensure!(bind == [0, 49, 49, 49, 0, 49], "{bind:?}");

    // The portal: wrong and right, a code, and an enrolment
    let mut visitor = Visitor::arrive(&product.portal_url, &product.portal_ca).await?;
    visitor.submit("/sign-in", &[("name", "ben.hale"), ("password", typed)]).await?;
    visitor.submit("/sign-in", &[("name", "ben.hale"), ("password", &ben.password)]).await?;
    visitor.submit("/code", &[("code", &ben.code(secrets, 1)?)]).await?;
    ensure!(visitor.html.contains("action=\"/sign-out\""), "not signed in: {}", visitor.html);
    add_cookies(secrets, &visitor);
    let password = "Pirol~c0ffee&=?31";
    set_password(product, secrets, "clara.osborn", "finance", password)?;
    let mut visitor = Visitor::arrive(&product.portal_url, &product.portal_ca).await?;
    visitor.submit("/sign-in", &[("name", "clara.osborn"), ("password", password)]).await?;
    visitor.submit("/enrol/start", &[]).await?;
    let (_, seed) = visitor.html.split_once("id=\"secret\"").context("no secret on the page")?;
    let (_, seed) = seed.split_once('>').context("the end of the tag")?;
    let seed: String = seed.split('<').next().unwrap_or_default().split_whitespace().collect();
    add_seed(secrets, "the seed of the QR page", &seed)?;
    add_cookies(secrets, &visitor);
    // Six digits are too few to be searched for; the eight of the others go the same ways.
    visitor.submit("/enrol/confirm", &[("code", &code(&seed, 6, 0)?)]).await?;
    ensure!(!visitor.html.contains("id=\"secret\""), "not enrolled: {}", visitor.html);

    // Administration: an API key, an invitation, a new shared secret
    let key = product.line.json(&["api-key", "create", "story", "--role", "admin"])?;
    let key = key["key"].as_str().context("an API key")?;
    secrets.add("an API key", key.as_bytes());
    ensure!(visitor.api("/api/v1/users?limit=5", key).await?.contains("ann.archer"), "the API key does not work");
    visitor.api("/api/v1/users?limit=5", "twk_wrong-key-that-nobody-made-5d11").await?;
    secrets.add("a wrong API key", b"twk_wrong-key-that-nobody-made-5d11");
    let invitation = product.line.json(&["user", "invite", "david.baker"])?;
    secrets.add("an invitation", invitation["code"].as_str().context("a code")?.as_bytes());
    let rotated = product.line.json(&["client", "rotate-secret", "vpn"])?;
    let rotated = rotated["secret"].as_str().context("a new secret")?;
    secrets.add("the new shared secret", rotated.as_bytes());
    let vpn = Device::new(VPN, product.radius_ports[0], rotated)?;
    ensure!(vpn.login("ann.archer", typed).await? == Answer::Reject, "the new shared secret does not work");
    Ok(())
}

fn add_cookies(secrets: &mut Secrets, visitor: &Visitor) {
    for value in &visitor.cookies_seen {
        secrets.add("a cookie", value.as_bytes());
    }
}

struct Person {
    password: String,
    dn: String,
    seed: String,
}

impl Person {
    /// With a password and codes of eight digits that stand nowhere else.
    fn new(product: &Product<'_>, secrets: &mut Secrets, uid: &str, department: &str, password: &str) -> Result<Self> {
        let dn = set_password(product, secrets, uid, department, password)?;
        let enrolled = product.line.json(&["factor", "enrol", uid, "--digits", "8"])?;
        let field = |name: &str| enrolled[name].as_str().with_context(|| name.to_owned());
        let person = Self { password: password.into(), dn, seed: field("seed")?.into() };
        add_seed(secrets, &format!("the seed of {uid}"), &person.seed)?;
        product.line.run_with_input(&["factor", "confirm", uid, field("factor_id")?], &person.code(secrets, -1)?)?;
        Ok(person)
    }

    fn code(&self, secrets: &mut Secrets, offset: i64) -> Result<String> {
        let code = code(&self.seed, 8, offset)?;
        secrets.add("a code", code.as_bytes());
        Ok(code)
    }
}

fn set_password(
    product: &Product<'_>,
    secrets: &mut Secrets,
    uid: &str,
    department: &str,
    password: &str,
) -> Result<String> {
    let dn = format!("uid={uid},ou={department},ou=people,{}", lab::COMPANY_BASE);
    let encoded = BASE64.encode(password.as_bytes());
    product
        .slapd
        .modify(&format!("dn: {dn}\nchangetype: modify\nreplace: userPassword\nuserPassword:: {encoded}\n"))?;
    secrets.add(&format!("the password of {uid}"), password.as_bytes());
    Ok(dn)
}

fn add_seed(secrets: &mut Secrets, what: &str, seed: &str) -> Result<()> {
    secrets.add(what, seed.as_bytes());
    secrets.add(what, &BASE32_NOPAD.decode(seed.as_bytes())?);
    Ok(())
}

fn wrong_code(secrets: &mut Secrets) -> String {
    let code = "73910482";
    secrets.add("a wrong code", code.as_bytes());
    code.into()
}

/// Of this time step or one beside it; not at the end of one, so that it does not grow old on its way.
fn code(seed: &str, digits: u32, offset: i64) -> Result<String> {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    while now() % 30 > 25 {
        std::thread::sleep(Duration::from_millis(100));
    }
    let moment = now().checked_add_signed(offset * 30).context("a moment")?;
    let mut oathtool = Command::new(program("oathtool")?);
    oathtool
        .args(["--totp", "-b", seed, "-d", &digits.to_string(), "--now"])
        .arg(format!("@{moment}"))
        .env("TZ", "UTC");
    Ok(String::from_utf8_lossy(&run(&mut oathtool)?.stdout).trim().to_owned())
}

/// Something the product wrote or sent.
struct Place {
    name: String,
    content: Vec<u8>,
    /// What surely stands there; or it was not read.
    proof: &'static str,
}

impl Place {
    fn new(name: &str, content: Vec<u8>, proof: &'static str) -> Self {
        Self { name: name.into(), content, proof }
    }
}

fn said_by(line: &CommandLine) -> Result<Vec<Place>> {
    let said = |name, arguments: &[&str], proof| -> Result<Place> {
        Ok(Place::new(name, line.run(arguments)?.into_bytes(), proof))
    };
    Ok(vec![
        said("the audit", &["audit", "tail", "-n", "1000", "-o", "json"], "valid_code")?,
        said("the settings", &["settings", "export"], "[[client]]")?,
        said("the user", &["user", "show", "ann.archer"], "ann.archer")?,
        said("the clients", &["client", "list"], "vpn")?,
        said("the API keys", &["api-key", "list"], "story")?,
    ])
}

async fn metrics_page(management_url: &str) -> Result<Place> {
    let page = reqwest::get(format!("{management_url}/metrics")).await?.bytes().await?;
    Ok(Place::new(&format!("{management_url}/metrics"), page.to_vec(), "twinlock_"))
}

fn sent_to(collector: &Collector) -> [Place; 3] {
    [
        Place::new("the traces", collector.traces.octets(), "radius.request"),
        Place::new("the metrics", collector.metrics.octets(), "twinlock_auth_attempts_total"),
        Place::new("the log records", collector.logs.octets(), "authentication"),
    ]
}

fn nothing_found(secrets: &Secrets, places: &[Place]) -> Result<()> {
    let mut found = Vec::new();
    let mut size = 0;
    for place in places {
        let proof = place.proof.as_bytes();
        let was_read = place.content.windows(proof.len()).any(|window| window == proof);
        ensure!(was_read, "{} ({} octets) lacks {}", place.name, place.content.len(), place.proof);
        size += place.content.len();
        found.extend(secrets.found_in(&place.name, &place.content)?);
        // Proof that this very place would have told.
        let (_, planted) = &forms(RADIUS_SECRET.as_bytes())[0];
        let with_plant = [&place.content[place.content.len() / 2..], planted].concat();
        ensure!(!secrets.found_in(&place.name, &with_plant)?.is_empty(), "{} would not tell", place.name);
    }
    say(&format!("     {} forms of secrets searched for in {} places, {size} octets", secrets.len(), places.len()));
    ensure!(found.is_empty(), "{} found:\n{}", found.len(), found.join("\n"));
    Ok(())
}

fn master_key(secrets: &mut Secrets, file: &Path) -> Result<()> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().next().context("a key")?;
    secrets.add("the master key", line.as_bytes());
    secrets.add("the master key", &BASE64.decode(line.as_bytes())?);
    Ok(())
}

/// What is between the lines of a PEM file.
fn key_octets(file: &Path) -> Result<Vec<u8>> {
    let text = fs::read_to_string(file)?;
    let inside: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    let octets = BASE64.decode(inside.as_bytes())?;
    // PKCS #8 of a P-256 key: the private number itself stands at 36.
    Ok(octets.get(36..68).context("a P-256 key")?.to_vec())
}

fn telemetry(endpoint: &str) -> String {
    format!("[log]\nlevel = \"trace\"\n[telemetry]\notlp_endpoint = \"{endpoint}\"\n")
}
