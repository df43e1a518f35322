//! Live migrations of a busy guest to which something happens on the way, on real clusters: whatever it is, one copy
//! runs, the guest misses nothing, nothing is left behind, and the next migration works.
#![allow(missing_docs)]

use anyhow::{Context, Result, ensure};
use novacron_protocol::migration::MigrationStatus;
use novacron_sdk::api::MigrationView;
use novacron_tests::attempt::{Attempt, Moment};
use novacron_tests::fleet::{Fleet, Guest, NODES};

/// On this link memory takes seconds: long enough to be hit in a phase.
const SLOW: &str = "100mbit";
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

fn ensure_failed(view: &MigrationView) -> Result<()> {
    ensure!(view.status == MigrationStatus::Failed, "it should have failed: {view:#?}");
    Ok(())
}

#[test]
fn a_target_whose_qemu_is_killed() {
    Fleet::run("--test failures a_target_whose_qemu_is_killed", |fleet| {
        let guest = fleet.boot("web-01", NODES[0])?;
        for moment in [Moment::Prepare, Moment::DataSyncEarly, Moment::Switchover] {
            let view =
                disturb(&guest, moment, |attempt| guest.place(attempt.target()).kill_qemu())?;
            if moment != Moment::Switchover {
                ensure_failed(&view)?;
            }
        }
        Ok(())
    });
}
