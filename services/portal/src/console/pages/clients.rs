//! Pages of clients and of those who check their passwords.

use super::Frame;
use askama::Template;

#[derive(Template)]
#[template(path = "console/clients.html")]
pub(in crate::console) struct ClientsPage {
    pub frame: Frame,
    pub clients: Vec<ClientRow>,
}

pub(in crate::console) struct ClientRow {
    pub name: String,
    pub address: String,
    /// Empty where it is called as the client is.
    pub application: String,
    pub protocol: &'static str,
    pub sources: Vec<String>,
    pub target: String,
    pub seen: String,
    pub observed: bool,
    /// So many warnings say what it lets through, and so many others there are.
    pub weaknesses: usize,
    pub warnings: usize,
}

#[derive(Template)]
#[template(path = "console/client.html")]
pub(in crate::console) struct ClientPage {
    pub frame: Frame,
    pub protocol: &'static str,
    pub application: String,
    /// Until then the password alone lets people in.
    pub observed_until: Option<String>,
    pub weaknesses: Vec<String>,
    /// All others.
    pub warnings: Vec<String>,
    pub target: String,
    /// Of the page of who checks its passwords, for those who may see it.
    pub target_address: Option<String>,
    pub is_radius: bool,
    pub seen: String,
    pub signature: String,
    pub nodes: Vec<NodeShown>,
    pub asks: Vec<Fact>,
    pub limits: Vec<Fact>,
    pub exceptions: Vec<Fact>,
    /// Its part of the settings document.
    pub every: String,
}

/// For the overview: what it lets through.
pub(in crate::console) struct OpenClient {
    pub name: String,
    pub address: String,
    pub texts: Vec<String>,
}

/// What one node has seen.
pub(in crate::console) struct NodeShown {
    pub node: String,
    pub at: String,
    pub lines: Vec<String>,
}

pub(in crate::console) struct Fact {
    pub name: &'static str,
    pub value: String,
}

#[derive(Template)]
#[template(path = "console/targets.html")]
pub(in crate::console) struct TargetsPage {
    pub frame: Frame,
    pub targets: Vec<CheckerShown>,
    pub directories: Vec<DirectoryChecks>,
}

/// A target that is no directory.
pub(in crate::console) struct CheckerShown {
    pub name: String,
    pub kind: &'static str,
    pub directory: String,
    /// Of Windows, where the settings name it.
    pub domain: String,
    pub is_radius: bool,
    /// Name and address of each.
    pub clients: Vec<(String, String)>,
    pub servers: Vec<ServerShown>,
}

pub(in crate::console) struct ServerShown {
    pub place: String,
    pub transport: &'static str,
    pub seen: Vec<ServerSeen>,
    pub signature: &'static str,
    pub warnings: Vec<String>,
}

/// How a node finds a server.
pub(in crate::console) struct ServerSeen {
    pub good: bool,
    pub text: String,
    pub node: String,
    pub at: String,
}

pub(in crate::console) struct DirectoryChecks {
    pub name: String,
    pub servers: Vec<String>,
    pub clients: Vec<(String, String)>,
    /// Where it is tried, for those who may.
    pub address: Option<String>,
}
