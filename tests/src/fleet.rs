//! Three coordinators, two nodes, and busy guests that move between them: what tests of failures begin with.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use novacron_protocol::migration::MigrationMode;
use novacron_protocol::node::NodeState;
use novacron_protocol::vm::TENANT_LABEL;
use novacron_sdk::Client;
use novacron_sdk::api::{MigrationView, VmCreate, VmMigrate, VmView};
use serde_json::Value;

use crate::counter::Counter;
use crate::dev_cluster::DevCluster;
use crate::place::Place;
use crate::wait::until;

/// The nodes.
pub const NODES: [&str; 2] = ["node-01", "node-02"];
/// Longer than anything takes that has no time limit of its own, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What the guest does. Memory is written more slowly than the slowest link of a test carries it, so that every
/// migration ends; the disk soon holds enough for its copy to last some time on that link.
const WORKLOAD: &str = "novacron.memory_mib=64 novacron.memory_rate=2 novacron.disk_rate=4 \
                        novacron.disk_region_mib=32 novacron.tick_ms=50";
/// What an idle guest does: memory and disk stay as they are, and its kernel is where every other's is.
const IDLE: &str = "nokaslr novacron.memory_mib=1 novacron.memory_rate=0 novacron.full_rate=0 \
                    novacron.disk_rate=0 novacron.tick_ms=50";
/// What a guest does that is moved very often: little, but everything of it is checked.
const SMALL: &str = "novacron.memory_mib=16 novacron.memory_rate=2 novacron.disk_rate=1 \
                     novacron.disk_region_mib=4 novacron.tick_ms=50";
/// Ticks after which the disk holds a good part of the region.
const BUSY_TICKS: u64 = 60;
/// Ticks by which a guest must go on to be called running: half a second of its time.
const ONWARD_TICKS: u64 = 10;

/// A cluster, and what was done to it.
#[derive(Debug)]
pub struct Fleet {
    cluster: DevCluster,
    client: Client,
    tag: String,
    /// Whether its hosts have network namespaces: links that can be cut and shaped.
    pub has_links: bool,
    began: Instant,
}

impl Fleet {
    /// Runs a test on a cluster of its own. If the test fails, it prints the logs and how to run it again.
    ///
    /// # Panics
    /// The test fails.
    pub fn run(replay: &str, test: impl FnOnce(&Self) -> Result<()>) {
        Self::run_after(Self::forget_images, replay, test);
    }

    /// The same, with agents that remember what they do by default.
    ///
    /// # Panics
    /// The test fails.
    pub fn run_remembering(replay: &str, test: impl FnOnce(&Self) -> Result<()>) {
        Self::run_after(|_| Ok(()), replay, test);
    }

    fn run_after(
        prepare: impl FnOnce(&Self) -> Result<()>,
        replay: &str,
        test: impl FnOnce(&Self) -> Result<()>,
    ) {
        let result = Self::up(3).and_then(|fleet| {
            prepare(&fleet)?;
            fleet.show(test)
        });
        if let Err(error) = result {
            panic!(
                "{error:#}\n\nTo run this again: cargo build --release --bins && cargo test --release -p novacron-tests {replay}"
            );
        }
    }

    /// Runs a part of a test on a cluster of its own with one coordinator. If it fails, the logs are printed.
    ///
    /// # Errors
    /// Those of the test.
    pub fn with_small(test: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        Self::up(1)?.show(test)
    }

    fn show(&self, test: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        let result = test(self);
        if result.is_err() {
            self.cluster.print_logs();
        }
        result
    }

    fn up(coordinators: u8) -> Result<Self> {
        let began = Instant::now();
        let cluster = DevCluster::up(coordinators, 2)?;
        let record = fs::read_to_string(cluster.directory().join("dev.json"))?;
        let record: Value = serde_json::from_str(&record)?;
        let tag = record["tag"].as_str().context("dev.json has no tag")?.to_owned();
        let has_links = !record["isolation"]["namespaces"].is_null();
        let client = cluster.client()?;
        let fleet = Self { cluster, client, tag, has_links, began };
        fleet.note("the cluster is up");
        Ok(fleet)
    }

