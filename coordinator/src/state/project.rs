//! Projects: whose machines are whose, and how much of the fleet they may take.
//!
//! Quotas are checked here, where commands are applied one after the other, so two clients that ask at the same time
//! cannot both have the last of something. What is used is counted by an index and never stored.

use novacron_protocol::api::EventKind;
use novacron_protocol::ids::{ProjectName, Revision};
use novacron_protocol::limits::DISPLAY_NAME_BYTES_MAX;
use novacron_protocol::project::{ProjectState, ProjectUsage, Quota, Quotas};
use novacron_protocol::region::Residency;
use novacron_protocol::time::Timestamp;
use novacron_protocol::vm::{InvalidField, Labels, VmSpec, check_labels};
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};

use super::audit::Subject;
use super::event::About;
use super::fleet::{Applying, Fleet};
use super::region::refuse;
use super::reply::{Accepted, Named, Refusal, Reply};
use super::table::ROW_BYTES_MAX;

/// Projects of one fleet. With 64 labels of 256 bytes each a row is at most 17 KiB: 170 MB if all of them had so many;
/// without labels some 2 MB.
pub const PROJECTS_MAX: usize = 10_000;

/// A project as the fleet keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// Name, for ever.
    pub name: ProjectName,
    /// What it is called for people.
    pub display_name: String,
    /// Whether it may begin anything.
    pub state: ProjectState,
    /// How much it may take.
    pub quotas: Quotas,
    /// Labels.
    pub labels: Labels,
    /// Where its machines may stand.
    pub residency: Residency,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
    /// The revision of that change.
    pub revision: Revision,
}

impl Message for Project {
    const VERSION: u16 = 2;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "project row";
}

/// What can be done with projects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProjectOrder {
    /// Make one.
    Create {
        /// Its name.
        project: ProjectName,
        /// What it is called for people.
        display_name: String,
        /// How much it may take.
        quotas: Quotas,
        /// Labels.
        labels: Labels,
        /// Where its machines may stand.
        residency: Residency,
    },
    /// Change one.
    Change {
        /// Which.
        project: ProjectName,
        /// What.
        edit: ProjectEdit,
    },
    /// Remove one that has no machines.
    Delete {
        /// Which.
        project: ProjectName,
    },
    /// Say how much one may cost in a month before an alert says so.
    SetBudget {
        /// Which.
        project: ProjectName,
        /// Micro-dollars; `None` for no budget.
        micro_dollars_per_month: Option<u64>,
    },
}

impl ProjectOrder {
    /// What the audit log calls it.
    pub fn action(&self) -> &'static str {
        match self {
            Self::Create { .. } => "project.create",
            Self::Change { .. } => "project.change",
            Self::Delete { .. } => "project.delete",
            Self::SetBudget { .. } => "project.budget",
        }
    }

    /// What it is about.
    pub fn project(&self) -> &ProjectName {
        match self {
            Self::Create { project, .. }
            | Self::Change { project, .. }
            | Self::Delete { project }
            | Self::SetBudget { project, .. } => project,
        }
    }
}

/// What to change of a project; what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectEdit {
    /// What it is called for people.
    pub display_name: Option<String>,
    /// Whether it may begin anything.
    pub state: Option<ProjectState>,
    /// Quotas with their new limits.
    pub quotas: Vec<(Quota, Option<u64>)>,
    /// All of its labels.
    pub labels: Option<Labels>,
    /// Where its machines may stand.
    pub residency: Option<Residency>,
}

impl Project {
    /// The project that there always is, as it is in a fleet to which nothing has happened.
    pub(super) fn first() -> Self {
        Self {
            name: ProjectName::default(),
            display_name: String::new(),
            state: ProjectState::Active,
            quotas: Quotas::default(),
            labels: Labels::new(),
            residency: Residency::default(),
            created_at: Timestamp::default(),
            updated_at: Timestamp::default(),
            revision: Revision(0),
        }
    }

    fn edit(&mut self, edit: &ProjectEdit) {
        if let Some(display_name) = &edit.display_name {
            self.display_name.clone_from(display_name);
        }
        if let Some(labels) = &edit.labels {
            self.labels.clone_from(labels);
        }
        if let Some(residency) = &edit.residency {
            self.residency.clone_from(residency);
        }
        self.state = edit.state.unwrap_or(self.state);
        for (quota, limit) in &edit.quotas {
            self.quotas.set(*quota, *limit);
        }
    }
}

/// Whether a text may be what something is called for people.
pub(super) fn check_display_name(text: &str) -> Result<(), Refusal> {
    refuse(wrong_display_name("display_name", text).into_iter().collect())
}

/// What is wrong with a text that something is called for people.
pub(super) fn wrong_display_name(field: &str, text: &str) -> Option<InvalidField> {
    let is_right = text.len() <= DISPLAY_NAME_BYTES_MAX && !text.chars().any(char::is_control);
    let problem =
        format!("at most {DISPLAY_NAME_BYTES_MAX} bytes in one line, without control characters");
    (!is_right).then(|| InvalidField { field: field.to_owned(), problem })
}

impl Fleet {
    /// A project.
    pub fn project(&self, project: &ProjectName) -> Option<&Project> {
        self.projects.get(project)
    }

    /// The projects behind a name, in order.
    pub fn projects_after(&self, after: Option<&ProjectName>) -> impl Iterator<Item = &Project> {
        use std::ops::Bound::{Excluded, Unbounded};
        let begin = after.map_or(Unbounded, |name| Excluded(name.clone()));
        self.projects.range((begin, Unbounded)).map(|(_, project)| project)
    }

