//! Calls to verification that may wait for a person, many over one stream.
//!
//! A call of its own costs whoever waits a task, a stream of HTTP/2 and a request in each layer between: ten KiB, and a gateway may
//! have 50,000 of them. Here it is an entry in a table.
//!
//! ```text
//! gateway                                            verification (one stream to each replica)
//! Caller::begin ─ number, message ──────────────────> Answerer ─ a task for each: Verification::begin
//!    waits on its entry <──────────────── number, what came of it ─┘
//!    dropped ──────── number, leave ────────────────> the task is dropped, as a call that is reset would be
//! stream broke: all entries go to another replica, once (V-02: a repeated question gets the first one's result)
//! ```
//!
//! [`Caller`] is one more implementation of the generated trait: who holds it cannot tell. Calls that wait for nobody go as calls of
//! their own, and so does everything while a replica is of a version that knows no streams.

mod answerer;
mod caller;

pub use answerer::Answerer;
pub use caller::Caller;
