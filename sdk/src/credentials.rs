//! A credential directory (`ca.pem`, `cert.pem`, `key.pem`) as a TLS configuration.

use std::path::Path;
use std::sync::Arc;

use novacron_protocol::ids::ClusterId;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::ConfigError;
use crate::peer::Peer;

/// What a connection needs: how to speak TLS, and whose members to speak to.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    /// TLS 1.3, the cluster's authority as the only root, the client's certificate.
    pub tls: Arc<ClientConfig>,
    /// The cluster that the client's certificate belongs to.
    pub cluster: ClusterId,
}

impl Credentials {
    /// Reads a credential directory.
    pub(crate) fn read(directory: &Path) -> Result<Self, ConfigError> {
        let invalid =
            |problem: String| ConfigError::Credentials { directory: directory.to_owned(), problem };
        let roots = certificates(&directory.join("ca.pem"))?;
        let chain = certificates(&directory.join("cert.pem"))?;
        let key = private_key(&directory.join("key.pem"))?;
        let peer = chain.first().and_then(Peer::of);
        let peer = peer.ok_or_else(|| invalid("cert.pem names no member of a cluster".into()))?;
        let tls = tls_config(roots, chain, key).map_err(|error| invalid(error.to_string()))?;
        Ok(Self { tls: Arc::new(tls), cluster: peer.cluster })
    }
}

fn tls_config(
    roots: Vec<CertificateDer<'static>>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, rustls::Error> {
    let mut store = RootCertStore::empty();
    roots.into_iter().try_for_each(|root| store.add(root))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(store)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    match parsed {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) | Err(_) => Err(malformed(path, "no certificate in it, or a damaged one")),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, ConfigError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| malformed(path, "no private key in it"))
}

fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })
}

fn malformed(path: &Path, problem: &str) -> ConfigError {
    ConfigError::Malformed { path: path.to_owned(), problem: problem.to_owned() }
}
