//! What applying a command answers.

use std::fmt;

use novacron_protocol::api::Code;
use novacron_protocol::ids::{
    AlertId, ApiKeyId, BatchId, BindingId, MemberId, MigrationId, NetworkName, NodeName, PlanName,
    ProjectName, RegionCode, SnapshotId, SnapshotName, VmId, VmName,
};
use novacron_protocol::project::Quota;
use novacron_protocol::size::display_size;
use novacron_protocol::usage::RecordOutcome;
use novacron_protocol::vm::VmState;
use novacron_transport::SubjectName;
use novacron_transport::token::TokenId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::access::Unknown;
use super::formats::{FormatVersion, OtherFormats};
use super::ledger::entry::EntryId;
use super::ledger::hour::Hour;
use super::placement::Misfit;
use super::secret::SecretPlace;

/// The answer to a command: part of the replicated state, so that a repeated request gets the same one.
pub type Reply = Result<Accepted, Refusal>;

/// A command was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Accepted {
    /// The machine that it was about.
    Vm(VmId),
    /// The migration that it was about.
    Migration(MigrationId),
    /// The token that it was about.
    Token(TokenId),
    /// The member that it was about.
    Member(MemberId),
    /// The last report of each session that is committed now, in the order of the command.
    Sequences(Vec<u64>),
    /// Nothing to say.
    Nothing,
    /// The batch that it was about.
    Batch(BatchId),
    /// The node that it was about.
    Node(NodeName),
    /// What became of each usage record, in the order of the command.
    Usage(Vec<RecordOutcome>),
    /// The entry of the ledger that takes back the one that was corrected.
    Correction(EntryId),
    /// The project that it was about.
    Project(ProjectName),
    /// The principal that it was about.
    Principal(SubjectName),
    /// The binding that it was about.
    Binding(BindingId),
    /// The API key that it was about.
    ApiKey(ApiKeyId),
    /// The region that it was about.
    Region(RegionCode),
    /// The version of the secret that it was about.
    Secret(u64),
    /// The snapshot that it was about.
    Snapshot(SnapshotId),
    /// The value of a secret that it was about.
    SecretValue(Uuid),
    /// The alert that it was about.
    Alert(AlertId),
    /// The network that it was about.
    Network(NetworkName),
}

