//! The client against coordinators that fail in every way that matters, over real TLS.
#![allow(missing_docs, clippy::unwrap_used)]

mod fake;

use std::io::Read;

use fake::{Authority, answer, nobody, stream};
use novacron_protocol::api::{Code, Problem, TokenCreate};
use novacron_protocol::ids::Revision;
use novacron_sdk::{Error, EventFilter};
use tempfile::tempdir;

const TOKEN: &str = r#"{"token":"t","role":"agent","name":null,"expires_at":"2026-01-01T00:00:00Z","coordinators":[]}"#;

fn token_create() -> TokenCreate {
    TokenCreate { role: "agent".into(), name: None, access: None, ttl_seconds: None }
}

fn problem(code: Code, detail: &str) -> String {
    let problem = Problem::new(code, detail);
    answer(&format!("{} Problem", problem.status), &serde_json::to_string(&problem).unwrap())
}

fn event(revision: u64, sequence: u32) -> String {
    format!(
        "{{\"revision\":{revision},\"sequence\":{sequence},\"at\":\"2026-01-01T00:00:00Z\",\"kind\":\"vm.state\",\
         \"actor\":{{\"kind\":\"cluster\"}},\"object\":{{\"kind\":\"vm\"}},\
         \"vm\":null,\"node\":null,\"migration\":null,\"request\":null,\"message\":\"m\"}}\n"
    )
}

#[test]
fn a_write_goes_to_the_next_coordinator_under_the_same_key() {
    let (authority, directory) = (Authority::new(), tempdir().unwrap());
    let (without_quorum, first) =
        authority.serve("coordinator", vec![problem(Code::Unavailable, "no quorum")]);
    let (with_quorum, second) = authority.serve("coordinator", vec![answer("201 Created", TOKEN)]);
    let client = authority.client(directory.path(), &[&nobody(), &without_quorum, &with_quorum]);

    assert_eq!(client.token_create(&token_create()).unwrap().token, "t");
    let (first, second) = (first.recv().unwrap(), second.recv().unwrap());
    assert_eq!(first.target, "POST /api/v1/tokens");
    assert!(first.key.is_some());
    assert_eq!(first.key, second.key);
    assert_eq!(first.body, second.body);
}

/// Whatever others answer later.
#[test]
fn a_write_that_may_have_been_done_is_said_to_be_so() {
    let authority = Authority::new();
    let unknown = || problem(Code::OutcomeUnknown, "the outcome is not known");
    let broken_off = String::new;
    for first in [unknown(), broken_off()] {
        let directory = tempdir().unwrap();
        let (one, _seen) = authority.serve("coordinator", vec![first]);
        let (two, _asked) =
            authority.serve("coordinator", vec![problem(Code::Unavailable, "no quorum")]);
        let client = authority.client(directory.path(), &[&one, &two]);
        let error = client.token_create(&token_create()).unwrap_err();
        assert_eq!(error.problem().unwrap().code, Code::OutcomeUnknown, "{error}");
    }
    // What never left did nothing, nor did a read.
    let directory = tempdir().unwrap();
    let (agent, _seen) = authority.serve("agent", vec![]);
    let client = authority.client(directory.path(), &[&nobody(), &agent]);
    let error = client.token_create(&token_create()).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    let directory = tempdir().unwrap();
    let (one, _seen) = authority.serve("coordinator", vec![broken_off()]);
    let error = authority.client(directory.path(), &[&one]).cluster().unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}

#[test]
fn a_refusal_is_the_answer_and_is_not_asked_again() {
    let (authority, directory) = (Authority::new(), tempdir().unwrap());
    let refusal = problem(Code::InvalidRequest, "the role is not one");
    let (one, _seen) = authority.serve("coordinator", vec![refusal]);
    let (two, untouched) = authority.serve("coordinator", vec![answer("201 Created", TOKEN)]);
    let client = authority.client(directory.path(), &[&one, &two]);

    let error = client.token_create(&token_create()).unwrap_err();
    assert_eq!(error.problem().unwrap().code, Code::InvalidRequest);
    assert_eq!(error.to_string(), "the role is not one");
    assert!(untouched.try_recv().is_err());
}

#[test]
fn nobody_there_names_every_endpoint() {
    let (authority, directory) = (Authority::new(), tempdir().unwrap());
    let (one, two) = (nobody(), nobody());
    let error = authority.client(directory.path(), &[&one, &two]).cluster().unwrap_err();
    let Error::Unreachable { attempts } = &error else { panic!("{error:?}") };
    assert!(attempts[0].starts_with(&one) && attempts[1].starts_with(&two), "{attempts:?}");
}

