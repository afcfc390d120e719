use super::*;
use proto::user_store::ClientReport;

const NOW_MS: i64 = 1_795_176_000_000; // 2026-11-20T12:00:00Z

const DOCUMENT: &str = r#"
[[directory]]
name = "corp"
urls = ["ldaps://dc1"]
base = "dc=corp"
query_bind = { kind = "anonymous" }
[[target]]
name = "home"
kind = "radius"
directory = "corp"
[[client]]
name = "vpn"
protocol = "radius"
sources = ["10.0.0.1/32"]
target = "corp"
secret = "keep"
"#;

/// What is said of the VPN with these keys, of which this is known.
fn said(keys: &str, known: Known) -> Vec<String> {
    let settings: Settings = toml::from_str(&format!("{DOCUMENT}{keys}")).expect("a document");
    told(&settings, &known).into_iter().map(|it| it.text).collect()
}

fn told(settings: &Settings, known: &Known) -> Vec<Warning> {
    warnings(settings, &settings.clients[0], known, NOW_MS)
}

/// Seen just now, by one node that saw this.
fn seen(report: ClientReport) -> Known {
    let report = NodeReport { node: "a".into(), at_unix_ms: NOW_MS, report: Some(report) };
    Known { reports: vec![report], last_seen_ms: Some(NOW_MS), ..Known::default() }
}

fn dropped(code: &str, count: u64) -> ClientReport {
    ClientReport { dropped: [(code.to_owned(), count)].into(), ..ClientReport::default() }
}

fn protocols(protocols: &[&str]) -> ClientReport {
    ClientReport { protocols: protocols.iter().map(|it| (*it).to_owned()).collect(), ..ClientReport::default() }
}

fn good() -> ClientReport {
    ClientReport { signed: 100, waits_ms: 60_000, retry_interval_ms: 20_000, ..protocols(&["pap", "status_server"]) }
}

#[test]
fn of_a_client_that_does_all_well_nothing_is_said() {
    assert_eq!(said("", seen(good())), [""; 0]);
    // Over TLS nothing depends on the signature.
    let tls = "transport = \"tls\"\nmessage_authenticator = \"no\"\nlimit_proxy_state = \"no\"\n";
    assert_eq!(said(tls, seen(ClientReport { unsigned: 100, ..good() })), [""; 0]);
    // Learnt "yes": the unsigned ones were before.
    let auto = "message_authenticator = \"auto\"\n";
    let learned = Known { learned: Some(true), ..seen(ClientReport { unsigned: 1, ..good() }) };
    assert_eq!(said(auto, learned), [""; 0]);
}

