//! Binds against a real slapd: who gets in, what everybody else hears, and how many binds the directory saw.

use crate::support::{Call, Lab, Misbehaviour, Wanted, capture, client, comparable, service_account, until};
use anyhow::Result;
use bytes::Bytes;
use domain::settings::{Appended, ClientTls};
use lab::{COMPANY_BASE, Slapd, password_of, wait_until};
use ldap_wire::{Authentication, BindRequest, Control, LdapResult, Message, Password, ResultCode, Scope, oid};
use proto::user_store::{PasswordOutcome, PasswordTry};
use std::process::Command;
use std::time::{Duration, Instant};

const ANN: &str = "ann.archer";

async fn lab() -> Result<Lab> {
    let lab = Lab::start(Wanted::default()).await?;
    lab.gateway.verification.enrol(ANN, &["111111", "222222", "333333", "444444", "555555", "666666"]);
    Ok(lab)
}

fn with_code(code: &str) -> String {
    format!("{},{code}", password_of(ANN))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_a_name_becomes_one_bind_with_the_resolved_dn() -> Result<()> {
    // L-20, L-21, L-34, B-61
    let lab = lab().await?;
    let names = [
        lab.person(ANN),
        lab.person(ANN).to_uppercase().replace("ANN.ARCHER", "ann.archer"),
        lab.person(ANN).replace(',', " , ").replace('=', " = "),
        ANN.to_owned(),
        format!("ACME\\{ANN}"),
        format!("{ANN}@acme.example"),
    ];
    for (place, name) in names.iter().enumerate() {
        let code = ["111111", "222222", "333333", "444444", "555555", "666666"][place];
        let mut wire = lab.connect().await?;
        assert_eq!(wire.bind(name, &with_code(code)).await?, 0, "{name}");
        assert_eq!(lab.slapd.binds(&lab.person(ANN)), place + 1, "{name}");
        let me = wire.who_am_i().await?;
        assert_eq!(me.map_err(|code| format!("{code} for {name}")), Ok(format!("dn:{}", lab.person(ANN))));
    }
    // The directory has seen the DN as it stores it, and nothing else.
    let log = lab.slapd.log();
    let binds = log.lines().filter(|line| line.contains("BIND dn=") && line.contains("method="));
    let mut others = binds.filter(|line| !line.contains(&lab.person(ANN)) && !line.contains(Slapd::QUERY_DN));
    assert_eq!(others.next(), None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_counts_in_the_forms_that_the_client_lists_and_a_service_account_in_any() -> Result<()> {
    // R-60, L-22: whose form is not listed hears the usual No, without a bind
    use domain::NameForm::{Bare, UserPrincipalName};
    let listed = domain::settings::Client {
        name_forms: vec![Bare, UserPrincipalName],
        service_accounts: vec![service_account(Slapd::GITLAB_DN)],
        ..client("forms")
    };
    let lab = Lab::start(Wanted { client: listed, ..Wanted::default() }).await?;
    lab.gateway.verification.enrol(ANN, &["111111", "222222"]);
    let person = lab.person(ANN);
    for name in [person.clone(), format!("ACME\\{ANN}"), "nobody.at.all".to_owned()] {
        assert_eq!(lab.connect().await?.bind(&name, &with_code("111111")).await?, 49, "{name}");
    }
    assert_eq!(lab.slapd.binds(&person), 0);
    assert_eq!(lab.connect().await?.bind(ANN, &with_code("111111")).await?, 0);
    assert_eq!(lab.connect().await?.bind(&format!("{ANN}@acme.example"), &with_code("222222")).await?, 0);
    until("the id to be kept", || !lab.gateway.settings.pinned().is_empty()).await?;
    assert_eq!(lab.connect().await?.bind(Slapd::GITLAB_DN, Slapd::GITLAB_PASSWORD).await?, 0);
    until("all lines", || capture::authentications("forms").len() >= 6).await?;
    let lines = capture::authentications("forms");
    let reasons: Vec<_> = lines.iter().take(3).map(|line| line["reason"].as_str().unwrap_or("-")).collect();
    assert_eq!(reasons, ["protocol_unsupported", "protocol_unsupported", "unknown_user"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_no_is_the_same_octets_and_costs_at_most_one_bind() -> Result<()> {
    // L-34, L-40, L-41, L-52, B5, V-14
    let lab = lab().await?;
    let person = lab.person(ANN);
    assert_eq!(lab.connect().await?.bind(&person, &with_code("111111")).await?, 0);
    let nobody = lab.person("nobody.here");
    // Name, password, binds of this person that the directory sees.
    let right = password_of(ANN);
    let cases: Vec<(&str, &str, String, usize)> = vec![
        ("wrong code", &person, format!("{right},999999"), 1),
        ("reused code", &person, with_code("111111"), 1),
        ("wrong password", &person, "wrong,222222".into(), 1),
        ("missing code", &person, right.clone(), 0),
        ("code of another length", &person, format!("{right},2222222"), 0),
        ("code without a password", &person, ",222222".into(), 0),
        ("unknown DN", &nobody, with_code("222222"), 0),
        ("unknown name", "nobody.here", with_code("222222"), 0),
        ("foreign domain", "OTHER\\ann.archer", with_code("222222"), 0),
    ];
    let mut answers: Vec<(&str, Bytes)> = Vec::new();
    for (what, name, password, binds) in cases {
        let before = lab.client_binds();
        let mut wire = lab.connect().await?;
        let answer = wire.bind_answer(name, &password).await?;
        assert_eq!(lab.client_binds() - before, binds, "{what}");
        assert_eq!(LdapResult::decode(&answer)?.code, ResultCode::INVALID_CREDENTIALS, "{what}");
        answers.push((what, comparable(&answer)));
        // Whoever was refused is nobody: no operation reaches the directory.
        assert_eq!(wire.search_code(COMPANY_BASE, Scope::Base).await?.0, 50, "{what}");
    }
    for reason in ["locked_out", "not_enrolled", "blocked", "no_usable_method", "client_not_allowed", "provider_error"]
    {
        lab.gateway.verification.misbehave(Misbehaviour::Deny(reason));
        let answer = lab.connect().await?.bind_answer(&person, &with_code("222222")).await?;
        answers.push((reason, comparable(&answer)));
    }
    let (_, first) = answers.first().expect("there are some").clone();
    for (what, answer) in &answers {
        assert_eq!(answer, &first, "{what}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_for_the_password_policy_hears_the_same_for_every_no() -> Result<()> {
    // L-40: no control tells a second-factor No from a wrong password
    let lab = lab().await?;
    let policy = [Control::new(oid::PASSWORD_POLICY, false, None)];
    let mut answers = Vec::new();
    for (name, password) in
        [(ANN, "wrong,999999".to_owned()), (ANN, with_code("999999")), ("nobody", "x,999999".into())]
    {
        let mut wire = lab.connect().await?;
        wire.send_bind(name, &password, &policy).await?;
        answers.push(comparable(&wire.receive().await?));
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    let policy = Message::parse(answers[0].clone())?.controls()?;
    assert_eq!(policy.iter().map(|control| control.oid.as_str()).collect::<Vec<_>>(), [oid::PASSWORD_POLICY]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_proves_nothing_reaches_no_directory() -> Result<()> {
    // L-07, L-09, L-10, L-36, B-47, B-48, B-49
    let lab = lab().await?;
    let person = lab.person(ANN);
    let before = lab.client_binds();
    let mut wire = lab.connect().await?;
    for (what, name, password, code) in [
        ("empty password", person.as_str(), "", 53),
        ("empty password, bare name", ANN, "", 53),
        ("password without a name", "", "secret", 49),
        ("broken DN", "uid=ann,,ou=people", "secret", 34),
        ("nobody", "", "", 0),
    ] {
        assert_eq!(wire.bind(name, password).await?, code, "{what}");
    }
    for (version, authentication, code) in [
        (2, Authentication::Simple(Password::new("secret")), 2),
        (127, Authentication::Simple(Password::new("secret")), 2),
        (3, Authentication::Sasl { mechanism: String::new(), credentials: None }, 7),
        (3, Authentication::Sasl { mechanism: "PLAIN".into(), credentials: Some(Password::new("\0a\0b")) }, 7),
        (3, Authentication::Sasl { mechanism: "GSSAPI".into(), credentials: None }, 7),
        (3, Authentication::Other { tag: 0x89 }, 7),
    ] {
        let id = wire.next_id();
        let request = BindRequest { version, name: person.clone().into(), authentication };
        wire.send(&request.encode(id, &[])).await?;
        assert_eq!(LdapResult::decode(&wire.receive().await?)?.code.0, code, "version {version}");
    }
    // Clear text: even a right password is refused, and nobody is asked about it.
    let mut wire = lab.gateway.connect_plain().await?;
    assert_eq!(wire.bind(&person, &with_code("222222")).await?, 13);
    assert_eq!(wire.bind(&person, "").await?, 53);
    assert_eq!(lab.client_binds(), before);
    let asked = |call: &Call| !matches!(call, Call::Report { .. });
    assert!(!lab.gateway.verification.calls().iter().any(asked));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_danger_key_may_send_clear_text() -> Result<()> {
    let wanted = Wanted {
        client: domain::settings::Client { tls: ClientTls::DangerOptional, ..client("old") },
        ..Wanted::default()
    };
    let lab = Lab::start(wanted).await?;
    lab.gateway.verification.enrol(ANN, &["111111"]);
    let mut wire = lab.gateway.connect_plain().await?;
    assert_eq!(wire.bind(ANN, &with_code("111111")).await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_a_decisive_allow_for_this_attempt_lets_anybody_in() -> Result<()> {
    // V-02, L-33, D7, FL-21: 52, and for hosts that cache passwords the same 49 as every No
    let lab = lab().await?;
    let wrong_password = comparable(&lab.connect().await?.bind_answer(ANN, "wrong,123456").await?);
    for code in [52, 49] {
        lab.gateway.change_settings(|settings| settings.clients[0].unavailable_code = code).await?;
        for fault in [
            Misbehaviour::Unavailable,
            Misbehaviour::ForeignTransaction,
            Misbehaviour::ForeignClient,
            Misbehaviour::Expired,
            Misbehaviour::Empty,
            Misbehaviour::Ask,
            Misbehaviour::Deny("store_unavailable"),
            Misbehaviour::Deny("valid_code"),
            Misbehaviour::Deny("no_such_reason"),
        ] {
            lab.gateway.verification.misbehave(fault.clone());
            let mut wire = lab.connect().await?;
            let answer = wire.bind_answer(ANN, &with_code("222222")).await?;
            assert_eq!(LdapResult::decode(&answer)?.code.0, u32::from(code), "{fault:?}");
            if code == 49 {
                assert_eq!(comparable(&answer), wrong_password, "{fault:?}");
            }
            assert_eq!(wire.search_code(COMPANY_BASE, Scope::Base).await?.0, 50, "{fault:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_may_be_there_is_spent_before_the_one_bind() -> Result<()> {
    // L-52 b, L-53, L-54
    let optional = domain::settings::Client { appended: Appended::Optional, ..client("optional") };
    let lab = Lab::start(Wanted { client: optional, ..Wanted::default() }).await?;
    let verification = &lab.gateway.verification;
    verification.enrol(ANN, &["111111", "222222"]);
    let binds = || lab.slapd.binds(ANN);
    // What is reported of an attempt is on its way while the next one is made.
    let asked =
        || verification.calls().into_iter().filter(|call| !matches!(call, Call::Report { .. })).collect::<Vec<_>>();
    let begin = |passed, code| Call::Begin {
        username: ANN.into(),
        passed,
        code,
        service_account: false,
        client: "optional".into(),
    };

    assert_eq!(lab.connect().await?.bind(ANN, &with_code("111111")).await?, 0);
    assert_eq!(binds(), 1);
    assert_eq!(asked(), [Call::Forms("optional".into()), begin(false, true), Call::Complete(ANN.into())]);

    // The code was right, the password is not: the code stays spent.
    assert_eq!(lab.connect().await?.bind(ANN, "wrong,222222").await?, 49);
    assert_eq!(binds(), 2);
    assert_eq!(lab.connect().await?.bind(ANN, &with_code("222222")).await?, 49);
    assert_eq!(binds(), 3);

    // No code that counts: all of it is the password, one bind with the whole.
    verification.forget_calls();
    assert_eq!(lab.connect().await?.bind(ANN, &with_code("999999")).await?, 49);
    assert_eq!(binds(), 4);
    let calls = asked();
    assert_eq!(calls.iter().take(2).collect::<Vec<_>>(), [&Call::Forms("optional".into()), &begin(false, true)]);
    assert!(!calls.contains(&begin(true, false)), "the whole is not the password: {calls:?}");

    // The password alone: one bind, then the decision without a code.
    verification.forget_calls();
    assert_eq!(lab.connect().await?.bind(ANN, &password_of(ANN)).await?, 49);
    assert_eq!(binds(), 5);
    assert_eq!(asked(), [Call::Forms("optional".into()), begin(true, false)]);

    // An Allow before the password is none.
    verification.misbehave(Misbehaviour::AllowTooEarly);
    assert_eq!(lab.connect().await?.bind(ANN, "wrong,333333").await?, 52);
    assert_eq!(binds(), 5);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_is_known_by_its_id_and_its_place() -> Result<()> {
    // L-22, L-23
    let listed = domain::settings::Client {
        service_accounts: vec![service_account(Slapd::GITLAB_DN)],
        anonymous: domain::settings::Anonymous::Forward,
        ..client("svc")
    };
    let lab = Lab::start(Wanted { client: listed, ..Wanted::default() }).await?;
    let pinned = || lab.gateway.settings.pinned();
    until("the id to be kept", || !pinned().is_empty()).await?;
    assert_eq!(pinned(), [("svc".to_owned(), Slapd::GITLAB_DN.to_owned())]);
    let mut wire = lab.connect().await?;
    let search = format!("SRCH base=\"{}\"", Slapd::GITLAB_DN);
    let searches = || lab.slapd.log().lines().filter(|line| line.contains(&search)).count();
    let before = searches();
    assert_eq!(wire.bind(Slapd::GITLAB_DN, Slapd::GITLAB_PASSWORD).await?, 0);
    assert_eq!(searches() - before, 1, "by the DN that is listed it is not looked for among people first");
    assert_eq!(wire.who_am_i().await?, Ok(format!("dn:{}", Slapd::GITLAB_DN)));
    let said = |call: &Call| matches!(call, Call::Begin { service_account: true, code: false, passed: true, .. });
    assert!(lab.gateway.verification.calls().iter().any(said));
    assert_eq!(wire.bind(Slapd::GITLAB_DN, "wrong").await?, 49);

    // Listed for another place, or under the name of an entry that has another id now: no exemption, and no bind.
    let binds = lab.slapd.binds(Slapd::GITLAB_DN);
    let mut bound = lab.connect().await?;
    assert_eq!(bound.bind(Slapd::GITLAB_DN, Slapd::GITLAB_PASSWORD).await?, 0);
    let binds = binds + 1;
    let re_created = Some("entryUUID:00000000-0000-4000-8000-000000000000".parse::<domain::ObjectId>()?);
    for (id, source) in [(None, "127.0.0.7/32"), (re_created, "127.0.0.1/32")] {
        let source = source.parse()?;
        lab.gateway
            .change_settings(move |settings| {
                let account = &mut settings.clients[0].service_accounts[0];
                account.id = id.or(account.id.take());
                account.sources = vec![source];
            })
            .await?;
        let mut wire = lab.connect().await?;
        assert_eq!(wire.bind(Slapd::GITLAB_DN, Slapd::GITLAB_PASSWORD).await?, 49);
    }
    // Whoever is bound as an account that is not listed any more has to go.
    bound.send(&ldap_wire::ExtendedRequest::who_am_i().encode(ldap_wire::MessageId::MAX, &[])).await?;
    bound.expect_notice(52).await?;
    assert_eq!(lab.slapd.binds(Slapd::GITLAB_DN), binds);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn real_clients_log_in_by_dn_and_by_bare_name() -> Result<()> {
    // FL-12: the first demand, with OpenLDAP's own tools, over LDAPS and StartTLS
    let lab = lab().await?;
    let tool = |program: &str, url: &str, start_tls: bool, name: &str, password: &str| {
        let mut command = Command::new(lab::program(program).expect("ldap-utils is installed"));
        command.env("LDAPTLS_CACERT", lab.pki.ca_file()).args(["-x", "-N", "-H", url, "-D", name, "-w", password]);
        if start_tls {
            command.arg("-ZZ");
        }
        command
    };
    let (ldaps, plain) = (lab.gateway.ldaps_url(), lab.gateway.plain_url());
    let output = async |mut command: Command| -> Result<std::process::Output> {
        Ok(tokio::task::spawn_blocking(move || command.output()).await??)
    };
    let me = format!("dn:{}\n", lab.person(ANN));
    let seen = output(tool("ldapwhoami", &ldaps, false, &lab.person(ANN), &with_code("111111"))).await?;
    assert_eq!(String::from_utf8_lossy(&seen.stdout), me, "{seen:?}");
    let seen = output(tool("ldapwhoami", &plain, true, ANN, &with_code("222222"))).await?;
    assert_eq!(String::from_utf8_lossy(&seen.stdout), me, "{seen:?}");
    for (name, password) in [(ANN, with_code("222222")), (ANN, password_of(ANN)), ("nobody", with_code("333333"))] {
        let seen = output(tool("ldapwhoami", &plain, true, name, &password)).await?;
        assert_eq!(seen.status.code(), Some(49), "{seen:?}");
    }
    // Without TLS the tool is told to use it.
    let seen = output(tool("ldapwhoami", &plain, false, ANN, &with_code("333333"))).await?;
    assert_eq!(seen.status.code(), Some(13), "{seen:?}");

    let search = |url: &str, password: &str| {
        let mut command = tool("ldapsearch", url, false, &lab.person(ANN), password);
        command.args(["-b", COMPANY_BASE, "(objectClass=inetOrgPerson)", "*", "+"]);
        command
    };
    let direct = output(search(&lab.slapd.ldaps_url(), &password_of(ANN))).await?;
    let through = output(search(&ldaps, &with_code("333333"))).await?;
    assert!(direct.status.success() && through.status.success(), "{through:?}");
    assert!(direct.stdout.len() > 50_000);
    assert_eq!(direct.stdout, through.stdout);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_attempt_has_one_line_and_no_line_has_a_secret() -> Result<()> {
    // V-34
    let lab = Lab::start(Wanted { client: client("one-line"), ..Wanted::default() }).await?;
    lab.gateway.verification.enrol(ANN, &["718293"]);
    let secret = "Canary-91b7-wrong";
    for (name, password, code) in [
        (ANN, with_code("718293"), 0),
        (ANN, with_code("718293"), 49),
        (ANN, format!("{secret},827364"), 49),
        ("nobody.at.all", with_code("827364"), 49),
        (ANN, String::new(), 53),
    ] {
        assert_eq!(lab.connect().await?.bind(name, &password).await?, code);
    }
    assert_eq!(lab.connect().await?.bind("", "").await?, 0, "nobody is no attempt");
    until("five lines", || capture::authentications("one-line").len() >= 5).await?;
    let lines = capture::authentications("one-line");
    let said = |key: &str| lines.iter().map(|line| line[key].as_str().unwrap_or("-").to_owned()).collect::<Vec<_>>();
    assert_eq!(said("reason"), ["valid_code", "reused_code", "bad_password", "unknown_user", "empty_password"]);
    assert_eq!(said("result"), ["success", "failed", "failed", "failed", "failed"]);
    assert_eq!(said("user"), [ANN, ANN, ANN, "-", "-"]);
    assert_eq!(said("first.result"), ["ok", "ok", "bad_password", "-", "-"]);
    assert_eq!(lines[0]["reply"], 0);
    assert_eq!(lines[0]["name_form"], "bare");
    let reported = || {
        let calls = lab.gateway.verification.calls();
        calls.into_iter().filter(|call| matches!(call, Call::Report { .. })).collect::<Vec<_>>()
    };
    until("three reports", || reported().len() == 3).await?;
    let log = capture::text();
    for secret in [secret, "Sesame-ann", "718293", "827364", Slapd::QUERY_PASSWORD] {
        assert!(!log.contains(secret), "{secret} was logged");
        let octets = secret.bytes().map(|octet| octet.to_string()).collect::<Vec<_>>().join(", ");
        assert!(!log.contains(&octets), "the octets of {secret} were logged");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_directory_is_unavailable_and_serves_again_when_it_is_back() -> Result<()> {
    let mut lab = lab().await?;
    assert_eq!(lab.connect().await?.bind(ANN, &with_code("111111")).await?, 0);
    lab.slapd.stop();
    let code = lab.connect().await?.bind(ANN, &with_code("222222")).await?;
    assert_eq!(code, 52);
    lab.slapd.restart()?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while lab.connect().await?.bind(ANN, &with_code("333333")).await? != 0 {
        assert!(Instant::now() < deadline, "the directory is back, the gateway is not");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_wrong_password_again_costs_no_second_try_at_the_directory() -> Result<()> {
    // FB-02: applications repeat themselves
    let lab = lab().await?;
    let mut answers = Vec::new();
    for (password, binds) in
        [("Nonsense,111111", 1), ("Nonsense,111111", 1), ("Nonsense,222222", 1), ("Other,111111", 2)]
    {
        let answer = lab.connect().await?.bind_answer(ANN, password).await?;
        assert_eq!(lab.client_binds(), binds, "{password}");
        answers.push(comparable(&answer));
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    assert_eq!(lab.connect().await?.bind(ANN, &with_code("111111")).await?, 0, "the right one is another");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bind_with_a_critical_control_that_the_directory_does_not_know_hears_12() -> Result<()> {
    // L-15, B-56
    let lab = lab().await?;
    for (critical, code) in [(true, 12), (false, 0)] {
        let mut wire = lab.connect().await?;
        wire.send_bind(ANN, &with_code("111111"), &[Control::new("1.2.3.4.5", critical, None)]).await?;
        assert_eq!(LdapResult::decode(&wire.receive().await?)?.code.0, code);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_might_lock_the_account_does_not_reach_the_directory() -> Result<()> {
    // L-56
    let lab = lab().await?;
    let tries = &lab.gateway.password_tries;
    let wrong = lab.connect().await?.bind_answer(ANN, "Nonsense,111111").await?;
    assert_eq!(lab.connect().await?.bind(ANN, &with_code("111111")).await?, 0);
    let told = [PasswordOutcome::Wrong, PasswordOutcome::Right];
    wait_until("what became of both", Duration::from_secs(5), || tries.settled() == told)?;
    let binds = lab.client_binds();
    for answer in [PasswordTry::Exhausted, PasswordTry::Busy] {
        tries.answers(answer);
        let refused = lab.connect().await?.bind_answer(ANN, &with_code("222222")).await?;
        assert_eq!(comparable(&refused), comparable(&wrong), "{answer:?}: as a wrong password");
    }
    tries.away(true);
    assert_eq!(lab.connect().await?.bind(ANN, &with_code("222222")).await?, 52, "nobody knows");
    assert_eq!((lab.client_binds(), tries.settled().len()), (binds, 2));
    Ok(())
}
