//! `novacron cluster` and `novacron token`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use novacron_protocol::access::AccessRole;
use novacron_protocol::api;
use novacron_protocol::ids::MemberId;

use super::Wait;
use super::values::{Duration, parse_duration, parse_migrations, parse_role};

/// The coordinators.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Shows the cluster and its members.
    Show,
    /// Asks each member how it is: reachable, how far behind, how full its disk is.
    Status,
    /// Makes a token for a further coordinator, and says what to run where it shall be.
    Add {
        /// The new coordinator's name, as in its configuration.
        name: String,
        /// For how long the token is good, 1m to 24h.
        #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = parse_duration, allow_hyphen_values = true)]
        ttl: Duration,
    },
    /// Removes a member for good. One that was lost is replaced by `remove` and `add`.
    Remove {
        /// The member's number, as `cluster show` prints it.
        #[arg(value_name = "MEMBER", value_parser = parse_member)]
        member: MemberId,
    },
    /// Changes what holds for the whole fleet.
    Set(ClusterSet),
    /// Writes the whole state of the cluster, with its keys, into an encrypted file.
    Backup {
        /// The file; it must not exist.
        file: PathBuf,
        /// The file with the key, which `cluster key` makes.
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
    },
    /// Makes the first member of a cluster that comes back from a backup; runs `novacron-coordinator` on this host.
    Restore(ClusterRestore),
    /// Encrypts all secrets with a new key, while the cluster works.
    RotateKey {
        /// Wait until all are.
        #[command(flatten)]
        wait: Wait,
    },
    /// Makes a key for backups. Keep it where the backups are not: without it they cannot be read.
    Key {
        /// The file to write it into; it must not exist.
        file: PathBuf,
    },
}

/// What to restore, and where.
#[derive(Debug, Args)]
pub struct ClusterRestore {
    /// The backup.
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// The file with the key that it was encrypted with.
    #[arg(long, value_name = "FILE")]
    pub key_file: PathBuf,
    /// The coordinator's configuration file; its data directory must not exist or be empty.
    #[arg(long, value_name = "FILE", required_unless_present = "check")]
    pub coordinator_config: Option<PathBuf>,
    /// Only check that the backup is whole and can be read, and say of what it is.
    #[arg(long, conflicts_with = "coordinator_config")]
    pub check: bool,
}

/// Settings to change.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct ClusterSet {
    /// Migrations that a node may take part in at once, 1 to 64; those that are under way go on.
    #[arg(long, value_name = "N", value_parser = parse_migrations, allow_hyphen_values = true)]
    pub migrations_per_node: Option<u32>,
}

impl ClusterSet {
    /// The API's request.
    pub fn request(&self) -> api::SettingsChange {
        api::SettingsChange { migrations_per_node: self.migrations_per_node }
    }
}

/// Tokens to join with.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Makes a token. It is shown once.
    Create(TokenCreate),
}

/// A token to make.
#[derive(Debug, Args)]
pub struct TokenCreate {
    /// What may join with it.
    #[arg(long, value_enum)]
    pub role: TokenRole,
    /// The only name that may use it.
    #[arg(long)]
    pub name: Option<String>,
    /// Of a new operator: the role that it holds on the whole fleet [default: operator].
    #[arg(long, value_name = "ROLE", value_parser = parse_role)]
    pub access: Option<AccessRole>,
    /// For how long it is good, 1m to 24h.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = parse_duration, allow_hyphen_values = true)]
    pub ttl: Duration,
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TokenRole {
    /// A hypervisor host.
    Agent,
    /// A coordinator.
    Coordinator,
    /// A person or program that uses the API.
    Operator,
}

impl TokenCreate {
    /// The API's request.
    pub fn request(&self) -> api::TokenCreate {
        let role = match self.role {
            TokenRole::Agent => "agent",
            TokenRole::Coordinator => "coordinator",
            TokenRole::Operator => "operator",
        };
        api::TokenCreate {
            role: role.to_owned(),
            name: self.name.clone(),
            access: self.access,
            ttl_seconds: Some(self.ttl.as_secs()),
        }
    }
}

fn parse_member(text: &str) -> Result<MemberId, String> {
    text.parse().map(MemberId).map_err(|_| format!("`{text}` is not a member: write its number"))
}
