//! A member's own certificate and private key, with the anchors that it trusts.

use std::fmt;
use std::path::Path;

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::files::{self, FileError};
use crate::identity::{self, Identity, IdentityError};

/// The trust anchors, in a directory of credentials.
pub const ANCHORS_FILE: &str = "ca.pem";
/// The certificate chain, in a directory of credentials.
pub const CERTIFICATE_FILE: &str = "cert.pem";
/// The private key, in a directory of credentials.
pub const KEY_FILE: &str = "key.pem";

/// Certificates in one PEM text: an anchor being replaced by another, and a chain of two.
const CERTIFICATES_MAX: usize = 8;

/// Why credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file could not be read or written.
    #[error("cannot access a file of the credentials")]
    File(#[from] FileError),
    /// A PEM text cannot be read.
    #[error("{file} is not a valid PEM file")]
    Pem {
        /// Which of the three.
        file: &'static str,
        /// What the parser said.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// There must be at least one certificate, and a bounded number.
    #[error("{file} holds {count} certificates, not 1 to {CERTIFICATES_MAX}")]
    CertificateCount {
        /// Which of the three.
        file: &'static str,
        /// How many there are.
        count: usize,
    },
    /// The certificate names no identity.
    #[error("cert.pem names no identity")]
    Identity(#[source] IdentityError),
    /// The first anchor is of another cluster than the certificate.
    #[error("ca.pem and cert.pem belong to different clusters")]
    OtherCluster,
    /// The key does not belong to the certificate.
    #[error("key.pem does not belong to cert.pem")]
    Key(#[source] rustls::Error),
}

/// Identity, chain, key and trust anchors of this member. `Debug` shows the identity only.
pub struct Credentials {
    identity: Identity,
    expires_at_s: i64,
    anchors: Vec<CertificateDer<'static>>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    pem: Pem,
}

#[derive(Clone)]
struct Pem {
    anchors: String,
    chain: String,
    key: String,
}

impl Clone for Credentials {
    fn clone(&self) -> Self {
        Self {
            identity: self.identity.clone(),
            expires_at_s: self.expires_at_s,
            anchors: self.anchors.clone(),
            chain: self.chain.clone(),
            key: self.key.clone_key(),
            pem: self.pem.clone(),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Credentials({})", self.identity)
    }
}

impl Credentials {
    /// Credentials from three PEM texts.
    ///
    /// # Errors
    /// [`CredentialsError`] if one cannot be read or they do not belong together.
    pub fn from_pem(anchors: &str, chain: &str, key: &str) -> Result<Self, CredentialsError> {
        let pem = Pem { anchors: anchors.into(), chain: chain.into(), key: key.into() };
        let anchors = certificates(ANCHORS_FILE, anchors)?;
        let chain = certificates(CERTIFICATE_FILE, chain)?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|source| CredentialsError::Pem { file: KEY_FILE, source })?;
        let identity = Identity::from_certificate(&chain[0]).map_err(CredentialsError::Identity)?;
        let expires_at_s = identity::expires_at_s(&chain[0]).map_err(CredentialsError::Identity)?;
        if identity::cluster_of_authority(&anchors[0]) != Ok(identity.cluster) {
            return Err(CredentialsError::OtherCluster);
        }
        certified(&chain, &key)?;
        Ok(Self { identity, expires_at_s, anchors, chain, key, pem })
    }

    /// Reads `ca.pem`, `cert.pem` and `key.pem`.
    ///
    /// # Errors
    /// As [`Self::from_pem`], or [`CredentialsError::File`].
    pub fn load(directory: &Path) -> Result<Self, CredentialsError> {
        let read = |file: &str| files::read(&directory.join(file));
        Self::from_pem(&read(ANCHORS_FILE)?, &read(CERTIFICATE_FILE)?, &read(KEY_FILE)?)
    }

    /// Writes the three files, each whole or not at all, the key with 0600 and the certificate last: a
    /// directory with a `cert.pem` is complete. (When credentials are replaced and the machine stops between
    /// two files, [`Self::load`] says that key and certificate do not belong together.)
    ///
    /// # Errors
    /// [`CredentialsError::File`].
    pub fn save(&self, directory: &Path) -> Result<(), CredentialsError> {
        files::make_directory(directory)?;
        let write =
            |file: &str, pem: &str, mode| files::write(&directory.join(file), pem.as_bytes(), mode);
        write(KEY_FILE, &self.pem.key, files::SECRET)?;
        write(ANCHORS_FILE, &self.pem.anchors, files::PUBLIC)?;
        Ok(write(CERTIFICATE_FILE, &self.pem.chain, files::PUBLIC)?)
    }

    /// Who this is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// When the certificate expires, in seconds since 1970: others refuse this member from then on.
    pub fn expires_at_s(&self) -> i64 {
        self.expires_at_s
    }

    /// The certificates that this member trusts.
    pub fn anchors(&self) -> &[CertificateDer<'static>] {
        &self.anchors
    }

    /// The certificates that this member shows, its own first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub(crate) fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }

    /// The trust anchors as PEM: what an HTTPS client takes as its CA file.
    pub fn anchors_pem(&self) -> &str {
        &self.pem.anchors
    }

    /// The chain as PEM.
    pub fn chain_pem(&self) -> &str {
        &self.pem.chain
    }

    /// The private key as PEM, for programs that take a client certificate as text.
    pub fn key_pem(&self) -> &str {
        &self.pem.key
    }
}

pub(crate) fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

fn certified(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
) -> Result<CertifiedKey, CredentialsError> {
    CertifiedKey::from_der(chain.to_vec(), key.clone_key(), &provider())
        .map_err(CredentialsError::Key)
}

fn certificates(
    file: &'static str,
    pem: &str,
) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let parsed: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).take(CERTIFICATES_MAX + 1).collect();
    let parsed = parsed.map_err(|source| CredentialsError::Pem { file, source })?;
    match parsed.len() {
        1..=CERTIFICATES_MAX => Ok(parsed),
        count => Err(CredentialsError::CertificateCount { file, count }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::{ClusterAuthority, Grant};
    use crate::identity::Role;
    use novacron_protocol::ids::ClusterId;
    use novacron_protocol::time::Timestamp;

    fn issue(cluster: u128, name: &str) -> Credentials {
        let now = Timestamp::from_unix_ms(1_790_000_000_000);
        let cluster = ClusterId(uuid::Uuid::from_u128(cluster));
        let authority = ClusterAuthority::create(cluster, now).unwrap();
        authority.issue(&Grant::new(Role::Agent, name.parse().unwrap(), now)).unwrap()
    }

    #[test]
    fn they_come_back_from_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let made = issue(1, "node-01");
        made.save(directory.path()).unwrap();
        let loaded = Credentials::load(directory.path()).unwrap();
        assert_eq!(loaded.identity(), made.identity());
        assert_eq!(loaded.chain(), made.chain());
    }

    #[test]
    fn parts_of_different_credentials_are_refused() {
        let (one, two) = (issue(1, "a"), issue(2, "b"));
        let error = |anchors: &Credentials, chain: &Credentials, key: &Credentials| {
            Credentials::from_pem(anchors.anchors_pem(), chain.chain_pem(), key.key_pem())
                .unwrap_err()
        };
        assert!(matches!(error(&two, &one, &one), CredentialsError::OtherCluster));
        assert!(matches!(error(&one, &one, &two), CredentialsError::Key(_)));
    }

    #[test]
    fn broken_texts_are_refused() {
        let made = issue(1, "a");
        let error = |anchors: &str, chain: &str, key: &str| {
            Credentials::from_pem(anchors, chain, key).unwrap_err()
        };
        let (anchors, chain) = (made.anchors_pem(), made.chain_pem());
        assert!(matches!(error(anchors, chain, "no key"), CredentialsError::Pem { .. }));
        assert!(matches!(
            error("", chain, ""),
            CredentialsError::CertificateCount { count: 0, .. }
        ));
        let many = anchors.repeat(9);
        assert!(matches!(error(&many, chain, ""), CredentialsError::CertificateCount { .. }));
        let own = error(anchors, anchors, made.key_pem());
        assert!(matches!(own, CredentialsError::Identity(_)), "{own:?}");
    }

    #[test]
    fn debug_shows_no_key() {
        assert_eq!(format!("{:?}", issue(1, "a")), "Credentials(agent a)");
    }
}
