//! Disks that leave: the mirrors of a source, their threads, and what becomes of them.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use novacron_protocol::disk::{DiskContent, RECORD_BYTES_MAX, RecordEncoder};
use novacron_protocol::session::message::StreamHeader;

use super::DiskError;
use super::counters::DiskCounters;
use super::disk_out::{DiskOut, Recorder};
use super::follow::{Shared, close_when_over, follow_jobs};
use super::mirror::{Mirror, Occurrence, all};
use super::nbd::Export;
use super::nodes::{client_node, mirror_job, mirror_name, mirrored_disk, remove_mirrors};
use super::socket::MirrorSocket;
use crate::migrate::memory::level::LevelControl;
use crate::migrate::memory::pace::{LaneClock, Pace};
use crate::migrate::relay::{Outlet, Outlets};
use crate::qmp::{Qmp, QmpError};
use crate::reason::reason;
use crate::vm::disk_node;

/// How long the last writes may take while the guest stands still. Longer than any downtime that somebody would
/// accept: whoever waits has a shorter deadline of his own.
const COMPLETE_DEADLINE: Duration = Duration::from_secs(60);

/// How long cleaning up may take. A QEMU that has not answered by then has other troubles.
const ABANDON_DEADLINE: Duration = Duration::from_secs(20);

/// How much of the disks is copied, as QEMU counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskProgress {
    /// Bytes copied.
    pub done_bytes: u64,
    /// Bytes to copy: what is allocated at the source; grows while the guest writes.
    pub total_bytes: u64,
}

/// The disks of one migration on their way out.
///
/// Everything of it in QEMU is called `mirror<i>`. Whoever gives up calls [`Self::abandon`]; dropping it only makes
/// the jobs fail and leaves their nodes to the next [`Self::start`].
pub struct OutgoingDisks {
    qmp: Qmp,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for OutgoingDisks {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mirrors = self.shared.mirrors.borrow();
        formatter.debug_struct("OutgoingDisks").field("mirrors", &*mirrors).finish_non_exhaustive()
    }
}

/// What all disks of a migration have in common.
#[derive(Debug, Clone, Copy)]
pub struct Route<'a> {
    /// Where sockets may be put.
    pub run_directory: &'a Path,
    /// For how long the link may be away.
    pub link_patience: Duration,
    /// zstd's level at first; it follows the link from there.
    pub compression_level: i32,
    /// Percent of one processor that hashing and compressing all of them may take.
    pub processor_percent_max: u64,
}

impl OutgoingDisks {
    /// Begins to mirror the nodes `disk0`, `disk1`, … of the source's QEMU, each over a stream of its own; `disks` is what
    /// the target's disks hold.
    ///
    /// # Errors
    /// [`DiskError`]; nothing is left in QEMU then.
    pub async fn start(
        qmp: &Qmp,
        disks: Vec<DiskContent>,
        route: Route<'_>,
        outlets: &mut Outlets,
    ) -> Result<Self, DiskError> {
        let bytes_total = disks.iter().map(DiskContent::size_bytes).fold(0, u64::saturating_add);
        let bytes_held = disks.iter().map(DiskContent::held_bytes).fold(0, u64::saturating_add);
        let shared = Shared::new(disks.len(), DiskCounters::new(bytes_total, bytes_held));
        let outgoing = Self { qmp: qmp.clone(), shared: Arc::new(shared) };
        match outgoing.start_all(disks, route, outlets).await {
            Ok(()) => Ok(outgoing),
            Err(error) => {
                outgoing.abandon().await;
                Err(error)
            }
        }
    }

    async fn start_all(
        &self,
        disks: Vec<DiskContent>,
        route: Route<'_>,
        outlets: &mut Outlets,
    ) -> Result<(), DiskError> {
        let count = disks.len();
        // Of an agent that died in the middle.
        remove_mirrors(&self.qmp).await.map_err(DiskError::qemu("remove old mirrors"))?;
        let events = self.qmp.events();
        tokio::spawn(follow_jobs(self.qmp.clone(), events, Arc::clone(&self.shared)));
        let control = LevelControl::new(route.compression_level, route.processor_percent_max);
        let pace = Arc::new(Pace::new(control));
        for (disk, content) in disks.into_iter().enumerate() {
            // A machine has at most DISKS_MAX = 16.
            let header = StreamHeader::Disk { disk: disk as u16 };
            let outlet = outlets.open(header, RECORD_BYTES_MAX);
            let recorder = self.recorder(content, route, outlet, &pace)?;
            self.connect_disk(disk, route, recorder).await?;
        }
        self.start_jobs(count).await
    }

