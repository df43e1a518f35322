//! Rates of links, written as `tc` writes them: `1gbit`, `100mbit`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Least and most rate of a link, in bits per second.
const BITS_PER_SECOND: std::ops::RangeInclusive<u64> = 64_000..=100_000_000_000;

/// A rate in bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate {
    bits_per_second: u64,
}

/// Why a text is not a rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a rate: write a whole number and kbit, mbit or gbit, from 64kbit to 100gbit"
)]
pub struct InvalidRate {
    text: String,
}

impl Rate {
    /// Bytes that may leave at once: 2 ms of the rate, so that a timer of a busy machine does not cost
    /// throughput, and never less than 32 KiB.
    pub fn burst_bytes(self) -> u64 {
        self.bytes_in_ms(2).max(32 * 1024)
    }

    /// Bytes that may wait: 10 ms of the rate, as a switch with shallow buffers, and never less than two
    /// of the largest packets that a host hands over at once.
    pub fn queue_bytes(self) -> u64 {
        self.burst_bytes() + self.bytes_in_ms(10).max(128 * 1024)
    }

    fn bytes_in_ms(self, milliseconds: u64) -> u64 {
        self.bits_per_second / 8 * milliseconds / 1000
    }
}

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let invalid = || InvalidRate { text: text.chars().take(40).collect() };
        let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(digits_end);
        let factor: u64 = match unit.to_ascii_lowercase().as_str() {
            "kbit" => 1_000,
            "mbit" => 1_000_000,
            "gbit" => 1_000_000_000,
            _ => return Err(invalid()),
        };
        let bits_per_second =
            digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
        match bits_per_second {
            Some(bits_per_second) if BITS_PER_SECOND.contains(&bits_per_second) => {
                Ok(Self { bits_per_second })
            }
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1_000_000_000, "gbit"), (1_000_000, "mbit"), (1_000, "kbit")];
        let whole = units.iter().find(|(factor, _)| self.bits_per_second.is_multiple_of(*factor));
        let (factor, unit) = whole.copied().unwrap_or((1_000, "kbit"));
        write!(formatter, "{}{unit}", self.bits_per_second / factor)
    }
}

impl TryFrom<String> for Rate {
    type Error = InvalidRate;

    fn try_from(text: String) -> Result<Self, InvalidRate> {
        text.parse()
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> Self {
        rate.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_written_as_tc_does() {
        for text in ["1gbit", "100mbit", "1500kbit", "64kbit"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "1",
            "gbit",
            "1.5gbit",
            "1gb",
            "0gbit",
            "1kbit",
            "101gbit",
            "99999999999999999999gbit",
        ] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_slow_link_still_takes_whole_packets() {
        let slow: Rate = "64kbit".parse().unwrap();
        assert_eq!(slow.burst_bytes(), 32 * 1024);
        let fast: Rate = "1gbit".parse().unwrap();
        assert_eq!(fast.burst_bytes(), 250_000);
        assert_eq!(fast.queue_bytes(), 1_500_000);
    }
}
