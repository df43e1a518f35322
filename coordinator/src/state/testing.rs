//! A scene for tests: a fleet, a clock that they hold, and agents that do what they are told to say.

use novacron_protocol::access::{BindingEffect, Scope};
use novacron_protocol::api::{EventKind, PrincipalKind};
use novacron_protocol::effect::{
    Action, Effect, EffectOutcome, Handover, MachineReport, MigrationEnd, ObservedState, Report,
    SourceResult,
};
use novacron_protocol::ids::{
    BindingId, ClusterId, MigrationId, NetworkName, NodeName, ProjectName, RequestId, Revision,
    VmId,
};
use novacron_protocol::migration::{
    DowntimeParts, MemoryPath, MigrationAccount, MigrationMode, MigrationOptions, MigrationPhase,
    MigrationProgress,
};
use novacron_protocol::node::{Accelerator, NodeCapacity, NodeFacts, NodeState};
use novacron_protocol::project::Quotas;
use novacron_protocol::region::Residency;
use novacron_protocol::time::Timestamp;
use novacron_protocol::vm::{Boot, DiskFormat, DiskSpec, Labels, Network, VmSpec, VmState};
use novacron_protocol::wire::codec;
use uuid::Uuid;

use super::audit::Subject;
use super::binding::{NewBinding, Right};
use super::command::{CreateVm, CreateVmIn, OpenSession, SessionReports};
use super::event::About;
use super::fleet::Applying;
use super::formats::Formats;
use super::incarnation::Restored;
use super::member::MemberFacts;
use super::migration::Migration;
use super::node::SessionId;
use super::placement::Wanted;
use super::principal::AccessOrder;
use super::project::ProjectOrder;
use super::vm::Vm;
use super::{Accepted, Asker, Body, Command, Credential, Fleet, Origin, Refusal, Reply};

pub(crate) const GIB: u64 = 1 << 30;

/// Events of a revision.
pub(crate) fn happen(fleet: &mut Fleet, revision: u64, events: usize) {
    let mut now = Applying::at(fleet.clock());
    now.revision = Revision(revision);
    for _ in 0..events {
        fleet.emit(
            &mut now,
            EventKind::SettingsChanged,
            About::of(Subject::Settings),
            String::new(),
        );
    }
}

/// A machine of 2 GiB, 1 CPU and a 1 GiB disk.
pub(crate) fn spec(name: &str) -> VmSpec {
    VmSpec {
        name: name.parse().unwrap(),
        project: ProjectName::default(),
        memory_bytes: 2 * GIB,
        cpus: 1,
        disks: vec![DiskSpec { size_bytes: GIB, image: String::new(), format: DiskFormat::Raw }],
        boot: Boot::Disk,
        network: Network::User,
        labels: Labels::new(),
        node_selector: Labels::new(),
        enable_tpm: false,
    }
}

pub(crate) fn facts(memory_gib: u64) -> NodeFacts {
    NodeFacts {
        capacity: NodeCapacity { memory_bytes: memory_gib * GIB, cpus: 8, disk_bytes: 100 * GIB },
        labels: Labels::new(),
        migration_address: "10.0.0.1:7410".to_owned(),
        agent_version: "0.1.0".to_owned(),
        qemu_version: "10.0.2".to_owned(),
        accelerator: Accelerator::Tcg,
        accelerator_reason: "a test".to_owned(),
        has_swtpm: false,
    }
}

pub(crate) fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

pub(crate) fn account() -> MigrationAccount {
    MigrationAccount {
        total_ms: 1000,
        prepare_ms: 100,
        memory_ms: 900,
        downtime_parts: DowntimeParts { release_us: 5000, ..DowntimeParts::default() },
        rounds: 2,
        bytes_guest: 4000,
        bytes_wire: 1000,
        bytes_wire_memory: 900,
        bytes_wire_disks: 60,
        bytes_wire_files: 40,
        bytes_link: 1100,
        bytes_disk: 0,
        bytes_disk_held: 0,
        bytes_disk_final: 0,
        pages_zero: 1,
        pages_same: 2,
        pages_known: 4,
        pages_differing: 1,
        pages_packed: 1,
        pages_raw: 1,
        verified: true,
        path: MemoryPath::Pages,
    }
}

pub(crate) fn progress(phase: MigrationPhase, bytes: u64) -> MigrationProgress {
    MigrationProgress {
        phase,
        rounds: 1,
        bytes_guest: bytes,
        bytes_wire: bytes,
        bytes_disk: 0,
        bytes_remaining: 100 - bytes.min(100),
        bytes_total: 100,
        wire_bits_per_second: 8_000_000,
        content_bytes_per_second: 10,
        dirty_bytes_per_second: Some(5),
        source_load_permille: Some(150),
        target_load_permille: Some(120),
        elapsed_ms: 10,
    }
}

/// An operator, by its certificate.
pub(crate) fn operator_named(name: &str) -> Asker {
    let name = name.parse().unwrap();
    Asker { name, credential: Credential::Certificate, address: None }
}

/// A machine of a project.
pub(crate) fn spec_in(project: &ProjectName, name: &str) -> VmSpec {
    VmSpec { project: project.clone(), ..spec(name) }
}

