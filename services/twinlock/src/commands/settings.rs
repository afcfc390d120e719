//! `twinlock settings`: the whole of what administrators decide, as one document.

use super::directory;
use crate::{
    connect::Connection,
    failure::{Exit, Failure},
    output::{Output, line, printable, say},
};
use clap::Subcommand;
use domain::settings::{SecretSource, Settings};
use proto::directory::{InspectReply, InspectRequest};
use proto::user_store::{ApplySettingsReply, ApplySettingsRequest, ExportSettingsRequest, RemovedItem};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    io::BufRead,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// For a directory that is tried once it is saved.
const PROBE_LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Prints the document. Secrets are written "keep".
    Export,
    /// Makes the document true, in one transaction; prints what changed.
    Apply {
        /// The document; `-` = stdin.
        file: PathBuf,
        /// Only say what would change.
        #[arg(long)]
        dry_run: bool,
        /// A secret from a file: `client.vpn.secret=@/path`, or `=@-` for stdin.
        #[arg(long = "secret", value_name = "NAME=@FILE")]
        secrets: Vec<String>,
        /// A sync item that the document does not have any longer, by its name; may stand several times. Asked for on a terminal.
        #[arg(long = "remove-item", value_name = "NAME")]
        remove_items: Vec<String>,
        /// Why, for the audit. Asked for on a terminal where security would be weaker than before.
        #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
        reason: String,
        /// Do not try directories that are new or changed once they are saved.
        #[arg(long)]
        no_probe: bool,
    },
    /// What `apply` would change.
    Diff {
        /// The document; `-` = stdin.
        file: PathBuf,
    },
}

pub async fn run(command: Command, mut connection: Connection, output: Output) -> Result<(), Failure> {
    match command {
        Command::Export => {
            let reply = connection.admin.export_settings(ExportSettingsRequest {}).await?.into_inner();
            line(reply.document.trim_end());
            Ok(())
        }
        Command::Apply { file, dry_run, secrets, remove_items, reason, no_probe } => {
            let how = How { dry_run, probe: !no_probe && !dry_run, reason };
            apply(&mut connection, output, &file, how, &secrets, remove_items).await
        }
        Command::Diff { file } => {
            let how = How { dry_run: true, probe: false, reason: String::new() };
            apply(&mut connection, output, &file, how, &[], Vec::new()).await
        }
    }
}

struct How {
    dry_run: bool,
    /// Directories that are new or changed are tried once they are saved.
    probe: bool,
    /// Why; empty = nobody said.
    reason: String,
}

