//! What must be true of a run, and the first thing that was not.
//!
//! The oracle keeps one log: the entry that was applied first at each index, whoever did it, and a fleet that applied
//! them all. Against it are held: every entry that any member applies, the hash of every member's state, and every
//! answer that a client gets. Since the log is an order of all writes, it is also the witness of linearizability: an
//! answer is right if it is what the log says at the index that it was given at, and if that index is beyond those of
//! all answers that were given before the question.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use novacron_coordinator::fitness::clocks::CLOCK_OFF_MS_MAX;
use novacron_coordinator::raft::TypeConfig;
use novacron_coordinator::state::ledger::correct::{CorrectUsage, Original};
use novacron_coordinator::state::{Accepted, Body, Command, Fleet, Reply};
use novacron_protocol::ids::{MemberId, RequestId, Revision, VmId, VmName};
use novacron_protocol::usage::Meter;
use openraft::{Entry, EntryPayload};

use crate::client::{Seen, Told};
use crate::member::{BEGINNING, WorldTime};

/// States are compared at indexes that this divides: hashing all of a state costs more than applying an entry.
pub const COMPARED_EVERY: u64 = 32;

/// The oracle. Clones are the same.
#[derive(Clone, Default)]
pub struct Oracle(Arc<Mutex<Book>>);

/// How far the time of a command may be ahead of the world's: a clock that is off by less than is tolerated is believed,
/// and the one that it is compared with may be, too.
const AHEAD_MS_MAX: u64 = 2 * CLOCK_OFF_MS_MAX;

/// A value and the index since which it is so, ascending.
type Versions<T> = Vec<(u64, T)>;

#[derive(Default)]
struct Book {
    violation: Option<String>,
    log: Vec<Entry<TypeConfig>>,
    fleet: Fleet,
    hashes: BTreeMap<u64, u128>,
    /// Who led: a term may have several leaders, one after the other, of growing ids; that is openraft's order.
    leaders: BTreeSet<(u64, u64)>,
    /// Where a request was applied first, and its answer there.
    replies: BTreeMap<RequestId, (u64, Reply)>,
    names: BTreeMap<VmName, Versions<Option<VmId>>>,
    limits: Versions<u32>,
    /// Nothing that was answered so far is of a later index.
    floor: u64,
    written: u64,
    read: u64,
    /// The world's time, where commands have to have it.
    time: Option<WorldTime>,
    /// Requests that were declined, and not asked again: nothing of them may happen.
    declined: BTreeSet<RequestId>,
    /// Who votes and who does not yet, as the last change that was applied has it.
    membership: Membership,
    memberships: u64,
    /// Ids that members were ever given.
    ids: BTreeSet<MemberId>,
    /// By how much corrections changed the seconds of machines.
    corrected_s: i128,
    corrections: u64,
}

/// Who takes part in consensus.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Membership {
    /// Members that vote.
    pub voters: BTreeSet<u64>,
    /// Members that do not vote yet, or any more.
    pub learners: BTreeSet<u64>,
    /// Whether a change is under way: two sets of voters have to agree.
    pub is_joint: bool,
}

/// How much a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Entries that were applied.
    pub entries: u64,
    /// Writes that clients were told of.
    pub written: u64,
    /// Reads that clients were answered.
    pub read: u64,
    /// Leaders, one after the other.
    pub leaders: u64,
    /// Changes of who takes part in consensus.
    pub memberships: u64,
    /// Entries of the ledger that were corrected.
    pub corrections: u64,
    /// Windows of the ledger that were sealed.
    pub sealed: u64,
}

