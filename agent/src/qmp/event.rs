//! What QEMU says unasked.

use serde::Deserialize;
use serde_json::Value;

/// An event, the few that we act on by name.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The guest's processors stand still.
    Stop,
    /// They run.
    Resume,
    /// The guest ended; with `-no-shutdown` the process stays until it is told to quit.
    Shutdown(ShutdownReason),
    /// The guest restarts inside the same process.
    Reset,
    /// A migration changed its state.
    Migration(MigrationEvent),
    /// A mirror has caught up and stays so.
    BlockJobReady {
        /// The job.
        job: String,
    },
    /// A block job ended.
    BlockJobCompleted {
        /// The job.
        job: String,
        /// Why it failed; `None` if it did not.
        error: Option<String>,
    },
    /// A block job met an error.
    BlockJobError {
        /// The job.
        job: String,
    },
    /// The host's disk is full or broken: a guest's write failed.
    BlockIoError {
        /// The block node.
        node: String,
        /// QEMU's words.
        reason: String,
    },
    /// Anything else.
    Other {
        /// QEMU's name of the event.
        name: String,
        /// Its data.
        data: Value,
    },
}

/// Data of `MIGRATION`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct MigrationEvent {
    /// The new state.
    pub status: super::MigrateStatus,
}

/// Why a guest ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownReason {
    /// The guest powered itself off, asked or not.
    Guest,
    /// The guest panicked.
    Panic,
    /// QEMU was told to quit or got a signal.
    Host,
}

impl Event {
    /// The event of this name. Data that is missing or odd becomes [`Event::Other`], never an error.
    pub(super) fn parse(name: &str, data: Value) -> Self {
        let text = |key: &str| data[key].as_str().map(str::to_owned);
        let parsed = match name {
            "STOP" => Some(Self::Stop),
            "RESUME" => Some(Self::Resume),
            "RESET" => Some(Self::Reset),
            "SHUTDOWN" => Some(Self::Shutdown(shutdown_reason(&data))),
            "MIGRATION" => MigrationEvent::deserialize(&data).ok().map(Self::Migration),
            "BLOCK_JOB_READY" => text("device").map(|job| Self::BlockJobReady { job }),
            "BLOCK_JOB_COMPLETED" => {
                text("device").map(|job| Self::BlockJobCompleted { job, error: text("error") })
            }
            "BLOCK_JOB_ERROR" => text("device").map(|job| Self::BlockJobError { job }),
            "BLOCK_IO_ERROR" => Some(Self::BlockIoError {
                node: text("node-name").unwrap_or_default(),
                reason: text("reason").unwrap_or_default(),
            }),
            _ => None,
        };
        parsed.unwrap_or_else(|| Self::Other { name: name.to_owned(), data })
    }
}

fn shutdown_reason(data: &Value) -> ShutdownReason {
    match data["reason"].as_str() {
        Some("guest-panic") => ShutdownReason::Panic,
        _ if data["guest"].as_bool() == Some(true) => ShutdownReason::Guest,
        _ => ShutdownReason::Host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn known_events_are_typed_and_odd_ones_kept() {
        assert_eq!(Event::parse("STOP", Value::Null), Event::Stop);
        let shutdown = Event::parse("SHUTDOWN", json!({"guest": true, "reason": "guest-shutdown"}));
        assert_eq!(shutdown, Event::Shutdown(ShutdownReason::Guest));
        let migration = Event::parse("MIGRATION", json!({"status": "pre-switchover"}));
        let status = super::super::MigrateStatus::PreSwitchover;
        assert_eq!(migration, Event::Migration(MigrationEvent { status }));
        let done = Event::parse("BLOCK_JOB_COMPLETED", json!({"device": "m0", "error": "full"}));
        let error = Some("full".to_owned());
        assert_eq!(done, Event::BlockJobCompleted { job: "m0".to_owned(), error });
        assert!(matches!(Event::parse("BLOCK_JOB_READY", json!({})), Event::Other { .. }));
    }
}
