//! The README's commands do what it says. A command that is new or changed has to be taken up here first.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use novacron_tests::dev_cluster::programs;
use novacron_tests::fleet::guest_file;
use tempfile::TempDir;

/// What a newcomer copies. `cargo xtask test` is what runs this test.
const COMMANDS: [&str; 2] = ["cargo xtask demo", "cargo xtask test"];
/// Seconds that a command may take: the demo promises three minutes on an idle machine.
const SECONDS_MAX: &str = "360";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The README's blocks of code in that language.
fn blocks(language: &str) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(root().join("README.md"))?;
    // Every second piece is inside a fence.
    let inside = text.split("\n```").skip(1).step_by(2);
    let of_language = inside.filter_map(|block| block.strip_prefix(&format!("{language}\n")));
    Ok(of_language.map(str::to_owned).collect())
}

/// Runs it with a deadline, and shows what it printed if it fails.
fn succeed(command: &mut Command) -> Result<Output> {
    let output = command.stdin(Stdio::null()).output()?;
    let said = [&output.stdout[..], &output.stderr].map(|said| String::from_utf8_lossy(said));
    ensure!(output.status.success(), "{}\n{}\n{}", output.status, said[0], said[1]);
    Ok(output)
}

#[test]
fn the_commands_are_those_that_are_tested() -> Result<()> {
    let commands: Vec<_> = blocks("sh")?.iter().map(|block| block.trim().to_owned()).collect();
    assert_eq!(commands, COMMANDS);
    Ok(())
}

#[test]
fn the_demo_shows_what_it_promises() -> Result<()> {
    let words = COMMANDS[0].split(' ');
    let mut command = Command::new("timeout");
    command.args(["--signal=INT", SECONDS_MAX]).args(words).current_dir(root());
    command.env("NOVACRON_BIN_DIR", programs()?);
    let output = succeed(&mut command)?;
    let said = String::from_utf8_lossy(&output.stdout);
    for promise in ["no gap, no repeat, no fault", "downtime", "verified equal", "on the wire"] {
        ensure!(said.contains(promise), "it says nothing of `{promise}`:\n{said}");
    }
    Ok(())
}

/// The block for one machine, in a home of its own, with the demo guest as the kernel.
#[test]
fn the_commands_for_one_machine_work() -> Result<()> {
    let home = Home(tempfile::tempdir()?);
    let script = blocks("")?.into_iter().find(|block| block.contains("novacron dev up"));
    let script = script.context("the README has no such block any more")?;
    let file = |name: &str| guest_file(name).map(|path| path.display().to_string());
    let script = script.replace("VMLINUZ", &file("vmlinuz")?).replace("INITRD", &file("initrd")?);
    let mut command = home.command("timeout")?;
    let output = succeed(command.args([SECONDS_MAX, "bash", "-euxc", &script]))?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(said.contains("node-02"), "nothing came to node-02:\n{said}");
    Ok(())
}

/// A home directory; what the README left up in it ends with it.
struct Home(TempDir);

impl Home {
    fn command(&self, program: &str) -> Result<Command> {
        let mut path = programs()?.into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut command = Command::new(program);
        command.env("PATH", path).env("HOME", self.0.path());
        Ok(command)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let directory = self.0.path().join("nova");
        if let Ok(mut novacron) = self.command("novacron") {
            // There is nothing to take down if nothing came up.
            let _ = novacron.args(["dev", "down", "--purge", "--dir"]).arg(directory).output();
        }
    }
}
