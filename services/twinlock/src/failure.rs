//! How a command ends: exit codes are a promise to scripts.

use std::fmt;
use tonic::{Code, Status};

/// 0 = done, or the answer is yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, and the answer is no.
    No = 1,
    WrongUse = 2,
    /// What was needed could not be reached.
    Unreachable = 3,
    NotPermitted = 4,
    /// Somebody changed it first, or an approval is needed.
    Conflict = 5,
}

#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    text: String,
}

impl Failure {
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }

    pub fn no(text: impl Into<String>) -> Self {
        Self::new(Exit::No, text)
    }

    pub fn wrong_use(text: impl Into<String>) -> Self {
        Self::new(Exit::WrongUse, text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let exit = match status.code() {
            Code::Unavailable | Code::DeadlineExceeded => Exit::Unreachable,
            Code::PermissionDenied | Code::Unauthenticated => Exit::NotPermitted,
            Code::Aborted | Code::AlreadyExists | Code::FailedPrecondition => Exit::Conflict,
            Code::InvalidArgument => Exit::WrongUse,
            _ => Exit::No,
        };
        Self::new(exit, status.message())
    }
}
