//! A directory with a few people that counts binds, and misbehaves on command.

use bytes::{Bytes, BytesMut};
use ldap_wire::{
    Attribute, Authentication, BindRequest, BindResponse, Filter, Framer, LdapResult, Limits, Message, Op, Peer,
    ResultCode, SearchRequest, SearchResultEntry, search,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

pub const BASE: &str = "dc=corp,dc=example";
pub const QUERY_DN: &str = "cn=twinlock,dc=corp,dc=example";
pub const QUERY_PASSWORD: &str = "query-password-6f2a";

/// A person's entry: two people may share a mail address.
pub struct Person {
    pub uid: &'static str,
    pub mail: &'static str,
    pub password: &'static str,
    pub entry_uuid: &'static str,
}

pub const PEOPLE: [Person; 5] = [
    Person {
        uid: "ann",
        mail: "ann@corp.example",
        password: "sesame-ann-41c8",
        entry_uuid: "00000000-0000-4000-8000-00000000000a",
    },
    Person {
        uid: "bob",
        mail: "shared@corp.example",
        password: "sesame-bob-77e2",
        entry_uuid: "00000000-0000-4000-8000-00000000000b",
    },
    Person {
        uid: "eve",
        mail: "shared@corp.example",
        password: "sesame-eve-0d93",
        entry_uuid: "00000000-0000-4000-8000-00000000000e",
    },
    // A password that ends like one with a code appended.
    Person {
        uid: "dan",
        mail: "dan@corp.example",
        password: "sesame,123456",
        entry_uuid: "00000000-0000-4000-8000-00000000000d",
    },
    // Whom the filter of users keeps out.
    Person {
        uid: "printer",
        mail: "printer@corp.example",
        password: "sesame-printer-19a0",
        entry_uuid: "00000000-0000-4000-8000-00000000000f",
    },
];

/// What it does instead of answering properly.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Well,
    /// Says nothing to the bind of a person.
    SilentToBinds,
    /// Answers the bind of a person with this code.
    Answers(u32),
    /// Says yes to the bind, and refers elsewhere (B-60).
    Refers,
    /// Says nothing to a search.
    SilentToSearches,
    /// Searches fail with this code.
    SearchFails(u32),
    /// Finds what was sought, and says that there may be more (size limit).
    SearchIsCut,
}

pub struct FakeDirectory {
    pub url: String,
    state: Arc<State>,
    tasks: Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct State {
    binds: Mutex<Vec<(String, Vec<u8>)>>,
    let_in: Mutex<Vec<String>>,
    mood: Mutex<Mood>,
    bind_delay: Mutex<Duration>,
    searches: AtomicUsize,
    password_stamp: Mutex<Option<String>>,
}

impl FakeDirectory {
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", lab::free_port())).await.expect("a free port");
        let url = format!("ldap://{}", listener.local_addr().expect("it is bound"));
        let state = Arc::<State>::default();
        let mut tasks = JoinSet::new();
        let of_task = state.clone();
        tasks.spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                while clients.try_join_next().is_some() {}
                // What is written waits for no acknowledgement, which takes its time whatever the clock of a test says.
                stream.set_nodelay(true).expect("TCP");
                clients.spawn(serve(stream, of_task.clone()));
            }
        });
        Self { url, state, tasks: Mutex::new(tasks) }
    }

    /// Says from now on that everybody's password was changed then.
    pub fn passwords_changed(&self, stamp: &str) {
        *self.state.password_stamp.lock().expect("no panic") = Some(stamp.to_owned());
    }

    /// How many binds of people it has seen, with whatever password.
    pub fn binds(&self) -> usize {
        self.state.binds.lock().expect("no panic").len()
    }

    /// Nothing of what it has seen takes room any more.
    pub fn forget(&self) {
        drop(std::mem::take(&mut *self.state.binds.lock().expect("no panic")));
        drop(std::mem::take(&mut *self.state.let_in.lock().expect("no panic")));
    }

    /// How many searches it has seen, also those that it says nothing to.
    pub fn searches(&self) -> usize {
        self.state.searches.load(Ordering::Relaxed)
    }

    /// The passwords it was sent, in order.
    pub fn passwords(&self) -> Vec<String> {
        let text = |(_, password): &(String, Vec<u8>)| String::from_utf8_lossy(password).into_owned();
        self.state.binds.lock().expect("no panic").iter().map(text).collect()
    }

    /// How often it has said yes to the bind of a person.
    pub fn let_in(&self, uid: &str) -> usize {
        let beginning = format!("uid={uid},");
        self.state.let_in.lock().expect("no panic").iter().filter(|dn| dn.starts_with(&beginning)).count()
    }

    pub fn mood(&self, mood: Mood) {
        *self.state.mood.lock().expect("no panic") = mood;
    }

    pub fn delay_binds(&self, delay: Duration) {
        *self.state.bind_delay.lock().expect("no panic") = delay;
    }

    /// Gone, with all its connections.
    pub fn stop(&self) {
        self.tasks.lock().expect("no panic").abort_all();
    }
}

