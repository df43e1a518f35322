//! The fleet's rows in sled: a copy that is written when a member stops, and makes its next start quick. It is trusted
//! only if it was closed; after a crash the fleet comes from snapshot and log.

use std::sync::{Arc, Mutex, PoisonError};

use novacron_protocol::wire::codec::{self, CodecError};
use novacron_storage::tables::{Table, Tables, TablesError};

use super::record::{Position, PositionRecord};
use crate::state::Fleet;
use crate::state::formats::{Formats, OtherFormats};
use crate::state::rows::SnapshotError as FleetSnapshotError;
use crate::state::table::{Row, RowError, TableName};

/// Rows that are written together: some megabytes.
const ROWS_PER_COMMIT: usize = 10_000;

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
}

/// The tables of one process until it closes them. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct KeptTables(Arc<Mutex<Kept>>);

#[derive(Debug)]
enum Kept {
    /// Rows are kept nowhere: each start makes the fleet from snapshot and log.
    Nowhere,
    Open(Tables),
    Closed,
}

impl KeptTables {
    pub(super) fn new(tables: Tables) -> Self {
        Self(Arc::new(Mutex::new(Kept::Open(tables))))
    }

    pub(super) fn nowhere() -> Self {
        Self(Arc::new(Mutex::new(Kept::Nowhere)))
    }

    fn with<T: Default>(
        &self,
        work: impl FnOnce(&Tables) -> Result<T, KeptError>,
    ) -> Result<T, KeptError> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Kept::Nowhere => Ok(T::default()),
            Kept::Open(tables) => work(tables),
            Kept::Closed => Err(KeptError::Closed),
        }
    }

    /// The fleet and position that were closed last, if they are there and whole.
    pub(super) fn load(&self) -> Result<Option<(Fleet, Position)>, KeptError> {
        self.with(|tables| {
            let Some(applied) = tables.applied()? else { return Ok(None) };
            let position = codec::decode::<PositionRecord>(&applied)?.0;
            let rows = TableName::ALL.iter().copied().flat_map(|table| {
                let rows = tables.scan(Table(table as u8));
                rows.map(move |row| row.map(|(key, value)| Row { table, key, value }))
            });
            let rows = rows.collect::<Result<Vec<Row>, TablesError>>()?;
            let fleet = Fleet::from_rows(rows)?;
            // Another build may have tables that this one would not even look for.
            Formats::default().check(fleet.formats())?;
            Ok(Some((fleet, position)))
        })
    }

    /// Replaces everything, some rows at a time.
    fn replace(tables: &Tables, fleet: &Fleet, position: &Position) -> Result<(), KeptError> {
        tables.wipe()?;
        let applied = codec::encode(&PositionRecord(position.clone()))?;
        let (mut rows, mut written) = (Vec::new(), Ok(()));
        fleet.visit_rows(|row| {
            rows.push((Table(row.table as u8), row.key, Some(row.value)));
            if rows.len() == ROWS_PER_COMMIT && written.is_ok() {
                written = tables.commit(&applied, std::mem::take(&mut rows));
            }
        })?;
        written?;
        Ok(tables.commit(&applied, rows)?)
    }

    /// Writes the fleet as of a position, and makes it durable; what is written afterwards fails.
    pub(super) fn close(&self, fleet: &Fleet, position: &Position) -> Result<(), KeptError> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *kept, Kept::Closed) {
            Kept::Open(tables) => {
                Self::replace(&tables, fleet, position)?;
                Ok(tables.close()?)
            }
            Kept::Nowhere | Kept::Closed => Ok(()),
        }
    }
}
