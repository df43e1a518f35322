//! How a machine stands at this agent, and what may be done with it: pure.
//!
//! ```text
//!            create                 start                         stop, guest powers off
//!  Absent ──────────► Stopped ─────────────────► Running ⇄ Paused ───────► Stopping
//!    ▲ destroy           ▲  ▲                       │         │               │
//!    ├───────────────────┤  └───────────────────────┼─────────┼───────────────┘ process ended
//!    ├──────── Failed ◄─────────────────────────────┴─────────┘ process ended by itself
//!    │            └─ start ─► Running
//!    │
//!    ├── removed ── Sending ◄── lend ── Stopped, Running        kept: as its process says
//!    └─ rejected ── Expecting ◄─ expect ── Absent               accepted: as its process says
//! ```
//!
//! While a machine is `Sending` or `Expecting` the migration decides about its process, and every order about the
//! machine is refused.

use std::time::Duration;

use novacron_protocol::effect::ObservedState;
use novacron_protocol::ids::MigrationId;

use super::record::Desired;
use crate::qmp::{GuestStatus, RunState, ShutdownReason};

/// How often the power button is pressed of a guest that was told to shut down: one that is not up yet does not hear it.
/// Long enough for a guest that heard it to show that it did, where a second press would mean something else.
pub const POWER_BUTTON_INTERVAL: Duration = Duration::from_secs(5);

/// How a machine stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// This agent does not have it.
    Absent,
    /// Made, without a process.
    Stopped,
    /// The guest runs.
    Running,
    /// The guest stands still.
    Paused {
        /// Why, if a disk of the host is the cause.
        reason: String,
    },
    /// The guest was told to shut down or has ended; the process is about to end.
    Stopping,
    /// The process ended without being asked, or could not be started.
    Failed {
        /// Why.
        reason: String,
    },
    /// A migration sends it away.
    Sending {
        /// The migration.
        migration: MigrationId,
        /// How it stood when the migration began.
        observed: ObservedState,
    },
    /// A migration brings it.
    Expecting {
        /// The migration.
        migration: MigrationId,
    },
}

/// What may be ordered of a machine that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Run it.
    Start,
    /// End its process.
    Stop {
        /// At once.
        force: bool,
    },
    /// Remove it and all that belongs to it.
    Destroy,
}

/// What an order or an observation asks of the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing: it is so already.
    Nothing,
    /// Start a process.
    Launch,
    /// Let the guest run.
    Continue,
    /// Press the power button, then wait for the process to end.
    PressPower,
    /// End the process, then wait for its end.
    Kill,
    /// End the process and start another.
    Relaunch,
    /// End the process if there is one, and remove everything.
    Remove,
}

/// Who uses the disks of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskUse {
    /// There is no process.
    Nobody,
    /// A guest that stands still.
    StandingGuest,
    /// A guest that runs.
    RunningGuest,
}

/// What was seen of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// Its guest stands still; for this reason, if a disk of the host is the cause.
    GuestStopped(String),
    /// Its guest runs.
    GuestRuns,
    /// Its guest ended; the process waits to be ended.
    GuestEnded(ShutdownReason),
    /// The process is gone; this is what it left in its log.
    ProcessEnded(String),
}

/// Why an order cannot be followed now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The machine is on its way.
    #[error("the machine is migrating ({0}): wait for the migration or cancel it first")]
    Migrating(MigrationId),
    /// It is shutting down.
    #[error("the machine is shutting down: wait until it is stopped, or stop it with --force")]
    Stopping,
    /// A guest that stands still cannot shut itself down.
    #[error("the machine is paused{}: it cannot shut itself down; stop it with --force", cause(.0))]
    Paused(String),
    /// It is not there.
    #[error("the machine is not on this node")]
    Absent,
    /// It is there already.
    #[error("the machine is on this node already")]
    Present,
    /// Disks are changed below nobody's feet.
    #[error("the machine has a process: stop it first")]
    NotStopped,
    /// Live migration of something that does not run.
    #[error("the machine does not run: a live migration needs a running machine")]
    NotRunning,
}

fn cause(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(" ({reason})") }
}

/// A machine at this agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    state: State,
}

impl Machine {
    /// A machine in this state.
    pub fn new(state: State) -> Self {
        Self { state }
    }

