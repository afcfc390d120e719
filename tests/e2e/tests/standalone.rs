//! LDAP on one machine: `twinlock serve` on SQLite before a real OpenLDAP, as applications meet it.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use e2e::{Application, OneMachine, code_of, story};
use lab::{COMPANY_BASE, Person, Slapd, password_of, program, run};
use ldap_wire::{Control, Filter, PagedResults, ber};
use std::{
    net::{IpAddr, Ipv4Addr},
    process::Command,
};

/// Who asks from here may send passwords in clear text, so that every octet can be seen; gitlab's own account is exempt.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// The same client, but not the place gitlab's account may come from.
const NEXT_DOOR: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));

const SETTINGS: &str = r#"
[[client]]
name = "raw"
protocol = "ldap"
sources = ["127.0.0.2/32", "127.0.0.3/32"]
target = "acme"
appended = "required"
tls = "danger_optional"
service_accounts = [{ name = "cn=gitlab,ou=service,dc=acme,dc=example", sources = ["127.0.0.2/32"] }]
"#;

const REFUSED: u32 = 49;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_before_one_machine() -> Result<()> {
    let mut world = OneMachine::start(1000, SETTINGS, "", &[])?;
    story!(&mut world;
        a_right_code_opens_by_dn_and_by_bare_name_and_counts_once,
        every_no_reads_the_same_octet_by_octet,
        an_empty_password_is_unwilling_and_never_reaches_the_directory,
        one_bind_at_most_reaches_the_directory,
        a_thousand_entries_come_through_octet_by_octet,
        after_a_no_the_connection_is_nobody,
        without_tls_a_password_is_refused_unseen,
        ldapwhoami_and_the_command_line_say_the_same,
        a_service_account_is_exempt_by_id_and_source_only,
        the_doctor_names_what_somebody_has_to_look_at,
        a_code_used_before_a_restart_is_refused_after_it,
        the_audit_has_every_login_once_and_its_chain_is_whole,
    )
}

async fn a_right_code_opens_by_dn_and_by_bare_name_and_counts_once(world: &mut OneMachine) -> Result<()> {
    // L-20, L-33, V-11
    let ann = world.command_line().enrol("ann.archer")?;
    let now = ann.appended(0)?;
    ensure!(code(world, &ann.dn("engineering"), &now).await? == 0, "by DN");
    ensure!(code(world, &ann.dn("engineering"), &now).await? == REFUSED, "a second time");
    ensure!(code(world, "ann.archer", &now).await? == REFUSED, "a second time, under another name");
    let next = ann.appended(1)?;
    ensure!(code(world, "ann.archer", &next).await? == 0, "by bare name");
    ensure!(code(world, " UID = Ann.Archer , OU=Engineering,OU=People,DC=Acme,DC=Example", &next).await? == REFUSED);
    Ok(())
}

async fn every_no_reads_the_same_octet_by_octet(world: &mut OneMachine) -> Result<()> {
    // D7, L-40: wrong code, reused code, missing code, wrong password, nobody, not enrolled, disabled, throttled
    let clara = world.command_line().enrol("clara.osborn")?;
    let dn = clara.dn("finance");
    let good = clara.appended(0)?;
    ensure!(code(world, &dn, &good).await? == 0);
    let wrong = format!("{},{}", clara.password, clara.wrong_code()?);
    let wrong_password = format!("Nonsense,{}", clara.code(1)?);
    let david = world.command_line().enrol("david.baker")?;
    world.command_line().run(&["user", "disable", "david.baker", "--reason", "left"])?;
    let nobody = format!("uid=nobody,ou=people,{COMPANY_BASE}");
    let not_enrolled = format!("uid=felix.price,ou=sales,ou=people,{COMPANY_BASE}");
    let mut attempts = vec![
        ("wrong code", dn.clone(), wrong.clone()),
        ("reused code", dn.clone(), good),
        ("missing code", dn.clone(), clara.password.clone()),
        ("wrong password, right code", dn.clone(), wrong_password),
        ("wrong password and code", "clara.osborn".into(), "Nonsense,000000".into()),
        ("unknown DN", nobody, "x,123456".into()),
        ("unknown name", "nobody".into(), "x,123456".into()),
        ("not enrolled", not_enrolled, format!("{},123456", password_of("felix.price"))),
        ("disabled", david.dn("support"), david.appended(0)?),
    ];
    // V-14: where somebody never got in from, even the right code waits after five wrong ones.
    let rosa = world.command_line().enrol("rosa.vance")?;
    let wrong = format!("{},{}", rosa.password, rosa.wrong_code()?);
    attempts.extend((0..6).map(|_| ("one of many wrong codes", rosa.dn("sales"), wrong.clone())));
    attempts.push(("throttled", rosa.dn("sales"), rosa.appended(0)?));
    let mut answers = Vec::new();
    for (what, name, password) in &attempts {
        // Each on a connection of its own under the same message id, so that whole messages can be compared ...
        answers.push((*what, application(world).await?.bind(7, name, password).await?.octets().clone()));
    }
    let (_, model) = &answers[0];
    for (what, answer) in &answers {
        ensure!(answer == model, "{what} reads {answer:02x?}, not {model:02x?}");
    }
    // ... and under another: nothing but the id differs.
    let (_, name, password) = &attempts[0];
    let other = application(world).await?.bind(1_000_000, name, password).await?;
    let seven = ldap_wire::MessageId::new(7).context("an id")?;
    ensure!(other.with_id(seven) == *model, "another message id changes more than itself");
    ensure!(code_of(&other)? == REFUSED && other.controls()?.is_empty());
    Ok(())
}

