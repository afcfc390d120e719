//! What of a user's values becomes of those in the store: by the rules of the item that has the user (FS-23 to FS-34). Pure.

use super::users::Known;
use domain::Language;
use domain::phone::{self, BadPhone};
use domain::settings::{ItemLanguages, PhoneKind, Settings, SyncItem, Update};
use proto::user_store::{SyncedPhone, SyncedUser, UnusableValue};
use std::collections::BTreeSet;

/// The values of a row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    pub first_name: String,
    pub last_name: String,
    pub mail: String,
    pub phone: Number,
    /// The user's own, which goes before it.
    pub own: Number,
    pub backup: Number,
    /// Of call, text, app, code, portal.
    pub languages: [String; LANGUAGES.len()],
    pub description: String,
    pub user_group: String,
    /// Fields that a hand wrote and that stay.
    pub by_hand: BTreeSet<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Number {
    pub number: String,
    pub extension: String,
}

impl Number {
    pub fn new(number: impl Into<String>, extension: impl Into<String>) -> Self {
        Self { number: number.into(), extension: extension.into() }
    }

    fn is_empty(&self) -> bool {
        self.number.is_empty()
    }
}

pub const LANGUAGES: [&str; 5] = ["language_call", "language_text", "language_app", "language_code", "language_portal"];
const BACKUP: &str = "backup_phone";
const MAIL: &str = "mail";

/// Whose numbers without a code are (FS-29): the item's country, else the directory's, else the company's; empty = none's.
pub fn country<'a>(settings: &'a Settings, item: &'a SyncItem) -> &'a str {
    let of_directory = settings.directory(item.directory.as_str()).map_or("", |it| it.country.as_str());
    let mut countries = [item.country.as_str(), of_directory, settings.verification.country.as_str()].into_iter();
    countries.find(|country| !country.is_empty()).unwrap_or_default()
}

impl Profile {
    /// `known` as the store has it; absent for a new user, who gets all that the directory has.
    pub fn of(item: &SyncItem, country: &str, user: &SyncedUser, known: Option<&Known>) -> Self {
        let mut by_hand = known.map(|it| it.profile.by_hand.clone()).unwrap_or_default();
        let update = &item.update;
        if update.names == Update::Always {
            by_hand.remove(MAIL);
        }
        if update.phones == Update::Always {
            by_hand.remove(BACKUP);
        }
        if update.languages == Update::Always {
            by_hand.retain(|field| !LANGUAGES.contains(&field.as_str()));
        }
        let before = known.map(|it| &it.profile);
        let name = |field: &str, before: Option<&String>, now: &str| {
            take(update.names, by_hand.contains(field), before, now.to_owned(), String::is_empty)
        };
        let (phone, backup) = numbers(item, country, user);
        let said = user.languages.clone().unwrap_or_default();
        // FD-38: directories say nothing of the portal's.
        let said = [said.call, said.text, said.app, said.code, String::new()];
        let ItemLanguages { call, text, app, code, portal } = &item.language;
        let of_item = [call, text, app, code, portal];
        let mut languages: [String; LANGUAGES.len()] = Default::default();
        for (place, language) in languages.iter_mut().enumerate() {
            let now = language_of(&said[place], of_item[place].as_ref());
            let kept = by_hand.contains(LANGUAGES[place]);
            *language = take(update.languages, kept, before.map(|it| &it.languages[place]), now, String::is_empty);
        }
        let own = before.map(|it| it.own.clone()).unwrap_or_default();
        // What is the user's own stands beside the directory's, and goes before it.
        let has_own = !own.is_empty();
        let kept_phone = |number: &Number| number.is_empty() && !has_own;
        Self {
            first_name: name("first_name", before.map(|it| &it.first_name), &user.first_name),
            last_name: name("last_name", before.map(|it| &it.last_name), &user.last_name),
            mail: name(MAIL, before.map(|it| &it.mail), &user.mail),
            own: match update.phones {
                Update::Always if !phone.is_empty() => Number::default(),
                _ => own,
            },
            phone: take(update.phones, false, before.map(|it| &it.phone), phone, kept_phone),
            backup: take(
                update.phones,
                by_hand.contains(BACKUP),
                before.map(|it| &it.backup),
                backup,
                Number::is_empty,
            ),
            languages,
            description: user.description.clone(),
            user_group: if user.user_group.is_empty() { item.user_group.clone() } else { user.user_group.clone() },
            by_hand,
        }
    }

