//! One agent's session with the leader.
//!
//! ```text
//! agent ──Hello──► │ leads? welcome? ──OpenSession committed──► Welcome, Effects, …
//!       ──Reports─► │ committed ──► Committed
//!       ──Usage──► │ committed ──► UsageCommitted with an outcome for each record; or UsageDeclined: the agent keeps it
//!       ──Heartbeat─► │ heard
//!       ══samples═► │ noted, on a stream of their own
//! ```
//!
//! Order of durability: a session exists for the agent once it is committed; reports are acknowledged once they
//! are committed; effects are sent from committed rows only.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use novacron_protocol::effect::{AgentMessage, CoordinatorMessage, Effect, Hello, Report};
use novacron_protocol::ids::{ClusterId, NodeName};
use novacron_protocol::usage::UsageRecord;
use novacron_protocol::wire::codec::{self, Message};
use novacron_transport::{CloseCode, Connection, FramedRecv, FramedSend};
use quinn::{RecvStream, SendStream};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::hello;
use super::reports::{NotCommitted, Reports};
use super::samples::SampleInlet;
use super::sessions::{Session, Sessions};
use super::usage::{self, NotPosted};
use crate::clock::{Clock, new_request};
use crate::leadership::Leadership;
use crate::outbox::dispatch::Dispatch;
use crate::peers::LeaderLink;
use crate::state::command::{OpenSession, SessionReports};
use crate::state::node::SessionId;
use crate::state::{Body, Command};
use crate::switches::{Part, Switches};
use crate::view::View;

/// How long an agent may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an agent that is turned away has to take the answer.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a session looks whether effects are to be sent again.
const RESEND_PERIOD: Duration = Duration::from_secs(1);

/// Serves agents' connections. Cheap to clone.
#[derive(Clone)]
pub struct AgentServer {
    pub(crate) cluster: ClusterId,
    pub(crate) sessions: Sessions,
    pub(crate) leadership: Leadership,
    pub(crate) leader: LeaderLink,
    pub(crate) view: View,
    pub(crate) clock: Clock,
    pub(crate) samples: SampleInlet,
    pub(crate) switches: Switches,
}

/// Why a session ended, as the agent is told.
#[derive(Debug)]
enum Ending {
    /// The agent or the link is gone.
    Gone,
    /// This member does not lead (any more).
    NotLeader,
    /// The agent is not welcome.
    Refused(String),
    /// The agent broke the protocol; the connection is closed already.
    Broken,
    /// Something could not be committed; the agent shall come back.
    NotCommitted,
    /// This process stops.
    Stopping,
}

type Send = FramedSend<SendStream>;
type Receive = FramedRecv<RecvStream>;

