//! The attributes of a directory's schema, for people who map them (FD-17).

use super::unread;
use directory::Directory;
use proto::directory::{FindAttributesReply, FindAttributesRequest};
use tonic::Status;

/// What an answer holds of them.
const NAMES_MAX: usize = 4_000;
const ASKED_ABOUT_MAX: usize = 64;

pub(super) async fn attributes(
    directory: &Directory,
    request: FindAttributesRequest,
) -> Result<FindAttributesReply, Status> {
    if request.attributes.len() > ASKED_ABOUT_MAX {
        return Err(Status::invalid_argument("attributes: more than 64"));
    }
    let schema = directory.schema().await.map_err(|why| unread(&why))?;
    let unknown = request.attributes.into_iter().filter(|attribute| schema.lacks(attribute)).collect();
    Ok(FindAttributesReply { names: schema.names().take(NAMES_MAX).map(str::to_owned).collect(), unknown })
}
