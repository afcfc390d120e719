//! Containers and groups of a directory by what they are called, to be looked through by people (FS-16, FD-33).

use super::domains::{Domain, Domains};
use super::find::{below, place, shown};
use super::unread;
use directory::{Directory, Incomplete, Query, Read};
use futures::FutureExt;
use ldap_wire::{Filter, Scope, SearchResultEntry};
use proto::directory::find_places_request::Kind;
use proto::directory::{FindPlacesReply, FindPlacesRequest, Place};
use std::collections::BTreeMap;
use tonic::Status;

/// More are narrowed by a search, not paged.
const PLACES_MAX: usize = 1_000;
const SEARCH_CHARACTERS_MAX: usize = 256;

/// By what they are sorted by, and whether there are more.
type Found = (BTreeMap<(String, String), Place>, bool);

pub(super) async fn places(domains: &Domains, request: FindPlacesRequest) -> Result<FindPlacesReply, Status> {
    let everywhere = request.below.is_empty();
    let (found, unread) = match request.kind() {
        Kind::Unspecified => return Err(Status::invalid_argument("kind: allowed are containers and groups")),
        Kind::Groups if everywhere => domains.each(|domain| within(domain, &request).boxed()).await?,
        // The other domains stand beside the containers of the own one.
        Kind::Containers if everywhere => domains.each(|domain| beside(domain, &request).boxed()).await?,
        Kind::Groups | Kind::Containers => (vec![within(place(domains, &request.below), &request).await?], Vec::new()),
    };
    let more = found.iter().any(|(_, more)| *more);
    let places: BTreeMap<_, _> = found.into_iter().flat_map(|(places, _)| places).collect();
    let own = &domains.own().directory;
    Ok(FindPlacesReply {
        more: more || places.len() > PLACES_MAX,
        places: places.into_values().take(PLACES_MAX).collect(),
        name_attribute: names(own, request.kind()).join(", "),
        base: own.base_text().to_owned(),
        unread,
    })
}

fn names(directory: &Directory, kind: Kind) -> Vec<&str> {
    match kind {
        Kind::Groups => directory.settings().group_name_attributes().collect(),
        Kind::Containers | Kind::Unspecified => directory.settings().container_name_attributes().collect(),
    }
}

/// What lies below the base of the directory's own domain, and the base of another one, where that is looked for.
async fn beside(domain: &Domain, request: &FindPlacesRequest) -> Result<Found, Status> {
    let Some(name) = domain.name() else { return within(domain, request).await };
    let directory = &domain.directory;
    let id = directory.settings().id_attribute();
    let query = Query::new(directory.base_text(), Scope::Base, Filter::present("objectClass"), &[id]);
    let entries = directory.read(query).collect().await.map_err(|why| unread(&why))?;
    let is_meant = name.contains(&request.search.trim().to_lowercase());
    let places = entries.iter().filter(|_| is_meant).filter_map(|entry| found(directory, entry, &[]));
    let places = places.map(|place| Place { name: name.to_owned(), ..place });
    Ok((places.map(|place| (key(&place), place)).collect(), false))
}

fn key(place: &Place) -> (String, String) {
    (place.name.to_lowercase(), place.distinguished_name.clone())
}

async fn within(domain: &Domain, request: &FindPlacesRequest) -> Result<Found, Status> {
    let directory = &domain.directory;
    let (scope, of_kind) = match request.kind() {
        Kind::Groups => (Scope::Subtree, directory.group_filter()),
        Kind::Containers | Kind::Unspecified => (Scope::One, directory.container_filter()),
    };
    let names = names(directory, request.kind());
    let mut filter = vec![of_kind.clone()];
    filter.extend(called(&names, request.search.trim())?);
    let mut attributes = names.clone();
    attributes.push(directory.settings().id_attribute());
    let mut query = Query::new(below(directory, &request.below)?, scope, Filter::and(filter), &attributes);
    query.entries_max = PLACES_MAX;
    let mut reading = directory.read(query);
    let mut places = BTreeMap::new();
    let more = loop {
        match reading.next().await {
            Read::Entry(entry) => {
                places.extend(found(directory, &entry, &names).map(|place| (key(&place), place)));
            }
            Read::Complete => break false,
            Read::Incomplete(Incomplete::TooMany { .. } | Incomplete::Limit { .. }) => break true,
            Read::Incomplete(why) if why.is_no_such_object() => {
                return Err(Status::invalid_argument("below: there is nothing of this name, or it cannot be seen"));
            }
            Read::Incomplete(why) => return Err(unread(&why)),
        }
    };
    Ok((places, more))
}

/// Whose name has this in it; `None` = any.
fn called(names: &[&str], search: &str) -> Result<Option<Filter>, Status> {
    if search.chars().count() > SEARCH_CHARACTERS_MAX {
        return Err(Status::invalid_argument("search: is longer than 256 characters"));
    }
    let holds = |attribute: &&str| Filter::Substrings {
        attribute: (*attribute).to_owned(),
        initial: None,
        any: vec![search.as_bytes().to_vec()],
        last: None,
    };
    Ok((!search.is_empty()).then(|| Filter::or(names.iter().map(holds))))
}

/// `None` = nobody can say what it is.
fn found(directory: &Directory, entry: &SearchResultEntry, names: &[&str]) -> Option<Place> {
    let distinguished_name = entry.dn_text()?.to_owned();
    let name = names.iter().map(|name| shown(entry.first_text(name).unwrap_or_default()));
    Some(Place {
        object_id: directory.id_of(entry).ok()?.to_string(),
        name: name.into_iter().find(|name| !name.is_empty()).unwrap_or_else(|| shown(&distinguished_name)),
        distinguished_name,
    })
}
