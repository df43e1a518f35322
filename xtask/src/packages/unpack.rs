//! A Debian package that is used and not installed: this machine's own are left alone.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

/// Downloads and unpacks beside `directory`, and puts it in place when it is whole. Needs no privilege.
pub fn unpack(package: &str, directory: &Path) -> Result<()> {
    println!("Downloading {package}, to be unpacked in {} and not installed", directory.display());
    let work = directory.with_extension("new");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    let tree = work.join("tree");
    fs::create_dir_all(&tree)?;
    let mut download = Command::new("apt-get");
    download.args(["download", "--quiet=2", package]).current_dir(&work);
    if rustix::process::geteuid().is_root() {
        // As another user apt could not write into this directory, and would warn about it.
        download.args(["--option", "APT::Sandbox::User=root"]);
    }
    process::run(&mut download)?;
    let archive = fs::read_dir(&work)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get download left no package in {}", work.display()))?;
    process::run(Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(&tree))?;
    fs::rename(&tree, directory)
        .with_context(|| format!("cannot put the unpacked {package} in place"))?;
    fs::remove_dir_all(&work).context("cannot remove the downloaded package")
}
