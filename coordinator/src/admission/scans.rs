//! Reads whose cost grows with the fleet: few at once, and one of each principal, so that a flood of them waits for itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use novacron_transport::SubjectName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::places::{Place, Places};

/// Such reads at once. They give way between slices, so that two of them leave a processor for everything else.
const AT_ONCE: usize = 2;

/// Of one principal, under way or waiting.
const OF_ONE_MAX: u32 = 16;

/// The places for such reads.
#[derive(Debug)]
pub struct Scans {
    wait_max: Duration,
    of_all: Arc<Semaphore>,
    of_each: Arc<Places<SubjectName>>,
    turns: Mutex<BTreeMap<SubjectName, Arc<Semaphore>>>,
}

/// A place for one such read, until it is dropped.
#[derive(Debug)]
pub struct ScanPlace {
    _of_all: OwnedSemaphorePermit,
    _turn: Turn,
}

/// The turn of one principal's reads; it has a row as long as one of them is here.
#[derive(Debug)]
struct Turn {
    permit: Option<OwnedSemaphorePermit>,
    queue: Arc<Semaphore>,
    scans: Arc<Scans>,
    principal: SubjectName,
    _waits: Place<SubjectName>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoScan;

impl Scans {
    /// Nobody reads. Whoever comes waits that long at most.
    pub fn new(wait_max: Duration) -> Arc<Self> {
        Arc::new(Self {
            wait_max,
            of_all: Arc::new(Semaphore::new(AT_ONCE)),
            of_each: Places::new(OF_ONE_MAX),
            turns: Mutex::default(),
        })
    }

    /// A place for a read of one, once there is one.
    ///
    /// # Errors
    /// [`NoScan`] if it waited for too long, or too many of its own wait.
    pub async fn take(scans: &Arc<Self>, principal: &SubjectName) -> Result<ScanPlace, NoScan> {
        let waits = Places::take(&scans.of_each, principal.clone()).ok_or(NoScan)?;
        let mut turn = Turn {
            permit: None,
            queue: scans.queue(principal),
            scans: Arc::clone(scans),
            principal: principal.clone(),
            _waits: waits,
        };
        let taken = async {
            turn.permit = Arc::clone(&turn.queue).acquire_owned().await.ok();
            let of_all = Arc::clone(&scans.of_all).acquire_owned().await.map_err(|_| NoScan)?;
            Ok(ScanPlace { _of_all: of_all, _turn: turn })
        };
        timeout(scans.wait_max, taken).await.unwrap_or(Err(NoScan))
    }

    fn queue(&self, principal: &SubjectName) -> Arc<Semaphore> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = turns.entry(principal.clone()).or_insert_with(|| Arc::new(Semaphore::new(1)));
        Arc::clone(queue)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        drop(self.permit.take());
        let mut turns = self.scans.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // Its own and the row's: nobody else of the principal is here, and nobody comes while the rows are locked.
        if Arc::strong_count(&self.queue) == 2 {
            turns.remove(&self.principal);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn name(text: &str) -> SubjectName {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn one_principal_has_one_of_the_places_and_others_do_not_wait_behind_it() {
        let scans = Scans::new(Duration::from_secs(5));
        let first = Scans::take(&scans, &name("a")).await.unwrap();
        let (a, b, c) = (name("a"), name("b"), name("c"));
        let mut waiting = Box::pin(Scans::take(&scans, &a));
        assert!(waiting.as_mut().now_or_never().is_none(), "its own is under way");
        let of_b = Scans::take(&scans, &b).now_or_never().expect("at once").unwrap();
        let mut of_c = Box::pin(Scans::take(&scans, &c));
        assert!(of_c.as_mut().now_or_never().is_none(), "two are under way");
        drop(first);
        let of_c = of_c.await.unwrap();
        drop((of_b, of_c));
        drop(waiting.await.unwrap());
        assert!(scans.turns.lock().unwrap().is_empty(), "no row of whom nothing is here");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever_and_few_wait() {
        let scans = Scans::new(Duration::from_secs(5));
        let a = name("a");
        let _first = Scans::take(&scans, &a).await.unwrap();
        let waiting: Vec<_> = (1..OF_ONE_MAX)
            .map(|_| {
                tokio::spawn({
                    let (scans, a) = (Arc::clone(&scans), a.clone());
                    async move { Scans::take(&scans, &a).await.map(drop) }
                })
            })
            .collect();
        tokio::task::yield_now().await;
        let one_more = Scans::take(&scans, &a).now_or_never().expect("at once");
        assert_eq!(one_more.map(drop), Err(NoScan));
        for waited in waiting {
            assert_eq!(waited.await.unwrap(), Err(NoScan));
        }
    }
}
