//! Versions of formats: of commands, rows, snapshots and messages between members, all under one number.
//!
//! This is the one place that says what each version added. A cluster works with the highest version that all of its
//! members understand (the *active* one); it is in the state and only goes up. What is newer is refused until then, so
//! nothing is written that a member could not read, and a member can go back to the release before until it went up.
//!
//! **A later version only adds**: variants at the end of enums, tables, messages. What is there keeps its bytes; each
//! encoded value carries the version that it needs, not the newest. What `apply` does with a command that was there
//! changes only where it asks for the active version: replicas of two releases must reach the same bytes.

use std::fmt;

use novacron_protocol::access::{Permission, PermissionPattern};
use novacron_protocol::api::EventKind;
use novacron_protocol::ids::MemberId;
use serde::{Deserialize, Serialize};

use super::audit::Subject;
use super::binding::{NewBinding, Right};
use super::change::Change;
use super::command::Body;
use super::event::About;
use super::fleet::{Applying, Fleet};
use super::member::MemberPart;
use super::principal::AccessOrder;
use super::project::ProjectOrder;
use super::region::RegionOrder;
use super::reply::{Accepted, Refusal, Reply};

/// A version of all formats; 0 is none: a cluster that is not founded.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct FormatVersion(pub u16);

/// The first: everything but what is named below.
pub const FIRST: FormatVersion = FormatVersion(1);

/// Secrets and their keys: commands, tables 25 and 26, calls between members.
pub const SECRETS: FormatVersion = FormatVersion(2);

/// Alerts and budgets: commands, tables 27 and 28. Of the same release as secrets.
pub const ALERTS: FormatVersion = SECRETS;
/// What agents measured, as the leader passes it on: a call between members.
pub const SAMPLES: FormatVersion = SECRETS;
/// Networks and machines in them: commands, tables 16 and 17. Of the same release as secrets.
pub const NETWORKS: FormatVersion = SECRETS;
/// Commands that go to the leader together: a call between members. Of the same release as secrets.
pub const TOGETHER: FormatVersion = SECRETS;

/// Backups in the audit log: a command, table 29. Of the same release as secrets.
pub const BACKUPS: FormatVersion = SECRETS;
/// The question before an election: a call between members. Of the same release as secrets.
pub const PREVOTE: FormatVersion = SECRETS;

/// How far regions are from each other: an order about regions, table 18. Of the same release as secrets.
pub const ROUTES: FormatVersion = SECRETS;

/// The newest that this build understands. A release has at most one more than the release before.
pub const NEWEST: FormatVersion = SECRETS;

/// The oldest that this build understands: that of the release before.
pub const OLDEST: FormatVersion = FIRST;

impl fmt::Display for FormatVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The versions that a program understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Formats {
    /// The oldest.
    pub oldest: FormatVersion,
    /// The newest.
    pub newest: FormatVersion,
}

impl Default for Formats {
    /// Those of this build.
    fn default() -> Self {
        Self { oldest: OLDEST, newest: NEWEST }
    }
}

/// A program that is too old, or too new, for a cluster or for what lies on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error(
    "this works with formats of version {active}, and the program understands {} to {}: {}",
    understood.oldest, understood.newest, remedy(*.active, understood)
)]
pub struct OtherFormats {
    /// The active version.
    pub active: FormatVersion,
    /// What the program understands.
    pub understood: Formats,
}

fn remedy(active: FormatVersion, understood: &Formats) -> &'static str {
    if understood.newest < active {
        "install the release that its other members have"
    } else {
        "install a release in between first, on all members, and wait until `novacron cluster status` shows its version"
    }
}

impl Formats {
    /// Whether a program that understands these can work where a version is active.
    ///
    /// # Errors
    /// [`OtherFormats`].
    pub fn check(&self, active: FormatVersion) -> Result<(), OtherFormats> {
        let is_understood =
            active == FormatVersion(0) || (self.oldest <= active && active <= self.newest);
        is_understood.then_some(()).ok_or(OtherFormats { active, understood: *self })
    }
}

impl Body {
    /// The version that added it. A new variant names its own here.
    pub fn since(&self) -> FormatVersion {
        match self {
            Self::Secrets(_) => SECRETS,
            Self::Alerts(_) | Self::Projects(ProjectOrder::SetBudget { .. }) => ALERTS,
            Self::Networks(_) | Self::CreateVmIn(_) => NETWORKS,
            Self::TakeBackup => BACKUPS,
            Self::Regions(RegionOrder::ChangeWithLatencies { .. }) => ROUTES,
            Self::Access(AccessOrder::Bind(NewBinding {
                right: Right::Permissions(pattern),
                ..
            })) => since_of_pattern(pattern),
            Self::CreateVm(_)
            | Self::PlaceVm { .. }
            | Self::StartVm { .. }
            | Self::StopVm { .. }
            | Self::DestroyVm { .. }
            | Self::MigrateVm { .. }
            | Self::CancelMigration { .. }
            | Self::CreateToken(_)
            | Self::UseToken { .. }
            | Self::FoundCluster { .. }
            | Self::BeginIncarnation(_)
            | Self::AdmitMember(_)
            | Self::EnterMember { .. }
            | Self::RemoveMember { .. }
            | Self::OpenSession(_)
            | Self::Reports(_)
            | Self::SetNodeStates(_)
            | Self::ExpireEffects(_)
            | Self::MigrateBatch(_)
            | Self::CancelBatch { .. }
            | Self::ChangeSettings(_)
            | Self::DrainNode { .. }
            | Self::UndrainNode { .. }
            | Self::DrainVm { .. }
            | Self::PostUsage { .. }
            | Self::SealWindows { .. }
            | Self::CorrectUsage(_)
            | Self::SetRate(_)
            | Self::SetPlan { .. }
            | Self::Projects(_)
            | Self::Access(_)
            | Self::Annotate { .. }
            | Self::Regions(_)
            | Self::NoteRefusals { .. }
            | Self::NoteFormats(_)
            | Self::Snapshots(_) => FIRST,
        }
    }
}

