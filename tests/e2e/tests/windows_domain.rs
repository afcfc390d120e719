//! The Windows domain as a target: `twinlock serve` on a host that has joined a real Active Directory domain (Samba), with winbind
//! between them, and phones that approve. Beside it the same domain as a directory, by LDAP binds, and behind a FreeRADIUS, which
//! changes passwords that have expired.

use anyhow::{Context, Result, bail, ensure};
use data_encoding::HEXLOWER;
use e2e::{Answer, Application, Device, code_of, story};
use lab::phones::pi;
use lab::{
    COMPANY_BASE, Pki, Proc, RADIUS_SECRET, Samba, Slapd, SlapdOptions, Standalone, free_port, password_of,
    private_file, program, wait_until,
};
use ldap_wire::{ExtendedRequest, ExtendedResponse, Filter, LdapResult, Message, MessageId, SearchResultEntry};
use radius_wire::ms_chap::{self, Client, Failure, FailureCode, PasswordHash, kind};
use radius_wire::{
    Attribute, AttributeType, Code, Hiding, HidingKey, Packet, Port, Request, RequestCode, Rule, Secret, Vendor,
    verify_reply,
};
use serde_json::Value;
use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};
use tempfile::TempDir;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    net::UdpSocket,
    time::{Instant, timeout},
};

/// Asks the domain.
const VPN: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Asks the directory.
const OLD_VPN: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6));
/// An application that speaks LDAP.
const WIKI: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 8));
/// Another one, which cannot show a question: the code stands behind the password.
const CODED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
/// Asks the RADIUS server in front of the domain.
const HOME_VPN: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 7));

const IDENT: u8 = 77;

/// Stopped in the order of its fields.
struct World {
    twinlock: Standalone,
    _home: Proc,
    samba: Samba,
    partners: Slapd,
    home_port: u16,
    http: reqwest::Client,
    dir: TempDir,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_windows_domain_checks_passwords_and_responses_and_the_phone_opens() -> Result<()> {
    let keep = std::env::var_os("KEEP_LOGS").is_some();
    let dir = tempfile::Builder::new().prefix("twinlock-story-").disable_cleanup(keep).tempdir()?;
    let pki = Pki::new(&dir.path().join("pki"))?;
    let samba = Samba::start(dir.path(), &pki)?;
    samba.wrapped("wbinfo")?;
    more_people(&samba)?;
    let partners = Slapd::start(dir.path(), &pki, &SlapdOptions::default())?;
    let ntlm_auth = samba.wrapped("ntlm_auth")?;
    let home_port = free_port();
    let home = freeradius(dir.path(), home_port, &ntlm_auth)?;
    let ntlm_auth = format!("radius.ntlm_auth={}", ntlm_auth.display());
    let twinlock = Standalone::start_set(dir.path(), "", &[&ntlm_auth, "radius.reject_delay_ms=500"])?;
    private_file(&dir.path().join("home.secret"), HOME_SECRET)?;
    private_file(&dir.path().join("samba.password"), Samba::QUERY_PASSWORD)?;
    private_file(&dir.path().join("partners.password"), Slapd::QUERY_PASSWORD)?;
    twinlock.command_line.apply(dir.path(), &settings(&samba, &partners, home_port, "")?)?;
    twinlock.command_line.run(&["sync", "now"])?;
    service_kit::tls::install_provider();
    let http = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build()?;
    let mut world = World { twinlock, _home: home, samba, partners, home_port, http, dir };
    story!(&mut world;
        a_password_opens_with_a_code_behind_it_or_in_answer_to_a_question,
        a_response_that_the_phone_approves_is_accepted_with_proof_and_keys,
        a_refusal_on_the_phone_is_691_without_keys,
        every_form_of_a_name_and_every_odd_name_is_the_same_person,
        both_locks_are_about_the_same_person,
        whom_the_domain_refuses_nobody_is_asked_about_and_the_device_hears_why,
        a_directory_at_the_same_domain_gives_the_same_reasons,
        eap_and_a_new_password_are_refused_here,
        an_application_binds_by_every_form_of_a_name_and_sees_the_domain_as_that_person,
        a_device_takes_every_form_of_a_name_and_both_locks_are_about_that_person,
        a_name_of_nobody_of_several_or_of_another_domain_opens_nothing_and_binds_nobody,
        an_alternate_name_is_looked_for_in_the_next_directory_too,
        a_service_account_is_added_by_any_name_and_kept_by_its_id,
        an_application_hears_the_domains_own_reasons_and_nobody_is_asked,
        a_radius_server_in_front_of_it_takes_a_new_password_for_an_expired_one_and_the_phone_is_asked,
        without_winbind_the_target_is_down_and_a_right_password_is_its_error,
    )
}

/// `application`: more keys of the application.
fn settings(samba: &Samba, partners: &Slapd, home_port: u16, application: &str) -> Result<String> {
    let client = |name: &str, from: IpAddr, target: &str| {
        format!(
            r#"
[[client]]
name = "{name}"
protocol = "radius"
sources = ["{from}/32"]
target = "{target}"
secret = "file:radius.secret"
appended = "optional"
wait_seconds = 20
"#
        )
    };
    Ok(format!(
        r#"
[verification]
cool_down_seconds = 0

[[directory]]
name = "lab"
preset = "active_directory"
urls = ["{url}"]
base = "{base}"
query_bind = {{ kind = "tls", name = "{query}", password = "file:samba.password" }}
netbios_domain = "{domain}"
user_filter = "(&(objectCategory=person)(objectClass=user)(!(employeeType=outside)))"
attributes = {{ username = ["userPrincipalName", "sAMAccountName", "mail"], alternate = "employeeNumber" }}
alternate_directories = ["partners"]
ca = '''
{ca}'''

[[directory]]
name = "partners"
preset = "openldap"
urls = ["{partners}"]
base = "{COMPANY_BASE}"
query_bind = {{ kind = "tls", name = "{partners_query}", password = "file:partners.password" }}
attributes = {{ alternate = "mail" }}
ca = '''
{ca}'''

[[target]]
name = "domain"
kind = "windows_domain"
directory = "lab"

[[target]]
name = "home"
kind = "radius"
directory = "lab"
status_check = "none"
servers = [{{ address = "127.0.0.1", secret = "file:home.secret", authentication_port = {home_port} }}]

[[sync_item]]
name = "people"
directory = "lab"
source = {{ kind = "container", dn = "{people}" }}

[[sync_item]]
name = "partners"
directory = "partners"
source = {{ kind = "domain" }}
filter = "(uid=ben.hale)"
{vpn}{old_vpn}{home_vpn}
[[client]]
name = "wiki"
protocol = "ldap"
sources = ["{WIKI}/32"]
target = "lab"
tls = "danger_optional"
appended = "optional"
wait_seconds = 20
{application}

[[client]]
name = "coded"
protocol = "ldap"
sources = ["{CODED}/32"]
target = "lab"
tls = "danger_optional"
appended = "required"
"#,
        partners = partners.ldaps_url(),
        partners_query = Slapd::QUERY_DN,
        url = samba.ldaps_url(),
        base = Samba::BASE,
        query = Samba::QUERY_DN,
        domain = Samba::DOMAIN,
        people = Samba::PEOPLE_DN,
        ca = fs::read_to_string(samba.ca_file())?,
        vpn = client("vpn", VPN, "domain"),
        old_vpn = client("old-vpn", OLD_VPN, "lab"),
        home_vpn = client("home-vpn", HOME_VPN, "home"),
    ))
}

/// What else Active Directory knows the reader of the wiki by, and we.
const READER: [(&str, &str); 3] =
    [("displayName", "Reader, Wiki Q."), ("servicePrincipalName", "HTTP/wiki.lab.test"), ("employeeNumber", "4711")];

const HOME_SECRET: &str = "shared-with-the-home-server-2291";

/// FreeRADIUS as a site would have it: the domain checks responses, and takes new passwords.
fn freeradius(dir: &Path, port: u16, ntlm_auth: &Path) -> Result<Proc> {
    let dir = dir.join("freeradius");
    fs::create_dir(&dir)?;
    let signed = "update reply {\n&Message-Authenticator := 0x00\n}";
    let (here, asks) = (dir.display(), ntlm_auth.display());
    let configuration = format!(
        r#"
prefix = /usr
libdir = /usr/lib/freeradius
logdir = {here}
run_dir = {here}
pidfile = {here}/pid
security {{
    allow_vulnerable_openssl = yes
}}
log {{
    destination = stdout
}}
client twinlock {{
    ipaddr = 127.0.0.1
    secret = "{HOME_SECRET}"
}}
modules {{
    mschap {{
        require_encryption = yes
        ntlm_auth = "{asks} --request-nt-key --allow-mschapv2 --username=%{{mschap:User-Name}} --domain={domain} --challenge=%{{%{{mschap:Challenge}}:-00}} --nt-response=%{{%{{mschap:NT-Response}}:-00}}"
        passchange {{
            ntlm_auth = "{asks} --helper-protocol=ntlm-change-password-1"
            ntlm_auth_username = "username: %{{mschap:User-Name}}"
            ntlm_auth_domain = "nt-domain: {domain}"
        }}
    }}
}}
server home {{
    listen {{
        type = auth
        ipaddr = 127.0.0.1
        port = {port}
    }}
    authorize {{
        mschap
    }}
    authenticate {{
        Auth-Type MS-CHAP {{
            mschap
        }}
    }}
    post-auth {{
        {signed}
        Post-Auth-Type REJECT {{
            {signed}
        }}
    }}
}}
"#,
        domain = Samba::DOMAIN,
    );
    fs::write(dir.join("radiusd.conf"), configuration)?;
    let mut command = Command::new(program("freeradius")?);
    command.args(["-f", "-l", "stdout", "-D", "/usr/share/freeradius", "-d"]).arg(&dir);
    let process = Proc::spawn("freeradius", command, &dir.join("freeradius.log"))?;
    wait_until("FreeRADIUS to be ready", Duration::from_secs(60), || {
        process.log().contains("Ready to process requests")
    })
    .with_context(|| process.log())?;
    Ok(process)
}

/// One who is left in peace by everybody else; Mallory, whose principal name, in a domain of names that is not the realm, begins as
/// the account of somebody else does; and one who is no user of ours, with the mail address of somebody else as principal name.
fn more_people(samba: &Samba) -> Result<()> {
    for name in ["boss", "mallory", "oscar.outside", "wiki.reader", "svc.wiki", "svc.git", "svc.ci"] {
        samba.add(name, &password_of(name))?;
    }
    for (attribute, value) in READER {
        put(samba, "wiki.reader", attribute, value)?;
    }
    put(samba, "boss", "mail", MAIL_OF_BOSS)?;
    put(samba, "oscar.outside", "employeeType", "outside")?;
    put(samba, "oscar.outside", "userPrincipalName", MAIL_OF_BOSS)?;
    put(samba, "mallory", "userPrincipalName", "boss@corp.test")
}

const MAIL_OF_BOSS: &str = "the.boss@mail.test";

/// What a device heard in answer to a response.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// With a proof that we know the password, and the keys that its owner computes.
    Accept,
    /// With this code of RFC 2759 section 6, and nothing that could be a key.
    Refused(u32),
}

