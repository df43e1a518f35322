//! Networks.

use novacron_protocol::api::NetworkView;
use novacron_protocol::network::NetworkUsers;

use super::region::words;
use super::{Fields, Row, Show};

fn users(users: &NetworkUsers) -> String {
    match users {
        NetworkUsers::All => "all".to_owned(),
        NetworkUsers::Projects(projects) if projects.is_empty() => "none".to_owned(),
        NetworkUsers::Projects(projects) => words(projects),
    }
}

impl Row for NetworkView {
    const HEADER: &'static [&'static str] =
        &["NAME", "BRIDGE", "PROJECTS", "REGIONS", "VMS", "DESCRIPTION"];

    fn row(&self) -> Vec<String> {
        let regions = if self.regions.is_empty() { "all".into() } else { words(&self.regions) };
        vec![
            self.name.to_string(),
            self.bridge.clone(),
            users(&self.users),
            regions,
            self.vms.to_string(),
            self.description.clone(),
        ]
    }
}

impl Show for NetworkView {
    fn fields(&self) -> Fields {
        vec![
            ("name", self.name.to_string()),
            ("description", self.description.clone()),
            ("bridge", self.bridge.clone()),
            ("projects", users(&self.users)),
            ("regions", words(&self.regions)),
            ("vms", self.vms.to_string()),
            ("created", self.created_at.to_string()),
            ("updated", self.updated_at.to_string()),
        ]
    }
}
