//! Runs commands as a person types them, shows their results, and counts what was as expected.

use crate::product::Product;
use anyhow::Result;
use std::{io::Write, process::Command};

#[derive(Default)]
pub struct Checks {
    passed: u32,
    failed: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// An LDAP command that succeeds.
    Yes,
    /// One that is refused.
    No,
    Accept,
    Reject,
    Challenge,
}

impl Checks {
    pub fn truth(&mut self, what: &str, holds: bool) {
        self.note(what, holds, if holds { "yes" } else { "NO" });
    }

    /// Runs an LDAP command; its standard output, or its error text where it was refused.
    pub fn command(&mut self, what: &str, mut command: Command, expected: Expected) -> Result<String> {
        show(&command);
        let output = command.output()?;
        let success = output.status.success();
        let text = String::from_utf8_lossy(if success { &output.stdout } else { &output.stderr }).into_owned();
        let brief = if text.lines().count() > 4 {
            format!("{} lines", text.lines().count())
        } else {
            text.trim().replace('\n', " | ")
        };
        self.note(what, success == (expected == Expected::Yes), &brief);
        Ok(text)
    }

    /// One Access-Request, with the State of a challenge or without.
    pub fn radius(
        &mut self,
        what: &str,
        product: &Product,
        user: &str,
        password: &str,
        state: &str,
        expected: Expected,
    ) -> Result<String> {
        let mut attributes =
            format!("User-Name = \"{user}\"\nUser-Password = \"{password}\"\nMessage-Authenticator = 0x00\n");
        if !state.is_empty() {
            attributes += &format!("State = {state}\n");
        }
        let output = product.radclient(&attributes, product.radius_secret())?;
        let word = match expected {
            Expected::Accept => "Received Access-Accept",
            Expected::Challenge => "Received Access-Challenge",
            _ => "Received Access-Reject",
        };
        let brief = output.lines().find(|line| line.starts_with("Received ")).unwrap_or("no reply");
        self.note(what, output.contains(word), brief);
        Ok(output)
    }

    pub fn radius_unsigned(&mut self, what: &str, product: &Product, user: &str, password: &str) -> Result<()> {
        let attributes = format!("User-Name = \"{user}\"\nUser-Password = \"{password}\"\n");
        let output = product.radclient(&attributes, product.radius_secret())?;
        self.note(what, !output.contains("Received "), "no reply");
        Ok(())
    }

    pub fn radius_wrong_secret(&mut self, what: &str, product: &Product, user: &str, password: &str) -> Result<()> {
        let attributes =
            format!("User-Name = \"{user}\"\nUser-Password = \"{password}\"\nMessage-Authenticator = 0x00\n");
        let output = product.radclient(&attributes, "not-the-shared-secret")?;
        self.note(what, !output.contains("Received "), "no reply");
        Ok(())
    }

    fn note(&mut self, what: &str, good: bool, result: &str) {
        let mark = if good { "ok  " } else { "FAIL" };
        say(&format!("{mark} {what}: {result}"));
        if good { self.passed += 1 } else { self.failed += 1 }
    }

    /// The closing line; whether everything was as expected.
    pub fn finish(&self) -> bool {
        say(&format!("\ndemo: {} checks passed, {} failed", self.passed, self.failed));
        self.failed == 0
    }
}

/// The command as one would type it.
fn show(command: &Command) {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words
        .map(|word| {
            let word = word.to_string_lossy();
            let name = word.rsplit_once("/bin/").map_or(&*word, |(_, name)| name);
            if name.is_empty() || name.contains([' ', '(', ')', '*', '"']) {
                format!("'{name}'")
            } else {
                name.to_owned()
            }
        })
        .collect();
    say(&format!("     $ {}", words.join(" ")));
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
