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
/// Written `objectGUID:33221100-5544-7766-8899-aabbccddeeff`, `entryUUID:...`, `nsUniqueId:...`, `GUID:...`; the text form
/// is canonical (lower case), so equal ids are equal texts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectId(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadObjectId {
    #[error("a {attribute} has 16 octets, found {found}")]
    Length { attribute: &'static str, found: usize },
    #[error("{attribute} is no valid id")]
    Form { attribute: &'static str },
    #[error("an id is written objectGUID:..., entryUUID:..., nsUniqueId:... or GUID:...")]
    Kind,
}

impl ObjectId {
    /// The attributes whose form is known (FD-31).
    pub const ATTRIBUTES: [&str; 4] = ["objectGUID", "entryUUID", "nsUniqueId", "GUID"];

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
        let uuid = Uuid::parse_str(text).map_err(|_| BadObjectId::Form { attribute: "entryUUID" })?;
        Ok(Self(format!("entryUUID:{uuid}")))
    }

    /// From 389 Directory Server's nsUniqueId: four groups of eight hexadecimal digits.
    pub fn from_ns_unique_id(text: &str) -> Result<Self, BadObjectId> {
        let groups: Vec<&str> = text.split('-').collect();
        let good = |group: &&str| group.len() == 8 && group.bytes().all(|sign| sign.is_ascii_hexdigit());
        if groups.len() == 4 && groups.iter().all(good) {
            Ok(Self(format!("nsUniqueId:{}", text.to_ascii_lowercase())))
        } else {
            Err(BadObjectId::Form { attribute: "nsUniqueId" })
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The attribute and the value's octets as an equality filter needs them.
    pub fn filter_value(&self) -> (&str, Vec<u8>) {
        let (attribute, value) = self.0.split_once(':').unwrap_or(("", &self.0));
        match (attribute, Uuid::parse_str(value)) {
            ("objectGUID", Ok(uuid)) => (attribute, uuid.to_bytes_le().to_vec()),
            ("GUID", Ok(uuid)) => (attribute, uuid.into_bytes().to_vec()),
            _ => (attribute, value.as_bytes().to_vec()),
        }
    }
}

fn sixteen(attribute: &'static str, wire: &[u8]) -> Result<[u8; 16], BadObjectId> {
    wire.try_into().map_err(|_| BadObjectId::Length { attribute, found: wire.len() })
}

fn of_octets(attribute: &'static str, value: &str) -> Result<ObjectId, BadObjectId> {
    let uuid = Uuid::parse_str(value).map_err(|_| BadObjectId::Form { attribute })?;
    Ok(ObjectId(format!("{attribute}:{uuid}")))
}

impl FromStr for ObjectId {
    type Err = BadObjectId;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("objectGUID", value)) => of_octets("objectGUID", value),
            Some(("GUID", value)) => of_octets("GUID", value),
            Some(("entryUUID", value)) => Self::from_entry_uuid(value),
            Some(("nsUniqueId", value)) => Self::from_ns_unique_id(value),
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
    DistinguishedName,
    UserPrincipalName,
    Netbios,
    Bare,
    Guid,
    Sid,
    Canonical,
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
    fn an_id_of_the_wrong_size_or_kind_is_refused() {
        // B-70
        for octets in [0, 15, 17] {
            let refused = ObjectId::from_object_guid(&vec![0; octets]);
            assert_eq!(refused, Err(BadObjectId::Length { attribute: "objectGUID", found: octets }));
            let refused = ObjectId::from_guid(&vec![0; octets]);
            assert_eq!(refused, Err(BadObjectId::Length { attribute: "GUID", found: octets }));
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
