//! Tickets of our own account for the servers of one directory (FD-06, FD-08): asked for at the domain controller that is to be spoken to,
//! which gives them out at port 88, and kept until shortly before they end.
//!
//! A wrong password is said once and remembered: the domain counts each.

use crate::exchange::{now, random};
use crate::server::ServerName;
use domain::Secret;
use domain::settings::WindowsAccount;
use kerberos::{Credential, KdcError, Keytab, KeytabError, Login, Principal, REPLY_OCTETS_MAX, ServiceAsked, Step};
use kerberos::{Ticket, Timestamp};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::Instant;
use zeroize::Zeroizing;

/// There is no ticket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    #[error("the domain's Kerberos service at {kdc} could not be reached")]
    Unreachable {
        kdc: String,
        #[source]
        cause: io::Error,
    },
    #[error("the domain's Kerberos service at {kdc} did not answer in time")]
    Silent { kdc: String },
    #[error("the domain's Kerberos service at {kdc} gave no ticket")]
    Refused {
        kdc: String,
        #[source]
        cause: KdcError,
    },
    /// The base has no DC=, and the account no long domain.
    #[error("which realm the account is of cannot be told from its name or the base")]
    NoRealm,
    #[error("the keytab {path:?} cannot be read")]
    KeytabFile {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("the keytab {path:?} cannot be used")]
    Keytab {
        path: PathBuf,
        #[source]
        cause: KeytabError,
    },
}

impl TicketError {
    /// The server's, so that another one may do.
    pub(crate) fn is_of_server(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Silent { .. })
    }

    /// It says something about the account, so that trying it in another way could lock it.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Refused { cause, .. } if cause.is_final())
    }
}

/// Who we are.
pub(crate) enum Identity<'a> {
    /// `domain`: of the base, where it has one.
    Account {
        account: &'a WindowsAccount,
        domain: Option<String>,
        password: &'a Secret,
    },
    Keytab(&'a Path),
}

/// Where Kerberos is spoken (RFC 4120 section 7.2.3).
const PORT: u16 = 88;
/// A ticket that ends sooner is not used any more.
const SPARE_SECONDS: i64 = 5 * 60;
/// After a refusal nobody is asked for so long; the same as for any query bind.
const REFUSED_FOR: Duration = Duration::from_secs(30);
/// Where there was no ticket, and something else did instead.
const WITHOUT_FOR: Duration = Duration::from_secs(5 * 60);
/// More than a directory has.
const SERVERS_MAX: usize = 64;

/// What is kept.
#[derive(Default)]
pub(crate) struct Tickets {
    /// Held by who asks; the others wait, for they would ask the same.
    kept: Mutex<Kept>,
    /// Servers that are spoken to without a ticket.
    without: std::sync::Mutex<HashMap<String, Without>>,
}

struct Without {
    until: Instant,
    why: String,
}

#[derive(Default)]
struct Kept {
    /// To ask for others with.
    granting: Option<Ticket>,
    /// By the name of the server.
    services: HashMap<String, Ticket>,
    refused: Option<(Instant, Arc<TicketError>)>,
}

impl Tickets {
    /// A ticket for this server, within `limit`.
    pub async fn for_server(
        &self,
        server: &ServerName,
        identity: &Identity<'_>,
        limit: Duration,
    ) -> Result<Ticket, Arc<TicketError>> {
        // Those who wait have no more time than those who ask.
        let deadline = Instant::now() + limit;
        let silent = || TicketError::Silent { kdc: kdc(server) };
        let mut kept = tokio::time::timeout_at(deadline, self.kept.lock()).await.map_err(|_| silent())?;
        if let Some((at, error)) = &kept.refused
            && at.elapsed() < REFUSED_FOR
        {
            return Err(Arc::clone(error));
        }
        let asked = tokio::time::timeout_at(deadline, kept.ticket(server, identity)).await;
        let result = asked.unwrap_or_else(|_| Err(silent())).map_err(Arc::new);
        kept.refused = result.as_ref().err().filter(|it| it.is_final()).map(|it| (Instant::now(), Arc::clone(it)));
        result
    }

    /// No ticket is asked for now: not long ago there was none.
    pub fn is_without(&self, server: &ServerName) -> bool {
        self.without().get(server.host()).is_some_and(|it| Instant::now() < it.until)
    }

    /// Something else does, for some time. True where that is news.
    pub fn do_without(&self, server: &ServerName, why: String) -> bool {
        let mut without = self.without();
        if without.len() >= SERVERS_MAX {
            without.clear();
        }
        let until = Instant::now() + WITHOUT_FOR;
        let is_news = without.get(server.host()).is_none_or(|before| before.why != why);
        without.insert(server.host().to_owned(), Without { until, why });
        is_news
    }

    fn without(&self) -> std::sync::MutexGuard<'_, HashMap<String, Without>> {
        self.without.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A server did not take its ticket: it may have another key by now.
    pub async fn forget(&self) {
        let mut kept = self.kept.lock().await;
        (kept.granting, kept.services) = (None, HashMap::new());
    }
}

fn is_good(ticket: &Ticket, now: Timestamp) -> bool {
    ticket.ends().seconds - now.seconds > SPARE_SECONDS
}

