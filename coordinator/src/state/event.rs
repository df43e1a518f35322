//! What happened, in order; the newest part of it.

use novacron_protocol::api::{Event, EventKind};
use novacron_protocol::ids::{MigrationId, NodeName, ProjectName, Revision, VmId};
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};

use super::fleet::{Applying, Fleet};
use super::incarnation::REVISIONS_GAP;
use super::table::{Key, ROW_BYTES_MAX};

/// Events that are kept: about 200 bytes each, so 20 MB of memory and of every snapshot.
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

/// An event as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRow(pub Event);

impl Message for EventRow {
    const VERSION: u16 = 2;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "event row";
}

/// What an event is about.
#[derive(Debug, Clone, Default)]
pub(super) struct About {
    pub(super) vm: Option<VmId>,
    pub(super) node: Option<NodeName>,
    pub(super) migration: Option<MigrationId>,
    /// The project; not said of what is about a machine, which belongs to one.
    pub(super) project: Option<ProjectName>,
}

impl About {
    pub(super) fn node(node: &NodeName) -> Self {
        Self { node: Some(node.clone()), ..Self::default() }
    }

    pub(super) fn vm(vm: VmId, node: Option<&NodeName>) -> Self {
        Self { vm: Some(vm), node: node.cloned(), ..Self::default() }
    }

    pub(super) fn project(project: &ProjectName) -> Self {
        Self { project: Some(project.clone()), ..Self::default() }
    }

    pub(super) fn migration(vm: VmId, migration: MigrationId) -> Self {
        Self { vm: Some(vm), migration: Some(migration), ..Self::default() }
    }
}

impl Fleet {
    pub(super) fn emit(
        &mut self,
        now: &mut Applying,
        kind: EventKind,
        about: About,
        message: String,
    ) {
        let key = EventKey { revision: now.revision, sequence: now.next_event() };
        let of_vm = about.vm.and_then(|vm| self.project_of_vm(vm)).cloned();
        let event = Event {
            revision: key.revision,
            sequence: key.sequence,
            at: now.at,
            kind,
            vm: about.vm,
            node: about.node,
            migration: about.migration,
            project: about.project.or(of_vm),
            request: now.client_request,
            message,
        };
        self.events.insert(key, EventRow(event));
        if self.events.len() > EVENTS_MAX {
            self.events.pop_first();
        }
    }

    /// Events after a position, oldest first. Whether none is missing, [`Fleet::events_lost_before`] says.
    pub fn events_after(
        &self,
        revision: Revision,
        sequence: Option<u32>,
    ) -> impl Iterator<Item = &Event> {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = EventKey { revision, sequence: sequence.unwrap_or(u32::MAX) };
        self.events.range((Excluded(after), Unbounded)).map(|(_, row)| &row.0)
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
