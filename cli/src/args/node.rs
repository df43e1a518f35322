//! `novacron node`.

use clap::{Args, Subcommand};
use novacron_protocol::api;

use super::Wait;
use super::values::{Duration, milliseconds, parse_bandwidth, parse_duration};

/// Hypervisor hosts.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Lists nodes.
    List,
    /// Shows a node, and what has not left it if it is being drained.
    Show {
        /// Its name.
        node: String,
    },
    /// Has a node take no machines, and moves away those that it has: running ones live, stopped ones cold.
    Drain(NodeDrain),
    /// Has a node take machines again. Migrations that are under way go on.
    Undrain {
        /// Its name.
        node: String,
        /// Give up the migrations that are under way because of the draining.
        #[arg(long)]
        cancel: bool,
    },
}

/// How machines shall leave a node.
#[derive(Debug, Args)]
pub struct NodeDrain {
    /// Its name.
    pub node: String,
    /// For how long a guest may stand still, such as 50ms [default: the source agent's setting].
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, allow_hyphen_values = true)]
    pub downtime_limit: Option<Duration>,
    /// Rate that each migration may put on the wire, such as 800mbit [default: all that the link carries].
    #[arg(long, value_name = "RATE", value_parser = parse_bandwidth, allow_hyphen_values = true)]
    pub bandwidth: Option<u64>,
    /// Slow down guests that write faster than the link carries, until they fit.
    #[arg(long)]
    pub auto_converge: bool,
    /// Show the progress until nothing is left that could move, and exit with the result.
    #[arg(long)]
    pub watch: bool,
    /// Whether to wait until nothing is left that could move.
    #[command(flatten)]
    pub wait: Wait,
}

impl NodeDrain {
    /// The API's request.
    pub fn request(&self) -> api::NodeDrain {
        api::NodeDrain {
            downtime_limit_ms: self.downtime_limit.map(milliseconds),
            bandwidth_bits_per_second: self.bandwidth,
            auto_converge: self.auto_converge,
        }
    }
}
