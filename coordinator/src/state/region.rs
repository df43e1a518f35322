//! Regions: where hosts stand. A host is in a region because its label said so when it joined, or because somebody
//! ordered it since; its label does not change that any more. What the rules mean is in [`residency`](super::residency).

use std::collections::{BTreeMap, BTreeSet};

use novacron_protocol::api::EventKind;
use novacron_protocol::ids::{NodeName, RegionCode, Revision};
use novacron_protocol::limits::REGIONS_MAX;
use novacron_protocol::node::NodeFacts;
use novacron_protocol::region::{
    Certification, REGION_LABEL, RESERVED_REGION_CODES, RegionStatus, ResidencyRules,
    check_certifications, check_latencies,
};
use novacron_protocol::time::Timestamp;
use novacron_protocol::vm::InvalidField;
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};

use super::audit::Subject;
use super::event::About;
use super::fleet::{Applying, Fleet};
use super::node::Node;
use super::project::{Project, wrong_display_name};
use super::reply::{Accepted, Named, Refusal, Reply};
use super::table::ROW_BYTES_MAX;
use super::vm::Vm;

/// A region as the fleet keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Code, for ever.
    pub code: RegionCode,
    /// What it is called for people.
    pub name: String,
    /// What somebody outside has attested of it.
    pub certifications: BTreeSet<Certification>,
    /// What holds for machines that stand in it.
    pub rules: ResidencyRules,
    /// Whether it takes machines.
    pub status: RegionStatus,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
    /// The revision of that change.
    pub revision: Revision,
}

impl Message for Region {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "region row";
}

/// What can be done with regions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RegionOrder {
    /// Make one.
    Create {
        /// Its code.
        region: RegionCode,
        /// What it is called for people.
        name: String,
        /// What somebody outside has attested of it.
        certifications: BTreeSet<Certification>,
        /// What holds for machines that stand in it.
        rules: ResidencyRules,
    },
    /// Change one.
    Change {
        /// Which.
        region: RegionCode,
        /// What.
        edit: RegionEdit,
    },
    /// Remove one in which no host stands and that no rule names.
    Delete {
        /// Which.
        region: RegionCode,
    },
    /// Say where a host stands.
    Assign {
        /// The host.
        node: NodeName,
        /// The region; `None` for none.
        region: Option<RegionCode>,
    },
    /// Change one, and say how far others are from it. An order of its own, because what a log holds of
    /// [`RegionOrder::Change`] keeps its bytes.
    ChangeWithLatencies {
        /// Which.
        region: RegionCode,
        /// What.
        edit: RegionEdit,
        /// Milliseconds there and back to others, all that are known.
        latencies_ms: BTreeMap<RegionCode, u32>,
    },
}

impl RegionOrder {
    /// What the audit log calls it.
    pub fn action(&self) -> &'static str {
        match self {
            Self::Create { .. } => "region.create",
            Self::Change { .. } | Self::ChangeWithLatencies { .. } => "region.change",
            Self::Delete { .. } => "region.delete",
            Self::Assign { .. } => "node.region",
        }
    }
}

/// What to change of a region; what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionEdit {
    /// What it is called for people.
    pub name: Option<String>,
    /// All that is attested of it.
    pub certifications: Option<BTreeSet<Certification>>,
    /// All that holds for machines that stand in it.
    pub rules: Option<ResidencyRules>,
    /// Whether it takes machines.
    pub status: Option<RegionStatus>,
}

impl RegionEdit {
    /// Whether machines may stand or go elsewhere afterwards.
    fn changes_rules(&self) -> bool {
        self.certifications.is_some() || self.rules.is_some() || self.status.is_some()
    }

    fn problems(&self) -> Vec<InvalidField> {
        let name = self.name.as_deref().and_then(|name| wrong_display_name("region_name", name));
        let certifications = self.certifications.as_ref();
        let certifications =
            certifications.and_then(|all| check_certifications("compliance_certifications", all));
        let rules = self.rules.iter().flat_map(|rules| rules.problems("data_residency_rules"));
        name.into_iter().chain(certifications).chain(rules).collect()
    }
}

impl Region {
    fn edit(&mut self, edit: &RegionEdit) {
        if let Some(name) = &edit.name {
            self.name.clone_from(name);
        }
        if let Some(certifications) = &edit.certifications {
            self.certifications.clone_from(certifications);
        }
        if let Some(rules) = &edit.rules {
            self.rules.clone_from(rules);
        }
        self.status = edit.status.unwrap_or(self.status);
    }
}

