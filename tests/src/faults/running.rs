//! Machines that run while everything around them fails, metered by their agent; and whether the ledger has each of their
//! seconds once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use novacron_protocol::time::Timestamp;
use novacron_protocol::usage::Meter;
use novacron_protocol::vm::{DiskFormat, VmState};
use novacron_sdk::api::{VmCreate, VmDisk, VmStop};
use novacron_sdk::{Client, UsageFilter};

use super::site::Site;
use crate::wait::until;

/// How many.
const MACHINES: usize = 2;
/// No guest boots from what they have: their firmware finds an empty disk and waits.
const MEMORY_BYTES: u64 = 32 << 20;
const DISK_BYTES: u64 = 16 << 20;
/// For an order to a machine, and for its usage to come into the ledger: elections and a busy machine included.
const PATIENCE: Duration = Duration::from_secs(90);

/// Machines that run.
#[derive(Debug)]
pub struct Running {
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
        let machine = |at| -> Result<String> {
            let name = format!("running-{at}");
            let (size, format) = (Some(DISK_BYTES), DiskFormat::default());
            let disks = vec![VmDisk { size, image: None, format }];
            let create =
                VmCreate { name, memory: Some(MEMORY_BYTES), disks, ..VmCreate::default() };
            Ok(client.vm_create(&create)?.id.to_string())
        };
        let machines = (0..MACHINES).map(machine).collect::<Result<Vec<_>>>()?;
        wait_until_all_are(&client, &machines, VmState::Running)?;
        Ok(Self { machines, asked_s, all_run_s: now_s() })
    }

    /// Stops them, and holds what is in the ledger against the time that they ran, to the second at either end. Answers how
    /// many seconds that are in all.
    ///
    /// # Errors
    /// A second is missing or there twice.
    pub fn check(self, site: &Site) -> Result<i128> {
        let client = site.client()?;
        let least_s = now_s() - self.all_run_s - 1;
        // What an agent that was out of sight has done is not known at once.
        wait_until_all_are(&client, &self.machines, VmState::Running)?;
        for vm in &self.machines {
            client.vm_stop(vm, &VmStop { force: true })?;
        }
        wait_until_all_are(&client, &self.machines, VmState::Stopped)?;
        let most_s = now_s() + 1 - self.asked_s;
        let mut all_s = 0;
        for vm in &self.machines {
            let seconds = until("the end of the machine is in the ledger", PATIENCE, || {
                let seconds = used_s(&client, vm, self.asked_s)?;
                Ok((seconds >= least_s).then_some(seconds))
            });
            let seconds = seconds.with_context(|| format!("{least_s} s of {vm} are due"))?;
            site.note(&format!("{seconds} s of {vm} are in the ledger, of {least_s} to {most_s}"));
            ensure!(seconds <= most_s, "{seconds} s of {vm}, which ran for at most {most_s} s");
            all_s += seconds;
        }
        Ok(all_s)
    }
}

fn wait_until_all_are(client: &Client, machines: &[String], state: VmState) -> Result<()> {
    for vm in machines {
        let found = client.vm_wait(vm, PATIENCE, |vm| vm.state == state)?;
        ensure!(found.state == state, "machine {vm} is not {state:?}: {found:#?}");
    }
    Ok(())
}

/// What the ledger has of a machine, from the hour on in which it was asked for.
fn used_s(client: &Client, vm: &str, asked_s: i128) -> Result<i128> {
    let hour_s = u64::try_from(asked_s - asked_s % 3_600)?;
    let from = Some(Timestamp::from_unix_ms(hour_s * 1_000));
    let (vm, meter) = (Some(vm.to_owned()), Some(Meter::VmSeconds));
    let rows = client.usage(&UsageFilter { from, vm, meter, ..UsageFilter::default() })?;
    Ok(rows.iter().map(|row| row.quantity.0).sum())
}

fn now_s() -> i128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().into()
}
