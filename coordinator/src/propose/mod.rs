//! From an intent to a committed command: limits, ids, time and placement are decided here, once, and travel
//! in the command.

mod api_key;
mod error;
mod intent;

use novacron_protocol::ids::{
    AlertId, BatchId, BindingId, MigrationId, RequestId, SnapshotId, VmId,
};
use novacron_protocol::wire::codec;

pub use api_key::NewApiKey;
pub use error::ProposeError;
pub use intent::Intent;

use crate::auth::Authorized;
use crate::clock::{Clock, new_uuid};
use crate::peers::{Answer, Call, Committed, LeaderError, LeaderLink};
use crate::planner;
use crate::state::alert::{AlertOrder, Raise};
use crate::state::binding::NewBinding;
use crate::state::command::{CreateVm, CreateVmIn, MigrateBatch};
use crate::state::ledger::correct::CorrectUsage;
use crate::state::ledger::hour::Hour;
use crate::state::placement::Wanted;
use crate::state::principal::AccessOrder;
use crate::state::snapshot::{SnapshotDeed, SnapshotOrder};
use crate::state::{Accepted, Asker, Body, Command, Origin};
use crate::view::View;

/// Makes changes, on any member. Cheap to clone.
#[derive(Clone)]
pub struct Proposer {
    leader: LeaderLink,
    view: View,
    clock: Clock,
}

impl Proposer {
    /// Changes, proposed through a member.
    pub fn new(leader: LeaderLink, view: View, clock: Clock) -> Self {
        Self { leader, view, clock }
    }

