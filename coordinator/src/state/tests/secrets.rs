//! Secrets and the turn of their key.

use novacron_protocol::access::{BindingEffect, Permission, Scope};
use novacron_protocol::api::Code;
use novacron_protocol::ids::{ProjectName, RequestId};
use novacron_protocol::limits::SECRETS_PER_PROJECT_MAX;
use novacron_protocol::project::Quotas;
use uuid::Uuid;

use crate::state::audit::AuditNumber;
use crate::state::binding::Right;
use crate::state::project::ProjectOrder;
use crate::state::secret::keys::{SecretKeyId, SecretKeys, Turn};
use crate::state::secret::{
    SEALED_BYTES_MAX, SECRETS_BYTES_PER_PROJECT_MAX, SealedValue, SecretOrder, SecretPlace,
};
use crate::state::table::Key;
use crate::state::testing::Scene;
use crate::state::{Accepted, Body, Command, Reply};

const ONE: SecretKeyId = SecretKeyId([1; 8]);
const TWO: SecretKeyId = SecretKeyId([2; 8]);
const THREE: SecretKeyId = SecretKeyId([3; 8]);

fn place(project: Option<&str>, name: &str) -> SecretPlace {
    SecretPlace { project: project.map(|name| name.parse().unwrap()), name: name.parse().unwrap() }
}

fn sealed(id: u128, key: SecretKeyId) -> SealedValue {
    SealedValue { id: Uuid::from_u128(id), key, sealed: vec![0xab; 100] }
}

fn order(scene: &mut Scene, order: SecretOrder) -> Reply {
    scene.apply(Body::Secrets(order))
}

fn put(scene: &mut Scene, place: &SecretPlace, value: SealedValue) -> Reply {
    let (place, mark) = (place.clone(), value.id.as_u128() as u64);
    order(scene, SecretOrder::Put { place, value, mark })
}

fn use_key(scene: &mut Scene, key: SecretKeyId) {
    order(scene, SecretOrder::Announce { key }).unwrap();
    order(scene, SecretOrder::Use { key }).unwrap();
}

fn code(reply: Reply) -> Code {
    reply.unwrap_err().code()
}

/// A founded cluster with its first key.
fn scene() -> Scene {
    let mut scene = Scene::new();
    scene.found();
    assert!(scene.fleet.secret_keys().needs_another());
    use_key(&mut scene, ONE);
    scene
}

#[test]
fn a_secret_counts_its_versions_and_is_gone_when_it_is_removed() {
    let mut scene = scene();
    let password = place(None, "password");
    assert_eq!(put(&mut scene, &password, sealed(1, ONE)), Ok(Accepted::Secret(1)));
    assert_eq!(put(&mut scene, &password, sealed(2, ONE)), Ok(Accepted::Secret(2)));
    let reveal = SecretOrder::Reveal { place: password.clone() };
    let second = Ok(Accepted::SecretValue(Uuid::from_u128(2)));
    assert_eq!(order(&mut scene, reveal.clone()), second);
    order(&mut scene, SecretOrder::Delete { place: password.clone() }).unwrap();
    assert_eq!(code(order(&mut scene, reveal)), Code::NotFound);
    assert_eq!(put(&mut scene, &password, sealed(3, ONE)), Ok(Accepted::Secret(1)));
}

#[test]
fn the_same_request_with_the_same_value_is_one_request() {
    let mut scene = scene();
    let request = RequestId(Uuid::from_u128(99));
    let put = |value: u128, mark| {
        let (place, value) = (place(None, "password"), sealed(value, ONE));
        Body::Secrets(SecretOrder::Put { place, value, mark })
    };
    // Encrypted anew, the same value has other bytes.
    for value in [1, 2] {
        assert_eq!(scene.apply_as(request, put(value, 7)), Ok(Accepted::Secret(1)));
    }
    assert_eq!(code(scene.apply_as(request, put(3, 8))), Code::IdempotencyConflict);
}

#[test]
fn a_repeated_request_to_read_is_for_the_value_that_was_there() {
    let mut scene = scene();
    let password = place(None, "password");
    let read = |scene: &mut Scene, request| {
        let body = Body::Secrets(SecretOrder::Reveal { place: password.clone() });
        scene.apply_as(request, body)
    };
    let request = RequestId(scene.id());
    put(&mut scene, &password, sealed(1, ONE)).unwrap();
    let first = Ok(Accepted::SecretValue(Uuid::from_u128(1)));
    assert_eq!(read(&mut scene, request), first);
    order(&mut scene, SecretOrder::Delete { place: password.clone() }).unwrap();
    put(&mut scene, &password, sealed(2, ONE)).unwrap();
    assert_eq!(read(&mut scene, request), first, "what nobody noted is not given out");
}