    /// The number that is used.
    pub fn used(&self) -> &Number {
        if self.own.is_empty() { &self.phone } else { &self.own }
    }

    /// A number that is used, or the one it falls back on, is another one (S-58): written in another way it is the same.
    pub fn has_other_number_than(&self, before: &Self, country: &str) -> bool {
        !same(&self.used().number, &before.used().number, country)
            || !same(&self.backup.number, &before.backup.number, country)
    }
}

/// The number in one form, whatever way it is written.
pub fn same(one: &str, other: &str, country: &str) -> bool {
    let form = |text: &str| number_of(text, country).map_or_else(|_| text.to_owned(), |number| number.number);
    form(one) == form(other)
}

/// FS-23: which of the two values counts. What there was not is no value that could stay.
fn take<T: Clone>(update: Update, by_hand: bool, before: Option<&T>, now: T, is_empty: impl Fn(&T) -> bool) -> T {
    let Some(before) = before else { return now };
    match update {
        Update::Always => now,
        Update::UnlessUserChanged if !by_hand => now,
        Update::IfEmpty if is_empty(before) => now,
        Update::UnlessUserChanged | Update::IfEmpty | Update::Never => before.clone(),
    }
}

/// FS-27, FS-28: the first good number of each list; a second one that is the first again is none.
fn numbers(item: &SyncItem, country: &str, user: &SyncedUser) -> (Number, Number) {
    let first = |kinds: &[PhoneKind]| {
        let mut found = of_kinds(kinds, user).filter_map(|phone| number_of(&phone.number, country).ok());
        found.next().unwrap_or_default()
    };
    let mut primary = first(&item.primary_phone);
    // FD-41
    if !user.extension.is_empty() && !primary.is_empty() {
        primary.extension.clone_from(&user.extension);
    }
    let backup = first(&item.backup_phone);
    match backup.number == primary.number {
        true => (primary, Number::default()),
        false => (primary, backup),
    }
}

/// What a user's numbers of these kinds are tried in.
fn of_kinds<'a>(kinds: &'a [PhoneKind], user: &'a SyncedUser) -> impl Iterator<Item = &'a SyncedPhone> {
    kinds.iter().flat_map(|kind| user.phones.iter().filter(|phone| phone.kind == kind.code()))
}

/// What was tried before a good number, and is none (S-57).
pub fn bad_numbers(item: &SyncItem, country: &str, user: &SyncedUser) -> Vec<UnusableValue> {
    let mut bad: Vec<(&SyncedPhone, BadPhone)> = Vec::new();
    for kinds in [&item.primary_phone, &item.backup_phone] {
        for phone in of_kinds(kinds, user) {
            match number_of(&phone.number, country) {
                Ok(_) => break,
                Err(_) if bad.iter().any(|(other, _)| *other == phone) => {}
                Err(error) => bad.push((phone, error)),
            }
        }
    }
    let told = bad.into_iter().map(|(phone, error)| UnusableValue {
        entry: user.username.clone(),
        attribute: if phone.attribute.is_empty() { phone.kind.clone() } else { phone.attribute.clone() },
        why: format!("is no phone number: {error}"),
    });
    told.collect()
}

/// FS-32, FD-38: a tag that is none is as good as no tag.
fn language_of(said: &str, of_item: Option<&Language>) -> String {
    let said = Language::new(said).ok();
    said.as_ref().or(of_item).map_or_else(String::new, |language| language.as_str().to_owned())
}

