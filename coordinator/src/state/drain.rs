//! Nodes that are to be drained: they take no machines, and those that they have move away, one after the other.
//!
//! ```text
//!   active ──drain──► draining ◄──a machine is left──► drained         undrain leads back from both
//! ```
//!
//! Where each machine goes is the planner's choice, made by the leader when a slot is free and never before: whether a
//! machine can move, and if not, why, is a function of the fleet as it is. So only what cannot be seen there is kept:
//! migrations that did not end well, which are tried again after a while.

use std::collections::BTreeMap;

use novacron_protocol::api::EventKind;
use novacron_protocol::ids::{MigrationId, NodeName, RequestId, Revision, VmId};
use novacron_protocol::limits::cut;
use novacron_protocol::migration::MigrationOptions;
use novacron_protocol::node::{NodeState, Scheduling};
use novacron_protocol::time::Timestamp;
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};

use super::audit::Subject;
use super::change::Change;
use super::event::About;
use super::fleet::{Applying, Fleet};
use super::migration::{Asked, Cause, Ending, Migration, Step, natural_mode};
use super::reply::{Accepted, Refusal, Reply};
use super::table::ROW_BYTES_MAX;

/// Migrations of one machine that may end badly before it is left alone until somebody asks again. With the pauses
/// below that takes about twenty minutes.
pub const FAILURES_MAX: u32 = 8;

/// Milliseconds after the first failure; twice as long after each further one.
const PAUSE_MS_FIRST: u64 = 5_000;

/// Milliseconds at most: ten minutes.
const PAUSE_MS_MAX: u64 = 600_000;

/// Machines whose failures are remembered, as many as a node may have; with 300 bytes each, 1.2 MiB of a row.
const SETBACKS_MAX: usize = novacron_protocol::limits::MACHINES_PER_NODE_MAX;

/// Bytes of a reason here; the migration's own row has the whole.
const REASON_BYTES_MAX: usize = 256;

/// The draining of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// The node.
    pub node: NodeName,
    /// What the client asked for of each migration.
    pub options: MigrationOptions,
    /// Migrations that did not end well, by machine.
    pub setbacks: BTreeMap<VmId, Setback>,
    /// The client request that caused it.
    pub request: RequestId,
    /// When it was asked for.
    pub since: Timestamp,
    /// When nothing was left.
    pub drained_at: Option<Timestamp>,
    /// The revision of its last change.
    pub revision: Revision,
}

/// What happened to a machine that should have moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setback {
    /// Migrations that did not end well.
    pub failures: u32,
    /// Where the last one went.
    pub target: NodeName,
    /// Why it ended.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

impl Message for Drain {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "drain row";
}

impl Setback {
    /// When the machine is tried again; never, if it has failed too often.
    pub fn retry_at(&self) -> Option<Timestamp> {
        let doublings = self.failures.saturating_sub(1);
        let pause_ms = PAUSE_MS_FIRST.checked_shl(doublings).unwrap_or(PAUSE_MS_MAX);
        let may_retry = self.failures < FAILURES_MAX;
        may_retry.then(|| self.at.plus_ms(pause_ms.min(PAUSE_MS_MAX)))
    }
}

impl Fleet {
    /// The draining of a node, while it is to be drained.
    pub fn drain(&self, node: &NodeName) -> Option<&Drain> {
        self.drains.get(node)
    }

    /// Nodes that are to be drained, in the order of their names.
    pub fn drains(&self) -> impl Iterator<Item = &Drain> {
        self.drains.values()
    }

    /// What an operator wants of a node, and whether it is so.
    pub fn scheduling(&self, node: &NodeName) -> Scheduling {
        match self.drains.get(node) {
            None => Scheduling::Active,
            Some(Drain { drained_at: None, .. }) => Scheduling::Draining,
            Some(Drain { drained_at: Some(_), .. }) => Scheduling::Drained,
        }
    }

