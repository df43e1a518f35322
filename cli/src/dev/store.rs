//! The record of a cluster in its directory.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::cluster::Cluster;
use crate::failure::{Exit, Failure};

/// The record's name in the cluster's directory.
const FILE: &str = "dev.json";

/// Where a cluster is kept unless said: `~/.novacron/dev`.
pub fn default_dir() -> PathBuf {
    let home =
        std::env::var_os("HOME").map(PathBuf::from).unwrap_or_else(|| PathBuf::from("/root"));
    home.join(".novacron/dev")
}

/// The directory as one absolute path without links: names outside it depend on it.
///
/// # Errors
/// It is neither there nor can be said where it would be.
pub fn absolute(dir: &Path) -> Result<PathBuf, Failure> {
    let found = dir.canonicalize().or_else(|_| std::path::absolute(dir));
    found.map_err(|error| Failure::io(dir.display(), &error))
}

/// The cluster of a directory, if there is one.
///
/// # Errors
/// Its record cannot be read.
pub fn find(dir: &Path) -> Result<Option<Cluster>, Failure> {
    let path = dir.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Failure::io(format_args!("cannot read {}", path.display()), &error));
        }
    };
    let cluster: Cluster =
        serde_json::from_str(&text).map_err(|error| Failure::io(path.display(), &error))?;
    if !cluster.is_understood() {
        return Err(Failure::failed(format!(
            "{} was written by another version of this program",
            path.display()
        )));
    }
    Ok(Some(cluster))
}

/// The cluster of a directory, which must be there.
///
/// # Errors
/// There is none, or its record cannot be read.
pub fn load(dir: &Path) -> Result<Cluster, Failure> {
    find(dir)?.ok_or_else(|| absent(dir))
}

/// There is no cluster in a directory.
pub fn absent(dir: &Path) -> Failure {
    let text = format!("there is no development cluster in {}", dir.display());
    Failure::new(Exit::NotFound, text)
        .hint("`novacron dev up` makes one; `--dir` names another directory")
}

/// Keeps the record, whole or not at all.
///
/// # Errors
/// It cannot be written.
pub fn save(cluster: &Cluster) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(cluster).map_err(|error| Failure::io(FILE, &error))?;
    let path = cluster.dir.join(FILE);
    let fresh = path.with_extension("json.new");
    write(&fresh, &text)?;
    fs::rename(&fresh, &path).map_err(|error| Failure::io(path.display(), &error))
}

/// Removes the record.
///
/// # Errors
/// It cannot be removed.
pub fn forget(dir: &Path) -> Result<(), Failure> {
    remove_file(&dir.join(FILE))
}

/// Writes a file.
///
/// # Errors
/// Which file, and why.
pub fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text)
        .map_err(|error| Failure::io(format_args!("cannot write {}", path.display()), &error))
}

/// Makes a directory and those above it, for its owner alone: keys are below it.
///
/// # Errors
/// Which directory, and why.
pub fn make_dir(path: &Path) -> Result<(), Failure> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| Failure::io(format_args!("cannot make {}", path.display()), &error))
}

/// Removes a file that may be gone already.
///
/// # Errors
/// Which file, and why.
pub fn remove_file(path: &Path) -> Result<(), Failure> {
    gone(path, fs::remove_file(path))
}

/// Removes a directory and all in it; it may be gone already.
///
/// # Errors
/// Which directory, and why.
pub fn remove_dir(path: &Path) -> Result<(), Failure> {
    gone(path, fs::remove_dir_all(path))
}

fn gone(path: &Path, removed: std::io::Result<()>) -> Result<(), Failure> {
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Failure::io(format_args!("cannot remove {}", path.display()), &error))
        }
        _ => Ok(()),
    }
}
