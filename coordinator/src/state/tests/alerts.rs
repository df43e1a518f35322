//! Alerts: at most one with a key is open, raises are counted, and what is over is kept for a while.

use std::collections::BTreeMap;

use novacron_protocol::access::{AccessRole, BindingEffect, Scope};
use novacron_protocol::alert::{AlertKey, AlertKind, AlertObject, Condition};
use novacron_protocol::api::{AlertState, Code, EventKind, Severity};
use novacron_protocol::ids::{AlertId, ProjectName};
use novacron_protocol::project::Quotas;
use proptest::prelude::*;

use crate::state::alert::retention::{
    ALERTS_NAMED_PER_PROJECT_MAX, ALERTS_RESOLVED_MS_MAX, ALERTS_RESOLVED_PER_PROJECT_MAX,
};
use crate::state::alert::{Alert, AlertOrder, Observed, Raise, Stage};
use crate::state::binding::Right;
use crate::state::formats::{ALERTS, FIRST};
use crate::state::project::ProjectOrder;
use crate::state::testing::{Scene, name, spec_in};
use crate::state::{Accepted, Asker, Body, Fleet, Refusal, Reply};

fn named(kind: &str, object: AlertObject) -> AlertKey {
    AlertKey { kind: AlertKind::Named(kind.parse().unwrap()), object }
}

fn raise_with(scene: &mut Scene, key: &AlertKey, severity: Severity) -> Raise {
    let (id, key) = (AlertId(scene.id()), key.clone());
    Raise { id, key, severity, summary: "it does not work".to_owned() }
}

fn order(scene: &mut Scene, order: AlertOrder) -> Result<AlertId, Refusal> {
    match scene.apply(Body::Alerts(order))? {
        Accepted::Alert(alert) => Ok(alert),
        other => panic!("{other:?}"),
    }
}

fn raise(scene: &mut Scene, key: &AlertKey, severity: Severity) -> AlertId {
    let raise = raise_with(scene, key, severity);
    order(scene, AlertOrder::Raise(raise)).unwrap()
}

fn acknowledge(scene: &mut Scene, alert: AlertId) -> Result<AlertId, Refusal> {
    order(scene, AlertOrder::Acknowledge { alert, note: "I look".to_owned() })
}

fn resolve(scene: &mut Scene, alert: AlertId) -> Result<AlertId, Refusal> {
    order(scene, AlertOrder::Resolve { alert, note: "mended".to_owned() })
}

fn observe(scene: &mut Scene, raises: Vec<Raise>, over: &[AlertId]) -> Reply {
    let over = over.iter().map(|alert| (*alert, "it is gone".to_owned())).collect();
    scene.apply(Body::Alerts(AlertOrder::Observe(Observed { raises, over })))
}

fn of_cluster() -> AlertKey {
    AlertKey::of(Condition::LedgerLate, AlertObject::Cluster)
}

fn code(reply: Result<AlertId, Refusal>) -> Code {
    reply.unwrap_err().code()
}

fn kinds(fleet: &Fleet) -> Vec<EventKind> {
    let all = fleet.events_after(novacron_protocol::ids::Revision(0), None);
    let families = ["alert.raised", "alert.acknowledged", "alert.resolved"];
    all.map(|event| event.kind).filter(|kind| families.contains(&kind.word())).collect()
}

#[test]
fn an_alert_is_raised_once_counted_acknowledged_and_resolved() {
    let mut scene = Scene::new();
    let key = named("backup-late", AlertObject::Cluster);
    let first = raise(&mut scene, &key, Severity::Warning);
    assert_eq!(raise(&mut scene, &key, Severity::Warning), first);
    acknowledge(&mut scene, first).unwrap();
    assert_eq!(raise(&mut scene, &key, Severity::Warning), first);
    let alert = scene.fleet.alert(first).unwrap();
    assert_eq!((alert.raises, alert.stage.state()), (3, AlertState::Acknowledged));
    resolve(&mut scene, first).unwrap();
    let alert = scene.fleet.alert(first).unwrap().clone();
    let Stage::Resolved { resolution, acknowledgement } = &alert.stage else { panic!() };
    assert_eq!((resolution.note.as_str(), resolution.by.as_ref()), ("mended", None));
    assert_eq!(acknowledgement.as_ref().unwrap().note, "I look");
    for refused in [acknowledge(&mut scene, first), resolve(&mut scene, first)] {
        assert_eq!(code(refused), Code::Conflict);
    }
    let second = raise(&mut scene, &key, Severity::Warning);
    assert_ne!(second, first);
    let alert = scene.fleet.alert(second).unwrap();
    assert_eq!((alert.previous, alert.raises), (Some(first), 1));
    use EventKind::{AlertAcknowledged, AlertRaised, AlertResolved};
    assert_eq!(kinds(&scene.fleet), [AlertRaised, AlertAcknowledged, AlertResolved, AlertRaised]);
    assert_eq!(code(resolve(&mut scene, AlertId(uuid::Uuid::nil()))), Code::NotFound);
}

