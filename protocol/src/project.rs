//! Projects: whose machines are whose, and how much of the fleet they may take.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::vm::VmSpec;

/// Whether a project may begin anything.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum ProjectState {
    /// It may.
    #[default]
    Active,
    /// No machine of it is made, started or moved by its people; those that run go on and can be stopped and
    /// destroyed.
    Suspended,
}

/// What is counted of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Quota {
    /// Machines that are not deleted, running or not.
    Vms,
    /// Their virtual CPUs.
    Cpus,
    /// Their memory.
    MemoryBytes,
    /// The sizes of their disks.
    DiskBytes,
    /// Their migrations that have not ended.
    Migrations,
    /// Their snapshots.
    Snapshots,
}

impl Quota {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Vms,
        Self::Cpus,
        Self::MemoryBytes,
        Self::DiskBytes,
        Self::Migrations,
        Self::Snapshots,
    ];

    /// The field of the API.
    pub fn word(self) -> &'static str {
        match self {
            Self::Vms => "vms",
            Self::Cpus => "cpus",
            Self::MemoryBytes => "memory_bytes",
            Self::DiskBytes => "disk_bytes",
            Self::Migrations => "migrations",
            Self::Snapshots => "snapshots",
        }
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

/// How much a project may take at most. What is absent is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quotas {
    /// Machines that are not deleted, running or not.
    #[serde(default)]
    pub vms: Option<u64>,
    /// Their virtual CPUs.
    #[serde(default)]
    pub cpus: Option<u64>,
    /// Their memory in bytes.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// The sizes of their disks in bytes. With this quota a new machine says the size of each of its disks.
    #[serde(default)]
    pub disk_bytes: Option<u64>,
    /// Their migrations that wait or are under way.
    #[serde(default)]
    pub migrations: Option<u64>,
    /// Their snapshots.
    #[serde(default)]
    pub snapshots: Option<u64>,
}

/// How much a project takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProjectUsage {
    /// Machines that are not deleted, running or not.
    pub vms: u64,
    /// Their virtual CPUs.
    pub cpus: u64,
    /// Their memory in bytes.
    pub memory_bytes: u64,
    /// The sizes of their disks in bytes, as far as they were said when the machines were made.
    pub disk_bytes: u64,
    /// Their migrations that wait or are under way.
    pub migrations: u64,
    /// Their snapshots, also those that failed.
    #[serde(default)]
    pub snapshots: u64,
}

impl Quotas {
    /// One of them.
    pub fn of(&self, quota: Quota) -> Option<u64> {
        match quota {
            Quota::Vms => self.vms,
            Quota::Cpus => self.cpus,
            Quota::MemoryBytes => self.memory_bytes,
            Quota::DiskBytes => self.disk_bytes,
            Quota::Migrations => self.migrations,
            Quota::Snapshots => self.snapshots,
        }
    }

    /// Sets one of them.
    pub fn set(&mut self, quota: Quota, limit: Option<u64>) {
        let field = match quota {
            Quota::Vms => &mut self.vms,
            Quota::Cpus => &mut self.cpus,
            Quota::MemoryBytes => &mut self.memory_bytes,
            Quota::DiskBytes => &mut self.disk_bytes,
            Quota::Migrations => &mut self.migrations,
            Quota::Snapshots => &mut self.snapshots,
        };
        *field = limit;
    }

    /// The first quota that would be passed if `more` came to `used`, with its limit. What `more` does not need is
    /// not looked at: a quota that was lowered below what is used stops only what needs more of that.
    pub fn passed_by(&self, used: &ProjectUsage, more: &ProjectUsage) -> Option<(Quota, u64)> {
        Quota::ALL.into_iter().find_map(|quota| {
            let limit = self.of(quota)?;
            let (used, more) = (used.of(quota), more.of(quota));
            (more > 0 && used.saturating_add(more) > limit).then_some((quota, limit))
        })
    }
}

impl ProjectUsage {
    /// One machine of a specification.
    pub fn of_machine(spec: &VmSpec) -> Self {
        Self {
            vms: 1,
            cpus: u64::from(spec.cpus),
            memory_bytes: spec.memory_bytes,
            disk_bytes: spec.disk_bytes(),
            ..Self::default()
        }
    }

    /// One migration.
    pub fn of_migration() -> Self {
        Self { migrations: 1, ..Self::default() }
    }

    /// One snapshot.
    pub fn of_snapshot() -> Self {
        Self { snapshots: 1, ..Self::default() }
    }

    /// How much of one thing.
    pub fn of(&self, quota: Quota) -> u64 {
        match quota {
            Quota::Vms => self.vms,
            Quota::Cpus => self.cpus,
            Quota::MemoryBytes => self.memory_bytes,
            Quota::DiskBytes => self.disk_bytes,
            Quota::Migrations => self.migrations,
            Quota::Snapshots => self.snapshots,
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, more: &Self) -> Self {
        self.with(more, u64::saturating_add)
    }

    /// What is left when `less` is gone.
    #[must_use]
    pub fn minus(&self, less: &Self) -> Self {
        self.with(less, u64::saturating_sub)
    }

    fn with(&self, other: &Self, together: fn(u64, u64) -> u64) -> Self {
        Self {
            vms: together(self.vms, other.vms),
            cpus: together(self.cpus, other.cpus),
            memory_bytes: together(self.memory_bytes, other.memory_bytes),
            disk_bytes: together(self.disk_bytes, other.disk_bytes),
            migrations: together(self.migrations, other.migrations),
            snapshots: together(self.snapshots, other.snapshots),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_needed_is_compared() {
        let quotas = Quotas { vms: Some(2), cpus: Some(4), ..Quotas::default() };
        let usage = |vms, cpus| ProjectUsage { vms, cpus, ..ProjectUsage::default() };
        assert_eq!(quotas.passed_by(&usage(1, 2), &usage(1, 2)), None);
        assert_eq!(quotas.passed_by(&usage(2, 2), &usage(1, 2)), Some((Quota::Vms, 2)));
        assert_eq!(quotas.passed_by(&usage(1, 3), &usage(1, 2)), Some((Quota::Cpus, 4)));
        // More is used than a lowered quota allows: a migration needs none of it.
        assert_eq!(quotas.passed_by(&usage(9, 9), &ProjectUsage::of_migration()), None);
        assert_eq!(quotas.passed_by(&usage(1, 1), &usage(0, u64::MAX)), Some((Quota::Cpus, 4)));
    }
}
