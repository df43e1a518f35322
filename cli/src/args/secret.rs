//! `novacron secret`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Secrets: values that are kept encrypted.
#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Lists secrets, without their values.
    List {
        /// Those of this project [default: those of no project].
        #[arg(long, value_name = "NAME")]
        project: Option<String>,
    },
    /// Shows a secret; its value only with `--reveal`.
    Show {
        /// Which.
        #[command(flatten)]
        secret: SecretName,
        /// Print the value instead. That it was read is in the audit log.
        #[arg(long)]
        reveal: bool,
    },
    /// Keeps a value, in place of an earlier one. It is read from standard input, without the end of its last line.
    Set {
        /// Which.
        #[command(flatten)]
        secret: SecretName,
        /// Read it from this file instead, as it is.
        #[arg(long, value_name = "FILE")]
        from_file: Option<PathBuf>,
    },
    /// Removes a secret.
    Delete {
        /// Which.
        #[command(flatten)]
        secret: SecretName,
    },
}

/// Which secret.
#[derive(Debug, Clone, Args)]
pub struct SecretName {
    /// Its name.
    pub name: String,
    /// Whose it is [default: no project's].
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
}
