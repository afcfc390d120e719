//! What a login hears about a user, and what time and erasure take away.

use crate::fixture::{Fixture, NOON_MS, id_of, people, person};
use proto::common::DirectoryRef;
use proto::user_store::login_facts_request::Who;
use proto::user_store::{
    ApplyBatchRequest, Bypass, LoginFactsRequest, NamedRequest, OpenPromptRequest, SyncedGroup, commit_server::Commit,
    facts_server::Facts, sync_server::Sync,
};
use tonic::Request;

const DAY_MS: i64 = 24 * 3_600_000;

pub async fn the_facts_of_a_login_are_whole(lab: Fixture) {
    // FU-01, FV-25, FV-28, FV-42
    let (ann, bob) = (lab.enrolled("ann").await, lab.enrolled("bob").await);
    lab.tamper(&format!(
        "UPDATE users SET phone_extension = '7', backup_phone = '+49301', default_method = 'call', \
         allowed_methods = 'call,code', language_call = 'de', exempt_clients = 'vpn,*', exempt_until_ms = 5, epoch = 41 \
         WHERE user_id = '{}'",
        ann.user_id
    ))
    .await;
    lab.bypass(&ann.user_id, "older", "", NOON_MS - 2).await;
    lab.bypass(&ann.user_id, "newer", "vpn", NOON_MS - 1).await;
    lab.bypass(&bob.user_id, "his", "", NOON_MS).await;
    let user = lab.login_user(&ann.user_id).await;
    assert_eq!((user.first_name.as_str(), user.last_name.as_str()), ("First", "Last-ann"));
    assert_eq!((user.mail.as_str(), user.state.as_str()), ("ann@mail.example", "enabled"));
    assert_eq!((user.phone.as_str(), user.phone_extension.as_str()), ("+4930123456", "7"));
    assert_eq!((user.backup_phone.as_str(), user.language_call.as_str()), ("+49301", "de"));
    assert_eq!((user.default_method.as_str(), user.allowed_methods), ("call", vec!["call".into(), "code".into()]));
    assert_eq!((user.exempt_clients, user.exempt_until_unix_ms), (vec!["vpn".into(), "*".into()], 5));
    assert_eq!((user.epoch, user.recovery_left, user.temporary_code, user.pin), (41, 0, false, None));
    let bypass = Bypass { bypass_id: "newer".into(), client: "vpn".into(), expires_unix_ms: NOON_MS + 300_000 };
    assert_eq!(user.bypass, Some(bypass));
    assert_eq!(user.groups, [""; 0]);
    // Another's number of their own does not change hers; hers goes before the directory's, extension and all.
    for who in [&ann, &bob] {
        lab.tamper(&format!(
            "UPDATE users SET own_phone = '+4940{}' WHERE user_id = '{}'",
            who.username.len(),
            who.user_id
        ))
        .await;
    }
    let user = lab.login_user(&ann.user_id).await;
    assert_eq!((user.phone.as_str(), user.phone_extension.as_str()), ("+49403", ""));
    lab.clock.advance(300_000);
    assert_eq!(lab.login_user(&ann.user_id).await.bypass, None, "past its time");
    let factor = lab.facts(&ann.user_id).await.code_factors.remove(0);
    assert_eq!((factor.kind.as_str(), factor.serial.as_str(), factor.next_counter), ("totp", "", 101));
    let run_id = lab.begin().await.expect("begun");
    let disabled = proto::user_store::SyncedUser { disabled_in_directory: true, ..person("bob") };
    let before = lab.login_user(&bob.user_id).await.epoch;
    lab.batch(&run_id, vec![disabled]).await;
    assert_eq!(lab.login_user(&bob.user_id).await.epoch, before + 1, "V-52: by the directory too");
    lab.disable(&ann.user_id).await;
    let facts = lab.facts(&ann.user_id).await;
    assert_eq!(
        (facts.code_factors.len(), facts.user.expect("there").epoch),
        (0, 42),
        "V-52: a disable ends what is remembered"
    );
}

