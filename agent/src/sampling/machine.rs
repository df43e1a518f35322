//! What can be read of a machine whose process is there.

use std::fs;
use std::time::Duration;

use novacron_protocol::ids::VmId;
use novacron_protocol::metric::Metric;
use novacron_protocol::sample::Sample;
use tokio::time::Instant;

use super::process;
use super::rates::Count;
use crate::qmp::{DiskCounters, Qmp};

/// How long QEMU may take to say what its disks did: one that is stopped for a part of its time is a little late.
const ASK_DEADLINE: Duration = Duration::from_secs(2);

/// A machine that can be measured.
#[derive(Debug, Clone)]
pub struct Measurable {
    /// The machine.
    pub vm: VmId,
    /// Its process.
    pub pid: i32,
    /// How QEMU is asked; none while it does not answer.
    pub qmp: Option<Qmp>,
    /// Bytes of memory that the guest has.
    pub memory_bytes: u64,
    /// The device that puts its network card into a bridge, if it is in one.
    pub tap: Option<String>,
}

/// What was read of a machine.
#[derive(Debug)]
pub(super) struct MachineReading {
    pub(super) vm: VmId,
    /// Tells one process of the machine from the next.
    pub(super) life: u64,
    pub(super) values: Vec<Sample>,
    pub(super) counts: Vec<Count>,
}

/// Reads a machine; nothing if its process is gone. What is not known is left out: without a bridge, the network, and what
/// QEMU does not say before `until`.
pub(super) async fn read(machine: Measurable, until: Instant) -> Option<MachineReading> {
    let process = process::read(machine.pid)?;
    let gauge = |metric: Metric, value| Sample { metric: metric.number(), device: 0, value };
    let values = vec![
        gauge(Metric::MemoryResident, process.resident_bytes),
        gauge(Metric::MemoryGiven, machine.memory_bytes),
    ];
    let count = |metric, total| Count { metric, device: 0, total };
    let mut counts = vec![count(Metric::ProcessorUsed, process.processor_ms)];
    let deadline = until.saturating_duration_since(Instant::now()).min(ASK_DEADLINE);
    if let Some(qmp) = machine.qmp.as_ref().filter(|_| !deadline.is_zero()) {
        counts.extend(disks(qmp, deadline).await);
    }
    if let Some((received, sent)) = machine.tap.as_deref().and_then(tap) {
        counts.push(count(Metric::NetworkReceived, received));
        counts.push(count(Metric::NetworkSent, sent));
    }
    Some(MachineReading { vm: machine.vm, life: process.began, values, counts })
}

async fn disks(qmp: &Qmp, deadline: Duration) -> Vec<Count> {
    match qmp.disk_counters(deadline).await {
        Ok(disks) => {
            disks.into_iter().flat_map(|(device, counters)| of_disk(device, counters)).collect()
        }
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "disks are not measured");
            Vec::new()
        }
    }
}

fn of_disk(device: u8, counters: DiskCounters) -> [Count; 4] {
    let operations = |count: u64, metric: Metric| count.saturating_mul(metric.scale());
    [
        (Metric::DiskReadBytes, counters.read_bytes),
        (Metric::DiskWrittenBytes, counters.written_bytes),
        (Metric::DiskReads, operations(counters.reads, Metric::DiskReads)),
        (Metric::DiskWrites, operations(counters.writes, Metric::DiskWrites)),
    ]
    .map(|(metric, total)| Count { metric, device, total })
}

/// Bytes that the guest received and sent: what the host sends to the device, the guest receives.
fn tap(name: &str) -> Option<(u64, u64)> {
    let number = |which: &str| {
        let text = fs::read_to_string(format!("/sys/class/net/{name}/statistics/{which}")).ok()?;
        text.trim().parse::<u64>().ok()
    };
    Some((number("tx_bytes")?, number("rx_bytes")?))
}
