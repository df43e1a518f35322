//! The numbers of `[limits]` in `coordinator.toml`: what one client may ask of this coordinator.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Deserialize;

use super::bucket::Rate;

/// Seconds of a rate that may come at once after a long silence.
const BURST_S: u32 = 2;

/// What one client may ask. Defaults are far above what tools and people do, and far below what stops a member.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections to the API at once: with some 64 KiB of buffers each 128 MiB. Further ones wait.
    pub connections: u32,
    /// Connections at once from one source; further ones are closed.
    pub connections_per_address: u32,
    /// Connections at once that are one principal's, by its certificate or its key. Further ones are served and stay
    /// strangers.
    pub connections_per_principal: u32,
    /// Of all connections those of which nobody knows yet whose they are; at most half of all. A further one takes the
    /// place of one that asks nothing, of the source that has the most.
    pub stranger_connections: u32,
    /// Of these, those of one source.
    pub stranger_connections_per_address: u32,
    /// Connections a second from one source: each costs a handshake, about 0.2 ms of a processor.
    pub connections_per_second_per_address: u32,
    /// Milliseconds for the head of a request, and between two requests of one connection.
    pub head_ms_max: u64,
    /// Milliseconds for the body of a request.
    pub body_ms_max: u64,
    /// Milliseconds that a read of the whole fleet, or of the past, waits for others.
    pub scan_wait_ms_max: u64,
    /// Requests of one principal under way at once.
    pub requests_at_once_per_principal: u32,
    /// Requests a second of one principal.
    pub requests_per_second_per_principal: u32,
    /// Requests a second, from one source, that prove no identity: refused ones, and those that need none.
    pub strangers_per_second_per_address: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 2_048,
            connections_per_address: 512,
            connections_per_principal: 512,
            stranger_connections: 512,
            stranger_connections_per_address: 128,
            connections_per_second_per_address: 500,
            head_ms_max: 30_000,
            body_ms_max: 15_000,
            scan_wait_ms_max: 5_000,
            requests_at_once_per_principal: 1_024,
            requests_per_second_per_principal: 10_000,
            strangers_per_second_per_address: 200,
        }
    }
}

/// A number that cannot be: its field and what would be right.
pub type WrongLimit = (&'static str, String);

impl Limits {
    /// Checks every number.
    ///
    /// # Errors
    /// The first field that is out of its bounds.
    pub fn check(&self) -> Result<(), WrongLimit> {
        let rates = 1..=1_000_000;
        check("limits.connections", self.connections.into(), 2..=65_536)?;
        for (field, value) in [
            ("limits.connections_per_address", self.connections_per_address),
            ("limits.connections_per_principal", self.connections_per_principal),
            ("limits.stranger_connections", self.stranger_connections),
            ("limits.stranger_connections_per_address", self.stranger_connections_per_address),
        ] {
            check(field, value.into(), 1..=65_536)?;
        }
        check("limits.head_ms_max", self.head_ms_max, 100..=600_000)?;
        check("limits.body_ms_max", self.body_ms_max, 100..=60_000)?;
        check("limits.scan_wait_ms_max", self.scan_wait_ms_max, 100..=20_000)?;
        for (field, value) in [
            ("limits.connections_per_second_per_address", self.connections_per_second_per_address),
            ("limits.requests_at_once_per_principal", self.requests_at_once_per_principal),
            ("limits.requests_per_second_per_principal", self.requests_per_second_per_principal),
            ("limits.strangers_per_second_per_address", self.strangers_per_second_per_address),
        ] {
            check(field, value.into(), rates.clone())?;
        }
        Ok(())
    }

    /// For the head of a request.
    pub fn head_timeout(&self) -> Duration {
        Duration::from_millis(self.head_ms_max)
    }

    /// For the body of a request.
    pub fn body_timeout(&self) -> Duration {
        Duration::from_millis(self.body_ms_max)
    }

    pub(super) fn scan_wait(&self) -> Duration {
        Duration::from_millis(self.scan_wait_ms_max)
    }

    /// Connections of strangers at once: the others are left to whoever proves who it is.
    pub(super) fn strangers_at_once(&self) -> usize {
        self.stranger_connections.min(self.connections / 2).max(1) as usize
    }

    pub(super) fn connecting(&self) -> Rate {
        rate(self.connections_per_second_per_address)
    }

    pub(super) fn strangers(&self) -> Rate {
        rate(self.strangers_per_second_per_address)
    }

    pub(super) fn requests(&self) -> Rate {
        rate(self.requests_per_second_per_principal)
    }
}

fn rate(per_second: u32) -> Rate {
    Rate { per_second, burst: per_second.saturating_mul(BURST_S) }
}

fn check(field: &'static str, value: u64, range: RangeInclusive<u64>) -> Result<(), WrongLimit> {
    match range.contains(&value) {
        true => Ok(()),
        false => Err((field, format!("{value} is outside {} to {}", range.start(), range.end()))),
    }
}