#[test]
fn one_project_does_not_take_the_room_of_all() {
    let mut scene = scene();
    scene.make_project("own", Quotas::default());
    let large = |id| SealedValue { sealed: vec![7; SEALED_BYTES_MAX], ..sealed(id, ONE) };
    let fit = SECRETS_BYTES_PER_PROJECT_MAX / SEALED_BYTES_MAX;
    for number in 0..fit {
        put(&mut scene, &place(Some("own"), &format!("s-{number}")), large(7)).unwrap();
    }
    let one_more = put(&mut scene, &place(Some("own"), "more"), large(8));
    assert_eq!(code(one_more), Code::NoCapacity);
    put(&mut scene, &place(Some("own"), "s-0"), large(9)).unwrap();
    put(&mut scene, &place(None, "more"), large(8)).unwrap();
}

#[test]
fn secrets_are_those_of_their_project_and_go_with_it() {
    let mut scene = scene();
    scene.make_project("a", Quotas::default());
    scene.make_project("ab", Quotas::default());
    for project in [None, Some("a"), Some("ab")] {
        for name in ["x", "y", "z"] {
            put(&mut scene, &place(project, name), sealed(1, ONE)).unwrap();
        }
    }
    let of = |scene: &Scene, project: Option<&str>, after: Option<&str>| {
        let project: Option<ProjectName> = project.map(|name| name.parse().unwrap());
        let after = after.map(|name| name.parse().unwrap());
        let rows = scene.fleet.secrets_of(project.as_ref(), after.as_ref());
        rows.map(|(place, _)| place.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(of(&scene, None, None), ["x", "y", "z"]);
    assert_eq!(of(&scene, Some("a"), None), ["a/x", "a/y", "a/z"]);
    assert_eq!(of(&scene, Some("ab"), Some("x")), ["ab/y", "ab/z"]);
    let nowhere = put(&mut scene, &place(Some("b"), "x"), sealed(1, ONE));
    assert_eq!(code(nowhere), Code::NotFound);
    let project = "a".parse().unwrap();
    scene.apply(Body::Projects(ProjectOrder::Delete { project })).unwrap();
    assert_eq!(of(&scene, Some("a"), None), [""; 0]);
    assert_eq!(of(&scene, Some("ab"), None).len(), 3);
}

#[test]
fn places_order_as_their_keys_do() {
    let places =
        [(None, "a"), (None, "z"), (Some("a"), "b"), (Some("a-b"), "a"), (Some("ab"), "a")];
    let places = places.map(|(project, name)| place(project, name));
    for pair in places.windows(2) {
        assert!(pair[0] < pair[1] && pair[0].encode() < pair[1].encode(), "{pair:?}");
    }
    for place in places {
        assert_eq!(SecretPlace::decode(&place.encode()), Some(place));
    }
    assert_eq!(SecretPlace::decode(b"no border"), None);
}

#[test]
fn secrets_are_bounded_in_size_and_number() {
    let mut scene = scene();
    let huge = SealedValue { sealed: vec![0; SEALED_BYTES_MAX + 1], ..sealed(1, ONE) };
    assert_eq!(code(put(&mut scene, &place(None, "huge"), huge)), Code::InvalidRequest);
    let mut reply = Ok(Accepted::Nothing);
    for number in 0..=SECRETS_PER_PROJECT_MAX {
        // Without a check of every invariant after each: that would take minutes.
        let (place, value) = (place(None, &format!("s-{number}")), sealed(1, ONE));
        let body = Body::Secrets(SecretOrder::Put { place, value, mark: 0 });
        let command = Command::of_cluster(RequestId(scene.id()), scene.now, body);
        reply = scene.fleet.apply(scene.fleet.revision().next(), &command);
    }
    assert_eq!(code(reply), Code::NoCapacity);
    scene.fleet.check().unwrap();
}

#[test]
fn a_key_turns_step_by_step_and_what_it_encrypted_is_encrypted_anew_first() {
    let mut scene = scene();
    let password = place(None, "password");
    put(&mut scene, &password, sealed(1, ONE)).unwrap();
    order(&mut scene, SecretOrder::Turn).unwrap();
    assert_eq!(code(order(&mut scene, SecretOrder::Turn)), Code::Conflict);
    assert_eq!(code(order(&mut scene, SecretOrder::Announce { key: ONE })), Code::Conflict);
    order(&mut scene, SecretOrder::Announce { key: TWO }).unwrap();
    // The only member that has it is gone: another takes its place, and can be replaced in turn.
    order(&mut scene, SecretOrder::Announce { key: THREE }).unwrap();
    assert_eq!(code(order(&mut scene, SecretOrder::Use { key: TWO })), Code::Conflict);
    order(&mut scene, SecretOrder::Announce { key: TWO }).unwrap();
    assert_eq!(code(order(&mut scene, SecretOrder::Announce { key: TWO })), Code::Conflict);
    // Not yet: a majority may not have it.
    assert_eq!(code(put(&mut scene, &place(None, "new"), sealed(2, TWO))), Code::Conflict);
    order(&mut scene, SecretOrder::Use { key: TWO }).unwrap();
    let keys = scene.fleet.secret_keys();
    assert_eq!((keys.sealing, keys.previous, keys.turn), (Some(TWO), Some(ONE), Turn::None));

    // What was encrypted before and comes late is taken, and encrypted anew like the rest.
    put(&mut scene, &place(None, "late"), sealed(2, ONE)).unwrap();
    assert_eq!(scene.fleet.secrets_to_reseal().count(), 2);
    for early in [SecretOrder::Forget { key: ONE }, SecretOrder::Turn] {
        assert_eq!(code(order(&mut scene, early)), Code::Conflict);
    }
    // Somebody has written another value meanwhile: that one stays.
    put(&mut scene, &password, sealed(3, ONE)).unwrap();
    let anew = |id, name| (place(None, name), sealed(id, TWO));
    order(&mut scene, SecretOrder::Reseal(vec![anew(1, "password"), anew(2, "late")])).unwrap();
    let left: Vec<_> = scene.fleet.secrets_to_reseal().map(|(place, _)| place.clone()).collect();
    assert_eq!(left, std::slice::from_ref(&password));
    order(&mut scene, SecretOrder::Reseal(vec![anew(3, "password")])).unwrap();
    let row = scene.fleet.secret(&password).unwrap();
    assert_eq!((row.version, row.value.key), (2, TWO), "no new version");
    order(&mut scene, SecretOrder::Forget { key: ONE }).unwrap();
    assert_eq!(code(put(&mut scene, &password, sealed(4, ONE))), Code::Conflict);
    let wanted: Vec<_> = scene.fleet.secret_keys().wanted().collect();
    assert_eq!(wanted, [TWO]);
}

#[test]
fn keys_that_cannot_be_are_found() {
    let twice = SecretKeys { sealing: Some(ONE), previous: Some(ONE), ..SecretKeys::default() };
    let backwards = SecretKeys { previous: Some(ONE), ..SecretKeys::default() };
    for wrong in [twice, backwards] {
        let mut scene = Scene::new();
        scene.fleet.secret_keys.insert(crate::state::table::Only, wrong);
        assert!(scene.fleet.check().is_err(), "{wrong:?}");
    }
}

#[test]
fn who_may_and_what_the_audit_log_says() {
    let mut scene = scene();
    scene.make_project("own", Quotas::default());
    let (asker, password) = (scene.operator("alice"), place(Some("own"), "password"));
    let put = |mark| {
        let (place, value) = (password.clone(), sealed(u128::from(mark), ONE));
        Body::Secrets(SecretOrder::Put { place, value, mark })
    };
    let reveal = Body::Secrets(SecretOrder::Reveal { place: password.clone() });
    let grant = |scene: &mut Scene, permission: Permission| {
        let right = Right::Permissions(permission.word().parse().unwrap());
        let scope = Scope::Project("own".parse().unwrap());
        scene.bind(&asker, right, scope, BindingEffect::Allow).unwrap();
    };
    assert_eq!(code(scene.ask(&asker, put(1))), Code::NotAllowed);
    grant(&mut scene, Permission::SecretWrite);
    scene.ask(&asker, put(1)).unwrap();
    assert_eq!(code(scene.ask(&asker, reveal.clone())), Code::NotAllowed);
    grant(&mut scene, Permission::SecretReveal);
    scene.ask(&asker, reveal).unwrap();
    let by_cluster_only = Body::Secrets(SecretOrder::Announce { key: TWO });
    assert_eq!(code(scene.ask(&asker, by_cluster_only)), Code::NotAllowed);
    assert_eq!(scene.fleet.secret(&password).unwrap().updated_by, Some(asker.name.clone()));

    let lines: Vec<_> = scene.fleet.audit_from(AuditNumber(0)).map(|(_, row)| &row.line).collect();
    let of = |action: &str| {
        let wanted = format!("\"action\":\"{action}\"");
        lines.iter().filter(|line| line.contains(&wanted)).count()
    };
    assert_eq!((of("secret.put"), of("secret.reveal"), of("secret-key.use")), (2, 2, 1));
    assert!(lines.iter().any(|line| line.contains("\"id\":\"own/password\"")));
    assert!(!lines.iter().any(|line| line.contains("171,171")), "no ciphertext either");
    assert!(!format!("{:?}", put(1)).contains("171"), "nor in what is traced");
}
