//! What the fleet says to who asks.

use std::net::IpAddr;

use novacron_protocol::access::{Permission, Scope};
use novacron_protocol::ids::ProjectName;
use novacron_protocol::time::Timestamp;
use novacron_transport::SubjectName;

use super::presented::Presented;
use super::refusal::NotAllowed;
use crate::state::access::{Need, Place, Unknown};
use crate::state::binding::Reach;
use crate::state::principal::Principal;
use crate::state::{Asker, Credential, Fleet};

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody who can connect.
    Anybody,
    /// Every principal.
    Principals,
    /// Principals with a permission.
    Needs(Permission, Where),
}

/// Where a route's permission is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// On the whole fleet.
    Fleet,
    /// In the project of the machine that the path names in `{vm}`.
    Machine,
    /// In the project of the machine of the migration that the path names in `{migration}`.
    Migration,
    /// In the projects of all machines of the batch that the path names in `{batch}`.
    Batch,
    /// In the project that the path names in `{project}`.
    Project,
    /// In the project of the alert that the path names in `{alert}`; on the whole fleet for one of none.
    Alert,
    /// In any place: what is shown or done is only what belongs to projects where it may.
    Somewhere,
}

/// Somebody that the fleet knows, and that has the permission of a route somewhere. Only [`Grant::of`] makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    asker: Asker,
    permission: Option<Permission>,
}

/// A value that somebody asked for who may. Only [`Grant::authorize`] makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorized<T> {
    value: T,
    asker: Asker,
}

impl<T> Authorized<T> {
    /// What was asked for.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Who asked.
    pub fn asker(&self) -> &Asker {
        &self.asker
    }

    /// What was asked for, and who asked.
    pub fn into_parts(self) -> (T, Asker) {
        (self.value, self.asker)
    }
}

impl Grant {
    /// Who asks, as far as a fleet knows: whether it may do anything is another question.
    ///
    /// # Errors
    /// [`NotAllowed::Unknown`].
    pub fn identify(
        fleet: &Fleet,
        presented: &Presented,
        now: Timestamp,
    ) -> Result<SubjectName, NotAllowed> {
        let asker = asker(fleet, presented, None)?;
        fleet.identify(&asker, now.max(fleet.clock()))?;
        Ok(asker.name)
    }

    /// What a fleet says to what was shown, for a route that needs a permission. Whether it may in the very place that
    /// is meant is asked of a [`Sight`], and again when a change is applied.
    ///
    /// # Errors
    /// [`NotAllowed`], with what would be right.
    pub fn of(
        fleet: &Fleet,
        presented: &Presented,
        address: Option<IpAddr>,
        permission: Option<Permission>,
        now: Timestamp,
    ) -> Result<Self, NotAllowed> {
        let asker = asker(fleet, presented, address)?;
        let grant = Self { asker, permission };
        grant.sight(fleet, now)?;
        Ok(grant)
    }

    /// Who asks.
    pub fn asker(&self) -> &Asker {
        &self.asker
    }

    /// What it sees of a fleet now; whoever was somebody may not be any more.
    ///
    /// # Errors
    /// [`NotAllowed`] if it has the permission nowhere.
    pub fn sight<'a>(&self, fleet: &'a Fleet, now: Timestamp) -> Result<Sight<'a>, NotAllowed> {
        let principal = fleet.identify(&self.asker, now.max(fleet.clock()))?;
        if let Some(permission) = self.permission {
            fleet.check_need(principal, &Need { permission, place: Place::Somewhere })?;
        }
        Ok(Sight {
            fleet,
            principal,
            permission: self.permission,
            may: self.permission.map(|one| fleet.reach(&principal.name, one)).unwrap_or_default(),
            sees: fleet.reach(&principal.name, Permission::VmRead),
        })
    }

    /// A value that it asks for.
    pub fn authorize<T>(&self, value: T) -> Authorized<T> {
        Authorized { value, asker: self.asker.clone() }
    }
}

/// Whoever has the secret of a key speaks for its principal.
fn asker(
    fleet: &Fleet,
    presented: &Presented,
    address: Option<IpAddr>,
) -> Result<Asker, NotAllowed> {
    match presented {
        Presented::Operator(name) => {
            Ok(Asker { name: name.clone(), credential: Credential::Certificate, address })
        }
        Presented::Key(secret) => {
            let key = fleet.api_key(secret.id()).filter(|key| secret.is_that_of(&key.secret_hash));
            let key = key.ok_or(Unknown::Key)?;
            let credential = Credential::ApiKey(key.id.0);
            Ok(Asker { name: key.principal.clone(), credential, address })
        }
    }
}

/// What somebody may do and see of a fleet, at the moment in which it is looked at.
#[derive(Debug)]
pub struct Sight<'a> {
    fleet: &'a Fleet,
    principal: &'a Principal,
    permission: Option<Permission>,
    may: Reach,
    sees: Reach,
}

impl Sight<'_> {
    /// Who looks.
    pub fn principal(&self) -> &Principal {
        self.principal
    }

    /// Where the route's permission holds.
    pub fn reach(&self) -> &Reach {
        &self.may
    }

    /// Where another permission holds; looked up each time.
    pub fn reach_for(&self, permission: Permission) -> Reach {
        self.fleet.reach(&self.principal.name, permission)
    }

    /// Where machines are seen.
    pub fn machines(&self) -> &Reach {
        &self.sees
    }

    /// Whether the machines of a project are seen. Whose machines are not seen does not learn that they are there.
    pub fn sees(&self, project: &ProjectName) -> bool {
        self.sees.covers_project(project)
    }

    /// Whether the route's permission holds in a project.
    pub fn may(&self, project: &ProjectName) -> bool {
        self.may.covers_project(project)
    }

    /// Whether what is asked for is more than to see machines.
    pub fn is_change(&self) -> bool {
        self.permission.is_some_and(|permission| permission != Permission::VmRead)
    }

    /// Refuses where another permission does not hold.
    ///
    /// # Errors
    /// [`NotAllowed::Missing`].
    pub fn check_other(&self, permission: Permission, scope: Scope) -> Result<(), NotAllowed> {
        let need = Need { permission, place: Place::At(scope) };
        Ok(self.fleet.check_need(self.principal, &need)?)
    }

    /// Refuses where the route's permission does not hold.
    ///
    /// # Errors
    /// [`NotAllowed::Missing`].
    pub fn check(&self, scope: Scope) -> Result<(), NotAllowed> {
        self.permission.map_or(Ok(()), |permission| self.check_other(permission, scope))
    }
}
