//! An SMS centre that speaks SMPP 3.4, written from the specification and apart from the product's own codec; and one that others
//! wrote (PyPI smpp34), for the same conversation.

use super::Mood;
use crate::{Proc, free_port, program, repository};
use anyhow::Context;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const BIND_TRANSCEIVER: u32 = 9;
const SUBMIT_SM: u32 = 4;
const DELIVER_SM: u32 = 5;
const UNBIND: u32 = 6;
const ENQUIRE_LINK: u32 = 0x15;
const RESPONSE: u32 = 0x8000_0000;

/// A submit_sm as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmscMessage {
    /// The centre's name for it.
    pub id: String,
    pub from: String,
    pub to: String,
    pub esm_class: u8,
    pub data_coding: u8,
    pub registered_delivery: u8,
    pub octets: Vec<u8>,
}

pub struct Smsc {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    mood: Mutex<Mood>,
    /// Wanted at the bind; empty = any.
    password: Mutex<String>,
    received: Mutex<Vec<SmscMessage>>,
    bound: Mutex<Vec<TcpStream>>,
    next: AtomicU32,
    binds: AtomicU32,
    unbinds: AtomicU32,
    enquiries: AtomicU32,
    /// Statuses with which the client answered what was delivered to it.
    answers: Mutex<Vec<u32>>,
    silent: AtomicBool,
    over: AtomicBool,
}

impl Smsc {
    pub fn start() -> anyhow::Result<Self> {
        Self::start_at(free_port())
    }

    pub fn start_at(port: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        let state = Arc::new(State { next: AtomicU32::new(1), ..State::default() });
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.over.load(Ordering::SeqCst) {
                    return;
                }
                let shared = shared.clone();
                std::thread::spawn(move || {
                    // A client that goes away ends its thread.
                    let _ = shared.serve(stream);
                });
            }
        });
        Ok(Self { port, state })
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn set_mood(&self, mood: Mood) {
        *self.state.mood.lock().expect("whole") = mood;
    }

    pub fn set_password(&self, password: &str) {
        password.clone_into(&mut self.state.password.lock().expect("whole"));
    }

    /// Answers nothing at all from now on, but keeps its connections.
    pub fn fall_silent(&self) {
        self.state.silent.store(true, Ordering::SeqCst);
    }

    pub fn received(&self) -> Vec<SmscMessage> {
        self.state.received.lock().expect("whole").clone()
    }

    pub fn binds(&self) -> u32 {
        self.state.binds.load(Ordering::SeqCst)
    }

    pub fn unbinds(&self) -> u32 {
        self.state.unbinds.load(Ordering::SeqCst)
    }

    pub fn enquiries(&self) -> u32 {
        self.state.enquiries.load(Ordering::SeqCst)
    }

    pub fn answers(&self) -> Vec<u32> {
        self.state.answers.lock().expect("whole").clone()
    }

    /// A person's text to whoever is bound.
    pub fn text(&self, from: &str, text: &str) {
        self.deliver(0, from, text.as_bytes());
    }

    pub fn receipt(&self, id: &str, state: &str) {
        let text =
            format!("id:{id} sub:001 dlvrd:001 submit date:2611281300 done date:2611281301 stat:{state} err:000");
        self.deliver(4, "4900000000", text.as_bytes());
    }

    /// A receipt, and octets that are no SMPP, at once.
    pub fn receipt_and_garbage(&self, id: &str, state: &str) {
        let receipt = self.state.delivery(4, "4900000000", format!("id:{id} stat:{state} err:000").as_bytes());
        self.state.send_all(&[&receipt[..], &[0xff; 64]].concat());
    }

    /// Hangs up on everybody.
    pub fn hang_up(&self) {
        for stream in self.state.bound.lock().expect("whole").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn deliver(&self, esm_class: u8, from: &str, text: &[u8]) {
        self.state.send_all(&self.state.delivery(esm_class, from, text));
    }
}

