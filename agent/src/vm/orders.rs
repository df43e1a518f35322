//! What a driver does for the coordinators' orders.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use novacron_protocol::effect::EffectOutcome;
use novacron_protocol::ids::Generation;
use novacron_protocol::limits::SNAPSHOTS_PER_VM_MAX;
use novacron_protocol::session::handover::TargetRecord;
use novacron_protocol::size::display_size;
use novacron_protocol::vm::{Boot, Network, VmSpec};

use super::command_line::Purpose;
use super::directories::disk_file;
use super::driver::{Driver, OrderRequest, StopWaiter, answer};
use super::fence::{Stale, fence};
use super::files::{FileError, FileStore};
use super::image::ImageError;
use super::launch::{Blueprint, LaunchError};
use super::machine::{Machine, Order, Refusal, State, Step};
use super::machines::MachineOrder;
use super::network::{NetworkError, check_bridge};
use super::record::{BootFiles, Desired, Hardware, Processor, Role, VmRecord};
use super::tpm::{self, TpmError};
use crate::host::Unfit;
use crate::qmp::QmpError;
use crate::reason::reason;
use crate::records::{RecordName, RecordsError};

/// Why an order could not be followed.
#[derive(Debug, thiserror::Error)]
pub(super) enum OrderError {
    #[error(transparent)]
    Stale(#[from] Stale),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error(transparent)]
    Tpm(#[from] TpmError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Launch(#[from] LaunchError),
    #[error(transparent)]
    Records(#[from] RecordsError),
    #[error(transparent)]
    Qmp(#[from] QmpError),
    #[error("{} cannot be made or removed", path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the machine has {SNAPSHOTS_PER_VM_MAX} snapshots; delete one")]
    TooManySnapshots,
    #[error("disk {index} is not qcow2, and snapshots are kept in qcow2 disks only")]
    NotQcow2 { index: usize },
    #[error(
        "a snapshot may come to need {} more on this node, and {} are free",
        display_size(*needed_bytes), display_size(*free_bytes)
    )]
    NoRoom { needed_bytes: u64, free_bytes: u64 },
    #[error("the machine has no such snapshot on this node")]
    NoSnapshot,
    #[error("disk {index} does not have the snapshot any more; nothing was restored")]
    NotInDisk { index: usize },
    #[error("the machine's disks were restored in part only; restore the snapshot again")]
    HalfRestored,
    #[error("QEMU does not answer; stop the machine with --force")]
    NoAnswer,
    #[error("the agent is ending")]
    Ending,
}

/// What became of an order at once.
enum Progress {
    Done,
    /// The answer comes when the guest has shut down, or has not.
    GuestAsked,
}

impl Driver {
    pub(super) async fn take_order(&mut self, request: OrderRequest) {
        let OrderRequest { generation, order, deadline, reply } = request;
        let outcome = match self.obey(generation, order).await {
            Ok(Progress::GuestAsked) => {
                self.stops.push(StopWaiter { deadline, reply });
                return;
            }
            Ok(Progress::Done) => EffectOutcome::Done,
            Err(OrderError::Stale(stale)) => stale.into(),
            Err(error) => {
                let reason = reason(&error);
                tracing::warn!(%reason, "order not followed");
                EffectOutcome::Failed { reason }
            }
        };
        answer(reply, outcome);
    }

    async fn obey(
        &mut self,
        generation: Generation,
        order: MachineOrder,
    ) -> Result<Progress, OrderError> {
        let held = self.held();
        match order {
            MachineOrder::Create(spec) if held.is_none() => self.create(generation, *spec).await,
            MachineOrder::Create(_) => {
                fence((), generation, held)?;
                Ok(Progress::Done)
            }
            MachineOrder::Snapshot(order) => {
                let order = fence(order, generation, held)?.into_inner();
                self.keep_or_restore(order).await?;
                Ok(Progress::Done)
            }
            // What is not here needs no removing.
            MachineOrder::Existing(Order::Destroy) if *self.machine.state() == State::Absent => {
                Ok(Progress::Done)
            }
            MachineOrder::Existing(order) => {
                let order = fence(order, generation, held)?.into_inner();
                self.perform(order).await
            }
        }
    }

    async fn perform(&mut self, order: Order) -> Result<Progress, OrderError> {
        let step = self.machine.order(order)?;
        match step {
            Step::Nothing => self.note_rest(order).await,
            Step::Launch => self.launch_guest().await?,
            Step::Relaunch => self.relaunch_guest().await?,
            Step::Continue => self.qmp().ok_or(OrderError::NoAnswer)?.cont().await?,
            Step::PressPower => {
                self.press_power().await?;
                self.machine.took(step);
                return Ok(Progress::GuestAsked);
            }
            Step::Kill => {
                // Durable first: a process that is gone is then no failure, whatever happens to the agent.
                self.save(|record| record.desired = Desired::Stopped).await?;
                self.machine.took(step);
                self.end_process().await;
                return Ok(Progress::Done);
            }
            Step::Remove => self.remove_everything().await?,
        }
        self.machine.took(step);
        Ok(Progress::Done)
    }

    /// A machine that failed and is told to stop is stopped: the failure has been seen.
    async fn note_rest(&mut self, order: Order) {
        if matches!(order, Order::Stop { .. }) {
            self.update(|record| {
                record.desired = Desired::Stopped;
                record.failure = None;
            })
            .await;
            if matches!(self.machine.state(), State::Failed { .. }) {
                self.machine.created();
            }
        }
    }

    /// Starts the guest. That it shall run is durable before it does.
    pub(super) async fn launch_guest(&mut self) -> Result<(), OrderError> {
        if self.record.as_ref().is_some_and(|record| record.restoring.is_some()) {
            return Err(OrderError::HalfRestored);
        }
        let hypervisor = &self.shared.hypervisor;
        hypervisor.check()?;
        let processor = Processor::new(hypervisor.accelerator);
        let chosen = processor.clone();
        self.save(|record| {
            record.desired = Desired::Running;
            record.failure = None;
            record.processor = Some(chosen);
        })
        .await?;
        match self.launch(&processor, Purpose::Run).await {
            Ok(()) => {
                self.shared.recorder.hasten();
                Ok(())
            }
            Err(error) => {
                let reason = reason(&error);
                let failure = reason.clone();
                self.update(|record| {
                    record.desired = Desired::Stopped;
                    record.failure = Some(failure);
                })
                .await;
                self.machine.failed(reason);
                Err(error)
            }
        }
    }

    /// Ends the process, if there is one, and starts the guest in another.
    pub(super) async fn relaunch_guest(&mut self) -> Result<(), OrderError> {
        self.machine = Machine::new(State::Stopping);
        self.end_process().await;
        self.launch_guest().await
    }

    /// Starts a process for this machine.
    pub(super) async fn launch(
        &mut self,
        processor: &Processor,
        purpose: Purpose,
    ) -> Result<(), OrderError> {
        let Some(VmRecord { spec, hardware: Some(hardware), .. }) = &self.record else {
            return Err(Refusal::Absent.into());
        };
        let blueprint = Blueprint { vm: self.vm, spec, hardware, processor };
        let running = self.shared.launcher.launch(blueprint, purpose).await?;
        self.set_running(Some(running));
        Ok(())
    }

    async fn create(
        &mut self,
        generation: Generation,
        spec: VmSpec,
    ) -> Result<Progress, OrderError> {
        if let State::Expecting { migration } = self.machine.state() {
            return Err(Refusal::Migrating(*migration).into());
        }
        self.check_fit(&spec)?;
        let files_held = self.shared.files.hold().await;
        let made = self.make(generation, spec).await;
        drop(files_held);
        if made.is_err() {
            // Best effort: the next attempt begins by removing it, and so does the agent's next start.
            let unfinished = self.shared.launcher.directories.machine(self.vm).unfinished();
            let _ = fs::remove_dir_all(unfinished);
            self.shared.collect_files().await;
        }
        self.record = Some(made?);
        self.machine.created();
        Ok(Progress::Done)
    }

    /// Whether this host can run such a machine at all.
    pub(super) fn check_fit(&self, spec: &VmSpec) -> Result<(), OrderError> {
        self.shared.hypervisor.check()?;
        if spec.enable_tpm {
            tpm::check(&self.shared.swtpm)?;
        }
        if let Network::Bridge { bridge } = &spec.network {
            check_bridge(bridge)?;
        }
        Ok(())
    }

    /// Makes the disks aside, puts them in place as one, and writes the record last.
    async fn make(&self, generation: Generation, spec: VmSpec) -> Result<VmRecord, OrderError> {
        let directories = self.shared.launcher.directories.machine(self.vm);
        let unfinished = directories.unfinished();
        let fresh = unfinished.clone();
        blocking(move || replace_directory(&fresh)).await?;
        self.shared.make_room().await;
        let boot = import_boot(&self.shared.files, &spec.boot).await?;
        let mut disks = Vec::new();
        for (index, disk) in spec.disks.iter().enumerate() {
            let path = disk_file(&unfinished, index, disk.format);
            disks.push(self.shared.disks.make(disk, &path).await?);
        }
        blocking(move || put_in_place(&unfinished, &directories.durable)).await?;
        let machine_type = self.shared.hypervisor.machine_type().to_owned();
        let record = VmRecord {
            vm: self.vm,
            generation,
            spec,
            hardware: Some(Hardware { machine_type, boot, disks }),
            desired: Desired::Stopped,
            processor: None,
            failure: None,
            role: Role::Owner,
            arrived_by: None,
            stayed: None,
            snapshots: Vec::new(),
            restoring: None,
        };
        self.shared.records.put(RecordName::Vm(self.vm), &record).await?;
        Ok(record)
    }

    /// Ends the process, whatever it is busy with.
    pub(super) async fn kill_process(&mut self) {
        if let Some(running) = self.running.take() {
            running.process.kill_and_wait().await;
        }
        self.set_running(None);
    }

    /// Ends the process and removes everything, the record last: until then it can be asked for again.
    pub(super) async fn remove_everything(&mut self) -> Result<(), OrderError> {
        self.kill_process().await;
        self.arriving = None;
        self.shared.launcher.clean_up(self.vm).await;
        self.shared.launcher.remove_memory(self.vm);
        let directories = self.shared.launcher.directories.machine(self.vm);
        blocking(move || {
            remove_directory(&directories.unfinished())?;
            remove_directory(&directories.durable)
        })
        .await?;
        if let Some(migration) = self.record.as_ref().and_then(|record| record.arrived_by) {
            // Its source may still ask whether it was taken.
            self.shared.decide(migration, TargetRecord::Accepted).await?;
        }
        self.shared.records.remove(RecordName::Vm(self.vm)).await?;
        self.record = None;
        for stop in self.stops.drain(..) {
            answer(stop.reply, EffectOutcome::Done);
        }
        self.shared.collect_files().await;
        tracing::info!("machine removed");
        Ok(())
    }
}

async fn import_boot(files: &FileStore, boot: &Boot) -> Result<BootFiles, OrderError> {
    let Boot::Kernel { kernel, initrd, append } = boot.clone() else { return Ok(BootFiles::Disk) };
    let files = files.clone();
    blocking(move || {
        let kernel = files.import("kernel", Path::new(&kernel))?;
        let has_initrd = !initrd.is_empty();
        let initrd = has_initrd.then(|| files.import("initrd", Path::new(&initrd))).transpose()?;
        Ok(BootFiles::Kernel { kernel, initrd, append })
    })
    .await
}

/// Work on files that may take long: not on the reactor.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OrderError> + Send + 'static,
) -> Result<T, OrderError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| OrderError::Ending)?
}

