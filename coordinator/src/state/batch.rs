//! Batches: migrations that were asked for together. Each machine gets a migration of its own, or a refusal in words;
//! the batch remembers which, and what became of it, also when the migration itself is forgotten.
//!
//! ```text
//!   accepted ──migration ends──► ended (completed, failed, cancelled)          a batch has ended when no machine
//!   refused                                                                    of it is merely accepted any more
//! ```

use novacron_protocol::api::EventKind;
use novacron_protocol::ids::{
    BatchId, MigrationId, NodeName, ProjectName, RequestId, Revision, VmId, VmName,
};
use novacron_protocol::limits::{BATCH_ITEMS_MAX, cut};
use novacron_protocol::time::Timestamp;
use novacron_protocol::vm::Labels;
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};

use super::audit::Subject;
use super::change::Change;
use super::command::{BatchOrder, MigrateBatch};
use super::event::About;
use super::fleet::{Applying, Fleet};
use super::migration::{Asked, Cause, Ending, natural_mode};
use super::reply::{Accepted, Refusal, Reply};
use super::table::ROW_BYTES_MAX;
use super::vm::Vm;

/// Batches that are kept, under way and ended: with 1,000 machines of at most 400 bytes each, 26 MB.
pub const BATCHES_MAX: usize = 64;

/// Bytes of a reason in a batch; the migration's own row has the whole.
const ITEM_REASON_BYTES_MAX: usize = 256;

/// A batch as the fleet keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Identity.
    pub id: BatchId,
    /// What the client asked for.
    pub order: BatchOrder,
    /// Why the rest was given up, if it was.
    pub stopped: Option<Stop>,
    /// The machines, in the order in which they move.
    pub items: Vec<BatchItem>,
    /// The client request that caused it.
    pub request: RequestId,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When its last migration ended.
    pub ended_at: Option<Timestamp>,
    /// The revision of its last change.
    pub revision: Revision,
}

/// Why the rest of a batch was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stop {
    /// One machine was refused or did not move.
    Failure,
    /// A client asked.
    Asked,
}

/// One machine of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchItem {
    /// The machine.
    pub vm: VmId,
    /// Its name.
    pub vm_name: VmName,
    /// Whose it is.
    pub project: ProjectName,
    /// Where it stands.
    pub step: ItemStep,
}

/// Where a machine of a batch stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ItemStep {
    /// It could not be accepted, and why.
    Refused(String),
    /// Its migration waits or is under way.
    Accepted(MigrationId),
    /// Its migration has ended.
    Ended {
        /// The migration.
        migration: MigrationId,
        /// How.
        ending: Ending,
        /// Why, if it did not move.
        reason: String,
    },
}

impl Message for Batch {
    const VERSION: u16 = 2;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "batch row";
}

impl Batch {
    /// Migrations that have not ended.
    pub fn open(&self) -> impl Iterator<Item = MigrationId> {
        self.items.iter().filter_map(|item| match item.step {
            ItemStep::Accepted(migration) => Some(migration),
            ItemStep::Refused(_) | ItemStep::Ended { .. } => None,
        })
    }

    fn has_refusals(&self) -> bool {
        self.items.iter().any(|item| matches!(item.step, ItemStep::Refused(_)))
    }
}

impl Fleet {
    /// A batch.
    pub fn batch(&self, batch: BatchId) -> Option<&Batch> {
        self.batches.get(&batch)
    }

    /// All batches in the order of their ids, which is that of their creation.
    pub fn batches(&self) -> impl DoubleEndedIterator<Item = &Batch> {
        self.batches.values()
    }

    /// Machines on a node that have all of the labels, in the order of their creation.
    pub fn machines_matching(&self, node: &NodeName, labels: &Labels) -> impl Iterator<Item = &Vm> {
        self.vms_on_node(node).filter(move |vm| vm.has_labels(labels))
    }

