//! Learns which objects have changed (S-10 to S-39): six ways to ask, one model of what is told.
//!
//! ```text
//! position_now ──> Position ─┐                 ┌─> Changed, Deleted, Present      by immutable id
//!                            ├─> Changes::next ┼─> Position                       to go on from
//!        stored ──> Position ┘                 └─> End, UpToDate                  all is told
//!                                                      │
//!                                  Reader, read_dns <──┘                          what the objects are now
//! ```
//!
//! State, not event: a feed names objects, and what they are is read afterwards, by id and always in the same way. So an attribute
//! that was cleared, a change told twice, one told by a server that lags behind, and a server that tells everything anew need no
//! care of their own (S-15, S-18, S-35). What belongs to one kind of feed stands in its file; each is a session on a connection of
//! its own that says one thing after the other.

mod accesslog;
mod changelog;
mod clock;
mod dirsync;
mod error;
mod link;
mod listing;
mod offer;
mod origin;
mod position;
mod root;
mod syncrepl;
mod timestamp;
mod usn;
mod watched;

pub use clock::seconds as seconds_of_generalized_time;
pub use domain::settings::Feed as FeedKind;
pub use error::{FeedError, FullRead};
pub(crate) use link::Link;
pub use offer::Offer;
pub use origin::Origin;
pub use position::Position;

use crate::directory::{Core, Directory};
use crate::read::{Incomplete, Query, Reading};
use domain::ObjectId;
use ldap_wire::{Filter, ResultCode, Scope, SearchResultEntry};
use std::collections::VecDeque;
use std::sync::Arc;

/// One thing a feed has to tell.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Added, changed, moved or back from the dead: to be read again. It may lie outside of the base, or be nothing of ours.
    Changed(ObjectId),
    /// The server says that it is gone. To be looked for once all the same (S-43).
    Deleted(ObjectId),
    /// There, and unchanged.
    Present(Vec<ObjectId>),
    /// Everything before it has been told. Once that is stored, changes may go on from here. Where things were
    /// [`Event::Present`], what is gone is known only with the end: then it is to be stored together with what follows from that.
    Position(Position),
    /// Of [`Directory::follow`]: all that had changed is told, from here on it is told as it happens.
    UpToDate { rest_is_gone: bool },
    /// All that had changed is told. `rest_is_gone`: the server has named everything that is there; who is known and was neither
    /// `Present` nor `Changed` is gone (S-32).
    End { rest_is_gone: bool },
}

impl Directory {
    /// The ways in which changes can be learned here, the best first: what the server offers, and whether the query account may
    /// use it, which is tried (S-03, S-13).
    pub async fn probe_feeds(&self) -> Result<Vec<Offer>, Incomplete> {
        offer::all(self.core()).await
    }

    /// Where a feed stands now. Taken before everything is read, the changes from it on cover all that happens meanwhile.
    pub async fn position_now(&self, kind: FeedKind) -> Result<Position, FeedError> {
        let core = self.core();
        match kind {
            FeedKind::DirSync => dirsync::position_now(core).await,
            FeedKind::UsnChanged => usn::position_now(core).await,
            FeedKind::Syncrepl => syncrepl::position_now(core).await,
            FeedKind::AccessLog => accesslog::position_now(core).await,
            FeedKind::Changelog => changelog::position_now(core).await,
            FeedKind::ModifyTimestamp => timestamp::position_now(core).await,
        }
    }

    /// What has changed since. Ends by itself, with [`Event::End`].
    pub fn changes(&self, position: Position) -> Changes {
        Changes::new(Arc::clone(self.core()), position, Until::Now)
    }

    /// What has changed since, and then what changes, until the connection is lost. For [`FeedKind::Syncrepl`].
    pub fn follow(&self, position: Position) -> Changes {
        Changes::new(Arc::clone(self.core()), position, Until::Lost)
    }

    /// Objects that one filter may name by their ids, and one answer hold (FD-10).
    pub fn ids_at_once(&self) -> usize {
        let limit = usize::try_from(self.settings().size_limit).ok().filter(|limit| *limit > 0);
        limit.unwrap_or(usize::MAX).min(IDS_OF_ONE_FILTER)
    }

    /// What the objects of these names are now, wherever that is; one that is not there is not among the results. With `extended_dn`
    /// Active Directory writes values that are DNs as `<GUID=...>;<SID=...>;CN=...`.
    pub async fn read_dns(
        &self,
        dns: &[String],
        attributes: &[&str],
        extended_dn: bool,
    ) -> Result<Vec<SearchResultEntry>, Incomplete> {
        let mut found = Vec::new();
        let mut reading: Option<Reading> = None;
        for dn in dns {
            let query = self.current(dn, Scope::Base, Filter::present("objectClass"), attributes, extended_dn);
            let reading = match &mut reading {
                Some(reading) => {
                    reading.ask_next(query);
                    reading
                }
                None => reading.insert(self.read(query)),
            };
            match reading.rest().await {
                Ok(mut entries) => found.append(&mut entries),
                // What is no DN at all names nothing either.
                Err(Incomplete::Refused {
                    code: ResultCode::NO_SUCH_OBJECT | ResultCode::INVALID_DN_SYNTAX, ..
                }) => {}
                Err(why) => return Err(why),
            }
        }
        Ok(found)
    }

