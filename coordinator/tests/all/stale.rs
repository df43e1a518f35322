//! Reads that may be behind, of a member that has lost the others.

use std::time::Duration;

use crate::https::{Answer, Https};
use crate::support::*;

fn age_ms(answer: &Answer) -> u64 {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.header("x-stale-ms").unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_alone_says_how_old_its_answers_can_be_and_gives_no_others() {
    let mut cluster = TestCluster::start(3).await;
    create(cluster.app("c2"), "web").await.unwrap();
    let credentials = cluster.operator_credentials("reader").await;
    let client = Https::with(cluster.configs["c1"].api_listen, &credentials);
    let fresh = client.get("/api/v1/vms").await;
    assert_eq!((fresh.status, fresh.header("x-stale-ms")), (200, None));
    // It has just read, so its answer cannot be older than that; and it asks every second by itself.
    assert!(age_ms(&client.get("/api/v1/vms?consistency=stale&max_stale_ms=30000").await) < 30_000);

    cluster.stop("c2").await;
    cluster.stop("c3").await;
    let first = client.get("/api/v1/vms/web?consistency=stale").await;
    assert_eq!(first.json()["name"], "web");
    let first_ms = age_ms(&first);
    let refused = client.get("/api/v1/vms").await;
    assert_eq!(refused.problem().1, "unavailable");
    // The refusal took as long as a read waits for a leader, and so long the answers have become older.
    let second_ms = age_ms(&client.get("/api/v1/nodes?consistency=stale").await);
    assert!(second_ms > first_ms + 1_000, "{first_ms} ms, then {second_ms} ms");
    let bounded = format!("/api/v1/vms?consistency=stale&max_stale_ms={first_ms}");
    let refused = client.get(&bounded).await.problem();
    assert_eq!(refused, (412, "too_stale".to_owned(), Some("max_stale_ms".to_owned())));

    // Started again, it does not know how old its state is.
    cluster.stop("c1").await;
    cluster.run("c1").await;
    let unknown = client.get("/api/v1/vms?consistency=stale").await;
    assert_eq!((unknown.status, unknown.header("x-stale-ms")), (200, Some("unknown")));
    let any = client.get("/api/v1/vms?consistency=stale&max_stale_ms=999999999").await;
    assert_eq!(any.problem().1, "too_stale");

    cluster.run("c2").await;
    cluster.leader().await;
    until("it knows again", async || {
        let answer = client.get("/api/v1/vms?consistency=stale&max_stale_ms=5000").await;
        (answer.status == 200).then(|| assert!(age_ms(&answer) <= 5_001))
    })
    .await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_before_the_age_is_shown_by_every_member() {
    let cluster = TestCluster::start(3).await;
    let credentials = cluster.operator_credentials("reader").await;
    for round in 0..20 {
        let name = format!("vm-{round}");
        create(cluster.any(), &name).await.unwrap();
        let acknowledged = tokio::time::Instant::now();
        for config in cluster.configs.values() {
            let client = Https::with(config.api_listen, &credentials);
            let path = format!("/api/v1/vms/{name}?consistency=stale");
            let answer = client.get(&path).await;
            let since = acknowledged.elapsed();
            let age = answer.header("x-stale-ms").map(|age| age.parse().unwrap());
            let is_covered = age.is_some_and(|age| Duration::from_millis(age) < since);
            let is_old = answer.status == 404;
            assert!(answer.status == 200 || is_old && !is_covered, "{answer:?} after {since:?}");
        }
    }
    cluster.shutdown().await;
}
