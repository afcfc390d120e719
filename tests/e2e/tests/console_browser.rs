//! The admin console in a real browser, over the running product and a real directory: what a synchronisation would change is shown
//! before it is written, leavers wait for somebody, an item is removed by its name, people are looked for and imported, a user is
//! made by hand, a directory is made, mapped and removed. Pictures of every page are left in `target/screenshots`.

#[path = "portal_browser/browser.rs"]
mod browser;

use anyhow::{Context, Result, ensure};
use browser::{Browser, DARK, DESKTOP, PHONE};
use e2e::{OneMachine, story};
use lab::{COMPANY_BASE, Slapd, company_settings, password_of};
use std::time::{Duration, Instant};

const MADE: Duration = Duration::from_secs(60);

/// Beside everybody, whose item comes first: who it lets go of falls to this one.
const SALES: &str = "[[sync_item]]\nname = \"sales\"\ndirectory = \"acme\"\nsource = { kind = \"domain\" }\n\
                     filter = \"(departmentNumber=nobody)\"\n";

struct World {
    browser: Browser,
    machine: OneMachine,
    owner: String,
    auditor: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_before_the_console() -> Result<()> {
    let machine = OneMachine::start(0, "", "", &["portal.console=true"])?;
    let key = |name: &str, role: &str| -> Result<String> {
        let made = machine.command_line().json(&["api-key", "create", name, "--role", role])?;
        Ok(made["key"].as_str().context("a key")?.to_owned())
    };
    let (owner, auditor) = (key("desk", "owner")?, key("looker", "auditor")?);
    let browser = Browser::start(machine.dir.path()).await?;
    let mut world = World { browser, machine, owner, auditor };
    story!(&mut world;
        a_key_that_is_none_opens_nothing_and_an_auditor_sees_users_alone,
        the_console_asks_when_items_changed_and_shows_what_would_change_before_it_writes,
        leavers_that_are_too_many_wait_for_names_and_a_mails_address_leads_to_them,
        an_item_goes_by_its_name_alone_and_who_gets_its_users_is_said,
        people_are_found_by_container_and_group_and_imported,
        an_item_is_made_of_a_container_that_is_picked_and_what_is_refused_keeps_what_was_typed,
        an_item_is_edited_and_moved_and_whose_somebody_would_be_is_asked,
        the_schedule_is_changed_and_an_item_that_was_made_here_goes_by_its_name,
        a_user_is_made_by_hand,
        users_are_filtered_by_their_label,
        a_directory_is_tried_before_it_is_saved_mapped_and_removed,
        a_revoked_key_ends_what_it_opened,
    )
}

async fn a_key_that_is_none_opens_nothing_and_an_auditor_sees_users_alone(world: &mut World) -> Result<()> {
    // V-82
    world.open("/console/sync").await?;
    world.see("console-sign-in", "Sign in to the console").await?;
    world.browser.type_into("#key", "twk_nobodys").await?;
    world.browser.follow("button.main").await?;
    ensure!(world.browser.text("[role=alert]").await? == "This key does not open the console.");
    // The refused form is answered with 403, which the browser notes.
    world.browser.complaints().await?;
    let auditor = world.auditor.clone();
    world.sign_in(&auditor).await?;
    let refused = world.browser.text("[role=alert]").await?;
    ensure!(refused.contains("does not allow it"), "{refused}");
    world.browser.complaints().await?;
    world.open("/console").await?;
    ensure!(!world.browser.text("header nav").await?.contains("Synchronisation"), "an auditor sees synchronisation");
    world.open("/console/users").await?;
    ensure!(world.browser.text("main").await?.contains("ann.archer"));
    world.browser.follow("header form button").await?;
    world.no_complaint().await
}

async fn the_console_asks_when_items_changed_and_shows_what_would_change_before_it_writes(
    world: &mut World,
) -> Result<()> {
    // FS-09
    let owner = world.owner.clone();
    world.open("/console").await?;
    world.sign_in(&owner).await?;
    world.settings(SALES).await?;
    let person = format!(
        "dn: uid=nora.north,ou=sales,ou=people,{COMPANY_BASE}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: nora.north\n\
         cn: <b>Nora</b>\nsn: North\n"
    );
    world.machine.slapd.modify(&person)?;
    world.open("/console").await?;
    world.see("console-overview-paused", "Overview").await?;
    let asked = world.browser.text("main").await?;
    ensure!(asked.contains("No run of acme begins by itself") && asked.contains("its sync items changed"), "{asked}");
    world.browser.follow("main form button").await?;
    world.run_page().await?;
    world.see("console-plan", "What would change in acme").await?;
    let plan = world.browser.text("main").await?;
    ensure!(plan.contains("1 added") && plan.contains("nora.north"), "{plan}");
    ensure!(world.users("nora.north")? == 0, "it was written before anybody said so");
    world.browser.follow("form[action='/console/sync/write'] button").await?;
    world.run_page().await?;
    world.see("console-run", "What changed in acme").await?;
    ensure!(world.browser.text("main").await?.contains("1 added") && world.users("nora.north")? == 1);
    ensure!(world.browser.value("document.querySelector('form[action=\"/console/sync/write\"]')").await?.is_null());
    world.open("/console/sync").await?;
    world.see("console-sync", "Synchronisation").await?;
    let standing = world.browser.text("main").await?;
    ensure!(!standing.contains("begins by itself") && standing.contains("everybody"), "{standing}");
    // FS-05
    world.browser.follow("form[action='/console/sync/probe'] button").await?;
    world.see("console-probe", "Synchronisation").await?;
    let found = world.browser.text("#probed").await?;
    ensure!(found.contains("Changes will be followed by") || found.contains("No change feed can be used"), "{found}");
    world.no_complaint().await
}

async fn lists_after_runs(world: &World) -> Result<serde_json::Value> {
    let end = Instant::now() + Duration::from_secs(90);
    loop {
        world.machine.command_line().output(&["sync", "now", "--yes"], "")?;
        let lists = world.machine.command_line().json(&["sync", "approvals"])?;
        if lists["items"].as_array().is_some_and(|items| !items.is_empty()) {
            return Ok(lists);
        }
        ensure!(Instant::now() < end, "nobody waits for approval");
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

async fn leavers_that_are_too_many_wait_for_names_and_a_mails_address_leads_to_them(world: &mut World) -> Result<()> {
    // FS-07, S-40
    let gone = ["ann.archer", "emma.irwin", "ida.reed", "mia.eaton", "quinn.mason", "ben.hale", "felix.price"];
    let place = |uid: &str| if matches!(uid, "ben.hale" | "felix.price") { "sales" } else { "engineering" };
    let ldif: String = gone
        .iter()
        .map(|uid| format!("dn: uid={uid},ou={},ou=people,{COMPANY_BASE}\nchangetype: delete\n\n", place(uid)))
        .collect();
    world.machine.slapd.modify(&ldif)?;
    // Believed when a full run says so a minute after the first, too (S-43).
    let lists = lists_after_runs(world).await?;
    let id = lists["items"][0]["id"].as_str().with_context(|| lists.to_string())?.to_owned();
    world.open("/console").await?;
    world.see("console-overview-approval", "Overview").await?;
    ensure!(world.browser.text("main").await?.contains("Approval needed: 7 users of acme"));
    // As the mail has it, by somebody who is not signed in.
    world.browser.follow("header form button").await?;
    world.open(&format!("/console/approvals/{id}")).await?;
    ensure!(world.browser.text("h1").await? == "Sign in to the console");
    let owner = world.owner.clone();
    world.sign_in(&owner).await?;
    world.see("console-approval", "Approval needed in acme").await?;
    let names = world.browser.text("main table").await?;
    ensure!(gone.iter().all(|uid| names.contains(uid)), "{names}");
    world.browser.picture(DARK, &picture("console-approval-dark")?).await?;
    world.browser.look_with(DESKTOP).await?;
    // Nothing chosen is not everybody.
    world.browser.follow("button[value=some]").await?;
    ensure!(world.browser.text("[role=alert]").await?.contains("Choose who may go"));
    world.browser.complaints().await?;
    world.browser.click("input[value='ben.hale']").await?;
    world.browser.follow("button[value=some]").await?;
    ensure!(world.browser.text("h1").await? == "Decided", "{}", world.browser.text("main").await?);
    ensure!(world.browser.text("[role=status]").await?.starts_with("1 user was changed"));
    let ben = world.machine.command_line().json(&["user", "show", "ben.hale"])?;
    let ann = world.machine.command_line().json(&["user", "show", "ann.archer"])?;
    ensure!(ben["state"] == "disabled" && ann["state"] == "enabled", "{} {}", ben["state"], ann["state"]);
    world.no_complaint().await
}

async fn an_item_goes_by_its_name_alone_and_who_gets_its_users_is_said(world: &mut World) -> Result<()> {
    // FS-10
    let rest = "[[sync_item]]\nname = \"rest\"\ndirectory = \"acme\"\nsource = { kind = \"domain\" }\n";
    world.settings(rest).await?;
    world.machine.command_line().output(&["sync", "now", "--yes"], "")?;
    world.open("/console/sync/items/everybody/remove").await?;
    world.see("console-remove", "Remove the sync item everybody?").await?;
    let said = world.browser.text("main").await?;
    ensure!(said.contains("would go to rest"), "{said}");
    world.browser.type_into("#name", "everybod").await?;
    world.browser.follow("button.main").await?;
    ensure!(world.browser.text("[role=alert]").await?.contains("not its name"));
    world.browser.complaints().await?;
    ensure!(world.export()?.contains("name = \"everybody\""));
    world.browser.type_into("#name", "everybody").await?;
    world.browser.follow("button.main").await?;
    world.see("console-removed", "The sync item is removed").await?;
    let left = world.machine.command_line().run(&["settings", "export"])?;
    ensure!(!left.contains("name = \"everybody\"") && left.contains("name = \"rest\""), "{left}");
    world.open("/console").await?;
    ensure!(world.browser.text("main").await?.contains("its sync items changed"));
    world.no_complaint().await
}

async fn people_are_found_by_container_and_group_and_imported(world: &mut World) -> Result<()> {
    // FS-16, FD-33
    world.open("/console/import?directory=acme&show=containers").await?;
    world.see("console-import", "Import from a directory").await?;
    let places = world.browser.text(".places").await?;
    ensure!(places.contains("people") && places.contains("groups"), "{places}");
    world.link("people").await?;
    world.link("finance").await?;
    world.see("console-import-container", "Import from a directory").await?;
    let people = world.browser.text("main table").await?;
    ensure!(people.contains("clara.osborn") && !people.contains("david.baker"), "{people}");
    world.link("Groups").await?;
    let groups = world.browser.text(".places").await?;
    ensure!(groups.contains("vpn-users") && groups.contains("admins"), "{groups}");
    world.link("support").await?;
    world.see("console-import-group", "Import from a directory").await?;
    let people = world.browser.text("main table").await?;
    ensure!(people.contains("david.baker") && !people.contains("clara.osborn"), "{people}");
    world.browser.click("input[aria-label='david.baker']").await?;
    world.browser.click("input[name=update]").await?;
    world.browser.type_into("#into", "helpers").await?;
    world.browser.follow("button[value=chosen]").await?;
    world.see("console-imported", "Imported").await?;
    ensure!(world.browser.text("[role=status]").await?.starts_with("1 of acme"));
    let settings = world.machine.command_line().run(&["settings", "export"])?;
    ensure!(settings.contains("name = \"helpers\""), "{settings}");
    world.browser.follow("main a.button.main").await?;
    world.run_page().await?;
    ensure!(world.browser.text("h1").await? == "What would change in acme");
    world.no_complaint().await
}

async fn an_item_is_made_of_a_container_that_is_picked_and_what_is_refused_keeps_what_was_typed(
    world: &mut World,
) -> Result<()> {
    // FS-20, FS-21, FS-29
    world.open("/console/sync").await?;
    world.link("New sync item").await?;
    world.see_plain("console-item-new", "New sync item").await?;
    world.browser.type_into("#name", "money").await?;
    world.choose("before", "rest").await?;
    world.choose("source.kind", "container").await?;
    world.browser.type_into("#country", "Narnia").await?;
    world.browser.follow("button[value=browse]").await?;
    world.browser.follow("button[aria-label='Open people']").await?;
    world.see_plain("console-browse", "Pick a container of acme").await?;
    world.browser.follow("button[aria-label='Pick finance']").await?;
    let typed = "['name', 'before', 'source.dn', 'country'].map((it) => document.getElementById(it).value).join(' ')";
    let typed = world.browser.value(typed).await?;
    ensure!(typed == format!("money rest ou=finance,ou=people,{COMPANY_BASE} Narnia"), "{typed}");
    world.browser.follow("button.main").await?;
    world.see_plain("console-item-refused", "New sync item").await?;
    ensure!(world.browser.text("#country-problem").await?.contains("Narnia"));
    // The refused form is answered with 422, which the browser notes.
    world.browser.complaints().await?;
    world.choose("country", "SE").await?;
    world.browser.follow("button.main").await?;
    world.see_plain("console-item-look", "Make the sync item money?").await?;
    ensure!(world.browser.text("#changes").await?.contains("added sync_item.money"));
    ensure!(!world.export()?.contains("name = \"money\""), "it was made before anybody said so");
    world.browser.follow("button[value=apply]").await?;
    world.see_plain("console-item-made", "The sync item is made").await?;
    let settings = world.export()?;
    ensure!(settings.contains("name = \"money\"") && settings.contains("country = \"SE\""), "{settings}");
    world.synchronise().await?;
    let clara = world.machine.command_line().json(&["user", "show", "clara.osborn"])?;
    ensure!(clara["sync_item"] == "money", "{clara}");
    world.no_complaint().await
}

async fn an_item_is_edited_and_moved_and_whose_somebody_would_be_is_asked(world: &mut World) -> Result<()> {
    // FS-08, FS-25
    world.open("/console/sync").await?;
    world.browser.follow("a[href='/console/sync/items/money/edit']").await?;
    world.see_plain("console-item-edit", "Sync item money").await?;
    world.browser.picture(DARK, &picture("console-item-edit-dark")?).await?;
    world.browser.look_with(DESKTOP).await?;
    world.choose("leavers", "keep").await?;
    world.browser.follow("button.main").await?;
    let look = world.browser.text("main").await?;
    ensure!(look.contains("changed sync_item.money.leavers") && look.contains("\"disable\""), "{look}");
    // Whoever leaves and stays is weaker than whoever is disabled: that needs a reason (experience 7).
    world.browser.follow("button[value=apply]").await?;
    ensure!(world.browser.text("#reason-help").await?.contains("The audit keeps the reason"));
    world.browser.complaints().await?;
    world.choose("reason", "they are on leave").await?;
    world.browser.follow("button[value=apply]").await?;
    ensure!(world.browser.text("h1").await? == "The sync item is changed");
    world.owner_of("clara.osborn", "money would own clara.osborn").await?;
    world.move_item("money", "down").await?;
    world.see_plain("console-item-move", "Move the sync item money down?").await?;
    let look = world.browser.text("main").await?;
    ensure!(look.contains("the order of sync_item") && look.contains("never has a user"), "{look}");
    world.browser.follow("button[value=apply]").await?;
    world.see_plain("console-item-moved", "The order is changed").await?;
    world.owner_of("clara.osborn", "rest would own clara.osborn of acme, who is of money now").await?;
    world.see_plain("console-owner", "Whose would they be?").await?;
    world.owner_of("nobody.atall", "").await?;
    ensure!(!world.browser.text("[role=alert]").await?.is_empty());
    world.move_item("money", "up").await?;
    world.browser.follow("button[value=apply]").await?;
    world.owner_of("clara.osborn", "money would own clara.osborn").await?;
    world.no_complaint().await
}

async fn the_schedule_is_changed_and_an_item_that_was_made_here_goes_by_its_name(world: &mut World) -> Result<()> {
    // FS-02, FS-10
    world.open("/console/sync").await?;
    world.link("Schedule and approval").await?;
    world.see_plain("console-schedule", "Schedule and approval").await?;
    world.choose("interval_minutes", "1441").await?;
    world.browser.follow("button.main").await?;
    ensure!(world.browser.text("#interval_minutes-problem").await?.contains("1440"));
    world.browser.complaints().await?;
    world.choose("interval_minutes", "1200").await?;
    world.browser.follow("button.main").await?;
    world.see_plain("console-schedule-look", "Change the schedule?").await?;
    world.browser.follow("button[value=apply]").await?;
    ensure!(world.export()?.contains("interval_minutes = 1200"));
    world.open("/console/sync").await?;
    world.see_plain("console-sync-items", "Synchronisation").await?;
    world.browser.follow("a[href='/console/sync/items/money/remove']").await?;
    world.browser.type_into("#name", "money").await?;
    world.browser.follow("button.main").await?;
    world.see_plain("console-item-removed", "The sync item is removed").await?;
    ensure!(!world.export()?.contains("name = \"money\""));
    world.synchronise().await?;
    let clara = world.machine.command_line().json(&["user", "show", "clara.osborn"])?;
    ensure!(clara["sync_item"] == "rest", "{clara}");
    world.no_complaint().await
}

async fn a_user_is_made_by_hand(world: &mut World) -> Result<()> {
    // FS-17
    world.open("/console/users").await?;
    world.see("console-users", "Users").await?;
    world.browser.follow("main a.button").await?;
    world.see("console-user-new", "New user").await?;
    world.browser.type_into("#username", "clara.osborn").await?;
    world.browser.follow("button.main").await?;
    let taken = world.browser.text("[role=alert]").await?;
    ensure!(!taken.is_empty(), "somebody has this name already");
    world.browser.complaints().await?;
    world.browser.value("document.querySelector('#username').value = ''").await?;
    world.browser.type_into("#username", "vera.visitor").await?;
    world.browser.type_into("#first_name", "Vera").await?;
    world.browser.follow("button.main").await?;
    world.see("console-user-made", "Users").await?;
    ensure!(world.browser.text("[role=status]").await?.contains("vera.visitor is made"));
    let vera = world.machine.command_line().json(&["user", "show", "vera.visitor"])?;
    ensure!(vera["first_name"] == "Vera" || vera.to_string().contains("Vera"), "{vera}");
    world.no_complaint().await
}

async fn users_are_filtered_by_their_label(world: &mut World) -> Result<()> {
    // FD-37, FS-34
    let document = company_settings(&world.machine.slapd, "user_group = \"helpers\"\n")?;
    world.machine.command_line().apply(world.machine.dir.path(), &document)?;
    world.machine.command_line().output(&["sync", "now", "--yes"], "")?;
    world.open("/console/users").await?;
    world.browser.type_into("#user_group", "helpers").await?;
    world.browser.follow("form[action='/console/users'] button").await?;
    world.see("console-users-label", "Users").await?;
    let found = world.browser.text("main").await?;
    ensure!(found.contains("david.baker") && !found.contains("vera.visitor"), "{found}");
    world.open("/console/users?user_group=nobodys").await?;
    ensure!(world.browser.text("main").await?.contains("Nobody."));
    world.no_complaint().await
}

async fn a_directory_is_tried_before_it_is_saved_mapped_and_removed(world: &mut World) -> Result<()> {
    // FD-01, FD-11, FD-17, V-83
    world.open("/console/directories").await?;
    world.see("console-directories", "Directories").await?;
    let listed = world.browser.text("main table").await?;
    ensure!(listed.contains("acme") && listed.contains("LDAP"), "{listed}");
    world.link("New Active Directory").await?;
    world.see("console-directory-ad", "New Active Directory").await?;
    ensure!(world.field("trusted_domains").await?.is_empty(), "FD-02: on, unless somebody says otherwise");
    world.open("/console/directories/new?preset=openldap").await?;
    let (url, ca) = (world.machine.slapd.ldap_url(), std::fs::read_to_string(world.machine.slapd.ca_file())?);
    world.choose("name", "branch").await?;
    world.choose("urls", &url).await?;
    world.choose("base", COMPANY_BASE).await?;
    world.choose("ca", ca.trim()).await?;
    world.choose("query_bind.name", Slapd::QUERY_DN).await?;
    world.choose("secret.query_bind.password", "wrong").await?;
    world.browser.follow("button[value=try]").await?;
    world.see("console-directory-refused", "New LDAP directory").await?;
    let found = world.browser.text("#probed").await?;
    ensure!(found.contains("It would not serve") && found.contains("failed"), "{found}");
    ensure!(world.field("name").await? == "branch" && world.field("secret.query_bind.password").await?.is_empty());
    ensure!(!world.export()?.contains("branch"), "a try saved it");

    world.choose("secret.query_bind.password", Slapd::QUERY_PASSWORD).await?;
    world.choose("try_user", "david.baker").await?;
    world.choose("secret.try", &password_of("david.baker")).await?;
    world.browser.follow("button[value=try]").await?;
    world.see("console-directory-tried", "New LDAP directory").await?;
    let found = world.browser.text("#probed").await?;
    ensure!(found.contains("It would serve") && found.contains("The password is right."), "{found}");
    world.browser.picture(DARK, &picture("console-directory-dark")?).await?;
    world.browser.look_with(DESKTOP).await?;
    world.choose("secret.query_bind.password", Slapd::QUERY_PASSWORD).await?;
    world.browser.follow("button[value=look]").await?;
    world.see("console-directory-look", "What would change: LDAP branch").await?;
    world.choose("secret.query_bind.password", Slapd::QUERY_PASSWORD).await?;
    world.browser.follow("button[value=apply]").await?;
    world.see("console-directory-saved", "branch is saved").await?;
    ensure!(world.browser.text("#probed").await?.contains("users found"));
    ensure!(world.export()?.contains("name = \"branch\""));

    world.open("/console/directories/branch/mapping").await?;
    world.see("console-mapping", "The mapping of branch").await?;
    let picked = "[...document.querySelectorAll('#attributes option')].some(it => it.value === 'departmentNumber')";
    ensure!(world.browser.value(picked).await? == true, "the schema's attributes cannot be picked");
    world.choose("attributes.mail", "mial").await?;
    world.browser.follow("button[value=look]").await?;
    world.see("console-mapping-doubt", "The mapping of branch").await?;
    let doubt = world.browser.text("[id='attributes.mail-doubt']").await?;
    ensure!(doubt.contains("no attribute \"mial\""), "{doubt}");
    world.browser.follow("button[value=look]").await?;
    world.see("console-mapping-look", "What would change: the mapping of branch").await?;
    world.browser.follow("button[value=apply]").await?;
    ensure!(world.browser.text("#probed").await?.contains("mial"), "{}", world.browser.text("main").await?);
    ensure!(world.export()?.contains("mial"));
    world.open("/console/directories/branch/mapping").await?;
    world.browser.follow("button[name=restore]").await?;
    world.browser.follow("button[value=apply]").await?;
    ensure!(!world.export()?.contains("mial"));

    world.no_complaint().await?;
    world.open("/console/directories/acme/remove").await?;
    world.see("console-directory-used", "Remove the directory acme?").await?;
    ensure!(world.browser.text("#used").await?.contains("client.vpn.target"));
    world.open("/console/directories/branch/remove").await?;
    world.see("console-directory-remove", "Remove the directory branch?").await?;
    world.choose("name", "branch").await?;
    world.browser.follow("button.main").await?;
    ensure!(world.browser.text("h1").await? == "The directory is removed");
    ensure!(!world.export()?.contains("branch"));
    world.no_complaint().await
}

async fn a_revoked_key_ends_what_it_opened(world: &mut World) -> Result<()> {
    world.open("/console/users").await?;
    ensure!(world.browser.text("h1").await? == "Users");
    world.machine.command_line().run(&["api-key", "revoke", "desk"])?;
    world.open("/console/users").await?;
    ensure!(world.browser.text("h1").await? == "Sign in to the console");
    // Nor does a key of the same name that is made later open what was open.
    world.machine.command_line().run(&["api-key", "create", "desk", "--role", "owner"])?;
    world.open("/console/users").await?;
    ensure!(world.browser.text("h1").await? == "Sign in to the console");
    world.no_complaint().await
}

impl World {
    async fn open(&mut self, path: &str) -> Result<()> {
        self.browser.open(&format!("{}{path}", self.machine.twinlock.portal_url())).await
    }

    async fn sign_in(&mut self, key: &str) -> Result<()> {
        self.browser.type_into("#key", key).await?;
        self.browser.follow("button.main").await
    }

    /// The page has this heading, fits both screens from side to side, and is pictured on both.
    async fn see(&mut self, page: &str, heading: &str) -> Result<()> {
        let found = self.browser.text("h1").await?;
        ensure!(found == heading, "{found:?} instead of {heading:?}: {}", self.browser.text("main").await?);
        self.browser.pictures(page, &[PHONE, DESKTOP]).await
    }

    /// Follows the link of this text.
    async fn link(&mut self, text: &str) -> Result<()> {
        let mark = format!(
            "(() => {{ const it = [...document.querySelectorAll('main a')].find(it => it.innerText === {text:?}); \
             if (it) it.id = 'followed'; return !!it; }})()"
        );
        ensure!(self.browser.value(&mark).await? == true, "no link {text:?}: {}", self.browser.text("main").await?);
        self.browser.follow("#followed").await
    }

    /// The page has this heading, and needs no script.
    async fn see_plain(&mut self, page: &str, heading: &str) -> Result<()> {
        self.see(page, heading).await?;
        ensure!(self.browser.value("document.scripts.length").await? == 0, "{page} has script");
        Ok(())
    }

    /// What a field holds, whatever was in it.
    async fn choose(&mut self, field: &str, value: &str) -> Result<()> {
        let set = format!("document.getElementById({field:?}).value = {value:?}");
        self.browser.value(&set).await.map(drop)
    }

    fn export(&self) -> Result<String> {
        self.machine.command_line().run(&["settings", "export"])
    }

    /// From a page that has the button, until what changed is written.
    async fn synchronise(&mut self) -> Result<()> {
        self.browser.follow("form[action='/console/sync/preview'] button").await?;
        self.run_page().await?;
        ensure!(self.browser.text("h1").await? == "What would change in acme");
        self.browser.follow("form[action='/console/sync/write'] button").await?;
        self.run_page().await?;
        ensure!(self.browser.text("h1").await? == "What changed in acme");
        Ok(())
    }

    async fn move_item(&mut self, name: &str, direction: &str) -> Result<()> {
        self.open("/console/sync").await?;
        let form = format!("form[action='/console/sync/items/{name}/move']:has(input[value={direction}])");
        self.browser.follow(&format!("{form} button")).await
    }

    /// Asks from the page of synchronisation, and finds this said.
    async fn owner_of(&mut self, user: &str, said: &str) -> Result<()> {
        self.open("/console/sync").await?;
        self.browser.type_into("#user", user).await?;
        self.browser.follow("form[action='/console/sync/owner'] button").await?;
        let found = self.browser.text("main").await?;
        ensure!(found.contains(said), "{found}");
        Ok(())
    }

    async fn field(&mut self, name: &str) -> Result<String> {
        let value =
            self.browser.value(&format!("document.querySelector({:?}).value", format!("[name='{name}']"))).await?;
        Ok(value.as_str().context("a text")?.to_owned())
    }

    /// Waits until the run that was asked for is shown.
    async fn run_page(&mut self) -> Result<()> {
        let end = Instant::now() + MADE;
        while self.browser.text("h1").await.unwrap_or_default() == "Reading the directory" {
            ensure!(Instant::now() < end, "the run does not end: {}", self.machine.twinlock.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// The company's settings, with runs that would begin by themselves, but not while the story is told.
    async fn settings(&self, more: &str) -> Result<()> {
        let sync = "[sync]\nenabled = true\ninterval_minutes = 1440\n";
        let document = company_settings(&self.machine.slapd, more)?.replacen("[sync]\nenabled = true\n", sync, 1);
        self.machine.command_line().apply(self.machine.dir.path(), &document).map(drop)
    }

    fn users(&self, name: &str) -> Result<usize> {
        let users = self.machine.command_line().json(&["user", "list", name])?;
        Ok(users["items"].as_array().context("a list")?.len())
    }

    async fn no_complaint(&mut self) -> Result<()> {
        self.browser.no_complaint().await
    }
}

fn picture(name: &str) -> Result<std::path::PathBuf> {
    let folder = lab::repository().join("target/screenshots");
    std::fs::create_dir_all(&folder)?;
    Ok(folder.join(format!("{name}.png")))
}
