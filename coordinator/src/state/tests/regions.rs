//! Regions: what rules allow is done, what they do not is refused in words, and who stands against one is listed.

use std::collections::{BTreeMap, BTreeSet};

use novacron_protocol::api::Code;
use novacron_protocol::ids::{MigrationId, NodeName, ProjectName, RegionCode, Revision, VmId};
use novacron_protocol::limits::{CERTIFICATIONS_MAX, REGIONS_MAX};
use novacron_protocol::migration::{MigrationMode, MigrationOptions, MigrationStatus};
use novacron_protocol::project::Quotas;
use novacron_protocol::region::{Certification, Residency, ResidencyRules};
use novacron_protocol::vm::VmState;
use proptest::prelude::*;

use crate::outbox::reconcile;
use crate::planner::{Rooms, Standing};
use crate::state::project::{ProjectEdit, ProjectOrder};
use crate::state::region::{RegionEdit, RegionOrder};
use crate::state::testing::{Scene, facts, name, spec_in};
use crate::state::{Accepted, Body, Refusal, Reply};
use novacron_protocol::region::RegionStatus::{Active, Draining};

fn code(text: &str) -> RegionCode {
    text.parse().unwrap()
}

fn codes(texts: &[&str]) -> BTreeSet<RegionCode> {
    texts.iter().map(|text| code(text)).collect()
}

fn certifications(texts: &[&str]) -> BTreeSet<Certification> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn make(scene: &mut Scene, region: &str) -> Reply {
    scene.apply(Body::Regions(RegionOrder::Create {
        region: code(region),
        name: String::new(),
        certifications: BTreeSet::new(),
        rules: ResidencyRules::default(),
    }))
}

fn change(scene: &mut Scene, region: &str, edit: RegionEdit) -> Reply {
    scene.apply(Body::Regions(RegionOrder::Change { region: code(region), edit }))
}

fn stays_within(scene: &mut Scene, region: &str, targets: Option<&[&str]>) {
    let rules = ResidencyRules { may_leave_to: targets.map(codes) };
    change(scene, region, RegionEdit { rules: Some(rules), ..RegionEdit::default() }).unwrap();
}

fn assign(scene: &mut Scene, node: &str, region: Option<&str>) -> Reply {
    let (node, region) = (name(node), region.map(code));
    scene.apply(Body::Regions(RegionOrder::Assign { node, region }))
}

fn require(
    scene: &mut Scene,
    project: &ProjectName,
    regions: &[&str],
    certified: &[&str],
) -> Reply {
    let residency =
        Residency { regions: codes(regions), certifications: certifications(certified) };
    let edit = ProjectEdit { residency: Some(residency), ..ProjectEdit::default() };
    scene.apply(Body::Projects(ProjectOrder::Change { project: project.clone(), edit }))
}

/// Two hosts in `eu`, two in `us`, and a project `bank` without rules yet.
fn scene() -> (Scene, ProjectName) {
    let mut scene = Scene::new();
    for (region, nodes) in [("eu", ["eu-1", "eu-2"]), ("us", ["us-1", "us-2"])] {
        make(&mut scene, region).unwrap();
        for node in nodes {
            scene.join(node, 16);
            assign(&mut scene, node, Some(region)).unwrap();
        }
    }
    let bank = scene.make_project("bank", Quotas::default());
    (scene, bank)
}

fn create(scene: &mut Scene, project: &ProjectName, vm: &str, node: Option<&str>) -> Reply {
    let body = scene.create_body(spec_in(project, vm), node, true);
    scene.apply(body)
}

/// A machine that runs on a node.
fn running(scene: &mut Scene, project: &ProjectName, vm: &str, node: &str) -> VmId {
    let Ok(Accepted::Vm(vm)) = create(scene, project, vm, Some(node)) else { panic!("refused") };
    scene.settle_all(node);
    scene.settle_all(node);
    vm
}

