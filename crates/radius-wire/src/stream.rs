//! Packets out of a stream (RadSec): each one's Length says where the next begins (RFC 6613 section 2.6.4).
//!
//! After one wrong Length nothing that follows can be trusted to be a packet, so the connection is to be closed. Never more
//! than one packet is held, however much is promised.

use crate::packet::{HEADER_OCTETS, PACKET_OCTETS_MAX};

/// The reading side of one connection.
#[derive(Default)]
pub struct PacketStream {
    /// The packet that is being put together, or the last one given out.
    held: Vec<u8>,
    given: bool,
    broken: bool,
}

/// The Length is below 20 or above 4096: close the connection (R-91, B-34).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream has a packet whose Length is not 20 to 4096")]
pub struct BrokenStream;

impl PacketStream {
    /// The next whole packet, taking from the front of `input` what belongs to it. None when the input is used up.
    ///
    /// ```
    /// # use radius_wire::{BrokenStream, PacketStream};
    /// # fn received(mut octets: &[u8], stream: &mut PacketStream) -> Result<(), BrokenStream> {
    /// while let Some(packet) = stream.next(&mut octets)? {
    ///     assert!(packet.len() >= 20);
    /// }
    /// # Ok(())
    /// # }
    /// # let mut stream = PacketStream::default();
    /// # received(&[12, 0, 0, 19], &mut stream).unwrap_err();
    /// ```
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<&[u8]>, BrokenStream> {
        if self.broken {
            return Err(BrokenStream);
        }
        if self.given {
            self.held.clear();
            self.given = false;
        }
        if !self.fill(LENGTH_END, input) {
            return Ok(None);
        }
        let &[_, _, high, low, ..] = self.held.as_slice() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if !(HEADER_OCTETS..=PACKET_OCTETS_MAX).contains(&length) {
            self.broken = true;
            return Err(BrokenStream);
        }
        self.given = self.fill(length, input);
        Ok(self.given.then_some(&self.held))
    }

    /// Whether a packet has begun and not ended: who lets us wait for the rest has only so long (10 s, R-91).
    pub fn is_inside_packet(&self) -> bool {
        !self.given && !self.held.is_empty()
    }

    /// Whether so many octets are held now.
    fn fill(&mut self, octets: usize, input: &mut &[u8]) -> bool {
        let missing = octets.saturating_sub(self.held.len());
        let (taken, rest) = input.split_at(missing.min(input.len()));
        self.held.extend_from_slice(taken);
        *input = rest;
        self.held.len() >= octets
    }
}

/// Code, Identifier and Length.
const LENGTH_END: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(length: u16) -> Vec<u8> {
        let mut octets = vec![length as u8; length.into()];
        octets[2..4].copy_from_slice(&length.to_be_bytes());
        octets
    }

    fn all(stream: &mut PacketStream, mut input: &[u8]) -> Result<Vec<Vec<u8>>, BrokenStream> {
        let mut packets = Vec::new();
        while let Some(packet) = stream.next(&mut input)? {
            packets.push(packet.to_vec());
        }
        assert!(input.is_empty());
        Ok(packets)
    }

    #[test]
    fn packets_come_out_whole_however_the_octets_arrive() {
        let packets = [packet(20), packet(4096), packet(21), packet(20)];
        let octets = packets.concat();
        for size in [1, 2, 3, 19, 20, 21, 1000, 4096, 5000] {
            let mut stream = PacketStream::default();
            let found: Vec<_> =
                octets.chunks(size).flat_map(|chunk| all(&mut stream, chunk).expect("well formed")).collect();
            assert_eq!(found, packets, "in pieces of {size}");
            assert!(!stream.is_inside_packet());
            assert!(stream.held.capacity() <= 2 * PACKET_OCTETS_MAX);
        }
    }

    #[test]
    fn a_wrong_length_ends_the_stream_for_good() {
        // R-91, B-34: Length 4097; valid, then malformed. Only four octets are needed to know.
        for length in [0u16, 3, 4, 19, 4097, 65535] {
            let [high, low] = length.to_be_bytes();
            let mut stream = PacketStream::default();
            assert_eq!(all(&mut stream, &packet(20)), Ok(vec![packet(20)]));
            assert_eq!(all(&mut stream, &[2, 1, high]), Ok(vec![]));
            assert_eq!(all(&mut stream, &[low]), Err(BrokenStream));
            assert_eq!(all(&mut stream, &packet(20)), Err(BrokenStream), "what follows is not believed");
            assert!(stream.held.capacity() < 100, "nothing is allocated for a promise");
        }
    }

    #[test]
    fn who_waits_for_the_rest_of_a_packet_is_known() {
        // R-91: a time limit for header and body.
        let mut stream = PacketStream::default();
        assert!(!stream.is_inside_packet());
        assert_eq!(all(&mut stream, &packet(20)[..1]), Ok(vec![]));
        assert!(stream.is_inside_packet());
        assert_eq!(all(&mut stream, &packet(20)[1..]), Ok(vec![packet(20)]));
        assert!(!stream.is_inside_packet());
        assert_eq!(all(&mut stream, &packet(30)[..25]), Ok(vec![]));
        assert!(stream.is_inside_packet());
    }
}
