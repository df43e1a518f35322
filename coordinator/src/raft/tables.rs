//! The fleet's rows in sled: a copy that is written when a member stops, and makes its next start quick. It is trusted
//! only if it was closed; after a crash the fleet comes from snapshot and log.

use std::sync::{Arc, Mutex, PoisonError};

use novacron_protocol::wire::codec::{self, CodecError};
use novacron_storage::cipher::{Cipher, LockProblem};
use novacron_storage::tables::{Table, Tables, TablesError};

use super::hidden_rows::{Hiding, Showing};
use super::record::{Position, PositionRecord};
use crate::state::Fleet;
use crate::state::formats::{Formats, OtherFormats};
use crate::state::rows::SnapshotError as FleetSnapshotError;
use crate::state::table::{Row, RowError, TableName};

/// Rows that are written together: some megabytes.
const ROWS_PER_COMMIT: usize = 10_000;

/// In the place of the applied position until all rows are written. It can be taken for none.
const UNFINISHED: &[u8] = &[];

/// Why the tables failed.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// The database failed.
    #[error("the tables failed")]
    Tables(#[from] TablesError),
    /// A row cannot be encoded.
    #[error("a row of the fleet cannot be stored")]
    Row(#[from] RowError),
    /// The applied position cannot be encoded.
    #[error("the applied position cannot be stored")]
    Position(#[from] CodecError),
    /// Another build wrote them.
    #[error(transparent)]
    Formats(#[from] OtherFormats),
    /// They were closed.
    #[error("the tables are closed")]
    Closed,
    /// The snapshot is not one of a fleet.
    #[error("the snapshot cannot be used")]
    Snapshot(#[from] FleetSnapshotError),
    /// There is no key, or no salt, to encrypt them with.
    #[error("the tables cannot be encrypted: there is no key")]
    NoKey,
    /// A row cannot be encrypted.
    #[error("the tables cannot be encrypted")]
    Encrypt(#[source] std::io::Error),
    /// Other keys encrypted them.
    #[error("what the tables hold {0}")]
    Locked(LockProblem),
    /// They are not as they were encrypted.
    #[error("the tables were changed, or were not encrypted here")]
    Changed,
}

impl From<LockProblem> for KeptError {
    fn from(problem: LockProblem) -> Self {
        Self::Locked(problem)
    }
}

/// The tables of one process until it closes them. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct KeptTables {
    kept: Arc<Mutex<Kept>>,
    cipher: Option<Arc<dyn Cipher>>,
}

#[derive(Debug)]
enum Kept {
    /// Rows are kept nowhere: each start makes the fleet from snapshot and log.
    Nowhere,
    Open(Tables),
    Closed,
}

impl KeptTables {
    /// Open tables, whose rows are encrypted if there is a cipher.
    pub(super) fn new(tables: Tables, cipher: Option<Arc<dyn Cipher>>) -> Self {
        Self { kept: Arc::new(Mutex::new(Kept::Open(tables))), cipher }
    }

    pub(super) fn nowhere() -> Self {
        Self { kept: Arc::new(Mutex::new(Kept::Nowhere)), cipher: None }
    }

    fn with<T: Default>(
        &self,
        work: impl FnOnce(&Tables) -> Result<T, KeptError>,
    ) -> Result<T, KeptError> {
        match &*self.kept.lock().unwrap_or_else(PoisonError::into_inner) {
            Kept::Nowhere => Ok(T::default()),
            Kept::Open(tables) => work(tables),
            Kept::Closed => Err(KeptError::Closed),
        }
    }

    /// The fleet and position that were closed last, if they are there and whole.
    pub(super) fn load(&self) -> Result<Option<(Fleet, Position)>, KeptError> {
        self.with(|tables| {
            let Some(applied) = tables.applied()? else { return Ok(None) };
            let begin = |cipher: &Arc<dyn Cipher>| Showing::begin(&**cipher, &applied);
            let mut showing = self.cipher.as_ref().map(begin).transpose()?;
            let rows = TableName::ALL.iter().copied().flat_map(|table| {
                let rows = tables.scan(Table(table as u8));
                rows.map(move |row| row.map(|(key, value)| Row { table, key, value }))
            });
            let show = |row: Result<Row, TablesError>| {
                let Row { table, key, value } = row?;
                let Some(showing) = &mut showing else { return Ok(Row { table, key, value }) };
                let (key, value) = showing.row(table as u8, &key, value)?;
                Ok(Row { table, key, value })
            };
            let rows = rows.map(show).collect::<Result<Vec<Row>, KeptError>>()?;
            let applied = showing.map_or(Ok(applied), Showing::finish)?;
            let position = codec::decode::<PositionRecord>(&applied)?.0;
            let fleet = Fleet::from_rows(rows)?;
            // Another build may have tables that this one would not even look for.
            Formats::default().check(fleet.formats())?;
            Ok(Some((fleet, position)))
        })
    }

    /// Replaces everything, some rows at a time.
    fn replace(
        &self,
        tables: &Tables,
        fleet: &Fleet,
        position: &Position,
    ) -> Result<(), KeptError> {
        tables.wipe()?;
        let mut hiding = self.cipher.as_deref().map(Hiding::begin).transpose()?;
        let (mut rows, mut written) = (Vec::new(), Ok(()));
        let mut write = |row: Row| -> Result<(), KeptError> {
            let table = Table(row.table as u8);
            let (key, value) = match &mut hiding {
                Some(hiding) => hiding.row(table.0, &row.key, &row.value)?,
                None => (row.key, row.value),
            };
            rows.push((table, key, Some(value)));
            if rows.len() == ROWS_PER_COMMIT {
                tables.commit(UNFINISHED, std::mem::take(&mut rows))?;
            }
            Ok(())
        };
        fleet.visit_rows(|row| {
            if written.is_ok() {
                written = write(row);
            }
        })?;
        written?;
        let applied = codec::encode(&PositionRecord(position.clone()))?;
        let applied = match hiding {
            Some(hiding) => hiding.finish(&applied)?,
            None => applied,
        };
        Ok(tables.commit(&applied, rows)?)
    }

    /// Writes the fleet as of a position, and makes it durable; what is written afterwards fails.
    pub(super) fn close(&self, fleet: &Fleet, position: &Position) -> Result<(), KeptError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *kept, Kept::Closed) {
            Kept::Open(tables) => {
                self.replace(&tables, fleet, position)?;
                Ok(tables.close()?)
            }
            Kept::Nowhere | Kept::Closed => Ok(()),
        }
    }
}
