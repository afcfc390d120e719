//! The messages of RFC 4120 section 5, as far as a client writes or reads them.

use crate::crypto::{Encryption, Key};
use crate::error::ReplyError;
use ldap_wire::ber::{self, INTEGER, OCTET_STRING, Reader, SEQUENCE, Writer};
use time::{Date, Month, OffsetDateTime, Time};
use zeroize::Zeroizing;

const BIT_STRING: u8 = 0x03;
const GENERALIZED_TIME: u8 = 0x18;
const GENERAL_STRING: u8 = 0x1b;

/// Numbers of applications, which are those of the message types, too (section 5.10).
pub(crate) mod kind {
    pub const TICKET: u8 = 1;
    pub const AUTHENTICATOR: u8 = 2;
    pub const AS_REQ: u8 = 10;
    pub const AS_REP: u8 = 11;
    pub const TGS_REQ: u8 = 12;
    pub const TGS_REP: u8 = 13;
    pub const AP_REQ: u8 = 14;
    pub const AP_REP: u8 = 15;
    pub const ENC_AS_REP_PART: u8 = 25;
    pub const ENC_TGS_REP_PART: u8 = 26;
    pub const ENC_AP_REP_PART: u8 = 27;
    pub const KRB_ERROR: u8 = 30;
}

/// What a key is used for (section 7.5.1).
pub(crate) mod usage {
    pub const PA_ENC_TIMESTAMP: u32 = 1;
    pub const AS_REP: u32 = 3;
    pub const TGS_REQ_CHECKSUM: u32 = 6;
    pub const TGS_REQ_AUTHENTICATOR: u32 = 7;
    pub const TGS_REP: u32 = 8;
    pub const AP_REQ_AUTHENTICATOR: u32 = 11;
    pub const AP_REP: u32 = 12;
}

/// Kinds of pre-authentication (section 7.5.2).
pub(crate) mod padata {
    pub const TGS_REQ: i32 = 1;
    pub const ENC_TIMESTAMP: i32 = 2;
    pub const ETYPE_INFO2: i32 = 19;
}

const VERSION: i64 = 5;

pub(crate) fn application(number: u8) -> u8 {
    0x60 | number
}

fn context(number: u8) -> u8 {
    0xa0 | number
}

/// A moment, counted from the beginning of 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    pub seconds: i64,
    pub micros: u32,
}

impl Timestamp {
    pub fn of_seconds(seconds: i64) -> Self {
        Self { seconds, micros: 0 }
    }

    fn written(self) -> String {
        let at = OffsetDateTime::from_unix_timestamp(self.seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let (hour, minute, second) = at.to_hms();
        format!("{:04}{:02}{:02}{hour:02}{minute:02}{second:02}Z", at.year(), u8::from(at.month()), at.day())
    }

    fn read(octets: &[u8]) -> Option<Self> {
        let digits = octets.strip_suffix(b"Z").filter(|it| it.len() == 14 && it.iter().all(u8::is_ascii_digit))?;
        let number = |from: usize, to: usize| std::str::from_utf8(digits.get(from..to)?).ok()?.parse::<u16>().ok();
        let small = |from: usize| number(from, from + 2).and_then(|it| u8::try_from(it).ok());
        let month = Month::try_from(small(4)?).ok()?;
        let date = Date::from_calendar_date(number(0, 4)?.into(), month, small(6)?).ok()?;
        let time = Time::from_hms(small(8)?, small(10)?, small(12)?).ok()?;
        Some(Self::of_seconds(OffsetDateTime::new_utc(date, time).unix_timestamp()))
    }
}

/// As `2026-08-31 09:05:00 UTC`.
impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = OffsetDateTime::from_unix_timestamp(self.seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let (hour, minute, second) = at.to_hms();
        write!(f, "{} {hour:02}:{minute:02}:{second:02} UTC", at.date())
    }
}

/// Who has a key: a user, or a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub(crate) kind: i32,
    pub(crate) parts: Vec<String>,
    pub(crate) realm: String,
}

/// Kinds of names (section 6.2, RFC 6806 section 5).
const NT_PRINCIPAL: i32 = 1;
const NT_SRV_INST: i32 = 2;
const NT_ENTERPRISE: i32 = 10;

impl Principal {
    /// `alice` in `CORP.EXAMPLE`.
    pub fn user(name: &str, realm: &str) -> Self {
        Self { kind: NT_PRINCIPAL, parts: vec![name.to_owned()], realm: realm.to_owned() }
    }

