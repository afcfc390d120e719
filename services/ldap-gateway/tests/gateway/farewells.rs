//! A client that asks for something and says goodbye in one segment, as asynchronous libraries do.

use crate::recorder::{BASE, InFront, PASSWORD, Recorder, Takes, dn_of};
use crate::support::{Misbehaviour, Wire, capture, client, until};
use anyhow::{Result, ensure};
use domain::settings::{Anonymous, Client};
use ldap_wire::ber::{self, Writer};
use ldap_wire::bind::unbind_request;
use ldap_wire::{MessageId, Op};
use std::time::{Duration, Instant};

const PEOPLE: &[&str] = &["ann"];

async fn lab(recorder: &Recorder, client: Client) -> Result<InFront> {
    let lab = recorder.behind_gateway(client).await?;
    lab.gateway.verification.misbehave(Misbehaviour::ByCode);
    Ok(lab)
}

async fn bound(lab: &InFront, code: u32) -> Result<Wire> {
    let mut wire = lab.gateway.connect_tls(&lab.tls).await?;
    ensure!(wire.bind("ann", &format!("{PASSWORD},{code}")).await? == 0);
    Ok(wire)
}

fn delete(id: MessageId, name: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.nested(ber::SEQUENCE, |w| {
        w.integer(ber::INTEGER, id.get().into());
        w.octets(Op::DelRequest.tag(), name);
    });
    writer.into_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_before_an_unbind_reaches_the_directory_and_so_does_the_unbind() -> Result<()> {
    // FL-12, L-06; RFC 4511 section 4.3
    let recorder = Recorder::start(PEOPLE, Takes::default()).await?;
    let lab = lab(&recorder, client("hasty")).await?;
    let mut wire = bound(&lab, 100_001).await?;
    let names: Vec<_> = (0..20).map(|number| format!("cn={number},{BASE}")).collect();
    let mut octets = Vec::new();
    for name in &names {
        octets.extend(delete(wire.next_id(), name.as_bytes()));
    }
    octets.extend_from_slice(&unbind_request(wire.next_id()));
    wire.send(&octets).await?;
    until("the goodbye", || recorder.unbound() == 1).await?;
    let seen = recorder.take_seen();
    assert!(seen.iter().all(|seen| seen.who == dn_of("ann")), "{seen:?}");
    assert_eq!(seen.into_iter().map(|seen| seen.about).collect::<Vec<_>>(), names);
    while let Some(answer) = wire.next().await? {
        assert_eq!(answer.op(), Op::DelResponse);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_asks_before_an_unbind_reaches_the_directory_though_it_is_not_connected_yet() -> Result<()> {
    // L-10, FL-16: on the connection that is opened for it
    let recorder = Recorder::start(PEOPLE, Takes::default()).await?;
    let lab = lab(&recorder, Client { anonymous: Anonymous::Forward, ..client("nobody") }).await?;
    let mut wire = lab.gateway.connect_tls(&lab.tls).await?;
    let name = format!("cn=gone,{BASE}");
    let delete = delete(wire.next_id(), name.as_bytes());
    let unbind = unbind_request(wire.next_id());
    wire.send(&[&delete[..], &unbind].concat()).await?;
    until("it to be asked for", || recorder.seen() > 0).await?;
    let seen: Vec<_> = recorder.take_seen().into_iter().map(|seen| (seen.who, seen.about)).collect();
    assert_eq!(seen, [(String::new(), name)]);
    Ok(())
}

#[test]
fn nobody_who_has_left_waits_for_long_on_a_directory_that_does_not_read() -> Result<()> {
    // L-05: more than the sockets hold
    capture::quiet_runtime()?.block_on(async {
        let recorder = Recorder::start(PEOPLE, Takes::default()).await?;
        let lab = lab(&recorder, client("stuck")).await?;
        let mut wire = bound(&lab, 100_001).await?;
        recorder.hold();
        let delete = delete(wire.next_id(), &vec![b'x'; (16 << 20) - 64]);
        let unbind = unbind_request(wire.next_id());
        wire.send(&[&delete[..], &unbind].concat()).await?;
        let left = Instant::now();
        wire.expect_silent_end().await?;
        let waited = left.elapsed();
        assert!(waited > Duration::from_millis(1_500) && waited < Duration::from_secs(6), "{waited:?}");
        Ok(())
    })
}
