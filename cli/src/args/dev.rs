//! `novacron dev`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use rustix::process::Signal;

use super::values::{Duration, parse_duration, parse_nodes};
use crate::dev::rate::{InvalidRate, Rate};

/// A whole cluster on this machine.
#[derive(Debug, Subcommand)]
pub enum DevCommand {
    /// Makes a cluster, or takes an existing one up again, and waits until it is ready.
    ///
    /// As root every host has a network namespace of its own, with a link of the given rate. Otherwise every host has
    /// an address of 127.0.0.0/8, and links are not shaped.
    Up(DevUp),
    /// Cuts or joins two hosts, or changes the rate of their links.
    Link(DevLink),
    /// Shows the hosts of the cluster.
    Status(DevDir),
    /// Ends a host's coordinator or agent, or sends it another signal. Guests go on.
    Kill {
        /// The host.
        host: String,
        /// What to send.
        #[arg(long, value_enum, ignore_case = true, default_value = "KILL")]
        signal: SignalName,
        /// Where the cluster is.
        #[command(flatten)]
        dir: DevDir,
    },
    /// Starts a host's coordinator or agent again.
    Start {
        /// The host.
        host: String,
        /// Where the cluster is.
        #[command(flatten)]
        dir: DevDir,
    },
    /// Lets a stopped host join anew, as one that was replaced: all that it has on disk is removed.
    Rejoin {
        /// The host.
        host: String,
        /// Where the cluster is.
        #[command(flatten)]
        dir: DevDir,
    },
    /// Ends everything that the cluster runs on this machine, guests included, as if their power had failed. Its data
    /// stays, for the next `up`: machines are stopped then.
    Down {
        /// Where the cluster is.
        #[command(flatten)]
        dir: DevDir,
        /// Remove its data too: machines, disks, certificates, logs.
        #[arg(long)]
        purge: bool,
    },
}

/// Where the cluster is.
#[derive(Debug, Clone, Args)]
pub struct DevDir {
    /// Directory of the cluster [default: ~/.novacron/dev].
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// What the cluster shall be.
#[derive(Debug, Args)]
pub struct DevUp {
    /// Where the cluster is.
    #[command(flatten)]
    pub dir: DevDir,
    /// Coordinators: 1, 3 or 5 [default: 3].
    #[arg(long, value_name = "N", value_parser = parse_coordinators)]
    pub coordinators: Option<u8>,
    /// Nodes [default: 2].
    #[arg(long, value_name = "N", value_parser = parse_nodes, allow_hyphen_values = true)]
    pub nodes: Option<u8>,
    /// Rate of every host's link in both directions, such as 100mbit, or `unlimited` [default: 1gbit].
    #[arg(long, value_name = "RATE")]
    pub link: Option<LinkRate>,
    /// What accelerates guests [default: auto].
    #[arg(long, value_parser = ["auto", "kvm", "tcg"])]
    pub accel: Option<String>,
    /// No network namespaces, even as root.
    #[arg(long, conflicts_with = "link")]
    pub loopback: bool,
    /// For how long to wait until everything is ready.
    #[arg(long, value_name = "DURATION", default_value = "3m", value_parser = parse_duration, allow_hyphen_values = true)]
    pub timeout: Duration,
}

/// A rate, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkRate(pub Option<Rate>);

impl FromStr for LinkRate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        match text {
            "unlimited" => Ok(Self(None)),
            rate => rate.parse().map(|rate| Self(Some(rate))),
        }
    }
}

/// A change of the link between two hosts.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("change").required(true)))]
pub struct DevLink {
    /// One host.
    #[arg(value_name = "HOST")]
    pub one: String,
    /// The other.
    #[arg(value_name = "HOST")]
    pub other: String,
    /// Lose every packet between the two; both still reach all others.
    #[arg(long, group = "change")]
    pub down: bool,
    /// Let packets pass again.
    #[arg(long, group = "change")]
    pub up: bool,
    /// Give both hosts' links this rate, towards everybody.
    #[arg(long, group = "change")]
    pub rate: Option<Rate>,
    /// Where the cluster is.
    #[command(flatten)]
    pub dir: DevDir,
}

/// What to do to the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkChange {
    /// Lose every packet.
    Down,
    /// Lose none.
    Up,
    /// Another rate.
    Rate(Rate),
}

impl DevLink {
    /// The one change that was asked for.
    pub fn change(&self) -> LinkChange {
        match self.rate {
            Some(rate) => LinkChange::Rate(rate),
            None if self.up => LinkChange::Up,
            None => LinkChange::Down,
        }
    }
}

/// Signals for a coordinator or agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub enum SignalName {
    /// Ends at once.
    Kill,
    /// Asks to end.
    Term,
    /// Stands still.
    Stop,
    /// Goes on.
    Cont,
}

impl SignalName {
    /// Its name, as it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "KILL",
            Self::Term => "TERM",
            Self::Stop => "STOP",
            Self::Cont => "CONT",
        }
    }

    /// The signal.
    pub fn signal(self) -> Signal {
        match self {
            Self::Kill => Signal::KILL,
            Self::Term => Signal::TERM,
            Self::Stop => Signal::STOP,
            Self::Cont => Signal::CONT,
        }
    }
}

fn parse_coordinators(text: &str) -> Result<u8, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        "5" => Ok(5),
        _ => Err(format!("`{text}` coordinators have no good majority: write 1, 3 or 5")),
    }
}
