//! What a driver does for a migration.

use std::sync::Arc;
use std::time::Duration;

use novacron_protocol::effect::MigrationEnd;
use novacron_protocol::ids::Generation;
use novacron_protocol::migration::MigrationMode;
use novacron_protocol::node::Accelerator;
use novacron_protocol::session::handover::{SourceRecord, TargetRecord};
use novacron_protocol::vm::VmSpec;
use tokio::time::Instant;

use super::command_line::Purpose;
use super::directories::MachineDirectories;
use super::driver::{Driver, answer};
use super::fence::{Stale, fence};
use super::launch::Blueprint;
use super::lease::{
    GuestFacts, IncomingGuest, LeaseError, LeaseRequest, Line, Receiving, SourceGuest,
};
use super::machine::{Refusal, State, Step};
use super::machines::Shared;
use super::orders::{OrderError, blocking, replace_directory, sync_content, sync_name};
use super::record::{
    Desired, Hardware, MEMO_BYTES_MAX, Processor, Role, SourceRole, Stay, TargetRole, VmRecord,
};
use crate::qmp::RunState;
use crate::reason::reason;
use crate::records::RecordName;
use crate::sys::GuestMemory;

/// How often and how long a guest is told to go on whose QEMU is still busy with the end of its migration.
const CONTINUE_ATTEMPTS: u32 = 50;
const CONTINUE_INTERVAL: Duration = Duration::from_millis(100);

impl From<OrderError> for LeaseError {
    fn from(error: OrderError) -> Self {
        match error {
            OrderError::Stale(stale) => Self::Stale(stale),
            OrderError::Refused(refusal) => Self::Refused(refusal),
            OrderError::File(error) => Self::File(error),
            OrderError::Image(error) => Self::Disk(error),
            OrderError::Launch(error) => Self::Launch(error),
            OrderError::Records(error) => Self::Records(error),
            OrderError::Qmp(error) => Self::Qmp(error),
            OrderError::Directory { path, source } => Self::Directory { path, source },
            OrderError::NoAnswer => Self::NoProcess,
            OrderError::Ending => Self::Ending,
            OrderError::Unfit(_)
            | OrderError::Tpm(_)
            | OrderError::Network(_)
            | OrderError::TooManySnapshots
            | OrderError::NotQcow2 { .. }
            | OrderError::NoRoom { .. }
            | OrderError::NoSnapshot
            | OrderError::NotInDisk { .. }
            | OrderError::HalfRestored => Self::Unfit(reason(&error)),
        }
    }
}

/// What a migration may know of the machine; `None` for one that has not been made yet.
pub(super) fn facts(shared: &Shared, record: &VmRecord) -> Option<GuestFacts> {
    let of_new_guest = || Processor::new(shared.hypervisor.accelerator);
    Some(GuestFacts {
        vm: record.vm,
        generation: record.generation,
        spec: record.spec.clone(),
        hardware: record.hardware.clone()?,
        processor: record.processor.clone().unwrap_or_else(of_new_guest),
        directories: shared.launcher.directories.machine(record.vm),
    })
}

impl Driver {
    pub(super) async fn lend(
        &mut self,
        generation: Generation,
        role: SourceRole,
    ) -> Result<SourceGuest, LeaseError> {
        fence((), generation, self.held())?;
        let stayed = self.record.as_ref().and_then(|record| record.stayed.as_ref());
        if stayed.is_some_and(|stay| stay.migration == role.migration) {
            return Err(LeaseError::Over);
        }
        // The coordinators know that, unless they were restored from a backup that is older than the snapshots.
        let snapshots = self.record.as_ref().map_or(0, |record| record.snapshots.len());
        if snapshots > 0 {
            let text = format!("the machine has {snapshots} snapshots, which cannot move");
            return Err(LeaseError::Unfit(text));
        }
        let mut lent = self.machine.clone();
        lent.lend(role.migration, role.mode != MigrationMode::Cold)?;
        let saved_role = role.clone();
        self.save(|record| record.role = Role::Source(saved_role)).await?;
        self.machine = lent;
        let record = self.record.as_ref().ok_or(Refusal::Absent)?;
        let facts = facts(&self.shared, record).ok_or(Refusal::Absent)?;
        Ok(SourceGuest { line: self.line(), facts, role, qmp: self.qmp().cloned() })
    }

