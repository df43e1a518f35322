//! The state machine: committed entries become changes of the fleet, of its tables on disk, and snapshots.
//!
//! Durable is the log, the last snapshot and the archive of what left the tables. The tables in sled are a copy that is
//! written when the member stops: opened whole and newer than the snapshot, they are used; otherwise the fleet comes from
//! the snapshot and the log after it. So applying waits for no disk, and snapshots wait for history that left the tables
//! (see [`Outgoing`]).

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use novacron_protocol::wire::codec::{self, CodecError};
use novacron_storage::archive::{Archive, ArchiveError};
use novacron_storage::disk::Disk;
use novacron_storage::snapshot::{SnapshotError, SnapshotStore};
use novacron_storage::tables::{Tables, TablesError};
use openraft::storage::RaftStateMachine;
use openraft::{
    AnyError, Entry, EntryPayload, LogId, OptionalSend, RaftSnapshotBuilder, Snapshot,
    SnapshotMeta, StorageError, StorageIOError, StoredMembership,
};

use novacron_protocol::ids::Revision;

use super::backlog::Backlog;
use super::disk_work::DiskWork;
use super::outgoing::{Left, NotArchived, Outgoing};
use super::place::Place;
use super::proposal::ProposalError;
use super::reach::SnapshotReach;
use super::record::{Position, SnapshotMetaRecord};
use super::shelf::Shelf;
use super::tables::{KeptError, KeptTables};
use super::types::{MemberNode, TypeConfig};
use crate::metrics::ApplyMetrics;
use crate::state::{Fleet, Reply};
use crate::view::FleetCell;

/// Where the tables are, below the data directory.
const TABLES_DIRECTORY: &str = "tables";

/// Where the snapshots are, below the data directory.
pub(crate) const SNAPSHOTS_DIRECTORY: &str = "snapshots";

/// Where history is that left the tables, below the data directory.
pub(crate) const ARCHIVE_DIRECTORY: &str = "archive";