#[test]
fn each_thing_an_administrator_should_change_is_said_in_one_sentence() {
    // R-37, R-59, R-71, FB-04, V-40
    const NO: &str = "message_authenticator = \"no\"\n";
    for (name, keys, known, expected) in [
        ("never seen", "", Known::default(), "was never seen: "),
        (
            "long unseen",
            "",
            Known { last_seen_ms: Some(NOW_MS - 8 * DAY_MS), ..Known::default() },
            "was not seen for 8 days, since 2026-11-12T12:00:00Z",
        ),
        (
            "impatient",
            "",
            seen(ClientReport { waits_ms: 15_500, ..good() }),
            "gives up after 15 s, but a login may take 55 s (wait_seconds): set the device's timeout to 60 s in all with few \
             retries, or wait_seconds to 10",
        ),
        (
            "more impatient than can be set",
            "",
            seen(ClientReport { waits_ms: 5_000, ..good() }),
            "gives up after 5 s, but a login may take 55 s (wait_seconds): set the device's timeout to 60 s in all with few \
             retries",
        ),
        (
            "unsigned, accepted",
            NO,
            seen(ClientReport { unsigned: 20, ..good() }),
            "20 of 120 requests had no Message-Authenticator",
        ),
        (
            "unsigned, learning",
            "message_authenticator = \"auto\"\n",
            seen(ClientReport { unsigned: 20, ..good() }),
            "20 of 120 requests had no Message-Authenticator",
        ),
        (
            "unsigned, refused",
            "",
            seen(ClientReport { ..dropped("ma_missing", 7) }),
            "7 packets had no Message-Authenticator and were dropped",
        ),
        (
            "through a proxy",
            NO,
            seen(ClientReport { unsigned_with_proxy_state: 2, ..good() }),
            "2 requests without Message-Authenticator came through a proxy",
        ),
        (
            "no protection",
            "message_authenticator = \"no\"\nlimit_proxy_state = \"no\"\n",
            seen(good()),
            "both protections against forged answers are off",
        ),
        ("another secret", "", seen(dropped("ma_bad", 3)), "3 packets had a wrong Message-Authenticator"),
        ("new requests", "", seen(ClientReport { retries_anew: true, ..good() }), "tries again with new requests"),
        (
            "EAP at a directory",
            "",
            seen(protocols(&["pap", "eap", "chap"])),
            "asks by CHAP, EAP, which the directory corp cannot check",
        ),
        (
            "rotating",
            "",
            Known { previous_until_ms: Some(NOW_MS + 2 * DAY_MS), ..seen(good()) },
            "the secret before the present one ends within 2 days, at 2026-11-22T12:00:00Z",
        ),
        (
            "rotated",
            "",
            Known { previous_until_ms: Some(NOW_MS + 1), ..seen(good()) },
            "the secret before the present one ends within a day, at 2026-11-20T12:00:00Z",
        ),
        (
            "observed",
            "observe_until = \"2026-12-01T00:00:00Z\"\n",
            seen(good()),
            "is only observed until 2026-12-01T00:00:00Z",
        ),
        (
            "fail open",
            "when_unavailable = \"pass\"\n",
            seen(good()),
            "lets everybody in on the password while verification is down",
        ),
        (
            "fail open for some",
            "when_unavailable = \"pass\"\nwhen_unavailable_groups = [\"cn=a\"]\nwhen_unavailable_until = \"2026-12-01T00:00:00Z\"\n",
            seen(good()),
            "lets members of some groups in on the password while verification is down (when_unavailable), until 2026-12-01",
        ),
    ] {
        let found = said(keys, known);
        assert_eq!(found.len(), 1, "{name}: {found:#?}");
        assert!(found[0].starts_with(expected), "{name}: {:?} does not begin with {expected:?}", found[0]);
    }
}

#[test]
fn ms_chap_is_said_wherever_it_is_checked_and_at_a_directory_that_it_cannot_be() {
    // R-59, R-56
    let document = DOCUMENT.replace("target = \"corp\"", "target = \"home\"");
    let settings: Settings = toml::from_str(&document).expect("a document");
    let at_home = told(&settings, &seen(protocols(&["ms_chap2"])));
    assert!(at_home.len() == 1 && at_home[0].text.starts_with("uses MS-CHAP: over UDP the password"));
    let at_directory = said("", seen(protocols(&["ms_chap", "ms_chap2"])));
    assert!(
        at_directory.len() == 2 && at_directory[1].starts_with("asks by MS-CHAP, MS-CHAPv2, which the directory corp")
    );
}

#[test]
fn what_is_over_or_rare_is_not_said() {
    for (name, keys, known) in [
        ("observed before", "observe_until = \"2026-11-20T12:00:00Z\"\n", seen(good())),
        (
            "fail open before",
            "when_unavailable = \"pass\"\nwhen_unavailable_until = \"2026-11-20T11:59:59Z\"\n",
            seen(good()),
        ),
        ("a packet or two of somebody else", "", seen(dropped("ma_bad", 2))),
        ("a week", "", Known { last_seen_ms: Some(NOW_MS - 7 * DAY_MS), ..Known::default() }),
        ("patience as long as the wait", "", seen(ClientReport { waits_ms: 55_000, ..good() })),
        ("patience that is not known", "", seen(ClientReport { waits_ms: 0, ..good() })),
        ("goes on at another node", "", seen(ClientReport { waits_ms: 15_000, retries_elsewhere: true, ..good() })),
    ] {
        assert_eq!(said(keys, known), [""; 0], "{name}");
    }
}

