//! The agent against real QEMUs, real disks and real QUIC. One program, because each takes half a minute to link.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
mod control_stream;
mod disk_mirror;
mod leases;
mod link;
mod machines;
mod memory_pipeline;
mod metering;
mod migration;
mod qmp;
mod sampling;
mod snapshots;
mod throttle;
