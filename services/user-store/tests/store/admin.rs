//! What administrators say about users (FV-25, FV-28, FV-29, FV-42, FU-01, FI-02).

use crate::fixture::{Enrolled, Fixture, NOON_MS, person};
use proto::common::Secret;
use proto::user_store::{
    AllowResult, BlockUserRequest, CheckSecretRequest, ClearRememberedRequest, EditUserRequest, EndBypassRequest,
    ExemptUserRequest, ImportReply, ImportUsersRequest, IssueTemporaryCodeRequest, ListMessagesRequest,
    ListPromptsRequest, ListRememberedRequest, ResetPinRequest, RevokeFactorRequest, SecretKind, SecretResult,
    SetAnswersRequest, ShutOutRequest, StartBypassRequest, SyncedUser, TakeMailRequest, TryKind, UnblockUserRequest,
    UnlockUserRequest, UserDetail, UserRow, admin_server::Admin, commit_server::Commit, outbox_server::Outbox,
    standing_server::Standing,
};
use tonic::{Code, Request, Status};

const BY: &str = "admin:uid=0";
const DAY_MS: i64 = 24 * 3_600_000;

async fn detail(lab: &Fixture, user_id: &str) -> UserDetail {
    lab.user(user_id).await.expect("there")
}

async fn mails(lab: &Fixture) -> Vec<String> {
    let take = TakeMailRequest { limit: 100, now_unix_ms: lab.clock.now_ms() + 1000, ..TakeMailRequest::default() };
    let taken = lab.services.outbox.take(Request::new(take)).await.expect("taken").into_inner();
    let mut kinds: Vec<String> = taken
        .mails
        .into_iter()
        // Of the enrolment that came before.
        .filter(|mail| mail.kind != "method_added")
        .map(|mail| format!("{} to {}", mail.kind, if mail.user_id.is_empty() { "administrators" } else { "user" }))
        .collect();
    kinds.sort();
    kinds
}

async fn block(lab: &Fixture, ann: &Enrolled, until_unix_ms: i64, reason: &str) -> Result<UserDetail, Status> {
    let request = BlockUserRequest {
        user_id: ann.user_id.clone(),
        reason: reason.into(),
        until_unix_ms,
        actor: BY.into(),
        remove_devices: false,
    };
    Ok(lab.services.admin.block_user(Request::new(request)).await?.into_inner())
}

async fn unblock(lab: &Fixture, ann: &Enrolled, reason: &str) -> Result<UserDetail, Status> {
    let request = UnblockUserRequest { user_id: ann.user_id.clone(), reason: reason.into(), actor: BY.into() };
    Ok(lab.services.admin.unblock_user(Request::new(request)).await?.into_inner())
}

pub async fn a_block_has_a_reason_an_end_and_a_way_back(lab: Fixture) {
    // FV-25
    let ann = lab.enrolled("ann").await;
    lab.tamper(&format!(
        "INSERT INTO devices VALUES ('d1', '{}', 'web', 'phone', 'active', '', '', '', '', '', '', '', 0, 0, '', 1, 1)",
        ann.user_id
    ))
    .await;
    assert_eq!(detail(&lab, &ann.user_id).await.devices.len(), 1);
    for (until, reason) in
        [(0, ""), (0, "  "), (NOON_MS - 1, "late"), (NOON_MS + 366 * DAY_MS, "too long"), (-2, "odd")]
    {
        assert_eq!(
            block(&lab, &ann, until, reason).await.expect_err("refused").code(),
            Code::InvalidArgument,
            "{until}"
        );
    }
    assert_eq!(unblock(&lab, &ann, "not needed").await.expect_err("not blocked").code(), Code::FailedPrecondition);

    let blocked = block(&lab, &ann, 0, "lost the phone").await.expect("blocked");
    let shown = blocked.block.expect("shown");
    assert_eq!((shown.until_unix_ms, shown.since_unix_ms), (NOON_MS + 90 * DAY_MS, NOON_MS), "as the settings say");
    assert_eq!((shown.by.as_str(), shown.text.as_str()), (BY, "lost the phone"));
    assert_eq!(blocked.devices.len(), 1, "the phone stays unless it is asked for");
    assert_eq!(mails(&lab).await, ["blocked to administrators", "blocked to user"]);
    let for_good = block(&lab, &ann, -1, "still lost").await.expect("blocked").block.expect("shown");
    assert_eq!(for_good.until_unix_ms, -1);

    assert_eq!(unblock(&lab, &ann, "").await.expect_err("no reason").code(), Code::InvalidArgument);
    let free = unblock(&lab, &ann, "found it").await.expect("unblocked");
    assert!(free.block.is_none());
    let told: Vec<String> = lab.events("user.blocked").await.into_iter().map(|event| event.detail).collect();
    assert_eq!(told.len(), 2);
    assert!(
        told[0].starts_with("not blocked -> blocked until 2027-") && told[0].ends_with("(lost the phone)"),
        "{}",
        told[0]
    );
    assert!(told[1].ends_with("-> blocked until somebody unblocks (still lost)"), "{}", told[1]);
    let back = &lab.events("user.unblocked").await[0].detail;
    assert_eq!(back, "blocked until somebody unblocks -> not blocked (found it)");

    let lost = BlockUserRequest {
        user_id: ann.user_id.clone(),
        reason: "stolen".into(),
        until_unix_ms: NOON_MS + DAY_MS,
        actor: BY.into(),
        remove_devices: true,
    };
    let blocked = lab.services.admin.block_user(Request::new(lost)).await.expect("blocked").into_inner();
    assert!(blocked.devices.is_empty());
    lab.clock.advance(DAY_MS);
    assert!(detail(&lab, &ann.user_id).await.block.is_none(), "over by itself");
    let nobody = Enrolled { user_id: "none".into(), ..ann };
    assert_eq!(block(&lab, &nobody, 0, "x").await.expect_err("unknown").code(), Code::NotFound);
    lab.assert_chain_is_whole().await;
}

