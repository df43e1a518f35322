//! A credential directory (`ca.pem`, `cert.pem`, `key.pem`) as a TLS configuration, or an API key and whom to trust
//! with it.

use std::path::Path;
use std::sync::Arc;

use http::HeaderValue;
use novacron_protocol::ids::ClusterId;
use rustls::client::WantsClientCert;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::Config;
use crate::error::ConfigError;
use crate::peer::{Peer, authority_of};

/// What a connection needs: how to speak TLS, and whose members to speak to.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    /// TLS 1.3, the cluster's authority as the only root, the client's certificate.
    pub tls: Arc<ClientConfig>,
    /// The cluster that the client's certificate belongs to.
    pub cluster: ClusterId,
    /// What the header `Authorization` says, if there is an API key. `Debug` leaves it out.
    pub bearer: Option<HeaderValue>,
}

impl Credentials {
    /// Reads what a configuration names.
    pub(crate) fn of(config: &Config) -> Result<Self, ConfigError> {
        match &config.api_key_file {
            Some(file) => Self::with_key(&config.credentials, file),
            None => Self::read(&config.credentials),
        }
    }

    /// An API key, and of the credential directory only whom to trust.
    fn with_key(directory: &Path, file: &Path) -> Result<Self, ConfigError> {
        let path = directory.join("ca.pem");
        let roots = certificates(&path)?;
        let cluster = roots.first().and_then(authority_of);
        let cluster =
            cluster.ok_or_else(|| malformed(&path, "not the authority of a NovaCron cluster"))?;
        let config = builder(roots).map_err(|error| invalid(directory, error.to_string()))?;
        let tls = with_protocol(config.with_no_client_auth());
        Ok(Self { tls: Arc::new(tls), cluster, bearer: Some(bearer(file)?) })
    }

    /// Reads a credential directory.
    fn read(directory: &Path) -> Result<Self, ConfigError> {
        let invalid = |problem: String| invalid(directory, problem);
        let roots = certificates(&directory.join("ca.pem"))?;
        let chain = certificates(&directory.join("cert.pem"))?;
        let key = private_key(&directory.join("key.pem"))?;
        let peer = chain.first().and_then(Peer::of);
        let peer = peer.ok_or_else(|| invalid("cert.pem names no member of a cluster".into()))?;
        let builder = builder(roots).map_err(|error| invalid(error.to_string()))?;
        let tls = builder.with_client_auth_cert(chain, key);
        let tls = with_protocol(tls.map_err(|error| invalid(error.to_string()))?);
        Ok(Self { tls: Arc::new(tls), cluster: peer.cluster, bearer: None })
    }
}

fn builder(
    roots: Vec<CertificateDer<'static>>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, rustls::Error> {
    let mut store = RootCertStore::empty();
    roots.into_iter().try_for_each(|root| store.add(root))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    Ok(builder.with_root_certificates(store))
}

fn with_protocol(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// The key in a file, which is never shown: not in an error either.
fn bearer(file: &Path) -> Result<HeaderValue, ConfigError> {
    let bytes = read(file)?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default().trim();
    let is_key = text.starts_with("nck_") && text.bytes().all(|byte| byte.is_ascii_graphic());
    let header = is_key.then(|| HeaderValue::from_str(&format!("Bearer {text}")).ok()).flatten();
    let mut header = header.ok_or_else(|| {
        malformed(file, "no API key in it: expected nck_<id>_<secret> as printed when it was made")
    })?;
    header.set_sensitive(true);
    Ok(header)
}

fn invalid(directory: &Path, problem: String) -> ConfigError {
    ConfigError::Credentials { directory: directory.to_owned(), problem }
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
