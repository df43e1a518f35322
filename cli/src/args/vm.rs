//! `novacron vm`.

use clap::{Args, Subcommand};
use novacron_protocol::api::{self, NetworkChoice, VmDisk};
use novacron_protocol::migration::MigrationMode;
use novacron_protocol::vm::VmState;
use novacron_sdk::VmFilter;

use super::Wait;
use super::snapshot::{SnapshotCommand, SnapshotOrder};
use super::values::{
    AnnotationChange, Duration, milliseconds, parse_annotation, parse_bandwidth, parse_cpus,
    parse_disk, parse_duration, parse_label, parse_network, parse_size, parse_state,
};
use crate::failure::Failure;

/// Virtual machines.
#[derive(Debug, Subcommand)]
pub enum VmCommand {
    /// Lists machines.
    List(VmList),
    /// Creates a machine and starts it.
    Create(Box<VmCreate>),
    /// Shows a machine.
    Show(VmSelection),
    /// Starts a stopped machine.
    Start {
        /// The machine.
        #[command(flatten)]
        vm: VmSelection,
        /// Whether to wait until it runs.
        #[command(flatten)]
        wait: Wait,
    },
    /// Asks a machine's guest to shut down.
    Stop {
        /// The machine.
        #[command(flatten)]
        vm: VmSelection,
        /// At once, rather than by asking the guest.
        #[arg(long)]
        force: bool,
        /// Whether to wait until it has stopped.
        #[command(flatten)]
        wait: Wait,
    },
    /// Destroys a machine and its disks.
    Destroy {
        /// The machine.
        #[command(flatten)]
        vm: VmSelection,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
        /// Whether to wait until it is gone.
        #[command(flatten)]
        wait: Wait,
    },
    /// Shows what happens to a machine until interrupted or the machine is gone.
    Watch(VmSelection),
    /// Moves a machine to another node.
    Migrate(VmMigrate),
    /// Keeps texts beside a machine, for people and tools; `show` shows them.
    Annotate {
        /// The machine.
        #[command(flatten)]
        vm: VmSelection,
        /// A text and its key, or a key and `-`, which removes what is there.
        #[arg(required = true, value_name = "KEY=VALUE|KEY-", value_parser = parse_annotation)]
        changes: Vec<AnnotationChange>,
    },
    /// Snapshots of a machine's disks.
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Makes all disks of a stopped machine what they were when a snapshot was taken.
    Restore(SnapshotOrder),
    /// Attaches to a machine's serial console. Ctrl-] detaches.
    Console(VmConsole),
}

/// A machine.
#[derive(Debug, Clone, Args)]
pub struct VmSelection {
    /// Name or id of the machine.
    #[arg(value_name = "VM")]
    pub vm: String,
}

/// Which machines to list.
#[derive(Debug, Args)]
pub struct VmList {
    /// Only those whose name, node, label values or images have this text somewhere.
    #[arg(long)]
    pub text: Option<String>,
    /// Only the one of this name.
    #[arg(long)]
    pub name: Option<String>,
    /// Only those with this label; may be repeated.
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub labels: Vec<(String, String)>,
    /// Only those of this project.
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
    /// Only those on this node.
    #[arg(long)]
    pub node: Option<String>,
    /// Only those on nodes that stand in this region.
    #[arg(long, value_name = "CODE")]
    pub region: Option<String>,
    /// Only those in this network.
    #[arg(long, value_name = "NAME")]
    pub network: Option<String>,
    /// Only those in this state.
    #[arg(long, value_parser = parse_state)]
    pub state: Option<VmState>,
}

impl VmList {
    /// The API's filter.
    pub fn filter(&self) -> VmFilter {
        VmFilter {
            text: self.text.clone(),
            name: self.name.clone(),
            labels: self.labels.iter().cloned().collect(),
            project: self.project.clone(),
            node: self.node.clone(),
            region: self.region.clone(),
            network: self.network.clone(),
            state: self.state,
        }
    }
}

