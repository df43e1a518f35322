//! The project's own chores: `cargo xtask demo`, `cargo xtask test`, `cargo xtask check` and the
//! parts they are made of. Nothing of the product is linked in, so that this builds in seconds and
//! can say what is missing before anything else is compiled.

mod guest;
mod packages;
mod process;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own chores", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Install the Debian packages that the demo and the tests need, if any is missing.
    Packages,
    /// Build the kernel and the initrd of the demo guest, under target/novacron-guest/.
    Guest,
}

fn main() -> ExitCode {
    match run(&Arguments::parse().chore) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: &Chore) -> Result<()> {
    let workspace = Workspace::find()?;
    match chore {
        Chore::Packages => packages::ensure(),
        Chore::Guest => build_guest(&workspace),
    }
}

fn build_guest(workspace: &Workspace) -> Result<()> {
    packages::ensure()?;
    let guest = guest::ensure(workspace)?;
    println!("kernel    {}", guest.kernel.display());
    println!("initrd    {}", guest.initrd.display());
    println!("arguments {}", guest::ARGUMENTS);
    Ok(())
}
