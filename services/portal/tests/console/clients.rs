//! Clients and targets as an administrator sees them: what is seen, what is unsafe and until when, what should be changed.

use super::signed_in;
use crate::support::{Browser, World};
use domain::Role;
use http::StatusCode;
use serde_json::json;

const OBSERVED: &str =
    "is only observed until 2026-12-01T00:00:00Z: the password alone lets people in; <u>off</u> ends it";

/// The part of the page with this id, up to the end of its kind of element.
fn part<'a>(browser: &'a Browser, id: &str, end: &str) -> &'a str {
    let mark = format!("id=\"{id}\"");
    let (_, rest) = browser.page.html.split_once(&mark).unwrap_or_else(|| panic!("no {id} in {}", browser.page.html));
    rest.split(end).next().unwrap_or(rest)
}

/// The row of a table that begins with this.
fn row<'a>(table: &'a str, begins: &str) -> &'a str {
    let found = table.split("<tr>").find(|row| row.contains(begins));
    found.unwrap_or_else(|| panic!("no {begins} in {table}"))
}

#[tokio::test]
async fn every_client_is_listed_with_when_it_was_seen_and_what_there_is_to_look_at() {
    // FA-05, R-37
    let world = World::with_console().await;
    let mut owner = signed_in(&world, Role::Owner).await;
    owner.get("/console/clients").await;
    assert_eq!(owner.page.status, StatusCode::OK);
    let table = part(&owner, "clients", "</table>").to_owned();
    let vpn = row(&table, "/console/clients/vpn");
    for said in ["RADIUS", "10.0.4.0/28", "corp", "in the last hour", "1 to change"] {
        assert!(vpn.contains(said), "no {said:?} in {vpn}");
    }
    assert!(!vpn.contains("unsafe") && !vpn.contains("only observed"), "{vpn}");
    let gitlab = row(&table, "/console/clients/gitlab");
    assert!(gitlab.contains("LDAP") && gitlab.contains("not recorded") && gitlab.contains("nothing"), "{gitlab}");

    world.store.change_vpn(json!({ "observe_until": "2026-12-01T00:00:00Z", "application": "<b>The VPN</b>" }));
    *world.store.weaknesses.lock().expect("a lock") = vec![OBSERVED.into()];
    world.clock.advance(3_600_000 / 6);
    owner.get("/console/clients").await;
    let table = part(&owner, "clients", "</table>").to_owned();
    let vpn = row(&table, "/console/clients/vpn");
    assert!(vpn.contains("only observed") && vpn.contains("1 unsafe") && vpn.contains("1 to change"), "{vpn}");
    assert!(vpn.contains("&#60;b&#62;The VPN"), "what is typed is hostile text: {vpn}");
}

