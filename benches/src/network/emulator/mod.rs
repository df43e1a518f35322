//! A line with rate, delay, loss and a bounded queue between two hosts. The kernel of a small machine may have no
//! such thing (netem), and a line of our own loses the same packets in every run.
//!
//! ```text
//!  [source] wan0 ─► read · decide (direction) ─► wait ─► write ─► wan0 [target]        and the same backwards
//! ```

mod devices;
mod direction;
mod pump;
#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, bail};
use rustix::pipe::{PipeFlags, pipe_with};

pub use devices::End;
pub use direction::Counts;

use super::line::Line;
use pump::Pump;

/// An emulated line, for as long as this lives.
#[derive(Debug)]
pub struct Emulator {
    counter: LineCounter,
    /// Closing it ends the thread.
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

/// Where the packets of a line are counted. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct LineCounter {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    counts: [Counts; 2],
    /// Why the line carries nothing any more.
    failure: Option<String>,
}

impl Emulator {
    /// Joins two hosts by a line.
    pub fn between(line: Line, ends: &[End; 2]) -> Result<Self> {
        let devices = devices::create(ends)?;
        let (stopped, stop) = pipe_with(PipeFlags::CLOEXEC).context("cannot make a pipe")?;
        let counter = LineCounter::default();
        let pump = Pump::new(line, devices, stopped, counter.clone());
        let thread = thread::Builder::new().name("line".into()).spawn(move || pump.run())?;
        Ok(Self { counter, stop: Some(stop), thread: Some(thread) })
    }

    /// What is counted on it.
    pub fn counter(&self) -> LineCounter {
        self.counter.clone()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by its own hook.
            let _ = thread.join();
        }
    }
}

impl LineCounter {
    /// What became of the packets of either end so far; an error if the line has failed.
    pub fn counts(&self) -> Result<[Counts; 2]> {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        match &shared.failure {
            Some(failure) => bail!("the emulated line has failed: {failure}"),
            None => Ok(shared.counts),
        }
    }

    fn set(&self, counts: [Counts; 2]) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).counts = counts;
    }

    fn fail(&self, failure: String) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).failure = Some(failure);
    }
}
