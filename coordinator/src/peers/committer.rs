//! Commands on their way into the log, many in one entry.
//!
//! openraft 0.9 waits for the disk once for each entry. So commands that come while an entry is under way wait and
//! share the next one: whoever is alone waits for nobody, and the more there are, the more share a flush.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use super::message::{Committed, Declined};
use crate::fitness::Fitness;
use crate::raft::proposal::{EncodedCommand, PROPOSAL_BYTES_MAX, Proposal};
use crate::raft::words::{ChangeMembershipError, ClientWriteError, RaftError};
use crate::raft::{Haste, MemberNode, Raft};
use crate::state::{Command, Reply};

/// How long a commit may take: several heartbeats and one slow disk. openraft 0.9 can lose the answer to a
/// write (a responder is leaked when a snapshot is installed), so there must be an end.
pub(super) const COMMIT_TIMEOUT: Duration = Duration::from_secs(4);

/// Room for commands that are not committed yet, in units of [`UNIT_BYTES`]: 64 MiB, and at most 65,536 commands.
pub const UNITS_MAX: usize = 65_536;

/// Bytes of a unit; a command takes at least one.
pub const UNIT_BYTES: usize = 1024;

/// Commands in one entry: applied under one lock, a few milliseconds at most.
const COMMANDS_PER_ENTRY_MAX: usize = 1024;

/// Entries under way at once: while the members write one, the leader writes the next.
const ENTRIES_UNDER_WAY_MAX: usize = 2;

type Written = Result<Committed, Declined>;

/// The way into the log. Clones share it.
#[derive(Clone)]
pub(super) struct Committer {
    raft: Raft,
    haste: Haste,
    fitness: Fitness,
    room: Arc<Semaphore>,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    under_way: usize,
}

struct Waiting {
    command: EncodedCommand,
    answer: oneshot::Sender<Written>,
    /// Given back when the command has its answer.
    _room: OwnedSemaphorePermit,
}

impl Committer {
    pub(super) fn new(raft: Raft, haste: Haste) -> Self {
        let (fitness, room) = (Fitness::default(), Arc::new(Semaphore::new(UNITS_MAX)));
        Self { raft, haste, fitness, room, queue: Arc::default() }
    }

    /// The same, of a member that is watched.
    pub(super) fn watched(self, fitness: Fitness) -> Self {
        Self { fitness, ..self }
    }

    /// Who waits for commits.
    pub(super) fn haste(&self) -> &Haste {
        &self.haste
    }

    /// Units of room that are taken.
    pub(super) fn units(&self) -> usize {
        UNITS_MAX - self.room.available_permits()
    }

    /// Commits a command and answers what applying it answered.
    ///
    /// # Errors
    /// [`Declined`].
    pub(super) async fn commit(&self, command: &Command) -> Written {
        // An entry that cannot be written would be the end of every member that tries.
        let command = EncodedCommand::new(command)
            .map_err(|error| Declined::NotPossible(error.to_string()))?;
        // At most 4,097 of all units.
        let units = command.length_bytes().div_ceil(UNIT_BYTES) as u32;
        let room = timeout(COMMIT_TIMEOUT, Arc::clone(&self.room).acquire_many_owned(units)).await;
        let Ok(Ok(room)) = room else { return Err(Declined::NoQuorum) };
        let (answer, written) = oneshot::channel();
        let must_fly = self.with(|queue| {
            queue.waiting.push_back(Waiting { command, answer, _room: room });
            queue.takes_off()
        });
        if must_fly {
            // A task of its own: who comes first may go away before the others are answered.
            drop(tokio::spawn(self.clone().fly()));
        }
        written.await.unwrap_or(Err(Declined::OutcomeUnknown))
    }

    /// Entry after entry, until nobody waits.
    async fn fly(self) {
        while let Some(together) = self.with(Queue::take) {
            let proposal = Proposal::new(together.iter().map(|waiting| &waiting.command));
            let written = self.write(proposal, together.len()).await;
            answer(together, written);
        }
    }

    async fn write(&self, proposal: Proposal, commands: usize) -> Result<Replies, Declined> {
        // There may have been room when they came, and none now that the entry before is done. Nothing happened.
        self.fitness.check_storing().map_err(|_| Declined::NoQuorum)?;
        match timeout(COMMIT_TIMEOUT, self.raft.client_write(proposal)).await {
            Ok(Ok(written)) if written.data.len() == commands => {
                Ok(Replies { index: written.log_id.index, replies: written.data })
            }
            Ok(Err(error)) => Err(declined_write(&error)),
            Ok(Ok(_)) | Err(_) => Err(Declined::OutcomeUnknown),
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut queue);
        self.haste.note_entries(queue.entries());
        changed
    }
}

impl Queue {
    /// Entries that are under way or certain to follow.
    fn entries(&self) -> usize {
        self.under_way + usize::from(!self.waiting.is_empty())
    }

    /// Whether somebody has to begin a further entry.
    fn takes_off(&mut self) -> bool {
        let has_room = self.under_way < ENTRIES_UNDER_WAY_MAX;
        self.under_way += usize::from(has_room);
        has_room
    }

    /// What goes into the next entry; `None` ends the flight.
    fn take(&mut self) -> Option<Vec<Waiting>> {
        let mut bytes = 0;
        let mut together = Vec::new();
        while let Some(next) = self.waiting.front() {
            bytes += next.command.length_bytes();
            let is_full = bytes > PROPOSAL_BYTES_MAX || together.len() == COMMANDS_PER_ENTRY_MAX;
            if is_full && !together.is_empty() {
                break;
            }
            together.extend(self.waiting.pop_front());
        }
        if together.is_empty() {
            self.under_way -= 1;
            return None;
        }
        Some(together)
    }
}

/// What applying the commands of an entry answered.
struct Replies {
    index: u64,
    replies: Vec<Reply>,
}

fn answer(together: Vec<Waiting>, written: Result<Replies, Declined>) {
    match written {
        Ok(Replies { index, replies }) => {
            for (waiting, reply) in together.into_iter().zip(replies) {
                // Who has gone away needs no answer.
                let _ = waiting.answer.send(Ok(Committed { reply, index }));
            }
        }
        Err(declined) => {
            for waiting in together {
                let _ = waiting.answer.send(Err(declined.clone()));
            }
        }
    }
}

/// A leader that steps down answers its open writes with `ForwardToLeader`, although the next leader may still
/// commit them: so that answer says nothing about the outcome.
pub(super) fn declined_write(
    error: &RaftError<u64, ClientWriteError<u64, MemberNode>>,
) -> Declined {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => Declined::OutcomeUnknown,
        RaftError::APIError(ClientWriteError::ChangeMembershipError(
            ChangeMembershipError::InProgress(_),
        )) => Declined::Busy,
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => {
            Declined::NotPossible(error.to_string())
        }
        RaftError::Fatal(_) => Declined::Stopped,
    }
}
