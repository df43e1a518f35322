//! One entry of the log may carry many commands.

use novacron_protocol::access::{AccessRole, BindingEffect, Scope};
use novacron_protocol::ids::{RequestId, Revision};
use novacron_transport::SubjectName;

use crate::state::binding::Right;
use crate::state::event::EventKey;
use crate::state::testing::{Scene, spec};
use crate::state::{Asker, Body, Command, Credential, Fleet, Origin, Refusal, Reply};

fn asked_by(name: &str, request: RequestId, scene: &Scene, body: Body) -> Command {
    let name: SubjectName = name.parse().unwrap();
    let asker = Asker { name, credential: Credential::Certificate, address: None };
    Command { origin: Origin::Asker(asker), ..Command::of_cluster(request, scene.now, body) }
}

fn creations(scene: &mut Scene, count: u32) -> Vec<Command> {
    let create = |number: u32| {
        let body = scene.create_body(spec(&format!("vm-{number}")), None, false);
        let request = RequestId(scene.id());
        Command::of_cluster(request, scene.now, body)
    };
    (0..count).map(create).collect()
}

#[test]
fn commands_of_one_entry_do_what_they_do_one_by_one() {
    let mut scene = Scene::new();
    let commands = creations(&mut scene, 5);
    let mut apart = Fleet::default();
    let one_by_one: Vec<Reply> = (1u64..)
        .zip(&commands)
        .map(|(revision, command)| apart.apply(Revision(revision), command))
        .collect();
    let mut together = Fleet::default();
    assert_eq!(together.apply_all(Revision(1), &commands), one_by_one);
    together.check().unwrap();
    assert_eq!(together.vms().count(), 5);
    assert_eq!(
        together.events_after(Revision(0), None).count(),
        apart.events_after(Revision(0), None).count()
    );
}

#[test]
fn events_of_one_entry_have_places_of_their_own_in_order() {
    let mut scene = Scene::new();
    let commands = creations(&mut scene, 3);
    let mut fleet = Fleet::default();
    fleet.apply_all(Revision(7), &commands).into_iter().for_each(|reply| drop(reply.unwrap()));
    let keys: Vec<_> = fleet
        .events_after(Revision(0), None)
        .map(|event| EventKey { revision: event.revision, sequence: event.sequence })
        .collect();
    let expected: Vec<_> =
        (0..3).map(|sequence| EventKey { revision: Revision(7), sequence }).collect();
    assert_eq!(keys, expected);
}

#[test]
fn a_request_that_is_twice_in_one_entry_is_applied_once() {
    let mut scene = Scene::new();
    let command = creations(&mut scene, 1).remove(0);
    let mut fleet = Fleet::default();
    let replies = fleet.apply_all(Revision(1), &[command.clone(), command]);
    assert_eq!(replies[0], replies[1]);
    assert_eq!(fleet.vms().count(), 1);
}

#[test]
fn nobody_gets_the_answer_to_the_request_of_another() {
    let mut scene = Scene::new();
    let request = RequestId(scene.id());
    let body = scene.create_body(spec("web"), None, false);
    for name in ["anna", "boris"] {
        let asker = scene.operator(name);
        let (right, scope) = (Right::Role(AccessRole::Operator), Scope::Fleet);
        scene.bind(&asker, right, scope, BindingEffect::Allow).unwrap();
    }
    let mut fleet = scene.fleet.clone();
    let mut ask = |revision, name| {
        fleet.apply(Revision(revision), &asked_by(name, request, &scene, body.clone()))
    };
    let first = ask(11, "anna");
    assert!(first.is_ok());
    assert_eq!(ask(12, "boris"), Err(Refusal::RequestReused));
    assert_eq!(ask(13, "anna"), first);
}
