//! The programs that users get: built once, for the demo, the tests and an installation.

use std::env;
use std::path::PathBuf;

use anyhow::Result;

use crate::process;
use crate::workspace::Workspace;

/// Says where the programs are. Set for tests and benches; where it is set, nothing is built.
pub const DIRECTORY_VARIABLE: &str = "NOVACRON_BIN_DIR";

/// Their names, which are also those of their packages.
pub const PROGRAMS: [&str; 3] = ["novacron", "novacron-agent", "novacron-coordinator"];

/// Builds them if nobody did, and returns the directory they are in.
pub fn ensure(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(directory) = env::var_os(DIRECTORY_VARIABLE) {
        return Ok(PathBuf::from(directory));
    }
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--locked", "--release"]);
    for program in PROGRAMS {
        cargo.args(["--package", program]);
    }
    process::run(&mut cargo)?;
    Ok(workspace.release_directory())
}
