//! `cargo xtask sim`: the simulation of the coordinators, for more seeds than the tests have time for.

use anyhow::Result;

use crate::process;
use crate::workspace::Workspace;

/// Which seeds.
#[derive(Debug, clap::Args)]
pub struct Seeds {
    /// How many.
    #[arg(long, default_value_t = 100, conflicts_with = "seed")]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0, conflicts_with = "seed")]
    first: u64,
    /// This one only, with everything that happens in it.
    #[arg(long)]
    seed: Option<u64>,
    /// Minutes of the world during which things go wrong.
    #[arg(long, default_value_t = 1)]
    minutes: u64,
    /// Seeds at once: about one for each processor.
    #[arg(long, default_value_t = 1)]
    jobs: u64,
    /// A bug to plant; `--planted help` lists them.
    #[arg(long, value_name = "BUG")]
    planted: Option<String>,
}

/// Runs them; an error is a seed that found something.
pub fn run(workspace: &Workspace, seeds: &Seeds) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo.args(["run", "--locked", "--release", "--quiet", "--package", "novacron-simulation"]);
    match seeds.seed {
        Some(seed) => cargo.args(["--", "one", "--trace", "--seed", &seed.to_string()]),
        None => cargo.args([
            "--",
            "many",
            "--seeds",
            &seeds.seeds.to_string(),
            "--first",
            &seeds.first.to_string(),
            "--jobs",
            &seeds.jobs.to_string(),
        ]),
    };
    cargo.args(["--minutes", &seeds.minutes.to_string()]);
    cargo.args(seeds.planted.iter().flat_map(|bug| ["--planted", bug]));
    process::run(&mut cargo)
}
