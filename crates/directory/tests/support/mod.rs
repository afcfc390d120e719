//! A scripted LDAP server that misbehaves on command, and settings to go with it.
#![allow(dead_code, reason = "each test program uses its part")]

pub mod relay;

use bytes::{Bytes, BytesMut};
use directory::{Directory, Incomplete, Options, Query};
use domain::settings::{self, BindKind, Preset};
use domain::{ObjectId, ObjectName, Secret};
use ldap_wire::{
    Attribute, BindRequest, BindResponse, Control, Filter, Framer, LdapResult, Limits, Message, MessageId, Op, Peer,
    ResultCode, Scope, SearchRequest, SearchResultEntry, search,
};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What these objects are now, wherever they lie below the base, over one connection.
pub async fn read_by_ids(
    directory: &Directory,
    ids: &[ObjectId],
    attributes: &[&str],
    extended_dn: bool,
) -> Result<Vec<SearchResultEntry>, Incomplete> {
    let (reader, settings) = (directory.reader(), directory.settings());
    let mut found = Vec::new();
    for part in ids.chunks(directory.ids_at_once()) {
        let filters = part.iter().map(|id| Filter::equal(settings.id_attribute(), id.filter_value().1));
        let mut query = Query::new(&settings.base, Scope::Subtree, Filter::or(filters), attributes);
        query.controls.extend(extended_dn.then(ldap_wire::dirsync::extended_dn));
        found.append(&mut reader.read(query).collect().await?);
    }
    Ok(found)
}

/// What the server does, in this order.
#[derive(Clone, Debug)]
pub enum Do {
    Send(Bytes),
    /// For so many milliseconds nothing.
    Wait(u64),
    Close,
    /// Keeps the connection and never says anything again.
    Hang,
}

/// The answer to each message, given the number of the connection it came on, from 0.
pub type Script = Arc<dyn Fn(&Message, usize) -> Vec<Do> + Send + Sync>;

/// The answer to one request, by its id.
pub type Answer = Box<dyn Fn(MessageId) -> Vec<Do> + Send + Sync>;

pub struct Fake {
    pub url: String,
    received: Arc<Mutex<Vec<(usize, Message)>>>,
    sent_octets: Arc<Mutex<usize>>,
    connections: Arc<Mutex<usize>>,
    _tasks: JoinSet<()>,
}

impl Fake {
    pub async fn start(script: impl Fn(&Message, usize) -> Vec<Do> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", lab::free_port())).await.expect("a free port");
        let url = format!("ldap://{}", listener.local_addr().expect("it is bound"));
        let script: Script = Arc::new(script);
        let received = Arc::<Mutex<Vec<_>>>::default();
        let sent_octets = Arc::<Mutex<usize>>::default();
        let connections = Arc::<Mutex<usize>>::default();
        let mut tasks = JoinSet::new();
        let (seen, sent, count) = (Arc::clone(&received), Arc::clone(&sent_octets), Arc::clone(&connections));
        tasks.spawn(async move {
            let mut clients = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("accepting");
                let number = {
                    let mut count = count.lock().expect("no panic");
                    *count += 1;
                    *count - 1
                };
                clients.spawn(serve(stream, number, Arc::clone(&script), Arc::clone(&seen), Arc::clone(&sent)));
            }
        });
        Self { url, received, sent_octets, connections, _tasks: tasks }
    }

    /// Binds that reached the server for this name.
    pub fn binds(&self, name: &str) -> usize {
        let received = self.received.lock().expect("no panic");
        let is_bind = |message: &Message| {
            message.op() == Op::BindRequest && BindRequest::decode(message).is_ok_and(|bind| bind.name == name)
        };
        received.iter().filter(|(_, message)| is_bind(message)).count()
    }

    pub fn count(&self, op: Op) -> usize {
        self.received.lock().expect("no panic").iter().filter(|(_, message)| message.op() == op).count()
    }

    /// On which connections requests of this kind came.
    pub fn connections_of(&self, op: Op) -> Vec<usize> {
        let received = self.received.lock().expect("no panic");
        received.iter().filter(|(_, message)| message.op() == op).map(|(connection, _)| *connection).collect()
    }

    pub fn connections(&self) -> usize {
        *self.connections.lock().expect("no panic")
    }

    pub fn sent_octets(&self) -> usize {
        *self.sent_octets.lock().expect("no panic")
    }
}