    /// Migrations of a draining that take, or wait for, a slot of the node.
    pub fn open_drain_migrations(&self, node: &NodeName) -> usize {
        let is_its = |row: &&Migration| row.cause == Cause::Drain && row.source == *node;
        self.open_migrations().filter(is_its).filter(|row| row.step != Step::HandedOver).count()
    }

    /// Asked again, it forgets what failed, and everything is tried anew.
    pub(super) fn drain_node(
        &mut self,
        now: &mut Applying,
        request: RequestId,
        node: &NodeName,
        options: MigrationOptions,
    ) -> Reply {
        self.nodes.get(node).ok_or_else(|| Refusal::NoSuchNode(node.clone()))?;
        let before = self.drains.get(node);
        let (is_new, since) = (before.is_none(), before.map_or(now.at, |drain| drain.since));
        let scheduling = self.scheduling(node);
        if is_new {
            self.check_refuge(node)?;
        }
        let drain = Drain {
            node: node.clone(),
            options,
            setbacks: BTreeMap::new(),
            request,
            since,
            drained_at: None,
            revision: now.revision,
        };
        self.drains.insert(node.clone(), drain);
        let message = match is_new {
            true => format!("node {node} is to be drained"),
            false => format!("node {node} is to be drained: what failed is tried anew"),
        };
        self.emit_scheduling(now, node, scheduling, message);
        self.close_queued_to(now, node, |_| true, &format!("node `{node}` is being drained"));
        self.begin_queued_migrations(now);
        Ok(Accepted::Node(node.clone()))
    }

    /// Whether another node could take anything at all.
    fn check_refuge(&self, node: &NodeName) -> Result<(), Refusal> {
        let mut others = self.nodes.values().filter(|other| other.name != *node);
        let has_refuge = others.any(|other| {
            let can_run = other.state != NodeState::Down && !other.facts.qemu_version.is_empty();
            can_run && self.drains.get(&other.name).is_none()
        });
        let text =
            || format!("node `{node}` is the last that could run machines: none could leave it");
        if has_refuge { Ok(()) } else { Err(Refusal::Conflict(text())) }
    }

    /// Ends migrations to a node that have not begun: all of them, or those of drains.
    fn close_queued_to(
        &mut self,
        now: &mut Applying,
        node: &NodeName,
        is_meant: impl Fn(&Migration) -> bool,
        reason: &str,
    ) {
        let is_waiting = |row: &&Migration| row.step == Step::Queued && row.target == *node;
        let queued = self.open_migrations().filter(is_waiting).filter(|row| is_meant(row));
        let queued: Vec<_> = queued.map(|row| row.id).collect();
        for migration in queued {
            // One that failed may have taken the others of its batch with it.
            if self.migrations.get(&migration).is_some_and(|row| row.step == Step::Queued) {
                self.close_at_source(now, migration, Ending::Failed, reason.to_owned());
            }
        }
    }

    /// A node is down: what is to go there because another is drained goes elsewhere, unless it has begun.
    pub(super) fn replan_drains_to(&mut self, now: &mut Applying, node: &NodeName) {
        let reason = format!("node `{node}` does not answer");
        self.close_queued_to(now, node, |row| row.cause == Cause::Drain, &reason);
    }

    /// What has begun goes on unless somebody asked; what has not is not begun any more.
    pub(super) fn undrain_node(
        &mut self,
        now: &mut Applying,
        node: &NodeName,
        cancel: bool,
    ) -> Reply {
        self.nodes.get(node).ok_or_else(|| Refusal::NoSuchNode(node.clone()))?;
        let scheduling = self.scheduling(node);
        if self.drains.remove(node).is_none() {
            return Err(Refusal::Conflict(format!("node `{node}` is not being drained")));
        }
        let message = format!("node {node} takes machines again");
        self.emit_scheduling(now, node, scheduling, message);
        let ends = |row: &&Migration| {
            let is_its = row.cause == Cause::Drain && row.source == *node;
            is_its && (cancel || row.step == Step::Queued)
        };
        let given_up: Vec<_> = self.open_migrations().filter(ends).map(|row| row.id).collect();
        for migration in given_up {
            self.give_up(now, migration, "its node takes machines again");
        }
        self.begin_queued_migrations(now);
        Ok(Accepted::Node(node.clone()))
    }

