//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::bar::Bar;
use crate::network::{LinkArgs, Tcp};
use crate::peer::Mode;
use crate::workload::{Workload, WorkloadArgs};

/// Compares NovaCron with QEMU's own migration over the same link, in the same run.
#[derive(Debug, Parser)]
#[command(name = "novacron-benches", args_conflicts_with_subcommands = true)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Without a subcommand: `migrate`.
    #[command(flatten)]
    pub migrate: Migrate,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Moves a busy guest with each of them, and judges the medians. The default.
    Migrate(Box<Migrate>),
    /// The links and workloads that must be won, each with its bars.
    Suite(Suite),
    /// How much of a link a connection between two agents fills, with each congestion controller.
    Goodput(Goodput),
    /// The control plane beside etcd: writes, reads, elections, a large fleet.
    Control(Control),
    /// Parser, encoder, decoder and page table in GB/s, beside what memory allows.
    Micro(Micro),
}

/// How to compare migrations. Needs root, for network namespaces.
#[derive(Debug, Clone, ClapArgs)]
pub struct Migrate {
    /// How often each of them moves the guest; medians are judged.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,
    /// The link.
    #[command(flatten)]
    pub link: LinkArgs,
    /// Congestion controller of the peers' TCP [default: this machine's].
    #[arg(long, value_name = "NAME")]
    pub peer_tcp: Option<Tcp>,
    /// The guest and what it does.
    #[command(flatten)]
    pub workload: WorkloadArgs,
    /// Seconds that the guest works before it is moved.
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub warm_up_s: u64,
    /// Seconds to wait before each run until the machine is idle. It is said how idle it was.
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=86400))]
    pub idle_wait_s: u64,
    /// Seconds after which a migration counts as one that never ends.
    #[arg(long, value_name = "S", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub deadline_s: u64,
    /// Ours moves there first, stays for so many seconds, and its way back is measured. Peers remember nothing of where a
    /// guest was, so theirs is as any other.
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub back_after_s: Option<u64>,
    /// The link between ours is cut for so many seconds while memory is being copied. Peers do not survive that.
    #[arg(long, value_name = "S", requires = "no_peers", conflicts_with = "clones", value_parser = clap::value_parser!(u64).range(1..=600))]
    pub cut_s: Option<u64>,
    /// Guests of one tenant that ours moves together, as one batch; peers move one, and their figures are those of as
    /// many such moves.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "back_after_s", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub clones: u32,
    /// Migrations at once in the fleet of ours [default: the fleet's own].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub migrations_per_node: Option<u32>,
    /// QEMU's own modes; the bar is about the best of them.
    #[arg(long, value_name = "MODE", value_delimiter = ',', default_value = "multifd-zstd")]
    pub peers: Vec<Mode>,
    /// Without QEMU's own.
    #[arg(long, conflicts_with = "no_ours")]
    pub no_peers: bool,
    /// Without NovaCron's.
    #[arg(long)]
    pub no_ours: bool,
    /// What must not be missed.
    #[command(flatten)]
    pub bar: Bar,
    /// Where the built guest is [default: target/novacron-guest of the project].
    #[arg(long, value_name = "DIR")]
    pub guest: Option<PathBuf>,
    /// Where NovaCron's programs are [default: beside this one].
    #[arg(long, value_name = "DIR", env = "NOVACRON_BIN_DIR")]
    pub programs: Option<PathBuf>,
    /// Write every run and the verdict into this file too.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Put the result into benches/RESULTS.md, in place of the last one of the same kind.
    #[arg(long)]
    pub record: bool,
    /// Keep the directory with all logs of runs that fail.
    #[arg(long)]
    pub keep_logs: bool,
}

impl Migrate {
    /// The workload.
    pub fn workload(&self) -> Workload {
        Workload::new(&self.workload, Duration::from_secs(self.warm_up_s))
    }

    /// The modes of QEMU's own that take part, each once.
    pub fn modes(&self) -> Vec<Mode> {
        let mut modes = Vec::new();
        for mode in self.peers.iter().filter(|_| !self.no_peers) {
            if !modes.contains(mode) {
                modes.push(*mode);
            }
        }
        modes
    }
}

