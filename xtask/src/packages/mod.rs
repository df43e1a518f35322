//! The Debian packages that the demo and the tests need: found missing, planned, and installed, or
//! named where we may not install. And packages that are unpacked and not installed.
//!
//! Nothing is touched when nothing is missing, and apt is not even asked.

mod need;
mod plan;
mod sources;
mod unpack;

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use need::Need;
use plan::{Plan, Release};
pub use unpack::{program, unpack};

/// Makes sure that hosts have what they need; installs what is missing if we may.
///
/// # Errors
/// When something is missing and we are neither root nor have sudo without a password: the text
/// then holds the packages and the commands. Also when apt fails.
pub fn ensure() -> Result<()> {
    ensure_all(need::FOR_HOSTS.iter())
}

/// The same with what the tests need.
///
/// # Errors
/// As [`ensure`].
pub fn ensure_for_tests() -> Result<()> {
    ensure_all(need::FOR_HOSTS.iter().chain(need::FOR_TESTS))
}

fn ensure_all(needs: impl Iterator<Item = &'static Need>) -> Result<()> {
    let missing: Vec<&Need> = needs.filter(|need| !need.is_met()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("Packages needed that this machine does not have:");
    for need in &missing {
        println!("  {:<16} {}", need.package, need.why);
    }
    let prefix = Privilege::find().command_prefix();
    if prefix.is_some() {
        // What apt knows may be old or, in a new container, empty.
        refresh_lists()?;
    }
    let plan = Plan::new(&missing, &release()?, &sources::configured()?, &qemu_in_reach()?)?;
    for note in plan.notes() {
        println!("{note}");
    }
    let Some(prefix) = prefix else {
        bail!("{NEEDS_ROOT}\n{}\n{}", plan::Step::refresh().as_shell(), plan.as_shell());
    };
    plan.execute(prefix)?;
    match missing.iter().find(|need| !need.is_met()) {
        Some(need) => bail!("{} is installed but does not provide: {}", need.package, need.why),
        None => Ok(()),
    }
}

/// Lets apt read anew what its sources have.
pub fn refresh_lists() -> Result<()> {
    let refresh = plan::Step::refresh();
    match Privilege::find().command_prefix() {
        Some(prefix) => refresh.execute(prefix),
        None => bail!("{NEEDS_ROOT}\n{}", refresh.as_shell()),
    }
}

const NEEDS_ROOT: &str = "this needs root, or sudo without a password. Please run as root:";

/// Where apt is told to take packages from.
pub fn mirror_uris() -> Result<Vec<String>> {
    Ok(sources::configured()?.iter().flat_map(|source| source.uris()).map(str::to_owned).collect())
}

/// How we may act as root, if at all.
enum Privilege {
    Root,
    Sudo,
    Nobody,
}

impl Privilege {
    fn find() -> Self {
        if rustix::process::geteuid().is_root() {
            Self::Root
        } else if process::probe("sudo", &["-n", "true"]).is_some() {
            Self::Sudo
        } else {
            Self::Nobody
        }
    }

    fn command_prefix(&self) -> Option<&'static [&'static str]> {
        match self {
            Self::Root => Some(&[]),
            Self::Sudo => Some(&["sudo", "-n"]),
            Self::Nobody => None,
        }
    }
}

fn release() -> Result<Release> {
    let text = std::fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    Release::parse(&text)
}

/// The suites that apt can already take a new enough QEMU from, newest version first.
fn qemu_in_reach() -> Result<Vec<plan::Offer>> {
    let listing =
        process::capture(Command::new("apt-cache").args(["madison", need::QEMU_PACKAGE]))?;
    Ok(plan::offers(&listing))
}