    /// How it stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What the coordinator is told, and why it is so; `None` if there is nothing in this agent's care.
    pub fn observed(&self) -> Option<(ObservedState, &str)> {
        match &self.state {
            State::Absent | State::Expecting { .. } => None,
            State::Stopped => Some((ObservedState::Stopped, "")),
            State::Running | State::Stopping => Some((ObservedState::Running, "")),
            State::Paused { reason } => Some((ObservedState::Paused, reason)),
            State::Failed { reason } => Some((ObservedState::Failed, reason)),
            State::Sending { observed, .. } => Some((*observed, "")),
        }
    }

    /// Whether the guest of a machine that has a process runs: also while it shuts down or is being sent away.
    pub fn guest_runs(&self) -> bool {
        match &self.state {
            State::Running | State::Stopping => true,
            State::Sending { observed, .. } => *observed == ObservedState::Running,
            State::Absent
            | State::Stopped
            | State::Paused { .. }
            | State::Failed { .. }
            | State::Expecting { .. } => false,
        }
    }

    /// What is to be done for an order. The state changes when the step has been taken: see [`Self::took`].
    ///
    /// # Errors
    /// [`Refusal`], and nothing has changed.
    pub fn order(&self, order: Order) -> Result<Step, Refusal> {
        use Order::{Destroy, Start, Stop};
        match (&self.state, order) {
            (State::Absent, Destroy) => Ok(Step::Nothing),
            (State::Absent, Start | Stop { .. }) => Err(Refusal::Absent),
            (State::Sending { migration, .. } | State::Expecting { migration }, _) => {
                Err(Refusal::Migrating(*migration))
            }
            (_, Destroy) => Ok(Step::Remove),
            (State::Stopped | State::Failed { .. }, Start) => Ok(Step::Launch),
            (State::Running, Start) => Ok(Step::Nothing),
            (State::Paused { .. }, Start) => Ok(Step::Continue),
            (State::Stopping, Start) => Err(Refusal::Stopping),
            (State::Stopped | State::Failed { .. }, Stop { .. }) => Ok(Step::Nothing),
            (_, Stop { force: true }) => Ok(Step::Kill),
            (State::Running | State::Stopping, Stop { force: false }) => Ok(Step::PressPower),
            (State::Paused { reason }, Stop { force: false }) => {
                Err(Refusal::Paused(reason.clone()))
            }
        }
    }

    /// Who uses its disks, if they are this agent's to change.
    ///
    /// # Errors
    /// [`Refusal`] while it is on its way or shuts down.
    pub fn disk_use(&self) -> Result<DiskUse, Refusal> {
        match &self.state {
            State::Absent => Err(Refusal::Absent),
            State::Sending { migration, .. } | State::Expecting { migration } => {
                Err(Refusal::Migrating(*migration))
            }
            State::Stopping => Err(Refusal::Stopping),
            State::Stopped | State::Failed { .. } => Ok(DiskUse::Nobody),
            State::Paused { .. } => Ok(DiskUse::StandingGuest),
            State::Running => Ok(DiskUse::RunningGuest),
        }
    }

    /// A step has been taken.
    pub fn took(&mut self, step: Step) {
        self.state = match step {
            Step::Nothing => return,
            Step::Launch | Step::Relaunch | Step::Continue => State::Running,
            Step::PressPower | Step::Kill => State::Stopping,
            Step::Remove => State::Absent,
        };
    }

    /// The machine could not be started, or ended.
    pub fn failed(&mut self, reason: String) {
        self.state = State::Failed { reason };
    }

    /// It has been made.
    pub fn created(&mut self) {
        self.state = State::Stopped;
    }

    /// The button was pressed and the guest did not obey in time.
    pub fn stop_given_up(&mut self) {
        if self.state == State::Stopping {
            self.state = State::Running;
        }
    }

    /// Something was seen. Says what is to be done about it.
    pub fn observe(&mut self, observation: Observation) -> Step {
        match (&mut self.state, observation) {
            (State::Sending { observed, .. }, Observation::ProcessEnded(_)) => {
                *observed = ObservedState::Stopped;
                Step::Nothing
            }
            (State::Sending { .. } | State::Expecting { .. } | State::Absent, _) => Step::Nothing,
            (_, Observation::GuestEnded(_)) => {
                self.state = State::Stopping;
                Step::Kill
            }
            (State::Running | State::Paused { .. }, Observation::GuestStopped(reason)) => {
                self.state = State::Paused { reason };
                Step::Nothing
            }
            (State::Running | State::Paused { .. }, Observation::GuestRuns) => {
                self.state = State::Running;
                Step::Nothing
            }
            (State::Stopping, Observation::ProcessEnded(_)) => {
                self.state = State::Stopped;
                Step::Nothing
            }
            (State::Running | State::Paused { .. }, Observation::ProcessEnded(reason)) => {
                self.state = State::Failed { reason };
                Step::Nothing
            }
            (State::Stopped | State::Failed { .. } | State::Stopping, _) => Step::Nothing,
        }
    }

