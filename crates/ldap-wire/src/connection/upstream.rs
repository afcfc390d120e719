//! What the upstream connection says, and that it is gone.

use super::{ClientConnection, Policy, RootDseSearch, State};
use crate::limit::Limited;
use crate::message::{DecodeError, Message, MessageId, Op};
use crate::referral;
use crate::result::{self, LdapResult, ResultCode};
use crate::root_dse;
use crate::search::SearchResultEntry;
use bytes::Bytes;

/// What the gateway does with a message of the upstream connection.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub enum FromUpstream {
    /// Send this to the client; more of the answer follows.
    Relay(Bytes),
    /// Send this to the client: the end of an operation, and how it ended.
    End { octets: Bytes, code: ResultCode },
    /// More than the client may have: the search ends here.
    Limited(Limited),
    /// Not for the client.
    Drop,
    /// Send this to the client, then close both (L-19).
    Disconnect(Bytes),
    /// Nothing of the kind was asked for: close the upstream connection and go on with `upstream_lost` (B-59).
    Violation,
}

/// What a client gets when its upstream connection is lost.
pub struct UpstreamLost {
    pub answers: Vec<Bytes>,
    /// If present: send and close.
    pub notice: Option<Bytes>,
}

impl ClientConnection {
    /// Decides about a message of the upstream connection.
    pub fn receive_upstream(&mut self, message: &Message) -> FromUpstream {
        if message.id() == MessageId::UNSOLICITED {
            return self.unsolicited(message);
        }
        let Some(outstanding) = self.outstanding.iter_mut().find(|it| it.id == message.id()) else {
            return self.late_answer(message);
        };
        let part = match message.op() {
            Op::SearchResultEntry | Op::SearchResultReference => outstanding.op == Op::SearchRequest,
            Op::IntermediateResponse => true,
            _ => false,
        };
        if !part && outstanding.op.response() != Some(message.op()) && !is_refusal(message) {
            return FromUpstream::Violation;
        }
        if outstanding.limit.reached {
            if !part {
                self.end_of(message.id());
            }
            return FromUpstream::Drop;
        }
        if message.op() == Op::SearchResultEntry && !outstanding.limit.takes_entry() {
            return FromUpstream::Limited(self.limit_reached(message.id()));
        }
        if !part {
            let Ok((octets, code)) = referral::result(&self.policy.referrals, message) else {
                return FromUpstream::Violation;
            };
            self.end_of(message.id());
            return FromUpstream::End { octets, code };
        }
        let relayed = match (message.op(), &outstanding.root_dse) {
            (Op::SearchResultReference, _) => referral::reference(&self.policy.referrals, message),
            (Op::SearchResultEntry, Some(search)) => rewritten_root_dse(message, search, &self.policy, self.tls),
            _ => Ok(Some(message.octets().clone())),
        };
        match relayed {
            Ok(relayed) => relayed.map_or(FromUpstream::Drop, FromUpstream::Relay),
            Err(_) => FromUpstream::Violation,
        }
    }

    /// Answers to an abandoned operation are dropped; the last one frees its id. All others were never asked for (B-59).
    fn late_answer(&mut self, message: &Message) -> FromUpstream {
        if !self.retired.contains(&message.id()) {
            return FromUpstream::Violation;
        }
        let part = matches!(message.op(), Op::SearchResultEntry | Op::SearchResultReference | Op::IntermediateResponse);
        if !part {
            self.free(message.id());
        }
        FromUpstream::Drop
    }

    fn unsolicited(&self, message: &Message) -> FromUpstream {
        // Active Directory puts the name of its notice outside of the response, so that it cannot be told by name. No other
        // notification exists in practice, and a wrong guess costs a connection.
        if message.op() == Op::ExtendedResponse {
            FromUpstream::Disconnect(message.octets().clone())
        } else {
            FromUpstream::Violation
        }
    }

    /// An abandoned operation never went upstream: its id is free again.
    pub fn never_sent(&mut self, id: MessageId) {
        self.free(id);
    }

    /// To be called again and again, each time after longer than any directory works on an operation. Frees the ids that were abandoned
    /// before the last call: most directories say nothing about what was abandoned (RFC 4511 section 4.11), and a client may count
    /// from 1 again (L-06). False when there is nothing left to forget.
    pub fn forget_abandoned(&mut self) -> bool {
        self.retired.drain(..self.retired_before);
        self.retired_before = self.retired.len();
        self.retired_before > 0
    }

    pub(super) fn free(&mut self, id: MessageId) {
        if let Some(place) = self.retired.iter().position(|retired| *retired == id) {
            self.retired.remove(place);
            self.retired_before -= usize::from(place < self.retired_before);
        }
    }

    /// The upstream connection is gone, or broke the protocol (L-19). What is outstanding is answered; a bound client is told to
    /// go, because binding again would need its password. An anonymous one may go on with a new upstream connection.
    pub fn upstream_lost(&mut self) -> UpstreamLost {
        let lost = LdapResult::with_diagnostic(ResultCode::UNAVAILABLE, "upstream lost");
        let mut lost_ones = std::mem::take(&mut self.outstanding);
        lost_ones.retain(|it| !it.limit.reached);
        lost_ones.sort_by_key(|it| it.id);
        let answers = lost_ones.iter().filter_map(|it| Some(lost.encode(it.id, it.op.response()?, &[]))).collect();
        self.forget_retired();
        if !matches!(self.state, State::Bound(_)) {
            return UpstreamLost { answers, notice: None };
        }
        self.state = State::Closed;
        UpstreamLost { answers, notice: Some(result::notice_of_disconnection(&lost)) }
    }
}

fn rewritten_root_dse(
    message: &Message,
    search: &RootDseSearch,
    policy: &Policy,
    tls: bool,
) -> Result<Option<Bytes>, DecodeError> {
    let entry = SearchResultEntry::decode(message)?;
    let entry = root_dse::rewrite(entry, &search.requested, search.types_only, policy, tls);
    Ok(Some(entry.encode(message.id(), &message.controls()?)))
}

/// Samba refuses a request of any kind, for a critical control that it does not know, with an ExtendedResponse. Clients hear it as
/// they would without us; a success of the wrong kind stays what it is (B-59).
fn is_refusal(message: &Message) -> bool {
    message.op() == Op::ExtendedResponse
        && LdapResult::decode(message).is_ok_and(|result| result.code != ResultCode::SUCCESS)
}
