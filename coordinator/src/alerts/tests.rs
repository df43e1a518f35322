//! What holds, and when it becomes an alert: with a fleet and a clock that the tests hold.

use std::collections::BTreeMap;
use std::time::Duration;

use novacron_protocol::alert::{AlertKey, AlertKind, AlertObject, Condition};
use novacron_protocol::api::{
    AlertState, ClusterStatus, MemberReport, MemberRole, MemberStatus, MemberView, Severity,
};
use novacron_protocol::effect::{ObservedState, SourceResult};
use novacron_protocol::ids::{AlertId, ClusterId, Incarnation, MemberId, ProjectName};
use novacron_protocol::node::NodeState;
use novacron_protocol::project::{Quota, Quotas};
use proptest::prelude::*;
use uuid::Uuid;

use super::conditions::{CONDITIONS_MAX, DAY_MS, Finding, Outlook, conditions};
use super::gathering::SINGLE_MAX;
use super::holding::{AlertPatience, Holding};
use crate::state::alert::retention::OBSERVED_MAX;
use crate::state::alert::{Alert, AlertOrder, Observed, Raise, Stage};
use crate::state::project::{ProjectEdit, ProjectOrder};
use crate::state::region::RegionOrder;
use crate::state::testing::{Scene, name, spec_in};
use crate::state::{Accepted, Body};

const PATIENCE: AlertPatience =
    AlertPatience { fire_after: Duration::from_secs(15), resolve_after: Duration::from_secs(60) };

const BACKUP_OVERDUE_MS: u64 = 7 * DAY_MS;

/// A fleet, and the leader that looks at it.
struct World {
    scene: Scene,
    holding: Holding,
    at: Duration,
    members: Option<ClusterStatus>,
    costs: Option<BTreeMap<ProjectName, i64>>,
}

impl World {
    fn new() -> Self {
        let (scene, holding) = (Scene::new(), Holding::default());
        Self { scene, holding, at: Duration::ZERO, members: None, costs: None }
    }

    fn outlook(&self) -> Outlook<'_> {
        Outlook {
            fleet: &self.scene.fleet,
            now: self.scene.now,
            members: self.members.as_ref(),
            costs: self.costs.as_ref(),
            backup_overdue_ms: Some(BACKUP_OVERDUE_MS),
        }
    }

    fn found(&self) -> BTreeMap<AlertKey, Finding> {
        conditions(&self.outlook()).alerts
    }

    /// One look of the leader; what it saw is noted.
    fn look(&mut self) -> Observed {
        let mut number = self.scene.id().as_u128() << 32;
        let outlook = Outlook {
            fleet: &self.scene.fleet,
            now: self.scene.now,
            members: self.members.as_ref(),
            costs: self.costs.as_ref(),
            backup_overdue_ms: Some(BACKUP_OVERDUE_MS),
        };
        let observed = self.holding.step(self.at, &PATIENCE, &outlook, || {
            number += 1;
            AlertId(Uuid::from_u128(number))
        });
        let order = AlertOrder::Observe(observed.clone());
        self.scene.apply(Body::Alerts(order)).unwrap();
        observed
    }

    /// Looks every second.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.at += Duration::from_secs(1);
            self.scene.now = self.scene.now.plus_ms(1000);
            self.look();
        }
    }

    /// Another member leads.
    fn change_leaders(&mut self) {
        (self.holding, self.at) = (Holding::default(), Duration::ZERO);
    }

    fn open(&self) -> Vec<&Alert> {
        self.scene.fleet.open_alerts().collect()
    }

    fn only(&self) -> &Alert {
        let open = self.open();
        assert_eq!(open.len(), 1, "{open:?}");
        open[0]
    }
}

fn keys(found: &BTreeMap<AlertKey, Finding>) -> Vec<String> {
    found.keys().map(ToString::to_string).collect()
}

