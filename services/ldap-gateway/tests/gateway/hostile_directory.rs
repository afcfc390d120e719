//! A scripted directory that answers our own questions well and misbehaves towards the client's: whatever it does, nobody is let in
//! who should not be, and nothing is relayed that was not asked for (B-59, B-60).

use crate::anomalies::cases::{self, Anomaly};
use crate::support::{self, Misbehaviour, Running, Wanted, Wire, client, comparable, directory_at, until};
use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use domain::settings::{BindKind, Preset, Referrals};
use lab::{Pki, Slapd};
use ldap_wire::ber::{self, Writer};
use ldap_wire::{
    Attribute, BindRequest, BindResponse, Control, ExtendedRequest, ExtendedResponse, Filter, Framer, LdapResult,
    Limits, Message, MessageId, Op, Peer, ResultCode, Scope, SearchRequest, SearchResultEntry, extended, oid, result,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const BASE: &str = "dc=corp,dc=example";
const ANN: &str = "uid=ann,dc=corp,dc=example";

/// What it answers to a request of the client: octets, after which it may hang up.
type Script = Arc<dyn Fn(&Message) -> Said + Send + Sync>;

enum Said {
    Octets(Vec<u8>),
    ThenHangUp(Vec<u8>),
    ThenReset(Vec<u8>),
    Nothing,
}

struct Fake {
    url: String,
    /// Towards binds as a person.
    on_bind: Arc<Mutex<Script>>,
    /// Towards everything on a connection of a client.
    on_operation: Arc<Mutex<Script>>,
    /// Towards our own questions.
    on_question: Arc<Mutex<Script>>,
    binds: Arc<AtomicUsize>,
}

fn success(message: &Message) -> Said {
    Said::Octets(bind_response(message.id(), LdapResult::of(ResultCode::SUCCESS)))
}

fn bind_response(id: MessageId, result: LdapResult) -> Vec<u8> {
    BindResponse { result, server_sasl_credentials: None }.encode(id, &[]).to_vec()
}

fn done(id: MessageId) -> Vec<u8> {
    LdapResult::of(ResultCode::SUCCESS).encode(id, Op::SearchResultDone, &[]).to_vec()
}

fn id(number: u32) -> MessageId {
    MessageId::new(number).expect("an id")
}

impl Fake {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("ldap://{}", listener.local_addr()?);
        let script: Script = Arc::new(success);
        let (on_bind, on_operation) = (Arc::new(Mutex::new(script.clone())), Arc::new(Mutex::new(script)));
        let question: Script = Arc::new(|it| found(it).map_or(Said::Nothing, Said::Octets));
        let on_question = Arc::new(Mutex::new(question));
        let binds = Arc::new(AtomicUsize::new(0));
        let fake = Self {
            url,
            on_bind: on_bind.clone(),
            on_operation: on_operation.clone(),
            on_question: on_question.clone(),
            binds: binds.clone(),
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let scripts = [on_bind.clone(), on_operation.clone(), on_question.clone()];
                let served = serve(stream, scripts, binds.clone());
                tokio::spawn(async move { served.await.unwrap_or_default() });
            }
        });
        Ok(fake)
    }

    fn on_bind(&self, script: impl Fn(&Message) -> Said + Send + Sync + 'static) {
        *self.on_bind.lock().expect("scripts do not panic") = Arc::new(script);
    }

    fn on_operation(&self, script: impl Fn(&Message) -> Said + Send + Sync + 'static) {
        *self.on_operation.lock().expect("scripts do not panic") = Arc::new(script);
    }

    fn on_question(&self, script: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static) {
        *self.on_question.lock().expect("scripts do not panic") = Arc::new(move |it| Said::Octets(script(it)));
    }

    fn binds(&self) -> usize {
        self.binds.load(Ordering::SeqCst)
    }
}

