//! The pace of the cluster, and what openraft is told of it.

use std::sync::Arc;
use std::time::Duration;

use openraft::{Config, ConfigError, SnapshotPolicy};

/// Entries after which a snapshot is taken and the log before it may go. As many stay for followers that are a
/// little behind: more than are written while a snapshot of 100 MB travels at 100 Mbit/s (8 s of 500 entries).
const ENTRIES_PER_SNAPSHOT: u64 = 5_000;

/// Bytes of a snapshot in one call: the receive window of a stream.
const SNAPSHOT_CHUNK_BYTES: u64 = 1 << 20;

/// How long the receiver of the last chunk may take to install all of it.
const INSTALL_TIMEOUT_MS: u64 = 60_000;

/// The pace of the cluster; the same on all members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How often the leader is heard. openraft looks at its timers every one and a half of these.
    pub heartbeat_ms: u64,
    /// For how long a silent leader is waited for, by members that could call an election and by those that they ask for
    /// their votes: several heartbeats.
    pub election_ms_min: u64,
    /// Entries from one snapshot to the next.
    pub entries_per_snapshot: u64,
}

impl Default for Timing {
    fn default() -> Self {
        let entries_per_snapshot = ENTRIES_PER_SNAPSHOT;
        Self { heartbeat_ms: 100, election_ms_min: 1_000, entries_per_snapshot }
    }
}

impl Timing {
    /// From one heartbeat to the next.
    pub fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms)
    }

    /// For how long a silent leader is waited for.
    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.election_ms_min)
    }

    /// How much later than the one before it a member calls an election: what an election takes on a disk that is not
    /// slow, and some more.
    pub fn stagger(&self) -> Duration {
        self.heartbeat() * 2
    }

    /// What openraft is told.
    ///
    /// # Errors
    /// A pace at which the cluster cannot work.
    pub fn config(&self) -> Result<Arc<Config>, Box<ConfigError>> {
        let config = Config {
            cluster_name: "novacron".to_owned(),
            heartbeat_interval: self.heartbeat_ms,
            // Members call elections themselves (`raft::elections`). The upper one is the lease within which openraft
            // refuses its vote; the lower one has to be lower.
            enable_elect: false,
            election_timeout_min: self.election_ms_min - 1,
            election_timeout_max: self.election_ms_min,
            install_snapshot_timeout: INSTALL_TIMEOUT_MS,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.entries_per_snapshot),
            snapshot_max_chunk_size: SNAPSHOT_CHUNK_BYTES,
            max_in_snapshot_log_to_keep: self.entries_per_snapshot,
            ..Config::default()
        };
        Ok(Arc::new(config.validate()?))
    }
}