#[test]
fn a_silent_host_fires_after_a_while_gets_worse_and_is_over_after_a_while() {
    let mut world = World::new();
    world.scene.join("node-01", 16);
    world.pass(30);
    assert!(world.open().is_empty());
    world.scene.set_node("node-01", NodeState::Suspect);
    world.pass(15);
    assert!(world.open().is_empty(), "it is silent for less than the while");
    world.pass(1);
    let alert = world.only().clone();
    assert_eq!(alert.key.to_string(), "node-unreachable/node/node-01");
    assert_eq!((alert.severity, alert.raises), (Severity::Warning, 1));
    world.scene.set_node("node-01", NodeState::Down);
    world.pass(1);
    let worse = world.only();
    assert_eq!((worse.id, worse.severity, worse.raises), (alert.id, Severity::Critical, 2));
    world.scene.set_node("node-01", NodeState::Ready);
    world.pass(60);
    assert_eq!(world.only().id, alert.id);
    world.pass(1);
    assert!(world.open().is_empty());
    let row = world.scene.fleet.alert(alert.id).unwrap();
    assert_eq!((row.stage.state(), row.raises), (AlertState::Resolved, 2));
}

#[test]
fn what_comes_and_goes_fires_never_or_once() {
    let mut world = World::new();
    world.scene.join("node-01", 16);
    let flap = |world: &mut World, bad_s, good_s| {
        for _ in 0..10 {
            world.scene.set_node("node-01", NodeState::Suspect);
            world.pass(bad_s);
            world.scene.set_node("node-01", NodeState::Ready);
            world.pass(good_s);
        }
    };
    flap(&mut world, 14, 1);
    assert!(world.open().is_empty());
    flap(&mut world, 20, 30);
    assert_eq!((world.only().raises, world.scene.fleet.alerts_after(None).count()), (1, 1));
}

#[test]
fn many_hosts_of_a_region_are_one_alert_in_one_command() {
    let mut world = World::new();
    let region = |code: &str| code.parse().unwrap();
    for code in ["eu", "us"] {
        let create = RegionOrder::Create {
            region: region(code),
            name: String::new(),
            certifications: Default::default(),
            rules: Default::default(),
        };
        world.scene.apply(Body::Regions(create)).unwrap();
    }
    for number in 0..=SINGLE_MAX {
        for code in ["eu", "us"] {
            let node = format!("{code}-{number}");
            world.scene.join(&node, 16);
            let order = RegionOrder::Assign { node: name(&node), region: Some(region(code)) };
            world.scene.apply(Body::Regions(order)).unwrap();
        }
    }
    for number in 0..SINGLE_MAX {
        world.scene.set_node(&format!("eu-{number}"), NodeState::Down);
        world.scene.set_node(&format!("us-{number}"), NodeState::Down);
    }
    assert_eq!(world.found().len(), 2 * SINGLE_MAX);
    world.scene.set_node("eu-10", NodeState::Suspect);
    let found = world.found();
    assert_eq!(found.len(), SINGLE_MAX + 1);
    let key = AlertKey::of(Condition::NodesUnreachable, AlertObject::Region(region("eu")));
    assert_eq!(found[&key].severity, Severity::Critical);
    assert_eq!(found[&key].summary, "11 hosts do not answer, in region eu");
    world.look();
    world.at += PATIENCE.fire_after;
    let observed = world.look();
    assert_eq!(observed.raises.len(), SINGLE_MAX + 1);
    let of_region = |code| {
        let own = world.open().into_iter();
        own.filter(|alert| alert.region == Some(region(code))).count()
    };
    assert_eq!((of_region("eu"), of_region("us")), (1, SINGLE_MAX));
}

#[test]
fn alerts_that_become_one_say_so() {
    let mut world = World::new();
    let nodes: Vec<_> = (0..=SINGLE_MAX).map(|number| format!("n-{number:02}")).collect();
    nodes.iter().for_each(|node| world.scene.join(node, 16));
    nodes[1..].iter().for_each(|node| world.scene.set_node(node, NodeState::Down));
    world.pass(16);
    let one = world.open()[0].id;
    assert_eq!(world.open().len(), SINGLE_MAX);
    world.scene.set_node(&nodes[0], NodeState::Down);
    world.pass(61);
    assert_eq!(world.only().key.to_string(), "nodes-unreachable/cluster");
    let Stage::Resolved { resolution, .. } = &world.scene.fleet.alert(one).unwrap().stage else {
        panic!("it is open")
    };
    assert_eq!(resolution.note, "there are many: one alert tells of them together");
}

#[test]
fn a_whole_fleet_that_is_down_is_one_alert() {
    let mut world = World::new();
    let nodes: Vec<_> = (0..200).map(|number| format!("n-{number}")).collect();
    nodes.iter().for_each(|node| world.scene.join(node, 16));
    let down = nodes.iter().map(|node| (name(node), NodeState::Down)).collect();
    world.scene.apply(Body::SetNodeStates(down)).unwrap();
    let found = world.found();
    assert_eq!(keys(&found), ["nodes-unreachable/cluster"]);
    assert_eq!(
        found.into_values().next().unwrap().summary,
        "200 hosts do not answer, in no region"
    );
}

