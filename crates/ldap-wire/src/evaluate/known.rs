//! What is known of attributes and classes without reading a server's schema: those of RFC 4519, RFC 2798 and RFC 2307 that servers
//! define alike, and those of Active Directory that administrators filter by. None of them is a secret, and none is large but `memberOf`.

use crate::dirsync::plain_dn;
use crate::dn::{Dn, Value};
use crate::evaluate::Rules;
use crate::evaluate::compare::{self, Likeness, Number};

/// How an attribute is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    /// Names of object classes.
    Class,
    /// The name of a class's entry in the schema, which filters call by the class.
    Category,
    /// Without regard to case, also in parts.
    Text,
    /// As a text, but of fewer signs.
    Phone,
    /// The name of an entry.
    Name,
    Integer(Number),
    Time,
    Boolean,
    /// Only whether it is there.
    Opaque,
}

const TEXTS: &[&str] = &[
    "businessCategory",
    "c",
    "cn",
    "dc",
    "departmentNumber",
    "description",
    "displayName",
    "employeeNumber",
    "employeeType",
    "givenName",
    "initials",
    "l",
    "mail",
    "o",
    "ou",
    "physicalDeliveryOfficeName",
    "postalCode",
    "preferredLanguage",
    "roomNumber",
    "sn",
    "st",
    "street",
    "title",
    "uid",
];
const PHONES: &[&str] = &["homePhone", "mobile", "pager", "telephoneNumber"];
const OPAQUE: &[&str] = &["facsimileTelephoneNumber", "gecos", "homeDirectory", "loginShell"];

const MICROSOFT_TEXTS: &[&str] = &[
    "co",
    "company",
    "department",
    "division",
    "dNSHostName",
    "employeeID",
    "info",
    "mailNickname",
    "name",
    "operatingSystem",
    "proxyAddresses",
    "sAMAccountName",
    "streetAddress",
    "userPrincipalName",
];
/// Of Exchange: 1 to 15 of the first, 1 to 20 of the second.
const MICROSOFT_NUMBERED_TEXTS: [(&str, u32); 2] = [("extensionAttribute", 15), ("msDS-cloudExtensionAttribute", 20)];
const MICROSOFT_NAMES: &[&str] = &["managedBy", "manager", "memberOf"];
const MICROSOFT_BITS_32: &[&str] = &[
    "adminCount",
    "codePage",
    "countryCode",
    "gidNumber",
    "groupType",
    "instanceType",
    "msDS-SupportedEncryptionTypes",
    "primaryGroupID",
    "sAMAccountType",
    "systemFlags",
    "uidNumber",
    "userAccountControl",
];
const MICROSOFT_BITS_64: &[&str] =
    &["accountExpires", "lastLogonTimestamp", "lockoutTime", "pwdLastSet", "uSNChanged", "uSNCreated"];
const MICROSOFT_TIMES: &[&str] = &["whenChanged", "whenCreated"];
const MICROSOFT_BOOLEANS: &[&str] = &["isCriticalSystemObject", "msExchHideFromAddressLists", "showInAdvancedViewOnly"];
/// What every entry has: where it is absent it is hidden, and Samba finds it all the same.
const MICROSOFT_OF_ALL: &[&str] = &[
    "cn",
    "instanceType",
    "name",
    "objectCategory",
    "objectGUID",
    "uSNChanged",
    "uSNCreated",
    "whenChanged",
    "whenCreated",
];
const MICROSOFT_OPAQUE: &[&str] = &[
    "ipPhone",
    "mS-DS-ConsistencyGuid",
    "objectGUID",
    "objectSid",
    "otherHomePhone",
    "otherMobile",
    "otherPager",
    "otherTelephone",
];

/// `None` of what nobody can say here how it is compared: with options, by number, computed, of a schema of its own, or a secret.
pub(super) fn syntax(name: &str, rules: Rules) -> Option<Syntax> {
    let of_all: &[(&[&str], Syntax)] =
        &[(&["objectClass"], Syntax::Class), (TEXTS, Syntax::Text), (PHONES, Syntax::Phone), (OPAQUE, Syntax::Opaque)];
    let of_some: &[(&[&str], Syntax)] = match rules {
        Rules::Microsoft => &[
            (&["objectCategory"], Syntax::Category),
            (MICROSOFT_TEXTS, Syntax::Text),
            (MICROSOFT_NAMES, Syntax::Name),
            (MICROSOFT_BITS_32, Syntax::Integer(Number::Bits32)),
            (MICROSOFT_BITS_64, Syntax::Integer(Number::Bits64)),
            (MICROSOFT_TIMES, Syntax::Time),
            (MICROSOFT_BOOLEANS, Syntax::Boolean),
            (MICROSOFT_OPAQUE, Syntax::Opaque),
        ],
        Rules::Ds389 => &[(&["manager", "memberOf"], Syntax::Name), POSIX],
        Rules::Standard => &[(&["manager"], Syntax::Name), POSIX],
        Rules::Other => &[],
    };
    let is_it = |known: &&str| known.eq_ignore_ascii_case(name);
    let found = of_all.iter().chain(of_some).find(|(names, _)| names.iter().any(is_it));
    let numbered = || (rules == Rules::Microsoft && is_numbered(name)).then_some(Syntax::Text);
    found.map(|(_, syntax)| *syntax).or_else(numbered)
}

