//! Whose an alert is, and where: what its object says at the moment in which it is raised.

use novacron_protocol::access::{Permission, Scope};
use novacron_protocol::alert::AlertObject;
use novacron_protocol::ids::{AlertId, NodeName, ProjectName, RegionCode};

use super::super::access::{Need, Place};
use super::super::audit::Subject;
use super::super::event::About;
use super::super::fleet::Fleet;
use super::super::reply::Refusal;
use super::super::vm::Rest;
use super::{Alert, AlertOrder};

/// Whose something is, and where.
pub(super) struct Belonging {
    pub(super) project: Option<ProjectName>,
    pub(super) region: Option<RegionCode>,
}

impl Belonging {
    const NONE: Self = Self { project: None, region: None };
}

impl Fleet {
    /// Whose an object is, and where.
    ///
    /// # Errors
    /// It is not there.
    pub(super) fn belonging(&self, object: &AlertObject) -> Result<Belonging, Refusal> {
        let region_of = |node: &NodeName| self.nodes.get(node).and_then(|node| node.region.clone());
        match object {
            AlertObject::Cluster => Ok(Belonging::NONE),
            AlertObject::Member(member) => {
                let row = self.members.get(member);
                let is_there = row.is_some_and(|row| !row.has_left());
                is_there.then_some(Belonging::NONE).ok_or(Refusal::NoSuchMember(*member))
            }
            AlertObject::Region(region) => {
                let is_there = self.regions.get(region).is_some();
                let there = Belonging { region: Some(region.clone()), ..Belonging::NONE };
                is_there.then_some(there).ok_or_else(|| Refusal::NoSuchRegion(region.clone()))
            }
            AlertObject::Node(node) => {
                self.nodes.get(node).ok_or_else(|| Refusal::NoSuchNode(node.clone()))?;
                Ok(Belonging { region: region_of(node), ..Belonging::NONE })
            }
            AlertObject::Project(project) => {
                self.known_project(project)?;
                Ok(Belonging { project: Some(project.clone()), ..Belonging::NONE })
            }
            AlertObject::Vm(vm) => {
                let row = self.vms.get(vm).filter(|row| row.rest != Rest::Deleted);
                let row = row.ok_or(Refusal::NoSuchVm(*vm))?;
                let region = row.node.as_ref().and_then(region_of);
                Ok(Belonging { project: Some(row.project().clone()), region })
            }
            AlertObject::Migration(migration) => {
                let row = self.migrations.get(migration);
                let row = row.ok_or(Refusal::NoSuchMigration(*migration))?;
                self.known_project(&row.project)?;
                Ok(Belonging { project: Some(row.project.clone()), region: region_of(&row.source) })
            }
        }
    }

    /// Whether what an alert is about is there.
    pub fn has_object(&self, object: &AlertObject) -> bool {
        self.belonging(object).is_ok()
    }

    /// What an order needs; `None` if nobody may ask for it.
    pub(in crate::state) fn needs_of_alert(&self, order: &AlertOrder) -> Option<Vec<Need>> {
        let (permission, place) = match order {
            AlertOrder::Observe(_) => return None,
            AlertOrder::Raise(raise) => {
                (Permission::AlertRaise, self.place_to_raise(&raise.key.object))
            }
            AlertOrder::Acknowledge { alert, .. }
            | AlertOrder::Unacknowledge { alert }
            | AlertOrder::Resolve { alert, .. } => {
                let place = self.scope_of_alert(*alert).map_or(Place::Somewhere, Place::At);
                (Permission::AlertManage, place)
            }
        };
        Some(vec![Need { permission, place }])
    }

    /// A machine or migration that is not there is said so to all who could have one.
    fn place_to_raise(&self, object: &AlertObject) -> Place {
        match (object, self.belonging(object)) {
            (AlertObject::Project(project), _) => Place::At(Scope::Project(project.clone())),
            (_, Ok(there)) => Place::At(scope(there.project)),
            (AlertObject::Vm(_) | AlertObject::Migration(_), Err(_)) => Place::Somewhere,
            (_, Err(_)) => Place::At(Scope::Fleet),
        }
    }

    /// Where permission is needed for an alert, if it is there.
    pub fn scope_of_alert(&self, alert: AlertId) -> Option<Scope> {
        self.alerts.get(&alert).map(Alert::scope)
    }
}

fn scope(project: Option<ProjectName>) -> Scope {
    project.map_or(Scope::Fleet, Scope::Project)
}

impl Alert {
    /// Where permission is needed for it.
    pub fn scope(&self) -> Scope {
        scope(self.project.clone())
    }

    /// What events say that it is about.
    pub(super) fn about(&self) -> About {
        let about = About { project: self.project.clone(), ..About::of(Subject::Alert(self.id)) };
        match &self.key.object {
            AlertObject::Node(node) => About { node: Some(node.clone()), ..about },
            AlertObject::Vm(vm) => About { vm: Some(*vm), ..about },
            AlertObject::Migration(migration) => About { migration: Some(*migration), ..about },
            AlertObject::Cluster
            | AlertObject::Member(_)
            | AlertObject::Region(_)
            | AlertObject::Project(_) => about,
        }
    }
}