impl World {
    /// A connection of the application, on which this name is bound.
    async fn application(&self, name: &str) -> Result<Application> {
        let mut application = Application::connect(&self.twinlock.ldap_url(), WIKI).await?;
        let answer = application.bind(1, name, &password_of("wiki.reader")).await?;
        let result = LdapResult::decode(&answer)?;
        ensure!(result.code.0 == 0, "{name}: {result:?}");
        Ok(application)
    }

    fn device(&self, from: IpAddr) -> Result<Device> {
        Device::new(from, self.twinlock.radius_port(), RADIUS_SECRET)
    }

    /// Gives somebody a phone, which proves itself once.
    async fn phone(&self, uid: &str) -> Result<Phone> {
        let command_line = &self.twinlock.command_line;
        let started = command_line.json(&["factor", "enrol", uid, "--method", "push", "--kind", "pi"])?;
        let uri = started["uri"].as_str().context("an address to scan")?;
        let device = started["device_id"].as_str().context("a device")?.to_owned();
        let vectors = fs::read_to_string(lab::repository().join("tests/vectors/pipush.json"))?;
        let vectors: Value = serde_json::from_str(&vectors)?;
        let key = vectors["phone_key_pkcs8_pem"].as_str().context("a key")?;
        let url = format!("{}/push/pi", self.twinlock.portal_url());
        let mut phone =
            Phone { app: pi::Phone::scan(uri, key), http: self.http.clone(), url, may_look: Instant::now() };
        let enrolled = phone.send(&phone.app.enrol()).await?;
        phone.app.enrolled(&enrolled);
        let (command_line, uid) = (command_line.clone(), uid.to_owned());
        let proof = tokio::task::spawn_blocking(move || {
            command_line.run(&["factor", "activation", &uid, &device, "--wait", "60s"])
        });
        let shown = phone.shown().await?;
        phone.send(&phone.app.accept(&shown.nonce, shown.choices.first().map(String::as_str))).await?;
        proof.await??;
        Ok(phone)
    }

    /// Ends of attempts that were audited so far. A question that a sentence leaves open ends in the middle of a later one.
    fn attempts(&self) -> Result<Vec<Value>> {
        let mut events = self.twinlock.command_line.audit()?;
        events.retain(|event| event["kind"] == "authentication" && event["reason"] != "no_answer");
        Ok(events)
    }

