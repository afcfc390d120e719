//! `twinlock audit`: what happened, in the order it was committed.

use crate::{
    connect::Connection,
    failure::Failure,
    output::{Output, line, printable, time},
};
use clap::Subcommand;
use data_encoding::HEXLOWER;
use proto::user_store::{AuditCheckpoint, AuditEvent, ListAuditRequest, ListCheckpointsRequest, VerifyAuditRequest};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The event of a log line that is a checkpoint.
const CHECKPOINT: &str = "audit_checkpoint";
/// Half a year of one every five minutes; as one message they have some ten million octets.
const CHECKPOINTS_MAX: usize = 50_000;

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// The newest events; with --follow, the ones to come too.
    Tail {
        #[arg(short = 'n', long, default_value_t = 20)]
        lines: u32,
        #[arg(short, long)]
        follow: bool,
        #[arg(long, default_value = "")]
        client: String,
        /// Only this attempt: the request id of a log line, or the reference that a person reads out (`7K2F-9QXB`).
        #[arg(long, default_value = "")]
        request: String,
        /// Only about users who have this label now.
        #[arg(long, default_value = "", value_name = "LABEL")]
        user_group: String,
    },
    /// Checks the chain of hashes from the first record to the last, and the signed checkpoints; names the first bad record.
    Verify {
        /// Checkpoints that were kept elsewhere: what `audit checkpoints` wrote, or a log with its `audit_checkpoint` lines; `-` =
        /// stdin.
        #[arg(long)]
        checkpoints: Option<PathBuf>,
    },
    /// The signed checkpoints, one JSON object a line, to be kept elsewhere.
    Checkpoints {
        /// Only those of a later record.
        #[arg(long, default_value_t = 0)]
        after: u64,
    },
}

pub async fn run(command: Command, mut connection: Connection, output: Output) -> Result<(), Failure> {
    match command {
        Command::Tail { lines, follow, client, request, user_group } => {
            let first = ListAuditRequest {
                limit: lines,
                newest: true,
                client: client.clone(),
                transaction_id: request.clone(),
                user_group: user_group.clone(),
                ..Default::default()
            };
            let page = connection.admin.list_audit(first).await?.into_inner();
            let mut last = page.last;
            print(output, &page.events);
            if !follow {
                return match page.events.is_empty() && !request.is_empty() {
                    true => Err(Failure::no(format!("{request}: the audit has no such attempt"))),
                    false => Ok(()),
                };
            }
            loop {
                tokio::time::sleep(Duration::from_millis(500)).await;
                let more = ListAuditRequest {
                    after: last,
                    limit: 1000,
                    client: client.clone(),
                    transaction_id: request.clone(),
                    user_group: user_group.clone(),
                    ..Default::default()
                };
                let page = connection.admin.list_audit(more).await?.into_inner();
                print(output, &page.events);
                last = page.last.max(last);
            }
        }
        Command::Verify { checkpoints } => {
            let checkpoints = checkpoints.as_deref().map(kept).transpose()?.unwrap_or_default();
            let reply = connection.admin.verify_audit(VerifyAuditRequest { checkpoints }).await?.into_inner();
            let last = reply.last_checkpoint.as_ref();
            let record = json!({
                "verified": reply.verified, "first_bad": reply.first_bad, "text": reply.text, "checkpoints": reply.checkpoints,
                "last_checkpoint": last.map(checkpoint),
            });
            if reply.first_bad != 0 {
                line(&record.to_string());
                return Err(Failure::no(reply.text));
            }
            let signed = match last {
                None => "no checkpoint yet".to_owned(),
                Some(last) => {
                    let at = time(last.at_unix_ms);
                    let at = at.as_str().unwrap_or_default();
                    format!("{} checkpoints, the last at record {} on {at}", reply.checkpoints, last.sequence)
                }
            };
            output.text(&format!("{} records, the chain is whole; {signed}", reply.verified), &record);
            Ok(())
        }
        Command::Checkpoints { mut after } => loop {
            let request = ListCheckpointsRequest { after, limit: 1000 };
            let page = connection.admin.list_checkpoints(request).await?.into_inner().checkpoints;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.sequence;
            page.iter().for_each(|it| line(&checkpoint(it).to_string()));
        },
    }
}

/// As the store's log line has it, so that both are read back by one rule.
fn checkpoint(it: &AuditCheckpoint) -> Value {
    json!({
        "event": CHECKPOINT, "writer": it.writer, "sequence": it.sequence, "hash": HEXLOWER.encode(&it.hash),
        "at_unix_ms": it.at_unix_ms, "key": HEXLOWER.encode(&it.key), "signature": HEXLOWER.encode(&it.signature),
    })
}

