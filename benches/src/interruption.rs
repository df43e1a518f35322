//! Ctrl-C and its like: whoever waits is told, and what was made is removed on the way out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// Between two looks at something that is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Whether a person has had enough.
#[derive(Debug, Clone, Default)]
pub struct Interruption {
    asked: Arc<AtomicBool>,
}

impl Interruption {
    /// From now on signals do not end this process.
    pub fn listen() -> Result<Self> {
        let interruption = Self::default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            flag::register(signal, Arc::clone(&interruption.asked))
                .context("cannot listen to signals")?;
        }
        Ok(interruption)
    }

    /// An error if there was an interruption.
    pub fn check(&self) -> Result<()> {
        if self.asked.load(Ordering::SeqCst) {
            bail!("interrupted");
        }
        Ok(())
    }

    /// Sleeps, unless interrupted.
    pub fn pause(&self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.check()?;
            thread::sleep(LOOK_AGAIN.min(end.saturating_duration_since(Instant::now())));
        }
        self.check()
    }

    /// Looks again and again until there is something, or for as long as `patience`.
    pub fn wait<T>(
        &self,
        what: &str,
        patience: Duration,
        every: Duration,
        mut look: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(found) = look()? {
                return Ok(found);
            }
            if Instant::now() >= deadline {
                bail!("{what}: not within {} s", patience.as_secs());
            }
            self.pause(every)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_by_success_deadline_or_interruption() {
        let interruption = Interruption::default();
        let mut left = 3;
        let found = interruption.wait("three", Duration::from_secs(60), Duration::ZERO, || {
            left -= 1;
            Ok((left == 0).then_some("here"))
        });
        assert_eq!(found.unwrap(), "here");

        let never = || Ok(None::<()>);
        let late = interruption.wait("it", Duration::ZERO, Duration::ZERO, never).unwrap_err();
        assert_eq!(late.to_string(), "it: not within 0 s");

        interruption.asked.store(true, Ordering::SeqCst);
        let minute = Duration::from_secs(60);
        assert_eq!(interruption.pause(minute).unwrap_err().to_string(), "interrupted");
        let error = interruption.wait("it", minute, minute, never).unwrap_err();
        assert_eq!(error.to_string(), "interrupted");
    }
}