fn violations(scene: &Scene) -> Vec<VmId> {
    scene.fleet.violations_after(None).map(|(vm, _)| vm.id).collect()
}

fn status(scene: &Scene, migration: MigrationId) -> MigrationStatus {
    scene.migration(migration).status()
}

#[test]
fn a_machine_that_must_stay_is_placed_there_and_nowhere_else() {
    let (mut scene, bank) = scene();
    require(&mut scene, &bank, &["eu"], &[]).unwrap();
    for number in 0..4 {
        let reply = create(&mut scene, &bank, &format!("vm-{number}"), None);
        let Ok(Accepted::Vm(vm)) = reply else { panic!("{reply:?}") };
        assert!(scene.vm(vm).node.as_ref().unwrap().as_str().starts_with("eu"));
    }
    let refusal = create(&mut scene, &bank, "there", Some("us-1")).unwrap_err();
    assert_eq!(refusal.code(), Code::ResidencyRule);
    let words = "node `us-1` cannot take the machine: machines of project `bank` must stand in region `eu`, and it \
                 stands in `us`";
    assert_eq!(refusal.to_string(), words);
    // A host of which nobody said where it stands is nowhere.
    scene.join("new", 64);
    let refusal = create(&mut scene, &bank, "there", Some("new")).unwrap_err();
    assert!(refusal.to_string().ends_with("and it stands in no region"), "{refusal}");
    // Whoever has no rule goes where the most memory is free.
    let reply = create(&mut scene, &ProjectName::default(), "free", None);
    let Ok(Accepted::Vm(vm)) = reply else { panic!("{reply:?}") };
    assert_eq!(scene.vm(vm).node, Some(name("new")));
}

#[test]
fn what_cannot_be_placed_waits_and_says_which_rule_it_waits_for() {
    let (mut scene, bank) = scene();
    require(&mut scene, &bank, &[], &["ISO-27001", "SOC2"]).unwrap();
    let Ok(Accepted::Vm(vm)) = create(&mut scene, &bank, "web", None) else { panic!("refused") };
    assert_eq!(scene.state(vm), VmState::Pending);
    let reason = &scene.vm(vm).reason;
    let words =
        "machines of project `bank` need a region with `ISO-27001`, `SOC2`, and it stands in `eu`";
    assert!(reason.contains(words), "{reason}");
    let certified = Some(certifications(&["ISO-27001", "SOC2", "C5"]));
    let edit = RegionEdit { certifications: certified, ..RegionEdit::default() };
    change(&mut scene, "us", edit).unwrap();
    for body in reconcile::due(&scene.fleet, scene.now, || unreachable!()) {
        scene.apply(body).unwrap();
    }
    assert!(scene.vm(vm).node.as_ref().unwrap().as_str().starts_with("us"));
}

#[test]
fn no_kind_of_migration_leads_out() {
    let (mut scene, bank) = scene();
    require(&mut scene, &bank, &["eu"], &[]).unwrap();
    let vm = running(&mut scene, &bank, "web", "eu-1");
    for mode in [MigrationMode::Live, MigrationMode::Warm] {
        let refusal = scene.migrate(vm, "us-1", mode).unwrap_err();
        assert_eq!(refusal.code(), Code::ResidencyRule, "{refusal}");
    }
    let (migration, target) = (MigrationId(scene.id()), name("us-1"));
    let options = MigrationOptions::default();
    scene.apply(Body::DrainNode { node: name("eu-1"), options }).unwrap();
    let refusal = scene.apply(Body::DrainVm { migration, vm, target }).unwrap_err();
    assert_eq!(refusal.code(), Code::ResidencyRule);
    // The drain finds the host within, and none when that is gone.
    let standing = |scene: &Scene| {
        let drain = scene.fleet.drain(&name("eu-1")).unwrap();
        Rooms::of(&scene.fleet).standings(drain, scene.now).next().unwrap().1
    };
    assert_eq!(standing(&scene), Standing::Ready(name("eu-2")));
    assign(&mut scene, "eu-2", None).unwrap();
    let Standing::Blocked { reason } = standing(&scene) else { panic!("it could move") };
    assert!(
        reason.contains("us-1: machines of project `bank` must stand in region `eu`"),
        "{reason}"
    );
    scene.apply(Body::UndrainNode { node: name("eu-1"), cancel: true }).unwrap();
    scene.apply(Body::StopVm { vm, force: true }).unwrap();
    scene.settle_all("eu-1");
    let refusal = scene.migrate(vm, "us-1", MigrationMode::Cold).unwrap_err();
    assert_eq!(refusal.code(), Code::ResidencyRule);
}

