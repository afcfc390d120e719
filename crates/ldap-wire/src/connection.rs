//! What is to be done with each message of one client connection (B2). Pure: the gateway does it.
//!
//! ```text
//!              StartTLS                  primary_finished         bind_allowed
//!   Anonymous ─────────> StartingTls    ┌────────────────> second ────────────> Bound(service | user)
//!       │  ^                  │         │                    │                       │
//!       │  └──── begin_tls ───┘         │    bind_refused    │                       │
//!       └────── bind ────────────> primary ──────────────────┴────> Anonymous <──────┘ the next bind, allowed or not
//! ```
//!
//! The gate (L-31) is made of types. Only a `Cleared` may be sent upstream on behalf of the client, and only `receive` makes one,
//! never while a bind is pending; a limit of ours makes one that abandons another. Only a `GatedBind` can be allowed, and only a successful primary answer makes one (L-33).
//!
//! Every bind, whatever becomes of it, starts with `Action::Bind` or `Action::AnswerBind`: the gateway drops the upstream
//! connection then, and with it whatever was outstanding (L-11, L-32). Message ids are the client's on both sides, since each
//! client connection has an upstream connection of its own (L-30).

mod binds;
mod policy;
mod upstream;

pub use binds::{GatedBind, PendingBind, Primary, Ticket};
pub use policy::{Anonymous, Operations, Policy};
pub use upstream::{FromUpstream, UpstreamLost};

use crate::control::Control;
use crate::extended::{self, ExtendedRequest, ExtendedResponse};
use crate::frame::Limits;
pub use crate::limit::Limited;
use crate::limit::OwnLimit;
use crate::message::{DecodeError, Message, MessageId, Op};
use crate::modify;
use crate::oid;
use crate::request::{self, Kind, Request};
use crate::result::{self, LdapResult, ResultCode};
use crate::root_dse;
use crate::search::{SearchHead, SearchRequest};
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// Abandoned operations that are remembered; beyond, an operation is not abandoned any more.
const RETIRED_MAX: usize = 1024;

/// One client connection.
pub struct ClientConnection {
    policy: Arc<Policy>,
    tls: bool,
    state: State,
    /// Of the last bind begun; only its ticket counts.
    token: Arc<()>,
    /// At most `pending_max`, so few that a table would cost more than it saves.
    outstanding: Vec<Outstanding>,
    /// Abandoned, and perhaps still answered by the upstream (L-06); the longest ago first. At most `RETIRED_MAX`.
    retired: Vec<MessageId>,
    /// How many of them, from the first on, were there at the last `forget_abandoned`.
    retired_before: usize,
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Anonymous,
    StartingTls,
    /// The directory is checking the password.
    PrimaryPending(MessageId),
    /// The password was right; the second factor is awaited.
    SecondPending(MessageId),
    Bound(BoundAs),
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundAs {
    Service,
    User,
}

struct Outstanding {
    id: MessageId,
    op: Op,
    changes_password: bool,
    root_dse: Option<RootDseSearch>,
    limit: OwnLimit,
}

struct RootDseSearch {
    requested: Vec<String>,
    types_only: bool,
}

/// What the gateway does with a message of the client.
#[must_use]
pub enum Action {
    /// Send this; nothing else changes.
    Answer(Bytes),
    /// A bind was decided here: drop the upstream connection, then send this. The connection is anonymous.
    AnswerBind(Bytes),
    /// A bind to check: drop the upstream connection, check, and come back with the ticket. Keep reading the client meanwhile.
    Bind(PendingBind),
    /// Send on the upstream connection, which is opened for it if there is none.
    Forward(Cleared),
    /// A search of the root DSE. Either forward it (`receive_upstream` rewrites the entry), or answer it from a copy with
    /// `root_dse::rewrite` and report it with `answered`.
    RootDse { search: SearchRequest, cleared: Cleared },
    /// Call `begin_tls` with the receive buffer, drop the upstream connection, send this, then do the handshake.
    StartTls(Bytes),
    /// Nothing to do.
    Ignore,
    /// Send the notice, if any, and close; cancel a pending bind (L-13).
    Close { notice: Option<Bytes> },
}

/// A client's operation that may be sent upstream, as the octets it came in, or the end of one.
#[derive(PartialEq, Eq)]
pub struct Cleared {
    id: MessageId,
    op: Op,
    octets: Bytes,
    changes_password: bool,
    abandons: Option<MessageId>,
}

/// Without the octets: there may be a password among them.
impl fmt::Debug for Cleared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.op, self.id)
    }
}

