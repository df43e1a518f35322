//! TLS under ureq.
//!
//! ureq's own connector verifies the host name of the URL. In a cluster the certificate's identity counts, not
//! the address: rustls verifies the chain and the cluster's own name, and the role is compared before the first
//! byte of a request leaves. ureq takes such a connector as a part; the trait is outside its promise of stability,
//! which `Cargo.lock` answers.

use std::cell::Cell;
use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::{ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

use crate::credentials::Credentials;
use crate::peer::{Peer, server_name};

thread_local! {
    /// Whether a byte of the request that this thread is at has left. ureq does all of it on the thread that asks.
    static HAS_LEFT: Cell<bool> = const { Cell::new(false) };
}

/// This thread begins a request.
pub(crate) fn begin_request() {
    HAS_LEFT.set(false);
}

/// Whether any of it has left: what had not certainly did nothing.
pub(crate) fn has_left() -> bool {
    HAS_LEFT.get()
}

/// Wraps a TCP connection in TLS to a coordinator of the client's cluster.
pub(crate) struct ClusterConnector {
    credentials: Credentials,
    name: ServerName<'static>,
}

impl ClusterConnector {
    /// A connector with the client's credentials.
    pub(crate) fn new(
        credentials: Credentials,
    ) -> Result<Self, rustls_pki_types::InvalidDnsNameError> {
        let name = ServerName::try_from(server_name(credentials.cluster))?;
        Ok(Self { credentials, name })
    }

    fn check_peer(&self, connection: &ClientConnection) -> Result<(), Refusal> {
        let certificate = connection.peer_certificates().and_then(|chain| chain.first());
        match certificate.and_then(Peer::of) {
            Some(peer) if peer.cluster != self.credentials.cluster => Err(Refusal::OtherCluster),
            Some(peer) if peer.role != "coordinator" => Err(Refusal::OtherRole(peer.role)),
            Some(_) => Ok(()),
            None => Err(Refusal::Nobody),
        }
    }
}

/// Why a server that the cluster's authority vouches for is not one to talk to.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("its certificate names no member of a cluster")]
    Nobody,
    #[error("it belongs to another cluster")]
    OtherCluster,
    #[error("its certificate has the role {0}, not coordinator")]
    OtherRole(String),
}

impl<In: Transport> Connector<In> for ClusterConnector {
    type Out = ClusterTransport;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<ClusterTransport>, ureq::Error> {
        let Some(transport) = chained else { return Ok(None) };
        let mut connection =
            ClientConnection::new(Arc::clone(&self.credentials.tls), self.name.clone())?;
        let mut socket = TransportAdapter::new(transport.boxed(), details.current_time.clone());
        socket.set_timeout(details.timeout);
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        self.check_peer(&connection).map_err(io::Error::other)?;
        let (input, output) =
            (details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(ClusterTransport {
            buffers: LazyBuffers::new(input, output),
            stream: StreamOwned { conn: connection, sock: socket },
        }))
    }
}

impl fmt::Debug for ClusterConnector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ClusterConnector").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A TLS connection to a coordinator.
pub(crate) struct ClusterTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl Transport for ClusterTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        HAS_LEFT.set(true);
        self.stream.write_all(&self.buffers.output()[..amount])?;
        self.stream.flush()?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for ClusterTransport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ClusterTransport").finish_non_exhaustive()
    }
}
