//! What RADIUS gateways tell, and what administrators read and change of it (FR-04, FR-19, R-37, R-71, R-12, FB-04, V-72).

use crate::fixture::{Fixture, NOON_MS, SETTINGS};
use proto::common::Secret;
use proto::permissions::part;
use proto::user_store::{
    AccountingRecord, ApplySettingsReply, ApplySettingsRequest, ClientDetail, ClientReport, FetchReply, FetchRequest,
    HomeServerReport, LearnClientRequest, ListAccountingReply, ListAccountingRequest, ListClientsReply,
    ListClientsRequest, ObserveClientRequest, RecordAccountingRequest, ReportClientsRequest, RotateClientSecretReply,
    RotateClientSecretRequest, admin_server::Admin, radius_server::Radius, settings_server::Settings,
};
use tonic::{Code, Request, Status};

const DAY_MS: i64 = 24 * 3_600_000;
const VPN: &str = r#"
[[client]]
name = "vpn"
protocol = "radius"
sources = ["10.0.4.3/32"]
target = "corp"
secret = "file:vpn.secret"
"#;
const SECRET: (&str, &str) = ("client.vpn.secret", "the-first-secret-of-the-vpn");
const TARGET: &str = r#"
[[target]]
name = "home"
kind = "radius"
directory = "corp"
[[target.servers]]
address = "10.0.0.5"
secret = "file:home.secret"
"#;
const HOME: (&str, &str) = ("target.home.10.0.0.5:1812.secret", "the-secret-of-the-home-server");

async fn apply(lab: &Fixture, document: &str, secrets: &[(&str, &str)]) -> ApplySettingsReply {
    let secrets = secrets.iter().map(|(name, value)| ((*name).into(), Secret { value: (*value).into() })).collect();
    let actor = "admin:uid=0".into();
    let request = ApplySettingsRequest { document: document.into(), secrets, actor, ..Default::default() };
    lab.services.admin.apply_settings(Request::new(request)).await.expect("the store answers").into_inner()
}

async fn fetch(lab: &Fixture, part: &'static str) -> FetchReply {
    let request = Request::new(FetchRequest { known_revision: 0 });
    lab.services.settings_for(part).fetch(request).await.expect("fetched").into_inner()
}

async fn rotate(lab: &Fixture, overlap_days: u32) -> Result<RotateClientSecretReply, Status> {
    let actor = "admin:uid=0".into();
    let request = RotateClientSecretRequest { client: "vpn".into(), secret: None, actor, overlap_days };
    Ok(lab.services.admin.rotate_client_secret(Request::new(request)).await?.into_inner())
}

async fn with_vpn(lab: &Fixture) {
    assert_eq!(apply(lab, &(SETTINGS.to_owned() + VPN), &[SECRET]).await.errors, [""; 0]);
}

const PREVIOUS: &str = "client.vpn.previous_secret";

pub async fn a_former_secret_counts_until_its_end_and_for_the_radius_gateway_alone(lab: Fixture) {
    // FR-04, R-71, V-72
    with_vpn(&lab).await;
    assert!(!fetch(&lab, part::RADIUS_GATEWAY).await.secrets.contains_key(PREVIOUS));
    let rotated = rotate(&lab, 7).await.expect("rotated");
    assert_eq!(rotated.previous_until_unix_ms, NOON_MS + 7 * DAY_MS);
    let fetched = fetch(&lab, part::RADIUS_GATEWAY).await;
    assert_eq!(fetched.secrets[PREVIOUS].value, SECRET.1.as_bytes());
    assert_eq!(fetched.secrets[SECRET.0], rotated.secret.expect("shown once"));
    assert_eq!(fetched.previous_secret_until_unix_ms["vpn"], NOON_MS + 7 * DAY_MS);
    for other in [part::LDAP_GATEWAY, part::VERIFICATION, part::PORTAL, part::DIRECTORY_SYNC] {
        let fetched = fetch(&lab, other).await;
        assert!(fetched.previous_secret_until_unix_ms.is_empty(), "{other}");
        assert!(!fetched.secrets.keys().any(|name| name.starts_with("client.")), "{other}");
    }
    let detail = &lab.events("settings.secret").await[0].detail;
    assert_eq!(detail, "client.vpn.secret: a new secret; the one before counts until 2026-11-27T12:00:00Z");

    lab.clock.advance(7 * DAY_MS - 1);
    assert!(fetch(&lab, part::RADIUS_GATEWAY).await.secrets.contains_key(PREVIOUS), "to the last moment");
    lab.clock.advance(1);
    let ended = fetch(&lab, part::RADIUS_GATEWAY).await;
    assert!(!ended.secrets.contains_key(PREVIOUS) && ended.previous_secret_until_unix_ms.is_empty());
    assert_eq!(lab.number("SELECT COUNT(*) FROM previous_secrets").await, 1);
    lab.store.sweep().await.expect("swept");
    assert_eq!(lab.number("SELECT COUNT(*) FROM previous_secrets").await, 0, "and it is gone");
    lab.assert_chain_is_whole().await;
}

