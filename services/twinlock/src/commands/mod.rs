//! One file a noun. Each command is a call or two of the contract, and an answer.

pub mod api_key;
pub mod audit;
pub mod check;
pub mod client;
pub mod factor;
pub mod health;
pub mod init;
pub mod settings;
pub mod sync;
pub mod test_login;
pub mod user;

use crate::failure::Failure;
use domain::Secret;
use std::{
    io::{BufRead, IsTerminal, Read},
    path::Path,
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
