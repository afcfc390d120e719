//! Hidden values: User-Password, Tunnel-Password, the keys of MPPE and what vendors hide like them (R-55, B-28).
//!
//! They are hidden for one secret and one Request Authenticator. A proxy has two of each, so what it forwards has to be
//! hidden anew; which attributes these are, the dictionary says. Everything else passes octet for octet.

use crate::attribute::Attribute;
use crate::authenticator::Secret;
use crate::dictionary::{Dictionary, Hiding};
use crate::nested::{self, Place};
use md5::{Digest, Md5};
use std::borrow::Cow;
use std::ops::Range;
use zeroize::Zeroizing;

pub(crate) const BLOCK_OCTETS: usize = 16;

/// What a value is hidden with: the shared secret, and the Request Authenticator of the request, also in its replies.
#[derive(Clone, Copy)]
pub struct HidingKey<'a> {
    pub secret: &'a Secret,
    pub authenticator: &'a [u8; 16],
}

/// Salts for one packet. No two of them are equal (RFC 2868 section 3.5), and all have their first bit set.
pub struct Salts(u16);

impl Salts {
    /// `random` is new for each packet.
    pub fn new(random: u16) -> Self {
        Self(random)
    }

    fn next(&mut self) -> [u8; 2] {
        let salt = self.0 | 0x8000;
        self.0 = self.0.wrapping_add(1);
        salt.to_be_bytes()
    }
}

/// Why a value cannot be hidden or revealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HidingError {
    /// The sender's fault.
    #[error("the hidden value has a size that is not possible")]
    Size,
    /// The sender's fault.
    #[error("the first bit of the salt is not set")]
    Salt,
    /// Sender and receiver hold different secrets, or the sender's fault.
    #[error("the length inside the hidden value is longer than the value: the shared secret differs")]
    InnerLength,
    /// More octets than an attribute can hide. The fault of whoever gave the value.
    #[error("the value is too long to be hidden")]
    TooLong,
    /// A value in several attributes. No known attribute is both.
    #[error("a hidden value in several attributes is not supported")]
    Fragmented,
}

impl Hiding {
    /// The clear value. Padding is left out where the form says how long the value is (Tunnel-Password); else it is
    /// there, as NULs at the end.
    pub fn reveal(self, hidden: &[u8], key: HidingKey<'_>) -> Result<Zeroizing<Vec<u8>>, HidingError> {
        let mut clear = self.reveal_blocks(hidden, key)?;
        if self == Self::TunnelPassword {
            let inner = clear.first().copied().map_or(0, usize::from);
            clear.rotate_left(1); // there is a block at least
            clear.truncate(inner);
        }
        Ok(clear)
    }

    /// The value as it is sent, without tag.
    pub fn hide(self, clear: &[u8], key: HidingKey<'_>, salts: &mut Salts) -> Result<Vec<u8>, HidingError> {
        let mut padded = Zeroizing::new(Vec::with_capacity(clear.len() + 2 * BLOCK_OCTETS)); // never grows
        if self == Self::TunnelPassword {
            padded.push(u8::try_from(clear.len()).map_err(|_| HidingError::TooLong)?);
        }
        padded.extend(clear);
        let blocks = padded.len().div_ceil(BLOCK_OCTETS).max(1);
        if blocks > self.blocks_max() {
            return Err(HidingError::TooLong);
        }
        padded.resize(blocks * BLOCK_OCTETS, 0);
        Ok(self.hide_blocks(&padded, key, salts))
    }

    /// RFC 2865 section 5.2: 128 octets. Otherwise what an attribute holds, with tag and salt where there are any.
    fn blocks_max(self) -> usize {
        match self {
            Self::UserPassword => 8,
            Self::TunnelPassword => 15,
            Self::AscendSecret => 1,
        }
    }

    /// All blocks in clear, with padding and the length inside, which is checked.
    fn reveal_blocks(self, hidden: &[u8], key: HidingKey<'_>) -> Result<Zeroizing<Vec<u8>>, HidingError> {
        let (salt, blocks) = match self {
            Self::TunnelPassword => hidden.split_first_chunk::<2>().ok_or(HidingError::Size)?,
            Self::UserPassword | Self::AscendSecret => (&[0; 2], hidden),
        };
        let possible = blocks.len().is_multiple_of(BLOCK_OCTETS) && !blocks.is_empty();
        if !possible || blocks.len() > self.blocks_max() * BLOCK_OCTETS {
            return Err(HidingError::Size);
        }
        let mut clear = Zeroizing::new(blocks.to_vec());
        match self {
            Self::UserPassword => reveal_chain(&mut clear, &[key.authenticator], key.secret),
            Self::AscendSecret => mask(&mut clear, &ascend_mask(key)),
            Self::TunnelPassword => {
                if salt[0] & 0x80 == 0 {
                    return Err(HidingError::Salt);
                }
                reveal_chain(&mut clear, &[key.authenticator, salt], key.secret);
                if clear.first().is_none_or(|inner| usize::from(*inner) >= clear.len()) {
                    return Err(HidingError::InnerLength);
                }
            }
        }
        Ok(clear)
    }

