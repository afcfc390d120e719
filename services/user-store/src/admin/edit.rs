//! Changes of what stands in a user's record, from a request or a row of a file: parsed once, compared with what is there, and
//! only what differs is written.

use super::change::Change;
use super::standing::Standing;
use crate::Store;
use crate::audit::NewEvent;
use crate::outbox::{self, NewMail};
use crate::rpc::StoreError;
use crate::sql::{Arg, Row, Session, args};
use crate::users::{name_key, number_shown};
use domain::settings::is_mail_address;
use domain::{Language, Method, PhoneNumber};
use proto::user_store::EditUserRequest;
use std::collections::{BTreeSet, HashMap};
use tonic::Status;

/// Digits of a number that lacks its country.
const NATIONAL_DIGITS: std::ops::RangeInclusive<usize> = 3..=15;
const EXTENSION_SIGNS_MAX: usize = 10;

/// What is to change; what is absent stays. An empty text takes away.
#[derive(Default, Debug, PartialEq)]
pub struct Edit {
    pub phone: Option<String>,
    pub phone_extension: Option<String>,
    pub backup_phone: Option<String>,
    pub backup_extension: Option<String>,
    pub default_method: Option<String>,
    pub allowed_methods: Option<String>,
    pub language_call: Option<String>,
    pub language_text: Option<String>,
    pub language_app: Option<String>,
    pub language_code: Option<String>,
    pub language_portal: Option<String>,
    pub pin_required: Option<bool>,
    pub mail: Option<String>,
    /// A word of a file; by hand there are calls of their own, with a reason.
    pub standing: Option<Standing>,
}

impl TryFrom<EditUserRequest> for Edit {
    type Error = String;

    fn try_from(request: EditUserRequest) -> Result<Self, String> {
        let mut edit = Self { pin_required: request.pin_required, ..Self::default() };
        for (field, text) in [
            ("phone", request.phone),
            ("phone_extension", request.phone_extension),
            ("backup_phone", request.backup_phone),
            ("backup_extension", request.backup_extension),
            ("default_method", request.default_method),
            ("language_call", request.language_call),
            ("language_text", request.language_text),
            ("language_app", request.language_app),
            ("language_code", request.language_code),
            ("language_portal", request.language_portal),
            ("mail", request.mail),
        ] {
            if let Some(text) = text {
                edit.set(field, &text)?;
            }
        }
        if request.set_allowed_methods {
            edit.set("allowed_methods", &request.allowed_methods.join(","))?;
        }
        Ok(edit)
    }
}

impl Edit {
    /// One field by its name, as it is typed.
    pub fn set(&mut self, field: &str, text: &str) -> Result<(), String> {
        let text = text.trim();
        let language = |text: &str| match text {
            "" => Ok(String::new()),
            text => Language::new(text).map(|tag| tag.as_str().to_owned()).map_err(|error| format!("{field}: {error}")),
        };
        match field {
            "phone" => {
                let (number, extension) = number(field, text)?;
                self.phone = Some(number);
                self.phone_extension = extension.or(self.phone_extension.take());
            }
            "backup_phone" => {
                let (number, extension) = number(field, text)?;
                self.backup_phone = Some(number);
                self.backup_extension = extension.or(self.backup_extension.take());
            }
            "phone_extension" => self.phone_extension = Some(extension(field, text)?),
            "backup_extension" => self.backup_extension = Some(extension(field, text)?),
            "default_method" => self.default_method = Some(default_method(text)?),
            "allowed_methods" => self.allowed_methods = Some(methods(text)?),
            "language" => {
                let tag = language(text)?;
                for place in
                    [&mut self.language_call, &mut self.language_text, &mut self.language_app, &mut self.language_code]
                {
                    *place = Some(tag.clone());
                }
            }
            "language_call" => self.language_call = Some(language(text)?),
            "language_text" => self.language_text = Some(language(text)?),
            "language_app" => self.language_app = Some(language(text)?),
            "language_code" => self.language_code = Some(language(text)?),
            "language_portal" => self.language_portal = Some(language(text)?),
            "pin_required" => self.pin_required = Some(yes_or_no(field, text)?),
            "state" => self.standing = Some(Standing::parse(text)?),
            "mail" if text.is_empty() || is_mail_address(text) => self.mail = Some(text.to_owned()),
            "mail" => return Err(format!("mail: found {text:?}; an address is written name@example.com")),
            _ => {
                return Err(format!(
                    "{field}: no such field; known are phone, phone_extension, backup_phone, backup_extension, default_method, \
                     allowed_methods, language, language_call, language_text, language_app, language_code, language_portal, pin_required, \
                     mail, state"
                ));
            }
        }
        Ok(())
    }
}

