//! A connection to an SMS centre over SMPP 3.4: bound as long as the process lives, bound again when it breaks.
//!
//! ```text
//! connect (TLS) -> bind_transceiver -> Session until it closes -> pause 1 s .. 30 s -> connect ...
//! ```
//!
//! While it pauses texts are refused at once, so that the next provider gets them in time.

use super::Outgoing;
use super::gsm::{self, Alphabet};
use super::inbound::Heard;
use super::pdu::{Address, Bind, Body, HEADER_BYTES, Message, PDU_BYTES_MAX, Pdu, frame, status};
use super::session::{JobId, Output, Session};
use crate::providers::ask::{Kind, Refusal};
use crate::providers::connect::{Stream, connect};
use domain::Secret;
use domain::settings::{Adapter, Provider};
use service_kit::Shutdown;
use service_kit::health::Upstream;
use std::collections::HashMap;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const BIND_TIMEOUT: Duration = Duration::from_secs(5);
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
const UNBIND_PATIENCE: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(250);
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A session that lived so long was a good one: the next pause is short again.
const GOOD_SESSION: Duration = Duration::from_secs(60);
const REQUESTS_MAX: usize = 100;
const READ_BYTES: usize = 4096;

/// The way to one centre. Dropping it unbinds.
pub struct SmppCarrier {
    requests: mpsc::Sender<Submit>,
    sender: Address,
}

struct Submit {
    parts: Vec<Message>,
    until: Instant,
    answer: oneshot::Sender<Result<String, Refusal>>,
}

/// What the centre says unasked goes there, with the provider's name.
pub type Ear = mpsc::Sender<(String, Heard)>;

struct Line {
    name: String,
    address: String,
    tls: bool,
    ca: String,
    bind: Bind,
    window: u32,
    enquire_every: Duration,
    requests: mpsc::Receiver<Submit>,
    ear: Ear,
    health: Upstream,
    shutdown: Shutdown,
}

/// Why a session ended.
enum Ended {
    /// The carrier was dropped, or the process stops: for good.
    Unwanted,
    Broken(String),
}

impl SmppCarrier {
    pub fn start(
        provider: &Provider,
        secret: &Secret,
        ear: Ear,
        health: Upstream,
        shutdown: &Shutdown,
    ) -> Result<Self, Refusal> {
        let Adapter::Smpp { address, tls, system_id, system_type, sender, window, enquire_seconds, ca } =
            &provider.adapter
        else {
            return Err(Refusal::new(Kind::Misconfigured, "it is no SMPP provider"));
        };
        let (requests, waiting) = mpsc::channel(REQUESTS_MAX);
        let line = Line {
            name: provider.name.to_string(),
            address: address.clone(),
            tls: *tls,
            ca: ca.clone(),
            bind: Bind {
                system_id: system_id.clone().into_bytes(),
                password: secret.expose().to_vec(),
                system_type: system_type.clone().into_bytes(),
                interface_version: 0x34,
                address: Address::default(),
            },
            window: *window,
            enquire_every: Duration::from_secs((*enquire_seconds).clamp(5, 3600).into()),
            requests: waiting,
            ear,
            health,
            shutdown: shutdown.clone(),
        };
        shutdown.spawn_background(line.keep());
        Ok(Self { requests, sender: sender_address(sender) })
    }

    pub async fn send(&self, outgoing: &Outgoing<'_>, until: Instant) -> Result<String, Refusal> {
        let parts = messages(&self.sender, outgoing);
        let (answer, answered) = oneshot::channel();
        let gone = |_| Refusal::new(Kind::Unreachable, "its session has ended");
        self.requests
            .try_send(Submit { parts, until, answer })
            .map_err(|_| Refusal::new(Kind::Busy, "too much waits for it already"))?;
        answered.await.map_err(gone)?
    }
}

