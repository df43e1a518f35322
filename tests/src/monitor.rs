//! The operators' monitor of a QEMU process, as far as a witness needs it: does its guest run?

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

/// A main loop that is saving a guest's devices may be silent for some tenths of a second.
const PATIENCE: Duration = Duration::from_secs(5);
/// Lines that are passed over on the way to an answer: events that came first.
const EVENTS_MAX: usize = 10_000;

/// A connection to one. QEMU serves one at a time on a socket; the agent uses another.
#[derive(Debug)]
pub struct Monitor {
    stream: BufReader<UnixStream>,
}

impl Monitor {
    /// Connects and leaves the mode in which QEMU takes no commands.
    ///
    /// # Errors
    /// There is nobody, or who answers is no QEMU.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut monitor = Self { stream: BufReader::new(stream) };
        monitor.read_line()?;
        monitor.ask("qmp_capabilities")?;
        Ok(monitor)
    }

    /// Whether the guest's processors run.
    ///
    /// # Errors
    /// It does not answer any more.
    pub fn is_running(&mut self) -> io::Result<bool> {
        Ok(self.ask("query-status")?["running"] == true)
    }

    fn ask(&mut self, command: &str) -> io::Result<Value> {
        let order = json!({ "execute": command }).to_string();
        self.stream.get_mut().write_all(format!("{order}\n").as_bytes())?;
        for _ in 0..EVENTS_MAX {
            let mut line = self.read_line()?;
            if !line["error"].is_null() {
                return Err(io::Error::other(line.to_string()));
            }
            if !line["return"].is_null() {
                return Ok(line["return"].take());
            }
        }
        Err(io::Error::other("only events, no answer"))
    }

    fn read_line(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        serde_json::from_str(&line).map_err(io::Error::other)
    }
}