    /// Has the agents keep nothing of machines that left or came: a way back that is as long as the way there, and a
    /// second attempt that is as long as the first, have phases that a test can catch.
    fn forget_images(&self) -> Result<()> {
        for node in NODES {
            let path = self.cluster.directory().join(node).join("agent.toml");
            let mut settings = OpenOptions::new().append(true).open(path)?;
            settings
                .write_all(b"\n[migration]\nmemory_cache_bytes = 0\nshared_cache_bytes = 0\n")?;
            // Killed, because `dev kill` waits for that to be over.
            self.dev(&["kill", node, "--signal", "KILL"])?;
            self.dev(&["start", node])?;
        }
        self.wait_until_nodes_are_ready()
    }

    /// Tells the reader of a failed test what was done when.
    pub fn note(&self, what: &str) {
        println!("{:7.3} s  {what}", self.began.elapsed().as_secs_f64());
    }

    /// The cluster.
    pub fn cluster(&self) -> &DevCluster {
        &self.cluster
    }

    /// A client of it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// `novacron dev …`, noted.
    ///
    /// # Errors
    /// What it said.
    pub fn dev(&self, arguments: &[&str]) -> Result<()> {
        self.dev_with(arguments, &[])
    }

    /// The same, with variables in the environment of what it starts.
    ///
    /// # Errors
    /// What it said.
    pub fn dev_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Result<()> {
        self.note(&format!("novacron dev {}", arguments.join(" ")));
        self.cluster.dev_with(arguments, variables).map(drop)
    }

    /// Gives both nodes' links a rate, where there are links.
    ///
    /// # Errors
    /// What `dev link` said.
    pub fn set_rate(&self, rate: &str) -> Result<()> {
        if !self.has_links {
            return Ok(());
        }
        self.dev(&["link", NODES[0], NODES[1], "--rate", rate])
    }

    /// Waits until both agents are where the coordinators hear them.
    ///
    /// # Errors
    /// One is not.
    pub fn wait_until_nodes_are_ready(&self) -> Result<()> {
        until("both nodes are ready", PATIENCE, || {
            let nodes = self.client.nodes()?;
            let are_ready = nodes.iter().all(|node| node.state == NodeState::Ready);
            Ok(are_ready.then_some(()))
        })
    }

    /// Boots a guest on a node and waits until it is busy.
    ///
    /// # Errors
    /// It cannot be made or does not boot.
    pub fn boot(&self, name: &str, node: &str) -> Result<Guest<'_>> {
        self.boot_as(&machine(name, node)?)
    }

    /// Boots a guest of a tenant that does nothing but count, and waits until it does.
    ///
    /// # Errors
    /// It cannot be made or does not boot.
    pub fn boot_for(&self, tenant: &str, name: &str, node: &str) -> Result<Guest<'_>> {
        let labels = [(TENANT_LABEL.to_owned(), tenant.to_owned())].into();
        let append = Some(format!("{} {IDLE}", fs::read_to_string(guest_file("arguments")?)?));
        self.boot_as(&VmCreate { labels, append, ..machine(name, node)? })
    }

    /// Boots a small guest on a node, which moves quickly, and waits until it is busy.
    ///
    /// # Errors
    /// It cannot be made or does not boot.
    pub fn boot_small(&self, name: &str, node: &str) -> Result<Guest<'_>> {
        let append = Some(format!("{} {SMALL}", fs::read_to_string(guest_file("arguments")?)?));
        let (memory, disk) = (Some(128 << 20), Some(16 << 20));
        self.boot_as(&VmCreate { memory, disk, append, ..machine(name, node)? })
    }

    /// Boots a guest of this specification and waits until it is busy.
    ///
    /// # Errors
    /// It cannot be made or does not boot.
    pub fn boot_as(&self, create: &VmCreate) -> Result<Guest<'_>> {
        let made = self.client.vm_create(create)?;
        let guest = Guest { fleet: self, name: create.name.clone(), id: made.id.to_string() };
        until("the guest is busy", PATIENCE, || {
            // There is no console before the machine runs.
            let is_busy = guest.counter().is_ok_and(|counter| counter.last() >= BUSY_TICKS);
            Ok(is_busy.then_some(()))
        })?;
        self.note(&format!("{} is busy", guest.name));
        Ok(guest)
    }
}