/// A number, with its extension behind an `x` if one is written there: `+49 30 901820 x890`.
fn number(field: &str, text: &str) -> Result<(String, Option<String>), String> {
    let (written, behind) = match text.split_once(['x', 'X']) {
        Some((number, behind)) => (number.trim(), Some(extension(field, behind.trim())?)),
        None => (text, None),
    };
    if written.is_empty() && behind.is_none() {
        return Ok((String::new(), None));
    }
    if let Ok(number) = PhoneNumber::new(written) {
        return Ok((number.expose().to_owned(), behind));
    }
    // Without its country: which one it is of, the settings say when it is used (FS-29).
    let digits: String = written.chars().filter(|sign| !" ./-()".contains(*sign)).collect();
    let national = NATIONAL_DIGITS.contains(&digits.len()) && digits.bytes().all(|sign| sign.is_ascii_digit());
    match national {
        true => Ok((digits, behind)),
        false => Err(format!("{field}: a number is written +4930901820, or without its country 030901820")),
    }
}

fn extension(field: &str, text: &str) -> Result<String, String> {
    let good =
        text.len() <= EXTENSION_SIGNS_MAX && text.bytes().all(|sign| sign.is_ascii_digit() || b"*#,".contains(&sign));
    match good {
        true => Ok(text.to_owned()),
        false => Err(format!("{field}: an extension has at most {EXTENSION_SIGNS_MAX} of the signs 0-9 * # ,")),
    }
}

fn default_method(text: &str) -> Result<String, String> {
    use Method::{Call, Code, Push, Sms, SmsReply};
    match Method::from_code(text) {
        None if text.is_empty() => Ok(String::new()),
        Some(method @ (Push | Call | Sms | SmsReply | Code)) => Ok(method.code().to_owned()),
        _ => Err(format!("default_method: found {text:?}; allowed are push, call, sms, sms_reply, code")),
    }
}

/// Codes, separated by commas, semicolons or spaces; kept in one order.
fn methods(text: &str) -> Result<String, String> {
    let mut methods = std::collections::BTreeSet::new();
    for code in text.split([',', ';', ' ']).filter(|code| !code.is_empty()) {
        let method = Method::from_code(code).ok_or_else(|| {
            let known: Vec<&str> = Method::ALL.iter().map(|method| method.code()).collect();
            format!("allowed_methods: found {code:?}; known are {}", known.join(", "))
        })?;
        methods.insert(method);
    }
    Ok(methods.into_iter().map(Method::code).collect::<Vec<_>>().join(","))
}

fn yes_or_no(field: &str, text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" | "1" => Ok(true),
        "no" | "false" | "0" | "" => Ok(false),
        _ => Err(format!("{field}: found {text:?}; allowed are yes and no")),
    }
}