    /// The one attempt since there were `before` ended for this reason, and was of somebody of this name.
    async fn ended(&self, before: usize, uid: &str, reason: &str) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(60);
        let attempts = loop {
            let attempts = self.attempts()?;
            if attempts.len() > before {
                break attempts;
            }
            ensure!(Instant::now() < end, "no event of {uid}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        let [event] = &attempts[before..] else { bail!("events of one attempt: {:#?}", &attempts[before..]) };
        ensure!(event["reason"] == reason, "{uid}: {}, not {reason}", event["reason"]);
        ensure!(event["user"].as_str().is_some_and(|user| user.contains(uid)), "{event}");
        Ok(())
    }

    /// Somebody logs in by MS-CHAPv2.
    async fn respond(&self, name: &str, password: &str) -> Result<Heard> {
        self.respond_from(VPN, name, password).await
    }

    async fn respond_from(&self, from: IpAddr, name: &str, password: &str) -> Result<Heard> {
        let mut random = [0; 32];
        getrandom::fill(&mut random).context("randomness")?;
        let (challenge, peer_challenge) = random.split_at(16);
        let client = Client {
            user_name: name,
            challenge: challenge.try_into()?,
            peer_challenge: peer_challenge.try_into()?,
            hash: PasswordHash::of(password),
        };
        let proof = [
            ms_chap::attribute(kind::MS_CHAP_CHALLENGE, &client.challenge)?,
            ms_chap::attribute(kind::MS_CHAP2_RESPONSE, &client.response(IDENT))?,
        ];
        self.prove(from, name, &proof, Some(&client)).await
    }

    /// `client` is who can tell whether an Accept is genuine; without one there must be none.
    async fn prove(&self, from: IpAddr, name: &str, proof: &[Vec<u8>], client: Option<&Client<'_>>) -> Result<Heard> {
        let vendor = AttributeType::VENDOR_SPECIFIC;
        let proof: Vec<_> = proof.iter().map(|value| Attribute { kind: vendor, value }).collect();
        let answer = self.ask(from, name, &proof).await?;
        let packet = Packet::parse(&answer.octets, Port::AuthenticationReplies).context("a packet")?;
        let of_microsoft: Vec<(u8, &[u8])> = packet
            .attributes()
            .filter_map(|attribute| attribute.vendor().filter(|vendor| vendor.id == Vendor::MICROSOFT))
            .flat_map(|vendor| vendor.attributes())
            .collect();
        let only = |wanted: u8| match of_microsoft.iter().filter(|(kind, _)| *kind == wanted).collect::<Vec<_>>()[..] {
            [(_, value)] => Ok(*value),
            ref found => bail!("{} attributes of type {wanted}", found.len()),
        };
        match packet.code() {
            Code::AccessAccept => {
                let client = client.context("accepted")?;
                ensure!(client.accepts(IDENT, only(kind::MS_CHAP2_SUCCESS)?), "who answers does not know the password");
                let keys = client.keys();
                for (wanted, key) in [(kind::MS_MPPE_SEND_KEY, keys.send), (kind::MS_MPPE_RECV_KEY, keys.recv)] {
                    let hidden_with = HidingKey { secret: &answer.secret, authenticator: &answer.authenticator };
                    let clear = Hiding::TunnelPassword.reveal(only(wanted)?, hidden_with)?;
                    ensure!(*clear == *key.as_slice(), "another key of type {wanted}");
                }
                Ok(Heard::Accept)
            }
            Code::AccessReject => {
                let error = only(kind::MS_CHAP_ERROR)?;
                ensure!(of_microsoft.len() == 1, "beside the error: {of_microsoft:?}");
                let failure = Failure::read(error).context("no error")?;
                ensure!(failure.ident == IDENT && !failure.may_retry && failure.challenge.is_some(), "{failure:?}");
                // The words of a home server for an expired password go through untouched (R-58).
                let theirs = from == HOME_VPN && failure.code == FailureCode::PasswordExpired;
                ensure!(theirs || failure.message.starts_with(b"Sign-in failed. Ref "), "{failure:?}");
                Ok(Heard::Refused(failure.code.number()))
            }
            other => bail!("{other:?} as an answer"),
        }
    }

    /// Sends it every two seconds until it is answered.
    async fn ask(&self, from: IpAddr, name: &str, attributes: &[Attribute<'_>]) -> Result<Answered> {
        let secret = Secret::new(RADIUS_SECRET).context("a shared secret")?;
        let mut authenticator = [0; 16];
        getrandom::fill(&mut authenticator).context("randomness")?;
        let name = Attribute { kind: AttributeType::USER_NAME, value: name.as_bytes() };
        let attributes: Vec<_> = std::iter::once(name).chain(attributes.iter().copied()).collect();
        let code = RequestCode::AccessRequest;
        let request =
            Request { code, identifier: authenticator[0], authenticator, attributes: &attributes, password: None };
        let octets = request.write(&secret)?;
        let socket = UdpSocket::bind((from, 0)).await?;
        let mut buffer = vec![0; 4096];
        for _ in 0..15 {
            socket.send_to(&octets, (VPN, self.twinlock.radius_port())).await?;
            if let Ok(received) = timeout(Duration::from_secs(2), socket.recv_from(&mut buffer)).await {
                buffer.truncate(received?.0);
                let packet = Packet::parse(&buffer, Port::AuthenticationReplies).context("a packet")?;
                verify_reply(&packet, &request.sent(), &secret, Rule::Yes).context("a forged reply")?;
                return Ok(Answered { octets: buffer, authenticator, secret });
            }
        }
        bail!("no answer")
    }

    /// The same, and the phone approves or refuses.
    async fn respond_and_touch(&self, name: &str, password: &str, phone: &mut Phone, approves: bool) -> Result<Heard> {
        self.touched(self.respond(name, password), phone, approves).await
    }

    /// What a login comes to that the phone approves or refuses.
    async fn touched(
        &self,
        login: impl Future<Output = Result<Heard>>,
        phone: &mut Phone,
        approves: bool,
    ) -> Result<Heard> {
        let touch = async {
            let shown = phone.shown().await?;
            ensure!(shown.choices.is_empty(), "no number can be shown here");
            let answer = match approves {
                true => phone.app.accept(&shown.nonce, None),
                false => phone.app.decline(&shown.nonce, None),
            };
            let told = phone.send(&answer).await?;
            ensure!(told["result"]["value"] == true, "{told}");
            Ok(())
        };
        let (heard, touched) = tokio::join!(login, touch);
        let heard = heard?;
        touched.with_context(|| format!("{heard:?}"))?;
        Ok(heard)
    }

    /// Of the target, as the management page has it.
    async fn target_is(&self, wanted: &str) -> Result<Value> {
        let end = Instant::now() + Duration::from_secs(150); // it is asked every 30 seconds
        loop {
            let url = format!("{}/healthz/upstreams", self.twinlock.management_url());
            let upstreams: Value = serde_json::from_str(&self.http.get(url).send().await?.text().await?)?;
            let mut of = upstreams.as_array().into_iter().flatten();
            let target = of.find(|one| one["kind"] == "target" && one["name"] == "domain");
            match target {
                Some(target) if target["state"] == wanted => return Ok(target.clone()),
                _ => ensure!(Instant::now() < end, "the target is not {wanted}: {upstreams}"),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// The app of a phone, which may ask every three seconds.
struct Phone {
    app: pi::Phone,
    http: reqwest::Client,
    url: String,
    may_look: Instant,
}

impl Phone {
    /// What is new on it.
    async fn look(&mut self) -> Result<Vec<pi::Shown>> {
        tokio::time::sleep_until(self.may_look).await;
        self.may_look = Instant::now() + Duration::from_millis(3_100);
        let now = OffsetDateTime::from(SystemTime::now()).replace_nanosecond(0)?;
        let reply = self.send(&self.app.poll(&now.format(&Rfc3339)?.replace('Z', ".000000Z"))).await?;
        ensure!(reply["result"]["status"] == true, "{reply}");
        Ok(self.app.show(&reply))
    }

    async fn shown(&mut self) -> Result<pi::Shown> {
        for _ in 0..5 {
            if let Some(shown) = self.look().await?.into_iter().next() {
                return Ok(shown);
            }
        }
        bail!("the phone shows nothing")
    }

    async fn send(&self, request: &pi::Request) -> Result<Value> {
        let sent = match request.method {
            "GET" => self.http.get(format!("{}?{}", self.url, request.form())),
            _ => {
                let form = "application/x-www-form-urlencoded";
                self.http.post(&self.url).header("content-type", form).body(request.form())
            }
        };
        Ok(serde_json::from_str(&sent.send().await?.text().await?)?)
    }
}

struct Answered {
    octets: Vec<u8>,
    authenticator: [u8; 16],
    secret: Secret,
}

async fn a_password_opens_with_a_code_behind_it_or_in_answer_to_a_question(world: &mut World) -> Result<()> {
    // FR-08: PAP
    let ben = world.twinlock.command_line.enrol("ben.baker")?;
    let vpn = world.device(VPN)?;
    let before = world.attempts()?.len();
    ensure!(vpn.login(&ben.uid, &ben.appended(0)?).await? == Answer::Accept);
    world.ended(before, &ben.uid, "valid_code").await?;
    ensure!(vpn.login(&ben.uid, &ben.appended(0)?).await? == Answer::Reject, "a used code");
    let Answer::Challenge(state) = vpn.login(&ben.uid, &ben.password).await? else { bail!("no challenge") };
    let before = world.attempts()?.len();
    ensure!(vpn.respond(&ben.uid, &ben.code(1)?, &state).await? == Answer::Accept);
    world.ended(before, &ben.uid, "valid_code").await?;
    let before = world.attempts()?.len();
    ensure!(vpn.login(&ben.uid, "wrong").await? == Answer::Reject);
    world.ended(before, &ben.uid, "bad_password").await?;
    // R-49: no question can be put to a response, and a code is all he has.
    let before = world.attempts()?.len();
    ensure!(world.respond(&ben.uid, &ben.password).await? == Heard::Refused(691));
    world.ended(before, &ben.uid, "method_impossible").await
}

async fn a_response_that_the_phone_approves_is_accepted_with_proof_and_keys(world: &mut World) -> Result<()> {
    // R-56, R-57
    let uid = "ann.archer";
    let mut phone = world.phone(uid).await?;
    let before = world.attempts()?.len();
    ensure!(world.respond_and_touch(uid, &password_of(uid), &mut phone, true).await? == Heard::Accept);
    world.ended(before, uid, "user_approved").await?;
    let before = world.attempts()?.len();
    ensure!(world.respond(uid, "wrong").await? == Heard::Refused(691));
    world.ended(before, uid, "bad_password").await?;
    ensure!(phone.look().await?.is_empty(), "asked after a wrong password");
    Ok(())
}

async fn a_refusal_on_the_phone_is_691_without_keys(world: &mut World) -> Result<()> {
    // R-58
    let uid = "ben.baker";
    let mut phone = world.phone(uid).await?;
    let before = world.attempts()?.len();
    ensure!(world.respond_and_touch(uid, &password_of(uid), &mut phone, false).await? == Heard::Refused(691));
    world.ended(before, uid, "user_denied").await
}

async fn every_form_of_a_name_and_every_odd_name_is_the_same_person(world: &mut World) -> Result<()> {
    // R-57: the domain before the name is no part of what is hashed
    for (uid, forms) in [
        ("ann.archer", [r"LAB\ann.archer", "ann.archer@lab.test", "ANN.ARCHER"].as_slice()),
        ("jörg.groß", &["jörg.groß", r"LAB\jörg.groß"]),
        ("dol$lar", &["dol$lar", "dol$lar@lab.test"]),
        ("with space", &["with space", r"LAB\with space"]),
    ] {
        let mut phone = world.phone(uid).await?;
        for form in forms {
            let before = world.attempts()?.len();
            let heard = world.respond_and_touch(form, &password_of(uid), &mut phone, true).await;
            ensure!(heard.context((*form).to_owned())? == Heard::Accept, "{form}");
            world.ended(before, uid, "user_approved").await?;
        }
        let before = world.attempts()?.len();
        let vpn = world.device(VPN)?;
        ensure!(matches!(vpn.login(uid, &password_of(uid)).await?, Answer::Challenge(_)), "{uid} by password");
        ensure!(vpn.login(uid, "wrong").await? == Answer::Reject);
        world.ended(before, uid, "bad_password").await?;
    }
    let before = world.attempts()?.len();
    ensure!(world.respond(r"ELSE\ann.archer", &password_of("ann.archer")).await? == Heard::Refused(691));
    world.ended(before, "ann.archer", "unknown_user").await
}

async fn both_locks_are_about_the_same_person(world: &mut World) -> Result<()> {
    // R-60: the phone is Mallory's, so the password has to be
    let mut phone = world.phone("mallory").await?;
    let of_boss = world.respond("boss@corp.test", &password_of("boss")).await?;
    ensure!(of_boss == Heard::Refused(691), "{of_boss:?}");
    ensure!(phone.look().await?.is_empty(), "Mallory was asked whether the boss may come in");
    let vpn = world.device(VPN)?;
    ensure!(vpn.login("boss@corp.test", &password_of("boss")).await? == Answer::Reject, "by password");
    let name = r"LAB\mallory";
    let heard = world.respond_and_touch(name, &password_of("mallory"), &mut phone, true).await?;
    ensure!(heard == Heard::Accept);
    let heard = world.respond_and_touch("boss@corp.test", &password_of("mallory"), &mut phone, true).await?;
    ensure!(heard == Heard::Accept, "a name of her own");
    // The name means the boss here and Oscar to the domain, and the boss is asked: so the password has to be the boss's.
    let mut phone = world.phone("boss").await?;
    let of_oscar = world.respond(MAIL_OF_BOSS, &password_of("oscar.outside")).await?;
    ensure!(of_oscar == Heard::Refused(691), "{of_oscar:?}");
    ensure!(phone.look().await?.is_empty(), "the boss was asked whether Oscar may come in");
    ensure!(vpn.login(MAIL_OF_BOSS, &password_of("oscar.outside")).await? == Answer::Reject, "by password");
    let heard = world.respond_and_touch(MAIL_OF_BOSS, &password_of("boss"), &mut phone, true).await?;
    ensure!(heard == Heard::Accept, "the boss by mail address");
    Ok(())
}

/// A state of an account: how it gets there, and back.
type Change = fn(&Samba, &str) -> Result<()>;

/// Replaces one attribute.
fn put(samba: &Samba, uid: &str, attribute: &str, value: &str) -> Result<()> {
    let dn = Samba::dn_of(uid);
    samba.modify(&format!("dn: {dn}\nchangetype: modify\nreplace: {attribute}\n{attribute}: {value}\n"))
}

fn as_it_is(_: &Samba, _: &str) -> Result<()> {
    Ok(())
}

const REFUSED: &[(&str, Change, Change, &str, u32)] = &[
    ("carla.cook", Samba::disable, Samba::enable, "account_disabled", 647),
    ("carla.cook", Samba::expire, |samba, uid| put(samba, uid, "accountExpires", "0"), "account_expired", 647),
    ("carla.cook", Samba::lock, Samba::unlock, "account_locked", 647),
    (
        "carla.cook",
        Samba::require_new_password,
        |samba, uid| put(samba, uid, "pwdLastSet", "-1"),
        "must_change_password",
        648,
    ),
    ("paula.passwordexpired", as_it_is, as_it_is, "password_expired", 648),
    ("hugo.hours", as_it_is, as_it_is, "logon_restricted", 646),
];

async fn whom_the_domain_refuses_nobody_is_asked_about_and_the_device_hears_why(world: &mut World) -> Result<()> {
    // R-58, R-63
    let vpn = world.device(VPN)?;
    for uid in ["carla.cook", "paula.passwordexpired", "hugo.hours"] {
        let password = password_of(uid);
        let mut phone = world.phone(uid).await?;
        for (_, change, back, reason, code) in REFUSED.iter().filter(|(of, ..)| *of == uid) {
            change(&world.samba, uid)?;
            let before = world.attempts()?.len();
            let heard = world.respond(uid, &password).await?;
            ensure!(heard == Heard::Refused(*code), "{uid}, {reason}: {heard:?}");
            world.ended(before, uid, reason).await?;
            ensure!(vpn.login(uid, &password).await? == Answer::Reject, "{uid}, {reason}, by password");
            world.ended(before + 1, uid, reason).await?;
            ensure!(phone.look().await?.is_empty(), "{uid} was asked, {reason}");
            back(&world.samba, uid)?;
        }
        if uid == "carla.cook" {
            let heard = world.respond_and_touch(uid, &password, &mut phone, true).await?;
            ensure!(heard == Heard::Accept, "her phone would have been asked");
        }
    }
    Ok(())
}

async fn a_directory_at_the_same_domain_gives_the_same_reasons(world: &mut World) -> Result<()> {
    // R-66, FD-07
    let vpn = world.device(OLD_VPN)?;
    let uid = "carla.cook";
    ensure!(matches!(vpn.login(uid, &password_of(uid)).await?, Answer::Challenge(_)), "she may");
    for (uid, change, back, reason, _) in REFUSED {
        change(&world.samba, uid)?;
        let before = world.attempts()?.len();
        ensure!(vpn.login(uid, &password_of(uid)).await? == Answer::Reject, "{uid}, {reason}");
        world.ended(before, uid, reason).await?;
        back(&world.samba, uid)?;
    }
    Ok(())
}

async fn eap_and_a_new_password_are_refused_here(world: &mut World) -> Result<()> {
    // R-56, R-58: who may change a password is a home server
    let uid = "ann.archer";
    let identity = [&[2, 5, 0, 15, 1], uid.as_bytes()].concat(); // RFC 3748 section 5.1
    let before = world.attempts()?.len();
    let eap = Attribute { kind: AttributeType::EAP_MESSAGE, value: &identity };
    let answer = world.ask(VPN, uid, &[eap]).await?;
    let packet = Packet::parse(&answer.octets, Port::AuthenticationReplies).context("a packet")?;
    ensure!(packet.code() == Code::AccessReject);
    ensure!(packet.first(AttributeType::EAP_MESSAGE) == Some(&[4, 5, 0, 4]), "no EAP-Failure");
    world.ended(before, uid, "protocol_unsupported").await?;

    let before = world.attempts()?.len();
    let change = [&[7, IDENT][..], &[1; 64], &[0; 2]].concat(); // RFC 2548 section 2.3.4
    let mut proof =
        vec![ms_chap::attribute(kind::MS_CHAP_CHALLENGE, &[3; 16])?, ms_chap::attribute(kind::MS_CHAP2_CPW, &change)?];
    for piece in 1..=3 {
        let value = [&[6, IDENT, 0, piece][..], &[2; 172]].concat();
        proof.push(ms_chap::attribute(kind::MS_CHAP_NT_ENC_PW, &value)?);
    }
    for (from, at) in [(VPN, before), (OLD_VPN, before + 1)] {
        ensure!(world.prove(from, uid, &proof, None).await? == Heard::Refused(709), "{from}");
        world.ended(at, uid, "protocol_unsupported").await?;
    }
    Ok(())
}

async fn an_application_binds_by_every_form_of_a_name_and_sees_the_domain_as_that_person(
    world: &mut World,
) -> Result<()> {
    // L-20, L-21, L-16: whoever is exempt works as with the domain itself
    let uid = "wiki.reader";
    let command_line = &world.twinlock.command_line;
    command_line.run(&["user", "exempt", uid, "--client", "wiki", "--reason", "a test of names"])?;
    let mut first = world.application(uid).await?;
    let found = first.search(2, &Samba::dn_of(uid), &Filter::present("objectClass"), &[]).await?;
    let entry = SearchResultEntry::decode(&Message::parse(found.first().context("no entry")?.clone())?)?;
    let octets = |name: &str| -> Result<Vec<u8>> {
        let attribute = entry.attribute(name).with_context(|| format!("no {name}"))?;
        Ok(attribute.values.first().context("no value")?.to_vec())
    };
    let (guid, sid) = (octets("objectGUID")?, octets("objectSid")?);
    ensure!(guid.len() == 16 && sid.len() > 20, "{guid:?} {sid:?}");
    let mut names = names_of_the_reader();
    names.extend([
        format!("<GUID={}>", HEXLOWER.encode(&guid)),
        format!("<SID={}>", HEXLOWER.encode(&sid)),
        format!("<SID={}>", sid_text(&sid)),
        sid_text(&sid),
        format!("{{{}}}", guid_text(&guid)),
        format!("<GUID={}>", guid_text(&guid).to_uppercase()),
    ]);
    let before = world.samba.bound_names().len();
    for name in &names {
        let mut application = world.application(name).await?;
        // Whose token it is: its first SID is the person's own (MS-ADTS section 3.1.1.4.5.19).
        let root = application.search_root(2, &["tokenGroups"]).await?;
        let token = root.attribute("tokenGroups").with_context(|| format!("{name}: no token"))?;
        ensure!(token.values.iter().any(|value| value[..] == sid[..]), "{name} is somebody else");
    }
    // One bind for each, and never with what was typed.
    let sent = world.samba.bound_names().split_off(before);
    let own = |name: &String| [Samba::QUERY_DN, Samba::ADMIN_DN].contains(&name.as_str());
    let sent: Vec<String> = sent.into_iter().filter(|name| !own(name)).collect();
    ensure!(sent == vec![Samba::dn_of(uid); names.len()], "{sent:#?}");
    // What leads around us is not told.
    let root = first.search_root(3, &["*", "+"]).await?;
    for leads_around in ["dnsHostName", "ldapServiceName", "serverName"] {
        ensure!(root.attribute(leads_around).is_none(), "{leads_around}");
    }
    ensure!(root.attribute("supportedCapabilities").is_some() && root.attribute("defaultNamingContext").is_some());
    Ok(())
}

/// Every name by which an application or a device may know `wiki.reader`, ids apart.
fn names_of_the_reader() -> Vec<String> {
    let names = [
        r"CN=wiki.reader,OU=people,DC=lab,DC=test",
        r"cn = WIKI.reader , ou = people,dc=LAB, dc=test",
        r"CN=wiki\2Ereader,OU=\70eople,DC=lab,DC=test",
        r"LAB\wiki.reader",
        r"lab\Wiki.Reader",
        "LAB/wiki.reader",
        r"lab.test\wiki.reader",
        r"LAB.Test\WIKI.READER",
        "wiki.reader@lab.test",
        "WIKI.READER@LAB.TEST",
        "wiki.reader",
        " Wiki.Reader ",
        "lab.test/people/wiki.reader",
        "Lab.Test/People/WIKI.READER",
        "HTTP/wiki.lab.test",
        "http/WIKI.lab.test",
        "Reader, Wiki Q.",
        "reader, wiki q.",
        "4711",
    ];
    names.map(str::to_owned).into()
}

/// MS-DTYP section 2.4.2.1
fn sid_text(sid: &[u8]) -> String {
    let subs = sid[8..].as_chunks::<4>().0.iter().map(|octets| format!("-{}", u32::from_le_bytes(*octets)));
    format!("S-1-{}{}", sid[7], subs.collect::<String>())
}

/// MS-DTYP section 2.3.4.3: the first three fields have their octets in the other order.
fn guid_text(guid: &[u8]) -> String {
    let field = |places: &[usize]| places.iter().map(|place| format!("{:02x}", guid[*place])).collect::<String>();
    [&[3, 2, 1, 0][..], &[5, 4], &[7, 6], &[8, 9], &[10, 11, 12, 13, 14, 15]].map(field).join("-")
}

async fn a_device_takes_every_form_of_a_name_and_both_locks_are_about_that_person(world: &mut World) -> Result<()> {
    // R-60, R-61: by password at the directory and at the domain, by response at the domain
    let uid = "wiki.reader";
    let exempt = ["user", "exempt", uid, "--client", "wiki", "--client", "vpn", "--client", "old-vpn"];
    world.twinlock.command_line.run(&[&exempt[..], &["--reason", "a test of names"]].concat())?;
    let (directory, domain) = (world.device(OLD_VPN)?, world.device(VPN)?);
    let before = world.attempts()?.len();
    let mut logins = 0;
    for name in names_of_the_reader() {
        ensure!(directory.login(&name, &password_of(uid)).await? == Answer::Accept, "{name}, directory");
        ensure!(domain.login(&name, &password_of(uid)).await? == Answer::Accept, "{name}, domain");
        logins += 2;
        let heard = world.respond(&name, &password_of(uid)).await?;
        ensure!(heard == Heard::Accept, "{name}: {heard:?}");
        logins += 1;
    }
    let attempts = world.attempts()?.split_off(before);
    ensure!(attempts.len() == logins, "{} attempts of {logins} logins", attempts.len());
    for event in attempts {
        let user = event["user"].as_str().unwrap_or_default();
        ensure!(event["reason"] == "exempt" && user.contains("wiki.reader@lab.test"), "{event}");
    }
    Ok(())
}

async fn a_name_of_nobody_of_several_or_of_another_domain_opens_nothing_and_binds_nobody(
    world: &mut World,
) -> Result<()> {
    // L-20, R-60, R-61
    let uid = "wiki.reader";
    put(&world.samba, "mallory", "displayName", "Two of Us")?;
    put(&world.samba, "boss", "displayName", "Two of Us")?;
    let before = (world.samba.bound_names(), world.attempts()?.len());
    let names = [
        (r"ELSE\wiki.reader", "unknown_user"),
        (r"sub.lab.test\wiki.reader", "unknown_user"),
        (r"test\wiki.reader", "unknown_user"),
        ("ELSE/wiki.reader", "unknown_user"),
        ("sub.lab.test/people/wiki.reader", "unknown_user"),
        ("wiki.reader@else.test", "unknown_user"),
        ("lab.test/wiki.reader", "unknown_user"),
        ("lab.test/groups/wiki.reader", "unknown_user"),
        ("lab.test/nowhere/wiki.reader", "unknown_user"),
        ("HTTP/*", "unknown_user"),
        ("Reader*", "unknown_user"),
        (r"LAB\4711", "unknown_user"),
        (r"LAB\Reader, Wiki Q.", "unknown_user"),
        ("CN=wiki.reader,OU=people,DC=else,DC=test", "unknown_user"),
        ("Two of Us", "ambiguous_user"),
    ];
    let device = world.device(OLD_VPN)?;
    for (name, reason) in names {
        let mut application = Application::connect(&world.twinlock.ldap_url(), WIKI).await?;
        let answer = LdapResult::decode(&application.bind(1, name, &password_of(uid)).await?)?;
        ensure!(answer.code.0 == 49, "{name}: {answer:?}");
        ensure!(device.login(name, &password_of(uid)).await? == Answer::Reject, "{name}");
        let last = world.attempts()?.pop().context("no event")?;
        ensure!(last["reason"] == reason, "{name}: {last}");
    }
    ensure!(world.attempts()?.len() == before.1 + 2 * names.len());
    let people =
        |names: Vec<String>| names.into_iter().filter(|name| name.to_lowercase().contains("ou=people")).count();
    ensure!(people(world.samba.bound_names()) == people(before.0), "somebody was bound");
    // Whoever writes another's name into their own entry does not get their logins, nor keep them out.
    put(&world.samba, "mallory", "displayName", uid)?;
    put(&world.samba, "mallory", "employeeNumber", uid)?;
    world.application(uid).await.map(drop)
}

async fn an_alternate_name_is_looked_for_in_the_next_directory_too(world: &mut World) -> Result<()> {
    // FD-19
    let (uid, dn) = ("ben.hale", "uid=ben.hale,ou=sales,ou=people,dc=acme,dc=example");
    let (name, password) = ("Ben.Hale@acme.example", password_of(uid));
    let exempt = ["user", "exempt", uid, "--client", "wiki", "--client", "vpn", "--client", "old-vpn"];
    world.twinlock.command_line.run(&[&exempt[..], &["--reason", "a test of names"]].concat())?;
    let mut application = Application::connect(&world.twinlock.ldap_url(), WIKI).await?;
    let answer = LdapResult::decode(&application.bind(1, name, &password).await?)?;
    ensure!(answer.code.0 == 0, "{answer:?}");
    application.send(&ExtendedRequest::who_am_i().encode(MessageId::new(2).context("an id")?, &[])).await?;
    let who =
        ExtendedResponse::decode(&application.receive().await?.context("no answer")?)?.value.context("no name")?;
    ensure!(who == format!("dn:{dn}"), "{who:?}");
    // The same connection, now for somebody of the first directory, and back.
    for (name, of) in [("wiki.reader", "wiki.reader"), (name, uid)] {
        let answer = LdapResult::decode(&application.bind(3, name, &password_of(of)).await?)?;
        ensure!(answer.code.0 == 0, "{name}: {answer:?}");
    }
    ensure!(world.device(OLD_VPN)?.login(name, &password).await? == Answer::Accept, "by RADIUS");
    let last = world.attempts()?.pop().context("no event")?;
    ensure!(last["reason"] == "exempt" && last["user"].as_str().is_some_and(|user| user.contains(uid)), "{last}");
    wait_until("the log", Duration::from_secs(60), || world.partners.binds(dn) >= 3)?;
    ensure!(world.partners.binds(dn) == 3, "{}", world.partners.binds(dn));
    // The domain checks its own people only; and a name with a domain is no alternate name.
    ensure!(world.device(VPN)?.login(name, &password).await? == Answer::Reject, "at the domain");
    let last = world.attempts()?.pop().context("no event")?;
    ensure!(last["reason"] == "unknown_user", "{last}");
    for name in [r"LAB\ben.hale", "ben.hale", r"acme.example\ben.hale"] {
        ensure!(world.device(OLD_VPN)?.login(name, &password).await? == Answer::Reject, "{name}");
    }
    Ok(())
}

async fn a_service_account_is_added_by_any_name_and_kept_by_its_id(world: &mut World) -> Result<()> {
    // FL-15, L-22
    let samba = &world.samba;
    let found = world.application("wiki.reader").await?;
    let mut reader = found;
    let id_of_ci = reader.search(2, &Samba::dn_of("svc.ci"), &Filter::present("objectClass"), &[]).await?;
    let entry = SearchResultEntry::decode(&Message::parse(id_of_ci.first().context("no entry")?.clone())?)?;
    let sid = entry.attribute("objectSid").and_then(|sid| sid.values.first()).context("no SID")?.to_vec();
    let listed = format!(
        "service_accounts = [{{ name = 'LAB\\svc.wiki' }}, {{ name = 'svc.git@lab.test' }}, {{ name = '<SID={}>' }}, {{ name = 'svc.gone' }}]",
        sid_text(&sid)
    );
    let document = settings(samba, &world.partners, world.home_port, &listed)?;
    world.twinlock.command_line.apply(world.dir.path(), &document)?;
    let shown = || -> Result<Vec<Value>> {
        let client = world.twinlock.command_line.json(&["client", "show", "wiki"])?;
        Ok(client["service_accounts"].as_array().cloned().unwrap_or_default())
    };
    wait_until("their ids", Duration::from_secs(60), || {
        shown().is_ok_and(|accounts| accounts.iter().filter(|account| account["id"].is_string()).count() == 3)
    })
    .with_context(|| format!("{:?}", shown()))?;
    ensure!(shown()?.iter().all(|account| account["id"].is_string() == (account["name"] != "svc.gone")));

    let bind = async |name: &str, of: &str| -> Result<(u32, String)> {
        let before = world.attempts()?.len();
        let mut application = Application::connect(&world.twinlock.ldap_url(), WIKI).await?;
        let answer = LdapResult::decode(&application.bind(1, name, &password_of(of)).await?)?;
        let attempts = world.attempts()?.split_off(before);
        let reason = attempts.last().and_then(|event| event["reason"].as_str()).unwrap_or("no event");
        Ok((answer.code.0, reason.to_owned()))
    };
    let exempt = (0, "service_account".to_owned());
    for (name, of) in [
        ("svc.wiki@lab.test", "svc.wiki"),
        (r"LAB\svc.git", "svc.git"),
        ("svc.ci", "svc.ci"),
        ("lab.test/people/svc.ci", "svc.ci"),
    ] {
        ensure!(bind(name, of).await? == exempt, "{name}: {:?}", bind(name, of).await?);
    }
    // By another name, at another place: the same account.
    samba.modify(&format!(
        "dn: {}\nchangetype: modrdn\nnewrdn: CN=wiki\ndeleteoldrdn: 1\nnewsuperior: OU=service,{}\n",
        Samba::dn_of("svc.wiki"),
        Samba::BASE
    ))?;
    let moved = format!("CN=wiki,OU=service,{}", Samba::BASE);
    samba.modify(&format!(
        "dn: {moved}\nchangetype: modify\nreplace: sAMAccountName\nsAMAccountName: svc.moved\n-\nreplace: userPrincipalName\nuserPrincipalName: svc.moved@lab.test\n"
    ))?;
    for name in [moved.as_str(), "svc.moved", "lab.test/service/wiki"] {
        ensure!(bind(name, "svc.wiki").await? == exempt, "{name}");
    }
    // Another account under the old name, and one that was made anew: neither is.
    samba.add("svc.wiki", &password_of("svc.wiki"))?;
    samba.modify(&format!("dn: {}\nchangetype: delete\n", Samba::dn_of("svc.git")))?;
    samba.add("svc.git", &password_of("svc.git"))?;
    world.twinlock.command_line.apply(world.dir.path(), &document)?;
    for (name, of) in [(r"LAB\svc.wiki", "svc.wiki"), ("svc.git@lab.test", "svc.git")] {
        let (code, reason) = bind(name, of).await?;
        ensure!(code == 49 && reason != "service_account", "{name}: {code} {reason}");
    }
    ensure!(bind("svc.moved", "svc.wiki").await? == exempt, "applied again, it is the same account");
    // Whoever takes the name that was listed of nobody is found when they come.
    samba.add("svc.gone", &password_of("svc.gone"))?;
    let end = Instant::now() + Duration::from_secs(60); // it is looked for once a second at most
    loop {
        let heard = bind("svc.gone", "svc.gone").await?;
        if heard == exempt {
            return Ok(());
        }
        ensure!(Instant::now() < end, "{heard:?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn an_application_hears_the_domains_own_reasons_and_nobody_is_asked(world: &mut World) -> Result<()> {
    // B5, FL-11: 773, 533, 701, 775 and 532 pass as they are, and a wrong password is counted once
    let reasons = [
        ("account_disabled", "533"),
        ("account_expired", "701"),
        ("account_locked", "775"),
        ("must_change_password", "773"),
        ("password_expired", "532"),
    ];
    for (uid, change, back, reason, _) in REFUSED {
        let Some((_, data)) = reasons.iter().find(|(known, _)| known == reason) else { continue };
        change(&world.samba, uid)?;
        let before = world.attempts()?.len();
        let mut application = Application::connect(&world.twinlock.ldap_url(), WIKI).await?;
        let answer = application.bind(1, uid, &password_of(uid)).await?;
        let result = LdapResult::decode(&answer)?;
        ensure!(
            result.code.0 == 49 && result.diagnostic_text().contains(&format!("data {data}")),
            "{reason}: {result:?}"
        );
        world.ended(before, uid, reason).await?;
        back(&world.samba, uid)?;
    }
    let reader = Samba::dn_of("wiki.reader");
    ensure!(world.samba.binds(&reader, &password_of("wiki.reader"))?, "the reader cannot sign in");
    ensure!(world.samba.wrong_passwords_of(&reader)? == 0, "a right password begins the count anew");
    for (name, reason) in [("wiki.reader", "bad_password"), ("nobody.here", "unknown_user")] {
        let before = world.attempts()?.len();
        let mut application = Application::connect(&world.twinlock.ldap_url(), WIKI).await?;
        let result = LdapResult::decode(&application.bind(1, name, "wrong").await?)?;
        // L-40: the same for both, in the domain's own form.
        let diagnostic = result.diagnostic_text();
        ensure!(
            result.code.0 == 49 && diagnostic.ends_with("AcceptSecurityContext error, data 52e, v0"),
            "{name}: {result:?}"
        );
        world.ended(before, name, reason).await?;
        ensure!(world.samba.wrong_passwords_of(&reader)? == 1, "{name}: a wrong password is counted once");
    }
    // L-52 (a): where a code is demanded a wrong one is looked at after the password, which was right.
    let (uid, typed) = ("ben.baker", format!("{},000000", password_of("ben.baker")));
    let mut application = Application::connect(&world.twinlock.ldap_url(), CODED).await?;
    let before = world.attempts()?.len();
    ensure!(code_of(&application.bind(1, uid, &typed).await?)? == 49);
    world.ended(before, uid, "wrong_code").await?;
    ensure!(world.samba.wrong_passwords_of(&Samba::dn_of(uid))? == 0, "a wrong code is no wrong password");
    Ok(())
}

/// RC4, which a new password travels under. Nothing else uses it.
fn rc4(key: &[u8], text: &mut [u8]) {
    let mut state: [u8; 256] = std::array::from_fn(|index| index.to_le_bytes()[0]);
    let mut swap = 0_u8;
    for index in 0..256 {
        swap = swap.wrapping_add(state[index]).wrapping_add(key[index % key.len()]);
        state.swap(index, swap.into());
    }
    let (mut index, mut swap) = (0_u8, 0_u8);
    for octet in text {
        index = index.wrapping_add(1);
        swap = swap.wrapping_add(state[usize::from(index)]);
        state.swap(index.into(), swap.into());
        *octet ^= state[usize::from(state[usize::from(index)].wrapping_add(state[usize::from(swap)]))];
    }
}

/// What a client sends to have its password changed (RFC 2548 section 2.3.4, RFC 2759 section 8.9 and following). `old` is the MD4 hash
/// of the one before, `client` proves the new one.
fn change(client: &Client<'_>, old: &[u8; 16], new: &str) -> Result<Vec<Vec<u8>>> {
    const ROOM: usize = 512;
    const PIECE: usize = 243;
    let new: Vec<u8> = new.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut hidden = vec![0x55; ROOM - new.len()];
    hidden.extend(&new);
    hidden.extend(u32::try_from(new.len())?.to_le_bytes());
    rc4(old, &mut hidden);
    // Each half of the old hash under a key of the new one: a response is its argument under all keys, one after the other.
    let (first, second) = (old[..8].try_into()?, old[8..].try_into()?);
    let old_under_new =
        [&client.hash.challenge_response(first)[..8], &client.hash.challenge_response(second)[8..16]].concat();
    let response = client.response(IDENT);
    let proof = [&[7, IDENT], old_under_new.as_slice(), &response[2..50], &[0; 2]].concat();
    let mut attributes = vec![
        ms_chap::attribute(kind::MS_CHAP_CHALLENGE, &client.challenge)?,
        ms_chap::attribute(kind::MS_CHAP2_CPW, &proof)?,
    ];
    for (number, piece) in (1..).zip(hidden.chunks(PIECE)) {
        attributes.push(ms_chap::attribute(kind::MS_CHAP_NT_ENC_PW, &[&[6, IDENT, 0, number], piece].concat())?);
    }
    Ok(attributes)
}

async fn a_radius_server_in_front_of_it_takes_a_new_password_for_an_expired_one_and_the_phone_is_asked(
    world: &mut World,
) -> Result<()> {
    // R-58
    const NEW: &str = "Fresh-max-0417";
    /// MD4 of `password_of("max.mustchange")` in UTF-16.
    const OLD: [u8; 16] =
        [0x55, 0x67, 0xfc, 0x0a, 0x1b, 0x20, 0xe9, 0xcf, 0x31, 0xb0, 0xf0, 0x72, 0x49, 0xcf, 0x6c, 0x73];
    /// And of the new one.
    const NEW_HASH: [u8; 16] =
        [0xca, 0xa9, 0xda, 0xd6, 0x16, 0x8a, 0x46, 0x8d, 0xd7, 0xff, 0xa4, 0xc9, 0xce, 0x58, 0x9f, 0x6a];
    let uid = "max.mustchange";
    let mut phone = world.phone(uid).await?;
    let client = Client { user_name: uid, challenge: [3; 16], peer_challenge: [4; 16], hash: PasswordHash::of(NEW) };
    let proof = change(&client, &OLD, NEW)?;

    // Not before the domain has said that it has to be.
    let before = world.attempts()?.len();
    ensure!(world.prove(HOME_VPN, uid, &proof, None).await? == Heard::Refused(709));
    world.ended(before, uid, "protocol_unsupported").await?;

    let before = world.attempts()?.len();
    ensure!(world.respond_from(HOME_VPN, uid, &password_of(uid)).await? == Heard::Refused(648), "it was changed");
    world.ended(before, uid, "password_expired").await?;
    ensure!(phone.look().await?.is_empty(), "asked about an expired password");

    let before = world.attempts()?.len();
    let changed = world.prove(HOME_VPN, uid, &proof, Some(&client));
    ensure!(world.touched(changed, &mut phone, false).await? == Heard::Refused(691), "he refused");
    world.ended(before, uid, "user_denied").await?;
    ensure!(world.samba.binds(&Samba::dn_of(uid), NEW)?, "the password is the new one all the same");

    let login = world.respond_from(HOME_VPN, uid, NEW);
    ensure!(world.touched(login, &mut phone, true).await? == Heard::Accept, "with the new password");

    world.samba.require_new_password(uid)?;
    ensure!(world.respond_from(HOME_VPN, uid, NEW).await? == Heard::Refused(648), "again");
    let again = "Fresher-max-0418";
    let client = Client { user_name: uid, hash: PasswordHash::of(again), ..client };
    let proof = change(&client, &NEW_HASH, again)?;
    let before = world.attempts()?.len();
    let changed = world.prove(HOME_VPN, uid, &proof, Some(&client));
    ensure!(world.touched(changed, &mut phone, true).await? == Heard::Accept, "changed and approved");
    world.ended(before, uid, "user_approved").await?;
    ensure!(world.samba.binds(&Samba::dn_of(uid), again)?);
    Ok(())
}

async fn without_winbind_the_target_is_down_and_a_right_password_is_its_error(world: &mut World) -> Result<()> {
    // FR-08: not joined is nobody's wrong password
    let uid = "boss";
    let password = password_of(uid);
    let mut phone = world.phone(uid).await?;
    world.target_is("up").await?;
    world.samba.restart_without_winbind()?;
    let before = world.attempts()?.len();
    ensure!(world.respond(uid, &password).await? == Heard::Refused(691));
    world.ended(before, uid, "target_error").await?;
    ensure!(world.device(VPN)?.login(uid, &password).await? == Answer::Reject);
    world.ended(before + 1, uid, "target_error").await?;
    ensure!(phone.look().await?.is_empty(), "asked before the password was checked");
    ensure!(world.device(OLD_VPN)?.login(uid, "wrong").await? == Answer::Reject);
    world.ended(before + 2, uid, "bad_password").await.context("the directory is there")?;
    let down = world.target_is("down").await?;
    let why = down["last_error"].as_str().unwrap_or_default();
    ensure!(why.contains("winbind"), "{down}");
    world.twinlock.command_line.run(&["health"]).context("a target that is down makes no process unready")?;
    world.samba.restart()?;
    let heard = world.respond_and_touch(uid, &password, &mut phone, true).await?;
    ensure!(heard == Heard::Accept, "at once, without waiting for the next look");
    world.target_is("up").await?;
    Ok(())
}
