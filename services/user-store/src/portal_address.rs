//! Where people and phones reach the portal, and the host that passkeys are bound to.

use crate::Store;
use crate::audit::{self, NewEvent};
use crate::rpc::StoreError;
use crate::sql::{Session, args};
use proto::user_store::{AnnounceReply, AnnounceRequest};
use tonic::Status;

/// Empty = no portal ever started.
pub async fn public_url(session: &mut Session) -> Result<String, StoreError> {
    let row = session.row("SELECT public_url FROM portal_address WHERE id = 1", args![]).await?;
    Ok(row.map_or(Ok(String::new()), |row| row.get("public_url"))?)
}

/// A portal starts. Passkeys are bound to the host of its address (WebAuthn: the RP ID), so another host would void every one of
/// them: it is taken only where that is wanted.
pub async fn announce(store: &Store, request: AnnounceRequest) -> Result<AnnounceReply, StoreError> {
    let host = host_of(&request.public_url).ok_or_else(|| Status::invalid_argument("public_url: no https address"))?;
    let mut session = store.database().write().await?;
    let head = audit::lock(&mut session).await?;
    let known = session.row("SELECT public_url, rp_id FROM portal_address WHERE id = 1", args![]).await?;
    let (known_url, rp_id) = match &known {
        Some(row) => (row.get("public_url")?, row.get("rp_id")?),
        None => (String::new(), host.clone()),
    };
    if rp_id != host && !request.danger_change_rp_id {
        return Ok(AnnounceReply { accepted: false, rp_id });
    }
    if known_url != request.public_url {
        let sql = "INSERT INTO portal_address (id, public_url, rp_id) VALUES (1, $1, $2) \
                   ON CONFLICT (id) DO UPDATE SET public_url = excluded.public_url, rp_id = excluded.rp_id";
        session.execute(sql, args![&request.public_url, &host]).await?;
        let detail = format!("{known_url} -> {}", request.public_url);
        let event = NewEvent::administrative(store.clock().now_ms(), "portal.address", "portal", detail);
        audit::append(&mut session, head, vec![event]).await?;
        // Whoever keeps a copy of the settings asks again: the address comes with them.
        session.execute("UPDATE settings SET revision = revision + 1 WHERE id = 1", args![]).await?;
        session.commit().await?;
    }
    Ok(AnnounceReply { accepted: true, rp_id: host })
}

/// The host of an address, without port, in lower case.
fn host_of(url: &str) -> Option<String> {
    let authority = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let authority = authority.split(['/', '?', '#']).next()?;
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        None => authority.split(':').next()?,
    };
    (!host.is_empty()).then(|| host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::host_of;

    #[test]
    fn the_host_is_read_from_the_address() {
        for (url, host) in [
            ("https://MFA.example.com", Some("mfa.example.com")),
            ("https://mfa.example.com:8443/x", Some("mfa.example.com")),
            ("http://localhost:80", Some("localhost")),
            ("https://[::1]:443", Some("::1")),
            ("ftp://mfa.example.com", None),
            ("https:///x", None),
        ] {
            assert_eq!(host_of(url).as_deref(), host, "{url}");
        }
    }
}
