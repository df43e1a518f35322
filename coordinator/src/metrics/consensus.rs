//! Raft in numbers, as this member sees it.

use std::fmt;
use std::time::Duration;

use novacron_metrics::moment::{Moment, whole};
use novacron_protocol::ids::MemberId;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::clock::Clock;
use crate::peers::desk::Desk;
use crate::peers::{UNIT_BYTES, UNITS_MAX};
use crate::raft::words::LogId;
use crate::raft::{Heard, Raft};

/// Seconds of something that waits for a disk, or for those of a quorum.
const DISK_BOUNDS: [f64; 11] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 4.0];

/// Seconds without a leader: from the shortest lease to an outage.
const LEADERLESS_BOUNDS: [f64; 12] =
    [0.25, 0.5, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0];

/// For how long this member was without a leader. Clones share it.
#[derive(Debug, Clone)]
pub struct LeaderlessMetrics(Histogram);

impl Default for LeaderlessMetrics {
    fn default() -> Self {
        Self(Histogram::new(LEADERLESS_BOUNDS))
    }
}

impl LeaderlessMetrics {
    /// There is a leader again, after so long.
    pub fn ended(&self, silence: Duration) {
        self.0.observe(silence.as_secs_f64());
    }

    fn register(&self, registry: &mut Registry) {
        registry.register(
            "novacron_raft_leaderless_seconds",
            "Times in which this member neither led nor heard a leader for longer than elections wait, told at their end",
            self.0.clone(),
        );
    }
}

/// How applying goes. Clones share it.
#[derive(Debug, Clone)]
pub struct ApplyMetrics {
    seconds: Histogram,
    entries: Counter,
}

impl Default for ApplyMetrics {
    fn default() -> Self {
        Self { seconds: Histogram::new(DISK_BOUNDS), entries: Counter::default() }
    }
}

impl ApplyMetrics {
    /// So many entries were applied together.
    pub fn applied(&self, entries: usize, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
        self.entries.inc_by(entries as u64);
    }

    fn register(&self, registry: &mut Registry) {
        registry.register(
            "novacron_raft_apply_seconds",
            "Time to apply entries that were committed together, tables on disk included",
            self.seconds.clone(),
        );
        registry.register(
            "novacron_raft_applied_entries",
            "Entries that this member applied since it was started",
            self.entries.clone(),
        );
    }
}

/// What became of a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitOutcome {
    /// It was committed and applied.
    Committed,
    /// It was declined, or nobody knows.
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// How proposals at this member fare. Clones share it.
#[derive(Debug, Clone)]
pub struct CommitMetrics {
    seconds: Family<Outcome, Histogram>,
}

impl Default for CommitMetrics {
    fn default() -> Self {
        let metrics =
            Self { seconds: Family::new_with_constructor(|| Histogram::new(DISK_BOUNDS)) };
        for outcome in [CommitOutcome::Committed, CommitOutcome::Failed] {
            let _ = metrics.seconds.get_or_create_owned(&label(outcome));
        }
        metrics
    }
}

fn label(outcome: CommitOutcome) -> Outcome {
    let outcome = match outcome {
        CommitOutcome::Committed => "committed",
        CommitOutcome::Failed => "failed",
    };
    Outcome { outcome }
}

impl CommitMetrics {
    /// A proposal came to its end.
    pub fn proposed(&self, outcome: CommitOutcome, took: Duration) {
        self.seconds.get_or_create(&label(outcome)).observe(took.as_secs_f64());
    }

    fn register(&self, registry: &mut Registry) {
        registry.register(
            "novacron_raft_commit_seconds",
            "Time from a proposal at this leader until it was applied, the wait for a place included",
            self.seconds.clone(),
        );
    }
}

/// Where the numbers are to be found.
pub struct Consensus {
    /// Consensus itself.
    pub raft: Raft,
    /// Proposals.
    pub desk: Desk,
    /// Applying.
    pub applying: ApplyMetrics,
    /// The clock.
    pub clock: Clock,
    /// When others answered.
    pub heard: Heard,
    /// Times without a leader.
    pub leaderless: LeaderlessMetrics,
}

impl fmt::Debug for Consensus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Consensus").finish_non_exhaustive()
    }
}

impl Consensus {
    pub(super) fn register(self, registry: &mut Registry) {
        self.applying.register(registry);
        self.leaderless.register(registry);
        self.desk.commits().register(registry);
        registry.register_collector(Box::new(self));
    }

