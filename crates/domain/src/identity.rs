//! Who is meant: Twinlock's own ids and the directory's immutable ones.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_id!(
    /// A user in the store. Stays the same when the person is renamed or moved.
    UserId
);
uuid_id!(
    /// A second factor of a user.
    FactorId
);
uuid_id!(
    /// One attempt to log in, from the first packet to the last answer. The request id of logs and traces.
    TransactionId
);

/// Crockford's base32: no I, L, O, U, so that nothing is misread.
const SHORT_SIGNS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl TransactionId {
    /// The short form a person can read out on the phone: `7K2F-9QXB`. Taken from the random tail of the id.
    pub fn short(&self) -> String {
        let tail = self.0.as_u128() & 0xff_ffff_ffff;
        let mut text = String::with_capacity(9);
        for place in (0..8).rev() {
            let sign = SHORT_SIGNS[((tail >> (place * 5)) & 31) as usize];
            text.push(sign as char);
            if place == 4 {
                text.push('-');
            }
        }
        text
    }

    /// The end of the ids with this short form, as ten hexadecimal digits. `None`: it is no short form.
    pub fn tail(short: &str) -> Option<String> {
        let (head, end) = short.split_once('-').or_else(|| short.split_at_checked(4))?;
        if (head.len(), end.len()) != (4, 4) {
            return None;
        }
        let tail = head.bytes().chain(end.bytes()).try_fold(0, |tail: u64, sign| {
            let place = SHORT_SIGNS.iter().position(|known| *known == sign.to_ascii_uppercase())?;
            Some(tail << 5 | u64::try_from(place).ok()?)
        })?;
        Some(format!("{tail:010x}"))
    }
}

/// The name of a client, a directory, a sync item: 1-64 of `a-z 0-9 . _ -`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectName(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("found {found:?}; a name has 1 to 64 of a-z 0-9 . _ -")]
pub struct BadObjectName {
    pub found: String,
}

impl ObjectName {
    pub fn new(text: impl Into<String>) -> Result<Self, BadObjectName> {
        let text = text.into();
        let allowed = |sign: u8| sign.is_ascii_lowercase() || sign.is_ascii_digit() || b"._-".contains(&sign);
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text))
        } else {
            Err(BadObjectName { found: text })
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ObjectName {
    type Error = BadObjectName;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl From<ObjectName> for String {
    fn from(name: ObjectName) -> Self {
        name.0
    }
}

impl FromStr for ObjectName {
    type Err = BadObjectName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The immutable id an entry has in its directory, with the attribute it comes from (S-54).
///
/// Written `objectGUID:33221100-5544-7766-8899-aabbccddeeff`, `entryUUID:...`, `nsUniqueId:...`, `GUID:...`; of any other attribute
/// its name in lower case, its type and its value: `uuid:guid:...`, `employeenumber:string:0042`, `token:byte_array:\00\ffA1`. The
/// text form is canonical, so equal ids are equal texts. It has no space, comma or slash.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectId(String);

/// What the value of an id attribute is (FD-31).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdType {
    /// 16 octets in the order of Active Directory (S-54).
    Guid,
    /// Octets, written in ASCII: what is no letter, no digit and none of `-_.@+=:{}` as `\xx`.
    ByteArray,
    /// Text, compared sign by sign; what a byte array escapes and is ASCII is escaped.
    String,
}

impl IdType {
    pub const ALL: [Self; 3] = [Self::Guid, Self::ByteArray, Self::String];

    /// As it stands in the settings.
    pub fn code(self) -> &'static str {
        match self {
            Self::Guid => "guid",
            Self::ByteArray => "byte_array",
            Self::String => "string",
        }
    }

    fn of_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.code() == code)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadObjectId {
    #[error("a {attribute} has 16 octets, found {found}")]
    Length { attribute: String, found: usize },
    #[error("{attribute} is no valid id")]
    Form { attribute: String },
    #[error("{attribute} has {found} octets; an id has 1 to {OCTETS_MAX}")]
    Size { attribute: String, found: usize },
    #[error(
        "an id is written objectGUID:..., entryUUID:..., nsUniqueId:... or GUID:..., or as the attribute with its type, such as \
         employeenumber:string:0042"
    )]
    Kind,
}

/// Of an id that is text or octets: more than any that is handed out has.
const OCTETS_MAX: usize = 128;

