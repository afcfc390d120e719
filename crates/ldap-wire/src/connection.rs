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

use crate::bind::{Authentication, BindRequest, BindResponse};
use crate::control::Control;
use crate::dn::{self, Dn};
use crate::extended::{self, ExtendedRequest, ExtendedResponse};
use crate::frame::Limits;
pub use crate::limit::Limited;
use crate::limit::OwnLimit;
use crate::message::{DecodeError, Message, MessageId, Op};
use crate::modify;
use crate::oid;
use crate::referral::{self, Referrals};
use crate::request::{self, Kind, Request};
use crate::result::{self, LdapResult, ResultCode, Style};
use crate::root_dse;
use crate::sasl;
use crate::search::{SearchHead, SearchRequest, SearchResultEntry};
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// The rules of one client, from its settings. The default is the strict side of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub style: Style,
    /// We have a certificate, so StartTLS can be offered.
    pub start_tls: bool,
    /// The upstream connection is encrypted.
    pub upstream_tls: bool,
    /// Nothing but StartTLS without TLS: who the client is, its certificate says (FL-22).
    pub tls_first: bool,
    /// Take passwords without TLS (L-07).
    pub danger_allow_cleartext: bool,
    pub anonymous: Anonymous,
    pub operations: Operations,
    pub referrals: Referrals,
    /// PLAIN inside TLS reaches `Action::Bind`, as the simple bind that it is (L-36).
    pub sasl_plain: bool,
    /// EXTERNAL inside TLS reaches `Action::Bind`: whose the certificate is, the gateway knows. All others are refused with 7.
    pub sasl_external: bool,
    /// OIDs of extended operations that are forwarded (L-14). StartTLS is always ours; fast bind and batch never pass.
    pub extended_operations: Vec<String>,
    /// OIDs of controls that do not pass: refused unless trusted (L-15).
    pub refused_controls: Vec<String>,
    /// Leave names of real servers in the root DSE (L-16).
    pub keep_server_names: bool,
    /// Operations outstanding at once; the next is answered with 51 (L-05).
    pub pending_max: usize,
    /// Entries of a search, and its seconds, at most: whoever asks for more gets no more, and then 11 (L-18). 0 = no limit of ours.
    pub size_limit: u32,
    pub time_limit_seconds: u32,
}

/// What a client may do without a bind (L-10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Anonymous {
    #[default]
    RootDse,
    Refuse,
    Forward,
}

/// What a client may do after a bind (FL-10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Operations {
    #[default]
    All,
    /// Search, compare and Who am I.
    Read,
    Bind,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            style: Style::default(),
            start_tls: false,
            upstream_tls: false,
            tls_first: false,
            danger_allow_cleartext: false,
            anonymous: Anonymous::default(),
            operations: Operations::default(),
            referrals: Referrals::default(),
            sasl_plain: false,
            sasl_external: false,
            extended_operations: [oid::WHO_AM_I, oid::PASSWORD_MODIFY, oid::CANCEL].map(str::to_owned).into(),
            refused_controls: REFUSED_CONTROLS.map(str::to_owned).into(),
            keep_server_names: false,
            pending_max: 64,
            size_limit: 0,
            time_limit_seconds: 0,
        }
    }
}

impl Policy {
    pub(crate) fn forwards_extended_operation(&self, oid: &str) -> bool {
        const NEVER: [&str; 3] = [oid::START_TLS, oid::FAST_BIND, oid::BATCH_REQUEST];
        !NEVER.contains(&oid) && self.extended_operations.iter().any(|allowed| allowed == oid)
    }
}

/// Controls that make somebody else of whoever is bound, or are about server and connection instead of entries: for trusted clients
/// only.
const REFUSED_CONTROLS: [&str; 3] = [oid::PROXIED_AUTHORIZATION, oid::PROXIED_AUTHORIZATION_V1, oid::SHUTDOWN_NOTIFY];
/// Abandoned operations that are remembered; beyond, an operation is not abandoned any more.
const RETIRED_MAX: usize = 1024;
/// The controls that a bind goes to the directory with: the password policy, and to hear who one is (RFC 3829). Neither has a value.
const BIND_CONTROLS: [&str; 2] = [oid::PASSWORD_POLICY, oid::AUTHORIZATION_IDENTITY];
/// A longer bind name is none; the bound that OpenLDAP has for a DN.
const NAME_OCTETS_MAX: usize = 8192;

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

