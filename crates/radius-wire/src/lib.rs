//! RADIUS on the wire, without sockets, clocks or randomness: time and random octets are arguments.
//!
//! It owns what a packet means and whether it is genuine; it knows no users, decides no login and does not log.
//! One request, in the order in which the modules are used (A1, A3, A4, A5):
//!
//! ```text
//! datagram -> packet (steps 1, 4-8) -> authenticator (9-11) -> exchanges (duplicates) -> access_request -> password | state
//!                                                                                                          reply <-'
//! ```
//!
//! The gateway does steps 2 and 3 (which client is it, has it sent too much) between [`Datagram::new`] and
//! [`Datagram::packet`]. [`request`] is the other side: what our own test client and load generator send.

mod access_request;
mod attribute;
mod authenticator;
mod drop_reason;
mod exchanges;
mod packet;
mod password;
mod reply;
mod request;
mod state;
mod write;

pub use access_request::{AccessRequest, Credentials, RequestError};
pub use attribute::{Attribute, AttributeType, Vendor};
pub use authenticator::{Lesson, Rule, Rules, Secret, Secrets, Sent, Verified, verify_reply, verify_request};
pub use drop_reason::DropReason;
pub use exchanges::{ExchangeId, ExchangeKey, ExchangeLimits, Exchanges, Fingerprint, Received, Transport};
pub use packet::{ATTRIBUTES_MAX, Code, Datagram, PACKET_OCTETS_MAX, Packet, Port};
pub use password::{Charset, HiddenPassword, Password, PasswordError};
pub use reply::{Prompt, Reply};
pub use request::{Request, RequestCode};
pub use state::{KeyRing, SEALED_STATE_OCTETS, State, StateError};
pub use write::{WriteError, write_unsigned};
