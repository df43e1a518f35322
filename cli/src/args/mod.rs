//! The command line. Texts become typed values here and nowhere else.

mod access;
mod alert;
mod audit;
mod batch;
mod cluster;
mod dev;
mod metrics;
mod network;
mod node;
mod region;
mod secret;
mod snapshot;
mod usage;
mod values;
mod vm;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use novacron_protocol::ids::{BatchId, MigrationId, Revision};
use novacron_protocol::migration::MigrationStatus;
use novacron_sdk::{MigrationFilter, Overrides};

pub use access::{KeyCommand, KeyCreate, PrincipalCommand, ProjectCommand, RoleCommand};
pub use alert::AlertCommand;
pub use audit::{AuditCommand, AuditList, AuditVerify};
pub use batch::BatchMigrate;
pub use cluster::{ClusterCommand, ClusterRestore, TokenCommand};
pub use dev::{DevCommand, DevDir, DevLink, DevUp, LinkChange, SignalName};
pub use metrics::{MetricsCommand, MetricsOf};
pub use network::NetworkCommand;
pub use node::{NodeCommand, NodeDrain};
pub use region::RegionCommand;
pub use secret::{SecretCommand, SecretName};
pub use snapshot::{SnapshotCommand, SnapshotOrder};
pub use usage::{Invoice, LedgerCommand, RateCommand, Usage};
pub use values::{AnnotationChange, Duration, parse_duration};
pub use vm::{VmCommand, VmConsole, VmMigrate};

/// Moves running virtual machines between hosts.
#[derive(Debug, Parser)]
#[command(
    name = "novacron",
    version,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 conflict, 5 not allowed, 6 timed out."
)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Form of the result on standard output; notices and progress go to standard error.
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "table|json|yaml",
        hide_possible_values = true,
        help_heading = "Everywhere"
    )]
    pub output: Format,
    /// Configuration file [default: $NOVACRON_CONFIG, then ~/.novacron.yaml].
    #[arg(long, global = true, value_name = "FILE", help_heading = "Everywhere")]
    pub config: Option<PathBuf>,
    /// Coordinator, such as https://10.0.0.1:7443; may be repeated [default: $NOVACRON_ENDPOINTS, then the file].
    #[arg(long = "endpoint", global = true, value_name = "URL", help_heading = "Everywhere")]
    pub endpoints: Vec<String>,
    /// Directory with ca.pem, cert.pem and key.pem [default: $NOVACRON_CREDENTIALS, then the file].
    #[arg(long, global = true, value_name = "DIR", help_heading = "Everywhere")]
    pub credentials: Option<PathBuf>,
    /// File with an API key to show instead of the certificate [default: $NOVACRON_API_KEY_FILE, then the file].
    #[arg(long, global = true, value_name = "FILE", help_heading = "Everywhere")]
    pub api_key_file: Option<PathBuf>,
    /// Show machines, nodes, migrations and projects as the coordinator has them that answers, also without a quorum; at
    /// most so old, if a duration is said. How old they can be is said on standard error.
    #[arg(
        long,
        global = true,
        value_name = "DURATION",
        num_args = 0..=1,
        require_equals = true,
        value_parser = parse_duration,
        help_heading = "Everywhere"
    )]
    pub stale: Option<Option<Duration>>,
}

impl Global {
    /// What was said about the connection.
    pub fn overrides(&self) -> Overrides {
        Overrides {
            file: self.config.clone(),
            endpoints: self.endpoints.clone(),
            credentials: self.credentials.clone(),
            api_key_file: self.api_key_file.clone(),
        }
    }
}

/// Form of a result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: sizes with units.
    #[default]
    Table,
    /// For programs: the API's own fields, sizes in bytes.
    Json,
    /// The same as YAML.
    Yaml,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Virtual machines.
    #[command(subcommand)]
    Vm(VmCommand),
    /// Migrations.
    #[command(subcommand)]
    Migrate(MigrateCommand),
    /// Hypervisor hosts.
    #[command(subcommand)]
    Node(NodeCommand),
    /// What was measured of machines, hosts and regions over time: processors, memory, disks, network.
    #[command(subcommand)]
    Metrics(MetricsCommand),
    /// Shows the fleet in one document: machines, nodes, what this month costs, and what to look at.
    Overview,
    /// Regions: where nodes stand, and which machines may stand there.
    #[command(subcommand)]
    Region(RegionCommand),
    /// Networks: bridges under one name, and whose machines may be in them.
    #[command(subcommand)]
    Network(NetworkCommand),
    /// What happened, in order.
    Events(Events),
    /// Alerts: what somebody has to look at.
    #[command(subcommand)]
    Alert(AlertCommand),
    /// Projects: whose machines are whose, and how much they may take.
    #[command(subcommand)]
    Project(ProjectCommand),
    /// Operators and service accounts.
    #[command(subcommand)]
    Principal(PrincipalCommand),
    /// Who may, or may not, do what.
    #[command(subcommand)]
    Role(RoleCommand),
    /// API keys, which programs show instead of a certificate.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Values that are kept encrypted.
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Shows who you are to the fleet, and what you may do.
    Whoami,
    /// Who changed what.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// What was used, in the meters' units.
    Usage(Usage),
    /// What projects owe for a month.
    Invoice(Invoice),
    /// What plans cost.
    #[command(subcommand)]
    Rate(RateCommand),
    /// The ledger that usage is kept in.
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// The coordinators.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Tokens to join with.
    #[command(subcommand)]
    Token(TokenCommand),
    /// A whole cluster on this machine, for trying and testing.
    #[command(subcommand)]
    Dev(DevCommand),
    /// Prints the completion script of a shell.
    Completion {
        /// The shell.
        shell: Shell,
    },
}

