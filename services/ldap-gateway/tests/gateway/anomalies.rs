//! Messages that are wrong in one place, to a gateway that runs: each is refused, or ends its connection, or is taken by rule, and the
//! next client finds everything as it was (B-41 to B-48). All of them, without a socket: `ldap-wire/tests/anomalies.rs`.

#[path = "../../../../crates/ldap-wire/tests/support/anomalies.rs"]
#[allow(dead_code, reason = "each user of it uses its part")]
pub mod cases;

use crate::support::{Lab, Wanted, Wire, client, service_account, until};
use anyhow::{Context, Result};
use cases::{Anomaly, Case};
use domain::settings::ClientTls;
use lab::Slapd;
use ldap_wire::{ExtendedRequest, LdapResult, MessageId, Scope};
use std::time::{Duration, Instant};

/// How long an answer may come behind that to what was sent later.
const ANSWERS_BEHIND: Duration = Duration::from_millis(500);

/// Of which place every how manieth is sent: all of them would take a minute.
const EVERY: usize = 17;

#[tokio::test(flavor = "multi_thread")]
async fn no_message_that_is_wrong_in_one_place_gets_past_the_gateway_or_harms_it() -> Result<()> {
    // B-41, B-43 to B-48, L-02, L-03
    let unprotected = domain::settings::Client { tls: ClientTls::DangerOptional, ..client("torn") };
    let section = |section: &mut ldap_gateway::LdapSection| section.connections_per_source_max = 2_000;
    let lab = Lab::start(Wanted { client: unprotected, section, ..Wanted::default() }).await?;
    let resident = lab::resident_kib(std::process::id())?;
    let marker = MessageId::new(99).context("an id")?;
    let (mut sent, mut closed) = (0, 0);
    let nested = cases::cases().filter(|case| case.anomaly == Anomaly::Nested).step_by(EVERY);
    let usual = cases::cases().filter(|case| case.anomaly != Anomaly::Nested).step_by(EVERY);
    for case in usual.chain(nested) {
        let what = format!("{} {:?} at element {} ({:#04x})", case.name, case.anomaly, case.place, case.tag);
        let started = Instant::now();
        let mut wire = lab.gateway.connect_plain().await?;
        let octets = [&case.octets, &ExtendedRequest::who_am_i().encode(marker, &[])[..]].concat();
        // It may close before all is written.
        let _ = wire.send(&octets).await;
        let (mut answers, mut ended) = (Vec::new(), false);
        loop {
            match wire.next().await.with_context(|| what.clone())? {
                Some(answer) if answer.id() == marker => break,
                Some(answer) => answers.push(LdapResult::decode(&answer)?.code.0),
                None => {
                    ended = true;
                    break;
                }
            }
        }
        let refused = answers.iter().all(|code| *code == 2);
        assert!(cases::is_well_formed(&case.octets, 127) || refused, "{what}: {answers:?}");
        // Nobody is bound: the only success is StartTLS, whose connection ends here for what stands behind it.
        assert!(!answers.contains(&0), "{what}: {answers:?}");
        assert!(started.elapsed().as_secs() < 5, "{what}: {:?}", started.elapsed());
        closed += usize::from(ended);
        sent += 1;
    }
    assert!(sent > 200 && closed > 50 && closed < sent, "{closed} of {sent} closed");
    let grown = lab::resident_kib(std::process::id())?.saturating_sub(resident);
    assert!(grown < 64 << 10, "{grown} KiB");
    assert_eq!(lab.gateway.connect_plain().await?.search_code("", Scope::Base).await?, (0, 1));
    Ok(())
}

/// Of which place every how manieth is shown to OpenLDAP too: no divisor of how many there are of an element.
const EVERY_OF_BOTH: usize = 11;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// No LDAP: the connection ends, or the answer is protocolError.
    Malformed,
    /// Whatever became of it.
    Understood,
}

#[tokio::test(flavor = "multi_thread")]
async fn what_openldap_takes_for_malformed_gets_past_the_gateway_by_a_listed_reason_only() -> Result<()> {
    // T-03, B-41, B-44 to B-46, L-02, L-06: bound on both, so that whatever passes is forwarded
    let mut unprotected = client("oracle");
    unprotected.tls = ClientTls::DangerOptional;
    unprotected.service_accounts = vec![service_account(Slapd::GITLAB_DN)];
    let lab = Lab::start(Wanted { client: unprotected, ..Wanted::default() }).await?;
    let (mut same, mut stricter, mut wrong) = (0, 0, Vec::new());
    until("the account to be known", || !lab.gateway.settings.pinned().is_empty()).await?;
    // After these there is nobody to ask, and without its name one is about the password that the next one binds with.
    let others = ["unbind", "StartTLS", "password modify"];
    let usual = cases::cases().filter(|case| case.anomaly != Anomaly::Nested && !others.contains(&case.name));
    for case in usual.step_by(EVERY_OF_BOTH) {
        let ours = verdict(lab.gateway.connect_plain().await?, &case).await?;
        let theirs = verdict(lab.connect_directly_plain().await?, &case).await?;
        match (ours, theirs) {
            (ours, theirs) if ours == theirs => same += 1,
            // OpenLDAP looks at as much as it needs: at the tags of few strings and numbers, and not at what stands behind them.
            (Verdict::Malformed, _) if !case.anomaly.is_harmless(case.tag) => stricter += 1,
            _ => wrong.push(format!(
                "{} {:?} at element {} ({:#04x}): we {ours:?}, OpenLDAP {theirs:?}",
                case.name, case.anomaly, case.place, case.tag
            )),
        }
    }
    assert!(wrong.is_empty(), "{same} the same, {stricter} stricter, {}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(same > 200, "{same} the same, {stricter} stricter");
    Ok(())
}

async fn verdict(mut wire: Wire, case: &Case) -> Result<Verdict> {
    assert_eq!(wire.bind(Slapd::GITLAB_DN, Slapd::GITLAB_PASSWORD).await?, 0);
    let marker = MessageId::new(99).context("an id")?;
    let octets = [&case.octets, &ExtendedRequest::who_am_i().encode(marker, &[])[..]].concat();
    // It may close before all is written.
    let _ = wire.send(&octets).await;
    // OpenLDAP works on both at once, so that the answer to the first may come behind that to the second, or there is none.
    let (mut answered, mut marked) = (false, false);
    loop {
        let next = match marked {
            true if answered => return Ok(Verdict::Understood),
            true => tokio::time::timeout(ANSWERS_BEHIND, wire.next()).await,
            false => Ok(wire.next().await),
        };
        let Ok(next) = next else { return Ok(Verdict::Understood) };
        match next {
            // The gateway has passed it on, and the directory has hung up (L-19).
            Ok(Some(answer)) if LdapResult::decode(&answer).is_ok_and(|result| result.code.0 == 52) => {
                return Ok(Verdict::Understood);
            }
            Ok(Some(answer)) if answer.id() == marker => marked = true,
            Ok(Some(answer)) => match LdapResult::decode(&answer) {
                Ok(result) if result.code.0 == 2 => return Ok(Verdict::Malformed),
                other => answered |= other.is_ok(),
            },
            // It waits for the rest of what never ends.
            Ok(None) | Err(_) => return Ok(Verdict::Malformed),
        }
    }
}