impl ObjectId {
    /// The attributes whose form is known, with what their values are (FD-31). Servers fill these in, and no two entries have the same.
    pub const ATTRIBUTES: [(&str, IdType); 4] = [
        ("objectGUID", IdType::Guid),
        ("entryUUID", IdType::String),
        ("nsUniqueId", IdType::String),
        ("GUID", IdType::Guid),
    ];

    /// What the values of one of [`Self::ATTRIBUTES`] are; `None` = it is another.
    pub fn known_type(attribute: &str) -> Option<IdType> {
        Self::ATTRIBUTES.iter().find(|(known, _)| known.eq_ignore_ascii_case(attribute)).map(|(_, id_type)| *id_type)
    }

    /// From the value of an entry; `id_type` is that of an attribute whose form is not known (FD-31).
    pub fn from_value(attribute: &str, id_type: IdType, wire: &[u8]) -> Result<Self, BadObjectId> {
        let text = || std::str::from_utf8(wire).unwrap_or_default(); // no id then, and refused as such
        let name = attribute.to_ascii_lowercase();
        match name.as_str() {
            "objectguid" => return Self::from_object_guid(wire),
            "guid" => return Self::from_guid(wire),
            "nsuniqueid" => return Self::from_ns_unique_id(text()),
            "entryuuid" => return Self::from_entry_uuid(text()),
            _ => {}
        }
        let value = match id_type {
            IdType::Guid => Uuid::from_bytes_le(sixteen(attribute, wire)?).to_string(),
            IdType::ByteArray | IdType::String if !(1..=OCTETS_MAX).contains(&wire.len()) => {
                return Err(BadObjectId::Size { attribute: attribute.to_owned(), found: wire.len() });
            }
            IdType::String if !is_plain_text(wire) => {
                return Err(BadObjectId::Form { attribute: attribute.to_owned() });
            }
            IdType::ByteArray | IdType::String => escaped(wire),
        };
        Ok(Self(format!("{name}:{}:{value}", id_type.code())))
    }

    /// From the 16 octets of Active Directory's objectGUID: its first three fields are little-endian (MS-DTYP 2.3.4.2).
    pub fn from_object_guid(wire: &[u8]) -> Result<Self, BadObjectId> {
        Ok(Self(format!("objectGUID:{}", Uuid::from_bytes_le(sixteen("objectGUID", wire)?))))
    }

    /// From the 16 octets of eDirectory's GUID, written in the order in which they come. The tools of its maker print the first
    /// three fields turned round; nothing that reads this text is one of them, and a filter takes the octets as they came.
    pub fn from_guid(wire: &[u8]) -> Result<Self, BadObjectId> {
        Ok(Self(format!("GUID:{}", Uuid::from_bytes(sixteen("GUID", wire)?))))
    }

    /// From the text of RFC 4530's entryUUID.
    pub fn from_entry_uuid(text: &str) -> Result<Self, BadObjectId> {
        of_uuid("entryUUID", text)
    }

