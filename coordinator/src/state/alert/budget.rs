//! Budgets: how much a project may cost in a month before an alert says so. Nothing is stopped by them.

use novacron_protocol::api::EventKind;
use novacron_protocol::ids::ProjectName;
use novacron_protocol::limits::BUDGET_MICRO_DOLLARS_RANGE;
use novacron_protocol::time::Timestamp;
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};

use super::super::audit::Subject;
use super::super::event::About;
use super::super::fleet::{Applying, Fleet};
use super::super::reply::{Accepted, Refusal, Reply};
use super::super::table::ROW_BYTES_MAX;

/// The budget of a project. A project has at most one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Micro-dollars for a calendar month (UTC), within [`BUDGET_MICRO_DOLLARS_RANGE`].
    pub micro_dollars_per_month: u64,
    /// When it was set.
    pub set_at: Timestamp,
}

impl Message for Budget {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "budget row";
}

impl Fleet {
    /// The budget of a project.
    pub fn budget(&self, project: &ProjectName) -> Option<&Budget> {
        self.budgets.get(project)
    }

    /// All budgets, in the order of the projects' names.
    pub fn budgets(&self) -> impl Iterator<Item = (&ProjectName, &Budget)> {
        self.budgets.iter()
    }

    /// Sets the budget of a project; `None` takes it away.
    pub(in crate::state) fn set_budget(
        &mut self,
        now: &mut Applying,
        project: &ProjectName,
        micro_dollars: Option<u64>,
    ) -> Reply {
        self.known_project(project)?;
        match micro_dollars {
            None => drop(self.budgets.remove(project)),
            Some(micro_dollars_per_month) => {
                check_amount(micro_dollars_per_month)?;
                let budget = Budget { micro_dollars_per_month, set_at: now.at };
                self.budgets.insert(project.clone(), budget);
            }
        }
        let message = match micro_dollars {
            Some(amount) => {
                format!("project {project} has a budget of {amount} micro-dollars a month")
            }
            None => format!("project {project} has no budget"),
        };
        let about = About::of(Subject::Budget(project.clone()));
        self.emit(now, EventKind::ProjectChanged, about, message);
        Ok(Accepted::Project(project.clone()))
    }

    pub(super) fn check_budgets(&self) -> Result<(), String> {
        let is_wrong = |project: &ProjectName, budget: &Budget| {
            self.projects.get(project).is_none()
                || check_amount(budget.micro_dollars_per_month).is_err()
        };
        let wrong = self.budgets.iter().find(|(project, budget)| is_wrong(project, budget));
        wrong.map_or(Ok(()), |(project, _)| Err(format!("budget of {project}: of no project")))
    }
}

fn check_amount(micro_dollars: u64) -> Result<(), Refusal> {
    if BUDGET_MICRO_DOLLARS_RANGE.contains(&micro_dollars) {
        return Ok(());
    }
    let (least, most) = (BUDGET_MICRO_DOLLARS_RANGE.start(), BUDGET_MICRO_DOLLARS_RANGE.end());
    let problem = format!("{micro_dollars} micro-dollars; a budget is {least} to {most}, or none");
    Err(Refusal::Invalid { field: "micro_dollars_per_month".to_owned(), problem })
}
