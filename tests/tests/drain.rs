//! A node is drained while the leader dies: what can leave has left, what cannot is listed, and nothing of it was lost.
#![allow(missing_docs)]

use anyhow::{Context, Result, ensure};
use novacron_protocol::migration::MigrationPhase;
use novacron_protocol::vm::VmState;
use novacron_tests::fleet::{Fleet, NODES, PATIENCE, machine};
use novacron_tests::wait::until;
use serde_json::Value;

/// A label that the first node alone has.
const LABEL: (&str, &str) = ("rack", "a");

#[test]
fn a_drain_survives_the_leader_and_says_what_it_could_not_move() {
    Fleet::run("--test drain", |fleet| {
        give_a_label(fleet)?;
        // One at a time, so that there is a middle.
        fleet.cluster().run(&["cluster", "set", "--migrations-per-node", "1"])?;
        let guests = [fleet.boot("web-01", NODES[0])?, fleet.boot("web-02", NODES[0])?];
        make_stopped(fleet, "cold-01", false)?;
        make_stopped(fleet, "bound-01", true)?;

        fleet.set_rate("100mbit")?;
        fleet.cluster().run(&["node", "drain", NODES[0]])?;
        until("the first guest moves", PATIENCE, || {
            let mut open = fleet.client().migrations()?.into_iter();
            Ok(open.any(|view| view.phase >= MigrationPhase::DiskSync).then_some(()))
        })?;
        lose_the_leader(fleet)?;
        fleet.set_rate("1gbit")?;

        let drain = ["node", "drain", NODES[0], "--wait", "-o", "json"];
        let output = fleet.cluster().output(&drain)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        fleet.note(&said);
        ensure!(output.status.code() == Some(1), "one is left: {:?} {said}", output.status);
        ensure!(said.contains("1 blocked"), "{said}");
        let view: Value = serde_json::from_slice(&output.stdout)?;
        check_what_is_left(&view)?;
        for (name, state) in [
            ("web-01", VmState::Running),
            ("web-02", VmState::Running),
            ("cold-01", VmState::Stopped),
        ] {
            let vm = fleet.client().vm(name)?;
            let node = vm.node.as_ref().map(|node| node.as_str());
            ensure!(node == Some(NODES[1]) && vm.state == state, "{vm:#?}");
        }
        guests.iter().try_for_each(|guest| guest.check_it_goes_on())?;
        finish_by_hand(fleet)
    });
}

/// Once what holds it is gone, nothing is left.
fn finish_by_hand(fleet: &Fleet) -> Result<()> {
    let refused = fleet.cluster().output(&["node", "drain", NODES[1]])?;
    ensure!(refused.status.code() == Some(4), "the last node is not drained: {refused:?}");
    fleet.cluster().run(&["vm", "destroy", "bound-01", "--yes", "--wait"])?;
    let node = fleet.cluster().json(&["node", "drain", NODES[0], "--wait"])?;
    ensure!(node["scheduling"] == "drained", "{node:#}");
    let node = fleet.cluster().json(&["node", "undrain", NODES[0]])?;
    ensure!(node["scheduling"] == "active", "{node:#}");
    Ok(())
}

fn check_what_is_left(view: &Value) -> Result<()> {
    let machines = view["drain"]["machines"].as_array().context("no machines are listed")?;
    ensure!(machines.len() == 1, "exactly one is left: {view:#}");
    let left = &machines[0];
    let expected = left["vm_name"] == "bound-01" && left["status"] == "blocked";
    let reason = left["reason"].as_str().unwrap_or_default();
    ensure!(expected && reason.contains("it does not have the label `rack=a`"), "{left:#}");
    Ok(())
}

fn give_a_label(fleet: &Fleet) -> Result<()> {
    let path = fleet.cluster().directory().join(NODES[0]).join("agent.toml");
    let settings = std::fs::read_to_string(&path)?;
    let (key, value) = LABEL;
    std::fs::write(&path, format!("{settings}\n[labels]\n{key} = \"{value}\"\n"))?;
    fleet.dev(&["kill", NODES[0]])?;
    fleet.dev(&["start", NODES[0]])?;
    until("the node has its label", PATIENCE, || {
        Ok(fleet.client().node(NODES[0])?.labels.contains_key(key).then_some(()))
    })
}

fn make_stopped(fleet: &Fleet, name: &str, is_bound: bool) -> Result<()> {
    let mut create = machine(name, NODES[0])?;
    create.start = Some(false);
    if is_bound {
        create.node_selector.insert(LABEL.0.to_owned(), LABEL.1.to_owned());
    }
    fleet.client().vm_create(&create)?;
    let view = fleet.client().vm_wait(name, PATIENCE, |view| view.state == VmState::Stopped)?;
    ensure!(view.state == VmState::Stopped, "{view:#?}");
    Ok(())
}

fn lose_the_leader(fleet: &Fleet) -> Result<()> {
    let leader = fleet.cluster().status()?["leader"].as_str().context("nobody leads")?.to_owned();
    fleet.dev(&["kill", &leader, "--signal", "KILL"])?;
    until("another coordinator leads", PATIENCE, || {
        let status = fleet.cluster().status()?;
        Ok(status["leader"].as_str().is_some_and(|name| name != leader).then_some(()))
    })?;
    fleet.dev(&["start", &leader])
}
