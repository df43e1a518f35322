//! Who changed what.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Code;
use crate::ids::RequestId;
use crate::time::Timestamp;

/// A record of the audit log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuditEntry {
    /// Its place in the log, from 1, without gaps.
    pub number: u64,
    /// When it was proposed.
    pub at: Timestamp,
    /// The revision of the fleet that it made.
    pub revision: u64,
    /// Who did it.
    pub actor: AuditActor,
    /// The client's request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
    /// What was done, as `noun.verb`.
    pub action: String,
    /// What it was done to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<AuditObject>,
    /// What came of it.
    pub result: AuditResult,
    /// How often the same was refused, if this is about more than one request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<AuditTimes>,
    /// The object as it was; absent if there was none, or if nothing changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// The object as it was then; absent if there was none, or if nothing changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
    /// SHA-256 over the hash before it and the record as it was written, in hexadecimal.
    #[serde(default)]
    pub hash: String,
}

/// Who did something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum AuditActor {
    /// The cluster itself.
    Cluster,
    /// Whoever showed a certificate.
    Certificate {
        /// The name in it.
        name: String,
        /// Where it came from.
        address: Option<String>,
    },
    /// Whoever showed an API key.
    ApiKey {
        /// Whose key it is.
        name: String,
        /// The key's id.
        key: String,
        /// Where it came from.
        address: Option<String>,
    },
    /// Whoever was refused before anything else.
    Presented {
        /// What it showed of who it is: `nobody`, or a name or key that need not be its own.
        shown: String,
        /// Where it came from; absent for several together.
        address: Option<String>,
    },
}

/// How often the same happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditTimes {
    /// How often.
    pub count: u64,
    /// When first.
    pub first_at: Timestamp,
    /// When last.
    pub last_at: Timestamp,
}

/// What something was done to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditObject {
    /// The noun.
    pub kind: String,
    /// Which one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// What came of something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum AuditResult {
    /// It was done.
    Done,
    /// It was refused.
    Refused {
        /// The stable code.
        code: Code,
        /// For a person.
        detail: String,
    },
}

/// What a check of the whole audit log found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditVerdict {
    /// Whether everything is as it was written.
    pub intact: bool,
    /// Number of the first record that is kept.
    pub first: u64,
    /// Number of the last record: keep it with its hash, and any later cut of the log can be proved.
    pub last: u64,
    /// Hash of the last record.
    pub hash: String,
    /// The first record that cannot be trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault_at: Option<u64>,
    /// What is wrong there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}
