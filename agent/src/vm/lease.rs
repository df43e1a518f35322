//! Machines in the hands of a migration.
//!
//! A migration gets a machine as a [`SourceGuest`] or an [`IncomingGuest`]. While one exists, orders about the machine
//! are refused and the machine's driver decides nothing about its process. Every decision that must survive the agent
//! goes through the lease and is durable when the call returns. A lease ends in exactly one way: `keep` or `remove` at
//! the source, `accept` or `reject` at the target. One that is dropped ends in none: the machine stays as it is until
//! the agent starts again and hands the lease out as [`Interrupted`].

use std::path::PathBuf;
use std::sync::Arc;

use novacron_protocol::effect::MigrationEnd;
use novacron_protocol::ids::{Generation, MigrationId, VmId};
use novacron_protocol::session::handover::{SourceRecord, TargetRecord};
use novacron_protocol::vm::VmSpec;
use tokio::sync::{OwnedRwLockReadGuard, mpsc, oneshot};

use super::directories::MachineDirectories;
use super::extents::Extents;
use super::fence::Stale;
use super::files::FileError;
use super::image::ImageError;
use super::launch::LaunchError;
use super::machine::Refusal;
use super::record::{Hardware, Processor, SourceRole, TargetRole};
use crate::qmp::{Qmp, QmpError};
use crate::records::RecordsError;
use crate::sys::GuestMemory;

