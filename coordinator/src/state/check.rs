//! What is always true of a fleet. Tests ask after every command; `apply` itself never asserts.

use std::collections::BTreeSet;

use novacron_protocol::access::Scope;
use novacron_protocol::ids::ProjectName;
use novacron_protocol::limits::{MIGRATIONS_PER_NODE_RANGE, NETWORKS_MAX, REGIONS_MAX};
use novacron_protocol::project::ProjectUsage;
use novacron_protocol::vm::VmState;

use super::api_key::API_KEYS_MAX;
use super::batch::{BATCHES_MAX, Batch};
use super::binding::BINDINGS_MAX;
use super::drain::Drain;
use super::event::EVENTS_MAX;
use super::fleet::Fleet;
use super::index::Index;
use super::migration::{Cause, Migration, Step};
use super::principal::PRINCIPALS_MAX;
use super::project::{PROJECTS_MAX, Project};
use super::request::REQUESTS_MAX;
use super::snapshot::SNAPSHOTS_MAX;
use super::vm::{Rest, Task, VMS_DELETED_MAX, Vm};

impl Fleet {
    /// Checks every invariant.
    ///
    /// # Errors
    /// The first that does not hold, for a person.
    pub fn check(&self) -> Result<(), String> {
        self.check_indexes()?;
        self.vms.values().try_for_each(|vm| self.check_vm(vm))?;
        self.migrations.values().try_for_each(|migration| self.check_migration_row(migration))?;
        self.batches.values().try_for_each(|batch| self.check_batch_row(batch))?;
        self.drains.values().try_for_each(|drain| self.check_drain_row(drain))?;
        self.check_outbox()?;
        self.check_projects()?;
        self.check_access()?;
        self.check_members()?;
        self.check_slots()?;
        self.check_ledger()?;
        self.check_audit()?;
        self.check_annotations()?;
        self.check_regions()?;
        self.check_latencies()?;
        self.check_networks()?;
        self.check_residency()?;
        self.check_secrets()?;
        self.check_formats()?;
        self.check_snapshots()?;
        self.check_alerts()?;
        self.check_bounds()
    }

    fn check_indexes(&self) -> Result<(), String> {
        ensure(self.index == Index::build(self), || {
            "the indexes differ from the tables".to_owned()
        })?;
        let live = || self.vms.values().filter(|vm| vm.rest != Rest::Deleted);
        let names: BTreeSet<_> = live().map(|vm| &vm.spec.name).collect();
        ensure(names.len() == live().count(), || "two machines have one name".to_owned())
    }

    fn check_vm(&self, vm: &Vm) -> Result<(), String> {
        let name = &vm.spec.name;
        ensure(vm.generation <= vm.generation_promised, || {
            format!("{name}: generation not promised")
        })?;
        ensure(
            (vm.state() == VmState::Pending) == (vm.node.is_none() && vm.rest != Rest::Deleted),
            || format!("{name}: pending exactly while on no node"),
        )?;
        ensure(vm.rest != Rest::Deleted || vm.task.is_none(), || {
            format!("{name}: deleted and busy")
        })?;
        match &vm.task {
            Some(Task::Migrate { migration, target, .. }) => {
                let row = self.migrations.get(migration);
                let agrees = row.is_some_and(|row| !row.step.is_ended() && row.target == *target);
                ensure(agrees, || format!("{name}: migrates without a migration"))
            }
            Some(
                Task::Create(effect)
                | Task::Start(effect)
                | Task::Stop(effect)
                | Task::Destroy(effect),
            ) => {
                let row = self.outbox.get(effect);
                let agrees = row.is_some_and(|row| {
                    row.effect.vm == vm.id && Some(&row.node) == vm.node.as_ref()
                });
                ensure(agrees, || format!("{name}: waits for an effect that is not in the outbox"))
            }
            None => Ok(()),
        }
    }

    fn check_migration_row(&self, migration: &Migration) -> Result<(), String> {
        let id = migration.id;
        ensure(migration.step.is_ended() == migration.ended_at.is_some(), || {
            format!("migration {id}: ended without a time, or a time without an end")
        })?;
        ensure(migration.target_generation > migration.source_generation, || {
            format!("migration {id}: generations out of order")
        })?;
        let vm = self.vms.get(&migration.vm);
        let waits = vm.is_some_and(|vm| vm.migration() == Some(id));
        match migration.step {
            Step::Queued => ensure(waits, || format!("migration {id}: its machine does not wait")),
            Step::Preparing { expect } => {
                ensure(waits && self.outbox.get(&expect).is_some(), || {
                    format!("migration {id}: nobody prepares")
                })
            }
            // The order may be answered before the end is reported.
            Step::Sending { .. } => {
                ensure(waits, || format!("migration {id}: its machine does not wait"))
            }
            Step::HandedOver | Step::Ended(_) => {
                ensure(!waits, || format!("migration {id}: its machine still waits"))
            }
        }
    }

    fn check_batch_row(&self, batch: &Batch) -> Result<(), String> {
        let id = batch.id;
        let are_open = batch.open().all(|migration| {
            let row = self.migrations.get(&migration);
            row.is_some_and(|row| !row.step.is_ended() && row.cause == Cause::Batch(id))
        });
        ensure(are_open, || format!("batch {id}: waits for a migration that is over"))?;
        let is_open = batch.open().next().is_some();
        ensure(is_open == batch.ended_at.is_none(), || format!("batch {id}: ended and open"))
    }

