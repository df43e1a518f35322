//! How far the draining of a node is, as the API shows it.

use novacron_protocol::api::{DrainMachineStatus, DrainMachineView, DrainView, NodeView};

use super::resource::node_view;
use crate::planner::{Rooms, Standing};
use crate::state::Fleet;
use crate::state::binding::Reach;
use crate::state::drain::Drain;
use crate::state::node::Node;
use crate::state::vm::Vm;

/// Machines that are shown; all are counted.
const MACHINES_MAX: usize = 1_000;

/// A node with the machines that are to leave it, as far as they are seen; all are counted.
pub fn node_view_in_full(fleet: &Fleet, node: &Node, sees: &Reach) -> NodeView {
    let drain = fleet.drain(&node.name).map(|drain| drain_view(fleet, drain, sees));
    NodeView { drain, ..node_view(fleet, node) }
}

fn drain_view(fleet: &Fleet, drain: &Drain, sees: &Reach) -> DrainView {
    let mut rooms = Rooms::of(fleet);
    let standings = rooms.standings(drain, fleet.clock());
    let mut machines: Vec<_> = standings.map(|(vm, standing)| machine_view(vm, standing)).collect();
    let count = |status| {
        let those = machines.iter().filter(|machine| machine.status == status).count();
        u32::try_from(those).unwrap_or(u32::MAX)
    };
    let moving = count(DrainMachineStatus::Moving);
    let waiting = count(DrainMachineStatus::Waiting);
    let blocked = count(DrainMachineStatus::Blocked);
    machines.retain(|machine| is_seen(fleet, sees, machine));
    machines.truncate(MACHINES_MAX);
    DrainView {
        since: drain.since,
        drained_at: drain.drained_at,
        options: drain.options,
        moving,
        waiting,
        blocked,
        machines,
    }
}

fn is_seen(fleet: &Fleet, sees: &Reach, machine: &DrainMachineView) -> bool {
    fleet.project_of_vm(machine.vm).is_some_and(|project| sees.covers_project(project))
}

fn machine_view(vm: &Vm, standing: Standing) -> DrainMachineView {
    let (status, reason, migration_id, retry_at) = match standing {
        Standing::Moving(id) => (DrainMachineStatus::Moving, String::new(), Some(id), None),
        Standing::Ready(_) => (DrainMachineStatus::Waiting, String::new(), None, None),
        Standing::Waiting { reason, retry_at } => {
            (DrainMachineStatus::Waiting, reason, None, retry_at)
        }
        Standing::Blocked { reason } => (DrainMachineStatus::Blocked, reason, None, None),
    };
    DrainMachineView {
        vm: vm.id,
        vm_name: vm.spec.name.clone(),
        status,
        migration_id,
        reason,
        retry_at,
    }
}
