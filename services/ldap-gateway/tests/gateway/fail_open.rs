//! What a bind is answered while verification is in trouble: V-40 to V-42. An outage is 30 s long before anybody is let in, so that
//! each test makes the most of one.

use crate::support::{Lab, Misbehaviour, Running, Wanted, client, directory_of, until};
use anyhow::Result;
use domain::settings::{Client, RefuseOrPass};
use lab::{COMPANY_BASE, password_of};
use std::time::{Duration, Instant};

const ANN: &str = "ann.archer";

fn passing() -> Client {
    Client { when_unavailable: RefuseOrPass::Pass, ..client("gitlab") }
}

fn group(name: &str) -> String {
    format!("cn={name},ou=groups,{COMPANY_BASE}")
}

/// Nobody has seen this code: it is not looked at.
fn typed() -> String {
    format!("{},999999", password_of(ANN))
}

#[tokio::test(flavor = "multi_thread")]
async fn after_thirty_seconds_without_verification_a_client_lets_in_whom_its_settings_name() -> Result<()> {
    // V-40, V-61, L-33, L-40, B5
    let wanted = Client { when_unavailable_groups: vec![group("engineering")], ..passing() };
    let lab = Lab::start(Wanted { client: wanted, ..Wanted::default() }).await?;
    lab.gateway.verification.enrol(ANN, &["111111"]);
    lab.gateway.verification.misbehave(Misbehaviour::Unavailable);
    let gone_since = Instant::now();
    let mut wire = loop {
        let mut wire = lab.connect().await?;
        match wire.bind(ANN, &typed()).await? {
            0 => break wire,
            code => assert_eq!((code, lab.gateway.fail_open.events().len()), (52, 0)),
        }
        assert!(gone_since.elapsed() < Duration::from_secs(60), "it is down, and nobody is let in");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert!(gone_since.elapsed() >= Duration::from_secs(30), "after {:?}", gone_since.elapsed());
    assert_eq!(wire.who_am_i().await?, Ok(format!("dn:{}", lab.person(ANN))), "as herself");
    let events = lab.gateway.fail_open.events();
    assert_eq!(events.len(), 1, "{events:?}");
    let event = &events[0];
    assert_eq!(
        [
            &event.client,
            &event.protocol,
            &event.username,
            &event.client_ip,
            &event.result,
            &event.reason,
            &event.source
        ],
        ["gitlab", "ldap", ANN, "127.0.0.1", "bypass", "fail_open", "fail_open"]
    );

    // Each condition missing alone: code, binds that the directory sees.
    let tries = async |what: &str, password: &str, code: u32, binds: usize| -> Result<()> {
        let before = lab.client_binds();
        assert_eq!(lab.connect().await?.bind(ANN, password).await?, code, "{what}");
        assert_eq!((lab.client_binds() - before, lab.gateway.fail_open.events().len()), (binds, 1), "{what}");
        Ok(())
    };
    tries("the password is wrong", "wrong,999999", 49, 1).await?;
    tries("a code is demanded all the same", &password_of(ANN), 49, 0).await?;
    lab.gateway.change_settings(|it| it.clients[0].when_unavailable_groups = vec![group("sales")]).await?;
    tries("she is in another group", &typed(), 49, 0).await?;
    lab.gateway.change_settings(|it| it.clients[0].when_unavailable_groups = vec![group("nobody")]).await?;
    tries("there is no such group", &typed(), 49, 0).await?;
    lab.gateway.change_settings(|it| it.clients[0].when_unavailable_groups = vec!["no DN".into()]).await?;
    tries("the group cannot be read", &typed(), 49, 0).await?;
    lab.gateway
        .change_settings(|it| {
            it.clients[0].when_unavailable_groups = vec![group("nobody"), group("engineering")];
            it.clients[0].when_unavailable_until = Some("2026-01-01T00:00:00Z".into());
        })
        .await?;
    tries("its end has passed", &typed(), 52, 0).await?;
    lab.gateway
        .change_settings(|it| {
            it.clients[0].when_unavailable_until = None;
            it.clients[0].when_unavailable = RefuseOrPass::Refuse;
        })
        .await?;
    tries("the client refuses", &typed(), 52, 0).await?;
    lab.gateway.change_settings(|it| it.clients[0].when_unavailable = RefuseOrPass::Pass).await?;
    lab.gateway.fail_open.away(true);
    tries("nowhere to write", &typed(), 52, 1).await?;
    lab.gateway.fail_open.away(false);
    assert_eq!(lab.connect().await?.bind(ANN, &typed()).await?, 0, "and all together");
    assert_eq!(lab.gateway.fail_open.events().len(), 2);

    // Verification decides again as soon as it is there.
    lab.gateway.verification.misbehave(Misbehaviour::None);
    let deadline = Instant::now() + Duration::from_secs(10);
    while lab.connect().await?.bind(ANN, &typed()).await? != 49 {
        assert!(Instant::now() < deadline, "it is back, and is not asked");
    }
    assert_eq!(lab.connect().await?.bind(ANN, &format!("{},111111", password_of(ANN))).await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_slow_or_nonsense_lets_nobody_in() -> Result<()> {
    // V-41, V-42: {timeout, slow 30 s, garbage reply, empty reply, wrong transaction id} x {refuse, pass}, each longer than the
    // breaker waits. "Refused" x {refuse, pass} is the test above.
    let lab = Lab::start(Wanted::default()).await?;
    let faults = [
        ("timeout", Misbehaviour::Slow(Duration::from_secs(3_600))),
        ("slow 30 s", Misbehaviour::Slow(Duration::from_secs(30))),
        ("garbage reply", Misbehaviour::Garbage),
        ("empty reply", Misbehaviour::Empty),
        ("wrong transaction id", Misbehaviour::ForeignTransaction),
        ("wrong client", Misbehaviour::ForeignClient),
    ];
    let mut gateways = Vec::new();
    for (name, fault) in faults {
        for (mode, wanted) in [("refuse", client("gitlab")), ("pass", passing())] {
            let wanted = Wanted { client: wanted, ..Wanted::default() };
            let gateway = Running::start(directory_of(&lab.slapd), wanted, &lab.pki).await?;
            gateway.verification.misbehave(fault.clone());
            gateways.push((name, mode, gateway));
        }
    }
    tokio::time::sleep(Duration::from_secs(35)).await;
    let cells = gateways.iter().map(async |(name, mode, gateway)| -> Result<String> {
        let begun = Instant::now();
        let mut wire = gateway.connect_tls(&lab.tls).await?;
        let id = wire.send_bind(ANN, &typed(), &[]).await?;
        // wait_seconds is 10 here.
        let answer = tokio::time::timeout(Duration::from_secs(11), wire.receive_late()).await??;
        let code = ldap_wire::LdapResult::decode(&answer)?.code.0;
        let cell = format!("{name} x {mode}: {code} after {:.1} s", begun.elapsed().as_secs_f32());
        assert!(answer.id() == id && matches!(code, 49 | 52), "{cell}");
        assert_eq!(gateway.fail_open.events(), [], "{cell}");
        Ok(cell)
    });
    for cell in futures::future::try_join_all(cells).await? {
        eprintln!("{cell}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wait_for_a_person_is_ended_by_the_client_that_hangs_up() -> Result<()> {
    // L-13, FL-09: the prompt is withdrawn, though verification was about to be given up
    let lab = Lab::start(Wanted::default()).await?;
    lab.gateway.verification.enrol(ANN, &["111111"]);
    lab.gateway.verification.hold();
    let mut wire = lab.connect().await?;
    wire.send_bind(ANN, &format!("{},111111", password_of(ANN)), &[]).await?;
    until("the person is asked", || !lab.gateway.verification.attempts().is_empty()).await?;
    drop(wire);
    let cancelled = || {
        let calls = lab.gateway.verification.calls();
        calls.iter().any(|call| matches!(call, crate::support::Call::Cancel(reason) if reason == "user_cancelled"))
    };
    until("the prompt is withdrawn", cancelled).await?;
    lab.gateway.verification.release();
    Ok(())
}
