//! `linotp`: `serial,key,type,digits,step,hash`, the key in hexadecimal. A first line that names the columns is passed over.

use super::csv::{Record, Records, plain};
use super::{FileError, Kind, Parts, Row, RowError, Token, push, values};

pub fn read(text: &str) -> Result<Vec<Row<Token>>, FileError> {
    let mut rows = Vec::new();
    for (place, record) in Records::new(text).enumerate() {
        let record = record?;
        if record.field(0).starts_with('#') || (place == 0 && plain(record.field(0)) == "serial") {
            continue;
        }
        let name = values::shown(record.field(0));
        push(&mut rows, Row { row: record.line, name, content: token(&record) })?;
    }
    Ok(rows)
}

fn token(record: &Record<'_>) -> Result<Token, RowError> {
    if record.fields.len() < 2 {
        return Err(RowError::Columns { found: record.fields.len(), expected: 2 });
    }
    let kind = values::kind(record.field(2))?;
    let step = record.field(4);
    Parts {
        serial: record.field(0),
        seed: values::hex(record.field(1))?,
        kind,
        algorithm: values::algorithm(record.field(5))?,
        digits: values::number("the number of digits", record.field(3), 6)?,
        period_seconds: if kind == Kind::Totp { values::number("the time step", step, 30)? } else { 0 },
        // A HOTP token has no step; its counter begins at 0 and is found by the first codes (V-12).
        counter: 0,
        username: "",
        manufacturer: "",
        model: "",
    }
    .token()
}
