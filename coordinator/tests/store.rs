//! openraft's own suite for stores, against the real store on a real disk.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;

use novacron_coordinator::raft::TypeConfig;
use novacron_coordinator::raft::log_store::LogStore;
use novacron_coordinator::raft::machine::Machine;
use novacron_storage::disk::{Disk, RealDisk};
use novacron_storage::log::{Log, LogOptions};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{AnyError, StorageError, StorageIOError};
use tempfile::TempDir;

struct Builder;

fn build() -> Result<(TempDir, LogStore, Machine), Box<dyn std::error::Error + Send + Sync>> {
    // Memory, where there is such a thing: the suite is about the calls, `novacron-storage` tests the disk.
    let memory = std::path::Path::new("/dev/shm");
    let directory = if memory.is_dir() { TempDir::new_in(memory)? } else { TempDir::new()? };
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(directory.path())?);
    let log = Log::open(Arc::clone(&disk), "log", LogOptions::default())?;
    let machine = Machine::open(disk, directory.path())?;
    Ok((directory, LogStore::new(log), machine))
}

impl StoreBuilder<TypeConfig, LogStore, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError<u64>> {
        build().map_err(|error| StorageIOError::write(AnyError::error(error)).into())
    }
}

#[test]
fn the_real_store_keeps_openrafts_contract() {
    Suite::test_all(Builder).unwrap();
}
