//! Whether whoever asked for a command may. Asked when the command is applied, so it is decided by the bindings that
//! stand at its place in the log: what was revoked before it does not count, on any member.
//!
//! The API asks the same before it proposes, to answer early and with the right words; this is what decides.

use std::collections::BTreeSet;

use novacron_protocol::access::{Permission, Scope};
use novacron_protocol::api::{PrincipalKind, PrincipalState};
use novacron_protocol::ids::{ApiKeyId, BatchId, MigrationId, ProjectName, VmId};
use novacron_protocol::time::Timestamp;
use novacron_protocol::vm::{Network, VmSpec};
use novacron_transport::{Role, SubjectName};
use serde::{Deserialize, Serialize};

use super::command::{Body, Command, CreateVmIn};
use super::fleet::Fleet;
use super::formats::NETWORKS;
use super::origin::{Asker, Credential};
use super::principal::Principal;
use super::reply::Refusal;
use super::secret::{SecretOrder, SecretPlace};

/// Why nobody is who it says it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Unknown {
    /// A certificate whose name is no operator.
    #[error("operator `{0}` is not known here (any more): somebody has to make it a principal")]
    Operator(SubjectName),
    /// The principal may do nothing at the moment.
    #[error("principal `{0}` is disabled")]
    Disabled(SubjectName),
    /// No such key, or not with this secret. Which of both is not said.
    #[error("the API key is not valid: it was revoked, or never made")]
    Key,
    /// The key is too old.
    #[error("the API key has expired: make another")]
    KeyExpired,
}

/// What a command needs: a permission, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// What.
    pub permission: Permission,
    /// Where.
    pub place: Place,
}

/// Where a permission is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// There.
    At(Scope),
    /// In any place: what is asked for is not there, and only those learn it that could have it.
    Somewhere,
}

impl Fleet {
    /// Who somebody is, if it is still somebody at a moment.
    ///
    /// # Errors
    /// [`Unknown`].
    pub fn identify(&self, asker: &Asker, at: Timestamp) -> Result<&Principal, Unknown> {
        let principal = match asker.credential {
            Credential::Certificate => {
                let row = self.principals.get(&asker.name);
                row.filter(|row| row.kind == PrincipalKind::Operator)
                    .ok_or_else(|| Unknown::Operator(asker.name.clone()))?
            }
            Credential::ApiKey(id) => {
                let key = self.api_keys.get(&ApiKeyId(id)).ok_or(Unknown::Key)?;
                if at >= key.expires_at {
                    return Err(Unknown::KeyExpired);
                }
                self.principals.get(&key.principal).ok_or(Unknown::Key)?
            }
        };
        match principal.state {
            PrincipalState::Active => Ok(principal),
            PrincipalState::Disabled => Err(Unknown::Disabled(principal.name.clone())),
        }
    }

    /// Whether whoever asked for a command may have it applied now.
    ///
    /// # Errors
    /// [`Refusal::NotKnown`] or [`Refusal::NotAllowed`].
    pub fn check_asker(&self, command: &Command) -> Result<(), Refusal> {
        match command.origin.asker() {
            None => Ok(()),
            Some(asker) => self.check_body(asker, &command.body, self.meta.clock),
        }
    }

    /// Whether somebody may have a command applied at a moment.
    ///
    /// # Errors
    /// [`Refusal::NotKnown`] or [`Refusal::NotAllowed`].
    pub fn check_body(&self, asker: &Asker, body: &Body, at: Timestamp) -> Result<(), Refusal> {
        let principal = self.identify(asker, at)?;
        let needs = self.needs(body).ok_or_else(|| Refusal::NotAllowed {
            principal: principal.name.clone(),
            what: "this, which only the cluster itself does".to_owned(),
        })?;
        needs.iter().try_for_each(|need| self.check_need(principal, need))?;
        match body {
            Body::CreateVm(create) => self.check_bridge_by_name(principal, &create.spec),
            _ => Ok(()),
        }
    }

    /// Whether a principal may connect a machine to a bridge without a network of the fleet: a bridge's name says nothing
    /// of whose it is, so that is for those who make machines in the whole fleet.
    ///
    /// # Errors
    /// [`Refusal::NotAllowed`], with the networks that there are instead.
    pub fn check_bridge_by_name(
        &self,
        principal: &Principal,
        spec: &VmSpec,
    ) -> Result<(), Refusal> {
        let is_by_name = matches!(spec.network, Network::Bridge { .. });
        let may = || self.reach(&principal.name, Permission::VmCreate).covers(&Scope::Fleet);
        // What logs of the release before say of it stays true.
        if !is_by_name || self.formats() < NETWORKS || may() {
            return Ok(());
        }
        let what = format!(
            "`{}` on {}, which a bridge by its name needs: name a network; for project `{}` there is {}",
            Permission::VmCreate,
            Scope::Fleet,
            spec.project,
            self.networks_for(&spec.project)
        );
        Err(Refusal::NotAllowed { principal: principal.name.clone(), what })
    }

    /// Whether a principal has what is needed.
    ///
    /// # Errors
    /// [`Refusal::NotAllowed`].
    pub fn check_need(&self, principal: &Principal, need: &Need) -> Result<(), Refusal> {
        let reach = self.reach(&principal.name, need.permission);
        let (may, place) = match &need.place {
            Place::At(scope) => (reach.covers(scope), scope.to_string()),
            Place::Somewhere => (reach.is_somewhere(), "any project".to_owned()),
        };
        if may {
            return Ok(());
        }
        let what = format!("`{}` on {place}", need.permission);
        Err(Refusal::NotAllowed { principal: principal.name.clone(), what })
    }

