//! Contacts each server and says in a sentence what was found or what is wrong: for `twinlock check --connect` and the test button.

use crate::connect::{ConnectError, TlsFault};
use crate::connection::{Connection, Protected};
use crate::directory::{Core, Purpose};
use crate::pool::chain;
use crate::query::{self, QueryError};
use crate::server::ServerName;
use domain::settings::LockoutGuard;
use futures::future::join_all;
use ldap_wire::{LdapResult, ResultCode, SearchResultEntry};
use std::fmt;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

/// What came of one server.
#[derive(Debug)]
pub struct Probed {
    pub server: ServerName,
    pub elapsed: Duration,
    pub outcome: Result<Found, ProbeError>,
}

/// A server that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// As far as the server tells: `Active Directory`, `OpenLDAP`, `389 Directory Server 2.3`, or `LDAP directory`.
    pub vendor: String,
    pub protected: Protected,
    /// Where all searches start, where the settings leave that to the server (FD-05).
    pub base: Option<String>,
    /// Active Directory: when the domain locks accounts, unless a fine-grained policy says otherwise for somebody.
    pub locks: Option<Locks>,
    /// What the settings allow before that (L-56).
    pub lockout_guard: Option<LockoutGuard>,
}

/// A domain's `lockoutThreshold` and `lockOutObservationWindow` (MS-ADA1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Locks {
    pub wrong_passwords: u32,
    pub window_minutes: u32,
}

impl Locks {
    /// What is wrong with a guard; `None` = the domain locks nobody before it.
    fn objection(self, guard: Option<LockoutGuard>) -> Option<&'static str> {
        match guard {
            None => Some("set lockout_guard below that, or whoever guesses through Twinlock locks people out"),
            Some(guard) if guard.wrong_passwords >= self.wrong_passwords => {
                Some("lower lockout_guard.wrong_passwords below that, or it protects nobody")
            }
            Some(guard) if guard.window_minutes < self.window_minutes => {
                Some("raise lockout_guard.window_minutes to that, or it lets more through")
            }
            Some(_) => None,
        }
    }
}

/// Prints as one sentence of what is wrong and what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProbeError {
    Connect(ConnectError),
    Query(QueryError),
    /// The base of the settings is not there, or hidden from the query account.
    BaseMissing {
        base: String,
    },
    /// The base could not be read for another reason.
    BaseRefused {
        base: String,
        code: ResultCode,
    },
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protection = match self.protected {
            Protected::Tls => "with TLS",
            Protected::Sealed => "signed and sealed",
            Protected::Not => "in clear text",
        };
        write!(f, "{} found; connected {protection}, query bind accepted, ", self.vendor)?;
        match &self.base {
            Some(base) => write!(f, "base {base:?} taken from its root DSE and readable")?,
            None => f.write_str("base readable")?,
        }
        let Some(locks) = self.locks else { return Ok(()) };
        let Locks { wrong_passwords, window_minutes } = locks;
        write!(f, "; the domain locks accounts after {wrong_passwords} wrong passwords in {window_minutes} min")?;
        locks.objection(self.lockout_guard).map_or(Ok(()), |objection| write!(f, ": {objection}"))
    }
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(ConnectError::Unreachable { cause, .. })
                if matches!(cause.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) =>
            {
                f.write_str(
                    "The server ended the connection during the handshake; check that port and scheme belong together \
                     (ldap:// with 389, ldaps:// with 636).",
                )
            }
            Self::Connect(ConnectError::Unreachable { cause, .. }) => {
                write!(f, "Unreachable ({}); check host name, port and firewall.", chain(cause))
            }
            Self::Connect(ConnectError::Timeout { .. }) => {
                f.write_str("Unreachable (no answer in time); check host name, port and firewall.")
            }
            Self::Connect(ConnectError::Tls { server, fault, .. }) => match fault {
                TlsFault::Untrusted => {
                    f.write_str("The certificate is not trusted; set ca to the PEM of the authority that signed it.")
                }
                TlsFault::NotPinned => f.write_str(
                    "The certificate is none of pinned_certificates; if it was renewed, add the new one, else find out who answers there.",
                ),
                TlsFault::NameMismatch => {
                    write!(
                        f,
                        "The certificate does not name {}; write the name it has in urls, or renew it.",
                        server.host()
                    )
                }
                TlsFault::Expired => {
                    f.write_str("The certificate has expired or is not valid yet; renew it, or check the clock.")
                }
                TlsFault::BadCertificate => f.write_str("The certificate is not acceptable; renew it."),
                TlsFault::Handshake => {
                    f.write_str("The TLS handshake failed; check that this port speaks TLS 1.2 or 1.3.")
                }
            },
            Self::Connect(ConnectError::StartTlsRefused { code, .. }) => {
                write!(f, "StartTLS was refused with code {code}; give the server a certificate, or use ldaps://.")
            }
            Self::Connect(ConnectError::Protocol { .. }) => f.write_str(
                "What listens there does not speak LDAP on this port; check port and scheme (ldap:// or ldaps://).",
            ),
            Self::Query(QueryError::BindRefused { code: ResultCode::INVALID_CREDENTIALS, .. }) => {
                f.write_str(
                    "The query bind was refused with code 49; check query_bind.name and its password. With kind \"windows\" the server may also \
                     take no NTLM, or something that opens TLS stands between.",
                )
            }
            Self::Query(QueryError::BindRefused { code: ResultCode::STRONGER_AUTH_REQUIRED, .. }) => f.write_str(
                "The query bind was refused with code 8: the server wants it protected. Use kind \"tls\", or \"windows\" by ldap:// for an \
                 account of the domain; inside TLS that is for the server to allow (Samba: ldap server require strong auth = \
                 allow_sasl_over_tls).",
            ),
            Self::Query(QueryError::BindRefused { code, .. }) => {
                write!(f, "The query bind was refused with code {code}; check query_bind and what the server allows.")
            }
            Self::Query(QueryError::NoTicket { cause, .. }) => {
                write!(f, "The query bind by Kerberos failed: {}; check query_bind, windows_mechanism and both clocks.", chain(&**cause))
            }
            Self::Query(QueryError::TicketRefused { code, .. }) => {
                write!(
                    f,
                    "The server did not take its Kerberos ticket, code {code}; check that the name in urls is its own (setspn -Q), and what it allows \
                     inside TLS (Samba: ldap server require strong auth = allow_sasl_over_tls)."
                )
            }
            Self::Query(error @ QueryError::NoBase { .. }) => write!(f, "Connected, but {error}."),
            Self::Query(error) => write!(f, "Connected, but got no answer: {}.", chain(error)),
            Self::BaseMissing { base } => {
                write!(f, "The base {base:?} does not exist (code 32) or the query account may not see it.")
            }
            Self::BaseRefused { base, code } => write!(f, "The base {base:?} could not be read, code {code}."),
        }
    }
}

