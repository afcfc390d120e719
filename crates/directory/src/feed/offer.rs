//! Which feeds a directory has for its query account (S-03).

use super::link::Link;
use super::root::Root;
use super::{FeedKind, accesslog, changelog, dirsync, syncrepl, timestamp, usn};
use crate::directory::Core;
use crate::read::Incomplete;
use std::sync::Arc;

/// A feed that the server has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    pub kind: FeedKind,
    /// Otherwise why it cannot be used and what to do, in a sentence.
    pub usable: Result<(), String>,
    /// What is not told for certain, in a sentence: now and then everything has to be read.
    pub misses: Option<String>,
    /// [`crate::Directory::follow`] works.
    pub persists: bool,
}

impl Offer {
    pub(super) fn of(kind: FeedKind) -> Self {
        Self { kind, usable: Ok(()), misses: None, persists: false }
    }

    pub(super) fn unusable(self, why: impl Into<String>) -> Self {
        Self { usable: Err(why.into()), ..self }
    }
}

/// Those that can be used first, and among them in the order of [`FeedKind::ALL`].
pub(super) async fn all(core: &Arc<Core>) -> Result<Vec<Offer>, Incomplete> {
    let mut link = Link::open(core, None).await?;
    let root = Root::read(&mut link).await?;
    let mut offers = Vec::new();
    for kind in FeedKind::ALL {
        offers.extend(match kind {
            FeedKind::DirSync => dirsync::offer(&mut link, &root).await?,
            FeedKind::UsnChanged => usn::offer(&mut link, &root).await?,
            FeedKind::Syncrepl => syncrepl::offer(&mut link, &root).await?,
            FeedKind::AccessLog => accesslog::offer(&mut link, &root).await?,
            FeedKind::Changelog => changelog::offer(&mut link, &root).await?,
            FeedKind::ModifyTimestamp => timestamp::offer(&mut link, &root).await?,
        });
    }
    offers.sort_by_key(|offer| offer.usable.is_err());
    Ok(offers)
}