/// The checkpoints of a file; lines that are something else are passed over.
fn kept(path: &Path) -> Result<Vec<AuditCheckpoint>, Failure> {
    let failed = |error: std::io::Error| Failure::wrong_use(format!("{}: {error}", path.display()));
    let text = match path.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()).map_err(failed)?,
        false => std::fs::read_to_string(path).map_err(failed)?,
    };
    let mut found = Vec::new();
    for (number, text) in text.lines().enumerate() {
        match read_checkpoint(text) {
            Ok(checkpoint) => found.extend(checkpoint),
            Err(why) => return Err(Failure::wrong_use(format!("{}, line {}: {why}", path.display(), number + 1))),
        }
    }
    match found.len() {
        0 => Err(Failure::wrong_use(format!("{}: there is no {CHECKPOINT} line in it", path.display()))),
        1..=CHECKPOINTS_MAX => Ok(found),
        found => Err(Failure::wrong_use(format!(
            "{}: found {found} checkpoints; at most {CHECKPOINTS_MAX} are compared at once, the newest say most",
            path.display()
        ))),
    }
}

/// `None`: the line is another one.
fn read_checkpoint(text: &str) -> Result<Option<AuditCheckpoint>, String> {
    let Ok(object) = serde_json::from_str::<Value>(text) else { return Ok(None) };
    if object["event"] != CHECKPOINT {
        return Ok(None);
    }
    let octets = |name: &str| {
        let text = object[name].as_str().and_then(|text| HEXLOWER.decode(text.as_bytes()).ok());
        text.ok_or_else(|| format!("{name}: hexadecimal digits are expected"))
    };
    let missing = |name: &str| format!("{name}: is missing");
    Ok(Some(AuditCheckpoint {
        writer: object["writer"].as_str().ok_or_else(|| missing("writer"))?.to_owned(),
        sequence: object["sequence"].as_u64().ok_or_else(|| missing("sequence"))?,
        hash: octets("hash")?,
        at_unix_ms: object["at_unix_ms"].as_i64().ok_or_else(|| missing("at_unix_ms"))?,
        key: octets("key")?,
        signature: octets("signature")?,
    }))
}

fn print(output: Output, events: &[AuditEvent]) {
    for event in events {
        let record = record(event);
        if output.is_json() {
            line(&record.to_string());
            continue;
        }
        let word = |field: &str| record[field].as_str().unwrap_or_default().to_owned();
        let text = match event.kind.as_str() {
            "authentication" => format!(
                "{}  {:<9} {:<22} {}  client={} from={}",
                word("at"),
                word("result"),
                word("reason"),
                word("user"),
                word("client"),
                word("client_ip")
            ),
            kind => format!("{}  {kind}  {} {} by {}", word("at"), word("user"), word("detail"), word("actor")),
        };
        line(&printable(&text));
    }
}

fn record(event: &AuditEvent) -> Value {
    let mut record = serde_json::Map::new();
    record.insert("sequence".into(), event.sequence.into());
    record.insert("at".into(), time(event.at_unix_ms));
    let texts = [
        ("kind", &event.kind),
        ("request_id", &event.transaction_id),
        ("client", &event.client),
        ("protocol", &event.protocol),
        ("user_id", &event.user_id),
        ("user", &event.username),
        ("client_ip", &event.client_ip),
        ("calling_station", &event.calling_station),
        ("result", &event.result),
        ("reason", &event.reason),
        ("method", &event.method),
        ("assurance", &event.assurance),
        ("source", &event.source),
        ("actor", &event.actor),
        ("detail", &event.detail),
        ("hash", &event.hash),
    ];
    for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        record.insert(name.into(), text.as_str().into());
    }
    Value::Object(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_are_read_from_their_own_lines_and_from_a_log() {
        let of = AuditCheckpoint {
            writer: "node-1".into(),
            sequence: 7,
            hash: vec![1; 32],
            at_unix_ms: 5,
            key: vec![2; 32],
            signature: vec![3; 64],
        };
        let mut log = checkpoint(&of);
        log["ts"] = "2026-11-20T12:00:00.000Z".into();
        log["level"] = "info".into();
        assert_eq!(read_checkpoint(&checkpoint(&of).to_string()), Ok(Some(of.clone())));
        assert_eq!(read_checkpoint(&log.to_string()), Ok(Some(of.clone())));
        for other in ["", "user-store serves", r#"{"event":"authentication"}"#, "[1]"] {
            assert_eq!(read_checkpoint(other), Ok(None), "{other}");
        }
        for (name, value) in [("hash", json!("xyz")), ("sequence", json!("7")), ("writer", Value::Null)] {
            let mut broken = checkpoint(&of);
            broken[name] = value;
            assert!(read_checkpoint(&broken.to_string()).is_err_and(|why| why.starts_with(name)), "{name}");
        }
    }
}
