//! Typed names and numbers. A value of one of these types has been checked; nothing else carries an id.
//!
//! Names come from people and certificates (`NodeName`, `VmName`, `ProjectName`), ids are made by the coordinator
//! before a proposal (`VmId`, `MigrationId`, `BatchId`, `RequestId`), numbers are handed out by the replicated state
//! (`Generation`, `EffectId`, `Revision`).

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use schemars::r#gen::SchemaGenerator;
use schemars::schema::{InstanceType, Schema, SchemaObject, StringValidation};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::limits::NAME_BYTES_MAX;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a valid name: 1 to {NAME_BYTES_MAX} characters, lower-case letters, digits and `-`, \
     beginning and ending with a letter or digit"
)]
pub struct InvalidName {
    /// What was given, cut to a printable length.
    pub text: String,
}

fn is_name(text: &str) -> bool {
    let edge = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    (1..=NAME_BYTES_MAX).contains(&bytes.len())
        && edge(bytes[0])
        && edge(bytes[bytes.len() - 1])
        && bytes.iter().all(|&byte| edge(byte) || byte == b'-')
}

/// Format of a name in schemas.
pub const NAME_FORMAT: &str = "name";

fn name_schema() -> Schema {
    let rest = NAME_BYTES_MAX - 2;
    text_schema(NAME_FORMAT, format!("^[a-z0-9]([a-z0-9-]{{0,{rest}}}[a-z0-9])?$"))
}

/// The schema of a text of a format, all of which a regular expression describes.
pub(crate) fn text_schema(format: &str, pattern: String) -> Schema {
    let string = StringValidation { pattern: Some(pattern), ..StringValidation::default() };
    SchemaObject {
        instance_type: Some(InstanceType::String.into()),
        format: Some(format.to_owned()),
        string: Some(Box::new(string)),
        ..SchemaObject::default()
    }
    .into()
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl JsonSchema for $name {
            fn is_referenceable() -> bool {
                false
            }

            fn schema_name() -> String {
                stringify!($name).to_owned()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                name_schema()
            }
        }

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                if is_name(text) {
                    return Ok(Self(text.to_owned()));
                }
                Err(InvalidName { text: text.chars().take(NAME_BYTES_MAX).collect() })
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

name_type! {
    /// The name of a hypervisor host; also the name in its agent's certificate.
    NodeName
}
name_type! {
    /// The name of a virtual machine, unique in the fleet among machines that are not deleted.
    VmName
}

name_type! {
    /// The name of a project: whose machines are, and who pays for what they use.
    ProjectName
}
name_type! {
    /// The name of a plan: what usage costs.
    PlanName
}
name_type! {
    /// The name of a snapshot, unique among those of its machine.
    SnapshotName
}
name_type! {
    /// The code of a region, such as `eu-central`, unique in the fleet.
    RegionCode
}
name_type! {
    /// The name of a network, unique in the fleet.
    NetworkName
}

name_type! {
    /// The name of a secret, unique in its project or, for those of no project, in the fleet.
    SecretName
}

name_type! {
    /// What a client calls that something is wrong.
    AlertName
}

impl ProjectName {
    /// The project that there always is, and that a machine belongs to unless another is said.
    pub const DEFAULT: &str = "default";
}

impl Default for ProjectName {
    /// [`Self::DEFAULT`].
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

macro_rules! uuid_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
        )]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    };
}

uuid_type! {
    /// A virtual machine, for ever; never used again after it is deleted.
    VmId
}
uuid_type! {
    /// One migration.
    MigrationId
}
uuid_type! {
    /// Migrations that were asked for together.
    BatchId
}
uuid_type! {
    /// One request of a client. The same id sent again is answered with the first answer, and is the trace
    /// id that follows the request through coordinator and agent.
    RequestId
}
uuid_type! {
    /// One cluster.
    ClusterId
}

uuid_type! {
    /// One statement of who may, or may not, do what.
    BindingId
}
uuid_type! {
    /// One API key; what the cluster files it under.
    ApiKeyId
}

uuid_type! {
    /// A snapshot of a machine; what its agent files it under, on the disks too.
    SnapshotId
}

uuid_type! {
    /// One alert.
    AlertId
}

macro_rules! number_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The number after this one.
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    };
}

number_type! {
    /// The right to run a machine. It grows by one whenever the machine may run somewhere else; an agent
    /// acts only for the generation it holds.
    Generation
}
number_type! {
    /// A row of the replicated outbox.
    EffectId
}
number_type! {
    /// A position in the history of the fleet: the index of the log entry that made a change.
    Revision
}
number_type! {
    /// A member of the coordinator cluster; never used again after the member left.
    MemberId
}
number_type! {
    /// Which life of a cluster this is: 1 when it was founded, and the time (milliseconds since 1970) of the restore
    /// when it came from a backup. Coordinators of another life are strangers, whatever certificate they have.
    Incarnation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_checked_at_the_edge() {
        for good in ["a", "web-01", "0"] {
            assert!(good.parse::<VmName>().is_ok(), "{good}");
        }
        let long = "a".repeat(NAME_BYTES_MAX + 1);
        for bad in ["", "-a", "a-", "A", "a b", "a/b", "..", long.as_str()] {
            assert!(bad.parse::<VmName>().is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<VmName>("\"Not Good\"").is_err());
    }
}
