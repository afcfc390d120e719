//! V-52 from end to end: a password that is changed at the directory itself ends what is remembered with the next login, before any
//! synchronisation has seen it. The client remembers the user alone, so that nothing but the directory's own word tells.

use anyhow::{Context, Result, ensure};
use e2e::{Application, OneMachine, code_of, last_attempt};
use lab::{Pki, Samba, SlapdOptions, private_file};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
};

const DESK: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 6, 1));
const REFUSED: u32 = 49;
const ANOTHER: &str = "Another-Password-1";

fn desk(target: &str) -> String {
    format!(
        r#"
[[client]]
name = "desk"
protocol = "ldap"
sources = ["{DESK}/32"]
target = "{target}"
tls = "danger_optional"
appended = "optional"
remember = {{ kind = "user", idle_seconds = 1800, life_seconds = 28800 }}
"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_changed_at_openldap_ends_what_is_remembered_with_the_next_login() -> Result<()> {
    let options =
        SlapdOptions { database_lines: "moduleload ppolicy.la\noverlay ppolicy".into(), ..Default::default() };
    let machine = OneMachine::start_over(&options, &desk("acme"), "", &[])?;
    let dn = "uid=ann.archer,ou=engineering,ou=people,dc=acme,dc=example";
    ends(&machine, "ann.archer", || {
        machine.slapd.modify(&format!("dn: {dn}\nchangetype: modify\nreplace: userPassword\nuserPassword: {ANOTHER}\n"))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_changed_in_a_windows_domain_ends_what_is_remembered_with_the_next_login() -> Result<()> {
    let machine = OneMachine::start(0, "", "", &[])?;
    let dir = machine.dir.path();
    let samba = Samba::start(dir, &Pki::new(&dir.join("domain-pki"))?)?;
    private_file(&dir.join("samba.password"), Samba::QUERY_PASSWORD)?;
    let domain = format!(
        r#"
[[directory]]
name = "lab"
preset = "active_directory"
urls = ["{url}"]
base = "{base}"
query_bind = {{ kind = "tls", name = "{query}", password = "file:samba.password" }}
ca = '''
{ca}'''

[[sync_item]]
name = "domain"
directory = "lab"
source = {{ kind = "container", dn = "{people}" }}
{desk}"#,
        url = samba.ldaps_url(),
        base = Samba::BASE,
        query = Samba::QUERY_DN,
        people = Samba::PEOPLE_DN,
        ca = fs::read_to_string(samba.ca_file())?,
        desk = desk("lab"),
    );
    machine.settings(&domain).await?;
    machine.command_line().run(&["sync", "now", "domain"])?;
    ends(&machine, "ben.baker", || samba.set_password("ben.baker", ANOTHER)).await
}

async fn ends(machine: &OneMachine, uid: &str, change: impl FnOnce() -> Result<()>) -> Result<()> {
    let command_line = machine.command_line();
    let person = command_line.enrol(uid)?;
    // The directory knows a number of everybody; here are codes alone.
    command_line.run(&["user", "edit", uid, "--allowed-methods", "code"])?;
    let bind = async |password: &str| -> Result<u32> {
        let mut application = Application::connect(&machine.twinlock.ldap_url(), DESK).await?;
        code_of(&application.bind(1, uid, password).await?)
    };
    ensure!(bind(&person.appended(0)?).await? == 0, "a code: {:?}", last_attempt(command_line, uid)?);
    for _ in 0..2 {
        ensure!(bind(&person.password).await? == 0, "not remembered: {:?}", last_attempt(command_line, uid)?);
    }
    change().context("changed at the directory")?;
    ensure!(bind(ANOTHER).await? == REFUSED, "still remembered");
    ensure!(last_attempt(command_line, uid)?.0 == "method_impossible", "{:?}", last_attempt(command_line, uid)?);
    ensure!(bind(&format!("{ANOTHER},{}", person.code(1)?)).await? == 0, "a code behind the new one");
    ensure!(bind(ANOTHER).await? == 0, "remembered from now on");
    ensure!(last_attempt(command_line, uid)?.0 == "remembered", "{:?}", last_attempt(command_line, uid)?);
    Ok(())
}
