//! `novacron node`.

use clap::{Args, Subcommand};
use novacron_protocol::api;
use novacron_protocol::node::NodeState;
use novacron_sdk::NodeFilter;

use super::Wait;
use super::values::{
    Duration, milliseconds, parse_bandwidth, parse_duration, parse_label, parse_word,
};

/// Hypervisor hosts.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Lists nodes.
    List(NodeList),
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

/// Which nodes to list.
#[derive(Debug, Args)]
pub struct NodeList {
    /// Only those whose name or label values have this text somewhere.
    #[arg(long)]
    pub text: Option<String>,
    /// Only those with this label; may be repeated.
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub labels: Vec<(String, String)>,
    /// Only those that stand in this region.
    #[arg(long, value_name = "CODE")]
    pub region: Option<String>,
    /// Only those in this state.
    #[arg(long, value_parser = parse_word::<NodeState>)]
    pub state: Option<NodeState>,
}

impl NodeList {
    /// The API's filter.
    pub fn filter(&self) -> NodeFilter {
        let labels = self.labels.iter().cloned().collect();
        NodeFilter {
            text: self.text.clone(),
            labels,
            region: self.region.clone(),
            state: self.state,
        }
    }
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
