//! Every subject and map of the bus, in one table (docs/architecture.md). No service holds a subject string.
//!
//! Form: `twinlock.v1.<noun>.<what happened>[.<id>]`; ids are opaque, never names. Losing any of this costs a delay or a
//! retry, never a wrong answer.

/// Published by user-store when a user, their factors or their state changed: whoever serves them asks. Payload: none.
pub fn user_changed(user_id: &str) -> String {
    format!("twinlock.v1.user.changed.{user_id}")
}
/// Who changed, of a subject of that form.
pub fn changed_user(subject: &str) -> Option<&str> {
    subject.strip_prefix("twinlock.v1.user.changed.")
}
pub const USER_CHANGED: &str = "twinlock.v1.user.changed.*";

/// Published by user-store when settings changed. Payload: the revision in decimal.
pub const SETTINGS_CHANGED: &str = "twinlock.v1.settings.changed";

/// Asked for by user-store, done by the sync leader: a work queue. Payload: an encoded RequestSyncRequest.
pub const SYNC_REQUESTED: &str = "twinlock.v1.sync.requested";
pub const SYNC_STREAM: &str = "TWINLOCK_SYNC";

/// Published by user-store after commit: an audit event exists. Payload: its sequence in decimal.
pub fn auth_event(client: &str) -> String {
    // A subject token has no dots; client names may.
    format!("twinlock.v1.auth.event.{}", client.replace('.', "_"))
}
pub const AUTH_EVENTS: &str = "twinlock.v1.auth.event.*";
pub const EVENTS_STREAM: &str = "TWINLOCK_EVENTS";

/// Published by verification when a person answered a prompt, or it ended otherwise: whoever waits asks the store. Payload: none.
pub fn challenge_resolved(prompt_id: &str) -> String {
    format!("twinlock.v1.challenge.resolved.{prompt_id}")
}
pub const CHALLENGE_RESOLVED: &str = "twinlock.v1.challenge.resolved.*";

/// Open challenges and rounds. Life: the round and 30 s. Used by verification.
pub const CHALLENGES_MAP: &str = "twinlock_challenges";
/// Whose reply a text message from a number is. Life: a prompt's. Used by verification.
pub const REPLIES_MAP: &str = "twinlock_replies";
/// RADIUS requests in work or answered. Life: the reply's. Used by radius-gateway.
pub const REQUESTS_MAP: &str = "twinlock_requests";
/// What a later round needs of a home server: which one a State belongs to, what an Access-Accept held. Life: the round's and 30 s, 60 s
/// at least. Used by radius-gateway.
pub const AFFINITY_MAP: &str = "twinlock_affinity";
/// The sync leader's lease. Life: 10 s. Used by directory-sync.
pub const LEASES_MAP: &str = "twinlock_leases";
pub const SYNC_LEASE: &str = "directory-sync";
/// A host of `sync.preferred_nodes` that stands by, in the same map: its name. Used by directory-sync.
pub const SYNC_PREFERRED: &str = "directory-sync.preferred";
