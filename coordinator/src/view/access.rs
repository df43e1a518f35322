//! Projects, principals and what they may do, as the API shows them.

use std::collections::BTreeSet;

use novacron_protocol::access::{Permission, Scope};
use novacron_protocol::api::{
    ApiKeyView, BindingView, CredentialKind, PrincipalView, ProjectPermissions, ProjectView,
    WhoamiView,
};
use novacron_protocol::ids::{ApiKeyId, ProjectName};

use super::resource::links;
use crate::state::api_key::ApiKey;
use crate::state::binding::{Binding, Right};
use crate::state::principal::Principal;
use crate::state::project::Project;
use crate::state::{Asker, Credential, Fleet};

/// A project as the API shows it.
pub fn project_view(fleet: &Fleet, project: &Project) -> ProjectView {
    let name = &project.name;
    ProjectView {
        name: name.clone(),
        display_name: project.display_name.clone(),
        state: project.state,
        quotas: project.quotas,
        usage: fleet.project_usage(name),
        budget_micro_dollars_per_month: fleet
            .budget(name)
            .map(|budget| budget.micro_dollars_per_month),
        labels: project.labels.clone(),
        residency: project.residency.clone(),
        created_at: project.created_at,
        updated_at: project.updated_at,
        revision: project.revision,
        links: links(&[
            ("self", format!("/projects/{name}")),
            ("vms", format!("/vms?project={name}")),
        ]),
    }
}

/// A principal as the API shows it.
pub fn principal_view(principal: &Principal) -> PrincipalView {
    let name = &principal.name;
    PrincipalView {
        name: name.to_string(),
        kind: principal.kind,
        state: principal.state,
        display_name: principal.display_name.clone(),
        created_at: principal.created_at,
        revision: principal.revision,
        links: links(&[
            ("self", format!("/principals/{name}")),
            ("bindings", format!("/bindings?principal={name}")),
            ("api_keys", format!("/api-keys?principal={name}")),
        ]),
    }
}

/// A binding as the API shows it.
pub fn binding_view(binding: &Binding) -> BindingView {
    let (role, permission) = match &binding.right {
        Right::Role(role) => (Some(*role), None),
        Right::Permissions(pattern) => (None, Some(pattern.clone())),
    };
    let project = match &binding.scope {
        Scope::Fleet => None,
        Scope::Project(project) => Some(project.clone()),
    };
    BindingView {
        id: binding.id,
        principal: binding.principal.to_string(),
        role,
        permission,
        project,
        effect: binding.effect,
        created_at: binding.created_at,
        links: links(&[("principal", format!("/principals/{}", binding.principal))]),
    }
}

/// An API key as the API shows it.
pub fn api_key_view(key: &ApiKey) -> ApiKeyView {
    ApiKeyView {
        id: key.id,
        principal: key.principal.to_string(),
        name: key.name.clone(),
        created_at: key.created_at,
        expires_at: key.expires_at,
        links: links(&[("principal", format!("/principals/{}", key.principal))]),
    }
}

/// Who asks, and what it may do.
pub fn whoami_view(fleet: &Fleet, principal: &Principal, asker: &Asker) -> WhoamiView {
    let (credential, api_key) = match asker.credential {
        Credential::Certificate => (CredentialKind::Certificate, None),
        Credential::ApiKey(id) => (CredentialKind::ApiKey, Some(ApiKeyId(id))),
    };
    let key = api_key.and_then(|key| fleet.api_key(key));
    WhoamiView {
        name: principal.name.to_string(),
        kind: principal.kind,
        credential,
        api_key,
        expires_at: key.map(|key| key.expires_at),
        bindings: fleet.bindings_of(&principal.name).map(binding_view).collect(),
        permissions: permissions(fleet, principal, &Scope::Fleet),
        projects: exceptions(fleet, principal),
    }
}

fn permissions(fleet: &Fleet, principal: &Principal, scope: &Scope) -> Vec<Permission> {
    let may = |permission: &Permission| fleet.reach(&principal.name, *permission).covers(scope);
    Permission::ALL.iter().copied().filter(may).collect()
}

/// Projects that some binding names, with what comes of all bindings there.
fn exceptions(fleet: &Fleet, principal: &Principal) -> Vec<ProjectPermissions> {
    let named = |binding: &Binding| match &binding.scope {
        Scope::Fleet => None,
        Scope::Project(project) => Some(project.clone()),
    };
    let projects: BTreeSet<ProjectName> =
        fleet.bindings_of(&principal.name).filter_map(named).collect();
    let in_project = |project: ProjectName| {
        let permissions = permissions(fleet, principal, &Scope::Project(project.clone()));
        ProjectPermissions { project, permissions }
    };
    projects.into_iter().map(in_project).collect()
}
