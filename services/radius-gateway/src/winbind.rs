//! A Windows domain as the first lock, through winbind on this host: a password (PAP) or an MS-CHAPv2 response, one try each
//! (FR-08, R-56). Knows no client and no second factor.
//!
//! Samba's `ntlm_auth` speaks `ntlm-server-1`: lines of `Name: value` on its standard input, an answer that ends in a line with a
//! dot. Nothing that comes from a client is ever an argument or passes a shell: names and passwords travel as base64.
//!
//! ```text
//! request -> checked -> a helper: idle or new -> request, answer -> idle again
//!                                     '-- late, dead, talking nonsense, or nobody waits any more: killed
//! ```
//!
//! A helper that owes an answer is never asked again: the next person would get it.

use bytes::BufMut;
use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use domain::{Reason, Secret};
use radius_wire::ms_chap::PasswordHashHash;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use zeroize::Zeroizing;

/// Asked at the same time. winbindd takes one after the other from a domain anyway; whoever comes beyond waits for a turn.
const HELPERS_MAX: usize = 16;
/// Samba keeps names and passwords in 256 octets and cuts what is longer.
const FIELD_OCTETS_MAX: usize = 255;
const ANSWER_OCTETS_MAX: usize = 4096;
/// How long the status of a refused password may be behind its answer. It is written before.
const STATUS_WAIT: Duration = Duration::from_millis(500);

/// The domain this host has joined, asked through helper processes, which end with it.
pub(crate) struct Winbind {
    program: PathBuf,
    configured_domain: Option<String>,
    own_domain: OnceCell<String>,
    turns: Semaphore,
    idle: Mutex<Vec<Helper>>,
}

impl Winbind {
    /// `program` is `ntlm_auth`, with `wbinfo` beside it. `domain`, in its short form, is for names without one; the domain of
    /// this host where none is given.
    pub(crate) fn new(program: PathBuf, domain: Option<String>) -> Self {
        Self {
            program,
            configured_domain: domain,
            own_domain: OnceCell::new(),
            turns: Semaphore::new(HELPERS_MAX),
            idle: Mutex::default(),
        }
    }

    /// Whether the domain takes this password. `name` is an account, `DOMAIN\account` or `account@realm`.
    pub(crate) async fn password(&self, name: &str, password: &Secret, deadline: Instant) -> Result<(), WinbindError> {
        if password.is_empty() {
            return Err(WinbindError::Refused(Reason::EmptyPassword)); // R-27
        }
        if password.len() > FIELD_OCTETS_MAX || password.expose().contains(&0) {
            return Err(WinbindError::Refused(Reason::BadPassword));
        }
        let asked = async {
            let mut request = self.request(name).await?;
            request.secret("Password", password.expose());
            self.ask(request, Asked::Password).await
        };
        timeout_at(deadline, asked).await.unwrap_or(Err(WinbindError::TimedOut))?;
        Ok(())
    }

    /// Whether the domain finds this response right; what it computes the answer from. `challenge` is the challenge hash.
    pub(crate) async fn ms_chap2(
        &self,
        name: &str,
        challenge: &[u8; 8],
        nt_response: &[u8; 24],
        deadline: Instant,
    ) -> Result<PasswordHashHash, WinbindError> {
        let asked = async {
            let mut request = self.request(name).await?;
            request.line("LANMAN-Challenge: ", &HEXLOWER.encode(challenge));
            request.line("NT-Response: ", &HEXLOWER.encode(nt_response));
            request.line("Request-User-Session-Key: ", "Yes");
            self.ask(request, Asked::Response).await
        };
        let answer = timeout_at(deadline, asked).await.unwrap_or(Err(WinbindError::TimedOut))?;
        answer.key.map(PasswordHashHash::new).ok_or(WinbindError::Garbled)
    }

    /// Whether winbindd runs, this host is in a domain, and one of the domain's controllers answers.
    pub(crate) async fn is_joined(&self, deadline: Instant) -> Result<(), WinbindError> {
        timeout_at(deadline, self.wbinfo("--ping-dc")).await.unwrap_or(Err(WinbindError::TimedOut))?;
        Ok(())
    }

