//! What administrators ask of a directory, where it has other domains beside its own (FD-02).

use crate::support::{Running, Wanted, client, directory_at};
use anyhow::{Context, Result};
use domain::settings::{BindKind, Preset, TrustedServers};
use lab::{OtherForest, Pki, Samba, Slapd};
use proto::directory::directories_server::Directories;
use proto::directory::find_places_request::Kind;
use proto::directory::{FindPlacesReply, FindPlacesRequest, FindUsersReply, FindUsersRequest, HoldersRequest};
use tonic::Request;

#[tokio::test(flavor = "multi_thread")]
async fn people_and_places_of_a_trusted_forest_are_found_beside_those_of_the_directory() -> Result<()> {
    // FS-16, FS-17, FS-08, FD-02: two forests of Samba that trust each other
    service_kit::tls::install_provider();
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    let mut samba = Samba::start(dir.path(), &pki)?;
    samba.add("query", Slapd::QUERY_PASSWORD)?;
    let mut other = OtherForest::trusted_by(&mut samba, dir.path(), &pki)?;
    // Olga is in a group at home, which is in another one.
    let vpn = format!("CN=vpn-users,OU=groups,{}", Samba::BASE);
    let staff = format!("CN=staff,OU=groups,{}", Samba::BASE);
    let sid = other.sid_of("olga.other")?;
    samba.modify(&format!("dn: {vpn}\nchangetype: modify\nadd: member\nmember: <SID={sid}>\n"))?;
    // One of them has no principal name.
    other.modify(&format!(
        "dn: {}\nchangetype: modify\ndelete: userPrincipalName\n",
        OtherForest::dn_of("ann.archer")
    ))?;
    let mut directory = directory_at(&samba.ldap_url(), Samba::BASE, BindKind::Windows);
    (directory.preset, directory.query_bind.name) = (Preset::ActiveDirectory, r"LAB\query".into());
    (directory.netbios_domain, directory.lockout_guard) = (Samba::DOMAIN.into(), None);
    directory.ca = Some(std::fs::read_to_string(samba.ca_file())?);
    directory.trusted.insert(OtherForest::DNS_NAME.into(), TrustedServers { urls: vec![other.ldap_url()] });
    let gateway = Running::start(directory, Wanted { client: client("wiki"), ..Wanted::default() }, &pki).await?;
    let questions = gateway.gateway.directories();
    let find = async |request: FindUsersRequest| {
        let request = FindUsersRequest { directory: "corp".into(), limit: 100, ..request };
        anyhow::Ok(questions.find_users(Request::new(request)).await?.into_inner())
    };
    let places = async |kind: Kind, below: &str| {
        let request = FindPlacesRequest {
            directory: "corp".into(),
            kind: kind.into(),
            below: below.into(),
            search: String::new(),
        };
        anyhow::Ok(questions.find_places(Request::new(request)).await?.into_inner())
    };
    let names = |reply: &FindUsersReply| reply.users.iter().map(|user| user.username.clone()).collect::<Vec<_>>();
    let search = |text: &str| FindUsersRequest { search: text.into(), ..Default::default() };
    let of_group = |dn: &str| FindUsersRequest { group: dn.into(), ..Default::default() };

    // By search, with the names that synchronisation gives them.
    let anns = find(search("ann.archer")).await?;
    assert_eq!(names(&anns), ["ann.archer@lab.test", r"OTHER\ann.archer"]);
    assert_eq!((anns.total, anns.more, anns.unread.len()), (2, false, 0));
    assert_eq!(names(&find(search("olga")).await?), ["olga.other@other.test"]);
    // In a container of the other domain, and in a group of the own one with somebody of the other.
    let there = format!("CN=Users,{}", OtherForest::BASE);
    let below =
        find(FindUsersRequest { below: there.clone(), filter: "(cn=*.*)".into(), ..Default::default() }).await?;
    assert_eq!(names(&below), ["olga.other@other.test", r"OTHER\ann.archer"]);
    let members = find(of_group(&vpn)).await?;
    assert_eq!(names(&members), ["ann.archer@lab.test", "ben.baker@lab.test", "olga.other@other.test"]);
    // By name and by id.
    let olga = members.users[2].clone();
    let wanted = [r"OTHER\ann.archer", "ann.archer", &olga.object_id, r"OTHER\nobody"].map(str::to_owned);
    let named = find(FindUsersRequest { names: wanted.into(), ..Default::default() }).await?;
    assert_eq!(names(&named), [r"OTHER\ann.archer", "ann.archer@lab.test", "olga.other@other.test"]);
    assert_eq!(named.no_users.iter().map(|none| none.name.as_str()).collect::<Vec<_>>(), [r"OTHER\nobody"]);
    // Places.
    let called = |reply: &FindPlacesReply| reply.places.iter().map(|place| place.name.clone()).collect::<Vec<_>>();
    let top = places(Kind::Containers, "").await?;
    let domain = top.places.iter().find(|place| place.name == "other.test").context("beside the own containers")?;
    assert!(domain.distinguished_name.eq_ignore_ascii_case(OtherForest::BASE), "{domain:?}");
    assert!(called(&top).contains(&"people".to_owned()) && top.base.eq_ignore_ascii_case(Samba::BASE), "{top:?}");
    assert!(called(&places(Kind::Containers, OtherForest::BASE).await?).contains(&"Users".to_owned()));
    let admins = |reply: &FindPlacesReply| called(reply).iter().filter(|name| *name == "Domain Admins").count();
    assert_eq!(admins(&places(Kind::Groups, "").await?), 2, "one of each domain");
    assert_eq!(admins(&places(Kind::Groups, OtherForest::BASE).await?), 1);

    // Which items hold somebody.
    let item = |name: &str, source: serde_json::Value| {
        serde_json::json!({ "name": name, "directory": "corp", "source": source }).to_string()
    };
    let group = |dn: &str| serde_json::json!({ "kind": "group", "dn": dn });
    let container = |dn: &str| serde_json::json!({ "kind": "container", "dn": dn });
    let items_json = vec![
        item("vpn", group(&vpn)),
        item("staff", group(&staff)),
        item("admins", group(&format!("CN=Domain Admins,CN=Users,{}", OtherForest::BASE))),
        item("there", container(&there)),
        item("people", container(Samba::PEOPLE_DN)),
        item("named", serde_json::json!({ "kind": "users", "ids": [olga.object_id] })),
        item("all", serde_json::json!({ "kind": "domain" })),
    ];
    let holders = async |name: &str| {
        let request = HoldersRequest { directory: "corp".into(), name: name.into(), items_json: items_json.clone() };
        let reply = questions.holders(Request::new(request)).await?.into_inner();
        let holds = reply.items.iter().filter(|item| item.holds).map(|item| item.sync_item.clone());
        anyhow::Ok((reply.person.clone().unwrap_or_default().username, holds.collect::<Vec<_>>(), reply))
    };
    let (username, holds, reply) = holders(r"OTHER\olga.other").await?;
    assert_eq!(holds, ["vpn", "staff", "there", "named", "all"], "{reply:?}");
    assert_eq!(username, "olga.other@other.test");
    assert_eq!(holders(r"OTHER\ann.archer").await?.0, r"OTHER\ann.archer");
    assert_eq!(holders("ann.archer").await?.1, ["vpn", "staff", "people", "all"]);

    // It is gone: the answer is partial, and says so.
    other.stop();
    let anns = find(search("ann.archer")).await?;
    assert_eq!(names(&anns), ["ann.archer@lab.test"]);
    let away =
        |unread: &[String]| unread.len() == 1 && unread[0].starts_with("the domain other.test could not be read: ");
    assert!(away(&anns.unread), "{anns:?}");
    let members = find(of_group(&vpn)).await?;
    assert!(names(&members) == ["ann.archer@lab.test", "ben.baker@lab.test"] && away(&members.unread), "{members:?}");
    let groups = places(Kind::Groups, "").await?;
    assert!(admins(&groups) == 1 && away(&groups.unread), "{groups:?}");
    let (_, holds, reply) = holders("ann.archer").await?;
    assert_eq!(holds, ["vpn", "staff", "people", "all"]);
    assert!(reply.items[2].why.contains("the domain other.test could not be read"), "{reply:?}");
    let refused = find(FindUsersRequest { names: vec![r"OTHER\olga.other".into()], ..Default::default() }).await;
    assert!(refused.is_err(), "{refused:?}");
    Ok(())
}