pub async fn only_the_last_former_secret_counts_and_an_apply_or_no_overlap_ends_it(lab: Fixture) {
    with_vpn(&lab).await;
    let second = rotate(&lab, 90).await.expect("rotated").secret.expect("shown once");
    let third = rotate(&lab, 1).await.expect("rotated").secret.expect("shown once");
    let fetched = fetch(&lab, part::RADIUS_GATEWAY).await;
    assert_eq!((&fetched.secrets[PREVIOUS], &fetched.secrets[SECRET.0]), (&second, &third));
    assert_eq!(fetched.previous_secret_until_unix_ms["vpn"], NOON_MS + DAY_MS);

    assert_eq!(rotate(&lab, 0).await.expect("rotated").previous_until_unix_ms, 0);
    assert!(!fetch(&lab, part::RADIUS_GATEWAY).await.secrets.contains_key(PREVIOUS), "void at once");

    rotate(&lab, 7).await.expect("rotated");
    let kept = SETTINGS.to_owned() + &VPN.replace("file:vpn.secret", "keep");
    apply(&lab, &(kept.clone() + "wait_seconds = 60\n"), &[]).await;
    assert!(fetch(&lab, part::RADIUS_GATEWAY).await.secrets.contains_key(PREVIOUS), "a document that brings none");
    apply(&lab, &kept, &[(SECRET.0, "another-secret-of-the-vpn")]).await;
    assert!(!fetch(&lab, part::RADIUS_GATEWAY).await.secrets.contains_key(PREVIOUS), "a document that brings one");

    rotate(&lab, 7).await.expect("rotated");
    apply(&lab, SETTINGS, &[]).await;
    with_vpn(&lab).await;
    assert!(!fetch(&lab, part::RADIUS_GATEWAY).await.secrets.contains_key(PREVIOUS), "gone with its client");

    assert_eq!(rotate(&lab, 91).await.expect_err("too long").code(), Code::InvalidArgument);
    let tls =
        VPN.replace("secret = \"file:vpn.secret\"", "transport = \"tls\"\ncertificates = [\"dns:vpn.example.com\"]");
    assert_eq!(apply(&lab, &(SETTINGS.to_owned() + &tls), &[]).await.errors, [""; 0]);
    assert_eq!(rotate(&lab, 7).await.expect_err("no secret").code(), Code::FailedPrecondition);
}

pub async fn a_former_secret_is_sealed_anew_with_the_others(lab: Fixture) {
    with_vpn(&lab).await;
    rotate(&lab, 90).await.expect("rotated");
    lab.clock.advance(3_600_000);
    let request = proto::user_store::RotateKeysRequest { actor: "admin:uid=0".into() };
    lab.services.admin.rotate_keys(Request::new(request)).await.expect("a new key");
    for step_ms in [30_000, 60_000] {
        lab.clock.advance(step_ms);
        lab.store.tend_keys().await.expect("tended");
    }
    assert_eq!(lab.number("SELECT COUNT(*) FROM data_keys").await, 1, "nothing is left of the old key");
    assert_eq!(fetch(&lab, part::RADIUS_GATEWAY).await.secrets[PREVIOUS].value, SECRET.1.as_bytes());
    assert!(!lab.dump().await.windows(SECRET.1.len()).any(|found| found == SECRET.1.as_bytes()), "never in the clear");
}