pub async fn whoever_is_bound_is_shut_out_by_a_block_a_state_and_by_being_gone(lab: Fixture) {
    // S-22, FV-25
    let (ann, ben, carl) = (lab.enrolled("ann").await, lab.enrolled("ben").await, lab.enrolled("carl").await);
    let shut_out = async || {
        let user_ids = [&ann, &ben, &carl].map(|user| user.user_id.clone());
        let request = ShutOutRequest { user_ids: user_ids.into_iter().chain(["none".to_owned()]).collect() };
        lab.services.standing.shut_out(Request::new(request)).await.expect("the store answers").into_inner().user_ids
    };
    assert_eq!(shut_out().await, ["none"]);
    block(&lab, &ann, NOON_MS + DAY_MS, "lost the phone").await.expect("blocked");
    lab.disable(&ben.user_id).await;
    assert_eq!(shut_out().await, [ann.user_id.as_str(), &ben.user_id, "none"]);
    lab.clock.advance(DAY_MS);
    assert_eq!(shut_out().await, [ben.user_id.as_str(), "none"], "over by itself");
    let too_many = ShutOutRequest { user_ids: vec![String::new(); 1_001] };
    let refused = lab.services.standing.shut_out(Request::new(too_many)).await.expect_err("too many");
    assert_eq!(refused.code(), Code::InvalidArgument);
}

pub async fn a_block_withdraws_the_prompt_that_waits(lab: Fixture) {
    // FV-25
    let ann = lab.enrolled("ann").await;
    lab.tamper(&format!(
        "INSERT INTO prompts VALUES ('p1', 't1', '{}', 'push', 'vpn', 'VPN', 'ann', '', '42', '', FALSE, 'en', {NOON_MS}, \
         {}, '', '', 0, '', '', '', FALSE, '', 1)",
        ann.user_id,
        NOON_MS + 60_000
    ))
    .await;
    let list = async |open_only| {
        let request = ListPromptsRequest { user_id: ann.user_id.clone(), open_only, limit: 0 };
        lab.services.admin.list_prompts(Request::new(request)).await.expect("listed").into_inner().prompts
    };
    let open = list(true).await;
    assert_eq!((open.len(), open[0].prompt_id.as_str(), open[0].number.as_str()), (1, "p1", ""), "not the number");
    block(&lab, &ann, 0, "x").await.expect("blocked");
    assert!(list(true).await.is_empty());
    assert_eq!(list(false).await[0].outcome, "withdrawn");
}

