//! Commands about migration, for both ends.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::command::plain_command;
use super::{Command, Empty, Qmp, QmpError};

/// State of a migration as QEMU names it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MigrateStatus {
    /// Nothing yet.
    #[default]
    None,
    /// Sockets are being connected.
    Setup,
    /// Waits for a device to be unplugged.
    WaitUnplug,
    /// Memory is copied, the guest runs.
    Active,
    /// The guest stands still and QEMU waits for `migrate-continue`.
    PreSwitchover,
    /// The device state is on its way.
    Device,
    /// Being cancelled.
    Cancelling,
    /// Cancelled; the guest goes on.
    Cancelled,
    /// Done. At the source this needs the target's SHUT on the return path.
    Completed,
    /// Failed; the guest goes on at the source.
    Failed,
    /// Any other.
    #[serde(other)]
    Other,
}

impl MigrateStatus {
    /// Whether QEMU will do nothing more about this migration.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Cancelled | Self::Completed | Self::Failed)
    }

    /// Whether there is something to cancel.
    pub fn is_under_way(self) -> bool {
        !self.is_terminal() && !matches!(self, Self::None | Self::Cancelling)
    }
}

/// Answer of `query-migrate`. Bytes are those between QEMU and the agent, not those on the wire.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct MigrationInfo {
    /// The state; `None` if there was no migration.
    pub status: MigrateStatus,
    /// Milliseconds since the start.
    pub total_time: u64,
    /// Milliseconds of setup.
    pub setup_time: u64,
    /// Milliseconds of downtime, once it is known.
    pub downtime: Option<u64>,
    /// Milliseconds of downtime that QEMU expects.
    pub expected_downtime: Option<u64>,
    /// Counters of guest memory.
    pub ram: Option<RamCounters>,
    /// How much the guest is slowed to let the migration converge, in percent.
    pub cpu_throttle_percentage: Option<u32>,
    /// Why it failed.
    pub error_desc: Option<String>,
    /// Why this guest cannot be migrated at all.
    pub blocked_reasons: Vec<String>,
}

/// Member `ram` of `query-migrate`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct RamCounters {
    /// Bytes handed over.
    pub transferred: u64,
    /// Bytes not yet handed over.
    pub remaining: u64,
    /// Bytes of guest memory.
    pub total: u64,
    /// Pages that were zero.
    pub duplicate: u64,
    /// Pages that were not.
    pub normal: u64,
    /// Pages that the guest dirties a second.
    pub dirty_pages_rate: u64,
    /// Rounds over the memory.
    pub dirty_sync_count: u64,
    /// Bytes of a page.
    pub page_size: u64,
    /// Bytes on multifd channels.
    pub multifd_bytes: u64,
}

/// A migration capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// Target to source on the main channel; always on, see the migration session.
    ReturnPath,
    /// State changes as events.
    Events,
    /// The target must agree before the source stops the guest.
    SwitchoverAck,
    /// Pages on channels of their own.
    Multifd,
    /// Stop before the switchover until `migrate-continue`.
    PauseBeforeSwitchover,
    /// Slow a guest that dirties memory faster than it is sent.
    AutoConverge,
}

/// Parameters; absent ones stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MigrateParameters {
    /// Bytes a second that QEMU may write; 0 is without limit (QEMU's default is 128 MiB/s).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bandwidth: Option<u64>,
    /// Bytes a second that QEMU assumes for the decision to switch over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avail_switchover_bandwidth: Option<u64>,
    /// Milliseconds of downtime to aim at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub downtime_limit: Option<u64>,
    /// Channels for pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multifd_channels: Option<u8>,
    /// Percent by which auto-converge first slows the guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_throttle_initial: Option<u8>,
    /// Percent that it adds each time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_throttle_increment: Option<u8>,
    /// `multifd`, `legacy` or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zero_page_detection: Option<&'static str>,
    /// How often a target announces the guest's network when it has loaded the guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub announce_rounds: Option<u32>,
}

/// What `yank` breaks off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum YankInstance {
    /// The running migration's sockets.
    Migration,
    /// The sockets of a block node, such as an NBD client.
    BlockNode {
        /// The node.
        #[serde(rename = "node-name")]
        node_name: String,
    },
}

plain_command!(QueryMigrate = "query-migrate" -> MigrationInfo);
plain_command!(MigrateCancel = "migrate_cancel" -> Empty);

#[derive(Debug, Serialize)]
struct SetCapabilities {
    capabilities: Vec<Value>,
}

impl Command for SetCapabilities {
    const NAME: &'static str = "migrate-set-capabilities";
    type Answer = Empty;
}

