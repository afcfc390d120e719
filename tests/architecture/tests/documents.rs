//! Documents tell the truth: their links lead somewhere, and the lists of reasons and of what roles may do are the code's.

use architecture::{files, root};
use domain::{Role, role::Permission};
use std::fs;

#[test]
fn links_between_documents_lead_somewhere() {
    let mut found = Vec::new();
    files(root(), "md", &mut found);
    assert!(found.len() > 3, "found too few documents: the path filter is wrong");
    let mut broken = Vec::new();
    for document in &found {
        let text = fs::read_to_string(document).expect("a document is UTF-8");
        for part in text.split("](").skip(1) {
            let link = part.split([')', '#', ' ']).next().unwrap_or_default();
            let elsewhere = link.contains("://") || link.starts_with("mailto:");
            if !link.is_empty() && !elsewhere && !document.parent().expect("in a folder").join(link).exists() {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn the_list_of_reasons_is_the_codes() {
    let page = fs::read_to_string(root().join("docs/reference/reasons.md")).expect("the page is there");
    for reason in domain::Reason::ALL {
        let row = format!("| `{}` | {} | {} |", reason.code(), reason.class().code(), reason.sentence());
        assert!(page.contains(&row), "docs/reference/reasons.md lacks: {row}");
    }
    assert_eq!(page.matches("| `").count(), domain::Reason::ALL.len(), "the page lists a reason that is gone");
}

/// As the page words them, in its order. `Roles` is asked for nowhere: who has the host gives them.
const RIGHTS: [(Permission, &str); 15] = [
    (Permission::UsersRead, "See users, factors, devices, tokens, open prompts, messages, remembered logins"),
    (
        Permission::UsersEdit,
        "Make, change, disable, exempt and import users; enrol factors, numbers and recovery codes for them; import tokens",
    ),
    (
        Permission::UsersMethods,
        "Unlock, invite, take factors and devices away, end remembered logins, give tokens and put them in step",
    ),
    (Permission::UsersBlock, "Block and unblock"),
    (Permission::UsersBypass, "Give a bypass or a temporary code; the help desk: for 15 minutes at most"),
    (Permission::UsersPin, "Reset a PIN"),
    (Permission::UsersVerifyCaller, "Ask the phone of somebody who calls"),
    (Permission::AuditRead, "Read the audit and the accounting"),
    (Permission::SettingsRead, "Read settings and clients"),
    (Permission::SettingsClients, "Apply settings, test directories, import people into sync items"),
    (Permission::SettingsMessaging, "Try a provider"),
    (Permission::SyncRun, "See and begin synchronisation, search directories"),
    (Permission::SyncApprove, "Approve what waits, but not what one asked for oneself"),
    (Permission::Keys, "Rotate the keys that seal the store"),
    (Permission::Authenticate, "Ask for the second factor of a login, as the client that names the key"),
];

#[test]
fn what_a_role_may_do_is_the_codes() {
    let page = fs::read_to_string(root().join("docs/operating/second-factors.md")).expect("the page is there");
    let cells = |cell: &dyn Fn(Role) -> String| Role::ALL.map(|role| cell(role) + "|").concat();
    let mut table =
        format!("| |{}\n|---|{}\n", cells(&|role| format!(" `{}` ", role.code())), cells(&|_| "---".into()));
    for (permission, words) in RIGHTS {
        let may = |role: Role| if role.may(permission) { " yes ".to_owned() } else { " ".to_owned() };
        table += &format!("| {words} |{}\n", cells(&may));
    }
    assert!(page.contains(&table), "the table of docs/operating/second-factors.md has to be:\n{table}");
}

#[test]
fn the_example_settings_are_good_and_the_page_knows_every_key() {
    let example =
        fs::read_to_string(root().join("docs/reference/settings.example.toml")).expect("the example is there");
    let settings: domain::settings::Settings = toml::from_str(&example).expect("the example is a settings document");
    let errors: Vec<String> = settings
        .problems()
        .iter()
        .filter(|problem| problem.severity == domain::settings::Severity::Error)
        .map(ToString::to_string)
        .collect();
    assert!(errors.is_empty(), "{errors:?}");

    let page = fs::read_to_string(root().join("docs/reference/settings.md")).expect("the page is there");
    let written = serde_json::to_value(&settings).expect("settings are serialisable");
    let usual = serde_json::to_value(domain::settings::Settings::default()).expect("settings are serialisable");
    let sections = usual.as_object().expect("a table").keys().chain(written.as_object().expect("a table").keys());
    let mut kinds = std::collections::BTreeSet::new();
    for section in sections.collect::<std::collections::BTreeSet<_>>() {
        let (heading, objects) = match &written[section] {
            serde_json::Value::Array(list) => (format!("## `[[{section}]]`"), list.iter().collect::<Vec<_>>()),
            table => (format!("## `[{section}]`"), vec![table]),
        };
        let chapter = page.split("\n## ").find(|chapter| format!("## {chapter}").starts_with(&format!("{heading}\n")));
        let chapter = chapter.unwrap_or_else(|| panic!("docs/reference/settings.md lacks {heading}"));
        for key in objects.iter().flat_map(|object| object.as_object().expect("a table").keys()) {
            assert!(chapter.contains(&format!("| `{key}` |")), "docs/reference/settings.md lacks `{key}` in {heading}");
        }
        // A provider is told by its adapter: each kind has a table of its own.
        for adapter in objects.iter().filter_map(|object| object["adapter"].as_object()) {
            let kind = adapter["kind"].as_str().expect("a kind").to_owned();
            let table = chapter.split_once(&format!("`kind = \"{kind}\"`"));
            let (_, table) = table.unwrap_or_else(|| panic!("docs/reference/settings.md lacks the kind {kind}"));
            let table = table.split("`kind = ").next().expect("there is a first part");
            // `ca` is told once, for all.
            for key in adapter.keys().filter(|key| !["kind", "ca"].contains(&key.as_str())) {
                assert!(table.contains(&format!("| `{key}` |")), "docs/reference/settings.md lacks `{key}` of {kind}");
            }
            kinds.insert(kind);
        }
    }
    assert_eq!(kinds.len(), 7, "the example shows every kind of adapter: {kinds:?}");
}