pub async fn an_exemption_names_clients_that_exist_and_may_end(lab: Fixture) {
    // FV-42
    let ann = lab.enrolled("ann").await;
    let vpn = "\n[[client]]\nname = \"vpn\"\nprotocol = \"radius\"\nsources = [\"10.0.0.1/32\"]\ntarget = \"corp\"\n\
               secret = \"generate\"\n";
    assert_eq!(lab.apply(&(crate::fixture::SETTINGS.to_owned() + vpn)).await.errors, [""; 0]);
    let exempt = async |clients: &[&str], until_unix_ms, reason: &str| -> Result<UserDetail, Status> {
        let request = ExemptUserRequest {
            user_id: ann.user_id.clone(),
            clients: clients.iter().map(|name| (*name).into()).collect(),
            until_unix_ms,
            reason: reason.into(),
            actor: BY.into(),
        };
        Ok(lab.services.admin.exempt_user(Request::new(request)).await?.into_inner())
    };
    for (clients, until, reason) in
        [(&["vnp"][..], 0, "typo"), (&["vpn"][..], 0, ""), (&["vpn"][..], NOON_MS, "over already")]
    {
        assert_eq!(
            exempt(clients, until, reason).await.expect_err("refused").code(),
            Code::InvalidArgument,
            "{reason}"
        );
    }
    let shown = exempt(&["vpn", "vpn"], NOON_MS + 1000, "new token on its way").await.expect("exempt");
    assert_eq!((shown.exempt_clients, shown.exempt_text.as_str()), (vec!["vpn".to_owned()], "new token on its way"));
    lab.clock.advance(1000);
    assert!(detail(&lab, &ann.user_id).await.exempt_clients.is_empty(), "over by itself");
    assert_eq!(exempt(&["vpn", "*"], 0, "robot").await.expect("exempt").exempt_clients, ["*"]);
    assert!(exempt(&[], 0, "").await.expect("ended").exempt_clients.is_empty());
    let told: Vec<String> = lab.events("user.exempt").await.into_iter().map(|event| event.detail).collect();
    assert!(told[0].starts_with("not exempt -> exempt at vpn until 2026-"), "{}", told[0]);
    assert_eq!(told[2], "exempt at * -> not exempt ()");
}

fn edit(ann: &Enrolled) -> EditUserRequest {
    EditUserRequest { user_id: ann.user_id.clone(), actor: BY.into(), ..EditUserRequest::default() }
}

pub async fn an_edit_changes_what_it_names_and_ends_remembered_logins_where_it_concerns_a_factor(lab: Fixture) {
    // FU-01, V-52
    let ann = lab.enrolled("ann").await;
    let change = async |request: EditUserRequest| -> Result<UserDetail, Status> {
        Ok(lab.services.admin.edit_user(Request::new(request)).await?.into_inner())
    };
    let remember = async || {
        let now_ms = lab.clock.now_ms();
        lab.tamper(&format!(
            "DELETE FROM remembered; INSERT INTO remembered SELECT '\u{6b}', user_id, 'vpn', '10.0.0.1', epoch, {now_ms}, 60000, \
             {now_ms} + 60000, {now_ms} + 60000 FROM users WHERE user_id = '{}'",
            ann.user_id
        ))
        .await;
    };
    let before = detail(&lab, &ann.user_id).await;
    assert_eq!((before.phone.as_str(), before.remembered), ("+4930123456", 0));
    remember().await;
    let words = EditUserRequest { language_call: Some("de".into()), default_method: Some("call".into()), ..edit(&ann) };
    let changed = change(words).await.expect("changed");
    assert_eq!((changed.language_call.as_str(), changed.language_text.as_str()), ("de", ""));
    assert_eq!((changed.default_method.as_str(), changed.remembered), ("call", 1), "a language ends nothing");
    assert!(changed.revision > before.revision);
    let stale = EditUserRequest { expected_revision: before.revision, phone: Some("+4930901820".into()), ..edit(&ann) };
    assert_eq!(change(stale).await.expect_err("stale").code(), Code::Aborted);

    let number = EditUserRequest {
        phone: Some("+49 30 90 18 20 x89".into()),
        backup_phone: Some("0301234567".into()),
        set_allowed_methods: true,
        allowed_methods: vec!["sms".into(), "push".into()],
        pin_required: Some(true),
        mail: Some("ann@new.example".into()),
        ..edit(&ann)
    };
    let changed = change(number.clone()).await.expect("changed");
    assert_eq!((changed.phone.as_str(), changed.phone_extension.as_str()), ("+4930901820", "89"));
    assert_eq!(
        (changed.backup_phone.as_str(), changed.allowed_methods.clone()),
        ("0301234567", vec!["push".into(), "sms".into()])
    );
    assert!(changed.pin.expect("shown").required && changed.remembered == 0);
    assert_eq!(changed.user.expect("shown").mail, "ann@new.example");
    assert_eq!(mails(&lab).await, ["phone_changed to user"]);
    let found = lab.services.admin.list_users(Request::new(proto::user_store::ListUsersRequest {
        search: "4930901820".into(),
        ..Default::default()
    }));
    assert_eq!(found.await.expect("listed").into_inner().users.len(), 1, "found by the new number");
    remember().await;
    let events = lab.events("user.changed").await.len();
    assert_eq!(change(number).await.expect("the same again").remembered, 1);
    assert_eq!(lab.events("user.changed").await.len(), events, "nothing changed, nothing said");
    let told = &lab.events("user.changed").await[1].detail;
    assert!(told.contains("own_phone: none -> …20; own_extension: none -> 89"), "{told}");
    assert!(told.contains("allowed_methods: none -> push,sms") && !told.contains("901820"), "{told}");

    let back = change(EditUserRequest { phone: Some(String::new()), ..edit(&ann) }).await.expect("changed");
    assert_eq!((back.phone.as_str(), back.phone_extension.as_str()), ("+4930123456", ""), "the directory's again");
    for bad in [
        EditUserRequest { phone: Some("call me".into()), ..edit(&ann) },
        EditUserRequest { default_method: Some("fax".into()), ..edit(&ann) },
        EditUserRequest { language_app: Some("english".into()), ..edit(&ann) },
        EditUserRequest { mail: Some("nobody".into()), ..edit(&ann) },
    ] {
        assert_eq!(change(bad).await.expect_err("refused").code(), Code::InvalidArgument);
    }
}

