//! Who changed what: a chain of records that nobody can change unseen.
//!
//! A record is one line of JSON. Its hash is SHA-256 over the hash before it (32 bytes; zeros before the first) and
//! the bytes of the line, so whoever knows one hash can prove everything before it, with no program of ours. Every
//! client's command has a record, also one that was refused, and so has what the cluster decided by itself. What agents
//! report is not here: the events have it.
//!
//! The newest records are rows. Older ones leave the tables as archived texts ([`archive`](super::archive)) of
//! [`SEGMENT_RECORDS`] lines, each `hash in hex, space, record`.

use std::collections::BTreeMap;

use novacron_protocol::alert::AlertKey;
use novacron_protocol::api::Code;
use novacron_protocol::audit::{self, Chain, ChainHash};
use novacron_protocol::ids::{
    AlertId, ApiKeyId, BatchId, BindingId, MemberId, MigrationId, NetworkName, NodeName,
    ProjectName, RegionCode, RequestId, SnapshotName, VmId,
};
use novacron_protocol::time::Timestamp;
use novacron_protocol::wire::codec::Message;
use novacron_transport::SubjectName;
use novacron_transport::token::TokenId;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::alert::AlertOrder;
use super::alert::retention::OBSERVED_MAX;
use super::api_key::ApiKey;
use super::archive::ArchiveName;
use super::command::{Body, Command, CreateVmIn};
use super::event::Recorded;
use super::fleet::{Applying, Fleet};
use super::ledger::entry::EntryId;
use super::ledger::rate::RateKey;
use super::origin::{Asker, Credential, Origin};
use super::principal::AccessOrder;
use super::project::ProjectOrder;
use super::refused::RefusedRow;
use super::region::{Region, RegionOrder};
use super::reply::Reply;
use super::secret::keys::Turn;
use super::secret::{Secret, SecretPlace};
use super::table::{Key, ROW_BYTES_MAX, Table};

/// Records of one archived text: some 4 MB, and less than a tenth of it on disk.
pub const SEGMENT_RECORDS: usize = 4096;

/// Records that stay rows, for quick reading: about 8 MB of memory and of every snapshot.
pub const RECENT_MAX: usize = 2 * SEGMENT_RECORDS;

/// Archived texts that are kept: 400 million records.
pub const SEGMENTS_MAX: usize = 100_000;

/// Records whose chain is checked after each command in tests.
const CHECKED_RECORDS: u64 = 32;

/// What names of archived texts begin with.
const PREFIX: &str = "audit-";

/// The place of a record in the chain, from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AuditNumber(pub u64);

/// A record in the tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRow {
    /// One line of JSON.
    pub line: String,
    /// Of the record before and the line.
    pub hash: ChainHash,
}

impl Message for AuditRow {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "audit row";
}

/// The end of the chain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    /// The last record; 0 before the first.
    pub number: AuditNumber,
    /// Its hash.
    pub hash: ChainHash,
}

/// What a record is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    Vm(VmId),
    Node(NodeName),
    Drain(NodeName),
    Migration(MigrationId),
    Batch(BatchId),
    Member(MemberId),
    Token(TokenId),
    Settings,
    Project(ProjectName),
    Principal(SubjectName),
    Binding(BindingId),
    ApiKey(ApiKeyId),
    LedgerEntry(EntryId),
    Rate(RateKey),
    Plan(ProjectName),
    Annotation(VmId, String),
    Region(RegionCode),
    Secret(SecretPlace),
    SecretKeys,
    Snapshot(VmId, SnapshotName),
    Alert(AlertId),
    AlertKey(AlertKey),
    Budget(ProjectName),
    Network(NetworkName),
    /// The cluster as a whole: events have it, records say it by their action.
    Cluster,
}

