//! What happened, in order; the newest part of it.
//!
//! An event is made where something is changed, and says who caused it and what differs. What of both the audit log
//! knows better (the whole command, with all that it is about) is added when the command's records are written
//! ([`Fleet::complete_events`]).

use std::collections::BTreeMap;

use novacron_protocol::api::{AuditObject, Event, EventActor, EventKind};
use novacron_protocol::ids::{MigrationId, NodeName, ProjectName, RequestId, Revision, VmId};
use novacron_protocol::time::Timestamp;
use novacron_protocol::wire::codec::Message;
use novacron_transport::SubjectName;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::audit::{AuditNumber, Subject, Words};
use super::change::Change;
use super::command::{Body, Command};
use super::fleet::{Applying, Fleet};
use super::incarnation::REVISIONS_GAP;
use super::origin::{Credential, Origin};
use super::table::{Key, ROW_BYTES_MAX};

/// Events that are kept: about 300 bytes each, so 30 MB of memory and of every snapshot.
pub const EVENTS_MAX: usize = 100_000;

/// Where an event stands in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventKey {
    /// The revision that made it.
    pub revision: Revision,
    /// Its number among the events of that revision.
    pub sequence: u32,
}

impl Key for EventKey {
    fn encode(&self) -> Vec<u8> {
        [&self.revision.0.to_be_bytes()[..], &self.sequence.to_be_bytes()[..]].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (revision, sequence) = bytes.split_first_chunk::<8>()?;
        let sequence = u32::from_be_bytes(sequence.try_into().ok()?);
        Some(Self { revision: Revision(u64::from_be_bytes(*revision)), sequence })
    }
}

/// An event as it is stored: some 300 bytes, of which an agent's report makes the most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRow {
    /// The revision that made it.
    pub revision: Revision,
    /// Its number among the events of that revision, from 0.
    pub sequence: u32,
    /// When it was proposed.
    pub at: Timestamp,
    /// What kind it is.
    pub kind: EventKind,
    /// Who caused it.
    pub actor: Actor,
    /// What changed.
    pub object: Object,
    /// What was there of what differs, as a JSON object; empty if nothing was.
    pub before: String,
    /// What is there instead; empty if nothing is.
    pub after: String,
    /// The record that has the whole.
    pub audit: Option<AuditNumber>,
    /// The machine that it is about.
    pub vm: Option<VmId>,
    /// The node that it is about.
    pub node: Option<NodeName>,
    /// The migration that it is about.
    pub migration: Option<MigrationId>,
    /// The project that it is about, or whose the machine is.
    pub project: Option<ProjectName>,
    /// The client request that caused it.
    pub request: Option<RequestId>,
    /// In one line, for a person.
    pub message: String,
}

impl Message for EventRow {
    const VERSION: u16 = 3;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "event row";
}

/// Who caused an event. Without addresses and keys: events are read by more people than the audit log is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Actor {
    /// The cluster itself.
    #[default]
    Cluster,
    /// The agent of a node, by what it reported.
    Agent(NodeName),
    /// Whoever showed a certificate with this name.
    Certificate(SubjectName),
    /// Whoever showed an API key of this principal.
    ApiKey(SubjectName),
}

/// What changed. What an event names anyway is not stored twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Object {
    /// The machine of the event.
    Vm,
    /// Its node.
    Node,
    /// Its migration.
    Migration,
    /// Its project.
    Project,
    /// Something else, as the audit log calls it.
    Other {
        /// The noun.
        kind: String,
        /// Which one.
        id: Option<String>,
    },
}

impl Actor {
    /// Who a command comes from. Reports of several agents come together: see [`Fleet::take_reports`].
    pub(super) fn of(command: &Command) -> Self {
        match (&command.origin, &command.body) {
            (Origin::Asker(asker), _) => match asker.credential {
                Credential::Certificate => Self::Certificate(asker.name.clone()),
                Credential::ApiKey(_) => Self::ApiKey(asker.name.clone()),
            },
            (Origin::Cluster, Body::OpenSession(open)) => Self::Agent(open.node.clone()),
            (Origin::Cluster, Body::PostUsage { node, .. }) => Self::Agent(node.clone()),
            (Origin::Cluster, _) => Self::Cluster,
        }
    }

    /// As the API shows it.
    pub fn shown(&self) -> EventActor {
        match self {
            Self::Cluster => EventActor::Cluster,
            Self::Agent(node) => EventActor::Agent { node: node.clone() },
            Self::Certificate(name) => EventActor::Certificate { name: name.to_string() },
            Self::ApiKey(name) => EventActor::ApiKey { name: name.to_string() },
        }
    }
}

