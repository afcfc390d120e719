//! What a command prints: a table for people, JSON for programs. stdout is the answer; everything else goes to stderr.

use clap::ValueEnum;
use serde_json::Value;
use std::io::{self, IsTerminal, Write};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
}

/// Where answers go, and in which form.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    format: Format,
}

impl Output {
    /// Without a choice: a table on a terminal, JSON elsewhere.
    pub fn new(chosen: Option<Format>) -> Self {
        let default = if io::stdout().is_terminal() { Format::Table } else { Format::Json };
        Self { format: chosen.unwrap_or(default) }
    }

    pub fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// A list of records with these columns.
    pub fn list(self, columns: &[&str], records: Vec<Value>, next: Option<&str>) {
        match self.format {
            Format::Json => line(&serde_json::json!({ "items": records, "next": next }).to_string()),
            Format::Table => {
                table(columns, &records);
                if let Some(next) = next {
                    say(&format!("more: --after {next}"));
                }
            }
        }
    }

    /// A whole list, with a sentence about it for people and its figures for programs.
    pub fn summed(self, columns: &[&str], records: Vec<Value>, sentence: &str, figures: Value) {
        match self.format {
            Format::Json => {
                let mut answer = serde_json::json!({ "items": records, "next": null });
                if let (Some(answer), Value::Object(figures)) = (answer.as_object_mut(), figures) {
                    answer.extend(figures);
                }
                line(&answer.to_string());
            }
            Format::Table => {
                table(columns, &records);
                line(sentence);
            }
        }
    }

    /// One record: key and value a line, or one JSON object.
    pub fn record(self, record: &Value) {
        match (self.format, record.as_object()) {
            (Format::Table, Some(fields)) => {
                let width = fields.keys().map(String::len).max().unwrap_or(0);
                for (key, value) in fields {
                    line(&format!("{key:<width$}  {}", cell(value)));
                }
            }
            _ => line(&record.to_string()),
        }
    }

    /// Plain text for people, the record for programs.
    pub fn text(self, text: &str, record: &Value) {
        match self.format {
            Format::Table => line(text),
            Format::Json => line(&record.to_string()),
        }
    }
}

fn table(columns: &[&str], records: &[Value]) {
    let rows: Vec<Vec<String>> =
        records.iter().map(|record| columns.iter().map(|column| cell(&record[*column])).collect()).collect();
    let width = |index: usize| {
        let widest = rows.iter().map(|row| row[index].chars().count()).max().unwrap_or(0);
        widest.max(columns[index].len())
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let print = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(text, width)| format!("{text:<width$}"));
        line(padded.collect::<Vec<_>>().join("  ").trim_end());
    };
    print(columns.to_vec());
    for row in &rows {
        print(row.iter().map(String::as_str).collect());
    }
}

/// One value in a table.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => printable(text),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Control characters a directory or a packet brought along are shown, not obeyed.
pub fn printable(text: &str) -> String {
    text.chars().flat_map(|sign| if sign.is_control() { sign.escape_default().collect() } else { vec![sign] }).collect()
}

/// A line of the answer. A closed pipe ends the output quietly, as `head` expects.
pub fn line(text: &str) {
    if writeln!(io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// Progress, warnings, questions.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// RFC 3339 in UTC; `null` for 0, which the contract uses for never, and for -1, which is until somebody says so.
pub fn time(unix_ms: i64) -> Value {
    if unix_ms <= 0 {
        return Value::Null;
    }
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000).ok();
    moment.and_then(|moment| moment.format(&Rfc3339).ok()).map_or(Value::Null, Value::String)
}