#[test]
fn a_new_rule_gives_up_what_is_on_its_way_and_lists_who_stands_against_it() {
    let (mut scene, bank) = scene();
    let stays = running(&mut scene, &bank, "stays", "us-2");
    let waits = running(&mut scene, &bank, "waits", "eu-1");
    let sends = running(&mut scene, &bank, "sends", "eu-1");
    let sending = scene.sending(sends, "us-1");
    let preparing = scene.migrate(waits, "us-1", MigrationMode::Live).unwrap();
    assert_eq!(status(&scene, preparing), MigrationStatus::InProgress);
    require(&mut scene, &bank, &["eu"], &[]).unwrap();
    assert_eq!(status(&scene, preparing), MigrationStatus::Failed);
    let reason = &scene.migration(preparing).reason;
    assert!(reason.starts_with("node `us-1`: machines of project `bank` must stand"), "{reason}");
    // The source is asked; it may be too late, and then the machine is listed.
    assert_eq!(status(&scene, sending), MigrationStatus::InProgress);
    let is_cancel =
        |action: &_| matches!(action, novacron_protocol::effect::Action::CancelMigration { .. });
    scene.effect("eu-1", is_cancel);
    assert_eq!(violations(&scene), [stays]);
    scene.hand_over("us-1", sending);
    assert_eq!(violations(&scene), [stays, sends]);
    // It may be moved to where it should be, and is not listed any more.
    let home = scene.sending(stays, "eu-2");
    scene.hand_over("eu-2", home);
    assert_eq!(violations(&scene), [sends]);
    require(&mut scene, &bank, &[], &[]).unwrap();
    assert_eq!(violations(&scene), []);
}

#[test]
fn a_queued_migration_of_a_batch_is_given_up_with_its_rule() {
    let (mut scene, bank) = scene();
    let vms: Vec<_> =
        (0..5).map(|number| running(&mut scene, &bank, &format!("vm-{number}"), "eu-1")).collect();
    let migrations: Vec<_> =
        vms.iter().map(|vm| scene.migrate(*vm, "us-1", MigrationMode::Live).unwrap()).collect();
    let queued = migrations.iter().filter(|one| status(&scene, **one) == MigrationStatus::Queued);
    assert_eq!(queued.count(), 2);
    stays_within(&mut scene, "eu", Some(&[]));
    for migration in migrations {
        let row = scene.migration(migration);
        assert_eq!(row.status(), MigrationStatus::Failed);
        let words = "node `us-1`: machines in region `eu` may leave it for nowhere only, and it stands in `us`";
        assert_eq!(row.reason, words);
    }
}

