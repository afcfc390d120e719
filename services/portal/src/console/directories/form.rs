//! A directory as texts of a form, and back. The document's own names and values, so that what the form does not know stays as it is.

use super::keys::{FieldOf, Group, Kind};
use crate::console::door::Sent;
use crate::console::draft::Finding;
use domain::ObjectName;
use domain::settings::{BindKind, Directory, Preset, QueryBind, SecretSource, each_attribute};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// As long as all authorities that a system trusts; two of them fit into a form.
const PEM_OCTETS_MAX: usize = 256 * 1024;

/// What stands in the fields, by key. No password is among them.
#[derive(Default, Clone)]
pub(super) struct Texts(BTreeMap<&'static str, String>);

impl Texts {
    pub fn of(directory: &Directory, groups: &'static [Group]) -> Self {
        let document = serde_json::to_value(directory).unwrap_or_default();
        // As a browser sends it: what is shown without its last line feed must not be another certificate.
        let text = |field: &FieldOf| (field.key, text_of(at(&document, field.key), field.kind).trim().to_owned());
        Self(each(groups).map(text).collect())
    }

    pub fn sent(sent: &Sent, groups: &'static [Group]) -> Self {
        Self(each(groups).map(|field| (field.key, sent.text(field.key).replace('\r', ""))).collect())
    }

    pub fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    pub fn set(&mut self, key: &'static str, text: &str) {
        self.0.insert(key, text.to_owned());
    }

    /// The directory with these texts in place of what it had. What is wrong is named by its key below the directory.
    pub fn read(&self, before: &Directory, groups: &'static [Group]) -> Result<Directory, Vec<Finding>> {
        let mut wrong = bad_names(self);
        let Ok(Value::Object(mut document)) = serde_json::to_value(before) else {
            return Err(vec![Finding::new("", "the directory cannot be written")]);
        };
        let shown = Self::of(before, groups);
        let typed = |field: &&FieldOf| self.get(field.key) != shown.get(field.key);
        let ad = self.get("preset") == "active_directory";
        for field in each(groups).filter(|field| field.kind != Kind::Password).filter(typed) {
            if field.only_ad && !ad {
                // It was not asked for; of another preset it means nothing.
                if before.preset == Preset::ActiveDirectory {
                    put(&mut document, field.key, None);
                }
                continue;
            }
            match value_of(self.get(field.key), field.kind) {
                Ok(value) => put(&mut document, field.key, value),
                Err(text) => wrong.push(Finding::new(field.key, text)),
            }
        }
        wrong.extend(half_a_guard(&mut document));
        leave_out_without(&mut document, "sync_bind", "kind");
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let read: Result<Directory, _> = serde_json::from_value(document.into());
        let mut directory = read.map_err(|error| vec![Finding::new("", error.to_string())])?;
        for bind in [&mut directory.query_bind].into_iter().chain(&mut directory.sync_bind) {
            bind.password = needs_password(bind).then_some(SecretSource::Keep);
        }
        Ok(directory)
    }
}

fn each(groups: &'static [Group]) -> impl Iterator<Item = &'static FieldOf> {
    groups.iter().flat_map(|group| group.fields)
}

pub(super) fn needs_password(bind: &QueryBind) -> bool {
    bind.kind != BindKind::Anonymous && !bind.is_by_keytab()
}

/// Where a password has to be typed, and why: who may change settings may not know the one that is kept (V-83).
pub(super) fn to_be_typed(next: &Directory, before: Option<&Directory>) -> Vec<Finding> {
    let mut wrong = Vec::new();
    let mut look = |key: &str, next: &Directory, before: Option<&Directory>| {
        let kept = before.filter(|before| needs_password(&before.query_bind));
        let why = match kept {
            _ if !needs_password(&next.query_bind) => return,
            None => "Type the password.",
            Some(before) if next.sends_password_elsewhere_than(before) => {
                "It would go to other servers, or past another authority, or less protected than before: type the password again."
            }
            Some(before) if next.query_bind.name != before.query_bind.name => {
                "This is another account: type its password."
            }
            Some(_) => return,
        };
        wrong.push(Finding::new(key, why));
    };
    look("query_bind.password", next, before);
    if next.sync_bind.is_some() {
        let before = before.filter(|before| before.sync_bind.is_some()).map(Directory::as_synchronised);
        look("sync_bind.password", &next.as_synchronised(), before.as_ref());
    }
    wrong
}

fn at<'a>(document: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.').try_fold(document, |at, part| at.get(part))
}