    /// Makes a change that a client asked for. The same request sent again is answered as it was the first
    /// time, whatever member it reaches.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub async fn submit(
        &self,
        request: RequestId,
        intent: Authorized<Intent>,
    ) -> Result<Accepted, ProposeError> {
        let (intent, asker) = intent.into_parts();
        tracing::info!(%asker, ?intent, "asked");
        let (body, origin) = (self.decide(intent, &asker), Origin::Asker(asker));
        self.propose(Command { request, at: self.clock.now(), origin, body }).await
    }

    /// What the cluster shall do about an intent, ids and placement chosen. The fleet here may be behind: what
    /// was chosen is checked again when it is applied.
    fn decide(&self, intent: Intent, asker: &Asker) -> Body {
        match intent {
            Intent::CreateVm { spec, network, node, start } => {
                let machine = Wanted { spec: &spec, network: network.as_ref() };
                let placement = self.view.local(|fleet| planner::place(fleet, machine));
                let vm = VmId(new_uuid(self.clock.now()));
                let create = CreateVm { vm, spec, requested_node: node, placement, start };
                match network {
                    Some(network) => Body::CreateVmIn(CreateVmIn { create, network }),
                    None => Body::CreateVm(create),
                }
            }
            Intent::StartVm { vm } => Body::StartVm { vm },
            Intent::StopVm { vm, force } => Body::StopVm { vm, force },
            Intent::DestroyVm { vm } => Body::DestroyVm { vm },
            Intent::MigrateVm { vm, target, mode, options } => {
                let migration = MigrationId(new_uuid(self.clock.now()));
                Body::MigrateVm { migration, vm, target, mode, options }
            }
            Intent::CancelMigration { migration } => Body::CancelMigration { migration },
            Intent::MigrateBatch { order, vms } => Body::MigrateBatch(MigrateBatch {
                batch: BatchId(new_uuid(self.clock.now())),
                order,
                items: self.batch_items(vms),
            }),
            Intent::CancelBatch { batch } => Body::CancelBatch { batch },
            Intent::DrainNode { node, options } => Body::DrainNode { node, options },
            Intent::UndrainNode { node, cancel } => Body::UndrainNode { node, cancel },
            Intent::TakeBackup => Body::TakeBackup,
            Intent::ChangeSettings(change) => Body::ChangeSettings(change),
            Intent::Projects(order) => Body::Projects(order),
            Intent::Regions(order) => Body::Regions(order),
            Intent::RaiseAlert { key, severity, summary } => {
                let id = AlertId(new_uuid(self.clock.now()));
                Body::Alerts(AlertOrder::Raise(Raise { id, key, severity, summary }))
            }
            Intent::AcknowledgeAlert { alert, note: Some(note) } => {
                Body::Alerts(AlertOrder::Acknowledge { alert, note })
            }
            Intent::AcknowledgeAlert { alert, note: None } => {
                Body::Alerts(AlertOrder::Unacknowledge { alert })
            }
            Intent::ResolveAlert { alert, note } => {
                Body::Alerts(AlertOrder::Resolve { alert, note })
            }
            Intent::Networks(order) => Body::Networks(order),
            Intent::CreateSnapshot { vm, name } => {
                let id = SnapshotId(new_uuid(self.clock.now()));
                Body::Snapshots(SnapshotOrder { vm, name, deed: SnapshotDeed::Create(id) })
            }
            Intent::RestoreSnapshot { vm, name } => {
                Body::Snapshots(SnapshotOrder { vm, name, deed: SnapshotDeed::Restore })
            }
            Intent::DeleteSnapshot { vm, name } => {
                Body::Snapshots(SnapshotOrder { vm, name, deed: SnapshotDeed::Delete })
            }
            Intent::Access(order) => Body::Access(order),
            Intent::Bind { principal, right, scope, effect } => {
                let id = BindingId(new_uuid(self.clock.now()));
                let binding = NewBinding { id, principal, right, scope, effect };
                Body::Access(AccessOrder::Bind(binding))
            }
            Intent::Annotate { vm, key, value } => Body::Annotate { vm, key, value },
            Intent::PostUsage { node, records } => Body::PostUsage { node, records },
            Intent::CorrectUsage { entry, quantity, reason, original } => {
                let actor = asker.name.to_string();
                Body::CorrectUsage(CorrectUsage { entry, quantity, reason, actor, original })
            }
            Intent::SetRate(card) => Body::SetRate(card),
            Intent::SetPlan { project, plan, from } => {
                let from = from.unwrap_or_else(|| Hour::of(self.clock.now()));
                Body::SetPlan { project, plan, from }
            }
        }
    }

    /// Ids ascend with the machines: of migrations that are accepted together, the queue takes the lowest first.
    fn batch_items(&self, vms: Vec<VmId>) -> Vec<(VmId, MigrationId)> {
        let now = self.clock.now();
        let mut ids: Vec<_> = vms.iter().map(|_| MigrationId(new_uuid(now))).collect();
        ids.sort_unstable();
        vms.into_iter().zip(ids).collect()
    }

    /// Proposes a command and waits until it is applied, here too: whoever looks at the fleet of this member afterwards
    /// sees what it did, and everything that was acknowledged before the call.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub async fn propose(&self, command: Command) -> Result<Accepted, ProposeError> {
        let fitness = self.leader.desk().fitness();
        // Without room this member would not see what becomes of it.
        fitness.check_clock().and_then(|()| fitness.check_room()).map_err(ProposeError::Unfit)?;
        // A leader of an earlier release could not even read it.
        self.view.local(|fleet| fleet.check_since(&command.body))?;
        if codec::encoded_bytes(&command).is_none() {
            return Err(ProposeError::TooLarge);
        }
        match self.leader.call(Call::Propose(Box::new(command))).await {
            Ok(Answer::Reply(Committed { reply, index })) => {
                let accepted = reply?;
                let reached = self.view.reach(index).await;
                reached.map(|()| accepted).map_err(|_| ProposeError::OutcomeUnknown)
            }
            Ok(_) => Err(ProposeError::OutcomeUnknown),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }
}

impl From<LeaderError> for ProposeError {
    fn from(error: LeaderError) -> Self {
        match error {
            LeaderError::NoLeader => Self::Unavailable,
            LeaderError::Unfit(unfit) => Self::Unfit(unfit),
            LeaderError::OutcomeUnknown => Self::OutcomeUnknown,
            LeaderError::NotPossible(reason) => {
                Self::Refused(crate::state::Refusal::Conflict(reason))
            }
            LeaderError::Stopped => Self::Stopped("its consensus has ended".to_owned()),
        }
    }
}
