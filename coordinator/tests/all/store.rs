//! openraft's own suite for stores, against the real store on a real disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::secrets::files_with;
use crate::support::spec::spec;
use novacron_coordinator::at_rest::StorageCipher;
use novacron_coordinator::clock::{new_request, new_uuid};
use novacron_coordinator::raft::log_store::LogStore;
use novacron_coordinator::raft::machine::Machine;
use novacron_coordinator::raft::proposal::{EncodedCommand, Proposal};
use novacron_coordinator::raft::{DiskWork, TypeConfig};
use novacron_coordinator::state::command::{CreateVm, Placement};
use novacron_coordinator::state::{Body, Command};
use novacron_protocol::ids::VmId;
use novacron_protocol::time::Timestamp;
use novacron_storage::cipher::EncryptedDisk;
use novacron_storage::disk::{Disk, RealDisk};
use novacron_storage::log::{Log, LogOptions};
use novacron_vault::VaultKey;
use openraft::storage::RaftStateMachine;
use openraft::testing::{StoreBuilder, Suite};
use openraft::{
    AnyError, CommittedLeaderId, Entry, EntryPayload, LogId, RaftSnapshotBuilder, StorageError,
    StorageIOError,
};
use tempfile::TempDir;

struct Builder;

fn build() -> Result<(TempDir, LogStore, Machine), Box<dyn std::error::Error + Send + Sync>> {
    // Memory, where there is such a thing: the suite is about the calls, `novacron-storage` tests the disk.
    let memory = Path::new("/dev/shm");
    let directory = if memory.is_dir() { TempDir::new_in(memory)? } else { TempDir::new()? };
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(directory.path())?);
    let log = Log::open(Arc::clone(&disk), "log", LogOptions::default())?;
    let machine = Machine::open(disk, directory.path())?;
    Ok((directory, LogStore::new(log, DiskWork::on_threads()), machine))
}

impl StoreBuilder<TypeConfig, LogStore, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError<u64>> {
        build().map_err(|error| StorageIOError::write(AnyError::error(error)).into())
    }
}

/// Machines that were created, one entry each.
async fn apply(machine: &mut Machine, indexes: std::ops::RangeInclusive<u64>) {
    let entry = |index: u64| {
        let at = Timestamp::from_unix_ms(1_790_000_000_000 + index);
        let placement = Placement::Nowhere { reason: "a test".to_owned() };
        let spec = spec(&format!("vm-{index}"));
        let vm = VmId(new_uuid(at));
        let create = CreateVm { vm, spec, requested_node: None, placement, start: false };
        let command = Command::of_cluster(new_request(at), at, Body::CreateVm(create));
        let proposal = Proposal::new(&[EncodedCommand::new(&command).unwrap()]);
        let log_id = LogId::new(CommittedLeaderId::new(1, 1), index);
        Entry { log_id, payload: EntryPayload::Normal(proposal) }
    };
    let replies = machine.apply(indexes.map(entry)).await.unwrap();
    assert!(replies.iter().flatten().all(Result::is_ok));
}

fn hash(machine: &Machine) -> u128 {
    machine.cell().look(|fleet| fleet.state_hash().unwrap())
}

struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: TempDir::new().unwrap() }
    }

    fn open(&self) -> Machine {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(self.directory.path()).unwrap());
        Machine::open(disk, self.directory.path()).unwrap()
    }

    /// The same, encrypted.
    fn open_with(&self, keys: &[u8]) -> Machine {
        let disk = Arc::new(RealDisk::open(self.directory.path()).unwrap());
        let keys = keys.iter().map(|number| VaultKey::from_bytes([*number; 32]));
        let cipher = StorageCipher::new(keys.collect()).unwrap();
        let disk = EncryptedDisk::new(disk, Arc::new(cipher));
        Machine::open(Arc::new(disk), self.directory.path()).unwrap()
    }
}

async fn applied(machine: &mut Machine) -> Option<u64> {
    machine.applied_state().await.unwrap().0.map(|applied| applied.index)
}

