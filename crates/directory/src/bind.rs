//! A person's password, checked by one bind with the resolved DN (R-64, L-33, L-34).
//!
//! Binds run on connections of their own. Such a connection is used again for the next person's bind, and for nothing else: whoever
//! it is bound as, no operation ever runs on it.

use crate::connect::ConnectError;
use crate::connection::{Broken, Connection};
use crate::directory::{Core, Purpose};
use crate::exchange::{Ended, Exchange, Step};
use crate::observe::{Operation, Outcome};
use crate::query::is_unavailable;
use crate::resolve::Entry;
use crate::sealed::Seal;
use crate::server::ServerName;
use domain::settings::Preset;
use domain::{DirectoryRef, Reason, Secret};
use ldap_wire::ber::{self, Reader};
use ldap_wire::{BindResponse, Control, LdapResult, Op, ResultCode, oid};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::Instrument;

/// The directory accepted this password for this entry: result code 0 and nothing else. Cannot be made elsewhere.
#[derive(Debug, Clone)]
#[must_use]
pub struct Accepted {
    subject: DirectoryRef,
    server: ServerName,
    elapsed: Duration,
}

impl Accepted {
    /// Whose password it was.
    pub fn subject(&self) -> &DirectoryRef {
        &self.subject
    }

    pub fn server(&self) -> &ServerName {
        &self.server
    }

    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }
}

/// No yes. [`BindError::reason`] says it in the words of the closed list.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// No password, or no DN to go with it: a directory would take that for an anonymous bind and say yes. Nothing was sent.
    #[error("an empty password is never sent to a directory")]
    EmptyPassword,
    /// The directory said no. Final: no other server is asked.
    #[error("{server} refused the bind with code {code}")]
    Refused { server: ServerName, code: ResultCode, reason: Reason },
    /// An answer that is neither yes nor no, such as a success that refers elsewhere. Final.
    #[error("{server} answered the bind with code {code}, which decides nothing")]
    Undecided { server: ServerName, code: ResultCode },
    /// Busy or unavailable, on this server and on the next one.
    #[error("{server} cannot serve now, code {code}")]
    Unavailable { server: ServerName, code: ResultCode },
    /// No server could be reached; no bind was sent.
    #[error("no server of the directory could be reached")]
    Unreachable {
        #[source]
        cause: ConnectError,
    },
    /// The bind was sent and the connection broke. Not sent again: the directory may have counted it.
    #[error("{server} broke the connection off")]
    Lost {
        server: ServerName,
        #[source]
        cause: Broken,
    },
    /// The bind was sent, and no answer came. Not sent again.
    #[error("{server} did not answer in time")]
    Timeout { server: ServerName },
    /// A Windows logon needs the name of an account, and the entry has none, or the query account may not read it. Nothing was sent.
    #[error("the entry has no sAMAccountName to log on with")]
    NoAccount,
    /// As many binds as we allow wait already; nothing was sent.
    #[error("too many binds wait for the directory")]
    Overloaded,
}

impl BindError {
    pub fn reason(&self) -> Reason {
        match self {
            Self::EmptyPassword => Reason::EmptyPassword,
            Self::Refused { reason, .. } => *reason,
            Self::Undecided { .. } | Self::Unavailable { .. } | Self::NoAccount => Reason::DirectoryError,
            Self::Unreachable { cause } => match cause.outcome() {
                Outcome::Unreachable | Outcome::Timeout => Reason::DirectoryTimeout,
                _ => Reason::DirectoryError,
            },
            Self::Lost { cause, .. } if cause.is_protocol() => Reason::DirectoryError,
            Self::Lost { .. } | Self::Timeout { .. } => Reason::DirectoryTimeout,
            Self::Overloaded => Reason::Overloaded,
        }
    }

    pub fn server(&self) -> Option<&ServerName> {
        match self {
            Self::EmptyPassword | Self::NoAccount | Self::Overloaded => None,
            Self::Unreachable { cause } => Some(cause.server()),
            Self::Refused { server, .. }
            | Self::Undecided { server, .. }
            | Self::Unavailable { server, .. }
            | Self::Lost { server, .. }
            | Self::Timeout { server } => Some(server),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::EmptyPassword | Self::Refused { .. } => Outcome::Refused,
            Self::Undecided { .. } | Self::Unavailable { .. } | Self::NoAccount => Outcome::Directory,
            Self::Unreachable { cause } => cause.outcome(),
            Self::Lost { cause, .. } if cause.is_protocol() => Outcome::Protocol,
            Self::Lost { .. } => Outcome::Unreachable,
            Self::Timeout { .. } | Self::Overloaded => Outcome::Timeout,
        }
    }
}

