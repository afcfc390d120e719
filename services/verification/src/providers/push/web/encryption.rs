//! Message encryption for Web Push (RFC 8291) in the coding aes128gcm (RFC 8188): one record, only the browser can read it.

use aes_gcm::aead::{Aead, KeyInit};
use aes_gcm::{Aes128Gcm, Nonce};
use hkdf::Hkdf;
use p256::{PublicKey, SecretKey};
use sha2::Sha256;

const SALT_BYTES: usize = 16;
const RECORD_BYTES: u32 = 4096;
/// A message is filled up to this, so that its length tells nothing. RFC 8291 section 4 allows 3993.
const PADDED_BYTES: usize = 1024;
/// A random number is no key of the curve once in 2^32 times.
const DRAWS_MAX: usize = 8;

/// The browser's side of a subscription.
#[derive(Clone)]
pub struct Receiver {
    pub public: PublicKey,
    pub auth: [u8; 16],
}

/// A new key and salt for each message.
pub fn encrypt(
    message: &[u8],
    receiver: &Receiver,
    randomness: fn(&mut [u8]) -> Result<(), getrandom::Error>,
) -> Result<Vec<u8>, getrandom::Error> {
    let mut salt = [0; SALT_BYTES];
    randomness(&mut salt)?;
    let mut octets = zeroize::Zeroizing::new([0; 32]);
    for _ in 0..DRAWS_MAX {
        randomness(octets.as_mut())?;
        if let Ok(sender) = SecretKey::from_slice(octets.as_ref()) {
            let padding = PADDED_BYTES.saturating_sub(message.len());
            return Ok(seal(message, padding, receiver, &sender, salt));
        }
    }
    Err(getrandom::Error::UNEXPECTED)
}

fn seal(message: &[u8], padding: usize, receiver: &Receiver, sender: &SecretKey, salt: [u8; SALT_BYTES]) -> Vec<u8> {
    let (theirs, ours) = (receiver.public.to_sec1_bytes(), sender.public_key().to_sec1_bytes());
    let shared = sender.diffie_hellman(&receiver.public);
    // RFC 8291 section 3.4: first with the subscription's secret, so that the push service cannot do it ...
    let info = [b"WebPush: info\0", &theirs[..], &ours[..]].concat();
    let mut input = zeroize::Zeroizing::new([0; 32]);
    expand(&Hkdf::new(Some(&receiver.auth), shared.raw_secret_bytes()), &info, input.as_mut());
    // ... then as RFC 8188 section 2.2 does.
    let derived = Hkdf::<Sha256>::new(Some(&salt), input.as_ref());
    let (mut key, mut nonce) = (zeroize::Zeroizing::new([0; 16]), [0; 12]);
    expand(&derived, b"Content-Encoding: aes128gcm\0", key.as_mut());
    expand(&derived, b"Content-Encoding: nonce\0", &mut nonce);
    // The last record: 2, then zeros.
    let mut plain = [message, &[2]].concat();
    plain.resize(plain.len() + padding, 0);
    let cipher = Aes128Gcm::new_from_slice(key.as_ref()).expect("the key has 16 octets");
    let sealed = cipher.encrypt(&Nonce::from(nonce), plain.as_slice()).expect("a message is far below the limit");
    [&salt[..], &RECORD_BYTES.to_be_bytes(), &[ours.len() as u8], &ours[..], &sealed].concat()
}

fn expand(from: &Hkdf<Sha256>, info: &[u8], into: &mut [u8]) {
    from.expand(info, into).expect("fewer octets than HKDF can give");
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::BASE64URL_NOPAD;

    fn octets(text: &str) -> Vec<u8> {
        BASE64URL_NOPAD.decode(text.as_bytes()).expect("base64url")
    }

    #[test]
    fn the_example_of_the_rfc_comes_out_to_the_octet() {
        // RFC 8291 section 5 and appendix A
        let receiver = Receiver {
            public: PublicKey::from_sec1_bytes(&octets(
                "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
            ))
            .expect("a point"),
            auth: octets("BTBZMqHH6r4Tts7J_aSIgg").try_into().expect("16 octets"),
        };
        let sender = SecretKey::from_slice(&octets("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw")).expect("a key");
        let salt = octets("DGv6ra1nlYgDCS1FRnbzlw").try_into().expect("16 octets");
        let sealed = seal(b"When I grow up, I want to be a watermelon", 0, &receiver, &sender, salt);
        assert_eq!(
            BASE64URL_NOPAD.encode(&sealed),
            "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_\
             yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
        );
    }

    #[test]
    fn no_two_messages_are_alike_and_their_length_tells_nothing() {
        let receiver = Receiver { public: SecretKey::from_slice(&[5; 32]).expect("a key").public_key(), auth: [1; 16] };
        let sealed = |message: &[u8]| encrypt(message, &receiver, getrandom::fill).expect("random");
        assert_ne!(sealed(b"yes"), sealed(b"yes"));
        assert_eq!(sealed(b"").len(), sealed(&[b'x'; 900]).len());
        assert!(sealed(&[b'x'; 900]).len() <= 4096);
    }
}
