//! What each command does.

mod access;
mod alert;
mod audit;
mod batch;
mod cluster;
mod completion;
mod console;
mod fleet;
mod metrics;
mod migrate;
mod network;
mod node;
mod region;
mod secret;
mod snapshot;
mod usage;
mod vm;

use std::io::{IsTerminal, stderr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use novacron_sdk::{Client, Config, Stale};

use crate::args::{Cli, Command, Format, Global};
use crate::dev;
use crate::failure::Failure;
use crate::output::{Printer, notice};

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
        Command::Metrics(command) => metrics::run(command, &connect(&cli.global)?, printer),
        Command::Overview => printer.one(&connect(&cli.global)?.overview()?),
        Command::Region(command) => region::run(command, &connect(&cli.global)?, printer),
        Command::Network(command) => network::run(command, &connect(&cli.global)?, printer),
        Command::Events(events) => fleet::events(events, &connect(&cli.global)?, printer),
        Command::Alert(command) => alert::run(command, &connect(&cli.global)?, printer),
        Command::Audit(command) => audit::run(command, || connect(&cli.global), printer),
        Command::Usage(args) => usage::usage(args, &connect(&cli.global)?, printer),
        Command::Invoice(args) => usage::invoice(args, &connect(&cli.global)?, printer),
        Command::Rate(command) => usage::rate(command, &connect(&cli.global)?, printer),
        Command::Ledger(command) => usage::ledger(command, &connect(&cli.global)?, printer),
        Command::Project(command) => access::project(command, &connect(&cli.global)?, printer),
        Command::Principal(command) => access::principal(command, &connect(&cli.global)?, printer),
        Command::Role(command) => access::role(command, || connect(&cli.global), printer),
        Command::Key(command) => access::key(command, &connect(&cli.global)?, printer),
        Command::Secret(command) => secret::run(command, &connect(&cli.global)?, printer),
        Command::Whoami => printer.one(&connect(&cli.global)?.whoami()?),
        Command::Cluster(command) => cluster::run(command, || connect(&cli.global), printer),
        Command::Token(command) => fleet::token(command, &connect(&cli.global)?, printer),
        Command::Dev(command) => dev::run(command, printer),
        Command::Completion { shell } => completion::print(*shell),
    }
}

fn connect(global: &Global) -> Result<Client, Failure> {
    let client = connect_patiently(global)?;
    let Some(max) = global.stale else { return Ok(client) };
    Ok(client.with_stale_reads(Stale { max, notice: say_age }))
}

/// Says how old the first answer can be; the others came at the same time.
fn say_age(age: Option<Duration>) {
    static SAID: AtomicBool = AtomicBool::new(false);
    if SAID.swap(true, Ordering::Relaxed) {
        return;
    }
    notice(&match age {
        Some(age) => format!("this may be up to {:.1} s old", age.as_secs_f64()),
        None => "nobody knows how old this is".to_owned(),
    });
}

fn connect_patiently(global: &Global) -> Result<Client, Failure> {
    let config = Config::load(&global.overrides())?;
    // A program that reads the result learns from the exit code; a person wants to know why nothing happens.
    if global.output == Format::Json && !stderr().is_terminal() {
        return Ok(Client::new(&config)?);
    }
    Ok(Client::with_notice(&config, still_trying)?)
}

fn still_trying(left: Duration) {
    let seconds = left.as_secs_f64().ceil();
    notice(&format!("no coordinator answers; trying again for up to {seconds} s"));
}