#[test]
fn what_gets_worse_fires_again_and_what_gets_better_does_not() {
    let mut scene = Scene::new();
    let key = named("hot", AlertObject::Cluster);
    let alert = raise(&mut scene, &key, Severity::Warning);
    acknowledge(&mut scene, alert).unwrap();
    raise(&mut scene, &key, Severity::Info);
    assert_eq!(scene.fleet.alert(alert).unwrap().stage.state(), AlertState::Acknowledged);
    raise(&mut scene, &key, Severity::Critical);
    let row = scene.fleet.alert(alert).unwrap();
    assert_eq!((row.severity, row.stage.state()), (Severity::Critical, AlertState::Firing));
    acknowledge(&mut scene, alert).unwrap();
    order(&mut scene, AlertOrder::Unacknowledge { alert }).unwrap();
    assert_eq!(scene.fleet.alert(alert).unwrap().stage, Stage::Firing);
    assert_eq!(code(order(&mut scene, AlertOrder::Unacknowledge { alert })), Code::Conflict);
}

#[test]
fn what_the_cluster_watches_is_raised_and_resolved_by_it_alone() {
    let mut scene = Scene::new();
    let by_client = raise_with(&mut scene, &of_cluster(), Severity::Critical);
    assert_eq!(code(order(&mut scene, AlertOrder::Raise(by_client))), Code::InvalidRequest);
    let seen = raise_with(&mut scene, &of_cluster(), Severity::Critical);
    // A leader that does not know that its command was taken sends it again.
    for _ in 0..2 {
        observe(&mut scene, vec![seen.clone()], &[]).unwrap();
    }
    let alert = scene.fleet.open_alert(&of_cluster()).unwrap().id;
    assert_eq!(alert, seen.id);
    let refused = resolve(&mut scene, alert).unwrap_err();
    assert!(refused.to_string().contains("acknowledge it"), "{refused}");
    for _ in 0..2 {
        observe(&mut scene, vec![], &[alert]).unwrap();
    }
    let row = scene.fleet.alert(alert).unwrap();
    assert_eq!(row.stage.state(), AlertState::Resolved);
    assert_eq!(kinds(&scene.fleet), [EventKind::AlertRaised, EventKind::AlertResolved]);
    // What is not there any more is left out, and the rest is noted.
    let nowhere = AlertKey::of(Condition::NodeUnreachable, AlertObject::Node(name("gone")));
    let raises = [nowhere, of_cluster()].map(|key| raise_with(&mut scene, &key, Severity::Info));
    observe(&mut scene, raises.to_vec(), &[]).unwrap();
    assert_eq!(scene.fleet.open_alerts().count(), 1);
}

#[test]
fn the_newest_of_two_summaries_is_shown_and_bad_ones_are_refused() {
    let mut scene = Scene::new();
    let key = named("hot", AlertObject::Cluster);
    let alert = raise(&mut scene, &key, Severity::Info);
    let mut again = raise_with(&mut scene, &key, Severity::Info);
    again.summary = "hotter".to_owned();
    order(&mut scene, AlertOrder::Raise(again.clone())).unwrap();
    assert_eq!(scene.fleet.alert(alert).unwrap().summary, "hotter");
    for bad in ["", "two\nlines", &"x".repeat(513)] {
        again.summary = bad.to_owned();
        assert_eq!(code(order(&mut scene, AlertOrder::Raise(again.clone()))), Code::InvalidRequest);
    }
    let note = "x".repeat(513);
    assert_eq!(code(order(&mut scene, AlertOrder::Resolve { alert, note })), Code::InvalidRequest);
}

/// A founded fleet with a machine in project `own`, and an operator of that project alone.
fn town() -> (Scene, ProjectName, AlertObject, Asker) {
    let mut scene = Scene::new();
    scene.found();
    scene.join("node-01", 16);
    let own = scene.make_project("own", Quotas::default());
    let body = scene.create_body(spec_in(&own, "web"), Some("node-01"), false);
    let Ok(Accepted::Vm(vm)) = scene.apply(body) else { panic!("refused") };
    let asker = scene.operator("alice");
    let role = Right::Role(AccessRole::Operator);
    scene.bind(&asker, role, Scope::Project(own.clone()), BindingEffect::Allow).unwrap();
    (scene, own, AlertObject::Vm(vm), asker)
}

