//! `twinlock directory`: which there are, and whether one serves as it is wanted, before it is saved and afterwards.

use super::client::settings;
use super::settings::{collect_secrets, read};
use super::{secret_from, wire};
use crate::{
    connect::Connection,
    failure::Failure,
    output::{Output, line, printable},
};
use clap::{Args, Subcommand};
use domain::settings::{Directory, SecretSource, Settings};
use proto::directory::{InspectReply, InspectRequest};
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Which there are.
    List,
    /// Tries servers, TLS, both binds, base, filters, paging, change feeds and one user as mapped, from the host that serves; changes
    /// nothing.
    Test(Test),
}

#[derive(Debug, Clone, Args)]
pub struct Test {
    name: String,
    /// The directory as this document has it, which need not be applied. Its secret comes from the file that the document names.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// The user to look at; the first one found if absent.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Try the password of the user, too, with one bind; `-` = from stdin.
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
}

pub async fn run(command: Command, mut connection: Connection, output: Output) -> Result<(), Failure> {
    match command {
        Command::List => {
            let settings = settings(&mut connection).await?;
            let records = settings.directories.iter().map(|directory| summary(&settings, directory)).collect();
            output.list(
                &["name", "preset", "servers", "base", "trusted_domains", "clients", "sync_items"],
                records,
                None,
            );
            Ok(())
        }
        Command::Test(test) => {
            let request = test.request()?;
            let reply = connection.directories.inspect(request).await?.into_inner();
            print(output, &reply);
            match reply.good {
                true => Ok(()),
                false => Err(Failure::no("the directory would not serve as it should")),
            }
        }
    }
}

impl Test {
    fn request(&self) -> Result<InspectRequest, Failure> {
        let password = self.password_file.as_deref().map(|file| secret_from(file, "password")).transpose()?;
        let request = InspectRequest {
            name: self.user.clone().unwrap_or_default(),
            password: password.as_ref().and_then(wire),
            ..InspectRequest::default()
        };
        let Some(file) = &self.settings else { return Ok(InspectRequest { directory: self.name.clone(), ..request }) };
        let document = read(file)?;
        let settings: Settings =
            toml::from_str(&document).map_err(|error| Failure::no(format!("{}: {error}", file.display())))?;
        let directory = settings
            .directory(&self.name)
            .ok_or_else(|| Failure::no(format!("{}: has no directory {:?}", file.display(), self.name)))?;
        for (field, bind) in [("query_bind", Some(&directory.query_bind)), ("sync_bind", directory.sync_bind.as_ref())]
        {
            if bind.is_some_and(|bind| matches!(bind.password, Some(SecretSource::Generate))) {
                return Err(Failure::wrong_use(format!("{field}.password: is \"generate\", which no directory knows")));
            }
        }
        // Only this directory's: the others need not be there yet.
        let name = format!("directory.{}.query_bind.password", directory.name);
        let alone = Settings { directories: vec![directory.clone()], ..Settings::default() };
        let alone = toml::to_string(&alone).map_err(|error| Failure::no(error.to_string()))?;
        let mut secrets = collect_secrets(file, &alone, &[])?;
        let query_password = secrets.remove(&name);
        let sync_password = secrets.remove(&directory.sync_password_name());
        let draft_json = serde_json::to_string(directory).map_err(|error| Failure::no(error.to_string()))?;
        Ok(InspectRequest { draft_json, query_password, sync_password, ..request })
    }
}

fn print(output: Output, reply: &InspectReply) {
    if output.is_json() {
        line(&record(reply).to_string());
        return;
    }
    for found in &reply.lines {
        let mark = match found.verdict.as_str() {
            "good" => "ok    ",
            "bad" => "FAILED",
            _ => "note  ",
        };
        line(&printable(&format!("{mark}  {:<14}  {}", found.about, found.text)));
    }
}

pub fn record(reply: &InspectReply) -> Value {
    let lines: Vec<Value> = reply
        .lines
        .iter()
        .map(|line| json!({ "about": line.about, "verdict": line.verdict, "text": line.text }))
        .collect();
    json!({ "good": reply.good, "lines": lines })
}

fn summary(settings: &Settings, directory: &Directory) -> Value {
    let clients = settings.clients.iter().filter(|client| client.target == directory.name);
    let items = settings.sync_items.iter().filter(|item| item.directory == directory.name);
    json!({
        "name": directory.name, "preset": directory.preset, "servers": directory.urls, "base": directory.base,
        "trusted_domains": directory.includes_trusted_domains(),
        "clients": clients.map(|client| client.name.as_str()).collect::<Vec<_>>(),
        "sync_items": items.map(|item| item.name.as_str()).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(folder: &std::path::Path, name: &str) -> Test {
        Test { name: name.into(), settings: Some(folder.join("next.toml")), user: None, password_file: None }
    }

    #[test]
    fn a_directory_of_a_document_goes_with_its_secret_and_no_other() {
        // FD-11, V-83
        let folder = tempfile::tempdir().expect("a folder");
        let document = |password: &str| {
            let directory = |name: &str, password: &str| {
                format!(
                    "[[directory]]\nname = \"{name}\"\nurls = [\"ldaps://{name}\"]\nbase = \"dc=x\"\n\
                     query_bind = {{ kind = \"tls\", name = \"cn=q\", password = \"{password}\" }}\n"
                )
            };
            directory("corp", password) + &directory("other", "file:not-there")
        };
        std::fs::write(folder.path().join("corp.password"), "typed again\n").expect("written");
        let request = |password: &str| {
            std::fs::write(folder.path().join("next.toml"), document(password)).expect("written");
            test(folder.path(), "corp").request()
        };
        let given = request("file:corp.password").expect("a request");
        assert_eq!(domain::Secret::from(given.query_password.expect("one")).expose(), b"typed again");
        assert!(
            given.draft_json.contains("ldaps://corp") && !given.draft_json.contains("typed"),
            "{}",
            given.draft_json
        );
        let kept = request("keep").expect("a request");
        assert!(kept.query_password.is_none() && kept.draft_json.contains("keep"));
        assert!(request("generate").is_err() && test(folder.path(), "nobody").request().is_err());
    }
}
