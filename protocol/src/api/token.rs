//! Join tokens.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::access::AccessRole;
use crate::time::Timestamp;

/// A join token to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenCreate {
    /// `agent`, `coordinator` or `operator`.
    pub role: String,
    /// The only name that may use it; any unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// For an operator: the role that it holds on the whole fleet if it is a new one; `operator` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<AccessRole>,
    /// Seconds until it expires, 60 to 86,400; 3,600 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
}

/// A join token that was made. The secret is shown once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenView {
    /// The text that `join --token` takes.
    pub token: String,
    /// Role of the certificate that it gives.
    pub role: String,
    /// The only name that may use it.
    pub name: Option<String>,
    /// When it expires.
    pub expires_at: Timestamp,
    /// Addresses to join at.
    pub coordinators: Vec<String>,
}
