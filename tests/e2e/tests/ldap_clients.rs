//! Real clients and real directories with the gateway between them: OpenLDAP, Active Directory (Samba) and 389 Directory Server;
//! a session of all operations octet by octet, the OpenLDAP tools, python-ldap and ldap3. Whoever is exempt sees no difference, but
//! those that a rule demands (FL-12, docs/operating/ldap-differences.md).

#[path = "ldap_clients/clients.rs"]
mod clients;
#[path = "ldap_clients/parts.rs"]
mod parts;
#[path = "ldap_clients/requests.rs"]
mod requests;
#[path = "ldap_clients/session.rs"]
mod session;

use anyhow::{Context, Result, ensure};
use clients::{keep, places, script, the_same, tool, tools};
use e2e::{Application, Before, Make, Pocket, Secrets, code_of, say, story};
use lab::{COMPANY_BASE, Pki, Slapd, SlapdOptions, Standalone, company_settings, password_of, run};
use ldap_wire::{LdapResult, MessageId, Op, ResultCode, extended::ExtendedResponse, oid};
use requests::{SUBTREE, extended, search, sync};
use session::{Differences, Report, Session};
use std::{net::Ipv4Addr, process::Command, time::Duration};

/// What differs, and the rule that demands it.
const DIFFERENCES: Differences = Differences(&[
    ("search before a bind", "L-10"),
    ("who am I before a bind", "L-10"),
    ("bind with a wrong password", "L-40"),
    ("bind without a password", "L-10"),
    ("bind of nobody's name", "L-41"),
    ("bind with a password and no name", "L-10"),
    ("bind with what is no DN", "B-48"),
    ("SASL bind, PLAIN", "L-36"),
    ("SASL bind, EXTERNAL", "L-36"),
    ("SASL bind, unknown", "L-36"),
    ("bind with an unknown critical control", "L-15"),
    ("search after it", "L-32"),
    ("search as nobody", "L-10"),
    ("root entry", "L-16"),
    ("root entry, types only", "L-16"),
    ("root entry that does not match", "L-16"),
    ("root entry, mechanisms", "L-16"),
    ("root entry, extensions", "L-16"),
    ("proxied authorization, critical true", "L-15"),
    ("proxied authorization, critical false", "L-15"),
    ("proxied authorization of the draft, critical true", "L-15"),
    ("proxied authorization of the draft, critical false", "L-15"),
    ("search at a referral", "L-17"),
    ("search below a referral", "L-17"),
    ("compare at a referral", "L-17"),
    ("modify at a referral", "L-17"),
    ("add below a referral", "L-17"),
    ("rename at a referral", "L-17"),
    ("delete at a referral", "L-17"),
    ("extended, unknown", "L-14"),
    ("cancel of what is not there", "L-14"),
    ("cancel without a value", "L-14"),
    ("transaction begun", "L-14"),
    ("fast bind", "L-14"),
    ("StartTLS within TLS", "L-08"),
    ("filter of an unknown kind", "L-19"),
]);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_openldap() -> Result<()> {
    clients(Make::Slapd).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_active_directory() -> Result<()> {
    clients(Make::Samba).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_389_directory_server() -> Result<()> {
    clients(Make::Ds389).await
}

async fn clients(make: Make) -> Result<()> {
    let mut world = Before::start(make)?;
    let world = &mut world;
    story!(world;
        a_session_of_all_operations_is_the_same_octet_by_octet,
        the_openldap_tools_tell_the_same,
        python_ldap_and_ldap3_tell_the_same,
        a_service_account_searches_and_the_person_binds_with_a_code,
        a_wrong_password_and_a_used_code_read_the_same_to_the_tools,
        a_phone_approves_what_a_tool_asks,
        no_password_was_written_down,
    )
}

#[test]
fn operators_can_read_what_differs() -> Result<()> {
    let page = std::fs::read_to_string(lab::repository().join("docs/operating/ldap-differences.md"))?;
    for (what, rule) in DIFFERENCES.0 {
        let rules = page.lines().filter_map(|line| line.trim_end_matches('|').rsplit_once('|')).map(|(_, rules)| rules);
        let named = rules.flat_map(|rules| rules.split(',')).any(|named| named.trim() == *rule);
        ensure!(named, "{what}: {rule} is not in docs/operating/ldap-differences.md");
    }
    Ok(())
}

/// Each part on a connection of its own, first with the directory itself.
macro_rules! compare {
    ($world:expr, $report:expr; $($part:ident),+ $(,)?) => {$(
        let begin = std::time::Instant::now();
        let mut direct = Session::direct($world).await?;
        let told = parts::$part(&mut direct).await;
        let mut through = Session::through($world).await?;
        let told_through = parts::$part(&mut through).await;
        $report.compare(stringify!($part), direct, through);
        $report.failed(concat!(stringify!($part), ", directly"), told);
        $report.failed(concat!(stringify!($part), ", through the gateway"), told_through);
        say(&format!("     {} ({:.1} s)", stringify!($part), begin.elapsed().as_secs_f32()));
    )+};
}

async fn a_session_of_all_operations_is_the_same_octet_by_octet(world: &mut Before) -> Result<()> {
    // FL-12
    let world = &*world;
    let mut report = Report::new(world.upstream.make, DIFFERENCES);
    compare!(world, report;
        binds,
        root_and_schema,
        searches,
        filters,
        selections,
        pages,
        order,
        controls,
        referrals,
        writes,
        passwords,
        a_large_photo,
        extended_operations,
        limits,
        synchronisation,
        abandoned,
        cancelled,
        many_at_once,
        everybody,
        farewell,
    );
    say(&format!("     {} messages compared", report.messages));
    report.finish()
}

async fn the_openldap_tools_tell_the_same(world: &mut Before) -> Result<()> {
    // FL-12
    for (way, direct, through) in places(world) {
        let (direct, through) = (tools(world, &direct)?, tools(world, &through)?);
        keep(world, &format!("tools {way}"), &direct)?;
        the_same(&format!("the tools by {way}"), &direct, &through)?;
    }
    Ok(())
}

async fn python_ldap_and_ldap3_tell_the_same(world: &mut Before) -> Result<()> {
    // FL-12
    let class = if world.upstream.make == Make::Samba { "user" } else { "inetOrgPerson" };
    for (way, direct, through) in places(world) {
        for name in ["with_python_ldap.py", "with_ldap3.py"] {
            let told = |place| script(world, name, place, "session", class, None);
            let (direct, through) = (told(&direct)?, told(&through)?);
            keep(world, &format!("{name} {way}"), &direct)?;
            the_same(&format!("{name} by {way}"), &direct, &through)?;
        }
    }
    Ok(())
}

async fn a_service_account_searches_and_the_person_binds_with_a_code(world: &mut Before) -> Result<()> {
    // L-22, L-50, V-11: on a connection of its own, and on the very one that searched, where the code has been used
    let [person, ..] = world.upstream.people();
    let enrolled = world.command_line().enrol(person)?;
    let filter = format!("({}={person})", world.upstream.naming());
    let [(_, _, start_tls), (_, directly, ldaps)] = places(world);
    for (name, place, offset, once, again) in [
        ("with_python_ldap.py", &start_tls, 0, "login 97", "login again ('INVALID_CREDENTIALS', 49, None)"),
        ("with_ldap3.py", &ldaps, 1, "login 0  bindResponse", "login again 49  bindResponse"),
    ] {
        let told = script(world, name, place, "login", &filter, Some(&enrolled.appended(offset)?))?;
        ensure!(told == format!("{once}\n{again}\n"), "{name}: {told}");
        let told = script(world, name, &directly, "login", &filter, Some(&password_of(person)))?;
        ensure!(told == format!("{once}\n{}\n", once.replace("login", "login again")), "{name}, directly: {told}");
    }
    Ok(())
}

async fn a_wrong_password_and_a_used_code_read_the_same_to_the_tools(world: &mut Before) -> Result<()> {
    // L-40
    let [_, person, _] = world.upstream.people();
    let enrolled = world.command_line().enrol(person)?;
    let dn = world.upstream.dn_of(person, "engineering");
    let [(_, _, start_tls), (_, _, ldaps)] = places(world);
    let login = |place, password: &str| {
        tool("ldapsearch", place, (&dn, password), &["-LLL", "-s", "base", "-b", &dn, "cn"], "")
    };
    let good = enrolled.appended(0)?;
    let first = login(&start_tls, &good)?;
    ensure!(first.status.success() && String::from_utf8_lossy(&first.stdout).contains("cn:"), "{first:?}");
    ensure!(login(&ldaps, &enrolled.appended(1)?)?.status.success());
    let model = login(&ldaps, "nonsense")?;
    ensure!(model.status.code() == Some(49), "{model:?}");
    for (what, password) in [
        ("a used code", good),
        ("a wrong code", format!("{},{}", password_of(person), enrolled.wrong_code()?)),
        ("no code", password_of(person)),
    ] {
        let refused = login(&ldaps, &password)?;
        ensure!(refused == model, "{what}: {refused:?} instead of {model:?}");
    }
    Ok(())
}

async fn a_phone_approves_what_a_tool_asks(world: &mut Before) -> Result<()> {
    // One make is enough: what waits is the gateway.
    if world.upstream.make != Make::Ds389 {
        return Ok(());
    }
    service_kit::tls::install_provider();
    let http = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build()?;
    let [_, _, person] = world.upstream.people();
    let mut pocket = Pocket::connect(world.command_line(), &world.twinlock.portal_url(), &http, person).await?;
    let dn = world.upstream.dn_of(person, "engineering");
    let [(_, _, place), _] = places(world);
    let asks = {
        let dn = dn.clone();
        tokio::task::spawn_blocking(move || tool("ldapwhoami", &place, (&dn, &password_of(person)), &[], ""))
    };
    let shown = pocket.shown(Duration::from_secs(15)).await?;
    ensure!(pocket.approve(&shown).await?, "nobody wants to know");
    let told = asks.await??;
    ensure!(String::from_utf8_lossy(&told.stdout).to_lowercase().contains(&dn), "{told:?}");
    Ok(())
}

async fn no_password_was_written_down(world: &mut Before) -> Result<()> {
    // T-09
    let mut secrets = Secrets::default();
    for uid in world.upstream.people() {
        secrets.add(uid, password_of(uid).as_bytes());
    }
    secrets.add("the manager", world.upstream.manager.1.as_bytes());
    secrets.were_not_written_by(&world.twinlock)
}

const TWO_SERVERS: &str = r#"
[[client]]
name = "applications"
protocol = "ldap"
sources = ["127.0.0.2/32"]
target = "acme"
service_accounts = [{ name = "cn=gitlab,ou=service,dc=acme,dc=example" }]
"#;
const APPLICATION: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l_19_a_server_that_dies_ends_its_sessions_and_the_next_bind_goes_to_the_other() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("pki"))?;
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let mut one = Slapd::start(&first, &pki, &SlapdOptions::default())?;
    let mut other = Slapd::start(&second, &pki, &SlapdOptions::default())?;
    // One directory: every entry has the same id on both.
    one.stop();
    other.stop();
    run(Command::new("cp").arg("-a").arg(first.join("slapd/db")).arg(second.join("slapd")))?;
    one.restart()?;
    other.restart()?;
    let twinlock = Standalone::start(dir.path(), "")?;
    // By StartTLS, as the client.
    let (only, both) =
        (format!("[\"{}\"]", one.ldap_url()), format!("[\"{}\", \"{}\"]", one.ldap_url(), other.ldap_url()));
    let settings = company_settings(&one, TWO_SERVERS)?.replace(&only, &both);
    ensure!(settings.contains(&both));
    twinlock.command_line.apply(dir.path(), &settings)?;
    twinlock.command_line.run(&["sync", "now"])?;
    let (url, certificate) = (twinlock.ldap_url(), twinlock.certificate_file());
    let connect = || Application::connect_start_tls(&url, APPLICATION.into(), &certificate);

    let mut session = connect().await?;
    let bound = session.bind(1, Slapd::GITLAB_DN, Slapd::GITLAB_PASSWORD).await?;
    ensure!(code_of(&bound)? == 0 && one.binds("cn=gitlab") == 1 && other.binds("cn=gitlab") == 0);
    // One operation that has said something, two that a frozen server does not answer any more.
    let people = format!("ou=people,{COMPANY_BASE}");
    session.send(&search(&people, SUBTREE, "(sn=Archer)", &["1.1"])?.with(sync(true, None)).encode(2)).await?;
    while session.receive().await?.context("closed")?.op() != Op::IntermediateResponse {}
    one.process().context("it runs")?.signal("STOP");
    session.send(&search(&people, SUBTREE, "(cn=*)", &["1.1"])?.encode(3)).await?;
    session.send(&extended(oid::WHO_AM_I, None).encode(4)).await?;
    one.process().context("it runs")?.signal("KILL");
    for (id, op) in [(2, Op::SearchResultDone), (3, Op::SearchResultDone), (4, Op::ExtendedResponse)] {
        let mut lost = session.receive().await?.context("closed without a word")?;
        // What the server had said before it was frozen.
        while lost.op() == Op::SearchResultEntry {
            lost = session.receive().await?.context("closed without a word")?;
        }
        let result = LdapResult::decode(&lost)?;
        ensure!((lost.id().get(), lost.op()) == (id, op), "{lost:?}");
        ensure!(result.code == ResultCode::UNAVAILABLE && result.diagnostic_text() == "upstream lost", "{result:?}");
    }
    let notice = session.receive().await?.context("closed without a notice")?;
    let said = ExtendedResponse::decode(&notice)?;
    ensure!(
        notice.id() == MessageId::UNSOLICITED && said.oid.as_deref() == Some(oid::NOTICE_OF_DISCONNECTION),
        "{said:?}"
    );
    ensure!(said.result.code == ResultCode::UNAVAILABLE);
    ensure!(session.receive().await?.is_none(), "more after the notice");

    let mut session = connect().await?;
    let bound = session.bind(1, Slapd::GITLAB_DN, Slapd::GITLAB_PASSWORD).await?;
    ensure!(code_of(&bound)? == 0 && other.binds("cn=gitlab") == 1, "the next bind does not go to the other");
    session.send(&search(&people, SUBTREE, "(sn=Archer)", &["cn"])?.encode(2)).await?;
    ensure!(session.receive().await?.is_some_and(|entry| entry.op() == Op::SearchResultEntry));
    Ok(())
}
