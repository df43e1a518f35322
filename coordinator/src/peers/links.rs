//! Connections to the other members: dialled when they are needed, kept, dialled anew when they end. A simulation
//! puts a network of its own in their place ([`Carrier`]); messages are encoded and read here for both.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use novacron_protocol::api::MemberReport;
use novacron_protocol::ids::{Incarnation, MemberId};
use novacron_protocol::wire::codec::{self, CodecError};
use novacron_transport::connection::{Closed, FramedStream};
use novacron_transport::endpoint::ConnectError;
use novacron_transport::{Connection, Endpoint, ExpectedPeer, FrameError, FramedRecv, Role};
use quinn::RecvStream;
use tokio::sync::{Mutex as AsyncMutex, watch};

use super::message::{Answer, Call, Declined, PEER_MESSAGE_BYTES_MAX, PeerRequest, PeerResponse};
use crate::fitness::{Fitness, Unfit};
use crate::raft::MemberNode;
use crate::state::formats::Formats;

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
    /// It answered another question.
    #[error("a coordinator answered something else")]
    OtherAnswer,
    /// What it says of itself is not what this release reads.
    #[error("what a coordinator says of itself cannot be read")]
    Report(#[source] serde_json::Error),
    /// It answered no.
    #[error("a coordinator declined")]
    Declined(#[source] Declined),
    /// This process is shutting down.
    #[error("this coordinator is shutting down")]
    ShuttingDown,
    /// Bytes cannot follow an answer here: the network is a simulated one.
    #[error("no stream can be kept on a simulated network")]
    NoStreams,
}

/// A network that carries whole messages: what a simulation has in the place of QUIC. The name in a member's
/// certificate is the carrier's to give.
pub trait Carrier: Debug + Send + Sync {
    /// Makes sure that a member can be reached.
    ///
    /// # Errors
    /// [`PeerError`].
    fn connect<'a>(&'a self, node: &'a MemberNode) -> BoxFuture<'a, Result<(), PeerError>>;

    /// Takes a request to a member and brings its response back.
    ///
    /// # Errors
    /// [`PeerError`].
    fn exchange<'a>(
        &'a self,
        node: &'a MemberNode,
        request: Bytes,
    ) -> BoxFuture<'a, Result<Bytes, PeerError>>;
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

/// Ways to the other members. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PeerLinks {
    own: MemberId,
    incarnation: Incarnation,
    formats: Formats,
    way: Way,
    /// What says that this member is none any more.
    refused: watch::Sender<Option<Declined>>,
    fitness: Fitness,
}

#[derive(Debug, Clone)]
enum Way {
    Connections(Box<Connections>),
    Carried(Arc<dyn Carrier>),
}

impl PeerLinks {
    /// Links of member `own`, dialled from `endpoint`. A coordinator that has no id yet is member 0, in life 0.
    pub fn new(own: MemberId, incarnation: Incarnation, endpoint: Endpoint) -> Self {
        let connections = Connections { endpoint, slots: Arc::default() };
        Self::over(Way::Connections(Box::new(connections)), own, incarnation)
    }

    /// Links of member `own` over a simulated network.
    pub fn carried(own: MemberId, incarnation: Incarnation, carrier: Arc<dyn Carrier>) -> Self {
        Self::over(Way::Carried(carrier), own, incarnation)
    }

    fn over(way: Way, own: MemberId, incarnation: Incarnation) -> Self {
        let (formats, refused) = (Formats::default(), watch::Sender::new(None));
        Self { own, incarnation, formats, way, refused, fitness: Fitness::default() }
    }

    /// The same, of a member that wants to know who has no room.
    #[must_use]
    pub fn watched(self, fitness: Fitness) -> Self {
        Self { fitness, ..self }
    }

    /// The same, for a program that understands other formats than this build.
    #[must_use]
    pub fn speaking(self, formats: Formats) -> Self {
        Self { formats, ..self }
    }

