//! Ordered tables whose copies share their rows: a snapshot is of a copy that was made in a moment, and is encoded
//! while commands go on being applied.

use std::collections::BTreeMap;
use std::ops::RangeBounds;
use std::sync::Arc;

use novacron_protocol::ids::{
    AlertId, ApiKeyId, BatchId, BindingId, EffectId, MemberId, MigrationId, NetworkName, NodeName,
    ProjectName, RegionCode, RequestId, SnapshotId, VmId,
};
use novacron_protocol::wire::codec::{self, CodecError, Message};
use uuid::Uuid;

use super::command::COMMAND_BYTES_MAX;
use super::tables::for_each_table;

/// Bytes of one row: more than any one command can put into it, so that storing what was applied never fails.
/// (A machine with the largest specification is 64 KiB.)
pub const ROW_BYTES_MAX: usize = 2 * COMMAND_BYTES_MAX;

macro_rules! table_names {
    ($($(#[$doc:meta])* $number:literal $variant:ident $field:ident ($key:ty => $row:ty),)*) => {
        /// Names of the tables, in the order in which snapshots hold them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum TableName {
            /// The fleet's own numbers: one row.
            Meta = 0,
            $($(#[$doc])* $variant = $number,)*
        }

        impl TableName {
            /// All tables, in order.
            pub const ALL: &[Self] = &[Self::Meta, $(Self::$variant,)*];

            /// The name on disk.
            pub fn as_str(self) -> &'static str {
                match self {
                    Self::Meta => "meta",
                    $(Self::$variant => stringify!($field),)*
                }
            }
        }
    };
}

for_each_table!(table_names);

/// One row as it is kept on disk and in snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The table.
    pub table: TableName,
    /// The key; keys order as their bytes do.
    pub key: Vec<u8>,
    /// The encoded value.
    pub value: Vec<u8>,
}

/// A row that does not hold what its table needs.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// The key is not one of this table.
    #[error("a row of table `{}` has a malformed key of {bytes} bytes", table.as_str())]
    Key {
        /// The table.
        table: TableName,
        /// Length of the key.
        bytes: usize,
    },
    /// The value cannot be encoded or decoded.
    #[error("a row of table `{}` is not readable or too large", table.as_str())]
    Value {
        /// The table.
        table: TableName,
        /// What the codec said.
        #[source]
        source: CodecError,
    },
}

/// A key of a table. The order of the encoded bytes is the order of the keys.
pub trait Key: Ord + Clone {
    /// The key's bytes.
    fn encode(&self) -> Vec<u8>;
    /// The key in `bytes`.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

/// A table in memory. Cloning it copies keys only; a row is copied when it is changed while a clone has it too.
#[derive(Debug, Clone)]
pub struct Table<K, V> {
    name: TableName,
    rows: BTreeMap<K, Arc<V>>,
}

impl<K: Key, V: Message + Clone> Table<K, V> {
    /// An empty table.
    pub fn new(name: TableName) -> Self {
        Self { name, rows: BTreeMap::new() }
    }

    /// The row of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.rows.get(key).map(Arc::as_ref)
    }

    /// All rows in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.rows.iter().map(|(key, row)| (key, row.as_ref()))
    }

    /// All values in order of their keys.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.rows.values().map(Arc::as_ref)
    }

    /// The rows whose keys are in a range.
    pub fn range(&self, range: impl RangeBounds<K>) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.rows.range(range).map(|(key, row)| (key, row.as_ref()))
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The key of the first row.
    pub fn first_key(&self) -> Option<&K> {
        self.rows.first_key_value().map(|(key, _)| key)
    }

    /// Puts a row.
    pub fn insert(&mut self, key: K, value: V) {
        self.rows.insert(key, Arc::new(value));
    }

    /// Takes a row out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.rows.remove(key).map(Arc::unwrap_or_clone)
    }

    /// Takes the first row out.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        let (key, row) = self.rows.pop_first()?;
        Some((key, Arc::unwrap_or_clone(row)))
    }

    /// Changes a row in place.
    pub fn update<R>(&mut self, key: &K, change: impl FnOnce(&mut V) -> R) -> Option<R> {
        self.rows.get_mut(key).map(|row| change(Arc::make_mut(row)))
    }

    /// Gives every row to `visit`, in order.
    pub(super) fn visit_rows(&self, visit: &mut impl FnMut(Row)) -> Result<(), RowError> {
        for (key, value) in &self.rows {
            visit(Row { table: self.name, key: key.encode(), value: self.encode_value(value)? });
        }
        Ok(())
    }

    /// Takes a row that was stored.
    pub(super) fn load(&mut self, key: &[u8], value: &[u8]) -> Result<(), RowError> {
        let table = self.name;
        let key = K::decode(key).ok_or(RowError::Key { table, bytes: key.len() })?;
        let value = codec::decode(value).map_err(|source| RowError::Value { table, source })?;
        self.rows.insert(key, Arc::new(value));
        Ok(())
    }

    fn encode_value(&self, value: &V) -> Result<Vec<u8>, RowError> {
        codec::encode(value).map_err(|source| RowError::Value { table: self.name, source })
    }
}

macro_rules! uuid_key {
    ($($name:ty),*) => {$(
        impl Key for $name {
            fn encode(&self) -> Vec<u8> {
                self.0.as_bytes().to_vec()
            }

            fn decode(bytes: &[u8]) -> Option<Self> {
                Uuid::from_slice(bytes).ok().map(Self)
            }
        }
    )*};
}

macro_rules! number_key {
    ($($name:ty),*) => {$(
        impl Key for $name {
            fn encode(&self) -> Vec<u8> {
                self.0.to_be_bytes().to_vec()
            }

            fn decode(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(|bytes| Self(u64::from_be_bytes(bytes)))
            }
        }
    )*};
}

uuid_key!(AlertId, VmId, MigrationId, BatchId, RequestId, BindingId, ApiKeyId, SnapshotId);
number_key!(EffectId, MemberId);

macro_rules! name_key {
    ($($name:ty),*) => {$(
        impl Key for $name {
            fn encode(&self) -> Vec<u8> {
                self.as_str().as_bytes().to_vec()
            }

            fn decode(bytes: &[u8]) -> Option<Self> {
                std::str::from_utf8(bytes).ok()?.parse().ok()
            }
        }
    )*};
}

name_key!(NodeName, ProjectName, RegionCode, NetworkName);

/// The key of a table with one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Only;

impl Key for Only {
    fn encode(&self) -> Vec<u8> {
        vec![0]
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        (bytes == [0]).then_some(Self)
    }
}
