//! What is wrong with a settings document, one test a rule: a good document, one thing changed, and exactly that is found,
//! with its key, what was found and what is allowed (B-96).

use domain::settings::{Settings, Severity};

const GOOD: &str = r#"
[portal]
company = "Example"

[sync]
interval_minutes = 5
approval_over_users = 5
approval_over_percent = 5

[[directory]]
name = "corp"
preset = "openldap"
urls = ["ldaps://dc1.corp.example", "ldap://dc2.corp.example:389"]
base = "dc=corp,dc=example"
query_bind = { kind = "tls", name = "cn=twinlock", password = "keep" }
connect_timeout_seconds = 3
timeout_seconds = 10
page_size = 1000

[[client]]
name = "vpn"
protocol = "radius"
application = "VPN"
sources = ["10.0.4.0/28"]
target = "corp"
secret = "keep"
wait_seconds = 55

[[client]]
name = "gitlab"
protocol = "ldap"
sources = ["10.0.7.9/32"]
target = "corp"
appended = "required"
service_accounts = [{ name = "cn=gitlab,dc=corp,dc=example" }]

[[sync_item]]
name = "people"
directory = "corp"
source = { kind = "container", dn = "ou=people,dc=corp,dc=example" }
"#;

const SECOND: &str = r#"
[[directory]]
name = "second"
preset = "openldap"
urls = ["ldaps://ldap.second.example"]
base = "dc=second,dc=example"
query_bind = { kind = "tls", name = "cn=twinlock", password = "keep" }
"#;

fn found(document: &str) -> Vec<(Severity, String)> {
    let settings: Settings = toml::from_str(document).expect("a document of the right form");
    user_store::problems(&settings).into_iter().map(|it| (it.severity, it.to_string())).collect()
}

/// The good document with one thing put for another.
fn with(old: &str, new: &str) -> String {
    assert!(GOOD.contains(old), "the good document has no {old:?}");
    GOOD.replacen(old, new, 1)
}

/// The good document with more keys for GitLab's service account.
fn account(keys: &str) -> String {
    let name = "{ name = \"cn=gitlab,dc=corp,dc=example\"";
    with(name, &format!("{name}, {keys}"))
}

/// The good document with more keys for one client.
fn client(name: &str, keys: &str) -> String {
    with(&format!("name = \"{name}\"\nprotocol"), &format!("name = \"{name}\"\n{keys}\nprotocol"))
}

/// At the same address as another client: what it asks for tells them apart.
fn api_client(keys: &str) -> String {
    let client = "[[client]]\nname = \"wiki\"\nprotocol = \"api\"\nsources = [\"10.0.7.9/32\"]\ntarget = \"corp\"\n";
    format!("{GOOD}{client}{keys}\n")
}

fn directory(keys: &str) -> String {
    with("name = \"corp\"\npreset", &format!("name = \"corp\"\n{keys}\npreset"))
}

macro_rules! rules {
    ($($rule:ident: $severity:ident $document:expr => $text:expr;)*) => {
        $(
            #[test]
            fn $rule() {
                let found = found(&$document);
                assert_eq!(found.len(), 1, "{found:#?}");
                assert_eq!(found[0].0, Severity::$severity);
                assert!(found[0].1.starts_with($text), "{:?} does not begin with {:?}", found[0].1, $text);
            }
        )*
    };
}

#[test]
fn a_good_document_has_no_problems() {
    assert_eq!(found(GOOD), []);
    assert_eq!(found(&api_client("api_keys = [\"wiki\"]\nfallback_code = true")), []);
    assert_eq!(found(""), [], "an empty store");
}

#[test]
fn what_is_wrong_is_said_beside_a_warning() {
    let documents = [
        (
            client("gitlab", "client_certificate = \"required\"\ntls = \"danger_optional\""),
            "client.gitlab.tls: is \"danger_optional\", but a certificate is required",
        ),
        (
            client("gitlab", "trusted_controls = [\"1..2\"]"),
            "client.gitlab.trusted_controls: found \"1..2\"; an OID is written",
        ),
    ];
    for (document, text) in documents {
        let found = found(&document);
        let is_said = found.iter().any(|(severity, said)| *severity == Severity::Error && said.starts_with(text));
        assert!(is_said, "{text:?} is none of {found:#?}");
    }
}

