//! A query connection shared by many questions at once: each has its own message id, answers come in any order.
//!
//! One task owns the socket ([`drive`]); a [`Session`] is the handle by which questions reach it. Bounded everywhere: questions in
//! flight by the semaphore, entries and octets of an answer by the question, the time by its deadline.

use crate::connection::{Broken, Connection};
use crate::directory::Core;
use crate::query::{self, QueryError, is_unavailable};
use crate::server::ServerName;
use ldap_wire::{
    Control, Filter, LdapResult, Message, MessageId, Op, Scope, SearchRequest, SearchResultEntry,
    extended::abandon_request,
};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

/// Questions in flight on one connection.
const IN_FLIGHT_MAX: usize = 64;
/// Ids whose late answers are still to be expected. Beyond it the connection is not worth keeping.
const ABANDONED_MAX: usize = 256;
/// Octets of all entries of one answer.
const ANSWER_OCTETS_MAX: usize = 4 << 20;
/// A connection nobody used for so long is asked for a sign of life, before a firewall forgets it.
const IDLE: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub(crate) struct Session {
    server: ServerName,
    questions: mpsc::Sender<Question>,
    slots: Arc<Semaphore>,
}

/// A whole answer: everything between the request and its SearchResultDone.
pub(crate) struct Answer {
    pub server: ServerName,
    pub entries: Vec<SearchResultEntry>,
    /// The server named other servers that hold a part of it.
    pub references: bool,
    pub result: LdapResult,
}

pub(crate) struct Question {
    search: SearchRequest,
    controls: Vec<Control>,
    entries_max: usize,
    deadline: Instant,
    asker: Option<Asker>,
}

/// Who waits for the answer; none for our own sign of life. The permit bounds what is in flight, even where the asker has gone.
struct Asker {
    reply: oneshot::Sender<Result<Answer, QueryError>>,
    _slot: OwnedSemaphorePermit,
}

impl Asker {
    fn tell(self, result: Result<Answer, QueryError>) {
        // An error means that nobody waits any more.
        let _ = self.reply.send(result);
    }
}

impl Session {
    /// The handle, and what `drive` reads.
    pub fn new(server: ServerName) -> (Self, mpsc::Receiver<Question>) {
        let (questions, receiver) = mpsc::channel(IN_FLIGHT_MAX);
        (Self { server, questions, slots: Arc::new(Semaphore::new(IN_FLIGHT_MAX)) }, receiver)
    }

    pub fn is_alive(&self) -> bool {
        !self.questions.is_closed()
    }

    pub fn free_slots(&self) -> usize {
        self.slots.available_permits()
    }

    /// `search` has a size limit: it bounds the answer here, too.
    pub async fn search(
        &self,
        search: SearchRequest,
        controls: Vec<Control>,
        deadline: Instant,
    ) -> Result<Answer, QueryError> {
        let slot = tokio::time::timeout_at(deadline, Arc::clone(&self.slots).acquire_owned()).await;
        let Ok(Ok(slot)) = slot else { return Err(QueryError::Overloaded) };
        let (reply, answer) = oneshot::channel();
        let asker = Some(Asker { reply, _slot: slot });
        let entries_max = usize::try_from(search.size_limit).unwrap_or(usize::MAX);
        let lost = || QueryError::Lost {
            server: self.server.clone(),
            cause: Arc::new(Broken::Io(std::io::ErrorKind::BrokenPipe.into())),
        };
        self.questions.send(Question { search, controls, entries_max, deadline, asker }).await.map_err(|_| lost())?;
        answer.await.unwrap_or_else(|_| Err(lost()))
    }
}

/// One question on a connection of its own.
pub(crate) async fn search_once(
    core: &Core,
    search: SearchRequest,
    controls: Vec<Control>,
    deadline: Instant,
) -> Result<Answer, QueryError> {
    let connection = query::open(core).await?;
    let (session, questions) = Session::new(connection.server().clone());
    let asked = async {
        let answer = session.search(search, controls, deadline).await;
        drop(session); // the last handle: the driver has nothing more to do
        answer
    };
    let (answer, _) = tokio::join!(asked, drive(connection, questions, core.operation_timeout()));
    answer
}

/// Owns the connection until it breaks or nobody can ask any more. Every question that waits gets the cause.
pub(crate) async fn drive(
    mut connection: Connection,
    mut questions: mpsc::Receiver<Question>,
    timeout: Duration,
) -> Ended {
    let mut driver = Driver {
        server: connection.server().clone(),
        pending: HashMap::new(),
        abandoned: HashSet::new(),
        heard: Instant::now(),
        timeout,
        parting: None,
    };
    let ended = driver.run(&mut connection, &mut questions).await;
    questions.close(); // before anybody is told, so that who asks again finds another connection
    if let Some((asker, answer)) = driver.parting {
        asker.tell(Ok(answer));
    }
    if let Ended::Broken(cause) = &ended {
        let error = QueryError::Lost { server: driver.server.clone(), cause: Arc::clone(cause) };
        let waiting = driver.pending.into_values().filter_map(|waiting| waiting.asker);
        let queued = std::iter::from_fn(|| questions.try_recv().ok()).filter_map(|question| question.asker);
        waiting.chain(queued).for_each(|asker| asker.tell(Err(error.clone())));
    }
    ended
}

pub(crate) enum Ended {
    /// All handles are gone.
    Unused,
    Broken(Arc<Broken>),
    /// It is connected, but a question and everything else stayed without an answer.
    Silent,
}

