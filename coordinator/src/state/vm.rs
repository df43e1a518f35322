//! Machines.
//!
//! A machine's state is what its agent last saw of it (`rest`), covered by what the fleet waits for (`task`):
//!
//! ```text
//!                    place                Create done            Start done
//!   (create) ─► pending ─► creating ─────────────► stopped ─► starting ─────────► running ◄─► paused
//!                    │         │ failed               ▲  ▲        │ failed          │  │
//!                    │         ▼                      │  └──────┐ ▼                 │  └─► migrating ─► running
//!                    │       failed ◄─────────────────┼───── failed ◄───(process    │
//!                    │         │                      └── stopping ◄── gone) ───────┘
//!                    ▼         ▼ Destroy done
//!                   deleted ◄──┘        unknown covers all of them while the node is down
//! ```

use novacron_protocol::api::EventKind;
use novacron_protocol::effect::{Action, EffectOutcome, MachineReport, ObservedState};
use novacron_protocol::ids::{
    EffectId, Generation, MigrationId, NodeName, RequestId, Revision, VmId,
};
use novacron_protocol::limits::REASON_BYTES_MAX;
use novacron_protocol::time::Timestamp;
use novacron_protocol::vm::{VmSpec, VmState};
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};

use super::command::{CreateVm, Placement};
use super::event::About;
use super::fleet::{Applying, Fleet};
use super::outbox::{Order, OutboxRow};
use super::reply::{Accepted, Refusal, Reply};
use super::table::ROW_BYTES_MAX;

/// Machines of one fleet, deleted ones apart.
pub const VMS_MAX: usize = 100_000;

/// Deleted machines that are kept for the record.
pub const VMS_DELETED_MAX: usize = 1_000;

/// A machine as the fleet keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vm {
    /// Identity.
    pub id: VmId,
    /// What it is made of.
    pub spec: VmSpec,
    /// The node that holds it; none while it is pending.
    pub node: Option<NodeName>,
    /// The generation of the right to run it.
    pub generation: Generation,
    /// The highest generation that was ever promised to a node. A migration gets a higher one, also after
    /// one that failed, so that no two nodes are ever given the same.
    pub generation_promised: Generation,
    /// How its agent last saw it.
    pub rest: Rest,
    /// What the fleet waits for.
    pub task: Option<Task>,
    /// Whether its node is down.
    pub is_out_of_sight: bool,
    /// Whether to start it once it is made.
    pub starts_when_made: bool,
    /// Why it is in its state, where that is not obvious.
    pub reason: String,
    /// The last client request about it.
    pub request: RequestId,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When anything of it changed last.
    pub updated_at: Timestamp,
    /// The revision of that change.
    pub revision: Revision,
}

/// How a machine stands when nobody does anything with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rest {
    /// There are no disks, or not all of them.
    NotMade,
    /// There is no process.
    Stopped,
    /// The guest runs.
    Running,
    /// The guest's processors stand still.
    Paused,
    /// The process ended without being asked, could not be started, or the machine is lost.
    Failed,
    /// It is gone.
    Deleted,
}

/// What the fleet waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// Its node makes it.
    Create(EffectId),
    /// Its node starts it.
    Start(EffectId),
    /// Its node stops it.
    Stop(EffectId),
    /// Its node removes it.
    Destroy(EffectId),
    /// It is to move, or moves.
    Migrate {
        /// The migration.
        migration: MigrationId,
        /// Where it goes; what it takes is taken there, too.
        target: NodeName,
        /// Whether a live migration has begun.
        is_moving: bool,
    },
}

impl Message for Vm {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "machine row";
}

impl Vm {
    /// The state as the world sees it.
    pub fn state(&self) -> VmState {
        if self.rest == Rest::Deleted {
            return VmState::Deleted;
        }
        if self.node.is_none() {
            return VmState::Pending;
        }
        if self.is_out_of_sight {
            return VmState::Unknown;
        }
        match &self.task {
            Some(Task::Create(_)) => VmState::Creating,
            Some(Task::Start(_)) => VmState::Starting,
            Some(Task::Stop(_) | Task::Destroy(_)) => VmState::Stopping,
            Some(Task::Migrate { is_moving: true, .. }) => VmState::Migrating,
            Some(Task::Migrate { is_moving: false, .. }) | None => self.rest.state(),
        }
    }

    /// The migration under way.
    pub fn migration(&self) -> Option<MigrationId> {
        match &self.task {
            Some(Task::Migrate { migration, .. }) => Some(*migration),
            _ => None,
        }
    }

    /// Where the migration under way goes.
    pub fn migration_target(&self) -> Option<&NodeName> {
        match &self.task {
            Some(Task::Migrate { target, .. }) => Some(target),
            _ => None,
        }
    }

