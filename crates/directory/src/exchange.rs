//! What one bind says, request by request: one of a simple bind or of a Windows logon by Kerberos, two of one by NTLM (FD-06, FD-07).
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
use crate::sealed::Seal;
use crate::server::ServerName;
use crate::spnego::{self, Mechanism, Token};
use domain::Secret;
use domain::settings::{Preset, WindowsAccount};
use kerberos::{Initiator, Ticket, Timestamp};
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
    seal: Option<Seal>,
}

enum Credentials {
    Simple { dn: String },
    Ntlm { account: WindowsAccount, target: String, binding: Option<ChannelBinding>, layer: Layer },
    Kerberos(Box<Presented>),
}

/// A ticket that is shown to its service.
struct Presented {
    token: Zeroizing<Vec<u8>>,
    /// Until the server has proven that it could read the token.
    initiator: Option<Initiator>,
    layer: kerberos::Layer,
    /// The server wanted to see the MIC, and has got it.
    signed: bool,
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
    pub(crate) seal: Option<Seal>,
}

/// A Windows logon came to no answer about the password: nothing is known about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogonError {
    /// A server that is no server of the domain, or somebody in its place.
    #[error("the server accepted before it had seen or proven what a server of the domain would")]
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
    #[error("the server does not speak Kerberos")]
    NoKerberos,
    /// The server cannot read our ticket, or is not the one that it is for.
    #[error("the logon by Kerberos failed")]
    Kerberos(#[from] kerberos::SessionError),
}

const MECHANISM: &str = "GSS-SPNEGO";

impl Exchange {
    pub(crate) fn simple(dn: &str, password: &Secret, preset: Preset) -> Self {
        Self::new(Credentials::Simple { dn: dn.to_owned() }, password.clone(), preset)
    }

    /// Inside TLS it is bound to that channel; where there is no channel, everything behind it is sealed.
    pub(crate) fn ntlm(
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
        Self::new(Credentials::Ntlm { account, target, binding, layer }, password.clone(), preset)
    }

    /// The same with a ticket for this server.
    pub(crate) fn kerberos(ticket: &Ticket, preset: Preset, channel: &Channel) -> Self {
        let (binding, layer) = match channel {
            Channel::Tls(binding) => (binding.as_ref(), kerberos::Layer::None),
            Channel::Clear => (None, kerberos::Layer::Sealed),
        };
        let (initiator, token) = Initiator::new(ticket, layer, binding.map(ChannelBinding::octets), now(), random);
        let presented = Presented { token, initiator: Some(initiator), layer, signed: false };
        Self::new(Credentials::Kerberos(Box::new(presented)), Secret::default(), preset)
    }

    fn new(credentials: Credentials, password: Secret, preset: Preset) -> Self {
        Self { credentials, password, preset, shown: false, seal: None }
    }

    /// The first request.
    pub fn start(&mut self) -> BindRequest {
        match &self.credentials {
            Credentials::Simple { dn } => {
                self.shown = true;
                BindRequest::simple(dn.clone(), Password::new(self.password.expose()))
            }
            Credentials::Ntlm { layer, .. } => {
                let token = spnego::init(Mechanism::Ntlm, &ntlm::negotiate(*layer));
                BindRequest::sasl(MECHANISM, Some(Password::new(token)))
            }
            Credentials::Kerberos(presented) => {
                self.shown = true;
                let token = spnego::init(Mechanism::Kerberos, &presented.token);
                BindRequest::sasl(MECHANISM, Some(Password::new(token)))
            }
        }
    }

    /// After a response to what was asked last.
    pub fn next(&mut self, mut response: BindResponse) -> Result<Step, LogonError> {
        let token = match self.credentials {
            Credentials::Simple { .. } => return Ok(Step::Ended(Ended { response, seal: None })),
            _ => response.server_sasl_credentials.take(),
        };
        let answer = match &mut self.credentials {
            Credentials::Simple { .. } => None,
            Credentials::Ntlm { .. } => self.ntlm_answer(response.result.code, token.as_deref())?,
            Credentials::Kerberos(presented) => {
                presented.answer(response.result.code, token.as_deref(), &mut self.seal)?
            }
        };
        Ok(match answer {
            Some(token) => Step::Ask(BindRequest::sasl(MECHANISM, Some(Password::new(token)))),
            None => Step::Ended(Ended { response, seal: self.seal.take() }),
        })
    }