pub async fn a_home_servers_secret_is_the_gateways_and_goes_to_no_other_server(lab: Fixture) {
    // V-72, V-83: User-Passwords are hidden with it
    let document = SETTINGS.to_owned() + TARGET;
    assert_eq!(apply(&lab, &document, &[HOME]).await.errors, [""; 0]);
    let fetched = fetch(&lab, part::RADIUS_GATEWAY).await;
    assert_eq!(fetched.secrets[HOME.0].value, HOME.1.as_bytes());
    for other in [part::LDAP_GATEWAY, part::VERIFICATION, part::PORTAL, part::DIRECTORY_SYNC] {
        assert!(fetch(&lab, other).await.secrets.is_empty(), "{other}");
    }
    let kept = document.replace("file:home.secret", "keep");
    assert_eq!(apply(&lab, &kept, &[]).await.changes, [""; 0]);
    for (old, new, name) in [
        ("10.0.0.5", "10.0.0.6", "target.home.10.0.0.6:1812.secret"),
        ("address =", "authentication_port = 11812\naddress =", "target.home.10.0.0.5:11812.secret"),
        ("address =", "accounting_port = 11813\naddress =", HOME.0),
        ("name = \"home\"", "name = \"other\"", "target.other.10.0.0.5:1812.secret"),
    ] {
        let moved = kept.replace(old, new);
        let reply = apply(&lab, &moved, &[]).await;
        assert!(reply.errors.len() == 1 && reply.errors[0].starts_with(name), "{new}: {:?}", reply.errors);
    }
    // The name of one secret, and another server: dots stand in names of targets and of hosts.
    let dotted = document.replace("10.0.0.5", "b.c");
    assert_eq!(apply(&lab, &dotted, &[("target.home.b.c:1812.secret", HOME.1)]).await.errors, [""; 0]);
    let stolen = dotted.replace("name = \"home\"", "name = \"home.b\"").replace("\"b.c\"", "\"c\"");
    let reply = apply(&lab, &stolen.replace("file:home.secret", "keep"), &[]).await;
    assert!(
        reply.errors[0].starts_with("target.home.b.c:1812.secret: is \"keep\", but it would go"),
        "{:?}",
        reply.errors
    );

    let weak = apply(&lab, &document, &[(HOME.0, "1234567")]).await;
    assert!(weak.errors[0].contains("fewer than 8"), "{:?}", weak.errors);
    assert_eq!(apply(&lab, SETTINGS, &[]).await.changes, ["removed target.home"]);
    assert!(fetch(&lab, part::RADIUS_GATEWAY).await.secrets.is_empty());
}

pub async fn what_a_home_server_taught_is_kept_until_it_is_another(lab: Fixture) {
    // R-12, R-10
    let auto = SETTINGS.to_owned() + TARGET + "message_authenticator = \"auto\"\n";
    apply(&lab, &auto, &[HOME]).await;
    const NAME: &str = "target.home.10.0.0.5:1812";
    let learn = |client: &str, sends| {
        let request = LearnClientRequest { client: client.into(), sends_message_authenticator: sends };
        lab.services.settings.learn_client(Request::new(request))
    };
    let learned = async || fetch(&lab, part::RADIUS_GATEWAY).await.learned_message_authenticator;
    learn(NAME, true).await.expect("learnt");
    assert_eq!(learned().await[NAME], "yes");
    let shown = async || {
        let servers = clients_reply(&lab).await.home_servers;
        servers
            .into_iter()
            .map(|it| (it.target, it.place, it.learned_message_authenticator, it.warnings.len()))
            .collect::<Vec<_>>()
    };
    let server = |learned: &str, warnings| [("home".into(), "10.0.0.5:1812".into(), learned.to_owned(), warnings)];
    assert_eq!(shown().await, server("yes", 0));
    assert_eq!(
        lab.events("settings.learned").await[0].detail,
        format!("{NAME}.message_authenticator: auto, learnt yes")
    );
    for unknown in ["target.home.10.0.0.6:1812", "target.other.10.0.0.5:1812", "home.10.0.0.5:1812", "target.home"] {
        assert_eq!(learn(unknown, true).await.expect_err("unknown").code(), Code::FailedPrecondition, "{unknown}");
    }
    let kept = auto.replace("file:home.secret", "keep");
    apply(&lab, &kept.replace("kind = \"radius\"", "kind = \"radius\"\nzombie_seconds = 60"), &[]).await;
    assert_eq!(learned().await[NAME], "yes", "the same server");
    apply(&lab, &kept.replace("\"auto\"", "\"yes\""), &[]).await;
    assert!(learned().await.is_empty(), "it is told now");
    apply(&lab, &kept, &[]).await;
    assert_eq!(shown().await, server("", 0));
    learn(NAME, false).await.expect("learnt");
    assert_eq!(shown().await, server("no", 1), "who never signs is warned about");
    let elsewhere = auto.replace("10.0.0.5", "10.0.0.6");
    assert_eq!(apply(&lab, &elsewhere, &[("target.home.10.0.0.6:1812.secret", HOME.1)]).await.errors, [""; 0]);
    assert!(learned().await.is_empty(), "another server");
}

