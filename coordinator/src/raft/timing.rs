//! When members call elections.
//!
//! openraft 0.9 draws a member's election timeout once per process, so two members whose draws are too close
//! can split every vote for ever. Windows that never overlap take that away: with a heartbeat of 150 ms
//! openraft looks at its timers every 225 ms, and windows are 240 ms apart. A follower waits its own longest
//! timeout (the lease) and its draw, so a dead leader is replaced after about 2.1 s by the first member, and
//! after 4 s by the fifth if no other is left.
//!
//! Ids are never used again, so two members may share a window (1 and 6): for them there is a watchdog that
//! calls an election at a random moment when nobody has led for long.

use std::sync::Arc;
use std::time::Duration;

use novacron_protocol::ids::MemberId;
use openraft::{Config, ConfigError, SnapshotPolicy};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::types::{MemberNode, Raft};

/// Members with windows of their own; 5 is the largest cluster that is supported.
const WINDOWS: u64 = 5;

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
    /// How often the leader is heard.
    pub heartbeat_ms: u64,
    /// The earliest election timeout of all members: several heartbeats.
    pub election_ms_min: u64,
    /// Entries from one snapshot to the next.
    pub entries_per_snapshot: u64,
}

impl Default for Timing {
    fn default() -> Self {
        let entries_per_snapshot = ENTRIES_PER_SNAPSHOT;
        Self { heartbeat_ms: 150, election_ms_min: 1_000, entries_per_snapshot }
    }
}

impl Timing {
    /// The window of a member, from and to.
    pub fn window_ms(&self, member: MemberId) -> (u64, u64) {
        let tick_ms = self.heartbeat_ms * 3 / 2;
        let width_ms = self.heartbeat_ms / 2;
        let place = member.0.saturating_sub(1) % WINDOWS;
        let from = self.election_ms_min + place * (tick_ms + tick_ms / 15);
        (from, from + width_ms)
    }

    /// What openraft is told.
    ///
    /// # Errors
    /// A pace at which the cluster cannot work.
    pub fn config(&self, member: MemberId) -> Result<Arc<Config>, Box<ConfigError>> {
        let (from, to) = self.window_ms(member);
        let config = Config {
            cluster_name: "novacron".to_owned(),
            heartbeat_interval: self.heartbeat_ms,
            election_timeout_min: from,
            election_timeout_max: to,
            install_snapshot_timeout: INSTALL_TIMEOUT_MS,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.entries_per_snapshot),
            snapshot_max_chunk_size: SNAPSHOT_CHUNK_BYTES,
            max_in_snapshot_log_to_keep: self.entries_per_snapshot,
            ..Config::default()
        };
        Ok(Arc::new(config.validate()?))
    }

    /// The longest that a member without a leader waits before it calls an election.
    fn patience(&self) -> Duration {
        let (_, latest) = self.window_ms(MemberId(WINDOWS));
        Duration::from_millis(latest * 2)
    }
}

/// Calls an election at a random moment after nobody has led for three times the longest timeout. Ends with
/// `stop` or with Raft. Whoever is aside calls none.
pub async fn watch_for_ties(
    raft: Raft,
    timing: Timing,
    is_aside: impl Fn() -> bool + Send,
    stop: CancellationToken,
) {
    let mut metrics = raft.server_metrics();
    let mut leaderless_since: Option<Instant> = None;
    let mut patience = timing.patience() * 3;
    loop {
        if is_leaderless_voter(&metrics.borrow_and_update()) {
            leaderless_since.get_or_insert_with(Instant::now);
        } else {
            leaderless_since = None;
            patience = timing.patience() * 3;
        }
        let waited = leaderless_since.map_or(Duration::ZERO, |since| since.elapsed());
        if waited >= patience && !is_aside() {
            tracing::warn!("nobody has led for long: calling an election out of turn");
            // Fails only if Raft has stopped, which the next turn notices.
            let _ = raft.trigger().elect().await;
            patience += timing.patience().mul_f64(rand::random::<f64>() + 1.0);
        }
        // Who is aside looks again after a moment.
        let pause = patience.saturating_sub(waited).max(timing.patience() / 4);
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = metrics.changed() => if changed.is_err() { return },
            () = sleep(pause) => {}
        }
    }
}

fn is_leaderless_voter(metrics: &openraft::metrics::RaftServerMetrics<u64, MemberNode>) -> bool {
    let votes = metrics.membership_config.membership().voter_ids().any(|id| id == metrics.id);
    votes && metrics.current_leader.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_a_tick_apart_and_within_the_smallest_lease() {
        let timing = Timing::default();
        let windows: Vec<_> = (1..=WINDOWS).map(|id| timing.window_ms(MemberId(id))).collect();
        for pair in windows.windows(2) {
            assert!(pair[1].0 - pair[0].0 > timing.heartbeat_ms * 3 / 2, "{pair:?}");
            assert!(pair[1].0 > pair[0].1, "{pair:?}");
        }
        // A member with a shorter log waits twice its own longest timeout more: longer than all others'.
        assert!(windows[0].1 * 2 > windows[4].1);
        for id in 1..=12 {
            timing.config(MemberId(id)).unwrap();
        }
    }
}