/// One connection: of the query account, whose questions are answered, or of a client.
async fn serve(mut stream: TcpStream, scripts: [Arc<Mutex<Script>>; 3], binds: Arc<AtomicUsize>) -> Result<()> {
    let [on_bind, on_operation, on_question] = scripts;
    let framer = Framer::new(Peer::Server, Limits::UPSTREAM);
    let mut input = BytesMut::new();
    let mut query_account = false;
    loop {
        while let Some(message) = framer.next_message(&mut input)? {
            let said = match message.op() {
                Op::BindRequest => {
                    let request = BindRequest::decode(&message)?;
                    query_account = request.name == Slapd::QUERY_DN;
                    if query_account {
                        success(&message)
                    } else {
                        binds.fetch_add(1, Ordering::SeqCst);
                        let script = on_bind.lock().expect("scripts do not panic").clone();
                        script(&message)
                    }
                }
                Op::SearchRequest if query_account => {
                    let script = on_question.lock().expect("scripts do not panic").clone();
                    script(&message)
                }
                Op::UnbindRequest => return Ok(()),
                _ => {
                    let script = on_operation.lock().expect("scripts do not panic").clone();
                    script(&message)
                }
            };
            match said {
                Said::Octets(octets) => stream.write_all(&octets).await?,
                Said::ThenHangUp(octets) => {
                    stream.write_all(&octets).await?;
                    return Ok(stream.shutdown().await?);
                }
                Said::ThenReset(octets) => {
                    stream.write_all(&octets).await?;
                    // They are there before the reset, which drops what was not read.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    return Ok(stream.set_zero_linger()?);
                }
                Said::Nothing => {}
            }
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
}

/// Whoever is looked for is Ann, unless the filter names somebody else.
fn found(search: &Message) -> Result<Vec<u8>> {
    let asked = SearchRequest::decode(search)?;
    let named = asked.filter.windows(3).any(|octets| octets == b"ann") || asked.base == ANN;
    let entry = SearchResultEntry {
        dn: ANN.into(),
        attributes: vec![
            Attribute::new("uid", vec!["ann".into()]),
            Attribute::new("entryUUID", vec!["11111111-2222-4333-8444-555555555555".into()]),
        ],
    };
    let mut octets = if named { entry.encode(search.id(), &[]).to_vec() } else { Vec::new() };
    octets.extend(done(search.id()));
    Ok(octets)
}

struct Hostile {
    fake: Fake,
    gateway: Running,
    tls: Arc<rustls::ClientConfig>,
    _dir: tempfile::TempDir,
}

impl Hostile {
    async fn start(client: domain::settings::Client) -> Result<Self> {
        Self::of_preset(client, Preset::OpenLdap).await
    }

    async fn of_preset(client: domain::settings::Client, preset: Preset) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let pki = Pki::new(&dir.path().join("tls"))?;
        let fake = Fake::start().await?;
        let mut directory = directory_at(&fake.url, BASE, BindKind::Simple);
        directory.preset = preset;
        directory.attributes.id = Some("entryUUID".into());
        directory.attributes.username = Some(vec!["uid".into()]);
        directory.timeout_seconds = 1;
        let gateway = Running::start(directory, Wanted { client, ..Wanted::default() }, &pki).await?;
        let codes: Vec<String> = (100_000..100_100).map(|code: u32| code.to_string()).collect();
        gateway.verification.enrol("ann", &codes.iter().map(String::as_str).collect::<Vec<_>>());
        Ok(Self { fake, gateway, tls: support::trusting(&pki.ca_file())?, _dir: dir })
    }

    async fn connect(&self) -> Result<Wire> {
        self.gateway.connect_tls(&self.tls).await
    }

    /// A connection on which Ann is bound.
    async fn bound(&self, code: u32) -> Result<Wire> {
        let mut wire = self.connect().await?;
        let bound = wire.bind("ann", &format!("secret,{}", 100_000 + code)).await?;
        anyhow::ensure!(bound == 0, "bind answered {bound}");
        Ok(wire)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_plain_success_to_our_own_bind_is_a_success() -> Result<()> {
    // B-59, B-60, L-33
    let lab = Hostile::start(client("hostile")).await?;
    let referred =
        || LdapResult { referral: Some(vec!["ldap://elsewhere/".into()]), ..LdapResult::of(ResultCode::SUCCESS) };
    let code = |code: u32| {
        move |message: &Message| Said::Octets(bind_response(message.id(), LdapResult::of(ResultCode(code))))
    };
    let scripts: Vec<(&str, Script)> = vec![
        ("success with a referral", Arc::new(move |it: &Message| Said::Octets(bind_response(it.id(), referred())))),
        ("referral", Arc::new(code(10))),
        ("SASL in progress", Arc::new(code(14))),
        ("a code of nobody", Arc::new(code(4096))),
        (
            "another id",
            Arc::new(|it: &Message| Said::Octets(bind_response(it.id().next(), LdapResult::of(ResultCode::SUCCESS)))),
        ),
        ("another operation", Arc::new(|it: &Message| Said::Octets(done(it.id())))),
        (
            "two answers",
            Arc::new(|it: &Message| {
                let one = bind_response(it.id(), LdapResult::of(ResultCode::SUCCESS));
                Said::Octets([one.clone(), one].concat())
            }),
        ),
        (
            "a notice",
            Arc::new(|_: &Message| {
                Said::ThenHangUp(result::notice_of_disconnection(&LdapResult::of(ResultCode::UNAVAILABLE)).to_vec())
            }),
        ),
        ("hanging up", Arc::new(|_: &Message| Said::ThenHangUp(Vec::new()))),
        (
            "hanging up in the middle",
            Arc::new(|it: &Message| {
                Said::ThenHangUp(bind_response(it.id(), LdapResult::of(ResultCode::SUCCESS))[..9].to_vec())
            }),
        ),
        ("what is not LDAP", Arc::new(|_: &Message| Said::Octets(b"220 smtp ready\r\n".to_vec()))),
        ("silence", Arc::new(|_: &Message| Said::Nothing)),
        ("busy", Arc::new(code(51))),
        ("unavailable", Arc::new(code(52))),
    ];
    for (place, (what, script)) in scripts.into_iter().enumerate() {
        lab.fake.on_bind(move |message| script(message));
        let binds = lab.fake.binds();
        let mut wire = lab.connect().await?;
        let answer = wire.bind("ann", &format!("secret,{}", 100_000 + place)).await?;
        assert_eq!(answer, 52, "{what}");
        assert_eq!(lab.fake.binds() - binds, 1, "{what}: one bind, for there is one server");
        assert_eq!(wire.who_am_i().await?, Err(50), "{what}");
    }
    lab.fake.on_bind(success);
    lab.bound(99).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn active_directorys_reasons_pass_unless_they_tell_a_password() -> Result<()> {
    // B5: 52e and 525 are ours, all others its own; none of them asks for a second factor
    let lab = Hostile::of_preset(client("ad"), Preset::ActiveDirectory).await?;
    let refusal = |data: &str| LdapResult {
        diagnostic: format!(
            "80090308: LdapErr: DSID-0C090447, comment: AcceptSecurityContext error, data {data}, v4563"
        )
        .into(),
        ..LdapResult::of(ResultCode::INVALID_CREDENTIALS)
    };
    let mut ours: Vec<Bytes> = Vec::new();
    for data in ["525", "52e", "530", "531", "532", "533", "701", "773", "775"] {
        lab.fake.on_bind(move |it| Said::Octets(bind_response(it.id(), refusal(data))));
        lab.gateway.verification.forget_calls();
        // Each another password: the same one again would not be asked about (FB-02).
        let answer = lab.connect().await?.bind_answer("ann", &format!("secret{data},123456")).await?;
        let told = LdapResult::decode(&answer)?;
        match data {
            "525" | "52e" => ours.push(comparable(&answer)),
            _ => assert_eq!(told, refusal(data)),
        }
        let begun = |call: &support::Call| matches!(call, support::Call::Begin { .. });
        assert!(!lab.gateway.verification.calls().iter().any(begun), "{data} asked for a second factor");
    }
    ours.push(comparable(&lab.connect().await?.bind_answer("nobody", "secret,123456").await?));
    assert!(ours.windows(2).all(|pair| pair[0] == pair[1]), "{ours:?}");
    let text = LdapResult::decode(&Message::parse(ours[0].clone())?)?.diagnostic_text().into_owned();
    assert_eq!(text, "80090308: LdapErr: DSID-00000000, comment: AcceptSecurityContext error, data 52e, v0");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_has_to_be_changed_is_accepted_or_refused_as_the_directory_says() -> Result<()> {
    // FL-11, L-33, L-40: a no passes as it is and prompts nobody; a yes is one, whatever it demands next, and needs its Allow
    const CHANGE_AFTER_RESET: &[u8] = &[0x30, 0x03, 0x81, 0x01, 0x02];
    const EXPIRED: &[u8] = &[0x30, 0x03, 0x81, 0x01, 0x00];
    let lab = Hostile::start(client("worn")).await?;
    let says = |code: ResultCode, policy: &'static [u8]| {
        move |it: &Message| {
            let response = BindResponse { result: LdapResult::of(code), server_sasl_credentials: None };
            Said::Octets(response.encode(it.id(), &[policy_control(Some(policy))]).to_vec())
        }
    };
    let attempt = async |password: &str| -> Result<(Message, Wire)> {
        lab.gateway.verification.forget_calls();
        let mut wire = lab.connect().await?;
        wire.send_bind("ann", password, &[policy_control(None)]).await?;
        Ok((wire.receive().await?, wire))
    };
    let asked = || lab.gateway.verification.calls().iter().any(|it| matches!(it, support::Call::Begin { .. }));

    lab.fake.on_bind(says(ResultCode::INVALID_CREDENTIALS, EXPIRED));
    let (answer, _) = attempt("expired,100000").await?;
    assert_eq!((LdapResult::decode(&answer)?.code.0, asked()), (49, false));
    assert_eq!(answer.controls()?, [policy_control(Some(EXPIRED))]);

    lab.fake.on_bind(says(ResultCode::SUCCESS, CHANGE_AFTER_RESET));
    let (answer, mut refused) = attempt("secret,999999").await?;
    assert_eq!((LdapResult::decode(&answer)?.code.0, asked()), (49, true));
    assert_ne!(answer.controls()?, [policy_control(Some(CHANGE_AFTER_RESET))], "nobody hears that it was right");
    assert_eq!(refused.who_am_i().await?, Err(50));
    let (answer, _) = attempt("secret,100001").await?;
    assert_eq!((LdapResult::decode(&answer)?.code.0, asked()), (0, true));
    assert_eq!(answer.controls()?, [policy_control(Some(CHANGE_AFTER_RESET))]);
    Ok(())
}

fn policy_control(value: Option<&'static [u8]>) -> Control {
    Control::new(oid::PASSWORD_POLICY, false, value.map(Bytes::from_static))
}

/// Of which place every how manieth is sent: no divisor of how many there are of an element.
const EVERY: usize = 11;

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_wrong_in_one_place_ends_in_an_error_and_never_in_a_login() -> Result<()> {
    // B-41, B-59, L-19, L-33. All of them, without a socket: `ldap-wire/tests/anomalies.rs`.
    let lab = Hostile::start(client("torn-answers")).await?;
    lab.gateway.verification.misbehave(Misbehaviour::ByCode);
    let resident = lab::resident_kib(std::process::id())?;
    let usual = |id: u8, name: &'static str| {
        cases::answer_cases(id).filter(move |it| it.name.starts_with(name) && it.anomaly != Anomaly::Nested)
    };
    let what = |case: &cases::Case| format!("{} {:?} at element {}", case.name, case.anomaly, case.place);
    let mut code = 100_000;
    let mut login = || {
        code += 1;
        // Another password each time: the same one again would not be asked about (FB-02).
        format!("secret{code},{code}")
    };

    let mut refused = 0;
    for case in usual(1, "bind").step_by(EVERY) {
        let octets = case.octets.clone();
        lab.fake.on_bind(move |_| Said::ThenHangUp(octets.clone()));
        let mut wire = lab.connect().await?;
        let answer = wire.bind("ann", &login()).await.with_context(|| what(&case))?;
        assert!([49, 52].contains(&answer), "{}: {answer}", what(&case));
        assert_eq!(wire.who_am_i().await?, Err(50), "{}", what(&case));
        refused += 1;
    }
    lab.fake.on_bind(success);

    let (mut lost, mut served) = (0, 0);
    let operations = cases::answer_cases(100).filter(|it| {
        it.anomaly != Anomaly::Nested
            && ["entry", "reference", "end", "between"].iter().any(|name| it.name.starts_with(name))
    });
    for case in operations.step_by(EVERY) {
        let mut wire = lab.connect().await?;
        assert_eq!(wire.bind("ann", &login()).await?, 0, "{}", what(&case));
        let octets = [&case.octets[..], &done(id(100))].concat();
        lab.fake.on_operation(move |_| Said::ThenHangUp(octets.clone()));
        let search = SearchRequest::new(BASE, Scope::Subtree, &Filter::present("uid"), &[]);
        wire.send(&search.encode(id(100), &[])).await?;
        // It is answered to its end, or lost, and then the client hears so.
        let end = loop {
            let answer = wire.next().await.with_context(|| what(&case))?.with_context(|| what(&case))?;
            if answer.op() == Op::SearchResultDone {
                break LdapResult::decode(&answer)?.code.0;
            }
        };
        match end {
            52 => lost += 1,
            _ => served += 1,
        }
        wire.expect_notice(52).await.with_context(|| what(&case))?;
    }

    // Whom our own question finds is as it should be, or nobody is asked for a password.
    let cases_of_person = usual(1, "person").count();
    for place in (0..cases_of_person).step_by(EVERY) {
        lab.fake.on_question(move |it| {
            let id = u8::try_from(it.id().get()).unwrap_or(u8::MAX) & 0x7f;
            let case = usual(id, "person").nth(place).map(|it| it.octets).unwrap_or_default();
            [case, done(it.id())].concat()
        });
        let binds = lab.fake.binds();
        let answer = lab.connect().await?.bind("ann", &login()).await?;
        let asked = lab.fake.binds() - binds;
        assert!(matches!((answer, asked), (0, 1) | (49 | 52, 0)), "case {place}: {answer} after {asked} binds");
    }
    lab.fake.on_question(|it| found(it).unwrap_or_default());
    assert!(refused > 30 && lost > 30 && served > 10, "{refused} binds refused, {lost} searches lost, {served} served");
    let grown = lab::resident_kib(std::process::id())?.saturating_sub(resident);
    assert!(grown < 64 << 10, "{grown} KiB");
    lab.fake.on_operation(success);
    assert_eq!(lab.connect().await?.bind("ann", &login()).await?, 0, "the next one finds everything as it was");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_nobody_asked_for_ends_the_connection_and_is_not_relayed() -> Result<()> {
    // B-59, L-19
    let lab = Hostile::start(client("strange")).await?;
    let entry =
        |number: u32| SearchResultEntry { dn: ANN.into(), attributes: Vec::new() }.encode(id(number), &[]).to_vec();
    let scripts: Vec<(&str, Script)> = vec![
        ("another id", Arc::new(move |it: &Message| Said::Octets(entry(it.id().get() + 7)))),
        (
            "a bind's success",
            Arc::new(|it: &Message| Said::Octets(bind_response(it.id(), LdapResult::of(ResultCode::SUCCESS)))),
        ),
        (
            "another operation",
            Arc::new(|it: &Message| {
                Said::Octets(LdapResult::of(ResultCode::SUCCESS).encode(it.id(), Op::ModifyResponse, &[]).to_vec())
            }),
        ),
        ("no LDAP", Arc::new(|_: &Message| Said::Octets(vec![0xff; 64]))),
        ("a message without end", Arc::new(|_: &Message| Said::Octets(vec![0x30, 0x84, 0x7f, 0xff, 0xff, 0xff, 0x02]))),
        ("hanging up in an entry", Arc::new(move |it: &Message| Said::ThenHangUp(entry(it.id().get())[..12].to_vec()))),
        ("hanging up", Arc::new(|_: &Message| Said::ThenHangUp(Vec::new()))),
        ("a reset in an entry", Arc::new(move |it: &Message| Said::ThenReset(entry(it.id().get())[..12].to_vec()))),
        ("a reset", Arc::new(|_: &Message| Said::ThenReset(Vec::new()))),
    ];
    for (place, (what, script)) in scripts.into_iter().enumerate() {
        let mut wire = lab.bound(place as u32).await.context(what)?;
        lab.fake.on_operation(move |message| script(message));
        let search = SearchRequest::new(BASE, Scope::Subtree, &Filter::present("uid"), &[]);
        let asked = wire.send_search(&search, &[]).await?;
        let answer = wire.receive().await.context(what)?;
        assert_eq!((answer.id(), answer.op()), (asked, Op::SearchResultDone), "{what}");
        assert_eq!(LdapResult::decode(&answer)?.code.0, 52, "{what}");
        wire.expect_notice(52).await.context(what)?;
    }

    // More after the end: the first answer counts, what follows ends the connection.
    let mut wire = lab.bound(50).await?;
    lab.fake.on_operation(move |it| Said::Octets([done(it.id()), entry(it.id().get())].concat()));
    assert_eq!(wire.search_code(BASE, Scope::Subtree).await?, (0, 0));
    wire.expect_notice(52).await?;

    // The directory's own goodbye is relayed as it is.
    let notice = result::notice_of_disconnection(&LdapResult::with_diagnostic(ResultCode(8), "strong auth, please"));
    let mut wire = lab.bound(51).await?;
    let said = notice.clone();
    lab.fake.on_operation(move |_| Said::Octets(said.to_vec()));
    wire.send(&ExtendedRequest::who_am_i().encode(id(77), &[])).await?;
    assert_eq!(wire.receive().await?.octets(), &notice);
    wire.expect_silent_end().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_names_real_servers_is_dropped_unless_the_client_may_see_it() -> Result<()> {
    // L-17, FL-18
    let answer = |it: &Message| {
        let mut writer = Writer::new();
        writer.nested(ber::SEQUENCE, |w| {
            w.integer(ber::INTEGER, it.id().get().into());
            w.nested(Op::SearchResultReference.tag(), |w| w.octet_string(b"ldap://dc1.corp.example/"));
        });
        Said::Octets([writer.into_vec(), done(it.id())].concat())
    };
    for (referrals, seen) in [(Referrals::Drop, 0), (Referrals::Pass, 1)] {
        let lab = Hostile::start(domain::settings::Client { referrals, ..client("referred") }).await?;
        lab.fake.on_operation(answer);
        let mut wire = lab.bound(0).await?;
        assert_eq!(wire.search_code(BASE, Scope::Subtree).await?, (0, seen), "{referrals:?}");
    }
    let referral_url = "ldaps://login.example.org".to_owned();
    let rewrites = domain::settings::Client { referrals: Referrals::Rewrite, referral_url, ..client("sent-to-us") };
    let lab = Hostile::start(rewrites).await?;
    lab.fake.on_operation(answer);
    let mut wire = lab.bound(0).await?;
    let search = SearchRequest::new(BASE, Scope::Subtree, &Filter::present("objectClass"), &[]);
    let answers = wire.search(&search, &[]).await?;
    let reference = answers.first().context("a reference")?.octets();
    assert!(reference.ends_with(b"ldaps://login.example.org/"), "{reference:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn referrals_without_end_end_where_the_client_may_wait_no_longer_and_are_no_answer_to_us() -> Result<()> {
    // B-59, L-17, L-18
    fn reference(message: &Message) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.nested(ber::SEQUENCE, |w| {
            w.integer(ber::INTEGER, message.id().get().into());
            w.nested(Op::SearchResultReference.tag(), |w| w.octet_string(b"ldap://dc1.corp.example/"));
        });
        writer.into_vec()
    }
    const MANY: usize = 200_000;
    let impatient = domain::settings::Client { time_limit_seconds: 3, ..client("impatient") };
    let lab = Hostile::start(impatient).await?;
    lab.fake.on_operation(|it| match SearchRequest::decode(it) {
        Ok(search) if search.base.is_empty() => Said::Octets(done(it.id())),
        Ok(_) => Said::Octets(reference(it).repeat(MANY)),
        // The gateway lets go of what its limit ended.
        Err(_) => Said::Nothing,
    });
    let mut wire = lab.bound(0).await?;
    let before = lab::resident_kib(std::process::id())?;
    assert_eq!(wire.search_code(BASE, Scope::Subtree).await?, (11, 0), "none of them passes");
    assert_eq!(wire.search_code("", Scope::Base).await?, (0, 0), "the connection goes on");
    let grown = lab::resident_kib(std::process::id())?.saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB");
    // The end that comes at last is nobody's any more, and so is the hanging up of a directory after it.
    lab.fake.on_operation(|it| Said::ThenHangUp(reference(it).repeat(MANY)));
    let search = SearchRequest::new(BASE, Scope::Subtree, &Filter::present("uid"), &[]);
    let asked = wire.send_search(&search, &[]).await?;
    let answer = wire.receive().await?;
    assert_eq!((answer.id(), LdapResult::decode(&answer)?.code.0), (asked, 52));
    wire.expect_notice(52).await?;
    // Whom we look for is not there because others are named.
    lab.fake.on_question(|it| [reference(it).repeat(1_000), done(it.id())].concat());
    let binds = lab.fake.binds();
    assert_eq!(lab.connect().await?.bind("ann", "secret,100001").await?, 52);
    assert_eq!(lab.fake.binds(), binds);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_only_listens_hears_that_the_client_is_gone() -> Result<()> {
    // X 2: settings are in force within seconds, also for a search that does not end
    let lab = Hostile::start(client("listener")).await?;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    lab.fake.on_operation(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        Said::Nothing
    });
    let mut wire = lab.bound(0).await?;
    let search = SearchRequest::new(BASE, Scope::Subtree, &Filter::present("objectClass"), &[]);
    let id = wire.send_search(&search, &[]).await?;
    until("the search to be under way", || asked.load(Ordering::SeqCst) == 1).await?;
    lab.gateway.change_settings(|settings| settings.clients.clear()).await?;
    let last = wire.receive().await?;
    assert_eq!((last.id(), LdapResult::decode(&last)?.code), (id, ResultCode::UNAVAILABLE), "L-19");
    wire.expect_notice(52).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_read_no_further_than_its_bound_while_its_directory_is_connected() -> Result<()> {
    // L-05, B-55: a directory that takes the connection and never says a word
    const FAR_TOO_MUCH: usize = 64 << 20;
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ldap://{}", silent.local_addr()?);
    let held = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = silent.accept().await {
            held.push(stream);
        }
    });
    let mut directory = directory_at(&url, BASE, BindKind::Simple);
    (directory.danger_clear_text, directory.connect_timeout_seconds) = (false, 30);
    let gateway = Running::start(directory, Wanted { client: client("eager"), ..Wanted::default() }, &pki).await?;
    let mut wire = gateway.connect_plain().await?;
    let mut sent = 0;
    let names: Vec<String> = (0..2_000).map(|number| format!("{number:060}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let search = SearchRequest::new("", Scope::Base, &Filter::present("objectClass"), &names);
    while sent < FAR_TOO_MUCH {
        let id = wire.next_id();
        let octets = [search.encode(id, &[]), extended::abandon_request(wire.next_id(), id)].concat();
        match tokio::time::timeout(Duration::from_secs(2), wire.send(&octets)).await {
            Ok(sending) => sending?,
            Err(_) => break,
        }
        sent += octets.len();
    }
    // What was abandoned waits no more, so that this one may go on for ever, and nothing grows.
    let grown = lab::resident_kib(std::process::id())?;
    assert!(sent >= FAR_TOO_MUCH && grown < 400 << 10, "{sent} octets, {grown} KiB resident");
    // What is not abandoned waits, up to the bound.
    let mut sent = 0;
    while sent < FAR_TOO_MUCH {
        let octets = search.encode(wire.next_id(), &[]);
        match tokio::time::timeout(Duration::from_secs(2), wire.send(&octets)).await {
            Ok(sending) => sending?,
            Err(_) => break,
        }
        sent += octets.len();
    }
    assert!(sent < FAR_TOO_MUCH, "{sent} octets were taken");
    held.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_not_changed_where_a_leg_is_in_clear_text() -> Result<()> {
    // L-14: the client came by TLS, this directory is reached without
    let lab = Hostile::start(client("clear")).await?;
    lab.fake.on_operation(|it| {
        Said::Octets(ExtendedResponse::of(LdapResult::of(ResultCode::SUCCESS)).encode(it.id(), &[]).to_vec())
    });
    let mut wire = lab.bound(0).await?;
    assert_eq!(wire.extended(&ExtendedRequest::new(oid::PASSWORD_MODIFY, None)).await?.result.code.0, 13);
    assert_eq!(wire.who_am_i().await?, Ok(String::new()), "other operations pass");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_server_is_left_for_the_next_one_and_a_refusal_is_final() -> Result<()> {
    // L-34, FD-04
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    let (first, second) = (Fake::start().await?, Fake::start().await?);
    let mut directory = directory_at(&first.url, BASE, BindKind::Simple);
    directory.urls.push(second.url.clone());
    let gateway = Running::start(directory, Wanted { client: client("two"), ..Wanted::default() }, &pki).await?;
    gateway.verification.enrol("ann", &["111111", "222222"]);
    let tls = support::trusting(&pki.ca_file())?;
    first.on_bind(|it| Said::Octets(bind_response(it.id(), LdapResult::of(ResultCode::BUSY))));
    assert_eq!(gateway.connect_tls(&tls).await?.bind("ann", "secret,111111").await?, 0);
    assert_eq!((first.binds(), second.binds()), (1, 1));
    // Whichever is asked now: its No is the last word.
    for fake in [&first, &second] {
        fake.on_bind(|it| Said::Octets(bind_response(it.id(), LdapResult::of(ResultCode::INVALID_CREDENTIALS))));
    }
    assert_eq!(gateway.connect_tls(&tls).await?.bind("ann", "secret,222222").await?, 49);
    assert_eq!(first.binds() + second.binds(), 3);
    until("the process to be up", || gateway.process.health().is_ready()).await?;
    Ok(())
}
