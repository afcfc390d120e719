//! `entra-oath`: `upn,serial number,secret key,time interval,manufacturer,model`. The header is required; case, spaces and the order
//! of the columns do not matter. Always TOTP with SHA-1 and six digits, 30 or 60 seconds.

use super::csv::{Record, Records, plain};
use super::{FileError, Kind, Parts, Row, RowError, Token, push, values};
use domain::CodeAlgorithm;

struct Columns {
    upn: usize,
    serial: usize,
    secret: usize,
    interval: usize,
    manufacturer: Option<usize>,
    model: Option<usize>,
}

pub fn read(text: &str) -> Result<Vec<Row<Token>>, FileError> {
    let mut records = Records::new(text);
    let header = records.next().ok_or(FileError::Empty)??;
    let columns = Columns::find(&header)?;
    let mut rows = Vec::new();
    for record in records {
        let record = record?;
        let name = values::shown(record.field(columns.serial));
        push(&mut rows, Row { row: record.line, name, content: token(&columns, &record) })?;
    }
    Ok(rows)
}

impl Columns {
    fn find(header: &Record<'_>) -> Result<Self, FileError> {
        let names: Vec<String> = header.fields.iter().map(|name| plain(name)).collect();
        let place = |wanted: &str| names.iter().position(|name| *name == plain(wanted));
        let needed = ["upn", "serial number", "secret key", "time interval"];
        let missing: Vec<String> =
            needed.into_iter().filter(|name| place(name).is_none()).map(ToOwned::to_owned).collect();
        match needed.map(place) {
            [Some(upn), Some(serial), Some(secret), Some(interval)] => {
                Ok(Self { upn, serial, secret, interval, manufacturer: place("manufacturer"), model: place("model") })
            }
            _ => Err(FileError::Header { missing }),
        }
    }
}

fn token(columns: &Columns, record: &Record<'_>) -> Result<Token, RowError> {
    let secret = record.field(columns.secret);
    if secret.len() > 128 {
        return Err(RowError::Text("the secret key"));
    }
    let optional = |column: Option<usize>| column.map_or("", |column| record.field(column));
    Parts {
        serial: record.field(columns.serial),
        seed: values::base32(secret)?,
        kind: Kind::Totp,
        algorithm: CodeAlgorithm::Sha1,
        digits: 6,
        period_seconds: values::number("the time interval", record.field(columns.interval), 30)?,
        counter: 0,
        username: record.field(columns.upn),
        manufacturer: optional(columns.manufacturer),
        model: optional(columns.model),
    }
    .token()
}