impl Object {
    fn of(subject: &Subject) -> Self {
        match subject {
            Subject::Vm(_) => Self::Vm,
            Subject::Node(_) => Self::Node,
            Subject::Migration(_) => Self::Migration,
            Subject::Project(_) => Self::Project,
            other => {
                let (kind, id) = other.words();
                Self::Other { kind: kind.to_owned(), id }
            }
        }
    }
}

impl EventRow {
    /// As the API shows it.
    pub fn shown(&self) -> Event {
        // What was written by this program as JSON can be read as such.
        let fields = |text: &str| serde_json::from_str(text).ok();
        Event {
            revision: self.revision,
            sequence: self.sequence,
            at: self.at,
            kind: self.kind,
            actor: self.actor.shown(),
            object: self.shown_object(),
            before: fields(&self.before),
            after: fields(&self.after),
            audit: self.audit.map(|number| number.0),
            vm: self.vm,
            node: self.node.clone(),
            migration: self.migration,
            project: self.project.clone(),
            request: self.request,
            message: self.message.clone(),
        }
    }

    fn shown_object(&self) -> AuditObject {
        let named = |kind: &str, id: Option<String>| AuditObject { kind: kind.to_owned(), id };
        match &self.object {
            Object::Vm => named("vm", self.vm.map(|vm| vm.to_string())),
            Object::Node => named("node", self.node.as_ref().map(ToString::to_string)),
            Object::Migration => named("migration", self.migration.map(|id| id.to_string())),
            Object::Project => named("project", self.project.as_ref().map(ToString::to_string)),
            Object::Other { kind, id } => named(kind, id.clone()),
        }
    }
}

/// What an event is about.
#[derive(Debug, Clone)]
pub(super) struct About {
    pub(super) subject: Subject,
    pub(super) vm: Option<VmId>,
    pub(super) node: Option<NodeName>,
    pub(super) migration: Option<MigrationId>,
    /// The project; not said of what is about a machine, which belongs to one.
    pub(super) project: Option<ProjectName>,
    pub(super) change: Change,
}

impl About {
    /// What changed, and what follows from it.
    pub(super) fn of(subject: Subject) -> Self {
        let mut about = Self {
            subject: subject.clone(),
            vm: None,
            node: None,
            migration: None,
            project: None,
            change: Change::default(),
        };
        match subject {
            Subject::Vm(vm) | Subject::Snapshot(vm, _) | Subject::Annotation(vm, _) => {
                about.vm = Some(vm);
            }
            Subject::Node(node) | Subject::Drain(node) => about.node = Some(node),
            Subject::Migration(migration) => about.migration = Some(migration),
            Subject::Project(project) | Subject::Plan(project) | Subject::Budget(project) => {
                about.project = Some(project);
            }
            Subject::Secret(place) => about.project = place.project,
            Subject::Batch(_)
            | Subject::Member(_)
            | Subject::Token(_)
            | Subject::Settings
            | Subject::Principal(_)
            | Subject::Binding(_)
            | Subject::ApiKey(_)
            | Subject::LedgerEntry(_)
            | Subject::Rate(_)
            | Subject::Region(_)
            | Subject::SecretKeys
            | Subject::Alert(_)
            | Subject::AlertKey(_)
            | Subject::Network(_)
            | Subject::Cluster => {}
        }
        about
    }

    pub(super) fn vm(vm: VmId, node: Option<&NodeName>) -> Self {
        Self { node: node.cloned(), ..Self::of(Subject::Vm(vm)) }
    }

    pub(super) fn migration(vm: VmId, migration: MigrationId) -> Self {
        Self { vm: Some(vm), ..Self::of(Subject::Migration(migration)) }
    }

    /// What differs. Where it is not said, and the command is about the same, it is what the audit log says of it.
    pub(super) fn with(self, change: Change) -> Self {
        Self { change, ..self }
    }
}

/// A record of a command that was written, and what it is about as it was and is.
pub(super) struct Recorded<'a> {
    pub(super) number: AuditNumber,
    pub(super) subject: Option<&'a Subject>,
    pub(super) before: Option<&'a RawValue>,
    pub(super) after: Option<&'a RawValue>,
}