/// Why a lease is not given, or cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The machine's state does not allow it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Ordered for another generation.
    #[error(transparent)]
    Stale(#[from] Stale),
    /// This host cannot run the machine.
    #[error("{0}")]
    Unfit(String),
    /// A record.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// A process.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// A disk.
    #[error(transparent)]
    Disk(#[from] ImageError),
    /// A kernel.
    #[error(transparent)]
    File(#[from] FileError),
    /// A directory.
    #[error("{} cannot be made or removed", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// QEMU.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// The migration has ended here already.
    #[error("the migration has ended already")]
    Over,
    /// The machine has no process, or no longer.
    #[error("the machine's process is gone")]
    NoProcess,
    /// The agent is ending.
    #[error("the agent is ending")]
    Ending,
}

/// The answer to a request of a lease.
pub(super) type Reply<T> = oneshot::Sender<Result<T, LeaseError>>;

/// What leases ask of a machine's driver.
#[derive(Debug)]
pub(super) enum LeaseRequest {
    Decide { decision: SourceRecord, memo: Vec<u8>, reply: Reply<()> },
    Remember { memo: Vec<u8>, reply: Reply<()> },
    CountRestart { restarts: u32, reply: Reply<()> },
    HoldDisks { reply: Reply<Qmp> },
    ShutDown { reply: Reply<()> },
    GoOn { reply: Reply<()> },
    Keep { end: Box<MigrationEnd>, reply: Reply<()> },
    Remove { reply: Reply<()> },
    Prepare { hardware: Hardware, processor: Processor, reply: Reply<Receiving> },
    Accept { start: bool, reply: Reply<()> },
    Reject { reply: Reply<()> },
}

/// The line to a machine's driver.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) requests: mpsc::Sender<super::driver::Request>,
}

impl Line {
    async fn ask<T>(
        &self,
        request: impl FnOnce(Reply<T>) -> LeaseRequest,
    ) -> Result<T, LeaseError> {
        let (reply, answer) = oneshot::channel();
        let request = super::driver::Request::Lease(request(reply));
        self.requests.send(request).await.map_err(|_| LeaseError::Ending)?;
        answer.await.map_err(|_| LeaseError::Ending)?
    }
}

/// What a migration may know of a machine that is here.
#[derive(Debug, Clone)]
pub struct GuestFacts {
    /// The machine.
    pub vm: VmId,
    /// The generation that this agent holds.
    pub generation: Generation,
    /// What was ordered.
    pub spec: VmSpec,
    /// What it is made of.
    pub hardware: Hardware,
    /// What runs its instructions; of a stopped machine, what would.
    pub processor: Processor,
    /// Its files and its run directory, in which the migration may put sockets with names of at most
    /// [`super::SOCKET_NAME_BYTES_MAX`] bytes.
    pub directories: MachineDirectories,
}

impl GuestFacts {
    /// Pages of its memory.
    ///
    /// # Errors
    /// More than can be moved page by page.
    pub fn pages(&self) -> Result<u32, String> {
        let pages = self.spec.memory_bytes / crate::sys::PAGE_BYTES as u64;
        u32::try_from(pages).map_err(|_| format!("the guest has {pages} pages of memory"))
    }
}

/// A machine at its source.
#[derive(Debug)]
pub struct SourceGuest {
    pub(super) line: Line,
    pub(super) facts: GuestFacts,
    pub(super) role: SourceRole,
    pub(super) qmp: Option<Qmp>,
}

impl SourceGuest {
    /// What there is to know.
    pub fn facts(&self) -> &GuestFacts {
        &self.facts
    }

    /// The migration, with the last durable decision and memo.
    pub fn role(&self) -> &SourceRole {
        &self.role
    }

    /// The guest's QEMU; `None` if the machine is stopped or its QEMU does not answer.
    pub fn qmp(&self) -> Option<&Qmp> {
        self.qmp.as_ref()
    }

    /// Makes a decision of the hand-over durable, with up to [`super::MEMO_BYTES_MAX`] bytes to remember.
    ///
    /// # Errors
    /// [`LeaseError`]; then it is not known whether it is durable.
    pub async fn decide(
        &mut self,
        decision: SourceRecord,
        memo: Vec<u8>,
    ) -> Result<(), LeaseError> {
        let kept = memo.clone();
        self.line.ask(|reply| LeaseRequest::Decide { decision, memo, reply }).await?;
        self.role.decision = decision;
        self.role.memo = kept;
        Ok(())
    }

    /// Makes durable what is to be remembered as long as nothing is decided; after that it does nothing. Borrows nothing.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub fn remember(
        &self,
        memo: Vec<u8>,
    ) -> impl Future<Output = Result<(), LeaseError>> + Send + use<> {
        let line = self.line.clone();
        async move { line.ask(|reply| LeaseRequest::Remember { memo, reply }).await }
    }

    /// Makes durable how often the migration has started over.
    ///
    /// # Errors
    /// [`LeaseError`]; then it is not known whether it is durable.
    pub async fn count_restart(&mut self, restarts: u32) -> Result<(), LeaseError> {
        self.line.ask(|reply| LeaseRequest::CountRestart { restarts, reply }).await?;
        self.role.restarts = restarts;
        Ok(())
    }

    /// Of a stopped machine: starts a QEMU that never runs the guest and has its disks, for a cold migration.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub async fn hold_disks(&mut self) -> Result<Qmp, LeaseError> {
        let qmp = self.line.ask(|reply| LeaseRequest::HoldDisks { reply }).await?;
        self.qmp = Some(qmp.clone());
        Ok(qmp)
    }

    /// Presses the power button of a running guest. From now on the machine, if it stays, is started again, whatever
    /// becomes of this agent.
    ///
    /// # Errors
    /// [`LeaseError`]; the guest may have been told all the same.
    pub async fn shut_down(&self) -> Result<(), LeaseError> {
        self.line.ask(|reply| LeaseRequest::ShutDown { reply }).await
    }

    /// The migration begins once more. QEMU's own migration must be over. A guest that was stopped for it is continued.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub async fn go_on(&self) -> Result<(), LeaseError> {
        self.line.ask(|reply| LeaseRequest::GoOn { reply }).await
    }

    /// The machine stays, and this is how its migration ended: durable together, so that it is never begun again. QEMU's
    /// own migration must be over. A guest that should run and stands still is continued, one that was shut down for the
    /// migration is started again; a process that only held disks is ended.
    ///
    /// # Errors
    /// [`LeaseError`]; the machine is this agent's all the same if the record could be written.
    pub async fn keep(self, end: MigrationEnd) -> Result<(), LeaseError> {
        self.line.ask(|reply| LeaseRequest::Keep { end: Box::new(end), reply }).await
    }

    /// The machine is at its target: ends the process and removes everything of it here, the record last.
    ///
    /// # Errors
    /// [`LeaseError`]; may be tried again after the agent's restart.
    pub async fn remove(self) -> Result<(), LeaseError> {
        self.line.ask(|reply| LeaseRequest::Remove { reply }).await
    }
}