async fn serve(mut stream: TcpStream, state: Arc<State>) {
    let framer = Framer::new(Peer::Client, Limits::AUTHENTICATED);
    let mut input = BytesMut::new();
    loop {
        while let Ok(Some(message)) = framer.next_message(&mut input) {
            for octets in answer(&message, &state).await {
                if stream.write_all(&octets).await.is_err() {
                    return;
                }
            }
        }
        if !matches!(stream.read_buf(&mut input).await, Ok(1..)) {
            return;
        }
    }
}

async fn answer(message: &Message, state: &State) -> Vec<Bytes> {
    let mood = *state.mood.lock().expect("no panic");
    match message.op() {
        Op::BindRequest => bind(message, state, mood).await,
        Op::SearchRequest => {
            let request = SearchRequest::decode(message).expect("our own client is well-formed");
            state.searches.fetch_add(1, Ordering::Relaxed);
            let code = match mood {
                Mood::SilentToSearches => return Vec::new(),
                Mood::SearchFails(code) => ResultCode(code),
                Mood::SearchIsCut => ResultCode::SIZE_LIMIT_EXCEEDED,
                _ => ResultCode::SUCCESS,
            };
            let found =
                PEOPLE.iter().filter(|person| !matches!(mood, Mood::SearchFails(_)) && is_meant(person, &request));
            let stamp = state.password_stamp.lock().expect("no panic").clone().filter(|_| asks(&request, STAMP));
            let mut answer: Vec<Bytes> =
                found.map(|person| entry(person, stamp.as_deref()).encode(message.id(), &[])).collect();
            answer.push(search::search_result_done(message.id(), &LdapResult::of(code), &[]));
            answer
        }
        _ => Vec::new(),
    }
}

async fn bind(message: &Message, state: &State, mood: Mood) -> Vec<Bytes> {
    let request = BindRequest::decode(message).expect("our own client is well-formed");
    let name = String::from_utf8_lossy(&request.name).into_owned();
    let Authentication::Simple(password) = &request.authentication else { panic!("a simple bind") };
    let answer = |result| vec![BindResponse { result, server_sasl_credentials: None }.encode(message.id(), &[])];
    if name == QUERY_DN {
        let right = password.expose() == QUERY_PASSWORD.as_bytes();
        return answer(LdapResult::of(if right { ResultCode::SUCCESS } else { ResultCode::INVALID_CREDENTIALS }));
    }
    state.binds.lock().expect("no panic").push((name.clone(), password.expose().to_vec()));
    let delay = *state.bind_delay.lock().expect("no panic");
    tokio::time::sleep(delay).await;
    match mood {
        Mood::SilentToBinds => Vec::new(),
        Mood::Answers(code) => answer(LdapResult::of(ResultCode(code))),
        Mood::Refers => {
            let referral = Some(vec![Bytes::from_static(b"ldap://elsewhere.example/")]);
            answer(LdapResult { referral, ..LdapResult::of(ResultCode::SUCCESS) })
        }
        _ => {
            // RFC 4513 section 5.1.2: a directory takes an empty password for nobody, and says yes.
            let right =
                PEOPLE.iter().any(|person| dn(person) == name && person.password.as_bytes() == password.expose());
            let yes = right || password.is_empty();
            if yes {
                state.let_in.lock().expect("no panic").push(name);
            }
            answer(LdapResult::of(if yes { ResultCode::SUCCESS } else { ResultCode::INVALID_CREDENTIALS }))
        }
    }
}

fn dn(person: &Person) -> String {
    format!("uid={},ou=people,{BASE}", person.uid)
}

const STAMP: &str = "pwdChangedTime";

/// An operational attribute goes out only by its name.
fn asks(request: &SearchRequest, attribute: &str) -> bool {
    request.attributes.iter().any(|asked| asked.eq_ignore_ascii_case(attribute))
}

fn entry(person: &Person, stamp: Option<&str>) -> SearchResultEntry {
    let value = |name: &str, value: &str| Attribute::new(name, vec![Bytes::copy_from_slice(value.as_bytes())]);
    let mut attributes =
        vec![value("uid", person.uid), value("mail", person.mail), value("entryUUID", person.entry_uuid)];
    attributes.extend(stamp.map(|stamp| value(STAMP, stamp)));
    SearchResultEntry { dn: dn(person).into(), attributes }
}

fn is_meant(person: &Person, request: &SearchRequest) -> bool {
    let base = String::from_utf8_lossy(&request.base).to_lowercase();
    let below = base == BASE || base == dn(person);
    below && Filter::from_ber(&request.filter).is_ok_and(|filter| matches(&filter, person))
}

fn matches(filter: &Filter, person: &Person) -> bool {
    match filter {
        Filter::And(all) => all.iter().all(|filter| matches(filter, person)),
        Filter::Or(any) => any.iter().any(|filter| matches(filter, person)),
        Filter::Equal { attribute, value } => {
            let value = String::from_utf8_lossy(value).to_lowercase();
            match attribute.to_ascii_lowercase().as_str() {
                "uid" => value == person.uid,
                "mail" => value == person.mail,
                "employeenumber" => person.uid == "printer" && value == "4711",
                "entryuuid" => value == person.entry_uuid,
                "objectclass" => person.uid != "printer",
                _ => false,
            }
        }
        Filter::Present(_) => true,
        _ => false,
    }
}
