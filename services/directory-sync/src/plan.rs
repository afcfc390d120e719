//! From an entry as the directory has it to a user or a group as the store takes it. Pure.
//!
//! A directory is not ours: people write parts of their own entries, and other programs the rest (S-59, B-76). What **identifies**
//! (id, DN, names, mail, phone) is taken whole or not at all, because half a name is somebody else's; what **describes** is cleaned
//! and cut. Of several values the one that stands in the entry's own name is taken, else the first in order of octets: servers
//! give them in any order, and a user must not change with it.

use directory::PASSWORD_CHANGED;
use domain::settings::{Directory, PhoneKind, Preset, each_once};
use domain::{Language, ObjectId};
use ldap_wire::dn::Value;
use ldap_wire::{Dn, SearchResultEntry};
use prost::Message;
use proto::user_store::{SyncedContainer, SyncedGroup, SyncedLanguages, SyncedPhone, SyncedUser, UnusableValue};
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;

/// What the store keeps of a DN, a name or mail address, a phone number; longer ones are refused here, so that nothing cuts them.
const DN_OCTETS_MAX: usize = 1024;
const NAME_OCTETS_MAX: usize = 256;
const PHONE_OCTETS_MAX: usize = 64;
const TIME_OCTETS_MAX: usize = 64;
/// Descriptions are cut here, on a character boundary.
const TEXT_OCTETS_MAX: usize = 1024;
/// Forms of one user's name.
const NAMES_MAX: usize = 32;
/// Numbers of one attribute of a user.
const NUMBERS_MAX: usize = 10;
/// Members of one group, as they travel. A batch must fit into one message, of which the store takes 64 MiB.
const GROUP_OCTETS_MAX: usize = 48 << 20;

/// Attributes of users that have the same name everywhere.
const UPN: &str = "userPrincipalName";
const SAM_ACCOUNT_NAME: &str = "sAMAccountName";
const UID: &str = "uid";
const USER_ACCOUNT_CONTROL: &str = "userAccountControl";
const ACCOUNT_EXPIRES: &str = "accountExpires";
const LOCKED_TIME: &str = "pwdAccountLockedTime";
/// eDirectory: until when, as GeneralizedTime (RFC 4517 section 3.3.13).
const LOGIN_EXPIRATION: &str = "loginExpirationTime";
/// MS-ADTS 2.2.16: ADS_UF_ACCOUNTDISABLE.
const ACCOUNT_DISABLE: i64 = 0x2;
/// draft-behera-ldap-password-policy section 5.3.3: locked until an administrator unlocks it. Other times are lock-outs by the
/// directory that end by themselves.
const LOCKED_FOR_GOOD: &[u8] = b"000001010000Z";

/// MS-ADA3: the security identifier, and the last number of that of the primary group.
const OBJECT_SID: &str = "objectSid";
const PRIMARY_GROUP_ID: &str = "primaryGroupID";
/// RFC 4519: both hold DNs.
pub(crate) const MEMBER_ATTRIBUTES: [&str; 2] = ["member", "uniqueMember"];
/// RFC 2307 section 2.2: the `uid` of a member (S-36).
const MEMBER_UID: &str = "memberUid";
/// Before such a name, where the store takes a SID: what groups call somebody beside id and DN.
pub(crate) const OF_UID: &str = "uid:";

/// What is asked for of a user's entry, each once.
pub(crate) fn user_attributes(settings: &Directory) -> Vec<&str> {
    let mut attributes = vec![settings.id_attribute(), UPN, SAM_ACCOUNT_NAME, UID];
    attributes.extend([USER_ACCOUNT_CONTROL, ACCOUNT_EXPIRES, LOCKED_TIME, settings.preset.disabled_attribute()]);
    attributes.extend(PASSWORD_CHANGED);
    attributes.extend(settings.attributes_of_people().into_iter().map(|(_, attribute)| attribute));
    if settings.preset == Preset::ActiveDirectory {
        attributes.extend([OBJECT_SID, PRIMARY_GROUP_ID]);
    }
    if settings.preset == Preset::EDirectory {
        attributes.push(LOGIN_EXPIRATION);
    }
    each_once(attributes)
}

/// What is asked for of a group's entry.
pub(crate) fn group_attributes(settings: &Directory) -> Vec<&str> {
    let mut attributes = vec![settings.id_attribute()];
    attributes.extend(settings.group_name_attributes());
    attributes.extend(MEMBER_ATTRIBUTES);
    match settings.preset {
        Preset::ActiveDirectory => attributes.push(OBJECT_SID),
        _ => attributes.push(MEMBER_UID),
    }
    if settings.preset.is_microsoft() {
        // With the first of many values comes what tells whether the group was written before the last (S-51).
        attributes.push("uSNChanged");
    }
    each_once(attributes)
}

/// A user as the store takes it, but for its items. One whose own name cannot be used goes without a username: the store adds nobody under it, and
/// still learns that the entry is there. `elsewhere` is what stands before a backslash in names of another domain than the directory's
/// own, whose people this user is one of.
pub(crate) fn user(
    settings: &Directory,
    elsewhere: Option<&str>,
    id: &ObjectId,
    entry: &SearchResultEntry,
    now_unix_ms: i64,
    problems: &mut Problems,
) -> SyncedUser {
    let mut values = Values::new(entry, problems);
    let mut user = SyncedUser {
        object_id: id.to_string(),
        first_name: values.first_text(settings.first_name_attributes()),
        last_name: values.first_text(settings.last_name_attributes()),
        mail: settings.mail_attributes().find_map(|it| values.mail(it)).unwrap_or_default(),
        phones: values.phones(settings),
        extension: values.first_text(settings.extension_attributes()),
        disabled_in_directory: values.disabled(settings.preset),
        expires_unix_ms: values.expires(settings.preset),
        password_changed: values.password_changed(),
        description: values.first_text(settings.description_attributes()),
        user_group: values.first_text(settings.user_group_attributes()),
        languages: values.languages(settings),
        ..SyncedUser::default()
    };
    user.disabled_in_directory |= (1..=now_unix_ms).contains(&user.expires_unix_ms);
    if settings.preset == Preset::ActiveDirectory {
        let sid = values.sid();
        user.primary_group_sid = sid.as_deref().and_then(|sid| values.primary_group(sid)).unwrap_or_default();
        user.sid = sid.unwrap_or_default();
    } else if let Some(uid) = values.name(UID) {
        user.sid = format!("{OF_UID}{uid}");
    }
    if let Some(name) = values.name_of(settings) {
        user.distinguished_name = name;
        match elsewhere {
            None => {
                let mut attributes = settings.username_attributes().into_iter();
                user.username = attributes.find_map(|it| values.name(it)).unwrap_or_default();
                user.names = values.names(settings);
            }
            Some(domain) => (user.username, user.names) = values.names_elsewhere(settings, domain),
        }
    }
    user
}

