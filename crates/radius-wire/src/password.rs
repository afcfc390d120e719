//! User-Password: hidden with MD5 and the shared secret (RFC 2865 section 5.2).
//!
//! A wrong secret shows here first, as noise. Noise must never reach a directory, which would count it as a wrong
//! password and lock the account.

use crate::authenticator::{Secret, Verified};
use crate::hidden::{self, BLOCK_OCTETS};
use zeroize::Zeroizing;

const PASSWORD_OCTETS_MAX: usize = 128;

/// The value of User-Password as received, with what opens it.
#[derive(Clone, Copy)]
pub struct HiddenPassword<'a> {
    octets: &'a [u8],
    authenticator: &'a [u8; 16],
    secret: &'a Secret,
}

impl<'a> HiddenPassword<'a> {
    pub(crate) fn new(octets: &'a [u8], request: &Verified<'a>) -> Self {
        Self { octets, authenticator: request.packet().authenticator(), secret: request.secret() }
    }

    /// The clear password. Padding (trailing NULs) is removed, nothing else.
    pub fn reveal(&self, charset: Charset) -> Result<Password, PasswordError> {
        Password::from_octets(self.octets()?, charset)
    }

    /// The same, whatever the octets mean: what a home server gets, as the device wrote it.
    pub(crate) fn octets(&self) -> Result<Zeroizing<Vec<u8>>, PasswordError> {
        if !(BLOCK_OCTETS..=PASSWORD_OCTETS_MAX).contains(&self.octets.len())
            || !self.octets.len().is_multiple_of(BLOCK_OCTETS)
        {
            return Err(PasswordError::Length);
        }
        let mut clear = Zeroizing::new(self.octets.to_vec());
        hidden::reveal_chain(&mut clear, &[self.authenticator], self.secret);
        while clear.pop_if(|octet| *octet == 0).is_some() {}
        Ok(clear)
    }
}

/// How a client writes its passwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Charset {
    #[default]
    Utf8,
    /// ISO 8859-1, as old devices send it. Turned into UTF-8, which is what LDAP wants (RFC 4513 section 5.1.3).
    Latin1,
}

/// A clear password: UTF-8, no NUL, zeroed on drop, never printed.
pub struct Password(Zeroizing<String>);

impl Password {
    fn from_octets(octets: Zeroizing<Vec<u8>>, charset: Charset) -> Result<Self, PasswordError> {
        if octets.contains(&0) {
            return Err(PasswordError::SecretMismatch);
        }
        let mut text = Zeroizing::new(String::with_capacity(octets.len() * 2)); // never grows, so no copy is left behind
        match charset {
            Charset::Utf8 => text.push_str(std::str::from_utf8(&octets).map_err(|_| PasswordError::SecretMismatch)?),
            Charset::Latin1 => text.extend(octets.iter().copied().map(char::from)),
        }
        Ok(Self(text))
    }

    pub fn expose(&self) -> &str {
        &self.0
    }

    /// An empty password never goes to a target.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Why a User-Password is no password. All of them end in Access-Reject without a word to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// The client's fault: not 16 to 128 octets in blocks of 16.
    #[error("the User-Password is not a multiple of 16 octets between 16 and 128")]
    Length,
    /// What came out is no text: client and server hold different secrets.
    #[error("the User-Password does not decrypt to text: the shared secret differs")]
    SecretMismatch,
}

/// The other direction, for requests of our own. None for more than 128 octets: a password is refused, never cut.
pub(crate) fn hide(password: &[u8], authenticator: &[u8; 16], secret: &Secret) -> Option<Vec<u8>> {
    if password.len() > PASSWORD_OCTETS_MAX {
        return None;
    }
    // An empty password is one block of padding: the attribute is never empty.
    let blocks = password.len().div_ceil(BLOCK_OCTETS).max(1);
    let mut octets = Vec::with_capacity(blocks * BLOCK_OCTETS); // never grows, so no copy is left behind
    octets.extend(password);
    octets.resize(blocks * BLOCK_OCTETS, 0);
    hidden::hide_chain(&mut octets, &[authenticator], secret);
    Some(octets)
}
