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

#[cfg(test)]
impl Ticket {
    /// As if a KDC had given it.
    pub(crate) fn granted(client: Principal, octets: &[u8], key: &Key, ends: Timestamp) -> Self {
        Self { client, octets: octets.to_vec(), key: key.clone(), ends }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::tests::counted;
    use crate::message::{Write, application};
    use crate::service::ServiceAsked;
    use ldap_wire::ber::{OCTET_STRING, SEQUENCE, Writer};

    const NOW: Timestamp = Timestamp { seconds: 1_790_000_000, micros: 7 };
    const REALM: &str = "LAB.TEST";

    fn error(code: i64, iterations: Option<u32>) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.nested(application(kind::KRB_ERROR), |w| {
            w.nested(SEQUENCE, |w| {
                w.number(0, 5);
                w.number(1, kind::KRB_ERROR.into());
                w.time(4, Timestamp { seconds: NOW.seconds + 600, micros: 0 });
                w.number(5, 0);
                w.number(6, code);
                w.realm(9, REALM);
                w.name(10, &Principal::granting(REALM));
                if let Some(iterations) = iterations {
                    w.field(12, |w| w.nested(OCTET_STRING, |w| salted(w, iterations)));
                }
            });
        });
        writer.into_vec()
    }

    /// METHOD-DATA
    fn salted(writer: &mut Writer, iterations: u32) {
        writer.nested(SEQUENCE, |w| {
            w.nested(SEQUENCE, |w| {
                w.number(1, padata::ETYPE_INFO2.into());
                w.field(2, |w| {
                    w.nested(OCTET_STRING, |w| {
                        w.nested(SEQUENCE, |w| {
                            w.nested(SEQUENCE, |w| {
                                w.number(0, 17);
                                w.realm(1, "salt");
                                w.octets_in(2, &iterations.to_be_bytes());
                            });
                        });
                    });
                });
            });
        });
    }

    /// A reply of a KDC that has `key`.
    fn granted(kind: u8, usage: u32, key: &Key, client: &Principal, service: &Principal, nonce: u32) -> Vec<u8> {
        let mut part = Writer::new();
        part.nested(application(kind::ENC_TGS_REP_PART), |w| {
            w.nested(SEQUENCE, |w| {
                w.typed(0, 17, &[3; 16]);
                w.field(1, |w| w.nested(SEQUENCE, |_| {}));
                w.number(2, nonce.into());
                w.bits(4, 0);
                w.time(5, NOW);
                w.time(7, Timestamp { seconds: NOW.seconds + 36_000, micros: 0 });
                w.realm(9, REALM);
                w.name(10, service);
            });
        });
        let mut reply = Writer::new();
        reply.nested(application(kind), |w| {
            w.nested(SEQUENCE, |w| {
                w.number(0, 5);
                w.number(1, kind.into());
                w.realm(3, client.realm());
                w.name(4, client);
                w.field(5, |w| w.octets(application(kind::TICKET), b"ticket"));
                w.encrypted(6, key.encryption(), &key.encrypt(usage, &part.into_vec(), counted));
            });
        });
        reply.into_vec()
    }

    fn login() -> Login {
        let password = Credential::Password(Zeroizing::new(b"sesame".to_vec()));
        Login::new(Principal::user("ann", REALM), password, counted)
    }

    fn key() -> Key {
        Key::of_password(Encryption::Aes128, b"sesame", b"salt", 4096)
    }

    #[test]
    fn one_proof_is_sent_and_no_second_one() {
        let mut login = login();
        assert!(matches!(login.next(&error(25, Some(4096)), NOW), Ok(Step::Ask(_))));
        assert_eq!(login.next(&error(25, Some(4096)), NOW).err(), Some(KdcError::Refused { code: 25 }));
        let theirs = Timestamp { seconds: NOW.seconds + 600, micros: 0 };
        for (code, means) in [
            (6, KdcError::UnknownAccount),
            (14, KdcError::NoAes),
            (18, KdcError::Revoked),
            (23, KdcError::PasswordExpired),
            (24, KdcError::WrongPassword),
            (37, KdcError::ClockSkew { ours: NOW, theirs }),
            (60, KdcError::Refused { code: 60 }),
        ] {
            assert_eq!(login.next(&error(code, None), NOW).err(), Some(means));
        }
        let differ = KdcError::ClockSkew { ours: NOW, theirs }.to_string();
        assert_eq!(differ, "the clocks differ: here it is 2026-09-21 14:13:20 UTC, there 2026-09-21 14:23:20 UTC");
    }

