//! `twinlock doctor`: what a running Twinlock still lacks, and what somebody has to look at. Changes nothing and logs in nobody.
//!
//! ```text
//! this process     /readyz, /healthz/upstreams, certificates of /metrics
//! the settings     their errors and warnings
//! the directories  one question to every server
//! the clients      what weakens them, what the nodes see of their devices, and of home servers
//! ```
//!
//! What cannot be asked is a finding, too: nobody knows then what it would have told.

use super::health::{self, Page};
use crate::{
    connect::Connection,
    failure::Failure,
    output::{Output, line},
};
use domain::settings::{Channel, Settings, Severity};
use proto::{
    directory::ProbeRequest,
    user_store::{ExportSettingsRequest, ListClientsReply, ListClientsRequest},
};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// A certificate that ends within this many days is somebody's work today.
const CERTIFICATE_DAYS: i64 = 30;
const DAY_SECONDS: i64 = 86_400;

/// Something a person must act on.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    /// Stays the same, for scripts.
    code: &'static str,
    severity: Severity,
    /// What it is about, as the settings or the page of health name it.
    about: String,
    text: String,
}

impl Finding {
    fn error(code: &'static str, about: impl Into<String>, text: impl Into<String>) -> Self {
        Self { code, severity: Severity::Error, about: about.into(), text: text.into() }
    }

    fn warning(code: &'static str, about: impl Into<String>, text: impl Into<String>) -> Self {
        Self { code, severity: Severity::Warning, about: about.into(), text: text.into() }
    }