async fn apply(
    connection: &mut Connection,
    output: Output,
    file: &Path,
    how: How,
    given: &[String],
    removed_items: Vec<String>,
) -> Result<(), Failure> {
    let dry_run = how.dry_run;
    let document = read(file)?;
    let secrets = collect_secrets(file, &document, given)?;
    for warning in open_to_all(file, &document) {
        say(&format!("warning: {warning}"));
    }
    let asks = !dry_run && super::can_be_asked();
    let mut request = ApplySettingsRequest {
        document,
        secrets,
        dry_run,
        actor: connection.actor.clone(),
        removed_items,
        reason: how.reason,
        // A script has its reasons elsewhere, and who has the host needs none.
        needs_reason: asks,
    };
    let mut reply = connection.admin.apply_settings(request.clone()).await?.into_inner();
    if asks && !reply.removed_items.is_empty() && !reply.errors.is_empty() {
        request.removed_items = names_typed(&reply.removed_items)?;
        reply = connection.admin.apply_settings(request.clone()).await?.into_inner();
    }
    reply = with_reason(connection, &mut request, reply).await?;
    for warning in &reply.warnings {
        say(&format!("warning: {warning}"));
    }
    if !reply.errors.is_empty() {
        let text: Vec<String> = reply.errors.iter().map(|error| format!("{}: {error}", file.display())).collect();
        let exit =
            if reply.errors.iter().any(|error| error.starts_with("revision")) { Exit::Conflict } else { Exit::No };
        return Err(Failure::new(exit, text.join("\n")));
    }
    let generated: HashMap<String, String> = reply
        .generated
        .into_iter()
        .map(|(name, secret)| {
            let secret = domain::Secret::from(secret);
            (name, secret.expose_str().unwrap_or_default().to_owned())
        })
        .collect();
    if !output.is_json() {
        // Before directories are tried, which may take a while: what is in force already is shown once.
        reply.changes.iter().for_each(|change| line(change));
        generated.iter().for_each(|(name, secret)| line(&format!("{name} = {secret}    (shown once)")));
    }
    let mut tried = Vec::new();
    for name in reply.changed_directories.iter().filter(|_| how.probe) {
        tried.push((name, tried_once_saved(connection, &request, name).await));
    }
    if output.is_json() {
        let removed = reply.removed_items.iter().map(|item| {
            let heirs: BTreeMap<&str, u64> = item.heirs.iter().map(|it| (it.sync_item.as_str(), it.users)).collect();
            json!({ "sync_item": item.sync_item, "users": item.users, "heirs": heirs, "leave": item.leave })
        });
        let removed: Vec<Value> = removed.collect();
        let tried = tried.iter().map(|(name, found)| match found {
            Ok(found) => (name.as_str(), directory::record(found)),
            Err(error) => (name.as_str(), json!({ "good": false, "error": error.to_string() })),
        });
        let tried: BTreeMap<&str, Value> = tried.collect();
        line(
            &json!({ "revision": reply.revision, "changes": reply.changes, "weaker": reply.weaker, "dry_run": dry_run, "generated": generated,
                      "removed_items": removed, "directories": tried })
            .to_string(),
        );
        return Ok(());
    }
    let what = if dry_run { "would change; nothing was changed" } else { "changed" };
    for (name, found) in &tried {
        match found {
            Ok(found) => found
                .lines
                .iter()
                .filter(|found| matches!(found.about.as_str(), "changes" | "synchronisation") || found.verdict == "bad")
                .for_each(|found| say(&printable(&format!("directory {name}: {}: {}", found.about, found.text)))),
            Err(error) => say(&printable(&format!("directory {name}: saved, and could not be tried: {error}"))),
        }
    }
    line(&format!("{} {what}; revision {}", reply.changes.len(), reply.revision));
    Ok(())
}

/// FS-10: whoever removes an item types its name.
fn names_typed(removed: &[RemovedItem]) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for item in removed {
        say(&printable(&format!("sync_item.{}: {}", item.sync_item, item.text)));
        say("It comes back only from an export. Type its name to remove it:");
        let mut typed = String::new();
        if std::io::stdin().lock().read_line(&mut typed).is_err() || typed.trim() != item.sync_item {
            return Err(Failure::no("this is not its name; nothing was changed"));
        }
        names.push(item.sync_item.clone());
    }
    Ok(names)
}

/// Asks a person why, where that was why nothing was applied; at a dry run they are told that it will be asked.
pub async fn with_reason(
    connection: &mut Connection,
    request: &mut ApplySettingsRequest,
    reply: ApplySettingsReply,
) -> Result<ApplySettingsReply, Failure> {
    if reply.weaker.is_empty() {
        return Ok(reply);
    }
    if request.dry_run {
        say(&printable(&format!("weaker than now, which asks for a reason: {}", reply.weaker.join(", "))));
    }
    if !request.needs_reason || !request.reason.is_empty() || reply.errors.is_empty() {
        return Ok(reply);
    }
    request.reason = reason_typed(&reply.weaker)?;
    Ok(connection.admin.apply_settings(request.clone()).await?.into_inner())
}

/// What weakens security has a reason.
fn reason_typed(weaker: &[String]) -> Result<String, Failure> {
    say(&printable(&format!("Weaker than now: {}. Say why:", weaker.join(", "))));
    let mut typed = String::new();
    match std::io::stdin().lock().read_line(&mut typed) {
        Ok(_) if !typed.trim().is_empty() => Ok(typed.trim().to_owned()),
        _ => Err(Failure::no("without a reason nothing was changed")),
    }
}