/// A bind that awaits the directory's word.
#[must_use]
pub struct PendingBind {
    ticket: Ticket,
    pub request: BindRequest,
    /// What the directory is asked along with it. A directory hears of known names only, so that nothing in here may be a reason of
    /// its own to refuse (L-41): no control is critical, and each is as its specification has it.
    pub controls: Vec<Control>,
    /// Those of them that were critical: 12 for whoever it is, where the directory does not know them.
    pub insists_on: Vec<&'static str>,
}

/// A bind whose password the directory has accepted, and which awaits the decision.
#[must_use]
pub struct GatedBind {
    ticket: Ticket,
    primary: BindResponse,
    controls: Vec<Control>,
}

/// Stands for one bind of one connection and for no other.
pub struct Ticket {
    id: MessageId,
    token: Arc<()>,
}

impl From<PendingBind> for Ticket {
    fn from(bind: PendingBind) -> Self {
        bind.ticket
    }
}

impl From<GatedBind> for Ticket {
    fn from(bind: GatedBind) -> Self {
        bind.ticket
    }
}

/// What the directory's answer makes of a pending bind.
#[must_use]
pub enum Primary {
    /// Now the decision, then `bind_allowed` or `bind_refused`.
    Accepted(GatedBind),
    /// The answer and its controls as they came, and the ticket for `bind_refused`.
    Refused { bind: PendingBind, response: BindResponse, controls: Vec<Control> },
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

    fn bind(&mut self, message: Message, request: BindRequest, controls: &[Control]) -> Action {
        let id = message.id();
        let request = match self.without_sasl(request) {
            Ok(request) => request,
            Err(refused) => return self.refuse_bind(id, refused),
        };
        if let Some(refused) = self.refused_before_asking(&request) {
            return self.refuse_bind(id, refused);
        }
        if let Some(refused) = self.refused_control(controls) {
            return self.refuse_bind(id, refused);
        }
        // Here, and not at the directory, which hears of known names only: its 12 would tell them from unknown ones (L-41).
        if controls.iter().any(|control| control.critical && !BIND_CONTROLS.contains(&control.oid.as_str())) {
            return self.refuse_bind(id, LdapResult::of(ResultCode::UNAVAILABLE_CRITICAL_EXTENSION));
        }
        let asked = |oid: &&str| controls.iter().any(|control| control.oid == *oid);
        let insisted_on = |oid: &&str| controls.iter().any(|control| control.oid == *oid && control.critical);
        let insists_on = BIND_CONTROLS.into_iter().filter(insisted_on).collect();
        let controls = BIND_CONTROLS.into_iter().filter(asked).map(|oid| Control::new(oid, false, None)).collect();
        drop(message);
        if let Authentication::Simple(password) = &request.authentication
            && password.is_empty()
        {
            // Both are empty here: a wish to be anonymous (RFC 4513 section 5.1.1).
            let code = match self.policy.anonymous {
                Anonymous::Refuse => ResultCode::INAPPROPRIATE_AUTHENTICATION,
                Anonymous::RootDse | Anonymous::Forward => ResultCode::SUCCESS,
            };
            return self.refuse_bind(id, LdapResult::of(code));
        }
        self.forget_session();
        self.token = Arc::new(());
        self.state = State::PrimaryPending(id);
        let ticket = Ticket { id, token: Arc::clone(&self.token) };
        Action::Bind(PendingBind { ticket, request, controls, insists_on })
    }

