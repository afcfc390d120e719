//! Messages that are wrong in one place, to a gateway that runs: each is refused, or ends its connection, or is taken by rule, and the
//! next client finds everything as it was (B-41 to B-48). All of them, without a socket: `ldap-wire/tests/anomalies.rs`.

#[path = "../../../../crates/ldap-wire/tests/support/anomalies.rs"]
#[allow(dead_code, reason = "each user of it uses its part")]
mod cases;

use crate::support::{Lab, Wanted, client};
use anyhow::{Context, Result};
use cases::Anomaly;
use domain::settings::ClientTls;
use ldap_wire::{ExtendedRequest, LdapResult, MessageId, Scope};
use std::time::Instant;

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
