//! Every number of the document, recomputed from what the API shows of each thing.

use std::cell::Cell;
use std::collections::BTreeSet;

use novacron_protocol::access::{AccessRole, BindingEffect, Permission, Scope};
use novacron_protocol::api::{NodeView, SavingRule, SnapshotState, VmView};
use novacron_protocol::ids::{RegionCode, RequestId, SnapshotId};
use novacron_protocol::region::{RegionStatus, Residency, ResidencyRules};
use novacron_protocol::vm::{DiskFormat, VmSpec};
use serde_json::json;

use super::*;
use crate::state::binding::Right;
use crate::state::command::{CreateVm, Placement};
use crate::state::ledger::hour::Hour;
use crate::state::ledger::rate::{Dimension, Price, RateCard};
use crate::state::project::{ProjectEdit, ProjectOrder};
use crate::state::region::{RegionEdit, RegionOrder};
use crate::state::snapshot::{SnapshotDeed, SnapshotOrder};
use crate::state::testing::{GIB, Scene, name, spec, spec_in};
use crate::state::vm::Rest;
use crate::state::{Accepted, Body, Command};
use crate::view::FleetCell;
use crate::view::access::project_view;
use crate::view::resource::{migration_view, node_view, snapshot_view, vm_view};

/// What somebody sees of a fleet that nobody changes.
fn overview(fleet: &Fleet, lens: &Lens) -> Overview {
    let mut survey = Survey::default();
    while !survey.look(fleet, lens) {}
    survey.into_overview()
}

/// Whoever sees everything.
fn everything() -> Lens {
    Lens {
        machines: Reach::everywhere(),
        projects: Reach::everywhere(),
        has_nodes: true,
        alerts: Reach::everywhere(),
        costs: Reach::everywhere(),
    }
}

/// Recomputes every number of the document from what the API shows of each thing.
pub(crate) fn check(fleet: &Fleet) {
    let found = overview(fleet, &everything());
    let vms: Vec<VmView> = fleet.vms().map(|vm| vm_view(fleet, vm)).collect();
    let vms: Vec<_> = vms.iter().filter(|vm| vm.state != VmState::Deleted).collect();
    assert_eq!(found.machines.total, vms.len() as u64);
    assert_eq!(found.machines.by_state.len(), 10);
    for (state, count) in &found.machines.by_state {
        let those = vms.iter().filter(|vm| vm.state == *state).count();
        assert_eq!(*count, those as u64, "{state:?}");
    }
    assert_eq!(found.machines.cpus, vms.iter().map(|vm| u64::from(vm.cpus)).sum::<u64>());
    assert_eq!(found.machines.memory_bytes, vms.iter().map(|vm| vm.memory).sum::<u64>());
    let disks = vms.iter().flat_map(|vm| &vm.disks).map(|disk| disk.size_bytes);
    assert_eq!(found.machines.disk_bytes, disks.sum::<u64>());
    let troubled = vms.iter().filter(|vm| matches!(vm.state, VmState::Failed | VmState::Unknown));
    let mut attention = troubled.count() + fleet.violations();

    let migrations: Vec<_> = fleet.migrations().map(migration_view).collect();
    let with = |status| migrations.iter().filter(|one| one.status == status).count() as u64;
    let MigrationTotals { queued, in_progress } = found.migrations;
    assert_eq!(queued, with(MigrationStatus::Queued));
    assert_eq!(in_progress, with(MigrationStatus::InProgress));

    let nodes: Vec<NodeView> = fleet.nodes().map(|node| node_view(fleet, node)).collect();
    let totals = found.nodes.clone().unwrap();
    assert_eq!(totals.total, nodes.len() as u64);
    for (state, count) in &totals.by_state {
        let those = nodes.iter().filter(|node| node.state == *state).count();
        assert_eq!(*count, those as u64, "{state:?}");
    }
    let sum = |of: fn(&NodeView) -> &NodeCapacity, part: fn(&NodeCapacity) -> u64| {
        nodes.iter().map(|node| part(of(node))).sum::<u64>()
    };
    for part in [
        (|capacity| capacity.memory_bytes) as fn(&NodeCapacity) -> u64,
        |capacity| capacity.disk_bytes,
        |capacity| u64::from(capacity.cpus),
    ] {
        assert_eq!(part(&totals.capacity), sum(|node| &node.capacity, part));
        assert_eq!(part(&totals.allocated), sum(|node| &node.allocated, part));
    }
    let is_active = |node: &&NodeView| node.scheduling == Scheduling::Active;
    assert_eq!(totals.draining, (nodes.len() - nodes.iter().filter(is_active).count()) as u64);
    attention += nodes.iter().filter(|node| node.state != NodeState::Ready).count();
    check_regions(fleet, &found, &nodes);
    check_savings(fleet, &found);
    assert_eq!(found.violations, fleet.violations() as u64);

    let projects = fleet.projects_after(None).map(|project| project_view(fleet, project));
    let mut near = 0;
    for project in projects {
        for quota in Quota::ALL {
            let Some(limit) = project.quotas.of(quota) else { continue };
            let used = project.usage.of(quota);
            let is_near = used > 0 && used as f64 >= limit as f64 * 0.8;
            near += usize::from(is_near);
            let expected =
                QuotaUse { project: project.name.clone(), quota: quota.to_string(), used, limit };
            assert_eq!(found.quotas.contains(&expected), is_near, "{expected:?}");
        }
    }
    assert_eq!(found.quotas.len(), near);
    assert_eq!(found.attention_total, (attention + near) as u64);
    assert_eq!(found.attention.len(), (attention + near).min(ATTENTION_MAX));
    assert!(found.attention.is_sorted_by_key(|one| (one.severity, one.kind)));
}