    /// The request in the words of a simple bind, where it is PLAIN, so that all rules of the one hold for the other (L-36); as it
    /// is otherwise.
    fn without_sasl(&self, request: BindRequest) -> Result<BindRequest, LdapResult> {
        match &request.authentication {
            Authentication::Sasl { mechanism, .. } if mechanism == sasl::PLAIN && self.policy.sasl_plain => {}
            _ => return Ok(request),
        }
        if request.version != BindRequest::VERSION {
            return Err(LdapResult::of(ResultCode::PROTOCOL_ERROR));
        }
        // Whatever may come in clear text otherwise (RFC 4616 section 4).
        if !self.tls {
            return Err(LdapResult::of(ResultCode::CONFIDENTIALITY_REQUIRED));
        }
        let plain = request.plain().ok_or(LdapResult::of(ResultCode::PROTOCOL_ERROR))?;
        if plain.password.is_empty() {
            // With a name or without one: to be nobody is another mechanism's wish (L-10).
            return Err(LdapResult::of(ResultCode::UNWILLING_TO_PERFORM));
        }
        match plain.is_for_oneself() {
            true => Ok(plain.into()),
            false => Err(self.policy.style.invalid_credentials()),
        }
    }

    /// Binds that reach no directory (L-07, L-09, L-10, L-36, B5).
    fn refused_before_asking(&self, request: &BindRequest) -> Option<LdapResult> {
        if request.version != BindRequest::VERSION {
            return Some(LdapResult::of(ResultCode::PROTOCOL_ERROR));
        }
        let password = match &request.authentication {
            Authentication::Simple(password) => password,
            Authentication::Sasl { mechanism, credentials }
                if mechanism == sasl::EXTERNAL && self.policy.sasl_external && self.tls =>
            {
                // Whom one wants to be taken for: the certificate says it, and nothing else does.
                let asks_more = credentials.as_ref().is_some_and(|authorization| !authorization.is_empty());
                return asks_more.then(|| self.policy.style.invalid_credentials());
            }
            Authentication::Sasl { .. } | Authentication::Other { .. } => {
                return Some(LdapResult::of(ResultCode::AUTH_METHOD_NOT_SUPPORTED));
            }
        };
        match (request.name.is_empty(), password.is_empty()) {
            (true, true) => return None,
            (false, true) => return Some(LdapResult::of(ResultCode::UNWILLING_TO_PERFORM)),
            (_, false) if !self.tls && !self.policy.danger_allow_cleartext => {
                return Some(LdapResult::of(ResultCode::CONFIDENTIALITY_REQUIRED));
            }
            (true, false) => return Some(self.policy.style.invalid_credentials()),
            (false, false) => {}
        }
        // A name that is no text, or that means to be a DN and is none.
        let sound = request.name.len() <= NAME_OCTETS_MAX
            && std::str::from_utf8(&request.name)
                .is_ok_and(|name| !dn::is_dn_shaped(name) || name.parse::<Dn>().is_ok());
        (!sound).then(|| LdapResult::of(ResultCode::INVALID_DN_SYNTAX))
    }

    /// The end of a bind that was decided here. After any bind request the client is nobody (RFC 4511 section 4.2.1).
    fn refuse_bind(&mut self, id: MessageId, result: LdapResult) -> Action {
        self.forget_session();
        self.state = State::Anonymous;
        Action::AnswerBind(result.encode(id, Op::BindResponse, &[]))
    }