pub async fn a_bypass_has_a_reason_an_end_and_stands_alone(lab: Fixture) {
    // V-53
    let ann = lab.enrolled("ann").await;
    let limited = crate::fixture::SETTINGS.to_owned() + "\n[verification]\nbypass_max_seconds = 600\n";
    assert_eq!(lab.apply(&limited).await.errors, [""; 0]);
    let request = |seconds, reason: &str, client: &str| StartBypassRequest {
        user_id: ann.user_id.clone(),
        seconds,
        client: client.into(),
        reason: reason.into(),
        actor: BY.into(),
    };
    let start = async |request| lab.services.admin.start_bypass(Request::new(request)).await;
    for bad in [request(0, "", ""), request(601, "too long", ""), request(60, "typo", "vnp")] {
        assert_eq!(start(bad).await.expect_err("refused").code(), Code::InvalidArgument);
    }
    let given = start(request(0, "left the phone at home", "")).await.expect("given").into_inner();
    assert_eq!(given.expires_unix_ms, NOON_MS + 300_000);
    let shown = detail(&lab, &ann.user_id).await.bypasses;
    assert_eq!((shown.len(), shown[0].kind.as_str(), shown[0].text.as_str()), (1, "bypass", "left the phone at home"));
    assert_eq!(start(request(60, "again", "")).await.expect_err("one is open").code(), Code::FailedPrecondition);
    assert_eq!(mails(&lab).await, ["bypass_issued to user"]);
    let end = EndBypassRequest { user_id: ann.user_id.clone(), bypass_id: given.bypass_id, actor: BY.into() };
    let ended = lab.services.admin.end_bypass(Request::new(end.clone())).await.expect("ended").into_inner();
    assert!(ended.bypasses.is_empty());
    assert_eq!(lab.services.admin.end_bypass(Request::new(end)).await.expect_err("once").code(), Code::NotFound);
    start(request(60, "again", "")).await.expect("given");
    lab.clock.advance(60_000);
    start(request(60, "over by itself", "")).await.expect("given");
    block(&lab, &ann, 0, "x").await.expect("blocked");
    lab.clock.advance(60_000);
    assert_eq!(start(request(60, "x", "")).await.expect_err("blocked").code(), Code::FailedPrecondition);
    assert_eq!(lab.events("bypass.started").await.len(), 3);
}