/// Shells with a completion script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU Bash.
    Bash,
    /// Z shell.
    Zsh,
    /// Fish.
    Fish,
}

/// Migrations.
#[derive(Debug, Subcommand)]
pub enum MigrateCommand {
    /// Shows a migration, or all of them.
    Status {
        /// The migration.
        #[arg(value_parser = values::parse_migration)]
        migration: Option<MigrationId>,
        /// Which of all of them.
        #[command(flatten)]
        list: MigrationList,
        /// Wait until it has ended, and exit with its result.
        #[command(flatten)]
        wait: Wait,
        /// Show its progress until it has ended.
        #[arg(long, requires = "migration")]
        watch: bool,
    },
    /// Gives a migration up: the machine stays where it was.
    Cancel {
        /// The migration.
        #[arg(value_parser = values::parse_migration)]
        migration: MigrationId,
        /// Wait until it has ended.
        #[command(flatten)]
        wait: Wait,
    },
    /// Moves all machines of a node, or those with some labels, to another node.
    Batch(BatchMigrate),
    /// Shows a batch with its machines, or all batches.
    BatchStatus {
        /// The batch.
        #[arg(value_parser = values::parse_batch)]
        batch: Option<BatchId>,
        /// Wait until all of its migrations have ended, and exit with its result.
        #[command(flatten)]
        wait: Wait,
        /// Show its progress until it has ended.
        #[arg(long, requires = "batch")]
        watch: bool,
    },
    /// Gives up what of a batch has not moved.
    BatchCancel {
        /// The batch.
        #[arg(value_parser = values::parse_batch)]
        batch: BatchId,
        /// Wait until all of its migrations have ended.
        #[command(flatten)]
        wait: Wait,
    },
}

/// Which migrations to list.
#[derive(Debug, Args)]
pub struct MigrationList {
    /// Only those of this machine (name or id).
    #[arg(long, conflicts_with = "migration")]
    pub vm: Option<String>,
    /// Only those from or to this node.
    #[arg(long, conflicts_with = "migration")]
    pub node: Option<String>,
    /// Only those that stand so.
    #[arg(long, conflicts_with = "migration", value_parser = values::parse_word::<MigrationStatus>)]
    pub status: Option<MigrationStatus>,
    /// Only those of this project's machines.
    #[arg(long, conflicts_with = "migration", value_name = "NAME")]
    pub project: Option<String>,
}

impl MigrationList {
    /// The API's filter.
    pub fn filter(&self) -> MigrationFilter {
        MigrationFilter {
            vm: self.vm.clone(),
            node: self.node.clone(),
            status: self.status,
            project: self.project.clone(),
        }
    }
}

/// Which events.
#[derive(Debug, Args)]
pub struct Events {
    /// Go on with what happens from now on.
    #[arg(short, long)]
    pub follow: bool,
    /// Begin with this revision [default: the oldest that is remembered].
    #[arg(long, value_name = "REVISION", value_parser = values::parse_revision)]
    pub from: Option<Revision>,
    /// Only those about this machine (name or id).
    #[arg(long)]
    pub vm: Option<String>,
    /// Only those about this migration.
    #[arg(long, value_parser = values::parse_migration)]
    pub migration: Option<MigrationId>,
    /// Only those of this kind, such as vm.state, or of this family, such as migration.*; may be repeated.
    #[arg(long = "kind", value_name = "KIND")]
    pub kinds: Vec<String>,
    /// Only those about this node, or about a machine on it.
    #[arg(long)]
    pub node: Option<String>,
    /// Only those about this project, or about its machines.
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
}

/// Whether to wait for the end of what was asked.
#[derive(Debug, Clone, Copy, Args)]
pub struct Wait {
    /// Wait until it is done, and exit with its result.
    #[arg(long)]
    pub wait: bool,
    /// For how long to wait, such as 90s or 5m.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = parse_duration, allow_hyphen_values = true)]
    pub timeout: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