pub(super) fn replace_directory(path: &Path) -> Result<(), OrderError> {
    remove_directory(path)?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| OrderError::Directory { path: path.to_owned(), source })
}

fn remove_directory(path: &Path) -> Result<(), OrderError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(OrderError::Directory { path: path.to_owned(), source: error })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Durable on return: content, then name.
fn put_in_place(unfinished: &Path, finished: &Path) -> Result<(), OrderError> {
    sync_content(unfinished)?;
    // Left by a creation that ended before its record was written.
    remove_directory(finished)?;
    fs::rename(unfinished, finished)
        .map_err(|source| OrderError::Directory { path: finished.to_owned(), source })?;
    sync_name(finished)
}

/// Makes a directory's files and their names durable.
pub(super) fn sync_content(directory: &Path) -> Result<(), OrderError> {
    let failed = |source| OrderError::Directory { path: directory.to_owned(), source };
    for entry in fs::read_dir(directory).map_err(failed)? {
        let file = fs::File::open(entry.map_err(failed)?.path()).map_err(failed)?;
        file.sync_all().map_err(failed)?;
    }
    fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)
}

/// Makes the name of a directory durable.
pub(super) fn sync_name(directory: &Path) -> Result<(), OrderError> {
    let parent = directory.parent().unwrap_or(Path::new("/"));
    fs::File::open(parent)
        .and_then(|parent| parent.sync_all())
        .map_err(|source| OrderError::Directory { path: parent.to_owned(), source })
}
