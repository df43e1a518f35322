//! Connections to the other members: dialled when they are needed, kept, dialled anew when they end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use novacron_protocol::ids::{Incarnation, MemberId};
use novacron_protocol::wire::codec::{self, CodecError};
use novacron_transport::connection::{Closed, FramedStream};
use novacron_transport::endpoint::ConnectError;
use novacron_transport::{Connection, Endpoint, ExpectedPeer, FrameError, Role};
use tokio::sync::{Mutex as AsyncMutex, watch};

use super::message::{Answer, Call, Declined, PEER_MESSAGE_BYTES_MAX, PeerRequest, PeerResponse};
use crate::raft::MemberNode;

/// Why a member did not answer.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// Its address is not one.
    #[error("cannot find the address `{address}` of a coordinator")]
    Resolve {
        /// The address.
        address: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It cannot be reached.
    #[error("cannot reach coordinator `{name}`")]
    Connect {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: ConnectError,
    },
    /// Its name is not one.
    #[error("`{name}` is no name of a coordinator")]
    Name {
        /// The name.
        name: String,
    },
    /// The connection ended.
    #[error("the connection to a coordinator ended")]
    Closed(#[from] Closed),
    /// The stream failed.
    #[error("the call to a coordinator broke off")]
    Frame(#[from] FrameError),
    /// The stream ended without an answer.
    #[error("a coordinator gave no answer")]
    NoAnswer,
    /// The message cannot be written or read.
    #[error("a message between coordinators is not usable")]
    Codec(#[from] CodecError),
    /// It answered no.
    #[error("a coordinator declined")]
    Declined(#[source] Declined),
    /// This process is shutting down.
    #[error("this coordinator is shutting down")]
    ShuttingDown,
}

type Slot = Arc<AsyncMutex<Link>>;

/// The link to one member.
#[derive(Debug, Default)]
struct Link {
    connection: Option<Connection>,
    /// Whether the last dial failed: said once, not at every heartbeat.
    is_away: bool,
}

impl Link {
    fn open(&self) -> Option<&Connection> {
        self.connection.as_ref().filter(|connection| connection.close_reason().is_none())
    }

    fn note(&mut self, node: &MemberNode, dialled: &Result<Connection, PeerError>) {
        match dialled {
            Ok(connection) => {
                if std::mem::take(&mut self.is_away) {
                    tracing::info!(%node, "a coordinator can be reached again");
                }
                self.connection = Some(connection.clone());
            }
            Err(error) if !std::mem::replace(&mut self.is_away, true) => {
                let error = error as &dyn std::error::Error;
                tracing::warn!(%node, error, "a coordinator cannot be reached");
            }
            Err(_) => {}
        }
    }
}

/// Connections to other members. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PeerLinks {
    own: MemberId,
    incarnation: Incarnation,
    endpoint: Endpoint,
    slots: Arc<Mutex<BTreeMap<String, Slot>>>,
    /// What says that this member is none any more.
    refused: watch::Sender<Option<Declined>>,
}

impl PeerLinks {
    /// Links of member `own`, dialled from `endpoint`. A coordinator that has no id yet is member 0, in life 0.
    pub fn new(own: MemberId, incarnation: Incarnation, endpoint: Endpoint) -> Self {
        let (slots, refused) = (Arc::default(), watch::Sender::new(None));
        Self { own, incarnation, endpoint, slots, refused }
    }

    /// Which life of the cluster this member lives in.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Ready when another member has said that this one does not belong to the cluster any more.
    pub async fn expelled(&self) -> Declined {
        let mut refused = self.refused.subscribe();
        let found = refused.wait_for(Option::is_some).await;
        // The sender is this value's own.
        found.ok().and_then(|found| found.clone()).unwrap_or(Declined::Stopped)
    }

    /// This member.
    pub fn own(&self) -> MemberId {
        self.own
    }

    /// Asks a member. Cancel-safe: a connection that is being made goes on being made.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn call(
        &self,
        to: MemberId,
        node: &MemberNode,
        call: Call,
    ) -> Result<Answer, PeerError> {
        self.open(to, node, call).await.map(|(answer, _)| answer)
    }

    /// Makes sure that there is a connection to a member. Cancel-safe, as [`Self::call`].
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn connect(&self, node: &MemberNode) -> Result<(), PeerError> {
        self.connection(node).await.map(drop)
    }

    /// Asks a member and keeps the stream, for calls after whose answer bytes follow.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn open(
        &self,
        to: MemberId,
        node: &MemberNode,
        call: Call,
    ) -> Result<(Answer, FramedStream), PeerError> {
        let request = codec::encode(&PeerRequest {
            from: self.own,
            incarnation: self.incarnation,
            to,
            call,
        })?;
        let connection = self.connection(node).await?;
        let (mut send, mut receive) = connection.open_frames(PEER_MESSAGE_BYTES_MAX + 2).await?;
        send.send(request.into()).await?;
        let response = receive.receive().await?.ok_or(PeerError::NoAnswer)?;
        match codec::decode(&response)? {
            PeerResponse::Answer(answer) => Ok((*answer, (send, receive))),
            PeerResponse::Declined(declined) => {
                self.note(&declined);
                Err(PeerError::Declined(declined))
            }
        }
    }

    /// Some refusals are about this member and not about the call.
    fn note(&self, declined: &Declined) {
        let is_over = match declined {
            Declined::MemberLeft { .. } => true,
            Declined::OtherIncarnation { found } => *found > self.incarnation,
            _ => false,
        };
        if is_over {
            self.refused.send_replace(Some(declined.clone()));
        }
    }

    /// The connection to a member. Raft's calls have deadlines far below a handshake's length on a busy
    /// machine, so the dial is a task of its own, which outlives the call that wanted it.
    async fn connection(&self, node: &MemberNode) -> Result<Connection, PeerError> {
        let slot = self.slot(node);
        let mut link = slot.lock_owned().await;
        if let Some(connection) = link.open() {
            return Ok(connection.clone());
        }
        let (endpoint, node) = (self.endpoint.clone(), node.clone());
        let dialled = tokio::spawn(async move {
            let dialled = dial(&endpoint, &node).await;
            link.note(&node, &dialled);
            dialled
        });
        dialled.await.map_err(|_| PeerError::ShuttingDown)?
    }

    fn slot(&self, node: &MemberNode) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(node.peer_address.clone()).or_default())
    }
}

async fn dial(endpoint: &Endpoint, node: &MemberNode) -> Result<Connection, PeerError> {
    let address = resolve(&node.peer_address).await?;
    let expected = expected(node)?;
    endpoint
        .connect(address, &expected)
        .await
        .map_err(|source| PeerError::Connect { name: node.name.clone(), source })
}

/// A member by its name; any coordinator at an address of which no more is known.
fn expected(node: &MemberNode) -> Result<ExpectedPeer, PeerError> {
    if node.name.is_empty() {
        return Ok(ExpectedPeer::any(Role::Coordinator));
    }
    let name = node.name.parse().map_err(|_| PeerError::Name { name: node.name.clone() })?;
    Ok(ExpectedPeer::named(Role::Coordinator, name))
}

/// The first address of `host:port`.
///
/// # Errors
/// [`PeerError::Resolve`].
pub async fn resolve(address: &str) -> Result<SocketAddr, PeerError> {
    let failed = |source| PeerError::Resolve { address: address.to_owned(), source };
    let mut found = tokio::net::lookup_host(address).await.map_err(failed)?;
    found.next().ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))
}
