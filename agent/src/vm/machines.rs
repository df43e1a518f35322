//! All machines of this agent: one driver task each, found by id.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use novacron_protocol::effect::{EffectOutcome, Handover, MachineReport};
use novacron_protocol::ids::{Generation, MigrationId, SnapshotId, VmId};
use novacron_protocol::limits::MACHINES_PER_NODE_MAX;
use novacron_protocol::session::handover::{TargetRecord, Verdict};
use novacron_protocol::time::Timestamp;
use novacron_protocol::vm::VmSpec;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::console::{Attachment, SerialPort};
use super::directories::Directories;
use super::driver::{Driver, ExpectRequest, LendRequest, OrderRequest, Request};
use super::files::FileStore;
use super::former::FormerDisks;
use super::image::DiskMaker;
use super::launch::Launcher;
use super::lease::{Departure, IncomingGuest, Interrupted, LeaseError, SourceGuest};
use super::machine::Order;
use super::record::{Role, SourceRole, Stay, TargetRole, VERDICT_KEPT_MS, VerdictRecord, VmRecord};
use crate::host::Hypervisor;
use crate::metering::Recorder;
use crate::qmp::Qmp;
use crate::reason::reason;
use crate::records::{RecordName, Records, RecordsError};
use crate::report::Reporter;
use crate::sampling::Measurable;

/// Requests that wait for one machine's driver: it may be busy with copying an image for minutes.
const REQUESTS_WAITING_MAX: usize = 64;

/// What the coordinators may order of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineOrder {
    /// Make it.
    Create(Box<VmSpec>),
    /// Anything about one that is there.
    Existing(Order),
    /// Keep how its disks are, or make them what they were.
    Snapshot(SnapshotOrder),
}

/// What the coordinators may order about how disks were. Each is safe to do twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotOrder {
    /// Keep how all disks are at one moment.
    Take(SnapshotId),
    /// Make all disks what they were.
    Restore(SnapshotId),
    /// Forget it.
    Delete(SnapshotId),
}

/// What machines are made with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where everything is.
    pub directories: Directories,
    /// QEMU.
    pub qemu: PathBuf,
    /// qemu-img.
    pub qemu_img: PathBuf,
    /// swtpm.
    pub swtpm: PathBuf,
    /// What this host can run.
    pub hypervisor: Hypervisor,
    /// Bytes of the host's disk for disks of machines that left.
    pub disk_cache_bytes: u64,
}

/// All machines; clones share them.
#[derive(Debug, Clone)]
pub struct Machines {
    shared: Arc<Shared>,
}

/// What every driver works with.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) launcher: Launcher,
    pub(super) disks: DiskMaker,
    pub(super) files: FileStore,
    pub(super) former: FormerDisks,
    pub(super) swtpm: PathBuf,
    pub(super) hypervisor: Hypervisor,
    pub(super) records: Records,
    pub(super) reporter: Reporter,
    pub(super) recorder: Recorder,
    pub(super) shutdown: CancellationToken,
    tasks: TaskTracker,
    drivers: Mutex<HashMap<VmId, Place>>,
    inventory: Mutex<BTreeMap<VmId, MachineReport>>,
    measurable: Mutex<BTreeMap<VmId, Measurable>>,
}

#[derive(Debug)]
struct Place {
    requests: mpsc::Sender<Request>,
    port: Arc<SerialPort>,
}