/// Would an entry of Microsoft's show it, if it had it and the account may search by it?
pub(super) fn is_shown_if_there(name: &str) -> bool {
    !MICROSOFT_OF_ALL.iter().any(|known| known.eq_ignore_ascii_case(name))
}

const POSIX: (&[&str], Syntax) = (&["gidNumber", "uidNumber"], Syntax::Integer(Number::Bits32));

fn is_numbered(name: &str) -> bool {
    MICROSOFT_NUMBERED_TEXTS.iter().any(|(known, most)| {
        let (head, number) = name.split_at_checked(known.len()).unwrap_or_default();
        let number = compare::integer(number.as_bytes());
        head.eq_ignore_ascii_case(known) && number.is_some_and(|number| (1..=i64::from(*most)).contains(&number))
    })
}

/// Classes that servers define alike, with the class above where that is not `top`.
const CLASSES: &[(&str, &str)] = &[
    ("top", ""),
    ("account", ""),
    ("applicationProcess", ""),
    ("container", ""),
    ("country", ""),
    ("dcObject", ""),
    ("device", ""),
    ("domain", ""),
    ("extensibleObject", ""),
    ("groupOfNames", ""),
    ("groupOfUniqueNames", ""),
    ("inetOrgPerson", "organizationalPerson"),
    ("inetUser", ""),
    ("ldapPublicKey", ""),
    ("locality", ""),
    ("nsAccount", ""),
    ("nsMemberOf", ""),
    ("nsOrgPerson", ""),
    ("nsPerson", ""),
    ("organization", ""),
    ("organizationalPerson", "person"),
    ("organizationalRole", ""),
    ("organizationalUnit", ""),
    ("person", ""),
    ("posixAccount", ""),
    ("posixGroup", ""),
    ("residentialPerson", "person"),
    ("sambaSamAccount", ""),
    ("shadowAccount", ""),
    ("simpleSecurityObject", ""),
    ("uidObject", ""),
];
/// Active Directory has these; an entry lists every class that it is of.
const MICROSOFT_CLASSES: &[&str] = &[
    "builtinDomain",
    "computer",
    "contact",
    "container",
    "domain",
    "domainDNS",
    "foreignSecurityPrincipal",
    "group",
    "inetOrgPerson",
    "organizationalPerson",
    "organizationalUnit",
    "person",
    "top",
    "user",
];

/// Is an entry that lists these classes, and not this one, certainly not of it? It may be by a class below it.
pub(super) fn is_not_of<'a>(class: &str, mut listed: impl Iterator<Item = &'a str>, rules: Rules) -> bool {
    match rules {
        Rules::Microsoft => MICROSOFT_CLASSES.iter().any(|known| known.eq_ignore_ascii_case(class)),
        Rules::Standard | Rules::Ds389 => above(class).is_some() && listed.all(|it| is_not_below(it, class)),
        Rules::Other => false,
    }
}

fn above(class: &str) -> Option<&'static str> {
    CLASSES.iter().find(|(known, _)| known.eq_ignore_ascii_case(class)).map(|(_, above)| *above)
}

fn is_not_below(mut class: &str, other: &str) -> bool {
    while let Some(next) = above(class) {
        match next {
            // All are below `top`.
            "" => return !other.eq_ignore_ascii_case("top"),
            next if next.eq_ignore_ascii_case(other) => return false,
            next => class = next,
        }
    }
    false
}

/// What `objectCategory` is of entries of a class (MS-ADTS section 3.1.1.2.3): the name of the category in the schema.
const CATEGORIES: &[(&str, &str)] = &[
    ("computer", "Computer"),
    ("contact", "Person"),
    ("container", "Container"),
    ("foreignSecurityPrincipal", "Foreign-Security-Principal"),
    ("group", "Group"),
    ("organizationalPerson", "Person"),
    ("organizationalUnit", "Organizational-Unit"),
    ("person", "Person"),
    ("user", "Person"),
];

pub(super) fn category(value: &[u8], asserted: &[u8]) -> Likeness {
    let Ok(class) = std::str::from_utf8(asserted) else { return Likeness::Unclear };
    let Some((_, category)) = CATEGORIES.iter().find(|(known, _)| known.eq_ignore_ascii_case(class)) else {
        // By its whole name: of none but the schema's entries nothing is said.
        return match compare::names(value, asserted) {
            Likeness::Different => Likeness::Unclear,
            likeness => likeness,
        };
    };
    let dn = std::str::from_utf8(value).ok().and_then(|text| plain_dn(text).parse::<Dn>().ok());
    match dn.as_ref().and_then(|dn| dn.rdns.first()).map(|rdn| rdn.assertions.as_slice()) {
        Some([first]) => match &first.value {
            Value::Text(text) if first.attribute.eq_ignore_ascii_case("cn") => {
                compare::texts(text, category.as_bytes())
            }
            _ => Likeness::Unclear,
        },
        _ => Likeness::Unclear,
    }
}
