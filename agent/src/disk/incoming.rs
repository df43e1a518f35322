//! Disks that arrive: the threads of a target and what they write to.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use novacron_protocol::disk::DiskContent;
use novacron_protocol::session::message::DiskOffer;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::DiskError;
use super::disk_in::DiskIn;
use super::flusher::{FlushTrigger, Flusher};
use super::held::{Held, read};
use super::nbd::{ClientError, NbdClient};
use crate::migrate::relay::Inlet;
use crate::qmp::Qmp;
use crate::reason::reason;
use crate::vm::{Extents, disk_node};

/// What the threads have to say.
#[derive(Debug)]
pub enum DiskEvent {
    /// A disk's stream or writing it failed.
    Failed {
        /// For a person.
        reason: String,
    },
}

/// The disks of one migration on their way in. Dropping it ends the threads.
#[derive(Debug)]
pub struct IncomingDisks {
    qmp: Qmp,
    disks: Vec<Incoming>,
    records_applied: Arc<AtomicU64>,
    events: mpsc::Sender<DiskEvent>,
    stop: CancellationToken,
}

/// Where a disk stands.
#[derive(Debug)]
enum Incoming {
    /// Its stream has not come.
    Awaited(Box<Held>),
    /// A thread applies it.
    Arriving(oneshot::Receiver<Result<[u8; 16], String>>, FlushTrigger),
    /// All of it is there.
    Applied([u8; 16]),
    /// It will not be there.
    Failed(String),
}

/// What the disks of a target are.
#[derive(Debug)]
pub struct DisksPlan {
    /// Where sockets may be put.
    pub run_directory: PathBuf,
    /// What the source says.
    pub disks: Vec<DiskOffer>,
    /// Where each holds anything, in the same order; what is missing holds nothing.
    pub held: Vec<Extents>,
    /// Seed of the blocks' hashes.
    pub hash_seed: u64,
}

impl IncomingDisks {
    /// Exports the nodes `disk0`, `disk1`, … of the target's QEMU, connects to them and reads what they hold, which may
    /// take as long as reading a disk takes. QEMU must wait for a migration (`-incoming`): the guest's own devices would
    /// not let anybody else write.
    ///
    /// # Errors
    /// [`DiskError`]; exports may be left in the QEMU, which is of no use then.
    pub async fn begin(
        qmp: &Qmp,
        plan: DisksPlan,
    ) -> Result<(Self, mpsc::Receiver<DiskEvent>), DiskError> {
        // Each disk says at most one thing.
        let (events, receiver) = mpsc::channel(plan.disks.len().max(1));
        let mut incoming = Self {
            qmp: qmp.clone(),
            disks: Vec::with_capacity(plan.disks.len()),
            records_applied: Arc::default(),
            events,
            stop: CancellationToken::new(),
        };
        if !plan.disks.is_empty() {
            incoming.export(&plan).await?;
        }
        Ok((incoming, receiver))
    }

    async fn export(&mut self, plan: &DisksPlan) -> Result<(), DiskError> {
        let socket = &plan.run_directory.join("x.sock");
        let _ = std::fs::remove_file(socket);
        let started = self.qmp.nbd_server_start(socket).await;
        started.map_err(DiskError::qemu("start its NBD server"))?;
        for (disk, offer) in plan.disks.iter().enumerate() {
            let node = disk_node(disk);
            let exported = self.qmp.block_export_add(&node, &node).await;
            exported.map_err(DiskError::qemu("export a disk"))?;
            let unusable = |source| DiskError::Export { disk, source };
            let client = connect(socket, node.clone()).await.map_err(unusable)?;
            let flushes = connect(socket, node).await.map_err(unusable)?;
            let flusher = Flusher::start(flushes, disk);
            let flusher = flusher.map_err(|source| DiskError::Thread { disk, source })?;
            let (here_bytes, offered_bytes) = (client.size_bytes(), offer.size_bytes);
            if here_bytes != offered_bytes {
                return Err(DiskError::OtherSize { disk, here_bytes, offered_bytes });
            }
            let content = DiskContent::new(here_bytes, plan.hash_seed)?;
            let extents = plan.held.get(disk).cloned().unwrap_or_default();
            let held = read(Held { client, flusher, content }, extents, self.stop.clone()).await;
            let held = held.map_err(unusable)?;
            self.disks.push(Incoming::Awaited(Box::new(held)));
        }
        Ok(())
    }

