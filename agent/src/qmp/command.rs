//! A command as a type: its name, its arguments, its answer and how long to wait.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Something that QEMU can be told. The value is the arguments object.
pub trait Command: Serialize {
    /// QEMU's name of the command.
    const NAME: &'static str;
    /// How long QEMU may take. Most commands need the big lock, which a busy disk can hold for a while.
    const DEADLINE: Duration = Duration::from_secs(10);
    /// Whether it goes past the big lock (`exec-oob`).
    const OUT_OF_BAND: bool = false;
    /// What QEMU answers.
    type Answer: DeserializeOwned;
}

/// The answer of commands that answer nothing; takes any object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// A command without arguments.
macro_rules! plain_command {
    ($(#[$doc:meta])* $name:ident = $text:literal -> $answer:ty) => {
        $(#[$doc])*
        #[derive(Debug, serde::Serialize)]
        pub(super) struct $name {}

        impl $crate::qmp::Command for $name {
            const NAME: &'static str = $text;
            type Answer = $answer;
        }
    };
}
pub(super) use plain_command;
