//! `cargo xtask demo`: a busy guest moves between two hosts and back while it runs, and everything
//! that was promised about it is checked. Only the `novacron` program is driven, as a person would.

mod cli;
mod cluster;
mod counter;
mod interruption;
mod record;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::stages::Stages;
use crate::workspace::Workspace;
use crate::{guest, packages, product};
use cli::Cli;
use cluster::Cluster;
use counter::Log;
use guest::Guest;
use interruption::Interruption;
use record::Record;

const VM: &str = "web-01";
const NODES: [&str; 2] = ["node-01", "node-02"];
/// What the guest does: half of its memory is written all the time, the disk too, and it says so
/// ten times a second.
const WORKLOAD: &str =
    "novacron.memory_mib=256 novacron.memory_rate=20 novacron.disk_rate=2 novacron.tick_ms=100";
/// A guest that has not said anything for this long will not: it boots in a few seconds.
const COUNTER_DEADLINE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Lines of the counter shown around a switch: the command returns some tenths of a second after it.
const SHOWN_BEFORE: u64 = 10;
const SHOWN_AFTER: u64 = 2;

/// Builds what is needed, shows the journey there and back, and takes everything down unless asked
/// to keep it.
pub fn run(workspace: &Workspace, keep: bool) -> Result<()> {
    let stages = Stages::start();
    stages.run("packages", packages::ensure)?;
    let guest = stages.run("guest", || guest::ensure(workspace))?;
    let programs = stages.run("build", || product::ensure(workspace))?;

    let interruption = Interruption::listen()?;
    let show = Stages::start();
    let cluster = show.run("cluster", || Cluster::up(&programs, &interruption))?;
    if let Err(error) = journey(cluster.cli(), &guest, &show) {
        if interruption.check().is_ok() {
            save_logs(&cluster, workspace);
        }
        println!("Taking everything down");
        return Err(match cluster.down() {
            Ok(()) => error,
            Err(also) => error.context(format!("and taking it down failed: {also:#}")),
        });
    }
    if keep {
        cluster.keep(VM);
    } else {
        show.run("destroy", || cluster.cli().run(&["vm", "destroy", VM, "--yes", "--wait"]))?;
        show.run("down", || cluster.down())?;
    }
    show.finish();
    Ok(())
}

/// What went wrong is in them, and their directory is about to go.
fn save_logs(cluster: &Cluster<'_>, workspace: &Workspace) {
    let logs = workspace.root().join("target/novacron-demo-logs");
    match cluster.save_logs(&logs) {
        Ok(()) => println!("The logs of this run are in {}", logs.display()),
        Err(error) => eprintln!("error: saving the logs: {error:#}"),
    }
}

fn journey(cli: &Cli<'_>, guest: &Guest, show: &Stages) -> Result<()> {
    show.run("create", || create(cli, guest))?;
    show.run("wait for the guest's counter", || wait_for_counter(cli))?;
    let there = show.run("migrate", || migrate(cli, NODES[0], NODES[1]))?;
    let back = show.run("migrate back", || migrate(cli, NODES[1], NODES[0]))?;
    println!("\n{}", record::table(&[("there", &there), ("back", &back)]));
    Ok(())
}

fn create(cli: &Cli<'_>, guest: &Guest) -> Result<()> {
    let kernel = guest.kernel.to_str().context("the kernel's path is not text")?;
    let initrd = guest.initrd.to_str().context("the initrd's path is not text")?;
    let append = format!("{} {WORKLOAD}", guest::ARGUMENTS);
    let size = ["--memory", "512M", "--cpus", "1", "--disk", "1G"];
    let boot = ["--kernel", kernel, "--initrd", initrd, "--append", &append];
    let mut arguments = vec!["vm", "create", VM];
    arguments.extend(size.iter().chain(&boot));
    arguments.extend(["--node", NODES[0], "--wait"]);
    cli.run(&arguments)
}

fn console(cli: &Cli<'_>) -> Result<Log> {
    Ok(Log::parse(&cli.capture(&["vm", "console", VM, "--log"])?))
}

fn wait_for_counter(cli: &Cli<'_>) -> Result<()> {
    await_tick(cli, 1).map(drop)
}

/// Waits until the counter has reached a number.
fn await_tick(cli: &Cli<'_>, tick: u64) -> Result<Log> {
    let deadline = Instant::now() + COUNTER_DEADLINE;
    loop {
        let log = console(cli)?;
        if log.last_tick().is_some_and(|last| last >= tick) {
            return Ok(log);
        }
        if Instant::now() > deadline {
            bail!("the guest's counter did not reach {tick} in {} s", COUNTER_DEADLINE.as_secs());
        }
        cli.pause(LOOK_AGAIN)?;
    }
}

/// Moves the guest, and checks that it neither missed nor repeated anything.
fn migrate(cli: &Cli<'_>, source: &str, target: &str) -> Result<Record> {
    let before = console(cli)?.last_tick().context("the guest's counter is not in its log")?;
    let arguments =
        ["vm", "migrate", VM, "--target", target, "--live", "--watch", "--wait", "-o", "json"];
    let record = Record::parse(&cli.capture_shown(&arguments)?)?;
    let at_return = console(cli)?.last_tick().unwrap_or(before);
    // The guest must also go on where it is now, not only have arrived.
    let log = await_tick(cli, at_return + SHOWN_AFTER)?;
    println!("\nThe counter as the guest went from {source} to {target}:");
    for line in log.between(at_return.saturating_sub(SHOWN_BEFORE), at_return + SHOWN_AFTER) {
        println!("  {line}");
    }
    let ticks = log.check().context("the guest's own checks")?;
    println!(
        "  {ticks} lines so far, {} of them since the order: no gap, no repeat, no fault\n",
        ticks.saturating_sub(before)
    );
    ensure!(record.is_verified(), "the record does not say that both ends compared equal");
    ensure!(record.is_from_to(source, target), "the record is of another journey");
    Ok(record)
}
