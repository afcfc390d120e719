//! `users-csv`: any columns, mapped to fields. Phones as `+49 30 901820 x890`; the words of the product that this one replaces are
//! understood (FI-02, FI-03).
//!
//! `duo-csv`: the columns that Duo's user import takes. `phone1` is the phone, `phone2` the backup phone, `token1`, `token2` ... the serials
//! of hardware tokens, whose secrets the file does not hold.

use super::csv::{Record, Records, plain};
use super::{FileError, Row, RowError, push, values};
use domain::{Language, Method, PhoneNumber};
use std::collections::BTreeMap;

/// What of a user a column can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    Username,
    Mail,
    Phone,
    PhoneExtension,
    BackupPhone,
    BackupExtension,
    DefaultMethod,
    AllowedMethods,
    /// All four of the following.
    Language,
    LanguageCall,
    LanguageText,
    LanguageApp,
    LanguageCode,
    PinRequired,
    State,
}

impl Field {
    pub const ALL: [Self; 15] = [
        Self::Username,
        Self::Mail,
        Self::Phone,
        Self::PhoneExtension,
        Self::BackupPhone,
        Self::BackupExtension,
        Self::DefaultMethod,
        Self::AllowedMethods,
        Self::Language,
        Self::LanguageCall,
        Self::LanguageText,
        Self::LanguageApp,
        Self::LanguageCode,
        Self::PinRequired,
        Self::State,
    ];

    /// As the store's import names it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Username => "username",
            Self::Mail => "mail",
            Self::Phone => "phone",
            Self::PhoneExtension => "phone_extension",
            Self::BackupPhone => "backup_phone",
            Self::BackupExtension => "backup_extension",
            Self::DefaultMethod => "default_method",
            Self::AllowedMethods => "allowed_methods",
            Self::Language => "language",
            Self::LanguageCall => "language_call",
            Self::LanguageText => "language_text",
            Self::LanguageApp => "language_app",
            Self::LanguageCode => "language_code",
            Self::PinRequired => "pin_required",
            Self::State => "state",
        }
    }

    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.code() == code)
    }

    /// What such a column is called where nobody said how to map it; as [`plain`] writes it.
    fn usual_names(self) -> &'static [&'static str] {
        match self {
            Self::Username => &["username", "user", "upn", "userprincipalname", "samaccountname", "login"],
            Self::Mail => &["mail", "email", "emailaddress"],
            Self::Phone => &["phone", "phonenumber", "mobile", "mobilephone", "telephone", "phone1"],
            Self::PhoneExtension => &["phoneextension", "extension"],
            Self::BackupPhone => &["backupphone", "backupphonenumber", "phone2"],
            Self::BackupExtension => &["backupextension", "backupphoneextension"],
            Self::DefaultMethod => &["defaultmethod", "method", "authenticationmethod", "mode"],
            Self::AllowedMethods => &["allowedmethods", "methods"],
            Self::Language => &["language", "preferredlanguage"],
            Self::LanguageCall => &["languagecall"],
            Self::LanguageText => &["languagetext"],
            Self::LanguageApp => &["languageapp"],
            Self::LanguageCode => &["languagecode"],
            Self::PinRequired => &["pinrequired", "pin"],
            Self::State => &["state", "enabled", "status"],
        }
    }
}

/// Which column is which field; what is not named is found by its usual names.
#[derive(Debug, Clone, Default)]
pub struct Mapping(Vec<(String, Field)>);

impl Mapping {
    pub fn map(&mut self, column: &str, field: Field) {
        self.0.push((column.to_owned(), field));
    }
}

/// What "disabled" meant where the file comes from. There it may have been: this user is not asked for a second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OldDisabled {
    #[default]
    Disabled,
    /// Let in without a second factor, everywhere.
    Exempt,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub username: String,
    /// By [`Field::code`]; empty values are left out, so that an empty cell changes nothing.
    pub fields: BTreeMap<&'static str, String>,
}

/// Whose a hardware token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub row: u32,
    pub username: String,
    pub serial: String,
}

#[derive(Debug)]
pub struct UsersFile {
    pub rows: Vec<Row<User>>,
    /// In the order of the file.
    pub holders: Vec<Holder>,
    /// Columns that nothing is taken from.
    pub unused: Vec<String>,
}