    /// What the disks hold whose streams have not come, for the source; with their numbers, in pieces.
    pub fn pieces(&self) -> impl Iterator<Item = (u16, Vec<u8>)> {
        let of_disk = |(disk, incoming): (u16, &'_ Incoming)| match incoming {
            Incoming::Awaited(held) => {
                held.content.pieces().map(|piece| (disk, piece)).collect::<Vec<_>>()
            }
            _ => Vec::new(),
        };
        (0..).zip(&self.disks).flat_map(of_disk)
    }

    /// A disk's stream arrived.
    ///
    /// # Errors
    /// [`DiskError::UnexpectedStream`] if it was not offered or came before, and what else may fail.
    pub fn add_disk(&mut self, disk: u16, stream: Inlet) -> Result<(), DiskError> {
        let unexpected = DiskError::UnexpectedStream { disk };
        let disk = usize::from(disk);
        let (outcome, arriving) = oneshot::channel();
        let Some(Incoming::Awaited(held)) = self.disks.get(disk) else { return Err(unexpected) };
        let arriving = Incoming::Arriving(arriving, held.flusher.trigger());
        let Incoming::Awaited(held) = std::mem::replace(&mut self.disks[disk], arriving) else {
            return Err(unexpected);
        };
        let Held { client, flusher, content } = *held;
        let disk_in = DiskIn {
            stream,
            content,
            client,
            flusher,
            runtime: Handle::current(),
            stop: self.stop.clone(),
            records_applied: Arc::clone(&self.records_applied),
        };
        let events = self.events.clone();
        let body = move || {
            let ended = disk_in.run().map_err(|error| reason(&error));
            if let Err(reason) = &ended {
                // There is room for what every disk has to say; without a reader nobody misses it.
                let _ = events.try_send(DiskEvent::Failed { reason: reason.clone() });
            }
            let _ = outcome.send(ended);
        };
        let thread = std::thread::Builder::new().name(format!("disk-in-{disk}")).spawn(body);
        // It ends with its stream, and holds nothing but the connection to QEMU.
        thread.map(drop).map_err(|source| DiskError::Thread { disk, source })
    }

    /// Whether the streams of all disks have come.
    pub fn have_begun(&self) -> bool {
        !self.disks.iter().any(|disk| matches!(disk, Incoming::Awaited(_)))
    }

    /// All of the disks has been copied once: what has arrived is made durable while the guest still runs.
    pub fn make_durable(&self) {
        for disk in &self.disks {
            if let Incoming::Arriving(_, trigger) = disk {
                trigger.flush();
            }
        }
    }

    /// Returns once all streams have ended and everything is durable in the disks, which are QEMU's alone from then
    /// on; with the digest of each disk as it was applied. Waits as long as the streams live. Cancel-safe.
    ///
    /// # Errors
    /// [`DiskError`]: the disks are not what the source sent.
    pub async fn finish(&mut self) -> Result<Vec<[u8; 16]>, DiskError> {
        let mut digests = Vec::with_capacity(self.disks.len());
        for (disk, incoming) in self.disks.iter_mut().enumerate() {
            digests.push(incoming.applied(disk).await?);
        }
        if !digests.is_empty() {
            // Ends the exports too.
            let stopped = self.qmp.nbd_server_stop().await;
            stopped.map_err(DiskError::qemu("stop its NBD server"))?;
        }
        Ok(digests)
    }

    /// Records applied so far, all disks together.
    pub fn records_applied(&self) -> u64 {
        self.records_applied.load(Ordering::Relaxed)
    }
}

impl Incoming {
    async fn applied(&mut self, disk: usize) -> Result<[u8; 16], DiskError> {
        if let Self::Arriving(outcome, _) = self {
            *self = match outcome.await {
                Ok(Ok(digest)) => Self::Applied(digest),
                Ok(Err(reason)) => Self::Failed(reason),
                Err(_) => Self::Failed("its thread died".to_owned()),
            };
        }
        match self {
            Self::Applied(digest) => Ok(*digest),
            Self::Failed(reason) => Err(DiskError::Failed { disk, reason: reason.clone() }),
            Self::Awaited(_) | Self::Arriving(..) => Err(DiskError::NoStream { disk }),
        }
    }
}

impl Drop for IncomingDisks {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Connecting blocks, for as long as QEMU's main loop does not take the connection.
async fn connect(socket: &Path, export: String) -> Result<NbdClient<UnixStream>, ClientError> {
    let socket = socket.to_owned();
    let connecting = tokio::task::spawn_blocking(move || NbdClient::connect(&socket, &export));
    connecting.await.unwrap_or_else(|error| Err(std::io::Error::other(error).into()))
}