impl Oracle {
    /// One that holds the times of commands against the world's.
    pub fn of_time(time: WorldTime) -> Self {
        Self(Arc::new(Mutex::new(Book { time: Some(time), ..Book::default() })))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is not as it must be. The first counts: what follows may follow from it.
    pub fn object(&self, violation: String) {
        self.book().violation.get_or_insert(violation);
    }

    /// What was not as it must be.
    pub fn violation(&self) -> Option<String> {
        self.book().violation.clone()
    }

    /// How much happened.
    pub fn tally(&self) -> Tally {
        let book = self.book();
        Tally {
            entries: book.log.len() as u64,
            written: book.written,
            read: book.read,
            leaders: book.leaders.len() as u64,
            memberships: book.memberships,
            corrections: book.corrections,
            sealed: book.fleet.sealed_windows().count() as u64,
        }
    }

    /// The index beyond which everything lies that is asked from now on.
    pub fn floor(&self) -> u64 {
        self.book().floor
    }

    /// The last index that anybody applied.
    pub fn last_index(&self) -> Option<u64> {
        (self.book().log.len() as u64).checked_sub(1)
    }

    /// A member leads in a term.
    pub fn leads(&self, term: u64, member: u64) {
        self.book().leaders.insert((term, member));
    }

    /// A member is about to apply an entry.
    pub fn applies(&self, member: u64, entry: &Entry<TypeConfig>) {
        let judged = self.book().take(member, entry);
        judged.unwrap_or_else(|violation| self.object(violation));
    }

    /// A member's state after the entry of an index.
    pub fn has_state(&self, member: u64, index: u64, hash: u128) {
        let expected = self.book().hashes.get(&index).copied();
        if expected.is_some_and(|expected| expected != hash) {
            self.object(format!("member {member} has another state at index {index}"));
        }
    }

    /// Who takes part in consensus, as far as anybody has applied it.
    pub fn membership(&self) -> Membership {
        self.book().membership.clone()
    }

    /// By how much corrections changed the seconds of machines.
    pub fn corrected_s(&self) -> i128 {
        self.book().corrected_s
    }

    /// The state that everybody must have who applied everything.
    pub fn state_hash(&self) -> Option<u128> {
        self.book().fleet.state_hash().ok()
    }

    /// Looks at the fleet that has applied everything.
    pub fn look<T>(&self, look: impl FnOnce(&Fleet) -> T) -> T {
        look(&self.book().fleet)
    }

    /// A client was told what came of a write that it asked for when the floor was `floor`.
    pub fn answered_write(&self, request: RequestId, told: &Told, floor: u64) {
        let judged = self.book().judge_write(request, told, floor);
        judged.unwrap_or_else(|violation| self.object(violation));
    }

    /// A client was told that nothing happened, and does not ask again.
    pub fn declined_write(&self, request: RequestId) {
        let mut book = self.book();
        book.declined.insert(request);
        let was_applied = book.replies.contains_key(&request);
        drop(book);
        if was_applied {
            self.object(format!("{request} was declined after it was applied"));
        }
    }

    /// A client was told what there is of a name; it asked when the floor was `floor`.
    pub fn answered_read(&self, name: &VmName, seen: &Seen, floor: u64) {
        let judged = self.book().judge_read(name, seen, floor);
        judged.unwrap_or_else(|violation| self.object(violation));
    }
}

impl Book {
    fn take(&mut self, member: u64, entry: &Entry<TypeConfig>) -> Result<(), String> {
        let index = entry.log_id.index;
        if let Some(first) = usize::try_from(index).ok().and_then(|at| self.log.get(at)) {
            return if is_same(first, entry) {
                Ok(())
            } else {
                let (other, own) = (first.log_id, entry.log_id);
                Err(format!("member {member} applies {own}, where another member applied {other}"))
            };
        }
        let next = self.log.len() as u64;
        if index != next {
            return Err(format!("member {member} applies {index}, but nobody applied {next}"));
        }
        if let Some(before) = self.log.last().map(|before| before.log_id)
            && before.leader_id > entry.log_id.leader_id
        {
            let found = entry.log_id;
            return Err(format!("{found} of an older leader follows {before}"));
        }
        self.log.push(entry.clone());
        match &entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Normal(proposal) => {
                let commands = proposal.commands().map_err(|error| error.to_string())?;
                self.apply(index, &commands)?;
            }
            EntryPayload::Membership(membership) => {
                self.memberships += 1;
                self.membership = Membership {
                    voters: membership.voter_ids().collect(),
                    learners: membership.learner_ids().collect(),
                    is_joint: membership.get_joint_config().len() > 1,
                };
            }
        }
        if index.is_multiple_of(COMPARED_EVERY) {
            let hash = self.fleet.state_hash().map_err(|error| error.to_string())?;
            self.hashes.insert(index, hash);
        }
        Ok(())
    }

