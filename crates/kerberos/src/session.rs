//! The GSS-API mechanism (RFC 4121): a ticket becomes a session with its service, and what follows is signed and sealed.

use crate::crypto::{CONFOUNDER, Key, MAC, Random, Sealing, WrongKey};
use crate::error::ReplyError;
use crate::login::{Ticket, nonce};
use crate::message::{Accepted, Authenticator, Fault, Read, Timestamp, ap_request, kind, message, usage};
use ldap_wire::ber::{Reader, Writer};
use std::ops::Range;
use zeroize::Zeroizing;

/// What protects the octets that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// Something around it, such as TLS.
    None,
    /// Kerberos itself: signed and sealed.
    Sealed,
}

/// Nothing that can be believed came from the service, or something is missing. Nothing more can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    #[error("the server could not read our ticket or did not accept it: Kerberos error {code}")]
    Refused { code: i32 },
    #[error("the server's clock differs from ours: here it is {ours}, there {theirs}")]
    ClockSkew { ours: Timestamp, theirs: Timestamp },
    #[error("the server's token cannot be used")]
    Token(#[from] ReplyError),
    #[error("the server's token does not prove that it has read ours")]
    Unproven,
    #[error("something that is not sealed came where everything is")]
    NotSealed,
    #[error("a sealed message was left out, repeated or changed")]
    OutOfOrder,
}

impl From<WrongKey> for SessionError {
    fn from(error: WrongKey) -> Self {
        Self::Token(error.into())
    }
}

impl From<ldap_wire::ber::BerError> for SessionError {
    fn from(error: ldap_wire::ber::BerError) -> Self {
        Self::Token(error.into())
    }
}

/// 1.2.840.113554.1.2.2
const KERBEROS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 1, 2, 2];
const OBJECT_IDENTIFIER: u8 = 0x06;
/// InitialContextToken (RFC 2743 section 3.1).
const INITIAL: u8 = 0x60;

/// Kinds of tokens (RFC 4121 section 4.1).
const AP_REQ: [u8; 2] = [1, 0];
const AP_REP: [u8; 2] = [2, 0];
const ERROR: [u8; 2] = [3, 0];

/// Our token has been sent, and the service has to prove that it could read it.
pub struct Initiator {
    /// Of the ticket.
    key: Key,
    subkey: Key,
    sent: Timestamp,
    number: u32,
    random: Random,
}

impl Initiator {
    /// And the token that shows the service the ticket. `binding` is the MD5 hash of the channel's gss_channel_bindings_struct (RFC 4121
    /// section 4.1.1.2).
    pub fn new(
        ticket: &Ticket,
        layer: Layer,
        binding: Option<&[u8; 16]>,
        now: Timestamp,
        random: Random,
    ) -> (Self, Zeroizing<Vec<u8>>) {
        /// RFC 4121 section 4.1.1
        const CHECKSUM: i32 = 0x8003;
        const MUTUAL: u32 = 2;
        const REPLAY: u32 = 4;
        const SEQUENCE: u32 = 8;
        const CONFIDENTIALITY: u32 = 16;
        const INTEGRITY: u32 = 32;
        let flags = match layer {
            // A domain controller that is asked for more inside TLS refuses.
            Layer::None => MUTUAL,
            Layer::Sealed => MUTUAL | REPLAY | SEQUENCE | CONFIDENTIALITY | INTEGRITY,
        };
        let key = ticket.key.clone();
        let (subkey, number) = (Key::random(key.encryption(), random), nonce(random));
        let checksum = [&16_u32.to_le_bytes()[..], binding.unwrap_or(&[0; 16]), &flags.to_le_bytes()].concat();
        let checksum = (CHECKSUM, checksum.as_slice());
        let authenticator =
            Authenticator { client: &ticket.client, checksum, now, subkey: Some(&subkey), number: Some(number) };
        let authenticator = key.encrypt(usage::AP_REQ_AUTHENTICATOR, &authenticator.written(), random);
        let request = ap_request(true, &ticket.octets, key.encryption(), &authenticator);
        let token = Zeroizing::new(framed(AP_REQ, &request));
        (Self { key, subkey, sent: now, number, random }, token)
    }

