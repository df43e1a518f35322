//! Networks as the fleet names them: a bridge that hosts have under one name, and whose machines may be in it.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{NetworkName, ProjectName, RegionCode};
use crate::limits::{
    DISPLAY_NAME_BYTES_MAX, INTERFACE_NAME_BYTES_MAX, NETWORK_PROJECTS_MAX, REGIONS_MAX, cut,
};
use crate::vm::InvalidField;

/// Words that say how a machine is connected without a network of the fleet: no network has one of them as its name.
pub const RESERVED_NAMES: [&str; 3] = ["none", "user", "bridge"];

/// Whose machines may be in a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NetworkUsers {
    /// Those of every project.
    #[default]
    All,
    /// Those of these projects, at most 256.
    Projects(BTreeSet<ProjectName>),
}

impl NetworkUsers {
    /// Whether machines of a project may be in the network.
    pub fn covers(&self, project: &ProjectName) -> bool {
        match self {
            Self::All => true,
            Self::Projects(projects) => projects.contains(project),
        }
    }

    /// The projects that are named.
    pub fn named(&self) -> impl Iterator<Item = &ProjectName> {
        let projects = match self {
            Self::All => None,
            Self::Projects(projects) => Some(projects),
        };
        projects.into_iter().flatten()
    }
}

/// Whether a text can be the name of a network interface of Linux, which bounds it at 15 bytes.
pub fn is_interface_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_directory = matches!(text, "." | "..");
    (1..=INTERFACE_NAME_BYTES_MAX).contains(&text.len()) && !is_directory && text.bytes().all(plain)
}

/// What is wrong with the name of a network that is to be made.
pub fn wrong_name(field: &str, name: &NetworkName) -> Option<InvalidField> {
    let is_reserved = RESERVED_NAMES.contains(&name.as_str());
    is_reserved.then(|| {
        let problem =
            format!("`{name}` says how a machine is connected without a network: choose another");
        invalid(field, problem)
    })
}

/// What is wrong with the bridge of a network.
pub fn wrong_bridge(field: &str, bridge: &str) -> Option<InvalidField> {
    let problem = || {
        format!(
            "`{}` is not an interface name: 1 to {INTERFACE_NAME_BYTES_MAX} letters, digits and `-_.`",
            cut(bridge, DISPLAY_NAME_BYTES_MAX)
        )
    };
    (!is_interface_name(bridge)).then(|| invalid(field, problem()))
}

/// Whether too many projects are named.
pub fn wrong_users(field: &str, users: &NetworkUsers) -> Option<InvalidField> {
    let named = users.named().count();
    let problem = || format!("{named} projects; at most {NETWORK_PROJECTS_MAX}, or `all`");
    (named > NETWORK_PROJECTS_MAX).then(|| invalid(&format!("{field}.projects"), problem()))
}

/// Whether too many regions are named.
pub fn wrong_regions(field: &str, regions: &BTreeSet<RegionCode>) -> Option<InvalidField> {
    let problem = || format!("{} regions; at most {REGIONS_MAX}", regions.len());
    (regions.len() > REGIONS_MAX).then(|| invalid(field, problem()))
}

fn invalid(field: &str, problem: String) -> InvalidField {
    InvalidField { field: field.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_has_the_name_of_an_interface() {
        for good in ["br0", "vmbr0.100", "a", "x_1-2", "fifteen-bytes.x"] {
            assert!(is_interface_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a b", "br/0", "é", "sixteen-bytes-xx"] {
            assert!(!is_interface_name(bad), "{bad}");
            assert_eq!(wrong_bridge("bridge", bad).unwrap().field, "bridge");
        }
    }

    #[test]
    fn words_that_connect_a_machine_are_no_names_of_networks() {
        for word in RESERVED_NAMES {
            assert!(wrong_name("name", &word.parse().unwrap()).is_some(), "{word}");
        }
        assert_eq!(wrong_name("name", &"office".parse().unwrap()), None);
    }

    #[test]
    fn a_network_for_no_project_is_another_than_one_for_all() {
        let read = |text: &str| serde_json::from_str::<NetworkUsers>(text).unwrap();
        let project = ProjectName::default();
        assert!(read(r#""all""#).covers(&project));
        assert!(!read(r#"{"projects":[]}"#).covers(&project));
        assert!(read(r#"{"projects":["default"]}"#).covers(&project));
        let none = NetworkUsers::Projects(BTreeSet::new());
        assert_eq!(read(&serde_json::to_string(&none).unwrap()), none);
    }

    #[test]
    fn what_is_too_much_is_said() {
        let names = |most: usize| (0..=most).map(|number| format!("n{number}"));
        let projects = names(NETWORK_PROJECTS_MAX).map(|name| name.parse().unwrap()).collect();
        let wrong = wrong_users("users", &NetworkUsers::Projects(projects));
        assert_eq!(wrong.unwrap().field, "users.projects");
        let regions = names(REGIONS_MAX).map(|name| name.parse().unwrap()).collect();
        assert_eq!(wrong_regions("regions", &regions).unwrap().field, "regions");
        assert_eq!(wrong_users("users", &NetworkUsers::All), None);
    }
}