    fn apply(&mut self, index: u64, commands: &[Command]) -> Result<(), String> {
        self.check_proposed(index, commands)?;
        let corrected: Vec<_> = commands.iter().map(|command| self.corrected(command)).collect();
        let replies = self.fleet.apply_all(Revision(index), commands);
        for ((command, corrected), reply) in commands.iter().zip(corrected).zip(replies) {
            if self.replies.contains_key(&command.request) {
                continue;
            }
            self.note_id(command, &reply)?;
            if let (Some(seconds), Ok(Accepted::Correction(_))) = (corrected, &reply) {
                self.corrected_s += seconds;
                self.corrections += 1;
            }
            self.replies.insert(command.request, (index, reply));
        }
        self.note_names(index, commands);
        let limit = self.fleet.settings().migrations_per_node;
        if self.limits.last().is_none_or(|(_, last)| *last != limit) {
            self.limits.push((index, limit));
        }
        self.fleet.check().map_err(|broken| format!("at index {index}: {broken}"))
    }

    /// No id is given twice.
    fn note_id(&mut self, command: &Command, reply: &Reply) -> Result<(), String> {
        match (&command.body, reply) {
            (Body::AdmitMember(_), Ok(Accepted::Member(id))) if !self.ids.insert(*id) => {
                Err(format!("member id {id} was given twice"))
            }
            _ => Ok(()),
        }
    }

    /// By how much a correction, if it is one and taken, changes the seconds of machines.
    fn corrected(&self, command: &Command) -> Option<i128> {
        let Body::CorrectUsage(CorrectUsage { entry, quantity, original, .. }) = &command.body
        else {
            return None;
        };
        let open = self.fleet.open_entry(*entry);
        let original = open.as_ref().map(Original::from).or_else(|| original.clone())?;
        let change = i128::try_from(*quantity).ok()? - i128::try_from(original.quantity).ok()?;
        Some(if original.meter == Meter::VmSeconds { change } else { 0 })
    }

    /// Whether all of them may be there.
    fn check_proposed(&self, index: u64, commands: &[Command]) -> Result<(), String> {
        let now_ms = self.time.as_ref().map(|time| BEGINNING + time.load(Ordering::Relaxed));
        for Command { request, at, .. } in commands {
            if self.declined.contains(request) {
                return Err(format!("{request} is applied at {index} and was declined"));
            }
            if now_ms.is_some_and(|now_ms| at.unix_ms > now_ms + AHEAD_MS_MAX) {
                return Err(format!("at {index} a command has a time that has not come: {at:?}"));
            }
        }
        Ok(())
    }

    /// Which machine has which name, where an entry changed that: what agents report may, too.
    fn note_names(&mut self, index: u64, commands: &[Command]) {
        for command in commands {
            if let Body::CreateVm(create) = &command.body {
                self.names.entry(create.spec.name.clone()).or_default();
            }
        }
        for (name, versions) in &mut self.names {
            let vm = self.fleet.vm_named(name).map(|vm| vm.id);
            if versions.last().map(|(_, vm)| *vm) != Some(vm) {
                versions.push((index, vm));
            }
        }
    }

