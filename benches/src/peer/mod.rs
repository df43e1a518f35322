//! QEMU's own migration: a pair of plain QEMUs, the same machine as ours, moving the same guest.
//!
//! The target starts the guest by itself and there is no return path, as QEMU has it by default: every message
//! that QEMU can do without is left out.

mod machine;
mod mode;
mod qmp;
pub mod storage;
mod tls;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::json;

pub use mode::Mode;

use crate::console::Console;
use crate::guest::Guest;
use crate::interruption::Interruption;
use crate::measurement::Measurement;
use crate::network::{Host, LinkArgs, Network, Tcp};
use crate::reservoir::Reservoir;
use crate::watch::{Processors, Watch, Watched};
use crate::workload::Workload;
use machine::{Machine, Plan};
use qmp::Event;

/// Where the target listens, in its own namespace.
const PORT: u16 = 4444;
/// An emulated guest boots in a few seconds, and may have a disk to write before it begins.
const BOOT_PATIENCE: Duration = Duration::from_secs(300);
/// For how long the guest may take to go on at the target and to compare all that it has.
const SWEEP_PATIENCE: Duration = Duration::from_secs(180);
/// Time between two looks at a console log.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Lines of the counter that the target has to add before the sweep.
const TICKS_MORE: u64 = 5;

/// What a run needs.
#[derive(Debug)]
pub struct Run<'a> {
    /// How memory moves.
    pub mode: Mode,
    /// The link.
    pub link: &'a LinkArgs,
    /// Which TCP, unless this machine's.
    pub tcp: Option<Tcp>,
    /// The guest.
    pub guest: &'a Guest,
    /// What it does.
    pub workload: &'a Workload,
    /// After how long a migration never ends.
    pub deadline: Duration,
    /// Where files may be put.
    pub directory: &'a Path,
    /// Whether a person has had enough.
    pub interruption: &'a Interruption,
}

impl Run<'_> {
    /// Boots the guest, moves it and checks that it goes on.
    pub fn measure(&self) -> Result<Measurement> {
        let network = Network::create(self.link, self.tcp)?;
        if self.mode.is_encrypted() {
            tls::create(self.directory)?;
        }
        let mut source = self.machine(&network, Host::Source)?;
        let patience = (BOOT_PATIENCE, LOOK_AGAIN);
        self.interruption.wait("the guest's start", patience.0, patience.1, || {
            source.check()?;
            Ok(Console::parse(&source.console()?).is_ready()?.then_some(()))
        })?;
        let mut target = self.machine(&network, Host::Target)?;
        self.prepare(&mut source, &mut target)?;
        let reservoir = Reservoir::fill(self.workload, 1)?;
        self.interruption.pause(self.workload.warm_up())?;

        let processors = processors(&mut source, &mut target)?;
        let consoles = vec![source.console_path(), target.console_path()];
        let watch = Watch::begin(Watched { guests: vec![consoles], processes: Vec::new() })?;
        let (bytes, spent) = (network.wire().bytes()?, processors.spent()?);
        reservoir.flow()?;
        let ordered = Instant::now();
        let measurement = self.migrate(&mut source, &mut target)?;
        let order_ms = ordered.elapsed().as_secs_f64() * 1000.0;
        let (wire, spent) = (network.wire().bytes()? - bytes, processors.spent()? - spent);
        self.await_guest(&source, &mut target)?;
        let seen = watch.end()?;
        self.check_guest(&source, &mut target)?;
        Ok(Measurement { order_ms, wire, ..measurement }.with_seen(seen, spent))
    }

    fn machine(&self, network: &Network, host: Host) -> Result<Machine> {
        let plan = Plan {
            host,
            memory_bytes: self.workload.memory_bytes(),
            kernel: &self.guest.kernel,
            initrd: &self.guest.initrd,
            append: &self.guest.append(self.workload),
            has_disk: self.workload.disk().is_some(),
            directory: self.directory,
            is_encrypted: self.mode.is_encrypted(),
        };
        if let Some(disk) = self.workload.disk() {
            storage::create(&plan.disk(), disk.bytes())?;
        }
        Machine::start(&plan, network.enter(host), self.interruption)
    }

    /// Sets both sides up, so that the order is all that is left.
    fn prepare(&self, source: &mut Machine, target: &mut Machine) -> Result<()> {
        for machine in [&mut *source, &mut *target] {
            let mut capabilities = self.mode.capabilities();
            if self.has_disk() {
                capabilities.push(json!({ "capability": storage::CAPABILITY, "state": true }));
            }
            machine
                .qmp
                .execute("migrate-set-capabilities", &json!({ "capabilities": capabilities }))?;
            machine.qmp.execute(
                "migrate-set-parameters",
                &self.mode.parameters(self.workload.memory_bytes()),
            )?;
        }
        let uri = json!({ "uri": uri() });
        target.qmp.execute("migrate-incoming", &uri)?;
        if self.has_disk() { storage::export(target) } else { Ok(()) }
    }

    fn has_disk(&self) -> bool {
        self.workload.disk().is_some()
    }

    /// Disk first, if there is one: then the total is from there on, and by a clock outside.
    fn migrate(&self, source: &mut Machine, target: &mut Machine) -> Result<Measurement> {
        if !self.has_disk() {
            return self.migrate_memory(source, target, |_, _| Ok(()));
        }
        let begun = Instant::now();
        storage::mirror(source, self.deadline)?;
        let measurement = self.migrate_memory(source, target, |source, target| {
            storage::switch_over(source, target, self.deadline)
        })?;
        Ok(Measurement { total_ms: begun.elapsed().as_secs_f64() * 1000.0, ..measurement })
    }

    fn migrate_memory(
        &self,
        source: &mut Machine,
        target: &mut Machine,
        switch_over: impl FnOnce(&mut Machine, &mut Machine) -> Result<()>,
    ) -> Result<Measurement> {
        source.qmp.execute("migrate", &json!({ "uri": uri() }))?;
        switch_over(source, target)?;
        let ended = source.qmp.wait(self.deadline, has_ended).with_context(|| {
            format!("{} does not get done: does the guest write faster than the link?", self.mode)
        })?;
        let info = source.qmp.execute("query-migrate", &json!({}))?;
        if ended.data["status"] != "completed" {
            bail!("QEMU's migration: {info}");
        }
        let stop = source.qmp.seen("STOP").context("QEMU has not stopped the guest")?;
        let resume = target.qmp.wait(self.deadline, |event| event.name == "RESUME")?;
        let info: MigrationInfo =
            serde_json::from_value(info).context("the answer of query-migrate")?;
        Ok(info.measurement(resume.at.saturating_sub(stop.at)))
    }

    /// The guest goes on at the target.
    fn await_guest(&self, source: &Machine, target: &mut Machine) -> Result<()> {
        let enough = console(source, target)?.last_tick() + TICKS_MORE;
        let (patience, every) = (SWEEP_PATIENCE, LOOK_AGAIN);
        self.interruption.wait("the guest's going on at the target", patience, every, || {
            Ok((console(source, target)?.last_tick() >= enough).then_some(()))
        })
    }

    /// The guest has all of its memory.
    fn check_guest(&self, source: &Machine, target: &mut Machine) -> Result<()> {
        let (patience, every) = (SWEEP_PATIENCE, LOOK_AGAIN);
        target.type_in(crate::console::SWEEP)?;
        self.interruption.wait("the guest's comparing all that it has", patience, every, || {
            Ok(console(source, target)?.is_swept(self.has_disk()).then_some(()))
        })?;
        console(source, target)?.check()
    }
}

