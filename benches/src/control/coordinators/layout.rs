//! Where the members of a cluster are, and where they keep what: made before any of them runs.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use http::Method;
use novacron_protocol::api::TokenView;
use novacron_transport::{ClusterAuthority, Credentials, tls};
use rustls::pki_types::ServerName;

use super::PROGRAM;
use super::dialect::{Coordinators, ask, check, cluster};
use crate::control::cluster::{Cluster, MEMBERS, Member, free_addresses};
use crate::control::dialect::Dialect;
use crate::control::link::Door;
use crate::execute::execute;

/// For a member to catch up and to get a vote: it may have to take all of a large state.
const ENTER_PATIENCE: Duration = Duration::from_secs(180);

/// How long hosts may be silent that beat every five seconds.
const SUSPECT_AFTER_MS: u64 = 10_000;
const DOWN_AFTER_MS: u64 = 30_000;

/// See the module.
#[derive(Debug)]
pub struct Layout {
    program: PathBuf,
    directory: PathBuf,
    places: Vec<PathBuf>,
    apis: Vec<SocketAddr>,
    links: Vec<SocketAddr>,
}

impl Layout {
    /// Chooses addresses, and writes the members' configurations below `directory`; `programs` is where NovaCron's are.
    pub fn create(programs: &Path, directory: &Path) -> Result<Self> {
        let layout = Self {
            program: programs.join(PROGRAM),
            directory: directory.to_owned(),
            places: (0..MEMBERS).map(|at| directory.join(name(at))).collect(),
            apis: free_addresses(MEMBERS)?,
            links: free_addresses(MEMBERS)?,
        };
        (0..MEMBERS).try_for_each(|at| layout.configure(at))?;
        Ok(layout)
    }

    fn configure(&self, at: usize) -> Result<()> {
        let place = &self.places[at];
        fs::create_dir_all(place).with_context(|| format!("cannot make {}", place.display()))?;
        let text = format!(
            "name = \"{}\"\ndata_directory = \"{}\"\npeer_listen = \"{}\"\napi_listen = \"{}\"\n\
             metrics_listen = \"off\"\n[log]\nfilter = \"warn\"\n[agents]\n\
             suspect_after_ms = {SUSPECT_AFTER_MS}\ndown_after_ms = {DOWN_AFTER_MS}\n\
             [limits]\nrequests_per_second_per_principal = 1000000\n",
            name(at),
            self.data(at).display(),
            self.links[at],
            self.apis[at],
        );
        fs::write(self.config(at), text).context("cannot write a coordinator's configuration")
    }

    /// Founds the cluster with its first member.
    pub fn init(&self) -> Result<()> {
        let words = ["init", "--config", &text(&self.config(0)), "--cluster-operators-out"];
        run(&self.program, &words, &[&text(&self.operator())])
    }

    /// The members, none of which runs yet. The first has to be founded.
    pub fn cluster(&self, dialect: Arc<Coordinators>) -> Result<Cluster> {
        let credentials =
            Credentials::load(&self.operator()).context("the operator's credentials")?;
        let (tls, server) = client(&credentials)?;
        let members = self.apis.iter().enumerate().map(|(at, address)| {
            let serve = ["serve", "--config", &text(&self.config(at))].map(str::to_owned);
            let argv = std::iter::once(text(&self.program)).chain(serve).collect();
            let door = Door { address: *address, tls: Arc::clone(&tls), name: server.clone() };
            Member::new(name(at), argv, self.places[at].join("log"), door)
        });
        Cluster::new("NovaCron", dialect as Arc<dyn Dialect>, members.collect())
    }

    /// Starts the first member and has the others join.
    pub fn start(&self, cluster: &mut Cluster) -> Result<()> {
        cluster.start(0)?;
        for at in 1..MEMBERS {
            self.join(cluster, at)?;
            cluster.start(at)?;
            await_votes(cluster, at + 1)?;
        }
        Ok(())
    }

    /// Another coordinator enrols.
    fn join(&self, cluster: &Cluster, at: usize) -> Result<()> {
        let order = ask(Method::POST, "/api/v1/tokens", r#"{"role":"coordinator"}"#);
        let answer =
            cluster.ask_patiently(0, &order, ENTER_PATIENCE, |answer| Ok(check(answer).is_ok()))?;
        let token: TokenView = serde_json::from_slice(&answer.body).context("no join token")?;
        let contact = token.coordinators.first().context("a token without an address")?;
        let words = ["join", "--config", &text(&self.config(at)), "--token", &token.token];
        run(&self.program, &words, &["--coordinator", contact])
    }

    /// Where the members await agents.
    pub fn links(&self) -> Vec<SocketAddr> {
        self.links.clone()
    }

    /// A member's configuration.
    pub fn config(&self, at: usize) -> PathBuf {
        self.places[at].join("coordinator.toml")
    }

    /// A member's data directory.
    pub fn data(&self, at: usize) -> PathBuf {
        self.places[at].join("data")
    }

    /// The first operator's credentials.
    pub fn operator(&self) -> PathBuf {
        self.directory.join("operator")
    }

    /// The cluster's authority, out of its first member's files.
    pub fn authority(&self) -> Result<ClusterAuthority> {
        let directory = self.data(0).join("authority");
        ClusterAuthority::load(&directory).context("the cluster's authority")
    }
}

/// Waits until so many members vote.
fn await_votes(cluster: &Cluster, voters: usize) -> Result<()> {
    let status = ask(Method::GET, "/api/v1/cluster", "");
    let votes = |answer: &_| {
        let view = self::cluster(answer)?;
        let all = view.members.iter().filter(|member| member.role.votes());
        Ok(all.count() >= voters)
    };
    cluster.ask_patiently(0, &status, ENTER_PATIENCE, votes).map(drop)
}

/// What an operator's client is configured with, and the name of the cluster's certificates.
fn client(credentials: &Credentials) -> Result<(Arc<rustls::ClientConfig>, ServerName<'static>)> {
    let mut config = tls::link_client(credentials)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = format!("{}.novacron.internal", credentials.identity().cluster);
    Ok((Arc::new(config), ServerName::try_from(name)?))
}

fn run(program: &Path, words: &[&str], more: &[&str]) -> Result<()> {
    let words = words.iter().chain(more).map(|&word| word.to_owned());
    execute(&std::iter::once(text(program)).chain(words).collect()).map(drop)
}

fn name(at: usize) -> String {
    format!("coordinator-{}", at + 1)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
