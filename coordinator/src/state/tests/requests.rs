use novacron_protocol::access::AccessRole;
use novacron_protocol::api::Code;
use novacron_protocol::effect::{EffectOutcome, Report};
use novacron_protocol::ids::{ClusterId, MemberId, RequestId, VmId};
use novacron_transport::Role;
use novacron_transport::token::{SecretHash, TokenId, TokenRecord};

use crate::state::command::SessionReports;
use crate::state::fleet::Applying;
use crate::state::formats::Formats;
use crate::state::member::MemberFacts;
use crate::state::node::SessionId;
use crate::state::reply::TokenProblem;
use crate::state::request::{REQUEST_KEPT_MS, REQUEST_TTL_MS, REQUESTS_LEISURELY};
use crate::state::testing::{Scene, name, spec};
use crate::state::token::Token;
use crate::state::{Accepted, Body, Refusal};

#[test]
fn a_request_is_applied_once() {
    let mut scene = Scene::new();
    scene.join("node-01", 16);
    let request = RequestId(scene.id());
    let body = scene.create_body(spec("web"), None, false);
    let first = scene.apply_as(request, body);
    // The client asks again: the proposer chose another id.
    let body = scene.create_body(spec("web"), None, false);
    assert_eq!(scene.apply_as(request, body), first);
    assert_eq!(scene.fleet.vms().count(), 1);
    let other = scene.create_body(spec("other"), None, false);
    let refusal = scene.apply_as(request, other).unwrap_err();
    assert_eq!(refusal.code(), Code::IdempotencyConflict);
}

#[test]
fn refusals_are_remembered_too_and_all_are_forgotten_by_the_time_in_the_log() {
    let mut scene = Scene::new();
    let request = RequestId(scene.id());
    let vm = VmId(scene.id());
    let refusal = scene.apply_as(request, Body::StartVm { vm });
    assert_eq!(scene.apply_as(request, Body::StartVm { vm }), refusal);
    scene.now = scene.now.plus_ms(REQUEST_TTL_MS + 1);
    scene.create("another");
    let body = Body::StopVm { vm, force: true };
    assert_eq!(scene.apply_as(request, body), Err(Refusal::NoSuchVm(vm)), "a new request by now");
}

#[test]
fn a_burst_pushes_nothing_out_that_may_be_asked_for_again() {
    let mut scene = Scene::new();
    let first = RequestId(scene.id());
    let many = |scene: &mut Scene, count: usize| {
        for _ in 0..count {
            scene.now = scene.now.plus_ms(u64::from(scene.fleet.requests.len().is_multiple_of(4)));
            // Not as commands: checking every invariant after each would take minutes.
            let request = RequestId(scene.id());
            scene.fleet.remember(
                &Applying::at(scene.now),
                request,
                1,
                &Ok(Accepted::Member(MemberId(1))),
            );
        }
    };
    scene.fleet.remember(&Applying::at(scene.now), first, 1, &Ok(Accepted::Member(MemberId(1))));
    many(&mut scene, REQUESTS_LEISURELY + 100);
    assert!(scene.fleet.kept_answer(first).is_some(), "after 16 s");
    scene.now = scene.now.plus_ms(REQUEST_KEPT_MS);
    many(&mut scene, 10);
    assert!(scene.fleet.kept_answer(first).is_none());
    // Those of the burst go a few with each new one, until as many are left as stay for a day.
    assert!(scene.fleet.requests.len() > REQUESTS_LEISURELY);
    many(&mut scene, 100);
    assert_eq!(scene.fleet.requests.len(), REQUESTS_LEISURELY);
    scene.fleet.check().unwrap();
}

#[test]
fn reports_count_once_and_in_order() {
    let mut scene = Scene::new();
    scene.join("node-01", 16);
    let vm = scene.create("web");
    let effect = scene.effects("node-01").remove(0);
    let session = scene.fleet.node(&name("node-01")).unwrap().session;
    let done = Report::EffectDone { effect: effect.id, outcome: EffectOutcome::Done };
    let batch = |session, first_sequence, reports: Vec<Report>| {
        Body::Reports(vec![SessionReports {
            node: name("node-01"),
            session,
            first_sequence,
            reports,
        }])
    };
    let committed = |sequence| Ok(Accepted::Sequences(vec![sequence]));
    assert_eq!(
        scene.apply(batch(SessionId(99), 1, vec![done.clone()])),
        committed(0),
        "old session"
    );
    assert_eq!(scene.apply(batch(session, 2, vec![done.clone()])), committed(0), "a gap");
    assert_eq!(scene.apply(batch(session, 1, vec![done.clone()])), committed(1));
    assert_eq!(scene.apply(batch(session, 1, vec![done.clone()])), committed(1), "sent again");
    assert_eq!(scene.apply(batch(session, 1, vec![done.clone(), done])), committed(2));
    assert_eq!(scene.state(vm), novacron_protocol::vm::VmState::Stopped);
}