/// Changes one user; what changed is a note of the change.
pub async fn apply(change: &mut Change<'_>, edit: &Edit) -> Result<(), StoreError> {
    let (user_id, actor) = (change.user_id.clone(), change.actor.clone());
    let record = records(&mut change.session, [user_id.as_str()].into_iter()).await?.remove(&user_id);
    let record = record.ok_or_else(|| Status::not_found("no such user"))?;
    let (lines, events) = write(change.store, &mut change.session, &record, &actor, edit).await?;
    change.events.extend(events);
    if !lines.is_empty() {
        change.note("user.changed", lines.join("\n"));
    }
    Ok(())
}

const COLUMNS: &str = "user_id, phone, own_phone, own_extension, backup_phone, backup_extension, default_method, allowed_methods, \
    language_call, language_text, language_app, language_code, language_portal, mail, by_hand";

/// What [`write`] compares with, by user.
pub async fn records<'a>(
    session: &mut Session,
    user_ids: impl Iterator<Item = &'a str>,
) -> Result<HashMap<String, Row>, StoreError> {
    let head = format!("SELECT {COLUMNS}, {} FROM users WHERE user_id IN", Standing::COLUMNS);
    let rows = session.rows_in(&head, user_ids, "", &[]).await?;
    Ok(rows.into_iter().map(|row| Ok((row.get("user_id")?, row))).collect::<Result<_, sqlx::Error>>()?)
}

/// Writes what differs and returns it in words, old -> new, and the events that stand beside the caller's own. The caller holds the
/// chain's lock.
pub async fn write(
    store: &Store,
    session: &mut Session,
    record: &Row,
    actor: &str,
    edit: &Edit,
) -> Result<(Vec<String>, Vec<NewEvent>), StoreError> {
    let user_id: String = record.get("user_id")?;
    let user_id = user_id.as_str();
    let text = |column: &str| record.get::<String>(column);
    let (own_phone, own_extension) = own_number(edit, &text("phone")?, &text("own_phone")?, &text("own_extension")?);
    let wanted = [
        ("own_phone", own_phone, true),
        ("own_extension", own_extension, true),
        ("backup_phone", edit.backup_phone.clone(), true),
        ("backup_extension", edit.backup_extension.clone(), true),
        ("default_method", edit.default_method.clone(), false),
        ("allowed_methods", edit.allowed_methods.clone(), true),
        ("language_call", edit.language_call.clone(), false),
        ("language_text", edit.language_text.clone(), false),
        ("language_app", edit.language_app.clone(), false),
        ("language_code", edit.language_code.clone(), false),
        ("language_portal", edit.language_portal.clone(), false),
        ("mail", edit.mail.clone(), false),
    ];
    let (mut assigned, mut arguments, mut lines): (Vec<String>, Vec<Arg>, Vec<String>) = Default::default();
    let (mut of_factor, mut of_phone) = (false, false);
    for (column, value, factor) in wanted {
        let Some(value) = value else { continue };
        let before = text(column)?;
        if before == value {
            continue;
        }
        of_factor |= factor;
        of_phone |= column.contains("phone") || column.contains("extension");
        lines.push(format!("{column}: {} -> {}", shown(column, &before), shown(column, &value)));
        arguments.push(Arg::from(value));
        assigned.push(format!("{column} = ${}", arguments.len()));
    }
    if of_phone && let Some(mail) = NewMail::to_user(session, "phone_changed", user_id).await? {
        // To the address as it was: who takes over a number may take over the mail in the same step (V-86).
        outbox::put_in(session, store.seal(), mail.with("admin", actor), store.clock().now_ms()).await?;
    }
    if let Some(by_hand) = by_hand(&text("by_hand")?, edit) {
        arguments.push(Arg::from(by_hand));
        // With another digest the next read of the directory fills in what was given back to it.
        assigned.push(format!("by_hand = ${}", arguments.len()));
        arguments.push(Arg::from(Vec::new()));
        assigned.push(format!("content = ${}", arguments.len()));
    }
    if !assigned.is_empty() {
        arguments.push(Arg::from(user_id));
        let sql = format!("UPDATE users SET {} WHERE user_id = ${}", assigned.join(", "), arguments.len());
        session.execute_of(sql, arguments).await?;
        search(session, user_id).await?;
    }
    if let Some(required) = edit.pin_required
        && let Some(line) = require_pin(session, user_id, required).await?
    {
        lines.push(line);
        of_factor = true;
    }
    let mut events = Vec::new();
    if let Some(standing) = edit.standing
        && let Some((line, event)) = standing.write(session, record, actor, store.clock().now_ms()).await?
    {
        lines.push(line);
        events.push(event);
    }
    if !lines.is_empty() {
        let sql = "UPDATE users SET epoch = epoch + $1, revision = revision + 1 WHERE user_id = $2";
        session.execute(sql, args![i64::from(of_factor), user_id]).await?;
    }
    Ok((lines, events))
}

