//! What is measured of real guests: real QEMU, real disks.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use crate::common::{Host, PATIENCE, spec, vm};
use novacron_agent::sampling::Previous;
use novacron_agent::sampling::Sampler;
use novacron_agent::vm::{MachineOrder, Order};
use novacron_protocol::effect::EffectOutcome;
use novacron_protocol::ids::VmId;
use novacron_protocol::metric::Metric;
use novacron_protocol::sample::{Sample, Tick};

/// A boot sector that writes its disk's second sector, again and again, through the BIOS.
const WRITER: [u8; 24] = [
    0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0xbb, 0x00, 0x7c, 0xb8, 0x01, 0x03, 0xb9, 0x02, 0x00, 0xba,
    0x80, 0x00, 0xcd, 0x13, 0xfb, 0xeb, 0xf2, 0x90,
];

/// How long is measured: the kernel counts time of processors in hundredths of a second.
const MEASURED: Duration = Duration::from_secs(1);

/// What came together over time, by thing (none is the host), metric and device.
#[derive(Default)]
struct Totals {
    last: BTreeMap<(Option<VmId>, u8, u8), u64>,
    sums: BTreeMap<(Option<VmId>, u8, u8), f64>,
    seconds: f64,
}

impl Totals {
    fn add(&mut self, thing: Option<VmId>, values: &[Sample], seconds: f64) {
        for sample in values {
            let key = (thing, sample.metric, sample.device);
            self.last.insert(key, sample.value);
            *self.sums.entry(key).or_default() += sample.value as f64 * seconds;
        }
    }

    fn last(&self, thing: Option<VmId>, metric: Metric) -> Option<u64> {
        self.last.get(&(thing, metric.number(), 0)).copied()
    }

    /// What a counter grew by, in the metric's units.
    fn grown(&self, thing: Option<VmId>, metric: Metric) -> f64 {
        let sum = self.sums.get(&(thing, metric.number(), 0));
        sum.copied().unwrap_or_default() / metric.scale() as f64
    }
}

/// Measures all the time, until there is enough.
async fn measure(sampler: &Sampler, is_enough: impl Fn(&Totals) -> bool) -> Totals {
    let (mut previous, mut totals) = (Previous::default(), Totals::default());
    let (began, mut before) = (Instant::now(), Instant::now());
    for tick in 1.. {
        sampler.measure(Tick(tick), &mut previous).await;
        let seconds = before.elapsed().as_secs_f64();
        before = Instant::now();
        totals.seconds += if tick > 1 { seconds } else { 0.0 };
        let (_, parts) = sampler.behind(Tick(tick - 1)).unwrap();
        for part in parts.iter() {
            for machine in &part.machines {
                totals.add(Some(machine.vm), &machine.values, seconds);
            }
            totals.add(None, part.host.as_deref().unwrap_or_default(), seconds);
        }
        if totals.seconds >= MEASURED.as_secs_f64() && is_enough(&totals) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "it never shows: {:?}", totals.sums);
    }
    totals
}

fn sampler(host: &Host) -> Sampler {
    Sampler::new(host.machines.clone(), host.directory.path().to_owned())
}

async fn start_writer(host: &Host, vm: VmId) {
    let mut image = WRITER.to_vec();
    image.resize(1 << 20, 0);
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    fs::write(host.directory.path().join("images/writer.img"), image).unwrap();
    let mut spec = spec();
    spec.disks[0].image = "writer".to_owned();
    for order in [MachineOrder::Create(Box::new(spec)), MachineOrder::Existing(Order::Start)] {
        assert_eq!(host.order(vm, order).await, EffectOutcome::Done);
    }
}

#[tokio::test]
async fn a_guest_that_burns_a_processor_shows_it_and_says_nothing_that_is_not_known() {
    let host = Host::new().await;
    // It asks its serial port for input all the time.
    host.create_and_start(vm(1)).await;
    let burnt = |totals: &Totals| totals.grown(Some(vm(1)), Metric::ProcessorUsed) > 0.2;
    let totals = measure(&sampler(&host), burnt).await;
    let of_vm = |metric| totals.last(Some(vm(1)), metric);
    assert_eq!(of_vm(Metric::MemoryGiven), Some(64 << 20));
    assert!(of_vm(Metric::MemoryResident) > Some(8 << 20), "{:?}", totals.last);
    assert_eq!(of_vm(Metric::DiskWrites), Some(0));
    // Of a user network nobody knows what goes over it.
    assert_eq!((of_vm(Metric::NetworkReceived), of_vm(Metric::NetworkSent)), (None, None));
    // The host uses at least what its machine does, but for how its own clock is read.
    let used = |thing| totals.grown(thing, Metric::ProcessorUsed);
    assert!(used(None) > used(Some(vm(1))) * 0.7, "{} and {}", used(None), used(Some(vm(1))));
    assert_eq!(totals.last(None, Metric::MachinesRunning), Some(1));
    assert!(totals.last(None, Metric::MemoryUsed) < totals.last(None, Metric::MemoryTotal));
}

#[tokio::test]
async fn what_a_guest_writes_shows_and_a_machine_that_is_stopped_is_not_measured() {
    let host = Host::new().await;
    start_writer(&host, vm(1)).await;
    let sampler = sampler(&host);
    let written = |totals: &Totals| totals.grown(Some(vm(1)), Metric::DiskWrites) > 10.0;
    let totals = measure(&sampler, written).await;
    let (writes, bytes) = (
        totals.grown(Some(vm(1)), Metric::DiskWrites),
        totals.grown(Some(vm(1)), Metric::DiskWrittenBytes),
    );
    assert!((bytes / writes - 512.0).abs() < 16.0, "{bytes} bytes in {writes} writes");
    let stop = MachineOrder::Existing(Order::Stop { force: true });
    assert_eq!(host.order(vm(1), stop).await, EffectOutcome::Done);
    sampler.measure(Tick(1 << 30), &mut Previous::default()).await;
    let (_, parts) = sampler.behind(Tick((1 << 30) - 1)).unwrap();
    assert!(parts.iter().all(|part| part.machines.is_empty()));
    let running = Sample { metric: Metric::MachinesRunning.number(), device: 0, value: 0 };
    assert!(parts[0].host.as_ref().unwrap().contains(&running));
}