#[test]
fn a_region_says_where_its_machines_may_go() {
    let (mut scene, bank) = scene();
    make(&mut scene, "ch").unwrap();
    scene.join("ch-1", 16);
    assign(&mut scene, "ch-1", Some("ch")).unwrap();
    stays_within(&mut scene, "eu", Some(&["ch"]));
    let vm = running(&mut scene, &bank, "web", "eu-1");
    let refusal = scene.migrate(vm, "us-1", MigrationMode::Live).unwrap_err();
    let words = "machines in region `eu` may leave it for `ch` only, and it stands in `us`";
    assert!(refusal.to_string().ends_with(words), "{refusal}");
    let within = scene.sending(vm, "eu-2");
    scene.hand_over("eu-2", within);
    let out = scene.migrate(vm, "ch-1", MigrationMode::Live).unwrap();
    assert_eq!(status(&scene, out), MigrationStatus::InProgress);
    // New machines come in from nowhere: no rule about leaving holds for them.
    create(&mut scene, &bank, "new", Some("us-1")).unwrap();
    assert_eq!(violations(&scene), []);
}

#[test]
fn a_region_that_is_drained_takes_nothing_new_and_keeps_what_it_has() {
    let (mut scene, bank) = scene();
    let vm = running(&mut scene, &bank, "web", "eu-1");
    let there = running(&mut scene, &bank, "there", "us-1");
    let preparing = scene.migrate(there, "eu-1", MigrationMode::Live).unwrap();
    let edit = RegionEdit { status: Some(Draining), ..RegionEdit::default() };
    change(&mut scene, "eu", edit).unwrap();
    // What has begun goes on, as it does with a node that is drained.
    assert_eq!(status(&scene, preparing), MigrationStatus::InProgress);
    let refusal = create(&mut scene, &bank, "new", Some("eu-2")).unwrap_err();
    assert_eq!(refusal.code(), Code::NoCapacity);
    let words = "node `eu-2` cannot take the machine: its region `eu` is being drained and takes no new machines";
    assert_eq!(refusal.to_string(), words);
    let within = scene.sending(vm, "eu-2");
    scene.hand_over("eu-2", within);
    scene.sending(vm, "us-2");
    assert_eq!(violations(&scene), []);
    let edit = RegionEdit { status: Some(Active), ..RegionEdit::default() };
    change(&mut scene, "eu", edit).unwrap();
    create(&mut scene, &bank, "new", Some("eu-2")).unwrap();
}

#[test]
fn a_code_is_one_regions_and_a_region_in_use_is_not_deleted() {
    let (mut scene, bank) = scene();
    let taken = make(&mut scene, "eu").unwrap_err();
    assert_eq!((taken.code(), taken.field()), (Code::NameTaken, Some("name")));
    let delete = |scene: &mut Scene, region: &str| {
        scene.apply(Body::Regions(RegionOrder::Delete { region: code(region) }))
    };
    let used = |scene: &mut Scene, region: &str| {
        let refusal = delete(scene, region).unwrap_err();
        assert_eq!(refusal.code(), Code::Conflict);
        refusal.to_string()
    };
    assert_eq!(used(&mut scene, "eu"), "region `eu` is in use: node `eu-1` stands in it");
    make(&mut scene, "ch").unwrap();
    require(&mut scene, &bank, &["ch"], &[]).unwrap();
    assert!(used(&mut scene, "ch").ends_with("the residency of project `bank` names it"));
    require(&mut scene, &bank, &[], &[]).unwrap();
    stays_within(&mut scene, "eu", Some(&["ch"]));
    assert!(used(&mut scene, "ch").ends_with("the rules of region `eu` name it"));
    stays_within(&mut scene, "eu", None);
    delete(&mut scene, "ch").unwrap();
    assert_eq!(delete(&mut scene, "ch").unwrap_err(), Refusal::NoSuchRegion(code("ch")));
    assert_eq!(assign(&mut scene, "eu-1", Some("ch")).unwrap_err().code(), Code::NotFound);
}

