//! Second-factor methods and what they prove.

use serde::{Deserialize, Serialize};

/// Declares a closed list of codes once: variant, code, what it means.
macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$note:meta])* $variant:ident = $code:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $($(#[$note])* #[serde(rename = $code)] $variant,)* }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable code: never translated, never renamed.
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            pub fn from_code(code: &str) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }
        }
    };
}
pub(crate) use codes;

codes! {
    /// A second step a person can take (FV-02 to FV-10). The order is the one in which a client that says nothing offers them.
    Method {
        /// The person approves on the phone (FV-05).
        Push = "push",
        /// The phone rings, the person presses # (FV-02).
        Call = "call",
        /// A code is sent to the phone and typed (FV-03).
        Sms = "sms",
        /// A text asks, and the person answers it (FV-04). Off unless the settings switch it on: replies get lost.
        SmsReply = "sms_reply",
        /// A one-time code from an authenticator app or a token (RFC 4226, RFC 6238; FV-06, FV-07).
        Code = "code",
        /// One of the codes printed at enrolment (FV-09).
        Recovery = "recovery",
        /// WebAuthn with user verification (FV-08). The portal and the API alone.
        Passkey = "passkey",
        /// Answers to security questions (FV-10). The portal's sign-in alone, off unless switched on, never enough to add a method.
        Questions = "questions",
    }
}

impl Method {
    /// A message or call goes out and the person answers on the phone: nothing is typed at the client.
    pub fn is_out_of_band(self) -> bool {
        matches!(self, Self::Push | Self::Call | Self::SmsReply)
    }

    /// What a success by this method proves, number matching aside.
    pub fn assurance(self) -> Assurance {
        match self {
            Self::Push | Self::SmsReply => Assurance::ApproveOnly,
            Self::Call | Self::Sms => Assurance::Phone,
            Self::Code | Self::Recovery => Assurance::Code,
            Self::Passkey => Assurance::Passkey,
            Self::Questions => Assurance::None,
        }
    }
}

codes! {
    /// What a successful login proved, recorded with it (V-03, FV-15). Ordered from weakest to strongest.
    Assurance {
        /// The password alone: exempt, service account, unknown or not enrolled user let pass.
        None = "none",
        /// Approved on the phone, without anything carried from one channel to the other.
        ApproveOnly = "approve_only",
        /// A number of the telephone network was reached.
        Phone = "phone",
        Code = "code",
        /// Approved on the phone with the number that the client showed.
        NumberMatched = "number_matched",
        Passkey = "passkey",
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
