//! How this agent moves machines.

use novacron_transport::settings::Congestion;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::config::Amount;

/// The `[migration]` table of the agent's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MigrationSettings {
    /// Channels in which QEMU writes memory, each with a thread for hashing and compression, 1 to 15.
    pub channels: u8,
    /// zstd level of page batches at first, −7 to 19: it follows the link from there.
    pub compression_level: i32,
    /// Percent of one processor that hashing and compressing the memory of one machine may take.
    pub processor_percent: u32,
    /// Bytes of guest memory that this host remembers: what was sent, to send only what changes, and what machines that
    /// left had, for when they come back.
    #[serde(deserialize_with = "size_bytes")]
    pub memory_cache_bytes: u64,
    /// Bytes of memory pages that this host keeps of machines that came, for others of the same tenant from the same
    /// host: what machines have in common travels once.
    #[serde(deserialize_with = "size_bytes")]
    pub shared_cache_bytes: u64,
    /// Bytes of the host's disk for disks of machines that left, for when they come back.
    #[serde(deserialize_with = "size_bytes")]
    pub disk_cache_bytes: u64,
    /// What finds out how fast the link to another agent is: `bbr` or `cubic`.
    pub congestion: Congestion,
    /// Milliseconds of downtime that QEMU aims at when it decides to stop the guest.
    pub downtime_limit_ms: u64,
    /// Milliseconds that a guest may stand still in a switchover before it is taken back.
    pub switchover_ms_max: u64,
    /// Seconds that a guest may take to shut down in a warm migration.
    pub shutdown_s: u64,
    /// Seconds for which the link between two agents may be away before the guest is stopped; 0 gives up at once.
    pub link_patience_s: u64,
    /// Always move memory as bytes, even where pages are understood.
    pub force_tunnel: bool,
}

impl Default for MigrationSettings {
    fn default() -> Self {
        Self {
            channels: 2,
            compression_level: 1,
            processor_percent: 100,
            memory_cache_bytes: 1 << 30,
            shared_cache_bytes: 512 << 20,
            disk_cache_bytes: 8 << 30,
            congestion: Congestion::Bbr,
            downtime_limit_ms: 300,
            switchover_ms_max: 10_000,
            shutdown_s: 60,
            link_patience_s: 60,
            force_tunnel: false,
        }
    }
}

/// A setting that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("migration.{field}: {problem}")]
pub struct InvalidMigrationSetting {
    field: &'static str,
    problem: String,
}

impl MigrationSettings {
    /// Checks every setting against its bounds.
    ///
    /// # Errors
    /// The first that is out of them.
    pub fn check(&self) -> Result<(), InvalidMigrationSetting> {
        let bounds = [
            ("channels", i64::from(self.channels), 1, 15),
            ("compression_level", i64::from(self.compression_level), -7, 19),
            ("processor_percent", i64::from(self.processor_percent), 10, 6400),
            ("memory_cache_bytes", to_i64(self.memory_cache_bytes), 0, 1 << 44),
            ("shared_cache_bytes", to_i64(self.shared_cache_bytes), 0, 1 << 44),
            ("disk_cache_bytes", to_i64(self.disk_cache_bytes), 0, 1 << 50),
            ("downtime_limit_ms", to_i64(self.downtime_limit_ms), 1, 60_000),
            ("shutdown_s", to_i64(self.shutdown_s), 1, 3600),
            ("link_patience_s", to_i64(self.link_patience_s), 0, 600),
            ("switchover_ms_max", to_i64(self.switchover_ms_max), 1000, 600_000),
        ];
        for (field, value, least, most) in bounds {
            if !(least..=most).contains(&value) {
                let problem = format!("{value} is outside {least} to {most}");
                return Err(InvalidMigrationSetting { field, problem });
            }
        }
        Ok(())
    }
}

/// A number of bytes, or a size such as `"2GiB"`.
fn size_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match Amount::deserialize(deserializer)? {
        Amount::Fixed(bytes) => Ok(bytes),
        Amount::Auto => Err(D::Error::custom("write a size such as \"2GiB\", or 0 for none")),
    }
}

fn to_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_bounds_is_named() {
        assert_eq!(MigrationSettings::default().check(), Ok(()));
        let settings = MigrationSettings { channels: 16, ..MigrationSettings::default() };
        let refusal = settings.check().unwrap_err();
        assert_eq!(refusal.to_string(), "migration.channels: 16 is outside 1 to 15");
    }
}
