//! Clients: which there are, whether each was seen, what it lets through and what should be changed, its settings as they are (R-10,
//! R-37, FA-05). They are only looked at here: what the store and the gateways say of them is the command line's and the API's too.

use super::door::Administrator;
use super::pages::{self, ClientPage, ClientRow, ClientsPage, Fact, Frame, NodeShown, escaped, show, time};
use crate::api::{KnownClients, Problem, known_clients};
use crate::app::App;
use crate::told;
use axum::extract::{Path, State};
use axum::response::Response;
use domain::settings::{Client, ClientProtocol, MessageAuthenticator, RefuseOrPass, Remember, SecretSource, Transport};
use http::{Method, StatusCode};
use proto::user_store::{ClientDetail, NodeReport};
use std::sync::Arc;

pub(super) const LIST: &str = "/console/clients";
const HOUR_MS: i64 = 3_600_000;

pub(super) async fn list(State(app): State<Arc<App>>, by: Administrator) -> Response {
    let KnownClients { snapshot, mut clients, .. } = match known_clients(&app, "").await {
        Ok(known) => known,
        Err(problem) => return pages::refused(&app, Some(&by), &problem),
    };
    let now_ms = app.now_ms();
    let row = |client: &Client| row(client, clients.remove(client.name.as_str()).unwrap_or_default(), now_ms);
    let clients = snapshot.settings.clients.iter().map(row).collect();
    show(StatusCode::OK, &ClientsPage { frame: Frame::of(&app, &by, "Clients"), clients })
}

fn row(client: &Client, known: ClientDetail, now_ms: i64) -> ClientRow {
    ClientRow {
        name: client.name.to_string(),
        address: address(client.name.as_str()),
        application: client.application.clone().unwrap_or_default(),
        protocol: protocol(client),
        sources: client.sources.iter().map(ToString::to_string).collect(),
        target: client.target.to_string(),
        seen: seen(client, known.last_seen_unix_ms, now_ms),
        observed: is_observed(client, now_ms),
        weaknesses: known.weaknesses.len(),
        warnings: known.warnings.len() - known.weaknesses.len().min(known.warnings.len()),
    }
}

/// Of its page.
pub(super) fn address(name: &str) -> String {
    format!("{LIST}/{}", escaped(name))
}

pub(super) fn protocol(client: &Client) -> &'static str {
    match (client.protocol, client.transport) {
        (ClientProtocol::Radius, Transport::Udp) => "RADIUS",
        (ClientProtocol::Radius, Transport::Tls) => "RADIUS over TLS",
        (ClientProtocol::Ldap, _) => "LDAP",
        (ClientProtocol::Api, _) => "API",
    }
}

fn seen(client: &Client, at_ms: i64, now_ms: i64) -> String {
    match now_ms.saturating_sub(at_ms) {
        _ if client.protocol != ClientProtocol::Radius => "not recorded".to_owned(),
        _ if at_ms <= 0 => "never".to_owned(),
        ago if ago < HOUR_MS => "in the last hour".to_owned(),
        _ => time(at_ms),
    }
}

/// Until when the second factor is only computed (FB-04), in words.
fn observed_until(client: &Client, now_ms: i64) -> Option<String> {
    let until = client.observe_until.as_deref()?;
    let at = time::OffsetDateTime::parse(until, &time::format_description::well_known::Rfc3339).ok()?;
    let at_ms = at.unix_timestamp().saturating_mul(1000);
    (at_ms > now_ms).then(|| time(at_ms))
}

fn is_observed(client: &Client, now_ms: i64) -> bool {
    observed_until(client, now_ms).is_some()
}