/// The number and extension of the user's own. An extension alone makes the directory's number the user's own, because it goes
/// with a number; without a number of one's own there is no extension of one's own.
fn own_number(edit: &Edit, directory: &str, own: &str, own_extension: &str) -> (Option<String>, Option<String>) {
    let named = edit.phone.is_some() || edit.phone_extension.is_some();
    if !named {
        return (None, None);
    }
    let extension = edit.phone_extension.clone();
    let number = match &edit.phone {
        Some(number) => number.clone(),
        None if own.is_empty() && extension.as_ref().is_some_and(|it| !it.is_empty()) => directory.to_owned(),
        None => own.to_owned(),
    };
    let kept = if edit.phone.is_some() { "" } else { own_extension };
    let extension = extension.unwrap_or_else(|| kept.to_owned());
    match number.is_empty() {
        true => (Some(String::new()), Some(String::new())),
        false => (Some(number), Some(extension)),
    }
}

/// The fields that a hand wrote, which the directory does not overwrite (FS-23, unless_user_changed). One that was emptied is given
/// back to it. `None` = as before.
fn by_hand(before: &str, edit: &Edit) -> Option<String> {
    let before: BTreeSet<&str> = before.split(',').filter(|field| !field.is_empty()).collect();
    let mut now = before.clone();
    for (field, value) in [
        ("backup_phone", &edit.backup_phone),
        ("language_call", &edit.language_call),
        ("language_text", &edit.language_text),
        ("language_app", &edit.language_app),
        ("language_code", &edit.language_code),
        ("language_portal", &edit.language_portal),
        ("mail", &edit.mail),
    ] {
        match value.as_deref() {
            None => {}
            Some("") => _ = now.remove(field),
            Some(_) => _ = now.insert(field),
        }
    }
    (now != before).then(|| now.into_iter().collect::<Vec<_>>().join(","))
}

/// A number in the audit shows its end only.
fn shown(column: &str, value: &str) -> String {
    match (column, value) {
        (_, "") => "none".into(),
        ("own_phone" | "backup_phone", number) => number_shown(number),
        (_, value) => value.into(),
    }
}

async fn require_pin(session: &mut Session, user_id: &str, required: bool) -> Result<Option<String>, StoreError> {
    let sql = "SELECT required FROM secret_states WHERE user_id = $1 AND kind = 'pin'";
    let row = session.row(sql, args![user_id]).await?;
    let before = row.map_or(Ok(false), |row| row.get::<bool>("required"))?;
    if before == required {
        return Ok(None);
    }
    let sql = "INSERT INTO secret_states (user_id, kind, required, must_change, set_ms, wrong, locked_until_ms) \
               VALUES ($1, 'pin', $2, $3, 0, $4, 0) ON CONFLICT (user_id, kind) DO UPDATE SET required = excluded.required";
    session.execute(sql, args![user_id, required, false, Vec::new()]).await?;
    Ok(Some(format!("pin_required: {before} -> {required}")))
}