    /// `alice@other.example`, as the realm knows somebody by a name that is not made of theirs (RFC 6806 section 5).
    pub fn enterprise(name: &str, realm: &str) -> Self {
        Self { kind: NT_ENTERPRISE, parts: vec![name.to_owned()], realm: realm.to_owned() }
    }

    /// `ldap/dc1.corp.example`.
    pub fn service(service: &str, host: &str, realm: &str) -> Self {
        Self { kind: NT_SRV_INST, parts: vec![service.to_owned(), host.to_owned()], realm: realm.to_owned() }
    }

    pub(crate) fn granting(realm: &str) -> Self {
        Self::service("krbtgt", realm, realm)
    }

    pub fn realm(&self) -> &str {
        &self.realm
    }

    pub(crate) fn is_enterprise(&self) -> bool {
        self.kind == NT_ENTERPRISE
    }

    /// The kind of a name is a hint only (section 6.2).
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.parts == other.parts && self.realm == other.realm
    }

    /// What a password is salted with unless the KDC says otherwise (section 4).
    pub(crate) fn salt(&self) -> Vec<u8> {
        self.realm.bytes().chain(self.parts.iter().flat_map(|part| part.bytes())).collect()
    }
}

impl std::fmt::Display for Principal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.parts.join("/"), self.realm)
    }
}

/// What a client writes, one method for each type.
pub(crate) trait Write {
    fn field(&mut self, number: u8, content: impl FnOnce(&mut Writer));
    fn number(&mut self, field: u8, value: i64);
    fn octets_in(&mut self, field: u8, octets: &[u8]);
    fn time(&mut self, field: u8, time: Timestamp);
    fn realm(&mut self, field: u8, realm: &str);
    fn name(&mut self, field: u8, name: &Principal);
    fn bits(&mut self, field: u8, bits: u32);
    fn encrypted(&mut self, field: u8, encryption: Encryption, octets: &[u8]);
    /// An EncryptionKey or a Checksum: both are a number and octets.
    fn typed(&mut self, field: u8, number: i32, octets: &[u8]);
}

impl Write for Writer {
    fn field(&mut self, number: u8, content: impl FnOnce(&mut Writer)) {
        self.nested(context(number), content);
    }

    fn number(&mut self, field: u8, value: i64) {
        self.field(field, |w| w.integer(INTEGER, value));
    }

    fn octets_in(&mut self, field: u8, octets: &[u8]) {
        self.field(field, |w| w.octet_string(octets));
    }

    fn time(&mut self, field: u8, time: Timestamp) {
        self.field(field, |w| w.octets(GENERALIZED_TIME, time.written().as_bytes()));
    }

    fn realm(&mut self, field: u8, realm: &str) {
        self.field(field, |w| w.octets(GENERAL_STRING, realm.as_bytes()));
    }

    fn name(&mut self, field: u8, name: &Principal) {
        self.field(field, |w| {
            w.nested(SEQUENCE, |w| {
                w.number(0, name.kind.into());
                w.field(1, |w| {
                    w.nested(SEQUENCE, |w| {
                        name.parts.iter().for_each(|part| w.octets(GENERAL_STRING, part.as_bytes()))
                    });
                });
            });
        });
    }

    fn bits(&mut self, field: u8, bits: u32) {
        let [a, b, c, d] = bits.to_be_bytes();
        self.field(field, |w| w.octets(BIT_STRING, &[0, a, b, c, d]));
    }

    fn encrypted(&mut self, field: u8, encryption: Encryption, octets: &[u8]) {
        self.field(field, |w| {
            w.nested(SEQUENCE, |w| {
                w.number(0, encryption.number().into());
                w.octets_in(2, octets);
            });
        });
    }

    fn typed(&mut self, field: u8, number: i32, octets: &[u8]) {
        self.field(field, |w| {
            w.nested(SEQUENCE, |w| {
                w.number(0, number.into());
                w.octets_in(1, octets);
            });
        });
    }
}

/// What a client reads, one method for each type.
pub(crate) trait Read<'a> {
    fn field(&mut self, number: u8) -> Result<Reader<'a>, ReplyError>;
    fn may_field(&mut self, number: u8) -> Result<Option<Reader<'a>>, ReplyError>;
    fn number(&mut self, field: u8) -> Result<i32, ReplyError>;
    fn time(&mut self, field: u8) -> Result<Timestamp, ReplyError>;
    fn name(&mut self, realm: u8, name: u8) -> Result<Principal, ReplyError>;
    fn encrypted(&mut self, field: u8) -> Result<Encrypted<'a>, ReplyError>;
    fn key(&mut self, field: u8) -> Result<Option<Key>, ReplyError>;
    /// As it is sent, a number to 4294967295, or by those who take it for signed a negative one.
    fn may_unsigned(&mut self, field: u8) -> Result<Option<u32>, ReplyError>;
}