pub async fn how_it_stands_with_a_home_server_is_what_each_node_told_last(lab: Fixture) {
    // R-81
    apply(&lab, &(SETTINGS.to_owned() + TARGET), &[HOME]).await;
    let tell = async |node: &str, place: &str, state: &str| {
        let of = |place: &str, state: &str| HomeServerReport {
            target: "home".into(),
            place: place.into(),
            state: state.into(),
            accounting_state: "alive".into(),
        };
        let home_servers = vec![of(place, state), of("10.9.9.9:1812", "dead")];
        let request = ReportClientsRequest { node: node.into(), clients: Vec::new(), home_servers };
        lab.services.radius.report_clients(Request::new(request)).await.expect("told");
    };
    let seen = async || {
        let servers = clients_reply(&lab).await.home_servers;
        assert_eq!(servers.len(), 1);
        servers[0].seen.iter().map(|it| format!("{} {} {}", it.node, it.state, it.accounting_state)).collect::<Vec<_>>()
    };
    assert_eq!(seen().await, [""; 0]);
    tell("a", "10.0.0.5:1812", "dead").await;
    lab.clock.advance(1000);
    tell("b", "10.0.0.5:1812", "zombie").await;
    assert_eq!(seen().await, ["b zombie alive", "a dead alive"]);
    tell("a", "10.0.0.5:1812", "alive").await;
    tell("b", "10.0.0.5:1812", "asleep").await;
    assert_eq!(seen().await, ["a alive alive"], "a word that is none");
    assert_eq!(lab.number("SELECT COUNT(*) FROM client_reports").await, 1, "of no other server anything is kept");
    apply(&lab, &(SETTINGS.to_owned() + &TARGET.replace("file:home.secret", "keep")), &[]).await;
    assert_eq!(seen().await.len(), 1, "the same server");
    lab.clock.advance(30 * 60_000);
    assert_eq!(seen().await, [""; 0], "whoever told it is gone");
    assert_eq!(apply(&lab, SETTINGS, &[]).await.errors, [""; 0]);
    assert_eq!(lab.number("SELECT COUNT(*) FROM client_reports").await, 0);
}

async fn report(lab: &Fixture, node: &str, clients: Vec<ClientReport>) {
    let request = ReportClientsRequest { node: node.into(), clients, ..ReportClientsRequest::default() };
    lab.services.radius.report_clients(Request::new(request)).await.expect("told");
}

fn of(client: &str, last_seen_unix_ms: i64, signed: u64) -> ClientReport {
    let protocols = vec!["pap".into(), "telepathy".into(), "pap".into()];
    ClientReport { client: client.into(), last_seen_unix_ms, protocols, signed, ..ClientReport::default() }
}

async fn clients_reply(lab: &Fixture) -> ListClientsReply {
    let request = Request::new(ListClientsRequest::default());
    lab.services.admin.list_clients(request).await.expect("listed").into_inner()
}

async fn clients(lab: &Fixture, name: &str) -> Result<Vec<ClientDetail>, Status> {
    let request = ListClientsRequest { name: name.into() };
    Ok(lab.services.admin.list_clients(Request::new(request)).await?.into_inner().clients)
}

async fn vpn(lab: &Fixture) -> ClientDetail {
    clients(lab, "vpn").await.expect("listed").remove(0)
}

