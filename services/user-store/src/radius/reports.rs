//! What the gateways see of their clients, and of the RADIUS servers that they are clients of: one row a client or server and node,
//! replaced by each report, gone with its node. A server's row has the name of what `learned` knows of it, which no client can have.

use crate::Store;
use crate::rpc::{StoreError, bounded, chain, id};
use crate::settings;
use crate::sql::{Arg, Session, args};
use domain::settings::{Client, ClientProtocol, HomeServer, MessageAuthenticator, Settings, Target};
use prost::Message;
use proto::user_store::{
    ClientDetail, ClientReport, HomeServerDetail, HomeServerReport, HomeServerSeen, ListClientsReply,
    ListClientsRequest, NodeReport, ReportClientsRequest,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;
use tonic::Status;

/// Nodes that are remembered; beyond it those that said nothing for longest are forgotten.
const NODES_MAX: i64 = 64;
/// Words a report may hold of one kind: there are fewer protocols and fewer drop codes.
const WORDS_MAX: usize = 64;
const STATES: [&str; 3] = ["alive", "zombie", "dead"];
/// A gateway says how it stands with a server at least every ten minutes: what is older is of a node that is gone.
const SERVER_SEEN_MS: i64 = 30 * 60_000;
const PROTOCOLS: [&str; 9] =
    ["pap", "chap", "ms_chap", "ms_chap2", "eap", "arap", "none", "accounting", "status_server"];

/// Replaces what this node told before. Clients and servers the settings do not have (any more) are passed over.
pub async fn report(store: &Store, request: ReportClientsRequest) -> Result<(), StoreError> {
    id("node", &request.node)?;
    let now_ms = store.clock().now_ms();
    let mut session = store.database().write().await?;
    let rules = store.rules().current(&mut session).await?;
    session.execute("DELETE FROM client_reports WHERE node = $1", args![&request.node]).await?;
    // By client, so that nodes that report at once lock the rows in one order, and a client twice is one row.
    let reports: BTreeMap<String, ClientReport> = request
        .clients
        .into_iter()
        .filter(|report| is_radius_client(&rules, &report.client))
        .map(|report| (report.client.clone(), clean(report, now_ms)))
        .collect();
    for (client, report) in reports.iter().filter(|(_, report)| report.last_seen_unix_ms > 0) {
        let sql = "INSERT INTO client_seen (client, last_seen_ms) VALUES ($1, $2) ON CONFLICT (client) DO UPDATE SET \
                   last_seen_ms = excluded.last_seen_ms WHERE client_seen.last_seen_ms < excluded.last_seen_ms";
        session.execute(sql, args![client, report.last_seen_unix_ms]).await?;
    }
    let known_servers = server_names(&rules);
    let servers: BTreeMap<String, HomeServerReport> = request
        .home_servers
        .into_iter()
        .filter(|it| STATES.contains(&it.state.as_str()) && STATES.contains(&it.accounting_state.as_str()))
        .map(|report| (server_name(&report.target, &report.place), report))
        .filter(|(name, _)| known_servers.contains(name))
        .collect();
    let reports = reports.iter().map(|(client, report)| (client, report.encode_to_vec()));
    let servers = servers.iter().map(|(server, report)| (server, report.encode_to_vec()));
    let rows: Vec<Vec<Arg>> =
        reports.chain(servers).map(|(name, report)| args![name, &request.node, now_ms, report]).collect();
    // The same node may report at once from a process that is about to end and the one after it.
    let tail = "ON CONFLICT (client, node) DO UPDATE SET at_ms = excluded.at_ms, report = excluded.report";
    session.bulk("INSERT INTO client_reports (client, node, at_ms, report)", rows, tail).await?;
    let sql = "DELETE FROM client_reports WHERE node NOT IN (SELECT node FROM client_reports GROUP BY node \
               ORDER BY MAX(at_ms) DESC, node LIMIT $1)";
    session.execute(sql, args![NODES_MAX]).await?;
    Ok(session.commit().await?)
}

fn is_radius_client(rules: &Settings, name: &str) -> bool {
    rules.client(name).is_some_and(|client| client.protocol == ClientProtocol::Radius)
}

/// As what it taught is kept under.
fn server_name(target: &str, place: &str) -> String {
    format!("target.{target}.{place}")
}

fn server_names(settings: &Settings) -> BTreeSet<String> {
    let of = |target: &Target| {
        let servers = target.servers.iter().map(|server| server_name(target.name.as_str(), &server.place()));
        servers.collect::<Vec<_>>()
    };
    settings.targets.iter().flat_map(of).collect()
}

/// A place has a colon, and no name of a client has one.
fn is_server(name: &str) -> bool {
    name.contains(':')
}

fn clean(report: ClientReport, now_ms: i64) -> ClientReport {
    let mut protocols: Vec<String> = report.protocols;
    protocols.retain(|word| PROTOCOLS.contains(&word.as_str()));
    protocols.sort();
    protocols.dedup();
    let dropped = report.dropped.into_iter().map(|(code, count)| (bounded(&code, 32), count));
    ClientReport {
        // A clock that runs ahead must not keep a client from ever being missed.
        last_seen_unix_ms: report.last_seen_unix_ms.clamp(0, now_ms),
        protocols,
        dropped: dropped.take(WORDS_MAX).collect(),
        ..report
    }
}

/// What is known of each client, by its name.
#[derive(Default)]
pub struct Known {
    /// The newest first.
    pub reports: Vec<NodeReport>,
    pub last_seen_ms: Option<i64>,
    pub learned: Option<bool>,
    pub previous_until_ms: Option<i64>,
    /// Of a home server, the newest first.
    pub home_server: Vec<HomeServerSeen>,
}

/// Everything that is kept of clients beside their settings.
pub async fn known(session: &mut Session, now_ms: i64) -> Result<HashMap<String, Known>, StoreError> {
    let mut known: HashMap<String, Known> = HashMap::new();
    let sql = "SELECT client, node, at_ms, report FROM client_reports ORDER BY at_ms DESC, node";
    for row in session.rows(sql, args![]).await? {
        let (name, node, at_unix_ms) = (row.get::<String>("client")?, row.get("node")?, row.get("at_ms")?);
        let report = row.get::<Vec<u8>>("report")?;
        if is_server(&name) {
            let HomeServerReport { state, accounting_state, .. } = HomeServerReport::decode(report.as_slice())
                .map_err(|_| StoreError::Broken("a home server's report"))?;
            let seen = HomeServerSeen { node, at_unix_ms, state, accounting_state };
            known.entry(name).or_default().home_server.push(seen);
            continue;
        }
        let report = ClientReport::decode(report.as_slice()).map_err(|_| StoreError::Broken("a client's report"))?;
        known.entry(name).or_default().reports.push(NodeReport { node, at_unix_ms, report: Some(report) });
    }
    for row in session.rows("SELECT client, last_seen_ms FROM client_seen", args![]).await? {
        known.entry(row.get("client")?).or_default().last_seen_ms = Some(row.get("last_seen_ms")?);
    }
    for row in session.rows("SELECT client, sends FROM learned", args![]).await? {
        known.entry(row.get("client")?).or_default().learned = Some(row.get("sends")?);
    }
    let sql = "SELECT client, until_ms FROM previous_secrets WHERE until_ms > $1";
    for row in session.rows(sql, args![now_ms]).await? {
        known.entry(row.get("client")?).or_default().previous_until_ms = Some(row.get("until_ms")?);
    }
    Ok(known)
}

/// What is known of a client goes with it: another one of the name is another device.
pub async fn forget_removed(session: &mut Session, next: &Settings) -> Result<(), StoreError> {
    let servers = server_names(next);
    for row in session.rows("SELECT client FROM client_reports UNION SELECT client FROM client_seen", args![]).await? {
        let client: String = row.get("client")?;
        if !is_radius_client(next, &client) && !servers.contains(&client) {
            session.execute("DELETE FROM client_reports WHERE client = $1", args![&client]).await?;
            session.execute("DELETE FROM client_seen WHERE client = $1", args![&client]).await?;
        }
    }
    Ok(())
}

/// One client or all, as an administrator reads them.
pub async fn list(store: &Store, request: ListClientsRequest) -> Result<ListClientsReply, StoreError> {
    let now_ms = store.clock().now_ms();
    let mut session = store.database().read().await?;
    let current = settings::current(&mut session).await?.settings;
    let mut known = known(&mut session, now_ms).await?;
    let wanted = |name: &str| request.name.is_empty() || request.name == name;
    let mut clients = Vec::new();
    for client in current.clients.iter().filter(|client| wanted(client.name.as_str())) {
        let known = known.remove(client.name.as_str()).unwrap_or_default();
        let mut detail = detail(&current, client, known, now_ms);
        detail.warnings.extend(settings::service_accounts::warnings(&mut session, &current, client).await?);
        clients.push(detail);
    }
    if clients.is_empty() && !request.name.is_empty() {
        return Err(Status::not_found("no client has this name").into());
    }
    let servers = current.targets.iter().flat_map(|target| target.servers.iter().map(move |server| (target, server)));
    let servers = servers.filter(|_| request.name.is_empty());
    let home_servers = servers.map(|(target, server)| home_server(target, server, &mut known, now_ms)).collect();
    Ok(ListClientsReply { clients, home_servers })
}

/// Once a minute: how many warnings there are of each client, for charts and alerts.
pub async fn watch(store: Store) {
    const EVERY: Duration = Duration::from_secs(60);
    let mut counted = BTreeMap::new();
    loop {
        match list(&store, ListClientsRequest::default()).await {
            Ok(reply) => {
                counted = counts(&counted, &reply);
                counted.iter().for_each(|(client, warnings)| store.metrics().client_warnings(client, *warnings));
            }
            Err(error) => tracing::warn!(error = %chain(&error), "the warnings of clients could not be counted"),
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Who is gone is told of with none, once.
fn counts(before: &BTreeMap<String, u64>, reply: &ListClientsReply) -> BTreeMap<String, u64> {
    let gone = before.iter().filter(|(_, warnings)| **warnings > 0).map(|(client, _)| (client.clone(), 0));
    let clients = reply.clients.iter().map(|client| (client.name.clone(), client.warnings.len() as u64));
    gone.chain(clients).collect()
}

fn home_server(
    target: &Target,
    server: &HomeServer,
    known: &mut HashMap<String, Known>,
    now_ms: i64,
) -> HomeServerDetail {
    let auto = server.message_authenticator == MessageAuthenticator::Auto;
    let known = known.remove(&server_name(target.name.as_str(), &server.place())).unwrap_or_default();
    let learned = known.learned.filter(|_| auto);
    let recent = |seen: &HomeServerSeen| now_ms.saturating_sub(seen.at_unix_ms) < SERVER_SEEN_MS;
    HomeServerDetail {
        target: target.name.to_string(),
        place: server.place(),
        learned_message_authenticator: word(learned).into(),
        warnings: super::warnings::of_home_server(server, learned),
        seen: known.home_server.into_iter().filter(recent).collect(),
    }
}

fn word(learned: Option<bool>) -> &'static str {
    match learned {
        Some(true) => "yes",
        Some(false) => "no",
        None => "",
    }
}

fn detail(settings: &Settings, client: &Client, known: Known, now_ms: i64) -> ClientDetail {
    let radius = client.protocol == ClientProtocol::Radius;
    let warnings = super::warnings::warnings(settings, client, &known, now_ms);
    let weaknesses = warnings.iter().filter(|it| it.weakens).map(|it| it.text.clone()).collect();
    let rule = match client.message_authenticator {
        _ if !radius => "",
        MessageAuthenticator::Yes => "yes",
        MessageAuthenticator::Auto => "auto",
        MessageAuthenticator::No => "no",
    };
    ClientDetail {
        name: client.name.to_string(),
        protocol: match client.protocol {
            ClientProtocol::Radius => "radius",
            ClientProtocol::Ldap => "ldap",
            ClientProtocol::Api => "api",
        }
        .into(),
        application: client.application().to_owned(),
        sources: client.sources.iter().map(ToString::to_string).collect(),
        target: client.target.to_string(),
        message_authenticator: rule.into(),
        learned_message_authenticator: word(known.learned).into(),
        previous_secret_until_unix_ms: known.previous_until_ms.unwrap_or(0),
        wait_seconds: client.wait_seconds,
        reports: known.reports,
        warnings: warnings.into_iter().map(|it| it.text).collect(),
        weaknesses,
        observe_until: client.observe_until.clone().unwrap_or_default(),
        last_seen_unix_ms: known.last_seen_ms.unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_counted_by_client_and_of_one_that_is_gone_once_more() {
        //
        let reply = |clients: &[(&str, usize)]| ListClientsReply {
            clients: clients
                .iter()
                .map(|(name, warnings)| ClientDetail {
                    name: (*name).to_owned(),
                    warnings: vec![String::new(); *warnings],
                    ..ClientDetail::default()
                })
                .collect(),
            ..ListClientsReply::default()
        };
        let of = |pairs: &[(&str, u64)]| -> BTreeMap<String, u64> {
            pairs.iter().map(|(name, warnings)| ((*name).to_owned(), *warnings)).collect()
        };
        let first = counts(&BTreeMap::new(), &reply(&[("vpn", 2), ("wifi", 0)]));
        assert_eq!(first, of(&[("vpn", 2), ("wifi", 0)]));
        let second = counts(&first, &reply(&[("wifi", 1)]));
        assert_eq!(second, of(&[("vpn", 0), ("wifi", 1)]));
        assert_eq!(counts(&second, &reply(&[("wifi", 1)])), of(&[("wifi", 1)]));
    }
}