    /// A migration takes the machine to send it away.
    ///
    /// # Errors
    /// [`Refusal`] if it does not stand still enough, or is on its way already.
    pub fn lend(&mut self, migration: MigrationId, live: bool) -> Result<(), Refusal> {
        let observed = match (&self.state, live) {
            (State::Absent, _) => return Err(Refusal::Absent),
            (State::Sending { migration, .. } | State::Expecting { migration }, _) => {
                return Err(Refusal::Migrating(*migration));
            }
            (State::Stopping, _) => return Err(Refusal::Stopping),
            (State::Paused { reason }, _) => return Err(Refusal::Paused(reason.clone())),
            (State::Running, true) => ObservedState::Running,
            (State::Running, false) => return Err(Refusal::Present),
            (State::Stopped | State::Failed { .. }, false) => ObservedState::Stopped,
            (State::Stopped | State::Failed { .. }, true) => return Err(Refusal::NotRunning),
        };
        self.state = State::Sending { migration, observed };
        Ok(())
    }

    /// A migration will bring the machine.
    ///
    /// # Errors
    /// [`Refusal`] if it is here already.
    pub fn expect(&mut self, migration: MigrationId) -> Result<(), Refusal> {
        match &self.state {
            State::Absent => {
                self.state = State::Expecting { migration };
                Ok(())
            }
            State::Sending { migration, .. } | State::Expecting { migration } => {
                Err(Refusal::Migrating(*migration))
            }
            _ => Err(Refusal::Present),
        }
    }

    /// Nothing is under way any more (the agent started, a migration failed at its source or was accepted at its
    /// target): takes the state from what the record wants and what the process, if there is one, says.
    pub fn settle(
        &mut self,
        desired: Desired,
        failure: Option<&str>,
        seen: Option<GuestStatus>,
    ) -> Step {
        let (state, step) = match (desired, seen.map(|seen| seen.status)) {
            (Desired::Stopped, None) => (stopped_or_failed(failure), Step::Nothing),
            (Desired::Running, None) => (State::Failed { reason: lost(failure) }, Step::Nothing),
            (_, Some(RunState::Shutdown | RunState::GuestPanicked)) => {
                (State::Stopping, Step::Kill)
            }
            (_, Some(RunState::Running | RunState::Suspended)) => (State::Running, Step::Nothing),
            (_, Some(RunState::IoError)) => {
                (State::Paused { reason: IO_ERROR.into() }, Step::Nothing)
            }
            // A machine that arrived without its memory, and was not started yet.
            (Desired::Running, Some(RunState::Inmigrate)) => (State::Stopping, Step::Relaunch),
            // A process that only held disks.
            (Desired::Stopped, Some(_)) => (State::Stopping, Step::Kill),
            (Desired::Running, Some(_)) => {
                (State::Paused { reason: String::new() }, Step::Continue)
            }
        };
        self.state = state;
        step
    }
}

/// What a guest stands still for when the host's disk fails it.
pub const IO_ERROR: &str =
    "a disk of the host is full or failed; make room, then start the machine";

fn stopped_or_failed(failure: Option<&str>) -> State {
    match failure {
        Some(reason) => State::Failed { reason: reason.to_owned() },
        None => State::Stopped,
    }
}

