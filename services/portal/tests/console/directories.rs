//! Directories and their mapping: forms that keep what was typed and no password, tried before they are saved.

use super::{signed_in, token};
use crate::support::{Browser, World};
use domain::Role;
use http::StatusCode;

const CORP: &str = "revision = 41\n[[directory]]\nname = \"corp\"\npreset = \"openldap\"\nurls = [\"ldaps://dc\"]\nbase = \"dc=corp\"\n\
    query_bind = { kind = \"tls\", name = \"cn=q\", password = \"keep\" }\nattributes = { mail = \"mail\" }\n\
    [[client]]\nname = \"vpn\"\nprotocol = \"ldap\"\nsources = [\"10.0.0.0/8\"]\ntarget = \"corp\"\n";
const EDIT: &str = "/console/directories/corp/edit";
const MAPPING: &str = "/console/directories/corp/mapping";
const NEW: [(&str, &str); 8] = [
    ("name", "acme"),
    ("preset", "openldap"),
    ("shown_preset", "openldap"),
    ("urls", "ldaps://one.example\nldaps://two.example"),
    ("query_bind.kind", "tls"),
    ("query_bind.name", "cn=reader,dc=acme"),
    ("authentication_bind.kind", "tls"),
    ("base", "dc=acme"),
];

async fn owner(world: &World) -> Browser {
    *world.store.document.lock().expect("a lock") = CORP.into();
    signed_in(world, Role::Owner).await
}

fn applied(world: &World) -> Vec<String> {
    world.store.applied.lock().expect("a lock").clone()
}

/// The field of this name as the page has it, up to the next label.
fn field<'a>(browser: &'a Browser, name: &str) -> &'a str {
    let mark = format!("name=\"{name}\"");
    let (before, _) =
        browser.page.html.split_once(&mark).unwrap_or_else(|| panic!("no {name} in {}", browser.page.html));
    let rest = &browser.page.html[before.rfind('<').expect("a tag")..];
    rest.split("<label").next().unwrap_or(rest)
}

