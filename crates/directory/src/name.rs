//! What a person typed as their name, told apart by its form (L-20, FD-18).
//!
//! Nothing is decided by comparing names: a form only says which attributes are searched, and the directory's own matching
//! rules find the entry.

use domain::settings::{Directory, Preset};
use domain::{NameForm, ObjectId};
use ldap_wire::dn::{self, Dn, DnError};

/// A name that can be looked up. Made only by [`TypedName::parse`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypedName {
    text: String,
    pub(crate) kind: Kind,
    /// Nobody knew the base yet.
    early: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Dn(Dn),
    Upn {
        user: String,
        domain: String,
    },
    /// `DOMAIN\user` of this directory; only the user is left to look up.
    Netbios {
        user: String,
    },
    Bare,
    /// The id attribute's value, as an equality filter needs it.
    Guid(Vec<u8>),
    Sid(Vec<u8>),
    /// `corp.example/People/Ann`: what lies below the domain, the outermost first; never empty.
    Canonical {
        path: Vec<String>,
    },
    ServicePrincipal,
    /// `DOMAIN\user` of no domain of this directory; another one may have them (FD-02).
    Foreign,
}

/// Why a text is no name here. The person's typing; never evidence that a user does not exist (R-62).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    #[error("the name is empty")]
    Empty,
    #[error("the name is longer than {NAME_OCTETS_MAX} octets")]
    TooLong,
    #[error("the name holds a control character")]
    ControlCharacter,
    /// Shaped like a DN, but none. Over LDAP the one case that is told apart (B5).
    #[error("the name is no valid DN")]
    BadDn(#[source] Option<DnError>),
    #[error("<GUID=...> does not hold an id of this directory")]
    BadGuid,
    #[error("<SID=...> holds no SID, or this directory has none")]
    BadSid,
    /// `DOMAIN\user` of another domain.
    #[error("the domain is not one of this directory")]
    ForeignDomain,
    /// A DN that is not at or below the base of the directory.
    #[error("the DN lies outside the base of the directory")]
    OutsideBase,
}

/// Long enough for any DN of a directory in use.
pub const NAME_OCTETS_MAX: usize = 2048;

impl TypedName {
    /// The forms, tried in this order: `<GUID=...>`, `<SID=...>` (Active Directory), DN, `DOMAIN\user` and `DOMAIN/user` (the domain
    /// in its short form of the settings, or in its long form of the base), `user@domain`, and anything else as a bare name.
    ///
    /// In Active Directory (MS-ADTS section 5.1.1.1.1) also `{...}` as a GUID and `S-1-...` as a SID; and before a `/` the long form
    /// of the domain begins a canonical name, while what is no domain of ours begins a service principal name.
    pub fn parse(text: &str, settings: &Directory) -> Result<Self, NameError> {
        if text.len() > NAME_OCTETS_MAX {
            return Err(NameError::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(NameError::ControlCharacter);
        }
        // Directories differ in whether a space at an end counts in a login name; here it does not (R-61). In a DN it may be
        // escaped, and the rest is told by the DN's own rules.
        let text = text.trim_start();
        let text = if dn::is_dn_shaped(text) { text } else { text.trim_end() };
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        Ok(Self { text: text.to_owned(), kind: kind(text, settings)?, early: settings.base.is_empty() })
    }

    /// Read while nobody knew the base, whose domain may be in the name (FD-05).
    pub(crate) fn is_early(&self) -> bool {
        self.early
    }

    /// What stands before a `\` or `/` and is no domain of ours by the settings.
    pub(crate) fn unknown_domain(&self) -> Option<&str> {
        let named = matches!(self.kind, Kind::Foreign | Kind::ServicePrincipal);
        self.text.split(['\\', '/']).next().filter(|_| named)
    }

    /// The same, where that has turned out to be this directory's domain.
    pub(crate) fn of_own_domain(&self) -> Self {
        let user = self.text.split_once(['\\', '/']).map_or("", |(_, user)| user.trim());
        Self { kind: Kind::Netbios { user: user.to_owned() }, ..self.clone() }
    }

    /// By the immutable id alone, whatever the entry is called now.
    pub fn of_id(id: &ObjectId) -> Self {
        Self { text: id.to_string(), kind: Kind::Guid(id.filter_value().1), early: false }
    }

    /// The name as typed, without space around it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn form(&self) -> NameForm {
        match &self.kind {
            Kind::Dn(_) => NameForm::DistinguishedName,
            Kind::Upn { .. } => NameForm::UserPrincipalName,
            Kind::Netbios { .. } | Kind::Foreign => NameForm::Netbios,
            Kind::Bare => NameForm::Bare,
            Kind::Guid(_) => NameForm::Guid,
            Kind::Sid(_) => NameForm::Sid,
            Kind::Canonical { .. } => NameForm::Canonical,
            Kind::ServicePrincipal => NameForm::ServicePrincipalName,
        }
    }