    fn log(&self, moment: &mut Moment<'_>) -> fmt::Result {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let index = |id: Option<u64>| whole(id.unwrap_or(0));
        let applied = metrics.last_applied.map(|id| id.index);
        let snapshot = metrics.snapshot.map(|id| id.index);
        for (name, help, value) in [
            ("novacron_raft_term", "Term of this member", whole(metrics.current_term)),
            (
                "novacron_raft_log_index",
                "Index of the last entry in this member's log",
                index(metrics.last_log_index),
            ),
            (
                "novacron_raft_applied_index",
                "Index of the last entry that this member applied",
                index(applied),
            ),
            (
                "novacron_raft_snapshot_index",
                "Index of the last entry in this member's newest snapshot",
                index(snapshot),
            ),
        ] {
            moment.gauge(name, help, value)?;
        }
        Ok(())
    }

    fn leadership(&self, moment: &mut Moment<'_>) -> fmt::Result {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let leads = metrics.current_leader == Some(metrics.id);
        let voters = metrics.membership_config.membership().voter_ids().count();
        for (name, help, value) in [
            ("novacron_raft_leads", "1 if this member leads, as far as it knows", leads.into()),
            (
                "novacron_raft_has_leader",
                "1 if this member knows who leads",
                metrics.current_leader.is_some().into(),
            ),
            (
                "novacron_raft_healthy",
                "0 once consensus of this member has failed: it has to be started anew",
                metrics.running_state.is_ok().into(),
            ),
            ("novacron_raft_voters", "Members that vote", whole(voters)),
        ] {
            moment.gauge(name, help, value)?;
        }
        Ok(())
    }
}

/// What the leader knows of another member.
struct Follower {
    member: String,
    lag_entries: i64,
    silence_s: f64,
}

impl Consensus {
    /// None while this member does not lead.
    fn followers(&self) -> Vec<Follower> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        // The index before the first is that of no entry.
        let length = |index: Option<u64>| index.map_or(0, |index| index + 1);
        let last = length(metrics.last_log_index);
        let others = metrics.replication.iter().flatten().filter(|(id, _)| **id != metrics.id);
        let follower = |(id, matched): (&u64, &Option<LogId<u64>>)| Follower {
            member: id.to_string(),
            lag_entries: whole(last.saturating_sub(length(matched.map(|log| log.index)))),
            silence_s: self.heard.silence_of(MemberId(*id)).as_secs_f64(),
        };
        others.map(follower).collect()
    }

    fn replication(&self, moment: &mut Moment<'_>) -> fmt::Result {
        let followers = self.followers();
        moment.labelled(
            "novacron_raft_replication_lag_entries",
            "Entries of this leader's log that another member, by its id, has not acknowledged; from the leader only",
            followers.iter().map(|one| ([("member", one.member.as_str())], one.lag_entries)),
        )?;
        moment.labelled(
            "novacron_raft_follower_silence_seconds",
            "Time since another member, by its id, has answered this leader; from the leader only",
            followers.iter().map(|one| ([("member", one.member.as_str())], one.silence_s)),
        )
    }

    /// Clocks are compared every few seconds; who was not reached then is not in it.
    fn fitness(&self, moment: &mut Moment<'_>) -> fmt::Result {
        let fitness = self.desk.fitness();
        let is_fit = fitness.check(self.clock.now()).is_ok();
        moment.gauge(
            "novacron_raft_fit",
            "0 while this member takes no changes: no room on its disk, or its clock is off",
            whole(u32::from(is_fit)),
        )?;
        let offsets = fitness.offsets_ms().into_values();
        let farthest_ms = offsets.map(i64::unsigned_abs).max().unwrap_or(0);
        moment.gauge(
            "novacron_clock_offset_seconds",
            "The farthest that the clock of another member differs from this one's",
            farthest_ms as f64 / 1000.0,
        )
    }
}

impl Collector for Consensus {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut moment = Moment::new(encoder);
        self.log(&mut moment)?;
        self.leadership(&mut moment)?;
        self.fitness(&mut moment)?;
        self.replication(&mut moment)?;
        moment.gauge(
            "novacron_raft_proposals_bytes",
            "Proposals at this leader that are not committed yet",
            whole(self.desk.units() * UNIT_BYTES),
        )?;
        moment.gauge(
            "novacron_raft_proposals_limit_bytes",
            "Proposals that may be so at once; more have to wait",
            whole(UNITS_MAX * UNIT_BYTES),
        )
    }
}
