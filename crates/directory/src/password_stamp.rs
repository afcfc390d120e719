//! When the password of an entry was changed, as its directory writes it. It is only compared: another stamp is another password (V-52).

use crate::resolve::plain_text;
use ldap_wire::SearchResultEntry;

/// The first that has a value counts: AD; draft-behera-ldap-password-policy section 5.3.2; 389 DS; RFC 2307 (in days). Each has one value
/// at most.
pub const PASSWORD_CHANGED: [&str; 4] = ["pwdLastSet", "pwdChangedTime", "pwdUpdateTime", "shadowLastChange"];

/// `None`: the directory keeps none, or the query account may not read it.
pub(crate) fn password_stamp(entry: &SearchResultEntry) -> Option<String> {
    PASSWORD_CHANGED.into_iter().find_map(|attribute| plain_text(entry, attribute))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use ldap_wire::Attribute;

    #[test]
    fn a_stamp_is_the_first_that_the_directory_keeps_as_it_writes_it() {
        // V-52, S-59
        for (attributes, stamp) in [
            (&[][..], None),
            (&[("pwdLastSet", "0")], Some("0")),
            (&[("PWDLASTSET", "134444736000010000"), ("shadowLastChange", "20412")], Some("134444736000010000")),
            (&[("shadowLastChange", "20412"), ("pwdChangedTime", "20261120120000Z")], Some("20261120120000Z")),
            (&[("pwdUpdateTime", "20261120120000Z"), ("shadowLastChange", "20412")], Some("20261120120000Z")),
            (&[("pwdLastSet", ""), ("shadowLastChange", "20412")], Some("20412")),
            (&[("pwdLastSet", "1\n2")], None),
        ] {
            let value = |(name, value): &(&str, &'static str)| {
                Attribute::new(*name, vec![Bytes::from_static(value.as_bytes())])
            };
            let entry = SearchResultEntry {
                dn: Bytes::from_static(b"uid=ann"),
                attributes: attributes.iter().map(value).collect(),
            };
            assert_eq!(password_stamp(&entry).as_deref(), stamp, "{attributes:?}");
        }
    }
}
