//! What is wrong with the settings of synchronisation, one test a rule: a good document, one thing changed, and exactly that is
//! found, with its key, what was found and what is allowed (B-96).

use domain::settings::{Settings, Severity};

const GOOD: &str = r#"
[sync]
enabled = true
approval_over_percent = 0
preferred_nodes = ["sync-1.corp.example"]

[[directory]]
name = "corp"
preset = "openldap"
urls = ["ldaps://dc1.corp.example"]
base = "dc=corp,dc=example"
query_bind = { kind = "tls", name = "cn=twinlock", password = "keep" }
country = "DE"
feed = "syncrepl"

[directory.attributes]
username = ["uid", "mail"]
extension = "1.3.6.1.4.1.4203.666.1"
user_group = "department;lang-en"
languages = { call = "preferredLanguage" }
phones = { custom = "otherMobile", fax = "" }

[[sync_item]]
name = "people"
directory = "corp"
source = { kind = "container", dn = "ou=people,dc=corp,dc=example" }
primary_phone = ["mobile", "custom"]
backup_phone = ["home"]

[[sync_item]]
name = "rest"
directory = "corp"
source = { kind = "domain" }
"#;

fn found(document: &str) -> Vec<(Severity, String)> {
    let settings: Settings = toml::from_str(document).expect("a document of the right form");
    settings.problems().into_iter().map(|it| (it.severity, it.to_string())).collect()
}

/// The good document with one thing put for another.
fn with(old: &str, new: &str) -> String {
    assert!(GOOD.contains(old), "the good document has no {old:?}");
    GOOD.replacen(old, new, 1)
}

fn schedule(keys: &str) -> String {
    with("enabled = true", &format!("enabled = true\n{keys}"))
}

fn directory(keys: &str) -> String {
    with("name = \"corp\"", &format!("name = \"corp\"\n{keys}"))
}

fn attributes(keys: &str) -> String {
    with("extension =", &format!("{keys}\nextension ="))
}

/// The good document with more keys for its first item.
fn item(keys: &str) -> String {
    with("name = \"people\"", &format!("name = \"people\"\n{keys}"))
}

fn source(text: &str) -> String {
    with("kind = \"container\", dn = \"ou=people,dc=corp,dc=example\"", text)
}

/// The good document with one more item, before the one that takes everybody.
fn second(keys: &str) -> String {
    with(
        "[[sync_item]]\nname = \"rest\"",
        &format!("[[sync_item]]\nname = \"second\"\ndirectory = \"corp\"\n{keys}\n\n[[sync_item]]\nname = \"rest\""),
    )
}

