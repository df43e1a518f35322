//! etcd, which the benches of the control plane compare with: nothing else needs it.

use std::path::PathBuf;

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{packages, process};

/// Says to the benches where it is.
pub const PROGRAM_VARIABLE: &str = "NOVACRON_ETCD";

const PROGRAM: &str = "etcd";
const PACKAGE: &str = "etcd-server";

/// Where it is; downloaded if this machine has none.
pub fn ensure(workspace: &Workspace) -> Result<PathBuf> {
    if process::probe(PROGRAM, &["--version"]).is_some() {
        return Ok(PathBuf::from(PROGRAM));
    }
    packages::program(PACKAGE, PROGRAM, &workspace.root().join("target/novacron-etcd"))
}
