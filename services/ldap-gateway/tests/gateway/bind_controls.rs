//! What stands beside a bind tells nobody who exists (L-15, L-41): directories of every make, each of which knows other controls.

use crate::makes::Make;
use crate::support::{Misbehaviour, Running, Wanted, client, comparable, trusting};
use anyhow::{Result, ensure};
use lab::password_of;
use ldap_wire::{Control, LdapResult, Message, oid};

const ANN: &str = "ann.archer";
/// Refused by the usual settings (L-15).
const LISTED: &str = oid::PROXIED_AUTHORIZATION;
/// OpenLDAP wants a value with the first, and Active Directory obeys the last.
const OTHERS: [&str; 5] =
    ["1.3.6.1.4.1.21008.108.63.1", oid::PAGED_RESULTS, "1.3.6.1.1.12", "1.2.3.4.5.6", "1.2.840.113556.1.4.1339"];

#[tokio::test(flavor = "multi_thread")]
async fn no_control_tells_who_is_in_an_openldap_directory() -> Result<()> {
    nobody_is_told_apart(&Make::slapd("")?, &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_control_tells_who_is_in_an_openldap_directory_with_a_password_policy() -> Result<()> {
    nobody_is_told_apart(&Make::slapd("moduleload ppolicy.la\noverlay ppolicy\n")?, &[oid::PASSWORD_POLICY]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_control_tells_who_is_in_a_389_directory() -> Result<()> {
    nobody_is_told_apart(&Make::ds389()?, &[oid::PASSWORD_POLICY, oid::AUTHORIZATION_IDENTITY]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_control_tells_who_is_in_a_windows_domain() -> Result<()> {
    nobody_is_told_apart(&Make::samba()?, &[]).await
}

/// Each control with and without a value, critical and not; some twice, and all that nobody refuses together.
fn every_sort() -> Vec<Vec<Control>> {
    let oids = [oid::PASSWORD_POLICY, oid::AUTHORIZATION_IDENTITY, LISTED].into_iter().chain(OTHERS);
    let values = [None, Some(&b""[..]), Some(b"\x30\x00"), Some(b"junk")];
    let one = |oid: &str, critical, value: Option<&'static [u8]>| Control::new(oid, critical, value.map(Into::into));
    let mut sorts = vec![Vec::new()];
    for oid in oids {
        for value in values {
            sorts.extend([false, true].map(|critical| vec![one(oid, critical, value)]));
        }
    }
    for oid in [oid::PASSWORD_POLICY, oid::AUTHORIZATION_IDENTITY] {
        sorts.extend([false, true].map(|critical| vec![one(oid, false, None), one(oid, critical, None)]));
    }
    let unlisted = [oid::PASSWORD_POLICY, oid::AUTHORIZATION_IDENTITY].into_iter().chain(OTHERS);
    sorts.push(unlisted.map(|oid| one(oid, false, None)).collect());
    sorts
}

/// `knows`: what the directory says that it knows, of what a bind may insist on.
async fn nobody_is_told_apart(make: &Make, knows: &[&str]) -> Result<()> {
    let wanted = Wanted { client: client("sorts"), ..Wanted::default() };
    let gateway = Running::start(make.directory.clone(), wanted, &make.pki).await?;
    gateway.verification.misbehave(Misbehaviour::ByCode);
    let mut wire = gateway.connect_tls(&trusting(&make.pki.ca_file())?).await?;
    let mut answer = async |name: &str, password: &str, controls: &[Control]| -> Result<Message> {
        wire.send_bind(name, password, controls).await?;
        wire.receive().await
    };
    let code = |answer: &Message| -> Result<u32> { Ok(LdapResult::decode(answer)?.code.0) };
    for (number, controls) in every_sort().iter().enumerate() {
        let is_refused = |control: &Control| control.critical && !knows.contains(&control.oid.as_str());
        let refused = match controls.iter().find(|control| control.oid == LISTED) {
            Some(listed) => Some(if listed.critical { 12 } else { 2 }),
            None => controls.iter().any(is_refused).then_some(12),
        };
        // The same password again would not be asked about (FB-02).
        let wrong = format!("wrong{number},100001");
        let [known, unknown] = [answer(ANN, &wrong, controls).await?, answer("nobody.here", &wrong, controls).await?];
        ensure!(comparable(&known) == comparable(&unknown), "{known:?} and {unknown:?} for {controls:?}");
        ensure!(code(&known)? == refused.unwrap_or(49), "{known:?} for {controls:?}");
        let right = answer(ANN, &format!("{},{}", password_of(ANN), 100_001 + number), controls).await?;
        ensure!(code(&right)? == refused.unwrap_or(0), "{right:?} for {controls:?}");
        let denied = answer(ANN, &format!("{},{}", password_of(ANN), 200_001 + number), controls).await?;
        ensure!(comparable(&denied) == comparable(&unknown), "{denied:?} and {unknown:?} for {controls:?}");
    }
    // What was asked for is said. 389 Directory Server has nothing to say of a policy that is not broken.
    let asked: Vec<Control> = knows.iter().map(|oid| Control::new(*oid, true, None)).collect();
    let said = answer(ANN, &format!("{},199999", password_of(ANN)), &asked).await?.controls()?;
    let says = |oid: &str| said.iter().find(|control| control.oid == oid).and_then(|control| control.value.as_deref());
    // RFC 3829 section 4
    let identity = says("2.16.840.1.113730.3.4.15").is_some_and(|name| name.starts_with(b"dn:uid=ann.archer,"));
    ensure!(identity == knows.contains(&oid::AUTHORIZATION_IDENTITY), "{said:?}");
    ensure!(identity || says(oid::PASSWORD_POLICY).is_some() == knows.contains(&oid::PASSWORD_POLICY), "{said:?}");
    Ok(())
}