    pub(super) fn migrate_batch(
        &mut self,
        now: &mut Applying,
        request: RequestId,
        asked: &MigrateBatch,
    ) -> Reply {
        self.check_batch(asked)?;
        self.make_room_for_batch()?;
        self.batches.insert(asked.batch, new_batch(now, request, asked));
        let message = format!(
            "{} machines are to move from {} to {}",
            asked.items.len(),
            asked.order.source,
            asked.order.target
        );
        let change = Change::made("machines", asked.items.len());
        let about = about_batch(asked.batch, &asked.order).with(change);
        self.emit(now, EventKind::BatchCreated, about, message);
        for (vm, migration) in &asked.items {
            let Some(item) = self.accept_item(now, request, asked, *vm, *migration) else {
                continue;
            };
            self.batches.update(&asked.batch, |batch| batch.items.push(item));
        }
        let has_refusals = self.batches.get(&asked.batch).is_some_and(Batch::has_refusals);
        if asked.order.aborts_on_failure && has_refusals {
            self.stop_batch(now, asked.batch, Stop::Failure);
        }
        self.close_batch_if_ended(now, asked.batch);
        self.begin_queued_migrations(now);
        Ok(Accepted::Batch(asked.batch))
    }

    fn check_batch(&self, asked: &MigrateBatch) -> Result<(), Refusal> {
        let invalid = |field: &str, problem: String| {
            Err(Refusal::Invalid { field: field.to_owned(), problem })
        };
        let (source, target) = (&asked.order.source, &asked.order.target);
        for node in [source, target] {
            self.nodes.get(node).ok_or_else(|| Refusal::NoSuchNode(node.clone()))?;
        }
        if source == target {
            return invalid("to", format!("node `{source}` is where they are: name another"));
        }
        if self.batches.get(&asked.batch).is_some() {
            return Err(Refusal::Conflict(format!("batch {} exists already", asked.batch)));
        }
        match asked.items.len() {
            0 if asked.order.labels.is_empty() => {
                invalid("from", format!("node `{source}` has no machine"))
            }
            0 => invalid("labels", format!("no machine on node `{source}` has these labels")),
            count if count > BATCH_ITEMS_MAX => invalid(
                "labels",
                format!("{count} machines, at most {BATCH_ITEMS_MAX} in a batch: choose by labels"),
            ),
            _ => Ok(()),
        }
    }

    /// Forgets the oldest batch that has ended, if there are too many.
    fn make_room_for_batch(&mut self) -> Result<(), Refusal> {
        if self.batches.len() < BATCHES_MAX {
            return Ok(());
        }
        let oldest = self.batches.values().find(|batch| batch.ended_at.is_some());
        let Some(oldest) = oldest.map(|batch| batch.id) else {
            return Err(Refusal::Full(format!("{BATCHES_MAX} batches are under way")));
        };
        self.batches.remove(&oldest);
        Ok(())
    }

    /// What was chosen may have changed since: it is checked again. `None` if the machine is gone.
    fn accept_item(
        &mut self,
        now: &mut Applying,
        request: RequestId,
        asked: &MigrateBatch,
        vm: VmId,
        migration: MigrationId,
    ) -> Option<BatchItem> {
        let machine = self.vms.get(&vm)?;
        let (vm_name, project) = (machine.spec.name.clone(), machine.spec.project.clone());
        let order = &asked.order;
        let is_there = machine.node.as_ref() == Some(&order.source);
        let mode = order.mode.unwrap_or_else(|| natural_mode(machine));
        let options = order.options.suited_to(mode);
        let accepted = if is_there {
            let asked_of_it = Asked { vm, target: &order.target, mode, options };
            let cause = Cause::Batch(asked.batch);
            self.queue_migration(now, request, migration, asked_of_it, cause)
        } else {
            Err(Refusal::Conflict(format!("it is not on node `{}` any more", order.source)))
        };
        let step = match accepted {
            Ok(()) => ItemStep::Accepted(migration),
            Err(refusal) => ItemStep::Refused(item_reason(&refusal.to_string())),
        };
        Some(BatchItem { vm, vm_name, project, step })
    }

    pub(super) fn cancel_batch(&mut self, now: &mut Applying, id: BatchId) -> Reply {
        let batch = self.batches.get(&id).ok_or(Refusal::NoSuchBatch(id))?;
        if batch.ended_at.is_some() {
            return Err(Refusal::Conflict(format!("batch {id} has ended already")));
        }
        self.stop_batch(now, id, Stop::Asked);
        self.begin_queued_migrations(now);
        Ok(Accepted::Batch(id))
    }