pub async fn groups_are_found_through_groups_and_circles_end(lab: Fixture) {
    // FV-43, FB-06: nested groups, by id, by folded name and by SID
    lab.with_settings().await;
    let name = |group: &str| format!("cn={group},ou=groups,dc=corp,dc=example");
    let group = |group: &str, members: Vec<String>| SyncedGroup {
        object_id: id_of(&format!("group {group}")),
        distinguished_name: name(group).to_uppercase(),
        name: group.into(),
        members,
        sid: if group == "middle" { "s-1-5-21-1-1104".into() } else { String::new() },
    };
    let groups = vec![
        group("inner", vec!["UID=ann, ou=People,dc=corp,dc=example".into(), name("outer")]),
        group("middle", vec![name("inner")]),
        group("outer", vec![name("middle")]),
        group("other", vec!["uid=bob,ou=people,dc=corp,dc=example".into()]),
    ];
    let run_id = lab.begin().await.expect("begun");
    lab.batch(&run_id, vec![person("ann"), person("bob")]).await;
    let user_id = lab.user("ann").await.expect("there").user.expect("with a summary").user_id;
    let other_id = lab.user("bob").await.expect("there").user.expect("with a summary").user_id;
    let apply = async |groups: Vec<SyncedGroup>| {
        let request = ApplyBatchRequest { epoch: lab.epoch(), run_id: run_id.clone(), groups, ..Default::default() };
        lab.services.sync.apply_batch(Request::new(request)).await.expect("applied");
        (lab.login_user(&user_id).await.epoch, lab.login_user(&other_id).await.epoch)
    };
    // V-52: who comes or goes is remembered no more, and nobody else.
    assert_eq!(apply(groups.clone()).await, (2, 2));
    assert_eq!(apply(groups.clone()).await, (2, 2));
    let both = ["ann", "bob"].map(|name| format!("uid={name},ou=people,dc=corp,dc=example")).to_vec();
    assert_eq!(apply(vec![group("other", both)]).await, (3, 2));
    assert_eq!(apply(vec![groups[3].clone()]).await, (4, 2));
    let mut expected: Vec<String> =
        ["inner", "middle", "outer"].iter().flat_map(|it| [id_of(&format!("group {it}")), name(it)]).collect();
    expected.push("S-1-5-21-1-1104".into());
    let mut found = lab.login_user(&user_id).await.groups;
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

pub async fn a_name_is_known_in_every_form_and_state_of_whoever_has_it(lab: Fixture) {
    // R-61, R-62: who is proven to be unknown has no name here, nor had one
    lab.enrolled("ann").await;
    let bob = lab.enrolled("bob").await;
    lab.disable(&bob.user_id).await;
    lab.run(vec![person("ann"), person("bob"), person("eve")]).await;
    lab.tamper("UPDATE users SET state = 'removed' WHERE username = 'eve'").await;
    let known = async |name: &str| {
        let request = Request::new(NamedRequest { name: name.into() });
        !lab.services.facts.named(request).await.expect("the store answers").into_inner().nobody
    };
    for name in [
        "ann",
        " ANN ",
        r"CORP\ann",
        r"ELSE\ann",
        "else/ann",
        "ann@corp.example",
        "ann@else.example",
        r"ELSE\ann@else.example",
        "ann@a@b",
        "\u{ff41}nn",
        "bob",
        "eve",
        "ann@mail.example",
        "",
        "@",
        r"CORP\",
    ] {
        assert!(known(name).await, "{name:?}");
    }
    for name in ["anne", "an", "nn", "ann.x", "ann_", "a%", "nobody", "corp", "nobody@corp.example", r"CORP\nobody"] {
        assert!(!known(name).await, "{name:?}");
    }
    // Who is known by an address alone has its account's name, too.
    let other =
        proto::user_store::SyncedUser { names: vec!["joe@corp.example".into()], mail: String::new(), ..person("q17") };
    // Somebody of a trusted domain has no bare name here.
    let elsewhere = proto::user_store::SyncedUser {
        username: "ann.archer@other.example".into(),
        names: vec![r"OTHER\aarcher".into(), "ann.archer@other.example".into()],
        mail: String::new(),
        ..person("q18")
    };
    lab.run(vec![person("ann"), person("bob"), other, elsewhere]).await;
    assert!(known("joe").await);
    assert!(!known("joe2").await && !known("jo").await);
    for name in ["aarcher", "AArcher@OTHER", r"OTHER\aarcher", r"CORP\aarcher", "ann.archer", r"OTHER\ann.archer"] {
        assert!(known(name).await, "{name:?}");
    }
    for name in ["archer", "aarcher2", "aarche_", "%archer", r"\\aarche", "ann_archer", "other"] {
        assert!(!known(name).await, "{name:?}");
    }
}

pub async fn whether_a_name_is_anybodys_is_found_by_keys(lab: Fixture) {
    // R-62: whoever makes up names at a client that lets strangers in costs no walk through everybody
    lab.with_settings().await;
    lab.run(people(3_000)).await;
    lab.tamper("ANALYZE").await;
    let sqlite = lab.is_sqlite();
    let of_account = match sqlite {
        true => ["names_behind_domain", "users_behind_domain"],
        false => ["names_by_account", "users_by_account"],
    };
    let mut plans = String::new();
    for statement in user_store::named(sqlite) {
        let plan = lab.plan(statement, "somebody").await;
        let walks = ["SCAN ", "Seq Scan"].iter().any(|walk| plan.contains(walk));
        assert!(!walks, "{plan}");
        plans += &plan;
    }
    for index in ["names_by_key", "users_by_username"].into_iter().chain(of_account) {
        assert!(plans.contains(index), "{index} in {plans}");
    }
}

pub async fn who_asks_together_hears_their_own_facts_and_nobody_elses(lab: Fixture) {
    // V-01: whatever is read in one go
    let mut people = Vec::new();
    for name in ["ann", "bob", "cat", "dan", "eve"] {
        people.push(lab.enrolled(name).await);
    }
    let [ann, bob, cat, dan, eve] = [0, 1, 2, 3, 4].map(|place: usize| people[place].user_id.clone());
    lab.bypass(&ann, "hers", "", NOON_MS).await;
    lab.disable(&cat).await;
    lab.tamper(&format!("UPDATE factors SET seed = {} WHERE user_id = '{dan}'", lab.octets(&[0; 60]))).await;
    let run_id = lab.begin().await.expect("begun");
    let group = SyncedGroup {
        object_id: id_of("group staff"),
        distinguished_name: "cn=staff,dc=corp,dc=example".into(),
        name: "staff".into(),
        sid: String::new(),
        members: ["ann", "eve"].map(|name| format!("uid={name},ou=people,dc=corp,dc=example")).to_vec(),
    };
    let request = ApplyBatchRequest { epoch: lab.epoch(), run_id, groups: vec![group], ..Default::default() };
    lab.services.sync.apply_batch(Request::new(request)).await.expect("applied");

    let ask = async |who: Who| {
        let request = Request::new(LoginFactsRequest { who: Some(who), ..Default::default() });
        lab.services.facts.login(request).await.map(|reply| reply.into_inner()).map_err(|status| status.code())
    };
    let subject = |name: &str| Who::Subject(DirectoryRef { directory: "corp".into(), object_id: id_of(name) });
    let mut asked: Vec<Who> = [&ann, &bob, &cat, &dan, &eve].map(|user_id| Who::UserId(user_id.clone())).to_vec();
    asked.extend(["ann", "bob", "cat", "dan", "eve", "nobody"].map(subject));
    asked.push(Who::UserId("nobody".into()));
    let mut alone = Vec::new();
    for who in &asked {
        alone.push(ask(who.clone()).await);
    }
    let found = |place: usize| alone[place].as_ref().expect("read");
    assert_eq!(found(0).user.as_ref().map(|user| user.groups.len()), Some(2), "the test has a point");
    assert_eq!((found(0).code_factors.len(), found(2).code_factors.len()), (1, 0));
    assert_eq!(alone[3], Err(tonic::Code::Internal), "a seed that does not open");
    assert_eq!((&found(10).user, &found(11).user), (&None, &None));
    let many: Vec<Who> = asked.iter().cycle().take(40 * asked.len()).cloned().collect();
    let together = futures::future::join_all(many.iter().map(|who| ask(who.clone()))).await;
    for (place, reply) in together.iter().enumerate() {
        assert_eq!(*reply, alone[place % asked.len()], "{:?}", many[place]);
    }
}

pub async fn who_is_erased_leaves_nothing_behind_but_their_token_with_its_marks(lab: Fixture) {
    // S-45, FF: no factor of a user outlives them, a token returns to the stock and its used codes stay used
    let (ann, bob) = (lab.enrolled("ann").await, lab.enrolled("bob").await);
    let token = lab.add_token_of(&ann.user_id).await;
    lab.tamper(&format!(
        "UPDATE factors SET serial = 'A1', serial_key = 'a1', last_step = 777 WHERE factor_id = '{token}'"
    ))
    .await;
    crate::prompts::prompt_id(&lab, &ann, "t1", NOON_MS).await;
    assert!(crate::sent_codes::opened(&lab, crate::sent_codes::open(&ann, "t2", 1, NOON_MS)).await.opened);
    crate::devices::active(&lab, &ann, 1).await;
    lab.bypass(&ann.user_id, "b", "", NOON_MS).await;
    lab.tamper(&format!(
        "UPDATE users SET state = 'removed', state_since_ms = {} WHERE user_id = '{}'",
        NOON_MS - 31 * DAY_MS,
        ann.user_id
    ))
    .await;
    lab.store.sweep().await.expect("swept");
    assert_eq!(lab.facts(&ann.user_id).await.user, None);
    for table in
        ["factors", "prompts", "sent_codes", "devices", "bypasses", "hashed", "remembered", "outbox", "names", "guards"]
    {
        let copied = format!(
            "INSERT INTO seen (scope, id, expires_ms) SELECT 'left', '{table}', COUNT(*) FROM {table} \
             WHERE user_id = '{}'",
            ann.user_id
        );
        lab.tamper(&copied).await;
    }
    lab.tamper("DELETE FROM seen WHERE scope = 'left' AND expires_ms = 0").await;
    let unseen = proto::user_store::SeeOnceRequest {
        scope: "left".into(),
        id: "factors".into(),
        expires_unix_ms: NOON_MS + 1,
        forget: false,
    };
    assert!(lab.services.commit.see_once(Request::new(unseen)).await.expect("asked").into_inner().first);
    let list = proto::user_store::ListSeedsRequest::default();
    let stock = lab.services.commit.list_seeds(Request::new(list)).await.expect("listed").into_inner().tokens;
    assert_eq!((stock.len(), stock[0].last_step), (1, 777));
    assert_eq!(stock[0].seed.as_ref().expect("its seed opens").value, crate::fixture::SEED);
    assert_eq!(lab.facts(&bob.user_id).await.code_factors.len(), 1, "his stay");
    assert_eq!(lab.events("user.erased").await.len(), 1);
    lab.assert_chain_is_whole().await;
}

pub async fn one_broken_seed_or_step_keeps_nothing_else_from_going(lab: Fixture) {
    // S-45: housekeeping
    let (ann, bob) = (lab.enrolled("ann").await, lab.enrolled("bob").await);
    lab.bypass(&bob.user_id, "b", "", NOON_MS).await;
    for (who, serial, seed) in [(&ann, "a1", lab.octets(&[0; 60])), (&bob, "b1", "seed".into())] {
        lab.tamper(&format!(
            "UPDATE factors SET serial = '{serial}', serial_key = '{serial}', seed = {seed} WHERE user_id = '{user}'; \
             UPDATE users SET state = 'removed', state_since_ms = {since} WHERE user_id = '{user}'",
            user = who.user_id,
            since = NOON_MS - 31 * DAY_MS
        ))
        .await;
    }
    // More than one transaction's.
    let many = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500) \
                INSERT INTO seen (scope, id, expires_ms) SELECT 'many', 'n' || i, 1 FROM n";
    lab.tamper(many).await;
    lab.tamper("ALTER TABLE invitations RENAME TO away").await;
    lab.store.sweep().await.expect_err("it is told");
    for who in [&ann, &bob] {
        assert_eq!(lab.facts(&who.user_id).await.user, None);
    }
    let list = proto::user_store::ListSeedsRequest::default();
    let stock = lab.services.commit.list_seeds(Request::new(list)).await.expect("listed").into_inner().tokens;
    let serials: Vec<&str> = stock.iter().map(|token| token.serial.as_str()).collect();
    assert_eq!(serials, ["b1"], "a token without a seed is none");
    assert_eq!(lab.number("SELECT COUNT(*) FROM seen").await, 0);
    lab.tamper("ALTER TABLE away RENAME TO invitations").await;
    lab.store.sweep().await.expect("swept");
}