/// What a record calls what it is about: the noun, and which one.
pub(super) type Words = (&'static str, Option<String>);

/// A record as it is written.
#[derive(Debug, Serialize)]
struct Record<'a> {
    number: u64,
    at: Timestamp,
    revision: u64,
    actor: Actor<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<RequestId>,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<Object>,
    result: Outcome<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<Times>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<&'a RawValue>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Actor<'a> {
    Cluster,
    Certificate { name: &'a str, address: Option<String> },
    ApiKey { name: &'a str, key: String, address: Option<String> },
    Presented { shown: &'a str, address: Option<String> },
}

/// How often the same was done, and from when to when.
#[derive(Debug, Serialize)]
struct Times {
    count: u64,
    first_at: Timestamp,
    last_at: Timestamp,
}

#[derive(Debug, Serialize)]
struct Object {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Outcome<'a> {
    Done,
    Refused { code: Code, detail: &'a str },
}

/// What of the fleet a command is about, as it was before.
pub(super) struct Witness {
    subjects: Vec<(Option<Subject>, Option<Box<RawValue>>)>,
}

impl Fleet {
    /// Looks at what a command is about, before it is applied. `None` for commands that leave no record.
    pub(super) fn witness(&self, command: &Command) -> Option<Witness> {
        command.action()?;
        let subjects = command.body.subjects().into_iter().map(|subject| {
            let before = subject.as_ref().and_then(|subject| self.describe(subject));
            (subject, before)
        });
        Some(Witness { subjects: subjects.collect() })
    }

    /// Writes the records of a command that was refused before anything was looked at.
    pub(super) fn record_refusal(&mut self, now: &Applying, command: &Command, reply: &Reply) {
        if let Some(witness) = self.witness(command) {
            self.record(now, command, witness, reply);
        }
    }

    /// Writes the records of a command that was applied.
    pub(super) fn record(
        &mut self,
        now: &Applying,
        command: &Command,
        witness: Witness,
        reply: &Reply,
    ) {
        let Some(action) = command.action() else { return };
        let request = now.client_request;
        let mut written = Vec::with_capacity(witness.subjects.len());
        for (subject, before) in witness.subjects {
            let after = subject.as_ref().and_then(|subject| self.describe(subject));
            let is_same =
                before.as_deref().map(RawValue::get) == after.as_deref().map(RawValue::get);
            // What the cluster decided again changes nothing the second time, and is nobody's deed.
            if is_same && request.is_none() && subject.is_some() {
                continue;
            }
            let text = reply.as_ref().err().map(|refusal| (refusal.code(), refusal.to_string()));
            let record = Record {
                number: self.meta.audit.number.0 + 1,
                at: now.at,
                revision: now.revision.0,
                actor: Actor::of(&command.origin),
                request,
                action,
                object: subject.as_ref().map(Subject::object),
                result: match &text {
                    None => Outcome::Done,
                    Some((code, detail)) => Outcome::Refused { code: *code, detail },
                },
                times: None,
                before: before.as_deref().filter(|_| !is_same),
                after: after.as_deref().filter(|_| !is_same),
            };
            // Every value here has string keys and no floats: it can be written.
            let line = serde_json::to_string(&record).unwrap_or_default();
            self.append_audit(line);
            written.push((self.meta.audit.number, subject, before, after));
        }
        let records: Vec<Recorded<'_>> = written
            .iter()
            .map(|(number, subject, before, after)| Recorded {
                number: *number,
                subject: subject.as_ref(),
                before: before.as_deref(),
                after: after.as_deref(),
            })
            .collect();
        self.complete_events(now, &records);
    }

    /// Writes the record of requests that were refused before they became commands.
    pub(super) fn record_refused(&mut self, now: &Applying, row: &RefusedRow) {
        let address = row.address.map(|address| address.to_string());
        let RefusedRow { count, first_at, last_at, .. } = *row;
        let record = Record {
            number: self.meta.audit.number.0 + 1,
            at: now.at,
            revision: now.revision.0,
            actor: Actor::Presented { shown: &row.shown, address },
            request: None,
            action: "api.refuse",
            object: Some(Object { kind: "operation", id: Some(row.operation.clone()) }),
            result: Outcome::Refused { code: row.code, detail: row.code.title() },
            times: Some(Times { count, first_at, last_at }),
            before: None,
            after: None,
        };
        let line = serde_json::to_string(&record).unwrap_or_default();
        self.append_audit(line);
    }

    fn append_audit(&mut self, line: String) {
        let hash = self.meta.audit.hash.then(&line);
        let number = AuditNumber(self.meta.audit.number.0 + 1);
        self.meta.audit = AuditHead { number, hash };
        self.audit.insert(number, AuditRow { line, hash });
        if self.audit.len() > RECENT_MAX {
            self.archive_oldest_audit();
        }
    }

    fn archive_oldest_audit(&mut self) {
        let first = self.audit.first_key().map_or(0, |number| number.0);
        let mut text = String::new();
        for _ in 0..SEGMENT_RECORDS {
            let Some((_, row)) = self.audit.pop_first() else { break };
            text.push_str(&audit::line(&row.hash, &row.line));
        }
        self.archive(segment_name(first), text.into_bytes());
        if self.audit_segments().count() > SEGMENTS_MAX {
            let oldest = self.audit_segments().next().map(|(name, _)| name.to_owned());
            oldest.into_iter().for_each(|oldest| self.forget_archive(&oldest));
        }
    }

    /// What a record says of a thing: its row, without what is secret.
    pub(super) fn describe(&self, subject: &Subject) -> Option<Box<RawValue>> {
        match subject {
            Subject::Vm(vm) => text(self.vms.get(vm)?),
            Subject::Node(node) => text(self.nodes.get(node)?),
            Subject::Drain(node) => text(self.drains.get(node)?),
            Subject::Migration(migration) => text(self.migrations.get(migration)?),
            Subject::Batch(batch) => text(self.batches.get(batch)?),
            Subject::Member(member) => text(self.members.get(member)?),
            Subject::Settings => text(&self.meta.settings),
            Subject::Project(project) => text(self.projects.get(project)?),
            Subject::Principal(principal) => text(self.principals.get(principal)?),
            Subject::Binding(binding) => text(self.bindings.get(binding)?),
            Subject::ApiKey(key) => {
                let ApiKey { principal, name, created_at, expires_at, .. } =
                    self.api_keys.get(key)?;
                text(&json!({
                    "principal": principal,
                    "name": name,
                    "created_at": created_at,
                    "expires_at": expires_at,
                }))
            }
            Subject::LedgerEntry(entry) => text(self.ledger_corrected.get(entry)?),
            Subject::Rate(key) => text(self.ledger_rates.get(key)?),
            Subject::Plan(project) => text(self.ledger_plans.get(project)?),
            Subject::Annotation(vm, key) => text(&self.annotation(*vm, key)?),
            Subject::Region(region) => {
                let (region, latencies_ms) =
                    (self.regions.get(region)?, self.latencies_from(region));
                match latencies_ms.is_empty() {
                    true => text(region),
                    false => text(&MeasuredRegion { region, latencies_ms }),
                }
            }
            Subject::Secret(place) => {
                let Secret { version, created_at, updated_at, updated_by, .. } =
                    self.secrets.get(place)?;
                text(&json!({
                    "version": version,
                    "created_at": created_at,
                    "updated_at": updated_at,
                    "updated_by": updated_by,
                }))
            }
            Subject::SecretKeys => {
                let keys = self.secret_keys();
                let named: Vec<_> = keys.wanted().map(|key| key.to_string()).collect();
                text(&json!({
                    "sealing": keys.sealing.map(|key| key.to_string()),
                    "wanted": named,
                    "is_asked": keys.turn == Turn::Asked,
                    "since": keys.since,
                }))
            }
            Subject::Snapshot(vm, name) => text(self.snapshot_named(*vm, name)?),
            Subject::Alert(alert) => text(self.alerts.get(alert)?),
            Subject::AlertKey(key) => text(self.open_alert(key)?),
            Subject::Budget(project) => text(self.budgets.get(project)?),
            Subject::Network(network) => text(self.networks.get(network)?),
            Subject::Token(token) => {
                let token = self.tokens.get(token)?;
                let record = &token.record;
                text(&json!({
                    "role": record.role,
                    "name": record.name,
                    "expires_at": record.expires_at,
                    "used": record.used,
                    "used_by": token.used_by,
                }))
            }
            Subject::Cluster => None,
        }
    }

    /// The end of the chain.
    pub fn audit_head(&self) -> AuditHead {
        self.meta.audit
    }

    /// The records that are rows, from a number on, oldest first.
    pub fn audit_from(
        &self,
        number: AuditNumber,
    ) -> impl DoubleEndedIterator<Item = (AuditNumber, &AuditRow)> {
        self.audit.range(number..).map(|(number, row)| (*number, row))
    }

    /// The records that are rows, shared with the fleet: whoever writes them as text does so without it.
    pub fn audit_rows(&self) -> Table<AuditNumber, AuditRow> {
        self.audit.clone()
    }

    /// The archived texts, oldest first: name and number of the first record.
    pub fn audit_segments(&self) -> impl Iterator<Item = (&str, AuditNumber)> {
        let from = ArchiveName(PREFIX.to_owned());
        let texts = self.archives.range(from..).map(|(name, _)| name.0.as_str());
        texts.map_while(|name| Some((name, AuditNumber(name.strip_prefix(PREFIX)?.parse().ok()?))))
    }

    /// The archived text that a record is in: name and number of its first record. `None` if it is in none that is kept.
    pub fn audit_segment_of(&self, number: AuditNumber) -> Option<(&str, AuditNumber)> {
        let named = |number| ArchiveName(segment_name(number));
        let (name, _) = self.archives.range(named(0)..=named(number.0)).next_back()?;
        let first = name.0.strip_prefix(PREFIX)?.parse().ok()?;
        let is_in = number.0 < first + SEGMENT_RECORDS as u64;
        is_in.then_some((name.0.as_str(), AuditNumber(first)))
    }

    /// Checks the chain of what is in the tables.
    pub(super) fn check_audit(&self) -> Result<(), String> {
        // The newest few: every one of them was among them once.
        let from = AuditNumber(self.meta.audit.number.0.saturating_sub(CHECKED_RECORDS));
        let mut rows = self.audit.range(from..);
        let Some((first, row)) = rows.next() else {
            return is_right(self.meta.audit == AuditHead::default());
        };
        let mut chain = Chain::behind(first.0, row.hash);
        for (number, row) in rows {
            chain.follow(row.hash, &row.line).map_err(|fault| fault.to_string())?;
            is_right(chain.number == number.0)?;
        }
        let head = self.meta.audit;
        chain.ends_at(head.number.0, head.hash).map_err(|fault| fault.to_string())?;
        is_right(self.audit.len() <= RECENT_MAX)
    }
}

fn is_right(holds: bool) -> Result<(), String> {
    let what = || "the audit log has a gap, is too long or does not end at its head".to_owned();
    holds.then_some(()).ok_or_else(what)
}

fn text(value: &impl Serialize) -> Option<Box<RawValue>> {
    serde_json::value::to_raw_value(value).ok()
}

/// Sorts as the numbers do.
fn segment_name(first: u64) -> String {
    format!("{PREFIX}{first:020}")
}

impl<'a> Actor<'a> {
    fn of(origin: &'a Origin) -> Self {
        let Origin::Asker(Asker { name, credential, address }) = origin else {
            return Self::Cluster;
        };
        let (name, address) = (name.as_str(), address.map(|address| address.to_string()));
        match credential {
            Credential::Certificate => Self::Certificate { name, address },
            Credential::ApiKey(key) => Self::ApiKey { name, key: key.to_string(), address },
        }
    }
}

impl Subject {
    fn object(&self) -> Object {
        let (kind, id) = self.words();
        Object { kind, id }
    }

    /// The noun, and which one.
    pub(super) fn words(&self) -> Words {
        match self {
            Self::Vm(vm) => ("vm", Some(vm.to_string())),
            Self::Node(node) => ("node", Some(node.to_string())),
            Self::Drain(node) => ("drain", Some(node.to_string())),
            Self::Migration(migration) => ("migration", Some(migration.to_string())),
            Self::Batch(batch) => ("batch", Some(batch.to_string())),
            Self::Member(member) => ("member", Some(member.to_string())),
            Self::Token(token) => ("token", Some(token.to_string())),
            Self::Settings => ("settings", None),
            Self::Project(project) => ("project", Some(project.to_string())),
            Self::Principal(principal) => ("principal", Some(principal.to_string())),
            Self::Binding(binding) => ("binding", Some(binding.to_string())),
            Self::ApiKey(key) => ("api-key", Some(key.to_string())),
            Self::LedgerEntry(entry) => {
                ("ledger-entry", Some(format!("{}/{}", entry.window, entry.index)))
            }
            Self::Rate(key) => ("rate", Some(format!("{}/{}", key.plan, key.valid_from))),
            Self::Plan(project) => ("plan", Some(project.to_string())),
            Self::Annotation(vm, key) => ("annotation", Some(format!("{vm}/{key}"))),
            Self::Region(region) => ("region", Some(region.to_string())),
            Self::Secret(place) => ("secret", Some(place.to_string())),
            Self::SecretKeys => ("secret-keys", None),
            Self::Snapshot(vm, name) => ("snapshot", Some(format!("{vm}/{name}"))),
            Self::Alert(alert) => ("alert", Some(alert.to_string())),
            Self::AlertKey(key) => ("alert", Some(key.to_string())),
            Self::Budget(project) => ("budget", Some(project.to_string())),
            Self::Network(network) => ("network", Some(network.to_string())),
            Self::Cluster => ("cluster", None),
        }
    }
}

impl Key for AuditNumber {
    fn encode(&self) -> Vec<u8> {
        self.0.to_be_bytes().to_vec()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(u64::from_be_bytes(bytes)))
    }
}

fn access_subject(order: &AccessOrder) -> Subject {
    match order {
        AccessOrder::CreatePrincipal { name, .. }
        | AccessOrder::ChangePrincipal { name, .. }
        | AccessOrder::DeletePrincipal { name } => Subject::Principal(name.clone()),
        AccessOrder::Bind(binding) => Subject::Binding(binding.id),
        AccessOrder::Unbind { binding } => Subject::Binding(*binding),
        AccessOrder::CreateKey(key) => Subject::ApiKey(key.id),
        AccessOrder::RevokeKey { key } => Subject::ApiKey(*key),
    }
}

fn project_subject(order: &ProjectOrder) -> Subject {
    match order {
        ProjectOrder::SetBudget { project, .. } => Subject::Budget(project.clone()),
        order => Subject::Project(order.project().clone()),
    }
}

/// One for each alert: of an order of the leader all that it raises, by key, and all that are over.
fn alert_subjects(order: &AlertOrder) -> Vec<Option<Subject>> {
    match order {
        AlertOrder::Observe(observed) => {
            let raised = observed.raises.iter().map(|raise| Subject::AlertKey(raise.key.clone()));
            let over = observed.over.iter().map(|(alert, _)| Subject::Alert(*alert));
            raised.chain(over).take(OBSERVED_MAX).map(Some).collect()
        }
        AlertOrder::Raise(raise) => vec![Some(Subject::AlertKey(raise.key.clone()))],
        AlertOrder::Acknowledge { alert, .. }
        | AlertOrder::Unacknowledge { alert }
        | AlertOrder::Resolve { alert, .. } => vec![Some(Subject::Alert(*alert))],
    }
}

/// A region and how far others are from it.
#[derive(Serialize)]
struct MeasuredRegion<'a> {
    #[serde(flatten)]
    region: &'a Region,
    latencies_ms: BTreeMap<RegionCode, u32>,
}

fn region_subject(order: &RegionOrder) -> Subject {
    match order {
        RegionOrder::Create { region, .. }
        | RegionOrder::Change { region, .. }
        | RegionOrder::ChangeWithLatencies { region, .. }
        | RegionOrder::Delete { region } => Subject::Region(region.clone()),
        RegionOrder::Assign { node, .. } => Subject::Node(node.clone()),
    }
}

impl Command {
    /// What the audit log calls it. What agents meter is in the ledger; what somebody else posts there is a deed.
    pub fn action(&self) -> Option<&'static str> {
        match (&self.body, self.origin.asker()) {
            (Body::PostUsage { .. }, Some(_)) => Some("usage.post"),
            (body, _) => body.action(),
        }
    }
}

impl Body {
    /// What the audit log calls a command; `None` for what agents report, which events tell.
    pub fn action(&self) -> Option<&'static str> {
        Some(match self {
            Self::CreateVm(_) | Self::CreateVmIn(_) => "vm.create",
            Self::PlaceVm { .. } => "vm.place",
            Self::StartVm { .. } => "vm.start",
            Self::StopVm { force: false, .. } => "vm.stop",
            Self::StopVm { force: true, .. } => "vm.stop-by-force",
            Self::DestroyVm { .. } => "vm.delete",
            Self::MigrateVm { .. } => "vm.migrate",
            Self::DrainVm { .. } => "vm.drain",
            Self::CancelMigration { .. } => "migration.cancel",
            Self::MigrateBatch(_) => "batch.create",
            Self::CancelBatch { .. } => "batch.cancel",
            Self::DrainNode { .. } => "node.drain",
            Self::UndrainNode { .. } => "node.undrain",
            Self::SetNodeStates(_) => "node.state",
            Self::ChangeSettings(_) => "settings.change",
            Self::CreateToken(_) => "token.create",
            Self::UseToken { .. } => "token.use",
            Self::FoundCluster { .. } => "cluster.found",
            Self::TakeBackup => "cluster.backup",
            Self::BeginIncarnation(_) => "cluster.restore",
            Self::AdmitMember(_) => "member.admit",
            Self::EnterMember { .. } => "member.enter",
            Self::RemoveMember { .. } => "member.remove",
            Self::Projects(order) => order.action(),
            Self::Access(order) => order.action(),
            Self::CorrectUsage(_) => "ledger.correct",
            Self::SetRate(_) => "rate.set",
            Self::SetPlan { .. } => "plan.set",
            Self::Annotate { .. } => "vm.annotate",
            Self::Regions(order) => order.action(),
            Self::Secrets(order) => return order.action(),
            Self::Snapshots(order) => order.deed.action(),
            Self::Alerts(order) => order.action(),
            Self::Networks(order) => order.action(),
            Self::OpenSession(_)
            | Self::Reports(_)
            | Self::ExpireEffects(_)
            | Self::PostUsage { .. }
            | Self::NoteRefusals { .. }
            | Self::SealWindows { .. }
            | Self::NoteFormats(_) => return None,
        })
    }

    /// What a command is about: one record for each.
    fn subjects(&self) -> Vec<Option<Subject>> {
        let one = |subject| vec![Some(subject)];
        match self {
            Self::CreateVm(create) | Self::CreateVmIn(CreateVmIn { create, .. }) => {
                one(Subject::Vm(create.vm))
            }
            Self::PlaceVm { vm, .. }
            | Self::StartVm { vm }
            | Self::StopVm { vm, .. }
            | Self::DestroyVm { vm } => one(Subject::Vm(*vm)),
            Self::MigrateVm { migration, .. }
            | Self::DrainVm { migration, .. }
            | Self::CancelMigration { migration } => one(Subject::Migration(*migration)),
            Self::MigrateBatch(asked) => one(Subject::Batch(asked.batch)),
            Self::CancelBatch { batch } => one(Subject::Batch(*batch)),
            Self::DrainNode { node, .. } | Self::UndrainNode { node, .. } => {
                one(Subject::Drain(node.clone()))
            }
            Self::SetNodeStates(states) => {
                states.iter().map(|(node, _)| Some(Subject::Node(node.clone()))).collect()
            }
            Self::ChangeSettings(_) => one(Subject::Settings),
            Self::CreateToken(token) => one(Subject::Token(token.id)),
            Self::UseToken { token, .. } => one(Subject::Token(*token)),
            Self::EnterMember { member } | Self::RemoveMember { member } => {
                one(Subject::Member(*member))
            }
            Self::Projects(order) => one(project_subject(order)),
            Self::Alerts(order) => alert_subjects(order),
            Self::Access(order) => one(access_subject(order)),
            Self::CorrectUsage(correction) => one(Subject::LedgerEntry(correction.entry)),
            Self::SetRate(card) => {
                one(Subject::Rate(RateKey { plan: card.plan.clone(), valid_from: card.valid_from }))
            }
            Self::SetPlan { project, .. } => one(Subject::Plan(project.clone())),
            Self::Annotate { vm, key, .. } => one(Subject::Annotation(*vm, key.clone())),
            Self::Regions(order) => one(region_subject(order)),
            Self::Secrets(order) => {
                one(order.place().cloned().map_or(Subject::SecretKeys, Subject::Secret))
            }
            Self::Snapshots(order) => one(Subject::Snapshot(order.vm, order.name.clone())),
            Self::Networks(order) => one(Subject::Network(order.network().clone())),
            Self::FoundCluster { .. }
            | Self::TakeBackup
            | Self::PostUsage { .. }
            | Self::SealWindows { .. }
            | Self::NoteRefusals { .. }
            | Self::BeginIncarnation(_)
            | Self::AdmitMember(_)
            | Self::NoteFormats(_)
            | Self::OpenSession(_)
            | Self::Reports(_)
            | Self::ExpireEffects(_) => vec![None],
        }
    }
}
