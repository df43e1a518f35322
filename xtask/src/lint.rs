//! rustfmt and clippy, as strict here as for everyone.

use anyhow::Result;

use crate::process;
use crate::product::TESTS_PROFILE;
use crate::workspace::Workspace;

/// Whose build results clippy shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Those of `cargo check` and an editor.
    Development,
    /// Those of the tests.
    Tests,
}

/// Checks that every file is formatted.
pub fn format(workspace: &Workspace) -> Result<()> {
    process::run(workspace.cargo().args(["fmt", "--all", "--check"]))
}

/// Checks everything that is compiled; a warning is an error.
pub fn clippy(workspace: &Workspace, profile: Profile) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo.args(["clippy", "--locked", "--workspace", "--all-targets", "--quiet"]);
    if profile == Profile::Tests {
        cargo.args(["--profile", TESTS_PROFILE]);
    }
    process::run(cargo.args(["--", "--deny", "warnings"]))
}