rules! {
    // --- names and texts
    a_client_name_stands_once: Error with("name = \"gitlab\"", "name = \"vpn\"") => "client.vpn: this name stands twice";
    a_directory_name_stands_once: Error GOOD.to_owned() + "[[directory]]\nname = \"corp\"\nurls = [\"ldaps://x\"]\nbase = \"dc=x\"\nquery_bind = { kind = \"anonymous\" }\n"
        => "directory.corp: this name stands twice";
    an_item_name_stands_once: Error GOOD.to_owned() + "[[sync_item]]\nname = \"people\"\ndirectory = \"corp\"\nsource = { kind = \"domain\" }\n"
        => "sync_item.people: this name stands twice";
    the_company_is_not_empty: Error with("company = \"Example\"", "company = \"\"") => "portal.company: allowed are 1 to 128";
    the_company_has_no_control_characters: Error with("company = \"Example\"", "company = \"a\\u0007\"") => "portal.company";
    an_application_has_at_most_128_characters: Error with("application = \"VPN\"", &format!("application = \"{}\"", "x".repeat(129)))
        => "client.vpn.application: allowed are 1 to 128";

    // --- synchronisation
    the_interval_is_a_minute_at_least: Error with("interval_minutes = 5", "interval_minutes = 0") => "sync.interval_minutes: found 0; allowed are 1 to 1440";
    the_interval_is_a_day_at_most: Error with("interval_minutes = 5", "interval_minutes = 1441") => "sync.interval_minutes: found 1441";
    approval_begins_at_one_user: Error with("approval_over_users = 5", "approval_over_users = 0") => "sync.approval_over_users: found 0; allowed are 1 to 999";
    approval_is_never_above_999_users: Error with("approval_over_users = 5", "approval_over_users = 1000") => "sync.approval_over_users: found 1000";
    approval_is_a_share: Error with("approval_over_percent = 5", "approval_over_percent = 101") => "sync.approval_over_percent: found 101; allowed are 0 to 100";
    an_item_reads_a_directory_of_the_document: Error with("directory = \"corp\"", "directory = \"crop\"") => "sync_item.people.directory: found \"crop\"; the directories are corp";
    a_container_is_named: Error with(", dn = \"ou=people,dc=corp,dc=example\"", "") => "sync_item.people.source.dn: is empty";
    a_group_is_named: Error with("kind = \"container\", dn = \"ou=people,dc=corp,dc=example\"", "kind = \"group\"") => "sync_item.people.source.dn: is empty";
    an_item_filter_is_rfc_4515: Error with("source = { kind = \"container\"", "filter = \"uid=a\"\nsource = { kind = \"container\"") => "sync_item.people.filter: found \"uid=a\"";

    // --- every client
    a_client_asks_a_directory_of_the_document: Error with("target = \"corp\"", "target = \"crop\"") => "client.vpn.target: found \"crop\"; the directories are corp";
    a_wait_is_ten_seconds_at_least: Error with("wait_seconds = 55", "wait_seconds = 9") => "client.vpn.wait_seconds: found 9; allowed are 10 to 110";
    a_wait_is_110_seconds_at_most: Error with("wait_seconds = 55", "wait_seconds = 111") => "client.vpn.wait_seconds: found 111";
    a_client_asks_from_somewhere: Error with("sources = [\"10.0.4.0/28\"]", "sources = []") => "client.vpn.sources: is empty";
    a_client_has_a_method: Error client("vpn", "methods = []") => "client.vpn.methods: is empty";
    unavailable_is_52_or_49: Error client("gitlab", "unavailable_code = 53") => "client.gitlab.unavailable_code: found 53; allowed are 52 and 49";
    a_separator_is_no_letter: Error client("vpn", "appended_form = { kind = \"separator\", sign = \"x\" }") => "client.vpn.appended_form.sign";
    a_separator_is_no_digit: Error client("vpn", "appended_form = { kind = \"separator\", sign = \"1\" }") => "client.vpn.appended_form.sign";
    a_separator_can_be_typed: Error client("vpn", "appended_form = { kind = \"separator\", sign = \"é\" }") => "client.vpn.appended_form.sign";
    one_network_belongs_to_one_client: Error with("sources = [\"10.0.7.9/32\"]\ntarget = \"corp\"\nappended", "sources = [\"10.0.7.9/32\", \"10.0.7.9/32\"]\ntarget = \"corp\"\nappended")
        => "client.gitlab.sources: 10.0.7.9/32 is also a source of client gitlab";
    a_network_inside_another_is_said: Warning GOOD.to_owned() + &second_vpn("10.0.4.3/32") => "client.vpn2.sources: 10.0.4.3/32 overlaps 10.0.4.0/28 of client vpn; the longer prefix wins";
    a_network_of_another_client_is_refused: Error GOOD.to_owned() + &second_vpn("10.0.4.1/28") => "client.vpn2.sources: 10.0.4.0/28 is also a source of client vpn";

    // --- targets
    a_target_name_stands_once: Error GOOD.to_owned() + &servers("") + &servers("") => "target.home: this name stands twice";
    a_target_is_no_directory_too: Error GOOD.to_owned() + &servers("").replace("\"home\"", "\"corp\"") => "target.corp.name: a directory has this name too";
    a_target_looks_people_up_somewhere: Error GOOD.to_owned() + &servers("").replace("directory = \"corp\"", "directory = \"crop\"") => "target.home.directory: found \"crop\"; the directories are corp";
    a_radius_target_has_a_server: Error GOOD.to_owned() + &target("kind = \"radius\"") => "target.home.servers: found 0; allowed are 1 to 16";
    a_radius_target_has_16_servers_at_most: Error GOOD.to_owned() + &target("kind = \"radius\"") + &(0..17).map(|last| server(&format!("address = \"10.0.0.{last}\"\nsecret = \"keep\""))).collect::<String>() => "target.home.servers: found 17";
    a_home_server_stands_once: Error GOOD.to_owned() + &servers("") + &server("address = \"10.0.0.5\"\nauthentication_port = 1812\nsecret = \"keep\"") => "target.home.servers: 10.0.0.5:1812 stands twice";
    a_home_server_of_ipv6_stands_once: Error GOOD.to_owned() + &servers("").replace("10.0.0.5", "2001:db8::5") + &server("address = \"2001:DB8:0::5\"\nsecret = \"keep\"") => "target.home.servers: [2001:DB8:0::5]:1812 stands twice";
    a_home_server_is_a_host: Error GOOD.to_owned() + &servers("").replace("10.0.0.5", "radius_x") => "target.home.radius_x:1812.address: found \"radius_x\"";
    a_mistyped_address_is_no_name: Error GOOD.to_owned() + &servers("").replace("10.0.0.5", "10.0.0.256") => "target.home.10.0.0.256:1812.address: found \"10.0.0.256\"";
    a_home_server_has_a_port: Error GOOD.to_owned() + &servers("authentication_port = 0") => "target.home.10.0.0.5:0.authentication_port: found 0";
    accounting_has_a_port: Error GOOD.to_owned() + &servers("accounting_port = 0") => "target.home.10.0.0.5:1812.accounting_port: found 0";
    logins_and_accounting_have_two_ports: Error GOOD.to_owned() + &servers("accounting_port = 1812") => "target.home.10.0.0.5:1812.accounting_port: is the authentication port";
    a_home_server_over_udp_has_a_secret: Error GOOD.to_owned() + &servers("").replace("secret = \"keep\"", "") => "target.home.10.0.0.5:1812.secret: is missing";
    a_home_server_over_udp_has_no_ca: Error GOOD.to_owned() + &servers("ca = \"-----BEGIN CERTIFICATE-----\"") => "target.home.10.0.0.5:1812.ca: is a key of servers with transport";
    a_home_server_over_udp_has_no_certificate_name: Error GOOD.to_owned() + &servers("server_name = \"a.example\"") => "target.home.10.0.0.5:1812.server_name: is a key of servers with transport";
    an_unsigned_home_server_is_said: Warning GOOD.to_owned() + &servers("message_authenticator = \"no\"") => "target.home.10.0.0.5:1812.message_authenticator: is \"no\": who stands between can forge";
    a_home_server_over_tls_has_no_secret: Error GOOD.to_owned() + &servers("transport = \"tls\"") => "target.home.10.0.0.5:2083.secret: is a key of servers over UDP";
    a_home_server_over_tls_has_one_port: Error GOOD.to_owned() + &over_tls("accounting_port = 1813") => "target.home.10.0.0.5:2083.accounting_port: is a key of servers over UDP";
    a_ca_of_a_home_server_is_pem: Error GOOD.to_owned() + &over_tls("ca = \"/etc/ca.pem\"") => "target.home.10.0.0.5:2083.ca: is no certificate";
    a_certificate_names_a_host: Error GOOD.to_owned() + &over_tls("server_name = \"*.example\"") => "target.home.10.0.0.5:2083.server_name: found \"*.example\"";
    two_secrets_have_two_names: Error GOOD.to_owned() + &servers("").replace("10.0.0.5", "b.c") + &servers("").replace("\"home\"", "\"home.b\"").replace("10.0.0.5", "c") => "target.home.b.c:1812.secret: is also the name of a secret of target home;";
    an_identity_is_an_attribute: Error GOOD.to_owned() + &target("kind = \"radius\"\nidentity_attribute = \"\"") + &server("address = \"10.0.0.5\"\nsecret = \"keep\"") => "target.home.identity_attribute: is empty";
    an_outer_identity_that_counts_is_said: Warning GOOD.to_owned() + &target("kind = \"radius\"\ndanger_trust_outer_identity = true") + &server("address = \"10.0.0.5\"\nsecret = \"keep\"") => "target.home.danger_trust_outer_identity: the name outside of EAP";
    a_window_is_five_seconds_at_least: Error GOOD.to_owned() + &timers("response_window_seconds = 4") => "target.home.response_window_seconds: found 4; allowed are 5 to 60";
    a_zombie_is_one_for_two_minutes_at_most: Error GOOD.to_owned() + &timers("zombie_seconds = 121") => "target.home.zombie_seconds: found 121; allowed are 20 to 120";
    a_question_by_name_has_a_name: Error GOOD.to_owned() + &timers("status_check = \"username\"") => "target.home.status_user: found \"\"; write a name";
    a_name_is_for_a_question_by_name: Error GOOD.to_owned() + &timers("status_user = \"probe\"") => "target.home.status_user: is a key of targets with status_check";
    a_name_that_somebody_has_is_locked: Warning GOOD.to_owned() + &timers("status_check = \"username\"\nstatus_user = \"probe\"") => "target.home.status_user: is asked about with wrong passwords";
    a_windows_domain_is_asked_about_nobody: Error GOOD.to_owned() + &target("kind = \"windows_domain\"\nstatus_user = \"probe\"") => "target.home.status_user: is a key of RADIUS targets";
    a_check_is_no_flood: Error GOOD.to_owned() + &timers("check_interval_seconds = 5") => "target.home.check_interval_seconds: found 5; allowed are 6 to 120";
    a_revival_takes_a_minute_at_least: Error GOOD.to_owned() + &timers("revive_seconds = 59") => "target.home.revive_seconds: found 59; allowed are 60 to 3600";
    a_radius_target_has_no_domain: Error GOOD.to_owned() + &timers("domain = \"CORP\"") => "target.home.domain: is a key of Windows domains";
    a_windows_domain_has_no_servers: Error GOOD.to_owned() + &target("kind = \"windows_domain\"") + &server("address = \"10.0.0.5\"\nsecret = \"keep\"") => "target.home.servers: is a key of RADIUS targets";
    a_windows_domain_has_no_window: Error GOOD.to_owned() + &target("kind = \"windows_domain\"\nresponse_window_seconds = 10") => "target.home.response_window_seconds: is a key of RADIUS targets";
    a_windows_domain_has_no_attributes: Error GOOD.to_owned() + &target("kind = \"windows_domain\"\nidentity_attribute = \"Class\"") => "target.home.identity_attribute: is a key of RADIUS targets";
    a_windows_domain_is_asked_nothing: Error GOOD.to_owned() + &target("kind = \"windows_domain\"\nstatus_check = \"none\"") => "target.home.status_check: is a key of RADIUS targets";
    a_short_domain_is_short: Error GOOD.to_owned() + &target("kind = \"windows_domain\"\ndomain = \"corp.example\"") => "target.home.domain: found \"corp.example\"";
    a_windows_domain_is_that_of_its_directory: Error directory("netbios_domain = \"CORP\"") + &target("kind = \"windows_domain\"\ndomain = \"OTHER\"") => "target.home.domain: found \"OTHER\", but the netbios_domain of directory corp is \"CORP\"";
    a_dictionary_name_stands_once: Error GOOD.to_owned() + DICTIONARY + DICTIONARY => "dictionary.own: this name stands twice";
    a_dictionary_says_something: Error GOOD.to_owned() + &DICTIONARY.replace("VENDOR Own 99999", "") => "dictionary.own.text: has 0 octets";
    a_dictionary_has_an_end: Error GOOD.to_owned() + &DICTIONARY.replace("VENDOR", &"#".repeat(524_288)) => "dictionary.own.text: has 524298 octets; allowed are 1 to 524288";
    ldap_that_is_off_serves_nobody: Warning section("[ldap]\nenabled = false") => "ldap.enabled: is off: no port is open, and none of the 1 clients is served";
    radius_that_is_off_serves_nobody: Warning section("[radius]\nenabled = false") => "radius.enabled: is off: no port is open, and none of the 1 clients is served";
    accounting_is_kept_a_day_at_least: Error section("[radius]\naccounting_days = 0") => "radius.accounting_days: found 0; allowed are 1 to 400";
    accounting_is_kept_400_days_at_most: Error section("[radius]\naccounting_days = 401") => "radius.accounting_days: found 401";

    // --- clients and their targets (FL-07)
    a_client_asks_a_target_of_the_document: Error with("target = \"corp\"", "target = \"hoem\"") + &servers("") => "client.vpn.target: found \"hoem\"; the directories are corp; the targets are home";
    an_ldap_client_asks_a_directory: Error with("sources = [\"10.0.7.9/32\"]\ntarget = \"corp\"", "sources = [\"10.0.7.9/32\"]\ntarget = \"home\"") + &servers("") => "client.gitlab.target: found \"home\", a target of RADIUS clients";
    an_api_client_asks_a_directory: Error api_client("api_keys = [\"wiki\"]").replace("[\"10.0.7.9/32\"]\ntarget = \"corp\"\napi", "[\"10.0.7.9/32\"]\ntarget = \"home\"\napi") + &servers("") => "client.wiki.target: found \"home\", a target of RADIUS clients";
    accounting_goes_on_to_a_radius_target: Error client("vpn", "accounting = \"forward\"") => "client.vpn.accounting: is \"forward\", but the target is no RADIUS target";
    accounting_goes_to_no_windows_domain: Error client("vpn", "accounting = \"forward\"").replacen("target = \"corp\"", "target = \"home\"", 1) + &target("kind = \"windows_domain\"") => "client.vpn.accounting: is \"forward\"";
    a_list_of_nobodys_attributes_is_said: Warning client("vpn", "target_attributes = [\"Class\"]") => "client.vpn.target_attributes: has no effect";
    a_person_without_a_proof_is_asked_about_at_a_target: Error client("vpn", "without_credentials = \"pass\"") => "client.vpn.without_credentials: is \"pass\", but the target is no RADIUS target";
    a_person_without_a_proof_is_said: Warning at_home("without_credentials = \"pass\"") => "client.vpn.without_credentials: is \"pass\": whoever has";
    a_person_without_a_proof_is_for_radius: Error client("gitlab", "without_credentials = \"pass\"") => "client.gitlab.without_credentials: is a key of RADIUS clients";
    who_is_unknown_passes_by_the_target_alone: Warning at_home("unknown_user = \"pass\"") => "client.vpn.unknown_user: is \"pass\": besides people of directory corp whom Twinlock does not know, that lets in on the password alone whoever target home lets in under a name that the directory does not have";
    an_attribute_to_pass_on_has_a_name: Error at_home("target_attributes = [\"\"]") => "client.vpn.target_attributes: holds an empty name";
    a_wait_outlives_a_silent_server: Warning at_home("").replace("wait_seconds = 55", "wait_seconds = 20") => "client.vpn.wait_seconds: found 20; target home waits 20 s";

    // --- how a client asks (R-56, R-60)
    a_directory_checks_no_ms_chap: Error client("vpn", "password_protocols = [\"pap\", \"ms_chap2\"]") => "client.vpn.password_protocols: holds \"ms_chap2\", which directory corp cannot check";
    a_directory_checks_no_eap: Error client("vpn", "password_protocols = [\"eap\", \"pap\"]") => "client.vpn.password_protocols: holds \"eap\", which directory corp cannot check";
    a_windows_domain_checks_no_chap: Error in_domain("password_protocols = [\"chap\", \"ms_chap2\"]") => "client.vpn.password_protocols: holds \"chap\", which Windows domain home cannot check";
    a_protocol_is_listed_once: Error client("vpn", "password_protocols = [\"pap\", \"pap\"]") => "client.vpn.password_protocols: \"pap\" stands twice";
    without_pap_somebody_asks_on_the_phone: Error at_home("password_protocols = [\"eap\"]\nmethods = [\"code\"]\nmessage_authenticator = \"yes\"") => "client.vpn.password_protocols: has no \"pap\"";
    an_ldap_client_binds: Error client("gitlab", "password_protocols = [\"pap\"]") => "client.gitlab.password_protocols: is a key of RADIUS clients";
    a_form_is_listed_once: Error client("gitlab", "name_forms = [\"dn\", \"dn\"]") => "client.gitlab.name_forms: \"dn\" stands twice";
    an_application_names_people_as_it_likes: Error api_client("api_keys = [\"wiki\"]\nname_forms = [\"bare\"]") => "client.wiki.name_forms: is a key of RADIUS and LDAP clients";

    // --- RADIUS
    a_question_is_open_30_seconds_at_least: Error client("vpn", "challenge_seconds = 29") => "client.vpn.challenge_seconds: found 29; allowed are 30 to 300";
    a_question_is_open_five_minutes_at_most: Error client("vpn", "challenge_seconds = 301") => "client.vpn.challenge_seconds: found 301";
    a_conversation_has_an_answer: Error client("vpn", "answers_max = 0") => "client.vpn.answers_max: found 0; allowed are 1 to 5";
    a_conversation_has_five_answers_at_most: Error client("vpn", "answers_max = 6") => "client.vpn.answers_max: found 6";
    a_client_over_tls_has_a_certificate: Error with("secret = \"keep\"\n", "transport = \"tls\"\n") => "client.vpn.certificates: is empty";
    a_client_over_tls_has_no_secret: Error client("vpn", "transport = \"tls\"\ncertificates = [\"dns:vpn.example.com\"]") => "client.vpn.secret: is a key of clients over UDP";
    a_client_over_udp_has_no_certificate: Error client("vpn", "certificates = [\"dns:vpn.example.com\"]") => "client.vpn.certificates: is a key of clients with transport";
    a_client_over_udp_has_no_authority: Error client("vpn", "ca = \"-----BEGIN CERTIFICATE-----\"") => "client.vpn.ca: is a key of clients with transport";
    an_authority_of_a_client_is_pem: Error tls_client("vpn", "dns:vpn.example.com").replace("transport", "ca = \"/etc/ca.pem\"\ntransport") => "client.vpn.ca: is no certificate";
    an_authority_of_a_client_is_somebody: Error tls_client("vpn", "dns:vpn.example.com").replace("transport", "ca = \"\"\ntransport") => "client.vpn.ca: is empty";
    an_authority_of_clients_is_for_radius: Error client("gitlab", "ca = \"-----BEGIN CERTIFICATE-----\"") => "client.gitlab.ca: is a key of RADIUS clients";
    a_fingerprint_is_of_sha_256: Error tls_client("vpn", "sha256:0123") => "client.vpn.certificates: found \"sha256:0123\"";
    a_certificate_name_has_no_star: Error tls_client("vpn", "dns:*.example.com") => "client.vpn.certificates: found \"dns:*.example.com\"";
    a_certificate_mark_says_what_it_is: Error tls_client("vpn", "vpn.example.com") => "client.vpn.certificates: found \"vpn.example.com\"";
    a_certificate_is_one_clients: Error tls_client("vpn", "dns:vpn.example.com") + "[[client]]\nname = \"vpn2\"\nprotocol = \"radius\"\nsources = [\"10.0.4.0/28\"]\ntarget = \"corp\"\ntransport = \"tls\"\ncertificates = [\"dns:VPN.example.com\"]\n" => "client.vpn2.certificates: dns:vpn.example.com is also a certificate of client vpn";
    a_reply_sets_something: Error client("vpn", "reply = [{ when_group = \"cn=staff,dc=corp,dc=example\", set = {} }]") => "client.vpn.reply: rule 1: set is empty";
    a_reply_group_is_named: Error client("vpn", "reply = [{ when_group = \" \", set = { Class = \"x\" } }]") => "client.vpn.reply: rule 1: when_group is empty";
    a_reply_group_is_no_bare_name: Warning client("vpn", "reply = [{ when_group = \"VPN Admins\", set = { Class = \"x\" } }]") => "client.vpn.reply: rule 1: when_group = \"VPN Admins\" is the name of any group with this cn";
    a_reply_value_is_not_empty: Error client("vpn", "reply = [{ set = { Class = \"x\" } }, { set = { Class = [\"a\", \"\"] } }]") => "client.vpn.reply: rule 2: Class = \"\": allowed are 1 to 4096";
    a_reply_attribute_has_a_value: Error client("vpn", "reply = [{ set = { Class = [] } }]") => "client.vpn.reply: rule 1: Class has 0 values";
    a_reply_value_is_one_line: Error client("vpn", "reply = [{ set = { Class = \"x\\r\\ny\" } }]") => "client.vpn.reply: rule 1: Class = \"x\\r\\ny\": holds control characters";
    a_brace_is_closed: Error client("vpn", "reply = [{ set = { Class = \"{mail\" } }]") => "client.vpn.reply: rule 1: Class = \"{mail\": a { has no }";
    a_brace_holds_an_attribute: Error client("vpn", "reply = [{ set = { Class = \"x{mail}{1=1}\" } }]") => "client.vpn.reply: rule 1: Class = \"x{mail}{1=1}\": between { and }";
    a_reply_attribute_is_known: Error client("vpn", "reply = [{ set = { Filtr-Id = \"x\" } }]") => "client.vpn.reply: rule 1: found \"Filtr-Id\", which is no attribute of a dictionary; Filter-Id is";
    a_reply_number_is_one: Error client("vpn", "reply = [{ set = { Session-Timeout = \"soon\" } }]") => "client.vpn.reply: rule 1: Session-Timeout = \"soon\": the value is no";
    a_reply_number_fits: Error client("vpn", "reply = [{ set = { Session-Timeout = -1 } }]") => "client.vpn.reply: rule 1: Session-Timeout = \"-1\": the value is no";
    a_reply_address_is_one: Error client("vpn", "reply = [{ set = { Framed-IP-Address = [\"10.0.0.1\", \"10.0.0\"] } }]") => "client.vpn.reply: rule 1: Framed-IP-Address = \"10.0.0\"";
    a_reply_text_fits: Error client("vpn", &format!("reply = [{{ set = {{ Filter-Id = \"{}\" }} }}]", "x".repeat(254))) => "client.vpn.reply: rule 1: Filter-Id = \"xxx";
    a_reply_tag_is_31_at_most: Error client("vpn", "reply = [{ set = { \"Tunnel-Type:32\" = \"VLAN\" } }]") => "client.vpn.reply: rule 1: Tunnel-Type:32: found the tag \"32\"; allowed are 1 to 31";
    a_reply_tag_is_for_attributes_that_have_some: Error client("vpn", "reply = [{ set = { \"Filter-Id:1\" = \"x\" } }]") => "client.vpn.reply: rule 1: Filter-Id:1: found the tag \"1\"; Filter-Id has no tags";
    a_reply_sets_no_attribute_of_the_protocol: Error client("vpn", "reply = [{ set = { State = \"x\" } }]") => "client.vpn.reply: rule 1: State belongs to the protocol";
    an_attribute_to_pass_on_is_known: Error at_home("target_attributes = [\"Clas\"]") => "client.vpn.target_attributes: found \"Clas\", which is no attribute of a dictionary; Class is";
    an_identity_is_a_known_attribute: Error GOOD.to_owned() + &timers("identity_attribute = \"Username\"") => "target.home.identity_attribute: found \"Username\"";
    a_dictionary_is_one: Error GOOD.to_owned() + &DICTIONARY.replace("VENDOR Own", "VENDER Own") => "dictionary.own.text: line 1: VENDER is no keyword";
    a_dictionary_includes_nothing: Error GOOD.to_owned() + &DICTIONARY.replace("VENDOR Own 99999", "$INCLUDE own") => "dictionary.own.text: line 1";
    a_client_that_is_only_observed_is_said: Warning client("vpn", "observe_until = \"2027-01-31T18:00:00+01:00\"") => "client.vpn.observe_until: until 2027-01-31T18:00:00+01:00 the password alone lets people in";
    transport_is_for_radius: Error client("gitlab", "transport = \"tls\"") => "client.gitlab.transport: is a key of RADIUS clients";
    a_charset_is_for_radius: Error client("gitlab", "charset = \"latin1\"") => "client.gitlab.charset: is a key of RADIUS clients";
    a_time_to_answer_is_for_radius: Error client("gitlab", "challenge_seconds = 60") => "client.gitlab.challenge_seconds: is a key of RADIUS clients";
    a_number_of_answers_is_for_radius: Error client("gitlab", "answers_max = 2") => "client.gitlab.answers_max: is a key of RADIUS clients";
    accounting_is_for_radius: Error client("gitlab", "accounting = \"store\"") => "client.gitlab.accounting: is a key of RADIUS clients";
    attributes_of_a_target_are_for_radius: Error client("gitlab", "target_attributes = []") => "client.gitlab.target_attributes: is a key of RADIUS clients";
    replies_are_for_radius: Error client("gitlab", "reply = [{ set = { Class = \"x\" } }]") => "client.gitlab.reply: is a key of RADIUS clients";
    a_reply_mode_is_for_radius: Error client("gitlab", "reply_mode = \"first\"") => "client.gitlab.reply_mode: is a key of RADIUS clients";
    status_server_is_for_radius: Error client("gitlab", "status_reflects_health = false") => "client.gitlab.status_reflects_health: is a key of RADIUS clients";
    a_radius_client_has_a_secret: Error with("secret = \"keep\"\n", "") => "client.vpn.secret: is missing";
    both_protections_off_needs_the_danger_key: Error client("vpn", "message_authenticator = \"no\"\nlimit_proxy_state = \"no\"") => "client.vpn.message_authenticator: does not demand it, and limit_proxy_state is \"no\"";
    learning_with_the_limit_off_needs_the_danger_key: Error with("sources = [\"10.0.4.0/28\"]", "sources = [\"10.0.4.3/32\"]\nmessage_authenticator = \"auto\"\nlimit_proxy_state = \"no\"") => "client.vpn.message_authenticator: does not demand it";
    an_ipv4_source_is_written_as_one: Error with("sources = [\"10.0.7.9/32\"]", "sources = [\"::ffff:10.0.7.9/128\"]") => "client.gitlab.sources: holds an IPv4 address in IPv6 form";
    the_danger_key_in_use_is_said: Warning client("vpn", "message_authenticator = \"no\"\nlimit_proxy_state = \"no\"\ndanger_accept_blastradius = true") => "client.vpn.danger_accept_blastradius: forged answers are accepted";
    a_network_teaches_nothing: Error client("vpn", "message_authenticator = \"auto\"") => "client.vpn.message_authenticator: \"auto\" needs single addresses";
    a_code_can_be_given_somehow: Error client("vpn", "challenge = \"no\"\nmethods = [\"code\"]") => "client.vpn.challenge: is \"no\", appended is \"off\" and no method asks on the phone";
    service_accounts_are_for_ldap: Error client("vpn", "service_accounts = [{ name = \"cn=x\" }]") => "client.vpn.service_accounts: is a key of LDAP clients";
    tls_is_for_ldap: Error client("vpn", "tls = \"danger_optional\"") => "client.vpn.tls: is a key of LDAP clients";
    anonymous_is_for_ldap: Error client("vpn", "anonymous = \"forward\"") => "client.vpn.anonymous: is a key of LDAP clients";
    operations_are_for_ldap: Error client("vpn", "operations = \"read\"") => "client.vpn.operations: is a key of LDAP clients";
    referrals_are_for_ldap: Error client("vpn", "referrals = \"pass\"") => "client.vpn.referrals: is a key of LDAP clients";
    trusting_the_application_is_said: Warning client("gitlab", "trusted_networks = [\"10.0.7.0/24\"]\nperson_address = \"peer\"") => "client.gitlab.trusted_networks: hold the application's own address";
    a_limit_of_searches_is_for_ldap: Error client("vpn", "size_limit = 5") => "client.vpn.size_limit: is a key of LDAP clients";
    a_limit_of_their_time_is_for_ldap: Error client("vpn", "time_limit_seconds = 5") => "client.vpn.time_limit_seconds: is a key of LDAP clients";
    rewriting_needs_a_server: Error client("gitlab", "referrals = \"rewrite\"") => "client.gitlab.referral_url: is missing";
    the_server_of_rewriting_is_an_ldap_server: Error client("gitlab", "referrals = \"rewrite\"\nreferral_url = \"https://login.example.org\"") => "client.gitlab.referral_url: is no URL of a server";
    the_server_of_rewriting_has_no_path: Error client("gitlab", "referrals = \"rewrite\"\nreferral_url = \"ldaps://login.example.org/dc=x\"") => "client.gitlab.referral_url: is no URL of a server";
    a_server_alone_rewrites_nothing: Error client("gitlab", "referral_url = \"ldaps://login.example.org\"") => "client.gitlab.referral_url: is only read with";
    a_client_certificate_is_for_ldap: Error client("vpn", "client_certificate = \"required\"") => "client.vpn.client_certificate: is a key of LDAP clients";
    listed_certificates_are_required: Error client("gitlab", "certificates = [\"dns:gitlab.example\"]") => "client.gitlab.certificates: is only read with";
    a_certificate_of_ldap_is_written_right: Error client("gitlab", "client_certificate = \"required\"\ncertificates = [\"gitlab.example\"]") => "client.gitlab.certificates: found \"gitlab.example\"";
    a_password_is_for_external: Error account("password = \"keep\"") => "client.gitlab.service_accounts: \"cn=gitlab,dc=corp,dc=example\" has a password and no certificates";
    a_password_is_the_directorys: Error account("password = \"generate\", certificates = [\"dns:a.example\"]") => "client.gitlab.service_accounts: a password is the directory's";
    a_certificate_of_an_account_is_written_right: Error account("certificates = [\"sha256:12\"]") => "client.gitlab.service_accounts: found \"sha256:12\"";
    one_certificate_is_one_account: Error account("password = \"keep\", certificates = [\"dns:a.example\"] }, { name = \"cn=b\", password = \"keep\", certificates = [\"dns:A.example\"]") => "client.gitlab.service_accounts: a certificate of \"cn=b\" is also one of";
    an_account_with_a_password_is_a_dn: Error account("password = \"keep\", certificates = [\"dns:a.example\"] }, { name = \"b.x=c\", password = \"keep\", certificates = [\"dns:b.example\"]") => "client.gitlab.service_accounts: \"b.x=c\" has a password and is no DN";
    plain_is_for_ldap: Error client("vpn", "sasl_plain = true") => "client.vpn.sasl_plain: is a key of LDAP clients";
    operations_by_list_are_for_ldap: Error client("vpn", "extended_operations = [\"1.2.3\"]") => "client.vpn.extended_operations: is a key of LDAP clients";
    trusted_controls_are_for_ldap: Error client("vpn", "trusted_controls = [\"1.2.3\"]") => "client.vpn.trusted_controls: is a key of LDAP clients";
    names_of_servers_are_for_ldap: Error client("vpn", "keep_server_names = true") => "client.vpn.keep_server_names: is a key of LDAP clients";
    an_operation_is_listed_by_its_oid: Error client("gitlab", "extended_operations = [\"whoami\"]") => "client.gitlab.extended_operations: found \"whoami\"; an OID is written";
    fast_bind_is_never_forwarded: Error client("gitlab", "extended_operations = [\"1.2.840.113556.1.4.1781\"]") => "client.gitlab.extended_operations: holds 1.2.840.113556.1.4.1781, which is never forwarded";
    a_trusted_control_is_said: Warning client("gitlab", "trusted_controls = [\"2.16.840.1.113730.3.4.18\"]") => "client.gitlab.trusted_controls: with them whoever is bound may act as somebody";
    names_of_servers_are_said: Warning client("gitlab", "keep_server_names = true") => "client.gitlab.keep_server_names: tells the names of the real servers";
    a_number_from_a_packet_is_for_radius: Error client("gitlab", "person_address = \"framed_address\"") => "client.gitlab.person_address: names an attribute of RADIUS";

    // --- the API
    an_api_client_names_its_keys: Error api_client("") => "client.wiki.api_keys: is empty";
    a_key_has_a_name: Error api_client("api_keys = [\"\"]") => "client.wiki.api_keys: holds an empty name";
    keys_are_for_the_api: Error client("vpn", "api_keys = [\"wiki\"]") => "client.vpn.api_keys: is a key of API clients";
    an_api_client_has_no_shared_secret: Error api_client("api_keys = [\"wiki\"]\nsecret = \"keep\"") => "client.wiki.secret: is a key of RADIUS clients";
    the_api_appends_nothing: Error api_client("api_keys = [\"wiki\"]\nappended = \"optional\"") => "client.wiki.appended: is a key of RADIUS and LDAP clients";
    the_api_never_fails_open: Error api_client("api_keys = [\"wiki\"]\nwhen_unavailable = \"pass\"") => "client.wiki.when_unavailable: found \"pass\"";
    the_api_remembers_no_password: Error api_client("api_keys = [\"wiki\"]\nremember = {}") => "client.wiki.remember.kind: needs a password";
    referrals_are_not_for_the_api: Error api_client("api_keys = [\"wiki\"]\nreferrals = \"pass\"") => "client.wiki.referrals: is a key of LDAP clients";

    // --- methods of a client
    a_passkey_works_at_the_portal_only: Error client("vpn", "methods = [\"code\", \"passkey\"]") => "client.vpn.methods: \"passkey\" works at the portal only";
    questions_work_at_the_portal_only: Error client("gitlab", "methods = [\"code\", \"questions\"]") => "client.gitlab.methods: \"questions\" works at the portal only";
    a_method_stands_once: Error client("vpn", "methods = [\"code\", \"code\"]") => "client.vpn.methods: \"code\" stands twice";
    texts_without_a_provider_are_said: Warning client("vpn", "methods = [\"code\", \"sms\"]") => "client.vpn.methods: \"sms\" needs an enabled [[provider]]";
    calls_without_a_provider_are_said: Warning client("vpn", "methods = [\"code\", \"call\"]") => "client.vpn.methods: \"call\" needs an enabled [[provider]]";
    a_provider_that_is_off_carries_nothing: Warning client("vpn", "methods = [\"code\", \"call\"]") + &calls("enabled = false\n", "") => "client.vpn.methods: \"call\" needs an enabled [[provider]]";
    replies_that_are_off_are_said: Warning client("vpn", "methods = [\"code\", \"sms_reply\"]") => "client.vpn.methods: \"sms_reply\" is passed over unless sms.replies is true";
    push_without_an_app_is_said: Warning client("vpn", "methods = [\"code\", \"push\"]") + "[push]\nweb = false\npi = false\n[verification]\ndefault_method = \"code\"\n" => "client.vpn.methods: \"push\" is passed over";
    some_method_reaches_the_least_assurance: Error client("vpn", "methods = [\"code\", \"recovery\"]\nleast_assurance = \"number_matched\"") => "client.vpn.least_assurance: found \"number_matched\"; no method";
    a_pin_nobody_asks_for_is_said: Warning client("vpn", "methods = [\"code\"]\npin = true") => "client.vpn.pin: has no effect";
    keywords_need_an_appended_code: Error client("vpn", "appended_keywords = true") => "client.vpn.appended_keywords: needs appended";
    a_fallback_that_cannot_ask_is_said: Warning client("gitlab", "fallback_code = true") => "client.gitlab.fallback_code: has no effect";

    // --- in on the password alone
    nobody_trusts_the_whole_world: Error client("vpn", "person_address = \"framed_address\"\ntrusted_networks = [\"0.0.0.0/0\"]") => "client.vpn.trusted_networks: found 0.0.0.0/0, which is every address";
    a_trusted_network_of_ipv4_is_written_as_one: Error client("vpn", "person_address = \"framed_address\"\ntrusted_networks = [\"::ffff:10.0.0.0/104\"]") => "client.vpn.trusted_networks: holds an IPv4 address in IPv6 form";
    a_trusted_device_is_said: Warning client("vpn", "trusted_networks = [\"10.0.0.0/8\"]") => "client.vpn.trusted_networks: hold the device's own address";
    a_trusted_network_that_never_matches_is_said: Warning client("vpn", "trusted_networks = [\"192.0.2.0/24\"]") => "client.vpn.trusted_networks: never match";
    a_group_is_named_by_something: Error client("vpn", "groups = [\"\"]") => "client.vpn.groups: holds an empty text";
    fail_open_ends_at_a_time: Error client("vpn", "when_unavailable = \"pass\"\nwhen_unavailable_until = \"2027-01-31\"") => "client.vpn.when_unavailable_until: found \"2027-01-31\"";
    an_end_of_nothing_is_said: Warning client("vpn", "when_unavailable_until = \"2027-01-31T18:00:00+01:00\"") => "client.vpn.when_unavailable_until: has no effect";
    groups_of_nothing_are_said: Warning client("vpn", "when_unavailable_groups = [\"cn=staff\"]") => "client.vpn.when_unavailable_groups: has no effect";
    a_remembered_login_lives_30_seconds_at_least: Error client("vpn", "remember = { idle_seconds = 29 }") => "client.vpn.remember.idle_seconds: found 29; allowed are 30 to 86400";
    a_remembered_login_lives_a_day_at_most: Error client("vpn", "remember = { life_seconds = 86401 }") => "client.vpn.remember.life_seconds: found 86401";
    idle_ends_before_life: Error client("vpn", "remember = { idle_seconds = 600, life_seconds = 300 }") => "client.vpn.remember.idle_seconds: found 600, which is more than life_seconds";
    the_source_of_an_ldap_application_is_shared: Warning client("gitlab", "remember = { kind = \"user_source\" }") => "client.gitlab.remember.kind: binds to the source";
    clear_text_binds_are_said: Warning client("gitlab", "tls = \"danger_optional\"") => "client.gitlab.tls: passwords may cross the network";

    // --- company-wide rules
    a_default_method_works_everywhere: Error section("[verification]\ndefault_method = \"passkey\"") => "verification.default_method: found \"passkey\"";
    a_default_method_without_a_provider_is_said: Warning section("[verification]\ndefault_method = \"sms\"") => "verification.default_method: \"sms\" needs";
    a_country_has_two_capital_letters: Error section("[verification]\ncountry = \"de\"") => "verification.country: found \"de\"";
    quiet_is_15_minutes_at_most: Error section("[verification]\ncool_down_seconds = 901") => "verification.cool_down_seconds: found 901; allowed are 0 to 900";
    prompts_a_day_are_five_at_least: Error section("[verification]\nprompts_per_day = 4") => "verification.prompts_per_day: found 4; allowed are 5 to 500";
    calls_an_hour_are_60_at_most: Error section("[verification]\ncalls_per_hour = 61") => "verification.calls_per_hour: found 61; allowed are 1 to 60";
    a_block_is_a_year_at_most: Error section("[verification]\nblock_days = 366") => "verification.block_days: found 366; allowed are 0 to 365";
    a_bypass_is_a_day_at_most: Error section("[verification]\nbypass_max_seconds = 86401") => "verification.bypass_max_seconds: found 86401";
    a_pin_has_four_digits_at_least: Error section("[pin]\nlength_min = 3\n[voice]\nfraud_code = \"1\"") => "pin.length_min: found 3; allowed are 4 to 10";
    a_pin_history_has_24_at_most: Error section("[pin]\nhistory = 25") => "pin.history: found 25; allowed are 0 to 24";
    a_pin_lives_a_year_at_most: Error section("[pin]\nlife_days = 366") => "pin.life_days: found 366";
    an_initial_pin_lives_a_day_at_least: Error section("[pin]\ninitial_days = 0") => "pin.initial_days: found 0; allowed are 1 to 90";
    a_pin_locks_after_20_tries_at_most: Error section("[pin]\nlock_tries = 21") => "pin.lock_tries: found 21; allowed are 1 to 20";
    tries_are_counted_within_a_day: Error section("[pin]\nlock_window_minutes = 0") => "pin.lock_window_minutes: found 0; allowed are 1 to 1440";
    a_lock_is_a_day_at_most: Error section("[pin]\nlock_minutes = 1441") => "pin.lock_minutes: found 1441; allowed are 0 to 1440";
    mailed_pins_are_said: Warning section("[pin]\ndanger_mail_initial_pin = true") => "pin.danger_mail_initial_pin: initial PINs are sent by mail";
    a_text_code_has_six_digits_at_least: Error section("[sms]\ndigits = 5") => "sms.digits: found 5; allowed are 6 to 8";
    a_text_code_lives_five_minutes_at_most: Error section("[sms]\nlife_seconds = 301") => "sms.life_seconds: found 301; allowed are 60 to 300";
    texts_a_prefix_are_bounded: Error section("[sms]\nper_prefix_and_hour = 0") => "sms.per_prefix_and_hour: found 0";
    texts_a_day_are_bounded: Error section("[sms]\nper_day = 100001") => "sms.per_day: found 100001";
    texts_go_to_countries: Error section("[sms]\ncountries = [\"DE\", \"D\"]") => "sms.countries: found \"D\"";
    texts_that_go_nowhere_are_said: Warning GOOD.to_owned() + &calls("", "").replace("[verification]\ncountry = \"DE\"\n", "") => "sms.countries: is empty, and so is verification.country";
    it_rings_a_minute_at_most: Error section("[voice]\nring_seconds = 61") => "voice.ring_seconds: found 61; allowed are 10 to 60";
    a_fraud_code_is_digits: Error section("[voice]\nfraud_code = \"0#\"") => "voice.fraud_code: found \"0#\"; allowed are 1 to 4 digits";
    a_fraud_code_has_four_digits_at_most: Error section("[voice]\nfraud_code = \"12345\"") => "voice.fraud_code: found \"12345\"";
    a_fraud_code_as_long_as_a_pin_is_said: Warning section("[voice]\nfraud_code = \"9999\"") => "voice.fraud_code: is as long as a PIN may be";
    an_event_has_a_known_name: Error GOOD.to_owned() + &mail("", "[mail.notify]\nfruad = [\"a@b.example\"]\n") => "mail.notify.fruad: no such event";
    an_event_goes_to_50_addresses_at_most: Error GOOD.to_owned() + &mail("", &format!("[mail.notify]\nfraud = {:?}\n", vec!["a@b.example"; 51])) => "mail.notify.fraud: found 51 addresses";
    an_event_goes_to_addresses: Error GOOD.to_owned() + &mail("", "[mail.notify]\nfraud = [\"nobody\"]\n") => "mail.notify.fraud: found \"nobody\"";
    mail_that_nobody_carries_is_said: Warning section("[mail]\nto_users = true") => "mail: no mail goes out";
    a_user_has_ten_devices_at_most: Error section("[push]\ndevices_max = 11") => "push.devices_max: found 11; allowed are 1 to 10";
    an_activation_is_open_ten_minutes_at_most: Error section("[push]\nactivation_minutes = 11") => "push.activation_minutes: found 11";
    a_device_is_forgotten_within_a_year: Error section("[push]\nunseen_days = 366") => "push.unseen_days: found 366";
    a_push_service_is_a_host: Error section("[push]\nhosts = [\"https://push.example.com\"]") => "push.hosts: found \"https://push.example.com\"";
    no_push_service_is_a_whole_top_level_domain: Error section("[push]\nhosts = [\"*.com\"]") => "push.hosts: found \"*.com\"";
    push_services_know_whom_to_write: Error section("[push]\ncontact = \"postmaster\"") => "push.contact: found \"postmaster\"";
    push_services_write_to_an_address: Error section("[push]\ncontact = \"mailto:postmaster\"") => "push.contact: found \"mailto:postmaster\"";
    push_services_read_a_secure_page: Error section("[push]\ncontact = \"http://example.com/contact\"") => "push.contact: found \"http://example.com/contact\"";
    a_text_stands_once: Error GOOD.to_owned() + &text("x") + &text("y") => "text.sms-code.de: this text stands twice";
    a_text_has_words: Error GOOD.to_owned() + &text("") => "text.sms-code.de.text: allowed are 1 to 4096";
    a_text_has_an_end: Error GOOD.to_owned() + &text(&"x".repeat(4097)) => "text.sms-code.de.text: allowed are 1 to 4096";
    a_text_of_an_unknown_application_is_said: Warning GOOD.to_owned() + &text("x") + "application = \"Mars\"\n" => "text.sms-code.de.application: found \"Mars\"";

    // --- policies
    a_policy_name_stands_once: Error policy("then = { refuse = true }") + "[[policy]]\nname = \"night\"\nthen = { refuse = true }\n" => "policy.night: this name stands twice";
    a_policy_names_clients_of_the_document: Error policy("when = { clients = [\"vnp\"] }\nthen = { refuse = true }") => "policy.night.when.clients: found \"vnp\"";
    a_policy_says_something: Error policy("then = {}") => "policy.night.then: says nothing";
    a_policy_that_refuses_says_nothing_more: Error policy("then = { refuse = true, exempt = true }") => "policy.night.then: refuses and says something else";
    a_policy_that_exempts_asks_for_nothing: Error policy("then = { exempt = true, pin = true }") => "policy.night.then: exempts and asks";
    a_week_has_seven_days: Error policy("when = { time = { days = [0], from = \"20:00\", to = \"06:00\" } }\nthen = { refuse = true }") => "policy.night.when.time.days: found 0";
    a_day_has_24_hours: Error policy("when = { time = { from = \"24:00\", to = \"06:00\" } }\nthen = { refuse = true }") => "policy.night.when.time.from: found \"24:00\"";
    an_hour_has_60_minutes: Error policy("when = { time = { from = \"20:00\", to = \"06:60\" } }\nthen = { refuse = true }") => "policy.night.when.time.to: found \"06:60\"";
    a_zone_is_14_hours_at_most: Error policy("when = { time = { from = \"20:00\", to = \"06:00\", utc_offset_minutes = 841 } }\nthen = { refuse = true }") => "policy.night.when.time.utc_offset_minutes: found 841";
    a_policy_group_is_named: Error policy("when = { groups = [\"\"] }\nthen = { refuse = true }") => "policy.night.when.groups: holds an empty text";
    a_policy_asks_a_vpn_for_no_passkey: Error policy("when = { clients = [\"vpn\"] }\nthen = { methods = [\"passkey\"] }") => "policy.night.then.methods: \"passkey\" works at the portal only";
    a_policy_method_nobody_carries_is_said: Warning policy("then = { methods = [\"sms\"] }") => "policy.night.then.methods: \"sms\" needs";

    // --- providers
    a_provider_name_stands_once: Error GOOD.to_owned() + &relay() + &relay() => "provider.relay: this name stands twice";
    a_provider_carries_what_its_adapter_can: Error GOOD.to_owned() + &mail("", "").replace("channel = \"mail\"", "channel = \"sms\"") + "[verification]\ncountry = \"DE\"\n" => "provider.relay.channel: found \"sms\"; this kind of adapter carries \"mail\"";
    a_provider_answers_within_30_seconds: Error GOOD.to_owned() + &mail("timeout_seconds = 31\n", "") => "provider.relay.timeout_seconds: found 31; allowed are 1 to 30";
    a_provider_gives_its_secret_itself: Error GOOD.to_owned() + &calls("", "").replace("secret = \"keep\"", "secret = \"generate\"") => "provider.pbx.secret: is \"generate\"";
    a_pbx_knows_us_by_a_secret: Error GOOD.to_owned() + &calls("", "").replace("secret = \"keep\"\n", "") => "provider.pbx.secret: is missing";
    a_pbx_signs_nothing: Error GOOD.to_owned() + &calls("webhook_secret = \"keep\"\n", "") => "provider.pbx.webhook_secret: is for providers that call Twinlock";
    a_pbx_is_reached_by_tls: Error GOOD.to_owned() + &calls("", "").replace("https://pbx.example.com", "http://pbx.example.com") => "provider.pbx.adapter.base_url: found \"http://pbx.example.com:8089/ari\"; http is for this host alone";
    a_pbx_has_an_address: Error GOOD.to_owned() + &calls("", "").replace("https://pbx.example.com", "pbx.example.com") => "provider.pbx.adapter.base_url: found \"pbx.example.com:8089/ari\"";
    a_pbx_dials_the_phone: Error GOOD.to_owned() + &calls("", "").replace("{phone}", "+49") => "provider.pbx.adapter.endpoint: found";
    a_pbx_certificate_is_pem: Error GOOD.to_owned() + &calls("", ", ca = \"/etc/ca.pem\"") => "provider.pbx.adapter.ca: is no certificate";
    a_caller_is_a_number: Error GOOD.to_owned() + &twiml("030 901820") => "provider.voice.adapter.caller: a phone number is written";
    a_relay_elsewhere_uses_tls: Error GOOD.to_owned() + &mail("", "").replace("sender =", "tls = \"danger_none\", sender =") => "provider.relay.adapter.tls: \"danger_none\" is for a relay on this host";
    a_relay_here_without_tls_is_said: Warning GOOD.to_owned() + &mail("", "").replace("mx.example.com", "127.0.0.1").replace("sender =", "tls = \"danger_none\", sender =") => "provider.relay.adapter.tls: mail leaves in clear text";
    a_relay_is_a_host: Error GOOD.to_owned() + &mail("", "").replace("mx.example.com", "mx.example.com:25") => "provider.relay.adapter.host: found \"mx.example.com:25\"";
    a_relay_has_a_port: Error GOOD.to_owned() + &mail("", "").replace("sender =", "port = 0, sender =") => "provider.relay.adapter.port: found 0";
    a_relay_user_has_a_secret: Error GOOD.to_owned() + &mail("", "").replace("sender =", "user = \"twinlock\", sender =") => "provider.relay.secret: is missing";
    mail_has_a_sender: Error GOOD.to_owned() + &mail("", "").replace("mfa@example.com", "nobody") => "provider.relay.adapter.sender: found \"Second lock <nobody>\"";
    answers_go_to_an_address: Error GOOD.to_owned() + &mail("", "").replace("sender =", "reply_to = \"nobody\", sender =") => "provider.relay.adapter.reply_to: found \"nobody\"";
    a_text_gateway_has_an_address: Error sms("kind = \"http\", form = { to = \"{phone}\", body = \"{text}\" }") => "provider.sms.adapter.url: is empty";
    a_text_gateway_is_reached_by_tls: Error sms(&HTTP.replace("https://", "http://")) => "provider.sms.adapter.url: found \"http://sms.example.com/send\"; http is for this host alone";
    a_host_is_chosen_by_no_placeholder: Error sms(&HTTP.replace("sms.example.com", "{account}.example.com")) => "provider.sms.adapter.url: found \"https://{account}.example.com/send\"";
    a_request_names_the_phone: Error sms(&HTTP.replace("{phone}", "+49")) => "provider.sms.adapter.form: {phone} stands nowhere";
    a_request_holds_the_text: Error sms(&HTTP.replace("{text}", "hello")) => "provider.sms.adapter.form: {text} stands nowhere";
    a_placeholder_is_known: Error sms(&HTTP.replace("\"{text}\"", "\"{text}{pin}\"")) => "provider.sms.adapter.url: found {pin}";
    a_request_has_one_body: Error sms(&(HTTP.to_owned() + ", json = \"{}\"")) => "provider.sms.adapter.json: and form are both set";
    a_program_lies_in_its_folder: Error sms("kind = \"script\", program = \"../../bin/sh\"") => "provider.sms.adapter.program: found \"../../bin/sh\"; write the name of a file";
    a_program_has_a_name: Error sms("kind = \"script\", program = \"\"") => "provider.sms.adapter.program: found \"\"";
    a_program_is_told_the_number: Error sms("kind = \"script\", program = \"send\", arguments = []") => "provider.sms.adapter.arguments: {phone} stands nowhere";
    a_text_is_no_argument: Error sms("kind = \"script\", program = \"send\", arguments = [\"{phone}\", \"{text}\"]") => "provider.sms.adapter.arguments: found {text}";
    an_argument_is_one_line: Error sms("kind = \"script\", program = \"send\", arguments = [\"{phone}\\n\"]") => "provider.sms.adapter.arguments: hold control";
    a_program_gets_no_secret: Error sms("kind = \"script\", program = \"send\"").replace("[sms]", "secret = \"file:sms.secret\"\n[sms]") => "provider.sms.secret: has no use here";
    a_get_has_no_body: Error sms(&(HTTP.to_owned() + ", method = \"GET\"")) => "provider.sms.adapter.method: is \"GET\"";
    a_header_is_a_token: Error sms(&(HTTP.to_owned() + ", headers = { \"X Y\" = \"1\" }")) => "provider.sms.adapter.headers: \"X Y\" is no header";
    an_answer_has_three_digits: Error sms(&(HTTP.to_owned() + ", success = [20]")) => "provider.sms.adapter.success: found 20";
    a_pointer_begins_with_a_slash: Error sms(&(HTTP.to_owned() + ", id_pointer = \"id\"")) => "provider.sms.adapter.id_pointer: found \"id\"";
    a_secret_that_is_asked_for_is_there: Error sms(&HTTP.replace("\"{text}\"", "\"{text}\", key = \"{secret}\"")) => "provider.sms.secret: is missing";
    an_authorization_is_made_of_a_secret_that_is_there: Error sms(&(HTTP.to_owned() + ", headers = { Authorization = \"Basic {basic}\" }")) => "provider.sms.secret: is missing";
    twilio_needs_an_account: Error sms("kind = \"http\", preset = \"twilio\"").replace("enabled = true", "secret = \"keep\"") => "provider.sms.adapter.account: is empty";
    a_box_of_ones_own_has_an_address: Error sms("kind = \"http\", preset = \"gammu\"") => "provider.sms.adapter.url: is empty";
    an_smsc_has_host_and_port: Error sms(&SMPP.replace(":3550", "")).replace("enabled = true", "secret = \"keep\"") => "provider.sms.adapter.address: found \"smsc.example.com\"";
    an_smsc_in_clear_text_is_said: Warning sms(&SMPP.replace("tls = true", "tls = false")).replace("enabled = true", "secret = \"keep\"") => "provider.sms.adapter.tls: is false";
    an_smsc_window_is_100_at_most: Error sms(&(SMPP.to_owned() + ", window = 101")).replace("enabled = true", "secret = \"keep\"") => "provider.sms.adapter.window: found 101";
    an_smsc_is_asked_every_five_seconds_at_most: Error sms(&(SMPP.to_owned() + ", enquire_seconds = 4")).replace("enabled = true", "secret = \"keep\"") => "provider.sms.adapter.enquire_seconds: found 4";
    an_smsc_name_has_15_signs_at_most: Error sms(&SMPP.replace("twinlock", "0123456789abcdef")).replace("enabled = true", "secret = \"keep\"") => "provider.sms.adapter.system_id: allowed are 1 to 15";
    a_mail_gateway_names_the_phone: Error sms(&GATEWAY.replace("{phone}", "all")) + &relay() => "provider.sms.adapter.to: found";
    a_mail_gateway_holds_the_text: Error sms(&GATEWAY.replace("{text}", "hello")) + &relay() => "provider.sms.adapter.body: lacks {text}";
    a_mail_gateway_without_mail_is_said: Warning sms(GATEWAY) => "provider.sms: sends by mail, but there is no enabled";

    // --- LDAP
    an_ldap_client_has_no_secret: Error client("gitlab", "secret = \"keep\"") => "client.gitlab.secret: is a key of RADIUS clients";
    an_ldap_client_without_appended_codes_is_said: Warning with("appended = \"required\"\n", "") => "client.gitlab.appended: is \"off\"";
    a_service_account_has_a_name: Error with("{ name = \"cn=gitlab,dc=corp,dc=example\" }", "{ name = \"\" }") => "client.gitlab.service_accounts: an account has an empty name";

    // --- directories
    a_directorys_ca_is_a_certificate: Error directory("ca = \"/etc/ssl/corp.pem\"") => "directory.corp.ca: is no certificate as PEM text";
    a_directorys_ca_is_not_empty: Error directory("ca = \"\"") => "directory.corp.ca: is empty";
    a_default_domain_is_a_domain: Error directory("default_domain = \"@corp.example\"") => "directory.corp.default_domain: found \"@corp.example\"";
    a_short_domain_is_a_domain: Error directory("netbios_domain = 'CORP\\'") => "directory.corp.netbios_domain: found";
    an_alternate_attribute_has_a_name: Error directory("attributes = { alternate = \"\" }") => "directory.corp.attributes.alternate: is empty";
    an_alternate_directory_exists: Error directory("alternate_directories = [\"other\"]") => "directory.corp.alternate_directories: found \"other\"; the directories are corp";
    an_alternate_directory_is_another: Error directory("attributes = { alternate = \"mail\" }\nalternate_directories = [\"corp\"]") => "directory.corp.alternate_directories: found corp twice";
    an_alternate_directory_has_alternate_names: Error directory("alternate_directories = [\"second\"]") + SECOND => "directory.corp.alternate_directories: directory second has no attributes.alternate";
    a_directory_has_a_server: Error with("urls = [\"ldaps://dc1.corp.example\", \"ldap://dc2.corp.example:389\"]", "urls = []") => "directory.corp.urls: found 0; allowed are 1 to 16";
    a_directory_has_at_most_16_servers: Error with("urls = [\"ldaps://dc1.corp.example\", \"ldap://dc2.corp.example:389\"]", &format!("urls = {:?}", vec!["ldaps://x"; 17])) => "directory.corp.urls: found 17";
    a_server_is_ldap_or_ldaps: Error with("ldaps://dc1.corp.example", "https://dc1.corp.example") => "directory.corp.urls: found \"https://dc1.corp.example\"";
    a_server_has_a_host: Error with("ldaps://dc1.corp.example", "ldaps://") => "directory.corp.urls: found \"ldaps://\"";
    a_connect_time_is_a_second_at_least: Error with("connect_timeout_seconds = 3", "connect_timeout_seconds = 0") => "directory.corp.connect_timeout_seconds: found 0; allowed are 1 to 30";
    an_operation_ends_within_two_minutes: Error with("\ntimeout_seconds = 10", "\ntimeout_seconds = 121") => "directory.corp.timeout_seconds: found 121; allowed are 1 to 120";
    a_page_has_at_most_5000_entries: Error with("page_size = 1000", "page_size = 5001") => "directory.corp.page_size: found 5001; allowed are 1 to 5000";
    a_user_filter_is_rfc_4515: Error directory("user_filter = \"(uid=\"") => "directory.corp.user_filter: found \"(uid=\"";
    a_group_filter_is_rfc_4515: Error directory("group_filter = \"cn=x\"") => "directory.corp.group_filter: found \"cn=x\"";
    a_container_filter_is_rfc_4515: Error directory("container_filter = \"(objectClass=ou\"") => "directory.corp.container_filter: found \"(objectClass=ou\"; ')' expected at position 15;";
    a_base_is_rfc_4514: Error with("base = \"dc=corp,dc=example\"", "base = \"dc=corp,example\"") => "directory.corp.base: found \"dc=corp,example\"; '=' expected at position 15;";
    a_filter_has_at_most_4096_characters: Error directory(&format!("user_filter = \"(uid={})\"", "x".repeat(4096))) => "directory.corp.user_filter: is longer than 4096";
    an_anonymous_bind_proves_no_password: Error directory("authentication_bind = { kind = \"anonymous\" }") => "directory.corp.authentication_bind.kind: \"anonymous\" proves nothing";
    a_simple_bind_needs_the_danger_key: Error directory("authentication_bind = { kind = \"simple\" }") => "directory.corp.danger_clear_text: \"simple\" sends passwords in clear text";
    clear_text_in_use_is_said: Warning directory("danger_clear_text = true") => "directory.corp.danger_clear_text: passwords may cross the network";
    a_query_bind_has_a_name: Error with("name = \"cn=twinlock\", ", "") => "directory.corp.query_bind.name: is empty";
    an_account_of_synchronisation_has_a_name: Error directory("sync_bind = { kind = \"tls\", password = \"keep\" }") => "directory.corp.sync_bind.name: is empty";
    an_account_of_synchronisation_has_a_password: Error directory("sync_bind = { kind = \"tls\", name = \"cn=sync\" }") => "directory.corp.sync_bind.password: is missing";
    an_account_of_synchronisation_is_one: Error directory("sync_bind = { kind = \"anonymous\" }") => "directory.corp.sync_bind.kind: \"anonymous\" is no account";
    a_simple_bind_of_synchronisation_needs_the_danger_key: Error directory("sync_bind = { kind = \"simple\", name = \"cn=sync\", password = \"keep\" }") => "directory.corp.danger_clear_text: \"simple\" sends passwords in clear text";
    a_query_bind_has_a_password: Error with(", password = \"keep\"", "") => "directory.corp.query_bind.password: is missing";
}