    /// Is it an account's name in its one plain spelling, alone or with a domain? Only of such a name it says something of another
    /// server's people that nobody has it here: accents, widths, spaces and signs that one folds or cuts off, another one keeps (R-61).
    pub fn is_plain(&self) -> bool {
        let plain = |sign: u8| sign.is_ascii_alphanumeric() || br"._-@\/".contains(&sign);
        let at_an_end = |sign: Option<&u8>| sign.is_some_and(u8::is_ascii_alphanumeric);
        let ends = (self.text.as_bytes().first(), self.text.as_bytes().last());
        matches!(self.kind, Kind::Bare | Kind::Upn { .. } | Kind::Netbios { .. })
            && self.text.bytes().all(plain)
            && at_an_end(ends.0)
            && at_an_end(ends.1)
    }

    /// The account that a Windows domain is asked about by a name that nobody of its directory has: never by a principal name, which
    /// may lead there to somebody else.
    pub fn account_in_domain(&self, names: &Directory) -> Option<String> {
        let account = match &self.kind {
            Kind::Bare => &self.text,
            Kind::Netbios { user } => user,
            _ => return None,
        };
        let plain = !account.contains(['@', '\\', '/']);
        plain.then(|| match names.netbios_domain.as_str() {
            "" => account.clone(),
            short => format!(r"{short}\{account}"),
        })
    }

    /// Nobody outside of the domain that it names could be meant by it.
    pub(crate) fn is_of_one_domain(&self) -> bool {
        matches!(self.kind, Kind::Foreign | Kind::Dn(_))
    }

    /// Could it be an alternate sign-in name (FD-19)? What names a domain, a place or an id means that and nothing else.
    pub(crate) fn may_be_alternate(&self) -> bool {
        matches!(self.kind, Kind::Bare | Kind::Upn { .. })
    }
}

fn kind(text: &str, settings: &Directory) -> Result<Kind, NameError> {
    let active_directory = settings.preset == Preset::ActiveDirectory;
    if let Some(value) = bracketed(text, "GUID") {
        return guid(value, settings).map(Kind::Guid).ok_or(NameError::BadGuid);
    }
    if let Some(value) = bracketed(text, "SID") {
        let sid = sid(value).filter(|_| active_directory);
        return sid.map(Kind::Sid).ok_or(NameError::BadSid);
    }
    if dn::is_dn_shaped(text) {
        return text.parse().map(Kind::Dn).map_err(|error| NameError::BadDn(Some(error)));
    }
    if active_directory && let Some(octets) = without_brackets(text, settings) {
        return Ok(octets);
    }
    if let Some((domain, user)) = text.split_once(['\\', '/']) {
        let slash = text.get(domain.len()..).is_some_and(|rest| rest.starts_with('/'));
        let long = is_domain_of_base(domain, settings);
        if slash && long && active_directory {
            return canonical(user).map(|path| Kind::Canonical { path }).ok_or(NameError::Empty);
        }
        let short = !settings.netbios_domain.is_empty() && domain.eq_ignore_ascii_case(&settings.netbios_domain);
        return match user.trim() {
            "" => Err(NameError::Empty),
            user if short || long || settings.strip_domain => Ok(Kind::Netbios { user: user.to_owned() }),
            // Nobody can say yet what is a foreign domain: it is read again when the base is known.
            user if settings.base.is_empty() => Ok(Kind::Netbios { user: user.to_owned() }),
            _ if slash && active_directory => Ok(Kind::ServicePrincipal),
            _ if settings.includes_trusted_domains() => Ok(Kind::Foreign),
            _ => Err(NameError::ForeignDomain),
        };
    }
    match text.rsplit_once('@') {
        Some((user, domain)) if !user.is_empty() && !domain.is_empty() => {
            Ok(Kind::Upn { user: user.to_owned(), domain: domain.to_owned() })
        }
        _ => Ok(Kind::Bare),
    }
}

/// The value of `<KEYWORD=value>`.
fn bracketed<'a>(text: &'a str, keyword: &str) -> Option<&'a str> {
    let (head, value) = text.strip_prefix('<')?.strip_suffix('>')?.split_once('=')?;
    head.eq_ignore_ascii_case(keyword).then_some(value)
}

