//! What each command does.

mod batch;
mod completion;
mod console;
mod fleet;
mod migrate;
mod node;
mod vm;

use novacron_sdk::{Client, Config};

use crate::args::{Cli, Command, Global};
use crate::dev;
use crate::failure::Failure;
use crate::output::Printer;

/// Does what the command line asks for.
///
/// # Errors
/// Why it did not work.
pub fn run(cli: &Cli) -> Result<(), Failure> {
    let printer = Printer::new(cli.global.output);
    match &cli.command {
        Command::Vm(command) => vm::run(command, &connect(&cli.global)?, printer),
        Command::Migrate(command) => migrate::run(command, &connect(&cli.global)?, printer),
        Command::Node(command) => node::run(command, &connect(&cli.global)?, printer),
        Command::Events(events) => fleet::events(events, &connect(&cli.global)?, printer),
        Command::Cluster(command) => fleet::cluster(command, &connect(&cli.global)?, printer),
        Command::Token(command) => fleet::token(command, &connect(&cli.global)?, printer),
        Command::Dev(command) => dev::run(command, printer),
        Command::Completion { shell } => completion::print(*shell),
    }
}

fn connect(global: &Global) -> Result<Client, Failure> {
    let config = Config::load(&global.overrides())?;
    Ok(Client::new(&config)?)
}
