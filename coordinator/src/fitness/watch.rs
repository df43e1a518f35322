//! Looking at the disk and at the other members' clocks, and stepping aside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use novacron_protocol::ids::MemberId;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Fitness;
use super::clocks::{self, Anchor, Reading};
use crate::clock::Clock;
use crate::peers::{Answer, Call, LeaderLink};
use crate::raft::{DiskWork, MemberNode, Raft};

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
pub struct Watch {
    /// What it finds.
    pub fitness: Fitness,
    /// The member's consensus.
    pub raft: Raft,
    /// The way to the others.
    pub leader: LeaderLink,
    /// The wall clock.
    pub clock: Clock,
    /// How full the disk is.
    pub free: Free,
    /// Where that is asked.
    pub work: DiskWork,
    /// Bytes that are kept; 0: the disk is not looked at.
    pub reserve_bytes: u64,
}

/// What a member said of itself.
struct Other {
    offset_ms: i64,
    is_fit: bool,
    has_room: bool,
}

impl Watch {
    /// Looks until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        self.fitness.begin();
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
        let is_unfit = self.fitness.check(self.clock.now()).is_err();
        is_unheard || is_unfit || self.fitness.is_somebody_short()
    }

    async fn look_at_disk(&self) {
        if self.reserve_bytes == 0 {
            return;
        }
        let (free, was_short) = (Arc::clone(&self.free), self.fitness.check_room().is_err());
        // A disk that hangs must not hang the clocks.
        let asked = timeout(ANSWER_TIMEOUT, self.work.run(move || free())).await;
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
        let anchor = Anchor { wall: self.clock.now(), at: Instant::now() };
        let is_known = self.fitness.is_clock_trusted(anchor.wall);
        let others = voters.iter().filter(|(member, _)| *member != own);
        let asked = others.map(|(member, node)| self.ask(*member, node, anchor));
        let others: BTreeMap<MemberId, Other> =
            join_all(asked).await.into_iter().flatten().collect();
        let offsets: BTreeMap<MemberId, i64> =
            others.iter().map(|(member, other)| (*member, other.offset_ms)).collect();
        // Until somebody agrees with it again, a clock that has jumped is one that has just jumped; one that was never
        // compared may have.
        let is_trusted = is_known && self.fitness.check_clock().is_ok();
        // Neither is trusted because nobody answers, or because it is not known yet who else votes.
        if is_trusted || !offsets.is_empty() || voters.len() == 1 {
            let off_ms = clocks::off_ms(&offsets, voters.len(), !is_trusted);
            self.fitness.note_clocks(anchor, offsets, off_ms);
        }
        let asked: BTreeSet<MemberId> =
            voters.iter().map(|(member, _)| *member).filter(|member| *member != own).collect();
        let rooms = others.iter().map(|(member, other)| (*member, other.has_room)).collect();
        self.fitness.note_rooms(&asked, &rooms);
        let can_store = others.values().filter(|other| other.has_room).count()
            + usize::from(self.fitness.check_room().is_ok());
        let can_lead = others.values().any(|other| other.is_fit);
        self.fitness.note_others(can_lead && can_store > voters.len() / 2);
    }

    async fn ask(
        &self,
        member: MemberId,
        node: &MemberNode,
        anchor: Anchor,
    ) -> Option<(MemberId, Other)> {
        let asked_ms = anchor.expected_ms();
        let call = self.leader.links().call(member, node, Call::Condition);
        let answer = timeout(ANSWER_TIMEOUT, call).await;
        let Ok(Ok(Answer::Condition { clock, is_fit, has_room })) = answer else { return None };
        let answered_ms = anchor.expected_ms();
        let offset_ms = Reading { asked_ms, answered_ms, theirs_ms: clock.unix_ms }.offset_ms();
        Some((member, Other { offset_ms, is_fit, has_room }))
    }

    /// A leader that sends no signs of life is replaced. Whoever is aside calls no elections either (`raft::elections`).
    fn step(&self) {
        let leads = !self.fitness.is_aside(self.clock.now());
        self.raft.runtime_config().heartbeat(leads);
    }
}