pub async fn a_temporary_code_is_shown_once_and_kept_as_a_hash(lab: Fixture) {
    // FV-29, V-31
    let ann = lab.enrolled("ann").await;
    let request = |uses, seconds, reason: &str| IssueTemporaryCodeRequest {
        user_id: ann.user_id.clone(),
        uses,
        seconds,
        reason: reason.into(),
        actor: BY.into(),
    };
    let issue = async |request| lab.services.admin.issue_temporary_code(Request::new(request)).await;
    for bad in [request(11, 0, "x"), request(1, 299, "x"), request(1, 86_401, "x"), request(1, 300, "")] {
        assert_eq!(issue(bad).await.expect_err("refused").code(), Code::InvalidArgument);
    }
    let first = issue(request(0, 0, "new phone")).await.expect("issued").into_inner();
    let second = issue(request(10, 300, "another")).await.expect("issued").into_inner();
    assert_eq!((first.expires_unix_ms, second.expires_unix_ms), (NOON_MS + 3_600_000, NOON_MS + 300_000));
    let (first, second) = (first.code.expect("shown").value.clone(), second.code.expect("shown").value.clone());
    assert!(first.len() == 9 && first.iter().all(u8::is_ascii_digit) && first != second);
    let shown = detail(&lab, &ann.user_id).await.bypasses;
    assert_eq!(
        (shown.len(), shown[0].kind.as_str(), shown[0].uses_left),
        (1, "temporary_code", 10),
        "the newest alone"
    );
    let dump = lab.dump().await;
    for code in [first, second] {
        assert!(!dump.windows(9).any(|window| window == code), "in the clear");
    }
    let end =
        EndBypassRequest { user_id: ann.user_id.clone(), bypass_id: shown[0].bypass_id.clone(), actor: BY.into() };
    let ended = lab.services.admin.end_bypass(Request::new(end)).await.expect("ended").into_inner();
    assert!(ended.bypasses.is_empty());
}

pub async fn an_unlock_opens_everything_that_counts_tries(lab: Fixture) {
    // FV-22, V-14
    let ann = lab.enrolled("ann").await;
    lab.tamper(&format!(
        "INSERT INTO secret_states VALUES ('{0}', 'pin', TRUE, FALSE, {NOON_MS}, '', -1); \
         UPDATE factors SET failures = 100, open_ms = 9000000000000 WHERE user_id = '{0}'",
        ann.user_id
    ))
    .await;
    let locked = detail(&lab, &ann.user_id).await;
    assert_eq!(locked.pin.expect("shown").locked_until_unix_ms, -1);
    assert!(locked.user.expect("shown").locked_until_unix_ms != 0);
    let unlock = UnlockUserRequest { user_id: ann.user_id.clone(), actor: BY.into() };
    let open = lab.services.admin.unlock_user(Request::new(unlock)).await.expect("unlocked").into_inner();
    assert_eq!(open.pin.expect("shown").locked_until_unix_ms, 0);
    assert_eq!(open.user.expect("shown").locked_until_unix_ms, 0);
    assert_eq!(crate::commit::allowed(&lab.services.commit, ann.allow("t1", 101)).await, AllowResult::Committed);
}

pub async fn users_of_a_file_are_known_ones_and_each_row_gets_its_verdict(lab: Fixture) {
    // FI-02
    lab.enrolled("ann").await;
    lab.run(vec![person("ann"), person("bob"), person("eve")]).await;
    let row = |row, username: &str, fields: &[(&str, &str)]| UserRow {
        row,
        username: username.into(),
        fields: fields.iter().map(|(field, text)| ((*field).into(), (*text).into())).collect(),
    };
    let rows = vec![
        row(2, "CORP\\ann", &[("phone", "+49 30 901820 x890"), ("language", "de"), ("backup_phone", "")]),
        row(3, "bob", &[("phone", "none")]),
        row(4, "mallory", &[("phone", "+4930901821")]),
        row(5, "ann", &[("phone", "+4930901822")]),
        row(6, "eve", &[("colour", "red")]),
        row(7, "", &[]),
    ];
    let import = async |dry_run, update| -> ImportReply {
        let request = ImportUsersRequest { rows: rows.clone(), dry_run, update, actor: BY.into() };
        lab.services.admin.import_users(Request::new(request)).await.expect("read").into_inner()
    };
    let skipped = import(false, false).await;
    assert_eq!((skipped.changed, skipped.unchanged), (0, 1), "known users are skipped unless they are to be changed");
    let dry = import(true, true).await;
    assert_eq!((dry.changed, dry.refused, dry.applied), (1, 5, false));
    assert_eq!(lab.user("ann").await.expect("there").phone, "+4930123456", "a dry run changes nothing");
    assert!(mails(&lab).await.is_empty());
    let done = import(false, true).await;
    assert_eq!((done.changed, done.refused, done.applied), (1, 5, true));
    for (verdict, text) in done.verdicts.iter().skip(1).zip([
        "phone: a number is written",
        "no user has this name",
        "the user stands twice",
        "colour: no such field",
        "username: is empty",
    ]) {
        assert!(verdict.verdict == "refused" && verdict.text.starts_with(text), "{verdict:?}");
    }
    assert_eq!(dry.verdicts, done.verdicts, "a dry run says what will be");
    let ann = lab.user("ann").await.expect("there");
    assert_eq!(
        (ann.phone.as_str(), ann.phone_extension.as_str(), ann.language_app.as_str()),
        ("+4930901820", "890", "de")
    );
    let again = import(false, true).await;
    assert_eq!((again.changed, again.unchanged), (0, 1), "the same file again changes nothing");
    assert_eq!(lab.events("users.imported").await.len(), 1, "one event for the file");
    lab.assert_chain_is_whole().await;
}

