use novacron_protocol::access::BindingEffect::{Allow, Deny};
use novacron_protocol::access::{AccessRole, Permission, Scope};
use novacron_protocol::api::{Code, PrincipalKind, PrincipalState};
use novacron_protocol::ids::{ApiKeyId, RequestId, VmId};
use novacron_protocol::project::Quotas;
use novacron_transport::token::{SecretHash, TokenId, TokenRecord};
use novacron_transport::{Role, SubjectName};
use uuid::Uuid;

use crate::state::api_key::ApiKey;
use crate::state::binding::{Reach, Right};
use crate::state::principal::AccessOrder;
use crate::state::testing::{Scene, operator_named, spec_in};
use crate::state::token::Token;
use crate::state::{Asker, Body, Command, Credential, Origin};

fn role(role: AccessRole) -> Right {
    Right::Role(role)
}

fn pattern(text: &str) -> Right {
    Right::Permissions(text.parse().unwrap())
}

fn at(project: &str) -> Scope {
    Scope::Project(project.parse().unwrap())
}

fn name(text: &str) -> SubjectName {
    text.parse().unwrap()
}

/// A founded cluster with one node, two projects and a machine in each.
fn scene() -> (Scene, Asker, [VmId; 2]) {
    let mut scene = Scene::new();
    let admin = scene.found();
    scene.join("node-01", 64);
    let vms = ["own", "other"].map(|project| {
        let project = scene.make_project(project, Quotas::default());
        let body = scene.create_body(spec_in(&project, &format!("vm-{project}")), None, false);
        match scene.apply(body) {
            Ok(crate::state::Accepted::Vm(vm)) => vm,
            other => panic!("{other:?}"),
        }
    });
    scene.settle_all("node-01");
    (scene, admin, vms)
}

#[test]
fn nobody_may_anything_until_it_is_said_and_deny_wins_over_allow() {
    let (mut scene, _, _) = scene();
    let asker = scene.operator("one");
    let reach = |scene: &Scene| scene.fleet.reach(&asker.name, Permission::VmMigrate);
    assert_eq!(reach(&scene), Reach::default());
    let covers = |scene: &Scene| {
        [Scope::Fleet, at("own"), at("other")].map(|scope| reach(scene).covers(&scope))
    };
    let on_own = scene.bind(&asker, role(AccessRole::Operator), at("own"), Allow).unwrap();
    assert_eq!(covers(&scene), [false, true, false]);
    scene.bind(&asker, pattern("vm.*"), Scope::Fleet, Allow).unwrap();
    assert_eq!(covers(&scene), [true, true, true], "what holds for the fleet holds in projects");
    let denied = scene.bind(&asker, pattern("vm.migrate"), at("own"), Deny).unwrap();
    assert_eq!(covers(&scene), [true, false, true]);
    let everywhere = scene.bind(&asker, pattern("vm.*"), Scope::Fleet, Deny).unwrap();
    assert_eq!(covers(&scene), [false, false, false]);
    let nodes = scene.fleet.reach(&asker.name, Permission::NodeRead);
    assert_eq!((nodes.covers(&Scope::Fleet), nodes.covers(&at("own"))), (false, true));
    for binding in [everywhere, denied, on_own] {
        scene.apply(Body::Access(AccessOrder::Unbind { binding })).unwrap();
    }
    assert_eq!(covers(&scene), [true, true, true]);
}

#[test]
fn every_command_is_judged_where_it_is_applied() {
    let (mut scene, admin, [own, other]) = scene();
    let asker = scene.operator("one");
    let start = |vm| Body::StartVm { vm };
    assert_eq!(scene.ask(&asker, start(own)).unwrap_err().code(), Code::NotAllowed);
    scene.bind(&asker, role(AccessRole::Operator), at("own"), Allow).unwrap();
    scene.ask(&asker, start(own)).unwrap();
    let refusal = scene.ask(&asker, start(other)).unwrap_err();
    let words = "principal `one` may not do `vm.operate` on project `other`";
    assert_eq!((refusal.code(), refusal.to_string().as_str()), (Code::NotAllowed, words));
    let annotate =
        |vm| Body::Annotate { vm, key: "owner".to_owned(), value: Some("one".to_owned()) };
    scene.ask(&asker, annotate(own)).unwrap();
    assert_eq!(scene.ask(&asker, annotate(other)).unwrap_err().code(), Code::NotAllowed);
    let settings = novacron_protocol::api::SettingsChange { migrations_per_node: Some(9) };
    assert!(scene.ask(&asker, Body::ChangeSettings(settings)).is_err());
    scene.ask(&admin, Body::ChangeSettings(settings)).unwrap();
    // What only the cluster does nobody may ask for.
    let states = Body::SetNodeStates(Vec::new());
    assert_eq!(scene.ask(&admin, states).unwrap_err().code(), Code::NotAllowed);
}

