//! Bytes that must never be printed: passwords, codes, seeds, shared secrets.

use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A secret: no `Debug` of its content, no `Display`, no `Serialize`; zeroed when dropped (V-33).
///
/// The content leaves only through [`Secret::expose`], so that every place that touches one can be found by name.
#[derive(Clone, Default, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Secret(Vec<u8>);

impl Secret {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The content as text, where it is valid UTF-8.
    pub fn expose_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// Says that there is a secret, and nothing about it: not even its length.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text.as_bytes())
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_prints_as_stars_whatever_it_holds() {
        // V-33
        assert_eq!(format!("{:?}", Secret::from("hunter2")), "***");
        assert_eq!(format!("{:?}", Secret::default()), "***");
    }
}