#[test]
fn all_that_is_wrong_with_a_region_is_listed_and_nothing_of_it_kept() {
    let (mut scene, bank) = scene();
    let many = (0..=CERTIFICATIONS_MAX).map(|one| format!("c{one}").parse().unwrap()).collect();
    let edit = RegionEdit {
        name: Some("a\nb".to_owned()),
        certifications: Some(many),
        rules: Some(ResidencyRules { may_leave_to: Some(codes(&["mars"])) }),
        status: None,
    };
    let refusal = change(&mut scene, "eu", edit).unwrap_err();
    assert_eq!((refusal.code(), refusal.field()), (Code::InvalidRequest, Some("region_name")));
    let words = refusal.to_string();
    let parts =
        ["region_name: at most 128", "compliance_certifications: 33 of them", "no region `mars`"];
    assert!(parts.iter().all(|part| words.contains(part)), "{words}");
    let refusal = require(&mut scene, &bank, &["mars"], &[]).unwrap_err();
    assert_eq!(refusal.field(), Some("residency.regions"));
    for number in 2..REGIONS_MAX {
        make(&mut scene, &format!("r{number}")).unwrap();
    }
    assert_eq!(make(&mut scene, "more").unwrap_err().code(), Code::NoCapacity);
}

#[test]
fn a_label_says_where_a_host_stands_once() {
    let mut scene = Scene::new();
    for region in ["eu", "us"] {
        make(&mut scene, region).unwrap();
    }
    let mut labelled = |node: &str, region: &str| {
        let mut facts = facts(8);
        facts.labels.insert("region".to_owned(), region.to_owned());
        scene.hello(node, facts, Vec::new());
        scene.fleet.node(&name(node)).unwrap().region.clone()
    };
    assert_eq!(labelled("node-01", "eu"), Some(code("eu")));
    assert_eq!(labelled("node-01", "us"), Some(code("eu")), "only an order moves a host");
    assert_eq!(labelled("node-02", "mars"), None);
    assert_eq!(labelled("node-03", "Not Good"), None);
}

const REGIONS: [&str; 5] = ["eu", "us", "ch", "jp", "br"];
const PROJECTS: [&str; 3] = ["default", "one", "two"];

/// What the rules say, in other words than the program's.
#[derive(Default)]
struct Book {
    nodes: BTreeMap<NodeName, Option<String>>,
    allowed: BTreeMap<ProjectName, Vec<String>>,
    certified: BTreeMap<ProjectName, Vec<String>>,
    certificates: BTreeMap<String, Vec<String>>,
}

impl Book {
    fn allows(&self, project: &ProjectName, node: &NodeName) -> bool {
        let region = self.nodes[node].clone();
        let has = |one: &String| {
            region
                .as_ref()
                .and_then(|region| self.certificates.get(region))
                .is_some_and(|all| all.contains(one))
        };
        let allowed = self.allowed.get(project).cloned().unwrap_or_default();
        let is_inside = region.as_ref().is_some_and(|region| allowed.contains(region));
        let needed = self.certified.get(project).cloned().unwrap_or_default();
        (allowed.is_empty() || is_inside) && needed.iter().all(has)
    }
}

struct World {
    scene: Scene,
    book: Book,
}

