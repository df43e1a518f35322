//! What members of the cluster ask each other. One stream is one call: a [`PeerRequest`], a [`PeerResponse`]
//! (and for a console, plain bytes both ways after that).

use novacron_protocol::ids::{Incarnation, MemberId, NodeName, RequestId, VmId};
use novacron_protocol::time::Timestamp;
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};

use crate::fitness::Unfit;
use crate::raft::TypeConfig;
use crate::raft::words::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotError, InstallSnapshotRequest,
    InstallSnapshotResponse, RaftError, VoteRequest, VoteResponse,
};
use crate::samples::NodePart;
use crate::secrets::keyring::KeyText;
use crate::state::formats::{
    FIRST, FormatVersion, Formats, NEWEST, OtherFormats, PREVOTE, SAMPLES, SECRETS, TOGETHER,
};
use crate::state::member::MemberFacts;
use crate::state::secret::keys::SecretKeyId;
use crate::state::{Command, Origin, Reply};

/// Bytes of a message between members: entries of one call (`ENTRIES_BYTES_MAX` of the log store and one
/// command beyond it), or a chunk of a snapshot.
pub const PEER_MESSAGE_BYTES_MAX: usize = 16 << 20;

/// A call, and whom it is for.
#[derive(Debug, Serialize, Deserialize)]
pub struct PeerRequest {
    /// Who asks; must be the member of that name in its certificate.
    pub from: MemberId,
    /// In which life of the cluster; 0 if it is not known yet.
    pub incarnation: Incarnation,
    /// What the asker understands.
    pub formats: Formats,
    /// Who is asked; 0 is whoever is there, for calls of a coordinator that knows nobody yet. Another member at
    /// the same address must not answer: it would count as a vote.
    pub to: MemberId,
    /// What is asked.
    pub call: Call,
}

/// What a member may ask of another.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Call {
    /// Raft: take these entries.
    Append(AppendEntriesRequest<TypeConfig>),
    /// Raft: vote for me.
    Vote(VoteRequest<u64>),
    /// Raft: take this piece of a snapshot.
    InstallSnapshot(InstallSnapshotRequest<TypeConfig>),
    /// To the leader: propose this.
    Propose(Box<Command>),
    /// To the leader: what must a read have seen?
    ReadIndex,
    /// To the leader: give this coordinator a member id. The only call of one that has none yet (`from` is 0).
    Admit {
        /// The request, so that a repetition gets the same id.
        request: RequestId,
        /// Who it is.
        facts: MemberFacts,
    },
    /// To the leader: this member serves now; let it take part.
    Enter {
        /// The member.
        member: MemberId,
        /// How many files of the archive it has, or has asked all others for in vain.
        settled: u64,
    },
    /// To the leader: this member leaves.
    Remove {
        /// The request.
        request: RequestId,
        /// Who asked.
        origin: Origin,
        /// The member.
        member: MemberId,
    },
    /// To any member: how are you?
    Status,
    /// A part of a file of this member's archive, as it is on disk.
    ArchivePart {
        /// Name of the content.
        name: String,
        /// Where the part begins.
        offset: u64,
    },
    /// To the leader: open a console; bytes follow the response.
    Console {
        /// The machine.
        vm: VmId,
        /// Where in the log to begin.
        from_offset: u64,
        /// Whether to go on after the log's present end.
        follow: bool,
    },
    /// A key of secrets, for a member that has none.
    SecretKey(SecretKeyId),
    /// Whether this member has a key of secrets.
    HasSecretKey(SecretKeyId),
    /// What time is it there, and is it fit?
    Condition,
    /// What agents measured, from the leader.
    Samples(Vec<NodePart>),
    /// To the leader: propose these. Each has an outcome of its own.
    ProposeTogether(Vec<Command>),
    /// Before an election: whether this member misses the leader, too.
    MissesLeader,
}

/// The answer to a call.
#[derive(Debug, Serialize, Deserialize)]
pub enum PeerResponse {
    /// It was done.
    Answer(Box<Answer>),
    /// It was not, and why.
    Declined(Declined),
}

/// What was asked for.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Call::Append`].
    Append(Result<AppendEntriesResponse<u64>, RaftError<u64>>),
    /// To [`Call::Vote`].
    Vote(Result<VoteResponse<u64>, RaftError<u64>>),
    /// To [`Call::InstallSnapshot`].
    InstallSnapshot(Result<InstallSnapshotResponse<u64>, RaftError<u64, InstallSnapshotError>>),
    /// To [`Call::Propose`].
    Reply(Committed),
    /// To [`Call::ReadIndex`].
    ReadIndex(u64),
    /// To [`Call::Admit`].
    Admitted {
        /// The new member's id.
        member: MemberId,
        /// The life of the cluster that it is a member of.
        incarnation: Incarnation,
    },
    /// To [`Call::Enter`], [`Call::Remove`] and [`Call::Samples`].
    Done,
    /// To [`Call::Status`]: a [`MemberReport`](novacron_protocol::api::MemberReport) as JSON, which may grow.
    Status(String),
    /// To [`Call::ArchivePart`]: nothing if the file is not there, no bytes at its end.
    ArchivePart(Option<Vec<u8>>),
    /// To [`Call::Console`]: bytes follow.
    Console,
    /// To [`Call::SecretKey`]: nothing if it is not here.
    SecretKey(Option<KeyText>),
    /// To [`Call::HasSecretKey`].
    HasSecretKey(bool),
    /// To [`Call::Condition`].
    Condition {
        /// The clock.
        clock: Timestamp,
        /// Whether it may propose.
        is_fit: bool,
        /// Whether it may store entries.
        has_room: bool,
    },
    /// To [`Call::ProposeTogether`], in its order.
    Replies(Vec<Result<Committed, Declined>>),
    /// To [`Call::MissesLeader`].
    MissesLeader(bool),
}

