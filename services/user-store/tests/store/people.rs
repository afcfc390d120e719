//! Users as administrators and decisions see them.

use crate::commit::allowed;
use crate::fixture::{Fixture, NOON_MS, SEED, id_of, people, person};
use proto::common::DirectoryRef;
use proto::user_store::{
    AllowResult, ConfirmFactorRequest, CreateUserRequest, EditUserRequest, KnownUsersRequest, ListUsersRequest,
    LoginFactsReply, LoginFactsRequest, OwnDetailRequest, RevokeFactorRequest, SetUserStateRequest, SyncedUser,
    UserDetail, admin_server::Admin, commit_server::Commit, facts_server::Facts, login_facts_request::Who,
    portal_data_server::PortalData,
};
use service_kit::bus::Bus;
use std::time::Duration;
use tonic::{Code, Request, Status};

async fn facts(lab: &Fixture, username: &str) -> LoginFactsReply {
    let subject = DirectoryRef { directory: "corp".into(), object_id: id_of(username) };
    let request = LoginFactsRequest { who: Some(Who::Subject(subject)), ..Default::default() };
    lab.services.facts.login(Request::new(request)).await.expect("the store answers").into_inner()
}

pub async fn entries_of_a_directory_are_told_from_users_here(lab: Fixture) {
    // FS-16: the id decides, and the directory it is of
    lab.with_settings().await;
    lab.run(vec![person("ann"), person("ben")]).await;
    let known = async |directory: &str, object_ids: Vec<String>| {
        let request = KnownUsersRequest { directory: directory.into(), object_ids };
        lab.services.admin.known_users(Request::new(request)).await.map(|reply| reply.into_inner().users)
    };
    let asked = vec![id_of("ben"), id_of("nobody"), "entryUUID:none".to_owned()];
    let found = known("corp", asked.clone()).await.expect("an answer");
    let ben = lab.user("ben").await.expect("there");
    assert_eq!(found.len(), 1);
    let user = ben.user.expect("with a summary");
    assert_eq!(
        (&found[0].object_id, &found[0].user_id, &found[0].username),
        (&id_of("ben"), &user.user_id, &user.username)
    );
    assert_eq!((&found[0].sync_item, found[0].state.as_str()), (&ben.sync_item, "enabled"));
    assert_eq!(known("other", asked).await.expect("an answer"), []);
    let many = known("corp", vec![id_of("ben"); 1_001]).await.map_err(|status| status.code());
    assert_eq!(many, Err(Code::InvalidArgument));
}

async fn create(lab: &Fixture, username: &str) -> Result<UserDetail, Status> {
    let more = EditUserRequest { phone: Some("+49 30 901820 x7".into()), ..EditUserRequest::default() };
    let request = CreateUserRequest {
        username: username.into(),
        last_name: "Hand".into(),
        more: Some(more),
        actor: "admin:uid=0".into(),
        ..CreateUserRequest::default()
    };
    Ok(lab.services.admin.create_user(Request::new(request)).await?.into_inner())
}

async fn signs_in(lab: &Fixture, object_id: &str, username: &str) -> Option<String> {
    let subject = DirectoryRef { directory: "corp".into(), object_id: object_id.into() };
    let request = LoginFactsRequest { who: Some(Who::Subject(subject)), username: username.into() };
    let reply = lab.services.facts.login(Request::new(request)).await.expect("the store answers").into_inner();
    reply.user.map(|user| user.user_id)
}

pub async fn a_user_made_by_hand_is_the_entrys_that_first_signs_in_under_the_name(lab: Fixture) {
    // FS-17
    lab.with_settings().await;
    lab.run(vec![person("ann")]).await;
    let made = create(&lab, " Nina ").await.expect("made");
    let nina = made.user.clone().expect("with a summary");
    assert_eq!((nina.username.as_str(), nina.last_name.as_str(), nina.state.as_str()), ("Nina", "Hand", "enabled"));
    assert_eq!((nina.directory.as_str(), made.phone.as_str()), ("", "+4930901820"));
    assert_eq!(lab.events("user.created").await.len(), 1);
    for taken in ["nina", "ann", "ann@corp.example", "", "two\nlines"] {
        assert!(create(&lab, taken).await.is_err(), "{taken:?}");
    }
    // No run takes them for gone, and nobody else signs in as they.
    assert_eq!(lab.run(vec![person("ann")]).await.disabled, 0);
    assert_eq!(signs_in(&lab, &id_of("other"), "other").await, None);
    assert_eq!(signs_in(&lab, &id_of("nina"), "").await, None, "who asks for something else makes nobody anybody");
    assert_eq!(signs_in(&lab, &id_of("nina"), "NINA").await.as_deref(), Some(nina.user_id.as_str()));
    let event = lab.events("user.linked").await.remove(0);
    assert!(event.detail.contains(&id_of("nina")) && event.detail.contains("corp"), "{}", event.detail);
    // By the id from now on: a second entry of the name is somebody else.
    assert_eq!(signs_in(&lab, &id_of("nina"), "").await.as_deref(), Some(nina.user_id.as_str()));
    assert_eq!(signs_in(&lab, &id_of("second"), "nina").await, None);
    // Of no item yet, so that there is none to leave.
    let outside = SyncedUser { items: Vec::new(), ..person("nina") };
    for met in [vec![person("ann")], vec![person("ann")], vec![person("ann"), outside]] {
        let ended = lab.run(met).await;
        assert_eq!((ended.disabled, ended.parked), (0, 0));
    }
    assert_eq!(lab.user("nina").await.expect("there").user.expect("with a summary").state, "enabled");
    // And an ordinary user of the directory to the next run, who may leave.
    lab.run(vec![person("ann"), person("nina")]).await;
    let synced = lab.user("nina").await.expect("there");
    assert_eq!(
        (synced.sync_item.as_str(), synced.phone.as_str()),
        ("people", "+4930901820"),
        "what a hand wrote stays"
    );
    assert_eq!(synced.user.expect("with a summary").user_id, nina.user_id);
    assert_eq!(lab.run(vec![person("ann")]).await.disabled, 1);
}

