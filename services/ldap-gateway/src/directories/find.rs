//! Users of a directory, whether they are known here or not (FS-16): by search, page by page, or by their names.

use super::unread;
use directory::{Directory, Entry, Incomplete, Query, Read, ResolveError, TypedName};
use domain::settings::{self, SourceKind};
use domain::{ObjectId, Reason};
use futures::{StreamExt, TryStreamExt};
use ldap_wire::{Dn, Filter, Scope, SearchResultEntry};
use proto::directory::{FindUsersReply, FindUsersRequest, FoundUser, NoUser};
use std::collections::{BTreeMap, BTreeSet};
use tonic::Status;

const NAMES_MAX: usize = 1_000;
const PAGE_MAX: usize = 1_000;
/// Names looked up at the same time.
const AT_ONCE: usize = 8;
const SEARCH_CHARACTERS_MAX: usize = 256;
const FILTER_CHARACTERS_MAX: usize = 4_096;
/// What a person reads of one value.
const VALUE_CHARACTERS_MAX: usize = 256;

pub(super) async fn users(directory: &Directory, request: FindUsersRequest) -> Result<FindUsersReply, Status> {
    let searched = [&request.search, &request.filter, &request.below].into_iter().any(|text| !text.is_empty());
    match (request.names.is_empty(), searched) {
        _ if !request.group.is_empty() && (searched || !request.names.is_empty()) => {
            Err(Status::invalid_argument("members of a group are listed, or users are searched, not both"))
        }
        (false, true) => Err(Status::invalid_argument("names are looked up, or users are searched, not both")),
        (false, false) => named(directory, &request.names).await,
        (true, _) => page(directory, &request).await,
    }
}

/// The whole of it is read for each page, so that the pages are in the order of the names, whatever the server's is.
async fn page(directory: &Directory, request: &FindUsersRequest) -> Result<FindUsersReply, Status> {
    let limit = request.limit as usize;
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Status::invalid_argument(format!("limit: found {limit}; allowed are 1 to {PAGE_MAX}")));
    }
    let filter = match request.group.as_str() {
        "" => filter(directory, request)?,
        group => match members(directory, group).await? {
            Members::Filter(filter) => Filter::and([directory.user_filter().clone(), filter]),
            Members::Names(names) => return listed(directory, request, names).await,
        },
    };
    let mut query = Query::new(below(directory, &request.below)?, Scope::Subtree, filter, &attributes(directory));
    query.entries_max = SourceKind::USERS_MAX;
    let mut reading = directory.read(query);
    let mut users = BTreeMap::new();
    let more = loop {
        match reading.next().await {
            Read::Entry(entry) => users.extend(found(directory, &entry).map(|user| (key(&user), user))),
            Read::Complete => break false,
            Read::Incomplete(Incomplete::TooMany { .. } | Incomplete::Limit { .. }) => break true,
            Read::Incomplete(why) if why.is_no_such_object() => {
                return Err(Status::invalid_argument("below: there is nothing of this name, or it cannot be seen"));
            }
            Read::Incomplete(why) => return Err(unread(&why)),
        }
    };
    Ok(paged(users, request, more))
}

fn paged(users: BTreeMap<String, FoundUser>, request: &FindUsersRequest, more: bool) -> FindUsersReply {
    let total = u32::try_from(users.len()).unwrap_or(u32::MAX);
    let mut rest = users.into_iter().filter(|(key, _)| *key > request.after);
    let page: Vec<_> = rest.by_ref().take(request.limit as usize).collect();
    let next = page.last().filter(|_| rest.next().is_some()).map(|(key, _)| key.clone());
    let users = page.into_iter().map(|(_, user)| user).collect();
    FindUsersReply { users, next: next.unwrap_or_default(), total, more, no_users: Vec::new() }
}

/// How the members of a group are found.
enum Members {
    /// Users say themselves which groups they are in.
    Filter(Filter),
    /// The group names them.
    Names(Vec<String>),
}

async fn members(directory: &Directory, group: &str) -> Result<Members, Status> {
    let dn = below(directory, group)?;
    if directory.settings().preset.is_microsoft() {
        // [MS-ADTS] 3.1.1.4.5.30 memberOf
        return Ok(Members::Filter(Filter::equal("memberOf", dn)));
    }
    let mut query = Query::new(dn, Scope::Base, directory.group_filter().clone(), &["member", "uniqueMember"]);
    query.entries_max = 1;
    let group = match directory.read(query).collect().await {
        Ok(entries) => entries.into_iter().next(),
        Err(why) if why.is_no_such_object() => None,
        Err(why) => return Err(unread(&why)),
    };
    let group = group.ok_or_else(|| Status::invalid_argument("group: there is no group of this name"))?;
    let values = ["member", "uniqueMember"].into_iter().flat_map(|attribute| group.values(attribute));
    let names = values.filter_map(|value| std::str::from_utf8(value).ok().map(str::to_owned));
    Ok(Members::Names(names.collect()))
}

/// Of these, those who are users.
async fn listed(
    directory: &Directory,
    request: &FindUsersRequest,
    names: Vec<String>,
) -> Result<FindUsersReply, Status> {
    let more = names.len() > SourceKind::USERS_MAX;
    let looked_up = futures::stream::iter(names.into_iter().take(SourceKind::USERS_MAX));
    let looked_up = looked_up.map(|name| one(directory, name)).buffered(AT_ONCE);
    let found: Vec<_> = looked_up.try_collect().await?;
    let users = found.into_iter().filter_map(Result::ok).map(|user| (key(&user), user)).collect();
    Ok(paged(users, request, more))
}