    pub(super) async fn expect(
        &mut self,
        generation: Generation,
        spec: VmSpec,
        role: TargetRole,
    ) -> Result<IncomingGuest, LeaseError> {
        if let Some(held) = self.held() {
            return Err(Stale { held: Some(held) }.into());
        }
        let mut expecting = self.machine.clone();
        expecting.expect(role.migration)?;
        self.check_fit(&spec)?;
        // A host without the memory says so now, before a byte is moved.
        let reserve = role.mode == MigrationMode::Live;
        let launcher = &self.shared.launcher;
        let memory = launcher.make_memory(self.vm, spec.memory_bytes, reserve).await?;
        let files_held = self.shared.files.hold().await;
        let record = VmRecord {
            vm: self.vm,
            generation,
            spec: spec.clone(),
            hardware: None,
            desired: Desired::Stopped,
            processor: None,
            failure: None,
            role: Role::Target(role.clone()),
            arrived_by: None,
            stayed: None,
            snapshots: Vec::new(),
            restoring: None,
        };
        if let Err(error) = self.shared.records.put(RecordName::Vm(self.vm), &record).await {
            self.shared.launcher.remove_memory(self.vm);
            return Err(error.into());
        }
        self.record = Some(record);
        self.machine = expecting;
        self.arriving = Some(Arc::clone(&memory));
        let directories = self.shared.launcher.directories.machine(self.vm);
        let vm = self.vm;
        Ok(IncomingGuest {
            line: self.line(),
            vm,
            generation,
            spec,
            role,
            directories,
            memory: Some(memory),
            files_held,
        })
    }

    fn line(&self) -> Line {
        Line { requests: self.requests.clone() }
    }

    pub(super) async fn take_lease(&mut self, request: LeaseRequest) {
        match request {
            LeaseRequest::Decide { decision, memo, reply } => {
                answer(reply, self.decide(decision, memo).await);
            }
            LeaseRequest::Remember { memo, reply } => answer(reply, self.remember(memo).await),
            LeaseRequest::CountRestart { restarts, reply } => {
                answer(reply, self.count_restart(restarts).await);
            }
            LeaseRequest::HoldDisks { reply } => answer(reply, self.hold_disks().await),
            LeaseRequest::ShutDown { reply } => answer(reply, self.shut_down().await),
            LeaseRequest::GoOn { reply } => answer(reply, self.go_on().await),
            LeaseRequest::Keep { end, reply } => answer(reply, self.keep(*end).await),
            LeaseRequest::Remove { reply } => answer(reply, self.remove_lent().await),
            LeaseRequest::Prepare { hardware, processor, reply } => {
                answer(reply, self.prepare(hardware, processor).await);
            }
            LeaseRequest::Accept { start, reply } => answer(reply, self.accept(start).await),
            LeaseRequest::Reject { reply } => answer(reply, self.reject().await),
        }
    }

    /// The role at a migration's source; a lease that outlived its migration gets a refusal.
    fn source_role(&self) -> Result<&SourceRole, LeaseError> {
        match self.record.as_ref().map(|record| &record.role) {
            Some(Role::Source(role)) => Ok(role),
            _ => Err(Refusal::Absent.into()),
        }
    }

    fn target_role(&self) -> Result<TargetRole, LeaseError> {
        match self.record.as_ref().map(|record| &record.role) {
            Some(Role::Target(role)) => Ok(role.clone()),
            _ => Err(Refusal::Absent.into()),
        }
    }

    async fn decide(&mut self, decision: SourceRecord, memo: Vec<u8>) -> Result<(), LeaseError> {
        let role = self.source_role()?;
        if memo.len() > MEMO_BYTES_MAX {
            return Err(LeaseError::Unfit(format!("a memo of over {MEMO_BYTES_MAX} bytes")));
        }
        let role = SourceRole { decision, memo, ..role.clone() };
        self.save(|record| record.role = Role::Source(role)).await?;
        Ok(())
    }

    async fn remember(&mut self, memo: Vec<u8>) -> Result<(), LeaseError> {
        match self.source_role()?.decision {
            SourceRecord::Holds => self.decide(SourceRecord::Holds, memo).await,
            // What was decided came with what was known then, and may be asked for late.
            _ => Ok(()),
        }
    }

    async fn count_restart(&mut self, restarts: u32) -> Result<(), LeaseError> {
        let role = SourceRole { restarts, ..self.source_role()?.clone() };
        self.save(|record| record.role = Role::Source(role)).await?;
        Ok(())
    }

    async fn hold_disks(&mut self) -> Result<crate::qmp::Qmp, LeaseError> {
        self.source_role()?;
        if self.running.is_none() {
            self.shared.hypervisor.check().map_err(OrderError::from)?;
            let processor = Processor::new(self.shared.hypervisor.accelerator);
            self.launch(&processor, Purpose::HoldDisks).await?;
        }
        self.qmp().cloned().ok_or(LeaseError::NoProcess)
    }

