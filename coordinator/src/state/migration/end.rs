//! How migrations end: by hand-over, by the source's word, by a client, or before the source was told.

use novacron_protocol::api::EventKind;
use novacron_protocol::effect::{Action, EffectOutcome, Handover, MigrationEnd, SourceResult};
use novacron_protocol::ids::{EffectId, MigrationId, NodeName};
use novacron_protocol::migration::{MigrationAccount, MigrationMode, MigrationPhase};
use novacron_protocol::node::NodeState;

use super::begin::to_source;
use super::{Cause, Ending, Migration, Step};
use crate::state::change::Change;
use crate::state::event::About;
use crate::state::fleet::{Applying, Fleet};
use crate::state::outbox::Order;
use crate::state::reply::{Accepted, Refusal, Reply};
use crate::state::vm::{Rest, Vm, bounded, problem};

impl Fleet {
    pub(in crate::state) fn cancel_migration(
        &mut self,
        now: &mut Applying,
        id: MigrationId,
    ) -> Reply {
        let migration = self.migrations.get(&id).ok_or(Refusal::NoSuchMigration(id))?;
        match migration.step {
            Step::Queued | Step::Preparing { .. } | Step::Sending { .. } => {
                self.give_up(now, id, "");
                self.begin_queued_migrations(now);
            }
            Step::HandedOver => {
                let text =
                    format!("too late to cancel: node `{}` has the machine", migration.target);
                return Err(Refusal::Conflict(text));
            }
            Step::Ended(_) => {
                return Err(Refusal::Conflict(format!("migration {id} has ended already")));
            }
        }
        Ok(Accepted::Migration(id))
    }

    /// Ends a migration of which the source has not heard; asks the source to end one of which it has. What cannot be
    /// undone any more goes on. Whoever calls looks at the queue afterwards.
    pub(in crate::state) fn give_up(&mut self, now: &mut Applying, id: MigrationId, reason: &str) {
        let Some(migration) = self.migrations.get(&id) else { return };
        match migration.step {
            Step::Queued | Step::Preparing { .. } => {
                self.close_at_source(now, id, Ending::Cancelled, reason.to_owned());
            }
            Step::Sending { send, cancel: None } => {
                let order = to_source(migration);
                let action = Action::CancelMigration { migration: id };
                let about = About::migration(migration.vm, id);
                let about = about.with(Change::field("is_cancelling", false, true));
                let message = format!("migration of {} is to be given up", migration.vm_name);
                let cancel = Some(self.issue(now, order, action));
                self.change_migration(now, id, |migration| {
                    migration.step = Step::Sending { send, cancel };
                });
                self.emit(now, EventKind::MigrationCancelling, about, message);
            }
            Step::Sending { cancel: Some(_), .. } | Step::HandedOver | Step::Ended(_) => {}
        }
    }

    /// The source answered the order to send. `Done` says only that it ended; how, its report says. Anything
    /// else says that it was not begun.
    pub(in crate::state) fn settle_send(
        &mut self,
        now: &mut Applying,
        id: MigrationId,
        effect: EffectId,
        outcome: &EffectOutcome,
    ) {
        let Some(migration) = self.migrations.get(&id) else { return };
        let is_current = matches!(migration.step, Step::Sending { send, .. } if send == effect);
        if let Some(reason) = problem(&migration.source, outcome)
            && is_current
        {
            self.end_at_source(now, id, Ending::Failed, reason);
        }
    }

    /// The source answered the order to give up; whether it did, its report says. It may be asked again.
    pub(in crate::state) fn settle_cancel(&mut self, id: MigrationId, effect: EffectId) {
        self.migrations.update(&id, |migration| {
            if let Step::Sending { cancel, .. } = &mut migration.step
                && *cancel == Some(effect)
            {
                *cancel = None;
            }
        });
    }

