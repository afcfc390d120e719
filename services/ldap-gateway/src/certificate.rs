//! TLS with clients, and the certificates that they show: part of who a client is (FL-22), of whether a service account is listed
//! (L-22), and all that EXTERNAL goes by (L-36). Certificates are asked for only where the settings of a client speak of them.

use crate::LdapSection;
use crate::settings::Client;
use domain::settings::ClientCertificate;
use service_kit::Shutdown;
use service_kit::tls::{ClientAuth, Identity, ServerTls, TlsError, TlsOptions, marks};
use std::io;
use tokio::net::TcpStream;
use tokio_rustls::rustls::Error;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::server::TlsStream;

/// What a client has shown, and proven to be its own.
pub struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    marks: Vec<String>,
}

impl Certificate {
    /// For logs: its fingerprint.
    pub fn mark(&self) -> &str {
        self.marks.first().map_or("", String::as_str)
    }

    /// Is it listed, by its fingerprint or a name in it?
    pub fn is_one_of(&self, listed: &[String]) -> bool {
        listed.iter().any(|listed| self.marks.iter().any(|mark| mark.eq_ignore_ascii_case(listed)))
    }
}

/// Our side of handshakes, by what the client is asked for.
pub struct Tls {
    nothing: ServerTls,
    certificate: Option<Asking>,
}

/// There is an authority whose certificates count.
struct Asking {
    optional: ServerTls,
    required: ServerTls,
}

/// Why there is no connection by TLS. The client's to mend.
#[derive(Debug, thiserror::Error)]
pub enum NoTls {
    #[error("no certificate that counts was shown")]
    Certificate,
    #[error("the handshake failed")]
    Handshake(#[source] io::Error),
}

impl Tls {
    /// `None` where the configuration has no certificate of ours.
    pub fn load(section: &LdapSection) -> Result<Option<Self>, TlsError> {
        let (Some(certificate), Some(key)) = (&section.certificate_file, &section.key_file) else { return Ok(None) };
        let load = |clients| {
            let identity = Identity { certificate: certificate.clone(), key: key.clone() };
            ServerTls::load("ldap", identity, clients, TlsOptions::default())
        };
        let asking = |authority: &service_kit::config::InputFile| {
            let optional = load(ClientAuth::Optional(authority.clone()))?;
            Ok::<_, TlsError>(Asking { optional, required: load(ClientAuth::Required(authority.clone()))? })
        };
        let certificate = section.client_ca_file.as_ref().map(asking).transpose()?;
        Ok(Some(Self { nothing: load(ClientAuth::None)?, certificate }))
    }

    pub fn watch(&self, shutdown: &Shutdown) {
        let asking = self.certificate.iter().flat_map(|asking| [&asking.optional, &asking.required]);
        std::iter::once(&self.nothing).chain(asking).for_each(|tls| tls.watch(shutdown));
    }

    /// The handshake with a connection of this client, which ends well only if it shows what the settings want of it.
    pub async fn accept(
        &self,
        client: &Client,
        stream: TcpStream,
    ) -> Result<(TlsStream<TcpStream>, Option<Certificate>), NoTls> {
        let tls = match (client.asks_for_certificate(), &self.certificate) {
            (None, _) | (Some(ClientCertificate::Off), None) => &self.nothing,
            (Some(ClientCertificate::Off), Some(asking)) => &asking.optional,
            (Some(ClientCertificate::Required), Some(asking)) => &asking.required,
            (Some(ClientCertificate::Required), None) => {
                tracing::warn!(
                    client = client.name(),
                    "certificates cannot be asked for: ldap.client_ca_file is not set"
                );
                return Err(NoTls::Certificate);
            }
        };
        let stream = tls.acceptor().accept(stream).await.map_err(NoTls::from)?;
        let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let chain: Vec<_> = shown.iter().map(|it| it.clone().into_owned()).collect();
        let certificate = chain.first().map(|own| marks(own)).map(|marks| Certificate { chain, marks });
        // Of a resumed session, too: nobody has looked at its certificate since.
        let certificate = certificate.filter(|certificate| self.trusts(certificate));
        match client.admits(certificate.as_ref()) {
            true => Ok((stream, certificate)),
            false => Err(NoTls::Certificate),
        }
    }

    /// Would it still be let in? Certificates expire, and authorities change, while a connection stays open.
    pub fn trusts(&self, certificate: &Certificate) -> bool {
        self.certificate.as_ref().is_some_and(|asking| asking.required.still_trusts(&certificate.chain))
    }
}

impl From<io::Error> for NoTls {
    fn from(error: io::Error) -> Self {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
        match cause {
            Some(Error::NoCertificatesPresented | Error::InvalidCertificate(_)) => Self::Certificate,
            _ => Self::Handshake(error),
        }
    }
}