fn lost(failure: Option<&str>) -> String {
    failure.unwrap_or("its process ended while the agent was not running").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn migration() -> MigrationId {
        "6f1c1f2e-0000-4000-8000-00000000000a".parse().unwrap()
    }

    fn states() -> Vec<State> {
        let text = || "disk full".to_owned();
        let observed = ObservedState::Running;
        vec![
            State::Absent,
            State::Stopped,
            State::Running,
            State::Paused { reason: text() },
            State::Stopping,
            State::Failed { reason: text() },
            State::Sending { migration: migration(), observed },
            State::Expecting { migration: migration() },
        ]
    }

    fn status(status: RunState) -> Option<GuestStatus> {
        Some(GuestStatus { running: status == RunState::Running, status })
    }

    #[test]
    fn every_order_in_every_state() {
        use Step::{Continue, Kill, Launch, Nothing, PressPower, Remove};
        // One row per state: start, stop, stop by force, destroy; None is a refusal.
        let table = [
            [None, None, None, Some(Nothing)],
            [Some(Launch), Some(Nothing), Some(Nothing), Some(Remove)],
            [Some(Nothing), Some(PressPower), Some(Kill), Some(Remove)],
            [Some(Continue), None, Some(Kill), Some(Remove)],
            [None, Some(PressPower), Some(Kill), Some(Remove)],
            [Some(Launch), Some(Nothing), Some(Nothing), Some(Remove)],
            [None; 4],
            [None; 4],
        ];
        let orders = [
            Order::Start,
            Order::Stop { force: false },
            Order::Stop { force: true },
            Order::Destroy,
        ];
        for (state, row) in states().into_iter().zip(table) {
            for (order, expected) in orders.into_iter().zip(row) {
                let answer = Machine::new(state.clone()).order(order).ok();
                assert_eq!(answer, expected, "{order:?} in {state:?}");
            }
        }
    }

    #[test]
    fn a_machine_on_its_way_is_the_migrations_own() {
        let observations = [
            Observation::GuestStopped(String::new()),
            Observation::GuestRuns,
            Observation::GuestEnded(ShutdownReason::Guest),
        ];
        for state in states().split_off(6) {
            for observation in observations.clone() {
                let mut machine = Machine::new(state.clone());
                assert_eq!(machine.observe(observation), Step::Nothing);
                assert_eq!(machine.state(), &state);
            }
        }
    }

    #[test]
    fn an_end_is_a_failure_only_if_nobody_asked() {
        let mut machine = Machine::new(State::Running);
        machine.observe(Observation::ProcessEnded("killed".into()));
        assert_eq!(machine.observed(), Some((ObservedState::Failed, "killed")));

        let mut machine = Machine::new(State::Running);
        assert_eq!(machine.observe(Observation::GuestEnded(ShutdownReason::Guest)), Step::Kill);
        machine.observe(Observation::ProcessEnded(String::new()));
        assert_eq!(machine.state(), &State::Stopped);
    }

    #[test]
    fn only_what_fits_is_lent_or_expected() {
        let lendable = |live: bool| -> Vec<usize> {
            let lent = |state: &State| Machine::new(state.clone()).lend(migration(), live).is_ok();
            let indexed = states().into_iter().enumerate();
            indexed.filter(|(_, state)| lent(state)).map(|(index, _)| index).collect()
        };
        assert_eq!(lendable(true), [2]);
        assert_eq!(lendable(false), [1, 5]);
        let expectable = states()
            .into_iter()
            .filter(|state| Machine::new(state.clone()).expect(migration()).is_ok());
        assert_eq!(expectable.collect::<Vec<_>>(), [State::Absent]);
    }

    #[test]
    fn the_process_decides_after_a_restart() {
        let mut machine = Machine::new(State::Absent);
        let mut settle = |desired, seen| {
            let step = machine.settle(desired, None, seen);
            (machine.state().clone(), step)
        };
        let (running, stopped) = (Desired::Running, Desired::Stopped);
        assert_eq!(settle(running, status(RunState::Running)), (State::Running, Step::Nothing));
        assert_eq!(settle(stopped, None), (State::Stopped, Step::Nothing));
        assert!(matches!(settle(running, None), (State::Failed { .. }, Step::Nothing)));
        assert_eq!(settle(running, status(RunState::Shutdown)), (State::Stopping, Step::Kill));
        assert_eq!(settle(stopped, status(RunState::Prelaunch)), (State::Stopping, Step::Kill));
        for left_by_migration in [RunState::Postmigrate, RunState::Paused, RunState::Prelaunch] {
            assert_eq!(settle(running, status(left_by_migration)).1, Step::Continue);
        }
        assert_eq!(settle(running, status(RunState::Inmigrate)), (State::Stopping, Step::Relaunch));
        let (state, step) = settle(running, status(RunState::IoError));
        assert!(matches!(state, State::Paused { .. }));
        assert_eq!(step, Step::Nothing);
    }
}