#[tokio::test]
async fn a_client_is_shown_with_what_it_lets_through_first_and_its_settings_without_a_secret() {
    // FB-04
    let world = World::with_console().await;
    let mut owner = signed_in(&world, Role::Owner).await;
    owner.get("/console/clients/vpn").await;
    assert!(!owner.page.html.contains("id=\"weaknesses\""), "{}", owner.page.html);
    assert!(part(&owner, "warnings", "</section>").contains("gives up after 15 s"));
    let seen = part(&owner, "seen", "</section>").to_owned();
    for said in ["in the last hour", "demanded", "node-1", "sends pap", "waits 15.0 s", "ma_missing 3"] {
        assert!(seen.contains(said), "no {said:?} in {seen}");
    }
    assert!(owner.page.html.contains("href=\"/console/directories/corp/edit\""), "{}", owner.page.html);
    assert!(owner.page.html.contains("the one before counts until 20 November 2026"), "{}", owner.page.html);
    let every = part(&owner, "every", "</details>");
    assert!(every.contains("secret = &#34;keep&#34;") && every.contains("wait_seconds = 55"), "{every}");

    world.store.change_vpn(json!({
        "observe_until": "2026-12-01T00:00:00Z", "when_unavailable": "pass", "message_authenticator": "auto",
        "name_forms": ["bare", "upn"], "password_protocols": ["pap"],
    }));
    *world.store.weaknesses.lock().expect("a lock") = vec![OBSERVED.into(), "lets everybody in".into()];
    owner.get("/console/clients/vpn").await;
    let open = part(&owner, "weaknesses", "</section>").to_owned();
    assert!(open.contains("Only observed until 1 December 2026, 00:00 UTC"), "{open}");
    assert!(open.contains("lets everybody in") && open.contains("&#60;u&#62;off"), "{open}");
    let warnings = part(&owner, "warnings", "</section>");
    assert!(warnings.contains("gives up") && !warnings.contains("lets everybody"), "said once: {warnings}");
    for said in ["demanded since it has sent one (auto)", "bare, upn", "everybody is let in on the password"] {
        assert!(owner.page.html.contains(said), "no {said:?} in {}", owner.page.html);
    }
    owner.get("/console/clients/nobody").await;
    assert_eq!(owner.page.status, StatusCode::NOT_FOUND);
    owner.get("/console/clients/gitlab").await;
    assert!(owner.page.html.contains("Nothing needs to be changed"), "{}", owner.page.html);
    assert!(!owner.page.html.contains("id=\"seen\""), "of an LDAP client nothing is seen");
}

#[tokio::test]
async fn a_target_is_shown_with_how_each_node_finds_each_server() {
    //
    let world = World::with_console().await;
    world.store.change_vpn(json!({ "target": "homes" }));
    let mut owner = signed_in(&world, Role::Owner).await;
    owner.get("/console/targets").await;
    assert_eq!(owner.page.status, StatusCode::OK);
    let html = owner.page.html.clone();
    let first = row(&html, "10.0.0.5:1812");
    for said in ["alive", "gw-1", "dead: it is only asked", "gw-2", "not demanded: it answered without one (auto)"] {
        assert!(first.contains(said), "no {said:?} in {first}");
    }
    assert!(first.contains("mark-good") && first.contains("mark-bad") && first.contains("&#60;b&#62;it"), "{first}");
    let second = row(&html, "radius.example:2083");
    assert!(second.contains("TLS") && second.contains("no gateway has told yet"), "{second}");
    assert!(html.contains("<a href=\"/console/clients/vpn\">vpn</a>"), "{html}");
    let directories = part(&owner, "directories", "</table>");
    assert!(row(directories, ">corp<").contains("ldaps://dc"), "{directories}");
    assert!(row(directories, ">corp<").contains("gitlab") && !row(directories, ">corp<").contains("vpn"));
}

#[tokio::test]
async fn the_overview_names_clients_that_let_somebody_through_and_dangers_to_those_who_may_see_clients() {
    // FB-04, V-40
    let world = World::with_console().await;
    let mut owner = signed_in(&world, Role::Owner).await;
    let mut auditor = signed_in(&world, Role::Auditor).await;
    assert!(!owner.page.html.contains("id=\"open\"") && !owner.page.html.contains("id=\"dangers\""));
    world.store.change_vpn(json!({
        "message_authenticator": "no", "limit_proxy_state": "no", "danger_accept_blastradius": true,
    }));
    *world.store.weaknesses.lock().expect("a lock") = vec!["both protections are off".into()];
    owner.get("/console").await;
    let open = part(&owner, "open", "</section>");
    assert!(open.contains("/console/clients/vpn") && open.contains("both protections are off"), "{open}");
    let dangers = part(&owner, "dangers", "</section>");
    assert!(
        dangers.contains("client.vpn.danger_accept_blastradius") && dangers.contains("forged answers"),
        "{dangers}"
    );
    auditor.get("/console").await;
    assert_eq!(auditor.page.status, StatusCode::OK);
    assert!(!auditor.page.html.contains("vpn"), "{}", auditor.page.html);
    assert!(!auditor.page.html.contains("/console/clients"), "nor is a page offered that would be refused");
}
