//! A feed that is one paged search: what is found is told, and at its end stands a position that was taken before, or that of the
//! newest entry where the server tells none.

use super::{Event, FeedError, Origin, Position};
use crate::directory::Core;
use crate::read::{Query, Read, Reading};
use crate::server::ServerName;
use ldap_wire::SearchResultEntry;
use std::collections::VecDeque;
use std::sync::Arc;

pub(super) struct Listing {
    core: Arc<Core>,
    server: ServerName,
    reading: Reading,
    told: Told,
    moves: Option<Moves>,
    position: Position,
}

/// Moves the position on to an entry.
pub(super) type Moves = fn(&mut Position, &SearchResultEntry);

/// What an entry says; `None`: it is of no concern; an error: what is wrong with it.
pub(super) type Told = fn(&Core, &SearchResultEntry) -> Result<Option<Event>, &'static str>;

impl Listing {
    pub fn origin(&self) -> Origin {
        self.position.origin()
    }

    pub fn new(link: super::link::Link, query: Query, told: Told, position: Position) -> Self {
        let (core, server) = (Arc::clone(&link.core), link.server());
        Self { core, server, reading: link.into_reading(query), told, moves: None, position }
    }

    /// The position is that of the newest entry.
    pub fn moving(self, moves: Moves) -> Self {
        Self { moves: Some(moves), ..self }
    }

    pub async fn step(&mut self, events: &mut VecDeque<Event>) -> Result<(), FeedError> {
        match self.reading.next().await {
            Read::Entry(entry) => {
                if let Some(moves) = self.moves {
                    moves(&mut self.position, &entry);
                }
                let told = (self.told)(&self.core, &entry);
                let server = || self.server.clone();
                events.extend(told.map_err(|what| FeedError::Malformed { server: server(), what })?);
            }
            Read::Complete => {
                events.push_back(Event::Position(self.position.clone()));
                events.push_back(Event::End { rest_is_gone: false });
            }
            Read::Incomplete(why) => return Err(why.into()),
        }
        Ok(())
    }
}
