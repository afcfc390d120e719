//! The address somebody comes from: for limits, the log and the audit. It decides one thing: whether an application asks from its own
//! networks (FC-05).

use crate::app::App;
use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderMap;
use http::request::Parts;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// The other end of the connection.
#[derive(Clone, Copy)]
pub(super) struct Peer(pub IpAddr);

/// The address the person comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientAddress(pub IpAddr);

pub(super) async fn find_client(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.0);
    let named = app.behind_proxy.then(|| last_forwarded(request.headers())).flatten();
    request.extensions_mut().insert(ClientAddress(named.unwrap_or(peer).to_canonical()));
    next.run(request).await
}

/// Who connected to the proxy: the last address of the last `X-Forwarded-For`. What stands before it came from outside.
fn last_forwarded(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
    last.rsplit(',').next()?.trim().parse().ok()
}

impl<S: Sync> FromRequestParts<S> for ClientAddress {
    type Rejection = Infallible;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // `find_client` stands before every handler.
        Ok(parts.extensions.get().copied().unwrap_or(Self(Ipv4Addr::UNSPECIFIED.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_proxy_itself_added_is_believed_and_only_plain_addresses() {
        // B-94
        let found = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", line.parse().expect("a value"));
            }
            last_forwarded(&headers)
        };
        let address = |text: &str| text.parse::<IpAddr>().ok();
        assert_eq!(found(&["203.0.113.9"]), address("203.0.113.9"));
        assert_eq!(found(&["10.0.0.1, 203.0.113.9"]), address("203.0.113.9"));
        assert_eq!(found(&["10.0.0.1", "203.0.113.9"]), address("203.0.113.9"));
        for bad in ["", "0x0a000001", "10.1", "010.0.0.1", "fe80::1%eth0", "unknown", "203.0.113.9:1234"] {
            assert_eq!(found(&[bad]), None, "{bad}");
        }
        assert_eq!(found(&[]), None);
    }
}