/// What a directory's answer to a bind means. For those who bind on an [`crate::Upstream`] of their own, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Result code 0, no referral (L-33, B-60), and no order to change the password first.
    Accepted,
    /// The directory said no, and why. Final.
    Refused(Reason),
    /// Busy or unavailable: the next server may be asked, once.
    TryNext,
    /// Neither yes nor no: a referral, an unknown code, a setting of the directory. Final, and never a yes.
    Undecided,
}

impl Verdict {
    /// Of a BindResponse and the controls that came with it.
    pub fn of(result: &LdapResult, controls: &[Control], preset: Preset) -> Self {
        match result.code {
            ResultCode::SUCCESS if !result.is_success() => Self::Undecided,
            ResultCode::SUCCESS => match password_policy_error(controls) {
                Some(PolicyError::CHANGE_AFTER_RESET) => Self::Refused(Reason::MustChangePassword),
                _ => Self::Accepted,
            },
            code if is_unavailable(code) => Self::TryNext,
            ResultCode::INVALID_CREDENTIALS => Self::Refused(
                active_directory_reason(&result.diagnostic_text())
                    .or(password_policy_error(controls).and_then(PolicyError::reason))
                    .unwrap_or(Reason::BadPassword),
            ),
            ResultCode::INAPPROPRIATE_AUTHENTICATION => Self::Refused(Reason::BadPassword), // the entry has no password
            ResultCode::NO_SUCH_OBJECT => Self::Refused(Reason::UnknownUser),
            CONSTRAINT_VIOLATION => Self::Refused(Reason::AccountLocked),
            ResultCode::UNWILLING_TO_PERFORM if preset == Preset::Ds389 => Self::Refused(Reason::AccountDisabled),
            _ => Self::Undecided,
        }
    }
}

/// How 389 Directory Server says that an account is locked after too many tries; an inactivated one gets 53.
const CONSTRAINT_VIOLATION: ResultCode = ResultCode(19);

/// `... AcceptSecurityContext error, data 52e, v4563`: a Windows error number in hexadecimal.
fn windows_error(diagnostic: &str) -> Option<&str> {
    let (_, rest) = diagnostic.split_once("data ")?;
    rest.split(|sign: char| !sign.is_ascii_hexdigit()).next()
}

/// A 49 that is about no password: another channel than the server's own (80090346), NTLM switched off (791), and more.
pub(crate) fn names_another_reason(result: &LdapResult) -> bool {
    let diagnostic = result.diagnostic_text();
    result.code == ResultCode::INVALID_CREDENTIALS
        && windows_error(&diagnostic).is_some()
        && active_directory_reason(&diagnostic).is_none()
}

fn active_directory_reason(diagnostic: &str) -> Option<Reason> {
    let number = windows_error(diagnostic)?;
    Some(match number.to_ascii_lowercase().as_str() {
        "525" => Reason::UnknownUser,
        "52e" => Reason::BadPassword,
        "52f" | "530" | "531" => Reason::LogonRestricted, // restriction, hours, workstation
        "532" => Reason::PasswordExpired,
        "533" => Reason::AccountDisabled,
        "701" => Reason::AccountExpired,
        "773" => Reason::MustChangePassword,
        "775" => Reason::AccountLocked,
        _ => return None,
    })
}

/// The error of a password policy response (draft-behera-ldap-password-policy section 6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PolicyError(i32);

impl PolicyError {
    const CHANGE_AFTER_RESET: Self = Self(2);

    fn reason(self) -> Option<Reason> {
        match self.0 {
            0 => Some(Reason::PasswordExpired),
            1 => Some(Reason::AccountLocked),
            2 => Some(Reason::MustChangePassword),
            _ => None,
        }
    }
}

fn password_policy_error(controls: &[Control]) -> Option<PolicyError> {
    let control = controls.iter().find(|control| control.oid == oid::PASSWORD_POLICY)?;
    let mut outer = Reader::new(control.value.as_ref()?);
    let mut reader = outer.expect(ber::SEQUENCE).ok()?.reader();
    reader.optional(0xa0).ok()?; // the warning
    ber::integer(reader.optional(0x81).ok()??.content).ok().map(PolicyError)
}

