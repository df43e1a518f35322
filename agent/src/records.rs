//! What the agent remembers across its own death: small typed records by name.
//!
//! | name | what |
//! |---|---|
//! | `vm.<vm>` | a machine: [`crate::vm::VmRecord`] |
//! | `verdict.<migration>` | how a migration ended for its target |
//! | `report.<kind>-<id>` | a report that the coordinators have not committed yet |
//! | `accelerator` | whether KVM runs a kernel here |
//! | `life` | the latest life of the cluster that was met |

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use novacron_protocol::ids::{EffectId, MigrationId, VmId};
use novacron_protocol::wire::codec::{self, CodecError, Message};
use novacron_storage::disk::{Disk, DiskError, RealDisk};
use novacron_storage::record::{RecordError, RecordStore};

/// Why a record cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// The directory cannot be had: another agent uses it, or the system refuses.
    #[error("the data directory {} cannot be used", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: DiskError,
    },
    /// The store.
    #[error("record {name} cannot be read or written")]
    Store {
        /// The record, or what was done with all of them.
        name: String,
        /// The cause.
        #[source]
        source: RecordError,
    },
    /// What the bytes should mean.
    #[error("record {name} is not what this agent writes")]
    Content {
        /// The record.
        name: String,
        /// The cause.
        #[source]
        source: CodecError,
    },
    /// The agent is ending.
    #[error("the agent is ending")]
    Ending,
}

/// The name of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordName {
    /// A machine.
    Vm(VmId),
    /// How a migration ended for its target.
    Verdict(MigrationId),
    /// The outcome of an effect.
    EffectDone(EffectId),
    /// The end of a migration at its source.
    MigrationEnded(MigrationId),
    /// The arrival of a machine at its target.
    HandedOver(MigrationId),
    /// The accelerator's verdict.
    Accelerator,
    /// The latest life of the cluster that was met.
    Life,
}

impl fmt::Display for RecordName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vm(vm) => write!(formatter, "vm.{vm}"),
            Self::Verdict(migration) => write!(formatter, "verdict.{migration}"),
            Self::EffectDone(effect) => write!(formatter, "report.effect-{effect}"),
            Self::MigrationEnded(migration) => write!(formatter, "report.ended-{migration}"),
            Self::HandedOver(migration) => write!(formatter, "report.handover-{migration}"),
            Self::Accelerator => formatter.write_str("accelerator"),
            Self::Life => formatter.write_str("life"),
        }
    }
}

impl RecordName {
    /// The name in a file's name, if it is one of ours.
    fn parse(text: &str) -> Option<Self> {
        match text {
            "accelerator" => return Some(Self::Accelerator),
            "life" => return Some(Self::Life),
            _ => {}
        }
        let after = |prefix| text.strip_prefix(prefix);
        None.or_else(|| after("vm.")?.parse().ok().map(Self::Vm))
            .or_else(|| after("verdict.")?.parse().ok().map(Self::Verdict))
            .or_else(|| after("report.effect-")?.parse().ok().map(EffectId).map(Self::EffectDone))
            .or_else(|| after("report.ended-")?.parse().ok().map(Self::MigrationEnded))
            .or_else(|| after("report.handover-")?.parse().ok().map(Self::HandedOver))
    }
}

/// The records of one agent; clones share them. While one exists, no other agent can use the data directory.
#[derive(Debug, Clone)]
pub struct Records {
    store: Arc<RecordStore>,
    disk: Arc<dyn Disk>,
}

impl Records {
    /// Opens the records of the agent whose data directory this is.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn open(data_directory: &Path) -> Result<Self, RecordsError> {
        let path = data_directory.to_owned();
        let disk =
            RealDisk::open(&path).map_err(|source| RecordsError::Directory { path, source })?;
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let store = RecordStore::open(Arc::clone(&disk), "records")
            .map_err(|source| RecordsError::Store { name: "all".to_owned(), source })?;
        Ok(Self { store: Arc::new(store), disk })
    }

    /// The data directory, for what is no record.
    pub fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.disk)
    }

    /// Writes or replaces a record; durable on return.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub async fn put<M: Message>(&self, name: RecordName, record: &M) -> Result<(), RecordsError> {
        let bytes = codec::encode(record)
            .map_err(|source| RecordsError::Content { name: name.to_string(), source })?;
        self.blocking(name.to_string(), move |store| store.put(&name.to_string(), &bytes)).await
    }

    /// A record, if there is one.
    ///
    /// # Errors
    /// [`RecordsError`], also if it is damaged or of another version.
    pub async fn get<M: Message>(&self, name: RecordName) -> Result<Option<M>, RecordsError> {
        let bytes =
            self.blocking(name.to_string(), move |store| store.get(&name.to_string())).await?;
        let decode = |bytes: bytes::Bytes| codec::decode(&bytes);
        bytes
            .map(decode)
            .transpose()
            .map_err(|source| RecordsError::Content { name: name.to_string(), source })
    }

    /// Removes a record, durably; one that is not there is no error.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub async fn remove(&self, name: RecordName) -> Result<(), RecordsError> {
        self.blocking(name.to_string(), move |store| store.remove(&name.to_string())).await
    }

    /// Names of all records of this agent's kinds.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub async fn names(&self) -> Result<Vec<RecordName>, RecordsError> {
        let names = self.blocking("all".to_owned(), RecordStore::list).await?;
        Ok(names.iter().filter_map(|name| RecordName::parse(name)).collect())
    }

    async fn blocking<T: Send + 'static>(
        &self,
        name: String,
        act: impl FnOnce(&RecordStore) -> Result<T, RecordError> + Send + 'static,
    ) -> Result<T, RecordsError> {
        let store = Arc::clone(&self.store);
        let done = tokio::task::spawn_blocking(move || act(&store)).await;
        done.map_err(|_| RecordsError::Ending)?
            .map_err(|source| RecordsError::Store { name, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_from_files() {
        let id = "6f1c1f2e-0000-4000-8000-000000000001";
        for name in [
            RecordName::Vm(id.parse().unwrap()),
            RecordName::Verdict(id.parse().unwrap()),
            RecordName::EffectDone(EffectId(17)),
            RecordName::MigrationEnded(id.parse().unwrap()),
            RecordName::HandedOver(id.parse().unwrap()),
            RecordName::Accelerator,
            RecordName::Life,
        ] {
            assert_eq!(RecordName::parse(&name.to_string()), Some(name));
        }
        assert_eq!(RecordName::parse("report.other-1"), None);
    }

    #[tokio::test]
    async fn only_one_agent_has_a_data_directory() {
        let directory = tempfile::tempdir().unwrap();
        let records = Records::open(directory.path()).unwrap();
        assert!(matches!(Records::open(directory.path()), Err(RecordsError::Directory { .. })));
        assert_eq!(records.names().await.unwrap(), []);
    }
}
