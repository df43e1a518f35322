//! The micro-benchmarks: criterion's, run by cargo.

use std::env;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::args::Micro;

/// Runs them. Each figure stands beside `memcpy` of the same bytes, which nothing that touches them can beat.
pub fn run(micro: &Micro) -> Result<ExitCode> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args([
            "bench",
            "--locked",
            "--package",
            "novacron-benches",
            "--bench",
            "pages",
            "--bench",
            "stream",
            "--",
        ])
        .args(&micro.arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .status()
        .context("cannot run cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
