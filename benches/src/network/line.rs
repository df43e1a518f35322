//! What a long line is like: beside its rate, how long it takes, what it loses and what may wait for it. Values.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::emulator::{Emulator, End};
use super::rate::Rate;

/// The longest way: once around the earth by satellite and back takes less.
const DELAY_MAX: Duration = Duration::from_secs(1);
/// The largest packet and its frame have room in every queue.
const QUEUE_BYTES_MIN: u64 = 32 * 1024;

/// The link between the two hosts.
#[derive(Debug, Clone, Args)]
pub struct LinkArgs {
    /// Rate of every host's link in both directions.
    #[arg(long, value_name = "RATE", default_value = "1gbit")]
    pub link: Rate,
    /// One-way delay between the two hosts, such as `20ms`: they are then joined by an emulated line.
    #[arg(long, value_name = "MS", default_value = "0ms")]
    pub delay: Delay,
    /// Share of the packets between the two hosts that is lost at random, each way, such as `0.5%`.
    #[arg(long, value_name = "PERCENT", default_value = "0%")]
    pub loss: Loss,
    /// Bytes that may wait for the emulated line [default: rate × round trip].
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(QUEUE_BYTES_MIN..=1 << 30))]
    pub queue: Option<u64>,
    /// Which packets are lost follows from this.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub loss_seed: u64,
}

impl LinkArgs {
    /// The line to emulate; `None` if the link has neither delay nor loss.
    pub fn line(&self) -> Option<Line> {
        let is_emulated = self.delay != Delay::default() || self.loss != Loss::default();
        is_emulated.then(|| Line {
            rate: self.link,
            delay: self.delay,
            loss: self.loss,
            queue_bytes: self.queue.unwrap_or_else(|| self.round_trip_bytes()),
            seed: self.loss_seed,
        })
    }

    /// Joins two hosts by the line, if there is one to emulate.
    pub fn join(&self, ends: &[End; 2]) -> Result<Option<Emulator>> {
        self.line().map(|line| Emulator::between(line, ends)).transpose()
    }

    fn round_trip_bytes(&self) -> u64 {
        self.link.bytes_in(self.delay.0 * 2).max(QUEUE_BYTES_MIN)
    }
}

impl fmt::Display for LinkArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.link)?;
        if self.line().is_some() {
            write!(f, ", {} ms round trip, {} loss", self.delay.0.as_millis() * 2, self.loss)?;
        }
        Ok(())
    }
}

/// A line in both directions, each with its own rate, queue and losses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// How fast bits leave.
    pub rate: Rate,
    /// From having left to having arrived.
    pub delay: Delay,
    /// What never arrives.
    pub loss: Loss,
    /// Bytes that may wait to leave; what comes on top is dropped.
    pub queue_bytes: u64,
    /// Which packets are lost follows from this.
    pub seed: u64,
}

/// A delay in whole milliseconds, up to a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delay(Duration);

impl From<Delay> for Duration {
    fn from(delay: Delay) -> Self {
        delay.0
    }
}

impl FromStr for Delay {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = text.strip_suffix("ms").context("a delay is a whole number and ms")?;
        let delay =
            Duration::from_millis(number.parse().context("a delay is a whole number and ms")?);
        ensure!(delay <= DELAY_MAX, "a delay is at most {} ms", DELAY_MAX.as_millis());
        Ok(Self(delay))
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0.as_millis())
    }
}

/// A share of packets, from nothing to all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Loss(f64);

impl Loss {
    /// The share, from 0 to 1.
    pub fn share(self) -> f64 {
        self.0
    }
}

impl FromStr for Loss {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = text.strip_suffix('%').context("a loss is a number and %")?;
        let percent: f64 = number.parse().context("a loss is a number and %")?;
        ensure!((0.0..=100.0).contains(&percent), "a loss is from 0% to 100%");
        Ok(Self(percent / 100.0))
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0 * 100.0)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A line as from the command line.
    pub fn line(rate: &str, delay: &str, loss: &str, queue_bytes: u64) -> Line {
        let (rate, delay) = (rate.parse().unwrap(), delay.parse().unwrap());
        Line { rate, delay, loss: loss.parse().unwrap(), queue_bytes, seed: 7 }
    }

    fn args(delay: &str, loss: &str) -> LinkArgs {
        LinkArgs {
            link: "100mbit".parse().unwrap(),
            delay: delay.parse().unwrap(),
            loss: loss.parse().unwrap(),
            queue: None,
            loss_seed: 1,
        }
    }

    #[test]
    fn a_link_with_delay_or_loss_is_emulated() {
        assert_eq!(args("0ms", "0%").line(), None);
        assert_eq!(args("0ms", "0%").to_string(), "100mbit");
        let long = args("20ms", "0.5%");
        assert_eq!(long.line().unwrap().queue_bytes, 500_000);
        assert_eq!(long.to_string(), "100mbit, 40 ms round trip, 0.5% loss");
        assert_eq!(args("0ms", "1%").line().unwrap().queue_bytes, QUEUE_BYTES_MIN);
    }

    #[test]
    fn what_is_no_delay_or_loss_is_refused() {
        for text in ["20", "ms", "-1ms", "1001ms", "2s"] {
            assert!(text.parse::<Delay>().is_err(), "{text}");
        }
        for text in ["1", "%", "-1%", "101%", "NaN%"] {
            assert!(text.parse::<Loss>().is_err(), "{text}");
        }
    }
}
