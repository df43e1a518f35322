//! The fleet: everything that the cluster agrees on, as ordered tables, and the one way to change it.

use novacron_protocol::effect::Report;
use novacron_protocol::ids::{
    AlertId, ApiKeyId, BatchId, BindingId, ClusterId, EffectId, Incarnation, MemberId, MigrationId,
    NetworkName, NodeName, ProjectName, RegionCode, RequestId, Revision, SnapshotId, VmId, VmName,
};
use novacron_protocol::time::Timestamp;
use novacron_protocol::vm::VmState;
use novacron_protocol::wire::codec::Message;
use novacron_transport::SubjectName;
use novacron_transport::token::TokenId;
use serde::{Deserialize, Serialize};

use super::alert::Alert;
use super::alert::budget::Budget;
use super::annotation::{Annotation, AnnotationKey};
use super::api_key::ApiKey;
use super::archive::{ArchiveName, ArchiveRow, Departure};
use super::audit::{self, AuditHead, AuditNumber, AuditRow};
use super::backup::BackupLog;
use super::batch::Batch;
use super::binding::Binding;
use super::command::{Body, Command};
use super::drain::Drain;
use super::event::{Actor, EventKey, EventRow};
use super::formats::FormatVersion;
use super::index::Index;
use super::latency::Latencies;
use super::ledger::Book;
use super::ledger::account::{Account, AccountKey};
use super::ledger::batch::{BatchKey, EntryBatch};
use super::ledger::correct::Corrected;
use super::ledger::coverage::Covered;
use super::ledger::entry::EntryId;
use super::ledger::hour::Hour;
use super::ledger::rate::{PlanHistory, RateCard, RateKey};
use super::ledger::seal::WindowHeader;
use super::ledger::subject::Subject;
use super::member::{MemberPart, MemberRecord};
use super::migration::{Asked, Migration};
use super::network::Network;
use super::network::attachment::Attachment;
use super::node::Node;
use super::outbox::OutboxRow;
use super::principal::Principal;
use super::project::Project;
use super::region::Region;
use super::reply::{Refusal, Reply};
use super::request::Answered;
use super::residency::Violation;
use super::secret::keys::SecretKeys;
use super::secret::{Secret, SecretPlace};
use super::settings::Settings;
use super::snapshot::Snapshot;
use super::table::{Only, ROW_BYTES_MAX, Table, TableName};
use super::tables::for_each_table;
use super::token::Token;
use super::vm::Vm;

