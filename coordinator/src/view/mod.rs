//! Reading the fleet: linearizable on any member, or as the member has it, and watches.

pub mod access;
pub mod alert;
mod cell;
mod currency;
pub mod drain;
pub mod network;
pub mod overview;
pub mod region;
pub mod resource;
mod rounds;
pub mod savings;
pub mod sites;
pub mod watchers;

use std::time::Duration;

use novacron_protocol::api::{Code, Problem};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

pub use cell::FleetCell;
pub use watchers::{WatchLimits, Watchers};

use self::currency::Currency;
use self::rounds::Rounds;
use crate::peers::LeaderLink;
use crate::raft::Raft;
use crate::state::Fleet;

/// How long a read may wait for the leader and for this member to catch up: three elections.
const READ_TIMEOUT: Duration = Duration::from_secs(8);

/// How often a member that nobody reads from asks how far it is.
const CURRENCY_PERIOD: Duration = Duration::from_secs(1);

/// Why a read has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader could prove that it leads.
    #[error("the cluster has no quorum at the moment; try again")]
    Unavailable,
}

impl ReadError {
    /// The whole answer of the API.
    pub fn to_problem(&self) -> Problem {
        Problem::new(Code::Unavailable, self.to_string())
    }
}

/// The fleet, for readers. Cheap to clone.
#[derive(Clone)]
pub struct View {
    cell: FleetCell,
    raft: Raft,
    rounds: Rounds,
    currency: Currency,
}

impl View {
    /// Reads of a member.
    pub fn new(cell: FleetCell, raft: Raft, leader: LeaderLink) -> Self {
        Self { cell, raft, rounds: Rounds::new(leader), currency: Currency::default() }
    }

    /// Looks at a fleet that has everything that was acknowledged before the call, on any member.
    ///
    /// # Errors
    /// [`ReadError::Unavailable`] without a quorum.
    pub async fn read<T>(&self, look: impl FnOnce(&Fleet) -> T) -> Result<T, ReadError> {
        self.catch_up(READ_TIMEOUT).await?;
        Ok(self.cell.look(look))
    }

    /// Waits until this member has everything that was acknowledged before the call.
    ///
    /// # Errors
    /// [`ReadError::Unavailable`] if that is not so within `limit`.
    pub async fn catch_up(&self, limit: Duration) -> Result<(), ReadError> {
        timeout(limit, self.reach_read_index()).await.map_err(|_| ReadError::Unavailable)?
    }

    async fn reach_read_index(&self) -> Result<(), ReadError> {
        let begun = Instant::now();
        let index = self.rounds.next().await?;
        self.applied_to(index).await?;
        self.currency.note(begun);
        Ok(())
    }

    /// The latest moment of which is known that this member has everything that was acknowledged before it: when it
    /// asked the leader, who confirmed itself with a quorum after that, and has applied what it was told. None if that
    /// did not happen since it started. No clock but this process's own is believed.
    pub fn known_at(&self) -> Option<Instant> {
        self.currency.get()
    }

    /// Asks now and then although nobody reads, so that stale reads know how old they are, until `stop`. It costs the
    /// leader one heartbeat to a quorum for each member.
    pub async fn keep_current(self, stop: CancellationToken) {
        let mut ticks = interval(CURRENCY_PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                // Without a quorum there is nothing to note, and the next turn asks again.
                _ = self.catch_up(READ_TIMEOUT) => {}
            }
        }
    }

    /// Waits until this member has applied the log up to an index.
    ///
    /// # Errors
    /// [`ReadError::Unavailable`] if that is not so in time.
    pub async fn reach(&self, index: u64) -> Result<(), ReadError> {
        let reached = timeout(READ_TIMEOUT, self.applied_to(index)).await;
        reached.map_err(|_| ReadError::Unavailable)?
    }

    async fn applied_to(&self, index: u64) -> Result<(), ReadError> {
        let mut applied = self.cell.applied();
        let reached = applied.wait_for(|applied| *applied >= index).await;
        reached.map(drop).map_err(|_| ReadError::Unavailable)
    }

    /// Looks at the fleet as this member has it, which may be behind.
    pub fn local<T>(&self, look: impl FnOnce(&Fleet) -> T) -> T {
        self.cell.look(look)
    }

    /// The log index up to which this member has applied everything. A change wakes watchers, who then look
    /// for what is new since the last revision that they saw.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.cell.applied()
    }

    pub(crate) fn raft(&self) -> &Raft {
        &self.raft
    }
}
