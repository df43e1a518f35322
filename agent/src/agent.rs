//! All of it put together.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use novacron_metrics::Endpoint as MetricsEndpoint;
use novacron_metrics::certificate::Certificate;
use novacron_transport::credentials::CredentialsError;
use novacron_transport::endpoint::EndpointError;
use novacron_transport::enrolment::{EnrolError, enrol};
use novacron_transport::token::{InvalidToken, JoinToken};
use novacron_transport::{CloseCode, Credentials, Endpoint, LinkSettings, Role, SubjectName};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::{self, Clocks};
use crate::config::Config;
use crate::host::{self, NoKvm};
use crate::link::{self, DialError, Inbox, Life, SessionContext};
use crate::metering::Recorder;
use crate::metering::store::StoreError;
use crate::metrics::{self, HostNumbers};
use crate::migrate::Migrations;
use crate::records::{Records, RecordsError};
use crate::report::Reporter;
use crate::sampling::Sampler;
use crate::vm::{Machines, Settings};

/// Why the agent cannot do what it was started for.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A directory.
    #[error("{} cannot be made", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It has not joined.
    #[error(
        "there are no credentials in {}: run `novacron-agent join --config … --token … --coordinator …` first",
        path.display()
    )]
    NotJoined {
        /// Where they should be.
        path: PathBuf,
    },
    /// It has joined already.
    #[error("this node has joined already: {} exists; remove the directory to join anew", path.display())]
    Joined {
        /// The credentials.
        path: PathBuf,
    },
    /// Its credentials.
    #[error("the credentials in {} cannot be used", path.display())]
    Credentials {
        /// Where they are.
        path: PathBuf,
        /// The cause.
        #[source]
        source: CredentialsError,
    },
    /// They are for another node.
    #[error("the certificate in {} is for {found}, the configuration is of agent {node}", path.display())]
    WrongName {
        /// Where it is.
        path: PathBuf,
        /// Whom it names.
        found: String,
        /// Whom the configuration names.
        node: String,
    },
    /// The token.
    #[error("--token is not a join token")]
    Token(#[from] InvalidToken),
    /// The coordinator's address.
    #[error("--coordinator")]
    Coordinator(#[source] DialError),
    /// The coordinator.
    #[error("the cluster did not take this node in")]
    Enrol(#[from] EnrolError),
    /// Records.
    #[error("the agent cannot remember")]
    Records(#[from] RecordsError),
    /// What was used.
    #[error(
        "what was metered before cannot be read: keep the directory `usage` of the data directory elsewhere, for what \
         was not acknowledged, and start again"
    )]
    Metering(#[from] StoreError),
    /// KVM was demanded.
    #[error(transparent)]
    NoKvm(#[from] NoKvm),
    /// The migration socket.
    #[error("other agents cannot be listened to: migration_listen")]
    Listen(#[from] EndpointError),
}

/// Turns a token into credentials, once.
///
/// # Errors
/// [`AgentError`]; the token may be spent.
pub async fn join(config: &Config, token: &str, coordinator: &str) -> Result<(), AgentError> {
    let path = config.credential_directory();
    if path.join("cert.pem").exists() {
        return Err(AgentError::Joined { path });
    }
    let token: JoinToken = token.trim().parse()?;
    let address = link::resolve(coordinator).await.map_err(AgentError::Coordinator)?;
    // Before the token is spent: a directory that cannot be made would lose what it bought.
    make_directory(&path)?;
    let name = SubjectName::from(config.node.clone());
    let enrolled = enrol(address, &token, Role::Agent, &name, &[]).await?;
    enrolled.credentials.save(&path).map_err(|source| AgentError::Credentials { path, source })?;
    tracing::info!(node = %config.node, cluster = %enrolled.credentials.identity().cluster, "joined");
    Ok(())
}

/// Runs until `shutdown`; guests go on.
///
/// # Errors
/// [`AgentError`] if it cannot begin.
pub async fn serve(config: Config, shutdown: CancellationToken) -> Result<(), AgentError> {
    let credentials = credentials(&config)?;
    let directories = config.directories();
    for directory in [&directories.data, &directories.memory, &directories.machines()] {
        make_directory(directory)?;
    }
    let records = Records::open(&config.data_directory)?;
    let reporter = Reporter::load(records.clone()).await?;
    let life = Life::load(records.clone()).await?;
    let recorder = Recorder::open(records.disk(), Clocks::system()).await?;
    let hypervisor = host::hypervisor(&config, Some(&records)).await?;
    tracing::info!(
        accelerator = ?hypervisor.accelerator, reason = %hypervisor.accelerator_reason, "guests run under"
    );
    let facts = host::facts(&config, &hypervisor);
    let settings = Settings {
        directories,
        qemu: config.qemu_binary.clone(),
        qemu_img: config.qemu_img_binary.clone(),
        swtpm: config.swtpm_binary.clone(),
        hypervisor,
        disk_cache_bytes: config.migration.disk_cache_bytes,
    };
    let (machines, interrupted) =
        Machines::take_up(settings, records, reporter.clone(), recorder.clone(), clock::now())
            .await?;
    let congestion = config.migration.congestion;
    let settings = LinkSettings { congestion, ..LinkSettings::migration() };
    let (endpoint, acceptor) =
        Endpoint::bind(config.migration_listen, &credentials, &[Role::Agent], settings)?;
    let migrations =
        Migrations::new(machines.clone(), reporter.clone(), endpoint.clone(), config.migration);
    migrations.recover(interrupted);
    let listening = tokio::spawn({
        let migrations = migrations.clone();
        async move { migrations.serve(acceptor).await }
    });
    let unrecorded = CancellationToken::new();
    let recording = tokio::spawn({
        let (recorder, unrecorded) = (recorder.clone(), unrecorded.clone());
        async move { recorder.run(unrecorded).await }
    });
    let sampler = Sampler::new(machines.clone(), config.directories().machines());
    let (watching, unwatched) = (TaskTracker::new(), CancellationToken::new());
    let host = HostNumbers {
        machines: machines.clone(),
        migrations: migrations.clone(),
        reporter: reporter.clone(),
        recorder: recorder.clone(),
        sampler: sampler.clone(),
    };
    let pages = metrics::pages(host, Certificate { expires_at_s: credentials.expires_at_s() });
    watching.spawn(sampler.clone().run(unwatched.clone()));
    MetricsEndpoint::start(config.metrics_listen, pages, &watching, unwatched.clone()).await;
    let inbox = Inbox::new(machines.clone(), migrations.clone(), reporter.clone());
    let node = config.node.clone();
    let context = SessionContext {
        node,
        life,
        facts,
        machines: machines.clone(),
        reporter,
        recorder,
        sampler,
        inbox: inbox.clone(),
    };
    tracing::info!(node = %config.node, "agent ready");
    link::run(context, credentials, &config.coordinators, shutdown).await;
    tracing::info!("agent ends; guests go on");
    migrations.shut_down().await;
    endpoint.close(CloseCode::Done, "the agent ends");
    machines.shut_down().await;
    inbox.finished().await;
    // What was used until now is durable before the agent ends; so is the moment.
    unrecorded.cancel();
    let _ = recording.await;
    unwatched.cancel();
    watching.close();
    watching.wait().await;
    // It ends with its endpoint; a panic in it has been reported by its own hook.
    let _ = listening.await;
    endpoint.wait_idle().await;
    Ok(())
}

/// What this host can run, in lines for a person.
///
/// # Errors
/// [`NoKvm`] if KVM was demanded and does not work.
pub async fn probe(config: &Config) -> Result<String, NoKvm> {
    let hypervisor = host::hypervisor(config, None).await?;
    let facts = host::facts(config, &hypervisor);
    let qemu = match &hypervisor.qemu {
        Ok(version) => version.to_string(),
        Err(problem) => problem.to_string(),
    };
    let accelerator = match hypervisor.accelerator {
        novacron_protocol::node::Accelerator::Kvm => "kvm",
        novacron_protocol::node::Accelerator::Tcg => "tcg",
    };
    Ok(format!(
        "qemu         {qemu}\naccelerator  {accelerator}: {}\nswtpm        {}\n",
        facts.accelerator_reason,
        if facts.has_swtpm { "yes" } else { "no: machines with a TPM are refused" },
    ))
}

fn credentials(config: &Config) -> Result<Credentials, AgentError> {
    let path = config.credential_directory();
    if !path.join("cert.pem").exists() {
        return Err(AgentError::NotJoined { path });
    }
    let credentials = Credentials::load(&path)
        .map_err(|source| AgentError::Credentials { path: path.clone(), source })?;
    let identity = credentials.identity();
    if identity.role != Role::Agent || identity.name.as_str() != config.node.as_str() {
        let (found, node) = (identity.to_string(), config.node.to_string());
        return Err(AgentError::WrongName { path, found, node });
    }
    Ok(credentials)
}

fn make_directory(path: &Path) -> Result<(), AgentError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| AgentError::Directory { path: path.to_owned(), source })
}
