//! What somebody at a terminal meets: "synchronise now" that shows before it writes, an item that goes by its name, a directory that is
//! tried once it is saved.

use anyhow::{Context, Result, ensure};
use e2e::OneMachine;
use lab::{COMPANY_BASE, CommandLine, company_settings, program};
use serde_json::Value;
use std::io::Write;
use std::process::{Command, Stdio};

/// What a person at a terminal sees, who types these lines, and the exit code.
fn typed(line: &CommandLine, arguments: &[&str], answers: &str) -> Result<(Option<i32>, String)> {
    let words = [&line.program.to_string_lossy(), "--config", &line.config.to_string_lossy()].map(str::to_owned);
    let words = words.into_iter().chain(arguments.iter().map(|word| (*word).to_owned()));
    let quoted: Vec<String> = words.map(|word| format!("'{word}'")).collect();
    // util-linux: a terminal of its own for the command, whose exit code is given back.
    let mut command = Command::new(program("script")?);
    command.args(["--quiet", "--return", "--command", &quoted.join(" "), "/dev/null"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("its input")?;
    stdin.write_all(answers.as_bytes())?;
    stdin.flush()?;
    let output = child.wait_with_output()?;
    drop(stdin);
    Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

fn add(machine: &OneMachine, uid: &str) -> Result<()> {
    machine.slapd.modify(&format!(
        "dn: uid={uid},ou=sales,ou=people,{COMPANY_BASE}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: {uid}\ncn: {uid}\nsn: New\n"
    ))
}

fn users(machine: &OneMachine, name: &str) -> Result<usize> {
    let users = machine.command_line().json(&["user", "list", name])?;
    Ok(users["items"].as_array().context("a list")?.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn synchronise_now_shows_and_asks_at_a_terminal_and_writes_at_once_for_a_script() -> Result<()> {
    // FS-09
    let machine = OneMachine::start(0, "", "", &[])?;
    let line = machine.command_line();
    add(&machine, "nora.north")?;
    let (code, said) = typed(line, &["sync", "now"], "n\n")?;
    ensure!(
        code == Some(1) && said.contains("nora.north") && said.contains("1 users would be added"),
        "{code:?} {said}"
    );
    ensure!(said.contains("nothing was changed") && users(&machine, "nora.north")? == 0, "{said}");
    let (code, said) = typed(line, &["sync", "now"], "y\n")?;
    ensure!(code == Some(0) && users(&machine, "nora.north")? == 1, "{code:?} {said}");
    add(&machine, "olaf.north")?;
    let runs = line.json(&["sync", "now", "--yes"])?;
    ensure!(runs["items"][0]["added"] == 1 && runs["items"][0]["mode"] == "full", "{runs}");
    add(&machine, "piet.north")?;
    line.run(&["sync", "now"])?;
    ensure!(users(&machine, "north")? == 3, "a script without a terminal is not asked");
    Ok(())
}

/// The preview of a plan, and the users that it would do something to.
fn planned(line: &CommandLine, more: &[&str]) -> Result<(String, Vec<String>)> {
    let plan = line.json(&[&["sync", "plan"], more].concat())?;
    let users = plan["items"].as_array().context("a list")?.iter();
    let users = users
        .map(|user| format!("{} {}", user["what"].as_str().unwrap_or("?"), user["username"].as_str().unwrap_or("?")));
    Ok((plan["runs"][0]["id"].as_str().with_context(|| plan.to_string())?.to_owned(), users.collect()))
}

/// Asks for what this preview lists. The exit code, and what was said.
fn looked_at(line: &CommandLine, preview: &str) -> Result<(Option<i32>, String)> {
    let output = line.output(&["sync", "now", "--looked-at", preview], "")?;
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    Ok((output.status.code(), said.concat()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_the_list_that_was_looked_at_or_nothing() -> Result<()> {
    // FS-09: for a script
    let machine = OneMachine::start(0, "", "", &[])?;
    let line = machine.command_line();
    add(&machine, "nora.north")?;
    let (first, list) = planned(line, &[])?;
    ensure!(list == ["added nora.north"], "{list:?}");
    add(&machine, "olaf.north")?;
    let (code, said) = looked_at(line, &first)?;
    ensure!(code == Some(5) && said.contains("nothing was written"), "{code:?} {said}");
    ensure!(users(&machine, "north")? == 0, "not even who was on the list");
    let (second, list) = planned(line, &[])?;
    ensure!(list == ["added nora.north", "added olaf.north"], "{list:?}");
    let (code, said) = looked_at(line, &second)?;
    ensure!(code == Some(0) && users(&machine, "north")? == 2, "{code:?} {said}");
    let (code, said) = looked_at(line, &second)?;
    ensure!(code == Some(5), "it is done, and another list by now: {code:?} {said}");
    let (code, said) = looked_at(line, "nonsense")?;
    ensure!(code == Some(1) && said.contains("there is no preview"), "{code:?} {said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_is_not_applied_is_planned_and_written_once_it_is_applied() -> Result<()> {
    // FS-09, FS-12
    let machine = OneMachine::start(0, "", "", &[])?;
    let line = machine.command_line();
    let everybody = "name = \"everybody\"\ndirectory = \"acme\"\nsource = { kind = \"domain\" }\n";
    let document = company_settings(&machine.slapd, "")?;
    ensure!(document.contains(everybody), "{document}");
    let next = document.replace(everybody, &format!("{everybody}filter = \"(!(uid=ann.archer))\"\n"));
    let file = machine.dir.path().join("next.toml");
    std::fs::write(&file, &next)?;
    let draft = ["--settings", file.to_str().context("a path")?];
    let enabled = || Ok::<_, anyhow::Error>(line.json(&["user", "show", "ann.archer"])?["state"] == "enabled");

    let (first, list) = planned(line, &draft)?;
    ensure!(list == ["disabled ann.archer"] && enabled()?, "{list:?}");
    ensure!(planned(line, &[])?.1.is_empty(), "by the items in force she stays");
    let (code, said) = looked_at(line, &first)?;
    ensure!(code == Some(5) && enabled()?, "its items are not in force: {code:?} {said}");
    line.apply(machine.dir.path(), &next)?;
    // Somebody came in between.
    add(&machine, "nora.north")?;
    let (code, said) = looked_at(line, &first)?;
    ensure!(code == Some(5) && enabled()? && users(&machine, "nora.north")? == 0, "{code:?} {said}");
    let (second, list) = planned(line, &draft)?;
    ensure!(list == ["added nora.north", "disabled ann.archer"], "{list:?}");
    let (code, said) = looked_at(line, &second)?;
    ensure!(code == Some(0) && !enabled()? && users(&machine, "nora.north")? == 1, "{code:?} {said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_is_lost_by_its_name_alone() -> Result<()> {
    // FS-10
    let machine = OneMachine::start(0, "", "", &[])?;
    let line = machine.command_line();
    let with_rest = company_settings(
        &machine.slapd,
        "[[sync_item]]\nname = \"rest\"\ndirectory = \"acme\"\nsource = { kind = \"domain\" }\n",
    )?;
    line.apply(machine.dir.path(), &with_rest)?;
    line.run(&["sync", "now", "--yes"])?;
    let everybody = "[[sync_item]]\nname = \"everybody\"\ndirectory = \"acme\"\nsource = { kind = \"domain\" }\n";
    ensure!(with_rest.contains(everybody));
    let file = machine.dir.path().join("without.toml");
    std::fs::write(&file, with_rest.replace(everybody, ""))?;
    let file = file.to_str().context("a path")?;
    let has_everybody = || Ok::<_, anyhow::Error>(line.run(&["settings", "export"])?.contains("name = \"everybody\""));

    let diff = line.output(&["settings", "diff", file], "")?;
    let warned = String::from_utf8_lossy(&diff.stderr).into_owned();
    ensure!(diff.status.success() && warned.contains("120 users") && warned.contains("would go to rest"), "{warned}");
    let refused = line.output(&["settings", "apply", file, "--no-probe"], "")?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(1) && said.contains("--remove-item everybody") && has_everybody()?, "{said}");
    let (code, said) = typed(line, &["settings", "apply", file, "--no-probe"], "everyone\n")?;
    ensure!(code == Some(1) && said.contains("not its name") && has_everybody()?, "{code:?} {said}");
    let other = line.output(&["settings", "apply", file, "--no-probe", "--remove-item", "rest"], "")?;
    ensure!(other.status.code() == Some(1) && has_everybody()?);
    let (code, said) = typed(line, &["settings", "apply", file, "--no-probe"], "everybody\n")?;
    ensure!(code == Some(0) && said.contains("removed sync_item.everybody") && !has_everybody()?, "{code:?} {said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_tried_once_it_is_saved_and_stays_saved_whatever_is_found() -> Result<()> {
    // FS-05, S-03
    let machine = OneMachine::start(0, "", "", &[])?;
    let line = machine.command_line();
    let slow = company_settings(&machine.slapd, "")?.replace("[sync]\n", "[sync]\ninterval_minutes = 60\n");
    let apply = |document: &str| -> Result<Value> {
        let file = machine.dir.path().join("next.toml");
        std::fs::write(&file, document)?;
        line.json(&["settings", "apply", file.to_str().context("a path")?])
    };
    let applied = apply(&slow)?;
    ensure!(applied["directories"].as_object().is_some_and(serde_json::Map::is_empty), "none changed: {applied}");
    let applied = apply(&slow.replace("preset = \"openldap\"", "preset = \"openldap\"\npage_size = 500"))?;
    let found = &applied["directories"]["acme"];
    let changes = found["lines"].as_array().context("lines")?.iter().filter(|line| line["about"] == "changes");
    let changes: Vec<String> = changes.map(|line| line["text"].as_str().unwrap_or_default().to_owned()).collect();
    ensure!(
        found["good"] == true && changes.iter().any(|text| text.starts_with("Changes will be followed by")),
        "{applied}"
    );
    let wanted = slow.replace("preset = \"openldap\"", "preset = \"openldap\"\nfeed = \"changelog\"");
    let applied = apply(&wanted)?;
    ensure!(applied.to_string().contains("The settings want changelog, which cannot be used"), "{applied}");
    ensure!(line.run(&["settings", "export"])?.contains("feed = \"changelog\""), "it stays saved");
    // Nobody answers there, and the password would go to another place: it comes with the document again.
    let silent = slow.replace(&machine.slapd.ldap_url(), "ldap://127.0.0.1:1");
    let applied = apply(&silent)?;
    ensure!(applied["directories"]["acme"]["good"] == false, "{applied}");
    ensure!(line.run(&["settings", "export"])?.contains("127.0.0.1:1"), "it stays saved");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_made_at_the_command_line_is_the_entrys_that_a_run_finds() -> Result<()> {
    // FS-17
    let machine = OneMachine::start(0, "", "", &[])?;
    let line = machine.command_line();
    add(&machine, "nora.north")?;
    for name in ["Nora.North", "vera.visitor"] {
        line.run(&["user", "create", name])?;
    }
    let known = |name: &str| -> Result<Value> { Ok(line.json(&["user", "show", name])?["directory"].clone()) };
    ensure!(known("nora.north")? == "", "{}", known("nora.north")?);
    let taken = line.output(&["user", "create", "ann.archer"], "")?;
    ensure!(!taken.status.success(), "somebody has this name already");
    let runs = line.json(&["sync", "now", "--yes"])?;
    ensure!(runs["items"][0]["added"] == 0 && runs["items"][0]["changed"] == 1, "{runs}");
    ensure!(known("nora.north")? == "acme" && known("vera.visitor")? == "", "{}", known("nora.north")?);
    ensure!(line.audit()?.iter().any(|event| event["kind"] == "user.linked"));
    Ok(())
}