fn put(document: &mut Map<String, Value>, key: &str, value: Option<Value>) {
    match (key.split_once('.'), value) {
        (Some((table, rest)), value) => {
            let inner = document.entry(table).or_insert_with(|| Map::new().into());
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
        (None, Some(value)) => drop(document.insert(key.to_owned(), value)),
        (None, None) => drop(document.remove(key)),
    }
}

fn leave_out_without(document: &mut Map<String, Value>, table: &str, key: &str) {
    if document.get(table).is_some_and(|inner| inner.get(key).is_none()) {
        document.remove(table);
    }
}

/// Both of its numbers, or none.
fn half_a_guard(document: &mut Map<String, Value>) -> Option<Finding> {
    let guard = document.get("lockout_guard")?;
    let missing: Vec<_> =
        ["wrong_passwords", "window_minutes"].into_iter().filter(|key| guard.get(key).is_none()).collect();
    if missing.len() == 2 {
        document.remove("lockout_guard");
        return None;
    }
    let key = missing.first()?;
    Some(Finding::new(format!("lockout_guard.{key}"), "is empty; write both numbers, or none"))
}

fn text_of(value: Option<&Value>, kind: Kind) -> String {
    match (kind, value) {
        (Kind::Password, _) => String::new(),
        (Kind::Check(yes), value) => {
            let checked = value.and_then(Value::as_bool).unwrap_or(yes);
            if checked { "yes".to_owned() } else { String::new() }
        }
        (Kind::Unless, Some(Value::String(text))) if text.is_empty() => "-".to_owned(),
        (Kind::Attributes, Some(Value::Array(list))) => texts(list).join(" "),
        (_, Some(Value::Array(list))) => texts(list).join("\n"),
        (Kind::Domains, Some(Value::Object(domains))) => domains.iter().map(line_of).collect::<Vec<_>>().join("\n"),
        (_, Some(Value::String(text))) => text.clone(),
        (_, Some(value @ (Value::Number(_) | Value::Bool(_)))) => value.to_string(),
        _ => String::new(),
    }
}

fn texts(list: &[Value]) -> Vec<&str> {
    list.iter().filter_map(Value::as_str).collect()
}

fn line_of((name, servers): (&String, &Value)) -> String {
    let urls = servers.get("urls").and_then(Value::as_array).map(|urls| texts(urls)).unwrap_or_default();
    format!("{name} {}", urls.join(" "))
}

fn value_of(text: &str, kind: Kind) -> Result<Option<Value>, String> {
    Ok(match kind {
        Kind::Check(_) => Some((text == "yes").into()),
        Kind::Lines => Some(lines(text).map(Value::from).collect()),
        Kind::Domains => Some(Value::Object(domains(text)?)),
        _ if text.is_empty() => None,
        Kind::Unless if text == "-" => Some("".into()),
        Kind::Number => match text.parse::<u32>() {
            Ok(number) => Some(number.into()),
            Err(_) => return Err("allowed is a whole number".to_owned()),
        },
        Kind::YesNo => Some((text == "true").into()),
        Kind::Attributes => Some(attributes(text).map(Value::from).collect()),
        Kind::Pem if text.len() > PEM_OCTETS_MAX => {
            return Err("is longer than 256 KiB; leave out the certificates that are not needed".to_owned());
        }
        Kind::Pem => Some(format!("{text}\n").into()),
        Kind::Text | Kind::Attribute | Kind::Unless | Kind::Choice(_) | Kind::Password => Some(text.into()),
    })
}

fn domains(text: &str) -> Result<Map<String, Value>, String> {
    let mut domains = Map::new();
    for line in lines(text) {
        let (name, servers) = domain(line)?;
        if domains.keys().any(|known| known.eq_ignore_ascii_case(&name)) {
            return Err(format!("{name} is on two lines; write its servers on one"));
        }
        domains.insert(name, servers);
    }
    Ok(domains)
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

/// With spaces, commas or `;` between them.
pub(super) fn attributes(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', ',', '\t', '\n']).flat_map(each_attribute).filter(|name| !name.is_empty())
}

fn domain(line: &str) -> Result<(String, Value), String> {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap_or_default();
    let urls: Vec<&str> = words.collect();
    match urls.is_empty() {
        true => Err(format!("{name:?} has no server; write the domain, then its servers, with spaces")),
        false => Ok((name.to_owned(), serde_json::json!({ "urls": urls }))),
    }
}

/// Before the document is read as a whole, which says of no key that it is wrong.
fn bad_names(texts: &Texts) -> Vec<Finding> {
    let listed = lines(texts.get("alternate_directories"));
    let wrong = listed.filter_map(|name| ObjectName::new(name).err());
    wrong.map(|error| Finding::new("alternate_directories", error.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fields::blank;
    use super::super::keys::{GROUPS, MAPPED};
    use super::*;
    use domain::settings::LockoutGuard;

    fn corp() -> Directory {
        let text = serde_json::json!({
            "name": "corp", "preset": "active_directory", "urls": ["ldaps://dc1", "ldaps://dc2"], "base": "dc=corp",
            "query_bind": {"kind": "tls", "name": "cn=q", "password": "keep"},
            "sync_bind": {"kind": "windows", "name": "CORP\\sync", "password": "keep"},
            "authentication_bind": {"kind": "windows"}, "ca": "PEM\n", "lockout_guard": {"wrong_passwords": 4, "window_minutes": 30},
            "trusted_domains": true, "trusted": {"child.corp": {"urls": ["ldaps://c1", "ldaps://c2"]}},
            "attribute_scope_queries": false, "sign_in_by_mail": true, "alternate_directories": ["two"], "full_every_hours": 12,
            "feed": "dirsync", "server_order": "nearest", "windows_mechanism": "ntlm", "strip_domain": true, "country": "DE",
            "attributes": {"username": ["uid", "mail"], "id": "employeeNumber", "id_type": "string",
                "phones": {"home": "", "custom": "x"}, "languages": {"call": "lang"}}
        });
        serde_json::from_value(text).expect("a directory")
    }

    #[test]
    fn a_form_that_is_sent_as_it_was_shown_changes_nothing() {
        // FD-01 to FD-19, FD-30 to FD-42: every key of the document has its field
        for directory in [corp(), Directory { name: "corp".parse().expect("a name"), ..blank(Preset::OpenLdap) }] {
            let same = |groups| Texts::of(&directory, groups).read(&directory, groups).expect("it can be read");
            let kept = |mut it: Directory| {
                it.query_bind.password = Some(SecretSource::Keep);
                it
            };
            assert_eq!(same(&MAPPED), kept(directory.clone()));
            let mut form = Texts::of(&directory, &GROUPS);
            form.set("query_bind.name", "cn=q");
            let read = form.read(&directory, &GROUPS).expect("it can be read");
            assert_eq!(Texts::of(&read, &GROUPS).0, form.0);
        }
        let read = Texts::of(&corp(), &GROUPS).read(&blank(Preset::ActiveDirectory), &GROUPS).expect("it can be read");
        let expected = Directory { name: "new".parse().expect("a name"), attributes: Default::default(), ..corp() };
        assert_eq!(read, expected, "but for its name and its mapping all of it is in the form");
    }

    #[test]
    fn an_empty_field_is_what_the_document_leaves_out() {
        let mut form = Texts::of(&corp(), &GROUPS);
        for key in ["sync_bind.kind", "lockout_guard.wrong_passwords", "lockout_guard.window_minutes", "ca", "feed"] {
            form.set(key, "");
        }
        let read = form.read(&corp(), &GROUPS).expect("it can be read");
        assert!(read.sync_bind.is_none() && read.lockout_guard.is_none() && read.ca.is_none() && read.feed.is_none());
        form.set("lockout_guard.window_minutes", "30");
        form.set("page_size", "many");
        form.set("trusted", "child.corp");
        let wrong = form.read(&corp(), &GROUPS).expect_err("three fields are wrong");
        let keys: Vec<&str> = wrong.iter().map(|it| it.key.as_str()).collect();
        assert_eq!(keys, ["trusted", "page_size", "lockout_guard.wrong_passwords"]);
        form.set("trusted", "child.corp ldaps://one\nCHILD.corp ldaps://two");
        form.set("ca", &"x".repeat(PEM_OCTETS_MAX + 1));
        let wrong = form.read(&corp(), &GROUPS).expect_err("twice the same domain, too long a text");
        assert!(wrong.iter().any(|it| it.key == "trusted" && it.text.contains("two lines")), "{wrong:?}");
        assert!(wrong.iter().any(|it| it.key == "ca" && it.text.contains("256 KiB")), "{wrong:?}");
        form.set("ca", "");
        let guard = LockoutGuard { wrong_passwords: 4, window_minutes: 30 };
        assert_eq!(
            Texts::of(&corp(), &GROUPS).read(&corp(), &GROUPS).ok().and_then(|it| it.lockout_guard),
            Some(guard)
        );
    }

    #[test]
    fn a_password_is_typed_again_where_it_would_go_elsewhere_or_belongs_to_somebody_else() {
        // V-83, FD-09
        let keys = |change: fn(&mut Directory)| {
            let mut next = corp();
            change(&mut next);
            to_be_typed(&next, Some(&corp())).into_iter().map(|it| it.key).collect::<Vec<_>>()
        };
        assert_eq!(keys(|it| it.base = "dc=other".into()), [""; 0]);
        assert_eq!(keys(|it| it.urls.push("ldaps://evil".into())), ["query_bind.password", "sync_bind.password"]);
        assert_eq!(keys(|it| it.query_bind.name = "cn=p".into()), ["query_bind.password"]);
        assert_eq!(keys(|it| it.sync_bind = None), [""; 0]);
        assert_eq!(keys(|it| it.query_bind.kind = BindKind::Anonymous), [""; 0]);
        assert_eq!(to_be_typed(&corp(), None).len(), 2);
    }
}
