//! The clocks of a connection, and the ways in which it ends.

use super::{Connection, Far, Next};
use crate::reply;
use ldap_wire::connection::State;
use ldap_wire::{LdapResult, Op};
use std::future::Future;
use std::task::{Context, Poll};
use tokio::time::Instant;

impl Connection {
    /// The first clock that runs out. None runs for a bind: it has its own deadline, and always ends.
    fn deadline(&self) -> Option<Instant> {
        let half_message = self.near.unfinished_since().map(|since| since + self.timeouts.read);
        let stalled = self.near.stalled_since().map(|since| since + self.timeouts.write_stall);
        let far_stalled = match &self.far {
            Far::Open(far) => far.stalled_since().map(|since| since + self.timeouts.write_stall),
            Far::None | Far::Connecting { .. } => None,
        };
        let idle = (!self.is_working()).then(|| {
            let bound = matches!(self.wire.state(), State::Bound(_));
            self.last_activity + if bound { self.timeouts.bound_idle } else { self.timeouts.unbound_idle }
        });
        let limited = self.client.policy.time_limit_seconds != 0;
        let search_ends = limited.then(|| self.wire.next_end()).flatten().map(Instant::from_std);
        [half_message, stalled, far_stalled, idle, search_ends].into_iter().flatten().min()
    }

    pub(super) fn poll_timer(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        let Some(deadline) = self.deadline() else { return Poll::Pending };
        if deadline <= now {
            return Poll::Ready(());
        }
        // A clock that was put off only makes the timer look once too often; one that comes sooner has to be set.
        if deadline < self.timer.deadline() || self.timer.is_elapsed() {
            self.timer.as_mut().reset(deadline);
        }
        self.timer.as_mut().poll(cx)
    }

    pub(super) fn overdue(&mut self) -> Next {
        let now = Instant::now();
        let overdue = self.wire.end_overdue(now.into_std());
        let ended = !overdue.is_empty();
        for limited in overdue {
            if let end @ (Next::StartTls | Next::Close | Next::Unbind | Next::Gone) = self.limit_reached(limited, now) {
                return end;
            }
        }
        let far_stalled = match &self.far {
            Far::Open(far) => far.stalled_since().is_some_and(|since| since + self.timeouts.write_stall <= now),
            Far::None | Far::Connecting { .. } => false,
        };
        if far_stalled {
            return self.upstream_lost();
        }
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.wire.closed();
            return Next::Gone;
        }
        if ended { self.after_work() } else { Next::Go }
    }

    fn is_working(&self) -> bool {
        self.bind_is_pending() || self.wire.outstanding() > 0 || !self.near.is_drained()
    }

    /// Something has ended: a draining node lets the connection go when it was the last, and new settings may count now.
    pub(super) fn after_work(&mut self) -> Next {
        if self.outdated && !self.follow_settings(None) {
            return self.end(&reply::unavailable());
        }
        if self.draining { self.drained() } else { Next::Go }
    }

    pub(super) fn drained(&mut self) -> Next {
        if self.bind_is_pending() || self.wire.outstanding() > 0 {
            return Next::Go;
        }
        self.say_goodbye(&reply::shutting_down())
    }

    /// Whatever is still in work gets its 52, then the notice (L-19).
    pub(super) fn end(&mut self, why: &LdapResult) -> Next {
        let now = Instant::now();
        if let State::PrimaryPending(id) | State::SecondPending(id) = self.wire.state() {
            self.bind = None;
            self.near.send(why.encode(id, Op::BindResponse, &[]), now);
        }
        let lost = self.wire.upstream_lost();
        lost.answers.into_iter().for_each(|answer| self.near.send(answer, now));
        self.say_goodbye(why)
    }

    fn say_goodbye(&mut self, why: &LdapResult) -> Next {
        self.wire.closed();
        self.near.send(ldap_wire::result::notice_of_disconnection(why), Instant::now());
        Next::Close
    }
}
