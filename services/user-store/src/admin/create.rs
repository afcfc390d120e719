//! A user is made by hand (FS-17).

use super::actor;
use super::change::Change;
use super::edit::{self, Edit};
use crate::Store;
use crate::audit::{self, printable};
use crate::by_hand;
use crate::rpc::StoreError;
use crate::sql::args;
use crate::users::name_key;
use proto::user_store::{CreateUserRequest, UserDetail};
use tonic::Status;

const USERNAME_CHARACTERS_MAX: usize = 256;
const NAME_CHARACTERS_MAX: usize = 128;

/// With a name that nobody has; the rest as an edit says it.
pub async fn create_user(store: &Store, request: CreateUserRequest) -> Result<UserDetail, StoreError> {
    let actor = actor(&request.actor)?;
    let username = text("username", &request.username, USERNAME_CHARACTERS_MAX)?;
    let first_name = text("first_name", &request.first_name, NAME_CHARACTERS_MAX)?;
    let last_name = text("last_name", &request.last_name, NAME_CHARACTERS_MAX)?;
    let key = name_key(&username);
    if key.is_empty() {
        return Err(Status::invalid_argument("username: is missing").into());
    }
    let mut edit = Edit::try_from(request.more.unwrap_or_default()).map_err(Status::invalid_argument)?;
    let (now_ms, user_id) = (store.clock().now_ms(), uuid::Uuid::now_v7().to_string());
    let mut session = store.database().write().await?;
    let head = audit::lock(&mut session).await?;
    let sql = "SELECT u.state AS state FROM names n JOIN users u ON u.user_id = n.user_id WHERE n.name_key = $1 \
               UNION ALL SELECT state FROM users WHERE username_key = $1";
    if let Some(row) = session.row(sql, args![&key]).await? {
        let state: String = row.get("state")?;
        return Err(Status::already_exists(format!("username: somebody has this name, who is {state}")).into());
    }
    let settings = store.rules().current(&mut session).await?;
    let sql = "INSERT INTO users (user_id, directory, object_id, username, username_key, distinguished_name, dn_key, first_name, \
               last_name, mail, phone, search, state, state_by, state_since_ms, state_text, sync_item, first_run, last_run, content, \
               revision, created_ms, changed_ms) VALUES ($1, $2, $3, $4, $5, '', '', $6, $7, '', '', '', 'enabled', $8, $9, '', '', '', \
               '', $10, 1, $9, $9)";
    let (nowhere, object_id) = (by_hand::NOWHERE, by_hand::object_id(&user_id));
    let empty: Vec<u8> = Vec::new();
    let arguments = args![&user_id, nowhere, object_id, &username, &key, first_name, last_name, &actor, now_ms, empty];
    session.execute(sql, arguments).await?;
    let sql = "INSERT INTO names (user_id, name_key, name) VALUES ($1, $2, $3)";
    session.execute(sql, args![&user_id, &key, &username]).await?;
    edit::search(&mut session, &user_id).await?;
    edit.pin_required = edit.pin_required.or(settings.pin.new_users.then_some(true));
    let mut change = Change::on(store, session, head, &user_id, actor).await?;
    change.note("user.created", "by hand");
    edit::apply(&mut change, &edit).await?;
    change.finish().await
}

/// One line, without space around it.
fn text(field: &str, text: &str, characters_max: usize) -> Result<String, Status> {
    let text = text.trim();
    if text.chars().count() > characters_max || text.chars().any(char::is_control) {
        return Err(Status::invalid_argument(format!("{field}: allowed are {characters_max} characters of one line")));
    }
    Ok(printable(text, characters_max))
}
