//! Ports that are open only while somebody may come to them (FL-01, FR-01).

use crate::chain;
use crate::health::Condition;
use std::error::Error;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The tasks that serve open ports. Dropping them closes the ports.
pub type Open = JoinSet<()>;

/// How often a port that is taken is tried again.
const TRIED_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Opens ports when `wanted` begins to hold of what `changes` tells, and closes them when it ends to. A port that cannot be opened
/// then is tried again until it can, and until then the condition is not met and says why. `open`: those that are open already.
pub async fn while_wanted<T, E: Error + 'static>(
    mut changes: watch::Receiver<T>,
    wanted: impl Fn(&T) -> bool,
    mut open: Option<Open>,
    mut opens: impl FnMut() -> Result<Open, E>,
    condition: Condition,
) {
    let mut trouble = String::new();
    loop {
        let wanted = wanted(&changes.borrow_and_update());
        if !wanted {
            if open.take().is_some() {
                tracing::info!("ports are closed: there is nobody who may come, by the settings");
            }
            trouble.clear();
            condition.set(true, "off: there is nobody who may come");
        } else if open.is_some() {
            condition.set_ready(true);
        } else {
            match opens() {
                Ok(opened) => {
                    open = Some(opened);
                    trouble.clear();
                    condition.set_ready(true);
                }
                Err(error) => {
                    let text = chain(&error) + way_out(&error);
                    if text != trouble {
                        tracing::error!(event = "ports_not_opened", error = %text, "ports cannot be opened; tried until they can");
                    }
                    condition.set(false, text.clone());
                    trouble = text;
                }
            }
        }
        // Cancel safety: both only say that it is time to look.
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { std::future::pending::<()>().await },
            () = tokio::time::sleep(TRIED_AGAIN_AFTER), if wanted && open.is_none() => {}
        }
    }
}

/// What to do about it, where that is known.
fn way_out(error: &(dyn Error + 'static)) -> &'static str {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::PermissionDenied) {
            return "; ports below 1024 need CAP_NET_BIND_SERVICE: AmbientCapabilities=CAP_NET_BIND_SERVICE in the systemd unit, or \
                    setcap cap_net_bind_service=+ep on the program";
        }
        cause = error.source();
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, ErrorKind};

    #[derive(Debug, thiserror::Error)]
    #[error("the port cannot be opened")]
    struct Refused(#[source] io::Error);

    #[test]
    fn who_lacks_the_right_to_a_port_learns_how_to_give_it() {
        assert!(way_out(&Refused(ErrorKind::PermissionDenied.into())).contains("AmbientCapabilities"));
        assert_eq!(way_out(&Refused(ErrorKind::AddrInUse.into())), "");
    }
}
