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
    let page = page(listen, "/readyz?verbose").await?;
    if page.good {
        output.text("ready", &serde_json::json!({ "ready": true }));
        return Ok(());
    }
    line(page.body.trim());
    Err(Failure::no("not ready"))
}

/// What a process says of itself.
pub struct Page {
    pub good: bool,
    pub body: String,
}

/// Beyond it a page is cut: that of the metrics is the longest.
const PAGE_OCTETS_MAX: u64 = 4 << 20;

/// A page of the management port, which says 200 where all is well.
pub async fn page(listen: SocketAddr, path: &str) -> Result<Page, Failure> {
    let address = if listen.ip().is_unspecified() { SocketAddr::from(([127, 0, 0, 1], listen.port())) } else { listen };
    let answer = timeout(Duration::from_secs(3), ask(address, path))
        .await
        .map_err(|_| Failure::new(Exit::Unreachable, format!("{address} did not answer within 3 s")))?
        .map_err(|error| Failure::new(Exit::Unreachable, format!("{address} cannot be reached: {error}")))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    Ok(Page { good: head.split(' ').nth(1) == Some("200"), body: body.to_owned() })
}

/// By HTTP/1.0, so that the body comes as it is.
async fn ask(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.0\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(PAGE_OCTETS_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
