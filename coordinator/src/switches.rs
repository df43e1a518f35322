//! What a coordinator can do without: parts that its configuration turns off.
//!
//! Each coordinator goes by its own configuration, so it should be the same on all. Where it is not, what the leader has
//! holds for what only leaders do: it watches for alerts, and takes what agents measured.

use novacron_protocol::api::{Code, Problem};

/// A part that can be turned off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Alerts: the cluster's own and those of clients.
    Alerts,
    /// The history of what agents measured.
    Samples,
    /// Taking usage into the ledger. What is in it is sealed, shown and paid for all the same.
    Metering,
}

/// Which parts are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switches {
    /// [`Part::Alerts`].
    pub alerts: bool,
    /// [`Part::Samples`].
    pub samples: bool,
    /// [`Part::Metering`].
    pub metering: bool,
}

impl Default for Switches {
    fn default() -> Self {
        Self { alerts: true, samples: true, metering: true }
    }
}

/// What was asked for is turned off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} turned off at this coordinator: `enabled = true` in `[{}]` of its configuration, and of the others', turns them on",
    .0.what(),
    .0.table()
)]
pub struct TurnedOff(pub Part);

impl Part {
    fn what(self) -> &'static str {
        match self {
            Self::Alerts => "alerts are",
            Self::Samples => "metrics with history are",
            Self::Metering => "the records of metering are",
        }
    }

    /// Its table in the configuration.
    fn table(self) -> &'static str {
        match self {
            Self::Alerts => "alerts",
            Self::Samples => "samples",
            Self::Metering => "metering",
        }
    }
}

impl Switches {
    /// Refuses what is turned off.
    ///
    /// # Errors
    /// [`TurnedOff`].
    pub fn check(self, part: Part) -> Result<(), TurnedOff> {
        let is_on = match part {
            Part::Alerts => self.alerts,
            Part::Samples => self.samples,
            Part::Metering => self.metering,
        };
        is_on.then_some(()).ok_or(TurnedOff(part))
    }
}

impl From<TurnedOff> for Problem {
    fn from(off: TurnedOff) -> Self {
        Self::new(Code::Disabled, off.to_string())
    }
}
