//! Whoever proves nothing keeps nobody out: connections of strangers have fewer places, and give way.

use std::time::Duration;

use novacron_coordinator::clock::Clock;
use novacron_transport::Role;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::https::frames::Http2;
use crate::https::{Https, Stream, read_answer};
use crate::limits::tenant;
use crate::member::Member;

const DEADLINE: Duration = Duration::from_secs(20);

async fn member(limits: &str) -> Member {
    Member::start_configured(Clock::system(), &format!("[limits]\n{limits}")).await
}

/// Asks on a connection that goes on.
async fn ask(stream: &mut Stream, path: &str, bearer: &str) -> u16 {
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: {bearer}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    timeout(DEADLINE, read_answer(stream)).await.expect("an answer")
}

async fn served(client: &Https) {
    let answer = timeout(DEADLINE, client.get("/api/v1/vms")).await.expect("it is served");
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Whether the other end closes.
async fn is_closed(stream: &mut Stream) -> bool {
    timeout(DEADLINE, stream.read_to_end(&mut Vec::new())).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_strangers_at_many_addresses_keep_nobody_with_an_identity_out() {
    let member = member("connections = 8\nconnections_per_address = 2").await;
    let (operator, bearer) = (member.client(Role::Operator), tenant(&member).await);
    // Two at each of four addresses would be all places that there are.
    let mut idle = Vec::new();
    for address in 11..15 {
        for _ in 0..2 {
            idle.push(member.anonymous().at([127, 0, 0, address]).connect().await);
        }
    }
    served(&operator).await;
    let mut own = timeout(DEADLINE, member.anonymous().connect()).await.expect("a place");
    assert_eq!(ask(&mut own, "/api/v1/whoami", &bearer).await, 200);
    // Those that are somebody's stay while strangers come and go.
    let mut certified = operator.connect().await;
    assert_eq!(ask(&mut certified, "/api/v1/vms", &bearer).await, 200);
    for address in 21..41 {
        idle.push(member.anonymous().at([127, 0, 0, address]).connect().await);
    }
    assert_eq!(ask(&mut own, "/api/v1/whoami", &bearer).await, 200);
    assert_eq!(ask(&mut certified, "/api/v1/vms", &bearer).await, 200);
    assert!(is_closed(&mut idle[0]).await, "the first of the strangers gave way");
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_what_a_principal_may_have_give_way_as_strangers_do() {
    let member = member("connections = 8\nconnections_per_principal = 1").await;
    let (client, bearer) = (member.anonymous(), tenant(&member).await);
    let mut own = Vec::new();
    for _ in 0..3 {
        let mut stream = client.connect().await;
        assert_eq!(ask(&mut stream, "/api/v1/whoami", &bearer).await, 200);
        own.push(stream);
    }
    let mut idle = Vec::new();
    for address in 11..19 {
        idle.push(member.anonymous().at([127, 0, 0, address]).connect().await);
    }
    let [first, second, third] = &mut own[..] else { panic!("three") };
    assert!(is_closed(second).await && is_closed(third).await);
    assert_eq!(ask(first, "/api/v1/whoami", &bearer).await, 200);
    member.stop().await;
}

/// An HTTP/2 connection would live as long as it answers pings.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_nothing_more_is_hung_up_on_and_who_reads_a_stream_is_not() {
    let member = member("head_ms_max = 300").await;
    let bearer = tenant(&member).await;
    let own = [("authorization", bearer.as_str())];
    let watch = [own[0], ("accept", "text/event-stream")];
    let mut watcher = asked(&member, "/api/v1/events", &watch).await;
    for (path, headers) in [("/api/v1/whoami", &own[..]), ("/healthz", &[])] {
        let mut idle = asked(&member, path, headers).await;
        assert!(is_closed(&mut idle.stream).await, "{path}");
    }
    watcher.ask("/api/v1/whoami", &own).await.unwrap();
    assert_eq!(watcher.next_is_found().await, Some(true));
    member.stop().await;
}

/// A connection on which something was asked and found.
async fn asked(member: &Member, path: &str, headers: &[(&str, &str)]) -> Http2 {
    let mut connection = Http2::connect(&member.anonymous(), 1 << 16).await;
    connection.ask(path, headers).await.unwrap();
    assert_eq!(connection.next_is_found().await, Some(true));
    connection
}
