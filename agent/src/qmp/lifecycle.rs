//! Commands about the process and the guest as a whole.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::command::plain_command;
use super::{Empty, Qmp, QmpError};

/// QEMU's run states that we tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// The guest runs.
    Running,
    /// Stopped by command.
    Paused,
    /// Started with `-S` and not yet told to run.
    Prelaunch,
    /// Waits for, or loads, an incoming migration.
    Inmigrate,
    /// Source: the last part of a migration is on its way.
    FinishMigrate,
    /// Source: a migration completed; `cont` takes the guest back.
    Postmigrate,
    /// The guest ended; the process waits to be told to quit.
    Shutdown,
    /// The guest panicked.
    GuestPanicked,
    /// Stopped because a disk of the host failed or is full.
    IoError,
    /// The guest sleeps.
    Suspended,
    /// Any other.
    #[serde(other)]
    Other,
}

/// Answer of `query-status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct GuestStatus {
    /// Whether the guest's processors run.
    pub running: bool,
    /// The run state.
    pub status: RunState,
}

/// QEMU's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Version {
    /// 10 in 10.0.2.
    pub major: u32,
    /// 0 in 10.0.2.
    pub minor: u32,
    /// 2 in 10.0.2.
    pub micro: u32,
}

impl std::fmt::Display for Version {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct VersionAnswer {
    qemu: Version,
}

plain_command!(QueryStatus = "query-status" -> GuestStatus);
plain_command!(QueryVersion = "query-version" -> VersionAnswer);
plain_command!(Stop = "stop" -> Empty);
plain_command!(Continue = "cont" -> Empty);
plain_command!(Quit = "quit" -> Empty);
plain_command!(PowerDown = "system_powerdown" -> Empty);

/// Whoever tells QEMU to quit can also kill it, and should not wait long for one that hangs.
const QUIT_DEADLINE: Duration = Duration::from_secs(3);

/// How often the guest's new place is announced to switches: the first half second matters most.
#[derive(Debug, Serialize)]
struct AnnounceSelf {
    initial: u32,
    max: u32,
    rounds: u32,
    step: u32,
}

impl super::Command for AnnounceSelf {
    const NAME: &'static str = "announce-self";
    type Answer = Empty;
}

impl Qmp {
    /// How the guest stands.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn status(&self) -> Result<GuestStatus, QmpError> {
        self.execute(&QueryStatus {}).await
    }

    /// The version of QEMU.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn version(&self) -> Result<Version, QmpError> {
        Ok(self.execute(&QueryVersion {}).await?.qemu)
    }

    /// Makes the guest's processors stand still.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn stop(&self) -> Result<(), QmpError> {
        self.execute(&Stop {}).await.map(drop)
    }

    /// Lets them run.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn cont(&self) -> Result<(), QmpError> {
        self.execute(&Continue {}).await.map(drop)
    }

    /// Ends the process. The answer may be lost because the process is gone: that is no error.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn quit(&self) -> Result<(), QmpError> {
        match self.execute_within(&Quit {}, QUIT_DEADLINE).await {
            Ok(Empty {}) | Err(QmpError::Closed) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Presses the power button. Whether the guest obeys is its own affair.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn power_down(&self) -> Result<(), QmpError> {
        self.execute(&PowerDown {}).await.map(drop)
    }

    /// Tells the network where the guest is now: after `cont` at a migration's target.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn announce_self(&self) -> Result<(), QmpError> {
        let announce = AnnounceSelf { initial: 50, max: 550, rounds: 5, step: 100 };
        self.execute(&announce).await.map(drop)
    }
}
