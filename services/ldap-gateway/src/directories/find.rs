//! Users of a directory, whether they are known here or not (FS-16): by search, page by page, or by their names.

use super::domains::{Domain, Domains};
use super::unread;
use crate::settings::SettingsCopy;
use directory::{Directory, Entry, Incomplete, Query, Read, ResolveError, TypedName};
use domain::settings::{self, SourceKind};
use domain::{ObjectId, Reason};
use futures::{FutureExt, StreamExt, TryStreamExt};
use ldap_wire::{Dn, Filter, Scope, SearchResultEntry};
use proto::directory::{FindUsersReply, FindUsersRequest, FoundUser, NoUser};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tonic::Status;

const NAMES_MAX: usize = 1_000;
const PAGE_MAX: usize = 1_000;
/// Names looked up at the same time.
const AT_ONCE: usize = 8;
const SEARCH_CHARACTERS_MAX: usize = 256;
const FILTER_CHARACTERS_MAX: usize = 4_096;
/// What a person reads of one value.
const VALUE_CHARACTERS_MAX: usize = 256;

pub(super) async fn users(
    settings: &SettingsCopy,
    home: Arc<Directory>,
    request: FindUsersRequest,
) -> Result<FindUsersReply, Status> {
    let searched = [&request.search, &request.filter, &request.below].into_iter().any(|text| !text.is_empty());
    match (request.names.is_empty(), searched) {
        _ if !request.group.is_empty() && (searched || !request.names.is_empty()) => {
            Err(Status::invalid_argument("members of a group are listed, or users are searched, not both"))
        }
        (false, true) => Err(Status::invalid_argument("names are looked up, or users are searched, not both")),
        (false, false) => named(settings, &home, &request.names).await,
        (true, _) => page(&Domains::of(settings, home).await, &request).await,
    }
}

/// People by what they are sorted by, and whether there are more.
type Found = (BTreeMap<String, FoundUser>, bool);

/// The whole of it is read for each page, so that the pages are in the order of the names, whatever the server's is.
async fn page(domains: &Domains, request: &FindUsersRequest) -> Result<FindUsersReply, Status> {
    let limit = request.limit as usize;
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Status::invalid_argument(format!("limit: found {limit}; allowed are 1 to {PAGE_MAX}")));
    }
    let (found, unread) = match (request.group.as_str(), request.below.as_str()) {
        ("", "") => domains.each(|domain| searched(domain, request).boxed()).await?,
        ("", below) => (vec![searched(place(domains, below), request).await?], Vec::new()),
        (group, _) => members(domains, group).await?,
    };
    let more = found.iter().any(|(_, more)| *more);
    let users = found.into_iter().flat_map(|(users, _)| users).collect();
    Ok(paged(users, request, more, unread))
}

async fn searched(domain: &Domain, request: &FindUsersRequest) -> Result<Found, Status> {
    matching(domain, below(&domain.directory, &request.below)?, filter(&domain.directory, request)?).await
}

async fn matching(domain: &Domain, below: String, filter: Filter) -> Result<Found, Status> {
    let mut query = Query::new(below, Scope::Subtree, filter, &attributes(domain));
    query.entries_max = SourceKind::USERS_MAX;
    let mut reading = domain.directory.read(query);
    let mut users = BTreeMap::new();
    let more = loop {
        match reading.next().await {
            Read::Entry(entry) => users.extend(found(domain, &entry).map(|user| (key(&user), user))),
            Read::Complete => break false,
            Read::Incomplete(Incomplete::TooMany { .. } | Incomplete::Limit { .. }) => break true,
            Read::Incomplete(why) if why.is_no_such_object() => {
                return Err(Status::invalid_argument("below: there is nothing of this name, or it cannot be seen"));
            }
            Read::Incomplete(why) => return Err(unread(&why)),
        }
    };
    Ok((users, more))
}

fn paged(
    mut users: BTreeMap<String, FoundUser>,
    request: &FindUsersRequest,
    mut more: bool,
    unread: Vec<String>,
) -> FindUsersReply {
    if let Some(beyond) = users.keys().nth(SourceKind::USERS_MAX).cloned() {
        (_, more) = (users.split_off(&beyond), true);
    }
    let total = u32::try_from(users.len()).unwrap_or(u32::MAX);
    let mut rest = users.into_iter().filter(|(key, _)| *key > request.after);
    let page: Vec<_> = rest.by_ref().take(request.limit as usize).collect();
    let next = page.last().filter(|_| rest.next().is_some()).map(|(key, _)| key.clone());
    let users = page.into_iter().map(|(_, user)| user).collect();
    FindUsersReply { users, next: next.unwrap_or_default(), total, more, no_users: Vec::new(), unread }
}

