//! `cargo xtask coverage`: how much of the code the tests run.
//!
//! Only our own crates count lines, not what they stand on; and not files of tests alone, but tests that stand in the file
//! that they are about, nearly all of which run. Tests of whole machines
//! (`tests/`) are left out: they run released programs, most of which they kill, and a program that is killed says nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process;
use crate::workspace::{Workspace, files_under};

/// Packages whose tests are not run.
const LEFT_OUT: [&str; 4] =
    ["novacron-tests", "novacron-benches", "novacron-simulation", "novacron-guest"];

/// The ending of files of counters.
const PROFILE: &str = "profraw";

/// Where the last figures are, below the root.
const RECORD: &str = "docs/coverage.md";

/// What is said above the figures.
const HEAD: &str = "# Test coverage\n\n\
    Lines of our crates that `cargo xtask coverage` saw run, in the tests of the crates themselves (unit and component \
    tests; without those of whole machines in `tests/`, without the simulation, and without what programs did that were \
    killed). Tests that stand in the file that they are about count as lines, too. No number is aimed at. Written by `cargo xtask coverage --record`.\n";

/// Runs the tests with counters in our code, prints the figures, and writes them down if asked to.
pub fn run(workspace: &Workspace, record: bool) -> Result<()> {
    let tools = tools()?;
    let place = workspace.root().join("target/coverage");
    let profiles = place.join("profiles");
    if profiles.exists() {
        fs::remove_dir_all(&profiles).context("cannot remove the counters of the last run")?;
    }
    fs::create_dir_all(&profiles).context("cannot make the directory of the counters")?;
    let objects = test(workspace, &place, &profiles)?;
    let merged = merge(&tools, &place, &profiles)?;
    let summary = export(&tools, &merged, &objects)?;
    let text = table(workspace.root(), &summary)?;
    println!("{text}");
    if record {
        fs::write(workspace.root().join(RECORD), format!("{HEAD}\n{text}"))
            .with_context(|| format!("cannot write {RECORD}"))?;
    }
    Ok(())
}

/// Where the toolchain has its own llvm-profdata and llvm-cov: those of another LLVM may not read what it writes.
fn tools() -> Result<PathBuf> {
    let root = process::capture(Command::new("rustc").args(["--print", "sysroot"]))?;
    let host = process::capture(Command::new("rustc").args(["--print", "host-tuple"]))?;
    let tools = Path::new(root.trim()).join("lib/rustlib").join(host.trim()).join("bin");
    let is_there = tools.join("llvm-cov").exists() && tools.join("llvm-profdata").exists();
    is_there.then_some(tools).context("this needs `rustup component add llvm-tools`")
}

/// Builds and runs the tests, and returns the programs that counted.
fn test(workspace: &Workspace, place: &Path, profiles: &Path) -> Result<Vec<String>> {
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--locked", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"]);
    cargo.args(LEFT_OUT.iter().flat_map(|package| ["--exclude", package]));
    cargo.env("CARGO_TARGET_DIR", place);
    cargo.env("RUSTC_WORKSPACE_WRAPPER", wrapper(place)?);
    cargo.env("LLVM_PROFILE_FILE", profiles.join("%p-%4m.profraw"));
    let tested = process::run(&mut cargo);
    gather_strays(workspace.root(), profiles)?;
    tested?;
    let listing =
        process::capture(cargo.args(["--no-run", "--message-format", "json", "--quiet"]))?;
    let messages = listing.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(messages.filter_map(|message| Some(message["executable"].as_str()?.to_owned())).collect())
}

/// Programs that tests start with an environment of their own write their counters where they are, in the directory of a crate.
fn gather_strays(root: &Path, profiles: &Path) -> Result<()> {
    for directory in fs::read_dir(root).context("cannot list the crates")? {
        let directory = directory.context("cannot list the crates")?.path();
        let files = fs::read_dir(&directory).into_iter().flatten().flatten();
        let paths = files.map(|file| file.path());
        let is_counters = |path: &PathBuf| path.extension().is_some_and(|end| end == PROFILE);
        for path in paths.filter(is_counters) {
            let to = profiles.join(path.file_name().unwrap_or_default());
            fs::rename(&path, to).with_context(|| format!("cannot move {}", path.display()))?;
        }
    }
    Ok(())
}

