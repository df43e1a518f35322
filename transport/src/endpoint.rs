//! QUIC sockets: one endpoint both dials and is dialled. Only verified peers come out of it.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use quinn::crypto::rustls::{
    HandshakeData, NoInitialCipherSuite, QuicClientConfig, QuicServerConfig,
};
use quinn::{ClientConfig, EndpointConfig, ServerConfig, TokioRuntime};
use rustix::net::sockopt;
use rustls_pki_types::CertificateDer;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::accept::{self, Admission, Gate, Refused};
use crate::connection::{self, CloseCode, Closed, Connection};
use crate::counters::Counters;
use crate::credentials::Credentials;
use crate::identity::{self, ExpectedPeer, Identity, IdentityError, Role};
use crate::reset;
use crate::settings::{InvalidSetting, LinkSettings};
use crate::tls::{self, TlsError};

/// Bytes of packets kept for one attempt whose handshake has not begun.
const INCOMING_BUFFER_BYTES: u64 = 16 * 1024;

/// Why an endpoint cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The address cannot be bound.
    #[error("cannot bind UDP {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The credentials cannot be used.
    #[error("cannot set TLS up")]
    Tls(#[from] TlsError),
    /// The TLS provider lacks what QUIC starts with; a fault of the build.
    #[error("the TLS provider does not fit QUIC")]
    Provider(#[from] NoInitialCipherSuite),
    /// A setting cannot be used.
    #[error(transparent)]
    Setting(#[from] InvalidSetting),
    /// The role's certificates may not be shown by the end that is dialled.
    #[error("{identity} may not accept connections")]
    MayNotServe {
        /// Whose credentials they are.
        identity: Box<Identity>,
    },
}

/// Why a peer could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address cannot be dialled.
    #[error("cannot dial {address}")]
    Dial {
        /// The address.
        address: SocketAddr,
        /// What QUIC said.
        #[source]
        source: quinn::ConnectError,
    },
    /// The handshake failed: nobody there, another cluster, no common version or protocol.
    #[error("the handshake with {address} failed")]
    Handshake {
        /// The address.
        address: SocketAddr,
        /// How it ended.
        #[source]
        source: Closed,
    },
    /// No answer in time.
    #[error("no answer from {address} within {milliseconds} ms")]
    TimedOut {
        /// The address.
        address: SocketAddr,
        /// The deadline.
        milliseconds: u128,
    },
    /// Somebody answered, but not the one who was dialled.
    #[error("the wrong peer answered at {address}")]
    WrongPeer {
        /// The address.
        address: SocketAddr,
        /// Who answered, or what is wrong with the certificate.
        #[source]
        source: IdentityError,
    },
    /// The handshake did not settle the application protocol.
    #[error("{address} does not speak the protocol")]
    WrongProtocol {
        /// The address.
        address: SocketAddr,
    },
}

/// A socket that dials members of the cluster. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Endpoint {
    quic: quinn::Endpoint,
    client: ClientConfig,
    local: Arc<Identity>,
    settings: LinkSettings,
    counters: Arc<Counters>,
}

impl Endpoint {
    /// Binds `address`, to dial and to be dialled by the roles in `welcome`. Must be called within a tokio
    /// runtime; one task per endpoint drives the handshakes and ends with [`Self::close`] or the [`Acceptor`].
    ///
    /// # Errors
    /// [`EndpointError`].
    pub fn bind(
        address: SocketAddr,
        credentials: &Credentials,
        welcome: &[Role],
        settings: LinkSettings,
    ) -> Result<(Self, Acceptor), EndpointError> {
        let local = credentials.identity();
        if !local.role.may_serve() {
            return Err(EndpointError::MayNotServe { identity: Box::new(local.clone()) });
        }
        let server = server_config(tls::link_server(credentials)?, &settings)?;
        let endpoint = Self::new(address, credentials, Some(server), settings)?;
        let acceptor = endpoint.listen(welcome);
        Ok((endpoint, acceptor))
    }

