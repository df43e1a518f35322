//! Completion scripts of shells.

use clap::CommandFactory;
use clap_complete::{generate, shells};

use crate::args::{Cli, Shell};
use crate::failure::Failure;
use crate::output::print_bytes;

/// Prints the script of a shell.
///
/// # Errors
/// Standard output cannot be written.
pub fn print(shell: Shell) -> Result<(), Failure> {
    print_bytes(&script(shell))
}

fn script(shell: Shell) -> Vec<u8> {
    let (mut command, mut script) = (Cli::command(), Vec::new());
    let name = command.get_name().to_owned();
    match shell {
        Shell::Bash => generate(shells::Bash, &mut command, name, &mut script),
        Shell::Zsh => generate(shells::Zsh, &mut command, name, &mut script),
        Shell::Fish => generate(shells::Fish, &mut command, name, &mut script),
    }
    script
}