pub async fn a_user_made_by_hand_is_the_entrys_that_a_run_finds_and_nobodys_where_there_are_several(lab: Fixture) {
    // FS-17
    lab.with_settings().await;
    let nina = create(&lab, "nina").await.expect("made").user.expect("with a summary").user_id;
    let kim = create(&lab, "kim").await.expect("made").user.expect("with a summary").user_id;
    let short = create(&lab, "short").await.expect("made").user.expect("with a summary").user_id;
    let loose = create(&lab, "loose").await.expect("made").user.expect("with a summary").user_id;
    // Two are called kim; short is a form of a name that somebody may have written themselves; loose is of no item.
    let run_id = lab.begin().await.expect("begun");
    let batch = vec![
        SyncedUser { names: vec!["n".into()], ..person("NINA") },
        person("kim"),
        SyncedUser { object_id: id_of("another kim"), ..person("kim") },
        SyncedUser { names: vec!["short".into()], ..person("long@corp.example") },
        SyncedUser { items: Vec::new(), ..person("loose") },
    ];
    let reply = lab.batch(&run_id, batch.clone()).await;
    assert_eq!((reply.added, reply.changed), (1, 1), "{reply:?}");
    assert!(reply.problems.iter().any(|it| it.starts_with("kim: was made by hand")), "{:?}", reply.problems);
    assert!(lab.finish(&run_id, true).await.incomplete.is_empty());
    let found = lab.user("nina").await.expect("there");
    assert_eq!(found.user.expect("with a summary").user_id, nina);
    assert_eq!(signs_in(&lab, &id_of("NINA"), "").await.as_deref(), Some(nina.as_str()));
    let refused = lab.events("user.link_refused").await.remove(0);
    assert!(refused.user_id == kim && refused.detail.contains("several entries of corp"), "{}", refused.detail);
    assert_eq!(lab.events("user.linked").await.len(), 1);
    for waiting in [&kim, &short, &loose] {
        let waits = lab.user(waiting).await.expect("there").user.expect("with a summary");
        assert_eq!((waits.directory.as_str(), waits.state.as_str()), ("", "enabled"));
    }
    // Once more it is the same.
    let run_id = lab.begin().await.expect("begun");
    let again = lab.batch(&run_id, batch).await;
    assert_eq!((again.added, again.changed), (0, 0), "{again:?}");
}

pub async fn a_factor_counts_only_after_a_code_of_it_was_proven(lab: Fixture) {
    lab.with_settings().await;
    lab.run(vec![person("ann")]).await;
    let user_id = lab.user("ann").await.expect("there").user.expect("with a summary").user_id;
    let void = lab.add_factor(&user_id).await;
    let factor_id = lab.add_factor(&user_id).await;
    let read = facts(&lab, "ann").await;
    assert_eq!(read.code_factors.len(), 1, "the older pending one is void");
    let factor = &read.code_factors[0];
    assert_eq!((factor.factor_id.as_str(), factor.pending, factor.digits), (factor_id.as_str(), true, 6));
    assert_eq!(factor.seed.as_ref().expect("with a seed").value, SEED);
    assert_eq!(lab.user("ann").await.expect("there").user.expect("with a summary").factors, 0);
    let confirm = |factor_id: &str, user_id: &str| {
        Request::new(ConfirmFactorRequest {
            user_id: user_id.into(),
            factor_id: factor_id.into(),
            step: 55,
            actor: "self".into(),
            now_unix_ms: NOON_MS,
        })
    };
    let commit = &lab.services.commit;
    let confirmed =
        async |request| commit.confirm_factor(request).await.expect("the store answers").into_inner().confirmed;
    assert!(!confirmed(confirm(&void, &user_id)).await);
    assert!(confirmed(confirm(&factor_id, &user_id)).await);
    assert!(!confirmed(confirm(&factor_id, &user_id)).await, "once");
    let factor = &facts(&lab, "ann").await.code_factors[0];
    assert_eq!((factor.pending, factor.last_step), (false, 55), "the proven code is spent");
    assert_eq!(lab.user("ann").await.expect("there").user.expect("with a summary").factors, 1);
    let kinds: Vec<String> = lab.events("").await.into_iter().map(|event| event.kind).collect();
    for kind in ["factor.added", "factor.confirmed"] {
        assert!(kinds.iter().any(|it| it == kind), "{kind}");
    }
    let unknown = lab.services.commit.confirm_factor(confirm(&factor_id, "nobody")).await;
    assert_eq!(unknown.expect_err("no such user").code(), Code::NotFound);
}