    /// What a command needs; `None` if nobody may ask for it.
    fn needs(&self, body: &Body) -> Option<Vec<Need>> {
        let in_project = |permission, project: Option<&ProjectName>| {
            let at = |project: &ProjectName| Place::At(Scope::Project(project.clone()));
            Some(vec![Need { permission, place: project.map_or(Place::Somewhere, at) }])
        };
        let of_vm = |permission, vm| in_project(permission, self.project_of_vm(vm));
        let of_fleet = |permission| Some(vec![Need { permission, place: Place::At(Scope::Fleet) }]);
        match body {
            Body::CreateVm(create) | Body::CreateVmIn(CreateVmIn { create, .. }) => {
                in_project(Permission::VmCreate, Some(&create.spec.project))
            }
            Body::StartVm { vm } | Body::StopVm { vm, .. } | Body::Annotate { vm, .. } => {
                of_vm(Permission::VmOperate, *vm)
            }
            Body::DestroyVm { vm } => of_vm(Permission::VmDelete, *vm),
            Body::Snapshots(order) => of_vm(Permission::VmSnapshot, order.vm),
            Body::MigrateVm { vm, .. } => of_vm(Permission::VmMigrate, *vm),
            Body::CancelMigration { migration } => {
                in_project(Permission::VmMigrate, self.project_of_migration(*migration))
            }
            Body::MigrateBatch(asked) => {
                let vms = asked.items.iter().map(|(vm, _)| self.project_of_vm(*vm));
                Some(everywhere(Permission::VmMigrate, vms))
            }
            Body::CancelBatch { batch } => {
                Some(everywhere(Permission::VmMigrate, self.projects_of_batch(*batch)))
            }
            Body::DrainNode { .. } | Body::UndrainNode { .. } => of_fleet(Permission::NodeDrain),
            Body::ChangeSettings(_) | Body::RemoveMember { .. } | Body::TakeBackup => {
                of_fleet(Permission::ClusterAdmin)
            }
            Body::CreateToken(token) => of_fleet(token_permission(token.record.role)),
            Body::CorrectUsage(_) => of_fleet(Permission::LedgerCorrect),
            Body::PostUsage { .. } => of_fleet(Permission::LedgerPost),
            Body::SetRate(_) | Body::SetPlan { .. } => of_fleet(Permission::RateAdmin),
            Body::Projects(_) => of_fleet(Permission::ProjectAdmin),
            Body::Regions(_) => of_fleet(Permission::RegionAdmin),
            Body::Networks(_) => of_fleet(Permission::NetworkAdmin),
            Body::Access(_) => of_fleet(Permission::PrincipalAdmin),
            Body::Secrets(order) => needs_of_secret(order),
            Body::Alerts(order) => self.needs_of_alert(order),
            Body::FoundCluster { .. }
            | Body::PlaceVm { .. }
            | Body::DrainVm { .. }
            | Body::UseToken { .. }
            | Body::AdmitMember(_)
            | Body::EnterMember { .. }
            | Body::OpenSession(_)
            | Body::Reports(_)
            | Body::SetNodeStates(_)
            | Body::ExpireEffects(_)
            | Body::SealWindows { .. }
            | Body::NoteRefusals { .. }
            | Body::NoteFormats(_)
            | Body::BeginIncarnation(_) => None,
        }
    }

    /// Whose a machine is.
    pub fn project_of_vm(&self, vm: VmId) -> Option<&ProjectName> {
        self.vms.get(&vm).map(|vm| &vm.spec.project)
    }

    /// Whose the machine of a migration is.
    pub fn project_of_migration(&self, migration: MigrationId) -> Option<&ProjectName> {
        self.migrations.get(&migration).map(|migration| &migration.project)
    }

    /// Whose the machines of a batch are.
    fn projects_of_batch(&self, batch: BatchId) -> impl Iterator<Item = Option<&ProjectName>> {
        let items = self.batches.get(&batch).map(|batch| batch.items.as_slice());
        items.unwrap_or_default().iter().map(|item| Some(&item.project))
    }
}

/// What a token for a role needs: whoever makes operators could make itself anybody.
pub fn token_permission(role: Role) -> Permission {
    match role {
        Role::Agent => Permission::NodeJoin,
        Role::Coordinator => Permission::ClusterAdmin,
        Role::Operator | Role::Partner => Permission::PrincipalAdmin,
    }
}

fn needs_of_secret(order: &SecretOrder) -> Option<Vec<Need>> {
    let permission = match order {
        SecretOrder::Put { .. } | SecretOrder::Delete { .. } => Permission::SecretWrite,
        SecretOrder::Reveal { .. } => Permission::SecretReveal,
        SecretOrder::Turn => Permission::ClusterAdmin,
        SecretOrder::Announce { .. }
        | SecretOrder::Use { .. }
        | SecretOrder::Reseal(_)
        | SecretOrder::Forget { .. } => return None,
    };
    let scope = order.place().map_or(Scope::Fleet, SecretPlace::scope);
    Some(vec![Need { permission, place: Place::At(scope) }])
}

/// A permission in each of some projects.
fn everywhere<'a>(
    permission: Permission,
    projects: impl IntoIterator<Item = Option<&'a ProjectName>>,
) -> Vec<Need> {
    let projects: BTreeSet<Option<&ProjectName>> = projects.into_iter().collect();
    let place = |project: Option<&ProjectName>| match project {
        Some(project) => Place::At(Scope::Project(project.clone())),
        None => Place::Somewhere,
    };
    if projects.is_empty() {
        return vec![Need { permission, place: Place::Somewhere }];
    }
    projects.into_iter().map(|project| Need { permission, place: place(project) }).collect()
}
