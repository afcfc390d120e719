//! TCP as every port of ours opens it and every long connection keeps it.

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// Opens a port. A restart need not wait for the old connections to be forgotten, and `[::]` is IPv6 alone, so that it stands
/// beside `0.0.0.0` in a configuration.
///
/// # Errors
/// What the system says: the address is in use, is not this machine's, or has a port that needs a privilege.
///
/// # Panics
/// Outside a tokio runtime.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

/// Is the trouble that this machine has no IPv6, and the address the IPv6 wildcard? Beside others it is done without then.
pub fn no_ipv6(address: SocketAddr, error: &io::Error) -> bool {
    const NONE: [Errno; 2] = [Errno::ADDRNOTAVAIL, Errno::AFNOSUPPORT];
    address.is_ipv6()
        && address.ip().is_unspecified()
        && NONE.iter().any(|none| error.raw_os_error() == Some(none.raw_os_error()))
}

/// `64:ff9b::/96`
const TRANSLATED: [u8; 12] = [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0];

/// What counts as one source: an address, in IPv6 its /64, of which a single host has every address (RFC 4291 section 2.5.4). What
/// a translator made of an IPv4 address is that address (RFC 6052 section 2.1): behind one /64 there are all of them.
pub fn one_source(address: IpAddr) -> IpAddr {
    const CHOSEN_BY_HOST: u128 = u64::MAX as u128;
    match address.to_canonical() {
        IpAddr::V6(address) if address.octets().starts_with(&TRANSLATED) => {
            let [.., a, b, c, d] = address.octets();
            Ipv4Addr::new(a, b, c, d).into()
        }
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !CHOSEN_BY_HOST).into(),
        address => address,
    }
}

/// A peer that vanished without a word is noticed within minutes, and no message waits for another (Nagle).
pub fn keep_alive(stream: &TcpStream) {
    let alive = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(20));
    let _: io::Result<()> = SockRef::from(stream).set_tcp_keepalive(&alive);
    let _: io::Result<()> = stream.set_nodelay(true);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_families_have_the_same_port_at_once() {
        let four = listen("0.0.0.0:0".parse().expect("an address")).expect("a port");
        let port = four.local_addr().expect("bound").port();
        // Where the machine has no IPv6 there is nothing to stand beside.
        match listen(SocketAddr::new("::".parse().expect("an address"), port)) {
            Ok(six) => assert!(six.local_addr().expect("bound").is_ipv6()),
            Err(error) => assert_eq!(error.raw_os_error(), Some(97), "EAFNOSUPPORT, not {error}"),
        }
        let again = listen(four.local_addr().expect("bound")).expect_err("it is taken");
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn one_host_is_one_source_whatever_addresses_it_takes() {
        let source = |text: &str| one_source(text.parse().expect("an address"));
        assert_eq!(source("2001:db8:0:1::1"), source("2001:db8:0:1:ffff:ffff:ffff:ffff"));
        assert_ne!(source("2001:db8:0:1::1"), source("2001:db8:0:2::1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_ne!(source("::ffff:192.0.2.1"), source("::ffff:192.0.2.2"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        // RFC 6052 section 2.1
        assert_eq!(source("64:ff9b::192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("64:ff9b::192.0.2.1"), source("64:ff9b::192.0.2.2"));
        assert_eq!(source("64:ff9b:1::1"), source("64:ff9b:1::2"), "of no prefix that everybody knows");
    }

    #[tokio::test]
    async fn a_connection_is_watched_and_does_not_hold_back() {
        let listener = listen("127.0.0.1:0".parse().expect("an address")).expect("a port");
        let stream = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
        keep_alive(&stream);
        let socket = SockRef::from(&stream);
        assert!(stream.nodelay().expect("an option") && socket.keepalive().expect("an option"));
        assert_eq!(socket.tcp_keepalive_time().expect("an option"), Duration::from_secs(60));
    }
}