    /// The target durably has the machine. Nothing takes that back.
    pub(in crate::state) fn note_handover(
        &mut self,
        now: &mut Applying,
        node: &NodeName,
        handover: &Handover,
    ) {
        let Some(migration) = self.migrations.get(&handover.migration).cloned() else { return };
        let is_its_target = migration.target == *node
            && migration.vm == handover.vm
            && migration.target_generation == handover.generation;
        // Of a queued migration the target has never heard.
        if !is_its_target || migration.step == Step::Queued {
            return;
        }
        self.move_vm(now, &migration);
        self.find_again(now, &migration);
        if matches!(migration.step, Step::Preparing { .. } | Step::Sending { .. }) {
            self.advance_phase(now, migration.id, MigrationPhase::Verify);
            self.change_migration(now, migration.id, |migration| migration.step = Step::HandedOver);
            self.begin_queued_migrations(now);
        }
    }

    /// The source said how it ended.
    pub(in crate::state) fn note_source_end(
        &mut self,
        now: &mut Applying,
        node: &NodeName,
        id: MigrationId,
        end: &MigrationEnd,
    ) {
        let Some(migration) = self.migrations.get(&id).cloned() else { return };
        if migration.source != *node || migration.target != end.target {
            return;
        }
        match (&migration.step, &end.result) {
            (Step::Sending { .. } | Step::HandedOver, SourceResult::Completed(account)) => {
                self.move_vm(now, &migration);
                self.complete(now, &migration, Some(account.clone()), String::new());
            }
            // The source may not know that the target has it; the target does.
            (Step::HandedOver, SourceResult::Failed { reason }) => {
                let reason = format!("the source reported: {}", bounded(reason));
                self.complete(now, &migration, None, reason);
            }
            (Step::HandedOver, SourceResult::Cancelled) => {
                self.complete(now, &migration, None, String::new());
            }
            (Step::Sending { .. }, SourceResult::Failed { reason }) => {
                self.advance_phase(now, id, end.phase);
                self.end_at_source(now, id, Ending::Failed, bounded(reason));
            }
            (Step::Sending { .. }, SourceResult::Cancelled) => {
                self.advance_phase(now, id, end.phase);
                self.end_at_source(now, id, Ending::Cancelled, String::new());
            }
            (Step::Queued | Step::Preparing { .. } | Step::Ended(_), _) => {}
        }
    }

    /// The machine is at the target from now on, for the generation that was promised to it.
    fn move_vm(&mut self, now: &mut Applying, migration: &Migration) {
        let is_newer =
            |vm: &Vm| vm.generation < migration.target_generation && vm.rest != Rest::Deleted;
        let Some(vm) = self.vms.get(&migration.vm).filter(|vm| is_newer(vm)).cloned() else {
            return;
        };
        self.drop_other_task(now, &vm, migration.id);
        self.lose_snapshots(now, migration.vm, "the machine was handed over without it");
        let target = self.nodes.get(&migration.target);
        let is_out_of_sight = target.is_none_or(|node| node.state == NodeState::Down);
        self.change_vm(now, migration.vm, |vm| {
            vm.task = None;
            vm.node = Some(migration.target.clone());
            vm.generation = migration.target_generation;
            vm.is_out_of_sight = is_out_of_sight;
            vm.rest = rest_after(migration);
            vm.reason.clear();
        });
        self.note_residency(now, migration.vm);
    }

    /// The target's inventory may be from before the hand-over that its source reported: then the machine counted as
    /// lost. What happened to it since, the target reports after this.
    fn find_again(&mut self, now: &mut Applying, migration: &Migration) {
        let is_lost = |vm: &Vm| {
            vm.rest == Rest::Failed
                && vm.task.is_none()
                && vm.generation == migration.target_generation
                && vm.node.as_ref() == Some(&migration.target)
        };
        if !self.vms.get(&migration.vm).is_some_and(is_lost) {
            return;
        }
        self.change_vm(now, migration.vm, |vm| {
            vm.rest = rest_after(migration);
            vm.reason.clear();
        });
    }

    /// A machine that a migration hands over although it counted as ended may have been given something else
    /// to do where it no longer is.
    fn drop_other_task(&mut self, now: &mut Applying, vm: &Vm, handed_over: MigrationId) {
        if let Some(effect) = vm.task_effect() {
            self.take_row(effect);
        }
        if let Some(other) = vm.migration().filter(|other| *other != handed_over) {
            let reason = "the machine was handed over by an earlier migration".to_owned();
            self.close_at_source(now, other, Ending::Failed, reason);
        }
    }

