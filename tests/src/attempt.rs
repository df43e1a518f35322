//! A live migration to which something happens on the way, and what must be true afterwards, whatever happened.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use novacron_protocol::migration::{MigrationMode, MigrationPhase, MigrationStatus};
use novacron_protocol::vm::VmState;
use novacron_sdk::api::{MigrationView, VmMigrate};

use crate::fleet::{Guest, PATIENCE};
use crate::wait::until;
use crate::witness::{Copy, Witness};

/// For how long nobody may have run the guest: a link is given up after 10 s, a switchover too.
const STILL_MAX: Duration = Duration::from_secs(30);

/// When on its way something happens to a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The target's QEMU is there.
    Prepare,
    /// The disks are being copied.
    DiskSync,
    /// Memory has begun to be copied.
    DataSyncEarly,
    /// Half of the memory is copied.
    DataSyncLate,
    /// The guest stands still.
    Switchover,
}

impl fmt::Display for Moment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Prepare => "prepare",
            Self::DiskSync => "disk_sync",
            Self::DataSyncEarly => "early data_sync",
            Self::DataSyncLate => "late data_sync",
            Self::Switchover => "switchover",
        })
    }
}

/// A migration under way.
#[derive(Debug)]
pub struct Attempt<'a> {
    guest: &'a Guest<'a>,
    witness: Witness,
    /// As it was when it was ordered.
    pub ordered: MigrationView,
}

impl<'a> Attempt<'a> {
    /// Orders the guest to the other node and watches it from now on.
    ///
    /// # Errors
    /// It is refused.
    pub fn begin(guest: &'a Guest<'a>) -> Result<Self> {
        Self::begin_as(guest, |target| VmMigrate::to(target, MigrationMode::Live))
    }

    /// The same by this order.
    ///
    /// # Errors
    /// It is refused.
    pub fn begin_as(guest: &'a Guest<'a>, order: impl FnOnce(&str) -> VmMigrate) -> Result<Self> {
        guest.fleet.wait_until_nodes_are_ready()?;
        let (_, target) = guest.here_and_there()?;
        let witness = Witness::begin(&guest.places());
        let ordered = guest.migrate_as(&order(target))?;
        Ok(Self { guest, witness, ordered })
    }

    /// The node that the guest leaves.
    pub fn source(&self) -> &str {
        self.ordered.source.as_str()
    }

    /// The node that it shall go to.
    pub fn target(&self) -> &str {
        self.ordered.target.as_str()
    }

    /// How it stands.
    ///
    /// # Errors
    /// Nobody says.
    pub fn view(&self) -> Result<MigrationView> {
        Ok(self.guest.fleet.client().migration(self.ordered.migration_id)?)
    }

    /// Waits for the moment.
    ///
    /// # Errors
    /// The migration ended before it was seen.
    pub fn reach(&self, moment: Moment) -> Result<()> {
        until(&format!("the migration is in {moment}"), PATIENCE, || {
            let view = self.view()?;
            if self.is_at(moment, &view) {
                return Ok(Some(()));
            }
            ensure!(
                !view.status.is_terminal(),
                "the migration ended before {moment} was seen: {:?}, {:?} {}",
                view.status,
                view.phase,
                view.reason
            );
            Ok(None)
        })?;
        self.guest.fleet.note(&format!("the migration is in {moment}"));
        Ok(())
    }

    fn is_at(&self, moment: Moment, view: &MigrationView) -> bool {
        let memory_bytes = 192 << 20;
        match moment {
            Moment::Prepare => self.copy_at(self.target()) != Copy::Absent,
            Moment::DiskSync => view.phase == MigrationPhase::DiskSync,
            Moment::DataSyncEarly => view.phase == MigrationPhase::DataSync,
            Moment::DataSyncLate => {
                view.phase == MigrationPhase::DataSync && view.bytes_guest >= memory_bytes / 2
            }
            Moment::Switchover => self.copy_at(self.source()) == Copy::Still,
        }
    }

    fn copy_at(&self, node: &str) -> Copy {
        let places = self.guest.places();
        let index = places.iter().position(|place| place.node == node);
        index.map_or(Copy::Absent, |index| self.witness.seen().copies[index])
    }

    /// Waits until it ended, well or not.
    ///
    /// # Errors
    /// It does not end.
    pub fn wait_until_it_ended(&self, limit: Duration) -> Result<MigrationView> {
        until("the migration ends", limit, || {
            // A coordinator may be electing.
            Ok(self.view().ok().filter(|view| view.status.is_terminal()))
        })
    }

    /// Waits until it ended and everything is in order again: the guest runs at one node, whole, and nothing of it
    /// is at the other. Gives the record.
    ///
    /// # Errors
    /// What is not in order.
    pub fn settle(self) -> Result<MigrationView> {
        let view = self.wait_until_it_ended(PATIENCE)?;
        let (status, reason) = (view.status, &view.reason);
        self.guest.fleet.note(&format!("the migration ended: {status:?} {reason}"));
        check_record(&view)?;
        let (winner, loser) = match view.status {
            MigrationStatus::Completed => (self.target(), self.source()),
            _ => (self.source(), self.target()),
        };
        self.check_it_runs_at(winner)?;
        self.guest.check_it_goes_on().with_context(|| format!("the guest at {winner}"))?;
        self.check_nothing_is_at(loser)?;
        let fleet = self.guest.fleet;
        fleet.note(&format!("all is in order, the guest at {winner}"));
        let seen = self.witness.end()?;
        fleet
            .note(&format!("{} looks, nobody ran it for {:?} at most", seen.looks, seen.still_max));
        ensure!(seen.still_max < STILL_MAX, "nobody ran the guest for {:?}", seen.still_max);
        Ok(view)
    }

    /// Waits until a QEMU at a node runs the guest, whatever anybody says.
    ///
    /// # Errors
    /// None does.
    pub fn wait_until_it_runs_at(&self, node: &str) -> Result<()> {
        until(&format!("its QEMU runs it at {node}"), PATIENCE, || {
            Ok((self.copy_at(node) == Copy::Running).then_some(()))
        })
    }

    fn check_it_runs_at(&self, node: &str) -> Result<()> {
        let mut last = String::new();
        let runs = until(&format!("the API says that it runs at {node}"), PATIENCE, || {
            let Ok(view) = self.guest.view() else { return Ok(None) };
            last = format!("{:?} at {:?} {}", view.state, view.node, view.reason);
            let is_there = view.node.as_ref().is_some_and(|at| at.as_str() == node);
            let is_quiet = view.migration_id.is_none();
            Ok((is_there && is_quiet && view.state == VmState::Running).then_some(()))
        });
        runs.with_context(|| format!("it says {last}"))?;
        self.wait_until_it_runs_at(node)
    }

    fn check_nothing_is_at(&self, node: &str) -> Result<()> {
        let place = self.guest.place(node);
        let gone = until(&format!("nothing is left at {node}"), PATIENCE, || {
            Ok(place.remains().is_empty().then_some(()))
        });
        gone.with_context(|| format!("left: {:#?}", place.remains()))
    }
}

fn check_record(view: &MigrationView) -> Result<()> {
    match view.status {
        MigrationStatus::Completed => {
            ensure!(view.verified, "memory and disks were not compared: {view:#?}");
            ensure!(view.downtime_ms.is_some_and(|ms| ms > 0.0), "no downtime: {view:#?}");
        }
        MigrationStatus::Failed => ensure!(!view.reason.is_empty(), "no reason: {view:#?}"),
        MigrationStatus::Cancelled => {}
        other => bail!("it ended {other:?}"),
    }
    Ok(())
}
