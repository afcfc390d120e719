//! Users of groups are found through their groups where the directory knows how, and they are the same as by reading everybody (FD-15).

mod fakes;

use fakes::Lab;
use lab::{Pki, Samba};
use proto::user_store::SyncedUser;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// By username: as the store was told, but for the time at which.
type Told = BTreeMap<String, SyncedUser>;

async fn told(document: Value) -> (Told, BTreeSet<String>) {
    let lab = Lab::new(document, Samba::QUERY_PASSWORD);
    let _process = lab.start();
    let run = lab.run_now().await;
    assert_eq!(run.finished, Some((true, String::new())), "{run:?}");
    let told = lab.store.told();
    let users = told.users.values().map(|(user, _)| (user.username.clone(), user.clone())).collect();
    (users, told.groups.values().map(|(group, _)| group.name.clone()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn members_through_their_groups_are_those_of_a_full_reading() {
    // FD-15, S-52: nested groups, a circle, a primary group, an item with a filter and one of a container beside them
    let dir = tempfile::tempdir().expect("a folder");
    let pki = Pki::new(&dir.path().join("tls")).expect("a CA");
    let samba = Samba::start(dir.path(), &pki).expect("Samba");
    let group = |name: &str| format!("CN={name},OU=groups,{}", Samba::BASE);
    for name in ["dave", "erin", "far.away"] {
        samba.add(name, "Some-password-1").expect("added");
    }
    samba
        .modify(&format!(
            "dn: {vpn}\nchangetype: modify\nadd: member\nmember: {staff}\n\n\
             dn: {partners}\nchangetype: add\nobjectClass: group\nsAMAccountName: partners\nmember: {dave}\n\n\
             dn: {staff}\nchangetype: modify\nadd: member\nmember: {partners}\n",
            vpn = group("vpn-users"),
            staff = group("staff"),
            partners = group("partners"),
            dave = Samba::dn_of("dave"),
        ))
        .expect("groups");
    let rid = samba.rid_of(&group("partners")).expect("a SID");
    samba
        .modify(&format!(
            "dn: {dave}\nchangetype: modify\nreplace: primaryGroupID\nprimaryGroupID: {rid}\n",
            dave = Samba::dn_of("dave"),
        ))
        .expect("the primary group");
    let ca = std::fs::read_to_string(samba.ca_file()).expect("the CA");
    let document = |scope_queries: bool, items: &Value| {
        let directory = json!({
            "name": "corp", "urls": [samba.ldaps_url()], "base": Samba::BASE, "ca": ca, "page_size": 100,
            "query_bind": { "kind": "tls", "name": Samba::QUERY_DN, "password": "keep" }, "timeout_seconds": 30,
            "attribute_scope_queries": scope_queries,
        });
        json!({ "directory": [directory], "sync_item": items })
    };
    let item = |name: &str, source: Value, filter: &str| json!({ "name": name, "directory": "corp", "source": source, "filter": filter });
    let staff = |nested: bool| json!({ "kind": "group", "dn": group("staff"), "nested": nested });
    let service = json!({ "kind": "container", "dn": format!("OU=service,{}", Samba::BASE) });
    let names = |told: &Told| told.keys().map(|name| name.replace("@lab.test", "")).collect::<Vec<_>>();
    for (items, expected) in [
        (json!([item("staff", staff(true), "")]), vec!["ann.archer", "ben.baker", "carla.cook", "dave"]),
        (json!([item("direct", staff(false), "")]), vec!["carla.cook"]),
        (
            json!([item("some", staff(true), "(sAMAccountName=b*)"), item("service", service, "")]),
            vec!["ben.baker", "twinlock"],
        ),
    ] {
        let (found, groups) = told(document(true, &items)).await;
        assert_eq!(names(&found), expected, "{items}");
        let (everybody, all_groups) = told(document(false, &items)).await;
        assert_eq!(groups, all_groups, "groups are read as ever");
        assert!(everybody.len() >= found.len());
        for (name, user) in &found {
            assert_eq!(Some(user), everybody.get(name), "{name}");
        }
    }
    // Somebody may be anywhere: everybody is read.
    let (found, _) =
        told(document(true, &json!([item("staff", staff(true), ""), item("all", json!({ "kind": "domain" }), "")])))
            .await;
    assert!(found.contains_key("far.away@lab.test"));
}
