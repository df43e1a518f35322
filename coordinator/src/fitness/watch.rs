//! Looking at the disk and at the other members' clocks, and stepping aside.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use novacron_protocol::ids::MemberId;
use novacron_protocol::time::Timestamp;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Fitness;
use super::clocks::{self, Reading};
use crate::clock::Clock;
use crate::peers::{Answer, Call, LeaderLink};
use crate::raft::{MemberNode, Raft};

/// How often the disk is looked at: what is written in between has to fit into the reserve.
const ROOM_PERIOD: Duration = Duration::from_secs(1);

/// How often the clocks are compared.
const CLOCKS_PERIOD: Duration = Duration::from_secs(5);

/// Between two comparisons, however many wait for them.
const PAUSE: Duration = Duration::from_millis(50);

/// For one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes that are free where the data is; `None` if nobody knows.
pub type Free = Arc<dyn Fn() -> Option<u64> + Send + Sync>;

/// Watches one member.
#[derive(Clone)]
pub(crate) struct Watch {
    pub(crate) fitness: Fitness,
    pub(crate) raft: Raft,
    pub(crate) leader: LeaderLink,
    pub(crate) clock: Clock,
    pub(crate) free: Free,
    /// Bytes that are kept; 0: the disk is not looked at.
    pub(crate) reserve_bytes: u64,
}

/// What a member said of itself.
struct Other {
    offset_ms: i64,
    is_fit: bool,
    has_room: bool,
}

impl Watch {
    /// Looks until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut compared: Option<Instant> = None;
        loop {
            let looked = async {
                self.look_at_disk().await;
                if compared.is_none_or(|at| at.elapsed() >= CLOCKS_PERIOD) || self.is_unsettled() {
                    self.compare().await;
                    compared = Some(Instant::now());
                }
                self.step();
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = looked => {}
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.fitness.0.jumped.notified() => sleep(PAUSE).await,
                () = sleep(ROOM_PERIOD) => {}
            }
        }
    }

    /// Whether it matters now what the others say, or nobody has said anything.
    fn is_unsettled(&self) -> bool {
        let is_alone = self.leader.voters().len() < 2;
        let is_unheard = !is_alone && self.fitness.offsets_ms().is_empty();
        is_unheard || self.fitness.check(self.clock.now()).is_err()
    }

    async fn look_at_disk(&self) {
        if self.reserve_bytes == 0 {
            return;
        }
        let (free, was_short) = (Arc::clone(&self.free), self.fitness.check_room().is_err());
        // A disk that hangs must not hang the clocks.
        let asked = timeout(ANSWER_TIMEOUT, spawn_blocking(move || free())).await;
        let Ok(Ok(Some(free_bytes))) = asked else { return };
        self.fitness.note_room(free_bytes, self.reserve_bytes);
        if !was_short && self.fitness.check_room().is_err() {
            // What a snapshot holds can leave the log. Fails only if Raft has stopped.
            let _ = self.raft.trigger().snapshot().await;
        }
    }

    async fn compare(&self) {
        let voters = self.leader.voters();
        let own = self.leader.links().own();
        let others = voters.iter().filter(|(member, _)| *member != own);
        let asked = others.map(|(member, node)| self.ask(*member, node));
        let others: BTreeMap<MemberId, Other> =
            join_all(asked).await.into_iter().flatten().collect();
        let offsets: BTreeMap<MemberId, i64> =
            others.iter().map(|(member, other)| (*member, other.offset_ms)).collect();
        let wall = self.clock.now();
        // Until somebody agrees with it again, a clock that has jumped is one that has just jumped.
        let has_jumped = self.fitness.has_jumped(wall) || self.fitness.check_clock().is_err();
        // A clock that has jumped is not trusted because nobody answers.
        if !(has_jumped && offsets.is_empty() && voters.len() > 1) {
            let off_ms = clocks::off_ms(&offsets, voters.len(), has_jumped);
            self.fitness.note_clocks(wall, offsets, off_ms);
        }
        let can_store = others.values().filter(|other| other.has_room).count()
            + usize::from(self.fitness.check_room().is_ok());
        let can_lead = others.values().any(|other| other.is_fit);
        self.fitness.note_others(can_lead && can_store > voters.len() / 2);
    }

    async fn ask(&self, member: MemberId, node: &MemberNode) -> Option<(MemberId, Other)> {
        let Timestamp { unix_ms: asked_ms } = self.clock.now();
        let call = self.leader.links().call(member, node, Call::Condition);
        let answer = timeout(ANSWER_TIMEOUT, call).await;
        let Ok(Ok(Answer::Condition { clock, is_fit, has_room })) = answer else { return None };
        let answered_ms = self.clock.now().unix_ms;
        let offset_ms = Reading { asked_ms, answered_ms, theirs_ms: clock.unix_ms }.offset_ms();
        Some((member, Other { offset_ms, is_fit, has_room }))
    }

    /// A leader that sends no signs of life is replaced, and one that calls no elections does not lead.
    fn step(&self) {
        let leads = !self.fitness.is_aside(self.clock.now());
        self.raft.runtime_config().heartbeat(leads);
        self.raft.runtime_config().elect(leads);
    }
}
