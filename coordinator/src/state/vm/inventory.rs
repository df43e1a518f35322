//! What agents see of machines: as they change, and all of them when an agent comes back.

use novacron_protocol::effect::{Action, MachineReport, ObservedState};
use novacron_protocol::ids::{NodeName, VmId};

use super::{Rest, Task, Vm, bounded};
use crate::state::fleet::{Applying, Fleet};

impl Fleet {
    /// How an agent sees a machine. Counts only from the node that holds it, for the generation it holds.
    pub(in crate::state) fn observe(
        &mut self,
        now: &mut Applying,
        node: &NodeName,
        report: &MachineReport,
    ) {
        let holds = |vm: &Vm| vm.node.as_ref() == Some(node) && vm.generation == report.generation;
        if !self.vms.get(&report.vm).is_some_and(holds) {
            return;
        }
        self.change_vm(now, report.vm, |vm| {
            if vm.rest == Rest::Deleted {
                return;
            }
            let rest = observed_rest(report.state);
            // Whatever its node has been told to do ends with a reason of its own.
            if vm.task_effect().is_none() && (vm.rest != rest || !report.reason.is_empty()) {
                vm.reason = bounded(&report.reason);
            }
            vm.rest = rest;
        });
    }

    /// An agent that came back does not have the machine that it should have.
    pub(in crate::state) fn note_missing(&mut self, now: &mut Applying, vm: VmId) {
        let Some(machine) = self.vms.get(&vm) else { return };
        let is_being_made = machine.rest == Rest::NotMade;
        let is_being_removed = matches!(machine.task, Some(Task::Destroy(_)));
        // A source that handed over has nothing left; its report of that follows its hello.
        let may_have_left = machine.migration().is_some();
        let node = machine.node.as_ref().map(ToString::to_string).unwrap_or_default();
        if is_being_made || is_being_removed || may_have_left {
            return;
        }
        if let Some(effect) = machine.task_effect() {
            self.take_row(effect);
        }
        let reason = format!("lost: node {node} came back without it");
        self.lose_snapshots(now, vm, "lost with the machine");
        self.rest_vm(now, vm, Some(Rest::Failed), reason);
    }

    /// Orders a copy away that a node still has although the fleet knows that a newer generation was accepted
    /// elsewhere, or that the machine is deleted. In any doubt the copy stays: it may be the only one.
    pub(in crate::state) fn destroy_if_superseded(
        &mut self,
        now: &mut Applying,
        node: &NodeName,
        held: &MachineReport,
    ) {
        let Some(vm) = self.vms.get(&held.vm) else { return };
        let is_deleted = vm.rest == Rest::Deleted && held.generation <= vm.generation_promised;
        let is_superseded = vm.rest != Rest::Deleted
            && vm.node.as_ref().is_some_and(|holder| holder != node)
            && held.generation < vm.generation;
        if !(is_deleted || is_superseded) || self.is_leaving(held.vm, node) {
            return;
        }
        let is_ordered = self
            .effects_of(node)
            .any(|effect| effect.vm == held.vm && effect.action == Action::Destroy);
        if !is_ordered {
            let mut order = vm.order(node.clone());
            order.generation = held.generation;
            self.issue(now, order, Action::Destroy);
        }
    }
}

pub(in crate::state) fn observed_rest(state: ObservedState) -> Rest {
    match state {
        ObservedState::Stopped => Rest::Stopped,
        ObservedState::Running => Rest::Running,
        ObservedState::Paused => Rest::Paused,
        ObservedState::Failed => Rest::Failed,
    }
}