impl Cleared {
    pub fn id(&self) -> MessageId {
        self.id
    }

    pub fn op(&self) -> Op {
        self.op
    }

    /// The operation that is abandoned by it.
    pub fn abandons(&self) -> Option<MessageId> {
        self.abandons
    }

    /// The bound user's password changes, or somebody else's: remembered logins end (L-14, V-52).
    pub fn changes_password(&self) -> bool {
        self.changes_password
    }

    /// Whose password changes: a DN, or what else the client calls them. `None`: of whoever is bound.
    pub fn password_of(&self) -> Option<String> {
        let message = Message::parse(self.octets.clone()).ok()?;
        let name = match self.op {
            Op::ModifyRequest => modify::object(&message).ok(),
            _ => ExtendedRequest::decode(&message).ok()?.password_modify_user().ok()?,
        }?;
        Some(String::from_utf8_lossy(&name).into_owned())
    }

    /// In octets.
    pub fn size(&self) -> usize {
        self.octets.len()
    }

    pub fn into_octets(self) -> Bytes {
        self.octets
    }
}

impl ClientConnection {
    /// `tls` for a connection that began with a handshake.
    pub fn new(policy: Arc<Policy>, tls: bool) -> Self {
        Self {
            policy,
            tls,
            state: State::Anonymous,
            token: Arc::new(()),
            outstanding: Vec::new(),
            retired: Vec::new(),
            retired_before: 0,
        }
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn is_tls(&self) -> bool {
        self.tls
    }

    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// The framer's limits in this state (L-01).
    pub fn limits(&self) -> Limits {
        match self.state {
            State::Bound(_) => Limits::AUTHENTICATED,
            _ => Limits::UNAUTHENTICATED,
        }
    }

    /// Decides about a client's message.
    pub fn receive(&mut self, message: Message) -> Action {
        match self.state {
            State::Closed => return Action::Ignore,
            // Octets after a StartTLS request and before the handshake are an injection (L-08).
            State::StartingTls => return self.close(None),
            _ => {}
        }
        match request::read(&message) {
            Ok(request) => self.decide(message, request),
            Err(DecodeError::Ber(_)) => {
                let notice = result::notice_of_disconnection(&LdapResult::of(ResultCode::PROTOCOL_ERROR));
                self.close(Some(notice))
            }
            Err(_) => {
                let refused = LdapResult::of(ResultCode::PROTOCOL_ERROR);
                if message.op() == Op::BindRequest && !self.is_bind_pending() {
                    self.refuse_bind(message.id(), refused)
                } else {
                    self.answer(&message, refused)
                }
            }
        }
    }

    fn decide(&mut self, message: Message, request: Request) -> Action {
        if message.op() == Op::UnbindRequest {
            return self.close(None);
        }
        if let State::PrimaryPending(bind) | State::SecondPending(bind) = self.state {
            return self.while_bind_is_pending(bind, &message, &request.kind);
        }
        if self.is_outstanding(message.id()) || self.retired.contains(&message.id()) {
            return self.answer(&message, LdapResult::with_diagnostic(ResultCode::PROTOCOL_ERROR, "message id in use"));
        }
        let Request { kind, controls } = request;
        let starts_tls = matches!(&kind, Kind::Extended(request) if request.oid == oid::START_TLS);
        if self.policy.tls_first && !self.tls && !starts_tls {
            let refused = LdapResult::of(ResultCode::CONFIDENTIALITY_REQUIRED);
            return match message.op() {
                Op::BindRequest => self.refuse_bind(message.id(), refused),
                _ => self.answer(&message, refused),
            };
        }
        match kind {
            Kind::Bind(bind) => self.bind(message, bind, &controls),
            Kind::Abandon { target } => self.abandon(&message, target),
            Kind::Extended(extended) => self.extended(&message, extended, &controls),
            kind => self.operation(&message, &kind, &controls),
        }
    }

    /// L-12. The pending bind goes on whatever comes.
    fn while_bind_is_pending(&self, bind: MessageId, message: &Message, kind: &Kind) -> Action {
        match kind {
            // There is nothing else outstanding that could be abandoned.
            Kind::Abandon { .. } => Action::Ignore,
            Kind::Extended(request) if request.cancel_target() == Ok(Some(bind)) => {
                self.answer(message, LdapResult::of(ResultCode::CANNOT_CANCEL))
            }
            _ => self.answer(message, LdapResult::with_diagnostic(ResultCode::PROTOCOL_ERROR, "bind in progress")),
        }
    }

    fn abandon(&mut self, message: &Message, target: MessageId) -> Action {
        // RFC 4511 section 4.11: a server need not do it, and unknown ids are ignored. Not forwarding them bounds what a flood costs
        // (B-55); what became of a password has to be heard (V-52); and an id that is remembered no longer could be taken for another
        // operation's.
        let outstanding = self.outstanding.iter().find(|it| it.id == target);
        if outstanding.is_none_or(|it| it.changes_password) || self.retired.len() >= RETIRED_MAX {
            return Action::Ignore;
        }
        self.end_of(target);
        self.retired.push(target);
        Action::Forward(Cleared { abandons: Some(target), ..cleared(message, false) })
    }

    fn extended(&mut self, message: &Message, request: ExtendedRequest, controls: &[Control]) -> Action {
        if request.oid == oid::START_TLS {
            return self.start_tls(message, &request);
        }
        if !self.policy.forwards_extended_operation(&request.oid) {
            return self.answer(message, LdapResult::of(ResultCode::PROTOCOL_ERROR));
        }
        match request.cancel_target() {
            Err(_) => return self.answer(message, LdapResult::of(ResultCode::PROTOCOL_ERROR)),
            Ok(Some(target)) if !self.is_outstanding(target) => {
                return self.answer(message, LdapResult::of(ResultCode::NO_SUCH_OPERATION));
            }
            Ok(_) => {}
        }
        self.operation(message, &Kind::Extended(request), controls)
    }

    /// L-08.
    fn start_tls(&mut self, message: &Message, request: &ExtendedRequest) -> Action {
        let code = if request.value.is_some() {
            ResultCode::PROTOCOL_ERROR // RFC 4511 section 4.14.1: the value is absent
        } else if self.tls || !self.outstanding.is_empty() {
            ResultCode::OPERATIONS_ERROR
        } else if !self.policy.start_tls {
            ResultCode::PROTOCOL_ERROR
        } else {
            ResultCode::SUCCESS
        };
        let mut response = ExtendedResponse::of(LdapResult::of(code));
        response.oid = Some(oid::START_TLS.to_owned());
        let response = response.encode(message.id(), &[]);
        if code != ResultCode::SUCCESS {
            return Action::Answer(response);
        }
        self.forget_session();
        self.state = State::StartingTls;
        Action::StartTls(response)
    }

    /// Whatever may go upstream.
    fn operation(&mut self, message: &Message, kind: &Kind, controls: &[Control]) -> Action {
        if let Some(refused) = self.refused_control(controls) {
            return self.answer(message, refused);
        }
        let changes_password = match kind {
            Kind::Modify { changes_password } => *changes_password,
            Kind::Extended(request) => request.oid == oid::PASSWORD_MODIFY,
            _ => false,
        };
        let brings_password = changes_password || matches!(kind, Kind::Add { brings_password: true });
        if let Some(refused) = self.refused_operation(message.op(), kind, brings_password) {
            return self.answer(message, refused);
        }
        if self.outstanding.len() >= self.policy.pending_max {
            return self.answer(message, LdapResult::of(ResultCode::BUSY));
        }
        let (mut cleared, mut root_dse) = (cleared(message, changes_password), None);
        let mut limit = OwnLimit::default();
        if let Kind::Search(head) = kind {
            limit = OwnLimit::of(*head, &self.policy);
            // Only what is not passed on as it came has to be taken apart.
            if head.root_dse || !limit.is_none() {
                let Ok(search) = SearchRequest::decode(message) else {
                    return self.answer(message, LdapResult::of(ResultCode::PROTOCOL_ERROR));
                };
                let asked = if head.root_dse { root_dse::asked_for(&search) } else { Some(search.clone()) };
                let Some(asked) = asked else { return self.answer(message, nothing_found(controls)) };
                let asked = limit.within(asked);
                if asked != search {
                    cleared.octets = asked.encode(message.id(), controls);
                }
                root_dse = head.root_dse.then_some(search);
            }
        }
        let remembered = root_dse
            .as_ref()
            .map(|search| RootDseSearch { requested: search.attributes.clone(), types_only: search.types_only });
        let (id, op) = (message.id(), message.op());
        self.outstanding.push(Outstanding { id, op, changes_password, root_dse: remembered, limit });
        match root_dse {
            Some(search) => Action::RootDse { search, cleared },
            None => Action::Forward(cleared),
        }
    }

    /// An operation that was cleared begins now: a limit of ours in seconds runs from here.
    pub fn began(&mut self, id: MessageId, now: Instant) {
        if let Some(begun) = self.outstanding.iter_mut().find(|it| it.id == id) {
            begun.limit.begin(now);
        }
    }

    /// When the first search reaches a limit of ours in seconds.
    pub fn next_end(&self) -> Option<Instant> {
        self.outstanding.iter().filter_map(|it| it.limit.ends()).min()
    }

    /// The searches that have reached it.
    pub fn end_overdue(&mut self, now: Instant) -> Vec<Limited> {
        let overdue = self.outstanding.iter().filter(|it| it.limit.ends().is_some_and(|ends| ends <= now));
        let overdue: Vec<MessageId> = overdue.map(|it| it.id).collect();
        overdue.into_iter().map(|id| self.limit_reached(id)).collect()
    }

    /// Where no more ids can be remembered, the directory is left to end the search, and its place is taken until it does.
    fn limit_reached(&mut self, id: MessageId) -> Limited {
        let answer = LdapResult::of(ResultCode::ADMIN_LIMIT_EXCEEDED).encode(id, Op::SearchResultDone, &[]);
        if self.retired.len() >= RETIRED_MAX {
            self.outstanding.iter_mut().filter(|it| it.id == id).for_each(|it| it.limit.reached = true);
            return Limited { answer, abandon: None };
        }
        let free = |id: &MessageId| !self.is_outstanding(*id) && !self.retired.contains(id);
        let own = (1..=MessageId::MAX.get()).rev().filter_map(MessageId::new).find(free);
        let abandon = own.map(|own| Cleared {
            id: own,
            op: Op::AbandonRequest,
            octets: extended::abandon_request(own, id),
            changes_password: false,
            abandons: Some(id),
        });
        self.end_of(id);
        self.retired.push(id);
        Limited { answer, abandon }
    }

    fn refused_operation(&self, op: Op, kind: &Kind, brings_password: bool) -> Option<LdapResult> {
        let bound = matches!(self.state, State::Bound(_));
        let root_dse = matches!(kind, Kind::Search(SearchHead { root_dse: true, .. }));
        let allowed = bound
            || match self.policy.anonymous {
                Anonymous::RootDse => root_dse,
                Anonymous::Refuse => false,
                Anonymous::Forward => !brings_password,
            };
        if !allowed {
            return Some(self.policy.style.bind_required());
        }
        let offered = match (self.policy.operations, kind) {
            (Operations::All, _) => true,
            (Operations::Read, Kind::Search(_)) => true,
            (Operations::Read, Kind::Extended(request)) => [oid::WHO_AM_I, oid::CANCEL].contains(&&*request.oid),
            (Operations::Read, _) => op == Op::CompareRequest,
            // The root DSE tells a client how to bind.
            (Operations::Bind, _) => root_dse,
        };
        if !offered {
            return Some(LdapResult::of(ResultCode::UNWILLING_TO_PERFORM));
        }
        let confidential = self.tls && self.policy.upstream_tls;
        (brings_password && !confidential).then(|| LdapResult::of(ResultCode::CONFIDENTIALITY_REQUIRED))
    }

    /// L-15. A listed control that is not critical is refused too, as RFC 4370 section 3 wants for proxied authorization: taking
    /// it out would make another request of it.
    fn refused_control(&self, controls: &[Control]) -> Option<LdapResult> {
        let listed = controls.iter().find(|control| self.policy.refused_controls.contains(&control.oid))?;
        Some(LdapResult::of(match listed.critical {
            true => ResultCode::UNAVAILABLE_CRITICAL_EXTENSION,
            false => ResultCode::PROTOCOL_ERROR,
        }))
    }

    /// To be called between the StartTLS answer and the handshake with what has been received and not parsed. If anything has,
    /// somebody put it there: the connection is to be closed (L-08, B-53).
    pub fn begin_tls(&mut self, received: &[u8]) -> Result<(), GluedOctets> {
        if self.state != State::StartingTls || !received.is_empty() {
            self.closed();
            return Err(GluedOctets);
        }
        self.tls = true;
        self.state = State::Anonymous;
        Ok(())
    }

    /// The gateway has answered this operation itself.
    pub fn answered(&mut self, id: MessageId) {
        self.end_of(id);
    }

    /// The client is gone. A pending bind is to be cancelled; its ticket is worth nothing from now on (L-13).
    pub fn closed(&mut self) {
        self.forget_session();
        self.state = State::Closed;
    }

    fn close(&mut self, notice: Option<Bytes>) -> Action {
        self.closed();
        Action::Close { notice }
    }

    fn is_outstanding(&self, id: MessageId) -> bool {
        self.outstanding.iter().any(|it| it.id == id)
    }

    fn end_of(&mut self, id: MessageId) {
        if let Some(place) = self.outstanding.iter().position(|it| it.id == id) {
            self.outstanding.swap_remove(place);
        }
    }

    fn forget_session(&mut self) {
        self.outstanding.clear();
        self.forget_retired();
    }

    fn forget_retired(&mut self) {
        (self.retired, self.retired_before) = (Vec::new(), 0);
    }

    /// A result for a request of any kind; requests that have no answer are ignored.
    fn answer(&self, request: &Message, result: LdapResult) -> Action {
        match request.op().response() {
            Some(response) => Action::Answer(result.encode(request.id(), response, &[])),
            None => Action::Ignore,
        }
    }
}

/// Octets between a StartTLS request and the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("octets between StartTLS and the handshake")]
pub struct GluedOctets;

/// The end of a search that no directory is asked about, which would have to know what is critical.
fn nothing_found(controls: &[Control]) -> LdapResult {
    let critical = controls.iter().any(|control| control.critical);
    LdapResult::of(if critical { ResultCode::UNAVAILABLE_CRITICAL_EXTENSION } else { ResultCode::SUCCESS })
}

fn cleared(message: &Message, changes_password: bool) -> Cleared {
    Cleared { id: message.id(), op: message.op(), octets: message.octets().clone(), changes_password, abandons: None }
}