/// A machine to create. Sizes are whole numbers with K, M, G or T (powers of two).
#[derive(Debug, Args)]
pub struct VmCreate {
    /// Name: lower-case letters, digits and `-`.
    pub name: String,
    /// Memory [default: 2G].
    #[arg(long, value_name = "SIZE", value_parser = parse_size, allow_hyphen_values = true)]
    pub memory: Option<u64>,
    /// Virtual CPUs [default: 2].
    #[arg(long, value_name = "N", value_parser = parse_cpus, allow_hyphen_values = true)]
    pub cpus: Option<u32>,
    /// A disk: SIZE, or image=NAME with size=SIZE and format=raw|qcow2 as you like; may be repeated
    /// [default: 20G of the image].
    #[arg(long = "disk", value_name = "DISK", value_parser = parse_disk)]
    pub disks: Vec<VmDisk>,
    /// Image that the first disk starts as a copy of [default: ubuntu-22.04 unless there is a kernel].
    #[arg(long, value_name = "NAME")]
    pub image: Option<String>,
    /// Kernel to boot instead of the first disk: a path on the node; a relative one begins here.
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<String>,
    /// Initial RAM disk: a path on the node.
    #[arg(long, value_name = "FILE", requires = "kernel")]
    pub initrd: Option<String>,
    /// Kernel command line.
    #[arg(long, value_name = "TEXT", requires = "kernel", allow_hyphen_values = true)]
    pub append: Option<String>,
    /// Network: the name of one, none, user, or bridge=INTERFACE for operators of the whole fleet [default: user].
    #[arg(long, value_parser = parse_network)]
    pub network: Option<NetworkChoice>,
    /// Project that it shall belong to, for ever [default: default].
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
    /// Node to create it on [default: one that fits].
    #[arg(long)]
    pub node: Option<String>,
    /// A label; may be repeated.
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub labels: Vec<(String, String)>,
    /// A label that the node must have; may be repeated.
    #[arg(long = "node-selector", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub node_selector: Vec<(String, String)>,
    /// With a TPM 2.0.
    #[arg(long)]
    pub enable_tpm: bool,
    /// Do not start it.
    #[arg(long)]
    pub no_start: bool,
    /// Whether to wait until it runs (or has stopped, with --no-start).
    #[command(flatten)]
    pub wait: Wait,
}

impl VmCreate {
    /// The API's request, checked as the coordinator checks it.
    ///
    /// # Errors
    /// The field that cannot be.
    pub fn request(&self) -> Result<api::VmCreate, Failure> {
        let mut disks = self.disks.clone();
        if let (Some(image), Some(first)) = (&self.image, disks.first_mut()) {
            if first.image.is_some() {
                return Err(Failure::usage("--image and the first --disk both name an image"));
            }
            first.image = Some(image.clone());
        }
        let create = api::VmCreate {
            name: self.name.clone(),
            project: self.project.clone(),
            memory: self.memory,
            cpus: self.cpus,
            disk: None,
            image: if disks.is_empty() { self.image.clone() } else { None },
            disks,
            kernel: absolute(self.kernel.as_ref()),
            initrd: absolute(self.initrd.as_ref()),
            append: self.append.clone(),
            network: self.network.clone(),
            labels: self.labels.iter().cloned().collect(),
            node_selector: self.node_selector.iter().cloned().collect(),
            enable_tpm: self.enable_tpm,
            node: self.node.clone(),
            start: self.no_start.then_some(false),
        };
        create.to_spec().map_err(|invalid| Failure::usage(invalid.to_string()))?;
        Ok(create)
    }
}

/// A path on the node, which is often this machine: what is relative is meant from here.
fn absolute(path: Option<&String>) -> Option<String> {
    // Fails for an empty path only, which the check of the request names.
    let whole = |path: &String| std::path::absolute(path).ok()?.into_os_string().into_string().ok();
    path.map(|path| whole(path).unwrap_or_else(|| path.clone()))
}

