//! Runs the commands that the pure parts of this module have planned.

use std::process::{Command, Stdio};

use super::network::Argv;
use crate::failure::Failure;

/// Runs a command to its end and gives its output.
///
/// # Errors
/// It cannot be started, or fails: its command line and what it said.
pub fn execute(argv: &Argv) -> Result<String, Failure> {
    let [program, arguments @ ..] = argv.as_slice() else { return Ok(String::new()) };
    let output = Command::new(program)
        .args(arguments)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| cannot_start(program, &error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::failed(format!("`{}` failed: {}", argv.join(" "), said.trim())))
}

/// Runs commands in order, until one fails.
///
/// # Errors
/// The first that fails.
pub fn execute_all(commands: &[Argv]) -> Result<(), Failure> {
    commands.iter().try_for_each(|command| execute(command).map(drop))
}

/// Runs every command, whatever becomes of the others: for removing what may be gone already.
pub fn execute_each(commands: &[Argv]) {
    for command in commands {
        // A thing that is gone already cannot be removed; that is what was wanted.
        let _ = execute(command);
    }
}

fn cannot_start(program: &str, error: &std::io::Error) -> Failure {
    let failure = Failure::io(format_args!("cannot run `{program}`"), error);
    match program {
        "ip" | "tc" => failure.hint("install the package iproute2"),
        _ => failure,
    }
}
