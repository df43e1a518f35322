//! `cargo xtask upgrade`: a cluster of the release before becomes one of this release, with real programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::workspace::Workspace;

/// Names the commit of the release before; without one, only comments.
const PREVIOUS_RELEASE: &str = "deploy/previous-release";

/// Says to the test where its coordinator is.
const PROGRAM_VARIABLE: &str = "NOVACRON_PREVIOUS_COORDINATOR";

const PROGRAM: &str = "novacron-coordinator";

/// Builds the coordinator of a commit and runs the test with it; without a commit this build plays its part.
pub fn run(workspace: &Workspace, from: Option<&str>) -> Result<()> {
    let commit = match from {
        Some(commit) => Some(commit.to_owned()),
        None => previous_release(workspace)?,
    };
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--locked", "--package", PROGRAM, "--test", "all", "--", "upgrade::"]);
    match commit {
        Some(commit) => drop(cargo.env(PROGRAM_VARIABLE, build(workspace, &commit)?)),
        None => println!("{PREVIOUS_RELEASE} names no commit: this build plays the release before"),
    }
    process::run(&mut cargo)
}

fn previous_release(workspace: &Workspace) -> Result<Option<String>> {
    let path = workspace.root().join(PREVIOUS_RELEASE);
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {PREVIOUS_RELEASE}"))?;
    let mut lines = text.lines().map(str::trim);
    Ok(lines.find(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned))
}

/// The program of a commit, built in a worktree of its own below the build directory. What is there is used again.
fn build(workspace: &Workspace, commit: &str) -> Result<PathBuf> {
    let commit = resolve(workspace, commit)?;
    let tree = workspace.root().join("target/novacron-previous").join(&commit);
    if !tree.join("Cargo.toml").exists() {
        check_out(workspace, &commit, &tree)?;
    }
    let mut cargo = workspace.cargo();
    cargo.current_dir(&tree).args(["build", "--locked", "--package", PROGRAM]);
    // One directory for all commits: their dependencies are mostly the same.
    let target = workspace.root().join("target/novacron-previous/target");
    process::run(cargo.env("CARGO_TARGET_DIR", &target))?;
    // The next commit's program will stand in its place.
    let program = tree.join(PROGRAM);
    let built = target.join("debug").join(PROGRAM);
    fs::copy(&built, &program).with_context(|| format!("cannot copy {}", built.display()))?;
    Ok(program)
}

fn resolve(workspace: &Workspace, commit: &str) -> Result<String> {
    let found = process::capture(git(workspace).args([
        "rev-parse",
        "--verify",
        "--end-of-options",
        &format!("{commit}^{{commit}}"),
    ]))?;
    let found = found.trim();
    if found.is_empty() || !found.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        bail!("`{commit}` names no commit");
    }
    Ok(found.to_owned())
}

fn check_out(workspace: &Workspace, commit: &str, tree: &Path) -> Result<()> {
    let mut worktree = git(workspace);
    // A tree that was removed by hand is still registered.
    process::run(worktree.args(["worktree", "prune"]))?;
    let mut worktree = git(workspace);
    process::run(worktree.args(["worktree", "add", "--detach"]).arg(tree).arg(commit))
}

fn git(workspace: &Workspace) -> Command {
    let mut git = Command::new("git");
    git.current_dir(workspace.root());
    git
}
