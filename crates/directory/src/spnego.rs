//! The little of SPNEGO (RFC 4178) that carries one mechanism, Kerberos or NTLM, there and back.

use ldap_wire::ber::{self, BerError, Reader, Writer};

/// 1.3.6.1.5.5.2
const SPNEGO: &[u8] = &[0x2b, 6, 1, 5, 5, 2];

/// What is offered: it is said before which of the two it will be, so that nobody in between can choose the weaker one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mechanism {
    Kerberos,
    Ntlm,
}

impl Mechanism {
    /// The names it goes by, the right one first.
    fn identifiers(self) -> &'static [&'static [u8]] {
        match self {
            // 1.2.840.113554.1.2.2, and 1.2.840.48018.1.2.2, as Windows first wrote it (MS-SPNG section 3.1.5.2)
            Self::Kerberos => {
                &[&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 1, 2, 2], &[0x2a, 0x86, 0x48, 0x82, 0xf7, 0x12, 1, 2, 2]]
            }
            // 1.3.6.1.4.1.311.2.2.10
            Self::Ntlm => &[&[0x2b, 6, 1, 4, 1, 0x82, 0x37, 2, 2, 0x0a]],
        }
    }

    /// As the MIC is over them.
    pub fn offered(self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.nested(ber::SEQUENCE, |w| self.identifiers().iter().for_each(|it| w.octets(OBJECT_IDENTIFIER, it)));
        writer.into_vec()
    }
}

const OBJECT_IDENTIFIER: u8 = 0x06;
/// InitialContextToken (RFC 2743 section 3.1).
const APPLICATION: u8 = 0x60;
const INIT: u8 = 0xa0;
const RESPONSE: u8 = 0xa1;
const MECHANISMS: u8 = 0xa0;
const CHOSEN: u8 = 0xa1;
const TOKEN: u8 = 0xa2;
const MIC: u8 = 0xa3;

/// The first token: this is what we speak, and its first message.
pub(crate) fn init(mechanism: Mechanism, message: &[u8]) -> Vec<u8> {
    // Never grows: the message must not be left behind somewhere.
    let mut writer = Writer::with_capacity(message.len() + 128);
    writer.nested(APPLICATION, |w| {
        w.octets(OBJECT_IDENTIFIER, SPNEGO);
        w.nested(INIT, |w| {
            w.nested(ber::SEQUENCE, |w| {
                w.nested(MECHANISMS, |w| w.raw(&mechanism.offered()));
                w.nested(TOKEN, |w| w.octet_string(message));
            });
        });
    });
    writer.into_vec()
}

/// A later one. The last of a mechanism may have nothing more to say.
pub(crate) fn response(message: Option<&[u8]>, mic: &[u8]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(message.map_or(0, <[u8]>::len) + 64);
    writer.nested(RESPONSE, |w| {
        w.nested(ber::SEQUENCE, |w| {
            if let Some(message) = message {
                w.nested(TOKEN, |w| w.octet_string(message));
            }
            w.nested(MIC, |w| w.octet_string(mic));
        });
    });
    writer.into_vec()
}

/// A token of the server.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    /// What it carries of the mechanism; nothing where it wants another one.
    pub message: Option<&'a [u8]>,
    pub mic: Option<&'a [u8]>,
}

impl<'a> Token<'a> {
    pub fn parse(mechanism: Mechanism, token: &'a [u8]) -> Result<Self, BerError> {
        let mut fields = Reader::new(token).expect(RESPONSE)?.reader().expect(ber::SEQUENCE)?.reader();
        let mut found = Self::default();
        while !fields.is_empty() {
            let field = fields.element()?;
            match field.tag {
                CHOSEN => {
                    let chosen = field.reader().expect(OBJECT_IDENTIFIER)?.content;
                    if !mechanism.identifiers().contains(&chosen) {
                        return Ok(Self::default());
                    }
                }
                TOKEN => found.message = Some(field.reader().octet_string()?),
                MIC => found.mic = Some(field.reader().octet_string()?),
                _ => {}
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;

    #[test]
    fn tokens_are_those_of_rfc_4178() {
        assert_eq!(
            HEXLOWER.encode(&init(Mechanism::Ntlm, b"N")),
            "602106062b0601050502a0173015a00e300c060a2b06010401823702020aa20304014e"
        );
        assert_eq!(HEXLOWER.encode(&response(Some(b"N"), b"M")), "a10c300aa20304014ea30304014d");
        assert_eq!(HEXLOWER.encode(&response(None, b"M")), "a1073005a30304014d");
        assert_eq!(HEXLOWER.encode(&Mechanism::Kerberos.offered()), "301606092a864886f71201020206092a864882f712010202");
    }

    #[test]
    fn a_servers_token_is_read_whatever_else_stands_in_it() {
        let octets = |hex: &str| HEXLOWER.decode(hex.replace(' ', "").as_bytes()).expect("hexadecimal");
        let read = |hex: &str| {
            Token::parse(Mechanism::Ntlm, &octets(hex))
                .map(|it| (it.message.map(<[u8]>::to_vec), it.mic.map(<[u8]>::to_vec)))
        };
        let ntlm = "a10c 060a2b06010401823702020a";
        assert_eq!(read(&format!("a11a 3018 a0030a0101 {ntlm} a203 04014e")), Ok((Some(b"N".to_vec()), None)));
        assert_eq!(read("a10e 300c a0030a0100 a305 0403010203"), Ok((None, Some(vec![1, 2, 3]))));
        assert_eq!(read("a1073005a0030a0100"), Ok((None, None)));
        let kerberos = "a10b 06092a864886f712010202";
        assert_eq!(read(&format!("a119 3017 a0030a0103 {kerberos} a203 04014e")), Ok((None, None)));
        let either = |mechanism| {
            let token = octets(&format!("a119 3017 a0030a0100 {kerberos} a203 04014e"));
            Token::parse(mechanism, &token).map(|it| it.message.is_some())
        };
        assert_eq!((either(Mechanism::Kerberos), either(Mechanism::Ntlm)), (Ok(true), Ok(false)));
        for broken in ["", "3000", "a1023000 00", "a11a 3018 a0030a0101", "a107 3005 a203 0402 4e"] {
            assert!(read(broken).is_err() || broken.ends_with("00"), "{broken}");
        }
    }
}
