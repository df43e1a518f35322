//! What was measured over time.

use novacron_protocol::api::{MetricHistory, MetricList, MetricView};
use novacron_protocol::time::Timestamp;

use super::Client;
use crate::error::Error;
use crate::exchange::Request;
use crate::query::Path;

/// Of what, which metrics, and when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetricQuery {
    /// Of what: `vm:` and a name or id, `node:` and a name, or `region:` and a code.
    pub resource: String,
    /// Only these; all that the resource has if none is named.
    pub metrics: Vec<String>,
    /// From this moment on; an hour before the end unless said.
    pub from: Option<Timestamp>,
    /// Up to this moment; now unless said. Streams have no end.
    pub to: Option<Timestamp>,
    /// Seconds of each point: a multiple of 10 for the last hour, of 60 for the last day, of 900 for the last 30 days.
    pub interval_s: Option<u64>,
}

impl MetricQuery {
    pub(crate) fn path(&self, path: Path) -> Path {
        let path = path
            .query("resource", &self.resource)
            .query_if("from", self.from)
            .query_if("to", self.to)
            .query_if("interval_s", self.interval_s);
        self.metrics.iter().fold(path, |path, metric| path.query("metric", metric))
    }
}

/// Metrics.
impl Client {
    /// What was measured of something.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `not_allowed`, `invalid_request` with what would be right.
    pub fn metrics(&self, query: &MetricQuery) -> Result<MetricHistory, Error> {
        self.exchange.json(&Request::get(query.path(Path::new("metrics"))))
    }

    /// What is measured.
    ///
    /// # Errors
    /// [`Error`].
    pub fn metric_definitions(&self) -> Result<Vec<MetricView>, Error> {
        let path = Path::new("metrics").segment("definitions");
        self.exchange.json::<MetricList>(&Request::get(path)).map(|list| list.items)
    }
}
