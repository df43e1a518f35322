//! Migrations under the names that dashboards for DWCP look for.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::Ended;
use super::labels::End;

/// Seconds.
const DURATION_BOUNDS: [f64; 8] = [1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 3600.0];

/// Milliseconds.
const DOWNTIME_BOUNDS: [f64; 9] = [5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 10_000.0];

#[derive(Debug)]
pub(super) struct DwcpMetrics {
    total: Family<End, Counter>,
    duration: Family<End, Histogram>,
    downtime: Family<End, Histogram>,
}

impl Default for DwcpMetrics {
    fn default() -> Self {
        Self {
            total: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(DURATION_BOUNDS)),
            downtime: Family::new_with_constructor(|| Histogram::new(DOWNTIME_BOUNDS)),
        }
    }
}

impl DwcpMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("dwcp_migration", "Migrations from here", self.total.clone());
        registry.register(
            "dwcp_migration_duration_seconds",
            "Time from the order to the end of a migration",
            self.duration.clone(),
        );
        registry.register(
            "dwcp_migration_downtime_milliseconds",
            "Time for which guests stood still that were handed over",
            self.downtime.clone(),
        );
    }

    pub(super) fn ended(&self, mode: &'static str, ended: &Ended) {
        let end = End { mode, result: ended.result };
        self.total.get_or_create(&end).inc();
        self.duration.get_or_create(&end).observe(ended.duration_seconds);
        if let Some(downtime) = &ended.downtime {
            self.downtime.get_or_create(&end).observe(downtime.total_us() as f64 / 1e3);
        }
    }
}
