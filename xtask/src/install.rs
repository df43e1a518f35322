//! `cargo xtask install --root DIR`: the programs, the units and the sample configuration, laid out
//! as a package would.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::product;
use crate::workspace::Workspace;

const PROGRAM: u32 = 0o755;
const TEXT: u32 = 0o644;

/// Files with this ending from `deploy/`, and where they go.
struct Kind {
    extension: &'static str,
    directory: &'static str,
}

const KINDS: &[Kind] = &[
    Kind { extension: "service", directory: "usr/lib/systemd/system" },
    Kind { extension: "slice", directory: "usr/lib/systemd/system" },
    Kind { extension: "toml", directory: "etc/novacron" },
    Kind { extension: "yaml", directory: "etc/novacron" },
];

/// Installs below `root`. A configuration file that is there already is left as it is.
pub fn run(workspace: &Workspace, root: &Path) -> Result<()> {
    let built = product::ensure_installable(workspace, &product::PROGRAMS)?;
    for program in product::PROGRAMS {
        place(&built.join(program), &root.join("usr/bin").join(program), PROGRAM)?;
    }
    for source in deployed_files(workspace)? {
        let extension = source.extension().unwrap_or_default();
        let Some(kind) = KINDS.iter().find(|kind| extension == kind.extension) else { continue };
        let target = root.join(kind.directory).join(source.file_name().unwrap_or_default());
        if kind.directory.starts_with("etc") && target.exists() {
            println!("  kept      {}", target.display());
        } else {
            place(&source, &target, TEXT)?;
        }
    }
    // Where the units say that it is.
    let guide = root.join("usr/share/doc/novacron/operating.md");
    place(&workspace.root().join("docs/operating.md"), &guide, TEXT)
}

fn deployed_files(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    crate::workspace::files_under(&workspace.root().join("deploy"))
}

/// Copies beside the target and moves into place, so that a running program keeps its file.
fn place(source: &Path, target: &Path, mode: u32) -> Result<()> {
    let context = || format!("cannot install {}", target.display());
    if let Some(directory) = target.parent() {
        fs::create_dir_all(directory).with_context(context)?;
    }
    let mut new = target.as_os_str().to_owned();
    new.push(".new");
    fs::copy(source, &new).with_context(context)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(mode)).with_context(context)?;
    fs::rename(&new, target).with_context(context)?;
    println!("  installed {}", target.display());
    Ok(())
}
