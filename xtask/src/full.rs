//! `cargo xtask test`: everything, on optimized builds, with one line of totals at the end.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, bail};

use crate::failures::Failures;
use crate::lint::{self, Profile};
use crate::product::TESTS_PROFILE;
use crate::stages::Stages;
use crate::totals::Totals;
use crate::workspace::Workspace;
use crate::{check, guest, packages, process, product, promtool};

/// Runs every stage; the tests last, because what is before them is quicker to fail.
pub fn run(workspace: &Workspace) -> Result<()> {
    let stages = Stages::start();
    stages.run("packages", packages::ensure_for_tests)?;
    stages.run("guest", || guest::ensure(workspace))?;
    let promtool = stages.run("promtool", || Ok(promtool::ensure(workspace)))?;
    stages.run("format", || lint::format(workspace))?;
    stages.run("rules", || check::rules(workspace))?;
    // The profile of the tests here too: build scripts compile C libraries once, not twice.
    stages.run("clippy", || lint::clippy(workspace, Profile::Tests))?;
    stages.run("build", || build(workspace))?;
    let totals = stages.run("tests", || execute(workspace, promtool.as_deref()))?;
    stages.finish();
    totals.report()
}

/// Builds programs and tests in one go: apart, they would choose other features of what they share
/// and build it twice.
fn build(workspace: &Workspace) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--locked", "--workspace", "--profile", TESTS_PROFILE]);
    process::run(cargo.args(["--bins", "--tests"]))
}

/// Runs all test binaries, whatever fails, and adds up what they say.
fn execute(workspace: &Workspace, promtool: Option<&Path>) -> Result<Totals> {
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--locked", "--workspace", "--profile", TESTS_PROFILE, "--no-fail-fast"]);
    cargo.env(product::DIRECTORY_VARIABLE, workspace.built_directory(TESTS_PROFILE));
    if let Some(promtool) = promtool {
        cargo.env(promtool::PROGRAM_VARIABLE, promtool);
    }
    let child = cargo.stdout(Stdio::piped()).spawn().context("cannot run cargo test")?;
    let totals = watch(child)?;
    if totals.is_empty() {
        bail!("no test binary said how its tests went");
    }
    Ok(totals)
}

fn watch(mut child: Child) -> Result<Totals> {
    let (mut totals, mut failures) = (Totals::default(), Failures::default());
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line.context("cannot read what cargo test prints")?;
            println!("{line}");
            totals.add(&line);
            failures.add(&line);
        }
    }
    totals.end(child.wait()?.success());
    failures.report();
    Ok(totals)
}