/// The domain in which a container or a group is looked for.
pub(super) fn place<'d>(domains: &'d Domains, dn: &str) -> &'d Domain {
    dn.parse().map_or(domains.own(), |dn| domains.holding(&dn))
}

/// Whom a group names as its members, in all domains.
async fn members(domains: &Domains, group: &str) -> Result<(Vec<Found>, Vec<String>), Status> {
    let at = place(domains, group);
    let directory = &at.directory;
    let dn = below(directory, group)?;
    if !directory.settings().preset.is_microsoft() {
        let names = named_by(directory, dn, directory.group_filter().clone(), &["member", "uniqueMember"]).await?;
        let names = names.ok_or_else(|| Status::invalid_argument("group: there is no group of this name"))?;
        return Ok((vec![looked_up(at, names).await?], Vec::new()));
    }
    // [MS-ADTS] 3.1.1.4.5.30 memberOf: of people of the group's own domain.
    let own = Filter::and([directory.user_filter().clone(), Filter::equal("memberOf", dn.clone())]);
    let mut found = vec![matching(at, directory.settings().base.clone(), own).await?];
    if !domains.are_several() {
        return Ok((found, domains.unread().to_vec()));
    }
    let names = named_by(directory, dn, Filter::present("objectClass"), &["member"]).await?.unwrap_or_default();
    let looked_up = |domain| looked_up(domain, beside(domain, &names)).boxed();
    let (others, unread) = domains.each_beside(at, looked_up).await;
    found.extend(others);
    Ok((found, unread))
}

/// The values of these attributes of a group; `None` = it is not there.
async fn named_by(
    directory: &Directory,
    dn: String,
    filter: Filter,
    attributes: &[&str],
) -> Result<Option<Vec<String>>, Status> {
    let mut query = Query::new(dn, Scope::Base, filter, attributes);
    query.entries_max = 1;
    let group = match directory.read(query).collect().await {
        Ok(entries) => entries.into_iter().next(),
        Err(why) if why.is_no_such_object() => None,
        Err(why) => return Err(unread(&why)),
    };
    let names = |group: SearchResultEntry| {
        let values = attributes.iter().flat_map(|attribute| group.values(attribute));
        values.filter_map(|value| std::str::from_utf8(value).ok().map(str::to_owned)).collect()
    };
    Ok(group.map(names))
}

/// Those of a group's members who may be people of this domain, in which the group is not: by their DN, or by the SID that stands for
/// somebody across a trust ([MS-ADTS] 6.1.1.4.10).
fn beside(domain: &Domain, names: &[String]) -> Vec<String> {
    let of_domain = |dn: &str| dn.parse::<Dn>().is_ok_and(|dn| dn.dns_domain() == domain.directory.base().dns_domain());
    let name = |name: &String| match sid_of_foreign(name) {
        Some(sid) => Some(format!("<SID={sid}>")),
        None => of_domain(name).then(|| name.clone()),
    };
    names.iter().filter_map(name).collect()
}

fn sid_of_foreign(dn: &str) -> Option<&str> {
    let (first, rest) = dn.split_once(',')?;
    let (attribute, sid) = first.split_once('=')?;
    let is_foreign = rest.get(.."CN=ForeignSecurityPrincipals,".len()).is_some_and(|container| {
        attribute.eq_ignore_ascii_case("CN") && container.eq_ignore_ascii_case("CN=ForeignSecurityPrincipals,")
    });
    (is_foreign && sid.starts_with("S-1-")).then_some(sid)
}

/// Of these, those who are users of the domain.
async fn looked_up(domain: &Domain, names: Vec<String>) -> Result<Found, Status> {
    let more = names.len() > SourceKind::USERS_MAX;
    let looked_up = futures::stream::iter(names.into_iter().take(SourceKind::USERS_MAX));
    let looked_up = looked_up.map(|name| user_called(domain, name));
    let found: Vec<_> = looked_up.buffered(AT_ONCE).try_collect().await?;
    let users = found.into_iter().filter_map(Result::ok).map(of_entry);
    Ok((users.map(|user| (key(&user), user)).collect(), more))
}