/// A GUID in braces or a SID in its text form, as Active Directory takes them.
fn without_brackets(text: &str, settings: &Directory) -> Option<Kind> {
    if let Some(value) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        return guid(value, settings).map(Kind::Guid);
    }
    sid(text).filter(|_| text.contains('-')).map(Kind::Sid)
}

/// The parts of a path, in which a `/` of a name stands behind a `\`. `None`: one of them is empty, or there are very many.
fn canonical(path: &str) -> Option<Vec<String>> {
    const PARTS_MAX: usize = 64;
    let mut parts = vec![String::new()];
    let mut signs = path.chars().peekable();
    while let Some(sign) = signs.next() {
        match sign {
            '/' => parts.push(String::new()),
            sign => {
                let escaped = signs.next_if(|next| sign == '\\' && matches!(next, '/' | '\\'));
                parts.last_mut()?.push(escaped.unwrap_or(sign));
            }
        }
    }
    (parts.len() <= PARTS_MAX && parts.iter().all(|part| !part.trim().is_empty())).then_some(parts)
}

/// Is it the domain that the base lies in, in its long form: `corp.example` of `OU=x,DC=corp,DC=example`?
pub(crate) fn is_domain_of_base(domain: &str, settings: &Directory) -> bool {
    let base: Result<Dn, _> = settings.base.parse();
    base.ok().and_then(|base| base.dns_domain()).is_some_and(|ours| ours.eq_ignore_ascii_case(domain))
}

/// The octets the id attribute is searched with. Active Directory takes its GUID with dashes, or as the octets of the wire (S-54).
fn guid(value: &str, settings: &Directory) -> Option<Vec<u8>> {
    let id = match settings.id_attribute().to_ascii_lowercase().as_str() {
        "objectguid" => match hexadecimal(value) {
            Some(wire) => ObjectId::from_object_guid(&wire).ok()?,
            None => format!("objectGUID:{value}").parse().ok()?,
        },
        "nsuniqueid" => ObjectId::from_ns_unique_id(value).ok()?,
        "entryuuid" => ObjectId::from_entry_uuid(value).ok()?,
        "guid" => format!("GUID:{value}").parse().ok()?,
        other => format!("{other}:{}:{value}", settings.id_type().code()).parse().ok()?,
    };
    Some(id.filter_value().1)
}

