//! Which server it was: by its URL, and by what it says of itself where one name may stand before several.

use std::fmt;

/// The server that something was read from. Prints as its URL and, where known, its own name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// As the settings name it.
    pub(crate) url: String,
    /// The dsServiceName of a domain controller, where that was asked for (MS-ADTS 3.1.1.3.2.14).
    pub(crate) dc: Option<String>,
}

impl Origin {
    /// As far as both are known.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let same_dc =
            self.dc.as_ref().zip(other.dc.as_ref()).is_none_or(|(own, other)| own.eq_ignore_ascii_case(other));
        self.url == other.url && same_dc
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)?;
        match &self.dc {
            Some(dc) => write!(f, " ({dc})"),
            None => Ok(()),
        }
    }
}