#[test]
fn what_was_refused_for_who_asked_may_be_asked_again() {
    let (mut scene, _, [own, _]) = scene();
    let asker = scene.operator("one");
    let command = |scene: &Scene, request| Command {
        request,
        at: scene.now,
        origin: Origin::Asker(asker.clone()),
        body: Body::StartVm { vm: own },
    };
    let request = RequestId(scene.id());
    let first = command(&scene, request);
    assert_eq!(scene.apply_command(first).unwrap_err().code(), Code::NotAllowed);
    let binding = scene.bind(&asker, role(AccessRole::Operator), at("own"), Allow).unwrap();
    let second = command(&scene, request);
    let reply = scene.apply_command(second);
    assert!(reply.is_ok());
    // And whoever lost its right does not get the answer that was given before.
    scene.apply(Body::Access(AccessOrder::Unbind { binding })).unwrap();
    let third = command(&scene, request);
    assert_eq!(scene.apply_command(third).unwrap_err().code(), Code::NotAllowed);
}

fn key(scene: &mut Scene, principal: &str, seconds: u64) -> (ApiKeyId, Asker) {
    let id = ApiKeyId(scene.id());
    let key = ApiKey {
        id,
        principal: name(principal),
        name: "for a test".to_owned(),
        secret_hash: SecretHash([7; 32]),
        created_at: scene.now,
        expires_at: scene.now.plus_ms(seconds * 1000),
    };
    scene.apply(Body::Access(AccessOrder::CreateKey(key))).unwrap();
    let credential = Credential::ApiKey(id.0);
    (id, Asker { name: name(principal), credential, address: None })
}

fn service(scene: &mut Scene, service: &str) {
    let (kind, display_name) = (PrincipalKind::Service, String::new());
    let order = AccessOrder::CreatePrincipal { name: name(service), kind, display_name };
    scene.apply(Body::Access(order)).unwrap();
}

#[test]
fn a_key_that_was_revoked_or_is_too_old_changes_nothing() {
    let (mut scene, _, [own, _]) = scene();
    service(&mut scene, "ci");
    let (id, asker) = key(&mut scene, "ci", 60);
    let (_, later) = key(&mut scene, "ci", 120);
    scene.bind(&asker, role(AccessRole::Operator), at("own"), Allow).unwrap();
    let stop = || Body::StopVm { vm: own, force: true };
    assert_ne!(scene.ask(&asker, stop()).err().map(|no| no.code()), Some(Code::NotAuthenticated));
    scene.apply(Body::Access(AccessOrder::RevokeKey { key: id })).unwrap();
    assert_eq!(scene.ask(&asker, stop()).unwrap_err().code(), Code::NotAuthenticated);
    assert_ne!(scene.ask(&later, stop()).err().map(|no| no.code()), Some(Code::NotAuthenticated));
    scene.now = scene.now.plus_ms(120_000);
    let expired = scene.ask(&later, stop()).unwrap_err();
    assert_eq!(expired.to_string(), "the API key has expired: make another");
    // A certificate of its name does not make a service account an operator.
    let certificate = scene.ask(&operator_named("ci"), stop()).unwrap_err();
    assert_eq!(certificate.code(), Code::NotAuthenticated);
}

#[test]
fn a_principal_that_is_gone_or_disabled_may_nothing_and_leaves_nothing() {
    let (mut scene, _, [own, _]) = scene();
    let asker = scene.operator("one");
    let (_, by_key) = key(&mut scene, "one", 3600);
    scene.bind(&asker, role(AccessRole::Admin), Scope::Fleet, Allow).unwrap();
    let start = || Body::StartVm { vm: own };
    let state = |state| AccessOrder::ChangePrincipal {
        name: name("one"),
        state: Some(state),
        display_name: None,
    };
    scene.apply(Body::Access(state(PrincipalState::Disabled))).unwrap();
    for asker in [&asker, &by_key] {
        let refusal = scene.ask(asker, start()).unwrap_err();
        assert_eq!(refusal.to_string(), "principal `one` is disabled");
    }
    scene.apply(Body::Access(state(PrincipalState::Active))).unwrap();
    scene.ask(&by_key, start()).unwrap();
    scene.apply(Body::Access(AccessOrder::DeletePrincipal { name: name("one") })).unwrap();
    for asker in [&asker, &by_key] {
        assert_eq!(scene.ask(asker, start()).unwrap_err().code(), Code::NotAuthenticated);
    }
    // One that comes later under the same name begins with nothing.
    let again = scene.operator("one");
    assert_eq!(scene.ask(&again, start()).unwrap_err().code(), Code::NotAllowed);
    assert_eq!(scene.ask(&by_key, start()).unwrap_err().code(), Code::NotAuthenticated);
}

