//! An application that speaks LDAP octet by octet, from a loopback address of its choice: the address says which client
//! it is.

use crate::socket_address;
use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use ldap_wire::{
    BindRequest, Control, ExtendedRequest, Filter, Framer, LdapResult, Limits, Message, MessageId, Op, Password, Peer,
    Scope, SearchRequest, SearchResultEntry,
};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsConnector, rustls};

const PATIENCE: Duration = Duration::from_secs(60);

pub struct Application {
    stream: Box<dyn Stream>,
    framer: Framer,
    received: BytesMut,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + Sync> Stream for S {}

impl Application {
    /// `url` is `ldap://address:port`.
    pub async fn connect(url: &str, from: IpAddr) -> Result<Self> {
        Ok(Self::on(tcp(url, from).await?))
    }

    /// `url` is `ldaps://address:port`; what stands in the file `trusted` proves who is there.
    pub async fn connect_tls(url: &str, from: IpAddr, trusted: &Path) -> Result<Self> {
        Self::encrypt(tcp(url, from).await?, url, trusted).await
    }

    /// `url` is `ldap://address:port`; encrypted by StartTLS.
    pub async fn connect_start_tls(url: &str, from: IpAddr, trusted: &Path) -> Result<Self> {
        let mut clear = Self::connect(url, from).await?;
        clear.send(&ExtendedRequest::start_tls().encode(message_id(1)?, &[])).await?;
        let answer = clear.receive().await?.context("closed instead of an answer to StartTLS")?;
        ensure!(code_of(&answer)? == 0 && clear.received.is_empty(), "StartTLS is refused");
        Self::encrypt(clear.stream, url, trusted).await
    }

    async fn encrypt(stream: impl Stream + 'static, url: &str, trusted: &Path) -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(trusted)?)?;
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::from(socket_address(url)?.ip());
        Ok(Self::on(connector.connect(name, stream).await.with_context(|| url.to_owned())?))
    }

    fn on(stream: impl Stream + 'static) -> Self {
        let framer = Framer::new(Peer::Server, Limits::UPSTREAM);
        Self { stream: Box::new(stream), framer, received: BytesMut::new() }
    }

    pub async fn send(&mut self, octets: &[u8]) -> Result<()> {
        self.stream.write_all(octets).await?;
        Ok(self.stream.flush().await?)
    }

    /// The next message; `None` when the other side has closed.
    pub async fn receive(&mut self) -> Result<Option<Message>> {
        loop {
            if let Some(message) = self.framer.next_message(&mut self.received)? {
                return Ok(Some(message));
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.received)).await.context("no answer")?;
            // A reset is a close too.
            if read.unwrap_or(0) == 0 {
                return Ok(None);
            }
        }
    }

    /// A simple bind under this message id; the whole answer.
    pub async fn bind(&mut self, id: u32, name: &str, password: &str) -> Result<Message> {
        let request = BindRequest::simple(name.as_bytes().to_vec(), Password::new(password));
        self.send(&request.encode(message_id(id)?, &[])).await?;
        let answer = self.receive().await?.context("closed instead of a BindResponse")?;
        if answer.op() != Op::BindResponse {
            bail!("{:?} instead of a BindResponse", answer.op());
        }
        Ok(answer)
    }

    /// Everything that a search brings, octet for octet, its end included.
    pub async fn search(&mut self, id: u32, base: &str, filter: &Filter, controls: &[Control]) -> Result<Vec<Bytes>> {
        let request = SearchRequest::new(base.to_owned(), Scope::Subtree, filter, &["*", "+"]);
        self.send(&request.encode(message_id(id)?, controls)).await?;
        let mut messages = Vec::new();
        loop {
            let message = self.receive().await?.context("closed in the middle of a search")?;
            messages.push(message.octets().clone());
            if message.op() == Op::SearchResultDone {
                return Ok(messages);
            }
        }
    }

    /// These attributes of the root DSE.
    pub async fn search_root(&mut self, id: u32, attributes: &[&str]) -> Result<SearchResultEntry> {
        let request = SearchRequest::new("", Scope::Base, &Filter::present("objectClass"), attributes);
        self.send(&request.encode(message_id(id)?, &[])).await?;
        let message = self.receive().await?.context("closed instead of an entry")?;
        let entry = SearchResultEntry::decode(&message)?;
        ensure!(
            self.receive().await?.is_some_and(|message| message.op() == Op::SearchResultDone),
            "more than an entry"
        );
        Ok(entry)
    }
}

async fn tcp(url: &str, from: IpAddr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    let stream = socket.connect(socket_address(url)?).await.with_context(|| url.to_owned())?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The resultCode of an answer.
pub fn code_of(message: &Message) -> Result<u32> {
    Ok(LdapResult::decode(message)?.code.0)
}

fn message_id(id: u32) -> Result<MessageId> {
    MessageId::new(id).context("a message id")
}