/// By username; two may have the same.
fn key(user: &FoundUser) -> String {
    format!("{} {}", user.username.to_lowercase(), user.object_id)
}

pub(super) fn below(directory: &Directory, below: &str) -> Result<String, Status> {
    if below.is_empty() {
        return Ok(directory.settings().base.clone());
    }
    let dn: Dn = below.parse().map_err(|error| Status::invalid_argument(format!("below: {error}")))?;
    match dn.is_within(directory.base()) {
        true => Ok(below.to_owned()),
        false => Err(Status::invalid_argument(format!(
            "below: lies outside of the directory's base {:?}",
            directory.settings().base
        ))),
    }
}

fn filter(directory: &Directory, request: &FindUsersRequest) -> Result<Filter, Status> {
    let settings = directory.settings();
    let mut all = vec![directory.user_filter().clone()];
    if !request.filter.is_empty() {
        if request.filter.len() > FILTER_CHARACTERS_MAX {
            return Err(Status::invalid_argument("filter: is longer than 4096 characters"));
        }
        all.push(request.filter.parse().map_err(|error| Status::invalid_argument(format!("filter: {error}")))?);
    }
    let search = request.search.trim();
    if search.chars().count() > SEARCH_CHARACTERS_MAX {
        return Err(Status::invalid_argument("search: is longer than 256 characters"));
    }
    if !search.is_empty() {
        let holds = |attribute: &str| Filter::Substrings {
            attribute: attribute.to_owned(),
            initial: None,
            any: vec![search.as_bytes().to_vec()],
            last: None,
        };
        all.push(Filter::or(shown_attributes(settings).into_iter().map(holds)));
    }
    Ok(Filter::and(all))
}

fn attributes(directory: &Directory) -> Vec<&str> {
    let mut attributes = shown_attributes(directory.settings());
    attributes.insert(directory.settings().id_attribute());
    attributes.into_iter().collect()
}

fn shown_attributes(settings: &settings::Directory) -> BTreeSet<&str> {
    let mut attributes: BTreeSet<&str> = settings.username_attributes().into_iter().collect();
    attributes.extend(settings.first_name_attributes());
    attributes.extend(settings.last_name_attributes());
    attributes.extend(settings.mail_attributes());
    attributes
}

/// `None` = nobody can say who it is.
fn found(directory: &Directory, entry: &SearchResultEntry) -> Option<FoundUser> {
    let settings = directory.settings();
    let text = |attribute: &str| Some(shown(entry.first_text(attribute)?)).filter(|text| !text.is_empty());
    let distinguished_name = entry.dn_text()?.to_owned();
    let username = settings.username_attributes().into_iter().find_map(text);
    Some(FoundUser {
        object_id: directory.id_of(entry).ok()?.to_string(),
        username: username.unwrap_or_else(|| distinguished_name.clone()),
        distinguished_name,
        first_name: settings.first_name_attributes().find_map(text).unwrap_or_default(),
        last_name: settings.last_name_attributes().find_map(text).unwrap_or_default(),
        mail: settings.mail_attributes().find_map(text).unwrap_or_default(),
    })
}

/// S-59: whatever stands there, it is short and harmless to look at.
pub(super) fn shown(text: &str) -> String {
    text.chars().filter(|sign| !sign.is_control()).take(VALUE_CHARACTERS_MAX).collect()
}

async fn named(directory: &Directory, names: &[String]) -> Result<FindUsersReply, Status> {
    if names.len() > NAMES_MAX {
        return Err(Status::invalid_argument(format!("names: found {}; allowed are {NAMES_MAX}", names.len())));
    }
    let looked_up = futures::stream::iter(names.to_vec()).map(|name| one(directory, name)).buffered(AT_ONCE);
    let mut reply = FindUsersReply::default();
    for result in looked_up.try_collect::<Vec<_>>().await? {
        match result {
            Ok(user) if reply.users.iter().any(|known| known.object_id == user.object_id) => {}
            Ok(user) => reply.users.push(user),
            Err(none) => reply.no_users.push(none),
        }
    }
    reply.total = u32::try_from(reply.users.len()).unwrap_or(u32::MAX);
    Ok(reply)
}

async fn one(directory: &Directory, name: String) -> Result<Result<FoundUser, NoUser>, Status> {
    let settings = directory.settings();
    let of_directory = |id: &ObjectId| id.is_of(settings.id_attribute(), settings.id_type());
    let typed = match name.parse::<ObjectId>().ok().filter(of_directory) {
        Some(id) => Ok(TypedName::of_id(&id)),
        None => TypedName::parse(&name, settings),
    };
    let none = |reason: Reason| NoUser { name, reason: reason.code().to_owned() };
    let Ok(typed) = typed else { return Ok(Err(none(Reason::UnknownUser))) };
    match directory.resolve(&typed).await {
        Ok(entry) => Ok(Ok(of_entry(entry))),
        Err(error) if error.is_unavailable() => Err(Status::unavailable(service_kit::chain(&error))),
        Err(error @ (ResolveError::Name(_) | ResolveError::Absent | ResolveError::Ambiguous)) => {
            Ok(Err(none(error.reason())))
        }
        Err(error) => Err(Status::unavailable(service_kit::chain(&error))),
    }
}

fn of_entry(entry: Entry) -> FoundUser {
    let text = |value: Option<String>| shown(&value.unwrap_or_default());
    FoundUser {
        object_id: entry.subject.id.to_string(),
        username: shown(&entry.username),
        distinguished_name: entry.dn,
        first_name: text(entry.first_name),
        last_name: text(entry.last_name),
        mail: text(entry.mail),
    }
}
