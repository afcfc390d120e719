//! Verification is told when the password was changed, as real directories keep it: another stamp, and nothing of before is remembered
//! (V-52).

use crate::makes::Make;
use crate::support::{Running, Wanted, trusting};
use anyhow::{Context, Result, ensure};
use lab::password_of;

const ANN: &str = "ann.archer";
const ANOTHER: &str = "Another-Password-1";

/// What verification hears of two binds that a wrong code ends: before the password was changed at the directory, and after.
async fn told(make: &Make) -> Result<[String; 2]> {
    let gateway = Running::start(make.directory.clone(), Wanted::default(), &make.pki).await?;
    let tls = trusting(&make.pki.ca_file())?;
    let stamp = async |password: &str| -> Result<String> {
        let before = gateway.verification.attempts().len();
        gateway.connect_tls(&tls).await?.bind(ANN, &format!("{password},999999")).await?;
        let mut attempts = gateway.verification.attempts().split_off(before);
        let (attempt, _) = attempts.pop().context("the password was not right")?;
        Ok(attempt.password_stamp)
    };
    gateway.verification.enrol(ANN, &["111111"]);
    gateway.verification.enrol(&format!("{ANN}@lab.test"), &["111111"]);
    let before = stamp(&password_of(ANN)).await?;
    ensure!(stamp(&password_of(ANN)).await? == before, "a login changes nothing");
    make.change_password(ANN, ANOTHER)?;
    Ok([before, stamp(ANOTHER).await?])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_policy_of_openldap_tells_when_the_password_was_changed() -> Result<()> {
    // pwdChangedTime: nobody has changed one since the overlay is there
    let [before, after] = told(&Make::slapd("moduleload ppolicy.la\noverlay ppolicy\n")?).await?;
    ensure!(before.is_empty() && after.len() == 15 && after.ends_with('Z'), "{before:?} {after:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_without_a_password_policy_does_not_tell() -> Result<()> {
    ensure!(told(&Make::slapd("")?).await? == ["", ""]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_windows_domain_tells_when_the_password_was_changed() -> Result<()> {
    // pwdLastSet: MS-ADTS section 2.2.18
    let [before, after] = told(&Make::samba()?).await?;
    let time = |stamp: &str| stamp.parse::<u64>().with_context(|| stamp.to_owned());
    ensure!(time(&before)? > 130_000_000_000_000_000 && time(&after)? > time(&before)?, "{before} {after}");
    Ok(())
}
