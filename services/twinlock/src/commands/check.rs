//! `twinlock check`: is what is written usable, without starting anything? With --connect: do the directories answer?

use super::settings::{collect_secrets, open_to_all, read};
use crate::{
    connect::Connection,
    failure::{Exit, Failure},
    output::{Output, line, say},
};
use clap::Args;
use domain::settings::{Settings, Severity};
use proto::directory::ProbeRequest;
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, Clone, Args)]
pub struct Check {
    /// Check this settings document too; `-` = stdin.
    #[arg(long)]
    settings: Option<PathBuf>,
    /// Contact every directory of the running Twinlock's settings.
    #[arg(long, visible_alias = "live")]
    connect: bool,
    /// Warnings count as errors.
    #[arg(long)]
    strict: bool,
}

/// The process configuration has been loaded already, which was its check.
pub async fn run(
    check: Check,
    open: impl FnOnce() -> Result<Connection, Failure>,
    output: Output,
) -> Result<(), Failure> {
    let (mut errors, mut warnings) = (0, 0);
    if let Some(file) = &check.settings {
        let document = read(file)?;
        let settings =
            user_store::parse(&document).map_err(|problem| Failure::no(format!("{}: {problem}", file.display())))?;
        for problem in user_store::problems(&settings) {
            let is_error = problem.severity == Severity::Error;
            if is_error {
                errors += 1
            } else {
                warnings += 1
            }
            let kind = if is_error { "error" } else { "warning" };
            line(&format!("{}: {kind}: {problem}", file.display()));
        }
        for problem in user_store::observed_for_too_long(&settings, super::now_unix_ms()) {
            errors += 1;
            line(&format!("{}: error: {problem}", file.display()));
        }
        collect_secrets(file, &document, &[])?;
        for warning in open_to_all(file, &document) {
            warnings += 1;
            line(&format!("{}: warning: {warning}", file.display()));
        }
    }
    if check.connect {
        let mut connection = open()?;
        let export = connection.admin.export_settings(proto::user_store::ExportSettingsRequest {}).await?.into_inner();
        let settings: Settings = toml::from_str(&export.document)
            .map_err(|error| Failure::no(format!("the settings cannot be read: {error}")))?;
        if settings.directories.is_empty() {
            say("the settings name no directory yet");
        }
        let mut unreachable = 0;
        for directory in &settings.directories {
            let request = ProbeRequest { directory: directory.name.to_string() };
            for server in connection.directory.probe(request).await?.into_inner().servers {
                let record = json!({
                    "directory": directory.name, "url": server.url, "ok": server.ok, "text": server.text, "ms": server.milliseconds,
                });
                let mark = if server.ok { "ok" } else { "FAILED" };
                output.text(
                    &format!(
                        "directory {}: {}: {mark}: {} ({} ms)",
                        directory.name, server.url, server.text, server.milliseconds
                    ),
                    &record,
                );
                unreachable += u32::from(!server.ok);
            }
        }
        if unreachable > 0 {
            return Err(Failure::new(Exit::Unreachable, format!("{unreachable} directory servers cannot be used")));
        }
    }
    if errors > 0 || (check.strict && warnings > 0) {
        return Err(Failure::no(format!("{errors} errors, {warnings} warnings")));
    }
    output.text("the configuration is good", &json!({ "errors": errors, "warnings": warnings }));
    Ok(())
}
