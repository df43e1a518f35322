//! What happened, in order: a number that is the same for runs that went the same way, and lines for a person.

use std::fmt::Arguments;

use xxhash_rust::xxh3::Xxh3;

/// The course of a run.
pub struct Trace {
    hash: Xxh3,
    events: u64,
    is_printed: bool,
}

impl Trace {
    /// Nothing has happened yet.
    pub fn new(is_printed: bool) -> Self {
        Self { hash: Xxh3::new(), events: 0, is_printed }
    }

    /// Something happened at a moment of the world.
    pub fn note(&mut self, now_ms: u64, what: Arguments<'_>) {
        let line = format!("{now_ms:>8} {what}");
        self.hash.update(line.as_bytes());
        self.events += 1;
        if self.is_printed {
            println!("{line}");
        }
    }

    /// The same for two runs exactly when the same happened at the same times.
    pub fn hash(&self) -> u64 {
        self.hash.digest()
    }

    /// How much happened.
    pub fn events(&self) -> u64 {
        self.events
    }
}
