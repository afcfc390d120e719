//! Settings applied, refused, exported, fetched (FC-08, B-96, V-72, L-22, R-10).

use crate::fixture::{Enrolled, Fixture, SETTINGS, id_of, person};
use proto::common::Secret;
use proto::permissions::part;
use proto::user_store::{
    ApplySettingsReply, ApplySettingsRequest, ExportSettingsRequest, FetchReply, FetchRequest, KeyRingReply,
    KeyRingRequest, LearnClientRequest, ListClientsRequest, PinServiceAccountRequest, RotateClientSecretRequest,
    SetAnswersRequest, SyncedUser, admin_server::Admin, settings_server::Settings,
};
use service_kit::bus::Bus;
use std::{collections::BTreeSet, time::Duration};
use tonic::{Code, Request, Status};

const VPN: &str = r#"
[[client]]
name = "vpn"
protocol = "radius"
sources = ["10.0.4.3/32"]
target = "corp"
secret = "generate"
"#;
const GITLAB: &str = r#"
[[client]]
name = "gitlab"
protocol = "ldap"
sources = ["10.0.7.9/32"]
target = "corp"
appended = "required"
service_accounts = [{ name = "cn=gitlab,dc=corp,dc=example" }]
"#;

fn with_password() -> String {
    SETTINGS.replace(
        "{ kind = \"anonymous\" }",
        "{ kind = \"tls\", name = \"cn=twinlock\", password = \"file:query.password\" }",
    )
}

/// Items that the document loses are meant to go.
async fn apply(lab: &Fixture, document: &str, secrets: &[(&str, &str)], dry_run: bool) -> ApplySettingsReply {
    let secrets = secrets.iter().map(|(name, value)| ((*name).into(), Secret { value: (*value).into() })).collect();
    let actor = "admin:uid=0".to_owned();
    let mut request =
        ApplySettingsRequest { document: document.into(), secrets, dry_run, actor, ..ApplySettingsRequest::default() };
    let reply = lab.apply_as_asked(request.clone()).await;
    if dry_run || reply.removed_items.is_empty() {
        return reply;
    }
    request.removed_items = reply.removed_items.into_iter().map(|item| item.sync_item).collect();
    lab.apply_as_asked(request).await
}

async fn export(lab: &Fixture) -> String {
    let request = Request::new(ExportSettingsRequest {});
    lab.services.admin.export_settings(request).await.expect("exported").into_inner().document
}

async fn fetch(lab: &Fixture, part: &'static str) -> FetchReply {
    let request = Request::new(FetchRequest { known_revision: 0 });
    lab.services.settings_for(part).fetch(request).await.expect("fetched").into_inner()
}

const SMS: &str = r#"
[sms]
countries = ["DE"]
[[provider]]
name = "main"
channel = "sms"
secret = "file:sms.token"
webhook_secret = "generate"
adapter = { kind = "http", url = "https://sms.example.com/send", headers = { Authorization = "Bearer {secret}" }, form = { to = "{phone}", body = "{text}" } }
"#;
const VOICE: &str = r#"
[[provider]]
name = "calls"
channel = "voice"
secret = "file:voice.secret"
adapter = { kind = "twiml", base_url = "https://voice.example.com", account = "AC0417", caller = "+49301234567" }
"#;
const VOICE_SECRET: (&str, &str) = ("provider.calls.secret", "secret-of-the-voice");
const SMS_SECRET: (&str, &str) = ("provider.main.secret", "token-of-the-provider");
const PASSWORD: (&str, &str) = ("directory.corp.query_bind.password", "query-password");

pub async fn a_document_is_applied_exported_and_applied_again_without_a_change(lab: Fixture) {
    let mut told = lab.bus.subscribe(proto::subjects::SETTINGS_CHANGED).await.expect("subscribed");
    let document = with_password() + VPN + GITLAB;
    let first = apply(&lab, &document, &[PASSWORD], false).await;
    assert_eq!(first.errors, [""; 0]);
    assert_eq!(first.revision, 2);
    assert_eq!(
        first.changes,
        ["added client.gitlab", "added client.vpn", "added directory.corp", "added sync_item.people"]
    );
    assert_eq!(first.generated["client.vpn.secret"].value.len(), 32);
    let message = tokio::time::timeout(Duration::from_secs(5), told.next()).await.expect("in time").expect("a message");
    assert_eq!(message.payload, "2");

    let exported = export(&lab).await;
    assert!(exported.starts_with("revision = 2\n"), "{exported}");
    assert!(exported.contains("secret = \"keep\"") && exported.contains("password = \"keep\""), "{exported}");
    let again = apply(&lab, &exported, &[], false).await;
    assert_eq!((again.errors.len(), again.changes.len(), again.revision), (0, 0, 2), "{:?}", again.changes);
    assert_eq!(export(&lab).await, exported, "stable");

    let events = lab.events("settings.applied").await;
    assert_eq!((events.len(), events[0].actor.as_str()), (1, "admin:uid=0"));
    assert!(events[0].detail.contains("added client.vpn"), "{}", events[0].detail);

    let longer = exported.replace("wait_seconds = 55", "wait_seconds = 60");
    let changed = apply(&lab, &longer, &[], false).await;
    assert_eq!(
        changed.changes,
        ["changed client.gitlab.wait_seconds: 55 -> 60", "changed client.vpn.wait_seconds: 55 -> 60"]
    );
    assert_eq!(changed.revision, 3);
    let events = lab.events("settings.applied").await;
    assert!(events[1].detail.starts_with("revision 3; changed client.gitlab.wait_seconds"), "{}", events[1].detail);
}