/// A command that was committed and applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// What applying it answered.
    pub reply: Reply,
    /// Index of its entry in the log: a member that has applied as much has everything that was acknowledged before
    /// the command was proposed, and the command itself.
    pub index: u64,
}

/// Why a call was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Declined {
    /// Another member was meant.
    #[error("this is member {found}")]
    OtherMember {
        /// Who answered.
        found: MemberId,
    },
    /// The caller lives in another life of the cluster: one of the two was there before a restore.
    #[error(
        "this is life {found} of the cluster: it was restored from a backup meanwhile, or this member was"
    )]
    OtherIncarnation {
        /// The life of who answered.
        found: Incarnation,
    },
    /// The caller was removed.
    #[error(
        "member {member} was removed from the cluster, and its id is never used again: to come back, join with an \
         empty data directory and a new token"
    )]
    MemberLeft {
        /// The member.
        member: MemberId,
    },
    /// This member does not lead.
    #[error("this member does not lead")]
    NotLeader {
        /// Who does, if it is known.
        leader: Option<MemberId>,
    },
    /// This member leads, but no quorum confirms it. Nothing happened.
    #[error("no quorum answers")]
    NoQuorum,
    /// Another change of members is under way; it ends by itself.
    #[error("another change of members is under way")]
    Busy,
    /// It was begun and not finished in time.
    #[error("not finished in time; whether it happens is not known")]
    OutcomeUnknown,
    /// It is not possible, and why.
    #[error("{0}")]
    NotPossible(String),
    /// This member cannot work any more.
    #[error("this member has stopped")]
    Stopped,
    /// The caller's program is too old or too new for the cluster.
    #[error(transparent)]
    OtherFormats(OtherFormats),
    /// This member is not fit for it. Nothing happened.
    #[error("{reason}")]
    Unfit {
        /// Why not.
        reason: Unfit,
        /// Whether another member can lead, and soon will.
        is_aside: bool,
    },
    /// The agent of a node cannot be reached at the moment. Nothing happened.
    #[error("node {0} is not reachable now")]
    NodeAway(NodeName),
}

impl Call {
    /// The version of formats that added it.
    fn since(&self) -> FormatVersion {
        match self {
            Self::SecretKey(_) | Self::HasSecretKey(_) => SECRETS,
            Self::Samples(_) => SAMPLES,
            Self::MissesLeader => PREVOTE,
            Self::ProposeTogether(commands) => {
                let newest = commands.iter().map(|command| command.body.since()).max();
                newest.map_or(TOGETHER, |newest| newest.max(TOGETHER))
            }
            Self::Propose(command) => command.body.since(),
            Self::Append(_)
            | Self::Vote(_)
            | Self::InstallSnapshot(_)
            | Self::ReadIndex
            | Self::Admit { .. }
            | Self::Enter { .. }
            | Self::Remove { .. }
            | Self::Status
            | Self::ArchivePart { .. }
            | Self::Console { .. }
            | Self::Condition => FIRST,
        }
    }
}

impl Message for PeerRequest {
    const VERSION: u16 = NEWEST.0;
    const OLDEST: u16 = FIRST.0;
    const BYTES_MAX: usize = PEER_MESSAGE_BYTES_MAX;
    const NAME: &'static str = "request between members";

    fn version(&self) -> u16 {
        self.call.since().0
    }
}

impl Message for PeerResponse {
    const VERSION: u16 = NEWEST.0;
    const OLDEST: u16 = FIRST.0;
    const BYTES_MAX: usize = PEER_MESSAGE_BYTES_MAX;
    const NAME: &'static str = "response between members";

    fn version(&self) -> u16 {
        let since = match self {
            Self::Answer(answer) => match **answer {
                Answer::SecretKey(_) | Answer::HasSecretKey(_) => SECRETS,
                Answer::Replies(_) => TOGETHER,
                Answer::MissesLeader(_) => PREVOTE,
                Answer::Append(_)
                | Answer::Vote(_)
                | Answer::InstallSnapshot(_)
                | Answer::Reply(_)
                | Answer::ReadIndex(_)
                | Answer::Admitted { .. }
                | Answer::Done
                | Answer::Status(_)
                | Answer::ArchivePart(_)
                | Answer::Console
                | Answer::Condition { .. } => FIRST,
            },
            Self::Declined(Declined::Unfit { reason, .. }) => reason.since(),
            Self::Declined(_) => FIRST,
        };
        since.0
    }
}