    /// Binds `address` to dial only.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub fn client(
        address: SocketAddr,
        credentials: &Credentials,
        settings: LinkSettings,
    ) -> Result<Self, EndpointError> {
        Self::new(address, credentials, None, settings)
    }

    fn new(
        address: SocketAddr,
        credentials: &Credentials,
        server: Option<ServerConfig>,
        settings: LinkSettings,
    ) -> Result<Self, EndpointError> {
        let client = client_config(tls::link_client(credentials)?, &settings)?;
        let quic = bind(address, Some(credentials), server, &settings)?;
        let local = Arc::new(credentials.identity().clone());
        Ok(Self { quic, client, local, settings, counters: Arc::default() })
    }

    fn listen(&self, welcome: &[Role]) -> Acceptor {
        let (output, connections) = mpsc::channel(self.settings.accept_backlog_max);
        let gate = Gate {
            admission: Members {
                local: Arc::clone(&self.local),
                welcome: welcome.to_vec(),
                counters: Arc::clone(&self.counters),
            },
            settings: self.settings.clone(),
            counters: Arc::clone(&self.counters),
        };
        let task = tokio::spawn(accept::run(self.quic.clone(), gate, output));
        Acceptor { connections, task }
    }

    /// Dials `address` and returns once `expected` has answered there.
    ///
    /// The peer judges this side's certificate after that: if it refuses, the first use of the connection
    /// fails, and [`Connection::closed`] gives its code and reason.
    ///
    /// Cancel-safe: dropping the future gives the attempt up.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(
        &self,
        address: SocketAddr,
        expected: &ExpectedPeer,
    ) -> Result<Connection, ConnectError> {
        let name = identity::server_name(self.local.cluster);
        let quic = dial(&self.quic, self.client.clone(), address, &name, &self.settings).await?;
        if protocol(&quic).as_deref() != Some(tls::LINK_ALPN) {
            connection::close(&quic, CloseCode::BadProtocol, "dwcp/3 expected");
            return Err(ConnectError::WrongProtocol { address });
        }
        let found = member(&quic, &self.local)
            .and_then(|found| expected.check(&found).map(|()| found))
            .map_err(|source| self.refuse(&quic, address, source))?;
        Ok(Connection::new(quic, found, Arc::clone(&self.counters)))
    }

    fn refuse(
        &self,
        quic: &quinn::Connection,
        address: SocketAddr,
        source: IdentityError,
    ) -> ConnectError {
        self.counters.identities_refused.increment();
        connection::close(quic, CloseCode::IdentityRefused, &source.to_string());
        ConnectError::WrongPeer { address, source }
    }

    /// Who this endpoint is.
    pub fn identity(&self) -> &Identity {
        &self.local
    }

    /// The bound address, with the port that the system chose if it was 0.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.quic.local_addr()
    }

    /// What has been admitted and refused here.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Closes every connection, refuses new ones and ends the acceptor.
    pub fn close(&self, code: CloseCode, reason: &str) {
        connection::close_all(&self.quic, code, reason);
    }

    /// Waits until peers have been told of the end of every connection, or were given three round trips to
    /// hear of it. Call after [`Self::close`], before the runtime stops.
    pub async fn wait_idle(&self) {
        self.quic.wait_idle().await;
    }
}

/// The dialled side of an [`Endpoint`]. Without it new peers get no answer; open connections stay.
#[derive(Debug)]
pub struct Acceptor {
    connections: mpsc::Receiver<Connection>,
    task: JoinHandle<()>,
}

impl Acceptor {
    /// The next verified peer; `None` once the endpoint is closed. Cancel-safe.
    pub async fn accept(&mut self) -> Option<Connection> {
        self.connections.recv().await
    }

    /// Stops accepting and waits until every handshake under way has ended.
    pub async fn stop(self) {
        drop(self.connections);
        // The task cannot be aborted from elsewhere, and a panic in it has been reported by its own hook.
        let _ = self.task.await;
    }
}

/// Admits members of the cluster whose role is welcome.
struct Members {
    local: Arc<Identity>,
    welcome: Vec<Role>,
    counters: Arc<Counters>,
}

impl Admission for Members {
    type Admitted = Connection;

    fn admit(&self, quic: quinn::Connection) -> Result<Connection, Refused> {
        if protocol(&quic).as_deref() != Some(tls::LINK_ALPN) {
            let reason = "dwcp/3 expected".to_owned();
            return Err(Refused { quic, code: CloseCode::BadProtocol, reason });
        }
        let peer = member(&quic, &self.local)
            .and_then(|peer| peer.require_role(&self.welcome).map(|()| peer));
        match peer {
            Ok(peer) => Ok(Connection::new(quic, peer, Arc::clone(&self.counters))),
            Err(error) => {
                let (code, reason) = (CloseCode::IdentityRefused, error.to_string());
                Err(Refused { quic, code, reason })
            }
        }
    }
}

