//! The lines on the console. Each starts with one fixed word, so that they can be told from the
//! kernel's, and is written at once, so that no other thread's line can cut into it.

use std::fmt;
use std::io::Write;
use std::time::{Duration, Instant};

/// What every line starts with.
const MARK: &str = "NOVACRON-GUEST";

/// Writes one line.
pub fn line(text: fmt::Arguments<'_>) {
    let whole = format!("{MARK} {text}\n");
    let mut out = std::io::stdout().lock();
    // A console that is gone is no reason to stop checking memory.
    let _ = out.write_all(whole.as_bytes()).and_then(|()| out.flush());
}

/// The guest's own time since it booted.
#[derive(Debug, Clone, Copy)]
pub struct Uptime {
    base: Duration,
    since: Instant,
}

impl Uptime {
    /// Reads the kernel's figure once; from then on the monotonic clock is exact enough.
    pub fn start(now: Instant) -> Self {
        let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
        let seconds = text.split(' ').next().and_then(|word| word.parse().ok());
        let base =
            seconds.and_then(|s: f64| Duration::try_from_secs_f64(s).ok()).unwrap_or_default();
        Self { base, since: now }
    }

    /// Milliseconds since boot.
    pub fn ms(&self, now: Instant) -> u128 {
        (self.base + now.saturating_duration_since(self.since)).as_millis()
    }
}
