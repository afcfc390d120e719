//! Rules that go before a client's own values: ordered, the first that fits decides (FV-43).

use crate::{Assurance, Method, ObjectName};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// `[[policy]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyRule {
    pub name: ObjectName,
    /// All that is named must hold.
    #[serde(default)]
    pub when: When,
    pub then: Then,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct When {
    /// The user is in one of these groups, directly or not: `objectGUID:...`, or the group's DN.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<ObjectName>,
    /// The person's address, if it is known, is in one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<IpNet>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<TimeOfWeek>,
}

/// A part of every week, in a zone with a fixed offset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeOfWeek {
    /// 1 = Monday to 7 = Sunday; empty = every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<u8>,
    /// `08:00`
    pub from: String,
    /// `18:00`; not later than `from` = until that time on the next day.
    pub to: String,
    /// Minutes east of UTC, -840 to 840.
    #[serde(default)]
    pub utc_offset_minutes: i32,
}

/// What follows. What is absent stays as the client says.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Then {
    /// Nobody comes in: `out_of_hours` where the rule names a time, else `client_not_allowed`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub refuse: bool,
    /// The password is enough.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub exempt: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<Method>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_assurance: Option<Assurance>,
}

/// A recent login that still counts (FV-30, V-50).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remember {
    #[serde(default)]
    pub kind: RememberKind,
    /// 30-86400
    #[serde(default = "idle_seconds")]
    pub idle_seconds: u32,
    /// 60-86400
    #[serde(default = "life_seconds")]
    pub life_seconds: u32,
    /// Methods whose success is remembered; empty = every one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<Method>,
}

fn idle_seconds() -> u32 {
    300
}
fn life_seconds() -> u32 {
    28_800
}

/// What must be the same again, beside user, client and policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RememberKind {
    User,
    /// And the place: Calling-Station-Id, else the address.
    UserSource,
    /// And the password.
    #[default]
    UserSourcePassword,
}

/// Where a client's words about the person's address are taken from (V-54).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PersonAddress {
    /// The sender of the packet or connection; for LDAP behind a listed balancer what PROXY v2 says.
    #[default]
    Peer,
    /// RADIUS: Calling-Station-Id, where it is an address.
    CallingStationId,
    /// RADIUS: Framed-IP-Address or Framed-IPv6-Address.
    FramedAddress,
    /// RADIUS: Tunnel-Client-Endpoint.
    TunnelClientEndpoint,
}
