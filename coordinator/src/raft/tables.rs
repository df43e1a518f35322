//! The fleet's rows in sled: a copy that makes the next start quick, trusted only if it was closed.

use std::sync::{Arc, Mutex, PoisonError};

use novacron_protocol::wire::codec::{self, CodecError};
use novacron_storage::tables::{Table, Tables, TablesError};

use super::record::{Position, PositionRecord};
use crate::state::Fleet;
use crate::state::rows::SnapshotError as FleetSnapshotError;
use crate::state::table::{Change, Row, RowError, TableName};

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
            Ok(Some((Fleet::from_rows(rows)?, position)))
        })
    }

    /// Writes what changed together with the position that it led to.
    pub(super) fn commit(
        &self,
        position: &Position,
        changes: Vec<Change>,
    ) -> Result<(), KeptError> {
        let applied = codec::encode(&PositionRecord(position.clone()))?;
        let changes =
            changes.into_iter().map(|change| (Table(change.table as u8), change.key, change.value));
        self.with(|tables| Ok(tables.commit(&applied, changes)?))
    }

    /// Replaces everything.
    pub(super) fn rebuild(&self, fleet: &Fleet, position: &Position) -> Result<(), KeptError> {
        self.with(|tables| Ok(tables.wipe()?))?;
        let mut changes = Vec::new();
        fleet.visit_rows(|row| {
            changes.push(Change { table: row.table, key: row.key, value: Some(row.value) });
        })?;
        self.commit(position, changes)
    }

    /// Makes them durable; what is written afterwards fails.
    pub(super) fn close(&self) -> Result<(), KeptError> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *kept, Kept::Closed) {
            Kept::Open(tables) => Ok(tables.close()?),
            Kept::Nowhere | Kept::Closed => Ok(()),
        }
    }
}
