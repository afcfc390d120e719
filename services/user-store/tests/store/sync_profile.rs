//! What becomes of a user's values, and how users begin (FS-23 to FS-34).

use crate::fixture::{Fixture, person, with_phone};
use crate::sync::with_items;
use proto::common::Secret;
use proto::user_store::{
    CheckSecretRequest, EditUserRequest, SecretKind, SecretResult, SetPhoneRequest, SetPinRequest, SyncedLanguages,
    SyncedPhone, SyncedUser, TryKind, UserDetail, admin_server::Admin, commit_server::Commit,
};
use tonic::Request;

async fn edit(lab: &Fixture, name: &str, change: EditUserRequest) {
    let user_id = lab.user(name).await.expect("there").user.expect("with a summary").user_id;
    let request = EditUserRequest { user_id, actor: "admin:uid=0".into(), ..change };
    lab.services.admin.edit_user(Request::new(request)).await.expect("changed");
}

async fn read(lab: &Fixture, user: &SyncedUser) -> UserDetail {
    let run_id = lab.begin().await.expect("begun");
    lab.batch(&run_id, vec![user.clone()]).await;
    lab.user("ann").await.expect("there")
}

fn ann(number: u32) -> SyncedUser {
    let phone = |kind: &str, digits: u32| SyncedPhone {
        kind: kind.into(),
        number: format!("+49 40 {digits}{number}"),
        ..SyncedPhone::default()
    };
    SyncedUser {
        mail: format!("ann{number}@mail.example"),
        last_name: format!("Last{number}"),
        phones: vec![phone("mobile", 11111), phone("home", 22222)],
        languages: Some(SyncedLanguages {
            text: if number.is_multiple_of(2) { "de" } else { "fr" }.into(),
            ..Default::default()
        }),
        ..person("ann")
    }
}

pub async fn what_a_hand_wrote_stays_until_it_is_given_back(lab: Fixture) {
    // FS-23: unless_user_changed
    let item = "people backup_phone = [\"home\"]; language = { portal = \"fr\" }; source = { kind = \"domain\" }";
    lab.apply(&with_items(&[item])).await;
    lab.lead().await;
    let first = read(&lab, &ann(1)).await;
    assert_eq!(first.language_portal, "fr", "FS-32");
    assert_eq!((first.phone.as_str(), first.backup_phone.as_str()), ("+4940111111", "+4940222221"));
    let by_hand = EditUserRequest {
        mail: Some("ann@home.example".into()),
        backup_phone: Some("+4930901820".into()),
        language_text: Some("it".into()),
        ..EditUserRequest::default()
    };
    edit(&lab, "ann", by_hand).await;
    let kept = read(&lab, &ann(2)).await;
    let user = kept.user.expect("with a summary");
    assert_eq!((user.mail.as_str(), user.last_name.as_str()), ("ann@home.example", "Last2"));
    assert_eq!((kept.backup_phone.as_str(), kept.language_text.as_str()), ("+4930901820", "it"));
    assert_eq!(kept.phone, "+4940111112");
    edit(&lab, "ann", EditUserRequest { language_portal: Some("en".into()), ..EditUserRequest::default() }).await;
    assert_eq!(read(&lab, &ann(3)).await.language_portal, "en");
    let back = EditUserRequest {
        language_portal: Some(String::new()),
        mail: Some(String::new()),
        backup_phone: Some(String::new()),
        language_text: Some(String::new()),
        ..EditUserRequest::default()
    };
    edit(&lab, "ann", back).await;
    let again = read(&lab, &ann(2)).await;
    assert_eq!(again.user.expect("with a summary").mail, "ann2@mail.example", "the next read fills it in");
    assert_eq!((again.backup_phone.as_str(), again.language_text.as_str()), ("+4940222222", "de"));
    assert_eq!(again.language_portal, "fr");
    // A backup number that was proven is the user's own, too.
    let user_id = lab.user("ann").await.expect("there").user.expect("with a summary").user_id;
    let own = SetPhoneRequest {
        user_id,
        number: "+4930901821".into(),
        backup: true,
        actor: "self".into(),
        ..Default::default()
    };
    lab.services.commit.set_phone(Request::new(own)).await.expect("set");
    assert_eq!(read(&lab, &ann(3)).await.backup_phone, "+4930901821");
}