impl Fleet {
    pub(super) fn emit(
        &mut self,
        now: &mut Applying,
        kind: EventKind,
        about: About,
        message: String,
    ) {
        let object = Object::of(&about.subject);
        let key = EventKey { revision: now.revision, sequence: now.next_event(about.subject) };
        let of_vm = about.vm.and_then(|vm| self.project_of_vm(vm)).cloned();
        let event = EventRow {
            revision: key.revision,
            sequence: key.sequence,
            at: now.at,
            kind,
            actor: now.actor.clone(),
            object,
            before: about.change.before,
            after: about.change.after,
            audit: None,
            vm: about.vm,
            node: about.node,
            migration: about.migration,
            project: about.project.or(of_vm),
            request: now.client_request,
            message,
        };
        self.events.insert(key, event);
        if self.events.len() > EVENTS_MAX {
            self.events.pop_first();
        }
    }

    /// Says of the events of a command which of its records has the whole: the one about the same, else that of the node
    /// on which it happened, else its only one. What differs is taken from the first where the event does not say it.
    pub(super) fn complete_events(&mut self, now: &Applying, records: &[Recorded<'_>]) {
        // Most commands of a busy fleet tell nothing.
        if records.is_empty() || now.emitted().next().is_none() {
            return;
        }
        let named =
            records.iter().filter_map(|record| Some((self.known_as(record.subject?), record)));
        let named: BTreeMap<Words, &Recorded<'_>> = named.collect();
        let only = match records {
            [only] => Some(only),
            _ => None,
        };
        for (sequence, subject) in now.emitted() {
            let key = EventKey { revision: now.revision, sequence };
            let same = named.get(&subject.words());
            self.events.update(&key, |row| {
                let node =
                    || named.get(&Subject::Node(row.node.clone()?).words()).map(|one| one.number);
                // What the cluster did by itself is not in a record of who asked for something else.
                let only = only.filter(|_| row.actor == now.actor).map(|one| one.number);
                row.audit = same.map(|one| one.number).or_else(node).or(only);
                let is_silent = row.before.is_empty() && row.after.is_empty();
                if let Some(same) = same.filter(|_| is_silent) {
                    let Change { before, after } = Change::between(same.before, same.after);
                    (row.before, row.after) = (before, after);
                }
            });
        }
    }

    /// As events call what a record is about: an alert has its id only once it is raised.
    fn known_as(&self, subject: &Subject) -> Words {
        match subject {
            Subject::AlertKey(key) => match self.latest_alert(key) {
                Some(alert) => Subject::Alert(alert.id).words(),
                None => subject.words(),
            },
            subject => subject.words(),
        }
    }

    /// Events after a position, oldest first. Whether none is missing, [`Fleet::events_lost_before`] says.
    pub fn events_after(
        &self,
        revision: Revision,
        sequence: Option<u32>,
    ) -> impl Iterator<Item = &EventRow> {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = EventKey { revision, sequence: sequence.unwrap_or(u32::MAX) };
        self.events.range((Excluded(after), Unbounded)).map(|(_, row)| row)
    }

    /// The oldest revision all of whose events are kept, with all later ones.
    pub fn oldest_event_revision(&self) -> Revision {
        let is_full = self.events.len() >= EVENTS_MAX;
        match self.events.first_key().filter(|_| is_full) {
            None => Revision(1),
            Some(oldest) if oldest.sequence == 0 => oldest.revision,
            // The events before it in its revision are forgotten.
            Some(oldest) => oldest.revision.next(),
        }
    }

    /// Whether events behind a position may be forgotten; then [`Fleet::oldest_event_revision`].
    pub fn events_lost_before(&self, revision: Revision, sequence: u32) -> Option<Revision> {
        let is_full = self.events.len() >= EVENTS_MAX;
        let oldest = self.events.first_key().filter(|_| is_full)?;
        let has_seen = match oldest.sequence.checked_sub(1) {
            Some(forgotten) => (revision, sequence) >= (oldest.revision, forgotten),
            // Which event was forgotten last is not known, but that it is of an earlier revision.
            None => {
                let is_behind_one = revision.next() == oldest.revision && sequence == u32::MAX;
                revision >= oldest.revision || is_behind_one
            }
        };
        (!has_seen).then(|| self.oldest_event_revision())
    }

    /// Whether the cluster was restored from a backup that is older than a revision: then what happened up to it is not
    /// what the fleet knows. It has no event of that revision, and its next one lies behind the gap that a restore leaves.
    pub fn is_undone(&self, revision: Revision) -> bool {
        let next = self.events_after(revision, None).next();
        let distance = next.map_or(0, |next| next.revision.0 - revision.0);
        let begin = EventKey { revision, sequence: 0 };
        let end = EventKey { revision, sequence: u32::MAX };
        distance > REVISIONS_GAP / 2 && self.events.range(begin..=end).next().is_none()
    }
}
