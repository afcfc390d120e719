//! PDUs of SMPP 3.4 as octets (SMPP Protocol Specification v3.4, issue 1.2): framing, the dozen operations that a client needs,
//! their optional parameters.
//!
//! Sans-io and on its own: a fuzz target includes this file. Lengths come from the other end and are never trusted; what a PDU
//! has too much is malformed, as is what it lacks.

/// A PDU that is longer than this is a fault or an attack: the longest field is a payload of 64 kB (section 5.3.2.32).
pub const PDU_BYTES_MAX: usize = 70_000;
/// Section 3.2: four fields of four octets.
pub const HEADER_BYTES: usize = 16;
/// Octets of a message in its own field, as many as its length octet can say. Section 5.2.21 ends at 254; a centre that sends
/// one more is read, for a refusal would end the session, and the centre would send it again at the next.
const SHORT_MESSAGE_MAX: usize = 255;
/// Fields that end with a zero octet are shorter everywhere in the specification.
const TEXT_MAX: usize = 255;

/// Section 5.1.3, those that are acted on.
pub mod status {
    pub const OK: u32 = 0x0000_0000;
    pub const INVALID_COMMAND: u32 = 0x0000_0003;
    pub const SYSTEM_ERROR: u32 = 0x0000_0008;
    pub const QUEUE_FULL: u32 = 0x0000_0014;
    pub const THROTTLED: u32 = 0x0000_0058;
}

/// Section 5.3.2.
pub mod tag {
    pub const RECEIPTED_MESSAGE_ID: u16 = 0x001e;
    pub const MESSAGE_PAYLOAD: u16 = 0x0424;
    pub const MESSAGE_STATE: u16 = 0x0427;
}

/// The octets are no PDU. The connection cannot go on: nobody knows where the next one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// The length field says less than a header, or more than is allowed.
    Length(u32),
    /// It ends before its fields do.
    Short,
    /// A field is longer than the specification allows, or than what is left.
    Field,
    /// Octets are left over.
    Trailing,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pdu {
    pub status: u32,
    pub sequence: u32,
    pub body: Body,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    BindTransceiver(Bind),
    BindTransceiverResp {
        system_id: Vec<u8>,
        options: Vec<Parameter>,
    },
    SubmitSm(Box<Message>),
    SubmitSmResp {
        message_id: Vec<u8>,
    },
    DeliverSm(Box<Message>),
    DeliverSmResp {
        message_id: Vec<u8>,
    },
    EnquireLink,
    EnquireLinkResp,
    Unbind,
    UnbindResp,
    GenericNack,
    /// Another operation: named, so that it can be answered.
    Other {
        command: u32,
        octets: Vec<u8>,
    },
}

/// Section 4.1.5.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Bind {
    pub system_id: Vec<u8>,
    pub password: Vec<u8>,
    pub system_type: Vec<u8>,
    pub interface_version: u8,
    pub address: Address,
}

/// The password is in no log.
impl std::fmt::Debug for Bind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bind").finish_non_exhaustive()
    }
}

/// Type of number, numbering plan, digits or letters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Address {
    pub ton: u8,
    pub npi: u8,
    pub text: Vec<u8>,
}

/// Sections 4.4.1 and 4.6.1: submit_sm and deliver_sm have the same fields.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Message {
    pub service_type: Vec<u8>,
    pub source: Address,
    pub destination: Address,
    pub esm_class: u8,
    pub protocol_id: u8,
    pub priority: u8,
    pub schedule: Vec<u8>,
    pub validity: Vec<u8>,
    pub registered_delivery: u8,
    pub replace_if_present: u8,
    pub data_coding: u8,
    pub default_message_id: u8,
    pub short_message: Vec<u8>,
    pub options: Vec<Parameter>,
}

/// Codes and numbers are in no log.
impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message").finish_non_exhaustive()
    }
}

/// Tag and value (section 5.3).
pub type Parameter = (u16, Vec<u8>);

