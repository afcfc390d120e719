//! Whose turn it is where more logins come than can be worked on (T-10).

use super::{Arrived, Begun, Job, still_wanted, take_up};
use crate::listener::Drop;
use login_queue::Entered;
use tokio::time::Instant;

/// A request that is this node's, when its turn has come (T-10). `None`: it is another's, or dropped because nothing was heard of it while it
/// waited; whoever sent it has given up, or sends it again and is new.
pub(super) async fn in_turn(job: &Job, arrived: Box<Arrived>) -> Option<Box<Begun>> {
    let Job { gateway, request, id, running } = job;
    let in_turn = arrived.in_turn;
    let mut begun = take_up(job, arrived).await?;
    // Of one that another node had begun somebody may have been asked.
    if !in_turn || begun.taken_over {
        return Some(begun);
    }
    let Entered::Waits(turn) = gateway.queue.enter(&request.client.settings.name, id.serial(), Instant::now()) else {
        return Some(begun);
    };
    let mut came = false;
    let wanted = still_wanted(gateway, id, &mut begun.hold, running, async { came = turn.await.is_ok() }).await;
    if wanted && came {
        return Some(begun);
    }
    gateway.exchanges.forget(id);
    begun.hold.release().await;
    if wanted {
        gateway.drop_packet(Some(&request.client), request.verified().packet().octets(), &request.path, Drop::Late);
    }
    None
}