async fn an_empty_password_is_unwilling_and_never_reaches_the_directory(world: &mut OneMachine) -> Result<()> {
    // L-10, B-48
    let emma = format!("uid=emma.irwin,ou=engineering,ou=people,{COMPANY_BASE}");
    let before = world.slapd.binds("");
    ensure!(code(world, &emma, "").await? == 53, "DN and empty password");
    ensure!(code(world, "emma.irwin", "").await? == 53, "bare name and empty password");
    ensure!(code(world, "", "Sesame,123456").await? == REFUSED, "empty DN and a password");
    ensure!(world.slapd.binds("") == before, "the directory saw a bind");
    Ok(())
}

async fn one_bind_at_most_reaches_the_directory(world: &mut OneMachine) -> Result<()> {
    // L-34, L-52 a, L-55
    let ida = world.command_line().enrol("ida.reed")?;
    let dn = ida.dn("engineering");
    let cases = [
        (ida.password.clone(), 0, "without a code there is nothing to try"),
        (format!("{},", ida.password), 0, "an empty code"),
        (format!("{},12345", ida.password), 0, "five digits"),
        (format!("Nonsense,{}", ida.code(0)?), 1, "a wrong password"),
        (format!("{},{}", ida.password, ida.wrong_code()?), 1, "a wrong code"),
        (ida.appended(0)?, 1, "the right thing"),
    ];
    for (password, binds, what) in cases {
        let before = world.slapd.binds(&ida.uid);
        code(world, &dn, &password).await?;
        let seen = world.slapd.binds(&ida.uid) - before;
        ensure!(seen == binds, "{what}: {seen} binds instead of {binds}");
    }
    Ok(())
}

async fn a_thousand_entries_come_through_octet_by_octet(world: &mut OneMachine) -> Result<()> {
    // L-06
    let greta = world.command_line().enrol("greta.cole")?;
    let mut through = application(world).await?;
    ensure!(code_of(&through.bind(1, &greta.dn("finance"), &greta.appended(0)?).await?)? == 0);
    let mut direct = Application::connect(&world.slapd.ldap_url(), HERE).await?;
    ensure!(code_of(&direct.bind(1, &greta.dn("finance"), &greta.password).await?)? == 0);

    let base = format!("ou=bulk,ou=people,{COMPANY_BASE}");
    let everybody = Filter::equal("objectClass", b"inetOrgPerson".to_vec());
    let paged = PagedResults { size: 300, cookie: Default::default() }.to_control(true);
    let sorted = Control::new("1.2.840.113556.1.4.473", true, Some(sort_by_cn_descending()));
    let searches = [
        ("all at once", everybody.clone(), vec![], 1000),
        ("the first page", everybody.clone(), vec![paged], 300),
        ("sorted by the server", everybody, vec![sorted], 1000),
        ("nothing found", Filter::equal("uid", b"nobody".to_vec()), vec![], 0),
        ("an unknown attribute", Filter::present("noSuchAttribute"), vec![], 0),
    ];
    for (id, (what, filter, controls, entries)) in (2..).zip(searches) {
        let ours = through.search(id, &base, &filter, &controls).await?;
        let theirs = direct.search(id, &base, &filter, &controls).await?;
        ensure!(theirs.len() == entries + 1, "{what}: slapd sends {} messages", theirs.len());
        ensure!(ours.len() == theirs.len(), "{what}: {} messages instead of {}", ours.len(), theirs.len());
        let differs = ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs);
        ensure!(differs.is_none(), "{what}: message {differs:?} differs");
    }
    let beyond = through.search(99, "dc=nowhere", &Filter::present("objectClass"), &[]).await?;
    ensure!(beyond == direct.search(99, "dc=nowhere", &Filter::present("objectClass"), &[]).await?, "no such object");
    Ok(())
}

