//! The certificate authority of one cluster: ECDSA P-256, one self-signed root, no intermediates.
//!
//! It signs public keys only. Nothing that a certificate request asks for is copied into a certificate: the
//! coordinator says who the applicant is ([`Grant`]), the request proves that the applicant has the key.

use std::fmt;
use std::path::Path;

use novacron_protocol::ids::ClusterId;
use novacron_protocol::time::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, ServerName};
use sha2::{Digest, Sha256};
use x509_parser::time::ASN1Time;

use crate::credentials::{Credentials, CredentialsError};
use crate::files::{self, FileError};
use crate::hex;
use crate::identity::{self, Identity, IdentityError, Role, SubjectName};

/// How long the root is valid: ten years. Every certificate of the cluster ends with it.
pub const AUTHORITY_VALIDITY_SECONDS: u64 = 10 * 365 * 86_400;

/// How long a member's certificate is valid unless said: two years.
pub const CERTIFICATE_VALIDITY_SECONDS: u64 = 2 * 365 * 86_400;

/// Certificates begin this much before they are signed, so that a peer whose clock is a little slow accepts them.
pub const CLOCK_SKEW_SECONDS: u64 = 300;

/// Bytes of a certificate request: a P-256 request is about 250.
pub const REQUEST_BYTES_MAX: usize = 4096;

/// Host names and addresses in one certificate.
pub const HOSTS_MAX: usize = 32;

const CERTIFICATE_FILE: &str = "ca.pem";
const KEY_FILE: &str = "ca-key.pem";

