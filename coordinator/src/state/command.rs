//! What can be done to the fleet: one command is one entry of the replicated log.
//!
//! Everything that is not a function of the fleet (time, new ids, secrets, the planner's choice) was decided
//! before the proposal and travels in the command, so that applying it is pure.

use novacron_protocol::api::SettingsChange;
use novacron_protocol::effect::{MachineReport, Report};
use novacron_protocol::ids::{
    ApiKeyId, BatchId, BindingId, ClusterId, EffectId, MemberId, MigrationId, NetworkName,
    NodeName, PlanName, ProjectName, RequestId, VmId,
};
use novacron_protocol::migration::{MigrationMode, MigrationOptions};
use novacron_protocol::node::{NodeFacts, NodeState};
use novacron_protocol::time::Timestamp;
use novacron_protocol::usage::UsageRecord;
use novacron_protocol::vm::{Labels, VmSpec};
use novacron_protocol::wire::codec::Message;
use novacron_transport::token::{SecretHash, TokenId};
use novacron_transport::{Role, SubjectName};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::alert::AlertOrder;
use super::formats::{FIRST, Formats, NEWEST};
use super::incarnation::Restored;
use super::ledger::correct::CorrectUsage;
use super::ledger::hour::Hour;
use super::ledger::rate::RateCard;
use super::member::MemberFacts;
use super::network::NetworkOrder;
use super::node::SessionId;
use super::origin::Origin;
use super::principal::AccessOrder;
use super::project::ProjectOrder;
use super::refused::RefusedRow;
use super::region::RegionOrder;
use super::secret::{SecretOrder, SecretPlace};
use super::snapshot::SnapshotOrder;
use super::token::Token;

/// Bytes of one command: the largest is a hello with [`MACHINES_PER_NODE_MAX`] machines whose reasons were
/// cut to 256 bytes (about 1.3 MiB), or a batch of 256 reports of at most 4 KiB.
///
/// [`MACHINES_PER_NODE_MAX`]: novacron_protocol::limits::MACHINES_PER_NODE_MAX
pub const COMMAND_BYTES_MAX: usize = 4 << 20;

/// One change of the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Whose request this is. A client's request is applied once; sent again it gets the first answer.
    pub request: RequestId,
    /// The leader's clock when it was proposed. The fleet's own clock is the latest of these.
    pub at: Timestamp,
    /// Who asked.
    pub origin: Origin,
    /// What to do.
    pub body: Body,
}

impl Command {
    /// A command of the cluster itself.
    pub fn of_cluster(request: RequestId, at: Timestamp, body: Body) -> Self {
        Self { request, at, origin: Origin::Cluster, body }
    }

    /// What was asked, and by whom, as a number: a request id belongs to one request of one asker. `None` for what
    /// the cluster itself does and what is harmless when it is applied twice.
    pub fn fingerprint(&self) -> Option<u64> {
        let asked = self.body.fingerprint()?;
        match self.origin.asker() {
            None => Some(asked),
            Some(asker) => {
                Some(xxhash_rust::xxh3::xxh3_64_with_seed(asker.name.as_str().as_bytes(), asked))
            }
        }
    }
}

/// A command's version is that of the formats.
impl Message for Command {
    const VERSION: u16 = NEWEST.0;
    const OLDEST: u16 = FIRST.0;
    const BYTES_MAX: usize = COMMAND_BYTES_MAX;
    const NAME: &'static str = "command";

    fn version(&self) -> u16 {
        self.body.since().0
    }
}

