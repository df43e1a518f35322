//! A witness that watches where a machine runs, all the time: never at two places.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::monitor::Monitor;
use crate::place::Place;

/// Between two looks: a switchover takes some ten of these.
const PERIOD: Duration = Duration::from_millis(8);

/// What of a machine is at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copy {
    /// No QEMU that answers.
    Absent,
    /// A QEMU whose guest stands still: one that is awaited, or one that has left.
    Still,
    /// A QEMU whose guest runs.
    Running,
}

/// What was seen so far.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What was at each place at the last look.
    pub copies: Vec<Copy>,
    /// Looks.
    pub looks: u64,
    /// The longest time in which no copy was seen to run.
    pub still_max: Duration,
    /// Places at which it ran at the same time, as often as that was seen.
    double: Vec<String>,
}

/// A thread that looks, until it is asked what it saw.
#[derive(Debug)]
pub struct Witness {
    seen: Arc<Mutex<Seen>>,
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Witness {
    /// Watches these places.
    pub fn begin(places: &[Place]) -> Self {
        let nothing = Seen {
            copies: vec![Copy::Absent; places.len()],
            looks: 0,
            still_max: Duration::ZERO,
            double: Vec::new(),
        };
        let seen = Arc::new(Mutex::new(nothing));
        let (stop, stopped) = mpsc::channel();
        let eyes = places.iter().map(|place| Eye { place: place.clone(), monitor: None }).collect();
        let looking = Looking { eyes, seen: Arc::clone(&seen), ran_at: Instant::now() };
        let thread = std::thread::spawn(move || looking.run(&stopped));
        Self { seen, stop, thread }
    }

    /// What it saw so far.
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it.
    ///
    /// # Errors
    /// The machine ran at two places, or it was never looked at.
    pub fn end(self) -> Result<Seen> {
        let Self { seen, stop, thread } = self;
        // It is gone only if it panicked, which the join tells.
        let _ = stop.send(());
        thread.join().ok().context("the witness fell over")?;
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ensure!(seen.double.is_empty(), "two copies ran at once: {}", seen.double.join("; "));
        ensure!(seen.looks > 0, "nobody looked");
        Ok(seen)
    }
}

struct Eye {
    place: Place,
    monitor: Option<Monitor>,
}

impl Eye {
    fn look(&mut self) -> Copy {
        if self.monitor.is_none() {
            self.monitor = Monitor::connect(&self.place.monitor()).ok();
        }
        match self.monitor.as_mut().map(Monitor::is_running) {
            Some(Ok(true)) => Copy::Running,
            Some(Ok(false)) => Copy::Still,
            Some(Err(_)) | None => {
                self.monitor = None;
                Copy::Absent
            }
        }
    }
}

struct Looking {
    eyes: Vec<Eye>,
    seen: Arc<Mutex<Seen>>,
    ran_at: Instant,
}

impl Looking {
    fn run(mut self, stopped: &mpsc::Receiver<()>) {
        while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
            self.look();
        }
    }

    fn look(&mut self) {
        let copies: Vec<_> = self.eyes.iter_mut().map(Eye::look).collect();
        let double = self.runs_twice(&copies);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if copies.contains(&Copy::Running) {
            self.ran_at = Instant::now();
        }
        seen.still_max = seen.still_max.max(self.ran_at.elapsed());
        seen.looks += 1;
        seen.copies = copies;
        seen.double.extend(double);
    }

    /// Looks are one after the other, so a machine that moved in between is seen at both places. It is at both
    /// only if the first still runs after the last was seen to.
    fn runs_twice(&mut self, copies: &[Copy]) -> Option<String> {
        let mut running = (0..copies.len()).filter(|&index| copies[index] == Copy::Running);
        let (first, last) = (running.next()?, running.next_back()?);
        let nodes = [&self.eyes[first].place.node, &self.eyes[last].place.node];
        let what = format!("at {} and {}", nodes[0], nodes[1]);
        (self.eyes[first].look() == Copy::Running).then_some(what)
    }
}