pub async fn the_same_document_again_voids_no_secret_and_reports_only_what_is_new(lab: Fixture) {
    let document = with_password() + VPN;
    let made = apply(&lab, &document, &[PASSWORD], false).await.generated;
    assert_eq!(made.len(), 1);
    let secret = async || fetch(&lab, part::RADIUS_GATEWAY).await.secrets["client.vpn.secret"].value.clone();
    let before = secret().await;
    let again = apply(&lab, &document, &[PASSWORD], false).await;
    assert_eq!((again.changes, again.generated.len(), again.revision), (vec![], 0, 2));
    assert!(secret().await == before, "devices have it already");
    let other = apply(&lab, &document, &[(PASSWORD.0, "another-password")], false).await;
    assert_eq!(other.changes, ["changed directory.corp.query_bind.password: a new secret"]);
    // A dry run compares nothing: it would tell whether a guess is right.
    for guess in ["another-password", "wrong"] {
        let dry = apply(&lab, &document, &[(PASSWORD.0, guess)], true).await;
        assert_eq!(
            dry.changes,
            ["changed directory.corp.query_bind.password: a new secret, unless it is the one stored"]
        );
    }
}

pub async fn each_mistake_is_refused_with_its_key_and_nothing_changes(lab: Fixture) {
    // B-96: line, key, what was found, what is allowed
    let good = SETTINGS.to_owned() + VPN;
    assert_eq!(apply(&lab, &good, &[], false).await.errors, [""; 0]);
    let before = export(&lab).await;
    let secret = |value: &'static str| vec![("client.vpn.secret", value)];
    let filed = good.replace("\"generate\"", "\"file:vpn.secret\"");
    let long: &'static str = Box::leak("x".repeat(129).into_boxed_str());
    for (name, document, secrets, expected) in [
        ("no TOML", "[[client".to_owned(), vec![], vec!["line 1"]),
        (
            "unknown key",
            good.replace("protocol =", "colour = \"red\"\nprotocol ="),
            vec![],
            vec!["line 16: colour", "unknown field `colour`", "`wait_seconds`"],
        ),
        ("wrong type", good.clone() + "wait_seconds = \"long\"\n", vec![], vec!["wait_seconds", "invalid type", "u32"]),
        (
            "wrong word",
            good.clone() + "unknown_user = \"maybe\"\n",
            vec![],
            vec!["unknown_user", "`maybe`", "`refuse` or `pass`"],
        ),
        (
            "a secret as its value",
            good.replace("\"generate\"", "\"s3cret\""),
            vec![],
            vec!["secret", "\"keep\", \"generate\" or \"file:PATH\""],
        ),
        (
            "out of range",
            good.clone() + "wait_seconds = 5\n",
            vec![],
            vec!["client.vpn.wait_seconds: found 5; allowed are 10 to 110"],
        ),
        (
            "no such target",
            good.replace("target = \"corp\"", "target = \"crop\""),
            vec![],
            vec!["client.vpn.target: found \"crop\"; the directories are corp"],
        ),
        ("a name twice", good.clone() + VPN, vec![], vec!["client.vpn: this name stands twice"]),
        (
            "a broken filter",
            good.replace("base =", "user_filter = \"(uid=\"\nbase ="),
            vec![],
            vec!["directory.corp.user_filter: found \"(uid=\"", "RFC 4515"],
        ),
        (
            "a broken item filter",
            good.replace("source =", "filter = \"uid=x\"\nsource ="),
            vec![],
            vec!["sync_item.people.filter"],
        ),
        (
            "nothing to keep",
            good.replace("name = \"vpn\"", "name = \"new\"").replace("\"generate\"", "\"keep\""),
            vec![],
            vec!["client.new.secret: is \"keep\", but the store holds none"],
        ),
        (
            "a file that was not read",
            filed.clone(),
            vec![],
            vec!["client.vpn.secret: the content of vpn.secret did not come"],
        ),
        ("a short secret", filed.clone(), secret("1234567"), vec!["client.vpn.secret: has fewer than 8"]),
        ("a long secret", filed.clone(), secret(long), vec!["client.vpn.secret: has more than 128"]),
        (
            "a secret of nothing",
            good.clone(),
            vec![("client.old.secret", "12345678")],
            vec!["client.old.secret: a secret was given"],
        ),
        (
            "an empty password",
            with_password() + VPN,
            vec![(PASSWORD.0, "")],
            vec!["directory.corp.query_bind.password: is empty"],
        ),
    ] {
        for dry_run in [true, false] {
            let reply = apply(&lab, &document, &secrets, dry_run).await;
            let errors = reply.errors.join("\n");
            for part in &expected {
                assert!(errors.contains(part), "{name}: {part:?} is not in {errors:?}");
            }
            assert!(reply.changes.is_empty() && reply.generated.is_empty(), "{name}");
            assert_eq!(reply.revision, 2, "{name}");
        }
    }
    assert_eq!(export(&lab).await, before);
    let weak = apply(&lab, &filed, &secret("1234567890"), true).await;
    assert!(weak.errors.is_empty() && weak.warnings[0].contains("fewer than 16"), "{:?}", weak.warnings);
}