impl Line {
    async fn keep(mut self) {
        let mut pause = PAUSE_MIN;
        loop {
            let begun = Instant::now();
            let why = match self.session().await {
                Ended::Unwanted => return,
                Ended::Broken(why) => why,
            };
            self.health.down(why.clone());
            tracing::warn!(provider = self.name, error = why, "the SMPP session is down");
            if begun.elapsed() >= GOOD_SESSION {
                pause = PAUSE_MIN;
            }
            if !self.rest(pause, &why).await {
                return;
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Waits, and refuses what is asked for meanwhile. `false`: nobody wants this line any more.
    async fn rest(&mut self, pause: Duration, why: &str) -> bool {
        let until = Instant::now() + pause;
        loop {
            // Cancel safety: a request that recv has not returned stays in the channel.
            tokio::select! {
                () = tokio::time::sleep_until(until) => return true,
                () = self.shutdown.stopping() => return false,
                request = self.requests.recv() => match request {
                    Some(submit) => drop(submit.answer.send(Err(Refusal::new(Kind::Unreachable, why)))),
                    None => return false,
                },
            }
        }
    }

    async fn session(&mut self) -> Ended {
        let shutdown = self.shutdown.clone();
        let bound = async {
            let mut stream = connect_to(&self.address, self.tls, &self.ca).await?;
            let rest = tokio::time::timeout(BIND_TIMEOUT, bind(&mut stream, &self.bind)).await;
            rest.map_err(|_| "it did not answer the bind in time".to_owned())?.map(|rest| (stream, rest))
        };
        let begun = Instant::now();
        // Cancel safety: a connection that is dropped is closed. Requests wait in the channel, each with its time limit.
        let bound = tokio::select! { bound = bound => bound, () = shutdown.stopping() => return Ended::Unwanted };
        match bound {
            Ok((stream, buffer)) => {
                self.health.up(begun.elapsed());
                tracing::info!(provider = self.name, "the SMPP session is bound");
                self.talk(stream, buffer).await
            }
            Err(why) => Ended::Broken(why),
        }
    }

    async fn talk(&mut self, stream: Box<dyn Stream>, mut buffer: Vec<u8>) -> Ended {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut session = Session::new(self.window, self.enquire_every, Instant::now());
        let mut open: HashMap<JobId, oneshot::Sender<Result<String, Refusal>>> = HashMap::new();
        let (mut next, mut ticks) = (0, tokio::time::interval(TICK));
        let mut chunk = [0; READ_BYTES];
        let ended = 'talk: loop {
            // Cancel safety: recv and tick lose nothing; read either has moved octets into the chunk and is finished, or has not.
            let mut outputs = tokio::select! {
                () = self.shutdown.stopping() => break Ended::Unwanted,
                _ = ticks.tick() => session.tick(Instant::now()),
                request = self.requests.recv() => match request {
                    None => break Ended::Unwanted,
                    Some(Submit { parts, until, answer }) => {
                        next += 1;
                        open.insert(next, answer);
                        session.submit(next, parts, until, Instant::now())
                    }
                },
                read = reader.read(&mut chunk) => match read {
                    Ok(0) => break Ended::Broken("it closed the connection".into()),
                    Err(error) => break Ended::Broken(format!("the connection broke: {}", error.kind())),
                    Ok(count) => {
                        buffer.extend_from_slice(&chunk[..count]);
                        let (pdus, broken) = take(&mut buffer);
                        let received = pdus.into_iter().flat_map(|pdu| session.receive(pdu, Instant::now()));
                        let mut outputs: Vec<Output> = received.collect();
                        outputs.extend(broken.map(Output::Close));
                        outputs
                    }
                },
            };
            let mut octets = Vec::new();
            for output in outputs.drain(..) {
                match output {
                    Output::Write(pdu) => octets.extend(pdu.encode()),
                    Output::Done(job, result) => {
                        // Whoever asked may have gone away.
                        let _ = open.remove(&job).map(|answer| answer.send(result));
                    }
                    Output::Heard(sequence, heard) => {
                        // A full ear is no reason to lose it: the centre keeps it and comes again.
                        let taken = self.ear.try_send((self.name.clone(), heard)).is_ok();
                        if let Output::Write(pdu) = session.taken(sequence, taken) {
                            octets.extend(pdu.encode());
                        }
                    }
                    Output::Close(why) => {
                        let _ = write(&mut writer, &octets).await;
                        break 'talk Ended::Broken(why);
                    }
                }
            }
            if let Err(why) = write(&mut writer, &octets).await {
                break Ended::Broken(why);
            }
        };
        let why = if matches!(ended, Ended::Unwanted) { "this node is stopping" } else { "the session broke" };
        for output in session.end_all(why) {
            if let Output::Done(job, result) = output {
                let _ = open.remove(&job).map(|answer| answer.send(result));
            }
        }
        if matches!(ended, Ended::Unwanted) && write(&mut writer, &session.goodbye().encode()).await.is_ok() {
            // Politeness: the centre closes the connection after its answer, or we do.
            let _ = tokio::time::timeout(UNBIND_PATIENCE, reader.read(&mut chunk)).await;
        }
        ended
    }
}

async fn connect_to(address: &str, tls: bool, ca: &str) -> Result<Box<dyn Stream>, String> {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let port = port.parse().map_err(|_| "its address has no port".to_owned())?;
    let connecting = connect(host.trim_matches(['[', ']']), port, tls.then_some(ca));
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
    connected.map_err(|_| "no connection in time".to_owned())?.map_err(|failure| failure.to_string())
}

/// Octets that came after the answer are the session's.
async fn bind(stream: &mut Box<dyn Stream>, bind: &Bind) -> Result<Vec<u8>, String> {
    let broken = |error: std::io::Error| format!("the connection broke: {}", error.kind());
    let request = Pdu::new(1, Body::BindTransceiver(bind.clone()));
    stream.write_all(&request.encode()).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let (mut buffer, mut chunk) = (Vec::new(), [0; READ_BYTES]);
    loop {
        if let Some(pdu) = take_one(&mut buffer)? {
            return match pdu {
                Pdu { status: status::OK, sequence: 1, body: Body::BindTransceiverResp { .. } } => Ok(buffer),
                Pdu { status, .. } => Err(format!("it refused the bind with SMPP status 0x{status:08x}")),
            };
        }
        match stream.read(&mut chunk).await.map_err(broken)? {
            0 => return Err("it closed the connection".into()),
            count => buffer.extend_from_slice(&chunk[..count]),
        }
    }
}

async fn write(writer: &mut (impl AsyncWrite + Unpin), octets: &[u8]) -> Result<(), String> {
    if octets.is_empty() {
        return Ok(());
    }
    let writing = async {
        writer.write_all(octets).await?;
        writer.flush().await
    };
    match tokio::time::timeout(WRITE_TIMEOUT, writing).await {
        Ok(written) => written.map_err(|error| format!("the connection broke: {}", error.kind())),
        Err(_) => Err("it takes nothing any more".into()),
    }
}

/// The PDUs that are there whole, and why no more can come: what was good before a bad one counts.
fn take(buffer: &mut Vec<u8>) -> (Vec<Pdu>, Option<String>) {
    let mut pdus = Vec::new();
    loop {
        match take_one(buffer) {
            Ok(Some(pdu)) => pdus.push(pdu),
            Ok(None) => return (pdus, None),
            Err(why) => return (pdus, Some(why)),
        }
    }
}

/// The first PDU of a buffer, once it is there whole.
fn take_one(buffer: &mut Vec<u8>) -> Result<Option<Pdu>, String> {
    let malformed = |error| format!("it sent what is no SMPP: {error:?}");
    let Some(length) = frame(buffer).map_err(malformed)? else { return Ok(None) };
    debug_assert!((HEADER_BYTES..=PDU_BYTES_MAX).contains(&length));
    if buffer.len() < length {
        return Ok(None);
    }
    let pdu = Pdu::decode(&buffer[..length]).map_err(malformed)?;
    buffer.drain(..length);
    Ok(Some(pdu))
}

/// Letters, a short code, or an international number (section 5.2.5).
fn sender_address(sender: &str) -> Address {
    let digits = sender.trim_start_matches('+');
    let numeric = !digits.is_empty() && digits.bytes().all(|sign| sign.is_ascii_digit());
    let (ton, npi) = match (numeric, sender.is_empty()) {
        (_, true) => (0, 0),
        (true, _) if sender.starts_with('+') || digits.len() >= 8 => (1, 1),
        (true, _) => (3, 0),
        (false, _) => (5, 0),
    };
    Address { ton, npi, text: if numeric { digits.into() } else { sender.as_bytes().to_vec() } }
}

/// One submit_sm for each part, with the header that puts them together again (TS 23.040 section 9.2.3.24.1).
fn messages(sender: &Address, outgoing: &Outgoing<'_>) -> Vec<Message> {
    let encoded = gsm::encode(outgoing.text);
    let count = encoded.parts.len();
    // Parts of one text have one reference; two texts to one phone at a time should not share it.
    let reference = outgoing.reference;
    let last = count - 1;
    let parts = encoded.parts.into_iter().enumerate();
    parts
        .map(|(place, content)| {
            let header = if count > 1 { vec![5, 0, 3, reference, count as u8, place as u8 + 1] } else { vec![] };
            Message {
                source: sender.clone(),
                destination: Address { ton: 1, npi: 1, text: outgoing.to.expose().trim_start_matches('+').into() },
                esm_class: if count > 1 { 0x40 } else { 0 },
                validity: validity(outgoing.life),
                registered_delivery: u8::from(place == last),
                data_coding: match encoded.alphabet {
                    Alphabet::Gsm7 => 0,
                    Alphabet::Ucs2 => 8,
                },
                short_message: [header, content].concat(),
                ..Message::default()
            }
        })
        .collect()
}

/// How long the centre may try, in relative time (section 7.1.1): a code that comes when it is over only confuses.
fn validity(life: Duration) -> Vec<u8> {
    let seconds = life.as_secs().clamp(60, 86_399);
    format!("000000{:02}{:02}{:02}000R", seconds / 3600, seconds / 60 % 60, seconds % 60).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::PhoneNumber;

    fn outgoing<'a>(to: &'a PhoneNumber, text: &'a str) -> Outgoing<'a> {
        Outgoing { to, text, life: Duration::from_secs(300), reference: 7, callback: "" }
    }

    #[test]
    fn a_short_text_is_one_message_and_a_long_one_is_parts_with_a_header() {
        let to = PhoneNumber::new("+4915123456789").expect("a number");
        let [message] = &messages(&sender_address("Twinlock"), &outgoing(&to, "Code 123"))[..] else { panic!("one") };
        assert_eq!((message.source.ton, message.source.npi), (5, 0));
        assert_eq!((&message.destination.text[..], message.destination.ton), (&b"4915123456789"[..], 1));
        assert_eq!((message.esm_class, message.data_coding, message.registered_delivery), (0, 0, 1));
        assert_eq!(message.short_message, b"Code 123");
        assert_eq!(message.validity, b"000000000500000R");
        let text = "я".repeat(100);
        let parts = messages(&sender_address("+4930901820"), &outgoing(&to, &text));
        assert_eq!(parts.len(), 2);
        assert_eq!((parts[0].source.ton, parts[0].data_coding, parts[0].esm_class), (1, 8, 0x40));
        assert_eq!(parts[0].short_message[..6], [5, 0, 3, 7, 2, 1]);
        assert_eq!(parts[1].short_message[..6], [5, 0, 3, 7, 2, 2]);
        assert_eq!((parts[0].registered_delivery, parts[1].registered_delivery), (0, 1));
        assert!(parts.iter().all(|part| part.short_message.len() <= 140));
    }

    #[test]
    fn senders_are_numbers_short_codes_or_words() {
        let kind = |sender: &str| {
            let address = sender_address(sender);
            (address.ton, address.npi, String::from_utf8(address.text).expect("text"))
        };
        assert_eq!(kind(""), (0, 0, String::new()));
        assert_eq!(kind("+4930901820"), (1, 1, "4930901820".into()));
        assert_eq!(kind("4930901820"), (1, 1, "4930901820".into()));
        assert_eq!(kind("80123"), (3, 0, "80123".into()));
        assert_eq!(kind("Twin24"), (5, 0, "Twin24".into()));
    }

    #[test]
    fn pdus_are_taken_whole_from_whatever_pieces_come() {
        let octets = [Pdu::new(7, Body::EnquireLink).encode(), Pdu::new(8, Body::Unbind).encode()].concat();
        for cut in 0..octets.len() {
            let mut buffer = octets[..cut].to_vec();
            let (mut pdus, broken) = take(&mut buffer);
            buffer.extend(&octets[cut..]);
            let (rest, broken_later) = take(&mut buffer);
            pdus.extend(rest);
            assert_eq!((broken, broken_later), (None, None), "{cut}");
            assert_eq!(pdus.iter().map(|pdu| pdu.sequence).collect::<Vec<_>>(), [7, 8], "{cut}");
            assert!(buffer.is_empty());
        }
        let (pdus, broken) = take(&mut [octets, vec![0xff; 16]].concat());
        assert_eq!((pdus.len(), broken.is_some()), (2, true), "what was good before a bad one counts");
    }
}
