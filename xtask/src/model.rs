//! `cargo xtask model`: the hand-over, explored further than the tests have time for.

use anyhow::Result;

use crate::process;
use crate::workspace::Workspace;

/// A million and a half of states, and about a minute on two cores.
pub const FAULTS: u32 = 4;

/// Explores, and prints what was found.
pub fn run(workspace: &Workspace, faults: u32) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--locked", "--release", "--package", "novacron-protocol"]);
    cargo.args(["--test", "session", "model::", "--", "--nocapture"]);
    process::run(cargo.env("NOVACRON_MODEL_FAULTS", faults.to_string()))
}