    /// The service's token: only who has its key could have read ours and answered so. `now` is ours.
    pub fn accept(self, token: &[u8], now: Timestamp) -> Result<Session, SessionError> {
        let mut content = Reader::new(token).expect(INITIAL)?.reader();
        if content.expect(OBJECT_IDENTIFIER)?.content != KERBEROS {
            return Err(ReplyError::NotKerberos.into());
        }
        let (token_kind, reply) = content.rest().split_first_chunk().ok_or(ReplyError::NotKerberos)?;
        match *token_kind {
            AP_REP => {}
            ERROR => return Err(refused(reply, now)?),
            _ => return Err(ReplyError::NotKerberos.into()),
        }
        let mut fields = message(kind::AP_REP, reply)?;
        let accepted = fields.encrypted(2)?.open(&self.key, usage::AP_REP)?;
        let accepted = Accepted::parse(&accepted)?;
        if accepted.time != self.sent {
            return Err(SessionError::Unproven);
        }
        let by_acceptor = accepted.subkey.is_some();
        let key = accepted.subkey.unwrap_or(self.subkey);
        Ok(Session {
            ours: Direction::new(&key, INITIATOR, self.number),
            theirs: Direction::new(&key, ACCEPTOR, accepted.number),
            key,
            by_acceptor,
            random: self.random,
        })
    }
}

fn refused(reply: &[u8], now: Timestamp) -> Result<SessionError, SessionError> {
    /// RFC 4120 section 7.5.9
    const CLOCK_SKEW: i32 = 37;
    Ok(match Fault::parse(reply)?.ok_or(ReplyError::NotKerberos)? {
        Fault { code: CLOCK_SKEW, servers_time: theirs, .. } => SessionError::ClockSkew { ours: now, theirs },
        Fault { code, .. } => SessionError::Refused { code },
    })
}

fn framed(kind: [u8; 2], content: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.nested(INITIAL, |w| {
        w.octets(OBJECT_IDENTIFIER, KERBEROS);
        w.raw(&kind);
        w.raw(content);
    });
    writer.into_vec()
}

/// The client's end. Both directions count their messages, so that none can be left out, repeated or exchanged.
pub struct Session {
    ours: Direction,
    theirs: Direction,
    key: Key,
    /// The key is the service's.
    by_acceptor: bool,
    random: Random,
}

struct Direction {
    sealing: Sealing,
    /// Usage of the key for a MIC.
    sign: u32,
    number: u64,
}

/// Usages of a key (RFC 4121 section 2): to seal, to sign.
const ACCEPTOR: [u32; 2] = [22, 23];
const INITIATOR: [u32; 2] = [24, 25];

impl Direction {
    fn new(key: &Key, [seal, sign]: [u32; 2], number: u32) -> Self {
        Self { sealing: key.sealing(seal), sign, number: number.into() }
    }
}

/// RFC 4121 section 4.2.6
const WRAP: [u8; 2] = [5, 4];
const SIGN: [u8; 2] = [4, 4];
const HEADER: usize = 16;
const SENT_BY_ACCEPTOR: u8 = 1;
const SEALED: u8 = 2;
const ACCEPTOR_SUBKEY: u8 = 4;

impl Session {
    /// Octets of a sealed message beside its content, at least.
    pub const OVERHEAD: usize = HEADER + CONFOUNDER + HEADER + MAC;

    /// So that only the service can read it (RFC 4121 section 4.2.6.2).
    pub fn seal(&mut self, message: &[u8]) -> Vec<u8> {
        let header = header(WRAP, SEALED | self.subkey_flag(), [0xff, 0, 0, 0, 0], self.ours.number);
        self.ours.number = self.ours.number.wrapping_add(1);
        let sealed = self.ours.sealing.encrypt(&[message, &header], self.random);
        [&header, sealed.as_slice()].concat()
    }