    fn complete(
        &mut self,
        now: &mut Applying,
        migration: &Migration,
        account: Option<MigrationAccount>,
        reason: String,
    ) {
        self.advance_phase(now, migration.id, MigrationPhase::Cleanup);
        self.remove_rows_of(migration);
        self.post_migration(now, migration, account.as_ref());
        self.change_migration(now, migration.id, |migration| {
            migration.step = Step::Ended(Ending::Completed);
            migration.account = account;
            migration.reason.clone_from(&reason);
            migration.ended_at = Some(now.at);
        });
        self.note_end(now, migration, Ending::Completed, &reason);
        let message = format!("machine {} is at {}", migration.vm_name, migration.target);
        let about = about_end(migration, Ending::Completed);
        self.emit(now, EventKind::MigrationCompleted, about, message);
        self.begin_queued_migrations(now);
    }

    /// The migration is over and the machine at its source; others may take its slots.
    pub(super) fn end_at_source(
        &mut self,
        now: &mut Applying,
        id: MigrationId,
        ending: Ending,
        reason: String,
    ) {
        self.close_at_source(now, id, ending, reason);
        self.begin_queued_migrations(now);
    }

    /// As [`Self::end_at_source`], without looking at the queue. The target is told to forget it, durably: a late
    /// connection from the source must find a closed door.
    pub(in crate::state) fn close_at_source(
        &mut self,
        now: &mut Applying,
        id: MigrationId,
        ending: Ending,
        reason: String,
    ) {
        let Some(migration) = self.migrations.get(&id).cloned() else { return };
        self.remove_rows_of(&migration);
        if migration.step != Step::Queued {
            let order = Order {
                node: migration.target.clone(),
                generation: migration.target_generation,
                ..to_source(&migration)
            };
            self.issue(now, order, Action::AbandonMigration { migration: id });
        }
        self.change_migration(now, id, |migration| {
            migration.step = Step::Ended(ending);
            migration.reason.clone_from(&reason);
            migration.ended_at = Some(now.at);
        });
        self.change_vm(now, migration.vm, |vm| {
            if vm.migration() == Some(id) {
                vm.task = None;
            }
        });
        self.emit_end(now, &migration, ending, &reason);
        self.note_end(now, &migration, ending, &reason);
    }

    /// Tells whoever asked for it.
    fn note_end(
        &mut self,
        now: &mut Applying,
        migration: &Migration,
        ending: Ending,
        reason: &str,
    ) {
        match migration.cause {
            Cause::Client => {}
            Cause::Batch(batch) => {
                self.note_batch_item_end(now, batch, migration.id, ending, reason)
            }
            Cause::Drain => self.note_drained_machine(now, migration, ending, reason),
        }
    }

    fn emit_end(
        &mut self,
        now: &mut Applying,
        migration: &Migration,
        ending: Ending,
        reason: &str,
    ) {
        let name = &migration.vm_name;
        let (kind, message) = match ending {
            Ending::Cancelled => {
                (EventKind::MigrationCancelled, format!("migration of {name} was cancelled"))
            }
            Ending::Failed | Ending::Completed => {
                (EventKind::MigrationFailed, format!("migration of {name} failed: {reason}"))
            }
        };
        self.emit(now, kind, about_end(migration, ending), message);
    }

    /// Takes back what its agents have not answered yet, except the order to forget it.
    fn remove_rows_of(&mut self, ended: &Migration) {
        let is_of = |action: &Action| match action {
            Action::ExpectMigration { migration, .. }
            | Action::SendMigration { migration, .. }
            | Action::CancelMigration { migration } => *migration == ended.id,
            _ => false,
        };
        let effects = self.effects_of(&ended.source).chain(self.effects_of(&ended.target));
        let rows: Vec<EffectId> =
            effects.filter(|effect| is_of(&effect.action)).map(|effect| effect.id).collect();
        for effect in rows {
            self.take_row(effect);
        }
    }
}

/// `before` is the migration as it was when it had not ended.
fn about_end(before: &Migration, ending: Ending) -> About {
    let after = Step::Ended(ending).status();
    let change = Change::field("status", before.status(), after);
    About::migration(before.vm, before.id).with(change)
}

/// How a machine stands that was handed over.
fn rest_after(migration: &Migration) -> Rest {
    if migration.mode == MigrationMode::Cold { Rest::Stopped } else { Rest::Running }
}
