//! Containers and groups of a directory by what they are called, to be looked through by people (FS-16, FD-33).

use super::find::{below, shown};
use super::unread;
use directory::{Directory, Incomplete, Query, Read};
use ldap_wire::{Filter, Scope, SearchResultEntry};
use proto::directory::find_places_request::Kind;
use proto::directory::{FindPlacesReply, FindPlacesRequest, Place};
use std::collections::BTreeMap;
use tonic::Status;

/// More are narrowed by a search, not paged.
const PLACES_MAX: usize = 1_000;
const SEARCH_CHARACTERS_MAX: usize = 256;

pub(super) async fn places(directory: &Directory, request: FindPlacesRequest) -> Result<FindPlacesReply, Status> {
    let settings = directory.settings();
    let (scope, of_kind, names): (_, _, Vec<&str>) = match request.kind() {
        Kind::Containers => (Scope::One, directory.container_filter(), settings.container_name_attributes().collect()),
        Kind::Groups => (Scope::Subtree, directory.group_filter(), settings.group_name_attributes().collect()),
        Kind::Unspecified => return Err(Status::invalid_argument("kind: allowed are containers and groups")),
    };
    let mut filter = vec![of_kind.clone()];
    filter.extend(called(&names, request.search.trim())?);
    let mut attributes = names.clone();
    attributes.push(settings.id_attribute());
    let mut query = Query::new(below(directory, &request.below)?, scope, Filter::and(filter), &attributes);
    query.entries_max = PLACES_MAX;
    let mut reading = directory.read(query);
    let mut places = BTreeMap::new();
    let more = loop {
        match reading.next().await {
            Read::Entry(entry) => {
                let place = found(directory, &entry, &names);
                places
                    .extend(place.map(|place| ((place.name.to_lowercase(), place.distinguished_name.clone()), place)));
            }
            Read::Complete => break false,
            Read::Incomplete(Incomplete::TooMany { .. } | Incomplete::Limit { .. }) => break true,
            Read::Incomplete(why) if why.is_no_such_object() => {
                return Err(Status::invalid_argument("below: there is nothing of this name, or it cannot be seen"));
            }
            Read::Incomplete(why) => return Err(unread(&why)),
        }
    };
    Ok(FindPlacesReply {
        places: places.into_values().collect(),
        more,
        name_attribute: names.join(", "),
        base: directory.base_text().to_owned(),
    })
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
