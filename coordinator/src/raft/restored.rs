//! How the log and the state of a restored cluster begin: the state of a backup, as if one member alone had written
//! everything up to it.

use std::collections::{BTreeMap, BTreeSet};

use novacron_protocol::ids::{MemberId, Revision};
use novacron_protocol::wire::codec;
use novacron_storage::log::{Log, LogError};
use novacron_storage::snapshot::{SnapshotError, SnapshotStore};
use openraft::{CommittedLeaderId, LogId, Membership, SnapshotMeta, StoredMembership, Vote};

use super::record::{LogIdRecord, SnapshotMetaRecord, VoteRecord};
use super::types::MemberNode;

/// The term in which everything before the restore counts as written. Terms of an earlier life mean nothing here:
/// its members are not answered.
const TERM: u64 = 1;

/// Why a beginning cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The log cannot be written.
    #[error("the log cannot be written")]
    Log(#[from] LogError),
    /// The snapshot cannot be written.
    #[error("the state cannot be written")]
    Snapshot(#[from] SnapshotError),
    /// A record cannot be encoded.
    #[error("a position of the log cannot be written")]
    Record(#[from] codec::CodecError),
}

/// Writes the beginning of a log that goes on after `last`, and the state there.
///
/// The snapshot comes last: a log that begins later than its state would not start.
///
/// # Errors
/// [`BeginError`].
pub fn begin(
    log: &mut Log,
    snapshots: &SnapshotStore,
    (member, node): (MemberId, MemberNode),
    last: Revision,
    state: &[u8],
) -> Result<(), BeginError> {
    let id = LogId::new(CommittedLeaderId::new(TERM, member.0), last.0);
    log.set_vote(codec::encode(&VoteRecord(Vote::new(TERM, member.0)))?)?;
    log.purge(last.0, codec::encode(&LogIdRecord(Some(id)))?)?;
    let nodes = BTreeMap::from([(member.0, node)]);
    let membership = Membership::new(vec![BTreeSet::from([member.0])], nodes);
    let meta = SnapshotMeta {
        last_log_id: Some(id),
        last_membership: StoredMembership::new(Some(id), membership),
        snapshot_id: format!("restored-{}", last.0),
    };
    snapshots.write(&codec::encode(&SnapshotMetaRecord(meta))?, state)?;
    Ok(())
}