pub async fn who_cannot_be_erased_yet_stays_whole_and_keeps_nobody_else_from_going(lab: Fixture) {
    // S-45: seeds under a data key that this node has not read, of more users than one transaction takes
    const UNKNOWN_KEY: [u8; 60] = {
        let mut field = [0; 60];
        (field[0], field[4]) = (1, 99);
        field
    };
    lab.with_settings().await;
    lab.run(people(51)).await;
    for number in 0..51 {
        lab.enrol(&format!("user{number:03}")).await;
    }
    // The last in the order of ids, with tokens that open; and one more of the first, beside one that does not.
    let zoe = lab.enrolled("zoe").await;
    let first = lab.user("user000").await.expect("there").user.expect("with a summary").user_id;
    let opens = lab.add_token_of(&first).await;
    lab.tamper(&format!(
        "UPDATE factors SET serial = factor_id, serial_key = factor_id; \
         UPDATE factors SET seed = {} WHERE user_id <> '{}' AND factor_id <> '{opens}'; \
         UPDATE users SET state = 'removed', state_since_ms = {}",
        lab.octets(&UNKNOWN_KEY),
        zoe.user_id,
        NOON_MS - 31 * DAY_MS
    ))
    .await;
    for _ in 0..2 {
        lab.store.sweep().await.expect("swept");
        assert_eq!(lab.number("SELECT COUNT(*) FROM users").await, 51);
        assert_eq!(
            lab.number("SELECT COUNT(*) FROM factors WHERE user_id <> ''").await,
            52,
            "each token is its owner's"
        );
    }
    assert_eq!(lab.facts(&zoe.user_id).await.user, None);
    let erased: Vec<String> = lab.events("user.erased").await.into_iter().map(|event| event.user_id).collect();
    assert_eq!(erased, [zoe.user_id]);
}