#[test]
fn an_agent_cannot_pass_for_a_coordinator() {
    let (authority, directory) = (Authority::new(), tempdir().unwrap());
    let (agent, seen) = authority.serve("agent", vec![answer("200 OK", "{}")]);
    let error = authority.client(directory.path(), &[&agent]).cluster().unwrap_err();
    assert!(error.to_string().contains("role agent"), "{error}");
    assert!(seen.try_recv().is_err(), "the request left");
}

#[test]
fn another_clusters_authority_is_not_believed() {
    let (ours, theirs, directory) = (Authority::new(), Authority::new(), tempdir().unwrap());
    let (impostor, _seen) = theirs.serve("coordinator", vec![answer("200 OK", "{}")]);
    let error = ours.client(directory.path(), &[&impostor]).cluster().unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}

#[test]
fn a_watch_that_breaks_inside_a_revision_repeats_nothing_and_misses_nothing() {
    let (authority, directory) = (Authority::new(), tempdir().unwrap());
    let broken = stream(&format!("{}\n{}{{\"half", event(4, 0), event(5, 0)));
    let rest = stream(&[event(5, 0), event(5, 1), event(6, 0)].concat());
    let (url, seen) = authority.serve("coordinator", vec![broken, rest]);
    let watch = authority
        .client(directory.path(), &[&url])
        .watch_events(EventFilter::default(), Revision(4));

    let events = watch.take(4).map(|event| event.map(|event| (event.revision.0, event.sequence)));
    assert_eq!(events.collect::<Result<Vec<_>, _>>().unwrap(), [(4, 0), (5, 0), (5, 1), (6, 0)]);
    assert_eq!(seen.recv().unwrap().target, "GET /api/v1/events?from_revision=4&follow=true");
    assert_eq!(seen.recv().unwrap().target, "GET /api/v1/events?from_revision=5&follow=true");
}

#[test]
fn a_problem_in_a_stream_ends_the_watch() {
    let (authority, directory) = (Authority::new(), tempdir().unwrap());
    let problem = serde_json::to_string(&Problem::new(Code::Internal, "broken")).unwrap();
    let (url, _seen) = authority.serve("coordinator", vec![stream(&format!("{problem}\n"))]);
    let mut watch = authority
        .client(directory.path(), &[&url])
        .watch_events(EventFilter::default(), Revision(0));
    assert_eq!(watch.next().unwrap().unwrap_err().to_string(), "broken");
    assert!(watch.next().is_none());
}

#[test]
fn a_console_goes_on_at_the_byte_where_it_stopped() {
    let (authority, directory) = (Authority::new(), tempdir().unwrap());
    let answers = vec![stream("hello "), stream("world"), stream("")];
    let (url, seen) = authority.serve("coordinator", answers);
    let mut console =
        authority.client(directory.path(), &[&url]).console("web-01", 10, true).unwrap();

    let mut text = String::new();
    console.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello world");
    assert_eq!(console.offset(), 21);
    let targets: Vec<String> = seen.iter().take(3).map(|seen| seen.target).collect();
    let at = |offset| format!("GET /api/v1/vms/web-01/console?from={offset}&follow=true");
    assert_eq!(targets, [at(10), at(16), at(21)]);
}

#[test]
fn an_api_key_is_shown_instead_of_a_certificate_and_nowhere_else() {
    const KEY: &str = "nck_00000000000000000000000000000007_abababab";
    let (authority, directory) = (Authority::new(), tempdir().unwrap());
    let (url, seen) = authority.serve("coordinator", vec![answer("201 Created", TOKEN)]);
    let written = format!("{KEY}\n");
    let client = authority.client_with_key(directory.path(), &written, &url).unwrap();
    assert!(!format!("{client:?}").contains("abab"));
    client.token_create(&token_create()).unwrap();
    let seen = seen.recv().unwrap();
    assert_eq!(seen.authorization, Some(format!("Bearer {KEY}")));
    assert!(!seen.has_certificate);

    let (url, seen) = authority.serve("coordinator", vec![answer("201 Created", TOKEN)]);
    authority.client(directory.path(), &[&url]).token_create(&token_create()).unwrap();
    let seen = seen.recv().unwrap();
    assert!(seen.has_certificate && seen.authorization.is_none());

    for wrong in ["", "secret-abab", "nck_1_abab extra"] {
        let error = authority.client_with_key(directory.path(), wrong, &url).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains("api-key") && !text.contains("abab"), "{text}");
    }
    // Another program at the address that the authority did not vouch for gets nothing.
    let stranger = Authority::new();
    let (url, unseen) = stranger.serve("coordinator", vec![answer("201 Created", TOKEN)]);
    let client = authority.client_with_key(directory.path(), &written, &url).unwrap();
    assert!(client.token_create(&token_create()).is_err());
    assert!(unseen.try_recv().is_err());
}
