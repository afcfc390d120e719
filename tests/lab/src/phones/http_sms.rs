//! An SMS carrier with an HTTP API, as far as such a carrier can be told from outside.

use super::Mood;
use crate::free_port;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One request as it came.
#[derive(Debug, Clone, Default)]
pub struct HttpSmsRequest {
    pub method: String,
    /// With its query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl HttpSmsRequest {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

pub struct HttpSms {
    port: u16,
    state: Arc<State>,
}

struct State {
    mood: Mutex<Mood>,
    answer: Mutex<(u16, String)>,
    received: Mutex<Vec<HttpSmsRequest>>,
    over: AtomicBool,
}

impl HttpSms {
    pub fn start() -> anyhow::Result<Self> {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        let state = Arc::new(State {
            mood: Mutex::default(),
            answer: Mutex::new((200, r#"{"id":"carrier-1","status":"ok"}"#.into())),
            received: Mutex::default(),
            over: AtomicBool::new(false),
        });
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

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub fn set_mood(&self, mood: Mood) {
        *self.state.mood.lock().expect("whole") = mood;
    }

    /// What it says by the book.
    pub fn answer_with(&self, status: u16, body: &str) {
        *self.state.answer.lock().expect("whole") = (status, body.into());
    }

    pub fn received(&self) -> Vec<HttpSmsRequest> {
        self.state.received.lock().expect("whole").clone()
    }
}

impl Drop for HttpSms {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for connections.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl State {
    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut stream = stream;
        while let Some(request) = read(&mut reader)? {
            self.received.lock().expect("whole").push(request);
            let (status, body) = self.answer.lock().expect("whole").clone();
            let good = answer(status, "", &body);
            let mood = *self.mood.lock().expect("whole");
            match mood {
                Mood::Accept => stream.write_all(good.as_bytes())?,
                Mood::Delay(ms) => {
                    std::thread::sleep(Duration::from_millis(ms));
                    stream.write_all(good.as_bytes())?;
                }
                Mood::Drop => return Ok(()),
                Mood::Double => stream.write_all(good.repeat(2).as_bytes())?,
                Mood::Refuse => stream.write_all(answer(401, "", "{}").as_bytes())?,
                // "Taken, please say it all again over there."
                Mood::Lie => stream.write_all(answer(307, "location: /elsewhere\r\n", &body).as_bytes())?,
            }
        }
        Ok(())
    }
}

fn answer(status: u16, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn read(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<HttpSmsRequest>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut request = HttpSmsRequest { method, path, ..HttpSmsRequest::default() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        request.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = request.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0_u64);
    let mut body = Vec::new();
    reader.by_ref().take(length).read_to_end(&mut body)?;
    request.body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(request))
}
