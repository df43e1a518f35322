//! Reaching the coordinator that leads, for as long as the agent lives.

use std::net::SocketAddr;
use std::time::Duration;

use novacron_transport::endpoint::{ConnectError, EndpointError};
use novacron_transport::{Connection, Credentials, Endpoint, ExpectedPeer, LinkSettings, Role};
use tokio_util::sync::CancellationToken;

use super::candidates::{Candidates, Next};
use super::session::{SessionContext, SessionError};
use crate::reason::reason;

/// Why a coordinator could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Its name says nothing.
    #[error("{address} has no address")]
    Unknown {
        /// What was configured or learned.
        address: String,
        /// What the resolver said.
        #[source]
        source: std::io::Error,
    },
    /// There is no socket.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// It does not answer.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// Dials coordinators.
#[derive(Debug)]
pub struct Dialer {
    credentials: Credentials,
    /// One socket for each family of addresses, made when it is first needed: a host may have only one.
    ipv4: Option<Endpoint>,
    ipv6: Option<Endpoint>,
}

impl Dialer {
    /// A dialer that shows these credentials.
    pub fn new(credentials: Credentials) -> Self {
        Self { credentials, ipv4: None, ipv6: None }
    }

    /// Connects to the coordinator at `address`, `host:port`.
    ///
    /// # Errors
    /// [`DialError`].
    pub async fn dial(&mut self, address: &str) -> Result<Connection, DialError> {
        let socket_address = resolve(address).await?;
        let endpoint = self.endpoint(socket_address)?;
        let expected = ExpectedPeer::any(Role::Coordinator);
        Ok(endpoint.connect(socket_address, &expected).await?)
    }

    fn endpoint(&mut self, address: SocketAddr) -> Result<&Endpoint, EndpointError> {
        let (slot, any) = match address {
            SocketAddr::V4(_) => (&mut self.ipv4, SocketAddr::from(([0; 4], 0))),
            SocketAddr::V6(_) => (&mut self.ipv6, SocketAddr::from(([0_u16; 8], 0))),
        };
        match slot {
            Some(endpoint) => Ok(endpoint),
            None => {
                let made = Endpoint::client(any, &self.credentials, LinkSettings::control())?;
                Ok(slot.insert(made))
            }
        }
    }
}

/// The first address of a name.
///
/// # Errors
/// [`DialError::Unknown`].
pub async fn resolve(address: &str) -> Result<SocketAddr, DialError> {
    let unknown = |source| DialError::Unknown { address: address.to_owned(), source };
    let mut found = tokio::net::lookup_host(address).await.map_err(unknown)?;
    found.next().ok_or_else(|| unknown(std::io::Error::other("the resolver answered with nothing")))
}

/// Keeps a session with whichever coordinator leads until `shutdown`.
pub async fn run(
    context: SessionContext,
    credentials: Credentials,
    configured: &[String],
    shutdown: CancellationToken,
) {
    let mut dialer = Dialer::new(credentials);
    let mut candidates = Candidates::new(configured);
    let mut last_problem = String::new();
    let work = async {
        loop {
            match candidates.next_step() {
                Next::Pause(pause) => tokio::time::sleep(with_jitter(pause)).await,
                Next::Dial(address) => {
                    let problem = attempt(&context, &mut dialer, &mut candidates, &address).await;
                    // Told when it changes: a cluster that is away for an hour is one line, not thousands.
                    if problem != last_problem {
                        tracing::warn!(%address, %problem, "no session with this coordinator");
                        last_problem = problem;
                    }
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = shutdown.cancelled() => (),
        () = work => (),
    }
}

/// One coordinator, until it is of no more use. Says why.
async fn attempt(
    context: &SessionContext,
    dialer: &mut Dialer,
    candidates: &mut Candidates,
    address: &str,
) -> String {
    let connection = match dialer.dial(address).await {
        Ok(connection) => connection,
        Err(error) => return reason(&error),
    };
    let coordinator = connection.peer().name.clone();
    let ended = match context.greet(connection).await {
        Ok(welcomed) => {
            tracing::info!(%coordinator, %address, "session with the leading coordinator");
            candidates.welcomed(address, &welcomed.coordinators);
            context.run(welcomed).await
        }
        Err(error) => error,
    };
    if let SessionError::NotLeader { leader: Some(leader) } = &ended {
        candidates.hint(leader.clone());
    }
    reason(&ended)
}

/// Agents that lost the same leader should not all come back in the same moment.
fn with_jitter(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..1.5))
}
