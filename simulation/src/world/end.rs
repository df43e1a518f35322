//! The end of a run: nothing goes wrong any more, and everything has to be as it should be.

use std::collections::BTreeSet;

use novacron_coordinator::state::Fleet;
use novacron_coordinator::state::ledger::account::Owner;
use novacron_coordinator::state::ledger::hour::Hour;
use novacron_protocol::api::LedgerVerdict;
use novacron_protocol::ids::{EffectId, Generation, NodeName, VmId};
use novacron_protocol::time::Timestamp;
use novacron_protocol::usage::Meter;
use novacron_protocol::vm::VmState;

use super::World;
use crate::client::Client;
use crate::host::Host;
use crate::member::{BEGINNING, Member};
use crate::operator::Operator;
use crate::process::Face;
use crate::scenario::Weather;

/// How long the cluster may take to be whole again once nothing goes wrong any more: openraft's longest backoff, some
/// elections, a snapshot for everybody, and the patience of a client.
const RECOVERY_MS: u64 = 90_000;

/// Requests of each client that have to be answered after the faults.
const ANSWERS_AFTER: u64 = 3;

/// Hours after which the windows of what hosts have measured by now may be sealed.
const HOURS_TO_SEAL: u64 = 4;

/// And all others: a clock that had jumped ahead, where nobody watches it, opened windows of hours that had not come.
const HOURS_TO_SEAL_ALL: u64 = 12;

/// How often ledgers are verified until they can be.
const VERIFIED_EVERY_MS: u64 = 500;

impl World {
    /// Nothing goes wrong any more: everybody has to come to the same state, and to serve.
    pub(super) fn recover(&mut self) -> std::io::Result<()> {
        if self.oracle.violation().is_some() {
            return Ok(());
        }
        self.trace.note(self.now_ms, format_args!("calm"));
        self.faults.end(&mut self.members, &mut self.network);
        self.network.set_weather(Weather::FAIR);
        for member in &mut self.members {
            member.resume(self.now_ms);
            member.start(self.now_ms)?;
        }
        let before: Vec<u64> = self.clients.iter().map(Client::done).collect();
        let are_served = |world: &Self| {
            let pairs = world.clients.iter().zip(&before);
            pairs.into_iter().all(|(client, before)| client.done() >= before + ANSWERS_AFTER)
        };
        self.wait_for("clients are not served", are_served)?;
        for client in &mut self.clients {
            client.rest();
        }
        let is_quiet = |world: &Self| world.clients.iter().all(Client::is_content);
        self.wait_for("clients are not answered", is_quiet)?;
        self.wait_for("what was ordered is not done", Self::is_done)?;
        self.settle_members()?;
        self.seal(HOURS_TO_SEAL, "windows are not sealed", Self::is_sealed)?;
        for host in &mut self.hosts {
            host.stop_metering();
        }
        self.wait_for("hosts are not heard", Self::are_heard)?;
        let are_all_sealed =
            |world: &Self| world.oracle.look(|fleet| fleet.open_windows().next().is_none());
        self.seal(HOURS_TO_SEAL_ALL, "some windows are not sealed", are_all_sealed)?;
        let are_fit = |world: &Self| {
            world.members.iter().filter(|member| !member.is_lost()).all(Member::is_fit)
        };
        self.wait_for("members are not fit", are_fit)?;
        self.wait_for("ledgers cannot be verified", Self::is_verifiable)?;
        // The last of all: the cluster does something by itself now and then, and until all have that they differ.
        let is_over = |world: &Self| world.is_whole() && world.is_done() && world.are_heard();
        self.wait_for("members do not come to one state", is_over)?;
        self.compare();
        Ok(())
    }

    /// The operator comes to an end, and consensus, fleet and machines have the same members.
    fn settle_members(&mut self) -> std::io::Result<()> {
        let Some(operator) = &mut self.operator else { return Ok(()) };
        operator.rest();
        let is_content = |world: &Self| world.operator.as_ref().is_some_and(Operator::is_content);
        self.wait_for("the operator is not done", is_content)?;
        self.wait_for("consensus, fleet and machines have other members", Self::is_settled)
    }

    /// Whether those that vote are those that the fleet has, and those that are there.
    fn is_settled(&self) -> bool {
        let membership = self.oracle.membership();
        let in_fleet: BTreeSet<u64> =
            self.oracle.look(|fleet| fleet.present_members().map(|member| member.id.0).collect());
        let there = self.members.iter().filter(|member| member.is_there());
        let there: BTreeSet<u64> = there.map(Member::id).collect();
        let is_whole = !membership.is_joint && membership.learners.is_empty();
        is_whole && membership.voters == in_fleet && in_fleet == there
    }

    /// Lets hours pass, where they do, until windows are sealed.
    fn seal(
        &mut self,
        hours: u64,
        otherwise: &str,
        is_so: impl Fn(&Self) -> bool,
    ) -> std::io::Result<()> {
        if !self.has_hours {
            return Ok(());
        }
        self.let_hours_pass(hours);
        self.wait_for(otherwise, is_so)
    }

    fn is_sealed(&self) -> bool {
        let now = Timestamp::from_unix_ms(BEGINNING + self.now_ms + self.skipped_ms);
        self.oracle.look(|fleet| fleet.window_due(now).is_none())
    }

