//! What the store knows about the subject, as a decision needs it.

use domain::Method;

/// `user` is `None` only where the subject is proven to be unknown; an error is never absence.
#[derive(Debug, Clone, Default)]
pub struct Facts<'a> {
    pub user: Option<User<'a>>,
}

#[derive(Debug, Clone)]
pub struct User<'a> {
    pub state: UserState,
    /// -1 = until somebody unblocks, 0 = not blocked (FV-25).
    pub blocked_until_unix_ms: i64,
    /// Clients by name, `*` = all, for which the factor is not asked; until when, 0 = without an end (FV-42).
    pub exempt_clients: &'a [String],
    pub exempt_until_unix_ms: i64,
    /// Object ids and DNs of the groups the user is in, directly or not.
    pub groups: &'a [String],
    /// Something is proven, though perhaps nobody can carry it now: a phone that was not seen for long, a provider that is off (V-25).
    pub enrolled: bool,
    /// Passes nowhere without a method, whatever a client says of users who have none (FS-24).
    pub must_enrol: bool,
    /// Methods the user has, proven and in force, that somebody can carry.
    pub methods: Vec<Method>,
    /// The user's own choice.
    pub default_method: Option<Method>,
    /// `None` = no restriction.
    pub allowed_methods: Option<Vec<Method>>,
    pub pin: Pin,
    /// A temporary code of the help desk is open (FV-29).
    pub temporary_code: bool,
    pub bypass: Option<Bypass<'a>>,
}

impl User<'_> {
    /// Somebody who has nothing yet.
    pub fn new(state: UserState) -> Self {
        Self {
            state,
            blocked_until_unix_ms: 0,
            exempt_clients: &[],
            exempt_until_unix_ms: 0,
            groups: &[],
            enrolled: false,
            must_enrol: false,
            methods: Vec::new(),
            default_method: None,
            allowed_methods: None,
            pin: Pin::default(),
            temporary_code: false,
            bypass: None,
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pin {
    /// The user has to use it, whatever the client says.
    pub required: bool,
    pub set: bool,
    /// Given by somebody else, or too old: changed at its next use (FV-21).
    pub must_change: bool,
    /// The initial one is past its time: it opens nothing.
    pub expired: bool,
    /// 0 = not locked; -1 = until somebody unlocks.
    pub locked_until_unix_ms: i64,
}

/// The next login needs no factor (FV-28).
#[derive(Debug, Clone, Copy)]
pub struct Bypass<'a> {
    /// Only for this client; empty = any.
    pub client: &'a str,
    pub expires_unix_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserState {
    Enabled,
    Disabled,
    Removed,
}

impl UserState {
    /// A state that this version does not know refuses (V-75).
    pub fn from_code(code: &str) -> Self {
        match code {
            "enabled" => Self::Enabled,
            "removed" => Self::Removed,
            _ => Self::Disabled,
        }
    }
}

/// A time until which something holds, as the store writes it: 0 = it does not, -1 = without an end.
pub(crate) fn holds_until(until_unix_ms: i64, now_unix_ms: i64) -> bool {
    until_unix_ms < 0 || until_unix_ms > now_unix_ms
}