#[test]
fn bindings_on_a_project_go_with_it() {
    let (mut scene, _, _) = scene();
    let asker = scene.operator("one");
    let project = scene.make_project("short", Quotas::default());
    scene.bind(&asker, role(AccessRole::Admin), at("short"), Allow).unwrap();
    let delete = crate::state::project::ProjectOrder::Delete { project: project.clone() };
    scene.apply(Body::Projects(delete)).unwrap();
    scene.make_project("short", Quotas::default());
    assert_eq!(scene.fleet.bindings_of(&asker.name).count(), 0);
    let missing = scene.bind(&asker, role(AccessRole::Admin), at("never"), Allow);
    assert_eq!(missing.unwrap_err().field(), Some("project"));
}

#[test]
fn somebody_remains_who_may_decide_who_may_do_what() {
    let (mut scene, admin, _) = scene();
    let binding = scene.fleet.bindings_of(&admin.name).next().unwrap().id;
    let disable = AccessOrder::ChangePrincipal {
        name: admin.name.clone(),
        state: Some(PrincipalState::Disabled),
        display_name: None,
    };
    let fatal = [
        AccessOrder::Unbind { binding },
        AccessOrder::DeletePrincipal { name: admin.name.clone() },
        disable,
    ];
    let hash = scene.fleet.state_hash().unwrap();
    let try_all = |scene: &mut Scene| {
        for order in &fatal {
            let refusal = scene.fleet.clone().apply(
                scene.fleet.revision(),
                &Command::of_cluster(
                    RequestId(Uuid::nil()),
                    scene.now,
                    Body::Access(order.clone()),
                ),
            );
            assert_eq!(refusal.unwrap_err().code(), Code::Conflict, "{order:?}");
        }
        let denied =
            scene.bind(&operator_named("admin"), pattern("principal.*"), Scope::Fleet, Deny);
        assert_eq!(denied.unwrap_err().code(), Code::Conflict);
    };
    try_all(&mut scene);
    assert_ne!(hash, 0);
    // A service account does not count, its keys expire; nor does who may only in a project.
    service(&mut scene, "ci");
    let ci = operator_named("ci");
    scene.bind(&ci, role(AccessRole::Admin), Scope::Fleet, Allow).unwrap();
    let other = scene.operator("other");
    scene.bind(&other, role(AccessRole::Admin), at("own"), Allow).unwrap();
    try_all(&mut scene);
    scene.bind(&other, pattern("principal.admin"), Scope::Fleet, Allow).unwrap();
    scene.apply(Body::Access(AccessOrder::Unbind { binding })).unwrap();
}

#[test]
fn a_token_makes_an_operator_with_a_role_and_never_gives_another_more() {
    let (mut scene, _, _) = scene();
    let join = |scene: &mut Scene, only: Option<&str>, joins: &str, access| {
        let id = TokenId(scene.id().as_u128().to_be_bytes()[8..].try_into().unwrap());
        let record = TokenRecord {
            role: Role::Operator,
            name: only.map(name),
            expires_at: scene.now.plus_ms(1000),
            secret_hash: SecretHash([0; 32]),
            used: false,
        };
        scene.apply(Body::CreateToken(Token { id, record, used_by: None, access })).unwrap();
        scene.apply(Body::UseToken { token: id, role: Role::Operator, name: name(joins) })
    };
    join(&mut scene, Some("alice"), "alice", AccessRole::Viewer).unwrap();
    let reach = |scene: &Scene, permission| scene.fleet.reach(&name("alice"), permission);
    assert!(reach(&scene, Permission::VmRead).covers(&Scope::Fleet));
    // New credentials for somebody who is there: nothing is added.
    join(&mut scene, Some("alice"), "alice", AccessRole::Admin).unwrap();
    assert_eq!(reach(&scene, Permission::VmCreate), Reach::default());
    // A token for any name is not one for somebody's name.
    let taken = join(&mut scene, None, "admin", AccessRole::Viewer).unwrap_err();
    assert!(taken.to_string().contains("in use"), "{taken}");
    service(&mut scene, "ci");
    assert!(join(&mut scene, Some("ci"), "ci", AccessRole::Viewer).is_err());
    join(&mut scene, None, "bob", AccessRole::Operator).unwrap();
    assert!(scene.fleet.reach(&name("bob"), Permission::VmCreate).covers(&Scope::Fleet));
}

