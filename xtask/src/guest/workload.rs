//! The guest's own program, linked statically: the initrd has no libraries.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::process;
use crate::workspace::Workspace;

const PACKAGE: &str = "novacron-guest";
/// Named, so that cargo keeps the flags below away from anything that runs on the host.
const TARGET: &str = "x86_64-unknown-linux-gnu";
const FLAGS: &str = "-C target-feature=+crt-static -C strip=symbols";

/// Builds it in its own target directory: other flags there would rebuild the rest of the project.
pub fn build(workspace: &Workspace, target_directory: &Path) -> Result<PathBuf> {
    let mut cargo = workspace.cargo();
    cargo
        .args([
            "build",
            "--quiet",
            "--release",
            "--package",
            PACKAGE,
            "--target",
            TARGET,
            "--target-dir",
        ])
        .arg(target_directory)
        .env("RUSTFLAGS", FLAGS)
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    process::run(&mut cargo)?;
    Ok(target_directory.join(TARGET).join("release").join(PACKAGE))
}
