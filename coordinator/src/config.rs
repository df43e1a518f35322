//! `coordinator.toml`.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use novacron_metrics::Listen;
use novacron_transport::SubjectName;
use serde::Deserialize;

use crate::admission::Limits;
use crate::agents::liveness::Patience;
use crate::alerts::conditions::DAY_MS;
use crate::alerts::holding::AlertPatience;
use crate::raft::timing::Timing;
use crate::state::formats::{FormatVersion, Formats};
use crate::switches::Switches;
use crate::view::WatchLimits;

/// Bytes of a configuration file: more is none.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The configuration of one coordinator.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name, unique among the coordinators; goes into the certificate.
    pub name: SubjectName,
    /// Where everything is kept.
    pub data_directory: PathBuf,
    /// Where members and agents connect (UDP).
    pub peer_listen: SocketAddr,
    /// How they reach it: `host:port`; as `peer_listen` unless said.
    #[serde(default)]
    pub peer_advertise: String,
    /// Where operators connect (TCP), and applicants (UDP).
    pub api_listen: SocketAddr,
    /// How they reach it: `host:port`; as `api_listen` unless said.
    #[serde(default)]
    pub api_advertise: String,
    /// Where metrics are read.
    #[serde(default)]
    pub metrics_listen: Listen,
    /// The log.
    #[serde(default)]
    pub log: LogConfig,
    /// The pace of the cluster; must be the same on all coordinators.
    #[serde(default)]
    pub timing: TimingConfig,
    /// How long agents may be silent.
    #[serde(default)]
    pub agents: AgentsConfig,
    /// Whether there are alerts, for how long something has to be wrong until one fires, and right until it is resolved.
    #[serde(default)]
    pub alerts: AlertsConfig,
    /// The history of what agents measure.
    #[serde(default)]
    pub samples: SamplesConfig,
    /// What machines use.
    #[serde(default)]
    pub metering: MeteringConfig,
    /// What streams of events may take.
    #[serde(default)]
    pub watch: WatchConfig,
    /// What one client may ask of the API.
    #[serde(default)]
    pub limits: Limits,
    /// A file with the key that encrypts this member's keys of secrets on its disk, as `novacron cluster key` makes it: a
    /// systemd credential, say. Without it they lie there readable for the owner of the data directory.
    #[serde(default)]
    pub secret_key_file: Option<PathBuf>,
    /// A file with the keys that encrypt this member's own files on its disk, one in each line, as `novacron cluster key`
    /// makes them: the first encrypts, all of them decrypt. Without it they lie there readable for the owner of the data
    /// directory. It is for a data directory that is made with it.
    #[serde(default)]
    pub storage_key_file: Option<PathBuf>,
    /// Bytes of the disk that are kept for snapshots: with less free, this member takes no changes until there is more. 0:
    /// the disk is not looked at.
    #[serde(default = "disk_reserve_bytes")]
    pub disk_reserve_bytes: u64,
    /// For tests only: understand formats up to this version and no newer ones, as an earlier release does. It works only
    /// where [`TEST_DISK_VARIABLE`] allows it.
    #[serde(default)]
    pub test_formats_newest: Option<u16>,
    /// For tests only: a disk that loses what was not synced when the process is killed.
    #[serde(default)]
    pub test_disk: Option<TestDiskConfig>,
}

/// Two snapshots of 20,000 machines (50 MB each), the segment of the log that is written (64 MiB) and the next one.
fn disk_reserve_bytes() -> u64 {
    256 << 20
}

/// A disk for tests of faults; it works only where [`TEST_DISK_VARIABLE`] allows it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestDiskConfig {
    /// Where faults are asked for while it runs: the files `full`, `sync_delay_ms` and `keeps`.
    #[serde(default)]
    pub faults_directory: Option<PathBuf>,
}

/// Whether the environment says that what is for tests may be used.
pub fn are_tests_allowed() -> bool {
    std::env::var_os(TEST_DISK_VARIABLE).is_some_and(|value| value == "1")
}

/// The variable of the environment that has to be `1` for a [`TestDiskConfig`] to be taken.
pub const TEST_DISK_VARIABLE: &str = "NOVACRON_ALLOW_TEST_DISK";