impl<'a> Read<'a> for Reader<'a> {
    fn field(&mut self, number: u8) -> Result<Reader<'a>, ReplyError> {
        Ok(self.expect(context(number))?.reader())
    }

    fn may_field(&mut self, number: u8) -> Result<Option<Reader<'a>>, ReplyError> {
        Ok(self.optional(context(number))?.map(|it| it.reader()))
    }

    fn number(&mut self, field: u8) -> Result<i32, ReplyError> {
        Ok(Read::field(self, field)?.integer(INTEGER)?)
    }

    fn time(&mut self, field: u8) -> Result<Timestamp, ReplyError> {
        let written = Read::field(self, field)?.expect(GENERALIZED_TIME)?.content;
        Timestamp::read(written).ok_or(ReplyError::BadTime)
    }

    fn name(&mut self, realm: u8, name: u8) -> Result<Principal, ReplyError> {
        let realm = text(Read::field(self, realm)?.expect(GENERAL_STRING)?.content)?;
        let mut fields = Read::field(self, name)?.expect(SEQUENCE)?.reader();
        let kind = Read::number(&mut fields, 0)?;
        let mut written = Read::field(&mut fields, 1)?.expect(SEQUENCE)?.reader();
        let mut parts = Vec::new();
        while !written.is_empty() {
            if parts.len() == PARTS_MAX {
                return Err(ReplyError::BadName);
            }
            parts.push(text(written.expect(GENERAL_STRING)?.content)?);
        }
        Ok(Principal { kind, parts, realm })
    }

    fn encrypted(&mut self, field: u8) -> Result<Encrypted<'a>, ReplyError> {
        let mut fields = Read::field(self, field)?.expect(SEQUENCE)?.reader();
        let encryption = Encryption::of_number(Read::number(&mut fields, 0)?).ok_or(ReplyError::Encryption)?;
        fields.may_field(1)?; // the number of the key
        Ok(Encrypted { encryption, octets: Read::field(&mut fields, 2)?.octet_string()? })
    }

    fn key(&mut self, field: u8) -> Result<Option<Key>, ReplyError> {
        let Some(mut fields) = self.may_field(field)? else { return Ok(None) };
        let mut fields = fields.expect(SEQUENCE)?.reader();
        let encryption = Encryption::of_number(Read::number(&mut fields, 0)?).ok_or(ReplyError::Encryption)?;
        let octets = Read::field(&mut fields, 1)?.octet_string()?;
        Key::new(encryption, octets).map(Some).ok_or(ReplyError::Encryption)
    }

    fn may_unsigned(&mut self, field: u8) -> Result<Option<u32>, ReplyError> {
        let Some(mut field) = self.may_field(field)? else { return Ok(None) };
        match field.expect(INTEGER)?.content {
            [0, a, b, c, d] => Ok(Some(u32::from_be_bytes([*a, *b, *c, *d]))),
            content => Ok(Some(ber::integer(content)?.cast_unsigned())),
        }
    }
}

/// A service has two; nobody has so many.
const PARTS_MAX: usize = 8;
const TEXT_OCTETS_MAX: usize = 1024;

fn text(octets: &[u8]) -> Result<String, ReplyError> {
    let text = std::str::from_utf8(octets).map_err(|_| ReplyError::BadName)?;
    let sound = text.len() <= TEXT_OCTETS_MAX && !text.chars().any(char::is_control);
    sound.then(|| text.to_owned()).ok_or(ReplyError::BadName)
}

pub(crate) struct Encrypted<'a> {
    pub encryption: Encryption,
    pub octets: &'a [u8],
}

impl Encrypted<'_> {
    pub fn open(&self, key: &Key, usage: u32) -> Result<Zeroizing<Vec<u8>>, ReplyError> {
        if self.encryption != key.encryption() {
            return Err(ReplyError::Encryption);
        }
        Ok(key.decrypt(usage, self.octets)?)
    }
}

/// Of an AS-REQ or a TGS-REQ (section 5.4.1).
pub(crate) struct Body<'a> {
    /// Who asks; a TGS-REQ says it elsewhere.
    pub client: Option<&'a Principal>,
    pub service: &'a Principal,
    pub nonce: u32,
    pub encryptions: &'a [Encryption],
}

