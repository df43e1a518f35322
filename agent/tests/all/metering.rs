//! What is metered of real guests: real QEMU, a real disk, agents that die.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use crate::common::{GREETING, Host, vm};
use novacron_agent::vm::{MachineOrder, Order};
use novacron_protocol::effect::{EffectOutcome, ObservedState};
use novacron_protocol::usage::{Meter, UsageRecord};

const STOP: MachineOrder = MachineOrder::Existing(Order::Stop { force: true });

/// The records of one meter in order, each beginning where the one before ended, as one interval.
fn whole(records: &[UsageRecord], meter: Meter) -> (u64, u64) {
    let mut of_meter: Vec<_> = records.iter().filter(|record| record.meter == meter).collect();
    of_meter.sort();
    for record in &of_meter {
        assert_eq!(record.check(), Ok(()));
    }
    for pair in of_meter.windows(2) {
        assert_eq!(pair[0].end_s, pair[1].start_s, "{pair:?}");
    }
    (of_meter[0].start_s, of_meter[of_meter.len() - 1].end_s)
}

fn has(meter: Meter, records: &[UsageRecord]) -> bool {
    records.iter().any(|record| record.meter == meter)
}

async fn stop(host: &Host) {
    assert_eq!(host.order(vm(1), STOP).await, EffectOutcome::Done);
}

#[tokio::test]
async fn a_guest_is_metered_while_it_runs_and_its_disk_while_it_is_there() {
    let host = Host::new().await;
    let before_ms = host.metered_ms();
    host.create_and_start(vm(1)).await;
    let started_ms = host.metered_ms();
    host.pass(2_000);
    let stopping_ms = host.metered_ms();
    stop(&host).await;
    let stopped_ms = host.metered_ms();
    let told = host.recording.until(|told| has(Meter::VmSeconds, told)).await;
    let (start_s, end_s) = whole(&told, Meter::VmSeconds);
    assert!((before_ms / 1000..=started_ms / 1000).contains(&start_s));
    assert!((stopping_ms.div_ceil(1000)..=stopped_ms.div_ceil(1000)).contains(&end_s));

    let destroy = MachineOrder::Existing(Order::Destroy);
    assert_eq!(host.order(vm(1), destroy).await, EffectOutcome::Done);
    let mut all = told;
    all.extend(host.recording.until(|told| has(Meter::DiskByteSeconds, told)).await);
    let (disk_start_s, disk_end_s) = whole(&all, Meter::DiskByteSeconds);
    assert!(disk_start_s <= start_s && disk_end_s >= end_s);
    let of_disk = |record: &&UsageRecord| record.meter == Meter::DiskByteSeconds;
    assert!(all.iter().filter(of_disk).all(|record| record.level == 2 << 20));
    assert_eq!(host.recording.recorder.numbers().waiting, 0);
}

#[tokio::test]
async fn a_guest_that_outlives_its_agent_is_metered_without_a_gap() {
    let host = Host::new().await;
    host.create_and_start(vm(1)).await;
    let started_ms = host.metered_ms();
    host.recording.until_durable().await;
    let passed_ms = Arc::clone(&host.passed_ms);
    let host = host.crash(async || passed_ms.store(400_000, Ordering::Relaxed)).await;
    let host = host.restart().await;
    let stopping_ms = host.metered_ms();
    stop(&host).await;
    let ended = |told: &[UsageRecord]| {
        let of_guest = told.iter().filter(|record| record.meter == Meter::VmSeconds);
        of_guest.map(|record| record.end_s).max() >= Some(stopping_ms.div_ceil(1000))
    };
    let told = host.recording.until(ended).await;
    let (start_s, end_s) = whole(&told, Meter::VmSeconds);
    assert!(start_s <= started_ms / 1000, "{start_s} is after {started_ms}");
    assert!(end_s <= host.metered_ms().div_ceil(1000));
}

#[tokio::test]
async fn a_guest_that_nobody_saw_end_is_metered_as_long_as_its_files_tell() {
    for (lived_ms, metered_s) in [(5_000, 5), (0, 0)] {
        let host = Host::new().await;
        host.create_and_start(vm(1)).await;
        host.wait_for_console(vm(1), GREETING).await;
        let (pid, run) = (host.pid(vm(1)), host.run_directory(vm(1)));
        host.recording.until_durable().await;
        let durable_ms = host.metered_ms();
        let passed_ms = Arc::clone(&host.passed_ms);
        let host = host
            .crash(async || {
                crate::common::end_process(pid).await;
                // As if it had taken its sockets away then.
                let ended = SystemTime::UNIX_EPOCH + Duration::from_millis(durable_ms + lived_ms);
                fs::File::open(run).unwrap().set_modified(ended).unwrap();
                passed_ms.fetch_add(60_000, Ordering::Relaxed);
            })
            .await;
        host.wait_for(vm(1), ObservedState::Failed).await;
        let told = host.recording.until(|told| has(Meter::VmSeconds, told)).await;
        let (_, end_s) = whole(&told, Meter::VmSeconds);
        let expected_s = durable_ms / 1000 + metered_s;
        assert!((expected_s..=expected_s + 1).contains(&end_s), "{end_s}, not {expected_s}");
    }
}
