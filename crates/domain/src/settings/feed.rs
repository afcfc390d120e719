//! How changes in a directory are learned of (FS-40 to FS-45).

use serde::{Deserialize, Serialize};

/// A change feed. Chosen by probing, and can be forced (S-03).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Feed {
    /// Active Directory, LDAP_SERVER_DIRSYNC_OID (S-10).
    #[serde(rename = "dirsync")]
    DirSync,
    /// Active Directory and AD LDS without that right (S-25).
    #[serde(rename = "usn_changed")]
    UsnChanged,
    /// RFC 4533 (S-30).
    #[serde(rename = "syncrepl")]
    Syncrepl,
    /// OpenLDAP's `cn=accesslog` (S-38).
    #[serde(rename = "accesslog")]
    AccessLog,
    /// The retro changelog of 389 DS and its relatives (S-37).
    #[serde(rename = "changelog")]
    Changelog,
    /// Any directory that keeps the time of the last change (S-39).
    #[serde(rename = "modify_timestamp")]
    ModifyTimestamp,
}

impl Feed {
    pub const ALL: [Self; 6] =
        [Self::DirSync, Self::UsnChanged, Self::Syncrepl, Self::AccessLog, Self::Changelog, Self::ModifyTimestamp];

    pub fn code(self) -> &'static str {
        match self {
            Self::DirSync => "dirsync",
            Self::UsnChanged => "usn_changed",
            Self::Syncrepl => "syncrepl",
            Self::AccessLog => "accesslog",
            Self::Changelog => "changelog",
            Self::ModifyTimestamp => "modify_timestamp",
        }
    }
}
