//! Accounts of the target's own (R-62): whom a real FreeRADIUS lets in, or a real Windows domain through winbind, and whom neither the
//! directory nor the store knows, passes on the password alone where the client says so. Nobody else does.

use anyhow::{Context, Result, ensure};
use e2e::{Answer, Device, OneMachine, story};
use lab::{
    CommandLine, Pki, RADIUS_SECRET, Samba, Standalone,
    freeradius::{FreeRadius, HomeOptions, HomeUser},
    password_of, private_file,
};
use radius_wire::ms_chap::{self, Client, PasswordHash, kind};
use radius_wire::{
    Attribute, AttributeType, Code, Packet, Port, Request, RequestCode, Rule, Secret, Vendor, verify_reply,
};
use serde_json::Value;
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, TcpListener},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{net::UdpSocket, time::timeout};

/// Lets in whom the target alone knows.
const LAX: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 21));
/// Does not, which is the default.
const STRICT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 22));
/// Known to the target alone.
const STRANGER: &str = "kim.contractor";
/// A second name of somebody who is known, which the target alone takes.
const SECOND_NAME: &str = "ben.hale@elsewhere.example";

/// Both clients of a target.
fn clients(target: &str) -> String {
    let client = |name: &str, from: IpAddr, more: &str| {
        format!(
            "\n[[client]]\nname = \"{name}\"\nprotocol = \"radius\"\nsources = [\"{from}/32\"]\ntarget = \"{target}\"\n\
             secret = \"file:radius.secret\"\nappended = \"optional\"\nwait_seconds = 20\n{more}\n"
        )
    };
    client("lax", LAX, "unknown_user = \"pass\"") + &client("strict", STRICT, "")
}

/// What the audit and the log of the gateway know of logins.
struct Told<'t> {
    twinlock: &'t Standalone,
    seen: usize,
}

impl<'t> Told<'t> {
    fn before(twinlock: &'t Standalone) -> Result<Self> {
        Ok(Self { twinlock, seen: attempts(&twinlock.command_line)?.len() })
    }

