//! A cluster that comes back from a backup: the same cluster, in another life.
//!
//! A backup is older than the world. What was handed out after it was made must not be handed out again: ids of
//! members and effects, generations of machines, join tokens that may be used up. So all of them go on behind a gap.
//! And where a machine is, its agent knows better than a backup: see [`Fleet::adopt_if_unknown`].

use novacron_protocol::api::EventKind;
use novacron_protocol::effect::MachineReport;
use novacron_protocol::ids::{EffectId, Generation, Incarnation, MemberId, NodeName, VmId};
use serde::{Deserialize, Serialize};

use super::audit::Subject;
use super::change::Change;
use super::event::About;
use super::fleet::{Applying, Fleet};
use super::member::{MemberFacts, MemberPart, MemberRecord};
use super::reply::{Accepted, Refusal, Reply};
use super::vm::{Rest, observed_rest};

/// The first life of a cluster.
pub const FIRST: Incarnation = Incarnation(1);

/// Member ids that are left out: more than a cluster admits between two backups.
pub const MEMBERS_GAP: u64 = 100;

/// Effects that are left out: a thousand a second for 49 days.
pub const EFFECTS_GAP: u64 = 1 << 32;

/// Generations of each machine that are left out: a migration a minute for 45 days.
pub const GENERATIONS_GAP: u64 = 1 << 16;

/// Revisions that are left out, by whoever begins the log: a thousand a second for 49 days.
pub const REVISIONS_GAP: u64 = 1 << 32;

/// What begins a new life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// The new life; later than all before.
    pub incarnation: Incarnation,
    /// Its first member: [`Fleet::next_first_member`] of the backup.
    pub member: MemberId,
    /// Who that is.
    pub facts: MemberFacts,
}

impl Fleet {
    /// Which life of the cluster this is; 0 before it is founded.
    pub fn incarnation(&self) -> Incarnation {
        self.meta.incarnation
    }

    /// The id of the first member of the life after this one.
    pub fn next_first_member(&self) -> MemberId {
        MemberId(self.meta.member_last.0.saturating_add(MEMBERS_GAP))
    }

    /// Begins a new life with one member. Doing it again is refused, since the life is not a later one any more.
    pub(super) fn begin_incarnation(&mut self, now: &mut Applying, restored: &Restored) -> Reply {
        if self.meta.cluster.is_none() || restored.incarnation <= self.meta.incarnation {
            return Err(Refusal::Conflict(format!(
                "life {} of the cluster does not follow life {}",
                restored.incarnation, self.meta.incarnation
            )));
        }
        if restored.member <= self.meta.member_last {
            let text = format!("member id {} was given out before", restored.member);
            return Err(Refusal::Conflict(text));
        }
        restored.facts.formats.check(self.meta.formats).map_err(Refusal::OtherFormats)?;
        let change = Change::field("incarnation", self.meta.incarnation, restored.incarnation);
        self.meta.incarnation = restored.incarnation;
        self.replace_members(restored);
        let effect_last = self.meta.effect_last.0.saturating_add(EFFECTS_GAP);
        self.meta.effect_last = EffectId(effect_last);
        self.skip_generations();
        self.tokens_are_void();
        // One of them may have been revoked after the backup was made.
        self.forget_keys(|_| true);
        let message =
            format!("the cluster was restored; {} is its first member", restored.facts.name);
        let about = About::of(Subject::Cluster).with(change);
        self.emit(now, EventKind::MemberChanged, about, message);
        Ok(Accepted::Member(restored.member))
    }

    fn replace_members(&mut self, restored: &Restored) {
        let present = self.members.values().filter(|member| !member.has_left());
        let present: Vec<MemberId> = present.map(|member| member.id).collect();
        for member in present {
            self.members.update(&member, |member| member.part = MemberPart::Left);
        }
        let Restored { member, facts, .. } = restored;
        let (id, part) = (*member, MemberPart::Entered);
        self.members.insert(id, MemberRecord { id, facts: facts.clone(), part });
        self.meta.member_last = id;
    }

    fn skip_generations(&mut self) {
        let machines: Vec<VmId> = self.vms.values().map(|vm| vm.id).collect();
        for vm in machines {
            self.vms.update(&vm, |vm| {
                let promised = vm.generation_promised.0.saturating_add(GENERATIONS_GAP);
                vm.generation_promised = Generation(promised);
            });
        }
    }

    fn tokens_are_void(&mut self) {
        let tokens: Vec<_> = self.tokens.values().map(|token| token.id).collect();
        for token in tokens {
            self.tokens.remove(&token);
        }
    }

    /// A node that came back holds a machine for a generation of which this life knows no migration: it moved after
    /// the backup was made. In the first life this cannot be, since every generation that is accepted was promised by
    /// a migration that the fleet remembers or has completed.
    pub(super) fn adopt_if_unknown(
        &mut self,
        now: &mut Applying,
        node: &NodeName,
        held: &MachineReport,
    ) {
        let Some(vm) = self.vms.get(&held.vm) else { return };
        let is_later = held.generation > vm.generation
            && held.generation <= vm.generation_promised
            && vm.rest != Rest::Deleted
            && vm.migration().is_none();
        if self.meta.incarnation <= FIRST || !is_later || self.is_promised(held) {
            return;
        }
        if let Some(effect) = vm.task_effect() {
            self.take_row(effect);
        }
        self.lose_snapshots(now, held.vm, "the machine moved after the backup was made");
        self.change_vm(now, held.vm, |vm| {
            vm.task = None;
            vm.node = Some(node.clone());
            vm.generation = held.generation;
            vm.is_out_of_sight = false;
            vm.rest = observed_rest(held.state);
            "it moved here after the backup was made".clone_into(&mut vm.reason);
        });
        self.note_residency(now, held.vm);
    }

    fn is_promised(&self, held: &MachineReport) -> bool {
        self.migrations
            .values()
            .any(|row| row.vm == held.vm && row.target_generation == held.generation)
    }
}
