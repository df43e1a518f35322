//! Machines that run while everything around them fails, one on each node, metered by its agent; and whether the ledger has
//! each of their seconds once, and each second of their disks.

use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use novacron_protocol::time::Timestamp;
use novacron_protocol::usage::Meter;
use novacron_protocol::vm::{DiskFormat, VmState};
use novacron_sdk::api::{VmCreate, VmDisk, VmStop};
use novacron_sdk::{Client, UsageFilter, VmFilter};

use super::site::{NODES, Site};
use crate::wait::until;

/// No guest boots from what they have: their firmware finds an empty disk and waits.
const MEMORY_BYTES: u64 = 32 << 20;
const DISK_BYTES: u64 = 16 << 20;
/// For an order to a machine, and for its usage to come into the ledger: elections and a busy machine included.
const PATIENCE: Duration = Duration::from_secs(90);

/// Machines that run.
#[derive(Debug)]
pub struct Running {
    /// In the order of the nodes that they are on.
    machines: Vec<String>,
    asked_s: i128,
    all_run_s: i128,
}

impl Running {
    /// Makes them and waits until they run.
    ///
    /// # Errors
    /// The cluster takes no machines, or they do not run.
    pub fn start(site: &Site) -> Result<Self> {
        let (client, asked_s) = (site.client()?, now_s());
        let machine = |node: &&str| -> Result<String> {
            let (name, node) = (format!("running-{node}"), Some((*node).to_owned()));
            let (size, format) = (Some(DISK_BYTES), DiskFormat::default());
            let disks = vec![VmDisk { size, image: None, format }];
            let create =
                VmCreate { name, node, memory: Some(MEMORY_BYTES), disks, ..VmCreate::default() };
            Ok(client.vm_create(&create)?.id.to_string())
        };
        let machines = NODES.iter().map(machine).collect::<Result<Vec<_>>>()?;
        wait_until_all_are(&client, &machines, VmState::Running)?;
        Ok(Self { machines, asked_s, all_run_s: now_s() })
    }

    /// Whether the guest on a node runs, as that node's system has it.
    pub fn runs_at(&self, site: &Site, node: usize) -> bool {
        site.guest_runs(node, &self.machines[node])
    }

    /// Stops them and removes them, and holds what is in the ledger against the time that they ran and that their disks were
    /// there, to the second at either end.
    ///
    /// # Errors
    /// A second is missing or there twice.
    pub fn check(self, site: &Site) -> Result<Metered> {
        let client = site.client()?;
        let least_s = now_s() - self.all_run_s - 1;
        // What an agent that was out of sight has done is not known at once.
        wait_until_all_are(&client, &self.machines, VmState::Running)?;
        for vm in &self.machines {
            client.vm_stop(vm, &VmStop { force: true })?;
        }
        wait_until_all_are(&client, &self.machines, VmState::Stopped)?;
        let most_s = now_s() + 1 - self.asked_s;
        let mut metered = Metered::default();
        for vm in &self.machines {
            let seconds = until("the end of the machine is in the ledger", PATIENCE, || {
                let seconds = used(&client, vm, Meter::VmSeconds, self.asked_s)?;
                Ok((seconds >= least_s).then_some(seconds))
            });
            let seconds = seconds.with_context(|| format!("{least_s} s of {vm} are due"))?;
            site.note(&format!("{seconds} s of {vm} are in the ledger, of {least_s} to {most_s}"));
            ensure!(seconds <= most_s, "{seconds} s of {vm}, which ran for at most {most_s} s");
            metered.vm_s += seconds;
        }
        // Until it is removed, a machine has its disk.
        let least_s = now_s() - self.all_run_s - 1;
        for vm in &self.machines {
            client.vm_delete(vm)?;
        }
        let gone = |vm: &String| -> Result<bool> {
            Ok(!client.vms(&VmFilter::default())?.iter().any(|there| there.id.to_string() == *vm))
        };
        until("the machines are gone", PATIENCE, || {
            let are_gone = self.machines.iter().map(gone).collect::<Result<Vec<_>>>()?;
            Ok(are_gone.into_iter().all(|is_gone| is_gone).then_some(()))
        })?;
        let most_s = now_s() + 1 - self.asked_s;
        for vm in &self.machines {
            metered.disk_byte_s += check_disk(site, &client, vm, self.asked_s, least_s..=most_s)?;
        }
        Ok(metered)
    }
}

fn wait_until_all_are(client: &Client, machines: &[String], state: VmState) -> Result<()> {
    for vm in machines {
        let found = client.vm_wait(vm, PATIENCE, |vm| vm.state == state)?;
        ensure!(found.state == state, "machine {vm} is not {state:?}: {found:#?}");
    }
    Ok(())
}

/// What agents metered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Metered {
    /// Seconds that machines ran.
    pub vm_s: i128,
    /// Bytes of their disks, times the seconds that they were there.
    pub disk_byte_s: i128,
}

/// Every second of a disk that was there for so many of them is in the ledger, once.
fn check_disk(
    site: &Site,
    client: &Client,
    vm: &str,
    asked_s: i128,
    seconds: RangeInclusive<i128>,
) -> Result<i128> {
    let disk_bytes = i128::from(DISK_BYTES);
    let byte_s = until("the end of the disk is in the ledger", PATIENCE, || {
        let byte_s = used(client, vm, Meter::DiskByteSeconds, asked_s)?;
        Ok((byte_s >= disk_bytes * seconds.start()).then_some(byte_s))
    });
    let byte_s =
        byte_s.with_context(|| format!("{} s of the disk of {vm} are due", seconds.start()))?;
    let found_s = byte_s / disk_bytes;
    site.note(&format!("{found_s} s of the disk of {vm} are in the ledger, of {seconds:?}"));
    ensure!(byte_s % disk_bytes == 0, "{byte_s} byte-seconds of {vm} are no whole seconds");
    ensure!(seconds.contains(&found_s), "{found_s} s of the disk of {vm}, not {seconds:?}");
    Ok(byte_s)
}

/// What the ledger has of a meter of a machine, from the hour on in which it was asked for.
fn used(client: &Client, vm: &str, meter: Meter, asked_s: i128) -> Result<i128> {
    let hour_s = u64::try_from(asked_s - asked_s % 3_600)?;
    let from = Some(Timestamp::from_unix_ms(hour_s * 1_000));
    let (vm, meter) = (Some(vm.to_owned()), Some(meter));
    let rows = client.usage(&UsageFilter { from, vm, meter, ..UsageFilter::default() })?;
    Ok(rows.iter().map(|row| row.quantity.0).sum())
}

fn now_s() -> i128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().into()
}
