//! What a gateway does while verification is down: nothing, or, where the client's settings say `when_unavailable = "pass"`, let
//! in who had the right password (FV-45, V-40). The same for every gateway.
//!
//! ```text
//! every call ──> Presence ── breaker: ten questions of our own in a row, over 30 s, that nobody answered ──┐
//!                                                                                                         v
//! a login ──> admit (down? the client's rule? not past its end? in the group?) ──> one bind ──> record ──> Passed
//!                                                                                                 │ store, else spool
//!                                                            not one of them: no pass <───────────┘
//! ```
//!
//! Two rules keep an attacker from making it pass (V-41). Only the gateway's own question counts against verification, never a
//! login, so that no request anybody sends can do; and any answer to anybody, a refusal for overload too, closes the breaker at
//! once. What is slow is not down.
//!
//! Owns the breaker and the spool of events the store has not taken yet. Decides nothing else, and knows no protocol.

mod breaker;
mod membership;
mod presence;
mod record;
mod spool;

pub use breaker::Breaker;
pub use presence::Presence;
pub use record::{Admission, FailOpen, Login, NoPass, Passed};