    async fn shut_down(&mut self) -> Result<(), LeaseError> {
        let role = SourceRole { is_shut_down: true, ..self.source_role()?.clone() };
        // Durable first: a guest that ends is then one that is to be started again.
        self.save(|record| record.role = Role::Source(role)).await?;
        Ok(self.qmp().ok_or(LeaseError::NoProcess)?.power_down().await?)
    }

    /// A guest that was shut down for a migration that did not come about. While the role still says so: whatever
    /// becomes of this agent, it is started again.
    async fn start_again(&mut self) {
        let status = match self.qmp() {
            Some(qmp) => qmp.status().await.ok().map(|seen| seen.status),
            None => None,
        };
        // One that does not answer may have crashed while it shut down, and be about to end.
        let has_ended = match status {
            Some(status) => status == RunState::Shutdown,
            None => self.has_ended_soon().await,
        };
        if !has_ended {
            return;
        }
        if let Err(error) = self.relaunch_guest().await {
            tracing::error!(error = reason(&error), "the guest does not start again");
        }
    }

    /// A guest that stands still because its migration was in the switchover, or had completed in QEMU.
    async fn go_on(&mut self) -> Result<(), LeaseError> {
        self.source_role()?;
        if !self.shall_run() {
            return Ok(());
        }
        for _ in 0..CONTINUE_ATTEMPTS {
            self.end_migration().await;
            let qmp = self.qmp().ok_or(LeaseError::NoProcess)?;
            match qmp.status().await?.status {
                RunState::Running | RunState::Suspended | RunState::IoError => return Ok(()),
                RunState::Shutdown | RunState::GuestPanicked => return Err(LeaseError::NoProcess),
                _ if qmp.cont().await.is_ok() => return Ok(()),
                _ => tokio::time::sleep(CONTINUE_INTERVAL).await,
            }
        }
        Err(LeaseError::Unfit("the guest does not go on".to_owned()))
    }

    async fn keep(&mut self, end: MigrationEnd) -> Result<(), LeaseError> {
        let role = self.source_role()?;
        let (migration, is_shut_down) = (role.migration, role.is_shut_down);
        if is_shut_down {
            self.start_again().await;
        }
        self.save(|record| {
            record.role = Role::Owner;
            record.stayed = Some(Stay { migration, end });
        })
        .await?;
        for _ in 0..CONTINUE_ATTEMPTS {
            self.end_migration().await;
            self.settle().await;
            if !matches!(self.machine.state(), State::Paused { reason } if reason.is_empty()) {
                break;
            }
            tokio::time::sleep(CONTINUE_INTERVAL).await;
        }
        // The target may have called the network already.
        self.announce();
        Ok(())
    }

    /// A QEMU that was stopped before its switchover waits there for ever, also without an agent and without sockets.
    async fn end_migration(&mut self) {
        let Some(qmp) = self.qmp() else { return };
        let Ok(info) = qmp.migration().await else { return };
        if info.status.is_under_way()
            && let Err(error) = qmp.migrate_cancel().await
        {
            tracing::warn!(error = reason(&error), "QEMU's migration cannot be ended");
        }
    }

    async fn remove_lent(&mut self) -> Result<(), LeaseError> {
        self.source_role()?;
        self.keep_disks().await;
        self.remove_everything().await?;
        self.machine.took(Step::Remove);
        Ok(())
    }

    async fn prepare(
        &mut self,
        hardware: Hardware,
        processor: Processor,
    ) -> Result<Receiving, LeaseError> {
        self.target_role()?;
        self.check_arrival(&hardware, &processor)?;
        let memory = self.arriving_memory().await?;
        // Whatever an earlier attempt has left must not write to the memory any more.
        self.kill_process().await;
        self.shared.launcher.clean_up(self.vm).await;
        let before = self.record.as_ref().and_then(|record| record.hardware.clone());
        let kept = (hardware.clone(), processor.clone());
        self.save(|record| (record.hardware, record.processor) = (Some(kept.0), Some(kept.1)))
            .await?;
        let directories = self.shared.launcher.directories.machine(self.vm);
        let (durable, is_anew) = (directories.clone(), before.as_ref() == Some(&hardware));
        blocking(move || begin_directory(&durable, is_anew)).await?;
        let held = self.begin_disks(&hardware.disks).await?;
        // What the disks hold is made durable by the mirror; that they are there, now.
        let made = directories.durable.clone();
        blocking(move || sync_content(&made).and_then(|()| sync_name(&made))).await?;
        let spec = &self.record.as_ref().ok_or(Refusal::Absent)?.spec;
        let blueprint = Blueprint { vm: self.vm, spec, hardware: &hardware, processor: &processor };
        let running = self.shared.launcher.launch_to_receive(blueprint, &memory).await?;
        let qmp = running.qmp.clone().ok_or(LeaseError::NoProcess)?;
        self.set_running(Some(running));
        Ok(Receiving { qmp, memory, held })
    }

