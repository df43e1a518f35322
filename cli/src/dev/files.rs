//! The configuration files that a development cluster writes for its programs. Pure: text out of a plan.

use std::path::Path;

use serde::Serialize;

use super::cluster::{API_PORT, Cluster, Host, METRICS_PORT, MIGRATION_PORT, PEER_PORT};

#[derive(Serialize)]
struct CoordinatorFile<'a> {
    name: &'a str,
    data_directory: &'a Path,
    peer_listen: String,
    peer_advertise: String,
    api_listen: String,
    api_advertise: String,
    metrics_listen: String,
    log: Log,
}

#[derive(Serialize)]
struct AgentFile<'a> {
    node: &'a str,
    data_directory: &'a Path,
    memory_directory: &'a Path,
    image_directory: &'a Path,
    coordinators: Vec<String>,
    migration_listen: String,
    migration_advertise: String,
    metrics_listen: String,
    accel: &'a str,
    log: Log,
}

#[derive(Serialize)]
struct Log {
    format: &'static str,
    filter: &'static str,
}

#[derive(Serialize)]
struct ClientFile<'a> {
    endpoints: Vec<String>,
    credentials: &'a Path,
}

/// Consensus tells every step at `info`.
const LOG: Log = Log { format: "text", filter: "info" };

/// `coordinator.toml` of a host.
///
/// # Errors
/// A path is not UTF-8.
pub fn coordinator(cluster: &Cluster, host: &Host) -> Result<String, toml::ser::Error> {
    let (peer, api) =
        (format!("{}:{PEER_PORT}", host.address), format!("{}:{API_PORT}", host.address));
    toml::to_string(&CoordinatorFile {
        name: &host.name,
        data_directory: &cluster.host_dir(host).join("data"),
        peer_listen: peer.clone(),
        peer_advertise: peer,
        api_listen: api.clone(),
        api_advertise: api,
        metrics_listen: metrics(host),
        log: LOG,
    })
}

/// `agent.toml` of a host.
///
/// # Errors
/// A path is not UTF-8.
pub fn agent(cluster: &Cluster, host: &Host) -> Result<String, toml::ser::Error> {
    let migration = format!("{}:{MIGRATION_PORT}", host.address);
    toml::to_string(&AgentFile {
        node: &host.name,
        data_directory: &cluster.host_dir(host).join("data"),
        memory_directory: &cluster.memory_dir(host),
        image_directory: &cluster.image_dir(),
        coordinators: cluster.peer_addresses(),
        migration_listen: migration.clone(),
        migration_advertise: migration,
        metrics_listen: metrics(host),
        accel: &cluster.accel,
        log: LOG,
    })
}

/// The host's address: other hosts of the cluster, and nobody else, reach it.
fn metrics(host: &Host) -> String {
    format!("{}:{METRICS_PORT}", host.address)
}

/// `novacron.yaml` for clients.
///
/// # Errors
/// A path is not UTF-8.
pub fn client(cluster: &Cluster) -> Result<String, serde_norway::Error> {
    serde_norway::to_string(&ClientFile {
        endpoints: cluster.endpoints(),
        credentials: &cluster.operator_dir(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::cluster::Isolation;
    use super::super::cluster::tests::cluster;
    use super::*;

    #[test]
    fn each_program_is_told_its_own_addresses_and_directories() {
        let cluster = cluster(Isolation::Namespaces { link: None });
        let coordinator = coordinator(&cluster, &cluster.hosts[1]).unwrap();
        assert!(coordinator.contains("name = \"coordinator-2\""), "{coordinator}");
        assert!(coordinator.contains("api_listen = \"10.213.255.195:7443\""), "{coordinator}");
        assert!(coordinator.contains("metrics_listen = \"10.213.255.195:7480\""), "{coordinator}");
        let node = cluster.host("node-02").unwrap();
        let agent = agent(&cluster, node).unwrap();
        assert!(agent.contains("data_directory = \"/tmp/one/node-02/data\""), "{agent}");
        assert!(
            agent.contains(&format!("memory_directory = \"/dev/shm/{}-node-02\"", cluster.tag)),
            "{agent}"
        );
        assert!(client(&cluster).unwrap().contains("credentials: /tmp/one/operator"));
    }
}
