//! `agent.toml`.
//!
//! Read once, checked whole: what [`Config`] holds can be used as it is. An error names the key and says what would be
//! right.

mod amount;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use novacron_metrics::Listen;
use novacron_protocol::ids::NodeName;
use novacron_protocol::limits::{LABEL_BYTES_MAX, LABELS_MAX};
use novacron_protocol::vm::Labels;
use serde::Deserialize;

pub use amount::Amount;

use crate::migrate::MigrationSettings;
use crate::vm::Directories;

/// What the agent is told by its operator.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The node; the name in the agent's certificate.
    pub node: NodeName,
    /// What must survive.
    pub data_directory: PathBuf,
    /// Memory of arriving machines; `/dev/shm/novacron-NODE` unless said.
    memory_directory: Option<PathBuf>,
    /// Images; `images` in the data directory unless said.
    image_directory: Option<PathBuf>,
    /// Addresses of coordinators, `host:port`.
    pub coordinators: Vec<String>,
    /// Where other agents are listened to.
    #[serde(default = "migration_listen")]
    pub migration_listen: SocketAddr,
    /// The address at which other agents reach this one; the one that is listened at unless said.
    migration_advertise: Option<String>,
    /// Where metrics are read.
    #[serde(default)]
    pub metrics_listen: Listen,
    /// What accelerates guests.
    #[serde(default)]
    pub accel: AcceleratorChoice,
    /// QEMU.
    #[serde(default = "qemu_binary")]
    pub qemu_binary: PathBuf,
    /// qemu-img.
    #[serde(default = "qemu_img_binary")]
    pub qemu_img_binary: PathBuf,
    /// swtpm.
    #[serde(default = "swtpm_binary")]
    pub swtpm_binary: PathBuf,
    /// The kernel with which KVM is tried; the newest readable `/boot/vmlinuz-*` unless said.
    pub probe_kernel: Option<PathBuf>,
    /// Memory for machines.
    #[serde(default)]
    pub memory: Amount,
    /// Virtual CPUs for machines.
    #[serde(default)]
    pub cpus: Amount,
    /// Disk space for machines.
    #[serde(default)]
    pub disk: Amount,
    /// Labels for node selectors.
    #[serde(default)]
    pub labels: Labels,
    /// What is logged, and how.
    #[serde(default)]
    pub log: LogSettings,
    /// How machines are moved.
    #[serde(default)]
    pub migration: MigrationSettings,
}

/// What accelerates guests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AcceleratorChoice {
    /// KVM if a kernel boots under it, else TCG.
    #[default]
    Auto,
    /// KVM, or no agent.
    Kvm,
    /// TCG.
    Tcg,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// For people or for collectors.
    pub format: LogFormat,
    /// A level, or levels by module, such as `info,novacron_agent::migrate=debug`.
    pub filter: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".to_owned() }
    }
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

fn migration_listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 7410))
}

fn qemu_binary() -> PathBuf {
    "qemu-system-x86_64".into()
}

fn qemu_img_binary() -> PathBuf {
    "qemu-img".into()
}

fn swtpm_binary() -> PathBuf {
    "swtpm".into()
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file.
    #[error("configuration {} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Not TOML, an unknown key, a missing one, or a value of the wrong kind.
    #[error("configuration {}: {}", path.display(), said.trim_end())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and key.
        said: String,
    },
    /// A value that cannot be.
    #[error("configuration {}: {key}: {problem}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is wrong and what would be right.
        problem: String,
    },
}

/// A value that cannot be.
struct Problem {
    key: String,
    problem: String,
}

fn problem<T>(key: &str, problem: impl Into<String>) -> Result<T, Problem> {
    Err(Problem { key: key.to_owned(), problem: problem.into() })
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Checks a text; `path` is for messages.
    ///
    /// # Errors
    /// [`ConfigError::Malformed`], [`ConfigError::Invalid`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| ConfigError::Malformed {
            path: path.to_owned(),
            said: error.to_string(),
        })?;
        match config.check() {
            Ok(()) => Ok(config),
            Err(Problem { key, problem }) => {
                Err(ConfigError::Invalid { path: path.to_owned(), key, problem })
            }
        }
    }

    fn check(&self) -> Result<(), Problem> {
        let directories = self.directories();
        for (key, directory) in [
            ("data_directory", &directories.data),
            ("memory_directory", &directories.memory),
            ("image_directory", &directories.images),
        ] {
            if !directory.is_absolute() {
                return problem(key, format!("{} is not an absolute path", directory.display()));
            }
        }
        if let Err(error) = directories.check() {
            return problem("data_directory", error.to_string());
        }
        if let Amount::Fixed(cpus) = self.cpus
            && !(1..=CPUS_MAX).contains(&cpus)
        {
            return problem("cpus", format!("{cpus} is outside 1 to {CPUS_MAX}"));
        }
        self.check_addresses()?;
        self.check_labels()?;
        self.migration.check().or_else(|error| problem("migration", error.to_string()))
    }

    fn check_addresses(&self) -> Result<(), Problem> {
        if self.coordinators.is_empty() {
            return problem("coordinators", "at least one `host:port` is needed");
        }
        for address in &self.coordinators {
            check_address("coordinators", address)?;
        }
        match &self.migration_advertise {
            Some(address) => check_address("migration_advertise", address),
            None if self.migration_listen.ip().is_unspecified() => problem(
                "migration_advertise",
                format!(
                    "other agents cannot dial {}; say the `host:port` at which they reach this node",
                    self.migration_listen
                ),
            ),
            None => Ok(()),
        }
    }

    fn check_labels(&self) -> Result<(), Problem> {
        if self.labels.len() > LABELS_MAX {
            return problem(
                "labels",
                format!("{} labels; at most {LABELS_MAX}", self.labels.len()),
            );
        }
        let fits = |text: &str| text.len() <= LABEL_BYTES_MAX;
        match self.labels.iter().find(|(key, value)| key.is_empty() || !fits(key) || !fits(value)) {
            Some((key, _)) => problem(
                &format!("labels.{key}"),
                format!("a key of 1 and a value of 0 to {LABEL_BYTES_MAX} bytes are needed"),
            ),
            None => Ok(()),
        }
    }

    /// Where everything is.
    pub fn directories(&self) -> Directories {
        let memory = || PathBuf::from(format!("/dev/shm/novacron-{}", self.node));
        Directories {
            data: self.data_directory.clone(),
            images: self
                .image_directory
                .clone()
                .unwrap_or_else(|| self.data_directory.join("images")),
            memory: self.memory_directory.clone().unwrap_or_else(memory),
        }
    }

    /// Key, certificate and trust anchors of this agent.
    pub fn credential_directory(&self) -> PathBuf {
        self.data_directory.join("credentials")
    }

    /// The address at which other agents reach this one.
    pub fn migration_advertise(&self) -> String {
        let listened = || self.migration_listen.to_string();
        self.migration_advertise.clone().unwrap_or_else(listened)
    }
}

/// Virtual CPUs that a host may lend: more than any host has, less than a size in bytes.
const CPUS_MAX: u64 = 1 << 16;

/// Bytes of an address, a DNS name of full length and a port.
const ADDRESS_BYTES_MAX: usize = 253 + 6;

fn check_address(key: &str, address: &str) -> Result<(), Problem> {
    let parts = address.rsplit_once(':');
    let is_address = parts.is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if is_address && address.len() <= ADDRESS_BYTES_MAX {
        return Ok(());
    }
    problem(key, format!("`{address}` is not `host:port`, such as `10.0.0.1:7400`"))
}

#[cfg(test)]
mod tests;
