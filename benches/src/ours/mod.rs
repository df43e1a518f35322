//! NovaCron's migration: a development cluster on a link of the same shape, moving the same guest. One coordinator:
//! it takes no part in moving memory, and two more would only take time from the two cores.

mod cli;
mod cluster;
mod cut;
mod guests;
mod record;
pub mod together;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::guest::Guest;
use crate::interruption::Interruption;
use crate::measurement::Measurement;
use crate::network::{LinkArgs, Shape};
use crate::reservoir::Reservoir;
use crate::watch::{Processors, Watch, Watched};
use crate::workload::Workload;
use cluster::{Cluster, SOURCE, TARGET};
use cut::Cut;
use guests::{GUEST_PATIENCE, Guests};

/// Machines that are never started. They have both nodes hold kernel and initrd, as the hosts of plain QEMUs do: else
/// 18 MB of files would be counted that the peers do not move.
const KEEPERS: ((&str, &str), (&str, &str)) =
    (("bench-files-1", SOURCE), ("bench-files-2", TARGET));
/// Whose the machines are that move: only those of one tenant share pages. The keepers are nobody's.
const TENANT: &str = "tenant=bench";

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
    /// Machines that move together.
    pub clones: u32,
    /// Migrations that a node takes part in at once, unless the fleet's own.
    pub migrations_per_node: Option<u32>,
    /// After how long a migration never ends.
    pub deadline: Duration,
    /// For how long it stays elsewhere before its way back is measured.
    pub back_after: Option<Duration>,
    /// For how long the link is cut in the middle.
    pub cut: Option<Duration>,
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
        let names = self.names();
        let guests = self.guests(cluster, &names);
        self.prepare(cluster, &names)?;
        guests.await_start()?;
        let reservoir = Reservoir::fill(self.workload, self.clones)?;
        self.interruption.pause(self.workload.warm_up())?;

        let way = match self.back_after {
            None => (SOURCE, TARGET),
            Some(stay) => {
                self.order(cluster, (SOURCE, TARGET))?;
                self.interruption.pause(stay)?;
                (TARGET, SOURCE)
            }
        };
        let agents = Processors { processes: cluster.agents()?, except: Vec::new() };
        let (consoles, processes) = (cluster.consoles()?, agents.processes.clone());
        let watch = Watch::begin(Watched { guests: consoles, processes })?;
        let (bytes, spent) = (wire.bytes()?, agents.spent()?);
        reservoir.flow()?;
        let ordered = Instant::now();
        let order = || self.order(cluster, way);
        let json = match self.cut {
            None => order()?,
            Some(away) => {
                Cut { cluster, wire: &wire, away, interruption: self.interruption }.during(order)?
            }
        };
        let order_ms = ordered.elapsed().as_secs_f64() * 1000.0;
        let (wire, spent) = (wire.bytes()? - bytes, agents.spent()? - spent);
        guests.await_more()?;
        let seen = watch.end()?;
        guests.check()?;
        let measurement = self.measurement(cluster, &json)?;
        Ok(Measurement { order_ms, wire, ..measurement }.with_seen(seen, spent))
    }

    fn guests<'a>(&'a self, cluster: &'a Cluster<'_>, names: &'a [String]) -> Guests<'a> {
        let has_disk = self.workload.disk().is_some();
        Guests { cli: cluster.cli(), names, has_disk, interruption: self.interruption }
    }

    /// The machines that move.
    fn names(&self) -> Vec<String> {
        (1..=self.clones).map(|number| format!("bench-{number:02}")).collect()
    }

    /// What the coordinator says of the migration, or of the batch if there are several.
    fn order(&self, cluster: &Cluster<'_>, (from, to): (&str, &str)) -> Result<String> {
        if self.clones > 1 {
            return together::order(cluster.cli(), (from, to), TENANT, self.deadline);
        }
        let names = self.names();
        let order = ["vm", "migrate", &names[0], "--target", to, "--live", "--wait", "-o", "json"];
        cluster.cli().run(&order, "", self.deadline)
    }

    fn measurement(&self, cluster: &Cluster<'_>, json: &str) -> Result<Measurement> {
        if self.clones > 1 {
            return together::measurement(cluster.cli(), json, self.clones);
        }
        record::measurement(json)
    }

    fn prepare(&self, cluster: &Cluster<'_>, names: &[String]) -> Result<()> {
        if let Some(most) = self.migrations_per_node {
            let words = ["cluster", "set", "--migrations-per-node", &most.to_string()];
            cluster.cli().run(&words, "", GUEST_PATIENCE)?;
        }
        let memory = format!("{}M", self.workload.memory_bytes() >> 20);
        for (name, node) in [KEEPERS.0, KEEPERS.1] {
            self.create_machine(cluster, name, &["--memory", "64M", "--node", node, "--no-start"])?;
        }
        let disk = self.workload.disk().map(|disk| disk.bytes().to_string());
        let mut words = vec!["--memory", &memory, "--node", SOURCE, "--label", TENANT];
        words.extend(disk.iter().flat_map(|bytes| ["--disk", bytes]));
        names.iter().try_for_each(|name| self.create_machine(cluster, name, &words))
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
}