pub(super) async fn page(State(app): State<Arc<App>>, by: Administrator, Path(name): Path<String>) -> Response {
    let shown = async {
        let KnownClients { snapshot, mut clients, .. } = known_clients(&app, &name).await?;
        let settings = &snapshot.settings;
        let client = settings.client(&name).ok_or_else(|| Problem::not_found("there is no such client"))?;
        let known = clients.remove(&name).unwrap_or_default();
        let now_ms = app.now_ms();
        let is_directory = settings.directory(client.target.as_str()).is_some();
        let target = match is_directory {
            true => super::directories::edit_address(client.target.as_str()),
            false => super::targets::LIST.to_owned(),
        };
        // Who may not open the page is given no way to it.
        let opens = if is_directory { "/console/directories/{name}/edit" } else { super::targets::LIST };
        let ClientDetail { warnings, weaknesses, reports, .. } = known.clone();
        let page = ClientPage {
            frame: Frame::of(&app, &by, client.name.to_string()),
            protocol: protocol(client),
            application: client.application.clone().unwrap_or_default(),
            observed_until: observed_until(client, now_ms),
            warnings: warnings.into_iter().filter(|text| !weaknesses.contains(text)).collect(),
            weaknesses,
            target: client.target.to_string(),
            target_address: by.may(&Method::GET, opens).then_some(target),
            is_radius: client.protocol == ClientProtocol::Radius,
            seen: seen(client, known.last_seen_unix_ms, now_ms),
            signature: signature(client, &known.learned_message_authenticator),
            nodes: reports.into_iter().map(node).collect(),
            asks: asks(client, known.previous_secret_until_unix_ms),
            limits: limits(client),
            exceptions: exceptions(client, now_ms),
            every: every(client),
        };
        Ok(show(StatusCode::OK, &page))
    };
    shown.await.unwrap_or_else(|problem: Problem| pages::refused(&app, Some(&by), &problem))
}

fn node(told: NodeReport) -> NodeShown {
    let lines = told.report.as_ref().map(told::of_client).unwrap_or_default();
    NodeShown { node: told.node, at: time(told.at_unix_ms), lines }
}

/// whether it must sign, in words.
fn signature(client: &Client, learned: &str) -> String {
    match (client.transport, client.message_authenticator, learned) {
        (Transport::Tls, ..) => "not needed: its connection is protected by TLS".to_owned(),
        (_, MessageAuthenticator::Yes, _) => "demanded".to_owned(),
        (_, MessageAuthenticator::No, _) => "not demanded".to_owned(),
        (_, MessageAuthenticator::Auto, "yes") => "demanded since it has sent one (auto)".to_owned(),
        (_, MessageAuthenticator::Auto, "no") => "not demanded: it logged somebody in without one (auto)".to_owned(),
        (_, MessageAuthenticator::Auto, _) => "auto, and nothing is learnt yet".to_owned(),
    }
}

fn fact(name: &'static str, value: impl Into<String>) -> Fact {
    Fact { name, value: value.into() }
}

/// Words of the settings, one after the other.
fn words<T: serde::Serialize>(listed: &[T]) -> String {
    let word = |it: &T| match serde_json::to_value(it) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    };
    listed.iter().map(word).collect::<Vec<_>>().join(", ")
}

fn word<T: serde::Serialize>(it: T) -> String {
    words(&[it])
}

/// How it asks, and how people are asked.
fn asks(client: &Client, previous_until_ms: i64) -> Vec<Fact> {
    let radius = client.protocol == ClientProtocol::Radius;
    let or = |text: String, otherwise: &str| if text.is_empty() { otherwise.to_owned() } else { text };
    let mut facts =
        vec![fact("Asks from", words(&client.sources)), fact("Methods, in this order", words(&client.methods))];
    if radius && client.transport == Transport::Udp {
        let secret = match client.secret {
            Some(SecretSource::Keep | SecretSource::Generate | SecretSource::File(_)) => "there is one",
            None => "missing",
        };
        let also = format!("{secret}; the one before counts until {}", time(previous_until_ms));
        facts.push(fact("Shared secret", if previous_until_ms > 0 { also } else { secret.to_owned() }));
    }
    if !client.certificates.is_empty() {
        facts.push(fact("Certificates", words(&client.certificates)));
    }
    if radius {
        facts.push(fact("Can show a question", word(client.challenge)));
        let all = "all that its target can check";
        facts.push(fact("Password protocols", or(words(&client.password_protocols), all)));
    }
    if client.protocol != ClientProtocol::Api {
        facts.push(fact("Code after the password", word(client.appended)));
        facts.push(fact("Forms of names", or(words(&client.name_forms), "all that the directory knows")));
    } else {
        facts.push(fact("API keys", words(&client.api_keys)));
    }
    if client.protocol == ClientProtocol::Ldap {
        let names = client.service_accounts.iter().map(|account| account.name.as_str()).collect::<Vec<_>>();
        facts.push(fact("Service accounts", or(names.join("; "), "none")));
        facts.push(fact("Operations", word(client.operations)));
    }
    facts
}