pub async fn the_state_of_a_file_disables_enables_and_exempts_and_the_directory_keeps_its_word(lab: Fixture) {
    // FI-02, FV-42
    lab.with_settings().await;
    let off = |name: &str| SyncedUser { disabled_in_directory: true, ..person(name) };
    let everybody = || vec![person("ann"), person("bob"), off("eve"), off("joe"), person("zoe")];
    lab.run(everybody()).await;
    let import = async |rows: &[(&str, &str)]| -> ImportReply {
        let row = |(username, state): &(&str, &str)| UserRow {
            row: 1,
            username: (*username).into(),
            fields: [("state".to_owned(), (*state).to_owned())].into(),
        };
        let rows = rows.iter().map(row).collect();
        let request = ImportUsersRequest { rows, dry_run: false, update: true, actor: BY.into() };
        lab.services.admin.import_users(Request::new(request)).await.expect("read").into_inner()
    };
    let file = [("ann", "disabled"), ("bob", "exempt"), ("eve", "enabled"), ("joe", "Disabled"), ("zoe", "gone")];
    let done = import(&file).await;
    let told: Vec<(&str, &str)> = done.verdicts.iter().map(|it| (it.verdict.as_str(), it.text.as_str())).collect();
    assert_eq!(
        told,
        [
            ("change", "state: enabled -> disabled"),
            ("change", "exempt: not exempt -> exempt at *"),
            ("unchanged", ""),
            ("change", "state: disabled by directory -> disabled by admin:uid=0"),
            ("refused", "state: found \"gone\"; allowed are enabled, disabled, exempt"),
        ]
    );
    // Each of them has its own event, as by hand.
    let mut events = lab.events("user.state").await;
    events.extend(lab.events("user.exempt").await);
    events.retain(|event| event.actor == BY);
    let told: Vec<(&str, &str)> = events.iter().map(|it| (it.username.as_str(), it.detail.as_str())).collect();
    assert_eq!(
        told,
        [
            ("ann", "state: enabled -> disabled (as the imported file says)"),
            ("joe", "state: disabled -> disabled (as the imported file says)"),
            ("bob", "not exempt -> exempt at * (as the imported file says)"),
        ]
    );
    // What the directory disabled, the directory enables; what the file disabled, it does not.
    lab.run(["ann", "bob", "eve", "joe", "zoe"].map(person).into()).await;
    for (name, state) in
        [("ann", "disabled"), ("bob", "enabled"), ("eve", "enabled"), ("joe", "disabled"), ("zoe", "enabled")]
    {
        assert_eq!(lab.state(name).await, state, "{name}");
    }
    let bob = lab.user("bob").await.expect("there").user.expect("with a summary").user_id;
    assert_eq!(lab.login_user(&bob).await.exempt_clients, ["*"]);
    let again = import(&file[..4]).await;
    assert_eq!((again.changed, again.unchanged), (0, 4), "the same file again changes nothing");
    lab.tamper(&format!("UPDATE users SET exempt_clients = 'vpn', exempt_until_ms = {NOON_MS} WHERE username = 'bob'"))
        .await;
    let done = import(&[("bob", "exempt")]).await;
    assert_eq!(done.verdicts[0].text, "exempt: exempt at vpn until 2026-11-20T12:00:00Z -> exempt at *", "its old end");
    assert_eq!(import(&[("ann", "enabled")]).await.changed, 1);
    assert_eq!(lab.state("ann").await, "enabled");
    lab.assert_chain_is_whole().await;
}

