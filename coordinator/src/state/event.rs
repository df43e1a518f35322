//! What happened, in order; the newest part of it.

use novacron_protocol::api::{Event, EventKind};
use novacron_protocol::ids::{MigrationId, NodeName, ProjectName, Revision, VmId};
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};

use super::fleet::{Applying, Fleet};
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

    /// Events after a position, oldest first. Of a position older than [`Fleet::events_begin`] some may be
    /// missing.
    pub fn events_after(
        &self,
        revision: Revision,
        sequence: Option<u32>,
    ) -> impl Iterator<Item = &Event> {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = EventKey { revision, sequence: sequence.unwrap_or(u32::MAX) };
        self.events.range((Excluded(after), Unbounded)).map(|(_, row)| &row.0)
    }

    /// The revision of the oldest event that is still kept.
    pub fn events_begin(&self) -> Option<Revision> {
        self.events.first_key().map(|key| key.revision)
    }
}
