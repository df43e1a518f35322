//! How idle the machine is: whoever else works on it takes time from all contenders, and most from the one that
//! needs most.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::interruption::Interruption;

/// A machine with less than this to spare is busy.
const IDLE_MIN: f64 = 0.9;
/// Over this time.
const SAMPLE: Duration = Duration::from_secs(2);

/// Waits until the machine is idle, at most for as long as `patience`; which share of it was idle at the end.
pub fn wait(patience: Duration, interruption: &Interruption) -> Result<f64> {
    let deadline = Instant::now() + patience;
    loop {
        let before = Times::now()?;
        interruption.pause(SAMPLE)?;
        let idle = Times::now()?.idle_since(&before);
        if idle >= IDLE_MIN || Instant::now() >= deadline {
            return Ok(idle);
        }
    }
}

/// Ticks since the machine started, over all cores.
#[derive(Debug, PartialEq)]
struct Times {
    idle: u64,
    all: u64,
}

impl Times {
    fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        Self::parse(&text).context("/proc/stat is not as expected")
    }

    /// The first line: user, nice, system, idle, iowait, irq, softirq, steal; then what is part of these.
    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> =
            line.split_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
        Some(Self { idle: ticks.get(3)? + ticks.get(4)?, all: ticks.iter().sum() })
    }

    fn idle_since(&self, before: &Self) -> f64 {
        let all = self.all.saturating_sub(before.all).max(1);
        self.idle.saturating_sub(before.idle) as f64 / all as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idleness_is_what_nobody_took() {
        let before = Times::parse("cpu  10 0 10 100 20 0 0 5 7 0\ncpu0 1\n").unwrap();
        assert_eq!(before, Times { idle: 120, all: 145 });
        let after = Times::parse("cpu  60 0 10 140 30 0 0 5 9 0\n").unwrap();
        assert!((after.idle_since(&before) - 0.5).abs() < 1e-9);
        assert_eq!(Times::parse("intr 5"), None);
        assert_eq!(Times::parse("cpu  1 2"), None);
    }
}
