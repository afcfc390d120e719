//! What one bind says, request by request: one of a simple bind, two of a Windows logon (FD-06, FD-07).
//!
//! ```text
//! start() ──> request ──> the server ──> next(response) ─┬─> Ask(request) ──> the server ──> next ...
//!                                                        └─> Ended(response, session)
//! ```
//!
//! Sans-io: our own connections and the LDAP gateway's send and receive as each does. However many requests it takes, it is one bind:
//! the directory looks at one password (L-34).

use crate::bind::{Verdict, names_another_reason};
use crate::connect::Channel;
use crate::server::ServerName;
use crate::spnego::{self, Token};
use domain::Secret;
use domain::settings::{Preset, WindowsAccount};
use ldap_wire::ber::BerError;
use ldap_wire::{BindRequest, BindResponse, Control, LdapResult, Password, ResultCode};
use ntlm::{Account, AnswerError, Challenge, ChallengeError, ChannelBinding, Fresh, Layer, Session, SessionError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// One bind in progress.
pub struct Exchange {
    credentials: Credentials,
    password: Secret,
    preset: Preset,
    /// The server has been shown that we know the password, or what we take for it.
    shown: bool,
    /// For what follows a success.
    session: Option<Box<Session>>,
}

enum Credentials {
    Simple { dn: String },
    Windows { account: WindowsAccount, target: String, binding: Option<ChannelBinding>, layer: Layer },
}

/// What comes next.
pub enum Step {
    Ask(BindRequest),
    Ended(Ended),
}

/// The server's last word.
pub struct Ended {
    /// Without what belongs to the exchange alone (L-33).
    pub response: BindResponse,
    /// What everything after a success is sealed with.
    pub(crate) session: Option<Box<Session>>,
}

/// A Windows logon came to no answer about the password: nothing is known about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogonError {
    /// A server that is no server of the domain, or somebody in its place.
    #[error("the server accepted before it had seen that the password is known")]
    AcceptedUnseen,
    #[error("the server asks for more than a Windows logon has")]
    NotOver,
    #[error("the server's token is not SPNEGO")]
    Token(#[from] BerError),
    #[error("the server does not speak NTLM")]
    NoNtlm,
    #[error("the server's challenge cannot be answered")]
    Challenge(#[from] ChallengeError),
    #[error("the server's answer is not from whoever looked at the password")]
    Server(#[from] SessionError),
    #[error("the account's name cannot be sent")]
    Account(#[from] AnswerError),
}

const MECHANISM: &str = "GSS-SPNEGO";

impl Exchange {
    pub(crate) fn simple(dn: &str, password: &Secret, preset: Preset) -> Self {
        let credentials = Credentials::Simple { dn: dn.to_owned() };
        Self { credentials, password: password.clone(), preset, shown: false, session: None }
    }

    /// Inside TLS it is bound to that channel; where there is no channel, everything behind it is sealed.
    pub(crate) fn windows(
        account: WindowsAccount,
        password: &Secret,
        preset: Preset,
        server: &ServerName,
        channel: &Channel,
    ) -> Self {
        let (binding, layer) = match channel {
            Channel::Tls(binding) => (binding.clone(), Layer::None),
            Channel::Clear => (None, Layer::Sealed),
        };
        let target = format!("ldap/{}", server.host());
        let credentials = Credentials::Windows { account, target, binding, layer };
        Self { credentials, password: password.clone(), preset, shown: false, session: None }
    }

    /// The first request.
    pub fn start(&mut self) -> BindRequest {
        match &self.credentials {
            Credentials::Simple { dn } => {
                self.shown = true;
                BindRequest::simple(dn.clone(), Password::new(self.password.expose()))
            }
            Credentials::Windows { layer, .. } => {
                BindRequest::sasl(MECHANISM, Some(Password::new(spnego::init(&ntlm::negotiate(*layer)))))
            }
        }
    }

    /// After a response to what was asked last.
    pub fn next(&mut self, mut response: BindResponse) -> Result<Step, LogonError> {
        let Credentials::Windows { account, target, binding, layer } = &self.credentials else {
            return Ok(Step::Ended(Ended { response, session: None }));
        };
        let token = response.server_sasl_credentials.take();
        match response.result.code {
            ResultCode::SASL_BIND_IN_PROGRESS if self.shown => Err(LogonError::NotOver),
            ResultCode::SASL_BIND_IN_PROGRESS => {
                let token = token.ok_or(LogonError::NoNtlm)?;
                let challenge = Token::parse(&token)?.message.ok_or(LogonError::NoNtlm)?;
                let challenge = Challenge::parse(challenge, *layer)?;
                // What is no UTF-8 is nobody's password, and counts as one that is wrong.
                let password = Zeroizing::new(String::from_utf8_lossy(self.password.expose()).into_owned());
                let account = Account { user: &account.user, domain: &account.domain, password: &password };
                let answer = challenge.answer(&account, target, binding.as_ref(), *layer, &fresh())?;
                self.shown = true;
                self.session = answer.session.map(Box::new);
                let mic = match &mut self.session {
                    Some(session) => session.mic(&spnego::mechanisms()),
                    None => Session::NO_MIC,
                };
                let token = Password::new(spnego::response(&answer.message, &mic));
                Ok(Step::Ask(BindRequest::sasl(MECHANISM, Some(token))))
            }
            ResultCode::SUCCESS if !self.shown => Err(LogonError::AcceptedUnseen),
            _ => {
                let mut session = self.session.take();
                let mic = token.as_ref().and_then(|token| Token::parse(token).ok()?.mic);
                if let (Some(session), Some(mic)) = (&mut session, mic) {
                    session.check_mic(&spnego::mechanisms(), mic)?;
                }
                Ok(Step::Ended(Ended { response, session }))
            }
        }
    }

    /// What the server's last word means. Before it was shown the password, it is no word about it.
    pub fn verdict(&self, result: &LdapResult, controls: &[Control]) -> Verdict {
        match (&self.credentials, Verdict::of(result, controls, self.preset)) {
            (Credentials::Windows { .. }, Verdict::Refused(_)) if !self.shown => Verdict::Undecided,
            // A channel that is another one than the server's own, a logon that the domain has switched off.
            (Credentials::Windows { .. }, Verdict::Refused(_)) if names_another_reason(result) => Verdict::Undecided,
            (_, verdict) => verdict,
        }
    }
}

fn fresh() -> Fresh {
    /// From 1601 to 1970.
    const EPOCH: Duration = Duration::from_secs(11_644_473_600);
    let mut fresh = Fresh { client_challenge: [0; 8], session_key: Zeroizing::new([0; 16]), time: 0 };
    getrandom::fill(&mut fresh.client_challenge).expect("the kernel gives random octets");
    getrandom::fill(fresh.session_key.as_mut_slice()).expect("the kernel gives random octets");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + EPOCH;
    fresh.time = u64::try_from(now.as_nanos() / 100).unwrap_or_default();
    fresh
}
