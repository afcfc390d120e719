//! The ports of the configuration: all of them open while a client of the settings may come to them, and none otherwise (FR-01).

use super::{ListenError, RadSec, Socket, bind, listen};
use crate::Gateway;
use crate::config::RadiusSection;
use radius_wire::Port;
use service_kit::ports::Open;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) struct Ports {
    listen: Vec<SocketAddr>,
    accounting_listen: Vec<SocketAddr>,
    radsec: Option<RadSec>,
    opened: Mutex<Addresses>,
}

/// Where RADIUS is spoken, or was last, with the ports that the system chose where none were given.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    pub authentication: Vec<SocketAddr>,
    pub accounting: Vec<SocketAddr>,
    /// By TLS.
    pub radsec: Vec<SocketAddr>,
}

impl Ports {
    /// Reads the certificates; opens nothing yet.
    pub(crate) fn new(section: &RadiusSection) -> Result<Self, ListenError> {
        let radsec = match section.radsec().filter(|_| !section.radsec_listen.is_empty()) {
            Some((identity, authority)) => {
                let lists = section.radsec_crl_file.clone();
                Some(RadSec::load(section.radsec_listen.clone(), identity, authority, lists)?)
            }
            None => None,
        };
        Ok(Self {
            listen: section.listen.clone(),
            accounting_listen: section.accounting_listen.clone(),
            radsec,
            opened: Mutex::default(),
        })
    }

    /// New certificate files are taken up from now on.
    pub(crate) fn watch_certificates(&self, gateway: &Gateway) {
        if let Some(radsec) = &self.radsec {
            radsec.watch(&gateway.shutdown);
        }
    }

    /// All or none.
    pub(crate) fn open(&self, gateway: &Arc<Gateway>) -> Result<Open, ListenError> {
        let authentication = bind("listen", &self.listen)?;
        let accounting = bind("accounting_listen", &self.accounting_listen)?;
        let radsec = self.radsec.as_ref().map(RadSec::bind).transpose()?.unwrap_or_default();
        let bound = |sockets: &[Arc<Socket>]| sockets.iter().map(|socket| socket.bound()).collect();
        *self.opened() = Addresses {
            authentication: bound(&authentication),
            accounting: bound(&accounting),
            radsec: radsec.iter().filter_map(|listener| listener.local_addr().ok()).collect(),
        };
        let mut open = Open::new();
        for (sockets, port) in [(authentication, Port::Authentication), (accounting, Port::Accounting)] {
            for socket in sockets {
                tracing::info!(service = crate::NAME, address = %socket.bound(), ?port, "listening for RADIUS");
                open.spawn(listen(gateway.clone(), socket, port));
            }
        }
        if let Some(by_tls) = &self.radsec {
            for listener in radsec {
                open.spawn(by_tls.accept(gateway.clone(), listener));
            }
        }
        Ok(open)
    }

    pub(crate) fn addresses(&self) -> Addresses {
        self.opened().clone()
    }

    fn opened(&self) -> MutexGuard<'_, Addresses> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held by whoever receives at a port. When the port closes, what came by it ends with it: an answer that is still to be given
/// would keep the port open as long as a person takes.
pub(super) struct Receiving(pub(super) Arc<Gateway>);

impl std::ops::Drop for Receiving {
    fn drop(&mut self) {
        // A process that stops refuses what is left, and needs the port for that.
        if !self.0.shutdown.is_stopping() {
            self.0.exchanges.end_all();
        }
    }
}
