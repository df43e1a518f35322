//! Why a command got no answer, or a bad one.

use std::io;
use std::path::PathBuf;

/// What can go wrong between the agent and a QEMU.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The socket cannot be reached.
    #[error("cannot connect to QEMU at {path}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// QEMU answered the command with an error.
    #[error("QEMU refused {command}: {desc} ({class})")]
    Refused {
        /// The command.
        command: &'static str,
        /// QEMU's class of error, such as `GenericError` or `DeviceNotActive`.
        class: String,
        /// QEMU's words.
        desc: String,
    },
    /// No answer within the deadline. The command may still be carried out.
    #[error("QEMU did not answer {command} within {deadline_ms} ms")]
    Deadline {
        /// The command.
        command: &'static str,
        /// The deadline.
        deadline_ms: u64,
    },
    /// The connection is gone: QEMU ended, or another client took the socket.
    #[error("the connection to QEMU is closed")]
    Closed,
    /// What came is not QMP.
    #[error("QEMU's answer to {command} cannot be understood")]
    Unreadable {
        /// The command, or `greeting`.
        command: &'static str,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
}

impl QmpError {
    /// Whether QEMU itself said no and said so with this class.
    pub fn is_class(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused { class, .. } if class == wanted)
    }
}
