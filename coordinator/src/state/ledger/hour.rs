//! Windows of the ledger: UTC hours.

use std::fmt;

use novacron_protocol::time::Timestamp;
use novacron_protocol::usage::HOUR_S;
use serde::{Deserialize, Serialize};

use crate::state::table::Key;

/// How long a window takes entries after its hour: agents send every five minutes, so this is room for a link that
/// was away or a coordinator that had no quorum. What comes later is posted into a later window.
pub const GRACE_S: u64 = 2 * HOUR_S;

/// A UTC hour, as a number of hours since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Hour(pub u64);

impl Hour {
    /// The hour of a second since 1970.
    pub fn of_s(second: u64) -> Self {
        Self(second / HOUR_S)
    }

    /// The hour of a moment.
    pub fn of(moment: Timestamp) -> Self {
        Self::of_s(moment.unix_ms / 1000)
    }

    /// Its first second.
    pub fn begin_s(self) -> u64 {
        self.0.saturating_mul(HOUR_S)
    }

    /// The hour after it.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Whether its window may be sealed at a moment.
    pub fn is_closed_at(self, now: Timestamp) -> bool {
        now.unix_ms / 1000 >= self.next().begin_s().saturating_add(GRACE_S)
    }

    /// The first hour whose window may not be sealed yet.
    pub fn first_open_at(now: Timestamp) -> Self {
        Self::of_s((now.unix_ms / 1000).saturating_sub(GRACE_S))
    }

    /// Its beginning as a moment.
    pub fn begin(self) -> Timestamp {
        Timestamp::from_unix_ms(self.begin_s().saturating_mul(1000))
    }
}

impl fmt::Display for Hour {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.begin().fmt(formatter)
    }
}

impl Key for Hour {
    fn encode(&self) -> Vec<u8> {
        self.0.to_be_bytes().to_vec()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(u64::from_be_bytes(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_s(second: u64) -> Timestamp {
        Timestamp::from_unix_ms(second * 1000)
    }

    #[test]
    fn a_window_closes_two_hours_after_its_hour() {
        let hour = Hour(500_000);
        let closes_s = (500_000 + 3) * HOUR_S;
        assert!(!hour.is_closed_at(at_s(closes_s - 1)));
        assert!(hour.is_closed_at(at_s(closes_s)));
        assert_eq!(Hour::first_open_at(at_s(closes_s - 1)), hour);
        assert_eq!(Hour::first_open_at(at_s(closes_s)), hour.next());
    }

    #[test]
    fn any_number_is_an_hour() {
        for number in [0, u64::MAX] {
            let hour = Hour(number);
            assert_eq!(Hour::decode(&hour.encode()), Some(hour));
            assert!(!hour.to_string().is_empty());
            assert!(hour.next() >= hour);
        }
    }
}