fn some<'a>(all: &[&'a str], bits: u8) -> Vec<&'a str> {
    let is_in = |(number, one): (usize, &&'a str)| (bits >> number & 1 == 1).then_some(*one);
    all.iter().enumerate().filter_map(is_in).collect()
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

impl World {
    fn new() -> Self {
        let mut world = Self { scene: Scene::new(), book: Book::default() };
        for (number, region) in REGIONS.into_iter().enumerate() {
            make(&mut world.scene, region).unwrap();
            for host in 0..2 {
                let node = format!("node-{number}{host}");
                world.scene.join(&node, 8);
                world.assign(&node, Some(region));
            }
        }
        for project in &PROJECTS[1..] {
            world.scene.make_project(project, Quotas::default());
        }
        world
    }

    fn assign(&mut self, node: &str, region: Option<&str>) {
        assign(&mut self.scene, node, region).unwrap();
        self.book.nodes.insert(name(node), region.map(str::to_owned));
    }

    fn node(&self, number: u8) -> String {
        format!("node-{}{}", number / 2 % 5, number % 2)
    }

    fn vm(&self, number: u8) -> Option<VmId> {
        let all: Vec<_> = self.scene.fleet.vms().map(|vm| vm.id).collect();
        all.get(usize::from(number) % all.len().max(1)).copied()
    }

    /// Whether the step may move a machine against a rule: by a hand-over only.
    fn step(&mut self, what: u8, one: u8, two: u8) -> bool {
        let project: ProjectName = PROJECTS[usize::from(one) % 3].parse().unwrap();
        let region = REGIONS[usize::from(one) % 5];
        match what % 16 {
            0..=2 => {
                let node = two.is_multiple_of(2).then(|| self.node(two / 2));
                let vm = format!("vm-{}", one % 16);
                let _ = create(&mut self.scene, &project, &vm, node.as_deref());
            }
            3 | 4 => self.migrate(one, two),
            5 | 6 => return self.hand_over(one),
            7..=9 => self.scene.settle_all(&self.node(one)),
            10 => {
                let (node, options) = (name(&self.node(one)), MigrationOptions::default());
                let _ = match two % 2 {
                    0 => self.scene.apply(Body::DrainNode { node, options }),
                    _ => self.scene.apply(Body::UndrainNode { node, cancel: false }),
                };
            }
            11 => self.lead(),
            12 => {
                let (regions, needed) = (some(&REGIONS, two % 32), some(&["a", "b"], two / 32 % 4));
                require(&mut self.scene, &project, &regions, &needed).unwrap();
                self.book.allowed.insert(project.clone(), owned(&regions));
                self.book.certified.insert(project, owned(&needed));
            }
            13 => {
                let has = some(&["a", "b"], two % 4);
                let status = Some(if (two / 4).is_multiple_of(4) { Draining } else { Active });
                let targets = (two / 16).is_multiple_of(2).then(|| codes(&some(&REGIONS, two / 8)));
                let rules = Some(ResidencyRules { may_leave_to: targets });
                let certifications = Some(certifications(&has));
                let edit = RegionEdit { name: None, certifications, rules, status };
                change(&mut self.scene, region, edit).unwrap();
                self.book.certificates.insert(region.to_owned(), owned(&has));
            }
            14 => self.assign(&self.node(two), (!two.is_multiple_of(5)).then_some(region)),
            _ => {
                let vm = self.vm(one);
                let _ = vm.map(|vm| self.scene.apply(Body::DestroyVm { vm }));
            }
        }
        false
    }

    fn migrate(&mut self, vm: u8, target: u8) {
        let Some(vm) = self.vm(vm) else { return };
        let target = self.node(target);
        let _ = self.scene.migrate(vm, &target, MigrationMode::Live);
    }

    fn hand_over(&mut self, number: u8) -> bool {
        let all: Vec<_> = self.scene.fleet.open_migrations().map(|row| row.id).collect();
        let Some(migration) = all.get(usize::from(number) % all.len().max(1)).copied() else {
            return true;
        };
        let target = self.scene.migration(migration).target.to_string();
        self.scene.hand_over(&target, migration);
        true
    }

    fn lead(&mut self) {
        let mut ids = Vec::from_iter((0..64).map(|_| MigrationId(self.scene.id())));
        for body in reconcile::due(&self.scene.fleet, self.scene.now, || ids.pop().unwrap()) {
            let _ = self.scene.apply(body);
        }
    }

    fn places(&self) -> BTreeMap<VmId, Option<NodeName>> {
        let live = self.scene.fleet.vms().filter(|vm| vm.state() != VmState::Deleted);
        live.map(|vm| (vm.id, vm.node.clone())).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Five regions, and everything that moves machines while rules change: nothing goes where its project may not be,
    /// and exactly those that stand against a rule are listed.
    #[test]
    fn in_five_regions_no_machine_goes_where_it_must_not(
        steps in proptest::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 1..120),
    ) {
        let mut world = World::new();
        for (what, one, two) in steps {
            let before = world.places();
            let may_be_late = world.step(what, one, two);
            let listed = violations(&world.scene);
            for (vm, node) in world.places() {
                let Some(node) = &node else { continue };
                let allows = world.book.allows(world.scene.vm(vm).project(), node);
                prop_assert_eq!(!allows, listed.contains(&vm), "{} on {}", vm, node);
                let has_moved = before.get(&vm).is_none_or(|was| was.as_ref() != Some(node));
                prop_assert!(allows || may_be_late || !has_moved, "{} went to {}", vm, node);
            }
        }
        let replayed = world.scene.replay().state_hash().unwrap();
        prop_assert_eq!(replayed, world.scene.fleet.state_hash().unwrap());
    }
}

fn measure(scene: &mut Scene, from: &str, to: &[(&str, u32)]) -> Reply {
    let latencies_ms = to.iter().map(|(region, ms)| (code(region), *ms)).collect();
    let (region, edit) = (code(from), RegionEdit::default());
    scene.apply(Body::Regions(RegionOrder::ChangeWithLatencies { region, edit, latencies_ms }))
}

#[test]
fn how_far_regions_are_is_kept_for_both_ways_until_one_of_them_is_gone() {
    let mut scene = Scene::new();
    for region in ["ap", "eu", "us"] {
        make(&mut scene, region).unwrap();
    }
    measure(&mut scene, "eu", &[("us", 80), ("ap", 150)]).unwrap();
    measure(&mut scene, "us", &[("eu", 90)]).unwrap();
    let ms = |scene: &Scene, from, to| scene.fleet.latency_ms(&code(from), &code(to));
    assert_eq!((ms(&scene, "eu", "us"), ms(&scene, "us", "eu")), (Some(80), Some(90)));
    assert_eq!((ms(&scene, "ap", "eu"), ms(&scene, "ap", "us")), (Some(150), None));
    assert_eq!(ms(&scene, "ap", "ap"), Some(0));
    for (to, ms, words) in [
        ("mars", 1, "there is no region `mars`"),
        ("eu", 0, "`eu` is 0 from itself"),
        ("us", 60_001, "at most 60000 ms"),
    ] {
        let refusal = measure(&mut scene, "eu", &[(to, ms)]).unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidRequest);
        assert!(refusal.to_string().contains(words), "{refusal}");
    }
    assert_eq!(ms(&scene, "eu", "us"), Some(80), "what is refused changes nothing");
    scene.apply(Body::Regions(RegionOrder::Delete { region: code("us") })).unwrap();
    make(&mut scene, "us").unwrap();
    assert_eq!((ms(&scene, "eu", "us"), ms(&scene, "us", "eu")), (None, None));
    assert_eq!(ms(&scene, "eu", "ap"), Some(150));
    measure(&mut scene, "eu", &[]).unwrap();
    assert_eq!(ms(&scene, "eu", "ap"), None);
    assert_eq!(scene.replay().state_hash().unwrap(), scene.fleet.state_hash().unwrap());
}

#[test]
fn a_prober_of_latencies_pushes_no_events_out() {
    let mut scene = Scene::new();
    for region in ["eu", "us"] {
        make(&mut scene, region).unwrap();
    }
    let count = |scene: &Scene| scene.fleet.events_after(Revision(0), None).count();
    let before = count(&scene);
    measure(&mut scene, "eu", &[("us", 80)]).unwrap();
    measure(&mut scene, "eu", &[("us", 81)]).unwrap();
    assert_eq!(count(&scene), before);
    assert_eq!(scene.fleet.latency_ms(&code("eu"), &code("us")), Some(81));
}

#[test]
fn a_word_of_the_api_is_no_region() {
    let mut scene = Scene::new();
    assert_eq!(make(&mut scene, "route").unwrap_err().code(), Code::Conflict);
}
