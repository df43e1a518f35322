//! Networks as the API shows them.

use novacron_protocol::access::Scope;
use novacron_protocol::api::NetworkView;
use novacron_protocol::ids::ProjectName;
use novacron_protocol::network::NetworkUsers;

use super::resource::links;
use crate::state::Fleet;
use crate::state::binding::Reach;
use crate::state::network::Network;

/// A network as the API shows it to somebody who may read networks there.
pub fn network_view(fleet: &Fleet, network: &Network, reach: &Reach) -> NetworkView {
    let name = &network.name;
    let is_told =
        |project: &ProjectName| reach.covers(&Scope::Fleet) || reach.covers_project(project);
    let users = match &network.users {
        NetworkUsers::All => NetworkUsers::All,
        NetworkUsers::Projects(projects) => {
            let told = projects.iter().filter(|project| is_told(project));
            NetworkUsers::Projects(told.cloned().collect())
        }
    };
    NetworkView {
        name: name.clone(),
        description: network.description.clone(),
        bridge: network.bridge.clone(),
        users,
        regions: network.regions.clone(),
        vms: u32::try_from(fleet.machines_in(name, is_told)).unwrap_or(u32::MAX),
        created_at: network.created_at,
        updated_at: network.updated_at,
        revision: network.revision,
        links: links(&[
            ("self", format!("/networks/{name}")),
            ("vms", format!("/vms?network={name}")),
        ]),
    }
}