/// A group as the store takes it; `None` if it cannot be taken.
pub(crate) fn group(
    settings: &Directory,
    id: &ObjectId,
    entry: &SearchResultEntry,
    problems: &mut Problems,
) -> Option<SyncedGroup> {
    let mut values = Values::new(entry, problems);
    let distinguished_name = values.own_name()?;
    let name = settings.group_name_attributes().find_map(|it| values.text(it));
    let mut members = BTreeSet::new();
    let lasts = Lasts::of(settings);
    for attribute in MEMBER_ATTRIBUTES {
        let named = values.identifying(attribute, DN_OCTETS_MAX + EXTENSION_OCTETS_MAX);
        members.extend(named.into_iter().filter_map(|value| member(value, lasts)));
    }
    let sid = if settings.preset == Preset::ActiveDirectory {
        values.sid()
    } else {
        let uids = values.identifying(MEMBER_UID, NAME_OCTETS_MAX);
        members.extend(uids.into_iter().map(|uid| format!("{OF_UID}{uid}")));
        None
    };
    let group = SyncedGroup {
        object_id: id.to_string(),
        name: name.unwrap_or_else(|| distinguished_name.clone()),
        distinguished_name,
        sid: sid.unwrap_or_default(),
        members: members.into_iter().collect(),
    };
    if group.encoded_len() > GROUP_OCTETS_MAX {
        values.problem(MEMBER_ATTRIBUTES[0], Flaw::TooMany { most: GROUP_OCTETS_MAX, of: "octets" });
        return None;
    }
    Some(group)
}

/// A container as the store takes it; `None` if its name cannot be kept.
pub(crate) fn container(id: &ObjectId, entry: &SearchResultEntry, problems: &mut Problems) -> Option<SyncedContainer> {
    let distinguished_name = Values::new(entry, problems).own_name()?;
    Some(SyncedContainer { object_id: id.to_string(), distinguished_name })
}

/// What `<GUID=...>;<SID=...>;` may add to a DN.
const EXTENSION_OCTETS_MAX: usize = 256;

/// What of an extended DN the store knows people and groups by, too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lasts {
    Guid,
    /// Their ids are something else, which no extended DN holds (FD-31).
    Sid,
}

impl Lasts {
    fn of(settings: &Directory) -> Self {
        match settings.id_attribute().eq_ignore_ascii_case("objectGUID") {
            true => Self::Guid,
            false => Self::Sid,
        }
    }
}

/// How a group names a member: by what lasts or, where the entry stands for somebody of another domain, by the SID of who is meant,
/// where the directory says so (extended DN), else by DN.
fn member(value: &str, lasts: Lasts) -> Option<String> {
    let (mut id, mut sid, mut rest) = (None, None, value);
    while let Some((extension, after)) = rest.strip_prefix('<').and_then(|rest| rest.split_once(">;")) {
        match extension.split_once('=') {
            Some(("GUID", guid)) => id = format!("objectGUID:{guid}").parse::<ObjectId>().ok(),
            Some(("SID", text)) => sid = Some(text),
            _ => {}
        }
        rest = after;
    }
    let rdn = rest.split(',').next().unwrap_or_default();
    // A foreign security principal is named by the SID of who is meant (MS-ADTS 3.1.1.5.1.3).
    let foreign =
        rdn.strip_prefix("CN=S-1-").map(|tail| format!("S-1-{tail}")).filter(|_| sid.is_some() || id.is_some());
    let own = match lasts {
        Lasts::Guid => id.map(|id| id.to_string()),
        Lasts::Sid => sid.map(str::to_owned),
    };
    foreign.or(own).or_else(|| Some(member_dn(rest).to_owned()).filter(|dn| !dn.is_empty()))
}

/// A value of `uniqueMember` without its optional unique identifier (RFC 4517 section 3.3.21): `cn=a,dc=b#'0101'B`.
pub(crate) fn member_dn(value: &str) -> &str {
    match value.rsplit_once("#'") {
        Some((dn, bits))
            if bits.strip_suffix("'B").is_some_and(|it| it.bytes().all(|bit| matches!(bit, b'0' | b'1'))) =>
        {
            dn
        }
        _ => value,
    }
}

/// What was not taken as it stands: counted all, kept some. What is wrong with several values of one attribute in the same way is one
/// problem, because one entry can have ten thousand bad values (B-76).
#[derive(Debug, Default)]
pub(crate) struct Problems {
    pub(crate) count: u64,
    kept: Vec<Problem>,
    last: Option<Problem>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// As it may be shown: a part of it, without control characters.
    pub(crate) entry: String,
    pub(crate) attribute: String,
    pub(crate) flaw: Flaw,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Flaw {
    #[error("is empty")]
    Empty,
    #[error("is no UTF-8 text")]
    NotText,
    #[error("holds control characters")]
    ControlCharacters,
    #[error("is longer than {octets_max} octets")]
    TooLong { octets_max: usize },
    #[error("is no mail address")]
    NoMailAddress,
    #[error("is no number")]
    NoNumber,
    #[error("is no time")]
    NoTime,
    #[error("is no language tag")]
    NoLanguage,
    #[error("is no security identifier")]
    NoSid,
    #[error("has more than {most} {of}")]
    TooMany { most: usize, of: &'static str },
    /// Missing, twice there, or of the wrong form.
    #[error("gives no id")]
    NoId,
}

impl Problems {
    pub(crate) const KEPT_MAX: usize = 100;

    pub(crate) fn add(&mut self, dn: &[u8], attribute: &str, flaw: Flaw) {
        let problem = Problem { entry: shown(dn), attribute: attribute.to_owned(), flaw };
        // An entry may be read twice in a run.
        if self.last.as_ref() == Some(&problem) || self.kept.contains(&problem) {
            return;
        }
        self.count += 1;
        if self.kept.len() < Self::KEPT_MAX {
            self.kept.push(problem.clone());
        }
        self.last = Some(problem);
    }

    /// The first ones.
    pub(crate) fn kept(&self) -> &[Problem] {
        &self.kept
    }
}

impl Problem {
    /// For the list of the run.
    pub(crate) fn told(&self) -> UnusableValue {
        let Self { entry, attribute, flaw } = self;
        UnusableValue { entry: entry.clone(), attribute: attribute.clone(), why: flaw.to_string() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.entry, self.attribute, self.flaw)
    }
}

/// A peer's octets for a log line.
fn shown(octets: &[u8]) -> String {
    const CHARACTERS_MAX: usize = 200;
    let text = String::from_utf8_lossy(octets);
    text.chars().filter(|character| !character.is_control()).take(CHARACTERS_MAX).collect()
}

/// The values of one entry, and where what is wrong with them goes.
struct Values<'a> {
    entry: &'a SearchResultEntry,
    /// The leaf of the DN: attribute and value of each assertion.
    leaf: Vec<(String, String)>,
    problems: &'a mut Problems,
}

impl<'a> Values<'a> {
    fn new(entry: &'a SearchResultEntry, problems: &'a mut Problems) -> Self {
        let dn = entry.dn_text().and_then(|text| text.parse::<Dn>().ok()).unwrap_or_default();
        let leaf = dn.rdns.into_iter().next().map(|rdn| rdn.assertions).unwrap_or_default();
        let text = |value| match value {
            Value::Text(octets) => String::from_utf8(octets).ok(),
            Value::Ber(_) => None,
        };
        let leaf = leaf.into_iter().filter_map(|it| Some((it.attribute, text(it.value)?.to_lowercase()))).collect();
        Self { entry, leaf, problems }
    }

    fn problem(&mut self, attribute: &str, flaw: Flaw) {
        self.problems.add(&self.entry.dn, attribute, flaw);
    }

    fn own_name(&mut self) -> Option<String> {
        match whole(&self.entry.dn, DN_OCTETS_MAX).and_then(|dn| if dn.is_empty() { Err(Flaw::Empty) } else { Ok(dn) })
        {
            Ok(dn) => Some(dn.to_owned()),
            Err(flaw) => {
                self.problem("DN", flaw);
                None
            }
        }
    }

