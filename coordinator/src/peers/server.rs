//! Answering other members.

use std::sync::Arc;

use bytes::Bytes;
use novacron_protocol::ids::MemberId;
use novacron_protocol::wire::codec::{self, CodecError};
use novacron_transport::Connection;
use novacron_transport::connection::FramedStream;
use quinn::{RecvStream, SendStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::leader::{LeaderError, LeaderLink};
use super::message::{Answer, Call, Declined, PEER_MESSAGE_BYTES_MAX, PeerRequest, PeerResponse};
use crate::agents::{Console, ConsoleError, Consoles};
use crate::clock::Clock;
use crate::history::History;
use crate::raft::words::{AppendEntriesRequest, AppendEntriesResponse, RaftError, Vote};
use crate::raft::{Heard, Hearing, Raft, TypeConfig, misses_leader};
use crate::samples::{NodePart, Samples};
use crate::secrets::keyring::{KeyText, Keyring};
use crate::state::Fleet;
use crate::state::member::MemberRecord;
use crate::state::secret::keys::SecretKeyId;
use crate::status::OwnStatus;
use crate::view::FleetCell;

/// Answers the calls of other members. Cheap to clone.
#[derive(Clone)]
pub struct PeerServer {
    own: MemberId,
    raft: Raft,
    leader: LeaderLink,
    consoles: Consoles,
    history: History,
    cell: FleetCell,
    status: OwnStatus,
    keyring: Option<Keyring>,
    samples: Option<(Samples, Clock)>,
    heard: Heard,
}

impl PeerServer {
    /// A server of this member.
    pub fn new(
        raft: Raft,
        leader: LeaderLink,
        consoles: Consoles,
        history: History,
        cell: FleetCell,
    ) -> Self {
        let own = leader.links().own();
        let status = OwnStatus::new(raft.clone(), history.clone(), cell.clone());
        let (keyring, samples, heard) = (None, None, Heard::default());
        Self { own, raft, leader, consoles, history, cell, status, keyring, samples, heard }
    }

    /// The same, and it says here when the leader was heard.
    #[must_use]
    pub fn heard_by(self, heard: Heard) -> Self {
        Self { heard, ..self }
    }

    /// The same, and it can say more of itself.
    #[must_use]
    pub fn with_status(self, status: OwnStatus) -> Self {
        Self { status, ..self }
    }

    /// The same, and it gives keys of secrets to other members.
    #[must_use]
    pub fn with_keyring(self, keyring: Keyring) -> Self {
        Self { keyring: Some(keyring), ..self }
    }

    /// The same, and it takes what the leader passes on of what agents measured.
    #[must_use]
    pub fn with_samples(self, samples: Samples, clock: Clock) -> Self {
        Self { samples: Some((samples, clock)), ..self }
    }

    /// Answers on one connection until it ends or `stop` is cancelled. The peer's limit of open streams bounds
    /// the calls at once.
    pub async fn serve(self, connection: Connection, stop: CancellationToken) {
        let mut calls = JoinSet::new();
        let server = Arc::new(self);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(_) = calls.join_next() => {}
                accepted = connection.accept_frames(PEER_MESSAGE_BYTES_MAX + 2) => match accepted {
                    Ok(stream) => drop(calls.spawn(answer(Arc::clone(&server), connection.clone(), stream))),
                    Err(_) => break,
                },
            }
        }
        calls.shutdown().await;
    }

    /// Answers a message of another member in whose certificate `name` stands. For networks without streams: a
    /// console is not opened.
    ///
    /// # Errors
    /// A message that cannot be read, or an answer that cannot be written.
    pub async fn respond(&self, name: &str, message: &[u8]) -> Result<Bytes, CodecError> {
        let request = codec::decode::<PeerRequest>(message)?;
        let response = match self.check(name, &request) {
            Ok(()) => self.response(request).await,
            Err(declined) => PeerResponse::Declined(declined),
        };
        Ok(codec::encode(&response)?.into())
    }

    async fn response(&self, request: PeerRequest) -> PeerResponse {
        match self.handle(request).await {
            Ok(answer) => PeerResponse::Answer(Box::new(answer)),
            Err(declined) => PeerResponse::Declined(declined),
        }
    }

    async fn handle(&self, request: PeerRequest) -> Result<Answer, Declined> {
        if request.to == MemberId(0) {
            return self.leader.call(request.call).await.map_err(Declined::from);
        }
        match request.call {
            Call::Append(rpc) => self.append(rpc).await,
            Call::Condition => Ok(self.leader.desk().condition()),
            Call::MissesLeader => {
                let is_aside = self.leader.desk().is_aside();
                Ok(Answer::MissesLeader(misses_leader(&self.raft, &self.heard, is_aside)))
            }
            Call::Vote(rpc) => {
                let _voting = self.heard.begin_vote();
                not_fatal(self.raft.vote(rpc).await).map(Answer::Vote)
            }
            Call::InstallSnapshot(rpc) => {
                let _hearing = self.hear(&rpc.vote);
                self.require_room(true)?;
                not_fatal(self.raft.install_snapshot(rpc).await).map(Answer::InstallSnapshot)
            }
            Call::Status => {
                let report = serde_json::to_string(&self.status.report().await);
                report.map(Answer::Status).map_err(|error| Declined::NotPossible(error.to_string()))
            }
            Call::SecretKey(key) => Ok(Answer::SecretKey(self.secret_key(request.from, key))),
            Call::HasSecretKey(key) => {
                let has = |keyring: &Keyring| keyring.missing([key].into_iter()).is_empty();
                Ok(Answer::HasSecretKey(self.keyring.as_ref().is_some_and(has)))
            }
            Call::Samples(parts) => Ok(self.take_samples(&parts)),
            Call::ArchivePart { name, offset } => self.archive_part(&name, offset).await,
            call => self.leader.desk().serve_member(request.from, call).await,
        }
    }

    /// What there is no room for is declined, and sent again. The sign of life in it is taken all the same: openraft gives no
    /// other while there is something to send, and a member that hears none calls elections.
    async fn append(&self, mut rpc: AppendEntriesRequest<TypeConfig>) -> Result<Answer, Declined> {
        let _hearing = self.hear(&rpc.vote);
        let room = self.require_room(!rpc.entries.is_empty());
        if room.is_err() {
            rpc.entries.clear();
        }
        let answer = not_fatal(self.raft.append_entries(rpc).await)?;
        match answer {
            // Of those that came, none was taken.
            Ok(AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(_)) => {
                room.map(|()| Answer::Append(answer))
            }
            _ => Ok(Answer::Append(answer)),
        }
    }

    /// A leader of the past is not listened to.
    fn hear(&self, vote: &Vote<u64>) -> Option<Hearing> {
        let is_current = *vote >= self.raft.server_metrics().borrow().vote;
        is_current.then(|| self.heard.begin())
    }

    fn require_room(&self, is_needed: bool) -> Result<(), Declined> {
        let unfit = self.leader.desk().fitness().check_room().err().filter(|_| is_needed);
        unfit.map_or(Ok(()), |reason| Err(Declined::Unfit { reason, is_aside: true }))
    }

    /// A certificate is not enough for a key: the asker has to be a member that the state knows, and that is present.
    fn secret_key(&self, from: MemberId, key: SecretKeyId) -> Option<KeyText> {
        let is_member = self.cell.look(|fleet| fleet.require_member(from).is_ok());
        self.keyring.as_ref().filter(|_| is_member)?.text(key)
    }

    fn take_samples(&self, parts: &[NodePart]) -> Answer {
        if let Some((samples, clock)) = &self.samples {
            let now = clock.now();
            parts.iter().for_each(|part| samples.take(&part.node, &part.part, now));
        }
        Answer::Done
    }

    async fn archive_part(&self, name: &str, offset: u64) -> Result<Answer, Declined> {
        let part = self.history.part(name, offset).await;
        part.map(Answer::ArchivePart).map_err(|error| Declined::NotPossible(error.to_string()))
    }

    /// Whether the caller is who it says, and means this member.
    fn check(&self, name: &str, request: &PeerRequest) -> Result<(), Declined> {
        let incarnation = self.leader.links().incarnation();
        let is_newcomer = request.from == MemberId(0) && matches!(request.call, Call::Admit { .. });
        // Before all else, so that a member of the life before a restore learns that it is over.
        if request.incarnation != incarnation && !is_newcomer {
            return Err(Declined::OtherIncarnation { found: incarnation });
        }
        let active = self.cell.look(Fleet::formats);
        request.formats.check(active).map_err(Declined::OtherFormats)?;
        let for_anybody = matches!(request.call, Call::Admit { .. } | Call::Enter { .. });
        if request.to != self.own && !(request.to == MemberId(0) && for_anybody) {
            return Err(Declined::OtherMember { found: self.own });
        }
        if is_newcomer {
            return Ok(());
        }
        // A member that has just come knows nobody: then the certificate has to do.
        let (has_left, is_other) = self.cell.look(|fleet| {
            let member = fleet.member(request.from);
            let is_other = member.is_some_and(|member| member.facts.name != name);
            (member.is_some_and(MemberRecord::has_left), is_other)
        });
        if has_left {
            return Err(Declined::MemberLeft { member: request.from });
        }
        if is_other {
            let text = format!("`{name}` is not member {} of this cluster", request.from);
            return Err(Declined::NotPossible(text));
        }
        Ok(())
    }
}