const RESPONSE: u32 = 0x8000_0000;
const GENERIC_NACK: u32 = 0x8000_0000;
const SUBMIT_SM: u32 = 0x0000_0004;
const DELIVER_SM: u32 = 0x0000_0005;
const UNBIND: u32 = 0x0000_0006;
const BIND_TRANSCEIVER: u32 = 0x0000_0009;
const ENQUIRE_LINK: u32 = 0x0000_0015;

impl Message {
    /// What it says: in its own field, or as payload.
    pub fn content(&self) -> &[u8] {
        match option(&self.options, tag::MESSAGE_PAYLOAD) {
            Some(payload) if self.short_message.is_empty() => payload,
            _ => &self.short_message,
        }
    }
}

/// The first value of a tag.
pub fn option(options: &[Parameter], tag: u16) -> Option<&[u8]> {
    options.iter().find(|(known, _)| *known == tag).map(|(_, value)| value.as_slice())
}

/// How many octets the first PDU of a buffer has; `None`: its length is not there yet.
pub fn frame(buffer: &[u8]) -> Result<Option<usize>, Malformed> {
    let Some(field) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*field);
    match usize::try_from(length) {
        Ok(octets) if (HEADER_BYTES..=PDU_BYTES_MAX).contains(&octets) => Ok(Some(octets)),
        _ => Err(Malformed::Length(length)),
    }
}

impl Pdu {
    pub fn new(sequence: u32, body: Body) -> Self {
        Self { status: status::OK, sequence, body }
    }

    /// Reads one whole PDU.
    pub fn decode(octets: &[u8]) -> Result<Self, Malformed> {
        match frame(octets)? {
            Some(length) if length == octets.len() => {}
            Some(length) if length < octets.len() => return Err(Malformed::Trailing),
            _ => return Err(Malformed::Short),
        }
        let mut rest = Reader(&octets[4..]);
        let (command, status, sequence) = (rest.u32()?, rest.u32()?, rest.u32()?);
        let body = Body::decode(command, status, &mut rest)?;
        if rest.0.is_empty() { Ok(Self { status, sequence, body }) } else { Err(Malformed::Trailing) }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut octets = vec![0; 4];
        for field in [self.body.command(), self.status, self.sequence] {
            octets.extend(field.to_be_bytes());
        }
        self.body.encode(&mut octets);
        let length = u32::try_from(octets.len()).unwrap_or(u32::MAX);
        octets[..4].copy_from_slice(&length.to_be_bytes());
        octets
    }
}

impl Body {
    fn command(&self) -> u32 {
        match self {
            Self::BindTransceiver(_) => BIND_TRANSCEIVER,
            Self::BindTransceiverResp { .. } => BIND_TRANSCEIVER | RESPONSE,
            Self::SubmitSm(_) => SUBMIT_SM,
            Self::SubmitSmResp { .. } => SUBMIT_SM | RESPONSE,
            Self::DeliverSm(_) => DELIVER_SM,
            Self::DeliverSmResp { .. } => DELIVER_SM | RESPONSE,
            Self::EnquireLink => ENQUIRE_LINK,
            Self::EnquireLinkResp => ENQUIRE_LINK | RESPONSE,
            Self::Unbind => UNBIND,
            Self::UnbindResp => UNBIND | RESPONSE,
            Self::GenericNack => GENERIC_NACK,
            Self::Other { command, .. } => *command,
        }
    }

    /// Does it answer something?
    pub fn is_response(&self) -> bool {
        self.command() & RESPONSE != 0
    }

