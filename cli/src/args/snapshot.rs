//! `novacron vm snapshot` and `novacron vm restore`.

use clap::{Args, Subcommand};

use super::Wait;

/// Snapshots: how all disks of a machine were at one moment.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Takes a snapshot of all disks of a machine, running or stopped.
    Create(SnapshotOrder),
    /// Lists the snapshots of a machine.
    List {
        /// Name or id of the machine.
        vm: String,
    },
    /// Shows a snapshot.
    Show(SnapshotSelection),
    /// Deletes a snapshot that no other was made on.
    Delete(SnapshotOrder),
}

/// A snapshot.
#[derive(Debug, Args)]
pub struct SnapshotSelection {
    /// Name or id of the machine.
    pub vm: String,
    /// Name of the snapshot: lower-case letters, digits and `-`.
    pub snapshot: String,
}

/// Something to do with a snapshot.
#[derive(Debug, Args)]
pub struct SnapshotOrder {
    /// Which.
    #[command(flatten)]
    pub which: SnapshotSelection,
    /// Whether to wait until it is done.
    #[command(flatten)]
    pub wait: Wait,
}
