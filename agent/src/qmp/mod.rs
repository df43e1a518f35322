//! QMP: how QEMU is told what to do.
//!
//! [`Qmp`] is a handle that can be cloned and used from any task; two tasks own the socket. A command has a
//! deadline, an event is a broadcast, and nothing here waits for a reader. It knows QEMU's words, not what a
//! machine or a migration is.

mod block;
mod client;
mod command;
mod error;
mod event;
mod lifecycle;
mod line;
mod migration;

pub use block::{BlockJob, DiskCounters, ExportId, NodeName};
pub use client::{Qmp, connect};
pub use command::{Command, Empty};
pub use error::QmpError;
pub use event::{Event, MigrationEvent, ShutdownReason};
pub use lifecycle::{GuestStatus, RunState, Version};
pub use migration::{
    Capability, MigrateParameters, MigrateStatus, MigrationInfo, RamCounters, YankInstance,
};