/// Why the authority refuses or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file could not be read or written.
    #[error("cannot access a file of the certificate authority")]
    File(#[from] FileError),
    /// Not a PEM certificate.
    #[error("the authority's certificate cannot be read")]
    UnreadableCertificate(#[source] rustls_pki_types::pem::Error),
    /// The certificate is not that of an authority of ours.
    #[error("the authority's certificate names no cluster")]
    NotAnAuthority(#[source] IdentityError),
    /// The key is not a P-256 key, or not the key of the certificate.
    #[error("the authority's key does not belong to its certificate")]
    KeyMismatch,
    /// The key could not be made or read.
    #[error("the authority's key cannot be used")]
    Key(#[source] rcgen::Error),
    /// The request is too long, malformed, or not signed by its own key.
    #[error("the certificate request is not valid")]
    InvalidRequest(#[source] rcgen::Error),
    /// The request is too long.
    #[error("a certificate request of {bytes} bytes is over the limit of {REQUEST_BYTES_MAX}")]
    RequestTooLong {
        /// Bytes that came.
        bytes: usize,
    },
    /// Only P-256 keys are signed.
    #[error("the certificate request must have an ECDSA P-256 key")]
    UnsupportedKey,
    /// Not a host name or address.
    #[error("`{host}` is neither a host name nor an address")]
    InvalidHost {
        /// What was given.
        host: String,
    },
    /// More hosts than a certificate may name.
    #[error("{count} host names are over the limit of {HOSTS_MAX}")]
    TooManyHosts {
        /// How many were given.
        count: usize,
    },
    /// A moment that a certificate cannot say.
    #[error("the certificate's validity cannot be expressed")]
    InvalidValidity,
    /// The certificate could not be signed.
    #[error("cannot sign the certificate")]
    Sign(#[source] rcgen::Error),
    /// The new certificate and key do not make credentials.
    #[error("the new credentials cannot be used")]
    Credentials(#[source] Box<CredentialsError>),
}

/// SHA-256 of the authority's certificate: what a join token pins.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// What the coordinator decided to certify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// What the holder may do.
    pub role: Role,
    /// Which one it is.
    pub name: SubjectName,
    /// Host names and addresses under which HTTPS clients outside the cluster reach a coordinator; empty for
    /// every other role, because members find each other by the cluster's own name.
    pub hosts: Vec<String>,
    /// The moment of signing.
    pub now: Timestamp,
    /// How long it is valid.
    pub validity_seconds: u64,
}

impl Grant {
    /// A certificate of the usual validity without host names.
    pub fn new(role: Role, name: SubjectName, now: Timestamp) -> Self {
        let validity_seconds = CERTIFICATE_VALIDITY_SECONDS;
        Self { role, name, hosts: Vec::new(), now, validity_seconds }
    }

    /// The same with host names and addresses.
    pub fn with_hosts(self, hosts: Vec<String>) -> Self {
        Self { hosts, ..self }
    }
}

/// The authority with its private key.
pub struct ClusterAuthority {
    cluster: ClusterId,
    certificate_pem: String,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for ClusterAuthority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ClusterAuthority({})", self.cluster)
    }
}

impl ClusterAuthority {
    /// Makes the authority of a new cluster.
    ///
    /// # Errors
    /// [`AuthorityError`] if the system has no randomness or `now` is beyond what a certificate can say.
    pub fn create(cluster: ClusterId, now: Timestamp) -> Result<Self, AuthorityError> {
        let key = new_key().map_err(AuthorityError::Key)?;
        let mut parameters = lasting(now, AUTHORITY_VALIDITY_SECONDS)?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        parameters.distinguished_name.push(DnType::CommonName, format!("NovaCron {cluster}"));
        parameters.subject_alt_names = vec![uri(&identity::authority_uri(cluster))?];
        let certificate = parameters.self_signed(&key).map_err(AuthorityError::Sign)?;
        Self::from_pem(&certificate.pem(), &key.serialize_pem())
    }

    /// The authority in two PEM texts.
    ///
    /// # Errors
    /// [`AuthorityError`] if they cannot be read, do not belong together or name no cluster.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, AuthorityError> {
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(AuthorityError::UnreadableCertificate)?;
        let cluster =
            identity::cluster_of_authority(&certificate).map_err(AuthorityError::NotAnAuthority)?;
        let key = KeyPair::from_pem(key_pem).map_err(AuthorityError::Key)?;
        if !is_key_of(&key, &certificate) {
            return Err(AuthorityError::KeyMismatch);
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(AuthorityError::Key)?;
        let certificate_pem = certificate_pem.to_owned();
        Ok(Self { cluster, certificate_pem, certificate, issuer })
    }

    /// Reads `ca.pem` and `ca-key.pem`.
    ///
    /// # Errors
    /// As [`Self::from_pem`], or [`AuthorityError::File`].
    pub fn load(directory: &Path) -> Result<Self, AuthorityError> {
        let certificate_pem = files::read(&directory.join(CERTIFICATE_FILE))?;
        Self::from_pem(&certificate_pem, &files::read(&directory.join(KEY_FILE))?)
    }

    /// Writes `ca-key.pem` (0600), then `ca.pem`, each whole or not at all.
    ///
    /// # Errors
    /// [`AuthorityError::File`].
    pub fn save(&self, directory: &Path) -> Result<(), AuthorityError> {
        files::make_directory(directory)?;
        files::write(&directory.join(KEY_FILE), self.key_pem().as_bytes(), files::SECRET)?;
        let certificate = self.certificate_pem.as_bytes();
        Ok(files::write(&directory.join(CERTIFICATE_FILE), certificate, files::PUBLIC)?)
    }

    /// The cluster whose authority this is.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// What a join token pins.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// The trust anchors of the cluster as PEM.
    pub fn bundle_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The private key as PEM: for another coordinator at its enrolment, and for a backup of the cluster.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Signs the key of a certificate request and returns the certificate as PEM.
    ///
    /// # Errors
    /// [`AuthorityError`] if the request does not prove that its sender holds a P-256 key, or the grant cannot
    /// be written as a certificate.
    pub fn sign(&self, request_der: &[u8], grant: &Grant) -> Result<String, AuthorityError> {
        if request_der.len() > REQUEST_BYTES_MAX {
            return Err(AuthorityError::RequestTooLong { bytes: request_der.len() });
        }
        let request = CertificateSigningRequestDer::from(request_der);
        let request = CertificateSigningRequestParams::from_der(&request)
            .map_err(AuthorityError::InvalidRequest)?;
        if *request.public_key.algorithm() != PKCS_ECDSA_P256_SHA256 {
            return Err(AuthorityError::UnsupportedKey);
        }
        self.sign_key(&request.public_key, grant)
    }

    /// Makes a key and its certificate on the spot: for the first coordinator and for operators.
    ///
    /// # Errors
    /// As [`Self::sign`].
    pub fn issue(&self, grant: &Grant) -> Result<Credentials, AuthorityError> {
        let key = new_key().map_err(AuthorityError::Key)?;
        let certificate = self.sign_key(&key, grant)?;
        Credentials::from_pem(self.bundle_pem(), &certificate, &key.serialize_pem())
            .map_err(|source| AuthorityError::Credentials(Box::new(source)))
    }

    fn sign_key(&self, key: &impl PublicKeyData, grant: &Grant) -> Result<String, AuthorityError> {
        let parameters = member_parameters(self.cluster, grant)?;
        let certificate = parameters.signed_by(key, &self.issuer).map_err(AuthorityError::Sign)?;
        Ok(certificate.pem())
    }
}

/// A new private key of the kind that the authority signs.
pub(crate) fn new_key() -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
}

/// A certificate request that says nothing but the key: who the applicant is, the authority decides.
pub(crate) fn request_der(key: &KeyPair) -> Result<Vec<u8>, rcgen::Error> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    Ok(parameters.serialize_request(key)?.der().to_vec())
}

fn member_parameters(
    cluster: ClusterId,
    grant: &Grant,
) -> Result<CertificateParams, AuthorityError> {
    let identity = Identity { cluster, role: grant.role, name: grant.name.clone() };
    let mut parameters = lasting(grant.now, grant.validity_seconds)?;
    parameters.is_ca = IsCa::ExplicitNoCa;
    parameters.use_authority_key_identifier_extension = true;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    parameters.distinguished_name.push(DnType::CommonName, identity.to_string());
    parameters.subject_alt_names = vec![uri(&identity.uri())?];
    if grant.role.may_serve() {
        parameters.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        parameters.subject_alt_names.push(host(&identity::server_name(cluster))?);
    }
    parameters.subject_alt_names.extend(hosts(&grant.hosts)?);
    Ok(parameters)
}

fn lasting(now: Timestamp, validity_seconds: u64) -> Result<CertificateParams, AuthorityError> {
    let now_seconds = now.unix_ms / 1000;
    let moment = |unix_seconds: u64| {
        let seconds = i64::try_from(unix_seconds).map_err(|_| AuthorityError::InvalidValidity)?;
        ASN1Time::from_timestamp(seconds)
            .map(|time| time.to_datetime())
            .map_err(|_| AuthorityError::InvalidValidity)
    };
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.not_before = moment(now_seconds.saturating_sub(CLOCK_SKEW_SECONDS))?;
    parameters.not_after = moment(now_seconds.saturating_add(validity_seconds))?;
    parameters.serial_number = Some(serial_number());
    Ok(parameters)
}

/// Sixteen random bytes; the first is kept in 1..=0x7f, because a serial number is positive and RFC 5280
/// allows at most 20 bytes.
fn serial_number() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::random();
    bytes[0] = bytes[0] & 0x7f | 1;
    SerialNumber::from_slice(&bytes)
}

fn uri(text: &str) -> Result<SanType, AuthorityError> {
    text.try_into().map(SanType::URI).map_err(AuthorityError::Sign)
}

fn hosts(hosts: &[String]) -> Result<Vec<SanType>, AuthorityError> {
    if hosts.len() > HOSTS_MAX {
        return Err(AuthorityError::TooManyHosts { count: hosts.len() });
    }
    hosts.iter().map(|name| host(name)).collect()
}

fn host(name: &str) -> Result<SanType, AuthorityError> {
    let invalid = || AuthorityError::InvalidHost { host: name.chars().take(256).collect() };
    match ServerName::try_from(name).map_err(|_| invalid())? {
        ServerName::IpAddress(address) => Ok(SanType::IpAddress(address.into())),
        _ => name.try_into().map(SanType::DnsName).map_err(|_| invalid()),
    }
}

fn is_key_of(key: &KeyPair, certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return false };
    parsed.public_key().raw == key.subject_public_key_info()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const NOW: Timestamp = Timestamp { unix_ms: 1_790_000_000_000 };

    fn authority() -> ClusterAuthority {
        ClusterAuthority::create(ClusterId(uuid::Uuid::from_u128(7)), NOW).unwrap()
    }

    fn grant(role: Role) -> Grant {
        Grant::new(role, "one".parse().unwrap(), NOW)
    }

    #[test]
    fn it_is_the_same_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let made = authority();
        made.save(directory.path()).unwrap();
        let loaded = ClusterAuthority::load(directory.path()).unwrap();
        assert_eq!(loaded.cluster(), made.cluster());
        assert_eq!(loaded.fingerprint(), made.fingerprint());
        let mode = std::fs::metadata(directory.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn the_key_of_another_authority_is_refused() {
        let error = ClusterAuthority::from_pem(authority().bundle_pem(), &authority().key_pem())
            .unwrap_err();
        assert!(matches!(error, AuthorityError::KeyMismatch));
    }

    #[test]
    fn a_request_decides_nothing_but_the_key() {
        let key = new_key().unwrap();
        let mut greedy = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
        greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let request = greedy.serialize_request(&key).unwrap();
        let authority = authority();
        let pem = authority.sign(request.der(), &grant(Role::Agent)).unwrap();
        let credentials =
            Credentials::from_pem(authority.bundle_pem(), &pem, &key.serialize_pem()).unwrap();
        assert_eq!(credentials.identity().role, Role::Agent);
        let (_, parsed) = x509_parser::parse_x509_certificate(&credentials.chain()[0]).unwrap();
        assert!(!parsed.is_ca());
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        assert!(!format!("{:?}", names.value).contains("evil"));
    }

    #[test]
    fn bad_requests_are_refused() {
        let authority = authority();
        let refuse = |der: &[u8]| authority.sign(der, &grant(Role::Agent)).unwrap_err();
        assert!(matches!(refuse(&[0x30; 20]), AuthorityError::InvalidRequest(_)));
        assert!(matches!(refuse(&[0; 5000]), AuthorityError::RequestTooLong { bytes: 5000 }));
        let mut forged = request_der(&new_key().unwrap()).unwrap();
        *forged.last_mut().unwrap() ^= 1;
        assert!(matches!(refuse(&forged), AuthorityError::InvalidRequest(_)));
        let other = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        assert!(matches!(refuse(&request_der(&other).unwrap()), AuthorityError::UnsupportedKey));
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        let issue = |hosts: &[&str]| {
            let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
            authority().issue(&grant(Role::Coordinator).with_hosts(hosts))
        };
        assert!(issue(&["localhost", "127.0.0.1", "::1", "c1.example"]).is_ok());
        assert!(matches!(issue(&["a b"]), Err(AuthorityError::InvalidHost { .. })));
        assert!(matches!(issue(&["a"; 33]), Err(AuthorityError::TooManyHosts { count: 33 })));
    }
}
