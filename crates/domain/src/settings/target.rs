//! A target that is no directory: who checks the passwords of RADIUS clients that a directory cannot check.

use super::client::is_default;
use super::{MessageAuthenticator, SecretSource};
use crate::ObjectName;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    pub name: ObjectName,
    pub kind: TargetKind,
    /// Where the people it accepts are looked up: whoever it names is one entry there, and known by its immutable id.
    pub directory: ObjectName,

    /// RADIUS: 1-16 servers, called in this order (FR-09).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<HomeServer>,
    /// RADIUS: the attribute of an Access-Accept that says who logged in, where the password was not in the request.
    #[serde(default = "user_name")]
    pub identity_attribute: String,
    /// RADIUS: an EAP request's own User-Name counts where the Accept names nobody. For servers that enforce that both are the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub danger_trust_outer_identity: bool,
    /// RADIUS: no answer for so long makes a server a zombie, 5-60 s.
    #[serde(default = "response_window_seconds")]
    pub response_window_seconds: u32,
    /// RADIUS: a zombie that says nothing for so long is dead, 20-120 s.
    #[serde(default = "zombie_seconds")]
    pub zombie_seconds: u32,
    /// RADIUS: how Twinlock finds out that a server is back.
    #[serde(default)]
    pub status_check: StatusCheck,
    /// RADIUS: with `status_check = "username"` whom the question names. Nobody at all, so that no account is locked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status_user: String,
    /// RADIUS: seconds between two questions to a server that is not alive, 6-120.
    #[serde(default = "check_interval_seconds")]
    pub check_interval_seconds: u32,
    /// RADIUS: with `status_check = "none"` a dead server is tried again after so long, 60-3600 s.
    #[serde(default = "revive_seconds")]
    pub revive_seconds: u32,

    /// Windows: the short domain name that names without one belong to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub domain: String,
}

impl Target {
    /// The name that a server's secret is kept under.
    pub fn secret_name(&self, server: &HomeServer) -> String {
        format!("target.{}.{}.secret", self.name, server.place())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    /// Other RADIUS servers (FR-09).
    Radius,
    /// The Windows domain that the gateway's host has joined, by winbind (FR-08).
    WindowsDomain,
}

/// A RADIUS server that Twinlock is a client of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HomeServer {
    /// An IP address, or a host name.
    pub address: String,
    #[serde(default)]
    pub transport: Transport,
    /// UDP: the shared secret. Over TLS it is fixed (RFC 6614 section 2.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretSource>,
    /// UDP 1812, TLS 2083.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication_port: Option<u16>,
    /// UDP 1813; over TLS there is one port for both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accounting_port: Option<u16>,
    /// Its share of new conversations, by Calling-Station-Id or else User-Name; 0 = none: asked in the order of the list, after those that
    /// have one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub weight: u32,
    /// Whether its answers must carry Message-Authenticator.
    #[serde(default)]
    pub message_authenticator: MessageAuthenticator,
    /// TLS: a private CA, as PEM text. Absent = the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// TLS: the name in its certificate, where it is not `address`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

impl HomeServer {
    pub fn authentication_port(&self) -> u16 {
        self.authentication_port.unwrap_or(match self.transport {
            Transport::Udp => 1812,
            Transport::Tls => 2083,
        })
    }

    pub fn accounting_port(&self) -> u16 {
        match self.transport {
            Transport::Udp => self.accounting_port.unwrap_or(1813),
            Transport::Tls => self.authentication_port(),
        }
    }

    /// `10.0.0.5:1812`, `[2001:db8::5]:1812`: what tells the servers of a target apart.
    pub fn place(&self) -> String {
        match self.address.contains(':') {
            true => format!("[{}]:{}", self.address, self.authentication_port()),
            false => format!("{}:{}", self.address, self.authentication_port()),
        }
    }
}

/// How RADIUS travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    #[default]
    Udp,
    /// RadSec (RFC 6614).
    Tls,
}

/// How a server that gave no answer is asked whether it is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusCheck {
    #[default]
    StatusServer,
    /// By an Access-Request for `status_user` with a password made up each time: a Reject says that it is back, and nothing else
    /// does. Accounting ports take no such question: there as `none`.
    Username,
    /// Not at all: it is tried again after `revive_seconds`.
    None,
}

fn user_name() -> String {
    "User-Name".into()
}
fn response_window_seconds() -> u32 {
    20
}
fn zombie_seconds() -> u32 {
    40
}
fn check_interval_seconds() -> u32 {
    30
}
fn revive_seconds() -> u32 {
    120
}
