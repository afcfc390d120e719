//! The LDAP client side: connections to the organisation's directory, names resolved to immutable ids, passwords checked,
//! users read for the sync.
//!
//! ```text
//! Directories ── by name ──> Directory ─┬─ resolve(TypedName) ──> Entry        query pool: a few shared, pipelined connections
//!                                       ├─ authenticate(Entry) ─> Accepted     bind-only connections; no operation ever runs on them
//!                                       ├─ connect() ───────────> Upstream     a raw stream of its own for one client of the LDAP gateway;
//!                                       │                                      in a storm it was opened ahead
//!                                       ├─ changes(Position) ──> Changes       which objects changed, on a connection of its own
//!                                       ├─ read(Query) ─────────> Reading      a connection of its own, page by page
//!                                       ├─ inspect(Trial) ────> Inspection    of settings that are not saved yet: Directory::draft
//!                                       └─ probe() ─────────────> Vec<Probed>  what `twinlock check --connect` shows
//! ```
//!
//! Whoever wants to know who is meant searches the directory and takes the immutable id (R-60); names are never compared here.
//! Who signs in at a directory is asked for with `Directories::resolve`: their name may be an alternate one of another directory (FD-19), or belong to
//! another domain (FD-02).
//! No decision is made in here, and nothing durable is kept. Names and passwords are in no span and no log line.
//!
//! ```ignore
//! let directories = Directories::new(Options::default());
//! for refused in directories.replace(wanted) { /* name and why */ }
//! let directory = directories.named("corp").ok_or(...)?;
//! let name = TypedName::parse("CORP\\alice", directory.settings())?;
//! let entry = directory.resolve(&name).await?;                   // errors: ResolveError, .reason()
//! let accepted = directory.authenticate(&entry, &password).await?; // errors: BindError, .reason()
//! ```

mod ahead;
mod base;
mod bind;
mod connect;
mod connection;
mod controls;
mod directories;
mod directory;
mod discover;
mod divide;
mod domains;
mod exchange;
mod feed;
pub mod inspect;
mod name;
mod observe;
mod password_stamp;
mod pool;
mod probe;
mod query;
mod read;
mod resolve;
mod sealed;
mod server;
mod session;
mod spnego;
mod tickets;
mod tls;
mod trusted;
mod watch;
mod wrong;

pub use bind::{Accepted, BindError, Verdict};
pub use connect::{Channel, ConnectError, Stream, TlsFault, Upstream};
pub use connection::{Broken, Protected};
pub use directories::{Directories, OtherDomain, OtherDomains, RefusedDirectory};
pub use directory::{Directory, Options, SettingsError};
pub use exchange::{Ended, Exchange, LogonError, Step};
pub use feed::{Changes, Event, FeedError, FeedKind, FullRead, Offer, Origin, Position, seconds_of_generalized_time};
pub use name::{NameError, TypedName};
pub use observe::{Health, Observation, Observer, Operation, Outcome, ServerHealth, ServerState};
pub use password_stamp::PASSWORD_CHANGED;
pub use probe::{Found, ProbeError, Probed};
pub use query::QueryError;
pub use read::{Incomplete, Query, Read, Reader, Reading, of_ids};
pub use resolve::{BadEntry, Entry, NoAccount, ResolveError};
pub use server::ServerName;
pub use tickets::TicketError;
pub use tls::TrustError;
pub use trusted::{NotUsed, TrustKind, TrustedDomain};
pub use wrong::{Attempted, WrongPasswords};
