//! `novacron metrics`.

use clap::{Args, Subcommand};
use novacron_protocol::time::Timestamp;
use novacron_sdk::MetricQuery;

use super::values::{Duration, milliseconds, parse_duration};

/// What was measured over time.
#[derive(Debug, Subcommand)]
pub enum MetricsCommand {
    /// Lists what is measured, with units.
    List,
    /// Of a machine (name or id).
    Vm(MetricsOf),
    /// Of a hypervisor host.
    Node(MetricsOf),
    /// Of all hosts of a region together.
    Region(MetricsOf),
}

/// Of which, and when.
#[derive(Debug, Args)]
pub struct MetricsOf {
    /// Its name.
    pub name: String,
    /// Only this metric; may be repeated.
    #[arg(long = "metric", value_name = "METRIC")]
    pub metrics: Vec<String>,
    /// How far back, such as 30m or 24h [default: 1h].
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, conflicts_with = "watch")]
    pub since: Option<Duration>,
    /// Time of each point: a multiple of 10s for the last hour, of 1m for the last day, of 15m for 30 days [default: the
    /// least with which there are at most 1,000 points; 10s with --watch].
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub interval: Option<Duration>,
    /// Go on with what is measured from now on.
    #[arg(long)]
    pub watch: bool,
}

impl MetricsOf {
    /// The API's query, for a kind of thing, at a moment.
    pub fn query(&self, kind: &str, now: Timestamp) -> MetricQuery {
        let ago = |since| Timestamp::from_unix_ms(now.unix_ms.saturating_sub(milliseconds(since)));
        MetricQuery {
            resource: format!("{kind}:{}", self.name),
            metrics: self.metrics.clone(),
            from: self.since.map(ago),
            to: None,
            // What is no whole second is no multiple of ten: the coordinator says so.
            interval_s: self.interval.map(|interval| milliseconds(interval).div_ceil(1000)),
        }
    }
}
