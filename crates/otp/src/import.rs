//! Tokens and users out of other systems' files (FI-01, FI-02): octets in, rows out, each good or with what is wrong with it.
//!
//! ```text
//! file -> preset's reader (csv, pskc, migration) -> rows -> serial seen before? -> the store, which says what becomes of each
//! ```
//!
//! A bad row stops no other. What is wrong is told without repeating what was found: where columns are shifted, that could be a seed.
//! Nothing here knows which users and tokens exist.

mod csv;
mod entra;
mod linotp;
mod migration;
mod privacyidea;
mod pskc;
mod recognise;
mod users;
mod values;

pub use recognise::recognise;
pub use users::{Field, Holder, Mapping, OldDisabled, User, UsersFile};

use domain::method::BadCodeForm;
use domain::{CodeAlgorithm, CodeForm, Secret};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// FI-01: at most so many tokens, or users, in a file.
pub const ROWS_MAX: usize = 50_000;
/// The largest file of that many rows is PSKC, with somewhat more than 1000 octets for each.
pub const FILE_BYTES_MAX: usize = 96 * 1024 * 1024;

/// Where a file of tokens comes from, and so how it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// The CSV that Microsoft Entra takes hardware tokens from.
    EntraOath,
    /// The CSV that privacyIDEA reads, with or without users in front.
    PiOath,
    /// The CSV that privacyIDEA's export writes.
    PiExport,
    LinOtp,
    /// RFC 6030, in clear, or with a pre-shared key or a password.
    Pskc,
    /// `otpauth-migration://` of an authenticator app, a part a line.
    GoogleExport,
}

impl Preset {
    pub const ALL: [Self; 6] =
        [Self::EntraOath, Self::PiOath, Self::PiExport, Self::LinOtp, Self::Pskc, Self::GoogleExport];

    pub fn code(self) -> &'static str {
        match self {
            Self::EntraOath => "entra-oath",
            Self::PiOath => "pi-oath",
            Self::PiExport => "pi-export",
            Self::LinOtp => "linotp",
            Self::Pskc => "pskc",
            Self::GoogleExport => "google-export",
        }
    }

    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.code() == code)
    }
}

/// What opens an encrypted file.
#[derive(Clone, Copy)]
pub enum Opening<'a> {
    Nothing,
    /// The pre-shared key itself.
    Key(&'a Secret),
    /// What a key is made from, as the file says.
    Password(&'a Secret),
}

/// A place in a file, with what stands there.
#[derive(Debug)]
pub struct Row<T> {
    /// The line; of a PSKC file or an app's export the place of the key, from 1.
    pub row: u32,
    /// Serial or username, as far as it could be read.
    pub name: String,
    pub content: Result<T, RowError>,
}

/// A row that nothing can be made of.
#[derive(Debug)]
pub struct BadRow {
    pub row: u32,
    pub name: String,
    pub error: RowError,
}

/// The good rows with their places, and the others.
pub fn parted<T>(rows: Vec<Row<T>>) -> (Vec<(u32, T)>, Vec<BadRow>) {
    let (mut good, mut bad) = (Vec::with_capacity(rows.len()), Vec::new());
    for Row { row, name, content } in rows {
        match content {
            Ok(content) => good.push((row, content)),
            Err(error) => bad.push(BadRow { row, name, error }),
        }
    }
    (good, bad)
}

/// What a token counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Totp,
    Hotp,
}