    /// All nodes are there, and all jobs begin before any goes at full speed: whatever changes QEMU's block graph waits
    /// for the writes that are in flight, and hears no command meanwhile.
    async fn start_jobs(&self, disks: usize) -> Result<(), DiskError> {
        for disk in 0..disks {
            let started = self.qmp.blockdev_mirror_with(mirror_job(disk)).await;
            started.map_err(DiskError::qemu("mirror a disk"))?;
        }
        for disk in 0..disks {
            match self.qmp.block_job_set_speed(&mirror_name(disk), 0).await {
                // It failed already, of which its event tells.
                Ok(()) | Err(QmpError::Refused { .. }) => (),
                Err(error) => return Err(DiskError::qemu("let a mirror go")(error)),
            }
        }
        Ok(())
    }

    fn recorder(
        &self,
        content: DiskContent,
        route: Route<'_>,
        outlet: Outlet,
        pace: &Arc<Pace>,
    ) -> Result<Recorder, DiskError> {
        Ok(Recorder {
            content,
            outlet,
            link_patience: route.link_patience,
            counters: Arc::clone(&self.shared.counters),
            encoder: RecordEncoder::new(pace.first_compression())?,
            pace: Arc::clone(pace),
            clock: LaneClock::start(),
        })
    }

    async fn connect_disk(
        &self,
        disk: usize,
        route: Route<'_>,
        recorder: Recorder,
    ) -> Result<(), DiskError> {
        let size_bytes = recorder.content.size_bytes();
        let export = Export { name: disk_node(disk), size_bytes };

        let socket = MirrorSocket::bind(&route.run_directory.join(format!("d{disk}.sock")))?;
        let node = client_node(disk, socket.path());
        let connect = async {
            let added = self.qmp.blockdev_add(node).await;
            added.map_err(DiskError::qemu("connect its mirror to the agent"))
        };
        // The command ends only when somebody has taken QEMU's connection and shaken hands.
        let serve = async {
            let socket = socket.accept().await?;
            self.serve(disk, socket, export, recorder)
        };
        tokio::try_join!(connect, serve).map(drop)
    }

    /// Starts the thread of a disk, and the task that closes its socket in time.
    fn serve(
        &self,
        disk: usize,
        socket: UnixStream,
        export: Export,
        recorder: Recorder,
    ) -> Result<(), DiskError> {
        let no_thread = |source| DiskError::Thread { disk, source };
        let copy = socket.try_clone().map_err(no_thread)?;
        tokio::spawn(close_when_over(copy, self.shared.stop.clone()));
        let disk_out = DiskOut { socket, export, recorder };
        let shared = Arc::clone(&self.shared);
        let body = move || match disk_out.run() {
            Ok(digest) => shared.happened(disk, Occurrence::StreamEnded(digest)),
            Err(error) => shared.happened(disk, Occurrence::Failed(reason(&error))),
        };
        let thread = std::thread::Builder::new().name(format!("disk-out-{disk}")).spawn(body);
        // It ends with its socket, and holds nothing but the stream.
        thread.map(drop).map_err(no_thread)
    }

    /// Returns once everything has been copied once and is kept in step. Cancel-safe.
    ///
    /// # Errors
    /// [`DiskError::Failed`] as soon as one disk fails.
    pub async fn wait_ready(&self) -> Result<(), DiskError> {
        self.wait(|mirror| *mirror != Mirror::Copying).await
    }

    /// Returns why, as soon as one disk fails; `None` once the mirrors have ended. Cancel-safe.
    pub async fn failure(&self) -> Option<DiskError> {
        tokio::select! {
            biased;
            () = self.shared.stop.cancelled() => None,
            failed = self.wait(|_| false) => failed.err(),
        }
    }

