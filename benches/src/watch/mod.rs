//! A watcher outside, the same for everybody: for how long the guest stands still by its heartbeats on the console and
//! this machine's clock, and how much memory programs need meanwhile.

mod beats;
mod processor;

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

pub use processor::{Processors, Spent, resident_bytes_max};

use beats::{Beats, Lines};
use processor::private_bytes;

/// Between two looks at the consoles: by so much the pause can be wrong on an idle machine.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// Looks at the consoles for each look at the memory, which costs more.
const LOOKS_PER_MEMORY: u64 = 25;
/// Bytes that are read of a console at once.
const READ_BYTES: usize = 16 * 1024;

/// What is watched.
#[derive(Debug, Default)]
pub struct Watched {
    /// Where each guest's console is logged, at any time; a file may not be there yet.
    pub guests: Vec<Vec<PathBuf>>,
    /// Processes whose memory counts.
    pub processes: Vec<u32>,
}

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// For how long a guest stood still, at most.
    pub pause: Duration,
    /// The most private memory that one of the processes had, in bytes.
    pub memory_bytes_max: u64,
}

/// A watcher at work.
#[derive(Debug)]
pub struct Watch {
    stop: Sender<()>,
    thread: JoinHandle<Looking>,
}

impl Watch {
    /// Begins.
    pub fn begin(watched: Watched) -> Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let looking = Looking::new(watched);
        let thread = thread::Builder::new()
            .name("watch".into())
            .spawn(move || looking.until(&stopped))
            .context("cannot watch")?;
        Ok(Self { stop, thread })
    }

    /// Ends; what was seen.
    pub fn end(self) -> Result<Seen> {
        drop(self.stop);
        let looking = self.thread.join().ok().context("the watcher has failed")?;
        let pauses = looking.guests.iter().filter_map(|guest| guest.beats.pause_max());
        let pause = pauses.max().context("no guest's heartbeats were seen")?;
        Ok(Seen { pause, memory_bytes_max: looking.memory_bytes_max })
    }
}

#[derive(Debug)]
struct Console {
    path: PathBuf,
    file: Option<File>,
    lines: Lines,
}

impl Console {
    /// The lines that have ended since the last look, however many: a console's log comes whole with its guest, and what
    /// the guest says from then on stands behind it.
    fn look(&mut self) -> Vec<String> {
        if self.file.is_none() {
            // Not there yet, or never.
            self.file = File::open(&self.path).ok();
        }
        let Some(file) = &mut self.file else { return Vec::new() };
        let mut bytes = [0; READ_BYTES];
        let mut lines = Vec::new();
        loop {
            match file.read(&mut bytes) {
                Ok(read) if read > 0 => lines.extend(self.lines.cut(&bytes[..read])),
                Ok(_) | Err(_) => return lines,
            }
        }
    }
}

/// A guest, wherever it is.
#[derive(Debug)]
struct Guest {
    consoles: Vec<Console>,
    beats: Beats,
}

impl Guest {
    fn new(paths: Vec<PathBuf>) -> Self {
        let console = |path| Console { path, file: None, lines: Lines::default() };
        Self { consoles: paths.into_iter().map(console).collect(), beats: Beats::default() }
    }

    fn look(&mut self, begun: Instant) {
        for console in &mut self.consoles {
            for line in console.look() {
                self.beats.see(&line, begun.elapsed());
            }
        }
    }
}

#[derive(Debug)]
struct Looking {
    guests: Vec<Guest>,
    processes: Vec<u32>,
    begun: Instant,
    memory_bytes_max: u64,
}

impl Looking {
    fn new(watched: Watched) -> Self {
        Self {
            guests: watched.guests.into_iter().map(Guest::new).collect(),
            processes: watched.processes,
            begun: Instant::now(),
            memory_bytes_max: 0,
        }
    }

    fn until(mut self, stopped: &mpsc::Receiver<()>) -> Self {
        for look in 0.. {
            self.look_at_consoles();
            if look % LOOKS_PER_MEMORY == 0 {
                self.look_at_memory();
            }
            if stopped.recv_timeout(LOOK_AGAIN) != Err(RecvTimeoutError::Timeout) {
                break;
            }
        }
        self
    }

    fn look_at_consoles(&mut self) {
        self.guests.iter_mut().for_each(|guest| guest.look(self.begun));
    }

    fn look_at_memory(&mut self) {
        let most = self.processes.iter().filter_map(|process| private_bytes(*process)).max();
        self.memory_bytes_max = self.memory_bytes_max.max(most.unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_guest_that_goes_on_elsewhere_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name);
        let mut looking = Looking::new(Watched {
            guests: vec![vec![path("source"), path("target")], vec![path("other")]],
            processes: vec![std::process::id()],
        });
        let say = |looking: &mut Looking, name, text: &str| {
            let mut file = File::options().append(true).create(true).open(path(name)).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            looking.look_at_consoles();
        };
        say(
            &mut looking,
            "source",
            "NOVACRON-GUEST tick=1 uptime_ms=0 \nNOVACRON-GUEST tick=2 uptime_ms=0 \n",
        );
        // Another guest's counter is its own.
        say(&mut looking, "other", "NOVACRON-GUEST tick=9 uptime_ms=0 \n");
        let before = looking.begun.elapsed();
        say(
            &mut looking,
            "target",
            "NOVACRON-GUEST tick=2 uptime_ms=0 \nNOVACRON-GUEST tick=3 uptime_ms=0 \n",
        );
        let pause = looking.guests[0].beats.pause_max().unwrap();
        // A log that comes whole is read whole, at one look.
        let line = "NOVACRON-GUEST tick=2 uptime_ms=0 \n";
        let later =
            line.repeat(4 * READ_BYTES / line.len()) + "NOVACRON-GUEST tick=4 uptime_ms=9 \n";
        say(&mut looking, "target", &later);
        assert_eq!(looking.guests[0].consoles[1].look(), Vec::<String>::new());
        assert_eq!(looking.guests[1].beats.pause_max(), None);
        assert!(pause <= looking.begun.elapsed() && before > Duration::ZERO, "{pause:?}");
        looking.look_at_memory();
        assert!(looking.memory_bytes_max > 100_000);
    }
}
