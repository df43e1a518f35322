//! Projects, principals, what they may do, and their API keys.

use novacron_protocol::access::{AccessRole, Permission};
use novacron_protocol::api::{
    ApiKeyMade, ApiKeyView, BindingView, PrincipalView, ProjectView, WhoamiView,
};
use novacron_protocol::project::Quota;
use novacron_protocol::size::display_size;
use serde::Serialize;

use super::region::residency_line;
use super::text::{labels, or_dash, or_nothing, table, word};
use super::usage::dollars;
use super::{Fields, Row, Show};

/// `used of limit`.
fn quota(project: &ProjectView, quota: Quota) -> String {
    let amount = |amount: u64| match quota {
        Quota::MemoryBytes | Quota::DiskBytes => display_size(amount),
        Quota::Vms | Quota::Cpus | Quota::Migrations | Quota::Snapshots => amount.to_string(),
    };
    let used = amount(project.usage.of(quota));
    match project.quotas.of(quota) {
        Some(limit) => format!("{used} of {}", amount(limit)),
        None => used,
    }
}

impl Row for ProjectView {
    const HEADER: &'static [&'static str] =
        &["NAME", "STATE", "VMS", "CPUS", "MEMORY", "DISK", "MIGRATIONS", "SNAPSHOTS", "LABELS"];

    fn row(&self) -> Vec<String> {
        let quotas = Quota::ALL.map(|one| quota(self, one));
        let mut row = vec![self.name.to_string(), word(&self.state)];
        row.extend(quotas);
        row.push(labels(&self.labels));
        row
    }
}

impl Show for ProjectView {
    fn fields(&self) -> Fields {
        vec![
            ("name", self.name.to_string()),
            ("called", self.display_name.clone()),
            ("state", word(&self.state)),
            ("machines", quota(self, Quota::Vms)),
            ("cpus", quota(self, Quota::Cpus)),
            ("memory", quota(self, Quota::MemoryBytes)),
            ("disk", quota(self, Quota::DiskBytes)),
            ("migrations", quota(self, Quota::Migrations)),
            ("snapshots", quota(self, Quota::Snapshots)),
            ("budget", budget(self.budget_micro_dollars_per_month)),
            ("residency", residency_line(&self.residency)),
            ("labels", labels(&self.labels)),
            ("created", self.created_at.to_string()),
            ("updated", self.updated_at.to_string()),
        ]
    }
}

fn budget(micro_dollars_per_month: Option<u64>) -> String {
    let amount = micro_dollars_per_month.and_then(|amount| i64::try_from(amount).ok());
    amount.map_or_else(|| "none".to_owned(), |amount| format!("{} a month", dollars(amount)))
}

impl Row for PrincipalView {
    const HEADER: &'static [&'static str] = &["NAME", "KIND", "STATE", "CALLED", "CREATED"];

    fn row(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            word(&self.kind),
            word(&self.state),
            self.display_name.clone(),
            self.created_at.to_string(),
        ]
    }
}

impl Show for PrincipalView {
    fn fields(&self) -> Fields {
        vec![
            ("name", self.name.clone()),
            ("kind", word(&self.kind)),
            ("state", word(&self.state)),
            ("called", self.display_name.clone()),
            ("created", self.created_at.to_string()),
        ]
    }
}

fn right(binding: &BindingView) -> String {
    match (&binding.role, &binding.permission) {
        (Some(role), _) => role.to_string(),
        (None, Some(permission)) => permission.to_string(),
        (None, None) => String::new(),
    }
}

fn place(binding: &BindingView) -> String {
    binding.project.as_ref().map_or_else(|| "the whole fleet".to_owned(), ToString::to_string)
}

impl Row for BindingView {
    const HEADER: &'static [&'static str] = &["ID", "PRINCIPAL", "EFFECT", "RIGHT", "ON"];

    fn row(&self) -> Vec<String> {
        let (id, principal) = (self.id.to_string(), self.principal.clone());
        vec![id, principal, word(&self.effect), right(self), place(self)]
    }
}

impl Show for BindingView {
    fn fields(&self) -> Fields {
        vec![
            ("id", self.id.to_string()),
            ("principal", self.principal.clone()),
            ("effect", word(&self.effect)),
            ("right", right(self)),
            ("on", place(self)),
            ("created", self.created_at.to_string()),
        ]
    }
}

impl Row for ApiKeyView {
    const HEADER: &'static [&'static str] = &["ID", "PRINCIPAL", "NAME", "EXPIRES"];

    fn row(&self) -> Vec<String> {
        let (id, principal) = (self.id.to_string(), self.principal.clone());
        vec![id, principal, self.name.clone(), self.expires_at.to_string()]
    }
}

impl Show for ApiKeyView {
    fn fields(&self) -> Fields {
        vec![
            ("id", self.id.to_string()),
            ("principal", self.principal.clone()),
            ("name", self.name.clone()),
            ("created", self.created_at.to_string()),
            ("expires", self.expires_at.to_string()),
        ]
    }
}

impl Show for ApiKeyMade {
    fn fields(&self) -> Fields {
        let mut fields = vec![("key", self.key.clone())];
        fields.extend(self.view.fields());
        fields
    }
}

fn words(permissions: &[Permission]) -> String {
    permissions.iter().map(|permission| permission.word()).collect::<Vec<_>>().join(" ")
}

impl Show for WhoamiView {
    fn fields(&self) -> Fields {
        let bindings = table(BindingView::HEADER, self.bindings.iter().map(Row::row));
        let projects = self.projects.iter().map(|one| {
            let may = if one.permissions.is_empty() {
                "nothing".to_owned()
            } else {
                words(&one.permissions)
            };
            format!("{}: {may}", one.project)
        });
        vec![
            ("name", self.name.clone()),
            ("kind", word(&self.kind)),
            ("credential", word(&self.credential)),
            ("key", or_nothing(self.api_key)),
            ("expires", or_nothing(self.expires_at)),
            (
                "holds",
                if self.bindings.is_empty() {
                    or_dash(None::<u8>)
                } else {
                    bindings.trim_end().to_owned()
                },
            ),
            ("may", words(&self.permissions)),
            ("in projects", projects.collect::<Vec<_>>().join("\n")),
        ]
    }
}

/// A role and what it is made of.
#[derive(Debug, Serialize)]
pub struct RoleWords {
    role: AccessRole,
    permissions: Vec<Permission>,
}

impl RoleWords {
    /// A role in words.
    pub fn of(role: AccessRole) -> Self {
        let all = Permission::ALL.iter().copied();
        Self { role, permissions: all.filter(|one| role.covers(*one)).collect() }
    }
}

impl Row for RoleWords {
    const HEADER: &'static [&'static str] = &["ROLE", "PERMISSIONS"];

    fn row(&self) -> Vec<String> {
        vec![self.role.to_string(), words(&self.permissions)]
    }
}