impl AgentServer {
    /// Serves one connection until it ends or `stop` is cancelled.
    pub async fn serve(self, connection: Connection, stop: CancellationToken) {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = timeout(HELLO_TIMEOUT, connection.accept_frames(AgentMessage::BYTES_MAX + 2)) => accepted,
        };
        let Ok(Ok((mut send, receive))) = accepted else {
            return connection.close(CloseCode::TimedOut, "no hello came");
        };
        let ending = self.converse(&connection, &mut send, receive, &stop).await;
        self.take_leave(&connection, send, ending).await;
    }

    async fn converse(
        &self,
        connection: &Connection,
        send: &mut Send,
        mut receive: Receive,
        stop: &CancellationToken,
    ) -> Ending {
        let hello = match timeout(HELLO_TIMEOUT, next(connection, &mut receive)).await {
            Ok(Ok(AgentMessage::Hello(hello))) => hello,
            Ok(Ok(_)) => {
                connection.refuse_message("a session begins with a hello");
                return Ending::Broken;
            }
            Ok(Err(ending)) => return ending,
            Err(_) => return Ending::Gone,
        };
        let Some(reports) = self.leadership.reports() else { return Ending::NotLeader };
        let incarnation = self.leader.links().incarnation();
        let minor = match hello::welcome(connection.peer().name.as_str(), incarnation, &hello) {
            Ok(minor) => minor,
            Err(unwelcome) => return Ending::Refused(unwelcome.to_string()),
        };
        let node = hello.node.clone();
        let (session, wake) = match self.open(connection, hello).await {
            Ok(opened) => opened,
            Err(ending) => return ending,
        };
        tracing::info!(%node, session = session.0, "agent connected");
        let welcome = CoordinatorMessage::Welcome {
            cluster: self.cluster,
            incarnation,
            minor,
            coordinators: self.coordinators(),
        };
        let live = Live { server: self, connection, node: &node, session, wake, reports };
        let ending = match say(send, &welcome).await {
            Ok(()) => tokio::select! {
                biased;
                ending = live.run(send, receive, stop) => ending,
                never = self.samples.serve(connection, &node) => match never {},
            },
            Err(ending) => ending,
        };
        self.sessions.remove(&node, session);
        tracing::info!(%node, session = session.0, ?ending, "agent's session ended");
        ending
    }

    /// Commits the session, then lets it take the place of an older one.
    async fn open(
        &self,
        connection: &Connection,
        hello: Hello,
    ) -> Result<(SessionId, Arc<Notify>), Ending> {
        let id = SessionId(rand::random());
        let node = hello.node.clone();
        let open = OpenSession {
            node: hello.node,
            session: id,
            facts: hello.facts,
            machines: hello::bounded_inventory(hello.machines),
        };
        let at = self.clock.now();
        let command = Command::of_cluster(new_request(at), at, Body::OpenSession(open));
        match self.leader.desk().propose(command).await {
            Ok(Ok(_)) => {}
            Ok(Err(refusal)) => return Err(Ending::Refused(refusal.to_string())),
            Err(_) if self.leadership.reports().is_none() => return Err(Ending::NotLeader),
            Err(_) => return Err(Ending::NotCommitted),
        }
        let wake = Arc::<Notify>::default();
        let session = Session {
            id,
            connection: connection.clone(),
            heard_at: Instant::now(),
            wake: Arc::clone(&wake),
        };
        if let Some(old) = self.sessions.insert(node, session) {
            old.connection.close(CloseCode::Replaced, "the agent has connected again");
        }
        Ok((id, wake))
    }

    fn coordinators(&self) -> Vec<String> {
        self.view.local(|fleet| {
            fleet.present_members().map(|member| member.facts.peer_address.clone()).collect()
        })
    }

    /// Tells the agent why, and gives it a moment to read that.
    async fn take_leave(&self, connection: &Connection, mut send: Send, ending: Ending) {
        let (message, code, reason) = match ending {
            Ending::Gone | Ending::Broken => {
                return connection.close(CloseCode::Done, "the session ended");
            }
            Ending::NotLeader => {
                let leader = self.leader.other_leader().map(|(_, node)| node.peer_address);
                let reason = "this coordinator does not lead".to_owned();
                (Some(CoordinatorMessage::NotLeader { leader }), CloseCode::NotLeader, reason)
            }
            Ending::Refused(reason) => {
                tracing::warn!(agent = %connection.peer(), reason, "agent refused");
                let message = CoordinatorMessage::Refused { reason: reason.clone() };
                (Some(message), CloseCode::IdentityRefused, reason)
            }
            Ending::NotCommitted => (None, CloseCode::Overloaded, "no quorum".to_owned()),
            Ending::Stopping => (None, CloseCode::Done, "the coordinator stops".to_owned()),
        };
        if let Some(message) = message
            && say(&mut send, &message).await.is_ok()
            && send.finish().await.is_ok()
        {
            let _ = timeout(FAREWELL_TIMEOUT, connection.closed()).await;
        }
        connection.close(code, &reason);
    }
}

/// An open session.
struct Live<'a> {
    server: &'a AgentServer,
    connection: &'a Connection,
    node: &'a NodeName,
    session: SessionId,
    wake: Arc<Notify>,
    reports: Arc<Reports>,
}

