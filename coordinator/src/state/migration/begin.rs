//! A migration is asked for, queued, and begun when both nodes have a free slot.

use novacron_protocol::api::EventKind;
use novacron_protocol::effect::{Action, EffectOutcome};
use novacron_protocol::ids::{EffectId, MigrationId, NodeName, RequestId, VmId};
use novacron_protocol::migration::{MigrationMode, MigrationOptions, MigrationPhase};
use novacron_protocol::project::ProjectUsage;
use novacron_protocol::vm::VmState;
use serde_json::json;

use super::slots::Slots;
use super::{Cause, Ending, MIGRATIONS_OPEN_MAX, Migration, Step};
use crate::state::change::{Change, NOTHING};
use crate::state::event::About;
use crate::state::fleet::{Applying, Fleet};
use crate::state::outbox::Order;
use crate::state::placement::Allocation;
use crate::state::reply::{Accepted, Refusal, Reply};
use crate::state::vm::{Move, Rest, Task, Vm, problem};

/// A migration that a client asks for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The machine.
    pub vm: VmId,
    /// Where to.
    pub target: &'a NodeName,
    /// How.
    pub mode: MigrationMode,
    /// What the client asks for beyond that.
    pub options: MigrationOptions,
}

impl Fleet {
    /// Whether a machine may migrate like this now. The planner asks before a proposal, `apply` asks again.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn check_migration(&self, asked: Asked<'_>) -> Result<(), Refusal> {
        self.migratable(asked).map(drop)
    }

    fn migratable(&self, asked: Asked<'_>) -> Result<(Vm, NodeName), Refusal> {
        let (vm, source) = self.check_leaver(asked.vm, asked.mode)?;
        let taken = self.allocation(asked.target);
        self.check_target(&vm, &source, asked.mode, asked.target, taken)?;
        if self.index.migrations_open.len() >= MIGRATIONS_OPEN_MAX {
            return Err(Refusal::Full(format!(
                "{MIGRATIONS_OPEN_MAX} migrations wait or are at work"
            )));
        }
        Ok((vm, source))
    }

    /// Whether a machine may leave its node like this now, wherever to; the machine and its node.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn check_leaver(&self, vm: VmId, mode: MigrationMode) -> Result<(Vm, NodeName), Refusal> {
        let how = match mode {
            MigrationMode::Live => Move::MigrateLive,
            MigrationMode::Warm => Move::MigrateWarm,
            MigrationMode::Cold => Move::MigrateCold,
        };
        let vm = self.movable(vm, how)?;
        let conflict = |text: String| Err(Refusal::Conflict(text));
        if vm.task.is_some() {
            return conflict(format!("machine `{}` is busy; try again later", vm.spec.name));
        }
        let Some(source) = vm.node.clone() else {
            return conflict(format!("machine `{}` is on no node", vm.spec.name));
        };
        if vm.spec.enable_tpm {
            return conflict(format!(
                "machine `{}` has a TPM, whose state cannot be moved yet",
                vm.spec.name
            ));
        }
        self.check_no_snapshots(&vm)?;
        Ok((vm, source))
    }

    /// Whether a node can take a machine that leaves `source` like this, given what other machines take of the node.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn check_target(
        &self,
        vm: &Vm,
        source: &NodeName,
        mode: MigrationMode,
        target: &NodeName,
        taken: Allocation,
    ) -> Result<(), Refusal> {
        if source == target {
            return Err(Refusal::Invalid {
                field: "target".to_owned(),
                problem: format!("machine `{}` is on node `{source}` already", vm.spec.name),
            });
        }
        let node = self.nodes.get(target).ok_or_else(|| Refusal::NoSuchNode(target.clone()))?;
        let misfit = |misfit| Refusal::NoRoom { node: target.clone(), misfit };
        self.fit_beside(node, self.wanted(vm), taken, Some(source)).map_err(misfit)?;
        if mode == MigrationMode::Live {
            self.check_alike(source, target)?;
        }
        if self.is_leaving(vm.id, target) {
            let text = format!("node `{target}` still clears up after the machine left it");
            return Err(Refusal::Conflict(text));
        }
        Ok(())
    }

    /// A running guest keeps what runs its instructions: hardware and translator offer it different processors.
    fn check_alike(&self, source: &NodeName, target: &NodeName) -> Result<(), Refusal> {
        let accelerator = |name| self.nodes.get(name).map(|node| node.facts.accelerator);
        match (accelerator(source), accelerator(target)) {
            (Some(here), Some(there)) if here != there => Err(Refusal::Conflict(format!(
                "accelerator: node `{source}` runs guests under {here}, node `{target}` under {there}; a running \
                 machine cannot change that, so stop it and migrate it without --live"
            ))),
            _ => Ok(()),
        }
    }

    pub(in crate::state) fn migrate_vm(
        &mut self,
        now: &mut Applying,
        request: RequestId,
        id: MigrationId,
        asked: Asked<'_>,
    ) -> Reply {
        self.queue_migration(now, request, id, asked, Cause::Client)?;
        self.begin_queued_migrations(now);
        Ok(Accepted::Migration(id))
    }

    /// Puts a migration at the end of the queue.
    pub(in crate::state) fn queue_migration(
        &mut self,
        now: &mut Applying,
        request: RequestId,
        id: MigrationId,
        asked: Asked<'_>,
        cause: Cause,
    ) -> Result<(), Refusal> {
        let (vm, source) = self.migratable(asked)?;
        // Who empties a node empties it of everybody's machines.
        if cause != Cause::Drain {
            self.check_quota(&vm.spec.project, &ProjectUsage::of_migration())?;
        }
        if self.migrations.get(&id).is_some() {
            return Err(Refusal::Conflict(format!("migration {id} exists already")));
        }
        let mut migration = new_migration(now, request, id, &vm, source, asked);
        migration.cause = cause;
        let message = format!(
            "machine {} is to move from {} to {}",
            vm.spec.name, migration.source, migration.target
        );
        let task = Task::Migrate { migration: id, target: asked.target.clone(), is_moving: false };
        let promised = migration.target_generation;
        let (status, source) = (migration.status(), &migration.source);
        let shown = json!({ "status": status, "source": source, "target": asked.target });
        self.index.add_migration(&migration);
        self.migrations.insert(id, migration);
        self.change_vm(now, vm.id, |vm| {
            vm.task = Some(task);
            vm.generation_promised = promised;
            vm.request = request;
        });
        let about = About::migration(vm.id, id).with(Change::between(NOTHING, Some(&shown)));
        self.emit(now, EventKind::MigrationCreated, about, message);
        Ok(())
    }

    /// Begins every queued migration, in order, whose nodes both answer and have a free slot.
    pub(in crate::state) fn begin_queued_migrations(&mut self, now: &mut Applying) {
        let mut slots = Slots::of(self);
        let queued = self.open_migrations().filter(|migration| migration.step == Step::Queued);
        let ends = |migration: &Migration| {
            let Migration { id, request, source, target, .. } = migration;
            (*id, *request, source.clone(), target.clone())
        };
        let queued: Vec<_> = queued.map(ends).collect();
        for (id, request, source, target) in queued {
            let nodes = [&source, &target];
            if !slots.admit(nodes) {
                continue;
            }
            let has_begun = match now.client_request == Some(request) {
                true => self.begin_migration(now, id),
                false => now.aside(|now| self.begin_migration(now, id)),
            };
            if has_begun {
                slots.take(nodes);
            }
        }
    }

    /// Whether it was begun; otherwise it has ended, now or meanwhile.
    fn begin_migration(&mut self, now: &mut Applying, id: MigrationId) -> bool {
        let is_queued = |migration: &&Migration| migration.step == Step::Queued;
        let Some(migration) = self.migrations.get(&id).filter(is_queued).cloned() else {
            return false;
        };
        let Some(vm) = self.vms.get(&migration.vm).cloned() else { return false };
        let expected = match migration.mode {
            MigrationMode::Live | MigrationMode::Warm => Rest::Running,
            MigrationMode::Cold => Rest::Stopped,
        };
        if vm.rest != expected {
            let reason =
                "the machine is no longer in the state in which this was asked for".to_owned();
            self.close_at_source(now, id, Ending::Failed, reason);
            return false;
        }
        let order = Order {
            node: migration.target.clone(),
            vm: vm.id,
            generation: migration.target_generation,
            request: migration.request,
        };
        let action = Action::ExpectMigration {
            migration: migration.id,
            spec: vm.spec,
            source: migration.source.clone(),
            mode: migration.mode,
        };
        let expect = self.issue(now, order, action);
        let is_running = migration.mode != MigrationMode::Cold;
        self.change_vm(now, vm.id, |vm| {
            if let Some(Task::Migrate { is_moving, .. }) = &mut vm.task {
                *is_moving = is_running;
            }
        });
        self.change_migration(now, migration.id, |migration| {
            migration.step = Step::Preparing { expect };
        });
        self.advance_phase(now, migration.id, MigrationPhase::Prepare);
        true
    }

    /// The target answered: the source may send, or the migration is over before the source was told.
    pub(in crate::state) fn settle_expect(
        &mut self,
        now: &mut Applying,
        id: MigrationId,
        effect: EffectId,
        outcome: &EffectOutcome,
    ) {
        let Some(migration) = self.migrations.get(&id).cloned() else { return };
        if migration.step != (Step::Preparing { expect: effect }) {
            return;
        }
        if let Some(reason) = problem(&migration.target, outcome) {
            return self.end_at_source(now, id, Ending::Failed, reason);
        }
        let Some(target) = self.nodes.get(&migration.target) else { return };
        let action = Action::SendMigration {
            migration: id,
            target: migration.target.clone(),
            target_address: target.facts.migration_address.clone(),
            mode: migration.mode,
            target_generation: migration.target_generation,
            options: migration.options,
        };
        let send = self.issue(now, to_source(&migration), action);
        self.change_migration(now, id, |migration| {
            migration.step = Step::Sending { send, cancel: None };
        });
    }
}

