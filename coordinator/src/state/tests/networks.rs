//! Networks: a machine gets the bridge of its network, nothing that it needs is taken away, and it goes where hosts have it.

use std::collections::{BTreeMap, BTreeSet};

use novacron_protocol::access::{AccessRole, BindingEffect, Scope};
use novacron_protocol::api::Code;
use novacron_protocol::effect::Action;
use novacron_protocol::ids::{MigrationId, NetworkName, ProjectName, RequestId, VmId};
use novacron_protocol::limits::NETWORKS_MAX;
use novacron_protocol::migration::{MigrationMode, MigrationOptions, MigrationStatus};
use novacron_protocol::network::NetworkUsers;
use novacron_protocol::project::Quotas;
use novacron_protocol::region::ResidencyRules;
use novacron_protocol::vm::{Network, VmState};
use proptest::prelude::*;

use crate::outbox::reconcile;
use crate::planner::{Rooms, Standing};
use crate::state::binding::Right;
use crate::state::network::{NetworkEdit, NetworkOrder};
use crate::state::project::ProjectOrder;
use crate::state::region::RegionOrder;
use crate::state::testing::{Scene, name, spec_in};
use crate::state::{Accepted, Body, Refusal, Reply};

fn network(text: &str) -> NetworkName {
    text.parse().unwrap()
}

fn all<T: std::str::FromStr<Err: std::fmt::Debug> + Ord>(texts: &[&str]) -> BTreeSet<T> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn only(projects: &[&str]) -> NetworkUsers {
    NetworkUsers::Projects(all(projects))
}

fn make(scene: &mut Scene, text: &str, users: NetworkUsers, regions: &[&str]) -> Reply {
    scene.apply(Body::Networks(NetworkOrder::Create {
        network: network(text),
        description: String::new(),
        bridge: "br0".to_owned(),
        users,
        regions: all(regions),
    }))
}

fn change(scene: &mut Scene, text: &str, edit: NetworkEdit) -> Reply {
    scene.apply(Body::Networks(NetworkOrder::Change { network: network(text), edit }))
}

fn change_bridge(scene: &mut Scene, text: &str, bridge: &str) -> Reply {
    let bridge = Some(bridge.to_owned());
    change(scene, text, NetworkEdit { bridge, ..NetworkEdit::default() })
}

fn change_users(scene: &mut Scene, text: &str, users: NetworkUsers) -> Reply {
    change(scene, text, NetworkEdit { users: Some(users), ..NetworkEdit::default() })
}

fn change_regions(scene: &mut Scene, text: &str, regions: &[&str]) -> Reply {
    change(scene, text, NetworkEdit { regions: Some(all(regions)), ..NetworkEdit::default() })
}

fn delete(scene: &mut Scene, text: &str) -> Reply {
    scene.apply(Body::Networks(NetworkOrder::Delete { network: network(text) }))
}

/// A host in `eu`, one in `us`, one in `eu` again, and a project `bank`.
fn scene() -> (Scene, ProjectName) {
    let mut scene = Scene::new();
    for region in ["eu", "us"] {
        scene
            .apply(Body::Regions(RegionOrder::Create {
                region: region.parse().unwrap(),
                name: String::new(),
                certifications: BTreeSet::new(),
                rules: ResidencyRules::default(),
            }))
            .unwrap();
    }
    for (node, region) in [("eu-1", "eu"), ("us-1", "us"), ("eu-2", "eu")] {
        scene.join(node, 16);
        assign(&mut scene, node, Some(region));
    }
    let bank = scene.make_project("bank", Quotas::default());
    (scene, bank)
}

fn assign(scene: &mut Scene, node: &str, region: Option<&str>) {
    let region = region.map(|region| region.parse().unwrap());
    scene.apply(Body::Regions(RegionOrder::Assign { node: name(node), region })).unwrap();
}

fn create(
    scene: &mut Scene,
    project: &ProjectName,
    vm: &str,
    network: &str,
    node: Option<&str>,
) -> Result<VmId, Refusal> {
    let body = scene.create_in_body(spec_in(project, vm), network, node);
    match scene.apply(body)? {
        Accepted::Vm(vm) => Ok(vm),
        other => panic!("{other:?}"),
    }
}

fn running(scene: &mut Scene, project: &ProjectName, vm: &str, network: &str, node: &str) -> VmId {
    let vm = create(scene, project, vm, network, Some(node)).unwrap();
    scene.settle_all(node);
    scene.settle_all(node);
    assert_eq!(scene.state(vm), VmState::Running);
    vm
}

