//! One session with the leading coordinator.

use std::time::Duration;

use bytes::Bytes;
use novacron_protocol::effect::{AgentMessage, CoordinatorMessage, Hello};
use novacron_protocol::ids::NodeName;
use novacron_protocol::limits::{CONTROL_MESSAGE_BYTES_MAX, EFFECTS_PER_MESSAGE_MAX};
use novacron_protocol::node::NodeFacts;
use novacron_protocol::version::{MINOR_RANGE, MinorRange, VersionMismatch, agree};
use novacron_protocol::wire::codec::{self, CodecError};
use novacron_transport::connection::{Closed, FramedStream};
use novacron_transport::{CloseCode, Connection, FrameError, FramedRecv, FramedSend};
use quinn::{RecvStream, SendStream};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::consoles;
use super::inbox::Inbox;
use super::life::{Life, NotFollowed};
use super::samples;
use crate::metering::{Batch, NotSent, Recorder};
use crate::report::Reporter;
use crate::sampling::Sampler;
use crate::vm::Machines;

/// A message and its version.
const FRAME_BYTES_MAX: usize = CONTROL_MESSAGE_BYTES_MAX + 2;

/// The coordinators take an agent for suspect after some of these are missing.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);

/// How long a coordinator may take to say whether it leads.
const WELCOME_DEADLINE: Duration = Duration::from_secs(5);

