//! The rustls configurations of the product, all of them: TLS 1.3 only, aws-lc-rs, the cluster's own anchors.
//!
//! | link | ALPN | who proves what |
//! |---|---|---|
//! | members and agents (QUIC) | `dwcp/3` | both ends show a certificate of the cluster; TLS itself refuses a peer without one |
//! | enrolment (QUIC, own socket) | `dwcp-join/3` | the coordinator shows its chain with the authority, which the token pins; the applicant has no certificate yet |
//! | API (HTTPS) | `h2`, `http/1.1` | the client's certificate is optional, so that `/healthz` answers anybody; what is shown must be of the cluster |
//!
//! Enrolment has its own socket rather than its own ALPN beside `dwcp/3`, because a TLS server decides whether
//! a client certificate is mandatory before it knows the ALPN: on one socket the refusal of anonymous peers
//! would be our code instead of the handshake.
//!
//! No sessions are resumed and no early data is taken: links live for days, so a full handshake costs
//! nothing, and every connection has shown its certificate.

mod pinned;

use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig, version};
use rustls_pki_types::CertificateDer;

use crate::authority::Fingerprint;
use crate::credentials::{self, Credentials};
use crate::identity::{Identity, IdentityError};
use pinned::PinnedAuthority;

/// The application protocol of links between members of a cluster.
pub use novacron_protocol::version::ALPN as LINK_ALPN;

/// The application protocol of enrolment.
pub const ENROLMENT_ALPN: &[u8] = b"dwcp-join/3";

/// The application protocols of the API.
pub const HTTPS_ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The name that an applicant sends before it knows the cluster's.
pub(crate) const ENROLMENT_SERVER_NAME: &str = "enrol.novacron.internal";

/// Why a configuration cannot be made: the credentials are unusable.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The credentials do not fit TLS.
    #[error("the credentials cannot be used for TLS")]
    Rustls(#[from] rustls::Error),
    /// The trust anchors do not make a verifier.
    #[error("the trust anchors cannot be used for TLS")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
}

/// A server of links: every client shows a certificate of the cluster.
///
/// # Errors
/// [`TlsError`].
pub fn link_server(credentials: &Credentials) -> Result<ServerConfig, TlsError> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots(credentials)?, provider()).build()?;
    let config = server_builder()?.with_client_cert_verifier(verifier);
    let config =
        config.with_single_cert(credentials.chain().to_vec(), credentials.key().clone_key())?;
    Ok(without_resumption(config, &[LINK_ALPN]))
}

/// A client of links: shows its certificate, verifies that the server belongs to the cluster.
///
/// # Errors
/// [`TlsError`].
pub fn link_client(credentials: &Credentials) -> Result<ClientConfig, TlsError> {
    let verifier =
        WebPkiServerVerifier::builder_with_provider(roots(credentials)?, provider()).build()?;
    let mut config = client_builder()?
        .with_webpki_verifier(verifier)
        .with_client_auth_cert(credentials.chain().to_vec(), credentials.key().clone_key())?;
    config.alpn_protocols = vec![LINK_ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// A server of enrolments: shows its chain with the authority at the end, asks for no certificate.
///
/// # Errors
/// [`TlsError`].
pub fn enrolment_server(credentials: &Credentials) -> Result<ServerConfig, TlsError> {
    let chain = [credentials.chain(), credentials.anchors()].concat();
    let config = server_builder()?
        .with_no_client_auth()
        .with_single_cert(chain, credentials.key().clone_key())?;
    Ok(without_resumption(config, &[ENROLMENT_ALPN]))
}

/// A client of enrolments: trusts the one authority whose fingerprint its token carries.
///
/// # Errors
/// [`TlsError`].
pub fn enrolment_client(authority: Fingerprint) -> Result<ClientConfig, TlsError> {
    let verifier = Arc::new(PinnedAuthority::new(authority, provider()));
    let mut config = client_builder()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![ENROLMENT_ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// A server of the API: a client may show a certificate of the cluster, or none. [`peer_identity`] tells.
///
/// # Errors
/// [`TlsError`].
pub fn https_server(credentials: &Credentials) -> Result<ServerConfig, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(credentials)?, provider())
        .allow_unauthenticated()
        .build()?;
    let config = server_builder()?.with_client_cert_verifier(verifier);
    let config =
        config.with_single_cert(credentials.chain().to_vec(), credentials.key().clone_key())?;
    Ok(without_resumption(config, &HTTPS_ALPN))
}

/// The identity in the chain that a finished handshake reports (`peer_certificates()` of rustls).
///
/// # Errors
/// [`IdentityError::NoCertificate`] if the peer showed none, else whatever is wrong with it.
pub fn peer_identity(chain: Option<&[CertificateDer<'_>]>) -> Result<Identity, IdentityError> {
    let certificate = chain.and_then(<[_]>::first).ok_or(IdentityError::NoCertificate)?;
    Identity::from_certificate(certificate)
}

fn without_resumption(mut config: ServerConfig, alpn: &[&[u8]]) -> ServerConfig {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(credentials::provider())
}

fn roots(credentials: &Credentials) -> Result<Arc<RootCertStore>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    for anchor in credentials.anchors() {
        roots.add(anchor.clone())?;
    }
    Ok(Arc::new(roots))
}

type Builder<Side> = rustls::ConfigBuilder<Side, rustls::WantsVerifier>;

fn server_builder() -> Result<Builder<ServerConfig>, rustls::Error> {
    ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&version::TLS13])
}

fn client_builder() -> Result<Builder<ClientConfig>, rustls::Error> {
    ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&version::TLS13])
}