/// The version that added the first permission of a pattern: a program that knows none of them cannot read it.
fn since_of_pattern(pattern: &PermissionPattern) -> FormatVersion {
    let covered = Permission::ALL.iter().filter(|permission| pattern.covers(**permission));
    covered.map(|permission| since_of_permission(*permission)).min().unwrap_or(NEWEST)
}

/// The version that added a permission. New ones name theirs here.
fn since_of_permission(permission: Permission) -> FormatVersion {
    match permission {
        Permission::SecretRead | Permission::SecretWrite | Permission::SecretReveal => SECRETS,
        Permission::AlertRead | Permission::AlertRaise | Permission::AlertManage => ALERTS,
        Permission::NetworkRead | Permission::NetworkAdmin => NETWORKS,
        Permission::VmRead
        | Permission::VmCreate
        | Permission::VmOperate
        | Permission::VmDelete
        | Permission::VmConsole
        | Permission::VmMigrate
        | Permission::VmSnapshot
        | Permission::NodeRead
        | Permission::NodeDrain
        | Permission::NodeJoin
        | Permission::EventRead
        | Permission::ProjectRead
        | Permission::ProjectAdmin
        | Permission::PrincipalRead
        | Permission::PrincipalAdmin
        | Permission::ClusterRead
        | Permission::ClusterAdmin
        | Permission::AuditRead
        | Permission::LedgerRead
        | Permission::LedgerCorrect
        | Permission::LedgerPost
        | Permission::RateAdmin
        | Permission::RegionRead
        | Permission::RegionAdmin => FIRST,
    }
}

impl Fleet {
    /// The active version; 0 before the cluster is founded.
    pub fn formats(&self) -> FormatVersion {
        self.meta.formats
    }

    /// Whether a command can be given while the active version is what it is.
    ///
    /// # Errors
    /// [`Refusal::UpgradeNeeded`].
    pub fn check_since(&self, body: &Body) -> Result<(), Refusal> {
        let (needed, active) = (body.since(), self.meta.formats);
        if needed <= active || self.meta.cluster.is_none() {
            return Ok(());
        }
        let behind = self.present_members().find(|member| member.facts.formats.newest < needed);
        let behind = behind.map(|member| member.facts.name.clone());
        Err(Refusal::UpgradeNeeded { needed, active, behind })
    }

    /// Notes what the members understand, as all of them have just said, and goes up as far as that allows.
    pub(super) fn note_formats(
        &mut self,
        now: &mut Applying,
        said: &[(MemberId, Formats)],
    ) -> Reply {
        let of = |id: &MemberId| said.iter().find(|(member, _)| member == id).map(|(_, one)| *one);
        let present = self.present_members().map(|member| of(&member.id));
        let Some(present) = present.collect::<Option<Vec<Formats>>>() else {
            let text = "a member has not said which formats it understands";
            return Err(Refusal::Conflict(text.to_owned()));
        };
        for (member, formats) in said {
            self.members.update(member, |row| row.facts.formats = *formats);
        }
        let common = present.iter().map(|formats| formats.newest).min().unwrap_or_default();
        let is_understood = present.iter().all(|formats| formats.oldest <= common);
        if common > self.meta.formats && is_understood {
            let change = Change::field("formats", self.meta.formats, common);
            self.meta.formats = common;
            self.remember_backups(now);
            let message = format!("the cluster works with formats of version {common}");
            let about = About::of(Subject::Cluster).with(change);
            self.emit(now, EventKind::MemberChanged, about, message);
        }
        Ok(Accepted::Nothing)
    }

    /// No member that takes part is too old or too new, and nothing is there that is newer than the active version.
    pub(super) fn check_formats(&self) -> Result<(), String> {
        let active = self.meta.formats;
        let mut members = self.members.values();
        let wrong = members.find(|member| {
            member.part == MemberPart::Entered && member.facts.formats.check(active).is_err()
        });
        let has_secrets = !(self.secrets.is_empty() && self.secret_keys.is_empty());
        let has_alerts = !(self.alerts.is_empty() && self.budgets.is_empty());
        let has_networks = !(self.networks.is_empty() && self.attachments.is_empty());
        let is_early = (active < SECRETS && has_secrets)
            || (active < ALERTS && has_alerts)
            || (active < NETWORKS && has_networks)
            || (active < ROUTES && !self.region_latencies.is_empty())
            || (active < BACKUPS && !self.backups.is_empty());
        // Before a cluster is founded, tests make what they like.
        let is_right = wrong.is_none() && !(is_early && self.meta.cluster.is_some());
        is_right.then_some(()).ok_or_else(|| format!("formats {active}: {wrong:?}, {is_early}"))
    }
}