    fn check_drain_row(&self, drain: &Drain) -> Result<(), String> {
        let node = &drain.node;
        ensure(self.nodes.get(node).is_some(), || format!("{node}: drained and not there"))?;
        let is_drained = drain.drained_at.is_some();
        ensure(is_drained == self.is_empty_node(node), || {
            format!("{node}: drained exactly while it has nothing")
        })
    }

    fn check_outbox(&self) -> Result<(), String> {
        self.outbox.iter().try_for_each(|(id, row)| {
            ensure(row.effect.id == *id && *id <= self.meta.effect_last, || {
                format!("effect {id}: wrong id")
            })?;
            ensure(row.effect.deadline.unix_ms > 0, || format!("effect {id}: no deadline"))
        })
    }

    fn check_members(&self) -> Result<(), String> {
        let last = self.meta.member_last;
        self.members.iter().try_for_each(|(id, member)| {
            ensure(member.id == *id && *id <= last, || format!("member {id}: id not given out"))
        })?;
        let is_founded = self.meta.cluster.is_some();
        ensure(is_founded == (self.meta.incarnation.0 > 0), || {
            "a cluster without a life, or a life without a cluster".to_owned()
        })
    }

    fn check_slots(&self) -> Result<(), String> {
        self.nodes.values().try_for_each(|node| {
            let at_work = self.open_migrations().filter(|migration| {
                migration.step.is_at_work()
                    && (migration.source == node.name || migration.target == node.name)
            });
            // Those of a time with a higher limit may still be at work.
            ensure(at_work.count() <= *MIGRATIONS_PER_NODE_RANGE.end() as usize, || {
                format!("node {}: too many migrations at work", node.name)
            })
        })
    }

    /// Checks that memory is not promised twice. True as long as no agent comes back with less than it had, and
    /// no machine is handed over by a migration that its source had reported as failed.
    ///
    /// # Errors
    /// The first node of which it is not true.
    pub fn check_memory(&self) -> Result<(), String> {
        self.nodes.values().try_for_each(|node| {
            let taken = self.allocation(&node.name).memory_bytes;
            ensure(taken <= node.facts.capacity.memory_bytes, || {
                format!("node {}: memory promised twice", node.name)
            })
        })
    }

    fn check_projects(&self) -> Result<(), String> {
        let is_default = |project: &Project| project.name == ProjectName::default();
        ensure(self.projects.values().any(is_default), || "project default is gone".to_owned())?;
        let live = || self.vms.values().filter(|vm| vm.rest != Rest::Deleted);
        let stray = live().find(|vm| self.projects.get(&vm.spec.project).is_none());
        ensure(stray.is_none(), || format!("{stray:?} belongs to a project that is not there"))?;
        self.projects.values().try_for_each(|project| {
            let own = live().filter(|vm| vm.spec.project == project.name);
            let open = self.open_migrations().filter(|one| one.project == project.name);
            let machines = own.map(|vm| ProjectUsage::of_machine(&vm.spec));
            let snapshots = self.snapshots.values();
            let is_own = |vm| self.project_of_vm(vm) == Some(&project.name);
            let snapshots = snapshots.filter(|snapshot| is_own(snapshot.vm));
            let all = machines.chain(open.map(|_| ProjectUsage::of_migration()));
            let all = all.chain(snapshots.map(|_| ProjectUsage::of_snapshot()));
            let counted = all.fold(ProjectUsage::default(), |sum, one| sum.plus(&one));
            let used = self.project_usage(&project.name);
            ensure(counted == used, || {
                format!("project {}: takes {counted:?}, counted are {used:?}", project.name)
            })
        })
    }

    fn check_access(&self) -> Result<(), String> {
        self.bindings.values().try_for_each(|binding| {
            let is_there = match &binding.scope {
                Scope::Fleet => true,
                Scope::Project(project) => self.projects.get(project).is_some(),
            };
            ensure(is_there && self.principals.get(&binding.principal).is_some(), || {
                format!("binding {} is about what is not there", binding.id)
            })
        })?;
        self.api_keys.values().try_for_each(|key| {
            ensure(self.principals.get(&key.principal).is_some(), || {
                format!("API key {} speaks for nobody", key.id)
            })
        })?;
        let is_founded = self.meta.cluster.is_some();
        ensure(!is_founded || self.has_admin(|_| true, |_| true, None), || {
            "nobody may decide who may do what".to_owned()
        })
    }

    fn check_bounds(&self) -> Result<(), String> {
        let bounds = [
            (self.events.len(), EVENTS_MAX, "events"),
            (self.requests.len(), REQUESTS_MAX, "answers"),
            (self.index.deleted.len(), VMS_DELETED_MAX, "deleted machines"),
            (self.batches.len(), BATCHES_MAX, "batches"),
            (self.projects.len(), PROJECTS_MAX, "projects"),
            (self.principals.len(), PRINCIPALS_MAX, "principals"),
            (self.bindings.len(), BINDINGS_MAX, "bindings"),
            (self.api_keys.len(), API_KEYS_MAX, "API keys"),
            (self.regions.len(), REGIONS_MAX, "regions"),
            (self.snapshots.len(), SNAPSHOTS_MAX, "snapshots"),
            (self.networks.len(), NETWORKS_MAX, "networks"),
        ];
        bounds.into_iter().try_for_each(|(count, most, what)| {
            ensure(count <= most, || format!("{count} {what}, at most {most}"))
        })
    }
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}