async fn after_a_no_the_connection_is_nobody(world: &mut OneMachine) -> Result<()> {
    // L-32, B-51
    let karla = world.command_line().enrol("karla.keller")?;
    let mut connection = application(world).await?;
    ensure!(code_of(&connection.bind(1, &karla.dn("finance"), &karla.appended(0)?).await?)? == 0);
    let mine = Filter::equal("uid", b"karla.keller".to_vec());
    ensure!(connection.search(2, COMPANY_BASE, &mine, &[]).await?.len() == 2, "she finds herself");
    let wrong = format!("{},{}", karla.password, karla.wrong_code()?);
    ensure!(code_of(&connection.bind(3, &karla.dn("finance"), &wrong).await?)? == REFUSED);
    let found = connection.search(4, COMPANY_BASE, &mine, &[]).await?;
    ensure!(found.len() == 1, "{} messages after a refused bind", found.len());
    ensure!(code_of(&ldap_wire::Message::parse(found[0].clone())?)? != 0);
    Ok(())
}

async fn without_tls_a_password_is_refused_unseen(world: &mut OneMachine) -> Result<()> {
    // L-07: also a right one; the client at 127.0.0.1 has the default rule
    let leo = world.command_line().enrol("leo.stone")?;
    let before = world.slapd.binds(&leo.uid);
    let mut plain = Application::connect(&world.twinlock.ldap_url(), Ipv4Addr::LOCALHOST.into()).await?;
    ensure!(code_of(&plain.bind(1, &leo.dn("support"), &leo.appended(0)?).await?)? == 13);
    ensure!(world.slapd.binds(&leo.uid) == before);
    Ok(())
}

async fn ldapwhoami_and_the_command_line_say_the_same(world: &mut OneMachine) -> Result<()> {
    let mia = world.command_line().enrol("mia.eaton")?;
    let whoami = |url: &str, password: &str| -> Result<Command> {
        let mut command = Command::new(program("ldapwhoami")?);
        command.env("LDAPTLS_CACERT", world.twinlock.certificate_file()).args(["-x", "-H", url, "-D", "mia.eaton"]);
        command.args(["-w", password]);
        Ok(command)
    };
    let used = mia.appended(0)?;
    let output = run(whoami(&world.twinlock.ldaps_url(), &used)?.arg("-v"))?;
    ensure!(String::from_utf8_lossy(&output.stdout).contains(&mia.dn("engineering")), "by LDAPS: {output:?}");
    let refused = whoami(&world.twinlock.ldap_url(), &used)?.arg("-ZZ").output()?;
    ensure!(refused.status.code() == Some(49), "a used code by StartTLS: {refused:?}");
    let accepted = whoami(&world.twinlock.ldap_url(), &mia.appended(1)?)?.arg("-ZZ").output()?;
    ensure!(accepted.status.success(), "a fresh one by StartTLS: {accepted:?}");
    Ok(())
}

async fn a_service_account_is_exempt_by_id_and_source_only(world: &mut OneMachine) -> Result<()> {
    // L-22, L-23
    ensure!(code(world, Slapd::GITLAB_DN, Slapd::GITLAB_PASSWORD).await? == 0, "with its password alone");
    ensure!(code(world, Slapd::GITLAB_DN, "nonsense").await? == REFUSED, "with a wrong password");
    let mut next_door = Application::connect(&world.twinlock.ldap_url(), NEXT_DOOR).await?;
    let elsewhere = next_door.bind(1, Slapd::GITLAB_DN, Slapd::GITLAB_PASSWORD).await?;
    ensure!(code_of(&elsewhere)? == REFUSED, "from another place");

    // Renamed, it is still the same account ...
    let rename = format!("dn: {}\nchangetype: modrdn\nnewrdn: cn=gitlab-old\ndeleteoldrdn: 1\n", Slapd::GITLAB_DN);
    world.slapd.modify(&rename)?;
    let renamed = Slapd::GITLAB_DN.replacen("cn=gitlab", "cn=gitlab-old", 1);
    ensure!(code(world, &renamed, Slapd::GITLAB_PASSWORD).await? == 0, "under its new name");
    // ... and whoever gets the old name is somebody else.
    world.slapd.modify(&format!(
        "dn: {}\nchangetype: add\nobjectClass: applicationProcess\nobjectClass: simpleSecurityObject\ncn: gitlab\nuserPassword: {}\n",
        Slapd::GITLAB_DN,
        Slapd::GITLAB_PASSWORD
    ))?;
    ensure!(code(world, Slapd::GITLAB_DN, Slapd::GITLAB_PASSWORD).await? == REFUSED, "another under the old name");
    let events = world.command_line().audit()?;
    let exempt = events.iter().filter(|event| event["reason"] == "service_account").count();
    ensure!(exempt == 2, "{exempt} audit events of exempt binds");
    Ok(())
}

