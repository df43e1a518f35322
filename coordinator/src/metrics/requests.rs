//! The API in numbers.

use std::time::Duration;

use novacron_protocol::api::Code;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::security::SecurityMetrics;

/// Seconds until an answer begins: from a read of what is here to one that waits for an election.
const LATENCY_BOUNDS: [f64; 11] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 25.0];

/// The operation of requests for what there is not.
pub const NO_OPERATION: &str = "none";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    operation: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

/// Why somebody was not let in, or not to what it wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecurityRefusal {
    /// Nothing proved who it is.
    Authentication,
    /// It is somebody, and may not.
    Authorization,
    /// It asks too often, or too much at once.
    Rate,
}

impl SecurityRefusal {
    /// What a problem's code says, if it is one of these.
    pub fn of(code: Code) -> Option<Self> {
        match code {
            Code::NotAuthenticated => Some(Self::Authentication),
            Code::NotAllowed => Some(Self::Authorization),
            Code::RateLimited | Code::TooManyAtOnce => Some(Self::Rate),
            _ => None,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::Authorization => "authorization",
            Self::Rate => "rate",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    operation: &'static str,
    refusal: &'static str,
}

/// Counters of requests. Operations are those of the table of routes. Clones share them.
#[derive(Debug, Clone)]
pub struct RequestMetrics {
    answered: Family<Answered, Counter>,
    refused: Family<Refused, Counter>,
    latency: Family<Operation, Histogram>,
    connections_refused: Counter,
    /// Refusals by why.
    pub security: SecurityMetrics,
}

impl Default for RequestMetrics {
    fn default() -> Self {
        Self {
            answered: Family::default(),
            refused: Family::default(),
            latency: Family::new_with_constructor(|| Histogram::new(LATENCY_BOUNDS)),
            connections_refused: Counter::default(),
            security: SecurityMetrics::default(),
        }
    }
}

impl RequestMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "novacron_api_requests",
            "Requests that were answered, by operation of the API's description and status",
            self.answered.clone(),
        );
        registry.register(
            "novacron_api_refusals",
            "Requests that were refused for who asked: nobody, somebody who may not, or one who asks too much",
            self.refused.clone(),
        );
        registry.register(
            "novacron_api_request_seconds",
            "Time from the head of a request to the head of its answer",
            self.latency.clone(),
        );
        registry.register(
            "novacron_api_connections_refused",
            "Connections that were closed because their address had too many",
            self.connections_refused.clone(),
        );
        self.security.register(registry);
    }

    /// A connection was closed because its address had too many.
    pub fn connection_refused(&self) {
        self.connections_refused.inc();
    }

    /// A request was refused for who asked.
    pub fn refused(&self, operation: &'static str, refusal: SecurityRefusal) {
        let refusal = refusal.word();
        self.refused.get_or_create(&Refused { operation, refusal }).inc();
    }

    /// A request was answered.
    pub fn answered(&self, operation: Option<&'static str>, status: u16, took: Duration) {
        let operation = operation.unwrap_or(NO_OPERATION);
        self.answered.get_or_create(&Answered { operation, status }).inc();
        self.latency.get_or_create(&Operation { operation }).observe(took.as_secs_f64());
    }
}
