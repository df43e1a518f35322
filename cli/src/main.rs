//! `novacron`: the command line of the fleet.
//!
//! | module | holds |
//! |---|---|
//! | [`args`] | the command line: texts become typed values |
//! | [`command`] | what each command does, through the SDK |
//! | [`output`] | results as table, JSON or YAML; notices |
//! | [`progress`] | how far a migration is, while it runs |
//! | [`failure`] | exit codes, error lines, hints |
//! | [`dev`] | a whole cluster on this machine |
#![forbid(unsafe_code)]

mod args;
mod command;
mod dev;
mod failure;
mod output;
mod progress;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // Ends with code 2 and a line of its own if the command line cannot be.
    let cli = args::Cli::parse();
    match command::run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::failure(&failure);
            failure.exit.into()
        }
    }
}