/// What a command does. Ids in it were made by the proposer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// Take a new machine into the fleet.
    CreateVm(CreateVm),
    /// Give a pending machine to a node that the planner found.
    PlaceVm {
        /// The machine.
        vm: VmId,
        /// The planner's choice.
        node: NodeName,
    },
    /// Start a machine.
    StartVm {
        /// The machine.
        vm: VmId,
    },
    /// Stop a machine.
    StopVm {
        /// The machine.
        vm: VmId,
        /// At once, rather than by asking the guest.
        force: bool,
    },
    /// Remove a machine and everything that belongs to it.
    DestroyVm {
        /// The machine.
        vm: VmId,
    },
    /// Move a machine.
    MigrateVm {
        /// The migration's new id.
        migration: MigrationId,
        /// The machine.
        vm: VmId,
        /// The node to move to.
        target: NodeName,
        /// How.
        mode: MigrationMode,
        /// What the client asks for beyond that.
        options: MigrationOptions,
    },
    /// Give up a migration.
    CancelMigration {
        /// The migration.
        migration: MigrationId,
    },
    /// Allow somebody to join.
    CreateToken(Token),
    /// Use up a join token.
    UseToken {
        /// The token.
        token: TokenId,
        /// Role that is asked for.
        role: Role,
        /// Name that is asked for.
        name: SubjectName,
    },
    /// Name the cluster; the first command of all.
    FoundCluster {
        /// The cluster.
        cluster: ClusterId,
        /// The first member.
        member: MemberFacts,
        /// The first operator, who may do everything.
        operator: SubjectName,
    },
    /// Go on with what a backup holds; the first command of a cluster that was restored.
    BeginIncarnation(Restored),
    /// Give a coordinator a member id.
    AdmitMember(MemberFacts),
    /// A coordinator is about to take part in Raft: from now on its id stands for its log and vote.
    EnterMember {
        /// The member.
        member: MemberId,
    },
    /// A coordinator left; its id is never used again.
    RemoveMember {
        /// The member.
        member: MemberId,
    },
    /// An agent opened a session.
    OpenSession(OpenSession),
    /// What agents reported.
    Reports(Vec<SessionReports>),
    /// The leader judged whether nodes answer.
    SetNodeStates(Vec<(NodeName, NodeState)>),
    /// Deadlines of effects passed.
    ExpireEffects(Vec<EffectId>),
    /// Move many machines.
    MigrateBatch(MigrateBatch),
    /// Give up what of a batch has not moved.
    CancelBatch {
        /// The batch.
        batch: BatchId,
    },
    /// Change what holds for the whole fleet.
    ChangeSettings(SettingsChange),
    /// Have a node take no machines, and move away those that it has.
    DrainNode {
        /// The node.
        node: NodeName,
        /// What the client asks for of each migration.
        options: MigrationOptions,
    },
    /// Have a node take machines again.
    UndrainNode {
        /// The node.
        node: NodeName,
        /// Whether to give up what is under way because of the draining.
        cancel: bool,
    },
    /// Move a machine away from a node that is being drained.
    DrainVm {
        /// The migration's new id.
        migration: MigrationId,
        /// The machine.
        vm: VmId,
        /// The planner's choice.
        target: NodeName,
    },
    /// What a node measured.
    PostUsage {
        /// The node, as in its certificate.
        node: NodeName,
        /// At most [`USAGE_RECORDS_PER_BATCH_MAX`].
        ///
        /// [`USAGE_RECORDS_PER_BATCH_MAX`]: novacron_protocol::limits::USAGE_RECORDS_PER_BATCH_MAX
        records: Vec<UsageRecord>,
    },
    /// The leader's clock says that the time of windows is over.
    SealWindows {
        /// The last of them.
        through: Hour,
    },
    /// An entry of the ledger is wrong.
    CorrectUsage(CorrectUsage),
    /// What a plan costs from some hour on.
    SetRate(RateCard),
    /// Which plan a project has from some hour on.
    SetPlan {
        /// The project.
        project: ProjectName,
        /// The plan.
        plan: PlanName,
        /// From when.
        from: Hour,
    },
    /// Whose machines are whose.
    Projects(ProjectOrder),
    /// Who may do what.
    Access(AccessOrder),
    /// Keep a text beside a machine.
    Annotate {
        /// The machine.
        vm: VmId,
        /// Under which key.
        key: String,
        /// The text; `None` removes what is there.
        value: Option<String>,
    },
    /// Where hosts stand, and what holds there.
    Regions(RegionOrder),
    /// What a member refused before it became a command.
    NoteRefusals {
        /// Gathered: at most [`REFUSED_ROWS_MAX`].
        ///
        /// [`REFUSED_ROWS_MAX`]: super::refused::REFUSED_ROWS_MAX
        rows: Vec<RefusedRow>,
    },
    /// What is kept encrypted.
    Secrets(SecretOrder),
    /// What all members understand, as they have just said.
    NoteFormats(Vec<(MemberId, Formats)>),
    /// Something with a snapshot of a machine.
    Snapshots(SnapshotOrder),
    /// Something with alerts.
    Alerts(AlertOrder),
    /// Something with networks.
    Networks(NetworkOrder),
    /// Take a new machine into the fleet, and into a network.
    CreateVmIn(CreateVmIn),
    /// Somebody is about to get the whole state, with all keys: for the audit log.
    TakeBackup,
}

