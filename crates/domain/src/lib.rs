//! The words every part of Twinlock shares: identities, reasons, methods, settings.
//!
//! Types only. No I/O, no async, no clock, nothing random. What a login may do is decided in `policy`; how these
//! values travel between services is `proto`'s business.

pub mod attempt;
pub mod identity;
pub mod language;
pub mod method;
pub mod phone;
pub mod presented;
pub mod reason;
pub mod role;
pub mod secret;
pub mod settings;

pub use attempt::{Protocol, Source};
pub use identity::{DirectoryRef, NameForm, ObjectId, ObjectName, TransactionId, UserId};
pub use language::Language;
pub use method::{Assurance, CodeAlgorithm, CodeForm, Method};
pub use phone::PhoneNumber;
pub use presented::PresentedCode;
pub use reason::{Reason, ResultClass};
pub use role::Role;
pub use secret::Secret;