    /// The DN by the attribute of the settings, without a leading `LDAP://server/` (FD-32); else the entry's own.
    fn name_of(&mut self, settings: &Directory) -> Option<String> {
        let mut mapped = settings.distinguished_name_attributes();
        let written = mapped.find_map(|attribute| self.identifying(attribute, DN_OCTETS_MAX).into_iter().min());
        let Some(written) = written else { return self.own_name() };
        let bare = written
            .get(..7)
            .filter(|head| head.eq_ignore_ascii_case("ldap://"))
            .and_then(|_| written[7..].split_once('/'));
        Some(bare.map_or(written, |(_, dn)| dn).to_owned())
    }

    /// All values that can be taken whole.
    fn identifying(&mut self, attribute: &str, octets_max: usize) -> Vec<&'a str> {
        let mut good = Vec::new();
        for value in self.entry.values(attribute) {
            match whole(value, octets_max) {
                Ok("") => {}
                Ok(text) => good.push(text),
                Err(flaw) => self.problem(attribute, flaw),
            }
        }
        good
    }

    /// The value of several that counts.
    fn pick<T: AsRef<str> + Ord>(&self, attribute: &str, values: Vec<T>) -> Option<T> {
        values.into_iter().min_by(|one, other| self.before(attribute, one, other))
    }

    fn before<T: AsRef<str> + Ord>(&self, attribute: &str, one: &T, other: &T) -> Ordering {
        let in_name = |value: &T| {
            let value = value.as_ref().to_lowercase();
            self.leaf.iter().any(|(name, leaf)| name.eq_ignore_ascii_case(attribute) && *leaf == value)
        };
        (!in_name(one), one).cmp(&(!in_name(other), other))
    }

    fn name(&mut self, attribute: &str) -> Option<String> {
        let values = self.identifying_silently(attribute, NAME_OCTETS_MAX);
        self.pick(attribute, values).map(str::to_owned)
    }

    /// For attributes whose flaws are told elsewhere.
    fn identifying_silently(&self, attribute: &str, octets_max: usize) -> Vec<&'a str> {
        let values = self.entry.values(attribute).iter();
        values.filter_map(|value| whole(value, octets_max).ok()).filter(|text| !text.is_empty()).collect()
    }

    /// Every form that may be typed for this user, sorted, so that the same entry is always the same user.
    fn names(&mut self, settings: &Directory) -> Vec<String> {
        let accounts = match settings.preset {
            Preset::ActiveDirectory => vec![SAM_ACCOUNT_NAME],
            _ => settings.username_attributes(),
        };
        let mut attributes = vec![UPN, SAM_ACCOUNT_NAME, UID];
        attributes.extend(settings.username_attributes());
        attributes.extend(settings.alternate_attribute());
        let mut names = BTreeSet::new();
        for attribute in each_once(attributes) {
            names.extend(self.identifying(attribute, NAME_OCTETS_MAX).into_iter().map(str::to_owned));
        }
        names.extend(settings.mail_attributes().flat_map(|it| self.addresses(it)).map(str::to_owned));
        if !settings.netbios_domain.is_empty() {
            for attribute in accounts {
                let forms = self.identifying_silently(attribute, NAME_OCTETS_MAX).into_iter();
                names.extend(forms.map(|account| format!("{}\\{account}", settings.netbios_domain)));
            }
        }
        self.bounded_names(names)
    }

    /// The username, and every form that may be typed, of somebody of another domain (FD-02). A bare name means somebody of the
    /// directory's own domain, and an alternate one is looked for there alone.
    fn names_elsewhere(&mut self, settings: &Directory, domain: &str) -> (String, Vec<String>) {
        let account = self.name(SAM_ACCOUNT_NAME).map(|account| format!("{domain}\\{account}"));
        let account = account.filter(|name| name.len() <= NAME_OCTETS_MAX);
        let is_account = |attribute: &&str| [SAM_ACCOUNT_NAME, UID].iter().any(|it| it.eq_ignore_ascii_case(attribute));
        let mut attributes: Vec<&str> =
            settings.username_attributes().into_iter().filter(|attribute| !is_account(attribute)).collect();
        let principal = attributes.iter().find_map(|it| self.name(it).filter(|name| name.contains('@')));
        attributes.push(UPN);
        let mut names: BTreeSet<String> = account.iter().cloned().collect();
        for attribute in each_once(attributes) {
            let forms = self.identifying(attribute, NAME_OCTETS_MAX).into_iter();
            names.extend(forms.filter(|name| name.contains('@')).map(str::to_owned));
        }
        names.extend(settings.mail_attributes().flat_map(|it| self.addresses(it)).map(str::to_owned));
        (principal.or(account).unwrap_or_default(), self.bounded_names(names))
    }

    fn bounded_names(&mut self, names: BTreeSet<String>) -> Vec<String> {
        if names.len() > NAMES_MAX {
            self.problem("username", Flaw::TooMany { most: NAMES_MAX, of: "forms" });
        }
        names.into_iter().filter(|name| name.len() <= NAME_OCTETS_MAX).take(NAMES_MAX).collect()
    }

    fn addresses(&self, attribute: &str) -> Vec<&'a str> {
        self.identifying_silently(attribute, NAME_OCTETS_MAX).into_iter().filter(|text| is_address(text)).collect()
    }

    fn mail(&mut self, attribute: &str) -> Option<String> {
        for value in self.entry.values(attribute) {
            match whole(value, NAME_OCTETS_MAX) {
                Ok(text) if text.is_empty() || is_address(text) => {}
                Ok(_) => self.problem(attribute, Flaw::NoMailAddress), // FD-36
                Err(flaw) => self.problem(attribute, flaw),
            }
        }
        let addresses = self.addresses(attribute);
        self.pick(attribute, addresses).map(str::to_owned)
    }

    /// All of each kind, in the order in which they are tried (FD-39, FD-40): which kind counts, and whose country a number without a
    /// code is of, is the item's to say (FS-27, FS-29).
    fn phones(&mut self, settings: &Directory) -> Vec<SyncedPhone> {
        let mut phones = Vec::new();
        for kind in PhoneKind::ALL {
            for attribute in settings.phone_attributes(kind) {
                phones.extend(self.numbers(attribute).into_iter().map(|number| SyncedPhone {
                    kind: kind.code().to_owned(),
                    number: number.to_owned(),
                    attribute: attribute.to_owned(),
                }));
            }
        }
        phones
    }

    fn numbers(&mut self, attribute: &str) -> Vec<&'a str> {
        let mut numbers = self.identifying(attribute, PHONE_OCTETS_MAX);
        numbers.sort_unstable_by(|one, other| self.before(attribute, one, other));
        numbers.dedup();
        if numbers.len() > NUMBERS_MAX {
            self.problem(attribute, Flaw::TooMany { most: NUMBERS_MAX, of: "numbers" });
        }
        numbers.truncate(NUMBERS_MAX);
        numbers
    }

    fn first_text<'n>(&mut self, mut attributes: impl Iterator<Item = &'n str>) -> String {
        attributes.find_map(|attribute| self.text(attribute)).unwrap_or_default()
    }

    /// FD-38: one that is no language is as if there were none, and named.
    fn languages(&mut self, settings: &Directory) -> Option<SyncedLanguages> {
        if settings.attributes.languages.is_empty() {
            return None;
        }
        let mut language = |channel: &str| {
            let mut attributes = settings.language_attributes(channel);
            attributes.find_map(|attribute| self.language(attribute)).unwrap_or_default()
        };
        let (call, text) = (language("call"), language("text"));
        Some(SyncedLanguages { call, text, app: language("app"), code: language("code") })
    }

    fn language(&mut self, attribute: &str) -> Option<String> {
        let language = Language::new(&self.text(attribute)?);
        if language.is_err() {
            self.problem(attribute, Flaw::NoLanguage);
        }
        Some(language.ok()?.as_str().to_owned())
    }

    /// S-56
    fn sid(&mut self) -> Option<String> {
        let octets = self.entry.first(OBJECT_SID)?;
        let sid = sid_text(octets);
        if sid.is_none() {
            self.problem(OBJECT_SID, Flaw::NoSid);
        }
        sid
    }

    /// The primary group is of the user's own domain: the same SID but for the last number (S-52).
    fn primary_group(&mut self, sid: &str) -> Option<String> {
        let id = u32::try_from(self.number(PRIMARY_GROUP_ID)?).ok()?;
        let (domain, _) = sid.rsplit_once('-')?;
        Some(format!("{domain}-{id}"))
    }

    /// What describes: cleaned, and cut to length.
    fn text(&mut self, attribute: &str) -> Option<String> {
        let mut good = Vec::new();
        for value in self.entry.values(attribute) {
            match std::str::from_utf8(value) {
                Ok(text) => good.push(cleaned(text)),
                Err(_) => self.problem(attribute, Flaw::NotText),
            }
        }
        good.retain(|text| !text.is_empty());
        self.pick(attribute, good)
    }

    /// Account state in the directory, but for its end (FD-42). What cannot be read disables nobody: the directory still refuses the
    /// password.
    fn disabled(&mut self, preset: Preset) -> bool {
        let is = |attribute: &str, wanted: &[u8]| {
            self.entry.values(attribute).iter().any(|value| value.eq_ignore_ascii_case(wanted))
        };
        let locked = is(LOCKED_TIME, LOCKED_FOR_GOOD) || is(preset.disabled_attribute(), b"true");
        let flags = self.number(USER_ACCOUNT_CONTROL).unwrap_or(0);
        locked || flags & ACCOUNT_DISABLE != 0
    }

    /// When the account ends, 0 = never: a moment before 1970 is as good as 1970.
    fn expires(&mut self, preset: Preset) -> i64 {
        let expires = match preset {
            Preset::EDirectory => self.time(LOGIN_EXPIRATION),
            _ => self.number(ACCOUNT_EXPIRES).and_then(unix_ms_of_file_time),
        };
        expires.map_or(0, |expires| expires.max(1))
    }

    fn time(&mut self, attribute: &str) -> Option<i64> {
        let text = std::str::from_utf8(self.entry.first(attribute)?).ok();
        let seconds = text.and_then(directory::seconds_of_generalized_time);
        if seconds.is_none() {
            self.problem(attribute, Flaw::NoTime);
        }
        Some(seconds?.saturating_mul(1_000))
    }

    /// As it stands there: the store compares it with what stood there before (V-52).
    fn password_changed(&mut self) -> String {
        let text = PASSWORD_CHANGED.into_iter().find_map(|it| self.identifying(it, TIME_OCTETS_MAX).into_iter().min());
        text.unwrap_or_default().to_owned()
    }

    fn number(&mut self, attribute: &str) -> Option<i64> {
        let number = std::str::from_utf8(self.entry.first(attribute)?).ok().and_then(|text| text.parse().ok());
        if number.is_none() {
            self.problem(attribute, Flaw::NoNumber);
        }
        number
    }
}

