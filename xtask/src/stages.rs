//! Says which stage a long chore is in, and how long each took.

use std::time::Instant;

use anyhow::{Context, Result};

/// The stages so far.
#[derive(Debug)]
pub struct Stages {
    started: Instant,
}

impl Stages {
    /// A chore that starts now.
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// Runs one stage. An error says in which stage it happened.
    pub fn run<T>(&self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("==> {name}");
        let started = Instant::now();
        let result = work().with_context(|| format!("stage \"{name}\""))?;
        println!("    {name}: {:.1} s", started.elapsed().as_secs_f64());
        Ok(result)
    }

    /// Says how long all of it took.
    pub fn finish(&self) {
        println!("==> done in {:.1} s", self.started.elapsed().as_secs_f64());
    }
}
