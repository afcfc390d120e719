//! The console's pages: every page for every role, what a form has to bring along, and what a page does with names of the directory.

#[path = "console/clients.rs"]
mod clients;
#[path = "console/directories.rs"]
mod directories;
mod support;

use domain::Role;
use domain::settings::FirstEnrolment::Open;
use domain::settings::Settings;
use http::StatusCode;
use proto::user_store::SyncRun;
use support::{Browser, World, api_key};

const ADDRESSES: [(&str, &str, &[Role]); 37] = [
    ("GET", "/console", LOOKERS),
    ("GET", "/console/users", LOOKERS),
    ("GET", "/console/users/new", EDITORS),
    ("POST", "/console/users/new", EDITORS),
    ("GET", "/console/sync", OWNERS),
    ("POST", "/console/sync/preview", OWNERS),
    ("POST", "/console/sync/write", OWNERS),
    ("GET", "/console/sync/wait?directory=corp&mode=full&since=0&asked_at=0", OWNERS),
    ("GET", "/console/sync/runs/r1", OWNERS),
    ("GET", "/console/sync/items/staff/remove", OWNERS),
    ("POST", "/console/sync/items/staff/remove", OWNERS),
    ("GET", "/console/sync/items/new", OWNERS),
    ("POST", "/console/sync/items/new", OWNERS),
    ("GET", "/console/sync/items/staff/edit", OWNERS),
    ("POST", "/console/sync/items/staff/edit", OWNERS),
    ("POST", "/console/sync/items/staff/move", OWNERS),
    ("GET", "/console/sync/items/staff/saved?what=made", OWNERS),
    ("GET", "/console/sync/schedule/saved", OWNERS),
    ("GET", "/console/directories/corp/saved", OWNERS),
    ("GET", "/console/sync/owner?user=ann", OWNERS),
    ("GET", "/console/sync/schedule", OWNERS),
    ("POST", "/console/sync/schedule", OWNERS),
    ("POST", "/console/sync/probe", OWNERS),
    ("GET", "/console/approvals", OWNERS),
    ("GET", "/console/approvals/a1", OWNERS),
    ("POST", "/console/approvals/a1", OWNERS),
    ("GET", "/console/clients", OWNERS),
    ("GET", "/console/clients/vpn", OWNERS),
    ("GET", "/console/targets", OWNERS),
    ("GET", "/console/directories", OWNERS),
    ("GET", "/console/directories/new", OWNERS),
    ("POST", "/console/directories/new", OWNERS),
    ("GET", "/console/directories/corp/edit", OWNERS),
    ("POST", "/console/directories/corp/mapping", OWNERS),
    ("POST", "/console/directories/corp/remove", OWNERS),
    ("GET", "/console/import?directory=corp&below=ou%3Dpeople%2Cdc%3Dcorp", OWNERS),
    ("POST", "/console/import", OWNERS),
];
const LOOKERS: &[Role] = &[Role::Owner, Role::Admin, Role::UserManager, Role::HelpDesk, Role::Auditor];
const EDITORS: &[Role] = &[Role::Owner, Role::Admin, Role::UserManager];
const OWNERS: &[Role] = &[Role::Owner, Role::Admin];

async fn signed_in(world: &World, role: Role) -> Browser {
    let mut browser = world.browser();
    browser.get("/console").await;
    browser.submit("/console/sign-in", &[("key", &api_key(role.code())), ("next", "/console")]).await;
    browser
}

/// The token of the page in view.
fn token(browser: &Browser) -> String {
    browser.page.token("/console/sign-out").expect("a page of somebody who is signed in")
}

#[tokio::test]
async fn every_page_opens_to_exactly_its_roles() {
    // V-82
    let world = World::with_console().await;
    for role in LOOKERS {
        let mut browser = signed_in(&world, *role).await;
        assert_eq!(browser.page.status, StatusCode::OK, "{role:?}: {}", browser.page.html);
        let token = token(&browser);
        for (method, path, roles) in ADDRESSES {
            let status = loop {
                match method {
                    "GET" => browser.get(path).await,
                    _ => browser.post(path, &[("csrf", &token), ("directory", "corp")]).await,
                };
                // There are more pages than a key may ask for at once (FC-04).
                if browser.page.status != StatusCode::TOO_MANY_REQUESTS {
                    break browser.page.status;
                }
            };
            match roles.contains(role) {
                true => assert!(
                    status != StatusCode::FORBIDDEN && !status.is_server_error(),
                    "{role:?} {method} {path}: {status} {}",
                    browser.page.html
                ),
                false => assert_eq!(status, StatusCode::FORBIDDEN, "{role:?} {method} {path}"),
            }
        }
    }
    let mut application = signed_in(&world, Role::Application).await;
    assert_eq!(application.page.status, StatusCode::FORBIDDEN);
    application.get("/console/users").await;
    assert_eq!(application.page.title().split(" · ").next(), Some("Sign in to the console"));
}

