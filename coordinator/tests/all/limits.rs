//! Nothing that one client does stops or slows the API for others: over real TLS, with limits that are quickly passed.
//!
//! That others are served is said by their being answered, not by how long it took; each test hangs or is answered
//! otherwise if its limit is taken away.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use novacron_coordinator::clock::Clock;
use novacron_transport::Role;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::https::{Answer, Https, Stream, read_answer};
use crate::member::Member;

const DEADLINE: Duration = Duration::from_secs(20);
const ELSEWHERE: [u8; 4] = [127, 0, 0, 2];

async fn member(limits: &str) -> Member {
    Member::start_configured(Clock::system(), &format!("[limits]\n{limits}")).await
}

/// A tenant's API key, as the header's value.
pub async fn tenant(member: &Member) -> String {
    let client = member.client(Role::Operator);
    let principal = json!({ "name": "busy", "kind": "service" }).to_string();
    assert_eq!(client.post("/api/v1/principals", &principal).await.status, 201);
    let binding = json!({ "principal": "busy", "role": "operator", "project": "default" });
    assert_eq!(client.post("/api/v1/bindings", &binding.to_string()).await.status, 201);
    let key = json!({ "principal": "busy", "name": "test" }).to_string();
    let key =
        client.post("/api/v1/api-keys", &key).await.json()["key"].as_str().unwrap().to_owned();
    format!("Bearer {key}")
}

pub async fn whoami(client: &Https, bearer: &str) -> Answer {
    client.send("GET", "/api/v1/whoami", &[("authorization", bearer)], b"").await
}

pub fn assert_has_to_wait(answer: &Answer, code: &str) {
    assert_eq!((answer.status, answer.problem().1), (429, code.to_owned()));
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(seconds >= 1, "{answer:?}");
    assert_eq!(answer.json()["retry_after_seconds"], seconds);
}