fn limits(client: &Client) -> Vec<Fact> {
    let mut facts = vec![fact("A login may take", format!("{} s", client.wait_seconds))];
    if client.protocol == ClientProtocol::Radius {
        facts.push(fact("A question is open for", format!("{} s", client.challenge_seconds)));
        facts.push(fact("Wrong answers", format!("at most {}", client.answers_max)));
    }
    if client.protocol == ClientProtocol::Ldap {
        let limit = |of: u32, unit: &str| match of {
            0 => "as the directory says".to_owned(),
            some => format!("{some}{unit}"),
        };
        facts.push(fact("Entries of a search", limit(client.size_limit, "")));
        facts.push(fact("A search may take", limit(client.time_limit_seconds, " s")));
    }
    facts
}

/// Who gets in without a fresh second factor, or not at all.
fn exceptions(client: &Client, now_ms: i64) -> Vec<Fact> {
    let passes = |rule: RefuseOrPass, yes: &str| match rule {
        RefuseOrPass::Refuse => "refused".to_owned(),
        RefuseOrPass::Pass => yes.to_owned(),
    };
    let while_down = match (client.when_unavailable, client.when_unavailable_groups.is_empty()) {
        (RefuseOrPass::Pass, false) => "members of some groups are let in on the password".to_owned(),
        (rule, _) => passes(rule, "everybody is let in on the password"),
    };
    let none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
    let remembered = |remember: &Remember| {
        let Remember { kind, idle_seconds, life_seconds, .. } = remember;
        format!("{}: {idle_seconds} s without use, {life_seconds} s in all", word(*kind))
    };
    vec![
        fact("Unknown users", passes(client.unknown_user, "let in on the password")),
        fact("Users without a second factor", passes(client.not_enrolled, "let in on the password")),
        fact("While verification is down", while_down),
        fact("Trusted networks", none(words(&client.trusted_networks))),
        fact("Remembered logins", client.remember.as_ref().map_or_else(|| "none".to_owned(), remembered)),
        fact(
            "Only observed",
            observed_until(client, now_ms).map_or_else(|| "no".to_owned(), |until| format!("until {until}")),
        ),
        fact(
            "Only members of",
            if client.groups.is_empty() { "everybody may".to_owned() } else { client.groups.join("; ") },
        ),
    ]
}

/// Every key as the settings document has it. Its secrets are words there.
fn every(client: &Client) -> String {
    toml::to_string(client).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_795_193_102_000;

    fn client(keys: &str) -> Client {
        let needed = "name = \"vpn\"\ntarget = \"corp\"\nsources = [\"10.0.4.3/32\"]\n";
        toml::from_str(&format!("{needed}{keys}")).expect("a client")
    }

    #[test]
    fn when_a_client_was_seen_is_said_of_those_of_whom_it_is_known() {
        // FA-05
        let radius = client("protocol = \"radius\"\n");
        assert_eq!(seen(&radius, 0, NOW_MS), "never");
        assert_eq!(seen(&radius, NOW_MS - HOUR_MS + 1, NOW_MS), "in the last hour");
        assert_eq!(seen(&radius, NOW_MS - HOUR_MS, NOW_MS), "20 November 2026, 15:45 UTC");
        assert_eq!(seen(&client("protocol = \"ldap\"\n"), 0, NOW_MS), "not recorded");
    }

    #[test]
    fn what_became_of_auto_is_told_in_words() {
        //
        let signs = |rule: &str, learned: &str| {
            signature(&client(&format!("protocol = \"radius\"\nmessage_authenticator = \"{rule}\"\n")), learned)
        };
        assert_eq!(signs("yes", ""), "demanded");
        assert_eq!(signs("no", "yes"), "not demanded", "what was learnt before");
        assert_eq!(signs("auto", "yes"), "demanded since it has sent one (auto)");
        assert_eq!(signs("auto", "no"), "not demanded: it logged somebody in without one (auto)");
        assert_eq!(signs("auto", ""), "auto, and nothing is learnt yet");
    }

    #[test]
    fn observation_that_is_over_is_none() {
        // FB-04
        let observed = |until: &str| {
            observed_until(&client(&format!("protocol = \"ldap\"\nobserve_until = \"{until}\"\n")), NOW_MS)
        };
        assert_eq!(observed("2026-12-01T00:00:00Z").as_deref(), Some("1 December 2026, 00:00 UTC"));
        assert_eq!(observed("2026-11-01T00:00:00Z"), None);
    }
}