/// All that is wrong as one refusal, which is about the first field.
pub(super) fn refuse(problems: Vec<InvalidField>) -> Result<(), Refusal> {
    let Some(field) = problems.first().map(|wrong| wrong.field.clone()) else { return Ok(()) };
    let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Err(Refusal::Invalid { field, problem: all.join("; ") })
}

impl Fleet {
    /// A region.
    pub fn region(&self, region: &RegionCode) -> Option<&Region> {
        self.regions.get(region)
    }

    /// The regions behind a code, in order.
    pub fn regions_after(&self, after: Option<&RegionCode>) -> impl Iterator<Item = &Region> {
        use std::ops::Bound::{Excluded, Unbounded};
        let begin = after.map_or(Unbounded, |code| Excluded(code.clone()));
        self.regions.range((begin, Unbounded)).map(|(_, region)| region)
    }

    /// Where the node stands that a machine is on or is placed on.
    pub fn region_of_vm(&self, vm: &Vm) -> Option<&RegionCode> {
        vm.node.as_ref().and_then(|node| self.nodes.get(node))?.region.as_ref()
    }

    /// How many hosts stand in each region that has any.
    pub fn nodes_by_region(&self) -> BTreeMap<&RegionCode, u32> {
        let mut counts = BTreeMap::new();
        for region in self.nodes.values().filter_map(|node| node.region.as_ref()) {
            *counts.entry(region).or_insert(0) += 1;
        }
        counts
    }

    /// The region in which a host stands that joins.
    pub(super) fn region_by_label(&self, facts: &NodeFacts) -> Option<RegionCode> {
        let code = facts.labels.get(REGION_LABEL)?.parse().ok()?;
        self.regions.get(&code).map(|region| region.code.clone())
    }

    pub(super) fn order_region(&mut self, now: &mut Applying, order: &RegionOrder) -> Reply {
        match order {
            RegionOrder::Create { region, name, certifications, rules } => {
                let edit = RegionEdit {
                    name: Some(name.clone()),
                    certifications: Some(certifications.clone()),
                    rules: Some(rules.clone()),
                    status: None,
                };
                self.create_region(now, region, &edit)
            }
            RegionOrder::Change { region, edit } => self.change_region(now, region, edit, None),
            RegionOrder::ChangeWithLatencies { region, edit, latencies_ms } => {
                self.change_region(now, region, edit, Some(latencies_ms))
            }
            RegionOrder::Delete { region } => self.delete_region(now, region),
            RegionOrder::Assign { node, region } => self.assign_node(now, node, region.as_ref()),
        }
    }

    fn create_region(&mut self, now: &mut Applying, code: &RegionCode, edit: &RegionEdit) -> Reply {
        if self.regions.get(code).is_some() {
            return Err(Refusal::Taken { what: Named::Region, name: code.to_string() });
        }
        if self.regions.len() >= REGIONS_MAX {
            return Err(Refusal::Full(format!("{REGIONS_MAX} regions")));
        }
        self.check_region_edit(Some(code), edit)?;
        if RESERVED_REGION_CODES.contains(&code.as_str()) {
            let text = format!("`{code}` is a word of the API and cannot be the code of a region");
            return Err(Refusal::Conflict(text));
        }
        let mut region = Region {
            code: code.clone(),
            name: String::new(),
            certifications: BTreeSet::new(),
            rules: ResidencyRules::default(),
            status: RegionStatus::Active,
            created_at: now.at,
            updated_at: now.at,
            revision: now.revision,
        };
        region.edit(edit);
        self.regions.insert(code.clone(), region);
        self.emit_region(now, code, "was made");
        Ok(Accepted::Region(code.clone()))
    }

    fn change_region(
        &mut self,
        now: &mut Applying,
        code: &RegionCode,
        edit: &RegionEdit,
        latencies_ms: Option<&BTreeMap<RegionCode, u32>>,
    ) -> Reply {
        self.known_region(code)?;
        self.check_region_edit(None, edit)?;
        if let Some(ms) = latencies_ms {
            let mut problems = check_latencies("latencies_ms", Some(code), ms);
            problems.extend(self.unknown_region("latencies_ms", ms.keys()));
            refuse(problems)?;
            self.set_latencies(code, ms);
        }
        let is_changed = self.regions.update(code, |region| {
            let before = region.clone();
            region.edit(edit);
            let is_changed = *region != before;
            region.updated_at = now.at;
            region.revision = now.revision;
            is_changed
        });
        // Latencies are numbers that a prober may send every minute: no events, which would push out all others.
        if is_changed == Some(true) {
            self.emit_region(now, code, "was changed");
        }
        if edit.changes_rules() {
            self.obey_rules(now);
        }
        Ok(Accepted::Region(code.clone()))
    }

