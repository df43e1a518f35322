//! The guests that move, as their consoles show them.

use std::time::Duration;

use anyhow::Result;

use super::cli::Cli;
use crate::console::{Console, SWEEP};
use crate::interruption::Interruption;

/// For how long a guest may take with whatever it does.
pub const GUEST_PATIENCE: Duration = Duration::from_secs(180);
/// Time between two looks at a console log: each is a request through all of the cluster.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Lines of the counter that the target has to add before the sweep.
const TICKS_MORE: u64 = 5;

/// See the module.
#[derive(Debug)]
pub struct Guests<'a> {
    /// What asks for their consoles.
    pub cli: &'a Cli<'a>,
    /// The names of their machines.
    pub names: &'a [String],
    /// Whether they have disks.
    pub has_disk: bool,
    /// Whether a person has had enough.
    pub interruption: &'a Interruption,
}

impl Guests<'_> {
    /// All of them have begun their work.
    pub fn await_start(&self) -> Result<()> {
        self.await_each("the guest's start", |name| self.console(name)?.is_ready())
    }

    /// All of them go on where they are now.
    pub fn await_more(&self) -> Result<()> {
        for name in self.names {
            let enough = self.console(name)?.last_tick() + TICKS_MORE;
            self.wait("the guest's going on at the target", || {
                Ok(self.console(name)?.last_tick() >= enough)
            })?;
        }
        Ok(())
    }

    /// All of them have all that they had.
    pub fn check(&self) -> Result<()> {
        for name in self.names {
            self.cli.run(&["vm", "console", name], SWEEP, GUEST_PATIENCE)?;
        }
        self.await_each("the guest's comparing all that it has", |name| {
            Ok(self.console(name)?.is_swept(self.has_disk))
        })?;
        self.names.iter().try_for_each(|name| self.console(name)?.check())
    }

    fn await_each(&self, what: &str, is_it: impl Fn(&str) -> Result<bool>) -> Result<()> {
        self.names.iter().try_for_each(|name| self.wait(what, || is_it(name)))
    }

    fn wait(&self, what: &str, is_it: impl Fn() -> Result<bool>) -> Result<()> {
        let look = || Ok(is_it()?.then_some(()));
        self.interruption.wait(what, GUEST_PATIENCE, LOOK_AGAIN, look)
    }

    fn console(&self, name: &str) -> Result<Console> {
        let log = self.cli.run(&["vm", "console", name, "--log"], "", GUEST_PATIENCE)?;
        Ok(Console::parse(&log))
    }
}
