//! The connection of one feed: searches one after the other, and their answers message by message.

use super::root::Root;
use crate::connection::{Broken, Connection};
use crate::directory::Core;
use crate::feed::Origin;
use crate::observe::{Operation, Outcome};
use crate::query::{self, QueryError};
use crate::read::{Incomplete, Query, Reading};
use crate::server::ServerName;
use ldap_wire::{
    Control, DecodeError, Filter, LdapResult, Message, MessageId, Op, PagedResults, ResultCode, Scope, SearchRequest,
    SearchResultEntry,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Connections to one name until another server behind it answers.
const TURNS_MAX: usize = 4;

pub(crate) struct Link {
    pub core: Arc<Core>,
    connection: Connection,
    /// What a domain controller calls itself, where that was asked for.
    dc: Option<String>,
    id: MessageId,
    started: Instant,
    /// How long a message may take.
    patience: Duration,
}

impl Link {
    /// To the best server, or to the one whose position it is. Where its name leads to several that take turns, it is asked a few
    /// times for the right one; whoever came last is as good as another server.
    pub async fn open(core: &Arc<Core>, preferred: Option<&Origin>) -> Result<Self, Incomplete> {
        match preferred {
            Some(origin) => Self::open_at(core, origin, None).await,
            None => Ok(Self::on(core, query::open(core).await?)),
        }
    }

    /// To the one that is wanted. `peer` = where it was met before, which is looked at first.
    pub async fn open_at(core: &Arc<Core>, origin: &Origin, mut peer: Option<SocketAddr>) -> Result<Self, Incomplete> {
        let mut turns = 1;
        loop {
            let mut link = Self::on(core, query::open_preferring(core, &origin.url, peer.take()).await?);
            if origin.dc.is_some() {
                link.ask_its_name().await?;
            }
            let found = link.origin();
            if turns == TURNS_MAX || found.url != origin.url || found.is(origin) {
                return Ok(link);
            }
            turns += 1;
        }
    }

    fn on(core: &Arc<Core>, connection: Connection) -> Self {
        let (id, started) = (MessageId::UNSOLICITED, Instant::now());
        Self { core: Arc::clone(core), connection, dc: None, id, started, patience: core.operation_timeout() }
    }

    /// Behind one URL may be several domain controllers, and each knows which one it is.
    pub async fn ask_its_name(&mut self) -> Result<(), Incomplete> {
        if self.dc.is_none() {
            self.dc = Root::read(self).await?.dc().map(str::to_owned);
        }
        Ok(())
    }

    /// Waits for as long as a server may look for something that is hardly there: Active Directory takes 120 s at most
    /// (MaxQueryDuration).
    pub fn wait_for_long_searches(&mut self) {
        self.patience = self.patience.max(Duration::from_secs(130));
    }

    /// Back to what the settings say.
    pub fn wait_as_usual(&mut self) {
        self.patience = self.core.operation_timeout();
    }

    pub fn server(&self) -> ServerName {
        self.connection.server().clone()
    }

    /// With the name that it gives itself, where that was asked for.
    pub fn origin(&self) -> Origin {
        Origin { url: self.connection.server().to_string(), dc: self.dc.clone() }
    }

    pub fn peer(&self) -> Option<SocketAddr> {
        self.connection.peer()
    }

    pub fn into_connection(self) -> Connection {
        self.connection
    }

    /// Reads many entries on this connection.
    pub fn into_reading(self, query: Query) -> Reading {
        Reading::on(self.core, self.connection, query)
    }

    pub async fn ask(&mut self, search: &SearchRequest, controls: &[Control]) -> Result<(), Incomplete> {
        self.id = self.connection.next_id();
        self.started = Instant::now();
        let octets = search.encode(self.id, controls);
        match tokio::time::timeout(self.core.operation_timeout(), self.connection.send(&octets)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(broken)) => Err(self.lost(broken)),
            Err(_) => Err(self.timed_out()),
        }
    }

    /// The next message of the answer, while there must be one.
    pub async fn answer(&mut self) -> Result<Message, Incomplete> {
        match tokio::time::timeout(self.patience, self.connection.receive()).await {
            Ok(received) => self.of_ours(received),
            Err(_) => Err(self.timed_out()),
        }
    }

    /// The next message, whenever it comes. May be dropped while it waits.
    pub async fn news(&mut self) -> Result<Message, Incomplete> {
        let received = self.connection.receive().await;
        self.of_ours(received)
    }

    fn of_ours(&self, received: Result<Message, Broken>) -> Result<Message, Incomplete> {
        match received {
            Ok(message) if message.id() == self.id => Ok(message),
            Ok(_) => Err(self.lost(Broken::UnexpectedMessage)),
            Err(broken) => Err(self.lost(broken)),
        }
    }

    /// One entry by its DN. Nothing if it is not there or not to be seen; with `result` it says which.
    pub async fn entry(
        &mut self,
        dn: &str,
        attributes: &[&str],
    ) -> Result<(Option<SearchResultEntry>, LdapResult), Incomplete> {
        let search = SearchRequest::new(dn.to_owned(), Scope::Base, &Filter::present("objectClass"), attributes);
        self.few(&search, &[]).await.map(|(entries, result)| (entries.into_iter().next(), result))
    }

    /// The first entry of an answer that may be large. Asked for by a page as well, as not every server minds the size limit.
    pub async fn first(
        &mut self,
        mut search: SearchRequest,
        mut controls: Vec<Control>,
    ) -> Result<(Option<SearchResultEntry>, LdapResult), Incomplete> {
        search.size_limit = 1;
        let paged = PagedResults { size: 1, ..PagedResults::default() }.to_control(false);
        controls.push(paged);
        let (first, result) = self.first_of(&search, &controls).await?;
        if first.is_none() && result.code == ResultCode::ADMIN_LIMIT_EXCEEDED {
            // Perhaps of pages alone (FD-10).
            controls.pop();
            return self.first_of(&search, &controls).await;
        }
        Ok((first, result))
    }

    async fn first_of(
        &mut self,
        search: &SearchRequest,
        controls: &[Control],
    ) -> Result<(Option<SearchResultEntry>, LdapResult), Incomplete> {
        self.ask(search, controls).await?;
        let mut first = None;
        loop {
            let message = self.answer().await?;
            match message.op() {
                Op::SearchResultEntry if first.is_none() => {
                    first = Some(SearchResultEntry::decode(&message).map_err(|error| self.unreadable(error))?);
                }
                Op::SearchResultDone => return Ok((first, self.done(&message)?)),
                Op::SearchResultEntry | Op::SearchResultReference | Op::IntermediateResponse => {}
                _ => return Err(self.lost(Broken::UnexpectedMessage)),
            }
        }
    }

    /// A search with a small answer.
    pub async fn few(
        &mut self,
        search: &SearchRequest,
        controls: &[Control],
    ) -> Result<(Vec<SearchResultEntry>, LdapResult), Incomplete> {
        self.few_with(search, controls).await.map(|(entries, result, _)| (entries, result))
    }

    /// The same with the controls of its end.
    pub async fn few_with(
        &mut self,
        search: &SearchRequest,
        controls: &[Control],
    ) -> Result<(Vec<SearchResultEntry>, LdapResult, Vec<Control>), Incomplete> {
        const FEW: usize = 100;
        self.ask(search, controls).await?;
        let mut entries = Vec::new();
        loop {
            let message = self.answer().await?;
            match message.op() {
                Op::SearchResultEntry if entries.len() < FEW => {
                    entries.push(SearchResultEntry::decode(&message).map_err(|error| self.unreadable(error))?);
                }
                Op::SearchResultEntry => return Err(self.lost(Broken::TooMuch)),
                Op::SearchResultDone => {
                    let controls = message.controls().map_err(|error| self.unreadable(error))?;
                    return Ok((entries, self.done(&message)?, controls));
                }
                Op::SearchResultReference | Op::IntermediateResponse => {}
                _ => return Err(self.lost(Broken::UnexpectedMessage)),
            }
        }
    }

    /// How a search ended.
    pub fn done(&self, message: &Message) -> Result<LdapResult, Incomplete> {
        let result = LdapResult::decode(message).map_err(|error| self.unreadable(error))?;
        self.observe(if result.is_success() { Outcome::Ok } else { Outcome::Directory });
        Ok(result)
    }

    pub fn unreadable(&self, error: DecodeError) -> Incomplete {
        self.lost(error.into())
    }

    pub fn lost(&self, cause: Broken) -> Incomplete {
        self.fail(QueryError::Lost { server: self.server(), cause: Arc::new(cause) })
    }

    fn timed_out(&self) -> Incomplete {
        self.fail(QueryError::Timeout { server: self.server() })
    }

    fn fail(&self, error: QueryError) -> Incomplete {
        self.core.servers.failed(self.connection.server(), &error, Instant::now());
        self.observe(error.outcome());
        error.into()
    }

    fn observe(&self, outcome: Outcome) {
        self.core.observe(self.connection.server(), Operation::Changes, outcome, self.started.elapsed());
    }
}
