//! Bindings: who may, or may not, do what, and where.
//!
//! | | |
//! |---|---|
//! | nothing is said | no |
//! | a binding on the whole fleet allows | yes, in every project, too |
//! | a binding on a project allows | yes, in that project |
//! | any binding that reaches the place denies | no, whatever else allows |

use std::collections::BTreeSet;
use std::fmt;

use novacron_protocol::access::{AccessRole, BindingEffect, Permission, PermissionPattern, Scope};
use novacron_protocol::api::{EventKind, PrincipalKind, PrincipalState};
use novacron_protocol::ids::{BindingId, ProjectName};
use novacron_protocol::time::Timestamp;
use novacron_protocol::wire::codec::Message;
use novacron_transport::SubjectName;
use serde::{Deserialize, Serialize};

use super::audit::Subject;
use super::change::{Change, NOTHING};
use super::event::About;
use super::fleet::{Applying, Fleet};
use super::principal::Principal;
use super::reply::{Accepted, Refusal, Reply};
use super::table::ROW_BYTES_MAX;

/// Bindings of one fleet: at most 300 bytes each, so 15 MB.
pub const BINDINGS_MAX: usize = 50_000;

/// Bindings of one principal: all of them are looked at for each of its requests, some 10 µs for so many.
pub const BINDINGS_PER_PRINCIPAL_MAX: usize = 256;

/// What a binding is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Right {
    /// All that belongs to a role.
    Role(AccessRole),
    /// Some permissions.
    Permissions(PermissionPattern),
}

impl Right {
    fn covers(&self, permission: Permission) -> bool {
        match self {
            Self::Role(role) => role.covers(permission),
            Self::Permissions(pattern) => pattern.covers(permission),
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role(role) => write!(formatter, "role {role}"),
            Self::Permissions(pattern) => write!(formatter, "permission {pattern}"),
        }
    }
}

/// A binding to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewBinding {
    /// Its new id.
    pub id: BindingId,
    /// Whose.
    pub principal: SubjectName,
    /// What it is about.
    pub right: Right,
    /// Where it holds.
    pub scope: Scope,
    /// Whether it gives or takes away.
    pub effect: BindingEffect,
}

/// A binding as the fleet keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// Identity.
    pub id: BindingId,
    /// Whose.
    pub principal: SubjectName,
    /// What it is about.
    pub right: Right,
    /// Where it holds.
    pub scope: Scope,
    /// Whether it gives or takes away.
    pub effect: BindingEffect,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Message for Binding {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "binding row";
}

impl Binding {
    fn is_like(&self, other: &NewBinding) -> bool {
        self.right == other.right && self.scope == other.scope && self.effect == other.effect
    }
}

/// Where somebody may do one thing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    everywhere: bool,
    allowed: BTreeSet<ProjectName>,
    denied: BTreeSet<ProjectName>,
}

impl Reach {
    /// In the whole fleet.
    pub fn everywhere() -> Self {
        Self { everywhere: true, ..Self::default() }
    }

    /// What bindings say about a permission.
    pub fn of<'a>(bindings: impl IntoIterator<Item = &'a Binding>, permission: Permission) -> Self {
        let mut reach = Self::default();
        for binding in bindings.into_iter().filter(|one| one.right.covers(permission)) {
            match (&binding.scope, binding.effect) {
                (Scope::Fleet, BindingEffect::Deny) => return Self::default(),
                (Scope::Fleet, BindingEffect::Allow) => reach.everywhere = true,
                (Scope::Project(project), BindingEffect::Allow) => {
                    reach.allowed.insert(project.clone());
                }
                (Scope::Project(project), BindingEffect::Deny) => {
                    reach.denied.insert(project.clone());
                }
            }
        }
        reach
    }

    /// Whether it may there.
    pub fn covers(&self, scope: &Scope) -> bool {
        match scope {
            Scope::Fleet => self.everywhere,
            Scope::Project(project) => self.covers_project(project),
        }
    }

    /// Whether it may in a project.
    pub fn covers_project(&self, project: &ProjectName) -> bool {
        !self.denied.contains(project) && (self.everywhere || self.allowed.contains(project))
    }

    /// Whether there is any place where it may.
    pub fn is_somewhere(&self) -> bool {
        self.everywhere || self.allowed.iter().any(|project| !self.denied.contains(project))
    }
}

impl Fleet {
    /// A binding.
    pub fn binding(&self, binding: BindingId) -> Option<&Binding> {
        self.bindings.get(&binding)
    }

    /// The bindings behind an id, in order.
    pub fn bindings_after(&self, after: Option<BindingId>) -> impl Iterator<Item = &Binding> {
        use std::ops::Bound::{Excluded, Unbounded};
        let begin = after.map_or(Unbounded, Excluded);
        self.bindings.range((begin, Unbounded)).map(|(_, binding)| binding)
    }

