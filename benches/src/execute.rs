//! Runs the commands that pure parts have planned.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// A program and its arguments.
pub type Argv = Vec<String>;

/// The words of a line without quotes.
pub fn argv(line: &str) -> Argv {
    line.split_whitespace().map(str::to_owned).collect()
}

/// Runs a command to its end and gives its output.
pub fn execute(argv: &Argv) -> Result<String> {
    let [program, arguments @ ..] = argv.as_slice() else { return Ok(String::new()) };
    let line = argv.join(" ");
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs commands in order, until one fails.
pub fn execute_all(commands: &[Argv]) -> Result<()> {
    commands.iter().try_for_each(|command| execute(command).map(drop))
}

/// Runs every command, whatever becomes of the others: for removing what may be gone already.
pub fn execute_each(commands: &[Argv]) {
    for command in commands {
        // A thing that is gone already cannot be removed; that is what was wanted.
        let _ = execute(command);
    }
}