#[test]
fn a_token_is_used_once() {
    let mut scene = Scene::new();
    let id = TokenId([1; 8]);
    let record = TokenRecord {
        role: Role::Agent,
        name: Some("node-01".parse().unwrap()),
        expires_at: scene.now.plus_ms(1000),
        secret_hash: SecretHash([7; 32]),
        used: false,
    };
    let token = Token { id, record, used_by: None, access: AccessRole::Operator };
    scene.apply(Body::CreateToken(token)).unwrap();
    let usage = |role, name: &str| Body::UseToken { token: id, role, name: name.parse().unwrap() };
    let problem = |problem| Err(Refusal::Token(problem));
    assert_eq!(scene.apply(usage(Role::Operator, "node-01")), problem(TokenProblem::OtherRole));
    assert_eq!(scene.apply(usage(Role::Agent, "node-02")), problem(TokenProblem::OtherName));
    scene.apply(usage(Role::Agent, "node-01")).unwrap();
    assert_eq!(scene.apply(usage(Role::Agent, "node-01")), problem(TokenProblem::Used));
    let id = TokenId([2; 8]);
    let unknown = Body::UseToken { token: id, role: Role::Agent, name: "a".parse().unwrap() };
    assert_eq!(scene.apply(unknown), problem(TokenProblem::Invalid));
}

#[test]
fn an_expired_token_is_told_so_by_the_time_in_the_log() {
    let mut scene = Scene::new();
    let record = TokenRecord {
        role: Role::Agent,
        name: None,
        expires_at: scene.now.plus_ms(1000),
        secret_hash: SecretHash([7; 32]),
        used: false,
    };
    let id = TokenId([1; 8]);
    scene
        .apply(Body::CreateToken(Token { id, record, used_by: None, access: AccessRole::Operator }))
        .unwrap();
    scene.now = scene.now.plus_ms(1000);
    let body = Body::UseToken { token: id, role: Role::Agent, name: "a".parse().unwrap() };
    assert_eq!(scene.apply(body), Err(Refusal::Token(TokenProblem::Expired)));
}

#[test]
fn a_member_id_is_never_used_again() {
    let mut scene = Scene::new();
    let member = |name: &str| MemberFacts {
        name: name.to_owned(),
        peer_address: format!("{name}:7400"),
        api_address: format!("{name}:7443"),
        formats: Formats::default(),
    };
    let cluster = ClusterId(scene.id());
    let admitted = |id| Ok(Accepted::Member(MemberId(id)));
    let operator = "admin".parse().unwrap();
    let found = Body::FoundCluster { cluster, member: member("c1"), operator };
    assert_eq!(scene.apply(found.clone()), admitted(1));
    assert_eq!(scene.apply(found).unwrap_err().code(), Code::Conflict);
    let request = RequestId(scene.id());
    let admit = |name: &str| Body::AdmitMember(member(name));
    assert_eq!(scene.apply_as(request, admit("c2")), admitted(2));
    assert_eq!(scene.apply_as(request, admit("c2")), admitted(2), "its answer was lost");
    assert_eq!(scene.apply(admit("c2")), admitted(3), "it lost its data before it took part");
    let gone = scene.apply(Body::EnterMember { member: MemberId(2) });
    assert_eq!(gone.unwrap_err().code(), Code::MemberIdUsed);
    scene.apply(Body::EnterMember { member: MemberId(3) }).unwrap();
    assert_eq!(scene.apply(admit("c2")).unwrap_err().code(), Code::Conflict);
    scene.apply(Body::RemoveMember { member: MemberId(3) }).unwrap();
    assert_eq!(scene.apply(admit("c2")), admitted(4));
    let gone = scene.apply(Body::RemoveMember { member: MemberId(3) });
    assert_eq!(gone.unwrap_err().code(), Code::MemberIdUsed);
}

#[test]
fn a_token_for_any_name_takes_nobodys_place() {
    let mut scene = Scene::new();
    scene.join("node-01", 8);
    let any = TokenRecord {
        role: Role::Agent,
        name: None,
        expires_at: scene.now.plus_ms(1000),
        secret_hash: SecretHash([7; 32]),
        used: false,
    };
    let own = TokenRecord { name: Some("node-01".parse().unwrap()), ..any.clone() };
    let mut usage = |number: u8, record: TokenRecord, name: &str| {
        let id = TokenId([number; 8]);
        scene
            .apply(Body::CreateToken(Token {
                id,
                record,
                used_by: None,
                access: AccessRole::Operator,
            }))
            .unwrap();
        scene.apply(Body::UseToken { token: id, role: Role::Agent, name: name.parse().unwrap() })
    };
    let taken = Err(Refusal::Token(TokenProblem::NameTaken));
    assert_eq!(usage(1, any.clone(), "node-01"), taken);
    assert!(usage(2, any, "node-02").is_ok());
    assert!(usage(3, own, "node-01").is_ok(), "a host that is set up anew");
}