pub async fn a_dry_run_says_what_would_change_and_changes_nothing(lab: Fixture) {
    let document = SETTINGS.to_owned() + VPN;
    let dry = apply(&lab, &document, &[], true).await;
    assert_eq!(dry.changes, ["added client.vpn", "added directory.corp", "added sync_item.people"]);
    assert_eq!((dry.revision, dry.generated.len()), (1, 0));
    assert!(lab.events("settings.applied").await.is_empty());
    assert!(!export(&lab).await.contains("vpn"));
    assert_eq!(apply(&lab, &document, &[], false).await.changes, dry.changes);
}

pub async fn a_sync_item_is_lost_by_its_name_alone_and_who_gets_its_users_is_said(lab: Fixture) {
    // FS-10
    let item = |name: &str| {
        format!("[[sync_item]]\nname = \"{name}\"\ndirectory = \"corp\"\nsource = {{ kind = \"domain\" }}\n")
    };
    let without = SETTINGS.replace(&item("people"), "");
    assert_ne!(without, SETTINGS);
    lab.apply(&format!("{SETTINGS}{}", item("rest"))).await;
    lab.lead().await;
    let users = (0..7).map(|number| {
        let items = if number < 5 { vec!["people".to_owned(), "rest".to_owned()] } else { vec!["people".to_owned()] };
        proto::user_store::SyncedUser { items, ..crate::fixture::person(&format!("user{number}")) }
    });
    lab.run(users.collect()).await;
    let ask = async |document: &str, removed_items: &[&str], dry_run| {
        let removed_items = removed_items.iter().map(|name| (*name).to_owned()).collect();
        let (document, actor) = (document.to_owned(), "admin:uid=0".to_owned());
        lab.apply_as_asked(ApplySettingsRequest { document, removed_items, dry_run, actor, ..Default::default() }).await
    };
    let document = format!("{without}{}", item("rest"));
    let refused = ask(&document, &[], false).await;
    assert_eq!(refused.errors.len(), 1, "{refused:?}");
    assert!(refused.errors[0].contains("7 users") && refused.errors[0].contains("5 would go to rest"), "{refused:?}");
    assert!(export(&lab).await.contains("name = \"people\""), "nothing was changed");
    let dry = ask(&document, &[], true).await;
    let heirs: Vec<_> = dry.removed_items[0].heirs.iter().map(|heir| (heir.sync_item.as_str(), heir.users)).collect();
    assert_eq!(
        (dry.errors.len(), dry.removed_items[0].users, heirs, dry.removed_items[0].leave),
        (0, 7, vec![("rest", 5)], 2)
    );
    assert_eq!(ask(&document, &["rest"], false).await.errors.len(), 2, "another name is no confirmation");
    let applied = ask(&document, &["people"], false).await;
    assert_eq!(applied.errors, [""; 0]);
    assert!(!export(&lab).await.contains("name = \"people\""));
    assert_eq!(ask(&document, &["people"], false).await.errors.len(), 1, "it is gone already");
}

pub async fn what_weakens_security_has_a_reason_that_the_audit_keeps(lab: Fixture) {
    apply(&lab, SETTINGS, &[], false).await;
    let ask = async |document: &str, reason: &str, dry_run: bool, needs_reason: bool| {
        let (document, reason, actor) = (document.to_owned(), reason.to_owned(), "api-key:ann".to_owned());
        let request = ApplySettingsRequest { document, reason, dry_run, needs_reason, actor, ..Default::default() };
        lab.apply_as_asked(request).await
    };
    let weaker = format!("[sync]\napproval_over_users = 50\n[pin]\nlength_min = 6\n{SETTINGS}");
    let keys = ["sync.approval_over_users"];
    let looked = ask(&weaker, "", true, true).await;
    assert_eq!((looked.errors, looked.weaker.as_slice()), (vec![], &keys.map(str::to_owned)[..]), "a look needs none");
    let refused = ask(&weaker, " \n ", false, true).await;
    assert_eq!(refused.errors, ["reason: is missing; say why security is weakened by sync.approval_over_users"]);
    assert_eq!((refused.weaker.as_slice(), refused.revision), (&keys.map(str::to_owned)[..], 2), "nothing was changed");
    let applied = ask(&weaker, "the \u{1b}[31mmerger", false, true).await;
    assert_eq!((applied.errors, applied.revision), (vec![], 3));
    let event = lab.events("settings.applied").await.pop().expect("an event");
    assert!(
        event.detail.starts_with("revision 3; reason: the ") && event.detail.contains("5 -> 50"),
        "{}",
        event.detail
    );
    assert!(!event.detail.contains('\u{1b}'), "{:?}", event.detail);
    let stronger = ask(&weaker.replace("50", "5"), "", false, true).await;
    assert_eq!((stronger.errors.len(), stronger.weaker.len(), stronger.revision), (0, 0, 4), "that needs none");
    let script = ask(&weaker, "", false, false).await;
    assert_eq!(
        (script.errors.len(), script.weaker.len(), script.revision),
        (0, 1, 5),
        "who has the host may leave it out"
    );
}