fn destroy(scene: &mut Scene, vm: VmId, node: &str) {
    scene.apply(Body::DestroyVm { vm }).unwrap();
    scene.settle_all(node);
    assert_eq!(scene.state(vm), VmState::Deleted);
}

fn bridge(text: &str) -> Network {
    Network::Bridge { bridge: text.to_owned() }
}

#[test]
fn a_machine_gets_the_bridge_that_its_network_has_when_it_is_made() {
    let (mut scene, bank) = scene();
    make(&mut scene, "office", NetworkUsers::All, &[]).unwrap();
    change_bridge(&mut scene, "office", "br7").unwrap();
    let vm = create(&mut scene, &bank, "web", "office", Some("eu-1")).unwrap();
    let effect = scene.effect("eu-1", |action| matches!(action, Action::Create { .. }));
    let Action::Create { spec } = effect.action else { panic!("not created") };
    assert_eq!((&spec.network, &scene.vm(vm).spec.network), (&bridge("br7"), &bridge("br7")));
    assert_eq!(scene.fleet.network_of(vm), Some(&network("office")));
    assert_eq!(scene.fleet.machines_in(&network("office"), |project| *project == bank), 1);
    assert_eq!(scene.fleet.machines_in(&network("office"), |project| *project != bank), 0);
}

#[test]
fn a_network_that_is_not_for_the_project_is_none() {
    let (mut scene, bank) = scene();
    make(&mut scene, "shared", NetworkUsers::All, &[]).unwrap();
    make(&mut scene, "vault", only(&["bank"]), &[]).unwrap();
    make(&mut scene, "nobody", only(&[]), &[]).unwrap();
    let default = ProjectName::default();
    for text in ["vault", "nobody", "moon"] {
        let refusal = create(&mut scene, &default, "web", text, None).unwrap_err();
        let words =
            format!("there is no network `{text}` for project `default`; there is `shared`");
        assert_eq!((refusal.code(), refusal.to_string()), (Code::InvalidRequest, words));
        assert_eq!(refusal.field(), Some("network.named"));
    }
    assert_eq!(scene.fleet.vms().count(), 0);
    create(&mut scene, &bank, "web", "vault", None).unwrap();
    let gone = create(&mut scene, &"gone".parse().unwrap(), "web", "vault", None).unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
}

#[test]
fn what_a_machine_needs_of_its_network_is_not_taken_away() {
    let (mut scene, bank) = scene();
    make(&mut scene, "office", NetworkUsers::All, &[]).unwrap();
    let default = ProjectName::default();
    let web = running(&mut scene, &bank, "web", "office", "eu-1");
    let desk = running(&mut scene, &default, "desk", "office", "eu-1");
    let refusal = delete(&mut scene, "office").unwrap_err();
    assert_eq!(refusal.code(), Code::Conflict);
    let words = "network `office` is in use by machine `web`, `desk`: destroy them before";
    assert_eq!(refusal.to_string(), words);
    let refusal = change_bridge(&mut scene, "office", "br1").unwrap_err().to_string();
    assert!(refusal.contains("the bridge of network `office` is in use by machine"), "{refusal}");
    let refusal = change_users(&mut scene, "office", only(&["bank"])).unwrap_err().to_string();
    assert!(refusal.contains("in use by machine `desk` of project `default`"), "{refusal}");
    // What is the same, and what takes nothing away, is no matter.
    change_bridge(&mut scene, "office", "br0").unwrap();
    change_users(&mut scene, "office", only(&["bank", "default"])).unwrap();
    destroy(&mut scene, desk, "eu-1");
    change_users(&mut scene, "office", only(&["bank"])).unwrap();
    destroy(&mut scene, web, "eu-1");
    change_bridge(&mut scene, "office", "br1").unwrap();
    delete(&mut scene, "office").unwrap();
    assert_eq!(delete(&mut scene, "office").unwrap_err().code(), Code::NotFound);
    // The name is free again for a network that is a new one.
    make(&mut scene, "office", only(&[]), &[]).unwrap();
    assert_eq!(scene.fleet.network_of(web), None);
}