const DICTIONARY: &str = "[[dictionary]]\nname = \"own\"\ntext = \"VENDOR Own 99999\"\n";

/// A target with these keys beside its name.
fn target(keys: &str) -> String {
    format!("[[target]]\nname = \"home\"\ndirectory = \"corp\"\n{keys}\n")
}

fn server(keys: &str) -> String {
    format!("[[target.servers]]\n{keys}\n")
}

/// A RADIUS target whose one server has more keys.
fn servers(keys: &str) -> String {
    target("kind = \"radius\"") + &server(&format!("address = \"10.0.0.5\"\nsecret = \"keep\"\n{keys}"))
}

fn over_tls(keys: &str) -> String {
    servers(&format!("transport = \"tls\"\n{keys}")).replace("secret = \"keep\"\n", "")
}

/// A RADIUS target with more keys of its own.
fn timers(keys: &str) -> String {
    servers("").replace("kind = \"radius\"", &format!("kind = \"radius\"\n{keys}"))
}

/// The VPN at that target, with more keys.
fn at_home(keys: &str) -> String {
    client("vpn", keys).replacen("target = \"corp\"", "target = \"home\"", 1) + &servers("")
}

/// The VPN at a Windows domain, with more keys.
fn in_domain(keys: &str) -> String {
    client("vpn", keys).replacen("target = \"corp\"", "target = \"home\"", 1) + &target("kind = \"windows_domain\"")
}

