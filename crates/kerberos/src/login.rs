//! The first ticket (RFC 4120 section 3.1): who has the account's password or key gets one that others are asked for with.

use crate::crypto::{Encryption, Key, Random};
use crate::error::{KdcError, ReplyError};
use crate::message::{
    Body, Fault, Part, Principal, Reply, Salting, Timestamp, encrypted_data, kind, padata, request, salting, timestamp,
    usage,
};
use ldap_wire::ber::Reader;
use zeroize::Zeroizing;

/// What proves who we are.
pub enum Credential {
    Password(Zeroizing<Vec<u8>>),
    /// Of one account, each for another encryption; see [`crate::Keytab`].
    Keys(Vec<Key>),
}

impl Credential {
    fn encryptions(&self) -> Vec<Encryption> {
        let has = |encryption: &Encryption| match self {
            Self::Password(_) => true,
            Self::Keys(keys) => keys.iter().any(|key| key.encryption() == *encryption),
        };
        Encryption::ALL.into_iter().filter(has).collect()
    }

    fn key(&self, client: &Principal, salting: &Salting) -> Result<Key, KdcError> {
        /// What everybody uses, and the least that is accepted: whoever asks for less wants to guess (RFC 3962 section 4).
        const ITERATIONS: u32 = 4096;
        /// Tenths of a second.
        const ITERATIONS_MAX: u32 = 100_000;
        let iterations = salting.iterations.unwrap_or(ITERATIONS);
        if !(ITERATIONS..=ITERATIONS_MAX).contains(&iterations) {
            return Err(ReplyError::Iterations.into());
        }
        match self {
            Self::Password(password) => {
                let salt = salting.salt.clone().unwrap_or_else(|| client.salt());
                Ok(Key::of_password(salting.encryption, password, &salt, iterations))
            }
            Self::Keys(keys) => {
                keys.iter().find(|key| key.encryption() == salting.encryption).cloned().ok_or(KdcError::NoAes)
            }
        }
    }
}

/// One login in progress: a question without a proof, which says how the key is made, and one with it. The KDC counts the second.
pub struct Login {
    client: Principal,
    service: Principal,
    credential: Credential,
    nonce: u32,
    random: Random,
    /// What the proof was made with.
    key: Option<Key>,
}

/// What comes next.
pub enum Step {
    Ask(Vec<u8>),
    Granted(Ticket),
}

/// Good for one service, and until it ends.
#[derive(Clone)]
pub struct Ticket {
    pub(crate) client: Principal,
    /// For the service; we cannot read it.
    pub(crate) octets: Vec<u8>,
    pub(crate) key: Key,
    ends: Timestamp,
}

impl Ticket {
    pub fn ends(&self) -> Timestamp {
        self.ends
    }

    /// Whose it is.
    pub fn client(&self) -> &Principal {
        &self.client
    }

    /// Of a reply to `nonce` that was opened with the right key.
    pub(crate) fn of(reply: &Reply<'_>, part: Part, service: &Principal, nonce: u32) -> Result<Self, ReplyError> {
        if part.nonce != nonce || !part.service.is_same(service) {
            return Err(ReplyError::OtherQuestion);
        }
        let (client, octets) = (reply.client.clone(), reply.ticket.to_vec());
        Ok(Self { client, octets, key: part.key, ends: part.ends })
    }
}

impl Login {
    pub fn new(client: Principal, credential: Credential, random: Random) -> Self {
        let service = Principal::granting(client.realm());
        Self { nonce: nonce(random), client, service, credential, random, key: None }
    }

    /// The first question.
    pub fn start(&self) -> Vec<u8> {
        request(kind::AS_REQ, None, &self.body())
    }

    /// After a reply to what was asked last.
    pub fn next(&mut self, reply: &[u8], now: Timestamp) -> Result<Step, KdcError> {
        /// RFC 4120 section 7.5.9
        const PREAUTH_REQUIRED: i32 = 25;
        match Fault::parse(reply)? {
            None => self.granted(reply).map(Step::Granted),
            Some(Fault { code: PREAUTH_REQUIRED, data: Some(data), .. }) if self.key.is_none() => {
                let found = salting(Reader::new(data), &self.credential.encryptions())?.ok_or(KdcError::NoAes)?;
                let key = self.credential.key(&self.client, &found)?;
                let proof = key.encrypt(usage::PA_ENC_TIMESTAMP, &timestamp(now), self.random);
                let proof = encrypted_data(key.encryption(), &proof);
                self.key = Some(key);
                Ok(Step::Ask(request(kind::AS_REQ, Some((padata::ENC_TIMESTAMP, &proof)), &self.body())))
            }
            Some(fault) => Err(KdcError::of(fault.code, fault.servers_time, now)),
        }
    }

    fn body(&self) -> Vec<u8> {
        let encryptions = &self.credential.encryptions();
        Body { client: Some(&self.client), service: &self.service, nonce: self.nonce, encryptions }.written()
    }

    fn granted(&self, octets: &[u8]) -> Result<Ticket, KdcError> {
        let reply = Reply::parse(kind::AS_REP, octets)?;
        // By an enterprise name somebody is found who is called otherwise.
        if !self.client.is_enterprise() && !reply.client.is_same(&self.client) {
            return Err(ReplyError::OtherQuestion.into());
        }
        let key = match &self.key {
            Some(key) if key.encryption() == reply.part.encryption => key.clone(),
            // An account that needs no proof: the reply itself says how the key is made.
            _ => {
                let known = [reply.part.encryption];
                let told = reply.padata.clone().map(|padata| salting(padata, &known)).transpose()?.flatten();
                let usual = Salting { encryption: reply.part.encryption, salt: None, iterations: None };
                self.credential.key(&self.client, &told.unwrap_or(usual))?
            }
        };
        let part = reply.part.open(&key, usage::AS_REP).map_err(|error| match error {
            // Nothing has been proven yet, so that it is the first that shows a wrong password.
            ReplyError::WrongKey(_) if self.key.is_none() => KdcError::WrongPassword,
            error => error.into(),
        })?;
        Ok(Ticket::of(&reply, Part::parse(&part)?, &self.service, self.nonce)?)
    }
}

/// Positive for those, too, who read it as signed.
pub(crate) fn nonce(random: Random) -> u32 {
    let mut octets = [0; 4];
    random(&mut octets);
    u32::from_be_bytes(octets) & 0x7fff_ffff
}