/// A machine with the demo guest, which `cargo xtask guest` builds.
///
/// # Errors
/// The guest was not built.
pub fn machine(name: &str, node: &str) -> Result<VmCreate> {
    let path = |name: &str| guest_file(name).map(|path| path.display().to_string());
    let arguments = fs::read_to_string(guest_file("arguments")?)?;
    Ok(VmCreate {
        name: name.to_owned(),
        memory: Some(192 << 20),
        cpus: Some(1),
        disk: Some(64 << 20),
        kernel: Some(path("vmlinuz")?),
        initrd: Some(path("initrd")?),
        append: Some(format!("{arguments} {WORKLOAD}")),
        node: Some(node.to_owned()),
        ..VmCreate::default()
    })
}

/// A file of the demo guest.
///
/// # Errors
/// The guest was not built.
pub fn guest_file(name: &str) -> Result<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/novacron-guest");
    directory
        .join(name)
        .canonicalize()
        .context("the demo guest is needed: `cargo xtask guest` builds it")
}

/// A busy guest.
#[derive(Debug)]
pub struct Guest<'a> {
    /// Where it lives.
    pub fleet: &'a Fleet,
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
}

impl Guest<'_> {
    /// Its places at both nodes.
    pub fn places(&self) -> [Place; 2] {
        NODES.map(|node| self.place(node))
    }

    /// Its place at a node.
    pub fn place(&self, node: &str) -> Place {
        Place::new(self.fleet.cluster.directory(), &self.fleet.tag, node, &self.id)
    }

    /// What the API says of it.
    ///
    /// # Errors
    /// Nothing.
    pub fn view(&self) -> Result<VmView> {
        Ok(self.fleet.client.vm(&self.name)?)
    }

    /// The node that has it, and the other.
    ///
    /// # Errors
    /// It is at neither.
    pub fn here_and_there(&self) -> Result<(&'static str, &'static str)> {
        let node = self.view()?.node.context("it is at no node")?;
        match NODES {
            [here, there] if node.as_str() == here => Ok((here, there)),
            [there, here] if node.as_str() == here => Ok((here, there)),
            _ => anyhow::bail!("it is at {node}"),
        }
    }

    /// Orders a live migration.
    ///
    /// # Errors
    /// It is refused.
    pub fn migrate(&self, target: &str) -> Result<MigrationView> {
        self.migrate_as(&VmMigrate::to(target, MigrationMode::Live))
    }

    /// Orders this migration.
    ///
    /// # Errors
    /// It is refused.
    pub fn migrate_as(&self, order: &VmMigrate) -> Result<MigrationView> {
        let ordered = self.fleet.client.vm_migrate(&self.name, order)?;
        self.fleet.note(&format!("{} shall move to {}", self.name, ordered.target));
        Ok(ordered)
    }

    /// The whole log of its console.
    ///
    /// # Errors
    /// It cannot be had.
    pub fn console(&self) -> Result<String> {
        let mut log = Vec::new();
        self.fleet.client.console(&self.name, 0, false)?.read_to_end(&mut log)?;
        Ok(String::from_utf8_lossy(&log).into_owned())
    }

    /// Its counter, from the console's whole log.
    ///
    /// # Errors
    /// The log cannot be had.
    pub fn counter(&self) -> Result<Counter> {
        Ok(Counter::parse(&self.console()?))
    }

    /// Checks that it goes on counting, and that it missed, repeated and lost nothing since it was booted.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check_it_goes_on(&self) -> Result<()> {
        let before = until("it has booted and counts", PATIENCE, || {
            Ok(self.counter().ok().filter(|counter| counter.last() > 0))
        })?;
        let after = until("its counter goes on", PATIENCE, || {
            let counter = self.counter()?;
            Ok((counter.last() >= before.last() + ONWARD_TICKS).then_some(counter))
        })?;
        after.check()
    }
}
