//! The coordinator's side.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use novacron_protocol::time::Timestamp;
use novacron_protocol::wire::codec::{self, CodecError, Message};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::wire::{EnrolRequest, EnrolResponse, Enrolment, Refusal, RefusalCode};
use crate::accept::{self, Admission, Gate, Refused};
use crate::authority::{AuthorityError, ClusterAuthority, Grant};
use crate::connection::{self, CloseCode};
use crate::counters::Counters;
use crate::credentials::Credentials;
use crate::endpoint::{self, EndpointError};
use crate::frames::{FrameError, FramedRecv, FramedSend};
use crate::identity::{Role, SubjectName};
use crate::settings::LinkSettings;
use crate::tls;
use crate::token::{TokenId, TokenRecord};

/// Exchanges at once; each may wait for a commit.
const EXCHANGES_MAX: usize = 16;

/// How long an applicant may take to ask, and to take the answer.
const APPLICANT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the cluster may take to decide; less than the applicant waits.
const DECISION_TIMEOUT: Duration = Duration::from_secs(12);

/// A token that is to be spent: what the cluster has to record, all or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redemption {
    /// The token, whose proof has been verified.
    pub token: TokenId,
    /// The role that it gives.
    pub role: Role,
    /// The name that it gives.
    pub name: SubjectName,
}

/// What enrolment needs of the coordinator: its tokens and its clock.
pub trait EnrolDecider: Send + Sync + 'static {
    /// The moment: for expiry and for the certificate's validity.
    fn now(&self) -> Timestamp;

    /// Addresses of the coordinators' links; a few, for the answer is bounded.
    fn contacts(&self) -> Vec<String>;

    /// What the cluster knows of a token. A slightly old answer does no harm: [`Self::redeem`] decides.
    fn token(
        &self,
        id: TokenId,
    ) -> impl Future<Output = Result<Option<TokenRecord>, Refusal>> + Send;

    /// Spends the token. Must return `Ok` only once the quorum has committed that this call was the one that
    /// spent it, and must check again what may have changed: used, expired, name taken.
    fn redeem(&self, redemption: Redemption) -> impl Future<Output = Result<(), Refusal>> + Send;
}

/// The socket where applicants come.
#[derive(Debug)]
pub struct EnrolmentServer {
    quic: quinn::Endpoint,
    settings: LinkSettings,
    credentials: Credentials,
    authority: Arc<ClusterAuthority>,
    counters: Arc<Counters>,
}

impl EnrolmentServer {
    /// Binds `address`. By convention the UDP port of the same number as the API's TCP port, so that `join`
    /// needs one address only.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub fn bind(
        address: SocketAddr,
        credentials: &Credentials,
        authority: Arc<ClusterAuthority>,
    ) -> Result<Self, EndpointError> {
        let settings = LinkSettings::enrolment();
        let server = endpoint::server_config(tls::enrolment_server(credentials)?, &settings)?;
        let quic = endpoint::bind(address, None, Some(server), &settings)?;
        let credentials = credentials.clone();
        Ok(Self { quic, settings, credentials, authority, counters: Arc::default() })
    }

    /// The bound address.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.quic.local_addr()
    }

    /// What has been granted and refused here.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Serves applicants until `stop` is ready. When it returns, every exchange has ended: one that was under
    /// way has been finished or, after its deadlines, given up.
    pub async fn serve<D: EnrolDecider>(self, decider: Arc<D>, stop: impl Future<Output = ()>) {
        let (output, mut applicants) = mpsc::channel(self.settings.accept_backlog_max);
        let gate = Gate {
            admission: Applicants,
            settings: self.settings.clone(),
            counters: Arc::clone(&self.counters),
        };
        let acceptor = tokio::spawn(accept::run(self.quic.clone(), gate, output));
        let desk = Arc::new(Desk {
            decider,
            authority: self.authority,
            anchors_pem: self.credentials.anchors_pem().to_owned(),
            counters: self.counters,
        });
        let mut exchanges = JoinSet::new();
        tokio::pin!(stop);
        loop {
            // Shutdown first; then finished exchanges, which make room for the next.
            tokio::select! {
                biased;
                () = &mut stop => break,
                Some(_) = exchanges.join_next() => {}
                applicant = applicants.recv(), if exchanges.len() < EXCHANGES_MAX => match applicant {
                    Some(quic) => drop(exchanges.spawn(Arc::clone(&desk).serve(quic))),
                    None => break,
                },
            }
        }
        drop(applicants);
        while exchanges.join_next().await.is_some() {}
        connection::close_all(&self.quic, CloseCode::Done, "the coordinator stops");
        // A panic in the acceptor has been reported by the panic hook; there is nothing left to stop.
        let _ = acceptor.await;
        self.quic.wait_idle().await;
    }
}

/// Lets anybody in who speaks the protocol: who they are, the exchange finds out.
struct Applicants;

impl Admission for Applicants {
    type Admitted = quinn::Connection;

    fn admit(&self, quic: quinn::Connection) -> Result<quinn::Connection, Refused> {
        if endpoint::protocol(&quic).as_deref() == Some(tls::ENROLMENT_ALPN) {
            return Ok(quic);
        }
        let reason = "dwcp-join/3 expected".to_owned();
        Err(Refused { quic, code: CloseCode::BadProtocol, reason })
    }
}

/// Where one applicant is served.
struct Desk<D> {
    decider: Arc<D>,
    authority: Arc<ClusterAuthority>,
    anchors_pem: String,
    counters: Arc<Counters>,
}