/// A member whose Raft has stopped is as good as not there; the caller shall not take that for an answer.
fn not_fatal<T, E>(
    result: Result<T, RaftError<u64, E>>,
) -> Result<Result<T, RaftError<u64, E>>, Declined> {
    match result {
        Err(RaftError::Fatal(_)) => Err(Declined::Stopped),
        other => Ok(other),
    }
}

impl From<LeaderError> for Declined {
    fn from(error: LeaderError) -> Self {
        match error {
            LeaderError::NoLeader => Self::NoQuorum,
            LeaderError::OutcomeUnknown => Self::OutcomeUnknown,
            LeaderError::NotPossible(reason) => Self::NotPossible(reason),
            LeaderError::Unfit(reason) => Self::Unfit { reason, is_aside: false },
            LeaderError::Stopped => Self::Stopped,
        }
    }
}

/// Serves one stream: one call.
async fn answer(
    server: Arc<PeerServer>,
    connection: Connection,
    (mut send, mut receive): FramedStream,
) {
    let Ok(Some(frame)) = receive.receive().await else { return };
    let request = match codec::decode::<PeerRequest>(&frame) {
        Ok(request) => request,
        Err(error) => return connection.refuse_message(&error.to_string()),
    };
    if let Err(declined) = server.check(connection.peer().name.as_str(), &request) {
        return conclude(&mut send, &PeerResponse::Declined(declined)).await;
    }
    if let Call::Console { vm, from_offset, follow } = request.call {
        match server.consoles.open_here(vm, from_offset, follow).await {
            Ok(console) => {
                respond(&mut send, &PeerResponse::Answer(Box::new(Answer::Console))).await;
                pump(console, send.into_inner(), receive.into_inner().0).await;
            }
            Err(error) => conclude(&mut send, &PeerResponse::Declined(no_console(&error))).await,
        }
        return;
    }
    receive.note_end();
    conclude(&mut send, &server.response(request).await).await;
}