pub async fn an_item_says_when_the_directorys_values_count(lab: Fixture) {
    // FS-23
    for (update, hand, mail, phone) in [
        ("always", true, "ann2@mail.example", "+4940111112"),
        ("if_empty", false, "ann1@mail.example", "+4940111111"),
        ("never", false, "ann1@mail.example", "+4940111111"),
    ] {
        lab.tamper("DELETE FROM users").await;
        let item = format!(
            "people update = {{ names = \"{update}\", phones = \"{update}\", languages = \"{update}\" }}; source = {{ kind = \"domain\" }}"
        );
        lab.apply(&with_items(&[&item])).await;
        lab.lead().await;
        read(&lab, &ann(1)).await;
        if hand {
            let change = EditUserRequest {
                mail: Some("x@mail.example".into()),
                phone: Some("+4930901820".into()),
                ..Default::default()
            };
            edit(&lab, "ann", change).await;
        }
        let after = read(&lab, &ann(2)).await;
        assert_eq!(
            (after.user.expect("with a summary").mail.as_str(), after.phone.as_str()),
            (mail, phone),
            "{update}"
        );
    }
}

pub async fn another_rule_of_the_item_counts_at_the_next_read(lab: Fixture) {
    // FS-27, FS-34: though the directory says the same
    lab.with_settings().await;
    assert_eq!(read(&lab, &ann(1)).await.phone, "+4940111111");
    lab.apply(&with_items(&["people primary_phone = [\"home\"]; source = { kind = \"domain\" }"])).await;
    assert_eq!(read(&lab, &ann(1)).await.phone, "+4940222221");
}

pub async fn new_users_begin_as_their_item_says(lab: Fixture) {
    // FS-24, FS-31, FS-32, FS-33
    for (begin, state, must_enrol) in
        [("enabled", "enabled", false), ("disabled", "disabled", false), ("must_enrol", "enabled", true)]
    {
        lab.tamper("DELETE FROM users").await;
        let item = format!(
            "people new_users = \"{begin}\"; method = {{ default = \"sms\", allowed = [\"sms\", \"code\"] }}; language = {{ text = \"fr\" }}; \
             mail = {{ on_add = true }}; source = {{ kind = \"domain\" }}"
        );
        assert_eq!(lab.apply(&with_items(&[&item])).await.errors, [""; 0]);
        lab.lead().await;
        lab.mails().await;
        let ann = read(&lab, &person("ann")).await;
        let user = ann.user.expect("with a summary");
        assert_eq!((user.state.as_str(), ann.language_text.as_str()), (state, "fr"), "{begin}");
        assert_eq!((ann.default_method.as_str(), ann.allowed_methods), ("sms", vec!["sms".to_owned(), "code".into()]));
        assert_eq!(lab.login_user(&user.user_id).await.must_enrol, must_enrol);
        let mails: Vec<(String, String)> = lab.mails().await.into_iter().map(|it| (it.kind, it.to.join(","))).collect();
        match state {
            "enabled" => assert_eq!(mails, [("welcome_sms".to_owned(), "ann@mail.example".to_owned())]),
            _ => assert_eq!(mails, [], "nobody is welcomed who cannot come in"),
        }
        // Seen again: the directory does not overrule what the settings said, and nobody is welcomed twice.
        let again = read(&lab, &with_phone(person("ann"), "+49 40 765498")).await;
        assert_eq!(again.user.expect("with a summary").state, state, "{begin}");
        assert!(lab.mails().await.iter().all(|mail| mail.kind != "welcome_sms"));
    }
}

