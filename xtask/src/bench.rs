//! `cargo xtask bench …`: the benches, after what they need is there. Arguments are handed on.

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{guest, packages, process, product};

/// Builds the programs and runs the benches with these arguments.
pub fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    packages::ensure()?;
    guest::ensure(workspace)?;
    let built = product::ensure(workspace)?;
    let mut cargo = workspace.cargo();
    cargo.args(["run", "--locked", "--release", "--package", "novacron-benches", "--"]);
    process::run(cargo.args(arguments).env(product::DIRECTORY_VARIABLE, built))
}
