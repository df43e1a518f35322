//! Snapshots of a machine whose guest writes all the time, ordered as a person would: the disk becomes what it was, as the
//! guest itself finds.
#![allow(missing_docs)]

use anyhow::{Context, Result, ensure};
use novacron_protocol::vm::VmState;
use novacron_sdk::api::VmStop;
use novacron_tests::fleet::{Fleet, Guest, NODES, PATIENCE};
use novacron_tests::wait::until;

/// Blocks that the guest writes around.
const BLOCKS: u64 = 64;

#[test]
fn a_guests_disk_becomes_what_it_was_when_the_snapshot_was_taken() {
    Fleet::run("--test snapshots", |fleet| {
        let guest = fleet.boot_small("web-01", NODES[0])?;
        let cluster = fleet.cluster();
        cluster.run(&["project", "set", "default", "--snapshots", "1"])?;
        until_written(&guest, BLOCKS + 1)?;

        let least = guest_says(&guest)?.written;
        let first = ["vm", "snapshot", "create", &guest.name, "first", "--wait"];
        let taken = cluster.json(&first)?;
        ensure!(taken["state"] == "ready", "{taken:#}");
        // What the console shows is a little behind.
        let most = until_ticks(&guest, guest_says(&guest)?.tick + 2)?.written + 1;
        fleet.note(&format!("the snapshot is of a write from {least} to {most}"));
        let refused = refusal(fleet, &["vm", "snapshot", "create", &guest.name, "second"])?;
        ensure!(refused.contains("quota"), "{refused}");

        // Everything is written anew, and the guest has noticed nothing.
        until_written(&guest, most + BLOCKS)?;
        guest.check_it_goes_on()?;
        let refused = refusal(fleet, &["vm", "restore", &guest.name, "first"])?;
        ensure!(refused.contains("stop"), "{refused}");
        let client = fleet.client();
        client.vm_stop(&guest.name, &VmStop { force: true })?;
        client.vm_wait(&guest.name, PATIENCE, |vm| vm.state == VmState::Stopped)?;
        cluster.json(&["vm", "restore", &guest.name, "first", "--wait"])?;
        client.vm_start(&guest.name)?;
        check_what_is_there(&guest, least, most)?;

        cluster.run(&["vm", "snapshot", "delete", &guest.name, "first", "--wait"])?;
        ensure!(client.snapshots(&guest.name)?.is_empty(), "it is listed still");
        // It takes none of the quota any more.
        let again = ["vm", "snapshot", "create", &guest.name, "second", "--wait"];
        ensure!(cluster.json(&again)?["state"] == "ready", "there is room for one");
        Ok(())
    });
}

/// What a client says that is refused.
fn refusal(fleet: &Fleet, arguments: &[&str]) -> Result<String> {
    let output = fleet.cluster().output(arguments)?;
    ensure!(!output.status.success(), "{arguments:?} is not refused");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// What a guest says of itself.
#[derive(Debug, Clone, Copy)]
struct Said {
    tick: u64,
    /// Blocks that it has written: it checks one after each.
    written: u64,
}

fn guest_says(guest: &Guest<'_>) -> Result<Said> {
    let log = guest.console()?;
    // The last line may still be growing.
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let line = whole.lines().rfind(|line| line.contains(" tick=")).context("it says nothing")?;
    Ok(Said { tick: number(line, "tick")?, written: number(line, "disk_checked_blocks")? })
}

fn number(line: &str, name: &str) -> Result<u64> {
    let (_, rest) = line.split_once(&format!(" {name}=")).with_context(|| line.to_owned())?;
    let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().with_context(|| line.to_owned())
}

fn until_written(guest: &Guest<'_>, blocks: u64) -> Result<Said> {
    until("the guest has written enough", PATIENCE, || {
        let said = guest_says(guest)?;
        Ok((said.written >= blocks).then_some(said))
    })
}

fn until_ticks(guest: &Guest<'_>, ticks: u64) -> Result<Said> {
    until("the guest goes on", PATIENCE, || {
        let said = guest_says(guest)?;
        Ok((said.tick >= ticks).then_some(said))
    })
}

/// The guest has booted again, and says what it finds on its disk: every block whole, and the last write that is there is
/// one from before the snapshot.
fn check_what_is_there(guest: &Guest<'_>, least: u64, most: u64) -> Result<()> {
    let survey = until("the guest has read its disk", PATIENCE, || {
        let log = guest.console().unwrap_or_default();
        let surveys: Vec<_> = log.lines().filter(|line| line.contains(" newest=")).collect();
        Ok((surveys.len() > 1).then(|| surveys[surveys.len() - 1].to_owned()))
    })?;
    guest.fleet.note(&survey);
    ensure!(number(&survey, "broken_by_earlier_boot")? == 0, "{survey}");
    ensure!(number(&survey, "from_earlier_boot")? == BLOCKS, "{survey}");
    let newest = number(&survey, "newest")?;
    ensure!((least..=most).contains(&newest), "{survey} is not from {least} to {most}");
    Ok(())
}
