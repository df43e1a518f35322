//! What the ledger holds of a guest is what the guest used, whatever happens to its agents, its place and the leader.
#![allow(missing_docs)]

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use novacron_protocol::usage::Meter;
use novacron_protocol::vm::VmState;
use novacron_sdk::UsageFilter;
use novacron_sdk::api::{VmCreate, VmStop};
use novacron_tests::fleet::{Fleet, Guest, NODES, PATIENCE, machine};
use novacron_tests::wait::until;

#[test]
fn the_ledger_holds_what_a_guest_used() {
    Fleet::run("--test metering", |fleet| {
        let created_s = now_s()?;
        let guest = start(fleet, "web-01", NODES[0])?;
        let runs_since_s = now_s()?;
        fleet.dev(&["kill", NODES[0], "--signal", "KILL"])?;
        lose_the_leader(fleet)?;
        fleet.dev(&["start", NODES[0]])?;
        fleet.wait_until_nodes_are_ready()?;
        travel(&guest, NODES[1])?;
        fleet.dev(&["kill", NODES[1], "--signal", "KILL"])?;
        fleet.dev(&["start", NODES[1]])?;
        fleet.wait_until_nodes_are_ready()?;
        let wire = travel(&guest, NODES[0])?;
        guest.check_it_goes_on()?;

        let runs_until_s = now_s()?;
        let client = fleet.client();
        client.vm_stop(&guest.name, &VmStop { force: true })?;
        client.vm_wait(&guest.name, PATIENCE, |vm| vm.state == VmState::Stopped)?;
        let stopped_s = now_s()? + 1;
        // A guest that moves runs nowhere for a moment, which may hold the beginning of a second.
        let least_s = runs_until_s - runs_since_s - 2;
        let seconds = until("the end of the guest is in the ledger", PATIENCE, || {
            let seconds = used(&guest, Meter::VmSeconds)?;
            Ok((seconds >= least_s).then_some(seconds))
        })?;
        fleet.note(&format!("{seconds} s are in the ledger, {least_s} at least are due"));
        ensure!(seconds <= stopped_s - created_s, "{seconds} s in {created_s}..{stopped_s}");
        ensure!(used(&guest, Meter::Migrations)? == 2, "two migrations were made");
        ensure!(used(&guest, Meter::BytesMoved)? >= wire, "at least {wire} bytes were moved");
        check_disk(&guest, least_s, created_s)
    });
}

/// Bytes of the guest's disk.
const DISK_BYTES: i128 = 16 << 20;

/// Makes a guest; it runs, and may not have booted.
fn start<'a>(fleet: &'a Fleet, name: &str, node: &str) -> Result<Guest<'a>> {
    let create = VmCreate { disk: Some(DISK_BYTES as u64), ..machine(name, node)? };
    let client = fleet.client();
    let id = client.vm_create(&create)?.id.to_string();
    client.vm_wait(name, PATIENCE, |vm| vm.state == VmState::Running)?;
    fleet.note(&format!("{name} runs"));
    Ok(Guest { fleet, name: name.to_owned(), id })
}

/// Removes the machine: its disk was there all the time.
fn check_disk(guest: &Guest<'_>, least_s: i128, created_s: i128) -> Result<()> {
    let client = guest.fleet.client();
    client.vm_delete(&guest.name)?;
    let byte_seconds = until("the end of the disk is in the ledger", PATIENCE, || {
        let byte_seconds = used(guest, Meter::DiskByteSeconds)?;
        Ok((byte_seconds >= DISK_BYTES * least_s).then_some(byte_seconds))
    })?;
    ensure!(byte_seconds % DISK_BYTES == 0, "{byte_seconds} are no whole seconds");
    let most = DISK_BYTES * (now_s()? + 1 - created_s);
    ensure!(byte_seconds <= most, "{byte_seconds} of at most {most}");
    Ok(())
}

fn now_s() -> Result<i128> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs().into())
}

/// Moves the guest; gives the bytes on the wire.
fn travel(guest: &Guest<'_>, target: &str) -> Result<i128> {
    let order = ["vm", "migrate", &guest.name, "--target", target, "--live", "--wait"];
    let record = guest.fleet.cluster().json(&order)?;
    ensure!(record["status"] == "completed", "{record:#}");
    record["bytes_wire"].as_i64().map(i128::from).context("no bytes_wire")
}

fn used(guest: &Guest<'_>, meter: Meter) -> Result<i128> {
    let filter =
        UsageFilter { vm: Some(guest.id.clone()), meter: Some(meter), ..UsageFilter::default() };
    let rows = guest.fleet.client().usage(&filter)?;
    Ok(rows.iter().map(|row| row.quantity.0).sum())
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
