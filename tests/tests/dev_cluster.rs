//! `novacron dev` with the real programs: up, cut, killed, taken down, taken up again, gone.
#![allow(missing_docs, clippy::unwrap_used)]

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use novacron_tests::dev_cluster::DevCluster;
use serde_json::Value;

/// An election takes two to three seconds; a machine with two busy cores takes longer.
const DEADLINE: Duration = Duration::from_secs(60);

fn hosts(status: &Value) -> &Vec<Value> {
    status["hosts"].as_array().unwrap()
}

/// Looks again until it is so. Each look waits for the coordinators' answer.
fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    while !is_so()? {
        ensure!(Instant::now() < deadline, "not in time: {what}");
    }
    Ok(())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether a host reaches the API of another.
fn reaches(cluster: &DevCluster, from: &str, to: &Value) -> bool {
    let record = std::fs::read_to_string(cluster.directory().join("dev.json")).unwrap();
    let record: Value = serde_json::from_str(&record).unwrap();
    let namespace = format!("{}-{from}", record["tag"].as_str().unwrap());
    let connect = format!("exec 3<>/dev/tcp/{}/7443", to["address"].as_str().unwrap());
    let arguments = ["netns", "exec", &namespace, "timeout", "2", "bash", "-c", &connect];
    Command::new("ip").args(arguments).output().unwrap().status.success()
}

#[test]
fn a_cluster_lives_through_what_tests_do_to_it() -> Result<()> {
    let cluster = DevCluster::up(3, 2)?;
    let status = cluster.status()?;
    assert_eq!(hosts(&status).len(), 5);
    assert!(hosts(&status).iter().all(|host| host["alive"] == true), "{status:#}");
    let nodes = cluster.json(&["node", "list"])?;
    assert!(nodes.as_array().unwrap().iter().all(|node| node["state"] == "ready"), "{nodes:#}");

    if is_root() {
        cut_and_join(&cluster, &status)?;
    }
    admit_an_operator(&cluster)?;
    lose_the_leader(&cluster)?;
    take_down_and_up(&cluster)?;
    remove_and_rejoin(&cluster)
}

fn cut_and_join(cluster: &DevCluster, status: &Value) -> Result<()> {
    let (first, second) = (&hosts(status)[0], &hosts(status)[1]);
    ensure!(reaches(cluster, "node-01", first) && reaches(cluster, "node-01", second));
    cluster.dev(&["link", "node-01", "coordinator-1", "--down"])?;
    ensure!(!reaches(cluster, "node-01", first), "the link is cut");
    ensure!(reaches(cluster, "node-01", second), "no other link is");
    ensure!(reaches(cluster, "node-02", first), "and no other host's");
    cluster.dev(&["link", "node-01", "coordinator-1", "--up"])?;
    ensure!(reaches(cluster, "node-01", first));
    cluster.dev(&["link", "node-01", "node-02", "--rate", "100mbit"]).map(drop)
}

/// A token gives an operator credentials, once; an agent's credentials are no operator's.
fn admit_an_operator(cluster: &DevCluster) -> Result<()> {
    let token = cluster.json(&["token", "create", "--role", "operator", "--name", "alice"])?;
    let directory = tempfile::tempdir()?;
    let out = directory.path().join("alice");
    let redeem = || {
        let mut command = Command::new(cluster.program("novacron-coordinator"));
        command.args(["operator", "--name", "alice", "--token", token["token"].as_str().unwrap()]);
        command.args(["--coordinator", token["coordinators"][0].as_str().unwrap(), "--out"]);
        command.arg(&out).output()
    };
    let first = redeem()?;
    ensure!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    cluster.run(&["cluster", "show", "--credentials", &out.display().to_string()])?;
    std::fs::remove_dir_all(&out)?;
    ensure!(!redeem()?.status.success(), "a token is good once");
    let agents = cluster.directory().join("node-01/data/credentials");
    let refused =
        cluster.output(&["vm", "list", "--credentials", &agents.display().to_string()])?;
    ensure!(refused.status.code() == Some(5), "{refused:?}");
    Ok(())
}

fn lose_the_leader(cluster: &DevCluster) -> Result<()> {
    let leader = cluster.status()?["leader"].as_str().context("nobody leads")?.to_owned();
    cluster.dev(&["kill", &leader])?;
    until("another coordinator leads", || {
        Ok(cluster.status()?["leader"].as_str().is_some_and(|name| name != leader))
    })?;
    cluster.dev(&["start", &leader])?;
    until("it is back", || {
        let status = cluster.status()?;
        Ok(hosts(&status).iter().all(|host| host["alive"] == true && host["state"] != Value::Null))
    })
}

fn take_down_and_up(cluster: &DevCluster) -> Result<()> {
    let before = cluster.json(&["cluster", "show"])?;
    cluster.dev(&["down"])?;
    let status = cluster.status()?;
    ensure!(hosts(&status).iter().all(|host| host["alive"] == false), "{status:#}");
    cluster.dev(&["down"])?;
    cluster.dev(&["up"])?;
    let after = cluster.json(&["cluster", "show"])?;
    ensure!(before["cluster"] == after["cluster"], "another cluster came up");
    ensure!(after["members"].as_array().is_some_and(|members| members.len() == 3), "{after:#}");
    Ok(())
}

/// The others come up without it, even if it is the one that founded the cluster; then it comes back.
fn remove_and_rejoin(cluster: &DevCluster) -> Result<()> {
    let removed = "coordinator-1";
    let members = || -> Result<Vec<(String, u64)>> {
        let shown = cluster.json(&["cluster", "show"])?;
        let members = shown["members"].as_array().context("no members")?.iter();
        let member = |one: &Value| Some((one["name"].as_str()?.to_owned(), one["id"].as_u64()?));
        Ok(members.filter_map(member).collect())
    };
    let found = members()?.into_iter().find(|(name, _)| name == removed);
    let (_, id) = found.context("it is no member")?;
    cluster.dev(&["kill", removed])?;
    cluster.run(&["cluster", "remove", &id.to_string()])?;
    cluster.dev(&["down"])?;
    cluster.dev(&["up"])?;
    let left = members()?;
    ensure!(left.len() == 2 && left.iter().all(|(name, _)| name != removed), "{left:?}");
    until("it ends by itself", || {
        let status = cluster.status()?;
        Ok(hosts(&status).iter().any(|host| host["name"] == removed && host["alive"] == false))
    })?;
    cluster.dev(&["rejoin", removed])?;
    until("it is a member again", || {
        Ok(members()?.iter().any(|(name, new)| name == removed && *new > id))
    })
}
