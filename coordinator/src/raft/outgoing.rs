//! History on its way from the fleet to the archive. Applying waits for no disk: what has left the tables is held here
//! until its file is durable, and a snapshot that does not hold it any more is not written before.
//!
//! A member that dies meanwhile has the entries that let it leave in its log, and applies them again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use novacron_storage::archive::{Archive, ArchiveError};
use tokio::sync::watch;

use super::disk_work::DiskWork;
use crate::state::archive::Departure;

/// Bytes that may wait for the disk before applying waits too: some sixteen texts of the audit log, seconds of work of a
/// disk that keeps up. One content alone may be larger.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// History could not be archived. The process that this happens to ends: its next life applies the entries again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("history that left the tables could not be archived")]
pub struct NotArchived;

/// The way into the archive. Clones share it.
#[derive(Debug, Clone)]
pub struct Outgoing {
    archive: Arc<Archive>,
    work: DiskWork,
    queue: Arc<Mutex<Queue>>,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Default)]
struct Queue {
    /// In the order in which they left; the first may be in somebody's hands.
    waiting: VecDeque<Arc<Departure>>,
    is_under_way: bool,
}

/// Contents since the process began.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    taken: u64,
    written: u64,
    waiting_bytes: usize,
    is_failed: bool,
}

/// A point in the order of what leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left(u64);

impl Outgoing {
    pub(super) fn new(archive: Arc<Archive>, work: DiskWork) -> Self {
        Self { archive, work, queue: Arc::default(), progress: watch::Sender::default() }
    }

    /// Where it leads.
    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// Takes what left the tables, and waits while too much waits for the disk.
    ///
    /// # Errors
    /// [`NotArchived`], also for what was taken before.
    pub(super) async fn take(&self, departures: Vec<Departure>) -> Result<(), NotArchived> {
        if !departures.is_empty() {
            let bytes: usize = departures.iter().map(|departure| departure.content.len()).sum();
            self.progress.send_modify(|progress| {
                progress.taken += departures.len() as u64;
                progress.waiting_bytes += bytes;
            });
            let mut queue = self.queue();
            queue.waiting.extend(departures.into_iter().map(Arc::new));
            if !std::mem::replace(&mut queue.is_under_way, true) {
                drop(tokio::spawn(self.clone().write_all()));
            }
        }
        self.reaches(|progress| progress.waiting_bytes <= WAITING_BYTES_MAX).await
    }

    /// The point after all that has left until now.
    pub(super) fn left(&self) -> Left {
        Left(self.progress.borrow().taken)
    }

    /// Waits until everything up to a point is durable.
    ///
    /// # Errors
    /// [`NotArchived`].
    pub(super) async fn durable(&self, Left(count): Left) -> Result<(), NotArchived> {
        self.reaches(|progress| progress.written >= count).await
    }

    /// The same for everything that has left until now, for whoever reads files.
    ///
    /// # Errors
    /// [`NotArchived`].
    pub async fn settled(&self) -> Result<(), NotArchived> {
        self.durable(self.left()).await
    }

    /// A content that is on its way.
    pub fn find(&self, name: &str) -> Option<Arc<Departure>> {
        self.queue().waiting.iter().find(|departure| departure.name == name).cloned()
    }

    /// The names of what is on its way. Asked before the archive's own, nothing is missed between the two.
    pub fn names(&self) -> Vec<String> {
        self.queue().waiting.iter().map(|departure| departure.name.clone()).collect()
    }

