//! What a real OpenLDAP server holds is what the store gets, and what could not be read completely is never called complete.

mod fakes;

use fakes::{Lab, Run, Told, Wire, item, until};
use lab::{COMPANY_BASE, Pki, Slapd, SlapdOptions, program, run};
use proto::user_store::left_object::How;
use proto::user_store::{FinishRunReply, RequestSyncRequest, SyncedUser};
use serde_json::{Value, json};
use service_kit::Process;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

const PEOPLE: usize = 120;

struct Company {
    slapd: Slapd,
    ca: String,
    _dir: tempfile::TempDir,
}

impl Company {
    fn start(options: &SlapdOptions) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let pki = Pki::new(&dir.path().join("tls")).expect("a CA");
        let slapd = Slapd::start(dir.path(), &pki, options).expect("slapd");
        let ca = std::fs::read_to_string(pki.ca_file()).expect("the CA");
        Self { slapd, ca, _dir: dir }
    }

    fn directory(&self) -> Value {
        json!({
            "name": "corp", "preset": "openldap", "urls": [self.slapd.ldaps_url()], "base": COMPANY_BASE,
            "query_bind": { "kind": "tls", "name": Slapd::QUERY_DN, "password": "keep" }, "ca": self.ca,
            "netbios_domain": "ACME",
        })
    }

    /// The part, with these items of this directory and no schedule.
    fn sync(&self, items: Value) -> Synced {
        Synced::start(json!({ "directory": [self.directory()], "sync_item": items }))
    }

    /// What `ldapsearch` finds, which is not ours: by DN, attributes and values.
    fn search(&self, filter: &str) -> BTreeMap<String, Vec<(String, String)>> {
        let found = run(Command::new(program("ldapsearch").expect("installed"))
            .args(["-x", "-LLL", "-o", "ldif-wrap=no", "-H", &self.slapd.ldap_url(), "-D", Slapd::ADMIN_DN, "-w"])
            .args([Slapd::ADMIN_PASSWORD, "-b", COMPANY_BASE, filter, "*", "entryUUID"]))
        .expect("ldapsearch");
        let text = String::from_utf8(found.stdout).expect("LDIF");
        let entry = |block: &str| {
            let mut lines = block.lines().filter_map(|line| line.split_once(": "));
            let (_, dn) = lines.next()?;
            Some((dn.to_owned(), lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
        };
        text.split("\n\n").filter_map(entry).collect()
    }
}

struct Synced {
    lab: Lab,
    process: Process,
}

impl Synced {
    fn start(document: Value) -> Self {
        let lab = Lab::new(document, Slapd::QUERY_PASSWORD);
        let process = lab.start();
        Self { lab, process }
    }

    async fn run_now(&self) -> Run {
        self.lab.run_now().await
    }

    fn user(&self, username: &str) -> Option<SyncedUser> {
        let told = self.lab.store.told();
        told.users.values().find(|(user, _)| user.username == username).map(|(user, _)| user.clone())
    }

    async fn stop(self) {
        self.process.finish().await;
    }
}

fn mobile(user: &SyncedUser) -> String {
    user.phones.iter().find(|phone| phone.kind == "mobile").map(|phone| phone.number.clone()).unwrap_or_default()
}

fn first(values: &[(String, String)], name: &str) -> String {
    values.iter().find(|(attribute, _)| attribute == name).map(|(_, value)| value.clone()).unwrap_or_default()
}

fn why_incomplete(run: &Run) -> String {
    match &run.finished {
        Some((false, error)) => error.clone(),
        other => panic!("it should be incomplete: {other:?}"),
    }
}

#[tokio::test]
async fn when_a_password_was_changed_is_told_by_what_the_directory_keeps_of_it() {
    // V-52: pwdChangedTime of the password policy overlay; shadowLastChange where there is none of it
    let ppolicy = "moduleload ppolicy.la\noverlay ppolicy".to_owned();
    let company = Company::start(&SlapdOptions { database_lines: ppolicy, ..Default::default() });
    let synced = company.sync(json!([item("staff")]));
    let (ann, bob) = first_two(&company);
    synced.run_now().await;
    let told = |dn: &str| {
        let told = synced.lab.store.told();
        let user = told.users.values().find(|(user, _)| user.distinguished_name == dn);
        user.map(|(user, _)| user.password_changed.clone()).expect("there")
    };
    assert_eq!(
        (told(&ann).as_str(), told(&bob).as_str()),
        ("", ""),
        "nobody has changed one since the overlay is there"
    );
    let password = format!("dn: {ann}\nchangetype: modify\nreplace: userPassword\nuserPassword: Another-1\n");
    company.slapd.modify(&password).expect("changed");
    let shadow =
        |days: u32| format!("dn: {bob}\nchangetype: modify\nreplace: shadowLastChange\nshadowLastChange: {days}\n");
    let class = format!("dn: {bob}\nchangetype: modify\nadd: objectClass\nobjectClass: shadowAccount\n\n");
    company.slapd.modify(&(class + &shadow(20_700))).expect("changed");
    synced.run_now().await;
    let changed = told(&ann);
    assert!(changed.len() == 15 && changed.ends_with('Z'), "{changed:?}");
    assert_eq!(told(&bob), "20700");
    company.slapd.modify(&shadow(20_701)).expect("changed");
    synced.run_now().await;
    assert_eq!((told(&ann), told(&bob)), (changed, "20701".to_owned()), "and the same while nothing changes");
    synced.stop().await;
}

#[tokio::test]
async fn an_edirectory_says_who_may_not_log_in_and_until_when() {
    // FD-42, FS-26
    let schema_lines = "attributetype ( 2.16.840.1.113719.1.1.4.1.36 NAME 'loginDisabled' EQUALITY booleanMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.7 SINGLE-VALUE )
attributetype ( 2.16.840.1.113719.1.1.4.1.37 NAME 'loginExpirationTime' EQUALITY generalizedTimeMatch ORDERING generalizedTimeOrderingMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.24 SINGLE-VALUE )
objectclass ( 1.3.6.1.4.1.4203.666.3.902 NAME 'labLogin' SUP top AUXILIARY MAY ( loginDisabled $ loginExpirationTime ) )"
        .to_owned();
    let company = Company::start(&SlapdOptions { schema_lines, ..Default::default() });
    let mut directory = company.directory();
    directory["preset"] = json!("edirectory");
    directory["attributes"] = json!({ "id": "entryUUID" });
    let synced = Synced::start(json!({ "directory": [directory], "sync_item": [item("staff")] }));
    let [ann, ben, clara] = ["ann.archer,ou=engineering", "ben.hale,ou=sales", "clara.osborn,ou=finance"]
        .map(|who| format!("dn: uid={who},ou=people,{COMPANY_BASE}\nchangetype: modify\n"));
    let class = "add: objectClass\nobjectClass: labLogin\n-\n";
    company
        .slapd
        .modify(&format!(
            "{ann}{class}add: loginDisabled\nloginDisabled: TRUE\n\n\
             {ben}{class}add: loginExpirationTime\nloginExpirationTime: 20200101000000Z\n\n\
             {clara}{class}add: loginDisabled\nloginDisabled: FALSE\n-\nadd: loginExpirationTime\n\
             loginExpirationTime: 20990101000000Z\n"
        ))
        .expect("modified");
    let states = || {
        ["ann.archer", "ben.hale", "clara.osborn"].map(|name| {
            let user = synced.user(name).expect("there");
            (user.disabled_in_directory, user.expires_unix_ms)
        })
    };
    synced.run_now().await;
    assert_eq!(states(), [(true, 0), (true, 1_577_836_800_000), (false, 4_070_908_800_000)]);
    let ends = |time: &str| format!("replace: loginExpirationTime\nloginExpirationTime: {time}\n\n");
    company
        .slapd
        .modify(&format!(
            "{ann}replace: loginDisabled\nloginDisabled: FALSE\n\n{ben}{}{clara}replace: loginDisabled\nloginDisabled: TRUE\n",
            ends("20990101000000Z")
        ))
        .expect("modified");
    synced.run_now().await;
    assert_eq!(states(), [(false, 0), (false, 4_070_908_800_000), (true, 4_070_908_800_000)]);
    synced.stop().await;
}

#[tokio::test]
async fn of_several_attributes_of_a_key_the_first_that_has_a_value_is_read() {
    // FD-30 to FD-41
    let company = Company::start(&SlapdOptions::default());
    let mut directory = company.directory();
    directory["attributes"] = json!({
        "username": ["departmentNumber;uid"],
        "first_name": "displayName;givenName",
        "mail": "labeledURI;mail",
        "phones": { "mobile": "pager;mobile" },
        "group_name": "businessCategory;cn",
    });
    let synced = Synced::start(json!({ "directory": [directory], "sync_item": [item("staff")] }));
    let truth = company.search("(uid=ann.archer)").into_values().next().expect("she is there");
    let dn = format!("uid=ann.archer,ou=engineering,ou=people,{COMPANY_BASE}");
    let told = || {
        let told = synced.lab.store.told();
        let (user, _) = told.users.values().find(|(user, _)| user.distinguished_name == dn).expect("there");
        [&user.username, &user.first_name, &user.mail]
            .map(String::clone)
            .into_iter()
            .chain([mobile(user)])
            .collect::<Vec<_>>()
    };
    synced.run_now().await;
    assert_eq!(told(), ["uid", "givenName", "mail", "mobile"].map(|name| first(&truth, name)));
    assert!(
        synced.lab.store.told().groups.values().all(|(group, _)| !group.name.is_empty() && !group.name.contains('='))
    );
    company
        .slapd
        .modify(&format!(
            "dn: {dn}\nchangetype: modify\nadd: departmentNumber\ndepartmentNumber: 4711\n-\nadd: displayName\ndisplayName: Annie\n-\n\
             add: pager\npager: +49 30 7\n-\nadd: labeledURI\nlabeledURI: annie@acme.example\n"
        ))
        .expect("modified");
    synced.run_now().await;
    assert_eq!(told(), ["4711", "Annie", "annie@acme.example", "+49 30 7"]);
    synced.stop().await;
}

/// The names of two people.
fn first_two(company: &Company) -> (String, String) {
    let mut people = company.search("(objectClass=inetOrgPerson)").into_keys();
    (people.next().expect("one"), people.next().expect("two"))
}

#[tokio::test]
async fn the_store_gets_what_the_directory_holds() {
    // S-50: more than one page, more than one batch
    let company = Company::start(&SlapdOptions { bulk_people: 1_300, ..Default::default() });
    let synced = company.sync(json!([item("staff")]));
    let run = synced.run_now().await;
    assert_eq!(run.finished, Some((true, String::new())));
    let truth = company.search("(objectClass=inetOrgPerson)");
    assert_eq!(truth.len(), PEOPLE + 1_300);
    synced.process.finish().await;
    let told = synced.lab.store.told();
    assert_eq!(told.users.len(), truth.len());
    assert!(told.largest_batch <= 1_000 && told.batches >= 2, "{} {}", told.largest_batch, told.batches);
    for (dn, values) in &truth {
        let (user, _) = &told.users[&format!("entryUUID:{}", first(values, "entryUUID"))];
        assert_eq!(&user.distinguished_name, dn);
        let expected = ["uid", "givenName", "sn", "mail", "mobile"].map(|name| first(values, name));
        let found = [&user.username, &user.first_name, &user.last_name, &user.mail].map(String::clone);
        assert_eq!(found, expected[..4]);
        assert_eq!(mobile(user), expected[4]);
        assert_eq!(user.items, ["staff"]);
        let uid = first(values, "uid");
        let names: BTreeSet<String> = user.names.iter().cloned().collect();
        assert_eq!(names, BTreeSet::from([uid.clone(), format!("ACME\\{uid}"), first(values, "mail")]));
        assert!(!user.disabled_in_directory);
    }
    let groups = company.search("(objectClass=groupOfNames)");
    assert_eq!(told.groups.len(), groups.len());
    for (dn, values) in &groups {
        let (group, _) = &told.groups[&format!("entryUUID:{}", first(values, "entryUUID"))];
        let members: BTreeSet<&str> =
            values.iter().filter(|(name, _)| name == "member").map(|(_, value)| value.as_str()).collect();
        assert_eq!((&group.distinguished_name, &group.name), (dn, &first(values, "cn")));
        assert_eq!(group.members.iter().map(String::as_str).collect::<BTreeSet<_>>(), members);
    }
}

#[tokio::test]
async fn who_is_gone_changed_or_disabled_in_the_directory_is_so_in_the_next_run() {
    let ppolicy = "moduleload ppolicy.la\noverlay ppolicy".to_owned();
    let company = Company::start(&SlapdOptions { database_lines: ppolicy, ..Default::default() });
    let synced = company.sync(json!([item("staff")]));
    synced.run_now().await;
    let ann = synced.user("ann.archer").expect("she is there");
    company
        .slapd
        .modify(&format!(
            "dn: uid=ben.hale,ou=sales,ou=people,{COMPANY_BASE}\nchangetype: delete\n\n\
             dn: uid=ann.archer,ou=engineering,ou=people,{COMPANY_BASE}\nchangetype: modify\nreplace: mobile\nmobile: +49 30 7\n\n\
             dn: uid=ann.archer,ou=engineering,ou=people,{COMPANY_BASE}\nchangetype: modrdn\nnewrdn: uid=ann.smith\n\
             deleteoldrdn: 1\nnewsuperior: ou=sales,ou=people,{COMPANY_BASE}\n\n\
             dn: uid=clara.osborn,ou=finance,ou=people,{COMPANY_BASE}\nchangetype: modify\nadd: pwdAccountLockedTime\n\
             pwdAccountLockedTime: 000001010000Z\n"
        ))
        .expect("modified");
    let run = synced.run_now().await;
    assert_eq!(run.finished, Some((true, String::new())));
    assert_eq!(run.users.len(), PEOPLE - 1);
    assert!(!run.users.contains(&"ben.hale".to_owned()));
    let moved = synced.user("ann.smith").expect("under her new name");
    assert_eq!(moved.object_id, ann.object_id, "renamed and moved, and the same person");
    assert_eq!(moved.distinguished_name, format!("uid=ann.smith,ou=sales,ou=people,{COMPANY_BASE}"));
    assert_eq!(mobile(&moved), "+49 30 7");
    let left: Vec<How> = synced.lab.store.told().left.values().copied().collect();
    assert_eq!(left, [How::Absent], "looked for by his id, and not there (S-43)");
    assert!(synced.user("clara.osborn").expect("she is there").disabled_in_directory);
    synced.stop().await;
}

#[tokio::test]
async fn each_user_comes_once_with_all_items_that_hold_it_in_their_order() {
    // FS-08, FS-21, FS-22
    let company = Company::start(&SlapdOptions::default());
    let group = format!("cn=vpn-users,ou=groups,{COMPANY_BASE}");
    let container = |ou: &str| format!("{ou},{COMPANY_BASE}");
    let synced = company.sync(json!([
        { "name": "off", "directory": "corp", "source": { "kind": "domain" }, "state": "off" },
        { "name": "later", "directory": "corp", "source": { "kind": "domain" }, "state": "preview" },
        { "name": "sales", "directory": "corp", "source": { "kind": "container", "dn": container("ou=SALES, ou=people") } },
        { "name": "top", "directory": "corp", "source": { "kind": "container", "dn": container("ou=people"), "subtree": false } },
        { "name": "vpn", "directory": "corp", "source": { "kind": "group", "dn": group.to_uppercase() }, "filter": "(uid=b*)" },
        { "name": "a-names", "directory": "corp", "source": { "kind": "domain" }, "filter": "(uid=a*)" },
    ]));
    let run = synced.run_now().await;
    assert_eq!(run.finished, Some((true, String::new())));
    let uids = |filter: &str| -> BTreeSet<String> {
        company.search(filter).values().map(|values| first(values, "uid")).collect()
    };
    let holds = |item: &str| -> BTreeSet<String> {
        let told = synced.lab.store.told();
        let held = told.users.values().filter(|(user, _)| user.items.iter().any(|it| it == item));
        held.map(|(user, _)| user.username.clone()).collect()
    };
    let (sales, a_names) = ("(&(objectClass=inetOrgPerson)(ou:dn:=sales))", "(&(objectClass=inetOrgPerson)(uid=a*))");
    assert_eq!(holds("sales"), uids(sales));
    assert_eq!(holds("a-names"), uids(a_names));
    assert_eq!(holds("vpn"), uids("(&(objectClass=inetOrgPerson)(uid=b*))"), "who is a member the store knows");
    assert_eq!((holds("off").len(), holds("later").len(), holds("top").len()), (0, 0, 0));
    {
        let told = synced.lab.store.told();
        assert!(told.users.values().any(|(user, _)| user.items == ["sales", "vpn"]), "in the order of the settings");
        assert_eq!(run.users.len(), told.users.len(), "each once");
        assert_eq!((told.groups.len(), told.containers.len() > 5), (6, true));
    }
    synced.stop().await;
}

#[tokio::test]
async fn a_filter_of_an_item_is_evaluated_here_or_asked_of_a_page_of_people_at_a_time_and_only_of_whom_the_item_could_hold()
 {
    // FD-14, FS-22, S-14: nobody holds the directory. By its number nobody here knows the attribute.
    const BULK: usize = 330;
    let company = Company::start(&SlapdOptions { bulk_people: BULK, ..Default::default() });
    // Five pages, each asked of both; the first one is of people who lie elsewhere.
    let pages = 2 * (BULK + PEOPLE).div_ceil(100) - 1;
    let mut asked_before = 0;
    for (uid, asked) in [("uid", 0), ("0.9.2342.19200300.100.1.1", pages)] {
        let bulk = json!({ "kind": "container", "dn": format!("ou=bulk,ou=people,{COMPANY_BASE}") });
        let synced = company.sync(json!([
            { "name": "some", "directory": "corp", "source": bulk, "filter": format!("({uid}=bulk*7)") },
            { "name": "others", "directory": "corp", "source": { "kind": "domain" }, "filter": format!("({uid}=*n*)") },
        ]));
        let run = synced.run_now().await;
        assert_eq!(run.finished, Some((true, String::new())));
        let log = company.slapd.log();
        let searches = || log.lines().filter(|line| line.contains(" SRCH base="));
        for line in searches().filter(|line| line.contains("(entryUUID=")) {
            // The end of a long line is cut.
            assert!((1..=100).contains(&line.matches("(entryUUID=").count()), "{line}");
        }
        let by_ids = searches().filter(|line| line.contains("(entryUUID=")).count();
        assert_eq!(by_ids - asked_before, asked, "by {uid}");
        asked_before = by_ids;
        let told = synced.lab.store.told().users.values().map(|(user, _)| user.clone()).collect::<Vec<_>>();
        for (item, filter) in [("some", "(uid=bulk*7)"), ("others", "(&(objectClass=inetOrgPerson)(uid=*n*))")] {
            let held = told.iter().filter(|user| user.items.iter().any(|it| it == item));
            let held: BTreeSet<&str> = held.map(|user| user.username.as_str()).collect();
            let found = company.search(filter);
            let found: BTreeSet<String> = found.values().map(|values| first(values, "uid")).collect();
            assert!(!held.is_empty() && held.iter().copied().eq(found.iter().map(String::as_str)), "{item}: {held:?}");
        }
        synced.stop().await;
    }
}

#[tokio::test]
async fn what_some_objects_are_and_whether_they_are_there_is_told_by_one_search_of_their_ids() {
    // S-14, S-43: the groups are read once more for their members. What only the directory can compare is asked of it, and never for
    // a secret.
    let company = Company::start(&SlapdOptions::default());
    let ids = |filter: &str| {
        company.search(filter).into_values().map(|values| first(&values, "entryUUID")).collect::<Vec<_>>()
    };
    let (ann, staff) = (ids("(uid=ann.archer)"), ids("(&(objectClass=groupOfNames)(cn=s*))"));
    let (units, services) = (ids("(objectClass=organizationalUnit)"), ids("(objectClass=applicationProcess)"));
    let gone = "00000000-0000-0000-0000-000000000001".to_owned();
    let all = ann.iter().chain(&staff).chain(&units).chain(&services).chain([&gone]);
    let chosen: Vec<String> = all.map(|id| format!("entryUUID:{id}")).collect();
    let source = json!({ "kind": "users", "ids": chosen });
    let filter = "(&(uid=*)(userPassword=*))";
    let synced = company.sync(json!([
        { "name": "chosen", "directory": "corp", "source": source },
        { "name": "secret", "directory": "corp", "source": source, "filter": filter },
    ]));
    // Some that the store knows: who is none of these any more has left.
    let known =
        services.iter().chain([&gone]).map(|id| (format!("entryUUID:{id}"), (SyncedUser::default(), "before".into())));
    synced.lab.store.told().users.extend(known);
    assert_eq!(synced.run_now().await.finished, Some((true, String::new())));
    let log = company.slapd.log();
    let searches = || log.lines().filter(|line| line.contains(" SRCH base=") && line.contains("(entryUUID="));
    let of = |part: &str| searches().filter(|line| line.contains(part)).count();
    // The last one is of those whom the run has not met.
    assert_eq!((searches().count(), of("(objectClass=posixGroup)"), of("(userPassword=*)")), (4, 1, 1), "{log}");
    let attributes = log.lines().filter(|line| line.contains(" SRCH attr="));
    assert!(attributes.clone().any(|line| line.contains("objectClass")), "what the filters look at is asked for");
    assert!(!attributes.clone().any(|line| line.contains("userPassword")));
    {
        let told = synced.lab.store.told();
        let how = |id: &String| told.left.get(&format!("entryUUID:{id}")).copied();
        assert!(!services.is_empty() && services.iter().all(|id| how(id) == Some(How::Outside)), "{:?}", told.left);
        assert_eq!(how(&gone), Some(How::Absent));
        assert_eq!((told.left.len(), ann.len()), (services.len() + 1, 1), "{:?}", told.left);
        assert!(staff.len() > 1 && staff.iter().all(|id| told.groups.contains_key(&format!("entryUUID:{id}"))));
        assert!(units.iter().all(|id| told.containers.contains_key(&format!("entryUUID:{id}"))));
    }
    synced.stop().await;
}

#[tokio::test]
async fn an_item_may_name_its_source_by_id_which_a_rename_does_no_harm() {
    // FS-21
    let company = Company::start(&SlapdOptions::default());
    let dn = format!("ou=sales,ou=people,{COMPANY_BASE}");
    let id = first(&company.search("(ou=sales)")[&dn], "entryUUID");
    let source = json!({ "kind": "container", "id": format!("entryUUID:{id}") });
    let synced = company.sync(json!([{ "name": "sales", "directory": "corp", "source": source }]));
    let before = synced.run_now().await;
    assert!(before.users.len() > 5, "{before:?}");
    company
        .slapd
        .modify(&format!("dn: {dn}\nchangetype: modrdn\nnewrdn: ou=vendors\ndeleteoldrdn: 1\n"))
        .expect("renamed");
    let after = synced.run_now().await;
    assert_eq!((after.users.len(), after.finished), (before.users.len(), Some((true, String::new()))));
    synced.stop().await;
}

#[tokio::test]
async fn an_item_may_name_its_users_one_by_one_wherever_they_are() {
    // FS-16, FS-08, FS-22
    let company = Company::start(&SlapdOptions::default());
    let id = |uid: &str| {
        let found = company.search(&format!("(uid={uid})"));
        format!("entryUUID:{}", first(found.values().next().expect("one"), "entryUUID"))
    };
    let nobody = "entryUUID:00000000-0000-0000-0000-000000000001".to_owned();
    let [ann, ben, clara] = ["ann.archer", "ben.hale", "clara.osborn"].map(id);
    let group =
        first(&company.search("(cn=vpn-users)")[&format!("cn=vpn-users,ou=groups,{COMPANY_BASE}")], "entryUUID");
    let chosen = json!({ "kind": "users", "ids": [ann, ben, nobody, format!("entryUUID:{group}")] });
    let filtered = json!({ "kind": "users", "ids": [ben, clara] });
    let synced = company.sync(json!([
        { "name": "chosen", "directory": "corp", "source": chosen },
        { "name": "filtered", "directory": "corp", "source": filtered, "filter": "(uid=clara*)" },
    ]));
    let run = synced.run_now().await;
    assert_eq!(run.finished, Some((true, String::new())), "one who is not there is nobody");
    let held = |item: &str| synced.lab.store.told().owned(item).into_iter().collect::<Vec<_>>();
    assert_eq!(held("chosen"), ["ann.archer", "ben.hale"], "a group is no user");
    assert_eq!(held("filtered"), ["clara.osborn"], "the item's own filter holds, too");
    assert_eq!(synced.lab.store.told().users.len(), 3, "the rest of the directory is not read");
    // Moved and renamed, and the same person.
    company
        .slapd
        .modify(&format!(
            "dn: uid=ann.archer,ou=engineering,ou=people,{COMPANY_BASE}\nchangetype: modrdn\nnewrdn: uid=ann.smith\n\
             deleteoldrdn: 1\nnewsuperior: ou=sales,ou=people,{COMPANY_BASE}\n\n\
             dn: uid=ben.hale,ou=sales,ou=people,{COMPANY_BASE}\nchangetype: delete\n"
        ))
        .expect("modified");
    let run = synced.run_now().await;
    assert_eq!(run.finished, Some((true, String::new())));
    assert_eq!(held("chosen"), ["ann.smith", "ben.hale"]);
    assert_eq!(synced.lab.store.told().left.get(&ben), Some(&How::Absent), "they leave one by one (S-43)");
    synced.stop().await;
}

#[tokio::test]
async fn of_an_id_that_two_entries_have_the_store_hears_both_at_once() {
    // FD-31: whoever hears of one of them alone would take it for the person who is known by the id.
    let company = Company::start(&SlapdOptions::default());
    let (ann, bob) = first_two(&company);
    for dn in [&ann, &bob] {
        let number = format!("dn: {dn}\nchangetype: modify\nreplace: description\ndescription: L-1\n");
        company.slapd.modify(&number).expect("changed");
    }
    let mut directory = company.directory();
    directory["attributes"] = json!({ "id": "description", "id_type": "string" });
    // So its groups have none: what was read is written all the same.
    let chosen = json!({ "kind": "users", "ids": ["description:string:L-1"] });
    let items = json!([{ "name": "chosen", "directory": "corp", "source": chosen }]);
    let synced = Synced::start(json!({ "directory": [directory], "sync_item": items }));
    let run = synced.run_now().await;
    let told = synced.lab.store.told().users.values().all(|(user, _)| user.by_id);
    assert_eq!((run.users.len(), told, synced.lab.store.told().largest_batch), (2, true, 2), "{run:?}");
    synced.stop().await;
}

#[tokio::test]
async fn users_who_are_named_beside_a_container_are_read_once() {
    // FS-16, FS-08
    let company = Company::start(&SlapdOptions::default());
    let id = |uid: &str| {
        let found = company.search(&format!("(uid={uid})"));
        format!("entryUUID:{}", first(found.values().next().expect("one"), "entryUUID"))
    };
    let (ann, ben) = (id("ann.archer"), id("ben.hale"));
    let sales = format!("ou=sales,ou=people,{COMPANY_BASE}");
    let synced = company.sync(json!([
        { "name": "sales", "directory": "corp", "source": { "kind": "container", "dn": sales } },
        { "name": "chosen", "directory": "corp", "source": { "kind": "users", "ids": [ann, ben] } },
    ]));
    let run = synced.run_now().await;
    let in_sales = company.search("(&(objectClass=inetOrgPerson)(ou:dn:=sales))").len();
    assert_eq!(run.users.len(), in_sales + 1, "{:?}", run.users);
    let items = |id: &str| synced.lab.store.told().users[id].0.items.clone();
    assert_eq!(items(&ben), ["sales", "chosen"], "the first item owns him");
    assert_eq!(items(&ann), ["chosen"]);
    synced.stop().await;
}

#[tokio::test]
async fn a_large_group_is_read_whole() {
    let company = Company::start(&SlapdOptions { bulk_people: 700, ..Default::default() });
    let members: String =
        (1..=700).map(|number| format!("member: uid=bulk{number:05},ou=BULK, ou=people,{COMPANY_BASE}\n")).collect();
    let dn = format!("cn=everybody,ou=groups,{COMPANY_BASE}");
    company
        .slapd
        .modify(&format!("dn: {dn}\nchangetype: add\nobjectClass: groupOfNames\ncn: everybody\n{members}"))
        .expect("added");
    let synced = company.sync(json!([{ "name": "all", "directory": "corp", "source": { "kind": "group", "dn": dn } }]));
    let run = synced.run_now().await;
    assert_eq!(run.finished, Some((true, String::new())));
    let members = {
        let told = synced.lab.store.told();
        let group = told.groups.values().find(|(group, _)| group.name == "everybody");
        group.map(|(group, _)| group.members.len())
    };
    assert_eq!(members, Some(700));
    synced.stop().await;
}

#[tokio::test]
async fn a_source_that_cannot_be_read_is_incomplete_and_says_why() {
    // S-41
    let company = Company::start(&SlapdOptions::default());
    for (item, why) in [
        (json!({ "source": { "kind": "domain" }, "filter": "(uid=" }), "no filter"),
        (json!({ "source": { "kind": "domain" }, "directory": "other" }), "there is no directory other"),
    ] {
        let mut item = item;
        item["name"] = "staff".into();
        item["directory"] = item.get("directory").cloned().unwrap_or("corp".into());
        let synced = company.sync(json!([item]));
        let run = synced.run_now().await;
        let error = why_incomplete(&run);
        assert!(error.contains(why) && run.users.is_empty(), "{why}: {error}");
        synced.stop().await;
    }
}

#[tokio::test]
async fn an_item_whose_source_is_gone_stops_no_other_and_nobody_leaves() {
    // FS-21, S-40
    let company = Company::start(&SlapdOptions::default());
    let named = |kind: &str, dn: &str| json!({ "kind": kind, "dn": format!("{dn},{COMPANY_BASE}") });
    let sales = format!("ou=sales,ou=people,{COMPANY_BASE}");
    let synced = company.sync(json!([
        { "name": "vpn", "directory": "corp", "source": named("group", "cn=vpn-users,ou=groups") },
        { "name": "sales", "directory": "corp", "source": { "kind": "container", "dn": sales } },
    ]));
    let first = synced.run_now().await;
    assert_eq!(first.finished, Some((true, String::new())));
    let known = synced.lab.store.told().users.len();
    for (source, kind) in [
        (named("container", "ou=nowhere"), "container"),
        (json!({ "kind": "container", "id": "entryUUID:00000000-0000-0000-0000-000000000001" }), "container"),
        (named("group", "cn=nobody,ou=groups"), "group"),
    ] {
        synced.lab.settings.change(|document| document["sync_item"][0]["source"] = source.clone());
        let run = synced.run_now().await;
        let error = why_incomplete(&run);
        assert!(error.starts_with(&format!("the {kind} ")) && error.contains("of the sync item vpn cannot"), "{error}");
        assert!(run.users.contains(&"ben.hale".to_owned()), "the other item is read: {run:?}");
        assert!(synced.lab.store.told().left.is_empty(), "{kind}");
    }
    // What is new in the other item is taken, what changes is, and who is of none is not said to have left.
    company
        .slapd
        .modify(&format!(
            "dn: uid=new.one,{sales}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: new.one\ncn: New One\nsn: One\n\n\
             dn: uid=ben.hale,{sales}\nchangetype: modify\nreplace: sn\nsn: Vale\n\n\
             dn: uid=clara.osborn,ou=finance,ou=people,{COMPANY_BASE}\nchangetype: delete\n"
        ))
        .expect("modified");
    why_incomplete(&synced.run_now().await);
    assert!(synced.user("new.one").is_some());
    assert_eq!(synced.user("ben.hale").map(|user| user.last_name), Some("Vale".into()));
    assert!(synced.lab.store.told().left.is_empty());
    assert_eq!(synced.lab.store.told().users.len(), known + 1);
    // The item is taken away: now it is told.
    synced.lab.settings.change(|document| drop(document["sync_item"].as_array_mut().expect("items").remove(0)));
    assert_eq!(synced.run_now().await.finished, Some((true, String::new())));
    assert!(!synced.lab.store.told().left.is_empty());
    synced.stop().await;
}

#[tokio::test]
async fn what_an_item_names_by_its_dn_may_be_renamed_and_moved_after_a_run_that_found_it() {
    // FS-21
    let company = Company::start(&SlapdOptions::default());
    let (vpn, sales) = (format!("cn=vpn-users,ou=groups,{COMPANY_BASE}"), format!("ou=sales,ou=people,{COMPANY_BASE}"));
    let synced = company.sync(json!([
        { "name": "sales", "directory": "corp", "source": { "kind": "container", "dn": sales } },
        { "name": "vpn", "directory": "corp", "source": { "kind": "group", "dn": vpn } },
    ]));
    synced.lab.ask(RequestSyncRequest { mode: "preview".into(), ..RequestSyncRequest::default() }).await;
    synced.lab.runs(1).await;
    assert_eq!(synced.lab.store.told().source.pins, [], "a preview keeps nothing");
    let before: BTreeSet<String> = synced.run_now().await.users.into_iter().collect();
    let id = |filter: &str, dn: &str| format!("entryUUID:{}", first(&company.search(filter)[dn], "entryUUID"));
    let known = |store: &Told| -> Vec<_> {
        let pins = store.source.pins.iter();
        pins.map(|pin| (pin.sync_item.clone(), pin.kind.clone(), pin.distinguished_name.clone(), pin.object_id.clone()))
            .collect()
    };
    let expected = [
        ("sales".to_owned(), "container".to_owned(), sales.clone(), id("(ou=sales)", &sales)),
        ("vpn".to_owned(), "group".to_owned(), vpn.clone(), id("(cn=vpn-users)", &vpn)),
    ];
    assert_eq!(known(&synced.lab.store.told()), expected);

    company
        .slapd
        .modify(&format!(
            "dn: {vpn}\nchangetype: modrdn\nnewrdn: cn=remote\ndeleteoldrdn: 1\n\n\
             dn: {sales}\nchangetype: modrdn\nnewrdn: ou=trade\ndeleteoldrdn: 1\nnewsuperior: {COMPANY_BASE}\n\n\
             dn: {sales}\nchangetype: add\nobjectClass: organizationalUnit\nou: sales\n"
        ))
        .expect("modified");
    let after = synced.run_now().await;
    assert_eq!(after.finished, Some((true, String::new())));
    assert_eq!(after.users.into_iter().collect::<BTreeSet<_>>(), before);
    assert!(synced.lab.store.told().owned("sales").contains("ben.hale"));
    assert_eq!(
        synced.user("ben.hale").map(|user| user.distinguished_name),
        Some(format!("uid=ben.hale,ou=trade,{COMPANY_BASE}"))
    );
    assert!(synced.lab.store.told().left.is_empty());
    assert_eq!(known(&synced.lab.store.told()), expected, "as it was found");

    // In another spelling it is looked for anew: the unit of that name is another one by now, and empty.
    let anew = sales.to_uppercase();
    synced.lab.settings.change(|document| document["sync_item"][0]["source"]["dn"] = anew.clone().into());
    synced.run_now().await;
    assert!(synced.lab.store.told().owned("sales").is_empty());
    let pins = known(&synced.lab.store.told());
    let found = pins.iter().find(|(item, ..)| item == "sales").expect("found");
    assert_eq!((&found.2, &found.3), (&anew, &id("(ou=sales)", &sales)));
    // Gone for good, whoever has its name.
    company.slapd.modify(&format!("dn: {sales}\nchangetype: delete\n\ndn: {sales}\nchangetype: add\nobjectClass: organizationalUnit\nou: sales\n")).expect("modified");
    let error = why_incomplete(&synced.run_now().await);
    assert!(error.contains(&anew) && error.contains("made again under the same name"), "{error}");
    synced.stop().await;
}

#[tokio::test]
async fn a_directory_without_an_item_lets_go_of_whom_it_had_when_asked() {
    // FS-10
    let company = Company::start(&SlapdOptions::default());
    let synced = company.sync(json!([item("staff")]));
    synced.run_now().await;
    synced.lab.settings.change(|document| document["sync_item"][0]["state"] = "off".into());
    synced.lab.ask_for("corp").await;
    let runs = synced.lab.runs(2).await;
    assert_eq!((runs[1].mode.as_str(), &runs[1].finished), ("full", &Some((true, String::new()))));
    assert_eq!(
        (runs[1].begun.base.as_str(), runs[1].begun.identity.is_empty()),
        ("", false),
        "the source is as it was"
    );
    let left = synced.lab.store.told().left.clone();
    assert!(left.len() >= PEOPLE && left.values().all(|how| *how == How::Outside), "{}", left.len());
    synced.stop().await;
}

#[tokio::test]
async fn a_server_that_caps_its_answer_gives_an_incomplete_read() {
    // S-41: the server gives N-1 entries
    let company = Company::start(&SlapdOptions { size_limit: PEOPLE - 1, ..Default::default() });
    let synced = company.sync(json!([item("staff")]));
    let run = synced.run_now().await;
    assert!(why_incomplete(&run).contains("cut the answer off with code"), "{run:?}");
    synced.stop().await;
}

#[tokio::test]
async fn a_wire_cut_anywhere_gives_an_incomplete_read() {
    // S-41: cut after any octet the directory sends, up to the last.
    let company = Company::start(&SlapdOptions { bulk_people: 400, ..Default::default() });
    let wire = Wire::to(company.slapd.ldap_port()).await;
    let synced = Synced::start(json!({
        "directory": [{
            "name": "corp", "preset": "openldap", "urls": [format!("ldap://127.0.0.1:{}", wire.port)], "page_size": 100,
            "base": COMPANY_BASE, "query_bind": { "kind": "simple", "name": Slapd::QUERY_DN }, "danger_clear_text": true,
            "connect_timeout_seconds": 1, "timeout_seconds": 2,
        }],
        "sync_item": [item("staff")],
    }));
    let run = synced.run_now().await;
    assert_eq!(run.finished, Some((true, String::new())));
    let most = wire.most.load(Ordering::SeqCst);
    let mut cuts: Vec<u64> = (0..16).map(|part| most * part / 16).collect();
    cuts.extend([1, 14, most - 1]);
    for cut in cuts {
        wire.allowed.store(cut, Ordering::SeqCst);
        let run = synced.run_now().await;
        assert!(!why_incomplete(&run).is_empty(), "after {cut} of {most}");
        assert!(run.users.len() <= PEOPLE + 400);
    }
    wire.allowed.store(u64::MAX, Ordering::SeqCst);
    let run = synced.run_now().await;
    assert_eq!((run.users.len(), run.finished), (PEOPLE + 400, Some((true, String::new()))));
    synced.stop().await;
}

#[tokio::test]
async fn a_directory_that_is_away_or_silent_gives_an_incomplete_read_and_comes_back() {
    let mut company = Company::start(&SlapdOptions::default());
    let mut directory = company.directory();
    directory["timeout_seconds"] = 1.into();
    directory["connect_timeout_seconds"] = 1.into();
    let synced = Synced::start(json!({ "directory": [directory], "sync_item": [item("staff")] }));
    let process = company.slapd.process().expect("it runs");
    process.signal("STOP");
    let silent = synced.run_now().await;
    company.slapd.process().expect("it runs").signal("CONT");
    assert!(!why_incomplete(&silent).is_empty());
    company.slapd.stop();
    let away = synced.run_now().await;
    assert!(why_incomplete(&away).contains("no server of the directory could be reached"), "{away:?}");
    company.slapd.restart().expect("it comes back");
    let run = synced.run_now().await;
    assert_eq!((run.users.len(), run.finished), (PEOPLE, Some((true, String::new()))));
    synced.stop().await;
}

#[tokio::test]
async fn entries_that_nobody_can_identify_are_no_evidence_that_somebody_is_gone() {
    // B-70: here no entry has the attribute that the settings call the id.
    let company = Company::start(&SlapdOptions::default());
    let mut directory = company.directory();
    directory["attributes"] = json!({ "id": "description" });
    let synced = Synced::start(json!({ "directory": [directory], "sync_item": [item("staff")] }));
    let run = synced.run_now().await;
    assert!(why_incomplete(&run).starts_with("126 of 126 entries have no usable id"), "{run:?}");
    assert!(run.users.is_empty());
    synced.stop().await;
}

#[tokio::test]
async fn a_complete_read_that_finds_nobody_is_complete_and_the_store_is_told_so() {
    // S-42: it is the store that parks it.
    let company = Company::start(&SlapdOptions::default());
    let mut staff = item("staff");
    staff["filter"] = "(uid=nobody)".into();
    let synced = company.sync(json!([staff]));
    let parked = FinishRunReply { parked: 3, approval_id: "approval".into(), ..FinishRunReply::default() };
    *synced.lab.store.finish.lock().expect("no panic") = parked;
    let run = synced.run_now().await;
    assert_eq!((run.users.len(), run.finished), (0, Some((true, String::new()))));
    synced.stop().await;
}

#[tokio::test]
async fn a_request_runs_what_it_names_by_the_newest_settings_and_off_the_schedule() {
    // FS-01
    let company = Company::start(&SlapdOptions::default());
    let synced = company.sync(json!([item("staff"), item("other")]));
    synced.lab.ask_for("other").await;
    let runs = synced.lab.runs(1).await;
    let run = &runs[0];
    assert_eq!(
        (runs.len(), run.directory.as_str(), run.mode.as_str(), run.trigger.as_str()),
        (1, "corp", "full", "request")
    );
    // Saved, and asked for in the same moment: no bus message has come.
    synced.lab.settings.change(|document| {
        document["sync_item"][0]["filter"] = "(uid=ann.archer)".into();
        document["sync_item"][1]["filter"] = "(uid=ann.archer)".into();
    });
    synced.lab.ask_for("corp").await;
    assert_eq!(synced.lab.runs(2).await[1].users, ["ann.archer"]);
    // One that is not there, then one that is: the first ends nothing.
    synced.lab.ask_for("nonsense").await;
    synced.lab.ask(RequestSyncRequest { only: "staff".into(), actor: "admin".into(), ..Default::default() }).await;
    let runs = synced.lab.runs(3).await;
    assert_eq!((runs[2].actor.as_str(), runs[2].users.len()), ("admin", 1));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(synced.lab.store.told().runs.len(), 3, "served requests do not come again, and nothing runs by itself");
    synced.stop().await;
}

#[tokio::test]
async fn a_schedule_begins_when_somebody_has_asked_once_and_pauses_while_changed_items_wait() {
    // FS-01, FS-02, FS-09
    let company = Company::start(&SlapdOptions::default());
    let synced = company.sync(json!([item("staff")]));
    until("a leader", Duration::from_secs(5), || synced.lab.store.told().epoch == 1).await;
    let change = async |change: fn(&mut Value)| {
        synced.lab.settings.change(change);
        synced.lab.bus.publish(proto::subjects::SETTINGS_CHANGED, bytes::Bytes::from_static(b"2")).await.expect("told");
    };
    change(|document| document["sync"] = json!({ "enabled": true, "interval_minutes": 1 })).await;
    until("the schedule", Duration::from_secs(10), || synced.lab.store.told().source_asked >= 1).await;
    assert!(synced.lab.store.told().runs.is_empty(), "nobody has asked for the first run");
    let first = synced.run_now().await;
    assert_eq!((first.mode.as_str(), first.why.as_str()), ("full", "it was asked for"));
    // Who leads next begins at once, where the first stopped.
    synced.process.finish().await;
    let process = synced.lab.start();
    let runs = synced.lab.runs(2).await;
    assert_eq!((runs[1].mode.as_str(), runs[1].trigger.as_str()), ("incremental", "schedule"), "{:?}", runs[1]);
    process.finish().await;
    synced.lab.settings.change(|document| document["sync_item"][0]["filter"] = "(uid=a*)".into());
    let asked = synced.lab.store.told().source_asked;
    let process = synced.lab.start();
    until("the schedule", Duration::from_secs(10), || synced.lab.store.told().source_asked > asked).await;
    assert_eq!(synced.lab.store.told().runs.len(), 2, "what was changed waits for somebody to ask");
    let asked = synced.lab.run_now().await;
    assert_eq!((asked.mode.as_str(), asked.finished), ("full", Some((true, String::new()))));
    assert!(synced.lab.store.told().left.len() > 50, "all who are no longer held");
    process.finish().await;
}

#[tokio::test]
async fn another_source_than_before_is_shown_and_not_written_until_it_is_accepted() {
    // S-44
    let company = Company::start(&SlapdOptions::default());
    let synced = company.sync(json!([item("staff")]));
    synced.run_now().await;
    synced.lab.settings.change(|document| {
        document["directory"][0]["base"] = format!("ou=people,{COMPANY_BASE}").into();
    });
    let shown = synced.run_now().await;
    assert_eq!((shown.mode.as_str(), &shown.finished), ("preview", &Some((true, String::new()))));
    assert!(shown.why.contains("another than at the last run"), "{}", shown.why);
    synced.lab.ask(RequestSyncRequest { accept_source: true, ..Default::default() }).await;
    let runs = synced.lab.runs(3).await;
    assert_eq!(runs[2].mode, "full");
    assert_eq!(synced.run_now().await.mode, "full", "and from then on it is the source");
    synced.stop().await;
}

#[tokio::test]
async fn another_directory_is_told_by_the_id_that_its_server_gave_the_base() {
    // S-44, FD-31: nobody has written one into the base
    let [company, other] = [0, 1].map(|_| Company::start(&SlapdOptions::default()));
    let lab =
        Lab::new(json!({ "directory": [company.directory()], "sync_item": [item("staff")] }), Slapd::QUERY_PASSWORD);
    lab.settings.change(|document| {
        document["directory"][0]["attributes"] = json!({ "id": "employeeNumber" });
        document["directory"][0]["group_filter"] = "(&(objectClass=groupOfNames)(employeeNumber=*))".into();
    });
    let process = lab.start();
    let first = lab.run_now().await;
    assert_eq!(first.finished, Some((true, String::new())), "{first:?}");
    assert_eq!(lab.run_now().await.mode, "full", "the same directory");
    lab.settings.change(|document| {
        document["directory"][0]["urls"] = json!([other.slapd.ldaps_url()]);
        document["directory"][0]["ca"] = other.ca.clone().into();
    });
    let shown = lab.run_now().await;
    assert_eq!((shown.mode.as_str(), &shown.finished), ("preview", &Some((true, String::new()))));
    assert!(shown.why.contains("another than at the last run"), "{}", shown.why);
    process.finish().await;
}

#[tokio::test]
async fn a_preview_reads_items_in_preview_too() {
    // FS-12
    let company = Company::start(&SlapdOptions::default());
    let mut later = item("later");
    (later["state"], later["filter"]) = ("preview".into(), "(uid=a*)".into());
    let synced = company.sync(json!([later]));
    synced.lab.ask(RequestSyncRequest { mode: "preview".into(), ..Default::default() }).await;
    let runs = synced.lab.runs(1).await;
    assert_eq!((runs[0].mode.as_str(), runs[0].users.contains(&"ann.archer".to_owned())), ("preview", true));
    assert!(runs[0].users.len() < 60);
    synced.stop().await;
}

#[tokio::test]
async fn a_list_that_somebody_looked_at_is_compared_before_anything_is_written() {
    // FS-09, FS-10
    let company = Company::start(&SlapdOptions::default());
    let synced = company.sync(json!([item("staff")]));
    let by_list = RequestSyncRequest { only: "corp".into(), looked_at: "listed".into(), ..Default::default() };
    let told = |runs: &[Run]| -> Vec<_> {
        let told = runs.iter().map(|run| [&run.mode, &run.trigger, &run.looked_at].map(String::clone));
        told.collect()
    };
    let check = ["preview", "check", "listed"].map(str::to_owned);
    let write = ["full", "request", ""].map(str::to_owned);
    synced.lab.store.list_changed.store(true, Ordering::SeqCst);
    synced.lab.ask(by_list.clone()).await;
    assert_eq!(told(&synced.lab.runs(1).await), std::slice::from_ref(&check));
    // The next request is taken up after the one that was refused.
    synced.lab.store.list_changed.store(false, Ordering::SeqCst);
    synced.lab.ask(by_list.clone()).await;
    let runs = synced.lab.runs(3).await;
    assert_eq!(told(&runs), [check.clone(), check.clone(), write.clone()], "another list was not written");
    assert_eq!(runs[1].users, runs[2].users);
    // What an item in preview would do is no part of what is written.
    let mut later = item("later");
    later["state"] = "preview".into();
    synced.lab.settings.change(|document| document["sync_item"] = json!([later, item("staff")]));
    synced.lab.ask(by_list.clone()).await;
    let runs = synced.lab.runs(5).await;
    assert_eq!(told(&runs[3..]), [check.clone(), write.clone()]);
    let sent: Vec<Value> = runs[3].begun.draft_items.iter().map(|it| serde_json::from_str(it).expect("JSON")).collect();
    assert_eq!(sent.iter().map(|item| &item["name"]).collect::<Vec<_>>(), ["staff"]);
    // So is that nobody is held any more.
    synced.lab.settings.change(|document| document["sync_item"] = json!([]));
    synced.lab.ask(by_list).await;
    assert_eq!(told(&synced.lab.runs(7).await[5..]), [check, write]);
    synced.stop().await;
}

#[tokio::test]
async fn a_preview_tries_items_that_are_not_applied() {
    // FS-12
    let company = Company::start(&SlapdOptions::default());
    let synced = company.sync(json!([item("staff")]));
    let mut draft = item("staff");
    draft["filter"] = "(uid=a*)".into();
    let ask = async |mode: &str| {
        let (only, mode, draft_items) = ("corp".into(), mode.into(), vec![draft.to_string()]);
        synced.lab.ask(RequestSyncRequest { only, mode, draft_items, ..Default::default() }).await;
    };
    ask("full").await;
    ask("preview").await;
    let runs = synced.lab.runs(1).await;
    assert_eq!((runs[0].mode.as_str(), runs[0].trigger.as_str()), ("preview", "draft"), "nothing else was written");
    assert!(runs[0].users.contains(&"ann.archer".to_owned()) && runs[0].users.len() < 60, "{:?}", runs[0].users);
    let sent: Vec<Value> = runs[0].begun.draft_items.iter().map(|it| serde_json::from_str(it).expect("JSON")).collect();
    assert_eq!((sent.len(), &sent[0]["filter"]), (1, &draft["filter"]));
    assert!(synced.run_now().await.users.len() > 100, "the settings are as they were");
    synced.stop().await;
}
