//! What a program of NovaCron says of itself in numbers, and the plain HTTP endpoint where Prometheus reads it.
//!
//! | module | holds |
//! |---|---|
//! | [`registry`] | making metrics, and their text |
//! | [`endpoint`] | the listener |
//! | [`process`] | what every program says: processor, memory, open files |
//! | [`lint`] | the rules that the text must keep to; for tests |
//!
//! **Absent here**: any word of machines, migrations or consensus. Who has something to say makes its own metrics.
#![forbid(unsafe_code)]

pub mod endpoint;
pub mod lint;
pub mod process;
pub mod registry;

pub use endpoint::{Endpoint, Listen, Pages};
pub use prometheus::{
    Counter, Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};
pub use registry::{MetricError, Metrics};