#[test]
fn alerts_belong_to_the_project_of_what_they_are_about() {
    let (mut scene, own, vm, alice) = town();
    let ask = |scene: &mut Scene, order| scene.ask(&alice, Body::Alerts(order));
    let key = named("slow", vm);
    let mine = raise_with(&mut scene, &key, Severity::Warning);
    assert_eq!(ask(&mut scene, AlertOrder::Raise(mine.clone())), Ok(Accepted::Alert(mine.id)));
    let row = scene.fleet.alert(mine.id).unwrap();
    assert_eq!(row.project, Some(own.clone()));
    assert_eq!(row.raised_by, Some(alice.name.clone()));
    for object in [
        AlertObject::Cluster,
        AlertObject::Node(name("node-01")),
        AlertObject::Node(name("never")),
        AlertObject::Project(ProjectName::default()),
        AlertObject::Project("never".parse().unwrap()),
    ] {
        let foreign = raise_with(&mut scene, &named("slow", object.clone()), Severity::Warning);
        let refused = ask(&mut scene, AlertOrder::Raise(foreign)).unwrap_err();
        assert_eq!(refused.code(), Code::NotAllowed, "{object}");
    }
    let theirs = raise(&mut scene, &named("slow", AlertObject::Cluster), Severity::Warning);
    let note = String::new();
    let refused = ask(&mut scene, AlertOrder::Resolve { alert: theirs, note: note.clone() });
    assert_eq!(refused.unwrap_err().code(), Code::NotAllowed);
    let observed = AlertOrder::Observe(Observed::default());
    assert_eq!(ask(&mut scene, observed).unwrap_err().code(), Code::NotAllowed);
    ask(&mut scene, AlertOrder::Resolve { alert: mine.id, note }).unwrap();
    let records = scene.fleet.audit_from(Default::default());
    let last = records.last().unwrap().1.line.clone();
    assert!(last.contains("alert.resolve") && last.contains("alice"), "{last}");
}

#[test]
fn a_project_that_is_deleted_takes_its_alerts_and_its_budget_along() {
    let mut scene = Scene::new();
    let own = scene.make_project("own", Quotas::default());
    let set = ProjectOrder::SetBudget { project: own.clone(), micro_dollars_per_month: Some(7) };
    scene.apply(Body::Projects(set)).unwrap();
    let object = AlertObject::Project(own.clone());
    let one = raise(&mut scene, &named("a", object.clone()), Severity::Info);
    resolve(&mut scene, one).unwrap();
    raise(&mut scene, &named("a", object), Severity::Info);
    let other = raise(&mut scene, &named("a", AlertObject::Cluster), Severity::Info);
    scene.apply(Body::Projects(ProjectOrder::Delete { project: own.clone() })).unwrap();
    assert_eq!(scene.fleet.alerts_after(None).map(|alert| alert.id).collect::<Vec<_>>(), [other]);
    assert_eq!(scene.fleet.budget(&own), None);
}

#[test]
fn a_budget_is_set_changed_taken_away_and_bounded() {
    let mut scene = Scene::new();
    let project = ProjectName::default();
    let set = |scene: &mut Scene, micro_dollars_per_month| {
        let project = project.clone();
        scene.apply(Body::Projects(ProjectOrder::SetBudget { project, micro_dollars_per_month }))
    };
    for amount in [Some(1), Some(1_000_000_000_000_000), None] {
        set(&mut scene, amount).unwrap();
        let found = scene.fleet.budget(&project).map(|budget| budget.micro_dollars_per_month);
        assert_eq!(found, amount);
    }
    for bad in [0, 1_000_000_000_000_001] {
        assert_eq!(set(&mut scene, Some(bad)).unwrap_err().code(), Code::InvalidRequest);
    }
}

