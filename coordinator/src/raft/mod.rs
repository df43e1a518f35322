//! Everything that knows openraft. Glue only: what is agreed on is [`crate::state`], where it is kept is
//! `novacron-storage`, how it travels is [`crate::peers`].
//!
//! | module | holds |
//! |---|---|
//! | [`announce`] | when followers are told what is committed |
//! | [`types`] | what openraft is told about our types |
//! | [`backlog`] | when a snapshot is due |
//! | [`disk_work`] | where the disk is waited for |
//! | [`elections`] | when members call elections |
//! | [`heard`] | when the leader was heard last |
//! | `leaderless` | for how long no leader was heard |
//! | `lengthy` | calls that outlive openraft's patience |
//! | [`log_store`] | log and vote, durable before they are acknowledged |
//! | `lookout` | the reactor goes on while one of its threads waits for the disk |
//! | [`machine`] | applying, tables on disk, snapshots |
//! | [`outgoing`] | history on its way to the archive |
//! | [`restored`] | how log and state of a restored cluster begin |
//! | `prevote` | the question before an election |
//! | [`proposal`] | what an entry carries: commands that waited together |
//! | `shelf` | snapshots on disk, and what follows from the last of them |
//! | [`reach`] | how far snapshots reach, before the log may go |
//! | [`network`] | Raft's calls over the links between members |
//! | [`timing`] | the pace of the cluster |
//! | `turn` | whose turn it is to call an election |

pub mod announce;
pub mod backlog;
pub mod disk_work;
pub mod elections;
pub mod heard;
mod hidden_rows;
mod leaderless;
mod lengthy;
pub mod log_store;
mod lookout;
pub mod machine;
pub mod network;
pub mod outgoing;
mod place;
mod prevote;
pub mod proposal;
pub mod reach;
mod record;
pub mod restored;
mod shelf;
mod tables;
#[cfg(test)]
pub(crate) mod testing;
pub mod timing;
mod turn;
pub mod types;

pub use announce::Haste;
pub use disk_work::DiskWork;
pub use heard::{Heard, Hearing};
pub(crate) use prevote::{misses_leader, since_quorum};
pub use reach::SnapshotReach;
pub use types::{MemberNode, Raft, TypeConfig};

/// Those of openraft's words that its neighbours have to say: members carry its calls, the cluster changes its
/// membership. A change of openraft's version changes them here.
pub mod words {
    pub use openraft::error::{
        ChangeMembershipError, CheckIsLeaderError, ClientWriteError, Fatal, InstallSnapshotError,
        RaftError,
    };
    pub use openraft::metrics::RaftServerMetrics;
    pub use openraft::raft::{
        AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest,
        InstallSnapshotResponse, VoteRequest, VoteResponse,
    };
    pub use openraft::{
        ChangeMembers, CommittedLeaderId, ConfigError, LogId, Membership, RaftMetrics, Vote,
    };
}
