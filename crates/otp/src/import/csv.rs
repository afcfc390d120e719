//! Comma-separated values (RFC 4180), without copies: a field is a piece of the file, unless quotes were doubled in it.

use super::FileError;
use std::borrow::Cow;

const FIELDS_MAX: usize = 64;
const FIELD_BYTES_MAX: usize = 4096;

pub struct Record<'a> {
    /// Where it begins, from 1.
    pub line: u32,
    pub fields: Vec<Cow<'a, str>>,
}

impl Record<'_> {
    /// Without the space around it; empty where the record is too short.
    pub fn field(&self, index: usize) -> &str {
        self.fields.get(index).map_or("", |field| field.trim())
    }
}

/// The records of a file; empty lines are none.
pub struct Records<'a> {
    rest: &'a str,
    line: u32,
    separator: char,
}

impl<'a> Records<'a> {
    /// Separated by commas; by semicolons where the first line has no comma, as spreadsheets write it in half of the world.
    pub fn new(text: &'a str) -> Self {
        let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let separator = if !first.contains(',') && first.contains(';') { ';' } else { ',' };
        Self { rest: text, line: 1, separator }
    }

    /// One field, and whether the record goes on after it.
    fn field(&mut self) -> Result<(Cow<'a, str>, bool), FileError> {
        let Some(quoted) = self.rest.strip_prefix('"') else {
            let end = self.rest.find([self.separator, '\n']).unwrap_or(self.rest.len());
            let field = &self.rest[..end];
            let more = self.pass(end);
            return Ok((Cow::Borrowed(field.strip_suffix('\r').unwrap_or(field)), more));
        };
        let mut end = 0;
        let mut doubled = false;
        loop {
            end += quoted[end..].find('"').ok_or(FileError::Quote { line: self.line })?;
            match quoted[end + 1..].starts_with('"') {
                true => (doubled, end) = (true, end + 2),
                false => break,
            }
        }
        let field = &quoted[..end];
        self.line = self.line.saturating_add(breaks(field));
        self.rest = &quoted[end + 1..];
        // What stands between the closing quote and the separator is nothing but space, or the quote closed nothing.
        let next = self.rest.find([self.separator, '\n']).unwrap_or(self.rest.len());
        if !self.rest[..next].trim().is_empty() {
            return Err(FileError::Quote { line: self.line });
        }
        let more = self.pass(next);
        Ok((if doubled { Cow::Owned(field.replace("\"\"", "\"")) } else { Cow::Borrowed(field) }, more))
    }

    /// Goes past what ends a field, which stands at `at`; `true`: another field follows.
    fn pass(&mut self, at: usize) -> bool {
        let ended_by = self.rest[at..].chars().next();
        self.rest = self.rest.get(at + 1..).unwrap_or_default();
        self.line = self.line.saturating_add(u32::from(ended_by == Some('\n')));
        ended_by == Some(self.separator)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let mut record = Record { line: self.line, fields: Vec::new() };
            loop {
                let (field, more) = match self.field() {
                    Ok(read) => read,
                    Err(error) => {
                        self.rest = "";
                        return Some(Err(error));
                    }
                };
                if record.fields.len() == FIELDS_MAX || field.len() > FIELD_BYTES_MAX {
                    self.rest = "";
                    return Some(Err(FileError::Record { line: record.line }));
                }
                record.fields.push(field);
                if !more {
                    break;
                }
            }
            if record.fields.iter().any(|field| !field.trim().is_empty()) {
                return Some(Ok(record));
            }
        }
        None
    }
}

fn breaks(text: &str) -> u32 {
    u32::try_from(text.matches('\n').count()).unwrap_or(u32::MAX)
}

/// `Serial Number` and `serialnumber` are the same column.
pub fn plain(name: &str) -> String {
    name.chars().filter(|sign| sign.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(u32, Vec<String>)> {
        let records = Records::new(text).map(|record| record.expect("good"));
        records.map(|record| (record.line, record.fields.iter().map(ToString::to_string).collect())).collect()
    }

    #[test]
    fn quotes_line_ends_and_empty_lines_are_read_as_rfc_4180_says() {
        assert_eq!(
            read("a,b\r\n\r\nc,\"d,\"\"e\"\"\r\nf\"\ng,"),
            [
                (1, vec!["a".to_owned(), "b".into()]),
                (3, vec!["c".into(), "d,\"e\"\r\nf".into()]),
                (5, vec!["g".into(), String::new()]),
            ]
        );
        assert_eq!(
            read("upn;serial\nann;\"1;2\""),
            [(1, vec!["upn".to_owned(), "serial".into()]), (2, vec!["ann".into(), "1;2".into()])]
        );
        assert_eq!(read(""), []);
        assert_eq!(read(",,\n \n"), [], "nothing in it is no record");
    }

    #[test]
    fn a_quote_that_is_not_closed_ends_the_reading() {
        for (text, line) in [("a,\"b\nc", 1), ("a\n\"b\"c,d\n", 2)] {
            let read: Vec<_> = Records::new(text).collect();
            let last = read.last().expect("something").as_ref().err();
            assert_eq!(last, Some(&FileError::Quote { line }), "{text}");
        }
        let wide = "x,".repeat(100);
        assert!(matches!(Records::new(&wide).next(), Some(Err(FileError::Record { line: 1 }))));
    }
}
