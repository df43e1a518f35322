//! What tasks and threads of a source share, and the tasks that see what becomes of jobs and streams.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::counters::DiskCounters;
use super::mirror::{Mirror, Occurrence};
use super::nodes::{mirror_name, mirrored_disk};
use crate::migrate::relay::Outlet;
use crate::qmp::{Event, Qmp};

/// What tasks and threads share.
pub(super) struct Shared {
    pub mirrors: watch::Sender<Vec<Mirror>>,
    pub counters: Arc<DiskCounters>,
    /// Ends everything that waits for QEMU: sockets are closed.
    pub stop: CancellationToken,
    /// What threads may wait for.
    outlets: Mutex<Vec<Outlet>>,
}

impl Shared {
    pub(super) fn new(disks: usize, counters: DiskCounters) -> Self {
        Self {
            mirrors: watch::Sender::new(vec![Mirror::Copying; disks]),
            counters: Arc::new(counters),
            stop: CancellationToken::new(),
            outlets: Mutex::default(),
        }
    }

    /// A disk's thread will write to this.
    pub(super) fn writes_to(&self, outlet: Outlet) {
        self.outlets.lock().unwrap_or_else(PoisonError::into_inner).push(outlet);
    }

    /// Gives everything up. A thread that waits for the target holds its socket, and a QEMU that waits for room in one that
    /// is only shut down is not woken: so threads go first.
    pub(super) fn give_up(&self) {
        let outlets = self.outlets.lock().unwrap_or_else(PoisonError::into_inner);
        outlets.iter().for_each(Outlet::end);
        self.stop.cancel();
    }

    pub(super) fn happened(&self, disk: usize, occurrence: Occurrence) {
        self.mirrors.send_modify(|mirrors| {
            if let Some(mirror) = mirrors.get_mut(disk) {
                *mirror = mirror.after(occurrence);
            }
        });
    }
}

/// Closes the socket of a disk when the migration is over, so that QEMU does not wait for a thread that waits for the
/// target.
pub(super) async fn close_when_over(socket: UnixStream, stop: CancellationToken) {
    stop.cancelled().await;
    // Closed already, for example.
    let _ = socket.shutdown(Shutdown::Both);
}

/// Turns QEMU's events into what happens to disks, until the migration is over.
pub(super) async fn follow_jobs(
    qmp: Qmp,
    mut events: broadcast::Receiver<Event>,
    shared: Arc<Shared>,
) {
    loop {
        let event = tokio::select! {
            biased;
            () = shared.stop.cancelled() => return,
            () = qmp.closed() => return fail_all(&shared, "QEMU has ended"),
            event = events.recv() => event,
        };
        match event {
            Ok(event) => {
                if let Some((disk, occurrence)) = occurrence(event) {
                    shared.happened(disk, occurrence);
                }
            }
            Err(RecvError::Lagged(_)) => catch_up(&qmp, &shared).await,
            Err(RecvError::Closed) => return fail_all(&shared, "QEMU has ended"),
        }
    }
}

fn fail_all(shared: &Shared, reason: &str) {
    let disks = shared.mirrors.borrow().len();
    (0..disks).for_each(|disk| shared.happened(disk, Occurrence::Failed(reason.to_owned())));
}

/// Events were lost: a job that is there is asked, one that is gone has ended nobody knows how.
async fn catch_up(qmp: &Qmp, shared: &Shared) {
    let Ok(jobs) = qmp.block_jobs().await else { return };
    let disks = shared.mirrors.borrow().len();
    for disk in 0..disks {
        let name = mirror_name(disk);
        match jobs.iter().find(|job| job.device == name) {
            Some(job) if job.ready => shared.happened(disk, Occurrence::JobReady),
            Some(_) => (),
            None if shared.mirrors.borrow()[disk] == Mirror::Ended => (),
            None => {
                let reason = "QEMU's mirror is gone and its end was not seen";
                shared.happened(disk, Occurrence::Failed(reason.to_owned()));
            }
        }
    }
}

/// What an event means for a disk.
fn occurrence(event: Event) -> Option<(usize, Occurrence)> {
    match event {
        Event::BlockJobReady { job } => Some((mirrored_disk(&job)?, Occurrence::JobReady)),
        Event::BlockJobCompleted { job, error } => {
            let occurrence = match error {
                None => Occurrence::JobEnded,
                Some(error) => Occurrence::Failed(format!("QEMU's mirror failed: {error}")),
            };
            Some((mirrored_disk(&job)?, occurrence))
        }
        Event::Other { name, data } if name == "BLOCK_JOB_CANCELLED" => {
            let reason = "QEMU's mirror was cancelled".to_owned();
            Some((mirrored_disk(data["device"].as_str()?)?, Occurrence::Failed(reason)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_events_of_mirrors_matter() {
        let ready = |job: &str| occurrence(Event::BlockJobReady { job: job.to_owned() });
        assert!(matches!(ready("mirror3"), Some((3, Occurrence::JobReady))));
        assert!(ready("backup0").is_none());
        let ended = |error: Option<&str>| {
            let error = error.map(str::to_owned);
            occurrence(Event::BlockJobCompleted { job: "mirror0".to_owned(), error })
        };
        assert!(matches!(ended(None), Some((0, Occurrence::JobEnded))));
        assert!(matches!(ended(Some("no space")), Some((0, Occurrence::Failed(_)))));
        let other = |name: &str, data| occurrence(Event::Other { name: name.to_owned(), data });
        let cancelled = other("BLOCK_JOB_CANCELLED", json!({ "device": "mirror1" }));
        assert!(matches!(cancelled, Some((1, Occurrence::Failed(_)))));
        assert!(other("BLOCK_JOB_CANCELLED", json!({})).is_none());
        assert!(other("JOB_STATUS_CHANGE", json!({ "id": "mirror1" })).is_none());
    }
}