impl Machines {
    /// Takes up every machine that has a record, and hands out the migrations that were under way.
    ///
    /// # Errors
    /// [`RecordsError`]: a machine whose record cannot be read is a machine that could run twice, so the agent must
    /// not start.
    pub async fn take_up(
        settings: Settings,
        records: Records,
        reporter: Reporter,
        recorder: Recorder,
        now: Timestamp,
    ) -> Result<(Self, Vec<Interrupted>), RecordsError> {
        let shared = Shared::new(settings, records, reporter, recorder);
        let machines = Self { shared: Arc::new(shared) };
        let found = machines.shared.load(now).await?;
        machines.shared.sweep(&found).await;
        let mut taken_up = Vec::new();
        for record in found {
            let (place, ready) = machines.shared.start_driver(record.vm, Some(record.clone()));
            taken_up.push((record.clone(), place.requests.clone(), ready));
            machines.shared.drivers().insert(record.vm, place);
        }
        let mut interrupted = Vec::new();
        for (record, requests, ready) in taken_up {
            // An error means that the driver ended, which it does only with the agent.
            let Ok(qmp) = ready.await else { continue };
            interrupted.extend(machines.shared.interrupted(record, requests, qmp).await?);
        }
        machines.shared.recorder.settle();
        Ok((machines, interrupted))
    }

    /// Puts an order into the machine's queue; orders of one machine are begun in the order of these calls. The answer
    /// comes when the order has been followed or refused; a shutdown that the guest does not follow is given up at
    /// `deadline`.
    pub fn order(
        &self,
        vm: VmId,
        generation: Generation,
        order: MachineOrder,
        deadline: Instant,
    ) -> oneshot::Receiver<EffectOutcome> {
        let (reply, answer) = oneshot::channel();
        let request = OrderRequest { generation, order, deadline, reply };
        if let Err(refused) = self.shared.submit(vm, Request::Order(request)) {
            let reason = refused.to_string();
            refused.request.refuse(EffectOutcome::Failed { reason });
        }
        answer
    }

    /// Lends a machine to a migration at its source.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub async fn lend(
        &self,
        vm: VmId,
        generation: Generation,
        role: SourceRole,
    ) -> Result<SourceGuest, LeaseError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Lend(Box::new(LendRequest { generation, role, reply }));
        self.shared
            .submit(vm, request)
            .map_err(|refused| LeaseError::Unfit(refused.to_string()))?;
        answer.await.map_err(|_| LeaseError::Ending)?
    }

    /// Makes room for a machine that a migration will bring.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub async fn expect(
        &self,
        vm: VmId,
        generation: Generation,
        spec: VmSpec,
        role: TargetRole,
    ) -> Result<IncomingGuest, LeaseError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Expect(Box::new(ExpectRequest { generation, spec, role, reply }));
        self.shared
            .submit(vm, request)
            .map_err(|refused| LeaseError::Unfit(refused.to_string()))?;
        answer.await.map_err(|_| LeaseError::Ending)?
    }

    /// What became of a migration to this node; `None` if it was never heard of.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub async fn verdict(
        &self,
        vm: VmId,
        migration: MigrationId,
    ) -> Result<Option<Verdict>, RecordsError> {
        let record: Option<VmRecord> = self.shared.records.get(RecordName::Vm(vm)).await?;
        if let Some(record) = record {
            match record.role {
                Role::Target(role) if role.migration == migration => {
                    return Ok(Some(role.decision.verdict()));
                }
                _ if record.arrived_by == Some(migration) => return Ok(Some(Verdict::Accepted)),
                _ => (),
            }
        }
        let verdict: Option<VerdictRecord> =
            self.shared.records.get(RecordName::Verdict(migration)).await?;
        Ok(verdict.map(|verdict| verdict.decision.verdict()))
    }

    /// What is recorded of a migration from this node.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub async fn departure(
        &self,
        vm: VmId,
        migration: MigrationId,
    ) -> Result<Departure, RecordsError> {
        let record: Option<VmRecord> = self.shared.records.get(RecordName::Vm(vm)).await?;
        let Some(VmRecord { role, stayed, .. }) = record else { return Ok(Departure::None) };
        Ok(match (role, stayed) {
            (Role::Source(role), _) if role.migration == migration => Departure::Open,
            (_, Some(stay)) if stay.migration == migration => Departure::Stayed(Box::new(stay.end)),
            _ => Departure::None,
        })
    }

    /// Whether a migration was refused here.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub async fn has_refused(&self, migration: MigrationId) -> Result<bool, RecordsError> {
        Ok(self.shared.decision(migration).await? == TargetRecord::Refused)
    }

    /// Refuses a migration that was never expected here, durably: it will not be accepted later.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub async fn refuse(&self, migration: MigrationId) -> Result<(), RecordsError> {
        self.shared.decide(migration, TargetRecord::Refused).await
    }

    /// The store of kernels, to receive what a machine that arrives needs.
    pub fn files(&self) -> &FileStore {
        &self.shared.files
    }

    /// What this host can run.
    pub fn hypervisor(&self) -> &Hypervisor {
        &self.shared.hypervisor
    }

    /// Every machine in this agent's care.
    pub fn inventory(&self) -> Vec<MachineReport> {
        self.shared.inventory().values().cloned().collect()
    }

    /// Every machine whose process is there and that is this agent's.
    pub fn measurable(&self) -> Vec<Measurable> {
        self.shared.measurable_now().values().cloned().collect()
    }

    /// Tells once more how a machine stands: what was told before its arrival was known counted for nothing.
    pub fn report_again(&self, vm: VmId) {
        if let Some(report) = self.shared.inventory().get(&vm).cloned() {
            self.shared.reporter.machine(report);
        }
    }

    /// A machine's console.
    pub fn console(&self, vm: VmId, from_offset: u64, follow: bool) -> Option<Attachment> {
        let port = Arc::clone(&self.shared.drivers().get(&vm)?.port);
        let directories = self.shared.launcher.directories.machine(vm);
        let (log, socket) = (directories.console_log(), directories.serial());
        Some(Attachment { log, socket, port, from_offset, follow })
    }

    /// Ends all drivers; guests go on.
    pub async fn shut_down(&self) {
        self.shared.shutdown.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        // Connections to QEMU are the next agent's.
        self.shared.measurable_now().clear();
    }
}