    fn decode(command: u32, status: u32, rest: &mut Reader<'_>) -> Result<Self, Malformed> {
        // A response with an error may have no body (section 4.4.2, note 1).
        let empty_error = status != status::OK && rest.0.is_empty();
        let text = |rest: &mut Reader<'_>| if empty_error { Ok(Vec::new()) } else { rest.text() };
        Ok(match command {
            BIND_TRANSCEIVER => Self::BindTransceiver(Bind {
                system_id: rest.text()?,
                password: rest.text()?,
                system_type: rest.text()?,
                interface_version: rest.u8()?,
                address: rest.address()?,
            }),
            command if command == BIND_TRANSCEIVER | RESPONSE => {
                Self::BindTransceiverResp { system_id: text(rest)?, options: rest.options()? }
            }
            SUBMIT_SM => Self::SubmitSm(Box::new(rest.message()?)),
            command if command == SUBMIT_SM | RESPONSE => {
                let message_id = text(rest)?;
                // Version 5.0 has optional parameters here, and centres send them to everybody.
                rest.options()?;
                Self::SubmitSmResp { message_id }
            }
            DELIVER_SM => Self::DeliverSm(Box::new(rest.message()?)),
            command if command == DELIVER_SM | RESPONSE => {
                let message_id = text(rest)?;
                rest.options()?;
                Self::DeliverSmResp { message_id }
            }
            ENQUIRE_LINK => Self::EnquireLink,
            command if command == ENQUIRE_LINK | RESPONSE => Self::EnquireLinkResp,
            UNBIND => Self::Unbind,
            command if command == UNBIND | RESPONSE => Self::UnbindResp,
            GENERIC_NACK => Self::GenericNack,
            command => Self::Other { command, octets: std::mem::take(&mut rest.0).to_vec() },
        })
    }

    fn encode(&self, octets: &mut Vec<u8>) {
        match self {
            Self::BindTransceiver(bind) => {
                for field in [&bind.system_id, &bind.password, &bind.system_type] {
                    text(octets, field);
                }
                octets.push(bind.interface_version);
                address(octets, &bind.address);
            }
            Self::BindTransceiverResp { system_id, options } => {
                text(octets, system_id);
                for (tag, value) in options {
                    parameter(octets, *tag, value);
                }
            }
            Self::SubmitSm(message) | Self::DeliverSm(message) => message.encode(octets),
            Self::SubmitSmResp { message_id } | Self::DeliverSmResp { message_id } => text(octets, message_id),
            Self::Other { octets: body, .. } => octets.extend(body),
            Self::EnquireLink | Self::EnquireLinkResp | Self::Unbind | Self::UnbindResp | Self::GenericNack => {}
        }
    }
}

impl Message {
    fn encode(&self, octets: &mut Vec<u8>) {
        text(octets, &self.service_type);
        address(octets, &self.source);
        address(octets, &self.destination);
        octets.extend([self.esm_class, self.protocol_id, self.priority]);
        text(octets, &self.schedule);
        text(octets, &self.validity);
        octets.extend([self.registered_delivery, self.replace_if_present, self.data_coding, self.default_message_id]);
        let message = &self.short_message[..self.short_message.len().min(SHORT_MESSAGE_MAX)];
        octets.push(message.len() as u8);
        octets.extend(message);
        for (tag, value) in &self.options {
            parameter(octets, *tag, value);
        }
    }
}

/// Ends at the first zero octet, and says no more than may be read back.
fn text(octets: &mut Vec<u8>, text: &[u8]) {
    octets.extend(text.iter().copied().take_while(|octet| *octet != 0).take(TEXT_MAX));
    octets.push(0);
}

fn address(octets: &mut Vec<u8>, address: &Address) {
    octets.extend([address.ton, address.npi]);
    text(octets, &address.text);
}

