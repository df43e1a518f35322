//! What clients did and what they were answered, as they saw it.

use std::fmt;

/// A register: something that is written as a whole and read as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Register(pub u32);

/// A value that is written once in a history; 0 is what a register holds before the first write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(pub u64);

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The register was to hold this.
    Write(Value),
    /// The register was seen to hold this.
    Read(Value),
}

/// One operation of one client. Times are of one clock, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// Who.
    pub client: u32,
    /// On what.
    pub register: Register,
    /// What.
    pub action: Action,
    /// Before it was sent.
    pub began_ns: u64,
    /// After it was answered; nothing for a write of which nobody knows whether it happened.
    pub ended_ns: Option<u64>,
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |ns: u64| ns as f64 / 1e6;
        write!(formatter, "client {:>3}  {:>10.3} ms to ", self.client, ms(self.began_ns))?;
        match self.ended_ns {
            Some(ended) => write!(formatter, "{:>10.3} ms  ", ms(ended))?,
            None => write!(formatter, "no answer      ")?,
        }
        match self.action {
            Action::Write(value) => write!(formatter, "wrote {}", value.0),
            Action::Read(value) => write!(formatter, "read  {}", value.0),
        }
    }
}