    fn severity(&self) -> &'static str {
        match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// `management`: the page of the process that runs here; none where the command line reaches a distributed product, whose parts have
/// one each. Nothing found: exit 0, else 1.
pub async fn run(
    management: Option<SocketAddr>,
    open: impl FnOnce() -> Result<Connection, Failure>,
    output: Output,
) -> Result<(), Failure> {
    told(look(management, open).await, output)
}

/// Whatever cannot be asked is a finding of its own, and what can be asked is told all the same.
async fn look(management: Option<SocketAddr>, open: impl FnOnce() -> Result<Connection, Failure>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(listen) = management {
        findings.extend(of_process(listen).await);
    }
    match open() {
        Ok(mut connection) => findings.extend(of_product(&mut connection).await),
        Err(failure) => findings.push(Finding::error("product_silent", "connection", failure.to_string())),
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

fn told(findings: Vec<Finding>, output: Output) -> Result<(), Failure> {
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    let (found, warnings) = (findings.len(), findings.len() - errors);
    match output.is_json() {
        true => output.list(&[], findings.iter().map(record).collect(), None),
        // Sentences are too long for columns.
        false => findings.iter().for_each(|finding| {
            line(&format!("{}: {}: {} [{}]", finding.severity(), finding.about, finding.text, finding.code));
        }),
    }
    if found > 0 {
        return Err(Failure::no(format!("{errors} errors, {warnings} warnings")));
    }
    if !output.is_json() {
        line("nothing was found that needs somebody");
    }
    Ok(())
}

fn record(finding: &Finding) -> Value {
    json!({ "code": finding.code, "severity": finding.severity(), "about": finding.about, "text": finding.text })
}

/// What the process says of itself.
async fn of_process(listen: SocketAddr) -> Vec<Finding> {
    let ready = match health::page(listen, "/readyz?verbose").await {
        Ok(page) => page,
        Err(failure) => return vec![Finding::error("process_silent", "management", failure.to_string())],
    };
    let mut findings = Vec::new();
    if !ready.good {
        findings.push(Finding::error("process_not_ready", "readyz", ready.body.trim()));
    }
    match read(listen, "/healthz/upstreams").await {
        Ok(page) => findings.extend(upstreams(&page)),
        Err(finding) => findings.push(finding),
    }
    match read(listen, "/metrics").await {
        Ok(page) => findings.extend(certificates(&page, super::now_unix_ms() / 1000)),
        Err(finding) => findings.push(finding),
    }
    findings
}

async fn read(listen: SocketAddr, path: &str) -> Result<String, Finding> {
    match health::page(listen, path).await {
        Ok(Page { good: true, body }) => Ok(body),
        Ok(Page { good: false, .. }) => Err(unread(path)),
        Err(failure) => Err(Finding::error("process_silent", "management", failure.to_string())),
    }
}

fn unread(path: &str) -> Finding {
    let text = "cannot be read, so that nobody knows what it would tell: is something else listening there, or another version?";
    Finding::error("page_unread", path, text)
}

/// What the running product knows: its settings, and what it has seen.
async fn of_product(connection: &mut Connection) -> Vec<Finding> {
    let mut findings = Vec::new();
    match exported(connection).await {
        Ok(settings) => {
            findings.extend(of_settings(&settings));
            findings.extend(of_directories(connection, &settings).await);
        }
        Err(failure) => findings.push(Finding::error("settings_unread", "settings", failure.to_string())),
    }
    match of_clients(connection).await {
        Ok(of_clients) => findings.extend(of_clients),
        Err(failure) => findings.push(Finding::error("clients_unread", "clients", failure.to_string())),
    }
    findings
}

async fn exported(connection: &mut Connection) -> Result<Settings, Failure> {
    let export = connection.admin.export_settings(ExportSettingsRequest {}).await?.into_inner();
    toml::from_str(&export.document).map_err(|error| Failure::no(format!("the settings cannot be read: {error}")))
}

/// Of `/healthz/upstreams`: directories, targets, providers, the store, the bus, the clock. What nobody has asked yet has no error.
fn upstreams(page: &str) -> Vec<Finding> {
    let Ok(lines) = serde_json::from_str::<Vec<Value>>(page) else { return vec![unread("/healthz/upstreams")] };
    let down = lines.iter().filter(|upstream| upstream["state"] != "up" && upstream["last_error"].is_string());
    down.map(|upstream| {
        let text = |key: &str| upstream[key].as_str().unwrap_or_default().to_owned();
        let (about, error) = (format!("{} {}", text("kind"), text("name")), text("last_error"));
        let seconds = upstream["for_seconds"].as_u64().unwrap_or_default();
        Finding::error("upstream_down", about, format!("down for {seconds} s: {error}"))
    })
    .collect()
}

/// Of the gauge of certificates, which has the one that is shown, not the one that lies in the file.
fn certificates(metrics: &str, now_unix_seconds: i64) -> Vec<Finding> {
    let gauge = metrics.lines().filter_map(|line| line.strip_prefix("twinlock_certificate_expiry_timestamp_seconds{"));
    let ends = gauge.filter_map(|line| {
        let (labels, value) = line.rsplit_once(' ')?;
        let (_, name) = labels.split_once("certificate=\"")?;
        Some((name.split('"').next()?, value.parse::<f64>().ok()? as i64))
    });
    let left = ends.map(|(name, end)| (name, end - now_unix_seconds));
    left.filter_map(|(name, left)| match left {
        ..=0 => {
            Some(Finding::error("certificate_expired", name, "has expired: whoever looks at it does not speak with us"))
        }
        _ if left < CERTIFICATE_DAYS * DAY_SECONDS => {
            let text = format!("expires in {} days: put a new one in its place", left / DAY_SECONDS);
            Some(Finding::warning("certificate_expires", name, text))
        }
        _ => None,
    })
    .collect()
}

fn of_settings(settings: &Settings) -> Vec<Finding> {
    let problems = user_store::problems(settings).into_iter().map(|problem| match problem.severity {
        Severity::Error => Finding::error("settings", problem.key, problem.text),
        Severity::Warning => Finding::warning("settings", problem.key, problem.text),
    });
    let mut findings: Vec<_> = problems.collect();
    let said = |findings: &[Finding]| findings.iter().any(|finding| finding.about == "mail");
    if !settings.carries(Channel::Mail) && !said(&findings) {
        let text = "no mail goes out, so that nobody hears of what happens to their account: add a [[provider]] with channel = \"mail\"";
        findings.push(Finding::warning("no_mail", "mail", text));
    }
    findings
}

async fn of_directories(connection: &mut Connection, settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    for directory in &settings.directories {
        let request = ProbeRequest { directory: directory.name.to_string() };
        match connection.directory.probe(request).await {
            Ok(reply) => {
                let unusable = reply.into_inner().servers.into_iter().filter(|server| !server.ok);
                findings.extend(unusable.map(|server| {
                    Finding::error(
                        "directory_unusable",
                        format!("directory {} {}", directory.name, server.url),
                        server.text,
                    )
                }));
            }
            Err(status) => {
                let about = format!("directory {}", directory.name);
                findings.push(Finding::error("directory_unasked", about, Failure::from(status).to_string()));
            }
        }
    }
    findings
}

/// Of each client what lets people in on the password alone or leaves it open to forgers, and what the nodes see of its devices (R-10, R-37);
/// of each home server whether its answers can be forged (R-12).
async fn of_clients(connection: &mut Connection) -> Result<Vec<Finding>, Failure> {
    Ok(seen(connection.admin.list_clients(ListClientsRequest::default()).await?.into_inner()))
}

fn seen(reply: ListClientsReply) -> Vec<Finding> {
    let of = |code: &'static str, about: String, warnings: Vec<String>| {
        warnings.into_iter().map(move |text| Finding::warning(code, about.clone(), text))
    };
    let clients = reply.clients.into_iter();
    let clients = clients.flat_map(|client| of("client", format!("client {}", client.name), client.warnings));
    let servers = reply.home_servers.into_iter();
    let servers = servers.flat_map(|it| of("home_server", format!("target {} {}", it.target, it.place), it.warnings));
    clients.chain(servers).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{failure::Exit, output::Format};
    use proto::directory::{directories_client::DirectoriesClient, password_check_client::PasswordCheckClient};
    use proto::user_store::{ClientDetail, HomeServerDetail};
    use proto::{user_store::admin_client::AdminClient, verification::enrolment_client::EnrolmentClient};

    #[test]
    fn a_certificate_is_told_of_when_it_ends_soon_or_has_ended() {
        const NOW: i64 = 1_790_000_000;
        let page = |left: i64| {
            format!(
                "# TYPE twinlock_certificate_expiry_timestamp_seconds gauge\n\
                 twinlock_certificate_expiry_timestamp_seconds{{certificate=\"portal\",otel_scope_name=\"twinlock\"}} {}\n",
                NOW + left
            )
        };
        let found = |left| certificates(&page(left), NOW).into_iter().map(|it| (it.code, it.about)).next();
        assert_eq!(found(-1), Some(("certificate_expired", "portal".to_owned())));
        assert_eq!(found(29 * DAY_SECONDS), Some(("certificate_expires", "portal".to_owned())));
        assert_eq!(found(31 * DAY_SECONDS), None);
    }

    #[tokio::test]
    async fn what_cannot_be_asked_is_told_of_and_the_rest_too() {
        let nobody = std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|it| it.local_addr()).expect("a port");
        let found = look(Some(nobody), || Err(Failure::new(Exit::Unreachable, "no Twinlock runs here"))).await;
        let codes: Vec<_> = found.iter().map(|finding| (finding.code, finding.about.as_str())).collect();
        assert_eq!(codes, [("process_silent", "management"), ("product_silent", "connection")]);
        assert_eq!(found[1].text, "no Twinlock runs here");

        // A product that is not there answers no call: each is told of.
        let socket = std::path::Path::new("/nonexistent/twinlock.sock");
        let silent = service_kit::grpc::Channel::unix(socket);
        let connection = Connection {
            admin: AdminClient::new(silent.clone()),
            enrolment: EnrolmentClient::new(silent.clone()),
            directory: PasswordCheckClient::new(silent.clone()),
            directories: DirectoriesClient::new(silent),
            actor: "cli:test".into(),
        };
        let codes: Vec<_> = look(None, || Ok(connection)).await.into_iter().map(|finding| finding.code).collect();
        assert_eq!(codes, ["settings_unread", "clients_unread"]);
    }

    #[test]
    fn what_the_nodes_saw_of_clients_and_home_servers_is_told_of() {
        // R-10, R-12
        let client = ClientDetail { name: "vpn".into(), warnings: vec!["one".into()], ..ClientDetail::default() };
        let warnings = vec!["two".into()];
        let server =
            HomeServerDetail { target: "nps".into(), place: "10.0.0.5:1812".into(), warnings, ..Default::default() };
        let quiet = HomeServerDetail { target: "nps".into(), place: "10.0.0.6:1812".into(), ..Default::default() };
        assert_eq!(
            seen(ListClientsReply { clients: vec![client], home_servers: vec![server, quiet] }),
            [
                Finding::warning("client", "client vpn", "one"),
                Finding::warning("home_server", "target nps 10.0.0.5:1812", "two"),
            ]
        );
    }

    #[test]
    fn whoever_finds_nothing_says_yes_and_anything_is_a_no() {
        let output = Output::new(Some(Format::Json));
        assert!(told(Vec::new(), output).is_ok());
        let failure = told(vec![Finding::warning("no_mail", "mail", "no mail goes out")], output).expect_err("found");
        assert_eq!((failure.exit, failure.to_string()), (Exit::No, "0 errors, 1 warnings".to_owned()));
    }

    #[test]
    fn a_page_that_is_none_is_told_of() {
        for page in ["", "<html>", "{}", "[1, "] {
            assert_eq!(upstreams(page), [unread("/healthz/upstreams")], "{page:?}");
        }
        assert_eq!(upstreams("[]"), []);
    }

    #[test]
    fn only_what_is_down_is_told_of() {
        let page = r#"[{"kind":"directory","name":"acme","state":"up","for_seconds":9,"last_error":null},
            {"kind":"verification","name":"verification","state":"down","for_seconds":1,"last_error":null},
            {"kind":"target","name":"home","state":"down","for_seconds":17,"last_error":"no answer"}]"#;
        let found = upstreams(page);
        assert_eq!(found, [Finding::error("upstream_down", "target home", "down for 17 s: no answer")]);
    }
}
