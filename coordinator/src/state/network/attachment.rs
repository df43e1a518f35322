//! Which machine is in which network: a row for each machine that named one, from its creation to its end.

use std::collections::{BTreeMap, BTreeSet};

use novacron_protocol::ids::{NetworkName, ProjectName, RequestId, VmId};
use novacron_protocol::vm::Network as Connection;
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};

use super::Network;
use crate::state::command::{CreateVm, CreateVmIn};
use crate::state::fleet::{Applying, Fleet};
use crate::state::reply::{Refusal, Reply};
use crate::state::residency::words;
use crate::state::table::ROW_BYTES_MAX;
use crate::state::vm::Rest;

/// A machine that is in a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Which network.
    pub network: NetworkName,
}

impl Message for Attachment {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "attachment row";
}

/// The machines of each network, by their projects. Networks and projects without any are not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::state) struct Attached(BTreeMap<NetworkName, BTreeMap<ProjectName, BTreeSet<VmId>>>);

impl Attached {
    fn add(&mut self, network: &NetworkName, project: &ProjectName, vm: VmId) {
        let projects = self.0.entry(network.clone()).or_default();
        projects.entry(project.clone()).or_default().insert(vm);
    }

    fn remove(&mut self, network: &NetworkName, project: &ProjectName, vm: VmId) {
        let Some(projects) = self.0.get_mut(network) else { return };
        if let Some(machines) = projects.get_mut(project) {
            machines.remove(&vm);
        }
        projects.retain(|_, machines| !machines.is_empty());
        if projects.is_empty() {
            self.0.remove(network);
        }
    }

    /// The projects whose machines are in a network.
    pub(super) fn projects(&self, network: &NetworkName) -> impl Iterator<Item = &ProjectName> {
        self.0.get(network).into_iter().flat_map(BTreeMap::keys)
    }

    /// The machines of a project in a network.
    pub(super) fn of_project(
        &self,
        network: &NetworkName,
        project: &ProjectName,
    ) -> impl Iterator<Item = VmId> + use<'_> {
        self.0
            .get(network)
            .and_then(|projects| projects.get(project))
            .into_iter()
            .flatten()
            .copied()
    }

    /// The machines in a network.
    pub(super) fn of_network(&self, network: &NetworkName) -> impl Iterator<Item = VmId> + use<'_> {
        self.0.get(network).into_iter().flat_map(BTreeMap::values).flatten().copied()
    }

    fn count(&self, network: &NetworkName, counts: impl Fn(&ProjectName) -> bool) -> usize {
        let projects = self.0.get(network).into_iter().flatten();
        projects.filter(|(project, _)| counts(project)).map(|(_, machines)| machines.len()).sum()
    }
}

impl Fleet {
    /// The network of the fleet that a machine is in.
    pub fn network_of(&self, vm: VmId) -> Option<&NetworkName> {
        self.attachments.get(&vm).map(|row| &row.network)
    }

    /// How many machines of some projects are in a network.
    pub fn machines_in(
        &self,
        network: &NetworkName,
        counts: impl Fn(&ProjectName) -> bool,
    ) -> usize {
        self.index.attached.count(network, counts)
    }

    /// A new machine in a network: the bridge is that of the network as it is now.
    pub(in crate::state) fn create_vm_in(
        &mut self,
        now: &mut Applying,
        request: RequestId,
        asked: &CreateVmIn,
    ) -> Reply {
        let project = &asked.create.spec.project;
        self.known_project(project)?;
        let network = self.network_for(&asked.network, project)?;
        let mut create: CreateVm = asked.create.clone();
        create.spec.network = Connection::Bridge { bridge: network.bridge.clone() };
        self.create_vm(now, request, &create, Some(&asked.network))
    }

    /// A network that machines of a project may be in. Of one that they may not, no more is said than of one that is not
    /// there.
    fn network_for(&self, name: &NetworkName, project: &ProjectName) -> Result<&Network, Refusal> {
        let network = self.networks.get(name).filter(|network| network.users.covers(project));
        network.ok_or_else(|| Refusal::Invalid {
            field: "network.named".to_owned(),
            problem: format!(
                "there is no network `{name}` for project `{project}`; there is {}",
                self.networks_for(project)
            ),
        })
    }

    /// The networks that machines of a project may be in, in words.
    pub(in crate::state) fn networks_for(&self, project: &ProjectName) -> String {
        let usable = self.networks.values().filter(|network| network.users.covers(project));
        words(usable.map(|network| &network.name), "none")
    }

    pub(in crate::state) fn attach(&mut self, vm: VmId, network: &NetworkName) {
        let Some(project) = self.project_of_vm(vm).cloned() else { return };
        self.index.attached.add(network, &project, vm);
        self.attachments.insert(vm, Attachment { network: network.clone() });
    }

    pub(in crate::state) fn detach(&mut self, vm: VmId) {
        let Some(project) = self.project_of_vm(vm).cloned() else { return };
        if let Some(row) = self.attachments.remove(&vm) {
            self.index.attached.remove(&row.network, &project, vm);
        }
    }

    pub(in crate::state) fn build_attached(&self) -> Attached {
        let mut attached = Attached::default();
        for (vm, row) in self.attachments.iter() {
            if let Some(project) = self.project_of_vm(*vm) {
                attached.add(&row.network, project, *vm);
            }
        }
        attached
    }

    pub(super) fn check_attachments(&self) -> Result<(), String> {
        self.attachments.iter().try_for_each(|(id, row)| {
            let vm = self.vms.get(id).filter(|vm| vm.rest != Rest::Deleted);
            let network = self.networks.get(&row.network);
            let is_right = vm.zip(network).is_some_and(|(vm, network)| {
                let bridge = Connection::Bridge { bridge: network.bridge.clone() };
                network.users.covers(vm.project()) && vm.spec.network == bridge
            });
            let what = || format!("machine {id} must not be in network {}", row.network);
            is_right.then_some(()).ok_or_else(what)
        })
    }
}
