//! The client of NovaCron's API: blocking, typed, and patient.
//!
//! It knows the API's JSON types (`novacron_protocol::api`) and nothing of how the fleet works. It hides what a
//! caller should not have to care about: which coordinator answers, that one of them is down or has no quorum for
//! a moment, and that a request may have to be sent again. A write carries one `Idempotency-Key` through all its
//! attempts, so it happens at most once.
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | endpoints and credentials, from flags, environment and file |
//! | [`client`] | the client, its methods by resource |
//! | [`events`] [`metrics`] [`console`] | streams that resume where they broke off |
//! | [`wait`] | waiting for a machine or a migration |
//! | [`error`] | what can go wrong, by what a caller can do about it |
#![forbid(unsafe_code)]

pub mod audit;
pub mod client;
pub mod config;
mod connector;
pub mod console;
mod credentials;
pub mod error;
pub mod events;
mod exchange;
mod lines;
pub mod metrics;
mod patience;
mod peer;
mod query;
pub mod wait;
mod word;

pub use audit::AuditWatch;
pub use client::{
    AlertFilter, AuditFilter, Client, InvoiceFilter, MetricQuery, MigrationFilter, NodeFilter,
    PageRequest, Stale, UsageFilter, VmFilter,
};
pub use config::{Config, Overrides};
pub use console::ConsoleReader;
pub use error::{ConfigError, Error};
pub use events::{EventFilter, EventWatch};
pub use exchange::Notice;
pub use metrics::MetricWatch;
pub use novacron_protocol::api;
pub use word::word;
