//! What can be asked of a machine, and in which states.

use novacron_protocol::ids::VmId;
use novacron_protocol::vm::VmState;

use super::{Rest, Vm};
use crate::state::fleet::Fleet;
use crate::state::reply::Refusal;

/// What a client can ask of a machine that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// Start it.
    Start,
    /// Ask the guest to stop.
    Stop,
    /// Stop it at once.
    ForceStop,
    /// Remove it.
    Destroy,
    /// Move it while it runs.
    MigrateLive,
    /// Move its disks while it runs, then start it elsewhere.
    MigrateWarm,
    /// Move it while it is stopped.
    MigrateCold,
    /// Keep how its disks are.
    Snapshot,
    /// Make its disks what they were.
    Restore,
    /// Forget how its disks were.
    DeleteSnapshot,
}

impl Move {
    /// The table of legal moves.
    pub fn is_legal_in(self, state: VmState) -> bool {
        use VmState as S;
        match self {
            Self::Start => matches!(state, S::Stopped | S::Failed),
            Self::Stop => matches!(state, S::Running | S::Paused | S::Starting),
            Self::ForceStop => matches!(state, S::Running | S::Paused | S::Starting | S::Stopping),
            Self::Destroy => !matches!(state, S::Migrating | S::Deleted),
            Self::MigrateLive | Self::MigrateWarm => state == S::Running,
            Self::MigrateCold => state == S::Stopped,
            Self::Snapshot | Self::DeleteSnapshot => {
                matches!(state, S::Stopped | S::Running | S::Paused | S::Failed)
            }
            Self::Restore => matches!(state, S::Stopped | S::Failed),
        }
    }

    fn verb(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop | Self::ForceStop => "stop",
            Self::Destroy => "destroy",
            Self::MigrateLive => "live-migrate",
            Self::MigrateWarm => "warm-migrate",
            Self::MigrateCold => "cold-migrate",
            Self::Snapshot => "take a snapshot of",
            Self::Restore => "restore",
            Self::DeleteSnapshot => "delete a snapshot of",
        }
    }

    fn hint(self, state: VmState) -> &'static str {
        match (self, state) {
            (Self::MigrateLive, VmState::Stopped) => {
                "; start it first, or migrate it without `live`"
            }
            (Self::MigrateWarm, VmState::Stopped) => {
                "; start it first, or migrate it without `warm`"
            }
            (Self::MigrateCold, VmState::Running) => {
                "; stop it first, or migrate it with `live` or `warm`"
            }
            (Self::Restore, VmState::Running | VmState::Paused) => "; stop it first",
            (Self::Stop, VmState::Stopping) => "; it can be stopped at once with `force`",
            (_, VmState::Migrating) => "; wait for the migration or cancel it",
            (_, VmState::Unknown) => "; wait until its node is back",
            _ => "",
        }
    }
}

impl Fleet {
    /// The machine, if the move is legal for it now.
    pub(in crate::state) fn movable(&self, vm: VmId, asked: Move) -> Result<Vm, Refusal> {
        let machine = self.vms.get(&vm).ok_or(Refusal::NoSuchVm(vm))?;
        let state = machine.state();
        let refuse = |hint: &str| Refusal::IllegalMove {
            name: machine.spec.name.to_string(),
            state,
            action: asked.verb().to_owned(),
            hint: hint.to_owned(),
        };
        if !asked.is_legal_in(state) {
            return Err(refuse(asked.hint(state)));
        }
        if machine.migration().is_some() {
            return Err(refuse("; it is about to migrate: cancel the migration first"));
        }
        if asked == Move::Start && self.is_restoring(vm) {
            return Err(refuse("; it is being restored: wait until that is done"));
        }
        let needs_disks =
            matches!(asked, Move::Start | Move::Snapshot | Move::Restore | Move::DeleteSnapshot);
        if needs_disks && machine.rest == Rest::NotMade {
            return Err(refuse("; it was never made: destroy it and create it again"));
        }
        self.check_outbox_room()?;
        Ok(machine.clone())
    }
}