/// What a client asks of many machines at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchOrder {
    /// The node that they leave.
    pub source: NodeName,
    /// The node that they go to.
    pub target: NodeName,
    /// Labels by which they were chosen.
    pub labels: Labels,
    /// How all of them move; `None`: each as it is, running or stopped.
    pub mode: Option<MigrationMode>,
    /// What the client asks for beyond that.
    pub options: MigrationOptions,
    /// Whether one failure gives up the others.
    pub aborts_on_failure: bool,
}

/// Machines to move together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrateBatch {
    /// The batch's new id.
    pub batch: BatchId,
    /// What the client asks for.
    pub order: BatchOrder,
    /// The machines that the proposer found, each with the new id of its migration; both ascend, so that the queue
    /// keeps their order.
    pub items: Vec<(VmId, MigrationId)>,
}

/// A machine to take into the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateVm {
    /// The machine's new id.
    pub vm: VmId,
    /// What it is made of; checked by the proposer.
    pub spec: VmSpec,
    /// The node that the client asked for.
    pub requested_node: Option<NodeName>,
    /// The planner's choice.
    pub placement: Placement,
    /// Whether to start it once it is made.
    pub start: bool,
}

/// A machine to take into the fleet that names a network. A body of its own, because what a log holds of [`CreateVm`]
/// keeps its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateVmIn {
    /// The machine; what its specification says of the network is replaced.
    pub create: CreateVm,
    /// The network.
    pub network: NetworkName,
}

/// What the planner said about a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Placement {
    /// This node has room.
    Node(NodeName),
    /// No node fits at the moment, and why.
    Nowhere {
        /// For a person.
        reason: String,
    },
}

/// An agent's hello, as the leader took it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSession {
    /// The node, as in its certificate.
    pub node: NodeName,
    /// The new session's id, drawn by the leader.
    pub session: SessionId,
    /// What the host has.
    pub facts: NodeFacts,
    /// Every machine in its care.
    pub machines: Vec<MachineReport>,
}

/// Consecutive reports of one session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionReports {
    /// The node, as in its certificate.
    pub node: NodeName,
    /// The session; reports of an older session change nothing.
    pub session: SessionId,
    /// Number of the first report.
    pub first_sequence: u64,
    /// The reports in order.
    pub reports: Vec<Report>,
}

