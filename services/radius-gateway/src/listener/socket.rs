//! A UDP socket that knows which of our addresses a datagram came to, and answers from it.
//!
//! On a wildcard address the kernel would choose the source of a reply by its routes, and a client that had asked a virtual
//! address would refuse it. IP_PKTINFO tells and sets the address (RFC 3542 section 6 for IPv6).

use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo},
};
use socket2::{Domain, Protocol, Type};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Larger than any datagram, so that nothing is ever cut unseen (A1 step 1).
pub(crate) const DATAGRAM_OCTETS_MAX: usize = 65_536;

/// What the kernel may keep for us while we are busy. It gives less where the system's limit is lower.
const KERNEL_BUFFER_OCTETS: usize = 8 * 1024 * 1024;

pub(crate) struct Socket {
    socket: UdpSocket,
    bound: SocketAddr,
}

/// Where a packet came from and to which of our addresses; the reply takes the same way back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    /// The interface, which an IPv6 link-local address needs.
    interface: u32,
}

impl Path {
    /// Of a connection, whose packets all take the same.
    pub(crate) fn of_connection(local: SocketAddr, peer: SocketAddr) -> Self {
        Self { peer, local, interface: 0 }
    }
}

impl Socket {
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_recv_buffer_size(KERNEL_BUFFER_OCTETS)?;
        socket.set_send_buffer_size(KERNEL_BUFFER_OCTETS)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        match address {
            SocketAddr::V4(_) => setsockopt(&socket, Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => setsockopt(&socket, Ipv6RecvPacketInfo, &true)?,
        }
        let socket = UdpSocket::from_std(socket.into())?;
        let bound = socket.local_addr()?;
        Ok(Self { socket, bound })
    }

    pub(crate) fn bound(&self) -> SocketAddr {
        self.bound
    }

    /// The next datagram. May be dropped at any await: a datagram is taken in the same step that returns it.
    pub(crate) async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Path)> {
        self.socket.async_io(Interest::READABLE, || self.try_receive(buffer)).await
    }

    pub(crate) async fn send(&self, octets: &[u8], path: &Path) -> io::Result<()> {
        self.socket.async_io(Interest::WRITABLE, || self.try_send(octets, path)).await
    }

    /// Sends, or does not where the kernel has no room right now: for what the client repeats anyway.
    pub(crate) fn send_now(&self, octets: &[u8], path: &Path) {
        if let Err(error) = self.socket.try_io(Interest::WRITABLE, || self.try_send(octets, path)) {
            tracing::debug!(service = crate::NAME, error = %error, "a reply could not be sent");
        }
    }

    fn try_receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Path)> {
        let mut control = nix::cmsg_space!(libc::in_pktinfo, libc::in6_pktinfo);
        let mut slices = [IoSliceMut::new(buffer)];
        let received =
            recvmsg::<SockaddrStorage>(self.socket.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::empty())?;
        let peer = received.address.as_ref().and_then(address).ok_or(io::ErrorKind::InvalidData)?;
        let (mut ip, mut interface) = (self.bound.ip(), 0);
        for message in received.cmsgs()? {
            match message {
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    ip = IpAddr::V4(Ipv4Addr::from_bits(u32::from_be(info.ipi_addr.s_addr)));
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    ip = IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr));
                    interface = info.ipi6_ifindex;
                }
                _ => {}
            }
        }
        Ok((received.bytes, Path { peer, local: SocketAddr::new(ip, self.bound.port()), interface }))
    }

    fn try_send(&self, octets: &[u8], path: &Path) -> io::Result<()> {
        let slices = [IoSlice::new(octets)];
        let peer = SockaddrStorage::from(path.peer);
        let v4;
        let v6;
        let from = match path.local.ip() {
            IpAddr::V4(ip) => {
                let ip = libc::in_addr { s_addr: ip.to_bits().to_be() };
                v4 = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: ip, ipi_addr: ip };
                ControlMessage::Ipv4PacketInfo(&v4)
            }
            IpAddr::V6(ip) => {
                let link_local = ip.is_unicast_link_local();
                v6 = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr { s6_addr: ip.octets() },
                    ipi6_ifindex: if link_local { path.interface } else { 0 },
                };
                ControlMessage::Ipv6PacketInfo(&v6)
            }
        };
        sendmsg(self.socket.as_raw_fd(), &slices, &[from], MsgFlags::empty(), Some(&peer))?;
        Ok(())
    }
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    match (storage.as_sockaddr_in(), storage.as_sockaddr_in6()) {
        (Some(v4), _) => Some(SocketAddr::from(*v4)),
        (_, Some(v6)) => Some(SocketAddr::from(*v6)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reply_leaves_from_the_address_the_request_came_to() {
        // a wildcard socket, asked at an address that is not the one the kernel would answer from.
        for (wildcard, asked) in [("0.0.0.0:0", "127.0.0.7"), ("[::]:0", "::1")] {
            let socket = Socket::bind(wildcard.parse().expect("an address")).expect("a free port");
            let client = UdpSocket::bind((if asked == "::1" { "::1" } else { "127.0.0.1" }, 0)).await.expect("free");
            let asked: SocketAddr = (asked.parse::<IpAddr>().expect("an address"), socket.bound().port()).into();
            client.send_to(b"question", asked).await.expect("loopback");
            let mut buffer = vec![0; DATAGRAM_OCTETS_MAX];
            let (length, path) = socket.receive(&mut buffer).await.expect("loopback");
            assert_eq!((&buffer[..length], path.local), (b"question".as_slice(), asked));
            socket.send(b"answer", &path).await.expect("loopback");
            let (length, from) = client.recv_from(&mut buffer).await.expect("loopback");
            assert_eq!((&buffer[..length], from), (b"answer".as_slice(), asked));
        }
    }
}
