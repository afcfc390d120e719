//! `twinlock settings`: the whole of what administrators decide, as one document.

use crate::{
    connect::Connection,
    failure::{Exit, Failure},
    output::{Output, line, say},
};
use clap::Subcommand;
use domain::settings::{SecretSource, Settings};
use proto::user_store::{ApplySettingsRequest, ExportSettingsRequest};
use serde_json::json;
use std::{
    collections::HashMap,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

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
        Command::Apply { file, dry_run, secrets } => apply(&mut connection, output, &file, dry_run, &secrets).await,
        Command::Diff { file } => apply(&mut connection, output, &file, true, &[]).await,
    }
}

async fn apply(
    connection: &mut Connection,
    output: Output,
    file: &Path,
    dry_run: bool,
    given: &[String],
) -> Result<(), Failure> {
    let document = read(file)?;
    let secrets = collect_secrets(file, &document, given)?;
    for warning in open_to_all(file, &document) {
        say(&format!("warning: {warning}"));
    }
    let request = ApplySettingsRequest { document, secrets, dry_run, actor: connection.actor.clone() };
    let reply = connection.admin.apply_settings(request).await?.into_inner();
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
    if output.is_json() {
        line(&json!({ "revision": reply.revision, "changes": reply.changes, "dry_run": dry_run, "generated": generated }).to_string());
        return Ok(());
    }
    for change in &reply.changes {
        line(change);
    }
    for (name, secret) in &generated {
        line(&format!("{name} = {secret}    (shown once)"));
    }
    let what = if dry_run { "would change; nothing was changed" } else { "changed" };
    line(&format!("{} {what}; revision {}", reply.changes.len(), reply.revision));
    Ok(())
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
