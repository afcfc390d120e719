//! What is open or kept: prompts, remembered logins, messages.

use super::{actor, page};
use crate::Store;
use crate::audit::{self, NewEvent};
use crate::rpc::StoreError;
use crate::sql::{Arg, args};
use proto::user_store::{
    ClearRememberedReply, ClearRememberedRequest, GetPromptsReply, ListMessagesReply, ListMessagesRequest,
    ListPromptsRequest, ListRememberedReply, ListRememberedRequest, MessageSummary, Prompt, RememberedSummary,
};
use tonic::Status;

const REMEMBERED_SHOWN: i64 = 1000;

/// The newest first. What only the person may see, the number to match, is not shown.
pub async fn list_prompts(store: &Store, request: ListPromptsRequest) -> Result<GetPromptsReply, StoreError> {
    let mut sql =
        "SELECT prompt_id, transaction_id, user_id, method, client, application, username, place, device_id, \
                   pin_asked, language, begun_ms, expires_ms, outcome, answered_by, answered_ms, assurance, revision \
                   FROM prompts WHERE begun_ms > 0"
            .to_owned();
    let mut arguments: Vec<Arg> = Vec::new();
    if !request.user_id.is_empty() {
        arguments.push(Arg::from(&request.user_id));
        sql += " AND user_id = $1";
    }
    if request.open_only {
        arguments.push(Arg::from(store.clock().now_ms()));
        sql += &format!(" AND outcome = '' AND expires_ms > ${}", arguments.len());
    }
    arguments.push(Arg::from(page(request.limit)));
    sql += &format!(" ORDER BY begun_ms DESC, prompt_id DESC LIMIT ${}", arguments.len());
    let rows = store.database().read().await?.rows_of(sql, arguments).await?;
    let prompts = rows.iter().map(|row| {
        Ok::<_, sqlx::Error>(Prompt {
            prompt_id: row.get("prompt_id")?,
            transaction_id: row.get("transaction_id")?,
            user_id: row.get("user_id")?,
            method: row.get("method")?,
            client: row.get("client")?,
            application: row.get("application")?,
            username: row.get("username")?,
            place: row.get("place")?,
            device_id: row.get("device_id")?,
            pin_asked: row.get("pin_asked")?,
            language: row.get("language")?,
            begun_unix_ms: row.get("begun_ms")?,
            expires_unix_ms: row.get("expires_ms")?,
            outcome: row.get("outcome")?,
            answered_by: row.get("answered_by")?,
            answered_unix_ms: row.get("answered_ms")?,
            assurance: row.get("assurance")?,
            revision: row.unsigned("revision")?,
            ..Prompt::default()
        })
    });
    Ok(GetPromptsReply { prompts: prompts.collect::<Result<_, _>>()? })
}

/// Those that still count: in time, and of the user's present epoch (V-52). The newest first, a thousand at most.
pub async fn list_remembered(store: &Store, request: ListRememberedRequest) -> Result<ListRememberedReply, StoreError> {
    let mut sql = "SELECT r.user_id AS user_id, u.username AS username, r.client AS client, r.place AS place, \
                   r.created_ms AS created_ms, r.idle_until_ms AS idle_until_ms, r.life_until_ms AS life_until_ms \
                   FROM remembered r JOIN users u ON u.user_id = r.user_id AND u.epoch = r.epoch \
                   WHERE r.idle_until_ms > $1 AND r.life_until_ms > $1"
        .to_owned();
    let mut arguments = args![store.clock().now_ms(), REMEMBERED_SHOWN];
    if !request.user_id.is_empty() {
        arguments.push(Arg::from(request.user_id));
        sql += " AND r.user_id = $3";
    }
    sql += " ORDER BY r.created_ms DESC LIMIT $2";
    let rows = store.database().read().await?.rows_of(sql, arguments).await?;
    let items = rows.iter().map(|row| {
        let (idle_ms, life_ms): (i64, i64) = (row.get("idle_until_ms")?, row.get("life_until_ms")?);
        Ok::<_, sqlx::Error>(RememberedSummary {
            user_id: row.get("user_id")?,
            username: row.get("username")?,
            client: row.get("client")?,
            place: row.get("place")?,
            created_unix_ms: row.get("created_ms")?,
            expires_unix_ms: idle_ms.min(life_ms),
        })
    });
    Ok(ListRememberedReply { items: items.collect::<Result<_, _>>()? })
}

/// The row is what an Allow needs, so that without it nothing is remembered.
pub async fn clear_remembered(
    store: &Store,
    request: ClearRememberedRequest,
) -> Result<ClearRememberedReply, StoreError> {
    let actor = actor(&request.actor)?;
    let mut session = store.database().write().await?;
    let head = audit::lock(&mut session).await?;
    let username = match request.user_id.as_str() {
        "" => String::new(),
        user_id => super::username(&mut session, user_id).await?,
    };
    let mut sql = "DELETE FROM remembered WHERE created_ms > 0".to_owned();
    let mut arguments: Vec<Arg> = Vec::new();
    for (column, value) in [("user_id", &request.user_id), ("client", &request.client)] {
        if !value.is_empty() {
            arguments.push(Arg::from(value));
            sql += &format!(" AND {column} = ${}", arguments.len());
        }
    }
    let cleared = session.execute_of(sql, arguments).await?;
    let at = if request.client.is_empty() { "every client" } else { request.client.as_str() };
    let of = if request.user_id.is_empty() { "everybody's" } else { "the user's" };
    let detail = format!("{cleared} of {of}, {at}");
    let event = NewEvent::administrative(store.clock().now_ms(), "remembered.cleared", &actor, detail);
    audit::append(&mut session, head, vec![event.about(&request.user_id, &username)]).await?;
    session.commit().await?;
    if !request.user_id.is_empty() {
        store.teller().user_changed(&request.user_id);
    }
    Ok(ClearRememberedReply { cleared: u32::try_from(cleared).unwrap_or(u32::MAX) })
}

pub async fn list_messages(store: &Store, request: ListMessagesRequest) -> Result<ListMessagesReply, StoreError> {
    if request.limit > 1000 {
        return Err(Status::invalid_argument("limit: allowed are 1 to 1000").into());
    }
    let mut sql =
        "SELECT message_id, channel, provider, user_id, destination, state, detail, at_ms FROM messages".to_owned();
    let mut arguments = args![page(request.limit)];
    if !request.user_id.is_empty() {
        arguments.push(Arg::from(request.user_id));
        sql += " WHERE user_id = $2";
    }
    sql += " ORDER BY at_ms DESC, message_id DESC LIMIT $1";
    let rows = store.database().read().await?.rows_of(sql, arguments).await?;
    let messages = rows.iter().map(|row| {
        Ok::<_, sqlx::Error>(MessageSummary {
            message_id: row.get("message_id")?,
            channel: row.get("channel")?,
            provider: row.get("provider")?,
            user_id: row.get("user_id")?,
            destination: row.get("destination")?,
            state: row.get("state")?,
            detail: row.get("detail")?,
            at_unix_ms: row.get("at_ms")?,
        })
    });
    Ok(ListMessagesReply { messages: messages.collect::<Result<_, _>>()? })
}
