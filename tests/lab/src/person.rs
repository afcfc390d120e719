//! People with an authenticator app. Their codes come from `oathtool`, an implementation that is not ours.

use crate::{COMPANY_BASE, password_of, program, run};
use anyhow::{Context, Result};
use std::{
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const STEP_SECONDS: u64 = 30;

/// Somebody of the sample company who has enrolled.
#[derive(Debug, Clone)]
pub struct Person {
    pub uid: String,
    pub password: String,
    /// Base32, as the app got it.
    pub seed: String,
}

impl Person {
    pub fn new(uid: &str, seed: &str) -> Self {
        Self { uid: uid.into(), password: password_of(uid), seed: seed.into() }
    }

    /// Their entry, by the folder they are in: `engineering`, `bulk` ...
    pub fn dn(&self, department: &str) -> String {
        format!("uid={},ou={department},ou=people,{COMPANY_BASE}", self.uid)
    }

    /// The code of this time step (0), the next (1) or the one before (-1).
    ///
    /// Each counts once and for a step to either side, so that a test has three logins without waiting. Near the end of
    /// a step it waits for the next: a code must not grow old on its way.
    pub fn code(&self, offset: i64) -> Result<String> {
        while STEP_SECONDS - now_seconds() % STEP_SECONDS < 4 {
            std::thread::sleep(Duration::from_millis(200));
        }
        let moment = now_seconds() as i64 + offset * STEP_SECONDS as i64;
        let output = run(Command::new(program("oathtool")?)
            .args(["--totp", "-b", &self.seed, "--now"])
            .arg(format!("@{moment}"))
            .env("TZ", "UTC"))
        .context("computing a code")?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Six digits that are none of the codes that count now or soon.
    pub fn wrong_code(&self) -> Result<String> {
        let good = (-2..=2).map(|offset| self.code(offset)).collect::<Result<Vec<_>>>()?;
        let wrong = (0..10).map(|digit| digit.to_string().repeat(6)).find(|code| !good.contains(code));
        wrong.context("five codes cannot be ten")
    }

    /// Password and code as a client with the separator form wants them.
    pub fn appended(&self, offset: i64) -> Result<String> {
        Ok(format!("{},{}", self.password, self.code(offset)?))
    }
}

fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