/// A client that is known by its certificate.
fn tls_client(name: &str, certificate: &str) -> String {
    client(name, &format!("transport = \"tls\"\ncertificates = [\"{certificate}\"]")).replace("secret = \"keep\"\n", "")
}

#[test]
fn what_a_target_can_check_may_be_listed_and_so_may_every_form_of_a_name() {
    // R-56, R-60
    assert_eq!(found(&client("vpn", "password_protocols = [\"pap\"]")), []);
    assert_eq!(found(&in_domain("password_protocols = [\"pap\", \"ms_chap2\"]")), []);
    let all = "password_protocols = [\"pap\", \"chap\", \"ms_chap\", \"ms_chap2\", \"eap\", \"arap\"]\n";
    assert_eq!(found(&at_home(all)), []);
    let forms = domain::NameForm::ALL.map(|form| format!("{:?}", form.code())).join(", ");
    for name in ["vpn", "gitlab"] {
        assert_eq!(found(&client(name, &format!("name_forms = [{forms}]"))), []);
    }
}

#[test]
fn good_targets_dictionaries_and_replies_have_no_problems() {
    for document in [
        GOOD.to_owned() + &servers(""),
        GOOD.to_owned() + &servers("") + &server("address = \"radius.example.com\"\nsecret = \"generate\""),
        GOOD.to_owned()
            + &servers("")
            + &server("address = \"10.0.0.5\"\nauthentication_port = 11812\nsecret = \"keep\""),
        GOOD.to_owned()
            + &over_tls(
                "server_name = \"a.example\"\nca = \"-----BEGIN CERTIFICATE-----\"\nmessage_authenticator = \"no\"",
            ),
        GOOD.to_owned() + &target("kind = \"windows_domain\"\ndomain = \"CORP\""),
        directory("netbios_domain = \"Corp\"") + &target("kind = \"windows_domain\"\ndomain = \"CORP\""),
        GOOD.to_owned() + DICTIONARY,
        GOOD.replacen(
            "protocol = \"radius\"",
            "protocol = \"radius\"\nreply = [{ set = { Own-Colour = \"Red\" } }]",
            1,
        ) + "[[dictionary]]\nname = \"own\"\ntext = \"\"\"\nVENDOR Own 99999\nBEGIN-VENDOR Own\nATTRIBUTE Own-Colour 1 integer\n\
               VALUE Own-Colour Red 1\nEND-VENDOR Own\n\"\"\"\n",
        at_home("target_attributes = [\"Class\", \"Filter-Id\"]\naccounting = \"forward\""),
        at_home("").replace("target = \"home\"", "target = \"home\"\naccounting = \"discard\""),
        client("vpn", "charset = \"latin1\"\nchallenge_seconds = 30\nanswers_max = 5\naccounting = \"store\""),
        client(
            "vpn",
            "reply = [{ when_group = \"S-1-5-21-1-1104\", set = { Class = \"{mail}\", Session-Timeout = 60, \"Tunnel-Type:1\" = \"VLAN\", Cisco-AVPair = [\"a=1\", \"b={sAMAccountName;x-y}\"] } }]",
        ),
        // One device over UDP, the same over TLS: the certificate tells them apart.
        tls_client("vpn", "dns:vpn.example.com") + &second_vpn("10.0.4.0/28"),
        tls_client("vpn", &format!("sha256:{}", "aB".repeat(32))),
    ] {
        assert_eq!(found(&document), [], "{document}");
    }
}

