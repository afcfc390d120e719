//! Which users come from a directory, in which order, and what happens to those who leave.

use crate::ObjectName;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SyncSchedule {
    pub enabled: bool,
    /// Start to start, 1-1440 min (FS-02).
    pub interval_minutes: u32,
    /// More users disabled or removed in a run than this wait for approval: 1-999 (FS-06, S-40).
    pub approval_over_users: u32,
    /// Or more than this share of the known users, and at least three: 1-100.
    pub approval_over_percent: u32,
}

impl Default for SyncSchedule {
    fn default() -> Self {
        Self { enabled: false, interval_minutes: 5, approval_over_users: 5, approval_over_percent: 5 }
    }
}

/// One source of users.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyncItem {
    pub name: ObjectName,
    pub directory: ObjectName,
    #[serde(default)]
    pub state: SyncState,
    pub source: SyncSource,
    /// And-ed with the directory's user filter (FS-22).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub filter: String,
    #[serde(default)]
    pub leavers: Leavers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncState {
    #[default]
    On,
    Off,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyncSource {
    pub kind: SourceKind,
    /// The container or group; empty with `domain`: the directory's base.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub dn: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// Everything below the directory's base.
    Domain,
    /// Everything below one container.
    Container,
    /// The direct members of one group.
    Group,
}

/// What happens to users that are gone from the source (FS-25).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leavers {
    #[default]
    Disable,
    Remove,
    Keep,
}
