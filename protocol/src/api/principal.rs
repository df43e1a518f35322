//! Principals, what they may do, and their API keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Links;
use crate::access::{AccessRole, BindingEffect, Permission, PermissionPattern};
use crate::ids::{ApiKeyId, BindingId, ProjectName, Revision};
use crate::time::Timestamp;

/// What a principal is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum PrincipalKind {
    /// A person: shows a client certificate, or an API key.
    Operator,
    /// A program: shows an API key.
    Service,
}

/// Whether a principal may do anything.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum PrincipalState {
    /// What its bindings say.
    #[default]
    Active,
    /// Nothing, until somebody makes it active again.
    Disabled,
}

/// A principal to make. It may do nothing until a binding says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrincipalCreate {
    /// Name, unique; of an operator also the name in its certificate.
    pub name: String,
    /// What it is.
    pub kind: PrincipalKind,
    /// What it is called for people, at most 128 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub display_name: String,
}

/// What to change of a principal; what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrincipalChange {
    /// Whether it may do anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<PrincipalState>,
    /// What it is called for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
}

/// A principal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PrincipalView {
    /// Name.
    pub name: String,
    /// What it is.
    pub kind: PrincipalKind,
    /// Whether it may do anything.
    pub state: PrincipalState,
    /// What it is called for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub display_name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// The revision of its last change.
    pub revision: Revision,
    /// Links.
    #[serde(rename = "_links")]
    pub links: Links,
}

/// A binding to make: a principal holds a role, or some permissions, on the whole fleet or on one project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BindingCreate {
    /// The principal.
    pub principal: String,
    /// The role; this or `permission`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<AccessRole>,
    /// A permission such as `vm.migrate`, or a pattern such as `vm.*`; this or `role`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission: Option<String>,
    /// The project; the whole fleet unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Whether it gives or takes away.
    #[serde(default)]
    pub effect: BindingEffect,
}

/// A binding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BindingView {
    /// Identity.
    pub id: BindingId,
    /// The principal.
    pub principal: String,
    /// The role, if it is about one.
    pub role: Option<AccessRole>,
    /// The permissions, if it is about some.
    pub permission: Option<PermissionPattern>,
    /// The project; absent for the whole fleet.
    pub project: Option<ProjectName>,
    /// Whether it gives or takes away.
    pub effect: BindingEffect,
    /// When it was made.
    pub created_at: Timestamp,
    /// Links.
    #[serde(rename = "_links")]
    pub links: Links,
}

/// An API key to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyCreate {
    /// Whom it speaks for.
    pub principal: String,
    /// What it is for, 1 to 128 bytes.
    pub name: String,
    /// Seconds until it expires, 60 to 31,622,400 (366 days); 7,776,000 (90 days) unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
}

/// An API key. Nobody can see its secret again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApiKeyView {
    /// Identity.
    pub id: ApiKeyId,
    /// Whom it speaks for.
    pub principal: String,
    /// What it is for.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
    /// Links.
    #[serde(rename = "_links")]
    pub links: Links,
}

/// An API key that was made. The secret is in this answer and nowhere else. `Debug` leaves it out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApiKeyMade {
    /// What the header `Authorization: Bearer` takes: `nck_`, the key's id, `_`, its secret.
    pub key: String,
    /// The key.
    #[serde(flatten)]
    pub view: ApiKeyView,
}

impl std::fmt::Debug for ApiKeyMade {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ApiKeyMade").field("view", &self.view).finish_non_exhaustive()
    }
}

/// What proved who somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CredentialKind {
    /// A client certificate.
    Certificate,
    /// An API key.
    ApiKey,
}

/// Who asks, and what it may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WhoamiView {
    /// The principal's name.
    pub name: String,
    /// What it is.
    pub kind: PrincipalKind,
    /// What proved it.
    pub credential: CredentialKind,
    /// The API key, if it was one.
    pub api_key: Option<ApiKeyId>,
    /// When that key expires.
    pub expires_at: Option<Timestamp>,
    /// What it holds.
    pub bindings: Vec<BindingView>,
    /// What it may do with the fleet as a whole, and so in every project unless a binding on one takes it away.
    pub permissions: Vec<Permission>,
    /// What it may do in single projects beyond or short of that.
    pub projects: Vec<ProjectPermissions>,
}

/// What somebody may do in one project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProjectPermissions {
    /// The project.
    pub project: ProjectName,
    /// What it may do there.
    pub permissions: Vec<Permission>,
}
