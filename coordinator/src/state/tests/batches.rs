use novacron_protocol::api::{BatchItemStatus, BatchStatus, BatchView, Code, SettingsChange};
use novacron_protocol::effect::SourceResult;
use novacron_protocol::ids::{BatchId, MigrationId, RequestId, VmId};
use novacron_protocol::migration::{MigrationMode, MigrationOptions};
use novacron_protocol::vm::Labels;

use crate::state::batch::BATCHES_MAX;
use crate::state::binding::Reach;
use crate::state::command::{BatchOrder, MigrateBatch};
use crate::state::testing::{Scene, account, name, spec};
use crate::state::{Accepted, Body, Refusal};
use crate::view::resource::batch_view;

fn scene() -> Scene {
    let mut scene = Scene::new();
    scene.join("node-01", 64);
    scene.join("node-02", 64);
    scene
}

/// What the proposer makes of a request about all machines of a node.
fn asked(scene: &mut Scene, source: &str, target: &str) -> MigrateBatch {
    let (labels, source_name) = (Labels::new(), name(source));
    let matching = scene.fleet.machines_matching(&source_name, &labels);
    let vms: Vec<VmId> = matching.map(|vm| vm.id).collect();
    MigrateBatch {
        batch: BatchId(scene.id()),
        order: BatchOrder {
            source: source_name,
            target: name(target),
            labels,
            mode: None,
            options: MigrationOptions { auto_converge: true, ..MigrationOptions::default() },
            aborts_on_failure: false,
        },
        items: vms.into_iter().map(|vm| (vm, MigrationId(scene.id()))).collect(),
    }
}

fn begin(scene: &mut Scene, asked: MigrateBatch) -> Result<BatchId, Refusal> {
    match scene.apply(Body::MigrateBatch(asked))? {
        Accepted::Batch(batch) => Ok(batch),
        other => panic!("{other:?}"),
    }
}

fn view(scene: &Scene, batch: BatchId) -> BatchView {
    let row = scene.fleet.batch(batch).unwrap();
    batch_view(&scene.fleet, row, &Reach::everywhere(), true)
}

fn statuses(scene: &Scene, batch: BatchId) -> Vec<BatchItemStatus> {
    view(scene, batch).items.iter().map(|item| item.status).collect()
}

/// Plays both agents until the migration has ended.
fn finish(scene: &mut Scene, migration: MigrationId, result: SourceResult) {
    let target = scene.migration(migration).target.to_string();
    scene.settle_all(&target);
    scene.source_ends(migration, result);
}

fn completed() -> SourceResult {
    SourceResult::Completed(account())
}

fn failed() -> SourceResult {
    SourceResult::Failed { reason: "the link broke".to_owned() }
}

#[test]
fn a_batch_moves_each_machine_as_it_is_and_in_order() {
    use BatchItemStatus::{Completed, InProgress, Queued, Refused};
    let mut scene = scene();
    for number in 0..4 {
        scene.running(&format!("vm-{number}"), "node-01");
    }
    let body = scene.create_body(spec("stopped"), Some("node-01"), false);
    scene.apply(body).unwrap();
    scene.settle_all("node-01");
    let body = scene.create_body(spec("new"), Some("node-01"), false);
    scene.apply(body).unwrap();
    let asked = asked(&mut scene, "node-01", "node-02");
    let batch = begin(&mut scene, asked).unwrap();
    let now = [InProgress, InProgress, InProgress, Queued, Queued, Refused];
    assert_eq!(statuses(&scene, batch), now);
    let refused = view(&scene, batch).items.pop().unwrap();
    assert!(refused.reason.contains("`new` is being created"), "{}", refused.reason);
    let ids: Vec<_> = scene.fleet.batch(batch).unwrap().open().collect();
    let modes: Vec<_> = ids.iter().map(|id| scene.migration(*id).mode).collect();
    assert_eq!((modes[3], modes[4]), (MigrationMode::Live, MigrationMode::Cold));
    assert!(!scene.migration(ids[4]).options.auto_converge, "it is about guests that run");
    for id in ids {
        assert_eq!(view(&scene, batch).status, BatchStatus::InProgress);
        finish(&mut scene, id, completed());
    }
    let ended = view(&scene, batch);
    assert_eq!((ended.status, ended.counts.completed), (BatchStatus::Failed, 5), "one was refused");
    assert_eq!(statuses(&scene, batch)[..5], [Completed; 5]);
    assert_eq!(scene.fleet.machines_on(&name("node-02")), 5);
}