impl Command for MigrateParameters {
    const NAME: &'static str = "migrate-set-parameters";
    type Answer = Empty;
}

#[derive(Debug, Serialize)]
struct Migrate {
    channels: Value,
}

impl Command for Migrate {
    const NAME: &'static str = "migrate";
    type Answer = Empty;
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct MigrateIncoming {
    channels: Value,
    exit_on_error: bool,
}

impl Command for MigrateIncoming {
    const NAME: &'static str = "migrate-incoming";
    type Answer = Empty;
}

#[derive(Debug, Serialize)]
struct MigrateContinue {
    state: &'static str,
}

impl Command for MigrateContinue {
    const NAME: &'static str = "migrate-continue";
    type Answer = Empty;
}

#[derive(Debug, Serialize)]
struct Yank {
    instances: Vec<YankInstance>,
}

impl Command for Yank {
    const NAME: &'static str = "yank";
    const DEADLINE: Duration = Duration::from_secs(2);
    const OUT_OF_BAND: bool = true;
    type Answer = Empty;
}

fn main_channel(socket: &Path) -> Value {
    let addr = json!({ "transport": "socket", "type": "unix", "path": socket });
    json!([{ "channel-type": "main", "addr": addr }])
}

impl Qmp {
    /// How the newest migration stands.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn migration(&self) -> Result<MigrationInfo, QmpError> {
        self.execute(&QueryMigrate {}).await
    }

    /// Switches capabilities on or off. They persist in the process.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn set_capabilities(&self, states: &[(Capability, bool)]) -> Result<(), QmpError> {
        let state = |(capability, state): &(Capability, bool)| json!({ "capability": capability, "state": state });
        let capabilities = states.iter().map(state).collect();
        self.execute(&SetCapabilities { capabilities }).await.map(drop)
    }

    /// Sets parameters. They persist in the process.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn set_migrate_parameters(&self, new: &MigrateParameters) -> Result<(), QmpError> {
        self.execute(new).await.map(drop)
    }

    /// Source: begins to migrate into the listening unix socket.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn migrate(&self, socket: &Path) -> Result<(), QmpError> {
        self.execute(&Migrate { channels: main_channel(socket) }).await.map(drop)
    }

    /// Target: listens at the unix socket. QEMU stays alive when the migration fails, so that it can say why.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn migrate_incoming(&self, socket: &Path) -> Result<(), QmpError> {
        let incoming = MigrateIncoming { channels: main_channel(socket), exit_on_error: false };
        self.execute(&incoming).await.map(drop)
    }

    /// Source: gives up. Hangs with everything else if the switchover is under way and nobody reads.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn migrate_cancel(&self) -> Result<(), QmpError> {
        self.execute(&MigrateCancel {}).await.map(drop)
    }

    /// Source: goes on from `pre-switchover`.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn migrate_continue(&self) -> Result<(), QmpError> {
        self.execute(&MigrateContinue { state: "pre-switchover" }).await.map(drop)
    }

    /// Breaks connections off without the big lock.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn yank(&self, instances: Vec<YankInstance>) -> Result<(), QmpError> {
        self.execute(&Yank { instances }).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_what_qemu_expects() {
        let channels = main_channel(Path::new("/run/m.sock"));
        let incoming = MigrateIncoming { channels, exit_on_error: false };
        let expected = json!({
            "channels": [{"channel-type": "main",
                "addr": {"transport": "socket", "type": "unix", "path": "/run/m.sock"}}],
            "exit-on-error": false,
        });
        assert_eq!(serde_json::to_value(&incoming).unwrap(), expected);
        let parameters = MigrateParameters { max_bandwidth: Some(0), ..Default::default() };
        assert_eq!(serde_json::to_value(&parameters).unwrap(), json!({"max-bandwidth": 0}));
        let node = YankInstance::BlockNode { node_name: "nbd0".to_owned() };
        let yank = serde_json::to_value(Yank { instances: vec![YankInstance::Migration, node] });
        let expected = json!({"instances":
            [{"type": "migration"}, {"type": "block-node", "node-name": "nbd0"}]});
        assert_eq!(yank.unwrap(), expected);
    }

    #[test]
    fn an_answer_without_a_migration_is_none() {
        let info: MigrationInfo = serde_json::from_str("{}").unwrap();
        assert_eq!(info.status, MigrateStatus::None);
        let info: MigrationInfo =
            serde_json::from_value(json!({"status": "postcopy-active", "ram": {"total": 5}}))
                .unwrap();
        assert_eq!(info.status, MigrateStatus::Other);
        assert_eq!(info.ram.unwrap().total, 5);
    }
}