impl<D: EnrolDecider> Desk<D> {
    async fn serve(self: Arc<Self>, quic: quinn::Connection) {
        if let Err(error) = self.exchange(&quic).await {
            let cause = &error as &dyn std::error::Error;
            tracing::info!(applicant = %quic.remote_address(), error = cause, "enrolment broken off");
            let code = error.close_code();
            if code == CloseCode::BadFrame {
                self.counters.violations.increment();
            }
            connection::close(&quic, code, &error.to_string());
        }
    }

    async fn exchange(&self, quic: &quinn::Connection) -> Result<(), Broken> {
        let (send, bytes) = timeout(APPLICANT_TIMEOUT, receive(quic)).await??;
        let response = match timeout(DECISION_TIMEOUT, self.decide(quic, &bytes)).await {
            Ok(Ok(enrolment)) => EnrolResponse::Granted(enrolment),
            Ok(Err(refusal)) => EnrolResponse::Refused(refusal),
            Err(_) => EnrolResponse::Refused(undecided()),
        };
        self.record(quic, &response);
        timeout(APPLICANT_TIMEOUT, reply(quic, send, &response)).await?
    }

    async fn decide(&self, quic: &quinn::Connection, bytes: &[u8]) -> Result<Enrolment, Refusal> {
        let request: EnrolRequest = codec::decode(bytes)
            .map_err(|error| Refusal::new(RefusalCode::RequestInvalid, error.to_string()))?;
        let unbound = |_| Refusal::new(RefusalCode::Unavailable, "the connection is closing");
        let binding = super::channel_binding(quic).map_err(unbound)?;
        let now = self.decider.now();
        let unknown = || Refusal::new(RefusalCode::TokenInvalid, "the join token is not valid");
        let record = self.decider.token(request.token).await?.ok_or_else(unknown)?;
        record.admit(&request.proof, &request.claim(&binding), now)?;
        let grant = grant(&request, now);
        // Signing is tried before the token is spent, so that a request that cannot be signed costs no token;
        // the certificate leaves this function only after the token is spent.
        let chain_pem = self.authority.sign(&request.request_der, &grant).map_err(unsigned)?;
        let Grant { role, name, .. } = grant;
        self.decider.redeem(Redemption { token: request.token, role, name }).await?;
        let authority_key_pem = (role == Role::Coordinator).then(|| self.authority.key_pem());
        let (anchors_pem, contacts) = (self.anchors_pem.clone(), self.decider.contacts());
        Ok(Enrolment { chain_pem, anchors_pem, authority_key_pem, contacts })
    }

    fn record(&self, quic: &quinn::Connection, response: &EnrolResponse) {
        let applicant = quic.remote_address();
        match response {
            EnrolResponse::Granted(_) => {
                self.counters.enrolments_granted.increment();
                tracing::info!(%applicant, "enrolment granted");
            }
            EnrolResponse::Refused(refusal) => {
                self.counters.enrolment_refused(refusal.code);
                tracing::warn!(%applicant, code = ?refusal.code, %refusal, "enrolment refused");
            }
        }
    }
}

/// Host names are for coordinators, whom HTTPS clients verify by name; an agent's certificate with the name of
/// a coordinator's host would let the agent pass for the API.
fn grant(request: &EnrolRequest, now: Timestamp) -> Grant {
    let grant = Grant::new(request.role, request.name.clone(), now);
    match request.role {
        Role::Coordinator => grant.with_hosts(request.hosts.clone()),
        Role::Agent | Role::Operator | Role::Partner => grant,
    }
}

fn unsigned(error: AuthorityError) -> Refusal {
    Refusal::new(RefusalCode::RequestInvalid, error.to_string())
}

fn undecided() -> Refusal {
    Refusal::new(RefusalCode::Unavailable, "the cluster could not decide in time")
}

/// Why an exchange ended without an answer.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the applicant's frame cannot be used")]
    Frame(#[from] FrameError),
    #[error("the applicant asked nothing")]
    NoRequest,
    #[error("the applicant is gone")]
    Lost(#[from] quinn::ConnectionError),
    #[error("the applicant is too slow")]
    TimedOut,
    #[error("the answer cannot be written")]
    Answer(#[from] CodecError),
}

impl Broken {
    fn close_code(&self) -> CloseCode {
        match self {
            Broken::Frame(FrameError::Stream(_)) | Broken::Lost(_) => CloseCode::Done,
            Broken::Frame(_) | Broken::NoRequest => CloseCode::BadFrame,
            Broken::TimedOut => CloseCode::TimedOut,
            Broken::Answer(_) => CloseCode::BadMessage,
        }
    }
}

impl From<tokio::time::error::Elapsed> for Broken {
    fn from(_: tokio::time::error::Elapsed) -> Self {
        Broken::TimedOut
    }
}

async fn receive(quic: &quinn::Connection) -> Result<(quinn::SendStream, Bytes), Broken> {
    let (send, stream) = quic.accept_bi().await?;
    let mut frames = FramedRecv::new(stream, EnrolRequest::BYTES_MAX);
    let request = frames.receive().await?.ok_or(Broken::NoRequest)?;
    Ok((send, request))
}

/// Sends the answer and waits until the applicant has closed the connection, which says that it has it.
async fn reply(
    quic: &quinn::Connection,
    send: quinn::SendStream,
    response: &EnrolResponse,
) -> Result<(), Broken> {
    let bytes = codec::encode(response)?;
    let mut send = FramedSend::new(send, EnrolResponse::BYTES_MAX);
    send.send(Bytes::from(bytes)).await?;
    send.finish().await?;
    quic.closed().await;
    Ok(())
}
