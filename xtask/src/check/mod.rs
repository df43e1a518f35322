//! The rules of this project that the compiler does not know: who may depend on whom, and what a
//! source file may hold.

mod code;
mod edges;
mod fuzz;
mod mirrors;
mod places;
mod tidy;
mod tracked;

use anyhow::{Result, bail};

use crate::workspace::Workspace;

/// A place that breaks a rule, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// File (and line), or crate.
    place: String,
    /// What is wrong, and what would be right.
    what: String,
}

/// Checks every rule.
///
/// # Errors
/// Names every place that breaks one.
pub fn rules(workspace: &Workspace) -> Result<()> {
    let mut findings = edges::findings(workspace)?;
    findings.extend(fuzz::findings(workspace)?);
    let hosts = mirrors::hosts()?;
    for file in tracked::files(workspace)? {
        findings.extend(tidy::findings(&file, &hosts));
        findings.extend(places::findings(&file));
    }
    if findings.is_empty() {
        return Ok(());
    }
    for finding in &findings {
        println!("  {}: {}", finding.place, finding.what);
    }
    bail!("{} places break a rule of this project", findings.len());
}
