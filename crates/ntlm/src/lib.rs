//! The client of NTLM version 2 (MS-NLMP), without sockets, clocks or randomness: time and random octets are arguments.
//!
//! ```text
//! negotiate(Layer) ──> the server ──> Challenge::parse ──> Challenge::answer ──> the server ──> yes or no
//!                                                                └─> Session: seals and unseals what follows (Layer::Sealed)
//! ```
//!
//! Only what is still safe to ask for is spoken: version 2 responses, extended session security, keys of 128 bits, and a MIC over all
//! three messages. Where TLS is around it, the response names the TLS channel ([`ChannelBinding`], RFC 5929), so that it is good for no
//! other; where nothing is, what follows is signed and sealed.
//!
//! NTLM proves the client to the server. A server proves itself to the client only by sealing with a key that the password gives: to
//! whoever knows the password that is no proof.

mod answer;
mod challenge;
mod session;

pub use answer::{Account, Answer, AnswerError, ChannelBinding, Fresh};
pub use challenge::{Challenge, ChallengeError};
pub use session::{Session, SessionError};

/// What protects the octets that follow the logon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// Something around it, such as TLS.
    None,
    /// NTLM itself: signed and sealed (MS-NLMP section 3.4).
    Sealed,
}

/// The first message: what we can do (MS-NLMP section 2.2.1.1).
pub fn negotiate(layer: Layer) -> Vec<u8> {
    let mut message = SIGNATURE.to_vec();
    message.extend(NEGOTIATE.to_le_bytes());
    message.extend(flags(layer).to_le_bytes());
    message.extend([0; 16]); // neither domain nor workstation
    message
}

const SIGNATURE: [u8; 8] = *b"NTLMSSP\0";
const NEGOTIATE: u32 = 1;
const CHALLENGE: u32 = 2;
const AUTHENTICATE: u32 = 3;

/// Flags of MS-NLMP section 2.2.2.5.
mod flag {
    pub const UNICODE: u32 = 0x0000_0001;
    pub const REQUEST_TARGET: u32 = 0x0000_0004;
    pub const SIGN: u32 = 0x0000_0010;
    pub const SEAL: u32 = 0x0000_0020;
    pub const NTLM: u32 = 0x0000_0200;
    pub const ALWAYS_SIGN: u32 = 0x0000_8000;
    pub const EXTENDED_SESSION_SECURITY: u32 = 0x0008_0000;
    pub const TARGET_INFO: u32 = 0x0080_0000;
    pub const KEYS_OF_128_BITS: u32 = 0x2000_0000;
    pub const KEY_EXCHANGE: u32 = 0x4000_0000;
}

/// Without these it is not NTLM as it is spoken here.
const NEEDED: u32 = flag::UNICODE | flag::NTLM | flag::EXTENDED_SESSION_SECURITY;
/// And without these nothing is sealed.
const NEEDED_TO_SEAL: u32 = flag::SIGN | flag::SEAL | flag::KEYS_OF_128_BITS | flag::KEY_EXCHANGE;

fn flags(layer: Layer) -> u32 {
    let usual = NEEDED | flag::REQUEST_TARGET | flag::ALWAYS_SIGN | flag::TARGET_INFO;
    match layer {
        // Without signing no key is exchanged, whatever the flag says (MS-NLMP section 3.1.5.1.2).
        Layer::None => usual,
        Layer::Sealed => usual | NEEDED_TO_SEAL,
    }
}
