//! The process as the other parts meet it: mutual TLS, the table of who may call what, and its own configuration.

use lab::Pki;
use proto::permissions::part;
use proto::user_store::{
    ExportSettingsRequest, FetchRequest, LoginFactsRequest, admin_client::AdminClient, facts_client::FactsClient,
    login_facts_request::Who, settings_client::SettingsClient,
};
use service_kit::config::{GrpcSection, Sources, load};
use service_kit::grpc::{Channel, Endpoints};
use service_kit::{Process, config::ConfigError};
use std::path::Path;
use std::time::Duration;
use tonic::Code;
use user_store::Config;

const LIMIT: Duration = Duration::from_secs(20);

fn configuration(folder: &Path, store: &str) -> Result<Config, ConfigError> {
    let (tls, port) = (folder.display(), lab::free_port());
    let text = format!(
        "[grpc]\nlisten = \"127.0.0.1:{port}\"\ncertificate_file = \"{tls}/user-store.pem\"\nkey_file = \"{tls}/user-store.key\"\n\
         ca_file = \"{tls}/ca.pem\"\n[store]\n{store}"
    );
    let file = folder.join("user-store.toml");
    std::fs::write(&file, text).expect("written");
    load(&Sources { file: Some(file), ..Sources::default() })
}

fn certificates(folder: &Path) {
    let pki = Pki::new(folder).expect("a CA");
    for part in part::ALL {
        pki.issue(part, &[&format!("{part}.twinlock.internal")]).expect("a certificate");
    }
}

fn channel(folder: &Path, part: &str, config: &Config) -> Channel {
    let path = |kind: &str| folder.join(format!("{part}.{kind}")).display().to_string();
    let section = GrpcSection {
        listen: config.grpc.listen,
        certificate_file: path("pem").try_into().expect("a certificate"),
        key_file: path("key").try_into().expect("a key"),
        ca_file: config.grpc.ca_file.clone(),
    };
    let endpoints = Endpoints::try_from(format!("https://{}", config.grpc.listen)).expect("an address");
    Channel::new(part::USER_STORE, &endpoints, &section).expect("a channel")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_part_calls_what_the_table_lists_and_sees_what_it_needs() {
    // V-72, B-90: over mutual TLS
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    certificates(folder);
    let store = format!("url = \"sqlite:{0}/store.db\"\nmaster_key_file = \"{0}/master.key\"\n", folder.display());
    let config = configuration(folder, &store).expect("a good configuration");
    let process = Process::detached("user-store");
    let (running, its_process) = (config.clone(), process.clone());
    let run = tokio::spawn(async move { user_store::run(running, &its_process).await });

    let gateway = channel(folder, part::RADIUS_GATEWAY, &config);
    let fetched = tokio::time::timeout(LIMIT, async {
        loop {
            match SettingsClient::new(gateway.clone()).fetch(FetchRequest::default()).await {
                Ok(reply) => return reply.into_inner(),
                Err(status) if status.code() == Code::Unavailable => {
                    tokio::time::sleep(Duration::from_millis(20)).await
                }
                Err(status) => panic!("{status}"),
            }
        }
    });
    assert_eq!(fetched.await.expect("it serves").revision, 1);

    let facts = LoginFactsRequest { who: Some(Who::UserId("nobody".into())), ..Default::default() };
    let refused = FactsClient::new(gateway.clone()).login(facts.clone()).await.expect_err("no seeds for a gateway");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let refused =
        AdminClient::new(gateway).export_settings(ExportSettingsRequest {}).await.expect_err("no administrator");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let verification = channel(folder, part::VERIFICATION, &config);
    let known = FactsClient::new(verification).login(facts).await.expect("its own call").into_inner();
    assert!(known.user.is_none(), "proven to be absent");

    process.shutdown().begin();
    process.finish().await;
    tokio::time::timeout(LIMIT, run).await.expect("it ends").expect("without a panic").expect("in order");
}

#[test]
fn a_store_that_cannot_be_configured_says_key_found_and_allowed() {
    let folder = tempfile::tempdir().expect("a folder");
    certificates(folder.path());
    for (store, expected) in [
        ("url = \"mysql://x\"\n", "store.url"),
        ("url = \"postgres://twinlock:geheim@db/twinlock\"\n", "store.password_file"),
        ("url = \"postgres://twinlock@db/twinlock?password=geheim\"\n", "store.password_file"),
        ("url = \"sqlite:\"\n", "sqlite:/path/to/file"),
        ("path = \"/x\"\n", "path"),
        ("password_file = \"/nowhere/password\"\n", "/nowhere/password"),
    ] {
        let error = configuration(folder.path(), store).expect_err(store);
        let text = error.to_string();
        assert!(text.contains("user-store.toml:") && text.contains(expected), "{text}");
        assert!(!text.contains("geheim"), "a secret is not repeated: {text}");
    }
}