/// Why the state machine cannot be opened or closed.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The snapshots cannot be opened or written.
    #[error("the snapshots cannot be used")]
    Snapshots(#[from] SnapshotError),
    /// The archive cannot be opened or written.
    #[error("the archive cannot be used")]
    Archive(#[from] ArchiveError),
    /// History could not be archived.
    #[error(transparent)]
    NotArchived(#[from] NotArchived),
    /// The tables cannot be opened.
    #[error("the tables cannot be used")]
    Tables(#[from] TablesError),
    /// The tables cannot be read or written.
    #[error(transparent)]
    Kept(#[from] KeptError),
    /// The snapshot's description cannot be read or written.
    #[error("the description of a snapshot cannot be used")]
    Description(#[from] CodecError),
    /// The snapshot holds no fleet.
    #[error("the snapshot holds no fleet that can be read")]
    Fleet(#[from] crate::state::rows::SnapshotError),
    /// An entry cannot be read.
    #[error("a committed entry cannot be applied by this build")]
    Entry(#[from] ProposalError),
    /// A row cannot be encoded.
    #[error("a row of the fleet cannot be stored")]
    Row(#[from] crate::state::table::RowError),
    /// The task that uses the disk ended.
    #[error("the task that uses the disk ended")]
    Task(#[from] tokio::task::JoinError),
}

/// Applies entries. Openraft owns one; [`Machine::closer`] closes what it leaves.
#[derive(Debug)]
pub struct Machine {
    cell: FleetCell,
    place: Place,
    tables: KeptTables,
    snapshots: Arc<Shelf>,
    outgoing: Outgoing,
    work: DiskWork,
    metrics: ApplyMetrics,
}

/// Closes the tables once the machine has ended.
#[derive(Debug, Clone)]
pub struct Closer {
    cell: FleetCell,
    place: Place,
    outgoing: Outgoing,
    tables: KeptTables,
}

impl Closer {
    /// Writes the tables and makes them durable, so that the next start finds them; before them what left them.
    ///
    /// # Errors
    /// [`MachineError`]; the next start is slower then, nothing is lost.
    pub fn close(&self) -> Result<(), MachineError> {
        self.outgoing.finish()?;
        match self.place.settled() {
            Some(position) => Ok(self.tables.close(&self.cell.look(Fleet::frozen), &position)?),
            // What was being applied when the disk failed is neither in the fleet as a whole nor out of it.
            None => Ok(()),
        }
    }
}

impl Machine {
    /// Opens what is below `directory`, which is the root of `disk`.
    ///
    /// # Errors
    /// [`MachineError`].
    pub fn open(disk: Arc<dyn Disk>, directory: &Path) -> Result<Self, MachineError> {
        let (tables, distrusted) = Tables::open_or_rebuild(directory.join(TABLES_DIRECTORY))?;
        if let Some(reason) = distrusted {
            tracing::info!(%reason, "the tables are made anew from snapshot and log");
        }
        let tables = KeptTables::new(tables, disk.cipher());
        Self::recovered(disk, tables, DiskWork::on_threads())
    }

    /// Opens the snapshots of `disk` and keeps no tables, which are files of a real disk: each start is as after a
    /// crash.
    ///
    /// # Errors
    /// [`MachineError`].
    pub fn open_without_tables(disk: Arc<dyn Disk>, work: DiskWork) -> Result<Self, MachineError> {
        Self::recovered(disk, KeptTables::nowhere(), work)
    }

    fn recovered(
        disk: Arc<dyn Disk>,
        tables: KeptTables,
        work: DiskWork,
    ) -> Result<Self, MachineError> {
        let archive = Arc::new(Archive::open(Arc::clone(&disk), ARCHIVE_DIRECTORY)?);
        let outgoing = Outgoing::new(archive, work.clone());
        let store = SnapshotStore::open(disk, SNAPSHOTS_DIRECTORY)?;
        let (fleet, position, snapshot_at) = recover(&store, &tables)?;
        let snapshots = Arc::new(Shelf::new(store, snapshot_at));
        let cell = FleetCell::new(fleet, position.index());
        let (place, metrics) = (Place::new(position), ApplyMetrics::default());
        Ok(Self { cell, place, tables, snapshots, outgoing, work, metrics })
    }

    /// The fleet that it changes.
    pub fn cell(&self) -> FleetCell {
        self.cell.clone()
    }

    /// How far its snapshots reach.
    pub fn reach(&self) -> SnapshotReach {
        self.snapshots.reach.clone()
    }

    /// What says when its next snapshot is due.
    pub fn backlog(&self) -> Backlog {
        self.snapshots.backlog.clone()
    }

    /// The way of what leaves the tables, to where it is kept.
    pub fn outgoing(&self) -> Outgoing {
        self.outgoing.clone()
    }

    /// What closes its tables.
    pub fn closer(&self) -> Closer {
        let (cell, place) = (self.cell.clone(), self.place.clone());
        Closer { cell, place, outgoing: self.outgoing.clone(), tables: self.tables.clone() }
    }

    /// How applying goes.
    pub fn metrics(&self) -> ApplyMetrics {
        self.metrics.clone()
    }

    fn apply_entry(
        &mut self,
        entry: Entry<TypeConfig>,
        position: &mut Position,
    ) -> Result<Vec<Reply>, MachineError> {
        let replies = match entry.payload {
            EntryPayload::Blank => Vec::new(),
            EntryPayload::Normal(proposal) => {
                // An entry that this build cannot read must not be skipped: every replica applies all of them.
                let commands = proposal.commands()?;
                self.snapshots.backlog.add(proposal.length_bytes());
                let revision = Revision(entry.log_id.index);
                self.cell.change(|fleet| fleet.apply_all(revision, &commands))
            }
            EntryPayload::Membership(membership) => {
                position.membership = StoredMembership::new(Some(entry.log_id), membership);
                Vec::new()
            }
        };
        position.applied = Some(entry.log_id);
        Ok(replies)
    }

    async fn apply_all(
        &mut self,
        entries: impl IntoIterator<Item = Entry<TypeConfig>>,
    ) -> Result<Vec<Vec<Reply>>, MachineError> {
        let mut position = self.place.unsettle();
        let applied = entries.into_iter().map(|entry| self.apply_entry(entry, &mut position));
        let replies = applied.collect::<Result<_, _>>()?;
        self.outgoing.take(self.cell.change(Fleet::drain_departures)).await?;
        self.cell.announce(position.index());
        self.place.settle(position);
        Ok(replies)
    }

    async fn install(
        &mut self,
        meta: SnapshotMeta<u64, MemberNode>,
        data: Vec<u8>,
    ) -> Result<(), MachineError> {
        let position =
            Position { applied: meta.last_log_id, membership: meta.last_membership.clone() };
        let snapshots = Arc::clone(&self.snapshots);
        let mark = snapshots.backlog.mark();
        // The order of durability: the snapshot before the fleet is seen to be as it says.
        let work = move || -> Result<Fleet, MachineError> {
            let fleet = Fleet::from_snapshot(&data)?;
            snapshots.put(meta, &data, mark)?;
            Ok(fleet)
        };
        let fleet = self.work.run(work).await??;
        self.place.unsettle();
        self.cell.change(|present| *present = fleet);
        self.cell.announce(position.index());
        self.place.settle(position);
        Ok(())
    }
}

/// The newest state that can be trusted, and the index that the last snapshot reaches.
fn recover(
    snapshots: &SnapshotStore,
    tables: &KeptTables,
) -> Result<(Fleet, Position, Option<u64>), MachineError> {
    let snapshot = snapshots.latest()?;
    let described = snapshot.as_ref().map(|snapshot| describe(snapshot.meta())).transpose()?;
    let snapshot_at = described.as_ref().and_then(|meta| meta.last_log_id);
    let snapshot_index = snapshot_at.map(|at| at.index);
    match tables.load() {
        Ok(Some((fleet, position))) if position.applied >= snapshot_at => {
            return Ok((fleet, position, snapshot_index));
        }
        Ok(_) => {}
        Err(reason) => tracing::warn!(%reason, "the tables are made anew from snapshot and log"),
    }
    Ok(match (snapshot, described) {
        (Some(snapshot), Some(meta)) => {
            let position = Position { applied: meta.last_log_id, membership: meta.last_membership };
            (Fleet::from_snapshot(&snapshot.data()?)?, position, snapshot_index)
        }
        _ => (Fleet::default(), Position::default(), None),
    })
}

fn describe(bytes: &[u8]) -> Result<SnapshotMeta<u64, MemberNode>, CodecError> {
    Ok(codec::decode::<SnapshotMetaRecord>(bytes)?.0)
}

fn failed_apply(error: MachineError) -> StorageError<u64> {
    StorageIOError::write_state_machine(AnyError::new(&error)).into()
}

fn failed_snapshot(error: MachineError) -> StorageError<u64> {
    StorageIOError::write_snapshot(None, AnyError::new(&error)).into()
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<u64>>, StoredMembership<u64, MemberNode>), StorageError<u64>> {
        let position = self.place.get();
        Ok((position.applied, position.membership))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Vec<Reply>>, StorageError<u64>>
    where
        I: IntoIterator<Item = Entry<TypeConfig>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let begun = Instant::now();
        let replies = self.apply_all(entries).await.map_err(failed_apply)?;
        self.metrics.applied(replies.len(), begun.elapsed());
        Ok(replies)
    }

    /// Takes the fleet as it is now: nothing is applied before this returns, and what is applied while the copy is
    /// encoded and written does not get into it.
    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            fleet: self.cell.look(Fleet::frozen),
            position: self.place.get(),
            outgoing: self.outgoing.clone(),
            left: self.outgoing.left(),
            mark: self.snapshots.backlog.mark(),
            snapshots: Arc::clone(&self.snapshots),
            work: self.work.clone(),
        }
    }

    async fn begin_receiving_snapshot(
        &mut self,
    ) -> Result<Box<Cursor<Vec<u8>>>, StorageError<u64>> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<u64, MemberNode>,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError<u64>> {
        let installed = self.install(meta.clone(), snapshot.into_inner()).await;
        if installed.is_err() {
            self.snapshots.reach.fail();
        }
        installed.map_err(failed_snapshot)
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<Snapshot<TypeConfig>>, StorageError<u64>> {
        let snapshots = Arc::clone(&self.snapshots);
        let read = self.work.run(move || read_latest(snapshots.store())).await;
        read.map_err(MachineError::from)
            .and_then(|read| read)
            .map_err(|error| StorageIOError::read_snapshot(None, AnyError::new(&error)).into())
    }
}

fn read_latest(snapshots: &SnapshotStore) -> Result<Option<Snapshot<TypeConfig>>, MachineError> {
    let Some(snapshot) = snapshots.latest()? else { return Ok(None) };
    let meta = describe(snapshot.meta())?;
    Ok(Some(Snapshot { meta, snapshot: Box::new(Cursor::new(snapshot.data()?)) }))
}

/// A snapshot that is about to be written.
#[derive(Debug)]
pub struct Builder {
    fleet: Fleet,
    position: Position,
    outgoing: Outgoing,
    /// What is not in the fleet any more.
    left: Left,
    /// How much of the backlog is in the fleet.
    mark: u64,
    snapshots: Arc<Shelf>,
    work: DiskWork,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError<u64>> {
        let (fleet, position) =
            (std::mem::take(&mut self.fleet), std::mem::take(&mut self.position));
        let snapshot_id = position.applied.map_or_else(
            || "empty".to_owned(),
            |applied| format!("{}-{}", applied.leader_id.term, applied.index),
        );
        let meta = SnapshotMeta {
            last_log_id: position.applied,
            last_membership: position.membership,
            snapshot_id,
        };
        let (snapshots, description, mark) = (Arc::clone(&self.snapshots), meta.clone(), self.mark);
        let work = move || -> Result<Vec<u8>, MachineError> {
            let data = fleet.to_snapshot()?;
            snapshots.put(description, &data, mark)?;
            Ok(data)
        };
        // The order of durability: history is in the archive before any snapshot is written that does not hold it.
        self.outgoing.durable(self.left).await.map_err(|error| failed_snapshot(error.into()))?;
        let written = self.work.run(work).await.map_err(MachineError::from);
        let data = written.and_then(|written| written).map_err(failed_snapshot)?;
        Ok(Snapshot { meta, snapshot: Box::new(Cursor::new(data)) })
    }
}
