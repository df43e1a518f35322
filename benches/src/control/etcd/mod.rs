//! Three members of etcd from Debian: mutual TLS on both of its doors, the pace of elections that NovaCron has, and
//! everything else as it comes.

mod certificates;
mod dialect;
mod protobuf;

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};

use super::cluster::{Cluster, MEMBERS, Member, free_addresses};
use super::link::Door;
use crate::execute::{Argv, argv, execute};
use certificates::Certificates;
use dialect::Etcd;

/// Says where the program is, if it is not on the path.
const PROGRAM_VARIABLE: &str = "NOVACRON_ETCD";
/// The default pace of a coordinator, which is etcd's own, too.
const HEARTBEAT_MS: u64 = 100;
const ELECTION_MS: u64 = 1000;

/// Starts the members, with all of their files below `directory`.
pub fn found(directory: &Path) -> Result<Cluster> {
    fs::create_dir_all(directory).context("cannot make etcd's directory")?;
    let certificates = Certificates::create(directory)?;
    let clients = free_addresses(MEMBERS)?;
    let peers = free_addresses(MEMBERS)?;
    let tls = Arc::new(certificates.client()?);
    let members = (0..MEMBERS).map(|at| {
        let name = name(at);
        let argv = words(&certificates, directory, at, &clients, &peers);
        let log = directory.join(format!("{name}.log"));
        let name_of_certificate = clients[at].ip().into();
        let door = Door { address: clients[at], tls: Arc::clone(&tls), name: name_of_certificate };
        Member::new(name, argv, log, door)
    });
    let mut cluster = Cluster::new("etcd", Arc::new(Etcd), members.collect())?;
    (0..MEMBERS).try_for_each(|at| cluster.start(at))?;
    cluster.await_ready()?;
    Ok(cluster)
}

/// The version, as the program says it.
pub fn version() -> Result<String> {
    let text = execute(&vec![program().display().to_string(), "--version".to_owned()])?;
    let version = text.lines().find_map(|line| line.strip_prefix("etcd Version: "));
    Ok(format!("etcd {}", version.unwrap_or("of unknown version")))
}

fn program() -> PathBuf {
    env::var_os(PROGRAM_VARIABLE).map_or_else(|| PathBuf::from("etcd"), PathBuf::from)
}

fn name(at: usize) -> String {
    format!("etcd-{}", at + 1)
}

fn words(
    certificates: &Certificates,
    directory: &Path,
    at: usize,
    clients: &[SocketAddr],
    peers: &[SocketAddr],
) -> Argv {
    let (name, client, peer) = (name(at), clients[at], peers[at]);
    let Certificates { authority, certificate, key } = certificates;
    let (authority, certificate, key) = (authority.display(), certificate.display(), key.display());
    let all =
        peers.iter().enumerate().map(|(at, peer)| format!("{}=https://{peer}", self::name(at)));
    let line = format!(
        "{} --name {name} --data-dir {} --logger zap --log-level warn \
         --heartbeat-interval {HEARTBEAT_MS} --election-timeout {ELECTION_MS} \
         --listen-client-urls https://{client} --advertise-client-urls https://{client} \
         --listen-peer-urls https://{peer} --initial-advertise-peer-urls https://{peer} \
         --initial-cluster {} --initial-cluster-state new \
         --client-cert-auth --trusted-ca-file {authority} --cert-file {certificate} --key-file {key} \
         --peer-client-cert-auth --peer-trusted-ca-file {authority} --peer-cert-file {certificate} \
         --peer-key-file {key}",
        program().display(),
        directory.join(&name).display(),
        all.collect::<Vec<_>>().join(","),
    );
    argv(&line)
}