    /// The leader found a place for a machine.
    pub(super) fn drain_vm(
        &mut self,
        now: &mut Applying,
        request: RequestId,
        migration: MigrationId,
        vm: VmId,
        target: &NodeName,
    ) -> Reply {
        let machine = self.vms.get(&vm).ok_or(Refusal::NoSuchVm(vm))?;
        let drain = machine.node.as_ref().and_then(|node| self.drains.get(node));
        let Some(drain) = drain else {
            return Err(Refusal::Conflict(format!("machine {vm} is on no node that is drained")));
        };
        let mode = natural_mode(machine);
        let asked = Asked { vm, target, mode, options: drain.options.suited_to(mode) };
        self.queue_migration(now, request, migration, asked, Cause::Drain)?;
        self.begin_queued_migrations(now);
        Ok(Accepted::Migration(migration))
    }

    /// A migration of a draining ended.
    pub(super) fn note_drained_machine(
        &mut self,
        now: &Applying,
        migration: &Migration,
        ending: Ending,
        reason: &str,
    ) {
        let is_left = |vm: &VmId| {
            let row = self.vms.get(vm);
            row.is_some_and(|row| row.node.as_ref() == Some(&migration.source))
        };
        self.drains.update(&migration.source, |drain| {
            drain.setbacks.retain(|vm, _| is_left(vm));
            drain.revision = now.revision;
            if ending == Ending::Completed {
                return;
            }
            let failures = drain.setbacks.get(&migration.vm).map_or(0, |setback| setback.failures);
            let setback = Setback {
                failures: failures.saturating_add(1),
                target: migration.target.clone(),
                reason: setback_reason(ending, reason),
                at: now.at,
            };
            if failures > 0 || drain.setbacks.len() < SETBACKS_MAX {
                drain.setbacks.insert(migration.vm, setback);
            }
        });
    }

    /// After each command: nodes that have become empty, or are so no more.
    pub(super) fn settle_drains(&mut self, now: &mut Applying) {
        let has_changed =
            |drain: &&Drain| self.is_empty_node(&drain.node) != drain.drained_at.is_some();
        let changed: Vec<_> =
            self.drains.values().filter(has_changed).map(|drain| drain.node.clone()).collect();
        for node in changed {
            let (scheduling, is_drained) = (self.scheduling(&node), self.is_empty_node(&node));
            self.drains.update(&node, |drain| {
                drain.drained_at = is_drained.then_some(now.at);
                drain.revision = now.revision;
            });
            let word =
                if is_drained { "is drained" } else { "has a machine again, which is to leave" };
            self.emit_scheduling(now, &node, scheduling, format!("node {node} {word}"));
        }
    }

    fn emit_scheduling(
        &mut self,
        now: &mut Applying,
        node: &NodeName,
        before: Scheduling,
        message: String,
    ) {
        let after = self.scheduling(node);
        // Asked for once more, other things than this may differ: the audit log knows.
        let change = match before == after {
            true => Change::default(),
            false => Change::field("scheduling", before, after),
        };
        let about = About::of(Subject::Drain(node.clone())).with(change);
        self.emit(now, EventKind::NodeScheduling, about, message);
    }

    /// Whether no machine is on a node, on its way to it, or being cleared up there.
    pub(super) fn is_empty_node(&self, node: &NodeName) -> bool {
        self.index.vms_charged_to(node).next().is_none() && !self.index.is_anything_leaving(node)
    }
}

fn setback_reason(ending: Ending, reason: &str) -> String {
    match (ending, reason) {
        (Ending::Cancelled, "") => "its migration was cancelled".to_owned(),
        _ => cut(reason, REASON_BYTES_MAX).to_owned(),
    }
}