/// FS-05, S-03: what a directory that was just saved offers, and whether the account may use it. It stays saved, whatever is found.
async fn tried_once_saved(
    connection: &mut Connection,
    applied: &ApplySettingsRequest,
    name: &str,
) -> Result<InspectReply, Failure> {
    // As the document has it, so that it does not matter whether the gateway has heard of it yet.
    let settings: Settings = toml::from_str(&applied.document).map_err(|error| Failure::no(error.to_string()))?;
    let settings = settings.with_secrets_kept();
    let directory = settings.directory(name).ok_or_else(|| Failure::no("the document has no such directory"))?;
    let draft_json = serde_json::to_string(directory).map_err(|error| Failure::no(error.to_string()))?;
    let query_password = applied.secrets.get(&format!("directory.{name}.query_bind.password")).cloned();
    let own = directory.sync_bind.as_ref().map(|_| directory.sync_password_name());
    let sync_password = own.and_then(|own| applied.secrets.get(&own).cloned());
    let request = InspectRequest { draft_json, query_password, sync_password, ..InspectRequest::default() };
    let mut request = tonic::Request::new(request);
    request.set_timeout(PROBE_LIMIT);
    match tokio::time::timeout(PROBE_LIMIT, connection.directories.inspect(request)).await {
        Ok(reply) => Ok(reply?.into_inner()),
        Err(_) => Err(Failure::no("it does not answer in time")),
    }
}

pub fn read(file: &Path) -> Result<String, Failure> {
    let content = match file.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(file),
    };
    content.map_err(|error| Failure::wrong_use(format!("{}: {error}", file.display())))
}

/// A sentence for each secret of the document that stands in a file every user of this host may read.
pub fn open_to_all(file: &Path, document: &str) -> Vec<String> {
    let settings: Settings = toml::from_str(document).unwrap_or_default();
    let files = settings.secrets().into_iter().filter_map(|(name, source)| match source {
        SecretSource::File(path) => Some((name, beside(file, path))),
        _ => None,
    });
    let open = files.filter(|(_, path)| std::fs::metadata(path).is_ok_and(|it| it.permissions().mode() & 0o007 != 0));
    open.map(|(name, path)| format!("{name}: every user of this host may read {}; chmod 600 it", path.display()))
        .collect()
}

/// A file that the document names.
fn beside(document: &Path, path: &Path) -> PathBuf {
    document.parent().unwrap_or(Path::new(".")).join(path)
}

/// Reads the secrets the document names by file, and those of the command line. The store asks for the rest.
///
/// A document that cannot be parsed has none: the store, which sees it next, says what is wrong with it.
pub fn collect_secrets(
    file: &Path,
    document: &str,
    given: &[String],
) -> Result<HashMap<String, proto::common::Secret>, Failure> {
    let mut secrets = HashMap::new();
    let settings: Settings = toml::from_str(document).unwrap_or_default();
    for (name, source) in settings.secrets() {
        if let SecretSource::File(path) = source {
            secrets.insert(name.clone(), super::secret_from(&beside(file, path), &name)?.into());
        }
    }
    for pair in given {
        let (name, path) = pair
            .split_once("=@")
            .ok_or_else(|| Failure::wrong_use(format!("--secret {pair}: a secret is written NAME=@FILE")))?;
        secrets.insert(name.into(), super::secret_from(Path::new(path), name)?.into());
    }
    Ok(secrets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_every_user_of_the_host_may_read_is_named() {
        let dir = tempfile::tempdir().expect("a folder");
        let (file, secret) = (dir.path().join("settings.toml"), dir.path().join("vpn.secret"));
        let document = "[[client]]\nname = \"vpn\"\nprotocol = \"radius\"\nsources = [\"10.0.4.3/32\"]\ntarget = \"corp\"\n\
                        secret = \"file:vpn.secret\"\n";
        std::fs::write(&secret, "a-long-shared-secret").expect("written");
        for (mode, named) in [(0o600, false), (0o640, false), (0o644, true)] {
            std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(mode)).expect("changed");
            let found = open_to_all(&file, document);
            assert_eq!(
                found.iter().any(|text| text.starts_with("client.vpn.secret: every user")),
                named,
                "{mode:o}: {found:?}"
            );
        }
    }
}
