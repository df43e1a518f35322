//! The leader passes on what it took from agents, so that every member answers from its own memory and disk, and whoever
//! leads next has history. Best effort: nobody waits for it, and what cannot be passed on is counted.

use std::collections::BTreeMap;
use std::time::Duration;

use novacron_protocol::ids::MemberId;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{NodePart, Samples};
use crate::peers::{Call, LeaderLink};
use crate::state::Fleet;
use crate::state::formats::SAMPLES;
use crate::view::View;

/// Parts that wait to be gathered: a second of 2,000 hosts that send at once, twice.
const PARTS_WAITING_MAX: usize = 4_096;

/// Parts that go together: those of a second, but no more than these. With 20,000 machines on 2,000 hosts, a second has
/// 200 parts of 1.1 KB.
const GATHER_PERIOD: Duration = Duration::from_secs(1);
const PARTS_TOGETHER_MAX: usize = 1_024;
/// Values that go together, 10 bytes each: with their machines' names well below what a call may have.
const VALUES_TOGETHER_MAX: usize = 400_000;

/// Gathered parts that wait for one member.
const WAITING_FOR_MEMBER_MAX: usize = 8;

/// How often a member is asked to take something, and how long each time.
const TRIES: u32 = 3;
const TRY_TIMEOUT: Duration = Duration::from_secs(3);
const TRY_PAUSE: Duration = Duration::from_secs(1);

/// Where parts are handed in that are to be passed on. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Outbound {
    samples: Samples,
    parts: mpsc::Sender<NodePart>,
}

/// What passes them on.
pub struct Passing {
    samples: Samples,
    parts: mpsc::Receiver<NodePart>,
    leader: LeaderLink,
    view: View,
}

/// The two ends.
pub fn passing(samples: &Samples, leader: LeaderLink, view: View) -> (Outbound, Passing) {
    let (outlet, inlet) = mpsc::channel(PARTS_WAITING_MAX);
    let outbound = Outbound { samples: samples.clone(), parts: outlet };
    (outbound, Passing { samples: samples.clone(), parts: inlet, leader, view })
}

impl Outbound {
    /// Hands a part in; one for which there is no room is counted.
    pub fn pass(&self, part: NodePart) {
        if self.parts.try_send(part).is_err() {
            self.samples.note_not_passed_on(1);
        }
    }
}

type Lanes = BTreeMap<MemberId, mpsc::Sender<Vec<NodePart>>>;

impl Passing {
    /// Passes on until `stop`. Only a leader is handed something.
    pub async fn run(mut self, stop: CancellationToken) {
        let (mut lanes, mut tasks) = (Lanes::new(), JoinSet::new());
        loop {
            let first = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                first = self.parts.recv() => first,
            };
            let Some(first) = first else { break };
            let parts = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                parts = self.gather(first) => parts,
            };
            self.hand_out(&mut lanes, &mut tasks, &parts);
        }
        tasks.shutdown().await;
    }

    async fn gather(&mut self, first: NodePart) -> Vec<NodePart> {
        let until = Instant::now() + GATHER_PERIOD;
        let mut values = count(&first);
        let mut parts = vec![first];
        while parts.len() < PARTS_TOGETHER_MAX && values < VALUES_TOGETHER_MAX {
            let Ok(Some(part)) = timeout_at(until, self.parts.recv()).await else { break };
            values += count(&part);
            parts.push(part);
        }
        parts
    }

    fn hand_out(&self, lanes: &mut Lanes, tasks: &mut JoinSet<()>, parts: &[NodePart]) {
        // A member that is too old for them could not read the call.
        if self.view.local(Fleet::formats) < SAMPLES {
            return;
        }
        let others: Vec<MemberId> = self.leader.others().into_iter().map(|(id, _)| id).collect();
        lanes.retain(|member, _| others.contains(member));
        for member in others {
            let lane = lanes.entry(member).or_insert_with(|| {
                let (outlet, inlet) = mpsc::channel(WAITING_FOR_MEMBER_MAX);
                tasks.spawn(carry(self.samples.clone(), self.leader.clone(), member, inlet));
                outlet
            });
            let refused = lane.try_send(parts.to_vec());
            if let Err(TrySendError::Full(parts) | TrySendError::Closed(parts)) = refused {
                self.samples.note_not_passed_on(parts.len() as u64);
            }
        }
    }
}

fn count(part: &NodePart) -> usize {
    let machines = part.part.machines.iter().map(|machine| machine.values.len() + 4);
    machines.sum::<usize>() + part.part.host.as_ref().map_or(0, Vec::len) + 8
}

/// Brings one member what is for it, until the member leaves.
async fn carry(
    samples: Samples,
    leader: LeaderLink,
    member: MemberId,
    mut inlet: mpsc::Receiver<Vec<NodePart>>,
) {
    while let Some(parts) = inlet.recv().await {
        let count = parts.len() as u64;
        if !bring(&leader, member, parts).await {
            samples.note_not_passed_on(count);
        }
    }
}

async fn bring(leader: &LeaderLink, member: MemberId, parts: Vec<NodePart>) -> bool {
    for attempt in 0..TRIES {
        if attempt > 0 {
            sleep(TRY_PAUSE).await;
        }
        let Some(node) = leader.node(member) else { return false };
        let call = leader.links().call(member, &node, Call::Samples(parts.clone()));
        if matches!(timeout(TRY_TIMEOUT, call).await, Ok(Ok(_))) {
            return true;
        }
    }
    false
}