#[test]
fn more_than_have_room_are_counted_and_the_worst_stay() {
    let mut world = World::new();
    let mut costs = BTreeMap::new();
    for number in 0..CONDITIONS_MAX + 20 {
        let project = world.scene.make_project(&format!("p-{number}"), Quotas::default());
        let micro_dollars_per_month = Some(10);
        let set = ProjectOrder::SetBudget { project: project.clone(), micro_dollars_per_month };
        world.scene.apply(Body::Projects(set)).unwrap();
        costs.insert(project, 9);
    }
    world.costs = Some(costs);
    world.scene.join("node-01", 1);
    world.scene.set_node("node-01", NodeState::Down);
    let found = world.found();
    assert_eq!(found.len(), CONDITIONS_MAX);
    let more = AlertKey::of(Condition::MoreConditions, AlertObject::Cluster);
    assert_eq!(found[&more].summary, "22 more things are wrong than have an alert each");
    let node = AlertObject::Node(name("node-01"));
    assert!(found.contains_key(&AlertKey::of(Condition::NodeUnreachable, node)));
    // So many are noted in parts.
    world.look();
    world.at += PATIENCE.fire_after;
    assert_eq!(world.look().raises.len(), OBSERVED_MAX);
    while world.look() != Observed::default() {}
    assert_eq!(world.open().len(), CONDITIONS_MAX);
}

#[test]
fn machines_that_failed_and_quotas_are_seen_in_their_projects() {
    let mut world = World::new();
    world.scene.join("node-01", 64);
    let quotas = Quotas { vms: Some(10), cpus: Some(100), ..Quotas::default() };
    let own = world.scene.make_project("own", quotas);
    let mut create = |number: usize| {
        let spec = spec_in(&own, &format!("vm-{number}"));
        let body = world.scene.create_body(spec, Some("node-01"), true);
        match world.scene.apply(body) {
            Ok(Accepted::Vm(vm)) => vm,
            other => panic!("{other:?}"),
        }
    };
    let vms: Vec<_> = (0..7).map(&mut create).collect();
    for _ in 0..2 {
        world.scene.settle_all("node-01");
    }
    assert_eq!(keys(&world.found()), [""; 0]);
    world.scene.observe("node-01", vms[0], 1, ObservedState::Failed);
    let found = world.found();
    assert_eq!(keys(&found), [format!("vm-failed/vm/{}", vms[0])]);
    world.pass(16);
    assert_eq!(world.only().project, Some(own.clone()));
}

#[test]
fn a_quota_is_near_from_four_fifths_on_and_reached_at_its_limit() {
    let mut world = World::new();
    let own = world.scene.make_project("own", Quotas { vms: Some(10), ..Quotas::default() });
    let mut severities = Vec::new();
    for number in 0..10 {
        let body = world.scene.create_body(spec_in(&own, &format!("vm-{number}")), None, false);
        world.scene.apply(body).unwrap();
        let found = world.found();
        severities.extend(found.values().map(|one| one.severity));
    }
    assert_eq!(severities, [Severity::Info, Severity::Info, Severity::Warning]);
    let found = world.found();
    assert_eq!(keys(&found), ["quota-vms/project/own"]);
    assert_eq!(found.values().next().unwrap().summary, "project own uses 10 of 10 vms");
}

#[test]
fn a_quota_that_is_reached_again_and_again_is_told_once() {
    let mut world = World::new();
    let own = world.scene.make_project("own", Quotas { vms: Some(10), ..Quotas::default() });
    let limit = |world: &mut World, vms| {
        let quotas = vec![(Quota::Vms, Some(vms))];
        let edit = ProjectEdit { quotas, ..ProjectEdit::default() };
        world
            .scene
            .apply(Body::Projects(ProjectOrder::Change { project: own.clone(), edit }))
            .unwrap();
        world.pass(30);
    };
    for number in 0..10 {
        let body = world.scene.create_body(spec_in(&own, &format!("vm-{number}")), None, false);
        world.scene.apply(body).unwrap();
    }
    world.pass(30);
    for _ in 0..5 {
        limit(&mut world, 11);
        limit(&mut world, 10);
    }
    assert_eq!((world.only().severity, world.only().raises), (Severity::Warning, 1));
    limit(&mut world, 11);
    world.pass(600);
    assert_eq!(world.only().severity, Severity::Info, "it is better for a while");
}

