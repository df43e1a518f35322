use novacron_protocol::api::Code;
use novacron_protocol::ids::ProjectName;
use novacron_protocol::migration::MigrationMode;
use novacron_protocol::project::{ProjectState, Quota, Quotas};
use novacron_protocol::vm::{Labels, VmState};

use crate::state::project::{ProjectEdit, ProjectOrder};
use crate::state::testing::{GIB, Scene, spec_in};
use crate::state::{Accepted, Body, Refusal, Reply};

fn scene() -> Scene {
    let mut scene = Scene::new();
    scene.join("node-01", 64);
    scene.join("node-02", 64);
    scene
}

fn create(scene: &mut Scene, project: &ProjectName, vm: &str) -> Reply {
    let body = scene.create_body(spec_in(project, vm), None, false);
    scene.apply(body)
}

fn change(scene: &mut Scene, project: &ProjectName, edit: ProjectEdit) -> Reply {
    scene.apply(Body::Projects(ProjectOrder::Change { project: project.clone(), edit }))
}

fn limit(quota: Quota, limit: Option<u64>) -> ProjectEdit {
    ProjectEdit { quotas: vec![(quota, limit)], ..ProjectEdit::default() }
}

#[test]
fn the_last_of_a_quota_is_had_once_and_the_refusal_says_what_is_left() {
    let mut scene = scene();
    let quotas = Quotas { vms: Some(2), memory_bytes: Some(5 * GIB), ..Quotas::default() };
    let project = scene.make_project("web", quotas);
    create(&mut scene, &project, "one").unwrap();
    create(&mut scene, &project, "two").unwrap();
    let refusal = create(&mut scene, &project, "three").unwrap_err();
    assert_eq!(refusal.code(), Code::QuotaExceeded);
    let words = "quota `vms` of project `web`: 1 needed, 2 of 2 used, 0 left";
    assert_eq!(refusal.to_string(), words);
    change(&mut scene, &project, limit(Quota::Vms, None)).unwrap();
    let refusal = create(&mut scene, &project, "three").unwrap_err();
    let words =
        "quota `memory_bytes` of project `web`: 2 GiB needed, 4 GiB of 5 GiB used, 1 GiB left";
    assert_eq!(refusal.to_string(), words);
    // Another project has room of its own.
    create(&mut scene, &ProjectName::default(), "three").unwrap();
    assert_eq!(scene.fleet.project_usage(&project).memory_bytes, 4 * GIB);
}

#[test]
fn what_is_destroyed_makes_room() {
    let mut scene = scene();
    let project = scene.make_project("web", Quotas { vms: Some(1), ..Quotas::default() });
    let Ok(Accepted::Vm(vm)) = create(&mut scene, &project, "one") else { panic!("refused") };
    scene.apply(Body::DestroyVm { vm }).unwrap();
    assert!(create(&mut scene, &project, "two").is_err(), "its disks are still there");
    scene.settle_all("node-01");
    scene.settle_all("node-02");
    assert_eq!(scene.state(vm), VmState::Deleted);
    create(&mut scene, &project, "two").unwrap();
}

#[test]
fn machines_above_a_lowered_quota_go_on() {
    let mut scene = scene();
    let project = ProjectName::default();
    let vm = scene.running("one", "node-01");
    scene.running("two", "node-01");
    change(&mut scene, &project, limit(Quota::Cpus, Some(1))).unwrap();
    assert_eq!(scene.state(vm), VmState::Running);
    assert!(create(&mut scene, &project, "three").is_err());
    scene.apply(Body::StopVm { vm, force: true }).unwrap();
    scene.settle_all("node-01");
    scene.apply(Body::StartVm { vm }).unwrap();
    scene.settle_all("node-01");
    scene.migrate(vm, "node-02", MigrationMode::Live).unwrap();
}