pub async fn who_is_changed_hears_of_it_where_the_item_says_so(lab: Fixture) {
    // FS-33, S-58
    let mut ann = with_phone(person("ann"), "+49 40 111111");
    for on_change in [true, false] {
        let item = format!("people mail = {{ on_change = {on_change} }}; source = {{ kind = \"domain\" }}");
        assert_eq!(lab.apply(&with_items(&[&item])).await.errors, [""; 0]);
        lab.lead().await;
        read(&lab, &ann).await;
        lab.mails().await;
        let updated = |to: &str| on_change.then(|| ("updated".to_owned(), to.to_owned()));
        let mails = async |ann: &SyncedUser| {
            read(&lab, ann).await;
            lab.mails().await.into_iter().map(|it| (it.kind, it.to.join(","))).collect::<Vec<_>>()
        };
        assert_eq!(mails(&ann).await, [], "nothing is new");
        ann.description = format!("of no concern to them {on_change}");
        assert_eq!(mails(&ann).await, []);
        ann.last_name = format!("Other {on_change}");
        assert_eq!(mails(&ann).await, Vec::from_iter(updated("ann@mail.example")), "{on_change}");
        // Of another number they hear anyway, and not twice.
        ann = with_phone(ann, if on_change { "+49 40 222222" } else { "+49 40 333333" });
        assert_eq!(mails(&ann).await, [("phone_changed".to_owned(), "ann@mail.example".to_owned())], "{on_change}");
        // Another address is told at both.
        ann.mail = "new@mail.example".into();
        let both = mails(&ann).await;
        let before = ("updated".to_owned(), "ann@mail.example".to_owned());
        assert_eq!(both, std::iter::once(before).chain(updated("new@mail.example")).collect::<Vec<_>>(), "{on_change}");
        ann.mail = "ann@mail.example".into();
        read(&lab, &ann).await;
    }
}

pub async fn whether_new_users_have_to_use_a_pin_the_item_says_before_the_company(lab: Fixture) {
    // FS-31, FV-19
    for (company, item, required) in
        [(false, "", false), (true, "", true), (false, ", pin = true", true), (true, ", pin = false", false)]
    {
        lab.tamper("DELETE FROM users").await;
        let item = format!(
            "people method = {{ default = \"code\"{item} }}; mail = {{ on_add = true }}; source = {{ kind = \"domain\" }}"
        );
        let document = format!("[pin]\nnew_users = {company}\n{}", with_items(&[&item]));
        assert_eq!(lab.apply(&document).await.errors, [""; 0]);
        lab.lead().await;
        lab.mails().await;
        let ann = read(&lab, &person("ann")).await;
        assert_eq!(ann.pin.is_some_and(|pin| pin.required), required, "{company} {item}");
        let mails: Vec<String> = lab.mails().await.into_iter().map(|mail| mail.kind).collect();
        assert_eq!(mails, [if required { "welcome_enrol_pin" } else { "welcome_enrol" }]);
    }
}