pub async fn remembered_logins_and_messages_are_listed_and_cleared(lab: Fixture) {
    // FV-30, V-52
    let (ann, bob) = (lab.enrolled("ann").await, lab.enrolled("bob").await);
    for (key, user, client, life) in
        [("a", &ann, "vpn", 60_000), ("b", &ann, "mail", 60_000), ("c", &bob, "vpn", 60_000), ("d", &bob, "mail", 0)]
    {
        lab.tamper(&format!(
            "INSERT INTO remembered SELECT '{key}', user_id, '{client}', '10.0.0.1', epoch, {NOON_MS}, 60000, {0}, {0} \
             FROM users WHERE user_id = '{1}'",
            NOON_MS + life,
            user.user_id
        ))
        .await;
    }
    lab.tamper(&format!(
        "INSERT INTO messages VALUES ('m1', 'sms', 'main', 'x1', '{}', 't1', '•••• 1234', 'delivered', '', {NOON_MS})",
        ann.user_id
    ))
    .await;
    let list = async |user_id: &str| {
        let request = ListRememberedRequest { user_id: user_id.into() };
        lab.services.admin.list_remembered(Request::new(request)).await.expect("listed").into_inner().items
    };
    assert_eq!((list("").await.len(), list(&ann.user_id).await.len(), list(&bob.user_id).await.len()), (3, 2, 1));
    let clear = async |user_id: &str, client: &str| {
        let request = ClearRememberedRequest { user_id: user_id.into(), client: client.into(), actor: BY.into() };
        lab.services.admin.clear_remembered(Request::new(request)).await.expect("cleared").into_inner().cleared
    };
    assert_eq!(clear(&ann.user_id, "vpn").await, 1);
    assert_eq!(list("").await.len(), 2);
    assert_eq!(clear("", "").await, 3);
    assert!(list("").await.is_empty());
    assert_eq!(lab.events("remembered.cleared").await.len(), 2);
    let request = ListMessagesRequest { user_id: ann.user_id.clone(), limit: 10 };
    let messages = lab.services.admin.list_messages(Request::new(request)).await.expect("listed").into_inner().messages;
    assert_eq!((messages.len(), messages[0].destination.as_str()), (1, "•••• 1234"));
}

pub async fn a_pin_given_by_somebody_else_is_random_or_keeps_the_rules_and_is_changed_at_its_first_use(lab: Fixture) {
    // FV-20, FV-21
    let ann = lab.enrolled("ann").await;
    let reset = async |pin: Option<&str>| {
        let pin = pin.map(|pin| Secret { value: pin.into() });
        let request = ResetPinRequest { user_id: ann.user_id.clone(), pin, actor: BY.into() };
        lab.services.admin.reset_pin(Request::new(request)).await.expect("the store answers").into_inner()
    };
    let pin = reset(None).await.pin.expect("shown once").value.clone();
    assert!(pin.len() == 6 && pin.iter().all(u8::is_ascii_digit), "six digits");
    let shown = detail(&lab, &ann.user_id).await.pin.expect("shown");
    assert!(shown.set && shown.must_change && !shown.expired);
    assert_eq!(mails(&lab).await, ["pin_reset to user"]);
    let check = async |pin: &[u8], attempt: &str| {
        let request = CheckSecretRequest {
            user_id: ann.user_id.clone(),
            kind: SecretKind::Pin.into(),
            secret: Some(Secret { value: pin.to_vec() }),
            transaction_id: attempt.into(),
            try_kind: TryKind::AfterPassword.into(),
            ..CheckSecretRequest::default()
        };
        lab.services.commit.check_secret(Request::new(request)).await.expect("the store answers").into_inner().result()
    };
    assert_eq!(check(&pin, "t1").await, SecretResult::Right);
    for (given, rule) in [("123456", "run"), ("12", "length"), ("491726", "")] {
        let reply = reset(Some(given)).await;
        assert_eq!((reply.rule.as_str(), reply.pin.is_none()), (rule, true), "{given}");
    }
    assert_eq!(check(&pin, "t2").await, SecretResult::Wrong, "the random one is gone");
    assert_eq!(check(b"491726", "t3").await, SecretResult::Right);
    lab.clock.advance(14 * DAY_MS);
    assert!(detail(&lab, &ann.user_id).await.pin.expect("shown").expired);
    assert_eq!(check(b"491726", "t4").await, SecretResult::None, "an initial one has its time");
    let told: Vec<String> = lab.events("pin.set").await.into_iter().map(|event| event.detail).collect();
    assert!(told.len() == 2 && told.iter().all(|detail| !detail.contains("491726")), "{told:?}");
    let mailed = crate::fixture::SETTINGS.to_owned() + "\n[pin]\ndanger_mail_initial_pin = true\nlength_min = 8\n";
    assert_eq!(lab.apply(&mailed).await.errors, [""; 0]);
    assert_eq!(reset(None).await.pin.expect("shown once").value.len(), 8, "as long as the rules want");
    assert_eq!(mails(&lab).await.last().map(String::as_str), Some("initial_pin to user"));
}