#[tokio::test]
async fn a_form_is_taken_from_our_own_page_in_the_same_browser_only() {
    // V-81, B-91
    let world = World::with_console().await;
    let mut owner = signed_in(&world, Role::Owner).await;
    let own = token(&owner);
    let mut other = signed_in(&world, Role::Owner).await;
    for token in [String::new(), "0".repeat(32), token(&other)] {
        owner.post("/console/sync/write", &[("csrf", &token), ("directory", "corp")]).await;
        assert_eq!(owner.page.status, StatusCode::FORBIDDEN);
    }
    other.origin.insert(http::header::ORIGIN, "https://evil.example".parse().expect("a value"));
    let token = other.page.token("/console/sign-out").expect("a token");
    other.post("/console/sync/write", &[("csrf", &token), ("directory", "corp")]).await;
    assert_eq!(other.page.status, StatusCode::FORBIDDEN);
    assert!(!world.store.calls().iter().any(|note| note.contains("sync")), "{:?}", world.store.calls());
    owner.post("/console/sync/write", &[("csrf", &own), ("directory", "corp"), ("looked_at", "r7")]).await;
    assert!(world.store.calls().iter().any(|note| note.contains("api-key:test-owner")), "{:?}", world.store.calls());
}

#[tokio::test]
async fn a_person_is_nobody_at_the_console_and_an_administrator_nobody_in_the_portal() {
    let world = World::with_console().await;
    let mut person = world.signed_in().await;
    let cookie = person.session_cookie().cloned().expect("a session");
    person.cookies.insert("__Host-twinlock-console".into(), cookie);
    person.get("/console").await;
    assert!(person.page.html.contains("action=\"/console/sign-in\""), "{}", person.page.html);
    let mut owner = signed_in(&world, Role::Owner).await;
    let cookie = owner.cookies.get("__Host-twinlock-console").cloned().expect("a session");
    owner.cookies.insert("__Host-twinlock".into(), cookie);
    owner.get("/account").await;
    assert!(owner.page.html.contains("action=\"/sign-in\""), "{}", owner.page.html);
}

#[tokio::test]
async fn a_session_ends_with_its_key_and_with_its_time() {
    // V-80
    let world = World::with_console().await;
    let mut owner = signed_in(&world, Role::Owner).await;
    let mut admin = signed_in(&world, Role::Admin).await;
    *world.store.revoked_key.lock().expect("a lock") = "test-owner".into();
    owner.get("/console/users").await;
    assert!(owner.page.html.contains("action=\"/console/sign-in\""));
    world.clock.advance(16 * 60_000);
    admin.get("/console/users").await;
    assert!(admin.page.html.contains("action=\"/console/sign-in\""));
}