/// How a machine moves where nobody says: a running one goes on running; whatever else it is, only a stopped one could
/// move.
pub fn natural_mode(vm: &Vm) -> MigrationMode {
    match vm.state() {
        VmState::Stopped => MigrationMode::Cold,
        _ => MigrationMode::Live,
    }
}

/// An effect for the source of a migration.
pub(super) fn to_source(migration: &Migration) -> Order {
    Order {
        node: migration.source.clone(),
        vm: migration.vm,
        generation: migration.source_generation,
        request: migration.request,
    }
}

fn new_migration(
    now: &Applying,
    request: RequestId,
    id: MigrationId,
    vm: &Vm,
    source: NodeName,
    asked: Asked<'_>,
) -> Migration {
    Migration {
        id,
        vm: vm.id,
        vm_name: vm.spec.name.clone(),
        project: vm.spec.project.clone(),
        mode: asked.mode,
        options: asked.options,
        source,
        target: asked.target.clone(),
        source_generation: vm.generation,
        target_generation: vm.generation_promised.next(),
        step: Step::Queued,
        phase: MigrationPhase::Validate,
        progress: None,
        percentage_reached: 0,
        account: None,
        reason: String::new(),
        cause: Cause::Client,
        request,
        accepted: now.revision,
        created_at: now.at,
        ended_at: None,
        updated_at: now.at,
        revision: now.revision,
    }
}