    /// What each member says of its ledger; nothing if one cannot say yet.
    fn verdicts(&self) -> Option<Vec<LedgerVerdict>> {
        let there = self.members.iter().filter(|member| !member.is_lost());
        let verdict = |member: &Member| match member.face() {
            Some(Face::Serving { ledger, .. }) => ledger.verify(Hour(0), None).ok(),
            _ => None,
        };
        there.map(verdict).collect()
    }

    fn is_verifiable(&self) -> bool {
        self.now_ms.is_multiple_of(VERIFIED_EVERY_MS) && self.verdicts().is_some()
    }

    /// Every member has the whole ledger, and it is intact: the same to all of them.
    fn compare_ledgers(&self) {
        let Some(verdicts) = self.verdicts() else {
            return self
                .oracle
                .object("a member that had its whole ledger has not any more".into());
        };
        let said =
            |verdict: &LedgerVerdict| (verdict.windows, verdict.entries, verdict.last.clone());
        let sealed = self.oracle.tally().sealed;
        for verdict in &verdicts {
            if let Some(fault) = &verdict.fault {
                self.oracle.object(format!("a ledger is not intact: {fault}: {verdict:?}"));
            }
            if verdict.windows != sealed || verdict.next_cursor.is_some() {
                self.oracle.object(format!("{sealed} windows were sealed: {verdict:?}"));
            }
            if said(verdict) != said(&verdicts[0]) {
                self.oracle.object(format!("ledgers differ: {verdicts:?}"));
            }
        }
    }

    fn wait_for(&mut self, otherwise: &str, is_so: impl Fn(&Self) -> bool) -> std::io::Result<()> {
        let deadline_ms = self.now_ms + RECOVERY_MS;
        while !is_so(self) {
            if !self.step()? {
                return Ok(());
            }
            if self.now_ms > deadline_ms {
                let state = self.members.iter().map(describe).collect::<Vec<_>>().join("; ");
                let membership = self.oracle.membership();
                self.oracle.object(format!(
                    "{otherwise} after {RECOVERY_MS} ms of calm: {state}; {membership:?}"
                ));
            }
        }
        Ok(())
    }

    fn are_heard(&self) -> bool {
        self.hosts.iter().all(Host::is_heard)
    }

    /// Whether nothing is under way any more.
    fn is_done(&self) -> bool {
        self.oracle.look(|fleet| {
            fleet.outbox_after(EffectId::default()).next().is_none()
                && fleet.open_migrations().next().is_none()
        })
    }

    /// What the fleet says of machines and the ledger of their use is what hosts know.
    fn compare_hosts(&self) {
        let on_hosts: BTreeSet<(VmId, NodeName, Generation)> =
            self.hosts.iter().flat_map(Host::holdings).collect();
        let in_fleet: BTreeSet<(VmId, NodeName, Generation)> = self.oracle.look(|fleet| {
            let running = fleet.vms().filter(|vm| vm.state() == VmState::Running);
            running.filter_map(|vm| Some((vm.id, vm.node.clone()?, vm.generation))).collect()
        });
        if let Some(odd) = on_hosts.symmetric_difference(&in_fleet).next() {
            self.oracle.object(format!("{odd:?} runs on a host or in the fleet, not in both"));
        }
        let metered_s: u128 = self.hosts.iter().map(|host| host.acknowledged_s).sum();
        let corrected_s = self.oracle.corrected_s();
        let posted_s = self.oracle.look(|fleet: &Fleet| {
            let of_projects = fleet.accounts().filter(|(key, _)| {
                key.meter == Meter::VmSeconds && matches!(key.owner, Owner::Project(_))
            });
            of_projects.map(|(_, account)| account.debits - account.credits).sum::<u128>()
        });
        if i128::try_from(posted_s).ok() != i128::try_from(metered_s).ok().map(|s| s + corrected_s)
        {
            let text = format!(
                "the ledger has {posted_s} s of use, hosts measured {metered_s} s, corrections made it {corrected_s} s more"
            );
            self.oracle.object(text);
        }
    }

    /// Whether everybody who can has applied everything.
    fn is_whole(&self) -> bool {
        let last = self.oracle.last_index();
        self.members.iter().filter(|member| !member.is_lost()).all(|member| match member.face() {
            Some(Face::Serving { cell, .. }) => Some(*cell.applied().borrow()) == last,
            _ => false,
        })
    }

    fn compare(&self) {
        if self.oracle.violation().is_some() {
            return;
        }
        self.compare_hosts();
        self.compare_ledgers();
        let expected = self.oracle.state_hash();
        for member in &self.members {
            if let Some(Face::Serving { cell, .. }) = member.face()
                && cell.look(|fleet| fleet.state_hash().ok()) != expected
            {
                let (applied, last) = (*cell.applied().borrow(), self.oracle.last_index());
                let member = member.id();
                self.oracle
                    .object(format!("m{member} came to another state at {applied} of {last:?}"));
            }
        }
    }
}

/// For a person: how a member is.
fn describe(member: &Member) -> String {
    let how = match member.face() {
        None if member.is_lost() => "lost".to_owned(),
        None => "down".to_owned(),
        Some(Face::Starting) => "starting".to_owned(),
        Some(Face::Failed { reason, .. } | Face::Expelled { reason }) => reason,
        Some(Face::Serving { metrics, cell, .. }) => {
            let (applied, metrics) = (*cell.applied().borrow(), metrics.borrow().clone());
            format!(
                "{:?} of term {}, leader {:?}, last {:?}, applied {applied}",
                metrics.state, metrics.current_term, metrics.current_leader, metrics.last_log_index
            )
        }
    };
    format!("m{} ({}): {how}", member.machine(), member.id())
}