pub async fn a_user_is_found_by_every_form_of_the_name_and_never_by_two(lab: Fixture) {
    // FU-01, FD-18
    lab.with_settings().await;
    let shared = |username: &str| SyncedUser { mail: "team@mail.example".into(), ..person(username) };
    lab.run(vec![person("Ann"), shared("bob"), shared("eve")]).await;
    let user_id = lab.user("ann").await.expect("there").user.expect("with a summary").user_id;
    for name in [
        "ANN",
        "  ann ",
        "corp\\ann",
        "Ann@CORP.example",
        "ann@mail.example",
        "UID=ann, OU=people,DC=corp,DC=example",
        user_id.as_str(),
    ] {
        let found = lab.user(name).await.expect(name).user.expect("with a summary");
        assert_eq!(found.user_id, user_id, "{name}");
    }
    assert_eq!(lab.user("team@mail.example").await.expect_err("two").code(), Code::FailedPrecondition);
    assert_eq!(lab.user("nobody").await.expect_err("none").code(), Code::NotFound);
    assert_eq!(lab.user("").await.expect_err("none").code(), Code::NotFound);
    let own = OwnDetailRequest { subject: Some(DirectoryRef { directory: "corp".into(), object_id: id_of("Ann") }) };
    let own = lab.services.portal_data.own_detail(Request::new(own)).await.expect("there").into_inner();
    assert_eq!(
        (own.distinguished_name.as_str(), own.sync_item.as_str()),
        ("uid=Ann,ou=people,dc=corp,dc=example", "people")
    );
    assert_eq!(own.names, ["Ann", "Ann@corp.example", "Ann@mail.example", "CORP\\Ann"]);
    let another = OwnDetailRequest { subject: Some(DirectoryRef { directory: "lab".into(), object_id: id_of("Ann") }) };
    assert_eq!(
        lab.services.portal_data.own_detail(Request::new(another)).await.expect_err("none").code(),
        Code::NotFound
    );
}

pub async fn users_are_listed_in_pages_with_search_state_and_enrolment(lab: Fixture) {
    lab.with_settings().await;
    let mut everybody = people(25);
    everybody[7..9].iter_mut().for_each(|user| user.user_group = "Sales".into());
    lab.run(everybody).await;
    lab.enrol("user003").await;
    let list = async |request: ListUsersRequest| {
        lab.services.admin.list_users(Request::new(request)).await.expect("listed").into_inner()
    };
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = list(ListUsersRequest { limit: 10, after, ..ListUsersRequest::default() }).await;
        assert!(page.users.len() <= 10);
        seen.extend(page.users.into_iter().map(|user| user.username));
        after = page.next;
        if after.is_empty() {
            break;
        }
    }
    assert_eq!(seen, (0..25).map(|number| format!("user{number:03}")).collect::<Vec<_>>());
    for (search, found) in [
        ("USER01", 10),
        ("last-user003", 1),
        ("4930123456", 25),
        ("30 123456", 25),
        ("030/12 34 56", 25),
        ("+49 (0)30-123456", 25),
        ("0049 30 1234567", 0),
        ("%", 0),
        ("_", 0),
        ("nobody", 0),
    ] {
        let request = ListUsersRequest { search: search.into(), ..ListUsersRequest::default() };
        assert_eq!(list(request).await.users.len(), found, "{search}");
    }
    let of = |state: &str, enrolment: &str| ListUsersRequest {
        state: state.into(),
        enrolment: enrolment.into(),
        search: "user".into(),
        ..ListUsersRequest::default()
    };
    let labelled = |label: &str| ListUsersRequest { user_group: label.into(), ..ListUsersRequest::default() };
    for (label, found) in [("Sales", 2), ("sales", 0), ("Sal", 0), ("%", 0), ("", 25)] {
        // FD-37: the label as it is
        let users = list(labelled(label)).await.users;
        assert_eq!(users.len(), found, "{label}");
        assert!(label.is_empty() || users.iter().all(|user| user.user_group == label));
    }
    assert_eq!(list(of("", "enrolled")).await.users.len(), 1);
    assert_eq!(list(of("enabled", "not_enrolled")).await.users.len(), 24);
    assert_eq!(list(of("removed", "")).await.users.len(), 0);
    let wrong = lab.services.admin.list_users(Request::new(of("blocked", ""))).await;
    assert_eq!(wrong.expect_err("no such state").code(), Code::InvalidArgument);
}