const HTTP: &str =
    "kind = \"http\", url = \"https://sms.example.com/send\", form = { to = \"{phone}\", body = \"{text}\" }";
const SMPP: &str = "kind = \"smpp\", address = \"smsc.example.com:3550\", tls = true, system_id = \"twinlock\"";
const GATEWAY: &str = "kind = \"mail_gateway\", to = \"{phone}@sms.example.com\", body = \"{text}\"";

/// The good document with one more section.
fn section(text: &str) -> String {
    format!("{GOOD}\n{text}\n")
}

fn policy(text: &str) -> String {
    section(&format!("[[policy]]\nname = \"night\"\n{text}"))
}

fn text(words: &str) -> String {
    format!("\n[[text]]\nkey = \"sms-code\"\nlanguage = \"de\"\ntext = \"{words}\"\n")
}

/// A provider of texts, and the country they go to.
fn sms(adapter: &str) -> String {
    section(&format!(
        "[[provider]]\nname = \"sms\"\nchannel = \"sms\"\nenabled = true\nadapter = {{ {adapter} }}\n[sms]\ncountries = [\"DE\"]"
    ))
}

fn relay() -> String {
    "[[provider]]\nname = \"relay\"\nchannel = \"mail\"\n\
     adapter = { kind = \"smtp\", host = \"mx.example.com\", sender = \"Second lock <mfa@example.com>\" }\n"
        .to_owned()
}

