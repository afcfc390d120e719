//! Binds: decided here, or handed out with a ticket that only a success of the directory turns into one that can be allowed (L-31, L-33).

use super::{Action, Anonymous, BoundAs, ClientConnection, State};
use crate::bind::{Authentication, BindRequest, BindResponse};
use crate::control::Control;
use crate::dn::{self, Dn};
use crate::message::{Message, MessageId, Op};
use crate::oid;
use crate::result::{LdapResult, ResultCode};
use crate::sasl;
use bytes::Bytes;
use std::sync::Arc;

/// The controls that a bind goes to the directory with: the password policy, and to hear who one is (RFC 3829). Neither has a value.
const BIND_CONTROLS: [&str; 2] = [oid::PASSWORD_POLICY, oid::AUTHORIZATION_IDENTITY];
/// A longer bind name is none; the bound that OpenLDAP has for a DN.
const NAME_OCTETS_MAX: usize = 8192;

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
    pub(super) fn bind(&mut self, message: Message, request: BindRequest, controls: &[Control]) -> Action {
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
    pub(super) fn refuse_bind(&mut self, id: MessageId, result: LdapResult) -> Action {
        self.forget_session();
        self.state = State::Anonymous;
        Action::AnswerBind(result.encode(id, Op::BindResponse, &[]))
    }

    /// The answer to a bind whose source asks too often: decided before anybody looks at what stands in it (B5). Not for a bind that
    /// comes while another one is pending.
    pub fn refuse_busy(&mut self, bind: &Message) -> Action {
        self.refuse_bind(bind.id(), LdapResult::of(ResultCode::BUSY))
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

    pub(super) fn is_bind_pending(&self) -> bool {
        matches!(self.state, State::PrimaryPending(_) | State::SecondPending(_))
    }
}
