//! Who may do what, in words: permissions, patterns of them, and roles made of patterns.
//!
//! A permission is `noun.verb`. Words are hierarchical: `vm.*` is everything that begins with `vm.`, `*` is
//! everything, also what later versions add. Whoever may do something holds a role or a pattern by a binding, on the
//! whole fleet or on one project; how bindings add up is decided where they are kept.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::ProjectName;

macro_rules! permissions {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// One thing that somebody may or may not do: in text its word, in what is stored its number. So new ones are
        /// added at the end.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum Permission {
            $($(#[$doc])* #[serde(rename = $word)] $name,)*
        }

        impl Permission {
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

permissions! {
    /// See machines, their migrations and batches.
    VmRead = "vm.read",
    /// Make machines.
    VmCreate = "vm.create",
    /// Start and stop machines, and keep texts beside them.
    VmOperate = "vm.operate",
    /// Destroy machines.
    VmDelete = "vm.delete",
    /// Read and type at serial consoles.
    VmConsole = "vm.console",
    /// Move machines, and give moves up.
    VmMigrate = "vm.migrate",
    /// See hypervisor hosts.
    NodeRead = "node.read",
    /// Drain hosts and have them take machines again.
    NodeDrain = "node.drain",
    /// Let hosts join.
    NodeJoin = "node.join",
    /// See what happened.
    EventRead = "event.read",
    /// See projects with their quotas.
    ProjectRead = "project.read",
    /// Make, change and remove projects.
    ProjectAdmin = "project.admin",
    /// See principals, bindings and API keys.
    PrincipalRead = "principal.read",
    /// Decide who may do what; whoever may do this may do everything.
    PrincipalAdmin = "principal.admin",
    /// See the coordinators.
    ClusterRead = "cluster.read",
    /// Add and remove coordinators, change what holds for the whole fleet.
    ClusterAdmin = "cluster.admin",
    /// Read the audit log.
    AuditRead = "audit.read",
    /// Read the ledger: usage and invoices.
    LedgerRead = "ledger.read",
    /// Correct the ledger.
    LedgerCorrect = "ledger.correct",
    /// Set rates and plans.
    RateAdmin = "rate.admin",
    /// Post usage that no agent measured.
    LedgerPost = "ledger.post",
    /// See regions, and machines that stand against a rule of residency.
    RegionRead = "region.read",
    /// Make, change and remove regions, and say which hosts are in them.
    RegionAdmin = "region.admin",
    /// See which secrets there are, without their values.
    SecretRead = "secret.read",
    /// Write and remove secrets.
    SecretWrite = "secret.write",
    /// Read the values of secrets; each time is in the audit log.
    SecretReveal = "secret.reveal",
    /// Make, restore and delete snapshots of machines.
    VmSnapshot = "vm.snapshot",
    /// See alerts.
    AlertRead = "alert.read",
    /// Raise alerts.
    AlertRaise = "alert.raise",
    /// Acknowledge and resolve alerts.
    AlertManage = "alert.manage",
    /// See networks that machines of one's projects may be in.
    NetworkRead = "network.read",
    /// Make, change and remove networks.
    NetworkAdmin = "network.admin",
}

impl fmt::Display for Permission {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

/// The text is no pattern of permissions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` covers no permission: write a word such as `vm.read`, `vm.*` or `*`")]
pub struct InvalidPattern {
    /// What was given, cut to a printable length.
    pub text: String,
}

/// Bytes of a pattern that are worth looking at; the longest word has fewer.
const PATTERN_BYTES_MAX: usize = 64;

/// Some permissions: one word, all that begin with a noun (`vm.*`), or all (`*`). Covers at least one that there is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(transparent)]
pub struct PermissionPattern(Cow<'static, str>);

impl PermissionPattern {
    /// Everything.
    pub const EVERYTHING: Self = Self(Cow::Borrowed("*"));

    const fn of(word: &'static str) -> Self {
        Self(Cow::Borrowed(word))
    }

    /// Whether a permission is among them.
    pub fn covers(&self, permission: Permission) -> bool {
        match self.0.strip_suffix('*') {
            // `*` leaves nothing, `vm.*` leaves `vm.`: `vm*` is not a pattern.
            Some(beginning) => permission.word().starts_with(beginning),
            None => permission.word() == self.0,
        }
    }
}

impl FromStr for PermissionPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let pattern = Self(Cow::Owned(text.chars().take(PATTERN_BYTES_MAX).collect()));
        let ends_well = text == "*" || text.ends_with(".*") || !text.contains('*');
        if ends_well && Permission::ALL.iter().any(|permission| pattern.covers(*permission)) {
            return Ok(pattern);
        }
        Err(InvalidPattern { text: pattern.0.into_owned() })
    }
}

impl TryFrom<String> for PermissionPattern {
    type Error = InvalidPattern;

    fn try_from(text: String) -> Result<Self, InvalidPattern> {
        text.parse()
    }
}

impl From<PermissionPattern> for String {
    fn from(pattern: PermissionPattern) -> String {
        pattern.0.into_owned()
    }
}

impl fmt::Display for PermissionPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A role: permissions that belong together. `viewer` is within `operator`, `operator` within `admin`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum AccessRole {
    /// Sees machines, hosts, events, alerts, projects and coordinators.
    Viewer,
    /// Runs the fleet: everything with machines and hosts, nothing about who may do what.
    Operator,
    /// Everything.
    Admin,
    /// Reads what happened, who may do what, and what was used.
    Auditor,
    /// Reads and corrects the ledger, sets rates.
    Billing,
}

const VIEWER: &[PermissionPattern] = &[
    PermissionPattern::of("vm.read"),
    PermissionPattern::of("node.read"),
    PermissionPattern::of("event.read"),
    PermissionPattern::of("project.read"),
    PermissionPattern::of("cluster.read"),
    PermissionPattern::of("region.read"),
    PermissionPattern::of("alert.read"),
    PermissionPattern::of("network.read"),
];
const OPERATOR: &[PermissionPattern] = &[
    PermissionPattern::of("vm.*"),
    PermissionPattern::of("node.*"),
    PermissionPattern::of("event.read"),
    PermissionPattern::of("project.read"),
    PermissionPattern::of("cluster.read"),
    PermissionPattern::of("region.read"),
    PermissionPattern::of("secret.read"),
    PermissionPattern::of("secret.write"),
    PermissionPattern::of("alert.*"),
    PermissionPattern::of("network.read"),
];
const ADMIN: &[PermissionPattern] = &[PermissionPattern::EVERYTHING];
const AUDITOR: &[PermissionPattern] = &[
    PermissionPattern::of("audit.read"),
    PermissionPattern::of("ledger.read"),
    PermissionPattern::of("event.read"),
    PermissionPattern::of("project.read"),
    PermissionPattern::of("principal.read"),
    PermissionPattern::of("region.read"),
    PermissionPattern::of("secret.read"),
    PermissionPattern::of("alert.read"),
    PermissionPattern::of("network.read"),
];
const BILLING: &[PermissionPattern] = &[
    PermissionPattern::of("ledger.*"),
    PermissionPattern::of("rate.*"),
    PermissionPattern::of("project.read"),
];

impl AccessRole {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Viewer, Self::Operator, Self::Admin, Self::Auditor, Self::Billing];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
            Self::Auditor => "auditor",
            Self::Billing => "billing",
        }
    }

    /// What it is made of.
    pub fn patterns(self) -> &'static [PermissionPattern] {
        match self {
            Self::Viewer => VIEWER,
            Self::Operator => OPERATOR,
            Self::Admin => ADMIN,
            Self::Auditor => AUDITOR,
            Self::Billing => BILLING,
        }
    }

    /// Whether a permission belongs to it.
    pub fn covers(self, permission: Permission) -> bool {
        self.patterns().iter().any(|pattern| pattern.covers(permission))
    }
}

