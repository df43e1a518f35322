//! Coordinators as others meet them: real clusters, real QUIC and TLS, real disks. One program, because each takes half
//! a minute to link.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod access;
mod agents;
mod alerts;
mod api;
mod at_rest;
mod audit;
mod backup;
mod cluster;
mod connections;
mod fitness;
mod http2;
mod https;
mod invalid;
mod ledger;
mod limits;
mod member;
mod metrics;
mod networks;
mod overview;
mod projects;
mod regions;
mod replacing;
mod samples;
mod scans;
mod secrets;
mod snapshots;
mod stale;
mod store;
mod support;
mod switches;
mod together;
mod upgrade;
mod watch;
