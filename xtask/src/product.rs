//! The programs that users get: built once for the demo and the tests, and once more, with more patience, for an
//! installation.

use std::env;
use std::path::PathBuf;

use anyhow::Result;

use crate::process;
use crate::workspace::Workspace;

/// Says where the programs are. Set for tests and benches; where it is set, nothing is built.
pub const DIRECTORY_VARIABLE: &str = "NOVACRON_BIN_DIR";

/// Their names, which are also those of their packages.
pub const PROGRAMS: [&str; 3] = ["novacron", "novacron-agent", COORDINATOR];

/// The one that the benches of the control plane measure.
pub const COORDINATOR: &str = "novacron-coordinator";

/// How cargo builds what the tests run, and the tests.
pub const TESTS_PROFILE: &str = "ci";

/// Builds them if nobody did, and returns the directory they are in.
pub fn ensure(workspace: &Workspace) -> Result<PathBuf> {
    build(workspace, "release", &PROGRAMS)
}

/// The same for some of them as they are installed.
pub fn ensure_installable(workspace: &Workspace, programs: &[&str]) -> Result<PathBuf> {
    build(workspace, "dist", programs)
}

fn build(workspace: &Workspace, profile: &str, programs: &[&str]) -> Result<PathBuf> {
    if let Some(directory) = env::var_os(DIRECTORY_VARIABLE) {
        return Ok(PathBuf::from(directory));
    }
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--locked", "--profile", profile]);
    for program in programs {
        cargo.args(["--package", program]);
    }
    process::run(&mut cargo)?;
    Ok(workspace.built_directory(profile))
}
