//! Containers and groups that items name by a DN are known by their id once they were found (FS-21).

use crate::fixture::{Fixture, id_of, left};
use crate::sync::{of_items, status, with_items};
use crate::sync_groups::{group, group_dn};
use proto::user_store::{
    ApplyBatchRequest, BeginRunRequest, FinishRunRequest, GetSourceRequest, SourcePin, SyncedGroup, left_object::How,
    sync_server::Sync,
};
use tonic::Request;

fn item(dn: &str) -> String {
    format!("staff source = {{ kind = \"group\", dn = \"{dn}\" }}")
}

fn pin(dn: &str, object_id: &str) -> SourcePin {
    SourcePin {
        sync_item: "staff".into(),
        kind: "group".into(),
        distinguished_name: dn.into(),
        object_id: object_id.into(),
    }
}

async fn pins(lab: &Fixture) -> Vec<SourcePin> {
    let request = GetSourceRequest { epoch: lab.epoch(), directory: "corp".into() };
    let known = lab.services.sync.get_source(Request::new(request)).await.expect("known").into_inner().pins;
    assert_eq!(status(lab).await.sources.remove(0).pins, known, "shown as they are");
    known
}

/// A run that reads this group with ann and bob in the item, and says what it found.
async fn run(lab: &Fixture, mode: &str, group: SyncedGroup, found: Vec<SourcePin>) {
    run_of(lab, "", mode, group, found).await;
}

async fn run_of(lab: &Fixture, identity: &str, mode: &str, group: SyncedGroup, found: Vec<SourcePin>) {
    let begin = BeginRunRequest {
        epoch: lab.epoch(),
        directory: "corp".into(),
        mode: mode.into(),
        identity: identity.into(),
        now_unix_ms: lab.clock.now_ms(),
        ..BeginRunRequest::default()
    };
    let run_id = lab.services.sync.begin_run(Request::new(begin)).await.expect("begun").into_inner().run_id;
    let users = ["ann", "bob"].map(|name| of_items(name, &["staff"])).to_vec();
    lab.send(&run_id, ApplyBatchRequest { groups: vec![group], users, ..Default::default() }).await;
    let gone = left(lab.unseen(&run_id).await, How::Deleted);
    lab.send(&run_id, ApplyBatchRequest { left: gone, ..Default::default() }).await;
    let finish = FinishRunRequest { epoch: lab.epoch(), run_id, complete: true, pins: found, ..Default::default() };
    lab.services.sync.finish_run(Request::new(finish)).await.expect("the run ends");
}

pub async fn a_group_that_is_renamed_keeps_its_users_and_another_dn_is_looked_for(lab: Fixture) {
    // FS-21
    let dn = group_dn("staff");
    lab.apply(&with_items(&[&item(&dn)])).await;
    lab.lead().await;
    let members = ["uid=ann,ou=people,dc=corp,dc=example", &id_of("bob")];
    let staff = group("staff", &members);
    let id = staff.object_id.clone();
    run(&lab, "preview", staff.clone(), vec![pin(&dn, &id)]).await;
    assert_eq!(pins(&lab).await, [], "a preview keeps nothing");
    run(&lab, "full", staff.clone(), vec![pin(&dn, &id), pin("cn=other", &id), pin(&dn, "nonsense")]).await;
    assert_eq!(pins(&lab).await, [pin(&dn, &id)], "what is of no item of the settings is not kept");

    let renamed = SyncedGroup { distinguished_name: group_dn("crew"), name: "crew".into(), ..staff.clone() };
    run(&lab, "full", renamed.clone(), vec![]).await;
    for name in ["ann", "bob"] {
        assert_eq!(lab.state(name).await, "enabled", "{name}");
        assert_eq!(lab.user(name).await.expect("there").sync_item, "staff", "{name}");
    }
    assert_eq!(pins(&lab).await, [pin(&dn, &id)]);

    // Another group by that name is not the one that was meant; where the settings name it anew, it is.
    lab.apply(&with_items(&[&item(&dn.to_uppercase())])).await;
    assert_eq!(pins(&lab).await, [], "that DN was not looked for yet");
    let other = SyncedGroup { object_id: id_of("another staff"), ..staff };
    run(&lab, "full", other.clone(), vec![pin(&dn.to_uppercase(), &other.object_id)]).await;
    assert_eq!(pins(&lab).await, [pin(&dn.to_uppercase(), &other.object_id)]);

    // An id that somebody typed goes before all, and an item that is gone leaves nothing behind.
    let typed = format!("staff source = {{ kind = \"group\", dn = \"{dn}\", id = \"{id}\" }}");
    lab.apply(&with_items(&[&typed])).await;
    assert_eq!(pins(&lab).await, []);
    lab.apply(&with_items(&["all"])).await;
    assert_eq!(lab.number("SELECT COUNT(*) FROM sync_pins").await, 0);
}

pub async fn what_an_item_names_is_found_anew_in_another_source_and_by_another_item_of_its_name(lab: Fixture) {
    // FS-21, S-44: a directory that was set up again has the same names and other ids
    let dn = group_dn("staff");
    lab.apply(&with_items(&[&item(&dn)])).await;
    lab.lead().await;
    let members = ["uid=ann,ou=people,dc=corp,dc=example", &id_of("bob")];
    let staff = group("staff", &members);
    let before = pin(&dn, &staff.object_id);
    run_of(&lab, "before", "full", staff.clone(), vec![before.clone()]).await;
    assert_eq!(pins(&lab).await, [before]);
    let rebuilt = SyncedGroup { object_id: id_of("rebuilt staff"), ..staff };
    let after = pin(&dn, &rebuilt.object_id);
    run_of(&lab, "after", "full", rebuilt, vec![after.clone()]).await;
    assert_eq!(pins(&lab).await, [after]);
    for name in ["ann", "bob"] {
        assert_eq!(lab.user(name).await.expect("there").sync_item, "staff", "{name}");
        assert_eq!(lab.state(name).await, "enabled", "{name}");
    }
    lab.apply(&with_items(&["all"])).await;
    assert_eq!(lab.number("SELECT COUNT(*) FROM sync_pins").await, 0, "no run is needed for that");
}