pub async fn time_takes_away_what_is_over(lab: Fixture) {
    // FU-05: and nothing that is not
    let ann = lab.enrolled("ann").await;
    let prompt = crate::prompts::prompt_id(&lab, &ann, "t1", NOON_MS).await;
    assert!(crate::sent_codes::opened(&lab, crate::sent_codes::open(&ann, "t2", 1, NOON_MS)).await.opened);
    lab.bypass(&ann.user_id, "b", "", NOON_MS).await;
    lab.store.sweep().await.expect("swept");
    assert!(lab.login_user(&ann.user_id).await.bypass.is_some());
    let request = OpenPromptRequest { ..crate::prompts::open(&ann, "t1", "push", NOON_MS) };
    assert_eq!(crate::prompts::opened(&lab, request).await.prompt.expect("open").outcome, "");
    lab.clock.advance(2 * DAY_MS);
    lab.store.sweep().await.expect("swept");
    let request = crate::prompts::open(&ann, "t1", "push", lab.clock.now_ms());
    let known = crate::prompts::opened(&lab, request).await.prompt.expect("for reports");
    assert_eq!((known.prompt_id, known.outcome.as_str()), (prompt, "expired"));
    lab.clock.advance(-2 * DAY_MS);
    assert_eq!(lab.login_user(&ann.user_id).await.bypass, None);
    let gone = crate::sent_codes::checked(&lab, &ann, "t2", 1, NOON_MS).await;
    assert_eq!(gone.result(), proto::user_store::SentCodeResult::Gone);
}