pub async fn a_node_replaces_what_it_told_and_is_forgotten_after_a_day(lab: Fixture) {
    // R-37
    with_vpn(&lab).await;
    let unseen = vpn(&lab).await;
    assert!(unseen.reports.is_empty() && unseen.last_seen_unix_ms == 0);
    assert!(unseen.warnings[0].starts_with("was never seen"), "{:?}", unseen.warnings);

    report(&lab, "a", vec![of("vpn", NOON_MS - 5, 1), of("nobody", NOON_MS, 1), of("vpn", NOON_MS - 3, 2)]).await;
    lab.clock.advance(1000);
    report(&lab, "b", vec![of("vpn", NOON_MS + 900, 3)]).await;
    let seen = vpn(&lab).await;
    let told: Vec<_> = seen.reports.iter().map(|it| (it.node.as_str(), it.at_unix_ms, it.report.as_ref())).collect();
    let signed = |report: Option<&ClientReport>| report.map(|it| (it.signed, it.protocols.clone()));
    assert_eq!((told[0].0, told[0].1, signed(told[0].2)), ("b", NOON_MS + 1000, Some((3, vec!["pap".to_owned()]))));
    assert_eq!((told[1].0, told[1].1, signed(told[1].2)), ("a", NOON_MS, Some((2, vec!["pap".to_owned()]))));
    assert_eq!((seen.last_seen_unix_ms, seen.warnings.len()), (NOON_MS + 900, 0), "{:?}", seen.warnings);
    assert_eq!(lab.number("SELECT COUNT(*) FROM client_reports").await, 2, "of nobody nothing is kept");

    // A node that began anew has seen nobody; that the client was seen is known all the same.
    report(&lab, "b", vec![of("vpn", 0, 0)]).await;
    report(&lab, "a", vec![]).await;
    let seen = vpn(&lab).await;
    assert_eq!((seen.reports.len(), seen.last_seen_unix_ms), (1, NOON_MS + 900));
    // A clock that runs ahead does not keep it from being missed.
    report(&lab, "b", vec![of("vpn", NOON_MS + 100 * DAY_MS, 0)]).await;
    assert_eq!(vpn(&lab).await.last_seen_unix_ms, NOON_MS + 1000);

    lab.clock.advance(DAY_MS);
    lab.store.sweep().await.expect("swept");
    assert_eq!(vpn(&lab).await.reports.len(), 1, "a day");
    lab.clock.advance(1);
    lab.store.sweep().await.expect("swept");
    let left = vpn(&lab).await;
    assert_eq!((left.reports.len(), left.last_seen_unix_ms), (0, NOON_MS + 1000));

    report(&lab, "a", vec![of("vpn", NOON_MS + DAY_MS, 1)]).await;
    apply(&lab, SETTINGS, &[]).await;
    with_vpn(&lab).await;
    let anew = vpn(&lab).await;
    assert_eq!((anew.reports.len(), anew.last_seen_unix_ms), (0, 0), "another client of the name");
}

pub async fn not_more_nodes_are_remembered_than_there_can_be(lab: Fixture) {
    with_vpn(&lab).await;
    for node in 0..66 {
        report(&lab, &format!("node-{node}"), vec![of("vpn", NOON_MS, node)]).await;
        lab.clock.advance(1);
    }
    let nodes: Vec<String> = vpn(&lab).await.reports.into_iter().map(|it| it.node).collect();
    assert_eq!((nodes.len(), nodes[0].as_str(), nodes[63].as_str()), (64, "node-65", "node-2"));
    let nameless = ReportClientsRequest::default();
    let refused = lab.services.radius.report_clients(Request::new(nameless)).await;
    assert_eq!(refused.expect_err("no node").code(), Code::InvalidArgument);
}

pub async fn clients_are_shown_with_what_is_known_and_what_should_change(lab: Fixture) {
    let gitlab = "[[client]]\nname = \"gitlab\"\nprotocol = \"ldap\"\nsources = [\"10.0.7.9/32\"]\ntarget = \"corp\"\nappended = \"required\"\n";
    let auto = VPN.to_owned() + "message_authenticator = \"auto\"\napplication = \"The VPN\"\n";
    apply(&lab, &(SETTINGS.to_owned() + &auto + gitlab), &[SECRET]).await;
    let all = clients(&lab, "").await.expect("listed");
    assert_eq!(all.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["vpn", "gitlab"], "in the settings' order");
    assert_eq!(
        (all[1].protocol.as_str(), all[1].message_authenticator.as_str(), all[1].warnings.len()),
        ("ldap", "", 0)
    );
    assert_eq!(clients(&lab, "none").await.expect_err("no such").code(), Code::NotFound);

    let lesson = LearnClientRequest { client: "vpn".into(), sends_message_authenticator: false };
    lab.services.settings.learn_client(Request::new(lesson)).await.expect("learnt");
    rotate(&lab, 7).await.expect("rotated");
    report(&lab, "a", vec![ClientReport { waits_ms: 15_000, unsigned: 4, ..of("vpn", NOON_MS, 0) }]).await;
    let seen = vpn(&lab).await;
    assert_eq!((seen.application.as_str(), seen.target.as_str(), seen.wait_seconds), ("The VPN", "corp", 55));
    assert_eq!((seen.message_authenticator.as_str(), seen.learned_message_authenticator.as_str()), ("auto", "no"));
    assert_eq!(seen.previous_secret_until_unix_ms, NOON_MS + 7 * DAY_MS);
    let begins: Vec<&str> = seen.warnings.iter().map(|text| text.split_once(' ').map_or("", |it| it.0)).collect();
    assert_eq!(begins, ["the", "4", "gives"], "{:?}", seen.warnings);
}

