//! `cargo xtask steps`: what the tests do at one side of each step of a migration, at both.

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{guest, packages, process, product};

/// Does all of it, and prints how each migration ended.
pub fn run(workspace: &Workspace) -> Result<()> {
    packages::ensure()?;
    guest::ensure(workspace)?;
    let programs = product::ensure(workspace)?;
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--locked", "--release", "--package", "novacron-tests"]);
    cargo.args(["--test", "steps", "--", "--nocapture"]);
    cargo.env(product::DIRECTORY_VARIABLE, programs);
    process::run(cargo.env("NOVACRON_STEPS", "all"))
}
