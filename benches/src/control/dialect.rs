//! How a side is asked: everything that differs between two sides under the same load.

use std::fmt;
use std::net::SocketAddr;

use anyhow::Result;

use super::link::{Answer, Ask};

/// Bytes of a value that is written.
pub const VALUE_BYTES: usize = 256;

/// Values of a client that are written again and again, on both sides.
pub const KEYS_PER_CLIENT: u64 = 16;

/// Clients at most, those that ask while a cluster is being set up included.
pub const CLIENTS_MAX: usize = 1024;

/// Which value: a client writes its own only, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The client.
    pub client: usize,
    /// The number of the operation, over all clients.
    pub number: u64,
}

impl Key {
    /// Which of the client's values.
    pub fn place(self) -> u64 {
        self.number % KEYS_PER_CLIENT
    }
}

/// The words of a side. Pure: it neither connects nor waits.
pub trait Dialect: fmt::Debug + Send + Sync {
    /// A durable write of [`VALUE_BYTES`] bytes.
    fn write(&self, key: Key) -> Ask;

    /// A linearizable read of a value that was written by [`Self::write`].
    fn read(&self, key: Key) -> Ask;

    /// Whether a write was acknowledged.
    fn check_write(&self, answer: &Answer) -> Result<()>;

    /// Whether a read brought a value.
    fn check_read(&self, answer: &Answer) -> Result<()>;

    /// Asks a member who leads.
    fn status(&self) -> Ask;

    /// Whether the member at this address, whose answer to [`Self::status`] this is, says that it leads; nothing if it
    /// knows of no leader.
    fn leads(&self, address: SocketAddr, answer: &Answer) -> Result<Option<bool>>;
}

/// Bytes that look like text and differ from key to key.
pub fn value(key: Key) -> String {
    let seed = format!("{:08}-{:016}.", key.client, key.number);
    seed.chars().cycle().take(VALUE_BYTES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_size_and_differ() {
        let one = value(Key { client: 1, number: 2 });
        assert_eq!(one.len(), VALUE_BYTES);
        assert_ne!(one, value(Key { client: 2, number: 1 }));
    }
}
