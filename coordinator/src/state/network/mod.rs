//! Networks: bridges that hosts have under one name, and whose machines may be in them. Which machine is in which is in
//! [`attachment`]; where hosts have them is a rule like others of [`residency`](super::residency).
//!
//! **Invariant.** A machine is in a network that is there, that is for its project, and whose bridge is the machine's.
//! So nothing of that is changed while a machine needs it.

pub mod attachment;

use std::collections::BTreeSet;

use novacron_protocol::api::EventKind;
use novacron_protocol::ids::{NetworkName, ProjectName, RegionCode, Revision, VmId};
use novacron_protocol::limits::NETWORKS_MAX;
use novacron_protocol::network::{
    NetworkUsers, wrong_bridge, wrong_name, wrong_regions, wrong_users,
};
use novacron_protocol::time::Timestamp;
use novacron_protocol::vm::InvalidField;
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};

use super::audit::Subject;
use super::change::Change;
use super::event::About;
use super::fleet::{Applying, Fleet};
use super::project::wrong_display_name;
use super::region::refuse;
use super::reply::{Accepted, Named, Refusal, Reply};
use super::residency::words;
use super::table::ROW_BYTES_MAX;

/// A network as the fleet keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Name, for ever.
    pub name: NetworkName,
    /// What it is for.
    pub description: String,
    /// Name of the bridge on the hosts.
    pub bridge: String,
    /// Whose machines may be in it.
    pub users: NetworkUsers,
    /// Regions whose hosts have it; all hosts, if there are none.
    pub regions: BTreeSet<RegionCode>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
    /// The revision of that change.
    pub revision: Revision,
}

impl Message for Network {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "network row";
}

/// What can be done with networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkOrder {
    /// Make one.
    Create {
        /// Its name.
        network: NetworkName,
        /// What it is for.
        description: String,
        /// Name of the bridge on the hosts.
        bridge: String,
        /// Whose machines may be in it.
        users: NetworkUsers,
        /// Regions whose hosts have it.
        regions: BTreeSet<RegionCode>,
    },
    /// Change one.
    Change {
        /// Which.
        network: NetworkName,
        /// What.
        edit: NetworkEdit,
    },
    /// Remove one that no machine is in.
    Delete {
        /// Which.
        network: NetworkName,
    },
}

impl NetworkOrder {
    /// What the audit log calls it.
    pub fn action(&self) -> &'static str {
        match self {
            Self::Create { .. } => "network.create",
            Self::Change { .. } => "network.change",
            Self::Delete { .. } => "network.delete",
        }
    }

    /// What it is about.
    pub fn network(&self) -> &NetworkName {
        match self {
            Self::Create { network, .. }
            | Self::Change { network, .. }
            | Self::Delete { network } => network,
        }
    }
}

/// What to change of a network; what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkEdit {
    /// What it is for.
    pub description: Option<String>,
    /// Name of the bridge on the hosts.
    pub bridge: Option<String>,
    /// Whose machines may be in it.
    pub users: Option<NetworkUsers>,
    /// All regions whose hosts have it.
    pub regions: Option<BTreeSet<RegionCode>>,
}

impl NetworkEdit {
    fn problems(&self) -> Vec<InvalidField> {
        let description = self.description.as_deref();
        let description = description.and_then(|text| wrong_display_name("description", text));
        let bridge = self.bridge.as_deref().and_then(|bridge| wrong_bridge("bridge", bridge));
        let users = self.users.as_ref().and_then(|users| wrong_users("users", users));
        let regions = self.regions.as_ref().and_then(|all| wrong_regions("regions", all));
        [description, bridge, users, regions].into_iter().flatten().collect()
    }
}

impl Network {
    fn edit(&mut self, edit: &NetworkEdit) {
        if let Some(description) = &edit.description {
            self.description.clone_from(description);
        }
        if let Some(bridge) = &edit.bridge {
            self.bridge.clone_from(bridge);
        }
        if let Some(users) = &edit.users {
            self.users.clone_from(users);
        }
        if let Some(regions) = &edit.regions {
            self.regions.clone_from(regions);
        }
    }

    /// Whether hosts in a region have it.
    pub fn is_in(&self, region: Option<&RegionCode>) -> bool {
        self.regions.is_empty() || region.is_some_and(|region| self.regions.contains(region))
    }
}

impl Fleet {
    /// A network.
    pub fn network(&self, network: &NetworkName) -> Option<&Network> {
        self.networks.get(network)
    }

    /// The networks behind a name, in order.
    pub fn networks_after(&self, after: Option<&NetworkName>) -> impl Iterator<Item = &Network> {
        use std::ops::Bound::{Excluded, Unbounded};
        let begin = after.map_or(Unbounded, |name| Excluded(name.clone()));
        self.networks.range((begin, Unbounded)).map(|(_, network)| network)
    }

    pub(super) fn order_network(&mut self, now: &mut Applying, order: &NetworkOrder) -> Reply {
        match order {
            NetworkOrder::Create { network, description, bridge, users, regions } => {
                let edit = NetworkEdit {
                    description: Some(description.clone()),
                    bridge: Some(bridge.clone()),
                    users: Some(users.clone()),
                    regions: Some(regions.clone()),
                };
                self.create_network(now, network, &edit)
            }
            NetworkOrder::Change { network, edit } => self.change_network(now, network, edit),
            NetworkOrder::Delete { network } => self.delete_network(now, network),
        }
    }