/// What is logged.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `text` or `json`.
    pub format: LogFormat,
    /// What passes, as `tracing_subscriber::EnvFilter` writes it.
    pub filter: String,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one JSON object a line.
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".to_owned() }
    }
}

/// The pace of the cluster.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TimingConfig {
    /// Milliseconds between two heartbeats of the leader; 20 to 2,000.
    pub heartbeat_ms: u64,
    /// Milliseconds for which a silent leader is waited for before an election: at least six heartbeats, of
    /// which four are sent.
    pub election_ms_min: u64,
    /// Log entries from one snapshot to the next; 10 to 1,000,000.
    pub entries_per_snapshot: u64,
}

impl Default for TimingConfig {
    fn default() -> Self {
        let Timing { heartbeat_ms, election_ms_min, entries_per_snapshot } = Timing::default();
        Self { heartbeat_ms, election_ms_min, entries_per_snapshot }
    }
}

/// How long agents may be silent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentsConfig {
    /// Milliseconds until a node is suspect.
    pub suspect_after_ms: u64,
    /// Milliseconds until it is down; more than until it is suspect.
    pub down_after_ms: u64,
}

impl Default for AgentsConfig {
    fn default() -> Self {
        let patience = Patience::default();
        Self {
            suspect_after_ms: milliseconds(patience.suspect_after),
            down_after_ms: milliseconds(patience.down_after),
        }
    }
}

/// When the cluster's own alerts fire and are resolved; the same on all coordinators, best.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlertsConfig {
    /// Whether there are any: while not, the leader watches for nothing, and nobody raises, lists or resolves one here.
    pub enabled: bool,
    /// Milliseconds for which something has to be wrong; at most an hour.
    pub fire_after_ms: u64,
    /// Milliseconds for which it has to be right again; at most an hour.
    pub resolve_after_ms: u64,
    /// Days without a backup after which that is an alert, up to 3,650; 0: never.
    pub backup_overdue_days: u64,
}

impl Default for AlertsConfig {
    fn default() -> Self {
        let patience = AlertPatience::default();
        Self {
            enabled: true,
            backup_overdue_days: 7,
            fire_after_ms: milliseconds(patience.fire_after),
            resolve_after_ms: milliseconds(patience.resolve_after),
        }
    }
}

/// The history of what agents measure; the same on all coordinators, best.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamplesConfig {
    /// Whether this member keeps one, and, leading, takes and passes on what agents measured.
    pub enabled: bool,
}

impl Default for SamplesConfig {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// What machines use; the same on all coordinators, best.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MeteringConfig {
    /// Whether this member, leading, takes from agents what machines used: while not, they keep it.
    pub enabled: bool,
}