impl Kind {
    pub fn code(self) -> &'static str {
        match self {
            Self::Totp => "totp",
            Self::Hotp => "hotp",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub serial: String,
    pub seed: Secret,
    pub kind: Kind,
    pub algorithm: CodeAlgorithm,
    pub digits: u8,
    /// 0 for a token that counts presses.
    pub period_seconds: u32,
    /// The next one, of a token that counts presses.
    pub counter: u64,
    /// Any form of a name; empty = nobody's.
    pub username: String,
    pub manufacturer: String,
    pub model: String,
}

/// What is wrong with one row. The others are not touched by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowError {
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{0} holds a control character, or is too long")]
    Text(&'static str),
    #[error("the row has {found} columns; {expected} are needed")]
    Columns { found: usize, expected: usize },
    #[error("the secret is not {0}")]
    Encoding(&'static str),
    #[error("the secret has {found} octets; allowed are 10 to 80")]
    SeedLength { found: usize },
    #[error("{0} is not a number that is allowed here")]
    Number(&'static str),
    #[error("{0}")]
    Form(#[from] BadCodeForm),
    #[error("the kind of token is neither HOTP nor TOTP")]
    Kind,
    #[error("the hash is none of SHA-1, SHA-256, SHA-512")]
    Hash,
    #[error("row {row} has the same name")]
    Duplicate { row: u32 },
    #[error("the codes are not decimal")]
    NotDecimal,
    #[error("the file limits the key's use by {0}, which is not kept here")]
    Policy(&'static str),
    #[error("the key may not be used yet")]
    NotYet,
    #[error("the key is expired")]
    Expired,
    #[error("the value is encrypted, and nothing proves that it was not changed (ValueMAC or MACMethod is missing)")]
    NoMac,
    #[error("the value was changed, or the key of the file is another one (ValueMAC)")]
    WrongMac,
    #[error("the value is encrypted by a method that is not known here; AES-128, -192 and -256 in CBC mode are")]
    Cipher,
    #[error("the value cannot be decrypted")]
    Decryption,
    #[error("this is not a phone number with at most ten digits of extension")]
    Phone,
    #[error("{0} is not a value that is known here")]
    Value(&'static str),
}

/// What is wrong with the file as a whole: no row of it was read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    #[error("the file has {found} octets; at most {FILE_BYTES_MAX} are read")]
    TooLarge { found: usize },
    #[error("the file has more than {ROWS_MAX} rows")]
    TooManyRows,
    #[error(
        "the file is encrypted; decrypt it on its way in, so that no secret lies on a disk in clear: {with} -d FILE | twinlock import ... -"
    )]
    Encrypted { with: &'static str },
    #[error("the file is not UTF-8 text")]
    NotText,
    #[error("the file has no rows")]
    Empty,
    #[error("the first line must name the columns; missing: {}", .missing.join(", "))]
    Header { missing: Vec<String> },
    #[error("line {line}: a quote is not closed")]
    Quote { line: u32 },
    #[error("line {line}: more than 64 columns, or more than 4096 octets in one")]
    Record { line: u32 },
    #[error("line {line}, column {column}: this is not the XML that is read here (no DTD, no entities of its own)")]
    Xml { line: u32, column: u32 },
    #[error("the XML is no PSKC key container (RFC 6030), version 1.0")]
    NotPskc,
    #[error("the file is encrypted with a pre-shared key; give it")]
    KeyNeeded,
    #[error("the file is encrypted with a password; give it")]
    PasswordNeeded,
    #[error("the key must have 16, 24 or 32 octets")]
    KeyLength,
    #[error("the key or password does not open the file")]
    WrongKey,
    #[error("the file is encrypted in a way that is not known here: {0}")]
    Encryption(&'static str),
    #[error("line {line}: this is no otpauth-migration address")]
    NotMigration { line: u32 },
    #[error("part {part} of {of} is missing")]
    PartMissing { part: u32, of: u32 },
}

/// The tokens of a file. `now_unix_ms` decides which keys may be used yet, or no longer, where the file says so.
pub fn read_tokens(
    preset: Preset,
    file: &Secret,
    opening: Opening<'_>,
    now_unix_ms: i64,
) -> Result<Vec<Row<Token>>, FileError> {
    let text = text(file)?;
    let mut rows = match preset {
        Preset::EntraOath => entra::read(text),
        Preset::PiOath => privacyidea::read(text),
        Preset::PiExport => privacyidea::read_export(text),
        Preset::LinOtp => linotp::read(text),
        Preset::Pskc => pskc::read(text, opening, now_unix_ms),
        Preset::GoogleExport => migration::read(text),
    }?;
    finish(&mut rows, |token| &token.serial)?;
    Ok(rows)
}

/// The users of a file, by a mapping of its columns.
pub fn read_users(file: &Secret, mapping: &Mapping, old_disabled: OldDisabled) -> Result<UsersFile, FileError> {
    let mut read = users::read(text(file)?, mapping, old_disabled)?;
    finish(&mut read.rows, |user| &user.username)?;
    Ok(read)
}

fn text(file: &Secret) -> Result<&str, FileError> {
    if file.len() > FILE_BYTES_MAX {
        return Err(FileError::TooLarge { found: file.len() });
    }
    if let Some(with) = recognise::encrypted_with(file) {
        return Err(FileError::Encrypted { with });
    }
    let text = file.expose_str().ok_or(FileError::NotText)?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// The second one of a name is refused: which of the two is meant, nobody knows.
fn finish<T>(rows: &mut [Row<T>], name: impl Fn(&T) -> &String) -> Result<(), FileError> {
    if rows.is_empty() {
        return Err(FileError::Empty);
    }
    let mut seen: HashMap<String, u32> = HashMap::with_capacity(rows.len());
    for row in rows {
        let Ok(content) = &row.content else { continue };
        match seen.entry(name(content).to_lowercase()) {
            Entry::Vacant(free) => drop(free.insert(row.row)),
            Entry::Occupied(before) => row.content = Err(RowError::Duplicate { row: *before.get() }),
        }
    }
    Ok(())
}

/// One more row, as long as there may be.
fn push<T>(rows: &mut Vec<Row<T>>, row: Row<T>) -> Result<(), FileError> {
    if rows.len() == ROWS_MAX {
        return Err(FileError::TooManyRows);
    }
    rows.push(row);
    Ok(())
}

/// A token whose parts were read one by one; only one that codes can come from is a token.
struct Parts<'a> {
    serial: &'a str,
    seed: Secret,
    kind: Kind,
    algorithm: CodeAlgorithm,
    digits: u32,
    /// Of a TOTP token.
    period_seconds: u32,
    /// Of a HOTP token.
    counter: u64,
    username: &'a str,
    manufacturer: &'a str,
    model: &'a str,
}

impl Parts<'_> {
    fn token(self) -> Result<Token, RowError> {
        if !(10..=80).contains(&self.seed.len()) {
            return Err(RowError::SeedLength { found: self.seed.len() });
        }
        let period_seconds = match self.kind {
            Kind::Totp => self.period_seconds,
            // The period of a token that counts presses is none; any good one lets the digits be checked.
            Kind::Hotp => 30,
        };
        let form = CodeForm::new(self.algorithm, self.digits, period_seconds)?;
        Ok(Token {
            serial: values::line("the serial number", self.serial, 64)?,
            seed: self.seed,
            kind: self.kind,
            algorithm: form.algorithm(),
            digits: form.digits(),
            period_seconds: if self.kind == Kind::Totp { period_seconds } else { 0 },
            counter: if self.kind == Kind::Hotp { self.counter } else { 0 },
            username: values::optional_line("the user name", self.username, 256)?,
            manufacturer: values::optional_line("the manufacturer", self.manufacturer, 64)?,
            model: values::optional_line("the model", self.model, 64)?,
        })
    }
}
