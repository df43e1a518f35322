//! `novacron audit`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Who changed what.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Lists the newest records, newest first; with `--follow` oldest first, and then each as it is written.
    List(AuditList),
    /// Checks that no record was changed, removed or added since it was written.
    Verify(AuditVerify),
    /// Writes the whole log into a file, or to standard output (`-`).
    Export {
        /// The file; it must not exist.
        file: PathBuf,
    },
}

/// Which records.
#[derive(Debug, Args)]
pub struct AuditList {
    /// Only what this one did: a name, or `cluster`.
    #[arg(long)]
    pub actor: Option<String>,
    /// Only this action (vm.create), or all of a noun (vm).
    #[arg(long)]
    pub action: Option<String>,
    /// Only what was done to the object with this id.
    #[arg(long, value_name = "ID")]
    pub object: Option<String>,
    /// How many.
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub count: usize,
    /// Go on with what is done from now on.
    #[arg(short, long)]
    pub follow: bool,
    /// Follow from behind this record, instead of from the newest ones; with its hash, nothing but the same log is gone on
    /// with.
    #[arg(long, value_name = "NUMBER[:HASH]", requires = "follow", conflicts_with = "count")]
    pub after: Option<String>,
}

/// What to check.
#[derive(Debug, Args)]
pub struct AuditVerify {
    /// A record that the log had once, as `NUMBER:HASH`: it must be there and be the same.
    #[arg(long, value_name = "NUMBER:HASH")]
    pub known: Option<String>,
    /// Check an exported log instead of the cluster's; asks no coordinator.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}
