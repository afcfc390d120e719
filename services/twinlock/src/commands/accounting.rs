//! `twinlock accounting`: sessions as the devices told of them, where nobody else takes their accounting (FR-19).

use crate::{
    connect::Connection,
    failure::Failure,
    output::{Output, time},
};
use clap::Subcommand;
use proto::user_store::ListAccountingRequest;
use serde_json::json;

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// The newest first.
    List {
        /// Only of this client.
        #[arg(long)]
        client: Option<String>,
        /// Only of this name, as the device wrote it.
        #[arg(long)]
        username: Option<String>,
        /// Only of this session.
        #[arg(long)]
        session: Option<String>,
        /// Go on where a page ended.
        #[arg(long, default_value_t = 0)]
        after: u64,
        #[arg(short = 'n', long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
}

pub async fn run(command: Command, mut connection: Connection, output: Output) -> Result<(), Failure> {
    let Command::List { client, username, session, after, limit } = command;
    let request = ListAccountingRequest {
        client: client.unwrap_or_default(),
        username: username.unwrap_or_default(),
        session_id: session.unwrap_or_default(),
        before: after,
        limit,
    };
    let reply = connection.admin.list_accounting(request).await?.into_inner();
    let records = reply.records.iter().map(|record| {
        json!({
            "at": time(record.at_unix_ms),
            "client": record.client,
            "status": record.status,
            "username": record.username,
            "session": record.session_id,
            "calling_station": record.calling_station,
            "nas": record.nas,
            "address": record.framed_address,
            "seconds": record.session_seconds,
            "input_octets": record.input_octets,
            "output_octets": record.output_octets,
            "terminate_cause": record.terminate_cause,
        })
    });
    let next = (reply.next > 0).then(|| reply.next.to_string());
    let columns = ["at", "client", "status", "username", "session", "address", "seconds", "terminate_cause"];
    output.list(&columns, records.collect(), next.as_deref());
    Ok(())
}
