//! Where the feeds of a directory continue: its own, and one of each other domain that is read with it (FS-04). Pure.
//!
//! Of a directory that is read alone it is stored as ever: a position, and nothing around it.

use directory::Position;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Kept by the store, of no meaning to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Positions {
    /// Of the directory's own domain; `None` = its feed gave none.
    pub(crate) own: Option<Position>,
    /// By long names in lower case, those that the last full run read.
    pub(crate) others: BTreeMap<String, OtherPosition>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OtherPosition {
    /// Who the domain is, whatever server answers (S-44).
    pub(crate) identity: String,
    pub(crate) position: Option<Position>,
}

/// It was written by something that knows more, or not by us.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("where the last run stopped cannot be read")]
pub(crate) struct Unreadable;

impl Positions {
    pub(crate) fn read(stored: &[u8]) -> Result<Self, Unreadable> {
        if stored.is_empty() {
            return Ok(Self::default());
        }
        if let Ok(own) = serde_json::from_slice::<Position>(stored) {
            return Ok(Self { own: Some(own), others: BTreeMap::new() });
        }
        serde_json::from_slice(stored).map_err(|_| Unreadable)
    }

    /// As the store keeps it; empty = there is none.
    pub(crate) fn written(&self) -> Vec<u8> {
        let written = match (&self.own, self.others.is_empty()) {
            (None, true) => return Vec::new(),
            (Some(own), true) => serde_json::to_vec(own),
            (_, false) => serde_json::to_vec(self),
        };
        written.expect("a position holds texts and numbers")
    }

    /// Of a domain; `None` = the directory's own.
    pub(crate) fn of(&self, domain: Option<&str>) -> Option<&Position> {
        match domain {
            None => self.own.as_ref(),
            Some(name) => self.others.get(name)?.position.as_ref(),
        }
    }

    /// The feed of a domain continues here. Of another one that is not among these nothing is kept.
    pub(crate) fn continues(&mut self, domain: Option<&str>, position: Position) {
        self.set(domain, Some(position));
    }

    /// Nobody knows where the feed of a domain continues.
    pub(crate) fn ends(&mut self, domain: Option<&str>) {
        self.set(domain, None);
    }

    fn set(&mut self, domain: Option<&str>, position: Option<Position>) {
        match domain {
            None => self.own = position,
            Some(name) => {
                if let Some(other) = self.others.get_mut(name) {
                    other.position = position;
                }
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// By syncrepl, with this cookie in Base64.
    pub(crate) fn position(cookie: &str) -> Position {
        let text = format!(r#"{{"server":"ldaps://dc1","base":"DC=corp","feed":"syncrepl","cookie":"{cookie}"}}"#);
        serde_json::from_str(&text).expect("a position")
    }

    fn other(identity: &str, position: Option<Position>) -> OtherPosition {
        OtherPosition { identity: identity.to_owned(), position }
    }

    #[test]
    fn a_directory_that_is_read_alone_keeps_its_position_as_ever() {
        // FS-04: what an earlier version wrote goes on, and what this one writes an earlier one reads
        let stored = serde_json::to_vec(&position("eA==")).expect("JSON");
        let read = Positions::read(&stored).expect("as ever");
        assert_eq!((read.own.as_ref(), read.others.len()), (Some(&position("eA==")), 0));
        assert_eq!(read.written(), stored);
        assert_eq!(Positions::read(b"").expect("none yet"), Positions::default());
        assert!(Positions::default().written().is_empty());
        for nonsense in [b"x".as_slice(), b"{}", b"[]", br#"{"own":null,"others":{},"more":1}"#] {
            assert_eq!(Positions::read(nonsense), Err(Unreadable), "{nonsense:?}");
        }
    }

    #[test]
    fn each_domain_has_a_position_of_its_own() {
        // FS-04, S-53
        let others = [("a.test", other("A", Some(position("YQ==")))), ("b.test", other("B", None))];
        let others = others.map(|(name, other)| (name.to_owned(), other));
        let mut positions = Positions { own: None, others: others.into() };
        assert_eq!(Positions::read(&positions.written()), Ok(positions.clone()), "also without one of its own");
        positions.continues(None, position("eA=="));
        positions.continues(Some("b.test"), position("Yg=="));
        positions.continues(Some("nobody.test"), position("Yg=="));
        let read = Positions::read(&positions.written()).expect("as it was written");
        assert_eq!(read, positions);
        assert_eq!(read.of(None), Some(&position("eA==")));
        assert_eq!(read.of(Some("a.test")), Some(&position("YQ==")));
        assert_eq!(read.of(Some("b.test")), Some(&position("Yg==")));
        assert_eq!((read.of(Some("nobody.test")), read.others.len()), (None, 2));
        positions.ends(Some("a.test"));
        assert_eq!((positions.of(Some("a.test")), positions.others["a.test"].identity.as_str()), (None, "A"));
    }
}
