//! Annotations of machines.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::VmId;

/// What to keep beside a machine, in place of what was there under the same key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnnotationWrite {
    /// At most 4,096 bytes.
    pub value: String,
}

/// What is kept beside a machine under a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AnnotationView {
    /// The machine.
    pub vm: VmId,
    /// The key.
    pub key: String,
    /// The text.
    pub value: String,
}