    fn create_network(
        &mut self,
        now: &mut Applying,
        name: &NetworkName,
        edit: &NetworkEdit,
    ) -> Reply {
        if self.networks.get(name).is_some() {
            return Err(Refusal::Taken { what: Named::Network, name: name.to_string() });
        }
        if self.networks.len() >= NETWORKS_MAX {
            return Err(Refusal::Full(format!("{NETWORKS_MAX} networks")));
        }
        refuse(wrong_name("name", name).into_iter().collect())?;
        self.check_network_edit(edit)?;
        let mut network = Network {
            name: name.clone(),
            description: String::new(),
            bridge: String::new(),
            users: NetworkUsers::default(),
            regions: BTreeSet::new(),
            created_at: now.at,
            updated_at: now.at,
            revision: now.revision,
        };
        network.edit(edit);
        self.networks.insert(name.clone(), network);
        self.emit_network(now, name, "was made");
        Ok(Accepted::Network(name.clone()))
    }

    fn change_network(
        &mut self,
        now: &mut Applying,
        name: &NetworkName,
        edit: &NetworkEdit,
    ) -> Reply {
        let network = self.known_network(name)?;
        self.check_network_edit(edit)?;
        self.check_unneeded(network, edit)?;
        let has_other_regions = edit.regions.as_ref().is_some_and(|all| *all != network.regions);
        self.networks.update(name, |network| {
            network.edit(edit);
            network.updated_at = now.at;
            network.revision = now.revision;
        });
        self.emit_network(now, name, "was changed");
        if has_other_regions {
            self.obey_rules(now);
        }
        Ok(Accepted::Network(name.clone()))
    }

    fn delete_network(&mut self, now: &mut Applying, name: &NetworkName) -> Reply {
        self.known_network(name)?;
        let machines = self.machines_in_network(name);
        if let Some(machines) = machines {
            return Err(Refusal::Conflict(format!(
                "network `{name}` is in use by {machines}: destroy them before"
            )));
        }
        self.networks.remove(name);
        self.emit_network(now, name, "was deleted");
        Ok(Accepted::Network(name.clone()))
    }

    /// Whether no machine needs what is to be changed.
    fn check_unneeded(&self, network: &Network, edit: &NetworkEdit) -> Result<(), Refusal> {
        let name = &network.name;
        if edit.bridge.as_ref().is_some_and(|bridge| *bridge != network.bridge)
            && let Some(machines) = self.machines_in_network(name)
        {
            return Err(Refusal::Conflict(format!(
                "the bridge of network `{name}` is in use by {machines}: make another network, or destroy them before"
            )));
        }
        let Some(users) = &edit.users else { return Ok(()) };
        let mut projects = self.index.attached.projects(name);
        let Some(project) = projects.find(|project| !users.covers(project)) else { return Ok(()) };
        let machines = self.words_for(self.index.attached.of_project(name, project));
        Err(Refusal::Conflict(format!(
            "network `{name}` is in use by {machines} of project `{project}`: destroy them before, or leave it to \
             `{project}`"
        )))
    }

    /// The machines in a network, in words; none if there are none.
    fn machines_in_network(&self, network: &NetworkName) -> Option<String> {
        let mut machines = self.index.attached.of_network(network).peekable();
        machines.peek()?;
        Some(self.words_for(machines))
    }

    fn words_for(&self, machines: impl Iterator<Item = VmId>) -> String {
        let names = machines.filter_map(|vm| self.vms.get(&vm)).map(|vm| &vm.spec.name);
        format!("machine {}", words(names, "none"))
    }

    fn check_network_edit(&self, edit: &NetworkEdit) -> Result<(), Refusal> {
        let mut problems = edit.problems();
        let projects = edit.users.iter().flat_map(NetworkUsers::named);
        problems.extend(self.unknown_project("users.projects", projects));
        let regions = edit.regions.iter().flatten();
        problems.extend(self.unknown_region("regions", regions));
        refuse(problems)
    }

    /// The first of some projects that is not there.
    fn unknown_project<'a>(
        &self,
        field: &str,
        mut named: impl Iterator<Item = &'a ProjectName>,
    ) -> Option<InvalidField> {
        let unknown = named.find(|project| self.projects.get(project).is_none())?;
        let problem = format!("there is no project `{unknown}`: make it before");
        Some(InvalidField { field: field.to_owned(), problem })
    }

    /// A project that is made under the same name later has no right to what this one had.
    pub(super) fn take_from_networks(&mut self, now: &mut Applying, project: &ProjectName) {
        let named = |network: &&Network| network.users.named().any(|one| one == project);
        let networks = self.networks.values().filter(named).cloned();
        for before in Vec::from_iter(networks) {
            let name = &before.name;
            self.networks.update(name, |row| {
                if let NetworkUsers::Projects(projects) = &mut row.users {
                    projects.remove(project);
                }
                row.updated_at = now.at;
                row.revision = now.revision;
            });
            let change = Change::between(Some(&before), self.networks.get(name));
            let about = About::of(Subject::Network(name.clone())).with(change);
            let message = format!("network {name} was taken from project {project}");
            self.emit(now, EventKind::NetworkChanged, about, message);
        }
    }

    fn known_network(&self, name: &NetworkName) -> Result<&Network, Refusal> {
        self.networks.get(name).ok_or_else(|| Refusal::NoSuchNetwork(name.clone()))
    }

    fn emit_network(&mut self, now: &mut Applying, name: &NetworkName, what: &str) {
        let about = About::of(Subject::Network(name.clone()));
        self.emit(now, EventKind::NetworkChanged, about, format!("network {name} {what}"));
    }

    pub(super) fn check_networks(&self) -> Result<(), String> {
        for network in self.networks.values() {
            let project =
                network.users.named().find(|project| self.projects.get(project).is_none());
            let region = network.regions.iter().find(|region| self.regions.get(region).is_none());
            if project.is_some() || region.is_some() {
                let name = &network.name;
                return Err(format!("network {name} names {project:?} {region:?}: not there"));
            }
        }
        self.check_attachments()
    }
}
