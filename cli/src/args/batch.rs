//! `novacron migrate batch`.

use clap::Args;
use novacron_protocol::api::BatchCreate;
use novacron_protocol::migration::MigrationMode;

use super::Wait;
use super::values::{Duration, milliseconds, parse_bandwidth, parse_duration, parse_label};

/// Machines to move together, at most 1,000.
#[derive(Debug, Args)]
pub struct BatchMigrate {
    /// Node that they leave.
    #[arg(long, value_name = "NODE")]
    pub from: String,
    /// Node that they go to.
    #[arg(long, value_name = "NODE")]
    pub to: String,
    /// Only those with this label; may be repeated.
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub labels: Vec<(String, String)>,
    /// While their guests run; without a mode running machines move live and stopped ones cold.
    #[arg(long)]
    pub live: bool,
    /// Disks while the guests run; then the guests are shut down, and started at the target.
    #[arg(long, conflicts_with = "live")]
    pub warm: bool,
    /// Stopped; a machine that runs is refused.
    #[arg(long, conflicts_with_all = ["live", "warm"])]
    pub cold: bool,
    /// Stop guests that do not shut down in time, as if their power had failed.
    // A requirement alone is waived where what is required cannot be used.
    #[arg(long, requires = "warm", conflicts_with_all = ["live", "cold"])]
    pub force_shutdown: bool,
    /// Give up those that have not moved as soon as one is refused or fails.
    #[arg(long)]
    pub abort_on_failure: bool,
    /// For how long a guest may stand still, such as 50ms [default: the source agent's setting].
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, allow_hyphen_values = true, conflicts_with_all = ["cold", "warm"])]
    pub downtime_limit: Option<Duration>,
    /// Rate that each migration may put on the wire, such as 800mbit [default: all that the link carries].
    #[arg(long, value_name = "RATE", value_parser = parse_bandwidth, allow_hyphen_values = true)]
    pub bandwidth: Option<u64>,
    /// Slow down guests that write faster than the link carries, until they fit.
    #[arg(long, conflicts_with_all = ["cold", "warm"])]
    pub auto_converge: bool,
    /// Show the progress until all have ended, and exit with the result.
    #[arg(long)]
    pub watch: bool,
    /// Whether to wait until all have ended.
    #[command(flatten)]
    pub wait: Wait,
}

impl BatchMigrate {
    /// The API's request.
    pub fn request(&self) -> BatchCreate {
        let modes = [
            (self.live, MigrationMode::Live),
            (self.warm, MigrationMode::Warm),
            (self.cold, MigrationMode::Cold),
        ];
        let mode = modes.into_iter().find(|(is_asked, _)| *is_asked).map(|(_, mode)| mode);
        BatchCreate {
            from: self.from.clone(),
            to: self.to.clone(),
            labels: self.labels.iter().cloned().collect(),
            mode,
            abort_on_failure: self.abort_on_failure,
            downtime_limit_ms: self.downtime_limit.map(milliseconds),
            bandwidth_bits_per_second: self.bandwidth,
            auto_converge: self.auto_converge,
            force_shutdown: self.force_shutdown,
        }
    }
}
