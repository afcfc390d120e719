//! The client of Kerberos version 5 (RFC 4120) and of its GSS-API mechanism (RFC 4121), without sockets, clocks or randomness: time and
//! a source of random octets are arguments.
//!
//! ```text
//! Login: start() ──> the KDC ──> next(reply) ─┬─> Ask ──> the KDC ──> next ...            once for some hours
//!                                             └─> Granted(Ticket): to ask for others
//! ServiceAsked::new(ticket) ──> the KDC ──> read(reply) ──> Ticket: for one service
//! Initiator::new(ticket) ──> the service ──> accept(token) ──> Session: seals and unseals what follows
//! ```
//!
//! Only what is still safe to ask for is spoken: AES with 128 or 256 bits (RFC 3962), mutual authentication, and a key of its own for each
//! session. Where TLS is around it, the token names the TLS channel (RFC 5929), so that it is good for no other.
//!
//! A KDC's reply and a service's token are hostile until a key that only the domain knows has opened them. What cannot be opened decides
//! nothing but that there is no ticket; an error that a KDC sends is signed by nobody, and whoever is in between can send one.

mod crypto;
mod error;
mod keytab;
mod login;
mod message;
mod service;
mod session;

pub use crypto::{Encryption, Key, Random, WrongKey};
pub use error::{KdcError, ReplyError};
pub use keytab::{Keytab, KeytabError};
pub use login::{Credential, Login, Step, Ticket};
pub use message::{Principal, Timestamp};
pub use service::ServiceAsked;
pub use session::{Initiator, Layer, Session, SessionError};

/// Of one answer of a KDC. A ticket of somebody in very many groups has 64 KiB.
pub const REPLY_OCTETS_MAX: usize = 256 << 10;