#[tokio::test]
async fn closed_tables_are_found_again() {
    let place = Place::new();
    let mut machine = place.open();
    apply(&mut machine, 1..=5).await;
    let before = hash(&machine);
    machine.closer().close().unwrap();
    drop(machine);
    let mut machine = place.open();
    assert_eq!(applied(&mut machine).await, Some(5));
    assert_eq!(hash(&machine), before);
}

#[tokio::test]
async fn encrypted_tables_are_found_again_with_their_key_and_are_nothing_without() {
    let place = Place::new();
    let mut machine = place.open_with(&[1]);
    apply(&mut machine, 1..=5).await;
    let before = hash(&machine);
    machine.closer().close().unwrap();
    drop(machine);
    let tables = place.directory.path().join("tables");
    assert_eq!(files_with(&tables, "vm-3").0, [""; 0]);
    let mut machine = place.open_with(&[2, 1]);
    assert_eq!(applied(&mut machine).await, Some(5));
    assert_eq!(hash(&machine), before);
    machine.closer().close().unwrap();
    drop(machine);
    // They are a copy: the log has all of it.
    assert_eq!(applied(&mut place.open_with(&[1])).await, None, "they moved to the newest key");

    let place = Place::new();
    let mut machine = place.open();
    apply(&mut machine, 1..=5).await;
    machine.closer().close().unwrap();
    drop(machine);
    assert_ne!(files_with(&place.directory.path().join("tables"), "vm-3").0, [""; 0]);
    assert_eq!(applied(&mut place.open_with(&[1])).await, None);
}

#[tokio::test]
async fn after_a_crash_the_snapshot_counts_and_the_tables_are_made_anew() {
    let place = Place::new();
    let mut machine = place.open();
    apply(&mut machine, 1..=5).await;
    let at_snapshot = hash(&machine);
    machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    apply(&mut machine, 6..=9).await;
    drop(machine);
    let mut machine = place.open();
    assert_eq!(applied(&mut machine).await, Some(5), "the log has the rest");
    assert_eq!(hash(&machine), at_snapshot);
    apply(&mut machine, 6..=9).await;
    machine.closer().close().unwrap();
    drop(machine);
    assert_eq!(applied(&mut place.open()).await, Some(9), "tables newer than the snapshot");
}

#[tokio::test]
async fn a_snapshot_that_is_written_late_does_not_replace_a_later_one() {
    let place = Place::new();
    let mut machine = place.open();
    apply(&mut machine, 1..=5).await;
    let mut late = machine.get_snapshot_builder().await;
    apply(&mut machine, 6..=9).await;
    machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    late.build_snapshot().await.unwrap();
    drop((machine, late));
    assert_eq!(applied(&mut place.open()).await, Some(9), "the log may be gone up to there");
}

#[tokio::test]
async fn damaged_tables_are_made_anew_and_a_damaged_snapshot_is_refused() {
    let place = Place::new();
    let mut machine = place.open();
    apply(&mut machine, 1..=5).await;
    let at_snapshot = hash(&machine);
    machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    machine.closer().close().unwrap();
    drop(machine);
    damage(&largest_file(&place.directory.path().join("tables")));
    let machine = place.open();
    assert_eq!(hash(&machine), at_snapshot);
    drop(machine);

    let snapshot = largest_file(&place.directory.path().join("snapshots"));
    damage(&snapshot);
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(place.directory.path()).unwrap());
    let error = Machine::open(disk, place.directory.path()).unwrap_err();
    let text = format!("{:#}", anyhow::Error::from(error));
    assert!(text.contains(snapshot.to_str().unwrap()) && text.contains("offset"), "{text}");
}

fn largest_file(directory: &Path) -> PathBuf {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { directories.push(path) } else { files.push(path) }
        }
    }
    files.into_iter().max_by_key(|file| file.metadata().unwrap().len()).unwrap()
}

fn damage(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn the_real_store_keeps_openrafts_contract() {
    Suite::test_all(Builder).unwrap();
}
