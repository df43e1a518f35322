//! Where machines may stand and go. Asked by everything that places or moves a machine, through
//! [`Fleet::fit`](super::Fleet::fit) and [`Fleet::check_target`](super::Fleet::check_target).
//!
//! **Invariant.** A machine stands where the rules allow it, or has a row among the violations. A row is made when a rule
//! changes under a machine, when a migration arrives that could not be stopped any more, and when a machine is found
//! somewhere after a restore; never by placing one. So whatever places a machine against a rule is found by
//! [`Fleet::check`](super::Fleet::check).

use std::collections::BTreeSet;

use novacron_protocol::api::EventKind;
use novacron_protocol::ids::{MigrationId, NetworkName, NodeName, ProjectName, RegionCode, VmId};
use novacron_protocol::region::{Certification, RegionStatus};
use novacron_protocol::time::Timestamp;
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};

use super::change::Change;
use super::event::About;
use super::fleet::{Applying, Fleet};
use super::migration::{Ending, Migration, Step};
use super::node::Node;
use super::region::Region;
use super::table::ROW_BYTES_MAX;
use super::vm::{Rest, Vm};

/// Regions or certifications that a reason names; the rest is counted.
const NAMED_MAX: usize = 5;

/// Which rule a host's region breaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum RuleBroken {
    /// The project's machines stand in other regions only.
    #[error("machines of project `{project}` must stand in region {allowed}, and it stands in {}", place(.region))]
    Outside {
        /// The project.
        project: ProjectName,
        /// Where they may stand, in words.
        allowed: String,
        /// Where the host stands.
        region: Option<RegionCode>,
    },
    /// The project's machines need what the region does not have.
    #[error("machines of project `{project}` need a region with {missing}, and it stands in {}", place(.region))]
    NotCertified {
        /// The project.
        project: ProjectName,
        /// What is missing, in words.
        missing: String,
        /// Where the host stands.
        region: Option<RegionCode>,
    },
    /// The region that the machine stands in does not let it go there.
    #[error("machines in region `{source_region}` may leave it for {allowed} only, and it stands in {}", place(.region))]
    MayNotLeave {
        /// Where the machine stands.
        source_region: RegionCode,
        /// Where it may go, in words.
        allowed: String,
        /// Where the host stands.
        region: Option<RegionCode>,
    },
    /// The region takes no machines from outside.
    #[error("its region `{region}` is being drained and takes no new machines")]
    Draining {
        /// Where the host stands.
        region: RegionCode,
    },
    /// Hosts there do not have the machine's network.
    #[error("network `{network}` is only in region {allowed}, and it stands in {}", place(.region))]
    NoNetwork {
        /// The network.
        network: NetworkName,
        /// Where it is, in words.
        allowed: String,
        /// Where the host stands.
        region: Option<RegionCode>,
    },
}

impl RuleBroken {
    /// Whether it is a rule of residency, which also what is under way has to obey.
    pub fn is_residency(&self) -> bool {
        !matches!(self, Self::Draining { .. })
    }
}

fn place(region: &Option<RegionCode>) -> String {
    region.as_ref().map_or_else(|| "no region".to_owned(), |code| format!("`{code}`"))
}