/// What a unit of a dimension costs a project now, in dollars. Floats, because the code has none.
fn price(fleet: &Fleet, project: &ProjectName, dimension: Dimension) -> f64 {
    let hour = Hour::of(fleet.clock());
    let Some(plan) = fleet.plan_of(project, hour) else { return 0.0 };
    let price = fleet.rate_card(plan, hour).unwrap().price(dimension);
    price.micro_dollars as f64 / price.per_units as f64 / 1e6
}

fn near(dollars: f64, micro_dollars: i64) -> bool {
    (dollars * 1e6 - micro_dollars as f64).abs() <= 0.5 + dollars * 1e-6
}

fn check_regions(fleet: &Fleet, found: &Overview, nodes: &[NodeView]) {
    let found = found.regions.as_ref().unwrap();
    let mut expected: Vec<Option<RegionCode>> =
        fleet.regions_after(None).map(|region| Some(region.code.clone())).collect();
    if nodes.iter().any(|node| node.region.is_none()) {
        expected.push(None);
    }
    let codes: Vec<_> = found.iter().map(|one| one.region.clone()).collect();
    assert_eq!(codes, expected);
    for site in found {
        let here: Vec<_> = nodes.iter().filter(|node| node.region == site.region).collect();
        assert_eq!(site.nodes.len(), 3);
        for (state, count) in &site.nodes {
            let those = here.iter().filter(|node| node.state == *state).count();
            assert_eq!(*count, those as u64, "{:?} {state:?}", site.region);
        }
        let machines: Vec<_> = here.iter().flat_map(|node| fleet.vms_on_node(&node.name)).collect();
        assert_eq!(site.machines, machines.len() as u64);
        let cost = |vm: &&Vm| {
            let price = |dimension| price(fleet, vm.project(), dimension);
            let view = vm_view(fleet, vm);
            let runs = matches!(view.state, VmState::Running | VmState::Migrating);
            let disks = view.disks.iter().map(|disk| disk.size_bytes).sum::<u64>() as f64;
            let disks = if vm.rest == Rest::NotMade { 0.0 } else { disks / (1_u64 << 30) as f64 };
            let snapshots = fleet.snapshots_of(vm.id).filter(|one| one.ready_at.is_some());
            f64::from(u8::from(runs)) * price(Dimension::VmHours)
                + disks * price(Dimension::StorageGb)
                + snapshots.count() as f64 * price(Dimension::Snapshots)
        };
        let dollars: f64 = machines.iter().map(cost).sum();
        assert!(near(dollars, site.micro_dollars_per_hour.unwrap()), "{site:?}: {dollars}");
    }
}