pub async fn a_document_of_an_older_revision_is_refused(lab: Fixture) {
    apply(&lab, SETTINGS, &[], false).await;
    let exported = export(&lab).await;
    let hurried = exported.replace("interval_minutes = 5", "interval_minutes = 6");
    assert_eq!(apply(&lab, &hurried, &[], false).await.revision, 3);
    let late = apply(&lab, &exported.replace("interval_minutes = 5", "interval_minutes = 7"), &[], false).await;
    assert!(
        late.errors[0].starts_with("revision: the document is of revision 2, the store is at 3"),
        "{:?}",
        late.errors
    );
    let without = exported.replace("revision = 2\n", "");
    assert_eq!(apply(&lab, &without, &[], false).await.revision, 4, "without a revision it is applied anyway");
}

pub async fn the_password_of_an_account_by_certificate_goes_to_its_gateway_and_nowhere_else(lab: Fixture) {
    // V-72, V-83, L-36: whoever changes the settings does not know it, and must not come to bind with it
    const NAME: &str = "client.gitlab.service_account.cn=gitlab,dc=corp,dc=example.password";
    let account = |keys: &str| GITLAB.replace(",dc=example\"", &format!(",dc=example\", {keys}"));
    let listed = "certificates = [\"dns:gitlab.example\"], password = \"keep\"";
    let document = SETTINGS.to_owned() + &account(listed);
    let applied = apply(&lab, &document, &[], false).await;
    assert!(applied.errors.iter().any(|error| error.starts_with(NAME)), "{:?}", applied.errors);
    let applied = apply(&lab, &document, &[(NAME, "gitlab's own")], false).await;
    assert_eq!(applied.errors, [""; 0]);
    for part in [part::LDAP_GATEWAY, part::RADIUS_GATEWAY, part::DIRECTORY_SYNC, part::VERIFICATION, part::PORTAL] {
        let reply = fetch(&lab, part).await;
        let value = reply.secrets.get(NAME).map(|secret| &secret.value[..]);
        assert_eq!(value, (part == part::LDAP_GATEWAY).then_some(&b"gitlab's own"[..]), "{part}");
    }
    let exported = export(&lab).await;
    assert!(exported.contains("password = \"keep\"") && !exported.contains("gitlab's own"));
    assert_eq!(apply(&lab, &document, &[], false).await.errors, [""; 0], "nothing moves");
    let another = SETTINGS.replace("ldaps://ldap.", "ldaps://mallory.");
    assert_ne!(another, SETTINGS);
    for moved in
        [another + &account(listed), SETTINGS.to_owned() + &account(&listed.replace("[", "[\"dns:mallory.example\", "))]
    {
        let refused = apply(&lab, &moved, &[], true).await.errors;
        assert!(refused.iter().any(|it| it.starts_with(NAME) && it.contains("give it again")), "{refused:?}");
        assert_eq!(apply(&lab, &moved, &[(NAME, "gitlab's own")], true).await.errors, [""; 0]);
    }
}

pub async fn each_part_sees_the_secrets_it_needs_and_no_other(lab: Fixture) {
    // V-72
    apply(
        &lab,
        &(with_password() + VPN + SMS),
        &[PASSWORD, ("client.vpn.secret", "a-shared-secret-of-32-characters"), SMS_SECRET],
        false,
    )
    .await;
    for (part, expected) in [
        (part::RADIUS_GATEWAY, vec!["client.vpn.secret", PASSWORD.0]),
        (part::LDAP_GATEWAY, vec![PASSWORD.0]),
        (part::DIRECTORY_SYNC, vec![PASSWORD.0]),
        (part::VERIFICATION, vec![SMS_SECRET.0, "provider.main.webhook_secret"]),
        (part::PORTAL, vec![]),
        ("mallory", vec![]),
    ] {
        let reply = fetch(&lab, part).await;
        let names: BTreeSet<&str> = reply.secrets.keys().map(String::as_str).collect();
        assert_eq!(names, expected.into_iter().collect(), "{part}");
        assert_eq!(reply.revision, 2);
        assert!(reply.settings_json.contains("\"vpn\"") && !reply.settings_json.contains("shared-secret"));
    }
    let nobody =
        lab.services.settings.fetch(Request::new(FetchRequest::default())).await.expect("fetched").into_inner();
    assert!(nobody.secrets.is_empty(), "who is not named gets none");
    let reply = fetch(&lab, part::RADIUS_GATEWAY).await;
    assert_eq!(reply.secrets["client.vpn.secret"].value, b"a-shared-secret-of-32-characters");
    assert_eq!(reply.secrets[PASSWORD.0].value, PASSWORD.1.as_bytes());
    let known = Request::new(FetchRequest { known_revision: 2 });
    let unchanged = lab.services.settings_for(part::RADIUS_GATEWAY).fetch(known).await.expect("fetched").into_inner();
    assert!(unchanged.unchanged && unchanged.secrets.is_empty() && unchanged.settings_json.is_empty());

    let rotate = RotateClientSecretRequest {
        client: "vpn".into(),
        actor: "admin:uid=0".into(),
        ..RotateClientSecretRequest::default()
    };
    let rotated = lab.services.admin.rotate_client_secret(Request::new(rotate)).await.expect("rotated").into_inner();
    let fetched = fetch(&lab, part::RADIUS_GATEWAY).await;
    assert_eq!((rotated.revision, fetched.revision), (3, 3));
    assert_eq!(fetched.secrets["client.vpn.secret"].value, rotated.secret.expect("shown once").value);
    let weak = RotateClientSecretRequest {
        client: "vpn".into(),
        secret: Some(Secret { value: b"1234567".to_vec() }),
        actor: "admin:uid=0".into(),
        ..RotateClientSecretRequest::default()
    };
    let refused = lab.services.admin.rotate_client_secret(Request::new(weak)).await;
    assert_eq!(refused.expect_err("too short").code(), Code::InvalidArgument);
    let detail = &lab.events("settings.secret").await[0].detail;
    assert_eq!(detail, "client.vpn.secret: a new secret");
}

