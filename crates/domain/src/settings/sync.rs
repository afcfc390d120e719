//! Which users come from a directory, in which order, and what happens to those who leave.

use super::PhoneKind;
use crate::{Language, Method, ObjectName};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SyncSchedule {
    pub enabled: bool,
    /// Start to start, 1-1440 min (FS-02).
    pub interval_minutes: u32,
    /// Every run reads everything, whatever the directory could tell (FS-04).
    pub always_full: bool,
    /// More users disabled or removed in a run than this wait for approval: 1-999 (FS-06, S-40).
    pub approval_over_users: u32,
    /// Or more than this share of the known users, and at least three: 0-100, 0 = the number alone decides.
    pub approval_over_percent: u32,
    /// How long an approval waits, 1-30 days (FS-07).
    pub approval_days: u32,
    /// How long the factors of a removed user are kept before they are erased, 0-365 days (FS-03, S-45).
    pub grace_days: u32,
    /// For so long a number that sync changed gets neither text nor call, 0-168 h (S-58).
    pub phone_hold_hours: u32,
    /// A number that goes back to what it was within this time is told to administrators, 0-1440 min, 0 = never (S-19).
    pub phone_back_minutes: u32,
    /// Hosts that are to lead while one of them can; empty = any (FS-11).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub preferred_nodes: Vec<String>,
}

impl Default for SyncSchedule {
    fn default() -> Self {
        Self {
            enabled: false,
            interval_minutes: 5,
            always_full: false,
            approval_over_users: 5,
            approval_over_percent: 5,
            approval_days: 7,
            grace_days: 30,
            phone_hold_hours: 0,
            phone_back_minutes: 60,
            preferred_nodes: Vec::new(),
        }
    }
}

/// One source of users. A user takes the settings of the first item that has them (FS-08).
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
    /// Users that are not known yet are added (FS-23).
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub add: bool,
    #[serde(default, skip_serializing_if = "Updates::is_default")]
    pub update: Updates,
    #[serde(default, skip_serializing_if = "is_default")]
    pub new_users: NewUsers,
    #[serde(default)]
    pub leavers: Leavers,
    #[serde(default, skip_serializing_if = "is_default")]
    pub returning: Returning,
    #[serde(default, skip_serializing_if = "is_default")]
    pub disabled_in_directory: DisabledInDirectory,
    /// Sources of the primary number, first valid wins (FS-27).
    #[serde(default = "primary_phone", skip_serializing_if = "is_primary_phone")]
    pub primary_phone: Vec<PhoneKind>,
    /// Sources of the backup number (FS-28).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backup_phone: Vec<PhoneKind>,
    /// Country of numbers without a code; empty = the directory's (FS-29).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub country: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub method: ItemMethod,
    #[serde(default, skip_serializing_if = "is_default")]
    pub language: ItemLanguages,
    #[serde(default, skip_serializing_if = "is_default")]
    pub mail: ItemMail,
    /// Label of users of whom the directory names none (FS-34).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user_group: String,
    /// `false` = these users are exempt from the second factor (FS-35).
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub second_factor: bool,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
pub(super) fn is_true(value: &bool) -> bool {
    *value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

pub(super) fn primary_phone() -> Vec<PhoneKind> {
    vec![PhoneKind::Mobile, PhoneKind::Business]
}

fn is_primary_phone(list: &Vec<PhoneKind>) -> bool {
    *list == primary_phone()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncState {
    #[default]
    On,
    Off,
    /// Its users are listed in a preview and nothing is written (FS-12).
    Preview,
}

impl SyncItem {
    /// A preview tries those that are only looked at, too (FS-12).
    pub fn is_read(&self, by_preview: bool) -> bool {
        self.state == SyncState::On || by_preview && self.state == SyncState::Preview
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyncSource {
    pub kind: SourceKind,
    /// The container or group; empty with `domain`: the directory's base.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub dn: String,
    /// Goes before `dn`: the entry's immutable id, so that a rename does no harm (FS-21).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<crate::ObjectId>,
    /// Of `users`: who they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<crate::ObjectId>,
    /// Of a container: with what lies below its containers.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub subtree: bool,
    /// Of a group: with the members of its groups.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub nested: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// Everything below the directory's base.
    Domain,
    /// Everything in one container.
    Container,
    /// The members of one group.
    Group,
    /// Exactly those who are named by their ids, wherever they are below the base (FS-16).
    Users,
}

impl SourceKind {
    /// Most users that one item may name (FS-16).
    pub const USERS_MAX: usize = 10_000;
}

/// When a value of the directory replaces the one in the store, for each kind of value (FS-23).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Updates {
    pub names: Update,
    pub phones: Update,
    pub languages: Update,
}

impl Updates {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Update {
    Always,
    /// What the user or an administrator wrote stays.
    #[default]
    UnlessUserChanged,
    /// Only where there is nothing yet.
    IfEmpty,
    Never,
}

/// How users begin (FS-24).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NewUsers {
    #[default]
    Enabled,
    Disabled,
    /// Enabled, and nobody passes before a method is enrolled, whatever a client says of users without one.
    MustEnrol,
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

/// What somebody who was gone from the directory and disabled or removed for it is, back under the same id (S-21).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Returning {
    /// Their second factors are erased, and enrolled anew.
    #[default]
    ReEnrol,
    /// They are as they were.
    KeepFactors,
}

/// What a user that the directory disabled is here (FS-26).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisabledInDirectory {
    #[default]
    Disable,
    Keep,
}

/// Second-factor methods of new users (FS-31). Absent = company-wide (FV-01).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ItemMethod {
    #[serde(rename = "default", skip_serializing_if = "Option::is_none")]
    pub default_method: Option<Method>,
    /// Empty = all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<Method>,
    /// They have to use a PIN, or have not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<bool>,
    /// Whence they have their first one.
    #[serde(skip_serializing_if = "is_default")]
    pub initial_pin: InitialPin,
}

/// The first PIN of a new user (FS-31, FV-21).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InitialPin {
    /// They choose it themselves.
    #[default]
    Chosen,
    /// A random one that they get by mail, and change at its first use.
    Mailed,
}

/// Languages where the directory names none (FS-32).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ItemLanguages {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<Language>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<Language>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<Language>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Language>,
    /// Of the portal's pages; the directory has no attribute for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub portal: Option<Language>,
}

/// Mail to users about themselves (FS-33).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ItemMail {
    /// A welcome when a user is added.
    pub on_add: bool,
    /// A word when synchronisation changes their name, username, address, languages or numbers.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub on_change: bool,
}