    /// One login since then, of this name, ended so: in the audit, and in the log.
    async fn once(&self, name: &str, reason: &str) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(30);
        let new = loop {
            let new = attempts(&self.twinlock.command_line)?.split_off(self.seen);
            if !new.is_empty() {
                break new;
            }
            ensure!(Instant::now() < end, "no event of {name}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        ensure!(new.len() == 1, "{name}: {} events, {new:?}", new.len());
        let event = &new[0];
        ensure!(event["reason"] == reason, "{name}: {event}, not {reason}");
        ensure!(event["user"].as_str().is_some_and(|user| user.contains(name)), "{event}");
        let request = event["request_id"].as_str().context("which request")?;
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let log = self.twinlock.log();
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let mut of = lines.filter(|line| line["event"] == "authentication" && line["request_id"] == request);
            if let Some(line) = of.next() {
                ensure!(line["reason"] == reason, "the log has {line}");
                return Ok(());
            }
            ensure!(Instant::now() < end, "the log has nothing of {request}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn attempts(command_line: &CommandLine) -> Result<Vec<Value>> {
    let mut events = command_line.audit()?;
    events.retain(|event| event["kind"] == "authentication");
    Ok(events)
}

/// Stopped in the order of its fields.
struct BehindFreeRadius {
    machine: OneMachine,
    home: FreeRadius,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_a_radius_server_alone_knows_passes_on_the_password() -> Result<()> {
    let machine = OneMachine::start(0, "", "", &["radius.reject_delay_ms=500"])?;
    let dir = machine.dir.path();
    let pki = Pki::new(&dir.join("home-pki"))?;
    let users = vec![HomeUser::person(STRANGER).replies_usual(), HomeUser::person(SECOND_NAME)];
    let home = FreeRadius::home(dir, &pki, &HomeOptions { users, ..Default::default() })?;
    private_file(&dir.join("home.secret"), home.secret())?;
    let target = format!(
        "\n[[target]]\nname = \"home\"\nkind = \"radius\"\ndirectory = \"acme\"\n\
         servers = [{{ address = \"127.0.0.1\", secret = \"file:home.secret\", authentication_port = {}, accounting_port = {} }}]\n",
        home.auth_address().port(),
        home.acct_address().port()
    );
    machine.settings(&(target + &clients("home"))).await?;
    let mut world = BehindFreeRadius { machine, home };
    story!(&mut world;
        a_stranger_passes_on_the_password_that_the_server_accepts,
        somebody_known_needs_the_second_factor_by_every_name_that_the_server_takes,
        who_was_removed_from_the_directory_does_not_pass_though_the_server_still_has_them,
        nobody_is_a_stranger_while_the_directory_is_silent,
    )
}

impl BehindFreeRadius {
    fn device(&self, from: IpAddr) -> Result<Device> {
        Device::new(from, self.machine.twinlock.radius_port(), RADIUS_SECRET)
    }

    fn told(&self) -> Result<Told<'_>> {
        Told::before(&self.machine.twinlock)
    }

    /// How often the server was asked about a name.
    fn asked(&self, name: &str) -> Result<usize> {
        Ok(self.home.seen()?.iter().filter(|packet| packet.first("User-Name") == Some(name)).count())
    }
}

async fn a_stranger_passes_on_the_password_that_the_server_accepts(world: &mut BehindFreeRadius) -> Result<()> {
    let (lax, password) = (world.device(LAX)?, password_of(STRANGER));
    let told = world.told()?;
    ensure!(lax.login(STRANGER, &password).await? == Answer::Accept);
    told.once(STRANGER, "unknown_user_passed").await?;
    let told = world.told()?;
    ensure!(lax.login(STRANGER, "Nonsense").await? == Answer::Reject);
    told.once(STRANGER, "bad_password").await?;
    // Nothing stands behind the password of somebody who has no second factor.
    let told = world.told()?;
    ensure!(lax.login(STRANGER, &format!("{password},123456")).await? == Answer::Reject);
    told.once(STRANGER, "bad_password").await?;
    let asked = world.asked(STRANGER)?;
    ensure!(asked == 3, "the server was asked {asked} times");
    let told = world.told()?;
    ensure!(world.device(STRICT)?.login(STRANGER, &password).await? == Answer::Reject, "the default");
    told.once(STRANGER, "unknown_user").await?;
    ensure!(world.asked(STRANGER)? == asked, "the server was asked about somebody who may not come in");
    Ok(())
}

async fn somebody_known_needs_the_second_factor_by_every_name_that_the_server_takes(
    world: &mut BehindFreeRadius,
) -> Result<()> {
    let lax = world.device(LAX)?;
    let ben = world.machine.command_line().enrol("ben.hale")?;
    world.machine.command_line().run(&["user", "edit", &ben.uid, "--default-method", "code"])?;
    ensure!(matches!(lax.login(&ben.uid, &ben.password).await?, Answer::Challenge(_)), "on the password alone");
    ensure!(lax.login(&ben.uid, &ben.appended(0)?).await? == Answer::Accept, "with a code");
    // Known, and without a second factor that could be asked for.
    let told = world.told()?;
    ensure!(lax.login("clara.osborn", &password_of("clara.osborn")).await? == Answer::Reject);
    told.once("clara.osborn", "not_enrolled").await?;
    // The server lets it in, and it is a name of the account that is known.
    let told = world.told()?;
    ensure!(lax.login(SECOND_NAME, &password_of(SECOND_NAME)).await? == Answer::Reject, "by a second name");
    told.once(SECOND_NAME, "unknown_user").await
}

async fn who_was_removed_from_the_directory_does_not_pass_though_the_server_still_has_them(
    world: &mut BehindFreeRadius,
) -> Result<()> {
    let (uid, lax) = ("ida.reed", world.device(LAX)?);
    let dn = format!("uid={uid},{}", department(world, uid)?);
    world.machine.slapd.modify(&format!("dn: {dn}\nchangetype: delete\n"))?;
    for synchronised in [false, true] {
        if synchronised {
            world.machine.command_line().run(&["sync", "now"])?;
        }
        let told = world.told()?;
        let asked = world.asked(uid)?;
        ensure!(lax.login(uid, &password_of(uid)).await? == Answer::Reject, "synchronised: {synchronised}");
        ensure!(world.asked(uid)? == asked + 1, "the server would have refused");
        told.once(uid, "unknown_user").await?;
    }
    Ok(())
}

/// Where somebody of the company lies.
fn department(world: &BehindFreeRadius, uid: &str) -> Result<String> {
    let people = world.machine.slapd.dump()?;
    let found = people.lines().find_map(|line| line.strip_prefix(&format!("dn: uid={uid},")));
    Ok(found.with_context(|| format!("no {uid}"))?.to_owned())
}

async fn nobody_is_a_stranger_while_the_directory_is_silent(world: &mut BehindFreeRadius) -> Result<()> {
    let (lax, password) = (world.device(LAX)?, password_of(STRANGER));
    let asked = world.asked(STRANGER)?;
    let told = world.told()?;
    world.machine.slapd.process().context("it runs")?.signal("STOP");
    let answer = lax.login(STRANGER, &password).await;
    world.machine.slapd.process().context("it runs")?.signal("CONT");
    ensure!(answer? == Answer::Reject);
    told.once(STRANGER, "directory_timeout").await?;
    ensure!(world.asked(STRANGER)? == asked, "the server was asked");
    // Back again, and a stranger again.
    let end = Instant::now() + Duration::from_secs(60);
    while lax.login(STRANGER, &password).await? != Answer::Accept {
        ensure!(Instant::now() < end, "the directory does not come back");
    }
    Ok(())
}

/// Stopped in the order of its fields.
struct BehindTheDomain {
    twinlock: Standalone,
    samba: Samba,
    dir: TempDir,
}

/// Of the directory's part of the domain, and kept out by its filter.
const FILTERED: &str = "oscar.outside";
/// Where the directory does not look.
const ELSEWHERE: &str = "OU=service,DC=lab,DC=test";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_a_windows_domain_alone_knows_passes_on_the_password() -> Result<()> {
    let keep = std::env::var_os("KEEP_LOGS").is_some();
    let dir = tempfile::Builder::new().prefix("twinlock-story-").disable_cleanup(keep).tempdir()?;
    let pki = Pki::new(&dir.path().join("pki"))?;
    let samba = Samba::start(dir.path(), &pki)?;
    samba.wrapped("wbinfo")?;
    for name in [STRANGER, FILTERED, "rita.removed"] {
        samba.add(name, &password_of(name))?;
    }
    move_away(&samba, STRANGER)?;
    samba.modify(&format!(
        "dn: {}\nchangetype: modify\nreplace: employeeType\nemployeeType: outside\n",
        Samba::dn_of(FILTERED)
    ))?;
    let ntlm_auth = format!("radius.ntlm_auth={}", samba.wrapped("ntlm_auth")?.display());
    let twinlock = Standalone::start_set(dir.path(), "", &[&ntlm_auth, "radius.reject_delay_ms=500"])?;
    private_file(&dir.path().join("samba.password"), Samba::QUERY_PASSWORD)?;
    twinlock.command_line.apply(dir.path(), &domain_settings(&samba, &samba.ldaps_url())?)?;
    twinlock.command_line.run(&["sync", "now"])?;
    let mut world = BehindTheDomain { twinlock, samba, dir };
    story!(&mut world;
        a_stranger_passes_by_password_and_by_response,
        somebody_known_or_filtered_out_does_not_pass_on_the_password,
        who_was_moved_out_of_the_directory_does_not_pass_though_the_domain_still_has_them,
        nobody_is_a_stranger_while_the_directory_of_the_domain_is_silent,
    )
}

fn move_away(samba: &Samba, name: &str) -> Result<()> {
    samba.modify(&format!(
        "dn: {}\nchangetype: modrdn\nnewrdn: CN={name}\ndeleteoldrdn: 1\nnewsuperior: {ELSEWHERE}\n",
        Samba::dn_of(name)
    ))
}

/// Where the directory is asked is an argument: at the end it is where nobody answers.
fn domain_settings(samba: &Samba, url: &str) -> Result<String> {
    let directory = format!(
        r#"
[[directory]]
name = "people"
preset = "active_directory"
urls = ["{url}"]
base = "{people}"
query_bind = {{ kind = "tls", name = "{query}", password = "file:samba.password" }}
netbios_domain = "{domain}"
user_filter = "(&(objectCategory=person)(objectClass=user)(!(employeeType=outside)))"
ca = '''
{ca}'''

[[target]]
name = "domain"
kind = "windows_domain"
directory = "people"

[[sync_item]]
name = "people"
directory = "people"
source = {{ kind = "domain" }}
"#,
        people = Samba::PEOPLE_DN,
        query = Samba::QUERY_DN,
        domain = Samba::DOMAIN,
        ca = fs::read_to_string(samba.ca_file())?,
    );
    Ok(directory + &clients("domain"))
}

impl BehindTheDomain {
    fn device(&self, from: IpAddr) -> Result<Device> {
        Device::new(from, self.twinlock.radius_port(), RADIUS_SECRET)
    }

    fn told(&self) -> Result<Told<'_>> {
        Told::before(&self.twinlock)
    }

    /// Somebody logs in by MS-CHAPv2; whether with proof that who answers knows the password (R-57), or not at all.
    async fn respond(&self, name: &str, password: &str) -> Result<bool> {
        const IDENT: u8 = 77;
        let mut random = [0; 48];
        getrandom::fill(&mut random).context("randomness")?;
        let (challenge, peer_challenge) = (random[..16].try_into()?, random[16..32].try_into()?);
        let client = Client { user_name: name, challenge, peer_challenge, hash: PasswordHash::of(password) };
        let (challenge, response) = (
            ms_chap::attribute(kind::MS_CHAP_CHALLENGE, &client.challenge)?,
            ms_chap::attribute(kind::MS_CHAP2_RESPONSE, &client.response(IDENT))?,
        );
        let attribute = |kind, value| Attribute { kind, value };
        let attributes = [
            attribute(AttributeType::USER_NAME, name.as_bytes()),
            attribute(AttributeType::VENDOR_SPECIFIC, &challenge),
            attribute(AttributeType::VENDOR_SPECIFIC, &response),
        ];
        let request = Request {
            code: RequestCode::AccessRequest,
            identifier: random[32],
            authenticator: random[32..].try_into()?,
            attributes: &attributes,
            password: None,
        };
        let secret = Secret::new(RADIUS_SECRET).context("a shared secret")?;
        let octets = request.write(&secret)?;
        let socket = UdpSocket::bind((LAX, 0)).await?;
        let mut buffer = [0; 4096];
        for _ in 0..15 {
            socket.send_to(&octets, (Ipv4Addr::LOCALHOST, self.twinlock.radius_port())).await?;
            let Ok(received) = timeout(Duration::from_secs(2), socket.recv(&mut buffer)).await else { continue };
            let packet = Packet::parse(&buffer[..received?], Port::AuthenticationReplies).context("a packet")?;
            verify_reply(&packet, &request.sent(), &secret, Rule::Yes).context("a forged reply")?;
            if packet.code() != Code::AccessAccept {
                ensure!(packet.code() == Code::AccessReject, "{:?}", packet.code());
                return Ok(false);
            }
            let vendors = packet.attributes().filter_map(|attribute| attribute.vendor());
            let of_microsoft = vendors.filter(|vendor| vendor.id == Vendor::MICROSOFT);
            let mut items = of_microsoft.flat_map(|vendor| vendor.attributes());
            let proof = items.find(|(kind, _)| *kind == kind::MS_CHAP2_SUCCESS);
            let (_, proof) = proof.context("an Accept without proof")?;
            ensure!(client.accepts(IDENT, proof), "who answers does not know the password");
            return Ok(true);
        }
        anyhow::bail!("no answer to {name}")
    }
}

async fn a_stranger_passes_by_password_and_by_response(world: &mut BehindTheDomain) -> Result<()> {
    let (lax, password) = (world.device(LAX)?, password_of(STRANGER));
    for name in [STRANGER.to_owned(), format!(r"LAB\{STRANGER}")] {
        let told = world.told()?;
        ensure!(lax.login(&name, &password).await? == Answer::Accept, "{name}");
        told.once(STRANGER, "unknown_user_passed").await?;
        let told = world.told()?;
        ensure!(world.respond(&name, &password).await?, "{name} by response");
        told.once(STRANGER, "unknown_user_passed").await?;
    }
    let told = world.told()?;
    ensure!(lax.login(STRANGER, "Nonsense").await? == Answer::Reject);
    told.once(STRANGER, "bad_password").await?;
    let told = world.told()?;
    ensure!(!world.respond(STRANGER, "Nonsense").await?, "a wrong response");
    told.once(STRANGER, "bad_password").await?;
    // By the name that may lead a domain to somebody else it is not asked at all.
    let told = world.told()?;
    ensure!(lax.login(&format!("{STRANGER}@lab.test"), &password).await? == Answer::Reject, "a principal name");
    told.once(STRANGER, "unknown_user").await?;
    let told = world.told()?;
    ensure!(world.device(STRICT)?.login(STRANGER, &password).await? == Answer::Reject, "the default");
    told.once(STRANGER, "unknown_user").await
}

async fn somebody_known_or_filtered_out_does_not_pass_on_the_password(world: &mut BehindTheDomain) -> Result<()> {
    let lax = world.device(LAX)?;
    let ben = world.twinlock.command_line.enrol("ben.baker")?;
    ensure!(matches!(lax.login(&ben.uid, &ben.password).await?, Answer::Challenge(_)), "on the password alone");
    ensure!(lax.login(&ben.uid, &ben.appended(0)?).await? == Answer::Accept, "with a code");
    let told = world.told()?;
    ensure!(!world.respond(&ben.uid, &ben.password).await?, "by response");
    told.once(&ben.uid, "method_impossible").await?;
    ensure!(world.samba.binds(&Samba::dn_of(FILTERED), &password_of(FILTERED))?, "the domain knows another password");
    let told = world.told()?;
    ensure!(lax.login(FILTERED, &password_of(FILTERED)).await? == Answer::Reject, "kept out by the filter");
    told.once(FILTERED, "unknown_user").await?;
    let told = world.told()?;
    ensure!(!world.respond(FILTERED, &password_of(FILTERED)).await?, "kept out by the filter, by response");
    told.once(FILTERED, "unknown_user").await
}

async fn who_was_moved_out_of_the_directory_does_not_pass_though_the_domain_still_has_them(
    world: &mut BehindTheDomain,
) -> Result<()> {
    let (uid, lax) = ("rita.removed", world.device(LAX)?);
    move_away(&world.samba, uid)?;
    for synchronised in [false, true] {
        if synchronised {
            world.twinlock.command_line.run(&["sync", "now"])?;
        }
        for name in [uid.to_owned(), format!(r"LAB\{uid}")] {
            let told = world.told()?;
            ensure!(lax.login(&name, &password_of(uid)).await? == Answer::Reject, "{name}, {synchronised}");
            told.once(uid, "unknown_user").await?;
            let told = world.told()?;
            ensure!(!world.respond(&name, &password_of(uid)).await?, "{name} by response, {synchronised}");
            told.once(uid, "unknown_user").await?;
        }
    }
    Ok(())
}

async fn nobody_is_a_stranger_while_the_directory_of_the_domain_is_silent(world: &mut BehindTheDomain) -> Result<()> {
    let (lax, password) = (world.device(LAX)?, password_of(STRANGER));
    // Takes connections, and says nothing.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let url = format!("ldaps://{}", silent.local_addr()?);
    world.twinlock.command_line.apply(world.dir.path(), &domain_settings(&world.samba, &url)?)?;
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let told = world.told()?;
        // Until the new settings are in force.
        if lax.login(STRANGER, &password).await? == Answer::Reject {
            told.once(STRANGER, "directory_timeout").await?;
            break;
        }
        ensure!(Instant::now() < end, "the directory is not silent");
    }
    let told = world.told()?;
    ensure!(!world.respond(STRANGER, &password).await?, "by response");
    told.once(STRANGER, "directory_timeout").await
}
