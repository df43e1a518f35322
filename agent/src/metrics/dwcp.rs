//! Migrations under the names that dashboards for DWCP look for.

use novacron_metrics::{HistogramVec, IntCounterVec, MetricError, Metrics};

use super::Ended;

/// Seconds.
const DURATION_BOUNDS: [f64; 8] = [1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 3600.0];

/// Milliseconds.
const DOWNTIME_BOUNDS: [f64; 9] = [5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 10_000.0];

#[derive(Debug)]
pub(super) struct DwcpMetrics {
    registry: Metrics,
    total: IntCounterVec,
    duration: HistogramVec,
    downtime: HistogramVec,
}

impl DwcpMetrics {
    pub(super) fn new() -> Result<Self, MetricError> {
        let registry = Metrics::default();
        let labels = ["mode", "result"];
        Ok(Self {
            total: registry.counters("dwcp_migration_total", "Migrations from here.", &labels)?,
            duration: registry.histograms(
                "dwcp_migration_duration_seconds",
                "Time from the order to the end of a migration.",
                &DURATION_BOUNDS,
                &labels,
            )?,
            downtime: registry.histograms(
                "dwcp_migration_downtime_milliseconds",
                "Time for which guests stood still that were handed over.",
                &DOWNTIME_BOUNDS,
                &labels,
            )?,
            registry,
        })
    }

    pub(super) fn registry(&self) -> &Metrics {
        &self.registry
    }

    pub(super) fn ended(&self, mode: &str, ended: &Ended) {
        let labels = [mode, ended.result];
        self.total.with_label_values(&labels).inc();
        self.duration.with_label_values(&labels).observe(ended.duration_seconds);
        if let Some(seconds) = ended.downtime_seconds {
            self.downtime.with_label_values(&labels).observe(seconds * 1000.0);
        }
    }
}
