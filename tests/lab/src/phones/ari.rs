//! An Asterisk, as far as its REST interface shows it: channels that ring, play and report keys, and events over a WebSocket. A test is the
//! person on the phone.
//!
//! Control: it can refuse or be late, lose the line its events go over, say everything twice, or speak of another channel.

use super::http::{self, Request};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request as Upgrade, Response};

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Accept,
    /// Orders for calls are answered after so many milliseconds.
    Delay(u64),
    Refuse(u16),
    /// Takes no line for events.
    Deaf,
    /// Takes a line for events, and never says that it did.
    Mute,
    /// Every event comes twice.
    Double,
}

/// A PBX.
pub struct Pbx {
    /// `http://127.0.0.1:PORT/ari`
    pub base_url: String,
    desk: Arc<Desk>,
    calls: tokio::sync::Mutex<mpsc::UnboundedReceiver<Channel>>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Pbx {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A channel that rings.
#[derive(Debug, Clone)]
pub struct Channel {
    pub id: String,
    pub endpoint: String,
    pub application: String,
    pub caller: String,
    pub timeout: String,
}

struct Desk {
    user: String,
    password: String,
    mood: Mutex<Mood>,
    state: Mutex<State>,
    calls: mpsc::UnboundedSender<Channel>,
}

#[derive(Default)]
struct State {
    /// By application: who hears its events.
    lines: HashMap<String, mpsc::UnboundedSender<Option<String>>>,
    /// By channel: `Ring` or `Up`, and its application.
    channels: HashMap<String, (String, String)>,
    /// What was played and dialled, in order.
    heard: Vec<String>,
    /// A playback that goes on until it is stopped, where the test wants it so.
    hold: bool,
    playing: Option<(String, String)>,
}

impl Pbx {
    pub async fn start(user: &str, password: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let base_url = format!("http://{}/ari", listener.local_addr()?);
        let (sender, calls) = mpsc::unbounded_channel();
        let desk = Arc::new(Desk {
            user: user.into(),
            password: password.into(),
            mood: Mutex::new(Mood::Accept),
            state: Mutex::default(),
            calls: sender,
        });
        let serving = desk.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let desk = serving.clone();
                tokio::spawn(async move { desk.serve(stream).await });
            }
        });
        Ok(Self { base_url, desk, calls: tokio::sync::Mutex::new(calls), server })
    }

    pub fn set_mood(&self, mood: Mood) {
        *self.desk.mood.lock().expect("whole") = mood;
    }

    /// Recordings go on until somebody stops them.
    pub fn hold_playbacks(&self) {
        self.desk.state.lock().expect("whole").hold = true;
    }

    pub async fn next_call(&self) -> Channel {
        let rung = async { self.calls.lock().await.recv().await.expect("the PBX runs") };
        tokio::time::timeout(Duration::from_secs(10), rung).await.expect("a call was ordered")
    }

    /// No channel rings that nobody has asked for.
    pub async fn is_quiet(&self) -> bool {
        self.calls.lock().await.try_recv().is_err()
    }

    /// Somebody picks up.
    pub fn answer(&self, channel: &Channel) {
        if let Some(known) = self.desk.state.lock().expect("whole").channels.get_mut(&channel.id) {
            known.0 = "Up".into();
        }
        self.desk.tell(&channel.application, &event("StasisStart", &channel.id, json!({ "args": [] })));
    }

    pub fn press(&self, channel: &Channel, keys: &str) {
        for key in keys.chars() {
            let key = json!({ "digit": key.to_string(), "duration_ms": 120 });
            self.desk.tell(&channel.application, &event("ChannelDtmfReceived", &channel.id, key));
        }
    }

    /// The channel ends, with a cause of Q.850.
    pub fn end(&self, channel: &Channel, cause: i64) {
        self.desk.state.lock().expect("whole").channels.remove(&channel.id);
        self.desk.tell(&channel.application, &event("ChannelDestroyed", &channel.id, json!({ "cause": cause })));
    }

    /// An event of any kind, for any channel.
    pub fn tell(&self, application: &str, kind: &str, channel: &str, more: Value) {
        self.desk.tell(application, &event(kind, channel, more));
    }

    /// The line for events breaks; the channel does not.
    pub fn lose_line(&self, channel: &Channel) {
        let line = self.desk.state.lock().expect("whole").lines.remove(&channel.application);
        line.map(|line| line.send(None));
    }

    /// Everything played and dialled so far.
    pub fn heard(&self) -> Vec<String> {
        self.desk.state.lock().expect("whole").heard.clone()
    }

    /// Waits until something was played; returns whether it came in time.
    pub async fn hears(&self, media: &str) -> bool {
        self.until(|state| state.heard.iter().any(|heard| heard == media)).await
    }

    /// There is such a channel.
    pub fn rings(&self, channel: &Channel) -> bool {
        self.desk.state.lock().expect("whole").channels.contains_key(&channel.id)
    }

    /// Waits until we hung up.
    pub async fn is_over(&self, channel: &Channel) -> bool {
        self.until(|state| !state.channels.contains_key(&channel.id)).await
    }

    /// Waits until a line for the channel's events is there.
    pub async fn is_heard(&self, channel: &Channel) -> bool {
        self.until(|state| state.lines.contains_key(&channel.application)).await
    }

    async fn until(&self, so: impl Fn(&State) -> bool) -> bool {
        for _ in 0..1000 {
            if so(&self.desk.state.lock().expect("whole")) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        false
    }
}

fn event(kind: &str, channel: &str, more: Value) -> Value {
    let mut event = json!({ "type": kind, "channel": { "id": channel, "state": "Up" } });
    event.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    event
}

