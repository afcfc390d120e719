//! What administrators ask of a directory, of the gRPC service of this part, called directly as in one process.

use crate::support::{Lab, Running, Wanted, directory_of};
use anyhow::{Context, Result};
use domain::settings::{Directory, SecretSource};
use lab::{COMPANY_BASE, Pki, Slapd, password_of};
use ldap_gateway::DirectoryQuestions;
use proto::common::Secret;
use proto::directory::directories_server::Directories;
use proto::directory::find_places_request::Kind;
use proto::directory::{
    FindAttributesRequest, FindPlacesReply, FindPlacesRequest, FindUsersReply, FindUsersRequest, HoldersRequest,
    Holding, InspectReply, InspectRequest,
};
use proto::user_store::PasswordTry;
use serde_json::json;
use std::sync::Arc;
use tonic::{Code, Request, Status};

fn secret(text: &str) -> Option<Secret> {
    Some(Secret { value: text.as_bytes().to_vec() })
}

async fn inspect(questions: &Arc<DirectoryQuestions>, request: InspectRequest) -> Result<InspectReply, Status> {
    questions.inspect(Request::new(request)).await.map(tonic::Response::into_inner)
}

fn verdict<'a>(reply: &'a InspectReply, about: &str) -> (&'a str, &'a str) {
    let line = reply.lines.iter().find(|line| line.about == about).expect("a line about it");
    (&line.verdict, &line.text)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_directory_is_tried_from_its_servers_to_one_password() -> Result<()> {
    // FD-11
    let lab = Lab::start(Wanted::default()).await?;
    let questions = lab.gateway.gateway.directories();
    let corp = InspectRequest { directory: "corp".into(), ..Default::default() };
    let reply = inspect(&questions, corp.clone()).await?;
    assert!(reply.good, "{reply:?}");
    assert_eq!(verdict(&reply, "users"), ("good", "120 users found."));
    assert!(verdict(&reply, "server").1.contains("OpenLDAP"), "{reply:?}");
    assert_eq!(lab.client_binds(), 0, "nobody's password was tried");

    let ann =
        InspectRequest { name: "ann.archer".into(), password: secret(&password_of("ann.archer")), ..corp.clone() };
    let reply = inspect(&questions, ann.clone()).await?;
    assert_eq!(verdict(&reply, "authentication"), ("good", "The password is right."));
    assert!(verdict(&reply, "user").1.contains(&lab.person("ann.archer")), "{reply:?}");
    let reply = inspect(&questions, InspectRequest { password: secret("wrong"), ..ann }).await?;
    assert!(!reply.good && verdict(&reply, "authentication").0 == "bad", "{reply:?}");
    assert_eq!(lab.slapd.binds("ann.archer"), 2, "one bind each");
    let other = InspectRequest { directory: "other".into(), ..corp };
    assert_eq!(inspect(&questions, other).await.map_err(|status| status.code()), Err(Code::NotFound));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_keeps_its_password_only_where_it_went_before() -> Result<()> {
    // FD-11, V-83, CVE-2024-5967: point the test at a host of one's own, and harvest what is saved
    let lab = Lab::start(Wanted::default()).await?;
    let questions = lab.gateway.gateway.directories();
    let saved = directory_of(&lab.slapd);
    let draft = |change: fn(&mut Directory), password: Option<Secret>| {
        let mut directory = saved.clone();
        directory.query_bind.password = Some(SecretSource::Keep);
        change(&mut directory);
        let draft_json = serde_json::to_string(&directory).expect("JSON");
        inspect(&questions, InspectRequest { draft_json, query_password: password, ..Default::default() })
    };
    let reply = draft(|it| it.user_filter = "(uid=ann.*)".into(), None).await?;
    assert_eq!(verdict(&reply, "users").1, "4 users found.", "the draft's own filter: {reply:?}");
    let reply = draft(|it| it.base = format!("ou=people,{COMPANY_BASE}"), None).await?;
    assert!(reply.good, "{reply:?}");

    let evil = tokio::net::TcpListener::bind("127.0.0.1:4389").await;
    let elsewhere: [fn(&mut Directory); 3] = [
        |it| it.urls = vec!["ldap://127.0.0.1:4389".into()],
        |it| it.urls.push("ldaps://evil.example".into()),
        |it| it.ca = Some("x".into()),
    ];
    for change in elsewhere {
        let refused = draft(change, None).await.expect_err("it would go elsewhere");
        assert!(refused.code() == Code::InvalidArgument && refused.message().contains("give it again"), "{refused:?}");
    }
    if let Ok(evil) = evil {
        let nobody = tokio::time::timeout(std::time::Duration::from_millis(200), evil.accept()).await;
        assert!(nobody.is_err(), "it was not even connected to");
    }
    let unknown = draft(|it| it.name = "new".parse().expect("a name"), None).await.expect_err("there is none to keep");
    assert_eq!(unknown.code(), Code::InvalidArgument);
    let typed = draft(|it| it.name = "new".parse().expect("a name"), secret(Slapd::QUERY_PASSWORD)).await?;
    assert!(typed.good, "{typed:?}");
    let wrong = draft(|_| {}, secret("wrong")).await?;
    assert!(!wrong.good && !format!("{wrong:?}").contains(Slapd::QUERY_PASSWORD), "{wrong:?}");
    assert_eq!(
        inspect(&questions, InspectRequest { draft_json: "{}".into(), ..Default::default() })
            .await
            .map_err(|it| it.code()),
        Err(Code::InvalidArgument)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_without_a_guard_is_no_way_to_guess_passwords() -> Result<()> {
    // FD-11, L-56
    let lab = Lab::start(Wanted::default()).await?;
    let questions = lab.gateway.gateway.directories();
    let saved = directory_of(&lab.slapd);
    let guess = |name: &str| {
        let directory = Directory { name: name.parse().expect("a name"), lockout_guard: None, ..saved.clone() };
        let draft_json = serde_json::to_string(&directory).expect("JSON");
        let query_password = secret(Slapd::QUERY_PASSWORD);
        let (name, password) = ("ann.archer".into(), secret("wrong"));
        inspect(&questions, InspectRequest { draft_json, query_password, name, password, ..Default::default() })
    };
    let tries = &lab.gateway.password_tries;
    let counted = || tries.reserved().and_then(|it| Some((it.subject?.directory, it.wrong_max)));
    guess("corp").await?;
    assert_eq!(counted(), Some(("corp".to_owned(), 5)), "as the saved one has it");
    guess("another").await?;
    assert_eq!(counted(), Some(("draft".to_owned(), 3)), "another name is no other person");
    tries.answers(PasswordTry::Exhausted);
    let reply = guess("third").await?;
    assert!(reply.lines.last().is_some_and(|line| line.text.contains("rate_limited")), "{reply:?}");
    assert_eq!(lab.slapd.binds("ann.archer"), 2, "the directory was not asked");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_found_by_search_filter_and_place_in_pages_and_by_name() -> Result<()> {
    // FS-16
    let lab = Lab::start(Wanted::default()).await?;
    let questions = lab.gateway.gateway.directories();
    let find = async |request: FindUsersRequest| -> Result<FindUsersReply, Status> {
        let request = FindUsersRequest { directory: "corp".into(), ..request };
        questions.find_users(Request::new(request)).await.map(tonic::Response::into_inner)
    };
    let page = |after: &str, limit| FindUsersRequest { after: after.into(), limit, ..Default::default() };
    let first = find(page("", 100)).await?;
    assert_eq!((first.users.len(), first.total, first.more), (100, 120, false));
    let second = find(page(&first.next, 100)).await?;
    assert_eq!((second.users.len(), second.next.as_str()), (20, ""));
    let mut names: Vec<_> = first.users.iter().chain(&second.users).map(|user| user.username.clone()).collect();
    assert!(names.is_sorted(), "{names:?}");
    names.dedup();
    assert_eq!(names.len(), 120);
    assert!(find(page("", 1_001)).await.is_err() && find(page("", 0)).await.is_err());

    let search = |text: &str| FindUsersRequest { search: text.into(), ..page("", 100) };
    let ann = find(search("ARCHER")).await?.users;
    assert!(ann.iter().any(|user| user.distinguished_name == lab.person("ann.archer")), "{ann:?}");
    let user = ann.iter().find(|user| user.username == "ann.archer").context("she")?;
    assert!(user.object_id.starts_with("entryUUID:") && user.mail == "ann.archer@acme.example", "{user:?}");
    assert_eq!(find(search("*)(uid=*")).await?.total, 0, "what is typed is a value, never a filter");
    let sales = format!("ou=sales,ou=people,{COMPANY_BASE}");
    let below = find(FindUsersRequest { below: sales.clone(), ..page("", 100) }).await?;
    assert!(below.total > 5 && below.users.iter().all(|user| user.distinguished_name.ends_with(&sales)), "{below:?}");
    let filtered = find(FindUsersRequest { filter: "(uid=ben.*)".into(), below: sales, ..page("", 100) }).await?;
    assert!(filtered.users.iter().all(|user| user.username.starts_with("ben.")) && filtered.total > 0);
    for bad in [
        FindUsersRequest { filter: "(uid=".into(), ..page("", 100) },
        FindUsersRequest { below: "dc=elsewhere".into(), ..page("", 100) },
        FindUsersRequest { below: format!("ou=nowhere,{COMPANY_BASE}"), ..page("", 100) },
        FindUsersRequest { names: vec!["ann.archer".into()], search: "ann".into(), ..page("", 100) },
        FindUsersRequest { names: vec!["ann.archer".into(); 1_001], ..page("", 100) },
    ] {
        assert_eq!(find(bad).await.map_err(|status| status.code()), Err(Code::InvalidArgument));
    }
    let names = [user.object_id.as_str(), "ann.archer", "ACME\\Ben.Hale", "nobody.here", "ann.archer@acme.example", ""]
        .map(String::from)
        .to_vec();
    let named = find(FindUsersRequest { names, ..Default::default() }).await?;
    let found: Vec<_> = named.users.iter().map(|user| user.username.as_str()).collect();
    assert_eq!(found, ["ann.archer", "ben.hale"], "each once");
    let none: Vec<_> = named.no_users.iter().map(|it| (it.name.as_str(), it.reason.as_str())).collect();
    assert_eq!(none, [("nobody.here", "unknown_user"), ("", "unknown_user")]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_another_type_names_nobody() -> Result<()> {
    // FD-31, FS-16: nobody's id is written so, though a search for its value finds somebody
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    let slapd = Slapd::start(dir.path(), &pki, &Default::default())?;
    let mut directory = directory_of(&slapd);
    directory.attributes.id = Some("employeeNumber".into());
    let gateway = Running::start(directory, Wanted::default(), &pki).await?;
    let [own, other] = ["employeenumber:string:1000", "employeenumber:byte_array:1000"].map(str::to_owned);
    let request =
        FindUsersRequest { directory: "corp".into(), names: vec![own.clone(), other.clone()], ..Default::default() };
    let found = gateway.gateway.directories().find_users(Request::new(request)).await?.into_inner();
    assert_eq!(found.users.iter().map(|user| &user.object_id).collect::<Vec<_>>(), [&own]);
    assert_eq!(found.no_users.iter().map(|it| &it.name).collect::<Vec<_>>(), [&other]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_and_groups_are_found_by_what_they_are_called_and_a_group_has_its_members() -> Result<()> {
    // FS-16, FD-33
    let lab = Lab::start(Wanted::default()).await?;
    let questions = lab.gateway.gateway.directories();
    let places = async |request: FindPlacesRequest| -> Result<FindPlacesReply, Status> {
        let request = FindPlacesRequest { directory: "corp".into(), ..request };
        questions.find_places(Request::new(request)).await.map(tonic::Response::into_inner)
    };
    let names = |reply: &FindPlacesReply| reply.places.iter().map(|place| place.name.clone()).collect::<Vec<_>>();
    let containers = FindPlacesRequest { kind: Kind::Containers.into(), ..Default::default() };
    let groups = FindPlacesRequest { kind: Kind::Groups.into(), ..Default::default() };
    let top = places(containers.clone()).await?;
    assert_eq!(
        (names(&top), top.more, top.name_attribute.as_str()),
        (vec!["groups".into(), "people".into(), "service".into()], false, "ou, cn")
    );
    assert!(top.places[1].object_id.starts_with("entryUUID:"), "{top:?}");
    let people = FindPlacesRequest { below: top.places[1].distinguished_name.clone(), ..containers.clone() };
    assert_eq!(names(&places(people.clone()).await?), ["engineering", "finance", "sales", "support"]);
    assert_eq!(names(&places(FindPlacesRequest { search: "FIN".into(), ..people }).await?), ["finance"]);
    assert_eq!(names(&places(FindPlacesRequest { search: "*".into(), ..containers.clone() }).await?), [""; 0]);
    let found = places(groups.clone()).await?;
    assert!(names(&found).contains(&"vpn-users".to_owned()) && found.name_attribute == "cn", "{found:?}");
    for bad in [
        FindPlacesRequest { kind: Kind::Unspecified.into(), ..groups.clone() },
        FindPlacesRequest { below: "dc=elsewhere".into(), ..groups.clone() },
        FindPlacesRequest { below: format!("ou=nowhere,{COMPANY_BASE}"), ..containers },
        FindPlacesRequest { search: "x".repeat(257), ..groups },
    ] {
        assert_eq!(places(bad).await.map_err(|status| status.code()), Err(Code::InvalidArgument));
    }

    let find = async |request: FindUsersRequest| -> Result<FindUsersReply, Status> {
        let request = FindUsersRequest { directory: "corp".into(), limit: 20, ..request };
        questions.find_users(Request::new(request)).await.map(tonic::Response::into_inner)
    };
    let support = FindUsersRequest { group: format!("cn=support,ou=groups,{COMPANY_BASE}"), ..Default::default() };
    let first = find(support.clone()).await?;
    assert_eq!((first.users.len(), first.total, first.more), (20, 30, false), "{first:?}");
    assert!(first.users.iter().all(|user| user.distinguished_name.contains("ou=support")), "{first:?}");
    let second = find(FindUsersRequest { after: first.next.clone(), ..support.clone() }).await?;
    assert_eq!((second.users.len(), second.next.as_str()), (10, ""));
    for bad in [
        FindUsersRequest { search: "ann".into(), ..support },
        FindUsersRequest { group: format!("ou=people,{COMPANY_BASE}"), ..Default::default() },
        FindUsersRequest { group: "cn=support,dc=elsewhere".into(), ..Default::default() },
    ] {
        assert_eq!(find(bad).await.map_err(|status| status.code()), Err(Code::InvalidArgument));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn which_items_hold_somebody_is_answered_as_a_run_would_see_it() -> Result<()> {
    // FS-08, FS-21, FS-22, S-36, S-52
    let lab = Lab::start(Wanted::default()).await?;
    let questions = lab.gateway.gateway.directories();
    let (ben, sales) =
        (format!("uid=ben.hale,ou=sales,ou=people,{COMPANY_BASE}"), format!("ou=sales,ou=people,{COMPANY_BASE}"));
    let group = |name: &str, member: &str| {
        format!(
            "dn: cn={name},ou=groups,{COMPANY_BASE}\nchangetype: add\nobjectClass: groupOfNames\ncn: {name}\nmember: {member}\n\n"
        )
    };
    let inner = format!("cn=inner,ou=groups,{COMPANY_BASE}");
    let outer = format!("cn=outer,ou=groups,{COMPANY_BASE}");
    // A circle ends as well.
    let circle = format!("dn: {inner}\nchangetype: modify\nadd: member\nmember: {outer}\n");
    // RFC 2307, and within another group.
    let unix = format!("cn=unix,ou=groups,{COMPANY_BASE}");
    let by_name = |name: &str, uid: &str| {
        format!(
            "dn: cn={name},ou=groups,{COMPANY_BASE}\nchangetype: add\nobjectClass: posixGroup\ngidNumber: 5000\nmemberUid: {uid}\n\n"
        )
    };
    let unix_groups = by_name("unix", "ben.hale") + &by_name("unix-others", "ben") + &group("around", &unix);
    lab.slapd
        .modify(&(group("inner", &ben.to_uppercase()) + &group("outer", &inner) + &circle + "\n" + &unix_groups))?;
    let find = FindUsersRequest { directory: "corp".into(), names: vec!["ben.hale".into()], ..Default::default() };
    let id = questions.find_users(Request::new(find)).await?.into_inner().users.remove(0).object_id;
    let item = |name: &str, source: serde_json::Value, filter: &str| {
        json!({ "name": name, "directory": "corp", "source": source, "filter": filter }).to_string()
    };
    let container = |dn: &str, subtree: bool| json!({ "kind": "container", "dn": dn, "subtree": subtree });
    let of_group = |dn: &str, nested: bool| json!({ "kind": "group", "dn": dn, "nested": nested });
    let items = vec![
        item("named", json!({ "kind": "users", "ids": [id] }), ""),
        item("not-named", json!({ "kind": "users", "ids": ["entryUUID:00000000-0000-0000-0000-000000000001"] }), ""),
        item("sales", container(&sales, true), ""),
        item("people", container(&format!("OU=People, {COMPANY_BASE}"), true), ""),
        item("top", container(&format!("ou=people,{COMPANY_BASE}"), false), ""),
        item("nowhere", container(&format!("ou=nowhere,{COMPANY_BASE}"), true), ""),
        item("inner", of_group(&inner, false), ""),
        item("outer", of_group(&outer, true), ""),
        item("outer-alone", of_group(&outer, false), ""),
        item("unix", of_group(&unix, true), ""),
        item("unix-others", of_group(&format!("cn=unix-others,ou=groups,{COMPANY_BASE}"), true), ""),
        item("around", of_group(&format!("cn=around,ou=groups,{COMPANY_BASE}"), true), ""),
        item("a-names", json!({ "kind": "domain" }), "(uid=a*)"),
        item("b-names", json!({ "kind": "domain" }), "(uid=b*)"),
        item("all", json!({ "kind": "domain" }), ""),
    ];
    let request = HoldersRequest { directory: "corp".into(), name: "ben.hale".into(), items_json: items.clone() };
    let reply = questions.holders(Request::new(request)).await?.into_inner();
    assert_eq!(reply.person.as_ref().map(|person| person.distinguished_name.clone()), Some(ben));
    let holds: Vec<&str> = reply.items.iter().filter(|it| it.holds).map(|it| it.sync_item.as_str()).collect();
    assert_eq!(
        holds,
        ["named", "sales", "people", "inner", "outer", "unix", "around", "b-names", "all"],
        "{:#?}",
        reply.items
    );
    assert_eq!(reply.items.len(), items.len());
    let why = |item: &str| reply.items.iter().find(|it: &&Holding| it.sync_item == item).map(|it| it.why.clone());
    assert!(why("outer").is_some_and(|why| why.starts_with("through other groups a member of")), "{:?}", why("outer"));
    assert_eq!(why("nowhere").as_deref(), Some("the container cannot be seen"));
    for name in ["nobody.here", ""] {
        let request = HoldersRequest { directory: "corp".into(), name: name.into(), items_json: Vec::new() };
        assert_eq!(questions.holders(Request::new(request)).await?.into_inner().reason, "unknown_user");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_attributes_of_a_schema_are_listed_and_those_that_it_lacks_are_named() -> Result<()> {
    // FD-17
    let lab = Lab::start(Wanted::default()).await?;
    let questions = lab.gateway.gateway.directories();
    let ask = async |directory: &str, attributes: &[&str]| {
        let attributes = attributes.iter().map(|it| (*it).to_owned()).collect();
        let request = FindAttributesRequest { directory: directory.into(), attributes };
        questions.find_attributes(Request::new(request)).await.map(tonic::Response::into_inner)
    };
    let found = ask("corp", &["MAIL", "mial", "2.5.4.4", "departmentNumber"]).await?;
    assert_eq!(found.unknown, ["mial"]);
    for name in ["mail", "telephoneNumber", "departmentNumber", "entryUUID"] {
        assert!(found.names.iter().any(|it| it == name), "{name}: {:?}", found.names);
    }
    assert_eq!(ask("other", &[]).await.map_err(|status| status.code()), Err(Code::NotFound));
    assert_eq!(ask("corp", &["x"; 65]).await.map_err(|status| status.code()), Err(Code::InvalidArgument));
    Ok(())
}
