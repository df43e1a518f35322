//! What Raft keeps on disk, with versions and limits.

use novacron_protocol::wire::codec::Message;
use openraft::{Entry, LogId, SnapshotMeta, StoredMembership, Vote};
use serde::{Deserialize, Serialize};

use super::proposal::PROPOSAL_BYTES_MAX;
use super::types::{MemberNode, TypeConfig};

/// Bytes of records about membership and positions: at most a few members of a few hundred bytes each.
const SMALL_BYTES_MAX: usize = 64 * 1024;

macro_rules! record {
    ($name:ident($content:ty), $bytes_max:expr, $text:literal) => {
        record!($name($content), 1, $bytes_max, $text);
    };
    ($name:ident($content:ty), $version:literal, $bytes_max:expr, $text:literal) => {
        #[derive(Debug, Clone, Serialize, Deserialize)]
        pub(super) struct $name(pub(super) $content);

        impl Message for $name {
            const VERSION: u16 = $version;
            const BYTES_MAX: usize = $bytes_max;
            const NAME: &'static str = $text;
        }
    };
}

record!(EntryRecord(Entry<TypeConfig>), 2, PROPOSAL_BYTES_MAX + SMALL_BYTES_MAX, "log entry");
record!(VoteRecord(Vote<u64>), SMALL_BYTES_MAX, "vote");
record!(LogIdRecord(Option<LogId<u64>>), SMALL_BYTES_MAX, "log position");
record!(
    SnapshotMetaRecord(SnapshotMeta<u64, MemberNode>),
    SMALL_BYTES_MAX,
    "description of a snapshot"
);
record!(PositionRecord(Position), SMALL_BYTES_MAX, "applied position");

/// How far the state machine is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    pub(super) applied: Option<LogId<u64>>,
    pub(super) membership: StoredMembership<u64, MemberNode>,
}

impl Position {
    /// Index of the last applied entry, 0 before the first.
    pub(super) fn index(&self) -> u64 {
        self.applied.map_or(0, |applied| applied.index)
    }
}