    /// From 389 Directory Server's nsUniqueId: four groups of eight hexadecimal digits.
    pub fn from_ns_unique_id(text: &str) -> Result<Self, BadObjectId> {
        let groups: Vec<&str> = text.split('-').collect();
        let good = |group: &&str| group.len() == 8 && group.bytes().all(|sign| sign.is_ascii_hexdigit());
        if groups.len() == 4 && groups.iter().all(good) {
            Ok(Self(format!("nsUniqueId:{}", text.to_ascii_lowercase())))
        } else {
            Err(BadObjectId::Form { attribute: "nsUniqueId".into() })
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The attribute and the value's octets as an equality filter needs them.
    pub fn filter_value(&self) -> (&str, Vec<u8>) {
        let (attribute, value) = self.0.split_once(':').unwrap_or(("", &self.0));
        let octets = match (self.own_type(), attribute) {
            (Some((IdType::Guid, uuid)), _) => Uuid::parse_str(uuid).map(|uuid| uuid.to_bytes_le().to_vec()).ok(),
            (Some((_, text)), _) => unescaped(text),
            (None, "objectGUID") => Uuid::parse_str(value).map(|uuid| uuid.to_bytes_le().to_vec()).ok(),
            (None, "GUID") => Uuid::parse_str(value).map(|uuid| uuid.into_bytes().to_vec()).ok(),
            (None, _) => None,
        };
        (attribute, octets.unwrap_or_else(|| value.as_bytes().to_vec()))
    }

    /// Does the server hand it out, so that no second entry has it? Otherwise that is for whoever writes the attribute.
    pub fn is_of_server(&self) -> bool {
        self.own_type().is_none()
    }

    /// Could an entry have it whose ids are of this attribute and, where that is none of [`Self::ATTRIBUTES`], of this type?
    pub fn is_of(&self, attribute: &str, id_type: IdType) -> bool {
        self.filter_value().0.eq_ignore_ascii_case(attribute) && self.own_type().is_none_or(|(own, _)| own == id_type)
    }

    /// Type and value, where the attribute is none of [`Self::ATTRIBUTES`].
    fn own_type(&self) -> Option<(IdType, &str)> {
        let (attribute, rest) = self.0.split_once(':')?;
        if Self::known_type(attribute).is_some() {
            return None;
        }
        let (code, value) = rest.split_once(':')?;
        Some((IdType::of_code(code)?, value))
    }
}

fn sixteen(attribute: &str, wire: &[u8]) -> Result<[u8; 16], BadObjectId> {
    wire.try_into().map_err(|_| BadObjectId::Length { attribute: attribute.to_owned(), found: wire.len() })
}

fn of_uuid(attribute: &str, value: &str) -> Result<ObjectId, BadObjectId> {
    let uuid = Uuid::parse_str(value).map_err(|_| BadObjectId::Form { attribute: attribute.to_owned() })?;
    Ok(ObjectId(format!("{attribute}:{uuid}")))
}

fn is_plain_text(octets: &[u8]) -> bool {
    std::str::from_utf8(octets).is_ok_and(|text| !text.trim().is_empty() && !text.chars().any(char::is_control))
}

/// Lists of ids are written with commas and paths with slashes: neither stands in one.
fn escaped(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len());
    for octet in octets {
        if octet.is_ascii_alphanumeric() || b"-_.@+=:{}".contains(octet) {
            text.push(char::from(*octet));
        } else {
            text.push_str(&format!("\\{octet:02x}"));
        }
    }
    text
}

/// `None`: a `\` without two hexadecimal digits behind it.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        let mut digit = || char::from(rest.next()?).to_digit(16);
        octets.push(match octet {
            b'\\' => u8::try_from((digit()? << 4) | digit()?).ok()?,
            octet => octet,
        });
    }
    Some(octets)
}

/// RFC 4512 section 1.4: a keystring or numbers with dots; behind it options, RFC 4512 section 2.5.
pub fn is_attribute(text: &str) -> bool {
    let word =
        |part: &str| !part.is_empty() && part.bytes().all(|sign| sign.is_ascii_alphanumeric() || b"-_".contains(&sign));
    let mut parts = text.split(';');
    let name = parts.next().unwrap_or_default();
    let numbers = name.split('.').all(|arc| !arc.is_empty() && arc.bytes().all(|sign| sign.is_ascii_digit()));
    text.len() <= 128
        && (numbers || (word(name) && name.starts_with(|sign: char| sign.is_ascii_alphabetic())))
        && parts.all(word)
}

impl FromStr for ObjectId {
    type Err = BadObjectId;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some((attribute @ ("objectGUID" | "GUID" | "entryUUID"), value)) => of_uuid(attribute, value),
            Some(("nsUniqueId", value)) => Self::from_ns_unique_id(value),
            Some((attribute, rest)) if is_attribute(attribute) && Self::known_type(attribute).is_none() => {
                let (code, value) = rest.split_once(':').ok_or(BadObjectId::Kind)?;
                let id_type = IdType::of_code(code).ok_or(BadObjectId::Kind)?;
                let form = || BadObjectId::Form { attribute: attribute.to_owned() };
                let octets = match id_type {
                    IdType::Guid => Uuid::parse_str(value).map_err(|_| form())?.to_bytes_le().to_vec(),
                    IdType::ByteArray | IdType::String => unescaped(value).ok_or_else(form)?,
                };
                Self::from_value(attribute, id_type, &octets)
            }
            _ => Err(BadObjectId::Kind),
        }
    }
}