    fn judge_write(&mut self, request: RequestId, told: &Told, floor: u64) -> Result<(), String> {
        let Some((index, reply)) = self.replies.get(&request) else {
            return Err(format!("{told:?} was the answer to {request}, which nobody applied"));
        };
        let is_it = match (told, reply) {
            (Told::Done(told), Ok(accepted)) => told == accepted,
            (Told::Refused(told), Err(refusal)) => told == refusal,
            _ => false,
        };
        if !is_it {
            return Err(format!(
                "{told:?} was the answer to {request}, applied at {index} with {reply:?}"
            ));
        }
        if *index <= floor {
            return Err(format!("{request} was applied at {index}, before it was asked ({floor})"));
        }
        self.floor = self.floor.max(*index);
        self.written += 1;
        Ok(())
    }

    fn judge_read(&mut self, name: &VmName, seen: &Seen, floor: u64) -> Result<(), String> {
        let revision = seen.revision;
        if revision < floor {
            return Err(format!("a read saw {revision}, but {floor} was known when it was asked"));
        }
        if revision > 0 && revision >= self.log.len() as u64 {
            return Err(format!("a read saw {revision}, which nobody applied"));
        }
        let expected = self.names.get(name).and_then(|versions| at(versions, revision)).flatten();
        if seen.vm != expected {
            let found = seen.vm;
            return Err(format!("a read of {name} at {revision} saw {found:?}, not {expected:?}"));
        }
        let limit = at(&self.limits, revision);
        if limit.is_some_and(|limit| limit != seen.limit) {
            return Err(format!(
                "a read at {revision} saw the limit {}, not {limit:?}",
                seen.limit
            ));
        }
        self.floor = self.floor.max(revision);
        self.read += 1;
        Ok(())
    }
}

/// The value at an index.
fn at<T: Copy>(versions: &Versions<T>, index: u64) -> Option<T> {
    let later = versions.partition_point(|(since, _)| *since <= index);
    versions.get(later.checked_sub(1)?).map(|(_, value)| *value)
}

fn is_same(one: &Entry<TypeConfig>, other: &Entry<TypeConfig>) -> bool {
    one.log_id == other.log_id && one.payload == other.payload
}

#[cfg(test)]
mod tests {
    use openraft::{CommittedLeaderId, LogId};

    use super::*;

    #[test]
    fn a_version_holds_from_its_index_on() {
        let versions = vec![(3, 'a'), (7, 'b')];
        assert_eq!(at(&versions, 2), None);
        assert_eq!(at(&versions, 3), Some('a'));
        assert_eq!(at(&versions, 6), Some('a'));
        assert_eq!(at(&versions, 9), Some('b'));
    }

    fn blank(term: u64, leader: u64, index: u64) -> Entry<TypeConfig> {
        let log_id = LogId::new(CommittedLeaderId::new(term, leader), index);
        Entry { log_id, payload: EntryPayload::Blank }
    }

    #[test]
    fn entries_that_differ_and_gaps_are_found() {
        let oracle = Oracle::default();
        oracle.applies(1, &blank(1, 1, 0));
        oracle.applies(2, &blank(1, 1, 0));
        oracle.applies(1, &blank(2, 1, 1));
        assert_eq!(oracle.violation(), None);
        let other = oracle.clone();
        other.applies(2, &blank(2, 3, 1));
        assert!(oracle.violation().unwrap().contains("where another member applied"));
        let oracle = Oracle::default();
        oracle.applies(1, &blank(1, 1, 1));
        assert!(oracle.violation().unwrap().contains("nobody applied 0"));
    }

    #[test]
    fn an_entry_of_a_leader_that_was_replaced_is_found() {
        let oracle = Oracle::default();
        oracle.applies(1, &blank(2, 2, 0));
        oracle.applies(1, &blank(2, 3, 1));
        assert_eq!(oracle.violation(), None);
        oracle.applies(1, &blank(2, 2, 2));
        assert!(oracle.violation().unwrap().contains("older leader"));
    }
}
