//! The guest that everybody moves: kernel, initrd and kernel arguments, as `cargo xtask guest` makes them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::workload::Workload;

/// The guest's files.
#[derive(Debug)]
pub struct Guest {
    /// What `-kernel` takes.
    pub kernel: PathBuf,
    /// What `-initrd` takes.
    pub initrd: PathBuf,
    arguments: String,
}

impl Guest {
    /// Finds it, by default where it is built.
    pub fn find(directory: Option<&Path>) -> Result<Self> {
        let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/novacron-guest");
        let directory = directory.unwrap_or(&default);
        let directory = directory
            .canonicalize()
            .with_context(|| format!("{}: `cargo xtask guest` makes it", directory.display()))?;
        let path = |name| -> Result<PathBuf> {
            let path = directory.join(name);
            ensure!(
                path.is_file(),
                "{} is not there: `cargo xtask guest` makes it",
                path.display()
            );
            Ok(path)
        };
        let arguments = fs::read_to_string(path("arguments")?).context("the guest's arguments")?;
        Ok(Self { kernel: path("vmlinuz")?, initrd: path("initrd")?, arguments })
    }

    /// Its kernel command line for a workload.
    pub fn append(&self, workload: &Workload) -> String {
        format!("{} {}", self.arguments.trim(), workload.append())
    }
}