#[test]
fn one_failure_leaves_the_others_alone_unless_asked() {
    use BatchItemStatus::{Cancelled, Completed, Failed};
    for aborts in [false, true] {
        let mut scene = scene();
        for number in 0..5 {
            scene.running(&format!("vm-{number}"), "node-01");
        }
        let mut asked = asked(&mut scene, "node-01", "node-02");
        asked.order.aborts_on_failure = aborts;
        let batch = begin(&mut scene, asked).unwrap();
        let ids: Vec<_> = scene.fleet.batch(batch).unwrap().open().collect();
        finish(&mut scene, ids[0], failed());
        if aborts {
            // Those at work are asked to give up; one of them was too late to.
            finish(&mut scene, ids[1], completed());
            finish(&mut scene, ids[2], SourceResult::Cancelled);
            let end = [Failed, Completed, Cancelled, Cancelled, Cancelled];
            assert_eq!(statuses(&scene, batch), end);
            let reason = view(&scene, batch).items[4].reason.clone();
            assert_eq!(reason, "another machine of the batch did not move");
        } else {
            ids[1..].iter().for_each(|id| finish(&mut scene, *id, completed()));
            let end = [Failed, Completed, Completed, Completed, Completed];
            assert_eq!(statuses(&scene, batch), end);
        }
        assert_eq!(view(&scene, batch).status, BatchStatus::Failed);
        assert_eq!(view(&scene, batch).items[0].reason, "the link broke");
    }
}

#[test]
fn a_refusal_is_a_failure_where_failures_abort() {
    let mut scene = scene();
    scene.running("web", "node-01");
    let body = scene.create_body(spec("new"), Some("node-01"), false);
    scene.apply(body).unwrap();
    let mut asked = asked(&mut scene, "node-01", "node-02");
    asked.order.aborts_on_failure = true;
    let batch = begin(&mut scene, asked).unwrap();
    use BatchItemStatus::{Cancelled, Refused};
    assert_eq!(statuses(&scene, batch), [Cancelled, Refused]);
    assert!(scene.effects("node-02").is_empty(), "the target never heard of it");
}

#[test]
fn a_batch_can_be_given_up() {
    use BatchItemStatus::{Cancelled, Completed};
    let mut scene = scene();
    for number in 0..4 {
        scene.running(&format!("vm-{number}"), "node-01");
    }
    let asked = asked(&mut scene, "node-01", "node-02");
    let batch = begin(&mut scene, asked).unwrap();
    let ids: Vec<_> = scene.fleet.batch(batch).unwrap().open().collect();
    scene.settle_all("node-02");
    scene.hand_over("node-02", ids[0]);
    scene.apply(Body::CancelBatch { batch }).unwrap();
    scene.source_ends(ids[0], completed());
    scene.source_ends(ids[1], SourceResult::Cancelled);
    scene.source_ends(ids[2], SourceResult::Cancelled);
    assert_eq!(statuses(&scene, batch), [Completed, Cancelled, Cancelled, Cancelled]);
    assert_eq!(view(&scene, batch).status, BatchStatus::Cancelled);
    let refusal = scene.apply(Body::CancelBatch { batch }).unwrap_err();
    assert!(refusal.to_string().ends_with("has ended already"), "{refusal}");
}