    /// What a principal holds, in the order of ids.
    pub fn bindings_of(&self, principal: &SubjectName) -> impl Iterator<Item = &Binding> {
        self.index.bindings_of(principal).filter_map(|id| self.bindings.get(&id))
    }

    /// Where a principal may do something; nowhere if it is unknown or disabled.
    pub fn reach(&self, principal: &SubjectName, permission: Permission) -> Reach {
        match self.principals.get(principal).map(|row| row.state) {
            Some(PrincipalState::Active) => Reach::of(self.bindings_of(principal), permission),
            Some(PrincipalState::Disabled) | None => Reach::default(),
        }
    }

    pub(super) fn bind(&mut self, now: &mut Applying, new: &NewBinding) -> Reply {
        self.check_new_binding(new)?;
        let binding = Binding {
            id: new.id,
            principal: new.principal.clone(),
            right: new.right.clone(),
            scope: new.scope.clone(),
            effect: new.effect,
            created_at: now.at,
        };
        if new.effect == BindingEffect::Deny {
            self.check_admin_remains(|_| true, |_| true, Some(&binding))?;
        }
        let message = describe("was bound", &binding);
        self.index.add_binding(&binding);
        let change = Change::between(NOTHING, Some(&binding));
        self.bindings.insert(new.id, binding);
        let about = About::of(Subject::Binding(new.id)).with(change);
        self.emit(now, EventKind::AccessChanged, about, message);
        Ok(Accepted::Binding(new.id))
    }

    fn check_new_binding(&self, new: &NewBinding) -> Result<(), Refusal> {
        self.known_principal(&new.principal)?;
        if let Scope::Project(project) = &new.scope {
            self.known_project(project)?;
        }
        if self.bindings.get(&new.id).is_some() {
            return Err(Refusal::Conflict(format!("binding {} exists already", new.id)));
        }
        if let Some(same) = self.bindings_of(&new.principal).find(|one| one.is_like(new)) {
            return Err(Refusal::Conflict(format!("binding {} says the same already", same.id)));
        }
        if self.bindings_of(&new.principal).count() >= BINDINGS_PER_PRINCIPAL_MAX {
            let text = format!("{BINDINGS_PER_PRINCIPAL_MAX} bindings of one principal");
            return Err(Refusal::Full(text));
        }
        self.check_room_for_bindings()
    }

    pub(super) fn check_room_for_bindings(&self) -> Result<(), Refusal> {
        if self.bindings.len() >= BINDINGS_MAX {
            return Err(Refusal::Full(format!("{BINDINGS_MAX} bindings")));
        }
        Ok(())
    }

    pub(super) fn unbind(&mut self, now: &mut Applying, id: BindingId) -> Reply {
        let binding = self.bindings.get(&id).ok_or(Refusal::NoSuchBinding(id))?;
        if binding.effect == BindingEffect::Allow {
            self.check_admin_remains(|_| true, |one| one.id != id, None)?;
        }
        let message = describe("lost", binding);
        self.remove_binding(id);
        self.emit(now, EventKind::AccessChanged, About::of(Subject::Binding(id)), message);
        Ok(Accepted::Binding(id))
    }

    pub(super) fn remove_binding(&mut self, id: BindingId) {
        if let Some(binding) = self.bindings.remove(&id) {
            self.index.remove_binding(&binding);
        }
    }

    /// What was said about a project must not hold for a later one of the same name.
    pub(super) fn forget_bindings_on(&mut self, project: &ProjectName) {
        let scope = Scope::Project(project.clone());
        let on = self.bindings.values().filter(|binding| binding.scope == scope);
        let on: Vec<BindingId> = on.map(|binding| binding.id).collect();
        on.into_iter().for_each(|binding| self.remove_binding(binding));
    }

    pub(super) fn has_admin(
        &self,
        stays: impl Fn(&Principal) -> bool,
        holds: impl Fn(&Binding) -> bool,
        added: Option<&Binding>,
    ) -> bool {
        let may_stay = |principal: &&Principal| {
            principal.kind == PrincipalKind::Operator
                && principal.state == PrincipalState::Active
                && stays(principal)
        };
        self.principals.values().filter(may_stay).any(|principal| {
            let held = self.bindings_of(&principal.name).filter(|one| holds(one));
            let added = added.filter(|one| one.principal == principal.name);
            Reach::of(held.chain(added), Permission::PrincipalAdmin).covers(&Scope::Fleet)
        })
    }
}

fn describe(what: &str, binding: &Binding) -> String {
    let Binding { principal, right, scope, .. } = binding;
    match binding.effect {
        BindingEffect::Allow => format!("principal {principal} {what} {right} on {scope}"),
        BindingEffect::Deny => format!("principal {principal} {what} denial of {right} on {scope}"),
    }
}