pub async fn a_client_is_observed_for_some_days_and_no_longer(lab: Fixture) {
    // FB-04
    with_vpn(&lab).await;
    let observe = async |client: &str, days: u32, actor: &str| {
        let request = ObserveClientRequest { client: client.into(), days, actor: actor.into() };
        Ok::<_, Status>(lab.services.admin.observe_client(Request::new(request)).await?.into_inner())
    };
    let on = observe("vpn", 14, "cli:ann").await.expect("observed");
    assert_eq!((on.revision, on.observe_until.as_str()), (3, "2026-12-04T12:00:00Z"));
    let fetched = fetch(&lab, part::VERIFICATION).await;
    assert!(fetched.revision == 3 && fetched.settings_json.contains("\"observe_until\":\"2026-12-04T12:00:00Z\""));
    let seen = vpn(&lab).await;
    assert_eq!(seen.observe_until, "2026-12-04T12:00:00Z");
    assert!(seen.warnings[0].starts_with("is only observed until 2026-12-04T12:00:00Z"), "{:?}", seen.warnings);
    assert_eq!(observe("vpn", 14, "cli:ann").await.expect("the same").revision, 3, "nothing changes");

    let off = observe("vpn", 0, "cli:ann").await.expect("no longer");
    assert_eq!((off.revision, off.observe_until.as_str()), (4, ""));
    assert!(!fetch(&lab, part::VERIFICATION).await.settings_json.contains("observe_until"));
    let events = lab.events("settings.observed").await;
    assert_eq!((events.len(), events[0].actor.as_str()), (2, "cli:ann"));
    assert_eq!(events[0].detail, "client.vpn.observe_until: not set -> 2026-12-04T12:00:00Z");
    assert_eq!(events[1].detail, "client.vpn.observe_until: 2026-12-04T12:00:00Z -> not set");

    for (client, days, actor, code) in [
        ("vpn", 91, "cli:ann", Code::InvalidArgument),
        ("vpn", 14, "", Code::InvalidArgument),
        ("none", 14, "cli:ann", Code::NotFound),
    ] {
        assert_eq!(observe(client, days, actor).await.expect_err("refused").code(), code, "{client} {days}");
    }
    assert_eq!(observe("vpn", 90, "cli:ann").await.expect("the longest").observe_until, "2027-02-18T12:00:00Z");
    let kept = SETTINGS.to_owned() + &VPN.replace("file:vpn.secret", "keep");
    let longer = apply(&lab, &(kept + "observe_until = \"2027-02-18T12:00:01Z\"\n"), &[]).await;
    assert!(longer.errors[0].starts_with("client.vpn.observe_until: found"), "{:?}", longer.errors);
}

fn start(session: &str, digest: u8) -> AccountingRecord {
    AccountingRecord {
        client: "vpn".into(),
        at_unix_ms: NOON_MS - 1000,
        digest: vec![digest; 32],
        status: "Start".into(),
        session_id: session.into(),
        username: "ann".into(),
        calling_station: "00-11-22-33-44-55".into(),
        nas: "10.0.4.3".into(),
        framed_address: "10.9.0.1".into(),
        ..AccountingRecord::default()
    }
}

async fn record(lab: &Fixture, record: AccountingRecord) -> Result<(), Status> {
    let request = RecordAccountingRequest { record: Some(record) };
    lab.services.radius.record_accounting(Request::new(request)).await.map(drop)
}