/// A number as the directory writes it, with what is dialled behind it, or why it cannot be used (S-57). Without a country, and
/// without one in the settings, its digits are kept: whoever dials may know.
fn number_of(text: &str, country: &str) -> Result<Number, BadPhone> {
    let country = Some(country).filter(|country| !country.is_empty());
    let parsed = phone::parse(text, country)?;
    Ok(Number::new(parsed.number, parsed.extension))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::user_store::SyncedLanguages;

    fn item(rest: &str) -> SyncItem {
        toml::from_str(&format!("name = \"a\"\ndirectory = \"corp\"\n{rest}\nsource = {{ kind = \"domain\" }}\n"))
            .expect("valid")
    }

    fn user(phones: &[(&str, &str)]) -> SyncedUser {
        let phone = |(kind, number): &(&str, &str)| SyncedPhone {
            kind: (*kind).into(),
            number: (*number).into(),
            attribute: format!("attribute of {kind}"),
        };
        let phones = phones.iter().map(phone);
        SyncedUser {
            first_name: "Ann".into(),
            mail: "ann@new".into(),
            phones: phones.collect(),
            languages: Some(SyncedLanguages { call: "de".into(), ..SyncedLanguages::default() }),
            ..SyncedUser::default()
        }
    }

    fn known(change: impl Fn(&mut Profile)) -> Known {
        let mut known = Known::default();
        known.profile.mail = "ann@old".into();
        known.profile.phone = Number::new("+49301", "");
        known.profile.backup = Number::new("+49302", "");
        known.profile.languages[0] = "fr".into();
        change(&mut known.profile);
        known
    }

    #[test]
    fn a_value_of_the_directory_counts_as_the_item_says() {
        // FS-23, for names, phones, languages
        let by_hand = |it: &mut Profile| {
            it.by_hand = ["mail", "backup_phone", "language_call"].map(str::to_owned).into();
        };
        let nothing = |it: &mut Profile| *it = Profile::default();
        let new = ("ann@new", "+49401001", "+49402002", "de");
        let old = ("ann@old", "+49301", "+49302", "fr");
        for (update, change, expected) in [
            ("always", &by_hand as &dyn Fn(&mut Profile), new),
            ("unless_user_changed", &|_: &mut Profile| {}, new),
            ("unless_user_changed", &by_hand, ("ann@old", "+49401001", "+49302", "fr")),
            ("if_empty", &|_: &mut Profile| {}, old),
            ("if_empty", &nothing, new),
            ("never", &nothing, ("", "", "", "")),
            ("never", &|_: &mut Profile| {}, old),
        ] {
            let item = item(&format!(
                "backup_phone = [\"home\"]\nupdate = {{ names = \"{update}\", phones = \"{update}\", languages = \"{update}\" }}"
            ));
            let user = user(&[("mobile", "+49 40 1001"), ("home", "+49 40 2002")]);
            let known = known(change);
            let profile = Profile::of(&item, "", &user, Some(&known));
            let found = (
                profile.mail.as_str(),
                profile.phone.number.as_str(),
                profile.backup.number.as_str(),
                profile.languages[0].as_str(),
            );
            assert_eq!(found, expected, "{update}");
            let fresh = Profile::of(&item, "", &user, None);
            assert_eq!(
                (fresh.mail.as_str(), fresh.phone.number.as_str()),
                ("ann@new", "+49401001"),
                "a new user has all"
            );
        }
    }

    #[test]
    fn a_number_of_ones_own_ends_only_where_the_directory_always_counts() {
        for (update, own) in
            [("always", ""), ("unless_user_changed", "+4977"), ("if_empty", "+4977"), ("never", "+4977")]
        {
            let item = item(&format!("update = {{ phones = \"{update}\" }}"));
            let known = known(|it| it.own = Number::new("+4977", "5"));
            let profile = Profile::of(&item, "", &user(&[("mobile", "+49 40 1001")]), Some(&known));
            assert_eq!(profile.own.number, own, "{update}");
        }
        let always = item("update = { phones = \"always\" }");
        let known = known(|it| it.own = Number::new("+4977", "5"));
        assert_eq!(
            Profile::of(&always, "", &user(&[]), Some(&known)).own.number,
            "+4977",
            "there is nothing to replace it"
        );
    }

    #[test]
    fn the_first_good_number_counts_and_the_second_is_another() {
        // FS-27, FS-28, FD-41
        let item = item("primary_phone = [\"mobile\", \"business\"]\nbackup_phone = [\"business\", \"home\"]");
        let found = |phones: &[(&str, &str)], extension: &str| {
            let user = SyncedUser { extension: extension.into(), ..user(phones) };
            let profile = Profile::of(&item, "", &user, None);
            (profile.phone.number, profile.phone.extension, profile.backup.number)
        };
        let expected =
            |phone: &str, extension: &str, backup: &str| (phone.to_owned(), extension.to_owned(), backup.to_owned());
        assert_eq!(found(&[("mobile", "call me"), ("business", "+49 40 1001 x7")], ""), expected("+49401001", "7", ""));
        let both = [("mobile", "+49 171 2345"), ("business", "+49 40 1001")];
        assert_eq!(found(&both, "12"), expected("+491712345", "12", "+49401001"));
        assert_eq!(found(&[("home", "+49 40 2002")], "12"), expected("", "", "+49402002"));
        assert_eq!(found(&[], "12"), expected("", "", ""));
    }

    #[test]
    fn of_several_numbers_of_a_kind_the_first_good_one_counts_and_those_before_it_are_named() {
        // FS-27, S-57
        let item = item("primary_phone = [\"mobile\", \"business\"]\nbackup_phone = [\"home\", \"mobile\"]");
        let found = |phones: &[(&str, &str)]| {
            let user = SyncedUser { username: "ann".into(), ..user(phones) };
            let profile = Profile::of(&item, "DE", &user, None);
            let bad = bad_numbers(&item, "DE", &user).into_iter();
            let bad: Vec<String> = bad.map(|it| format!("{}: {} {}", it.entry, it.attribute, it.why)).collect();
            (profile.phone.number, profile.backup.number, bad)
        };
        let letters = "ann: attribute of mobile is no phone number: it has letters".to_owned();
        let several = "ann: attribute of mobile is no phone number: there is more than one number in it".to_owned();
        let short = "ann: attribute of home is no phone number: it is too short for a number".to_owned();
        let phones = [("mobile", "call me"), ("mobile", "0171 2345678 / 030 901820"), ("mobile", "0171 2345678")];
        let number = "+491712345678".to_owned();
        assert_eq!(found(&phones), (number.clone(), String::new(), vec![letters.clone(), several]));
        let phones = [("home", "12"), ("mobile", "call me"), ("business", "030 901820")];
        assert_eq!(found(&phones), ("+4930901820".to_owned(), String::new(), vec![letters, short]));
        let phones = [("mobile", "0171 2345678"), ("mobile", "call me"), ("pager", "call me")];
        assert_eq!(found(&phones), (number, String::new(), vec![]), "nobody looks at what stands behind a good one");
    }

    #[test]
    fn languages_and_group_are_the_items_where_the_directory_names_none() {
        // FS-32, FS-34
        let item = item("language = { call = \"fr\", app = \"en\", portal = \"de-CH\" }\nuser_group = \"staff\"");
        let profile = Profile::of(&item, "", &user(&[]), None);
        assert_eq!(profile.languages, ["de", "", "en", "", "de-CH"].map(str::to_owned));
        assert_eq!(profile.user_group, "staff");
        let said = SyncedUser { user_group: "sales".into(), languages: None, ..user(&[]) };
        let profile = Profile::of(&item, "", &said, None);
        assert_eq!((profile.languages[0].as_str(), profile.user_group.as_str()), ("fr", "sales"));
        let nonsense = SyncedLanguages { call: "klingonese-klingonese".into(), ..SyncedLanguages::default() };
        let profile = Profile::of(&item, "", &SyncedUser { languages: Some(nonsense), ..user(&[]) }, None);
        assert_eq!(profile.languages[0], "fr");
    }

    #[test]
    fn a_number_written_in_another_way_is_the_same() {
        // S-58
        let with = |phone: &str, own: &str, backup: &str| Profile {
            phone: Number::new(phone, ""),
            own: Number::new(own, ""),
            backup: Number::new(backup, ""),
            ..Profile::default()
        };
        for (one, other, differs) in [
            (with("+49 30 123456", "", ""), with("+4930123456", "", ""), false),
            (with("+49 30 123456", "", ""), with("+4930123457", "", ""), true),
            (with("+49301", "+4977", ""), with("+49302", "+4977", ""), false),
            (with("+49301", "", "+49 302 222"), with("+49301", "", ""), true),
        ] {
            assert_eq!(one.has_other_number_than(&other, ""), differs, "{one:?} {other:?}");
        }
    }

    #[test]
    fn a_number_without_code_is_of_the_nearest_country() {
        // FS-29
        let settings = |verification: &str, directory: &str, of_item: &str| -> String {
            let text = format!(
                "[verification]\ncountry = \"{verification}\"\n[[directory]]\nname = \"corp\"\nurls = [\"ldaps://dc\"]\nbase = \"DC=corp\"\n\
                 country = \"{directory}\"\nquery_bind = {{ kind = \"anonymous\" }}\n"
            );
            let settings: Settings = toml::from_str(&text).expect("valid");
            country(&settings, &item(&format!("country = \"{of_item}\""))).to_owned()
        };
        assert_eq!(settings("DE", "CH", "AT"), "AT");
        assert_eq!(settings("DE", "CH", ""), "CH");
        assert_eq!(settings("DE", "", ""), "DE");
        assert_eq!(settings("", "", ""), "");
    }
}
