//! People are chosen in a directory and imported, and a directory is tried, with the command line of the running product.

use anyhow::{Context, Result, ensure};
use lab::{COMPANY_BASE, Pki, Slapd, SlapdOptions, Standalone, company_settings};
use serde_json::{Value, json};

/// The company's settings without the item that holds everybody.
fn nobody_yet(slapd: &Slapd) -> Result<String> {
    let settings = company_settings(slapd, "")?;
    Ok(settings.split("[[sync_item]]").next().context("a first part")?.to_owned())
}

/// What a command said, and its exit code.
fn said(twinlock: &Standalone, arguments: &[&str]) -> Result<(Option<i32>, Value)> {
    let output = twinlock.command_line.output(&[arguments, &["-o", "json"]].concat(), "")?;
    let said = serde_json::from_slice(&output.stdout).unwrap_or(json!(String::from_utf8_lossy(&output.stderr)));
    Ok((output.status.code(), said))
}

#[tokio::test(flavor = "multi_thread")]
async fn some_people_are_chosen_in_the_directory_and_they_alone_become_users() -> Result<()> {
    // FS-16, FS-08, FD-11
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    let slapd = Slapd::start(dir.path(), &pki, &SlapdOptions::default())?;
    let twinlock = Standalone::start(dir.path(), "")?;
    twinlock.command_line.apply(dir.path(), &nobody_yet(&slapd)?)?;
    let (code, tried) = said(&twinlock, &["directory", "test", "acme", "--user", "ann.archer"])?;
    ensure!(code == Some(0) && tried["good"] == true, "{tried}");

    let import = ["sync", "import", "acme", "--into", "pilot"];
    let (code, shown) = said(&twinlock, &[&import[..], &["--search", "archer", "--dry-run"]].concat())?;
    ensure!(code == Some(0) && shown["import"].as_u64() > Some(0), "{shown}");
    let (code, refused) = said(&twinlock, &[&import[..], &["ann.archer", "nobody.here", "--yes"]].concat())?;
    ensure!(code == Some(1), "{refused}");
    let (code, unasked) = said(&twinlock, &[&import[..], &["ann.archer"]].concat())?;
    ensure!(code == Some(2), "nobody can be asked, and nothing is changed: {unasked}");
    let (code, imported) =
        said(&twinlock, &[&import[..], &["ann.archer", "ben.hale@acme.example", "--yes", "--no-run"]].concat())?;
    ensure!(code == Some(0), "{imported}");
    twinlock.command_line.run(&["sync", "now", "pilot"])?;
    let users = twinlock.command_line.json(&["user", "list"])?;
    let names = |users: &Value| {
        let listed = users.as_array().or(users["items"].as_array()).cloned().unwrap_or_default();
        listed.iter().map(|user| user["username"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    ensure!(names(&users) == ["ann.archer", "ben.hale"], "{users}");

    let (code, owner) = said(&twinlock, &["sync", "owner", "ann.archer"])?;
    ensure!(code == Some(0) && owner["owner"] == "pilot" && owner["now"] == "pilot", "{owner}");
    let (code, owner) = said(&twinlock, &["sync", "owner", "clara.osborn"])?;
    ensure!(code == Some(1) && owner["owner"].is_null() && owner["now"].is_null(), "{owner}");
    let (_, again) = said(&twinlock, &[&import[..], &["ann.archer", "clara.osborn", "--dry-run"]].concat())?;
    ensure!(again["listed"] == 1 && again["import"] == 1, "{again}");

    // A draft keeps the saved password at the same server only (V-83).
    let draft = nobody_yet(&slapd)?.replace(&format!("base = \"{COMPANY_BASE}\""), "base = \"dc=nowhere\"");
    let draft = draft.replace("password = \"file:query.password\"", "password = \"keep\"");
    let file = dir.path().join("draft.toml");
    let test = ["directory", "test", "acme", "--settings", file.to_str().context("a path")?];
    std::fs::write(&file, &draft)?;
    let (code, tried) = said(&twinlock, &test)?;
    ensure!(code == Some(1) && tried.to_string().contains("dc=nowhere"), "{tried}");
    std::fs::write(&file, draft.replace(&slapd.ldap_url(), "ldap://127.0.0.1:1"))?;
    let (code, refused) = said(&twinlock, &test)?;
    ensure!(code == Some(2) && refused.to_string().contains("give it again"), "{refused}");
    Ok(())
}
