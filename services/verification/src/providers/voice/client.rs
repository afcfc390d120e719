//! HTTP to a provider of calls: a client for each, small answers.

use super::DialError;
use crate::providers::http;
use reqwest::{Client, RequestBuilder, StatusCode};
use std::collections::HashMap;
use std::sync::Mutex;

/// An answer is a few hundred octets.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Providers of one's settings; beyond this the cache begins anew.
const CLIENTS_MAX: usize = 32;

/// A client for each provider, made anew when its authority changes.
#[derive(Default)]
pub struct Clients {
    made: Mutex<HashMap<String, (String, Client)>>,
}

impl Clients {
    pub fn of(&self, provider: &str, ca: &str) -> Result<Client, DialError> {
        let mut made = self.made.lock().expect("nobody panics while holding the clients");
        if let Some((_, client)) = made.get(provider).filter(|(made_for, _)| made_for == ca) {
            return Ok(client.clone());
        }
        if made.len() >= CLIENTS_MAX {
            made.clear();
        }
        let client = http::client(ca).map_err(DialError::Trust)?;
        made.insert(provider.to_owned(), (ca.to_owned(), client.clone()));
        Ok(client)
    }
}

/// Sends it and reads the answer.
pub async fn answer(request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), DialError> {
    let response = request.send().await.map_err(without_address)?;
    let status = response.status();
    let body = http::body(response, ANSWER_BYTES_MAX).await.map_err(without_address)?;
    Ok((status, body.ok_or(DialError::Nonsense)?))
}

/// The address may hold an account's name or a number: none of it belongs in a log.
fn without_address(error: reqwest::Error) -> DialError {
    DialError::Unreachable(error.without_url())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_that_is_none_is_the_administrators_to_mend() {
        let clients = Clients::default();
        assert!(matches!(clients.of("voice", "not PEM"), Err(DialError::Trust(_))));
        assert!(clients.of("voice", "").is_ok());
    }
}