#[test]
fn one_project_fills_no_room_but_its_own() {
    let mut scene = Scene::new();
    let own = scene.make_project("own", Quotas::default());
    let key = |number: usize| named(&format!("a-{number}"), AlertObject::Project(own.clone()));
    let other = raise(&mut scene, &named("a", AlertObject::Cluster), Severity::Info);
    resolve(&mut scene, other).unwrap();
    // So many at once, and all of them over at once.
    for _ in 0..ALERTS_RESOLVED_PER_PROJECT_MAX / 100 + 1 {
        let raises = (0..100).map(|number| raise_with(&mut scene, &key(number), Severity::Info));
        let raises: Vec<Raise> = raises.collect();
        let over: Vec<AlertId> = raises.iter().map(|raise| raise.id).collect();
        observe(&mut scene, raises, &over).unwrap();
    }
    let resolved = |scene: &Scene, project: Option<&ProjectName>| {
        let kept = scene.fleet.alerts_after(None);
        let kept = kept.filter(|alert| alert.project.as_ref() == project);
        kept.filter(|alert| alert.resolved_at().is_some()).count()
    };
    assert_eq!(resolved(&scene, Some(&own)), ALERTS_RESOLVED_PER_PROJECT_MAX);
    assert_eq!(resolved(&scene, None), 1);

    let raises = (0..ALERTS_NAMED_PER_PROJECT_MAX)
        .map(|number| raise_with(&mut scene, &key(number), Severity::Info));
    let raises = raises.collect();
    observe(&mut scene, raises, &[]).unwrap();
    let more = raise_with(&mut scene, &key(999), Severity::Info);
    assert_eq!(code(order(&mut scene, AlertOrder::Raise(more))), Code::NoCapacity);
    // One that is open is counted all the same, and others have their own room.
    raise(&mut scene, &key(0), Severity::Info);
    raise(&mut scene, &named("a", AlertObject::Cluster), Severity::Info);
}

#[test]
fn what_was_resolved_long_ago_is_forgotten() {
    let mut scene = Scene::new();
    let old = raise(&mut scene, &named("a", AlertObject::Cluster), Severity::Info);
    resolve(&mut scene, old).unwrap();
    scene.now = scene.now.plus_ms(ALERTS_RESOLVED_MS_MAX);
    assert!(!scene.fleet.has_old_alerts(scene.now));
    observe(&mut scene, vec![], &[]).unwrap();
    assert!(scene.fleet.alert(old).is_some());
    scene.now = scene.now.plus_ms(1);
    assert!(scene.fleet.has_old_alerts(scene.now));
    observe(&mut scene, vec![], &[]).unwrap();
    assert!(scene.fleet.alert(old).is_none());
}

#[test]
fn alerts_need_formats_that_all_members_understand() {
    let body = Body::Alerts(AlertOrder::Observe(Observed::default()));
    assert_eq!((body.since(), ALERTS > FIRST), (ALERTS, true));
    let (project, micro_dollars_per_month) = (ProjectName::default(), None);
    let order = ProjectOrder::SetBudget { project: project.clone(), micro_dollars_per_month };
    assert_eq!(Body::Projects(order).since(), ALERTS);
    assert_eq!(Body::Projects(ProjectOrder::Delete { project }).since(), FIRST);
}

/// What an alert is, in the plainest words.
#[derive(Debug, Clone, PartialEq)]
struct Plain {
    raises: u64,
    severity: Severity,
    state: AlertState,
    previous: Option<AlertId>,
}

impl Plain {
    fn of(alert: &Alert) -> Self {
        Self {
            raises: alert.raises,
            severity: alert.severity,
            state: alert.stage.state(),
            previous: alert.previous,
        }
    }
}

/// A list of all alerts, and nothing else.
#[derive(Debug, Default)]
struct Model {
    alerts: BTreeMap<AlertId, Plain>,
    /// All with a key, in order.
    by_key: BTreeMap<AlertKey, Vec<AlertId>>,
}

impl Model {
    fn open(&self, key: &AlertKey) -> Option<AlertId> {
        let last = *self.by_key.get(key)?.last()?;
        (self.alerts[&last].state != AlertState::Resolved).then_some(last)
    }

    fn raise(&mut self, id: AlertId, key: &AlertKey, severity: Severity) {
        if let Some(open) = self.open(key) {
            let alert = self.alerts.get_mut(&open).unwrap();
            alert.raises += 1;
            if severity < alert.severity {
                alert.state = AlertState::Firing;
            }
            alert.severity = severity;
            return;
        }
        let all = self.by_key.entry(key.clone()).or_default();
        let (previous, state) = (all.last().copied(), AlertState::Firing);
        all.push(id);
        self.alerts.insert(id, Plain { raises: 1, severity, state, previous });
    }