pub async fn secrets_of_what_is_removed_are_gone(lab: Fixture) {
    apply(&lab, &(SETTINGS.to_owned() + VPN), &[], false).await;
    let without = apply(&lab, SETTINGS, &[], false).await;
    assert_eq!(without.changes, ["removed client.vpn"]);
    assert!(fetch(&lab, part::RADIUS_GATEWAY).await.secrets.is_empty());
    let back = apply(&lab, &(SETTINGS.to_owned() + &VPN.replace("generate", "keep")), &[], false).await;
    assert!(back.errors[0].contains("the store holds none"), "{:?}", back.errors);
}

pub async fn a_kept_password_goes_to_no_other_server(lab: Fixture) {
    // V-83: whoever may change settings could have it sent to a server of their own
    let two =
        with_password().replace("[\"ldaps://ldap.corp.example\"]", "[\"ldaps://a.example\", \"ldaps://b.example\"]");
    assert_eq!(apply(&lab, &two, &[PASSWORD], false).await.errors, [""; 0]);
    let kept = two.replace("file:query.password", "keep");
    let elsewhere = kept.replace("b.example", "evil.example");
    let clear = kept.replace("base =", "danger_clear_text = true\nbase =");
    let other_ca = kept.replace("base =", "ca = \"-----BEGIN CERTIFICATE-----\"\nbase =");
    for moved in [&elsewhere, &clear, &other_ca] {
        for dry_run in [true, false] {
            let reply = apply(&lab, moved, &[], dry_run).await;
            assert!(reply.errors.iter().any(|error| error.starts_with(PASSWORD.0)), "{moved} {:?}", reply.errors);
        }
        assert_eq!(apply(&lab, moved, &[PASSWORD], true).await.errors, [""; 0], "given again it may go there");
    }
    let one_less = kept.replace("\"ldaps://a.example\", ", "");
    assert_eq!(apply(&lab, &one_less, &[], false).await.errors, [""; 0], "a server less is no new place");
}

pub async fn the_password_of_synchronisation_goes_to_it_alone_and_to_no_other_server(lab: Fixture) {
    // FD-09, V-72, V-83
    const OWN: (&str, &str) = ("directory.corp.sync_bind.password", "sync-password");
    let bind = |kind: &str, password: &str| {
        let bind =
            format!("sync_bind = {{ kind = \"{kind}\", name = \"CORP\\\\sync\", password = \"{password}\" }}\nbase =");
        with_password().replace("preset = \"openldap\"", "preset = \"active_directory\"").replace("base =", &bind)
    };
    let missing = apply(&lab, &bind("tls", "keep"), &[PASSWORD], false).await.errors;
    assert!(missing.iter().any(|it| it.starts_with(OWN.0) && it.contains("the store holds none")), "{missing:?}");
    assert_eq!(apply(&lab, &bind("tls", "file:x"), &[PASSWORD, OWN], false).await.errors, [""; 0]);
    for part in [part::LDAP_GATEWAY, part::RADIUS_GATEWAY, part::DIRECTORY_SYNC, part::VERIFICATION, part::PORTAL] {
        let reply = fetch(&lab, part).await;
        let value = reply.secrets.get(OWN.0).map(|secret| &secret.value[..]);
        assert_eq!(value, (part == part::DIRECTORY_SYNC).then_some(OWN.1.as_bytes()), "{part}");
    }
    let exported = export(&lab).await;
    assert!(exported.contains("sync_bind") && !exported.contains(OWN.1), "{exported}");
    let kept = bind("tls", "keep").replace("file:query.password", "keep");
    assert_eq!(apply(&lab, &kept, &[], false).await.errors, [""; 0], "nothing moves");
    for (moved, too) in [
        (kept.replace("ldaps://ldap.", "ldaps://mallory."), true),
        (kept.replace("base =", "ca = \"-----BEGIN CERTIFICATE-----\"\nbase ="), true),
        // Less protected, and the other one goes where it went.
        (bind("windows", "keep").replace("file:query.password", "keep"), false),
    ] {
        let refused = apply(&lab, &moved, &[], true).await.errors;
        let again = |name: &str| refused.iter().any(|it| it.starts_with(name) && it.contains("give it again"));
        assert_eq!((again(OWN.0), again(PASSWORD.0)), (true, too), "{refused:?}");
    }
    // It is gone with its account.
    let without = with_password().replace("file:query.password", "keep");
    assert_eq!(apply(&lab, &without, &[], false).await.errors, [""; 0]);
    assert_eq!(fetch(&lab, part::DIRECTORY_SYNC).await.secrets.keys().collect::<Vec<_>>(), [PASSWORD.0]);
}