#[test]
fn a_first_pin_is_mailed_where_mail_goes_out_and_somebody_asks_for_it() {
    // FS-31
    let found_with = |method: &str, rest: &str| {
        let document =
            format!("[pin]\ndanger_mail_initial_pin = true\n{}{rest}", item(&format!("method = {{ {method} }}")));
        let found = found(&document).into_iter().map(|(_, text)| text);
        found
            .filter_map(|text| text.split_once("method.initial_pin: ").map(|(_, why)| why.to_owned()))
            .collect::<Vec<_>>()
    };
    let mail = "\n[[provider]]\nname = \"relay\"\nchannel = \"mail\"\n\
                adapter = { kind = \"smtp\", host = \"relay.corp.example\", sender = \"it@corp.example\" }\n";
    let unasked = "is \"mailed\", and nobody asks these users for a PIN: set method.pin = true";
    let unsent = "is \"mailed\", and no mail goes out: there is no enabled [[provider]] with channel = \"mail\"";
    assert_eq!(found_with("pin = true, initial_pin = \"mailed\"", mail), [""; 0]);
    assert_eq!(found_with("initial_pin = \"mailed\"", mail), [unasked]);
    assert_eq!(found_with("pin = true, initial_pin = \"mailed\"", ""), [unsent]);
    let asked = "\n[[policy]]\nname = \"all\"\nthen = { pin = true }\n";
    assert_eq!(found_with("initial_pin = \"mailed\"", &format!("{mail}{asked}")), [""; 0]);
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

/// A source of so many users.
fn users(ids: impl IntoIterator<Item = u32>) -> String {
    let ids = ids.into_iter().map(|number| format!("\"entryUUID:00000000-0000-0000-0000-{number:012}\""));
    format!("kind = \"users\", ids = [{}]", ids.collect::<Vec<_>>().join(", "))
}

#[test]
fn good_items_have_no_problems() {
    assert_eq!(found(GOOD), []);
    for more in [
        second("source = { kind = \"group\", dn = \"cn=vpn,dc=corp,dc=example\", nested = false }"),
        second("source = { kind = \"group\", id = \"entryUUID:aabbccdd-0011-2233-4455-66778899aabb\" }"),
        second("filter = \"(l=x)\"\nsource = { kind = \"container\", dn = \"ou=people,dc=corp,dc=example\" }"),
        second("state = \"off\"\nleavers = \"keep\"\nsource = { kind = \"domain\" }"),
        second("source = { kind = \"users\", ids = [\"entryUUID:aabbccdd-0011-2233-4455-66778899aabb\"] }"),
        item("method = { default = \"code\", allowed = [\"code\", \"push\"] }\nuser_group = \"Sales\""),
        attributes("id = \"entryuuid\""),
        directory("size_limit = 1_000_000\nfull_every_hours = 168\ncontainer_filter = \"(ou=*)\""),
        schedule("approval_days = 30\ngrace_days = 0\nphone_hold_hours = 168"),
    ] {
        assert_eq!(found(&more), [], "{more}");
    }
}

rules! {
    // --- when and how
    approval_is_a_share_of_all_or_off: Error with("approval_over_percent = 0", "approval_over_percent = 101")
        => "sync.approval_over_percent: found 101; allowed are 0 to 100";
    an_approval_waits_a_day_at_least: Error schedule("approval_days = 0") => "sync.approval_days: found 0; allowed are 1 to 30";
    an_approval_waits_a_month_at_most: Error schedule("approval_days = 31") => "sync.approval_days: found 31";
    factors_are_kept_a_year_at_most: Error schedule("grace_days = 366") => "sync.grace_days: found 366; allowed are 0 to 365";
    a_number_goes_back_within_a_day: Error schedule("phone_back_minutes = 1441") => "sync.phone_back_minutes: found 1441; allowed are 0 to 1440";
    a_number_rests_a_week_at_most: Error schedule("phone_hold_hours = 169") => "sync.phone_hold_hours: found 169; allowed are 0 to 168";
    a_node_is_a_host: Error with("\"sync-1.corp.example\"", "\"sync 1\"") => "sync.preferred_nodes: found \"sync 1\"";
    a_node_has_a_name: Error with("\"sync-1.corp.example\"", "\"\"") => "sync.preferred_nodes: found \"\"";
    nodes_are_few: Error with("\"sync-1.corp.example\"", &"\"node\", ".repeat(17)) => "sync.preferred_nodes: found 17 hosts; allowed are 16";
    something_is_read: Warning "[sync]\nenabled = true\n" => "sync.enabled: is true, but no [[sync_item]] is on";

    // --- directories
    everything_is_read_within_a_week: Error directory("full_every_hours = 169") => "directory.corp.full_every_hours: found 169; allowed are 1 to 168";
    everything_is_read_within_an_hour_at_most: Error directory("full_every_hours = 0") => "directory.corp.full_every_hours: found 0";
    a_size_limit_is_a_million_at_most: Error directory("size_limit = 1_000_001") => "directory.corp.size_limit: found 1000001; allowed are 0 to 1000000";
    a_directory_is_in_a_country: Error with("country = \"DE\"", "country = \"Germany\"") => "directory.corp.country: found \"Germany\"; a country is written";
    a_container_filter_is_short: Error directory(&format!("container_filter = \"(ou={})\"", "x".repeat(4092))) => "directory.corp.container_filter: is longer than 4096";
    a_pin_is_a_certificate: Error directory("pinned_certificates = \"\"") => "directory.corp.pinned_certificates: is empty; write";
    a_pin_is_pem: Error directory("pinned_certificates = \"AA:BB\"") => "directory.corp.pinned_certificates: is no certificate as PEM text";
    a_pin_and_a_ca_exclude_each_other: Error directory("pinned_certificates = \"-----BEGIN CERTIFICATE-----\"\nca = \"-----BEGIN CERTIFICATE-----\"")
        => "directory.corp.pinned_certificates: and ca stand beside each other";
    a_feed_is_one_of_the_preset: Error with("feed = \"syncrepl\"", "feed = \"dirsync\"")
        => "directory.corp.feed: found \"dirsync\"; a directory of this preset may offer syncrepl, accesslog, changelog, modify_timestamp";
    an_id_is_in_an_attribute: Error attributes("id = \"employee number\"") => "directory.corp.attributes.id: found \"employee number\"; an attribute is written";
    an_id_of_a_known_form_is_of_no_other: Error attributes("id_type = \"byte_array\"")
        => "directory.corp.attributes.id_type: found \"byte_array\"; entryUUID is a \"string\"";
    an_id_has_a_name: Error attributes("id = \"\"") => "directory.corp.attributes.id: is empty; name an attribute";
    usernames_stand_somewhere: Error with("[\"uid\", \"mail\"]", "[]") => "directory.corp.attributes.username: is empty";
    a_username_attribute_has_a_name: Error with("[\"uid\", \"mail\"]", "[\"uid\", \"\"]") => "directory.corp.attributes.username: is empty";
    an_attribute_has_a_name: Error attributes("mail = \"\"") => "directory.corp.attributes.mail: is empty; name an attribute";
    an_attribute_is_one_word: Error attributes("first_name = \"given name\"") => "directory.corp.attributes.first_name: found \"given name\"";
    every_attribute_of_a_key_has_a_name: Error attributes("last_name = \"sn;\"") => "directory.corp.attributes.last_name: found \"sn;\"";
    every_attribute_of_a_key_is_one_word: Error attributes("mail = \"mail;other mailbox\"") => "directory.corp.attributes.mail: found \"mail;other mailbox\"";
    an_id_is_in_one_attribute: Error attributes("id = \"entryUUID;nsUniqueId\"") => "directory.corp.attributes.id: found \"entryUUID;nsUniqueId\"; this stands in one attribute";
    an_alternate_name_is_in_one_attribute: Error attributes("alternate = \"employeeNumber;uid\"") => "directory.corp.attributes.alternate: found \"employeeNumber;uid\"; this stands in one attribute";
    a_language_attribute_has_a_name: Error with("call = \"preferredLanguage\"", "call = \"\"") => "directory.corp.attributes.languages.call: is empty";
    a_phone_attribute_is_one_word: Error with("\"otherMobile\"", "\"other mobile\"") => "directory.corp.attributes.phones.custom: found \"other mobile\"";

    // --- items
    a_domain_has_no_dn: Error with("kind = \"domain\"", "kind = \"domain\", dn = \"dc=corp,dc=example\"") => "sync_item.rest.source.dn: names an entry, but \"domain\" is all";
    a_domain_has_no_id: Error with("kind = \"domain\"", "kind = \"domain\", id = \"entryUUID:aabbccdd-0011-2233-4455-66778899aabb\"")
        => "sync_item.rest.source.id: names an entry, but \"domain\" is all";
    a_container_is_named: Error source("kind = \"container\"") => "sync_item.people.source.dn: is empty";
    a_container_is_named_by_its_dn: Error source("kind = \"container\", dn = \"people\"") => "sync_item.people.source.dn: found \"people\"; a DN is written";
    an_id_is_of_the_kind_of_the_directory: Error source("kind = \"group\", id = \"objectGUID:aabbccdd-0011-2233-4455-66778899aabb\"")
        => "sync_item.people.source.id: is an objectGUID; directory corp knows its entries by entryUUID";
    users_are_named: Error source("kind = \"users\"") => "sync_item.people.source.ids: is empty; users are named by their ids";
    users_are_ten_thousand_at_most: Error source(&users(0..10_001)) => "sync_item.people.source.ids: holds 10001; allowed are 10000";
    users_lie_anywhere: Error source(&format!("{}, dn = \"ou=x,dc=corp\"", users([1]))) => "sync_item.people.source.dn: names one entry";
    users_are_not_one_entry: Error source(&format!("{}, id = \"entryUUID:aabbccdd-0011-2233-4455-66778899aabb\"", users([1])))
        => "sync_item.people.source.id: names one entry";
    users_have_ids_of_the_directory: Error
        source("kind = \"users\", ids = [\"objectGUID:aabbccdd-0011-2233-4455-66778899aabb\"]")
        => "sync_item.people.source.ids: holds an objectGUID; directory corp knows its entries by entryUUID";
    a_user_is_named_once: Warning source(&users([1, 2, 1])) => "sync_item.people.source.ids: holds entryUUID:00000000-0000-0000-0000-000000000001 twice";
    a_container_has_no_list_of_ids: Error source(&users([1]).replace("\"users\"", "\"container\", dn = \"ou=x,dc=corp\"")) => "sync_item.people.source.ids: is a key of \"users\"";
    a_group_has_no_subtree: Warning source("kind = \"group\", dn = \"cn=x,dc=corp\", subtree = false") => "sync_item.people.source.subtree: is a key of containers";
    a_container_is_not_nested: Warning source("kind = \"container\", dn = \"ou=x,dc=corp\", nested = false") => "sync_item.people.source.nested: is a key of groups";
    an_item_filter_is_short: Error item(&format!("filter = \"(l={})\"", "x".repeat(4093))) => "sync_item.people.filter: is longer than 4096";
    an_item_is_of_a_country: Error item("country = \"de\"") => "sync_item.people.country: found \"de\"; a country is written";
    a_primary_number_stands_once: Warning with("[\"mobile\", \"custom\"]", "[\"mobile\", \"custom\", \"mobile\"]") => "sync_item.people.primary_phone: holds \"mobile\" twice";
    a_backup_number_stands_once: Warning with("[\"home\"]", "[\"home\", \"home\"]") => "sync_item.people.backup_phone: holds \"home\" twice";
    a_number_stands_in_an_attribute: Warning with("[\"home\"]", "[\"home\", \"ip\"]")
        => "sync_item.people.backup_phone: holds \"ip\", which is never found: directory corp has no attributes.phones.ip";
    a_backup_number_is_another_one: Warning with("[\"home\"]", "[\"mobile\"]") => "sync_item.people.backup_phone: is the first primary number again";
    a_label_is_short: Error item(&format!("user_group = \"{}\"", "x".repeat(129))) => "sync_item.people.user_group: allowed are 128";
    a_default_method_is_asked_at_sign_in: Error item("method = { default = \"recovery\" }") => "sync_item.people.method.default: found \"recovery\"; allowed are push";
    a_default_method_is_allowed: Error item("method = { default = \"push\", allowed = [\"code\"] }") => "sync_item.people.method.default: found \"push\", which method.allowed leaves out";
    a_first_pin_is_mailed_where_that_was_said: Error item("method = { initial_pin = \"mailed\" }")
        => "sync_item.people.method.initial_pin: found \"mailed\", which needs pin.danger_mail_initial_pin";
    a_default_method_can_be_used: Warning item("method = { default = \"sms\" }") => "sync_item.people.method.default: \"sms\" needs an enabled [[provider]]";
    an_allowed_method_can_be_used: Warning item("method = { allowed = [\"sms\", \"call\"] }") => "sync_item.people.method.allowed: holds no method";
    a_welcome_needs_mail: Warning item("mail = { on_add = true }") => "sync_item.people.mail.on_add: no mail goes out";
    a_preview_writes_nothing: Warning item("state = \"preview\"") => "sync_item.people.state: is \"preview\"";
    removing_is_said_with_its_time: Warning item("leavers = \"remove\"") => "sync_item.people.leavers: is \"remove\": whoever leaves loses every method for good after 30 days";
    an_exemption_is_said: Warning item("second_factor = false") => "sync_item.people.second_factor: is false";
    an_item_is_named_unlike_another_directory: Warning GOOD.to_owned()
        + "[[sync_item]]\nname = \"corp\"\ndirectory = \"other\"\nsource = { kind = \"domain\" }\n\
           [[directory]]\nname = \"other\"\npreset = \"openldap\"\nurls = [\"ldaps://x\"]\nbase = \"dc=x\"\nquery_bind = { kind = \"anonymous\" }\n"
        => "sync_item.corp.name: is also that of a directory";

    // --- their order
    two_items_alike_have_no_users_for_the_second: Warning second("source = { kind = \"container\", dn = \"ou=people,dc=corp,dc=example\" }")
        => "sync_item.second: never has a user: people, which stands before it";
    behind_a_domain_nobody_is_left: Warning GOOD.to_owned() + "[[sync_item]]\nname = \"late\"\ndirectory = \"corp\"\nsource = { kind = \"group\", dn = \"cn=x,dc=corp\" }\n"
        => "sync_item.late: never has a user: rest, which stands before it";
}
