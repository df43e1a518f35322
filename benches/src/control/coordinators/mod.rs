//! Three coordinators, as an operator sets them up: one founds, two join with a token.

mod dialect;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use http::Method;
use novacron_protocol::api::{MemberRole, TokenView, VmView};
use novacron_protocol::ids::VmId;
use novacron_transport::{Credentials, tls};
use rustls::pki_types::ServerName;

use super::cluster::{Cluster, MEMBERS, Member, free_addresses};
use super::dialect::Dialect;
use super::link::Door;
use crate::execute::execute;
use dialect::{Coordinators, MACHINES, ask, check, cluster};

/// The program's name.
pub const PROGRAM: &str = "novacron-coordinator";
/// For a member to catch up and to get a vote.
const ENTER_PATIENCE: Duration = Duration::from_secs(60);

/// Starts the members, with all of their files below `directory`; `programs` is where NovaCron's are.
pub fn found(programs: &Path, directory: &Path) -> Result<Cluster> {
    let program = programs.join(PROGRAM);
    let (apis, links) = (free_addresses(MEMBERS)?, free_addresses(MEMBERS)?);
    let places: Vec<_> = (0..MEMBERS).map(|at| directory.join(name(at))).collect();
    for (at, place) in places.iter().enumerate() {
        fs::create_dir_all(place).with_context(|| format!("cannot make {}", place.display()))?;
        let text = format!(
            "name = \"{}\"\ndata_directory = \"{}\"\npeer_listen = \"{}\"\napi_listen = \"{}\"\n\
             metrics_listen = \"off\"\n[log]\nfilter = \"warn\"\n\
             [limits]\nrequests_per_second_per_principal = 1000000\n",
            name(at),
            place.join("data").display(),
            links[at],
            apis[at],
        );
        fs::write(config(place), text).context("cannot write a coordinator's configuration")?;
    }
    let operator = directory.join("operator");
    let init = ["init", "--config", &text(&config(&places[0])), "--cluster-operators-out"];
    run(&program, &init, &[&text(&operator)])?;
    let credentials = Credentials::load(&operator).context("the operator's credentials")?;
    let (tls, server) = client(&credentials)?;
    let members = places.iter().zip(&apis).enumerate().map(|(at, (place, address))| {
        let serve = ["serve", "--config", &text(&config(place))].map(str::to_owned);
        let argv = std::iter::once(text(&program)).chain(serve).collect();
        let door = Door { address: *address, tls: Arc::clone(&tls), name: server.clone() };
        Member::new(name(at), argv, place.join("log"), door)
    });
    let dialect = Arc::<Coordinators>::default();
    let all = Arc::clone(&dialect) as Arc<dyn Dialect>;
    let mut cluster = Cluster::new("NovaCron", all, members.collect())?;
    cluster.start(0)?;
    for (at, place) in places.iter().enumerate().skip(1) {
        join(&cluster, &program, place)?;
        cluster.start(at)?;
        await_votes(&cluster, at + 1)?;
    }
    // Nobody else sets them.
    let _ = dialect.machines.set(make_machines(&cluster)?);
    cluster.await_ready()?;
    Ok(cluster)
}

fn make_machines(cluster: &Cluster) -> Result<Vec<VmId>> {
    let make = |number: usize| {
        let body = format!(r#"{{"name":"bench-{number}","start":false}}"#);
        let answer = cluster.ask(0, &ask(Method::POST, "/api/v1/vms", &body))?;
        check(&answer)?;
        Ok(serde_json::from_slice::<VmView>(&answer.body).context("no machine")?.id)
    };
    (0..MACHINES).map(make).collect()
}

/// Another coordinator enrols.
fn join(cluster: &Cluster, program: &Path, place: &Path) -> Result<()> {
    let order = ask(Method::POST, "/api/v1/tokens", r#"{"role":"coordinator"}"#);
    let answer =
        cluster.ask_patiently(0, &order, ENTER_PATIENCE, |answer| Ok(check(answer).is_ok()))?;
    let token: TokenView = serde_json::from_slice(&answer.body).context("no join token")?;
    let contact = token.coordinators.first().context("a token without an address")?;
    let words = ["join", "--config", &text(&config(place)), "--token", &token.token];
    run(program, &words, &["--coordinator", contact])
}

/// Waits until so many members vote.
fn await_votes(cluster: &Cluster, voters: usize) -> Result<()> {
    let status = ask(Method::GET, "/api/v1/cluster", "");
    let votes = |answer: &_| {
        let view = self::cluster(answer)?;
        let all = view.members.iter().filter(|member| member.role != MemberRole::Learner);
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

fn config(place: &Path) -> PathBuf {
    place.join("coordinator.toml")
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