async fn serve(
    mut stream: tokio::net::TcpStream,
    number: usize,
    script: Script,
    received: Arc<Mutex<Vec<(usize, Message)>>>,
    sent: Arc<Mutex<usize>>,
) {
    let framer = Framer::new(Peer::Client, Limits::AUTHENTICATED);
    let mut buffer = BytesMut::new();
    loop {
        while let Ok(Some(message)) = framer.next_message(&mut buffer) {
            received.lock().expect("no panic").push((number, message.clone()));
            for step in script(&message, number) {
                match step {
                    Do::Send(octets) => {
                        if stream.write_all(&octets).await.is_err() {
                            return;
                        }
                        *sent.lock().expect("no panic") += octets.len();
                    }
                    Do::Wait(milliseconds) => tokio::time::sleep(Duration::from_millis(milliseconds)).await,
                    Do::Close => return,
                    Do::Hang => std::future::pending().await,
                }
            }
        }
        if !matches!(stream.read_buf(&mut buffer).await, Ok(octets) if octets > 0) {
            return;
        }
    }
}

pub fn bind_response(id: MessageId, code: u32) -> Do {
    bind_result(id, LdapResult::of(ResultCode(code)), &[])
}

pub fn bind_result(id: MessageId, result: LdapResult, controls: &[Control]) -> Do {
    Do::Send(BindResponse { result, server_sasl_credentials: None }.encode(id, controls))
}

pub fn done(id: MessageId, code: u32) -> Do {
    Do::Send(search::search_result_done(id, &LdapResult::of(ResultCode(code)), &[]))
}

/// A person, whose entryUUID ends in `number`.
pub fn person(id: MessageId, uid: &str, number: u128) -> Do {
    let value = |text: &str| vec![Bytes::copy_from_slice(text.as_bytes())];
    let attributes = vec![
        Attribute::new("uid", value(uid)),
        Attribute::new("entryUUID", value(&uuid::Uuid::from_u128(number).to_string())),
    ];
    Do::Send(SearchResultEntry { dn: format!("uid={uid},{BASE}").into(), attributes }.encode(id, &[]))
}

pub fn search_of(message: &Message) -> SearchRequest {
    SearchRequest::decode(message).expect("our own search")
}

/// Answers searches as a good server with one person, `alice`.
pub fn alice(message: &Message) -> Vec<Do> {
    match message.op() {
        Op::SearchRequest => vec![person(message.id(), "alice", 7), done(message.id(), 0)],
        Op::BindRequest => vec![bind_response(message.id(), 0)],
        _ => vec![],
    }
}

pub const BASE: &str = "dc=corp,dc=example";
pub const QUERY: &str = "cn=query,dc=corp,dc=example";

/// Clear text, anonymous queries, timeouts of a second.
pub fn settings(urls: &[&str]) -> settings::Directory {
    settings::Directory {
        name: ObjectName::new("corp").expect("a valid name"),
        preset: Preset::OpenLdap,
        urls: urls.iter().map(|url| (*url).to_owned()).collect(),
        base: BASE.into(),
        query_bind: settings::QueryBind { kind: BindKind::Anonymous, name: String::new(), password: None },
        authentication_bind: settings::AuthenticationBind { kind: BindKind::Simple },
        ca: None,
        pinned_certificates: None,
        danger_clear_text: true,
        windows_mechanism: Default::default(),
        connect_timeout_seconds: 1,
        timeout_seconds: 1,
        page_size: 2,
        user_filter: String::new(),
        group_filter: String::new(),
        container_filter: String::new(),
        feed: None,
        full_every_hours: 24,
        size_limit: 0,
        country: String::new(),
        netbios_domain: "CORP".into(),
        lockout_guard: None,
        default_domain: String::new(),
        server_order: Default::default(),
        sign_in_by_mail: None,
        strip_domain: false,
        alternate_directories: Vec::new(),
        sync_bind: None,
        trusted_domains: None,
        trusted: Default::default(),
        attribute_scope_queries: true,
        attributes: Default::default(),
    }
}

pub fn directory(urls: &[&str]) -> Directory {
    Directory::new(settings(urls), None, Options { query_connections: 1, ..Options::default() }).expect("good settings")
}

/// An entry as if it had been resolved.
pub fn entry(uid: &str) -> directory::Entry {
    directory::Entry {
        subject: domain::DirectoryRef {
            directory: ObjectName::new("corp").expect("a valid name"),
            id: domain::ObjectId::from_entry_uuid("00000000-0000-0000-0000-000000000007").expect("a UUID"),
        },
        dn: format!("uid={uid},{BASE}"),
        username: uid.into(),
        first_name: None,
        last_name: None,
        mail: None,
        account: None,
        password_stamp: None,
        form: domain::NameForm::Bare,
    }
}

pub fn password() -> Secret {
    Secret::from("Sesame-alice")
}

/// Waits for a condition, never for a time.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < Duration::from_secs(15), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