#[test]
fn a_machine_is_placed_and_moved_only_where_hosts_have_its_network() {
    let (mut scene, bank) = scene();
    make(&mut scene, "office", NetworkUsers::All, &["eu"]).unwrap();
    // The host elsewhere has more room.
    scene.join("us-2", 64);
    assign(&mut scene, "us-2", Some("us"));
    let vm = create(&mut scene, &bank, "web", "office", None).unwrap();
    assert_eq!(scene.vm(vm).node, Some(name("eu-1")));
    let refusal = create(&mut scene, &bank, "there", "office", Some("us-1")).unwrap_err();
    assert_eq!(refusal.code(), Code::ResidencyRule);
    let words = "node `us-1` cannot take the machine: network `office` is only in region `eu`, and it stands in `us`";
    assert_eq!(refusal.to_string(), words);
    scene.settle_all("eu-1");
    scene.settle_all("eu-1");
    for mode in [MigrationMode::Live, MigrationMode::Warm] {
        let refusal = scene.migrate(vm, "us-1", mode).unwrap_err();
        assert_eq!(refusal.code(), Code::ResidencyRule, "{refusal}");
    }
    let options = MigrationOptions::default();
    scene.apply(Body::DrainNode { node: name("eu-1"), options }).unwrap();
    let (migration, target) = (MigrationId(scene.id()), name("us-1"));
    let refusal = scene.apply(Body::DrainVm { migration, vm, target }).unwrap_err();
    assert_eq!(refusal.code(), Code::ResidencyRule);
    let standing = |scene: &Scene| {
        let drain = scene.fleet.drain(&name("eu-1")).unwrap();
        Rooms::of(&scene.fleet).standings(drain, scene.now).next().unwrap().1
    };
    assert_eq!(standing(&scene), Standing::Ready(name("eu-2")));
    assign(&mut scene, "eu-2", None);
    let Standing::Blocked { reason } = standing(&scene) else { panic!("it could move") };
    assert!(reason.contains("us-1: network `office` is only in region `eu`"), "{reason}");
    scene.apply(Body::UndrainNode { node: name("eu-1"), cancel: true }).unwrap();
    scene.apply(Body::StopVm { vm, force: true }).unwrap();
    scene.settle_all("eu-1");
    let refusal = scene.migrate(vm, "us-1", MigrationMode::Cold).unwrap_err();
    assert_eq!(refusal.code(), Code::ResidencyRule);
}

#[test]
fn what_waits_is_placed_when_hosts_have_its_network() {
    let (mut scene, bank) = scene();
    let region = "mars".parse().unwrap();
    let (name_of, certifications) = (String::new(), BTreeSet::new());
    let rules = ResidencyRules::default();
    let order = RegionOrder::Create { region, name: name_of, certifications, rules };
    scene.apply(Body::Regions(order)).unwrap();
    make(&mut scene, "office", NetworkUsers::All, &["mars"]).unwrap();
    let vm = create(&mut scene, &bank, "web", "office", None).unwrap();
    assert_eq!(scene.state(vm), VmState::Pending);
    let reason = &scene.vm(vm).reason;
    assert!(reason.contains("network `office` is only in region `mars`"), "{reason}");
    let due = |scene: &Scene| reconcile::due(&scene.fleet, scene.now, || unreachable!());
    assert!(due(&scene).is_empty());
    assign(&mut scene, "us-1", Some("mars"));
    for body in due(&scene) {
        scene.apply(body).unwrap();
    }
    assert_eq!(scene.vm(vm).node, Some(name("us-1")));
}

#[test]
fn a_network_that_leaves_a_region_gives_up_migrations_and_lists_who_stands_there() {
    let (mut scene, bank) = scene();
    make(&mut scene, "office", NetworkUsers::All, &[]).unwrap();
    let stays = running(&mut scene, &bank, "stays", "office", "us-1");
    let goes = running(&mut scene, &bank, "goes", "office", "eu-1");
    let migration = scene.migrate(goes, "us-1", MigrationMode::Live).unwrap();
    change_regions(&mut scene, "office", &["eu"]).unwrap();
    assert_eq!(scene.migration(migration).status(), MigrationStatus::Failed);
    let listed =
        |scene: &Scene| Vec::from_iter(scene.fleet.violations_after(None).map(|(vm, _)| vm.id));
    assert_eq!(listed(&scene), [stays]);
    let reason = scene.fleet.rule_broken_by(scene.vm(stays)).unwrap().to_string();
    assert_eq!(reason, "network `office` is only in region `eu`, and it stands in `us`");
    change_regions(&mut scene, "office", &["eu", "us"]).unwrap();
    assert!(listed(&scene).is_empty());
    let region = "us".parse().unwrap();
    let refusal = scene.apply(Body::Regions(RegionOrder::Delete { region })).unwrap_err();
    assert_eq!(refusal.code(), Code::Conflict);
    for node in ["us-1", "eu-1", "eu-2"] {
        assign(&mut scene, node, None);
    }
    let region = "us".parse().unwrap();
    let refusal = scene.apply(Body::Regions(RegionOrder::Delete { region })).unwrap_err();
    assert!(refusal.to_string().ends_with("hosts in it have network `office`"), "{refusal}");
}

