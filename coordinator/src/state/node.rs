//! Hypervisor hosts: joined by their agent's first hello, then ready, suspect or down.
//!
//! ```text
//!   hello ──► ready ◄──► suspect ──► down ──(hello or heartbeat)──► ready
//! ```

use std::collections::BTreeMap;

use novacron_protocol::api::EventKind;
use novacron_protocol::effect::MachineReport;
use novacron_protocol::ids::{NodeName, RegionCode, Revision, VmId};
use novacron_protocol::node::{NodeCapacity, NodeFacts, NodeState};
use novacron_protocol::time::Timestamp;
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};

use super::audit::Subject;
use super::change::Change;
use super::command::{OpenSession, SessionReports};
use super::event::{About, Actor};
use super::fleet::{Applying, Fleet};
use super::reply::{Accepted, Refusal, Reply};
use super::table::ROW_BYTES_MAX;

/// Hosts of one fleet.
pub const NODES_MAX: usize = 10_000;

/// One connection of an agent to a leader; drawn at random, so that no two are the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionId(pub u64);

/// A host as the fleet keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Name, as in its agent's certificate.
    pub name: NodeName,
    /// What its agent said of it.
    pub facts: NodeFacts,
    /// Where it stands.
    pub region: Option<RegionCode>,
    /// Whether its agent answers.
    pub state: NodeState,
    /// The agent's newest session.
    pub session: SessionId,
    /// Number of the last report of that session that is committed.
    pub sequence: u64,
    /// When it was seen first.
    pub created_at: Timestamp,
    /// When anything of it changed last, reports apart.
    pub updated_at: Timestamp,
    /// The revision of that change.
    pub revision: Revision,
}

impl Message for Node {
    const VERSION: u16 = 2;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "node row";
}

impl Fleet {
    pub(super) fn open_session(&mut self, now: &mut Applying, open: &OpenSession) -> Reply {
        let name = &open.node;
        let is_new = self.nodes.get(name).is_none();
        if is_new && self.nodes.len() >= NODES_MAX {
            return Err(Refusal::Full(format!("{NODES_MAX} nodes")));
        }
        if is_new {
            let node = new_node(now, open, self.region_by_label(&open.facts));
            let place = node.region.as_ref().map(|code| format!(" region {code}"));
            self.nodes.insert(name.clone(), node);
            let message = format!("node {name} joined{}", place.unwrap_or_default());
            let about = About::of(Subject::Node(name.clone()));
            let about = about.with(Change::made("state", NodeState::Ready));
            self.emit(now, EventKind::NodeJoined, about, message);
        } else {
            let before = self.nodes.update(name, |node| {
                node.session = open.session;
                node.sequence = 0;
                node.updated_at = now.at;
                node.revision = now.revision;
                std::mem::replace(&mut node.facts, open.facts.clone())
            });
            self.tell_facts(now, name, before.as_ref(), &open.facts);
            self.set_node_state(now, name, NodeState::Ready);
        }
        self.compare_inventory(now, name, &open.machines);
        self.begin_queued_migrations(now);
        Ok(Accepted::Nothing)
    }

    fn tell_facts(
        &mut self,
        now: &mut Applying,
        node: &NodeName,
        before: Option<&NodeFacts>,
        after: &NodeFacts,
    ) {
        if before.map(lasting_facts) == Some(lasting_facts(after)) {
            return;
        }
        let (before, after) = (before.map(shown_facts), shown_facts(after));
        let about = About::of(Subject::Node(node.clone()));
        let about = about.with(Change::between(before.as_ref(), Some(&after)));
        let message = format!("node {node} is not what it was: its agent says other things of it");
        self.emit(now, EventKind::NodeChanged, about, message);
    }

