//! Who checks passwords: targets with the state of each of their servers (R-81, R-12, FA-05), and directories.

use super::door::Administrator;
use super::pages::{self, CheckerShown, DirectoryChecks, Frame, ServerSeen, ServerShown, TargetsPage, show, time};
use super::{clients, directories};
use crate::api::{KnownClients, known_clients};
use crate::app::App;
use crate::told;
use axum::extract::State;
use axum::response::Response;
use domain::ObjectName;
use domain::settings::{HomeServer, MessageAuthenticator, Settings, Target, TargetKind, Transport};
use http::{Method, StatusCode};
use proto::user_store::HomeServerDetail;
use std::sync::Arc;

pub(super) const LIST: &str = "/console/targets";

pub(super) async fn list(State(app): State<Arc<App>>, by: Administrator) -> Response {
    let KnownClients { snapshot, home_servers, .. } = match known_clients(&app, "").await {
        Ok(known) => known,
        Err(problem) => return pages::refused(&app, Some(&by), &problem),
    };
    let settings = &snapshot.settings;
    let may_try = by.may(&Method::GET, "/console/directories/{name}/edit");
    let directories = settings.directories.iter().map(|directory| DirectoryChecks {
        name: directory.name.to_string(),
        servers: directory.urls.clone(),
        clients: asked_by(settings, &directory.name),
        address: may_try.then(|| directories::edit_address(directory.name.as_str())),
    });
    let page = TargetsPage {
        frame: Frame::of(&app, &by, "Targets"),
        targets: settings.targets.iter().map(|target| checker(settings, target, &home_servers)).collect(),
        directories: directories.collect(),
    };
    show(StatusCode::OK, &page)
}

/// Clients by name, each with the address of its page.
fn asked_by(settings: &Settings, target: &ObjectName) -> Vec<(String, String)> {
    let of = settings.clients.iter().filter(|client| client.target == *target);
    of.map(|client| (client.name.to_string(), clients::address(client.name.as_str()))).collect()
}

fn checker(settings: &Settings, target: &Target, known: &[HomeServerDetail]) -> CheckerShown {
    let detail = |server: &HomeServer| {
        let of = |it: &&HomeServerDetail| it.target == target.name.as_str() && it.place == server.place();
        known.iter().find(of).cloned().unwrap_or_default()
    };
    CheckerShown {
        name: target.name.to_string(),
        kind: match target.kind {
            TargetKind::Radius => "RADIUS servers",
            TargetKind::WindowsDomain => "Windows domain",
        },
        directory: target.directory.to_string(),
        domain: target.domain.clone(),
        is_radius: target.kind == TargetKind::Radius,
        clients: asked_by(settings, &target.name),
        servers: target.servers.iter().map(|server| shown(server, detail(server))).collect(),
    }
}

fn shown(server: &HomeServer, known: HomeServerDetail) -> ServerShown {
    let seen = known.seen.iter().map(|seen| ServerSeen {
        good: seen.state == "alive" && seen.accounting_state == "alive",
        text: told::of_home_server(seen),
        node: seen.node.clone(),
        at: time(seen.at_unix_ms),
    });
    ServerShown {
        place: server.place(),
        transport: match server.transport {
            Transport::Udp => "UDP",
            Transport::Tls => "TLS",
        },
        seen: seen.collect(),
        signature: match (server.transport, server.message_authenticator, known.learned_message_authenticator.as_str())
        {
            (Transport::Tls, ..) => "not needed over TLS",
            (_, MessageAuthenticator::Yes, _) => "demanded",
            (_, MessageAuthenticator::No, _) => "not demanded",
            (_, MessageAuthenticator::Auto, "yes") => "demanded since it has sent one (auto)",
            (_, MessageAuthenticator::Auto, "no") => "not demanded: it answered without one (auto)",
            (_, MessageAuthenticator::Auto, _) => "auto, and nothing is learnt yet",
        },
        warnings: known.warnings,
    }
}