#[test]
fn migrations_of_a_project_are_limited_but_not_those_of_a_drain() {
    let mut scene = scene();
    let project = ProjectName::default();
    let (one, two) = (scene.running("one", "node-01"), scene.running("two", "node-01"));
    change(&mut scene, &project, limit(Quota::Migrations, Some(1))).unwrap();
    let migration = scene.migrate(one, "node-02", MigrationMode::Live).unwrap();
    let refusal = scene.migrate(two, "node-02", MigrationMode::Live).unwrap_err();
    let words = "quota `migrations` of project `default`: 1 needed, 1 of 1 used, 0 left";
    assert_eq!(refusal.to_string(), words);
    let options = novacron_protocol::migration::MigrationOptions::default();
    let node = crate::state::testing::name("node-01");
    scene.apply(Body::DrainNode { node, options }).unwrap();
    let (drained, target) =
        (novacron_protocol::ids::MigrationId(scene.id()), crate::state::testing::name("node-02"));
    scene.apply(Body::DrainVm { migration: drained, vm: two, target }).unwrap();
    assert_eq!(scene.fleet.project_usage(&project).migrations, 2);
    for migration in [migration, drained] {
        scene.apply(Body::CancelMigration { migration }).unwrap();
    }
    assert_eq!(scene.fleet.project_usage(&project).migrations, 0);
}

#[test]
fn a_disk_of_unknown_size_does_not_get_around_a_quota() {
    let mut scene = scene();
    let quotas = Quotas { disk_bytes: Some(2 * GIB), ..Quotas::default() };
    let project = scene.make_project("web", quotas);
    let mut spec = spec_in(&project, "one");
    (spec.disks[0].size_bytes, spec.disks[0].image) = (0, "debian".to_owned());
    let body = scene.create_body(spec, None, false);
    let refusal = scene.apply(body).unwrap_err();
    assert_eq!((refusal.code(), refusal.field()), (Code::InvalidRequest, Some("disk")));
}

#[test]
fn a_project_with_machines_is_not_deleted_and_one_without_leaves_nothing() {
    let mut scene = scene();
    let project = scene.make_project("web", Quotas::default());
    let delete =
        |project: &ProjectName| Body::Projects(ProjectOrder::Delete { project: project.clone() });
    let Ok(Accepted::Vm(vm)) = create(&mut scene, &project, "one") else { panic!("refused") };
    assert_eq!(scene.apply(delete(&project)).unwrap_err().code(), Code::Conflict);
    scene.apply(Body::DestroyVm { vm }).unwrap();
    scene.settle_all("node-01");
    scene.apply(delete(&project)).unwrap();
    let gone = scene.apply(delete(&project)).unwrap_err();
    assert_eq!(gone, Refusal::NoSuchProject(project.clone()));
    assert_eq!(create(&mut scene, &project, "two").unwrap_err(), gone);
    let default = scene.apply(delete(&ProjectName::default())).unwrap_err();
    assert_eq!(default.code(), Code::Conflict);
}

#[test]
fn a_suspended_project_begins_nothing_and_can_still_clear_up() {
    let mut scene = scene();
    let project = ProjectName::default();
    let vm = scene.running("one", "node-01");
    let state = Some(ProjectState::Suspended);
    change(&mut scene, &project, ProjectEdit { state, ..ProjectEdit::default() }).unwrap();
    assert!(create(&mut scene, &project, "two").unwrap_err().to_string().contains("suspended"));
    assert!(scene.migrate(vm, "node-02", MigrationMode::Live).is_err());
    scene.apply(Body::StopVm { vm, force: true }).unwrap();
    scene.settle_all("node-01");
    assert_eq!(scene.apply(Body::StartVm { vm }).unwrap_err().code(), Code::Conflict);
    scene.apply(Body::DestroyVm { vm }).unwrap();
}

#[test]
fn the_name_of_another_projects_machine_is_taken_and_no_more_is_said() {
    let mut scene = scene();
    let project = scene.make_project("web", Quotas::default());
    let vm = scene.create("one");
    let own = create(&mut scene, &ProjectName::default(), "one").unwrap_err();
    assert!(own.to_string().contains(&vm.to_string()), "{own}");
    let other = create(&mut scene, &project, "one").unwrap_err();
    assert_eq!(other.to_string(), "the name `one` is taken");
}

#[test]
fn what_cannot_be_of_a_project_is_named() {
    let mut scene = scene();
    let project = scene.make_project("web", Quotas::default());
    let labels = Some(Labels::from([(String::new(), String::new())]));
    let wrong = [
        (ProjectEdit { labels, ..ProjectEdit::default() }, "labels"),
        (
            ProjectEdit { display_name: Some("a\nb".to_owned()), ..ProjectEdit::default() },
            "display_name",
        ),
        (
            ProjectEdit { display_name: Some("a".repeat(129)), ..ProjectEdit::default() },
            "display_name",
        ),
    ];
    for (edit, field) in wrong {
        let refusal = change(&mut scene, &project, edit).unwrap_err();
        assert_eq!(refusal.field(), Some(field));
    }
}
