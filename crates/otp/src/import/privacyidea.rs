//! `pi-oath`: `serial,seed,type,digits,step or counter`, the seed in hexadecimal; after `# version: 2` with `user,resolver,realm` in
//! front. `pi-export`: `owner,serial,otpkey,type,otplen[,timeStep]`. Neither names a hash: it is SHA-1, whatever the seed's length.

use super::csv::{Record, Records, plain};
use super::{FileError, Kind, Parts, Row, RowError, Token, push, values};
use domain::CodeAlgorithm;

pub fn read(text: &str) -> Result<Vec<Row<Token>>, FileError> {
    let mut rows = Vec::new();
    let mut with_user = false;
    for record in Records::new(text) {
        let record = record?;
        if let Some(comment) = record.field(0).strip_prefix('#') {
            if let Some(version) = plain(comment).strip_prefix("version") {
                with_user = version != "1";
            }
            continue;
        }
        let (user, first) = if with_user { (record.field(0), 3) } else { ("", 0) };
        let name = values::shown(record.field(first));
        push(&mut rows, Row { row: record.line, name, content: token(&record, user, first) })?;
    }
    Ok(rows)
}

pub fn read_export(text: &str) -> Result<Vec<Row<Token>>, FileError> {
    let mut rows = Vec::new();
    for (place, record) in Records::new(text).enumerate() {
        let record = record?;
        if place == 0 && plain(record.field(1)) == "serial" {
            continue;
        }
        let name = values::shown(record.field(1));
        push(&mut rows, Row { row: record.line, name, content: token(&record, record.field(0), 1) })?;
    }
    Ok(rows)
}

/// `serial,seed,type,digits,step or counter`, from the column `first`.
fn token(record: &Record<'_>, username: &str, first: usize) -> Result<Token, RowError> {
    if record.fields.len() < first + 2 {
        return Err(RowError::Columns { found: record.fields.len(), expected: first + 2 });
    }
    let kind = values::kind(record.field(first + 2))?;
    let last = record.field(first + 4);
    Parts {
        serial: record.field(first),
        seed: values::hex(record.field(first + 1))?,
        kind,
        algorithm: CodeAlgorithm::Sha1,
        digits: values::number("the number of digits", record.field(first + 3), 6)?,
        period_seconds: if kind == Kind::Totp { values::number("the time step", last, 30)? } else { 0 },
        counter: if kind == Kind::Hotp { values::number("the counter", last, 0)? } else { 0 },
        username,
        manufacturer: "",
        model: "",
    }
    .token()
}
