//! LDAP logins: connect, bind with password and code, one search by uid, unbind.

use crate::load::{Ending, Load, Report, drive};
use crate::people::{Login, People};
use anyhow::{Context, Result};
use bytes::BytesMut;
use ldap_wire::{
    BindRequest, Filter, Framer, LdapResult, Limits, Message, MessageId, Op, Password, Peer, Scope, SearchRequest, bind,
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

pub async fn run(server: SocketAddr, base: &str, people: Arc<People>, load: Load) -> Result<Report> {
    let base: Arc<str> = base.into();
    let report = drive("ldap connect, bind with code, search, unbind", load, move || {
        let (people, base) = (people.clone(), base.clone());
        async move {
            let Some(login) = people.login() else { return "no fresh code left" };
            ended(session(server, &base, &login)).await
        }
    });
    Ok(report.await)
}

/// How an operation ended that may take ten seconds.
pub async fn ended(operation: impl Future<Output = Result<Ending>>) -> Ending {
    match timeout(Duration::from_secs(10), operation).await {
        Ok(Ok(ending)) => ending,
        Ok(Err(_)) => "connection lost",
        Err(_) => "timeout",
    }
}

pub async fn session(server: SocketAddr, base: &str, login: &Login) -> Result<Ending> {
    let mut connection = Connection::open(server).await?;
    if !connection.bind(&login.name, &format!("{},{}", login.password, login.code)).await? {
        return Ok("refused");
    }
    let found = connection.search(base, &login.name).await?;
    connection.unbind().await?;
    Ok(if found == 1 { "accept" } else { "wrong answer" })
}

pub struct Connection<S> {
    stream: S,
    framer: Framer,
    buffer: BytesMut,
    last_id: MessageId,
}

impl Connection<TcpStream> {
    pub async fn open(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(Self::new(stream))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub fn new(stream: S) -> Self {
        let framer = Framer::new(Peer::Server, Limits::UPSTREAM);
        Self { stream, framer, buffer: BytesMut::new(), last_id: MessageId::UNSOLICITED }
    }

    /// Whether it succeeded.
    pub async fn bind(&mut self, name: &str, password: &str) -> Result<bool> {
        let request = BindRequest::simple(name.to_owned().into_bytes(), Password::new(password));
        let id = self.next_id();
        self.send(&request.encode(id, &[])).await?;
        Ok(LdapResult::decode(&self.next().await?).context("BindResponse")?.is_success())
    }

    /// How many entries have this uid.
    pub async fn search(&mut self, base: &str, uid: &str) -> Result<usize> {
        let filter = Filter::equal("uid", uid.as_bytes());
        self.find(&SearchRequest::new(base.to_owned(), Scope::Subtree, &filter, &["cn", "mail"])).await
    }

    /// Whether it still answers: the root DSE is everybody's to read.
    pub async fn is_alive(&mut self) -> bool {
        let root = SearchRequest::new("", Scope::Base, &Filter::present("objectClass"), &["1.1"]);
        matches!(timeout(Duration::from_secs(10), self.find(&root)).await, Ok(Ok(1)))
    }

    async fn find(&mut self, search: &SearchRequest) -> Result<usize> {
        let id = self.next_id();
        self.send(&search.encode(id, &[])).await?;
        let mut entries = 0;
        loop {
            let message = self.next().await?;
            match message.op() {
                Op::SearchResultEntry => entries += 1,
                Op::SearchResultDone => return Ok(entries),
                _ => {}
            }
        }
    }

    pub async fn unbind(mut self) -> Result<()> {
        let id = self.next_id();
        self.send(&bind::unbind_request(id)).await
    }

    /// TLS keeps what the socket does not take at once, as in a task that has had its share of time, until it is flushed.
    async fn send(&mut self, octets: &[u8]) -> Result<()> {
        self.stream.write_all(octets).await?;
        Ok(self.stream.flush().await?)
    }

    fn next_id(&mut self) -> MessageId {
        self.last_id = self.last_id.next();
        self.last_id
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

#[cfg(test)]
mod tests {
    use super::*;
    use lab::{COMPANY_BASE, Pki, Slapd, SlapdOptions};
    use tokio::io::BufStream;

    #[tokio::test]
    async fn a_stream_that_keeps_octets_until_it_is_flushed_is_answered() -> Result<()> {
        // As TLS streams do, now and then: thousands of them stood still for one that was not flushed.
        let dir = tempfile::tempdir()?;
        let pki = Pki::new(&dir.path().join("tls"))?;
        let slapd = Slapd::start(dir.path(), &pki, &SlapdOptions::default())?;
        let stream = TcpStream::connect(("127.0.0.1", slapd.ldap_port())).await?;
        let mut connection = Connection::new(BufStream::new(stream));
        let bound = ended(async {
            let bound = connection.bind(Slapd::GITLAB_DN, Slapd::GITLAB_PASSWORD).await?;
            Ok(if bound && connection.search(COMPANY_BASE, "ann.archer").await? == 1 { "answered" } else { "refused" })
        });
        assert_eq!(bound.await, "answered");
        connection.unbind().await
    }
}
