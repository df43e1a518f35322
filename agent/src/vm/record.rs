//! What an agent remembers of a machine, whatever happens to the agent.

use novacron_protocol::effect::MigrationEnd;
use novacron_protocol::ids::{Generation, MigrationId, NodeName, SnapshotId, VmId};
use novacron_protocol::limits::{KERNEL_APPEND_BYTES_MAX, SNAPSHOTS_PER_VM_MAX, SPEC_BYTES_MAX};
use novacron_protocol::migration::{MigrationMode, MigrationOptions};
use novacron_protocol::node::Accelerator;
use novacron_protocol::session::handover::{SourceRecord, TargetRecord};
use novacron_protocol::vm::{DiskFormat, VmSpec};
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};

use super::files::FileHash;

/// Bytes that a migration session may keep in a record.
pub const MEMO_BYTES_MAX: usize = 4096;

/// Everything durable about one machine at this agent. Written as a whole, replaced atomically.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmRecord {
    /// The machine.
    pub vm: VmId,
    /// The right to run it; an effect of another generation changes nothing.
    pub generation: Generation,
    /// What was ordered.
    pub spec: VmSpec,
    /// What it is made of; `None` only at a migration's target before the source's offer came.
    pub hardware: Option<Hardware>,
    /// Whether it shall run.
    pub desired: Desired,
    /// How its process was started, if it was.
    pub processor: Option<Processor>,
    /// Why it failed, if it did; gone when it is started again.
    pub failure: Option<String>,
    /// What this agent is to the machine.
    pub role: Role,
    /// The migration by which it came here, so that its source can ask later.
    pub arrived_by: Option<MigrationId>,
    /// The newest migration by which it did not leave: it is not begun again, and its end is told again after a restart.
    pub stayed: Option<Stay>,
    /// Snapshots that are whole, in the order in which they were taken; at most [`SNAPSHOTS_PER_VM_MAX`].
    pub snapshots: Vec<SnapshotId>,
    /// The snapshot that the disks are becoming: not all of them may be it yet, so nothing runs from them.
    pub restoring: Option<SnapshotId>,
}

/// How a migration ended for a machine that stayed at its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stay {
    /// The migration.
    pub migration: MigrationId,
    /// How it ended.
    pub end: MigrationEnd,
}

/// What a machine is made of: equal at both ends of a migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hardware {
    /// QEMU's machine type with its version, for the machine's whole life.
    pub machine_type: String,
    /// What is loaded beside the disks.
    pub boot: BootFiles,
    /// Disks in the order of the specification.
    pub disks: Vec<Disk>,
}

impl Hardware {
    /// Bytes of all disks as the guest sees them.
    pub fn disk_bytes(&self) -> u64 {
        self.disks.iter().map(|disk| disk.size_bytes).fold(0, u64::saturating_add)
    }
}

/// One disk as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Bytes that the guest sees.
    pub size_bytes: u64,
    /// Format of the file.
    pub format: DiskFormat,
}

/// What a machine boots, kept by the agent so that the machine no longer depends on the paths it was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BootFiles {
    /// The first disk.
    Disk,
    /// A kernel.
    Kernel {
        /// The kernel.
        kernel: FileHash,
        /// The initial RAM disk.
        initrd: Option<FileHash>,
        /// Its command line.
        append: String,
    },
}

impl BootFiles {
    /// The files that it needs.
    pub fn hashes(&self) -> impl Iterator<Item = FileHash> {
        let (kernel, initrd) = match self {
            Self::Disk => (None, None),
            Self::Kernel { kernel, initrd, .. } => (Some(*kernel), *initrd),
        };
        kernel.into_iter().chain(initrd)
    }
}

/// Whether a machine shall run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Desired {
    /// No.
    Stopped,
    /// Yes: if its process is gone, it failed.
    Running,
}

/// What runs the guest's instructions; fixed from its start to its end, across migrations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Processor {
    /// Translator or hardware.
    pub accelerator: Accelerator,
    /// QEMU's `-cpu`.
    pub cpu_model: String,
}

/// The model under KVM: what the host has, so such a guest moves between equal hosts only.
pub const CPU_MODEL_KVM: &str = "host";

/// The model under TCG: a versioned one that every TCG of a known QEMU offers in full (x86-64-v2), so it is
/// the same on every host. `max` would differ from QEMU to QEMU.
pub const CPU_MODEL_TCG: &str = "Nehalem-v1";

impl Processor {
    /// The processor for a guest that starts anew.
    pub fn new(accelerator: Accelerator) -> Self {
        let cpu_model = match accelerator {
            Accelerator::Kvm => CPU_MODEL_KVM,
            Accelerator::Tcg => CPU_MODEL_TCG,
        };
        Self { accelerator, cpu_model: cpu_model.to_owned() }
    }

    /// The processor of a guest that arrives and says its model.
    pub fn of_model(cpu_model: &str) -> Self {
        let accelerator =
            if cpu_model == CPU_MODEL_KVM { Accelerator::Kvm } else { Accelerator::Tcg };
        Self { accelerator, cpu_model: cpu_model.to_owned() }
    }
}

/// What an agent is to a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// It has the machine and nothing is under way.
    Owner,
    /// It sends the machine away.
    Source(SourceRole),
    /// It expects the machine.
    Target(TargetRole),
}

/// The source's side of a migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRole {
    /// The migration.
    pub migration: MigrationId,
    /// The node that it goes to.
    pub target: NodeName,
    /// Address of that node's agent.
    pub target_address: String,
    /// How it moves.
    pub mode: MigrationMode,
    /// The generation that the target will hold.
    pub target_generation: Generation,
    /// What the client asked for beyond that.
    pub options: MigrationOptions,
    /// The guest was told to shut down for this migration: if the machine stays, it is started again.
    pub is_shut_down: bool,
    /// How often the migration has started over because an agent was restarted.
    pub restarts: u32,
    /// Who may run the machine, as far as the source decides it.
    pub decision: SourceRecord,
    /// What the session wants to remember, at most [`MEMO_BYTES_MAX`].
    pub memo: Vec<u8>,
}

/// The target's side of a migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetRole {
    /// The migration.
    pub migration: MigrationId,
    /// The only node that may send it.
    pub source: NodeName,
    /// How it moves.
    pub mode: MigrationMode,
    /// Who may run the machine, as far as the target decides it.
    pub decision: TargetRecord,
}

impl Message for VmRecord {
    const VERSION: u16 = 6;
    // The specification, the command line once more, the memo, snapshots of 24 bytes each, and room for names, sizes and
    // two reasons.
    const BYTES_MAX: usize = SPEC_BYTES_MAX
        + KERNEL_APPEND_BYTES_MAX
        + MEMO_BYTES_MAX
        + 24 * SNAPSHOTS_PER_VM_MAX
        + 16 * 1024;
    const NAME: &'static str = "machine record";
}

/// How a migration ended for its target, kept after the machine itself is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictRecord {
    /// Whether the target took the machine.
    pub decision: TargetRecord,
    /// When, in milliseconds since 1970: verdicts are forgotten after [`VERDICT_KEPT_MS`].
    pub decided_at_unix_ms: u64,
}

/// A source that has not asked after 30 days will not.
pub const VERDICT_KEPT_MS: u64 = 30 * 24 * 3600 * 1000;

impl Message for VerdictRecord {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = 64;
    const NAME: &'static str = "migration verdict";
}