/// A compiler for our own crates alone that puts the counters in. Debian's `sh` hands no variables on whose names have a `-`, as
/// those have with which cargo tells tests of our programs where these are; bash does.
fn wrapper(place: &Path) -> Result<PathBuf> {
    let path = place.join("counting-compiler");
    fs::write(&path, "#!/bin/bash\nexec \"$@\" -C instrument-coverage\n")
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
        .context("cannot write the compiler's wrapper")?;
    Ok(path)
}

fn merge(tools: &Path, place: &Path, profiles: &Path) -> Result<PathBuf> {
    let merged = place.join("merged.profdata");
    let list = place.join("profiles.list");
    let files = files_under(profiles)?;
    let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    fs::write(&list, names.join("\n")).context("cannot list the counters")?;
    let mut profdata = Command::new(tools.join("llvm-profdata"));
    // What was killed while it wrote its counters is left out.
    profdata.args(["merge", "--sparse", "--failure-mode=all", "--input-files"]).arg(&list);
    process::run(profdata.arg("--output").arg(&merged))?;
    Ok(merged)
}

fn export(tools: &Path, merged: &Path, objects: &[String]) -> Result<Value> {
    let mut cov = Command::new(tools.join("llvm-cov"));
    cov.args(["export", "--summary-only", "--instr-profile"]).arg(merged);
    cov.args(objects.iter().flat_map(|object| ["--object", object]));
    let text = process::capture(&mut cov)?;
    serde_json::from_str(&text).context("llvm-cov did not print JSON")
}

/// Lines that there are and that ran.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Lines {
    count: u64,
    covered: u64,
}

impl Lines {
    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.covered += other.covered;
    }

    fn row(self, name: &str) -> String {
        let per_mille = (self.covered * 1000).checked_div(self.count).unwrap_or(0);
        let (whole, tenth) = (per_mille / 10, per_mille % 10);
        format!("| {name} | {} | {} | {whole}.{tenth} % |\n", self.count, self.covered)
    }
}

/// The lines of each crate, as a table.
fn table(root: &Path, summary: &Value) -> Result<String> {
    let files = summary["data"][0]["files"].as_array().context("llvm-cov named no files")?;
    let mut crates = BTreeMap::<&str, Lines>::new();
    for file in files {
        let path = Path::new(file["filename"].as_str().unwrap_or_default());
        let Some(name) = path.strip_prefix(root).ok().and_then(crate_of) else { continue };
        let number = |key: &str| file["summary"]["lines"][key].as_u64().unwrap_or(0);
        let lines = Lines { count: number("count"), covered: number("covered") };
        crates.entry(name).or_default().add(lines);
    }
    let mut all = Lines::default();
    let mut text = "| crate | lines | run by tests | share |\n|---|---|---|---|\n".to_owned();
    for (name, lines) in crates {
        all.add(lines);
        text.push_str(&lines.row(name));
    }
    text.push_str(&all.row("all"));
    Ok(text)
}

/// The crate that a file is of, unless it is one of tests or of what is left out.
fn crate_of(path: &Path) -> Option<&str> {
    let name = path.iter().next()?.to_str()?;
    let is_source = path.iter().nth(1)? == "src";
    let is_test = path.iter().any(|part| part == "tests" || part == "tests.rs");
    let is_left_out =
        LEFT_OUT.iter().any(|left_out| left_out.strip_prefix("novacron-") == Some(name));
    (is_source && !is_test && !is_left_out).then_some(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_are_added_up_by_crate_without_those_of_tests() {
        let file = |name: &str, count: u64, covered: u64| {
            json!({
                "filename": format!("/root/{name}"),
                "summary": { "lines": { "count": count, "covered": covered } },
            })
        };
        let files = [
            file("agent/src/a.rs", 100, 90),
            file("agent/src/b/c.rs", 100, 25),
            file("agent/src/b/tests.rs", 50, 50),
            file("agent/tests/all/main.rs", 50, 50),
            file("simulation/src/main.rs", 70, 1),
            file("vault/src/lib.rs", 3, 3),
        ];
        let summary = json!({ "data": [{ "files": files }] });
        let text = table(Path::new("/root"), &summary).unwrap();
        let rows: Vec<&str> = text.lines().skip(2).collect();
        let expected = [
            "| agent | 200 | 115 | 57.5 % |",
            "| vault | 3 | 3 | 100.0 % |",
            "| all | 203 | 118 | 58.1 % |",
        ];
        assert_eq!(rows, expected);
    }
}