/// Text that is taken as it is, or refused. Spaces around it are no part of it.
fn whole(octets: &[u8], octets_max: usize) -> Result<&str, Flaw> {
    // Length first: a megabyte is not looked through.
    if octets.len() > octets_max {
        return Err(Flaw::TooLong { octets_max });
    }
    let text = std::str::from_utf8(octets).map_err(|_| Flaw::NotText)?;
    match text.chars().any(char::is_control) {
        true => Err(Flaw::ControlCharacters),
        false => Ok(text.trim()),
    }
}

fn cleaned(text: &str) -> String {
    let mut cleaned = String::new();
    for character in text.chars().filter(|character| !character.is_control()) {
        if cleaned.len() + character.len_utf8() > TEXT_OCTETS_MAX {
            break;
        }
        cleaned.push(character);
    }
    cleaned.trim().to_owned()
}

/// Enough to say that it is none; whether mail arrives, only mail can tell.
fn is_address(text: &str) -> bool {
    let (local, domain) = text.rsplit_once('@').unwrap_or_default();
    !local.is_empty()
        && !domain.is_empty()
        && !text.contains(|sign: char| sign.is_whitespace() || "<>,;".contains(sign))
}

/// MS-DTYP 2.4.2.2: revision, count, authority of six octets, big-endian; then that many numbers, little-endian.
fn sid_text(octets: &[u8]) -> Option<String> {
    let (head, numbers) = octets.split_first_chunk::<8>()?;
    let [revision, count, authority @ ..] = head;
    if *revision != 1 || *count > 15 || numbers.len() != usize::from(*count) * 4 {
        return None;
    }
    let authority = authority.iter().fold(0_u64, |value, octet| value << 8 | u64::from(*octet));
    let mut text = format!("S-1-{authority}");
    for number in numbers.chunks_exact(4) {
        let number = number.try_into().map(u32::from_le_bytes).unwrap_or_default();
        text.push_str(&format!("-{number}"));
    }
    Some(text)
}

