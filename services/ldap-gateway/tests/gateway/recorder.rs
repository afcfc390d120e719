//! A scripted directory that knows a few people, notes as whom each operation came, and takes as long over a question or a bind as it
//! is told to.

use crate::support::{self, Running, Wanted, client, directory_at};
use anyhow::Result;
use bytes::BytesMut;
use domain::settings::{self, BindKind};
use lab::{Pki, Slapd};
use ldap_gateway::LdapSection;
use ldap_wire::{
    Attribute, BindRequest, BindResponse, Dn, ExtendedRequest, ExtendedResponse, Filter, Framer, LdapResult, Limits,
    Message, Op, Password, Peer, ResultCode, Scope, SearchRequest, SearchResultEntry, extended, oid,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub const BASE: &str = "dc=corp,dc=example";
pub const PASSWORD: &str = "secret";
/// No user of the filter, but listed by whoever wants it.
pub const SERVICE: &str = "cn=app,dc=corp,dc=example";
/// Searches below these take their time, have no answer, or find a gigabyte.
pub const SLOW: &str = "ou=slow";
pub const NEVER: &str = "ou=never";
pub const ENDLESS: &str = "ou=endless";
pub const GIGABYTE: usize = 1 << 30;

pub fn dn_of(uid: &str) -> String {
    format!("uid={uid},{BASE}")
}

/// How long it takes over what.
#[derive(Clone, Copy, Default)]
pub struct Takes {
    pub by_dn: Duration,
    pub by_name: Duration,
    pub accepting: Duration,
    pub refusing: Duration,
}

/// An operation of a client, as it came here.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The DN that was bound on its connection; empty for nobody.
    pub who: String,
    /// What it names: a base, an entry.
    pub about: String,
}

pub struct Recorder {
    pub url: String,
    shared: Arc<Shared>,
}

struct Shared {
    people: &'static [&'static str],
    takes: Takes,
    seen: Mutex<Vec<Seen>>,
    /// Octets of gigabytes that were taken, and how many of these ended.
    poured: AtomicUsize,
    poured_out: AtomicUsize,
    /// How many people said goodbye.
    unbound: AtomicUsize,
    /// Nothing is read of people.
    held: watch::Sender<bool>,
}

impl Recorder {
    pub async fn start(people: &'static [&'static str], takes: Takes) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("ldap://{}", listener.local_addr()?);
        let shared = Arc::new(Shared {
            people,
            takes,
            seen: Mutex::default(),
            poured: AtomicUsize::new(0),
            poured_out: AtomicUsize::new(0),
            unbound: AtomicUsize::new(0),
            held: watch::Sender::new(false),
        });
        let serving = shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = serving.clone();
                tokio::spawn(async move { serve(stream, shared).await.unwrap_or_default() });
            }
        });
        Ok(Self { url, shared })
    }

    /// What came since the last time this was asked.
    pub fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.shared.seen.lock().expect("noting does not panic"))
    }

    pub fn seen(&self) -> usize {
        self.shared.seen.lock().expect("noting does not panic").len()
    }

    /// How much of the gigabytes was taken.
    pub fn poured(&self) -> usize {
        self.shared.poured.load(Ordering::SeqCst)
    }

    /// How many of them nobody takes anything of any more.
    pub fn poured_out(&self) -> usize {
        self.shared.poured_out.load(Ordering::SeqCst)
    }

    /// How many connections of people ended with an Unbind.
    pub fn unbound(&self) -> usize {
        self.shared.unbound.load(Ordering::SeqCst)
    }

    /// Reads nothing more of people, but what it is reading at this moment.
    pub fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    pub fn release(&self) {
        self.shared.held.send_replace(false);
    }

    pub fn directory(&self) -> settings::Directory {
        let mut directory = directory_at(&self.url, BASE, BindKind::Simple);
        directory.attributes.id = Some("entryUUID".into());
        directory.attributes.username = Some(vec!["uid".into()]);
        directory
    }

    /// A gateway in front of it.
    pub async fn behind_gateway(&self, client: settings::Client) -> Result<InFront> {
        self.behind(client, |section| section.connections_per_source_max = 2_000).await
    }

    pub async fn behind(&self, client: settings::Client, section: fn(&mut LdapSection)) -> Result<InFront> {
        let dir = tempfile::tempdir()?;
        let pki = Pki::new(&dir.path().join("tls"))?;
        let wanted = Wanted { client, section, ..Wanted::default() };
        let gateway = Running::start(self.directory(), wanted, &pki).await?;
        Ok(InFront { gateway, tls: support::trusting(&pki.ca_file())?, pki, _dir: dir })
    }
}

