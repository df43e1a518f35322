//! Secrets, and the keys that they are encrypted with.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{ProjectName, SecretName};
use crate::secret::SecretText;
use crate::time::Timestamp;

/// What to keep under a name, in place of what was there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretWrite {
    /// The value: text of 1 to 65,536 bytes. What is not text is kept as base64.
    pub value: SecretText,
}

/// A secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretView {
    /// Its name.
    pub name: SecretName,
    /// Whose it is; absent: of no project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectName>,
    /// How often a value was written under this name since it is there.
    pub version: u64,
    /// When the first value was written.
    pub created_at: Timestamp,
    /// When this value was written.
    pub updated_at: Timestamp,
    /// Who wrote it.
    pub updated_by: String,
    /// The key that it is encrypted with; names it and says nothing about it.
    pub key: String,
}

/// The value of a secret. That it was read is in the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretRevealed {
    /// Its name.
    pub name: SecretName,
    /// Which version.
    pub version: u64,
    /// The value.
    pub value: SecretText,
}

/// How far the turn of the key is that secrets are encrypted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyTurn {
    /// One key, and all secrets are encrypted with it.
    Settled,
    /// A new key is to be made.
    Asked,
    /// A new key is on its way to a majority of the coordinators.
    Spreading,
    /// What is encrypted with the key before is encrypted anew.
    Resealing,
}

/// The key that secrets are encrypted with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretKeysView {
    /// Names the key that encrypts; absent until the first one is made, which takes seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Since when it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// How far its turn is.
    pub turn: KeyTurn,
    /// Secrets that are encrypted with another one.
    pub to_reseal: u64,
}
