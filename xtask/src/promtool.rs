//! promtool, which judges the text of metrics: one program of a package that is otherwise not needed.

use std::path::PathBuf;

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
    match packages::program(PACKAGE, PROGRAM, &directory) {
        Ok(program) => Some(program),
        Err(error) => {
            println!("SKIPPED: promtool does not look at the metrics, it cannot be had: {error:#}");
            None
        }
    }
}