impl fmt::Display for AccessRole {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

/// Whether a binding gives or takes away. What is taken away by one binding is not given by any other.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum BindingEffect {
    /// It may.
    #[default]
    Allow,
    /// It may not, whatever else it holds.
    Deny,
}

/// What something belongs to, as far as permission goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scope {
    /// The fleet as a whole.
    Fleet,
    /// One project.
    Project(ProjectName),
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fleet => formatter.write_str("the whole fleet"),
            Self::Project(project) => write!(formatter, "project `{project}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_hierarchical() {
        let covered = |text: &str| {
            let pattern: PermissionPattern = text.parse().unwrap();
            Permission::ALL.iter().filter(|one| pattern.covers(**one)).count()
        };
        assert_eq!((covered("vm.read"), covered("vm.*")), (1, 7));
        assert_eq!(covered("*"), Permission::ALL.len());
        for bad in ["", "vm", "vm*", "*.read", "vm.r*", "vm.fly", "vm.*.*", "disk.*", "**"] {
            assert!(bad.parse::<PermissionPattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_viewer_is_within_an_operator_within_an_admin() {
        let all = |role: AccessRole| -> Vec<_> {
            Permission::ALL.iter().filter(|one| role.covers(**one)).collect()
        };
        let within = |less: AccessRole, more: AccessRole| {
            all(less).iter().all(|permission| all(more).contains(permission))
        };
        assert!(within(AccessRole::Viewer, AccessRole::Operator));
        assert!(within(AccessRole::Operator, AccessRole::Admin));
        assert_eq!(all(AccessRole::Admin).len(), Permission::ALL.len());
        for role in [AccessRole::Viewer, AccessRole::Operator, AccessRole::Billing] {
            assert!(!role.covers(Permission::PrincipalAdmin), "{role}");
        }
    }

    #[test]
    fn words_are_what_is_written() {
        for permission in Permission::ALL {
            let written = serde_json::to_string(permission).unwrap();
            assert_eq!(written, format!("\"{permission}\""));
        }
        for role in AccessRole::ALL {
            assert_eq!(serde_json::to_string(&role).unwrap(), format!("\"{role}\""));
            // A pattern of a role is one that a person could write, too.
            for pattern in role.patterns() {
                assert_eq!(pattern.to_string().parse().as_ref(), Ok(pattern));
            }
        }
    }
}