fn check_savings(fleet: &Fleet, found: &Overview) {
    let is_old = |at: Timestamp| fleet.clock().unix_ms >= at.unix_ms + 30 * 86_400_000;
    let (mut stopped, mut snapshots) = ((Vec::new(), 0.0), (Vec::new(), 0.0));
    for vm in fleet.vms() {
        let view = vm_view(fleet, vm);
        let disks = view.disks.iter().map(|disk| disk.size_bytes).sum::<u64>() as f64;
        let cost = price(fleet, vm.project(), Dimension::StorageGb) * disks / (1_u64 << 30) as f64;
        if cost > 0.0 && view.state == VmState::Stopped && is_old(view.updated_at) {
            stopped.0.push(view.name.to_string());
            stopped.1 += cost * 730.0;
        }
        let each = price(fleet, vm.project(), Dimension::Snapshots);
        for snapshot in fleet.snapshots_of(vm.id).filter_map(|one| snapshot_view(fleet, one)) {
            let is_ready = snapshot.state == SnapshotState::Ready;
            if each > 0.0 && is_ready && snapshot.ready_at.is_some_and(is_old) {
                snapshots.0.push(format!("{}/{}", snapshot.vm_name, snapshot.name));
                snapshots.1 += each * 730.0;
            }
        }
    }
    let rules = [(SavingRule::StoppedMachines, stopped), (SavingRule::OldSnapshots, snapshots)];
    let expected: Vec<_> = rules.iter().filter(|(_, (names, _))| !names.is_empty()).collect();
    assert_eq!(found.savings.len(), expected.len(), "{:?}", found.savings);
    for (saving, (rule, (names, dollars))) in found.savings.iter().zip(expected) {
        assert_eq!((saving.rule, saving.count), (*rule, names.len() as u64));
        assert_eq!(saving.names[..], names[..names.len().min(20)]);
        assert!(near(*dollars, saving.micro_dollars_per_month), "{saving:?}: {dollars}");
    }
}

fn large(nodes: usize, machines: usize) -> Fleet {
    let mut scene = Scene::new();
    for node in 0..nodes {
        scene.join(&format!("node-{node}"), 100);
    }
    for number in 0..machines {
        let node = name(&format!("node-{}", number % nodes));
        let create = CreateVm {
            vm: VmId(scene.id()),
            spec: spec(&format!("vm-{number}")),
            requested_node: Some(node.clone()),
            placement: Placement::Node(node),
            start: false,
        };
        let request = RequestId(scene.id());
        let command = Command::of_cluster(request, scene.now, Body::CreateVm(create));
        // Not by the scene, which looks at all rows after each.
        scene.fleet.apply(scene.fleet.revision().next(), &command).unwrap();
    }
    scene.fleet
}