#[test]
fn a_home_server_that_never_signs_is_told_of() {
    // R-12: as R-10 has it for clients
    let server = |transport: &str| -> HomeServer {
        serde_json::from_value(serde_json::json!({ "address": "10.0.0.5", "transport": transport })).expect("a server")
    };
    for (transport, learned, found) in
        [("udp", Some(false), 1), ("udp", Some(true), 0), ("udp", None, 0), ("tls", Some(false), 0)]
    {
        assert_eq!(of_home_server(&server(transport), learned).len(), found, "{transport} {learned:?}");
    }
    let text = of_home_server(&server("udp"), Some(false)).concat();
    assert!(text.starts_with("answers without Message-Authenticator: who stands between"), "{text}");
}

#[test]
fn what_a_node_that_is_gone_has_seen_is_not_said_for_ever() {
    // R-37
    let known = |age_ms: i64| {
        let report = ClientReport { waits_ms: 15_000, unsigned: 4, ..protocols(&["ms_chap2"]) };
        let dropped = [("ma_missing".to_owned(), 7), ("ma_bad".to_owned(), 7)].into();
        let report = ClientReport { retries_anew: true, dropped, ..report };
        let report = NodeReport { node: "a".into(), at_unix_ms: NOW_MS - age_ms, report: Some(report) };
        Known { reports: vec![report], last_seen_ms: Some(NOW_MS), ..Known::default() }
    };
    let count = |age_ms| said("message_authenticator = \"auto\"\n", known(age_ms)).len();
    assert_eq!([0, DAY_MS, 2 * DAY_MS, 7 * DAY_MS, 9 * DAY_MS].map(count), [7, 7, 2, 2, 0]);
}

#[test]
fn what_the_nodes_saw_is_taken_together() {
    let report = |report| NodeReport { node: "x".into(), at_unix_ms: NOW_MS, report: Some(report) };
    let known = Known {
        reports: vec![report(dropped("ma_bad", 2)), report(ClientReport { waits_ms: 60_000, ..dropped("ma_bad", 2) })],
        last_seen_ms: Some(NOW_MS),
        ..Known::default()
    };
    let found = said("", known);
    assert!(found.len() == 1 && found[0].starts_with("4 packets had a wrong"), "{found:?}");
}

#[test]
fn of_other_clients_only_what_lets_people_in_is_said() {
    let document = DOCUMENT.replace("protocol = \"radius\"", "protocol = \"ldap\"").replace("secret = \"keep\"\n", "")
        + "observe_until = \"2026-12-01T00:00:00Z\"\n";
    let settings: Settings = toml::from_str(&document).expect("a document");
    let found = told(&settings, &Known::default());
    assert!(found.len() == 1 && found[0].text.starts_with("is only observed"));
}

#[test]
fn what_a_client_lets_through_is_told_apart_from_what_does_not_work() {
    // R-09, R-10, FB-04, V-40
    let keys = "message_authenticator = \"no\"\nlimit_proxy_state = \"no\"\nwhen_unavailable = \"pass\"\n\
                observe_until = \"2026-12-01T00:00:00Z\"\n";
    let settings: Settings = toml::from_str(&format!("{DOCUMENT}{keys}")).expect("a document");
    let report = ClientReport { unsigned: 2, unsigned_with_proxy_state: 1, waits_ms: 5_000, ..dropped("ma_bad", 3) };
    let told = told(&settings, &seen(report));
    let begin = |weakens: bool| {
        let of = told.iter().filter(|it| it.weakens == weakens);
        of.map(|it| it.text.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    assert_eq!(begin(true), ["is only", "lets everybody", "2 of", "1 requests", "both protections"]);
    assert_eq!(begin(false), ["3 packets", "gives up"]);
}
