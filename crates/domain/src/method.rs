//! Second-factor methods and what they prove.

use serde::{Deserialize, Serialize};

/// A second step a person can take. New methods join here and in `Method::ALL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// A one-time code from an authenticator app or token (RFC 6238).
    Code,
}

impl Method {
    pub const ALL: [Self; 1] = [Self::Code];

    pub fn code(self) -> &'static str {
        match self {
            Self::Code => "code",
        }
    }

    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.code() == code)
    }
}

/// What a successful login proved, recorded with it (V-03, FV-15). Ordered from weakest to strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Assurance {
    /// The password alone: exempt, service account, unknown or not enrolled user let pass.
    None,
    Code,
}

impl Assurance {
    pub const ALL: [Self; 2] = [Self::None, Self::Code];

    pub fn code(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Code => "code",
        }
    }

    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assurance| assurance.code() == code)
    }
}

/// The hash of a TOTP token (RFC 6238, section 1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum CodeAlgorithm {
    Sha1,
    Sha256,
    Sha512,
}

impl CodeAlgorithm {
    pub const ALL: [Self; 3] = [Self::Sha1, Self::Sha256, Self::Sha512];

    /// As written in an otpauth URI.
    pub fn code(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
            Self::Sha512 => "SHA512",
        }
    }

    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.code() == code)
    }
}

/// The shape of a TOTP token's codes. Parsed once, valid ever after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CodeForm {
    algorithm: CodeAlgorithm,
    digits: u8,
    period_seconds: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCodeForm {
    #[error("found {found} digits; a code has 6, 7 or 8")]
    Digits { found: u32 },
    #[error("found a period of {found} seconds; allowed are 30 and 60")]
    Period { found: u32 },
}

impl CodeForm {
    /// SHA-1, 6 digits, 30 seconds: the only form every authenticator app understands.
    pub const COMMON: Self = Self { algorithm: CodeAlgorithm::Sha1, digits: 6, period_seconds: 30 };

    pub fn new(algorithm: CodeAlgorithm, digits: u32, period_seconds: u32) -> Result<Self, BadCodeForm> {
        let digits = match digits {
            6..=8 => digits as u8,
            found => return Err(BadCodeForm::Digits { found }),
        };
        let period_seconds = match period_seconds {
            30 | 60 => period_seconds as u8,
            found => return Err(BadCodeForm::Period { found }),
        };
        Ok(Self { algorithm, digits, period_seconds })
    }

    pub fn algorithm(self) -> CodeAlgorithm {
        self.algorithm
    }

    pub fn digits(self) -> u8 {
        self.digits
    }

    pub fn period_seconds(self) -> u64 {
        u64::from(self.period_seconds)
    }
}
