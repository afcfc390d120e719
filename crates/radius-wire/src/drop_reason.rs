//! Why a packet gets no answer. The texts are the drop codes of A1: log field and metric label alike.

/// The reason for a silent discard. Always the peer's fault (or that of whoever forged the packet); nothing is sent back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.as_str())]
pub enum DropReason {
    /// Fewer than 20 octets.
    Short,
    /// No client is configured for the source address.
    UnknownClient,
    /// The source used up its packet budget.
    Rate,
    /// A Code that this port does not take.
    Code,
    /// The Length field is out of range or promises more than was received.
    Len,
    /// The attributes do not fill the packet exactly.
    Attr,
    /// More attributes than allowed.
    TooMany,
    /// A Message-Authenticator of the wrong size, or two of them.
    MaForm,
    /// A Message-Authenticator was required.
    MaMissing,
    /// Proxy-State without Message-Authenticator: the shape of a BlastRADIUS attack (CVE-2024-3596).
    Blast,
    /// The Message-Authenticator is wrong: another secret, or forged.
    MaBad,
    /// The Request or Response Authenticator is wrong: another secret, or forged.
    RaBad,
}

impl DropReason {
    pub const ALL: [Self; 12] = [
        Self::Short,
        Self::UnknownClient,
        Self::Rate,
        Self::Code,
        Self::Len,
        Self::Attr,
        Self::TooMany,
        Self::MaForm,
        Self::MaMissing,
        Self::Blast,
        Self::MaBad,
        Self::RaBad,
    ];

    /// The drop code of A1.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::UnknownClient => "unknown_client",
            Self::Rate => "rate",
            Self::Code => "code",
            Self::Len => "len",
            Self::Attr => "attr",
            Self::TooMany => "too_many",
            Self::MaForm => "ma_form",
            Self::MaMissing => "ma_missing",
            Self::Blast => "blast",
            Self::MaBad => "ma_bad",
            Self::RaBad => "ra_bad",
        }
    }
}
