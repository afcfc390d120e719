//! LDAP logins: connect, bind with password and code, one search by uid, unbind.

use crate::load::{Ending, Load, Report, drive};
use anyhow::{Context, Result};
use bench::people::{Login, People};
use bytes::BytesMut;
use ldap_wire::{
    BindRequest, Filter, Framer, LdapResult, Limits, Message, MessageId, Op, Password, Peer, Scope, SearchRequest, bind,
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

pub async fn run(server: SocketAddr, base: &str, people: Arc<People>, load: Load) -> Result<Report> {
    let base: Arc<str> = base.into();
    let report = drive("ldap connect, bind with code, search, unbind", load, move || {
        let (people, base) = (people.clone(), base.clone());
        async move {
            let Some(login) = people.login() else { return "no fresh code left" };
            match timeout(Duration::from_secs(10), session(server, &base, &login)).await {
                Ok(Ok(ending)) => ending,
                Ok(Err(_)) => "connection lost",
                Err(_) => "timeout",
            }
        }
    });
    Ok(report.await)
}

async fn session(server: SocketAddr, base: &str, login: &Login) -> Result<Ending> {
    let mut connection = Connection::open(server).await?;
    let appended = format!("{},{}", login.password, login.code);
    let request = BindRequest::simple(login.name.clone().into_bytes(), Password::new(appended));
    connection.stream.write_all(&request.encode(id(1)?, &[])).await?;
    let response = connection.next().await?;
    if LdapResult::decode(&response).context("BindResponse")?.code.0 != 0 {
        return Ok("refused");
    }
    let filter = Filter::equal("uid", login.name.as_bytes());
    let search = SearchRequest::new(base.to_owned(), Scope::Subtree, &filter, &["cn", "mail"]);
    connection.stream.write_all(&search.encode(id(2)?, &[])).await?;
    let mut entries = 0;
    loop {
        let message = connection.next().await?;
        match message.op() {
            Op::SearchResultEntry => entries += 1,
            Op::SearchResultDone => break,
            _ => {}
        }
    }
    connection.stream.write_all(&bind::unbind_request(id(3)?)).await?;
    Ok(if entries == 1 { "accept" } else { "wrong answer" })
}

struct Connection {
    stream: TcpStream,
    framer: Framer,
    buffer: BytesMut,
}

impl Connection {
    async fn open(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, framer: Framer::new(Peer::Server, Limits::UPSTREAM), buffer: BytesMut::new() })
    }

    async fn next(&mut self) -> Result<Message> {
        loop {
            if let Some(message) = self.framer.next_message(&mut self.buffer)? {
                return Ok(message);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                anyhow::bail!("closed");
            }
        }
    }
}

fn id(number: u32) -> Result<MessageId> {
    MessageId::new(number).context("a message id")
}
