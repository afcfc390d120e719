//! One file a noun. Each command is a call or two of the contract, and an answer.

pub mod accounting;
pub mod api_key;
pub mod audit;
pub mod check;
pub mod client;
pub mod directory;
pub mod doctor;
pub mod factor;
pub mod health;
pub mod import;
pub mod init;
pub mod key;
pub mod message;
pub mod prompt;
pub mod remember;
pub mod settings;
pub mod sync;
pub mod target;
pub mod test_login;
pub mod test_send;
pub mod token;
pub mod user;

use crate::{failure::Failure, output::say};
use domain::Secret;
use std::{
    io::{BufRead, IsTerminal, Read},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

/// A line from stdin, asked for without echo where a person sits there.
fn ask_secret(question: &str) -> Result<Secret, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        let typed = rpassword::prompt_password(format!("{question}: "));
        return typed
            .map(Secret::from)
            .map_err(|error| Failure::wrong_use(format!("reading from the terminal: {error}")));
    }
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    match read {
        Ok(0) | Err(_) => Err(Failure::wrong_use(format!("{question}: expected one line on stdin"))),
        Ok(_) => Ok(Secret::from(line.trim_end_matches(['\r', '\n']))),
    }
}

/// A secret from a file, or with `-` from the next line of stdin. One line break at the end does not count.
fn secret_from(file: &Path, what: &str) -> Result<Secret, Failure> {
    if file.as_os_str() == "-" {
        return ask_secret(what);
    }
    let mut content = Vec::new();
    std::fs::File::open(file)
        .and_then(|mut file| file.read_to_end(&mut content))
        .map_err(|error| Failure::wrong_use(format!("{what}: {}: {error}", file.display())))?;
    while matches!(content.last(), Some(b'\n' | b'\r')) {
        content.pop();
    }
    Ok(Secret::new(content))
}

fn wire(secret: &Secret) -> Option<proto::common::Secret> {
    Some(proto::common::Secret::from(secret.clone()))
}

/// A secret that is shown once.
fn text_of(secret: Option<proto::common::Secret>) -> String {
    Secret::from(secret.unwrap_or_default()).expose_str().unwrap_or_default().to_owned()
}

/// Asks before what cannot be undone. Where nobody can be asked, `--yes` has to be there.
fn confirmed(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::wrong_use(format!("{question} There is no terminal to ask; --yes answers")));
    }
    say(&format!("{question} [y/N]"));
    let mut answer = String::new();
    let read = stdin.lock().read_line(&mut answer);
    match read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
        true => Ok(()),
        false => Err(Failure::no("nothing was changed")),
    }
}

/// Does a person sit there who can answer?
fn can_be_asked() -> bool {
    std::io::stdin().is_terminal()
}

/// `90s`, `5m`, `2h`, `7d`; a bare number is seconds.
fn seconds(text: &str) -> Result<u32, String> {
    let digits = text.trim_end_matches(|sign: char| sign.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err("a time is written 90s, 5m, 2h or 7d".into()),
    };
    let count: u32 = digits.parse().map_err(|_| "a time is written 90s, 5m, 2h or 7d".to_owned())?;
    count.checked_mul(unit).filter(|seconds| *seconds > 0).ok_or_else(|| "the time is too long, or none".to_owned())
}

fn now_unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// So many seconds from now.
fn from_now(seconds: u32) -> i64 {
    now_unix_ms().saturating_add(i64::from(seconds) * 1000)
}

/// The sentence of a reason another part gave; an error, unless it is a success.
fn succeeded(reason: &str) -> Result<(), Failure> {
    let reason = domain::Reason::from_code(reason);
    match reason.class() {
        domain::ResultClass::Success => Ok(()),
        _ => Err(Failure::no(reason.sentence())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_and_an_end() {
        for (text, found) in
            [("90", Some(90)), ("90s", Some(90)), ("5m", Some(300)), ("2h", Some(7200)), ("7d", Some(604_800))]
        {
            assert_eq!(seconds(text).ok(), found, "{text}");
        }
        for text in ["", "m", "5 m", "-5m", "5w", "0", "0m", "99999999d", "4294967296"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_reason_that_is_no_success_or_not_known_is_a_failure() {
        assert!(succeeded("valid_code").is_ok());
        assert!(succeeded("user_denied").is_err());
        assert!(succeeded("a reason of tomorrow").is_err());
        assert!(succeeded("").is_err());
    }
}
