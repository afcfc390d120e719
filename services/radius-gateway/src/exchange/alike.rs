//! Requests that wait for what a look-alike is answered with: one in work here, or at another node.

use super::shared::{Given, Hold, Joined, Lost, SharedRequests};
use super::table::{Interrupted, Running, ended};
use super::{Begun, Job, Known, WITHDRAWAL, claim, send, withdrawn};
use crate::listener::Request;
use crate::{Gateway, attributes};
use radius_wire::{Code, ExchangeId, HidingKey, LookAlike, Rehide, Rewrite, readdressed};
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};

/// Why a look-alike waits no more for what another node works on.
pub(super) enum NotAwaited {
    /// The client goes on with it at another node, or the process stops.
    Here,
    /// Another request has its place.
    Anywhere,
}

/// Whether another node works on a look-alike, and what it answers.
pub(super) async fn join(
    gateway: &Gateway,
    shared: &SharedRequests,
    request: &Request,
    id: &ExchangeId,
    alike: &LookAlike,
    begun: &mut Begun,
    running: &Running,
) -> Result<Joined, NotAwaited> {
    let mut joining = pin!(shared.join(alike, begun.transaction, request.deadline()));
    loop {
        // Cancel safety: `keep` may be dropped at any time, and the others only wait.
        tokio::select! {
            joined = &mut joining => return Ok(joined),
            // The other node may let the person in: where the process stops, a Reject from here would say otherwise.
            why = running.interrupted() => return Err(match why {
                Interrupted::Orphaned => NotAwaited::Anywhere,
                Interrupted::Stopping => NotAwaited::Here,
            }),
            lost = begun.hold.keep() => {
                gateway.exchanges.forget(id);
                if !gateway.exchanges.is_awaited(id) {
                    return Err(match lost {
                        Lost::Replaced => NotAwaited::Anywhere,
                        Lost::Superseded | Lost::TakenOver => NotAwaited::Here,
                    });
                }
            }
        }
    }
}

/// A look-alike of a request in work here: it gets the same answer, in its own words.
pub(super) async fn wait_along(job: &Job, known: &Known, mut answered: watch::Receiver<Option<Arc<Given>>>) {
    let Job { gateway, request, id, running } = job;
    let mut hold = Hold::default();
    if let Some(shared) = &gateway.requests {
        let Some(packet) = claim(gateway, shared, request, id, known).await else { return };
        if let Some(orphan) = packet.orphan() {
            // whoever works on that one hears of it now. What is waited for here was begun before, and does not wait for that.
            let (gateway_of_task, key) = (gateway.clone(), packet.key().to_owned());
            gateway.shutdown.spawn(async move {
                if let Some(shared) = &gateway_of_task.requests {
                    withdrawn(&gateway_of_task, shared, &orphan, &key).await;
                }
            });
        }
        hold = shared.hold(packet);
    }
    let orphaned = async {
        // Where the process stops, whoever works on it says so, and answers.
        if running.interrupted().await == Interrupted::Stopping {
            std::future::pending::<()>().await;
        }
    };
    // Cancel safety: all of them only wait.
    let waited = tokio::select! {
        given = answered.wait_for(Option::is_some) => Ok(given.ok().and_then(|given| given.clone())),
        () = orphaned => Ok(None),
        lost = hold.keep() => Err(lost),
    };
    match waited {
        Ok(Some(given)) => pass_on(gateway, request, id, &given, hold).await,
        Ok(None) => {
            gateway.exchanges.forget(id);
            hold.release().await;
        }
        Err(Lost::Replaced) => {
            // Whoever has replaced it is told when what it waited for is closed, too.
            if gateway.exchanges.abandon(id) {
                let _ = timeout(WITHDRAWAL, ended(&mut answered)).await;
            }
        }
        Err(Lost::Superseded | Lost::TakenOver) => gateway.exchanges.forget(id),
    }
}

/// Answers a request with what its look-alike was answered with.
pub(super) async fn pass_on(gateway: &Gateway, request: &Request, id: &ExchangeId, given: &Given, mut hold: Hold) {
    let Some(octets) = readdress(gateway, request, given) else {
        gateway.exchanges.forget(id);
        return hold.release().await;
    };
    if octets.first() == Some(&(Code::AccessReject as u8)) {
        // Cancel safety: `keep` may be dropped at any time, and the other only waits.
        tokio::select! {
            () = sleep_until(request.received + gateway.config.reject_delay()) => {}
            // it is answered from here no more, whoever has its place or goes on with it.
            _ = hold.keep() => return gateway.exchanges.forget(id),
        }
    }
    if gateway.exchanges.answer(id, octets.as_slice().into()) {
        send(request, &octets).await;
    }
    hold.answered(&Given { authenticator: given.authenticator, octets }).await;
}

fn readdress(gateway: &Gateway, request: &Request, given: &Given) -> Option<Vec<u8>> {
    let verified = request.verified();
    let to = verified.hiding_key();
    // What is hidden was hidden with the authenticator of the request it answered (RFC 2868 section 3.5, RFC 2548 section 2.4).
    let from = HidingKey { secret: to.secret, authenticator: &given.authenticator };
    let dictionary = gateway.settings.dictionary();
    let mut rehide = Rehide::new(&dictionary, from, to, attributes::salts());
    let mut whole = true;
    let octets = readdressed(&given.octets, &verified, &mut |attribute| {
        attributes::hidden(&mut rehide, attribute).unwrap_or_else(|_| {
            whole = false;
            Rewrite::Drop
        })
    });
    match octets {
        Some(Ok(octets)) if whole => Some(octets),
        // The first of them has its answer; this one is asked again as a request of its own.
        _ => {
            tracing::warn!(
                service = crate::NAME,
                client = request.client.name(),
                "the answer to a request cannot be given to its look-alike"
            );
            None
        }
    }
}