/// One bind, in as many requests as it takes; each answer is a BindResponse to this very request or nothing.
pub(crate) async fn bind(
    connection: &mut Connection,
    exchange: &mut Exchange,
    controls: &[Control],
) -> Result<Bound, Broken> {
    let mut request = exchange.start();
    loop {
        let id = connection.next_id();
        connection.send(&request.encode(id, controls)).await?;
        let message = connection.receive().await?;
        if message.id() != id || message.op() != Op::BindResponse {
            return Err(Broken::UnexpectedMessage);
        }
        match exchange.next(BindResponse::decode(&message)?)? {
            Step::Ask(next) => request = next,
            Step::Ended(Ended { response, seal }) => {
                return Ok(Bound { result: response.result, controls: message.controls()?, seal });
            }
        }
    }
}

pub(crate) struct Bound {
    pub result: LdapResult,
    pub controls: Vec<Control>,
    /// What the connection is to be sealed with from now on, if the bind succeeded.
    pub seal: Option<Seal>,
}

/// Binds at the same time, all servers together.
const BINDS_MAX: usize = 128;
/// Connections kept for the next bind, and for how long: well below what servers and firewalls allow.
const IDLE_MAX: usize = 32;
const IDLE: Duration = Duration::from_secs(30);

/// The connections that binds run on.
pub(crate) struct Binders {
    slots: Semaphore,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Binders {
    pub fn new() -> Self {
        Self { slots: Semaphore::new(BINDS_MAX), idle: Mutex::default() }
    }

    pub async fn authenticate(&self, core: &Core, entry: &Entry, password: &Secret) -> Result<Accepted, BindError> {
        // An empty DN or password makes an anonymous bind of it, which succeeds (RFC 4513 section 5.1; L-10, R-27).
        if password.is_empty() || entry.dn.is_empty() {
            return Err(BindError::EmptyPassword);
        }
        let span = tracing::info_span!(
            "directory.bind",
            otel.kind = "client",
            server.address = tracing::field::Empty,
            twinlock.directory = core.settings.name.as_str(),
            twinlock.outcome = tracing::field::Empty,
        );
        async {
            let started = Instant::now();
            let result = self.bind(core, entry, password).await;
            let (server, outcome) = match &result {
                Ok(server) => (Some(server), Outcome::Ok),
                Err(error) => (error.server(), error.outcome()),
            };
            let span = tracing::Span::current();
            span.record("twinlock.outcome", outcome.code());
            if let Some(server) = server {
                span.record("server.address", server.host());
            }
            let subject = entry.subject.clone();
            result.map(|server| Accepted { subject, server, elapsed: started.elapsed() })
        }
        .instrument(span)
        .await
    }

    /// One bind; a second one, on the next server, only where the first said that it cannot serve (L-34).
    async fn bind(&self, core: &Core, entry: &Entry, password: &Secret) -> Result<ServerName, BindError> {
        let deadline = Instant::now() + core.operation_timeout();
        let slot = tokio::time::timeout_at(deadline, self.slots.acquire()).await;
        let Ok(Ok(_slot)) = slot else { return Err(BindError::Overloaded) };
        let result = self.bind_once(core, entry, password).await;
        let next = core.servers.candidates(std::time::Instant::now()).into_iter().next();
        match &result {
            Err(BindError::Unavailable { server, .. }) if next.as_ref() != Some(server) => {
                self.bind_once(core, entry, password).await
            }
            _ => result,
        }
    }

    async fn bind_once(&self, core: &Core, entry: &Entry, password: &Secret) -> Result<ServerName, BindError> {
        let mut connection = match self.take(core) {
            Some(connection) => connection,
            None => {
                let connected = Box::pin(core.connect(Purpose::Authentications)).await;
                connected.map_err(|cause| BindError::Unreachable { cause })?
            }
        };
        let server = connection.server().clone();
        let mut exchange = core.exchange(entry, password, &server, &connection.channel())?;
        let started = Instant::now();
        let policy = [Control::new(oid::PASSWORD_POLICY, false, None)];
        let answer = bind(&mut connection, &mut exchange, &policy);
        let result = match tokio::time::timeout(core.operation_timeout(), answer).await {
            Err(_) => Err(BindError::Timeout { server: server.clone() }),
            Ok(Err(cause)) => Err(BindError::Lost { server: server.clone(), cause }),
            Ok(Ok(bound)) => {
                let code = bound.result.code;
                let verdict = exchange.verdict(&bound.result, &bound.controls);
                if matches!(verdict, Verdict::Accepted | Verdict::Refused(_)) {
                    self.put(connection);
                }
                match verdict {
                    Verdict::Accepted => Ok(server.clone()),
                    Verdict::Refused(reason) => Err(BindError::Refused { server: server.clone(), code, reason }),
                    Verdict::TryNext => Err(BindError::Unavailable { server: server.clone(), code }),
                    Verdict::Undecided => Err(BindError::Undecided { server: server.clone(), code }),
                }
            }
        };
        if let Err(error @ (BindError::Timeout { .. } | BindError::Lost { .. } | BindError::Unavailable { .. })) =
            &result
        {
            core.servers.failed(&server, error, std::time::Instant::now());
        }
        let outcome = result.as_ref().map_or_else(BindError::outcome, |_| Outcome::Ok);
        core.observe(&server, Operation::Bind, outcome, started.elapsed());
        result
    }

    /// A connection that is still good, to the server that would be chosen now; others are dropped.
    fn take(&self, core: &Core) -> Option<Connection> {
        let best = core.servers.candidates(std::time::Instant::now()).into_iter().next()?;
        loop {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            let wanted = *idle.connection.server() == best;
            if wanted && idle.since.elapsed() < IDLE && !idle.connection.has_ended() {
                return Some(idle.connection);
            }
        }
    }

    fn put(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|idle| idle.since.elapsed() < IDLE);
        if idle.len() < IDLE_MAX {
            idle.push(Idle { connection, since: Instant::now() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn refused(code: u32, diagnostic: &str) -> LdapResult {
        LdapResult { diagnostic: Bytes::copy_from_slice(diagnostic.as_bytes()), ..LdapResult::of(ResultCode(code)) }
    }

    fn policy(value: &'static [u8]) -> Vec<Control> {
        vec![Control::new(oid::PASSWORD_POLICY, false, Some(Bytes::from_static(value)))]
    }

    #[test]
    fn the_sub_codes_of_active_directory_become_reasons() {
        for (data, reason) in [
            ("525", Reason::UnknownUser),
            ("52e", Reason::BadPassword),
            ("52E", Reason::BadPassword),
            ("530", Reason::LogonRestricted),
            ("531", Reason::LogonRestricted),
            ("532", Reason::PasswordExpired),
            ("533", Reason::AccountDisabled),
            ("701", Reason::AccountExpired),
            ("773", Reason::MustChangePassword),
            ("775", Reason::AccountLocked),
            ("7ff", Reason::BadPassword),
        ] {
            let text =
                format!("80090308: LdapErr: DSID-0C090447, comment: AcceptSecurityContext error, data {data}, v4563");
            let verdict = Verdict::of(&refused(49, &text), &[], Preset::ActiveDirectory);
            assert_eq!(verdict, Verdict::Refused(reason), "{data}");
        }
    }

    #[test]
    fn a_password_policy_response_says_why() {
        let refusal = refused(49, "");
        for (value, reason) in [
            (&[0x30, 0x03, 0x81, 0x01, 0x00][..], Reason::PasswordExpired),
            (&[0x30, 0x03, 0x81, 0x01, 0x01], Reason::AccountLocked),
            (&[0x30, 0x08, 0xa0, 0x03, 0x81, 0x01, 0x05, 0x81, 0x01, 0x01], Reason::AccountLocked),
            (&[0x30, 0x00], Reason::BadPassword),
            (&[0x30, 0x05], Reason::BadPassword),
        ] {
            assert_eq!(Verdict::of(&refusal, &policy(value), Preset::OpenLdap), Verdict::Refused(reason), "{value:?}");
        }
        let reset = Verdict::of(&refused(0, ""), &policy(&[0x30, 0x03, 0x81, 0x01, 0x02]), Preset::OpenLdap);
        assert_eq!(reset, Verdict::Refused(Reason::MustChangePassword));
        let expiring = policy(&[0x30, 0x05, 0xa0, 0x03, 0x80, 0x01, 0x7f]);
        assert_eq!(Verdict::of(&refused(0, ""), &expiring, Preset::OpenLdap), Verdict::Accepted);
    }

    #[test]
    fn only_code_0_without_a_referral_is_a_yes() {
        // L-33, B-60
        assert_eq!(Verdict::of(&refused(0, ""), &[], Preset::OpenLdap), Verdict::Accepted);
        for urls in [vec![], vec![Bytes::from_static(b"ldap://elsewhere/")]] {
            let referred = LdapResult { referral: Some(urls), ..refused(0, "") };
            assert_eq!(Verdict::of(&referred, &[], Preset::OpenLdap), Verdict::Undecided);
        }
        for code in [1, 2, 3, 5, 6, 7, 8, 10, 13, 14, 34, 50, 53, 80, 4096] {
            assert_eq!(Verdict::of(&refused(code, ""), &[], Preset::OpenLdap), Verdict::Undecided, "{code}");
        }
        for code in [51, 52] {
            assert_eq!(Verdict::of(&refused(code, ""), &[], Preset::OpenLdap), Verdict::TryNext, "{code}");
        }
    }
}
