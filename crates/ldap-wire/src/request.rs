//! The check every client message passes before anything else looks at it (L-03), and what it found: no part is read twice.

use crate::ber;
use crate::bind::BindRequest;
use crate::control::Control;
use crate::extended::{self, ExtendedRequest};
use crate::message::{DecodeError, Message, MessageId, Op};
use crate::modify;
use crate::search::{SearchHead, SearchRequest};

/// L-03.
pub const DEPTH_MAX: usize = 128;

/// A sound request, as far as a gateway looks at it.
pub(crate) struct Request {
    pub kind: Kind,
    pub controls: Vec<Control>,
}

pub(crate) enum Kind {
    Bind(BindRequest),
    Search(SearchHead),
    Modify { changes_password: bool },
    Add { brings_password: bool },
    Extended(ExtendedRequest),
    Abandon { target: MessageId },
    Other,
}

/// Is this request sound, and within the bounds? Never recursive; cost grows with the size of the message only.
pub fn validate_request(message: &Message) -> Result<(), DecodeError> {
    read(message).map(drop)
}

pub(crate) fn read(message: &Message) -> Result<Request, DecodeError> {
    // First the filter's own bounds, so that a deep filter is refused as such and does not end the connection.
    let kind = match message.op() {
        Op::BindRequest => Kind::Bind(BindRequest::decode(message)?),
        Op::SearchRequest => Kind::Search(SearchRequest::head(message)?),
        Op::ModifyRequest => Kind::Modify { changes_password: modify::changes_password(message)? },
        Op::AddRequest => Kind::Add { brings_password: modify::adds_password(message)? },
        Op::ExtendedRequest => Kind::Extended(ExtendedRequest::decode(message)?),
        Op::AbandonRequest => Kind::Abandon { target: extended::abandon_target(message)? },
        _ => Kind::Other,
    };
    let controls = message.controls()?;
    ber::check_structure(message.octets(), DEPTH_MAX)?;
    Ok(Request { kind, controls })
}