    /// Gives up what has not moved. What is under way is asked to give up, and ends when its source has said so.
    fn stop_batch(&mut self, now: &mut Applying, id: BatchId, stop: Stop) {
        let Some(batch) = self.batches.get(&id) else { return };
        let open: Vec<MigrationId> = batch.open().collect();
        if batch.stopped.is_none() {
            let (about, message) = stopped_batch(batch, stop);
            self.change_batch(now, id, |batch| batch.stopped = Some(stop));
            self.emit(now, EventKind::BatchStopped, about, message);
        }
        let reason = match stop {
            Stop::Failure => "another machine of the batch did not move",
            Stop::Asked => "",
        };
        for migration in open {
            self.give_up(now, migration, reason);
        }
    }

    /// A migration of a batch ended.
    pub(super) fn note_batch_item_end(
        &mut self,
        now: &mut Applying,
        id: BatchId,
        migration: MigrationId,
        ending: Ending,
        reason: &str,
    ) {
        self.change_batch(now, id, |batch| {
            let is_it = |item: &&mut BatchItem| item.step == ItemStep::Accepted(migration);
            if let Some(item) = batch.items.iter_mut().find(is_it) {
                let reason = item_reason(reason);
                item.step = ItemStep::Ended { migration, ending, reason };
            }
        });
        let stops = |batch: &Batch| batch.order.aborts_on_failure && batch.stopped.is_none();
        if ending == Ending::Failed && self.batches.get(&id).is_some_and(stops) {
            now.aside(|now| self.stop_batch(now, id, Stop::Failure));
        }
        self.close_batch_if_ended(now, id);
    }

    fn close_batch_if_ended(&mut self, now: &mut Applying, id: BatchId) {
        let Some(batch) = self.batches.get(&id) else { return };
        if batch.ended_at.is_some() || batch.open().next().is_some() {
            return;
        }
        let moved = batch.items.iter().filter(|item| has_moved(item)).count();
        let message = format!(
            "{moved} of {} machines have moved from {} to {}",
            batch.items.len(),
            batch.order.source,
            batch.order.target
        );
        let about = about_batch(id, &batch.order).with(Change::field("has_ended", false, true));
        let at = now.at;
        self.change_batch(now, id, |batch| batch.ended_at = Some(at));
        self.emit(now, EventKind::BatchEnded, about, message);
    }

    fn change_batch(&mut self, now: &Applying, id: BatchId, change: impl FnOnce(&mut Batch)) {
        self.batches.update(&id, |batch| {
            change(batch);
            batch.revision = now.revision;
        });
    }
}

/// Its events are found by the node that the machines leave.
fn about_batch(id: BatchId, order: &BatchOrder) -> About {
    About { node: Some(order.source.clone()), ..About::of(Subject::Batch(id)) }
}

fn stopped_batch(batch: &Batch, stop: Stop) -> (About, String) {
    let why = match stop {
        Stop::Failure => "a machine did not move",
        Stop::Asked => "somebody asked",
    };
    let BatchOrder { source, target, .. } = &batch.order;
    let change = Change::field("stopped", Option::<Stop>::None, stop);
    let message = format!("what has not moved from {source} to {target} is given up: {why}");
    (about_batch(batch.id, &batch.order).with(change), message)
}

fn has_moved(item: &BatchItem) -> bool {
    matches!(item.step, ItemStep::Ended { ending: Ending::Completed, .. })
}

fn item_reason(reason: &str) -> String {
    cut(reason, ITEM_REASON_BYTES_MAX).to_owned()
}

fn new_batch(now: &Applying, request: RequestId, asked: &MigrateBatch) -> Batch {
    Batch {
        id: asked.batch,
        order: asked.order.clone(),
        stopped: None,
        items: Vec::with_capacity(asked.items.len()),
        request,
        created_at: now.at,
        ended_at: None,
        revision: now.revision,
    }
}
