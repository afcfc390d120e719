//! One-time codes by `oathtool`, an implementation that is not ours.

use anyhow::{Context, Result};
use std::{
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const STEP_SECONDS: u64 = 30;

/// The code of the time step that is `offset` steps from now.
///
/// Codes count once and for a step to either side, so the demo uses the previous, the present and the next one instead
/// of waiting. Near the end of a step it waits for the next: a code must not grow old on its way.
pub fn code(seed_base32: &str, offset: i64) -> Result<String> {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    while STEP_SECONDS - now() % STEP_SECONDS < 4 {
        std::thread::sleep(Duration::from_millis(200));
    }
    let moment = now() as i64 + offset * STEP_SECONDS as i64;
    let output = lab::run(
        Command::new(lab::program("oathtool")?)
            .args(["--totp", "-b", seed_base32, "--now"])
            .arg(format!("@{moment}"))
            .env("TZ", "UTC"),
    )
    .context("computing a code")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
