//! Who a peer is: cluster, role and name, as its certificate says.
//!
//! A certificate carries two kinds of subject alternative name:
//!
//! - the URI `novacron://<cluster>/<role>/<name>`, exactly one, which is the identity;
//! - the DNS name `<cluster>.novacron.internal`, the same in every certificate of a cluster that may act as a
//!   server. TLS clients inside the cluster verify this name whatever address they dial. Host names say
//!   nothing here: a node may move to another address, and it is the role that carries rights.
//!
//! So the handshake proves "a member of this cluster", with rustls' own verifier, and the role is compared
//! right after it, before a stream is opened or accepted, where a refusal can say what was expected.

use std::fmt;
use std::str::FromStr;

use novacron_protocol::ids::{ClusterId, InvalidName, NodeName};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

const SCHEME: &str = "novacron://";
const DNS_SUFFIX: &str = "novacron.internal";

/// What the holder of a certificate may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A member of the coordinator cluster.
    Coordinator,
    /// The agent of a hypervisor host.
    Agent,
    /// A person or program that operates the fleet.
    Operator,
    /// A partner's program.
    Partner,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 4] = [Role::Coordinator, Role::Agent, Role::Operator, Role::Partner];

    /// The role as certificates, tokens and the API write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Coordinator => "coordinator",
            Role::Agent => "agent",
            Role::Operator => "operator",
            Role::Partner => "partner",
        }
    }

    /// Whether the certificate may be shown by the end that was dialled.
    pub fn may_serve(self) -> bool {
        matches!(self, Role::Coordinator | Role::Agent)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let role = Role::ALL.into_iter().find(|role| role.as_str() == text);
        role.ok_or_else(|| IdentityError::UnknownRole { text: text.chars().take(40).collect() })
    }
}

/// The name of a member, an agent's host or an operator, unique within its role. Same rule as a node's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SubjectName(NodeName);

impl SubjectName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for SubjectName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        text.parse().map(Self)
    }
}

impl From<NodeName> for SubjectName {
    fn from(name: NodeName) -> Self {
        Self(name)
    }
}

impl From<SubjectName> for NodeName {
    fn from(name: SubjectName) -> Self {
        name.0
    }
}

impl fmt::Display for SubjectName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Why a certificate or text names no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The peer showed no certificate.
    #[error("the peer showed no certificate")]
    NoCertificate,
    /// Not DER of an X.509 certificate, or its names cannot be read.
    #[error("the certificate cannot be read")]
    UnreadableCertificate,
    /// A certificate names exactly one identity.
    #[error("the certificate names {found} novacron:// identities instead of one")]
    NotExactlyOne {
        /// How many there are.
        found: usize,
    },
    /// Not `novacron://<cluster>/<role>/<name>`.
    #[error("`{uri}` is not novacron://<cluster>/<role>/<name>")]
    MalformedUri {
        /// What was there.
        uri: String,
    },
    /// No such role.
    #[error("`{text}` is not a role: coordinator, agent, operator or partner")]
    UnknownRole {
        /// What was there.
        text: String,
    },
    /// The name breaks the rule of names.
    #[error("the identity's name is not valid")]
    InvalidName(#[source] InvalidName),
    /// The certificate belongs to another cluster.
    #[error("the peer belongs to cluster {found}, not to {expected}")]
    OtherCluster {
        /// Our cluster.
        expected: ClusterId,
        /// The peer's.
        found: ClusterId,
    },
    /// The peer's role is not one of those that are welcome here.
    #[error("{found} may not do this, only {}", list(.allowed))]
    RoleNotAllowed {
        /// Who it is.
        found: Box<Identity>,
        /// Roles that are welcome.
        allowed: Vec<Role>,
    },
    /// Somebody else answered.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// Whom we dialled.
        expected: Box<ExpectedPeer>,
        /// Who answered.
        found: Box<Identity>,
    },
}

fn list(roles: &[Role]) -> String {
    roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", ")
}

/// A proven or claimed identity: proven when it came out of a verified certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// The cluster whose authority signed it.
    pub cluster: ClusterId,
    /// What it may do.
    pub role: Role,
    /// Which one it is.
    pub name: SubjectName,
}

impl Identity {
    /// The identity as the certificate's URI writes it.
    pub fn uri(&self) -> String {
        format!("{SCHEME}{}/{}/{}", self.cluster, self.role, self.name)
    }

    /// The identity in a certificate. It is proven only if the chain was verified, which TLS has done for the
    /// certificates that a finished handshake hands out.
    ///
    /// # Errors
    /// [`IdentityError`] if the certificate cannot be read or does not name exactly one identity.
    pub fn from_certificate(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        only_uri(certificate)?.parse()
    }

    /// Refuses an identity whose role is not among `allowed`.
    ///
    /// # Errors
    /// [`IdentityError::RoleNotAllowed`].
    pub fn require_role(&self, allowed: &[Role]) -> Result<(), IdentityError> {
        if allowed.contains(&self.role) {
            return Ok(());
        }
        Err(IdentityError::RoleNotAllowed {
            found: Box::new(self.clone()),
            allowed: allowed.to_vec(),
        })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.role, self.name)
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(uri: &str) -> Result<Self, IdentityError> {
        let malformed = || IdentityError::MalformedUri { uri: uri.chars().take(128).collect() };
        let mut parts = uri.strip_prefix(SCHEME).ok_or_else(malformed)?.splitn(3, '/');
        let mut part = || parts.next().ok_or_else(malformed);
        Ok(Self {
            cluster: part()?.parse().map_err(|_| malformed())?,
            role: part()?.parse()?,
            name: part()?.parse().map_err(IdentityError::InvalidName)?,
        })
    }
}