    /// Compares what an agent has with what the fleet thinks that it has.
    fn compare_inventory(&mut self, now: &mut Applying, node: &NodeName, held: &[MachineReport]) {
        let held: BTreeMap<VmId, &MachineReport> =
            held.iter().map(|held| (held.vm, held)).collect();
        for report in held.values() {
            self.adopt_if_unknown(now, node, report);
        }
        for vm in self.vms_on(node) {
            match held.get(&vm) {
                Some(report) => self.observe(now, node, report),
                None => self.note_missing(now, vm),
            }
        }
        for report in held.values() {
            self.destroy_if_superseded(now, node, report);
        }
    }

    pub(super) fn set_node_states(
        &mut self,
        now: &mut Applying,
        states: &[(NodeName, NodeState)],
    ) -> Reply {
        for (name, state) in states {
            self.set_node_state(now, name, *state);
        }
        self.begin_queued_migrations(now);
        Ok(Accepted::Nothing)
    }

    fn set_node_state(&mut self, now: &mut Applying, name: &NodeName, state: NodeState) {
        let Some(node) = self.nodes.get(name) else { return };
        if node.state == state {
            return;
        }
        let change = Change::field("state", node.state, state);
        self.nodes.update(name, |node| {
            node.state = state;
            node.updated_at = now.at;
            node.revision = now.revision;
        });
        let word = match state {
            NodeState::Ready => "answers",
            NodeState::Suspect => "is late with its heartbeats",
            NodeState::Down => "does not answer; the states of its machines are unknown",
        };
        let about = About::of(Subject::Node(name.clone())).with(change);
        self.emit(now, EventKind::NodeState, about, format!("node {name} {word}"));
        let is_out_of_sight = state == NodeState::Down;
        if is_out_of_sight {
            self.replan_drains_to(now, name);
        }
        for vm in self.vms_on(name) {
            self.change_vm(now, vm, |vm| vm.is_out_of_sight = is_out_of_sight);
        }
    }

    /// Applies the reports of each session that are next in line, and answers how far each session is.
    pub(super) fn take_reports(&mut self, now: &mut Applying, batches: &[SessionReports]) -> Reply {
        let sequences = batches.iter().map(|batch| self.take_session_reports(now, batch)).collect();
        Ok(Accepted::Sequences(sequences))
    }

    fn take_session_reports(&mut self, now: &mut Applying, batch: &SessionReports) -> u64 {
        let Some(node) = self.nodes.get(&batch.node) else { return 0 };
        if node.session != batch.session {
            return 0;
        }
        let committed = node.sequence;
        let repeated = (committed + 1).saturating_sub(batch.first_sequence);
        let has_gap = batch.first_sequence > committed + 1;
        let repeated = usize::try_from(repeated).unwrap_or(usize::MAX);
        if has_gap || repeated >= batch.reports.len() {
            return committed;
        }
        now.actor = Actor::Agent(batch.node.clone());
        for report in &batch.reports[repeated..] {
            self.take_report(now, &batch.node, report);
        }
        now.actor = Actor::Cluster;
        let last = batch.first_sequence + batch.reports.len() as u64 - 1;
        self.nodes.update(&batch.node, |node| node.sequence = last);
        last
    }

    /// Machines that the fleet places on a node.
    pub(super) fn vms_on(&self, node: &NodeName) -> Vec<VmId> {
        self.index.vms_on(node).collect()
    }
}

fn new_node(now: &Applying, open: &OpenSession, region: Option<RegionCode>) -> Node {
    Node {
        name: open.node.clone(),
        facts: open.facts.clone(),
        region,
        state: NodeState::Ready,
        session: open.session,
        sequence: 0,
        created_at: now.at,
        updated_at: now.at,
        revision: now.revision,
    }
}

/// Without the bytes of disk that are free, which are others at each start of an agent.
fn lasting_facts(facts: &NodeFacts) -> NodeFacts {
    let capacity = NodeCapacity { disk_bytes: 0, ..facts.capacity };
    NodeFacts { capacity, ..facts.clone() }
}

/// Without addresses, too: events are read by more people than nodes are.
fn shown_facts(facts: &NodeFacts) -> NodeFacts {
    NodeFacts { migration_address: String::new(), ..lasting_facts(facts) }
}
