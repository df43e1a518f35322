//! The project's own chores: `cargo xtask demo`, `cargo xtask test`, `cargo xtask check` and the
//! parts they are made of. Nothing of the product is linked in, so that this builds in seconds and
//! can say what is missing before anything else is compiled.

mod bench;
mod check;
mod conformance;
mod coverage;
mod demo;
mod etcd;
mod failures;
mod full;
mod guest;
mod install;
mod lint;
mod model;
mod packages;
mod process;
mod product;
mod promtool;
mod quick;
mod sim;
mod stages;
mod steps;
mod totals;
mod upgrade;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own chores", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// A running guest moves between two hosts and back, through every layer, on this machine.
    Demo {
        /// Leave the cluster up at the end, and say how to use it.
        #[arg(long)]
        keep: bool,
    },
    /// Format, rules, clippy and unit tests: the quick check.
    Check,
    /// Everything: installs what tests need, builds the guest, runs every check and every test.
    Test,
    /// Explore every state that the two ends of a migration can reach, and print how many they are.
    Model {
        /// Faults in one history at most: one more is about six times as many states.
        #[arg(long, default_value_t = model::FAULTS)]
        faults: u32,
    },
    /// Ask the API whatever its description allows and forbids, and compare each answer with it.
    Conformance(conformance::Requests),
    /// Run the tests of all crates with counters in the code, and say how much of it they run.
    Coverage {
        /// Write the figures into docs/coverage.md, too.
        #[arg(long)]
        record: bool,
    },
    /// Simulate the coordinators: clocks, network, disks and crashes that a seed decides.
    Sim(sim::Seeds),
    /// A cluster of the release before becomes one of this release, coordinator by coordinator, under load.
    Upgrade {
        /// The commit of the release before [default: the one in deploy/previous-release].
        #[arg(long, value_name = "COMMIT")]
        from: Option<String>,
    },
    /// Kill an agent, and cut its link, before and after every step of a migration of a real guest.
    Steps,
    /// Run the benches; arguments are handed on to them.
    #[command(disable_help_flag = true)]
    Bench {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Install the programs, systemd units and sample configuration below a root directory.
    Install {
        /// The root of the file system to install into.
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
    },
    /// Install the Debian packages that the demo and the tests need, if any is missing.
    Packages,
    /// Build the kernel and the initrd of the demo guest, under target/novacron-guest/.
    Guest,
    /// Check only the rules of the project that the compiler does not know.
    Rules,
}

fn main() -> ExitCode {
    match run(&Arguments::parse().chore) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: &Chore) -> Result<()> {
    let workspace = Workspace::find()?;
    match chore {
        Chore::Demo { keep } => demo::run(&workspace, *keep),
        Chore::Check => quick::run(&workspace),
        Chore::Test => full::run(&workspace),
        Chore::Model { faults } => model::run(&workspace, *faults),
        Chore::Conformance(requests) => conformance::run(&workspace, requests),
        Chore::Coverage { record } => coverage::run(&workspace, *record),
        Chore::Sim(seeds) => sim::run(&workspace, seeds),
        Chore::Upgrade { from } => upgrade::run(&workspace, from.as_deref()),
        Chore::Steps => steps::run(&workspace),
        Chore::Bench { arguments } => bench::run(&workspace, arguments),
        Chore::Install { root } => install::run(&workspace, root),
        Chore::Packages => packages::ensure_for_tests(),
        Chore::Guest => build_guest(&workspace),
        Chore::Rules => check::rules(&workspace),
    }
}

fn build_guest(workspace: &Workspace) -> Result<()> {
    packages::ensure()?;
    let guest = guest::ensure(workspace)?;
    println!("kernel    {}", guest.kernel.display());
    println!("initrd    {}", guest.initrd.display());
    println!("arguments {}", guest::ARGUMENTS);
    Ok(())
}