    /// In place; where the message is then.
    pub fn unseal(&mut self, token: &mut [u8]) -> Result<Range<usize>, SessionError> {
        let (found, rest) = token.split_first_chunk_mut::<HEADER>().ok_or(SessionError::NotSealed)?;
        let [_, _, _, _, extra_high, extra_low, right_high, right_low, ..] = *found;
        let extra = u16::from_be_bytes([extra_high, extra_low]);
        let right = usize::from(u16::from_be_bytes([right_high, right_low]));
        let of = |right: [u8; 2]| {
            let filler = [0xff, extra_high, extra_low, right[0], right[1]];
            header(WRAP, SENT_BY_ACCEPTOR | SEALED | self.subkey_flag(), filler, self.theirs.number)
        };
        let (expected, inner) = (of([right_high, right_low]), of([0, 0]));
        match *found {
            header if header == expected => {}
            [5, 4, ..] => return Err(SessionError::OutOfOrder),
            _ => return Err(SessionError::NotSealed),
        }
        if let Some(times) = right.checked_rem(rest.len()) {
            rest.rotate_left(times);
        }
        let plain = self.theirs.sealing.decrypt(rest)?;
        self.theirs.number = self.theirs.number.wrapping_add(1);
        let end = plain.len().checked_sub(HEADER + usize::from(extra)).ok_or(SessionError::NotSealed)?;
        let content = rest.get(plain.clone()).ok_or(SessionError::NotSealed)?;
        if !content.ends_with(&inner) {
            return Err(SessionError::OutOfOrder);
        }
        let start = HEADER + plain.start;
        Ok(start..start + end)
    }

    /// Over the mechanisms that SPNEGO was offered (RFC 4178 section 5). It takes a number of its own.
    pub fn mic(&mut self, mechanisms: &[u8]) -> Vec<u8> {
        let header = header(SIGN, self.subkey_flag(), [0xff; 5], self.ours.number);
        self.ours.number = self.ours.number.wrapping_add(1);
        [&header[..], &self.key.checksum(self.ours.sign, &[mechanisms, &header])].concat()
    }

    /// The service's.
    pub fn check_mic(&mut self, mechanisms: &[u8], mic: &[u8]) -> Result<(), SessionError> {
        let (found, checksum) = mic.split_first_chunk::<HEADER>().ok_or(SessionError::NotSealed)?;
        let expected = header(SIGN, SENT_BY_ACCEPTOR | self.subkey_flag(), [0xff; 5], self.theirs.number);
        if *found != expected {
            return Err(SessionError::OutOfOrder);
        }
        self.key.check(self.theirs.sign, &[mechanisms, &expected], checksum)?;
        self.theirs.number = self.theirs.number.wrapping_add(1);
        Ok(())
    }

    fn subkey_flag(&self) -> u8 {
        if self.by_acceptor { ACCEPTOR_SUBKEY } else { 0 }
    }
}

fn header([a, b]: [u8; 2], flags: u8, [c, d, e, f, g]: [u8; 5], number: u64) -> [u8; HEADER] {
    let [h, i, j, k, l, m, n, o] = number.to_be_bytes();
    [a, b, flags, c, d, e, f, g, h, i, j, k, l, m, n, o]
}

#[cfg(test)]
impl Session {
    /// Both ends of one.
    fn pair(key: &Key, by_acceptor: bool, random: Random) -> (Self, Server) {
        let end = |ours, theirs| Self {
            ours: Direction::new(key, ours, 7),
            theirs: Direction::new(key, theirs, 7),
            key: key.clone(),
            by_acceptor,
            random,
        };
        (end(INITIATOR, ACCEPTOR), Server(end(ACCEPTOR, INITIATOR)))
    }
}

#[cfg(test)]
struct Server(Session);

