//! Whose turn it is where more logins come than can be worked on (T-10).

use super::{Arrived, Begun, End, Job, Over, begin, finish, refuse, still_wanted, take_up};
use crate::listener::Drop;
use crate::metrics::{PacketCode, PacketOutcome};
use domain::Reason;
use login_queue::{Entered, Turn};
use std::time::Duration;
use tokio::time::Instant;

/// How long before its client gives up whoever has waited in vain is told so: the line is looked through once a second, and an answer
/// takes its way.
const TOLD_BEFORE: Duration = Duration::from_secs(2);

/// A request that is this node's, when its turn has come (T-10). `None`: it is another's; or refused, because its turn did not come in
/// time; or dropped, because it was repeated and is no longer: whoever sent it has given up, or sends it again and is new.
pub(super) async fn in_turn(job: &Job, arrived: Box<Arrived>) -> Option<Box<Begun>> {
    let Job { gateway, request, id, running } = job;
    let in_turn = arrived.in_turn;
    let mut begun = take_up(job, arrived).await?;
    // Of one that another node had begun somebody may have been asked.
    if !in_turn || begun.taken_over {
        return Some(begun);
    }
    let until = request.deadline() - TOLD_BEFORE;
    let entered = gateway.queue.enter(&request.client.settings.name, id.serial(), until, Instant::now());
    let Entered::Waits(turn) = entered else { return Some(begun) };
    let mut told = None;
    let wanted = still_wanted(gateway, id, &mut begun.hold, running, async { told = turn.await.ok() }).await;
    match told {
        Some(Turn::Comes) if wanted => return Some(begun),
        Some(Turn::InVain) if wanted => Box::pin(overloaded(job, *begun)).await,
        _ => {
            gateway.exchanges.forget(id);
            begun.hold.release().await;
            if wanted {
                let octets = request.verified().packet().octets();
                gateway.drop_packet(Some(&request.client), octets, &request.path, Drop::Late);
            }
        }
    }
    None
}

/// Nobody came to look at it, and whoever asked would wait for nothing.
async fn overloaded(job: &Job, begun: Begun) {
    let Job { gateway, request, .. } = job;
    gateway.metrics.packet(request.client.name(), PacketCode::AccessRequest, PacketOutcome::Ok);
    let Begun { transaction, likeness, taken_over: _, hold } = begun;
    let mut attempt = begin(request, transaction, likeness);
    let answer = refuse(gateway, request, &mut attempt, Reason::Overloaded, false);
    let (superseded, stepped_back) = (false, false);
    let over = Over { attempt, hold, end: End::Settled, settled: Some(answer.into()), superseded, stepped_back };
    finish(job, over).await;
}