    pub(super) fn task_effect(&self) -> Option<EffectId> {
        match self.task {
            Some(
                Task::Create(effect)
                | Task::Start(effect)
                | Task::Stop(effect)
                | Task::Destroy(effect),
            ) => Some(effect),
            _ => None,
        }
    }

    fn order(&self, node: NodeName) -> Order {
        Order { node, vm: self.id, generation: self.generation, request: self.request }
    }
}

impl Rest {
    fn state(self) -> VmState {
        match self {
            Self::NotMade | Self::Failed => VmState::Failed,
            Self::Stopped => VmState::Stopped,
            Self::Running => VmState::Running,
            Self::Paused => VmState::Paused,
            Self::Deleted => VmState::Deleted,
        }
    }
}

/// What a client can ask of a machine that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// Start it.
    Start,
    /// Ask the guest to stop.
    Stop,
    /// Stop it at once.
    ForceStop,
    /// Remove it.
    Destroy,
    /// Move it while it runs.
    MigrateLive,
    /// Move it while it is stopped.
    MigrateCold,
}

impl Move {
    /// The table of legal moves.
    pub fn is_legal_in(self, state: VmState) -> bool {
        use VmState as S;
        match self {
            Self::Start => matches!(state, S::Stopped | S::Failed),
            Self::Stop => matches!(state, S::Running | S::Paused | S::Starting),
            Self::ForceStop => matches!(state, S::Running | S::Paused | S::Starting | S::Stopping),
            Self::Destroy => !matches!(state, S::Migrating | S::Deleted),
            Self::MigrateLive => state == S::Running,
            Self::MigrateCold => state == S::Stopped,
        }
    }

    fn verb(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop | Self::ForceStop => "stop",
            Self::Destroy => "destroy",
            Self::MigrateLive => "live-migrate",
            Self::MigrateCold => "cold-migrate",
        }
    }

    fn hint(self, state: VmState) -> &'static str {
        match (self, state) {
            (Self::MigrateLive, VmState::Stopped) => {
                "; start it first, or migrate it without `live`"
            }
            (Self::MigrateCold, VmState::Running) => "; stop it first, or migrate it with `live`",
            (Self::Stop, VmState::Stopping) => "; it can be stopped at once with `force`",
            (_, VmState::Migrating) => "; wait for the migration or cancel it",
            (_, VmState::Unknown) => "; wait until its node is back",
            _ => "",
        }
    }
}

impl Fleet {
    /// The machine, if the move is legal for it now.
    pub(super) fn movable(&self, vm: VmId, asked: Move) -> Result<Vm, Refusal> {
        let machine = self.vms.get(&vm).ok_or(Refusal::NoSuchVm(vm))?;
        let state = machine.state();
        let refuse = |hint: &str| Refusal::IllegalMove {
            name: machine.spec.name.to_string(),
            state,
            action: asked.verb().to_owned(),
            hint: hint.to_owned(),
        };
        if !asked.is_legal_in(state) {
            return Err(refuse(asked.hint(state)));
        }
        if machine.migration().is_some() {
            return Err(refuse("; it is about to migrate: cancel the migration first"));
        }
        if asked == Move::Start && machine.rest == Rest::NotMade {
            return Err(refuse("; it was never made: destroy it and create it again"));
        }
        self.check_outbox_room()?;
        Ok(machine.clone())
    }

    pub(super) fn create_vm(
        &mut self,
        now: &mut Applying,
        request: RequestId,
        create: &CreateVm,
    ) -> Reply {
        self.check_new_vm(create)?;
        let placement = self.confirm_placement(create)?;
        let vm = new_vm(now, request, create);
        self.index.add_vm(&vm);
        self.vms.insert(vm.id, vm);
        let message = format!("machine {} accepted", create.spec.name);
        self.emit(now, EventKind::VmCreated, About::vm(create.vm, None), message);
        match placement {
            Placement::Node(node) => self.make_vm(now, create.vm, node),
            Placement::Nowhere { reason } => {
                self.change_vm(now, create.vm, |vm| vm.reason = bounded(&reason));
            }
        }
        Ok(Accepted::Vm(create.vm))
    }

    fn check_new_vm(&self, create: &CreateVm) -> Result<(), Refusal> {
        if let Some(holder) = self.index.names.get(&create.spec.name) {
            let name = create.spec.name.to_string();
            return Err(Refusal::NameTaken { name, holder: *holder });
        }
        if self.vms.get(&create.vm).is_some() {
            return Err(Refusal::Conflict(format!("machine {} exists already", create.vm)));
        }
        if self.vms.len() - self.index.deleted.len() >= VMS_MAX {
            return Err(Refusal::Full(format!("{VMS_MAX} machines")));
        }
        self.check_outbox_room()?;
        create
            .spec
            .check()
            .map_err(|invalid| Refusal::Invalid { field: invalid.field, problem: invalid.problem })
    }

