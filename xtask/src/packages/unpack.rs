//! A Debian package that is used and not installed: this machine's own are left alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

/// One program of a package that is otherwise not needed: in `directory`, where it stays for the next time. Installed,
/// the package would bring more along, such as a service.
pub fn program(package: &str, program: &str, directory: &Path) -> Result<PathBuf> {
    let path = directory.join(program);
    if !path.exists() {
        take_out(package, program, directory)?;
    }
    Ok(path)
}

fn take_out(package: &str, program: &str, directory: &Path) -> Result<()> {
    let tree = directory.with_extension("tree");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    // What apt knows may be old or, in a new container, empty.
    unpack(package, &tree).or_else(|_| {
        super::refresh_lists()?;
        unpack(package, &tree)
    })?;
    fs::create_dir_all(directory)?;
    fs::rename(tree.join("usr/bin").join(program), directory.join(program))
        .with_context(|| format!("{package} holds no {program}"))?;
    fs::remove_dir_all(&tree).context("cannot remove the rest of the package")
}

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
