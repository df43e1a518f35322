//! A cluster that was restored: nothing that may have been given out is given out again, and agents know best.

use novacron_protocol::access::AccessRole;
use novacron_protocol::effect::{Action, ObservedState};
use novacron_protocol::ids::{Generation, Incarnation, MemberId};
use novacron_protocol::migration::MigrationMode;
use novacron_protocol::vm::VmState;
use novacron_transport::Role;
use novacron_transport::authority::Fingerprint;
use novacron_transport::token::{JoinToken, RANDOM_BYTES, TokenId, TokenRecord};

use crate::state::incarnation::{EFFECTS_GAP, FIRST, GENERATIONS_GAP, MEMBERS_GAP, Restored};
use crate::state::testing::{Scene, facts, held, member_facts, name};
use crate::state::token::Token;
use crate::state::{Body, Refusal};

/// A machine that runs on the first of two nodes, in a cluster with two members.
fn scene() -> Scene {
    let mut scene = Scene::new();
    scene.found();
    scene.apply(Body::AdmitMember(member_facts("c2"))).unwrap();
    scene.join("node-01", 16);
    scene.join("node-02", 16);
    scene
}

#[test]
fn what_may_have_been_given_out_is_not_given_out_again() {
    let mut scene = scene();
    let vm = scene.running("web", "node-01");
    let record = TokenRecord {
        role: Role::Agent,
        name: None,
        expires_at: scene.now.plus_ms(3_600_000),
        secret_hash: JoinToken::generate(&[7; RANDOM_BYTES], Fingerprint([0; 32])).secret_hash(),
        used: false,
    };
    let token = TokenId([1; 8]);
    let token_row = Token { id: token, record, used_by: None, access: AccessRole::Viewer };
    scene.apply(Body::CreateToken(token_row)).unwrap();
    let effect_last = scene.fleet.meta.effect_last.0;
    assert_eq!(scene.fleet.incarnation(), FIRST);

    scene.restore("c1");
    assert_eq!(scene.fleet.incarnation(), Incarnation(2));
    let present: Vec<_> =
        scene.fleet.present_members().map(|member| (member.id, member.facts.clone())).collect();
    assert_eq!(present, [(MemberId(2 + MEMBERS_GAP), member_facts("c1"))]);
    let admitted = scene.apply(Body::AdmitMember(member_facts("c2"))).unwrap();
    assert_eq!(admitted, crate::state::Accepted::Member(MemberId(3 + MEMBERS_GAP)));
    assert!(scene.fleet.token(token).is_none(), "it may be used up");
    scene.apply(Body::StopVm { vm, force: true }).unwrap();
    let stop = scene.effect("node-01", |action| matches!(action, Action::Stop { .. }));
    assert!(stop.id.0 > effect_last + EFFECTS_GAP);
    scene.settle_all("node-01");
    let migration = scene.migrate(vm, "node-02", MigrationMode::Cold).unwrap();
    assert_eq!(scene.migration(migration).target_generation, Generation(2 + GENERATIONS_GAP));
}

#[test]
fn a_life_follows_the_one_before() {
    let mut scene = scene();
    let restored = |incarnation, member| {
        let facts = member_facts("c1");
        Body::BeginIncarnation(Restored { incarnation: Incarnation(incarnation), member, facts })
    };
    let refuse = |scene: &mut Scene, body| {
        assert!(matches!(scene.apply(body), Err(Refusal::Conflict(_))));
    };
    refuse(&mut scene, restored(1, MemberId(200)));
    refuse(&mut scene, restored(7, MemberId(2)));
    scene.apply(restored(7, MemberId(200))).unwrap();
    refuse(&mut scene, restored(7, MemberId(201)));
    let mut unfounded = Scene::new();
    refuse(&mut unfounded, restored(7, MemberId(1)));
}

#[test]
fn a_machine_that_moved_after_the_backup_is_where_its_agent_says() {
    let mut scene = scene();
    let vm = scene.running("web", "node-01");
    scene.restore("c1");
    let moved = held(vm, 2, ObservedState::Running);
    scene.hello("node-02", facts(16), vec![moved]);
    assert_eq!(scene.vm(vm).node, Some(name("node-02")));
    assert_eq!((scene.vm(vm).generation, scene.state(vm)), (Generation(2), VmState::Running));
    scene.hello("node-01", facts(16), vec![]);
    assert_eq!(scene.state(vm), VmState::Running, "it is not missed where it was");
}

#[test]
fn the_old_place_may_speak_first() {
    let mut scene = scene();
    let vm = scene.running("web", "node-01");
    scene.restore("c1");
    scene.hello("node-01", facts(16), vec![]);
    assert_eq!(scene.state(vm), VmState::Failed);
    scene.hello("node-02", facts(16), vec![held(vm, 3, ObservedState::Stopped)]);
    assert_eq!((scene.vm(vm).generation, scene.state(vm)), (Generation(3), VmState::Stopped));
}

#[test]
fn nothing_is_adopted_in_the_first_life_or_beyond_what_can_be() {
    let mut scene = scene();
    let vm = scene.running("web", "node-01");
    let moved = held(vm, 2, ObservedState::Running);
    scene.hello("node-02", facts(16), vec![moved.clone()]);
    assert_eq!(scene.vm(vm).node, Some(name("node-01")));
    let migration = scene.sending(vm, "node-02");
    scene.restore("c1");
    scene.hello("node-02", facts(16), vec![moved]);
    assert_eq!(scene.vm(vm).node, Some(name("node-01")), "its migration {migration} decides");
    let beyond = held(vm, 3 + 2 * GENERATIONS_GAP, ObservedState::Running);
    scene.hello("node-02", facts(16), vec![beyond]);
    assert_eq!(scene.vm(vm).node, Some(name("node-01")));
}