impl Body {
    /// What the client asked for, without what the proposer chose for it, as a number: two requests with the
    /// same id and another fingerprint are a mistake of the client. `None` for commands of the cluster itself,
    /// which are harmless when they are applied twice and are not remembered.
    pub fn fingerprint(&self) -> Option<u64> {
        let asked = match self {
            Self::CreateVm(create) => {
                canonical(&(0u8, &create.spec, &create.requested_node, create.start))
            }
            Self::StartVm { vm } => canonical(&(1u8, vm)),
            Self::StopVm { vm, force } => canonical(&(2u8, vm, force)),
            Self::DestroyVm { vm } => canonical(&(3u8, vm)),
            Self::MigrateVm { vm, target, mode, options, .. } => {
                canonical(&(4u8, vm, target, mode, options))
            }
            Self::CancelMigration { migration } => canonical(&(5u8, migration)),
            Self::CreateToken(token) => {
                canonical(&(6u8, token.record.role, &token.record.name, token.access))
            }
            Self::UseToken { token, role, name } => canonical(&(7u8, token, role, name)),
            // Its program may be another when it asks again.
            Self::AdmitMember(MemberFacts { name, peer_address, api_address, .. }) => {
                canonical(&(8u8, name, peer_address, api_address))
            }
            Self::RemoveMember { member } => canonical(&(9u8, member)),
            Self::MigrateBatch(MigrateBatch { order, .. }) => canonical(&(
                10u8,
                (&order.source, &order.target, &order.labels),
                (order.mode, order.options, order.aborts_on_failure),
            )),
            Self::CancelBatch { batch } => canonical(&(11u8, batch)),
            Self::ChangeSettings(change) => canonical(&(12u8, change)),
            Self::DrainNode { node, options } => canonical(&(13u8, node, options)),
            Self::UndrainNode { node, cancel } => canonical(&(14u8, node, cancel)),
            Self::Projects(order) => canonical(&(20u8, order)),
            Self::Access(order) => canonical(&(21u8, asked_access(order))),
            Self::CorrectUsage(CorrectUsage { entry, quantity, reason, .. }) => {
                canonical(&(15u8, entry, quantity.to_string(), reason))
            }
            Self::SetRate(card) => canonical(&(16u8, card)),
            Self::SetPlan { project, plan, from } => canonical(&(17u8, project, plan, from)),
            Self::Annotate { vm, key, value } => canonical(&(24u8, vm, key, value)),
            Self::Regions(order) => canonical(&(18u8, order)),
            Self::NoteRefusals { rows } => canonical(&(41u8, rows)),
            Self::Secrets(order) => canonical(&(25u8, asked_secret(order)?)),
            Self::Snapshots(SnapshotOrder { vm, name, deed }) => {
                canonical(&(19u8, vm, name, deed.number()))
            }
            Self::Alerts(order) => canonical(&(47u8, order.asked()?)),
            Self::Networks(order) => canonical(&(26u8, order)),
            Self::CreateVmIn(CreateVmIn { create, network }) => {
                let CreateVm { spec, requested_node, start, .. } = create;
                canonical(&(27u8, spec, requested_node, start, network))
            }
            Self::TakeBackup => canonical(&28u8),
            // Whose outcome is in the ledger itself: a record that comes twice exists.
            Self::PostUsage { .. }
            | Self::SealWindows { .. }
            | Self::FoundCluster { .. }
            | Self::BeginIncarnation(_)
            | Self::PlaceVm { .. }
            | Self::DrainVm { .. }
            | Self::EnterMember { .. }
            | Self::OpenSession(_)
            | Self::Reports(_)
            | Self::SetNodeStates(_)
            | Self::ExpireEffects(_)
            | Self::NoteFormats(_) => return None,
        };
        Some(xxhash_rust::xxh3::xxh3_64(&asked))
    }
}

/// What of an order about access the client asked for: ids, secrets and the time of their end are the proposer's.
fn asked_access(order: &AccessOrder) -> AccessOrder {
    let mut asked = order.clone();
    match &mut asked {
        AccessOrder::Bind(binding) => binding.id = BindingId(Uuid::nil()),
        AccessOrder::CreateKey(key) => {
            key.id = ApiKeyId(Uuid::nil());
            key.secret_hash = SecretHash([0; 32]);
            (key.created_at, key.expires_at) = (Timestamp::default(), Timestamp::default());
        }
        _ => {}
    }
    asked
}

/// The mark stands for the value, which is encrypted anew each time. What the cluster does by itself is not remembered.
fn asked_secret(order: &SecretOrder) -> Option<(u8, Option<&SecretPlace>, u64)> {
    match order {
        SecretOrder::Put { place, mark, .. } => Some((0, Some(place), *mark)),
        SecretOrder::Delete { place } => Some((1, Some(place), 0)),
        SecretOrder::Reveal { place } => Some((2, Some(place), 0)),
        SecretOrder::Turn => Some((3, None, 0)),
        SecretOrder::Announce { .. }
        | SecretOrder::Use { .. }
        | SecretOrder::Reseal(_)
        | SecretOrder::Forget { .. } => None,
    }
}

/// The value's canonical bytes. JSON, because these bytes are only hashed: no version or limit is needed,
/// and every value here has string keys.
fn canonical<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
