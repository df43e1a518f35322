//! Where the machines of a node that is drained go, and which of them cannot go anywhere. A machine goes to the node with
//! the most free memory of those that can take it; after a failure, to another than last time if there is one.

use std::cmp::Reverse;

use novacron_protocol::ids::{MigrationId, NodeName, VmId};
use novacron_protocol::time::Timestamp;

use super::place::explain;
use crate::state::drain::{Drain, FAILURES_MAX};
use crate::state::migration::natural_mode;
use crate::state::node::Node;
use crate::state::placement::Allocation;
use crate::state::vm::{Task, Vm};
use crate::state::{Fleet, Refusal};

/// How a machine that is to leave a node stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It has a migration.
    Moving(MigrationId),
    /// It can go to this node.
    Ready(NodeName),
    /// It is looked at again later.
    Waiting {
        /// Why it does not move now.
        reason: String,
        /// When, if that is known.
        retry_at: Option<Timestamp>,
    },
    /// It cannot move unless something changes.
    Blocked {
        /// Why.
        reason: String,
    },
}

/// What is free on each node: looked up once for many machines, and less with each that was found a place.
#[derive(Debug)]
pub struct Rooms<'a> {
    fleet: &'a Fleet,
    rooms: Vec<(&'a Node, Allocation)>,
}

impl<'a> Rooms<'a> {
    /// As it is now.
    pub fn of(fleet: &'a Fleet) -> Self {
        let rooms = fleet.nodes().map(|node| (node, fleet.allocation(&node.name))).collect();
        Self { fleet, rooms }
    }

    /// How each machine on a node that is drained stands, in the order of their creation.
    pub fn standings(
        &mut self,
        drain: &Drain,
        now: Timestamp,
    ) -> impl Iterator<Item = (&'a Vm, Standing)> {
        let vms = self.fleet.vms_on_node(&drain.node);
        vms.map(move |vm| (vm, self.standing(drain, vm, now)))
    }

    /// Machines to move now: no more at a time than may be at work, so that each goes where there is room when its turn
    /// comes.
    pub fn moves(&mut self, drain: &Drain, now: Timestamp) -> Vec<(VmId, NodeName)> {
        let most = self.fleet.settings().migrations_per_node as usize;
        let free = most.saturating_sub(self.fleet.open_drain_migrations(&drain.node));
        if free == 0 {
            return Vec::new();
        }
        let target = |(vm, standing): (&Vm, Standing)| match standing {
            Standing::Ready(target) => Some((vm.id, target)),
            _ => None,
        };
        self.standings(drain, now).filter_map(target).take(free).collect()
    }

    fn standing(&mut self, drain: &Drain, vm: &Vm, now: Timestamp) -> Standing {
        if let Some(migration) = vm.migration() {
            return Standing::Moving(migration);
        }
        let setback = drain.setbacks.get(&vm.id);
        if let Some(setback) = setback {
            let reason = setback.reason.clone();
            match setback.retry_at() {
                None => return given_up(&reason),
                Some(at) if at > now => return Standing::Waiting { reason, retry_at: Some(at) },
                Some(_) => {}
            }
        }
        match self.choose(vm, setback.map(|setback| &setback.target)) {
            Ok(target) => Standing::Ready(target),
            Err(reason) if is_busy(vm) => Standing::Waiting { reason, retry_at: None },
            Err(reason) => Standing::Blocked { reason },
        }
    }

    /// The best node, which is taken into account from then on; or why there is none.
    fn choose(&mut self, vm: &Vm, avoided: Option<&NodeName>) -> Result<NodeName, String> {
        let mode = natural_mode(vm);
        let leaver = self.fleet.check_leaver(vm.id, mode);
        let (_, source) = leaver.map_err(|refusal| refusal.to_string())?;
        let mut reasons = Vec::new();
        let mut best = None;
        for (index, (node, taken)) in self.rooms.iter().enumerate() {
            if node.name == source {
                continue;
            }
            match self.fleet.check_target(vm, &source, mode, &node.name, *taken) {
                Ok(()) => {
                    let free = node.facts.capacity.memory_bytes.saturating_sub(taken.memory_bytes);
                    let rank = (Some(&node.name) == avoided, Reverse(free), index);
                    best = Some(best.map_or(rank, |best| rank.min(best)));
                }
                Err(refusal) => reasons.push((&node.name, in_words(refusal))),
            }
        }
        let Some((_, _, index)) = best else { return Err(explain(reasons)) };
        let (node, taken) = &mut self.rooms[index];
        taken.add(Allocation::of(&vm.spec));
        Ok(node.name.clone())
    }
}

fn given_up(reason: &str) -> Standing {
    let reason = format!(
        "given up after {FAILURES_MAX} attempts, drain the node again to try anew: {reason}"
    );
    Standing::Blocked { reason }
}

/// Whether somebody does something with it that will be over.
fn is_busy(vm: &Vm) -> bool {
    let is_task = matches!(
        vm.task,
        Some(Task::Create(_) | Task::Start(_) | Task::Stop(_) | Task::Destroy(_))
    );
    is_task && !vm.is_out_of_sight
}

/// The node is named beside it.
fn in_words(refusal: Refusal) -> String {
    match refusal {
        Refusal::NoRoom { misfit, .. } => misfit.to_string(),
        other => other.to_string(),
    }
}
