//! The programs that users get: built once, for the demo, the tests and an installation.

use std::path::PathBuf;

use anyhow::Result;

use crate::process;
use crate::workspace::Workspace;

/// Tells tests and benches where the programs are.
pub const DIRECTORY_VARIABLE: &str = "NOVACRON_BIN_DIR";

/// Their names, which are also those of their packages.
pub const PROGRAMS: [&str; 3] = ["novacron", "novacron-agent", "novacron-coordinator"];

/// Builds them, and returns the directory they are in.
pub fn build(workspace: &Workspace) -> Result<PathBuf> {
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--locked", "--release"]);
    for program in PROGRAMS {
        cargo.args(["--package", program]);
    }
    process::run(&mut cargo)?;
    Ok(workspace.release_directory())
}
