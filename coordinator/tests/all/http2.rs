//! What HTTP/2 lets a client do to a server, against a real one: answers that it asks for and does not read, and floods that
//! cost it little.

use std::io;
use std::time::Duration;

use futures_util::future::join_all;
use novacron_coordinator::clock::Clock;
use novacron_transport::Role;
use serde_json::{Map, json};
use tokio::time::timeout;

use crate::https::Https;
use crate::https::frames::{
    CONTINUATION, END_HEADERS, END_STREAM, HEADERS, Http2, PING, RST_STREAM, SETTINGS, block, frame,
};
use crate::limits::{tenant, whoami};
use crate::member::Member;

const DEADLINE: Duration = Duration::from_secs(30);

/// What a flood may send until it is stopped: what fits the buffers between both ends, and much more than that.
const FLOOD_BYTES_MAX: usize = 64 << 20;

async fn member(settings: &str) -> Member {
    Member::start_configured(Clock::system(), settings).await
}

async fn is_closed(connection: &mut Http2) -> bool {
    let end = async { while connection.frame().await.is_some() {} };
    timeout(DEADLINE, end).await.is_ok()
}

async fn is_served(member: &Member) {
    let answer = timeout(DEADLINE, member.client(Role::Operator).get("/api/v1/vms")).await;
    assert_eq!(answer.expect("others are served").status, 200);
}

/// Answers, each a 200 or none, that nobody reads go with their connection, and their places come back.
async fn are_kept_until_their_connection_ends(path: &str, are_found: bool) {
    let settings =
        "[limits]\nrequests_at_once_per_principal = 4\n[watch]\nslow_reader_after_ms = 1000";
    let member = member(settings).await;
    let (client, bearer) = (member.anonymous(), tenant(&member).await);
    let own = [("authorization", bearer.as_str())];
    let mut reads_nothing = Http2::connect(&client, 0).await;
    for _ in 0..4 {
        reads_nothing.ask(path, &own).await.unwrap();
        assert_eq!(reads_nothing.next_is_found().await, Some(are_found));
    }
    let refused = whoami(&client, &bearer).await;
    assert_eq!((refused.status, refused.problem().1.as_str()), (429, "too_many_at_once"));
    assert!(is_closed(&mut reads_nothing).await);
    crate::support::until("their places are free", async || {
        (whoami(&client, &bearer).await.status == 200).then_some(())
    })
    .await;
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_reads_go_with_their_connection_and_their_places_come_back() {
    are_kept_until_their_connection_ends("/api/v1/whoami", true).await;
}

/// A refusal says all that is wrong, and can be longer than what was asked for.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_that_nobody_reads_keep_their_places_as_answers_do() {
    are_kept_until_their_connection_ends("/api/v1/vms?limit=none", false).await;
}

/// A stranger, too, has to read what it asked for; and a stream of events is not read for ever.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_not_read_is_not_kept_for_ever() {
    let member = member("[watch]\nslow_reader_after_ms = 500").await;
    let bearer = tenant(&member).await;
    let own = [("authorization", bearer.as_str()), ("accept", "text/event-stream")];
    for (path, headers) in [("/api/v1/openapi.json", &[][..]), ("/api/v1/events", &own)] {
        let mut connection = Http2::connect(&member.anonymous(), 0).await;
        connection.ask(path, headers).await.unwrap();
        assert_eq!(connection.next_is_found().await, Some(true), "{path}");
        assert!(is_closed(&mut connection).await, "{path}");
    }
    assert_eq!(member.app().watchers.open(), 0);
    member.stop().await;
}