#[cfg(test)]
impl Server {
    /// As servers write it: rotated, and with a filler.
    fn seal(&mut self, message: &[u8], extra: u16, right: u16) -> Vec<u8> {
        let Self(session) = self;
        let [high, low] = extra.to_be_bytes();
        let flags = SENT_BY_ACCEPTOR | SEALED | session.subkey_flag();
        let mut header = header(WRAP, flags, [0xff, high, low, 0, 0], session.ours.number);
        session.ours.number += 1;
        let filler = vec![0xff; extra.into()];
        let mut sealed = session.ours.sealing.encrypt(&[message, &filler, &header], session.random);
        let times = usize::from(right) % sealed.len();
        sealed.rotate_right(times);
        header[6..8].copy_from_slice(&right.to_be_bytes());
        [&header, sealed.as_slice()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Encryption;
    use crate::crypto::tests::counted;
    use crate::message::{Principal, Write};
    use ldap_wire::ber::SEQUENCE;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_sealed_is_read_once_in_order_and_unchanged(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 1..4),
            extra in 0_u16..40,
            right in 0_u16..200,
            by_acceptor: bool,
            at: prop::sample::Index,
        ) {
            let key = Key::random(Encryption::Aes256, counted);
            let (mut client, mut server) = Session::pair(&key, by_acceptor, counted);
            let sealed: Vec<Vec<u8>> = messages.iter().map(|message| server.seal(message, extra, right)).collect();
            for (message, sealed) in messages.iter().zip(&sealed) {
                let mut octets = sealed.clone();
                let range = client.unseal(&mut octets).expect("in order and unchanged");
                prop_assert_eq!(&octets[range], message.as_slice());
            }
            prop_assert_eq!(client.unseal(&mut sealed[0].clone()), Err(SessionError::OutOfOrder));
            let (mut fresh, _) = Session::pair(&key, by_acceptor, counted);
            let mut changed = sealed[0].clone();
            changed[at.index(sealed[0].len())] ^= 1;
            // RFC 4121 section 4.2.5 leaves the count of rotations unprotected, and whole turns more are none.
            if let Ok(range) = fresh.unseal(&mut changed) {
                prop_assert_eq!((at.index(sealed[0].len()), 0x100 % (sealed[0].len() - HEADER)), (6, 0));
                prop_assert_eq!(&changed[range], messages[0].as_slice());
            }
            let own = client.seal(&messages[0]);
            prop_assert_eq!(own.len(), Session::OVERHEAD + messages[0].len());
            prop_assert!(client.unseal(&mut own.clone()).is_err(), "what we send is nothing of the server's");
        }

        #[test]
        fn no_octets_make_it_panic(octets in proptest::collection::vec(any::<u8>(), 0..100), header: bool) {
            let (mut client, mut server) = Session::pair(&Key::random(Encryption::Aes128, counted), true, counted);
            let mut input = octets.clone();
            if header {
                input.splice(..0, server.seal(b"", 0, 0)[..HEADER].to_vec());
            }
            prop_assert!(client.unseal(&mut input).is_err());
            prop_assert!(client.check_mic(b"mechanisms", &input).is_err());
        }
    }

    const NOW: Timestamp = Timestamp { seconds: 1_790_000_000, micros: 7 };

    fn initiator(layer: Layer, binding: Option<&[u8; 16]>) -> (Initiator, Zeroizing<Vec<u8>>, Key) {
        let key = Key::new(Encryption::Aes256, &[5; 32]).expect("32 octets");
        let ticket = Ticket::granted(Principal::user("ann", "LAB.TEST"), b"\x61\x00", &key, NOW);
        let (initiator, token) = Initiator::new(&ticket, layer, binding, NOW, counted);
        (initiator, token, key)
    }

    /// What a server that has `key` answers.
    fn answer(key: &Key, time: Timestamp, subkey: Option<&Key>) -> Vec<u8> {
        let mut part = Writer::new();
        part.nested(0x60 | kind::ENC_AP_REP_PART, |w| {
            w.nested(SEQUENCE, |w| {
                w.time(0, time);
                w.number(1, time.micros.into());
                if let Some(key) = subkey {
                    w.typed(2, key.encryption().number(), key.octets());
                }
                w.number(3, 0xffff_fffe);
            });
        });
        let mut reply = Writer::new();
        reply.nested(0x60 | kind::AP_REP, |w| {
            w.nested(SEQUENCE, |w| {
                w.number(0, 5);
                w.number(1, kind::AP_REP.into());
                w.encrypted(2, key.encryption(), &key.encrypt(usage::AP_REP, &part.into_vec(), counted));
            });
        });
        framed(AP_REP, &reply.into_vec())
    }

