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

fn found(document: &str) -> Vec<(Severity, String)> {
    let settings: Settings = toml::from_str(document).expect("a document of the right form");
    user_store::problems(&settings).into_iter().map(|it| (it.severity, it.to_string())).collect()
}

/// The good document with one thing put for another.
fn with(old: &str, new: &str) -> String {
    assert!(GOOD.contains(old), "the good document has no {old:?}");
    GOOD.replacen(old, new, 1)
}

/// The good document with more keys for one client.
fn client(name: &str, keys: &str) -> String {
    with(&format!("name = \"{name}\"\nprotocol"), &format!("name = \"{name}\"\n{keys}\nprotocol"))
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
    assert_eq!(found(""), [], "an empty store");
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
    approval_is_a_share: Error with("approval_over_percent = 5", "approval_over_percent = 101") => "sync.approval_over_percent: found 101; allowed are 1 to 100";
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

    // --- RADIUS
    a_radius_client_has_a_secret: Error with("secret = \"keep\"\n", "") => "client.vpn.secret: is missing";
    both_protections_off_needs_the_danger_key: Error client("vpn", "message_authenticator = \"no\"\nlimit_proxy_state = \"no\"") => "client.vpn.message_authenticator: does not demand it, and limit_proxy_state is \"no\"";
    learning_with_the_limit_off_needs_the_danger_key: Error with("sources = [\"10.0.4.0/28\"]", "sources = [\"10.0.4.3/32\"]\nmessage_authenticator = \"auto\"\nlimit_proxy_state = \"no\"") => "client.vpn.message_authenticator: does not demand it";
    an_ipv4_source_is_written_as_one: Error with("sources = [\"10.0.7.9/32\"]", "sources = [\"::ffff:10.0.7.9/128\"]") => "client.gitlab.sources: holds an IPv4 address in IPv6 form";
    the_danger_key_in_use_is_said: Warning client("vpn", "message_authenticator = \"no\"\nlimit_proxy_state = \"no\"\ndanger_accept_blastradius = true") => "client.vpn.danger_accept_blastradius: forged answers are accepted";
    a_network_teaches_nothing: Error client("vpn", "message_authenticator = \"auto\"") => "client.vpn.message_authenticator: \"auto\" needs single addresses";
    a_code_can_be_given_somehow: Error client("vpn", "challenge = \"no\"") => "client.vpn.challenge: is \"no\" and appended is \"off\"";
    service_accounts_are_for_ldap: Error client("vpn", "service_accounts = [{ name = \"cn=x\" }]") => "client.vpn.service_accounts: is a key of LDAP clients";
    tls_is_for_ldap: Error client("vpn", "tls = \"danger_optional\"") => "client.vpn.tls: is a key of LDAP clients";
    anonymous_is_for_ldap: Error client("vpn", "anonymous = \"forward\"") => "client.vpn.anonymous: is a key of LDAP clients";
    operations_are_for_ldap: Error client("vpn", "operations = \"read\"") => "client.vpn.operations: is a key of LDAP clients";
    referrals_are_for_ldap: Error client("vpn", "referrals = \"pass\"") => "client.vpn.referrals: is a key of LDAP clients";

    // --- LDAP
    an_ldap_client_has_no_secret: Error client("gitlab", "secret = \"keep\"") => "client.gitlab.secret: is a key of RADIUS clients";
    an_ldap_client_without_appended_codes_is_said: Warning with("appended = \"required\"\n", "") => "client.gitlab.appended: is \"off\"";
    a_service_account_has_a_name: Error with("{ name = \"cn=gitlab,dc=corp,dc=example\" }", "{ name = \"\" }") => "client.gitlab.service_accounts: an account has an empty name";

    // --- directories
    a_directory_has_a_server: Error with("urls = [\"ldaps://dc1.corp.example\", \"ldap://dc2.corp.example:389\"]", "urls = []") => "directory.corp.urls: found 0; allowed are 1 to 16";
    a_directory_has_at_most_16_servers: Error with("urls = [\"ldaps://dc1.corp.example\", \"ldap://dc2.corp.example:389\"]", &format!("urls = {:?}", vec!["ldaps://x"; 17])) => "directory.corp.urls: found 17";
    a_server_is_ldap_or_ldaps: Error with("ldaps://dc1.corp.example", "https://dc1.corp.example") => "directory.corp.urls: found \"https://dc1.corp.example\"";
    a_server_has_a_host: Error with("ldaps://dc1.corp.example", "ldaps://") => "directory.corp.urls: found \"ldaps://\"";
    a_directory_has_a_base: Error with("base = \"dc=corp,dc=example\"", "base = \"\"") => "directory.corp.base: is empty";
    a_connect_time_is_a_second_at_least: Error with("connect_timeout_seconds = 3", "connect_timeout_seconds = 0") => "directory.corp.connect_timeout_seconds: found 0; allowed are 1 to 30";
    an_operation_ends_within_two_minutes: Error with("\ntimeout_seconds = 10", "\ntimeout_seconds = 121") => "directory.corp.timeout_seconds: found 121; allowed are 1 to 120";
    a_page_has_at_most_5000_entries: Error with("page_size = 1000", "page_size = 5001") => "directory.corp.page_size: found 5001; allowed are 1 to 5000";
    a_user_filter_is_rfc_4515: Error directory("user_filter = \"(uid=\"") => "directory.corp.user_filter: found \"(uid=\"";
    a_group_filter_is_rfc_4515: Error directory("group_filter = \"cn=x\"") => "directory.corp.group_filter: found \"cn=x\"";
    a_filter_has_at_most_4096_characters: Error directory(&format!("user_filter = \"(uid={})\"", "x".repeat(4096))) => "directory.corp.user_filter: is longer than 4096";
    an_anonymous_bind_proves_no_password: Error directory("authentication_bind = { kind = \"anonymous\" }") => "directory.corp.authentication_bind.kind: \"anonymous\" proves nothing";
    a_simple_bind_needs_the_danger_key: Error directory("authentication_bind = { kind = \"simple\" }") => "directory.corp.danger_clear_text: \"simple\" sends passwords in clear text";
    clear_text_in_use_is_said: Warning directory("danger_clear_text = true") => "directory.corp.danger_clear_text: passwords may cross the network";
    a_query_bind_has_a_name: Error with("name = \"cn=twinlock\", ", "") => "directory.corp.query_bind.name: is empty";
    a_query_bind_has_a_password: Error with(", password = \"keep\"", "") => "directory.corp.query_bind.password: is missing";
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
