//! Who asked for a command, and from where: it travels with the command, so that every replica knows.

use std::fmt;
use std::net::IpAddr;

use novacron_transport::SubjectName;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Where a command comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// The cluster itself: the leader's duties, agents' reports, members that join.
    Cluster,
    /// Somebody who uses the API.
    Asker(Asker),
}

/// Somebody who uses the API, as authentication found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asker {
    /// The name.
    pub name: SubjectName,
    /// What proved it.
    pub credential: Credential,
    /// The other end of the connection, where there is one.
    pub address: Option<IpAddr>,
}

/// What proved who somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Credential {
    /// A client certificate of this cluster's authority.
    Certificate,
    /// An API key, by its id.
    ApiKey(Uuid),
}

impl Origin {
    /// Who asked, if it was not the cluster itself.
    pub fn asker(&self) -> Option<&Asker> {
        match self {
            Self::Cluster => None,
            Self::Asker(asker) => Some(asker),
        }
    }
}

impl fmt::Display for Asker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.name)?;
        self.address.map_or(Ok(()), |address| write!(formatter, " at {address}"))
    }
}