fn parameter(octets: &mut Vec<u8>, tag: u16, value: &[u8]) {
    let value = &value[..value.len().min(u16::MAX.into())];
    octets.extend(tag.to_be_bytes());
    octets.extend((value.len() as u16).to_be_bytes());
    octets.extend(value);
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[octet]| octet)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    fn octets(&mut self, length: usize) -> Result<Vec<u8>, Malformed> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(Malformed::Field)?;
        self.0 = rest;
        Ok(head.to_vec())
    }

    fn text(&mut self) -> Result<Vec<u8>, Malformed> {
        let end = self.0.iter().position(|octet| *octet == 0).ok_or(Malformed::Short)?;
        if end > TEXT_MAX {
            return Err(Malformed::Field);
        }
        let text = self.octets(end)?;
        self.u8()?;
        Ok(text)
    }

    fn address(&mut self) -> Result<Address, Malformed> {
        Ok(Address { ton: self.u8()?, npi: self.u8()?, text: self.text()? })
    }

    fn options(&mut self) -> Result<Vec<Parameter>, Malformed> {
        let mut options = Vec::new();
        while !self.0.is_empty() {
            let tag = self.u16()?;
            let length = self.u16()?;
            options.push((tag, self.octets(length.into())?));
        }
        Ok(options)
    }

    fn message(&mut self) -> Result<Message, Malformed> {
        let service_type = self.text()?;
        let (source, destination) = (self.address()?, self.address()?);
        let [esm_class, protocol_id, priority] = self.array()?;
        let (schedule, validity) = (self.text()?, self.text()?);
        let [registered_delivery, replace_if_present, data_coding, default_message_id] = self.array()?;
        let length = self.u8()?;
        let short_message = self.octets(length.into())?;
        Ok(Message {
            service_type,
            source,
            destination,
            esm_class,
            protocol_id,
            priority,
            schedule,
            validity,
            registered_delivery,
            replace_if_present,
            data_coding,
            default_message_id,
            short_message,
            options: self.options()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex");
        digits.chunks(2).map(pair).collect()
    }

    #[test]
    fn the_vectors_read_and_write_as_the_specification_says() {
        // SMPP 3.4 section 3.2.2, the sample PDU (there as bind_transmitter), and PDUs laid out by hand from sections 4.1.5 to 4.11.
        let bind = hex(
            "0000002F 00000009 00000000 00000001 534D50503354455354 00 7365637265743038 00 5355424D495431 00 00 01 01 00",
        );
        let read = Pdu::decode(&bind).expect("good");
        assert_eq!(read.sequence, 1);
        let Body::BindTransceiver(fields) = &read.body else { panic!("a bind") };
        assert_eq!((&fields.system_id[..], &fields.password[..]), (&b"SMPP3TEST"[..], &b"secret08"[..]));
        assert_eq!((&fields.system_type[..], fields.address.ton, fields.address.npi), (&b"SUBMIT1"[..], 1, 1));
        assert_eq!(read.encode(), bind);

        let submit = hex(
            "00000039 00000004 00000000 00000002 00 05 00 5457 00 01 01 343930303132333435 00 40 00 00 00 00 01 00 00 00 \
             05 48656C6C6F 0424 0004 41424344",
        );
        let read = Pdu::decode(&submit).map(|pdu| (pdu.encode(), pdu.body));
        let Ok((written, Body::SubmitSm(message))) = read else { panic!("{read:?}") };
        assert_eq!(written, submit);
        assert_eq!((&message.source.text[..], &message.destination.text[..]), (&b"TW"[..], &b"490012345"[..]));
        assert_eq!((message.esm_class, message.registered_delivery), (0x40, 1));
        assert_eq!((&message.short_message[..], message.content()), (&b"Hello"[..], &b"Hello"[..]));
        assert_eq!(option(&message.options, tag::MESSAGE_PAYLOAD), Some(&b"ABCD"[..]));

        for (octets, body, status) in [
            ("00000010 00000015 00000000 00000007", Body::EnquireLink, 0),
            ("00000010 80000015 00000000 00000007", Body::EnquireLinkResp, 0),
            ("00000010 00000006 00000000 00000007", Body::Unbind, 0),
            ("00000010 80000000 00000003 00000007", Body::GenericNack, status::INVALID_COMMAND),
            ("00000012 80000004 00000000 00000007 37 00", Body::SubmitSmResp { message_id: b"7".to_vec() }, 0),
            // Errors come with and without a body.
            ("00000011 80000004 00000058 00000007 00", Body::SubmitSmResp { message_id: vec![] }, status::THROTTLED),
            ("00000012 00000103 00000000 00000007 0102", Body::Other { command: 0x103, octets: vec![1, 2] }, 0),
        ] {
            let octets = hex(octets);
            assert_eq!(Pdu::decode(&octets), Ok(Pdu { status, sequence: 7, body }));
            assert_eq!(Pdu::decode(&octets).expect("good").encode(), octets);
        }
        let longest = Message { short_message: vec![b'x'; SHORT_MESSAGE_MAX], ..Message::default() };
        let longest = Pdu::new(7, Body::DeliverSm(Box::new(longest)));
        assert_eq!(Pdu::decode(&longest.encode()), Ok(longest));
        let bare = hex("00000010 80000004 00000058 00000007");
        assert!(matches!(Pdu::decode(&bare), Ok(Pdu { status: 0x58, body: Body::SubmitSmResp { .. }, .. })));
    }

    #[test]
    fn what_is_no_pdu_is_refused_with_its_reason() {
        for (octets, reason) in [
            ("0000000F 00000015 00000000 000000", Malformed::Length(15)),
            ("7FFFFFFF 00000015 00000000 00000001", Malformed::Length(0x7fff_ffff)),
            ("00000011 00000015 00000000 00000001", Malformed::Short),
            ("00000010 00000015 00000000 00000001 00", Malformed::Trailing),
            ("00000011 00000015 00000000 00000001 00", Malformed::Trailing),
            ("00000010 80000004 00000000 00000001", Malformed::Short),
            ("00000011 80000004 00000000 00000001 41", Malformed::Short),
            // An optional parameter that says it is longer than what is left.
            ("00000015 80000009 00000000 00000001 00 0210 0005", Malformed::Field),
            ("00000013 80000009 00000000 00000001 00 0210", Malformed::Short),
        ] {
            assert_eq!(Pdu::decode(&hex(octets)), Err(reason), "{octets}");
        }
        assert_eq!(frame(&[0, 0, 0]), Ok(None));
        assert_eq!(frame(&[0, 0, 0, 16]), Ok(Some(16)));
    }

    fn text() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(1_u8..=255, 0..=TEXT_MAX)
    }

    fn address() -> impl Strategy<Value = Address> {
        (any::<u8>(), any::<u8>(), text()).prop_map(|(ton, npi, text)| Address { ton, npi, text })
    }

    fn message() -> impl Strategy<Value = Message> {
        let octets = proptest::collection::vec(any::<u8>(), 0..=SHORT_MESSAGE_MAX);
        let options = proptest::collection::vec((any::<u16>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..4);
        (text(), address(), address(), any::<[u8; 7]>(), text(), text(), octets, options).prop_map(
            |(service_type, source, destination, flags, schedule, validity, short_message, options)| Message {
                service_type,
                source,
                destination,
                esm_class: flags[0],
                protocol_id: flags[1],
                priority: flags[2],
                schedule,
                validity,
                registered_delivery: flags[3],
                replace_if_present: flags[4],
                data_coding: flags[5],
                default_message_id: flags[6],
                short_message,
                options,
            },
        )
    }

    fn body() -> impl Strategy<Value = Body> {
        prop_oneof![
            message().prop_map(|message| Body::SubmitSm(Box::new(message))),
            message().prop_map(|message| Body::DeliverSm(Box::new(message))),
            text().prop_map(|message_id| Body::SubmitSmResp { message_id }),
            (text(), text(), text(), any::<u8>(), address()).prop_map(
                |(system_id, password, system_type, interface_version, address)| Body::BindTransceiver(Bind {
                    system_id,
                    password,
                    system_type,
                    interface_version,
                    address,
                })
            ),
            Just(Body::EnquireLink),
            Just(Body::UnbindResp),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_the_same(sequence in any::<u32>(), status in any::<u32>(), body in body()) {
            let pdu = Pdu { status, sequence, body };
            prop_assert_eq!(Pdu::decode(&pdu.encode()), Ok(pdu));
        }

        #[test]
        fn whatever_reads_is_written_and_reads_the_same_again(
            command in prop_oneof![Just(SUBMIT_SM), Just(DELIVER_SM), Just(BIND_TRANSCEIVER | RESPONSE), any::<u32>()],
            rest in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut octets = (16 + rest.len() as u32).to_be_bytes().to_vec();
            octets.extend(command.to_be_bytes());
            octets.extend([0; 8]);
            octets.extend(&rest);
            if let Ok(pdu) = Pdu::decode(&octets) {
                prop_assert_eq!(Pdu::decode(&pdu.encode()), Ok(pdu));
            }
        }
    }
}