impl std::error::Error for ProbeError {}

/// All servers at once: one that is silent delays nothing but the whole.
pub(crate) async fn all(core: &Core) -> Vec<Probed> {
    core.discover().await;
    join_all(core.servers.names().iter().map(|server| one(core, server))).await
}

/// One server.
pub(crate) async fn one(core: &Core, server: &ServerName) -> Probed {
    let started = Instant::now();
    let outcome = match core.connect_to(server, Purpose::Queries).await {
        Err(error) => Err(ProbeError::Connect(error)),
        Ok(connection) => {
            let limit = core.operation_timeout();
            let silent = |_| Err(ProbeError::Query(QueryError::Timeout { server: server.clone() }));
            tokio::time::timeout(limit, ask(core, connection)).await.unwrap_or_else(silent)
        }
    };
    Probed { server: server.clone(), elapsed: started.elapsed(), outcome }
}

async fn ask(core: &Core, connection: Connection) -> Result<Found, ProbeError> {
    let mut connection = query::query_bind(core, connection).await.map_err(ProbeError::Query)?;
    let base = || core.base_text().to_owned();
    let (_, result) = read(&mut connection, base(), &["1.1"]).await?;
    match result.code {
        ResultCode::SUCCESS if result.is_success() => {}
        ResultCode::NO_SUCH_OBJECT => return Err(ProbeError::BaseMissing { base: base() }),
        code => return Err(ProbeError::BaseRefused { base: base(), code }),
    }
    let attributes = ["objectClass", "vendorName", "vendorVersion", "supportedCapabilities", "defaultNamingContext"];
    let (root, _) = read(&mut connection, String::new(), &attributes).await?;
    let domain = root.as_ref().and_then(|root| root.first_text("defaultNamingContext")).map(ToString::to_string);
    let locks = match domain {
        Some(domain) => read(&mut connection, domain, &LOCKS).await?.0.as_ref().and_then(locks),
        None => None,
    };
    Ok(Found {
        vendor: root.as_ref().map_or_else(unknown, vendor),
        protected: connection.protected(),
        base: core.settings.base.is_empty().then(base),
        locks,
        lockout_guard: core.settings.lockout_guard,
    })
}

const LOCKS: [&str; 2] = ["lockoutThreshold", "lockOutObservationWindow"];

/// `None` where accounts are never locked (a threshold of 0), and where the directory has no such thing.
fn locks(domain: &SearchResultEntry) -> Option<Locks> {
    /// A span of time is counted in negative steps of 100 ns.
    const STEPS_A_MINUTE: u64 = 600_000_000;
    let [wrong_passwords, window] = LOCKS.map(|attribute| domain.first_text(attribute));
    let wrong_passwords = wrong_passwords?.parse().ok().filter(|count| *count > 0)?;
    let window: i64 = window?.parse().ok()?;
    let window_minutes = window.unsigned_abs().div_ceil(STEPS_A_MINUTE).try_into().unwrap_or(u32::MAX);
    Some(Locks { wrong_passwords, window_minutes })
}

/// The root DSE, which every server has that serves.
pub(crate) async fn root(connection: &mut Connection) -> Result<(), ProbeError> {
    let (_, result) = read(connection, String::new(), &["1.1"]).await?;
    match result.code {
        code if query::is_unavailable(code) => Err(ProbeError::BaseRefused { base: String::new(), code }),
        _ => Ok(()),
    }
}

async fn read(
    connection: &mut Connection,
    dn: String,
    attributes: &[&str],
) -> Result<(Option<SearchResultEntry>, LdapResult), ProbeError> {
    query::entry(connection, dn, attributes).await.map_err(ProbeError::Query)
}

/// LDAP_CAP_ACTIVE_DIRECTORY_OID, MS-ADTS 3.1.1.3.4.3.
const ACTIVE_DIRECTORY: &[u8] = b"1.2.840.113556.1.4.800";

fn vendor(root: &SearchResultEntry) -> String {
    let has =
        |attribute: &str, value: &[u8]| root.values(attribute).iter().any(|found| found.eq_ignore_ascii_case(value));
    if has("supportedCapabilities", ACTIVE_DIRECTORY) {
        return "Active Directory".into();
    }
    if has("objectClass", b"OpenLDAProotDSE") {
        return "OpenLDAP".into();
    }
    let told = ["vendorName", "vendorVersion"].map(|attribute| root.first_text(attribute).unwrap_or_default());
    let text: String = told.join(" ").chars().filter(|sign| !sign.is_control()).take(100).collect();
    if text.trim().is_empty() { unknown() } else { text.trim().to_owned() }
}

fn unknown() -> String {
    "LDAP directory".into()
}