pub struct InFront {
    pub gateway: Running,
    pub tls: Arc<rustls::ClientConfig>,
    pub pki: Pki,
    _dir: tempfile::TempDir,
}

/// A client at 127.0.0.1 that lists the service account.
pub fn listing_client(name: &str) -> settings::Client {
    settings::Client { service_accounts: vec![support::service_account(SERVICE)], ..client(name) }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) -> Result<()> {
    stream.set_nodelay(true)?;
    let (mut reading, writing) = stream.into_split();
    let writing = Arc::new(tokio::sync::Mutex::new(writing));
    let framer = Framer::new(Peer::Server, Limits::UPSTREAM);
    let mut input = BytesMut::new();
    let mut who = String::new();
    loop {
        while let Some(message) = framer.next_message(&mut input)? {
            match message.op() {
                Op::UnbindRequest => {
                    let person = !who.is_empty() && who != Slapd::QUERY_DN;
                    shared.unbound.fetch_add(usize::from(person), Ordering::SeqCst);
                    return Ok(());
                }
                // Nothing comes before the answer to a bind.
                Op::BindRequest => {
                    let (answer, after) = bind(&message, &shared, &mut who)?;
                    say(&writing, &answer, after).await?;
                }
                Op::SearchRequest if names(&message, ENDLESS) => {
                    let (writing, shared) = (writing.clone(), shared.clone());
                    tokio::spawn(async move {
                        let _ = pour(&writing, &message, &shared.poured).await;
                        shared.poured_out.fetch_add(1, Ordering::SeqCst);
                    });
                }
                _ => {
                    let (answer, after) = operation(&message, &shared, &who)?;
                    if after.is_zero() {
                        say(&writing, &answer, after).await?;
                    } else {
                        let writing = writing.clone();
                        tokio::spawn(async move { say(&writing, &answer, after).await.unwrap_or_default() });
                    }
                }
            }
        }
        if !who.is_empty() && who != Slapd::QUERY_DN {
            shared.held.subscribe().wait_for(|held| !held).await?;
        }
        if reading.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
}

async fn say(writing: &tokio::sync::Mutex<OwnedWriteHalf>, octets: &[u8], after: Duration) -> Result<()> {
    if !after.is_zero() {
        tokio::time::sleep(after).await;
    }
    Ok(writing.lock().await.write_all(octets).await?)
}

fn names(search: &Message, below: &str) -> bool {
    SearchRequest::decode(search).is_ok_and(|search| String::from_utf8_lossy(&search.base).contains(below))
}

/// A gigabyte of entries, for as long as somebody takes them.
async fn pour(writing: &tokio::sync::Mutex<OwnedWriteHalf>, search: &Message, poured: &AtomicUsize) -> Result<()> {
    let attributes = vec![Attribute::new("photo", vec![vec![b'x'; 256 << 10].into()])];
    let entry = SearchResultEntry { dn: ENDLESS.into(), attributes }.encode(search.id(), &[]);
    for _ in 0..GIGABYTE / entry.len() {
        writing.lock().await.write_all(&entry).await?;
        poured.fetch_add(entry.len(), Ordering::SeqCst);
    }
    let done = LdapResult::of(ResultCode::SUCCESS).encode(search.id(), Op::SearchResultDone, &[]);
    Ok(writing.lock().await.write_all(&done).await?)
}

fn bind(message: &Message, shared: &Shared, who: &mut String) -> Result<(Vec<u8>, Duration)> {
    let request = BindRequest::decode(message)?;
    let name = String::from_utf8(request.name.to_vec())?;
    let query_account = name == Slapd::QUERY_DN;
    let known = query_account || name == SERVICE || shared.people.iter().any(|uid| dn_of(uid) == name);
    let right = known && (query_account || has_password(&request, PASSWORD));
    *who = if right { name } else { String::new() };
    let (code, after) = match right {
        true => (ResultCode::SUCCESS, if query_account { Duration::ZERO } else { shared.takes.accepting }),
        false => (ResultCode::INVALID_CREDENTIALS, shared.takes.refusing),
    };
    let response = BindResponse { result: LdapResult::of(code), server_sasl_credentials: None };
    Ok((response.encode(message.id(), &[]).to_vec(), after))
}

fn has_password(request: &BindRequest, wanted: &str) -> bool {
    let simple = |password: &str| {
        let request = BindRequest::simple(request.name.clone(), Password::new(password));
        request.encode(ldap_wire::MessageId::MAX, &[]).to_vec()
    };
    request.encode(ldap_wire::MessageId::MAX, &[]).to_vec() == simple(wanted)
}

fn operation(message: &Message, shared: &Shared, who: &str) -> Result<(Vec<u8>, Duration)> {
    let note = |about: &[u8]| {
        let about = String::from_utf8_lossy(about).into_owned();
        shared.seen.lock().expect("noting does not panic").push(Seen { who: who.to_owned(), about });
    };
    let result = |op: Op| LdapResult::of(ResultCode::SUCCESS).encode(message.id(), op, &[]).to_vec();
    Ok(match message.op() {
        Op::SearchRequest => {
            let search = SearchRequest::decode(message)?;
            if who == Slapd::QUERY_DN {
                return Ok(found(message, &search, shared));
            }
            note(&search.base);
            if names(message, NEVER) {
                return Ok((Vec::new(), Duration::ZERO));
            }
            // What is found says as whom it was looked for.
            let attributes = vec![Attribute::new("seenAs", vec![who.to_owned().into()])];
            let entry = SearchResultEntry { dn: search.base.clone(), attributes }.encode(message.id(), &[]);
            let slow = String::from_utf8_lossy(&search.base).contains(SLOW);
            let after = if slow { Duration::from_millis(15) } else { Duration::ZERO };
            ([entry.to_vec(), result(Op::SearchResultDone)].concat(), after)
        }
        Op::DelRequest => {
            note(message.content());
            (result(Op::DelResponse), Duration::ZERO)
        }
        Op::ModifyRequest => (result(Op::ModifyResponse), Duration::ZERO),
        Op::ExtendedRequest => {
            let who_am_i = ExtendedRequest::decode(message)?.oid == oid::WHO_AM_I;
            let value = who_am_i.then(|| if who.is_empty() { String::new() } else { format!("dn:{who}") }.into());
            let response = ExtendedResponse { value, ..ExtendedResponse::of(LdapResult::of(ResultCode::SUCCESS)) };
            (response.encode(message.id(), &[]).to_vec(), Duration::ZERO)
        }
        // As some servers do, what was abandoned is answered all the same.
        Op::AbandonRequest => {
            let _ = extended::abandon_target(message)?;
            (Vec::new(), Duration::ZERO)
        }
        other => anyhow::bail!("{other:?} is not scripted"),
    })
}

/// The answer to a question of the gateway's own.
fn found(message: &Message, search: &SearchRequest, shared: &Shared) -> (Vec<u8>, Duration) {
    let base: Option<Dn> = std::str::from_utf8(&search.base).ok().and_then(|base| base.parse().ok());
    let is = |dn: &str| base.as_ref().is_some_and(|base| dn.parse::<Dn>().is_ok_and(|dn| dn.key() == base.key()));
    let named = |uid: &str| {
        let value = [&[0x04, uid.len() as u8][..], uid.as_bytes()].concat();
        search.filter.windows(value.len()).any(|octets| octets == value)
    };
    let by_dn = search.scope == Scope::Base;
    let everything = search.filter == Filter::present("objectClass").to_ber();
    let people = shared.people.iter().enumerate().map(|(place, uid)| (place, dn_of(uid), *uid));
    let service = everything.then(|| (900, SERVICE.to_owned(), "app"));
    let hit = people.chain(service).find(|(_, dn, uid)| if by_dn { is(dn) } else { named(uid) });
    let entry = hit.map(|(place, dn, uid)| {
        let id = format!("11111111-2222-4333-8444-{place:012}");
        let attributes = vec![Attribute::new("uid", vec![uid.into()]), Attribute::new("entryUUID", vec![id.into()])];
        SearchResultEntry { dn: dn.into(), attributes }.encode(message.id(), &[]).to_vec()
    });
    let absent = by_dn && entry.is_none() && !search.base.is_empty() && !is(BASE);
    let code = if absent { ResultCode::NO_SUCH_OBJECT } else { ResultCode::SUCCESS };
    let done = LdapResult::of(code).encode(message.id(), Op::SearchResultDone, &[]);
    let after = if by_dn { shared.takes.by_dn } else { shared.takes.by_name };
    ([entry.unwrap_or_default(), done.to_vec()].concat(), after)
}
