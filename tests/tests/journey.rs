//! A busy guest moves there and back, ordered as a person would, and then shows that its disk came along.
#![allow(missing_docs)]

use std::process::Command;

use anyhow::{Context, Result, ensure};
use novacron_protocol::vm::VmState;
use novacron_sdk::api::VmStop;
use novacron_tests::fleet::{Fleet, Guest, NODES, PATIENCE};
use novacron_tests::wait::until;
use novacron_tests::witness::Witness;
use serde_json::Value;

/// What every record of a migration says.
const RECORD: [&str; 13] = [
    "migration_id",
    "status",
    "phase",
    "total_ms",
    "downtime_ms",
    "rounds",
    "bytes_guest",
    "bytes_wire",
    "bytes_disk",
    "compression_ratio",
    "verified",
    "source",
    "target",
];

#[test]
fn a_busy_guest_moves_there_and_back() {
    Fleet::run("--test journey", |fleet| {
        let guest = fleet.boot("web-01", NODES[0])?;
        let witness = Witness::begin(&guest.places());
        travel(&guest, NODES[0], NODES[1])?;
        travel(&guest, NODES[1], NODES[0])?;
        witness.end()?;
        check_disk(&guest, NODES[0])
    });
}

fn travel(guest: &Guest<'_>, source: &str, target: &str) -> Result<()> {
    let order = ["vm", "migrate", &guest.name, "--target", target, "--live", "--watch", "--wait"];
    let record = guest.fleet.cluster().json(&order)?;
    guest.fleet.note(&format!("moved from {source} to {target}: {record}"));
    for field in RECORD {
        ensure!(!record[field].is_null(), "the record has no {field}: {record:#}");
    }
    ensure!(record["status"] == "completed" && record["verified"] == true, "{record:#}");
    ensure!(record["source"] == source && record["target"] == target, "{record:#}");
    check_downtime(&record)?;
    // The command returned, so the source has removed its copy.
    // The end is told as soon as the target has the machine, a moment before the source has cleared up.
    let place = guest.place(source);
    let gone = until(&format!("nothing is left at {source}"), PATIENCE, || {
        Ok(place.remains().is_empty().then_some(()))
    });
    gone.with_context(|| format!("left: {:#?}", place.remains()))?;
    guest.check_it_goes_on()
}

/// The record says which part of the downtime was what.
fn check_downtime(record: &Value) -> Result<()> {
    let parts = record["downtime_parts"].as_object().context("no parts of the downtime")?;
    let total_us: f64 = parts.values().filter_map(Value::as_f64).sum();
    let downtime_ms = record["downtime_ms"].as_f64().unwrap_or_default();
    ensure!((total_us / 1000.0 - downtime_ms).abs() < 0.01, "the parts are not it: {record:#}");
    Ok(())
}

/// Stops the guest and looks at its disk from outside, then lets it read what it wrote before it moved.
fn check_disk(guest: &Guest<'_>, node: &str) -> Result<()> {
    let client = guest.fleet.client();
    client.vm_stop(&guest.name, &VmStop::default())?;
    client.vm_wait(&guest.name, PATIENCE, |vm| vm.state == VmState::Stopped)?;
    check_format(guest, node)?;
    client.vm_start(&guest.name)?;
    let survey = until("the guest has read its disk", PATIENCE, || {
        let log = guest.console().unwrap_or_default();
        let second = log.rmatches("from_earlier_boot=").count() > 1;
        let line = log.lines().rfind(|line| line.contains("from_earlier_boot="));
        Ok(line.filter(|_| second).map(str::to_owned))
    })?;
    guest.fleet.note(&survey);
    ensure!(survey.contains("broken_by_earlier_boot=0"), "{survey}");
    ensure!(!survey.contains("from_earlier_boot=0 "), "nothing arrived: {survey}");
    Ok(())
}

fn check_format(guest: &Guest<'_>, node: &str) -> Result<()> {
    let disk = guest.place(node).disk("disk0.qcow2");
    let check = Command::new("qemu-img").arg("check").arg(&disk).output()?;
    let said = String::from_utf8_lossy(&check.stdout);
    ensure!(check.status.success(), "{}: {said}", disk.display());
    Ok(())
}