/// Looks are counted, not timed: whoever changes a fleet waits for one of them.
#[tokio::test]
async fn a_large_fleet_is_changed_between_any_two_looks_of_a_survey() {
    let (nodes, machines) = (700, 20_000);
    let cell = FleetCell::new(large(nodes, machines), 0);
    let (mut survey, mut looks, lens) = (Survey::default(), 0, everything());
    let changes = Cell::new(0);
    let surveying = async {
        loop {
            looks += 1;
            if cell.look(|fleet| survey.look(fleet, &lens)) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let changing = async {
        loop {
            cell.change(|_| changes.set(changes.get() + 1));
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = changing => {}
        () = surveying => {}
    }
    // Machines, and again where they are.
    assert!(looks >= 2 * machines / LOOK_ROWS_MAX, "{looks} looks");
    assert!(changes.get() >= looks, "{} changes, {looks} looks", changes.get());
    assert_eq!(survey.into_overview().machines.total, machines as u64);
    cell.look(check);
}

#[test]
fn what_many_things_come_from_is_listed_before_them() {
    let mut scene = Scene::new();
    // 32 fit each node's processors: more than are looked at one by one.
    let (nodes, machines) = (7, 7 * 32);
    for node in 0..nodes {
        let node = format!("node-{node}");
        scene.join(&node, 100);
        for number in 0..machines / nodes {
            let spec = spec(&format!("{node}-vm-{number}"));
            let body = scene.create_body(spec, Some(&node), false);
            scene.apply(body).unwrap();
        }
        scene.set_node(&node, NodeState::Down);
    }
    let shown = overview(&scene.fleet, &everything());
    assert_eq!(shown.machines.by_state[&VmState::Unknown], machines as u64);
    let total = (machines + nodes) as u64;
    assert_eq!((shown.attention_total, shown.attention.len()), (total, ATTENTION_MAX));
    assert_eq!(shown.attention[0].kind, AttentionKind::NodeDown);
    check(&scene.fleet);
}

const DAY_MS: u64 = 86_400_000;

/// A machine with a qcow2 disk of so many GiB, made and started or not.
fn made(
    scene: &mut Scene,
    project: &ProjectName,
    vm: &str,
    node: &str,
    gib: u64,
    start: bool,
) -> VmId {
    let mut spec = VmSpec { memory_bytes: GIB / 4, ..spec_in(project, vm) };
    spec.disks[0].format = DiskFormat::Qcow2;
    spec.disks[0].size_bytes = gib * GIB;
    let body = scene.create_body(spec, Some(node), start);
    let Ok(Accepted::Vm(vm)) = scene.apply(body) else { panic!("refused") };
    scene.settle_all(node);
    scene.settle_all(node);
    vm
}

fn snapshot(scene: &mut Scene, vm: VmId, text: &str, node: &str) {
    let deed = SnapshotDeed::Create(SnapshotId(scene.id()));
    let order = SnapshotOrder { vm, name: text.parse().unwrap(), deed };
    scene.apply(Body::Snapshots(order)).unwrap();
    scene.settle_all(node);
}

fn make_region(scene: &mut Scene, code: &str) {
    let (region, rules) = (code.parse().unwrap(), ResidencyRules::default());
    let (name, certifications) = (String::new(), BTreeSet::new());
    let order = RegionOrder::Create { region, name, certifications, rules };
    scene.apply(Body::Regions(order)).unwrap();
}

/// Projects `bank`, which pays, and `shop`, which does not. 40 days ago: `web` runs, `old` is stopped and has a
/// snapshot, so has one of the shop's. Now: `new` is stopped, `web` moves, a node is late and one is down.
fn town() -> (Scene, ProjectName) {
    let mut scene = Scene::new();
    for code in ["eu", "moon", "us"] {
        make_region(&mut scene, code);
    }
    for (node, region) in
        [("eu-1", Some("eu")), ("eu-2", Some("eu")), ("us-1", Some("us")), ("x-1", None)]
    {
        scene.join(node, 16);
        let (node, region) = (name(node), region.map(|code| code.parse().unwrap()));
        scene.apply(Body::Regions(RegionOrder::Assign { node, region })).unwrap();
    }
    let edit = RegionEdit { status: Some(RegionStatus::Draining), ..RegionEdit::default() };
    let region = "moon".parse().unwrap();
    scene.apply(Body::Regions(RegionOrder::Change { region, edit })).unwrap();
    let (bank, shop) = (
        scene.make_project("bank", Default::default()),
        scene.make_project("shop", Default::default()),
    );
    let prices = [
        Price::each(150_000),
        Price { micro_dollars: 27_397, per_units: 1_000 },
        Price::each(50_000_000),
        Price::each(10),
        Price::each(2_000),
    ];
    let (plan, from) = ("all".parse().unwrap(), Hour::of(scene.now).next());
    let card = RateCard { plan, valid_from: from, vms_max: None, prices };
    let (plan, project) = (card.plan.clone(), bank.clone());
    scene.apply(Body::SetRate(card)).unwrap();
    scene.apply(Body::SetPlan { project, plan, from }).unwrap();
    let web = made(&mut scene, &bank, "web", "eu-1", 10, true);
    for (project, vm) in [(&bank, "old"), (&shop, "old-too")] {
        let vm = made(&mut scene, project, vm, "us-1", 20, false);
        snapshot(&mut scene, vm, "before", "us-1");
    }
    scene.now = scene.now.plus_ms(40 * DAY_MS);
    let new = made(&mut scene, &bank, "new", "x-1", 30, false);
    snapshot(&mut scene, new, "yesterday", "x-1");
    scene.sending(web, "eu-2");
    let residency = Some(Residency {
        regions: BTreeSet::from(["eu".parse().unwrap(), "us".parse().unwrap()]),
        certifications: BTreeSet::new(),
    });
    let edit = ProjectEdit { residency, ..ProjectEdit::default() };
    scene.apply(Body::Projects(ProjectOrder::Change { project: bank.clone(), edit })).unwrap();
    scene.set_node("eu-2", NodeState::Suspect);
    (scene, bank)
}

#[test]
fn the_document_of_a_town() {
    let (mut scene, _) = town();
    let mut shown = serde_json::to_value(overview(&scene.fleet, &everything())).unwrap();
    let at = scene.fleet.clock();
    assert_eq!(shown["at"], json!(at));
    let machines = json!({
        "total": 4, "cpus": 4, "memory_bytes": GIB, "disk_bytes": 80 * GIB,
        "by_state": {
            "pending": 0, "creating": 0, "stopped": 3, "starting": 0, "running": 0, "paused": 0,
            "migrating": 1, "stopping": 0, "failed": 0, "unknown": 0,
        },
    });
    assert_eq!(shown["machines"], machines);
    let nodes = |ready: u8, suspect: u8| json!({ "ready": ready, "suspect": suspect, "down": 0 });
    let regions = json!([
        // 0.15 for the machine and 10 GiB at 0.000027397 each.
        { "region": "eu", "status": "active", "nodes": nodes(1, 1), "machines": 1,
          "micro_dollars_per_hour": 150_274 },
        { "region": "moon", "status": "draining", "nodes": nodes(0, 0), "machines": 0,
          "micro_dollars_per_hour": 0 },
        // 20 GiB of `old` and a snapshot; the shop has no plan.
        { "region": "us", "status": "active", "nodes": nodes(1, 0), "machines": 2,
          "micro_dollars_per_hour": 548 + 10 },
        { "nodes": nodes(1, 0), "machines": 1, "micro_dollars_per_hour": 822 + 10 },
    ]);
    assert_eq!(shown["regions"], regions);
    assert_eq!(shown["migrations"], json!({ "queued": 0, "in_progress": 1 }));
    assert_eq!(shown["violations"], 1);
    assert_eq!(shown["_links"], json!({ "violations": "/api/v1/residency/violations" }));
    let savings = json!([
        // 20 GiB · 730 h · 27.397 micro-dollars.
        { "rule": "stopped_machines", "count": 1, "micro_dollars_per_month": 399_996, "names": ["old"] },
        { "rule": "old_snapshots", "count": 1, "micro_dollars_per_month": 7_300, "names": ["old/before"] },
    ]);
    assert_eq!(shown["savings"], savings);
    let attention: Vec<_> = shown["attention"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["kind"].clone(), one["name"].clone()))
        .collect();
    let expected = [("node_suspect", "eu-2"), ("residency", "new")];
    assert_eq!(attention, expected.map(|(kind, name)| (json!(kind), json!(name))));
    for told in [
        "revision",
        "at",
        "machines",
        "nodes",
        "regions",
        "migrations",
        "violations",
        "_links",
        "savings",
        "quotas",
        "alerts",
        "attention",
        "attention_total",
    ] {
        assert!(shown.as_object_mut().unwrap().remove(told).is_some(), "{told}");
    }
    assert_eq!(shown, json!({}), "nothing else");
    check(&scene.fleet);
    // Whose node is down, nobody knows whether it runs.
    scene.set_node("eu-1", NodeState::Down);
    let regions = overview(&scene.fleet, &everything()).regions.unwrap();
    assert_eq!(regions[0].micro_dollars_per_hour, Some(274));
    check(&scene.fleet);
}

#[test]
fn a_tenant_is_shown_its_own() {
    let (mut scene, bank) = town();
    let tenant = scene.operator("tenant");
    let bind = |scene: &mut Scene, role, project: &ProjectName| {
        let (right, scope) = (Right::Role(role), Scope::Project(project.clone()));
        scene.bind(&tenant, right, scope, BindingEffect::Allow).unwrap();
    };
    bind(&mut scene, AccessRole::Viewer, &"shop".parse().unwrap());
    let seen = |scene: &Scene| {
        let reach = |permission| scene.fleet.reach(&tenant.name, permission);
        let (machines, costs) = (reach(Permission::VmRead), reach(Permission::LedgerRead));
        overview(&scene.fleet, &Lens { machines, costs, ..Lens::default() })
    };
    let shown = seen(&scene);
    assert_eq!((shown.machines.total, shown.violations), (1, 0));
    assert_eq!((shown.regions, shown.savings), (None, Vec::new()));
    bind(&mut scene, AccessRole::Viewer, &bank);
    let shown = seen(&scene);
    assert_eq!((shown.machines.total, shown.violations), (4, 1));
    assert_eq!(shown.savings, [], "it does not see what anything costs");
    bind(&mut scene, AccessRole::Billing, &bank);
    assert_eq!(seen(&scene).savings.len(), 2);
}

#[test]
fn of_much_that_could_be_saved_the_first_are_named() {
    let (mut scene, bank) = town();
    for number in 0..25 {
        made(&mut scene, &bank, &format!("idle-{number:02}"), "us-1", 1, false);
    }
    scene.now = scene.now.plus_ms(30 * DAY_MS - 1);
    let stopped = |scene: &mut Scene| {
        // Any command moves the clock.
        scene.make_project(&format!("p-{}", scene.log.len()), Default::default());
        overview(&scene.fleet, &everything()).savings.remove(0)
    };
    assert_eq!(stopped(&mut scene).count, 1, "only `old`");
    scene.now = scene.now.plus_ms(1);
    let found = stopped(&mut scene);
    assert_eq!((found.count, found.names.len()), (27, 20), "`new`, too");
    assert_eq!(found.names[..3], ["old", "new", "idle-00"]);
    // 20 + 30 + 25 GiB · 730 h · 27.397 micro-dollars.
    assert_eq!(found.micro_dollars_per_month, 1_499_986);
    check(&scene.fleet);
}

#[test]
fn who_sees_nothing_is_shown_nothing() {
    let mut scene = Scene::new();
    scene.join("node-01", 16);
    scene.running("web", "node-01");
    let shown = overview(&scene.fleet, &Lens::default());
    assert_eq!((shown.machines.total, shown.nodes, shown.quotas.len()), (0, None, 0));
    check(&scene.fleet);
}