    /// The planner's choice, if it still holds. A node that was asked for and does not fit is a refusal; one
    /// that the planner chose and that was taken in the meantime leaves the machine pending.
    fn confirm_placement(&self, create: &CreateVm) -> Result<Placement, Refusal> {
        if let Some(node) = &create.requested_node {
            self.check_fit(node, &create.spec)?;
            return Ok(Placement::Node(node.clone()));
        }
        let Placement::Node(node) = &create.placement else { return Ok(create.placement.clone()) };
        match self.check_fit(node, &create.spec) {
            Ok(()) => Ok(Placement::Node(node.clone())),
            Err(refusal) => Ok(Placement::Nowhere { reason: refusal.to_string() }),
        }
    }

    pub(super) fn check_fit(&self, name: &NodeName, spec: &VmSpec) -> Result<(), Refusal> {
        let node = self.nodes.get(name).ok_or_else(|| Refusal::NoSuchNode(name.clone()))?;
        let misfit = |misfit| Refusal::NoRoom { node: name.clone(), misfit };
        self.fit(node, spec).map_err(misfit)
    }

    pub(super) fn place_vm(&mut self, now: &mut Applying, vm: VmId, node: &NodeName) -> Reply {
        let machine = self.vms.get(&vm).ok_or(Refusal::NoSuchVm(vm))?;
        if machine.state() != VmState::Pending {
            return Err(Refusal::Conflict(format!("machine {vm} is not pending")));
        }
        self.check_fit(node, &machine.spec)?;
        self.make_vm(now, vm, node.clone());
        Ok(Accepted::Vm(vm))
    }

    fn make_vm(&mut self, now: &mut Applying, vm: VmId, node: NodeName) {
        let Some(machine) = self.vms.get(&vm) else { return };
        let spec = machine.spec.clone();
        let order = machine.order(node.clone());
        let effect = self.issue(now, order, Action::Create { spec });
        self.change_vm(now, vm, |vm| {
            vm.node = Some(node);
            vm.task = Some(Task::Create(effect));
            vm.reason.clear();
        });
    }

    pub(super) fn start_vm(&mut self, now: &mut Applying, request: RequestId, vm: VmId) -> Reply {
        self.movable(vm, Move::Start)?;
        self.give_task(now, Some(request), vm, Action::Start, Task::Start);
        Ok(Accepted::Vm(vm))
    }

    pub(super) fn stop_vm(
        &mut self,
        now: &mut Applying,
        request: RequestId,
        vm: VmId,
        force: bool,
    ) -> Reply {
        let machine = self.movable(vm, if force { Move::ForceStop } else { Move::Stop })?;
        if matches!(machine.task, Some(Task::Destroy(_))) {
            return Err(Refusal::Conflict(format!(
                "machine `{}` is being destroyed",
                machine.spec.name
            )));
        }
        self.give_task(now, Some(request), vm, Action::Stop { force }, Task::Stop);
        Ok(Accepted::Vm(vm))
    }

    pub(super) fn destroy_vm(&mut self, now: &mut Applying, request: RequestId, vm: VmId) -> Reply {
        let machine = self.movable(vm, Move::Destroy)?;
        if machine.node.is_none() {
            self.delete_vm(now, vm);
        } else if !matches!(machine.task, Some(Task::Destroy(_))) {
            self.give_task(now, Some(request), vm, Action::Destroy, Task::Destroy);
        }
        Ok(Accepted::Vm(vm))
    }

    /// Gives the machine's node something to do, instead of what it may still have to do: a start that was
    /// not sent must not follow a stop.
    fn give_task(
        &mut self,
        now: &mut Applying,
        request: Option<RequestId>,
        vm: VmId,
        action: Action,
        task: impl FnOnce(EffectId) -> Task,
    ) {
        let Some(machine) = self.vms.get(&vm) else { return };
        let Some(node) = machine.node.clone() else { return };
        let mut order = machine.order(node);
        let replaced = machine.task_effect();
        order.request = request.unwrap_or(order.request);
        let cause = order.request;
        if let Some(effect) = replaced {
            self.take_row(effect);
        }
        let effect = self.issue(now, order, action);
        self.change_vm(now, vm, |vm| {
            vm.task = Some(task(effect));
            vm.request = cause;
            vm.reason.clear();
        });
    }

