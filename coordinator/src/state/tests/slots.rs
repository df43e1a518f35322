//! Slots: never more migrations at work at a node than it may have, in the order of acceptance, and nobody waits for
//! ever.

use std::collections::BTreeMap;

use novacron_protocol::api::SettingsChange;
use novacron_protocol::effect::SourceResult;
use novacron_protocol::ids::{MigrationId, NodeName, VmId};
use novacron_protocol::migration::MigrationMode;
use novacron_protocol::node::NodeState;
use proptest::prelude::*;

use crate::state::migration::Step;
use crate::state::testing::{Scene, account};
use crate::state::{Accepted, Body};

const NODES: [&str; 4] = ["node-01", "node-02", "node-03", "node-04"];
const VMS: usize = 12;

#[derive(Debug, Clone)]
enum Move {
    Migrate { vm: usize, target: usize },
    End { at: usize, completes: bool },
    Cancel { at: usize },
    SetNode { node: usize, is_ready: bool },
    Limit { migrations: u32 },
}

fn any_move() -> impl Strategy<Value = Move> {
    let n = 0..1000usize;
    prop_oneof![
        6 => (0..VMS, 0..NODES.len()).prop_map(|(vm, target)| Move::Migrate { vm, target }),
        4 => (n.clone(), any::<bool>()).prop_map(|(at, completes)| Move::End { at, completes }),
        1 => n.prop_map(|at| Move::Cancel { at }),
        1 => (0..NODES.len(), any::<bool>())
            .prop_map(|(node, is_ready)| Move::SetNode { node, is_ready }),
        1 => (1..5u32).prop_map(|migrations| Move::Limit { migrations }),
    ]
}

struct Traffic {
    scene: Scene,
    vms: Vec<VmId>,
    limit: usize,
    before: BTreeMap<NodeName, usize>,
}

impl Traffic {
    fn new() -> Self {
        let mut scene = Scene::new();
        NODES.iter().for_each(|node| scene.join(node, 64));
        let vm = |number: usize| scene.running(&format!("vm-{number}"), NODES[number % 4]);
        let vms = (0..VMS).map(vm).collect();
        let before = NODES.iter().map(|node| (node.parse().unwrap(), 0)).collect();
        Self { scene, vms, limit: 3, before }
    }

    fn at_work(&self) -> Vec<MigrationId> {
        let open = self.scene.fleet.open_migrations();
        open.filter(|row| row.step.is_at_work()).map(|row| row.id).collect()
    }

    fn take(&mut self, step: &Move) {
        match *step {
            Move::Migrate { vm, target } => {
                let _ = self.scene.migrate(self.vms[vm], NODES[target], MigrationMode::Live);
            }
            Move::End { at, completes } => {
                let at_work = self.at_work();
                if let Some(migration) = at_work.get(at % at_work.len().max(1)) {
                    self.end(*migration, completes);
                }
            }
            Move::Cancel { at } => {
                let open: Vec<_> = self.scene.fleet.open_migrations().map(|row| row.id).collect();
                if let Some(migration) = open.get(at % open.len().max(1)) {
                    let _ = self.scene.apply(Body::CancelMigration { migration: *migration });
                }
            }
            Move::SetNode { node, is_ready } => {
                let state = if is_ready { NodeState::Ready } else { NodeState::Suspect };
                self.scene.set_node(NODES[node], state);
            }
            Move::Limit { migrations } => self.set_limit(migrations),
        }
    }

    fn set_limit(&mut self, migrations: u32) {
        let change = SettingsChange { migrations_per_node: Some(migrations) };
        assert_eq!(self.scene.apply(Body::ChangeSettings(change)), Ok(Accepted::Nothing));
        self.limit = migrations as usize;
    }

    fn end(&mut self, migration: MigrationId, completes: bool) {
        let target = self.scene.migration(migration).target.to_string();
        self.scene.settle_all(&target);
        let result = match completes {
            true => SourceResult::Completed(account()),
            false => SourceResult::Failed { reason: "a test".to_owned() },
        };
        self.scene.source_ends(migration, result);
        self.scene.settle_all(&target);
    }

    /// No node takes part in more than it may, unless it did before a lower limit was set.
    fn check_limit(&mut self) {
        for (node, before) in &mut self.before {
            let open = self.scene.fleet.open_migrations().filter(|row| row.step.is_at_work());
            let now = open.filter(|row| row.source == *node || row.target == *node).count();
            assert!(now <= self.limit.max(*before), "{node}: {now}, at most {}", self.limit);
            *before = now;
        }
    }

    /// Between the same two nodes nobody overtakes.
    fn check_order(&self) {
        let mut waiting = BTreeMap::new();
        for row in self.scene.fleet.open_migrations() {
            let ends = (row.source.clone(), row.target.clone());
            if row.step == Step::Queued {
                waiting.entry(ends).or_insert(row.accepted);
            } else if let (true, Some(first)) = (row.step.is_at_work(), waiting.get(&ends)) {
                panic!("{} overtook what was accepted at {first}", row.id);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn the_limit_holds_the_order_is_kept_and_everybody_comes_to_an_end(
        moves in proptest::collection::vec(any_move(), 1..60)
    ) {
        let mut traffic = Traffic::new();
        for step in &moves {
            traffic.take(step);
            traffic.check_limit();
            traffic.check_order();
        }
        for node in NODES {
            traffic.scene.set_node(node, NodeState::Ready);
        }
        while let Some(migration) = traffic.at_work().first().copied() {
            traffic.end(migration, true);
            traffic.check_limit();
            traffic.check_order();
        }
        prop_assert_eq!(traffic.scene.fleet.open_migrations().count(), 0);
    }
}

#[test]
fn whoever_waits_for_two_nodes_is_not_overtaken_for_ever() {
    let mut traffic = Traffic::new();
    traffic.set_limit(1);
    let vm = |traffic: &Traffic, number: usize| traffic.vms[number];
    let live = MigrationMode::Live;
    // Machine n is at node n mod 4. Both nodes of the second are busy, with different others.
    let a = vm(&traffic, 0);
    let first = traffic.scene.migrate(a, "node-03", live).unwrap();
    let b = vm(&traffic, 1);
    let other = traffic.scene.migrate(b, "node-04", live).unwrap();
    let c = vm(&traffic, 4);
    let patient = traffic.scene.migrate(c, "node-02", live).unwrap();
    let d = vm(&traffic, 8);
    let late = traffic.scene.migrate(d, "node-03", live).unwrap();
    traffic.end(first, true);
    assert_eq!(traffic.scene.migration(late).step, Step::Queued, "the slot is kept");
    traffic.end(other, true);
    assert!(traffic.scene.migration(patient).step.is_at_work());
    assert_eq!(traffic.scene.migration(late).step, Step::Queued);
    traffic.end(patient, true);
    assert!(traffic.scene.migration(late).step.is_at_work());
}