pub async fn a_kept_secret_of_a_provider_goes_where_it_went_before(lab: Fixture) {
    // V-83: another host, another CA, another place of the request, such as the text that somebody's own phone shows
    let mail = r#"
[[provider]]
name = "relay"
channel = "mail"
secret = "file:relay.password"
adapter = { kind = "smtp", host = "mx.example.com", user = "twinlock", sender = "mfa@example.com" }
"#;
    const RELAY_SECRET: (&str, &str) = ("provider.relay.secret", "relay-password");
    let document = SETTINGS.to_owned() + SMS + mail;
    assert_eq!(apply(&lab, &document, &[SMS_SECRET, RELAY_SECRET], false).await.errors, [""; 0]);
    let kept =
        document.replace("file:sms.token", "keep").replace("generate", "keep").replace("file:relay.password", "keep");
    assert_eq!(apply(&lab, &kept, &[], true).await.changes, [""; 0]);
    for (name, old, new) in [
        (SMS_SECRET, "https://sms.example.com/", "https://evil.example/"),
        (SMS_SECRET, "https://sms.example.com/", "https://sms.example.com:8443/"),
        (SMS_SECRET, "https://sms.example.com/send", "http://127.0.0.1:8080/send"),
        (SMS_SECRET, "body = \"{text}\"", "body = \"{text} {secret}\""),
        (SMS_SECRET, "body = \"{text}\"", "body = \"{text} {basic}\""),
        (SMS_SECRET, "Authorization =", "X-Other ="),
        (SMS_SECRET, "kind = \"http\"", "kind = \"http\", preset = \"gammu\""),
        (RELAY_SECRET, "mx.example.com", "evil.example"),
        (RELAY_SECRET, "user =", "port = 2525, user ="),
        (RELAY_SECRET, "user =", "tls = \"tls\", user ="),
        (RELAY_SECRET, "user =", "ca = \"-----BEGIN CERTIFICATE-----\", user ="),
    ] {
        let moved = kept.replace(old, new);
        assert_ne!(moved, kept, "{old}");
        for dry_run in [true, false] {
            let reply = apply(&lab, &moved, &[], dry_run).await;
            assert!(reply.errors.len() == 1 && reply.errors[0].starts_with(name.0), "{new}: {:?}", reply.errors);
        }
        assert_eq!(apply(&lab, &moved, &[name], true).await.errors, [""; 0], "{new}: given again it may go there");
    }
    for (old, new) in [("body = \"{text}\"", "body = \"Hello {text}\""), ("mfa@", "other@"), ("\"DE\"", "\"AT\"")] {
        assert_eq!(apply(&lab, &kept.replace(old, new), &[], true).await.errors, [""; 0], "{new}");
    }
    let exported = export(&lab).await;
    assert!(exported.contains("webhook_secret = \"keep\"") && !exported.contains("token-of"), "{exported}");
}

pub async fn a_service_account_is_pinned_once(lab: Fixture) {
    // L-22: rename, move and re-create the account: only the same id keeps the exemption
    apply(&lab, &(SETTINGS.to_owned() + GITLAB), &[], false).await;
    let pin = |name: &str, id: &str| {
        lab.services.settings.pin_service_account(Request::new(PinServiceAccountRequest {
            client: "gitlab".into(),
            name: name.into(),
            object_id: id.into(),
        }))
    };
    const NAME: &str = "cn=gitlab,dc=corp,dc=example";
    const ID: &str = "entryUUID:11111111-1111-1111-1111-111111111111";
    const OTHER: &str = "entryUUID:22222222-2222-2222-2222-222222222222";
    pin(NAME, ID).await.expect("pinned");
    pin(NAME, ID).await.expect("the same again");
    assert_eq!(pin(NAME, OTHER).await.expect_err("another id").code(), Code::FailedPrecondition);
    assert_eq!(pin("cn=other", ID).await.expect_err("not listed").code(), Code::NotFound);
    assert_eq!(pin(NAME, "gitlab").await.expect_err("no id").code(), Code::InvalidArgument);
    let reply = fetch(&lab, part::LDAP_GATEWAY).await;
    assert!(reply.settings_json.contains(ID) && reply.revision == 3, "{}", reply.settings_json);
    // A document that names the account without the id leaves it pinned.
    let again = apply(&lab, &(SETTINGS.to_owned() + GITLAB), &[], false).await;
    assert_eq!((again.errors.len(), again.changes.len()), (0, 0), "{:?}", again.changes);
    assert_eq!(pin(NAME, OTHER).await.expect_err("still another id").code(), Code::FailedPrecondition);
    assert_eq!(lab.events("settings.pinned").await.len(), 1);
}