/// Consoles at once; each is a file, a buffer and perhaps a connection to a serial port.
const CONSOLES_MAX: usize = 64;

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// This coordinator does not lead.
    #[error("it does not lead")]
    NotLeader {
        /// The leader, if it is known.
        leader: Option<String>,
    },
    /// It does not want us.
    #[error("the coordinator refuses this agent: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// It is of another version.
    #[error(transparent)]
    Version(#[from] VersionMismatch),
    /// It said nothing.
    #[error("the coordinator does not answer")]
    Silent,
    /// The link broke.
    #[error("the link broke")]
    Closed(#[from] Closed),
    /// The stream broke.
    #[error("the link broke")]
    Frame(#[from] FrameError),
    /// A message makes no sense.
    #[error("the coordinator said something that is not understood")]
    Message(#[from] CodecError),
    /// It broke the protocol.
    #[error("the coordinator broke the protocol: {0}")]
    Protocol(&'static str),
    /// It is of an earlier life of the cluster.
    #[error(transparent)]
    NotFollowed(#[from] NotFollowed),
    /// It answered what was not asked.
    #[error(transparent)]
    NotSent(#[from] NotSent),
    /// It ended the session.
    #[error("the coordinator ended the session")]
    Ended,
}

/// What a session works with.
#[derive(Debug)]
pub struct SessionContext {
    /// The node.
    pub node: NodeName,
    /// Which life of the cluster it follows.
    pub life: Life,
    /// What the host has.
    pub facts: NodeFacts,
    /// Its machines.
    pub machines: Machines,
    /// What is to be told.
    pub reporter: Reporter,
    /// What was used.
    pub recorder: Recorder,
    /// What was measured.
    pub sampler: Sampler,
    /// What is to be done.
    pub inbox: Inbox,
}

/// What a coordinator that leads said first.
#[derive(Debug)]
pub struct Welcomed {
    /// Addresses of all coordinators.
    pub coordinators: Vec<String>,
    /// The minor version that both speak.
    minor: u16,
    link: Link,
}

#[derive(Debug)]
struct Link {
    connection: Connection,
    send: FramedSend<SendStream>,
    receive: FramedRecv<RecvStream>,
}

impl SessionContext {
    /// Says hello on a fresh connection.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn greet(&self, connection: Connection) -> Result<Welcomed, SessionError> {
        let (send, receive) = connection.open_frames(FRAME_BYTES_MAX).await?;
        let mut link = Link { connection, send, receive };
        let hello = Hello {
            versions: MINOR_RANGE,
            node: self.node.clone(),
            incarnation: self.life.newest(),
            facts: self.facts.clone(),
            machines: self.machines.inventory(),
        };
        link.say(&AgentMessage::Hello(hello)).await?;
        let answer = timeout(WELCOME_DEADLINE, link.hear()).await;
        match answer.map_err(|_| SessionError::Silent)?? {
            CoordinatorMessage::Welcome { incarnation, minor, coordinators, .. } => {
                agree(MINOR_RANGE, MinorRange { oldest: minor, newest: minor })?;
                self.life.follow(incarnation).await?;
                Ok(Welcomed { coordinators, minor, link })
            }
            CoordinatorMessage::NotLeader { leader } => Err(SessionError::NotLeader { leader }),
            CoordinatorMessage::Refused { reason } => Err(SessionError::Refused { reason }),
            CoordinatorMessage::Effects(_)
            | CoordinatorMessage::Committed { .. }
            | CoordinatorMessage::UsageCommitted { .. }
            | CoordinatorMessage::UsageDeclined { .. } => {
                Err(SessionError::Protocol("effects before a welcome"))
            }
        }
    }

    /// Does what the leader says and tells it what there is to tell, until the link breaks or the leader changes.
    /// Everything that was not committed by then is told again in the next session.
    pub async fn run(&self, welcomed: Welcomed) -> SessionError {
        let Welcomed { minor, link, .. } = welcomed;
        let Link { connection, mut send, mut receive } = link;
        self.reporter.begin_session();
        self.recorder.begin_session();
        // Each part owns what it uses, so the end of one drops the others in the middle of nothing.
        let error = tokio::select! {
            biased;
            error = self.listen(&mut receive) => error,
            error = self.talk(&mut send) => error,
            error = self.serve_consoles(&connection) => error,
            never = samples::tell(&self.sampler, &connection, minor) => match never {},
        };
        connection.close(CloseCode::Done, "session over");
        error
    }

    async fn listen(&self, receive: &mut FramedRecv<RecvStream>) -> SessionError {
        loop {
            let message = match hear(receive).await {
                Ok(message) => message,
                Err(error) => return error,
            };
            match message {
                CoordinatorMessage::Effects(effects) => {
                    if effects.len() > EFFECTS_PER_MESSAGE_MAX {
                        return SessionError::Protocol("too many effects in one message");
                    }
                    effects.into_iter().for_each(|effect| self.inbox.take(effect));
                }
                CoordinatorMessage::Committed { sequence } => {
                    self.reporter.committed(sequence).await
                }
                CoordinatorMessage::UsageCommitted { sequence, outcomes } => {
                    if let Err(error) = self.recorder.answered(sequence, outcomes).await {
                        return error.into();
                    }
                }
                CoordinatorMessage::UsageDeclined { sequence, reason } => {
                    if let Err(error) = self.recorder.declined(sequence, &reason) {
                        return error.into();
                    }
                }
                CoordinatorMessage::NotLeader { leader } => {
                    return SessionError::NotLeader { leader };
                }
                CoordinatorMessage::Refused { reason } => return SessionError::Refused { reason },
                CoordinatorMessage::Welcome { .. } => {
                    return SessionError::Protocol("a second welcome");
                }
            }
        }
    }

    async fn talk(&self, send: &mut FramedSend<SendStream>) -> SessionError {
        let mut heartbeat = interval(HEARTBEAT_INTERVAL);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_time = tokio::select! {
                biased;
                () = self.reporter.changed() => false,
                () = self.recorder.changed() => false,
                _ = heartbeat.tick() => true,
            };
            while let Some((first_sequence, reports)) = self.reporter.next_batch() {
                if let Err(error) =
                    say(send, &AgentMessage::Reports { first_sequence, reports }).await
                {
                    return error;
                }
            }
            if let Some(Batch { sequence, records }) = self.recorder.next_batch().await
                && let Err(error) = say(send, &AgentMessage::Usage { sequence, records }).await
            {
                return error;
            }
            if is_time && let Err(error) = say(send, &AgentMessage::Heartbeat).await {
                return error;
            }
        }
    }

    async fn serve_consoles(&self, connection: &Connection) -> SessionError {
        let mut consoles = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                Some(_) = consoles.join_next() => (),
                stream = connection.accept_frames(consoles::FRAME_BYTES_MAX),
                    if consoles.len() < CONSOLES_MAX => match stream {
                    Ok(stream) => {
                        consoles.spawn(serve_console(stream, self.machines.clone()));
                    }
                    Err(closed) => return closed.into(),
                },
            }
        }
    }
}

async fn serve_console(stream: FramedStream, machines: Machines) {
    if let Err(error) = consoles::serve(stream, &machines).await {
        tracing::debug!(error = &error as &dyn std::error::Error, "console ended");
    }
}

impl Link {
    async fn say(&mut self, message: &AgentMessage) -> Result<(), SessionError> {
        match say(&mut self.send, message).await {
            Ok(()) => Ok(()),
            // The reason for the close says more than the broken stream.
            Err(error) => Err(self.connection.close_reason().map_or(error, SessionError::Closed)),
        }
    }

    async fn hear(&mut self) -> Result<CoordinatorMessage, SessionError> {
        match hear(&mut self.receive).await {
            Ok(message) => Ok(message),
            Err(error) => Err(self.connection.close_reason().map_or(error, SessionError::Closed)),
        }
    }
}

async fn say(
    send: &mut FramedSend<SendStream>,
    message: &AgentMessage,
) -> Result<(), SessionError> {
    let bytes = codec::encode(message)?;
    Ok(send.send(Bytes::from(bytes)).await?)
}

async fn hear(receive: &mut FramedRecv<RecvStream>) -> Result<CoordinatorMessage, SessionError> {
    let frame = receive.receive().await?.ok_or(SessionError::Ended)?;
    Ok(codec::decode(&frame)?)
}
