//! Metrics over time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::metric::{Metric, MetricKind, ResourceKind};
use crate::time::Timestamp;

/// Points of one series in one answer.
pub const METRIC_POINTS_MAX: u64 = 1_000;

/// Something that is measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MetricView {
    /// Its name.
    pub metric: String,
    /// What one of it is, such as `bytes/s`.
    pub unit: String,
    /// How its values come about.
    pub kind: MetricKind,
    /// What has it.
    pub resources: Vec<ResourceKind>,
    /// What it says.
    pub meaning: String,
}

impl MetricView {
    /// All that there are.
    pub fn all() -> Vec<Self> {
        let view = |metric: &Metric| Self {
            metric: metric.word().to_owned(),
            unit: metric.unit().to_owned(),
            kind: metric.kind(),
            resources: metric.kinds_of_resources().to_vec(),
            meaning: metric.meaning().to_owned(),
        };
        Metric::ALL.iter().map(view).collect()
    }
}

/// Metrics that exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MetricList {
    /// All of them.
    pub items: Vec<MetricView>,
}

/// How something was over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MetricHistory {
    /// Of what: `vm:` and its id, `node:` and its name, or `region:` and its code.
    pub resource: String,
    /// From here on, rounded down to a full interval.
    pub from: Timestamp,
    /// Up to here, rounded up to a full interval.
    pub to: Timestamp,
    /// Seconds that each point stands for.
    pub interval_s: u64,
    /// Seconds between the values that the points are made of: 10, 60 or 900.
    pub resolution_s: u64,
    /// One for each metric and device of which there is anything.
    pub series: Vec<MetricSeries>,
}

/// One metric over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MetricSeries {
    /// The metric.
    pub metric: String,
    /// Which disk or network card, such as `disk0`; absent where there is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// What one of it is, such as `bytes/s`.
    pub unit: String,
    /// How its values come about.
    pub kind: MetricKind,
    /// In order of time. Where nothing was measured there is no point.
    pub points: Vec<MetricPoint>,
}

/// What was measured within one interval. Values are within 0.05 % of what was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MetricPoint {
    /// When the interval begins.
    pub at: Timestamp,
    /// The mean.
    pub average: f64,
    /// The least.
    pub minimum: f64,
    /// The most.
    pub maximum: f64,
}