pub async fn a_service_account_with_a_second_factor_is_warned_about(lab: Fixture) {
    // FL-15, L-22: when the settings are saved, and where an administrator looks at the client
    lab.with_settings().await;
    let run_id = lab.begin().await.expect("a run begins");
    lab.batch(&run_id, vec![person("ann"), person("ben")]).await;
    lab.finish(&run_id, true).await;
    lab.enrol("ann").await;
    let listing = |name: &str| SETTINGS.to_owned() + &GITLAB.replace("cn=gitlab,dc=corp,dc=example", name);
    let of_accounts = |mut warnings: Vec<String>| {
        warnings.retain(|text| text.contains("service_accounts"));
        warnings
    };
    let shown = async || {
        let request = Request::new(ListClientsRequest { name: "gitlab".into() });
        of_accounts(
            lab.services.admin.list_clients(request).await.expect("listed").into_inner().clients.remove(0).warnings,
        )
    };
    const ANN: &str = "UID=ann, ou=people,dc=corp,dc=example";
    const BEN: &str = "uid=ben,ou=people,dc=corp,dc=example";
    assert_eq!(of_accounts(apply(&lab, &listing(BEN), &[], false).await.warnings), [""; 0]);
    assert_eq!(shown().await, [""; 0]);
    for dry_run in [true, false] {
        let warnings = of_accounts(apply(&lab, &listing(ANN), &[], dry_run).await.warnings);
        let [warning] = &warnings[..] else { panic!("{warnings:?}") };
        let words = format!("client.gitlab.service_accounts: {ANN:?} is \"ann\", who has a second factor");
        assert!(warning.starts_with(&words), "{warning}");
    }
    assert_eq!(shown().await.len(), 1);
    // By the id, once it is known, whatever the account is called.
    let pin = PinServiceAccountRequest { client: "gitlab".into(), name: ANN.into(), object_id: id_of("ben") };
    lab.services.settings.pin_service_account(Request::new(pin)).await.expect("pinned");
    assert_eq!(shown().await, [""; 0], "it is somebody else");
    lab.add_token_of(&lab.user("ben").await.expect("there").user.expect("with a summary").user_id).await;
    assert!(shown().await[0].contains("is \"ben\", who has a second factor"), "{:?}", shown().await);
}

pub async fn each_method_of_a_service_account_is_warned_about(lab: Fixture) {
    // FL-15: whatever verification would ask for, as calls and texts to a number of the directory where there is a provider
    const NAMES: [&str; 5] = ["answers", "device", "nothing", "phone", "recovery"];
    lab.with_settings().await;
    let run_id = lab.begin().await.expect("a run begins");
    let people = NAMES.map(|name| match name {
        "phone" => person(name),
        name => SyncedUser { phones: Vec::new(), ..person(name) },
    });
    lab.batch(&run_id, people.to_vec()).await;
    lab.finish(&run_id, true).await;
    let accounts = NAMES.map(|name| format!("{{ name = \"uid={name},ou=people,dc=corp,dc=example\" }}")).join(", ");
    let document = SETTINGS.to_owned() + &GITLAB.replace("{ name = \"cn=gitlab,dc=corp,dc=example\" }", &accounts);
    let warned = async |providers: &str| {
        let given = [(SMS, SMS_SECRET), (VOICE, VOICE_SECRET)];
        let secrets: Vec<_> =
            given.iter().filter(|(of, _)| providers.contains(of)).map(|(_, secret)| *secret).collect();
        let reply = apply(&lab, &(document.clone() + providers), &secrets, true).await;
        assert_eq!(reply.errors, [""; 0]);
        let about = |name: &&str| {
            let words = format!("is {name:?}, who has a second factor");
            reply.warnings.iter().any(|warning| warning.contains(&words))
        };
        NAMES.into_iter().filter(about).collect::<Vec<_>>()
    };
    assert_eq!(warned("").await, [""; 0], "nobody can ring");
    assert_eq!(warned(SMS).await, ["phone"]);
    assert_eq!(warned(VOICE).await, ["phone"]);
    let mut users = Vec::new();
    for username in NAMES {
        let user_id = lab.user(username).await.expect("there").user.expect("with a summary").user_id;
        users.push(Enrolled { user_id, factor_id: String::new(), username: username.into() });
    }
    crate::devices::active(&lab, &users[1], 7).await;
    assert_eq!(warned("").await, ["device"]);
    crate::secrets::recovery(&lab, &users[4], &["one-code", "another-code"]).await;
    assert_eq!(warned("").await, ["device", "recovery"]);
    let set = SetAnswersRequest {
        user_id: users[0].user_id.clone(),
        questions: ["First pet?", "Town of birth?", "Best friend?"].map(str::to_owned).to_vec(),
        answers: ["Rex Maximus", "Ulm an der Donau", "Tonia"].map(|text| Secret { value: text.into() }).to_vec(),
        actor: "admin:uid=0".into(),
    };
    lab.services.admin.set_answers(Request::new(set)).await.expect("set");
    assert_eq!(warned("").await, ["answers", "device", "recovery"]);
    assert_eq!(warned(&(SMS.to_owned() + VOICE)).await, ["answers", "device", "phone", "recovery"]);
}

