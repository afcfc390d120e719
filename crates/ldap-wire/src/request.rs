//! The check every client message passes before anything else looks at it (L-03).

use crate::ber;
use crate::bind::BindRequest;
use crate::extended::{self, ExtendedRequest};
use crate::message::{DecodeError, Message, Op};
use crate::modify;
use crate::search::SearchRequest;

/// L-03.
pub const DEPTH_MAX: usize = 128;

/// Is this request sound, and within the bounds? Never recursive; cost grows with the size of the message only.
pub fn validate_request(message: &Message) -> Result<(), DecodeError> {
    // First the filter's own bounds, so that a deep filter is refused as such and does not end the connection.
    match message.op() {
        Op::BindRequest => drop(BindRequest::decode(message)?),
        Op::SearchRequest => drop(SearchRequest::decode(message)?),
        Op::ModifyRequest => drop(modify::changes_password(message)?),
        Op::AddRequest => drop(modify::adds_password(message)?),
        Op::ExtendedRequest => drop(ExtendedRequest::decode(message)?),
        Op::AbandonRequest => drop(extended::abandon_target(message)?),
        _ => {}
    }
    message.controls()?;
    Ok(ber::check_structure(message.octets(), DEPTH_MAX)?)
}