/// Whether the other end has closed: there is nothing more to read, or it broke off.
async fn is_closed(stream: &mut Stream) -> bool {
    let mut bytes = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_connects_and_does_not_ask_is_hung_up_on() {
    let member = member("head_ms_max = 200").await;
    for (protocol, beginning) in [
        ("http/1.1", ""),
        ("http/1.1", "GET /healthz HTTP/1.1\r\nhost: nova"),
        ("h2", ""),
        ("h2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ] {
        let mut stream = member.anonymous().speaking(protocol).connect().await;
        stream.write_all(beginning.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        assert!(is_closed(&mut stream).await, "{protocol} after `{beginning}`");
    }
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let member = member("body_ms_max = 200").await;
    let mut stream = member.client(Role::Operator).connect().await;
    let head = "POST /api/v1/projects HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut status = String::new();
    timeout(DEADLINE, stream.read_line(&mut status)).await.expect("an answer").unwrap();
    assert_eq!(status, "HTTP/1.1 408 Request Timeout\r\n");
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_large_is_refused() {
    let member = member("").await;
    let client = member.client(Role::Operator);
    let long = "x".repeat(33 * 1024);
    let answer = client.send("GET", "/api/v1/vms", &[("x-long", &long)], b"").await;
    assert_eq!(answer.problem(), (431, "head_too_large".to_owned(), None));
    let many: Vec<String> = (0..65).map(|number| format!("x-{number}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), "y")).collect();
    let answer = client.send("GET", "/api/v1/vms", &many, b"").await;
    assert_eq!(answer.problem(), (431, "head_too_large".to_owned(), None));
    let answer = client.get(&format!("/api/v1/vms?cursor={long}")).await;
    assert_eq!(answer.problem(), (431, "head_too_large".to_owned(), None));
    let longer = "x".repeat(100 * 1024);
    let answer = client.send("GET", "/api/v1/vms", &[("x-long", &longer)], b"").await;
    assert_eq!(answer.status, 431, "{answer:?}");
    assert_eq!(client.get("/api/v1/vms").await.status, 200);
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_holds_all_connections_it_gets_leaves_some_for_others() {
    let member = member("connections = 8\nconnections_per_address = 4").await;
    let hoarder = member.anonymous().at(ELSEWHERE);
    let (mut held, mut refused) = (Vec::new(), 0);
    for _ in 0..20 {
        match hoarder.try_connect().await {
            Ok(stream) => held.push(stream),
            Err(_) => refused += 1,
        }
    }
    let client = member.client(Role::Operator);
    let answer = timeout(DEADLINE, client.get("/api/v1/vms")).await.expect("others are served");
    assert_eq!(answer.status, 200);
    assert_eq!((held.len(), refused), (4, 16));
    assert!(member.metrics().await.contains("novacron_api_connections_refused_total 16\n"));
    held.clear();
    crate::support::until("there is room again", async || hoarder.try_connect().await.ok()).await;
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_connects_too_often_costs_no_handshakes() {
    let member = member("connections_per_second_per_address = 5").await;
    let flooder = member.anonymous().at(ELSEWHERE);
    let mut refused = 0;
    for _ in 0..200 {
        refused += usize::from(flooder.try_connect().await.is_err());
    }
    assert!(refused > 0, "200 handshakes in less than 38 s");
    assert_eq!(member.client(Role::Operator).get("/api/v1/vms").await.status, 200);
    member.stop().await;
}

/// A request whose body is asked for, and does not come yet.
async fn unfinished(client: &Https, bearer: &str, body: &str) -> Stream {
    unfinished_of(client, bearer, body.len()).await
}

async fn unfinished_of(client: &Https, bearer: &str, length: usize) -> Stream {
    let mut stream = client.connect().await;
    let head = format!(
        "POST /api/v1/vms HTTP/1.1\r\nhost: x\r\nauthorization: {bearer}\r\nconnection: close\r\n\
         expect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    assert_eq!(line, "HTTP/1.1 100 Continue\r\n");
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_many_requests_under_way_waits_for_one_of_them() {
    let member = member("requests_at_once_per_principal = 4").await;
    let (bearer, client) = (tenant(&member).await, member.anonymous());
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(unfinished(&client, &bearer, "{}").await);
    }
    assert_has_to_wait(&whoami(&client, &bearer).await, "too_many_at_once");
    assert_eq!(member.client(Role::Operator).get("/api/v1/vms").await.status, 200);
    let mut first = open.remove(0);
    first.write_all(b"{}").await.unwrap();
    first.flush().await.unwrap();
    let mut answer = String::new();
    first.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("invalid_request"), "{answer}");
    crate::support::until("its place is free again", async || {
        (whoami(&client, &bearer).await.status == 200).then_some(())
    })
    .await;
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_too_often_waits_and_others_are_served_meanwhile() {
    let member = member("requests_per_second_per_principal = 10").await;
    let (bearer, client) = (tenant(&member).await, member.anonymous());
    let refused = async {
        for _ in 0..2_000 {
            let answer = whoami(&client, &bearer).await;
            if answer.status != 200 {
                return answer;
            }
        }
        panic!("2,000 answers to one that may have 10 a second");
    };
    assert_has_to_wait(&refused.await, "rate_limited");
    let flood = async || {
        loop {
            whoami(&client, &bearer).await;
        }
    };
    let operator = member.client(Role::Operator);
    let served = async {
        for _ in 0..10 {
            let answer = operator.get("/api/v1/vms").await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    };
    tokio::select! {
        _ = join_all((0..4).map(|_| flood())) => {}
        () = served => {}
    }
    assert!(member.metrics().await.contains("refusal=\"rate\""));
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_tries_keys_is_stopped_and_who_has_one_is_not() {
    let member = member("strangers_per_second_per_address = 2").await;
    let (bearer, client) = (tenant(&member).await, member.anonymous());
    let guess = format!("{}{}", &bearer[..bearer.len() - 4], "0000");
    let refused = async {
        for _ in 0..2_000 {
            let answer = whoami(&client, &guess).await;
            if answer.status != 401 {
                return answer;
            }
        }
        panic!("2,000 guesses of one that may have 2 a second");
    };
    assert_has_to_wait(&refused.await, "rate_limited");
    // From the same address, with what is right.
    for _ in 0..20 {
        let answer = whoami(&client, &bearer).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    // From another, without anything.
    assert_eq!(client.clone().at(ELSEWHERE).get("/healthz").await.status, 200);
    let mut refused = 0;
    for _ in 0..20 {
        refused += usize::from(client.get("/readyz").await.status == 429);
    }
    assert!(refused > 0, "what needs no proof is bounded, too");
    member.stop().await;
}

/// What no route answers, or no handler sees, is as dear as a wrong key.
#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_what_there_is_not_uses_up_what_strangers_have() {
    let member = member("strangers_per_second_per_address = 2").await;
    let (bearer, client) = (tenant(&member).await, member.anonymous());
    let no_key = ("idempotency-key", "again");
    for (number, (method, path, headers, status)) in [
        ("GET", "/nowhere", &[][..], 404),
        ("POST", "/nowhere", &[], 404),
        ("PUT", "/healthz", &[], 405),
        ("INVENTED", "/api/v1/vms", &[], 405),
        ("POST", "/api/v1/vms", &[no_key], 400),
    ]
    .into_iter()
    .enumerate()
    {
        let client = client.clone().at([127, 0, 1, number as u8 + 1]);
        let mut answers = Vec::new();
        while answers.last().is_none_or(|answer: &Answer| answer.status == status) {
            answers.push(client.send(method, path, headers, b"").await);
            assert!(
                answers.len() < 2_000,
                "{method} {path}: 2,000 of one that may have 2 a second"
            );
        }
        assert_has_to_wait(&answers.pop().unwrap(), "rate_limited");
        assert!(!answers.is_empty(), "{method} {path}");
        assert_eq!(whoami(&client, &bearer).await.status, 200);
    }
    let metrics = member.metrics().await;
    assert!(!metrics.contains("nowhere") && !metrics.contains("INVENTED"));
    assert!(metrics.contains("operation=\"none\",status=\"404\""), "{metrics}");
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_makes_long_is_not_repeated_whole() {
    let member = member("").await;
    let client = member.client(Role::Operator);
    let long = "x".repeat(20 * 1024);
    for (method, path) in [("GET", format!("/{long}")), (&long, "/api/v1/vms".to_owned())] {
        let answer = client.send(method, &path, &[], b"").await;
        assert!(matches!(answer.status, 404 | 405), "{answer:?}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("bytes)") && detail.len() < 512, "{detail}");
    }
    member.stop().await;
}

/// All that is answered until the connection ends.
async fn whole_answer(mut stream: Stream) -> String {
    let mut bytes = Vec::new();
    // Whoever answers before all is sent may break the connection off behind its answer.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8(bytes).unwrap().trim_start().to_owned()
}

/// Bodies that come slowly are in memory as long as they do not end.
#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_on_their_way_are_bounded() {
    // None of them ends by its time before the last has come, on a busy machine either.
    let member = member("body_ms_max = 60000").await;
    let (bearer, client) = (tenant(&member).await, member.anonymous());
    let body = vec![b' '; 1 << 20];
    let mut open = Vec::new();
    // Each lacks one byte, and there is room for sixteen. Whichever wants the last bytes is refused, and its room is free
    // again.
    for _ in 0..17 {
        let mut stream = unfinished_of(&client, &bearer, body.len()).await;
        // Who is refused already does not listen to the end.
        let _ = stream.write_all(&body[1..]).await;
        let _ = stream.flush().await;
        open.push(stream);
    }
    let mut answers = open.into_iter().map(whole_answer).collect::<FuturesUnordered<_>>();
    let refused = timeout(DEADLINE, answers.next()).await.expect("nobody is refused").unwrap();
    assert!(refused.starts_with("HTTP/1.1 429 "), "{refused}");
    assert!(
        refused.contains("\"too_many_at_once\"") && refused.contains("retry-after: "),
        "{refused}"
    );
    assert_eq!(whoami(&client, &bearer).await.status, 200, "what is small is served");
    let made = json!({ "name": "own" }).to_string();
    assert_eq!(member.client(Role::Operator).post("/api/v1/projects", &made).await.status, 201);
    member.stop().await;
}

/// A refusal does not wait for the body, and whoever is still sending it reads the refusal all the same.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_while_it_sends_reads_why() {
    let member = member("").await;
    let mut stream = member.anonymous().connect().await;
    for path in ["/api/v1/vms", "/nowhere"] {
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 65536\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        for _ in 0..64 {
            stream.write_all(&[b' '; 1024]).await.unwrap();
            stream.flush().await.unwrap();
        }
        let status = read_answer(&mut stream).await;
        assert!(matches!(status, 401 | 404), "{path}: {status}");
    }
    member.stop().await;
}
