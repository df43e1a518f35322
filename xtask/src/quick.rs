//! `cargo xtask check`: what can be known quickly, without QEMU, packages or root.

use anyhow::Result;

use crate::lint::{self, Profile};
use crate::stages::Stages;
use crate::workspace::Workspace;
use crate::{check, process};

/// Format, rules, clippy, unit tests.
pub fn run(workspace: &Workspace) -> Result<()> {
    let stages = Stages::start();
    stages.run("format", || lint::format(workspace))?;
    stages.run("rules", || check::rules(workspace))?;
    stages.run("clippy", || lint::clippy(workspace, Profile::Development))?;
    stages.run("unit tests", || unit_tests(workspace))?;
    stages.finish();
    Ok(())
}

/// The tests that live beside the code. Those of `tests/` need a guest and minutes.
fn unit_tests(workspace: &Workspace) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--locked", "--quiet", "--workspace", "--lib", "--bins"]);
    process::run(cargo.args(["--exclude", "novacron-tests", "--exclude", "novacron-benches"]))
}