struct Driver {
    server: ServerName,
    pending: HashMap<MessageId, Waiting>,
    abandoned: HashSet<MessageId>,
    /// When the last message came.
    heard: Instant,
    timeout: Duration,
    /// The answer that made us leave this server.
    parting: Option<(Asker, Answer)>,
}

struct Waiting {
    asked: Instant,
    deadline: Instant,
    entries_max: usize,
    octets: usize,
    entries: Vec<SearchResultEntry>,
    references: bool,
    asker: Option<Asker>,
}

impl Driver {
    async fn run(&mut self, connection: &mut Connection, questions: &mut mpsc::Receiver<Question>) -> Ended {
        let mut used = Instant::now();
        loop {
            let wake = self.pending.values().map(|waiting| waiting.deadline).min().unwrap_or(used + IDLE);
            // Both `recv` and `receive` may be dropped half-way without losing anything; sending is never inside the select.
            let step = tokio::select! {
                question = questions.recv() => match question {
                    None => return Ended::Unused,
                    Some(question) => {
                        used = Instant::now();
                        self.ask(connection, question).await
                    }
                },
                message = connection.receive() => match message {
                    Ok(message) => self.hear(message),
                    Err(broken) => Err(broken),
                },
                () = tokio::time::sleep_until(wake) => {
                    if self.pending.is_empty() {
                        used = Instant::now();
                        self.ask(connection, self.sign_of_life()).await
                    } else {
                        match self.expire(connection).await {
                            Ok(true) => Ok(()),
                            Ok(false) => return Ended::Silent,
                            Err(broken) => Err(broken),
                        }
                    }
                }
            };
            if let Err(broken) = step {
                return Ended::Broken(Arc::new(broken));
            }
        }
    }

    async fn ask(&mut self, connection: &mut Connection, question: Question) -> Result<(), Broken> {
        let Question { search, controls, entries_max, deadline, asker } = question;
        if asker.as_ref().is_some_and(|asker| asker.reply.is_closed()) {
            return Ok(()); // whoever asked has gone
        }
        let id = connection.next_id();
        let waiting = Waiting {
            asked: Instant::now(),
            deadline,
            entries_max,
            octets: 0,
            entries: Vec::new(),
            references: false,
            asker,
        };
        self.pending.insert(id, waiting);
        send(connection, &search.encode(id, &controls), self.timeout).await
    }

    fn hear(&mut self, message: Message) -> Result<(), Broken> {
        self.heard = Instant::now();
        let id = message.id();
        if self.abandoned.contains(&id) {
            if message.op() == Op::SearchResultDone {
                self.abandoned.remove(&id);
            }
            return Ok(());
        }
        let Some(waiting) = self.pending.get_mut(&id) else { return Err(Broken::UnexpectedMessage) };
        match message.op() {
            Op::SearchResultEntry => {
                waiting.octets += message.octets().len();
                if waiting.entries.len() >= waiting.entries_max || waiting.octets > ANSWER_OCTETS_MAX {
                    return Err(Broken::TooMuch);
                }
                waiting.entries.push(SearchResultEntry::decode(&message)?);
            }
            Op::SearchResultReference => waiting.references = true,
            Op::IntermediateResponse => {}
            Op::SearchResultDone => {
                let result = LdapResult::decode(&message)?;
                let code = result.code;
                let done = self.pending.remove(&id);
                if let Some(Waiting { entries, references, asker: Some(asker), .. }) = done {
                    let answer = Answer { server: self.server.clone(), entries, references, result };
                    if is_unavailable(code) {
                        self.parting = Some((asker, answer));
                        return Err(Broken::Notice { code });
                    }
                    asker.tell(Ok(answer));
                }
            }
            _ => return Err(Broken::UnexpectedMessage),
        }
        Ok(())
    }

    /// Gives up what took too long. False: nothing at all has come since it was asked, so the connection is dead.
    async fn expire(&mut self, connection: &mut Connection) -> Result<bool, Broken> {
        let now = Instant::now();
        let late: Vec<MessageId> =
            self.pending.iter().filter(|(_, waiting)| waiting.deadline <= now).map(|(id, _)| *id).collect();
        let mut alive = true;
        for id in late {
            let Some(waiting) = self.pending.remove(&id) else { continue };
            alive &= self.heard > waiting.asked;
            if let Some(asker) = waiting.asker {
                asker.tell(Err(QueryError::Timeout { server: self.server.clone() }));
            }
            self.abandoned.insert(id);
            if alive {
                let abandon = abandon_request(connection.next_id(), id);
                send(connection, &abandon, self.timeout).await?;
            }
        }
        Ok(alive && self.abandoned.len() <= ABANDONED_MAX)
    }

    /// The root DSE without attributes: the smallest thing there is to ask.
    fn sign_of_life(&self) -> Question {
        let search = SearchRequest::new("", Scope::Base, &Filter::present("objectClass"), &["1.1"]);
        Question { search, controls: Vec::new(), entries_max: 1, deadline: Instant::now() + self.timeout, asker: None }
    }
}

async fn send(connection: &mut Connection, octets: &[u8], limit: Duration) -> Result<(), Broken> {
    let late = |_| Err(Broken::Io(std::io::ErrorKind::TimedOut.into()));
    tokio::time::timeout(limit, connection.send(octets)).await.unwrap_or_else(late)
}