async fn the_doctor_names_what_somebody_has_to_look_at(world: &mut OneMachine) -> Result<()> {
    let codes = |world: &OneMachine| -> Result<Vec<String>> {
        let output = world.command_line().output(&["doctor"], "")?;
        ensure!(output.status.code() == Some(1), "{output:?}");
        let said: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let items = said["items"].as_array().context("a list")?.iter();
        Ok(items.map(|item| format!("{} {}", item["code"], item["about"]).replace('"', "")).collect())
    };
    let well = codes(world)?;
    // Passwords may cross the network, and nobody hears by mail. What can be reached is not told of.
    for expected in ["settings client.raw.tls", "no_mail mail"] {
        ensure!(well.iter().any(|found| found == expected), "no {expected} in {well:?}");
    }
    let down = |found: &[String]| found.iter().any(|it| it.starts_with("directory_unusable directory acme"));
    let reached = ["directory_unusable", "upstream_down", "process_silent", "process_not_ready", "certificate_expired"];
    ensure!(!well.iter().any(|found| reached.iter().any(|code| found.starts_with(code))), "{well:?}");
    world.slapd.stop();
    let ill = codes(world);
    world.slapd.restart()?;
    let ill = ill?;
    ensure!(down(&ill), "the directory is down: {ill:?}");
    Ok(())
}

async fn a_code_used_before_a_restart_is_refused_after_it(world: &mut OneMachine) -> Result<()> {
    // V-11, V-70: once ended in order, once by SIGKILL
    for (uid, kill) in [("noah.lang", false), ("olga.turner", true)] {
        let person = world.command_line().enrol(uid)?;
        let used = person.appended(0)?;
        ensure!(code(world, uid, &used).await? == 0);
        if kill {
            world.twinlock.process().context("it runs")?.kill();
        }
        world.twinlock.stop();
        let log = world.twinlock.log();
        let last = log.lines().last().unwrap_or_default();
        ensure!(kill || last.contains("process stopped"), "it did not end by itself: {last}");
        ensure!(!log.contains("tasks still running"), "something had to be waited for in vain");
        world.twinlock.restart()?;
        ensure!(code(world, uid, &used).await? == REFUSED, "{uid}: a used code opens after a restart");
        ensure!(code(world, uid, &person.appended(1)?).await? == 0, "{uid}: and a fresh one does not");
    }
    Ok(())
}

async fn the_audit_has_every_login_once_and_its_chain_is_whole(world: &mut OneMachine) -> Result<()> {
    // V-60, V-61
    let paul: Person = world.command_line().enrol("paul.fisher")?;
    ensure!(code(world, "paul.fisher", &paul.appended(0)?).await? == 0);
    let events = world.command_line().audit()?;
    let of_paul: Vec<_> =
        events.iter().filter(|event| event["user"] == "paul.fisher" && event["kind"] == "authentication").collect();
    ensure!(of_paul.len() == 1 && of_paul[0]["reason"] == "valid_code", "{of_paul:?}");
    world.command_line().run(&["audit", "verify"])?;
    let log = world.twinlock.log();
    let request_id = of_paul[0]["request_id"].as_str().context("a request id")?;
    let lines = log.lines().filter(|line| line.contains(request_id) && line.contains("\"event\":\"authentication\""));
    ensure!(lines.count() == 1, "not one log line of the attempt");
    Ok(())
}

async fn application(world: &OneMachine) -> Result<Application> {
    Application::connect(&world.twinlock.ldap_url(), HERE).await
}

/// The result code of one bind on a connection of its own.
async fn code(world: &OneMachine, name: &str, password: &str) -> Result<u32> {
    code_of(&application(world).await?.bind(1, name, password).await?)
}

/// RFC 2891 section 1.1: attributeType, orderingRule [0], reverseOrder [1].
fn sort_by_cn_descending() -> Bytes {
    let mut keys = ber::Writer::new();
    keys.nested(ber::SEQUENCE, |keys| {
        keys.nested(ber::SEQUENCE, |key| {
            key.octet_string(b"cn");
            key.octets(0x80, b"caseIgnoreOrderingMatch");
            key.octets(0x81, &[0xff]);
        });
    });
    keys.into_vec().into()
}