pub async fn a_state_set_by_hand_is_audited_and_told_on_the_bus(lab: Fixture) {
    let ann = lab.enrolled("ann").await;
    let mut heard = lab.bus.subscribe(proto::subjects::USER_CHANGED).await.expect("subscribed");
    let mut events = lab.bus.subscribe(proto::subjects::AUTH_EVENTS).await.expect("subscribed");
    let set = |state: &str, actor: &str, expected_revision| {
        lab.services.admin.set_user_state(Request::new(SetUserStateRequest {
            user_id: ann.user_id.clone(),
            state: state.into(),
            reason: "lost the phone".into(),
            actor: actor.into(),
            expected_revision,
        }))
    };
    let revision = lab.user("ann").await.expect("there").revision;
    let detail = set("disabled", "admin:uid=0", revision).await.expect("disabled").into_inner();
    assert!(detail.state_text.starts_with("by admin:uid=0 since 2026-"), "{}", detail.state_text);
    assert!(detail.state_text.ends_with(": lost the phone"), "{}", detail.state_text);
    let message =
        tokio::time::timeout(Duration::from_secs(5), heard.next()).await.expect("in time").expect("a message");
    assert_eq!(message.subject, proto::subjects::user_changed(&ann.user_id));
    let blocked = facts(&lab, "ann").await;
    assert_eq!(blocked.user.expect("still there").state, "disabled");
    assert!(blocked.code_factors.is_empty(), "nobody needs the seeds of somebody who may not log in");

    assert_eq!(set("enabled", "admin:uid=0", revision).await.expect_err("stale").code(), Code::Aborted);
    for (state, actor) in [("gone", "admin:uid=0"), ("removed", "admin:uid=0"), ("enabled", ""), ("enabled", "sync")] {
        assert_eq!(set(state, actor, 0).await.expect_err("refused").code(), Code::InvalidArgument, "{state} {actor}");
    }
    set("enabled", "admin:uid=0", 0).await.expect("enabled");
    let audit = lab.events("user.state").await;
    let told: Vec<&str> = audit.iter().map(|event| event.detail.as_str()).collect();
    assert_eq!(told, ["state: enabled -> disabled (lost the phone)", "state: disabled -> enabled (lost the phone)"]);

    assert_eq!(allowed(&lab.services.commit, ann.allow("t1", 101)).await, AllowResult::Committed);
    let message =
        tokio::time::timeout(Duration::from_secs(5), events.next()).await.expect("in time").expect("a message");
    assert_eq!(message.subject, proto::subjects::auth_event("vpn"));
    let sequence: u64 = String::from_utf8_lossy(&message.payload).parse().expect("a sequence");
    assert_eq!(lab.events("authentication").await[0].sequence, sequence);
    let revoke =
        RevokeFactorRequest { user_id: ann.user_id.clone(), factor_id: "none".into(), actor: "admin:uid=0".into() };
    assert_eq!(lab.services.admin.revoke_factor(Request::new(revoke)).await.expect_err("none").code(), Code::NotFound);
}

pub async fn who_is_removed_is_blocked_until_erased_and_unknown_afterwards(lab: Fixture) {
    // FU-02, S-45
    lab.apply(&crate::fixture::SETTINGS.replace("[[sync_item]]", "[[sync_item]]\nleavers = \"remove\"")).await;
    lab.lead().await;
    lab.run(vec![person("ann"), person("bob")]).await;
    lab.enrol("ann").await;
    lab.run(vec![person("bob")]).await;
    let read = facts(&lab, "ann").await;
    assert_eq!(read.user.expect("not erased").state, "removed");
    lab.clock.advance(29 * 24 * 3_600_000);
    lab.store.sweep().await.expect("swept");
    assert!(facts(&lab, "ann").await.user.is_some(), "within the grace");
    lab.clock.advance(2 * 24 * 3_600_000);
    lab.store.sweep().await.expect("swept");
    assert_eq!(facts(&lab, "ann").await, LoginFactsReply::default());
    assert!(facts(&lab, "bob").await.user.is_some());
    assert_eq!(lab.events("user.erased").await.len(), 1);
    lab.assert_chain_is_whole().await;
}
