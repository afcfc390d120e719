//! Operations of a client, and what its upstream connection says to them.

use super::{ABANDONED, Connection, Far, Next};
use crate::bind;
use crate::duplex::QUEUED_OCTETS_MAX;
use crate::forward::OpenUpstream;
use crate::verify;
use bytes::Bytes;
use directory::ConnectError;
use futures::FutureExt;
use ldap_wire::connection::{Cleared, FromUpstream, Limited, State};
use ldap_wire::{LdapResult, Message, MessageId, Op, ResultCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What is to be sent when the upstream connection is there.
#[derive(Default)]
pub(super) struct Waiting {
    operations: Vec<Cleared>,
    octets: usize,
}

impl Waiting {
    pub(super) fn has_room(&self) -> bool {
        self.octets < QUEUED_OCTETS_MAX
    }

    fn push(&mut self, cleared: Cleared) {
        self.octets += cleared.size();
        self.operations.push(cleared);
    }

    fn send_to(self, far: &mut OpenUpstream, now: Instant) {
        self.operations.into_iter().for_each(|cleared| far.send(cleared, now));
    }

    /// Takes out what was abandoned before it was sent.
    fn take_out(&mut self, id: MessageId) -> bool {
        let before = self.operations.len();
        let octets = &mut self.octets;
        self.operations.retain(|cleared| {
            let stays = cleared.id() != id;
            *octets -= if stays { 0 } else { cleared.size() };
            stays
        });
        self.operations.len() < before
    }
}

/// Whose password it is.
pub(super) enum Whose {
    Own,
    Named(String),
}

impl Connection {
    pub(super) fn forward(&mut self, cleared: Cleared, now: Instant) -> Next {
        if cleared.changes_password() {
            let whose = cleared.password_of().map_or(Whose::Own, Whose::Named);
            self.changes_of_passwords.push((cleared.id(), whose));
        }
        if cleared.abandons().is_some() {
            self.forget_abandoned_at.get_or_insert(now + ABANDONED);
        }
        if cleared.op() == Op::SearchRequest && self.client.policy.time_limit_seconds != 0 {
            self.wire.began(cleared.id(), now.into_std());
        }
        match &mut self.far {
            Far::Open(far) => far.send(cleared, now),
            Far::Connecting { waiting, .. } => match cleared.abandons() {
                Some(id) if waiting.take_out(id) => self.wire.never_sent(id),
                _ => waiting.push(cleared),
            },
            Far::None => match (&self.client.directory, self.wire.state()) {
                (Some(directory), State::Anonymous) => {
                    let directory = Arc::clone(directory);
                    let connecting = async move { OpenUpstream::connect_anonymous(&directory).await };
                    let mut waiting = Waiting::default();
                    waiting.push(cleared);
                    self.far = Far::Connecting { connecting: Box::pin(connecting), waiting };
                }
                // Whoever is bound is so on a connection; another one would not be bound.
                _ => return self.upstream_lost(),
            },
        }
        Next::Go
    }

    pub(super) fn connected(&mut self, connected: Result<OpenUpstream, ConnectError>) -> Next {
        let Far::Connecting { waiting, .. } = std::mem::replace(&mut self.far, Far::None) else { return Next::Go };
        match connected {
            Ok(mut far) => {
                waiting.send_to(&mut far, Instant::now());
                self.far = Far::Open(Box::new(far));
                Next::Go
            }
            Err(error) => {
                tracing::warn!(error = %service_kit::chain(&error), "no server of the directory can be reached");
                self.upstream_lost()
            }
        }
    }

    pub(super) fn read_upstream(&mut self) -> Next {
        let now = Instant::now();
        self.last_activity = now;
        loop {
            let Far::Open(far) = &mut self.far else { return Next::Go };
            let message = match far.next_message(now) {
                Ok(Some(message)) => message,
                Ok(None) => return self.after_work(),
                Err(error) => {
                    tracing::warn!(client = self.client.name(), %error, "the directory sent what is not LDAP");
                    return self.upstream_lost();
                }
            };
            match self.wire.receive_upstream(&message) {
                FromUpstream::Relay(octets) => self.near.send(octets, now),
                FromUpstream::End { octets, code } => {
                    if let Some(op) = request_of(message.op()) {
                        self.shared.metrics.operation(self.client.name(), op, code);
                    }
                    match code {
                        ResultCode::SUCCESS => self.password_changed(message.id()),
                        _ => self.changes_of_passwords.retain(|(changing, _)| *changing != message.id()),
                    }
                    self.near.send(octets, now);
                }
                FromUpstream::Limited(limited) => match self.limit_reached(limited, now) {
                    Next::Go => {}
                    end => return end,
                },
                FromUpstream::Drop => {}
                FromUpstream::Disconnect(notice) => {
                    self.wire.closed();
                    self.near.send(notice, now);
                    return Next::Close;
                }
                FromUpstream::Violation => {
                    tracing::warn!(client = self.client.name(), "the directory answered what nobody asked");
                    return self.upstream_lost();
                }
            }
        }
    }

    /// A search ends before the directory ends it (L-18).
    pub(super) fn limit_reached(&mut self, limited: Limited, now: Instant) -> Next {
        self.count(Op::SearchRequest, &limited.answer);
        self.near.send(limited.answer, now);
        self.last_activity = now;
        limited.abandon.map_or(Next::Go, |abandon| self.forward(abandon, now))
    }

    /// Nothing is remembered of somebody whose password the directory has just changed (L-14, V-52).
    fn password_changed(&mut self, id: MessageId) {
        if let Some(place) = self.changes_of_passwords.iter().position(|(changing, _)| *changing == id) {
            let (_, whose) = self.changes_of_passwords.swap_remove(place);
            self.forget_remembered(whose);
        }
    }

    fn forget_remembered(&self, whose: Whose) {
        let (verifier, client, bound) = (self.shared.verifier.clone(), self.client.clone(), self.bound.clone());
        // Who is bound may be of another directory or domain than the client's (FD-19, FD-02); what they name is there, too.
        let (bound, of_bound) = bound.unzip();
        let directory = of_bound.or_else(|| client.directory.clone());
        let Ok(seat) = Arc::clone(&self.shared.reports).try_acquire_owned() else {
            return verify::password_change_lost(client.name(), &"too many reports wait already");
        };
        drop(self.shared.shutdown.spawn(async move {
            let subject = match (whose, directory) {
                (Whose::Own, _) => Ok(bound),
                (Whose::Named(name), Some(directory)) => bind::named(&directory, &name).await,
                (Whose::Named(_), None) => Ok(None),
            };
            match subject {
                Ok(Some(subject)) => verifier.password_changed(&subject, client.name()).await,
                // Of somebody whom nobody finds nothing is remembered.
                Ok(None) => {}
                Err(error) => verify::password_change_lost(client.name(), &service_kit::chain(&error)),
            }
            drop(seat);
        }));
    }

    /// What the client asked for in front of its Unbind is sent, as if it had asked the directory itself.
    pub(super) async fn unbind_upstream(&mut self, limit: Duration) {
        let unbinding = match std::mem::replace(&mut self.far, Far::None) {
            Far::None => return,
            Far::Open(far) => far.unbind(limit).boxed(),
            Far::Connecting { connecting, waiting } => async move {
                let Ok(mut far) = connecting.await else { return };
                waiting.send_to(&mut far, Instant::now());
                far.unbind(limit).await;
            }
            .boxed(),
        };
        // However slow the directory is: nobody is there to wait for it.
        let _: Result<(), _> = tokio::time::timeout(limit, unbinding).await;
    }

    /// The upstream connection goes, and with it whoever was bound on it.
    pub(super) fn leave_upstream(&mut self) {
        self.far = Far::None;
        // Nobody hears what became of these. One's own password may be another one now; whoever only names somebody must not end
        // what is remembered of them by hanging up.
        let (own, named): (Vec<_>, Vec<_>) = std::mem::take(&mut self.changes_of_passwords)
            .into_iter()
            .map(|(_, whose)| whose)
            .partition(|whose| matches!(whose, Whose::Own));
        if let Some(own) = own.into_iter().next() {
            self.forget_remembered(own);
        }
        if !named.is_empty() {
            verify::password_change_lost(self.client.name(), &"the connection ended before the directory had answered");
        }
        (self.bound, self.service, self.person) = (None, None, None);
    }

    /// L-19.
    pub(super) fn upstream_lost(&mut self) -> Next {
        self.leave_upstream();
        let lost = self.wire.upstream_lost();
        let now = Instant::now();
        lost.answers.into_iter().for_each(|answer| self.near.send(answer, now));
        match lost.notice {
            Some(notice) => {
                self.near.send(notice, now);
                Next::Close
            }
            None => self.after_work(),
        }
    }

    pub(super) fn count(&self, op: Op, answer: &Bytes) {
        if let Some(code) = result_code(answer) {
            self.shared.metrics.operation(self.client.name(), op, code);
        }
    }
}

/// The code of a response that we built or relay; `None` for what has none.
pub(super) fn result_code(response: &Bytes) -> Option<ResultCode> {
    let message = Message::parse(response.clone()).ok()?;
    LdapResult::decode(&message).ok().map(|result| result.code)
}

/// Which request a final response belongs to.
fn request_of(response: Op) -> Option<Op> {
    Some(match response {
        Op::SearchResultDone => Op::SearchRequest,
        Op::ModifyResponse => Op::ModifyRequest,
        Op::AddResponse => Op::AddRequest,
        Op::DelResponse => Op::DelRequest,
        Op::ModifyDnResponse => Op::ModifyDnRequest,
        Op::CompareResponse => Op::CompareRequest,
        Op::ExtendedResponse => Op::ExtendedRequest,
        _ => return None,
    })
}
