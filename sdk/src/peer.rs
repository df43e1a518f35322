//! Who a certificate names. The same rule as the cluster's own links have: certificates carry one URI
//! `novacron://<cluster>/<role>/<name>`, and those that may serve also the DNS name
//! `<cluster>.novacron.internal`. Host names prove nothing: a coordinator may move to another address.

use novacron_protocol::ids::ClusterId;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

const SCHEME: &str = "novacron://";

/// What a certificate says of its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    /// The cluster that signed it.
    pub cluster: ClusterId,
    /// The role.
    pub role: String,
}

/// The DNS name that every serving certificate of a cluster carries.
pub(crate) fn server_name(cluster: ClusterId) -> String {
    format!("{cluster}.novacron.internal")
}

/// The cluster of an authority, as its own certificate says it: `NovaCron <cluster>`.
pub(crate) fn authority_of(certificate: &CertificateDer<'_>) -> Option<ClusterId> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?;
    name.strip_prefix("NovaCron ")?.parse().ok()
}

impl Peer {
    /// The holder of a certificate, if it names exactly one.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let names = parsed.subject_alternative_name().ok()??;
        let mut uris = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix(SCHEME),
            _ => None,
        });
        match (uris.next(), uris.next()) {
            (Some(uri), None) => Self::parse(uri),
            _ => None,
        }
    }

    fn parse(uri: &str) -> Option<Self> {
        let mut parts = uri.split('/');
        let peer = Self { cluster: parts.next()?.parse().ok()?, role: parts.next()?.to_owned() };
        let name = parts.next().filter(|name| !name.is_empty());
        (name.is_some() && parts.next().is_none()).then_some(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_identity_is_one() {
        let cluster = "7f3c1a52-5e4e-4b8f-9d0a-0d3b9f1c2e11";
        let peer = Peer::parse(&format!("{cluster}/coordinator/coordinator-1")).unwrap();
        assert_eq!(
            (peer.cluster.to_string().as_str(), peer.role.as_str()),
            (cluster, "coordinator")
        );
        for bad in ["authority", "coordinator/", "coordinator/a/b"] {
            assert_eq!(Peer::parse(&format!("{cluster}/{bad}")), None, "{bad}");
        }
        assert_eq!(Peer::parse("x/coordinator/a"), None);
    }
}