fn kdc(server: &ServerName) -> String {
    let (open, close) = if server.host().contains(':') { ("[", "]") } else { ("", "") };
    format!("{open}{}{close}:{PORT}", server.host())
}

impl Kept {
    async fn ticket(&mut self, server: &ServerName, identity: &Identity<'_>) -> Result<Ticket, TicketError> {
        let started = now();
        self.services.retain(|_, ticket| is_good(ticket, started));
        if let Some(ticket) = self.services.get(server.host()) {
            return Ok(ticket.clone());
        }
        let granting = match self.granting.take_if(|ticket| is_good(ticket, started)) {
            Some(granting) => granting,
            None => log_in(server, identity).await?,
        };
        let service = Principal::service("ldap", server.host(), granting.client().realm());
        let (asked, question) = ServiceAsked::new(&granting, service, now(), random);
        let reply = ask(server, &question).await?;
        let read = asked.read(&reply, now());
        // One that is of no use any more is not used again.
        self.granting = Some(granting).filter(|_| matches!(read, Ok(_) | Err(KdcError::UnknownService)));
        let ticket = read.map_err(|cause| TicketError::Refused { kdc: kdc(server), cause })?;
        if self.services.len() < SERVERS_MAX {
            self.services.insert(server.host().to_owned(), ticket.clone());
        }
        Ok(ticket)
    }
}

async fn log_in(server: &ServerName, identity: &Identity<'_>) -> Result<Ticket, TicketError> {
    let (client, credential) = match identity {
        Identity::Account { account, domain, password } => (
            principal(account, domain.as_deref()).ok_or(TicketError::NoRealm)?,
            Credential::Password(Zeroizing::new(password.expose().to_vec())),
        ),
        Identity::Keytab(path) => from_keytab(path).await?,
    };
    let refused = |cause| TicketError::Refused { kdc: kdc(server), cause };
    let mut login = Login::new(client, credential, random);
    let mut question = login.start();
    loop {
        let reply = ask(server, &question).await?;
        // Makes a key of a password, which takes some milliseconds; never more than two questions.
        let step = tokio::task::spawn_blocking(move || (login.next(&reply, now()), login));
        // Where it does not run, all of us stop.
        let (step, same) = step.await.map_err(|_| TicketError::Silent { kdc: kdc(server) })?;
        login = same;
        match step.map_err(refused)? {
            Step::Ask(next) => question = next,
            Step::Granted(ticket) => return Ok(ticket),
        }
    }
}

async fn from_keytab(path: &Path) -> Result<(Principal, Credential), TicketError> {
    let octets = tokio::fs::read(path).await.map(Zeroizing::new);
    let octets = octets.map_err(|cause| TicketError::KeytabFile { path: path.to_owned(), cause })?;
    let keytab = Keytab::parse(&octets).map_err(|cause| TicketError::Keytab { path: path.to_owned(), cause })?;
    let client = keytab.principal().clone();
    let keys = keytab.keys(&client);
    Ok((client, Credential::Keys(keys)))
}

/// The realm is a domain in capital letters (MS-KILE section 3.1.5.6); `domain` is that of the base. Somebody whose name has another
/// domain behind it may be of this one all the same: the domain controller looks.
fn principal(account: &WindowsAccount, domain: Option<&str>) -> Option<Principal> {
    let long = |domain: &str| domain.contains('.').then(|| domain.to_uppercase());
    let own = domain.map(str::to_uppercase);
    if let Some((user, named)) = account.user.split_once('@') {
        let realm = own.or_else(|| long(named))?;
        return Some(match named.to_uppercase() == realm {
            true => Principal::user(user, &realm),
            false => Principal::enterprise(&account.user, &realm),
        });
    }
    Some(Principal::user(&account.user, &long(&account.domain).or(own)?))
}

/// One question by TCP (RFC 4120 section 7.2.2).
async fn ask(server: &ServerName, question: &[u8]) -> Result<Zeroizing<Vec<u8>>, TicketError> {
    let asked = async {
        let mut stream = TcpStream::connect((server.host(), PORT)).await?;
        let length = u32::try_from(question.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
        let length = stream.read_u32().await? as usize;
        if length > REPLY_OCTETS_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "what came is longer than any ticket"));
        }
        let mut reply = Zeroizing::new(vec![0; length]);
        stream.read_exact(&mut reply).await?;
        Ok(reply)
    };
    asked.await.map_err(|cause| TicketError::Unreachable { kdc: kdc(server), cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_of_the_realm_that_its_name_or_the_base_says() {
        // FD-08
        let found = |name: &str, domain: Option<&str>| {
            let account = WindowsAccount::parse(name).expect("an account");
            principal(&account, domain).map(|principal| principal.to_string())
        };
        let lab = Some("lab.test");
        for (name, domain, principal) in [
            (r"LAB\query", lab, Some("query@LAB.TEST")),
            (r"lab.test\query", lab, Some("query@LAB.TEST")),
            (r"other.test\query", lab, Some("query@OTHER.TEST")),
            ("query@lab.test", lab, Some("query@LAB.TEST")),
            ("query@mail.test", lab, Some("query@mail.test@LAB.TEST")),
            ("query@mail.test", None, Some("query@MAIL.TEST")),
            (r"LAB\query", None, None),
            ("query@LAB", None, None),
        ] {
            assert_eq!(found(name, domain).as_deref(), principal, "{name}");
        }
    }
}
