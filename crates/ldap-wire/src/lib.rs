//! LDAP (RFC 4511) as a proxy and a small client need it. Sans-io: octets in, octets and decisions out.
//!
//! ```text
//! octets ── frame ──> Message ── connection ──> Action          (what the gateway does with a client's message)
//!                        │  └─── bind, search, extended, ... ──> typed views, for the few messages that must be understood
//!                        └────── with_id ──────────────────────> the same octets under another message id
//! ```
//!
//! Everything that is not understood is forwarded as the original octets (L-06), so unknown controls and extensions survive.
//! No sockets, no clock, no log and no users in here.

pub mod ber;
pub mod bind;
pub mod connection;
pub mod control;
pub mod dirsync;
pub mod dn;
pub mod evaluate;
pub mod extended;
pub mod filter;
pub mod frame;
mod limit;
pub mod message;
pub mod modify;
pub mod oid;
pub mod referral;
pub mod request;
pub mod result;
pub mod root_dse;
pub mod sasl;
mod scope_query;
pub mod search;
pub mod sync;

pub use bind::{Authentication, BindRequest, BindResponse, Password};
pub use connection::{Action, ClientConnection, Policy};
pub use control::{Control, PagedResults};
pub use dirsync::DirSync;
pub use dn::{Dn, DnKey};
pub use evaluate::{Fit, Rules, Seen};
pub use extended::{ExtendedRequest, ExtendedResponse};
pub use filter::Filter;
pub use frame::{FrameError, Framer, Limits, Peer};
pub use message::{DecodeError, Message, MessageId, Op};
pub use request::validate_request;
pub use result::{LdapResult, ResultCode, Style};
pub use scope_query::{scope_query, scope_query_result};
pub use search::{Attribute, Scope, SearchRequest, SearchResultEntry};
pub use sync::{SyncDone, SyncInfo, SyncMode, SyncRequest, SyncState, SyncStateKind};