/// Nothing is chosen, and the choice says what that means.
fn includes_by_itself(browser: &Browser) -> bool {
    let field = field(browser, "trusted_domains");
    field.contains(r#"<option value="" selected>yes, if its account is known there"#)
}

#[tokio::test]
async fn an_active_directory_includes_trusted_domains_unless_it_says_no_and_an_ldap_directory_has_none() {
    // FD-01, FD-02
    let world = World::with_console().await;
    let mut owner = owner(&world).await;
    owner.get("/console/directories").await;
    assert!(owner.page.html.contains(">corp") && owner.page.html.contains("<td>LDAP</td>"), "{}", owner.page.html);
    owner.get("/console/directories/new?preset=active_directory").await;
    assert!(owner.page.title().starts_with("New Active Directory"), "{}", owner.page.title());
    assert!(includes_by_itself(&owner), "{}", field(&owner, "trusted_domains"));
    assert!(
        field(&owner, "user_filter").contains("preset&#39;s: (&#38;(objectCategory=person)"),
        "{}",
        field(&owner, "user_filter")
    );
    owner.get("/console/directories/new?preset=openldap").await;
    assert!(owner.page.title().starts_with("New LDAP directory"), "{}", owner.page.title());
    assert!(!owner.page.html.contains("Include trusted domains"), "{}", owner.page.html);
    // Another preset has other fields: they are looked at before anything goes on.
    let switched = [("preset", "active_directory"), ("shown_preset", "openldap"), ("name", "acme"), ("step", "look")];
    owner.submit("/console/directories/new", &switched).await;
    assert!(includes_by_itself(&owner) && field(&owner, "name").contains("acme"));
    assert!(owner.page.html.contains("The preset is another one"), "{}", owner.page.html);
    owner.get(EDIT).await;
    assert!(owner.page.title().starts_with("LDAP corp"), "{}", owner.page.title());
}

#[tokio::test]
async fn what_is_wrong_stands_at_its_field_and_what_was_typed_stays_but_no_password() {
    // FD-09, V-83
    let world = World::with_console().await;
    let mut owner = owner(&world).await;
    owner.get("/console/directories/new?preset=openldap").await;
    let wrong = [("page_size", "many"), ("secret.query_bind.password", "hunter2"), ("step", "look")];
    owner.submit("/console/directories/new", &[&NEW[..], &wrong].concat()).await;
    assert_eq!(owner.page.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(field(&owner, "page_size").contains("a whole number"), "{}", field(&owner, "page_size"));
    assert!(
        field(&owner, "urls").contains("ldaps://two.example") && field(&owner, "query_bind.name").contains("cn=reader")
    );
    assert!(!owner.page.html.contains("hunter2"), "{}", owner.page.html);
    owner.submit("/console/directories/new", &[&NEW[..], &[("step", "look")]].concat()).await;
    assert!(field(&owner, "secret.query_bind.password").contains("Type the password"), "{}", owner.page.html);
    let taken = [("name", "corp"), ("secret.query_bind.password", "hunter2"), ("step", "look")];
    owner.submit("/console/directories/new", &[&NEW[1..], &taken].concat()).await;
    assert!(field(&owner, "name").contains("another directory has this name"), "{}", field(&owner, "name"));
    assert!(applied(&world).is_empty());
}

#[tokio::test]
async fn another_preset_and_back_changes_nothing_of_a_saved_directory() {
    // FD-02
    let world = World::with_console().await;
    let mut owner = owner(&world).await;
    *world.store.document.lock().expect("a lock") = CORP.replace("\"openldap\"", "\"active_directory\"").replace(
        "base = \"dc=corp\"\n",
        "base = \"dc=corp\"\nattribute_scope_queries = false\ntrusted = { \"child.corp\" = { urls = [\"ldaps://child\"] } }\n",
    );
    owner.get(EDIT).await;
    assert!(includes_by_itself(&owner), "{}", field(&owner, "trusted_domains"));
    let trusted = "child.corp ldaps://child";
    let there = [("preset", "openldap"), ("shown_preset", "active_directory"), ("trusted", trusted)];
    owner.submit(EDIT, &there).await;
    assert!(field(&owner, "trusted").contains("hidden") && field(&owner, "trusted").contains(trusted));
    let back = [("preset", "active_directory"), ("shown_preset", "openldap"), ("trusted", trusted)];
    owner.submit(EDIT, &back).await;
    assert!(field(&owner, "trusted").contains(trusted), "{}", field(&owner, "trusted"));
    assert!(includes_by_itself(&owner), "{}", field(&owner, "trusted_domains"));
    let scope_queries = field(&owner, "attribute_scope_queries");
    assert!(!scope_queries.contains(" checked"), "{scope_queries}");
}

#[tokio::test]
async fn no_browser_fills_in_a_password_and_none_is_dropped_unseen() {
    // FD-09
    let world = World::with_console().await;
    let mut owner = owner(&world).await;
    owner.get(EDIT).await;
    for secret in ["secret.query_bind.password", "secret.try"] {
        assert!(field(&owner, secret).contains("autocomplete=\"new-password\""), "{}", field(&owner, secret));
    }
    let fields = [&NEW[..], &[("secret.query_bind.password", "hunter2"), ("step", "look")]].concat();
    owner.get("/console/directories/new?preset=openldap").await;
    for more in [("sync_bind.name", "cn=sync"), ("secret.sync_bind.password", "hunter2")] {
        owner.submit("/console/directories/new", &[&fields[..], &[more]].concat()).await;
        assert!(field(&owner, "sync_bind.kind").contains("choose how it binds"), "{}", owner.page.html);
    }
    assert!(owner.page.html.contains("<a href=\"#sync_bind.kind\">"), "{}", owner.page.html);
    owner.submit("/console/directories/new", &fields).await;
    assert!(field(&owner, "secret.query_bind.password").contains("autocomplete=\"new-password\""));
}

#[tokio::test]
async fn a_directory_that_is_applied_twice_is_saved_once() {
    let world = World::with_console().await;
    let mut owner = owner(&world).await;
    let token = token(&owner);
    let own =
        [("csrf", token.as_str()), ("revision", "41"), ("step", "apply"), ("secret.query_bind.password", "hunter2")];
    let fields = [&NEW[..], &own].concat();
    owner.post("/console/directories/new", &fields).await;
    *world.store.document.lock().expect("a lock") = applied(&world)[0].replace("revision = 41", "revision = 42");
    owner.post("/console/directories/new", &fields).await;
    assert_eq!(owner.page.path, "/console/directories/acme/saved", "{}", owner.page.html);
    assert!(owner.page.html.contains("412 users found."), "tried there: {}", owner.page.html);
    assert_eq!(applied(&world).len(), 1);
    // Somebody else's change is looked at.
    *world.store.document.lock().expect("a lock") = CORP.replace("41", "43");
    let theirs =
        [&NEW[..], &[("csrf", token.as_str()), ("revision", "41"), ("secret.query_bind.password", "hunter2")]].concat();
    owner.post("/console/directories/new", &[&theirs[..], &[("step", "look")]].concat()).await;
    assert!(owner.page.html.contains("Applying undoes their changes to this object"), "{}", owner.page.html);
}

#[tokio::test]
async fn a_mapping_is_tried_before_it_is_saved_and_an_id_that_finds_nobody_is_refused() {
    // FD-11, FD-17, FD-31
    let world = World::with_console().await;
    let mut owner = owner(&world).await;
    owner.get(MAPPING).await;
    owner.submit(MAPPING, &[("attributes.mail", "uid"), ("try_user", "ann"), ("step", "try")]).await;
    assert!(owner.page.html.contains("412 users found.") && field(&owner, "attributes.mail").contains("value=\"uid\""));
    let asked = world.directory.inspected.lock().expect("a lock").pop().expect("it was tried");
    assert!(asked.draft_json.contains("\"mail\":\"uid\"") && asked.name == "ann", "{}", asked.draft_json);
    *world.directory.bad_user.lock().expect("a lock") = Some("A search for that finds 2 entries.".into());
    owner.submit(MAPPING, &[("attributes.id", "uid"), ("step", "look")]).await;
    assert!(field(&owner, "attributes.id").contains("finds 2 entries"), "{}", field(&owner, "attributes.id"));
    owner.submit(MAPPING, &[("attributes.mail", "uid"), ("step", "look")]).await;
    assert!(owner.page.html.contains("would change"), "the id is as it was: {}", owner.page.html);
    assert!(applied(&world).is_empty());
}

#[tokio::test]
async fn the_directory_of_the_portal_is_marked_and_what_its_removal_means_is_said() {
    // FD-01
    let world = World::with_console().await;
    let mut owner = owner(&world).await;
    owner.get("/console/directories").await;
    assert!(owner.page.html.contains("(the portal&#39;s)") || owner.page.html.contains("(the portal's)"));
    owner.get("/console/directories/corp/remove").await;
    assert!(owner.page.html.contains("Everybody signs in to the portal by this directory"), "{}", owner.page.html);
    let other = "sync: approval_over_users: found 0";
    *world.store.refusals.lock().expect("a lock") = vec![other.into()];
    owner.get("/console/directories/corp/remove").await;
    assert!(owner.page.html.contains("approval_over_users") && !owner.page.html.contains("It is used"));
}

#[tokio::test]
async fn a_directory_is_looked_at_then_saved_with_a_password_that_no_page_kept_then_tried() {
    // FD-09, FD-11, V-83
    let world = World::with_console().await;
    let mut owner = owner(&world).await;
    owner.get("/console/directories/new?preset=openldap").await;
    let fields = [&NEW[..], &[("secret.query_bind.password", "hunter2"), ("step", "look")]].concat();
    owner.submit("/console/directories/new", &fields).await;
    assert_eq!(owner.page.status, StatusCode::OK, "{}", owner.page.html);
    assert!(owner.page.html.contains("once more") && !owner.page.html.contains("hunter2"), "{}", owner.page.html);
    assert!(applied(&world).is_empty(), "nothing is saved by looking");
    let revision = [("revision", "41"), ("asked", "query_bind.password"), ("step", "apply")];
    let fields = [&NEW[..], &revision, &[("secret.query_bind.password", "hunter2")]].concat();
    owner.submit("/console/directories/new", &fields).await;
    let documents = applied(&world);
    assert!(documents.len() == 1 && documents[0].contains("name = \"acme\""), "{documents:?}");
    assert!(!documents[0].contains("hunter2") && documents[0].contains("name = \"corp\""), "{documents:?}");
    let call = world.store.calls().into_iter().rfind(|call| call.starts_with("apply dry_run=false")).expect("applied");
    assert!(call.contains("api-key:test-owner") && call.contains("directory.acme.query_bind.password"), "{call}");
}

#[tokio::test]
async fn a_saved_directory_keeps_its_password_unless_it_would_go_elsewhere() {
    // V-83, S-44
    let world = World::with_console().await;
    let mut owner = owner(&world).await;
    owner.get(EDIT).await;
    let mut fields = NEW[1..].to_vec();
    fields.retain(|(name, _)| !matches!(*name, "urls" | "query_bind.name"));
    fields.extend([("query_bind.name", "cn=q"), ("step", "look")]);
    owner.submit(EDIT, &[&fields[..], &[("urls", "ldaps://dc\r\nldaps://evil.example")]].concat()).await;
    let asked = field(&owner, "secret.query_bind.password");
    assert!(asked.contains("type the password again"), "{asked}");
    owner.submit(EDIT, &[&fields[..], &[("urls", "ldaps://dc")]].concat()).await;
    assert_eq!(owner.page.status, StatusCode::OK, "{}", owner.page.html);
    assert!(owner.page.html.contains("its next run is a preview"), "another base: {}", owner.page.html);
    let apply = [("urls", "ldaps://dc"), ("revision", "41"), ("step", "apply")];
    fields.retain(|(name, _)| *name != "step");
    owner.submit(EDIT, &[&fields[..], &apply].concat()).await;
    let documents = applied(&world);
    assert!(documents.len() == 1 && documents[0].contains("base = \"dc=acme\""), "{documents:?}");
    assert!(documents[0].contains("mail = \"mail\""), "the mapping stays: {documents:?}");
    assert!(owner.page.html.contains("412 users found."), "tried once saved: {}", owner.page.html);
}

#[tokio::test]
async fn a_directory_is_tried_as_it_is_typed_and_nothing_is_kept() {
    // FD-11
    let world = World::with_console().await;
    let mut owner = owner(&world).await;
    owner.get("/console/directories/new?preset=openldap").await;
    let secrets =
        [("secret.query_bind.password", "hunter2"), ("secret.try", "ann's"), ("try_user", "ann"), ("step", "try")];
    owner.submit("/console/directories/new", &[&NEW[..], &secrets].concat()).await;
    assert_eq!(owner.page.status, StatusCode::OK, "{}", owner.page.html);
    assert!(owner.page.html.contains("412 users found.") && owner.page.html.contains("no password was kept"));
    assert!(field(&owner, "base").contains("dc=acme") && field(&owner, "try_user").contains("value=\"ann\""));
    assert!(!owner.page.html.contains("hunter2") && !owner.page.html.contains("ann&#39;s"), "{}", owner.page.html);
    let asked = world.directory.inspected.lock().expect("a lock").pop().expect("it was tried");
    assert!(asked.draft_json.contains("ldaps://two.example") && asked.name == "ann", "{}", asked.draft_json);
    assert_eq!(asked.query_password.map(|it| it.value.clone()), Some(b"hunter2".to_vec()));
    assert_eq!(asked.password.map(|it| it.value.clone()), Some(b"ann's".to_vec()));
    assert!(!world.store.calls().iter().any(|call| call.starts_with("apply")), "{:?}", world.store.calls());
    *world.directory.fail_next.lock().expect("a lock") = Some(tonic::Code::ResourceExhausted);
    owner.submit("/console/directories/new", &[&NEW[..], &secrets].concat()).await;
    assert!(owner.page.html.contains("role=\"alert\"") && field(&owner, "base").contains("dc=acme"));
}

#[tokio::test]
async fn an_attribute_that_the_schema_lacks_is_doubted_before_and_after_and_all_of_it_can_be_restored() {
    // FD-17
    let world = World::with_console().await;
    let mut owner = owner(&world).await;
    owner.get(MAPPING).await;
    assert!(owner.page.html.contains("<option value=\"mail\">"), "what can be picked: {}", owner.page.html);
    let misspelt = [("attributes.mail", "mial"), ("attributes.phones.home", "-"), ("attributes.username", "uid, mail")];
    owner.submit(MAPPING, &[&misspelt[..], &[("step", "look")]].concat()).await;
    assert!(
        field(&owner, "attributes.mail").contains("no attribute &#34;mial&#34;"),
        "{}",
        field(&owner, "attributes.mail")
    );
    assert!(!field(&owner, "attributes.username").contains("no attribute"));
    owner.submit(MAPPING, &[&misspelt[..], &[("step", "look"), ("warned", "mial")]].concat()).await;
    assert!(owner.page.html.contains("would change") && owner.page.html.contains("mial"), "{}", owner.page.html);
    owner.submit(MAPPING, &[&misspelt[..], &[("step", "apply"), ("revision", "41")]].concat()).await;
    let documents = applied(&world);
    assert!(documents.len() == 1 && documents[0].contains("mail = \"mial\""), "{documents:?}");
    assert!(
        documents[0].contains("home = \"\"") && documents[0].contains("username = [\"uid\", \"mail\"]"),
        "{documents:?}"
    );
    assert!(documents[0].contains("password = \"keep\""), "{documents:?}");
    *world.store.document.lock().expect("a lock") = CORP.replace("mail = \"mail\"", "mail = \"mial\"");
    owner.get(MAPPING).await;
    assert!(field(&owner, "attributes.mail").contains("no attribute &#34;mial&#34;"), "{}", owner.page.html);
    owner.submit(MAPPING, &[("restore", "yes")]).await;
    assert!(owner.page.html.contains("name=\"restore\" value=\"yes\""), "{}", owner.page.html);
    owner.submit(MAPPING, &[("restore", "yes"), ("step", "apply"), ("revision", "41")]).await;
    assert!(!applied(&world)[1].contains("[directory.attributes]"), "{:?}", applied(&world));
    // A directory that does not answer keeps nobody from mapping it.
    *world.directory.fail_next.lock().expect("a lock") = Some(tonic::Code::Unavailable);
    owner.get(MAPPING).await;
    assert_eq!(owner.page.status, StatusCode::OK);
    assert!(owner.page.html.contains("cannot be asked for its schema"), "{}", owner.page.html);
}

#[tokio::test]
async fn a_directory_is_removed_by_its_name_and_while_something_uses_it_by_nobody() {
    let world = World::with_console().await;
    let mut owner = owner(&world).await;
    let remove = "/console/directories/corp/remove";
    owner.get(remove).await;
    owner.submit(remove, &[("name", "Corp")]).await;
    assert_eq!(owner.page.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(applied(&world).is_empty(), "nothing was applied");
    let token = token(&owner);
    let used = "client.vpn.target: found \"corp\"; the document has no [[directory]]";
    *world.store.refusals.lock().expect("a lock") = vec![used.into()];
    owner.get(remove).await;
    assert!(owner.page.html.contains("client.vpn.target") && owner.page.token(remove).is_none(), "{}", owner.page.html);
    owner.post(remove, &[("csrf", &token), ("name", "corp")]).await;
    assert_eq!(owner.page.status, StatusCode::UNPROCESSABLE_ENTITY);
    world.store.refusals.lock().expect("a lock").clear();
    owner.post(remove, &[("csrf", &token), ("name", "corp")]).await;
    assert_eq!(owner.page.status, StatusCode::OK, "{}", owner.page.html);
    assert!(applied(&world).last().is_some_and(|document| !document.contains("directory")), "{:?}", applied(&world));
}
