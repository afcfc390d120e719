//! How a rule names a group (FB-06, R-69): by what nobody can take, its id or SID; by where it is, its DN; or by a name that any group
//! may have.

use crate::identity::ObjectId;
use uuid::Uuid;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupForm<'a> {
    /// `objectGUID:...`, `entryUUID:...` and so on.
    Id(ObjectId),
    /// The text of a GUID without the attribute it stands in.
    Guid(Uuid),
    /// `S-1-5-...`, in upper case.
    Sid(String),
    /// As it is written: who compares it parses it.
    Dn(&'a str),
    /// The value of a group's `cn`.
    Name(&'a str),
}

impl<'a> GroupForm<'a> {
    pub fn of(text: &'a str) -> Self {
        let text = text.trim();
        if let Some(id) = object_id(text) {
            return Self::Id(id);
        }
        if let Ok(guid) = text.parse() {
            return Self::Guid(guid);
        }
        let upper = text.to_ascii_uppercase();
        let is_sid = |rest: &str| !rest.is_empty() && rest.bytes().all(|sign| sign.is_ascii_digit() || sign == b'-');
        if upper.strip_prefix("S-").is_some_and(is_sid) {
            return Self::Sid(upper);
        }
        if text.contains('=') { Self::Dn(text) } else { Self::Name(text) }
    }
}

/// The attribute in any case; custom ones as they are written.
fn object_id(text: &str) -> Option<ObjectId> {
    let (attribute, value) = text.split_once(':')?;
    let known = ["objectGUID", "GUID", "entryUUID", "nsUniqueId"];
    let known = known.into_iter().find(|known| known.eq_ignore_ascii_case(attribute));
    format!("{}:{value}", known.unwrap_or(attribute)).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_named_by_id_sid_dn_or_name() {
        // FB-06
        const GUID: &str = "7f1c2d3e-0000-4000-8000-00000000000a";
        let id = |text: &str| GroupForm::Id(text.parse().expect("an id"));
        let guid = format!("objectGUID:{GUID}");
        for (text, form) in [
            (guid.as_str(), id(&guid)),
            (&format!(" objectguid:{} ", GUID.to_uppercase()), id(&guid)),
            (&format!("entryUUID:{GUID}"), id(&format!("entryUUID:{GUID}"))),
            (GUID, GroupForm::Guid(GUID.parse().expect("a GUID"))),
            (&format!("{{{}}}", GUID.to_uppercase()), GroupForm::Guid(GUID.parse().expect("a GUID"))),
            ("s-1-5-21-1-513", GroupForm::Sid("S-1-5-21-1-513".into())),
            ("CN=VPN, Admins ,DC=corp", GroupForm::Dn("CN=VPN, Admins ,DC=corp")),
            ("VPN Admins", GroupForm::Name("VPN Admins")),
            ("S-Bahn", GroupForm::Name("S-Bahn")),
            ("S-", GroupForm::Name("S-")),
            ("objectGUID:7f1c", GroupForm::Name("objectGUID:7f1c")),
        ] {
            assert_eq!(GroupForm::of(text), form, "{text}");
        }
    }
}