/// 2037-09-13, as long as it may be: the KDC decides.
const TILL: Timestamp = Timestamp { seconds: 2_136_422_885, micros: 0 };
/// KDCOptions, bit 15: the KDC may know the client by another name (RFC 6806 section 3).
const CANONICALIZE: u32 = 0x0001_0000;

impl Body<'_> {
    pub fn written(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.nested(SEQUENCE, |w| {
            let elsewhere = self.client.is_some_and(Principal::is_enterprise);
            w.bits(0, if elsewhere { CANONICALIZE } else { 0 });
            if let Some(client) = self.client {
                w.name(1, client);
            }
            w.realm(2, self.service.realm());
            w.name(3, self.service);
            w.time(5, TILL);
            w.number(7, self.nonce.into());
            w.field(8, |w| {
                w.nested(SEQUENCE, |w| self.encryptions.iter().for_each(|it| w.integer(INTEGER, it.number().into())));
            });
        });
        writer.into_vec()
    }
}

/// `padata` is a number of section 7.5.2 and its octets.
pub(crate) fn request(kind: u8, padata: Option<(i32, &[u8])>, body: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.nested(application(kind), |w| {
        w.nested(SEQUENCE, |w| {
            w.number(1, VERSION);
            w.number(2, kind.into());
            if let Some((number, octets)) = padata {
                w.field(3, |w| {
                    w.nested(SEQUENCE, |w| {
                        w.nested(SEQUENCE, |w| {
                            w.number(1, number.into());
                            w.octets_in(2, octets);
                        });
                    });
                });
            }
            w.field(4, |w| w.raw(body));
        });
    });
    writer.into_vec()
}

/// PA-ENC-TIMESTAMP (section 5.2.7.2): that we know the key.
pub(crate) fn encrypted_data(encryption: Encryption, octets: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.nested(SEQUENCE, |w| {
        w.number(0, encryption.number().into());
        w.octets_in(2, octets);
    });
    writer.into_vec()
}

pub(crate) fn timestamp(now: Timestamp) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.nested(SEQUENCE, |w| {
        w.time(0, now);
        w.number(1, now.micros.into());
    });
    writer.into_vec()
}

/// Proves that who sends a ticket has its key (section 5.5.1).
pub(crate) struct Authenticator<'a> {
    pub client: &'a Principal,
    pub checksum: (i32, &'a [u8]),
    pub now: Timestamp,
    pub subkey: Option<&'a Key>,
    pub number: Option<u32>,
}

impl Authenticator<'_> {
    pub fn written(&self) -> Zeroizing<Vec<u8>> {
        // Never grows: it may hold a key.
        let mut writer = Writer::with_capacity(1024 + self.client.to_string().len());
        writer.nested(application(kind::AUTHENTICATOR), |w| {
            w.nested(SEQUENCE, |w| {
                w.number(0, VERSION);
                w.realm(1, self.client.realm());
                w.name(2, self.client);
                w.typed(3, self.checksum.0, self.checksum.1);
                w.number(4, self.now.micros.into());
                w.time(5, self.now);
                if let Some(key) = self.subkey {
                    w.typed(6, key.encryption().number(), key.octets());
                }
                if let Some(number) = self.number {
                    w.number(7, number.into());
                }
            });
        });
        Zeroizing::new(writer.into_vec())
    }
}

/// AP-REQ (section 5.5.1). `authenticator` is encrypted already.
pub(crate) fn ap_request(mutual: bool, ticket: &[u8], encryption: Encryption, authenticator: &[u8]) -> Vec<u8> {
    const MUTUAL_REQUIRED: u32 = 0x2000_0000;
    let mut writer = Writer::new();
    writer.nested(application(kind::AP_REQ), |w| {
        w.nested(SEQUENCE, |w| {
            w.number(0, VERSION);
            w.number(1, kind::AP_REQ.into());
            w.bits(2, if mutual { MUTUAL_REQUIRED } else { 0 });
            w.field(3, |w| w.raw(ticket));
            w.encrypted(4, encryption, authenticator);
        });
    });
    writer.into_vec()
}

/// AS-REP or TGS-REP (section 5.4.2).
pub(crate) struct Reply<'a> {
    pub padata: Option<Reader<'a>>,
    pub client: Principal,
    /// As it came: only the service can read it.
    pub ticket: &'a [u8],
    pub part: Encrypted<'a>,
}