pub async fn answers_are_compared_as_people_write_them_and_kept_as_hashes(lab: Fixture) {
    // FV-10, FP-09
    let ann = lab.enrolled("ann").await;
    let questions = ["First pet?", "Town of birth?", "Best friend?"].map(str::to_owned).to_vec();
    let set = async |questions: &[String], answers: &[&str]| {
        let answers = answers.iter().map(|text| Secret { value: (*text).into() }).collect();
        let request = SetAnswersRequest {
            user_id: ann.user_id.clone(),
            questions: questions.to_vec(),
            answers,
            actor: BY.into(),
        };
        lab.services.admin.set_answers(Request::new(request)).await
    };
    let few = set(&questions[..2], &["Rex Maximus", "Ulm"]).await.expect_err("too few");
    assert_eq!(few.code(), Code::InvalidArgument);
    let shown = set(&questions, &["Rex Máximus", "Ulm an der Donau", "Toni"]).await.expect("set").into_inner();
    assert_eq!(shown.questions, questions);
    let check = async |asked: &[&str], answers: &[&str], attempt: &str| {
        let request = CheckSecretRequest {
            user_id: ann.user_id.clone(),
            kind: SecretKind::Answers.into(),
            questions: asked.iter().map(|text| (*text).into()).collect(),
            answers: answers.iter().map(|text| Secret { value: (*text).into() }).collect(),
            transaction_id: attempt.into(),
            try_kind: TryKind::AfterPassword.into(),
            ..CheckSecretRequest::default()
        };
        lab.services.commit.check_secret(Request::new(request)).await.expect("the store answers").into_inner().result()
    };
    let asked = ["Best friend?", "First pet?"];
    assert_eq!(check(&asked, &[" TONI", "rex maximus"], "t1").await, SecretResult::Right);
    assert_eq!(check(&asked, &["toni", "max"], "t2").await, SecretResult::Wrong);
    let dump = lab.dump().await;
    for answer in ["Donau", "ulmanderdonau", "rexmaximus"] {
        assert!(!dump.windows(answer.len()).any(|window| window == answer.as_bytes()), "{answer} in the clear");
    }
    assert!(set(&[], &[]).await.expect("taken away").into_inner().questions.is_empty());
    assert_eq!(check(&asked, &["toni", "rex maximus"], "t3").await, SecretResult::None);
}

pub async fn a_phone_or_passkey_is_revoked_like_any_factor(lab: Fixture) {
    // FM-05, V-52
    let ann = lab.enrolled("ann").await;
    for (device, kind) in [("d1", "web"), ("d2", "passkey")] {
        lab.tamper(&format!(
            "INSERT INTO devices VALUES ('{device}', '{}', '{kind}', 'x', 'active', '', '', '', '', '', '', '', 0, 0, '', 1, 1)",
            ann.user_id
        ))
        .await;
    }
    assert_eq!(detail(&lab, &ann.user_id).await.user.expect("shown").factors, 3);
    let revoke = async |factor_id: &str| {
        let request =
            RevokeFactorRequest { user_id: ann.user_id.clone(), factor_id: factor_id.into(), actor: BY.into() };
        lab.services.admin.revoke_factor(Request::new(request)).await
    };
    for (factor_id, left) in [("d1", 2), ("d2", 1), (ann.factor_id.as_str(), 0)] {
        let shown = revoke(factor_id).await.expect("revoked").into_inner();
        assert_eq!(shown.user.expect("shown").factors, left, "{factor_id}");
    }
    assert_eq!(revoke("d1").await.expect_err("gone").code(), Code::NotFound);
    let told: Vec<String> = lab.events("factor.revoked").await.into_iter().map(|event| event.detail).collect();
    assert_eq!(told, ["push d1", "passkey d2", &format!("code {}", ann.factor_id)]);
}
