//! `twinlock health`: asks /readyz of a running part. The container's own health check, so it needs no other tool.

use crate::{
    failure::{Exit, Failure},
    output::{Output, line},
};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Ready: exit 0. Not ready: exit 1, with what is missing. Nobody there: exit 3.
pub async fn run(listen: SocketAddr, output: Output) -> Result<(), Failure> {
    let address = if listen.ip().is_unspecified() { SocketAddr::from(([127, 0, 0, 1], listen.port())) } else { listen };
    let answer = timeout(Duration::from_secs(3), ask(address))
        .await
        .map_err(|_| Failure::new(Exit::Unreachable, format!("{address} did not answer within 3 s")))?
        .map_err(|error| Failure::new(Exit::Unreachable, format!("{address} cannot be reached: {error}")))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split(' ').nth(1) == Some("200") {
        output.text("ready", &serde_json::json!({ "ready": true }));
        return Ok(());
    }
    line(body.trim());
    Err(Failure::no("not ready"))
}

async fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /readyz?verbose HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.take(65_536).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
