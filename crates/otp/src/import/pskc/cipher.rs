//! What is encrypted in a container (RFC 6030 section 6): AES in CBC mode, and the MAC without which nobody would notice a change.

use super::{child, children, text};
use crate::import::{FileError, Opening, RowError, values};
use aes::cipher::{BlockModeDecrypt, KeyIvInit, block_padding::NoPadding};
use aes::{Aes128, Aes192, Aes256};
use domain::Secret;
use hmac::{Hmac, KeyInit, Mac};
use roxmltree::Node;
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

/// A maker's file has 1000 to 600 000; one that makes us count for hours is none.
const ROUNDS_MAX: u32 = 2_000_000;

/// The keys of a container; none where all of it is in clear.
pub struct Keys {
    encryption: Option<Secret>,
    mac: Option<(Digest, Secret)>,
}

#[derive(Clone, Copy)]
enum Digest {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Keys {
    pub fn of(container: Node<'_, '_>, opening: Opening<'_>) -> Result<Self, FileError> {
        let encrypted = container.descendants().any(|node| node.tag_name().name() == "EncryptedValue");
        if !encrypted {
            return Ok(Self { encryption: None, mac: None });
        }
        let encryption = encryption_key(container, opening)?;
        let mac = match child(container, "MACMethod") {
            None => None,
            Some(method) => {
                let digest = Digest::named(method.attribute("Algorithm").unwrap_or_default());
                let digest =
                    digest.ok_or(FileError::Encryption("the MAC is none of HMAC-SHA1, -SHA256, -SHA384, -SHA512"))?;
                let key = match child(method, "MACKey") {
                    // The first file that this key does not open.
                    Some(key) => decrypt(key, &encryption).map_err(|_| FileError::WrongKey)?,
                    // As files of before the RFC have it.
                    None => encryption.clone(),
                };
                Some((digest, key))
            }
        };
        Ok(Self { encryption: Some(encryption), mac })
    }

    /// The MAC over the octets as they are encrypted first, then what they say.
    pub fn open(&self, encrypted: Node<'_, '_>, mac: Option<Node<'_, '_>>) -> Result<Secret, RowError> {
        let key = self.encryption.as_ref().ok_or(RowError::Decryption)?;
        let ((digest, mac_key), mac) = self.mac.as_ref().zip(mac).ok_or(RowError::NoMac)?;
        let mac = values::base64(text(mac)).map_err(|_| RowError::WrongMac)?;
        if !digest.verifies(mac_key, cipher_value(encrypted)?.expose(), mac.expose()) {
            return Err(RowError::WrongMac);
        }
        decrypt(encrypted, key)
    }
}

/// Given, or made from a password by the rules of the file.
fn encryption_key(container: Node<'_, '_>, opening: Opening<'_>) -> Result<Secret, FileError> {
    let declared = child(container, "EncryptionKey");
    if declared.is_some_and(|declared| child(declared, "X509Data").is_some()) {
        return Err(FileError::Encryption("it is for the owner of a certificate"));
    }
    let derived = declared.and_then(|declared| child(declared, "DerivedKey"));
    match (derived, opening) {
        (None, Opening::Key(key)) => Ok(key.clone()).and_then(|key: Secret| match key.len() {
            16 | 24 | 32 => Ok(key),
            _ => Err(FileError::KeyLength),
        }),
        (None, _) => Err(FileError::KeyNeeded),
        (Some(derived), Opening::Password(password)) => derive(derived, password),
        (Some(_), _) => Err(FileError::PasswordNeeded),
    }
}

/// PBKDF2 (RFC 8018 section 5.2), as XML Encryption 1.1 writes its parameters.
fn derive(derived: Node<'_, '_>, password: &Secret) -> Result<Secret, FileError> {
    const UNKNOWN: FileError =
        FileError::Encryption("the key is not made with PBKDF2, or not all of how it is made is said");
    let method = child(derived, "KeyDerivationMethod").ok_or(UNKNOWN)?;
    if !method.attribute("Algorithm").unwrap_or_default().trim().ends_with("#pbkdf2") {
        return Err(UNKNOWN);
    }
    let parameters = children(method, "PBKDF2-params").next().ok_or(UNKNOWN)?;
    let salt = child(parameters, "Salt").and_then(|salt| child(salt, "Specified")).ok_or(UNKNOWN)?;
    let salt = values::base64(text(salt)).map_err(|_| UNKNOWN)?;
    let number = |name, otherwise: u32| {
        let found = child(parameters, name).map_or("", text);
        values::number(name, found, otherwise).map_err(|_| UNKNOWN)
    };
    let rounds = number("IterationCount", 0)?;
    if !(1..=ROUNDS_MAX).contains(&rounds) {
        return Err(FileError::Encryption("the password is to be hashed more than two million times, or never"));
    }
    let length = number("KeyLength", 16)?;
    let mut key = Zeroizing::new(match length {
        16 | 24 | 32 => vec![0; length as usize],
        _ => return Err(FileError::KeyLength),
    });
    // As attribute or, as some write it, as text; an empty element is the default.
    let prf = child(parameters, "PRF").and_then(|prf| prf.attribute("Algorithm").or_else(|| prf.text()));
    let (password, salt) = (password.expose(), salt.expose());
    match prf.map_or(Some(Digest::Sha1), Digest::named).ok_or(UNKNOWN)? {
        Digest::Sha1 => pbkdf2::pbkdf2_hmac::<Sha1>(password, salt, rounds, &mut key),
        Digest::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, rounds, &mut key),
        Digest::Sha384 => pbkdf2::pbkdf2_hmac::<Sha384>(password, salt, rounds, &mut key),
        Digest::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, rounds, &mut key),
    }
    Ok(Secret::new(key.to_vec()))
}