#[test]
fn a_bridge_by_its_name_is_for_who_makes_machines_in_the_whole_fleet() {
    let (mut scene, bank) = scene();
    scene.found();
    make(&mut scene, "office", only(&["bank"]), &[]).unwrap();
    let [tenant, operator] = ["tenant", "runner"].map(|one| scene.operator(one));
    let role = || Right::Role(AccessRole::Operator);
    scene.bind(&tenant, role(), Scope::Project(bank.clone()), BindingEffect::Allow).unwrap();
    scene.bind(&operator, role(), Scope::Fleet, BindingEffect::Allow).unwrap();
    let mut spec = spec_in(&bank, "web");
    spec.network = bridge("br-storage");
    let body = scene.create_body(spec.clone(), None, true);
    let refusal = scene.ask(&tenant, body).unwrap_err();
    assert_eq!(refusal.code(), Code::NotAllowed);
    let words = "name a network; for project `bank` there is `office`";
    assert!(refusal.to_string().ends_with(words), "{refusal}");
    let body = scene.create_in_body(spec_in(&bank, "named"), "office", None);
    scene.ask(&tenant, body).unwrap();
    let body = scene.create_body(spec, None, true);
    scene.ask(&operator, body).unwrap();
    let order = NetworkOrder::Delete { network: network("office") };
    for asker in [&tenant, &operator] {
        let refusal = scene.ask(asker, Body::Networks(order.clone())).unwrap_err();
        assert_eq!(refusal.code(), Code::NotAllowed);
    }
}

#[test]
fn a_project_of_the_same_name_inherits_no_network() {
    let (mut scene, bank) = scene();
    make(&mut scene, "vault", only(&["bank"]), &[]).unwrap();
    let order = ProjectOrder::Delete { project: bank.clone() };
    scene.apply(Body::Projects(order)).unwrap();
    assert_eq!(scene.fleet.network(&network("vault")).unwrap().users, only(&[]));
    scene.make_project("bank", Quotas::default());
    assert!(create(&mut scene, &bank, "web", "vault", None).is_err());
}

#[test]
fn what_cannot_be_a_network_is_named() {
    let (mut scene, _) = scene();
    let field = |reply: Reply| reply.unwrap_err().field().map(str::to_owned);
    assert_eq!(field(make(&mut scene, "user", NetworkUsers::All, &[])).as_deref(), Some("name"));
    let wrong = make(&mut scene, "a", only(&["mars"]), &[]);
    assert_eq!(field(wrong).as_deref(), Some("users.projects"));
    let wrong = make(&mut scene, "a", NetworkUsers::All, &["mars"]);
    assert_eq!(field(wrong).as_deref(), Some("regions"));
    make(&mut scene, "a", NetworkUsers::All, &[]).unwrap();
    let taken = make(&mut scene, "a", NetworkUsers::All, &[]).unwrap_err();
    assert_eq!(taken.to_string(), "there is a network `a` already");
    assert_eq!(field(change_bridge(&mut scene, "a", "a b")).as_deref(), Some("bridge"));
    assert_eq!(change_bridge(&mut scene, "b", "br0").unwrap_err().code(), Code::NotFound);
}

#[test]
fn there_are_so_many_networks_and_no_more() {
    let mut scene = Scene::new();
    for number in 0..NETWORKS_MAX {
        make(&mut scene, &format!("n{number}"), NetworkUsers::All, &[]).unwrap();
    }
    let refusal = make(&mut scene, "more", NetworkUsers::All, &[]).unwrap_err();
    assert_eq!(refusal.code(), Code::NoCapacity);
}