#[test]
fn what_cannot_be_a_batch_is_refused_in_words() {
    let mut scene = scene();
    let refused = |scene: &mut Scene, asked: MigrateBatch| {
        let refusal = begin(scene, asked).unwrap_err();
        (refusal.code(), refusal.field().map(str::to_owned), refusal.to_string())
    };
    let nobody = asked(&mut scene, "node-01", "node-02");
    let (code, field, text) = refused(&mut scene, nobody);
    assert_eq!((code, field.as_deref()), (Code::InvalidRequest, Some("from")));
    assert_eq!(text, "node `node-01` has no machine");
    scene.running("web", "node-01");
    let itself = asked(&mut scene, "node-01", "node-01");
    assert_eq!(refused(&mut scene, itself).1.as_deref(), Some("to"));
    for (source, target) in [("node-09", "node-02"), ("node-01", "node-09")] {
        let unknown = asked(&mut scene, source, target);
        let (code, _, text) = refused(&mut scene, unknown);
        assert_eq!((code, text.as_str()), (Code::NotFound, "there is no node `node-09`"));
    }
    let mut labelled = asked(&mut scene, "node-01", "node-02");
    labelled.order.labels.insert("app".into(), "db".into());
    labelled.items.clear();
    assert_eq!(refused(&mut scene, labelled).1.as_deref(), Some("labels"));
    let mut many = asked(&mut scene, "node-01", "node-02");
    many.items = vec![many.items[0]; 1001];
    assert!(refused(&mut scene, many).2.contains("at most 1000 in a batch"));
}

#[test]
fn a_repeated_request_is_the_same_batch_although_nothing_is_left_to_move() {
    let mut scene = scene();
    scene.running("web", "node-01");
    let request = RequestId(scene.id());
    let first = asked(&mut scene, "node-01", "node-02");
    let batch = first.batch;
    scene.apply_as(request, Body::MigrateBatch(first.clone())).unwrap();
    let again = MigrateBatch { batch: BatchId(scene.id()), items: Vec::new(), ..first };
    let reply = scene.apply_as(request, Body::MigrateBatch(again));
    assert_eq!(reply, Ok(Accepted::Batch(batch)));
}

#[test]
fn the_oldest_batch_that_ended_is_forgotten_first() {
    let mut scene = scene();
    scene.running("web", "node-01");
    let mut batches = Vec::new();
    for number in 0..=BATCHES_MAX {
        let ends = [["node-01", "node-02"], ["node-02", "node-01"]][number % 2];
        let asked = asked(&mut scene, ends[0], ends[1]);
        let batch = begin(&mut scene, asked).unwrap();
        let open: Vec<_> = scene.fleet.batch(batch).unwrap().open().collect();
        finish(&mut scene, open[0], completed());
        batches.push(batch);
    }
    assert!(scene.fleet.batch(batches[0]).is_none());
    assert!(batches[1..].iter().all(|batch| scene.fleet.batch(*batch).is_some()));
}

#[test]
fn the_number_of_migrations_at_once_is_a_setting() {
    let mut scene = scene();
    for number in 0..6 {
        scene.running(&format!("vm-{number}"), "node-01");
    }
    let asked = asked(&mut scene, "node-01", "node-02");
    let batch = begin(&mut scene, asked).unwrap();
    let set = |scene: &mut Scene, limit| {
        scene.apply(Body::ChangeSettings(SettingsChange { migrations_per_node: Some(limit) }))
    };
    let at_work = |scene: &Scene| view(scene, batch).counts.in_progress;
    assert_eq!(at_work(&scene), 3);
    set(&mut scene, 5).unwrap();
    assert_eq!(at_work(&scene), 5, "a higher limit counts at once");
    set(&mut scene, 1).unwrap();
    assert_eq!(at_work(&scene), 5, "what is under way goes on");
    let first = scene.fleet.batch(batch).unwrap().open().next().unwrap();
    finish(&mut scene, first, completed());
    assert_eq!((at_work(&scene), view(&scene, batch).counts.queued), (4, 1));
    for limit in [0, 65] {
        assert_eq!(set(&mut scene, limit).unwrap_err().field(), Some("migrations_per_node"));
    }
}
