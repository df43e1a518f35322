//! What nobody asks for and somebody has to see to: machines that wait for a node get one when it fits, and
//! effects that nobody will answer any more are given up. Each turn looks at the fleet as it is.

use std::time::Duration;

use novacron_protocol::ids::{NodeName, VmId};
use novacron_protocol::time::Timestamp;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, new_request};
use crate::peers::desk::Desk;
use crate::planner;
use crate::state::command::Placement;
use crate::state::{Body, Command, Fleet};
use crate::view::View;

/// How often the leader looks.
const PERIOD: Duration = Duration::from_millis(500);

/// Machines that are placed in one turn.
const PLACEMENTS_MAX: usize = 64;

/// What the fleet needs now.
pub fn due(fleet: &Fleet, now: Timestamp) -> Vec<Body> {
    let mut bodies: Vec<Body> = placements(fleet)
        .map(|(vm, node)| Body::PlaceVm { vm, node })
        .take(PLACEMENTS_MAX)
        .collect();
    let expired = fleet.expired_effects(now);
    if !expired.is_empty() {
        bodies.push(Body::ExpireEffects(expired));
    }
    bodies
}

/// Two machines may be given the same room; the second is refused when it is applied, and waits on.
fn placements(fleet: &Fleet) -> impl Iterator<Item = (VmId, NodeName)> {
    fleet.pending_vms().filter_map(|vm| match planner::place(fleet, &vm.spec) {
        Placement::Node(node) => Some((vm.id, node)),
        Placement::Nowhere { .. } => None,
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
        for body in view.local(|fleet| due(fleet, clock.now())) {
            let at = clock.now();
            let command = Command { request: new_request(at), at, body };
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

    #[test]
    fn a_machine_that_waits_gets_a_node_when_one_fits() {
        let mut scene = Scene::new();
        let vm = scene.create("web");
        assert!(due(&scene.fleet, scene.now).is_empty());
        scene.join("node-01", 8);
        let node = "node-01".parse().unwrap();
        assert_eq!(due(&scene.fleet, scene.now), [Body::PlaceVm { vm, node }]);
    }
}