    pub(super) fn settle_vm_effect(
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
    fn rest_vm(&mut self, now: &mut Applying, vm: VmId, rest: Option<Rest>, reason: String) {
        self.change_vm(now, vm, |vm| {
            vm.task = None;
            vm.rest = rest.unwrap_or(vm.rest);
            vm.reason = reason;
        });
    }

    fn delete_vm(&mut self, now: &mut Applying, vm: VmId) {
        self.change_vm(now, vm, |vm| {
            vm.task = None;
            vm.rest = Rest::Deleted;
            vm.reason.clear();
        });
        while self.index.deleted.len() > VMS_DELETED_MAX
            && let Some((_, oldest)) = self.index.deleted.pop_first()
        {
            self.vms.remove(&oldest);
        }
    }

    /// How an agent sees a machine. Counts only from the node that holds it, for the generation it holds.
    pub(super) fn observe(&mut self, now: &mut Applying, node: &NodeName, report: &MachineReport) {
        let holds = |vm: &Vm| vm.node.as_ref() == Some(node) && vm.generation == report.generation;
        if !self.vms.get(&report.vm).is_some_and(holds) {
            return;
        }
        self.change_vm(now, report.vm, |vm| {
            if vm.rest == Rest::Deleted {
                return;
            }
            let rest = observed_rest(report.state);
            if vm.task.is_none() && (vm.rest != rest || !report.reason.is_empty()) {
                vm.reason = bounded(&report.reason);
            }
            vm.rest = rest;
        });
    }

    /// An agent that came back does not have the machine that it should have.
    pub(super) fn note_missing(&mut self, now: &mut Applying, vm: VmId) {
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
        self.rest_vm(now, vm, Some(Rest::Failed), reason);
    }

    /// Orders a copy away that a node still has although the fleet knows that a newer generation was accepted
    /// elsewhere, or that the machine is deleted. In any doubt the copy stays: it may be the only one.
    pub(super) fn destroy_if_superseded(
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

    /// Changes a machine, keeps the indexes, and tells the world if its state changed.
    pub(super) fn change_vm(&mut self, now: &mut Applying, vm: VmId, change: impl FnOnce(&mut Vm)) {
        let Some(before) = self.vms.get(&vm) else { return };
        let mut after = before.clone();
        change(&mut after);
        if after == *before {
            return;
        }
        after.updated_at = now.at;
        after.revision = now.revision;
        self.index.remove_vm(before);
        self.index.add_vm(&after);
        let has_moved = before.state() != after.state() || before.node != after.node;
        let news = has_moved.then(|| (vm_event(&after), after.node.clone(), vm_message(&after)));
        self.vms.insert(vm, after);
        if let Some((kind, node, message)) = news {
            self.emit(now, kind, About::vm(vm, node.as_ref()), message);
        }
    }
}

fn new_vm(now: &Applying, request: RequestId, create: &CreateVm) -> Vm {
    Vm {
        id: create.vm,
        spec: create.spec.clone(),
        node: None,
        generation: Generation(1),
        generation_promised: Generation(1),
        rest: Rest::NotMade,
        task: None,
        is_out_of_sight: false,
        starts_when_made: create.start,
        reason: String::new(),
        request,
        created_at: now.at,
        updated_at: now.at,
        revision: now.revision,
    }
}

fn observed_rest(state: ObservedState) -> Rest {
    match state {
        ObservedState::Stopped => Rest::Stopped,
        ObservedState::Running => Rest::Running,
        ObservedState::Paused => Rest::Paused,
        ObservedState::Failed => Rest::Failed,
    }
}

/// What a person should know of an outcome that is not `Done`.
pub(super) fn problem(node: &NodeName, outcome: &EffectOutcome) -> Option<String> {
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

/// A reason, cut to what a row may hold.
pub(super) fn bounded(reason: &str) -> String {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason[..end].to_owned()
}

fn vm_event(vm: &Vm) -> EventKind {
    if vm.rest == Rest::Deleted { EventKind::VmDeleted } else { EventKind::VmState }
}

fn vm_message(vm: &Vm) -> String {
    let place = vm.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
    let reason = if vm.reason.is_empty() { String::new() } else { format!(": {}", vm.reason) };
    format!("machine {} {}{place}{reason}", vm.spec.name, in_words(vm.state()))
}

fn in_words(state: VmState) -> &'static str {
    match state {
        VmState::Pending => "waits for a node",
        VmState::Creating => "is being created",
        VmState::Stopped => "is stopped",
        VmState::Starting => "is starting",
        VmState::Running => "runs",
        VmState::Paused => "is paused",
        VmState::Migrating => "begins to move, still",
        VmState::Stopping => "is stopping",
        VmState::Failed => "has failed",
        VmState::Unknown => "is out of sight",
        VmState::Deleted => "is deleted, it was",
    }
}
