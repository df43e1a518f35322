//! An agent as far as migrations need it.

use std::net::{Ipv4Addr, SocketAddr};

use novacron_agent::migrate::{MigrationSettings, Migrations};
use novacron_protocol::ids::NodeName;
use novacron_protocol::time::Timestamp;
use novacron_transport::authority::Grant;
use novacron_transport::{Acceptor, ClusterAuthority, Endpoint, LinkSettings, Role};

use tokio::task::JoinHandle;

use super::Host;

pub struct Agent {
    pub name: NodeName,
    pub host: Host,
    pub migrations: Migrations,
    pub address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Agent {
    pub async fn start(
        authority: &ClusterAuthority,
        name: &str,
        settings: MigrationSettings,
    ) -> Self {
        Self::begin(authority, name, settings, Host::new().await)
    }

    /// The agent ends in an orderly way and starts again, at another address; guests go on.
    pub async fn restart(self, authority: &ClusterAuthority, settings: MigrationSettings) -> Self {
        let Self { name, host, migrations, serving, .. } = self;
        migrations.shut_down().await;
        serving.abort();
        let _ = serving.await;
        drop(migrations);
        Self::begin(authority, name.as_str(), settings, host.restart().await)
    }

    fn begin(
        authority: &ClusterAuthority,
        name: &str,
        settings: MigrationSettings,
        mut host: Host,
    ) -> Self {
        let (endpoint, acceptor) = endpoint(authority, name);
        let address = endpoint.local_address().unwrap();
        let migrations =
            Migrations::new(host.machines.clone(), host.reporter.clone(), endpoint, settings);
        migrations.recover(std::mem::take(&mut host.interrupted));
        let serving = tokio::spawn({
            let migrations = migrations.clone();
            async move { migrations.serve(acceptor).await }
        });
        Self { name: name.parse().unwrap(), host, migrations, address, serving }
    }
}

/// Where the agent of this name is reached, and reaches others.
pub fn endpoint(authority: &ClusterAuthority, name: &str) -> (Endpoint, Acceptor) {
    let now = Timestamp::from_unix_ms(1_790_000_000_000);
    let grant = Grant::new(Role::Agent, name.parse().unwrap(), now);
    let credentials = authority.issue(&grant).unwrap();
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Endpoint::bind(loopback, &credentials, &[Role::Agent], LinkSettings::migration()).unwrap()
}