    /// The next token, as long as there is one.
    fn ntlm_answer(&mut self, code: ResultCode, token: Option<&[u8]>) -> Result<Option<Vec<u8>>, LogonError> {
        const NTLM: Mechanism = Mechanism::Ntlm;
        let Credentials::Ntlm { account, target, binding, layer } = &self.credentials else { return Ok(None) };
        match code {
            ResultCode::SASL_BIND_IN_PROGRESS if self.shown => Err(LogonError::NotOver),
            ResultCode::SASL_BIND_IN_PROGRESS => {
                let token = token.ok_or(LogonError::NoNtlm)?;
                let challenge = Token::parse(NTLM, token)?.message.ok_or(LogonError::NoNtlm)?;
                let challenge = Challenge::parse(challenge, *layer)?;
                // What is no UTF-8 is nobody's password, and counts as one that is wrong.
                let password = Zeroizing::new(String::from_utf8_lossy(self.password.expose()).into_owned());
                let account = Account { user: &account.user, domain: &account.domain, password: &password };
                let answer = challenge.answer(&account, target, binding.as_ref(), *layer, &fresh())?;
                self.shown = true;
                self.seal = answer.session.map(|session| Seal::Ntlm(Box::new(session)));
                let mic = match &mut self.seal {
                    Some(seal) => seal.mic(&NTLM.offered()),
                    None => Session::NO_MIC.to_vec(),
                };
                Ok(Some(spnego::response(Some(&answer.message), &mic)))
            }
            ResultCode::SUCCESS if !self.shown => Err(LogonError::AcceptedUnseen),
            _ => {
                let mic = token.and_then(|token| Token::parse(NTLM, token).ok()?.mic);
                if let (Some(seal), Some(mic)) = (&mut self.seal, mic) {
                    seal.check_mic(&NTLM.offered(), mic)?;
                }
                Ok(None)
            }
        }
    }

    /// What the server's last word means. Before it was shown the password, it is no word about it.
    pub fn verdict(&self, result: &LdapResult, controls: &[Control]) -> Verdict {
        match (&self.credentials, Verdict::of(result, controls, self.preset)) {
            (Credentials::Ntlm { .. }, Verdict::Refused(_)) if !self.shown => Verdict::Undecided,
            // A channel that is another one than the server's own, a logon that the domain has switched off.
            (Credentials::Ntlm { .. }, Verdict::Refused(_)) if names_another_reason(result) => Verdict::Undecided,
            // A ticket is refused, and no password.
            (Credentials::Kerberos(_), Verdict::Refused(_)) => Verdict::Undecided,
            (_, verdict) => verdict,
        }
    }

    pub(crate) fn is_kerberos(&self) -> bool {
        matches!(self.credentials, Credentials::Kerberos(_))
    }
}

impl Presented {
    /// The next token, as long as there is one. `seal` is made when the server has proven itself.
    fn answer(
        &mut self,
        code: ResultCode,
        token: Option<&[u8]>,
        seal: &mut Option<Seal>,
    ) -> Result<Option<Vec<u8>>, LogonError> {
        // Why it refuses says its code; what comes with it is signed by nobody.
        if !matches!(code, ResultCode::SUCCESS | ResultCode::SASL_BIND_IN_PROGRESS) {
            *seal = None;
            return Ok(None);
        }
        let token = token.map(|token| Token::parse(Mechanism::Kerberos, token)).transpose()?.unwrap_or_default();
        let offered = Mechanism::Kerberos.offered();
        if let (Some(initiator), Some(message)) = (self.initiator.take_if(|_| token.message.is_some()), token.message) {
            *seal = Some(Seal::Kerberos(Box::new(initiator.accept(message, now())?)));
        }
        match (code, &mut *seal) {
            (ResultCode::SASL_BIND_IN_PROGRESS, _) if self.signed => Err(LogonError::NotOver),
            (ResultCode::SASL_BIND_IN_PROGRESS, None) => Err(LogonError::NoKerberos),
            (ResultCode::SASL_BIND_IN_PROGRESS, Some(seal)) => {
                self.signed = true;
                if let Some(mic) = token.mic {
                    seal.check_mic(&offered, mic)?;
                }
                Ok(Some(spnego::response(None, &seal.mic(&offered))))
            }
            (_, None) => Err(LogonError::AcceptedUnseen),
            (_, Some(proven)) => {
                if let Some(mic) = token.mic {
                    proven.check_mic(&offered, mic)?;
                }
                if self.layer == kerberos::Layer::None {
                    *seal = None;
                }
                Ok(None)
            }
        }
    }
}

/// As Kerberos counts it.
pub(crate) fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: now.as_secs().try_into().unwrap_or(i64::MAX), micros: now.subsec_micros() }
}

pub(crate) fn random(octets: &mut [u8]) {
    getrandom::fill(octets).expect("the kernel gives random octets");
}

fn fresh() -> Fresh {
    /// From 1601 to 1970.
    const EPOCH: Duration = Duration::from_secs(11_644_473_600);
    let mut fresh = Fresh { client_challenge: [0; 8], session_key: Zeroizing::new([0; 16]), time: 0 };
    random(&mut fresh.client_challenge);
    random(fresh.session_key.as_mut_slice());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + EPOCH;
    fresh.time = u64::try_from(now.as_nanos() / 100).unwrap_or_default();
    fresh
}
