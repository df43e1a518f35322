//! Principals: who may ask for anything. An operator is known by the name in its certificate, a service account only
//! by its API keys. One that is not here may do nothing, whatever certificate it has.

use novacron_protocol::api::{EventKind, PrincipalKind, PrincipalState};
use novacron_protocol::ids::{ApiKeyId, BindingId, Revision};
use novacron_protocol::time::Timestamp;
use novacron_protocol::wire::codec::Message;
use novacron_transport::SubjectName;
use serde::{Deserialize, Serialize};

use super::api_key::ApiKey;
use super::audit::Subject;
use super::binding::{Binding, NewBinding};
use super::change::{Change, NOTHING};
use super::event::About;
use super::fleet::{Applying, Fleet};
use super::project::check_display_name;
use super::reply::{Accepted, Named, Refusal, Reply};
use super::table::{Key, ROW_BYTES_MAX};

/// Principals of one fleet: at most 300 bytes each, so 3 MB.
pub const PRINCIPALS_MAX: usize = 10_000;

/// A principal as the fleet keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// Name.
    pub name: SubjectName,
    /// What it is.
    pub kind: PrincipalKind,
    /// Whether it may do anything.
    pub state: PrincipalState,
    /// What it is called for people.
    pub display_name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// The revision of its last change.
    pub revision: Revision,
}

impl Message for Principal {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "principal row";
}

impl Key for SubjectName {
    fn encode(&self) -> Vec<u8> {
        self.as_str().as_bytes().to_vec()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        std::str::from_utf8(bytes).ok()?.parse().ok()
    }
}

/// What can be done about who may do what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccessOrder {
    /// Make a principal, which may do nothing yet.
    CreatePrincipal {
        /// Its name.
        name: SubjectName,
        /// What it is.
        kind: PrincipalKind,
        /// What it is called for people.
        display_name: String,
    },
    /// Change a principal.
    ChangePrincipal {
        /// Which.
        name: SubjectName,
        /// Whether it may do anything from now on.
        state: Option<PrincipalState>,
        /// What it is called for people from now on.
        display_name: Option<String>,
    },
    /// Remove a principal, its bindings and its keys.
    DeletePrincipal {
        /// Which.
        name: SubjectName,
    },
    /// Make a binding.
    Bind(NewBinding),
    /// Remove a binding.
    Unbind {
        /// Which.
        binding: BindingId,
    },
    /// Make an API key.
    CreateKey(ApiKey),
    /// Make an API key worth nothing.
    RevokeKey {
        /// Which.
        key: ApiKeyId,
    },
}

impl AccessOrder {
    /// What the audit log calls it.
    pub fn action(&self) -> &'static str {
        match self {
            Self::CreatePrincipal { .. } => "principal.create",
            Self::ChangePrincipal { .. } => "principal.change",
            Self::DeletePrincipal { .. } => "principal.delete",
            Self::Bind(_) => "binding.create",
            Self::Unbind { .. } => "binding.delete",
            Self::CreateKey(_) => "api-key.create",
            Self::RevokeKey { .. } => "api-key.revoke",
        }
    }
}

impl Fleet {
    /// A principal.
    pub fn principal(&self, name: &SubjectName) -> Option<&Principal> {
        self.principals.get(name)
    }

    /// The principals behind a name, in order.
    pub fn principals_after(
        &self,
        after: Option<&SubjectName>,
    ) -> impl Iterator<Item = &Principal> {
        use std::ops::Bound::{Excluded, Unbounded};
        let begin = after.map_or(Unbounded, |name| Excluded(name.clone()));
        self.principals.range((begin, Unbounded)).map(|(_, principal)| principal)
    }