/// A command changed nothing, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// There is no such machine.
    #[error("there is no machine {0}")]
    NoSuchVm(VmId),
    /// There is no such node.
    #[error("there is no node `{0}`")]
    NoSuchNode(NodeName),
    /// There is no such migration.
    #[error("there is no migration {0}")]
    NoSuchMigration(MigrationId),
    /// There is no such member.
    #[error("there is no member {0}")]
    NoSuchMember(MemberId),
    /// The member left, and its id is never used again.
    #[error(
        "member {0} left the cluster, and its id is never used again: a coordinator comes back by joining with an \
         empty data directory and a new token"
    )]
    MemberIdUsed(MemberId),
    /// Another machine that is not deleted has the name.
    #[error("the name `{name}` is taken{}", by_machine(*.holder))]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it; not said of a machine of another project.
        holder: Option<VmId>,
    },
    /// The machine's state does not allow it.
    #[error("machine `{name}` is {}: cannot {action} it{hint}", state_word(*.state))]
    IllegalMove {
        /// The machine.
        name: String,
        /// Its state.
        state: VmState,
        /// What was asked, as a verb.
        action: String,
        /// What would be right, beginning with `; `, or nothing.
        hint: String,
    },
    /// The state of something else does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// A value that cannot be.
    #[error("{problem}")]
    Invalid {
        /// The field of the request.
        field: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The node has no room or does not fit.
    #[error("node `{node}` cannot take the machine: {misfit}")]
    NoRoom {
        /// The node.
        node: NodeName,
        /// What is missing.
        misfit: Misfit,
    },
    /// The request id was used for another request.
    #[error("the idempotency key was used for another request before")]
    RequestReused,
    /// The token does not allow this.
    #[error("the join token {0}")]
    Token(TokenProblem),
    /// The fleet is at one of its limits.
    #[error("the fleet is full: {0}")]
    Full(String),
    /// There is no such batch.
    #[error("there is no batch {0}")]
    NoSuchBatch(BatchId),
    /// There is no such entry in the ledger.
    #[error("there is no entry {} in the window {}", .0.index, .0.window)]
    NoSuchEntry(EntryId),
    /// The entry was corrected before.
    #[error(
        "entry {} of the window {} is corrected already; correct what replaced it", .0.index, .0.window
    )]
    AlreadyCorrected(EntryId),
    /// More usage records than one request may have.
    #[error("{0} records; a request has at most 1,000, and none of these was taken")]
    TooManyRecords(usize),
    /// Prices hold from an hour that has not begun.
    #[error("what has begun is not changed; the next hour for a change is {next}")]
    RateBegun {
        /// The earliest hour.
        next: Hour,
    },
    /// The project's plan has no room for one more machine.
    #[error("the plan `{plan}` is for at most {vms_max} machines{hint}")]
    PlanFull {
        /// The plan.
        plan: PlanName,
        /// Its bound.
        vms_max: u32,
        /// What would be right, beginning with `; `.
        hint: String,
    },
    /// There is no such project.
    #[error("there is no project `{0}`")]
    NoSuchProject(ProjectName),
    /// There is no such principal.
    #[error("there is no principal `{0}`")]
    NoSuchPrincipal(SubjectName),
    /// There is no such binding.
    #[error("there is no binding {0}")]
    NoSuchBinding(BindingId),
    /// There is no such API key.
    #[error("there is no API key {0}")]
    NoSuchApiKey(ApiKeyId),
    /// Something else than a machine has the name.
    #[error("there is a {what} `{name}` already")]
    Taken {
        /// What.
        what: Named,
        /// The name.
        name: String,
    },
    /// A quota would be passed.
    #[error(
        "quota `{quota}` of project `{project}`: {} needed, {} of {} used, {} left",
        amount(*.quota, *.needed),
        amount(*.quota, *.used),
        amount(*.quota, *.limit),
        amount(*.quota, .limit.saturating_sub(*.used))
    )]
    OverQuota {
        /// The project.
        project: ProjectName,
        /// Which quota.
        quota: Quota,
        /// What it allows.
        limit: u64,
        /// What is used.
        used: u64,
        /// What is needed beyond that.
        needed: u64,
    },
    /// Whoever asks is nobody, or nobody any more.
    #[error(transparent)]
    NotKnown(#[from] Unknown),
    /// Whoever asks may not.
    #[error("principal `{principal}` may not do {what}")]
    NotAllowed {
        /// Who asks.
        principal: SubjectName,
        /// The permission that is missing, and where.
        what: String,
    },
    /// Nothing is kept beside the machine under this key.
    #[error("machine {vm} has no annotation `{key}`")]
    NoSuchAnnotation {
        /// The machine.
        vm: VmId,
        /// The key.
        key: String,
    },
    /// There is no such region.
    #[error("there is no region `{0}`")]
    NoSuchRegion(RegionCode),
    /// The command is newer than some members of the cluster.
    #[error(
        "this needs formats of version {needed}, and the cluster works with version {active} until all its coordinators \
         are upgraded{}",
        not_yet(behind.as_deref())
    )]
    UpgradeNeeded {
        /// What it needs.
        needed: FormatVersion,
        /// What is active.
        active: FormatVersion,
        /// A member that is too old.
        behind: Option<String>,
    },
    /// A coordinator that is too old or too new for the cluster.
    #[error(transparent)]
    OtherFormats(OtherFormats),
    /// There is no such secret.
    #[error("there is no secret `{0}`")]
    NoSuchSecret(SecretPlace),
    /// The machine has no such snapshot.
    #[error("machine {vm} has no snapshot `{name}`")]
    NoSuchSnapshot {
        /// The machine.
        vm: VmId,
        /// The name.
        name: SnapshotName,
    },
    /// Another snapshot was made on top of it.
    #[error("snapshot `{name}` is what snapshot `{child}` was made on: delete `{child}` first")]
    SnapshotNeeded {
        /// The snapshot.
        name: SnapshotName,
        /// The other one.
        child: SnapshotName,
    },
    /// Snapshots stay in the disks at their node.
    #[error("machine `{name}` has {count} snapshots, which cannot move with it: delete them first")]
    HasSnapshots {
        /// The machine.
        name: VmName,
        /// How many.
        count: usize,
    },
    /// There is no such alert.
    #[error("there is no alert {0}")]
    NoSuchAlert(AlertId),
    /// There is no such network.
    #[error("there is no network `{0}`")]
    NoSuchNetwork(NetworkName),
}

/// What has a name of its own, machines apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Named {
    /// A project.
    Project,
    /// A principal.
    Principal,
    /// A region.
    Region,
    /// A snapshot.
    Snapshot,
    /// A network.
    Network,
}

impl fmt::Display for Named {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Project => "project",
            Self::Principal => "principal",
            Self::Region => "region",
            Self::Snapshot => "snapshot",
            Self::Network => "network",
        })
    }
}

