//! promtool, which judges the text of metrics: one program of a package that is otherwise not needed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::workspace::Workspace;
use crate::{packages, process};

/// Says to the tests where it is.
pub const PROGRAM_VARIABLE: &str = "NOVACRON_PROMTOOL";

const PROGRAM: &str = "promtool";
/// 19 MB, of which this is one program of two; installed, it would bring a service along.
const PACKAGE: &str = "prometheus";

/// Where it is; `None`, which is said, if it cannot be had: then the tests look at the rules that they know themselves.
pub fn ensure(workspace: &Workspace) -> Option<PathBuf> {
    if process::probe(PROGRAM, &["--version"]).is_some() {
        return Some(PathBuf::from(PROGRAM));
    }
    let directory = workspace.root().join("target/novacron-promtool");
    let program = directory.join(PROGRAM);
    if program.exists() {
        return Some(program);
    }
    match fetch(&directory) {
        Ok(()) => Some(program),
        Err(error) => {
            println!("SKIPPED: promtool does not look at the metrics, it cannot be had: {error:#}");
            None
        }
    }
}

fn fetch(directory: &Path) -> Result<()> {
    let tree = directory.with_extension("tree");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    // What apt knows may be old or, in a new container, empty.
    packages::unpack(PACKAGE, &tree).or_else(|_| {
        packages::refresh_lists()?;
        packages::unpack(PACKAGE, &tree)
    })?;
    fs::create_dir_all(directory)?;
    fs::rename(tree.join("usr/bin").join(PROGRAM), directory.join(PROGRAM))
        .with_context(|| format!("{PACKAGE} holds no {PROGRAM}"))?;
    fs::remove_dir_all(&tree).context("cannot remove the rest of the package")
}