    /// What this member understands.
    pub fn formats(&self) -> Formats {
        self.formats
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

    /// What another member has said, if this one belongs to the cluster no more and never will again.
    pub fn why_expelled(&self) -> Option<Declined> {
        use Declined::{MemberLeft, OtherIncarnation};
        let refused = self.refused.borrow().clone();
        refused.filter(|one| matches!(one, MemberLeft { .. } | OtherIncarnation { .. }))
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
        let request = self.request(to, call)?;
        let answer = match &self.way {
            Way::Connections(links) => links.ask(node, request).await,
            Way::Carried(carrier) => {
                carrier.exchange(node, request).await.and_then(|bytes| read(&bytes))
            }
        };
        self.noted(to, answer)
    }

    /// What a member says of itself. Cancel-safe, as [`Self::call`].
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn report(&self, to: MemberId, node: &MemberNode) -> Result<MemberReport, PeerError> {
        match self.call(to, node, Call::Status).await? {
            Answer::Status(report) => serde_json::from_str(&report).map_err(PeerError::Report),
            _ => Err(PeerError::OtherAnswer),
        }
    }

    /// Makes sure that there is a connection to a member. Cancel-safe, as [`Self::call`].
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn connect(&self, node: &MemberNode) -> Result<(), PeerError> {
        match &self.way {
            Way::Connections(links) => links.connection(node).await.map(drop),
            Way::Carried(carrier) => carrier.connect(node).await,
        }
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
        let request = self.request(to, call)?;
        match &self.way {
            Way::Connections(links) => self.noted(to, links.open(node, request).await),
            Way::Carried(_) => Err(PeerError::NoStreams),
        }
    }

    fn request(&self, to: MemberId, call: Call) -> Result<Bytes, PeerError> {
        let (from, incarnation, formats) = (self.own, self.incarnation, self.formats);
        Ok(codec::encode(&PeerRequest { from, incarnation, formats, to, call })?.into())
    }

    /// Some refusals are about this member, or the other one, and not about the call.
    fn noted<T>(&self, to: MemberId, result: Result<T, PeerError>) -> Result<T, PeerError> {
        if let Err(PeerError::Declined(declined)) = &result {
            if self.is_over(declined) {
                self.refused.send_replace(Some(declined.clone()));
            }
            if matches!(declined, Declined::Unfit { reason: Unfit::NoRoom { .. }, .. }) {
                self.fitness.note_decline(to);
            }
        }
        result
    }

    fn is_over(&self, declined: &Declined) -> bool {
        match declined {
            Declined::MemberLeft { .. } | Declined::OtherFormats(_) => true,
            Declined::OtherIncarnation { found } => *found > self.incarnation,
            _ => false,
        }
    }
}

async fn answer(receive: &mut FramedRecv<RecvStream>) -> Result<Answer, PeerError> {
    read(&receive.receive().await?.ok_or(PeerError::NoAnswer)?)
}

fn read(response: &[u8]) -> Result<Answer, PeerError> {
    match codec::decode(response)? {
        PeerResponse::Answer(answer) => Ok(*answer),
        PeerResponse::Declined(declined) => Err(PeerError::Declined(declined)),
    }
}

/// Connections over QUIC.
#[derive(Debug, Clone)]
struct Connections {
    endpoint: Endpoint,
    slots: Arc<Mutex<BTreeMap<String, Slot>>>,
}

impl Connections {
    /// A stream for one call. It ends in either direction with the bytes that were last: an end of its own is a packet.
    async fn ask(&self, node: &MemberNode, request: Bytes) -> Result<Answer, PeerError> {
        let (mut send, mut receive) = self.begin(node, request).await?;
        send.finish().await?;
        let answer = answer(&mut receive).await;
        receive.note_end();
        answer
    }

    /// A stream that stays.
    async fn open(
        &self,
        node: &MemberNode,
        request: Bytes,
    ) -> Result<(Answer, FramedStream), PeerError> {
        let (send, mut receive) = self.begin(node, request).await?;
        Ok((answer(&mut receive).await?, (send, receive)))
    }

    async fn begin(&self, node: &MemberNode, request: Bytes) -> Result<FramedStream, PeerError> {
        let connection = self.connection(node).await?;
        let (mut send, receive) = connection.open_frames(PEER_MESSAGE_BYTES_MAX + 2).await?;
        send.send(request).await?;
        Ok((send, receive))
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