/// Why a join token does not allow something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum TokenProblem {
    /// Never made, or forgotten after it expired.
    #[error("is not valid; ask for a new one")]
    Invalid,
    /// Too old.
    #[error("has expired; ask for a new one")]
    Expired,
    /// Was used.
    #[error("was used before; every join needs its own")]
    Used,
    /// For another role.
    #[error("is for another role")]
    OtherRole,
    /// For another name.
    #[error("is for another name")]
    OtherName,
    /// For any name, and this one is somebody's.
    #[error("is for any name, and this name is in use: make one for this name")]
    NameTaken,
}

impl Refusal {
    /// The stable code that the API answers with.
    pub fn code(&self) -> Code {
        match self {
            Self::NoSuchVm(_)
            | Self::NoSuchNode(_)
            | Self::NoSuchMigration(_)
            | Self::NoSuchMember(_)
            | Self::NoSuchBatch(_)
            | Self::NoSuchProject(_)
            | Self::NoSuchPrincipal(_)
            | Self::NoSuchBinding(_)
            | Self::NoSuchApiKey(_)
            | Self::NoSuchEntry(_)
            | Self::NoSuchAnnotation { .. }
            | Self::NoSuchRegion(_)
            | Self::NoSuchSecret(_)
            | Self::NoSuchSnapshot { .. }
            | Self::NoSuchAlert(_)
            | Self::NoSuchNetwork(_) => Code::NotFound,
            Self::SnapshotNeeded { .. } => Code::SnapshotNeeded,
            Self::HasSnapshots { .. } => Code::HasSnapshots,
            Self::MemberIdUsed(_) => Code::MemberIdUsed,
            Self::NameTaken { .. } | Self::Taken { .. } => Code::NameTaken,
            Self::IllegalMove { .. } | Self::Conflict(_) => Code::Conflict,
            Self::Invalid { .. } => Code::InvalidRequest,
            Self::NoRoom { misfit: Misfit::Region(rule), .. } if rule.is_residency() => {
                Code::ResidencyRule
            }
            Self::NoRoom { .. } | Self::Full(_) => Code::NoCapacity,
            Self::RequestReused => Code::IdempotencyConflict,
            Self::Token(TokenProblem::Used) => Code::TokenUsed,
            Self::Token(TokenProblem::Expired) => Code::TokenExpired,
            Self::Token(_) | Self::NotAllowed { .. } => Code::NotAllowed,
            Self::NotKnown(_) => Code::NotAuthenticated,
            Self::OverQuota { .. } => Code::QuotaExceeded,
            Self::AlreadyCorrected(_) => Code::AlreadyCorrected,
            Self::TooManyRecords(_) => Code::TooManyRecords,
            Self::RateBegun { .. } => Code::RateBegun,
            Self::PlanFull { .. } => Code::PlanFull,
            Self::UpgradeNeeded { .. } | Self::OtherFormats(_) => Code::UpgradeNeeded,
        }
    }

    /// The field of the request that is wrong, where one is.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::NameTaken { .. } | Self::Taken { .. } => Some("name"),
            Self::NoSuchProject(_) => Some("project"),
            Self::NoSuchPrincipal(_) => Some("principal"),
            Self::NoSuchRegion(_) => Some("region"),
            Self::NoSuchSnapshot { .. } => Some("snapshot"),
            Self::NoSuchNetwork(_) => Some("network"),
            Self::Invalid { field, .. } => Some(field),
            Self::TooManyRecords(_) => Some("records"),
            _ => None,
        }
    }
}

fn not_yet(behind: Option<&str>) -> String {
    behind.map(|name| format!("; `{name}` is not yet")).unwrap_or_default()
}

fn by_machine(holder: Option<VmId>) -> String {
    holder.map(|vm| format!(" by machine {vm}")).unwrap_or_default()
}

fn amount(quota: Quota, amount: u64) -> String {
    match quota {
        Quota::MemoryBytes | Quota::DiskBytes => display_size(amount),
        Quota::Vms | Quota::Cpus | Quota::Migrations | Quota::Snapshots => amount.to_string(),
    }
}

fn state_word(state: VmState) -> &'static str {
    match state {
        VmState::Pending => "pending",
        VmState::Creating => "being created",
        VmState::Stopped => "stopped",
        VmState::Starting => "starting",
        VmState::Running => "running",
        VmState::Paused => "paused",
        VmState::Migrating => "migrating",
        VmState::Stopping => "stopping",
        VmState::Failed => "failed",
        VmState::Unknown => "on a node that does not answer",
        VmState::Deleted => "deleted",
    }
}