    fn delete_region(&mut self, now: &mut Applying, code: &RegionCode) -> Reply {
        self.known_region(code)?;
        if let Some(user) = self.user_of_region(code) {
            return Err(Refusal::Conflict(format!("region `{code}` is in use: {user}")));
        }
        self.regions.remove(code);
        self.forget_latencies(code);
        self.emit_region(now, code, "was deleted");
        Ok(Accepted::Region(code.clone()))
    }

    /// What stands in the way of deleting a region.
    fn user_of_region(&self, code: &RegionCode) -> Option<String> {
        let stands = |node: &&Node| node.region.as_ref() == Some(code);
        if let Some(node) = self.nodes.values().find(stands) {
            return Some(format!("node `{}` stands in it", node.name));
        }
        let names = |project: &&Project| project.residency.regions.contains(code);
        if let Some(project) = self.projects.values().find(names) {
            return Some(format!("the residency of project `{}` names it", project.name));
        }
        let leads = |other: &&Region| {
            let named = other.rules.may_leave_to.as_ref();
            other.code != *code && named.is_some_and(|named| named.contains(code))
        };
        if let Some(other) = self.regions.values().find(leads) {
            return Some(format!("the rules of region `{}` name it", other.code));
        }
        let network = self.networks.values().find(|network| network.regions.contains(code))?;
        Some(format!("hosts in it have network `{}`", network.name))
    }

    fn assign_node(
        &mut self,
        now: &mut Applying,
        node: &NodeName,
        region: Option<&RegionCode>,
    ) -> Reply {
        let row = self.nodes.get(node).ok_or_else(|| Refusal::NoSuchNode(node.clone()))?;
        region.map(|region| self.known_region(region)).transpose()?;
        if row.region.as_ref() == region {
            return Ok(Accepted::Node(node.clone()));
        }
        self.nodes.update(node, |row| {
            row.region = region.cloned();
            row.updated_at = now.at;
            row.revision = now.revision;
        });
        let place = region.map_or_else(|| "no region".to_owned(), |code| format!("region {code}"));
        let message = format!("node {node} stands in {place}");
        self.emit(now, EventKind::RegionChanged, About::of(Subject::Node(node.clone())), message);
        self.obey_rules(now);
        Ok(Accepted::Node(node.clone()))
    }

    /// `new` is the region that is being made: it may name itself.
    fn check_region_edit(
        &self,
        new: Option<&RegionCode>,
        edit: &RegionEdit,
    ) -> Result<(), Refusal> {
        let mut problems = edit.problems();
        let named = edit.rules.as_ref().and_then(|rules| rules.may_leave_to.as_ref());
        let named = named.into_iter().flatten().filter(|code| Some(*code) != new);
        problems.extend(self.unknown_region("data_residency_rules.may_leave_to", named));
        refuse(problems)
    }

    /// The first of some regions that is not there.
    pub(super) fn unknown_region<'a>(
        &self,
        field: &str,
        named: impl IntoIterator<Item = &'a RegionCode>,
    ) -> Option<InvalidField> {
        let unknown = named.into_iter().find(|code| self.regions.get(code).is_none())?;
        let problem = format!("there is no region `{unknown}`: make it before");
        Some(InvalidField { field: field.to_owned(), problem })
    }

    fn known_region(&self, code: &RegionCode) -> Result<&Region, Refusal> {
        self.regions.get(code).ok_or_else(|| Refusal::NoSuchRegion(code.clone()))
    }

    fn emit_region(&mut self, now: &mut Applying, code: &RegionCode, what: &str) {
        let about = About::of(Subject::Region(code.clone()));
        self.emit(now, EventKind::RegionChanged, about, format!("region {code} {what}"));
    }

    pub(super) fn check_regions(&self) -> Result<(), String> {
        let known = |code: &RegionCode| self.regions.get(code).is_some();
        let nodes = self.nodes.values().filter_map(|node| node.region.as_ref());
        let projects = self.projects.values().flat_map(|project| &project.residency.regions);
        let rules = self.regions.values().filter_map(|region| region.rules.may_leave_to.as_ref());
        let mut named = nodes.chain(projects).chain(rules.flatten());
        match named.find(|code| !known(code)) {
            Some(code) => Err(format!("region {code} is named and not there")),
            None => Ok(()),
        }
    }
}
