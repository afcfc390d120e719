//! Why not everything was read. Whatever it is, nobody may be taken for gone after it (S-41).

use crate::apply::StoreError;
use directory::{Incomplete, Origin};
use domain::ObjectName;
use ldap_wire::dn::DnError;
use ldap_wire::filter::FilterError;
use std::fmt;

/// What ended a reading before its end. The administrator reads this.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("{what} could not be read completely")]
    Incomplete {
        what: What,
        #[source]
        cause: Incomplete,
    },
    #[error("the filter of the sync item is no filter")]
    Filter(#[source] FilterError),
    /// The source of an item is not there, or hidden from the query account (FS-21).
    #[error(
        "the {kind} {named:?} of the sync item {item} cannot be seen; where it was deleted, change or remove the item; where it was \
         made again under the same name, write its DN anew, such as in capitals"
    )]
    Gone { item: ObjectName, kind: &'static str, named: String },
    #[error("the directory gives {dn:?}, which is no DN")]
    BadName {
        dn: String,
        #[source]
        cause: DnError,
    },
    #[error("a container of a sync item moved while it was read; the next run reads what it holds now")]
    Moved,
    /// S-43: another server may not have yet what this one tells of.
    #[error("{feed} told of changes and could not be read, {other} answered instead; the next run tries again")]
    OtherServer { feed: Origin, other: Origin },
    /// Not the directory: the store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What was being read.
#[derive(Debug, Clone)]
pub(crate) enum What {
    Base {
        base: String,
    },
    Users {
        base: String,
    },
    Groups {
        base: String,
    },
    Containers {
        base: String,
    },
    /// The entry that is the source of an item.
    Source {
        kind: &'static str,
        named: String,
    },
    /// Objects by their ids.
    Some,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base { base } => write!(f, "the base {base:?}"),
            Self::Users { base } => write!(f, "the users below {base:?}"),
            Self::Groups { base } => write!(f, "the groups below {base:?}"),
            Self::Containers { base } => write!(f, "the containers below {base:?}"),
            Self::Source { kind, named } => write!(f, "the {kind} {named:?} of a sync item"),
            Self::Some => f.write_str("changed objects"),
        }
    }
}