impl<'a> Reply<'a> {
    /// `kind` is the message's.
    pub fn parse(kind: u8, octets: &'a [u8]) -> Result<Self, ReplyError> {
        let mut fields = message(kind, octets)?;
        let padata = fields.may_field(2)?;
        let client = fields.name(3, 4)?;
        let ticket = Read::field(&mut fields, 5)?.expect(application(kind::TICKET))?.whole;
        Ok(Self { padata, client, ticket, part: fields.encrypted(6)? })
    }
}

/// The fields of a message behind its version and type.
pub(crate) fn message(kind: u8, octets: &[u8]) -> Result<Reader<'_>, ReplyError> {
    let mut outer = Reader::new(octets);
    let mut fields = outer.expect(application(kind))?.reader().expect(SEQUENCE)?.reader();
    outer.finish()?;
    let (version, found) = (Read::number(&mut fields, 0)?, Read::number(&mut fields, 1)?);
    if i64::from(version) != VERSION || found != i32::from(kind) {
        return Err(ReplyError::NotKerberos);
    }
    Ok(fields)
}

/// EncKDCRepPart (section 5.4.2): what the KDC says to us alone.
pub(crate) struct Part {
    pub key: Key,
    pub nonce: u32,
    pub ends: Timestamp,
    pub service: Principal,
}

impl Part {
    pub fn parse(octets: &[u8]) -> Result<Self, ReplyError> {
        // An AS-REP's may call itself that of a TGS-REP (section 5.4.2).
        let whole = Reader::new(octets).element()?;
        if ![kind::ENC_AS_REP_PART, kind::ENC_TGS_REP_PART].map(application).contains(&whole.tag) {
            return Err(ReplyError::NotKerberos);
        }
        let mut fields = whole.reader().expect(SEQUENCE)?.reader();
        let key = fields.key(0)?.ok_or(ReplyError::NotKerberos)?;
        Read::field(&mut fields, 1)?; // last logons
        let nonce = fields.may_unsigned(2)?.ok_or(ReplyError::NotKerberos)?;
        fields.may_field(3)?; // when the key expires
        Read::field(&mut fields, 4)?; // flags
        Read::time(&mut fields, 5)?; // when we have authenticated
        fields.may_field(6)?; // from when it is good
        let ends = Read::time(&mut fields, 7)?;
        fields.may_field(8)?; // until when it could be renewed
        Ok(Self { key, nonce, ends, service: fields.name(9, 10)? })
    }
}

/// KRB-ERROR (section 5.9.1). Signed by nobody.
pub(crate) struct Fault<'a> {
    pub code: i32,
    pub servers_time: Timestamp,
    pub data: Option<&'a [u8]>,
}

impl<'a> Fault<'a> {
    /// `None` where it is another message.
    pub fn parse(octets: &'a [u8]) -> Result<Option<Self>, ReplyError> {
        if Reader::new(octets).peek_tag() != Some(application(kind::KRB_ERROR)) {
            return Ok(None);
        }
        let mut fields = message(kind::KRB_ERROR, octets)?;
        fields.may_field(2)?; // our time
        fields.may_field(3)?;
        let servers_time = Read::time(&mut fields, 4)?;
        Read::number(&mut fields, 5)?;
        let code = Read::number(&mut fields, 6)?;
        for number in 7..=11 {
            fields.may_field(number)?; // names and a text
        }
        let data = fields.may_field(12)?.map(|mut data| data.octet_string()).transpose()?;
        Ok(Some(Self { code, servers_time, data }))
    }
}

/// How the KDC makes a key of a password (ETYPE-INFO2, section 5.2.7.5): the first that we know, in the order of the KDC.
pub(crate) struct Salting {
    pub encryption: Encryption,
    pub salt: Option<Vec<u8>>,
    pub iterations: Option<u32>,
}

