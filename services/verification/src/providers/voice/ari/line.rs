//! What Asterisk tells us: events, as JSON over a WebSocket.

use super::super::DialError;
use super::link::Link;
use crate::providers::connect::{ConnectFailure, Stream, connect};
use futures::StreamExt;
use http::header::AUTHORIZATION;
use serde::Deserialize;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocketConfig};

/// An event names a channel and says little more.
const EVENT_BYTES_MAX: usize = 64 * 1024;

/// What happened, as far as a call wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    Answered {
        channel: String,
    },
    Key {
        channel: String,
        key: char,
    },
    Played {
        playback: String,
        failed: bool,
    },
    Over {
        channel: String,
        cause: i64,
    },
    /// Something else.
    Other,
}

/// The events of one application.
pub struct Line {
    socket: WebSocketStream<Box<dyn Stream>>,
}

impl Line {
    pub async fn listen(link: &Link, application: &str) -> Result<Self, DialError> {
        let mut url = link.url(&["events"], &[("app", application)]);
        let tls = url.scheme() == "https";
        url.set_scheme(if tls { "wss" } else { "ws" }).map_err(|()| NOT_HEARD)?;
        let host = url.host_str().ok_or(NOT_HEARD)?.trim_matches(['[', ']']);
        let port = url.port_or_known_default().ok_or(NOT_HEARD)?;
        let transport = connect(host, port, tls.then(|| link.ca())).await.map_err(|failure| match failure {
            ConnectFailure::NoConnection(_) => DialError::Events("no connection"),
            ConnectFailure::NoName => NOT_HEARD,
            ConnectFailure::Trust(error) => DialError::Trust(error),
            ConnectFailure::NoTls => DialError::Events("no TLS connection"),
        })?;
        let mut request = url.as_str().into_client_request().map_err(|_| NOT_HEARD)?;
        request.headers_mut().insert(AUTHORIZATION, link.authorization());
        let limits =
            WebSocketConfig::default().max_message_size(Some(EVENT_BYTES_MAX)).max_frame_size(Some(EVENT_BYTES_MAX));
        let upgraded = tokio_tungstenite::client_async_with_config(request, transport, Some(limits)).await;
        let (socket, _) = upgraded.map_err(|_| DialError::Events("it refused to tell"))?;
        Ok(Self { socket })
    }

    /// The next event; `None`: the line broke. May be dropped at any time.
    pub async fn next(&mut self) -> Option<Heard> {
        loop {
            match self.socket.next().await?.ok()? {
                Message::Text(text) => return Some(heard(text.as_str())),
                Message::Close(_) => return None,
                // Pings are answered below us.
                _ => {}
            }
        }
    }
}

const NOT_HEARD: DialError = DialError::Settings("base_url names no host that can be reached");

fn heard(text: &str) -> Heard {
    #[derive(Deserialize)]
    struct Told {
        #[serde(rename = "type")]
        what: String,
        channel: Option<Named>,
        playback: Option<Playback>,
        digit: Option<String>,
        cause: Option<i64>,
    }
    #[derive(Deserialize)]
    struct Named {
        id: String,
    }
    #[derive(Deserialize)]
    struct Playback {
        id: String,
        #[serde(default)]
        state: String,
    }
    let Ok(told) = serde_json::from_str::<Told>(text) else { return Heard::Other };
    let key = told.digit.as_deref().and_then(|digit| {
        let mut signs = digit.chars();
        signs
            .next()
            .filter(|sign| sign.is_ascii_digit() || matches!(sign, '*' | '#'))
            .filter(|_| signs.next().is_none())
    });
    match (told.what.as_str(), told.channel, told.playback, key) {
        ("StasisStart", Some(channel), ..) => Heard::Answered { channel: channel.id },
        ("ChannelDtmfReceived", Some(channel), _, Some(key)) => Heard::Key { channel: channel.id, key },
        ("PlaybackFinished", _, Some(playback), _) => {
            Heard::Played { playback: playback.id, failed: playback.state == "failed" }
        }
        ("ChannelDestroyed" | "StasisEnd", Some(channel), ..) => {
            Heard::Over { channel: channel.id, cause: told.cause.unwrap_or_default() }
        }
        _ => Heard::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_and_what_is_none_means_nothing() {
        let channel = r#""channel":{"id":"c1","state":"Up"}"#;
        for (text, meaning) in [
            (format!(r#"{{"type":"StasisStart","args":[],{channel}}}"#), Heard::Answered { channel: "c1".into() }),
            (
                format!(r##"{{"type":"ChannelDtmfReceived","digit":"#","duration_ms":100,{channel}}}"##),
                Heard::Key { channel: "c1".into(), key: '#' },
            ),
            (
                r#"{"type":"PlaybackFinished","playback":{"id":"p1","state":"failed"}}"#.into(),
                Heard::Played { playback: "p1".into(), failed: true },
            ),
            (
                format!(r#"{{"type":"ChannelDestroyed","cause":17,"cause_txt":"User busy",{channel}}}"#),
                Heard::Over { channel: "c1".into(), cause: 17 },
            ),
            (format!(r#"{{"type":"ChannelDtmfReceived","digit":"12",{channel}}}"#), Heard::Other),
            (format!(r#"{{"type":"ChannelDtmfReceived","digit":"A",{channel}}}"#), Heard::Other),
            (format!(r#"{{"type":"ChannelDtmfReceived","digit":"",{channel}}}"#), Heard::Other),
            (r#"{"type":"StasisStart"}"#.into(), Heard::Other),
            (r#"{"type":"Dial","peer":{"id":"c1"}}"#.into(), Heard::Other),
            ("[".into(), Heard::Other),
            ("".into(), Heard::Other),
        ] {
            assert_eq!(heard(&text), meaning, "{text}");
        }
    }
}
