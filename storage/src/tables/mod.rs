//! Materialised tables: what can be computed again, kept at hand.
//!
//! **Never the one copy of anything.** The tables are in sled, whose `flush` does not reach the
//! platter on Linux. So they count only after [`Tables::close`], which syncs every file and seals
//! them with a checksum. After anything else (a crash, a power cut, rot) opening refuses them, and
//! the caller computes them again from its snapshot and log: [`Tables::open_or_rebuild`].
//!
//! All tables and the applied marker are in one tree of sled, because a batch is atomic within one
//! tree: byte 0 of a key says marker (0) or row (1), byte 1 of a row's key is the table.

mod seal;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use self::seal::Seal;
use crate::cipher::Locked;
use crate::damage::Damaged;
use crate::disk::DiskError;
use crate::sealed::SealedError;

const APPLIED_KEY: &[u8] = &[0];
const ROW: u8 = 1;

/// Memory of sled's page cache; the tables of a large fleet are a few times that.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// One table, by the number that its rows begin with on disk: never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(pub u8);

/// Why the tables were refused.
#[derive(Debug, thiserror::Error)]
pub enum TablesError {
    /// The disk failed, or another process has the directory ([`DiskError::is_in_use`]).
    #[error("the disk failed")]
    Disk(#[from] DiskError),
    /// The tables are from a process that did not close them.
    #[error("the tables in {} were not closed", directory.display())]
    NotClosed {
        /// Where they are.
        directory: PathBuf,
    },
    /// The tables are not what was closed.
    #[error("the tables cannot be trusted")]
    Damaged(#[from] Damaged),
    /// What says whether they were closed is encrypted; it never is.
    #[error(transparent)]
    Locked(#[from] Locked),
    /// sled failed.
    #[error("the database of the tables failed")]
    Database(#[from] sled::Error),
    /// sled panicked while opening, as it does for some damage.
    #[error("the database of the tables panicked while opening")]
    Panicked,
}

impl From<SealedError> for TablesError {
    fn from(error: SealedError) -> TablesError {
        match error {
            SealedError::Disk(error) => TablesError::Disk(error),
            SealedError::Damaged(damaged) => TablesError::Damaged(damaged),
            SealedError::Locked(locked) => TablesError::Locked(locked),
        }
    }
}

/// Open tables. Reading and committing may happen from several threads.
#[derive(Debug)]
pub struct Tables {
    database: sled::Db,
    seal: Seal,
}

impl Tables {
    /// Opens the tables in `directory`, making them if there are none. Fails for tables that were
    /// not closed or are damaged, and leaves them as they are.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Tables, TablesError> {
        let seal = Seal::open(directory.into())?;
        let database = unseal(&seal)?;
        Ok(Tables { database, seal })
    }

    /// As [`Tables::open`], but tables that cannot be trusted are thrown away: then they are empty,
    /// [`Tables::applied`] is `None`, and the reason is returned with them.
    pub fn open_or_rebuild(
        directory: impl Into<PathBuf>,
    ) -> Result<(Tables, Option<TablesError>), TablesError> {
        let seal = Seal::open(directory.into())?;
        let reason = match unseal(&seal) {
            Ok(database) => return Ok((Tables { database, seal }, None)),
            Err(error @ TablesError::Disk(_)) => return Err(error),
            Err(reason) => reason,
        };
        seal.remove_database()?;
        let database = unseal(&seal)?;
        Ok((Tables { database, seal }, Some(reason)))
    }

    /// Applies changes (`None` removes a row) and the applied marker: all of them or none. They are
    /// held in memory together. Not durable before [`Tables::close`].
    pub fn commit<K, V>(
        &self,
        applied: &[u8],
        changes: impl IntoIterator<Item = (Table, K, Option<V>)>,
    ) -> Result<(), TablesError>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let mut batch = sled::Batch::default();
        for (table, key, value) in changes {
            let key = row_key(table, key.as_ref());
            match value {
                Some(value) => batch.insert(key, value.as_ref()),
                None => batch.remove(key),
            }
        }
        batch.insert(APPLIED_KEY, applied);
        Ok(self.database.apply_batch(batch)?)
    }

    /// What the last commit said was applied; `None` for tables that have to be computed from
    /// nothing.
    pub fn applied(&self) -> Result<Option<Vec<u8>>, TablesError> {
        Ok(self.database.get(APPLIED_KEY)?.map(|value| value.to_vec()))
    }

    /// One row.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, TablesError> {
        Ok(self.database.get(row_key(table, key))?.map(|value| value.to_vec()))
    }

    /// The rows of a table in the order of their keys. Commits that happen meanwhile may be seen in
    /// part.
    pub fn scan(
        &self,
        table: Table,
    ) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), TablesError>> {
        let prefix = row_key(table, &[]);
        let key_at = prefix.len();
        self.database.scan_prefix(prefix).map(move |row| {
            let (key, value) = row?;
            Ok((key[key_at..].to_vec(), value.to_vec()))
        })
    }

    /// Removes every row and the applied marker, before the tables are computed again.
    pub fn wipe(&self) -> Result<(), TablesError> {
        // The marker first: rows without one count for nothing.
        self.database.remove(APPLIED_KEY)?;
        Ok(self.database.clear()?)
    }

    /// Makes the tables durable and seals them, so that they count when they are opened next.
    pub fn close(self) -> Result<(), TablesError> {
        let Tables { database, seal } = self;
        database.flush()?;
        drop(database);
        Ok(seal.close()?)
    }
}

/// Breaks the seal and opens the database.
fn unseal(seal: &Seal) -> Result<sled::Db, TablesError> {
    seal.check_and_break()?;
    open_database(seal)
}

fn row_key(table: Table, key: &[u8]) -> Vec<u8> {
    [&[ROW, table.0], key].concat()
}

fn open_database(seal: &Seal) -> Result<sled::Db, TablesError> {
    let config = sled::Config::new()
        .path(seal.database_path())
        .cache_capacity(CACHE_BYTES)
        // Nothing depends on it before `close`, and its syncs would delay those of the log.
        .flush_every_ms(None);
    // The only way to turn a panic of sled into an answer; it leaves nothing behind but files.
    match catch_unwind(AssertUnwindSafe(|| config.open())) {
        Ok(database) => Ok(database?),
        Err(_) => Err(TablesError::Panicked),
    }
}
