//! Service accounts that somebody uses as a person (FL-15): whoever has a second factor is not asked for it where they are listed.

use crate::rpc::StoreError;
use crate::sql::{Session, args};
use domain::ObjectId;
use domain::settings::{Channel, Client, ServiceAccount, Settings};
use ldap_wire::Dn;

/// What an administrator should know about the accounts of a client, in words.
pub async fn warnings(session: &mut Session, settings: &Settings, client: &Client) -> Result<Vec<String>, StoreError> {
    let mut found = Vec::new();
    for account in &client.service_accounts {
        if let Some(username) = person(session, settings, client, account).await? {
            found.push(format!(
                "service_accounts: {:?} is {username:?}, who has a second factor, and is never asked for it here; \
                 list an account that no person uses, or take this one out",
                account.name
            ));
        }
    }
    Ok(found)
}

/// The same of all clients, each with its key in front.
pub async fn warnings_of_all(session: &mut Session, settings: &Settings) -> Result<Vec<String>, StoreError> {
    let mut found = Vec::new();
    for client in &settings.clients {
        let of_client = warnings(session, settings, client).await?;
        found.extend(of_client.into_iter().map(|text| format!("client.{}.{text}", client.name)));
    }
    Ok(found)
}

/// Says so in the log when a gateway has found out who an account is.
pub async fn log_pinned(
    session: &mut Session,
    settings: &Settings,
    client: &str,
    id: &ObjectId,
) -> Result<(), StoreError> {
    let Some(client) = settings.client(client) else { return Ok(()) };
    for account in client.service_accounts.iter().filter(|account| account.id.as_ref() == Some(id)) {
        if let Some(username) = person(session, settings, client, account).await? {
            tracing::warn!(
                event = "service_account_enrolled",
                client = client.name.as_str(),
                account = account.name,
                username,
                "a service account has a second factor that it is never asked for"
            );
        }
    }
    Ok(())
}

/// Whoever is not removed and has a method: a code, a device or passkey that counts, recovery codes or answers, or a number where
/// somebody could ring or write to it ($4), as verification counts it.
const PERSON: &str = "SELECT u.username AS username FROM users u \
    WHERE u.directory = $1 AND (u.object_id = $2 OR (u.dn_key = $3 AND $3 <> '')) AND u.state <> 'removed' \
    AND (EXISTS (SELECT 1 FROM factors f WHERE f.user_id = u.user_id AND NOT f.pending) \
    OR EXISTS (SELECT 1 FROM devices d WHERE d.user_id = u.user_id AND d.state = 'active') \
    OR EXISTS (SELECT 1 FROM hashed h WHERE h.user_id = u.user_id AND h.kind IN ('recovery', 'answer') AND h.uses_left <> 0) \
    OR ($4 AND TRIM(CASE WHEN u.own_phone <> '' THEN u.own_phone ELSE u.phone END) <> ''))";

/// The user with a second factor that an account is: by its id, and by its DN until a gateway has found that.
async fn person(
    session: &mut Session,
    settings: &Settings,
    client: &Client,
    account: &ServiceAccount,
) -> Result<Option<String>, StoreError> {
    let reaches_numbers = [Channel::Sms, Channel::Voice]
        .iter()
        .any(|channel| settings.providers.iter().any(|provider| provider.channel == *channel));
    let (id, dn) = match &account.id {
        Some(id) => (id.to_string(), String::new()),
        None => (String::new(), account.name.parse::<Dn>().map_or(String::new(), |dn| dn.key().as_str().to_owned())),
    };
    let row = session.row(PERSON, args![client.target.as_str(), id, dn, reaches_numbers]).await?;
    Ok(row.map(|row| row.get("username")).transpose()?)
}
