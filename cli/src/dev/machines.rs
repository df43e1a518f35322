//! Stopping a cluster's machines before the cluster goes down, so that the coordinators know them as `stopped` when it
//! comes up again, not as `failed`.

use std::time::{Duration, Instant};

use novacron_protocol::api::{VmStop, VmView};
use novacron_protocol::vm::VmState;
use novacron_sdk::{Client, Config, Error, VmFilter};

use super::cluster::{Cluster, Role};
use super::programs::process_of;
use crate::output::notice;

/// For how long the coordinators may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// For how long all machines together may take to stop.
const LIMIT: Duration = Duration::from_secs(10);

/// Stops the machines of all hosts that are up, as far as that works: what does not stop is ended with the rest.
pub fn stop(cluster: &Cluster) {
    let is_up = |role| cluster.hosts_of(role).any(|host| process_of(cluster, host).is_some());
    if !is_up(Role::Coordinator) || !is_up(Role::Node) {
        return;
    }
    let mut config = Config::new(cluster.endpoints(), cluster.operator_dir());
    config.patience = PATIENCE;
    let Ok(client) = Client::new(&config) else { return };
    let has_agent = |vm: &VmView| {
        let host = vm.node.as_ref().and_then(|node| cluster.host(node.as_str()));
        host.is_some_and(|host| process_of(cluster, host).is_some())
    };
    if let Err(error) = stop_those(&client, has_agent) {
        notice(&format!("not every machine could be stopped before: {error}"));
    }
}

/// Stops those at once and waits until they are. The first error ends it.
fn stop_those(client: &Client, is_meant: impl Fn(&VmView) -> bool) -> Result<(), Error> {
    let runs = |vm: &VmView| matches!(vm.state, VmState::Running | VmState::Paused);
    let mut machines = client.vms(&VmFilter::default())?;
    machines.retain(|vm| runs(vm) && is_meant(vm));
    for vm in &machines {
        client.vm_stop(&vm.id.to_string(), &VmStop { force: true })?;
    }
    let deadline = Instant::now() + LIMIT;
    for vm in &machines {
        let left = deadline.saturating_duration_since(Instant::now());
        client.vm_wait(&vm.id.to_string(), left, |vm| vm.state == VmState::Stopped)?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(missing_docs, dead_code, clippy::unwrap_used)]
#[path = "../../../sdk/tests/fake/mod.rs"]
mod fake;

#[cfg(test)]
mod tests {
    use super::*;

    use super::fake::{Authority, answer};

    const VM: &str = r#"{"id":"0b8f5a66-8f4c-4a57-9d6e-000000000001","name":"NAME","state":"STATE","node":"node-01",
        "generation":3,"migration_id":null,"memory":536870912,"cpus":1,"disk":1073741824,"image":"","disks":[],
        "boot":"disk","network":"user","labels":{},"nodeSelector":{},"enable_tpm":false,
        "created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:01Z","revision":7,"_links":{}}"#;

    fn vm(name: &str, state: &str) -> String {
        VM.replace("NAME", name).replace("STATE", state)
    }

    #[test]
    fn what_runs_is_stopped_and_waited_for() {
        let (authority, directory) = (Authority::new(), tempfile::tempdir().unwrap());
        let list = [vm("a", "running"), vm("b", "stopped"), vm("elsewhere", "running")].join(",");
        let answers = [
            format!("{{\"items\":[{list}],\"revision\":7}}"),
            vm("a", "stopping"),
            vm("a", "stopping"),
            vm("a", "stopped"),
        ];
        let answers = answers.iter().map(|body| answer("200 OK", body)).collect();
        let (url, seen) = authority.serve("coordinator", answers);
        let client = authority.client(directory.path(), &[&url]);
        stop_those(&client, |vm| vm.name.as_str() != "elsewhere").unwrap();
        let asked: Vec<_> = seen.iter().take(4).map(|seen| (seen.target, seen.body)).collect();
        assert!(asked[0].0.starts_with("GET /api/v1/vms?"), "{asked:?}");
        assert!(asked[1].0.ends_with("000000000001/stop"), "{asked:?}");
        assert_eq!(asked[1].1, br#"{"force":true}"#);
        assert!(asked[3].0.starts_with("GET /api/v1/vms/0b8f"), "{asked:?}");
    }
}
