//! How a coordinator gets its data directory: by founding a cluster, or by joining one.
//!
//! Both end with writing who the member is. Until then everything may be repeated: what is there is used, what
//! is missing is made. A join token is spent once, so what it gave is saved before anything else is tried.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use novacron_protocol::ids::{ClusterId, Incarnation, MemberId};
use novacron_transport::authority::{AuthorityError, Grant};
use novacron_transport::endpoint::EndpointError;
use novacron_transport::enrolment::{EnrolError, enrol};
use novacron_transport::token::JoinToken;
use novacron_transport::{
    CloseCode, ClusterAuthority, Credentials, Endpoint, LinkSettings, Role, SubjectName,
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, new_request, new_uuid};
use crate::config::Config;
use crate::coordinator::{Core, StartError};
use crate::directory::{Admission, DataDirectory, DirectoryError, MemberIdentity};
use crate::peers::{Answer, Call, Committed, PeerError, PeerLinks};
use crate::raft::MemberNode;
use crate::state::incarnation::FIRST;
use crate::state::member::MemberFacts;
use crate::state::{Body, Command};

/// How long founding may take: one election of one member, one commit.
const FOUND_TIMEOUT: Duration = Duration::from_secs(30);

/// How long one member may take to get an id from the leader.
const ADMIT_TIMEOUT: Duration = Duration::from_secs(15);

/// The first operator's name; may do everything.
const FIRST_OPERATOR: &str = "admin";