/// A request that no driver can take.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
struct NotTaken {
    why: &'static str,
    request: Box<Request>,
}

fn not_taken(why: &'static str, request: Request) -> NotTaken {
    NotTaken { why, request: Box::new(request) }
}

impl Shared {
    fn new(settings: Settings, records: Records, reporter: Reporter, recorder: Recorder) -> Self {
        let files = FileStore::new(settings.directories.files());
        let disks =
            DiskMaker { qemu_img: settings.qemu_img, images: settings.directories.images.clone() };
        let former = FormerDisks::new(settings.directories.former(), settings.disk_cache_bytes);
        let launcher = Launcher {
            directories: settings.directories,
            files: files.clone(),
            qemu: settings.qemu,
            swtpm: settings.swtpm.clone(),
        };
        Self {
            launcher,
            disks,
            files,
            former,
            swtpm: settings.swtpm,
            hypervisor: settings.hypervisor,
            records,
            reporter,
            recorder,
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
            drivers: Mutex::default(),
            inventory: Mutex::default(),
            measurable: Mutex::default(),
        }
    }

    /// Every machine's record; verdicts that are too old to be asked for are forgotten on the way.
    async fn load(&self, now: Timestamp) -> Result<Vec<VmRecord>, RecordsError> {
        let mut found = Vec::new();
        for name in self.records.names().await? {
            match name {
                RecordName::Vm(_) => found.extend(self.records.get(name).await?),
                RecordName::Verdict(_) => {
                    let verdict: Option<VerdictRecord> = self.records.get(name).await?;
                    let decided = verdict.map_or(0, |verdict| verdict.decided_at_unix_ms);
                    if now.since_ms(Timestamp::from_unix_ms(decided)) > VERDICT_KEPT_MS {
                        self.records.remove(name).await?;
                    }
                }
                _ => (),
            }
        }
        Ok(found)
    }

