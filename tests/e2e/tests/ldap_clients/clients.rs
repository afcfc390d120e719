//! Client programs as people use them: each tells the same with the directory itself and through the gateway.

use anyhow::{Context, Result, bail, ensure};
use e2e::{Before, Make};
use lab::program;
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// Somewhere to connect to, and what proves who is there.
pub struct Place {
    pub url: String,
    pub ca_file: PathBuf,
}

/// The directory and the gateway before it, each by StartTLS and by LDAPS.
pub fn places(world: &Before) -> [(&'static str, Place, Place); 2] {
    let place = |url: String, ca_file: &Path| Place { url, ca_file: ca_file.into() };
    let (upstream, ca_file) = (&world.upstream, world.twinlock.certificate_file());
    [
        ("StartTLS", place(upstream.ldap_url(), upstream.ca_file()), place(world.twinlock.ldap_url(), &ca_file)),
        ("LDAPS", place(upstream.ldaps_url(), upstream.ca_file()), place(world.twinlock.ldaps_url(), &ca_file)),
    ]
}

/// One of the OpenLDAP tools, with encryption and a name.
pub fn tool(name: &str, place: &Place, bind: (&str, &str), more: &[&str], input: &str) -> Result<Output> {
    let mut command = Command::new(program(name)?);
    command.env("LDAPTLS_CACERT", &place.ca_file).args(["-x", "-H", &place.url, "-o", "nettimeout=20"]);
    if place.url.starts_with("ldap://") {
        command.arg("-ZZ");
    }
    command.args(["-D", bind.0, "-w", bind.1]).args(more);
    output(command, input)
}

pub fn output(mut command: Command, input: &str) -> Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{command:?}"))?;
    let mut stdin = child.stdin.take().context("its input")?;
    // A program that needs no input may be gone already.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    Ok(child.wait_with_output()?)
}

/// A session of every tool; what they said, and with which exit codes.
pub fn tools(world: &Before, place: &Place) -> Result<String> {
    let (base, manager) = (world.upstream.base, world.upstream.manager);
    let class = if world.upstream.make == Make::Samba { "user" } else { "inetOrgPerson" };
    let (unit, entry) = (format!("ou=tried with tools,{base}"), format!("cn=one,ou=tried with tools,{base}"));
    let unit_ldif = format!("dn: {unit}\nobjectClass: organizationalUnit\n");
    let entry_ldif = format!("dn: {entry}\nobjectClass: {class}\ncn: one\nsn: Probe\ndescription: a\n");
    let change = format!(
        "dn: {entry}\nchangetype: modify\nreplace: description\ndescription: b\n-\nadd: title\ntitle:: UHLDpHNpZGVudGlu\n"
    );
    let renamed = format!("cn=two,{unit}");
    let search = |more: &[&'static str]| [&["-LLL", "-b", base], more].concat();
    // A critical control that it does not know Samba refuses in a way that these programs wait for ever to understand.
    let (matched, asserted) = match world.upstream.make {
        Make::Samba => ("mv=(objectClass=person)", "assert=(sn=nobody)"),
        _ => ("!mv=(objectClass=person)", "!assert=(sn=nobody)"),
    };
    let steps: Vec<(&str, Vec<&str>, &str)> = vec![
        ("ldapwhoami", vec![], ""),
        ("ldapsearch", vec!["-LLL", "-s", "base", "-b", "", "supportedLDAPVersion", "namingContexts"], ""),
        ("ldapsearch", search(&["(sn=Archer)", "cn", "sn"]), ""),
        ("ldapsearch", search(&["-E", "pr=4/noprompt", "(mail=bulk0004*)", "cn"]), ""),
        ("ldapsearch", search(&["-E", "!sss=cn", "(sn=B*)", "cn"]), ""),
        ("ldapsearch", search(&["-E", matched, "(sn=Archer)", "objectClass"]), ""),
        ("ldapsearch", search(&["-z", "3", "(mail=bulk*)", "1.1"]), ""),
        ("ldapsearch", vec!["-b", "dc=nowhere", "(cn=x)"], ""),
        ("ldapadd", vec![], &unit_ldif),
        ("ldapadd", vec![], &entry_ldif),
        ("ldapadd", vec![], &entry_ldif),
        ("ldapmodify", vec![], &change),
        ("ldapmodify", vec!["-e", asserted], &change),
        ("ldapcompare", vec![&entry, "description:b"], ""),
        ("ldapcompare", vec![&entry, "description:c"], ""),
        ("ldappasswd", vec!["-s", "Sesame-one", &entry], ""),
        ("ldapmodrdn", vec!["-r", &entry, "cn=two"], ""),
        ("ldapsearch", vec!["-LLL", "-b", &renamed, "-s", "base", "cn", "sn", "description", "title"], ""),
        ("ldapdelete", vec![&unit], ""),
        ("ldapdelete", vec![&renamed], ""),
        ("ldapdelete", vec![&unit], ""),
        ("ldapdelete", vec![&unit], ""),
    ];
    let mut told = String::new();
    for (name, arguments, input) in steps {
        let output = tool(name, place, manager, &arguments, input)?;
        told += &format!("$ {name} {}\n{}", arguments.join(" "), words(&output));
    }
    Ok(told)
}

/// Without the references, which the gateway leaves out (L-17), and the empty lines around them.
fn words(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let said = out.lines().chain(err.lines()).filter(|line| !line.is_empty() && !line.starts_with("# refldap"));
    said.map(|line| format!("{line}\n")).chain([format!("({})\n", output.status.code().unwrap_or(-1))]).collect()
}

/// One of the scripts beside this file.
pub fn script(
    world: &Before,
    name: &str,
    place: &Place,
    what: &str,
    argument: &str,
    person: Option<&str>,
) -> Result<String> {
    // Their libraries are the distribution's.
    let mut command = Command::new("/usr/bin/python3");
    command
        .arg(lab::repository().join("tests/e2e/tests/ldap_clients").join(name))
        .arg(&place.url)
        .arg(&place.ca_file)
        .args([what, world.upstream.base, argument]);
    let (dn, password) = world.upstream.manager;
    let person = person.map(|password| format!("-\n{password}\n")).unwrap_or_default();
    // The person's password is the last line but for the mark before it.
    let output = output(command, &format!("{dn}\n{password}\n{person}"))?;
    if !output.status.success() {
        bail!("{name} {what} at {}: {}", place.url, words(&output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Both told the same, and it was something.
pub fn the_same(what: &str, direct: &str, through: &str) -> Result<()> {
    ensure!(direct.lines().count() > 15, "{what}: only {direct}");
    let differs = direct.lines().zip(through.lines()).find(|(direct, through)| direct != through);
    if let Some((direct, through)) = differs {
        bail!("{what}: \"{through}\" instead of \"{direct}\"");
    }
    ensure!(direct == through, "{what}: one says more than the other:\n{direct}\n{through}");
    Ok(())
}

/// For whoever wants to see what was said: `KEEP_LOGS=1`.
pub fn keep(world: &Before, what: &str, told: &str) -> Result<()> {
    Ok(fs::write(world.dir.path().join(what.replace(' ', "-")), told)?)
}