async fn accounting(lab: &Fixture, request: ListAccountingRequest) -> ListAccountingReply {
    lab.services.admin.list_accounting(Request::new(request)).await.expect("listed").into_inner()
}

pub async fn accounting_is_one_record_however_often_it_comes(lab: Fixture) {
    // FR-19, R-86: two gateways, and a device that asks again
    with_vpn(&lab).await;
    let before = lab.number("SELECT COUNT(*) FROM audit").await;
    let stop = AccountingRecord {
        status: "Stop".into(),
        session_seconds: 60,
        input_octets: 5 << 32,
        output_octets: u64::MAX,
        terminate_cause: "User-Request".into(),
        ..start("s1", 2)
    };
    let copies = (0..20).map(|copy| record(&lab, if copy % 2 == 0 { start("s1", 1) } else { stop.clone() }));
    for told in futures::future::join_all(copies).await {
        told.expect("recorded, or a copy");
    }
    record(&lab, AccountingRecord { username: "b\0o\u{7}b".into(), ..start("s2", 3) }).await.expect("recorded");
    let found = accounting(&lab, ListAccountingRequest::default()).await;
    assert_eq!((found.records.len(), found.next), (3, 0));
    assert_eq!(found.records[0].username, "bob", "the newest first");
    let kept = AccountingRecord { output_octets: i64::MAX as u64, ..stop };
    assert!(found.records.contains(&kept) && found.records.contains(&start("s1", 1)), "{:?}", found.records);
    assert_eq!(lab.number("SELECT COUNT(*) FROM audit").await, before, "no part of the audit");
    for bad in [
        AccountingRecord { digest: vec![1; 31], ..start("s", 9) },
        AccountingRecord { client: String::new(), ..start("s", 9) },
    ] {
        assert_eq!(record(&lab, bad).await.expect_err("refused").code(), Code::InvalidArgument);
    }
    let nothing = lab.services.radius.record_accounting(Request::new(RecordAccountingRequest::default())).await;
    assert_eq!(nothing.expect_err("no record").code(), Code::InvalidArgument);
}

pub async fn accounting_is_listed_in_pages_and_kept_for_its_days(lab: Fixture) {
    let document = SETTINGS.to_owned() + VPN + "[radius]\naccounting_days = 2\n";
    assert_eq!(apply(&lab, &document, &[SECRET]).await.errors, [""; 0]);
    for number in 0..5 {
        let other = if number % 2 == 0 { "ann" } else { "bob" };
        let session = format!("s{number}");
        record(&lab, AccountingRecord { username: other.into(), ..start(&session, number) }).await.expect("recorded");
    }
    let sessions = |reply: &ListAccountingReply| -> Vec<String> {
        reply.records.iter().map(|record| record.session_id.clone()).collect()
    };
    let first = accounting(&lab, ListAccountingRequest { limit: 2, ..Default::default() }).await;
    assert_eq!(sessions(&first), ["s4", "s3"]);
    let second = accounting(&lab, ListAccountingRequest { limit: 2, before: first.next, ..Default::default() }).await;
    assert_eq!(sessions(&second), ["s2", "s1"]);
    let last = accounting(&lab, ListAccountingRequest { limit: 2, before: second.next, ..Default::default() }).await;
    assert_eq!((sessions(&last), last.next), (vec!["s0".to_owned()], 0));
    let of_bob = ListAccountingRequest { username: "bob".into(), client: "vpn".into(), ..Default::default() };
    assert_eq!(sessions(&accounting(&lab, of_bob).await), ["s3", "s1"]);
    let one = ListAccountingRequest { session_id: "s2".into(), ..Default::default() };
    assert_eq!(sessions(&accounting(&lab, one).await), ["s2"]);
    let none = ListAccountingRequest { client: "gitlab".into(), ..Default::default() };
    assert!(accounting(&lab, none).await.records.is_empty());

    lab.clock.advance(2 * DAY_MS);
    // A device may say that it waited for a year with this one.
    record(&lab, AccountingRecord { at_unix_ms: 1, ..start("late", 100) }).await.expect("recorded");
    lab.store.sweep().await.expect("swept");
    assert_eq!(accounting(&lab, ListAccountingRequest::default()).await.records.len(), 6);
    lab.clock.advance(1);
    lab.store.sweep().await.expect("swept");
    assert_eq!(sessions(&accounting(&lab, ListAccountingRequest::default()).await), ["late"]);
}