async fn user_called(domain: &Domain, name: String) -> Result<Result<Entry, Reason>, Status> {
    match TypedName::parse(&name, domain.directory.settings()) {
        Ok(typed) => user_of(domain.directory.resolve(&typed).await),
        Err(_) => Ok(Err(Reason::UnknownUser)),
    }
}

/// Who is meant, or why nobody is; an error: nobody can say.
fn user_of<T>(found: Result<T, ResolveError>) -> Result<Result<T, Reason>, Status> {
    match found {
        Ok(found) => Ok(Ok(found)),
        Err(error) if error.is_unavailable() => Err(Status::unavailable(service_kit::chain(&error))),
        Err(error @ (ResolveError::Name(_) | ResolveError::Absent | ResolveError::Ambiguous)) => {
            Ok(Err(error.reason()))
        }
        Err(error) => Err(Status::unavailable(service_kit::chain(&error))),
    }
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

fn attributes(domain: &Domain) -> Vec<&str> {
    let mut attributes = shown_attributes(domain.directory.settings());
    attributes.insert(domain.directory.settings().id_attribute());
    // Whoever has no principal name there is called by it.
    attributes.extend(domain.name().map(|_| "sAMAccountName"));
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
fn found(domain: &Domain, entry: &SearchResultEntry) -> Option<FoundUser> {
    let settings = domain.directory.settings();
    let text = |attribute: &str| Some(shown(entry.first_text(attribute)?)).filter(|text| !text.is_empty());
    let distinguished_name = entry.dn_text()?.to_owned();
    Some(FoundUser {
        object_id: domain.directory.id_of(entry).ok()?.to_string(),
        username: domain.directory.username(text).unwrap_or_else(|| distinguished_name.clone()),
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

async fn named(settings: &SettingsCopy, home: &Arc<Directory>, names: &[String]) -> Result<FindUsersReply, Status> {
    if names.len() > NAMES_MAX {
        return Err(Status::invalid_argument(format!("names: found {}; allowed are {NAMES_MAX}", names.len())));
    }
    let looked_up = futures::stream::iter(names.to_vec()).map(|name| one(settings, home, name)).buffered(AT_ONCE);
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

async fn one(
    settings: &SettingsCopy,
    home: &Arc<Directory>,
    name: String,
) -> Result<Result<FoundUser, NoUser>, Status> {
    let of_directory = |id: &ObjectId| id.is_of(home.settings().id_attribute(), home.settings().id_type());
    let found = match name.parse::<ObjectId>().ok().filter(of_directory) {
        Some(id) => settings.holder(home, &id).await,
        None => match TypedName::parse(&name, home.settings()) {
            Ok(typed) => who(settings, home, &typed).await,
            Err(error) => Err(error.into()),
        },
    };
    let none = |reason: Reason| NoUser { name, reason: reason.code().to_owned() };
    Ok(user_of(found)?.map(|(_, entry)| of_entry(entry)).map_err(none))
}

/// Who is meant, in any domain of the directory. Its alternate directories have people of their own.
pub(super) async fn who(
    settings: &SettingsCopy,
    home: &Arc<Directory>,
    name: &TypedName,
) -> Result<(Arc<Directory>, Entry), ResolveError> {
    if !home.settings().includes_trusted_domains() {
        return home.resolve(name).await.map(|entry| (Arc::clone(home), entry));
    }
    match settings.resolve(home, name).await {
        Ok((at, _)) if at.name() != home.name() => Err(ResolveError::Absent),
        found => found,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stands_for_somebody_across_a_trust_is_known_by_the_name() {
        let sid = "S-1-5-21-1-2-3-1104";
        for container in ["CN=ForeignSecurityPrincipals", "cn=foreignsecurityprincipals"] {
            assert_eq!(sid_of_foreign(&format!("CN={sid},{container},DC=corp,DC=example")), Some(sid));
        }
        for other in ["CN=S-1-5-11,OU=x,DC=corp", "OU=S-1-5-11,CN=ForeignSecurityPrincipals,DC=corp", "CN=ann", "é,é"]
        {
            assert_eq!(sid_of_foreign(other), None, "{other}");
        }
    }
}
