//! A bind of the client: from its request over both locks to its answer.

use super::operations::result_code;
use super::{Connection, Far, Next};
use crate::attempt::Attempt;
use crate::bind::{self, FirstLock, Passed, Refused, SecondLock};
use crate::forward::GatedUpstream;
use crate::reply::{Manner, Refusal};
use crate::verify::Allow;
use bytes::Bytes;
use directory::Directory;
use domain::{DirectoryRef, ObjectId, Reason};
use futures::future::BoxFuture;
use ldap_wire::connection::{BoundAs, GatedBind, PendingBind, Primary};
use ldap_wire::{BindRequest, Message, Op, ResultCode, oid};
use std::sync::Arc;
use tokio::time::Instant;

/// A bind in work.
pub(super) enum Bind {
    First { work: BoxFuture<'static, FirstLock>, asked_policy: bool },
    Second { work: BoxFuture<'static, (Attempt, Result<Allow, Refusal>)>, gate: Box<Gate>, asked_policy: bool },
}

/// What waits for the second lock, client side and directory side.
pub(super) struct Gate {
    bind: GatedBind,
    upstream: GatedUpstream,
    entry: Option<DirectoryRef>,
    directory: Option<Arc<Directory>>,
}

impl Connection {
    pub(super) fn begin_bind(&mut self, pending: PendingBind, outstanding: usize) {
        let far = std::mem::replace(&mut self.far, Far::None);
        let reuse = match far {
            Far::Open(far) => far.into_bindable(outstanding),
            Far::None | Far::Connecting { .. } => None,
        };
        self.unbind();
        let asked_policy = pending.controls.iter().any(|control| control.oid == oid::PASSWORD_POLICY);
        let attempt = Attempt::begin(&self.shared, &self.client, self.source, self.certificate.clone());
        self.bind = Some(Bind::First { work: Box::pin(bind::first_lock(attempt, pending, reuse)), asked_policy });
    }

    pub(super) fn first_lock_ended(&mut self, first: FirstLock) -> Next {
        let Some(Bind::First { asked_policy, .. }) = self.bind.take() else { return Next::Go };
        let (bind, attempt, refusal) = match first {
            FirstLock::Refused(refused) => {
                let Refused { bind, attempt, refusal } = *refused;
                (bind, attempt, refusal)
            }
            FirstLock::Passed(passed) => {
                let Passed { bind, response, controls, upstream, second } = *passed;
                match self.wire.primary_finished(bind, response, controls) {
                    Primary::Accepted(bind) => {
                        self.begin_second(bind, upstream, second, asked_policy);
                        return Next::Go;
                    }
                    // The core has the last word on what a success is (L-33).
                    Primary::Refused { bind, .. } => {
                        (bind, second.attempt, Refusal::Unavailable(Reason::DirectoryError))
                    }
                }
            }
        };
        let (result, controls) = self.manner(asked_policy).answer(refusal.clone());
        let answer = self.wire.bind_refused(bind, &result, &controls);
        self.bind_refused(attempt, &refusal, result.code, answer)
    }

    fn begin_second(&mut self, bind: GatedBind, upstream: GatedUpstream, second: SecondLock, asked_policy: bool) {
        let (entry, directory) = (second.attempt.subject.entry.clone(), second.attempt.directory.clone());
        let gate = Box::new(Gate { bind, upstream, entry, directory });
        self.bind = Some(Bind::Second { work: Box::pin(bind::second_lock(second)), gate, asked_policy });
    }

    pub(super) fn second_lock_ended(&mut self, attempt: Attempt, decided: Result<Allow, Refusal>) -> Next {
        let Some(Bind::Second { gate, asked_policy, .. }) = self.bind.take() else { return Next::Go };
        let Gate { bind, upstream, entry, directory } = *gate;
        let opened = decided.and_then(|allow| match upstream.open(&allow) {
            Some(far) => Ok((allow, far)),
            None => Err(Refusal::Unavailable(Reason::InternalError)),
        });
        match opened {
            Ok((allow, far)) => {
                let service = allow.reason() == Reason::ServiceAccount;
                let bound_as = if service { BoundAs::Service } else { BoundAs::User };
                // `None`: the client has gone, and the Allow has no effect (L-13).
                let Some(answer) = self.wire.bind_allowed(bind, bound_as) else { return Next::Gone };
                self.far = Far::Open(Box::new(far));
                self.service = entry.as_ref().filter(|_| service).map(|entry| entry.id.clone());
                self.bound = entry.zip(directory);
                self.person = allow.user_id().filter(|_| !service).map(|user_id| self.shared.bound.enters(user_id));
                // It may have been taken off the list meanwhile.
                self.outdated |= self.service.as_ref().is_some_and(|id| !self.lists(id));
                self.seat.set_bound(true);
                self.near.set_limits(self.wire.limits());
                self.count(Op::BindRequest, &answer);
                self.near.send(answer, Instant::now());
                attempt.end_allowed(&allow);
                self.after_work()
            }
            Err(refusal) => {
                // The upstream connection is closed by now, before the client hears anything (L-32).
                let (result, controls) = self.manner(asked_policy).answer(refusal.clone());
                let answer = self.wire.bind_refused(bind, &result, &controls);
                self.bind_refused(attempt, &refusal, result.code, answer)
            }
        }
    }

    fn bind_refused(&mut self, attempt: Attempt, refusal: &Refusal, code: ResultCode, answer: Option<Bytes>) -> Next {
        let Some(answer) = answer else { return Next::Gone };
        self.count(Op::BindRequest, &answer);
        self.near.send(answer, Instant::now());
        attempt.end_refused(refusal.reason(), code);
        self.last_activity = Instant::now();
        self.after_work()
    }

    /// A bind that no directory was asked about is an attempt too, unless it only wants to be nobody.
    pub(super) fn record_local(&self, typed: String, answer: &Bytes) {
        let Some(code) = result_code(answer) else { return };
        let Some(reason) = bind::local_reason(code) else { return };
        let mut attempt = Attempt::begin(&self.shared, &self.client, self.source, self.certificate.clone());
        attempt.subject.username = typed;
        attempt.end_refused(reason, code);
    }

    /// From the moment a bind begins the client is nobody (RFC 4511 section 4.2.1).
    pub(super) fn unbind(&mut self) {
        self.leave_upstream();
        self.seat.set_bound(false);
    }

    pub(super) fn lists(&self, id: &ObjectId) -> bool {
        self.client.lists(id, self.source, self.certificate.as_deref())
    }

    pub(super) fn bind_is_pending(&self) -> bool {
        self.bind.is_some()
    }

    fn manner(&self, asked_policy: bool) -> Manner {
        Manner {
            style: self.client.policy.style,
            unavailable_code: self.client.settings.unavailable_code,
            asked_policy,
        }
    }
}

pub(super) fn bind_name(message: &Message) -> Option<String> {
    let request = BindRequest::decode(message).ok()?;
    Some(String::from_utf8_lossy(request.typed_name()).chars().take(NAME_SIGNS_MAX).collect())
}

/// Of a name that is only reported.
const NAME_SIGNS_MAX: usize = 256;