impl Default for MeteringConfig {
    fn default() -> Self {
        Self { enabled: true }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What streams of events may take of a coordinator.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WatchConfig {
    /// Streams at once, 1 to 2,000.
    pub watchers_max: usize,
    /// Of these, streams of one principal; 1 to `watchers_max`.
    pub watchers_per_principal_max: usize,
    /// Milliseconds for which the other end of a connection may take nothing, 100 to 3,600,000.
    pub slow_reader_after_ms: u64,
    /// Milliseconds without a word from a leader that a quorum follows after which streams end, so that their readers go
    /// to another coordinator; 1,000 to 3,600,000.
    pub cut_off_after_ms: u64,
}

impl Default for WatchConfig {
    fn default() -> Self {
        let limits = WatchLimits::default();
        Self {
            watchers_max: limits.watchers_max,
            watchers_per_principal_max: limits.watchers_per_principal_max,
            slow_reader_after_ms: milliseconds(limits.slow_reader_after),
            cut_off_after_ms: milliseconds(limits.cut_off_after),
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is no configuration.
    #[error("{} is not a configuration of a coordinator", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Which field is wrong, and where.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value cannot be.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Read { path: path.to_owned(), source };
        let bytes = std::fs::metadata(path).map_err(failed)?.len();
        if bytes > FILE_BYTES_MAX {
            return Err(failed(std::io::ErrorKind::FileTooLarge.into()));
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        Self::parse(&text, path)
    }

    /// Checks the text of a file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let failed =
            |source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) };
        let mut config: Self = toml::from_str(text).map_err(failed)?;
        advertise("peer_advertise", &mut config.peer_advertise, config.peer_listen)?;
        advertise("api_advertise", &mut config.api_advertise, config.api_listen)?;
        config.check_times()?;
        config.check_watch()?;
        config.limits.check().or_else(|(field, problem)| invalid(field, problem))?;
        Ok(config)
    }

    fn check_times(&self) -> Result<(), ConfigError> {
        let heartbeat_ms = self.timing.heartbeat_ms;
        if !(20..=2_000).contains(&heartbeat_ms) {
            return invalid("timing.heartbeat_ms", format!("{heartbeat_ms} is outside 20 to 2000"));
        }
        if !(heartbeat_ms * 6..=60_000).contains(&self.timing.election_ms_min) {
            let problem = format!("must be {} (six heartbeats) to 60000", heartbeat_ms * 6);
            return invalid("timing.election_ms_min", problem);
        }
        if !(10..=1_000_000).contains(&self.timing.entries_per_snapshot) {
            let problem = "must be 10 to 1000000".to_owned();
            return invalid("timing.entries_per_snapshot", problem);
        }
        if self.agents.down_after_ms <= self.agents.suspect_after_ms {
            let problem =
                format!("must be more than suspect_after_ms, {}", self.agents.suspect_after_ms);
            return invalid("agents.down_after_ms", problem);
        }
        self.check_alerts()
    }

    fn check_alerts(&self) -> Result<(), ConfigError> {
        let AlertsConfig { fire_after_ms, resolve_after_ms, backup_overdue_days, .. } = self.alerts;
        for (field, given_ms) in
            [("alerts.fire_after_ms", fire_after_ms), ("alerts.resolve_after_ms", resolve_after_ms)]
        {
            if given_ms > 3_600_000 {
                return invalid(field, format!("{given_ms} is outside 0 to 3600000"));
            }
        }
        if backup_overdue_days > 3_650 {
            let problem = format!("{backup_overdue_days} is outside 0 to 3650");
            return invalid("alerts.backup_overdue_days", problem);
        }
        Ok(())
    }

    fn check_watch(&self) -> Result<(), ConfigError> {
        let WatchConfig {
            watchers_max,
            watchers_per_principal_max,
            slow_reader_after_ms,
            cut_off_after_ms,
        } = self.watch;
        if !(1..=2_000).contains(&watchers_max) {
            return invalid("watch.watchers_max", format!("{watchers_max} is outside 1 to 2000"));
        }
        if !(1..=watchers_max).contains(&watchers_per_principal_max) {
            let problem = format!("must be 1 to {watchers_max}, which is watchers_max");
            return invalid("watch.watchers_per_principal_max", problem);
        }
        if !(100..=3_600_000).contains(&slow_reader_after_ms) {
            let problem = format!("{slow_reader_after_ms} is outside 100 to 3600000");
            return invalid("watch.slow_reader_after_ms", problem);
        }
        if !(1_000..=3_600_000).contains(&cut_off_after_ms) {
            let problem = format!("{cut_off_after_ms} is outside 1000 to 3600000");
            return invalid("watch.cut_off_after_ms", problem);
        }
        Ok(())
    }

    /// What streams of events may take.
    pub fn watch_limits(&self) -> WatchLimits {
        WatchLimits {
            watchers_max: self.watch.watchers_max,
            watchers_per_principal_max: self.watch.watchers_per_principal_max,
            slow_reader_after: Duration::from_millis(self.watch.slow_reader_after_ms),
            cut_off_after: Duration::from_millis(self.watch.cut_off_after_ms),
        }
    }

    /// The pace of the cluster.
    pub fn timing(&self) -> Timing {
        let TimingConfig { heartbeat_ms, election_ms_min, entries_per_snapshot } = self.timing;
        Timing { heartbeat_ms, election_ms_min, entries_per_snapshot }
    }

    /// What this program understands.
    pub fn formats(&self) -> Formats {
        let own = Formats::default();
        match self.test_formats_newest.map(FormatVersion) {
            Some(newest) => Formats { newest, ..own },
            None => own,
        }
    }

    /// How long agents may be silent.
    pub fn patience(&self) -> Patience {
        Patience {
            suspect_after: Duration::from_millis(self.agents.suspect_after_ms),
            down_after: Duration::from_millis(self.agents.down_after_ms),
        }
    }

    /// For how long something has to be wrong, and right again.
    pub fn alert_patience(&self) -> AlertPatience {
        AlertPatience {
            fire_after: Duration::from_millis(self.alerts.fire_after_ms),
            resolve_after: Duration::from_millis(self.alerts.resolve_after_ms),
        }
    }

    /// After how many milliseconds a backup is overdue, if ever.
    pub fn backup_overdue_ms(&self) -> Option<u64> {
        let days = self.alerts.backup_overdue_days;
        (days > 0).then(|| days * DAY_MS)
    }

    /// What is turned off.
    pub fn switches(&self) -> Switches {
        Switches {
            alerts: self.alerts.enabled,
            samples: self.samples.enabled,
            metering: self.metering.enabled,
        }
    }

    /// Names and addresses under which HTTPS clients reach this coordinator: they verify one of these.
    pub fn hosts(&self) -> Vec<String> {
        let mut hosts = vec![host(&self.api_advertise).to_owned()];
        let listen = self.api_listen.ip();
        if !listen.is_unspecified() {
            hosts.push(listen.to_string());
        }
        if self.api_listen.ip().is_loopback() || listen.is_unspecified() {
            hosts.push("localhost".to_owned());
        }
        hosts.dedup();
        hosts
    }
}

/// The host of `host:port`, without the brackets of an IPv6 address.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

fn invalid<T>(field: &'static str, problem: String) -> Result<T, ConfigError> {
    Err(ConfigError::Invalid { field, problem })
}

/// Fills in the address that others use, and checks that they can.
fn advertise(
    field: &'static str,
    advertised: &mut String,
    listen: SocketAddr,
) -> Result<(), ConfigError> {
    if advertised.is_empty() {
        *advertised = listen.to_string();
    }
    let (name, port) = advertised.rsplit_once(':').unwrap_or((advertised.as_str(), ""));
    if name.is_empty()
        || port.parse::<u16>().is_ok_and(|port| port == 0)
        || port.parse::<u16>().is_err()
    {
        return invalid(field, format!("`{advertised}` is not HOST:PORT"));
    }
    let is_nowhere =
        host(advertised).parse::<IpAddr>().is_ok_and(|address| address.is_unspecified());
    if is_nowhere {
        let problem =
            format!("`{advertised}` is an address to listen on, not one that others can reach");
        return invalid(field, problem);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = r#"
        name = "c1"
        data_directory = "/var/lib/novacron/coordinator"
        peer_listen = "10.0.0.1:7400"
        api_listen = "10.0.0.1:7443"
    "#;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("coordinator.toml"))
    }

    #[test]
    fn defaults_are_filled_in() {
        let config = parse(MINIMAL).unwrap();
        assert_eq!(config.peer_advertise, "10.0.0.1:7400");
        assert_eq!(config.api_advertise, "10.0.0.1:7443");
        assert_eq!(config.hosts(), ["10.0.0.1"]);
        assert_eq!(config.timing(), Timing::default());
        assert_eq!(config.patience(), Patience::default());
        assert_eq!(config.watch_limits(), WatchLimits::default());
        assert_eq!((config.limits.clone(), config.limits.check()), (Limits::default(), Ok(())));
        assert_eq!(config.log.format, LogFormat::Text);
        assert_eq!(config.metrics_listen, Listen::default());
        assert_eq!(config.switches(), Switches::default());
        assert_eq!(config.backup_overdue_ms(), Some(7 * DAY_MS));
    }

    /// What is commented out in the sample are the defaults, but for files of keys.
    #[test]
    fn the_sample_says_the_defaults() {
        let sample = include_str!("../../deploy/coordinator.toml");
        let is_setting = |line: &str| line.contains(" = ") || line.starts_with('[');
        let uncommented = sample.lines().map(|line| match line.strip_prefix("# ") {
            Some(setting) if is_setting(setting) && !setting.contains("key_file") => setting,
            _ => line,
        });
        let config = parse(&uncommented.collect::<Vec<_>>().join("\n")).unwrap();
        let usual = parse(MINIMAL).unwrap();
        assert_eq!(config.timing(), usual.timing());
        assert_eq!(config.patience(), usual.patience());
        assert_eq!(config.alert_patience(), usual.alert_patience());
        assert_eq!(config.watch_limits(), usual.watch_limits());
        assert_eq!(config.limits, usual.limits);
        assert_eq!(config.switches(), usual.switches());
        assert_eq!(config.backup_overdue_ms(), usual.backup_overdue_ms());
        assert_eq!(config.disk_reserve_bytes, usual.disk_reserve_bytes);
        assert_eq!(config.metrics_listen, usual.metrics_listen);
    }

    #[test]
    fn each_part_is_turned_off_by_itself() {
        let off = |table: &str| parse(&format!("{MINIMAL}\n[{table}]\nenabled = false")).unwrap();
        let all = Switches::default();
        assert_eq!(off("alerts").switches(), Switches { alerts: false, ..all });
        assert_eq!(off("samples").switches(), Switches { samples: false, ..all });
        assert_eq!(off("metering").switches(), Switches { metering: false, ..all });
        let never = parse(&format!("{MINIMAL}\n[alerts]\nbackup_overdue_days = 0")).unwrap();
        assert_eq!(never.backup_overdue_ms(), None);
    }

    #[test]
    fn a_wrong_field_is_named() {
        let wrong = |extra: &str| match parse(&format!("{MINIMAL}\n{extra}")).unwrap_err() {
            ConfigError::Invalid { field, .. } => field.to_owned(),
            ConfigError::Parse { source, .. } => source.to_string(),
            ConfigError::Read { .. } => "read".to_owned(),
        };
        assert_eq!(wrong(r#"peer_advertise = "0.0.0.0:7400""#), "peer_advertise");
        assert_eq!(wrong(r#"peer_advertise = "host""#), "peer_advertise");
        assert_eq!(wrong("api_advertise = \":1\""), "api_advertise");
        assert_eq!(wrong("[timing]\nheartbeat_ms = 1"), "timing.heartbeat_ms");
        assert_eq!(wrong("[timing]\nelection_ms_min = 100"), "timing.election_ms_min");
        assert_eq!(wrong("[agents]\ndown_after_ms = 10"), "agents.down_after_ms");
        assert_eq!(wrong("[watch]\nwatchers_max = 0"), "watch.watchers_max");
        let principal = "watch.watchers_per_principal_max";
        assert_eq!(wrong("[watch]\nwatchers_per_principal_max = 513"), principal);
        assert_eq!(wrong("[watch]\nslow_reader_after_ms = 99"), "watch.slow_reader_after_ms");
        assert_eq!(wrong("[alerts]\nbackup_overdue_days = 3651"), "alerts.backup_overdue_days");
        assert!(wrong("[alerts]\nenabled = 1").contains("enabled"));
        assert!(wrong("[metering]\nenable = false").contains("unknown field `enable`"));
        assert!(wrong("[samples]\nkeep = false").contains("unknown field `keep`"));
        assert_eq!(wrong("[limits]\nconnections = 0"), "limits.connections");
        assert_eq!(wrong("[limits]\nbody_ms_max = 1"), "limits.body_ms_max");
        assert!(wrong("[limits]\nconections = 1").contains("conections"));
        assert!(wrong("metrics_listen = \"7480\"").contains("metrics_listen"));
        assert!(wrong("nam = \"x\"").contains("unknown field `nam`"));
        assert!(wrong("[log]\nformat = \"xml\"").contains("format"));
    }

    #[test]
    fn clients_may_verify_any_of_its_names() {
        let text = MINIMAL.replace("10.0.0.1:7443", "0.0.0.0:7443");
        let config = parse(&format!("{text}\napi_advertise = \"c1.example:7443\"")).unwrap();
        assert_eq!(config.hosts(), ["c1.example", "localhost"]);
        assert_eq!(host("[::1]:7443"), "::1");
    }
}
