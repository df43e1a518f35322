//! Logs for machines: every line of a JSON log is JSON, and one request can be followed by its id from the API through
//! the coordinator to the agent that did it.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use novacron_protocol::ids::Revision;
use novacron_protocol::node::NodeState;
use novacron_sdk::EventFilter;
use novacron_tests::dev_cluster::DevCluster;
use novacron_tests::wait;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

const HOSTS: [&str; 2] = ["coordinator-1", "node-01"];

fn log_file(cluster: &DevCluster, host: &str) -> PathBuf {
    cluster.directory().join(host).join("log")
}

/// Has every host of the cluster log JSON from now on.
fn log_json(cluster: &DevCluster) -> Result<()> {
    for (host, name) in HOSTS.into_iter().zip(["coordinator.toml", "agent.toml"]) {
        cluster.dev(&["kill", host])?;
        let file = cluster.directory().join(host).join(name);
        let text = std::fs::read_to_string(&file)?;
        ensure!(text.contains("format = \"text\""), "no log format in {}", file.display());
        std::fs::write(&file, text.replace("format = \"text\"", "format = \"json\""))?;
        std::fs::write(log_file(cluster, host), "")?;
        cluster.dev(&["start", host])?;
    }
    Ok(())
}

/// The lines of a host's log that belong to a request, as `span.request` or in a list of spans.
fn lines_of(cluster: &DevCluster, host: &str, request: &str) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(log_file(cluster, host))?;
    // The last line may be in the middle of being written.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let mut found = Vec::new();
    for line in whole.lines() {
        let value: Value =
            serde_json::from_str(line).with_context(|| format!("{host} logs `{line}`"))?;
        let in_span = |span: &Value| span["request"] == request;
        if value["spans"].as_array().is_some_and(|spans| spans.iter().any(in_span)) {
            found.push(value);
        }
    }
    Ok(found)
}

#[test]
fn a_request_is_followed_by_its_id_through_json_logs() -> Result<()> {
    let cluster = DevCluster::up(1, 1)?;
    log_json(&cluster)?;
    let client = cluster.client()?;
    wait::until("the API answers and the node is ready", LIMIT, || {
        // While nobody leads yet, there is no answer.
        let Ok(nodes) = client.nodes() else { return Ok(None) };
        Ok(nodes.iter().all(|node| node.state == NodeState::Ready).then_some(()))
    })?;
    // A kernel that is no kernel will do: the machine is not started.
    let kernel = cluster.directory().join("node-01").join("agent.toml").display().to_string();
    let create = ["vm", "create", "traced", "--memory", "64M", "--cpus", "1", "--kernel", &kernel];
    cluster.run(&[&create[..], &["--no-start", "--wait", "--timeout", "60s"]].concat())?;
    let events = client.events(&EventFilter::default(), Revision(0))?;
    let created = events.iter().find(|event| event.message.contains("traced"));
    let request = created.and_then(|event| event.request).context("the machine has an event")?;
    for host in HOSTS {
        let lines = lines_of(&cluster, host, &request.to_string())?;
        ensure!(!lines.is_empty(), "{host} says nothing of request {request}");
    }
    Ok(())
}
