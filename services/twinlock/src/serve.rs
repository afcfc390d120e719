//! `twinlock serve`: the six parts in one process. Each is given the others as what they are, not as clients of them.

use crate::config::Config;
use ldap_gateway::Gateway;
use proto::{
    directory::{
        directories_server::{Directories, DirectoriesServer},
        password_check_server::{PasswordCheck, PasswordCheckServer},
    },
    permissions::part,
    verification::enrolment_server::EnrolmentServer,
};
use radius_gateway::Nodes;
use service_kit::{
    Clock, Process, Sections,
    config::{BusUrl, Sources, load},
};
use std::{os::unix::fs::DirBuilderExt, sync::Arc};
use user_store::Store;

pub async fn run(sources: &Sources) -> anyhow::Result<()> {
    let config: Config = load(sources)?;
    let sections = Sections {
        log: &config.log,
        telemetry: &config.telemetry,
        tls: &config.tls,
        management: &config.management,
        shutdown: &config.shutdown,
    };
    let process = service_kit::start("twinlock", sections).await?;
    let served = compose(config, &process).await;
    if served.is_err() {
        // As by a second signal: where nobody came in, nobody is waited for.
        process.shutdown().begin();
        process.shutdown().begin();
    }
    process.finish().await;
    served
}

/// Ports are opened before the first answer is given, so that one that is taken stops the start.
async fn compose(config: Config, process: &Process) -> anyhow::Result<()> {
    let composed = process.health().condition("all parts");
    let clock = Clock::system();
    let bus = service_kit::bus::connect(&config.bus, process)?;
    let store = Store::open(&config.store, bus.clone(), clock.clone(), process.shutdown()).await?;
    let services = store.services();

    let verification = Arc::new(verification::Service::start(
        verification::Deps {
            settings: services.settings_for(part::VERIFICATION),
            facts: services.facts.clone(),
            commit: services.commit.clone(),
            outbox: services.outbox.clone(),
            bus: bus.clone(),
            clock: clock.clone(),
            randomness: getrandom::fill,
        },
        process,
    ));
    let ldap = ldap_gateway::Deps {
        verification: verification.clone(),
        settings: services.settings_for(part::LDAP_GATEWAY),
        fail_open: services.fail_open.clone(),
        password_tries: services.password_tries.clone(),
        standing: services.standing.clone(),
        bus: bus.clone(),
        clock: clock.clone(),
    };
    let gateway = Gateway::start(&config.ldap, ldap, process).await?;
    let (password_check, directories) = (gateway.password_check(), gateway.directories());

    let nodes = if config.bus.url == BusUrl::InProcess { Nodes::One } else { Nodes::Many };
    let radius = radius_gateway::Deps {
        verification: verification.clone(),
        settings: services.settings_for(part::RADIUS_GATEWAY),
        fail_open: services.fail_open.clone(),
        password_tries: services.password_tries.clone(),
        store: services.radius.clone(),
        bus: bus.clone(),
        nodes,
        clock: clock.clone(),
    };
    radius_gateway::start(config.radius, radius, process).await?;

    let portal = portal::Deps {
        portal_data: services.portal_data.clone(),
        admin: services.admin.clone(),
        verification: verification.clone(),
        enrolment: verification.clone(),
        phone: verification.clone(),
        callback: verification.clone(),
        password_check: password_check.clone() as Arc<dyn PasswordCheck>,
        directories: directories.clone() as Arc<dyn Directories>,
        settings: services.settings_for(part::PORTAL),
        bus: bus.clone(),
        clock: clock.clone(),
        randomness: getrandom::fill,
    };
    portal::Portal::start(config.portal, portal, process).await?;

    let sync = directory_sync::Deps {
        host: directory_sync::host(),
        sync: services.sync.clone(),
        settings: services.settings_for(part::DIRECTORY_SYNC),
        bus: bus.clone(),
        clock: clock.clone(),
    };
    directory_sync::start(sync, process);

    if let Some(folder) = config.admin.socket.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
    }
    services
        .server()
        .add(EnrolmentServer::from_arc(verification.clone()))
        .add(PasswordCheckServer::from_arc(password_check))
        .add(DirectoriesServer::from_arc(directories))
        .serve_unix(&config.admin.socket, process)
        .await?;

    // Ready only now that the last part has said what it waits for.
    composed.set_ready(true);
    process.shutdown().finished().await;
    store.close().await;
    Ok(())
}
