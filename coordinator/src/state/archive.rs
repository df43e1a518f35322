//! History that has left the tables: contents that never change, known here by their hashes only.
//!
//! What is archived is the same on every replica, because it is made by applying commands; but it is neither part of
//! the rows nor of snapshots. Each member keeps the contents in files of its own. They are written before the tables
//! and snapshots that do not hold them any more, and a member that misses one has it from another.

use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::fleet::Fleet;
use super::table::{Key, ROW_BYTES_MAX};

/// The name of an archived content, unique for ever.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArchiveName(pub String);

impl Key for ArchiveName {
    fn encode(&self) -> Vec<u8> {
        self.0.clone().into_bytes()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        String::from_utf8(bytes.to_vec()).ok().map(Self)
    }
}

/// What the cluster knows of an archived content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveRow {
    /// SHA-256 of the content.
    pub hash: [u8; 32],
    /// Bytes of the content.
    pub content_bytes: u64,
}

impl Message for ArchiveRow {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "archive row";
}

/// A content on its way from the tables to the archive of this member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departure {
    /// Its name.
    pub name: String,
    /// All of it.
    pub content: Vec<u8>,
}

impl Fleet {
    /// Lets a content leave the tables. The name must not have been used before.
    pub(super) fn archive(&mut self, name: String, content: Vec<u8>) -> [u8; 32] {
        let hash = Sha256::digest(&content).into();
        let row = ArchiveRow { hash, content_bytes: content.len() as u64 };
        self.archives.insert(ArchiveName(name.clone()), row);
        self.departures.push(Departure { name, content });
        hash
    }

    /// Forgets an archived content; members remove their files.
    pub(super) fn forget_archive(&mut self, name: &str) {
        self.archives.remove(&ArchiveName(name.to_owned()));
    }

    /// What left the tables since the last call: to be made durable before the tables are.
    pub fn drain_departures(&mut self) -> Vec<Departure> {
        std::mem::take(&mut self.departures)
    }

    /// What is archived: names and what is known of them, in the order of the names.
    pub fn archives(&self) -> impl Iterator<Item = (&str, &ArchiveRow)> {
        self.archives.iter().map(|(name, row)| (name.0.as_str(), row))
    }

    /// What is known of an archived content.
    pub fn archived(&self, name: &str) -> Option<&ArchiveRow> {
        self.archives.get(&ArchiveName(name.to_owned()))
    }
}