/// What a search looks at, anew.
pub(super) async fn search(session: &mut Session, user_id: &str) -> Result<(), StoreError> {
    let sql = "SELECT first_name, last_name, mail, phone, own_phone, backup_phone FROM users WHERE user_id = $1";
    let Some(row) = session.row(sql, args![user_id]).await? else { return Ok(()) };
    let names = session.rows("SELECT name_key FROM names WHERE user_id = $1", args![user_id]).await?;
    let mut search: Vec<String> = names.iter().map(|row| row.get("name_key")).collect::<Result<_, _>>()?;
    search.push(name_key(&format!("{} {}", row.get::<String>("first_name")?, row.get::<String>("last_name")?)));
    for column in ["mail", "phone", "own_phone", "backup_phone"] {
        search.push(name_key(&row.get::<String>(column)?));
    }
    search.retain(|text| !text.is_empty());
    let sql = "UPDATE users SET search = $1 WHERE user_id = $2";
    session.execute(sql, args![search.join("\n"), user_id]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(field: &str, text: &str) -> Result<Edit, String> {
        let mut edit = Edit::default();
        edit.set(field, text).map(|()| edit)
    }

    #[test]
    fn a_number_is_kept_in_one_form_with_its_extension_apart() {
        // FU-01, FV-14
        for (typed, number, extension) in [
            ("+49 (30) 90-18.20", "+4930901820", None),
            ("+49 30 901820 x890", "+4930901820", Some("890")),
            ("030 901820X12,3#", "030901820", Some("12,3#")),
            ("", "", None),
        ] {
            let edit = set("phone", typed).expect(typed);
            assert_eq!((edit.phone, edit.phone_extension.as_deref()), (Some(number.to_owned()), extension), "{typed}");
        }
        for bad in ["12", "call me", "+49", "+49 30 901820 x12345678901", "x12", "0049309018201234567"] {
            assert!(set("phone", bad).is_err(), "{bad}");
        }
        for bad in ["12a", "12345678901"] {
            assert!(set("backup_extension", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_field_no_method_and_no_language_is_refused_by_name() {
        for (field, text, error) in [
            ("colour", "red", "colour: no such field"),
            ("default_method", "recovery", "default_method: found \"recovery\""),
            ("allowed_methods", "push fax", "allowed_methods: found \"fax\""),
            ("language", "english", "language: found \"english\""),
            ("pin_required", "maybe", "pin_required: found \"maybe\""),
            ("mail", "nobody", "mail: found \"nobody\""),
            ("state", "gone", "state: found \"gone\""),
        ] {
            let found = set(field, text).expect_err(field);
            assert!(found.starts_with(error), "{found}");
        }
        assert_eq!(
            set("allowed_methods", "sms; push,push").expect("good").allowed_methods.as_deref(),
            Some("push,sms")
        );
        assert_eq!(set("language", "de_AT").expect("good").language_app.as_deref(), Some("de-AT"));
    }

    #[test]
    fn an_extension_goes_with_a_number_of_ones_own() {
        let edit = |phone: Option<&str>, extension: Option<&str>| Edit {
            phone: phone.map(str::to_owned),
            phone_extension: extension.map(str::to_owned),
            ..Edit::default()
        };
        let some = |number: &str, extension: &str| (Some(number.to_owned()), Some(extension.to_owned()));
        for (edit, own, own_extension, expected) in [
            (edit(None, None), "+1", "2", (None, None)),
            (edit(Some("+3"), None), "+1", "2", some("+3", "")),
            (edit(Some("+3"), Some("4")), "", "", some("+3", "4")),
            (edit(None, Some("4")), "+1", "2", some("+1", "4")),
            (edit(None, Some("4")), "", "", some("+9", "4")),
            (edit(None, Some("")), "", "", some("", "")),
            (edit(Some(""), Some("4")), "+1", "2", some("", "")),
        ] {
            assert_eq!(own_number(&edit, "+9", own, own_extension), expected, "{edit:?}");
        }
    }
}
