//! `novacron-coordinator`: found a cluster, join one, serve.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use novacron_coordinator::clock::Clock;
use novacron_coordinator::config::{
    Config, LogConfig, LogFormat, TEST_DISK_VARIABLE, are_tests_allowed,
};
use novacron_coordinator::coordinator::Coordinator;
use novacron_coordinator::founding::{self, Invitation};
use novacron_coordinator::operator;
use novacron_coordinator::restoring::{self, BackupFile, Inspection};
use novacron_protocol::backup::BackupHead;
use novacron_transport::SubjectName;
use novacron_transport::token::JoinToken;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Coordinates a fleet of virtual machines.
#[derive(Debug, Parser)]
#[command(name = "novacron-coordinator", version)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Found a cluster with this coordinator as its first member.
    Init {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
        /// Directory for the credentials of the first operator.
        #[arg(long, value_name = "DIR")]
        cluster_operators_out: Option<PathBuf>,
    },
    /// Join a cluster.
    Join {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
        /// The join token (a coordinator's); not needed when an earlier `join` got as far as enrolling.
        #[arg(long, env = "NOVACRON_JOIN_TOKEN", hide_env_values = true)]
        token: Option<JoinToken>,
        /// An address that came with the token.
        #[arg(long, value_name = "HOST:PORT")]
        coordinator: Option<String>,
    },
    /// Get an operator's credentials for a token; needs no configuration.
    Operator {
        /// The operator's name.
        #[arg(long)]
        name: SubjectName,
        /// The join token (an operator's).
        #[arg(long, env = "NOVACRON_JOIN_TOKEN", hide_env_values = true)]
        token: JoinToken,
        /// An address that came with the token.
        #[arg(long, value_name = "HOST:PORT")]
        coordinator: String,
        /// Directory for the credentials.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Make the first member of a cluster that comes back from a backup, in a new data directory.
    Restore {
        /// The configuration file; its data directory must not exist or be empty.
        #[arg(long, required_unless_present = "check")]
        config: Option<PathBuf>,
        /// The backup.
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// The file with the key that it was encrypted with.
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
        /// Only check that the backup is whole and can be read, and say of what it is.
        #[arg(long, conflicts_with = "config")]
        check: bool,
    },
    /// Serve, until SIGTERM or SIGINT.
    Serve {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Print the API's description (OpenAPI 3.0.3, JSON).
    Openapi,
}

/// What the process ends with when the cluster has removed this coordinator: to start it again is of no use, and whoever
/// starts what has ended must not.
const REMOVED: u8 = 3;

/// The cluster has removed this coordinator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Removed(String);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.action) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Removed>() => {
            eprintln!("novacron-coordinator: {error}");
            ExitCode::from(REMOVED)
        }
        Err(error) => {
            eprintln!("novacron-coordinator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(action: Action) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(async {
        match action {
            Action::Init { config, cluster_operators_out } => {
                init(&load(&config)?, cluster_operators_out.as_deref()).await
            }
            Action::Join { config, token, coordinator } => {
                join(&load(&config)?, invitation(token, coordinator)?).await
            }
            Action::Operator { name, token, coordinator, out } => {
                let invitation = Invitation { token, coordinator };
                enrol_operator(&name, &invitation, &out).await
            }
            Action::Restore { config, from, key_file, check: _ } => {
                restore(config.as_deref(), &from, &key_file).await
            }
            Action::Serve { config } => serve(&load(&config)?).await,
            Action::Openapi => print_description(),
        }
    })
}