#[test]
fn the_same_request_for_another_network_is_a_mistake() {
    let (mut scene, bank) = scene();
    for text in ["a", "b"] {
        make(&mut scene, text, NetworkUsers::All, &[]).unwrap();
    }
    let request = RequestId(scene.id());
    let [first, again, other] =
        ["a", "a", "b"].map(|text| scene.create_in_body(spec_in(&bank, "web"), text, None));
    let reply = scene.apply_as(request, first);
    assert!(reply.is_ok());
    assert_eq!(scene.apply_as(request, again), reply);
    assert_eq!(scene.apply_as(request, other), Err(Refusal::RequestReused));
}

const NETWORKS: [&str; 3] = ["red", "green", "blue"];
const PROJECTS: [&str; 3] = ["default", "one", "two"];
const NODES: [&str; 2] = ["eu-1", "us-1"];

/// What was said of a network.
struct Said {
    bridge: String,
    /// `None` is all of them.
    projects: Option<Vec<String>>,
    regions: Vec<String>,
}

/// What the rules say, in other words than the program's.
#[derive(Default)]
struct Book {
    networks: BTreeMap<String, Said>,
    /// Project and network of each machine that is there.
    machines: BTreeMap<VmId, (String, String)>,
}

impl Book {
    fn is_for(&self, network: &str, project: &str) -> bool {
        self.networks.get(network).is_some_and(|said| {
            said.projects.as_ref().is_none_or(|all| all.iter().any(|one| one == project))
        })
    }

    fn users(&self, network: &str) -> Vec<&str> {
        let inside = self.machines.values().filter(|(_, one)| one == network);
        inside.map(|(project, _)| project.as_str()).collect()
    }
}

struct World {
    scene: Scene,
    book: Book,
}

impl World {
    fn new() -> Self {
        let (mut scene, _) = scene();
        for project in &PROJECTS[1..] {
            scene.make_project(project, Quotas::default());
        }
        Self { scene, book: Book::default() }
    }

    /// Takes a step, and says whether it went as the book has it.
    fn step(&mut self, what: u8, one: u8, two: u8) -> Result<(), TestCaseError> {
        let network = NETWORKS[usize::from(one) % 3];
        let project = PROJECTS[usize::from(two) % 3];
        match what % 10 {
            0 | 1 => self.make(network, two)?,
            2 => self.delete(network)?,
            3 => self.change(network, two)?,
            4 | 5 => self.create(network, project, one, two)?,
            6 => self.destroy(one),
            7 => NODES.iter().for_each(|node| self.scene.settle_all(node)),
            8 => self.migrate(one, NODES[usize::from(two) % 2]),
            _ => {
                let region = ["eu", "us"][usize::from(two) % 2];
                assign(&mut self.scene, NODES[usize::from(one) % 2], Some(region));
            }
        }
        Ok(())
    }

    fn users(bits: u8) -> (NetworkUsers, Option<Vec<String>>) {
        let named = PROJECTS.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
        let named = Vec::from_iter(named.map(|(_, project)| (*project).to_owned()));
        match bits % 4 {
            0 => (NetworkUsers::All, None),
            _ => (only(&Vec::from_iter(named.iter().map(String::as_str))), Some(named)),
        }
    }