    /// The memory of the machine that arrives: made when it was announced, perhaps by an earlier process of this agent.
    async fn arriving_memory(&mut self) -> Result<Arc<GuestMemory>, LeaseError> {
        if let Some(memory) = &self.arriving {
            return Ok(Arc::clone(memory));
        }
        let spec = &self.record.as_ref().ok_or(Refusal::Absent)?.spec;
        let found = self.shared.launcher.find_memory(self.vm, spec.memory_bytes).await?;
        self.arriving = Some(Arc::clone(&found));
        Ok(found)
    }

    /// Whether the machine that arrives is the one that was ordered, and can run here.
    fn check_arrival(&self, hardware: &Hardware, processor: &Processor) -> Result<(), LeaseError> {
        let unfit = |problem: String| Err(LeaseError::Unfit(problem));
        let hypervisor = &self.shared.hypervisor;
        if processor.accelerator == Accelerator::Kvm && hypervisor.accelerator != Accelerator::Kvm {
            return unfit(format!(
                "the machine runs under KVM, which this node does not offer ({}); move it cold",
                hypervisor.accelerator_reason
            ));
        }
        let ordered = self.record.as_ref().map_or(0, |record| record.spec.disks.len());
        if hardware.disks.len() != ordered {
            return unfit(format!("{} disks arrive, {ordered} were ordered", hardware.disks.len()));
        }
        match hardware.boot.hashes().find(|hash| !self.shared.files.has(*hash)) {
            Some(hash) => unfit(format!("the source did not send file {hash}")),
            None => Ok(()),
        }
    }

    async fn accept(&mut self, start: bool) -> Result<(), LeaseError> {
        let role = self.target_role()?;
        let live = role.mode == MigrationMode::Live;
        let desired = if live || start { Desired::Running } else { Desired::Stopped };
        self.save(|record| {
            record.role = Role::Owner;
            record.arrived_by = Some(role.migration);
            record.desired = desired;
        })
        .await?;
        // The machine is this agent's: whatever fails from here on is a machine that failed, not a hand-over.
        let arrived = if live { self.run_arrived().await } else { self.rest_arrived(start).await };
        // It ends with its last user from now on.
        self.arriving = None;
        self.shared.launcher.remove_memory(self.vm);
        if let Err(error) = arrived {
            tracing::error!(error = reason(&error), "the accepted machine does not run");
            self.ask_again_at = Some(Instant::now());
        }
        Ok(())
    }

    /// The hand-over is durable: the guest runs here from now on.
    async fn run_arrived(&mut self) -> Result<(), LeaseError> {
        self.machine = super::machine::Machine::new(State::Paused { reason: String::new() });
        let qmp = self.qmp().cloned().ok_or(LeaseError::NoProcess)?;
        qmp.cont().await?;
        self.machine.took(Step::Continue);
        self.announce();
        Ok(())
    }

    /// Tells the network that the guest is here, whatever it has heard from elsewhere.
    fn announce(&self) {
        let Some(qmp) = self.qmp().cloned() else { return };
        tokio::spawn(async move {
            if let Err(error) = qmp.announce_self().await {
                tracing::warn!(error = reason(&error), "the guest's place is not announced");
            }
        });
    }

    async fn rest_arrived(&mut self, start: bool) -> Result<(), LeaseError> {
        self.machine = super::machine::Machine::new(State::Stopping);
        self.end_process().await;
        self.machine.created();
        if start {
            self.launch_guest().await?;
            self.machine.took(Step::Launch);
        }
        Ok(())
    }

    async fn reject(&mut self) -> Result<(), LeaseError> {
        let role = self.target_role()?;
        // Durable before anything is removed: from here on the source may take the guest back.
        self.shared.decide(role.migration, TargetRecord::Refused).await?;
        // What did arrive need not be sent again.
        self.keep_disks().await;
        self.remove_everything().await?;
        self.machine.took(Step::Remove);
        Ok(())
    }
}

/// An empty directory, or that of an earlier attempt: its disks are a beginning, and its log comes again.
fn begin_directory(directories: &MachineDirectories, is_anew: bool) -> Result<(), OrderError> {
    if !is_anew || !directories.durable.is_dir() {
        return replace_directory(&directories.durable);
    }
    let log = directories.console_log();
    match std::fs::remove_file(&log) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(OrderError::Directory { path: log, source })
        }
        _ => Ok(()),
    }
}