/// Why a member could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FoundingError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// Consensus could not be started.
    #[error(transparent)]
    Start(#[from] Box<StartError>),
    /// The authority refused.
    #[error("the certificates could not be made")]
    Authority(#[from] AuthorityError),
    /// The operator's credentials could not be written.
    #[error("the operator's credentials could not be written to {directory}")]
    Operator {
        /// The directory.
        directory: String,
        /// Why.
        #[source]
        source: novacron_transport::credentials::CredentialsError,
    },
    /// The new cluster did not come to life.
    #[error("the new cluster did not come to life: {0}")]
    NoCluster(String),
    /// The enrolment failed.
    #[error("could not enrol at {address}")]
    Enrol {
        /// The coordinator.
        address: String,
        /// Why.
        #[source]
        source: EnrolError,
    },
    /// The address of the coordinator is not one.
    #[error("the address to join at cannot be used")]
    Address(#[source] Box<PeerError>),
    /// The cluster gave a certificate, but not what a coordinator needs beside it.
    #[error("the cluster did not hand its authority over")]
    NoAuthority,
    /// A socket could not be made.
    #[error("cannot open a socket")]
    Endpoint(#[from] EndpointError),
    /// No member gave an id. The enrolment is kept: `join` again goes on from here.
    #[error(
        "enrolled, but no coordinator gave a member id yet; run `join` again (the token is not needed any more)"
    )]
    NotAdmitted(#[source] Option<Box<PeerError>>),
    /// A token is needed.
    #[error("a join token is needed (`--token`) and the address to join at (`--coordinator`)")]
    NoToken,
}

/// Founds a cluster with this member as its first, and writes credentials of a first operator.
///
/// # Errors
/// [`FoundingError`].
pub async fn init(
    config: &Config,
    operators_out: Option<&Path>,
    clock: Clock,
) -> Result<ClusterId, FoundingError> {
    let directory = DataDirectory::open(config)?;
    directory.require_new()?;
    let authority = found_authority(&directory, &clock)?;
    let grant = Grant::new(Role::Coordinator, config.name.clone(), clock.now());
    let credentials = authority.issue(&grant.with_hosts(config.hosts()))?;
    directory.save_credentials(&credentials)?;
    if let Some(out) = operators_out {
        write_operator(&authority, out, &clock)?;
    }
    let member = MemberId(1);
    let cluster = authority.cluster();
    let work = bring_to_life(config, &directory, &credentials, cluster, clock);
    timeout(FOUND_TIMEOUT, work)
        .await
        .map_err(|_| FoundingError::NoCluster("it took too long".to_owned()))??;
    let (incarnation, contacts) = (FIRST, Vec::new());
    directory.set_identity(&MemberIdentity { cluster, member, incarnation, contacts })?;
    Ok(cluster)
}

fn found_authority(
    directory: &DataDirectory,
    clock: &Clock,
) -> Result<ClusterAuthority, FoundingError> {
    if directory.has_authority() {
        return Ok(directory.authority()?);
    }
    let now = clock.now();
    let authority = ClusterAuthority::create(ClusterId(new_uuid(now)), now)?;
    directory.save_authority(&authority)?;
    Ok(authority)
}

fn first_operator() -> Result<SubjectName, FoundingError> {
    FIRST_OPERATOR
        .parse()
        .map_err(|_| FoundingError::NoCluster("the operator's name is not valid".to_owned()))
}

fn write_operator(
    authority: &ClusterAuthority,
    out: &Path,
    clock: &Clock,
) -> Result<(), FoundingError> {
    let name = first_operator()?;
    let credentials = authority.issue(&Grant::new(Role::Operator, name, clock.now()))?;
    let directory = out.display().to_string();
    credentials.save(out).map_err(|source| FoundingError::Operator { directory, source })
}

/// Initializes consensus with this member alone and commits the first command. Both may have been done by an
/// earlier attempt that did not get to its end.
async fn bring_to_life(
    config: &Config,
    directory: &DataDirectory,
    credentials: &Credentials,
    cluster: ClusterId,
    clock: Clock,
) -> Result<(), FoundingError> {
    let own = (MemberId(1), FIRST);
    let found = async |core: &Core| found(core, config, cluster, &clock).await;
    alone(config, directory, credentials, own, clock.clone(), found).await
}

/// Runs consensus for a while with this member alone, reachable for nobody.
pub(crate) async fn alone<E: From<EndpointError> + From<Box<StartError>>>(
    config: &Config,
    directory: &DataDirectory,
    credentials: &Credentials,
    own: (MemberId, Incarnation),
    clock: Clock,
    work: impl AsyncFnOnce(&Core) -> Result<(), E>,
) -> Result<(), E> {
    let any: SocketAddr = (std::net::Ipv4Addr::LOCALHOST, 0).into();
    let endpoint = Endpoint::client(any, credentials, LinkSettings::control())?;
    let core = Core::start(config, directory, own, endpoint.clone(), clock.clone()).await;
    let core = core.map_err(Box::new)?;
    // An attempt before this one may have ended before its election did.
    let stop = CancellationToken::new();
    let elections = tokio::spawn(core.elections(config.timing(), stop.clone()));
    let worked = work(&core).await;
    stop.cancel();
    // It has nothing to say.
    let _ = elections.await;
    core.stop().await;
    endpoint.close(CloseCode::Done, "");
    worked
}

async fn found(
    core: &Core,
    config: &Config,
    cluster: ClusterId,
    clock: &Clock,
) -> Result<(), FoundingError> {
    let dead = |error: &dyn std::fmt::Display| FoundingError::NoCluster(error.to_string());
    let facts = facts(config);
    if !core.raft.is_initialized().await.map_err(|error| dead(&error))? {
        let node = MemberNode::from(facts.clone());
        let members = std::collections::BTreeMap::from([(1, node)]);
        core.raft.initialize(members).await.map_err(|error| dead(&error))?;
    }
    let at = clock.now();
    let operator = first_operator()?;
    let body = Body::FoundCluster { cluster, member: facts, operator };
    let command = Command::of_cluster(new_request(at), at, body);
    match core.leader.call(Call::Propose(Box::new(command))).await.map_err(|error| dead(&error))? {
        Answer::Reply(Committed { reply: Ok(_), .. }) => Ok(()),
        // An earlier attempt founded it.
        _ if core.cell.look(|fleet| fleet.cluster()) == Some(cluster) => Ok(()),
        other => Err(FoundingError::NoCluster(format!("{other:?}"))),
    }
}

pub(crate) fn facts(config: &Config) -> MemberFacts {
    MemberFacts {
        name: config.name.to_string(),
        peer_address: config.peer_advertise.clone(),
        api_address: config.api_advertise.clone(),
        formats: config.formats(),
    }
}

/// Where and with what a coordinator joins.
#[derive(Debug, Clone)]
pub struct Invitation {
    /// The token.
    pub token: JoinToken,
    /// The address that came with it.
    pub coordinator: String,
}

/// Joins a cluster: enrols with the token, then gets a member id. Repeated after a failure it goes on where it
/// was; then it needs no token.
///
/// # Errors
/// [`FoundingError`].
pub async fn join(
    config: &Config,
    invitation: Option<&Invitation>,
    clock: Clock,
) -> Result<MemberIdentity, FoundingError> {
    let directory = DataDirectory::open(config)?;
    directory.require_new()?;
    let admission = match directory.admission()? {
        Some(admission) => admission,
        None => {
            let invitation = invitation.ok_or(FoundingError::NoToken)?;
            enrol_here(config, &directory, invitation, &clock).await?
        }
    };
    let credentials = directory.credentials()?;
    let any = SocketAddr::new(config.peer_listen.ip(), 0);
    let endpoint = Endpoint::client(any, &credentials, LinkSettings::control())?;
    let admitted = admit(config, &endpoint, &admission).await;
    endpoint.close(CloseCode::Done, "");
    endpoint.wait_idle().await;
    let (member, incarnation) = admitted?;
    let identity = MemberIdentity {
        cluster: credentials.identity().cluster,
        member,
        incarnation,
        contacts: admission.contacts,
    };
    directory.set_identity(&identity)?;
    Ok(identity)
}

/// Spends the token. What it gives is saved at once; the admission is noted last and stands for all of it.
async fn enrol_here(
    config: &Config,
    directory: &DataDirectory,
    invitation: &Invitation,
    clock: &Clock,
) -> Result<Admission, FoundingError> {
    let text = invitation.coordinator.clone();
    let address = crate::peers::links::resolve(&text)
        .await
        .map_err(|error| FoundingError::Address(Box::new(error)))?;
    let enrolled =
        enrol(address, &invitation.token, Role::Coordinator, &config.name, &config.hosts()).await;
    let enrolled = enrolled.map_err(|source| FoundingError::Enrol { address: text, source })?;
    let authority = enrolled.authority.ok_or(FoundingError::NoAuthority)?;
    directory.save_authority(&authority)?;
    directory.save_credentials(&enrolled.credentials)?;
    let admission = Admission { request: new_request(clock.now()), contacts: enrolled.contacts };
    directory.set_admission(&admission)?;
    Ok(admission)
}

async fn admit(
    config: &Config,
    endpoint: &Endpoint,
    admission: &Admission,
) -> Result<(MemberId, Incarnation), FoundingError> {
    let links =
        PeerLinks::new(MemberId(0), Incarnation(0), endpoint.clone()).speaking(config.formats());
    let mut last = None;
    for contact in &admission.contacts {
        let call = Call::Admit { request: admission.request, facts: facts(config) };
        let node = MemberNode::at(contact.clone());
        match timeout(ADMIT_TIMEOUT, links.call(MemberId(0), &node, call)).await {
            Ok(Ok(Answer::Admitted { member, incarnation })) => return Ok((member, incarnation)),
            Ok(Err(error)) => last = Some(Box::new(error)),
            Ok(Ok(_)) | Err(_) => {}
        }
    }
    Err(FoundingError::NotAdmitted(last))
}