    /// The other direction, for whole blocks.
    fn hide_blocks(self, clear: &[u8], key: HidingKey<'_>, salts: &mut Salts) -> Vec<u8> {
        match self {
            Self::UserPassword => {
                let mut hidden = clear.to_vec();
                hide_chain(&mut hidden, &[key.authenticator], key.secret);
                hidden
            }
            Self::TunnelPassword => {
                let salt = salts.next();
                let mut hidden = [&salt, clear].concat();
                hide_chain(&mut hidden[salt.len()..], &[key.authenticator, &salt], key.secret);
                hidden
            }
            Self::AscendSecret => {
                let mut hidden = clear.to_vec();
                mask(&mut hidden, &ascend_mask(key));
                hidden
            }
        }
    }
}

/// Hides the attributes of one packet anew, for whom it is forwarded to. Give it all of them, in order.
pub struct Rehide<'a> {
    dictionary: &'a Dictionary,
    from: HidingKey<'a>,
    to: HidingKey<'a>,
    salts: Salts,
    /// What the attribute before goes on with.
    continued: Option<Place>,
}

/// An attribute that cannot be hidden anew. To forward it as it came would be useless; the caller leaves it out or
/// refuses the packet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} cannot be hidden for the next hop")]
pub struct RehideError {
    pub name: String,
    #[source]
    pub cause: HidingError,
}

impl<'a> Rehide<'a> {
    pub fn new(dictionary: &'a Dictionary, from: HidingKey<'a>, to: HidingKey<'a>, salts: Salts) -> Self {
        Self { dictionary, from, to, salts, continued: None }
    }

    /// The value to forward. It has the length of what came, and the very octets where nothing is hidden.
    pub fn value<'p>(&mut self, attribute: Attribute<'p>) -> Result<Cow<'p, [u8]>, RehideError> {
        let unchanged = Cow::Borrowed(attribute.value);
        if let Some(fragment) = nested::fragment(self.dictionary, attribute) {
            let continues = self.continued.as_ref() == Some(&fragment.place);
            self.continued = fragment.more.then_some(fragment.place);
            if continues || fragment.more {
                return match nested::hidden_below(self.dictionary, &fragment.place) {
                    Some(name) => Err(RehideError { name: name.to_owned(), cause: HidingError::Fragmented }),
                    None => Ok(unchanged),
                };
            }
        } else {
            self.continued = None;
        }
        let mut hidden = Vec::new(); // stays empty, and so without allocation, for nearly all attributes
        nested::leaves(self.dictionary, attribute, |leaf| {
            if let Some((definition, hiding)) = leaf.definition.and_then(|known| Some((known, known.hiding()?))) {
                hidden.push((definition, hiding, leaf.range));
            }
        });
        let mut value = unchanged;
        for (definition, hiding, range) in hidden {
            let tag = usize::from(definition.has_tag()).min(range.len());
            let range = range.start + tag..range.end;
            let anew = self.anew(&value, hiding, range.clone());
            let anew = anew.map_err(|cause| RehideError { name: definition.name().to_owned(), cause })?;
            if let Some(place) = value.to_mut().get_mut(range) {
                place.copy_from_slice(&anew); // as many blocks as there were
            }
        }
        Ok(value)
    }

    fn anew(&mut self, value: &[u8], hiding: Hiding, range: Range<usize>) -> Result<Vec<u8>, HidingError> {
        let clear = hiding.reveal_blocks(value.get(range).unwrap_or_default(), self.from)?;
        Ok(hiding.hide_blocks(&clear, self.to, &mut self.salts))
    }
}

/// Takes the masks from whole blocks: MD5 over the secret and the seed, then over the secret and the hidden block before.
pub(crate) fn reveal_chain(octets: &mut [u8], seed: &[&[u8]], secret: &Secret) {
    let mut next = chain_mask(secret, seed);
    for block in octets.chunks_mut(BLOCK_OCTETS) {
        let this = std::mem::replace(&mut next, chain_mask(secret, &[block]));
        mask(block, &this);
    }
}

pub(crate) fn hide_chain(octets: &mut [u8], seed: &[&[u8]], secret: &Secret) {
    let mut next = chain_mask(secret, seed);
    for block in octets.chunks_mut(BLOCK_OCTETS) {
        mask(block, &next);
        next = chain_mask(secret, &[block]);
    }
}

fn chain_mask(secret: &Secret, seed: &[&[u8]]) -> [u8; BLOCK_OCTETS] {
    let digest = Md5::new().chain_update(secret.octets());
    seed.iter().fold(digest, |digest, part| digest.chain_update(part)).finalize().into()
}

/// Here the authenticator comes before the secret.
fn ascend_mask(key: HidingKey<'_>) -> [u8; BLOCK_OCTETS] {
    Md5::new().chain_update(key.authenticator).chain_update(key.secret.octets()).finalize().into()
}

fn mask(octets: &mut [u8], mask: &[u8; BLOCK_OCTETS]) {
    octets.iter_mut().zip(mask).for_each(|(octet, mask)| *octet ^= mask);
}