pub async fn what_a_client_taught_is_kept_until_the_client_is_another(lab: Fixture) {
    // R-10
    let auto = SETTINGS.to_owned() + VPN + "message_authenticator = \"auto\"\n";
    apply(&lab, &auto, &[], false).await;
    let learn = |client: &str, sends| {
        let request = LearnClientRequest { client: client.into(), sends_message_authenticator: sends };
        lab.services.settings.learn_client(Request::new(request))
    };
    let learned = async || fetch(&lab, part::RADIUS_GATEWAY).await.learned_message_authenticator;
    assert!(learned().await.is_empty());
    learn("vpn", false).await.expect("learnt");
    assert_eq!(learned().await["vpn"], "no");
    learn("vpn", true).await.expect("learnt");
    let revision = fetch(&lab, part::RADIUS_GATEWAY).await.revision;
    learn("vpn", false).await.expect("heard, and not weakened");
    assert_eq!(learned().await["vpn"], "yes");
    assert_eq!(fetch(&lab, part::RADIUS_GATEWAY).await.revision, revision);
    assert_eq!(learn("mail", true).await.expect_err("no such client").code(), Code::FailedPrecondition);
    let kept = auto.replace("\"generate\"", "\"keep\"");
    apply(&lab, &(kept.clone() + "wait_seconds = 60\n"), &[], false).await;
    assert_eq!(learned().await["vpn"], "yes", "the same device");
    apply(&lab, &kept.replace("10.0.4.3", "10.0.4.4"), &[], false).await;
    assert!(learned().await.is_empty(), "another device");
}

pub async fn key_rings_belong_to_their_part_and_rotate_with_overlap(lab: Fixture) {
    // V-72, V-73, V-76
    let ring = async |part: &'static str, purpose: &str| -> Result<KeyRingReply, Status> {
        let request = Request::new(KeyRingRequest { purpose: purpose.into() });
        Ok(lab.services.settings_for(part).key_ring(request).await?.into_inner())
    };
    for (part, purpose, allowed) in [
        (part::RADIUS_GATEWAY, "radius-state", true),
        (part::RADIUS_GATEWAY, "requests", true),
        (part::RADIUS_GATEWAY, "passwords", true),
        (part::LDAP_GATEWAY, "passwords", true),
        (part::VERIFICATION, "challenges", true),
        (part::VERIFICATION, "codes", true),
        (part::VERIFICATION, "remembered", true),
        (part::VERIFICATION, "passwords", false),
        (part::VERIFICATION, "pepper", false),
        (part::LDAP_GATEWAY, "radius-state", false),
        (part::LDAP_GATEWAY, "codes", false),
        (part::RADIUS_GATEWAY, "remembered", false),
        (part::DIRECTORY_SYNC, "passwords", false),
        (part::RADIUS_GATEWAY, "challenges", false),
        (part::VERIFICATION, "radius-state", false),
        (part::PORTAL, "challenges", false),
        ("", "challenges", false),
    ] {
        let reply = ring(part, purpose).await;
        assert_eq!(reply.is_ok(), allowed, "{part} {purpose}");
        assert!(allowed || reply.is_err_and(|status| status.code() == Code::PermissionDenied));
    }
    let calls = (0..10).map(|_| ring(part::VERIFICATION, "challenges"));
    let replies: Vec<_> = futures::future::join_all(calls).await.into_iter().map(|it| it.expect("a ring")).collect();
    assert!(replies.iter().all(|reply| *reply == replies[0]), "one key, whoever asks first");
    assert_eq!((replies[0].keys.len(), replies[0].current), (1, 1));
    assert_eq!(replies[0].keys[0].key.as_ref().expect("a key").value.len(), 32);

    const DAY_MS: i64 = 24 * 3_600_000;
    lab.clock.advance(30 * DAY_MS);
    let told = ring(part::VERIFICATION, "challenges").await.expect("a ring");
    assert_eq!((told.keys.len(), told.current), (2, 1), "the new key is known before it seals");
    lab.clock.advance(3_600_000);
    let sealing = ring(part::VERIFICATION, "challenges").await.expect("a ring");
    assert_eq!((sealing.keys.len(), sealing.current), (2, 2), "the old one still opens");
    assert_eq!(sealing.keys[0], replies[0].keys[0]);
    lab.clock.advance(30 * DAY_MS);
    let next = ring(part::VERIFICATION, "challenges").await.expect("a ring");
    assert_eq!((next.keys.iter().map(|key| key.id).collect::<Vec<_>>(), next.current), (vec![2, 3], 2));
}