    fn regions(bits: u8) -> &'static [&'static str] {
        match bits / 8 % 4 {
            0 => &[],
            1 => &["eu"],
            2 => &["us"],
            _ => &["eu", "us"],
        }
    }

    fn make(&mut self, network: &str, bits: u8) -> Result<(), TestCaseError> {
        let (users, named) = Self::users(bits);
        let regions = Self::regions(bits);
        let made = make(&mut self.scene, network, users, regions).is_ok();
        prop_assert_eq!(made, !self.book.networks.contains_key(network));
        if made {
            let regions = regions.iter().map(|region| (*region).to_owned()).collect();
            let said = Said { bridge: "br0".to_owned(), projects: named, regions };
            self.book.networks.insert(network.to_owned(), said);
        }
        Ok(())
    }

    fn delete(&mut self, network: &str) -> Result<(), TestCaseError> {
        let is_free =
            self.book.networks.contains_key(network) && self.book.users(network).is_empty();
        prop_assert_eq!(delete(&mut self.scene, network).is_ok(), is_free);
        if is_free {
            self.book.networks.remove(network);
        }
        Ok(())
    }

    fn change(&mut self, network: &str, bits: u8) -> Result<(), TestCaseError> {
        let (users, named) = Self::users(bits);
        let (regions, bridge) = (Self::regions(bits), format!("br{}", bits / 32 % 2));
        let edit = NetworkEdit {
            description: None,
            bridge: Some(bridge.clone()),
            users: Some(users),
            regions: Some(all(regions)),
        };
        let is_changed = change(&mut self.scene, network, edit).is_ok();
        let used = self.book.users(network);
        let keeps = used
            .iter()
            .all(|project| named.as_ref().is_none_or(|all| all.iter().any(|one| one == project)));
        let may = self
            .book
            .networks
            .get(network)
            .is_some_and(|before| keeps && (used.is_empty() || before.bridge == bridge));
        prop_assert_eq!(is_changed, may);
        if may {
            let regions = regions.iter().map(|region| (*region).to_owned()).collect();
            let said = Said { bridge, projects: named, regions };
            self.book.networks.insert(network.to_owned(), said);
        }
        Ok(())
    }

    fn create(
        &mut self,
        network: &str,
        project: &str,
        one: u8,
        two: u8,
    ) -> Result<(), TestCaseError> {
        let vm_name = format!("vm-{}", one / 3 % 8);
        let is_free = self.scene.fleet.vm_named(&vm_name.parse().unwrap()).is_none();
        let project_name = project.parse().unwrap();
        let node = (two / 3).is_multiple_of(2).then(|| NODES[usize::from(two / 6) % 2]);
        match create(&mut self.scene, &project_name, &vm_name, network, node) {
            Ok(vm) => {
                prop_assert!(is_free && self.book.is_for(network, project));
                self.book.machines.insert(vm, (project.to_owned(), network.to_owned()));
            }
            // Of others, whoever is refused asked for a host.
            Err(_) => {
                let may = is_free && self.book.is_for(network, project);
                prop_assert!(!may || node.is_some());
            }
        }
        Ok(())
    }

    fn vm(&self, number: u8) -> Option<VmId> {
        let all = Vec::from_iter(self.book.machines.keys().copied());
        all.get(usize::from(number) % all.len().max(1)).copied()
    }

    /// Ends the oldest migration under way, and begins another.
    fn migrate(&mut self, number: u8, target: &str) {
        let open = self.scene.fleet.open_migrations().next();
        if let Some((migration, target)) = open.map(|row| (row.id, row.target.to_string())) {
            self.scene.hand_over(&target, migration);
        }
        if let Some(vm) = self.vm(number) {
            let _ = self.scene.migrate(vm, target, MigrationMode::Live);
        }
    }

    fn destroy(&mut self, number: u8) {
        let Some(vm) = self.vm(number) else { return };
        let _ = self.scene.apply(Body::DestroyVm { vm });
    }

    /// Nothing is in a network that is gone, not for it, not on its bridge, or where hosts do not have it.
    fn check(&mut self) -> Result<(), TestCaseError> {
        let fleet = &self.scene.fleet;
        let is_there = |vm: &VmId| fleet.vm(*vm).is_some_and(|vm| vm.state() != VmState::Deleted);
        self.book.machines.retain(|vm, _| is_there(vm));
        let listed: BTreeSet<VmId> = fleet.violations_after(None).map(|(vm, _)| vm.id).collect();
        for (vm, (project, network)) in &self.book.machines {
            prop_assert!(self.book.is_for(network, project), "{} in {}", project, network);
            let said = &self.book.networks[network];
            let row = fleet.vm(*vm).unwrap();
            prop_assert_eq!(&row.spec.network, &bridge(&said.bridge));
            prop_assert_eq!(fleet.network_of(*vm).unwrap().as_str(), network);
            let node = row.node.as_ref().and_then(|node| fleet.node(node));
            let region = node.and_then(|node| node.region.as_ref());
            let is_right = node.is_none()
                || said.regions.is_empty()
                || region
                    .is_some_and(|region| said.regions.iter().any(|one| one == region.as_str()));
            prop_assert_eq!(!is_right, listed.contains(vm), "{} on {:?}", vm, row.node);
        }
        let attached = fleet.vms().filter(|vm| fleet.network_of(vm.id).is_some()).count();
        prop_assert_eq!(attached, self.book.machines.len());
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_machine_is_ever_in_a_network_that_is_gone_or_not_for_its_project(
        steps in proptest::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 1..120),
    ) {
        let mut world = World::new();
        for (what, one, two) in steps {
            world.step(what, one, two)?;
            world.check()?;
        }
        let replayed = world.scene.replay().state_hash().unwrap();
        prop_assert_eq!(replayed, world.scene.fleet.state_hash().unwrap());
    }
}
