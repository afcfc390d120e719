//! Whom a balancer speaks for: the header of PROXY protocol version 2 (haproxy.org, proxy-protocol.txt, section 2.2).
//!
//! ```text
//! 12 octets signature | version 2, command | family, transport | length | addresses | more, which nobody here reads
//! ```
//!
//! It stands in front of everything else on a connection, TLS included. Nothing but what the header says is read, and nothing of it
//! is believed unless the peer is listed as a balancer: that is for the caller to see to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const FIRST: usize = 16;
/// Addresses and what may follow them; balancers send a few hundred octets at most.
const REST_MAX: usize = 1024;

/// Not a header that says where the client is. The connection is to be closed.
#[derive(Debug, thiserror::Error)]
pub enum ProxyHeaderError {
    #[error("the connection ended within the header")]
    Io(#[from] io::Error),
    #[error("no PROXY protocol header of version 2")]
    NotVersion2,
    #[error("the header names no address of a TCP client")]
    NoAddress,
    #[error("the header says that it is {0} octets long")]
    Long(usize),
}

/// Reads the header off the front of a connection. `None`: the balancer speaks for itself (LOCAL), as to see whether we are there.
pub async fn read_header(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    let mut first = [0; FIRST];
    stream.read_exact(&mut first).await?;
    let length = rest_of(&first)?;
    let mut rest = [0; REST_MAX];
    let rest = &mut rest[..length];
    stream.read_exact(rest).await?;
    source(&first, rest)
}

/// How many octets follow the first ones.
fn rest_of(first: &[u8; FIRST]) -> Result<usize, ProxyHeaderError> {
    // Version and command: 0x20 LOCAL, 0x21 PROXY. Version 1 is a line of text.
    if first[..12] != SIGNATURE || !matches!(first[12], 0x20 | 0x21) {
        return Err(ProxyHeaderError::NotVersion2);
    }
    match usize::from(u16::from_be_bytes([first[14], first[15]])) {
        length if length > REST_MAX => Err(ProxyHeaderError::Long(length)),
        length => Ok(length),
    }
}

fn source(first: &[u8; FIRST], rest: &[u8]) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    if first[12] == 0x20 {
        return Ok(None);
    }
    let (address, port) = match first[13] {
        // TCP over IPv4: source, destination, source port, destination port.
        0x11 => {
            let octets: [u8; 12] = field(rest, 0)?;
            let address = Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]);
            (IpAddr::V4(address), u16::from_be_bytes([octets[8], octets[9]]))
        }
        // TCP over IPv6.
        0x21 => {
            let address: [u8; 16] = field(rest, 0)?;
            (IpAddr::V6(Ipv6Addr::from(address)), u16::from_be_bytes(field(rest, 32)?))
        }
        // Nobody knows where, by datagram, or on the balancer's own machine.
        _ => return Err(ProxyHeaderError::NoAddress),
    };
    Ok(Some(SocketAddr::new(address.to_canonical(), port)))
}

fn field<const N: usize>(rest: &[u8], at: usize) -> Result<[u8; N], ProxyHeaderError> {
    let octets = rest.get(at..at + N).and_then(|octets| octets.try_into().ok());
    octets.ok_or(ProxyHeaderError::NoAddress)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut octets = SIGNATURE.to_vec();
        octets.extend([command, family]);
        octets.extend((rest.len() as u16).to_be_bytes());
        octets.extend(rest);
        octets
    }

    fn read(octets: &[u8]) -> (Result<Option<SocketAddr>, ProxyHeaderError>, usize) {
        let mut left = octets;
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let result = runtime.block_on(read_header(&mut left));
        (result, left.len())
    }

    fn four() -> Vec<u8> {
        [[192, 0, 2, 7], [198, 51, 100, 1]].concat().into_iter().chain([0x30, 0x39, 0x01, 0x85]).collect()
    }

    fn six() -> Vec<u8> {
        let client: Ipv6Addr = "2001:db8::7".parse().expect("an address");
        [client.octets(), [0; 16]].concat().into_iter().chain([0x30, 0x39, 0x02, 0x7c]).collect()
    }

    #[test]
    fn the_client_is_read_and_nothing_behind_the_header() {
        // FB-10
        let behind = b"what the client says";
        let with_more = [four(), vec![0x03, 0, 4, 1, 2, 3, 4]].concat();
        for (octets, client) in [
            (header(0x21, 0x11, &four()), Some("192.0.2.7:12345")),
            (header(0x21, 0x11, &with_more), Some("192.0.2.7:12345")),
            (header(0x21, 0x21, &six()), Some("[2001:db8::7]:12345")),
            (header(0x20, 0x00, &[]), None),
            (header(0x20, 0x11, &four()), None),
        ] {
            let (read, left) = read(&[octets.as_slice(), behind].concat());
            assert_eq!(read.expect("a header"), client.map(|client| client.parse().expect("an address")));
            assert_eq!(left, behind.len());
        }
    }

    #[test]
    fn whatever_does_not_say_where_the_client_is_is_refused() {
        // FB-10: version 1 too
        let cut = header(0x21, 0x11, &four());
        let long = [SIGNATURE.as_slice(), &[0x21, 0x11, 0xff, 0xff], &[0; 2000]].concat();
        let mapped = header(0x21, 0x11, &four()[..11]);
        for octets in [
            b"PROXY TCP4 192.0.2.7 198.51.100.1 12345 389\r\n".to_vec(),
            b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00 and what comes behind a bind".to_vec(),
            header(0x11, 0x11, &four()),
            header(0x22, 0x11, &four()),
            header(0x21, 0x00, &four()),
            header(0x21, 0x12, &four()),
            header(0x21, 0x31, &[0; 216]),
            header(0x21, 0x21, &four()),
            mapped,
            cut[..cut.len() - 1].to_vec(),
            long,
            Vec::new(),
        ] {
            assert!(read(&octets).0.is_err(), "{octets:02x?}");
        }
    }

    proptest! {
        #[test]
        fn no_octets_end_in_a_panic(mut octets in proptest::collection::vec(any::<u8>(), 0..80), signed: bool) {
            if signed {
                octets.splice(0..octets.len().min(12), SIGNATURE);
            }
            let _ = read(&octets);
        }
    }
}
