//! `cargo xtask bench …`: the benches, after what they need is there. Arguments are handed on.

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{etcd, guest, packages, process, product};

/// The benches of the control plane: no guest takes part, and so no QEMU.
const CONTROL: &str = "control";

/// Builds the programs and runs the benches with these arguments.
pub fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let mut cargo = workspace.cargo();
    let built = if arguments.first().is_some_and(|first| first == CONTROL) {
        cargo.env(etcd::PROGRAM_VARIABLE, etcd::ensure(workspace)?);
        product::ensure_installable(workspace, &[product::COORDINATOR])?
    } else {
        packages::ensure()?;
        guest::ensure(workspace)?;
        product::ensure(workspace)?
    };
    cargo.args(["run", "--locked", "--release", "--package", "novacron-benches", "--"]);
    process::run(cargo.args(arguments).env(product::DIRECTORY_VARIABLE, built))
}