/// Whom a dialler wants to reach: a role, and one name of it unless any will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedPeer {
    /// The role that must answer.
    pub role: Role,
    /// The name that must answer; any of the role unless said.
    pub name: Option<SubjectName>,
}

impl ExpectedPeer {
    /// Any holder of a role.
    pub fn any(role: Role) -> Self {
        Self { role, name: None }
    }

    /// One holder of a role.
    pub fn named(role: Role, name: SubjectName) -> Self {
        Self { role, name: Some(name) }
    }

    /// Refuses somebody else.
    ///
    /// # Errors
    /// [`IdentityError::Unexpected`].
    pub fn check(&self, found: &Identity) -> Result<(), IdentityError> {
        let is_name = self.name.as_ref().is_none_or(|name| *name == found.name);
        if self.role == found.role && is_name {
            return Ok(());
        }
        Err(IdentityError::Unexpected {
            expected: Box::new(self.clone()),
            found: Box::new(found.clone()),
        })
    }
}

impl fmt::Display for ExpectedPeer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(formatter, "{} {name}", self.role),
            None => write!(formatter, "a {}", self.role),
        }
    }
}

/// The DNS name that every serving certificate of a cluster carries.
pub(crate) fn server_name(cluster: ClusterId) -> String {
    format!("{cluster}.{DNS_SUFFIX}")
}

/// How the certificate of an authority names its cluster. It is not the URI of an identity (two parts instead
/// of three), so the authority's certificate can never pass for a member's.
pub(crate) fn authority_uri(cluster: ClusterId) -> String {
    format!("{SCHEME}{cluster}/authority")
}

/// The cluster that an authority's certificate names.
pub(crate) fn cluster_of_authority(
    certificate: &CertificateDer<'_>,
) -> Result<ClusterId, IdentityError> {
    let uri = only_uri(certificate)?;
    let cluster = uri.strip_prefix(SCHEME).and_then(|rest| rest.strip_suffix("/authority"));
    let cluster = cluster.and_then(|text| text.parse().ok());
    cluster.ok_or(IdentityError::MalformedUri { uri: uri.chars().take(128).collect() })
}

fn only_uri(certificate: &CertificateDer<'_>) -> Result<String, IdentityError> {
    let mut uris = uris(certificate)?;
    match uris.pop() {
        Some(uri) if uris.is_empty() => Ok(uri),
        last => {
            Err(IdentityError::NotExactlyOne { found: uris.len() + usize::from(last.is_some()) })
        }
    }
}

/// When a certificate expires, in seconds since 1970.
pub(crate) fn expires_at_s(certificate: &CertificateDer<'_>) -> Result<i64, IdentityError> {
    parse(certificate).map(|parsed| parsed.validity().not_after.timestamp())
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, IdentityError> {
    let parsed = X509Certificate::from_der(certificate);
    parsed.map(|(_, parsed)| parsed).map_err(|_| IdentityError::UnreadableCertificate)
}

fn uris(certificate: &CertificateDer<'_>) -> Result<Vec<String>, IdentityError> {
    let parsed = parse(certificate)?;
    let names =
        parsed.subject_alternative_name().map_err(|_| IdentityError::UnreadableCertificate)?;
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) if uri.starts_with(SCHEME) => Some((*uri).to_owned()),
        _ => None,
    };
    Ok(names.iter().filter_map(uri).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = "7f3c1a52-5e4e-4b8f-9d0a-0d3b9f1c2e11";

    #[test]
    fn the_uri_comes_back() {
        let uri = format!("novacron://{CLUSTER}/agent/node-01");
        let identity: Identity = uri.parse().unwrap();
        assert_eq!(identity.role, Role::Agent);
        assert_eq!(identity.name.as_str(), "node-01");
        assert_eq!(identity.uri(), uri);
    }

    #[test]
    fn other_uris_are_refused() {
        let refused = |uri: &str| uri.parse::<Identity>().unwrap_err();
        assert!(matches!(refused("https://x/agent/a"), IdentityError::MalformedUri { .. }));
        assert!(matches!(refused("novacron://x/agent/a"), IdentityError::MalformedUri { .. }));
        let uri = |rest: &str| format!("novacron://{CLUSTER}{rest}");
        assert!(matches!(refused(&uri("/agent")), IdentityError::MalformedUri { .. }));
        assert!(matches!(refused(&uri("/root/a")), IdentityError::UnknownRole { .. }));
        assert!(matches!(refused(&uri("/agent/a/b")), IdentityError::InvalidName(_)));
        assert!(matches!(refused(&uri("/agent/")), IdentityError::InvalidName(_)));
    }

    #[test]
    fn a_peer_is_expected_by_role_or_by_name() {
        let found: Identity = format!("novacron://{CLUSTER}/agent/node-01").parse().unwrap();
        assert!(ExpectedPeer::any(Role::Agent).check(&found).is_ok());
        assert!(ExpectedPeer::any(Role::Coordinator).check(&found).is_err());
        let named = |name: &str| ExpectedPeer::named(Role::Agent, name.parse().unwrap());
        assert!(named("node-01").check(&found).is_ok());
        let refusal = named("node-02").check(&found).unwrap_err();
        assert_eq!(refusal.to_string(), "expected agent node-02, found agent node-01");
    }
}
