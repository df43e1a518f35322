//! From a record to a running process, and back to nothing.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use novacron_protocol::ids::VmId;
use novacron_protocol::vm::{Network, VmSpec};
use tokio::time::Instant;

use super::command_line::{Plan, Purpose, arguments};
use super::directories::{Directories, MachineDirectories};
use super::files::FileStore;
use super::network::{NetworkError, create_tap, delete_tap};
use super::process::{Process, log_tail};
use super::record::{Hardware, Processor};
use super::tpm::{self, TpmError};
use crate::qmp::{self, Qmp, QmpError};
use crate::sys::{GuestMemory, GuestMemoryError};

/// QEMU takes well below a second to answer; a host that is out of everything may take longer.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// How often a starting QEMU's socket is tried.
const CONNECT_INTERVAL: Duration = Duration::from_millis(10);

/// How long a QEMU that was found may take to answer: it may be in the middle of anything.
const TAKE_UP_DEADLINE: Duration = Duration::from_secs(10);

/// Why there is no process.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The TPM.
    #[error(transparent)]
    Tpm(#[from] TpmError),
    /// The tap.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The memory that is shared with the agent.
    #[error("memory: this node cannot hold the machine")]
    Memory(#[from] GuestMemoryError),
    /// The agent is ending.
    #[error("the agent is ending")]
    Ending,
    /// The run directory.
    #[error("{} cannot be made", path.display())]
    RunDirectory {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// QEMU cannot be executed.
    #[error("QEMU cannot be started")]
    Spawn(#[source] io::Error),
    /// QEMU ended at once.
    #[error("QEMU did not start: {0}")]
    Ended(String),
    /// QEMU would take other memory than the agent's.
    #[error("the file of the machine's memory is gone")]
    MemoryGone,
    /// QEMU does not answer.
    #[error("QEMU does not answer")]
    Silent(#[source] QmpError),
}

/// A machine's process.
#[derive(Debug)]
pub struct Running {
    /// The process.
    pub process: Process,
    /// How it is told what to do; `None` while it does not answer.
    pub qmp: Option<Qmp>,
}

/// What a process is started from.
#[derive(Debug, Clone, Copy)]
pub struct Blueprint<'a> {
    /// The machine.
    pub vm: VmId,
    /// What was ordered.
    pub spec: &'a VmSpec,
    /// What it is made of.
    pub hardware: &'a Hardware,
    /// What runs its instructions.
    pub processor: &'a Processor,
}

/// Starts, finds and cleans up after processes.
#[derive(Debug, Clone)]
pub struct Launcher {
    /// Where everything is.
    pub directories: Directories,
    /// Kernels.
    pub files: FileStore,
    /// QEMU.
    pub qemu: PathBuf,
    /// swtpm.
    pub swtpm: PathBuf,
}

impl Launcher {
    /// Starts a process and waits until it answers. If it fails, nothing of it stays.
    ///
    /// # Errors
    /// [`LaunchError`].
    pub async fn launch(
        &self,
        blueprint: Blueprint<'_>,
        purpose: Purpose,
    ) -> Result<Running, LaunchError> {
        let launched = self.try_launch(blueprint, purpose).await;
        if launched.is_err() {
            self.clean_up(blueprint.vm).await;
        }
        launched
    }

    /// Makes the memory of a machine that will arrive, and with `reserve` takes it from the system. It keeps its name
    /// until [`Self::remove_memory`]: whatever becomes of this agent, it can be found again.
    ///
    /// # Errors
    /// [`LaunchError::Memory`]; nothing of it stays.
    pub async fn make_memory(
        &self,
        vm: VmId,
        len_bytes: u64,
        reserve: bool,
    ) -> Result<Arc<GuestMemory>, LaunchError> {
        let path = self.directories.machine(vm).memory;
        make_directory(&self.directories.memory)?;
        remove_file(&path);
        let make = move || {
            let memory = GuestMemory::create(&path, len_bytes)?;
            if reserve && let Err(error) = memory.reserve() {
                remove_file(&path);
                return Err(error.into());
            }
            Ok(Arc::new(memory))
        };
        tokio::task::spawn_blocking(make).await.map_err(|_| LaunchError::Ending)?
    }

    /// The memory of a machine that was arriving when an earlier process of this agent ended.
    ///
    /// # Errors
    /// [`LaunchError::Memory`] if there is none.
    pub async fn find_memory(
        &self,
        vm: VmId,
        len_bytes: u64,
    ) -> Result<Arc<GuestMemory>, LaunchError> {
        let path = self.directories.machine(vm).memory;
        let find = move || Ok(Arc::new(GuestMemory::open(&path, len_bytes)?));
        tokio::task::spawn_blocking(find).await.map_err(|_| LaunchError::Ending)?
    }

    /// Removes the name of a machine's memory: it ends with its last user.
    pub fn remove_memory(&self, vm: VmId) {
        remove_file(&self.directories.machine(vm).memory);
    }

    /// As [`Self::launch`] for a migration's target.
    ///
    /// # Errors
    /// [`LaunchError`].
    pub async fn launch_to_receive(
        &self,
        blueprint: Blueprint<'_>,
        memory: &GuestMemory,
    ) -> Result<Running, LaunchError> {
        // QEMU would make the file if there were none.
        if !memory.has_name() {
            return Err(LaunchError::MemoryGone);
        }
        self.launch(blueprint, Purpose::Receive).await
    }

    async fn try_launch(
        &self,
        blueprint: Blueprint<'_>,
        purpose: Purpose,
    ) -> Result<Running, LaunchError> {
        let Blueprint { vm, spec, hardware, processor } = blueprint;
        let directories = self.directories.machine(vm);
        remove_directory(&directories.run);
        make_directory(&directories.run)?;
        if spec.enable_tpm {
            tpm::start(&self.swtpm, &directories).await?;
        }
        let tap = match &spec.network {
            Network::Bridge { bridge } => Some(create_tap(vm, bridge).await?),
            Network::None | Network::User => None,
        };
        let plan = Plan {
            vm,
            spec,
            hardware,
            processor,
            directories: &directories,
            files: &self.files,
            tap: tap.as_deref(),
            purpose,
        };
        let process = Process::spawn(&self.qemu, &arguments(&plan), &directories.log())
            .map_err(LaunchError::Spawn)?;
        let qmp = self.wait_for_answer(&process, &directories).await?;
        tracing::info!(%vm, pid = process.pid(), ?purpose, "QEMU started");
        Ok(Running { process, qmp: Some(qmp) })
    }

    /// The socket appears early; the greeting comes when the machine is built.
    async fn wait_for_answer(
        &self,
        process: &Process,
        directories: &MachineDirectories,
    ) -> Result<Qmp, LaunchError> {
        let deadline = Instant::now() + START_DEADLINE;
        let (socket, log) = (directories.qmp(), directories.log());
        loop {
            let remaining = deadline.saturating_duration_since(Instant::now());
            let error = tokio::select! {
                biased;
                () = process.ended() => return Err(LaunchError::Ended(log_tail(&log))),
                connected = qmp::connect(&socket, remaining) => match connected {
                    Ok(qmp) => return Ok(qmp),
                    Err(error) => error,
                },
            };
            if remaining.is_zero() {
                return Err(LaunchError::Silent(error));
            }
            tokio::time::sleep(CONNECT_INTERVAL).await;
        }
    }

    /// The process of this machine, if one is alive.
    ///
    /// # Errors
    /// What the system says.
    pub async fn find(&self, vm: VmId) -> io::Result<Option<Running>> {
        let directories = self.directories.machine(vm);
        let Some(process) = find_by(&directories.pid())? else { return Ok(None) };
        // An agent that was killed may have left it stopped: see `throttle`.
        process.go_on();
        let qmp = match qmp::connect(&directories.qmp(), TAKE_UP_DEADLINE).await {
            Ok(qmp) => Some(qmp),
            Err(error) => {
                tracing::warn!(%vm, error = &error as &dyn std::error::Error, "QEMU does not answer");
                None
            }
        };
        Ok(Some(Running { process, qmp }))
    }

    /// Ends whatever is left of the machine's processes and removes what belonged to them: sockets and tap.
    pub async fn clean_up(&self, vm: VmId) {
        let directories = self.directories.machine(vm);
        match find_by(&directories.pid()) {
            Ok(Some(process)) => process.kill_and_wait().await,
            Ok(None) => (),
            Err(error) => tracing::error!(%vm, %error, "processes cannot be listed"),
        }
        tpm::end(&directories).await;
        delete_tap(vm).await;
        remove_directory(&directories.run);
    }
}

fn find_by(pid_file: &Path) -> io::Result<Option<Process>> {
    Process::find(OsStr::new(pid_file))
}

fn make_directory(path: &Path) -> Result<(), LaunchError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| LaunchError::RunDirectory { path: path.to_owned(), source })
}

fn remove_directory(path: &Path) {
    report_unless_gone(path, fs::remove_dir_all(path));
}

fn remove_file(path: &Path) {
    report_unless_gone(path, fs::remove_file(path));
}

fn report_unless_gone(path: &Path, removed: io::Result<()>) {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::error!(path = %path.display(), %error, "cannot be removed");
        }
        Ok(()) | Err(_) => (),
    }
}