impl Desk {
    fn tell(&self, application: &str, event: &Value) {
        let times = if *self.mood.lock().expect("whole") == Mood::Double { 2 } else { 1 };
        if let Some(line) = self.state.lock().expect("whole").lines.get(application) {
            for _ in 0..times {
                let _ = line.send(Some(event.to_string()));
            }
        }
    }

    async fn serve(&self, mut stream: TcpStream) {
        let mut first = [0_u8; 16];
        let Ok(count) = stream.peek(&mut first).await else { return };
        if first[..count].starts_with(b"GET /ari/events") {
            return self.events(stream).await;
        }
        let Some(request) = http::read(&mut stream).await else { return };
        if request.basic() != Some((self.user.clone(), self.password.clone())) {
            return http::answer(&mut stream, 401, "application/json", "{}").await;
        }
        let (status, body) = self.take(&request).await;
        http::answer(&mut stream, status, "application/json", &body).await;
    }

    async fn events(&self, stream: TcpStream) {
        let (mut application, mut authorization) = (String::new(), String::new());
        let mood = *self.mood.lock().expect("whole");
        if mood == Mood::Mute {
            // Until the other side hangs up.
            let _ = tokio::io::copy(&mut { stream }, &mut tokio::io::sink()).await;
            return;
        }
        let deaf = mood == Mood::Deaf;
        #[allow(clippy::result_large_err, reason = "the handshake's callback is given")]
        let look = |request: &Upgrade, response: Response| -> Result<Response, ErrorResponse> {
            let query = http::read_form(request.uri().query().unwrap_or_default());
            application = query.get("app").cloned().unwrap_or_default();
            authorization = request
                .headers()
                .get("authorization")
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned();
            let refused = || {
                let mut refused = ErrorResponse::new(None);
                *refused.status_mut() = tokio_tungstenite::tungstenite::http::StatusCode::UNAUTHORIZED;
                refused
            };
            let pair = data_encoding::BASE64.encode(format!("{}:{}", self.user, self.password).as_bytes());
            if authorization == format!("Basic {pair}") && !deaf { Ok(response) } else { Err(refused()) }
        };
        let Ok(socket) = tokio_tungstenite::accept_hdr_async(stream, look).await else { return };
        let (mut out, mut back) = socket.split();
        let (sender, mut events) = mpsc::unbounded_channel();
        self.state.lock().expect("whole").lines.insert(application, sender);
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(Some(text)) => {
                        if out.send(Message::text(text)).await.is_err() { return }
                    }
                    Some(None) | None => return,
                },
                said = back.next() => if !matches!(said, Some(Ok(_))) { return },
            }
        }
    }

    async fn take(&self, request: &Request) -> (u16, String) {
        let query = request.query();
        let field = |name: &str| query.get(name).cloned().unwrap_or_default();
        let parts: Vec<_> = request.path().split('/').skip(2).collect();
        match (request.method.as_str(), parts.as_slice()) {
            ("POST", ["channels", id]) => {
                let mood = *self.mood.lock().expect("whole");
                match mood {
                    Mood::Refuse(status) => return (status, "{}".into()),
                    Mood::Delay(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
                    _ => {}
                }
                let channel = Channel {
                    id: (*id).to_owned(),
                    endpoint: field("endpoint"),
                    application: field("app"),
                    caller: field("callerId"),
                    timeout: field("timeout"),
                };
                let mut state = self.state.lock().expect("whole");
                if !state.lines.contains_key(&channel.application) {
                    return (500, "{}".into());
                }
                state.channels.insert(channel.id.clone(), ("Ring".into(), channel.application.clone()));
                let _ = self.calls.send(channel);
                (200, json!({ "id": id, "state": "Down" }).to_string())
            }
            ("GET", ["channels", id]) => match self.state.lock().expect("whole").channels.get(*id) {
                Some((state, _)) => (200, json!({ "id": id, "state": state }).to_string()),
                None => (404, "{}".into()),
            },
            ("DELETE", ["channels", id]) => match self.state.lock().expect("whole").channels.remove(*id) {
                Some(_) => (204, String::new()),
                None => (404, "{}".into()),
            },
            ("POST", ["channels", id, "dtmf"]) => {
                self.state.lock().expect("whole").heard.push(format!("[{}]", field("dtmf")));
                if self.application(id).is_some() { (204, String::new()) } else { (404, "{}".into()) }
            }
            ("POST", ["channels", id, "play", playback]) => {
                let Some(application) = self.application(id) else { return (404, "{}".into()) };
                let hold = {
                    let mut state = self.state.lock().expect("whole");
                    state.heard.push(format!("{} {}", field("media"), field("lang")));
                    state.playing = Some((application.clone(), (*playback).to_owned()));
                    state.hold
                };
                if !hold {
                    self.finish(&application, playback);
                }
                (201, json!({ "id": playback, "state": "queued" }).to_string())
            }
            ("DELETE", ["playbacks", playback]) => {
                let playing = self.state.lock().expect("whole").playing.take();
                match playing.filter(|(_, id)| id == playback) {
                    Some((application, _)) => {
                        self.finish(&application, playback);
                        (204, String::new())
                    }
                    None => (404, "{}".into()),
                }
            }
            _ => (404, "{}".into()),
        }
    }

    fn application(&self, channel: &str) -> Option<String> {
        self.state.lock().expect("whole").channels.get(channel).map(|(_, application)| application.clone())
    }

    fn finish(&self, application: &str, playback: &str) {
        let over = json!({ "type": "PlaybackFinished", "playback": { "id": playback, "state": "done" } });
        self.tell(application, &over);
    }
}