    /// The answer to a bind whose source asks too often: decided before anybody looks at what stands in it (B5). Not for a bind that
    /// comes while another one is pending.
    pub fn refuse_busy(&mut self, bind: &Message) -> Action {
        self.refuse_bind(bind.id(), LdapResult::of(ResultCode::BUSY))
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

    /// The directory's word on a pending bind. Only a success makes the ticket that can be allowed.
    pub fn primary_finished(&mut self, bind: PendingBind, primary: BindResponse, controls: Vec<Control>) -> Primary {
        if !primary.result.is_success() {
            return Primary::Refused { bind, response: primary, controls };
        }
        if self.awaits(&bind.ticket) {
            self.state = State::SecondPending(bind.ticket.id);
        }
        Primary::Accepted(GatedBind { ticket: bind.ticket, primary, controls })
    }

    /// A decisive Allow: the primary's own answer goes out (L-33), and from now on operations are forwarded on the upstream
    /// connection it was made on. `None` if the client has gone meanwhile: the Allow has no effect (L-13).
    #[must_use]
    pub fn bind_allowed(&mut self, bind: GatedBind, bound_as: BoundAs) -> Option<Bytes> {
        if !self.awaits(&bind.ticket) {
            return None;
        }
        self.state = State::Bound(bound_as);
        // Credentials would be the next step of a SASL dialogue that does not exist.
        let response = BindResponse { server_sasl_credentials: None, ..bind.primary };
        Some(response.encode(bind.ticket.id, &bind.controls))
    }

    /// Anything but an Allow, of either factor. The upstream connection has to be closed before this is sent (L-32).
    ///
    /// A result that would let the client in, or send it elsewhere, is turned into 52: only `bind_allowed` says yes, and a
    /// referral would lead around the second factor (L-17, B-60).
    #[must_use]
    pub fn bind_refused(
        &mut self,
        bind: impl Into<Ticket>,
        result: &LdapResult,
        controls: &[Control],
    ) -> Option<Bytes> {
        let bind = bind.into();
        if !self.awaits(&bind) {
            return None;
        }
        self.state = State::Anonymous;
        const NO_REFUSALS: [ResultCode; 3] =
            [ResultCode::SUCCESS, ResultCode::REFERRAL, ResultCode::SASL_BIND_IN_PROGRESS];
        if NO_REFUSALS.contains(&result.code) || result.referral.is_some() {
            let unavailable = LdapResult::with_diagnostic(ResultCode::UNAVAILABLE, "unavailable");
            return Some(unavailable.encode(bind.id, Op::BindResponse, &[]));
        }
        Some(result.encode(bind.id, Op::BindResponse, controls))
    }

    fn awaits(&self, bind: &Ticket) -> bool {
        self.is_bind_pending() && Arc::ptr_eq(&bind.token, &self.token)
    }

    fn is_bind_pending(&self) -> bool {
        matches!(self.state, State::PrimaryPending(_) | State::SecondPending(_))
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

    /// Decides about a message of the upstream connection.
    pub fn receive_upstream(&mut self, message: &Message) -> FromUpstream {
        if message.id() == MessageId::UNSOLICITED {
            return self.unsolicited(message);
        }
        let Some(outstanding) = self.outstanding.iter_mut().find(|it| it.id == message.id()) else {
            return self.late_answer(message);
        };
        let part = match message.op() {
            Op::SearchResultEntry | Op::SearchResultReference => outstanding.op == Op::SearchRequest,
            Op::IntermediateResponse => true,
            _ => false,
        };
        if !part && outstanding.op.response() != Some(message.op()) && !is_refusal(message) {
            return FromUpstream::Violation;
        }
        if outstanding.limit.reached {
            if !part {
                self.end_of(message.id());
            }
            return FromUpstream::Drop;
        }
        if message.op() == Op::SearchResultEntry && !outstanding.limit.takes_entry() {
            return FromUpstream::Limited(self.limit_reached(message.id()));
        }
        if !part {
            let Ok((octets, code)) = referral::result(&self.policy.referrals, message) else {
                return FromUpstream::Violation;
            };
            self.end_of(message.id());
            return FromUpstream::End { octets, code };
        }
        let relayed = match (message.op(), &outstanding.root_dse) {
            (Op::SearchResultReference, _) => referral::reference(&self.policy.referrals, message),
            (Op::SearchResultEntry, Some(search)) => rewritten_root_dse(message, search, &self.policy, self.tls),
            _ => Ok(Some(message.octets().clone())),
        };
        match relayed {
            Ok(relayed) => relayed.map_or(FromUpstream::Drop, FromUpstream::Relay),
            Err(_) => FromUpstream::Violation,
        }
    }

    /// Answers to an abandoned operation are dropped; the last one frees its id. All others were never asked for (B-59).
    fn late_answer(&mut self, message: &Message) -> FromUpstream {
        if !self.retired.contains(&message.id()) {
            return FromUpstream::Violation;
        }
        let part = matches!(message.op(), Op::SearchResultEntry | Op::SearchResultReference | Op::IntermediateResponse);
        if !part {
            self.free(message.id());
        }
        FromUpstream::Drop
    }

    fn unsolicited(&self, message: &Message) -> FromUpstream {
        // Active Directory puts the name of its notice outside of the response, so that it cannot be told by name. No other
        // notification exists in practice, and a wrong guess costs a connection.
        if message.op() == Op::ExtendedResponse {
            FromUpstream::Disconnect(message.octets().clone())
        } else {
            FromUpstream::Violation
        }
    }

    /// An abandoned operation never went upstream: its id is free again.
    pub fn never_sent(&mut self, id: MessageId) {
        self.free(id);
    }

    /// To be called again and again, each time after longer than any directory works on an operation. Frees the ids that were abandoned
    /// before the last call: most directories say nothing about what was abandoned (RFC 4511 section 4.11), and a client may count
    /// from 1 again (L-06). False when there is nothing left to forget.
    pub fn forget_abandoned(&mut self) -> bool {
        self.retired.drain(..self.retired_before);
        self.retired_before = self.retired.len();
        self.retired_before > 0
    }

    fn free(&mut self, id: MessageId) {
        if let Some(place) = self.retired.iter().position(|retired| *retired == id) {
            self.retired.remove(place);
            self.retired_before -= usize::from(place < self.retired_before);
        }
    }

    /// The gateway has answered this operation itself.
    pub fn answered(&mut self, id: MessageId) {
        self.end_of(id);
    }

    /// The upstream connection is gone, or broke the protocol (L-19). What is outstanding is answered; a bound client is told to
    /// go, because binding again would need its password. An anonymous one may go on with a new upstream connection.
    pub fn upstream_lost(&mut self) -> UpstreamLost {
        let lost = LdapResult::with_diagnostic(ResultCode::UNAVAILABLE, "upstream lost");
        let mut lost_ones = std::mem::take(&mut self.outstanding);
        lost_ones.retain(|it| !it.limit.reached);
        lost_ones.sort_by_key(|it| it.id);
        let answers = lost_ones.iter().filter_map(|it| Some(lost.encode(it.id, it.op.response()?, &[]))).collect();
        self.forget_retired();
        if !matches!(self.state, State::Bound(_)) {
            return UpstreamLost { answers, notice: None };
        }
        self.state = State::Closed;
        UpstreamLost { answers, notice: Some(result::notice_of_disconnection(&lost)) }
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

/// What the gateway does with a message of the upstream connection.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub enum FromUpstream {
    /// Send this to the client; more of the answer follows.
    Relay(Bytes),
    /// Send this to the client: the end of an operation, and how it ended.
    End { octets: Bytes, code: ResultCode },
    /// More than the client may have: the search ends here.
    Limited(Limited),
    /// Not for the client.
    Drop,
    /// Send this to the client, then close both (L-19).
    Disconnect(Bytes),
    /// Nothing of the kind was asked for: close the upstream connection and go on with `upstream_lost` (B-59).
    Violation,
}

/// What a client gets when its upstream connection is lost.
pub struct UpstreamLost {
    pub answers: Vec<Bytes>,
    /// If present: send and close.
    pub notice: Option<Bytes>,
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

fn rewritten_root_dse(
    message: &Message,
    search: &RootDseSearch,
    policy: &Policy,
    tls: bool,
) -> Result<Option<Bytes>, DecodeError> {
    let entry = SearchResultEntry::decode(message)?;
    let entry = root_dse::rewrite(entry, &search.requested, search.types_only, policy, tls);
    Ok(Some(entry.encode(message.id(), &message.controls()?)))
}

fn cleared(message: &Message, changes_password: bool) -> Cleared {
    Cleared { id: message.id(), op: message.op(), octets: message.octets().clone(), changes_password, abandons: None }
}

/// Samba refuses a request of any kind, for a critical control that it does not know, with an ExtendedResponse. Clients hear it as
/// they would without us; a success of the wrong kind stays what it is (B-59).
fn is_refusal(message: &Message) -> bool {
    message.op() == Op::ExtendedResponse
        && LdapResult::decode(message).is_ok_and(|result| result.code != ResultCode::SUCCESS)
}
