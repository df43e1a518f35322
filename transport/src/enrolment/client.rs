//! The applicant's side.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use novacron_protocol::wire::codec::{self, CodecError, Message};
use rcgen::KeyPair;
use tokio::time::timeout;

use super::wire::{EnrolRequest, EnrolResponse, Enrolment, Refusal};
use crate::authority::{self, AuthorityError, ClusterAuthority, Fingerprint};
use crate::connection::{self, CloseCode, Closed};
use crate::credentials::{Credentials, CredentialsError};
use crate::endpoint::{self, ConnectError, EndpointError};
use crate::frames::{FrameError, FramedRecv, FramedSend};
use crate::identity::{ExpectedPeer, IdentityError, Role, SubjectName};
use crate::settings::LinkSettings;
use crate::tls::{self, TlsError};
use crate::token::{JoinToken, Proof};

/// How long the coordinator may take: a commit by the quorum, elections included.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The coordinator cannot be reached, or is not of the cluster that the token names.
    #[error("cannot reach the coordinator")]
    Connect(#[from] ConnectError),
    /// The socket cannot be made.
    #[error("cannot open a socket")]
    Endpoint(#[from] EndpointError),
    /// The cluster says no. A used or expired token needs a new one.
    #[error("the cluster refused the enrolment")]
    Refused(#[source] Refusal),
    /// The connection ended before the answer. The token may have been spent.
    #[error("the connection ended before the answer")]
    Closed(#[from] Closed),
    /// The answer did not come whole. The token may have been spent.
    #[error("the answer did not come")]
    Frame(#[from] FrameError),
    /// No answer in time. The token may have been spent.
    #[error("no answer within {} s", ANSWER_TIMEOUT.as_secs())]
    TimedOut,
    /// The answer makes no sense: another version, perhaps.
    #[error("the answer cannot be read")]
    Codec(#[from] CodecError),
    /// A key could not be made.
    #[error("cannot make a key")]
    Key(#[source] rcgen::Error),
    /// The certificate that came is unusable.
    #[error("the credentials that came cannot be used")]
    Credentials(#[from] CredentialsError),
    /// The certificate that came is somebody else's.
    #[error("the certificate that came is not the one asked for")]
    WrongIdentity(#[source] IdentityError),
    /// The authority that came is not the one that the token pins.
    #[error("the authority that came is not the one of the token")]
    WrongAuthority,
    /// The authority's key that came is unusable.
    #[error("the authority that came cannot be used")]
    Authority(#[from] AuthorityError),
}

impl From<TlsError> for EnrolError {
    fn from(error: TlsError) -> Self {
        EnrolError::Endpoint(error.into())
    }
}

/// What a successful enrolment gives.
#[derive(Debug)]
pub struct Enrolled {
    /// Own identity, certificate and key; to be saved at once, because the token is spent.
    pub credentials: Credentials,
    /// The authority with its key: for coordinators only, who enrol others from now on.
    pub authority: Option<ClusterAuthority>,
    /// Addresses of the coordinators' links.
    pub contacts: Vec<String>,
}

/// Makes a key and turns `token` into credentials for it at the coordinator at `address`.
///
/// `hosts` are the names and addresses under which HTTPS clients reach this machine; they matter to
/// coordinators only. Not cancel-safe: a dropped future may have spent the token.
///
/// # Errors
/// [`EnrolError`].
pub async fn enrol(
    address: SocketAddr,
    token: &JoinToken,
    role: Role,
    name: &SubjectName,
    hosts: &[String],
) -> Result<Enrolled, EnrolError> {
    let settings = LinkSettings::enrolment();
    let client = endpoint::client_config(tls::enrolment_client(token.authority())?, &settings)?;
    let local = endpoint::bind(any_port(address), None, None, &settings)?;
    let server_name = tls::ENROLMENT_SERVER_NAME;
    let quic = endpoint::dial(&local, client, address, server_name, &settings).await?;
    let outcome = apply(&quic, address, token, &Wish { role, name, hosts }).await;
    connection::close_all(&local, CloseCode::Done, "");
    local.wait_idle().await;
    outcome
}

/// What the applicant wants to be.
struct Wish<'a> {
    role: Role,
    name: &'a SubjectName,
    hosts: &'a [String],
}

async fn apply(
    quic: &quinn::Connection,
    address: SocketAddr,
    token: &JoinToken,
    wish: &Wish<'_>,
) -> Result<Enrolled, EnrolError> {
    require_coordinator(quic).map_err(|source| ConnectError::WrongPeer { address, source })?;
    let key = authority::new_key().map_err(EnrolError::Key)?;
    let request = request(quic, token, wish, &key)?;
    let answer = timeout(ANSWER_TIMEOUT, exchange(quic, &request)).await;
    match answer.map_err(|_| EnrolError::TimedOut)?? {
        EnrolResponse::Granted(enrolment) => accept(&enrolment, token, wish, &key),
        EnrolResponse::Refused(refusal) => Err(EnrolError::Refused(refusal)),
    }
}

/// An agent's certificate is of the cluster too, but an agent has no business with tokens.
fn require_coordinator(quic: &quinn::Connection) -> Result<(), IdentityError> {
    ExpectedPeer::any(Role::Coordinator).check(&endpoint::peer_identity(quic)?)
}

fn request(
    quic: &quinn::Connection,
    token: &JoinToken,
    wish: &Wish<'_>,
    key: &KeyPair,
) -> Result<EnrolRequest, EnrolError> {
    let request_der = authority::request_der(key).map_err(EnrolError::Key)?;
    let mut request = EnrolRequest {
        token: token.id(),
        proof: Proof([0; 32]),
        role: wish.role,
        name: wish.name.clone(),
        hosts: wish.hosts.to_vec(),
        request_der,
    };
    let channel_binding = super::channel_binding(quic)?;
    request.proof = token.prove(&request.claim(&channel_binding));
    Ok(request)
}

async fn exchange(
    quic: &quinn::Connection,
    request: &EnrolRequest,
) -> Result<EnrolResponse, EnrolError> {
    let (send, receive) = quic.open_bi().await.map_err(Closed::from)?;
    let bytes = Bytes::from(codec::encode(request)?);
    let mut send = FramedSend::new(send, EnrolRequest::BYTES_MAX);
    send.send(bytes).await?;
    send.finish().await?;
    let mut receive = FramedRecv::new(receive, EnrolResponse::BYTES_MAX);
    let bytes = receive.receive().await?.ok_or(FrameError::CutOff { bytes: 0 })?;
    Ok(codec::decode(&bytes)?)
}

/// Takes nothing on trust that can be compared: authority, identity, and the key of the certificate.
fn accept(
    enrolment: &Enrolment,
    token: &JoinToken,
    wish: &Wish<'_>,
    key: &KeyPair,
) -> Result<Enrolled, EnrolError> {
    let (anchors, key_pem) = (&enrolment.anchors_pem, key.serialize_pem());
    let credentials = Credentials::from_pem(anchors, &enrolment.chain_pem, &key_pem)?;
    if Fingerprint::of(&credentials.anchors()[0]) != token.authority() {
        return Err(EnrolError::WrongAuthority);
    }
    ExpectedPeer::named(wish.role, wish.name.clone())
        .check(credentials.identity())
        .map_err(EnrolError::WrongIdentity)?;
    let authority = enrolment.authority_key_pem.as_deref();
    let authority = authority.map(|key| ClusterAuthority::from_pem(anchors, key)).transpose()?;
    Ok(Enrolled { credentials, authority, contacts: enrolment.contacts.clone() })
}

fn any_port(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}