#[test]
fn whoever_makes_tokens_needs_what_they_give() {
    let (mut scene, admin, _) = scene();
    let asker = scene.operator("one");
    scene.bind(&asker, role(AccessRole::Operator), Scope::Fleet, Allow).unwrap();
    let mut create = |asker: &Asker, role| {
        let record = TokenRecord {
            role,
            name: None,
            expires_at: scene.now.plus_ms(1000),
            secret_hash: SecretHash([0; 32]),
            used: false,
        };
        let id = TokenId(scene.id().as_u128().to_be_bytes()[8..].try_into().unwrap());
        let (used_by, access) = (None, AccessRole::Viewer);
        scene.ask(asker, Body::CreateToken(Token { id, record, used_by, access })).is_ok()
    };
    let roles = [Role::Agent, Role::Coordinator, Role::Operator];
    assert_eq!(roles.map(|role| create(&asker, role)), [true, false, false]);
    assert_eq!(roles.map(|role| create(&admin, role)), [true, true, true]);
}

#[test]
fn what_cannot_be_bound_is_refused() {
    let (mut scene, _, _) = scene();
    let asker = scene.operator("one");
    scene.bind(&asker, role(AccessRole::Viewer), Scope::Fleet, Allow).unwrap();
    let twice = scene.bind(&asker, role(AccessRole::Viewer), Scope::Fleet, Allow).unwrap_err();
    assert_eq!(twice.code(), Code::Conflict);
    let nobody = scene.bind(&operator_named("x"), role(AccessRole::Viewer), Scope::Fleet, Allow);
    assert_eq!(nobody.unwrap_err().field(), Some("principal"));
    for number in 0..crate::state::binding::BINDINGS_PER_PRINCIPAL_MAX - 1 {
        let project = scene.make_project(&format!("p-{number}"), Quotas::default());
        scene.bind(&asker, pattern("vm.read"), Scope::Project(project), Allow).unwrap();
    }
    let full = scene.bind(&asker, pattern("*"), Scope::Fleet, Allow).unwrap_err();
    assert_eq!(full.code(), Code::NoCapacity);
}

/// Deciding twice by different ways: bindings as a set, and the words of the decision record.
#[test]
fn reach_is_what_the_rule_says_for_any_bindings() {
    use proptest::prelude::*;
    let scopes = [Scope::Fleet, at("a"), at("b")];
    let one = (0..3usize, any::<bool>(), 0..3usize);
    let cases = proptest::collection::vec(one, 0..8);
    let mut runner = proptest::test_runner::TestRunner::default();
    let rights = [role(AccessRole::Viewer), pattern("vm.*"), pattern("node.read")];
    runner
        .run(&cases, |cases| {
            let binding = |(index, (scope, allows, right)): (usize, &(usize, bool, usize))| {
                crate::state::binding::Binding {
                    id: novacron_protocol::ids::BindingId(Uuid::from_u128(index as u128)),
                    principal: name("one"),
                    right: rights[*right].clone(),
                    scope: scopes[*scope].clone(),
                    effect: if *allows { Allow } else { Deny },
                    created_at: Default::default(),
                }
            };
            let bindings: Vec<_> = cases.iter().enumerate().map(binding).collect();
            let reach = Reach::of(&bindings, Permission::VmRead);
            for (place, scope) in scopes.iter().enumerate() {
                // `node.read` says nothing about machines.
                let said = |allows| {
                    cases.iter().any(|(scope, effect, right)| {
                        *effect == allows && *right != 2 && (*scope == 0 || *scope == place)
                    })
                };
                prop_assert_eq!(reach.covers(scope), said(true) && !said(false), "{:?}", scope);
            }
            Ok(())
        })
        .unwrap();
}
