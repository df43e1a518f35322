//! What has left the fleet's tables, read back from this member's archive.
//!
//! A member that came back with a snapshot has the names and hashes of all of it, but not the contents that were
//! archived while it was away; [`fetch`] has them from the others. Until then, and while a file of the archive is
//! damaged, reading says so: it never answers with less than there is.
//!
//! | module | holds |
//! |---|---|
//! | [`fetch`] | getting what is missing from the other members |
//! | [`renewal`] | encrypting it anew when a key has turned |

pub mod fetch;
pub mod renewal;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use novacron_protocol::api::{Code, Problem};
use novacron_storage::archive::{ArchiveError, ContentHash};
use tokio::sync::Notify;

use crate::raft::DiskWork;
use crate::raft::outgoing::{NotArchived, Outgoing};
use crate::view::FleetCell;

/// Why something of the past cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// There is no such thing.
    #[error("nothing of the name {0:?} was archived")]
    Unknown(String),
    /// It is not here, or damaged; other members are asked for it.
    #[error("{0:?} is not on this coordinator yet; it is being fetched from another, try again")]
    Missing(String),
    /// The archive cannot be used.
    #[error("the archive of this coordinator cannot be read")]
    Archive(#[from] ArchiveError),
    /// What left the tables could not be archived here.
    #[error(transparent)]
    NotArchived(#[from] NotArchived),
    /// The task that uses the disk ended.
    #[error("the task that uses the disk ended")]
    Task(#[from] tokio::task::JoinError),
}

impl HistoryError {
    /// The whole answer of the API.
    pub fn to_problem(&self) -> Problem {
        Problem::new(Code::Unavailable, self.to_string())
    }
}

/// What a member has of what the cluster has archived, as far as it knows.
#[derive(Debug, Clone)]
pub struct Stock {
    /// Files that are here.
    pub files: u64,
    /// What is not, by name.
    pub missing: Vec<(String, ContentHash)>,
    /// How much of that another member may have: the others were not asked for it in vain.
    pub wanted: u64,
}

impl Stock {
    /// Files that are here, or nowhere.
    pub fn settled(&self) -> u64 {
        self.files + self.missing.len() as u64 - self.wanted
    }
}

/// The past. Cheap to clone.
#[derive(Debug, Clone)]
pub struct History {
    outgoing: Outgoing,
    cell: FleetCell,
    work: DiskWork,
    /// Told when something is looked for.
    missed: Arc<Notify>,
    /// What no other member has either, by name.
    nowhere: Arc<Mutex<BTreeSet<String>>>,
}

impl History {
    /// The past of a member.
    pub fn new(outgoing: Outgoing, cell: FleetCell, work: DiskWork) -> Self {
        Self { outgoing, cell, work, missed: Arc::default(), nowhere: Arc::default() }
    }

    /// The content of a name, verified against the hash that the cluster agreed on.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn read(&self, name: &str) -> Result<Vec<u8>, HistoryError> {
        let (history, name) = (self.clone(), name.to_owned());
        self.work.run(move || history.read_here(&name)).await?
    }

    /// The same, on a thread that may wait for the disk.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn read_here(&self, name: &str) -> Result<Vec<u8>, HistoryError> {
        let row = self.cell.look(|fleet| fleet.archived(name).cloned());
        let hash = ContentHash(row.ok_or_else(|| HistoryError::Unknown(name.to_owned()))?.hash);
        match self.outgoing.find(name) {
            Some(departure) => Ok(departure.content.clone()),
            None => self.found(name, self.outgoing.archive().get(name, &hash)),
        }
    }

    fn found(
        &self,
        name: &str,
        read: Result<Option<Vec<u8>>, ArchiveError>,
    ) -> Result<Vec<u8>, HistoryError> {
        match read {
            Ok(Some(content)) => Ok(content),
            Ok(None) => Err(self.miss(name)),
            Err(error) => {
                self.discard_rot(name, error)?;
                Err(self.miss(name))
            }
        }
    }

    /// Removes a file that is of no use; all other errors are the caller's.
    fn discard_rot(&self, name: &str, error: ArchiveError) -> Result<(), ArchiveError> {
        if !error.is_rot() {
            return Err(error);
        }
        let reason = &error as &dyn std::error::Error;
        tracing::error!(name, error = reason, "a file of the archive is damaged: it is replaced");
        self.outgoing.archive().remove(name)
    }

    fn miss(&self, name: &str) -> HistoryError {
        self.hurry();
        HistoryError::Missing(name.to_owned())
    }

    /// A whole file as it is on disk, checked. One that is damaged is had from another member, as for [`Self::read`].
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn whole(&self, name: &str) -> Result<Vec<u8>, HistoryError> {
        self.outgoing.settled().await?;
        let (history, name) = (self.clone(), name.to_owned());
        let read = move || history.found(&name, history.outgoing.archive().get_physical(&name));
        self.work.run(read).await?
    }

    /// A part of a file as it is on disk, for another member. `None` if it is not here, or damaged.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn part(&self, name: &str, offset: u64) -> Result<Option<Vec<u8>>, HistoryError> {
        let (history, name) = (self.clone(), name.to_owned());
        self.work.run(move || history.part_here(&name, offset)).await?
    }

    fn part_here(&self, name: &str, offset: u64) -> Result<Option<Vec<u8>>, HistoryError> {
        match self.outgoing.archive().read_part(name, offset, fetch::PART_BYTES_MAX) {
            Ok(part) => Ok(part),
            Err(error) => {
                self.discard_rot(name, error)?;
                self.hurry();
                Ok(None)
            }
        }
    }

    /// What of the archive is here.
    ///
    /// # Errors
    /// [`HistoryError::Archive`] if the archive cannot be listed.
    pub fn stock(&self) -> Result<Stock, HistoryError> {
        let mut here: BTreeSet<String> = self.outgoing.names().into_iter().collect();
        here.extend(self.outgoing.archive().names()?);
        let (known, missing) = self.cell.look(|fleet| {
            let missing = fleet.archives().filter(|(name, _)| !here.contains(*name));
            let missing = missing.map(|(name, row)| (name.to_owned(), ContentHash(row.hash)));
            (fleet.archives().count(), missing.collect::<Vec<_>>())
        });
        let nowhere = self.nowhere();
        let wanted = missing.iter().filter(|(name, _)| !nowhere.contains(name)).count();
        Ok(Stock { files: (known - missing.len()) as u64, missing, wanted: wanted as u64 })
    }

    /// What is missing is fetched now, rather than in a while.
    pub fn hurry(&self) {
        self.missed.notify_one();
    }

    /// Notes whether a file was had from another member, or that none has it.
    fn note_search(&self, name: &str, is_nowhere: bool) {
        match is_nowhere {
            true => self.nowhere().insert(name.to_owned()),
            false => self.nowhere().remove(name),
        };
    }

    fn nowhere(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.nowhere.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use novacron_storage::cipher::{EncryptedDisk, SALT_BYTES};
    use novacron_storage::disk::{Disk, SimulatedDisk};

    use super::*;
    use crate::at_rest::StorageCipher;
    use crate::raft::machine::Machine;

    /// Whoever asks would wait for it for ever.
    #[tokio::test]
    async fn a_damaged_file_is_none_for_others() {
        let below = SimulatedDisk::new(1);
        let cipher = StorageCipher::drawing([1; 32], || [2; SALT_BYTES]).unwrap();
        let disk = Arc::new(EncryptedDisk::new(Arc::new(below.clone()), Arc::new(cipher)));
        let work = DiskWork::on_threads();
        let machine = Machine::open_without_tables(disk, work.clone()).unwrap();
        let outgoing = machine.outgoing();
        let history = History::new(outgoing.clone(), machine.cell(), work);
        outgoing.archive().put("window-1", &[7; 1000]).unwrap();
        assert!(history.part("window-1", 0).await.unwrap().is_some());
        let directory = Path::new("archive");
        let file = directory.join(&below.list(directory).unwrap()[0]);
        let last = below.open(&file).unwrap().len().unwrap() - 1;
        assert!(below.flip_bit(&file, last, 0));
        assert_eq!(history.part("window-1", 0).await.unwrap(), None);
        assert!(!outgoing.archive().contains("window-1").unwrap(), "it is replaced");
    }
}
