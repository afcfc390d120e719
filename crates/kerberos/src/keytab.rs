//! A file of keys, as MIT Kerberos writes it: version 5.2, whose numbers have their high octets first.

use crate::crypto::{Encryption, Key};
use crate::message::Principal;

/// The keys of a file that can be used here.
pub struct Keytab {
    entries: Vec<Entry>,
}

struct Entry {
    principal: Principal,
    /// Which of the account's keys it is: each new password has the next.
    version: u32,
    key: Key,
}

/// The file is not one, or not whole. The administrator's to mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeytabError {
    #[error("it is no keytab of version 5.2")]
    NotAKeytab,
    #[error("it ends in the middle of an entry")]
    Truncated,
    #[error("it has no key for AES")]
    NoKey,
}

/// Of a file; a host has a few kilobytes.
const OCTETS_MAX: usize = 1 << 20;

impl Keytab {
    pub fn parse(octets: &[u8]) -> Result<Self, KeytabError> {
        let mut rest = match octets.strip_prefix(&[5, 2]) {
            Some(rest) if octets.len() <= OCTETS_MAX => rest,
            _ => return Err(KeytabError::NotAKeytab),
        };
        let mut entries = Vec::new();
        while let Some((length, behind)) = rest.split_first_chunk::<4>() {
            let length = i32::from_be_bytes(*length);
            let size = usize::try_from(length.unsigned_abs()).map_err(|_| KeytabError::Truncated)?;
            let (content, behind) = behind.split_at_checked(size).ok_or(KeytabError::Truncated)?;
            rest = behind;
            // A hole, where an entry was, has a negative length.
            if length > 0 {
                entries.extend(Fields(content).entry()?);
            }
        }
        if !rest.is_empty() && rest.iter().any(|octet| *octet != 0) {
            return Err(KeytabError::Truncated);
        }
        if entries.is_empty() { Err(KeytabError::NoKey) } else { Ok(Self { entries }) }
    }

    /// Whose it is: the first account in it. A domain gives tickets to accounts, which have no slash in their name, and not to the services
    /// that they run; where there are only those, the first.
    pub fn principal(&self) -> &Principal {
        let mut principals = self.entries.iter().map(|entry| &entry.principal);
        let first = principals.clone().next().expect("no keytab is empty");
        principals.find(|principal| principal.parts.len() == 1).unwrap_or(first)
    }

    /// The newest of this principal, strongest first.
    pub fn keys(&self, principal: &Principal) -> Vec<Key> {
        let own = || self.entries.iter().filter(|entry| entry.principal.is_same(principal));
        let newest = own().map(|entry| entry.version).max();
        let of = |encryption: Encryption| {
            own().find(|entry| Some(entry.version) == newest && entry.key.encryption() == encryption)
        };
        Encryption::ALL.into_iter().filter_map(of).map(|entry| entry.key.clone()).collect()
    }
}

/// What has not been read of an entry.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// `None`: its key is for something else than AES.
    fn entry(mut self) -> Result<Option<Entry>, KeytabError> {
        let count = self.number()?;
        let realm = self.text()?;
        let parts = (0..count).map(|_| self.text()).collect::<Result<Vec<_>, _>>()?;
        let kind = i32::from_be_bytes(self.take()?);
        self.take::<4>()?; // when it was written
        let [short] = self.take()?;
        let encryption = Encryption::of_number(self.number()?.into());
        let length = self.number()?;
        let key = self.octets(length)?;
        // A version beyond 255 stands behind the key.
        let long = self.take().map(u32::from_be_bytes).ok().filter(|version| *version != 0);
        let key = encryption.and_then(|encryption| Key::new(encryption, key));
        let version = long.unwrap_or_else(|| short.into());
        Ok(key.map(|key| Entry { principal: Principal { kind, parts, realm }, version, key }))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], KeytabError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(KeytabError::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn number(&mut self) -> Result<u16, KeytabError> {
        self.take().map(u16::from_be_bytes)
    }

    fn octets(&mut self, length: u16) -> Result<&'a [u8], KeytabError> {
        let (taken, rest) = self.0.split_at_checked(length.into()).ok_or(KeytabError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn text(&mut self) -> Result<String, KeytabError> {
        let length = self.number()?;
        Ok(String::from_utf8_lossy(self.octets(length)?).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(parts: &[&str], version: u32, encryption: u16, key: &[u8]) -> Vec<u8> {
        let text = |text: &str| [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat();
        let mut octets = (parts.len() as u16).to_be_bytes().to_vec();
        octets.extend(text("LAB.TEST"));
        parts.iter().for_each(|part| octets.extend(text(part)));
        octets.extend([0, 0, 0, 1, 0, 0, 0, 0, version as u8]);
        octets.extend(encryption.to_be_bytes());
        octets.extend((key.len() as u16).to_be_bytes());
        octets.extend(key);
        octets.extend(version.to_be_bytes());
        [&(octets.len() as u32).to_be_bytes()[..], &octets].concat()
    }

    #[test]
    fn the_newest_keys_of_an_account_are_taken() {
        let hole = [&(-7_i32).to_be_bytes()[..], &[9; 7]].concat();
        let file = [
            vec![5, 2],
            entry(&["host", "vpn"], 3, 18, &[1; 32]),
            hole,
            entry(&["VPN$"], 299, 18, &[2; 32]),
            entry(&["VPN$"], 300, 23, &[3; 16]),
            entry(&["VPN$"], 300, 17, &[4; 16]),
            entry(&["VPN$"], 300, 18, &[5; 32]),
        ];
        let keytab = Keytab::parse(&file.concat()).expect("good");
        let whose = keytab.principal().clone();
        assert_eq!(whose.to_string(), "VPN$@LAB.TEST");
        let keys: Vec<_> = keytab.keys(&whose).iter().map(|key| key.octets().to_vec()).collect();
        assert_eq!(keys, [vec![5; 32], vec![4; 16]]);
        assert!(keytab.keys(&Principal::user("vpn$", "LAB.TEST")).is_empty(), "names are compared as they are");
        for (broken, why) in [
            (vec![5, 1], KeytabError::NotAKeytab),
            (vec![5, 2], KeytabError::NoKey),
            ([vec![5, 2], entry(&["VPN$"], 1, 23, &[3; 16])].concat(), KeytabError::NoKey),
            (file.concat()[..60].to_vec(), KeytabError::Truncated),
            ([file.concat(), vec![1]].concat(), KeytabError::Truncated),
        ] {
            assert_eq!(Keytab::parse(&broken).err(), Some(why));
        }
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Keytab::parse(&[&[5, 2], octets.as_slice()].concat());
            let whole = [&[5, 2], &(octets.len() as u32).to_be_bytes()[..], &octets].concat();
            let _ = Keytab::parse(&whole);
        }
    }
}