impl TryFrom<String> for ObjectId {
    type Error = BadObjectId;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ObjectId> for String {
    fn from(id: ObjectId) -> Self {
        id.0
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An entry of one of the configured directories: what every name form ends in before anything is decided (R-60, L-20).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DirectoryRef {
    pub directory: ObjectName,
    pub id: ObjectId,
}

impl fmt::Display for DirectoryRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.directory, self.id)
    }
}

/// How the person's name was typed. A label of logs: closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NameForm {
    #[serde(rename = "dn")]
    DistinguishedName,
    #[serde(rename = "upn")]
    UserPrincipalName,
    Netbios,
    Bare,
    Guid,
    Sid,
    Canonical,
    #[serde(rename = "spn")]
    ServicePrincipalName,
    DisplayName,
    Alternate,
}

impl NameForm {
    pub const ALL: [Self; 10] = [
        Self::DistinguishedName,
        Self::UserPrincipalName,
        Self::Netbios,
        Self::Bare,
        Self::Guid,
        Self::Sid,
        Self::Canonical,
        Self::ServicePrincipalName,
        Self::DisplayName,
        Self::Alternate,
    ];

    pub fn code(self) -> &'static str {
        match self {
            Self::DistinguishedName => "dn",
            Self::UserPrincipalName => "upn",
            Self::Netbios => "netbios",
            Self::Bare => "bare",
            Self::Guid => "guid",
            Self::Sid => "sid",
            Self::Canonical => "canonical",
            Self::ServicePrincipalName => "spn",
            Self::DisplayName => "display_name",
            Self::Alternate => "alternate",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_written_in_settings_as_the_log_writes_it() {
        // R-60
        for form in NameForm::ALL {
            assert_eq!(serde_json::to_value(form).expect("JSON"), form.code());
        }
    }

    #[test]
    fn an_object_guid_has_its_first_three_fields_little_endian() {
        // S-54, the vector given with the rule
        let wire: Vec<u8> =
            vec![0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xAA, 0xBB, 0xCC, 0xDD, 0xEE, 0xFF];
        let id = ObjectId::from_object_guid(&wire).expect("16 octets");
        assert_eq!(id.as_str(), "objectGUID:33221100-5544-7766-8899-aabbccddeeff");
        assert_eq!(id.filter_value(), ("objectGUID", wire));
        assert_eq!(id.as_str().parse::<ObjectId>(), Ok(id));
    }

    #[test]
    fn a_guid_of_edirectory_is_written_in_the_order_of_its_octets() {
        // FD-30, FD-31
        let wire: Vec<u8> = (0x10..0x20).collect();
        let id = ObjectId::from_guid(&wire).expect("16 octets");
        assert_eq!(id.as_str(), "GUID:10111213-1415-1617-1819-1a1b1c1d1e1f");
        assert_eq!(id.filter_value(), ("GUID", wire));
        assert_eq!(id.as_str().to_uppercase().parse::<ObjectId>(), Ok(id.clone()));
        assert_ne!("objectGUID:10111213-1415-1617-1819-1a1b1c1d1e1f".parse::<ObjectId>(), Ok(id), "another attribute");
    }

    #[test]
    fn an_id_of_any_attribute_is_its_octets_again() {
        // FD-31
        let wire: Vec<u8> = (0x00..0x10).collect();
        for (attribute, id_type, value, text) in [
            ("employeeNumber", IdType::String, b"L-0042".to_vec(), "employeenumber:string:L-0042"),
            (
                "employeeNumber",
                IdType::String,
                "Ä, b/c".as_bytes().to_vec(),
                r"employeenumber:string:\c3\84\2c\20b\2fc",
            ),
            ("ipaUniqueID", IdType::String, b"12:34".to_vec(), "ipauniqueid:string:12:34"),
            ("1.2.3.4", IdType::ByteArray, b"A\\\0\xff".to_vec(), r"1.2.3.4:byte_array:A\5c\00\ff"),
            ("uuid;binary", IdType::Guid, wire, "uuid;binary:guid:03020100-0504-0706-0809-0a0b0c0d0e0f"),
        ] {
            let id = ObjectId::from_value(attribute, id_type, &value).expect(text);
            assert_eq!(id.as_str(), text);
            assert_eq!(id.filter_value(), (attribute.to_ascii_lowercase().as_str(), value), "{text}");
            assert_eq!(text.parse::<ObjectId>(), Ok(id.clone()), "{text}");
            assert!(id.is_of(attribute, id_type) && !id.is_of_server(), "{text}");
            assert!(IdType::ALL.into_iter().all(|other| id.is_of(attribute, other) == (other == id_type)), "{text}");
        }
        let canonical = "employeenumber:string:L-1".parse::<ObjectId>();
        assert_eq!(r"employeeNumber:string:\4c\2D1".parse(), canonical, "one value, one text");
        assert_ne!("employeeNumber:string:l-1".parse(), canonical, "sign by sign");
    }

    #[test]
    fn the_form_of_a_known_attribute_goes_before_the_type() {
        // FD-31
        let id = ObjectId::from_value("ENTRYUUID", IdType::ByteArray, b"AABBCCDD-0011-2233-4455-66778899AABB");
        assert_eq!(id.expect("a UUID").as_str(), "entryUUID:aabbccdd-0011-2233-4455-66778899aabb");
        assert!(ObjectId::from_value("nsuniqueid", IdType::String, b"L-0042").is_err());
        assert!("entryuuid:string:x".parse::<ObjectId>().is_err());
    }

    #[test]
    fn an_id_that_is_nothing_or_could_mislead_is_refused() {
        // FD-31, B-76
        for value in [&b""[..], b" ", b"a\nb", b"a\0", b"\xff", &[b'x'; 129]] {
            assert!(ObjectId::from_value("employeeNumber", IdType::String, value).is_err(), "{value:?}");
        }
        for value in [&b""[..], &[0; 129]] {
            assert!(ObjectId::from_value("token", IdType::ByteArray, value).is_err(), "{value:?}");
        }
        assert!(ObjectId::from_value("uuid", IdType::Guid, &[0; 15]).is_err());
        for text in
            ["cn=x:string:y", "uid:string:", "uid:text:y", r"uid:string:\4", r"uid:byte_array:\zz", "uid:guid:1"]
        {
            assert!(text.parse::<ObjectId>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_id_of_the_wrong_size_or_kind_is_refused() {
        // B-70
        for octets in [0, 15, 17] {
            let refused = ObjectId::from_object_guid(&vec![0; octets]);
            assert_eq!(refused, Err(BadObjectId::Length { attribute: "objectGUID".into(), found: octets }));
            let refused = ObjectId::from_guid(&vec![0; octets]);
            assert_eq!(refused, Err(BadObjectId::Length { attribute: "GUID".into(), found: octets }));
        }
        for text in [
            "",
            "uid:alice",
            "entryUUID:nope",
            "GUID:10",
            "guid:10111213-1415-1617-1819-1a1b1c1d1e1f",
            "nsUniqueId:12345678-1234-1234-1234-123456789abc",
        ] {
            assert!(text.parse::<ObjectId>().is_err(), "{text}");
        }
    }

    #[test]
    fn equal_ids_have_equal_texts_whatever_their_case() {
        let upper: ObjectId = "entryUUID:AABBCCDD-0011-2233-4455-66778899AABB".parse().expect("valid");
        let lower: ObjectId = "entryUUID:aabbccdd-0011-2233-4455-66778899aabb".parse().expect("valid");
        assert_eq!(upper, lower);
    }

    #[test]
    fn object_names_are_short_lower_case_words() {
        for good in ["vpn", "corp.example", "a", &"x".repeat(64)] {
            assert!(ObjectName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "VPN", "a b", "é", "a/b", &"x".repeat(65)] {
            assert!(ObjectName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_short_form_has_eight_signs_nobody_misreads() {
        let id = TransactionId(Uuid::from_u128(0xff_ffff_ffff));
        assert_eq!(id.short(), "ZZZZ-ZZZZ");
        assert_eq!(TransactionId(Uuid::nil()).short(), "0000-0000");
    }

    #[test]
    fn a_short_form_leads_back_to_the_end_of_its_id() {
        let id: TransactionId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().expect("an id");
        let short = id.short();
        for written in [short.clone(), short.to_lowercase(), short.replace('-', "")] {
            assert_eq!(TransactionId::tail(&written).as_deref(), Some("02099a8057"), "{written}");
        }
        for other in
            ["", "01890a5d-ac96-774b-bcce-b302099a8057", "0000-000", "0000-000U", "0000-000%", "attempt-1", "0000-000é"]
        {
            assert_eq!(TransactionId::tail(other), None, "{other}");
        }
    }
}
