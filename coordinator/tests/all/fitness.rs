//! Members that run out of room, and members whose clock is wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use novacron_coordinator::clock::Clock;
use novacron_coordinator::coordinator::Coordinator;
use novacron_coordinator::propose::ProposeError;
use novacron_protocol::api::{Code, MemberStatus};
use novacron_protocol::time::Timestamp;

use crate::support::*;

const RESERVE_BYTES: u64 = 1 << 30;

/// Nobody looks at the real disk, so that the test says how full it is.
async fn cluster_without_disk_watch(members: usize) -> TestCluster {
    let mut cluster = TestCluster::start(members).await;
    for name in cluster.configs.keys().cloned().collect::<Vec<_>>() {
        cluster.configs.get_mut(&name).unwrap().disk_reserve_bytes = 0;
        cluster.stop(&name).await;
        cluster.run(&name).await;
    }
    cluster.leader().await;
    cluster
}

async fn status_of(cluster: &TestCluster, asked: &str, member: &str) -> MemberStatus {
    let status = cluster.app(asked).cluster.status().await.unwrap();
    status.members.into_iter().find(|one| one.member.name == member).unwrap()
}

fn applied(cluster: &TestCluster, member: &str) -> u64 {
    *cluster.app(member).view.applied().borrow()
}

/// That another member than this one leads.
async fn until_replaced(cluster: &TestCluster, member: &str) -> String {
    until("another member leads", async || {
        let leads = cluster.running.iter().find(|(_, one)| one.app().cluster.leads());
        let name = leads.map(|(name, _)| name.clone()).filter(|name| name != member)?;
        cluster.app(&name).readiness.check().await.ok().map(|()| name)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_room_steps_aside_stores_nothing_and_comes_back() {
    let cluster = cluster_without_disk_watch(3).await;
    create(cluster.any(), "before").await.unwrap();
    let old = cluster.leader().await;
    let fitness = cluster.running[&old].fitness();
    fitness.note_room(1000, RESERVE_BYTES);
    let new = until_replaced(&cluster, &old).await;
    let stood = applied(&cluster, &old);
    // Whichever member is asked; the one without room acknowledges nothing of it.
    for number in 0..20 {
        create(cluster.app(&new), &format!("vm-{number}")).await.unwrap();
    }
    let status = status_of(&cluster, &new, &old).await;
    let alerts = &status.report.as_ref().unwrap().alerts;
    assert!(alerts.iter().any(|alert| alert.contains("1000 bytes are free")), "{alerts:?}");
    // Its new leader's first entry may have come before there was no room.
    assert!(applied(&cluster, &old) <= stood + 2, "{} after {stood}", applied(&cluster, &old));
    assert!(status.reachable && status.lag_entries > Some(10), "{status:?}");

    fitness.note_room(4 * RESERVE_BYTES, RESERVE_BYTES);
    create(cluster.app(&old), "after").await.unwrap();
    until("it has everything", async || {
        let lag = status_of(&cluster, &new, &old).await.lag_entries;
        (lag == Some(0)).then_some(())
    })
    .await;
    assert!(status_of(&cluster, &new, &old).await.report.unwrap().alerts.is_empty());
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_room_anywhere_changes_are_refused_and_reads_answered() {
    let cluster = cluster_without_disk_watch(1).await;
    create(cluster.any(), "before").await.unwrap();
    let fitness = cluster.running["c1"].fitness();
    fitness.note_room(1000, RESERVE_BYTES);
    let refused = create(cluster.any(), "more").await.unwrap_err();
    assert_eq!(refused.code(), Code::StorageFull, "{refused}");
    let problem = refused.to_problem();
    assert!(problem.status == 503 && problem.detail.contains("make room"), "{problem:?}");
    let read = cluster.any().view.read(|fleet| fleet.find_vm("before").is_some()).await;
    assert_eq!(read, Ok(true));
    fitness.note_room(4 * RESERVE_BYTES, RESERVE_BYTES);
    create(cluster.any(), "more").await.unwrap();
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_majority_has_no_room_changes_are_declined_at_once_and_nothing_of_them_happens() {
    let cluster = cluster_without_disk_watch(3).await;
    // All hear the leader, so that nobody calls an election, and it has written something since it leads: a leader that has
    // not answers no reads.
    for (name, member) in &cluster.running {
        until(&format!("{name} answers reads"), async || member.app().view.read(|_| ()).await.ok())
            .await;
    }
    let leader = cluster.leader().await;
    create(cluster.app(&leader), "before").await.unwrap();
    let others = cluster.followers().await;
    for other in &others {
        cluster.running[other].fitness().note_room(1000, RESERVE_BYTES);
    }
    // The leader may not have heard of it: then nobody knows what becomes of the first.
    let first = create(cluster.app(&leader), "first").await.unwrap_err();
    assert!(matches!(first.code(), Code::OutcomeUnknown | Code::StorageFull), "{first}");
    for number in 0..3 {
        let asked = Instant::now();
        let name = format!("declined-{number}");
        let declined = create(cluster.app(&leader), &name).await.unwrap_err();
        assert_eq!(declined.code(), Code::StorageFull, "{declined}");
        assert!(asked.elapsed() < Duration::from_secs(1), "after {:?}", asked.elapsed());
        let problem = declined.to_problem();
        assert!(problem.detail.contains("1 of 3 coordinators"), "{problem:?}");
    }
    // It goes on leading, answers reads, and says what is missing.
    until("reads are answered", async || {
        let read = cluster.app(&leader).view.read(|fleet| fleet.find_vm("before").is_some()).await;
        read.ok().filter(|found| *found)
    })
    .await;
    let alerts = cluster.running[&leader].fitness().alerts(Clock::system().now());
    assert!(alerts.iter().any(|alert| alert.contains("a majority has to")), "{alerts:?}");

    cluster.running[&others[0]].fitness().note_room(4 * RESERVE_BYTES, RESERVE_BYTES);
    let asked = request();
    until("changes are taken again", async || {
        match create_as(cluster.app(&leader), asked, "after").await {
            Ok(_) => Some(()),
            Err(error) => {
                assert_eq!(error.code(), Code::StorageFull, "{error}");
                None
            }
        }
    })
    .await;
    let found = |name: &str| cluster.app(&leader).view.local(|fleet| fleet.find_vm(name).is_some());
    assert!((0..3).all(|number| !found(&format!("declined-{number}"))));
    assert_eq!(found("first"), first.code() == Code::OutcomeUnknown, "{first}");
    cluster.shutdown().await;
}

/// A clock that is off by so many milliseconds.
fn clock_off_by(offset_ms: &Arc<AtomicI64>) -> Clock {
    let offset_ms = Arc::clone(offset_ms);
    Clock::from_fn(move || {
        let now = Clock::system().now().unix_ms;
        Timestamp::from_unix_ms(now.saturating_add_signed(offset_ms.load(Ordering::Relaxed)))
    })
}

const HOUR_MS: i64 = 3_600_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_clock_jumps_is_replaced_and_its_time_gets_into_no_command() {
    // With one of three away, the two that are left do not agree, and it is the one that jumped that is off.
    for (jump_ms, is_whole) in [(6 * HOUR_MS, true), (-6 * HOUR_MS, true), (6 * HOUR_MS, false)] {
        let mut cluster = TestCluster::start(3).await;
        let offset_ms = Arc::new(AtomicI64::new(0));
        // The one whose clock will jump has to lead: the others stop until it does.
        for other in ["c2", "c3"] {
            cluster.stop(other).await;
        }
        cluster.stop("c1").await;
        let odd = Coordinator::start(&cluster.configs["c1"], clock_off_by(&offset_ms)).await;
        cluster.running.insert("c1".to_owned(), odd.unwrap());
        cluster.run("c2").await;
        until("it leads", async || {
            let app = cluster.app("c1");
            let is_so = app.cluster.leads() && app.readiness.check().await.is_ok();
            is_so.then_some(())
        })
        .await;
        if is_whole {
            cluster.run("c3").await;
        }
        create(cluster.any(), "before").await.unwrap();
        let before = cluster.any().view.local(|fleet| fleet.clock());

        offset_ms.store(jump_ms, Ordering::Relaxed);
        // Asked before anybody has noticed: answered by whoever leads then, or it is not known who does.
        let asked = request();
        until("the change is made", async || {
            match create_as(cluster.app("c2"), asked, "vm").await {
                Ok(_) => Some(()),
                Err(ProposeError::Unavailable | ProposeError::OutcomeUnknown) => None,
                Err(error) => panic!("{error}"),
            }
        })
        .await;
        let new = until_replaced(&cluster, "c1").await;
        let after = cluster.app(&new).view.local(|fleet| fleet.clock());
        let passed_ms = after.unix_ms - before.unix_ms;
        assert!(passed_ms < 600_000, "the fleet's clock went on by {passed_ms} ms");
        let status = status_of(&cluster, &new, "c1").await;
        let alerts = status.report.unwrap().alerts;
        assert!(alerts.iter().any(|alert| alert.contains("most other coordinators")), "{alerts:?}");
        // It proposes for nobody: what it would decide by its clock is wrong.
        let refused = create(cluster.app("c1"), "through-it").await.unwrap_err();
        assert_eq!(refused.code(), Code::ClockOff, "{refused}");

        // Set right, it is as good as any other.
        offset_ms.store(0, Ordering::Relaxed);
        until("its clock is trusted", async || {
            let alerts = status_of(&cluster, &new, "c1").await.report?.alerts;
            alerts.is_empty().then_some(())
        })
        .await;
        create(cluster.app("c1"), "after").await.unwrap();
        cluster.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_member_believes_its_clock_and_time_never_goes_back() {
    let offset_ms = Arc::new(AtomicI64::new(0));
    let mut cluster = TestCluster::start_with(1, clock_off_by(&offset_ms)).await;
    create(cluster.any(), "before").await.unwrap();
    let clock = |cluster: &TestCluster| cluster.any().view.local(|fleet| fleet.clock()).unix_ms;
    let before = clock(&cluster);
    offset_ms.store(HOUR_MS, Ordering::Relaxed);
    create(cluster.any(), "an-hour-later").await.unwrap();
    let later = clock(&cluster);
    assert!(later - before >= HOUR_MS.unsigned_abs());
    offset_ms.store(-HOUR_MS, Ordering::Relaxed);
    create(cluster.any(), "two-hours-back").await.unwrap();
    assert_eq!(clock(&cluster), later, "the fleet's clock waits until the other one is there");
    cluster.stop("c1").await;
}
