//! What every migration of this agent works with.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use novacron_protocol::ids::MigrationId;
use novacron_protocol::qemu::QemuVersion;
use novacron_transport::Endpoint;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cache::Images;
use super::control::Control;
use super::library::{Catalogues, Shelves};
use super::settings::MigrationSettings;
use crate::metrics::MigrationMetrics;
use crate::report::Reporter;
use crate::vm::Machines;

/// Commands that may wait for one migration.
pub(super) const COMMANDS_MAX: usize = 8;

/// Shared by all migrations.
#[derive(Debug)]
pub(super) struct Context {
    pub machines: Machines,
    pub reporter: Reporter,
    pub endpoint: Endpoint,
    pub settings: MigrationSettings,
    pub metrics: Arc<MigrationMetrics>,
    /// What this host remembers of guests' memory.
    pub images: Images,
    /// What it keeps for further machines, as a target.
    pub shelves: Shelves,
    /// What its targets keep, as a source.
    pub catalogues: Catalogues,
    pub tasks: TaskTracker,
    /// The agent ends and waits no longer: what is under way stays as its record says.
    pub ending: CancellationToken,
    begun: Instant,
    sources: Mutex<HashMap<MigrationId, mpsc::Sender<SourceCommand>>>,
    targets: Mutex<HashMap<MigrationId, mpsc::Sender<TargetCommand>>>,
    /// Migrations that were cancelled before they were begun here: the two orders may overtake each other.
    cancelled: Mutex<VecDeque<MigrationId>>,
}

/// Cancelled migrations that are remembered: their orders to begin are on the way, or will never come.
const CANCELLED_MAX: usize = 256;

/// What a source can be told from outside.
#[derive(Debug)]
pub(super) enum SourceCommand {
    /// Give up. The answer says whether that was still possible; if so it comes when it is over, and not at all if that
    /// cannot be made durable.
    Cancel(oneshot::Sender<bool>),
    /// Say when it is over.
    Wait(oneshot::Sender<()>),
}

/// What a target can be told from outside.
#[derive(Debug)]
pub(super) enum TargetCommand {
    /// The source connected: its control stream and first message, which is an offer or a question.
    Connected(Box<(Control, novacron_protocol::session::message::SourceMessage)>),
    /// The coordinator says that it is over. Answered when nothing is left, or when it was accepted before.
    Abandon(oneshot::Sender<()>),
}

impl Context {
    pub(super) fn new(
        machines: Machines,
        reporter: Reporter,
        endpoint: Endpoint,
        settings: MigrationSettings,
    ) -> Arc<Self> {
        Arc::new(Self {
            machines,
            reporter,
            endpoint,
            images: Images::new(settings.memory_cache_bytes),
            shelves: Shelves::new(settings.shared_cache_bytes),
            catalogues: Catalogues::default(),
            settings,
            metrics: Arc::default(),
            tasks: TaskTracker::new(),
            ending: CancellationToken::new(),
            begun: Instant::now(),
            sources: Mutex::default(),
            targets: Mutex::default(),
            cancelled: Mutex::default(),
        })
    }

    /// The QEMU of this host, if it works.
    pub(super) fn qemu_version(&self) -> Option<QemuVersion> {
        self.machines.hypervisor().qemu.as_ref().ok().copied()
    }

    /// Milliseconds on a clock that never goes back: the time of the sessions.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A source begins: commands to it wait from now on.
    pub(super) fn register_source(&self, migration: MigrationId) -> mpsc::Receiver<SourceCommand> {
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        self.sources().insert(migration, sender);
        commands
    }

    /// A migration is not to begin here.
    pub(super) fn remember_cancelled(&self, migration: MigrationId) {
        let mut cancelled = self.cancelled.lock().unwrap_or_else(PoisonError::into_inner);
        if cancelled.len() == CANCELLED_MAX {
            cancelled.pop_front();
        }
        cancelled.push_back(migration);
    }

    /// Whether a migration was cancelled before it began.
    pub(super) fn was_cancelled(&self, migration: MigrationId) -> bool {
        self.cancelled.lock().unwrap_or_else(PoisonError::into_inner).contains(&migration)
    }

    pub(super) fn sources(
        &self,
    ) -> MutexGuard<'_, HashMap<MigrationId, mpsc::Sender<SourceCommand>>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn targets(
        &self,
    ) -> MutexGuard<'_, HashMap<MigrationId, mpsc::Sender<TargetCommand>>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
