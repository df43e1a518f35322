//! NovaCron's migration: a development cluster on a link of the same shape, moving the same guest. One coordinator:
//! it takes no part in moving memory, and two more would only take time from the two cores.

mod cli;
mod cluster;
mod record;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::console::{Console, SWEEP};
use crate::guest::Guest;
use crate::interruption::Interruption;
use crate::measurement::Measurement;
use crate::network::{LinkArgs, Shape};
use crate::watch::{Processors, Watch, Watched};
use crate::workload::Workload;
use cluster::{Cluster, SOURCE, TARGET};

const VM: &str = "bench-01";
/// Machines that are never started. They have both nodes hold kernel and initrd, as the hosts of plain QEMUs do: else
/// 18 MB of files would be counted that the peers do not move.
const KEEPERS: ((&str, &str), (&str, &str)) =
    (("bench-files-1", SOURCE), ("bench-files-2", TARGET));
const GUEST_PATIENCE: Duration = Duration::from_secs(120);
/// Time between two looks at a console log: each is a request through all of the cluster.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Lines of the counter that the target has to add before the sweep.
const TICKS_MORE: u64 = 5;

/// What a run needs.
#[derive(Debug)]
pub struct Run<'a> {
    /// Where NovaCron's programs are.
    pub programs: &'a Path,
    /// The link.
    pub link: &'a LinkArgs,
    /// How the peers' links are shaped.
    pub shape: Shape,
    /// The guest.
    pub guest: &'a Guest,
    /// What it does.
    pub workload: &'a Workload,
    /// After how long a migration never ends.
    pub deadline: Duration,
    /// For how long it stays elsewhere before its way back is measured.
    pub back_after: Option<Duration>,
    /// Where files may be put.
    pub directory: &'a Path,
    /// Whether data and logs of a run that fails stay.
    pub keep_logs: bool,
    /// Whether a person has had enough.
    pub interruption: &'a Interruption,
}

impl Run<'_> {
    /// Boots the guest, moves it and checks that it goes on.
    pub fn measure(&self) -> Result<Measurement> {
        let cli = cli::Cli::new(self.programs, self.directory, self.interruption);
        let cluster = Cluster::up(cli, self.link, self.keep_logs)?;
        let measured = self.inside(&cluster);
        cluster.down(self.keep_logs && measured.is_err())?;
        measured
    }

    fn inside(&self, cluster: &Cluster<'_>) -> Result<Measurement> {
        let wire = cluster.wire()?;
        let shape = wire.shape()?;
        ensure!(
            self.shape == shape,
            "the peers' link is {:?} and NovaCron's is {shape:?}: nothing would be compared",
            self.shape
        );
        self.create(cluster)?;
        self.interruption.wait("the guest's start", GUEST_PATIENCE, LOOK_AGAIN, || {
            Ok(console(cluster)?.is_ready()?.then_some(()))
        })?;
        self.interruption.pause(self.workload.warm_up())?;

        let target = match self.back_after {
            None => TARGET,
            Some(stay) => {
                self.order(cluster, TARGET)?;
                self.interruption.pause(stay)?;
                SOURCE
            }
        };
        let agents = Processors { processes: cluster.agents()?, except: Vec::new() };
        let (consoles, processes) = (cluster.consoles()?, agents.processes.clone());
        let watch = Watch::begin(Watched { consoles, processes })?;
        let (bytes, spent) = (wire.bytes()?, agents.spent()?);
        let ordered = Instant::now();
        let json = self.order(cluster, target)?;
        let order_ms = ordered.elapsed().as_secs_f64() * 1000.0;
        let (wire, spent) = (wire.bytes()? - bytes, agents.spent()? - spent);
        self.await_guest(cluster)?;
        let seen = watch.end()?;
        self.check_guest(cluster)?;
        Ok(Measurement { order_ms, wire, ..record::measurement(&json)? }.with_seen(seen, spent))
    }

    fn order(&self, cluster: &Cluster<'_>, target: &str) -> Result<String> {
        let order = ["vm", "migrate", VM, "--target", target, "--live", "--wait", "-o", "json"];
        cluster.cli().run(&order, "", self.deadline)
    }

    fn create(&self, cluster: &Cluster<'_>) -> Result<()> {
        let memory = format!("{}M", self.workload.memory_bytes() >> 20);
        for (name, node) in [KEEPERS.0, KEEPERS.1] {
            self.create_machine(cluster, name, &["--memory", "64M", "--node", node, "--no-start"])?;
        }
        self.create_machine(cluster, VM, &["--memory", &memory, "--node", SOURCE])
    }

    fn create_machine(&self, cluster: &Cluster<'_>, name: &str, words: &[&str]) -> Result<()> {
        let kernel = self.guest.kernel.to_str().context("the kernel's path is not text")?;
        let initrd = self.guest.initrd.to_str().context("the initrd's path is not text")?;
        let append = self.guest.append(self.workload);
        let mut line = vec!["vm", "create", name, "--cpus", "1", "--network", "none"];
        line.extend(["--kernel", kernel, "--initrd", initrd, "--append", &append, "--wait"]);
        line.extend(words);
        cluster.cli().run(&line, "", GUEST_PATIENCE).map(drop)
    }

    /// The guest goes on at the target.
    fn await_guest(&self, cluster: &Cluster<'_>) -> Result<()> {
        let enough = console(cluster)?.last_tick() + TICKS_MORE;
        let (patience, every) = (GUEST_PATIENCE, LOOK_AGAIN);
        self.interruption.wait("the guest's going on at the target", patience, every, || {
            Ok((console(cluster)?.last_tick() >= enough).then_some(()))
        })
    }

    /// The guest has all of its memory.
    fn check_guest(&self, cluster: &Cluster<'_>) -> Result<()> {
        let (patience, every) = (GUEST_PATIENCE, LOOK_AGAIN);
        cluster.cli().run(&["vm", "console", VM], SWEEP, GUEST_PATIENCE)?;
        self.interruption.wait(
            "the guest's comparing all of its pages",
            patience,
            every,
            || Ok(console(cluster)?.is_swept().then_some(())),
        )?;
        console(cluster)?.check()
    }
}

fn console(cluster: &Cluster<'_>) -> Result<Console> {
    let log = cluster.cli().run(&["vm", "console", VM, "--log"], "", GUEST_PATIENCE)?;
    Ok(Console::parse(&log))
}
