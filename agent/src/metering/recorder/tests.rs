//! A recorder on clocks and a disk of the test's own.

use novacron_protocol::ids::Generation;
use novacron_storage::disk::SimulatedDisk;

use super::*;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const BEGIN: Reading = Reading { wall_ms: 1_767_225_700_000, monotonic_ms: 9_000 };

struct Host {
    disk: SimulatedDisk,
    now: Arc<Mutex<Reading>>,
    recorder: Recorder,
}

impl Host {
    async fn new() -> Self {
        let (disk, now) = (SimulatedDisk::new(0), Arc::new(Mutex::new(BEGIN)));
        let read = Arc::clone(&now);
        let clocks = Clocks::from_fn(move || *read.lock().unwrap());
        let recorder = Recorder::open(Arc::new(disk.clone()), clocks).await.unwrap();
        Self { disk, now, recorder }
    }

    fn pass(&self, ms: u64) {
        let mut now = self.now.lock().unwrap();
        now.wall_ms += ms;
        now.monotonic_ms += ms;
    }

    fn hold(&self, number: u128, runs: bool) {
        let held = Held { generation: Generation(1), runs, disk_bytes: 0, snapshots: 0 };
        self.recorder.hold(VmId(Uuid::from_u128(number)), Some(&held));
    }

    /// What is told, in seconds after the beginning.
    async fn told(&self) -> Vec<(u64, u64)> {
        let batch = self.recorder.next_batch().await;
        let from_s = BEGIN.wall_s();
        let records = batch.map_or(Vec::new(), |batch| batch.records);
        records.iter().map(|record| (record.start_s - from_s, record.end_s - from_s)).collect()
    }
}

#[tokio::test]
async fn a_slow_start_is_no_stall() {
    let host = Host::new().await;
    host.hold(1, true);
    host.pass(30_000);
    host.hold(2, true);
    host.pass(30_000);
    host.recorder.settle();
    assert_eq!(host.recorder.numbers().running, 2);
    host.hold(1, false);
    host.recorder.keep(CUT_S).await;
    assert_eq!(host.told().await, [(0, 60)]);
}

#[tokio::test]
async fn what_ends_unseen_while_the_agent_stands_still_ended_when_it_was_seen_last() {
    let host = Host::new().await;
    host.recorder.settle();
    host.hold(1, true);
    host.hold(2, true);
    host.pass(4_000);
    host.hold(2, true);
    host.pass(60_000);
    host.hold(1, false);
    host.recorder.keep(CUT_S).await;
    assert_eq!(host.told().await, [(0, 4)]);
    assert_eq!(host.recorder.numbers().running, 1);
}

#[tokio::test]
async fn a_full_disk_stops_nothing_and_loses_nothing() {
    let host = Host::new().await;
    host.recorder.settle();
    host.recorder.keep(CUT_S).await;
    host.disk.set_capacity_bytes(Some(0));
    for _ in 0..3 {
        host.hold(1, true);
        host.pass(2_000);
        host.hold(1, false);
        host.recorder.keep(CUT_S).await;
    }
    assert!(host.recorder.numbers().is_behind);
    assert_eq!(host.recorder.numbers().waiting, 3);
    assert_eq!(host.told().await, []);
    host.disk.set_capacity_bytes(None);
    host.recorder.keep(CUT_S).await;
    assert!(!host.recorder.numbers().is_behind);
    assert_eq!(host.told().await, [(0, 2), (2, 4), (4, 6)]);
}

#[tokio::test]
async fn a_batch_is_out_once_until_its_answer() {
    let host = Host::new().await;
    host.recorder.settle();
    host.hold(1, true);
    host.pass(1_000);
    host.hold(1, false);
    host.recorder.keep(CUT_S).await;
    let Batch { sequence, records } = host.recorder.next_batch().await.unwrap();
    assert_eq!(host.recorder.next_batch().await, None);
    let created = || vec![RecordOutcome::Created { window_s: 0 }; records.len()];
    assert_eq!(host.recorder.answered(sequence, vec![]).await, Err(NotSent));
    assert_eq!(host.recorder.answered(sequence + 1, created()).await, Err(NotSent));
    assert_eq!(host.recorder.declined(sequence, "full"), Ok(()));
    // It waits for a while, or for another session.
    assert_eq!(host.recorder.next_batch().await, None);
    host.recorder.begin_session();
    assert!(host.recorder.next_batch().await.is_some());
    assert_eq!(host.recorder.answered(sequence, created()).await, Ok(()));
    assert_eq!(host.recorder.numbers().waiting, 0);
    assert_eq!(host.recorder.answered(sequence, created()).await, Err(NotSent));
}

#[tokio::test]
async fn what_is_known_when_the_agent_ends_is_durable() {
    let host = Host::new().await;
    host.recorder.settle();
    host.hold(1, true);
    host.pass(2_500);
    let stop = CancellationToken::new();
    stop.cancel();
    timeout(PATIENCE, host.recorder.run(stop)).await.expect("it ends");
    assert!(!host.recorder.numbers().is_behind);
    assert_eq!(host.told().await, [(0, 2)]);
}
