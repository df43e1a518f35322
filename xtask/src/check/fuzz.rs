//! The fuzz targets are a workspace of their own, which no other check compiles: that cargo can read it, and that it has
//! a program for each target.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Finding;
use crate::process;
use crate::workspace::{Workspace, files_under};

const MANIFEST: &str = "fuzz/Cargo.toml";
const TARGETS: &str = "fuzz/fuzz_targets";

/// What is wrong with the fuzz targets. Needs no network: dependencies are not looked at.
///
/// # Errors
/// What cargo says of the manifest.
pub fn findings(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut cargo = workspace.cargo();
    cargo.args(["metadata", "--format-version=1", "--no-deps", "--offline"]);
    let metadata = process::capture(cargo.args(["--manifest-path", MANIFEST]))?;
    let files = files_under(&workspace.root().join(TARGETS))?;
    let stem = |file: &std::path::PathBuf| Some(file.file_stem()?.to_str()?.to_owned());
    differences(&serde_json::from_str(&metadata)?, &files.iter().filter_map(stem).collect())
}

/// Files of targets that are no programs. A program without its file is cargo's to find.
fn differences(metadata: &Value, files: &BTreeSet<String>) -> Result<Vec<Finding>> {
    let targets = metadata["packages"][0]["targets"].as_array();
    let targets = targets.context("cargo metadata has no targets")?;
    let is_program = |target: &&Value| target["kind"][0] == "bin";
    let name = |target: &Value| target["name"].as_str().unwrap_or_default().to_owned();
    let programs: BTreeSet<String> = targets.iter().filter(is_program).map(name).collect();
    let missing = files.difference(&programs).map(|target| Finding {
        place: format!("{TARGETS}/{target}.rs"),
        what: format!("has no [[bin]] in {MANIFEST}: it is never built"),
    });
    Ok(missing.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_target_without_a_program_is_found() {
        let metadata = json!({"packages": [{"targets": [
            {"kind": ["lib"], "name": "second"},
            {"kind": ["bin"], "name": "first"},
        ]}]});
        let files = ["first", "second"].map(str::to_owned);
        let findings = differences(&metadata, &files.into()).unwrap();
        assert_eq!(findings.len(), 1);
        assert!(findings[0].place.contains("second"));
        assert!(differences(&json!({"packages": []}), &BTreeSet::new()).is_err());
    }

    #[test]
    fn all_fuzz_targets_can_be_built() {
        assert_eq!(findings(&Workspace::find().unwrap()).unwrap(), []);
    }
}