/// `a, b or c`, of many the first few; `none` is what no word at all means.
pub(super) fn words<T: ToString>(items: impl Iterator<Item = T>, none: &str) -> String {
    let all: Vec<String> = items.map(|item| format!("`{}`", item.to_string())).collect();
    let named = all.iter().take(NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(NAMED_MAX) {
        _ if all.is_empty() => none.to_owned(),
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// A machine that stands against a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Since when.
    pub since: Timestamp,
}

impl Message for Violation {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "residency violation row";
}

impl Fleet {
    /// Whether a machine of a project and in a network may come to a node: from another, or newly made.
    ///
    /// # Errors
    /// The first rule that says no.
    pub fn check_entry(
        &self,
        node: &Node,
        project: &ProjectName,
        network: Option<&NetworkName>,
        source: Option<&NodeName>,
    ) -> Result<(), RuleBroken> {
        self.check_standing(node, project, network)?;
        let source = source.and_then(|source| self.nodes.get(source));
        let left = source.and_then(|source| self.region_of(source));
        if left.is_some_and(|left| Some(&left.code) == node.region.as_ref()) {
            return Ok(());
        }
        left.map_or(Ok(()), |left| check_leaving(left, node))?;
        match self.region_of(node).filter(|region| region.status == RegionStatus::Draining) {
            Some(region) => Err(RuleBroken::Draining { region: region.code.clone() }),
            None => Ok(()),
        }
    }

    /// Whether machines of a project and in a network may stand on a node.
    fn check_standing(
        &self,
        node: &Node,
        project: &ProjectName,
        network: Option<&NetworkName>,
    ) -> Result<(), RuleBroken> {
        self.check_residency_in(node.region.as_ref(), project)?;
        self.check_network_at(node, network)
    }

    /// Whether a node's region has a network.
    fn check_network_at(
        &self,
        node: &Node,
        network: Option<&NetworkName>,
    ) -> Result<(), RuleBroken> {
        let Some(row) = network.and_then(|network| self.network(network)) else { return Ok(()) };
        let region = node.region.clone();
        if row.is_in(region.as_ref()) {
            return Ok(());
        }
        let allowed = words(row.regions.iter(), "");
        Err(RuleBroken::NoNetwork { network: row.name.clone(), allowed, region })
    }

    /// Whether machines of a project may stand in a region, or in none.
    ///
    /// # Errors
    /// The first of the project's rules that says no.
    pub fn check_residency_in(
        &self,
        region: Option<&RegionCode>,
        project: &ProjectName,
    ) -> Result<(), RuleBroken> {
        let Some(row) = self.projects.get(project) else { return Ok(()) };
        let rules = &row.residency;
        let row = region.and_then(|region| self.regions.get(region));
        let region = region.cloned();
        let is_inside = region.as_ref().is_some_and(|region| rules.regions.contains(region));
        if !rules.regions.is_empty() && !is_inside {
            let (project, allowed) = (project.clone(), words(rules.regions.iter(), ""));
            return Err(RuleBroken::Outside { project, allowed, region });
        }
        let nothing = BTreeSet::new();
        let has = row.map_or(&nothing, |region| &region.certifications);
        let missing: BTreeSet<&Certification> = rules.certifications.difference(has).collect();
        if !missing.is_empty() {
            let (project, missing) = (project.clone(), words(missing.into_iter(), ""));
            return Err(RuleBroken::NotCertified { project, missing, region });
        }
        Ok(())
    }

    fn region_of(&self, node: &Node) -> Option<&Region> {
        node.region.as_ref().and_then(|region| self.regions.get(region))
    }

    /// The rule against which a machine stands.
    pub fn rule_broken_by(&self, vm: &Vm) -> Option<RuleBroken> {
        let node = vm.node.as_ref().and_then(|node| self.nodes.get(node))?;
        let is_there = vm.rest != Rest::Deleted;
        let network = self.network_of(vm.id);
        self.check_standing(node, &vm.spec.project, network).err().filter(|_| is_there)
    }

    /// Machines that stand against a rule, behind one of them, in the order of their creation.
    pub fn violations_after(
        &self,
        after: Option<VmId>,
    ) -> impl Iterator<Item = (&Vm, &Violation)> + use<'_> {
        use std::ops::Bound::{Excluded, Unbounded};
        let begin = after.map_or(Unbounded, Excluded);
        let rows = self.residency_violations.range((begin, Unbounded));
        rows.filter_map(|(vm, row)| Some((self.vms.get(vm)?, row)))
    }

    /// How many machines stand against a rule.
    pub fn violations(&self) -> usize {
        self.residency_violations.len()
    }

    /// A rule was changed: what is on its way against it is given up, and who stands against one is noted. Looks at every
    /// machine, some 50 ms for 100,000: rules change seldom.
    pub(super) fn obey_rules(&mut self, now: &mut Applying) {
        for (migration, rule) in self.migrations_against_rules() {
            self.give_up_against_rule(now, migration, &rule);
        }
        self.begin_queued_migrations(now);
        let vms: Vec<VmId> = self.vms.values().map(|vm| vm.id).collect();
        for vm in vms {
            self.note_residency(now, vm);
        }
    }

    fn migrations_against_rules(&self) -> Vec<(MigrationId, RuleBroken)> {
        let broken = |migration: &Migration| Some((migration.id, self.rule_against(migration)?));
        self.open_migrations().filter_map(broken).collect()
    }

    /// Why a migration must not go on. A region that is drained stops only what has not begun.
    fn rule_against(&self, migration: &Migration) -> Option<RuleBroken> {
        let target = self.nodes.get(&migration.target)?;
        let network = self.network_of(migration.vm);
        let entry = self.check_entry(target, &migration.project, network, Some(&migration.source));
        entry.err().filter(|rule| rule.is_residency() || migration.step == Step::Queued)
    }

    /// Looked at again: one that ended may have taken the others of its batch with it.
    fn give_up_against_rule(&mut self, now: &mut Applying, id: MigrationId, rule: &RuleBroken) {
        let Some(migration) = self.migrations.get(&id) else { return };
        match migration.step {
            Step::Queued | Step::Preparing { .. } => {
                let reason = format!("node `{}`: {rule}", migration.target);
                self.close_at_source(now, id, Ending::Failed, reason);
            }
            Step::Sending { .. } | Step::HandedOver | Step::Ended(_) => self.give_up(now, id, ""),
        }
    }

    /// Notes whether a machine stands against a rule.
    pub(super) fn note_residency(&mut self, now: &mut Applying, vm: VmId) {
        let Some(row) = self.vms.get(&vm) else { return };
        let (name, node) = (row.spec.name.clone(), row.node.clone());
        let is_noted = self.residency_violations.get(&vm).is_some();
        let message = match (self.rule_broken_by(row), is_noted) {
            (Some(rule), false) => {
                self.residency_violations.insert(vm, Violation { since: now.at });
                format!("machine {name} stands against a rule: {rule}")
            }
            (None, true) => {
                self.residency_violations.remove(&vm);
                format!("machine {name} stands against no rule any more")
            }
            (Some(_), true) | (None, false) => return,
        };
        let change = Change::field("stands_against_rule", is_noted, !is_noted);
        let about = About::vm(vm, node.as_ref()).with(change);
        self.emit(now, EventKind::ResidencyViolation, about, message);
    }

    pub(super) fn check_residency(&self) -> Result<(), String> {
        for vm in self.vms.values() {
            let is_noted = self.residency_violations.get(&vm.id).is_some();
            match self.rule_broken_by(vm) {
                Some(rule) if !is_noted => {
                    return Err(format!("{} stands against a rule: {rule}", vm.spec.name));
                }
                None if is_noted => {
                    return Err(format!("{} is said to stand against a rule", vm.spec.name));
                }
                _ => {}
            }
        }
        if let Some((vm, _)) =
            self.residency_violations.iter().find(|(vm, _)| self.vms.get(vm).is_none())
        {
            return Err(format!("machine {vm} stands against a rule and is not there"));
        }
        let begins = |row: &&Migration| matches!(row.step, Step::Queued | Step::Preparing { .. });
        let mut waiting = self.open_migrations().filter(begins);
        match waiting.find_map(|row| Some((row.id, self.rule_against(row)?))) {
            Some((id, rule)) => Err(format!("migration {id} goes against a rule: {rule}")),
            None => Ok(()),
        }
    }
}

/// Whether machines that stand in a region may leave it for a node elsewhere.
fn check_leaving(left: &Region, node: &Node) -> Result<(), RuleBroken> {
    let Some(allowed) = &left.rules.may_leave_to else { return Ok(()) };
    if node.region.as_ref().is_some_and(|region| allowed.contains(region)) {
        return Ok(());
    }
    Err(RuleBroken::MayNotLeave {
        source_region: left.code.clone(),
        allowed: words(allowed.iter(), "nowhere"),
        region: node.region.clone(),
    })
}
