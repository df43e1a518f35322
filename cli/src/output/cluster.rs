//! The coordinators and their tokens.

use novacron_protocol::api::{ClusterView, TokenView};

use super::text::{or_dash, or_nothing, table, word};
use super::{Fields, Show};

impl Show for ClusterView {
    fn fields(&self) -> Fields {
        let header = ["ID", "NAME", "ROLE", "MEMBERS AND AGENTS", "API"];
        let members = self.members.iter().map(|member| {
            vec![
                member.id.to_string(),
                member.name.clone(),
                word(&member.role),
                member.peer_address.clone(),
                member.api_address.clone(),
            ]
        });
        vec![
            ("cluster", self.cluster.to_string()),
            ("leader", or_dash(self.leader)),
            ("revision", self.revision.to_string()),
            ("members", table(&header, members).trim_end().to_owned()),
            ("migrations", format!("{} at once per node", self.settings.migrations_per_node)),
        ]
    }
}

impl Show for TokenView {
    fn fields(&self) -> Fields {
        vec![
            ("token", self.token.clone()),
            ("role", self.role.clone()),
            ("name", or_nothing(self.name.as_ref())),
            ("expires", self.expires_at.to_string()),
            ("coordinators", self.coordinators.join("\n")),
        ]
    }
}