fn no_console(error: &ConsoleError) -> Declined {
    match error {
        ConsoleError::Unavailable => Declined::NoQuorum,
        ConsoleError::NodeAway(node) => Declined::NodeAway(node.clone()),
        other => Declined::NotPossible(other.to_string()),
    }
}

/// A response that cannot be sent needs no handling: the caller sees the stream end and tries again.
async fn respond(send: &mut novacron_transport::FramedSend<SendStream>, response: &PeerResponse) {
    match codec::encode(response) {
        Ok(bytes) => {
            let _ = send.send(Bytes::from(bytes)).await;
        }
        Err(error) => tracing::error!(%error, "an answer to another member is too large"),
    }
}

/// The response, and the stream's end with it.
async fn conclude(send: &mut novacron_transport::FramedSend<SendStream>, response: &PeerResponse) {
    respond(send, response).await;
    // Fails only if the stream has ended already.
    let _ = send.finish().await;
}

/// Copies both ways until the guest's side ends or the client is gone.
async fn pump(mut console: Console, mut send: SendStream, mut receive: RecvStream) {
    let client_gone = send.stopped();
    let up = async {
        let copied = tokio::io::copy(&mut receive, &mut console.send).await;
        // The client may end its input and go on reading.
        match copied {
            Ok(_) => std::future::pending().await,
            Err(_) => drop(console.send.finish()),
        }
    };
    let down = tokio::io::copy(&mut console.receive, &mut send);
    tokio::select! {
        biased;
        _ = client_gone => {}
        () = up => {}
        _ = down => {}
    }
    // Fails only if the stream has ended already.
    let _ = send.finish();
}
