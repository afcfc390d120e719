//! Users of a directory, known here or not: found, imported (FS-16), and whose they would be (FS-08).

use super::access::Caller;
use super::directories::DIRECTORY_LIMIT;
use super::extract::{Body, Path, Query};
use super::page_length;
use super::problem::Problem;
use crate::app::{App, STORE_LIMIT, within};
use axum::Json;
use axum::extract::State;
use domain::settings::{Chosen, ImportError, ImportVerdict, Settings, SyncItem, SyncState};
use domain::{ObjectId, ObjectName, Reason};
use proto::directory::find_places_request::Kind;
use proto::directory::{FindPlacesRequest, FindUsersReply, FindUsersRequest, FoundUser, HoldersReply, HoldersRequest};
use proto::user_store::{
    ApplySettingsReply, ApplySettingsRequest, ExportSettingsRequest, KnownUser, KnownUsersRequest, RequestSyncRequest,
    SyncStatusRequest,
};
use serde::{Deserialize, Serialize};
use service_kit::grpc::idempotent;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Of one question to another part.
const PAGE: u32 = 1_000;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct UsersWanted {
    /// Part of a username, first or last name or mail address.
    #[serde(default)]
    search: String,
    /// An LDAP filter, such as `(department=Sales)`.
    #[serde(default)]
    filter: String,
    /// The DN of a container; the directory's base if absent.
    #[serde(default)]
    below: String,
    /// The DN of a group: whom it names as its members, instead of a search.
    #[serde(default)]
    group: String,
    /// The `next` of the page before.
    #[serde(default)]
    after: String,
    /// 1 to 1000; 100 if absent.
    limit: Option<u32>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct DirectoryUsers {
    /// By username.
    items: Vec<DirectoryUser>,
    /// For the `after` of the next page; null on the last one.
    next: Option<String>,
    /// How many there are, at most 10000.
    total: u32,
    /// There are more than 10000, which nobody lists: narrow it.
    more: bool,
    /// Other domains that could not be read, a sentence each: there may be more users.
    unread: Vec<String>,
}

#[derive(Serialize, ToSchema)]
struct DirectoryUser {
    /// What lasts: objectGUID:..., entryUUID:...
    id: String,
    username: String,
    distinguished_name: String,
    first_name: String,
    last_name: String,
    mail: String,
    /// The user here; null = there is none.
    known: Option<Known>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Known {
    user_id: String,
    username: String,
    /// Whose they are; empty = of none.
    pub sync_item: String,
    /// enabled, disabled or removed.
    state: String,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct PlacesWanted {
    /// Containers directly below `below`, or groups anywhere below it.
    kind: PlaceKind,
    /// The DN of a container; the directory's base if absent.
    #[serde(default)]
    below: String,
    /// Part of what it is called.
    #[serde(default)]
    search: String,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum PlaceKind {
    Containers,
    Groups,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Places {
    /// By name, at most 1000.
    items: Vec<PlaceShown>,
    /// There are more than 1000: narrow it.
    more: bool,
    /// By which attributes they are called.
    name_attribute: String,
    /// Other domains that could not be read, a sentence each.
    unread: Vec<String>,
}

#[derive(Serialize, ToSchema)]
struct PlaceShown {
    /// What lasts: objectGUID:..., entryUUID:...
    id: String,
    name: String,
    distinguished_name: String,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewSelection {
    pub directory: String,
    /// Of the kind users; made where there is none.
    pub sync_item: String,
    /// Names in any form, or ids, instead of a search.
    #[serde(default)]
    pub names: Vec<String>,
    /// Part of a username, first or last name or mail address.
    #[serde(default)]
    pub search: String,
    /// An LDAP filter.
    #[serde(default)]
    pub filter: String,
    /// The DN of a container.
    #[serde(default)]
    pub below: String,
    /// The DN of a group: whom it names as its members, instead of a search.
    #[serde(default)]
    pub group: String,
    /// Users who are known go to the item, too; otherwise they are left as they are.
    #[serde(default)]
    pub update: bool,
    /// Say what would be imported, and change nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// False: no run is asked for.
    #[serde(default = "yes")]
    pub run: bool,
    /// Why, for the audit. Needed where the item exempts its users from the second factor.
    #[serde(default)]
    pub reason: String,
}

fn yes() -> bool {
    true
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Selected {
    /// The revision in force afterwards.
    revision: u64,
    dry_run: bool,
    pub imported: usize,
    /// Left as they are.
    pub known: usize,
    /// Named by the item before.
    pub listed: usize,
    pub users: Vec<SelectedUser>,
    pub warnings: Vec<String>,
    /// Keys that become weaker than they were: a reason is asked for.
    weaker: Vec<String>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct SelectedUser {
    id: String,
    pub username: String,
    distinguished_name: String,
    /// import, known or listed.
    pub verdict: &'static str,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Whose {
    /// In any form.
    pub user: String,
    /// Where they are looked for; in all directories that have sync items, in their order, if absent.
    #[serde(default)]
    pub directory: String,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Owner {
    pub directory: String,
    pub username: String,
    pub distinguished_name: String,
    /// The first item that is on and has the user; null = none.
    pub owner: Option<String>,
    /// In their order.
    pub items: Vec<ItemAnswer>,
    /// As it is since the last run; null = there is no such user here.
    pub known: Option<Known>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ItemAnswer {
    pub sync_item: String,
    /// on, off or preview.
    pub state: SyncStateShown,
    pub holds: bool,
    /// One sentence.
    pub why: String,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SyncStateShown {
    On,
    Off,
    Preview,
}

impl SyncStateShown {
    pub fn code(&self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Preview => "preview",
        }
    }
}

/// Users of a directory, whether they are known here or not
#[utoipa::path(get, path = "/directories/{name}/users", tag = "directories", params(("name" = String, Path), UsersWanted), responses(
    (status = 200, body = DirectoryUsers), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    _: Caller,
    Path(name): Path<String>,
    Query(wanted): Query<UsersWanted>,
) -> Result<Json<DirectoryUsers>, Problem> {
    let UsersWanted { search, filter, below, group, after, limit } = wanted;
    let limit = page_length(limit)?;
    let directory = name.clone();
    let request = FindUsersRequest { directory, search, filter, below, group, after, limit, names: Vec::new() };
    let mut found = within(DIRECTORY_LIMIT, request, |request| app.deps.directories.find_users(request)).await?;
    let mut known = known(&app, &name, &found.users).await?;
    let items = std::mem::take(&mut found.users).into_iter().map(|user| DirectoryUser {
        known: known.remove(&user.object_id).map(of_store),
        id: user.object_id,
        username: user.username,
        distinguished_name: user.distinguished_name,
        first_name: user.first_name,
        last_name: user.last_name,
        mail: user.mail,
    });
    let next = Some(std::mem::take(&mut found.next)).filter(|next| !next.is_empty());
    let (items, FindUsersReply { total, more, unread, .. }) = (items.collect(), found);
    Ok(Json(DirectoryUsers { items, next, total, more, unread }))
}

/// Containers or groups of a directory, by what they are called
#[utoipa::path(get, path = "/directories/{name}/places", tag = "directories", params(("name" = String, Path), PlacesWanted), responses(
    (status = 200, body = Places), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn places(
    State(app): State<Arc<App>>,
    _: Caller,
    Path(name): Path<String>,
    Query(wanted): Query<PlacesWanted>,
) -> Result<Json<Places>, Problem> {
    let kind = match wanted.kind {
        PlaceKind::Containers => Kind::Containers,
        PlaceKind::Groups => Kind::Groups,
    };
    let PlacesWanted { below, search, .. } = wanted;
    let request = FindPlacesRequest { directory: name, kind: kind.into(), below, search };
    let found = within(DIRECTORY_LIMIT, request, |request| app.deps.directories.find_places(request)).await?;
    let place = |place: proto::directory::Place| PlaceShown {
        id: place.object_id,
        name: place.name,
        distinguished_name: place.distinguished_name,
    };
    let items = found.places.into_iter().map(place).collect();
    Ok(Json(Places { items, more: found.more, name_attribute: found.name_attribute, unread: found.unread }))
}

/// Import users of a directory into a sync item
///
/// The item names them by their ids from then on, and a run is asked for. At most 10000; a name that is nobody's refuses all.
#[utoipa::path(post, path = "/sync/import", tag = "sync", request_body = NewSelection, responses(
    (status = 200, body = Selected), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn import(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(new): Body<NewSelection>,
) -> Result<Json<Selected>, Problem> {
    let directory = object_name("directory", &new.directory)?;
    let item = object_name("sync_item", &new.sync_item)?;
    let (found, unread) = found(&app, &new).await?;
    let known = known(&app, &new.directory, &found).await?;
    let mut settings = settings(&app).await?;
    let chosen: Vec<Chosen> = found.iter().filter_map(|user| chosen(user, &known)).collect();
    let verdicts = settings.import(&directory, &item, &chosen, new.update).map_err(refused)?;
    let count = |wanted: ImportVerdict| verdicts.iter().filter(|verdict| **verdict == wanted).count();
    let (imported, changes) = (count(ImportVerdict::Import), !new.dry_run && count(ImportVerdict::Import) > 0);
    let mut applied = ApplySettingsReply { revision: settings.revision.unwrap_or_default(), ..Default::default() };
    if imported > 0 {
        applied = apply(&app, &settings, &caller.actor, &new).await?;
    }
    let on = settings.sync_items.iter().any(|it| it.name == item && it.state == SyncState::On);
    if changes && new.run && on {
        let request =
            RequestSyncRequest { only: new.sync_item, mode: "full".into(), actor: caller.actor, ..Default::default() };
        within(STORE_LIMIT, request, |request| app.deps.admin.request_sync(request)).await?;
    }
    let users = found.into_iter().zip(&verdicts).map(|(user, verdict)| SelectedUser {
        id: user.object_id,
        username: user.username,
        distinguished_name: user.distinguished_name,
        verdict: verdict.code(),
    });
    Ok(Json(Selected {
        revision: applied.revision,
        dry_run: new.dry_run,
        imported,
        known: count(ImportVerdict::Known),
        listed: count(ImportVerdict::Listed),
        users: users.collect(),
        warnings: unread.into_iter().chain(applied.warnings).collect(),
        weaker: applied.weaker,
    }))
}

/// Which sync item would own a user
///
/// As the directory is now, by the items in force; `known` is what the last run made of it.
#[utoipa::path(get, path = "/sync/owner", tag = "sync", params(Whose), responses(
    (status = 200, body = Owner), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn owner(
    State(app): State<Arc<App>>,
    _: Caller,
    Query(whose): Query<Whose>,
) -> Result<Json<Owner>, Problem> {
    let mut settings = app.settings.fresh().await?.settings.clone();
    // FS-21: what was renamed is known by its id.
    let request = idempotent(SyncStatusRequest {});
    for source in within(STORE_LIMIT, request, |request| app.deps.admin.sync_status(request)).await?.sources {
        let items = settings.sync_items.iter_mut().filter(|item| item.directory.as_str() == source.directory);
        items.for_each(|item| proto::pins::apply(&source.pins, item));
    }
    let settings = &settings;
    if !whose.directory.is_empty() && settings.directory(&whose.directory).is_none() {
        return Err(Problem::not_found("there is no such directory"));
    }
    let mut reason = Reason::UnknownUser;
    for directory in &settings.directories {
        let items: Vec<&SyncItem> = settings.sync_items.iter().filter(|it| it.directory == directory.name).collect();
        let wanted =
            if whose.directory.is_empty() { !items.is_empty() } else { directory.name.as_str() == whose.directory };
        if !wanted {
            continue;
        }
        let items_json = items.iter().filter_map(|item| serde_json::to_string(item).ok()).collect();
        let request = HoldersRequest { directory: directory.name.to_string(), name: whose.user.clone(), items_json };
        let reply = within(DIRECTORY_LIMIT, request, |request| app.deps.directories.holders(request)).await?;
        match Reason::from_code(&reply.reason) {
            _ if reply.reason.is_empty() => return Ok(Json(answered(&app, &directory.name, &items, reply).await?)),
            Reason::UnknownUser => {}
            other => reason = other,
        }
    }
    match reason {
        Reason::UnknownUser | Reason::AmbiguousUser => Err(Problem::not_found(reason.sentence())),
        reason => Err(Problem::unavailable(reason)),
    }
}

async fn answered(
    app: &App,
    directory: &ObjectName,
    items: &[&SyncItem],
    reply: HoldersReply,
) -> Result<Owner, Problem> {
    let person = reply.person.unwrap_or_default();
    let user = FoundUser {
        object_id: person.subject.map(|subject| subject.object_id).unwrap_or_default(),
        ..FoundUser::default()
    };
    let mut known = known(app, directory.as_str(), std::slice::from_ref(&user)).await?;
    let answers = items.iter().zip(reply.items);
    let first = answers.clone().find(|(item, answer)| item.state == SyncState::On && answer.holds);
    Ok(Owner {
        directory: directory.to_string(),
        username: person.username,
        distinguished_name: person.distinguished_name,
        owner: first.map(|(item, _)| item.name.to_string()),
        known: known.remove(&user.object_id).map(of_store),
        items: answers
            .map(|(item, answer)| ItemAnswer {
                sync_item: item.name.to_string(),
                state: match item.state {
                    SyncState::On => SyncStateShown::On,
                    SyncState::Off => SyncStateShown::Off,
                    SyncState::Preview => SyncStateShown::Preview,
                },
                holds: answer.holds,
                why: answer.why,
            })
            .collect(),
    })
}

/// All of them, or why not. Beside them: why there may be more, in domains that could not be read.
async fn found(app: &App, new: &NewSelection) -> Result<(Vec<FoundUser>, Vec<String>), Problem> {
    if new.names.is_empty() && [&new.search, &new.filter, &new.below, &new.group].into_iter().all(String::is_empty) {
        return Err(Problem::rule("names: is empty; whom? Name users, or a search, a filter, a container or a group"));
    }
    let mut all: Vec<FoundUser> = Vec::new();
    // Each page is read anew: what one could not read, the next may.
    let (mut nobody, mut unread) = (Vec::new(), BTreeSet::new());
    for names in new.names.chunks(PAGE as usize).map(<[String]>::to_vec).chain(new.names.is_empty().then(Vec::new)) {
        let mut request = FindUsersRequest {
            directory: new.directory.clone(),
            search: new.search.clone(),
            filter: new.filter.clone(),
            below: new.below.clone(),
            group: new.group.clone(),
            after: String::new(),
            limit: PAGE,
            names,
        };
        loop {
            let asked = request.clone();
            let page = within(DIRECTORY_LIMIT, asked, |request| app.deps.directories.find_users(request)).await?;
            if page.more {
                return Err(Problem::rule(
                    "these are more than 10000 users; take a container or a filter as the source",
                ));
            }
            nobody.extend(page.no_users);
            unread.extend(page.unread);
            all.extend(page.users.into_iter().filter(|user| user.object_id.parse::<ObjectId>().is_ok()));
            request.after = page.next;
            if request.after.is_empty() {
                break;
            }
        }
    }
    match nobody.is_empty() {
        true => Ok((all, unread.into_iter().collect())),
        false => {
            let sentence = |none: &proto::directory::NoUser| {
                format!("{}: {}", none.name, Reason::from_code(&none.reason).sentence())
            };
            Err(Problem::rules("some names are nobody's; nothing was changed", nobody.iter().map(sentence).collect()))
        }
    }
}

/// By the id.
async fn known(app: &App, directory: &str, found: &[FoundUser]) -> Result<HashMap<String, KnownUser>, Problem> {
    let mut known = HashMap::new();
    for part in found.chunks(PAGE as usize) {
        known.extend(known_by_ids(app, directory, part.iter().map(|user| user.object_id.clone()).collect()).await?);
    }
    Ok(known)
}

/// Of at most 1000.
pub(crate) async fn known_by_ids(
    app: &App,
    directory: &str,
    object_ids: Vec<String>,
) -> Result<HashMap<String, KnownUser>, Problem> {
    if object_ids.is_empty() {
        return Ok(HashMap::new());
    }
    let request = idempotent(KnownUsersRequest { directory: directory.to_owned(), object_ids });
    let reply = within(STORE_LIMIT, request, |request| app.deps.admin.known_users(request)).await?;
    Ok(reply.users.into_iter().map(|user| (user.object_id.clone(), user)).collect())
}

/// Who was removed comes back like anybody new.
fn chosen(user: &FoundUser, known: &HashMap<String, KnownUser>) -> Option<Chosen> {
    let id: ObjectId = user.object_id.parse().ok()?;
    Some(Chosen { id, known: known.get(&user.object_id).is_some_and(|known| known.state != "removed") })
}

/// The settings in force with their revision, every secret "keep".
pub(crate) async fn settings(app: &App) -> Result<Settings, Problem> {
    let request = idempotent(ExportSettingsRequest {});
    let reply = within(STORE_LIMIT, request, |request| app.deps.admin.export_settings(request)).await?;
    toml::from_str(&reply.document).map_err(|error| {
        tracing::error!(%error, "the exported settings cannot be read");
        Problem::from(tonic::Status::internal("the settings cannot be read"))
    })
}

pub(crate) fn document(settings: &Settings) -> Result<String, Problem> {
    toml::to_string(settings).map_err(|error| {
        tracing::error!(%error, "settings cannot be written");
        Problem::from(tonic::Status::internal("the settings cannot be written"))
    })
}

/// Somebody who was first wins.
async fn apply(app: &App, settings: &Settings, actor: &str, new: &NewSelection) -> Result<ApplySettingsReply, Problem> {
    let request = ApplySettingsRequest {
        document: document(settings)?,
        dry_run: new.dry_run,
        actor: actor.to_owned(),
        reason: new.reason.clone(),
        needs_reason: true,
        ..ApplySettingsRequest::default()
    };
    let reply = within(STORE_LIMIT, request, |request| app.deps.admin.apply_settings(request)).await?;
    if reply.errors.iter().any(|error| error.starts_with("revision")) {
        return Err(Problem::behind());
    }
    match reply.errors.is_empty() {
        true => Ok(reply),
        false => Err(Problem::rules("the item is refused; nothing was changed", reply.errors)),
    }
}

fn object_name(key: &str, text: &str) -> Result<ObjectName, Problem> {
    text.parse().map_err(|error| Problem::rule(format!("{key}: {error}")))
}

fn refused(error: ImportError) -> Problem {
    match error {
        ImportError::NoDirectory { .. } => Problem::not_found(error.to_string()),
        other => Problem::rule(other.to_string()),
    }
}

fn of_store(user: KnownUser) -> Known {
    Known { user_id: user.user_id, username: user.username, sync_item: user.sync_item, state: user.state }
}
