//! A key container (RFC 6030), opened with nothing, with a key or with a password: the first octet chooses.
//!
//! Properties: a token that was read is one that codes can come from; what is encrypted brings no token without the key; reading twice
//! gives the same.
#![no_main]

use domain::Secret;
use libfuzzer_sys::fuzz_target;
use otp::import::{Kind, Opening, Preset, ROWS_MAX, Token, read_tokens};

const NOW_MS: i64 = 1_795_824_000_000;

fuzz_target!(|input: &[u8]| {
    let Some((&with, file)) = input.split_first() else { return };
    // The password of the example is hashed 1000 times; a mutation that makes it millions would only cost time.
    let with = if file.windows(15).any(|piece| piece == b"IterationCount>" && !counts_little(file)) { 0 } else { with };
    let file = Secret::new(file);
    let key = Secret::new([0x12, 0x34, 0x56, 0x78, 0x90].into_iter().cycle().take(16).collect::<Vec<u8>>());
    let password = Secret::from("qwerty");
    let opening = match with % 3 {
        0 => Opening::Nothing,
        1 => Opening::Key(&key),
        _ => Opening::Password(&password),
    };
    let read = tokens(&file, opening);
    assert_eq!(read, tokens(&file, opening));
    for token in &read {
        assert!((10..=80).contains(&token.seed.len()) && (6..=8).contains(&token.digits));
        assert!(!token.serial.is_empty() && !token.serial.contains(char::is_control));
        assert_eq!(token.kind == Kind::Totp, matches!(token.period_seconds, 30 | 60));
    }
});

fn tokens(file: &Secret, opening: Opening<'_>) -> Vec<Token> {
    let rows = read_tokens(Preset::Pskc, file, opening, NOW_MS).unwrap_or_default();
    assert!(rows.len() <= ROWS_MAX);
    rows.into_iter().filter_map(|row| row.content.ok()).collect()
}

/// At most four digits follow.
fn counts_little(file: &[u8]) -> bool {
    let text = String::from_utf8_lossy(file);
    text.split("IterationCount>").skip(1).all(|after| {
        after.trim_start().bytes().take_while(u8::is_ascii_digit).count() <= 4
    })
}
