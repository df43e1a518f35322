//! Rates of links, written as `tc` writes them, and the shape that `novacron dev up` gives a link of that rate.
//! The harness compares the two on the machine ([`super::Shape`]): a change there that is not made here is found.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};

/// A rate in bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    bits_per_second: u64,
}

impl Rate {
    /// Bytes that may leave at once.
    pub fn burst_bytes(self) -> u64 {
        self.bytes_in_ms(2).max(32 * 1024)
    }

    /// Bytes that may wait.
    pub fn queue_bytes(self) -> u64 {
        self.burst_bytes() + self.bytes_in_ms(10).max(128 * 1024)
    }

    /// Bytes that leave in so much time.
    pub fn bytes_in(self, time: Duration) -> u64 {
        let bits = u128::from(self.bits_per_second) * time.as_nanos() / 1_000_000_000;
        u64::try_from(bits / 8).unwrap_or(u64::MAX)
    }

    /// How long so many bytes take to leave.
    pub fn time_of(self, bytes: u64) -> Duration {
        let nanoseconds = u128::from(bytes) * 8_000_000_000 / u128::from(self.bits_per_second);
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    fn bytes_in_ms(self, milliseconds: u64) -> u64 {
        self.bits_per_second / 8 * milliseconds / 1000
    }
}

impl FromStr for Rate {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(digits_end);
        let factor: u64 = match unit {
            "mbit" => 1_000_000,
            "gbit" => 1_000_000_000,
            _ => bail!("a rate is a whole number and mbit or gbit"),
        };
        let number: u64 = digits.parse().context("a rate is a whole number and mbit or gbit")?;
        match number.checked_mul(factor) {
            Some(bits_per_second @ 1_000_000..=100_000_000_000) => Ok(Self { bits_per_second }),
            _ => bail!("a rate is from 1mbit to 100gbit"),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bits_per_second / 1_000_000 {
            mbit if mbit.is_multiple_of(1000) => write!(f, "{}gbit", mbit / 1000),
            mbit => write!(f, "{mbit}mbit"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_time_follow_from_each_other() {
        let rate: Rate = "100mbit".parse().unwrap();
        assert_eq!(rate.bytes_in(Duration::from_millis(40)), 500_000);
        assert_eq!(rate.time_of(500_000), Duration::from_millis(40));
    }

    #[test]
    fn rates_are_read_and_written_as_tc_does() {
        for text in ["1gbit", "100mbit", "2500mbit"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        for text in ["", "1", "gbit", "1.5gbit", "0gbit", "101gbit", "1gb"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}