/// MS-ADTS 2.351: 100 ns since 1601; 0 and the greatest number mean never.
fn unix_ms_of_file_time(file_time: i64) -> Option<i64> {
    const UNIX_EPOCH_MS: i64 = 11_644_473_600_000;
    (file_time > 0 && file_time != i64::MAX).then_some(file_time / 10_000 - UNIX_EPOCH_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use ldap_wire::Attribute;
    use proptest::prelude::*;

    const NOW: i64 = 1_800_000_000_000;

    fn settings(preset: &str) -> Directory {
        serde_json::from_value(serde_json::json!({
            "name": "corp", "preset": preset, "urls": ["ldap://dc1"], "base": "dc=corp,dc=example",
            "query_bind": { "kind": "anonymous" }, "netbios_domain": "CORP",
        }))
        .expect("a directory")
    }

    fn id() -> ObjectId {
        "entryUUID:00000000-0000-0000-0000-000000000001".parse().expect("an id")
    }

    fn entry(dn: impl Into<Bytes>, attributes: &[(&str, &[&[u8]])]) -> SearchResultEntry {
        let attribute = |(name, values): &(&str, &[&[u8]])| {
            Attribute::new(*name, values.iter().map(|value| Bytes::copy_from_slice(value)).collect())
        };
        SearchResultEntry { dn: dn.into(), attributes: attributes.iter().map(attribute).collect() }
    }

    fn planned(preset: &str, entry: &SearchResultEntry) -> (SyncedUser, Problems) {
        let mut problems = Problems::default();
        let user = user(&settings(preset), None, &id(), entry, NOW, &mut problems);
        (user, problems)
    }

    fn number<'a>(user: &'a SyncedUser, kind: &str) -> &'a str {
        user.phones.iter().find(|phone| phone.kind == kind).map_or("", |phone| &phone.number)
    }

    fn texts(problems: &Problems) -> Vec<String> {
        problems.kept().iter().map(Problem::to_string).collect()
    }

    #[test]
    fn an_entry_becomes_a_user_with_every_form_of_its_name() {
        // FD-18, FD-34
        let ann = entry(
            "cn=Ann Archer,dc=corp,dc=example",
            &[
                ("userPrincipalName", &[b"ann@corp.example"]),
                ("samaccountname", &[b"aarcher"]),
                ("givenName", &[b"Ann"]),
                ("sn", &[b"Archer"]),
                ("mail", &[b"ann.archer@corp.example"]),
                ("telephoneNumber", &[b"+49 30 1"]),
                ("mobile", &[b"+49 151 2"]),
                ("userAccountControl", &[b"512"]),
                ("pwdLastSet", &[b"134444736000010000"]),
            ],
        );
        let (user, problems) = planned("active_directory", &ann);
        assert_eq!(problems.count, 0);
        let expected = SyncedUser {
            object_id: id().to_string(),
            distinguished_name: "cn=Ann Archer,dc=corp,dc=example".into(),
            username: "ann@corp.example".into(),
            names: ["CORP\\aarcher", "aarcher", "ann.archer@corp.example", "ann@corp.example"].map(String::from).into(),
            first_name: "Ann".into(),
            last_name: "Archer".into(),
            mail: "ann.archer@corp.example".into(),
            phones: [("business", "+49 30 1", "telephoneNumber"), ("mobile", "+49 151 2", "mobile")]
                .map(|(kind, number, attribute)| SyncedPhone {
                    kind: kind.into(),
                    number: number.into(),
                    attribute: attribute.into(),
                })
                .into(),
            password_changed: "134444736000010000".into(),
            ..SyncedUser::default()
        };
        assert_eq!(user, expected);
    }

    #[test]
    fn an_alternate_sign_in_name_is_one_of_the_names() {
        // FD-19
        let mut settings = settings("openldap");
        let ann = entry("uid=ann", &[("uid", &[b"ann"]), ("employeeNumber", &[b"4711"])]);
        let names = |settings: &Directory| user(settings, None, &id(), &ann, NOW, &mut Problems::default()).names;
        assert_eq!(names(&settings), ["CORP\\ann", "ann"]);
        assert!(!user_attributes(&settings).contains(&"employeeNumber"));
        settings.attributes.alternate = Some("employeeNumber".into());
        assert_eq!(names(&settings), ["4711", "CORP\\ann", "ann"]);
        assert!(user_attributes(&settings).contains(&"employeeNumber"));
    }

    #[test]
    fn when_the_password_was_changed_is_told_as_the_directory_writes_it() {
        // V-52
        for (attributes, told) in [
            (&[][..], ""),
            (&[("pwdLastSet", "0")], "0"),
            (&[("pwdChangedTime", "20261120120000Z"), ("shadowLastChange", "20412")], "20261120120000Z"),
            (&[("pwdUpdateTime", "20261120120000Z")], "20261120120000Z"),
            (&[("shadowLastChange", "20412")], "20412"),
        ] {
            let values: Vec<[&[u8]; 1]> = attributes.iter().map(|(_, value)| [value.as_bytes()]).collect();
            let attributes = attributes.iter().zip(&values).map(|((name, _), values)| (*name, &values[..]));
            let ann = entry("uid=ann", &attributes.collect::<Vec<_>>());
            assert_eq!(planned("openldap", &ann).0.password_changed, told);
        }
    }

    #[test]
    fn of_several_values_the_one_in_the_dn_counts_else_the_least_in_any_order() {
        // S-59
        let values: [&[u8]; 3] = [b"zoe", b"ann", b"mia"];
        let turned: [&[u8]; 3] = [b"mia", b"zoe", b"ann"];
        for values in [values, turned] {
            let (user, _) = planned("openldap", &entry("UID=Mia,dc=corp", &[("uid", &values), ("sn", &values)]));
            assert_eq!((user.username.as_str(), user.last_name.as_str()), ("mia", "ann"));
            let (user, _) = planned("openldap", &entry("cn=x,dc=corp", &[("uid", &values)]));
            assert_eq!(user.username, "ann");
            assert_eq!(user.names, ["CORP\\ann", "CORP\\mia", "CORP\\zoe", "ann", "mia", "zoe"]);
        }
    }

    #[test]
    fn what_identifies_is_refused_and_what_describes_is_cleaned() {
        // S-59, B-76
        let long = vec![b'a'; 1 << 20];
        let bomb = entry(
            "uid=ann,dc=corp",
            &[
                ("uid", &[b"ann\0", b"an\xffn", &long]),
                ("givenName", &[b"A\x1b[31mn\r\nn"]),
                ("sn", &[&"ö".repeat(600).into_bytes()]),
                ("mail", &[b"not an address", &long]),
                ("mobile", &[&long, b"call me"]),
                ("telephoneNumber", &[b"0049-30/1234-56"]),
            ],
        );
        let (user, problems) = planned("openldap", &bomb);
        assert_eq!(user.username, "", "nobody is added under half a name");
        assert!(user.names.is_empty());
        assert_eq!(user.object_id, id().to_string(), "and still it is known to be there");
        assert_eq!(user.first_name, "A[31mnn");
        assert_eq!(user.last_name, "ö".repeat(512), "cut at 1024 octets, on a character boundary");
        assert_eq!((user.mail.as_str(), number(&user, "business")), ("", "0049-30/1234-56"));
        let texts = texts(&problems);
        for text in [
            "uid=ann,dc=corp: uid holds control characters",
            "uid=ann,dc=corp: uid is no UTF-8 text",
            "uid=ann,dc=corp: uid is longer than 256 octets",
            "uid=ann,dc=corp: mail is no mail address",
            "uid=ann,dc=corp: mobile is longer than 64 octets",
        ] {
            assert!(texts.contains(&text.to_owned()), "{text}: {texts:#?}");
        }
    }

    #[test]
    fn ten_thousand_values_are_counted_and_few_are_kept() {
        // B-76
        let values: Vec<String> = (0..10_000).map(|number| format!("name{number}")).collect();
        let bad: Vec<&[u8]> = values.iter().map(|_| &b"\xff"[..]).collect();
        let good: Vec<&[u8]> = values.iter().map(String::as_bytes).collect();
        let (user, problems) = planned("openldap", &entry("uid=name7,dc=corp", &[("uid", &good), ("sn", &bad)]));
        assert_eq!((user.username.as_str(), user.names.len()), ("name7", NAMES_MAX));
        assert_eq!(
            texts(&problems),
            ["uid=name7,dc=corp: sn is no UTF-8 text", "uid=name7,dc=corp: username has more than 32 forms"]
        );
        assert_eq!(problems.count, 2, "what is wrong with an attribute ten thousand times is said once");
    }

    #[test]
    fn the_problems_of_many_entries_are_counted_and_the_first_are_kept() {
        // FD-36, FD-38, S-59
        let mut settings = settings("openldap");
        settings.attributes.languages.call = Some("preferredLanguage".into());
        let mut problems = Problems::default();
        for _ in 0..2 {
            for number in 0..60 {
                let values: &[(&str, &[&[u8]])] = &[("mail", &[b"none"]), ("preferredLanguage", &[b"klingonese-x"])];
                let entry = entry(format!("uid=u{number},dc=corp"), values);
                user(&settings, None, &id(), &entry, NOW, &mut problems);
            }
        }
        let texts = texts(&problems);
        assert_eq!(
            texts[..2],
            ["uid=u0,dc=corp: mail is no mail address", "uid=u0,dc=corp: preferredLanguage is no language tag"]
        );
        assert_eq!(texts.len(), Problems::KEPT_MAX);
        assert_eq!(problems.count, 120 + 20, "of those that are kept each is known when its entry is read again");
    }

    #[test]
    fn all_numbers_of_an_attribute_are_taken_in_an_order_that_no_server_makes() {
        // FS-27, B-76
        let phones = |values: &[&[u8]]| {
            let (user, problems) = planned("openldap", &entry("uid=ann,dc=corp", &[("mobile", values)]));
            let numbers: Vec<String> = user.phones.into_iter().map(|phone| phone.number).collect();
            (numbers, texts(&problems))
        };
        let expected = ["+49 151 2", "+49 151 3", "call me"].map(str::to_owned).to_vec();
        for values in [[&b"call me"[..], b"+49 151 3", b"+49 151 2"], [b"+49 151 2", b"call me", b"+49 151 3"]] {
            assert_eq!(phones(&values), (expected.clone(), vec![]));
        }
        let many: Vec<String> = (0..5_000).map(|number| format!("+49 151 {number}")).collect();
        let many: Vec<&[u8]> = many.iter().map(String::as_bytes).collect();
        let (numbers, problems) = phones(&many);
        assert_eq!(numbers.len(), NUMBERS_MAX);
        assert_eq!(problems, ["uid=ann,dc=corp: mobile has more than 10 numbers"]);
    }

    #[test]
    fn a_dn_that_cannot_be_kept_adds_nobody() {
        let long = vec![b'a'; 1025];
        for dn in [&long[..], b"uid=\xff", b"uid=a\n", b""].map(Bytes::copy_from_slice) {
            let (user, problems) = planned("openldap", &entry(dn, &[("uid", &[b"ann"])]));
            assert_eq!((user.username.as_str(), user.distinguished_name.as_str()), ("", ""));
            assert_eq!(problems.count, 1);
            assert!(!problems.kept()[0].entry.contains('\n'));
        }
    }

    #[test]
    fn an_account_is_disabled_by_what_its_directory_says() {
        // FD-42, FS-26
        const END: i64 = 1_800_000_000_000;
        assert_eq!(unix_ms_of_file_time(134_444_736_000_000_000), Some(END));
        let any = "openldap";
        for (preset, attribute, value, disabled, expires) in [
            (any, "userAccountControl", "512", false, 0),
            (any, "userAccountControl", "514", true, 0),
            (any, "userAccountControl", "66050", true, 0),
            (any, "userAccountControl", "many", false, 0),
            (any, "accountExpires", "0", false, 0),
            (any, "accountExpires", "9223372036854775807", false, 0),
            (any, "accountExpires", "-1", false, 0),
            (any, "accountExpires", "134444735999990000", true, END - 1),
            (any, "accountExpires", "134444736000000000", true, END), // the very moment
            (any, "accountExpires", "134444736000010000", false, END + 1),
            (any, "pwdAccountLockedTime", "000001010000Z", true, 0),
            (any, "pwdAccountLockedTime", "20261120120000Z", false, 0),
            (any, "nsAccountLock", "TRUE", true, 0),
            (any, "nsAccountLock", "false", false, 0),
            ("ad_lds", "msDS-UserAccountDisabled", "TRUE", true, 0),
            ("ad_lds", "msDS-UserAccountDisabled", "FALSE", false, 0),
            ("ad_lds", "ms-DS-UserAccountAutoLocked", "TRUE", false, 0), // a lock-out, which ends by itself
            ("ad_lds", "accountExpires", "134444735999990000", true, END - 1),
            ("edirectory", "loginDisabled", "TRUE", true, 0),
            ("edirectory", "loginDisabled", "FALSE", false, 0),
            ("edirectory", "lockedByIntruder", "TRUE", false, 0),
            ("edirectory", "loginExpirationTime", "20270115075959Z", true, END - 1_000),
            ("edirectory", "loginExpirationTime", "20270115080000Z", true, END),
            ("edirectory", "loginExpirationTime", "20270115080001Z", false, END + 1_000),
            ("edirectory", "loginExpirationTime", "19691231235959Z", true, 1),
            ("edirectory", "loginExpirationTime", "soon", false, 0),
            // Elsewhere such an attribute is one of many.
            (any, "loginDisabled", "TRUE", false, 0),
            (any, "msDS-UserAccountDisabled", "TRUE", false, 0),
            (any, "loginExpirationTime", "20270115075959Z", false, 0),
        ] {
            let ann = entry("uid=ann", &[("uid", &[b"ann"]), (attribute, &[value.as_bytes()])]);
            let (ann, problems) = planned(preset, &ann);
            assert_eq!((ann.disabled_in_directory, ann.expires_unix_ms), (disabled, expires), "{attribute}: {value}");
            assert_eq!(problems.count > 0, matches!(value, "many" | "soon"), "{attribute}: {value}");
        }
    }

    #[test]
    fn account_state_is_asked_for_where_the_preset_has_it() {
        // FD-42
        for (preset, expected) in [
            ("active_directory", &["userAccountControl", "accountExpires"][..]),
            ("ad_lds", &["msDS-UserAccountDisabled", "accountExpires"]),
            ("openldap", &["pwdAccountLockedTime"]),
            ("389ds", &["nsAccountLock"]),
            ("edirectory", &["loginDisabled", "loginExpirationTime"]),
        ] {
            let settings = settings(preset);
            let asked = user_attributes(&settings);
            assert!(expected.iter().all(|attribute| asked.contains(attribute)), "{preset}: {asked:?}");
        }
    }

    #[test]
    fn of_the_attributes_of_a_key_the_first_that_has_a_value_counts() {
        // FD-30 to FD-41
        let mut settings = settings("openldap");
        let map = &mut settings.attributes;
        let several = |names: &str| Some(names.to_owned());
        map.username = Some(vec!["uid;employeeNumber".into()]);
        map.first_name = several("givenName;displayName");
        map.last_name = several("sn;lang-de;sn");
        map.mail = several("mail;otherMailbox");
        map.distinguished_name = several("ownDn;seeAlso");
        map.group_name = several("ou;cn");
        map.user_group = several("team;l");
        map.description = several("title;description");
        map.extension = several("ext;pager");
        map.phones.mobile = several("mobile;otherMobile");
        map.languages.call = several("preferredLanguage;c");
        let bare = entry(
            "uid=ann",
            &[
                ("employeeNumber", &[b"4711"]),
                ("displayName", &[b"Ann"]),
                ("sn", &[b"Archer"]),
                ("otherMailbox", &[b"ann@corp.example"]),
                ("seeAlso", &[b"LDAP://dc1/cn=ann,dc=corp"]),
                ("l", &[b"Berlin"]),
                ("description", &[b"works here"]),
                ("pager", &[b"42"]),
                ("otherMobile", &[b"+49 151 2"]),
                ("c", &[b"de"]),
            ],
        );
        let full = entry(
            "uid=ann",
            &[
                ("uid", &[b"ann"]),
                ("givenName", &[b"Anna"]),
                ("sn;lang-de", &[b"Bogner"]),
                ("mail", &[b"anna@corp.example"]),
                ("ownDn", &[b"cn=anna,dc=corp"]),
                ("team", &[b"Sales"]),
                ("title", &[b"Engineer"]),
                ("ext", &[b"7"]),
                ("mobile", &[b"+49 151 3"]),
                ("preferredLanguage", &[b"fr"]),
            ],
        );
        // Of the first there is nothing that can be used.
        let bad = entry(
            "uid=ann",
            &[
                ("givenName", &[b"\xff", b" "]),
                ("mail", &[b"nowhere"]),
                ("mobile", &[b"call me"]),
                ("preferredLanguage", &[b"Klingon"]),
            ],
        );
        let with = |first: &SearchResultEntry, more: &SearchResultEntry| SearchResultEntry {
            dn: first.dn.clone(),
            attributes: first.attributes.iter().chain(&more.attributes).cloned().collect(),
        };
        let told = |entry: &SearchResultEntry| {
            let mut problems = Problems::default();
            let user = user(&settings, None, &id(), entry, NOW, &mut problems);
            let language = user.languages.clone().unwrap_or_default().call;
            // All are tried in turn, by the store.
            let mut numbers = user.phones.iter().filter(|phone| phone.kind == "mobile").map(|phone| &phone.number);
            let mobile = numbers.find(|number| number.starts_with('+')).cloned().unwrap_or_default();
            let texts = [
                &user.username,
                &user.first_name,
                &user.last_name,
                &user.mail,
                &user.distinguished_name,
                &user.user_group,
                &user.description,
                &user.extension,
                mobile.as_str(),
                &language,
            ];
            (texts.map(str::to_owned), problems.count)
        };
        let first = ["ann", "Anna", "Bogner", "anna@corp.example", "cn=anna,dc=corp", "Sales", "Engineer", "7"];
        let second = ["4711", "Ann", "Archer", "ann@corp.example", "cn=ann,dc=corp", "Berlin", "works here", "42"];
        let expected = |of: [&str; 8], number: &str, language: &str| {
            of.into_iter().chain([number, language]).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(told(&bare).0.to_vec(), expected(second, "+49 151 2", "de"));
        assert_eq!(told(&with(&full, &bare)).0.to_vec(), expected(first, "+49 151 3", "fr"));
        let (texts, problems) = told(&with(&bad, &bare));
        assert_eq!(texts.to_vec(), expected(second, "+49 151 2", "de"));
        assert_eq!(problems, 3, "each is told, but for the number");
        let asked = user_attributes(&settings);
        for attribute in
            ["employeeNumber", "displayName", "sn;lang-de", "sn", "otherMailbox", "seeAlso", "otherMobile", "c"]
        {
            assert!(asked.contains(&attribute), "{attribute}: {asked:?}");
        }
        assert!(group_attributes(&settings).starts_with(&["entryUUID", "ou", "cn"]));
        let group = |attributes: &[(&str, &[&[u8]])]| {
            let group = group(&settings, &id(), &entry("cn=vpn", attributes), &mut Problems::default());
            group.expect("a group").name
        };
        assert_eq!(group(&[("cn", &[b"vpn"])]), "vpn");
        assert_eq!(group(&[("cn", &[b"vpn"]), ("ou", &[b"VPN users"])]), "VPN users");
        assert_eq!(group(&[]), "cn=vpn");
    }

    #[test]
    fn a_mapped_name_is_taken_without_the_server_before_it() {
        // FD-32
        let mut settings = settings("openldap");
        settings.attributes.distinguished_name = Some("seeAlso".into());
        for (written, expected) in [
            ("cn=ann,dc=corp", "cn=ann,dc=corp"),
            ("LDAP://dc1.corp.example/cn=ann,dc=corp", "cn=ann,dc=corp"),
            ("ldap://dc1:389/cn=ann,dc=corp", "cn=ann,dc=corp"),
            ("LDAP://dc1/cn=a/b,dc=corp", "cn=a/b,dc=corp"),
            ("LDAP:///cn=ann,dc=corp", "cn=ann,dc=corp"),
            ("LDAP://dc1", "LDAP://dc1"), // no name behind it
            ("LDAP:/dc1/cn=ann", "LDAP:/dc1/cn=ann"),
            ("\u{e4}\u{e4}\u{e4}\u{e4}", "\u{e4}\u{e4}\u{e4}\u{e4}"), // the 7th octet is half a letter
            ("", "uid=ann,dc=corp"),
        ] {
            let ann = entry("uid=ann,dc=corp", &[("uid", &[b"ann"]), ("seeAlso", &[written.as_bytes()])]);
            let ann = user(&settings, None, &id(), &ann, NOW, &mut Problems::default());
            assert_eq!(ann.distinguished_name, expected, "{written}");
        }
    }

    #[test]
    fn somebody_of_another_domain_has_no_bare_name() {
        // FD-02, FD-18: a bare name means the home domain, and two may have the same there and here
        let named = |settings: &Directory, attributes: &[(&str, &[&[u8]])]| {
            let ann = entry("CN=Ann,DC=child,DC=corp", attributes);
            let user = user(settings, Some("CHILD"), &id(), &ann, NOW, &mut Problems::default());
            (user.username, user.names)
        };
        let names = |username: &str, names: &[&str]| {
            (username.to_owned(), names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        let settings = settings("active_directory");
        let full: &[(&str, &[&[u8]])] = &[
            ("sAMAccountName", &[b"ann"]),
            ("userPrincipalName", &[b"ann@child.corp"]),
            ("uid", &[b"ann.archer"]),
            ("mail", &[b"ann@mail.example"]),
        ];
        assert_eq!(
            named(&settings, full),
            names("ann@child.corp", &["CHILD\\ann", "ann@child.corp", "ann@mail.example"])
        );
        assert_eq!(named(&settings, &full[..1]), names("CHILD\\ann", &["CHILD\\ann"]), "no principal name");
        let bare: &[(&str, &[&[u8]])] = &[("sAMAccountName", &[b"ann"]), ("userPrincipalName", &[b"ann"])];
        assert_eq!(named(&settings, bare), names("CHILD\\ann", &["CHILD\\ann"]), "a principal name that is none");
        assert_eq!(named(&settings, &full[2..3]), names("", &[]), "nothing that she could type");
        // Mapped attributes and the alternate one.
        let mut mapped = settings.clone();
        mapped.attributes.username = Some(vec!["employeeID".into(), "mail;sAMAccountName".into()]);
        mapped.attributes.alternate = Some("otherMailbox".into());
        let more: &[(&str, &[&[u8]])] = &[("employeeID", &[b"4711"]), ("otherMailbox", &[b"a@old.example"])];
        assert_eq!(
            named(&mapped, &[full, more].concat()),
            names("ann@mail.example", &["CHILD\\ann", "ann@child.corp", "ann@mail.example"])
        );
    }

    #[test]
    fn a_group_has_its_members_sorted_and_each_once() {
        let members: [&[u8]; 4] = [b"uid=b,dc=corp", b"uid=a,dc=corp", b"uid=\0", b"uid=b,dc=corp"];
        let unique: [&[u8]; 1] = [b"uid=c,dc=corp#'0101'B"];
        let mut problems = Problems::default();
        let vpn = entry("cn=vpn,dc=corp", &[("cn", &[b"vpn"]), ("member", &members), ("uniquemember", &unique)]);
        let group = group(&settings("openldap"), &id(), &vpn, &mut problems).expect("a group");
        assert_eq!(group.members, ["uid=a,dc=corp", "uid=b,dc=corp", "uid=c,dc=corp"]);
        assert_eq!((group.name.as_str(), problems.count), ("vpn", 1));
    }

    #[test]
    fn a_group_of_rfc_2307_names_its_members_by_what_the_users_have_as_uid() {
        // S-36
        let mut problems = Problems::default();
        let uids: [&[u8]; 3] = [b"Ann", b"bob", b"\xff"];
        let staff = entry("cn=staff,dc=corp", &[("cn", &[b"staff"]), ("memberUid", &uids)]);
        assert!(group_attributes(&settings("openldap")).contains(&"memberUid"));
        let group = |preset| group(&settings(preset), &id(), &staff, &mut Problems::default()).expect("a group");
        assert_eq!(group("openldap").members, ["uid:Ann", "uid:bob"]);
        assert!(group("active_directory").members.is_empty(), "there members are named by DN alone");
        let two: [&[u8]; 2] = [b"ann", b"al"];
        let ann = entry("uid=ann,dc=corp", &[("uid", &two), ("mail", &[b"bob"])]);
        let ann = user(&settings("openldap"), None, &id(), &ann, NOW, &mut problems);
        assert_eq!(ann.sid, "uid:ann", "of several the one in the DN");
    }

    #[test]
    fn a_group_that_fits_into_no_message_is_named_and_left_out() {
        let members: Vec<Vec<u8>> =
            (0..520_000).map(|number| format!("uid={number:090},dc=corp").into_bytes()).collect();
        let members: Vec<&[u8]> = members.iter().map(Vec::as_slice).collect();
        let mut problems = Problems::default();
        let all = entry("cn=all", &[("member", &members)]);
        assert!(group(&settings("openldap"), &id(), &all, &mut problems).is_none());
        assert_eq!(texts(&problems), ["cn=all: member has more than 50331648 octets"]);
    }

    #[test]
    fn a_member_is_named_by_what_lasts() {
        // S-52: extended DNs, MS-ADTS 3.1.1.3.4.1.5
        let guid = "33221100-5544-7766-8899-aabbccddeeff";
        let text = format!("objectGUID:{guid}");
        let (text, sid) = (Some(text.as_str()), Some("S-1-5-21-1-2-3-1104"));
        // FD-31: by another id nobody is known by the GUID.
        for (value, expected, by_another_id) in [
            (format!("<GUID={guid}>;<SID=S-1-5-21-1-2-3-1104>;CN=Ann,DC=corp"), text, sid),
            (format!("<GUID={guid}>;CN=Contact,DC=corp"), text, Some("CN=Contact,DC=corp")),
            (
                format!(
                    "<GUID={guid}>;<SID=S-1-5-21-9-9-9-1>;CN=S-1-5-21-9-9-9-1,CN=ForeignSecurityPrincipals,DC=corp"
                ),
                Some("S-1-5-21-9-9-9-1"),
                Some("S-1-5-21-9-9-9-1"),
            ),
            ("uid=ann,dc=corp".into(), Some("uid=ann,dc=corp"), Some("uid=ann,dc=corp")),
            ("<GUID=nonsense>;uid=ann,dc=corp".into(), Some("uid=ann,dc=corp"), Some("uid=ann,dc=corp")),
            ("uid=c,dc=corp#'0101'B".into(), Some("uid=c,dc=corp"), Some("uid=c,dc=corp")),
            (String::new(), None, None),
        ] {
            assert_eq!(member(&value, Lasts::Guid).as_deref(), expected, "{value}");
            assert_eq!(member(&value, Lasts::Sid).as_deref(), by_another_id, "{value}");
        }
    }

    #[test]
    fn a_sid_is_read_with_its_lengths_and_gives_the_primary_group() {
        // S-56, S-52
        let mut octets = vec![1, 5, 0, 0, 0, 0, 0, 5];
        for number in [21_u32, 1, 2, 3, 1104] {
            octets.extend(number.to_le_bytes());
        }
        let ann = entry("CN=Ann,DC=corp", &[("objectSid", &[&octets]), ("primaryGroupID", &[b"513"])]);
        let (user, problems) = planned("active_directory", &ann);
        assert_eq!((user.sid.as_str(), user.primary_group_sid.as_str()), ("S-1-5-21-1-2-3-1104", "S-1-5-21-1-2-3-513"));
        assert_eq!(problems.count, 0);
        for broken in [&octets[..27], &[][..], &[2, 0, 0, 0, 0, 0, 0, 5], &[1, 16, 0, 0, 0, 0, 0, 5]] {
            let ann = entry("CN=Ann,DC=corp", &[("objectSid", &[broken]), ("primaryGroupID", &[b"513"])]);
            let (user, problems) = planned("active_directory", &ann);
            assert_eq!((user.sid.as_str(), user.primary_group_sid.as_str(), problems.count), ("", "", 1));
        }
        assert_eq!(sid_text(&[1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0]).as_deref(), Some("S-1-5-18"));
    }

    #[test]
    fn a_language_that_is_none_is_named_and_left_out() {
        // FD-38
        let mut settings = settings("openldap");
        settings.attributes.languages.call = Some("preferredLanguage".into());
        settings.attributes.languages.text = Some("c".into());
        let ann = entry("uid=ann", &[("uid", &[b"ann"]), ("preferredLanguage", &[b"de-ch"]), ("c", &[b"Klingon"])]);
        let mut problems = Problems::default();
        let languages = user(&settings, None, &id(), &ann, NOW, &mut problems).languages.expect("mapped");
        assert_eq!((languages.call.as_str(), languages.text.as_str()), ("de-CH", ""));
        assert_eq!(texts(&problems), ["uid=ann: c is no language tag"]);
    }

    #[test]
    fn attributes_are_asked_for_once_each() {
        let mut settings = settings("active_directory");
        settings.attributes.phones.custom = Some("MOBILE".into());
        let attributes = user_attributes(&settings);
        let distinct: BTreeSet<String> = attributes.iter().map(|it| it.to_ascii_lowercase()).collect();
        assert_eq!(distinct.len(), attributes.len());
        assert!(!distinct.contains("thumbnailphoto") && !distinct.contains("*"));
    }

    proptest! {
        /// S-59: whatever a directory sends, what goes to the store is bounded, printable, and the same for the same values in
        /// any order.
        #[test]
        fn no_entry_makes_a_user_that_is_unbounded_unprintable_or_depends_on_the_order(
            dn in proptest::collection::vec(any::<u8>(), 0..40),
            values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12), 0..6),
            turn in any::<prop::sample::Index>(),
        ) {
            let all = |values: &[Vec<u8>]| {
                let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
                let names = ["uid", "mail", "sn", "givenName", "mobile", "userAccountControl", "accountExpires"];
                let attributes: Vec<(&str, &[&[u8]])> = names.iter().map(|name| (*name, values.as_slice())).collect();
                entry(dn.clone(), &attributes)
            };
            let mut turned = values.clone();
            turned.rotate_left(if values.is_empty() { 0 } else { turn.index(values.len()) });
            let (mut one, _) = planned("openldap", &all(&values));
            let (other, _) = planned("openldap", &all(&turned));
            // These attributes have one value.
            one.disabled_in_directory = other.disabled_in_directory;
            one.expires_unix_ms = other.expires_unix_ms;
            prop_assert_eq!(&one, &other);
            let phones = one.phones.iter().map(|phone| &phone.number);
            let texts = one.names.iter().chain([&one.username, &one.first_name, &one.mail, &one.distinguished_name]);
            for text in texts.chain(phones) {
                prop_assert!(text.len() <= 1024 && !text.chars().any(char::is_control), "{:?}", text);
            }
        }
    }
}
