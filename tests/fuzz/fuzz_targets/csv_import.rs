//! The lists of tokens and users that other systems write: the first octet chooses the preset.
//!
//! Properties: a token that was read is one that codes can come from; every row is told once, in order; two good rows never have one
//! name.
#![no_main]

use domain::Secret;
use libfuzzer_sys::fuzz_target;
use otp::import::{Mapping, OldDisabled, Opening, Preset, ROWS_MAX, Row, read_tokens, read_users};
use std::collections::HashSet;

const PRESETS: [Preset; 5] =
    [Preset::EntraOath, Preset::PiOath, Preset::PiExport, Preset::LinOtp, Preset::GoogleExport];

fuzz_target!(|input: &[u8]| {
    let Some((&preset, file)) = input.split_first() else { return };
    let file = Secret::new(file);
    match PRESETS.get(usize::from(preset) % (PRESETS.len() + 1)) {
        Some(preset) => {
            let Ok(rows) = read_tokens(*preset, &file, Opening::Nothing, 0) else { return };
            for token in rows.iter().filter_map(|row| row.content.as_ref().ok()) {
                assert!((10..=80).contains(&token.seed.len()) && (6..=8).contains(&token.digits));
                assert!(!token.serial.is_empty() && token.serial.len() <= 64);
            }
            told_once(&rows, |token| &token.serial);
        }
        None => {
            let old = if preset & 0x80 == 0 { OldDisabled::Disabled } else { OldDisabled::Exempt };
            let Ok(read) = read_users(&file, &Mapping::default(), old) else { return };
            for user in read.rows.iter().filter_map(|row| row.content.as_ref().ok()) {
                assert!(!user.username.is_empty());
                assert!(user.fields.values().all(|value| !value.is_empty() && !value.contains(char::is_control)));
            }
            told_once(&read.rows, |user| &user.username);
        }
    }
});

fn told_once<T>(rows: &[Row<T>], name: impl Fn(&T) -> &String) {
    assert!(!rows.is_empty() && rows.len() <= ROWS_MAX);
    assert!(rows.is_sorted_by(|before, after| before.row < after.row));
    let mut names = HashSet::new();
    for row in rows {
        assert!(!row.name.contains(char::is_control));
        match &row.content {
            Ok(content) => assert!(names.insert(name(content).to_lowercase())),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}
