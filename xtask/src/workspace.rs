//! Where things are in this checkout.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// The checkout that this xtask was built from.
#[derive(Debug, Clone)]
pub struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// Finds the workspace root: the parent of this crate's directory.
    pub fn find() -> Result<Self> {
        let manifest_dir = match env::var_os("CARGO_MANIFEST_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => PathBuf::from(env!("CARGO_MANIFEST_DIR")),
        };
        let root = manifest_dir.parent().context("the xtask crate has no parent directory")?;
        Ok(Self { root: root.to_path_buf() })
    }

    /// The directory that holds the root `Cargo.toml`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the guest's kernel and initrd are: always here, so that every test and bench finds
    /// them whatever `CARGO_TARGET_DIR` says.
    pub fn guest_directory(&self) -> PathBuf {
        self.root.join("target/novacron-guest")
    }

    /// Where cargo puts builds of a profile that is not for development.
    pub fn built_directory(&self, profile: &str) -> PathBuf {
        let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        // A relative one is taken from where cargo runs, which is the root.
        self.root.join(target.unwrap_or_else(|| "target".into())).join(profile)
    }

    /// The cargo that runs us, in this workspace.
    pub fn cargo(&self) -> Command {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.root);
        cargo
    }
}

/// Every file under a directory, in the order of their paths.
pub fn files_under(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(directory) = open.pop() {
        let entries = fs::read_dir(&directory)
            .with_context(|| format!("cannot list {}", directory.display()))?;
        for entry in entries {
            let entry = entry?;
            match entry.file_type()? {
                kind if kind.is_dir() => open.push(entry.path()),
                kind if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files.sort();
    Ok(files)
}