pub(crate) struct Scene {
    pub(crate) fleet: Fleet,
    pub(crate) log: Vec<(Revision, Command)>,
    pub(crate) now: Timestamp,
    ids: u128,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let now = Timestamp::from_unix_ms(1_790_000_000_000);
        Self { fleet: Fleet::default(), log: Vec::new(), now, ids: 0 }
    }

    pub(crate) fn id(&mut self) -> Uuid {
        self.ids += 1;
        Uuid::from_u128(self.ids)
    }

    /// Applies a command as a new request, and checks every invariant.
    pub(crate) fn apply(&mut self, body: Body) -> Reply {
        let request = RequestId(self.id());
        self.apply_as(request, body)
    }

    pub(crate) fn apply_as(&mut self, request: RequestId, body: Body) -> Reply {
        self.apply_command(Command::of_cluster(request, self.now, body))
    }

    /// Applies what somebody asks for as a new request.
    pub(crate) fn ask(&mut self, asker: &Asker, body: Body) -> Reply {
        let (request, origin) = (RequestId(self.id()), Origin::Asker(asker.clone()));
        self.apply_command(Command { request, at: self.now, origin, body })
    }

    pub(crate) fn apply_command(&mut self, command: Command) -> Reply {
        let revision = Revision(self.log.len() as u64 + 1);
        // What is committed and cannot be read again ends every member, for ever.
        let bytes = codec::encode(&command).unwrap();
        assert_eq!(codec::decode::<Command>(&bytes).unwrap(), command);
        let reply = self.fleet.apply(revision, &command);
        self.log.push((revision, command));
        self.fleet.check().unwrap();
        reply
    }

    /// Founds the cluster, whose first operator is `admin`; answers who that is.
    pub(crate) fn found(&mut self) -> Asker {
        let (cluster, member) = (ClusterId(self.id()), member_facts("c1"));
        let operator = "admin".parse().unwrap();
        self.apply(Body::FoundCluster { cluster, member, operator }).unwrap();
        operator_named("admin")
    }

    /// A new operator that may do nothing; answers who that is.
    pub(crate) fn operator(&mut self, name: &str) -> Asker {
        let (kind, display_name) = (PrincipalKind::Operator, String::new());
        let name_of = name.parse().unwrap();
        let order = AccessOrder::CreatePrincipal { name: name_of, kind, display_name };
        self.apply(Body::Access(order)).unwrap();
        operator_named(name)
    }

    /// Says what somebody may, or may not, do.
    pub(crate) fn bind(
        &mut self,
        asker: &Asker,
        right: Right,
        scope: Scope,
        effect: BindingEffect,
    ) -> Result<BindingId, Refusal> {
        let (id, principal) = (BindingId(self.id()), asker.name.clone());
        let binding = NewBinding { id, principal, right, scope, effect };
        self.apply(Body::Access(AccessOrder::Bind(binding))).map(|_| id)
    }

    pub(crate) fn make_project(&mut self, project: &str, quotas: Quotas) -> ProjectName {
        let name: ProjectName = project.parse().unwrap();
        let order = ProjectOrder::Create {
            project: name.clone(),
            display_name: String::new(),
            quotas,
            labels: Labels::new(),
            residency: Residency::default(),
        };
        self.apply(Body::Projects(order)).unwrap();
        name
    }

    pub(crate) fn join(&mut self, node: &str, memory_gib: u64) {
        self.hello(node, facts(memory_gib), Vec::new());
    }

    pub(crate) fn hello(&mut self, node: &str, facts: NodeFacts, machines: Vec<MachineReport>) {
        let session = SessionId(self.id().as_u128() as u64);
        let open = OpenSession { node: name(node), session, facts, machines };
        self.apply(Body::OpenSession(open)).unwrap();
    }

    pub(crate) fn create_body(&mut self, spec: VmSpec, node: Option<&str>, start: bool) -> Body {
        let placement = crate::planner::place(&self.fleet, Wanted::without_network(&spec));
        let requested_node = node.map(name);
        Body::CreateVm(CreateVm { vm: VmId(self.id()), spec, requested_node, placement, start })
    }

    /// The same in a network.
    pub(crate) fn create_in_body(
        &mut self,
        spec: VmSpec,
        network: &str,
        node: Option<&str>,
    ) -> Body {
        let network: NetworkName = network.parse().unwrap();
        let machine = Wanted { spec: &spec, network: Some(&network) };
        let placement = crate::planner::place(&self.fleet, machine);
        let (vm, requested_node) = (VmId(self.id()), node.map(name));
        let create = CreateVm { vm, spec, requested_node, placement, start: true };
        Body::CreateVmIn(CreateVmIn { create, network })
    }

    /// Creates a machine, not started; answers its id.
    pub(crate) fn create(&mut self, vm: &str) -> VmId {
        let body = self.create_body(spec(vm), None, false);
        match self.apply(body) {
            Ok(Accepted::Vm(vm)) => vm,
            other => panic!("not created: {other:?}"),
        }
    }

    /// Creates a machine on a node and plays the agent until it runs.
    pub(crate) fn running(&mut self, vm: &str, node: &str) -> VmId {
        let body = self.create_body(spec(vm), Some(node), true);
        let Ok(Accepted::Vm(vm)) = self.apply(body) else { panic!("not created") };
        self.settle_all(node);
        self.settle_all(node);
        assert_eq!(self.state(vm), VmState::Running);
        vm
    }

    pub(crate) fn migrate(
        &mut self,
        vm: VmId,
        target: &str,
        mode: MigrationMode,
    ) -> Result<MigrationId, Refusal> {
        let migration = MigrationId(self.id());
        let target = name(target);
        match self.apply(Body::MigrateVm {
            migration,
            vm,
            target,
            mode,
            options: MigrationOptions::default(),
        })? {
            Accepted::Migration(migration) => Ok(migration),
            other => panic!("{other:?}"),
        }
    }

    /// A live migration whose source has been told to send.
    pub(crate) fn sending(&mut self, vm: VmId, target: &str) -> MigrationId {
        let migration = self.migrate(vm, target, MigrationMode::Live).unwrap();
        self.settle_all(target);
        migration
    }

    pub(crate) fn vm(&self, vm: VmId) -> &Vm {
        self.fleet.vm(vm).unwrap()
    }

    pub(crate) fn state(&self, vm: VmId) -> VmState {
        self.vm(vm).state()
    }

    pub(crate) fn migration(&self, migration: MigrationId) -> &Migration {
        self.fleet.migration(migration).unwrap()
    }

    /// The open effects of a node.
    pub(crate) fn effects(&self, node: &str) -> Vec<Effect> {
        let rows = self.fleet.outbox_after(Default::default());
        rows.filter(|row| row.node == name(node)).map(|row| row.effect.clone()).collect()
    }

    pub(crate) fn effect(&self, node: &str, is_it: impl Fn(&Action) -> bool) -> Effect {
        self.effects(node).into_iter().find(|effect| is_it(&effect.action)).unwrap()
    }

    /// The next reports of a node's session.
    pub(crate) fn report(&mut self, node: &str, reports: Vec<Report>) -> Reply {
        let node = name(node);
        let row = self.fleet.node(&node).unwrap();
        let (session, first_sequence) = (row.session, row.sequence + 1);
        self.apply(Body::Reports(vec![SessionReports { node, session, first_sequence, reports }]))
    }

    pub(crate) fn settle(&mut self, node: &str, effect: &Effect, outcome: EffectOutcome) {
        self.report(node, vec![Report::EffectDone { effect: effect.id, outcome }]).unwrap();
    }

    /// The node's agent does all that it has been told.
    pub(crate) fn settle_all(&mut self, node: &str) {
        for effect in self.effects(node) {
            self.settle(node, &effect, EffectOutcome::Done);
        }
    }

    pub(crate) fn observe(&mut self, node: &str, vm: VmId, generation: u64, state: ObservedState) {
        self.report(node, vec![Report::Machine(held(vm, generation, state))]).unwrap();
    }

    pub(crate) fn hand_over(&mut self, node: &str, migration: MigrationId) {
        let row = self.migration(migration);
        let handover = Handover { migration, vm: row.vm, generation: row.target_generation };
        self.report(node, vec![Report::HandedOver(handover)]).unwrap();
    }

    pub(crate) fn source_ends(&mut self, migration: MigrationId, result: SourceResult) {
        let row = self.migration(migration).clone();
        let end = MigrationEnd { target: row.target, phase: MigrationPhase::DataSync, result };
        let report = Report::MigrationEnded { migration, end };
        self.report(row.source.as_str(), vec![report]).unwrap();
    }

    /// A new life: the first one, if the cluster was never founded.
    pub(crate) fn restore(&mut self, first_member: &str) {
        if self.fleet.cluster().is_none() {
            self.found();
        }
        let restored = Restored {
            incarnation: self.fleet.incarnation().next(),
            member: self.fleet.next_first_member(),
            facts: member_facts(first_member),
        };
        self.apply(Body::BeginIncarnation(restored)).unwrap();
    }

    pub(crate) fn set_node(&mut self, node: &str, state: NodeState) {
        self.apply(Body::SetNodeStates(vec![(name(node), state)])).unwrap();
    }

    /// The same log on a new replica.
    pub(crate) fn replay(&self) -> Fleet {
        let mut fleet = Fleet::default();
        for (revision, command) in &self.log {
            let _ = fleet.apply(*revision, command);
        }
        fleet
    }
}

pub(crate) fn member_facts(name: &str) -> MemberFacts {
    let address = |port| format!("{name}.example:{port}");
    MemberFacts {
        name: name.to_owned(),
        peer_address: address(7400),
        api_address: address(7443),
        formats: Formats::default(),
    }
}

pub(crate) fn held(vm: VmId, generation: u64, state: ObservedState) -> MachineReport {
    let generation = novacron_protocol::ids::Generation(generation);
    MachineReport { vm, generation, state, reason: String::new() }
}

pub(crate) fn failed(reason: &str) -> EffectOutcome {
    EffectOutcome::Failed { reason: reason.to_owned() }
}