    /// Writes all that is on its way, here and now: for whoever ends the process.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub(super) fn finish(&self) -> Result<(), ArchiveError> {
        let waiting: Vec<_> = self.queue().waiting.iter().cloned().collect();
        // What is being written elsewhere is written once: the second time finds it whole.
        waiting.iter().try_for_each(|departure| put(&self.archive, departure))
    }

    async fn write_all(self) {
        while let Some(departure) = self.next() {
            let (archive, content) = (Arc::clone(&self.archive), Arc::clone(&departure));
            let written = self.work.run(move || put(&archive, &content)).await;
            match written {
                Ok(Ok(())) => self.is_written(&departure),
                Ok(Err(error)) => return self.fail(&error),
                Err(error) => return self.fail(&error),
            }
        }
    }

    /// The next content; `None` ends the task.
    fn next(&self) -> Option<Arc<Departure>> {
        let mut queue = self.queue();
        let next = queue.waiting.front().cloned();
        queue.is_under_way = next.is_some();
        next
    }

    fn is_written(&self, departure: &Departure) {
        self.queue().waiting.pop_front();
        self.progress.send_modify(|progress| {
            progress.written += 1;
            progress.waiting_bytes -= departure.content.len();
        });
    }

    fn fail(&self, error: &(dyn std::error::Error + 'static)) {
        tracing::error!(error, "history cannot be archived");
        self.progress.send_modify(|progress| progress.is_failed = true);
    }

    async fn reaches(&self, is_there: impl Fn(&Progress) -> bool) -> Result<(), NotArchived> {
        let mut progress = self.progress.subscribe();
        let settled = progress.wait_for(|progress| progress.is_failed || is_there(progress)).await;
        // The sender is this value's own.
        settled.ok().filter(|progress| !progress.is_failed).map(drop).ok_or(NotArchived)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn put(archive: &Archive, departure: &Departure) -> Result<(), ArchiveError> {
    archive.put(&departure.name, &departure.content).map(drop)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use novacron_storage::disk::{Failure, SimulatedDisk};

    use super::*;

    fn outgoing(disk: &SimulatedDisk) -> Outgoing {
        let archive = Archive::open(Arc::new(disk.clone()), "archive").unwrap();
        Outgoing::new(Arc::new(archive), DiskWork::in_place(|| std::time::Duration::from_millis(2)))
    }

    fn departure(name: &str, bytes: usize) -> Departure {
        Departure { name: name.to_owned(), content: vec![7; bytes] }
    }

    #[tokio::test(start_paused = true)]
    async fn what_left_is_found_at_every_moment_and_durable_when_it_is_said_to_be() {
        let outgoing = outgoing(&SimulatedDisk::new(1));
        outgoing.take(vec![departure("a", 10), departure("b", 10)]).await.unwrap();
        let left = outgoing.left();
        assert_eq!(outgoing.names(), ["a", "b"]);
        assert_eq!(outgoing.find("b").unwrap().content, vec![7; 10]);
        assert!(outgoing.durable(left).now_or_never().is_none(), "not written yet");
        outgoing.take(vec![departure("c", 10)]).await.unwrap();
        outgoing.durable(left).await.unwrap();
        assert!(["a", "b"].iter().all(|name| outgoing.archive().contains(name).unwrap()));
        assert_eq!(outgoing.names(), ["c"], "what left later is not waited for");
        outgoing.settled().await.unwrap();
        assert_eq!(outgoing.archive().names().unwrap(), ["a", "b", "c"]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_lets_too_much_leave_waits_for_the_disk() {
        let outgoing = outgoing(&SimulatedDisk::new(1));
        let half = || vec![departure("a", WAITING_BYTES_MAX / 2)];
        assert!(outgoing.take(half()).now_or_never().is_some());
        let more = vec![departure("b", WAITING_BYTES_MAX / 2), departure("c", 1)];
        assert!(outgoing.take(more).now_or_never().is_none());
        // Taken all the same: only its giver waits.
        outgoing.take(Vec::new()).await.unwrap();
        assert!(outgoing.archive().contains("a").unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_durable_on_a_disk_that_fails() {
        let disk = SimulatedDisk::new(1);
        let outgoing = outgoing(&disk);
        disk.fail_at(disk.operations() + 1, Failure::Error(std::io::ErrorKind::StorageFull));
        outgoing.take(vec![departure("a", 10)]).await.unwrap();
        assert_eq!(outgoing.settled().await, Err(NotArchived));
        assert_eq!(outgoing.take(vec![departure("b", 10)]).await, Err(NotArchived));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_ends_writes_what_is_on_its_way() {
        let outgoing = outgoing(&SimulatedDisk::new(1));
        outgoing.take(vec![departure("a", 10), departure("b", 10)]).await.unwrap();
        outgoing.finish().unwrap();
        assert_eq!(outgoing.archive().names().unwrap(), ["a", "b"]);
        outgoing.settled().await.unwrap();
    }
}