/// Without a configuration the backup is only checked.
async fn restore(config: Option<&Path>, from: &Path, key_file: &Path) -> anyhow::Result<()> {
    let backup = BackupFile::new(from, key_file)?;
    let mut out = std::io::stdout().lock();
    let Some(config) = config else {
        let Inspection { head, contradiction } = backup.check()?;
        writeln!(out, "{}", describe(&head))?;
        if let Some(contradiction) = contradiction {
            writeln!(out, "the state contradicts itself: {contradiction}")?;
        }
        return Ok(());
    };
    let config = load(config)?;
    let restored = restoring::restore(&config, &backup, Clock::system()).await?;
    writeln!(out, "restored {}", describe(&restored.head))?;
    writeln!(
        out,
        "this is member {} in life {} of the cluster; start it with `serve`, and let others join with empty data \
         directories. Coordinators of the life before must not be started again",
        restored.member, restored.incarnation
    )?;
    Ok(())
}

fn describe(head: &BackupHead) -> String {
    let BackupHead { cluster, revision, at, machines, archived_files, .. } = head;
    format!(
        "cluster {cluster} at revision {revision} ({at}): {machines} machines, {archived_files} archived files"
    )
}

fn load(path: &Path) -> anyhow::Result<Config> {
    let config = Config::load(path)?;
    anyhow::ensure!(
        config.test_formats_newest.is_none() || are_tests_allowed(),
        "`test_formats_newest` is for tests, which set {TEST_DISK_VARIABLE}=1. Take it out of the configuration"
    );
    start_log(&config.log)?;
    Ok(config)
}

fn start_log(log: &LogConfig) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter(&log.filter)).context("log.filter is not a filter")?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // It heeds NO_COLOR by itself, and not where it writes.
    let lines = if std::io::stderr().is_terminal() { lines } else { lines.with_ansi(false) };
    let started = match log.format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("cannot start the log: {error}"))
}

/// openraft warns of what is normal, and reports a member that is away as an error several times a second; the
/// links to members say that once. Whoever wants to hear it names openraft in the filter.
fn filter(configured: &str) -> String {
    if configured.contains("openraft") {
        return configured.to_owned();
    }
    format!("{configured},openraft=error,openraft::replication=off")
}

fn invitation(
    token: Option<JoinToken>,
    coordinator: Option<String>,
) -> anyhow::Result<Option<Invitation>> {
    match (token, coordinator) {
        (Some(token), Some(coordinator)) => Ok(Some(Invitation { token, coordinator })),
        (None, None) => Ok(None),
        _ => anyhow::bail!("`--token` and `--coordinator` belong together"),
    }
}

async fn init(config: &Config, operators_out: Option<&Path>) -> anyhow::Result<()> {
    let cluster = founding::init(config, operators_out, Clock::system()).await?;
    eprintln!("cluster {cluster} founded; `serve` starts its first coordinator");
    if let Some(out) = operators_out {
        eprintln!("credentials of the first operator: {}", out.display());
    }
    Ok(())
}

async fn join(config: &Config, invitation: Option<Invitation>) -> anyhow::Result<()> {
    let identity = founding::join(config, invitation.as_ref(), Clock::system()).await?;
    eprintln!("member {} of cluster {}; `serve` starts it", identity.member, identity.cluster);
    Ok(())
}

fn print_description() -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(&novacron_coordinator::http::openapi_document())?;
    writeln!(std::io::stdout(), "{text}").context("cannot print the description")
}

async fn enrol_operator(
    name: &SubjectName,
    invitation: &Invitation,
    out: &Path,
) -> anyhow::Result<()> {
    let is_taken = out.join("cert.pem").exists();
    anyhow::ensure!(
        !is_taken,
        "{} holds credentials already; choose another directory",
        out.display()
    );
    operator::join(name, invitation, out).await?;
    eprintln!("credentials of operator {name}: {}", out.display());
    Ok(())
}

async fn serve(config: &Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let coordinator = Coordinator::start(config, Clock::system()).await?;
    tokio::select! {
        biased;
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = coordinator.stopping() => {}
    }
    let (is_healthy, removed) = (coordinator.is_healthy(), coordinator.why_removed());
    coordinator.shutdown().await;
    if let Some(reason) = removed {
        return Err(Removed(reason).into());
    }
    anyhow::ensure!(
        is_healthy,
        "consensus has failed, or another part of this coordinator; the log says which"
    );
    Ok(())
}
