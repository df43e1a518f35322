//! The fleet as rows, and back. Snapshots and the tables on disk hold the same rows.
//!
//! A snapshot is `magic`, the active version of formats as `u32 LE` and then for each row, in order, `table: u8`, `key length: u32
//! LE`, `key`, `value length: u32 LE`, `value`. Values carry their own versions.

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::fleet::{Fleet, Meta};
use super::formats::{FIRST, NEWEST, OLDEST};
use super::index::Index;
use super::table::{Key, Only, Row, RowError, Table, TableName};
use super::tables::for_each_table;

const MAGIC: &[u8; 8] = b"ncfleet\0";

/// Why bytes are not a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// They do not begin as a snapshot does.
    #[error("these bytes are not a snapshot of a fleet")]
    NotASnapshot,
    /// Another program wrote them.
    #[error(
        "a snapshot with formats of version {found} cannot be read: this build reads {OLDEST} to {NEWEST}"
    )]
    UnknownVersion {
        /// The version in the bytes.
        found: u32,
    },
    /// They end inside a row, or name a table that does not exist.
    #[error("the snapshot is malformed at byte {offset}")]
    Malformed {
        /// Where the row begins.
        offset: usize,
    },
    /// A row cannot be read.
    #[error(transparent)]
    Row(#[from] RowError),
}

impl Fleet {
    /// The fleet as it is now, for whoever encodes it later: rows are shared, indexes are left out.
    pub fn frozen(&self) -> Self {
        let mut frozen = Self { meta: self.meta.clone(), ..Self::default() };
        macro_rules! share {
            ($($(#[$doc:meta])* $number:literal $variant:ident $field:ident ($key:ty => $row:ty),)*) => {
                $(frozen.$field = self.$field.clone();)*
            };
        }
        for_each_table!(share);
        frozen
    }

    /// Gives every row to `visit`, in order.
    ///
    /// # Errors
    /// A row that is too large to be stored.
    pub fn visit_rows(&self, mut visit: impl FnMut(Row)) -> Result<(), RowError> {
        visit(self.meta_row()?);
        macro_rules! visit {
            ($($(#[$doc:meta])* $number:literal $variant:ident $field:ident ($key:ty => $row:ty),)*) => {
                $(self.$field.visit_rows(&mut visit)?;)*
            };
        }
        for_each_table!(visit);
        Ok(())
    }

    fn meta_row(&self) -> Result<Row, RowError> {
        let table = TableName::Meta;
        let value = novacron_protocol::wire::codec::encode(&self.meta)
            .map_err(|source| RowError::Value { table, source })?;
        Ok(Row { table, key: Only.encode(), value })
    }

    /// The fleet that rows describe, in any order.
    ///
    /// # Errors
    /// The first row that cannot be read.
    pub fn from_rows(rows: impl IntoIterator<Item = Row>) -> Result<Self, RowError> {
        let mut fleet = Self::default();
        for row in rows {
            fleet.load_row(&row)?;
        }
        fleet.index = Index::build(&fleet);
        Ok(fleet)
    }

    fn load_row(&mut self, row: &Row) -> Result<(), RowError> {
        let (key, value) = (&row.key, &row.value);
        macro_rules! load {
            ($($(#[$doc:meta])* $number:literal $variant:ident $field:ident ($key:ty => $row:ty),)*) => {
                match row.table {
                    TableName::Meta => self.load_meta(key, value),
                    $(TableName::$variant => self.$field.load(key, value),)*
                }
            };
        }
        for_each_table!(load)
    }

    fn load_meta(&mut self, key: &[u8], value: &[u8]) -> Result<(), RowError> {
        let mut only: Table<Only, Meta> = Table::new(TableName::Meta);
        only.load(key, value)?;
        self.meta = only.get(&Only).cloned().unwrap_or_default();
        Ok(())
    }

    /// The whole fleet as bytes.
    ///
    /// # Errors
    /// A row that is too large to be stored.
    pub fn to_snapshot(&self) -> Result<Vec<u8>, RowError> {
        let version = u32::from(self.meta.formats.max(FIRST).0);
        let mut bytes = [&MAGIC[..], &version.to_le_bytes()].concat();
        self.visit_rows(|row| write_row(&row, |part| bytes.extend_from_slice(part)))?;
        Ok(bytes)
    }

    /// The fleet in a snapshot.
    ///
    /// # Errors
    /// [`SnapshotError`] if the bytes are not a whole snapshot.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(SnapshotError::NotASnapshot)?;
        let (version, mut rest) =
            rest.split_first_chunk::<4>().ok_or(SnapshotError::NotASnapshot)?;
        let found = u32::from_le_bytes(*version);
        if !(u32::from(OLDEST.0)..=u32::from(NEWEST.0)).contains(&found) {
            return Err(SnapshotError::UnknownVersion { found });
        }
        let mut fleet = Self::default();
        while !rest.is_empty() {
            let offset = bytes.len() - rest.len();
            let row = read_row(&mut rest).ok_or(SnapshotError::Malformed { offset })?;
            fleet.load_row(&row)?;
        }
        fleet.index = Index::build(&fleet);
        Ok(fleet)
    }

    /// The [`Fleet::state_hash`] of the fleet in a snapshot.
    pub fn hash_of_snapshot(bytes: &[u8]) -> u128 {
        xxh3_128(bytes.get(MAGIC.len() + 4..).unwrap_or_default())
    }

    /// A hash of every row in order: equal on replicas that agree.
    ///
    /// # Errors
    /// A row that is too large to be stored.
    pub fn state_hash(&self) -> Result<u128, RowError> {
        let mut hash = Xxh3::new();
        self.visit_rows(|row| write_row(&row, |part| hash.update(part)))?;
        Ok(hash.digest128())
    }
}

fn write_row(row: &Row, mut write: impl FnMut(&[u8])) {
    write(&[row.table as u8]);
    for part in [&row.key, &row.value] {
        // Keys are at most 40 bytes and values at most ROW_BYTES_MAX.
        write(&(part.len() as u32).to_le_bytes());
        write(part);
    }
}

fn read_row(rest: &mut &[u8]) -> Option<Row> {
    let (table, after) = rest.split_first()?;
    let table = TableName::ALL.iter().copied().find(|name| *name as u8 == *table)?;
    *rest = after;
    let key = read_part(rest)?;
    let value = read_part(rest)?;
    Some(Row { table, key, value })
}

fn read_part(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (part, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *rest = after;
    Some(part.to_vec())
}
