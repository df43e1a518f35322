//! Live migrations of a busy guest to which something happens on the way, on real clusters: whatever it is, one copy
//! runs, the guest misses nothing, nothing is left behind, and the next migration works.
#![allow(missing_docs)]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use novacron_protocol::migration::{MigrationMode, MigrationStatus};
use novacron_sdk::api::{MigrationView, VmCreate, VmMigrate};
use novacron_tests::agent::Agent;
use novacron_tests::attempt::{Attempt, Moment};
use novacron_tests::fleet::{Fleet, Guest, NODES, PATIENCE, guest_file, machine};
use novacron_tests::wait::until;

/// On this link memory takes seconds: long enough to be hit in a phase.
const SLOW: &str = "100mbit";
/// Longer than agents believe in a link that is silent, and in a switchover.
const LINK_IS_GONE: Duration = Duration::from_secs(20);
/// The rate of a development cluster's links.
const FAST: &str = "1gbit";

/// Moves the guest over a slow link and does something to the migration at a moment; then all must be in order, and
/// an undisturbed migration must work.
fn disturb(
    guest: &Guest<'_>,
    moment: Moment,
    disturbance: impl FnOnce(&Attempt<'_>) -> Result<()>,
) -> Result<MigrationView> {
    guest.fleet.set_rate(SLOW)?;
    let disturbed = move_disturbed(guest, moment, disturbance);
    let view = disturbed.with_context(|| format!("disturbed in {moment}"))?;
    guest.fleet.set_rate(FAST)?;
    move_undisturbed(guest).with_context(|| format!("after it was disturbed in {moment}"))?;
    Ok(view)
}

fn move_disturbed(
    guest: &Guest<'_>,
    moment: Moment,
    disturbance: impl FnOnce(&Attempt<'_>) -> Result<()>,
) -> Result<MigrationView> {
    let attempt = Attempt::begin(guest)?;
    attempt.reach(moment)?;
    disturbance(&attempt)?;
    attempt.settle()
}

fn move_undisturbed(guest: &Guest<'_>) -> Result<MigrationView> {
    let view = Attempt::begin(guest)?.settle()?;
    ensure!(view.status == MigrationStatus::Completed, "{view:#?}");
    Ok(view)
}

fn ensure_status(view: &MigrationView, status: MigrationStatus) -> Result<()> {
    ensure!(view.status == status, "it should have ended {status:?}: {view:#?}");
    Ok(())
}

/// A good part of what the guest has in its memory, in pages: 16 MiB.
const GOOD_PART_PAGES: u64 = 4096;

/// Memory that had arrived before an agent was restarted was not sent again.
fn ensure_resumed(view: &MigrationView, moment: Moment) -> Result<()> {
    ensure_status(view, MigrationStatus::Completed)?;
    let is_enough = moment != Moment::DataSyncLate || view.pages_same >= GOOD_PART_PAGES;
    ensure!(is_enough, "only {} pages were not sent again: {view:#?}", view.pages_same);
    Ok(())
}

/// A migration that cannot have been handed over yet when it was disturbed must have failed.
fn ensure_failed_before_switchover(view: &MigrationView, moment: Moment) -> Result<()> {
    match moment {
        Moment::Switchover => Ok(()),
        _ => ensure_status(view, MigrationStatus::Failed),
    }
}

#[test]
fn a_target_whose_qemu_is_killed() {
    Fleet::run("--test failures a_target_whose_qemu_is_killed", |fleet| {
        let guest = fleet.boot("web-01", NODES[0])?;
        for moment in [Moment::Prepare, Moment::DataSyncEarly, Moment::Switchover] {
            let view =
                disturb(&guest, moment, |attempt| guest.place(attempt.target()).kill_qemu())?;
            ensure_failed_before_switchover(&view, moment)?;
        }
        Ok(())
    });
}

#[test]
fn a_target_whose_agent_is_killed() {
    Fleet::run("--test failures a_target_whose_agent_is_killed", |fleet| {
        let guest = fleet.boot("web-01", NODES[0])?;
        for moment in [Moment::DiskSync, Moment::DataSyncLate, Moment::Switchover] {
            let view = disturb(&guest, moment, |attempt| {
                fleet.dev(&["kill", attempt.target()])?;
                // The source looks for it, and finds an agent that has forgotten everything but the guest's memory.
                fleet.dev(&["start", attempt.target()])
            })?;
            // A guest that was released is taken back from a target that has lost it.
            if moment != Moment::Switchover {
                ensure_resumed(&view, moment)?;
            }
        }
        Ok(())
    });
}

#[test]
fn a_source_whose_agent_is_killed() {
    Fleet::run("--test failures a_source_whose_agent_is_killed", |fleet| {
        let guest = fleet.boot("web-01", NODES[0])?;
        for moment in [Moment::Prepare, Moment::DataSyncLate, Moment::Switchover] {
            let view = disturb(&guest, moment, |attempt| {
                fleet.dev(&["kill", attempt.source()])?;
                // Its death stops no guest.
                if moment == Moment::DataSyncLate {
                    attempt.wait_until_it_runs_at(attempt.source())?;
                }
                fleet.dev(&["start", attempt.source()])
            })?;
            // The new agent goes on, or asks what became of what was released.
            ensure_resumed(&view, moment)?;
        }
        Ok(())
    });
}

#[test]
fn a_link_that_is_cut() {
    Fleet::run("--test failures a_link_that_is_cut", |fleet| {
        if !fleet.has_links {
            fleet.note("there are no links to cut without root");
            return Ok(());
        }
        let guest = fleet.boot("web-01", NODES[0])?;
        for moment in [Moment::DataSyncEarly, Moment::Switchover] {
            let view = disturb(&guest, moment, |attempt| {
                fleet.dev(&["link", NODES[0], NODES[1], "--down"])?;
                let ended = attempt.wait_until_it_ended(LINK_IS_GONE);
                // Before the switchover it waits for the link. In it a guest is taken back, or, once it was released,
                // stands still until the two can speak again.
                ensure!(ended.is_err() || moment == Moment::Switchover, "it should have waited");
                fleet.dev(&["link", NODES[0], NODES[1], "--up"])
            })?;
            if moment == Moment::DataSyncEarly {
                ensure_status(&view, MigrationStatus::Completed)?;
            }
        }
        Ok(())
    });
}

#[test]
fn a_leader_that_is_killed() {
    Fleet::run("--test failures a_leader_that_is_killed", |fleet| {
        let guest = fleet.boot("web-01", NODES[0])?;
        for moment in [Moment::DataSyncEarly, Moment::Switchover] {
            let leader = leader(fleet)?;
            let view = disturb(&guest, moment, |_| {
                fleet.dev(&["kill", &leader])?;
                until("another leads", PATIENCE, || {
                    Ok(self::leader(fleet).ok().filter(|other| *other != leader))
                })?;
                Ok(())
            })?;
            // The agents need no coordinator to end what was allowed.
            ensure_status(&view, MigrationStatus::Completed)?;
            fleet.dev(&["start", &leader])?;
        }
        Ok(())
    });
}

fn leader(fleet: &Fleet) -> Result<String> {
    let status = fleet.cluster().status()?;
    Ok(status["leader"].as_str().context("nobody leads")?.to_owned())
}

#[test]
fn a_migration_that_is_cancelled() {
    Fleet::run("--test failures a_migration_that_is_cancelled", |fleet| {
        let guest = fleet.boot("web-01", NODES[0])?;
        for moment in [Moment::Prepare, Moment::DataSyncEarly, Moment::DataSyncLate] {
            let view = disturb(&guest, moment, |attempt| {
                fleet.client().migration_cancel(attempt.ordered.migration_id)?;
                Ok(())
            })?;
            ensure_status(&view, MigrationStatus::Cancelled)?;
        }
        Ok(())
    });
}

/// Writes other pages faster than [`SLOW`] carries, as long as it has all of its time.
const TOO_FAST: &str = "novacron.memory_mib=32 novacron.memory_rate=1 novacron.full_rate=40";

#[test]
fn a_guest_that_is_slowed_down_while_its_target_is_restarted() {
    Fleet::run("--test failures a_guest_that_is_slowed_down", |fleet| {
        let arguments = std::fs::read_to_string(guest_file("arguments")?)?;
        let append = Some(format!("{arguments} {TOO_FAST}"));
        let guest = fleet.boot_as(&VmCreate { append, ..machine("web-01", NODES[0])? })?;
        fleet.set_rate(SLOW)?;
        let order = |target: &str| VmMigrate {
            auto_converge: true,
            ..VmMigrate::to(target, MigrationMode::Live)
        };
        let attempt = Attempt::begin_as(&guest, order)?;
        let source = Agent { fleet, node: attempt.source() };
        until("the guest is slowed down", PATIENCE, || {
            Ok(source.log_since(0)?.contains("the guest is slowed down").then_some(()))
        })?;
        fleet.dev(&["kill", attempt.target()])?;
        fleet.dev(&["start", attempt.target()])?;
        ensure_status(&attempt.settle()?, MigrationStatus::Completed)
    });
}