    fn current(&self, base: &str, scope: Scope, filter: Filter, attributes: &[&str], extended_dn: bool) -> Query {
        let mut query = Query::new(base, scope, filter, attributes);
        if extended_dn {
            query.controls.push(ldap_wire::dirsync::extended_dn());
        }
        query
    }
}

/// Servers bound the size of a filter; Active Directory is content with some hundred parts.
const IDS_OF_ONE_FILTER: usize = 100;

/// The changes of a directory since a position. Dropping it ends it.
pub struct Changes {
    core: Arc<Core>,
    watched: Vec<String>,
    state: State,
    events: VecDeque<Event>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    Now,
    Lost,
}

enum State {
    New(Position, Until),
    Open(Box<Session>),
    /// The last event, or the error: it is told again.
    Ended(Result<Event, FeedError>),
}

/// A feed that is being read. `step` waits for the server once and queues what that tells, perhaps nothing.
enum Session {
    DirSync(dirsync::DirSync),
    Syncrepl(syncrepl::Syncrepl),
    AccessLog(accesslog::AccessLog),
    Changelog(changelog::Changelog),
    Listing(listing::Listing),
}

impl Changes {
    fn new(core: Arc<Core>, position: Position, until: Until) -> Self {
        Self { core, watched: Vec::new(), state: State::New(position, until), events: VecDeque::new() }
    }

    /// Attributes that matter beside those of the directory's settings, such as those that the filters of sync items ask about.
    /// To be said before the first event: DirSync is silent about a change of anything else (S-14).
    #[must_use]
    pub fn watching(mut self, attributes: &[impl AsRef<str>]) -> Self {
        self.watched.extend(attributes.iter().map(|attribute| attribute.as_ref().to_owned()));
        self
    }

    /// Turns to the server now rather than at the first event, and says which one it is: where the one that the position is of is
    /// gone, another one may tell, and what it tells of is to be read from that one (S-18, S-43).
    pub async fn open(&mut self) -> Result<Origin, FeedError> {
        if let State::New(..) = self.state
            && let Err(error) = self.step().await
        {
            self.state = State::Ended(Err(error));
        }
        match &self.state {
            State::Open(session) => Ok(match session.as_ref() {
                Session::DirSync(session) => session.origin(),
                Session::Syncrepl(session) => session.origin(),
                Session::AccessLog(session) => session.origin(),
                Session::Changelog(session) => session.origin(),
                Session::Listing(session) => session.origin(),
            }),
            State::Ended(Err(error)) => Err(error.clone()),
            State::New(position, _) => Ok(position.origin()),
            State::Ended(Ok(_)) => unreachable!("it was asked for its first event after this"),
        }
    }

    /// The next event; after [`Event::End`] or an error the same again. After [`Event::UpToDate`] it may be dropped while it waits
    /// and called again; before that, who drops it has to begin anew.
    pub async fn next(&mut self) -> Result<Event, FeedError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                if let Event::End { .. } = event {
                    self.state = State::Ended(Ok(event.clone()));
                }
                return Ok(event);
            }
            if let State::Ended(end) = &self.state {
                return end.clone();
            }
            if let Err(error) = self.step().await {
                self.state = State::Ended(Err(error));
            }
        }
    }

    async fn step(&mut self) -> Result<(), FeedError> {
        match &mut self.state {
            State::New(position, until) => {
                let session = open(&self.core, position, *until, &self.watched).await?;
                self.state = State::Open(Box::new(session));
                Ok(())
            }
            State::Open(session) => match session.as_mut() {
                Session::DirSync(session) => session.step(&mut self.events).await,
                Session::Syncrepl(session) => session.step(&mut self.events).await,
                Session::AccessLog(session) => session.step(&mut self.events).await,
                Session::Changelog(session) => session.step(&mut self.events).await,
                Session::Listing(session) => session.step(&mut self.events).await,
            },
            State::Ended(_) => Ok(()),
        }
    }
}

async fn open(core: &Arc<Core>, position: &Position, until: Until, watched: &[String]) -> Result<Session, FeedError> {
    if !position.is_of_base(core.base_text()) {
        return Err(FullRead::OtherBase.into());
    }
    match position.kind() {
        kind if until == Until::Lost && kind != FeedKind::Syncrepl => Err(FeedError::NotOffered { kind }),
        FeedKind::DirSync => Ok(Session::DirSync(dirsync::DirSync::open(core, position, watched).await?)),
        FeedKind::UsnChanged => Ok(Session::Listing(usn::open(core, position).await?)),
        FeedKind::Syncrepl => Ok(Session::Syncrepl(syncrepl::Syncrepl::open(core, position, until).await?)),
        FeedKind::AccessLog => Ok(Session::AccessLog(accesslog::open(core, position).await?)),
        FeedKind::Changelog => Ok(Session::Changelog(changelog::Changelog::open(core, position).await?)),
        FeedKind::ModifyTimestamp => Ok(Session::Listing(timestamp::open(core, position).await?)),
    }
}
