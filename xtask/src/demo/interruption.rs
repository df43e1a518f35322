//! Ctrl-C and its like: the program that runs now is ended, and the demo then takes everything down
//! in order instead of dying in the middle.

use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// How long a pause lasts at most before it notices an interruption.
const NOTICE: Duration = Duration::from_millis(100);

/// Whether a person has had enough.
#[derive(Debug, Default, Clone)]
pub struct Interruption {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    asked: AtomicBool,
    /// The program to end; a descriptor, because its number may be another's by then.
    running: Mutex<Option<OwnedFd>>,
}

impl Interruption {
    /// From now on signals do not end this process.
    pub fn listen() -> Result<Self> {
        let interruption = Self::default();
        let mut signals =
            Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot listen to signals")?;
        let shared = Arc::clone(&interruption.shared);
        thread::spawn(move || signals.forever().for_each(|_| shared.interrupt()));
        Ok(interruption)
    }

    /// An error if there was an interruption.
    pub fn check(&self) -> Result<()> {
        if self.shared.asked.load(Ordering::SeqCst) {
            bail!("interrupted");
        }
        Ok(())
    }

    /// Makes the program the one that an interruption ends, while `work` waits for it.
    pub fn guard<T>(&self, child: &mut Child, work: impl FnOnce(&mut Child) -> T) -> Result<T> {
        let pid = Pid::from_child(child);
        let descriptor = pidfd_open(pid, PidfdFlags::empty()).context("cannot watch a program")?;
        *self.running() = Some(descriptor);
        if self.check().is_err() {
            // The signal came before there was anything to end.
            self.shared.interrupt();
        }
        let result = work(child);
        *self.running() = None;
        self.check()?;
        Ok(result)
    }

    /// Sleeps, unless interrupted.
    pub fn pause(&self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.check()?;
            thread::sleep(NOTICE.min(end.saturating_duration_since(Instant::now())));
        }
        self.check()
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Option<OwnedFd>> {
        self.shared.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn interrupt(&self) {
        self.asked.store(true, Ordering::SeqCst);
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(descriptor) = running.as_ref() {
            // It may have ended by itself, which is as good.
            let _ = pidfd_send_signal(descriptor, Signal::TERM);
        }
    }
}