macro_rules! fleet {
    ($($(#[$doc:meta])* $number:literal $variant:ident $field:ident ($key:ty => $row:ty),)*) => {
        /// The replicated state. Equal on every replica that applied the same commands, to the byte.
        #[derive(Debug, Clone)]
        pub struct Fleet {
            pub(super) meta: Meta,
            $(pub(super) $field: Table<$key, $row>,)*
            pub(super) index: Index,
            /// What has left the tables and is not in the archive of this member yet.
            pub(super) departures: Vec<Departure>,
        }

        impl Fleet {
            /// Without a row in any table.
            fn without_rows() -> Self {
                Self {
                    meta: Meta::default(),
                    $($field: Table::new(TableName::$variant),)*
                    index: Index::default(),
                    departures: Vec::new(),
                }
            }
        }
    };
}

for_each_table!(fleet);

impl Default for Fleet {
    /// A fleet to which nothing has happened: it has one project.
    fn default() -> Self {
        let mut fleet = Self::without_rows();
        fleet.projects.insert(ProjectName::default(), Project::first());
        fleet
    }
}

/// The fleet's own numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    /// The last command that was applied.
    pub(super) revision: Revision,
    /// The latest time of a command.
    pub(super) clock: Timestamp,
    /// The cluster, once it is founded.
    pub(super) cluster: Option<ClusterId>,
    /// The last effect that was made.
    pub(super) effect_last: EffectId,
    /// The last member id that was given out.
    pub(super) member_last: MemberId,
    /// What operators have set.
    pub(super) settings: Settings,
    /// The end of the audit log.
    pub(super) audit: AuditHead,
    /// Which life of the cluster this is.
    pub(super) incarnation: Incarnation,
    /// The active version of formats.
    pub(super) formats: FormatVersion,
}

impl Message for Meta {
    const VERSION: u16 = 4;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "meta row";
}

/// The command that is being applied.
pub(super) struct Applying {
    pub(super) revision: Revision,
    /// The fleet's clock: never earlier than that of a command before.
    pub(super) at: Timestamp,
    /// The request, where a client asked.
    pub(super) client_request: Option<RequestId>,
    /// Who causes what happens.
    pub(super) actor: Actor,
    /// Events of the revision that commands before it made.
    events_before: u32,
    /// What its own events are about.
    emitted: Vec<audit::Subject>,
}

impl Applying {
    pub(super) fn at(at: Timestamp) -> Self {
        Self {
            revision: Revision(0),
            at,
            client_request: None,
            actor: Actor::Cluster,
            events_before: 0,
            emitted: Vec::new(),
        }
    }

    /// Does what the cluster does by itself while a command is applied: that is not the doing of whoever asked for the
    /// command, and perhaps in projects of others, who are told nothing of them.
    pub(super) fn aside<R>(&mut self, work: impl FnOnce(&mut Self) -> R) -> R {
        let actor = std::mem::take(&mut self.actor);
        let request = self.client_request.take();
        let done = work(self);
        (self.actor, self.client_request) = (actor, request);
        done
    }

    /// The number of the next event, which is about `subject`.
    pub(super) fn next_event(&mut self, subject: audit::Subject) -> u32 {
        let number = self.events();
        self.emitted.push(subject);
        number
    }

    /// The command's events: the number of each, and what it is about.
    pub(super) fn emitted(&self) -> impl Iterator<Item = (u32, &audit::Subject)> {
        (self.events_before..).zip(&self.emitted)
    }

    /// Events that the revision has.
    fn events(&self) -> u32 {
        // A command is bounded, and makes some events for each of its parts at most.
        self.events_before.saturating_add(u32::try_from(self.emitted.len()).unwrap_or(u32::MAX))
    }
}

impl Fleet {
    /// Applies a committed command: as [`Fleet::apply_all`] does a single one.
    pub fn apply(&mut self, revision: Revision, command: &Command) -> Reply {
        self.meta.revision = revision;
        self.apply_next(revision, command, &mut 0)
    }

    /// Applies the commands of one committed entry, in order; they share its revision, so nobody may look at the fleet
    /// in between. Never fails: what cannot be done is a refusal, the same on every replica.
    pub fn apply_all(&mut self, revision: Revision, commands: &[Command]) -> Vec<Reply> {
        self.meta.revision = revision;
        let mut events = 0;
        commands.iter().map(|command| self.apply_next(revision, command, &mut events)).collect()
    }

    /// `events` is how many events the revision has already.
    fn apply_next(&mut self, revision: Revision, command: &Command, events: &mut u32) -> Reply {
        self.meta.clock = self.meta.clock.max(command.at);
        let fingerprint = command.fingerprint();
        let client_request = fingerprint.map(|_| command.request);
        let mut now = Applying {
            revision,
            client_request,
            actor: Actor::of(command),
            events_before: *events,
            ..Applying::at(self.meta.clock)
        };
        // Not remembered: whoever may not ask gets no answer that was given before either, and may later be allowed to.
        let judged = self.check_asker(command).and_then(|()| self.check_since(&command.body));
        if let Err(refusal) = judged {
            let reply = Err(refusal);
            self.record_refusal(&now, command, &reply);
            return reply;
        }
        if let Some(fingerprint) = fingerprint
            && let Some(reply) = self.answered(command.request, fingerprint)
        {
            if reply == Err(Refusal::RequestReused) {
                self.record_refusal(&now, command, &reply);
            }
            return reply;
        }
        let witness = self.witness(command);
        let reply = self.perform_whole(&mut now, command);
        if let Some(witness) = witness {
            self.record(&now, command, witness, &reply);
        }
        if let Some(fingerprint) = fingerprint {
            self.remember(&now, command.request, fingerprint, &reply);
        }
        *events = now.events();
        reply
    }

    /// With what follows from it, whatever it was.
    fn perform_whole(&mut self, now: &mut Applying, command: &Command) -> Reply {
        let reply = self.perform(now, command);
        self.settle_drains(now);
        reply
    }

    fn perform(&mut self, now: &mut Applying, command: &Command) -> Reply {
        let request = command.request;
        match &command.body {
            Body::CreateVm(create) => self.create_vm(now, request, create, None),
            Body::PlaceVm { vm, node } => self.place_vm(now, *vm, node),
            Body::StartVm { vm } => self.start_vm(now, request, *vm),
            Body::StopVm { vm, force } => self.stop_vm(now, request, *vm, *force),
            Body::DestroyVm { vm } => self.destroy_vm(now, request, *vm),
            Body::MigrateVm { migration, vm, target, mode, options } => {
                let asked = Asked { vm: *vm, target, mode: *mode, options: *options };
                self.migrate_vm(now, request, *migration, asked)
            }
            Body::CancelMigration { migration } => self.cancel_migration(now, *migration),
            Body::MigrateBatch(asked) => self.migrate_batch(now, request, asked),
            Body::CancelBatch { batch } => self.cancel_batch(now, *batch),
            Body::DrainNode { node, options } => self.drain_node(now, request, node, *options),
            Body::UndrainNode { node, cancel } => self.undrain_node(now, node, *cancel),
            Body::DrainVm { migration, vm, target } => {
                self.drain_vm(now, request, *migration, *vm, target)
            }
            Body::ChangeSettings(change) => self.change_settings(now, *change),
            Body::CreateToken(token) => self.create_token(now, token),
            Body::UseToken { token, role, name } => {
                self.use_token(now, request, *token, *role, name)
            }
            Body::FoundCluster { cluster, member, operator } => {
                self.found_cluster(now, request, *cluster, member, operator)
            }
            Body::BeginIncarnation(restored) => self.begin_incarnation(now, restored),
            Body::AdmitMember(facts) => self.admit_member(now, facts),
            Body::EnterMember { member } => self.enter_member(now, *member),
            Body::RemoveMember { member } => self.remove_member(now, *member),
            Body::OpenSession(open) => self.open_session(now, open),
            Body::Reports(batches) => self.take_reports(now, batches),
            Body::SetNodeStates(states) => self.set_node_states(now, states),
            Body::ExpireEffects(effects) => self.expire_effects(now, effects),
            Body::Projects(order) => self.order_project(now, order),
            Body::Access(order) => self.order_access(now, order),
            Body::PostUsage { node, records } => self.post_usage(now, node, records),
            Body::SealWindows { through } => self.seal_windows(now, *through),
            Body::CorrectUsage(correction) => self.correct_usage(now, correction),
            Body::SetRate(card) => self.set_rate(now, card),
            Body::SetPlan { project, plan, from } => self.set_plan(now, project, plan, *from),
            Body::Annotate { vm, key, value } => self.annotate(*vm, key, value.as_deref()),
            Body::Regions(order) => self.order_region(now, order),
            Body::NoteRefusals { rows } => self.note_refused(now, rows),
            Body::NoteFormats(said) => self.note_formats(now, said),
            Body::Secrets(order) => self.order_secret(now, &command.origin, order),
            Body::Snapshots(order) => self.order_snapshot(now, request, order),
            Body::Alerts(order) => self.order_alert(now, &command.origin, order),
            Body::Networks(order) => self.order_network(now, order),
            Body::CreateVmIn(asked) => self.create_vm_in(now, request, asked),
            Body::TakeBackup => self.take_backup(now),
        }
    }

    pub(super) fn take_report(&mut self, now: &mut Applying, node: &NodeName, report: &Report) {
        match report {
            Report::EffectDone { effect, outcome } => self.settle(now, node, *effect, outcome),
            Report::Machine(report) => self.observe(now, node, report),
            Report::Progress { migration, progress } => {
                self.note_progress(now, node, *migration, progress);
            }
            Report::MigrationEnded { migration, end } => {
                self.note_source_end(now, node, *migration, end);
            }
            Report::HandedOver(handover) => self.note_handover(now, node, handover),
        }
    }

    /// The last command that was applied.
    pub fn revision(&self) -> Revision {
        self.meta.revision
    }

    /// The latest time of a command.
    pub fn clock(&self) -> Timestamp {
        self.meta.clock
    }

    /// The cluster, once it is founded.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.meta.cluster
    }

    /// A machine.
    pub fn vm(&self, vm: VmId) -> Option<&Vm> {
        self.vms.get(&vm)
    }

    /// The machine that has a name and is not deleted.
    pub fn vm_named(&self, name: &VmName) -> Option<&Vm> {
        self.index.names.get(name).and_then(|vm| self.vms.get(vm))
    }

    /// The machine that a person means by a name or an id.
    pub fn find_vm(&self, text: &str) -> Option<&Vm> {
        let named = text.parse::<VmName>().ok().and_then(|name| self.vm_named(&name));
        named.or_else(|| text.parse::<VmId>().ok().and_then(|vm| self.vm(vm)))
    }

    /// All machines in the order of their ids, which is that of their creation; deleted ones included.
    pub fn vms(&self) -> impl DoubleEndedIterator<Item = &Vm> {
        self.vms.values()
    }

    /// How many machines are not deleted.
    pub fn machines_alive(&self) -> usize {
        self.vms.len() - self.index.deleted.len()
    }

    /// The machines after an id, in order.
    pub fn vms_after(&self, vm: VmId) -> impl Iterator<Item = &Vm> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.vms.range((Excluded(vm), Unbounded)).map(|(_, vm)| vm)
    }

    /// The nodes behind a name, in order.
    pub fn nodes_after(&self, after: Option<&NodeName>) -> impl Iterator<Item = &Node> {
        use std::ops::Bound::{Excluded, Unbounded};
        let begin = after.map_or(Unbounded, |name| Excluded(name.clone()));
        self.nodes.range((begin, Unbounded)).map(|(_, node)| node)
    }

    /// The migrations after an id, in order.
    pub fn migrations_after(&self, after: Option<MigrationId>) -> impl Iterator<Item = &Migration> {
        use std::ops::Bound::{Excluded, Unbounded};
        let begin = after.map_or(Unbounded, Excluded);
        self.migrations.range((begin, Unbounded)).map(|(_, migration)| migration)
    }

    /// Machines that wait for a node.
    pub fn pending_vms(&self) -> impl Iterator<Item = &Vm> {
        self.index.pending.iter().filter_map(|vm| self.vms.get(vm))
    }

    /// Machines that have failed, in the order of their ids.
    pub fn failed_vms(&self) -> impl Iterator<Item = &Vm> {
        let unwell = self.index.unwell.iter().filter_map(|vm| self.vms.get(vm));
        unwell.filter(|vm| vm.state() == VmState::Failed)
    }

    /// A node.
    pub fn node(&self, name: &NodeName) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// All nodes in the order of their names.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = &Node> {
        self.nodes.values()
    }

    /// The machines on a node, in the order of their creation.
    pub fn vms_on_node(&self, node: &NodeName) -> impl Iterator<Item = &Vm> + use<'_> {
        self.index.vms_on(node).filter_map(|vm| self.vms.get(&vm))
    }

    /// Machines that are on a node.
    pub fn machines_on(&self, node: &NodeName) -> usize {
        self.index.vms_on(node).count()
    }

    /// A migration.
    pub fn migration(&self, migration: MigrationId) -> Option<&Migration> {
        self.migrations.get(&migration)
    }

    /// All migrations in the order of their ids, which is that of their creation.
    pub fn migrations(&self) -> impl DoubleEndedIterator<Item = &Migration> {
        self.migrations.values()
    }

    /// A coordinator.
    pub fn member(&self, member: MemberId) -> Option<&MemberRecord> {
        self.members.get(&member)
    }

    /// All coordinators, those that left included.
    pub fn members(&self) -> impl Iterator<Item = &MemberRecord> {
        self.members.values()
    }

    /// The coordinators that take part.
    pub fn present_members(&self) -> impl Iterator<Item = &MemberRecord> {
        self.members.values().filter(|member| member.part == MemberPart::Entered)
    }

    /// A join token.
    pub fn token(&self, token: TokenId) -> Option<&Token> {
        self.tokens.get(&token)
    }
}
