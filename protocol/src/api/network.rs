//! Networks, and how a machine to create shall be connected.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Links;
use crate::ids::{NetworkName, RegionCode, Revision};
use crate::network::NetworkUsers;
use crate::time::Timestamp;
use crate::vm::Network;

/// How a machine to create shall be connected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NetworkChoice {
    /// No network card.
    None,
    /// QEMU's own network address translation; the guest reaches out, nothing reaches in.
    #[default]
    User,
    /// A tap device in a bridge of the node. For those who may create machines in the whole fleet.
    Bridge {
        /// The bridge's name on every node that may run the machine.
        bridge: String,
    },
    /// A network of the fleet, by its name. Its bridge is that of the machine.
    Named(String),
}

impl NetworkChoice {
    /// The name of the network of the fleet, if one is named.
    pub fn named(&self) -> Option<&str> {
        match self {
            Self::Named(name) => Some(name),
            Self::None | Self::User | Self::Bridge { .. } => None,
        }
    }

    /// What a specification says of it. The bridge of a network that is named is found when the machine is made; until
    /// then there is none.
    pub fn to_network(&self) -> Network {
        match self {
            Self::None | Self::Named(_) => Network::None,
            Self::User => Network::User,
            Self::Bridge { bridge } => Network::Bridge { bridge: bridge.clone() },
        }
    }
}

/// A network to make.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkCreate {
    /// Name, for ever: lower-case letters, digits and `-`; not `none`, `user` or `bridge`.
    pub name: String,
    /// What it is for, at most 128 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Name of the bridge on every host of its regions, at most 15 bytes. Hosts have it already: it is not made.
    pub bridge: String,
    /// Whose machines may be in it; those of every project unless said.
    #[serde(default)]
    pub users: NetworkUsers,
    /// Regions whose hosts have it; all hosts, if there are none.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub regions: BTreeSet<RegionCode>,
}

/// What to change of a network; what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkChange {
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Name of the bridge on the hosts. Refused while machines are in the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// Whose machines may be in it. Refused while machines of another project are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<NetworkUsers>,
    /// All regions whose hosts have it. Migrations that would leave them are given up; machines that stand elsewhere stay,
    /// and are listed as violations of residency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regions: Option<BTreeSet<RegionCode>>,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkView {
    /// Name, for ever.
    pub name: NetworkName,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Name of the bridge on the hosts.
    pub bridge: String,
    /// Whose machines may be in it; of projects, those in which the reader may read networks.
    pub users: NetworkUsers,
    /// Regions whose hosts have it; all hosts, if there are none.
    pub regions: BTreeSet<RegionCode>,
    /// Machines in it, of projects in which the reader may read networks.
    pub vms: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last; its machines apart.
    pub updated_at: Timestamp,
    /// The revision of that change.
    pub revision: Revision,
    /// Links.
    #[serde(rename = "_links")]
    pub links: Links,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_before_there_were_networks_means_the_same() {
        for network in [Network::None, Network::User, Network::Bridge { bridge: "br0".into() }] {
            let choice: NetworkChoice =
                serde_json::from_value(serde_json::to_value(&network).unwrap()).unwrap();
            assert_eq!((choice.to_network(), choice.named()), (network, None));
        }
        let choice: NetworkChoice = serde_json::from_str(r#"{"named":"office"}"#).unwrap();
        assert_eq!((choice.to_network(), choice.named()), (Network::None, Some("office")));
    }
}