/// A relay, and perhaps a section after it.
fn mail(keys: &str, section: &str) -> String {
    relay().replace("channel", &format!("{keys}channel")) + section
}

/// A PBX, and the country it calls.
fn calls(keys: &str, in_adapter: &str) -> String {
    format!(
        "[[provider]]\nname = \"pbx\"\nchannel = \"voice\"\n{keys}secret = \"keep\"\n\
         adapter = {{ kind = \"ari\", base_url = \"https://pbx.example.com:8089/ari\", user = \"twinlock\", \
         application = \"twinlock\", endpoint = \"PJSIP/{{phone}}@trunk\"{in_adapter} }}\n[verification]\ncountry = \"DE\"\n"
    )
}

fn twiml(caller: &str) -> String {
    format!(
        "[[provider]]\nname = \"voice\"\nchannel = \"voice\"\nsecret = \"keep\"\nadapter = {{ kind = \"twiml\", \
         base_url = \"https://api.example.com\", account = \"a\", caller = \"{caller}\" }}\n[verification]\ncountry = \"DE\"\n"
    )
}

#[test]
fn good_providers_policies_and_texts_have_no_problems() {
    let policy = "[[policy]]\nname = \"night\"\nwhen = { clients = [\"vpn\", \"portal\"], networks = [\"10.0.0.0/8\"], \
                  time = { days = [6, 7], from = \"20:00\", to = \"06:00\", utc_offset_minutes = 60 } }\n\
                  then = { methods = [\"code\", \"passkey\"] }\n";
    for document in [
        section(policy),
        sms(HTTP),
        sms(&HTTP.replace("https://sms.example.com", "http://127.0.0.1:8080")),
        sms(&HTTP.replace("{phone}", "{digits}").replace("\"{text}\"", "\"{text}\", report = \"{callback}\"")),
        sms(SMPP).replace("enabled = true", "secret = \"keep\""),
        sms(GATEWAY) + &relay(),
        GOOD.to_owned() + &calls("", ""),
        GOOD.to_owned() + &twiml("+4930901820"),
        GOOD.to_owned() + &mail("", "[mail]\nto_users = true\n[mail.notify]\nfraud = [\"soc@example.com\"]\n"),
        GOOD.to_owned() + &text("Your code: { $code }") + "application = \"VPN\"\n",
        client("vpn", "when_unavailable = \"pass\"\nwhen_unavailable_until = \"2027-01-31T18:00:00+01:00\""),
        client("vpn", "challenge = \"no\""),
        client("vpn", "person_address = \"framed_address\"\ntrusted_networks = [\"10.0.0.0/8\"]"),
        client("vpn", "least_assurance = \"number_matched\"\npin = true"),
        client("gitlab", "remember = { kind = \"user\" }"),
    ] {
        assert_eq!(found(&document), [], "{document}");
    }
}