/// A QEMU that waits for a migration.
#[derive(Debug, Clone)]
pub struct Receiving {
    /// How it is told what to do. Started with `-S -incoming defer`; nothing is exported yet.
    pub qmp: Qmp,
    /// The guest's memory, block `pc.ram`.
    pub memory: Arc<GuestMemory>,
    /// Where each disk holds something that may be what the source's does.
    pub held: Vec<Extents>,
}

/// A machine at its target, not yet the target's.
#[derive(Debug)]
pub struct IncomingGuest {
    pub(super) line: Line,
    pub(super) vm: VmId,
    pub(super) generation: Generation,
    pub(super) spec: VmSpec,
    pub(super) role: TargetRole,
    pub(super) directories: MachineDirectories,
    /// The guest's memory, all zero; `None` if it arrived before this agent was started: then `prepare` finds it.
    pub(super) memory: Option<Arc<GuestMemory>>,
    /// Keeps kernels that were received and belong to no record yet.
    pub(super) files_held: OwnedRwLockReadGuard<()>,
}

impl IncomingGuest {
    /// The guest's memory, before its QEMU has been started and afterwards.
    pub fn memory(&self) -> Option<Arc<GuestMemory>> {
        self.memory.clone()
    }

    /// The machine.
    pub fn vm(&self) -> VmId {
        self.vm
    }

    /// The migration.
    pub fn migration(&self) -> MigrationId {
        self.role.migration
    }

    /// The migration, with who may send it.
    pub fn role(&self) -> &TargetRole {
        &self.role
    }

    /// The generation that this agent will hold.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// What the coordinator ordered.
    pub fn spec(&self) -> &VmSpec {
        &self.spec
    }

    /// Its files and its run directory, in which the migration may put sockets once `prepare` returned.
    pub fn directories(&self) -> &MachineDirectories {
        &self.directories
    }

    /// Whether everything can be offered anew: its memory is still here. Of a migration that is not decided.
    pub fn may_be_offered_anew(&self) -> bool {
        self.role.decision == TargetRecord::Waiting
            && (self.memory.is_some() || self.directories.memory.exists())
    }

    /// Makes disks as `hardware` says, of what is here that may be alike, and starts a QEMU that waits. Kernels must be in
    /// the file store already. May be called again: then another QEMU takes the place of the first, over the same memory
    /// and disks, whatever is in them. Borrows nothing: pages may arrive meanwhile. What is asked of the machine next waits
    /// until this is done, even if nobody waits for it any more.
    ///
    /// # Errors
    /// [`LeaseError`]; `reject` is what is left to do.
    pub fn prepare(
        &mut self,
        hardware: Hardware,
        processor: Processor,
    ) -> impl Future<Output = Result<Receiving, LeaseError>> + Send + use<> {
        let line = self.line.clone();
        async move { line.ask(|reply| LeaseRequest::Prepare { hardware, processor, reply }).await }
    }

    /// The machine is this agent's from the moment this is durable. Live: the guest is continued and runs when this
    /// returns, and its new place is announced afterwards. Cold: the waiting QEMU is ended and the disks are as they
    /// were written; with `start` the machine is then started.
    ///
    /// # Errors
    /// [`LeaseError`]: it is not known whether it is durable, and nothing may be said of it before the verdict has been
    /// read again. A machine that was accepted and then did not start is no error here; it is reported as any other.
    pub async fn accept(self, start: bool) -> Result<(), LeaseError> {
        self.line.ask(|reply| LeaseRequest::Accept { start, reply }).await
    }

    /// The machine will never be this agent's under this migration: durable first, then process, disks and sockets
    /// are removed.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub async fn reject(self) -> Result<(), LeaseError> {
        // First, or the kernels that came for it would stay behind.
        drop(self.files_held);
        self.line.ask(|reply| LeaseRequest::Reject { reply }).await
    }
}

/// What the record of a machine says of a migration from here.
#[derive(Debug)]
pub enum Departure {
    /// Nothing: it was not begun here, or the machine has left.
    None,
    /// It is not over.
    Open,
    /// It ended like this, and the machine stayed.
    Stayed(Box<MigrationEnd>),
}

/// A migration that was under way when the agent ended.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a handful of them, once, when the agent starts")]
pub enum Interrupted {
    /// At its source; `role().decision` says how far it was.
    Source(SourceGuest),
    /// At its target. If it was refused, or its memory is gone, all that it can do is `reject`.
    Target(IncomingGuest),
}
