//! SASL mechanisms that leave the stream as it is (L-36): PLAIN, which is a simple bind in other words, and EXTERNAL, whose proof is
//! the certificate of the TLS connection.

use crate::bind::{Authentication, BindRequest, Password};
use bytes::Bytes;

pub const PLAIN: &str = "PLAIN";
pub const EXTERNAL: &str = "EXTERNAL";

/// What stands in the credentials of PLAIN: `[authzid] NUL authcid NUL passwd` (RFC 4616 section 2).
pub struct Plain<'a> {
    /// Whom one wants to be taken for; empty = for whom one is.
    pub authorization: &'a [u8],
    pub name: &'a [u8],
    pub password: &'a [u8],
}

impl<'a> Plain<'a> {
    /// `None` where it is something else: a NUL too few or too many.
    pub fn decode(credentials: &'a [u8]) -> Option<Self> {
        let mut parts = credentials.split(|octet| *octet == 0);
        let (authorization, name, password) = (parts.next()?, parts.next()?, parts.next()?);
        parts.next().is_none().then_some(Self { authorization, name, password })
    }

    /// Does it ask to be taken for oneself? As the name alone, or in the forms of RFC 4513 section 5.2.1.8.
    pub fn is_for_oneself(&self) -> bool {
        let plainly = |prefix: &[u8]| self.authorization.strip_prefix(prefix) == Some(self.name);
        self.authorization.is_empty() || plainly(b"") || plainly(b"u:") || plainly(b"dn:")
    }
}

impl BindRequest {
    /// Whom it names, as it was sent: the name of a simple bind, or that of PLAIN, which ignores the other (RFC 4513 section 5.2).
    pub fn typed_name(&self) -> &[u8] {
        self.plain().map_or(&self.name, |plain| plain.name)
    }

    pub(crate) fn plain(&self) -> Option<Plain<'_>> {
        match &self.authentication {
            Authentication::Sasl { mechanism, credentials: Some(credentials) } if mechanism == PLAIN => {
                Plain::decode(credentials.expose())
            }
            _ => None,
        }
    }
}

impl From<Plain<'_>> for BindRequest {
    fn from(plain: Plain<'_>) -> Self {
        Self::simple(Bytes::copy_from_slice(plain.name), Password::new(plain.password))
    }
}