    async fn request(&self, name: &str) -> Result<Request, WinbindError> {
        let unknown = Err(WinbindError::Refused(Reason::UnknownUser));
        let (domain, account) = match name.split_once('\\') {
            Some((domain, account)) if !domain.is_empty() => (domain, account),
            Some((_, account)) => (self.domain().await?, account),
            None => (self.domain().await?, name),
        };
        // Joined they are one field of Samba's.
        if account.is_empty() || domain.len() + account.len() >= FIELD_OCTETS_MAX || name.chars().any(char::is_control)
        {
            return unknown;
        }
        let mut request = Request(Zeroizing::new(Vec::with_capacity(2048))); // holds the longest, so no copy is left behind
        request.secret("Username", account.as_bytes());
        request.secret("NT-Domain", domain.as_bytes());
        Ok(request)
    }

    async fn domain(&self) -> Result<&str, WinbindError> {
        match &self.configured_domain {
            Some(domain) => Ok(domain),
            None => self.own_domain.get_or_try_init(|| self.wbinfo("--own-domain")).await.map(String::as_str),
        }
    }

    async fn wbinfo(&self, argument: &str) -> Result<String, WinbindError> {
        let mut command = Command::new(self.program.with_file_name("wbinfo"));
        let output = surrounded(command.arg(argument)).stdin(Stdio::null()).output().await?;
        let text = String::from_utf8_lossy(&output.stdout);
        // Asked for its domain, it gives the one of the configuration where winbindd does not answer, and only notes that.
        let silent = String::from_utf8_lossy(&output.stderr).contains("could not obtain winbind");
        if silent || !output.status.success() || text.trim().is_empty() {
            return Err(WinbindError::NotJoined);
        }
        Ok(text.trim().to_owned())
    }

    /// Cancel-safe: a helper dropped before it is idle again is killed.
    async fn ask(&self, mut request: Request, asked: Asked) -> Result<Answer, WinbindError> {
        request.0.extend_from_slice(b".\n");
        let _turn = self.turns.acquire().await.map_err(|_| WinbindError::TimedOut)?;
        let mut helper = match self.idle_helper() {
            Some(helper) => helper,
            None => Helper::start(&self.program)?,
        };
        let (answer, reusable) = helper.ask(&request.0, asked).await?;
        if reusable {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(helper);
        }
        answer
    }

    fn idle_helper(&self) -> Option<Helper> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(mut helper) = idle.pop() {
            if helper.is_alive() {
                return Some(helper);
            }
        }
        None
    }
}

/// Why there is no yes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WinbindError {
    /// The domain said no. Final.
    #[error("the domain refused: {}", .0.code())]
    Refused(Reason),
    /// Nobody to ask: winbindd does not run, or this host is in no domain. The administrator's to cure.
    #[error("winbind does not answer, or this host has not joined a domain")]
    NotJoined,
    /// winbindd runs and has no domain controller, or the domain answered with something that is neither yes nor no.
    #[error("the domain answered {0}")]
    Domain(Status),
    #[error("winbind did not answer in time")]
    TimedOut,
    /// `ntlm_auth` is missing or ended.
    #[error("ntlm_auth could not be run")]
    Helper(#[from] io::Error),
    #[error("ntlm_auth answered with something unknown")]
    Garbled,
}

impl WinbindError {
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Refused(reason) => *reason,
            Self::TimedOut => Reason::TargetTimeout,
            Self::NotJoined | Self::Domain(_) | Self::Helper(_) | Self::Garbled => Reason::TargetError,
        }
    }
}

/// What kind of proof was shown: their refusals read differently.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Password,
    Response,
}

/// Lines, then a dot.
struct Request(Zeroizing<Vec<u8>>);

impl Request {
    /// Any octets, as base64.
    fn secret(&mut self, field: &str, value: &[u8]) {
        self.0.extend_from_slice(field.as_bytes());
        self.0.extend_from_slice(b":: ");
        let from = self.0.len();
        self.0.resize(from + BASE64.encode_len(value.len()), 0);
        BASE64.encode_mut(value, &mut self.0[from..]);
        self.0.push(b'\n');
    }

    /// Octets of ours.
    fn line(&mut self, field: &str, value: &str) {
        self.0.extend_from_slice(field.as_bytes());
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'\n');
    }
}

struct Answer {
    key: Option<[u8; 16]>,
}

/// One `ntlm_auth`, killed when dropped.
struct Helper {
    process: Child,
    input: ChildStdin,
    output: ChildStdout,
    notes: ChildStderr,
}

impl Helper {
    fn start(program: &PathBuf) -> io::Result<Self> {
        let mut command = Command::new(program);
        // At level 3 it notes on its standard error why a password was refused, which the protocol leaves out.
        command.args(["--helper-protocol=ntlm-server-1", "--allow-mschapv2", "--debuglevel=3"]);
        let mut process =
            surrounded(&mut command).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let pipes = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        let (Some(input), Some(output), Some(notes)) = pipes else { return Err(ErrorKind::BrokenPipe.into()) };
        Ok(Self { process, input, output, notes })
    }

