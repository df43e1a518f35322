//! `novacron network`.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use novacron_protocol::api;
use novacron_protocol::ids::RegionCode;
use novacron_protocol::network::NetworkUsers;

use super::values::{All, parse_all};

/// Networks: bridges under one name, and whose machines may be in them.
#[derive(Debug, Subcommand)]
pub enum NetworkCommand {
    /// Lists networks.
    List,
    /// Shows a network.
    Show {
        /// The network.
        network: String,
    },
    /// Makes a network of a bridge that hosts have.
    Create(NetworkCreate),
    /// Changes a network; its bridge only while no machine is in it.
    Set(NetworkSet),
    /// Deletes a network that no machine is in.
    Delete {
        /// The network.
        network: String,
    },
}

/// What a network is for, and for whom.
#[derive(Debug, Args)]
pub struct NetworkArgs {
    /// What it is for.
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// Projects whose machines may be in it, such as web,shop, `none`, or `all`.
    #[arg(long, value_name = "NAMES", value_parser = parse_users)]
    pub projects: Option<NetworkUsers>,
    /// Regions whose hosts have it, such as eu-1,eu-2, or `none` if all hosts do.
    #[arg(long, value_name = "REGIONS", value_parser = parse_all::<RegionCode>)]
    pub regions: Option<All<RegionCode>>,
}

impl NetworkArgs {
    fn regions(&self) -> Option<BTreeSet<RegionCode>> {
        self.regions.clone().map(|All(regions)| regions)
    }
}

fn parse_users(text: &str) -> Result<NetworkUsers, String> {
    match text {
        "all" => Ok(NetworkUsers::All),
        _ => parse_all(text).map(|All(projects)| NetworkUsers::Projects(projects)),
    }
}

/// A network to make.
#[derive(Debug, Args)]
pub struct NetworkCreate {
    /// Name: lower-case letters, digits and `-`.
    pub name: String,
    /// Name of the bridge on every host of its regions.
    #[arg(long, value_name = "INTERFACE")]
    pub bridge: String,
    /// What it is for.
    #[command(flatten)]
    pub content: NetworkArgs,
}

impl NetworkCreate {
    /// The API's request.
    pub fn request(&self) -> api::NetworkCreate {
        api::NetworkCreate {
            name: self.name.clone(),
            description: self.content.description.clone().unwrap_or_default(),
            bridge: self.bridge.clone(),
            users: self.content.projects.clone().unwrap_or_default(),
            regions: self.content.regions().unwrap_or_default(),
        }
    }
}

/// What to change of a network.
#[derive(Debug, Args)]
pub struct NetworkSet {
    /// The network.
    pub network: String,
    /// Name of the bridge on every host of its regions.
    #[arg(long, value_name = "INTERFACE")]
    pub bridge: Option<String>,
    /// What it is for.
    #[command(flatten)]
    pub content: NetworkArgs,
}

impl NetworkSet {
    /// The API's request.
    pub fn request(&self) -> api::NetworkChange {
        api::NetworkChange {
            description: self.content.description.clone(),
            bridge: self.bridge.clone(),
            users: self.content.projects.clone(),
            regions: self.content.regions(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_for_nobody_is_another_than_one_for_all() {
        assert_eq!(parse_users("all"), Ok(NetworkUsers::All));
        assert_eq!(parse_users("none"), Ok(NetworkUsers::Projects(BTreeSet::new())));
        assert_eq!(parse_users("web,shop").unwrap().named().count(), 2);
        assert!(parse_users("Web").is_err() && parse_users("").is_err());
    }
}