    /// How much a project takes.
    pub fn project_usage(&self, project: &ProjectName) -> ProjectUsage {
        self.index.usage.get(project).copied().unwrap_or_default()
    }

    pub(super) fn order_project(&mut self, now: &mut Applying, order: &ProjectOrder) -> Reply {
        match order {
            ProjectOrder::Create { project, display_name, quotas, labels, residency } => {
                let edit = ProjectEdit {
                    display_name: Some(display_name.clone()),
                    labels: Some(labels.clone()),
                    residency: Some(residency.clone()),
                    ..ProjectEdit::default()
                };
                self.create_project(now, project, *quotas, &edit)
            }
            ProjectOrder::Change { project, edit } => self.change_project(now, project, edit),
            ProjectOrder::Delete { project } => self.delete_project(now, project),
            ProjectOrder::SetBudget { project, micro_dollars_per_month } => {
                self.set_budget(now, project, *micro_dollars_per_month)
            }
        }
    }

    fn create_project(
        &mut self,
        now: &mut Applying,
        name: &ProjectName,
        quotas: Quotas,
        edit: &ProjectEdit,
    ) -> Reply {
        if self.projects.get(name).is_some() {
            return Err(Refusal::Taken { what: Named::Project, name: name.to_string() });
        }
        if self.projects.len() >= PROJECTS_MAX {
            return Err(Refusal::Full(format!("{PROJECTS_MAX} projects")));
        }
        self.check_project_edit(edit)?;
        let mut project = Project {
            name: name.clone(),
            quotas,
            created_at: now.at,
            updated_at: now.at,
            revision: now.revision,
            ..Project::first()
        };
        project.edit(edit);
        self.projects.insert(name.clone(), project);
        self.emit_project(now, name, "was made");
        Ok(Accepted::Project(name.clone()))
    }

    fn change_project(
        &mut self,
        now: &mut Applying,
        name: &ProjectName,
        edit: &ProjectEdit,
    ) -> Reply {
        self.known_project(name)?;
        self.check_project_edit(edit)?;
        self.projects.update(name, |project| {
            project.edit(edit);
            project.updated_at = now.at;
            project.revision = now.revision;
        });
        self.emit_project(now, name, "was changed");
        if edit.residency.is_some() {
            self.obey_rules(now);
        }
        Ok(Accepted::Project(name.clone()))
    }

    fn delete_project(&mut self, now: &mut Applying, name: &ProjectName) -> Reply {
        self.known_project(name)?;
        if *name == ProjectName::default() {
            let text = "project `default` is there always: it cannot be deleted";
            return Err(Refusal::Conflict(text.to_owned()));
        }
        let machines = self.project_usage(name).vms;
        if machines > 0 {
            return Err(Refusal::Conflict(format!(
                "project `{name}` has {machines} machines: destroy them before"
            )));
        }
        self.forget_bindings_on(name);
        self.forget_secrets(name);
        self.forget_alerts(name);
        self.take_from_networks(now, name);
        self.projects.remove(name);
        self.emit_project(now, name, "was deleted");
        Ok(Accepted::Project(name.clone()))
    }

    fn check_project_edit(&self, edit: &ProjectEdit) -> Result<(), Refusal> {
        let name = edit.display_name.as_deref();
        let name = name.and_then(|name| wrong_display_name("display_name", name));
        let labels = edit.labels.as_ref().and_then(|labels| check_labels("labels", labels).err());
        let mut problems: Vec<_> = name.into_iter().chain(labels).collect();
        if let Some(residency) = &edit.residency {
            problems.extend(residency.problems("residency"));
            problems.extend(self.unknown_region("residency.regions", &residency.regions));
        }
        refuse(problems)
    }

    fn emit_project(&mut self, now: &mut Applying, name: &ProjectName, what: &str) {
        let message = format!("project {name} {what}");
        let about = About::of(Subject::Project(name.clone()));
        self.emit(now, EventKind::ProjectChanged, about, message);
    }

    pub(super) fn known_project(&self, name: &ProjectName) -> Result<&Project, Refusal> {
        self.projects.get(name).ok_or_else(|| Refusal::NoSuchProject(name.clone()))
    }

    /// Whether a project may begin something.
    pub(super) fn check_active(&self, name: &ProjectName) -> Result<&Project, Refusal> {
        let project = self.known_project(name)?;
        match project.state {
            ProjectState::Active => Ok(project),
            ProjectState::Suspended => Err(Refusal::Conflict(format!(
                "project `{name}` is suspended: nothing of it is made, started or moved"
            ))),
        }
    }

    /// Whether a project may begin something that takes so much more.
    pub(super) fn check_quota(
        &self,
        name: &ProjectName,
        more: &ProjectUsage,
    ) -> Result<(), Refusal> {
        let project = self.check_active(name)?;
        let used = self.project_usage(name);
        let Some((quota, limit)) = project.quotas.passed_by(&used, more) else { return Ok(()) };
        Err(Refusal::OverQuota {
            project: name.clone(),
            quota,
            limit,
            used: used.of(quota),
            needed: more.of(quota),
        })
    }

    /// Whether a project may have a new machine.
    pub(super) fn check_machine_quota(&self, spec: &VmSpec) -> Result<(), Refusal> {
        let project = self.check_active(&spec.project)?;
        let is_unsized = spec.disks.iter().any(|disk| disk.size_bytes == 0);
        if project.quotas.disk_bytes.is_some() && is_unsized {
            return Err(Refusal::Invalid {
                field: "disk".to_owned(),
                problem: format!(
                    "project `{}` has a quota of disk_bytes: say the size of each disk",
                    spec.project
                ),
            });
        }
        self.check_quota(&spec.project, &ProjectUsage::of_machine(spec))
    }
}