/// The identity of the peer, which must be of our cluster. (TLS has checked the authority; two clusters of
/// one authority do not exist, but then this would keep them apart.)
fn member(quic: &quinn::Connection, local: &Identity) -> Result<Identity, IdentityError> {
    let found = peer_identity(quic)?;
    if found.cluster == local.cluster {
        return Ok(found);
    }
    Err(IdentityError::OtherCluster { expected: local.cluster, found: found.cluster })
}

/// The identity that the peer's certificate names.
pub(crate) fn peer_identity(quic: &quinn::Connection) -> Result<Identity, IdentityError> {
    let chain = quic.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'_>>>().ok());
    tls::peer_identity(chain.as_ref().map(|chain| chain.as_slice()))
}

/// The application protocol that the handshake settled. That its TLS is version 1.3 follows twice: QUIC knows
/// no other (RFC 9001 §4.2), and our configurations offer no other.
pub(crate) fn protocol(quic: &quinn::Connection) -> Option<Vec<u8>> {
    quic.handshake_data()?.downcast::<HandshakeData>().ok()?.protocol
}

pub(crate) async fn dial(
    endpoint: &quinn::Endpoint,
    config: ClientConfig,
    address: SocketAddr,
    server_name: &str,
    settings: &LinkSettings,
) -> Result<quinn::Connection, ConnectError> {
    let connecting = endpoint
        .connect_with(config, address, server_name)
        .map_err(|source| ConnectError::Dial { address, source })?;
    match timeout(settings.handshake_timeout, connecting).await {
        Ok(Ok(quic)) => Ok(quic),
        Ok(Err(error)) => Err(ConnectError::Handshake { address, source: error.into() }),
        Err(_) => {
            let milliseconds = settings.handshake_timeout.as_millis();
            Err(ConnectError::TimedOut { address, milliseconds })
        }
    }
}

pub(crate) fn client_config(
    config: rustls::ClientConfig,
    settings: &LinkSettings,
) -> Result<ClientConfig, EndpointError> {
    let mut client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(config)?));
    client.transport_config(settings.transport_config()?);
    Ok(client)
}

pub(crate) fn server_config(
    config: rustls::ServerConfig,
    settings: &LinkSettings,
) -> Result<ServerConfig, EndpointError> {
    let waiting_max = settings.handshakes_max.max(1);
    let mut server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(config)?));
    server
        .transport_config(settings.transport_config()?)
        .max_incoming(waiting_max)
        .incoming_buffer_size(INCOMING_BUFFER_BYTES)
        .incoming_buffer_size_total(INCOMING_BUFFER_BYTES * waiting_max as u64);
    Ok(server)
}

/// A socket of a member, or of somebody who is none yet.
pub(crate) fn bind(
    address: SocketAddr,
    member: Option<&Credentials>,
    server: Option<ServerConfig>,
    settings: &LinkSettings,
) -> Result<quinn::Endpoint, EndpointError> {
    let bind = || {
        let socket = UdpSocket::bind(address)?;
        enlarge_buffers(&socket, settings.socket_buffer_bytes);
        let config = match member {
            Some(credentials) => reset::endpoint_config(credentials, socket.local_addr()?),
            None => EndpointConfig::default(),
        };
        quinn::Endpoint::new(config, server, socket, Arc::new(TokioRuntime))
    };
    bind().map_err(|source| EndpointError::Bind { address, source })
}

/// Asks for larger buffers and takes what the system grants: smaller ones cost speed, not correctness. The first
/// request of each pair goes past the system's default limit of 208 KiB and needs CAP_NET_ADMIN, which an
/// agent that runs as root has; the second is cut to that limit.
fn enlarge_buffers(socket: &UdpSocket, bytes: usize) {
    let receive = sockopt::set_socket_recv_buffer_size_force(socket, bytes)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(socket, bytes));
    let send = sockopt::set_socket_send_buffer_size_force(socket, bytes)
        .or_else(|_| sockopt::set_socket_send_buffer_size(socket, bytes));
    if let Err(error) = receive.and(send) {
        tracing::info!(%error, bytes, "the socket keeps its default buffers");
    }
}