    /// Hands over the last writes and ends the mirrors and streams. The guest must be stopped, and all disks ready.
    /// Returns the digest of each disk.
    ///
    /// # Errors
    /// [`DiskError`]; the disks may not be equal then, and are to be abandoned.
    pub async fn complete(&self) -> Result<Vec<[u8; 16]>, DiskError> {
        let what = "end its mirrors";
        let completed = tokio::time::timeout(COMPLETE_DEADLINE, self.end_mirrors()).await;
        let seconds = COMPLETE_DEADLINE.as_secs();
        completed.map_err(|_| DiskError::Deadline { what, seconds })??;
        self.shared.stop.cancel();
        Ok(self.digests())
    }

    async fn end_mirrors(&self) -> Result<(), DiskError> {
        let disks = self.require_ready()?;
        for disk in 0..disks {
            // Without force, a mirror that is ready ends when both sides are equal.
            let ended = self.qmp.block_job_cancel(&mirror_name(disk), false).await;
            ended.map_err(DiskError::qemu("complete a mirror"))?;
        }
        self.wait(|mirror| matches!(mirror, Mirror::Ended | Mirror::Sent(_))).await?;
        for disk in 0..disks {
            let removed = self.qmp.blockdev_del(&mirror_name(disk)).await;
            removed.map_err(DiskError::qemu("remove a mirror's node"))?;
        }
        self.wait(|mirror| matches!(mirror, Mirror::Sent(_))).await
    }

    /// The number of disks.
    fn require_ready(&self) -> Result<usize, DiskError> {
        let mirrors = self.shared.mirrors.borrow();
        all(&mirrors, |_| true)?;
        let behind = mirrors.iter().position(|mirror| *mirror == Mirror::Copying);
        behind.map_or(Ok(mirrors.len()), |disk| Err(DiskError::NotReady { disk }))
    }

    fn digests(&self) -> Vec<[u8; 16]> {
        let digest = |mirror: &Mirror| match mirror {
            Mirror::Sent(digest) => Some(*digest),
            _ => None,
        };
        self.shared.mirrors.borrow().iter().filter_map(digest).collect()
    }

    /// Closes the sockets, so that QEMU and the threads stop waiting; the mirrors fail. [`Self::abandon`] removes them.
    /// Outlets are to be ended before: a thread that waits for the target holds its socket, and one that is only shut
    /// down does not wake a QEMU that waits for room in it.
    pub fn close(&self) {
        self.shared.stop.cancel();
    }

    /// Gives the mirrors up, whatever their state, and removes all of them from QEMU; the guest goes on with its own
    /// disks. May be called at any time and again. Takes moments, and at most as long as a QEMU that does not answer
    /// is waited for.
    pub async fn abandon(&self) {
        // Sockets first: a job that waits for a write cannot be cancelled, and QEMU may be deaf until it ends.
        self.close();
        match tokio::time::timeout(ABANDON_DEADLINE, remove_mirrors(&self.qmp)).await {
            Ok(Ok(()) | Err(QmpError::Closed)) => (),
            Ok(Err(error)) => tracing::warn!(error = reason(&error), "mirrors are left in QEMU"),
            Err(_) => tracing::warn!("mirrors are left in QEMU, which does not answer"),
        }
    }

    /// The live counters.
    pub fn counters(&self) -> Arc<DiskCounters> {
        Arc::clone(&self.shared.counters)
    }

    /// How much is copied.
    ///
    /// # Errors
    /// [`DiskError::Qemu`].
    pub async fn progress(&self) -> Result<DiskProgress, DiskError> {
        let jobs = self.qmp.block_jobs().await.map_err(DiskError::qemu("tell its block jobs"))?;
        let mirrors = jobs.iter().filter(|job| mirrored_disk(&job.device).is_some());
        Ok(mirrors.fold(DiskProgress::default(), |sum, job| DiskProgress {
            done_bytes: sum.done_bytes.saturating_add(job.offset),
            total_bytes: sum.total_bytes.saturating_add(job.len),
        }))
    }

    /// Returns once all disks are `reached`, or one failed. Cancel-safe.
    async fn wait(&self, reached: impl Fn(&Mirror) -> bool) -> Result<(), DiskError> {
        let mut mirrors = self.shared.mirrors.subscribe();
        let settled = |mirrors: &Vec<Mirror>| all(mirrors, &reached).unwrap_or(true);
        // The sender lives in `self`.
        let _ = mirrors.wait_for(settled).await;
        all(&mirrors.borrow(), &reached).map(drop)
    }
}

impl Drop for OutgoingDisks {
    fn drop(&mut self) {
        self.close();
    }
}
