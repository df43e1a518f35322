//! `cargo xtask conformance`: the API against its description, with more requests than the tests have time for.

use anyhow::Result;

use crate::process;
use crate::workspace::Workspace;

/// How much is asked.
#[derive(Debug, clap::Args)]
pub struct Requests {
    /// Requests of each kind for each operation.
    #[arg(long, default_value_t = 50)]
    examples: u32,
    /// What decides which.
    #[arg(long, default_value_t = 7)]
    seed: u32,
}

/// Asks, of one coordinator, with a tenant's key and with an operator's certificate; an error is an answer that is not
/// as the description says.
pub fn run(workspace: &Workspace, requests: &Requests) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--locked", "--package", "novacron-coordinator", "--test", "outside"]);
    cargo.args(["conformance::", "--", "--nocapture"]);
    cargo.env("NOVACRON_CONFORMANCE_EXAMPLES", requests.examples.to_string());
    cargo.env("NOVACRON_CONFORMANCE_SEED", requests.seed.to_string());
    process::run(&mut cargo)
}