impl Live<'_> {
    async fn run(&self, send: &mut Send, mut receive: Receive, stop: &CancellationToken) -> Ending {
        let began = Instant::now();
        let mut dispatch = Dispatch::default();
        let mut leads = self.server.leadership.watch();
        let mut ticks = interval(RESEND_PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Err(ending) = self.send_due(send, &mut dispatch, began.elapsed()).await {
                return ending;
            }
            // The receiver is cancel-safe: what has come of a frame is kept.
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ending::Stopping,
                () = lost(&mut leads) => return Ending::NotLeader,
                message = next(self.connection, &mut receive) => match message {
                    Ok(message) => {
                        if let Err(ending) = self.take(send, message).await {
                            return ending;
                        }
                    }
                    Err(ending) => return ending,
                },
                () = self.wake.notified() => {}
                _ = ticks.tick() => {}
            }
        }
    }

    async fn send_due(
        &self,
        send: &mut Send,
        dispatch: &mut Dispatch,
        now: Duration,
    ) -> Result<(), Ending> {
        loop {
            let due: Vec<Effect> =
                self.server.view.local(|fleet| dispatch.due(fleet.effects_of(self.node), now));
            if due.is_empty() {
                return Ok(());
            }
            say(send, &CoordinatorMessage::Effects(due)).await?;
        }
    }

    async fn take(&self, send: &mut Send, message: AgentMessage) -> Result<(), Ending> {
        self.server.sessions.heard(self.node, self.session);
        match message {
            AgentMessage::Heartbeat => Ok(()),
            AgentMessage::Reports { first_sequence, reports } => {
                let sequence = self.commit(first_sequence, reports).await?;
                say(send, &CoordinatorMessage::Committed { sequence }).await
            }
            AgentMessage::Usage { sequence, records } => {
                let answer = self.post(sequence, records).await?;
                say(send, &answer).await
            }
            AgentMessage::Hello(_) => {
                self.connection.refuse_message("a session has one hello");
                Err(Ending::Broken)
            }
        }
    }

    async fn commit(&self, first_sequence: u64, reports: Vec<Report>) -> Result<u64, Ending> {
        let (node, session) = (self.node.clone(), self.session);
        let batch = SessionReports { node, session, first_sequence, reports };
        self.reports.commit(batch).await.map_err(|error| match error {
            NotCommitted::TooLarge => {
                self.connection.refuse_message(&error.to_string());
                Ending::Broken
            }
            NotCommitted::NoQuorum => Ending::NotCommitted,
        })
    }

    async fn post(
        &self,
        sequence: u64,
        records: Vec<UsageRecord>,
    ) -> Result<CoordinatorMessage, Ending> {
        // Not acknowledged, so the agent keeps it.
        if let Err(off) = self.server.switches.check(Part::Metering) {
            return Ok(CoordinatorMessage::UsageDeclined { sequence, reason: off.to_string() });
        }
        let (desk, clock) = (self.server.leader.desk(), &self.server.clock);
        match usage::post(desk, clock, self.node, records).await {
            Ok(outcomes) => Ok(CoordinatorMessage::UsageCommitted { sequence, outcomes }),
            Err(NotPosted::Declined(reason)) => {
                Ok(CoordinatorMessage::UsageDeclined { sequence, reason })
            }
            Err(error @ NotPosted::NotABatch(_)) => {
                self.connection.refuse_message(&error.to_string());
                Err(Ending::Broken)
            }
            Err(NotPosted::NoQuorum) => Err(Ending::NotCommitted),
        }
    }
}

async fn lost(leads: &mut watch::Receiver<bool>) {
    // An error means that the process is stopping: then nobody leads here either.
    let _ = leads.wait_for(|leads| !*leads).await;
}

async fn next(connection: &Connection, receive: &mut Receive) -> Result<AgentMessage, Ending> {
    let frame = match receive.receive().await {
        Ok(Some(frame)) => frame,
        Ok(None) | Err(_) => return Err(Ending::Gone),
    };
    codec::decode(&frame).map_err(|error| {
        connection.refuse_message(&error.to_string());
        Ending::Broken
    })
}

async fn say(send: &mut Send, message: &CoordinatorMessage) -> Result<(), Ending> {
    let bytes = codec::encode(message).map_err(|error| {
        tracing::error!(%error, "a message to an agent is too large");
        Ending::Broken
    })?;
    send.send(Bytes::from(bytes)).await.map_err(|_| Ending::Gone)
}
