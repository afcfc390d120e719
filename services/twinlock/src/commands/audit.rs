//! `twinlock audit`: what happened, in the order it was committed.

use crate::{
    connect::Connection,
    failure::Failure,
    output::{Output, line, printable, time},
};
use clap::Subcommand;
use proto::user_store::{AuditEvent, ListAuditRequest, VerifyAuditRequest};
use serde_json::{Value, json};
use std::time::Duration;

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
        /// Only this attempt: the request id of a log line.
        #[arg(long, default_value = "")]
        request: String,
    },
    /// Checks the chain of hashes from the first record to the last; names the first bad one.
    Verify,
}

pub async fn run(command: Command, mut connection: Connection, output: Output) -> Result<(), Failure> {
    match command {
        Command::Tail { lines, follow, client, request } => {
            let first = ListAuditRequest {
                limit: lines,
                newest: true,
                client: client.clone(),
                transaction_id: request.clone(),
                ..Default::default()
            };
            let page = connection.admin.list_audit(first).await?.into_inner();
            let mut last = page.last;
            print(output, &page.events);
            if !follow {
                return Ok(());
            }
            loop {
                tokio::time::sleep(Duration::from_millis(500)).await;
                let more = ListAuditRequest {
                    after: last,
                    limit: 1000,
                    client: client.clone(),
                    transaction_id: request.clone(),
                    ..Default::default()
                };
                let page = connection.admin.list_audit(more).await?.into_inner();
                print(output, &page.events);
                last = page.last.max(last);
            }
        }
        Command::Verify => {
            let reply = connection.admin.verify_audit(VerifyAuditRequest {}).await?.into_inner();
            let record = json!({ "verified": reply.verified, "first_bad": reply.first_bad, "text": reply.text });
            if reply.first_bad != 0 {
                line(&record.to_string());
                return Err(Failure::no(reply.text));
            }
            output.text(&format!("{} records, the chain is whole", reply.verified), &record);
            Ok(())
        }
    }
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