#[test]
fn a_backup_is_overdue_after_a_week_without_one_and_not_while_nobody_counts() {
    let mut world = World::new();
    world.scene.now = world.scene.now.plus_ms(100 * DAY_MS);
    assert_eq!(keys(&world.found()), [""; 0], "there is no cluster yet");
    world.scene.found();
    let later = |world: &mut World, ms| {
        world.scene.now = world.scene.now.plus_ms(ms);
        world.found().into_values().map(|found| found.summary).collect::<Vec<_>>()
    };
    assert_eq!(later(&mut world, BACKUP_OVERDUE_MS - 1), [""; 0]);
    assert_eq!(later(&mut world, 1), ["no backup was begun in 7 days"]);
    assert_eq!(keys(&world.found()), ["backup-overdue/cluster"]);
    world.pass(16);
    assert_eq!(world.only().severity, Severity::Warning);
    world.scene.apply(Body::TakeBackup).unwrap();
    assert_eq!(later(&mut world, BACKUP_OVERDUE_MS - 1), [""; 0]);
    world.pass(62);
    assert_eq!(world.open().len(), 1, "it is over, and overdue again meanwhile");
    assert_eq!(later(&mut world, DAY_MS), ["the last backup was begun 8 days ago"]);
    let outlook = Outlook { backup_overdue_ms: None, ..world.outlook() };
    assert!(conditions(&outlook).alerts.is_empty(), "the configuration says so");
}

#[test]
fn a_budget_is_compared_with_what_the_month_costs() {
    let mut world = World::new();
    let project = ProjectName::default();
    let set = ProjectOrder::SetBudget {
        project: project.clone(),
        micro_dollars_per_month: Some(10_000_000),
    };
    world.scene.apply(Body::Projects(set)).unwrap();
    let mut severity = |cost: i64| {
        world.costs = Some(BTreeMap::from([(project.clone(), cost)]));
        world.found().into_values().next()
    };
    assert_eq!((severity(-5), severity(7_999_999)), (None, None));
    let near = severity(8_000_000).unwrap();
    assert_eq!(near.severity, Severity::Warning);
    assert_eq!(near.summary, "project default has cost $8.00 this month, of a budget of $10.00");
    assert_eq!(severity(10_000_000).unwrap().severity, Severity::Critical);
    world.pass(16);
    let alert = world.only().id;
    // As long as nobody knows what it costs, it is not over.
    world.costs = None;
    world.pass(100);
    assert_eq!(world.only().id, alert);
    world.costs = Some(BTreeMap::new());
    world.pass(62);
    assert!(world.open().is_empty());
}

fn member(id: u64, report: Option<MemberReport>, lag_entries: Option<u64>) -> MemberStatus {
    let (name, address) = (format!("c{id}"), String::new());
    let member = MemberView {
        id: MemberId(id),
        name,
        peer_address: address.clone(),
        api_address: address,
        role: MemberRole::Voter,
    };
    let problem = report.is_none().then(|| "no answer in time".to_owned());
    MemberStatus { member, reachable: report.is_some(), problem, lag_entries, report }
}

fn report(disk_free_bytes: u64, alerts: &[&str]) -> MemberReport {
    MemberReport {
        version: String::new(),
        formats_oldest: 1,
        formats_newest: 1,
        term: 1,
        log_last: 1,
        applied: 1,
        snapshot: 0,
        archive_missing: 0,
        archive_wanted: Some(0),
        archive_files: Some(0),
        disk_bytes: Some(1000),
        disk_free_bytes: Some(disk_free_bytes),
        alerts: alerts.iter().map(ToString::to_string).collect(),
    }
}

fn status(members: Vec<MemberStatus>, tolerates_a_loss: bool) -> ClusterStatus {
    ClusterStatus {
        cluster: ClusterId(Uuid::nil()),
        incarnation: Incarnation(1),
        formats: 2,
        leader: None,
        tolerates_a_loss,
        members,
    }
}

