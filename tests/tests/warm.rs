//! A guest that writes to its disk moves warm: it is shut down at one node, boots at the other, and finds all that it
//! had written. Then it moves back while it runs, and most of its disk need not be sent.
#![allow(missing_docs)]

use anyhow::{Context, Result, ensure};
use novacron_tests::fleet::{Fleet, Guest, NODES, PATIENCE};
use novacron_tests::wait::until;
use novacron_tests::witness::Witness;
use serde_json::Value;

/// Bytes of the disk that the guest has written by the time it is busy, at least.
const WRITTEN_BYTES: u64 = 8 << 20;

#[test]
fn a_guest_that_writes_moves_warm_and_comes_back() {
    Fleet::run("--test warm", |fleet| {
        let guest = fleet.boot("web-01", NODES[0])?;
        let witness = Witness::begin(&guest.places());
        let record = migrate(&guest, NODES[1], "--warm")?;
        ensure!(record["mode"] == "warm" && record["memory_path"] == "none", "{record:#}");
        ensure!(record["rounds"].as_u64() > Some(0), "no rounds: {record:#}");
        ensure!(record["downtime_ms"].as_f64() > Some(0.0), "no downtime: {record:#}");
        ensure!(record["bytes_disk"].as_u64() > Some(WRITTEN_BYTES), "{record:#}");
        check_its_second_boot(&guest)?;

        let record = migrate(&guest, NODES[0], "--live")?;
        ensure!(record["bytes_disk_held"].as_u64() > Some(WRITTEN_BYTES), "{record:#}");
        witness.end().map(drop)
    });
}

fn migrate(guest: &Guest<'_>, target: &str, how: &str) -> Result<Value> {
    let order = ["vm", "migrate", &guest.name, "--target", target, how, "--watch", "--wait"];
    let record = guest.fleet.cluster().json(&order)?;
    guest.fleet.note(&format!("moved to {target}: {record}"));
    ensure!(record["status"] == "completed" && record["verified"] == true, "{record:#}");
    Ok(record)
}

/// What the guest finds on its disk when it boots, by its own checks.
fn check_its_second_boot(guest: &Guest<'_>) -> Result<()> {
    let survey = until("the guest has read its disk", PATIENCE, || {
        let log = guest.console().unwrap_or_default();
        let surveys: Vec<&str> =
            log.lines().filter(|line| line.contains("from_earlier_boot=")).collect();
        Ok(surveys.get(1).map(|line| (*line).to_owned()))
    });
    let survey = survey.context("it does not boot at the target")?;
    guest.fleet.note(&survey);
    ensure!(survey.contains("broken_by_earlier_boot=0"), "{survey}");
    ensure!(!survey.contains("from_earlier_boot=0 "), "nothing arrived: {survey}");
    Ok(())
}