    fn is_alive(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// The verdict, and whether this helper owes nothing more.
    async fn ask(
        &mut self,
        request: &[u8],
        asked: Asked,
    ) -> Result<(Result<Answer, WinbindError>, bool), WinbindError> {
        self.input.write_all(request).await?;
        let answer = self.answer().await?;
        let lines = || answer.split(|octet| *octet == b'\n');
        let field = |name: &[u8]| lines().find_map(|line| line.strip_prefix(name));
        let status = match asked {
            Asked::Password => timeout(STATUS_WAIT, self.status()).await.ok().transpose()?,
            Asked::Response => field(b"Authentication-Error: ").map(Status::of_text),
        };
        match field(b"Authenticated: ") {
            Some(b"Yes") => {
                let key = field(b"User-Session-Key: ").and_then(from_hex);
                if asked == Asked::Response && key.is_none() {
                    return Err(WinbindError::Garbled);
                }
                Ok((Ok(Answer { key }), asked == Asked::Response || status.is_some()))
            }
            Some(b"No") => {
                let status = status.ok_or(WinbindError::Garbled)?;
                Ok((Err(status.error()), status != Status::NO_WINBIND))
            }
            _ => Err(WinbindError::Garbled),
        }
    }

    /// Up to the dot. After a refusal there are two: the second is found, and skipped, before the next answer.
    async fn answer(&mut self) -> Result<Zeroizing<Vec<u8>>, WinbindError> {
        let mut answer = Zeroizing::new(Vec::with_capacity(ANSWER_OCTETS_MAX));
        while answer.len() < ANSWER_OCTETS_MAX {
            let room = ANSWER_OCTETS_MAX - answer.len();
            if self.output.read_buf(&mut (&mut *answer).limit(room)).await? == 0 {
                return Err(WinbindError::Helper(ErrorKind::UnexpectedEof.into()));
            }
            while answer.starts_with(b".\n") {
                answer.drain(..2);
            }
            if let Some(end) = answer.windows(3).position(|octets| octets == b"\n.\n") {
                // What comes behind the dot can only be the second one.
                if !matches!(&answer[end + 3..], b"" | b".\n") {
                    return Err(WinbindError::Garbled);
                }
                answer.truncate(end);
                return Ok(answer);
            }
        }
        Err(WinbindError::Garbled)
    }

    /// The next note with a status: `NAME: text (0xNUMBER)`. One is written for each password, right or wrong.
    async fn status(&mut self) -> io::Result<Status> {
        let mut notes = Vec::with_capacity(1024);
        loop {
            if self.notes.read_buf(&mut notes).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let complete = notes.iter().rposition(|octet| *octet == b'\n').unwrap_or_default();
            if let Some(status) = notes[..complete].split(|octet| *octet == b'\n').find_map(Status::of_note) {
                return Ok(status);
            }
            notes.drain(..complete);
        }
    }
}

/// Nothing of our own environment, which may hold secrets, and no language that would change the words of an answer.
fn surrounded(command: &mut Command) -> &mut Command {
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8").kill_on_drop(true)
}

/// An NTSTATUS ([MS-ERREF] section 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status(u32);

impl Status {
    const NO_WINBIND: Self = Self(0);
    const UNKNOWN: Self = Self(0xC000_0001); // STATUS_UNSUCCESSFUL

    fn of_note(note: &[u8]) -> Option<Self> {
        let note = std::str::from_utf8(note).ok()?;
        let (_, number) = note.strip_suffix(')')?.rsplit_once(" (0x")?;
        // Two notes where winbindd does not answer, of which this is the first.
        if note.starts_with(WINBIND_IS_SILENT) {
            return None;
        }
        u32::from_str_radix(number, 16).ok().map(Self)
    }

    /// The protocol gives a response no number, only the words for it.
    fn of_text(text: &[u8]) -> Self {
        let is = |known: &str| known.as_bytes() == text;
        if is(WINBIND_IS_SILENT) {
            return Self::NO_WINBIND;
        }
        REFUSALS
            .iter()
            .find(|refusal| is(refusal.name) || refusal.words.iter().any(|words| is(words)))
            .map_or(Self::UNKNOWN, |refusal| Self(refusal.number))
    }

