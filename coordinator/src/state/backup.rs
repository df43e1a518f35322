//! What the cluster remembers of its backups: when the last one was begun.
//!
//! A backup is a stream to a client. Whether that wrote it down, and can read it again, the cluster never learns.

use novacron_protocol::time::Timestamp;
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};

use super::fleet::{Applying, Fleet};
use super::formats::BACKUPS;
use super::reply::{Accepted, Reply};
use super::table::{Only, ROW_BYTES_MAX};

/// What is remembered: one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupLog {
    /// From when on it is remembered: the founding of the cluster, or the upgrade to a release that knows of backups.
    pub since: Timestamp,
    /// When the last one was begun.
    pub begun_at: Option<Timestamp>,
}

impl Message for BackupLog {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "backups row";
}

impl BackupLog {
    /// How old the last backup is, in milliseconds; or if there was none, for how long there could have been one.
    pub fn age_ms(&self, now: Timestamp) -> u64 {
        now.since_ms(self.begun_at.unwrap_or(self.since))
    }
}

impl Fleet {
    /// What is remembered of backups; `None` before the cluster is founded, and while a member does not know of them.
    pub fn backups(&self) -> Option<BackupLog> {
        self.backups.get(&Only).copied()
    }

    /// From the moment on in which all members can read it.
    pub(super) fn remember_backups(&mut self, now: &Applying) {
        if self.meta.formats >= BACKUPS && self.backups.is_empty() {
            self.backups.insert(Only, BackupLog { since: now.at, begun_at: None });
        }
    }

    /// Somebody is about to get the whole state.
    pub(super) fn take_backup(&mut self, now: &Applying) -> Reply {
        let since = self.backups().map_or(now.at, |log| log.since);
        self.backups.insert(Only, BackupLog { since, begun_at: Some(now.at) });
        Ok(Accepted::Nothing)
    }
}