/// Machines whose list is some 1 MiB.
async fn with_much_to_list(client: &Https) {
    let value = "x".repeat(128);
    let labels: Map<_, _> = (0..64).map(|number| (format!("k{number}"), json!(value))).collect();
    let create = |number: usize| {
        let vm = json!({
            "name": format!("vm-{number}"), "memory": 16 << 20, "disk": 1 << 20, "labels": labels,
        });
        async move { client.post("/api/v1/vms", &vm.to_string()).await.status }
    };
    let made = join_all((0..112).map(create)).await;
    assert!(made.iter().all(|status| *status == 201), "{made:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_answers_that_nobody_reads_are_few() {
    let member = member("").await;
    let operator = member.client(Role::Operator);
    with_much_to_list(&operator).await;
    let bearer = tenant(&member).await;
    let own = [("authorization", bearer.as_str())];
    let mut connection = Http2::connect(&member.anonymous(), 0).await;
    let mut found = 0;
    for _ in 0..20 {
        connection.ask("/api/v1/vms?limit=1000", &own).await.unwrap();
        found += usize::from(connection.next_is_found().await.expect("an answer"));
    }
    assert!((4..=8).contains(&found), "{found} answers of 1 MiB beside each other");
    // What is small is answered on the same connection, and what is large on another.
    connection.ask("/api/v1/whoami", &own).await.unwrap();
    assert_eq!(connection.next_is_found().await, Some(true));
    assert_eq!(operator.get("/api/v1/vms?limit=1000").await.status, 200);
    member.stop().await;
}

/// Sends the same again and again until the other end has enough; how many bytes that were.
async fn flood(connection: &mut Http2, bytes: &[u8]) -> usize {
    let mut sent = 0;
    let send = async {
        while sent < FLOOD_BYTES_MAX && connection.send(bytes).await.is_ok() {
            sent += bytes.len();
        }
    };
    timeout(DEADLINE, send).await.expect("the other end stops it");
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_without_an_end_is_cut_off() {
    let member = member("").await;
    let mut connection = Http2::connect(&member.anonymous(), 0).await;
    let stream = connection.next_stream();
    let begun = block("GET", "/healthz", &[]);
    connection.send(&frame(HEADERS, END_STREAM, stream, &begun)).await.unwrap();
    let field = block("GET", "/", &[("x", &"y".repeat(8_000))]);
    let sent = flood(&mut connection, &frame(CONTINUATION, 0, stream, &field)).await;
    assert!(sent < FLOOD_BYTES_MAX / 2, "{sent} bytes");
    is_served(&member).await;
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_no_acknowledgements_is_waited_for_and_then_hung_up_on() {
    let member = member("[watch]\nslow_reader_after_ms = 500").await;
    for (kind, payload) in [(SETTINGS, &[][..]), (PING, &[7; 8])] {
        let mut connection = Http2::connect(&member.client(Role::Operator), 0).await;
        let many = frame(kind, 0, 0, payload).repeat(1_000);
        let sent = flood(&mut connection, &many).await;
        assert!(sent < FLOOD_BYTES_MAX, "{sent} bytes of frames of kind {kind}");
    }
    is_served(&member).await;
    member.stop().await;
}

/// Requests that are taken back at once (CVE-2023-44487) are bounded as others are, and leave nothing behind.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_taken_back_are_few_and_hold_no_places() {
    let member = member("[limits]\nrequests_at_once_per_principal = 4").await;
    let (client, bearer) = (member.anonymous(), tenant(&member).await);
    let asked = block("GET", "/api/v1/vms", &[("authorization", &bearer)]);
    let mut connection = Http2::connect(&client, 1 << 16).await;
    let taken_back: io::Result<()> = async {
        for _ in 0..100 {
            let mut bytes = Vec::new();
            for _ in 0..100 {
                let stream = connection.next_stream();
                bytes.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, &asked));
                bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
            }
            connection.send(&bytes).await?;
        }
        Ok(())
    }
    .await;
    assert!(taken_back.is_err() || is_closed(&mut connection).await, "10,000 are too many");
    crate::support::until("no place is lost", async || {
        let all = join_all((0..4).map(|_| whoami(&client, &bearer))).await;
        all.iter().all(|answer| answer.status == 200).then_some(())
    })
    .await;
    member.stop().await;
}