    /// Removes what an earlier run left unfinished: half-made machines and kernels that nobody needs. A finished
    /// directory without a record is left alone and named: it may hold somebody's data.
    async fn sweep(&self, found: &[VmRecord]) {
        let known: Vec<String> = found.iter().map(|record| record.vm.to_string()).collect();
        let machines = self.launcher.directories.machines();
        for entry in std::fs::read_dir(&machines).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension() == Some(OsStr::new("new")) {
                if let Err(error) = std::fs::remove_dir_all(&path) {
                    tracing::error!(path = %path.display(), %error, "cannot be removed");
                }
            } else if !known.iter().any(|name| entry.file_name() == OsStr::new(name)) {
                tracing::warn!(path = %path.display(), "belongs to no machine of this agent; left alone");
            }
        }
        self.sweep_memory(found);
        self.make_room().await;
        self.collect_files().await;
    }

    /// Memory that still has a name belongs to an arrival: a guest's own has none. Only one that is not decided goes on.
    fn sweep_memory(&self, found: &[VmRecord]) {
        let arrives = |vm: VmId| {
            let is_it =
                |record: &VmRecord| record.vm == vm && matches!(record.role, Role::Target(_));
            found.iter().any(is_it)
        };
        for entry in
            std::fs::read_dir(&self.launcher.directories.memory).into_iter().flatten().flatten()
        {
            let vm = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if vm.is_some_and(|vm| !arrives(vm))
                && let Err(error) = std::fs::remove_file(entry.path())
            {
                tracing::error!(path = %entry.path().display(), %error, "cannot be removed");
            }
        }
    }

    /// Removes kernels that no record needs, unless some machine is being made at this moment: then the next one
    /// that is removed does it.
    pub(super) async fn collect_files(&self) {
        let Some(_all) = self.files.try_lock_all() else { return };
        let mut needed = std::collections::BTreeSet::new();
        let names = self.records.names().await.unwrap_or_default();
        for name in names.into_iter().filter(|name| matches!(name, RecordName::Vm(_))) {
            match self.records.get::<VmRecord>(name).await {
                Ok(Some(VmRecord { hardware: Some(hardware), .. })) => {
                    needed.extend(hardware.boot.hashes());
                }
                Ok(_) => (),
                Err(error) => {
                    tracing::error!(%name, error = &error as &dyn std::error::Error, "unreadable");
                    return;
                }
            }
        }
        if let Err(error) = self.files.keep_only(&needed) {
            tracing::error!(error = &error as &dyn std::error::Error, "kernels stay behind");
        }
    }

    /// The agent may have ended between taking a machine and saying so; hearing it twice is normal.
    async fn repeat_arrival(&self, record: &VmRecord) {
        let Some(migration) = record.arrived_by else { return };
        let handover = Handover { migration, vm: record.vm, generation: record.generation };
        if let Err(error) = self.reporter.handed_over(handover).await {
            tracing::error!(vm = %record.vm, reason = reason(&error), "an arrival cannot be told again");
        }
    }

    /// The agent may have ended between keeping a machine and saying that its migration is over.
    async fn repeat_stay(&self, record: &VmRecord) {
        let Some(Stay { migration, end }) = record.stayed.clone() else { return };
        if let Err(error) = self.reporter.migration_ended(migration, end).await {
            tracing::error!(vm = %record.vm, reason = reason(&error), "an end cannot be told again");
        }
    }

    async fn interrupted(
        &self,
        record: VmRecord,
        requests: mpsc::Sender<Request>,
        qmp: Option<Qmp>,
    ) -> Result<Option<Interrupted>, RecordsError> {
        let line = super::lease::Line { requests };
        let directories = self.launcher.directories.machine(record.vm);
        Ok(match record.role.clone() {
            Role::Owner => {
                self.repeat_arrival(&record).await;
                self.repeat_stay(&record).await;
                None
            }
            Role::Source(role) => {
                let guest = |facts| SourceGuest { line, facts, role, qmp };
                super::lending::facts(self, &record).map(guest).map(Interrupted::Source)
            }
            Role::Target(role) => Some(Interrupted::Target(IncomingGuest {
                line,
                vm: record.vm,
                generation: record.generation,
                spec: record.spec,
                role: TargetRole { decision: self.decision(role.migration).await?, ..role },
                directories,
                memory: None,
                files_held: self.files.hold().await,
            })),
        })
    }

    /// What was decided about a migration to this node: a refusal is written beside the machine's record, before anything
    /// is removed.
    async fn decision(&self, migration: MigrationId) -> Result<TargetRecord, RecordsError> {
        let name = RecordName::Verdict(migration);
        let verdict: Option<VerdictRecord> = self.records.get(name).await?;
        Ok(verdict.map_or(TargetRecord::Waiting, |verdict| verdict.decision))
    }

    /// Makes the end of a migration durable at its target.
    pub(super) async fn decide(
        &self,
        migration: MigrationId,
        decision: TargetRecord,
    ) -> Result<(), RecordsError> {
        let decided_at_unix_ms = crate::clock::now().unix_ms;
        let verdict = VerdictRecord { decision, decided_at_unix_ms };
        self.records.put(RecordName::Verdict(migration), &verdict).await
    }

    /// Gives a request to the machine's driver, which is started if there is none. All of it under the lock that
    /// [`Self::retire`] takes, so no request can reach a driver that is about to end.
    fn submit(self: &Arc<Self>, vm: VmId, request: Request) -> Result<(), NotTaken> {
        let mut drivers = self.drivers();
        if !drivers.contains_key(&vm) && drivers.len() >= MACHINES_PER_NODE_MAX {
            return Err(not_taken("this node has all the machines it may have", request));
        }
        let place = drivers.entry(vm).or_insert_with(|| self.start_driver(vm, None).0);
        place.requests.try_send(request).map_err(|error| match error {
            TrySendError::Full(request) => {
                not_taken("too many orders wait for this machine; try again later", request)
            }
            TrySendError::Closed(request) => not_taken("the agent is ending", request),
        })
    }

    /// Starts a driver. It says when it has taken up what there is.
    fn start_driver(
        self: &Arc<Self>,
        vm: VmId,
        record: Option<VmRecord>,
    ) -> (Place, oneshot::Receiver<Option<Qmp>>) {
        let (requests, queue) = mpsc::channel(REQUESTS_WAITING_MAX);
        let (ready, taken_up) = oneshot::channel();
        let driver = Driver::new(vm, Arc::clone(self), requests.clone());
        self.tasks.spawn(driver.run(record, queue, ready));
        (Place { requests, port: Arc::default() }, taken_up)
    }

    /// Forgets the driver of a machine that is gone, unless a request came in the meantime.
    pub(super) fn retire(&self, vm: VmId, queue: &mpsc::Receiver<Request>) -> bool {
        let mut drivers = self.drivers();
        let is_idle = queue.is_empty();
        if is_idle {
            drivers.remove(&vm);
        }
        is_idle
    }

    /// Tells how a machine stands, if that is new.
    pub(super) fn publish(&self, vm: VmId, report: Option<MachineReport>) {
        let mut inventory = self.inventory();
        match report {
            None => drop(inventory.remove(&vm)),
            Some(report) if inventory.get(&vm) == Some(&report) => (),
            Some(report) => {
                inventory.insert(vm, report.clone());
                self.reporter.machine(report);
            }
        }
    }

    fn drivers(&self) -> MutexGuard<'_, HashMap<VmId, Place>> {
        self.drivers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how a machine can be measured, if it can.
    pub(super) fn note_measurable(&self, vm: VmId, found: Option<Measurable>) {
        let mut measurable = self.measurable_now();
        match found {
            Some(found) => drop(measurable.insert(vm, found)),
            None => drop(measurable.remove(&vm)),
        }
    }

    fn measurable_now(&self) -> MutexGuard<'_, BTreeMap<VmId, Measurable>> {
        self.measurable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inventory(&self) -> MutexGuard<'_, BTreeMap<VmId, MachineReport>> {
        self.inventory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
