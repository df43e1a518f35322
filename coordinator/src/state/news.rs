//! Which events tell what a command did, or why none does. Every command is here, so that one that is added has to say
//! it; a test compares what is said here with what happens.

use novacron_protocol::api::EventKind;

use super::alert::AlertOrder;
use super::command::Body;
use super::project::ProjectOrder;
use super::secret::SecretOrder;

/// What is heard of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Events of these kinds tell what it changed; several of them, or none if it changed nothing.
    Told(&'static [EventKind]),
    /// It makes no events of its own, and why.
    Untold(&'static str),
}

/// What may follow from any command: places become free, waiting migrations begin or end, nodes become empty, machines
/// stand against rules.
pub const CONSEQUENCES: &[EventKind] = &[
    EventKind::VmState,
    EventKind::NodeScheduling,
    EventKind::MigrationPhase,
    EventKind::MigrationFailed,
    EventKind::MigrationCancelled,
    EventKind::MigrationCancelling,
    EventKind::BatchStopped,
    EventKind::BatchEnded,
    EventKind::ResidencyViolation,
    EventKind::SnapshotChanged,
];

/// What agents see and do.
const OF_AGENTS: &[EventKind] = &[
    EventKind::VmState,
    EventKind::VmDeleted,
    EventKind::NodeScheduling,
    EventKind::MigrationPhase,
    EventKind::MigrationCompleted,
    EventKind::MigrationFailed,
    EventKind::MigrationCancelled,
    EventKind::BatchEnded,
    EventKind::SnapshotChanged,
];

impl Body {
    /// See the module.
    pub fn news(&self) -> News {
        use EventKind as Kind;
        News::Told(match self {
            Self::CreateVm(_) | Self::CreateVmIn(_) => &[Kind::VmCreated, Kind::VmState],
            Self::PlaceVm { .. } | Self::StartVm { .. } | Self::StopVm { .. } => &[Kind::VmState],
            Self::DestroyVm { .. } => &[Kind::VmState, Kind::VmDeleted],
            Self::MigrateVm { .. } | Self::DrainVm { .. } => {
                &[Kind::MigrationCreated, Kind::MigrationPhase, Kind::VmState]
            }
            Self::CancelMigration { .. } => {
                &[Kind::MigrationCancelled, Kind::MigrationCancelling, Kind::VmState]
            }
            Self::MigrateBatch(_) => {
                &[Kind::BatchCreated, Kind::MigrationCreated, Kind::MigrationPhase, Kind::VmState]
            }
            Self::CancelBatch { .. } => {
                &[Kind::BatchStopped, Kind::MigrationCancelled, Kind::MigrationCancelling]
            }
            Self::ChangeSettings(_) => &[Kind::SettingsChanged],
            Self::DrainNode { .. } | Self::UndrainNode { .. } => &[Kind::NodeScheduling],
            Self::CreateToken(_) => &[Kind::TokenCreated],
            // An operator's makes a principal, too. A host is told of when its agent comes.
            Self::UseToken { .. } => &[Kind::TokenUsed, Kind::AccessChanged],
            Self::FoundCluster { .. } => &[Kind::MemberChanged, Kind::AccessChanged],
            Self::BeginIncarnation(_)
            | Self::AdmitMember(_)
            | Self::EnterMember { .. }
            | Self::RemoveMember { .. }
            | Self::NoteFormats(_) => &[Kind::MemberChanged],
            Self::OpenSession(_) => &[
                Kind::NodeJoined,
                Kind::NodeChanged,
                Kind::NodeState,
                Kind::VmState,
                Kind::MigrationPhase,
            ],
            Self::SetNodeStates(_) => &[Kind::NodeState, Kind::VmState],
            Self::Reports(_) | Self::ExpireEffects(_) => OF_AGENTS,
            Self::CorrectUsage(_) => &[Kind::LedgerCorrected],
            Self::SetRate(_) => &[Kind::RateSet],
            Self::SetPlan { .. } => &[Kind::PlanSet],
            Self::Projects(ProjectOrder::Delete { .. }) => {
                &[Kind::ProjectChanged, Kind::NetworkChanged]
            }
            Self::Projects(
                ProjectOrder::Create { .. }
                | ProjectOrder::Change { .. }
                | ProjectOrder::SetBudget { .. },
            ) => &[Kind::ProjectChanged],
            Self::Access(_) => &[Kind::AccessChanged],
            Self::Regions(_) => &[Kind::RegionChanged],
            Self::Networks(_) => &[Kind::NetworkChanged],
            Self::Snapshots(_) => &[Kind::SnapshotChanged],
            Self::Alerts(AlertOrder::Observe(_)) => &[Kind::AlertRaised, Kind::AlertResolved],
            Self::Alerts(AlertOrder::Raise(_) | AlertOrder::Unacknowledge { .. }) => {
                &[Kind::AlertRaised]
            }
            Self::Alerts(AlertOrder::Acknowledge { .. }) => &[Kind::AlertAcknowledged],
            Self::Alerts(AlertOrder::Resolve { .. }) => &[Kind::AlertResolved],
            Self::Secrets(order) => return order.news(),
            Self::Annotate { .. } => {
                return News::Untold(
                    "texts that tools write, thousands a second, would push all else out of what is kept: the audit \
                     log has them, and can be followed",
                );
            }
            Self::PostUsage { .. } => {
                return News::Untold("numbers that are measured: the ledger has them");
            }
            Self::SealWindows { .. } => {
                return News::Untold(
                    "the time of a window is over for everybody: the chain of headers in the ledger has it",
                );
            }
            Self::NoteRefusals { .. } => {
                return News::Untold("what was refused changed nothing: the audit log has it");
            }
            Self::TakeBackup => {
                return News::Untold(
                    "whoever reads the state changes nothing: the audit log has it",
                );
            }
        })
    }
}

impl SecretOrder {
    fn news(&self) -> News {
        match self {
            Self::Put { .. } => News::Told(&[EventKind::SecretSet]),
            Self::Delete { .. } => News::Told(&[EventKind::SecretDeleted]),
            Self::Turn | Self::Announce { .. } | Self::Use { .. } | Self::Forget { .. } => {
                News::Told(&[EventKind::SecretKeyChanged])
            }
            Self::Reveal { .. } => {
                News::Untold("whoever reads a value changes nothing: the audit log has it")
            }
            Self::Reseal(_) => News::Untold("the same values, encrypted with another key"),
        }
    }
}