/// Of what a KDC sends as METHOD-DATA or beside a ticket.
pub(crate) fn salting(padata: Reader<'_>, known: &[Encryption]) -> Result<Option<Salting>, ReplyError> {
    let mut padata = padata;
    let mut entries = padata.expect(SEQUENCE)?.reader();
    while !entries.is_empty() {
        let mut entry = entries.expect(SEQUENCE)?.reader();
        let number = Read::number(&mut entry, 1)?;
        let octets = Read::field(&mut entry, 2)?.expect(OCTET_STRING)?;
        if number != padata::ETYPE_INFO2 {
            continue;
        }
        let mut infos = octets.reader().expect(SEQUENCE)?.reader();
        while !infos.is_empty() {
            let mut info = infos.expect(SEQUENCE)?.reader();
            let encryption = Encryption::of_number(Read::number(&mut info, 0)?).filter(|it| known.contains(it));
            let salt = info.may_field(1)?.map(|mut it| it.expect(GENERAL_STRING)).transpose()?;
            let parameters = info.may_field(2)?.map(|mut it| it.octet_string()).transpose()?;
            if let Some(encryption) = encryption {
                let iterations = match parameters.map(<[u8; 4]>::try_from) {
                    Some(Ok(octets)) => Some(u32::from_be_bytes(octets)),
                    Some(Err(_)) => return Err(ReplyError::Iterations),
                    None => None,
                };
                return Ok(Some(Salting { encryption, salt: salt.map(|it| it.content.to_vec()), iterations }));
            }
        }
    }
    Ok(None)
}

/// EncAPRepPart (section 5.5.2): the service has the ticket's key.
pub(crate) struct Accepted {
    pub time: Timestamp,
    pub subkey: Option<Key>,
    pub number: u32,
}

impl Accepted {
    pub fn parse(octets: &[u8]) -> Result<Self, ReplyError> {
        let mut fields =
            Reader::new(octets).expect(application(kind::ENC_AP_REP_PART))?.reader().expect(SEQUENCE)?.reader();
        let time = Read::time(&mut fields, 0)?;
        let micros = u32::try_from(Read::number(&mut fields, 1)?).map_err(|_| ReplyError::BadTime)?;
        let subkey = fields.key(2)?;
        Ok(Self { time: Timestamp { micros, ..time }, subkey, number: fields.may_unsigned(3)?.unwrap_or(0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_written_and_read_as_in_rfc_4120() {
        // Section 5.2.3
        let at = Timestamp::of_seconds(500_169_600 - 2);
        assert_eq!(
            (at.written().as_str(), Timestamp::read(b"19851106210627Z")),
            ("19851106235958Z", Some(Timestamp::of_seconds(500_159_187)))
        );
        assert_eq!(Timestamp::read(at.written().as_bytes()), Some(at));
        assert_eq!(at.to_string(), "1985-11-06 23:59:58 UTC");
        for broken in
            ["", "Z", "19851106210627", "19851306210627Z", "19851106210627.5Z", "1985110621062+Z", "99999999999999Z"]
        {
            assert_eq!(Timestamp::read(broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn a_kdc_says_how_a_key_is_made_of_a_password() {
        let mut writer = Writer::new();
        writer.nested(SEQUENCE, |w| {
            for (number, encryptions) in [(2, &[18][..]), (padata::ETYPE_INFO2, &[23, 17, 18])] {
                w.nested(SEQUENCE, |w| {
                    w.number(1, number.into());
                    w.field(2, |w| {
                        w.nested(OCTET_STRING, |w| {
                            w.nested(SEQUENCE, |w| {
                                for encryption in encryptions {
                                    w.nested(SEQUENCE, |w| {
                                        w.number(0, *encryption);
                                        w.realm(1, "salt");
                                        w.octets_in(2, &[0, 0, 0x10, 0]);
                                    });
                                }
                            });
                        });
                    });
                });
            }
        });
        let octets = writer.into_vec();
        let found = salting(Reader::new(&octets), &Encryption::ALL).expect("good").expect("one that we know");
        assert_eq!((found.encryption, found.iterations), (Encryption::Aes128, Some(4096)));
        assert_eq!(found.salt, Some(b"salt".to_vec()));
        let other = salting(Reader::new(&octets), &[Encryption::Aes256]).expect("good").expect("one that we know");
        assert_eq!(other.encryption, Encryption::Aes256, "a keytab may have the key of one only");
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(octets in proptest::collection::vec(any::<u8>(), 0..200), kind in 10_u8..31) {
            let mut writer = Writer::new();
            writer.nested(application(kind), |w| w.nested(SEQUENCE, |w| w.raw(&octets)));
            for input in [octets.clone(), writer.into_vec()] {
                let _ = Reply::parse(kind, &input);
                let _ = Fault::parse(&input);
                let _ = Part::parse(&input);
                let _ = Accepted::parse(&input);
                let _ = salting(Reader::new(&input), &Encryption::ALL);
            }
        }

        #[test]
        fn times_come_back(seconds in 0_i64..4_000_000_000) {
            let at = Timestamp::of_seconds(seconds);
            prop_assert_eq!(Timestamp::read(at.written().as_bytes()), Some(at));
        }
    }
}