#[test]
fn coordinators_are_judged_by_what_they_say() {
    let mut world = World::new();
    world.scene.found();
    let well = || member(1, Some(report(100, &[])), Some(0));
    world.members = Some(status(vec![well()], false));
    assert_eq!(keys(&world.found()), [""; 0], "one alone tolerates no loss, and that is known");
    let members = vec![
        well(),
        member(2, None, None),
        member(3, Some(report(99, &["the clock is off"])), Some(10_001)),
    ];
    world.members = Some(status(members, false));
    let found = world.found();
    let expected = [
        "member-unreachable/member/2",
        "member-unfit/member/3",
        "member-behind/member/3",
        "member-disk-low/member/3",
        "no-spare-member/cluster",
    ];
    assert_eq!(keys(&found), expected);
    let unfit = AlertKey::of(Condition::MemberUnfit, AlertObject::Member(MemberId(3)));
    assert_eq!(found[&unfit].summary, "coordinator c3: the clock is off");
    // Of those the fleet knows member 1 only: what it does not know has no alert.
    world.pass(16);
    assert_eq!(world.only().key.to_string(), "no-spare-member/cluster");
    world.members = None;
    world.pass(100);
    assert_eq!(world.open().len(), 1, "what cannot be seen is not over");
    world.members = Some(status(vec![well()], false));
    world.pass(62);
    assert!(world.open().is_empty());
}

#[test]
fn a_migration_that_failed_fires_once_and_one_that_stands_still_as_long_as_it_does() {
    let mut world = World::new();
    world.scene.join("node-01", 16);
    world.scene.join("node-02", 16);
    let vm = world.scene.running("web", "node-01");
    let migration = world.scene.sending(vm, "node-02");
    world.pass(60);
    assert!(world.open().is_empty());
    world.scene.now = world.scene.now.plus_ms(600_000);
    world.pass(16);
    assert_eq!(world.only().key.to_string(), format!("migration-stalled/migration/{migration}"));
    let failed = SourceResult::Failed { reason: "the link broke".to_owned() };
    world.scene.source_ends(migration, failed);
    world.pass(62);
    let alert = world.only().clone();
    assert_eq!(alert.key.to_string(), format!("migration-failed/migration/{migration}"));
    assert!(alert.summary.ends_with("failed: the link broke"), "{}", alert.summary);
    let note = "seen".to_owned();
    world.scene.apply(Body::Alerts(AlertOrder::Resolve { alert: alert.id, note })).unwrap();
    world.pass(100);
    assert!(world.open().is_empty(), "it happened once, and somebody has seen it");
}

#[test]
fn a_client_s_alert_is_over_when_what_it_is_about_is_gone() {
    let mut world = World::new();
    world.scene.join("node-01", 16);
    let vm = world.scene.running("web", "node-01");
    let kind = AlertKind::Named("slow".parse().unwrap());
    let key = AlertKey { kind, object: AlertObject::Vm(vm) };
    let raise =
        Raise { id: AlertId(Uuid::max()), key, severity: Severity::Info, summary: "s".into() };
    world.scene.apply(Body::Alerts(AlertOrder::Raise(raise))).unwrap();
    world.pass(100);
    assert_eq!(world.open().len(), 1);
    world.scene.apply(Body::DestroyVm { vm }).unwrap();
    world.scene.settle_all("node-01");
    world.pass(62);
    assert!(world.open().is_empty());
}

proptest! {
    /// Whatever hosts do and whoever leads: one alert at most, there if the host has been silent for long enough, and not
    /// there if it has answered for long enough.
    #[test]
    fn a_change_of_leaders_doubles_and_loses_nothing(
        steps in prop::collection::vec((0..3_u8, 1..40_u64), 1..20),
        bad in any::<bool>(),
    ) {
        let mut world = World::new();
        world.scene.join("node-01", 16);
        for (what, seconds) in steps {
            match what {
                0 => world.scene.set_node("node-01", NodeState::Down),
                1 => world.scene.set_node("node-01", NodeState::Ready),
                _ => world.change_leaders(),
            }
            world.pass(seconds);
            prop_assert!(world.open().len() <= 1);
        }
        let state = if bad { NodeState::Down } else { NodeState::Ready };
        world.scene.set_node("node-01", state);
        let before: Vec<AlertId> = world.open().iter().map(|alert| alert.id).collect();
        world.change_leaders();
        world.pass(62);
        let after: Vec<AlertId> = world.open().iter().map(|alert| alert.id).collect();
        prop_assert_eq!(after.len(), usize::from(bad));
        prop_assert!(!bad || before.is_empty() || before == after);
    }
}