impl Drop for Smsc {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        self.hang_up();
        // Wakes the thread that waits for connections.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl State {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        loop {
            let mut header = [0; 16];
            stream.read_exact(&mut header)?;
            let field = |place: usize| u32::from_be_bytes(header[place * 4..place * 4 + 4].try_into().expect("four"));
            let (length, command, status, sequence) = (field(0), field(1), field(2), field(3));
            let mut body = vec![0; (length as usize).saturating_sub(16).min(100_000)];
            stream.read_exact(&mut body)?;
            if self.silent.load(Ordering::SeqCst) {
                continue;
            }
            match command {
                BIND_TRANSCEIVER => {
                    let mut texts = body.split(|octet| *octet == 0).map(String::from_utf8_lossy);
                    let (_, password) = (texts.next(), texts.next().unwrap_or_default());
                    let wanted = self.password.lock().expect("whole").clone();
                    if !wanted.is_empty() && wanted != password {
                        stream.write_all(&pdu(command | RESPONSE, 0x0e, sequence, b""))?;
                        return Ok(());
                    }
                    self.binds.fetch_add(1, Ordering::SeqCst);
                    stream.write_all(&pdu(command | RESPONSE, 0, sequence, b"LAB\0\x02\x10\0\x01\x34"))?;
                    self.bound.lock().expect("whole").push(stream.try_clone()?);
                }
                SUBMIT_SM => {
                    if !self.submitted(&mut stream, sequence, &body)? {
                        return stream.shutdown(Shutdown::Both);
                    }
                }
                ENQUIRE_LINK => {
                    self.enquiries.fetch_add(1, Ordering::SeqCst);
                    stream.write_all(&pdu(command | RESPONSE, 0, sequence, b""))?;
                }
                UNBIND => {
                    self.unbinds.fetch_add(1, Ordering::SeqCst);
                    stream.write_all(&pdu(command | RESPONSE, 0, sequence, b""))?;
                    return Ok(());
                }
                command if command == DELIVER_SM | RESPONSE => self.answers.lock().expect("whole").push(status),
                command if command & RESPONSE != 0 => {}
                _ => stream.write_all(&pdu(RESPONSE, 3, sequence, b""))?,
            }
        }
    }

    /// `false`: it hangs up.
    fn submitted(&self, stream: &mut TcpStream, sequence: u32, body: &[u8]) -> std::io::Result<bool> {
        let id = format!("lab-{}", self.next.fetch_add(1, Ordering::SeqCst));
        let Some(message) = message(&id, body) else {
            stream.write_all(&pdu(SUBMIT_SM | RESPONSE, 8, sequence, b"\0"))?;
            return Ok(true);
        };
        let wants_receipt = message.registered_delivery & 1 == 1;
        self.received.lock().expect("whole").push(message);
        let taken = pdu(SUBMIT_SM | RESPONSE, 0, sequence, format!("{id}\0").as_bytes());
        let receipt = self.delivery(4, "4900000000", format!("id:{id} stat:DELIVRD err:000").as_bytes());
        let mood = *self.mood.lock().expect("whole");
        match mood {
            Mood::Drop => return Ok(false),
            Mood::Refuse => stream.write_all(&pdu(SUBMIT_SM | RESPONSE, 0x58, sequence, b"\0"))?,
            // An answer to what nobody asked, and a receipt for what nobody sent.
            Mood::Lie => {
                stream.write_all(&pdu(SUBMIT_SM | RESPONSE, 0, sequence.wrapping_add(1000), b"other\0"))?;
                stream.write_all(&self.delivery(4, "4900000000", b"id:never-sent stat:DELIVRD err:000"))?;
            }
            Mood::Accept | Mood::Delay(_) | Mood::Double => {
                if let Mood::Delay(ms) = mood {
                    std::thread::sleep(Duration::from_millis(ms));
                }
                for _ in 0..if mood == Mood::Double { 2 } else { 1 } {
                    stream.write_all(&taken)?;
                    if wants_receipt {
                        stream.write_all(&receipt)?;
                    }
                }
            }
        }
        Ok(true)
    }

    fn delivery(&self, esm_class: u8, from: &str, text: &[u8]) -> Vec<u8> {
        let mut body = b"\0\x01\x01".to_vec();
        body.extend(from.as_bytes());
        body.extend(b"\0\x05\0LAB\0");
        body.extend([esm_class, 0, 0, 0, 0, 0, 0, 0, 0, text.len() as u8]);
        body.extend(text);
        pdu(DELIVER_SM, 0, self.next.fetch_add(1, Ordering::SeqCst) + 0x10_0000, &body)
    }

    fn send_all(&self, octets: &[u8]) {
        // Those that are gone are found out when they are written to.
        self.bound.lock().expect("whole").retain_mut(|stream| stream.write_all(octets).is_ok());
    }
}

fn pdu(command: u32, status: u32, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = 16 + body.len() as u32;
    let header = [length, command, status, sequence].map(u32::to_be_bytes).concat();
    [&header, body].concat()
}

fn message(id: &str, body: &[u8]) -> Option<SmscMessage> {
    let mut place = 0;
    let mut text = |skip: usize| {
        let rest = body.get(place + skip..)?;
        let end = rest.iter().position(|octet| *octet == 0)?;
        place += skip + end + 1;
        Some(String::from_utf8_lossy(&rest[..end]).into_owned())
    };
    text(0)?;
    let (from, to) = (text(2)?, text(2)?);
    // esm_class, protocol id and priority stand before the schedule.
    text(3)?;
    text(0)?;
    let esm = body[..place].to_vec();
    let rest = body.get(place..)?;
    let [registered_delivery, _, data_coding, _, length, octets @ ..] = rest else { return None };
    let octets = octets.get(..usize::from(*length))?.to_vec();
    let esm_class = esm_class(&esm)?;
    let (registered_delivery, data_coding) = (*registered_delivery, *data_coding);
    Some(SmscMessage { id: id.into(), from, to, esm_class, data_coding, registered_delivery, octets })
}

/// The octet after the service type and two addresses.
fn esm_class(fields: &[u8]) -> Option<u8> {
    let mut rest = fields;
    for skip in [0, 2, 2] {
        rest = rest.get(skip..)?;
        let end = rest.iter().position(|octet| *octet == 0)?;
        rest = rest.get(end + 1..)?;
    }
    rest.first().copied()
}

/// A centre by others. The destination's last digits choose what it does: ...9999 is throttled, ...9998 is no destination, ...9997
/// is taken and not delivered.
pub struct IndependentSmsc {
    port: u16,
    log: PathBuf,
    _process: Proc,
}

impl IndependentSmsc {
    pub fn start(dir: &Path) -> anyhow::Result<Self> {
        let (port, log) = (free_port(), dir.join("smsc.jsonl"));
        let mut command = Command::new(program("python")?);
        command.arg(repository().join("tests/lab/data/smsc.py")).arg(port.to_string()).arg(&log);
        let process = Proc::spawn("smsc", command, &dir.join("smsc.log"))?;
        crate::wait_until("the centre", Duration::from_secs(60), || TcpStream::connect(("127.0.0.1", port)).is_ok())
            .with_context(|| process.log())?;
        Ok(Self { port, log, _process: process })
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A JSON object for each submit_sm, as its own codec read it.
    pub fn received(&self) -> Vec<serde_json::Value> {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}