/// `S-1-5-21-...`, or its octets in hexadecimal (S-56, MS-DTYP 2.4.2).
fn sid(value: &str) -> Option<Vec<u8>> {
    if let Some(octets) = hexadecimal(value) {
        let count = usize::from(*octets.get(1)?);
        return (octets.first() == Some(&1) && count <= 15 && octets.len() == 8 + 4 * count).then_some(octets);
    }
    let mut parts = value.split('-');
    let head = (parts.next()?, parts.next()?);
    if !head.0.eq_ignore_ascii_case("S") || head.1 != "1" {
        return None;
    }
    let authority: u64 = parts.next()?.parse().ok().filter(|number| *number < 1 << 48)?;
    let subs: Vec<u32> = parts.map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let mut octets = vec![1, u8::try_from(subs.len()).ok().filter(|count| *count <= 15)?];
    octets.extend(authority.to_be_bytes().iter().skip(2));
    subs.iter().for_each(|sub| octets.extend(sub.to_le_bytes()));
    Some(octets)
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |sign: u8| char::from(sign).to_digit(16);
    let octet = |pair: &[u8; 2]| u8::try_from((digit(pair[0])? << 4) | digit(pair[1])?).ok();
    if text.is_empty() || !rest.is_empty() { None } else { pairs.iter().map(octet).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(preset: &str) -> Directory {
        let mut settings = crate::directory::tests::settings(&["ldaps://dc1"]);
        settings.preset = match preset {
            "ad" => Preset::ActiveDirectory,
            "389" => Preset::Ds389,
            _ => Preset::OpenLdap,
        };
        settings.netbios_domain = "CORP".into();
        settings
    }

    fn form(text: &str, preset: &str) -> Result<NameForm, NameError> {
        TypedName::parse(text, &settings(preset)).map(|name| name.form())
    }

    #[test]
    fn each_form_is_known_by_its_shape() {
        // L-20
        for (text, expected) in [
            ("alice", NameForm::Bare),
            ("alice smith", NameForm::Bare),
            ("@alice", NameForm::Bare),
            ("alice@corp.example", NameForm::UserPrincipalName),
            ("CORP\\alice", NameForm::Netbios),
            ("corp/alice", NameForm::Netbios),
            ("uid=alice,dc=corp,dc=example", NameForm::DistinguishedName),
            ("OID.2.5.4.3=alice/x@y , DC=corp", NameForm::DistinguishedName),
            ("<GUID=33221100-5544-7766-8899-aabbccddeeff>", NameForm::Guid),
            ("<guid=00112233445566778899AABBCCDDEEFF>", NameForm::Guid),
            ("<SID=S-1-5-21-1-2-3-500>", NameForm::Sid),
            ("{33221100-5544-7766-8899-aabbccddeeff}", NameForm::Guid),
            ("s-1-5-21-1-2-3-500", NameForm::Sid),
            ("S-1-alice", NameForm::Bare),
            ("{alice}", NameForm::Bare),
            ("Archer, Ann", NameForm::Bare),
            ("corp.EXAMPLE\\alice", NameForm::Netbios),
            ("Corp.example/People/Ann Archer", NameForm::Canonical),
            ("corp.example/alice", NameForm::Canonical),
            ("HTTP/web.corp.example", NameForm::ServicePrincipalName),
            ("sub.corp.example/People/Ann", NameForm::ServicePrincipalName),
            ("OTHER/alice", NameForm::ServicePrincipalName),
        ] {
            assert_eq!(form(text, "ad"), Ok(expected), "{text}");
        }
        // Only Active Directory has the others.
        for (text, expected) in [
            ("corp.example\\alice", Ok(NameForm::Netbios)),
            ("corp.example/alice", Ok(NameForm::Netbios)),
            ("HTTP/web.corp.example", Err(NameError::ForeignDomain)),
            ("OTHER/alice", Err(NameError::ForeignDomain)),
            ("s-1-5-21-1-2-3-500", Ok(NameForm::Bare)),
            ("{33221100-5544-7766-8899-aabbccddeeff}", Ok(NameForm::Bare)),
        ] {
            assert_eq!(form(text, "openldap"), expected, "{text}");
        }
    }

    #[test]
    fn absence_says_something_only_of_a_name_in_plain_letters() {
        // R-61, R-62
        let plain = |text: &str| TypedName::parse(text, &settings("ad")).is_ok_and(|name| name.is_plain());
        for text in ["nobody", "No.Body-7", "no_body", "nobody@corp.example", "nobody@else.example", r"CORP\nobody"] {
            assert!(plain(text), "{text}");
        }
        let signs = [
            "n\u{f6}body",
            "n\u{43e}body",
            "al\u{131}ce",
            "\u{ff4e}obody",
            "no body",
            "no\u{ad}body",
            "nobody%x",
            "no*",
        ];
        let ends = ["nobody.", ".nobody", "nobody@corp.example.", "@nobody", "nobody@", r"CORP\nobody."];
        let other_forms = [
            "cn=nobody,dc=corp,dc=example",
            "s-1-5-21-1-2-3-500",
            "corp.example/nobody",
            "HTTP/nobody",
            r"OTHER\nobody",
        ];
        for text in signs.iter().chain(&ends).chain(&other_forms) {
            assert!(!plain(text), "{text}");
        }
    }

    #[test]
    fn a_domain_is_asked_by_an_accounts_name_and_never_by_a_principal_name() {
        // R-60, R-62
        let account = |text: &str, short: &str| {
            let mut settings = settings("ad");
            settings.netbios_domain = short.into();
            TypedName::parse(text, &settings).expect("a name").account_in_domain(&settings)
        };
        assert_eq!(account("nobody", "CORP").as_deref(), Some(r"CORP\nobody"));
        assert_eq!(account(r"corp\nobody", "CORP").as_deref(), Some(r"CORP\nobody"));
        assert_eq!(account(r"corp.example\nobody", "").as_deref(), Some("nobody"));
        for text in ["nobody@corp.example", r"CORP\nobody@corp.example", "@nobody", "HTTP/nobody"] {
            assert_eq!(account(text, "CORP"), None, "{text}");
        }
    }

    #[test]
    fn a_canonical_name_is_taken_apart_where_no_backslash_stands_before_the_slash() {
        let path = |text: &str| match TypedName::parse(text, &settings("ad")).map(|name| name.kind) {
            Ok(Kind::Canonical { path }) => path,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(path("corp.example/a b/c"), ["a b", "c"]);
        assert_eq!(path(r"corp.example/a\/b/c\\/d\e"), ["a/b", r"c\", r"d\e"]);
        for empty in ["corp.example/", "corp.example//a", "corp.example/a/", "corp.example/a/ /b"] {
            assert_eq!(form(empty, "ad"), Err(NameError::Empty), "{empty}");
        }
        assert_eq!(form(&format!("corp.example{}", "/a".repeat(64)), "ad"), Ok(NameForm::Canonical));
        assert_eq!(form(&format!("corp.example{}", "/a".repeat(65)), "ad"), Err(NameError::Empty));
    }

    #[test]
    fn what_is_no_name_is_refused_and_says_why() {
        // R-24, R-61
        for (text, expected) in [
            ("", NameError::Empty),
            ("  \u{a0} ", NameError::Empty),
            ("alice\0", NameError::ControlCharacter),
            ("al\nice", NameError::ControlCharacter),
            ("al\u{85}ice", NameError::ControlCharacter),
            ("OTHER\\alice", NameError::ForeignDomain),
            ("OTHER\\alice/corp.example", NameError::ForeignDomain),
            ("example\\alice", NameError::ForeignDomain),
            ("sub.corp.example\\alice", NameError::ForeignDomain),
            ("corp.example.\\alice", NameError::ForeignDomain),
            ("CORP\\", NameError::Empty),
            ("<GUID=12>", NameError::BadGuid),
            ("<SID=S-2-5>", NameError::BadSid),
            ("<SID=0102>", NameError::BadSid),
        ] {
            assert_eq!(form(text, "ad"), Err(expected), "{text:?}");
        }
        assert_eq!(form(&"x".repeat(NAME_OCTETS_MAX + 1), "ad"), Err(NameError::TooLong));
        assert!(matches!(form("cn=a,,dc=x", "ad"), Err(NameError::BadDn(Some(_)))));
        assert_eq!(form("<SID=S-1-5-18>", "openldap"), Err(NameError::BadSid), "only Active Directory has SIDs");
    }

    #[test]
    fn without_a_configured_domain_only_the_long_one_of_the_base_is_accepted() {
        let mut settings = settings("ad");
        settings.netbios_domain.clear();
        for foreign in ["CORP\\alice", "\\alice"] {
            assert_eq!(TypedName::parse(foreign, &settings), Err(NameError::ForeignDomain), "{foreign}");
        }
        let ours = |settings: &Directory| TypedName::parse("corp.example\\alice", settings).map(|name| name.kind);
        assert_eq!(ours(&settings), Ok(Kind::Netbios { user: "alice".into() }));
        settings.base = "o=corp".into();
        assert_eq!(ours(&settings), Err(NameError::ForeignDomain));
    }

    #[test]
    fn a_domain_that_is_stripped_may_be_any() {
        // FD-18
        let mut settings = settings("ad");
        settings.strip_domain = true;
        for text in ["CORP\\alice", "OTHER\\alice", "other/alice", "\\alice"] {
            let kind = TypedName::parse(text, &settings).map(|name| name.kind);
            assert_eq!(kind, Ok(Kind::Netbios { user: "alice".into() }), "{text}");
        }
    }

    #[test]
    fn a_guid_becomes_the_octets_of_the_wire_whichever_way_it_is_written() {
        // S-54
        let wire: Vec<u8> =
            vec![0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xAA, 0xBB, 0xCC, 0xDD, 0xEE, 0xFF];
        for text in [
            "33221100-5544-7766-8899-aabbccddeeff",
            "33221100-5544-7766-8899-AABBCCDDEEFF",
            "00112233445566778899aabbccddeeff",
        ] {
            assert_eq!(guid(text, &settings("ad")), Some(wire.clone()), "{text}");
        }
        let uuid = "aabbccdd-0011-2233-4455-66778899aabb";
        assert_eq!(guid(&uuid.to_uppercase(), &settings("openldap")), Some(uuid.as_bytes().to_vec()));
        assert_eq!(
            guid("12345678-12345678-12345678-1234567A", &settings("389")),
            Some(b"12345678-12345678-12345678-1234567a".to_vec())
        );
        assert_eq!(guid(uuid, &settings("389")), None);
    }

    #[test]
    fn a_sid_becomes_its_octets_and_its_length_is_checked() {
        // S-56
        let administrators = [1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 32, 2, 0, 0];
        assert_eq!(sid("S-1-5-32-544"), Some(administrators.to_vec()));
        assert_eq!(sid("01020000000000052000000020020000"), Some(administrators.to_vec()));
        for bad in [
            "",
            "S-1",
            "S-1-",
            "S-1-5-4294967296",
            "S-1-281474976710656-1",
            "0103000000000005200000002002",
            "S-1-5-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1",
        ] {
            assert_eq!(sid(bad), None, "{bad}");
        }
    }
}
