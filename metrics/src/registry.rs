//! Making metrics, and their text. Each program has one registry per instance, none is global, so that tests can have
//! several programs in one process.

use prometheus::core::Collector;
use prometheus::{
    Counter, Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// A metric that cannot be: its name is none, or is there already. A fault of the program, found by any test.
#[derive(Debug, thiserror::Error)]
#[error("a metric cannot be made")]
pub struct MetricError(#[from] prometheus::Error);

/// Metrics of one program. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    fn add<C: Collector + Clone + 'static>(&self, metric: C) -> Result<C, MetricError> {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    /// A number that only grows. Its name ends in `_total`.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn counter(&self, name: &str, help: &str) -> Result<IntCounter, MetricError> {
        self.add(IntCounter::new(name, help)?)
    }

    /// As [`Self::counter`], with fractions.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn counter_of_fractions(&self, name: &str, help: &str) -> Result<Counter, MetricError> {
        self.add(Counter::new(name, help)?)
    }

    /// Numbers that only grow, one for each combination of labels: these must be few.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, MetricError> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    /// A number that goes up and down.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricError> {
        self.add(IntGauge::new(name, help)?)
    }

    /// As [`Self::gauge`], with fractions.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn gauge_of_fractions(&self, name: &str, help: &str) -> Result<Gauge, MetricError> {
        self.add(Gauge::new(name, help)?)
    }

    /// Numbers that go up and down, one for each combination of labels: these must be few.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, MetricError> {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    /// How often values up to each bound were seen.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn histogram(
        &self,
        name: &str,
        help: &str,
        bounds: &[f64],
    ) -> Result<Histogram, MetricError> {
        let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
        self.add(Histogram::with_opts(options)?)
    }

    /// As [`Self::histogram`], one for each combination of labels.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn histograms(
        &self,
        name: &str,
        help: &str,
        bounds: &[f64],
        labels: &[&str],
    ) -> Result<HistogramVec, MetricError> {
        let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
        self.add(HistogramVec::new(options, labels)?)
    }

    /// All of them in Prometheus' text format 0.0.4.
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "the metrics cannot be written down");
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_said() {
        let metrics = Metrics::default();
        let eaten = metrics.counters("test_eaten_total", "What was eaten.", &["what"]).unwrap();
        eaten.with_label_values(&["apples"]).inc_by(3);
        let expected = "# HELP test_eaten_total What was eaten.\n# TYPE test_eaten_total counter\n\
                        test_eaten_total{what=\"apples\"} 3\n";
        assert_eq!(metrics.text(), expected);
        assert!(metrics.counter("test_eaten_total", "Again.").is_err());
        assert!(metrics.gauge("no name", "At all.").is_err());
    }
}
