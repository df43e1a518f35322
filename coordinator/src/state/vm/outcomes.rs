//! What became of the effects that a machine waits for.

use novacron_protocol::effect::{Action, EffectOutcome};
use novacron_protocol::ids::{NodeName, VmId};

use super::{Rest, Task, VMS_DELETED_MAX, Vm, bounded};
use crate::state::fleet::{Applying, Fleet};
use crate::state::outbox::OutboxRow;

impl Fleet {
    pub(in crate::state) fn settle_vm_effect(
        &mut self,
        now: &mut Applying,
        row: &OutboxRow,
        outcome: &EffectOutcome,
    ) {
        let vm = row.effect.vm;
        // A row that is no machine's task clears away an old copy; nothing waits for it.
        let is_task = |vm: &Vm| vm.task_effect() == Some(row.effect.id);
        if !self.vms.get(&vm).is_some_and(is_task) {
            return;
        }
        let problem = problem(&row.node, outcome);
        let is_gone = matches!(outcome, EffectOutcome::Stale { held: None });
        match (&row.effect.action, problem) {
            (Action::Destroy, None) => self.delete_vm(now, vm),
            (Action::Destroy, Some(_)) if is_gone => self.delete_vm(now, vm),
            (Action::Create { .. }, None) => self.note_made(now, vm),
            (Action::Start, None) => self.rest_vm(now, vm, Some(Rest::Running), String::new()),
            (Action::Start, Some(problem)) => self.rest_vm(now, vm, Some(Rest::Failed), problem),
            (Action::Stop { .. }, None) => {
                self.rest_vm(now, vm, Some(Rest::Stopped), String::new())
            }
            (_, Some(problem)) => self.rest_vm(now, vm, None, problem),
            (_, None) => {}
        }
    }

    fn note_made(&mut self, now: &mut Applying, vm: VmId) {
        if self.vms.get(&vm).is_some_and(|vm| vm.starts_when_made) {
            self.change_vm(now, vm, |vm| vm.rest = Rest::Stopped);
            self.give_task(now, None, vm, Action::Start, Task::Start);
        } else {
            self.rest_vm(now, vm, Some(Rest::Stopped), String::new());
        }
    }

    /// The task is over; `rest` is how the machine stands now, if that changed.
    pub(super) fn rest_vm(
        &mut self,
        now: &mut Applying,
        vm: VmId,
        rest: Option<Rest>,
        reason: String,
    ) {
        self.change_vm(now, vm, |vm| {
            vm.task = None;
            vm.rest = rest.unwrap_or(vm.rest);
            vm.reason = reason;
        });
    }

    pub(super) fn delete_vm(&mut self, now: &mut Applying, vm: VmId) {
        self.forget_snapshots(vm);
        self.change_vm(now, vm, |vm| {
            vm.task = None;
            vm.rest = Rest::Deleted;
            vm.reason.clear();
        });
        self.forget_annotations(vm);
        self.detach(vm);
        while self.index.deleted.len() > VMS_DELETED_MAX
            && let Some((_, oldest)) = self.index.deleted.pop_first()
        {
            if let Some(gone) = self.vms.remove(&oldest) {
                self.keep_subject(&gone);
            }
        }
    }
}

/// What a person should know of an outcome that is not `Done`.
pub(in crate::state) fn problem(node: &NodeName, outcome: &EffectOutcome) -> Option<String> {
    match outcome {
        EffectOutcome::Done => None,
        EffectOutcome::Failed { reason } => Some(bounded(reason)),
        EffectOutcome::Stale { held: Some(held) } => {
            Some(format!("node {node} holds generation {held} of the machine"))
        }
        EffectOutcome::Stale { held: None } => {
            Some(format!("node {node} does not have the machine"))
        }
    }
}