    fn set(&mut self, alert: AlertId, from: &[AlertState], to: AlertState) -> bool {
        let Some(alert) = self.alerts.get_mut(&alert) else { return false };
        let may = from.contains(&alert.state);
        if may {
            alert.state = to;
        }
        may
    }
}

#[derive(Debug, Clone)]
enum Step {
    Raise { key: usize, severity: usize },
    Observe { key: usize, severity: usize, over: usize },
    Acknowledge { alert: usize },
    Unacknowledge { alert: usize },
    Resolve { alert: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let (key, severity, alert) = (0..3_usize, 0..3_usize, 0..8_usize);
    prop_oneof![
        3 => (key.clone(), severity.clone()).prop_map(|(key, severity)| Step::Raise { key, severity }),
        3 => (key, severity, alert.clone())
            .prop_map(|(key, severity, over)| Step::Observe { key, severity, over }),
        2 => alert.clone().prop_map(|alert| Step::Acknowledge { alert }),
        1 => alert.clone().prop_map(|alert| Step::Unacknowledge { alert }),
        2 => alert.prop_map(|alert| Step::Resolve { alert }),
    ]
}

const SEVERITIES: [Severity; 3] = [Severity::Critical, Severity::Warning, Severity::Info];

proptest! {
    #[test]
    fn alerts_are_what_a_plain_list_says(steps in prop::collection::vec(step(), 1..60)) {
        use AlertState::{Acknowledged, Firing, Resolved};
        let (mut scene, mut model) = (Scene::new(), Model::default());
        let pick = |model: &Model, number: usize| {
            let all: Vec<_> = model.alerts.keys().copied().collect();
            all.get(number % all.len().max(1)).copied()
        };
        for step in steps {
            match step {
                Step::Raise { key, severity } => {
                    let key = named(&format!("k-{key}"), AlertObject::Cluster);
                    let raise = raise_with(&mut scene, &key, SEVERITIES[severity]);
                    model.raise(raise.id, &key, SEVERITIES[severity]);
                    order(&mut scene, AlertOrder::Raise(raise)).unwrap();
                }
                Step::Observe { key, severity, over } => {
                    let condition =
                        [Condition::LedgerLate, Condition::NoSpareMember, Condition::MigrationFailed];
                    let key = AlertKey::of(condition[key], AlertObject::Cluster);
                    let raise = raise_with(&mut scene, &key, SEVERITIES[severity]);
                    let over: Vec<_> = pick(&model, over).into_iter().collect();
                    model.raise(raise.id, &key, SEVERITIES[severity]);
                    for alert in &over {
                        model.set(*alert, &[Firing, Acknowledged], Resolved);
                    }
                    observe(&mut scene, vec![raise], &over).unwrap();
                }
                Step::Acknowledge { alert } => {
                    let Some(alert) = pick(&model, alert) else { continue };
                    let may = model.set(alert, &[Firing, Acknowledged], Acknowledged);
                    prop_assert_eq!(acknowledge(&mut scene, alert).is_ok(), may);
                }
                Step::Unacknowledge { alert } => {
                    let Some(alert) = pick(&model, alert) else { continue };
                    let may = model.set(alert, &[Acknowledged], Firing);
                    prop_assert_eq!(order(&mut scene, AlertOrder::Unacknowledge { alert }).is_ok(), may);
                }
                Step::Resolve { alert } => {
                    let Some(alert) = pick(&model, alert) else { continue };
                    let kind = &scene.fleet.alert(alert).unwrap().key.kind;
                    let is_watched = matches!(kind, AlertKind::Condition(one) if !one.is_past());
                    let may = !is_watched && model.set(alert, &[Firing, Acknowledged], Resolved);
                    prop_assert_eq!(resolve(&mut scene, alert).is_ok(), may);
                }
            }
            let found: BTreeMap<_, _> =
                scene.fleet.alerts_after(None).map(|alert| (alert.id, Plain::of(alert))).collect();
            prop_assert_eq!(&found, &model.alerts);
            let open: Vec<_> = scene.fleet.open_alerts().map(|alert| alert.id).collect();
            let expected: Vec<_> = model.by_key.keys().filter_map(|key| model.open(key)).collect();
            prop_assert_eq!(open, expected);
        }
        prop_assert_eq!(scene.replay().state_hash().unwrap(), scene.fleet.state_hash().unwrap());
        let snapshot = scene.fleet.to_snapshot().unwrap();
        let loaded = Fleet::from_snapshot(&snapshot).unwrap();
        prop_assert_eq!(loaded.to_snapshot().unwrap(), snapshot);
        loaded.check().unwrap();
    }
}
