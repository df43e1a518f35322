//! Which congestion controller TCP has on a host: what a kernel begins with differs from machine to machine (CUBIC
//! where nobody chose another when it was built).

use std::fmt;

use clap::ValueEnum;

use crate::execute::Argv;

/// A congestion controller of Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tcp {
    /// What Linux has unless somebody chose another.
    Cubic,
    /// Google's, version 1.
    Bbr,
}

impl Tcp {
    /// The command that makes it that of a namespace.
    pub fn choose(self, namespace: &str) -> Argv {
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
