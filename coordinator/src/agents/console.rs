//! Serial consoles: bytes between a client and a guest. Only the leader has links to agents, so another member
//! opens a stream to the leader, which opens one to the agent and copies.

use std::time::Duration;

use bytes::Bytes;
use novacron_protocol::api::{Code, Problem};
use novacron_protocol::effect::{StreamRequest, StreamResponse};
use novacron_protocol::ids::{NodeName, VmId};
use novacron_protocol::vm::VmState;
use novacron_protocol::wire::codec::{self, CodecError, Message};
use quinn::{RecvStream, SendStream};
use tokio::time::timeout;

use super::Sessions;
use crate::peers::{Answer, Call, Declined, LeaderLink, PeerError};
use crate::view::View;

/// How long opening may take, with the way to the leader.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an agent may take to answer; after it there is time to say so.
const AGENT_TIMEOUT: Duration = Duration::from_secs(3);

/// An open console. Dropping it ends it.
#[derive(Debug)]
pub struct Console {
    /// To the guest.
    pub send: SendStream,
    /// From the guest; ends when the console ends.
    pub receive: RecvStream,
}

/// Why there is no console.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsoleError {
    /// There is no such machine.
    #[error("there is no machine {0}")]
    NoSuchVm(VmId),
    /// The machine is nowhere, or its agent says no.
    #[error("{0}")]
    NotPossible(String),
    /// The agent of the machine's node is not connected, or does not answer.
    #[error("node {0} is not reachable now")]
    NodeAway(NodeName),
    /// No leader can be reached.
    #[error("the cluster has no leader that can be reached at the moment; try again")]
    Unavailable,
}

impl ConsoleError {
    /// The whole answer of the API.
    pub fn to_problem(&self) -> Problem {
        let code = match self {
            Self::NoSuchVm(_) => Code::NotFound,
            Self::NotPossible(_) => Code::Conflict,
            Self::NodeAway(_) => Code::NodeUnreachable,
            Self::Unavailable => Code::Unavailable,
        };
        Problem::new(code, self.to_string())
    }
}

/// Opens consoles, on any member. Cheap to clone.
#[derive(Clone)]
pub struct Consoles {
    sessions: Sessions,
    view: View,
    leader: LeaderLink,
}

impl Consoles {
    /// Consoles of a member.
    pub fn new(sessions: Sessions, view: View, leader: LeaderLink) -> Self {
        Self { sessions, view, leader }
    }

    /// Opens the console of a machine: first its log from `from_offset` on (beyond its end means from now on),
    /// and with `follow` whatever the guest writes from then on.
    ///
    /// # Errors
    /// [`ConsoleError`].
    pub async fn open(
        &self,
        vm: VmId,
        from_offset: u64,
        follow: bool,
    ) -> Result<Console, ConsoleError> {
        let opening = async {
            match self.leader.other_leader() {
                Some((leader, node)) => {
                    let call = Call::Console { vm, from_offset, follow };
                    let opened = self.leader.links().open(leader, &node, call).await;
                    relayed(opened)
                }
                None => self.open_here(vm, from_offset, follow).await,
            }
        };
        timeout(OPEN_TIMEOUT, opening).await.map_err(|_| ConsoleError::Unavailable)?
    }

    /// Opens a console over this member's own link to the agent.
    ///
    /// # Errors
    /// [`ConsoleError`].
    pub async fn open_here(
        &self,
        vm: VmId,
        from_offset: u64,
        follow: bool,
    ) -> Result<Console, ConsoleError> {
        let found = self.view.local(|fleet| fleet.vm(vm).map(|vm| (vm.state(), vm.node.clone())));
        let (state, node) = found.ok_or(ConsoleError::NoSuchVm(vm))?;
        let not_possible = |text: String| ConsoleError::NotPossible(text);
        let node = node.filter(|_| state != VmState::Deleted);
        let node = node.ok_or_else(|| not_possible("the machine is on no node".to_owned()))?;
        let away = || ConsoleError::NodeAway(node.clone());
        let session = self.sessions.get(&node).ok_or_else(away)?;
        let request = StreamRequest::Console { vm, from_offset, follow };
        match timeout(AGENT_TIMEOUT, ask(&session.connection, &request)).await {
            Ok(Ok(console)) => Ok(console),
            Ok(Err(NoConsole::Refused(reason))) => Err(not_possible(reason)),
            Ok(Err(NoConsole::Lost)) | Err(_) => Err(away()),
        }
    }
}

/// Why an agent opened no console.
enum NoConsole {
    /// The link to it broke.
    Lost,
    /// It says no, or something that is not understood.
    Refused(String),
}

/// Opens a stream on an agent's link and sends the request.
async fn ask(
    connection: &novacron_transport::Connection,
    request: &StreamRequest,
) -> Result<Console, NoConsole> {
    let not_understood = |error: CodecError| NoConsole::Refused(error.to_string());
    let bytes = codec::encode(request).map_err(not_understood)?;
    let limit = StreamResponse::BYTES_MAX + 2;
    let (mut send, mut receive) =
        connection.open_frames(limit).await.map_err(|_| NoConsole::Lost)?;
    send.send(Bytes::from(bytes)).await.map_err(|_| NoConsole::Lost)?;
    let response = receive.receive().await.map_err(|_| NoConsole::Lost)?;
    let response = response.ok_or(NoConsole::Lost)?;
    match codec::decode(&response).map_err(not_understood)? {
        StreamResponse::Open => {
            Ok(Console { send: send.into_inner(), receive: receive.into_inner().0 })
        }
        StreamResponse::Refused { reason } => Err(NoConsole::Refused(reason)),
    }
}

type Opened = Result<(Answer, novacron_transport::connection::FramedStream), PeerError>;

fn relayed(opened: Opened) -> Result<Console, ConsoleError> {
    match opened {
        Ok((Answer::Console, (send, receive))) => {
            Ok(Console { send: send.into_inner(), receive: receive.into_inner().0 })
        }
        Err(PeerError::Declined(Declined::NotPossible(reason))) => {
            Err(ConsoleError::NotPossible(reason))
        }
        Err(PeerError::Declined(Declined::NodeAway(node))) => Err(ConsoleError::NodeAway(node)),
        Ok(_) | Err(_) => Err(ConsoleError::Unavailable),
    }
}