    fn error(self) -> WinbindError {
        match REFUSALS.iter().find(|refusal| refusal.number == self.0) {
            Some(refusal) => WinbindError::Refused(refusal.reason),
            None if self == Self::NO_WINBIND => WinbindError::NotJoined,
            None => WinbindError::Domain(self),
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "0x{:08x}", self.0)
    }
}

const WINBIND_IS_SILENT: &str = "Reading winbind reply failed!";

struct Refusal {
    number: u32,
    name: &'static str,
    /// As Samba puts it: since 4.17 at the latest first, as older ones did second.
    words: &'static [&'static str],
    reason: Reason,
}

/// Every no that is about the person. Whatever is not here is no refusal but a fault.
const REFUSALS: &[Refusal] = &[
    Refusal {
        number: 0xC000_0064,
        name: "NT_STATUS_NO_SUCH_USER",
        words: &["The specified account does not exist.", "No such user"],
        reason: Reason::UnknownUser,
    },
    // What winbindd says of a wrong password beside a principal name; that of nobody is 0xc0000064 as well.
    Refusal {
        number: 0xC000_0225,
        name: "NT_STATUS_NOT_FOUND",
        words: &["The object was not found."],
        reason: Reason::BadPassword,
    },
    Refusal {
        number: 0xC000_006A,
        name: "NT_STATUS_WRONG_PASSWORD",
        words: &[
            "When trying to update a password, this return status indicates that the value provided as the current password is not correct.",
            "Wrong Password",
        ],
        reason: Reason::BadPassword,
    },
    Refusal {
        number: 0xC000_006D,
        name: "NT_STATUS_LOGON_FAILURE",
        words: &[
            "The attempted logon is invalid. This is either due to a bad username or authentication information.",
            "Logon failure",
        ],
        reason: Reason::BadPassword,
    },
    Refusal {
        number: 0xC000_006E,
        name: "NT_STATUS_ACCOUNT_RESTRICTION",
        words: &[
            "Indicates a referenced user name and authentication information are valid, but some user account restriction has prevented successful authentication (such as time-of-day restrictions).",
            "Account restriction",
        ],
        reason: Reason::LogonRestricted,
    },
    Refusal {
        number: 0xC000_006F,
        name: "NT_STATUS_INVALID_LOGON_HOURS",
        words: &[
            "The user account has time restrictions and cannot be logged onto at this time.",
            "Invalid logon hours",
        ],
        reason: Reason::LogonRestricted,
    },
    Refusal {
        number: 0xC000_0070,
        name: "NT_STATUS_INVALID_WORKSTATION",
        words: &[
            "The user account is restricted so that it cannot be used to log on from the source workstation.",
            "Invalid workstation",
        ],
        reason: Reason::LogonRestricted,
    },
    Refusal {
        number: 0xC000_0071,
        name: "NT_STATUS_PASSWORD_EXPIRED",
        words: &["The user account password has expired.", "Password expired"],
        reason: Reason::PasswordExpired,
    },
    Refusal {
        number: 0xC000_0072,
        name: "NT_STATUS_ACCOUNT_DISABLED",
        words: &["The referenced account is currently disabled and cannot be logged on to.", "Account disabled"],
        reason: Reason::AccountDisabled,
    },
    Refusal {
        number: 0xC000_015B,
        name: "NT_STATUS_LOGON_TYPE_NOT_GRANTED",
        words: &[
            "A user has requested a type of logon (for example, interactive or network) that has not been granted. An administrator has control over who can logon interactively and through the network.",
        ],
        reason: Reason::LogonRestricted,
    },
    Refusal {
        number: 0xC000_0193,
        name: "NT_STATUS_ACCOUNT_EXPIRED",
        words: &["The user account has expired.", "Account expired"],
        reason: Reason::AccountExpired,
    },
    Refusal {
        number: 0xC000_0224,
        name: "NT_STATUS_PASSWORD_MUST_CHANGE",
        words: &["The user password must be changed before logging on the first time.", "Must change password"],
        reason: Reason::MustChangePassword,
    },
    Refusal {
        number: 0xC000_0234,
        name: "NT_STATUS_ACCOUNT_LOCKED_OUT",
        words: &[
            "The user account has been automatically locked because too many invalid logon attempts or password change attempts have been requested.",
            "Account locked out",
        ],
        reason: Reason::AccountLocked,
    },
];

fn from_hex(hex: &[u8]) -> Option<[u8; 16]> {
    let mut octets = [0; 16];
    (HEXLOWER_PERMISSIVE.decode_len(hex.len()) == Ok(octets.len())).then_some(())?;
    HEXLOWER_PERMISSIVE.decode_mut(hex, &mut octets).ok()?;
    Some(octets)
}

#[cfg(test)]
mod tests;
