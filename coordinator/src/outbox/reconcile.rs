//! What nobody asks for and somebody has to see to: machines that wait for a node get one when it fits, machines on a
//! node that is drained leave it, and effects that nobody will answer any more are given up. Each turn looks at the
//! fleet as it is, so whoever leads next goes on where another stopped.

use std::time::Duration;

use novacron_protocol::ids::{MigrationId, NodeName, VmId};
use novacron_protocol::time::Timestamp;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, new_request, new_uuid};
use crate::peers::desk::Desk;
use crate::planner;
use crate::state::command::Placement;
use crate::state::{Body, Command, Fleet};
use crate::view::View;

/// How often the leader looks.
const PERIOD: Duration = Duration::from_millis(500);

/// Machines that are placed in one turn, and machines that leave their node.
const PLACEMENTS_MAX: usize = 64;

/// What the fleet needs now. `new_migration` draws an id.
pub fn due(
    fleet: &Fleet,
    now: Timestamp,
    mut new_migration: impl FnMut() -> MigrationId,
) -> Vec<Body> {
    let mut bodies: Vec<Body> = placements(fleet)
        .map(|(vm, node)| Body::PlaceVm { vm, node })
        .take(PLACEMENTS_MAX)
        .collect();
    let moves = departures(fleet, now);
    let moves = moves.map(|(vm, target)| Body::DrainVm { migration: new_migration(), vm, target });
    bodies.extend(moves.take(PLACEMENTS_MAX));
    let expired = fleet.expired_effects(now);
    if !expired.is_empty() {
        bodies.push(Body::ExpireEffects(expired));
    }
    bodies.extend(fleet.window_due(now).map(|through| Body::SealWindows { through }));
    bodies
}

/// Two machines may be given the same room; the second is refused when it is applied, and waits on.
fn placements(fleet: &Fleet) -> impl Iterator<Item = (VmId, NodeName)> {
    fleet.pending_vms().filter_map(|vm| match planner::place(fleet, fleet.wanted(vm)) {
        Placement::Node(node) => Some((vm.id, node)),
        Placement::Nowhere { .. } => None,
    })
}

/// Machines that leave nodes that are drained.
fn departures(fleet: &Fleet, now: Timestamp) -> impl Iterator<Item = (VmId, NodeName)> {
    let mut open = fleet.drains().filter(|drain| drain.drained_at.is_none()).peekable();
    let mut rooms = open.peek().map(|_| planner::Rooms::of(fleet));
    open.flat_map(move |drain| {
        rooms.as_mut().map(|rooms| rooms.moves(drain, now)).unwrap_or_default()
    })
}

/// Looks twice a second until `stop`.
pub async fn run(view: View, desk: Desk, clock: Clock, stop: CancellationToken) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let now = clock.now();
        let bodies = view.local(|fleet| due(fleet, now, || MigrationId(new_uuid(now))));
        for body in bodies {
            let at = clock.now();
            let command = Command::of_cluster(new_request(at), at, body);
            match desk.propose(command).await {
                Ok(Ok(_)) => {}
                Ok(Err(refusal)) => tracing::debug!(%refusal, "the fleet has changed meanwhile"),
                Err(declined) => {
                    tracing::info!(%declined, "the leader's work could not be committed")
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::testing::Scene;
    use uuid::Uuid;

    #[test]
    fn a_machine_that_waits_gets_a_node_when_one_fits() {
        let mut scene = Scene::new();
        let vm = scene.create("web");
        assert!(due(&scene.fleet, scene.now, || MigrationId(Uuid::nil())).is_empty());
        scene.join("node-01", 8);
        let node = "node-01".parse().unwrap();
        assert_eq!(
            due(&scene.fleet, scene.now, || MigrationId(Uuid::nil())),
            [Body::PlaceVm { vm, node }]
        );
    }
}
