//! A whole cluster on this machine: coordinators and agents as processes, each host with an address of its own.
//!
//! | module | holds |
//! |---|---|
//! | [`cluster`] | hosts, names, addresses: the plan and the record of it |
//! | [`network`] [`rate`] | the commands that make the network |
//! | [`files`] | the programs' configuration |
//! | [`store`] [`lock`] [`process`] [`programs`] [`execute`] [`machines`] | the doing: files, processes, commands, guests |
//! | [`up`] [`down`] [`control`] [`status`] | the commands |

pub mod cluster;
mod control;
mod down;
mod execute;
mod files;
mod lock;
mod machines;
mod network;
mod process;
mod programs;
pub mod rate;
mod status;
mod store;
mod up;

use std::path::PathBuf;

use crate::args::{DevCommand, DevDir};
use crate::failure::Failure;
use crate::output::{Printer, notice};

pub use programs::coordinator_program;

/// `novacron dev`.
///
/// # Errors
/// Why it did not work.
pub fn run(command: &DevCommand, printer: Printer) -> Result<(), Failure> {
    match command {
        DevCommand::Up(args) => {
            let cluster = up::run(&directory(&args.dir)?, args)?;
            printer.one(&status::of(&cluster))?;
            notice("\nTo use it:");
            notice(&format!("export NOVACRON_CONFIG={}", cluster.client_config().display()));
            Ok(())
        }
        DevCommand::Link(link) => control::link(&store::load(&directory(&link.dir)?)?, link),
        DevCommand::Status(dir) => printer.one(&status::of(&store::load(&directory(dir)?)?)),
        DevCommand::Kill { host, signal, dir } => {
            control::kill(&store::load(&directory(dir)?)?, host, *signal)
        }
        DevCommand::Start { host, dir } => control::start(&store::load(&directory(dir)?)?, host),
        DevCommand::Rejoin { host, dir } => control::rejoin(&store::load(&directory(dir)?)?, host),
        DevCommand::Down { dir, purge } => down::run(&directory(dir)?, *purge),
    }
}

fn directory(dir: &DevDir) -> Result<PathBuf, Failure> {
    store::absolute(&dir.dir.clone().unwrap_or_else(store::default_dir))
}