#[test]
fn an_end_of_observing_is_a_time_within_90_days() {
    // FB-04
    const NOW_MS: i64 = 1_795_176_000_000; // 2026-11-20T12:00:00Z
    let found_for = |until: &str| {
        let document = client("vpn", &format!("observe_until = \"{until}\""));
        let settings: Settings = toml::from_str(&document).expect("a document of the right form");
        let formal: Vec<String> =
            found(&document).into_iter().filter(|it| it.0 == Severity::Error).map(|it| it.1).collect();
        (formal, user_store::observed_for_too_long(&settings, NOW_MS))
    };
    let (formal, _) = found_for("tomorrow");
    assert!(formal[0].starts_with("client.vpn.observe_until: found \"tomorrow\"; a time is written"), "{formal:?}");
    for good in ["2027-02-18T12:00:00Z", "2026-11-21T12:00:00+01:00", "2020-01-01T00:00:00Z"] {
        assert_eq!(found_for(good), (vec![], vec![]), "{good}");
    }
    let (formal, too_long) = found_for("2027-02-18T12:00:01Z");
    assert_eq!(formal, [""; 0]);
    assert!(too_long[0].starts_with("client.vpn.observe_until: found \"2027-02-18T12:00:01Z\""), "{too_long:?}");
}

fn second_vpn(source: &str) -> String {
    format!(
        "[[client]]\nname = \"vpn2\"\nprotocol = \"radius\"\nsources = [\"{source}\"]\ntarget = \"corp\"\nsecret = \"keep\"\n"
    )
}

#[test]
fn radius_and_ldap_clients_may_ask_from_the_same_network() {
    // R-71: the protocol tells them apart
    assert_eq!(found(&with("sources = [\"10.0.7.9/32\"]", "sources = [\"10.0.4.0/28\"]")), []);
}

#[test]
fn an_address_of_ipv4_and_the_same_written_as_ipv6_are_not_confused() {
    assert_eq!(found(&with("sources = [\"10.0.7.9/32\"]", "sources = [\"2001:db8::/32\"]")), []);
}

#[test]
fn every_mistake_is_found_at_once() {
    let document = with("wait_seconds = 55", "wait_seconds = 1").replace("page_size = 1000", "page_size = 0");
    let keys: Vec<String> = found(&document).into_iter().map(|(_, text)| text).collect();
    assert_eq!(keys.len(), 2, "{keys:?}");
}
