//! `novacron-agent`: the program. What it does is in the library.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use novacron_agent::agent;
use novacron_agent::config::{Config, LogFormat, LogSettings};
use novacron_agent::hold;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Runs virtual machines on this host and moves them to others.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Host(HostCommand),
    /// Slows a process down for the agent that started this, which says by how much
    #[command(hide = true)]
    Throttle {
        /// The process
        #[arg(long)]
        pid: i32,
    },
}

/// What needs the configuration.
#[derive(Debug, Subcommand)]
enum HostCommand {
    /// Makes this host a node of a cluster, with a token from `novacron`'s operator
    Join {
        /// The configuration
        #[arg(long, default_value = "/etc/novacron/agent.toml")]
        config: PathBuf,
        /// A token for this node; spent by this call
        #[arg(long, env = "NOVACRON_TOKEN", hide_env_values = true)]
        token: String,
        /// Any coordinator, as HOST:7443
        #[arg(long)]
        coordinator: String,
    },
    /// Serves until SIGTERM or SIGINT; guests go on
    Serve {
        /// The configuration
        #[arg(long, default_value = "/etc/novacron/agent.toml")]
        config: PathBuf,
    },
    /// Says what this host can run, and why nothing better
    Probe {
        /// The configuration
        #[arg(long, default_value = "/etc/novacron/agent.toml")]
        config: PathBuf,
    },
}

/// A command that failed.
const FAILED: u8 = 1;
/// A configuration or arguments that cannot be used; also clap's own code.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Host(command) => host(command),
        Command::Throttle { pid } => throttle(pid),
    }
}

fn host(command: HostCommand) -> ExitCode {
    let (HostCommand::Join { config: path, .. }
    | HostCommand::Serve { config: path }
    | HostCommand::Probe { config: path }) = &command;
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("novacron-agent: {}", novacron_agent::reason::reason(&error));
            return ExitCode::from(USAGE);
        }
    };
    match start_log(&config.log).and_then(|()| run(command, config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("novacron-agent: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

/// Says nothing: nobody listens, and the agent sees how it ends.
fn throttle(pid: i32) -> ExitCode {
    match novacron_agent::vm::throttle::run(pid) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(FAILED),
    }
}

fn start_log(settings: &LogSettings) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&settings.filter)
        .with_context(|| format!("log.filter: `{}` is not a filter", settings.filter))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // It heeds NO_COLOR by itself, and not where it writes.
    let log = if std::io::stderr().is_terminal() { log } else { log.with_ansi(false) };
    let started = match settings.format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("the log cannot be started: {error}"))
}

#[tokio::main]
async fn run(command: HostCommand, config: Config) -> anyhow::Result<()> {
    match command {
        HostCommand::Join { token, coordinator, .. } => {
            agent::join(&config, &token, &coordinator).await?;
        }
        HostCommand::Serve { .. } => {
            hold::begin(std::env::var_os(hold::VARIABLE).as_deref())?;
            agent::serve(config, until_told()?).await?;
        }
        HostCommand::Probe { .. } => print!("{}", agent::probe(&config).await?),
    }
    Ok(())
}

/// Cancelled by the first SIGTERM or SIGINT.
fn until_told() -> anyhow::Result<CancellationToken> {
    let shutdown = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let told = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            biased;
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
        }
        told.cancel();
    });
    Ok(shutdown)
}
