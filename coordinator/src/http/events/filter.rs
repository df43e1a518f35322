//! Which events to show.

use std::collections::BTreeSet;

use novacron_protocol::access::{Permission, Scope};
use novacron_protocol::api::{Code, EventKind, Problem};
use novacron_protocol::ids::{MigrationId, NodeName, ProjectName, VmId};

use crate::auth::Sight;
use crate::state::event::EventRow;

/// Which events to show; what is absent does not matter.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    pub(super) vm: Option<VmId>,
    pub(super) migration: Option<MigrationId>,
    pub(super) node: Option<NodeName>,
    pub(super) project: Option<ProjectName>,
    pub(super) kinds: Option<BTreeSet<EventKind>>,
}

impl Filter {
    pub(super) fn lets_through(&self, event: &EventRow) -> bool {
        fn is<T: PartialEq>(wanted: Option<&T>, found: Option<&T>) -> bool {
            wanted.is_none() || wanted == found
        }
        is(self.vm.as_ref(), event.vm.as_ref())
            && is(self.migration.as_ref(), event.migration.as_ref())
            && is(self.node.as_ref(), event.node.as_ref())
            && is(self.project.as_ref(), event.project.as_ref())
            && self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&event.kind))
    }
}

/// The kinds that patterns mean together; all if there is no pattern.
pub(super) fn kinds(patterns: &[String]) -> Result<Option<BTreeSet<EventKind>>, Problem> {
    let mut kinds = BTreeSet::new();
    for pattern in patterns {
        let meant = EventKind::matching(pattern);
        if meant.is_empty() {
            return Err(no_kind(pattern));
        }
        kinds.extend(meant);
    }
    Ok((!patterns.is_empty()).then_some(kinds))
}

fn no_kind(pattern: &str) -> Problem {
    let pattern: String = pattern.chars().take(64).collect();
    let words = EventKind::ALL.map(EventKind::word).join(", ");
    let detail =
        format!("kind: `{pattern}` is none of {words}, and no family of them such as `vm.*`");
    Problem::new(Code::InvalidRequest, detail).about("kind")
}

/// What is about no project is about the fleet. Of secrets and prices only those learn who may read them.
pub(super) fn is_seen(sight: &Sight<'_>, event: &EventRow) -> bool {
    let may_follow = match &event.project {
        Some(project) => sight.may(project),
        None => sight.reach().covers(&Scope::Fleet),
    };
    may_follow && event.kind.needs().is_none_or(|permission| may_read(sight, event, permission))
}

/// Asked of few events: of each kind that needs it there are some a day.
fn may_read(sight: &Sight<'_>, event: &EventRow, permission: Permission) -> bool {
    let scope = event.project.clone().map_or(Scope::Fleet, Scope::Project);
    sight.reach_for(permission).covers(&scope)
}