    #[test]
    fn a_password_is_hashed_neither_too_rarely_nor_for_ever() {
        // RFC 3962 section 4
        for iterations in [0, 1, 4095, 100_001, u32::MAX] {
            let found = login().next(&error(25, Some(iterations)), NOW).err();
            assert_eq!(found, Some(KdcError::Reply(ReplyError::Iterations)), "{iterations}");
        }
    }

    #[test]
    fn a_ticket_is_for_what_was_asked_and_from_who_has_the_key() {
        let (ann, service) = (Principal::user("ann", REALM), Principal::granting(REALM));
        let next = |reply: &[u8]| {
            let mut login = login();
            assert!(matches!(login.next(&error(25, Some(4096)), NOW), Ok(Step::Ask(_))));
            login.next(reply, NOW).map(|step| matches!(step, Step::Granted(_)))
        };
        let nonce = login().nonce;
        let reply = |key: &Key, client: &Principal, service: &Principal, nonce: u32| {
            granted(kind::AS_REP, usage::AS_REP, key, client, service, nonce)
        };
        assert_eq!(next(&reply(&key(), &ann, &service, nonce)), Ok(true));
        let other = Err(KdcError::Reply(ReplyError::OtherQuestion));
        assert_eq!(next(&reply(&key(), &ann, &service, nonce + 1)), other);
        assert_eq!(next(&reply(&key(), &Principal::user("bob", REALM), &service, nonce)), other);
        assert_eq!(next(&reply(&key(), &ann, &Principal::granting("EVIL.TEST"), nonce)), other);
        let strange = Key::of_password(Encryption::Aes128, b"other", b"salt", 4096);
        let wrong = KdcError::Reply(ReplyError::WrongKey(crate::WrongKey));
        assert_eq!(next(&reply(&strange, &ann, &service, nonce)), Err(wrong));
        // Nobody asked for a proof: whether the password is right shows in the reply alone.
        let unasked = login().next(&reply(&strange, &ann, &service, nonce), NOW).err();
        assert_eq!(unasked, Some(KdcError::WrongPassword));
    }

    #[test]
    fn a_ticket_for_a_service_is_for_that_service() {
        let ann = Principal::user("ann", REALM);
        let granting = Ticket::granted(ann.clone(), b"\x61\x00", &key(), NOW);
        let asked = |host: &str, client: &Principal, key: &Key| {
            let wanted = Principal::service("ldap", "dc1.lab.test", REALM);
            let (asked, _) = ServiceAsked::new(&granting, wanted, NOW, counted);
            let found = Principal::service("ldap", host, REALM);
            let reply = granted(kind::TGS_REP, usage::TGS_REP, key, client, &found, nonce(counted));
            asked.read(&reply, NOW).map(|ticket| ticket.ends().seconds - NOW.seconds)
        };
        assert_eq!(asked("dc1.lab.test", &ann, &key()), Ok(36_000));
        let other = Err(KdcError::Reply(ReplyError::OtherQuestion));
        assert_eq!(asked("dc2.lab.test", &ann, &key()), other);
        assert_eq!(asked("dc1.lab.test", &Principal::user("bob", REALM), &key()), other);
        let strange = Key::of_password(Encryption::Aes128, b"other", b"salt", 4096);
        assert!(asked("dc1.lab.test", &ann, &strange).is_err());
        let (question, _) = ServiceAsked::new(&granting, Principal::granting(REALM), NOW, counted);
        assert_eq!(question.read(&error(7, None), NOW).err(), Some(KdcError::UnknownService));
    }
}