/// Where and how to move a machine.
#[derive(Debug, Args)]
pub struct VmMigrate {
    /// The machine.
    #[command(flatten)]
    pub vm: VmSelection,
    /// Node to move to.
    #[arg(long, value_name = "NODE")]
    pub target: String,
    /// While the guest runs; without this and --warm the machine must be stopped.
    #[arg(long)]
    pub live: bool,
    /// Disks while the guest runs; then the guest is shut down, and started at the target.
    #[arg(long, conflicts_with = "live")]
    pub warm: bool,
    /// Stop a guest that does not shut down in time, as if its power had failed.
    // A requirement alone is waived where what is required cannot be used.
    #[arg(long, requires = "warm", conflicts_with = "live")]
    pub force_shutdown: bool,
    /// For how long the guest may stand still, such as 50ms [default: the source agent's setting].
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, allow_hyphen_values = true, requires = "live", conflicts_with = "warm")]
    pub downtime_limit: Option<Duration>,
    /// Rate that the migration may put on the wire, such as 800mbit [default: all that the link carries].
    #[arg(long, value_name = "RATE", value_parser = parse_bandwidth, allow_hyphen_values = true)]
    pub bandwidth: Option<u64>,
    /// Slow down a guest that writes faster than the link carries, until it fits.
    #[arg(long, requires = "live", conflicts_with = "warm")]
    pub auto_converge: bool,
    /// Show the progress until it has ended, and exit with its result.
    #[arg(long)]
    pub watch: bool,
    /// Whether to wait until it has ended.
    #[command(flatten)]
    pub wait: Wait,
}

impl VmMigrate {
    /// The API's request.
    pub fn request(&self) -> api::VmMigrate {
        let mode = match (self.live, self.warm) {
            (true, _) => MigrationMode::Live,
            (false, true) => MigrationMode::Warm,
            (false, false) => MigrationMode::Cold,
        };
        api::VmMigrate {
            downtime_limit_ms: self.downtime_limit.map(milliseconds),
            bandwidth_bits_per_second: self.bandwidth,
            auto_converge: self.auto_converge,
            force_shutdown: self.force_shutdown,
            ..api::VmMigrate::to(&self.target, mode)
        }
    }
}

/// Which part of a console.
#[derive(Debug, Args)]
pub struct VmConsole {
    /// The machine.
    #[command(flatten)]
    pub vm: VmSelection,
    /// Print what the console has said so far, and end.
    #[arg(long)]
    pub log: bool,
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use novacron_protocol::api;

    use crate::args::{Cli, Command, VmCommand};
    use crate::failure::{Exit, Failure};

    fn create(line: &str) -> Result<api::VmCreate, Failure> {
        let words = ["novacron", "vm", "create"].into_iter().chain(line.split(' '));
        match Cli::try_parse_from(words).unwrap().command {
            Command::Vm(VmCommand::Create(create)) => create.request(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_image_belongs_to_the_first_disk() {
        let made =
            create("web-01 --memory 512M --cpus 1 --disk 1G --disk 2G --image debian").unwrap();
        assert_eq!(made.memory, Some(512 << 20));
        assert_eq!(made.disks[0].image.as_deref(), Some("debian"));
        assert_eq!(made.disks[1].image, None);
        assert_eq!(made.image, None);
        let alone = create("web-01 --image debian").unwrap();
        assert_eq!(alone.image.as_deref(), Some("debian"));
        assert!(create("web-01 --image a --disk image=b").is_err());
    }

    #[test]
    fn what_the_coordinator_would_refuse_is_refused_at_once() {
        let failure = create("web-01 --memory 1M").unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.starts_with("memory: "), "{}", failure.message);
        assert!(create("Web_01").unwrap_err().message.starts_with("name: "));
    }

    #[test]
    fn a_relative_kernel_is_in_the_present_directory() {
        let made = create("a --kernel boot/vmlinuz --initrd ./initrd").unwrap();
        let here = std::env::current_dir().unwrap();
        assert_eq!(made.kernel.as_deref(), here.join("boot/vmlinuz").to_str());
        assert_eq!(made.initrd.as_deref(), here.join("initrd").to_str());
    }

    #[test]
    fn kernel_and_labels_reach_the_request() {
        let made =
            create("a --kernel /vmlinuz --initrd /initrd --append console=ttyS0 -l k=v --node-selector z=1 --no-start")
                .unwrap();
        assert_eq!(made.append.as_deref(), Some("console=ttyS0"));
        assert_eq!(made.labels["k"], "v");
        assert_eq!(made.node_selector["z"], "1");
        assert_eq!(made.start, Some(false));
        assert!(made.disks.is_empty());
    }
}