    #[test]
    fn the_token_says_which_channel_it_is_for_and_what_is_wanted() {
        // RFC 4121 section 4.1.1
        for (layer, flags) in [(Layer::None, 2_u8), (Layer::Sealed, 2 | 4 | 8 | 16 | 32)] {
            let (_, token, key) = initiator(layer, Some(&[9; 16]));
            let mut content = Reader::new(&token).expect(INITIAL).expect("a token").reader();
            content.expect(OBJECT_IDENTIFIER).expect("its mechanism");
            let request = content.rest().strip_prefix(&AP_REQ).expect("an AP-REQ");
            let mut fields = message(kind::AP_REQ, request).expect("an AP-REQ");
            let options = Read::field(&mut fields, 2).expect("options");
            assert_eq!(options.rest(), [3, 5, 0, 0x20, 0, 0, 0], "mutual");
            Read::field(&mut fields, 3).expect("the ticket");
            let sealed = fields.encrypted(4).expect("an authenticator");
            let authenticator = sealed.open(&key, usage::AP_REQ_AUTHENTICATOR).expect("with the ticket's key");
            let checksum = [&[16, 0, 0, 0][..], &[9; 16], &[flags, 0, 0, 0]].concat();
            let wanted = [&[0x02, 0x03, 0x00, 0x80, 0x03, 0xa1, 26, 0x04, 24][..], &checksum].concat();
            assert!(authenticator.windows(wanted.len()).any(|octets| octets == wanted), "{layer:?}");
        }
    }

    #[test]
    fn only_who_has_read_the_token_is_the_server() {
        let accept =
            |token: &[u8]| initiator(Layer::Sealed, None).0.accept(token, NOW).map(|session| session.by_acceptor);
        let (_, _, key) = initiator(Layer::Sealed, None);
        let subkey = Key::new(Encryption::Aes128, &[8; 16]).expect("16 octets");
        assert_eq!(accept(&answer(&key, NOW, None)), Ok(false));
        assert_eq!(accept(&answer(&key, NOW, Some(&subkey))), Ok(true));
        let later = Timestamp { micros: 8, ..NOW };
        assert_eq!(accept(&answer(&key, later, None)), Err(SessionError::Unproven));
        let other = Key::new(Encryption::Aes256, &[6; 32]).expect("32 octets");
        assert_eq!(accept(&answer(&other, NOW, None)), Err(SessionError::Token(ReplyError::WrongKey(WrongKey))));
        let mut error = Writer::new();
        error.nested(0x60 | kind::KRB_ERROR, |w| {
            w.nested(SEQUENCE, |w| {
                w.number(0, 5);
                w.number(1, kind::KRB_ERROR.into());
                w.time(4, later);
                w.number(5, 0);
                w.number(6, 41);
            });
        });
        assert_eq!(accept(&framed(ERROR, &error.into_vec())), Err(SessionError::Refused { code: 41 }));
        assert!(accept(&framed(AP_REQ, b"")).is_err() && accept(b"").is_err());
    }

    #[test]
    fn a_mic_is_over_the_mechanisms_and_has_a_number() {
        let key = Key::random(Encryption::Aes128, counted);
        let (mut client, Server(mut server)) = Session::pair(&key, true, counted);
        let own = client.mic(b"mechanisms");
        assert_ne!(own, client.mic(b"mechanisms"));
        let header = header(SIGN, SENT_BY_ACCEPTOR | ACCEPTOR_SUBKEY, [0xff; 5], server.ours.number);
        let mic = [&header[..], &key.checksum(ACCEPTOR[1], &[b"mechanisms", &header])].concat();
        assert!(client.check_mic(b"mechanism", &mic).is_err());
        assert_eq!(client.check_mic(b"mechanisms", &mic), Ok(()));
        assert_eq!(client.check_mic(b"mechanisms", &mic), Err(SessionError::OutOfOrder));
        assert!(server.unseal(&mut own.clone()).is_err());
    }
}
