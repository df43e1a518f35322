//! What clients of a load do, operation after operation.

use std::fmt;
use std::sync::Arc;

use anyhow::Result;

use super::dialect::{Dialect, Key};
use super::link::{Answer, Ask};

/// See the module. Pure: it neither connects nor waits.
pub trait Work: fmt::Debug + Send + Sync {
    /// What a client asks next.
    fn ask(&self, key: Key) -> Ask;

    /// Whether it was done.
    fn check(&self, answer: &Answer) -> Result<()>;
}

/// Durable writes of a side's values.
#[derive(Debug, Clone)]
pub struct Writes(pub Arc<dyn Dialect>);

/// Linearizable reads of the first value of each client.
#[derive(Debug, Clone)]
pub struct Reads(pub Arc<dyn Dialect>);

impl Work for Writes {
    fn ask(&self, key: Key) -> Ask {
        self.0.write(key)
    }

    fn check(&self, answer: &Answer) -> Result<()> {
        self.0.check_write(answer)
    }
}

impl Work for Reads {
    fn ask(&self, key: Key) -> Ask {
        self.0.read(Key { number: 0, ..key })
    }

    fn check(&self, answer: &Answer) -> Result<()> {
        self.0.check_read(answer)
    }
}