fn cipher_value(encrypted: Node<'_, '_>) -> Result<Secret, RowError> {
    let value = child(encrypted, "CipherData").and_then(|data| child(data, "CipherValue"));
    values::base64(text(value.ok_or(RowError::Missing("the secret"))?))
}

/// XML Encryption section 5.2: the initialisation vector, then the blocks; of the last block the last octet says how many do not count.
fn decrypt(encrypted: Node<'_, '_>, key: &Secret) -> Result<Secret, RowError> {
    let method = child(encrypted, "EncryptionMethod").and_then(|method| method.attribute("Algorithm"));
    let octets = cipher_value(encrypted)?;
    let (vector, blocks) = octets.expose().split_at_checked(16).ok_or(RowError::Decryption)?;
    let mut plain = Zeroizing::new(blocks.to_vec());
    let name = method.unwrap_or_default().trim().rsplit('#').next().unwrap_or_default();
    let done = match (name, key.len()) {
        ("aes128-cbc", 16) => undo::<Aes128>(key.expose(), vector, &mut plain),
        ("aes192-cbc", 24) => undo::<Aes192>(key.expose(), vector, &mut plain),
        ("aes256-cbc", 32) => undo::<Aes256>(key.expose(), vector, &mut plain),
        ("aes128-cbc" | "aes192-cbc" | "aes256-cbc", _) => return Err(RowError::Decryption),
        _ => return Err(RowError::Cipher),
    };
    let padding = usize::from(*plain.last().ok_or(RowError::Decryption)?);
    match plain.len().checked_sub(padding) {
        Some(length @ 1..) if done && (1..=16).contains(&padding) => Ok(Secret::new(&plain[..length])),
        _ => Err(RowError::Decryption),
    }
}

/// `false`: the octets are not whole blocks.
fn undo<C>(key: &[u8], vector: &[u8], octets: &mut [u8]) -> bool
where
    cbc::Decryptor<C>: KeyIvInit + BlockModeDecrypt,
    C: aes::cipher::BlockCipherDecrypt + KeyInit,
{
    let cipher = cbc::Decryptor::<C>::new_from_slices(key, vector);
    cipher.is_ok_and(|cipher| cipher.decrypt_padded::<NoPadding>(octets).is_ok())
}

impl Digest {
    fn named(identifier: &str) -> Option<Self> {
        match identifier.trim().rsplit('#').next()? {
            "hmac-sha1" => Some(Self::Sha1),
            "hmac-sha256" => Some(Self::Sha256),
            "hmac-sha384" => Some(Self::Sha384),
            "hmac-sha512" => Some(Self::Sha512),
            _ => None,
        }
    }

    /// In constant time.
    fn verifies(self, key: &Secret, octets: &[u8], mac: &[u8]) -> bool {
        fn check<M: Mac + KeyInit>(key: &Secret, octets: &[u8], mac: &[u8]) -> bool {
            let hmac = <M as KeyInit>::new_from_slice(key.expose());
            hmac.is_ok_and(|hmac| hmac.chain_update(octets).verify_slice(mac).is_ok())
        }
        match self {
            Self::Sha1 => check::<Hmac<Sha1>>(key, octets, mac),
            Self::Sha256 => check::<Hmac<Sha256>>(key, octets, mac),
            Self::Sha384 => check::<Hmac<Sha384>>(key, octets, mac),
            Self::Sha512 => check::<Hmac<Sha512>>(key, octets, mac),
        }
    }
}