/// What the guest has said at both. Its last line at the source may end at the target.
fn console(source: &Machine, target: &mut Machine) -> Result<Console> {
    target.check()?;
    Ok(Console::parse(&(source.console()? + &target.console()?)))
}

/// Both QEMUs without the guest's own work.
fn processors(source: &mut Machine, target: &mut Machine) -> Result<Processors> {
    let mut processors = Processors::default();
    for machine in [source, target] {
        processors.processes.push(machine.process());
        processors.except.push((machine.process(), machine.processor_thread()?));
    }
    Ok(processors)
}

fn uri() -> String {
    format!("tcp:{}:{PORT}", Host::Target.address())
}

fn has_ended(event: &Event) -> bool {
    let ends = [json!("completed"), json!("failed"), json!("cancelled")];
    event.name == "MIGRATION" && ends.contains(&event.data["status"])
}

/// Answer of `query-migrate` after the end.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct MigrationInfo {
    total_time: u64,
    setup_time: u64,
    downtime: u64,
    ram: RamCounters,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RamCounters {
    transferred: u64,
    dirty_sync_count: u64,
}

impl MigrationInfo {
    fn measurement(&self, pause: Duration) -> Measurement {
        Measurement {
            total_ms: self.total_time as f64,
            memory_ms: self.total_time.saturating_sub(self.setup_time) as f64,
            downtime_ms: self.downtime as f64,
            pause_ms: Some(pause.as_secs_f64() * 1000.0),
            rounds: self.ram.dirty_sync_count,
            own_bytes: self.ram.transferred,
            ..Measurement::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn qemus_figures_are_read() {
        let info: MigrationInfo = serde_json::from_value(json!({
            "status": "completed", "total-time": 2342, "setup-time": 12, "downtime": 180,
            "ram": { "transferred": 245_366_784, "dirty-sync-count": 4, "duplicate": 5 }
        }))
        .unwrap();
        let measurement = info.measurement(Duration::from_micros(183_500));
        assert_eq!((measurement.total_ms, measurement.memory_ms), (2342.0, 2330.0));
        assert_eq!((measurement.downtime_ms, measurement.pause_ms), (180.0, Some(183.5)));
        assert_eq!((measurement.rounds, measurement.own_bytes), (4, 245_366_784));
    }

    #[test]
    fn only_the_end_of_a_migration_ends_it() {
        let event =
            |name: &str, data: Value| Event { name: name.to_owned(), at: Duration::ZERO, data };
        assert!(has_ended(&event("MIGRATION", json!({ "status": "failed" }))));
        assert!(!has_ended(&event("MIGRATION", json!({ "status": "device" }))));
        assert!(!has_ended(&event("STOP", Value::Null)));
    }
}
