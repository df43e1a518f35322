//! Alerts: what somebody has to look at, from when it is noticed until it is over.
//!
//! An alert is known by its key: what is wrong (its kind) and with what (its object). There is at most one alert with a
//! key that is not resolved; raising it again counts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::{AlertName, MemberId, MigrationId, NodeName, ProjectName, RegionCode, VmId};
use crate::project::Quota;

macro_rules! conditions {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// What the cluster raises alerts for by itself: in text its word, in what is stored its number. So new ones are
        /// added at the end, each in a version of the formats of its own release.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Condition {
            $($(#[$doc])* $name,)*
        }

        impl Condition {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its word.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

conditions! {
    /// The agent of a host is late with its heartbeats (a warning), or does not answer at all.
    NodeUnreachable = "node-unreachable",
    /// The agents of many hosts of one region, or of many in none, do not answer.
    NodesUnreachable = "nodes-unreachable",
    /// A machine has failed.
    VmFailed = "vm-failed",
    /// Many machines of one project have failed.
    VmsFailed = "vms-failed",
    /// A migration failed in the last day.
    MigrationFailed = "migration-failed",
    /// Many migrations of one project failed in the last day.
    MigrationsFailed = "migrations-failed",
    /// Nothing was heard of a migration that is under way for ten minutes.
    MigrationStalled = "migration-stalled",
    /// A coordinator does not answer.
    MemberUnreachable = "member-unreachable",
    /// A coordinator says of itself that something is wrong with it.
    MemberUnfit = "member-unfit",
    /// A coordinator is far behind the others.
    MemberBehind = "member-behind",
    /// The disk of a coordinator is nearly full.
    MemberDiskLow = "member-disk-low",
    /// If one more coordinator is lost, there is no quorum.
    NoSpareMember = "no-spare-member",
    /// An hour of the ledger that should be sealed is not.
    LedgerLate = "ledger-late",
    /// A machine stands against a rule of residency.
    ResidencyViolation = "residency-violation",
    /// Many machines of one project stand against rules of residency.
    ResidencyViolations = "residency-violations",
    /// The quota of machines is nearly, or wholly (a warning), used.
    QuotaVms = "quota-vms",
    /// The quota of virtual CPUs is.
    QuotaCpus = "quota-cpus",
    /// The quota of memory is.
    QuotaMemory = "quota-memory",
    /// The quota of disks is.
    QuotaDisk = "quota-disk",
    /// The quota of migrations is.
    QuotaMigrations = "quota-migrations",
    /// The quota of snapshots is.
    QuotaSnapshots = "quota-snapshots",
    /// The month so far has nearly (a warning) or wholly used up the budget of a project.
    Budget = "budget",
    /// There is more to look at than has an alert.
    MoreConditions = "more-conditions",
    /// No backup was begun for days.
    BackupOverdue = "backup-overdue",
}

impl Condition {
    /// That of a quota.
    pub fn of_quota(quota: Quota) -> Self {
        match quota {
            Quota::Vms => Self::QuotaVms,
            Quota::Cpus => Self::QuotaCpus,
            Quota::MemoryBytes => Self::QuotaMemory,
            Quota::DiskBytes => Self::QuotaDisk,
            Quota::Migrations => Self::QuotaMigrations,
            Quota::Snapshots => Self::QuotaSnapshots,
        }
    }

    /// Whether it is about something that happened and does not go on: once somebody has resolved its alert, it is over.
    /// What lasts is over when the cluster sees that it is.
    pub fn is_past(self) -> bool {
        self == Self::MigrationFailed
    }
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AlertKind {
    /// The cluster sees it by itself.
    Condition(Condition),
    /// A client says it. No word of a condition.
    Named(AlertName),
}

impl AlertKind {
    /// Its word.
    pub fn word(&self) -> &str {
        match self {
            Self::Condition(condition) => condition.word(),
            Self::Named(name) => name.as_str(),
        }
    }
}

impl fmt::Display for AlertKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

/// What something is wrong with. In text `cluster`, or `node/node-01`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AlertObject {
    /// All of it.
    Cluster,
    /// A coordinator.
    Member(MemberId),
    /// A region.
    Region(RegionCode),
    /// A host.
    Node(NodeName),
    /// A project.
    Project(ProjectName),
    /// A machine.
    Vm(VmId),
    /// A migration.
    Migration(MigrationId),
}

impl fmt::Display for AlertObject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => formatter.write_str("cluster"),
            Self::Member(member) => write!(formatter, "member/{member}"),
            Self::Region(region) => write!(formatter, "region/{region}"),
            Self::Node(node) => write!(formatter, "node/{node}"),
            Self::Project(project) => write!(formatter, "project/{project}"),
            Self::Vm(vm) => write!(formatter, "vm/{vm}"),
            Self::Migration(migration) => write!(formatter, "migration/{migration}"),
        }
    }
}

/// The text names nothing that an alert can be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "write `cluster`, or one of `member/ID`, `region/CODE`, `node/NAME`, `project/NAME`, `vm/ID` and `migration/ID`"
)]
pub struct InvalidAlertObject;

impl FromStr for AlertObject {
    type Err = InvalidAlertObject;

    fn from_str(text: &str) -> Result<Self, InvalidAlertObject> {
        if text == "cluster" {
            return Ok(Self::Cluster);
        }
        let (kind, id) = text.split_once('/').ok_or(InvalidAlertObject)?;
        let parsed = match kind {
            "member" => id.parse().ok().map(|id| Self::Member(MemberId(id))),
            "region" => id.parse().ok().map(Self::Region),
            "node" => id.parse().ok().map(Self::Node),
            "project" => id.parse().ok().map(Self::Project),
            "vm" => id.parse().ok().map(Self::Vm),
            "migration" => id.parse().ok().map(Self::Migration),
            _ => None,
        };
        parsed.ok_or(InvalidAlertObject)
    }
}

/// What an alert is known by. In text `node-unreachable/node/node-01`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AlertKey {
    /// What is wrong.
    pub kind: AlertKind,
    /// With what.
    pub object: AlertObject,
}

impl AlertKey {
    /// That of a condition.
    pub fn of(condition: Condition, object: AlertObject) -> Self {
        Self { kind: AlertKind::Condition(condition), object }
    }
}

impl fmt::Display for AlertKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.kind, self.object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_read_as_it_is_written() {
        let id = "7f3c1a52-5e4e-4b8f-9d0a-0d3b9f1c2e11";
        for text in ["cluster", "member/3", "region/eu", "node/node-01", "project/web"] {
            assert_eq!(text.parse::<AlertObject>().unwrap().to_string(), text);
        }
        for kind in ["vm", "migration"] {
            let text = format!("{kind}/{id}");
            assert_eq!(text.parse::<AlertObject>().unwrap().to_string(), text);
        }
        for bad in ["", "cluster/1", "node", "node/", "node/Not Good", "vm/web", "disk/a"] {
            assert_eq!(bad.parse::<AlertObject>(), Err(InvalidAlertObject), "{bad}");
        }
    }

    #[test]
    fn the_words_of_conditions_are_names_and_differ() {
        let words: std::collections::BTreeSet<_> =
            Condition::ALL.iter().map(|condition| condition.word()).collect();
        assert_eq!(words.len(), Condition::ALL.len());
        for word in words {
            assert!(word.parse::<AlertName>().is_ok(), "{word}");
        }
        let quotas = Quota::ALL.map(Condition::of_quota);
        assert!(quotas.iter().all(|condition| condition.word().starts_with("quota-")));
    }
}