pub fn read(text: &str, mapping: &Mapping, old_disabled: OldDisabled) -> Result<UsersFile, FileError> {
    let mut records = Records::new(text);
    let header = records.next().ok_or(FileError::Empty)??;
    let columns = columns(&header, mapping)?;
    let tokens: Vec<bool> = header.fields.iter().map(|name| names_a_token(name)).collect();
    let (mut rows, mut holders) = (Vec::new(), Vec::new());
    for record in records {
        let record = record?;
        let name = columns.iter().position(|field| *field == Some(Field::Username));
        let name = values::shown(name.map_or("", |column| record.field(column)));
        let content = user(&columns, &record, old_disabled);
        let serials = tokens.iter().enumerate().filter(|(_, token)| **token).map(|(column, _)| record.field(column));
        if let Ok(user) = &content {
            holders.extend(serials.filter(|serial| !serial.is_empty()).map(|serial| Holder {
                row: record.line,
                username: user.username.clone(),
                serial: values::shown(serial),
            }));
        }
        push(&mut rows, Row { row: record.line, name, content })?;
    }
    let taken = columns.iter().zip(&tokens).map(|(field, token)| field.is_some() || *token);
    let unused = header.fields.iter().zip(taken).filter(|(_, taken)| !taken);
    Ok(UsersFile { rows, holders, unused: unused.map(|(name, _)| values::shown(name)).collect() })
}

/// `token1`, `token2` ...
fn names_a_token(column: &str) -> bool {
    plain(column).strip_prefix("token").is_some_and(|place| place.parse::<u8>().is_ok())
}

/// The field of each column.
fn columns(header: &Record<'_>, mapping: &Mapping) -> Result<Vec<Option<Field>>, FileError> {
    let names: Vec<String> = header.fields.iter().map(|name| plain(name)).collect();
    let mut columns = vec![None; names.len()];
    let mut missing = Vec::new();
    for (wanted, field) in &mapping.0 {
        match names.iter().position(|name| *name == plain(wanted)) {
            Some(column) => columns[column] = Some(*field),
            None => missing.push(wanted.clone()),
        }
    }
    for field in Field::ALL {
        let mapped = columns.contains(&Some(field)) || mapping.0.iter().any(|(_, mapped)| *mapped == field);
        let usual = |(name, column): (&String, &Option<Field>)| {
            column.is_none() && field.usual_names().contains(&name.as_str())
        };
        if let Some(column) = names.iter().zip(&columns).position(usual).filter(|_| !mapped) {
            columns[column] = Some(field);
        }
    }
    if !columns.contains(&Some(Field::Username)) {
        missing.push(Field::Username.code().to_owned());
    }
    if missing.is_empty() { Ok(columns) } else { Err(FileError::Header { missing }) }
}

fn user(columns: &[Option<Field>], record: &Record<'_>, old_disabled: OldDisabled) -> Result<User, RowError> {
    let mut username = String::new();
    let mut fields = BTreeMap::new();
    for (column, field) in columns.iter().enumerate().filter_map(|(column, field)| Some((column, (*field)?))) {
        let value = values::optional_line(field.code(), record.field(column), 256)?;
        if value.is_empty() {
            continue;
        }
        match field {
            Field::Username => username = value,
            Field::Phone | Field::BackupPhone => {
                let (number, extension) = phone(&value)?;
                let extension_field =
                    if field == Field::Phone { Field::PhoneExtension } else { Field::BackupExtension };
                fields.insert(field.code(), number);
                if let Some(extension) = extension {
                    fields.insert(extension_field.code(), extension);
                }
            }
            Field::PhoneExtension | Field::BackupExtension => {
                fields.insert(field.code(), extension(&value).ok_or(RowError::Phone)?);
            }
            Field::DefaultMethod => {
                let (method, pin) = method(&value)?;
                fields.insert(field.code(), method.code().to_owned());
                if pin {
                    fields.entry(Field::PinRequired.code()).or_insert_with(|| "true".into());
                }
            }
            Field::AllowedMethods => {
                let listed = value.split([' ', ',', ';']).filter(|word| !word.is_empty()).map(Method::from_code);
                let listed: Option<Vec<&str>> = listed.map(|method| method.map(Method::code)).collect();
                let listed = listed.filter(|listed| !listed.is_empty()).ok_or(RowError::Value("allowed_methods"))?;
                fields.insert(field.code(), listed.join(" "));
            }
            Field::Language => {
                let language = language(&value)?;
                for each in [Field::LanguageCall, Field::LanguageText, Field::LanguageApp, Field::LanguageCode] {
                    fields.entry(each.code()).or_insert_with(|| language.clone());
                }
            }
            Field::LanguageCall | Field::LanguageText | Field::LanguageApp | Field::LanguageCode => {
                fields.insert(field.code(), language(&value)?);
            }
            Field::PinRequired => {
                let required = yes_or_no(&value).ok_or(RowError::Value("pin_required"))?;
                fields.insert(field.code(), required.to_string());
            }
            Field::State => {
                fields.insert(field.code(), state(&value, old_disabled)?.to_owned());
            }
            Field::Mail => {
                fields.insert(field.code(), value);
            }
        }
    }
    match username.is_empty() {
        true => Err(RowError::Missing("the user name")),
        false => Ok(User { username, fields }),
    }
}

