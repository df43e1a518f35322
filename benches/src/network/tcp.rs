//! Which congestion controller TCP has on a host: what a kernel begins with differs from machine to machine (CUBIC
//! where nobody chose another when it was built).

use std::{fmt, fs};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::execute::{Argv, execute};

/// The controllers that a namespace may choose from: looked at by the kernel at the moment of the choice.
const ALLOWED: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";

/// A congestion controller of Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tcp {
    /// What Linux has unless somebody chose another.
    Cubic,
    /// Google's, version 1.
    Bbr,
}

impl Tcp {
    /// Makes it that of some namespaces, and leaves everything else as it was.
    ///
    /// # Errors
    /// What the kernel refuses: for example, it was built without this one.
    pub fn choose(self, namespaces: &[String]) -> Result<()> {
        let allowed =
            fs::read_to_string(ALLOWED).with_context(|| format!("cannot read {ALLOWED}"))?;
        let allow = |names: &str| {
            fs::write(ALLOWED, names)
                .with_context(|| format!("cannot write `{names}` to {ALLOWED}"))
        };
        allow(&format!("{} {self}", allowed.trim()))?;
        let chosen = namespaces.iter().try_for_each(|name| execute(&self.choice(name)).map(drop));
        allow(allowed.trim())?;
        chosen
    }

    fn choice(self, namespace: &str) -> Argv {
        let write = format!("echo {self} > /proc/sys/net/ipv4/tcp_congestion_control");
        ["ip", "netns", "exec", namespace, "sh", "-c", &write].map(str::to_owned).to_vec()
    }
}

impl fmt::Display for Tcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cubic => "cubic",
            Self::Bbr => "bbr",
        })
    }
}