#[tokio::test]
async fn an_item_is_removed_by_its_name_and_approvals_by_a_choice() {
    // FS-07, FS-10
    let world = World::with_console().await;
    *world.store.document.lock().expect("a lock") =
        "revision = 41\n[[sync_item]]\nname = \"staff\"\ndirectory = \"corp\"\nsource = { kind = \"domain\" }\n".into();
    let mut owner = signed_in(&world, Role::Owner).await;
    owner.get("/console/sync/items/staff/remove").await;
    owner.submit("/console/sync/items/staff/remove", &[("name", "Staff")]).await;
    assert_eq!(owner.page.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(world.store.applied.lock().expect("a lock").is_empty(), "nothing was applied");
    owner.submit("/console/sync/items/staff/remove", &[("name", "staff")]).await;
    assert_eq!(owner.page.status, StatusCode::OK, "{}", owner.page.html);
    let applied = world.store.applied.lock().expect("a lock").clone();
    assert!(applied.len() == 1 && !applied[0].contains("staff"), "{applied:?}");

    for page in ["/console", "/console/approvals", "/console/approvals/a1"] {
        owner.get(page).await;
        assert!(owner.page.html.contains("the sync item staff has nobody any more"), "{page}: {}", owner.page.html);
    }
    for page in ["/console/sync", "/console/sync/runs/r1"] {
        owner.get(page).await;
        assert!(
            owner.page.html.contains("are more than the 5 of sync.approval_over_users"),
            "{page}: {}",
            owner.page.html
        );
    }
    for text in ["<b>7</b> problems", "cn=ann &#60;b&#62;", "is no mail address"] {
        assert!(owner.page.html.contains(text), "{text}: {}", owner.page.html);
    }
    owner.get("/console/approvals/a1").await;
    owner.submit("/console/approvals/a1", &[("decision", "some")]).await;
    assert_eq!(owner.page.status, StatusCode::UNPROCESSABLE_ENTITY, "nobody chosen is not everybody");
    owner.submit("/console/approvals/a1", &[("decision", "")]).await;
    assert_eq!(owner.page.status, StatusCode::BAD_REQUEST);
}

const CORP: &str = "[[directory]]\nname = \"corp\"\nurls = [\"ldaps://dc\"]\nbase = \"dc=corp\"\n\
                    query_bind = { kind = \"anonymous\" }\n";

/// Settings of a revision, with a directory and items of it.
fn document(revision: u64, items: &[&str]) -> String {
    let item = |name: &&str| {
        format!("[[sync_item]]\nname = \"{name}\"\ndirectory = \"corp\"\nsource = {{ kind = \"domain\" }}\n")
    };
    format!("revision = {revision}\n{CORP}{}", items.iter().map(item).collect::<String>())
}

/// What the form of the page in view that goes to `action` carries along unseen.
fn carried(browser: &Browser, action: &str) -> Vec<(String, String)> {
    let html = &browser.page.html;
    let form = html.split("<form").find(|form| form.contains(&format!("action=\"{action}\""))).expect("a form");
    let form = form.split("</form>").next().unwrap_or_default();
    let fields = form.split("<input type=\"hidden\" name=\"").skip(1).filter_map(|field| {
        let (name, rest) = field.split_once("\" value=\"")?;
        Some((name.to_owned(), rest.split('"').next()?.replace("&#34;", "\"").replace("&#38;", "&")))
    });
    fields.filter(|(name, _)| name != "csrf").collect()
}

/// Presses a button of a page that shows what would change.
async fn press(browser: &mut Browser, action: &str, step: &str, more: &[(&str, &str)]) {
    let carried = carried(browser, action);
    let mut fields: Vec<(&str, &str)> = carried.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    fields.extend(more);
    fields.push(("step", step));
    browser.submit(action, &fields).await;
}

/// The settings that were applied last.
fn applied(world: &World) -> Settings {
    let applied = world.store.applied.lock().expect("a lock").clone();
    toml::from_str(applied.last().expect("something was applied")).expect("settings")
}

fn applied_times(world: &World) -> usize {
    world.store.applied.lock().expect("a lock").len()
}

#[tokio::test]
async fn an_item_is_made_from_a_form_once_what_would_change_was_looked_at() {
    // FS-20 to FS-35
    let world = World::with_console().await;
    *world.store.document.lock().expect("a lock") = document(41, &["staff", "rest"]);
    let mut owner = signed_in(&world, Role::Owner).await;
    let new = "/console/sync/items/new";
    owner.get(new).await;
    let fields = [
        ("step", "look"),
        ("revision", "41"),
        ("name", "sales"),
        ("before", "rest"),
        ("directory", "corp"),
        ("state", "preview"),
        ("source.kind", "group"),
        ("source.dn", "cn=\"sales\" & more,dc=corp"),
        ("filter", "(title=*)"),
        ("leavers", "remove"),
        ("update.phones", "always"),
        ("primary_phone", "home"),
        ("primary_phone", ""),
        ("primary_phone", "mobile"),
        ("method.allowed", "push"),
        ("method.allowed", "code"),
        ("method.pin", "yes"),
        ("language.call", "de-CH"),
        ("mail.on_add", "yes"),
        ("user_group", "Sales"),
        ("second_factor", "yes"),
    ];
    owner.submit(new, &fields).await;
    assert_eq!(owner.page.status, StatusCode::OK, "{}", owner.page.html);
    assert!(owner.page.html.contains("Make the sync item sales?"), "{}", owner.page.html);
    assert_eq!(applied_times(&world), 0, "it was only looked at");
    press(&mut owner, new, "apply", &[]).await;
    assert!(owner.page.html.contains("The sync item is made"), "{}", owner.page.html);
    assert!(owner.page.html.contains("action=\"/console/sync/preview\""), "FS-09: a run has to be asked for");
    let settings = applied(&world);
    assert_eq!(settings.revision, Some(41), "at the revision that was looked at");
    let names: Vec<&str> = settings.sync_items.iter().map(|item| item.name.as_str()).collect();
    assert_eq!(names, ["staff", "sales", "rest"]);
    let wanted = "name = \"sales\"\ndirectory = \"corp\"\nstate = \"preview\"\nadd = false\n\
        source = { kind = \"group\", dn = 'cn=\"sales\" & more,dc=corp', nested = false }\nfilter = \"(title=*)\"\n\
        leavers = \"remove\"\nupdate = { phones = \"always\" }\nprimary_phone = [\"home\", \"mobile\"]\n\
        method = { allowed = [\"push\", \"code\"], pin = true }\nlanguage = { call = \"de-CH\" }\n\
        mail = { on_add = true }\nuser_group = \"Sales\"\n";
    assert_eq!(settings.sync_items[1], toml::from_str(wanted).expect("an item"));
    let calls = world.store.calls();
    assert!(calls.iter().any(|call| call.contains("apply dry_run=false by api-key:test-owner")), "{calls:?}");
}

#[tokio::test]
async fn what_an_item_would_do_to_users_is_looked_at_before_it_is_applied() {
    // FS-12
    let world = World::with_console().await;
    *world.store.document.lock().expect("a lock") = document(41, &["staff", "rest"]);
    let mut owner = signed_in(&world, Role::Owner).await;
    let new = "/console/sync/items/new";
    owner.get(new).await;
    let sales =
        [("step", "look"), ("name", "sales"), ("before", "rest"), ("directory", "corp"), ("source.kind", "domain")];
    owner.submit(new, &sales).await;
    assert!(owner.page.html.contains("name=\"step\" value=\"users\" formtarget=\"_blank\""), "{}", owner.page.html);
    press(&mut owner, new, "users", &[]).await;
    let asked = "sync \"corp\" preview of staff, sales, rest by api-key:test-owner".to_owned();
    assert_eq!(world.store.calls().last(), Some(&asked), "{}", owner.page.html);
    let wait = owner.page.path.clone();
    let tried = SyncRun { mode: "preview".into(), ..requested("tried", "draft", 2_000) };
    *world.store.runs.lock().expect("a lock") = vec![tried];
    owner.get(&wait).await;
    let html = &owner.page.html;
    assert!(html.contains("Nothing is applied or written") && !html.contains("/console/sync/write"), "{html}");
    assert_eq!(applied_times(&world), 0);
}

#[tokio::test]
async fn what_is_refused_is_said_at_its_field_and_what_was_typed_stays() {
    let world = World::with_console().await;
    *world.store.document.lock().expect("a lock") = document(41, &["staff"]);
    let mut owner = signed_in(&world, Role::Owner).await;
    let edit = "/console/sync/items/staff/edit";
    owner.get(edit).await;
    let typed = [("step", "look"), ("directory", "corp"), ("country", "Narnia"), ("language.app", "klingon")];
    owner.submit(edit, &typed).await;
    assert_eq!(owner.page.status, StatusCode::UNPROCESSABLE_ENTITY);
    let html = &owner.page.html;
    assert!(html.contains("id=\"language.app-problem\"") && html.contains("value=\"klingon\""), "{html}");
    *world.store.refusals.lock().expect("a lock") =
        vec!["sync_item.staff.country: found \"Narnia\"".into(), "odd".into()];
    owner.submit(edit, &typed[..3]).await;
    let html = &owner.page.html;
    assert!(html.contains("id=\"country-problem\"") && html.contains("value=\"Narnia\""), "{html}");
    assert!(html.contains("<p>odd</p>"), "{html}");
    world.store.refusals.lock().expect("a lock").clear();
    // Gone back to from the page that shows what would change.
    owner.submit(edit, &typed[..3]).await;
    press(&mut owner, edit, "edit", &[]).await;
    assert!(owner.page.html.contains("value=\"Narnia\""), "{}", owner.page.html);
    let new = "/console/sync/items/new";
    owner.get(new).await;
    owner.submit(new, &[("step", "look"), ("name", "staff"), ("source.kind", "domain")]).await;
    assert!(owner.page.html.contains("id=\"name-problem\""), "{}", owner.page.html);
    assert_eq!(applied_times(&world), 0);
}

#[tokio::test]
async fn whoever_changed_the_settings_first_wins_and_nothing_typed_is_lost() {
    let world = World::with_console().await;
    *world.store.document.lock().expect("a lock") = document(41, &["staff"]);
    let mut owner = signed_in(&world, Role::Owner).await;
    let schedule = "/console/sync/schedule";
    owner.get(schedule).await;
    let numbers = ["interval_minutes", "approval_over_users", "approval_over_percent", "approval_days", "grace_days"];
    let numbers = numbers.map(|name| (name, "7"));
    let typed = [&[("step", "look"), ("phone_hold_hours", "7"), ("phone_back_minutes", "7")][..], &numbers].concat();
    owner.submit(schedule, &typed).await;
    assert!(owner.page.html.contains("name=\"revision\" value=\"41\""), "{}", owner.page.html);
    *world.store.document.lock().expect("a lock") = document(43, &["staff", "theirs"]);
    press(&mut owner, schedule, "apply", &[]).await;
    assert!(owner.page.html.contains("Somebody changed the settings while you looked"), "{}", owner.page.html);
    assert_eq!(applied_times(&world), 0);
    press(&mut owner, schedule, "apply", &[]).await;
    assert!(owner.page.html.contains("The schedule is changed"), "{}", owner.page.html);
    let settings = applied(&world);
    assert_eq!((settings.revision, settings.sync_items.len()), (Some(43), 2), "theirs is kept");
    assert_eq!((settings.sync.interval_minutes, settings.sync.grace_days), (7, 7));
    owner.get(schedule).await;
    owner.submit(schedule, &[("step", "look"), ("interval_minutes", "often")]).await;
    let html = &owner.page.html;
    assert!(html.contains("id=\"interval_minutes-problem\"") && html.contains("value=\"often\""), "{html}");
}

#[tokio::test]
async fn what_weakens_security_is_asked_why_and_not_applied_before() {
    // FC-08, S-46
    let world = World::with_console().await;
    *world.store.document.lock().expect("a lock") = document(41, &["staff"]);
    *world.store.weaker.lock().expect("a lock") = vec!["sync_item.staff.leavers".into()];
    let mut owner = signed_in(&world, Role::Owner).await;
    let edit = "/console/sync/items/staff/edit";
    owner.get(edit).await;
    let typed = [("step", "look"), ("directory", "corp"), ("source.kind", "domain"), ("leavers", "keep")];
    owner.submit(edit, &typed).await;
    let html = &owner.page.html;
    assert!(html.contains("name=\"reason\"") && html.contains("Weaker than now: sync_item.staff.leavers."), "{html}");
    press(&mut owner, edit, "apply", &[("reason", " ")]).await;
    assert!(owner.page.html.contains("Say why."), "{}", owner.page.html);
    assert_eq!(applied_times(&world), 0);
    press(&mut owner, edit, "apply", &[("reason", "<they> come back")]).await;
    assert_eq!(applied_times(&world), 1, "{}", owner.page.html);
    let because = "because <they> come back".to_owned();
    assert!(world.store.calls().contains(&because), "{:?}", world.store.calls());
    // Whoever would be exempt is let off for a reason, too.
    owner.get("/console/approvals/a1").await;
    owner.submit("/console/approvals/a1", &[("decision", "some"), ("user", "robot")]).await;
    assert_eq!(owner.page.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(owner.page.html.contains("reason: is missing"), "{}", owner.page.html);
    let why = [("decision", "some"), ("user", "robot"), ("reason", "it has no phone")];
    owner.submit("/console/approvals/a1", &why).await;
    assert_eq!(owner.page.status, StatusCode::OK, "{}", owner.page.html);
}

#[tokio::test]
async fn no_page_shows_a_secret_that_was_typed() {
    let world = World::with_console().await;
    *world.store.document.lock().expect("a lock") = document(41, &["staff"]);
    let mut owner = signed_in(&world, Role::Owner).await;
    owner.get("/console/sync/items/staff/edit").await;
    let typed = [("step", "look"), ("directory", "corp"), ("secret.directory.corp.query_bind.password", "hunter2")];
    owner.submit("/console/sync/items/staff/edit", &typed).await;
    assert_eq!(owner.page.status, StatusCode::OK);
    assert!(!owner.page.html.contains("hunter2"), "{}", owner.page.html);
}

#[tokio::test]
async fn items_are_moved_by_buttons_once_what_would_change_was_looked_at() {
    // FS-08, FS-09
    let world = World::with_console().await;
    *world.store.document.lock().expect("a lock") = document(41, &["rest", "staff"]);
    let mut owner = signed_in(&world, Role::Owner).await;
    let move_staff = "/console/sync/items/staff/move";
    owner.get("/console/sync").await;
    let up = "name=\"direction\" value=\"up\"><input type=\"hidden\" name=\"past\" value=\"tried\">";
    assert!(owner.page.html.contains(up), "{}", owner.page.html);
    owner.submit(move_staff, &[("direction", "up"), ("past", "rest")]).await;
    assert!(owner.page.html.contains("No run of corp begins by itself then"), "{}", owner.page.html);
    assert!(owner.page.html.contains("Move the sync item staff up?"), "{}", owner.page.html);
    assert_eq!(applied_times(&world), 0);
    press(&mut owner, move_staff, "apply", &[]).await;
    assert!(owner.page.html.contains("The order is changed"), "{}", owner.page.html);
    assert!(owner.page.html.contains("action=\"/console/sync/preview\""), "{}", owner.page.html);
    let names: Vec<String> = applied(&world).sync_items.iter().map(|item| item.name.to_string()).collect();
    assert_eq!(names, ["staff", "rest"]);
}

/// As the store does: what was applied last is in force, at the next revision.
fn in_force(world: &World) {
    let applied = world.store.applied.lock().expect("a lock").last().cloned().expect("something was applied");
    *world.store.document.lock().expect("a lock") = applied.replace("revision = 41", "revision = 42");
}

#[tokio::test]
async fn a_button_that_is_pressed_twice_applies_once_and_says_what_holds() {
    let world = World::with_console().await;
    *world.store.document.lock().expect("a lock") = document(41, &["rest", "staff"]);
    let mut owner = signed_in(&world, Role::Owner).await;
    let token = token(&owner);
    let new = "/console/sync/items/new";
    let item = [("name", "sales"), ("directory", "corp"), ("source.kind", "domain"), ("second_factor", "yes")];
    let numbers = [
        "interval_minutes",
        "approval_over_users",
        "approval_over_percent",
        "approval_days",
        "grace_days",
        "phone_hold_hours",
        "phone_back_minutes",
    ];
    let cases = [
        (
            "/console/sync/items/staff/move",
            vec![("direction", "up"), ("past", "rest")],
            "/console/sync/items/staff/saved?what=moved",
        ),
        (new, item.to_vec(), "/console/sync/items/sales/saved?what=made"),
        ("/console/sync/schedule", numbers.map(|name| (name, "7")).to_vec(), "/console/sync/schedule/saved"),
    ];
    for (action, fields, saved) in cases {
        *world.store.document.lock().expect("a lock") = document(41, &["rest", "staff"]);
        let before = applied_times(&world);
        let apply = [&fields[..], &[("csrf", token.as_str()), ("revision", "41"), ("step", "apply")]].concat();
        owner.post(action, &apply).await;
        in_force(&world);
        owner.post(action, &apply).await;
        assert_eq!(owner.page.path, saved, "{}", owner.page.html);
        assert_eq!(applied_times(&world) - before, 1, "{action}");
        let here = owner.page.path.clone();
        owner.get(&here).await;
        assert!(owner.page.html.contains("role=\"status\""), "fetched again: {}", owner.page.html);
    }
    // To look is no such press: the name is somebody's.
    *world.store.document.lock().expect("a lock") = document(41, &["sales"]);
    owner.post(new, &[&item[..], &[("csrf", token.as_str()), ("step", "look")]].concat()).await;
    assert!(owner.page.html.contains("id=\"name-problem\""), "{}", owner.page.html);
}

#[tokio::test]
async fn what_the_settings_were_warned_of_before_is_not_said_again() {
    let world = World::with_console().await;
    *world.store.document.lock().expect("a lock") = document(41, &["staff"]);
    let mut owner = signed_in(&world, Role::Owner).await;
    *world.store.warnings.lock().expect("a lock") = vec!["client.vpn: a service account is in no directory".into()];
    let edit = "/console/sync/items/staff/edit";
    owner.get(edit).await;
    owner.submit(edit, &[("step", "look"), ("directory", "corp"), ("country", "SE")]).await;
    assert_eq!(owner.page.status, StatusCode::OK);
    assert!(!owner.page.html.contains("service account"), "{}", owner.page.html);
}

#[tokio::test]
async fn no_kind_of_primary_number_chosen_is_the_default_and_none_is_a_choice() {
    // FS-31
    let world = World::with_console().await;
    *world.store.document.lock().expect("a lock") = document(41, &["staff"]);
    let mut owner = signed_in(&world, Role::Owner).await;
    let edit = "/console/sync/items/staff/edit";
    let token = token(&owner);
    let default = toml::from_str::<Settings>(&document(41, &["staff"])).expect("settings").sync_items.remove(0);
    for (chosen, expected) in [("", default.primary_phone), ("none", Vec::new())] {
        let apply = [("csrf", token.as_str()), ("step", "apply"), ("directory", "corp"), ("primary_phone", chosen)];
        owner.post(edit, &apply).await;
        assert_eq!(applied(&world).sync_items[0].primary_phone, expected, "{chosen:?}");
    }
}

#[tokio::test]
async fn a_directory_that_cannot_be_browsed_loses_nothing_typed_and_nobody_goes_above_its_base() {
    // FS-21
    let world = World::with_console().await;
    *world.store.document.lock().expect("a lock") = document(41, &["staff"]).replace("base = \"dc=corp\"\n", "");
    let mut owner = signed_in(&world, Role::Owner).await;
    let edit = "/console/sync/items/staff/edit";
    owner.get(edit).await;
    let typed = [("directory", "corp"), ("source.kind", "container"), ("country", "SE")];
    *world.directory.fail_next.lock().expect("a lock") = Some(tonic::Code::Unavailable);
    owner.submit(edit, &[&typed[..], &[("step", "browse")]].concat()).await;
    let html = &owner.page.html;
    assert!(html.contains("id=\"source.dn-problem\"") && html.contains("value=\"SE\""), "{html}");
    let up = |base: &str| format!("name=\"open\" value=\"{base}\">Up");
    owner.submit(edit, &[&typed[..], &[("open", "ou=a,o=corp,c=se")]].concat()).await;
    assert!(owner.page.html.contains(&up("o=corp,c=se")), "{}", owner.page.html);
    owner.submit(edit, &[&typed[..], &[("open", "o=corp,c=se")]].concat()).await;
    assert!(!owner.page.html.contains(">Up<"), "{}", owner.page.html);
}

#[tokio::test]
async fn a_form_that_is_too_long_says_so() {
    let world = World::with_console().await;
    let mut owner = signed_in(&world, Role::Owner).await;
    let token = token(&owner);
    // Three octets each, once they are sent.
    let long = "x".repeat(400 * 1024);
    owner.post("/console/sync/schedule", &[("csrf", &token), ("preferred_nodes", &long)]).await;
    assert_eq!(owner.page.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(owner.page.html.contains("This form is too long"), "{}", owner.page.html);
    let bundle = "x".repeat(200 * 1024);
    owner.post("/console/sync/schedule", &[("csrf", &token), ("preferred_nodes", &bundle)]).await;
    assert_eq!(owner.page.status, StatusCode::UNPROCESSABLE_ENTITY, "read: {}", owner.page.html);
}

#[tokio::test]
async fn a_container_or_group_is_picked_and_what_was_typed_stays() {
    // FS-21
    let world = World::with_console().await;
    *world.store.document.lock().expect("a lock") = document(41, &["staff"]);
    let mut owner = signed_in(&world, Role::Owner).await;
    let edit = "/console/sync/items/staff/edit";
    owner.get(edit).await;
    let typed = [("step", "browse"), ("directory", "corp"), ("source.kind", "domain"), ("country", "SE")];
    owner.submit(edit, &typed).await;
    assert!(owner.page.html.contains("Pick a container of corp"), "{}", owner.page.html);
    press(&mut owner, edit, "", &[("show", "groups")]).await;
    assert!(owner.page.html.contains("Pick a group of corp"), "{}", owner.page.html);
    press(&mut owner, edit, "", &[("show", "containers")]).await;
    press(&mut owner, edit, "", &[("choose", "ou=people,dc=corp")]).await;
    let html = &owner.page.html;
    assert!(html.contains("value=\"ou=people,dc=corp\"") && html.contains("value=\"SE\""), "{html}");
    assert!(html.contains("<option value=\"container\" selected>"), "{html}");
    owner.submit(edit, &[("step", "browse"), ("directory", "corp"), ("source.kind", "group")]).await;
    assert!(owner.page.html.contains("ou=vpn,dc=corp"), "{}", owner.page.html);
    assert_eq!(applied_times(&world), 0);
}

#[tokio::test]
async fn which_item_would_own_a_user_is_asked_of_the_directory() {
    // FS-08
    let world = World::with_console().await;
    let mut owner = signed_in(&world, Role::Owner).await;
    owner.get("/console/sync/owner?user=ann").await;
    assert!(owner.page.html.contains("<b>all</b> would own ann"), "{}", owner.page.html);
    owner.get("/console/sync/owner?user=%3Cb%3Enobody").await;
    assert_eq!(owner.page.status, StatusCode::OK);
    assert!(owner.page.html.contains("role=\"alert\""), "{}", owner.page.html);
    assert!(!owner.page.html.contains("<b>nobody"), "V-85: {}", owner.page.html);
}

#[tokio::test]
async fn who_was_signed_out_by_time_comes_back_to_a_page_that_can_be_shown() {
    let world = World::with_console().await;
    let mut owner = signed_in(&world, Role::Owner).await;
    let token = token(&owner);
    world.clock.advance(16 * 60_000);
    for (path, next) in [
        ("/console/sync/preview", "/console"),
        ("/console/import/look", "/console"),
        ("/console/approvals/a1", "/console/approvals/a1"),
    ] {
        owner.post(path, &[("csrf", &token), ("directory", "corp")]).await;
        let field = format!("name=\"next\" value=\"{next}\"");
        assert!(owner.page.html.contains(&field), "{path}: {}", owner.page.html);
    }
    owner.get("/console/users?search=ann").await;
    assert!(owner.page.html.contains("name=\"next\" value=\"/console/users?search=ann\""), "{}", owner.page.html);
}

fn requested(id: &str, trigger: &str, started_unix_ms: i64) -> SyncRun {
    let (directory, mode, state) = ("corp".into(), "full".into(), "done".into());
    let (run_id, trigger) = (id.into(), trigger.into());
    SyncRun { run_id, directory, mode, state, trigger, started_unix_ms, ..SyncRun::default() }
}

#[tokio::test]
async fn the_run_that_was_asked_for_is_none_of_those_before_though_the_newest_of_them_is_gone() {
    // FS-09, FS-13
    let world = World::with_console().await;
    let mut owner = signed_in(&world, Role::Owner).await;
    let before = requested("before", "request", 1_000);
    *world.store.runs.lock().expect("a lock") = vec![requested("burst", "follow", 2_000), before.clone()];
    let token = token(&owner);
    owner.post("/console/sync/write", &[("csrf", &token), ("directory", "corp"), ("looked_at", "r7")]).await;
    let wait = owner.page.path.clone();
    assert!(wait.starts_with("/console/sync/wait?"), "{wait}");
    *world.store.runs.lock().expect("a lock") = vec![before.clone()];
    owner.get(&wait).await;
    assert_eq!(owner.page.path, wait, "it was added to another one, and ours has not begun");
    *world.store.runs.lock().expect("a lock") = vec![requested("ours", "request", 3_000), before];
    owner.get(&wait).await;
    assert_eq!(owner.page.path, "/console/sync/runs/ours?asked=full");
}

#[tokio::test]
async fn what_is_written_is_what_was_looked_at_and_another_list_is_shown_instead() {
    // FS-09
    let world = World::with_console().await;
    let mut owner = signed_in(&world, Role::Owner).await;
    let list = SyncRun { mode: "preview".into(), ..requested("list", "request", 1_000) };
    *world.store.runs.lock().expect("a lock") = vec![list.clone()];
    let token = token(&owner);
    owner.post("/console/sync/write", &[("csrf", &token), ("directory", "corp")]).await;
    assert_eq!(owner.page.status, StatusCode::UNPROCESSABLE_ENTITY, "nobody looked");
    owner.get("/console/sync/runs/list").await;
    press(&mut owner, "/console/sync/write", "", &[]).await;
    let asked = "sync \"corp\" full as list by api-key:test-owner".to_owned();
    assert_eq!(world.store.calls().last(), Some(&asked), "{}", owner.page.html);
    let wait = owner.page.path.clone();
    let check = |state: &str, error: &str| SyncRun {
        state: state.into(),
        error: error.into(),
        ..SyncRun { mode: "preview".into(), ..requested("again", "check", 2_000) }
    };
    *world.store.runs.lock().expect("a lock") = vec![check("done", ""), list.clone()];
    owner.get(&wait).await;
    assert_eq!(owner.page.path, wait, "it is the same, and is written now");
    let error = "the list has changed since it was looked at: 1 new (eve)";
    *world.store.runs.lock().expect("a lock") = vec![check("changed", error), list];
    owner.get(&wait).await;
    let html = &owner.page.html;
    assert!(owner.page.path.starts_with("/console/sync/runs/again") && html.contains(error), "{html}");
    assert!(html.contains("<b>Nothing was written:</b>"), "{html}");
    assert!(carried(&owner, "/console/sync/write").contains(&("looked_at".into(), "again".into())), "{html}");
    owner.post("/console/sync/write", &[("csrf", &token), ("directory", "corp"), ("looked_at", "old")]).await;
    assert_eq!(owner.page.status, StatusCode::CONFLICT, "{}", owner.page.html);
    assert!(owner.page.html.contains("look again"), "{}", owner.page.html);
}

#[tokio::test]
async fn synchronisation_shows_of_each_run_why_and_by_what_feed_and_when_the_next_one_is_due() {
    // FS-02, FS-13, S-03
    let world = World::with_console().await;
    let mut owner = signed_in(&world, Role::Owner).await;
    owner.get("/console/sync").await;
    for part in ["<dd>20 November 2026, 16:50", "asked for", "syncrepl", "the feed goes on. <b>dc1 did not answer</b>"]
    {
        assert!(owner.page.html.contains(part), "{part}: {}", owner.page.html);
    }
    assert_eq!(owner.page.html.matches("Next run, at the latest").count(), 1, "the other one waits");
    for (run, parts) in [
        ("r1", ["full: asked for", "heard of by syncrepl"]),
        ("r0", ["incremental: the feed goes on", "dc1 did not answer"]),
    ] {
        owner.get(&format!("/console/sync/runs/{run}")).await;
        for part in parts {
            assert!(owner.page.html.contains(part), "{run}, {part}: {}", owner.page.html);
        }
    }
}

#[tokio::test]
async fn users_with_a_problem_of_synchronisation_are_found_and_it_is_said() {
    // FS-14
    let world = World::with_console().await;
    world.store.has_problem("ann", "another entry has <this> username, too");
    let mut owner = signed_in(&world, Role::Owner).await;
    owner.get("/console/users?state=sync_problem").await;
    let html = &owner.page.html;
    assert!(html.contains("<b>Sync problem</b>: another entry has &#60;this&#62; username, too"), "{html}");
    assert!(html.contains("value=\"sync_problem\" selected"), "{html}");
    assert_eq!(html.matches("<th scope=\"row\">").count(), 1, "nobody else: {html}");
}

#[tokio::test]
async fn a_page_that_waits_gives_up_and_keeps_no_session_alive() {
    // V-80
    let world = World::with_console().await;
    let mut owner = signed_in(&world, Role::Owner).await;
    let token = token(&owner);
    owner.post("/console/sync/preview", &[("csrf", &token), ("directory", "corp")]).await;
    let wait = owner.page.path.clone();
    for _ in 0..9 {
        assert!(owner.page.html.contains("console-wait.js"), "{}", owner.page.html);
        world.clock.advance(60_000);
        owner.get(&wait).await;
    }
    world.clock.advance(60_000);
    owner.get(&wait).await;
    assert!(!owner.page.html.contains("console-wait.js"), "{}", owner.page.html);
    assert!(owner.page.html.contains("No run of corp has begun"), "{}", owner.page.html);
    let begun = SyncRun { state: "running".into(), ..requested("ours", "request", 3_000) };
    *world.store.runs.lock().expect("a lock") = vec![begun];
    owner.get(&wait).await;
    assert!(owner.page.html.contains("corp is still being read"), "{}", owner.page.html);
    world.clock.advance(5 * 60_000);
    owner.get(&wait).await;
    assert!(owner.page.html.contains("action=\"/console/sign-in\""), "{}", owner.page.html);
}

#[tokio::test]
async fn whoever_searches_for_people_leaves_the_open_group() {
    // FS-16
    let world = World::with_console().await;
    let mut owner = signed_in(&world, Role::Owner).await;
    *world.store.document.lock().expect("a lock") =
        "revision = 41\n[[directory]]\nname = \"corp\"\nurls = [\"ldaps://dc\"]\n\
        base = \"dc=corp\"\nquery_bind = { kind = \"anonymous\" }\n"
            .into();
    owner.get("/console/import?directory=corp&show=groups&group=ou%3Dvpn%2Cdc%3Dcorp").await;
    let group = [("directory", "corp"), ("show", "groups"), ("group", "ou=vpn,dc=corp"), ("below", "")];
    owner.submit("/console/import/look", &[&group[..], &[("search", "new")]].concat()).await;
    assert_eq!(owner.page.status, StatusCode::OK, "{}", owner.page.html);
    assert!(owner.page.html.contains("name=\"group\" value=\"\""), "{}", owner.page.html);
    let searched = "find \"new\" of group \"\"".to_owned();
    assert_eq!(world.store.calls().last(), Some(&searched), "{:?}", world.store.calls());
    let all = [("search", "new"), ("into", "people"), ("whom", "everybody")];
    *world.store.weaker.lock().expect("a lock") = vec!["sync_item.people.source.ids".into()];
    owner.submit("/console/import", &[&group[..], &all].concat()).await;
    assert_eq!(owner.page.status, StatusCode::UNPROCESSABLE_ENTITY, "FC-08: {}", owner.page.html);
    let html = &owner.page.html;
    assert!(html.contains("reason: is missing") && html.contains("name=\"reason\""), "{html}");
    assert_eq!(applied_times(&world), 0);
    owner.submit("/console/import", &[&group[..], &all, &[("reason", "it has no phone")]].concat()).await;
    assert_eq!(owner.page.status, StatusCode::OK, "{}", owner.page.html);
    assert_eq!(applied_times(&world), 1, "{:?}", world.store.calls());
    assert!(world.store.calls().contains(&"because it has no phone".to_owned()), "{:?}", world.store.calls());
}

#[tokio::test]
async fn a_domain_that_is_silent_while_people_and_places_are_looked_for_is_told() {
    // FS-16, FS-21, FD-02
    const UNREAD: &str = "the domain child.corp.example could not be read";
    let world = World::with_console().await;
    *world.store.document.lock().expect("a lock") = document(41, &["staff"]);
    let mut owner = signed_in(&world, Role::Owner).await;
    for looked_for in ["search", "find"] {
        owner.get(&format!("/console/import?directory=corp&{looked_for}=all")).await;
        assert!(!owner.page.html.contains(UNREAD), "{}", owner.page.html);
        owner.get(&format!("/console/import?directory=corp&{looked_for}=partial")).await;
        assert_eq!(owner.page.html.matches(UNREAD).count(), 1, "{}", owner.page.html);
    }
    let edit = "/console/sync/items/staff/edit";
    owner.get(edit).await;
    owner
        .submit(edit, &[("directory", "corp"), ("source.kind", "group"), ("step", "browse"), ("find", "partial")])
        .await;
    assert!(owner.page.html.contains(UNREAD), "{}", owner.page.html);
}

#[tokio::test]
async fn a_console_that_is_not_opened_has_no_page_to_sign_in_at() {
    // V-84
    let world = World::new(Open).await;
    let mut browser = world.browser();
    for path in ["/console", "/console/sign-in", "/console/approvals/a1"] {
        browser.get(path).await;
        assert_eq!(browser.page.status, StatusCode::NOT_FOUND, "{path}");
        assert!(browser.page.html.contains("portal.console = true"), "{path}: {}", browser.page.html);
        browser.post(path, &[("key", &api_key("owner"))]).await;
        assert_eq!((browser.page.status, browser.cookie_lines.len()), (StatusCode::NOT_FOUND, 0), "{path}");
    }
}