    pub(super) fn order_access(&mut self, now: &mut Applying, order: &AccessOrder) -> Reply {
        match order {
            AccessOrder::CreatePrincipal { name, kind, display_name } => {
                self.create_principal(now, name, *kind, display_name)
            }
            AccessOrder::ChangePrincipal { name, state, display_name } => {
                self.change_principal(now, name, *state, display_name.as_deref())
            }
            AccessOrder::DeletePrincipal { name } => self.delete_principal(now, name),
            AccessOrder::Bind(binding) => self.bind(now, binding),
            AccessOrder::Unbind { binding } => self.unbind(now, *binding),
            AccessOrder::CreateKey(key) => self.create_key(now, key),
            AccessOrder::RevokeKey { key } => self.revoke_key(now, *key),
        }
    }

    pub(super) fn create_principal(
        &mut self,
        now: &mut Applying,
        name: &SubjectName,
        kind: PrincipalKind,
        display_name: &str,
    ) -> Reply {
        if self.principals.get(name).is_some() {
            return Err(Refusal::Taken { what: Named::Principal, name: name.to_string() });
        }
        if self.principals.len() >= PRINCIPALS_MAX {
            return Err(Refusal::Full(format!("{PRINCIPALS_MAX} principals")));
        }
        check_display_name(display_name)?;
        let principal = Principal {
            name: name.clone(),
            kind,
            state: PrincipalState::Active,
            display_name: display_name.to_owned(),
            created_at: now.at,
            revision: now.revision,
        };
        let change = Change::between(NOTHING, Some(&principal));
        self.principals.insert(name.clone(), principal);
        let about = About::of(Subject::Principal(name.clone())).with(change);
        self.emit(now, EventKind::AccessChanged, about, format!("principal {name} was made"));
        Ok(Accepted::Principal(name.clone()))
    }

    fn change_principal(
        &mut self,
        now: &mut Applying,
        name: &SubjectName,
        state: Option<PrincipalState>,
        display_name: Option<&str>,
    ) -> Reply {
        self.known_principal(name)?;
        check_display_name(display_name.unwrap_or_default())?;
        if state == Some(PrincipalState::Disabled) {
            self.check_admin_remains(|principal| principal.name != *name, |_| true, None)?;
        }
        self.principals.update(name, |principal| {
            principal.state = state.unwrap_or(principal.state);
            if let Some(display_name) = display_name {
                display_name.clone_into(&mut principal.display_name);
            }
            principal.revision = now.revision;
        });
        let about = About::of(Subject::Principal(name.clone()));
        self.emit(now, EventKind::AccessChanged, about, format!("principal {name} was changed"));
        Ok(Accepted::Principal(name.clone()))
    }

    fn delete_principal(&mut self, now: &mut Applying, name: &SubjectName) -> Reply {
        self.known_principal(name)?;
        self.check_admin_remains(|principal| principal.name != *name, |_| true, None)?;
        let bindings: Vec<BindingId> = self.bindings_of(name).map(|binding| binding.id).collect();
        bindings.into_iter().for_each(|binding| self.remove_binding(binding));
        self.forget_keys(|key| key.principal == *name);
        self.principals.remove(name);
        let about = About::of(Subject::Principal(name.clone()));
        self.emit(now, EventKind::AccessChanged, about, format!("principal {name} was deleted"));
        Ok(Accepted::Principal(name.clone()))
    }

    pub(super) fn known_principal(&self, name: &SubjectName) -> Result<&Principal, Refusal> {
        self.principals.get(name).ok_or_else(|| Refusal::NoSuchPrincipal(name.clone()))
    }

    /// Whether somebody could still decide who may do what, if only these principals and bindings were left and one
    /// more binding came. A cluster that nobody may change any more would be lost. It has to be an operator: keys of
    /// service accounts expire.
    pub(super) fn check_admin_remains(
        &self,
        stays: impl Fn(&Principal) -> bool,
        holds: impl Fn(&Binding) -> bool,
        added: Option<&Binding>,
    ) -> Result<(), Refusal> {
        if self.meta.cluster.is_none() || self.has_admin(stays, holds, added) {
            return Ok(());
        }
        Err(Refusal::Conflict(
            "nobody would be left who may decide who may do what: give another operator the role \
             `admin` on the whole fleet before"
                .to_owned(),
        ))
    }
}
