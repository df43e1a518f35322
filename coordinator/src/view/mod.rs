//! Reading the fleet: linearizable on any member, and watches.

pub mod access;
mod cell;
pub mod drain;
pub mod region;
pub mod resource;
mod rounds;

use std::time::Duration;

use novacron_protocol::api::{Code, Problem};
use tokio::sync::watch;
use tokio::time::timeout;

pub use cell::FleetCell;

use self::rounds::Rounds;
use crate::peers::LeaderLink;
use crate::raft::Raft;
use crate::state::Fleet;

/// How long a read may wait for the leader and for this member to catch up: three elections.
const READ_TIMEOUT: Duration = Duration::from_secs(8);

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
}

impl View {
    /// Reads of a member.
    pub fn new(cell: FleetCell, raft: Raft, leader: LeaderLink) -> Self {
        Self { cell, raft, rounds: Rounds::new(leader) }
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
        let index = self.rounds.next().await?;
        self.applied_to(index).await
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