/// Which of the scenarios.
#[derive(Debug, Clone, ClapArgs)]
pub struct Suite {
    /// Only these, such as `idle,small-50`.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub only: Vec<String>,
    /// How often each contender moves the guest; medians are judged.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,
    /// Put the results into benches/RESULTS.md.
    #[arg(long)]
    pub record: bool,
}

/// How to measure the control plane.
#[derive(Debug, Clone, ClapArgs)]
pub struct Control {
    /// Only these, such as `writes`.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub only: Vec<String>,
    /// How often each side is measured; medians are judged.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,
    /// Seconds for which operations count in a run.
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// Numbers of clients that write.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,64,256", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub clients: Vec<u16>,
    /// Only ours, without a bar.
    #[arg(long)]
    pub no_peers: bool,
    /// Clients are connected to the leader only, not spread over all members. So it is for both sides.
    #[arg(long)]
    pub leader_only: bool,
    /// Simulated hosts of a fleet [default: what the scenario's bar says].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub hosts: Option<u16>,
    /// Machines of a fleet [default: what the scenario's bar says].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub vms: Option<u32>,
    /// Entries of the ledger before a member is started again [default: what the bar says].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub entries: Option<u64>,
    /// Where NovaCron's programs are [default: beside this one].
    #[arg(long, value_name = "DIR", env = "NOVACRON_BIN_DIR")]
    pub programs: Option<PathBuf>,
    /// Put the results into benches/RESULTS.md.
    #[arg(long)]
    pub record: bool,
}

impl Control {
    /// What to type to measure a scenario again.
    pub fn command(&self, scenario: &str) -> String {
        let leader_only = if self.leader_only { " --leader-only" } else { "" };
        let option = |name: &str, value: Option<u64>| {
            value.map(|value| format!(" --{name} {value}")).unwrap_or_default()
        };
        let hosts = option("hosts", self.hosts.map(u64::from));
        let vms = option("vms", self.vms.map(u64::from));
        let entries = option("entries", self.entries);
        format!(
            "cargo xtask bench control --only {scenario} --runs {} --seconds {}{leader_only}{hosts}{vms}{entries} --record",
            self.runs, self.seconds
        )
    }
}

/// How to measure what connections carry. Needs root, for network namespaces.
#[derive(Debug, Clone, ClapArgs)]
pub struct Goodput {
    /// The link.
    #[command(flatten)]
    pub link: LinkArgs,
    /// Seconds for each controller.
    #[arg(long, value_name = "S", default_value_t = 8, value_parser = clap::value_parser!(u64).range(2..=600))]
    pub seconds: u64,
    /// KiB of the send window, each for itself [default: what agents have].
    #[arg(long, value_name = "KIB", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(16..=65536))]
    pub windows: Vec<u32>,
    /// How many connections at once, each with a socket of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub connections: u8,
}

/// Which micro-benchmarks.
#[derive(Debug, ClapArgs)]
pub struct Micro {
    /// Handed on to criterion, such as a filter or `--quick`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn migrate_is_the_default() {
        let args = parse("novacron-benches --runs 5 --peers plain,multifd-zstd,plain").unwrap();
        assert!(args.command.is_none());
        assert_eq!(args.migrate.runs, 5);
        assert_eq!(args.migrate.modes(), [Mode::Plain, Mode::MultifdZstd]);
        assert!(matches!(
            parse("novacron-benches migrate").unwrap().command,
            Some(Command::Migrate(_))
        ));
    }

    #[test]
    fn micro_hands_on_what_it_does_not_know() {
        let args = parse("novacron-benches micro --quick encode").unwrap();
        let Some(Command::Micro(micro)) = args.command else { panic!("{args:?}") };
        assert_eq!(micro.arguments, ["--quick", "encode"]);
    }

    #[test]
    fn a_scenario_can_be_measured_again_by_what_is_recorded() {
        let line = "novacron-benches control --hosts 20 --vms 200 --entries 5000 --seconds 5";
        let Some(Command::Control(control)) = parse(line).unwrap().command else { panic!() };
        assert_eq!(
            control.command("restart"),
            "cargo xtask bench control --only restart --runs 3 --seconds 5 --hosts 20 --vms 200 --entries 5000 --record"
        );
    }

    #[test]
    fn something_has_to_take_part() {
        assert!(parse("novacron-benches --no-peers --no-ours").is_err());
        assert!(parse("novacron-benches --runs 0").is_err());
        assert!(parse("novacron-benches --peers fast").is_err());
    }
}