pub async fn a_first_pin_is_made_after_the_batch_and_mailed_once(lab: Fixture) {
    // FS-31, FV-21
    let items =
        with_items(&["people method = { pin = true, initial_pin = \"mailed\" }; source = { kind = \"domain\" }"]);
    let settings = format!("[pin]\ndanger_mail_initial_pin = true\ninitial_days = 7\n{items}");
    assert_eq!(lab.apply(&settings).await.errors, [""; 0]);
    lab.lead().await;
    let told = async || {
        lab.store.give_first_pins().await.expect("given");
        let mails = lab.mails().await.into_iter().filter(|mail| mail.kind == "initial_pin");
        mails.map(|mail| (mail.to.join(","), mail.variables)).collect::<Vec<_>>()
    };
    let pin_of = async |name: &str| lab.user(name).await.expect("there").pin.expect("a state");
    let user_id = async |name: &str| lab.user(name).await.expect("there").user.expect("with a summary").user_id;
    let off = |username: &str, disabled_in_directory: bool| SyncedUser { disabled_in_directory, ..person(username) };
    let run_id = lab.begin().await.expect("begun");
    let silent = SyncedUser { mail: String::new(), ..person("bob") };
    lab.batch(&run_id, vec![person("ann"), silent, off("carl", true), person("dora")]).await;
    let own = SetPinRequest {
        user_id: user_id("dora").await,
        pin: Some(Secret { value: b"491726".to_vec() }),
        actor: "self".into(),
        must_change: false,
    };
    assert!(lab.services.commit.set_pin(Request::new(own)).await.expect("the store answers").into_inner().set);
    assert!(pin_of("ann").await.required && !pin_of("ann").await.set, "no batch hashes");

    let mails = told().await;
    let [(to, variables)] = mails.as_slice() else { panic!("{mails:?}") };
    let pin = variables["initial_pin"].clone();
    assert_eq!(to, &lab.user("ann").await.expect("there").user.expect("with a summary").mail);
    assert!(pin.len() == 6 && pin.bytes().all(|sign| sign.is_ascii_digit()), "{pin}");
    assert_eq!(variables["until"], "2026-11-27T12:00:00Z");
    assert!(pin_of("ann").await.set && pin_of("ann").await.must_change);
    assert!(!pin_of("bob").await.set && !pin_of("carl").await.set, "nobody would know it");
    assert!(!pin_of("dora").await.must_change, "she has one of her own");
    let check = CheckSecretRequest {
        user_id: user_id("ann").await,
        kind: SecretKind::Pin.into(),
        secret: Some(Secret { value: pin.clone().into_bytes() }),
        transaction_id: "t1".into(),
        try_kind: TryKind::AfterPassword.into(),
        ..CheckSecretRequest::default()
    };
    let checked = lab.services.commit.check_secret(Request::new(check)).await.expect("the store answers").into_inner();
    assert_eq!(checked.result(), SecretResult::Right);
    assert!(lab.events("pin.set").await.iter().all(|event| !event.detail.contains(&pin)));
    assert_eq!(told().await, [], "one is enough");

    // Who could not be told is owed it as long as the item says so.
    lab.batch(&run_id, vec![off("carl", false)]).await;
    // What nobody said was sent is handed out again.
    let is_told = async |name: &str| told().await.iter().any(|(to, _)| to.starts_with(name));
    assert!(!is_told("carl").await);
    lab.clock.advance(600_000);
    assert!(is_told("carl").await);
    assert_eq!(lab.apply(&settings.replace("mailed", "chosen")).await.errors, [""; 0]);
    lab.batch(&run_id, vec![person("bob")]).await;
    lab.clock.advance(600_000);
    assert!(!is_told("bob").await);
    assert_eq!(lab.apply(&settings).await.errors, [""; 0]);
    lab.clock.advance(600_000);
    assert!(!is_told("bob").await, "what was given up stays so");
    assert!(!pin_of("bob").await.set);
}

pub async fn a_first_pin_whose_making_was_cut_off_is_made_later(lab: Fixture) {
    // FS-31: somebody took it and ended.
    let items = with_items(&["people method = { initial_pin = \"mailed\" }; source = { kind = \"domain\" }"]);
    assert_eq!(lab.apply(&format!("[pin]\ndanger_mail_initial_pin = true\n{items}")).await.errors, [""; 0]);
    lab.lead().await;
    read(&lab, &person("ann")).await;
    lab.tamper(&format!("UPDATE pins_owed SET due_ms = {}", lab.clock.now_ms() + 120_000)).await;
    for (later_ms, set) in [(119_999, false), (1, true)] {
        lab.clock.advance(later_ms);
        lab.store.give_first_pins().await.expect("given");
        assert_eq!(lab.user("ann").await.expect("there").pin.is_some_and(|pin| pin.set), set, "{later_ms}");
    }
}

pub async fn what_cannot_be_used_is_not_kept(lab: Fixture) {
    // FS-27, S-59, B-76
    lab.with_settings().await;
    let bomb = SyncedUser {
        description: "x".repeat(100_000),
        mail: "a\u{0}nn@mail.example".into(),
        names: (0..10_000).map(|number| format!("name{number}")).collect(),
        ..with_phone(person("ann"), &"9".repeat(1_000_000))
    };
    let ann = read(&lab, &bomb).await;
    assert_eq!(ann.phone, "");
    assert!(ann.names.len() < 50);
    assert_eq!(ann.user.expect("with a summary").mail, "ann@mail.example");
}
