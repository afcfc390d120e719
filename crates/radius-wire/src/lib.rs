//! RADIUS on the wire, without sockets, clocks or randomness: time and random octets are arguments.
//!
//! It owns what a packet means and whether it is genuine; it knows no users, decides no login and does not log.
//! One request, in the order in which the modules are used (A1, A3, A4, A5):
//!
//! ```text
//! datagram -> packet (steps 1, 4-8) -> authenticator (9-11) -> exchanges (duplicates, look_alike) -> access_request -> password | state
//!                                                                                                          reply <-'
//! ```
//!
//! The gateway does steps 2 and 3 (which client is it, has it sent too much) between [`Datagram::new`] and
//! [`Datagram::packet`]. Where a home server checks the first factor, the same request goes on and its answer comes back
//! (A6, A8):
//!
//! ```text
//! verified request -> forward -> home (Identifiers, retransmission, alive or dead) -> home_reply -> reply
//! ```
//!
//! Attributes by name, for who adds, reads or forwards them (R-55, R-69, R-70):
//!
//! ```text
//! dictionary (names, places, types) -> value (one value as text) -> pairs (names and texts to attributes)
//!                                   -> nested (what is inside)   -> items (attributes to names and texts)
//!                                                                -> hidden (secrets, and their way to the next hop)
//! ```
//!
//! [`eap`] is the little a relay must know of EAP, [`stream`] finds the packets in a RadSec connection, and [`request`]
//! writes requests from nothing: those of our own test client and load generator, and Status-Server.

mod access_request;
mod accounting;
mod attribute;
mod authenticator;
mod dictionary;
mod drop_reason;
pub mod eap;
mod exchanges;
mod forward;
mod hidden;
mod home;
mod home_reply;
mod items;
mod look_alike;
pub mod ms_chap;
mod nested;
mod packet;
mod pairs;
mod password;
mod reply;
mod request;
mod state;
mod stream;
mod value;
mod write;

pub use access_request::{AccessRequest, Credentials, RequestError};
pub use accounting::{AccountingRequest, AcctStatus};
pub use attribute::{Attribute, AttributeType, OwnedAttribute, Vendor};
pub use authenticator::{Lesson, Rule, Rules, Secret, Secrets, Sent, Verified, verify_reply, verify_request};
pub use dictionary::{
    Definition, Dictionary, DictionaryError, DictionaryFault, DictionaryVendor, Hiding, ValueType, VendorFormat,
};
pub use drop_reason::DropReason;
pub use exchanges::{ExchangeId, ExchangeKey, ExchangeLimits, Exchanges, Fingerprint, Received, Transport};
pub use forward::{Forward, LoopTag, Rewrite};
pub use hidden::{HidingError, HidingKey, Rehide, RehideError, Salts};
pub use home::{
    Due, Heard, Home, HomeLimits, HomeState, Outgoing, Place, RequestId, Retransmission, Room, SocketNumber,
    StatusCheck, choose,
};
pub use home_reply::{HomeReply, Relayed, Verdict};
pub use items::Item;
pub use look_alike::{LookAlike, readdressed};
pub use nested::Place as AttributePlace;
pub use packet::{ATTRIBUTES_MAX, Code, Datagram, PACKET_OCTETS_MAX, Packet, Port};
pub use pairs::{Pair, PairError, PairFault};
pub use password::{Charset, HiddenPassword, Password, PasswordError};
pub use reply::{Prompt, Relay, Reply};
pub use request::{Request, RequestCode};
pub use state::{KeyRing, SEALED_STATE_OCTETS, State, StateError};
pub use stream::{BrokenStream, PacketStream};
pub use value::ValueError;
pub use write::{WriteError, write_reply, write_unsigned};
