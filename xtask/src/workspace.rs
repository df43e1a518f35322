//! Where things are in this checkout.

use std::env;
use std::path::{Path, PathBuf};

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
}
