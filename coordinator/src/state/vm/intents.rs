//! What clients and the planner ask: create, place, start, stop, destroy.

use novacron_protocol::api::EventKind;
use novacron_protocol::effect::Action;
use novacron_protocol::ids::{EffectId, Generation, NetworkName, NodeName, RequestId, VmId};
use novacron_protocol::vm::VmState;

use super::{Move, Rest, Task, VMS_MAX, Vm, bounded};
use crate::state::change::Change;
use crate::state::command::{CreateVm, Placement};
use crate::state::event::About;
use crate::state::fleet::{Applying, Fleet};
use crate::state::placement::Wanted;
use crate::state::reply::{Accepted, Refusal, Reply};

impl Fleet {
    pub(in crate::state) fn create_vm(
        &mut self,
        now: &mut Applying,
        request: RequestId,
        create: &CreateVm,
        network: Option<&NetworkName>,
    ) -> Reply {
        self.check_new_vm(create)?;
        self.check_plan(now.at, &create.spec.project)?;
        let placement = self.confirm_placement(create, network)?;
        let vm = new_vm(now, request, create);
        self.index.add_vm(&vm);
        self.vms.insert(vm.id, vm);
        network.into_iter().for_each(|network| self.attach(create.vm, network));
        let place = network.map(|name| format!(" in network {name}")).unwrap_or_default();
        let message = format!("machine {} accepted{place}", create.spec.name);
        let change = Change::made("name", &create.spec.name);
        self.emit(now, EventKind::VmCreated, About::vm(create.vm, None).with(change), message);
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
            let is_own = self.project_of_vm(*holder) == Some(&create.spec.project);
            return Err(Refusal::NameTaken { name, holder: is_own.then_some(*holder) });
        }
        if self.vms.get(&create.vm).is_some() {
            return Err(Refusal::Conflict(format!("machine {} exists already", create.vm)));
        }
        if self.vms.len() - self.index.deleted.len() >= VMS_MAX {
            return Err(Refusal::Full(format!("{VMS_MAX} machines")));
        }
        self.check_outbox_room()?;
        create.spec.check().map_err(|invalid| Refusal::Invalid {
            field: invalid.field,
            problem: invalid.problem,
        })?;
        self.check_machine_quota(&create.spec)
    }

    /// The planner's choice, if it still holds. A node that was asked for and does not fit is a refusal; one
    /// that the planner chose and that was taken in the meantime leaves the machine pending.
    fn confirm_placement(
        &self,
        create: &CreateVm,
        network: Option<&NetworkName>,
    ) -> Result<Placement, Refusal> {
        let machine = Wanted { spec: &create.spec, network };
        if let Some(node) = &create.requested_node {
            self.check_fit(node, machine)?;
            return Ok(Placement::Node(node.clone()));
        }
        let Placement::Node(node) = &create.placement else { return Ok(create.placement.clone()) };
        match self.check_fit(node, machine) {
            Ok(()) => Ok(Placement::Node(node.clone())),
            Err(refusal) => Ok(Placement::Nowhere { reason: refusal.to_string() }),
        }
    }

    pub(in crate::state) fn check_fit(
        &self,
        name: &NodeName,
        machine: Wanted<'_>,
    ) -> Result<(), Refusal> {
        let node = self.nodes.get(name).ok_or_else(|| Refusal::NoSuchNode(name.clone()))?;
        let misfit = |misfit| Refusal::NoRoom { node: name.clone(), misfit };
        self.fit(node, machine).map_err(misfit)
    }

    pub(in crate::state) fn place_vm(
        &mut self,
        now: &mut Applying,
        vm: VmId,
        node: &NodeName,
    ) -> Reply {
        let machine = self.vms.get(&vm).ok_or(Refusal::NoSuchVm(vm))?;
        if machine.state() != VmState::Pending {
            return Err(Refusal::Conflict(format!("machine {vm} is not pending")));
        }
        self.check_fit(node, self.wanted(machine))?;
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

    pub(in crate::state) fn start_vm(
        &mut self,
        now: &mut Applying,
        request: RequestId,
        vm: VmId,
    ) -> Reply {
        let machine = self.movable(vm, Move::Start)?;
        self.check_active(&machine.spec.project)?;
        self.give_task(now, Some(request), vm, Action::Start, Task::Start);
        Ok(Accepted::Vm(vm))
    }

    pub(in crate::state) fn stop_vm(
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

    pub(in crate::state) fn destroy_vm(
        &mut self,
        now: &mut Applying,
        request: RequestId,
        vm: VmId,
    ) -> Reply {
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
    pub(super) fn give_task(
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