/// The number, and the extension after `x`. A number without country is left to the settings, which know ours.
fn phone(text: &str) -> Result<(String, Option<String>), RowError> {
    let (number, extension_text) = match text.find(['x', 'X', ';']) {
        None => (text, None),
        Some(at) => (&text[..at], Some(text[at..].trim_start_matches(|sign: char| !sign.is_ascii_digit()))),
    };
    // `ext. 890` and `ext 890`: the word begins before its x.
    let number = number.trim().trim_end_matches(['e', 'E', ',']).trim();
    let extension = extension_text.map(|text| extension(text).ok_or(RowError::Phone)).transpose()?;
    let number = match number.starts_with('+') {
        true => PhoneNumber::new(number).map_err(|_| RowError::Phone)?.expose().to_owned(),
        false => number.chars().filter(|sign| !matches!(sign, ' ' | '.' | '/' | '-' | '(' | ')')).collect(),
    };
    let digits = number.trim_start_matches('+');
    match (3..=15).contains(&digits.len()) && digits.bytes().all(|sign| sign.is_ascii_digit()) {
        true => Ok((number, extension)),
        false => Err(RowError::Phone),
    }
}

/// At most ten of what a telephone's keys and pauses can be.
fn extension(text: &str) -> Option<String> {
    let text = text.trim();
    let good = |sign: u8| sign.is_ascii_digit() || matches!(sign, b'*' | b'#' | b',');
    ((1..=10).contains(&text.len()) && text.bytes().all(good)).then(|| text.to_owned())
}

/// Our code, or a word of the old product: `Phone Call (PIN)`, `Two-Way Text Message`, `Mobile App`, `OATH Token`. `true`: with a PIN.
fn method(text: &str) -> Result<(Method, bool), RowError> {
    if let Some(method) = Method::from_code(text) {
        return Ok((method, false));
    }
    let name = plain(text);
    let pin = name.ends_with("pin");
    let method = match name.trim_end_matches("pin").trim_end_matches("with") {
        "phonecall" | "call" | "phone" | "voice" | "voicecall" => Method::Call,
        // A two-way text becomes a one-way one: replies get lost (FI-03).
        "textmessage" | "text" | "onewaytextmessage" | "twowaytextmessage" | "onewaytext" | "twowaytext"
        | "onewaysms" | "twowaysms" | "textmessageoneway" | "textmessagetwoway" | "sms" => Method::Sms,
        "mobileapp" | "app" | "mobileappnotification" | "pushnotification" | "push" => Method::Push,
        "oathtoken" | "oath" | "thirdpartyoathtoken" | "oathcode" | "code" => Method::Code,
        _ => return Err(RowError::Value("default_method")),
    };
    Ok((method, pin))
}

fn language(text: &str) -> Result<String, RowError> {
    Language::new(text).map(String::from).map_err(|_| RowError::Value("language"))
}

fn yes_or_no(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "1" | "on" => Some(true),
        "false" | "no" | "0" | "off" => Some(false),
        _ => None,
    }
}

fn state(text: &str, old_disabled: OldDisabled) -> Result<&'static str, RowError> {
    let on = match text.to_ascii_lowercase().as_str() {
        "enabled" | "active" => Some(true),
        "disabled" => Some(false),
        // "bypass" is Duo's word for it.
        "exempt" | "bypass" => return Ok("exempt"),
        other => yes_or_no(other),
    };
    match (on, old_disabled) {
        (Some(true), _) => Ok("enabled"),
        (Some(false), OldDisabled::Disabled) => Ok("disabled"),
        (Some(false), OldDisabled::Exempt) => Ok("exempt"),
        (None, _) => Err(RowError::Value("state")),
    }
}
